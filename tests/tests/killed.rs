//! Processes on one embedded store that are killed: how soon the others continue, and that no two hold one slot.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use lockkeeper_tests::{World, eventually, said, skipped};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A session time-out that no test waits for: what comes sooner has another reason.
const LONG: &str = "10m";

/// How soon a killed holder is found dead, on a machine that has other things to do.
const AT_ONCE: Duration = Duration::from_secs(5);

/// A command that ignores SIGTERM, as does its child: it records both process IDs and runs for ever.
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
    lock_for(world, LONG, more, command)
}

fn lock_for(world: &World, session_timeout: &str, more: &[&str], command: &[&str]) -> Command {
    let mut line = world.lockkeeper(["lock", "/x", "--session-timeout", session_timeout]);
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
fn a_command_dies_with_its_supervisor_and_holder_when_both_are_killed() {
    for round in 0..10 {
        let world = World::new();
        let command = ["sh", "-c", "trap '' TERM HUP INT; echo $$ > pids.new; mv pids.new pids; while :; do :; done"];
        let mut holder = lock_for(&world, "3s", &[], &command).spawn().unwrap();
        let processes = written(&world);
        let supervisor = children(pid(&holder))[0];
        assert_eq!(children(supervisor), processes);
        // Stopped first, neither can do anything about the other's death: that is what two kills at one instant come to.
        for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
            kill(supervisor, signal).unwrap();
            kill(pid(&holder), signal).unwrap();
        }
        holder.wait().unwrap();
        eventually(format!("round {round}: the command is gone"), || !lives(processes[0]));
        if round == 0 {
            // No process was left to report that the command is gone: the slot is free after the session timeout.
            let next = said(&mut lock(&world, &["--identifier", "next", "--timeout", "30s"], &["true"]));
            assert_eq!(next.code, Some(0), "{next:?}");
        }
    }
}

/// The kernel kills the command, and not what the command has started.
#[test]
fn while_a_child_of_a_command_outlives_its_killed_supervisor_the_slot_is_not_free() {
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
    let (command, outlived) = (lives(processes[0]), lives(processes[1]));
    let _ = killpg(supervisor, Signal::SIGKILL);
    assert_eq!(refused.code, Some(75), "{refused:?}");
    assert!(!command && outlived);
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

/// Each command takes a lock that the kernel frees with its last process, so that two at once are noticed however one ended.
#[test]
fn no_two_commands_run_at_once_whichever_holder_is_killed() {
    const ROUNDS: usize = 40;
    let seed = std::env::var("LOCKKEEPER_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("LOCKKEEPER_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let world = World::new();
    let script = "trap '' TERM; echo $$ >> begun; flock --nonblock --conflict-exit-code 9 inside sleep 0.$0; \
                  test $? != 9 || echo overlap >> wrong";
    let contender = |random: &mut StdRng| {
        let hundredths = format!("{:02}", random.random_range(0..10));
        let identifier = format!("c{}", random.random::<u32>());
        // Killed in the microseconds before its supervisor is there, it is dead only after this.
        let line = ["sh", "-c", script, &hundredths];
        lock_for(&world, "5s", &["--identifier", &identifier], &line).spawn().unwrap()
    };
    let mut contenders: Vec<Child> = (0..4).map(|_| contender(&mut random)).collect();
    let begun = || fs::read_to_string(world.folder().join("begun")).unwrap_or_default().lines().count();
    for _ in 0..ROUNDS {
        let before = begun();
        eventually("a command runs", || {
            begun() > before || contenders.iter_mut().any(|c| c.try_wait().unwrap().is_some())
        });
        thread::sleep(Duration::from_millis(random.random_range(0..60)));
        let victim = random.random_range(0..contenders.len());
        contenders[victim].kill().unwrap();
        for one in &mut contenders {
            if one.try_wait().unwrap().is_some() {
                *one = contender(&mut random);
            }
        }
    }
    for mut contender in contenders {
        contender.wait().unwrap();
    }
    assert!(!world.folder().join("wrong").exists(), "two commands ran at once");
    println!("{} commands began", begun());
    nothing_is_held(&world);
}

fn nothing_is_held(world: &World) {
    eventually("nothing is held", || world.holders("/x").is_empty());
}

/// A process id means another process there; the lock of a file does not.
#[test]
fn a_holder_in_another_container_is_seen_alive_and_dead() {
    let unshare = ["unshare", "--pid", "--fork", "--kill-child"];
    if !Command::new(unshare[0]).args(&unshare[1..]).arg("true").status().is_ok_and(|status| status.success()) {
        return skipped("no process ids of their own can be had here");
    }
    let world = World::new();
    let own = lock(&world, &[], &STUBBORN);
    let mut container = Command::new(unshare[0]);
    container.args(&unshare[1..]).args(["sh", "-c", "\"$@\" & wait; exec sleep 600", "sh"]);
    container.arg(own.get_program()).args(own.get_args()).current_dir(world.folder()).stderr(Stdio::null());
    for (key, value) in own.get_envs().filter_map(|(key, value)| Some((key, value?))) {
        container.env(key, value);
    }
    let mut container = container.spawn().unwrap();
    eventually("the command runs", || world.folder().join("pids").exists());
    let next = || said(&mut lock(&world, &["--identifier", "next", "--timeout", "1500ms"], &["true"]));
    assert_eq!(next().code, Some(75), "the holder lives");
    let first = children(pid(&container))[0];
    kill(children(first)[0], Signal::SIGKILL).unwrap();
    let killed = Instant::now();
    assert_eq!(said(&mut lock(&world, &["--identifier", "next"], &["true"])).code, Some(0));
    assert!(killed.elapsed() < AT_ONCE, "{:?}", killed.elapsed());
    container.kill().unwrap();
    container.wait().unwrap();
}

#[test]
fn a_standby_takes_over_from_a_killed_runner_at_once() {
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
    assert!(lines.any(|line| line.unwrap().contains("Standby")), "it stands by");
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
