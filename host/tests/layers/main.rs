//! The architecture's rules, read from the sources: what `ARCHITECTURE.md` says is absent.
//!
//! [`rules`] has them as tables. [`tokens`] reads the paths of a file, [`modules`] follows them to what they lead to.
//! Nothing here matches by the beginning of a file's name: a rule holds for a module and for every file of it.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

mod modules;
mod rules;
mod tokens;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use modules::{Modules, Source, Target, cycles, source, sources, uses_between_files};
use rules::{
    BACKEND_DATA, BACKENDS, CRATES, CYCLES_YET, IMPURE, IMPURE_METHODS, IMPURE_NAMES, IMPURE_NOT_YET, LAYERS,
    LAYERS_NOT_YET, LOGIC_IN_MOD_YET, NAMES_STREAMS, NOT_A_DEPENDENCY, OPENS_BACKENDS, PRINTS, PURE, PURE_ALL_THE_SAME,
    SAYS_NOTHING, SAYS_NOTHING_YET, STAYS_IN, TESTS_MAY_USE,
};
use tokens::{CodePath, Form, Part, first_logic};

#[test]
fn the_sources_keep_the_rules() {
    let sources = all_sources();
    let modules = modules_of(sources);
    let wrong: Vec<String> = sources.iter().flat_map(|source| problems(source, &modules)).collect();
    let excused = |text: &&String| excuses().iter().any(|excuse| text.starts_with(excuse.as_str()));
    let open: Vec<&String> = wrong.iter().filter(|text| !excused(text)).collect();
    assert!(open.is_empty(), "{open:#?}");
    let unused: Vec<String> =
        excuses().into_iter().filter(|excuse| !wrong.iter().any(|text| text.starts_with(excuse.as_str()))).collect();
    assert!(unused.is_empty(), "these exceptions are not needed any more: {unused:#?}");
}

#[test]
fn every_module_and_every_crate_has_its_place() {
    for source in all_sources() {
        let is_root = source.module.len() == 1 || source.name.ends_with("main.rs");
        assert!(
            is_root || is_above_layers(source) || layer(&source.module).is_some(),
            "{:?} is in no layer",
            source.name
        );
    }
    for entry in fs::read_dir(host_dir()).unwrap().map(Result::unwrap) {
        let src = PathBuf::from(entry.file_name()).join("src");
        let is_crate = entry.path().join("Cargo.toml").exists();
        let known = CRATES.iter().any(|(_, _, folder)| Path::new(folder) == src);
        assert!(!is_crate || known, "{:?} is a crate without rules", entry.path());
    }
    // A rule for a module that was renamed would hold for nothing.
    let named = LAYERS.iter().flat_map(|(layer, below)| below.iter().chain([layer]));
    let named = named.chain(STAYS_IN.iter().flat_map(|(_, stays)| *stays)).chain(&BACKENDS).chain(&BACKEND_DATA);
    let named = named.chain(&OPENS_BACKENDS).chain(&PURE).chain(&PRINTS);
    for module in named.chain(NAMES_STREAMS.iter().map(|(module, _)| module)) {
        let folder = module_dir(module);
        assert!(folder.exists() || folder.with_extension("rs").exists(), "there is no module `{module}`");
    }
}

#[test]
fn the_crates_depend_on_no_more_than_they_may() {
    for (crate_name, unwanted) in NOT_A_DEPENDENCY {
        let (_, _, folder) = CRATES.iter().find(|(_, short, _)| *short == crate_name).unwrap();
        let manifest = host_dir().join(folder).with_file_name("Cargo.toml");
        let manifest: toml::Table = fs::read_to_string(&manifest).unwrap().parse().unwrap();
        assert_eq!(unwanted_dependencies(&manifest, unwanted), Vec::<String>::new(), "of `{crate_name}`");
    }
}

#[test]
fn a_dependency_too_many_is_seen() {
    let manifest = "[dependencies]\ntokio = \"1\"\ntoml_edit = \"1\"\n[dev-dependencies]\nwasmtime = \"48\"\n\
        [target.'cfg(unix)'.dependencies]\nclap = \"4\"\nx = { version = \"1\", package = \"anyhow\" }";
    let found = unwanted_dependencies(&manifest.parse().unwrap(), &["anyhow", "clap", "toml", "wasm"]);
    assert_eq!(found, ["anyhow", "clap", "toml_edit", "wasmtime"]);
}

#[test]
fn files_are_named_by_what_is_in_them() {
    let named: BTreeSet<String> = all_sources()
        .iter()
        .filter(|source| SAYS_NOTHING.iter().any(|name| source.name.ends_with(name)))
        .map(|source| source.name.to_str().unwrap().to_owned())
        .collect();
    assert_eq!(named, SAYS_NOTHING_YET.map(String::from).into(), "only the second list may be there");
}

#[test]
fn a_mod_file_only_declares() {
    let found: BTreeMap<String, String> = all_sources()
        .iter()
        .filter(|source| source.name.ends_with("mod.rs") || source.name.ends_with("lib.rs"))
        .filter_map(|source| Some((source.name.to_str().unwrap().to_owned(), first_logic(&source.text)?)))
        .collect();
    let allowed: BTreeSet<&str> = LOGIC_IN_MOD_YET.iter().map(|(name, _)| *name).collect();
    let open: Vec<_> = found.iter().filter(|(name, _)| !allowed.contains(name.as_str())).collect();
    assert!(open.is_empty(), "these have logic; its place is a file that is named by it: {open:#?}");
    let unused: Vec<_> = allowed.iter().filter(|name| !found.contains_key(**name)).collect();
    assert!(unused.is_empty(), "these exceptions are not needed any more: {unused:#?}");
}

#[test]
fn files_use_each_other_in_one_direction() {
    let sources = all_sources();
    let modules = modules_of(sources);
    let uses = uses_between_files(sources, &modules);
    let found: Vec<BTreeSet<String>> =
        cycles(&uses).iter().map(|group| group.iter().map(|module| module.join("::")).collect()).collect();
    let open: Vec<_> = found
        .iter()
        .filter(|group| !CYCLES_YET.iter().any(|allowed| group.iter().all(|file| allowed.contains(&file.as_str()))))
        .map(|group| {
            let within =
                |from: &String, to: &modules::ModulePath| from != &to.join("::") && group.contains(&to.join("::"));
            let lines: Vec<String> = uses
                .iter()
                .filter(|(from, _)| group.contains(&from.join("::")))
                .map(|(from, used)| {
                    let from = from.join("::");
                    let used: Vec<String> =
                        used.iter().filter(|to| within(&from, to)).map(|to| to.join("::")).collect();
                    format!("{from} -> {}", used.join(", "))
                })
                .collect();
            lines
        })
        .collect();
    let list: Vec<String> = found.iter().map(|group| format!("&{:?},", Vec::from_iter(group))).collect();
    assert!(
        open.is_empty(),
        "these files use each other: {open:#?}\nall of today's, as the list has them:\n{}",
        list.join("\n")
    );
    let unused: Vec<&str> = CYCLES_YET
        .iter()
        .flat_map(|group| group.iter())
        .filter(|file| !found.iter().any(|group| group.contains(**file)))
        .copied()
        .collect();
    assert!(unused.is_empty(), "these are in no cycle any more: take them off the list: {unused:#?}");
}

#[test]
fn the_map_names_files_that_are_there() {
    let root = host_dir().parent().unwrap().to_owned();
    let map = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let mut mapped = BTreeSet::new();
    // A table whose first column is headed by a folder names what is in that folder; one that is headed `Folder` names folders
    // of the repository, and any other table names no files.
    let mut table: Option<Option<PathBuf>> = None;
    for line in map.lines() {
        let Some(first) = line.strip_prefix('|').and_then(|line| line.split('|').next()).map(str::trim) else {
            table = None;
            continue;
        };
        let names = || first.split('`').skip(1).step_by(2);
        let Some(folder) = &table else {
            let folder =
                if first == "Folder" { Some(root.clone()) } else { names().next().map(|name| root.join(name)) };
            table = Some(folder);
            continue;
        };
        let Some(folder) = folder else { continue };
        for name in names() {
            let file = folder.join(name);
            assert!(file.exists(), "ARCHITECTURE.md names `{name}`, which is not in {}", folder.display());
            if *folder != root {
                mapped.insert(folder.join(name.trim_end_matches('/')));
            }
        }
    }
    let missing: Vec<_> = all_sources()
        .iter()
        .map(|source| host_dir().join(&source.name))
        .filter(|file| !file.ends_with("lib.rs") && !file.ends_with("mod.rs"))
        .filter(|file| !file.ancestors().any(|above| mapped.contains(above)))
        .collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md has no row for {missing:#?}");
}

#[test]
fn the_walks_name_what_is_there() {
    let map = fs::read_to_string(host_dir().join("../ARCHITECTURE.md")).unwrap();
    let walks = map.split("\n## ").filter(|section| section.starts_with("A run") || section.starts_with("A command"));
    let mut names = BTreeSet::new();
    for span in walks.flat_map(|walk| walk.split('`').skip(1).step_by(2)) {
        // `Action::Admit { target, view }` and `Rollout::step(now_ms, input)` name two things each.
        let path = span.split([' ', '(', '{']).next().unwrap();
        let is_name = |name: &str| name.chars().all(|c| c.is_alphanumeric() || c == '_') && name.len() > 1;
        names.extend(path.split("::").filter(|name| is_name(name)));
    }
    assert!(names.len() > 50, "the walks name only {names:?}");
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let words: BTreeSet<&str> = all_sources().iter().flat_map(|source| source.text.split(|c| !is_word(c))).collect();
    let gone: Vec<_> = names.difference(&words).collect();
    assert!(gone.is_empty(), "ARCHITECTURE.md names these, which no source has: {gone:?}");
}

#[test]
fn a_rule_that_is_broken_is_seen() {
    let known = all_sources();
    let mut modules = modules_of(known);
    modules.add(&source_of("src/passes_on.rs", "pub use crate::rollout::driver::Run as Passed;"));
    for (file, text, what) in [
        ("locks/src/terminal/escape.rs", "use crate::toml_reader::Reader;", "uses `locks::toml_reader`"),
        ("src/job/spec.rs", "use crate::policy;", "uses `host::policy`"),
        ("src/job/spec.rs", "fn f() { crate::rollout::driver::run() }", "uses `host::rollout::driver`"),
        ("src/job/spec.rs", "use lockkeeper_coordination::recipe::Party;", "uses `coordination::recipe`"),
        ("src/job/spec.rs", "use super::super::policy::Engine;", "uses `host::policy`"),
        ("src/policy/engine.rs", "use {crate::rollout::model::Plan};", "uses `host::rollout::model`"),
        ("locks/src/fence/file.rs", "use crate::cli::Output;", "uses `locks::cli`"),
        ("src/author/decide.rs", "use crate::{job, audit};", "uses `host::audit`"),
        // Within the rollout, at any depth.
        ("src/rollout/model/plan.rs", "use super::super::machine::Rollout;", "uses `host::rollout::machine`"),
        (
            "src/rollout/machine/tables/targets.rs",
            "use crate::rollout::run_state::Runner;",
            "uses `host::rollout::run_state`",
        ),
        ("src/rollout/exec/ssh/remote.rs", "use super::super::super::driver::Run;", "uses `host::rollout::driver`"),
        ("src/rollout/journal/read.rs", "use crate::audit::Segment;", "uses `host::audit`"),
        ("src/audit/explain/nearest.rs", "use crate::rollout::run_state::Runner;", "uses `host::rollout::run_state`"),
        // A name that another module passes on is what it leads to.
        ("src/rollout/model/plan.rs", "use crate::passes_on::Passed;", "uses `host::rollout::driver`"),
        (
            "src/rollout/model/plan.rs",
            "use crate::passes_on as p; fn f() { p::Passed::new() }",
            "uses `host::rollout::driver`",
        ),
        ("coordination/src/store/watch.rs", "use crate::recipe::Party;", "uses `coordination::recipe`"),
        (
            "coordination/src/recipe/party.rs",
            "use crate::{store::Path, zookeeper::Hosts};",
            "uses `coordination::zookeeper`",
        ),
        (
            "coordination/src/embedded/engine.rs",
            "mod x { use super::super::super::memory::Memory; }",
            "uses `coordination::memory`",
        ),
        ("coordination/src/files/regular.rs", "use lockkeeper::cli::Output;", "uses `host::cli`"),
        // Libraries.
        ("src/rollout/driver/run_loop.rs", "use wasmtime::Engine;", "names `wasmtime`"),
        ("src/rollout/driver/run_loop.rs", "use ::wasmtime as w; fn f() { w::Engine::new() }", "names `wasmtime`"),
        ("src/job/file.rs", "#[derive(clap::Args)] struct Job;", "names `clap`"),
        ("coordination/src/store/mod.rs", "fn f() { rusqlite::Connection::open(p); }", "names `rusqlite`"),
        ("coordination/src/memory/tree.rs", "use zookeeper_client::Client;", "names `zookeeper_client`"),
        // Streams.
        ("src/rollout/driver/run_loop.rs", "fn f() { println!(\"done\") }", "prints"),
        (
            "src/rollout/driver/run_loop.rs",
            "struct S { #[cfg(test)] a: u8, b: u8 } fn f() { std::eprintln!(\"x\") }",
            "prints",
        ),
        ("coordination/src/store/watch.rs", "fn f() { let out = std::io::stdout(); }", "prints"),
        ("src/cli/run.rs", "fn f() { println!() }", "prints"),
        ("src/cli/run.rs", "fn f() { writeln!(anstream::stderr(), \"x\") }", "prints"),
        ("src/cli/run.rs", "use indicatif::ProgressBar;", "prints"),
        ("src/cli/run.rs", "fn f(error: clap::Error) { error.print(); }", "prints"),
        ("src/author/decide.rs", "fn f(c: Command) { c.stderr(Stdio::inherit()); }", "prints"),
        ("locks/src/cli/supervisor.rs", "fn f() { eprintln!() }", "prints"),
        // Backends.
        (
            "src/cli/run.rs",
            "use lockkeeper_coordination::embedded::Embedded;",
            "names the backend `coordination::embedded`",
        ),
        (
            "src/cli/policy/test.rs",
            "use lockkeeper_coordination::memory::Memory;",
            "names the backend `coordination::memory`",
        ),
        (
            "src/rollout/exec/ssh/remote.rs",
            "fn f() { lockkeeper_coordination::zookeeper::ZooKeeper::new() }",
            "names the backend `coordination::zookeeper`",
        ),
        (
            "src/cli/run.rs",
            "use lockkeeper_coordination::{self as c}; fn f() { c::memory::Memory::new() }",
            "names the backend `coordination::memory`",
        ),
        // What is pure, every file of it.
        ("src/job/inventory.rs", "use std::{fmt, fs};", "is pure and names `std::fs`"),
        ("src/rollout/machine/rollout/waves.rs", "use std::fs::read;", "is pure and names `std::fs"),
        (
            "src/rollout/machine/tables/schedule.rs",
            "fn f() { let now = std::time::Instant::now(); }",
            "is pure and names `std::time::Instant::now`",
        ),
        (
            "src/rollout/machine/rollout.rs",
            "use std::time; fn f() { time::Instant::now() }",
            "is pure and names `std::time::Instant::now`",
        ),
        (
            "src/rollout/machine/rollout.rs",
            "use std::time::Instant as I; fn f() { I::now() }",
            "is pure and names `std::time::Instant::now`",
        ),
        ("src/rollout/machine/rollout.rs", "use std::time::{SystemTime};", "is pure and names `std::time::SystemTime`"),
        (
            "src/rollout/model/limits.rs",
            "fn f() { jiff::Timestamp::now() }",
            "is pure and names `jiff::Timestamp::now`",
        ),
        (
            "src/rollout/model/limits.rs",
            "use jiff::Zoned; fn f() { Zoned::now() }",
            "is pure and names `jiff::Zoned::now`",
        ),
        ("src/rollout/model/plan.rs", "async fn f() { tokio::task::yield_now().await }", "is pure and names `tokio"),
        ("src/rollout/model/plan.rs", "use tokio::time::Instant;", "is pure and names `tokio"),
        ("src/rollout/model/plan.rs", "fn f() { rand::random() }", "is pure and names `rand"),
        (
            "src/rollout/model/plan.rs",
            "use rand::rngs::StdRng; fn f() { StdRng::from_os_rng() }",
            "is pure and names `rand",
        ),
        ("src/rollout/model/plan.rs", "use uuid::Uuid;", "is pure and names `uuid"),
        ("src/job/host_name.rs", "use std::net::TcpStream;", "is pure and names `std::net::TcpStream`"),
        ("src/rollout/model/plan.rs", "fn f() { std::process::id() }", "is pure and names `std::process"),
        ("src/rollout/model/plan.rs", "fn f() { std::env::var(\"HOME\") }", "is pure and names `std::env"),
        ("src/rollout/model/plan.rs", "fn f() { std::thread::sleep(d) }", "is pure and names `std::thread"),
        ("src/rollout/model/plan.rs", "use gethostname::gethostname;", "is pure and names `gethostname"),
        ("src/rollout/model/plan.rs", "fn f() { rustix::time::clock_gettime(c) }", "is pure and names `rustix"),
        ("src/rollout/model/plan.rs", "fn f(i: Instant) { i.elapsed() }", "is pure and calls `elapsed`"),
        ("src/rollout/model/plan.rs", "fn f(c: Clock) { c.now_ms() }", "is pure and calls `now_ms`"),
        ("src/job/spec.rs", "fn f(p: &Path) { p.exists() }", "is pure and calls `exists`"),
        (
            "locks/src/fence/accepted.rs",
            "use lockkeeper_coordination::files::read;",
            "is pure and names `coordination::files",
        ),
        (
            "src/job/spec.rs",
            "use lockkeeper_coordination::store::Clock;",
            "is pure and names `coordination::store::clock::Clock`",
        ),
    ] {
        let found = problems_of(known, &mut modules, file, text);
        assert!(!found.is_empty() && found.iter().all(|it| it.contains(what)), "{file}: {text}: {found:?}");
    }
}

#[test]
fn what_is_allowed_is_not_taken_for_broken() {
    let known = all_sources();
    let mut modules = modules_of(known);
    for (file, text) in [
        ("src/cli/run.rs", "use crate::rollout::model::Plan; use lockkeeper_coordination::store::Store;"),
        ("locks/src/cli/sink.rs", "fn f() { println!() }"),
        ("locks/src/cli/supervisor.rs", "fn f() { tcgetpgrp(io::stdout()) }"),
        ("src/rollout/driver/run_loop.rs", "// println!(\"x\")\nconst S: &str = \"use crate::cli; println!()\";"),
        ("src/rollout/driver/run_loop.rs", "fn f(c: Command) { c.stdout(Stdio::null()); c.stderr(Stdio::null()); }"),
        ("src/rollout/driver/run_loop.rs", "fn f() {} #[cfg(test)] mod tests { fn f() { println!() } }"),
        ("src/rollout/driver/run_loop.rs", "#[cfg(test)] fn f() -> Result<(), ()> { println!() }"),
        ("src/rollout/driver/run_loop.rs", "use super::super::machine::Rollout;"),
        ("coordination/src/recipe/tests.rs", "#[cfg(test)] mod tests { use crate::store::NodePath; }"),
        ("src/rollout/machine/rollout.rs", "fn f(now: Instant) -> Instant { now + Duration::from_secs(1) }"),
        ("src/rollout/machine/rollout.rs", "struct S { elapsed: u64 } fn f(s: S) -> u64 { s.elapsed }"),
        ("src/rollout/machine/rollout.rs", "#[cfg(test)] mod tests { use std::fs; }"),
        ("src/rollout/model/plan.rs", "use rand::rngs::StdRng; fn f() { StdRng::seed_from_u64(1) }"),
        ("src/job/host_name.rs", "use std::net::Ipv6Addr;"),
        ("src/job/store.rs", "use lockkeeper_coordination::zookeeper::Hosts;"),
        // The module passes on a name of its own, and only that.
        ("src/audit/explain/nearest.rs", "use crate::rollout::driver::Decide;"),
        ("locks/src/cli/store/choice.rs", "use lockkeeper_coordination::embedded::Embedded;"),
        ("src/policy/engine.rs", "use wasmtime::{Config, Engine}; use crate::job::Grants;"),
        ("coordination/src/embedded/session.rs", "use super::super::store::Store; use super::engine::Engine;"),
    ] {
        assert_eq!(problems_of(known, &mut modules, file, text), Vec::<String>::new(), "{file}: {text}");
    }
}

#[test]
fn a_cycle_between_files_is_seen() {
    let files = [
        ("src/job/mod.rs", "mod a; mod b; mod c; pub use a::A; pub use b::B;"),
        // By way of a name that `mod.rs` passes on.
        ("src/job/a.rs", "use super::B; pub struct A;"),
        ("src/job/b.rs", "pub struct B; fn f(c: super::c::C) {}"),
        ("src/job/c.rs", "pub struct C; impl C { fn f(_: crate::job::A) {} }"),
        ("src/job/d.rs", "use super::A; #[cfg(test)] mod tests { use super::super::e::E; }"),
        ("src/job/e.rs", "use super::d::D; pub struct E;"),
    ];
    let sources: Vec<Source> = files.iter().map(|(file, text)| source_of(file, text)).collect();
    let found = cycles(&uses_between_files(&sources, &modules_of(&sources)));
    let found: Vec<Vec<String>> =
        found.iter().map(|group| group.iter().map(|module| module.join("::")).collect()).collect();
    assert_eq!(found, [["host::job::a", "host::job::b", "host::job::c"]]);
}

#[test]
fn logic_in_a_mod_file_is_seen() {
    for (text, what) in [
        ("//! Docs.\nmod a;\n#[cfg(test)]\nmod tests;\npub(crate) use a::{A, B};", None),
        ("#[cfg(test)] mod tests { fn f() {} }\npub mod a;", None),
        ("mod a;\npub use a::A;\n/// Docs.\n#[derive(Debug)]\npub struct S { a: u8 }", Some("struct S ")),
        ("mod a { fn f() {} }", Some("mod a ")),
        ("use a::{A}; const N: u8 = 1;", Some("const N ")),
        ("pub(super) fn f() {}", Some("fn f ")),
    ] {
        assert_eq!(first_logic(text).as_deref(), what, "{text}");
    }
}

/// Every rule that a file breaks, once each.
fn problems(source: &Source, modules: &Modules) -> BTreeSet<String> {
    let (name, home) = (source.name.display(), source.module.join("::"));
    let mut wrong = BTreeSet::new();
    for path in &source.paths {
        let from = source.module_of(path);
        let (target, full) = target(path, &from, modules);
        let is_of_tests = Part::Tests == path.part.max(source.part);
        // Both count: the module that is named, unless it passes on a name of a module of its own, and that which the name
        // leads to.
        let named = modules.named(&from, &path.segments);
        let named = named.filter(|named| !target.as_ref().is_some_and(|target| target.starts_with(named)));
        for used in [named, target].into_iter().flatten() {
            let used_name = used.join("::");
            if let (Some(own), Some(used)) = (layer(&source.module), layer(&used)) {
                let (_, below) = LAYERS.iter().find(|(layer, _)| *layer == own).unwrap();
                let of_tests =
                    TESTS_MAY_USE.iter().any(|(layer, module)| *layer == own && is_within(&used_name, module));
                let may = is_any(&used_name, &[own]) || is_any(&used_name, below) || of_tests && is_of_tests;
                if !may {
                    wrong.insert(format!("{name} uses `{used}`"));
                }
            }
            let is_above = !home.starts_with("coordination") && !is_any(&home, &OPENS_BACKENDS);
            let backend = BACKENDS.iter().find(|backend| is_within(&used_name, backend));
            let is_data = is_any(&full.join("::"), &BACKEND_DATA);
            if let Some(backend) = backend.filter(|_| is_above && !is_of_tests && !is_data) {
                wrong.insert(format!("{name} names the backend `{backend}`"));
            }
        }
        for (library, stays) in STAYS_IN {
            if full.len() > 1 && full[0] == library && !is_any(&home, stays) {
                wrong.insert(format!("{name} names `{library}`, which stays in {stays:?}"));
            }
        }
        if !is_of_tests {
            wrong.extend(printing(path, &full, &home).map(|what| format!("{name} prints by `{what}`")));
            if is_any(&home, &PURE) {
                wrong.extend(impurity(path, &full).map(|what| format!("{name} is pure and {what}")));
            }
        }
    }
    wrong
}

/// The module of ours that a path leads to, and the whole path as seen from outside, with our crates by their short names.
fn target(path: &CodePath, from: &[String], modules: &Modules) -> (Option<modules::ModulePath>, Vec<String>) {
    match modules.resolve(from, &path.segments) {
        _ if matches!(path.form, Form::Method { .. }) => (None, Vec::new()),
        Target::Ours { module, rest } => {
            let full = [module.as_slice(), &rest].concat();
            (Some(module), full)
        }
        Target::Other(full) => (None, full),
    }
}

/// By what a path prints, where only the sink may.
fn printing(path: &CodePath, full: &[String], home: &str) -> Option<String> {
    let last = path.segments.last().unwrap().as_str();
    let prints = match path.form {
        Form::Macro => ["print", "println", "eprint", "eprintln", "dbg"].contains(&last),
        // Of a child process, too: it would write past us.
        Form::Call { arguments: false } => ["stdout", "stderr", "inherit"].contains(&last),
        // Clap's errors print themselves.
        Form::Method { arguments: false } => last == "print",
        // Libraries that write there themselves.
        _ => full.len() > 1 && ["anstream", "indicatif"].contains(&full[0].as_str()),
    };
    let may = PRINTS.contains(&home) || NAMES_STREAMS.contains(&(home, last));
    (prints && !may).then(|| last.to_owned())
}

/// What of the world outside a path reaches for.
fn impurity(path: &CodePath, full: &[String]) -> Option<String> {
    let last = path.segments.last().unwrap().as_str();
    if matches!(path.form, Form::Method { .. }) {
        return IMPURE_METHODS.contains(&last).then(|| format!("calls `{last}`"));
    }
    let whole = match full.join("::") {
        whole if whole.starts_with("core::") => whole.replacen("core", "std", 1),
        whole => whole,
    };
    // A variable may have the name of a library: only a path of it, or a `use`, names that.
    let is_named = full.len() > 1 || matches!(path.form, Form::Use { .. });
    let begins_so = is_named && is_any(&whole, &IMPURE) && !PURE_ALL_THE_SAME.contains(&whole.as_str());
    let has_it = IMPURE_NAMES.iter().any(|name| format!("::{whole}::").contains(&format!("::{name}::")));
    (begins_so || has_it).then(|| format!("names `{whole}`"))
}

/// The layer of a module: the longest name that fits.
fn layer(module: &[String]) -> Option<&'static str> {
    let name = module.join("::");
    let fitting = LAYERS.iter().map(|(layer, _)| *layer).filter(|layer| is_within(&name, layer));
    fitting.max_by_key(|layer| layer.len())
}

/// A file that only declares layers: `rollout/mod.rs`.
fn is_above_layers(source: &Source) -> bool {
    let name = source.module.join("::");
    LAYERS.iter().any(|(layer, _)| *layer != name && is_within(layer, &name))
}

fn is_within(name: &str, module: &str) -> bool {
    name.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn is_any(name: &str, modules: &[&str]) -> bool {
    modules.iter().any(|module| is_within(name, module))
}

/// How the problems begin that are allowed for now.
fn excuses() -> Vec<String> {
    let layers = LAYERS_NOT_YET.iter().map(|(file, used)| format!("{file} uses `{used}`"));
    layers.chain(IMPURE_NOT_YET.iter().map(|(file, what)| format!("{file} is pure and {what}"))).collect()
}

fn unwanted_dependencies(manifest: &toml::Table, unwanted: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (key, value) in manifest {
        let Some(table) = value.as_table() else { continue };
        if key.ends_with("dependencies") {
            let packages = table.iter().map(|(name, value)| {
                let package = value.as_table().and_then(|value| value.get("package")).and_then(toml::Value::as_str);
                package.unwrap_or(name)
            });
            let is_unwanted = |package: &&str| unwanted.iter().any(|unwanted| package.starts_with(unwanted));
            found.extend(packages.filter(is_unwanted).map(String::from));
        } else {
            found.extend(unwanted_dependencies(table, unwanted));
        }
    }
    found.sort();
    found
}

/// The rules that a file would break with this text.
fn problems_of(known: &[Source], modules: &mut Modules, file: &str, text: &str) -> Vec<String> {
    let own = source_of(file, text);
    let replaced = known.iter().find(|source| source.name == own.name);
    replaced.inspect(|source| modules.remove(source));
    modules.add(&own);
    let found = problems(&own, modules);
    modules.remove(&own);
    replaced.inspect(|source| modules.add(source));
    found.into_iter().collect()
}

/// A file with another text than it has, or one that is not there.
fn source_of(file: &str, text: &str) -> Source {
    let (_, short, folder) = CRATES.iter().find(|(_, _, folder)| Path::new(file).starts_with(folder)).unwrap();
    let below = Path::new(file).strip_prefix(folder).unwrap();
    source(Path::new(file), short, below, text.to_owned(), Part::Product)
}

fn modules_of<'a>(sources: impl IntoIterator<Item = &'a Source>) -> Modules {
    Modules::of(&CRATES.map(|(name, short, _)| (name, short)), sources)
}

fn all_sources() -> &'static [Source] {
    static ALL: LazyLock<Vec<Source>> =
        LazyLock::new(|| CRATES.iter().flat_map(|(_, short, folder)| sources(&host_dir(), short, folder)).collect());
    assert!(ALL.len() > LAYERS.len(), "no sources in {}", host_dir().display());
    &ALL
}

fn module_dir(module: &str) -> PathBuf {
    let (short, below) = module.split_once("::").unwrap_or((module, ""));
    let (_, _, folder) = CRATES.iter().find(|(_, name, _)| *name == short).unwrap();
    below.split("::").fold(host_dir().join(folder), |folder, segment| folder.join(segment))
}

fn host_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
