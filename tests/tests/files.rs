//! Files that a job names, and files that a run leaves behind, by the real binary.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use lockkeeper_tests::{Said, World, said};
use nix::sys::stat::Mode;

const JOB: &str = r#"
name = "files"
[semaphore]
path = "/locks/files"
[targets]
hosts = ["a"]
[policy]
use = "rolling"
[action]
run = ["sh", "-c", "echo said"]
"#;

/// The same under this umask.
fn under_umask(umask: &str, command: &Command) -> Command {
    let mut wrapped = Command::new("sh");
    wrapped.args(["-c", "umask $0; exec \"$@\"", umask]).arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(key, value),
            None => wrapped.env_remove(key),
        };
    }
    wrapped.current_dir(command.get_current_dir().unwrap()).stdin(Stdio::null());
    wrapped
}

/// Everything below a folder, itself first.
fn below(path: &Path) -> Vec<PathBuf> {
    let mut all = vec![path.to_owned()];
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            all.extend(below(&entry.unwrap().path()));
        }
    }
    all
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn what_a_run_leaves_behind_is_its_owners_alone() {
    for umask in ["000", "022", "077", "007"] {
        let world = World::new();
        let state = world.folder().join("state");
        // The state folder is open to all, and what an earlier version has made is, too.
        fs::create_dir_all(state.join("runs")).unwrap();
        fs::create_dir_all(state.join("policies")).unwrap();
        for folder in [&state, &state.join("runs"), &state.join("policies")] {
            fs::set_permissions(folder, Permissions::from_mode(0o777)).unwrap();
        }
        world.file("job.toml", JOB);
        let ran = said(&mut under_umask(umask, world.lockkeeper(["run", "job.toml"]).current_dir(world.folder())));
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let made: Vec<PathBuf> = [below(&state.join("runs")), below(&state.join("policies"))].concat();
        let has = |name: &str| made.iter().any(|path| path.to_str().unwrap().contains(name));
        assert!(has("journal.jsonl") && has("output/") && has("policy-") && has("policies/"), "{made:?}");
        for path in made {
            let expected = if path.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(mode(&path), expected, "umask {umask}: {} is {:o}", path.display(), mode(&path));
        }
        assert_eq!(mode(&state), 0o777, "the state folder is the operator's");
    }
    // A state folder that we make ourselves, with those above it.
    let world = World::new();
    world.file("job.toml", JOB);
    let mut command = world.lockkeeper(["run", "job.toml", "--state-dir", "one/two", "--store", "store.db"]);
    let ran = said(&mut under_umask("000", command.current_dir(world.folder())));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for folder in ["one", "one/two", "one/two/runs", "one/two/policies"] {
        assert_eq!(mode(&world.folder().join(folder)), 0o700, "{folder}");
    }
}

/// A command's result within a time in which it does not hang.
fn soon(command: &mut Command) -> Said {
    let begun = Instant::now();
    let mut wrapped = Command::new("timeout");
    wrapped.args(["--kill-after", "1", "60"]).arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(key, value),
            None => wrapped.env_remove(key),
        };
    }
    let answer = said(wrapped.current_dir(command.get_current_dir().unwrap()).stdin(Stdio::null()));
    assert!(begun.elapsed() < Duration::from_secs(50), "it hangs: {answer:?}");
    answer
}

#[test]
fn what_a_job_names_must_be_a_regular_file() {
    let world = World::new();
    nix::unistd::mkfifo(&world.folder().join("pipe"), Mode::S_IRWXU).unwrap();
    fs::create_dir(world.folder().join("folder")).unwrap();
    let with = |from: &str, to: String| JOB.replace(from, &to);
    for (named, what) in [("pipe", "a named pipe"), ("folder", "a folder"), ("/dev/zero", "a device")] {
        let zk = |key: &str| format!("{JOB}[store]\nzk-hosts = \"127.0.0.1:1\"\nconnect-timeout = \"1s\"\n{key}\n");
        let jobs = [
            with("use = \"rolling\"", format!("path = \"{named}\"")),
            with("hosts = [\"a\"]", format!("inventory = \"{named}\"")),
            format!("{JOB}[orchestration]\npath = \"{named}\"\n"),
            zk(&format!("tls-ca = \"{named}\"")),
            zk(&format!("username = \"u\"\npassword-file = \"{named}\"")),
            format!("{JOB}ssh = {{ config = \"{named}\" }}\n"),
            format!("{JOB}ssh = {{ identity-file = \"{named}\" }}\n"),
            format!("{JOB}env = {{ A = {{ from-file = \"{named}\" }} }}\n"),
        ];
        for job in jobs {
            world.file("job.toml", &job);
            for command in ["check", "plan", "run"] {
                let answer = soon(world.lockkeeper([command, "job.toml"]).current_dir(world.folder()));
                let has_said = answer.stderr.contains(&format!("it is {what}, not a regular file"));
                assert!(answer.code == Some(2) && has_said, "{command} with {named}: {answer:?}\n{job}");
            }
        }
        for line in [
            vec!["policy", "inspect", named],
            vec!["policy", "digest", named],
            vec!["policy", "decide", "rolling", "--view", named],
            vec!["policy", "decide", "rolling", "--settings", named],
            vec!["policy", "test", "rolling", named],
            vec!["policy", "bench", "rolling", "--baseline", named],
            vec!["schema", "job", "--policy", named],
        ] {
            let answer = soon(world.lockkeeper(&line).current_dir(world.folder()));
            let is_refused = answer.stderr.contains("not a regular file") || answer.stderr.contains("is no policy");
            assert!(answer.code != Some(0) && is_refused, "{line:?}: {answer:?}");
        }
    }
    let token = soon(world.lockkeeper(["guard", "--fence-file", "pipe", "--outcome", "1"]).current_dir(world.folder()));
    assert!(token.stderr.contains("a device or a pipe"), "{token:?}");
}

#[test]
fn the_job_itself_may_come_through_a_pipe() {
    let world = World::new();
    let mut child = world
        .lockkeeper(["check", "/dev/stdin", "--format", "json"])
        .current_dir(world.folder())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(JOB.as_bytes()).unwrap();
    assert!(child.wait_with_output().unwrap().status.success());
    let pipe = world.folder().join("pipe");
    nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    let writer = thread::spawn({
        let pipe = pipe.clone();
        move || fs::write(pipe, JOB)
    });
    let checked = said(world.lockkeeper(["check", pipe.to_str().unwrap()]).current_dir(world.folder()));
    assert_eq!(checked.code, Some(0), "{checked:?}");
    writer.join().unwrap().unwrap();
}
