//! Bounds of a Lark source.

use crate::error::{Error, Result};
use crate::sampler::grammar::bounds::{Node, at_most, schema};
use serde_json::Value;
use std::collections::HashMap;

/// Intersections of terminals; each can double the work of telling whether one is empty.
const ANDS_MAX: usize = 12;

/// Refuses a source that asks for too much.
pub(in crate::sampler::grammar) fn check(source: &str) -> Result<()> {
    let mut scan = Scan { source, at: 0 };
    let mut ands = 0;
    while let Some(piece) = scan.next() {
        match piece {
            Piece::Byte(b'&') => ands += 1,
            Piece::Byte(b'%') => {
                let rest = &source[scan.at..];
                if rest.starts_with("lark") {
                    // Its definitions would hide from the measure of chains.
                    return Err(Error::Grammar(
                        "grammars within grammars (%lark) are not supported".into(),
                    ));
                }
                if let Some(json) = rest.strip_prefix("json") {
                    let mut values = serde_json::Deserializer::from_str(json).into_iter::<Value>();
                    // What is not JSON is the compiler's to refuse.
                    if let Some(Ok(value)) = values.next() {
                        schema::check(&value)?;
                    }
                }
            }
            _ => {}
        }
    }
    at_most("intersections (&)", ands, ANDS_MAX)?;
    super::check(&definitions(source))
}

/// The definitions of a Lark source with the names in their bodies.
///
/// A definition begins on a line, outside brackets, that has a colon outside
/// brackets; lines without one go on with the last. Names that are not defined
/// are no uses.
fn definitions(source: &str) -> Vec<Node> {
    let mut scan = Scan { source, at: 0 };
    let mut names: HashMap<&str, usize> = HashMap::new();
    let mut bodies: Vec<(usize, Vec<&str>)> = vec![(1, Vec::new())];
    let (mut line, mut depth, mut deepest, mut is_definition) = (Vec::new(), 0usize, 0usize, false);
    loop {
        let token = scan.next();
        match token {
            Some(Piece::Name(name)) => line.push(name),
            Some(Piece::Byte(b'(' | b'[' | b'{')) => depth += 1,
            Some(Piece::Byte(b')' | b']' | b'}')) => depth = depth.saturating_sub(1),
            Some(Piece::Byte(b':')) if depth == 0 => is_definition = true,
            _ => {}
        }
        deepest = deepest.max(depth);
        if token.is_none() || (depth == 0 && matches!(token, Some(Piece::Byte(b'\n')))) {
            if is_definition {
                if let Some(name) = line.first() {
                    names.insert(name, bodies.len());
                }
                bodies.push((1, Vec::new()));
            }
            if let Some((weight, body)) = bodies.last_mut() {
                *weight = (*weight).max(1 + deepest);
                body.append(&mut line);
            }
            (deepest, is_definition) = (0, false);
            line.clear();
        }
        if token.is_none() {
            break;
        }
    }
    let uses = |body: Vec<&str>| body.iter().filter_map(|name| names.get(name).copied()).collect();
    bodies.into_iter().map(|(weight, body)| Node { weight, uses: uses(body) }).collect()
}

/// Splits a Lark source roughly: names, and single bytes; strings, regular
/// expressions and comments are passed over.
struct Scan<'a> {
    source: &'a str,
    at: usize,
}

enum Piece<'a> {
    Name(&'a str),
    Byte(u8),
}

impl<'a> Scan<'a> {
    fn next(&mut self) -> Option<Piece<'a>> {
        let bytes = self.source.as_bytes();
        let is_name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        loop {
            let start = self.at;
            let byte = *bytes.get(start)?;
            self.at += 1;
            match byte {
                b'#' => self.skip_line(),
                b'/' if bytes.get(self.at) == Some(&b'/') => self.skip_line(),
                b'"' | b'/' => self.skip_to(byte),
                _ if is_name(&byte) => {
                    self.at += bytes[self.at..].iter().take_while(|b| is_name(b)).count();
                    return Some(Piece::Name(&self.source[start..self.at]));
                }
                _ => return Some(Piece::Byte(byte)),
            }
        }
    }

    fn skip_line(&mut self) {
        self.at += self.source.as_bytes()[self.at..].iter().take_while(|&&b| b != b'\n').count();
    }

    /// Past the next `end` that no backslash escapes.
    fn skip_to(&mut self, end: u8) {
        while let Some(&byte) = self.source.as_bytes().get(self.at) {
            self.at += if byte == b'\\' { 2 } else { 1 };
            if byte == end {
                break;
            }
        }
        self.at = self.at.min(self.source.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampler::grammar::bounds::longest_chain;

    fn chain(source: &str) -> usize {
        longest_chain(&definitions(source))
    }

    #[test]
    fn chains_are_measured() {
        assert_eq!(chain("start: \"x\"\n"), 1);
        assert_eq!(chain("start: A B\nA: \"a\"\nB: A | /b:(c/\n"), 3);
        // A circle counts whole; brackets count too.
        assert_eq!(chain("start: x\nx: \"(\" y \")\" // z\ny: (x | \"b\")? # z\nz: start\n"), 5);
        // Lines without a colon go on, also inside brackets.
        assert_eq!(chain("start: (\n a\n  | b ) \n | c\na: \"1\"\nb: a\nc: b\n"), 5);
        assert_eq!(chain(""), 1);
    }

    #[test]
    fn long_chains_are_refused_and_wide_sources_are_not() {
        let links =
            |n: usize| (0..n).map(|i| format!("r{i}: \"a\" r{}\n", i + 1)).collect::<String>();
        assert!(check(&format!("start: r0\n{}r500: \"a\"\n", links(500))).is_ok());
        assert!(check(&format!("start: r0\n{}r600: \"a\"\n", links(600))).is_err());
        let wide: String = (0..5000).map(|i| format!("r{i}: \"a\"\n")).collect();
        assert!(check(&format!("start: r0\n{wide}")).is_ok());
        assert!(check(&format!("start: T\nT: /a/{}\n", " & /a&/".repeat(13))).is_err());
        assert!(
            check("start: T\nT: /a&&&&&&&&&&&&&&&&&&/ \"&&&&&&&&&&&&&&&\" // &&&&&&&&&&&&&&\n")
                .is_ok()
        );
        assert!(check("start: %lark { start: \"a\" }\n").is_err());
        let patterns = "{\"pattern\":\"a\"},".repeat(20);
        assert!(check(&format!("start: %json {{\"allOf\":[{patterns}true]}}\n")).is_err());
    }
}
