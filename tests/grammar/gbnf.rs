//! GBNF: what it means here is what it means in llama.cpp.

use crate::{env, takes};
use std::collections::BTreeSet;
use std::fmt::Write;
use tern::sampler::{Grammar, GrammarKind};

/// Longest text compared.
const LEN: usize = 6;

/// A grammar as the test sees it.
enum Node {
    Text(&'static str),
    Set(&'static str),
    Rule(usize),
    Seq(Vec<Node>),
    Alt(Vec<Node>),
    Repeat(Box<Node>, usize, Option<usize>),
}

fn random(rng: &mut fastrand::Rng, rules: usize, depth: usize) -> Node {
    let leaf = depth == 0 || rng.u32(..3) == 0;
    match rng.u32(..if leaf { 5 } else { 8 }) {
        0 => Node::Text(["a", "b", "ab", "ba", "aab", ""][rng.usize(..6)]),
        1 | 2 => Node::Set(["a", "b", "ab"][rng.usize(..3)]),
        3 | 4 => Node::Rule(rng.usize(..rules)),
        5 => Node::Seq((0..rng.usize(2..4)).map(|_| random(rng, rules, depth - 1)).collect()),
        6 => Node::Alt((0..rng.usize(2..4)).map(|_| random(rng, rules, depth - 1)).collect()),
        _ => {
            let (min, max) =
                [(0, None), (1, None), (0, Some(1)), (2, Some(3)), (1, Some(2)), (2, None)]
                    [rng.usize(..6)];
            Node::Repeat(Box::new(random(rng, rules, depth - 1)), min, max)
        }
    }
}

fn write(node: &Node, out: &mut String) {
    match node {
        Node::Text(text) => write!(out, "\"{text}\" ").expect("text"),
        Node::Set(set) => write!(out, "[{set}] ").expect("text"),
        Node::Rule(0) => out.push_str("root "),
        Node::Rule(n) => write!(out, "r-{n} ").expect("text"),
        Node::Seq(items) => items.iter().for_each(|item| write(item, out)),
        Node::Alt(items) => {
            out.push_str("( ");
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push_str("| ");
                }
                write(item, out);
            }
            out.push_str(") ");
        }
        Node::Repeat(item, min, max) => {
            out.push_str("( ");
            write(item, out);
            out.push(')');
            match (min, max) {
                (0, None) => out.push_str("* "),
                (1, None) => out.push_str("+ "),
                (0, Some(1)) => out.push_str("? "),
                (min, None) => write!(out, "{{{min},}} ").expect("text"),
                (min, Some(max)) => write!(out, "{{{min},{max}}} ").expect("text"),
            }
        }
    }
}

type Texts = BTreeSet<String>;

fn joined(a: &Texts, b: &Texts) -> Texts {
    let pairs = a.iter().flat_map(|x| b.iter().map(move |y| format!("{x}{y}")));
    pairs.filter(|text| text.len() <= LEN).collect()
}

/// All texts of up to `LEN` characters, given those known of each rule.
fn texts(node: &Node, rules: &[Texts]) -> Texts {
    match node {
        Node::Text(text) => Texts::from([text.to_string()]),
        Node::Set(set) => set.chars().map(String::from).collect(),
        Node::Rule(n) => rules[*n].clone(),
        Node::Seq(items) => items
            .iter()
            .fold(Texts::from([String::new()]), |all, item| joined(&all, &texts(item, rules))),
        Node::Alt(items) => items.iter().flat_map(|item| texts(item, rules)).collect(),
        Node::Repeat(item, min, max) => {
            let item = texts(item, rules);
            let mut all = Texts::from([String::new()]);
            (0..*min).for_each(|_| all = joined(&all, &item));
            for _ in *min..max.unwrap_or(min + LEN + 1) {
                let more = joined(&all, &item);
                all.extend(more);
            }
            all
        }
    }
}

#[test]
fn random_grammars_mean_what_their_definition_says() {
    let env = env();
    let mut rng = fastrand::Rng::with_seed(31);
    let all: Vec<String> = (0..=LEN)
        .flat_map(|len| {
            (0..1u32 << len).map(move |bits| {
                (0..len).map(|i| if bits >> i & 1 == 1 { 'b' } else { 'a' }).collect()
            })
        })
        .collect();
    let (mut compared, mut recursive) = (0, 0);
    for round in 0..400 {
        let len = rng.usize(1..4);
        let rules: Vec<Node> = (0..len).map(|_| random(&mut rng, len, 3)).collect();
        let mut source = String::new();
        for (n, rule) in rules.iter().enumerate() {
            let name = if n == 0 { "root".to_string() } else { format!("r-{n}") };
            write!(source, "{name} ::= ").expect("text");
            write(rule, &mut source);
            source.push('\n');
        }
        let mut want: Vec<Texts> = vec![Texts::new(); len];
        loop {
            let next: Vec<Texts> = rules.iter().map(|rule| texts(rule, &want)).collect();
            if next == want {
                break;
            }
            want = next;
        }
        let grammar = match Grammar::compile(&env, GrammarKind::Gbnf, source.as_bytes()) {
            Ok(grammar) => grammar,
            Err(error) => {
                // A rule without a text is refused, wherever it stands.
                let empty = |texts: &Texts| texts.iter().all(String::is_empty);
                assert!(want.iter().any(empty), "round {round}: {error}\n{source}");
                continue;
            }
        };
        for text in &all {
            assert_eq!(
                takes(&grammar, text.as_bytes()),
                want[0].contains(text),
                "round {round}: {text:?}\n{source}"
            );
        }
        compared += 1;
        recursive += usize::from(source.matches("root").count() > 1);
    }
    // Exact, so that a change of the generator is seen.
    assert_eq!((compared, recursive), (293, 78));
}
