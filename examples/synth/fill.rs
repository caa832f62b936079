//! Random weights in every stored form, the same on every machine.

use half::f16;
use std::io::{self, Write};
use tern::tensor::DType;

/// Four trits that stand in a row, as codes: 0, 1, 2 for −1, 0, +1.
pub(crate) type Quad = [u8; 4];

/// Writes `elements` trits of which a share `zeros` is 0 and the rest has equal signs; `given` may know better, for
/// four trits from an element on.
///
/// `elements` is a multiple of the kind's block.
pub(crate) fn trits(
    out: &mut impl Write,
    dtype: DType,
    elements: u64,
    (zeros, scale): (f64, f32),
    given: impl Fn(u64) -> Option<Quad>,
    rng: &mut fastrand::Rng,
) -> io::Result<()> {
    let quads = quads(zeros);
    let mut draw = |codes: &mut [Quad]| {
        for codes in codes.chunks_mut(4) {
            let random = rng.u64(..).to_le_bytes();
            for (codes, index) in codes.iter_mut().zip(random.chunks_exact(2)) {
                *codes = quads[usize::from(u16::from_le_bytes([index[0], index[1]]))];
            }
        }
    };
    let block = dtype.block() as usize;
    let mut codes = vec![[0u8; 4]; 64 * block / 4];
    let mut bytes = Vec::new();
    for first in (0..elements).step_by(4 * codes.len()) {
        let len = codes.len().min(((elements - first) / 4) as usize);
        draw(&mut codes[..len]);
        for (i, codes) in codes[..len].iter_mut().enumerate() {
            *codes = given(first + 4 * i as u64).unwrap_or(*codes);
        }
        bytes.clear();
        for block in codes[..len].as_flattened().chunks_exact(block) {
            encode(&mut bytes, dtype, block, scale);
        }
        out.write_all(&bytes)?;
    }
    if dtype == DType::I2_S {
        let mut tail = [0; 32];
        tail[..4].copy_from_slice(&scale.to_le_bytes());
        out.write_all(&tail)?;
    }
    Ok(())
}

/// For each 16 random bits, four independent codes: 0, 1, 2 for −1, 0, +1.
fn quads(zeros: f64) -> Vec<Quad> {
    let share = [(1.0 - zeros) / 2.0, zeros, (1.0 - zeros) / 2.0];
    let mut quads = Vec::with_capacity(1 << 16);
    let mut sum = 0.0;
    for i in 0..81u8 {
        let codes = [i / 27, i / 9 % 3, i / 3 % 3, i % 3];
        sum += codes.iter().map(|code| share[usize::from(*code)]).product::<f64>();
        quads.resize((sum * 65_536.0).round() as usize, codes);
    }
    quads
}

/// Appends one block of codes.
fn encode(bytes: &mut Vec<u8>, dtype: DType, codes: &[u8], scale: f32) {
    let base3 = |digits: &mut dyn Iterator<Item = u8>, len: u32| {
        // Fewer than five digits stand at the high end, as if zeros followed.
        let number = digits.fold(0u16, |sum, digit| 3 * sum + u16::from(digit)) * 3u16.pow(5 - len);
        (number * 256).div_ceil(243) as u8
    };
    match dtype {
        DType::I2_S => bytes.extend(
            (0..32)
                .map(|i| codes[i] << 6 | codes[32 + i] << 4 | codes[64 + i] << 2 | codes[96 + i]),
        ),
        DType::TQ2_0 => bytes.extend((0..64).map(|i| {
            let codes = &codes[128 * (i / 32) + i % 32..];
            codes[0] | codes[32] << 2 | codes[64] << 4 | codes[96] << 6
        })),
        DType::TQ1_0 => {
            bytes.extend((0..32).map(|i| base3(&mut (0..5).map(|n| codes[32 * n + i]), 5)));
            bytes.extend((0..16).map(|i| base3(&mut (0..5).map(|n| codes[160 + 16 * n + i]), 5)));
            bytes.extend((0..4).map(|i| base3(&mut (0..4).map(|n| codes[240 + 4 * n + i]), 4)));
        }
        other => unreachable!("{other} holds no trits"),
    }
    if dtype != DType::I2_S {
        bytes.extend(f16::from_f32(scale).to_le_bytes());
    }
}

/// Writes `rows` rows of floats, nearly normal with the deviation `sigma` around 0; `constant` instead at the start of each.
pub(crate) fn normal(
    out: &mut impl Write,
    dtype: DType,
    (rows, columns): (u64, u64),
    sigma: f32,
    constant: &[f32],
    rng: &mut fastrand::Rng,
) -> io::Result<()> {
    // Four uniform numbers of 16 bits sum to 131070 on average, with this deviation.
    let unit = sigma / 37_837.23;
    let mut row = vec![0.0; columns as usize];
    let mut bytes = Vec::new();
    for _ in 0..rows {
        for value in &mut row {
            let random = rng.u64(..);
            let sum = (0..4).map(|i| (random >> (16 * i) & 0xffff) as i32).sum::<i32>();
            *value = (sum - 131_070) as f32 * unit;
        }
        row[..constant.len()].copy_from_slice(constant);
        bytes.clear();
        floats(&mut bytes, dtype, &row);
        out.write_all(&bytes)?;
    }
    Ok(())
}

/// Appends one row of floats in a stored form.
pub(crate) fn floats(bytes: &mut Vec<u8>, dtype: DType, row: &[f32]) {
    match dtype {
        DType::F32 => bytes.extend(row.iter().flat_map(|x| x.to_le_bytes())),
        DType::F16 => bytes.extend(row.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes())),
        DType::BF16 => {
            bytes.extend(row.iter().flat_map(|x| half::bf16::from_f32(*x).to_le_bytes()))
        }
        DType::Q8_0 => row.chunks_exact(32).for_each(|block| q8_0(bytes, block)),
        DType::Q6_K => row.chunks_exact(256).for_each(|block| q6_k(bytes, block)),
        other => unreachable!("{other} is not written here"),
    }
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |max, value| max.max(value.abs()))
}

fn q8_0(bytes: &mut Vec<u8>, block: &[f32]) {
    let d = f16::from_f32(largest(block) / 127.0);
    let inverse = if d.to_f32() > 0.0 { 1.0 / d.to_f32() } else { 0.0 };
    bytes.extend(d.to_le_bytes());
    bytes.extend(block.iter().map(|x| (x * inverse).round_ties_even() as i8 as u8));
}

fn q6_k(bytes: &mut Vec<u8>, block: &[f32]) {
    let d = f16::from_f32(largest(block) / (31.0 * 127.0));
    let inverse = if d.to_f32() > 0.0 { 1.0 / d.to_f32() } else { 0.0 };
    let (mut low, mut high, mut scales) = ([0u8; 128], [0u8; 64], [0u8; 16]);
    for (sub, values) in block.chunks_exact(16).enumerate() {
        // Rounded up, so that 31 steps reach the largest value.
        let scale = (largest(values) / 31.0 * inverse).ceil().min(127.0);
        scales[sub] = scale as i8 as u8;
        let inverse = if scale > 0.0 { inverse / scale } else { 0.0 };
        for (i, value) in values.iter().enumerate() {
            let code = ((value * inverse).round_ties_even() as i32).clamp(-32, 31) + 32;
            let (half, at) = ((16 * sub + i) / 128, (16 * sub + i) % 128);
            let (quarter, at) = (at / 32, at % 32);
            low[64 * half + 32 * (quarter % 2) + at] |= (code as u8 & 15) << (4 * (quarter / 2));
            high[32 * half + at] |= (code as u8 >> 4) << (2 * quarter);
        }
    }
    bytes.extend(low);
    bytes.extend(high);
    bytes.extend(scales);
    bytes.extend(d.to_le_bytes());
}
