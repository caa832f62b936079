//! The meaning of every kernel, in the plainest code.

use super::{
    Acts, ActsLayout, Code, Form, Kernels, Live, RowType, RowsOf,
    screen::{self, PairsOf, PlaneOf},
    sparse::Sparse,
    stamp::stamp,
};
use crate::ops;
use half::{bf16, f16, slice::HalfFloatSliceExt};

#[cfg(not(target_arch = "aarch64"))]
type Fma = ops::Software;
#[cfg(target_arch = "aarch64")]
type Fma = ops::Hardware;

pub(super) static KERNELS: Kernels = Kernels {
    name: "scalar",
    forms: &[
        Form { code: Code::Bits2, tiles: 1 },
        Form { code: Code::Bits2, tiles: 2 },
        Form { code: Code::Bits2, tiles: 4 },
        Form { code: Code::Base3, tiles: 1 },
        Form { code: Code::Base3, tiles: 2 },
        Form { code: Code::Base3, tiles: 4 },
        Form::ROWS,
        Form::COLUMNS,
    ],
    layout: ActsLayout { block: 1, unit: 4 },
    dots,
    stream: None,
    rms_norm,
    quantize,
    rescale,
    relu2_mul,
    silu_mul,
    gather,
    rotate,
    attend,
    merge,
    row_dots,
    sparse: SPARSE,
    split_row,
    limits,
    nibbles,
    pairs,
    states: None,
    first_terms: None,
    look_up: None,
    inputs: None,
};

pub(super) const SPARSE: Sparse = Sparse { live_rows, live_columns };

stamp!(Fma);

/// The code of field `f` of a byte.
pub(super) fn code(byte: u8, field: usize, code: Code) -> u8 {
    match code {
        Code::Bits2 | Code::Rows | Code::Columns => byte >> (2 * field) & 3,
        Code::Base3 => match field {
            4 => byte / 85,
            _ => byte % 85 / [1, 3, 9, 27][field] % 3,
        },
    }
}

fn dots(panel: &[u8], form: Form, k: usize, acts: Acts<'_>, out: &mut [i32]) {
    match form.code {
        Code::Bits2 | Code::Base3 => tile_dots(panel, form, acts, out),
        Code::Rows => {
            let all: Vec<u32> = (0..form.rows() as u32).collect();
            for (token, (row, out)) in
                acts.rows.iter().zip(out.chunks_exact_mut(all.len())).enumerate()
            {
                let acts = &acts.codes[token * acts.stride..][..acts.stride];
                live_rows(RowsOf { rows: panel, k, acts, sum: row.sum }, &all, out);
            }
        }
        Code::Columns => {
            let places: Vec<u32> = (0..k as u32).collect();
            let (out, _) = out.as_chunks_mut();
            for (token, (row, out)) in acts.rows.iter().zip(out).enumerate() {
                let codes = &acts.codes[token * acts.stride..][..k];
                live_columns(panel, Live { places: &places, codes, sum: row.sum }, out);
            }
        }
    }
}

fn live_rows(of: RowsOf<'_>, live: &[u32], out: &mut [i32]) {
    let bytes = of.k / 4;
    for (row, out) in live.iter().zip(out) {
        *out = -of.sum;
        let row = &of.rows[*row as usize * bytes..][..bytes];
        for (block, acts) in row.chunks_exact(64).zip(of.acts.chunks_exact(256)) {
            for (field, acts) in acts.chunks_exact(64).enumerate() {
                for (byte, act) in block.iter().zip(acts) {
                    *out += i32::from(code(*byte, field, Code::Rows)) * i32::from(*act);
                }
            }
        }
    }
}

fn live_columns(panel: &[u8], live: Live<'_>, out: &mut [i32; 256]) {
    out.fill(-live.sum);
    for (place, act) in live.places.iter().zip(live.codes) {
        let column = &panel[*place as usize * 64..][..64];
        for (field, out) in out.chunks_exact_mut(64).enumerate() {
            for (byte, out) in column.iter().zip(out) {
                *out += i32::from(code(*byte, field, Code::Columns)) * i32::from(*act);
            }
        }
    }
}

pub(super) fn nibbles(of: PlaneOf<'_>, out: &mut [[i32; 2]]) {
    out.fill([0; 2]);
    for (group, out) in of.rows.chunks(screen::ROWS * of.k / 2).zip(out.chunks_mut(screen::ROWS)) {
        for (b, lines) in group.chunks_exact(64 * out.len()).enumerate() {
            for (line, out) in lines.chunks_exact(64).zip(&mut *out) {
                for (codes, out) in of.codes.iter().zip(out) {
                    let codes = &codes[128 * b..][..128];
                    for (i, byte) in line.iter().enumerate() {
                        *out += i32::from(byte & 15) * i32::from(codes[i]);
                        *out += i32::from(byte >> 4) * i32::from(codes[64 + i]);
                    }
                }
            }
        }
    }
}

pub(super) fn pairs(of: PairsOf<'_>, live: &[u32], out: &mut [i32]) {
    let bytes = of.k / 4;
    for (row, out) in live.iter().zip(out) {
        let row = &of.rows[*row as usize * bytes..][..bytes];
        *out = 0;
        for (field, codes) in of.codes.chunks_exact(bytes).enumerate() {
            for (byte, act) in row.iter().zip(codes) {
                *out += i32::from(code(*byte, field, Code::Rows)) * i32::from(*act);
            }
        }
    }
}

/// Dense panels: tiles of sixteen rows, four bytes a row and step.
fn tile_dots(panel: &[u8], form: Form, acts: Acts<'_>, out: &mut [i32]) {
    let (rows, step) = (form.rows(), form.step());
    for (token, (row, out)) in acts.rows.iter().zip(out.chunks_exact_mut(rows)).enumerate() {
        let codes = &acts.codes[token * acts.stride..][..acts.stride];
        // dot = sum of code * act, less the sum of acts, as a weight is its code less one.
        out.fill(-row.sum);
        for (panel, acts) in panel.chunks_exact(rows * 4).zip(codes.chunks_exact(step)) {
            for (bytes, out) in panel.chunks_exact(4).zip(out.iter_mut()) {
                for (field, acts) in acts.chunks_exact(4).enumerate() {
                    for (byte, act) in bytes.iter().zip(acts) {
                        *out += i32::from(code(*byte, field, form.code)) * i32::from(*act);
                    }
                }
            }
        }
    }
}

/// `S16` dots of decoded rows.
fn row_dots(rows: &[u8], kind: RowType, inputs: &[f32], k: usize, out: &mut [f32]) {
    let bytes = kind.row_bytes(k).expect("checked by the caller");
    let count = rows.len() / bytes;
    let mut decoded = vec![0.0; k];
    for (r, row) in rows.chunks_exact(bytes).enumerate() {
        decode_row(row, kind, &mut decoded);
        for (i, input) in inputs.chunks_exact(k).enumerate() {
            out[i * count + r] = ops::dot::<Fma>(input, &decoded);
        }
    }
}

/// One row of a full-precision matrix as f32.
pub(super) fn decode_row(row: &[u8], kind: RowType, out: &mut [f32]) {
    match kind {
        RowType::F32 => {
            for (out, bytes) in out.iter_mut().zip(row.chunks_exact(4)) {
                *out = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
        }
        RowType::F16 => {
            // Several at once: the crate looks for the CPU's conversion at every call.
            let mut halves = [f16::ZERO; 64];
            for (out, row) in out.chunks_mut(64).zip(row.chunks(128)) {
                let halves = &mut halves[..out.len()];
                for (half, bytes) in halves.iter_mut().zip(row.chunks_exact(2)) {
                    *half = f16::from_le_bytes([bytes[0], bytes[1]]);
                }
                halves.convert_to_f32_slice(out);
            }
        }
        RowType::Bf16 => {
            for (out, bytes) in out.iter_mut().zip(row.chunks_exact(2)) {
                *out = bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
            }
        }
        RowType::Q8_0 => {
            for (out, block) in out.chunks_exact_mut(32).zip(row.chunks_exact(34)) {
                let d = f16::from_le_bytes([block[0], block[1]]).to_f32();
                for (out, q) in out.iter_mut().zip(&block[2..]) {
                    *out = d * f32::from(*q as i8);
                }
            }
        }
        RowType::Q6K => {
            for (out, block) in out.chunks_exact_mut(256).zip(row.chunks_exact(210)) {
                decode_q6_k(block, out);
            }
        }
    }
}

/// A block of 256 six-bit values: low nibbles, high pairs, sixteen i8 scales, f16 scale.
fn decode_q6_k(block: &[u8], out: &mut [f32]) {
    let (low, rest) = block.split_at(128);
    let (high, rest) = rest.split_at(64);
    let (scales, d) = rest.split_at(16);
    let d = f16::from_le_bytes([d[0], d[1]]).to_f32();
    for (i, out) in out.iter_mut().enumerate() {
        // Half h of 128, quarter q of 32, place l: quarters 0 and 1 are low nibbles, 2 and 3 high ones.
        let (h, q, l) = (i / 128, i % 128 / 32, i % 32);
        let nibble = low[64 * h + 32 * (q % 2) + l] >> (4 * (q / 2)) & 15;
        let pair = high[32 * h + l] >> (2 * q) & 3;
        let value = i32::from(nibble | pair << 4) - 32;
        *out = (d * f32::from(scales[i / 16] as i8)) * value as f32;
    }
}
