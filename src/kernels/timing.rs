//! What this CPU does soonest, where only a measurement can say: a form is a race between memory and decoding, and some
//! cores have instructions that they do not run sooner than older ones.

use super::{Acts, Form, Kernels, PAD, RowScale};
use once_cell::sync::OnceCell;
use std::time::{Duration, Instant};

/// Weights of a row of the trial.
const K: usize = 2560;
/// How much longer than the fastest form a smaller one may take with one thread. More threads share the memory: two of
/// them were a sixth faster in base 3 where one was as fast in both.
const SMALLER_PAYS: f64 = 1.2;
/// Bytes that one trial reads, and trials of each form. Caches hold what was read before, so every trial has its own bytes.
const PIECE: usize = 8 << 20;
const TRIALS: usize = 3;

impl Kernels {
    /// The dense form with which this table takes in weights from memory soonest, or a smaller one that is nearly as
    /// fast, by a timing of about 10 ms; taken once, and not at all where there is no choice.
    ///
    /// Every form gives the same bits. One thread is timed: with more of them memory is
    /// scarcer, which can only speak more for the smaller form.
    #[must_use]
    pub fn fastest_form(&self) -> Form {
        static FASTEST: OnceCell<(&'static str, Form)> = OnceCell::new();
        let usual = self.dense_forms().next().unwrap_or(self.forms()[0]);
        if self.dense_forms().count() < 2 || std::ptr::eq(self, Kernels::scalar()) {
            return usual;
        }
        let (name, form) = FASTEST.get_or_init(|| (self.name(), self.time_forms(usual)));
        if *name == self.name() { *form } else { usual }
    }

    /// The smallest of the forms whose best trial took about the least time a weight.
    fn time_forms(&self, usual: Form) -> Form {
        let forms: Vec<Form> = self.dense_forms().collect();
        let mut memory = Vec::new();
        if memory.try_reserve_exact(forms.len() * TRIALS * PIECE).is_err() {
            return usual;
        }
        memory.resize(forms.len() * TRIALS * PIECE, 0x55u8);
        let mut best = vec![f64::INFINITY; forms.len()];
        for (i, piece) in memory.chunks_exact(PIECE).enumerate() {
            forget(piece);
            let form = i % forms.len();
            let (spent, weights) = self.time_form(forms[form], piece);
            best[form] = best[form].min(spent.as_secs_f64() / weights as f64);
        }
        let least = best.iter().copied().fold(f64::INFINITY, f64::min);
        let near = forms.iter().zip(&best).filter(|(_, time)| **time <= least * SMALLER_PAYS);
        let bytes_of_a_row = |form: &Form| form.panel_bytes(K) / form.rows();
        near.map(|(form, _)| *form).min_by_key(bytes_of_a_row).unwrap_or(usual)
    }

    fn time_form(&self, form: Form, bytes: &[u8]) -> (Duration, usize) {
        let stride = K.next_multiple_of(PAD);
        let (codes, rows) = (vec![1i8; stride], [RowScale { step: 1.0, sum: K as i32 }]);
        let acts = Acts { codes: &codes, rows: &rows, stride, layout: self.layout() };
        let mut out = vec![0; form.rows()];
        let panels = bytes.chunks_exact(form.panel_bytes(K));
        let weights = panels.len() * form.rows() * K;
        let start = Instant::now();
        for panel in panels {
            self.dots(panel, form, K, acts, &mut out);
            std::hint::black_box(&out);
        }
        (start.elapsed(), weights)
    }
}

/// Tokens that two tables are timed with, and repetitions of each of their trials.
const TOKENS: usize = 8;
const ROUNDS: usize = 16;

/// The table that multiplies several tokens sooner, by a timing of about 2 ms. Both take the first form of the first one.
pub(super) fn faster_of(a: &'static Kernels, b: &'static Kernels) -> &'static Kernels {
    let form = a.forms()[0];
    let panel = vec![0x55u8; form.panel_bytes(K)];
    let mut best = [Duration::MAX; 2];
    for _ in 0..TRIALS {
        for (table, best) in [a, b].into_iter().zip(&mut best) {
            *best = (*best).min(table.time_tokens(form, &panel));
        }
    }
    if best[1] < best[0] { b } else { a }
}

impl Kernels {
    fn time_tokens(&self, form: Form, panel: &[u8]) -> Duration {
        let stride = K.next_multiple_of(PAD);
        let codes = vec![1i8; TOKENS * stride];
        let rows = [RowScale { step: 1.0, sum: K as i32 }; TOKENS];
        let acts = Acts { codes: &codes, rows: &rows, stride, layout: self.layout() };
        let mut out = vec![0; TOKENS * form.rows()];
        let start = Instant::now();
        for _ in 0..ROUNDS {
            self.dots(panel, form, K, acts, &mut out);
            std::hint::black_box(&out);
        }
        start.elapsed()
    }
}

/// Takes the bytes out of the caches, where a program can.
fn forget(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    for line in bytes.chunks(64) {
        // SAFETY: the address is that of a readable byte, and every x86-64 CPU has the instruction.
        unsafe { std::arch::x86_64::_mm_clflush(line.as_ptr()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    std::hint::black_box(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_table_is_faster_than_scalar() {
        // Not a claim about a machine's load: scalar is slower by an order of magnitude.
        let (scalar, best) = (Kernels::scalar(), Kernels::best());
        if best.name() != scalar.name() {
            assert_eq!(faster_of(best, scalar).name(), best.name());
        }
    }

    #[test]
    fn the_fastest_form_is_dense_and_stays() {
        for table in Kernels::available() {
            let form = table.fastest_form();
            assert!(table.dense_forms().any(|dense| dense == form), "{}: {form:?}", table.name());
            assert_eq!(table.fastest_form(), form, "{}", table.name());
        }
    }
}
