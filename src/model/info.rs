//! A model in numbers.

use super::Model;

impl Model {
    /// Numbers of all tensors together.
    #[must_use]
    pub fn n_params(&self) -> u64 {
        let tensors = &self.gguf().tensors;
        tensors.iter().map(|tensor| tensor.shape.elements()).fold(0, u64::saturating_add)
    }

    /// Bytes of all tensors in the file.
    #[must_use]
    pub fn weight_bytes(&self) -> u64 {
        self.gguf().tensors.iter().map(|tensor| tensor.bytes).fold(0, u64::saturating_add)
    }

    /// Bytes of the file.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.gguf().source().len()
    }
}
