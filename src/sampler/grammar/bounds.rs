//! How deep a source sends its compiler: bounded before it is compiled.
//!
//! llguidance bounds the nesting of brackets itself, but follows definitions
//! that name each other by recursion, 6 kB of stack for each (measured on
//! x86-64, optimised). So the longest such chain is measured here, with every
//! bracket inside a definition counted as a definition of its own.

use crate::error::{Error, Result};
use serde_json::Value;
use std::collections::HashMap;

/// Longest chain: 3 MB of the compiler's stack of 16, the rest for unoptimised builds.
pub(super) const CHAIN_MAX: usize = 512;

/// Refuses a Lark source whose definitions form too long a chain.
pub(super) fn check_lark(source: &str) -> Result<()> {
    check(&lark_definitions(source))
}

/// Refuses a JSON Schema whose references form too long a chain.
pub(super) fn check_schema(schema: &Value) -> Result<()> {
    let mut targets: Vec<&str> = vec!["#"];
    let mut known: HashMap<&str, usize> = HashMap::from([("#", 0)]);
    let mut nodes = Vec::new();
    while nodes.len() < targets.len() {
        let mut node = Node { weight: 1, uses: Vec::new() };
        let path = targets[nodes.len()].strip_prefix('#').unwrap_or_default();
        let target = path.split('/').skip(1).try_fold(schema, |value, key| match value {
            Value::Array(items) => items.get(key.parse::<usize>().ok()?),
            _ => value.get(key),
        });
        if let Some(target) = target {
            references(target, 1, &mut node.weight, &mut |reference| {
                let next = targets.len();
                let id = *known.entry(reference).or_insert(next);
                if id == next {
                    targets.push(reference);
                }
                node.uses.push(id);
            });
        }
        nodes.push(node);
    }
    check(&nodes)
}

/// Calls `found` for every `$ref` below `value`, and notes how deep it goes.
fn references<'a>(
    value: &'a Value,
    depth: usize,
    deepest: &mut usize,
    found: &mut impl FnMut(&'a str),
) {
    // No deeper than the JSON parser let it be: 128.
    *deepest = (*deepest).max(depth);
    match value {
        Value::Array(items) => {
            items.iter().for_each(|item| references(item, depth + 1, deepest, found))
        }
        Value::Object(fields) => {
            for (key, value) in fields {
                if let (true, Some(reference)) = (key == "$ref", value.as_str()) {
                    found(reference);
                }
                references(value, depth + 1, deepest, found);
            }
        }
        _ => {}
    }
}

/// A definition: what it costs by itself, and the definitions that it names.
#[derive(Debug, PartialEq)]
pub(super) struct Node {
    pub(super) weight: usize,
    pub(super) uses: Vec<usize>,
}

/// Refuses definitions that form too long a chain.
pub(super) fn check(nodes: &[Node]) -> Result<()> {
    let chain = longest_chain(nodes);
    if chain > CHAIN_MAX {
        return Err(Error::Grammar(format!(
            "definitions that use each other reach a depth of {chain}, at most {CHAIN_MAX} is taken"
        )));
    }
    Ok(())
}

/// The heaviest chain of uses; definitions that use each other in a circle
/// count as if each were on it, which no chain can exceed.
fn longest_chain(nodes: &[Node]) -> usize {
    let circle = circles(nodes);
    // `circles` numbers a circle after all those it leads to.
    let mut weight = vec![0usize; nodes.len()];
    let mut below = vec![0usize; nodes.len()];
    let mut by_circle: Vec<usize> = (0..nodes.len()).collect();
    by_circle.sort_by_key(|&node| circle[node]);
    for &node in &by_circle {
        let own = circle[node];
        weight[own] = weight[own].saturating_add(nodes[node].weight);
        for &used in nodes[node].uses.iter().filter(|&&used| circle[used] != own) {
            below[own] = below[own].max(weight[circle[used]] + below[circle[used]]);
        }
    }
    (0..nodes.len()).map(|circle| weight[circle] + below[circle]).max().unwrap_or(0)
}

/// The circle that each definition belongs to (Tarjan's algorithm, without recursion).
fn circles(nodes: &[Node]) -> Vec<usize> {
    const NEW: usize = usize::MAX;
    let mut circle = vec![NEW; nodes.len()];
    let (mut index, mut low) = (vec![NEW; nodes.len()], vec![0; nodes.len()]);
    let (mut open, mut path, mut next, mut circle_len) = (Vec::new(), Vec::new(), 0, 0);
    for root in 0..nodes.len() {
        if index[root] != NEW {
            continue;
        }
        path.push((root, 0));
        while let Some(&mut (node, ref mut at)) = path.last_mut() {
            if *at == 0 {
                index[node] = next;
                low[node] = next;
                next += 1;
                open.push(node);
            }
            if let Some(&used) = nodes[node].uses.get(*at) {
                *at += 1;
                // The +1 also keeps a node from being opened twice: `at` is 0 only once.
                if index[used] == NEW {
                    path.push((used, 0));
                } else if circle[used] == NEW {
                    low[node] = low[node].min(index[used]);
                }
                continue;
            }
            path.pop();
            if let Some(&(parent, _)) = path.last() {
                low[parent] = low[parent].min(low[node]);
            }
            if low[node] == index[node] {
                while let Some(member) = open.pop() {
                    circle[member] = circle_len;
                    if member == node {
                        break;
                    }
                }
                circle_len += 1;
            }
        }
    }
    circle
}

/// The definitions of a Lark source with the names in their bodies.
///
/// A definition begins on a line, outside brackets, that has a colon outside
/// brackets; lines without one go on with the last. Names that are not defined
/// are no uses.
fn lark_definitions(source: &str) -> Vec<Node> {
    let mut scan = Scan { bytes: source.as_bytes(), at: 0 };
    let mut names: HashMap<&str, usize> = HashMap::new();
    let mut bodies: Vec<(usize, Vec<&str>)> = vec![(1, Vec::new())];
    let (mut line, mut depth, mut deepest, mut is_definition) = (Vec::new(), 0usize, 0usize, false);
    loop {
        let token = scan.next(source);
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
    bytes: &'a [u8],
    at: usize,
}

enum Piece<'a> {
    Name(&'a str),
    Byte(u8),
}

impl Scan<'_> {
    fn next<'a>(&mut self, source: &'a str) -> Option<Piece<'a>> {
        let bytes = self.bytes;
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
                    return Some(Piece::Name(&source[start..self.at]));
                }
                _ => return Some(Piece::Byte(byte)),
            }
        }
    }

    fn skip_line(&mut self) {
        self.at += self.bytes[self.at..].iter().take_while(|&&b| b != b'\n').count();
    }

    /// Past the next `end` that no backslash escapes.
    fn skip_to(&mut self, end: u8) {
        while let Some(&byte) = self.bytes.get(self.at) {
            self.at += if byte == b'\\' { 2 } else { 1 };
            if byte == end {
                break;
            }
        }
        self.at = self.at.min(self.bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lark(source: &str) -> usize {
        longest_chain(&lark_definitions(source))
    }

    #[test]
    fn chains_are_measured() {
        assert_eq!(lark("start: \"x\"\n"), 1);
        assert_eq!(lark("start: A B\nA: \"a\"\nB: A | /b:(c/\n"), 3);
        // A circle counts whole; brackets count too.
        assert_eq!(lark("start: x\nx: \"(\" y \")\" // z\ny: (x | \"b\")? # z\nz: start\n"), 5);
        // Lines without a colon go on, also inside brackets.
        assert_eq!(lark("start: (\n a\n  | b ) \n | c\na: \"1\"\nb: a\nc: b\n"), 5);
        assert_eq!(lark(""), 1);
    }

    #[test]
    fn long_chains_are_refused_and_wide_sources_are_not() {
        let chain =
            |n: usize| (0..n).map(|i| format!("r{i}: \"a\" r{}\n", i + 1)).collect::<String>();
        assert!(check_lark(&format!("start: r0\n{}r500: \"a\"\n", chain(500))).is_ok());
        assert!(check_lark(&format!("start: r0\n{}r600: \"a\"\n", chain(600))).is_err());
        let wide: String = (0..5000).map(|i| format!("r{i}: \"a\"\n")).collect();
        assert!(check_lark(&format!("start: r0\n{wide}")).is_ok());
        let refs = |n: usize| {
            let defs = (0..n)
                .map(|i| format!("\"d{i}\":{{\"$ref\":\"#/$defs/d{}\"}}", i + 1))
                .collect::<Vec<_>>()
                .join(",");
            serde_json::from_str(&format!(
                "{{\"items\":{{\"$ref\":\"#/$defs/d0\"}},\"$defs\":{{{defs},\"d{n}\":true}}}}"
            ))
        };
        assert!(check_schema(&refs(100).expect("JSON")).is_ok());
        assert!(check_schema(&refs(600).expect("JSON")).is_err());
        let circle = serde_json::json!({"items": {"$ref": "#"}, "anyOf": [{"$ref": "#/items"}, {"$ref": "#/nowhere"}]});
        assert!(check_schema(&circle).is_ok());
    }
}
