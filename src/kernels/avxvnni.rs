//! x86-64 with AVX-VNNI: Alder Lake, Sierra Forest, Zen 5 and later. AVX2 in everything but the ternary products.
//!
//! `vpdpbusd` on registers of 256 bits: half a tile of one step, 8 rows of four bytes. The algorithm and its
//! bounds are those of `avx512/dots.rs`; a CPU with AVX-512 has the same instruction in another encoding,
//! and tests run that one where the shorter encoding is missing.

use super::screen::{
    FirstTermsOf, ROWS,
    six_bits::{Codes, Rows, STATES, in_chunks},
};
use super::{Acts, ActsLayout, Code, Form, Kernels, RowScale, avx2};
use avx2::{
    TWO_BITS, load32, prefetch,
    sparse::{load_i8, reduce_add},
    splat, store_i32,
};
use std::arch::x86_64::*;

/// How far ahead of itself the stream asks for lines.
const AHEAD: usize = 4 << 10;

/// One step of a panel, in two halves of eight rows.
type Step = [[u8; 32]; 2];

/// The sums of one token.
type Sums = [[i32; 8]; 2];

/// The table, but for its name and its products.
macro_rules! table {
    ($name:literal, $dots:expr, $first_terms:expr) => {
        Kernels {
            name: $name,
            forms: &[TWO_BITS, Form::ROWS, Form::COLUMNS],
            // Six tokens by 16 rows: twelve accumulators in sixteen registers.
            layout: ActsLayout { block: 6, unit: 4 },
            dots: $dots,
            first_terms: Some($first_terms),
            look_up: None,
            ..avx2::TABLE
        }
    };
}

/// The products with one encoding of the instruction.
macro_rules! products {
    ($features:literal, $dpbusd:ident) => {
        #[target_feature(enable = $features)]
        pub(super) fn dots(panel: &[u8], form: Form, k: usize, acts: Acts<'_>, out: &mut [i32]) {
            if form.code != Code::Bits2 {
                return avx2::several::dots(panel, form, k, acts, out);
            }
            let steps = panel.as_chunks().0.as_chunks().0;
            let out = out.as_chunks_mut().0.as_chunks_mut().0;
            for (first, width, codes) in acts.blocks() {
                let rows = &acts.rows[first..][..width];
                let out = &mut out[first..][..width];
                match width {
                    1 => one(steps, codes, &rows[0], &mut out[0]),
                    2 => several::<2>(steps, codes, rows, out),
                    3 => several::<3>(steps, codes, rows, out),
                    4 => several::<4>(steps, codes, rows, out),
                    5 => several::<5>(steps, codes, rows, out),
                    _ => several::<6>(steps, codes, rows, out),
                }
            }
        }

        #[target_feature(enable = $features)]
        fn one(steps: &[Step], codes: &[i8], row: &RowScale, out: &mut Sums) {
            let masks = [0x03, 0x0c, 0x30, 0xc0u8 as i8];
            let mut acc = [[_mm256_setzero_si256(); 4]; 2];
            for (step, acts) in steps.iter().zip(codes.as_chunks::<16>().0) {
                prefetch(step, AHEAD);
                let acts = acts.as_chunks::<4>().0;
                for (half, acc) in step.iter().zip(&mut acc) {
                    let x = load32(half);
                    for f in 0..4 {
                        let c = _mm256_and_si256(x, _mm256_set1_epi8(masks[f]));
                        acc[f] = $dpbusd(acc[f], c, splat(acts[f]));
                    }
                }
            }
            for (out, acc) in out.iter_mut().zip(acc) {
                let low = _mm256_add_epi32(acc[0], _mm256_srai_epi32::<2>(acc[1]));
                let (third, top) = (_mm256_srai_epi32::<4>(acc[2]), _mm256_srai_epi32::<6>(acc[3]));
                let sum = _mm256_add_epi32(low, _mm256_add_epi32(third, top));
                store_i32(out, _mm256_sub_epi32(sum, _mm256_set1_epi32(row.sum)));
            }
        }

        #[target_feature(enable = $features)]
        fn several<const W: usize>(
            steps: &[Step],
            codes: &[i8],
            rows: &[RowScale],
            out: &mut [Sums],
        ) {
            let mut acc = [[_mm256_setzero_si256(); 2]; W];
            // Values of W tokens lie in words of four, field after field: [field][token].
            let fields = codes.as_chunks::<4>().0.as_chunks::<W>().0.as_chunks::<4>().0;
            for (step, fields) in steps.iter().zip(fields) {
                prefetch(step, AHEAD);
                multiply::<W, 0>(&mut acc, step, &fields[0]);
                multiply::<W, 2>(&mut acc, step, &fields[1]);
                multiply::<W, 4>(&mut acc, step, &fields[2]);
                multiply::<W, 6>(&mut acc, step, &fields[3]);
            }
            for ((acc, row), out) in acc.iter().zip(rows).zip(out) {
                for (acc, out) in acc.iter().zip(out) {
                    store_i32(out, _mm256_sub_epi32(*acc, _mm256_set1_epi32(row.sum)));
                }
            }
        }

        #[target_feature(enable = $features)]
        pub(super) fn first_terms(of: FirstTermsOf<'_>, out: &mut [[i32; 2]]) {
            in_chunks(of, out, |rows, codes| product(rows, codes));
        }

        /// Four rows by two states at a time are eight sums.
        #[target_feature(enable = $features)]
        fn product(rows: Rows<'_>, codes: Codes<'_>) -> [[i32; ROWS]; STATES] {
            let rows = rows.map(|row| row.as_chunks::<32>().0);
            let mut sums = [[0; ROWS]; STATES];
            for (sums, codes) in sums.chunks_exact_mut(2).zip(codes.chunks_exact(2)) {
                let codes = [codes[0], codes[1]].map(|codes| codes.as_chunks::<32>().0);
                let mut acc = [[_mm256_setzero_si256(); ROWS]; 2];
                for (i, codes) in codes[0].iter().zip(codes[1]).enumerate() {
                    let codes = [load_i8(codes.0), load_i8(codes.1)];
                    for (r, row) in rows.iter().enumerate() {
                        let row = load32(&row[i]);
                        acc[0][r] = $dpbusd(acc[0][r], row, codes[0]);
                        acc[1][r] = $dpbusd(acc[1][r], row, codes[1]);
                    }
                }
                for (sums, acc) in sums.iter_mut().zip(acc) {
                    *sums = acc.map(|acc| reduce_add(acc));
                }
            }
            sums
        }

        /// One field of both halves with its acts of every token.
        #[inline]
        #[target_feature(enable = $features)]
        fn multiply<const W: usize, const SHIFT: i32>(
            acc: &mut [[__m256i; 2]; W],
            step: &Step,
            acts: &[[i8; 4]; W],
        ) {
            let mask = _mm256_set1_epi8(3);
            let c = [
                _mm256_and_si256(_mm256_srli_epi16::<SHIFT>(load32(&step[0])), mask),
                _mm256_and_si256(_mm256_srli_epi16::<SHIFT>(load32(&step[1])), mask),
            ];
            for (acc, acts) in acc.iter_mut().zip(acts) {
                let acts = splat(*acts);
                for (acc, c) in acc.iter_mut().zip(c) {
                    *acc = $dpbusd(*acc, c, acts);
                }
            }
        }
    };
}

products!("avx2,avxvnni", _mm256_dpbusd_avx_epi32);

pub(super) static KERNELS: Kernels = table!("avxvnni", dots, first_terms);

/// Whether this CPU has what [`KERNELS`] enables.
pub(super) fn detected() -> bool {
    avx2::detected() && is_x86_feature_detected!("avxvnni")
}

#[cfg(test)]
pub(super) mod evex {
    //! The same products in the encoding of AVX-512.

    use super::*;

    products!("avx2,avx512f,avx512vl,avx512vnni", _mm256_dpbusd_epi32);

    static KERNELS: Kernels = table!("avxvnni, encoded as AVX-512", dots, first_terms);

    /// The table, where this CPU can run it.
    pub(in crate::kernels) fn table() -> Option<&'static Kernels> {
        let detected = avx2::detected()
            && is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("avx512vl");
        detected.then_some(&KERNELS)
    }
}
