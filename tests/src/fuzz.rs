//! Code that reads foreign bytes, as functions that must not panic on any input: for the short run of `tests/fuzz.rs`,
//! and for libFuzzer with `cargo xtask fuzz`.

use std::fs;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use lockkeeper::author::{case_text, question_of, read_cases, read_view, sample_view};
use lockkeeper::job::{Grants, JobSpec, parse_inventory, parse_listing, parse_settings};
use lockkeeper::policy::{Engine, EngineOptions};
use lockkeeper::rollout::journal::{Reader, digest};
use lockkeeper::rollout::model::Plan;
use lockkeeper::rollout::run_state;
use lockkeeper_coordination::memory::{Memory, MemoryOptions};
use lockkeeper_coordination::recipe::{Claims, Party, Semaphore, read_number};
use lockkeeper_coordination::store::{NodePath, Store, Version, create_all};
use lockkeeper_locks::config::parse_profiles;
use lockkeeper_locks::toml_reader::{Problems, text_of};

use crate::root;

/// A reader to fuzz.
#[derive(Debug)]
pub struct Target {
    /// Its name: also that of its folder of seeds and of its binary.
    pub name: &'static str,
    /// What it reads.
    pub about: &'static str,
    /// Reads the bytes, and panics if a promise about all inputs does not hold.
    pub run: fn(&[u8]),
    /// Files and folders with seeds, relative to the repository.
    seeds: &'static [&'static str],
}

/// All fuzz targets.
pub const TARGETS: [Target; 5] = [
    Target {
        name: "job",
        about: "a job's TOML, and what is written like it: inventories, settings, profiles",
        run: job,
        seeds: &["tests/fuzz/seeds/job", "examples"],
    },
    Target {
        name: "cases",
        about: "cases and views, in TOML and JSON",
        run: cases,
        seeds: &["tests/fuzz/seeds/cases", "examples", "tests/contract/1.0.0"],
    },
    Target { name: "wasm", about: "a policy's file", run: wasm, seeds: &["tests/contract/1.0.0"] },
    Target {
        name: "znodes",
        about: "what nodes of a store hold: a line a node, its path, a tab, its data",
        run: znodes,
        seeds: &["tests/fuzz/seeds/znodes"],
    },
    Target {
        name: "journal",
        about: "a run's journal as given, and with its lines chained again",
        run: journal,
        seeds: &["tests/fuzz/seeds/journal"],
    },
];

/// Runs the target of that name.
///
/// # Panics
/// If no target has that name, or the target breaks a promise.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("the target exists");
    (target.run)(bytes);
}

/// Whether a file has the right ending and size for a seed; longer ones take too much time.
fn is_seed(target: &str, path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    let fits = match target {
        "job" | "cases" => ending == "toml" || ending == "json",
        "wasm" => ending == "wasm",
        _ => true,
    };
    fits && fs::metadata(path).is_ok_and(|found| found.len() < 100_000)
}

impl Target {
    /// The seeds.
    ///
    /// # Panics
    /// If there are none.
    #[must_use]
    pub fn seeds(&self) -> Vec<Vec<u8>> {
        let mut files = Vec::new();
        for seed in self.seeds {
            collect(&root().join(seed), &mut files);
        }
        files.retain(|path| is_seed(self.name, path));
        files.sort();
        assert!(!files.is_empty(), "{} has no seeds", self.name);
        files.iter().filter_map(|path| fs::read(path).ok()).collect()
    }
}

fn collect(path: &Path, into: &mut Vec<PathBuf>) {
    // Installed or built files are not part of the repository.
    if path.ends_with("node_modules") || path.ends_with("target") {
        return;
    }
    let Ok(entries) = fs::read_dir(path) else { return };
    for entry in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        if entry.is_dir() { collect(&entry, into) } else { into.push(entry) }
    }
}

/// Checks that problems point into their file.
fn told(problems: &Problems) {
    let source = problems.source();
    let lines = source.text().lines().count().max(1);
    for problem in problems.problems() {
        assert!(!problem.message.is_empty());
        assert!(problem.place.line >= 1 && problem.place.line <= lines + 1, "{problem:?} in {lines} lines");
    }
    assert!(!problems.to_string().is_empty());
}

fn job(bytes: &[u8]) {
    let text = match text_of("job", "job.toml", bytes) {
        Ok(text) => text,
        Err(problems) => return told(&problems),
    };
    match JobSpec::parse("job.toml", text) {
        Ok(job) => {
            let again = JobSpec::parse("job.toml", text).expect("what is read once is read twice");
            assert_eq!(job.digest, again.digest);
            let targets = parse_listing("targets", b"a1\na2\nb1\n").expect("these are targets");
            let problems = job.problems_with_targets(&targets);
            if problems.is_empty() {
                let plan = Plan::new(&job, targets);
                assert_eq!(plan.targets.len(), 3);
            }
        }
        Err(problems) => told(&problems),
    }
    let others = [
        parse_settings("settings.toml", text).err(),
        parse_inventory("inventory.toml", text).err(),
        parse_listing("list", text.as_bytes()).err(),
        parse_profiles("config.toml", text).err(),
    ];
    others.iter().flatten().for_each(told);
}

fn cases(bytes: &[u8]) {
    let text = match text_of("cases", "cases.toml", bytes) {
        Ok(text) => text,
        Err(problems) => return told(&problems),
    };
    match read_view("view", text) {
        Ok(view) => {
            let whole = serde_json::to_string(&view).expect("a view is JSON");
            let again = read_view("view.json", &whole).expect("a view that was written is read");
            assert_eq!(view, again);
        }
        Err(problems) => told(&problems),
    }
    match read_cases("cases.toml", text) {
        Ok(cases) => {
            for case in &cases.cases {
                let question = question_of(case, Vec::new());
                let pasted = case_text("again", &question, None);
                if let Err(problems) = read_cases("pasted.toml", &pasted) {
                    panic!("{pasted}\n{problems}: {:?}", problems.problems());
                }
            }
        }
        Err(problems) => told(&problems),
    }
}

fn wasm(bytes: &[u8]) {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    let engine = ENGINE.get_or_init(|| Engine::new(&EngineOptions::default()).expect("an engine can be set up"));
    match engine.load(bytes) {
        Ok(policy) => {
            let view = sample_view();
            let decision = policy.admit("{}", &view, &[], Grants::NONE);
            let again = policy.admit("{}", &view, &[], Grants::NONE);
            assert_eq!((format!("{:?}", decision.answer), decision.fuel), (format!("{:?}", again.answer), again.fuel));
            // The settings may be refused.
            let _ = policy.validate(&serde_json::json!({ "slots": [1, null] }));
        }
        Err(error) => {
            assert!(!error.to_string().chars().any(char::is_control), "{error:?}");
            assert!(error.to_string().len() < 20_000);
        }
    }
}

fn journal(bytes: &[u8]) {
    read_through(bytes);
    // Otherwise nothing after the first change would be read.
    let mut sealed = Vec::new();
    let mut previous = String::new();
    for content in bytes.split(|byte| *byte == b'\n').filter(|content| !content.is_empty()) {
        let line = [br#"{"prev":""#, previous.as_bytes(), br#"","#, content].concat();
        previous = digest(&line);
        sealed.extend([line.as_slice(), br#","hash":""#, previous.as_bytes(), b"\"}\n"].concat());
    }
    read_through(&sealed);
}

fn read_through(journal: &[u8]) {
    let Ok(mut reader) = Reader::new(journal) else { return };
    let mut entries = 0;
    while let Ok(Some(_)) = reader.entry() {
        entries += 1;
    }
    let lines = journal.iter().filter(|byte| **byte == b'\n').count() + 1;
    assert!(entries <= lines && reader.line_number() <= lines && reader.bytes() <= journal.len() as u64);
}

fn znodes(bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be set up");
    runtime.block_on(look_at(&String::from_utf8_lossy(bytes)));
}

/// Puts the nodes into a store, and reads it as every read-only command does.
async fn look_at(nodes: &str) {
    let store: Arc<dyn Store> = Memory::new(MemoryOptions::default()).open();
    let mut paths = Vec::new();
    for line in nodes.lines() {
        let (path, data) = line.split_once('\t').unwrap_or((line, ""));
        let Ok(path) = NodePath::parse(path) else { continue };
        let data = Bytes::from(data.replace("\\n", "\n"));
        if path.parent().is_some() && create_all(&*store, &path).await.is_ok() {
            // The data may be too large.
            let _ = store.set(&path, data, Version::Any).await;
            paths.push(path);
        }
    }
    // Either an answer or an error is fine.
    for path in paths {
        let semaphore = Semaphore::new(Arc::clone(&store), path.clone(), NonZeroU32::MIN);
        let _ = semaphore.holders().await;
        let _ = semaphore.observe().await;
        let _ = Claims::new(Arc::clone(&store), path.clone()).of("web01").await;
        let _ = read_number(&*store, &path).await;
        let _ = Party::new(Arc::clone(&store), path).members().await;
    }
    let _ = run_state::summaries(&store).await;
    for kept in run_state::all(&store).await.unwrap_or_default() {
        let seen = run_state::RunOverview::read(&store, &kept.name).await;
        if let Ok(seen) = &seen {
            let _ = (seen.each().count(), seen.waves(), seen.hold_reasons());
        }
        let _ = run_state::requests(&store, &kept.name).await;
        let _ = run_state::run_status(&store, &kept.name).await;
    }
}
