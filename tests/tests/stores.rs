//! Which store a command uses and prints, what accounts share, and that printed commands can be pasted.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use lockkeeper_tests::{Said, World, binaries, eventually, said};
use serde_json::Value;

const JOB: &str = r#"
name = "job"
[semaphore]
path = "/locks/job"
[targets]
hosts = ["a"]
[policy]
use = "rolling"
[action]
run = ["true"]
"#;

/// A command of an account that has a home and a state folder of its own, with a system-wide file.
fn as_account(world: &World, account: &str, line: &str) -> Said {
    let mut command = world.lockkeeper(line.split(' '));
    command.current_dir(world.folder());
    command.env("LOCKKEEPER_STATE_DIR", world.folder().join(account));
    command.env("LOCKKEEPER_SYSTEM_CONFIG", world.folder().join("system.toml"));
    said(&mut command)
}

#[test]
fn one_file_names_the_store_of_all_accounts() {
    let world = World::new();
    world.file("system.toml", "[store]\nfile = \"shared.db\"\nsession-timeout = \"5s\"\n");
    let first = as_account(&world, "ann", "lock /locks/x --identifier a");
    assert_eq!(first.code, Some(0), "{first:?}");
    let place = world.folder().join("shared.db").display().to_string();
    let system = world.folder().join("system.toml").display().to_string();
    assert!(first.stderr.contains(&format!("Store the file `{place}`, from `{system}`")), "{first:?}");
    let second = as_account(&world, "bob", "lock /locks/x --identifier b --timeout 0");
    assert_eq!(second.code, Some(75), "{second:?}");
    // The printed next command uses the same store without further options.
    assert!(second.stderr.contains("`lockkeeper holders /locks/x`"), "{second:?}");
    assert!(!world.folder().join("bob/store.db").exists() && !world.folder().join("ann/store.db").exists());
}

#[test]
fn the_nearest_says_where_the_store_is() {
    let world = World::new();
    world.file("system.toml", "[store]\nfile = \"/nowhere/system.db\"\n[profile.all]\nzk-hosts = \"all:1\"\n");
    world.file("job.toml", JOB);
    world.file("job-of-hosts.toml", &format!("{JOB}[store]\nzk-hosts = \"job:1\"\n"));
    let place = |line: &str, variables: &[(&str, &str)]| {
        let mut command = world.lockkeeper(line.split(' '));
        command.current_dir(world.folder()).envs(variables.iter().copied());
        let answer = said(command.env("LOCKKEEPER_SYSTEM_CONFIG", world.folder().join("system.toml")));
        assert_eq!(answer.code, Some(0), "{answer:?}");
        let line = answer.stderr.lines().find_map(|line| line.trim_start().strip_prefix("Store ").map(str::to_owned));
        line.unwrap_or_else(|| panic!("{answer:?}"))
    };
    let environment = [("LOCKKEEPER_STORE", "/env.db")];
    assert_eq!(place("check job.toml --store /flag.db", &environment), "the file `/flag.db`");
    assert_eq!(place("check job-of-hosts.toml", &environment), "ZooKeeper at `job:1`, from the job");
    assert_eq!(place("check job.toml", &environment), "the file `/env.db`, from LOCKKEEPER_STORE");
    let system = world.folder().join("system.toml").display().to_string();
    assert_eq!(place("check job.toml", &[]), format!("the file `/nowhere/system.db`, from `{system}`"));
    // Profiles there are everybody's.
    assert_eq!(place("check job.toml --profile all", &[]), "ZooKeeper at `all:1`, from profile `all`");
    world.file("system.toml", "[store]\nprofile = \"all\"\n[profile.all]\nzk-hosts = \"all:1\"\n");
    assert_eq!(place("check job.toml", &[]), format!("ZooKeeper at `all:1`, from `{system}`"));
    world.file("system.toml", "");
    let default = world.folder().join("state/store.db").display().to_string();
    assert_eq!(place("check job.toml", &[]), format!("the file `{default}`, the default"));
}

#[test]
fn a_system_wide_file_that_cannot_be_used_is_no_other_store() {
    let world = World::new();
    world.file("system.toml", "[store]\nfile = \"a.db\"\nzk-hosts = \"zk1\"\n");
    for line in ["lock /x", "holders /x", "lock /x --profile prod"] {
        let answer = as_account(&world, "ann", line);
        assert_eq!(answer.code, Some(2), "{line}: {answer:?}");
        for part in ["system.toml:3:", "store.zk-hosts", "not both"] {
            assert!(answer.stderr.contains(part), "{line}: {part}: {answer:?}");
        }
    }
    // A command with a store option does not need it.
    assert_eq!(as_account(&world, "ann", "lock /x --store own.db").code, Some(0));
    fs::remove_file(world.folder().join("system.toml")).unwrap();
    let gone = as_account(&world, "ann", "lock /x");
    assert_eq!(gone.code, Some(2), "{gone:?}");
    assert!(gone.stderr.contains("cannot read the system-wide configuration"), "{gone:?}");
    assert!(!world.folder().join("ann").exists());
}

#[test]
fn a_default_store_is_announced() {
    let world = World::new();
    world.file("job.toml", JOB);
    let place = world.folder().join("state/store.db").display().to_string();
    let default = format!("Store the file `{place}`, the default\n");
    for line in [
        "lock /x --identifier me",
        "holders /x",
        "unlock /x --identifier me",
        "lock /x -- true",
        "run job.toml",
        "status",
        "status latest",
        "party members /p",
        "party join /p -- true",
        "plan job.toml",
        "prune",
    ] {
        let run = |more: &str| {
            let words = line.split(' ').chain(more.split(' ')).filter(|word| !word.is_empty());
            // Options come before a command.
            let (ours, theirs): (Vec<&str>, Vec<&str>) = match line.split_once(" -- ") {
                Some((ours, theirs)) => (ours.split(' ').chain(more.split(' ')).collect(), vec!["--", theirs]),
                None => (words.collect(), Vec::new()),
            };
            let words = ours.into_iter().filter(|word| !word.is_empty()).chain(theirs);
            said(world.lockkeeper(words).current_dir(world.folder()))
        };
        let answer = run("");
        assert_eq!(answer.code, Some(0), "{line}: {answer:?}");
        assert_eq!(answer.stderr.matches(&default).count(), 1, "{line}: {answer:?}");
        assert!(!answer.stdout.contains("store.db"), "{line}: {answer:?}");
        assert!(!run("--quiet").stderr.contains("Store "), "{line}");
    }
    let named = world.run(&format!("lock /y --store {place}"));
    assert!(!named.stderr.contains("Store "), "{named:?}");
    let by_variable = said(world.lockkeeper(["lock", "/z"]).env("LOCKKEEPER_STORE", &place));
    assert!(by_variable.stderr.contains("from LOCKKEEPER_STORE"), "{by_variable:?}");
}

#[test]
fn what_only_looks_makes_nothing() {
    let world = World::new();
    let state = world.folder().join("state");
    for (line, code) in [
        ("holders /x", 0),
        ("holders /x --format json", 0),
        ("unlock /x", 1),
        ("status", 0),
        ("status latest", 2),
        ("pause latest", 2),
        ("party members /p", 0),
        ("party members /p --min-nodes 1 --timeout 300ms", 75),
        ("party members /p --blocking --timeout 0.3", 75),
        ("prune", 0),
        ("explain latest web01", 2),
        ("replay latest", 2),
    ] {
        let answer = world.run(line);
        assert_eq!(answer.code, Some(code), "{line}: {answer:?}");
        assert!(!state.exists(), "{line}: {answer:?}");
        let looks = !line.contains("json") && !line.starts_with("explain") && !line.starts_with("replay");
        assert!(!looks || answer.stderr.contains("is not there yet"), "{line}: {answer:?}");
        let named = said(&mut world.lockkeeper(line.split(' ').chain(["--store", "/nowhere/at/all.db"])));
        assert_eq!(named.code, Some(code), "{line}: {named:?}");
        assert!(!Path::new("/nowhere").exists());
    }
    // A caller that waits for members sees them in a store that others create.
    let mut waiting = world.lockkeeper("party members /p --min-nodes 1 --format json".split(' '));
    let waiting = waiting.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let joined = world.run("party join /p --identifier web01 -- sleep 2");
    assert_eq!(joined.code, Some(0), "{joined:?}");
    let seen = waiting.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&seen.stdout).contains("web01"), "{seen:?}");
}

/// `lockkeeper` as another account, in one group; `None` where this account cannot become another.
struct Accounts {
    world: World,
    group: u32,
}

impl Accounts {
    fn new() -> Option<Self> {
        let world = World::new();
        fs::set_permissions(world.folder(), Permissions::from_mode(0o755)).unwrap();
        let accounts = Self { world, group: 60_111 };
        let can = nix_is_root() && said(&mut accounts.command(60_001, &["--version"])).code == Some(0);
        if !can {
            lockkeeper_tests::skipped("this account cannot become another");
        }
        can.then_some(accounts)
    }

    fn command(&self, account: u32, arguments: &[&str]) -> Command {
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={account}"), format!("--regid={account}"), format!("--groups={}", self.group)]);
        command.arg(binaries().join("lockkeeper")).args(arguments);
        command.env_clear().env("HOME", self.world.folder()).env("LOCKKEEPER_SYSTEM_CONFIG", "/dev/null");
        command.env("PATH", "/usr/bin:/bin").stdin(Stdio::null()).current_dir("/");
        command
    }

    fn run(&self, account: u32, line: &str) -> Said {
        said(&mut self.command(account, &line.split(' ').collect::<Vec<_>>()))
    }

    fn folder(&self, name: &str, owner: u32, mode: u32) -> String {
        let folder = self.world.folder().join(name);
        fs::create_dir(&folder).unwrap();
        chown(&folder, Some(owner), Some(self.group)).unwrap();
        fs::set_permissions(&folder, Permissions::from_mode(mode)).unwrap();
        folder.display().to_string()
    }
}

fn nix_is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

#[test]
fn accounts_of_one_group_share_a_store_in_its_folder() {
    let Some(accounts) = Accounts::new() else { return };
    let folder = accounts.folder("shared", 0, 0o2770);
    let store = format!("{folder}/store.db");
    // While one holds a lease, everything that SQLite needs is there.
    let mut holder =
        accounts.command(60_001, &["--store", &store, "lock", "/x", "--identifier", "a", "--", "sleep", "60"]);
    let mut holder = holder.stderr(Stdio::null()).spawn().unwrap();
    eventually("a lease", || {
        accounts.run(60_001, &format!("--store {store} holders /x --format json")).stdout.contains("\"a\"")
    });
    for end in ["", "-wal", "-shm"] {
        let metadata = fs::metadata(format!("{store}{end}")).unwrap();
        assert_eq!((metadata.mode() & 0o777, metadata.gid(), metadata.uid()), (0o660, accounts.group, 60_001), "{end}");
    }
    let refused = accounts.run(60_002, &format!("--store {store} lock /x --identifier b --timeout 0"));
    assert_eq!(refused.code, Some(75), "{refused:?}");
    let other = accounts.run(60_002, &format!("--store {store} lock /y --identifier b"));
    assert_eq!(other.code, Some(0), "{other:?}");
    holder.kill().unwrap();
    holder.wait().unwrap();
    // Files that the last caller leaves and the next creates belong to the group again, whatever account that is.
    for account in [60_002, 60_001, 0] {
        let line = format!("--store {store} unlock /y --identifier b");
        let again = format!("--store {store} lock /y --identifier b");
        assert_eq!(accounts.run(account, &line).code, Some(0), "{account}");
        assert_eq!(accounts.run(account, &again).code, Some(0), "{account}");
    }
    assert_eq!(fs::metadata(&store).unwrap().mode() & 0o777, 0o660);
}

#[test]
fn a_store_for_its_owner_only_says_whose_it_is() {
    let Some(accounts) = Accounts::new() else { return };
    let open = accounts.folder("open", 0, 0o1777);
    let store = format!("{open}/s.db");
    assert_eq!(accounts.run(60_001, &format!("--store {store} lock /x --identifier r")).code, Some(0));
    assert_eq!(fs::metadata(&store).unwrap().mode() & 0o777, 0o600);
    let shut = accounts.folder("shut", 0, 0o700);
    let fixed = accounts.folder("fixed", 0, 0o755);
    for (line, parts) in [
        (format!("--store {store} holders /x"), [store.as_str(), "user 60001", "mode 0600", "`chgrp GROUP"]),
        (format!("--store {store} lock /x --timeout 0"), [store.as_str(), "user 60001", "mode 0600", "`chgrp GROUP"]),
        (format!("--store {shut}/s.db holders /x"), [shut.as_str(), "`root`", "mode 0700", "may not enter"]),
        (format!("--store {fixed}/s.db lock /x"), [fixed.as_str(), "`root`", "mode 0755", "may not make files in"]),
        (format!("--store {fixed}/a/s.db lock /x"), [fixed.as_str(), "`root`", "mode 0755", "may not make files in"]),
    ] {
        let answer = accounts.run(60_002, &line);
        assert_eq!(answer.code, Some(77), "{line}: {answer:?}");
        assert!(answer.stderr.contains("permission denied: user 60002"), "{line}: {answer:?}");
        for part in parts {
            assert!(answer.stderr.contains(part), "{line}: {part}: {answer:?}");
        }
    }
}

/// The first command that a hint names, as words for the binary.
fn pasted(hint: &str) -> Vec<String> {
    let command = hint.split("`lockkeeper ").nth(1).unwrap_or_else(|| panic!("no command in {hint}"));
    shlex::split(command.split('`').next().unwrap()).unwrap()
}

fn hint(answer: &Said) -> String {
    let error: Value = serde_json::from_str(&answer.stderr).unwrap_or_else(|_| panic!("{answer:?}"));
    error["hint"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

#[test]
fn what_a_hint_says_can_be_pasted() {
    let world = World::new();
    let store = world.folder().join("my store.db").display().to_string();
    let state = world.folder().join("other state").display().to_string();
    for options in
        [vec!["--store", &store], vec!["--state-dir", &state], vec!["--store", &store, "--session-timeout", "20s"]]
    {
        let run = |line: &str| {
            let words = line.split(' ').chain(options.iter().copied());
            said(world.lockkeeper(words).current_dir(world.folder()))
        };
        run("unlock /x --identifier a");
        assert_eq!(run("lock /x --identifier a").code, Some(0));
        let refused = run("lock /x --identifier b --timeout 0 --format json");
        let words = pasted(&hint(&refused));
        for option in &options {
            assert!(words.iter().any(|word| word == option), "{words:?}");
        }
        let shown =
            said(world.lockkeeper(words.iter().map(String::as_str).chain(["--format", "json"])).current_dir("/"));
        assert!(shown.stdout.contains("\"a\""), "{shown:?}");
    }
    // Selected by a variable: the next command may not have it.
    let by_variable = |line: &str| said(world.lockkeeper(line.split(' ')).env("LOCKKEEPER_STORE", &store));
    let refused = by_variable("lock /x --identifier b --timeout 0 --format json");
    let shown =
        said(&mut world.lockkeeper(pasted(&hint(&refused)).iter().map(String::as_str).chain(["--format", "json"])));
    assert!(shown.stdout.contains("\"a\""), "{shown:?}");
    let human = by_variable("lock /x --identifier b --timeout 0");
    assert!(human.stderr.contains(&format!("`lockkeeper holders /x --store '{store}'`")), "{human:?}");
}

#[test]
fn misplaced_servers_get_a_hint() {
    let world = World::new();
    for (line, meant) in [
        ("lock /x host1:1234,host2:1234", "lock /x --zk-hosts host1:1234,host2:1234"),
        ("lock /x host1:1234/fleet --timeout 3", "lock /x --zk-hosts host1:1234/fleet --timeout 3"),
        ("unlock /x zk1", "unlock /x --zk-hosts zk1"),
        ("lock_holders /x [::1]:2181", "lock_holders /x --zk-hosts '[::1]:2181'"),
        ("party_members /x host1:1234,host2:1234", "party_members /x --zk-hosts host1:1234,host2:1234"),
        ("party members /x zk1,zk2", "party members /x --zk-hosts zk1,zk2"),
        ("party_members /x min_nodes=3", "party_members /x --min-nodes 3"),
        ("party_members /x blocking=True", "party_members /x --blocking"),
        ("lock /x max_concurrency=4", "lock /x --max-concurrency 4"),
        ("lock /x password=hunter2", "lock /x --password-file FILE"),
    ] {
        let answer = world.run(&format!("{line} --format json"));
        assert_eq!(answer.code, Some(2), "{line}: {answer:?}");
        let hint = hint(&answer);
        assert_eq!(hint, format!("`lockkeeper {meant} --format json`"), "{line}");
        assert!(!answer.stderr.contains("hunter2"), "{answer:?}");
    }
    // What may be a command is taken for one.
    for line in ["lock /x ./backup.sh", "lock /x backup"] {
        let answer = world.run(line);
        assert!(answer.stderr.contains("stands behind `--`") && !answer.stderr.contains("--zk-hosts"), "{answer:?}");
    }
    assert!(!world.folder().join("state").exists());
}

#[test]
fn salts_spellings_are_taken() {
    let world = World::new();
    let run = |line: &str| world.run(&format!("{line} --format json"));
    assert_eq!(run("lock /x --identifier a --max_concurrency 1 --timeout 30").code, Some(0));
    assert_eq!(run("lock /x --identifier b --timeout 0").code, Some(75));
    assert_eq!(run("lock /x --identifier b --timeout 0.2").code, Some(75));
    assert!(run("lock_holders /x").stdout.contains("\"a\""));
    assert!(run("lock-holders /x").stdout.contains("\"a\""));
    for line in ["party_members /p", "party-members /p", "party_members /p --min_nodes 3 --blocking=False"] {
        assert_eq!(run(line).stdout.trim(), "[]", "{line}");
    }
    for line in
        ["party_members /p --min_nodes 3 --blocking --timeout 1", "party_members /p --blocking=True --timeout 0.1"]
    {
        assert_eq!(run(line).code, Some(75), "{line}");
    }
    let ephemeral = run("lock /y --ephemeral_lease --timeout 5 -- true");
    assert_eq!(ephemeral.code, Some(0), "{ephemeral:?}");
    for line in ["lock /x --timeout -1", "lock /x --timeout 1e9", "lock /x --timeout .", "lock /x --timeout nan"] {
        assert_eq!(run(line).code, Some(2), "{line}");
    }
}

#[test]
fn connection_strings_and_access_control_name_the_part_that_is_wrong() {
    let world = World::new();
    for (option, value, parts) in [
        ("--zk-hosts", "zk1:2181/a,zk2:2181/a", ["the chroot stands once, at the end", "`zk1:2181,zk2:2181/a`"]),
        ("--zk-hosts", "zk1/a,zk2/b", ["the chroot stands once, at the end", "the same for all servers"]),
        ("--zk-hosts", "zk1:2181;zk2:2181", ["separate hosts by commas", "';'"]),
        ("--zk-hosts", "zk1:2181:zk2:2181", ["separate hosts by commas", "':'"]),
        ("--default-acl", "World:anyone:cdrwa", ["entry 1, `World:anyone:cdrwa`", "small letters, `world`"]),
        ("--default-acl", "auth::r,ip:web01:r", ["entry 2, `ip:web01:r`", "`web01` is no address"]),
        ("--default-acl", "world:anyone:r,digest:u:hunter2:r", ["entry 2, `digest:…`", "the hash"]),
    ] {
        let mut words = vec!["holders", "/x", option, value, "--format", "json"];
        if option == "--default-acl" {
            words.extend(["--zk-hosts", "zk1"]);
        }
        let answer = said(&mut world.lockkeeper(&words));
        assert_eq!(answer.code, Some(2), "{value}: {answer:?}");
        for part in parts {
            assert!(answer.stderr.contains(part), "{value}: {part}: {answer:?}");
        }
        assert!(!answer.stderr.contains("hunter2"), "{answer:?}");
    }
    // A job is reported at its place, a variable by its name.
    world.file("job.toml", &format!("{JOB}[store]\nzk-hosts = \"zk1/a,zk2/a\"\n"));
    let job = said(world.lockkeeper(["check", "job.toml"]).current_dir(world.folder()));
    assert_eq!(job.code, Some(2), "{job:?}");
    assert!(job.stderr.contains("store.zk-hosts") && job.stderr.contains("at the end"), "{job:?}");
    let variable = said(world.lockkeeper(["holders", "/x"]).env("LOCKKEEPER_ZK_HOSTS", "zk1;zk2"));
    assert_eq!(variable.code, Some(2), "{variable:?}");
    assert!(variable.stderr.contains("LOCKKEEPER_ZK_HOSTS") && variable.stderr.contains("commas"), "{variable:?}");
}

/// Answers each connection with a text, after some input or at once, and closes it.
fn speaking(text: &'static str, listens: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut heard = Vec::new();
                let mut part = [0; 64];
                // Like a web server, which reads lines.
                while listens && !heard.contains(&b'\n') {
                    match stream.read(&mut part) {
                        Ok(read) if read > 0 => heard.extend_from_slice(&part[..read]),
                        _ => return,
                    }
                }
                let _ = stream.write_all(text.as_bytes());
            });
        }
    });
    address
}

#[test]
fn what_answers_in_place_of_zookeeper_is_named() {
    let world = World::new();
    let web = speaking("HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n", true);
    let ssh = speaking("SSH-2.0-OpenSSH_9.2p1\r\n", false);
    let other = speaking("+OK ready\r\n", false);
    let closing = speaking("", false);
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let mute_at = mute.local_addr().unwrap().to_string();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let hosts = [&web, &ssh, &other, &closing, &mute_at, &gone].map(String::as_str).join(",");
    let line =
        format!("lock /x --zk-hosts {hosts},no-such-host.invalid --connect-timeout 4s --timeout 0 --format json");
    let answer = world.run(&line);
    assert_eq!(answer.code, Some(69), "{answer:?}");
    let error: Value = serde_json::from_str(&answer.stderr).unwrap();
    let message = error["message"].as_str().unwrap();
    for (server, cause) in [
        (&web, "is not a ZooKeeper but an HTTP server: it answers `HTTP/1.1 400 Bad Request`"),
        (&ssh, "is not a ZooKeeper but an SSH server"),
        (&other, "is not a ZooKeeper: it answers `+OK ready`"),
        (&closing, "closes each connection without an answer"),
        (&mute_at, "takes connections and answers nothing"),
        (&gone, "refuses connections"),
        (&"no-such-host.invalid:2181".to_owned(), "has no address"),
    ] {
        assert!(message.contains(&format!("{server} {cause}")), "{server} {cause}: {message}");
    }
}
