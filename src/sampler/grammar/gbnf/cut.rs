//! Rules cut into lexemes.

use crate::sampler::grammar::gbnf::parse::{Node, Rule};
use std::collections::HashMap;

/// How much text one lexeme may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// Whole runs of what cannot recurse.
    Runs,
    /// An item of a sequence: a text, a repeated set, a rule that cannot recurse.
    Items,
    /// As items, but no rule is a lexeme.
    Texts,
    /// One character.
    Characters,
}

/// From coarse to fine.
pub(super) const LEVELS: [Level; 4] = [Level::Runs, Level::Items, Level::Texts, Level::Characters];

/// What a rule is made of after the cut.
#[derive(Debug)]
pub(super) enum Part {
    /// The lexeme with this number, never empty.
    Lexeme(usize),
    Rule(usize),
    Seq(Vec<Part>),
    Alt(Vec<Part>),
    Repeat(Box<Part>, u32, Option<u32>),
}

/// Rules over lexemes.
#[derive(Debug)]
pub(super) struct Cut {
    /// The rules that are still rules, `None` for those that are within lexemes.
    pub(super) rules: Vec<Option<Part>>,
    /// What each lexeme is. Those that may be empty are only used where they are not.
    pub(super) lexemes: Vec<Node>,
    /// The line of the rule that each lexeme first occurs in.
    pub(super) lines: Vec<usize>,
}

pub(super) fn cut(rules: &[Rule], level: Level) -> Cut {
    let flat = flat(rules);
    let nullable = nullable(rules);
    let mut cutter = Cutter {
        level,
        flat: &flat,
        nullable: &nullable,
        lexemes: HashMap::new(),
        out: Vec::new(),
        line: 1,
        lines: Vec::new(),
    };
    let mut parts: Vec<Option<Part>> = rules.iter().map(|_| None).collect();
    // Only what root leads to is kept.
    let mut todo = vec![0];
    let mut seen = vec![false; rules.len()];
    seen[0] = true;
    while let Some(number) = todo.pop() {
        cutter.line = rules[number].line;
        let part = cutter.part(&rules[number].body);
        used_rules(&part, &mut |used| {
            if !std::mem::replace(&mut seen[used], true) {
                todo.push(used);
            }
        });
        parts[number] = Some(part);
    }
    Cut { rules: parts, lexemes: cutter.out, lines: cutter.lines }
}

fn used_rules(part: &Part, found: &mut impl FnMut(usize)) {
    match part {
        Part::Lexeme(_) => {}
        Part::Rule(number) => found(*number),
        Part::Seq(parts) | Part::Alt(parts) => {
            parts.iter().for_each(|part| used_rules(part, found))
        }
        Part::Repeat(part, ..) => used_rules(part, found),
    }
}

struct Cutter<'a> {
    level: Level,
    flat: &'a [bool],
    nullable: &'a [bool],
    lexemes: HashMap<Node, usize>,
    out: Vec<Node>,
    lines: Vec<usize>,
    line: usize,
}

impl Cutter<'_> {
    fn part(&mut self, node: &Node) -> Part {
        if self.is_lexeme(node) {
            return self.lexeme(node.clone());
        }
        match node {
            Node::Char(_) => self.lexeme(node.clone()),
            Node::Rule(number) => Part::Rule(*number),
            Node::Seq(items) if self.level == Level::Runs => {
                let mut parts = Vec::new();
                let is_lexeme: Vec<bool> = items.iter().map(|item| self.is_lexeme(item)).collect();
                let mut rest = items.as_slice();
                while !rest.is_empty() {
                    let at = items.len() - rest.len();
                    let len = is_lexeme[at..].iter().take_while(|is| **is).count().max(1);
                    let (run, after) = rest.split_at(len);
                    rest = after;
                    parts.push(match run {
                        [one] => self.part(one),
                        run => self.lexeme(Node::Seq(run.to_vec())),
                    });
                }
                Part::Seq(parts)
            }
            Node::Seq(items) => Part::Seq(items.iter().map(|item| self.part(item)).collect()),
            Node::Alt(items) => Part::Alt(items.iter().map(|item| self.part(item)).collect()),
            Node::Repeat(item, min, max) => Part::Repeat(Box::new(self.part(item)), *min, *max),
        }
    }

    /// A part for a lexeme that may be empty only where no lexeme stands at all.
    fn lexeme(&mut self, node: Node) -> Part {
        if node == Node::Seq(Vec::new()) {
            return Part::Seq(Vec::new());
        }
        let is_nullable = is_nullable(&node, self.nullable);
        let next = self.out.len();
        let number = *self.lexemes.entry(node.clone()).or_insert(next);
        if number == next {
            self.out.push(node);
            self.lines.push(self.line);
        }
        let lexeme = Part::Lexeme(number);
        if is_nullable { Part::Repeat(Box::new(lexeme), 0, Some(1)) } else { lexeme }
    }

    fn is_lexeme(&self, node: &Node) -> bool {
        match self.level {
            Level::Runs => is_flat(node, self.flat),
            Level::Items => {
                is_item(node) || matches!(node, Node::Rule(number) if self.flat[*number])
            }
            Level::Texts => is_item(node),
            Level::Characters => matches!(node, Node::Char(_)),
        }
    }
}

/// A text, a set, or one of them repeated.
fn is_item(node: &Node) -> bool {
    match node {
        Node::Char(_) => true,
        Node::Seq(items) => items.iter().all(|item| matches!(item, Node::Char(_))),
        Node::Repeat(item, ..) => matches!(**item, Node::Char(_)),
        Node::Rule(_) | Node::Alt(_) => false,
    }
}

/// The rules that lead to no circle, and so are regular.
fn flat(rules: &[Rule]) -> Vec<bool> {
    let mut flat = vec![false; rules.len()];
    fixpoint(|| {
        let mut turned = false;
        for (number, rule) in rules.iter().enumerate().rev() {
            let turns = !flat[number] && is_flat(&rule.body, &flat);
            flat[number] |= turns;
            turned |= turns;
        }
        turned
    });
    flat
}

fn is_flat(node: &Node, flat: &[bool]) -> bool {
    match node {
        Node::Char(_) => true,
        Node::Rule(number) => flat[*number],
        Node::Seq(items) | Node::Alt(items) => items.iter().all(|item| is_flat(item, flat)),
        Node::Repeat(item, ..) => is_flat(item, flat),
    }
}

/// The rules that may be empty.
pub(super) fn nullable(rules: &[Rule]) -> Vec<bool> {
    let mut nullable = vec![false; rules.len()];
    fixpoint(|| {
        let mut turned = false;
        for (number, rule) in rules.iter().enumerate().rev() {
            let turns = !nullable[number] && is_nullable(&rule.body, &nullable);
            nullable[number] |= turns;
            turned |= turns;
        }
        turned
    });
    nullable
}

pub(super) fn is_nullable(node: &Node, nullable: &[bool]) -> bool {
    match node {
        Node::Char(_) => false,
        Node::Rule(number) => nullable[*number],
        Node::Seq(items) => items.iter().all(|item| is_nullable(item, nullable)),
        Node::Alt(items) => items.iter().any(|item| is_nullable(item, nullable)),
        Node::Repeat(item, min, _) => *min == 0 || is_nullable(item, nullable),
    }
}

/// Repeats `step` until it changes nothing.
pub(super) fn fixpoint(mut step: impl FnMut() -> bool) {
    while step() {}
}
