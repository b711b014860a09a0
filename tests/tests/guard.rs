//! The far end of a fence: real processes on one fence file, as a host has it that is acted on.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use lockkeeper_tests::zookeeper::{self, available};
use lockkeeper_tests::{Said, World, eventually, said};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, pipe};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

/// A guard of this world's fence file.
fn guard(world: &World, options: &str, command: &[&str]) -> Command {
    let mut line = world.lockkeeper(["guard", "--fence-file", "token"]);
    line.args(options.split_whitespace()).current_dir(world.folder());
    if !command.is_empty() {
        line.arg("--").args(command);
    }
    line
}

/// How an attempt went.
fn outcome(world: &World, options: &str) -> (Option<i32>, Value) {
    let Said { code, stdout, stderr } = said(&mut guard(world, &format!("--outcome {options} --format json"), &[]));
    (code, serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}")))
}

/// What became of it, by the code of the answer.
fn code(world: &World, options: &str) -> i32 {
    outcome(world, options).0.unwrap()
}

fn read(world: &World, name: &str) -> String {
    fs::read_to_string(world.folder().join(name)).unwrap_or_default()
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap())
}

/// Whether a process is there and no zombie.
fn lives(pid: Pid) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z"))
}

/// A command with a child of its own, which records both process IDs and runs for ever.
const FOREVER: [&str; 3] = ["sh", "-c", "sleep 600 & echo $PPID $$ $! > pids; wait; wait"];
const STUBBORN: [&str; 3] = ["sh", "-c", "trap '' TERM; sleep 600 & echo $PPID $$ $! > pids; wait; wait"];

/// The leader of its group, the shell and its child.
fn pids(world: &World) -> [Pid; 3] {
    eventually("the command runs", || read(world, "pids").ends_with('\n'));
    let pids: Vec<_> = read(world, "pids").split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap())).collect();
    pids.try_into().unwrap()
}

/// A guard whose command runs for ever, and the command's processes.
fn running(world: &World, options: &str, command: [&str; 3]) -> (Child, [Pid; 3]) {
    let child = guard(world, options, &command).stderr(Stdio::null()).spawn().unwrap();
    (child, pids(world))
}

/// A whole transcript, as a snapshot has it.
fn transcript(world: &World, lines: &[(&str, &[&str])]) -> String {
    let one = |(options, command): &(&str, &[&str])| {
        let Said { code, stdout, stderr } = said(guard(world, options, command).env("COLUMNS", "100"));
        let command: Vec<_> =
            command.iter().map(|word| if word.contains(' ') { format!("'{word}'") } else { (*word).into() }).collect();
        let dashes = if command.is_empty() { "" } else { " -- " };
        let code = code.map_or("signal".to_owned(), |code| code.to_string());
        format!("$ guard {options}{dashes}{}\n{stdout}--- stderr\n{stderr}--- exit {code}\n", command.join(" "))
    };
    lines.iter().map(one).collect::<Vec<_>>().join("\n")
}

macro_rules! snapshot {
    ($world:expr, $text:expr) => {
        let folder = $world.folder().canonicalize().unwrap().display().to_string();
        insta::with_settings!({
            filters => vec![
                (folder.as_str(), "[FOLDER]"),
                (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ( \([^)]*ago\))?", "[MOMENT]"),
                (r#""\d{4}-\d\d-\d\dT[0-9:.]+Z""#, r#""[MOMENT]""#),
                (r" after \d[\dmsu ]*", " after [SPAN]"),
                (r#""pid":\d+"#, r#""pid":[PID]"#),
                (r"pid \d+", "pid [PID]"),
            ],
            omit_expression => true,
        }, { insta::assert_snapshot!($text) });
    };
}

#[test]
fn only_a_greater_fence_or_attempt_runs() {
    let world = World::new();
    let text = transcript(
        &world,
        &[
            ("--outcome 1", &[]),
            ("--fence 5 --attempt 2", &["sh", "-c", "echo $LOCKKEEPER_FENCE $LOCKKEEPER_ATTEMPT"]),
            ("--fence 5 --attempt 2", &["touch", "harm"]),
            ("--fence 5 --attempt 1", &["touch", "harm"]),
            ("--fence 4 --attempt 9", &["touch", "harm"]),
            ("--fence 4 --attempt 9 --format json", &["touch", "harm"]),
            ("--fence 5 --attempt 2 --format json", &["touch", "harm"]),
            ("--fence 5 --attempt 3 --quiet", &["sh", "-c", "exit 3"]),
            ("--fence 6 --attempt 1", &["sh", "-c", "kill -9 $$"]),
            ("--fence 7 --attempt 1", &["no-such-program"]),
            ("--fence 7 --attempt 2", &["echo hello"]),
        ],
    );
    assert!(!world.folder().join("harm").exists(), "what is stale does nothing");
    snapshot!(world, text);
}

#[test]
fn it_reports_the_outcome_of_an_attempt() {
    let world = World::new();
    for (options, script) in [
        ("--fence 5 --attempt 1", "exit 0"),
        ("--fence 5 --attempt 2", "exit 3"),
        ("--fence 6 --attempt 1", "kill -9 $$"),
        ("--fence 7 --attempt 1", ""),
    ] {
        let command: &[&str] = if script.is_empty() { &["no-such-program"] } else { &["sh", "-c", script] };
        let mut line = guard(&world, options, command);
        let _ = said(line.env("LOCKKEEPER_RUN", "nightly-1").env("LOCKKEEPER_TARGET", "web07"));
    }
    let (mut child, _) = running(&world, "--fence 8 --attempt 1", FOREVER);
    let text = transcript(
        &world,
        &[
            ("--outcome 1 --fence 5", &[]),
            ("--outcome 2 --fence 5", &[]),
            ("--outcome 1 --fence 6", &[]),
            ("--outcome 1 --fence 7", &[]),
            ("--outcome 1", &[]),
            ("--outcome 2", &[]),
            ("--outcome 9 --fence 4", &[]),
            ("--outcome 1 --fence 5 --format json", &[]),
            ("--outcome 1 --fence 6 --format json", &[]),
            ("--outcome 1 --fence 7 --format json", &[]),
            ("--outcome 1 --format json", &[]),
            ("--outcome 2 --format json", &[]),
            ("--fence 8 --attempt 2", &["touch", "harm"]),
            ("--fence 8 --attempt 2 --format json", &["touch", "harm"]),
        ],
    );
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("it died with its guard", || code(&world, "1") != 75);
    let dead = transcript(&world, &[("--outcome 1", &[]), ("--outcome 1 --format json", &[])]);
    snapshot!(world, format!("{text}\n{dead}"));
}

#[test]
fn bad_arguments_are_named() {
    let world = World::new();
    let text = transcript(
        &world,
        &[
            ("--fence 0 --attempt 1", &["true"]),
            ("--fence -1 --attempt 1", &["true"]),
            ("--fence 99999999999999999999 --attempt 1", &["true"]),
            ("--fence 1 --attempt 0", &["true"]),
            ("--fence 1", &["true"]),
            ("--attempt 1", &["true"]),
            ("--fence 1 --attempt 1", &[]),
            ("--outcome 0", &[]),
            ("--outcome 1 --attempt 1", &[]),
            ("--outcome 1", &["true"]),
            ("--outcome 1 --settle", &[]),
            ("--fence 1 --attempt 1 --settle", &["true"]),
            ("--fence 1 --attempt 1 --wait 5", &["true"]),
            ("--fence 1 --attempt 1 --kill-after 5s", &["true"]),
        ],
    );
    assert_eq!(fs::read_dir(world.folder()).unwrap().count(), 0, "nothing was touched");
    snapshot!(world, text);
}

#[test]
fn an_unusable_fence_file_runs_nothing() {
    let world = World::new();
    fs::create_dir(world.folder().join("folder")).unwrap();
    world.file("damaged", "{ \"version\": 1, \"leas");
    world.file("empty", "");
    world.file("newer", "{ \"version\": 7, \"wonders\": [] }");
    world.file("zero", "{ \"version\": 1, \"least\": { \"fence\": 0, \"attempt\": 1 }, \"attempts\": [] }");
    std::os::unix::fs::symlink("nowhere", world.folder().join("loose")).unwrap();
    // Not even root can write here.
    let lines = ["folder", "damaged", "empty", "newer", "zero", "loose", "missing/token", "/dev/null", "/proc/token"];
    let mut text = String::new();
    for name in lines {
        for rest in
            ["--fence 5 --attempt 1 -- touch harm", "--fence 5 --attempt 1 --format json -- touch harm", "--outcome 1"]
        {
            let line = format!("guard --fence-file {name} {rest}");
            let Said { code, stdout, stderr } = said(world.lockkeeper(line.split(' ')).current_dir(world.folder()));
            text += &format!("$ {line}\n{stdout}--- stderr\n{stderr}--- exit {}\n\n", code.unwrap());
        }
    }
    assert!(!world.folder().join("harm").exists(), "{text}");
    snapshot!(world, text);
}

#[test]
fn a_folder_that_cannot_be_written_to_runs_nothing() {
    if Uid::effective().is_root() {
        // Root can write everywhere; a file in the place of what is written is as good.
        let world = World::new();
        fs::create_dir(world.folder().join("token.new")).unwrap();
        let said = said(&mut guard(&world, "--fence 5 --attempt 1", &["touch", "harm"]));
        assert_eq!(said.code, Some(74), "{said:?}");
        assert!(!world.folder().join("harm").exists());
        assert_eq!(code(&world, "1"), 66);
        return;
    }
    let world = World::new();
    let mode = |mode| fs::set_permissions(world.folder(), fs::Permissions::from_mode(mode)).unwrap();
    assert!(guard(&world, "--fence 5 --attempt 1", &["true"]).status().unwrap().success());
    mode(0o555);
    let said = said(&mut guard(&world, "--fence 6 --attempt 1", &["sh", "-c", "echo harm"]));
    let answer = code(&world, "1");
    mode(0o755);
    assert_eq!((said.code, said.stdout.as_str()), (Some(74), ""), "{said:?}");
    assert_eq!(answer, 0, "it can still be asked about fence 5");
}

#[test]
fn the_command_is_as_if_it_ran_alone() {
    let world = World::new();
    let mut child = guard(&world, "--fence 1 --attempt 1", &["sh", "-c", "cat; echo beside >&2; exit 42"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"through").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(42));
    assert_eq!(output.stdout, b"through");
    assert!(String::from_utf8_lossy(&output.stderr).ends_with("beside\n"), "{output:?}");
    // It holds none of this process's files.
    let listed = said(&mut guard(&world, "--fence 2 --attempt 1", &["sh", "-c", "ls -l /proc/self/fd"]));
    assert!(!listed.stdout.contains("token"), "{listed:?}");
}

#[test]
fn what_a_command_leaves_behind_is_let_be() {
    let world = World::new();
    let script = "sleep 600 > /dev/null 2>&1 & echo $! > server";
    assert!(guard(&world, "--fence 1 --attempt 1", &["sh", "-c", script]).status().unwrap().success());
    let server = Pid::from_raw(read(&world, "server").trim().parse().unwrap());
    assert!(lives(server));
    assert_eq!(code(&world, "1"), 0);
    assert!(guard(&world, "--fence 2 --attempt 1", &["true"]).status().unwrap().success(), "it keeps nobody out");
    assert!(lives(server));
    kill(server, Signal::SIGKILL).unwrap();
}

#[test]
fn signals_are_passed_on_and_how_it_ended_is_recorded() {
    let world = World::new();
    for (fence, signal, code) in [(1, Signal::SIGTERM, 143), (2, Signal::SIGINT, 130), (3, Signal::SIGHUP, 129)] {
        let _ = fs::remove_file(world.folder().join("pids"));
        let (mut child, family) = running(&world, &format!("--fence {fence} --attempt 1"), ALONE_FOREVER);
        kill(pid(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{signal}");
        eventually("all of it is gone", || family.into_iter().all(|pid| !lives(pid)));
        let (answer, record) = outcome(&world, "1");
        assert_eq!((answer, &record["signal"]), (Some(1), &Value::from(signal.as_str())));
    }
}

/// One process alone, as what a shell starts in the background ignores SIGINT.
const ALONE_FOREVER: [&str; 3] = ["sh", "-c", "echo $PPID $$ $$ > pids; exec sleep 600"];

#[test]
fn a_killed_guard_kills_its_command_and_the_outcome_is_unknown() {
    let world = World::new();
    let (mut child, family) = running(&world, "--fence 5 --attempt 1", STUBBORN);
    assert_eq!(code(&world, "1"), 75);
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("all of it is gone", || family.into_iter().all(|pid| !lives(pid)));
    assert_eq!(code(&world, "1"), 76);
    let again = said(&mut guard(&world, "--fence 5 --attempt 1", &["touch", "harm"]));
    assert_eq!(again.code, Some(77), "{again:?}");
    assert!(guard(&world, "--fence 5 --attempt 2", &["true"]).status().unwrap().success());
    assert_eq!(code(&world, "1"), 76, "it stays unknown");
    assert_eq!(code(&world, "2"), 0);
}

#[test]
fn a_child_of_a_command_whose_guards_are_all_killed_keeps_others_out_and_can_be_stopped() {
    let world = World::new();
    let (mut child, [leader, shell, below]) = running(&world, "--fence 5 --attempt 1", STUBBORN);
    // Stopped, neither can do anything about the other's end.
    kill(leader, Signal::SIGSTOP).unwrap();
    kill(pid(&child), Signal::SIGSTOP).unwrap();
    kill(leader, Signal::SIGKILL).unwrap();
    kill(pid(&child), Signal::SIGKILL).unwrap();
    child.wait().unwrap();
    eventually("the leader is gone", || !lives(leader));
    eventually("the kernel has killed the command", || !lives(shell));
    assert!(lives(below), "no process was left to end it");
    assert_eq!(code(&world, "1"), 75);
    let busy = said(&mut guard(&world, "--fence 6 --attempt 1", &["touch", "harm"]));
    assert_eq!(busy.code, Some(75), "{busy:?}");
    assert!(busy.stderr.contains(&format!("process group {leader}; its guard was killed")), "{busy:?}");
    assert!(!world.folder().join("harm").exists());
    let stopped = said(&mut guard(&world, "--fence 6 --attempt 1 --stop --kill-after 100ms", &["true"]));
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
    assert!(!lives(shell) && !lives(below));
}

#[test]
fn a_guard_that_is_killed_between_acceptance_and_start_has_run_nothing() {
    let world = World::new();
    // It reports an accepted attempt before the command starts: without a reader, it waits there.
    let (from, to) = pipe().unwrap();
    fcntl(&to, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    let mut filled = 0;
    while let Ok(written) = nix::unistd::write(&to, &[b' '; 4096]) {
        filled += written;
    }
    while nix::unistd::write(&to, b" ").is_ok() {
        filled += 1;
    }
    fcntl(&to, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    let mut child = guard(&world, "--fence 5 --attempt 1", &["touch", "harm"]).stderr(to).spawn().unwrap();
    eventually("it is accepted", || read(&world, "token").contains("\"program\": \"touch\""));
    assert_eq!(code(&world, "1"), 75, "whoever asks does not know how far it is");
    let busy = said(&mut guard(&world, "--fence 6 --attempt 1", &["touch", "harm"]));
    assert_eq!(busy.code, Some(75), "{busy:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(code(&world, "1 --fence 5"), 76);
    assert!(!world.folder().join("harm").exists(), "it had not started");
    let again = said(&mut guard(&world, "--fence 5 --attempt 1", &["touch", "harm"]));
    assert_eq!(again.code, Some(77), "{again:?}");
    assert!(guard(&world, "--fence 6 --attempt 1", &["true"]).status().unwrap().success());
    let mut said = Vec::new();
    fs::File::from(from).read_to_end(&mut said).unwrap();
    assert!(said.len() >= filled);
}

#[test]
fn guards_killed_at_any_moment_leave_true_answers() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let world = World::new();
    let mut seen = std::collections::BTreeMap::<i32, u32>::new();
    for fence in 1..=60 {
        let script = format!("echo begun >> {fence}; sleep 0.00{}; echo ended >> {fence}", random.random_range(0..10));
        let mut child = guard(&world, &format!("--fence {fence} --attempt 1"), &["sh", "-c", &script])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        sleep(Duration::from_micros(random.random_range(0..60_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        let asked = format!("1 --fence {fence}");
        eventually("what is left of it ends", || code(&world, &asked) != 75);
        let (answer, done) = (code(&world, &asked), read(&world, &fence.to_string()));
        match answer {
            0 => assert_eq!(done, "begun\nended\n"),
            66 => assert_eq!(done, ""),
            76 => {}
            other => panic!("fence {fence}: {other}: {done}"),
        }
        *seen.entry(answer).or_default() += 1;
        assert_eq!(read(&world, &fence.to_string()), done, "fence {fence}: nothing of it goes on");
    }
    println!("answers: {seen:?}");
    assert!(guard(&world, "--fence 100 --attempt 1", &["true"]).status().unwrap().success());
}

#[test]
fn an_earlier_command_is_waited_for_or_stopped() {
    let world = World::new();
    let (mut child, _) = running(&world, "--fence 5 --attempt 1", STUBBORN);
    let later = said(&mut guard(&world, "--fence 6 --attempt 1 --wait 200ms", &["touch", "harm"]));
    assert_eq!(later.code, Some(75), "{later:?}");
    assert!(later.stderr.contains(&format!("fence 5, attempt 1 (pid {}", child.id())), "{later:?}");
    assert!(!world.folder().join("harm").exists());
    // The waiting attempt is not superseded; the earlier one is.
    let before = said(&mut guard(&world, "--fence 5 --attempt 2 --wait 1m", &["touch", "harm"]));
    assert_eq!(before.code, Some(77), "{before:?}");
    // A signal ends the wait.
    let mut waiting = guard(&world, "--fence 6 --attempt 1 --wait 10m", &["touch", "harm"]);
    let mut waiting = waiting.stderr(Stdio::piped()).spawn().unwrap();
    let mut begun = [0; 11];
    waiting.stderr.as_mut().unwrap().read_exact(&mut begun).unwrap();
    kill(pid(&waiting), Signal::SIGTERM).unwrap();
    assert_eq!(waiting.wait().unwrap().code(), Some(143));
    // It does not listen to SIGTERM.
    let began = Instant::now();
    let stopping = said(&mut guard(&world, "--fence 6 --attempt 1 --stop --kill-after 300ms", &["echo", "in"]));
    assert_eq!((stopping.code, stopping.stdout.as_str()), (Some(0), "in\n"), "{stopping:?}");
    println!("stopped and started in {:?}", began.elapsed());
    assert!(began.elapsed() >= Duration::from_millis(300));
    child.wait().unwrap();
    let (answer, record) = outcome(&world, "1 --fence 5");
    assert_eq!(answer, Some(1));
    assert_eq!((&record["signal"], &record["stopped-for"]["fence"]), (&"SIGKILL".into(), &6.into()), "{record}");
    assert!(!world.folder().join("harm").exists());
}

#[test]
fn a_waiting_guard_continues_when_the_earlier_one_ends() {
    let world = World::new();
    let (mut child, _) = running(&world, "--fence 5 --attempt 1", FOREVER);
    let mut later = guard(&world, "--fence 6 --attempt 1 --wait 10m", &["true"]);
    let mut later = later.stderr(Stdio::null()).spawn().unwrap();
    eventually("it was seen", || read(&world, "token").contains("\"fence\": 6"));
    kill(pid(&child), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(later.wait().unwrap().success());
}

#[test]
fn what_is_settled_as_not_started_never_starts() {
    let world = World::new();
    let asked = outcome(&world, "1 --fence 5");
    assert_eq!((asked.0, &asked.1["may-start"]), (Some(66), &true.into()));
    assert_eq!(fs::read_dir(world.folder()).unwrap().count(), 0, "a question leaves no trace");
    let settled = outcome(&world, "1 --fence 5 --settle");
    assert_eq!((settled.0, &settled.1["may-start"]), (Some(66), &false.into()));
    let late = said(&mut guard(&world, "--fence 5 --attempt 1", &["touch", "harm"]));
    assert_eq!(late.code, Some(77), "{late:?}");
    assert!(guard(&world, "--fence 5 --attempt 2", &["true"]).status().unwrap().success());
    assert_eq!(code(&world, "2 --fence 5 --settle"), 0, "what has started is settled anyway");
}

#[test]
fn what_is_too_long_ago_is_unknown() {
    let world = World::new();
    for fence in 1..=22 {
        assert!(guard(&world, &format!("--fence {fence} --attempt 1 -q"), &["true"]).status().unwrap().success());
    }
    assert_eq!(code(&world, "1 --fence 2"), 76);
    assert_eq!(code(&world, "1 --fence 3"), 0);
    assert!(read(&world, "token").len() < 16 * 1024);
}

#[test]
fn another_name_of_the_token_file_is_no_way_around_it() {
    let world = World::new();
    assert!(guard(&world, "--fence 5 --attempt 1", &["true"]).status().unwrap().success());
    std::os::unix::fs::symlink("token", world.folder().join("alias")).unwrap();
    let line = "guard --fence-file alias --fence 5 --attempt 1 -- touch harm";
    let said = said(world.lockkeeper(line.split(' ')).current_dir(world.folder()));
    assert_eq!(said.code, Some(77), "{said:?}");
}

#[test]
fn a_job_runs_through_the_guards_of_its_targets() {
    let world = World::new();
    let job = r#"
        name = "restart"
        [semaphore]
        path = "/locks/restart"
        max-concurrency = 2
        [targets]
        hosts = ["web1", "web2", "web3"]
        [policy]
        use = "rolling"
        [action]
        run = ["lockkeeper", "guard", "--fence-file", "{job-dir}/{target}", "--fence", "{fence}", "--attempt", "{attempt}",
               "--", "sh", "-c", "echo $LOCKKEEPER_TARGET $LOCKKEEPER_ATTEMPT >> $0", "{job-dir}/done"]
        probe = ["lockkeeper", "guard", "--fence-file", "{job-dir}/{target}", "--outcome", "{attempt}", "--fence", "{fence}"]
    "#;
    world.file("job.toml", job);
    let run = |world: &World| said(world.lockkeeper(["run", "--again", "job.toml"]).current_dir(world.folder()));
    for round in 1..=2 {
        let ran = run(&world);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_eq!(read(&world, "done").lines().count(), round * 3, "each lease has a greater fence");
    }
    let accepted: Value = serde_json::from_str(&read(&world, "web2")).unwrap();
    assert_eq!(accepted["attempts"].as_array().unwrap().len(), 2);
    assert_eq!(accepted["attempts"][1]["target"], "web2");
    assert!(accepted["attempts"][1]["run"].as_str().unwrap().starts_with("restart"), "{accepted}");
}

#[test]
fn a_fence_of_another_store_is_refused_until_a_reset() {
    let world = World::new();
    let text = transcript(
        &world,
        &[
            ("--fence 5 --attempt 1", &["true"]),
            ("--store-id one --fence 6 --attempt 1", &["sh", "-c", "echo $LOCKKEEPER_STORE_ID"]),
            ("--fence 7 --attempt 1", &["echo", "never"]),
            ("--store-id two --fence 7 --attempt 1", &["echo", "never"]),
            ("--store-id two --fence 7 --attempt 1 --format json", &["echo", "never"]),
            ("--outcome 1", &[]),
            ("--outcome 1 --fence 6 --store-id two --format json", &[]),
            ("--outcome 1 --fence 9 --settle", &[]),
            ("--outcome 1 --fence 6 --store-id one --format json", &[]),
            ("--reset --store-id two", &[]),
            ("--reset --reason rebuilt", &[]),
            ("--reset --store-id two --reason rebuilt", &[]),
            ("--store-id one --fence 8 --attempt 1", &["echo", "never"]),
            ("--store-id two --fence 1 --attempt 1", &["echo", "once"]),
            ("--store-id two --fence 1 --attempt 1", &["echo", "never"]),
        ],
    );
    snapshot!(world, text);
    let accepted: Value = serde_json::from_str(&read(&world, "token")).unwrap();
    let reset = &accepted["resets"][0];
    assert_eq!((&accepted["store"], &reset["from"], &reset["to"]), (&"two".into(), &"one".into(), &"two".into()));
    assert_eq!((&reset["reason"], &reset["least"]["fence"]), (&"rebuilt".into(), &6.into()), "{reset}");
    assert!(reset["by"].as_str().unwrap().contains('@') && reset["at"].is_string(), "{reset}");
}

#[test]
fn nothing_is_reset_while_a_command_runs() {
    let world = World::new();
    let (mut child, [leader, ..]) = running(&world, "--store-id one --fence 5 --attempt 1", FOREVER);
    let refused = said(&mut guard(&world, "--reset --store-id two --reason rebuilt", &[]));
    assert_eq!(refused.code, Some(75), "{refused:?}");
    assert!(refused.stderr.contains("nothing was reset"), "{refused:?}");
    kill(leader, Signal::SIGKILL).unwrap();
    child.wait().unwrap();
}

/// `lock` hands the id to the guard by the environment, and a run by `{store-id}`.
#[test]
fn a_rebuilt_store_differs_from_the_previous_one() {
    let world = World::new();
    let job = r#"
        name = "restart"
        [semaphore]
        path = "/locks/restart"
        max-concurrency = 1
        [targets]
        hosts = ["web1"]
        [policy]
        use = "rolling"
        [action]
        run = ["env", "-u", "LOCKKEEPER_STORE_ID", "lockkeeper", "guard", "--fence-file", "{job-dir}/token", "--fence",
               "{fence}", "--store-id", "{store-id}", "--attempt", "{attempt}", "--", "sh", "-c", "echo acted >> $0", "{job-dir}/done"]
    "#;
    world.file("job.toml", job);
    let options = ["--fence-file", "token", "--attempt", "1", "--fence"];
    let locked = |path: &str| {
        let script = format!("lockkeeper guard {} $LOCKKEEPER_FENCE -- true", options.join(" "));
        let mut line = world.lockkeeper(["lock", path, "--quiet", "--", "sh", "-c", &script]);
        said(line.current_dir(world.folder()))
    };
    let run = || said(world.lockkeeper(["run", "--again", "job.toml"]).current_dir(world.folder()));
    assert_eq!(run().code, Some(0));
    assert_eq!(locked("/x").code, Some(0), "the same store");
    let first = world.json("holders /x")["store-id"].as_str().unwrap().to_owned();
    fs::remove_dir_all(world.folder().join("state")).unwrap();
    // Its changes are many more than the first store's, so that its fences are no smaller.
    for _ in 0..10 {
        assert_eq!(world.run("lock /y -- true").code, Some(0));
    }
    let second = world.json("holders /x")["store-id"].as_str().unwrap().to_owned();
    assert_ne!(first, second);
    let refused = locked("/x");
    assert_eq!(refused.code, Some(77), "{refused:?}");
    assert!(
        refused.stderr.contains(&format!("from store `{second}`")) && refused.stderr.contains(&first),
        "{refused:?}"
    );
    assert!(refused.stderr.contains(&format!("--reset --store-id {second} --reason TEXT")), "{refused:?}");
    assert_eq!(run().code, Some(1));
    assert_eq!(read(&world, "done").lines().count(), 1);
    let reset = said(&mut guard(&world, &format!("--reset --store-id {second} --reason rebuilt"), &[]));
    assert_eq!(reset.code, Some(0), "{reset:?}");
    assert_eq!(run().code, Some(0));
    assert_eq!(read(&world, "done").lines().count(), 2);
    assert_eq!(locked("/x").code, Some(0));
}

#[test]
fn callers_of_one_chroot_agree_on_the_id_of_their_store() {
    if !available() {
        return;
    }
    let world = World::new();
    let hosts = |chroot: &str| format!("{}/{chroot}", zookeeper::shared().address());
    let holders: Vec<_> = (0..6)
        .map(|n| {
            let (path, hosts) = (format!("/x{n}"), hosts("store-id-a"));
            let mut line = world.lockkeeper(["lock", &path, "--zk-hosts", &hosts, "--quiet", "--"]);
            line.args(["sh", "-c", "echo $LOCKKEEPER_STORE_ID"]).stdout(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let mut ids: Vec<_> = holders.into_iter().map(|child| child.wait_with_output().unwrap().stdout).collect();
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let id = String::from_utf8(ids.remove(0)).unwrap();
    assert_eq!(id.trim().len(), 32, "{id}");
    let shown = world.json(&format!("holders /x0 --zk-hosts {}", hosts("store-id-a")));
    assert_eq!(shown["store-id"], id.trim());
    let kept = world.json(&format!("lock /y --identifier y --zk-hosts {}", hosts("store-id-b")));
    assert!(kept["store-id"].is_string() && kept["store-id"] != id.trim(), "{kept}");
}

/// Each holder creates a folder that must not exist, and records its fence before and after.
const ALONE: &str = r#"mkdir inside || echo overlap >> wrong
    echo $LOCKKEEPER_FENCE $LOCKKEEPER_ATTEMPT >> done; sleep 0.02; rmdir inside || echo overlap >> wrong"#;

/// In which order guards are started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Random,
    AlmostGrowing,
}

#[test]
fn twenty_guards_at_once_run_one_after_another_in_growing_order() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let rounds = [
        ("--wait 1m", Order::Random),
        ("", Order::Random),
        ("--wait 50ms", Order::Random),
        ("--stop --kill-after 20ms", Order::Random),
        ("--wait 1m", Order::AlmostGrowing),
    ];
    for (round, (options, order)) in rounds.into_iter().enumerate() {
        let world = World::new();
        let mut attempt_ids: Vec<(u64, u64)> = (0..20).map(|number| (10 + number / 2, 1 + number % 2)).collect();
        match order {
            Order::Random => attempt_ids.shuffle(&mut random),
            Order::AlmostGrowing => attempt_ids.chunks_mut(2).for_each(|two| two.shuffle(&mut random)),
        }
        // What is stopped leaves its folder behind.
        let alone = if options.contains("stop") {
            "exec 9< .; flock -n 9 || echo overlap >> wrong; \
            echo $LOCKKEEPER_FENCE $LOCKKEEPER_ATTEMPT >> done; sleep 0.02 9<&-"
        } else {
            ALONE
        };
        let started: Vec<(Child, (u64, u64), PathBuf)> = attempt_ids
            .into_iter()
            .map(|(fence, attempt)| {
                if order == Order::AlmostGrowing {
                    sleep(Duration::from_millis(random.random_range(0..60)));
                }
                let said = world.folder().join(format!("said-{fence}-{attempt}"));
                let options = format!("--fence {fence} --attempt {attempt} {options}");
                let mut line = guard(&world, &options, &["sh", "-c", alone]);
                let child = line.stderr(fs::File::create(&said).unwrap()).process_group(0).spawn().unwrap();
                (child, (fence, attempt), said)
            })
            .collect();
        let mut ran = Vec::new();
        for (mut child, attempt_id, said) in started {
            let status = child.wait().unwrap();
            let said = fs::read_to_string(said).unwrap();
            if said.contains("Accepted") {
                ran.push(attempt_id);
            } else {
                assert!(matches!(status.code(), Some(75 | 77)), "{attempt_id:?}: {status}: {said}");
            }
        }
        let done: Vec<(u64, u64)> = read(&world, "done")
            .lines()
            .map(|line| line.split_once(' ').map(|(one, two)| (one.parse().unwrap(), two.parse().unwrap())).unwrap())
            .collect();
        println!("round {round} `{options}`: {} ran: {done:?}", ran.len());
        assert_eq!(read(&world, "wrong"), "", "two ran at once");
        assert!(done.is_sorted_by(|one, next| one < next), "{done:?}");
        assert!(done.iter().all(|attempt_id| ran.contains(attempt_id)), "{done:?} of {ran:?}");
        match (options, order) {
            ("" | "--wait 50ms", _) => assert!(!ran.is_empty()),
            _ => assert!(ran.contains(&(19, 2)), "who waits long enough and is the last is run: {ran:?}"),
        }
    }
}
