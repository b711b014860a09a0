//! Writing a policy from the command line for the first time.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::fs;
use std::path::{Path, PathBuf};

use lockkeeper_tests::{Said, World, eventually, root, said, target_dir};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// `lockkeeper` in a folder; std is built once for all guests.
fn in_folder(world: &World, folder: &Path, words: &str) -> Said {
    let mut command = world.lockkeeper(words.split(' '));
    said(command.current_dir(folder).env("CARGO_TARGET_DIR", target_dir()))
}

const CASES: &str = "settings.max-failures = 1\n\n[[case]]\nname = \"goes\"\nexpect = { verdict = \"lock\" } # as long as all is well\n\n\
                     [[case]]\nname = \"stops\"\nview.progress.failed = 1\nexpect = { verdict = \"hold\", code = \"too-many-failures\" }\n";

#[test]
fn a_new_policy_builds_and_passes() {
    let world = World::new();
    let made = in_folder(&world, world.folder(), "policy new first-one");
    assert_eq!(made.code, Some(0), "{made:?}");
    let folder = world.folder().join("first-one");
    let source = fs::read_to_string(folder.join("src/lib.rs")).unwrap();
    assert!(source.lines().count() <= 30, "{source}");
    // The hint's next command is run as printed.
    for line in made.stdout.lines().filter_map(|line| line.strip_prefix("lockkeeper ")) {
        let words = line.split(" > ").next().unwrap();
        let answer = in_folder(&world, &folder, words);
        assert_eq!(answer.code, Some(0), "{words}: {answer:?}");
        if words.starts_with("schema") {
            fs::write(folder.join("job.schema.json"), &answer.stdout).unwrap();
        }
    }
    let wasm = fs::read(folder.join("first_one.wasm")).unwrap();
    for place in [root().join("guest-sdk/build"), cargo_home()] {
        let place = place.to_str().unwrap().as_bytes().to_vec();
        assert!(!wasm.windows(place.len()).any(|bytes| bytes == place), "where this machine keeps its crates");
    }
    let job = fs::read_to_string(folder.join("job.toml")).unwrap();
    assert!(job.starts_with("#:schema job.schema.json\n"), "{job}");
    let schema: Value = serde_json::from_str(&fs::read_to_string(folder.join("job.schema.json")).unwrap()).unwrap();
    assert!(schema["$defs"]["PolicySettings"]["properties"]["pause"].is_object());

    // A wrong setting is reported at its place, with a suggestion.
    fs::write(folder.join("wrong.toml"), job.replace("pause = \"2s\"", "pausse = \"2s\"\npause = 2")).unwrap();
    let checked = in_folder(&world, &folder, "check wrong.toml --format json");
    let told: Value = serde_json::from_str(checked.stderr.trim()).unwrap();
    let problems = told["problems"].as_array().unwrap();
    assert_eq!((checked.code, problems.len()), (Some(2), 2), "{told}");
    assert_eq!((&problems[0]["line"], &problems[0]["hint"]), (&16.into(), &"did you mean `pause`?".into()), "{told}");
    assert_eq!(problems[1]["line"], 17, "{told}");

    // What does not compile is shown, and the file of before stays.
    let before = fs::read(folder.join("first_one.wasm")).unwrap();
    fs::write(folder.join("src/lib.rs"), source.replace("rules::go(view)", "rules::goes(view)")).unwrap();
    let failed = in_folder(&world, &folder, "policy build");
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(failed.stderr.contains("cannot find function `goes`"), "{failed:?}");
    assert_eq!(fs::read(folder.join("first_one.wasm")).unwrap(), before);
    let left = fs::read_dir(&folder)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".half"));
    assert_eq!(left.count(), 0, "half a file is left");
}

#[test]
fn a_new_orchestration_builds_passes_and_runs() {
    let world = World::new();
    let made = in_folder(&world, world.folder(), "policy new fail-over --orchestration");
    assert_eq!(made.code, Some(0), "{made:?}");
    let folder = world.folder().join("fail-over");
    for line in made.stdout.lines().filter_map(|line| line.strip_prefix("lockkeeper ")) {
        let answer = in_folder(&world, &folder, line);
        assert_eq!(answer.code, Some(0), "{line}: {answer:?}");
    }
    let mut native = std::process::Command::new("cargo");
    native.args(["test", "--quiet"]).current_dir(&folder).env("CARGO_TARGET_DIR", target_dir());
    let native = said(&mut native);
    assert!(native.code == Some(0) && native.stdout.contains("1 passed"), "{native:?}");
    let told = in_folder(&world, world.folder(), "policy new other --orchestration --lang python");
    assert!(told.code == Some(2) && told.stderr.contains("an orchestration is written in Rust"), "{told:?}");
}

fn cargo_home() -> PathBuf {
    let home = || Path::new(&std::env::var_os("HOME").unwrap()).join(".cargo");
    std::env::var_os("CARGO_HOME").map_or_else(home, PathBuf::from)
}

#[test]
fn a_change_is_built_and_tested_in_watch_mode() {
    let world = World::new();
    assert_eq!(in_folder(&world, world.folder(), "policy new watched").code, Some(0));
    let folder = world.folder().join("watched");
    // The first build of all takes as long as it takes.
    assert_eq!(in_folder(&world, &folder, "policy build").code, Some(0));
    let out = world.folder().join("out.jsonl");
    let mut watching = world.lockkeeper(["policy", "watch", "--format", "json"]);
    watching.current_dir(&folder).env("CARGO_TARGET_DIR", target_dir());
    watching.stdout(fs::File::create(&out).unwrap()).stderr(fs::File::create(world.folder().join("err")).unwrap());
    let mut watching = watching.spawn().unwrap();
    let told = || {
        fs::read_to_string(&out)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect::<Vec<Value>>()
    };
    eventually("the first build passes", || told().len() == 1);
    assert_eq!(told()[0]["failures"], 0);

    let source = fs::read_to_string(folder.join("src/lib.rs")).unwrap();
    fs::write(folder.join("src/lib.rs"), source.replace("rules::go(view)", "rules::goes(view)")).unwrap();
    let errors = || fs::read_to_string(world.folder().join("err")).unwrap();
    eventually("what does not compile is told", || errors().contains("cannot find function `goes`"));
    fs::write(folder.join("src/lib.rs"), &source).unwrap();
    eventually("what is mended passes", || told().len() == 2);
    let cases = fs::read_to_string(folder.join("cases.toml")).unwrap();
    fs::write(folder.join("cases.toml"), cases.replace("\"lock\"", "\"abort\"")).unwrap();
    eventually("other cases are tried", || told().len() == 3);
    assert_ne!(told()[2]["failures"], 0);

    kill(Pid::from_raw(watching.id().cast_signed()), Signal::SIGINT).unwrap();
    assert_eq!(watching.wait().unwrap().code(), Some(130));
}

#[test]
fn a_pinned_policy_is_this_file_and_no_other() {
    let world = World::new();
    let wasm = lockkeeper::policy::StandardPolicy::named("rolling").unwrap().wasm;
    fs::write(world.folder().join("mine.wasm"), wasm).unwrap();
    let digest = lockkeeper::policy::digest(wasm);
    let check = |pin: &str| {
        let job = format!(
            "name = \"pinned\"\nsemaphore.path = \"/locks/pinned\"\ntargets.hosts = [\"a\"]\naction.run = [\"true\"]\n[policy]\npath = \"mine.wasm\"\nsha256 = \"{pin}\"\n"
        );
        let job = world.file("job.toml", &job);
        [world.run(&format!("check {}", job.display())), world.run(&format!("run {}", job.display()))]
    };
    for said in check(&digest).into_iter().chain(check(&digest.to_uppercase())) {
        assert_eq!(said.code, Some(0), "{said:?}");
    }
    for said in check(&digest[1..]) {
        assert!(said.code == Some(2) && said.stderr.contains("a SHA-256 has 64 hex digits"), "{said:?}");
    }
    // The compiler is replaced: neither a cached nor a running one is taken for it.
    fs::write(world.folder().join("mine.wasm"), lockkeeper::policy::StandardPolicy::named("spread").unwrap().wasm)
        .unwrap();
    for said in check(&digest) {
        assert_eq!(said.code, Some(70), "{said:?}");
        assert!(said.stderr.contains(&digest) && said.stderr.contains("put its new sha256 into the job"), "{said:?}");
    }
}

#[test]
fn a_failure_to_create_shows_the_next_step() {
    let world = World::new();
    fs::create_dir(world.folder().join("taken")).unwrap();
    world.file("taken/notes.txt", "mine");
    for (words, message, hint) in [
        ("policy new Upper", "cannot be a policy's name", "such as `one-per-rack`"),
        ("policy new taken", "is there already, and not empty", "--out"),
        ("policy new other --sdk taken", "there is no SDK in `taken`", "guest-sdk"),
        ("policy build taken", "there is no policy in `taken`", "lockkeeper policy new NAME"),
        ("policy test rolling --update", "--update needs a file of cases", "[[case]]"),
        ("policy decide rolling --from latest#1", "has no runs", "lockkeeper run JOB"),
        ("policy decide rolling --from latest", "names no decision", "latest#17"),
        ("policy decide rolling --view gone.toml", "cannot read the view", "lockkeeper policy views"),
    ] {
        let answer = in_folder(&world, world.folder(), words);
        assert_eq!(answer.code, Some(2), "{words}: {answer:?}");
        assert!(answer.stderr.contains(message) && answer.stderr.contains(hint), "{words}: {answer:?}");
    }
    assert_eq!(fs::read_dir(world.folder().join("taken")).unwrap().count(), 1);
}

#[test]
fn cases_fail_pass_and_are_updated() {
    let world = World::new();
    let cases = world.file("cases.toml", CASES);
    let words = format!("policy test rolling {} --no-properties", cases.display());
    let failed = world.run(&words);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(failed.stdout.contains("verdict: expected hold, seen abort"), "{failed:?}");
    assert!(failed.stdout.contains("cases.toml:8"), "{failed:?}");
    let updated = world.run(&format!("policy test rolling {} --update", cases.display()));
    assert_eq!(updated.code, Some(0), "{updated:?}");
    let text = fs::read_to_string(&cases).unwrap();
    assert_eq!(text, CASES.replace("\"hold\"", "\"abort\""), "only what differed is written");
    assert_eq!(world.run(&words).code, Some(0));

    // A mistake in the file is reported at its place.
    let wrong = world.file("wrong.toml", &CASES.replace("progress.failed", "progress.fialed"));
    let answer = world.run(&format!("policy test rolling {}", wrong.display()));
    assert_eq!(answer.code, Some(2), "{answer:?}");
    assert!(
        answer.stderr.contains("did you mean `failed`?") && answer.stderr.contains("wrong.toml:9:15"),
        "{answer:?}"
    );
}

#[test]
fn a_decision_of_a_run_is_taken_again_and_becomes_a_case() {
    let world = World::new();
    let job = root().join("examples/rack-spread/job.toml");
    assert_eq!(said(world.lockkeeper(["run"]).arg(&job)).code, Some(0));
    let told = world.json("policy decide spread --from latest#1");
    let replayed = world.json("replay latest");
    assert_eq!(replayed["difference"], Value::Null);
    assert!(told["answer"]["verdict"].is_string() && told["fuel"].as_u64() > Some(0), "{told}");
    let case = world.run("policy decide spread --from latest#1 --case second");
    let pasted = world.file("pasted.toml", &case.stdout);
    let tested = world.run(&format!("policy test spread {} --no-properties", pasted.display()));
    assert_eq!(tested.code, Some(0), "{}\n{tested:?}", case.stdout);
    let gone = world.run("policy decide spread --from latest#4000");
    assert!(gone.code == Some(2) && gone.stderr.contains("its last is"), "{gone:?}");
}

#[test]
fn fuel_past_the_baseline_fails() {
    let world = World::new();
    let cases = world.file("cases.toml", CASES);
    let bench = format!("policy bench rolling {} --rounds 3", cases.display());
    let measured = world.json(&bench);
    let again = world.json(&bench);
    assert_eq!(measured["cases"][0]["fuel"], again["cases"][0]["fuel"], "fuel is the same each time");
    let baseline = world.file("baseline.json", &measured.to_string());
    let same = world.run(&format!("{bench} --baseline {}", baseline.display()));
    assert_eq!(same.code, Some(0), "{same:?}");
    let mut cheaper = measured.clone();
    cheaper["cases"][1]["fuel"] = (measured["cases"][1]["fuel"].as_u64().unwrap() * 9 / 10 - 1).into();
    let cheaper = world.file("cheaper.json", &cheaper.to_string());
    let grown = world.run(&format!("{bench} --baseline {}", cheaper.display()));
    assert_eq!(grown.code, Some(1), "{grown:?}");
    assert!(grown.stderr.contains("`stops` burns"), "{grown:?}");
    assert_eq!(world.run(&format!("{bench} --baseline {} --max-growth 20", cheaper.display())).code, Some(0));
}

#[test]
fn the_standard_policies_have_every_property() {
    let world = World::new();
    for policy in ["break-stale", "canary", "rolling", "spread"] {
        let tested = world.run(&format!("policy test {policy} --views 150 --seed 3"));
        assert_eq!(tested.code, Some(0), "{policy}: {tested:?}");
    }
}
