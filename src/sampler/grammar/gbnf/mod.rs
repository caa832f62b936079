//! llama.cpp's GBNF, translated to Lark without changing what it means.
//!
//! GBNF is a grammar over characters; Lark cuts the text into lexemes first and
//! always takes the longest. What cannot recurse may become one lexeme, and has
//! to: a mask over a hundred thousand tokens is affordable only if strings and
//! numbers are lexemes. But a longest match may eat what belongs to the next
//! lexeme. So:
//!
//! 1. `parse` reads rules into a tree;
//! 2. `cut` cuts it into the longest lexemes there can be;
//! 3. `overlap` names those that a longest match makes too long;
//! 4. they are torn into their parts, and it begins again at 2, until none is
//!    left; single characters never are too long;
//! 5. `write` makes Lark of it.
//!
//! A grammar that does not recurse at all is one lexeme.

mod chars;
mod cut;
mod overlap;
mod parse;
mod write;

use crate::error::{Error, Result};
use crate::sampler::grammar::bounds;

/// Rounds of tearing before everything is torn.
const ROUNDS_MAX: usize = 30;

/// Longest source, in bytes.
const SOURCE_MAX: usize = 1 << 18;

/// A Lark grammar for the same texts, and the line of `source`, from 1, behind each of its lines.
///
/// The first rule is `root`, as llama.cpp wants it.
///
/// # Errors
///
/// [`Error::Grammar`](crate::Error::Grammar) with line and column.
pub(super) fn to_lark(source: &str) -> Result<(String, Vec<usize>)> {
    if source.len() > SOURCE_MAX {
        let len = source.len();
        return Err(Error::Grammar(format!("GBNF of {len} bytes, at most {SOURCE_MAX} are taken")));
    }
    let rules = parse::parse(source)?;
    // What follows takes a pass over all rules for each link of a chain.
    bounds::check(&rules.iter().map(parse::Rule::node).collect::<Vec<_>>())?;
    let cut = cut(&rules);
    Ok(write::lark(&rules, &cut))
}

/// The coarsest cut in which no lexeme is too long.
fn cut(rules: &[parse::Rule]) -> cut::Cut {
    let mut torn = cut::Torn::default();
    for _ in 0..ROUNDS_MAX {
        let cut = cut::cut(rules, &torn);
        match overlap::too_long(rules, &cut).as_deref() {
            Some([]) => return cut,
            Some(lexemes) => lexemes.iter().for_each(|&lexeme| torn.add(&cut.lexemes[lexeme])),
            None => break,
        }
    }
    cut::cut(rules, &cut::Torn::all())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lark(source: &str) -> String {
        to_lark(source).unwrap_or_else(|e| panic!("{source}: {e}")).0
    }

    #[test]
    fn grammars_without_recursion_are_one_lexeme() {
        let text =
            lark("root ::= a \"x\" | [^\"\\n]{2,3}\na ::= (\"b\" | b)* # tail\nb ::= [0-9-]+");
        assert_eq!(text.lines().next(), Some("start: T0"), "{text}");
    }

    #[test]
    fn lexemes_are_as_long_as_they_may_be() {
        // Nothing that follows a word begins with a letter.
        let apart = lark("root ::= [a-z]+ (\"(\" root \")\")?");
        assert!(apart.contains("T0 ( T1 r0 T2 )?"), "{apart}");
        // Here the longest word would swallow the `a` after it.
        let torn = lark("root ::= [a-z]+ rest\nrest ::= \"a\" rest | \"!\"");
        assert!(torn.contains("T0+"), "{torn}");
    }
}
