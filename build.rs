//! Makes the C header, and names the shared library.
//!
//! The header is `OUT_DIR/tern.h`: cbindgen's reading of each section of `src/ffi`, in the order of the source,
//! after the preamble of `cbindgen.toml`. Nothing is written into the tree: `tests/header.rs` holds
//! `include/tern.h` equal, and `make header` copies.

use std::{env, fmt::Write, fs, path::Path};

/// The sections of the header: files of `src/ffi`, and what they are about.
const SECTIONS: &[(&str, &str)] = &[
    (
        "status",
        "status: fixed-width \"enums\", typedef + constants, so no compiler picks another size",
    ),
    ("library", "library"),
    ("error", "errors: one failure, owned by the caller"),
    ("log", "log: silent unless set; the one process-wide state"),
    ("cancel", "cancellation: set and reset from any thread"),
    ("threadpool", "threads"),
    ("model", "model: loading"),
    ("convert", "model: its packed form"),
    ("info", "model: what is known of it"),
    ("vocab", "vocabulary: const model, so any number of threads"),
    ("detok", "tokens as they come: whole characters"),
    ("chat", "chat: turns to text"),
    ("context", "context: keys, values and scratch"),
    ("memory", "memory: planned before anything is loaded"),
    ("eval", "eval: tokens in; logits, scores and embeddings out"),
    ("seq", "sequences (KV): s out of range is INVALID_ARGUMENT"),
    ("grammar", "grammars: compiled once, shared by any number of threads and sessions"),
    ("sampler", "sampling"),
    ("session", "session: what 9 of 10 embedders call"),
    ("answer", "answers of a session: pull, no callback; or one call"),
    ("perf", "counters"),
];

/// Names that dependencies export from C functions of their own.
const FOREIGN: &str = "src/ffi/foreign-symbols.txt";

fn main() {
    let root = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let out = env::var("OUT_DIR").expect("cargo sets it");
    for input in ["build.rs", "cbindgen.toml", "src/ffi"] {
        println!("cargo::rerun-if-changed={input}");
    }
    let header = header(Path::new(&root));
    fs::write(Path::new(&out).join("tern.h"), header).expect("OUT_DIR can be written");
    fs::write(Path::new(&out).join("hidden.s"), hidden(Path::new(&root)))
        .expect("OUT_DIR can be written");
    name_library();
}

/// Assembly that hides the names of `FOREIGN` in ELF, for `src/ffi/hidden.rs`.
///
/// rustc exports the C functions of dependencies too, by a version script that names each, and linkers differ in whether
/// they take a second one: GNU's does not. But of all that objects say of a name the strictest visibility wins, so one
/// object that knows it as hidden is enough. It must mention the name for that: in a relocation of nothing, in a section
/// that no linker keeps. Mach-O and COFF have no such rule: a plain `cargo build` exports these names there, and what is
/// shipped is linked from the static library with a list of its own.
fn hidden(root: &Path) -> String {
    let foreign = fs::read_to_string(root.join(FOREIGN)).expect("the list is committed");
    let names = foreign.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let mut assembly = String::from(".pushsection .tern.hidden,\"e\",%progbits\n.byte 0\n");
    for name in names {
        writeln!(assembly, ".hidden {name}\n.reloc 0, BFD_RELOC_NONE, {name}").expect("a string");
    }
    assembly + ".popsection\n"
}

/// Soname or install name, and no unloading.
fn name_library() {
    let major = env::var("CARGO_PKG_VERSION_MAJOR").expect("cargo sets it");
    let os = env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    let vendor = env::var("CARGO_CFG_TARGET_VENDOR").unwrap_or_default();
    let arg = |arg: &str| println!("cargo::rustc-cdylib-link-arg={arg}");
    if vendor == "apple" {
        arg("-Wl,-install_name,@rpath/libtern.dylib");
    } else if ["linux", "android", "freebsd", "netbsd", "openbsd"].contains(&os.as_str()) {
        // Android has no versioned names: an APK takes lib*.so alone.
        let soname =
            if os == "android" { "libtern.so".into() } else { format!("libtern.so.{major}") };
        arg(&format!("-Wl,-soname,{soname}"));
        // A Rust library cannot be unloaded once its thread-locals were used.
        arg("-Wl,-z,nodelete");
    }
}

fn header(root: &Path) -> String {
    let mut config =
        cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml");
    let preamble = config.header.take().expect("a preamble");
    let trailer = config.trailer.take().expect("a trailer");
    let mut sections = String::new();
    let mut handles = String::new();
    for (name, title) in SECTIONS {
        let path = root.join(format!("src/ffi/{name}.rs"));
        let source = fs::read_to_string(&path).expect("a section's source");
        handles += &opaque(&source, &config.export.exclude);
        let mut raw = Vec::new();
        cbindgen::Builder::new()
            .with_config(config.clone())
            .with_src(&path)
            .generate()
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
            .write(&mut raw);
        let raw = String::from_utf8(raw).expect("cbindgen writes UTF-8");
        write!(sections, "\n/* ==== {title} ==== */\n{}", section(&raw, &source))
            .expect("a string");
    }
    let preamble = preamble
        .replace("@EXAMPLE@", &example(root))
        .replace("@HANDLES@", handles.trim_end())
        .replace("@MAJOR@", &env::var("CARGO_PKG_VERSION_MAJOR").expect("cargo sets it"))
        .replace("@MINOR@", &env::var("CARGO_PKG_VERSION_MINOR").expect("cargo sets it"))
        .replace("@PATCH@", &env::var("CARGO_PKG_VERSION_PATCH").expect("cargo sets it"));
    format!("{}\n{sections}\n{}\n", preamble.trim(), trailer.trim())
}

/// The example of the preamble: the lines between the marks of a C program that the tests compile and run.
fn example(root: &Path) -> String {
    let path = root.join("tests/c/example.c");
    println!("cargo::rerun-if-changed={}", path.display());
    let source = fs::read_to_string(&path).expect("tests/c/example.c");
    let lines = source.lines().skip_while(|line| !line.contains("[example]")).skip(1);
    let lines: Vec<_> = lines.take_while(|line| !line.contains("[end]")).collect();
    assert!(!lines.is_empty(), "tests/c/example.c has no example");
    lines
        .iter()
        .map(|line| format!(" * {line}").trim_end().to_owned())
        .collect::<Vec<_>>()
        .join("\n")
}

/// The opaque types of a section, each with its comment.
fn opaque(source: &str, names: &[String]) -> String {
    let mut out = String::new();
    let mut docs = "";
    for line in source.lines() {
        if let Some(text) = line.strip_prefix("/// ") {
            docs = text;
            continue;
        }
        let name = line.strip_prefix("pub type ").or_else(|| line.strip_prefix("pub struct "));
        let name = name.and_then(|rest| rest.split([' ', '=', '{']).next()).unwrap_or("");
        if name.starts_with("tern_") && names.iter().any(|known| known == name) {
            let new = format!("{name};");
            writeln!(out, "typedef struct {name:<15} {new:<16} /* {} */", brief(docs))
                .expect("a string");
        }
    }
    out
}

/// A comment behind something: no capital, no full stop.
fn brief(docs: &str) -> String {
    let docs = docs.trim_end_matches('.');
    let mut chars = docs.chars();
    match (chars.next(), chars.next()) {
        (Some(first), Some(second)) if !second.is_uppercase() => {
            first.to_lowercase().chain([second]).chain(chars).collect()
        }
        _ => docs.to_owned(),
    }
}

/// One section: cbindgen's items in the order of the source, constants gathered into enums.
fn section(raw: &str, source: &str) -> String {
    let mut items: Vec<(usize, Item)> = raw
        .split("\n\n")
        .filter(|chunk| !chunk.trim().is_empty())
        .map(Item::parse)
        .map(|item| (item.place(source), item))
        .collect();
    items.sort_by_key(|(place, _)| *place);
    let mut out = String::new();
    let mut rest = items.into_iter().map(|(_, item)| item).peekable();
    // Blank lines set apart: in front of enums and structs, and behind them with what stands by them.
    let mut apart = false;
    while let Some(item) = rest.next() {
        let text = match &item.body {
            Body::Constant { .. } => {
                let mut group = vec![item];
                while let Some(next) = rest.next_if(|next| next.joins(&group[0])) {
                    group.push(next);
                }
                if !out.ends_with("typedef int32_t tern_status;\n") && !out.is_empty() {
                    out.push('\n');
                }
                apart = true;
                enumeration(&group)
            }
            Body::Struct(lines) => {
                if !out.is_empty() && !out.ends_with("};\n") {
                    out.push('\n');
                }
                apart = true;
                comment(&item.docs, "") + &structure(lines)
            }
            Body::Function(text) if item.name.ends_with("_init") => text.clone(),
            Body::Function(text) => {
                if std::mem::take(&mut apart) {
                    out.push('\n');
                }
                comment(&item.docs, "") + text
            }
            Body::Type(text) => comment(&item.docs, "") + text,
        };
        out += &text;
    }
    out
}

struct Item {
    name: String,
    docs: Vec<String>,
    body: Body,
}

enum Body {
    Constant { value: String },
    Struct(Vec<String>),
    Function(String),
    Type(String),
}

impl Item {
    fn parse(chunk: &str) -> Item {
        let mut docs = Vec::new();
        let mut lines = chunk.lines().filter(|line| !line.is_empty()).peekable();
        while let Some(line) = lines.next_if(|line| line.starts_with("//")) {
            docs.push(line.trim_start_matches('/').trim().to_owned());
        }
        let lines: Vec<String> = lines.map(str::to_owned).collect();
        let first = lines.first().unwrap_or_else(|| panic!("a comment of nothing: {chunk}"));
        if let Some(define) = first.strip_prefix("#define ") {
            let (name, value) = define.split_once(' ').expect("a value");
            return Item { name: name.into(), docs, body: Body::Constant { value: value.into() } };
        }
        if let Some(name) = first.strip_prefix("typedef struct ").and_then(|s| s.strip_suffix(" {"))
        {
            return Item { name: name.into(), docs, body: Body::Struct(lines) };
        }
        let text = lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
        let text = text.replace("struct tern_", "tern_");
        // What a typedef names is the last word before the parameters or the end; a function stands before `(`.
        let start = match text.find("(*tern_") {
            Some(at) if text.starts_with("typedef") => at + 2,
            _ if text.starts_with("typedef") => text.rfind("tern_").unwrap_or(0),
            _ => text[..text.find('(').unwrap_or(0)].rfind("tern_").unwrap_or(0),
        };
        let name: String =
            text[start..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        assert!(name.starts_with("tern_"), "what does this name? {chunk}");
        let body = if text.starts_with("typedef") {
            Body::Type(text + "\n")
        } else {
            Body::Function(wrapped(&text))
        };
        Item { name, docs, body }
    }

    /// Where the source defines it.
    fn place(&self, source: &str) -> usize {
        ["pub const ", "pub struct ", "pub type ", "fn "]
            .iter()
            .filter_map(|kind| {
                source.match_indices(&format!("{kind}{}", self.name)).find_map(|(at, text)| {
                    let next = source[at + text.len()..].chars().next();
                    next.is_some_and(|c| !c.is_alphanumeric() && c != '_').then_some(at)
                })
            })
            .min()
            .unwrap_or_else(|| panic!("{} is not in the source", self.name))
    }

    /// Whether two constants belong to one enum.
    fn joins(&self, other: &Item) -> bool {
        let family = |name: &str| name.split('_').take(2).collect::<Vec<_>>().join("_");
        let status = |name: &str| {
            matches!(family(name).as_str(), "TERN_OK" | "TERN_DONE" | "TERN_PENDING" | "TERN_ERR")
        };
        matches!(self.body, Body::Constant { .. })
            && (family(&self.name) == family(&other.name)
                || status(&self.name) && status(&other.name))
    }
}

/// A declaration in lines of at most 120 characters.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_inclusive(", ") {
        let line = lines.last_mut().expect("one at least");
        if !line.is_empty() && line.len() + word.trim_end().len() > 120 {
            lines.push(format!("    {word}"));
        } else {
            line.push_str(word);
        }
    }
    lines.iter().map(|line| line.trim_end().to_owned() + "\n").collect()
}

fn comment(docs: &[String], indent: &str) -> String {
    match docs {
        [] => String::new(),
        lines => format!("{indent}/* {} */\n", lines.join(&format!("\n{indent}   "))),
    }
}

fn enumeration(group: &[Item]) -> String {
    let value = |item: &Item| match &item.body {
        Body::Constant { value } => value.clone(),
        _ => String::new(),
    };
    let width = group.iter().map(|item| item.name.len()).max().unwrap_or(0);
    let digits = group.iter().map(|item| value(item).len()).max().unwrap_or(0);
    let mut out = String::from("enum {\n");
    for (i, item) in group.iter().enumerate() {
        let end = if i + 1 < group.len() { "," } else { "" };
        let entry = format!("{:<width$} = {:>digits$}{end}", item.name, value(item));
        let docs = brief(&item.docs.join(" "));
        writeln!(out, "  {entry:<0$} /* {docs} */", width + digits + 4).expect("a string");
    }
    out + "};\n"
}

/// A struct whose one-line comments stand behind their fields.
fn structure(lines: &[String]) -> String {
    let mut out = String::new();
    let mut docs: Vec<String> = Vec::new();
    for line in lines {
        let text = line.trim();
        if let Some(doc) = text.strip_prefix("//") {
            docs.push(doc.trim().to_owned());
            continue;
        }
        if docs.len() == 1 && line.len() + docs[0].len() < 108 {
            writeln!(out, "{line:<37} /* {} */", docs[0]).expect("a string");
        } else {
            out += &comment(&docs, "  ");
            writeln!(out, "{line}").expect("a string");
        }
        docs.clear();
    }
    out
}
