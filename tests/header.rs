//! `include/tern.h` is what the build makes of the source today.

const BUILT: &str = include_str!(concat!(env!("OUT_DIR"), "/tern.h"));
const COMMITTED: &str = include_str!("../include/tern.h");

/// Writes the committed header, for `make header`; otherwise compares.
#[test]
fn the_committed_header_is_the_built_one() {
    if std::env::var_os("TERN_WRITE_HEADER").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/include/tern.h");
        std::fs::write(path, BUILT).expect("the header can be written");
        return;
    }
    let differs = BUILT.lines().zip(COMMITTED.lines()).position(|(built, is)| built != is);
    if let Some(line) = differs {
        panic!(
            "include/tern.h line {}: run `make header`\n is:    {}\n built: {}",
            line + 1,
            COMMITTED.lines().nth(line).unwrap_or(""),
            BUILT.lines().nth(line).unwrap_or("")
        );
    }
    assert_eq!(BUILT, COMMITTED, "include/tern.h is longer or shorter: run `make header`");
}

#[test]
fn every_name_is_ours_and_every_function_says_what_it_does() {
    let lines: Vec<&str> = COMMITTED.lines().collect();
    for (i, line) in lines.iter().enumerate() {
        assert!(line.chars().count() <= 128, "line {} is too long to read: {line}", i + 1);
        if let Some(name) =
            line.strip_prefix("#define ").or_else(|| line.strip_prefix("#  define "))
        {
            assert!(name.starts_with("TERN_"), "line {}: {line}", i + 1);
        }
        if line.starts_with("TERN_API") {
            assert!(line.contains("tern_"), "line {}: {line}", i + 1);
            let documented = lines[i - 1].ends_with("*/") || line.contains("_init(");
            assert!(documented, "line {}: no comment above {line}", i + 1);
        }
        assert!(!line.contains("bool") && !line.contains("uintptr_t"), "line {}: {line}", i + 1);
    }
}
