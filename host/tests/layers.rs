//! The architecture's rules, read from the sources: what `ARCHITECTURE.md` says is absent.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::fs;
use std::path::{Path, PathBuf};

/// Each module, and the modules that it may use.
const MAY_USE: [(&str, &[&str]); 6] = [
    ("store", &[]),
    ("recipe", &["store"]),
    ("job", &["store"]),
    ("policy", &["job", "recipe", "store"]),
    ("rollout", &["policy", "job", "recipe", "store"]),
    ("cli", &["rollout", "policy", "job", "recipe", "store"]),
];

/// A library, and the only place that may name it.
const STAYS_IN: [(&str, &str); 5] = [
    ("wasmtime::", "policy"),
    ("wasmparser::", "policy"),
    ("rusqlite::", "store/embedded"),
    ("clap::", "cli"),
    ("anyhow::", "cli"),
];

#[test]
fn a_module_uses_only_what_is_below_it() {
    let mut wrong = Vec::new();
    for (module, below) in MAY_USE {
        for (file, text) in sources(module) {
            // This test reads whole paths.
            assert!(!code(&text).any(|line| line.contains("crate::{")), "{}: one `use` a module", file.display());
            for used in MAY_USE.map(|(name, _)| name) {
                let allowed = used == module || below.contains(&used);
                if !allowed && code(&text).any(|line| line.contains(&format!("crate::{used}"))) {
                    wrong.push(format!("{} uses `{used}`", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_module_is_in_the_order() {
    let modules = fs::read_dir(source_dir()).unwrap().map(|entry| entry.unwrap().path());
    for folder in modules.filter(|path| path.is_dir()) {
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(MAY_USE.iter().any(|(module, _)| *module == name), "`{name}` has no place in the order");
    }
}

#[test]
fn a_library_stays_where_it_belongs() {
    for (library, home) in STAYS_IN {
        for (file, text) in sources("") {
            let at_home = file.strip_prefix(source_dir()).unwrap().starts_with(home);
            let named = code(&text).any(|line| line.contains(library));
            assert!(at_home || !named, "{} names `{library}`, which stays in `{home}`", file.display());
        }
    }
}

#[test]
fn only_the_command_line_prints() {
    for (module, _) in MAY_USE.iter().filter(|(module, _)| *module != "cli") {
        for (file, text) in sources(module) {
            let tests = file.file_name().is_some_and(|name| name == "tests.rs" || name == "simulation.rs");
            let before_tests = text.split("#[cfg(test)]").next().unwrap_or_default();
            let prints = ["println!", "eprintln!", "print!(", "eprint!(", "stdout()", "stderr()"];
            let printing = code(before_tests).find(|line| prints.iter().any(|word| line.contains(word)));
            assert!(tests || printing.is_none(), "{} prints: {}", file.display(), printing.unwrap_or_default());
        }
    }
}

#[test]
fn only_the_context_opens_a_backend() {
    for (file, text) in sources("cli").into_iter().chain(sources("rollout")).chain(sources("recipe")) {
        let before_tests = text.split("#[cfg(test)]").next().unwrap_or_default();
        let is_test = file.file_name().is_some_and(|name| name == "tests.rs" || name == "simulation.rs");
        let names = code(before_tests).any(|line| line.contains("store::embedded") || line.contains("store::memory"));
        assert!(is_test || file.ends_with("cli/context.rs") || !names, "{} names a backend", file.display());
    }
}

#[test]
fn what_is_pure_reads_no_clock_and_touches_nothing() {
    let pure = ["rollout/plan.rs", "rollout/state.rs", "rollout/limits.rs", "rollout/step.rs"];
    let pure = pure
        .map(|file| source_dir().join(file))
        .into_iter()
        .map(|file| (file.clone(), fs::read_to_string(file).unwrap()));
    for (file, text) in pure.chain(sources("job")) {
        let before_tests = text.split("#[cfg(test)]").next().unwrap_or_default();
        for word in ["std::fs", "tokio::", "SystemTime", "Instant::now", "std::process", "std::env"] {
            let touching = code(before_tests).find(|line| line.contains(word));
            assert!(
                touching.is_none(),
                "{} is pure and names `{word}`: {}",
                file.display(),
                touching.unwrap_or_default()
            );
        }
    }
}

fn source_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every file below a folder of `src`, with its text.
fn sources(below: &str) -> Vec<(PathBuf, String)> {
    let mut folders = vec![source_dir().join(below)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push((path.clone(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(!files.is_empty(), "no sources below `{below}`");
    files
}

/// Lines that are no comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.starts_with("//"))
}
