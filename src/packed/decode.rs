//! Each file encoding of trits → codes, one short function an encoding.
//!
//! Bit layouts are drawn in `docs/formats.md`.

use half::f16;

/// An encoding of trits that a file may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TernaryType {
    /// bitnet.cpp: 128 weights in 32 bytes over the flattened tensor, one f32 scale behind it.
    I2S,
    /// llama.cpp: 256 weights in 66 bytes with an f16 scale.
    Tq2_0,
    /// llama.cpp: 256 weights in 54 bytes with an f16 scale.
    Tq1_0,
}

impl TernaryType {
    /// Weights of a row must be a multiple of this.
    pub(crate) const fn block(self) -> usize {
        match self {
            TernaryType::I2S => 128,
            TernaryType::Tq2_0 | TernaryType::Tq1_0 => 256,
        }
    }

    /// Bytes of a row of `k` weights, any scale behind the tensor left out.
    pub(crate) const fn row_bytes(self, k: usize) -> usize {
        match self {
            TernaryType::I2S => k / 4,
            TernaryType::Tq2_0 => k / 256 * 66,
            TernaryType::Tq1_0 => k / 256 * 54,
        }
    }
}

/// Decodes one row to codes 0, 1, 2. Answers the row's scale where the row carries it.
///
/// # Errors
///
/// The rule that the row breaks.
pub(crate) fn row(
    kind: TernaryType,
    bytes: &[u8],
    codes: &mut [u8],
) -> Result<Option<f32>, &'static str> {
    match kind {
        TernaryType::I2S => i2_s(bytes, codes).map(|()| None),
        TernaryType::Tq2_0 => blocks(bytes, codes, 66, |block, codes| {
            for (i, code) in codes.iter_mut().enumerate() {
                let (half, plane, place) = (i / 128, i % 128 / 32, i % 32);
                *code = block[32 * half + place] >> (2 * plane) & 3;
            }
        }),
        TernaryType::Tq1_0 => blocks(bytes, codes, 54, |block, codes| {
            for (i, code) in codes.iter_mut().enumerate() {
                let (byte, digit) = match i {
                    0..160 => (block[i % 32], i / 32),
                    160..240 => (block[32 + (i - 160) % 16], (i - 160) / 16),
                    _ => (block[48 + (i - 240) % 4], (i - 240) / 4),
                };
                let shifted = u16::from(byte.wrapping_mul([1, 3, 9, 27, 81][digit]));
                *code = ((shifted * 3) >> 8) as u8;
            }
        }),
    }
}

/// Blocks of 128: byte `i` holds weights `i`, `32 + i`, `64 + i`, `96 + i` from its top bits down.
fn i2_s(bytes: &[u8], codes: &mut [u8]) -> Result<(), &'static str> {
    let mut threes = 0;
    let (blocks, _) = bytes.as_chunks::<32>();
    let (codes, _) = codes.as_chunks_mut::<128>();
    for (bytes, codes) in blocks.iter().zip(codes) {
        let (planes, _) = codes.as_chunks_mut::<32>();
        for (plane, codes) in planes.iter_mut().enumerate() {
            for (code, byte) in codes.iter_mut().zip(bytes) {
                *code = byte >> (6 - 2 * plane) & 3;
            }
        }
        // A code of 3 has both of its bits.
        threes |= bytes.iter().fold(0, |threes, byte| threes | byte & (byte >> 1) & 0x55);
    }
    if threes == 0 { Ok(()) } else { Err("code 3 is no trit") }
}

/// Blocks of 256 with an f16 scale in the last two bytes; the scale must be one along the row.
fn blocks(
    bytes: &[u8],
    codes: &mut [u8],
    block_bytes: usize,
    decode: impl Fn(&[u8], &mut [u8]),
) -> Result<Option<f32>, &'static str> {
    let mut row_scale = None;
    for (block, codes) in bytes.chunks_exact(block_bytes).zip(codes.chunks_exact_mut(256)) {
        decode(block, codes);
        if codes.iter().any(|code| *code > 2) {
            return Err("code 3 is no trit");
        }
        let scale = f16::from_le_bytes([block[block_bytes - 2], block[block_bytes - 1]]).to_f32();
        if !scale.is_finite() {
            return Err("a block's scale is not finite");
        }
        if scale == 0.0 {
            // Zero times anything: the block is zeros, whatever its codes say.
            codes.fill(1);
        } else if *row_scale.get_or_insert(scale) != scale {
            return Err("scales differ along a row: group-wise scales are not ternary rows");
        }
    }
    Ok(Some(row_scale.unwrap_or(0.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i2_s_reads_planes_from_the_top() {
        let mut bytes = [0x55u8; 32];
        bytes[3] = 0b10_01_00_01;
        let mut codes = [9; 128];
        row(TernaryType::I2S, &bytes, &mut codes).expect("valid");
        assert_eq!((codes[3], codes[35], codes[67], codes[99], codes[4]), (2, 1, 0, 1, 1));
        bytes[31] |= 3;
        assert!(row(TernaryType::I2S, &bytes, &mut codes).is_err());
    }

    /// The encoders as the formats' authors describe them.
    fn encode(kind: TernaryType, codes: &[u8; 256], scale: f32) -> Vec<u8> {
        let mut block = vec![0; kind.row_bytes(256)];
        match kind {
            TernaryType::Tq2_0 => {
                for (i, code) in codes.iter().enumerate() {
                    block[32 * (i / 128) + i % 32] |= code << (2 * (i % 128 / 32));
                }
            }
            _ => {
                let pack = |digits: [u8; 5]| {
                    let value =
                        digits.iter().fold(0u32, |value, digit| value * 3 + u32::from(*digit));
                    (value * 256).div_ceil(243) as u8
                };
                for m in 0..32 {
                    block[m] = pack([0, 1, 2, 3, 4].map(|n| codes[32 * n + m]));
                }
                for m in 0..16 {
                    block[32 + m] = pack([0, 1, 2, 3, 4].map(|n| codes[160 + 16 * n + m]));
                }
                for m in 0..4 {
                    let [a, b, c, d] = [0, 1, 2, 3].map(|n| codes[240 + 4 * n + m]);
                    block[48 + m] = pack([a, b, c, d, 0]);
                }
            }
        }
        let at = block.len() - 2;
        block[at..].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
        block
    }

    #[test]
    fn tq_blocks_round_trip() {
        let mut rng = fastrand::Rng::with_seed(5);
        for kind in [TernaryType::Tq1_0, TernaryType::Tq2_0] {
            let codes: [u8; 256] = std::array::from_fn(|_| rng.u8(0..3));
            let mut bytes = encode(kind, &codes, 0.75);
            bytes.extend(encode(kind, &[2; 256], 0.0));
            let mut got = [9; 512];
            assert_eq!(row(kind, &bytes, &mut got), Ok(Some(0.75)));
            assert_eq!(got[..256], codes, "{kind:?}");
            assert_eq!(got[256..], [1; 256], "{kind:?}: a zero scale means zeros");
            bytes.extend(encode(kind, &codes, 0.5));
            assert!(row(kind, &bytes, &mut [0; 768]).is_err(), "{kind:?}: two scales");
        }
    }
}
