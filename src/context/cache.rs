//! Keys and values, in pages of 64 positions.
//!
//! ```text
//! page = for each layer, for each kv head, one region:
//!   f16     keys [head_dim][64] f16, values [64][head_dim] f16
//!   8 bit   keys [head_dim][64] i8, values [64][head_dim] i8, key steps [64] f32, value steps [64] f32
//! ```
//!
//! A page that more than one sequence holds, or that lies in a mapped file, is
//! copied before it is written.

use crate::{
    error::{Error, Result},
    file::Source,
    kernels::{BLOCK, KvBlock},
    ops::norm::RowScale,
    tensor::Lines,
};
use half::{f16, slice::HalfFloatSliceExt};
use std::{ops::Range, sync::Arc};

/// How keys and values are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KvType {
    /// Half precision.
    #[default]
    F16,
    /// Eight bits with a step for each position and head.
    I8,
}

/// The shape of every page of a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub layers: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub kind: KvType,
}

impl Geometry {
    /// Bytes of one head's keys, and of its values, over a page.
    fn half(self) -> usize {
        self.head_dim * BLOCK * if self.kind == KvType::F16 { 2 } else { 1 }
    }

    /// Bytes of one head in one layer.
    pub(crate) fn head_bytes(self) -> usize {
        2 * self.half() + if self.kind == KvType::I8 { 2 * 4 * BLOCK } else { 0 }
    }

    /// Bytes of one layer.
    pub(crate) fn layer_bytes(self) -> usize {
        self.kv_heads * self.head_bytes()
    }

    /// Bytes of a page.
    pub(crate) fn page_bytes(self) -> usize {
        self.layers * self.layer_bytes()
    }

    /// The bytes of one head in one layer, for the kernels.
    pub(crate) fn block(self, region: &[u8]) -> KvBlock<'_> {
        let (keys, rest) = region.split_at(self.half());
        let (values, steps) = rest.split_at(self.half());
        match self.kind {
            KvType::F16 => KvBlock::F16 {
                keys: bytemuck::cast_slice(keys),
                values: bytemuck::cast_slice(values),
            },
            KvType::I8 => {
                let (key_steps, value_steps) = steps.split_at(4 * BLOCK);
                KvBlock::I8 {
                    keys: bytemuck::cast_slice(keys),
                    values: bytemuck::cast_slice(values),
                    key_steps: bytemuck::cast_slice(key_steps),
                    value_steps: bytemuck::cast_slice(value_steps),
                }
            }
        }
    }

    /// Pages that hold `positions`.
    pub(crate) fn pages(positions: usize) -> usize {
        positions.div_ceil(BLOCK)
    }
}

/// Sixty-four positions of every layer and head.
#[derive(Debug)]
pub(crate) struct Page(Memory);

#[derive(Debug)]
enum Memory {
    Owned(Lines<u64>),
    Mapped { source: Arc<Source>, range: Range<u64> },
}

impl Page {
    /// A page of zeros.
    pub(crate) fn new(geometry: Geometry) -> Result<Self> {
        let bytes = geometry.page_bytes();
        Lines::zeroed(bytes.div_ceil(8), "a page of the cache")
            .map(|words| Self(Memory::Owned(words)))
    }

    /// A copy to be written.
    pub(crate) fn copy(&self) -> Result<Self> {
        let bytes = self.bytes();
        let mut words: Lines<u64> = Lines::zeroed(bytes.len().div_ceil(8), "a page of the cache")?;
        bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
        Ok(Self(Memory::Owned(words)))
    }

    /// A copy of the first `used` positions, the others zero: what a sequence that was cut, or cancelled half-way, left
    /// behind its end is not its own.
    pub(crate) fn copy_used(&self, geometry: Geometry, used: usize) -> Result<Self> {
        let mut page = self.copy()?;
        let (dim, half) = (geometry.head_dim, geometry.half());
        let bytes = geometry.page_bytes();
        for region in page.bytes_mut()[..bytes].chunks_exact_mut(geometry.head_bytes()) {
            let (keys, rest) = region.split_at_mut(half);
            let (values, steps) = rest.split_at_mut(half);
            let width = half / (dim * BLOCK);
            keys.chunks_exact_mut(width * BLOCK).for_each(|keys| keys[width * used..].fill(0));
            values[width * dim * used..].fill(0);
            steps.chunks_exact_mut(4 * BLOCK).for_each(|steps| steps[4 * used..].fill(0));
        }
        Ok(page)
    }

    /// A page within a mapped file; `offset` is a multiple of 8.
    pub(crate) fn mapped(source: &Arc<Source>, offset: usize, geometry: Geometry) -> Result<Self> {
        let range = offset as u64..offset as u64 + geometry.page_bytes() as u64;
        match source.slice(range.clone()) {
            Some(bytes) if bytes.as_ptr().addr().is_multiple_of(8) => {
                Ok(Self(Memory::Mapped { source: Arc::clone(source), range }))
            }
            _ => Err(Error::StateMismatch("the file has no page at its place".into())),
        }
    }

    /// Whether it can be written where it is.
    pub(crate) fn is_owned(&self) -> bool {
        matches!(self.0, Memory::Owned(_))
    }

    /// All its bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.0 {
            Memory::Owned(words) => bytemuck::cast_slice(words),
            Memory::Mapped { source, range } => {
                source.slice(range.clone()).expect("checked when it was mapped")
            }
        }
    }

    /// All its bytes, to be written. Empty for a mapped page.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Memory::Owned(words) => bytemuck::cast_slice_mut(words),
            Memory::Mapped { .. } => &mut [],
        }
    }

    /// One head of one layer, for the kernels.
    pub(crate) fn head(&self, geometry: Geometry, layer: usize, head: usize) -> KvBlock<'_> {
        geometry.block(self.heads(geometry, layer, head..head + 1))
    }

    /// The bytes of neighbouring heads of one layer.
    pub(crate) fn heads(&self, geometry: Geometry, layer: usize, heads: Range<usize>) -> &[u8] {
        let (first, bytes) = (layer * geometry.layer_bytes(), geometry.head_bytes());
        &self.bytes()[first + heads.start * bytes..first + heads.end * bytes]
    }
}

/// Stores the keys and values of one head at consecutive positions of a page.
///
/// `region` is the head's bytes; `row(i)` gives the rotated key and the value of the `i`-th position.
pub(crate) fn store<'a>(
    geometry: Geometry,
    region: &mut [u8],
    first: usize,
    count: usize,
    row: impl Fn(usize) -> (&'a [f32], &'a [f32]),
) {
    let (dim, half) = (geometry.head_dim, geometry.half());
    let (keys, rest) = region.split_at_mut(half);
    let (values, steps) = rest.split_at_mut(half);
    for i in 0..count {
        let (key, value) = row(i);
        let position = first + i;
        match geometry.kind {
            KvType::F16 => {
                let keys: &mut [f16] = bytemuck::cast_slice_mut(keys);
                let values: &mut [f16] = bytemuck::cast_slice_mut(values);
                let values = &mut values[position * dim..][..dim];
                // The values' place serves to convert the key, too.
                values.convert_from_f32_slice(key);
                for (keys, key) in keys.chunks_exact_mut(BLOCK).zip(values.iter()) {
                    keys[position] = *key;
                }
                values.convert_from_f32_slice(value);
            }
            KvType::I8 => {
                let keys: &mut [i8] = bytemuck::cast_slice_mut(keys);
                let values: &mut [i8] = bytemuck::cast_slice_mut(values);
                let steps: &mut [f32] = bytemuck::cast_slice_mut(steps);
                let values = &mut values[position * dim..][..dim];
                let RowScale { step, .. } = crate::ops::norm::quantize(key, values);
                for (keys, key) in keys.chunks_exact_mut(BLOCK).zip(values.iter()) {
                    keys[position] = *key;
                }
                steps[position] = step;
                steps[BLOCK + position] = crate::ops::norm::quantize(value, values).step;
            }
        }
    }
}

/// One line of tokens, and its part of the cache.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sequence {
    /// Every token, from position 0.
    pub tokens: Vec<i32>,
    /// Pages of positions `64 i ..`.
    pub pages: Vec<Arc<Page>>,
    /// Positions that the pages hold; fewer than tokens after a trim.
    pub computed: usize,
    /// Normalised final states, `[tokens][n_embd]`, where the context keeps them for embeddings.
    pub states: Vec<f32>,
}

impl Sequence {
    /// Makes the positions `computed .. end` writable: new pages, and copies of shared ones.
    ///
    /// A failure changes nothing.
    pub(crate) fn reserve(&mut self, geometry: Geometry, end: usize) -> Result<()> {
        let first = self.computed / BLOCK;
        let mut fresh = Vec::new();
        for i in first..Geometry::pages(end) {
            match self.pages.get_mut(i) {
                Some(page) if page.is_owned() && Arc::strong_count(page) == 1 => {}
                Some(page) => fresh.push((i, Arc::new(page.copy()?))),
                None => fresh.push((i, Arc::new(Page::new(geometry)?))),
            }
        }
        self.pages
            .try_reserve(fresh.len())
            .map_err(|_| Error::OutOfMemory { what: "the cache", bytes: 0 })?;
        for (i, page) in fresh {
            if i < self.pages.len() { self.pages[i] = page } else { self.pages.push(page) }
        }
        Ok(())
    }

    /// Forgets positions from `len` on.
    pub(crate) fn truncate(&mut self, len: usize, n_embd: usize) {
        self.tokens.truncate(len);
        self.computed = self.computed.min(len);
        self.pages.truncate(Geometry::pages(self.computed));
        self.states.truncate(len * n_embd);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_rows_come_back() {
        for kind in [KvType::F16, KvType::I8] {
            let geometry = Geometry { layers: 2, kv_heads: 3, head_dim: 20, kind };
            let mut page = Page::new(geometry).expect("small");
            let rows: Vec<Vec<f32>> =
                (0..10).map(|i| (0..20).map(|d| (i * 20 + d) as f32 / 8.0).collect()).collect();
            let at = geometry.layer_bytes() + 2 * geometry.head_bytes();
            let region = &mut page.bytes_mut()[at..at + geometry.head_bytes()];
            store(geometry, region, 60, 4, |i| (&rows[i], &rows[i + 4]));
            match page.head(geometry, 1, 2) {
                KvBlock::F16 { keys, values } => {
                    assert_eq!(keys[5 * 64 + 61].to_f32(), rows[1][5]);
                    assert_eq!(values[63 * 20 + 7].to_f32(), rows[7][7]);
                }
                KvBlock::I8 { keys, values, key_steps, value_steps } => {
                    assert!(
                        (f32::from(keys[5 * 64 + 61]) * key_steps[61] - rows[1][5]).abs() < 0.05
                    );
                    assert!(
                        (f32::from(values[63 * 20 + 7]) * value_steps[63] - rows[7][7]).abs() < 0.2
                    );
                }
            }
        }
    }

    #[test]
    fn shared_pages_are_copied_before_they_are_written() {
        let geometry = Geometry { layers: 1, kv_heads: 1, head_dim: 16, kind: KvType::F16 };
        let mut a = Sequence::default();
        a.reserve(geometry, 65).expect("small");
        a.computed = 65;
        let mut b = a.clone();
        b.reserve(geometry, 66).expect("small");
        assert!(Arc::ptr_eq(&a.pages[0], &b.pages[0]), "full pages stay shared");
        assert!(!Arc::ptr_eq(&a.pages[1], &b.pages[1]), "the page that is written is not");
        let before = Arc::as_ptr(&b.pages[1]);
        b.reserve(geometry, 128).expect("small");
        assert_eq!(before, Arc::as_ptr(&b.pages[1]), "an own page stays");
    }
}
