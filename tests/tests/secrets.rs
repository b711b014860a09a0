//! Values that a job names and does not hold: they reach the command and nothing else.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lockkeeper_tests::sshd::{Sshd, available};
use lockkeeper_tests::{Said, World, eventually, said};
use serde_json::Value;

const OF_FILE: &str = "s3cret of'a\"file $HOME\\n";
const OF_VARIABLE: &str = "s3cret-of-a-variable";

fn job(env: &str, run: &str) -> String {
    format!(
        "name = \"quiet\"\n[semaphore]\npath = \"/locks/quiet\"\n[targets]\nhosts = [\"a\"]\n[policy]\nuse = \"rolling\"\n[action]\nenv = {env}\nrun = [\"sh\", \"-c\", {}]\n",
        Value::from(run)
    )
}

const BOTH: &str =
    "{ FROM_FILE = { from-file = \"values/token\" }, FROM_ENV = { from_env = \"THEIRS\" }, PLAIN = \"{target}\" }";

fn world() -> World {
    let world = World::new();
    fs::create_dir(world.folder().join("values")).unwrap();
    world.file("values/token", &format!("{OF_FILE}\n"));
    world
}

fn command(world: &World, line: &str) -> Command {
    let mut command = world.lockkeeper(line.split(' '));
    command.current_dir("/").env("THEIRS", OF_VARIABLE);
    command
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn has_secret(bytes: &[u8]) -> bool {
    [OF_FILE, OF_VARIABLE, "s3cret"]
        .iter()
        .any(|secret| bytes.windows(secret.len()).any(|part| part == secret.as_bytes()))
}

fn told_nothing(answer: &Said) {
    assert!(!has_secret(answer.stdout.as_bytes()) && !has_secret(answer.stderr.as_bytes()), "{answer:?}");
}

#[test]
fn a_value_reaches_the_command_and_nothing_else() {
    let world = world();
    let seen = world.folder().join("seen");
    let job = job(BOTH, &format!("printf '%s|%s|%s' \"$FROM_FILE\" \"$FROM_ENV\" \"$PLAIN\" > {}", seen.display()));
    let path = world.file("job.toml", &job).display().to_string();
    for line in ["check", "plan", "run", "run --again"] {
        for format in ["human", "json"] {
            let answer = said(&mut command(&world, &format!("{line} {path} --format {format}")));
            assert_eq!(answer.code, Some(0), "{line}: {answer:?}");
            told_nothing(&answer);
        }
    }
    assert_eq!(fs::read_to_string(seen).unwrap(), format!("{OF_FILE}|{OF_VARIABLE}|a"));
    for line in ["status quiet --all --format json", "explain quiet --format json", "replay quiet --format json"] {
        told_nothing(&said(&mut command(&world, line)));
    }
    let kept = files(&world.folder().join("state"));
    assert!(kept.iter().any(|file| file.ends_with("store.db")), "{kept:?}");
    for file in kept {
        assert!(!has_secret(&fs::read(&file).unwrap()), "{}", file.display());
    }
}

#[test]
fn a_command_that_prints_a_value_does_not_bring_it_into_the_journal() {
    let world = world();
    let path =
        world.file("job.toml", &job(BOTH, "printf 'got %s\\n' \"$FROM_FILE\"; echo \"and $FROM_ENV\" >&2; exit 1"));
    let ran = said(&mut command(&world, &format!("run {}", path.display())));
    assert!(ran.code == Some(1) && ran.stderr.contains("got ***") && ran.stderr.contains("and ***"), "{ran:?}");
    told_nothing(&ran);
    let (logs, others): (Vec<_>, Vec<_>) =
        files(&world.folder().join("state")).into_iter().partition(|file| file.to_str().unwrap().contains("/output/"));
    assert!(logs.iter().any(|log| has_secret(&fs::read(log).unwrap())), "a log keeps every byte");
    for file in others {
        assert!(!has_secret(&fs::read(&file).unwrap()), "{}", file.display());
    }
}

#[test]
fn a_value_that_is_missing_keeps_anything_from_starting() {
    let world = world();
    let acted = world.folder().join("acted");
    let run = format!("touch {}", acted.display());
    world.file("values/empty", "\n");
    fs::write(world.folder().join("values/bytes"), b"\xff\xfe").unwrap();
    for (env, told) in [
        ("{ A = { from-file = \"values/none\" } }", "values/none`: No such file"),
        ("{ A = { from-file = \"values\" } }", "values`: it is a folder, not a regular file"),
        ("{ A = { from-file = \"values/empty\" } }", "values/empty`: is empty"),
        ("{ A = { from-file = \"values/bytes\" } }", "values/bytes`: is not UTF-8"),
        ("{ A = { from-env = \"NOT_THERE\" } }", "the environment variable `NOT_THERE` of the runner is not set"),
        ("{ A = { from-env = \"EMPTY\" } }", "the environment variable `EMPTY` of the runner is empty"),
        ("{ A = {} }", "the source of the value is missing"),
        ("{ A = { from-env = \"B\", from-file = \"c\" } }", "given twice"),
        ("{ A = { from-fil = \"c\" } }", "did you mean `from-file`?"),
    ] {
        let path = world.file("job.toml", &job(env, &run));
        let ran = said(command(&world, &format!("run {} --format json", path.display())).env("EMPTY", ""));
        assert_eq!(ran.code, Some(2), "{env}: {ran:?}");
        let error: Value = serde_json::from_str(&ran.stderr).unwrap();
        let problem = &error["problems"][0];
        let text = format!("{} {}", problem["message"], problem["hint"]);
        assert!(text.contains(told), "{env}: {text}");
        assert!(problem["file"] == path.to_str().unwrap() && problem["line"] == 9, "{problem}");
        assert!(problem["key"].as_str().unwrap().starts_with("action.env.A"), "{problem}");
        assert!(!acted.exists());
        assert!(files(&world.folder().join("state/runs")).is_empty(), "{env}: a run was recorded");
    }
    // `check` may run without the runner's environment.
    let path = world.file("job.toml", &job("{ A = { from-env = \"NOT_THERE\" } }", &run));
    let checked = said(&mut command(&world, &format!("check {}", path.display())));
    assert!(checked.code == Some(0) && checked.stderr.contains("`NOT_THERE` of the runner is not set"), "{checked:?}");
}

#[test]
fn over_ssh_a_value_is_on_no_command_line() {
    if !available() {
        return;
    }
    let sshd = Sshd::start("");
    let config = sshd.client_config();
    let world = world();
    let (seen, go) = (world.folder().join("seen"), world.folder().join("go"));
    let run = format!(
        "printf '%s|%s|%s' \"$FROM_FILE\" \"$FROM_ENV\" \"$PLAIN\" > {0}.new; mv {0}.new {0}; until test -e {1}; do sleep 0.05; done",
        seen.display(),
        go.display()
    );
    let text = format!("{}[action.ssh]\nconfig = \"{}\"\n", job(BOTH, &run), config.display());
    let path = world.file("job.toml", &text);
    let mut command = command(&world, &format!("run {}", path.display()));
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("the command has begun", || seen.exists());
    let lines = fs::read_dir("/proc").unwrap().flatten();
    let lines: Vec<Vec<u8>> = lines.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok()).collect();
    let shell = |line: &&Vec<u8>| line.windows(8).any(|part| part == b"lk_break");
    assert!(lines.iter().filter(shell).count() > 0, "the shell at the target is seen");
    for line in &lines {
        assert!(!has_secret(line), "{:?}", String::from_utf8_lossy(line));
    }
    fs::write(go, "").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read_to_string(seen).unwrap(), format!("{OF_FILE}|{OF_VARIABLE}|a"));
    for file in files(&world.folder().join("state")) {
        assert!(!has_secret(&fs::read(&file).unwrap()), "{}", file.display());
    }
}

#[test]
fn check_warns_of_what_looks_like_a_secret_and_does_not_repeat_it() {
    let world = World::new();
    let text = job(
        "{ DB_PASSWORD = \"hunter2!\", X = \"AKIAIOSFODNN7EXAMPLE\", TOKEN_FILE = \"token.txt\", APP = \"{target}\" }",
        "curl -H 'x: ghp_0123456789abcdefghijklmnopqrstuvwxyz' host",
    );
    let path = world.file("job.toml", &text);
    let name = path.display().to_string();
    let checked = said(&mut command(&world, &format!("check {name}")));
    assert_eq!(checked.code, Some(0), "{checked:?}");
    let warnings: Vec<&str> = checked.stderr.lines().filter(|line| line.contains("Warning")).collect();
    assert_eq!(warnings.len(), 3, "{checked:?}");
    for key in ["action.env.DB_PASSWORD", "action.env.X", "action.run[2]"] {
        let is_told =
            |line: &&&str| line.contains(&format!("{name}:")) && line.contains(key) && line.contains("from-file");
        assert!(warnings.iter().any(|line| is_told(&line)), "{key}: {warnings:?}");
    }
    for secret in ["hunter2", "AKIA", "ghp_"] {
        assert!(!checked.stderr.contains(secret), "{checked:?}");
    }
    let json = said(&mut command(&world, &format!("check {name} --format json")));
    let told: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(told["warnings"].as_array().unwrap().len(), 3, "{told}");
    assert_eq!(told["warnings"][0]["line"], 9);
}
