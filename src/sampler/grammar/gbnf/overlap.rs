//! Where taking the longest lexeme can differ from what the grammar means.
//!
//! It can if there is a text that is a whole lexeme B, and that with one more
//! character, one that may follow B, is the beginning of a lexeme A (B itself,
//! or another) possible at the same place: the lexer would go on with A. Then A
//! is too long. Which lexemes are possible together is judged by the lexeme
//! before them alone, so that some are called too long without need.

use crate::sampler::grammar::gbnf::chars::Chars;
use crate::sampler::grammar::gbnf::cut::{Cut, Part, fixpoint, nullable};
use crate::sampler::grammar::gbnf::parse::{Node, Rule};

/// Lexemes of a grammar, states of all their automata together, and pairs of
/// transitions looked at; with more of any there is no answer.
const LEXEMES_MAX: usize = 1000;
const STATES_MAX: usize = 20_000;
const WORK_MAX: usize = 20_000_000;

/// The lexemes that are too long; `None` if that takes too much work to tell.
pub(super) fn too_long(rules: &[Rule], cut: &Cut) -> Option<Vec<usize>> {
    let len = cut.lexemes.len();
    if len > LEXEMES_MAX {
        return None;
    }
    let mut budget = STATES_MAX;
    let automata: Option<Vec<Automaton>> =
        cut.lexemes.iter().map(|lexeme| Automaton::new(lexeme, rules, &mut budget)).collect();
    let automata = automata?;
    let mut work = WORK_MAX;
    let order = Order::of(rules, cut);
    let together = together(&automata, &order, &mut work)?;
    let mut found = Vec::new();
    for a in 0..len {
        let mut is_too_long = false;
        for b in (0..len).filter(|&b| together[a].has(b)) {
            let mut follow = Chars::default();
            for next in (0..len).filter(|&next| order.after[b].has(next)) {
                automata[next].moves[0].iter().for_each(|(chars, _)| _ = follow.add(chars));
            }
            let extends = |in_a: usize, in_b: usize| {
                automata[b].accepts[in_b]
                    && automata[a].moves[in_a].iter().any(|(chars, _)| chars.intersects(&follow))
            };
            is_too_long |= meet(&automata[a], &automata[b], extends, &mut work)?;
        }
        if is_too_long {
            found.push(a);
        }
    }
    Some(found)
}

/// For each lexeme, those that may be possible where it is.
///
/// After a lexeme, or after one that the same text could be as well, those that
/// follow it; at the start, those a text begins with.
fn together(automata: &[Automaton], order: &Order, work: &mut usize) -> Option<Vec<Set>> {
    let len = automata.len();
    // Lexemes with a text in common have one representative.
    let mut group: Vec<usize> = (0..len).collect();
    for a in 0..len {
        for b in 0..a {
            let both =
                |in_a: usize, in_b: usize| automata[a].accepts[in_a] && automata[b].accepts[in_b];
            if group[a] != group[b] && meet(&automata[a], &automata[b], both, work)? {
                let (from, to) = (group[a], group[b]);
                group.iter_mut().filter(|group| **group == from).for_each(|group| *group = to);
            }
        }
    }
    let mut possible: Vec<Set> = (0..len).map(|_| Set::new(len)).collect();
    for lexeme in 0..len {
        possible[group[lexeme]].add(&order.after[lexeme]);
    }
    possible.push(order.start.clone());
    let mut together: Vec<Set> = (0..len).map(|_| Set::new(len)).collect();
    for set in &possible {
        (0..len).filter(|&lexeme| set.has(lexeme)).for_each(|lexeme| _ = together[lexeme].add(set));
    }
    Some(together)
}

/// Whether some text, not empty, leads the two automata to states that are
/// `wanted`. `None`: too much work to tell.
fn meet(
    a: &Automaton,
    b: &Automaton,
    wanted: impl Fn(usize, usize) -> bool,
    work: &mut usize,
) -> Option<bool> {
    let mut seen = vec![false; a.moves.len() * b.moves.len()];
    *work = work.checked_sub(seen.len() / 64)?;
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
                if wanted(*to_a, *to_b) {
                    return Some(true);
                }
                todo.push((*to_a, *to_b));
            }
        }
    }
    Some(false)
}

/// A set of lexemes.
#[derive(Clone, Debug, PartialEq)]
struct Set(Vec<u64>);

impl Set {
    fn new(len: usize) -> Self {
        Set(vec![0; len.div_ceil(64)])
    }

    fn has(&self, lexeme: usize) -> bool {
        self.0[lexeme / 64] >> (lexeme % 64) & 1 == 1
    }

    /// Adds all of `other`; whether that was more than nothing.
    fn add(&mut self, other: &Set) -> bool {
        let mut grew = false;
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            grew |= *other & !*word != 0;
            *word |= other;
        }
        grew
    }
}

/// Which lexemes a text may begin with, and which may follow each other.
struct Order {
    start: Set,
    after: Vec<Set>,
}

impl Order {
    fn of(rules: &[Rule], cut: &Cut) -> Self {
        let len = cut.lexemes.len();
        let mut facts = Facts {
            len,
            nullable: nullable(rules),
            first: vec![Set::new(len); rules.len()],
            after_rule: vec![Set::new(len); rules.len()],
            after_lexeme: vec![Set::new(len); len],
            grew: false,
        };
        let bodies = || {
            cut.rules.iter().enumerate().filter_map(|(n, part)| part.as_ref().map(|part| (n, part)))
        };
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
        Order { start: facts.first[0].clone(), after: facts.after_lexeme }
    }
}

struct Facts {
    len: usize,
    nullable: Vec<bool>,
    first: Vec<Set>,
    after_rule: Vec<Set>,
    after_lexeme: Vec<Set>,
    grew: bool,
}

impl Facts {
    /// The lexemes a part may begin with, as far as the rules' are known.
    fn first(&self, part: &Part) -> Set {
        let mut first = Set::new(self.len);
        match part {
            Part::Lexeme(number) => first.0[number / 64] |= 1 << (number % 64),
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
    fn walk(&mut self, part: &Part, after: &Set) {
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
