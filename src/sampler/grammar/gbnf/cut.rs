//! Rules cut into lexemes.

use crate::sampler::grammar::gbnf::parse::{Node, Rule};
use std::collections::{HashMap, HashSet};

/// What must not be one lexeme, but is cut into its parts.
#[derive(Debug, Default)]
pub(super) struct Torn {
    nodes: HashSet<Node>,
    /// Everything but single characters.
    all: bool,
}

impl Torn {
    /// Everything but single characters.
    pub(super) fn all() -> Self {
        Torn { nodes: HashSet::new(), all: true }
    }

    pub(super) fn add(&mut self, node: &Node) {
        self.nodes.insert(node.clone());
    }

    fn has(&self, node: &Node) -> bool {
        self.all || self.nodes.contains(node)
    }
}

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

/// The coarsest cut that tears what is `torn`.
pub(super) fn cut(rules: &[Rule], torn: &Torn) -> Cut {
    let flat = flat(rules);
    let nullable = nullable(rules);
    let mut cutter = Cutter {
        torn,
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
    torn: &'a Torn,
    flat: &'a [bool],
    nullable: &'a [bool],
    lexemes: HashMap<Node, usize>,
    out: Vec<Node>,
    lines: Vec<usize>,
    line: usize,
}

impl Cutter<'_> {
    fn part(&mut self, node: &Node) -> Part {
        match node {
            Node::Char(_) => self.lexeme(node.clone()),
            _ if is_flat(node, self.flat) && !self.torn.has(node) => self.lexeme(node.clone()),
            Node::Rule(number) => Part::Rule(*number),
            Node::Seq(items) => Part::Seq(self.sequence(items, is_flat(node, self.flat))),
            Node::Alt(items) => Part::Alt(items.iter().map(|item| self.part(item)).collect()),
            Node::Repeat(item, min, max) => Part::Repeat(Box::new(self.part(item)), *min, *max),
        }
    }

    /// Runs of items that cannot recurse become lexemes; those of a torn sequence stay apart.
    fn sequence(&mut self, items: &[Node], torn: bool) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut rest = items;
        while !rest.is_empty() {
            let run = rest.iter().take_while(|item| is_flat(item, self.flat)).count();
            let run = if torn { 1 } else { run.max(1) };
            let (run, after) = rest.split_at(run);
            rest = after;
            let whole = Node::Seq(run.to_vec());
            if run.len() > 1 && !self.torn.has(&whole) {
                parts.push(self.lexeme(whole));
            } else {
                parts.extend(run.iter().map(|item| self.part(item)));
            }
        }
        parts
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
