//! llguidance's errors in this library's words.

use crate::error::Error;
use serde_json::Value;
use std::fmt;

/// How lines of a Lark grammar relate to those of the source.
pub(super) enum Lines<'a> {
    /// Not at all: the Lark text is made up.
    None,
    /// It is the source.
    Same,
    /// There is none; the source is a JSON Schema, and messages quote its keys.
    Keys(&'a str),
    /// Line `i`, from 0, comes from line `lines[i]`, from 1.
    Mapped(Vec<usize>),
}

/// An error of llguidance's in this library's words: its position first, no state dump, no backtrace.
pub(super) fn failure(message: &impl fmt::Display, lines: &Lines<'_>) -> Error {
    let message = format!("{message:#}");
    let message = message.split("\n<").next().unwrap_or_default();
    let message: String =
        message.lines().map(str::trim).filter(|l| !is_excerpt(l)).collect::<Vec<_>>().join("; ");
    let message: String = message.chars().take(400).collect();
    let place = message.strip_prefix("at ").unwrap_or(&message).split_once("): ").and_then(
        |(place, rest)| {
            let (line, column) = place.split_once('(')?;
            Some((line.parse::<usize>().ok()?, column.parse::<usize>().ok()?, rest))
        },
    );
    Error::Grammar(match (place, lines) {
        (Some((line, column, rest)), Lines::Same) => {
            format!("line {line}, column {column}: {rest}")
        }
        (Some((line, _, rest)), Lines::Mapped(lines)) => match lines.get(line.wrapping_sub(1)) {
            Some(line) => format!("line {line}: {rest}"),
            None => rest.to_string(),
        },
        (_, Lines::Keys(source)) => {
            match quoted_key(&message).and_then(|key| find_key(source, key)) {
                Some((line, column)) => format!("line {line}, column {column}: {message}"),
                None => message,
            }
        }
        (Some((.., rest)), Lines::None) => rest.to_string(),
        (None, _) => message,
    })
}

/// The first thing in double quotes.
fn quoted_key(message: &str) -> Option<&str> {
    message.split('"').nth(1).filter(|key| !key.is_empty())
}

/// Where a JSON text first has `key` as the name of a field.
fn find_key(source: &str, key: &str) -> Option<(usize, usize)> {
    let name = Value::from(key).to_string();
    let is_field =
        |&(at, _): &(usize, &str)| source[at + name.len()..].trim_start().starts_with(':');
    let (at, _) = source.match_indices(&name).find(is_field)?;
    Some(position(source.as_bytes(), at))
}

/// Whether a line of an error is source text with a number before it, or the mark under it.
fn is_excerpt(line: &str) -> bool {
    line == "^"
        || line.is_empty()
        || line.split_once(" | ").is_some_and(|(n, _)| n.parse::<u32>().is_ok())
}

/// An error of serde_json's without its position, which is said in front.
pub(super) fn bare(message: &str) -> &str {
    message.split(" at line ").next().unwrap_or(message)
}

/// Line and column, both from 1, of a byte of `source`.
pub(super) fn position(source: &[u8], at: usize) -> (usize, usize) {
    let before = &source[..at.min(source.len())];
    let line_start = before.iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1);
    let line = before.iter().filter(|&&b| b == b'\n').count() + 1;
    (line, String::from_utf8_lossy(&before[line_start..]).chars().count() + 1)
}
