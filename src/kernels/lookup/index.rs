//! The index of rows: packed trits as numbers of entries, in the order in which tables are built.

use super::{Code, Form, GROUPS, stride};

/// See [`Kernels::index`].
#[inline(always)]
pub(in crate::kernels) fn index(panels: &[u8], form: Form, k: usize, index: &mut [u8]) {
    let panels = panels.chunks_exact(form.panel_bytes(k));
    let stride = stride(panels.len() * form.rows());
    for (p, panel) in panels.enumerate() {
        let index = &mut index[GROUPS * p * form.rows()..];
        match form.code {
            Code::Rows => by_rows(panel, k, stride, index),
            Code::Columns => by_columns(panel, stride, index),
            _ => by_steps(panel, form, stride, index),
        }
    }
}

/// Sixteen rows at a time, in the order of an index.
#[inline(always)]
fn by_steps(panel: &[u8], form: Form, stride: usize, index: &mut [u8]) {
    let steps = panel.chunks_exact(GROUPS * form.rows());
    for (step, index) in steps.zip(index.chunks_mut(GROUPS * stride)) {
        for (bytes, index) in step.as_chunks::<64>().0.iter().zip(index.as_chunks_mut::<64>().0) {
            *index = entries(bytes);
        }
    }
}

/// `c0 + 3*c1 + 9*c2 + 27*c3` of bytes of four fields; below 128 even where a field is 3.
#[inline(always)]
fn entries(bytes: &[u8; 64]) -> [u8; 64] {
    let mut entries = [0; 64];
    for (entry, byte) in entries.iter_mut().zip(bytes) {
        let pairs = (byte & 0x33) + 3 * (byte >> 2 & 0x33);
        *entry = (pairs & 15) + 9 * (pairs >> 4);
    }
    entries
}

/// Rows one after the other; the sixteen words of a block belong to as many steps.
#[inline(always)]
fn by_rows(panel: &[u8], k: usize, stride: usize, index: &mut [u8]) {
    for (r, row) in panel.chunks_exact(k / 4).enumerate() {
        for (b, bytes) in row.as_chunks::<64>().0.iter().enumerate() {
            let entries = entries(bytes);
            for (q, entries) in entries.as_chunks::<GROUPS>().0.iter().enumerate() {
                index[GROUPS * ((16 * b + q) * stride + r)..][..GROUPS].copy_from_slice(entries);
            }
        }
    }
}

/// Columns one after the other; a byte holds four rows, so that the four columns of a group meet here.
#[inline(always)]
fn by_columns(panel: &[u8], stride: usize, index: &mut [u8]) {
    let columns: &[[[u8; 64]; 16]] = panel.as_chunks().0.as_chunks().0;
    for (columns, index) in columns.iter().zip(index.chunks_mut(GROUPS * stride)) {
        let index = index.as_chunks_mut::<GROUPS>().0;
        for field in 0..4 {
            let mut groups = [[0u8; 64]; GROUPS];
            for (j, group) in groups.iter_mut().enumerate() {
                for (i, entry) in group.iter_mut().enumerate() {
                    let code = |f: usize| columns[4 * f + j][i] >> (2 * field) & 3;
                    *entry = code(0) + 3 * code(1) + 9 * code(2) + 27 * code(3);
                }
            }
            for (i, index) in index[64 * field..][..64].iter_mut().enumerate() {
                *index = [groups[0][i], groups[1][i], groups[2][i], groups[3][i]];
            }
        }
    }
}
