//! Bounds of a JSON Schema.

use crate::error::Result;
use crate::sampler::grammar::bounds::{Node, at_most};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Patterns and formats that one string has to satisfy together; each can
/// double the work of telling whether any does.
const CONJUNCTS_MAX: usize = 8;

/// Fields in all `properties` together: llguidance takes time quadratic in
/// those of an object, two seconds for so many, and `allOf` may gather them in one.
const FIELDS_MAX: usize = 4000;

/// Patterns in all `patternProperties` together, each compared with each.
const NAME_PATTERNS_MAX: usize = 64;

/// Refuses a schema that asks for too much.
pub(in crate::sampler::grammar) fn check(schema: &Value) -> Result<()> {
    let mut totals = Totals::default();
    totals.add(schema);
    at_most("fields in properties", totals.fields, FIELDS_MAX)?;
    at_most("patternProperties", totals.name_patterns, NAME_PATTERNS_MAX)?;
    let targets = Targets::of(schema);
    super::check(&targets.nodes)?;
    let mut conjuncts = Conjuncts { schema, known: HashMap::new() };
    at_most("patterns and formats for one string", conjuncts.most(schema), CONJUNCTS_MAX)
}

#[derive(Default)]
struct Totals {
    fields: usize,
    name_patterns: usize,
}

impl Totals {
    fn add(&mut self, value: &Value) {
        // No deeper than the JSON parser let it be: 128. The same holds below.
        if let Value::Object(fields) = value {
            let len = |key| fields.get(key).and_then(Value::as_object).map_or(0, Map::len);
            self.fields += len("properties");
            self.name_patterns += len("patternProperties");
        }
        children(value).for_each(|child| self.add(child));
    }
}

fn children(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Array(items) => Box::new(items.iter()),
        Value::Object(fields) => Box::new(fields.values()),
        _ => Box::new(std::iter::empty()),
    }
}

/// What a reference within the schema points to, resolved as llguidance does.
pub(in crate::sampler::grammar) fn resolve<'a>(
    schema: &'a Value,
    reference: &str,
) -> Option<&'a Value> {
    let path = reference.strip_prefix('#')?;
    path.split('/').skip(1).try_fold(schema, |value, key| match value {
        Value::Array(items) => items.get(key.parse::<usize>().ok()?),
        _ => value.get(key),
    })
}

/// The whole schema and every target of a reference, as definitions.
struct Targets {
    nodes: Vec<Node>,
}

impl Targets {
    fn of(schema: &Value) -> Self {
        let mut targets: Vec<&str> = vec!["#"];
        let mut known: HashMap<&str, usize> = HashMap::from([("#", 0)]);
        let mut nodes = Vec::new();
        while nodes.len() < targets.len() {
            let mut node = Node { weight: 1, uses: Vec::new() };
            if let Some(target) = resolve(schema, targets[nodes.len()]) {
                references(target, 1, &mut node.weight, &mut |reference| {
                    let next = targets.len();
                    let id = *known.entry(reference).or_insert(next);
                    if id == next {
                        targets.push(reference);
                    }
                    node.uses.push(id);
                });
            }
            nodes.push(node);
        }
        Targets { nodes }
    }
}

/// Calls `found` for every `$ref` below `value`, and notes how deep it goes.
///
/// Definitions are not walked into: they count where they are referred to.
fn references<'a>(
    value: &'a Value,
    depth: usize,
    deepest: &mut usize,
    found: &mut impl FnMut(&'a str),
) {
    *deepest = (*deepest).max(depth);
    let Value::Object(fields) = value else {
        children(value).for_each(|child| references(child, depth + 1, deepest, found));
        return;
    };
    for (key, value) in fields {
        match value {
            Value::String(reference) if key == "$ref" => found(reference),
            Value::Object(_) if key == "$defs" || key == "definitions" => {}
            _ => references(value, depth + 1, deepest, found),
        }
    }
}

/// Counts the patterns and formats that meet in one string.
struct Conjuncts<'a> {
    schema: &'a Value,
    /// Of the targets of references; 0 while one is being counted, which is in a circle then.
    known: HashMap<&'a str, usize>,
}

impl<'a> Conjuncts<'a> {
    /// The most at any place in `value`.
    fn most(&mut self, value: &'a Value) -> usize {
        let here = self.at(value);
        children(value).fold(here, |most, child| most.max(self.most(child)))
    }

    /// Those that hold for an instance of the schema `value` itself.
    fn at(&mut self, value: &'a Value) -> usize {
        let Value::Object(fields) = value else { return 0 };
        let mut count = usize::from(fields.contains_key("pattern"))
            + usize::from(fields.contains_key("format"));
        let list = |key| fields.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        for part in list("allOf") {
            count += self.at(part);
        }
        for key in ["anyOf", "oneOf"] {
            count += list(key).iter().map(|part| self.at(part)).max().unwrap_or(0);
        }
        if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
            count += match self.known.get(reference) {
                Some(count) => *count,
                None => {
                    self.known.insert(reference, 0);
                    let target =
                        resolve(self.schema, reference).map_or(0, |target| self.at(target));
                    self.known.insert(reference, target);
                    target
                }
            };
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn chains_of_references_are_measured() {
        let refs = |n: usize| -> Value {
            let mut defs = Map::new();
            (0..n).for_each(|i| {
                _ = defs.insert(format!("d{i}"), json!({ "$ref": format!("#/$defs/d{}", i + 1) }))
            });
            defs.insert(format!("d{n}"), json!(true));
            json!({ "items": { "$ref": "#/$defs/d0" }, "$defs": defs })
        };
        assert!(check(&refs(100)).is_ok());
        assert!(check(&refs(600)).is_err());
        let circle = json!({ "items": { "$ref": "#" }, "anyOf": [{ "$ref": "#/items" }, { "$ref": "#/nowhere" }] });
        assert!(check(&circle).is_ok());
    }

    #[test]
    fn conjunctions_are_counted_through_references() {
        let pattern = json!({ "pattern": "a" });
        assert!(check(&json!({ "allOf": vec![pattern.clone(); 8] })).is_ok());
        assert!(check(&json!({ "allOf": vec![pattern.clone(); 9] })).is_err());
        assert!(
            check(&json!({ "anyOf": vec![pattern.clone(); 50], "properties": { "a": pattern } }))
                .is_ok()
        );
        let linked = json!({
            "properties": { "x": { "$ref": "#/$defs/a", "allOf": vec![json!({ "$ref": "#/$defs/b" }); 4] } },
            "$defs": { "a": { "pattern": "a", "$ref": "#/$defs/b" }, "b": { "pattern": "b", "format": "date" } },
        });
        assert!(check(&linked).is_err());
        let circle = json!({ "$ref": "#/$defs/a", "$defs": { "a": { "pattern": "a", "allOf": [{ "$ref": "#/$defs/a" }] } } });
        assert!(check(&circle).is_ok());
    }

    #[test]
    fn fields_are_counted() {
        let fields = |n: usize| (0..n).map(|i| (format!("f{i}"), json!({}))).collect::<Map<_, _>>();
        assert!(check(&json!({ "properties": fields(FIELDS_MAX) })).is_ok());
        assert!(check(&json!({ "allOf": [{ "properties": fields(FIELDS_MAX) }, { "properties": fields(1) }] })).is_err());
        assert!(check(&json!({ "patternProperties": fields(NAME_PATTERNS_MAX + 1) })).is_err());
    }
}
