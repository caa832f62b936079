//! Every kernel of a table against scalar, on this very CPU, in a few milliseconds.
//!
//! The suite in `tests.rs` is wide; this one is what a user's machine can be
//! asked at any time, and what a model asks before it trusts a table.

use super::{
    Acts, BLOCK, Code, Form, Inputs, Kernels, KvBlock, Live, Online, PAD, Pairs, PanelRows, Put,
    RowScale, RowType, RowsOf,
    lookup::{Indexed, Room, TOKENS, index_bytes},
    screen::{FirstTermsOf, PairsOf, PlaneOf, StatesOf},
};
use crate::{
    log::{self, Level},
    packed::acts::interleave,
};
use half::f16;
use once_cell::sync::OnceCell;

/// A small generator of its own: the same bytes on every machine.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn byte(&mut self) -> u8 {
        (self.next() >> 32) as u8
    }

    fn code(&mut self) -> i8 {
        (self.byte() as i8).max(-127)
    }

    fn floats(&mut self, n: usize) -> Vec<f32> {
        let mut float = || {
            let magnitude = f32::from(self.byte() % 12) - 6.0;
            (f32::from(self.byte()) / 128.0 - 1.0) * magnitude.exp2()
        };
        (0..n).map(|_| float()).collect()
    }

    fn panel(&mut self, form: Form, k: usize) -> Vec<u8> {
        let mut byte = || match form.code {
            Code::Base3 => 85 * (self.byte() % 3) + self.byte() % 81,
            _ => (0..4).map(|field| (self.byte() % 3) << (2 * field)).sum(),
        };
        (0..form.panel_bytes(k)).map(|_| byte()).collect()
    }
}

/// A kernel of a table on fixed inputs: its bits.
type Test = fn(&Kernels) -> Vec<u32>;

impl Kernels {
    /// The fastest table that passes its [`check`](Self::check); one that does not is logged. Checked once: what a CPU
    /// is does not change, and a packed file loads in less time than a check takes.
    #[must_use]
    pub fn best_checked() -> &'static Kernels {
        static BEST: OnceCell<&'static Kernels> = OnceCell::new();
        BEST.get_or_init(Self::check_tables)
    }

    fn check_tables() -> &'static Kernels {
        let passes = |table: &&'static Kernels| match table.check() {
            Ok(()) => true,
            Err(what) => {
                log::log(Level::Warn, || format!("{what}: a slower table is used"));
                false
            }
        };
        let best = Self::available().rfind(passes).unwrap_or(Self::scalar());
        // Wider products that are not sooner on every core that has them.
        match Self::by_name("dotprod").filter(|_| best.name() == "i8mm").filter(passes) {
            Some(other) => super::timing::faster_of(best, other),
            None => best,
        }
    }

    /// Whether this table gives scalar's bits on this CPU.
    ///
    /// # Errors
    ///
    /// The table and the kernel that does not.
    pub fn check(&self) -> Result<(), String> {
        if std::ptr::eq(self, Kernels::scalar()) {
            return Ok(());
        }
        let tests: [(&str, Test); 8] = [
            ("a sparse product", sparse),
            ("nibbles", nibbles),
            ("pairs", pairs),
            ("states", states),
            ("a float step", float_steps),
            ("the inputs of a product", inputs),
            ("attention", attention),
            ("row_dots", row_dots),
        ];
        // The forms are those of the table in question: scalar takes them all.
        for form in self.forms() {
            let run = |table: &Kernels| form_dots(table, *form);
            if run(self) != run(Kernels::scalar()) {
                return Err(format!(
                    "kernels {}: dots of {form:?} differ from scalar",
                    self.name()
                ));
            }
            let run = |table: &Kernels| many_dots(table, *form);
            if self.look_up.is_some() && run(self) != run(Kernels::scalar()) {
                return Err(format!(
                    "kernels {}: look-ups of {form:?} differ from scalar",
                    self.name()
                ));
            }
        }
        for (name, run) in tests {
            if run(self) != run(Kernels::scalar()) {
                return Err(format!("kernels {}: {name} differs from scalar", self.name()));
            }
        }
        Ok(())
    }
}

fn bits(values: &[f32]) -> impl Iterator<Item = u32> {
    values.iter().map(|value| value.to_bits())
}

/// Codes of some tokens as a table takes them, and their sums.
fn random_acts(
    table: &Kernels,
    tokens: usize,
    k: usize,
    stride: usize,
    rng: &mut Rng,
) -> (Vec<i8>, Vec<RowScale>) {
    let mut rows = Vec::new();
    let mut codes = vec![0; tokens * stride];
    for token in 0..tokens {
        let mut row = vec![0; stride];
        row[..k].fill_with(|| rng.code());
        let sum = row.iter().map(|code| i32::from(*code)).sum();
        rows.push(RowScale { step: 1.0, sum });
        interleave(&row, token, tokens, table.layout(), stride, &mut codes);
    }
    (codes, rows)
}

fn form_dots(table: &Kernels, form: Form) -> Vec<u32> {
    let mut rng = Rng(1);
    let mut all = Vec::new();
    for (k, tokens) in [(256, 1), (256, 3), (768, 9), (2560, 1)] {
        let panel = rng.panel(form, k);
        let stride = k.next_multiple_of(PAD);
        let (codes, rows) = random_acts(table, tokens, k, stride, &mut rng);
        let acts = Acts { codes: &codes, rows: &rows, stride, layout: table.layout() };
        let mut out = vec![0; tokens * form.rows()];
        table.dots(&panel, form, k, acts, &mut out);
        all.extend(out.iter().map(|dot| *dot as u32));
    }
    all
}

/// One panel and many tokens, by look-up where a table has that.
fn many_dots(table: &Kernels, form: Form) -> Vec<u32> {
    let mut rng = Rng(7);
    let (k, tokens) = (512, TOKENS + 9);
    let panel = rng.panel(form, k);
    let stride = k.next_multiple_of(PAD);
    let (codes, rows) = random_acts(table, tokens, k, stride, &mut rng);
    let acts = Acts { codes: &codes, rows: &rows, stride, layout: table.layout() };
    let mut out = vec![0; tokens * form.rows()];
    match table.look_up {
        None => table.dots(&panel, form, k, acts, &mut out),
        Some(_) => {
            let mut index = vec![0; index_bytes(form.rows(), k)];
            table.index(&panel, form, k, &mut index);
            let of = Indexed { index: &index, form, rows: form.rows(), k };
            let Ok(mut room) = Room::new() else { return Vec::new() };
            for (i, out) in out.chunks_mut(TOKENS * form.rows()).enumerate() {
                table.look_up(of, acts, i * TOKENS, &mut room, out);
            }
        }
    }
    out.iter().map(|dot| *dot as u32).collect()
}

fn sparse(table: &Kernels) -> Vec<u32> {
    let mut rng = Rng(2);
    let k = 512;
    let acts: Vec<i8> = (0..k).map(|_| if rng.byte() < 80 { rng.code() } else { 0 }).collect();
    let (mut places, mut codes) = (vec![0; k], vec![0; k]);
    let live = Live::collect(&acts, &mut places, &mut codes);
    let mut columns = vec![0; 256];
    table.live_columns(&rng.panel(Form::COLUMNS, k), live, &mut columns);
    let rows = rng.panel(Form::ROWS, k);
    let some: Vec<u32> = (0..32).filter(|_| rng.byte() < 100).collect();
    let mut out = vec![0; some.len()];
    table.live_rows(RowsOf { rows: &rows, k, acts: &acts, sum: live.sum }, &some, &mut out);
    columns.iter().chain(&out).map(|dot| *dot as u32).collect()
}

fn nibbles(table: &Kernels) -> Vec<u32> {
    let mut rng = Rng(3);
    let k = 640;
    let rows: Vec<u8> = (0..9 * k / 2).map(|_| rng.byte()).collect();
    let codes: [Vec<i8>; 2] = [(); 2].map(|()| (0..k).map(|_| rng.code()).collect());
    let mut out = vec![[0; 2]; 9];
    table.nibbles(PlaneOf { rows: &rows, k, codes: [&codes[0], &codes[1]] }, &mut out);
    out.iter().flatten().map(|dot| *dot as u32).collect()
}

fn pairs(table: &Kernels) -> Vec<u32> {
    let mut rng = Rng(5);
    let mut all = Vec::new();
    for k in [640, 1024] {
        let rows: Vec<u8> = (0..9 * k / 4).map(|_| rng.byte()).collect();
        let codes: Vec<i8> = (0..k).map(|_| rng.code()).collect();
        for live in [&[0, 1, 3, 4, 8][..], &[2, 3, 4]] {
            let mut out = vec![0; live.len()];
            table.pairs(PairsOf { rows: &rows, k, codes: &codes }, live, &mut out);
            all.extend(out.iter().map(|dot| *dot as u32));
        }
    }
    all
}

fn states(table: &Kernels) -> Vec<u32> {
    let mut rng = Rng(6);
    let (k, rows, states) = (512, 9, 3);
    let [high, middle] = [2, 4].map(|n| (0..rows * k / n).map(|_| rng.byte()).collect::<Vec<u8>>());
    let codes: [Vec<i8>; 2] = [(); 2].map(|()| (0..states * k).map(|_| rng.code()).collect());
    let [mut both, mut firsts] = [(); 2].map(|()| vec![[0; 2]; states * rows]);
    let (high, middle, codes) = (&high, &middle, [&codes[0][..], &codes[1]]);
    table.states(StatesOf { high, middle, k, codes }, &mut both);
    table.first_terms(FirstTermsOf { high, middle, k, codes: codes[0] }, &mut firsts);
    both.iter().chain(&firsts).flatten().map(|dot| *dot as u32).collect()
}

fn float_steps(table: &Kernels) -> Vec<u32> {
    let mut rng = Rng(4);
    let mut all = Vec::new();
    for n in [1, 17, 100, 640] {
        let (x, y) = (rng.floats(n), rng.floats(n));
        let mut out = vec![0.0; n];
        table.rms_norm(&x, &y, 1e-5, &mut out);
        all.extend(bits(&out));
        table.relu2_mul(&x, &y, &mut out);
        all.extend(bits(&out));
        table.silu_mul(&x, &y, &mut out);
        all.extend(bits(&out));
        let mut codes = vec![0; n];
        let row = table.quantize(&x, &mut codes);
        all.push(row.step.to_bits());
        all.push(row.sum as u32);
        let dots: Vec<i32> = codes.iter().map(|code| i32::from(*code) * 9001).collect();
        table.rescale(&dots, &y, &[row], n, &mut out);
        all.extend(bits(&out));
        out.copy_from_slice(&x);
        let of = PanelRows { values: &y, panel: n, tokens: 1 };
        table.gather(of, (0, 0), Put::Onto, n, &mut out);
        all.extend(bits(&out));
    }
    for pairs in [Pairs::Half, Pairs::Adjacent] {
        let (mut row, angles) = (rng.floats(3 * 64), rng.floats(64));
        table.rotate(&mut row, 64, pairs, &angles);
        all.extend(bits(&row));
    }
    all
}

/// Codes and scales of eight tokens, token by token, by the loop that a table may have for a block of them.
fn inputs(table: &Kernels) -> Vec<u32> {
    let (mut rng, width) = (Rng(7), 2 * PAD);
    let (all_rows, gain) = (rng.floats(8 * width), rng.floats(width));
    let (block, unit) = (table.layout().block, table.layout().unit);
    let mut all = Vec::new();
    for gain in [None, Some(&gain[..])] {
        for rows in all_rows.chunks(block * width) {
            let tokens = rows.len() / width;
            let (mut codes, mut scales) =
                (vec![0; rows.len()], vec![RowScale { step: 0.0, sum: 0 }; tokens]);
            let of = Inputs { rows, width, gain, eps: 1e-5 };
            let done = table.inputs(of, &mut codes, &mut scales);
            for (t, row) in rows.chunks(width).enumerate() {
                let mut normed = row.to_vec();
                if let Some(gain) = gain {
                    table.rms_norm(row, gain, 1e-5, &mut normed);
                }
                let mut own = vec![0; width];
                let scale = table.quantize(&normed, &mut own);
                let scale = if done { scales[t] } else { scale };
                if done {
                    for (i, code) in own.iter_mut().enumerate() {
                        *code = codes[i / unit * tokens * unit + t * unit + i % unit];
                    }
                }
                all.extend([scale.step.to_bits(), scale.sum as u32]);
                all.extend(own.iter().map(|code| *code as u32));
            }
        }
    }
    all
}

fn attention(table: &Kernels) -> Vec<u32> {
    let mut rng = Rng(5);
    let mut all = Vec::new();
    for dim in [64, 80, 128] {
        let mut halves =
            || -> Vec<f16> { rng.floats(dim * BLOCK).into_iter().map(f16::from_f32).collect() };
        let (keys, values) = (halves(), halves());
        let mut codes = || -> Vec<i8> { (0..dim * BLOCK).map(|_| rng.code()).collect() };
        let (key_codes, value_codes) = (codes(), codes());
        let (key_steps, value_steps) = (rng.floats(BLOCK), rng.floats(BLOCK));
        let blocks = [
            KvBlock::F16 { keys: &keys, values: &values },
            KvBlock::I8 {
                keys: &key_codes,
                values: &value_codes,
                key_steps: &key_steps,
                value_steps: &value_steps,
            },
        ];
        for block in blocks {
            let lens = [64, 33, 1, 0];
            let n = lens.len();
            let (mut max, mut sum, mut acc) =
                (vec![f32::NEG_INFINITY; n], vec![0.0; n], vec![0.0; n * dim]);
            for _ in 0..2 {
                let queries = rng.floats(n * dim);
                let mut state = Online { max: &mut max, sum: &mut sum, acc: &mut acc, next: 64 };
                table.attend(&queries, block, &lens, &mut state);
            }
            let (first, rest) = acc.split_at_mut(dim);
            table.merge(&mut max[0], &mut sum[0], first, 0.5, 2.0, &rest[..dim]);
            all.extend(bits(&max).chain(bits(&sum)).chain(bits(&acc)));
        }
    }
    all
}

fn row_dots(table: &Kernels) -> Vec<u32> {
    let mut rng = Rng(6);
    let mut all = Vec::new();
    for kind in [RowType::F32, RowType::F16, RowType::Bf16, RowType::Q8_0, RowType::Q6K] {
        let (k, rows) = (512, 5);
        let values = rng.floats(rows * k);
        let data: Vec<u8> = match kind {
            RowType::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            RowType::F16 => {
                values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect()
            }
            RowType::Bf16 => {
                values.iter().flat_map(|value| value.to_le_bytes()[2..].to_vec()).collect()
            }
            RowType::Q8_0 | RowType::Q6K => {
                let bytes = kind.row_bytes(k).expect("512 values are whole blocks") * rows;
                let (block, scale) = if kind == RowType::Q8_0 { (34, 0) } else { (210, 208) };
                let mut data: Vec<u8> = (0..bytes).map(|_| rng.byte()).collect();
                for block in data.chunks_exact_mut(block) {
                    block[scale..scale + 2].copy_from_slice(&f16::from_f32(0.01).to_le_bytes());
                }
                data
            }
        };
        let inputs = rng.floats(2 * k);
        let mut out = vec![0.0; 2 * rows];
        table.row_dots(&data, kind, &inputs, k, &mut out);
        all.extend(bits(&out));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_passes() {
        for table in Kernels::available() {
            assert_eq!(table.check(), Ok(()));
        }
        assert_eq!(Kernels::best_checked().name(), Kernels::best().name());
    }

    #[test]
    fn a_wrong_kernel_is_named() {
        fn twice(of: PanelRows<'_>, _: (usize, usize), _: Put, _: usize, out: &mut [f32]) {
            out.iter_mut().zip(of.values).for_each(|(x, y)| *x += *y + *y);
        }
        let broken = Kernels { name: "broken", gather: twice, ..*Kernels::scalar() };
        let error = broken.check().expect_err("the sum is wrong");
        assert!(error.contains("broken") && error.contains("float step"), "{error}");
    }
}
