//! Typed lookups: "this u32, or say which key is missing".
//!
//! Values stay in the header's bytes and are decoded when asked for: a
//! vocabulary of 128 256 tokens and 280 147 merges costs one entry each.

use super::{
    Source,
    gguf::sort_unique,
    value::{Array, Stored, Value, found},
};
use crate::error::{Error, Result};
use std::{ops::Range, sync::Arc};

/// The keys and values of a file, in its order.
#[derive(Debug)]
pub struct Metadata {
    pub(super) source: Arc<Source>,
    /// The header, where the source does not hold it in memory.
    pub(super) window: Option<Vec<u8>>,
    /// All keys, one after another.
    pub(super) keys: String,
    pub(super) entries: Vec<Entry>,
    /// Indices of `entries` in the order of their keys.
    pub(super) sorted: Vec<u32>,
}

/// Where a key and its value lie.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// In `Metadata::keys`.
    pub(super) key: Range<usize>,
    pub(super) value: Stored,
}

impl Metadata {
    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The key and value at an index below [`len`](Metadata::len), in file order.
    #[must_use]
    pub fn at(&self, index: usize) -> Option<(&str, Value<'_>)> {
        let entry = self.entries.get(index)?;
        Some((self.key(entry), self.value(entry)))
    }

    /// All keys and values in file order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        self.entries.iter().map(|entry| (self.key(entry), self.value(entry)))
    }

    /// The value of a key, of whatever kind.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Value<'_>> {
        self.find(key).map(|entry| self.value(entry))
    }

    /// An unsigned integer of any width that fits a `u64`.
    ///
    /// # Errors
    ///
    /// This and all lookups below give [`Error::BadModel`], naming the key, if
    /// it is missing or its value is of another kind or does not fit.
    pub fn u64(&self, key: &str) -> Result<u64> {
        self.need(key, self.opt_u64(key))
    }

    /// An integer of any width that fits a `u32`.
    ///
    /// # Errors
    ///
    /// As [`u64`](Metadata::u64).
    pub fn u32(&self, key: &str) -> Result<u32> {
        self.need(key, self.opt_u32(key))
    }

    /// A float, rounded to single precision if it is a double.
    ///
    /// # Errors
    ///
    /// As [`u64`](Metadata::u64).
    pub fn f32(&self, key: &str) -> Result<f32> {
        self.need(key, self.opt_f32(key))
    }

    /// A truth value.
    ///
    /// # Errors
    ///
    /// As [`u64`](Metadata::u64).
    pub fn bool(&self, key: &str) -> Result<bool> {
        self.need(key, self.opt_bool(key))
    }

    /// A string, which must be UTF-8.
    ///
    /// # Errors
    ///
    /// As [`u64`](Metadata::u64).
    pub fn str(&self, key: &str) -> Result<&str> {
        self.need(key, self.opt_str(key))
    }

    /// An array.
    ///
    /// # Errors
    ///
    /// As [`u64`](Metadata::u64).
    pub fn array(&self, key: &str) -> Result<Array<'_>> {
        self.need(key, self.opt_array(key))
    }

    /// As [`u64`](Metadata::u64), but a missing key is no error.
    ///
    /// # Errors
    ///
    /// If the value is of another kind or does not fit.
    pub fn opt_u64(&self, key: &str) -> Result<Option<u64>> {
        let read = |value: Value<'_>| u64::try_from(value.integer()?).ok();
        self.typed(key, "an integer from 0 to 2^64 - 1", read)
    }

    /// As [`u32`](Metadata::u32), but a missing key is no error.
    ///
    /// # Errors
    ///
    /// As [`opt_u64`](Metadata::opt_u64).
    pub fn opt_u32(&self, key: &str) -> Result<Option<u32>> {
        let read = |value: Value<'_>| u32::try_from(value.integer()?).ok();
        self.typed(key, "an integer from 0 to 2^32 - 1", read)
    }

    /// As [`f32`](Metadata::f32), but a missing key is no error.
    ///
    /// # Errors
    ///
    /// As [`opt_u64`](Metadata::opt_u64).
    pub fn opt_f32(&self, key: &str) -> Result<Option<f32>> {
        self.typed(key, "a float", |value| Some(value.float()? as f32))
    }

    /// As [`bool`](Metadata::bool), but a missing key is no error.
    ///
    /// # Errors
    ///
    /// As [`opt_u64`](Metadata::opt_u64).
    pub fn opt_bool(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "a truth value", |value| match value {
            Value::Bool(value) => Some(value),
            _ => None,
        })
    }

    /// As [`str`](Metadata::str), but a missing key is no error.
    ///
    /// # Errors
    ///
    /// As [`opt_u64`](Metadata::opt_u64).
    pub fn opt_str(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a string in UTF-8", |value| match value {
            Value::String(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        })
    }

    /// As [`array`](Metadata::array), but a missing key is no error.
    ///
    /// # Errors
    ///
    /// As [`opt_u64`](Metadata::opt_u64).
    pub fn opt_array(&self, key: &str) -> Result<Option<Array<'_>>> {
        self.typed(key, "an array", |value| match value {
            Value::Array(array) => Some(array),
            _ => None,
        })
    }

    /// The error for a key whose value breaks a rule that the caller knows.
    pub fn reject(&self, key: &str, rule: impl Into<String>) -> Error {
        match self.find(key) {
            Some(entry) => Error::bad_byte(format!("key '{key}'"), entry.value.bytes.start, rule),
            None => Error::bad_model(format!("key '{key}'"), rule),
        }
    }

    fn need<T>(&self, key: &str, value: Result<Option<T>>) -> Result<T> {
        value?.ok_or_else(|| Error::bad_model(format!("key '{key}'"), "missing"))
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        wanted: &str,
        read: impl FnOnce(Value<'a>) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(entry) = self.find(key) else { return Ok(None) };
        let value = self.value(entry);
        read(value)
            .map(Some)
            .ok_or_else(|| self.reject(key, format!("{}, wanted {wanted}", found(&value))))
    }

    /// Indices in the order of the keys, of which none may appear twice.
    pub(super) fn sort(&self) -> Result<Vec<u32>> {
        let key = |i: usize| self.key(&self.entries[i]);
        sort_unique(self.entries.len(), key, |i| {
            let at = self.entries[i].value.bytes.start;
            Error::bad_byte(format!("key '{}'", key(i)), at, "appears twice")
        })
    }

    fn find(&self, key: &str) -> Option<&Entry> {
        let entry = |index: &u32| &self.entries[*index as usize];
        let found = self.sorted.binary_search_by(|index| self.key(entry(index)).cmp(key)).ok()?;
        Some(entry(&self.sorted[found]))
    }

    fn key(&self, entry: &Entry) -> &str {
        &self.keys[entry.key.clone()]
    }

    fn value(&self, entry: &Entry) -> Value<'_> {
        let Stored { kind, array, bytes } = &entry.value;
        let bytes = match &self.window {
            Some(window) => window.get(bytes.start as usize..bytes.end as usize),
            None => self.source.slice(bytes.clone()),
        };
        // Both hold the range since the walk passed it.
        let bytes = bytes.unwrap_or_default();
        match *array {
            Some((element, len)) => Value::Array(Array::new(element, len, bytes)),
            None => Value::decode(*kind, bytes),
        }
    }
}
