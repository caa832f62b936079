//! A JSON Schema made ready for llguidance.
//!
//! llguidance honours a keyword or refuses the schema, with one exception: its
//! patterns for dates and times let through a few that do not exist. They are
//! replaced here by exact ones, leap years included; leap seconds are not
//! written at all, since whether one is valid depends on the time zone.

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

/// Replaces the formats `date`, `time` and `date-time` by exact patterns, wherever a schema stands.
pub(super) fn make_exact(schema: &mut Value) {
    match schema {
        Value::Array(schemas) => schemas.iter_mut().for_each(make_exact),
        Value::Object(fields) => {
            for key in SCHEMAS {
                fields.get_mut(key).into_iter().for_each(make_exact);
            }
            for key in MAPS {
                if let Some(Value::Object(schemas)) = fields.get_mut(key) {
                    schemas.values_mut().for_each(make_exact);
                }
            }
            replace_format(fields);
        }
        _ => {}
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
        let mut schema = json!({
            "properties": { "format": { "type": "string", "format": "date" }, "x": { "format": "email" } },
            "enum": [{ "format": "date" }],
            "items": [{ "format": "time", "pattern": "Z$" }],
        });
        make_exact(&mut schema);
        assert_eq!(schema["properties"]["format"]["pattern"], json!(format!("^{DATE}$")));
        assert_eq!(schema["properties"]["x"], json!({ "format": "email" }));
        assert_eq!(schema["enum"], json!([{ "format": "date" }]));
        assert_eq!(
            schema["items"][0],
            json!({ "pattern": "Z$", "allOf": [{ "pattern": format!("^{TIME}$") }] })
        );
    }
}
