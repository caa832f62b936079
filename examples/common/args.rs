//! Flags of the examples: `-x VALUE`, `--name VALUE`, and words.

use std::str::FromStr;

/// The command line, taken apart as it is asked for.
pub struct Args(Vec<String>);

impl Args {
    /// What followed the program's name.
    pub fn new() -> Self {
        Self(std::env::args().skip(1).collect())
    }

    /// The value of a flag.
    pub fn value<T: FromStr>(&mut self, names: &[&str]) -> Result<Option<T>, String> {
        let Some(at) = self.0.iter().position(|word| names.contains(&word.as_str())) else {
            return Ok(None);
        };
        let name = self.0.remove(at);
        if at >= self.0.len() {
            return Err(format!("{name} wants a value"));
        }
        let value = self.0.remove(at);
        value.parse().map(Some).map_err(|_| format!("{name} {value}: not a value of its kind"))
    }

    /// The words that are left; a flag among them is unknown.
    pub fn words(self) -> Result<Vec<String>, String> {
        match self.0.iter().find(|word| word.starts_with('-') && word.len() > 1) {
            Some(flag) => Err(format!("unknown flag {flag}")),
            None => Ok(self.0),
        }
    }
}

/// The model that ships with the repository.
pub fn shipped_model() -> String {
    format!("{}/{}", env!("CARGO_MANIFEST_DIR"), include_str!("../models/default.txt").trim())
}
