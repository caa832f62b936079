//! The C programs of `tests/c`, compiled as C11 and as C++17 with warnings as errors, and run.
//!
//! They link the shared library that cargo built with this program, and put beside it.

#![allow(clippy::print_stderr)] // a skip says so aloud
#![cfg(target_os = "linux")] // the other systems' C tests are scripts/platforms.sh's

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[derive(Clone, Copy, Debug, PartialEq)]
enum Language {
    C11,
    Cpp17,
}

/// A folder for what the tests make, with the library under the name it is loaded by.
fn stage() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("c");
    fs::create_dir_all(&folder).expect("a folder");
    let mut library = env::current_exe().expect("this program");
    library.pop();
    let library =
        library.join(format!("{}tern{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX));
    assert!(library.exists(), "{} is missing", library.display());
    for name in ["libtern.so", "libtern.so.0"] {
        let link = folder.join(name);
        if fs::read_link(&link).ok().as_deref() != Some(&library) {
            let beside = folder.join(format!("{name}.{}", std::process::id()));
            std::os::unix::fs::symlink(&library, &beside).expect("a link");
            fs::rename(&beside, &link).expect("renamed");
        }
    }
    folder
}

/// Compiles one program; answers where it is.
fn build(source: &str, language: Language) -> PathBuf {
    build_as(source, language, "")
}

/// The same under a name of its own, for a test that runs beside another.
fn build_as(source: &str, language: Language, suffix: &str) -> PathBuf {
    let folder = stage();
    let host = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let mut build = cc::Build::new();
    build.target(&host).host(&host).opt_level(1).cpp(language == Language::Cpp17).warnings(false);
    let compiler = build.get_compiler();
    let source = Path::new(ROOT).join("tests/c").join(source);
    let name = source.file_stem().expect("a name").to_string_lossy();
    let program = folder.join(format!("{name}-{language:?}{suffix}"));
    let mut command = Command::new(compiler.path());
    match language {
        Language::C11 => command.args(["-std=c11", "-D_POSIX_C_SOURCE=200809L"]),
        Language::Cpp17 => command.args(["-std=c++17", "-x", "c++"]),
    };
    command
        .args(["-g", "-Wall", "-Wextra", "-Werror", "-pedantic", "-pthread"])
        .arg(format!("-I{ROOT}/include"))
        .arg(&source)
        .args(["-x", "none"])
        .arg(format!("-L{}", folder.display()))
        .arg(format!("-Wl,-rpath,{}", folder.display()))
        .args(["-Wl,--as-needed", "-ltern", "-lm", "-ldl", "-o"])
        .arg(&program);
    if let Ok(flags) = env::var("TERN_TEST_CFLAGS") {
        command.args(flags.split_whitespace());
    }
    let output = command.output().expect("a C compiler is needed: cc or gcc");
    assert!(output.status.success(), "{name} as {language:?}:\n{}", text(&output.stderr));
    program
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn model(name: &str) -> String {
    format!("{ROOT}/{name}")
}

fn scratch(name: &str) -> PathBuf {
    let folder = stage().join(name);
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

fn check(output: &Output, what: &str) {
    assert!(
        output.status.success(),
        "{what}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    assert_eq!(text(&output.stderr), "", "{what} printed to stderr");
}

/// Compiles and runs a program with a model and a folder.
fn run(source: &str, model_name: &str) {
    for language in [Language::C11, Language::Cpp17] {
        let program = build(source, language);
        let folder = scratch(&format!("{source}-{language:?}"));
        let output = Command::new(&program).arg(model(model_name)).arg(&folder).output();
        check(&output.expect("it runs"), &format!("{source} as {language:?} with {model_name}"));
    }
}

const SEED: &str = "examples/models/seed-s.gguf";

#[test]
fn every_function_is_called() {
    run("smoke.c", SEED);
}

#[test]
fn every_error_path_is_taken_and_everything_is_freed() {
    run("errors.c", SEED);
}

/// One program per area of the interface.
const AREAS: [&str; 8] = [
    "loading.c",
    "session.c",
    "structure.c",
    "sampler.c",
    "state.c",
    "control.c",
    "memory.c",
    "report.c",
];

#[test]
fn every_area_has_its_program() {
    for area in AREAS {
        run(area, SEED);
    }
}

#[test]
fn handles_on_two_threads_are_busy_or_fine() {
    run("threads.c", SEED);
}

/// The snapshot holds, per struct, its size, and per field its name, offset and size on 64-bit systems.
#[test]
fn structs_have_the_layout_of_the_snapshot() {
    let snapshot = fs::read_to_string(model("tests/c/abi.txt")).expect("abi.txt");
    let header = fs::read_to_string(model("include/tern.h")).expect("tern.h");
    let mut source = String::from("#include \"tern.h\"\n#include <assert.h>\n");
    let mut structs = Vec::new();
    for line in snapshot.lines() {
        let (name, rest) = line.split_once(' ').expect("a name");
        let (size, fields) = rest.split_once(' ').expect("a size");
        structs.push(name);
        let mut claim = |what: String| source += &format!("static_assert({what}, \"{name}\");\n");
        claim(format!("sizeof({name}) == {size}"));
        for field in fields.split(' ') {
            let (field, place) = field.split_once('@').expect("an offset");
            let (offset, size) = place.split_once('+').expect("a size");
            claim(format!("offsetof({name}, {field}) == {offset}"));
            claim(format!("sizeof((({name} *)0)->{field}) == {size}"));
        }
        let body = header.split_once(&format!("typedef struct {name} {{")).expect(name).1;
        let body = body.split_once(&format!("}} {name};")).expect(name).0;
        let declared = body.matches(';').count() - comments(body).matches(';').count();
        assert_eq!(declared, fields.split(' ').count(), "fields of {name} in tests/c/abi.txt");
    }
    let declared =
        header.lines().filter(|line| line.starts_with("typedef struct ") && line.ends_with('{'));
    assert_eq!(declared.count(), structs.len(), "structs in tests/c/abi.txt");
    source += "int main(void) { return 0; }\n";
    let path = stage().join("abi.c");
    fs::write(&path, source).expect("written");
    for language in [Language::C11, Language::Cpp17] {
        build(path.to_str().expect("UTF-8"), language);
    }
}

/// What stands in the comments of a piece of the header.
fn comments(text: &str) -> String {
    text.split("/*")
        .skip(1)
        .filter_map(|rest| rest.split_once("*/"))
        .map(|(inside, _)| inside)
        .collect()
}

#[test]
fn the_example_of_the_header_compiles_and_answers() {
    for language in [Language::C11, Language::Cpp17] {
        let output = Command::new(build("example.c", language)).arg(model(SEED)).output();
        check(&output.expect("it runs"), &format!("example.c as {language:?}"));
    }
}

#[test]
fn a_hundred_loads_of_the_library_leave_nothing_behind() {
    if env::var_os("TERN_TEST_CFLAGS").is_some() {
        eprintln!("SKIPPED: a sanitizer keeps memory of its own");
        return;
    }
    for language in [Language::C11, Language::Cpp17] {
        let program = build("leave.c", language);
        let library = stage().join("libtern.so.0");
        let output = Command::new(program).arg(model(SEED)).arg(library).output();
        check(&output.expect("it runs"), &format!("leave.c as {language:?}"));
    }
}

#[test]
fn the_smoke_test_leaves_no_function_out() {
    let smoke = fs::read_to_string(model("tests/c/smoke.c")).expect("smoke.c");
    let exports = fs::read_to_string(model("tests/c/exports.txt")).expect("exports.txt");
    let missing: Vec<_> =
        exports.lines().filter(|name| !smoke.contains(&format!("{name}("))).collect();
    assert!(missing.is_empty(), "tests/c/smoke.c calls none of {missing:?}");
}

#[test]
fn c_programs_pass_valgrind() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        eprintln!("SKIPPED: there is no valgrind on this machine");
        return;
    }
    if env::var_os("TERN_TEST_CFLAGS").is_some() {
        eprintln!("SKIPPED: programs with a sanitizer cannot run under valgrind");
        return;
    }
    let sources: Vec<&str> = AREAS.into_iter().chain(["errors.c"]).collect();
    let next = AtomicUsize::new(0);
    let valgrind = || {
        while let Some(source) = sources.get(next.fetch_add(1, Ordering::Relaxed)) {
            let program = build_as(source, Language::C11, "-valgrind");
            let output = Command::new("valgrind")
                .args(["--quiet", "--error-exitcode=99", "--leak-check=full"])
                .args(["--show-leak-kinds=definite", "--errors-for-leak-kinds=definite"])
                .arg(format!("--suppressions={ROOT}/tests/c/valgrind.supp"))
                .arg(&program)
                .arg(model(SEED))
                .arg(scratch(&format!("{source}-valgrind")))
                .output()
                .expect("valgrind runs");
            assert!(output.status.success(), "{source}: {}", text(&output.stderr));
        }
    };
    // Two at a time: each of them is one thread's work, a hundred times slower than alone.
    thread::scope(|scope| {
        scope.spawn(valgrind);
        valgrind();
    });
}
