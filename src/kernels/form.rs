//! How the codes of a ternary matrix lie in memory.
//!
//! A matrix of `rows x k` is cut into panels of [`Form::rows`] consecutive rows. The dense forms
//! (drawn in [`crate::kernels`]) are one stream of bytes that is read whole. The sparse
//! forms let a reader leave out what a zero makes irrelevant; both hold code `c` of field `f` in
//! bits `2f, 2f+1` of a byte:
//!
//! ```text
//! rows      32 rows, one after the other; of a row, blocks of 64 bytes:
//!             byte i of block b holds the weights k = 256*b + 64*f + i        k is a multiple of 256
//! columns   256 rows; one column of 64 bytes after the other:
//!             byte i of column k holds the rows 64*f + i                      the last columns hold code 1
//! ```
//!
//! Rows of all panels follow one another, so that a run of panels is one array of rows.

/// How a panel holds its codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Form {
    /// How a byte holds its weights.
    pub code: Code,
    /// Tiles of 16 rows: 1, 2 or 4 side by side in the dense forms.
    pub tiles: usize,
}

/// How a byte holds its weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// Four weights a byte.
    Bits2,
    /// Five weights a byte.
    Base3,
    /// Four weights of one row a byte, row after row.
    Rows,
    /// One weight of four rows a byte, column after column.
    Columns,
}

impl Form {
    /// Rows that can be read one by one.
    pub const ROWS: Form = Form { code: Code::Rows, tiles: 2 };
    /// Columns that can be read one by one.
    pub const COLUMNS: Form = Form { code: Code::Columns, tiles: 16 };

    /// Rows of a panel.
    #[must_use]
    pub const fn rows(self) -> usize {
        16 * self.tiles
    }

    /// Weights of a row in one step.
    #[must_use]
    pub const fn step(self) -> usize {
        match self.code {
            Code::Bits2 | Code::Columns => 16,
            Code::Base3 => 20,
            Code::Rows => 256,
        }
    }

    /// Whether rows of `k` weights can have this form.
    #[must_use]
    pub const fn fits(self, k: usize) -> bool {
        !matches!(self.code, Code::Rows) || k.is_multiple_of(256)
    }

    /// Steps of a row of `k` weights.
    #[must_use]
    pub const fn steps(self, k: usize) -> usize {
        k.div_ceil(self.step())
    }

    /// Bytes of a panel whose rows hold `k` weights.
    #[must_use]
    pub const fn panel_bytes(self, k: usize) -> usize {
        let bytes = match self.code {
            Code::Bits2 | Code::Base3 | Code::Columns => 4,
            Code::Rows => 64,
        };
        self.steps(k) * self.rows() * bytes
    }
}
