//! Tables built and entries added, step by step.

use super::{Acts, Code, ENTRIES, FLUSH, Form, GROUPS, HALF, Indexed, Room, TOKENS, WAYS, stride};

/// Sixteen sums of 16 bits in registers. The functions are inlined into those that enable their instructions.
pub(in crate::kernels) trait Lanes: Copy {
    fn load(values: &[i16; 16]) -> Self;
    fn store(self, values: &mut [i16; 16]);
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    /// Byte `j` of each word, with its sign.
    fn byte(words: &[i32; 16], j: usize) -> Self;
    /// Adds to sums of 32 bits.
    fn widen(self, sums: &mut [i32; 16]);
}

/// See [`Kernels::look_up`].
#[inline(always)]
pub(in crate::kernels) fn dots<L: Lanes>(
    of: Indexed<'_>,
    acts: Acts<'_>,
    first: usize,
    room: &mut Room,
    out: &mut [i32],
) {
    match acts.tokens() - first {
        0..=HALF => block::<L, 1>(of, acts, first, room, out),
        _ => block::<L, 2>(of, acts, first, room, out),
    }
}

/// `H` times 16 tokens, some of which may not be there.
#[inline(always)]
fn block<L: Lanes, const H: usize>(
    of: Indexed<'_>,
    acts: Acts<'_>,
    first: usize,
    room: &mut Room,
    out: &mut [i32],
) {
    let tables: &mut [[i16; HALF]] = room.tables.as_chunks_mut().0;
    let tables = tables.as_chunks_mut::<H>().0.first_chunk_mut().expect("room for the tables");
    let narrow: &mut [[[i16; HALF]; H]] = room.narrow.as_chunks_mut().0.as_chunks_mut().0;
    let wide: &mut [[[i32; HALF]; H]] = room.wide.as_chunks_mut().0.as_chunks_mut().0;
    let (narrow, wide) = (&mut narrow[..of.rows], &mut wide[..of.rows]);
    wide.fill([[0; HALF]; H]);
    let (index, stride) = (of.index.as_chunks::<GROUPS>().0, stride(of.rows));
    for (some, index) in index.chunks(FLUSH * stride).enumerate() {
        narrow.fill([[0; HALF]; H]);
        for (step, index) in index.chunks_exact(stride).enumerate() {
            build::<L, H>(&words(of.form, acts, first, some * FLUSH + step), tables);
            add::<L, H>(index, tables, narrow);
        }
        for (wide, narrow) in wide.iter_mut().zip(&*narrow) {
            for (wide, narrow) in wide.iter_mut().zip(narrow) {
                L::load(narrow).widen(wide);
            }
        }
    }
    let (panel, tokens) = (of.form.rows(), TOKENS.min(acts.tokens() - first));
    for (wide, out) in wide.chunks_exact(panel).zip(out.chunks_exact_mut(panel * tokens)) {
        for (token, out) in out.chunks_exact_mut(panel).enumerate() {
            for (out, wide) in out.iter_mut().zip(wide) {
                *out = wide.as_flattened()[token];
            }
        }
    }
}

/// The words of a step, of `H` times 16 tokens; zeros for those that are not there.
type Words<const H: usize> = [[[i32; HALF]; H]; 4];

#[inline(always)]
fn words<const H: usize>(form: Form, acts: Acts<'_>, first: usize, step: usize) -> Words<H> {
    let mut words = [[[0; HALF]; H]; 4];
    let tokens = (H * HALF).min(acts.tokens() - first);
    for at in (0..tokens).step_by(4) {
        let width = 4.min(tokens - at);
        let block = &acts.codes[(first + at) * acts.stride..][..width * acts.stride];
        let block = block.as_chunks::<4>().0;
        for (field, words) in words.iter_mut().enumerate() {
            let places = &mut words.as_flattened_mut()[at..][..width];
            let from = &block[word(form, step, field) * width..][..width];
            for (place, from) in places.iter_mut().zip(from) {
                *place = i32::from_le_bytes(from.map(|act| act as u8));
            }
        }
    }
    words
}

/// The entries of all groups.
type Tables<const H: usize> = [[[i16; HALF]; H]; ENTRIES];

/// The tables of one step.
#[inline(always)]
fn build<L: Lanes, const H: usize>(words: &Words<H>, tables: &mut Tables<H>) {
    for (j, tables) in tables.as_chunks_mut::<WAYS>().0.iter_mut().take(GROUPS).enumerate() {
        for h in 0..H {
            let low = ways(L::byte(&words[0][h], j), L::byte(&words[1][h], j));
            let high = ways(L::byte(&words[2][h], j), L::byte(&words[3][h], j));
            for (tables, high) in tables.as_chunks_mut::<9>().0.iter_mut().zip(high) {
                for (entry, low) in tables.iter_mut().zip(low) {
                    low.add(high).store(&mut entry[h]);
                }
            }
        }
    }
}

/// The nine ways to weigh two acts.
#[inline(always)]
fn ways<L: Lanes>(a: L, b: L) -> [L; 9] {
    let zero = a.sub(a);
    let (no_a, no_b) = (zero.sub(a), zero.sub(b));
    [no_a.sub(b), no_b, a.sub(b), no_a, zero, a, b.sub(a), b, a.add(b)]
}

/// Adds each row's entries to its sums.
#[inline(always)]
fn add<L: Lanes, const H: usize>(
    index: &[[u8; GROUPS]],
    tables: &Tables<H>,
    sums: &mut [[[i16; HALF]; H]],
) {
    for (index, sums) in index.iter().zip(sums) {
        let entry = |j: usize| &tables[WAYS * j + usize::from(index[j] & 127)];
        let entries = [entry(0), entry(1), entry(2), entry(3)];
        for (h, sums) in sums.iter_mut().enumerate() {
            let mut sum = L::load(sums);
            for entry in entries {
                sum = sum.add(L::load(&entry[h]));
            }
            sum.store(sums);
        }
    }
}

/// Which four consecutive acts a field of a step weighs.
#[inline(always)]
fn word(form: Form, step: usize, field: usize) -> usize {
    match form.code {
        Code::Rows => step / 16 * 64 + 16 * field + step % 16,
        _ => 4 * step + field,
    }
}
