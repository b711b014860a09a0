//! Lockkeeper as a process among others: signals, process groups, terminals, wrappers around it and below it, and exit codes.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use lockkeeper_tests::{World, binaries, eventually, said};
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Commands that may come before a command: a lease that ends with its process, one that does not, a membership, a
/// fence.
const WRAPPERS: [&[&str]; 4] = [
    &["lock", "/x"],
    &["lock", "/x", "--persistent"],
    &["party", "join", "/p"],
    &["guard", "--fence-file", "token", "--fence", "1", "--attempt", "1"],
];

/// What shows the ignored and the blocked signals of a process.
const SHOW_SIGNALS: [&str; 3] = ["grep", "-E", "Sig(Ign|Blk)"];

/// Signals that a command waits for, by their names in a shell.
const PASSED: [(Signal, &str); 13] = [
    (Signal::SIGHUP, "HUP"),
    (Signal::SIGINT, "INT"),
    (Signal::SIGQUIT, "QUIT"),
    (Signal::SIGTERM, "TERM"),
    (Signal::SIGUSR1, "USR1"),
    (Signal::SIGUSR2, "USR2"),
    (Signal::SIGALRM, "ALRM"),
    (Signal::SIGCONT, "CONT"),
    (Signal::SIGWINCH, "WINCH"),
    (Signal::SIGVTALRM, "VTALRM"),
    (Signal::SIGPROF, "PROF"),
    (Signal::SIGIO, "IO"),
    (Signal::SIGPWR, "PWR"),
];

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap())
}

fn lives(pid: Pid) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z"))
}

/// The state, the parent and the group of a process.
fn stat(pid: Pid) -> Option<(String, Pid, Pid)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?.to_owned();
    let mut number = || Some(Pid::from_raw(fields.next()?.parse().ok()?));
    Some((state, number()?, number()?))
}

/// `lockkeeper` with these arguments and a command, started by another program with arguments of its own.
fn by(world: &World, starter: &[&str], wrapper: &[&str], command: &[&str]) -> Command {
    let own = world.command("lockkeeper");
    let mut line = match starter.split_first() {
        Some((program, arguments)) => {
            let mut line = Command::new(program);
            line.args(arguments).arg(own.get_program()).stdin(Stdio::null());
            for (key, value) in own.get_envs() {
                match value {
                    Some(value) => line.env(key, value),
                    None => line.env_remove(key),
                };
            }
            line
        }
        None => own,
    };
    line.args(wrapper).arg("--").args(command).current_dir(world.folder());
    line
}

/// The processes that a command has written down in its folder: itself first.
fn written(world: &World) -> Vec<Pid> {
    let read = || fs::read_to_string(world.folder().join("pids")).unwrap_or_default();
    eventually("the command runs", || read().ends_with('\n'));
    read().split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap())).collect()
}

/// A command that runs for ever with a child, and records both process IDs.
const FOREVER: [&str; 3] = ["sh", "-c", "sh -c 'echo $PPID $$ > pids; exec sleep 600'; exit 1"];
const STUBBORN: [&str; 3] = ["sh", "-c", "trap '' TERM INT; sleep 600 & echo $$ $! > pids; wait; wait"];

/// Shown signals without the two that the C library keeps for itself, and has ignored in some processes.
fn without_libc(shown: &str) -> String {
    let line = |line: &str| {
        let (name, mask) = line.split_once(":\t").unwrap();
        format!("{name} {:016x}\n", u64::from_str_radix(mask, 16).unwrap() & !(3 << 31))
    };
    shown.lines().map(line).collect()
}

fn all_gone(processes: &[Pid]) {
    eventually(format!("{processes:?} are gone"), || !processes.iter().copied().any(lives));
}

fn nothing_is_held(world: &World) {
    eventually("the lease is released", || world.holders("/x").is_empty());
}

// ------------------------------------------------------------------------------------------------- what is inherited

#[test]
fn a_command_inherits_what_is_ignored_and_what_is_blocked() {
    for settings in [
        &["env"][..],
        &["env", "--ignore-signal=HUP,INT,QUIT"],
        &["env", "--ignore-signal=TERM,USR1,USR2,ALRM,TSTP,TTIN,TTOU,WINCH,CONT,URG,IO"],
        &["env", "--ignore-signal=PIPE"],
        &["env", "--ignore-signal=CHLD"],
        &["env", "--block-signal=USR1,TERM,CHLD"],
        &["env", "--ignore-signal=PIPE,HUP", "--block-signal=INT,PIPE"],
    ] {
        let mut direct = Command::new(settings[0]);
        direct.args(&settings[1..]).args(SHOW_SIGNALS).arg("/proc/self/status").stdin(Stdio::null());
        let expected = without_libc(&said(&mut direct).stdout);
        assert!(expected.contains("SigIgn"), "{expected}");
        for wrapper in WRAPPERS {
            let world = World::new();
            let command = [&SHOW_SIGNALS[..], &["/proc/self/status"]].concat();
            let answer = said(&mut by(&world, settings, wrapper, &command));
            assert_eq!(
                (answer.code, without_libc(&answer.stdout)),
                (Some(0), expected.clone()),
                "{settings:?} {wrapper:?} {answer:?}"
            );
        }
    }
}

#[test]
fn a_password_that_is_hidden_leaves_ignored_signals_alone() {
    let world = World::new();
    let wrapper =
        ["lock", "/x", "--zk-hosts", "127.0.0.1:1", "--username", "me", "--password", "hush", "--timeout", "0"];
    let mut line = by(&world, &["env", "--ignore-signal=PIPE,HUP"], &wrapper, &["true"]);
    let mut child = line.stderr(Stdio::null()).spawn().unwrap();
    let shown = || fs::read_to_string(format!("/proc/{}/cmdline", child.id())).unwrap_or_default();
    eventually("it hides the password", || shown().contains("--password-fd"));
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    assert_eq!(u64::from_str_radix(ignored.trim(), 16).unwrap() & 1, 1, "SIGHUP: {ignored}");
    let _ = child.kill();
    child.wait().unwrap();
}

#[test]
fn an_ignored_signal_ends_neither_lockkeeper_nor_its_command() {
    for wrapper in WRAPPERS {
        let world = World::new();
        let ignore = ["env", "--ignore-signal=HUP,INT,QUIT,TERM,USR1,USR2,ALRM"];
        let script = "echo $$ > pids; until [ -e go ]; do sleep 0.05; done; exit 7";
        let mut child = by(&world, &ignore, wrapper, &["sh", "-c", script]).stderr(Stdio::null()).spawn().unwrap();
        written(&world);
        for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGUSR1] {
            kill(pid(&child), signal).unwrap();
        }
        // One that is not ignored comes last, and shows that those before it did nothing.
        kill(pid(&child), Signal::SIGWINCH).unwrap();
        world.file("go", "");
        assert_eq!(child.wait().unwrap().code(), Some(7), "{wrapper:?}");
        nothing_is_held(&world);
    }
}

#[test]
fn a_waiter_ignores_what_it_was_started_to_ignore() {
    let world = World::new();
    assert_eq!(world.run("lock /x --identifier first").code, Some(0));
    let wrapper = ["lock", "/x", "--identifier", "second"];
    let mut waiter = by(&world, &["env", "--ignore-signal=HUP,INT"], &wrapper, &["true"]).spawn().unwrap();
    eventually("it queues", || world.run("holders /x").stderr.contains("1 waiting"));
    kill(pid(&waiter), Signal::SIGHUP).unwrap();
    kill(pid(&waiter), Signal::SIGINT).unwrap();
    assert_eq!(world.run("unlock /x --identifier first").code, Some(0));
    assert_eq!(waiter.wait().unwrap().code(), Some(0));
}

#[test]
fn a_job_and_its_commands_keep_ignored_signals() {
    let world = World::new();
    let status = world.folder().join("status").display().to_string();
    let job = format!(
        "name = \"j\"\n[semaphore]\npath = \"/j\"\n[targets]\nhosts = [\"a\"]\n[policy]\nuse = \"rolling\"\n\
         [action]\nrun = [\"sh\", \"-c\", \"grep -E 'Sig(Ign|Blk)' /proc/self/status > {status}; sleep 1\"]\n"
    );
    let job = world.file("j.toml", &job);
    let ignore = ["env", "--ignore-signal=HUP,INT,PIPE,CHLD"];
    let mut line = Command::new(ignore[0]);
    let own = world.lockkeeper(["run"]);
    line.args(&ignore[1..]).arg(own.get_program()).arg("run").arg(&job).stdin(Stdio::null());
    for (key, value) in own.get_envs() {
        match value {
            Some(value) => line.env(key, value),
            None => line.env_remove(key),
        };
    }
    let mut child = line.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("the command runs", || fs::read_to_string(&status).is_ok_and(|text| text.contains("SigIgn")));
    kill(pid(&child), Signal::SIGINT).unwrap();
    kill(pid(&child), Signal::SIGHUP).unwrap();
    let code = child.wait().unwrap().code();
    let mut text = String::new();
    child.stderr.unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(code, Some(0), "{text}");
    // A shell listens to SIGCHLD itself.
    let script = "grep -E 'Sig(Ign|Blk)' /proc/self/status; sleep 0";
    let direct = said(Command::new("env").args(&ignore[1..]).args(["sh", "-c", script])).stdout;
    assert_eq!(without_libc(&fs::read_to_string(&status).unwrap()), without_libc(&direct));
}

// ------------------------------------------------------------------------------------------------- what is passed on

#[test]
fn a_signal_reaches_the_command() {
    for wrapper in WRAPPERS {
        for (signal, name) in PASSED {
            let world = World::new();
            let script = format!("trap 'exit 7' {name}; echo $$ > pids; while :; do sleep 0.05; done");
            let mut child = by(&world, &[], wrapper, &["sh", "-c", &script]).stderr(Stdio::null()).spawn().unwrap();
            written(&world);
            kill(pid(&child), signal).unwrap();
            assert_eq!(child.wait().unwrap().code(), Some(7), "{signal} {wrapper:?}");
            nothing_is_held(&world);
        }
    }
}

#[test]
fn a_signal_that_the_command_does_not_expect_ends_it_and_releases_the_lease() {
    for (signal, code) in [(Signal::SIGUSR1, 138), (Signal::SIGUSR2, 140), (Signal::SIGALRM, 142)] {
        for wrapper in WRAPPERS {
            let world = World::new();
            let mut child = by(&world, &[], wrapper, &FOREVER).stderr(Stdio::null()).spawn().unwrap();
            let processes = written(&world);
            kill(pid(&child), signal).unwrap();
            assert_eq!(child.wait().unwrap().code(), Some(code), "{signal} {wrapper:?}");
            all_gone(&processes);
            nothing_is_held(&world);
        }
    }
}

#[test]
fn a_signal_without_a_command_ends_a_waiter_that_leaves_nothing() {
    let world = World::new();
    assert_eq!(world.run("lock /x --identifier first").code, Some(0));
    for (signal, code) in [(Signal::SIGUSR1, 138), (Signal::SIGALRM, 142), (Signal::SIGTERM, 143)] {
        let wrapper = ["lock", "/x", "--identifier", "second"];
        let mut waiter = by(&world, &[], &wrapper, &["true"]).stderr(Stdio::null()).spawn().unwrap();
        eventually("it queues", || world.run("holders /x").stderr.contains("1 waiting"));
        // Neither of them ends a process that does not listen to it.
        kill(pid(&waiter), Signal::SIGWINCH).unwrap();
        kill(pid(&waiter), Signal::SIGCONT).unwrap();
        thread::sleep(Duration::from_millis(100));
        assert!(waiter.try_wait().unwrap().is_none());
        kill(pid(&waiter), signal).unwrap();
        assert_eq!(waiter.wait().unwrap().code(), Some(code));
        assert!(world.run("holders /x").stderr.contains("0 waiting"));
    }
}

#[test]
fn a_stopped_job_continues_where_it_was() {
    for wrapper in WRAPPERS {
        let world = World::new();
        let script = "echo $$ > pids; until [ -e go ]; do sleep 0.05; done; exit 7";
        let mut child = by(&world, &[], wrapper, &["sh", "-c", script]).stderr(Stdio::null()).spawn().unwrap();
        let command = written(&world)[0];
        // A shell whose child was stopped between `vfork` and `exec` waits for it uninterruptibly, and is stopped as
        // well.
        let is_stopped = |pid| stat(pid).is_some_and(|(state, ..)| state == "T" || state == "D");
        kill(pid(&child), Signal::SIGTSTP).unwrap();
        eventually(format!("{wrapper:?}: both are stopped"), || is_stopped(command) && is_stopped(pid(&child)));
        kill(pid(&child), Signal::SIGCONT).unwrap();
        eventually(format!("{wrapper:?}: both go on"), || !is_stopped(command) && !is_stopped(pid(&child)));
        world.file("go", "");
        assert_eq!(child.wait().unwrap().code(), Some(7), "{wrapper:?}");
    }
}

#[test]
fn signals_to_the_commands_group_reach_no_other_process() {
    for (signal, code) in [("KILL", 137), ("TERM", 143), ("USR1", 138), ("ABRT", 134), ("34", 162)] {
        for wrapper in WRAPPERS {
            let world = World::new();
            let script = format!("echo $$ > pids; kill -s {signal} 0; sleep 600");
            let answer = said(&mut by(&world, &[], wrapper, &["bash", "-c", &script]));
            // A guard that was killed with the command cannot tell any more how that ended.
            assert_eq!(answer.code, Some(code), "{signal} {wrapper:?} {answer:?}");
            all_gone(&written(&world));
            nothing_is_held(&world);
        }
    }
}

#[test]
fn a_holder_that_is_killed_takes_its_command_along_whatever_it_ignores() {
    for settings in [&["env", "--ignore-signal=TERM"][..], &["env", "--block-signal=TERM,CHLD"], &["env"]] {
        for wrapper in [WRAPPERS[0], WRAPPERS[2], WRAPPERS[3]] {
            let world = World::new();
            // It leaves the group, with a child in a third one.
            let script = "timeout 600 sleep 600 & echo $$ $! > pids; wait";
            let command = ["setsid", "sh", "-c", script];
            let mut child = by(&world, settings, wrapper, &command).stderr(Stdio::null()).spawn().unwrap();
            let processes = written(&world);
            child.kill().unwrap();
            child.wait().unwrap();
            all_gone(&processes);
        }
    }
}

#[test]
fn orphans_of_a_command_do_not_pile_up() {
    let world = World::new();
    let script = "for i in 1 2 3; do (sh -c 'echo $$ >> orphans' &); done; echo $$ > pids; \
                  until [ -e go ]; do sleep 0.05; done";
    let mut child = by(&world, &[], WRAPPERS[0], &["sh", "-c", script]).stderr(Stdio::null()).spawn().unwrap();
    written(&world);
    let orphans = || fs::read_to_string(world.folder().join("orphans")).unwrap_or_default();
    eventually("they have ended", || {
        let text = orphans();
        text.lines().count() == 3 && text.lines().all(|pid| !Path::new("/proc").join(pid).exists())
    });
    world.file("go", "");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

// ---------------------------------------------------------------------------------------------------------- wrappers

#[test]
fn a_time_limit_around_lockkeeper_ends_all_of_it() {
    for (limit, command, code) in [
        (&["timeout", "1"][..], FOREVER, 124),
        (&["timeout", "-s", "INT", "1"], FOREVER, 124),
        (&["timeout", "-s", "HUP", "1"], FOREVER, 124),
        (&["timeout", "-s", "USR1", "1"], FOREVER, 124),
        (&["timeout", "--foreground", "1"], FOREVER, 124),
        (&["timeout", "--foreground", "-s", "QUIT", "1"], FOREVER, 124),
        (&["timeout", "-k", "1", "1"], FOREVER, 124),
        (&["timeout", "-k", "0.5", "1"], STUBBORN, 137),
        (&["timeout", "--foreground", "-k", "0.5", "1"], STUBBORN, 137),
        (&["timeout", "-s", "KILL", "1"], STUBBORN, 137),
    ] {
        // A persistent lease outlives a process that was killed, as it is meant to.
        let wrappers = if code == 137 { vec![WRAPPERS[0], WRAPPERS[2], WRAPPERS[3]] } else { WRAPPERS.to_vec() };
        for wrapper in wrappers {
            let world = World::new();
            let mut line = by(&world, limit, wrapper, &command);
            line.stderr(Stdio::null());
            let mut child = line.spawn().unwrap();
            let processes = written(&world);
            let status = child.wait().unwrap();
            println!("{limit:?} {wrapper:?}");
            assert!(
                status.code() == Some(code) || code == 137 && status.code().is_none(),
                "{limit:?} {wrapper:?} {status:?}"
            );
            all_gone(&processes);
            if code == 124 {
                assert!(world.holders("/x").is_empty(), "{limit:?} {wrapper:?}");
            }
        }
    }
}

#[test]
fn a_time_limit_around_a_waiter_leaves_nothing() {
    let world = World::new();
    assert_eq!(world.run("lock /x --identifier first").code, Some(0));
    let wrapper = ["lock", "/x", "--identifier", "second"];
    let answer = said(&mut by(&world, &["timeout", "1"], &wrapper, &["true"]));
    assert_eq!(answer.code, Some(124), "{answer:?}");
    assert!(world.run("holders /x").stderr.contains("0 waiting"));
}

#[test]
fn a_time_limit_below_lockkeeper_has_its_own_code() {
    for wrapper in WRAPPERS {
        let world = World::new();
        let answer = said(&mut by(&world, &[], wrapper, &["timeout", "0.3", "sleep", "600"]));
        assert_eq!(answer.code, Some(124), "{wrapper:?} {answer:?}");
        nothing_is_held(&world);
    }
}

#[test]
fn a_command_that_has_left_its_group_is_stopped() {
    for leaving in [&["timeout", "600"][..], &["setsid"], &["nice", "timeout", "600"], &["env", "setsid"]] {
        for wrapper in [WRAPPERS[0], WRAPPERS[2], WRAPPERS[3]] {
            let world = World::new();
            let command = [leaving, &FOREVER].concat();
            let mut child = by(&world, &[], wrapper, &command).stderr(Stdio::null()).spawn().unwrap();
            let processes = written(&world);
            // `timeout` may not know of its child yet when that runs already, and would pass nothing on.
            thread::sleep(Duration::from_millis(300));
            kill(pid(&child), Signal::SIGTERM).unwrap();
            let code = child.wait().unwrap().code();
            assert_eq!(code, Some(143), "{leaving:?} {wrapper:?}");
            // A group that only its leader knows is that leader's to end: `timeout` does, a session's leader does not.
            all_gone(&processes[..1]);
            for left in processes {
                let _ = kill(left, Signal::SIGKILL);
            }
            nothing_is_held(&world);
        }
    }
}

#[test]
fn wrappers_around_lockkeeper_make_no_difference() {
    for starter in [
        &["setsid", "--wait"][..],
        &["nice", "-n", "1"],
        &["env", "A=b"],
        &["nohup"],
        &["timeout", "60"],
        &["stdbuf", "-oL"],
        &["sh", "-c", "\"$0\" \"$@\""],
    ] {
        for wrapper in WRAPPERS {
            let world = World::new();
            let mut line = by(&world, starter, wrapper, &["sh", "-c", "read line; echo $line; exit 7"]);
            line.stdin(File::open(world.file("input", "hello\n")).unwrap());
            let answer = said(&mut line);
            assert_eq!((answer.code, answer.stdout.as_str()), (Some(7), "hello\n"), "{starter:?} {answer:?}");
        }
    }
}

// -------------------------------------------------------------------------------------------------------- exit codes

#[test]
fn a_command_that_cannot_be_run_has_the_code_of_a_shell() {
    let world = World::new();
    let plain = world.file("plain", "echo no\n");
    let script = world.file("script", "#!/no/such/interpreter\n");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let folder = world.folder().to_owned();
    let in_path = world.folder().join("bin");
    fs::create_dir(&in_path).unwrap();
    fs::write(in_path.join("not-executable"), "").unwrap();
    let path = std::env::join_paths(
        [PathBuf::from("/root/no-such-folder"), in_path].into_iter().chain([binaries().to_owned(), "/bin".into()]),
    )
    .unwrap();
    let text = |path: &Path| path.display().to_string();
    let beyond = format!("{}/x", text(&plain));
    for (command, code, message) in [
        ("no-such-command", 127, "No such file or directory"),
        ("./no-such-command", 127, "No such file or directory"),
        ("", 127, "No such file or directory"),
        (&text(&script), 127, "the interpreter in its first line does not"),
        (&text(&plain), 126, "Permission denied"),
        (&text(&folder), 126, "Permission denied"),
        ("not-executable", 126, "Permission denied"),
        (&beyond, 126, "Not a directory"),
    ] {
        let mut shell = Command::new("bash");
        let shell = said(shell.args(["-c", "\"$0\""]).arg(command).env("PATH", &path).current_dir(world.folder()));
        assert_eq!(shell.code, Some(code), "a shell: {command}: {shell:?}");
        for wrapper in WRAPPERS {
            let world = World::new();
            let answer = said(by(&world, &[], wrapper, &[command]).env("PATH", &path));
            assert_eq!(answer.code, Some(code), "{command} {wrapper:?} {answer:?}");
            assert!(answer.stderr.contains(message), "{command} {answer:?}");
            nothing_is_held(&world);
        }
    }
}

#[test]
fn a_lost_lease_has_a_code_of_its_own_and_nothing_is_left_of_the_command() {
    for command in [
        &FOREVER[..],
        &STUBBORN,
        &["timeout", "600", "sh", "-c", "trap '' TERM; sleep 600 & echo $$ $! > pids; wait; wait"],
        &["setsid", "sh", "-c", "trap '' TERM; sleep 600 & echo $$ $! > pids; wait; wait"],
        &["sh", "-c", "(sh -c 'trap \"\" TERM; echo $$ > pids; while :; do sleep 0.05; done' &); sleep 600"],
    ] {
        let world = World::new();
        let wrapper = ["lock", "/x", "--session-timeout", "1s", "--kill-after", "1s", "--format", "json"];
        let mut line = by(&world, &[], &wrapper, command);
        let child = line.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let processes = written(&world);
        kill(pid(&child), Signal::SIGSTOP).unwrap();
        assert_eq!(world.run("lock /x --identifier next --timeout 30s").code, Some(0));
        kill(pid(&child), Signal::SIGCONT).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(79), "{command:?} {output:?}");
        let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
        assert_eq!(error["error"], "lease-lost");
        let left: Vec<_> = processes.into_iter().filter(|pid| lives(*pid)).collect();
        assert!(left.is_empty(), "{command:?} {left:?}");
    }
}

#[test]
fn a_server_that_a_command_has_started_outlives_a_lost_lease() {
    let world = World::new();
    let wrapper = ["lock", "/x", "--session-timeout", "1s", "--kill-after", "20s"];
    let script = "(setsid sh -c 'echo $$ > pids; exec sleep 600' &); sleep 600";
    let mut child = by(&world, &[], &wrapper, &["sh", "-c", script]).stderr(Stdio::null()).spawn().unwrap();
    let server = written(&world)[0];
    kill(pid(&child), Signal::SIGSTOP).unwrap();
    assert_eq!(world.run("lock /x --identifier next --timeout 30s").code, Some(0));
    kill(pid(&child), Signal::SIGCONT).unwrap();
    let begun = Instant::now();
    assert_eq!(child.wait().unwrap().code(), Some(79));
    assert!(begun.elapsed() < Duration::from_secs(10), "nobody waits for it");
    assert!(lives(server));
    kill(server, Signal::SIGKILL).unwrap();
}

// --------------------------------------------------------------------------------------------------- the first process

/// `lockkeeper` as the first process of a PID namespace, where that is permitted.
fn first_process() -> Option<Vec<&'static str>> {
    let unshare = vec!["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"];
    let permitted = Command::new(unshare[0]).args(&unshare[1..]).arg("true").stderr(Stdio::null()).status();
    permitted.is_ok_and(|status| status.success()).then_some(unshare)
}

#[test]
fn the_first_process_reaps_orphans() {
    let Some(unshare) = first_process() else { return println!("skipped: no PID namespace can be made here") };
    for wrapper in WRAPPERS {
        let world = World::new();
        // Orphans come and go; then nothing but living processes is there. `$PPID` is no help: `ps` would be one of them.
        let script = "for i in 1 2 3 4 5; do (sh -c 'sleep 0.0$0 &' $i &); done; sleep 1; \
                      cat /proc/[0-9]*/stat | grep -c ') Z' ; grep ^Name: /proc/1/status; exit 7";
        let answer = said(&mut by(&world, &unshare, wrapper, &["sh", "-c", script]));
        assert_eq!((answer.code, answer.stdout.as_str()), (Some(7), "0\nName:\tlockkeeper\n"), "{answer:?}");
    }
}

#[test]
fn the_first_process_loses_no_signal() {
    let Some(unshare) = first_process() else { return println!("skipped: no PID namespace can be made here") };
    for wrapper in WRAPPERS {
        for name in ["TERM", "INT", "USR1", "USR2", "ALRM", "WINCH"] {
            let world = World::new();
            // From within only what the first process listens to comes through.
            let script = format!("trap 'exit 7' {name}; kill -s {name} 1; while :; do sleep 0.05; done");
            let answer = said(&mut by(&world, &unshare, wrapper, &["sh", "-c", &script]));
            assert_eq!(answer.code, Some(7), "{name} {wrapper:?} {answer:?}");
        }
    }
    let world = World::new();
    let answer = said(&mut by(&world, &unshare, WRAPPERS[0], &["sh", "-c", "kill -9 $$"]));
    assert_eq!(answer.code, Some(137), "{answer:?}");
}

// ---------------------------------------------------------------------------------------------------------- terminals

/// A shell with job control on a terminal of its own.
struct Terminal {
    keyboard: Option<File>,
    screen: Arc<Mutex<String>>,
    shell: Child,
}

impl Terminal {
    fn new(world: &World) -> Self {
        let ends = openpty(None, None).unwrap();
        let terminal = File::from(ends.slave);
        let own = world.command("lockkeeper");
        let mut line = Command::new("setsid");
        line.args(["--ctty", "bash", "--norc", "--noprofile", "-i"]).current_dir(world.folder());
        for (key, value) in own.get_envs() {
            match value {
                Some(value) => line.env(key, value),
                None => line.env_remove(key),
            };
        }
        line.env("PS1", "").env("TERM", "dumb").env_remove("HISTFILE");
        line.stdin(terminal.try_clone().unwrap()).stdout(terminal.try_clone().unwrap()).stderr(terminal);
        let shell = line.spawn().unwrap();
        drop(line);
        let keyboard = File::from(ends.master);
        let screen = Arc::new(Mutex::new(String::new()));
        let (mut from, to) = (keyboard.try_clone().unwrap(), Arc::clone(&screen));
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The last process on the terminal closes it: that is an error here.
            while let Ok(count @ 1..) = from.read(&mut bytes) {
                to.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        Self { keyboard: Some(keyboard), screen, shell }
    }

    fn keys(&mut self, keys: &str) {
        self.keyboard.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    fn line(&mut self, line: &str) {
        self.keys(&format!("{line}\n"));
    }

    fn shows(&self, text: &str) {
        let screen = || self.screen.lock().unwrap().clone();
        let deadline = Instant::now() + Duration::from_secs(30);
        while !screen().contains(text) {
            assert!(Instant::now() < deadline, "waited for {text:?}:\n{}", screen());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// The wrapper of a command as it is typed.
fn typed(wrapper: &[&str]) -> String {
    format!("lockkeeper --quiet {}", wrapper.join(" "))
}

#[test]
fn a_command_reads_from_the_terminal() {
    for wrapper in WRAPPERS {
        let world = World::new();
        let mut terminal = Terminal::new(&world);
        terminal.line(&format!("{} -- sh -c 'read a; echo [$a]'; echo rc=$?", typed(wrapper)));
        terminal.line("hello");
        terminal.shows("[hello]");
        terminal.shows("rc=0");
        // In pipelines the terminal is not on stdin, or not on stdout.
        terminal.line(&format!("echo one | {} -- sh -c 'read a; read b </dev/tty; echo {{$a$b}}'", again(wrapper)));
        terminal.line("two");
        terminal.shows("{onetwo}");
        terminal.line(&format!("{} -- sh -c 'read a; echo $a' | sed 's/^/<</'", third(wrapper)));
        terminal.line("three");
        terminal.shows("<<three");
    }
}

/// A fence is accepted once.
fn again(wrapper: &[&str]) -> String {
    typed(wrapper).replace("--attempt 1", "--attempt 2")
}

fn third(wrapper: &[&str]) -> String {
    typed(wrapper).replace("--attempt 1", "--attempt 3")
}

#[test]
fn a_command_gets_each_key_once_and_a_signal_by_name_too() {
    for wrapper in WRAPPERS {
        let world = World::new();
        let mut terminal = Terminal::new(&world);
        let count =
            "trap 'n=$((n+1)); echo got-$n' INT; echo $$ > pids; until [ -e go ]; do sleep 0.05; done; echo all-$n";
        world.file("count.sh", count);
        terminal.line(&format!("{} -- sh count.sh; echo rc=$?", typed(wrapper)));
        let command = written(&world)[0];
        // The terminal's signals reach the command directly, and are not passed on a second time.
        terminal.keys("\x03");
        terminal.shows("got-1");
        // What is sent to us alone is passed on.
        let own = lockkeeper_of(command);
        kill(own, Signal::SIGINT).unwrap();
        terminal.shows("got-2");
        world.file("go", "");
        terminal.shows("all-2");
        terminal.shows("rc=0");
    }
}

/// The process that was given a command, which is the command's parent or its guard's.
fn lockkeeper_of(command: Pid) -> Pid {
    let parent = |pid| stat(pid).unwrap().1;
    let arguments = |pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    match arguments(parent(command)).contains("__guard") {
        true => parent(parent(command)),
        false => parent(command),
    }
}

#[test]
fn a_job_is_stopped_by_ctrl_z_and_continued_in_the_foreground() {
    for wrapper in WRAPPERS {
        let world = World::new();
        let mut terminal = Terminal::new(&world);
        let script = "echo $$ > pids; read a; echo [$a]";
        world.file("read.sh", script);
        terminal.line(&format!("{} -- sh read.sh; echo rc=$?", typed(wrapper)));
        let command = written(&world)[0];
        let own = lockkeeper_of(command);
        let is_stopped = |pid| stat(pid).is_some_and(|(state, ..)| state == "T");
        terminal.keys("\x1a");
        eventually("both are stopped", || is_stopped(command) && is_stopped(own));
        terminal.shows("Stopped");
        terminal.line("echo shell-$((40+2))");
        terminal.shows("shell-42");
        terminal.line("fg; echo then=$?");
        eventually("both go on", || !is_stopped(command) && !is_stopped(own));
        terminal.line("hello");
        terminal.shows("[hello]");
        terminal.shows("then=0");
    }
}

#[test]
fn a_run_is_stopped_by_ctrl_z_with_its_commands_and_continued() {
    let world = World::new();
    let run = r#"["sh", "-c", "echo $$ > {job-dir}/pids; until [ -e {job-dir}/go ]; do sleep 0.05; done"]"#;
    let job = format!(
        "name = \"z\"\n[semaphore]\npath = \"/z\"\nmax-concurrency = 1\nephemeral-lease = true\n[targets]\n\
         hosts = [\"a\"]\n[policy]\nuse = \"rolling\"\n[action]\nrun = {run}\n"
    );
    world.file("job.toml", &job);
    let mut terminal = Terminal::new(&world);
    terminal.line("lockkeeper --quiet run job.toml; echo rc=$?");
    let command = written(&world)[0];
    let own = lockkeeper_of(command);
    let is_stopped = |pid| stat(pid).is_some_and(|(state, ..)| state == "T");
    terminal.keys("\x1a");
    eventually("both are stopped", || is_stopped(command) && is_stopped(own));
    terminal.shows("Stopped");
    assert_eq!(world.run("lock /other --timeout 0 -- true").code, Some(0), "the file is free");
    terminal.line("fg; echo then=$?");
    eventually("both go on", || !is_stopped(command) && !is_stopped(own));
    world.file("go", "");
    terminal.shows("then=0");
}

#[test]
fn on_a_terminal_a_time_limit_a_lost_lease_and_a_kill_end_the_command() {
    let script = FOREVER[2];
    for limit in ["timeout 1", "timeout --foreground 1", "timeout --foreground -s INT 1", "timeout -s INT 1"] {
        for wrapper in WRAPPERS {
            let world = World::new();
            world.file("forever.sh", script);
            let mut terminal = Terminal::new(&world);
            terminal.line(&format!("{limit} {} -- bash forever.sh; echo rc=$?", typed(wrapper)));
            let processes = written(&world);
            terminal.shows("rc=124");
            println!("{limit} {wrapper:?}");
            all_gone(&processes);
            nothing_is_held(&world);
        }
    }
    for script in [script, "trap '' TERM; sleep 600 & echo $$ $! > pids; wait; wait"] {
        let world = World::new();
        world.file("forever.sh", script);
        let mut terminal = Terminal::new(&world);
        let options = "--session-timeout 1s --kill-after 1s";
        terminal.line(&format!("{} {options} -- bash forever.sh; echo rc=$?", typed(WRAPPERS[0])));
        let processes = written(&world);
        let own = lockkeeper_of(processes[0]);
        kill(own, Signal::SIGSTOP).unwrap();
        assert_eq!(world.run("lock /x --identifier next --timeout 30s").code, Some(0));
        kill(own, Signal::SIGCONT).unwrap();
        terminal.line("fg; echo then=$?");
        terminal.shows("then=79");
        all_gone(&processes);
    }
    for wrapper in [WRAPPERS[0], WRAPPERS[2], WRAPPERS[3]] {
        let world = World::new();
        world.file("forever.sh", script);
        let mut terminal = Terminal::new(&world);
        terminal.line(&format!("{} -- bash forever.sh; echo rc=$?", typed(wrapper)));
        let processes = written(&world);
        kill(lockkeeper_of(processes[0]), Signal::SIGKILL).unwrap();
        terminal.shows("rc=137");
        all_gone(&processes);
    }
}

#[test]
fn a_command_under_nohup_survives_its_terminal() {
    for wrapper in WRAPPERS {
        let world = World::new();
        let mut terminal = Terminal::new(&world);
        let script = "echo $$ > pids; until [ -e go ]; do sleep 0.05; done; : > survived";
        world.file("long.sh", script);
        terminal.line(&format!("nohup {} -- sh long.sh >/dev/null 2>&1 &", typed(wrapper)));
        written(&world);
        // The terminal is gone, and its shell tells each of its jobs.
        drop(terminal.keyboard.take());
        kill(pid(&terminal.shell), Signal::SIGHUP).unwrap();
        let _ = terminal.shell.wait();
        world.file("go", "");
        eventually("the command runs to its end", || world.folder().join("survived").exists());
        nothing_is_held(&world);
    }
}
