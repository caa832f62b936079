//! Every package that goes into the library may be shipped, and is there once.

use serde_json::Value;
use std::{collections::BTreeMap, process::Command};

/// Licences that allow shipping a binary, given their notices.
const ALLOWED: [&str; 11] = [
    "MIT",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "Unlicense",
    "CC0-1.0",
    "0BSD",
    "Apache-2.0 WITH LLVM-exception",
];

/// Packages that two dependencies want in two versions, and why that stands.
const TWICE: [(&str, &str); 0] = [];

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--offline",
            "--filter-platform",
            "x86_64-unknown-linux-gnu",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Whether a package runs inside the compiler alone.
fn is_macro(metadata: &Value, id: &str) -> bool {
    let package = metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .find(|package| package["id"] == *id);
    package.expect("a package")["targets"]
        .as_array()
        .expect("targets")
        .iter()
        .any(|target| target["kind"][0] == "proc-macro")
}

/// Ids of what the library is built from: normal dependencies, through and through.
fn shipped(metadata: &Value) -> Vec<String> {
    let nodes = metadata["resolve"]["nodes"].as_array().expect("nodes");
    let mut open = vec![metadata["resolve"]["root"].as_str().expect("a root").to_owned()];
    let mut seen: Vec<String> = Vec::new();
    while let Some(id) = open.pop() {
        if seen.contains(&id) {
            continue;
        }
        if is_macro(metadata, &id) {
            continue;
        }
        let node = nodes.iter().find(|node| node["id"] == *id).expect("a node");
        for dep in node["deps"].as_array().expect("deps") {
            let normal = dep["dep_kinds"]
                .as_array()
                .expect("kinds")
                .iter()
                .any(|kind| kind["kind"].is_null());
            if normal {
                open.push(dep["pkg"].as_str().expect("an id").to_owned());
            }
        }
        seen.push(id);
    }
    seen
}

fn allowed(expression: &str) -> bool {
    // `A OR B`, `A/B`: one will do. `A AND B`: both must.
    let expression = expression.replace('/', " OR ").replace(['(', ')'], " ");
    expression.split(" AND ").all(|all| all.split(" OR ").any(|one| ALLOWED.contains(&one.trim())))
}

#[test]
fn every_licence_allows_shipping() {
    let metadata = metadata();
    let ids = shipped(&metadata);
    assert!(ids.len() > 20, "only {} packages were found", ids.len());
    for package in metadata["packages"].as_array().expect("packages") {
        if ids.iter().any(|id| package["id"] == **id) {
            let licence = package["license"].as_str().unwrap_or("none");
            assert!(allowed(licence), "{} {}: {licence}", package["name"], package["version"]);
        }
    }
    assert!(allowed("MIT OR Apache-2.0") && allowed("(MIT OR GPL-3.0) AND Unicode-3.0"));
    assert!(!allowed("GPL-3.0") && !allowed("MIT AND GPL-3.0"));
}

#[test]
fn no_package_is_there_in_two_versions() {
    let metadata = metadata();
    let ids = shipped(&metadata);
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in metadata["packages"].as_array().expect("packages") {
        if ids.iter().any(|id| package["id"] == **id) {
            let name = package["name"].as_str().expect("a name");
            versions.entry(name).or_default().push(package["version"].as_str().expect("a version"));
        }
    }
    for (name, versions) in versions {
        let known = TWICE.iter().any(|(twice, _)| *twice == name);
        assert!(versions.len() == 1 || known, "{name}: {versions:?}");
    }
}
