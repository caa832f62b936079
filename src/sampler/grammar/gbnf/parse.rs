//! GBNF text → rules.
//!
//! ```text
//! rule     = name "::=" alternatives            one per line; # begins a comment
//! sequence = { item [ "*" | "+" | "?" | "{m}" | "{m,}" | "{m,n}" ] }
//! item     = "text" | [set] | [^set] | . | name | ( alternatives )
//! escapes  = \n \r \t \\ \" \[ \] \- \^ \xHH \uHHHH \UHHHHHHHH
//! ```
//!
//! Lines may break after `::=`, after `|`, and anywhere inside parentheses.

use crate::error::{Error, Result};
use crate::sampler::grammar::bounds;
use crate::sampler::grammar::gbnf::chars::Chars;
use crate::sampler::grammar::message::position;
use std::collections::HashMap;

/// The largest repetition count; llama.cpp has the same.
const REPEAT_MAX: u32 = 2000;

/// The deepest nesting of parentheses.
const NESTING_MAX: usize = 100;

/// What a rule is made of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Node {
    /// One character of a set.
    Char(Chars),
    /// What the rule with this number stands for.
    Rule(usize),
    /// One after the other; none is the empty text.
    Seq(Vec<Node>),
    /// One of several.
    Alt(Vec<Node>),
    /// At least so often, and at most so often if there is a limit.
    Repeat(Box<Node>, u32, Option<u32>),
}

/// A rule, and the line where it begins.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) line: usize,
    pub(super) body: Node,
}

impl Rule {
    /// What the rule adds to a chain of definitions.
    pub(super) fn node(&self) -> bounds::Node {
        let mut node = bounds::Node { weight: 1, uses: Vec::new() };
        measure(&self.body, 1, &mut node);
        node
    }
}

fn measure(body: &Node, depth: usize, node: &mut bounds::Node) {
    node.weight = node.weight.max(depth);
    match body {
        Node::Char(_) => {}
        Node::Rule(number) => node.uses.push(*number),
        Node::Seq(items) | Node::Alt(items) => {
            items.iter().for_each(|item| measure(item, depth + 1, node))
        }
        Node::Repeat(item, ..) => measure(item, depth + 1, node),
    }
}

/// Rules in the order of their definitions; the first is `root`.
pub(super) fn parse(source: &str) -> Result<Vec<Rule>> {
    let mut parser = Parser { source, at: 0, depth: 0, names: HashMap::new(), rules: Vec::new() };
    parser.rule_number("root");
    parser.space(true);
    while parser.peek().is_some() {
        parser.rule()?;
        parser.space(true);
    }
    let undefined = parser.rules.iter().zip(0..).find(|(rule, _)| rule.1.is_none());
    if let Some((&(at, _), number)) = undefined {
        let name = parser.names.iter().find(|(_, n)| **n == number).map_or("", |(name, _)| name);
        return Err(parser.error_at(at, &format!("rule {name} is not defined")));
    }
    Ok(parser.rules.into_iter().filter_map(|(_, rule)| rule).collect())
}

struct Parser<'a> {
    source: &'a str,
    /// Bytes read.
    at: usize,
    depth: usize,
    names: HashMap<&'a str, usize>,
    /// Where each rule is first named, and the rule once it is read.
    rules: Vec<(usize, Option<Rule>)>,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<char> {
        self.source[self.at..].chars().next()
    }

    fn take(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        if found {
            self.at += c.len_utf8();
        }
        found
    }

    fn error_at(&self, at: usize, what: &str) -> Error {
        let (line, column) = position(self.source.as_bytes(), at);
        Error::Grammar(format!("line {line}, column {column}: {what}"))
    }

    fn expected(&self, what: &str) -> Error {
        let found = self.peek().map_or("the end".into(), |c| format!("{c:?}"));
        self.error_at(self.at, &format!("{what} expected, found {found}"))
    }

    /// Passes over blanks and comments, and over line ends if `lines`.
    fn space(&mut self, lines: bool) {
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' => self.at += 1,
                '\n' | '\r' if lines => self.at += 1,
                '#' => {
                    self.at += self.source[self.at..]
                        .find(['\n', '\r'])
                        .unwrap_or(self.source.len() - self.at)
                }
                _ => break,
            }
        }
    }

    fn name(&mut self) -> Option<&'a str> {
        let rest = &self.source[self.at..];
        let len = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'))
            .unwrap_or(rest.len());
        self.at += len;
        (len > 0).then_some(&rest[..len])
    }

    /// The number of the rule `name`, which may be yet to come.
    fn rule_number(&mut self, name: &'a str) -> usize {
        let next = self.rules.len();
        let number = *self.names.entry(name).or_insert(next);
        if number == next {
            self.rules.push((self.at, None));
        }
        number
    }

    fn rule(&mut self) -> Result<()> {
        let start = self.at;
        let name = self.name().ok_or_else(|| self.expected("the name of a rule"))?;
        let number = self.rule_number(name);
        self.space(false);
        if !self.source[self.at..].starts_with("::=") {
            return Err(self.expected("\"::=\""));
        }
        self.at += 3;
        self.space(true);
        let body = self.alternatives()?;
        if !matches!(self.peek(), None | Some('\n' | '\r')) {
            return Err(self.expected("the end of the line"));
        }
        if self.rules[number].1.is_some() {
            return Err(self.error_at(start, &format!("rule {name} is defined twice")));
        }
        let (line, _) = position(self.source.as_bytes(), start);
        self.rules[number].1 = Some(Rule { line, body });
        Ok(())
    }

    fn alternatives(&mut self) -> Result<Node> {
        let mut alternatives = vec![self.sequence()?];
        while self.take('|') {
            self.space(true);
            alternatives.push(self.sequence()?);
        }
        Ok(if alternatives.len() == 1 { alternatives.remove(0) } else { Node::Alt(alternatives) })
    }

    fn sequence(&mut self) -> Result<Node> {
        let mut items = Vec::new();
        while let Some(item) = self.item()? {
            self.space(self.depth > 0);
            let item = self.repeat(item)?;
            items.push(item);
        }
        Ok(if items.len() == 1 { items.remove(0) } else { Node::Seq(items) })
    }

    fn item(&mut self) -> Result<Option<Node>> {
        let start = self.at;
        Ok(Some(match self.peek() {
            Some('"') => {
                self.at += 1;
                let mut text = Vec::new();
                while !self.take('"') {
                    let c = self.char()?;
                    text.push(Node::Char(Chars::new(vec![(c, c)])));
                }
                if text.len() == 1 { text.remove(0) } else { Node::Seq(text) }
            }
            Some('[') => {
                self.at += 1;
                let negated = self.take('^');
                let mut ranges = Vec::new();
                while !self.take(']') {
                    let from = self.char()?;
                    // A hyphen before the bracket stands for itself.
                    let is_range = self.source[self.at..].starts_with('-')
                        && !self.source[self.at..].starts_with("-]");
                    let to = if is_range {
                        self.at += 1;
                        self.char()?
                    } else {
                        from
                    };
                    if to < from {
                        return Err(self
                            .error_at(start, "a range of characters that ends before it begins"));
                    }
                    ranges.push((from, to));
                }
                let set = Chars::new(ranges);
                let set = if negated { set.complement() } else { set };
                if set.is_empty() {
                    return Err(self.error_at(start, "a set without a character"));
                }
                Node::Char(set)
            }
            Some('.') => {
                self.at += 1;
                Node::Char(Chars::default().complement())
            }
            Some('(') => {
                self.at += 1;
                self.depth += 1;
                if self.depth > NESTING_MAX {
                    return Err(
                        self.error_at(start, &format!("more than {NESTING_MAX} parentheses open"))
                    );
                }
                self.space(true);
                let group = self.alternatives()?;
                if !self.take(')') {
                    return Err(self.expected("\")\""));
                }
                self.depth -= 1;
                group
            }
            Some(c) if c.is_ascii_alphanumeric() || c == '-' || c == '_' => {
                let name = self.name().ok_or_else(|| self.expected("a name"))?;
                // The start of the name is the place to blame if it stays undefined.
                let end = std::mem::replace(&mut self.at, start);
                let number = self.rule_number(name);
                self.at = end;
                Node::Rule(number)
            }
            Some('<') => {
                return Err(self.error_at(start, "tokens by name are not supported, write text"));
            }
            _ => return Ok(None),
        }))
    }

    fn repeat(&mut self, item: Node) -> Result<Node> {
        let start = self.at;
        let mut item = item;
        loop {
            let (min, max) = match self.peek() {
                Some('*') => (0, None),
                Some('+') => (1, None),
                Some('?') => (0, Some(1)),
                Some('{') => {
                    self.at += 1;
                    self.space(false);
                    let min = self.number()?;
                    self.space(false);
                    let mut max = Some(min);
                    if self.take(',') {
                        self.space(false);
                        max = if self.peek() == Some('}') { None } else { Some(self.number()?) };
                        self.space(false);
                    }
                    if self.peek() != Some('}') {
                        return Err(self.expected("\"}\""));
                    }
                    (min, max)
                }
                _ => return Ok(item),
            };
            self.at += 1;
            if max.is_some_and(|max| max < min)
                || min > REPEAT_MAX
                || max.is_some_and(|max| max > REPEAT_MAX)
            {
                return Err(
                    self.error_at(start, &format!("counts rise and are at most {REPEAT_MAX}"))
                );
            }
            // Twice repeated is rare and rarely meant, but it has a meaning;
            // its nesting counts like that of parentheses.
            if depth(&item) > NESTING_MAX {
                return Err(self.error_at(start, "repetitions nested too deeply"));
            }
            item = Node::Repeat(Box::new(item), min, max);
            self.space(self.depth > 0);
        }
    }

    fn number(&mut self) -> Result<u32> {
        let digits = self.source[self.at..].bytes().take_while(u8::is_ascii_digit).count();
        let number =
            self.source[self.at..self.at + digits].parse().map_err(|_| self.expected("a count"))?;
        self.at += digits;
        Ok(number)
    }

    /// One character of a text or set, with its escape resolved.
    fn char(&mut self) -> Result<u32> {
        let start = self.at;
        let unfinished = |parser: &Self| parser.error_at(start, "a text or set without its end");
        let c = self.peek().filter(|&c| c != '\n' && c != '\r').ok_or_else(|| unfinished(self))?;
        self.at += c.len_utf8();
        if c != '\\' {
            return Ok(c.into());
        }
        let escape = self.peek().ok_or_else(|| unfinished(self))?;
        self.at += escape.len_utf8();
        let digits = match escape {
            'n' => return Ok('\n'.into()),
            'r' => return Ok('\r'.into()),
            't' => return Ok('\t'.into()),
            '\\' | '"' | '[' | ']' | '-' | '^' | '\'' | '/' => return Ok(escape.into()),
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => return Err(self.error_at(start, &format!("unknown escape \\{escape}"))),
        };
        let hex = self
            .source
            .get(self.at..self.at + digits)
            .filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        let code = hex
            .and_then(|hex| u32::from_str_radix(hex, 16).ok())
            .filter(|&code| char::from_u32(code).is_some());
        self.at += digits;
        code.ok_or_else(|| {
            self.error_at(
                start,
                &format!("\\{escape} takes {digits} hexadecimal digits of a character"),
            )
        })
    }
}

/// How many repetitions are wrapped directly around each other.
fn depth(mut node: &Node) -> usize {
    let mut depth = 0;
    while let Node::Repeat(inner, ..) = node {
        depth += 1;
        node = inner;
    }
    depth
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_their_place() {
        for (source, want) in [
            ("root ::= \"a", "line 1, column 12: a text or set without its end"),
            ("root ::= b", "line 1, column 10: rule b is not defined"),
            ("a ::= \"x\"", "line 1, column 1: rule root is not defined"),
            ("root ::= \"a\"\n\nroot ::= \"b\"", "line 3, column 1: rule root is defined twice"),
            ("root := \"a\"", "line 1, column 6: \"::=\" expected, found ':'"),
            ("root ::= (\"a\"", "line 1, column 14: \")\" expected, found the end"),
            ("root ::= \"a\" )", "line 1, column 14: the end of the line expected, found ')'"),
            ("root ::= \"a\"{3,1}", "line 1, column 13: counts rise and are at most 2000"),
            ("root ::= \"a\"{9999}", "line 1, column 13: counts rise and are at most 2000"),
            ("root ::= []", "line 1, column 10: a set without a character"),
            ("root ::= \"\\q\"", "line 1, column 11: unknown escape \\q"),
            (
                "root ::= \"\\uD800\"",
                "line 1, column 11: \\u takes 4 hexadecimal digits of a character",
            ),
            (
                "root ::= [z-a]",
                "line 1, column 10: a range of characters that ends before it begins",
            ),
            ("root ::= <tool>", "line 1, column 10: tokens by name are not supported, write text"),
        ] {
            let error = parse(source).expect_err(source).to_string();
            assert_eq!(error, format!("grammar: {want}"), "{source}");
        }
        assert!(parse(&format!("root ::= {}", "(".repeat(200_000))).is_err());
        assert!(parse(&format!("root ::= \"a\"{}", "*".repeat(200_000))).is_err());
    }
}
