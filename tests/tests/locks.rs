//! Locks in the hands of scripts: real processes on one embedded store.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use lockkeeper_tests::{Said, World, eventually, said};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap())
}

/// Whether a process is there and no zombie.
fn lives(pid: Pid) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z"))
}

#[test]
fn a_waiter_gets_the_slot_when_it_is_unlocked() {
    let world = World::new();
    assert_eq!(world.run("lock /x --identifier first").code, Some(0));
    let mut second = world.lockkeeper("lock /x --identifier second".split(' ')).stdout(Stdio::piped()).spawn().unwrap();
    let queue = |world: &World| world.run("holders /x").stderr;
    eventually("the second queues", || queue(&world).contains("1 waiting"));
    assert_eq!(world.holders("/x"), ["first"]);
    let unlocked = world.run("unlock /x --identifier first");
    let freed = Instant::now();
    assert!(second.wait().unwrap().success(), "{unlocked:?}");
    println!("the waiter ended {:?} after unlock did", freed.elapsed());
    assert_eq!(world.holders("/x"), ["second"]);
}

#[test]
fn the_same_identifier_holds_it_again_at_once() {
    let world = World::new();
    let first = world.json("lock /x --identifier me");
    let again = world.json("lock /x --identifier me");
    assert_eq!(first["already-held"], false);
    assert_eq!(again["already-held"], true);
    assert_eq!(first["fence"], again["fence"]);
    assert!(world.run("lock /x --identifier me").stderr.contains("already"));
}

#[test]
fn fences_grow() {
    let world = World::new();
    let mut last = 0;
    for _ in 0..5 {
        let fence = world.json("lock /x")["fence"].as_i64().unwrap();
        assert!(fence > last, "{fence} after {last}");
        last = fence;
        assert_eq!(world.run("unlock /x").code, Some(0));
    }
}

/// Adds one to a file under a lock of the file system, remembers the most that it saw, and takes it off again.
const COUNT: &str = r#"
    change() { flock "$DIR/guard" sh -c 'now=$(($(cat "$DIR/now") + '"$1"')); echo $now > "$DIR/now";
        [ $now -le $(cat "$DIR/most") ] || echo $now > "$DIR/most"'; }
    change 1; sleep 0.01; change -1; echo done >> "$DIR/done"
"#;

/// Starts shells that run `script` and count from outside how many are inside at once.
fn crowd(world: &World, shells: u32, script: &str) -> Vec<Child> {
    for (name, text) in [("now", "0"), ("most", "0"), ("done", ""), ("guard", "")] {
        world.file(name, text);
    }
    let shell = |number: u32| {
        let mut command = world.command("lockkeeper");
        let environment: Vec<_> =
            command.get_envs().map(|(key, value)| (key.to_owned(), value.map(ToOwned::to_owned))).collect();
        command = Command::new("sh");
        command.args(["-c", script]).env("COUNT", COUNT).env("DIR", world.folder()).env("ME", format!("me{number}"));
        for (key, value) in environment {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        let said = fs::File::create(world.folder().join(format!("said{number}"))).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said).spawn().unwrap()
    };
    (0..shells).map(shell).collect()
}

fn number(folder: &Path, file: &str) -> usize {
    fs::read_to_string(folder.join(file)).unwrap().trim().parse().unwrap()
}

#[test]
fn fifty_processes_never_exceed_three_slots() {
    let world = World::new();
    let script = r#"for i in 1 2 3; do
        lockkeeper lock /x --max-concurrency 3 --identifier $ME || exit 1
        sh -c "$COUNT"
        lockkeeper unlock /x --identifier $ME || exit 1
    done"#;
    for (number, mut shell) in crowd(&world, 50, script).into_iter().enumerate() {
        let succeeded = shell.wait().unwrap().success();
        assert!(succeeded, "{}", fs::read_to_string(world.folder().join(format!("said{number}"))).unwrap());
    }
    let most = number(world.folder(), "most");
    assert!((2..=3).contains(&most), "{most} were inside at once");
    assert_eq!(fs::read_to_string(world.folder().join("done")).unwrap().lines().count(), 150);
    assert!(world.holders("/x").is_empty());
}

#[test]
fn fifty_commands_under_ephemeral_leases_never_exceed_three_slots() {
    let world = World::new();
    let script = r#"for i in 1 2; do
        lockkeeper lock /x --max-concurrency 3 --ephemeral-lease -- sh -c "$COUNT" || exit 1
    done"#;
    for (number, mut shell) in crowd(&world, 50, script).into_iter().enumerate() {
        let succeeded = shell.wait().unwrap().success();
        assert!(succeeded, "{}", fs::read_to_string(world.folder().join(format!("said{number}"))).unwrap());
    }
    let most = number(world.folder(), "most");
    assert!((2..=3).contains(&most), "{most} were inside at once");
    assert_eq!(fs::read_to_string(world.folder().join("done")).unwrap().lines().count(), 100);
}

/// A shell with a child of its own, which records both process IDs and ignores SIGTERM if told to.
fn family(world: &World, trap: &str) -> [String; 4] {
    let pids = world.folder().join("pids").display().to_string();
    let script = format!("{trap} sleep 600 & echo $$ $! > \"$0\"; wait; wait");
    ["sh".to_owned(), "-c".to_owned(), script, pids]
}

/// The process ids that a [`family`] has written down.
fn its_pids(world: &World) -> [Pid; 2] {
    let read = || fs::read_to_string(world.folder().join("pids")).unwrap_or_default();
    eventually("the command runs", || read().ends_with('\n'));
    let pids: Vec<_> = read().split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap())).collect();
    pids.try_into().unwrap()
}

#[test]
fn a_killed_holder_frees_its_slot_and_takes_its_command_along_with_all_its_children() {
    let world = World::new();
    let mut line = world.lockkeeper(["lock", "/x", "--session-timeout", "2s", "--ephemeral-lease", "--"]);
    let mut holder = line.args(family(&world, "trap '' TERM;")).spawn().unwrap();
    let family = its_pids(&world);
    assert!(family.into_iter().all(lives));
    kill(pid(&holder), Signal::SIGKILL).unwrap();
    let killed = Instant::now();
    holder.wait().unwrap();
    assert_eq!(world.run("lock /x --identifier next --timeout 30s").code, Some(0));
    println!("the slot was free {:?} after the kill, with a session time-out of 2 s", killed.elapsed());
    eventually("the command and its child are gone", || !family.into_iter().any(lives));
    assert_eq!(world.holders("/x"), ["next"]);
}

#[test]
fn a_command_without_its_guard_is_stopped() {
    let world = World::new();
    let mut line = world.lockkeeper(["lock", "/x", "--ephemeral-lease", "--"]);
    let mut holder = line.args(family(&world, "")).spawn().unwrap();
    let family = its_pids(&world);
    let stat = fs::read_to_string(format!("/proc/{}/stat", family[0])).unwrap();
    let guard = Pid::from_raw(stat.split_whitespace().nth(3).unwrap().parse().unwrap());
    assert_ne!(guard, pid(&holder));
    kill(guard, Signal::SIGKILL).unwrap();
    assert_eq!(holder.wait().unwrap().code(), Some(137));
    eventually("the command and its child are gone", || !family.into_iter().any(lives));
    assert!(world.holders("/x").is_empty());
}

#[test]
fn a_holder_whose_binary_was_replaced_still_starts_its_command() {
    let world = World::new();
    let binary = world.folder().join("lockkeeper");
    fs::copy(lockkeeper_tests::binaries().join("lockkeeper"), &binary).unwrap();
    assert_eq!(world.run("lock /x --identifier first").code, Some(0));
    let mut line = Command::new(&binary);
    for (key, value) in world.command("lockkeeper").get_envs() {
        match value {
            Some(value) => line.env(key, value),
            None => line.env_remove(key),
        };
    }
    line.args(["lock", "/x", "--ephemeral-lease", "--quiet", "--", "echo", "hello"]);
    line.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut waiter = None;
    // A process that another test starts just now may still have the copy open for writing.
    eventually("the copy can be run", || {
        waiter = line.spawn().ok();
        waiter.is_some()
    });
    eventually("it queues", || world.run("holders /x").stderr.contains("1 waiting"));
    fs::remove_file(&binary).unwrap();
    fs::write(&binary, "another version").unwrap();
    assert_eq!(world.run("unlock /x --identifier first").code, Some(0));
    let output = waiter.unwrap().wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b"hello\n"[..]), "{output:?}");
}

#[test]
fn a_paused_holder_is_not_in_the_way_and_its_command_is_stopped() {
    let world = World::new();
    let line = ["lock", "/x", "--session-timeout", "1s", "--ephemeral-lease", "--format", "json", "--"];
    let mut holder = world.lockkeeper(line);
    let holder = holder.args(family(&world, "")).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let family = its_pids(&world);
    kill(pid(&holder), Signal::SIGSTOP).unwrap();
    assert_eq!(world.run("lock /x --identifier next --timeout 30s").code, Some(0));
    kill(pid(&holder), Signal::SIGCONT).unwrap();
    let output = holder.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(79));
    let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(error["error"], "lease-lost");
    assert!(!family.into_iter().any(lives));
    assert_eq!(world.holders("/x"), ["next"]);
}

#[test]
fn what_is_left_of_a_command_after_its_lease_is_killed() {
    let world = World::new();
    let line = ["lock", "/x", "--identifier", "me", "--kill-after", "300ms", "--"];
    // The shell ends on SIGTERM, its child does not.
    let pids = world.folder().join("pids").display().to_string();
    let script = "sh -c 'trap \"\" TERM; while :; do sleep 0.05; done' & echo $$ $! > \"$0\"; wait";
    let mut holder = world.lockkeeper(line.into_iter().chain(["sh", "-c", script, &pids]));
    let mut holder = holder.stderr(Stdio::null()).spawn().unwrap();
    let family = its_pids(&world);
    let broken = said(&mut world.lockkeeper(["unlock", "/x", "--identifier", "me", "--force", "--reason", "a test"]));
    assert_eq!(broken.code, Some(0), "{broken:?}");
    assert_eq!(holder.wait().unwrap().code(), Some(79));
    eventually("the command and its child are gone", || !family.into_iter().any(lives));
}

#[test]
fn a_command_whose_lease_is_broken_is_stopped() {
    let world = World::new();
    let line = ["lock", "/x", "--identifier", "me", "--kill-after", "300ms", "--format", "json", "--"];
    // It ignores SIGTERM, so only SIGKILL ends it.
    let script = ["sh", "-c", "trap '' TERM; while :; do sleep 0.05; done"];
    let mut command = world.lockkeeper(line.iter().chain(&script));
    let holder = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("it holds", || world.holders("/x") == ["me"]);
    // It belongs to a process: without force it stays.
    let refused = world.run("unlock /x --identifier me");
    assert_eq!((refused.code, world.holders("/x")), (Some(77), vec!["me".to_owned()]), "{refused:?}");
    let broken = said(&mut world.lockkeeper(["unlock", "/x", "--identifier", "me", "--force", "--reason", "it hangs"]));
    assert_eq!(broken.code, Some(0), "{broken:?}");
    let output = holder.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(79));
    let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(error["error"], "lease-lost");
    assert!(error["message"].as_str().unwrap().contains("broke it: it hangs"), "{error}");
}

#[test]
fn a_waiting_caller_sees_the_holders() {
    let world = World::new();
    assert_eq!(world.run("lock /locks/told --identifier db1").code, Some(0));
    let waited = world.run("--format human lock /locks/told --identifier db2 --timeout 2s -- true");
    assert_eq!(waited.code, Some(75), "{waited:?}");
    let told = "Waiting for a slot of `/locks/told`, 1 in the queue: held by `db1` (";
    assert!(waited.stderr.contains(told), "{waited:?}");
    // A caller that does not wait long sees no such line.
    let refused = world.run("--format human lock /locks/told --identifier db2 --timeout 0 -- true");
    assert!(refused.code == Some(75) && !refused.stderr.contains("Waiting"), "{refused:?}");
}

#[test]
fn a_stopped_waiting_caller_leaves_nothing() {
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let world = World::new();
        assert_eq!(world.run("lock /x --identifier first").code, Some(0));
        let mut waiter = world.lockkeeper("lock /x --identifier second".split(' ')).spawn().unwrap();
        eventually("it queues", || world.run("holders /x").stderr.contains("1 waiting"));
        kill(pid(&waiter), signal).unwrap();
        assert_eq!(waiter.wait().unwrap().code(), Some(code));
        assert!(world.run("holders /x").stderr.contains("0 waiting"));
        assert_eq!(world.holders("/x"), ["first"]);
    }
}

#[test]
fn a_stopped_holder_passes_the_signal_on_and_releases() {
    for (signal, name) in
        [(Signal::SIGTERM, "TERM"), (Signal::SIGINT, "INT"), (Signal::SIGHUP, "HUP"), (Signal::SIGQUIT, "QUIT")]
    {
        for lifetime in [&[][..], &["--ephemeral-lease"]] {
            let world = World::new();
            let ready = world.folder().join("ready");
            let script = format!("trap 'exit 7' {name}; : > \"$0\"; while :; do sleep 0.05; done");
            let mut line = world.lockkeeper(["lock", "/x"]);
            let line = line.args(lifetime).args(["--", "sh", "-c", &script]).arg(&ready);
            let mut holder = line.stderr(Stdio::null()).spawn().unwrap();
            eventually("the command runs", || ready.exists());
            kill(pid(&holder), signal).unwrap();
            assert_eq!(holder.wait().unwrap().code(), Some(7), "{signal} {lifetime:?}");
            assert!(world.holders("/x").is_empty());
        }
    }
}

#[test]
fn a_waiter_that_was_killed_is_not_in_the_way() {
    let world = World::new();
    assert_eq!(world.run("lock /x --identifier first").code, Some(0));
    let line = "lock /x --identifier second --session-timeout 1s";
    let mut killed = world.lockkeeper(line.split(' ')).stderr(Stdio::null()).spawn().unwrap();
    eventually("the second queues", || world.run("holders /x").stderr.contains("1 waiting"));
    let mut third = world.lockkeeper("lock /x --identifier third".split(' '));
    let mut third = third.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("the third queues", || world.run("holders /x").stderr.contains("2 waiting"));
    kill(pid(&killed), Signal::SIGKILL).unwrap();
    killed.wait().unwrap();
    assert_eq!(world.run("unlock /x --identifier first").code, Some(0));
    assert!(third.wait().unwrap().success());
    assert_eq!(world.holders("/x"), ["third"]);
}

#[test]
fn a_command_gets_its_fence_its_input_and_ends_with_its_own_code() {
    let world = World::new();
    let mut line = world.lockkeeper(["lock", "/x", "--identifier", "me", "--quiet", "--"]);
    line.args([
        "sh",
        "-c",
        "read line; echo $line $LOCKKEEPER_SEMAPHORE $LOCKKEEPER_IDENTIFIER $LOCKKEEPER_FENCE; exit 3",
    ]);
    let input = world.file("input", "hello\n");
    line.stdin(fs::File::open(input).unwrap());
    let answer = said(&mut line);
    assert_eq!(answer.code, Some(3));
    let words: Vec<&str> = answer.stdout.split_whitespace().collect();
    assert_eq!(words[..3], ["hello", "/x", "me"]);
    assert!(words[3].parse::<u64>().unwrap() > 0);
    assert!(answer.stderr.is_empty(), "{answer:?}");

    let killed = said(&mut world.lockkeeper(["lock", "/x", "--", "sh", "-c", "kill -KILL $$"]));
    assert_eq!(killed.code, Some(137));
    for ephemeral in [&[][..], &["--ephemeral-lease"]] {
        let mut line = world.lockkeeper(["lock", "/x", "--format", "json"]);
        let missing = said(line.args(ephemeral).args(["--", "no-such-command"]));
        assert_eq!(missing.code, Some(127));
        let error: serde_json::Value = serde_json::from_str(&missing.stderr).expect("one error object");
        assert_eq!(error["error"], "command");
    }
    assert!(world.holders("/x").is_empty());
}

#[test]
fn a_lease_that_outlived_its_process_is_taken_only_by_reenter_and_not_before_its_command_ended() {
    let world = World::new();
    let line = |more: &[&str]| {
        let line = ["lock", "/x", "--identifier", "me", "--persistent", "--format", "json"];
        world.lockkeeper([&line[..], more].concat())
    };
    let (pid_file, end) = (world.folder().join("pid"), world.folder().join("end"));
    let script = "echo $$ $LOCKKEEPER_FENCE >\"$0\"; until [ -e \"$1\" ]; do sleep 0.02; done";
    let (pid_name, end_name) = (pid_file.display().to_string(), end.display().to_string());
    let mut holder = line(&["--", "sh", "-c", script, &pid_name, &end_name]).stderr(Stdio::null()).spawn().unwrap();
    eventually("it runs", || fs::read_to_string(&pid_file).is_ok_and(|text| text.ends_with('\n')));
    let text = fs::read_to_string(&pid_file).unwrap();
    let (command, fence) = text.trim().split_once(' ').unwrap();
    let (command, fence): (i32, u64) = (command.parse().unwrap(), fence.parse().unwrap());
    let command = Pid::from_raw(command);
    holder.kill().unwrap();
    holder.wait().unwrap();
    // The command continues under the lease: neither a second command nor `--reenter` nor `unlock` gets the lease.
    let is_refused = |said: Said, kind: &str| {
        let error: serde_json::Value = serde_json::from_str(said.stderr.lines().last().unwrap()).unwrap();
        assert_eq!(error["error"], kind, "{said:?}");
    };
    is_refused(said(&mut line(&["--timeout", "0", "--", "true"])), "held");
    is_refused(said(&mut line(&["--reenter", "--", "true"])), "held");
    is_refused(said(&mut world.lockkeeper(["unlock", "/x", "--identifier", "me", "--format", "json"])), "owned");
    fs::write(&end, "").unwrap();
    eventually("the command has ended", || !lives(command));
    // A lease that outlived its process is refused at once, and replaced under a later fence.
    is_refused(said(&mut line(&["--", "true"])), "held");
    let later = format!("test $LOCKKEEPER_FENCE -gt {fence}");
    assert_eq!(said(&mut line(&["--reenter", "--", "sh", "-c", &later])).code, Some(0));
    assert!(world.holders("/x").is_empty());
}

#[test]
fn a_broken_lease_names_the_command_that_nothing_stops() {
    let world = World::new();
    let pid_file = world.folder().join("pid");
    let script = "echo $$ >\"$0\"; exec sleep 600";
    let pid_name = pid_file.display().to_string();
    let line = ["lock", "/x", "--persistent", "--", "sh", "-c", script, &pid_name];
    let mut holder = world.lockkeeper(line).stderr(Stdio::null()).spawn().unwrap();
    eventually("it runs", || fs::read_to_string(&pid_file).is_ok_and(|text| text.ends_with('\n')));
    let command: i32 = fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap();
    holder.kill().unwrap();
    holder.wait().unwrap();
    let broken = said(&mut world.lockkeeper(["unlock", "/x", "--force", "--reason", "gone"]));
    let still_lives = lives(Pid::from_raw(command));
    let _ = nix::sys::signal::kill(Pid::from_raw(command), nix::sys::signal::Signal::SIGKILL);
    assert!(still_lives, "nothing stops it");
    assert_eq!(broken.code, Some(0), "{broken:?}");
    assert!(broken.stderr.contains(&format!("process {command} on ")), "{broken:?}");
}

/// A mistyped path leaves nothing behind that would refuse the semaphores below it.
#[test]
fn a_folder_of_semaphores_is_no_semaphore_and_stays_none() {
    let world = World::new();
    for path in ["/locks/a", "/deep/folder/b"] {
        assert_eq!(said(&mut world.lockkeeper(["lock", path, "--", "true"])).code, Some(0));
    }
    for folder in ["/locks", "/deep"] {
        let refused = world.run(&format!("lock {folder} --timeout 0 -- true"));
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.stderr.contains("lies below it"), "{refused:?}");
        assert_eq!(world.run(&format!("semaphore resize {folder} 3")).code, Some(2));
    }
    assert_eq!(world.run("holders /locks").code, Some(2));
    assert_eq!(world.run("semaphore show /locks").code, Some(2));
    assert_eq!(world.run("holders /lockkeeper").code, Some(0));
    for own in ["/lockkeeper", "/lockkeeper/x"] {
        assert_eq!(world.run(&format!("lock {own} --timeout 0 -- true")).code, Some(2));
    }
    for path in ["/locks/a", "/locks/c", "/deep/folder/b"] {
        assert_eq!(said(&mut world.lockkeeper(["lock", path, "--", "true"])).code, Some(0));
    }
}

#[test]
fn a_forced_lease_records_operator_reason_and_time() {
    let world = World::new();
    assert_eq!(world.run("lock /x --identifier first").code, Some(0));
    let forced = said(&mut world.lockkeeper(["lock", "/x", "--identifier", "boss", "--force", "--reason", "it burns"]));
    assert_eq!(forced.code, Some(0));
    let rows = world.json("holders /x");
    let rows = &rows["holders"];
    assert_eq!(rows.as_array().unwrap().len(), 2);
    assert_eq!(rows[0]["forced"], serde_json::Value::Null);
    assert_eq!(rows[1]["forced"]["reason"], "it burns");
    assert!(rows[1]["forced"]["at"].as_u64().unwrap() > 1_600_000_000_000);
    assert!(world.run("holders /x").stdout.contains("it burns"));
}

#[test]
fn a_member_is_one_while_its_command_runs() {
    for kind in ["shallow", "party"] {
        let world = World::new();
        let line = format!("party join /party --identifier web01 --kind {kind} --session-timeout 1s --");
        let mut member = world.lockkeeper(line.split(' '));
        let mut member = member.args(family(&world, "")).stderr(Stdio::null()).spawn().unwrap();
        let family = its_pids(&world);
        let members = || world.json("party members /party").as_array().unwrap().len();
        assert_eq!(members(), 1);
        assert_eq!(world.run("party members /party --min-nodes 1").code, Some(0));
        assert_eq!(world.run("party members /party --min-nodes 2 --timeout 50ms").code, Some(75));
        kill(pid(&member), Signal::SIGKILL).unwrap();
        member.wait().unwrap();
        eventually("it is no member any more", || members() == 0);
        eventually("its command is gone", || !family.into_iter().any(lives));

        let gone = world.run("party join /party --identifier web02 -- true");
        assert_eq!(gone.code, Some(0));
        assert_eq!(members(), 0);
    }
}

#[test]
fn a_caller_that_waits_for_members_sees_them() {
    let world = World::new();
    let mut waiting = world.lockkeeper("party members /party --min-nodes 2 --format json".split(' '));
    let waiting = waiting.stdout(Stdio::piped()).spawn().unwrap();
    let join = |name: &str| {
        let line = format!("party join /party --identifier {name} --format json");
        let mut member = world.lockkeeper(line.split(' ')).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(member.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&said).unwrap()["joined"], true);
        member
    };
    let members = [join("web01"), join("web02")];
    let output = waiting.wait_with_output().unwrap();
    assert!(output.status.success());
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 2, "{rows}");
    for mut member in members {
        kill(pid(&member), Signal::SIGINT).unwrap();
        assert!(member.wait().unwrap().success());
    }
    assert!(world.json("party members /party").as_array().unwrap().is_empty());
}

#[test]
fn a_member_whose_session_was_lost_joins_again() {
    let world = World::new();
    let line = "party join /party --identifier web01 --session-timeout 1s";
    let mut member = world.lockkeeper(line.split(' ')).spawn().unwrap();
    let members = || world.json("party members /party").as_array().unwrap().len();
    eventually("it is a member", || members() == 1);
    kill(pid(&member), Signal::SIGSTOP).unwrap();
    eventually("it is given up", || members() == 0);
    kill(pid(&member), Signal::SIGCONT).unwrap();
    eventually("it is back", || members() == 1);
    kill(pid(&member), Signal::SIGTERM).unwrap();
    assert!(member.wait().unwrap().success());
    assert_eq!(members(), 0);
}
