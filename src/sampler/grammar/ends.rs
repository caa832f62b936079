//! Whether every text that a grammar lets begin can also end.

use crate::error::{Error, Result};
use llguidance::earley::{CGrammar, CSymIdx};
use std::collections::HashMap;

/// Refuses a grammar with a part that can be entered and never left, such as an
/// object that must contain itself.
///
/// # Errors
///
/// [`Error::Grammar`].
pub(super) fn check(grammar: &CGrammar) -> Result<()> {
    // Symbols that the start leads to, numbered as they are met.
    let mut known: HashMap<usize, usize> = HashMap::new();
    let mut symbols: Vec<CSymIdx> = Vec::new();
    let mut number = |symbol: CSymIdx, symbols: &mut Vec<CSymIdx>| {
        *known.entry(symbol.as_index()).or_insert_with(|| {
            symbols.push(symbol);
            symbols.len() - 1
        })
    };
    number(grammar.start(), &mut symbols);
    // A rule: its symbol, and how many symbols on its right may still be endless.
    let mut rules: Vec<(usize, usize)> = Vec::new();
    // For each symbol, the rules it stands in, once for each time.
    let mut users: Vec<Vec<usize>> = Vec::new();
    let mut ends: Vec<bool> = Vec::new();
    let mut todo = Vec::new();
    let mut at = 0;
    while at < symbols.len() {
        let data = grammar.sym_data(symbols[at]);
        ends.resize(symbols.len().max(ends.len()), false);
        // A lexeme is known not to be empty; another grammar's symbol is taken on trust.
        if data.is_terminal
            || data.is_nullable
            || data.gen_grammar.is_some()
            || !data.cond_nullable.is_empty()
        {
            ends[at] = true;
            todo.push(at);
        }
        for &rule in grammar.rules_of(symbols[at]) {
            let (right, ..) = grammar.rule_rhs(rule);
            for &symbol in right {
                let used = number(symbol, &mut symbols);
                users.resize(symbols.len().max(users.len()), Vec::new());
                users[used].push(rules.len());
            }
            rules.push((at, right.len()));
        }
        at += 1;
    }
    users.resize(symbols.len(), Vec::new());
    while let Some(symbol) = todo.pop() {
        for &rule in &users[symbol] {
            let (left, open) = &mut rules[rule];
            *open -= 1;
            if *open == 0 && !std::mem::replace(&mut ends[*left], true) {
                todo.push(*left);
            }
        }
    }
    if ends.iter().all(|ends| *ends) {
        return Ok(());
    }
    Err(Error::Grammar("a part of it, once begun, can never end".into()))
}
