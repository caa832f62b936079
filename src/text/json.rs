//! JSON as Python's `json.dumps` writes it, which is what templates were trained with.

use super::meter::{Meter, refused};
use minijinja::{Error, Value, value::ValueKind};

/// Widest indentation.
const INDENT_MAX: usize = 32;

/// Writes a value: `", "` and `": "` between, or a line for each element with an indent.
pub(super) fn python(value: &Value, indent: Option<usize>, meter: &Meter) -> Result<Value, Error> {
    if indent > Some(INDENT_MAX) {
        return Err(refused("an indentation of more than 32"));
    }
    let mut text = String::new();
    write(value, indent, 0, meter, &mut text)?;
    Ok(Value::from(text))
}

/// `value` is no deeper than the meter allows.
fn write(
    value: &Value,
    indent: Option<usize>,
    depth: usize,
    meter: &Meter,
    out: &mut String,
) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Map => {
            return list(('{', '}'), value, indent, depth, meter, out, |key, out| {
                string(&key.to_string(), out);
                out.push_str(": ");
                write(&value.get_item(key)?, indent, depth + 1, meter, out)
            });
        }
        ValueKind::Seq | ValueKind::Iterable => {
            return list(('[', ']'), value, indent, depth, meter, out, |item, out| {
                write(item, indent, depth + 1, meter, out)
            });
        }
        ValueKind::None | ValueKind::Undefined => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => out.push_str(&value.to_string()),
        _ => string(&value.to_string(), out),
    }
    Ok(())
}

fn list(
    (open, close): (char, char),
    value: &Value,
    indent: Option<usize>,
    depth: usize,
    meter: &Meter,
    out: &mut String,
    mut item: impl FnMut(&Value, &mut String) -> Result<(), Error>,
) -> Result<(), Error> {
    let line = |depth: usize, out: &mut String| -> Result<(), Error> {
        let Some(indent) = indent else { return Ok(()) };
        meter.charge((indent * depth) as u64)?;
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', indent * depth));
        Ok(())
    };
    out.push(open);
    let mut empty = true;
    for element in value.try_iter()? {
        match (empty, indent) {
            (true, _) => {}
            (false, Some(_)) => out.push(','),
            (false, None) => out.push_str(", "),
        }
        empty = false;
        line(depth + 1, out)?;
        item(&element, out)?;
    }
    if !empty {
        line(depth, out)?;
    }
    out.push(close);
    Ok(())
}

fn string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}
