//! A JSON Schema made ready for llguidance, which honours a keyword or refuses the schema.
//!
//! - Its patterns for dates and times let through a few that do not exist. They
//!   are replaced by exact ones, leap years included; leap seconds are not
//!   written at all, since whether one is valid depends on the time zone.
//! - Keywords that say nothing where they stand are dropped rather than refused.
//! - It takes `oneOf` where the options visibly exclude each other, but does not
//!   look through references: options that are one are put in place of it.

use crate::sampler::grammar::bounds;
use serde_json::{Map, Value};

/// Hours, minutes, seconds, fraction and zone of RFC 3339.
const TIME: &str = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]+)?(?:[zZ]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])";

/// Dates of RFC 3339: months of 31 and 30 days, 28 days of February, and its 29th in leap years.
const DATE: &str = concat!(
    r"(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)",
    r"|02-(?:0[1-9]|1[0-9]|2[0-8]))",
    r"|(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)"
);

/// Keywords whose value is a schema, or an array of schemas.
const SCHEMAS: [&str; 16] = [
    "items",
    "prefixItems",
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "contains",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
    "contentSchema",
];

/// Keywords whose value maps names to schemas.
const MAPS: [&str; 5] =
    ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"];

/// Has the JSON written on one line, with one space behind commas and colons.
///
/// Free white space is a way for a model to go on for ever without a dead end. A
/// schema that says otherwise (`x-guidance`) keeps its say.
pub(super) fn one_line(schema: Value) -> Value {
    let mut fields = match schema {
        Value::Bool(true) => Map::new(),
        Value::Object(fields) => fields,
        other => return other,
    };
    fields.entry("x-guidance").or_insert_with(|| {
        serde_json::json!({ "whitespace_flexible": false, "item_separator": ", ", "key_separator": ": " })
    });
    Value::Object(fields)
}

/// The schema, ready: an equal one for every instance, save for leap seconds.
pub(super) fn ready(schema: Value) -> Value {
    let mut ready = schema.clone();
    Pass { root: &schema, budget: INLINE_MAX }.visit(&mut ready);
    ready
}

/// JSON values that options of `oneOf` may be copied to, all together.
const INLINE_MAX: usize = 50_000;

struct Pass<'a> {
    root: &'a Value,
    budget: usize,
}

impl Pass<'_> {
    /// Works on `schema` and every schema within it.
    fn visit(&mut self, schema: &mut Value) {
        match schema {
            Value::Array(schemas) => schemas.iter_mut().for_each(|schema| self.visit(schema)),
            Value::Object(fields) => {
                for key in SCHEMAS {
                    if let Some(schema) = fields.get_mut(key) {
                        self.visit(schema);
                    }
                }
                for key in MAPS {
                    if let Some(Value::Object(schemas)) = fields.get_mut(key) {
                        schemas.values_mut().for_each(|schema| self.visit(schema));
                    }
                }
                drop_idle(fields);
                replace_format(fields);
                if let Some(Value::Array(options)) = fields.get_mut("oneOf") {
                    options.iter_mut().for_each(|option| self.inline(option));
                }
            }
            _ => {}
        }
    }

    /// Puts the target in place of a schema that is nothing but a reference.
    fn inline(&mut self, option: &mut Value) {
        let reference = option
            .as_object()
            .filter(|fields| fields.len() == 1)
            .and_then(|fields| fields.get("$ref"));
        let target = reference
            .and_then(Value::as_str)
            .and_then(|reference| bounds::schema::resolve(self.root, reference));
        if let Some(target) = target
            && let Some(left) = self.budget.checked_sub(size(target))
        {
            self.budget = left;
            let mut target = target.clone();
            if let Value::Object(fields) = &mut target {
                drop_idle(fields);
                replace_format(fields);
            }
            *option = target;
        }
    }
}

/// Values in a JSON value, itself included.
fn size(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Object(fields) => 1 + fields.values().map(size).sum::<usize>(),
        _ => 1,
    }
}

/// Drops keywords that every instance satisfies.
fn drop_idle(fields: &mut Map<String, Value>) {
    let is = |fields: &Map<String, Value>, key: &str, wanted: bool| {
        fields.get(key).is_some_and(|value| match value {
            Value::Bool(value) => *value == wanted,
            // The empty schema is true.
            Value::Object(fields) => wanted && fields.is_empty(),
            _ => false,
        })
    };
    for key in ["unevaluatedProperties", "unevaluatedItems", "propertyNames"] {
        if is(fields, key, true) {
            fields.remove(key);
        }
    }
    for key in ["uniqueItems", "not"] {
        if is(fields, key, false) {
            fields.remove(key);
        }
    }
    for (key, partner) in
        [("minContains", "contains"), ("maxContains", "contains"), ("then", "if"), ("else", "if")]
    {
        if !fields.contains_key(partner) {
            fields.remove(key);
        }
    }
    if !fields.contains_key("then") && !fields.contains_key("else") {
        fields.remove("if");
    }
    for key in ["dependentSchemas", "dependentRequired"] {
        if fields.get(key).and_then(Value::as_object).is_some_and(Map::is_empty) {
            fields.remove(key);
        }
    }
}

fn replace_format(fields: &mut Map<String, Value>) {
    let pattern = match fields.get("format").and_then(Value::as_str) {
        Some("date") => format!("^{DATE}$"),
        Some("time") => format!("^{TIME}$"),
        Some("date-time") => format!("^{DATE}[tT]{TIME}$"),
        _ => return,
    };
    if !fields.contains_key("pattern") {
        fields.remove("format");
        fields.insert("pattern".into(), pattern.into());
        return;
    }
    // A second pattern goes beside the first; an `allOf` that is not a list is llguidance's to refuse.
    let all = fields.entry("allOf").or_insert_with(|| Value::Array(Vec::new()));
    if let Value::Array(all) = all {
        all.push(serde_json::json!({ "pattern": pattern }));
        fields.remove("format");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn formats_are_replaced_where_schemas_stand_and_nowhere_else() {
        let schema = json!({
            "properties": { "format": { "type": "string", "format": "date" }, "x": { "format": "email" } },
            "enum": [{ "format": "date" }],
            "items": [{ "format": "time", "pattern": "Z$" }],
        });
        let schema = ready(schema);
        assert_eq!(schema["properties"]["format"]["pattern"], json!(format!("^{DATE}$")));
        assert_eq!(schema["properties"]["x"], json!({ "format": "email" }));
        assert_eq!(schema["enum"], json!([{ "format": "date" }]));
        assert_eq!(
            schema["items"][0],
            json!({ "pattern": "Z$", "allOf": [{ "pattern": format!("^{TIME}$") }] })
        );
    }

    #[test]
    fn idle_keywords_are_dropped_and_others_stay() {
        let idle = json!({
            "type": "array", "uniqueItems": false, "unevaluatedItems": true, "propertyNames": {}, "not": false,
            "minContains": 2, "then": false, "dependentRequired": {},
        });
        assert_eq!(ready(idle), json!({ "type": "array" }));
        assert_eq!(ready(json!({ "if": false })), json!({}));
        let busy = json!({
            "uniqueItems": true, "unevaluatedItems": false, "propertyNames": { "pattern": "a" }, "not": {},
            "contains": {}, "minContains": 2, "if": {}, "else": false, "dependentRequired": { "a": ["b"] },
            "enum": [{ "uniqueItems": false }],
        });
        assert_eq!(ready(busy.clone()), busy);
    }

    #[test]
    fn options_are_copied_within_a_budget() {
        let option = |n: usize| json!({ "const": vec![n; 60] });
        let defs: Map<String, Value> = (0..1000).map(|n| (format!("d{n}"), option(n))).collect();
        let refs: Vec<Value> =
            (0..1000).map(|n| json!({ "$ref": format!("#/$defs/d{n}") })).collect();
        let schema = ready(json!({ "oneOf": refs, "$defs": defs }));
        assert_eq!(schema["oneOf"][0], option(0));
        assert_eq!(schema["oneOf"][999], json!({ "$ref": "#/$defs/d999" }));
        // An option that contains itself is copied once.
        let circle = json!({ "oneOf": [{ "$ref": "#" }] });
        assert_eq!(ready(circle.clone()), json!({ "oneOf": [circle] }));
    }
}
