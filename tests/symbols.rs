//! What the shared library exports: the functions of the header and nothing else.

use std::{collections::BTreeSet, env, path::PathBuf, process::Command};

const COMMITTED: &str = include_str!("c/exports.txt");
const HEADER: &str = include_str!("../include/tern.h");

/// The shared library that cargo built with this program, and put beside it.
fn library() -> PathBuf {
    let mut path = env::current_exe().expect("this program");
    path.pop();
    path.join(format!("{}tern{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX))
}

fn declared() -> BTreeSet<&'static str> {
    HEADER
        .lines()
        .filter(|line| line.starts_with("TERN_API"))
        .filter_map(|line| {
            let before = &line[..line.find('(')?];
            Some(&before[before.rfind("tern_")?..])
        })
        .collect()
}

#[test]
fn the_header_declares_the_committed_list() {
    let committed: BTreeSet<_> = COMMITTED.lines().collect();
    let declared = declared();
    assert!(declared.len() > 80, "only {} functions were found", declared.len());
    let new: Vec<_> = declared.difference(&committed).collect();
    let gone: Vec<_> = committed.difference(&declared).collect();
    assert!(
        new.is_empty() && gone.is_empty(),
        "tests/c/exports.txt: declared but not listed {new:?}, listed but not declared {gone:?}"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn the_library_exports_the_committed_list_and_no_more() {
    let library = library();
    let nm =
        Command::new("nm").args(["-D", "--defined-only", "--format=posix"]).arg(&library).output();
    let nm = nm.expect("nm of binutils is needed to look at the exports");
    assert!(nm.status.success(), "{}: {}", library.display(), String::from_utf8_lossy(&nm.stderr));
    let text = String::from_utf8(nm.stdout).expect("names are ASCII");
    let names = text.lines().filter_map(|line| line.split_whitespace().next());
    let exported: BTreeSet<_> = names.map(|name| name.split('@').next().unwrap_or(name)).collect();
    let committed: BTreeSet<_> = COMMITTED.lines().collect();
    let foreign: Vec<_> = exported.difference(&committed).collect();
    assert!(
        foreign.is_empty(),
        "exported, but not ours: {foreign:?}. A dependency's C functions belong into \
         src/ffi/foreign-symbols.txt, a new function of ours into tests/c/exports.txt"
    );
    let missing: Vec<_> = committed.difference(&exported).collect();
    assert!(missing.is_empty(), "not exported: {missing:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn the_library_has_a_soname_and_stays_loaded() {
    let library = library();
    let readelf = Command::new("readelf").arg("-d").arg(&library).output();
    let text = String::from_utf8(readelf.expect("readelf of binutils").stdout).expect("ASCII");
    let major = env!("CARGO_PKG_VERSION_MAJOR");
    assert!(text.contains(&format!("[libtern.so.{major}]")), "no soname: {text}");
    assert!(text.contains("NODELETE"), "may be unloaded: {text}");
}
