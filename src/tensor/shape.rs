//! Dimensions, and checked arithmetic on them.

use std::fmt;

/// One to four dimensions, none of them zero, whose product fits an `i64`.
///
/// The first dimension is the fastest: a matrix of `rows` outputs over
/// `columns` inputs has the dimensions `[columns, rows]`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: [u64; 4],
    rank: u8,
    elements: u64,
}

impl Shape {
    /// Most dimensions a tensor may have.
    pub const RANK_MAX: usize = 4;

    /// Checks `dims` and computes their product; the error is the broken rule.
    ///
    /// # Errors
    ///
    /// If there are no dimensions or more than four, if one is zero, or if a
    /// partial product exceeds `i64::MAX`.
    pub fn new(dims: &[u64]) -> Result<Shape, String> {
        if dims.is_empty() || dims.len() > Self::RANK_MAX {
            return Err(format!("{} dimensions, wanted 1 to {}", dims.len(), Self::RANK_MAX));
        }
        let mut shape = Shape { dims: [1; 4], rank: dims.len() as u8, elements: 1 };
        for (i, (&dim, slot)) in dims.iter().zip(&mut shape.dims).enumerate() {
            if dim == 0 {
                return Err(format!("dimension {i} is 0"));
            }
            shape.elements = shape
                .elements
                .checked_mul(dim)
                .filter(|product| i64::try_from(*product).is_ok())
                .ok_or_else(|| format!("dimensions {dims:?} multiply to more than 2^63 - 1"))?;
            *slot = dim;
        }
        Ok(shape)
    }

    /// The dimensions, the fastest first.
    #[must_use]
    pub fn dims(&self) -> &[u64] {
        &self.dims[..usize::from(self.rank)]
    }

    /// Length of a row: the first dimension.
    #[must_use]
    pub fn columns(&self) -> u64 {
        self.dims[0]
    }

    /// How many rows there are: the product of all other dimensions.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.elements / self.dims[0]
    }

    /// How many elements there are.
    #[must_use]
    pub fn elements(&self) -> u64 {
        self.elements
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, dim) in self.dims().iter().enumerate() {
            write!(f, "{}{dim}", if i == 0 { "" } else { " x " })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_knows_its_rows() {
        let shape = Shape::new(&[2560, 6912]).unwrap();
        assert_eq!((shape.columns(), shape.rows(), shape.elements()), (2560, 6912, 17_694_720));
        assert_eq!(shape.to_string(), "2560 x 6912");
        assert_eq!(Shape::new(&[5, 2, 3, 4]).unwrap().rows(), 24);
        assert_eq!(Shape::new(&[7]).unwrap().rows(), 1);
    }

    #[test]
    fn bad_dimensions_are_refused() {
        for dims in [
            &[][..],
            &[0],
            &[4, 0],
            &[1; 5],
            &[1 << 63],
            &[1 << 32, 1 << 31],
            &[u64::MAX, u64::MAX],
        ] {
            assert!(Shape::new(dims).is_err(), "{dims:?}");
        }
        // A zero after an overflow must not hide it, nor the reverse.
        assert!(Shape::new(&[u64::MAX, 0]).is_err());
        assert_eq!(Shape::new(&[i64::MAX as u64]).unwrap().elements(), i64::MAX as u64);
    }
}
