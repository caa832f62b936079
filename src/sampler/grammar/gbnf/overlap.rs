//! Whether taking the longest lexeme can differ from what the grammar means.
//!
//! It can if there is a text that is a whole lexeme B, and that with one more
//! character, one that may follow B, is the beginning of a lexeme A (B itself,
//! or another): the lexer would go on with A. Whether A and B are ever possible
//! at the same place is not asked, so the answer may be a needless yes.

use crate::sampler::grammar::gbnf::chars::Chars;
use crate::sampler::grammar::gbnf::cut::{Cut, Part, fixpoint, nullable};
use crate::sampler::grammar::gbnf::parse::{Node, Rule};

/// States of all automata together; more count as an overlap.
const STATES_MAX: usize = 20_000;

/// Pairs of transitions looked at; more count as an overlap.
const WORK_MAX: usize = 20_000_000;

pub(super) fn overlaps(rules: &[Rule], cut: &Cut) -> bool {
    let mut budget = STATES_MAX;
    let automata: Option<Vec<Automaton>> =
        cut.lexemes.iter().map(|lexeme| Automaton::new(lexeme, rules, &mut budget)).collect();
    let Some(automata) = automata else { return true };
    let follow = follow(rules, cut, &automata);
    let mut work = WORK_MAX;
    automata.iter().zip(&follow).any(|(b, follow)| {
        !follow.is_empty()
            && automata.iter().any(|a| extends(a, b, follow, &mut work).unwrap_or(true))
    })
}

/// Whether a text of `b` can go on, with a character of `follow`, as the
/// beginning of one of `a`. `None`: too much work to tell.
fn extends(a: &Automaton, b: &Automaton, follow: &Chars, work: &mut usize) -> Option<bool> {
    let mut seen = vec![false; a.moves.len() * b.moves.len()];
    let mut todo = vec![(0, 0)];
    while let Some((in_a, in_b)) = todo.pop() {
        for (chars_b, to_b) in &b.moves[in_b] {
            for (chars_a, to_a) in &a.moves[in_a] {
                *work = work.checked_sub(1)?;
                let seen = &mut seen[to_a * b.moves.len() + to_b];
                if *seen || !chars_a.intersects(chars_b) {
                    continue;
                }
                *seen = true;
                if b.accepts[*to_b]
                    && a.moves[*to_a].iter().any(|(chars, _)| chars.intersects(follow))
                {
                    return Some(true);
                }
                todo.push((*to_a, *to_b));
            }
        }
    }
    Some(false)
}

/// The characters that may follow each lexeme.
fn follow(rules: &[Rule], cut: &Cut, automata: &[Automaton]) -> Vec<Chars> {
    let mut facts = Facts {
        automata,
        nullable: nullable(rules),
        first: vec![Chars::default(); rules.len()],
        after_rule: vec![Chars::default(); rules.len()],
        after_lexeme: vec![Chars::default(); automata.len()],
        grew: false,
    };
    let bodies =
        || cut.rules.iter().enumerate().filter_map(|(n, part)| part.as_ref().map(|part| (n, part)));
    fixpoint(|| {
        let mut grew = false;
        for (number, part) in bodies() {
            let first = facts.first(part);
            grew |= facts.first[number].add(&first);
        }
        grew
    });
    fixpoint(|| {
        facts.grew = false;
        for (number, part) in bodies() {
            let after = facts.after_rule[number].clone();
            facts.walk(part, &after);
        }
        facts.grew
    });
    facts.after_lexeme
}

struct Facts<'a> {
    automata: &'a [Automaton],
    nullable: Vec<bool>,
    first: Vec<Chars>,
    after_rule: Vec<Chars>,
    after_lexeme: Vec<Chars>,
    grew: bool,
}

impl Facts<'_> {
    /// The characters a part may begin with, as far as the rules' are known.
    fn first(&self, part: &Part) -> Chars {
        let mut first = Chars::default();
        match part {
            Part::Lexeme(number) => {
                self.automata[*number].moves[0].iter().for_each(|(chars, _)| _ = first.add(chars))
            }
            Part::Rule(number) => first = self.first[*number].clone(),
            Part::Alt(parts) => parts.iter().for_each(|part| _ = first.add(&self.first(part))),
            Part::Repeat(part, ..) => first = self.first(part),
            Part::Seq(parts) => {
                for part in parts {
                    first.add(&self.first(part));
                    if !self.is_nullable(part) {
                        break;
                    }
                }
            }
        }
        first
    }

    fn is_nullable(&self, part: &Part) -> bool {
        match part {
            Part::Lexeme(_) => false,
            Part::Rule(number) => self.nullable[*number],
            Part::Seq(parts) => parts.iter().all(|part| self.is_nullable(part)),
            Part::Alt(parts) => parts.iter().any(|part| self.is_nullable(part)),
            Part::Repeat(part, min, _) => *min == 0 || self.is_nullable(part),
        }
    }

    /// Notes what may come after everything in `part`, given what may come after it.
    fn walk(&mut self, part: &Part, after: &Chars) {
        match part {
            Part::Lexeme(number) => self.grew |= self.after_lexeme[*number].add(after),
            Part::Rule(number) => self.grew |= self.after_rule[*number].add(after),
            Part::Alt(parts) => parts.iter().for_each(|part| self.walk(part, after)),
            Part::Repeat(part, _, max) => {
                let mut after = after.clone();
                if *max != Some(1) {
                    after.add(&self.first(part));
                }
                self.walk(part, &after);
            }
            Part::Seq(parts) => {
                let mut after = after.clone();
                for part in parts.iter().rev() {
                    self.walk(part, &after);
                    let mut before = self.first(part);
                    if self.is_nullable(part) {
                        before.add(&after);
                    }
                    after = before;
                }
            }
        }
    }
}

/// A lexeme as states and moves between them; it starts in state 0.
struct Automaton {
    moves: Vec<Vec<(Chars, usize)>>,
    accepts: Vec<bool>,
}

impl Automaton {
    /// `None` if it has more states than `budget`, which it is taken from.
    fn new(node: &Node, rules: &[Rule], budget: &mut usize) -> Option<Self> {
        let mut draft = Draft { rules, budget, moves: Vec::new(), jumps: Vec::new() };
        let start = draft.state()?;
        let end = draft.add(node, start)?;
        let (moves, jumps) = (draft.moves, draft.jumps);
        // Moves without a character are folded into those with one.
        let mut folded = Automaton { moves: Vec::new(), accepts: Vec::new() };
        let mut mark = vec![usize::MAX; moves.len()];
        for state in 0..moves.len() {
            let mut reached = vec![state];
            mark[state] = state;
            let (mut out, mut accepts, mut at) = (Vec::new(), false, 0);
            while let Some(&from) = reached.get(at) {
                at += 1;
                accepts |= from == end;
                out.extend(moves[from].iter().cloned());
                for &to in &jumps[from] {
                    if mark[to] != state {
                        mark[to] = state;
                        reached.push(to);
                    }
                }
            }
            folded.moves.push(out);
            folded.accepts.push(accepts);
        }
        Some(folded)
    }
}

struct Draft<'a> {
    rules: &'a [Rule],
    budget: &'a mut usize,
    moves: Vec<Vec<(Chars, usize)>>,
    jumps: Vec<Vec<usize>>,
}

impl Draft<'_> {
    fn state(&mut self) -> Option<usize> {
        *self.budget = self.budget.checked_sub(1)?;
        self.moves.push(Vec::new());
        self.jumps.push(Vec::new());
        Some(self.moves.len() - 1)
    }

    /// Adds `node` after `from`; returns the state behind it.
    fn add(&mut self, node: &Node, from: usize) -> Option<usize> {
        match node {
            Node::Char(chars) => {
                let to = self.state()?;
                self.moves[from].push((chars.clone(), to));
                Some(to)
            }
            Node::Rule(number) => {
                let rules = self.rules;
                // Each visit costs a state, so that rules that double each other run out of them.
                let into = self.state()?;
                self.jumps[from].push(into);
                self.add(&rules[*number].body, into)
            }
            Node::Seq(items) => items.iter().try_fold(from, |from, item| self.add(item, from)),
            Node::Alt(items) => {
                let end = self.state()?;
                for item in items {
                    let last = self.add(item, from)?;
                    self.jumps[last].push(end);
                }
                Some(end)
            }
            Node::Repeat(item, min, max) => {
                let mut at = from;
                for _ in 0..*min {
                    at = self.once(item, at)?;
                }
                let end = self.state()?;
                match max {
                    None => {
                        let again = self.state()?;
                        self.jumps[at].push(again);
                        let last = self.add(item, again)?;
                        self.jumps[last].push(again);
                        self.jumps[again].push(end);
                    }
                    Some(max) => {
                        for _ in *min..*max {
                            self.jumps[at].push(end);
                            at = self.once(item, at)?;
                        }
                        self.jumps[at].push(end);
                    }
                }
                Some(end)
            }
        }
    }

    /// `item` between states of its own, so that it cannot loop back into what is before it.
    fn once(&mut self, item: &Node, from: usize) -> Option<usize> {
        let into = self.state()?;
        self.jumps[from].push(into);
        self.add(item, into)
    }
}
