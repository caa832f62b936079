//! Rows out of panels, whose pieces lie too far from each other for the CPU's own prefetchers.

use super::{load_ps, prefetch, store_ps};
use crate::kernels::{PanelRows, Put};
use std::arch::x86_64::*;

/// Rows of the usual panel.
const ROWS: usize = 32;

/// Panels between the one at work and the one that is asked for.
const AHEAD: usize = 8;

/// `ops::gather`: of usual panels whole ones, asked for ahead.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
pub(super) fn gather(
    of: PanelRows<'_>,
    (token, first): (usize, usize),
    put: Put,
    width: usize,
    out: &mut [f32],
) {
    if of.panel != ROWS || !first.is_multiple_of(ROWS) || !width.is_multiple_of(ROWS) {
        return super::gather(of, (token, first), put, width, out);
    }
    let count = out.len() / width;
    let panels = of.values.as_chunks::<ROWS>().0.chunks_exact(of.tokens).skip(first / ROWS);
    for (i, panel) in panels.take(width / ROWS).enumerate() {
        let panel = &panel[token..][..count];
        for (row, from) in out.chunks_exact_mut(width).zip(panel) {
            prefetch(from, AHEAD * of.tokens * ROWS * 4);
            prefetch(from, AHEAD * of.tokens * ROWS * 4 + 64);
            let places = row[i * ROWS..].as_chunks_mut().0;
            for (place, from) in places.iter_mut().zip(from.as_chunks().0) {
                let x = load_ps(from);
                store_ps(
                    place,
                    if put == Put::Onto { _mm512_add_ps(load_ps(place), x) } else { x },
                );
            }
        }
    }
}
