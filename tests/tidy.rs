//! House rules that no compiler knows, checked over the whole source tree.
//!
//! Each rule is a function from the files to complaints; each test says at once
//! everything that is wrong. The rules themselves are tested at the end: one
//! that never complains is worth nothing.

#![expect(clippy::unwrap_used, reason = "a test that cannot read the tree has failed")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Longest file, in lines, without its tests.
const LINES_MAX: usize = 800;

/// Modules of `src/`, lowest layer first. A module may use its own layer and
/// those below. `main.rs` and `lib.rs` stand above all.
const LAYERS: [&[&str]; 5] = [
    &["env"],
    &["store", "crypto", "vault", "codec", "ids", "golden"],
    &["meta", "log", "data"],
    &["engine"],
    &["cli", "config"],
];

struct Source {
    /// Relative to the root of the repository, with `/`.
    path: String,
    text: String,
}

impl Source {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    fn is_test(&self) -> bool {
        let mut parts = self.path.split('/');
        parts.any(|part| matches!(part, "tests" | "benches" | "tests.rs" | "suite.rs"))
    }

    /// The text before a test module at the end of the file.
    fn without_tests(&self) -> &str {
        let end = self.text.find("\n#[cfg(test)]\nmod tests {").unwrap_or(self.text.len());
        &self.text[..end]
    }

    /// Numbered lines that are not comments.
    fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(index, line)| (index + 1, line));
        lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every text file that is tracked; every text file, where git cannot say.
fn sources() -> Vec<Source> {
    let root = root();
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(&root).output();
    let paths: Vec<String> = match listed {
        Ok(output) if output.status.success() && !output.stdout.is_empty() => {
            let names = String::from_utf8(output.stdout).unwrap();
            names.split_terminator('\0').map(str::to_owned).collect()
        }
        _ => {
            let mut found = Vec::new();
            walk(&root, &root, &mut found);
            found
        }
    };
    let read = |path: String| {
        let text = std::fs::read_to_string(root.join(&path)).ok()?;
        Some(Source { path, text })
    };
    let sources: Vec<_> = paths.into_iter().filter_map(read).collect();
    assert!(sources.iter().any(|source| source.path == "tests/tidy.rs"), "this is not the tree");
    sources
}

fn walk(root: &Path, dir: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() && !matches!(entry.file_name().to_str(), Some("target" | ".git")) {
            walk(root, &path, found);
        } else if kind.is_file() {
            found.push(path.strip_prefix(root).unwrap().to_string_lossy().into_owned());
        }
    }
}

#[track_caller]
fn assert_tidy(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn missing_headers(sources: &[Source]) -> Vec<String> {
    let bare = sources
        .iter()
        .filter(|source| source.is_rust() && !source.is_test() && !source.text.starts_with("//!"));
    bare.map(|source| format!("{}: does not begin with //! and what it is for", source.path))
        .collect()
}

fn long_files(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources.iter().filter(|source| source.is_rust() && !source.is_test()) {
        let lines = source.without_tests().lines().count();
        if lines > LINES_MAX {
            complaints.push(format!("{}: {lines} lines, more than {LINES_MAX}", source.path));
        }
    }
    complaints
}

fn mod_files(sources: &[Source]) -> Vec<String> {
    let old = sources.iter().filter(|source| source.path.ends_with("/mod.rs"));
    old.map(|source| format!("{}: modules are x.rs and x/, never mod.rs", source.path)).collect()
}

fn stray_error_numbers(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources.iter().filter(|source| source.is_rust() && !source.is_test()) {
        let crate_dir = source.path.split('/').next().unwrap_or_default();
        if crate_dir.ends_with("-adapter") || source.path == "vfs/src/error.rs" {
            continue;
        }
        for (number, line) in source.code_lines() {
            let is_errno = |after: &str| {
                let word: String = after.chars().take_while(char::is_ascii_alphanumeric).collect();
                word.len() > 1 && word.starts_with('E') && word.chars().all(|c| !c.is_lowercase())
            };
            if line.split("libc::").skip(1).any(is_errno) {
                complaints.push(format!(
                    "{}:{number}: error numbers belong to the adapters and vfs/src/error.rs",
                    source.path
                ));
            }
        }
    }
    complaints
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// The top-level modules named right behind `crate::`, one or a braced list.
fn modules_used(after_crate: &str) -> Vec<&str> {
    let Some(list) = after_crate.strip_prefix('{') else {
        return first_word(after_crate).into_iter().collect();
    };
    let (mut depth, mut start, mut modules) = (0, 0, Vec::new());
    for (index, character) in list.char_indices() {
        match character {
            ',' | '}' if depth == 0 => {
                modules.extend(first_word(list[start..index].trim_start()));
                start = index + 1;
                if character == '}' {
                    break;
                }
            }
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    modules
}

fn first_word(text: &str) -> Option<&str> {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    Some(&text[..end]).filter(|word| !word.is_empty())
}

fn upward_arrows(sources: &[Source]) -> Vec<String> {
    let mut complaints = BTreeSet::new();
    for source in sources.iter().filter(|source| source.is_rust()) {
        let Some(inside) = source.path.strip_prefix("src/") else { continue };
        let module = first_word(inside).unwrap_or_default();
        if matches!(inside, "lib.rs" | "main.rs") {
            continue;
        }
        let Some(layer) = layer_of(module) else {
            complaints.insert(format!(
                "{}: module {module} has no place in LAYERS of tests/tidy.rs",
                source.path
            ));
            continue;
        };
        // Joined, since `use` lists may span lines; comments may name anything.
        let code: Vec<_> = source.code_lines().map(|(_, line)| line).collect();
        let code = code.join("\n");
        for after in code.split("crate::").skip(1) {
            for used in modules_used(after) {
                if layer_of(used).is_some_and(|other| other > layer) {
                    complaints.insert(format!(
                        "{}: {module} uses {used}, which is above it",
                        source.path
                    ));
                }
            }
        }
    }
    complaints.into_iter().collect()
}

/// What follows `test:` or `tests:`, and `check:` or `checks:`: names in backticks, with
/// commas or `and` between them.
fn tests_named(after: &str) -> Vec<&str> {
    let (mut left, mut names) = (after, Vec::new());
    loop {
        left = left.trim_start_matches([' ', '\n', ',']);
        left = left.strip_prefix("and ").unwrap_or(left);
        let quoted = left.strip_prefix('`').and_then(|left| left.split_once('`'));
        let Some((name, rest)) = quoted else { return names };
        names.push(name);
        left = rest;
    }
}

fn promises_without_tests(sources: &[Source]) -> Vec<String> {
    let Some(semantics) = sources.iter().find(|source| source.path == "docs/SEMANTICS.md") else {
        return Vec::new();
    };
    let rust = sources.iter().filter(|source| source.is_rust());
    let tests: BTreeSet<&str> = rust.flat_map(tests_of).collect();
    // What a kernel does with what is served, `check NAME COMMANDS`.
    let mut checks = BTreeSet::new();
    for source in sources.iter().filter(|source| source.path.starts_with("tests/kernel/")) {
        let after = source.text.split("check ").skip(1);
        checks.extend(after.filter_map(|after| after.split_whitespace().next()));
    }
    let is_check = |name: &str| checks.contains(name) || is_numbered(name, &checks);
    let mut complaints = promises_without(&semantics.text, "test", |name| tests.contains(name));
    complaints.extend(promises_without(&semantics.text, "check", is_check));
    complaints
}

/// Whether a name is one of `"NAME-$VARIABLE"`.
fn is_numbered(name: &str, checks: &BTreeSet<&str>) -> bool {
    let Some((start, _)) = name.rsplit_once('-') else { return false };
    let start = format!("\"{start}-$");
    checks.iter().any(|check| check.starts_with(&start))
}

/// Functions that are run: those below `#[test]`, and what the conformance suite lists.
fn tests_of(source: &Source) -> Vec<&str> {
    let (mut is_test, mut is_listed, mut tests) = (false, false, Vec::new());
    for line in source.code_lines().map(|(_, line)| line.trim()) {
        let function = line.split_once("fn ").and_then(|(_, after)| first_word(after));
        if line == "#[test]" {
            is_test = true;
        } else if line.starts_with("super::list! {") {
            is_listed = true;
        } else if is_listed {
            is_listed = line != "}";
            tests.extend(first_word(line));
        } else if let Some(name) = function.filter(|_| !line.starts_with('#') && is_test) {
            is_test = false;
            tests.push(name);
        }
    }
    tests
}

/// What the text says is shown by what is not known.
fn promises_without(text: &str, word: &str, is_known: impl Fn(&str) -> bool) -> Vec<String> {
    let sign = format!("{word}:");
    let text = text.replace(&format!("{word}s: "), &format!("{sign} "));
    let text = text.replace(&format!("{word}s:\n"), &format!("{sign}\n"));
    let (mut line, mut complaints) = (1, Vec::new());
    for (index, part) in text.split(sign.as_str()).enumerate() {
        if index > 0 {
            let names = tests_named(part);
            if names.is_empty() {
                complaints.push(format!("docs/SEMANTICS.md:{line}: {sign} names no {word}"));
            }
            for name in names {
                let last = name.rsplit("::").next().unwrap_or(name);
                if !is_known(last) {
                    complaints.push(format!("docs/SEMANTICS.md:{line}: there is no {word} {name}"));
                }
            }
        }
        line += part.matches('\n').count();
    }
    complaints
}

fn paths_of_somebodys_machine(sources: &[Source]) -> Vec<String> {
    // Spelled so that this file does not accuse itself.
    let private = [concat!("/wo", "rk"), concat!("/tmp/", "wt")];
    let mut complaints = Vec::new();
    for source in sources {
        for (index, line) in source.text.lines().enumerate() {
            let is_named = private.iter().any(|path| {
                line.match_indices(path).any(|(at, _)| {
                    let is_word = |c: char| c.is_alphanumeric() || "_-.~/}*>$".contains(c);
                    !line[..at].ends_with(is_word)
                        && line[at + path.len()..].strip_prefix('/').is_some_and(|rest| {
                            rest.starts_with(|c: char| c.is_alphanumeric() || c == '.' || c == '_')
                        })
                })
            });
            if is_named {
                complaints.push(format!(
                    "{}:{}: names a path that exists on one machine only",
                    source.path,
                    index + 1
                ));
            }
        }
    }
    complaints
}

#[test]
fn every_file_says_what_it_is_for() {
    assert_tidy(&missing_headers(&sources()));
}

#[test]
fn no_file_is_too_long() {
    assert_tidy(&long_files(&sources()));
}

#[test]
fn modules_have_names_of_their_own() {
    assert_tidy(&mod_files(&sources()));
}

#[test]
fn error_numbers_stay_in_their_place() {
    assert_tidy(&stray_error_numbers(&sources()));
}

#[test]
fn layers_do_not_reach_upwards() {
    assert_tidy(&upward_arrows(&sources()));
}

#[test]
fn every_promise_names_a_test_that_exists() {
    assert_tidy(&promises_without_tests(&sources()));
}

#[test]
fn no_path_is_of_one_machine() {
    assert_tidy(&paths_of_somebodys_machine(&sources()));
}

/// The rules complain about what they are for, and about nothing else.
mod rules {
    use super::{
        LINES_MAX, Source, long_files, missing_headers, mod_files, modules_used,
        paths_of_somebodys_machine, promises_without_tests, stray_error_numbers, upward_arrows,
    };

    type Rule = fn(&[Source]) -> Vec<String>;

    fn count(rule: Rule, path: &str, text: &str) -> usize {
        rule(&[Source { path: path.to_owned(), text: text.to_owned() }]).len()
    }

    #[test]
    fn headers_and_lengths() {
        assert_eq!(count(missing_headers, "src/store.rs", "use x;"), 1);
        assert_eq!(count(missing_headers, "src/store.rs", "//! Stores."), 0);
        assert_eq!(count(missing_headers, "src/store/tests.rs", "use x;"), 0);
        assert_eq!(count(missing_headers, "README.md", "# x"), 0);
        let long = "\n".repeat(LINES_MAX);
        assert_eq!(count(long_files, "src/a.rs", &long), 0);
        assert_eq!(count(long_files, "src/a.rs", &format!("{long}\n")), 1);
        let tests = format!("{long}\n\n#[cfg(test)]\nmod tests {{\n{long}");
        assert_eq!(count(long_files, "src/a.rs", &tests), 1);
        let tests = format!("x\n#[cfg(test)]\nmod tests {{\n{long}");
        assert_eq!(count(long_files, "src/a.rs", &tests), 0);
        assert_eq!(count(long_files, "tests/a.rs", &format!("{long}\n")), 0);
        assert_eq!(count(mod_files, "src/a/mod.rs", ""), 1);
        assert_eq!(count(mod_files, "src/a.rs", ""), 0);
    }

    #[test]
    fn error_numbers() {
        let bad = "return Err(libc::EIO);";
        assert_eq!(count(stray_error_numbers, "src/engine.rs", bad), 1);
        assert_eq!(count(stray_error_numbers, "vfs/src/lib.rs", bad), 1);
        assert_eq!(count(stray_error_numbers, "vfs/src/error.rs", bad), 0);
        assert_eq!(count(stray_error_numbers, "fuse-adapter/src/lib.rs", bad), 0);
        assert_eq!(count(stray_error_numbers, "src/engine.rs", "// libc::EIO"), 0);
        assert_eq!(count(stray_error_numbers, "src/engine.rs", "libc::EPOLLIN; libc::S_IFDIR"), 1);
        assert_eq!(count(stray_error_numbers, "src/engine.rs", "libc::S_IFDIR"), 0);
    }

    #[test]
    fn layers() {
        assert_eq!(modules_used("env::Env;"), ["env"]);
        assert_eq!(modules_used("{env::{A, B}, store::X,\n engine};"), ["env", "store", "engine"]);
        assert_eq!(count(upward_arrows, "src/store.rs", "use crate::engine::X;"), 1);
        assert_eq!(count(upward_arrows, "src/env/real.rs", "use crate::{store::{A, B}, log};"), 2);
        assert_eq!(count(upward_arrows, "src/meta/db.rs", "use crate::{log, store};"), 0);
        assert_eq!(count(upward_arrows, "src/store/file.rs", "/// See [`crate::engine`]."), 0);
        assert_eq!(count(upward_arrows, "src/cli/mount.rs", "crate::engine::open()"), 0);
        assert_eq!(count(upward_arrows, "src/stray.rs", ""), 1);
        assert_eq!(count(upward_arrows, "src/main.rs", "use crate::cli;"), 0);
        assert_eq!(count(upward_arrows, "vfs/src/stray.rs", "use crate::cli;"), 0);
    }

    #[test]
    fn promises() {
        let complaints = |text: &str| {
            let source =
                |path: &str, text: &str| Source { path: path.to_owned(), text: text.to_owned() };
            promises_without_tests(&[
                source("docs/SEMANTICS.md", text),
                source("tests/a.rs", "#[test]\n#[ignore]\nfn one() {}\n#[test]\n// fn three() {}"),
                source("vfs/src/a.rs", "super::list! { \"a\":\n    two if |p| p,\n}\nfn helps()"),
                source("tests/kernel/a.sh", "check four 'true'\n    check five-six 'true'"),
                source("tests/kernel/b.sh", "check \"seven-$round\" 'true'"),
            ])
        };
        assert_eq!(
            complaints("Holds (test: `one`).\nHolds (tests: `a::one`,\n`x::two`)."),
            [""; 0]
        );
        assert_eq!(
            complaints("x\nHolds (test: `one` and `three`)."),
            ["docs/SEMANTICS.md:2: there is no test three"]
        );
        assert_eq!(complaints("Holds (test: `one`; checks: `four`, `five-six`)."), [""; 0]);
        assert_eq!(
            complaints("Holds (test: `helps`)."),
            ["docs/SEMANTICS.md:1: there is no test helps"]
        );
        assert_eq!(complaints("Holds (check: `seven-1`)."), [""; 0]);
        assert_eq!(
            complaints("Holds (check: `one`)."),
            ["docs/SEMANTICS.md:1: there is no check one"]
        );
        assert_eq!(complaints("test: later"), ["docs/SEMANTICS.md:1: test: names no test"]);
        assert_eq!(count(promises_without_tests, "README.md", "test: `x`"), 0);
    }

    #[test]
    fn machine_paths() {
        let bad = concat!("see /wo", "rk/main");
        assert_eq!(count(paths_of_somebodys_machine, "README.md", bad), 1);
        assert_eq!(count(paths_of_somebodys_machine, "a.rs", concat!("\"/tmp/", "wt/x\"")), 1);
        for fine in ["~/work/x", "network/work/x", "a/work/b", "work/x", "read/work here"] {
            assert_eq!(count(paths_of_somebodys_machine, "a.rs", fine), 0, "{fine}");
        }
    }
}
