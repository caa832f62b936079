//! Element kinds, with block length and block bytes, in one table.

use super::Shape;
use std::fmt;

/// How the elements of a tensor are stored. Names are those of GGUF files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(non_camel_case_types, reason = "the names users know from model files")]
pub enum DType {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an IEEE single.
    BF16,
    /// 32 elements: an f16 scale and 32 nibbles.
    Q4_0,
    /// 32 elements: an f16 scale and 32 signed bytes.
    Q8_0,
    /// 256 elements of four bits in eight scaled sub-blocks.
    Q4_K,
    /// 256 elements of six bits in sixteen scaled sub-blocks.
    Q6_K,
    /// 256 trits, five to a byte, and an f16 scale.
    TQ1_0,
    /// 256 trits, four to a byte, and an f16 scale.
    TQ2_0,
    /// Trits, four to a byte, in blocks of 128, and one f32 scale per tensor.
    I2_S,
    /// This library's panels of 16 rows, two bits a trit, then one f32 scale a row.
    TERN_T2_16,
    /// The same in panels of 32 rows.
    TERN_T2_32,
    /// This library's panels of 32 rows, five trits a byte, then one f32 scale a row.
    TERN_T3_32,
    /// This library's single rows, two bits a trit, 32 a panel, then one f32 scale a row.
    TERN_R2_32,
    /// This library's columns of 256 rows, two bits a trit, then one f32 scale a row.
    TERN_C2_256,
    /// This library's screen of a head: high nibbles of all rows, middle pairs, low pairs, then four f32 a row.
    TERN_H8,
}

/// One row of the table: what a kind is called in a file and how much room it takes.
struct Layout {
    dtype: DType,
    id: u32,
    name: &'static str,
    /// Elements per block; a row is whole blocks.
    block: u64,
    block_bytes: u64,
    /// Bytes after the last block of the whole tensor.
    tail_bytes: u64,
}

/// Type ids of this library's own packed layouts.
///
/// Far from the ids of GGUF's authors (below 256) and of its forks (below 512).
pub const PACKED_IDS: std::ops::Range<u32> = 0x7e00..0x7f00;

const LAYOUTS: &[Layout] = &[
    layout(DType::F32, 0, "F32", 1, 4, 0),
    layout(DType::F16, 1, "F16", 1, 2, 0),
    layout(DType::Q4_0, 2, "Q4_0", 32, 18, 0),
    layout(DType::Q8_0, 8, "Q8_0", 32, 34, 0),
    layout(DType::Q4_K, 12, "Q4_K", 256, 144, 0),
    layout(DType::Q6_K, 14, "Q6_K", 256, 210, 0),
    layout(DType::BF16, 30, "BF16", 1, 2, 0),
    layout(DType::TQ1_0, 34, "TQ1_0", 256, 54, 0),
    layout(DType::TQ2_0, 35, "TQ2_0", 256, 66, 0),
    // The tail holds the scale in its first four bytes; the rest may be garbage.
    layout(DType::I2_S, 36, "I2_S", 128, 32, 32),
    // Rows are padded to whole panels and steps: `packed_bytes` has the sizes.
    layout(DType::TERN_T2_16, 0x7e00, "TERN_T2_16", 128, 32, 0),
    layout(DType::TERN_T2_32, 0x7e01, "TERN_T2_32", 128, 32, 0),
    layout(DType::TERN_T3_32, 0x7e02, "TERN_T3_32", 128, 32, 0),
    layout(DType::TERN_R2_32, 0x7e03, "TERN_R2_32", 256, 64, 0),
    layout(DType::TERN_C2_256, 0x7e04, "TERN_C2_256", 128, 32, 0),
    layout(DType::TERN_H8, 0x7e06, "TERN_H8", 128, 128, 0),
];

const fn layout(
    dtype: DType,
    id: u32,
    name: &'static str,
    block: u64,
    block_bytes: u64,
    tail_bytes: u64,
) -> Layout {
    Layout { dtype, id, name, block, block_bytes, tail_bytes }
}

impl DType {
    /// The kind with a GGUF type id, if this library knows its layout.
    #[must_use]
    pub fn from_id(id: u32) -> Option<DType> {
        LAYOUTS.iter().find(|row| row.id == id).map(|row| row.dtype)
    }

    /// Every kind in the table.
    pub fn all() -> impl Iterator<Item = DType> {
        LAYOUTS.iter().map(|row| row.dtype)
    }

    /// Its id in a GGUF tensor directory.
    #[must_use]
    pub fn id(self) -> u32 {
        self.layout().id
    }

    /// Its name, such as `"I2_S"`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.layout().name
    }

    /// Elements per block: row lengths are multiples of this.
    #[must_use]
    pub fn block(self) -> u64 {
        self.layout().block
    }

    /// Bytes per block.
    #[must_use]
    pub fn block_bytes(self) -> u64 {
        self.layout().block_bytes
    }

    /// Whether every element is −1, 0 or +1 times a scale.
    #[must_use]
    pub fn is_ternary(self) -> bool {
        matches!(self, DType::I2_S | DType::TQ1_0 | DType::TQ2_0) || self.panel().is_some()
    }

    /// Rows of a panel and weights of a step, for this library's own layouts (docs/formats.md).
    #[must_use]
    pub fn panel(self) -> Option<(u64, u64)> {
        match self {
            DType::TERN_T2_16 => Some((16, 16)),
            DType::TERN_T2_32 => Some((32, 16)),
            DType::TERN_T3_32 => Some((32, 20)),
            DType::TERN_R2_32 => Some((32, 16)),
            DType::TERN_C2_256 => Some((256, 16)),
            _ => None,
        }
    }

    /// Bytes of a tensor in panels: each row and step takes four.
    fn packed_bytes(shape: &Shape, (rows, step): (u64, u64)) -> Option<u64> {
        let padded = shape.rows().checked_next_multiple_of(rows)?;
        shape.columns().div_ceil(step).checked_mul(4)?.checked_mul(padded)
    }

    /// Bytes of one row of `columns` elements, without the tensor's tail.
    ///
    /// `None` if the row is not whole blocks or its size overflows.
    #[must_use]
    pub fn row_bytes(self, columns: u64) -> Option<u64> {
        let row = self.layout();
        columns
            .is_multiple_of(row.block)
            .then(|| (columns / row.block).checked_mul(row.block_bytes))?
    }

    /// Bytes of a whole tensor, tail included.
    ///
    /// `None` if its rows are not whole blocks or its size overflows.
    #[must_use]
    pub fn tensor_bytes(self, shape: &Shape) -> Option<u64> {
        if let Some(panel) = self.panel() {
            self.row_bytes(shape.columns())?;
            return DType::packed_bytes(shape, panel);
        }
        let extra = if self == DType::TERN_H8 { 16 } else { 0 };
        let row = self.row_bytes(shape.columns())?.checked_add(extra)?;
        let rows = row.checked_mul(shape.rows())?;
        rows.checked_add(self.layout().tail_bytes)
    }

    fn layout(self) -> &'static Layout {
        LAYOUTS
            .iter()
            .find(|row| row.dtype == self)
            .expect("a test holds every kind against the table")
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a type id that [`DType::from_id`] does not know means elsewhere, and what its user can do.
///
/// Forks of GGUF's first implementation gave some ids a second meaning, and a
/// file does not say which fork wrote it: both meanings are named.
pub(crate) fn foreign_type(id: u32) -> (&'static str, &'static str) {
    const REQUANTIZE: &str = "requantize the tensor to F16 or Q8_0";
    const TERNARY: &str = "convert the original weights to I2_S or TQ2_0";
    match id {
        3 => ("Q4_1", REQUANTIZE),
        4 | 5 | 31..=33 => ("withdrawn", REQUANTIZE),
        6 => ("Q5_0", REQUANTIZE),
        7 => ("Q5_1", REQUANTIZE),
        9 => ("Q8_1", REQUANTIZE),
        10 => ("Q2_K", REQUANTIZE),
        11 => ("Q3_K", REQUANTIZE),
        13 => ("Q5_K", REQUANTIZE),
        15 => ("Q8_K", REQUANTIZE),
        16 => ("IQ2_XXS", REQUANTIZE),
        17 => ("IQ2_XS", REQUANTIZE),
        18 => ("IQ3_XXS", REQUANTIZE),
        19 => ("IQ1_S", REQUANTIZE),
        20 => ("IQ4_NL", REQUANTIZE),
        21 => ("IQ3_S", REQUANTIZE),
        22 => ("IQ2_S", REQUANTIZE),
        23 => ("IQ4_XS", REQUANTIZE),
        24..=27 => ("integers", REQUANTIZE),
        28 => ("F64", REQUANTIZE),
        29 => ("IQ1_M", REQUANTIZE),
        37 => ("I8_S, which belongs in no file", TERNARY),
        38 => ("TL1", "convert to I2_S"),
        39 => ("TL2 in BitNet forks, MXFP4 upstream", "convert to I2_S"),
        40 => ("NVFP4", "use a ternary model"),
        41 => ("Q1_0, binary weights", "use a ternary model"),
        42 => ("TL2 in BitNet forks, Q2_0 upstream", "convert to I2_S"),
        134 => ("IQ1_BN of ik_llama.cpp", "take the I2_S file the model was published as"),
        135 => ("IQ2_BN of ik_llama.cpp", "take the I2_S file the model was published as"),
        335 => ("IQ2_BN_R4 of ik_llama.cpp", "take the I2_S file the model was published as"),
        142 => ("PQ2_0 of PrismML", TERNARY),
        143 => ("PTQ1_0 of PrismML", TERNARY),
        id if PACKED_IDS.contains(&id) => {
            ("a packed layout of another version", "convert the original file again")
        }
        _ => ("unknown", "use a file with I2_S, TQ1_0 or TQ2_0 weights"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_one_row() {
        let kinds: Vec<_> = DType::all().collect();
        for (i, kind) in kinds.iter().enumerate() {
            assert_eq!(DType::from_id(kind.id()), Some(*kind), "{kind}");
            assert_eq!(kind.to_string(), format!("{kind:?}"));
            assert!(!kinds[..i].contains(kind), "{kind} twice");
        }
        // The compiler asks for a line here when a kind is added.
        for kind in kinds {
            match kind {
                DType::F32 | DType::F16 | DType::BF16 | DType::Q4_0 | DType::Q8_0 => {}
                DType::Q4_K | DType::Q6_K | DType::TQ1_0 | DType::TQ2_0 | DType::I2_S => {}
                DType::TERN_T2_16 | DType::TERN_T2_32 | DType::TERN_T3_32 => {}
                DType::TERN_R2_32 | DType::TERN_C2_256 | DType::TERN_H8 => {}
            }
        }
    }

    #[test]
    fn sizes_are_those_of_the_official_file() {
        let bytes = |kind: DType, dims: &[u64]| kind.tensor_bytes(&Shape::new(dims).unwrap());
        assert_eq!(bytes(DType::F16, &[2560, 128_256]), Some(656_670_720));
        let layer = 2 * (2560 * 2560 + 2560 * 640) + 3 * (2560 * 6912);
        let ternary = [[2560, 2560], [2560, 640], [2560, 640], [2560, 2560]]
            .iter()
            .chain(&[[2560, 6912], [2560, 6912], [6912, 2560]])
            .map(|dims| bytes(DType::I2_S, dims).unwrap())
            .sum::<u64>();
        assert_eq!(ternary, layer / 4 + 7 * 32);
        assert_eq!(30 * ternary, 521_017_920);
        assert_eq!(bytes(DType::TQ1_0, &[2560, 3]), Some(30 * 54));
        assert_eq!(bytes(DType::TQ2_0, &[2560, 3]), Some(30 * 66));
        assert_eq!(bytes(DType::Q6_K, &[512, 2]), Some(4 * 210));
        assert_eq!(bytes(DType::Q8_0, &[96, 2]), Some(6 * 34));
    }

    #[test]
    fn broken_rows_have_no_size() {
        for kind in DType::all().filter(|kind| kind.block() > 1) {
            let shape = Shape::new(&[kind.block() + 1, 2]).unwrap();
            assert_eq!(kind.tensor_bytes(&shape), None, "{kind}");
        }
        let huge = Shape::new(&[1 << 62]).unwrap();
        assert_eq!(DType::F32.tensor_bytes(&huge), None);
    }
}
