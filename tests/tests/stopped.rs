//! Processes on one embedded store that are stopped: inside a transaction, which others then say, or by Ctrl-Z, which waits.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use lockkeeper_tests::{World, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap())
}

fn lives(pid: Pid) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z"))
}

fn is_stopped(pid: Pid) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") T"))
}

fn children(parent: Pid) -> Vec<Pid> {
    let listed = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
    listed.split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap())).collect()
}

/// A process that is stopped inside a transaction.
fn locker(world: &World) -> Child {
    let file = world.folder().join("state/store.db");
    let mut locker = world.command("file-locker");
    let mut locker = locker.arg(file).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(locker.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "locked\n");
    kill(pid(&locker), Signal::SIGSTOP).unwrap();
    eventually("it is stopped", || is_stopped(pid(&locker)));
    locker
}

#[test]
fn waiting_for_a_stopped_process_names_it_and_how_to_continue_it() {
    let world = World::new();
    assert_eq!(world.run("lock /x -- true").code, Some(0));
    let mut locker = locker(&world);
    let named = format!("the stopped process {} (`", pid(&locker));
    let next_step = format!("`kill -CONT {}` continues it", pid(&locker));
    // In the error, when it has been waited for long enough.
    let refused = world.run("lock /x --timeout 30s --format json -- true");
    assert_eq!(refused.code, Some(69), "{refused:?}");
    let error: serde_json::Value = serde_json::from_str(refused.stderr.lines().last().unwrap()).unwrap();
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(&named) && message.contains("file-locker"), "{error}");
    assert!(message.contains("/store.db` locked for 10s") && message.contains(&next_step), "{error}");
    // While it waits; then it continues.
    let started = Instant::now();
    let mut waiting = world.lockkeeper(["lock", "/x", "--", "true"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(waiting.stderr.take().unwrap()).lines().map(Result::unwrap);
    let line = lines.find(|line| line.contains("locked for 2s")).expect("it is said");
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    assert!(line.contains(&named) && line.contains(&next_step), "{line}");
    drop(locker.stdin.take());
    kill(pid(&locker), Signal::SIGCONT).unwrap();
    let rest: Vec<String> = lines.collect();
    assert_eq!(waiting.wait().unwrap().code(), Some(0), "{rest:?}");
    assert!(locker.wait().unwrap().success());
}

/// With a time limit shorter than the store's own, and without the warnings.
#[test]
fn a_caller_whose_time_is_over_names_the_file_and_the_stopped_process() {
    let world = World::new();
    assert_eq!(world.run("lock /x -- true").code, Some(0));
    let mut locker = locker(&world);
    let named = format!("the stopped process {} (`", pid(&locker));
    let next_step = format!("`kill -CONT {}` continues it", pid(&locker));
    for timeout in ["1s", "4s"] {
        let people = world.run(&format!("-q lock /x --timeout {timeout} -- true"));
        let tools = world.run(&format!("-q lock /x --timeout {timeout} --format json -- true"));
        assert_eq!((people.code, tools.code), (Some(69), Some(69)), "{people:?} {tools:?}");
        let error: serde_json::Value = serde_json::from_str(tools.stderr.trim()).unwrap();
        assert_eq!(error["error"], "unavailable", "{error}");
        for message in [&*people.stderr, error["message"].as_str().unwrap()] {
            assert!(message.contains(&named) && message.contains("file-locker"), "{message}");
            assert!(message.contains(&format!("/store.db` locked for {timeout}")), "{message}");
            assert!(message.contains(&next_step) && !message.contains("server"), "{message}");
        }
    }
    drop(locker.stdin.take());
    kill(pid(&locker), Signal::SIGCONT).unwrap();
    assert!(locker.wait().unwrap().success());
    assert_eq!(world.run("lock /x --timeout 4s -- true").code, Some(0));
}

#[test]
fn a_stopped_process_that_is_killed_keeps_nothing() {
    let world = World::new();
    assert_eq!(world.run("lock /x -- true").code, Some(0));
    let mut locker = locker(&world);
    let waiting = world.lockkeeper(["lock", "/x", "--", "true"]).stderr(Stdio::null()).spawn();
    thread::sleep(Duration::from_millis(200));
    kill(pid(&locker), Signal::SIGKILL).unwrap();
    assert_eq!(waiting.unwrap().wait().unwrap().code(), Some(0));
    locker.wait().unwrap();
}

/// A run writes all the time; wherever SIGTSTP finds it, it stops with the file free, and its command with it.
#[test]
fn sigtstp_stops_a_run_and_its_commands_between_transactions() {
    let world = World::new();
    let hosts: Vec<String> = (0..5000).map(|n| format!("\"t{n}\"")).collect();
    let job = format!(
        "name = \"stopped\"\n[semaphore]\npath = \"/locks/stopped\"\nmax-concurrency = 4\n[targets]\nhosts = [{}]\n\
         [policy]\nuse = \"rolling\"\n[action]\nrun = [\"sleep\", \"0.02\"]\n",
        hosts.join(", ")
    );
    world.file("job.toml", &job);
    let mut run = world.lockkeeper(["run", "job.toml"]);
    // The system does not stop a group by SIGTSTP that has no parent outside it, as the tests' own may be.
    let run = run.current_dir(world.folder()).process_group(0);
    let mut run = run.stderr(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut from = run.stdout.take().unwrap();
    thread::spawn(move || from.read_to_end(&mut Vec::new()));
    eventually("it acts", || !world.holders("/locks/stopped").is_empty());
    for round in 0..25 {
        thread::sleep(Duration::from_micros(20_000 + 1_370 * round));
        kill(pid(&run), Signal::SIGTSTP).unwrap();
        eventually("it is stopped", || is_stopped(pid(&run)));
        let commands = children(pid(&run));
        eventually("so are its commands", || commands.iter().all(|pid| is_stopped(*pid) || !lives(*pid)));
        let asked = Instant::now();
        let answer = world.run("lock /y --timeout 0 -- true");
        assert_eq!(answer.code, Some(0), "round {round}: {answer:?}");
        assert!(
            asked.elapsed() < Duration::from_secs(2) && !answer.stderr.contains("locked"),
            "round {round}: {answer:?}"
        );
        kill(pid(&run), Signal::SIGCONT).unwrap();
        eventually("it goes on", || !is_stopped(pid(&run)));
    }
    kill(pid(&run), Signal::SIGINT).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(1));
}
