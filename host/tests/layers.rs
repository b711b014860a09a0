//! The architecture's rules, read from the sources: what `ARCHITECTURE.md` says is absent.
//!
//! Sources are read as tokens, so that neither a comment, a string nor the way a `use` is written makes a difference.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// Each module, and the modules that it may use.
const MAY_USE: [(&str, &[&str]); 10] = [
    ("files", &[]),
    ("terminal", &[]),
    ("store", &["files", "terminal"]),
    ("recipe", &["store", "files", "terminal"]),
    // It does no I/O: `files` is not for it.
    ("job", &["store", "terminal"]),
    ("policy", &["job", "recipe", "store", "files", "terminal"]),
    ("rollout", &["policy", "job", "recipe", "store", "files", "terminal"]),
    ("author", &["policy", "job", "recipe", "store", "files", "terminal"]),
    ("guard", &["rollout", "files", "terminal"]),
    ("cli", &["author", "guard", "rollout", "policy", "job", "recipe", "store", "files", "terminal"]),
];

/// A library, and the only place that may name it.
const STAYS_IN: [(&str, &str); 7] = [
    ("wasmtime", "policy/"),
    ("wasmparser", "policy/"),
    ("rusqlite", "store/embedded/"),
    ("zookeeper_client", "store/zookeeper/"),
    ("rustls", "store/zookeeper/"),
    ("clap", "cli/"),
    ("anyhow", "cli/"),
];

/// Implementations of the store, and the one place above it that may name them.
const BACKENDS: [&str; 3] = ["embedded", "memory", "zookeeper"];
const OPENS_BACKENDS: &str = "cli/context.rs";

/// What does no I/O and reads no clock.
const PURE: [&str; 7] = [
    "terminal/",
    "job/",
    "guard/ledger.rs",
    "rollout/plan.rs",
    "rollout/state.rs",
    "rollout/limits.rs",
    "rollout/step.rs",
];
const IMPURE: [&[&str]; 7] = [
    &["std", "fs"],
    &["std", "net"],
    &["std", "process"],
    &["std", "env"],
    &["tokio"],
    &["SystemTime"],
    &["Instant", "now"],
];

/// The one place that writes to stdout and stderr: everything passes through its escapes.
const PRINTS: &str = "cli/sink.rs";

/// Who else names them, and why.
const NAMES_STREAMS: [(&str, &str); 3] = [
    // Asks which terminal controls the process.
    ("cli/under.rs", "stdout"),
    ("cli/under.rs", "stderr"),
    // Machine code for the parent of a process that compiles.
    ("cli/policy/mod.rs", "stdout"),
];

/// Words that items begin with.
const ITEMS: [&str; 10] = ["const", "enum", "fn", "impl", "mod", "static", "struct", "trait", "type", "use"];

#[test]
fn the_sources_keep_the_rules() {
    let sources = sources();
    let of_tests: BTreeSet<PathBuf> = sources.iter().flat_map(|(file, text)| modules_of_tests(file, text)).collect();
    let mut wrong = Vec::new();
    for (file, text) in &sources {
        let is_of_tests =
            of_tests.iter().any(|module| *file == module.with_extension("rs") || file.starts_with(module));
        wrong.extend(problems(file, text, if is_of_tests { Part::Tests } else { Part::Product }));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_module_is_in_the_order() {
    for entry in fs::read_dir(source_dir()).unwrap().map(Result::unwrap) {
        let name = entry.file_name().to_str().unwrap().to_owned();
        let known = MAY_USE.iter().any(|(module, _)| *module == name) || ["lib.rs", "main.rs"].contains(&name.as_str());
        assert!(known, "`{name}` has no place in the order");
    }
}

#[test]
fn the_map_names_files_that_are_there() {
    let map = fs::read_to_string(source_dir().join("../../ARCHITECTURE.md")).unwrap();
    let rows = map.split("| `host/src` |").nth(1).expect("the map has the host's files").lines().skip(2);
    let mut files = 0;
    for row in rows.take_while(|row| row.starts_with('|')) {
        let mut folder = PathBuf::new();
        // A name without its folder is in that of the one before.
        for name in row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2) {
            let path = if name.contains('/') { PathBuf::from(name) } else { folder.join(name) };
            assert!(source_dir().join(&path).exists(), "ARCHITECTURE.md names `{name}`, which is not there");
            folder = path.parent().unwrap().to_owned();
            files += 1;
        }
    }
    assert!(files > 0, "the map names no file");
}

#[test]
fn a_rule_that_is_broken_is_seen() {
    for (file, text, what) in [
        ("store/mod.rs", "use crate::recipe::Party;", "uses `recipe`"),
        ("terminal/escape.rs", "use crate::store::NodePath;", "uses `store`"),
        ("job/spec.rs", "use crate::policy;", "uses `policy`"),
        ("guard/file.rs", "use crate::store::NodePath;", "uses `store`"),
        ("job/spec.rs", "fn f() { crate::rollout::go() }", "uses `rollout`"),
        ("recipe/party.rs", "use crate::{store::Path, job};", "uses `job`"),
        ("recipe/party.rs", "use super::super::job::JobSpec;", "uses `job`"),
        ("store/embedded/engine.rs", "mod x { use super::super::super::super::cli::Output; }", "uses `cli`"),
        ("policy/engine.rs", "use {crate::rollout::Plan};", "uses `rollout`"),
        ("rollout/engine.rs", "use wasmtime::Engine;", "names `wasmtime`"),
        ("job/file.rs", "#[derive(clap::Args)] struct Job;", "names `clap`"),
        ("store/mod.rs", "fn f() { rusqlite::Connection::open(p); }", "names `rusqlite`"),
        ("rollout/engine.rs", "fn f() { println!(\"done\") }", "prints"),
        ("rollout/engine.rs", "struct S { #[cfg(test)] a: u8, b: u8 } fn f() { std::eprintln!(\"done\") }", "prints"),
        ("store/mod.rs", "fn f() { let out = std::io::stdout(); }", "prints"),
        ("cli/run.rs", "fn f() { println!() }", "prints"),
        ("cli/run.rs", "fn f() { writeln!(anstream::stderr(), \"x\") }", "prints"),
        ("cli/run.rs", "use indicatif::ProgressBar;", "prints"),
        ("cli/run.rs", "fn f(error: clap::Error) { error.print(); }", "prints"),
        ("author/ask.rs", "fn f(c: Command) { c.stderr(Stdio::inherit()); }", "prints"),
        ("cli/under.rs", "fn f() { eprintln!() }", "prints"),
        ("cli/run.rs", "use crate::store::embedded::Embedded;", "names the backend `embedded`"),
        ("recipe/semaphore.rs", "use crate::store::{Store, memory::Memory};", "names the backend `memory`"),
        ("store/watch.rs", "use super::embedded::Engine;", "names the backend `embedded`"),
        ("job/inventory.rs", "use std::{fmt, fs};", "is pure and names `std::fs`"),
        ("rollout/step.rs", "fn f() { let now = time::Instant::now(); }", "is pure and names `Instant::now`"),
        ("rollout/plan.rs", "async fn f() { tokio::task::yield_now().await }", "is pure and names `tokio`"),
    ] {
        let found = problems(Path::new(file), text, Part::Product);
        assert!(found.len() == 1 && found[0].contains(what), "{file}: {text}: {found:?}");
    }
}

#[test]
fn what_is_allowed_is_not_taken_for_broken() {
    for (file, text) in [
        ("cli/run.rs", "use crate::{rollout, store::Store};"),
        ("cli/sink.rs", "fn f() { println!() }"),
        ("cli/under.rs", "fn f() { tcgetpgrp(io::stdout()) }"),
        ("rollout/engine.rs", "// println!(\"x\")\nconst S: &str = \"use crate::cli; println!()\";"),
        ("rollout/engine.rs", "fn f(c: Command) { c.stdout(Stdio::null()); c.stderr(Stdio::null()); }"),
        ("rollout/engine.rs", "fn f() {} #[cfg(test)] mod tests { fn f() { println!() } }"),
        ("rollout/engine.rs", "#[cfg(test)] fn f() -> Result<(), ()> { println!() }"),
        ("recipe/tests.rs", "#[cfg(test)] use crate::store::memory::Memory;"),
        ("rollout/step.rs", "fn f(now: Instant) -> Instant { now + Duration::from_secs(1) }"),
        ("store/embedded/session.rs", "use super::super::Store; use super::engine::Engine;"),
        ("store/mod.rs", "pub mod embedded; pub mod memory;"),
        ("policy/engine.rs", "use wasmtime::{Config, Engine}; use crate::job::Grants;"),
    ] {
        assert_eq!(problems(Path::new(file), text, Part::Product), Vec::<String>::new(), "{file}: {text}");
    }
}

/// What code is for: some rules are the product's alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Product,
    Tests,
}

/// A path as it stands in the code, `use` trees spread out.
#[derive(Debug)]
struct Found {
    segments: Vec<String>,
    part: Part,
    /// Modules that were opened in this file around it.
    inside: usize,
    /// What follows: a macro's `!`, a call without arguments, or something else.
    then: Then,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Bang,
    EmptyCall,
    EmptyMethodCall,
    Other,
}

/// Every rule that a file breaks, told once each.
fn problems(file: &Path, text: &str, part: Part) -> Vec<String> {
    let name = file.to_str().unwrap();
    let mut wrong = BTreeSet::new();
    for found in paths(text, part) {
        let path: Vec<&str> = found.segments.iter().map(String::as_str).collect();
        let home = name.split_once('/').map(|(module, _)| module);
        if let (Some(home), Some(used)) = (home, module_used(file, &found)) {
            let (_, below) = MAY_USE.iter().find(|(module, _)| *module == home).expect("a module of the order");
            if used != home && !below.contains(&used) {
                wrong.insert(format!("{name} uses `{used}`"));
            }
        }
        for (library, stays) in STAYS_IN {
            if path.len() > 1 && path[0] == library && !name.starts_with(stays) {
                wrong.insert(format!("{name} names `{library}`, which stays in `{stays}`"));
            }
        }
        if found.part == Part::Tests {
            continue;
        }
        let last = path[path.len() - 1];
        let prints = match found.then {
            Then::Bang => ["print", "println", "eprint", "eprintln", "dbg"].contains(&last),
            // Of a child process, too: it would write past us.
            Then::EmptyCall => ["stdout", "stderr", "inherit"].contains(&last),
            // Clap's errors print themselves.
            Then::EmptyMethodCall => last == "print",
            // Libraries that write there themselves.
            Then::Other => path.len() > 1 && ["anstream", "indicatif"].contains(&path[0]),
        };
        if prints && name != PRINTS && !NAMES_STREAMS.contains(&(name, last)) {
            wrong.insert(format!("{name} prints by `{last}`"));
        }
        if let Some(backend) = backend_named(file, &path) {
            wrong.insert(format!("{name} names the backend `{backend}`"));
        }
        for impure in IMPURE {
            if PURE.iter().any(|pure| name.starts_with(pure)) && path.windows(impure.len()).any(|part| part == impure) {
                wrong.insert(format!("{name} is pure and names `{}`", impure.join("::")));
            }
        }
    }
    wrong.into_iter().collect()
}

/// The module below `src` that a path leads to by `crate::` or by `super::` beyond its own.
fn module_used(file: &Path, found: &Found) -> Option<&'static str> {
    let ups = found.segments.iter().take_while(|segment| *segment == "super").count();
    let is_mod = file.file_name().is_some_and(|name| name == "mod.rs");
    let depth = file.components().count() - usize::from(is_mod) + found.inside;
    let first = match found.segments[0].as_str() {
        "crate" => found.segments.get(1),
        "super" if ups >= depth => found.segments.get(ups),
        _ => None,
    }?;
    MAY_USE.iter().map(|(module, _)| *module).find(|module| module == first)
}

/// The implementation of the store that a path names where it must not.
fn backend_named(file: &Path, path: &[&str]) -> Option<&'static str> {
    if file == Path::new(OPENS_BACKENDS) || file.components().count() > 2 {
        // Within a backend, which is below another folder, `super::memory` is its own.
        return None;
    }
    let parents: &[&str] = if file.starts_with("store") { &["store", "super", "self"] } else { &["store"] };
    BACKENDS.into_iter().find(|backend| path.windows(2).any(|two| parents.contains(&two[0]) && two[1] == *backend))
}

/// Every path of a file.
fn paths(text: &str, part: Part) -> Vec<Found> {
    let tokens: TokenStream = text.parse().unwrap();
    let mut found = Vec::new();
    walk(tokens, part, 0, &mut found);
    found
}

fn walk(tokens: TokenStream, part: Part, inside: usize, found: &mut Vec<Found>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    // The attribute `#[cfg(test)]` holds up to the end of what it stands before: an item's block or semicolon, or the
    // comma after a field.
    let (mut here, mut is_item) = (part, false);
    let mut place = 0;
    while place < tokens.len() {
        match &tokens[place] {
            TokenTree::Punct(punct) if punct.as_char() == '#' => {
                if matches!(tokens.get(place + 1), Some(TokenTree::Group(group)) if is_cfg_test(group)) {
                    (here, is_item) = (Part::Tests, false);
                }
                place += 1;
            }
            TokenTree::Punct(punct) => {
                if punct.as_char() == ';' || punct.as_char() == ',' && !is_item {
                    here = part;
                }
                place += 1;
            }
            TokenTree::Group(group) => {
                let opens_module = place >= 2 && matches!(&tokens[place - 2], TokenTree::Ident(word) if word == "mod");
                let is_block = group.delimiter() == Delimiter::Brace;
                walk(group.stream(), here, inside + usize::from(opens_module && is_block), found);
                if is_block {
                    here = part;
                }
                place += 1;
            }
            TokenTree::Ident(_) => {
                let is_method = place > 0 && is_punct(&tokens[place - 1], '.');
                let mut segments = Vec::new();
                place = path_at(&tokens, place, &mut segments, here, inside, found);
                if !segments.is_empty() {
                    is_item |= ITEMS.contains(&segments[0].as_str());
                    let then = match tokens.get(place) {
                        Some(next) if is_punct(next, '!') => Then::Bang,
                        Some(TokenTree::Group(group)) if group.stream().is_empty() => match is_method {
                            true => Then::EmptyMethodCall,
                            false => Then::EmptyCall,
                        },
                        _ => Then::Other,
                    };
                    found.push(Found { segments, part: here, inside, then });
                }
            }
            TokenTree::Literal(_) => place += 1,
        }
    }
}

/// Reads the path that begins at `place` into `segments`, or spreads out the tree that it ends with; gives the place after.
fn path_at(
    tokens: &[TokenTree],
    mut place: usize,
    segments: &mut Vec<String>,
    part: Part,
    inside: usize,
    found: &mut Vec<Found>,
) -> usize {
    while let Some(TokenTree::Ident(word)) = tokens.get(place) {
        segments.push(word.to_string());
        place += 1;
        let goes_on = tokens.get(place).is_some_and(|token| is_punct(token, ':'))
            && tokens.get(place + 1).is_some_and(|token| is_punct(token, ':'));
        if !goes_on {
            return place;
        }
        place += 2;
        if let Some(TokenTree::Group(tree)) = tokens.get(place) {
            let branches: Vec<TokenTree> = tree.stream().into_iter().collect();
            for branch in branches.split(|token| is_punct(token, ',')).filter(|branch| !branch.is_empty()) {
                let mut whole = segments.clone();
                path_at(branch, 0, &mut whole, part, inside, found);
                if !whole.is_empty() {
                    found.push(Found { segments: whole, part, inside, then: Then::Other });
                }
            }
            segments.clear();
            return place + 1;
        }
    }
    place
}

/// The modules that a file declares for tests alone, as folders or files without their ending.
fn modules_of_tests(file: &Path, text: &str) -> Vec<PathBuf> {
    let tokens: Vec<TokenTree> = text.parse::<TokenStream>().unwrap().into_iter().collect();
    let declared = tokens.windows(4).filter_map(|four| match four {
        [TokenTree::Group(cfg), TokenTree::Ident(word), TokenTree::Ident(name), end]
            if is_cfg_test(cfg) && word == "mod" && is_punct(end, ';') =>
        {
            Some(file.with_file_name(name.to_string()))
        }
        _ => None,
    });
    declared.collect()
}

fn is_cfg_test(group: &Group) -> bool {
    group.delimiter() == Delimiter::Bracket && group.stream().to_string().replace(' ', "") == "cfg(test)"
}

fn is_punct(token: &TokenTree, wanted: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == wanted)
}

fn source_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every file of `src`, named from there, with its text.
fn sources() -> Vec<(PathBuf, String)> {
    let mut folders = vec![source_dir()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(source_dir()).unwrap().to_owned();
                files.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(files.len() > MAY_USE.len(), "no sources in {}", source_dir().display());
    files
}
