//! llama.cpp's GBNF, translated to Lark without changing what it means.
//!
//! GBNF is a grammar over characters; Lark cuts the text into lexemes first and
//! always takes the longest. What cannot recurse may become one lexeme, and has
//! to: a mask over a hundred thousand tokens is affordable only if strings and
//! numbers are lexemes. But a longest match may eat what belongs to the next
//! lexeme. So:
//!
//! 1. [`parse`] reads rules into a tree;
//! 2. [`cut`] cuts it into lexemes at one of four levels, from whole runs to
//!    single characters;
//! 3. [`overlap`] looks for a text where a longest match could matter;
//! 4. the coarsest level without one is written as Lark. Single characters
//!    never overlap, so there always is one.
//!
//! A grammar that does not recurse at all is one lexeme.

mod chars;
mod cut;
mod overlap;
mod parse;
mod write;

use crate::error::{Error, Result};
use crate::sampler::grammar::bounds;

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
    let cut = cut::LEVELS
        .into_iter()
        .map(|level| cut::cut(&rules, level))
        .find(|cut| !overlap::overlaps(&rules, cut))
        .unwrap_or_else(|| cut::cut(&rules, cut::Level::Characters));
    Ok(write::lark(&rules, &cut))
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
