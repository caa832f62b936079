//! Look-ups against the products of the scalar table.

use super::*;
use crate::{kernels::PAD, ops::norm::RowScale, packed::acts::interleave};

/// Whole panels of random codes.
fn panels(form: Form, k: usize, count: usize, rng: &mut fastrand::Rng) -> Vec<u8> {
    (0..count * form.panel_bytes(k))
        .map(|_| (0..4).map(|field| rng.u8(0..3) << (2 * field)).sum())
        .collect()
}

struct Laid {
    codes: Vec<i8>,
    rows: Vec<RowScale>,
    stride: usize,
}

/// Codes of some tokens, `[token][stride]`, as a table takes them.
fn lay(codes: &[i8], tokens: usize, table: &Kernels) -> Laid {
    let stride = codes.len() / tokens;
    let mut laid = vec![0; codes.len()];
    let mut rows = Vec::new();
    for (token, row) in codes.chunks_exact(stride).enumerate() {
        interleave(row, token, tokens, table.layout(), stride, &mut laid);
        rows.push(RowScale { step: 1.0, sum: row.iter().map(|code| i32::from(*code)).sum() });
    }
    Laid { codes: laid, rows, stride }
}

impl Laid {
    fn acts(&self, table: &Kernels) -> Acts<'_> {
        let Laid { codes, rows, stride } = self;
        Acts { codes, rows, stride: *stride, layout: table.layout() }
    }
}

/// Looks up all tokens, `[panel][tokens][panel rows]`.
fn looked_up(
    table: &Kernels,
    (bytes, form, k): (&[u8], Form, usize),
    acts: Acts<'_>,
    room: &mut Room,
) -> Vec<i32> {
    let (panel, tokens) = (form.rows(), acts.tokens());
    let count = bytes.len() / form.panel_bytes(k);
    let rows = count * panel;
    let mut index = vec![0xff; index_bytes(rows, k)];
    table.index(bytes, form, k, &mut index);
    let of = Indexed { index: &index, form, rows, k };
    let mut all = vec![i32::MIN; rows * tokens];
    let mut out = vec![i32::MIN; rows * TOKENS];
    let mut first = 0;
    while first < tokens {
        let here = table.look_up(of, acts, first, room, &mut out);
        for p in 0..count {
            let to = &mut all[(p * tokens + first) * panel..][..here * panel];
            to.copy_from_slice(&out[p * here * panel..][..here * panel]);
        }
        first += here;
    }
    all
}

#[test]
fn look_ups_are_the_dots_of_scalar() {
    let mut rng = fastrand::Rng::with_seed(19);
    let mut room = Room::new().expect("room");
    let looking: Vec<_> = Kernels::available().filter(|table| table.looks_up(TOKENS)).collect();
    let wanted = if cfg!(target_arch = "aarch64") { "neon" } else { "avx2" };
    let there = Kernels::by_name(wanted).is_some();
    assert_eq!(looking.iter().any(|table| table.name() == wanted), there, "{looking:?}");
    for table in looking {
        for form in table.forms() {
            for (k, count) in [(256usize, 1), (768, 3), (2560, 2), (400, 4), (6912, 1)] {
                if !form.fits(k) {
                    continue;
                }
                let bytes = panels(*form, k, count, &mut rng);
                for tokens in [16, 17, 31, 32, 33, 48, 50, 65] {
                    let stride = k.next_multiple_of(PAD);
                    let mut codes = vec![0; tokens * stride];
                    for row in codes.chunks_exact_mut(stride) {
                        match rng.u8(0..4) {
                            0 => row[..k].fill(127),
                            1 => row[..k].fill(-127),
                            _ => row[..k].fill_with(|| rng.i8(-127..=127)),
                        }
                    }
                    let laid = lay(&codes, tokens, table);
                    let got = looked_up(table, (&bytes, *form, k), laid.acts(table), &mut room);
                    let laid = lay(&codes, tokens, Kernels::scalar());
                    let acts = laid.acts(Kernels::scalar());
                    let want: Vec<i32> = bytes
                        .chunks_exact(form.panel_bytes(k))
                        .flat_map(|panel| {
                            let mut out = vec![0; tokens * form.rows()];
                            Kernels::scalar().dots(panel, *form, k, acts, &mut out);
                            out
                        })
                        .collect();
                    assert!(got == want, "{}, {form:?}, k {k}, {tokens} tokens", table.name());
                }
            }
        }
    }
}

/// Every sum at its end: 64 entries of the same sign before each widening, in the longest row.
#[test]
fn extremes_do_not_overflow() {
    let mut room = Room::new().expect("room");
    for table in Kernels::available().filter(|table| table.looks_up(TOKENS)) {
        for form in table.forms() {
            let k = crate::kernels::MAX_K;
            for code in [0b00_00_00_00, 0b10_10_10_10] {
                let bytes = vec![code; form.panel_bytes(k)];
                let codes = vec![-127; 16 * k.next_multiple_of(PAD)];
                let mut codes = codes;
                codes.chunks_exact_mut(k.next_multiple_of(PAD)).for_each(|row| row[k..].fill(0));
                let laid = lay(&codes, 16, table);
                let got = looked_up(table, (&bytes, *form, k), laid.acts(table), &mut room);
                let want = (1 - i32::from(code & 3)) * 127 * k as i32;
                assert!(got.iter().all(|dot| *dot == want), "{}, {form:?}", table.name());
            }
        }
    }
}

/// A panel with a code that no encoder writes gives some sum, and reads nothing beyond the tables.
#[test]
fn any_bytes_are_safe() {
    let mut room = Room::new().expect("room");
    for table in Kernels::available().filter(|table| table.looks_up(TOKENS)) {
        for form in table.forms() {
            let bytes = vec![0xff; form.panel_bytes(256)];
            let codes = vec![127; 32 * 256usize.next_multiple_of(PAD)];
            let laid = lay(&codes, 32, table);
            let got = looked_up(table, (&bytes, *form, 256), laid.acts(table), &mut room);
            assert_eq!(got.len(), 32 * form.rows());
        }
    }
}
