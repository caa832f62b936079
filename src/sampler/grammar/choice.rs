//! One of a list of strings, as a Lark grammar.

use crate::error::{Error, Result};
use serde_json::Value;

/// A grammar whose text is one of the strings of a JSON array.
pub(super) fn to_lark(choices: &Value) -> Result<String> {
    let wanted =
        || Error::Grammar("a choice is a JSON array of one or more non-empty strings".into());
    let choices = choices.as_array().filter(|choices| !choices.is_empty()).ok_or_else(wanted)?;
    let mut lark = String::from("start: CHOICE\nCHOICE: ");
    for (i, choice) in choices.iter().enumerate() {
        let choice = choice.as_str().filter(|choice| !choice.is_empty()).ok_or_else(wanted)?;
        if i > 0 {
            lark.push_str(" | ");
        }
        lark.push_str(&quote(choice));
    }
    lark.push('\n');
    Ok(lark)
}

/// A string as Lark writes it: JSON's escapes, and DEL escaped too.
pub(super) fn quote(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}
