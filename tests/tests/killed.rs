//! Processes on one embedded store that are killed: how soon the others go on, and that no two hold one slot.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lockkeeper_tests::{World, eventually, said};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// A session time-out that no test waits for: what comes sooner has another reason.
const LONG: &str = "10m";

/// How soon a killed holder is found dead, on a machine that has other things to do.
const AT_ONCE: Duration = Duration::from_secs(5);

/// A command that heeds no SIGTERM, and neither does its child: it writes both down, and goes on for ever.
const STUBBORN: [&str; 3] =
    ["sh", "-c", "trap '' TERM HUP INT; sleep 600 & echo $$ $! > pids.new; mv pids.new pids; wait; wait"];

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap())
}

fn lives(pid: Pid) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z"))
}

/// The processes that a command has written down.
fn written(world: &World) -> Vec<Pid> {
    let file = world.folder().join("pids");
    eventually("the command runs", || file.exists());
    let pids = fs::read_to_string(&file).unwrap();
    fs::remove_file(file).unwrap();
    pids.split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap())).collect()
}

fn children(parent: Pid) -> Vec<Pid> {
    let listed = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
    listed.split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap())).collect()
}

fn lock(world: &World, more: &[&str], command: &[&str]) -> Command {
    let mut line = world.lockkeeper(["lock", "/x", "--session-timeout", LONG]);
    line.args(more).arg("--").args(command).current_dir(world.folder());
    line.stderr(Stdio::null());
    line
}

#[test]
fn the_slot_of_a_killed_holder_is_free_once_its_command_has_been_killed() {
    for waits in [true, false] {
        let world = World::new();
        // It is not reaped before the end of the test: a process that has ended is dead.
        let mut holder = lock(&world, &[], &STUBBORN).spawn().unwrap();
        let processes = written(&world);
        // The next holder's command fails if the earlier one runs beside it.
        let alone = processes.iter().map(|pid| format!("! grep -qv ') Z' /proc/{pid}/stat")).collect::<Vec<_>>();
        let alone = format!("{} && echo alone", alone.join(" 2>/dev/null && "));
        let mut next = lock(&world, &["--identifier", "next"], &["sh", "-c", &alone]);
        let next = next.stdout(Stdio::piped());
        let waiting = waits.then(|| next.spawn().unwrap());
        if waits {
            eventually("it waits", || {
                world.json("holders /x")["queued"] == 1 || world.run("holders /x").stderr.contains("1 waiting")
            });
        }
        let killed = Instant::now();
        kill(pid(&holder), Signal::SIGKILL).unwrap();
        let waiting = waiting.unwrap_or_else(|| next.spawn().unwrap());
        let answer = waiting.wait_with_output().unwrap();
        let took = killed.elapsed();
        assert_eq!(String::from_utf8_lossy(&answer.stdout), "alone\n", "{answer:?}");
        assert!(took < AT_ONCE, "{took:?}");
        assert!(!processes.iter().copied().any(lives));
        holder.wait().unwrap();
    }
}

#[test]
fn while_a_command_outlives_its_killed_supervisor_the_slot_is_not_free() {
    let world = World::new();
    let mut holder = lock(&world, &[], &STUBBORN).spawn().unwrap();
    let processes = written(&world);
    let supervisor = children(pid(&holder))[0];
    // Stopped, it cannot do the supervisor's work.
    kill(pid(&holder), Signal::SIGSTOP).unwrap();
    kill(supervisor, Signal::SIGKILL).unwrap();
    kill(pid(&holder), Signal::SIGKILL).unwrap();
    holder.wait().unwrap();
    let refused = said(&mut lock(&world, &["--identifier", "next", "--timeout", "1500ms"], &["true"]));
    let outlived = lives(processes[0]);
    let _ = killpg(supervisor, Signal::SIGKILL);
    assert_eq!(refused.code, Some(75), "{refused:?}");
    assert!(outlived);
}

#[test]
fn a_holder_that_is_stopped_or_closed_is_not_taken_for_dead() {
    let world = World::new();
    let mut holder = lock(&world, &[], &STUBBORN).spawn().unwrap();
    let processes = written(&world);
    kill(pid(&holder), Signal::SIGSTOP).unwrap();
    let refused = said(&mut lock(&world, &["--identifier", "next", "--timeout", "1500ms"], &["true"]));
    assert_eq!(refused.code, Some(75), "{refused:?}");
    kill(pid(&holder), Signal::SIGCONT).unwrap();
    assert!(processes.iter().copied().all(lives));
    killpg(children(pid(&holder))[0], Signal::SIGKILL).unwrap();
    assert_eq!(holder.wait().unwrap().code(), Some(137));
    let folder = world.folder().join("state/store.db-alive");
    eventually("no file of a process that has ended stays", || fs::read_dir(&folder).unwrap().count() == 0);
}

#[test]
fn a_runner_that_stands_by_takes_over_from_a_killed_one_at_once() {
    let world = World::new();
    world.file(
        "job.toml",
        r#"
        name = "killed"
        [semaphore]
        path = "/locks/killed"
        max-concurrency = 1
        ephemeral-lease = true
        [targets]
        hosts = ["a", "b"]
        [policy]
        use = "rolling"
        [action]
        run = ["sh", "-c", "trap '' TERM HUP; if test -e {job-dir}/go; then echo $$ >> {job-dir}/acted; else sleep 600 & echo $$ $! > {job-dir}/pids.new; mv {job-dir}/pids.new {job-dir}/pids; wait; fi"]
        on-unknown = "retry"
        attempts = 3
        "#,
    );
    let run = || {
        let mut run = world.lockkeeper(["run", "job.toml", "--session-timeout", LONG]);
        run.current_dir(world.folder()).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
    };
    let mut first = run();
    let processes = written(&world);
    let mut second = run();
    let mut lines = BufReader::new(second.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("Standing")), "it stands by");
    world.file("go", "");
    let killed = Instant::now();
    first.kill().unwrap();
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    let took = killed.elapsed();
    assert_eq!(second.wait().unwrap().code(), Some(0), "{rest:?}");
    assert!(took < 2 * AT_ONCE, "{took:?}");
    assert!(!processes.iter().copied().any(lives));
    first.wait().unwrap();
}
