//! Codes → panels, and back.

use super::{
    Bytes, PackedMatrix, TernaryType,
    buffer::{Arena, Pages},
    decode,
};
use crate::{
    Cancel,
    error::{Error, Result, try_zeroed},
    kernels::{Code, Form, MAX_K},
};
use rayon::prelude::*;

/// Lays the codes of one panel's rows, `[form rows][k]`, into its bytes.
pub(crate) fn pack_panel(form: Form, k: usize, codes: &[u8], panel: &mut [u8]) {
    match form.code {
        Code::Rows => pack_rows(codes, panel),
        Code::Columns => pack_columns(k, codes, panel),
        Code::Bits2 => pack_words::<16>(form, k, codes, panel, bits2),
        Code::Base3 => pack_words::<20>(form, k, codes, panel, base3),
    }
}

/// Dense panels: a word of four bytes for each row and step, the rows of a step side by side.
fn pack_words<const STEP: usize>(
    form: Form,
    k: usize,
    codes: &[u8],
    panel: &mut [u8],
    word: impl Fn(&[u8; STEP]) -> u32,
) {
    let (words, _) = panel.as_chunks_mut::<4>();
    for (r, row) in codes.chunks_exact(k).enumerate() {
        let (steps, rest) = row.as_chunks::<STEP>();
        let mut words = words.iter_mut().skip(r).step_by(form.rows());
        for (step, bytes) in steps.iter().zip(&mut words) {
            *bytes = word(step).to_le_bytes();
        }
        if let (false, Some(bytes)) = (rest.is_empty(), words.next()) {
            let mut step = [1; STEP];
            step[..rest.len()].copy_from_slice(rest);
            *bytes = word(&step).to_le_bytes();
        }
    }
}

/// Four bytes of four codes each, the first lowest.
fn bits2(codes: &[u8; 16]) -> u32 {
    let field = fields(codes);
    field(0) | field(1) << 2 | field(2) << 4 | field(3) << 6
}

/// Four bytes of five codes each. No byte carries into the next: at most 250.
fn base3(codes: &[u8; 20]) -> u32 {
    let field = fields(codes);
    field(0) + 3 * field(1) + 9 * field(2) + 27 * field(3) + 85 * field(4)
}

/// Four codes at a time, one in each byte.
fn fields<const STEP: usize>(codes: &[u8; STEP]) -> impl Fn(usize) -> u32 {
    let (fields, _) = codes.as_chunks::<4>();
    |f| u32::from_le_bytes(fields[f])
}

/// Rows of whole blocks: byte `i` of a block holds its weights `64*f + i`.
fn pack_rows(codes: &[u8], panel: &mut [u8]) {
    let (blocks, _) = panel.as_chunks_mut::<64>();
    let (codes, _) = codes.as_chunks::<256>();
    for (block, codes) in blocks.iter_mut().zip(codes) {
        let (fields, _) = codes.as_chunks::<64>();
        *block = merged([&fields[0], &fields[1], &fields[2], &fields[3]]);
    }
}

/// Four codes to a byte, the first lowest.
fn merged(fields: [&[u8; 64]; 4]) -> [u8; 64] {
    std::array::from_fn(|i| {
        fields[0][i] | fields[1][i] << 2 | fields[2][i] << 4 | fields[3][i] << 6
    })
}

/// Columns of 256 rows: byte `i` of a column holds the rows `64*f + i`.
fn pack_columns(k: usize, codes: &[u8], panel: &mut [u8]) {
    let (columns, padding) = panel.split_at_mut(k * 64);
    padding.fill(0b01_01_01_01);
    // Squares of 64 columns by 64 bytes: the nearest cache holds one before and after it is turned.
    let mut square = [[0u8; 64]; 64];
    for (first, columns) in columns.chunks_mut(64 * 64).enumerate() {
        let len = columns.len() / 64;
        for (i, out) in square.iter_mut().enumerate() {
            let row = |f: usize| &codes[(64 * f + i) * k + 64 * first..][..len];
            match [0, 1, 2, 3].map(|f| row(f).first_chunk()) {
                [Some(a), Some(b), Some(c), Some(d)] => *out = merged([a, b, c, d]),
                // The last columns, where they are no whole square.
                _ => {
                    for (column, out) in out[..len].iter_mut().enumerate() {
                        *out = (0..4).map(|f| row(f)[column] << (2 * f)).sum();
                    }
                }
            }
        }
        turn(&square, columns);
    }
}

/// Writes the columns of a square one after the other, as many as `out` has room for.
fn turn(square: &[[u8; 64]; 64], out: &mut [u8]) {
    let (columns, _) = out.as_chunks_mut::<64>();
    for (c, columns) in columns.chunks_mut(8).enumerate() {
        for r in 0..8 {
            let rows = std::array::from_fn(|i| {
                let (words, _) = square[8 * r + i].as_chunks::<8>();
                u64::from_le_bytes(words[c])
            });
            for (column, word) in columns.iter_mut().zip(turned(rows)) {
                column[8 * r..][..8].copy_from_slice(&word.to_le_bytes());
            }
        }
    }
}

/// Rows of eight bytes to columns of eight bytes, in three rounds of swaps: of halves, of quarters, of bytes.
fn turned(mut rows: [u64; 8]) -> [u64; 8] {
    for (distance, keep) in
        [(4, 0x0000_0000_ffff_ffff), (2, 0x0000_ffff_0000_ffff), (1, 0x00ff_00ff_00ff_00ff)]
    {
        let shift = 8 * distance;
        for i in (0..8).filter(|i| i & distance == 0) {
            let (a, b) = (rows[i], rows[i + distance]);
            rows[i] = a & keep | (b & keep) << shift;
            rows[i + distance] = (a >> shift) & keep | b & !keep;
        }
    }
    rows
}

/// The codes of one panel's rows, `[form rows][k]`.
pub(crate) fn unpack_panel(form: Form, k: usize, panel: &[u8], codes: &mut [u8]) {
    if matches!(form.code, Code::Rows | Code::Columns) {
        return unpack_sparse(form, k, panel, codes);
    }
    for (r, row) in codes.chunks_exact_mut(k).enumerate() {
        for (s, out) in row.chunks_mut(form.step()).enumerate() {
            let bytes = &panel[(s * form.rows() + r) * 4..][..4];
            for (i, out) in out.iter_mut().enumerate() {
                let (byte, field) = (bytes[i % 4], i / 4);
                *out = match form.code {
                    Code::Base3 if field == 4 => byte / 85,
                    Code::Base3 => byte % 85 / [1, 3, 9, 27][field] % 3,
                    _ => byte >> (2 * field) & 3,
                };
            }
        }
    }
}

/// The codes of a panel whose rows or columns stand by themselves.
fn unpack_sparse(form: Form, k: usize, panel: &[u8], codes: &mut [u8]) {
    for (r, row) in codes.chunks_exact_mut(k).enumerate() {
        for (i, code) in row.iter_mut().enumerate() {
            let (byte, field) = match form.code {
                Code::Columns => (i * 64 + r % 64, r / 64),
                _ => (r * k / 4 + i / 256 * 64 + i % 64, i % 256 / 64),
            };
            *code = panel[byte] >> (2 * field) & 3;
        }
    }
}

impl PackedMatrix {
    /// Packs a tensor of `rows x k` trits. `bytes` are the rows as the file holds them; `tensor_scale` is the
    /// scale behind an I2_S tensor. Runs on the current rayon pool.
    ///
    /// # Errors
    ///
    /// [`Error::BadModel`] naming `name` where a row is malformed, [`Error::Cancelled`], [`Error::OutOfMemory`].
    #[expect(clippy::too_many_arguments, reason = "what a tensor is, and where its panels go")]
    pub(crate) fn pack(
        name: &str,
        kind: TernaryType,
        bytes: &[u8],
        (rows, k): (usize, usize),
        tensor_scale: Option<f32>,
        form: Form,
        arena: &mut Arena,
        cancel: &Cancel,
    ) -> Result<Self> {
        if k == 0 || k > MAX_K || !k.is_multiple_of(kind.block()) || !form.fits(k) {
            let rule = format!(
                "rows of {k} weights: a multiple of {} up to {MAX_K} is wanted",
                kind.block()
            );
            return Err(Error::bad_model(name, rule));
        }
        let row_bytes = kind.row_bytes(k);
        let panels = rows.div_ceil(form.rows());
        let panel_bytes = form.panel_bytes(k);
        let (out, codes) = arena.take(panels * panel_bytes).ok_or_else(|| no_room(name))?;
        let mut scales: Vec<f32> = try_zeroed(panels * form.rows(), "scales")?;
        out.par_chunks_exact_mut(panel_bytes)
            .zip(scales.par_chunks_exact_mut(form.rows()))
            .enumerate()
            .try_for_each_init(Vec::new, |trits: &mut Vec<u8>, (p, (panel, scales))| {
                cancel.check()?;
                if trits.is_empty() {
                    *trits = try_zeroed(form.rows() * k, "a panel")?;
                }
                let first = p * form.rows();
                let here = form.rows().min(rows - first);
                trits[here * k..].fill(1);
                for r in 0..here {
                    let bytes = &bytes[(first + r) * row_bytes..][..row_bytes];
                    let scale =
                        decode::row(kind, bytes, &mut trits[r * k..][..k]).map_err(|rule| {
                            Error::bad_model(name, format!("row {}: {rule}", first + r))
                        })?;
                    scales[r] = scale.or(tensor_scale).unwrap_or(1.0);
                }
                pack_panel(form, k, trits, panel);
                Ok(())
            })?;
        scales.truncate(rows);
        Self::from_panels(form, rows, k, codes, scales)
    }
}

/// The arena was made for other matrices: the file's directory names one twice as large as it is, or not at all.
fn no_room(name: &str) -> Error {
    Error::bad_model(name, "its size is not what the directory promised")
}

impl PackedMatrix {
    /// The same weights in panels of another form, in pages of its own.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`].
    pub(crate) fn repack(&self, form: Form) -> Result<Self> {
        let mut pages =
            Pages::zeroed(self.rows().div_ceil(form.rows()) * form.panel_bytes(self.k()))?;
        self.write_panels(form, 0, pages.as_mut_slice())?;
        let scales = self.scales().collect();
        Self::from_panels(form, self.rows(), self.k(), Bytes::Owned(pages), scales)
    }

    /// The same in an arena. Runs on the current rayon pool.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`].
    pub(crate) fn repack_into(&self, form: Form, name: &str, arena: &mut Arena) -> Result<Self> {
        let bytes = form.panel_bytes(self.k());
        let size = self.rows().div_ceil(form.rows()) * bytes;
        let (out, codes) = arena.take(size).ok_or_else(|| no_room(name))?;
        // So many panels lie in one of these: a thread unpacks it once.
        let together = self.form().rows().div_ceil(form.rows());
        out.par_chunks_mut(bytes * together)
            .enumerate()
            .try_for_each(|(i, panels)| self.write_panels(form, i * together, panels))?;
        Self::from_panels(form, self.rows(), self.k(), codes, self.scales().collect())
    }

    /// Writes whole panels of another form, from panel `first` on.
    fn write_panels(&self, form: Form, first: usize, out: &mut [u8]) -> Result<()> {
        let (rows, k) = (self.rows(), self.k());
        let from = self.form();
        let mut codes: Vec<u8> = try_zeroed(from.rows() * k, "a panel")?;
        let mut plain: Vec<u8> = try_zeroed(form.rows() * k, "a panel")?;
        let mut held = usize::MAX;
        for (p, panel) in out.chunks_exact_mut(form.panel_bytes(k)).enumerate() {
            plain.fill(1);
            let first = (first + p) * form.rows();
            for (r, out) in plain.chunks_exact_mut(k).enumerate().take(rows - first) {
                let row = first + r;
                if row / from.rows() != held {
                    held = row / from.rows();
                    unpack_panel(from, k, self.panel(held), &mut codes);
                }
                out.copy_from_slice(&codes[row % from.rows() * k..][..k]);
            }
            pack_panel(form, k, &plain, panel);
        }
        Ok(())
    }

    /// Whether every byte of the panels is one that packing writes.
    pub(crate) fn check_codes(&self) -> bool {
        self.codes.as_slice().iter().all(|byte| match self.form().code {
            Code::Base3 => *byte <= 85 * 2 + 80,
            _ => byte & (byte >> 1) & 0x55 == 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{Acts, Kernels, PAD};
    use crate::ops::norm::RowScale;

    const FORMS: [(Code, usize); 8] = [
        (Code::Bits2, 1),
        (Code::Bits2, 2),
        (Code::Bits2, 4),
        (Code::Base3, 1),
        (Code::Base3, 2),
        (Code::Base3, 4),
        (Code::Rows, 2),
        (Code::Columns, 16),
    ];

    #[test]
    fn panels_unpack_to_what_was_packed() {
        let mut rng = fastrand::Rng::with_seed(1);
        for (code, tiles) in FORMS {
            let form = Form { code, tiles };
            for k in [4, 100, 128, 256, 384, 640, 768].into_iter().filter(|k| form.fits(*k)) {
                let codes: Vec<u8> = (0..form.rows() * k).map(|_| rng.u8(0..3)).collect();
                let mut panel = vec![0; form.panel_bytes(k)];
                pack_panel(form, k, &codes, &mut panel);
                // With what pads the last step, which is code 1.
                let whole = form.steps(k) * form.step();
                let mut got = vec![9; form.rows() * whole];
                unpack_panel(form, whole, &panel, &mut got);
                for (r, (got, codes)) in got.chunks(whole).zip(codes.chunks(k)).enumerate() {
                    assert_eq!(got[..k], *codes, "{form:?}, k {k}, row {r}");
                    assert!(got[k..].iter().all(|code| *code == 1), "{form:?}, k {k}: {got:?}");
                }
            }
        }
    }

    #[test]
    fn dots_of_packed_rows_are_the_sum_of_products() {
        let mut rng = fastrand::Rng::with_seed(2);
        let (rows, k) = (37usize, 256usize);
        let bytes: Vec<u8> =
            (0..rows * k / 4).map(|_| (0..4).map(|f| rng.u8(0..3) << (2 * f)).sum()).collect();
        let acts: Vec<i8> = (0..k).map(|_| rng.i8(-127..=127)).collect();
        let stride = k.next_multiple_of(PAD);
        let mut padded = acts.clone();
        padded.resize(stride, 0);
        let scale = [RowScale { step: 1.0, sum: acts.iter().map(|a| i32::from(*a)).sum() }];
        let scalar = Kernels::scalar();
        let acts_view = Acts { codes: &padded, rows: &scale, stride, layout: scalar.layout() };
        for (code, tiles) in FORMS {
            let form = Form { code, tiles };
            let size = rows.div_ceil(form.rows()) * form.panel_bytes(k);
            let mut arena = Arena::new([size].into_iter()).expect("small");
            let mut matrix = PackedMatrix::pack(
                "m",
                TernaryType::I2S,
                &bytes,
                (rows, k),
                Some(0.5),
                form,
                &mut arena,
                &Cancel::new(),
            )
            .expect("valid");
            matrix.settle(&arena.settle());
            assert_eq!(matrix.scales().collect::<Vec<_>>(), vec![0.5; rows]);
            for panel in 0..matrix.panels() {
                let mut out = vec![0; form.rows()];
                matrix.dots(scalar, panel..panel + 1, acts_view, &mut out);
                for (r, got) in out.iter().enumerate() {
                    let row = panel * form.rows() + r;
                    let want: i32 = if row >= rows {
                        0
                    } else {
                        let mut codes = vec![0; k];
                        decode::row(TernaryType::I2S, &bytes[row * k / 4..][..k / 4], &mut codes)
                            .expect("valid");
                        codes
                            .iter()
                            .zip(&acts)
                            .map(|(c, a)| (i32::from(*c) - 1) * i32::from(*a))
                            .sum()
                    };
                    assert_eq!(*got, want, "{form:?}, row {row}");
                }
            }
        }
    }

    #[test]
    fn packing_again_is_packing() {
        let mut rng = fastrand::Rng::with_seed(3);
        let (rows, k) = (300usize, 256usize);
        let bytes: Vec<u8> =
            (0..rows * k / 4).map(|_| (0..4).map(|f| rng.u8(0..3) << (2 * f)).sum()).collect();
        let arena = |form: Form| {
            Arena::new([rows.div_ceil(form.rows()) * form.panel_bytes(k)].into_iter())
                .expect("small")
        };
        let packed = |form: Form| {
            let (mut arena, cancel) = (arena(form), Cancel::new());
            let (kind, scale) = (TernaryType::I2S, Some(0.5));
            let matrix =
                PackedMatrix::pack("m", kind, &bytes, (rows, k), scale, form, &mut arena, &cancel);
            let mut matrix = matrix.expect("valid");
            matrix.settle(&arena.settle());
            matrix
        };
        for (code, tiles) in FORMS {
            let from = packed(Form { code, tiles });
            for (code, tiles) in FORMS {
                let form = Form { code, tiles };
                let want = packed(form);
                let mut arena = arena(form);
                let mut again = from.repack_into(form, "m", &mut arena).expect("small");
                again.settle(&arena.settle());
                let alone = from.repack(form).expect("small");
                for got in [again, alone] {
                    let panels = 0..want.panels();
                    let same = got.panel_range(panels.clone()) == want.panel_range(panels);
                    assert!(same, "{:?} to {form:?}", from.form());
                    assert!(got.scales().eq(want.scales()), "{:?} to {form:?}", from.form());
                }
            }
        }
    }

    #[test]
    fn bad_codes_name_the_tensor_and_the_row() {
        let mut bytes = vec![0x55; 3 * 32];
        bytes[70] = 0xff;
        let form = Form { code: Code::Bits2, tiles: 1 };
        let error = PackedMatrix::pack(
            "blk.0.x",
            TernaryType::I2S,
            &bytes,
            (3, 128),
            None,
            form,
            &mut Arena::new([form.panel_bytes(128)].into_iter()).expect("small"),
            &Cancel::new(),
        );
        let text = error.expect_err("code 3").to_string();
        assert!(text.contains("blk.0.x") && text.contains("row 2"), "{text}");
    }
}
