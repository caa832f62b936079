//! What a program compiled against an earlier header of this minor version relies on still stands.
//!
//! `tests/data/abi/tern-MAJOR.MINOR.txt` is the header as first released with that version. Every function, type and
//! constant of it must be in `include/tern.h` as it was; a struct may have grown at its end alone. What was added is no
//! concern here. Sizes and offsets are `tests/c/abi.txt`'s, names that the library exports `tests/c/exports.txt`'s.

use std::collections::BTreeMap;

const HEADER: &str = include_str!("../include/tern.h");

/// Declarations of a header, by name: words with one blank between, comments and the preprocessor's lines away.
fn declarations(header: &str) -> BTreeMap<String, String> {
    let mut text = String::new();
    let mut rest = header;
    while let Some((before, comment)) = rest.split_once("/*") {
        text += before;
        rest = comment.split_once("*/").expect("comments end").1;
    }
    text += rest;
    let mut plain = String::new();
    let mut found = BTreeMap::new();
    let mut continued = false;
    for line in text.lines() {
        let directive = continued || line.trim_start().starts_with('#');
        continued = directive && line.ends_with('\\');
        if let Some(constant) = line.strip_prefix("#define TERN_") {
            let (name, value) = constant.split_once(' ').unwrap_or((constant, ""));
            // How a compiler spells visibility is no promise, and versions are there to change.
            if !["API", "MUST_USE", "H"].contains(&name) && !name.starts_with("VERSION_") {
                found.insert(format!("TERN_{name}"), words(value));
            }
        }
        if !directive {
            plain = plain + line + " ";
        }
    }
    let plain = plain.replace("extern \"C\" {", "").replace("TERN_API", "");
    let (mut depth, mut start) = (0, 0);
    for (at, c) in plain.char_indices() {
        depth += match c {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        if c == ';' && depth == 0 {
            declare(&words(&plain[start..at]), &mut found);
            start = at + 1;
        }
    }
    found
}

fn words(text: &str) -> String {
    let spaced: String = text
        .chars()
        .flat_map(|c| if "(){}*,;=[]".contains(c) { vec![' ', c, ' '] } else { vec![c] })
        .collect();
    spaced.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Notes one declaration under its name; an enum is as many as it has constants.
fn declare(text: &str, found: &mut BTreeMap<String, String>) {
    if let Some(constants) = text.strip_prefix("enum {") {
        for constant in constants.trim_end_matches('}').split(',') {
            let (name, value) = constant.split_once('=').expect("every constant has its number");
            found.insert(name.trim().to_owned(), value.trim().to_owned());
        }
        return;
    }
    // A function's or callback's name stands before its parameters, a type's at the end.
    let before = match text.split_once(" (") {
        Some((_, callback)) if text.starts_with("typedef") && !text.contains('{') => {
            callback.split_once(')').expect("closed").0
        }
        Some((before, _)) if !text.contains('{') => before,
        _ => text,
    };
    let name = before.split_whitespace().next_back().expect("a name");
    assert!(name.starts_with("tern_"), "what does this declare? {text}");
    found.insert(name.to_owned(), text.to_owned());
}

/// What `old` promises and `new` breaks.
fn broken(old: &str, new: &str) -> Vec<String> {
    let new = declarations(new);
    let mut out = Vec::new();
    for (name, was) in declarations(old) {
        let grown = |is: &String| {
            let fields = was.strip_suffix(&format!("}} {name}"));
            fields.is_some_and(|fields| fields.contains('{') && is.starts_with(fields))
        };
        match new.get(&name) {
            None => out.push(format!("{name} is gone")),
            Some(is) if *is == was || grown(is) => {}
            Some(is) => out.push(format!("{name} was `{was}` and is `{is}`")),
        }
    }
    out
}

fn snapshot() -> String {
    let version = env!("CARGO_PKG_VERSION").rsplit_once('.').expect("three numbers").0;
    let path = format!("{}/tests/data/abi/tern-{version}.txt", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| {
        panic!("{path}: {error}; a new minor version begins with a copy of include/tern.h there")
    })
}

#[test]
fn nothing_that_was_released_is_broken() {
    let old = snapshot();
    assert!(declarations(&old).len() > 200, "only {} declarations", declarations(&old).len());
    let broken = broken(&old, HEADER);
    assert!(
        broken.is_empty(),
        "{broken:#?}\na released minor version must not break: this needs the next one. If \
         the changelog calls this version unreleased, copy include/tern.h over the snapshot"
    );
}

#[test]
fn breaks_are_seen_and_growth_is_none() {
    let old = snapshot();
    for (from, to, want) in [
        ("TERN_ERR_IO                =  -3", "TERN_ERR_IO = -33", "TERN_ERR_IO was"),
        ("typedef int32_t tern_token;", "typedef int64_t tern_token;", "tern_token was"),
        ("(void *user_data, float fraction);", "(float fraction);", "tern_progress_fn was"),
        (
            "tern_error_free(tern_error *error)",
            "tern_error_free(void *error)",
            "tern_error_free was",
        ),
        (
            "tern_error_free(tern_error *error)",
            "tern_error_done(void *error)",
            "tern_error_free is gone",
        ),
        ("} tern_chunk;", "uint32_t more;\n} tern_chunk;", ""),
        (
            "typedef struct tern_chunk {",
            "typedef struct tern_chunk {\n  uint32_t more;",
            "tern_chunk was",
        ),
        ("/* ==== library ==== */", "TERN_API void tern_more(void);", ""),
        ("SIZE_MAX ", "0 ", "TERN_NUL_TERMINATED was"),
    ] {
        assert!(old.contains(from), "the header has no {from}");
        let broken = broken(&old, &old.replacen(from, to, 1));
        match want {
            "" => assert!(broken.is_empty(), "{from} to {to}: {broken:?}"),
            want => assert!(
                broken.len() == 1 && broken[0].starts_with(want),
                "{from} to {to}: {broken:?}"
            ),
        }
    }
}
