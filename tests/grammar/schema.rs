//! The official JSON Schema test suite: what a grammar lets through satisfies its schema.
//!
//! `tests/data/json-schema-suite.jsonl` holds groups of the JSON-Schema-Test-Suite
//! (MIT licence, copyright 2012 Julian Berman) as the Python package jsonschema
//! 4.26.0 carries it: one per line with file, name, schema, and the instances
//! that the suite calls valid and invalid. Left out: schemas met before, those
//! that refer to other documents, and regular expressions of ECMA-262's own.

use crate::{compile, env, sample, spaced, takes};
use serde_json::Value;
use tern::Error;
use tern::sampler::{Grammar, GrammarKind};

const SUITE: &str = include_str!("../data/json-schema-suite.jsonl");

/// Texts sampled under each schema.
const SEEDS: u64 = 12;

/// What the suite's schemas came to, so that a change in any direction is seen.
#[derive(Debug, Default, PartialEq)]
struct Count {
    /// Compiled, and every text sampled under them parses and validates.
    honoured: usize,
    /// Refused with a message, because a keyword cannot be honoured.
    refused: usize,
    /// Refused because nothing satisfies them.
    unsatisfiable: usize,
    /// Instances the suite calls valid, and how many of them the grammars take:
    /// llguidance fixes the order of fields and one way to write a number.
    valid: usize,
    taken: usize,
}

/// Cuts exponents to two digits: JSON knows no largest number, but f64, and so the validator, does.
fn within_f64(text: &str) -> String {
    let (mut out, mut exponent) = (String::new(), None);
    for c in text.chars() {
        exponent = match (c, exponent) {
            ('e' | 'E', _) => Some(0),
            ('+' | '-', Some(0)) => Some(0),
            (c, Some(digits)) if c.is_ascii_digit() => Some(digits + 1),
            _ => None,
        };
        if exponent.is_none_or(|digits| digits <= 2) {
            out.push(c);
        }
    }
    out
}

#[test]
fn what_is_let_through_satisfies_its_schema() {
    let env = env();
    let mut count = Count::default();
    for line in SUITE.lines() {
        let case: Value = serde_json::from_str(line).expect("the suite is JSON");
        let source = case["schema"].to_string();
        let name = format!("{} / {}: {source}", case["file"], case["name"]);
        let grammar = match Grammar::compile(&env, GrammarKind::JsonSchema, source.as_bytes()) {
            Ok(grammar) => grammar,
            Err(Error::Grammar(message)) => {
                assert!(message.len() > 10, "{name}: {message}");
                let impossible = message.contains("Unsatisfiable schema");
                *(if impossible { &mut count.unsatisfiable } else { &mut count.refused }) += 1;
                continue;
            }
            Err(other) => panic!("{name}: {other}"),
        };
        let mut compiler = boon::Compiler::new();
        compiler.enable_format_assertions();
        let mut schemas = boon::Schemas::new();
        compiler
            .add_resource("http://tern.test/schema", case["schema"].clone())
            .expect("a resource");
        let schema =
            compiler.compile("http://tern.test/schema", &mut schemas).expect("a valid schema");
        for seed in 0..SEEDS {
            let sampled =
                sample(&grammar, seed, 800).unwrap_or_else(|e| panic!("{name}, seed {seed}: {e}"));
            let text = String::from_utf8(sampled.text).expect("UTF-8");
            assert!(sampled.ended, "{name}, seed {seed}: no end after {text}");
            let value: Value = serde_json::from_str(&within_f64(&text))
                .unwrap_or_else(|e| panic!("{name}, seed {seed}: {e} in {text}"));
            if let Err(e) = schemas.validate(&value, schema) {
                panic!("{name}, seed {seed}: {text}: {e}");
            }
        }
        count.honoured += 1;
        for instance in case["invalid"].as_array().expect("a list") {
            assert!(!takes(&grammar, spaced(instance).as_bytes()), "{name} takes {instance}");
        }
        for instance in case["valid"].as_array().expect("a list") {
            count.valid += 1;
            count.taken += usize::from(takes(&grammar, spaced(instance).as_bytes()));
        }
    }
    let want = Count { honoured: 217, refused: 184, unsatisfiable: 6, valid: 535, taken: 504 };
    assert_eq!(count, want);
}

#[test]
fn schemas_of_everyday_use_are_honoured() {
    let schema = serde_json::json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "minLength": 1, "maxLength": 12 },
            "kind": { "enum": ["sword", "shield", 7, null] },
            "level": { "type": "integer", "minimum": 1, "maximum": 40 },
            "weight": { "type": "number", "exclusiveMinimum": 0, "maximum": 99.5 },
            "tags": { "type": "array", "items": { "$ref": "#/$defs/tag" }, "minItems": 1, "maxItems": 3 },
            "forged": { "type": "string", "format": "date-time" },
            "parts": { "type": "array", "items": { "$ref": "#" }, "maxItems": 2 }
        },
        "required": ["name", "kind", "level", "tags", "forged"],
        "additionalProperties": false,
        "$defs": { "tag": { "type": "string", "pattern": "^[a-z]{2,5}$" } }
    });
    let grammar = compile(GrammarKind::JsonSchema, &schema.to_string()).expect("compiles");
    let mut compiler = boon::Compiler::new();
    compiler.enable_format_assertions();
    let mut schemas = boon::Schemas::new();
    compiler.add_resource("http://tern.test/schema", schema).expect("a resource");
    let index = compiler.compile("http://tern.test/schema", &mut schemas).expect("a valid schema");
    for seed in 0..60 {
        let sampled = sample(&grammar, seed, 3000).expect("samples");
        let text = String::from_utf8(sampled.text).expect("UTF-8");
        assert!(sampled.ended, "seed {seed}: no end after {text}");
        let value: Value = serde_json::from_str(&text).expect("JSON");
        schemas.validate(&value, index).unwrap_or_else(|e| panic!("seed {seed}: {text}: {e}"));
    }
}

/// As Python's pydantic writes a union with a discriminator.
#[test]
fn unions_told_apart_by_a_constant_are_honoured() {
    let option = |kind: &str, field: &str| {
        serde_json::json!({
            "type": "object",
            "properties": { "kind": { "const": kind, "type": "string" }, field: { "type": "integer" } },
            "required": ["kind", field],
        })
    };
    let schema = serde_json::json!({
        "oneOf": [{ "$ref": "#/$defs/Cat" }, { "$ref": "#/$defs/Dog" }],
        "discriminator": { "propertyName": "kind" },
        "$defs": { "Cat": option("cat", "lives"), "Dog": option("dog", "bones") },
    });
    let grammar = compile(GrammarKind::JsonSchema, &schema.to_string()).expect("compiles");
    assert!(takes(&grammar, br#"{"kind": "cat", "lives": 9}"#));
    assert!(takes(&grammar, br#"{"kind": "dog", "bones": 2}"#));
    assert!(!takes(&grammar, br#"{"kind": "dog", "lives": 9}"#));
}

#[test]
fn dates_and_times_exist() {
    for (format, good, bad) in [
        (
            "date",
            &["2024-02-29", "2000-02-29", "1999-12-31"][..],
            &["2023-02-29", "1900-02-29", "2024-04-31"][..],
        ),
        ("time", &["23:59:59Z", "00:00:00.5+05:30"], &["23:59:60Z", "24:00:00Z", "12:00:00"]),
        ("date-time", &["2024-02-29T12:00:00Z"], &["2023-02-29T12:00:00Z", "2024-02-29 12:00:00Z"]),
    ] {
        let schema = serde_json::json!({ "type": "string", "format": format });
        let grammar = compile(GrammarKind::JsonSchema, &schema.to_string()).expect("compiles");
        for text in good {
            assert!(takes(&grammar, format!("{text:?}").as_bytes()), "{format}: {text}");
        }
        for text in bad {
            assert!(!takes(&grammar, format!("{text:?}").as_bytes()), "{format}: {text}");
        }
    }
}
