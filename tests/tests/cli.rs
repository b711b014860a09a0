//! The command line from outside: whole stdout, stderr and exit code, with times, paths and numbers that differ filtered.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::process::{Command, Stdio};

use lockkeeper_tests::{Said, World, said};
use serde_json::Value;

/// Answers as a snapshot shows them.
fn shown(world: &World, line: &str) -> String {
    let Said { code, stdout, stderr } = world.run(line);
    let code = code.map_or("signal".to_owned(), |code| code.to_string());
    format!("$ lockkeeper {line}\n{stdout}--- stderr\n{stderr}--- exit {code}\n")
}

fn transcript(world: &World, lines: &[&str]) -> String {
    lines.iter().map(|line| shown(world, line)).collect::<Vec<_>>().join("\n")
}

/// Replaces what differs from run to run.
macro_rules! snapshot {
    ($world:expr, $text:expr) => {
        let folder = $world.folder().display().to_string();
        insta::with_settings!({
            filters => vec![
                (folder.as_str(), "[FOLDER]"),
                (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ \([^)]*ago\)", "[MOMENT]"),
                (r"\d{8}T\d{6}Z-[0-9a-f]{6}", "[RUN]"),
                (r#""(since|at)":\d+"#, r#""$1":[TIME]"#),
                (r#""fence":\d+"#, r#""fence":[FENCE]"#),
                (r"fence \d+", "fence [FENCE]"),
                (r"(?m)^\d+$", "[FENCE]"),
                (r"(\[MOMENT\]  )\d+( *)", "$1[FENCE]$2"),
                (r"\b\d+(ms|us)\b", "[SPAN]"),
            ],
            omit_expression => true,
        }, { insta::assert_snapshot!($text) });
    };
}

#[test]
fn locks_are_taken_shown_and_given_back() {
    let world = World::new();
    let text = transcript(
        &world,
        &[
            "holders /locks/x",
            "lock /locks/x --identifier me",
            "lock /locks/x --identifier me",
            "lock locks//x/ --identifier me --format json",
            "holders /locks/x",
            "lock-holders /locks/x --format json",
            "lock /locks/x --identifier you --timeout 0",
            "lock /locks/x --identifier you --timeout 50ms --format json",
            "lock /locks/x --identifier you --max-concurrency 2",
            "unlock /locks/x --identifier you",
            "unlock /locks/x --identifier me",
            "unlock /locks/x --identifier me --format json",
        ],
    );
    snapshot!(world, text);
}

#[test]
fn bad_arguments_are_told_by_name() {
    let world = World::new();
    let text = transcript(
        &world,
        &[
            "lock /",
            "lock /a/../b",
            "lock /zookeeper/x",
            "lock /x --identifier=",
            "lock /x --max-concurrency 0",
            "lock /x --timeout 5",
            "lock /x --timeout soon",
            "lock /x --ephemeral-lease",
            "lock /x --force",
            "lock /x --session-timeout 1ms",
            "lock /a/../b --format json",
            "lock /x --max-concurrency many --format json",
            "party join /p --identifier a/b",
            "holder /x",
            "run no-such-job.toml",
            "policy inspect rollin",
            "policy inspect ./no.wasm --format json",
        ],
    );
    snapshot!(world, text);
}

#[test]
fn odd_identifiers_are_refused_or_kept_as_they_are() {
    let world = World::new();
    let long = "x".repeat(10_240);
    for identifier in ["a\nb", long.as_str(), "\u{1b}[31m"] {
        let refused = said(&mut world.lockkeeper(["lock", "/x", "--identifier", identifier]));
        assert_eq!(refused.code, Some(2), "{identifier:?}");
        assert!(refused.stderr.contains("--identifier"), "{refused:?}");
    }
    assert_eq!(world.run("lock /x --identifier a/b").code, Some(0));
    assert_eq!(world.holders("/x"), ["a/b"]);
}

#[test]
fn an_argument_that_is_no_text_is_an_error() {
    use std::os::unix::ffi::OsStrExt;
    let world = World::new();
    let odd = std::ffi::OsStr::from_bytes(b"/x\xff");
    let refused = said(world.lockkeeper(["lock"]).arg(odd));
    assert_eq!(refused.code, Some(2), "{refused:?}");
}

const JOB: &str = r#"
name = "job"
[semaphore]
path = "/locks/job"
max-concurrency = 1
[targets]
hosts = ["a", "b"]
[policy]
use = "rolling"
[action]
run = ["sh", "-c", "echo to $LOCKKEEPER_TARGET; test $LOCKKEEPER_TARGET = a"]
[budget]
max-failed = 5
"#;

#[test]
fn a_job_is_checked_planned_and_run() {
    let world = World::new();
    let job = world.file("job.toml", JOB);
    let job = job.to_str().unwrap();
    let text = transcript(
        &world,
        &[&format!("check {job}"), &format!("plan {job}"), &format!("plan {job} --format json"), &format!("run {job}")],
    );
    snapshot!(world, text);
}

#[test]
fn all_mistakes_of_a_job_come_at_once() {
    let world = World::new();
    let job = world.file(
        "job.toml",
        r#"name = "bad job"
[semaphore]
path = "/locks/../x"
max-concurency = 2
[targets]
hosts = ["a", "a"]
[policy]
use = "rolling"
[policy.settings]
keep-slot = 30
max-failure = 3
[action]
run = ["sh", "{taget}"]
timeout = "5"
[[wave]]
size = 1
"#,
    );
    let line = format!("check {} --format json", job.display());
    let answer = world.run(&line);
    assert_eq!(answer.code, Some(2));
    let error: Value = serde_json::from_str(&answer.stderr).expect("one error object");
    assert_eq!(error["error"], "bad-job");
    let problems = error["problems"].as_array().unwrap();
    let keys: Vec<&str> = problems.iter().map(|problem| problem["key"].as_str().unwrap()).collect();
    for key in [
        "name",
        "semaphore.path",
        "semaphore.max-concurency",
        "targets.hosts[1]",
        "policy.settings.keep-slot",
        "policy.settings.max-failure",
        "action.run[1]",
        "action.timeout",
    ] {
        assert!(keys.contains(&key), "{key} is missing in {keys:?}");
    }
    assert!(keys.iter().any(|key| key.starts_with("wave")), "{keys:?}");
    for problem in problems {
        assert!(problem["line"].as_u64().unwrap() > 0 && problem["column"].as_u64().unwrap() > 0, "{problem}");
    }
    snapshot!(world, shown(&world, &format!("check {}", job.display())));
}

#[test]
fn a_store_that_cannot_be_used_is_unavailable() {
    let world = World::new();
    let text_file =
        world.file("text", "this is no database, and longer than a header of one would be: a hundred bytes of text");
    for store in [world.folder().to_owned(), text_file, "/proc/store.db".into()] {
        let answer = world.run(&format!("holders /x --format json --store {}", store.display()));
        let error: Value = serde_json::from_str(&answer.stderr).unwrap_or_else(|_| panic!("{answer:?}"));
        assert_ne!(answer.code, Some(0));
        assert!(error["message"].as_str().unwrap().contains(store.to_str().unwrap()), "{error}");
    }
}

#[test]
fn a_pipe_that_closes_is_no_error() {
    let world = World::new();
    for line in ["schema job", "completions bash", "man", "policy list"] {
        let mut child =
            world.lockkeeper(line.split(' ')).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(output.stderr.is_empty(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{line}");
    }
}

#[test]
fn what_is_no_terminal_gets_no_colours() {
    let world = World::new();
    for line in ["lock /x", "lock /a/../b", "--help", "unlock /y"] {
        let answer = world.run(line);
        assert!(!answer.stdout.contains('\u{1b}') && !answer.stderr.contains('\u{1b}'), "{line}: {answer:?}");
    }
}

#[test]
fn every_command_has_help_and_scripts_are_made() {
    let world = World::new();
    for command in [
        "lock",
        "unlock",
        "holders",
        "party join",
        "party members",
        "check",
        "plan",
        "run",
        "policy list",
        "policy inspect",
        "schema",
        "completions",
        "man",
    ] {
        let help = world.run(&format!("{command} --help"));
        assert_eq!(help.code, Some(0), "{command}");
        assert!(help.stdout.contains("Usage: lockkeeper"), "{command}: {help:?}");
    }
    assert!(!world.run("--help").stdout.contains("\n  under"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(world.run(&format!("completions {shell}")).stdout.contains("holders"));
    }
    assert!(world.run("man").stdout.contains(".TH lockkeeper"));
    let schema: Value = serde_json::from_str(&world.run("schema job").stdout).unwrap();
    assert!(schema["properties"]["semaphore"].is_object());
}

#[test]
fn quiet_says_nothing_but_data() {
    let world = World::new();
    let answer = world.run("lock /x --quiet");
    assert!(answer.stderr.is_empty(), "{answer:?}");
    assert!(answer.stdout.trim().parse::<u64>().is_ok(), "{answer:?}");
}

#[test]
fn ctrl_c_finishes_what_runs_and_starts_nothing() {
    let world = World::new();
    let started = world.folder().join("started");
    let job = JOB.replace(
        "echo to $LOCKKEEPER_TARGET; test $LOCKKEEPER_TARGET = a",
        &format!(": > {}; sleep 0.5", started.display()),
    );
    let job = world.file("job.toml", &job);
    let rollout: Command = world.lockkeeper(["run", "--format", "json", job.to_str().unwrap()]);
    let mut rollout = rollout;
    let rollout = rollout.stdout(Stdio::piped()).spawn().unwrap();
    lockkeeper_tests::eventually("the first acts", || started.exists());
    let pid = nix::unistd::Pid::from_raw(i32::try_from(rollout.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let output = rollout.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let last = String::from_utf8(output.stdout).unwrap();
    let last: Value = serde_json::from_str(last.lines().last().unwrap()).unwrap();
    assert_eq!(
        (last["end"].as_str(), last["done"].as_u64(), last["pending"].as_u64()),
        (Some("interrupted"), Some(1), Some(1))
    );
    assert!(world.holders("/locks/job").is_empty());
}
