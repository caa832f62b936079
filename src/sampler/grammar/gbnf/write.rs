//! Rules over lexemes → Lark.

use crate::sampler::grammar::choice::quote;
use crate::sampler::grammar::gbnf::chars::Chars;
use crate::sampler::grammar::gbnf::cut::{Cut, Part, is_nullable, nullable};
use crate::sampler::grammar::gbnf::parse::{Node, Rule};
use std::fmt::Write;

/// The Lark text and, for each of its lines, the line of the rule it comes from.
///
/// Rule n is `rn`, lexeme n is `Tn`, and a rule within lexemes is `Rn`.
pub(super) fn lark(rules: &[Rule], cut: &Cut) -> (String, Vec<usize>) {
    let mut out = Out { text: String::new(), lines: Vec::new() };
    for (number, part) in cut.rules.iter().enumerate() {
        if let Some(part) = part {
            if number == 0 {
                out.line(rules[0].line, &format!("start: {}", rule_text(part)));
            }
            out.line(rules[number].line, &format!("r{number}: {}", rule_text(part)));
        }
    }
    let nullable = nullable(rules);
    let mut within = vec![false; rules.len()];
    for (number, (lexeme, line)) in cut.lexemes.iter().zip(&cut.lines).enumerate() {
        mark_rules(lexeme, rules, &mut within);
        let text = lexeme_text(lexeme);
        // A lexeme is used only where it is not empty, and has to say so.
        let text =
            if is_nullable(lexeme, &nullable) { format!("( {text} ) & /(?s:.+)/") } else { text };
        out.line(*line, &format!("T{number}: {text}"));
    }
    for (number, rule) in rules.iter().enumerate().filter(|(number, _)| within[*number]) {
        out.line(rule.line, &format!("R{number}: {}", lexeme_text(&rule.body)));
    }
    (out.text, out.lines)
}

struct Out {
    text: String,
    lines: Vec<usize>,
}

impl Out {
    fn line(&mut self, line: usize, text: &str) {
        self.text.push_str(text);
        self.text.push('\n');
        self.lines.push(line);
    }
}

/// Marks the rules that `node` leads to.
fn mark_rules(node: &Node, rules: &[Rule], marked: &mut [bool]) {
    match node {
        Node::Char(_) => {}
        Node::Rule(number) => {
            if !std::mem::replace(&mut marked[*number], true) {
                mark_rules(&rules[*number].body, rules, marked);
            }
        }
        Node::Seq(items) | Node::Alt(items) => {
            items.iter().for_each(|item| mark_rules(item, rules, marked))
        }
        Node::Repeat(item, ..) => mark_rules(item, rules, marked),
    }
}

fn rule_text(part: &Part) -> String {
    match part {
        Part::Lexeme(number) => format!("T{number}"),
        Part::Rule(number) => format!("r{number}"),
        Part::Seq(parts) if parts.is_empty() => "\"\"".into(),
        Part::Seq(parts) => parts.iter().map(rule_text).collect::<Vec<_>>().join(" "),
        Part::Alt(parts) => {
            format!("( {} )", parts.iter().map(rule_text).collect::<Vec<_>>().join(" | "))
        }
        Part::Repeat(part, min, max) => {
            let is_atom = matches!(**part, Part::Lexeme(_) | Part::Rule(_) | Part::Alt(_));
            repeated(rule_text(part), is_atom, *min, *max)
        }
    }
}

fn lexeme_text(node: &Node) -> String {
    match node {
        Node::Char(chars) => match chars.single() {
            Some(c) => quote(c.encode_utf8(&mut [0; 4])),
            None => set(chars),
        },
        Node::Rule(number) => format!("R{number}"),
        Node::Seq(items) if items.is_empty() => "\"\"".into(),
        Node::Seq(items) => {
            // Single characters in a row are one string.
            let single =
                |node: &Node| if let Node::Char(chars) = node { chars.single() } else { None };
            let runs = items.chunk_by(|a, b| single(a).is_some() && single(b).is_some());
            let texts: Vec<String> = runs
                .map(|run| match run {
                    [one] => lexeme_text(one),
                    run => quote(&run.iter().filter_map(single).collect::<String>()),
                })
                .collect();
            texts.join(" ")
        }
        Node::Alt(items) => {
            format!("( {} )", items.iter().map(lexeme_text).collect::<Vec<_>>().join(" | "))
        }
        Node::Repeat(item, min, max) => {
            let is_atom = matches!(**item, Node::Char(_) | Node::Rule(_) | Node::Alt(_));
            repeated(lexeme_text(item), is_atom, *min, *max)
        }
    }
}

fn repeated(text: String, is_atom: bool, min: u32, max: Option<u32>) -> String {
    let text = if is_atom { text } else { format!("( {text} )") };
    match (min, max) {
        (_, Some(0)) => "\"\"".into(),
        (0, None) => format!("{text}*"),
        (1, None) => format!("{text}+"),
        (0, Some(1)) => format!("{text}?"),
        (min, None) => format!("{text}{{{min},}}"),
        (min, Some(max)) => format!("{text}{{{min},{max}}}"),
    }
}

/// A set of characters as a regular expression.
fn set(chars: &Chars) -> String {
    let mut text = String::from("/[");
    for &(from, to) in chars.ranges() {
        // Surrogates are no characters; a range may begin or end among them.
        let from = if (0xd800..=0xdfff).contains(&from) { 0xe000 } else { from };
        let to = if (0xd800..=0xdfff).contains(&to) { 0xd7ff } else { to };
        if from <= to {
            write!(text, "\\x{{{from:x}}}-\\x{{{to:x}}}").expect("a string takes all text");
        }
    }
    text + "]/"
}
