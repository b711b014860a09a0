//! Lockkeeper, real kazoo and real Salt on the same paths of a real server: each finds, counts and releases what the
//! others created.
//!
//! `LOCKKEEPER_LONG=1` makes the contention last for thousands of hand-overs.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says by panicking what is wrong, and prints what it saw"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use lockkeeper_coordination::recipe::{Acquired, Identifier, Patience, Semaphore};
use lockkeeper_coordination::store::{Connect as _, Lifetime, NodePath};
use lockkeeper_coordination::zookeeper::{Hosts, ZooKeeper, ZooKeeperOptions};
use lockkeeper_tests::proxy::{Proxy, opcode};
use lockkeeper_tests::python::{self, Python, Running};
use lockkeeper_tests::txnlog::{Change, What, history};
use lockkeeper_tests::zookeeper::{self, Ensemble, Options, Server};
use lockkeeper_tests::{Said, World, eventually, said};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// An identifier that is more than ASCII, has blanks, and dashes as the names of shallow members have.
const STRANGE: &str = "wéb-01 ☃-b'x'";

/// The three tools on one server.
struct Three {
    world: World,
    hosts: String,
    python: Python,
    /// Of every `lockkeeper`.
    flags: Vec<String>,
}

impl Three {
    /// On the server that all tests share. None where there is no server, or no kazoo.
    fn new() -> Option<Self> {
        (zookeeper::available() && python::available()).then(|| Self::on(&zookeeper::shared().hosts()))
    }

    fn on(hosts: &str) -> Self {
        let python = Python::on(hosts);
        Self { world: World::new(), hosts: hosts.to_owned(), python, flags: Vec::new() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let (command, rest) = arguments.split_first().unwrap();
        // Flags come before the `--` that starts a command.
        let mut line = self.world.lockkeeper([command, "--zk-hosts", &self.hosts, "--format", "json"]);
        line.args(&self.flags).args(rest);
        line
    }

    fn lockkeeper(&self, arguments: &[&str]) -> Said {
        said(&mut self.command(arguments))
    }

    /// What it printed; it must have gone well.
    fn done(&self, arguments: &[&str]) -> Value {
        let said = self.lockkeeper(arguments);
        assert_eq!(said.code, Some(0), "{arguments:?}: {said:?}");
        serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {said:?}"))
    }

    /// Its error; it must have ended with this code.
    fn error(&self, code: i32, arguments: &[&str]) -> Value {
        let said = self.lockkeeper(arguments);
        assert_eq!(said.code, Some(code), "{arguments:?}: {said:?}");
        serde_json::from_str(said.stderr.lines().last().unwrap()).unwrap()
    }

    fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// The holders that `lockkeeper` shows, with whether their leases are ephemeral.
    fn holders(&self, path: &str) -> BTreeSet<(String, bool)> {
        let rows = &self.done(&["holders", path])["holders"];
        let row = |row: &Value| (row["identifier"].as_str().unwrap().to_owned(), row["ephemeral"].as_bool().unwrap());
        rows.as_array().unwrap().iter().map(row).collect()
    }

    fn kazoo(&self, arguments: &[&str]) -> Value {
        self.python.json("kazoo_cli", arguments)
    }

    /// A kazoo process that has reported what it acquired, and runs until it is stopped.
    fn kazoo_holds(&self, arguments: &[&str], said: Value) -> Running {
        let mut running = self.python.spawn("kazoo_cli", arguments);
        assert_eq!(running.answer(), Some(said));
        running
    }

    fn salt(&self, function: &str, arguments: Value) -> Value {
        self.python.json("salt_cli", [function, &arguments.to_string()])
    }

    fn salt_error(&self, function: &str, arguments: Value) -> (String, String) {
        self.python.error("salt_cli", [function, &arguments.to_string()])
    }

    fn tree(&self, path: &str) -> Vec<Value> {
        self.kazoo(&["tree", path]).as_array().unwrap().clone()
    }

    /// Nothing below a semaphore nor in its queue.
    fn is_clean(&self, path: &str) -> bool {
        self.tree(path).len() == 1 && self.tree(&format!("{path}-__lock__")).len() <= 1
    }
}

fn sorted(list: &Value) -> Vec<&str> {
    let mut list: Vec<&str> = list.as_array().unwrap().iter().map(|item| item.as_str().unwrap()).collect();
    list.sort_unstable();
    list
}

fn is_hex32(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn output(child: Child) -> Said {
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

#[test]
fn what_salt_took_is_found_held_again_and_given_back() {
    let Some(three) = Three::new() else { return };
    for (index, identifier) in ["minion1", STRANGE].into_iter().enumerate() {
        let path = format!("/from-salt/{index}");
        let lease = json!({ "path": path, "identifier": identifier, "max_concurrency": 2 });
        assert_eq!(three.salt("lock", lease.clone()), true);
        assert_eq!(three.holders(&path), BTreeSet::from([(identifier.to_owned(), false)]));
        let again =
            three.done(&["lock", &path, "--identifier", identifier, "--max-concurrency", "2", "--timeout", "0"]);
        assert_eq!(again["already-held"], true);
        assert_eq!(three.tree(&path).len(), 2, "the path and one lease");
        let fence = &three.tree(&path)[1]["czxid"];
        assert_eq!(&again["fence"], fence);
        three.done(&["unlock", &path, "--identifier", identifier]);
        assert_eq!(three.salt("lock_holders", json!({ "path": path })), json!([]));
        let error = three.error(1, &["unlock", &path, "--identifier", identifier]);
        assert_eq!(error["error"], "not-held");
        assert_eq!(three.salt("lock", lease), true, "and it can be had again");
        assert_eq!(three.tree(&format!("{path}-__lock__")).len(), 1, "nobody is in the queue");
    }
}

#[test]
fn what_lockkeeper_took_salt_finds_holds_again_and_gives_back() {
    let Some(three) = Three::new() else { return };
    for (index, identifier) in ["minion1", STRANGE].into_iter().enumerate() {
        let path = format!("/from-lockkeeper/{index}");
        let taken = three.done(&["lock", &path, "--identifier", identifier, "--max-concurrency", "2"]);
        assert_eq!(taken["already-held"], false);
        let tree = three.tree(&path);
        assert_eq!(tree.len(), 2, "{tree:?}");
        assert_eq!((&tree[0]["data"], &tree[0]["version"]), (&json!("2"), &json!(0)), "made with its number at once");
        assert_eq!((&tree[1]["data"], &tree[1]["ephemeral"]), (&json!(identifier), &json!(false)));
        let name = tree[1]["path"].as_str().unwrap().rsplit_once('/').unwrap().1;
        assert!(is_hex32(name), "{name}");

        let lease = json!({ "path": path, "identifier": identifier, "max_concurrency": 2 });
        assert_eq!(three.salt("lock_holders", json!({ "path": path })), json!([identifier]));
        assert_eq!(three.salt("lock", lease.clone()), true);
        assert_eq!(three.tree(&path), tree, "it took no second one");
        assert_eq!(three.salt("unlock", lease), true);
        assert_eq!(three.holders(&path), BTreeSet::new());
        assert!(three.is_clean(&path));
    }
}

#[test]
fn each_counts_what_the_others_hold_and_lists_it() {
    let Some(three) = Three::new() else { return };
    let path = "/listed/by-all";
    let kazoo = three.kazoo_holds(&["lock", path, "kazoo", "--slots", "4"], json!({ "held": true }));
    assert_eq!(three.salt("lock", json!({ "path": path, "identifier": "salt", "max_concurrency": 4 })), true);
    three.done(&["lock", path, "--identifier", "lasting", "--max-concurrency", "4"]);
    let line = ["lock", path, "--identifier", STRANGE, "--max-concurrency", "4", "--ephemeral-lease", "--", "cat"];
    let mut passing = three.spawn(&line);
    eventually("the ephemeral lease", || three.holders(path).len() == 4);
    let expected = [("kazoo", true), ("lasting", false), ("salt", false), (STRANGE, true)];
    let expected = expected.map(|(name, ephemeral)| (name.to_owned(), ephemeral));
    assert_eq!(three.holders(path), BTreeSet::from(expected.clone()));
    let mut names = expected.each_ref().map(|(name, _)| name.as_str());
    names.sort_unstable();
    assert_eq!(sorted(&three.kazoo(&["holders", path, "--slots", "4"])), names);
    assert_eq!(sorted(&three.salt("lock_holders", json!({ "path": path }))), names);

    // It is full for everybody.
    let full = three.error(75, &["lock", path, "--identifier", "late", "--max-concurrency", "4", "--timeout", "0"]);
    assert_eq!(full["error"], "timed-out");
    let late = json!({ "path": path, "identifier": "late", "max_concurrency": 4, "timeout": 0.5 });
    assert_eq!(three.salt_error("lock", late).0, "LockTimeout");
    let late = ["lock", path, "late", "--slots", "4", "--timeout", "0.5"];
    assert_eq!(three.python.error("kazoo_cli", late).0, "LockTimeout");

    kazoo.stop();
    drop(passing.stdin.take());
    assert_eq!(output(passing).code, Some(0));
    for name in ["salt", "lasting"] {
        three.done(&["unlock", path, "--identifier", name]);
    }
    assert!(three.is_clean(path));
}

#[test]
fn each_waits_for_the_others_and_is_woken_by_them() {
    let Some(three) = Three::new() else { return };
    let path = "/woken/by-all";
    let queued = || three.tree(&format!("{path}-__lock__")).len().saturating_sub(1);

    // kazoo holds, Lockkeeper waits.
    let kazoo = three.kazoo_holds(&["lock", path, "kazoo"], json!({ "held": true }));
    let waiter = three.spawn(&["lock", path, "--identifier", "lasting", "--timeout", "60s"]);
    eventually("Lockkeeper queues", || queued() == 1);
    kazoo.stop();
    assert_eq!(output(waiter).code, Some(0));
    assert_eq!(three.holders(path), BTreeSet::from([("lasting".to_owned(), false)]));

    // Lockkeeper holds, Salt waits.
    let salt = json!({ "path": path, "identifier": "salt", "timeout": 60 }).to_string();
    let mut waiter = three.python.spawn("salt_cli", ["lock", &salt]);
    eventually("Salt queues", || queued() == 1);
    three.done(&["unlock", path, "--identifier", "lasting"]);
    assert_eq!(waiter.answer(), Some(json!(true)));
    assert_eq!(three.holders(path), BTreeSet::from([("salt".to_owned(), false)]));

    // Salt holds; Lockkeeper waits with an ephemeral lease, and behind it kazoo.
    let mut passing = three.spawn(&["lock", path, "--identifier", "passing", "--ephemeral-lease", "--", "cat"]);
    eventually("Lockkeeper queues", || queued() == 1);
    let mut kazoo = three.python.spawn("kazoo_cli", ["lock", path, "kazoo"]);
    eventually("kazoo queues behind it", || queued() == 2);
    assert_eq!(three.salt("unlock", json!({ "path": path, "identifier": "salt" })), true);
    eventually("the first in the queue has it", || {
        three.holders(path) == BTreeSet::from([("passing".to_owned(), true)])
    });
    drop(passing.stdin.take());
    assert_eq!(output(passing).code, Some(0));
    assert_eq!(kazoo.answer(), Some(json!({ "held": true })));
    kazoo.stop();
    assert!(three.is_clean(path));
}

#[test]
fn every_ephemeral_lease_ends_with_its_session() {
    if !zookeeper::available() || !python::available() {
        return;
    }
    // kazoo asks for 10 s.
    let options =
        Options { session_timeouts: Duration::from_millis(500)..=Duration::from_secs(2), ..Options::default() };
    let server = Server::start_with(&options);
    let three = Three::on(&server.hosts());
    let path = "/goes/with-its-session";
    let lease = json!({ "path": path, "identifier": "salt", "ephemeral_lease": true }).to_string();
    let mut salt = three.python.spawn("salt_cli", ["--hold", "lock", &lease]);
    assert_eq!(salt.answer(), Some(json!(true)));
    assert_eq!(three.holders(path), BTreeSet::from([("salt".to_owned(), true)]));
    let waiter = three.spawn(&["lock", path, "--identifier", "next", "--ephemeral-lease", "--", "cat"]);
    salt.stop();
    eventually("the next has it", || three.holders(path) == BTreeSet::from([("next".to_owned(), true)]));
    // Ours is killed; kazoo gets it.
    let mut kazoo = three.python.spawn("kazoo_cli", ["lock", path, "kazoo"]);
    let mut waiter = waiter;
    waiter.kill().unwrap();
    waiter.wait().unwrap();
    assert_eq!(kazoo.answer(), Some(json!({ "held": true })));
    kazoo.stop();
    assert!(three.is_clean(path));
}

#[test]
fn a_different_number_of_slots_is_refused_by_everybody() {
    let Some(three) = Three::new() else { return };
    let differ = |path: &str, stored: u32, wanted: u32| {
        let number = wanted.to_string();
        let line = ["lock", path, "--identifier", "me", "--max-concurrency", &number, "--timeout", "0"];
        let error = three.error(2, &line);
        assert_eq!(error["error"], "slots-differ");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(&format!(" {stored} ")) && message.contains(&format!(" {wanted} ")), "{message}");
        let salt = json!({ "path": path, "identifier": "me", "max_concurrency": wanted });
        let kazoo = ["lock", path, "me", "--slots", &number];
        for (error, message) in [three.salt_error("lock", salt), three.python.error("kazoo_cli", kazoo)] {
            assert_eq!(error, "ValueError");
            assert!(message.contains(&stored.to_string()) && message.contains(&number), "{message}");
        }
        assert_eq!(three.tree(path)[0]["data"], stored.to_string());
        assert!(three.is_clean(path), "nobody left anything behind");
    };
    three.done(&["lock", "/differ/ours", "--identifier", "x", "--max-concurrency", "2"]);
    three.done(&["unlock", "/differ/ours", "--identifier", "x"]);
    differ("/differ/ours", 2, 3);
    three.kazoo_holds(&["lock", "/differ/kazoo", "x", "--slots", "12"], json!({ "held": true })).stop();
    differ("/differ/kazoo", 12, 1);
    assert_eq!(three.salt("lock", json!({ "path": "/differ/salt", "identifier": "x" })), true);
    assert_eq!(three.salt("unlock", json!({ "path": "/differ/salt", "identifier": "x" })), true);
    differ("/differ/salt", 1, 2);
}

#[test]
fn foreign_data_in_place_of_a_slot_number_stays() {
    let Some(three) = Three::new() else { return };
    for (index, data) in ["hello", "3 or so", "☃"].into_iter().enumerate() {
        let path = format!("/no-number/{index}");
        three.kazoo(&["put", &path, data]);
        three.done(&["lock", &path, "--identifier", "ours", "--max-concurrency", "2"]);
        let kazoo = three.kazoo_holds(&["lock", &path, "kazoo", "--slots", "2"], json!({ "held": true }));
        let line = ["lock", &path, "--identifier", "late", "--max-concurrency", "2", "--timeout", "0"];
        assert_eq!(three.error(75, &line)["error"], "timed-out", "the limit that was asked for holds all the same");
        assert_eq!(three.tree(&path)[0]["data"], data);
        kazoo.stop();
        three.done(&["unlock", &path, "--identifier", "ours"]);
        assert!(three.is_clean(&path));
    }
}

#[test]
fn the_first_callers_number_holds_on_an_empty_path() {
    let Some(three) = Three::new() else { return };
    three.kazoo(&["put", "/empty", ""]);
    three.done(&["lock", "/empty", "--identifier", "one", "--max-concurrency", "1"]);
    assert_eq!(three.tree("/empty")[0]["data"], "1");
    for number in ["5", "9"] {
        let line = ["lock", "/empty", "--identifier", "late", "--max-concurrency", number, "--timeout", "0"];
        assert_eq!(three.error(2, &line)["error"], "slots-differ");
    }
    three.done(&["unlock", "/empty", "--identifier", "one"]);
}

#[test]
fn members_of_both_kinds_are_seen_by_everybody() {
    let Some(three) = Three::new() else { return };
    let path = "/party/of-all";
    let joined = || json!({ "joined": true });
    let members = [
        three.kazoo_holds(&["join", path, "kazoo-shallow", "--kind", "shallow"], joined()),
        three.kazoo_holds(&["join", path, "kazoo-party", "--kind", "party"], joined()),
    ];
    let join = |identifier: &str, kind: &str| {
        let mut line = three.world.lockkeeper(["party", "join", path, "--zk-hosts", &three.hosts]);
        line.args(["--identifier", identifier, "--kind", kind, "--", "cat"]);
        line.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    };
    let shallow = format!("shallow-{STRANGE}");
    let ours = [join(&shallow, "shallow"), join(STRANGE, "party")];
    let listed = || {
        let rows = said(&mut three.world.lockkeeper([
            "party",
            "members",
            path,
            "--zk-hosts",
            &three.hosts,
            "--format",
            "json",
        ]));
        let rows: Value = serde_json::from_str(&rows.stdout).unwrap();
        let name = |row: &Value| row["identifier"].as_str().unwrap().to_owned();
        rows.as_array().unwrap().iter().map(name).collect::<Vec<_>>()
    };
    eventually("all four are members", || listed().len() == 4);
    let mut names = listed();
    names.sort();
    let mut expected = ["kazoo-party", "kazoo-shallow", &shallow, STRANGE];
    expected.sort_unstable();
    assert_eq!(names, expected);
    // kazoo lists the kind that it is asked for, and in Salt's hands whatever else there is by its node's name.
    let mut parties = ["kazoo-party", STRANGE];
    parties.sort_unstable();
    assert_eq!(sorted(&three.kazoo(&["members", path, "--kind", "party"])), parties);
    for list in
        [three.kazoo(&["members", path, "--kind", "shallow"]), three.salt("party_members", json!({ "path": path }))]
    {
        let list = sorted(&list);
        assert!(list.contains(&"kazoo-shallow") && list.contains(&shallow.as_str()), "{list:?}");
    }
    for node in &three.tree(path)[1..] {
        let name = node["path"].as_str().unwrap().rsplit_once('/').unwrap().1;
        let data = node["data"].as_str().unwrap();
        let (hex, rest) = name.split_at(32);
        assert!(is_hex32(hex), "{name}");
        assert!(rest == "__party__" || rest == format!("-{data}"), "{node}");
        assert_eq!(node["ephemeral"], true);
    }
    for member in members {
        member.stop();
    }
    for mut member in ours {
        drop(member.stdin.take());
        assert!(member.wait().unwrap().success());
    }
    assert_eq!(listed(), [""; 0]);
    assert_eq!(three.salt("party_members", json!({ "path": path })), json!([]));
}

#[test]
fn a_barriers_nodes_are_no_members() {
    let Some(three) = Three::new() else { return };
    let path = "/party/with-a-barrier";
    // What Salt's blocking call leaves there while it waits.
    let barrier = format!("{path}/0123456789abcdef0123456789abcdef");
    let waiting = three.kazoo_holds(&["put", &barrier, "host-17", "--ephemeral"], json!(barrier));
    three.kazoo(&["put", &format!("{path}/ready"), ""]);
    let member = three.kazoo_holds(&["join", path, "web01"], json!({ "joined": true }));
    let rows =
        said(&mut three.world.lockkeeper(["party-members", path, "--zk-hosts", &three.hosts, "--format", "json"]));
    let rows: Value = serde_json::from_str(&rows.stdout).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 1);
    assert_eq!(rows[0]["identifier"], "web01");
    member.stop();
    waiting.stop();
}

#[test]
fn a_digest_excludes_other_callers() {
    let Some(mut three) = Three::new() else { return };
    let anonymous = Three::new().unwrap();
    three.python = Python::on(&three.hosts).digest("u:pw").acl("u:pw");
    three.flags = ["--username", "u", "--password", "pw", "--default-acl", "auth::cdrwa"].map(str::to_owned).into();
    // As Salt computes it.
    let only_u = json!([[31, "digest", "u:BvFaefuhWURhnvpD7ipe45CKTpk="]]);
    let slots = ["--max-concurrency", "2"];
    for path in ["/shut-ours", "/shut-salts"] {
        let salts = json!({ "path": path, "identifier": "salt", "max_concurrency": 2 });
        let ours = [&["lock", path, "--identifier", "ours"][..], &slots].concat();
        match path {
            "/shut-ours" => {
                three.done(&ours);
                assert_eq!(three.salt("lock", salts.clone()), true);
            }
            _ => {
                assert_eq!(three.salt("lock", salts.clone()), true);
                three.done(&ours);
            }
        }
        let nodes = [three.tree(path), three.tree(&format!("{path}-__lock__"))].concat();
        assert_eq!(nodes.len(), 4, "the path, two leases, the queue");
        for node in nodes {
            assert_eq!(node["acl"], only_u, "{node}");
        }
        for line in [
            vec!["holders", path],
            vec!["unlock", path, "--identifier", "salt"],
            [&["lock", path, "--identifier", "late", "--timeout", "0"][..], &slots].concat(),
        ] {
            assert_eq!(anonymous.error(77, &line)["error"], "refused");
        }
        assert_eq!(anonymous.salt_error("lock", salts.clone()).0, "NoAuthError");
        // Each tool releases what the other acquired.
        three.done(&["unlock", path, "--identifier", "salt"]);
        assert_eq!(three.salt("unlock", json!({ "path": path, "identifier": "ours" })), true);
        assert!(three.is_clean(path));
        // A wrong password is no login.
        let mut wrong = Three::new().unwrap();
        wrong.flags = ["--username", "u", "--password", "wrong"].map(str::to_owned).into();
        assert_eq!(wrong.error(77, &["holders", path])["error"], "refused");
    }
}

#[test]
fn every_child_is_a_lease_and_only_locks_queue() {
    let Some(three) = Three::new() else { return };
    let path = "/counted/alike";
    let once = ["lock", path, "--identifier", "me", "--max-concurrency", "2", "--timeout", "0"];
    // Whatever it is called and whatever is in it, a child takes a slot, in kazoo's eyes as in ours.
    three.kazoo(&["put", path, "2"]);
    three.kazoo(&["put", &format!("{path}/foreign"), "somebody"]);
    three.kazoo(&["put", &format!("{path}/no-text"), "ff00fe", "--hex"]);
    assert_eq!(three.error(75, &once)["error"], "timed-out");
    let late = ["lock", path, "late", "--slots", "2", "--timeout", "0.3"];
    assert_eq!(three.python.error("kazoo_cli", late).0, "LockTimeout");
    let holders = three.holders(path);
    assert!(holders.len() == 2 && holders.contains(&("somebody".to_owned(), false)), "{holders:?}");
    three.done(&["unlock", path, "--identifier", "somebody"]);
    three.done(&once);
    three.done(&["unlock", path, "--identifier", "me"]);

    // One slot is left. An earlier contender keeps it, whatever prefix its name has; other nodes do not.
    let queue = format!("{path}-__lock__");
    let entry = |name: &str| {
        let node = format!("{queue}/{name}");
        three.kazoo_holds(&["put", &node, "x", "--ephemeral"], json!(node))
    };
    for name in ["a__rlock__0000000000", "b__lock__", "c__lock__000000001", "d__lock__0000000000x", "e"] {
        let ignored = entry(name);
        three.done(&once);
        three.done(&["unlock", path, "--identifier", "me"]);
        ignored.stop();
    }
    for name in ["__lock__0000000000", "strange-ä__lock__0000000000"] {
        let ahead = entry(name);
        assert_eq!(three.error(75, &once)["error"], "timed-out", "{name}");
        ahead.stop();
        three.done(&once);
        three.done(&["unlock", path, "--identifier", "me"]);
    }
    assert_eq!(three.tree(&queue).len(), 1, "nothing of ours is in the queue");
}

#[test]
fn a_chroot_and_a_path_mean_the_same_to_everybody() {
    let Some(all) = Three::new() else { return };
    all.kazoo(&["put", "/root/of-three", ""]);
    let three = Three::on(&format!("{}/root/of-three", all.hosts));
    // Salt drops empty parts and puts a slash in front.
    assert_eq!(three.salt("lock", json!({ "path": "a//b", "identifier": "salt", "max_concurrency": 3 })), true);
    three.done(&["lock", "/a/b", "--identifier", "ours", "--max-concurrency", "3"]);
    let kazoo = three.kazoo_holds(&["lock", "/a/b", "kazoo", "--slots", "3"], json!({ "held": true }));
    let names = ["kazoo", "ours", "salt"];
    assert_eq!(all.holders("/root/of-three/a/b").into_iter().map(|(name, _)| name).collect::<Vec<_>>(), names);
    assert_eq!(sorted(&three.salt("lock_holders", json!({ "path": "/a/b" }))), names);
    assert_eq!(all.tree("/root/of-three/a/b-__lock__").len(), 1);
    kazoo.stop();
    for name in ["salt", "ours"] {
        three.done(&["unlock", "/a/b", "--identifier", name]);
    }
    assert!(three.is_clean("/a/b"));
}

#[test]
fn a_caller_that_stops_waiting_leaves_nothing() {
    let Some(three) = Three::new() else { return };
    let path = "/given/up";
    let kazoo = three.kazoo_holds(&["lock", path, "kazoo"], json!({ "held": true }));
    let late = three.spawn(&["lock", path, "--identifier", "late", "--timeout", "300ms"]);
    let told = three.spawn(&["lock", path, "--identifier", "told"]);
    let queued = || three.tree(&format!("{path}-__lock__")).len().saturating_sub(1);
    assert_eq!(output(late).code, Some(75));
    eventually("one waits on", || queued() == 1);
    let mut behind = three.python.spawn("kazoo_cli", ["lock", path, "behind"]);
    eventually("kazoo waits behind it", || queued() == 2);
    kill(Pid::from_raw(i32::try_from(told.id()).unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(output(told).code, Some(143));
    eventually("its place is gone", || queued() == 1);
    kazoo.stop();
    assert_eq!(behind.answer(), Some(json!({ "held": true })));
    behind.stop();
    assert!(three.is_clean(path));
}

/// What was asked of a server, and what that changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cost {
    requests: u64,
    writes: u64,
}

/// The cost of an operation, sessions excluded: the requests through the proxy by kind, without a session's start, end
/// and pings; and the growth of the server's transaction number, without the two of each session. The server's own
/// count of packets must agree with the proxy's.
fn cost(server: &Server, proxy: &Proxy, what: &str, run: impl FnOnce()) -> Cost {
    proxy.forget_requests();
    let (packets, zxid) = (server.packets_received(), server.zxid());
    run();
    let (last, counts) = (server.zxid(), proxy.requests());
    // The requests of the measurement itself: `srvr` twice, and `mntr` once.
    let packets = u64::try_from(server.packets_received() - packets).unwrap() - 3;
    let pings = counts.get(&opcode::PING).copied().unwrap_or(0);
    let all: u64 = counts.values().sum();
    // A ping may be on its way while we look.
    assert!(packets.abs_diff(all) <= 1, "the server's {packets} and the proxy's {counts:?}");
    let sessions: u64 =
        [opcode::CONNECT, opcode::CLOSE].map(|kind| counts.get(&kind).copied().unwrap_or(0)).iter().sum();
    let cost = Cost { requests: all - pings - sessions, writes: last - zxid - sessions };
    println!("{what}: {} requests, {} writes; by kind {counts:?}", cost.requests, cost.writes);
    cost
}

#[test]
fn an_uncontended_acquire_and_release_are_six_requests_and_three_writes_at_most() {
    if !zookeeper::available() || !python::available() {
        return;
    }
    let server = Server::start();
    let proxy = Proxy::start(server.address());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let options = ZooKeeperOptions::new(Hosts::parse(&proxy.hosts()).unwrap());
    let store = runtime.block_on(ZooKeeper::new(options).connect()).unwrap();
    let me = Identifier::new("me").unwrap();
    for lifetime in [Lifetime::Persistent, Lifetime::Ephemeral] {
        let path = NodePath::parse(&format!("/costs/{lifetime:?}")).unwrap();
        let semaphore = Semaphore::new(Arc::clone(&store), path, NonZeroU32::new(3).unwrap());
        let cycle = || {
            runtime.block_on(async {
                let Acquired { lease, .. } = semaphore.acquire(&me, lifetime, Patience::Forever).await.unwrap();
                lease.release().await.unwrap();
            });
        };
        cost(&server, &proxy, &format!("{lifetime:?}, a new path"), cycle);
        let known = cost(&server, &proxy, &format!("{lifetime:?}, a known path"), cycle);
        assert!(known.requests <= 6 && known.writes <= 3, "{known:?}");
    }
    runtime.block_on(store.close()).unwrap();

    // A process also asks for the number of slots and for the id of the store, and once whether its session serves.
    let three = Three::on(&proxy.hosts());
    let run = |arguments: &[&str]| {
        let what = arguments.join(" ");
        cost(&server, &proxy, &what, || assert_eq!(three.lockkeeper(arguments).code, Some(0)))
    };
    let lock = ["lock", "/costs/Persistent", "--identifier", "me", "--max-concurrency", "3"];
    // The id of the store is written once.
    let first = run(&[&lock[..], &["--", "true"]].concat());
    assert!(first.writes <= 5, "{first:?}");
    for line in [[&lock[..], &["--", "true"]].concat(), [&lock[..], &["--ephemeral-lease", "--", "true"]].concat()] {
        let whole = run(&line);
        assert!(whole.requests <= 9 && whole.writes <= 3, "{line:?}: {whole:?}");
    }
    // The folder of the claims is made once.
    let unlock = ["unlock", "/costs/Persistent", "--identifier", "me"];
    let _ = (run(&lock), run(&unlock));
    let (taken, given_back) = (run(&lock), run(&unlock));
    assert!(taken.writes + given_back.writes <= 3, "{taken:?} {given_back:?}");
    assert!(taken.requests + given_back.requests <= 14, "no more than Salt: {taken:?} {given_back:?}");
}

/// How many may hold it in the contention.
const SLOTS: usize = 3;

/// How many of each kind of contender there are.
const OF_EACH: usize = 3;

/// How long each holds it.
const WORK: Duration = Duration::from_millis(15);

/// The share of the mean that everybody gets at least. A `lockkeeper` is a process and a session for each lease, the others
/// live on, so they are sooner back in the queue.
const LEAST_SHARE: f64 = 0.3;

/// What all contenders together have done, and should.
struct Goal {
    done: AtomicUsize,
    target: usize,
}

impl Goal {
    /// Counts one more; whether that was enough.
    fn one_more(&self) -> bool {
        self.done.fetch_add(1, Ordering::Relaxed) + 1 >= self.target
    }

    fn is_reached(&self) -> bool {
        self.done.load(Ordering::Relaxed) >= self.target
    }
}

/// A thread that drives one contender to the goal.
fn contend(goal: &Arc<Goal>, contender: impl FnOnce(&Goal) + Send + 'static) -> JoinHandle<()> {
    let goal = Arc::clone(goal);
    thread::spawn(move || contender(&goal))
}

/// A Python process that acquires and releases by itself.
fn drive(goal: &Goal, mut running: Running) {
    while let Some(value) = running.answer() {
        assert!(value["count"].is_number(), "{value}");
        if goal.one_more() {
            running.tell_to_stop();
        }
    }
}

/// Grants to each identifier, and the most leases after any transaction.
fn grants(history: &[Change], semaphore: &str) -> (BTreeMap<String, usize>, usize) {
    let (mut grants, mut held, mut most) = (BTreeMap::new(), BTreeSet::new(), 0);
    let mut changes = history.iter().peekable();
    while let Some(change) = changes.next() {
        if change.path.rsplit_once('/').is_some_and(|(parent, _)| parent == semaphore) {
            match &change.what {
                What::Created { data, .. } => {
                    held.insert(&change.path);
                    *grants.entry(String::from_utf8_lossy(data).into_owned()).or_default() += 1;
                }
                What::Deleted | What::Expired => drop(held.remove(&change.path)),
                What::Set { .. } => {}
            }
        }
        // A transaction is seen whole or not at all.
        if changes.peek().is_none_or(|next| next.zxid != change.zxid) {
            most = most.max(held.len());
        }
    }
    (grants, most)
}

#[test]
fn three_tools_in_contention_never_exceed_the_limit_and_none_starves() {
    if zookeeper::available() && python::available() {
        let server = Server::start();
        contention(&server.hosts(), &[server.data()]);
    }
}

#[test]
fn nor_do_they_where_each_asks_a_server_that_may_lag_behind() {
    if zookeeper::available() && python::available() {
        let ensemble = Ensemble::start(3);
        contention(&ensemble.hosts(), &ensemble.data());
    }
}

/// Each grant that found as many leases as the number in force allowed, with its transaction.
fn grants_above(history: &[Change], semaphore: &str) -> Vec<(i64, String)> {
    let number = |data: &[u8]| std::str::from_utf8(data).ok().and_then(|text| text.trim().parse::<usize>().ok());
    let (mut held, mut slots, mut above) = (BTreeSet::new(), 0, Vec::new());
    for change in history {
        let child = change.path.strip_prefix(semaphore).and_then(|rest| rest.strip_prefix('/'));
        match (&change.what, child) {
            (What::Created { data, .. } | What::Set { data }, None) if change.path == semaphore => {
                slots = number(data).unwrap_or(slots);
            }
            (What::Created { .. }, Some(name)) if !name.starts_with("reserved-") => {
                if held.len() >= slots {
                    above.push((change.zxid, change.path.clone()));
                }
                held.insert(change.path.clone());
            }
            (What::Deleted | What::Expired, Some(_)) => drop(held.remove(&change.path)),
            _ => {}
        }
    }
    above
}

#[test]
fn a_number_that_changes_holds_for_three_tools_in_contention() {
    if !zookeeper::available() || !python::available() {
        return;
    }
    let ensemble = Ensemble::start(3);
    let three = Arc::new(Three::on(&ensemble.hosts()));
    let path = "/resized";
    let work = WORK.as_secs_f64().to_string();
    three.done(&["lock", path, "--identifier", "first", "--max-concurrency", "3"]);
    three.done(&["unlock", path, "--identifier", "first"]);
    let (number, over) = (Arc::new(AtomicUsize::new(3)), Arc::new(AtomicBool::new(false)));
    let mut python = Vec::new();
    for index in 0..OF_EACH {
        let name = format!("kazoo{index}");
        python.push(three.python.spawn("kazoo_cli", ["contend", path, &name, "--slots", "3", "--work", &work]));
        let lease = json!({ "path": path, "identifier": format!("salt{index}"), "max_concurrency": 3 });
        python.push(three.python.spawn("salt_cli", ["--work", &work, "contend", &lease.to_string()]));
    }
    let ids: Vec<i32> = python.iter().map(|running| i32::try_from(running.id()).unwrap()).collect();
    let counts: Vec<JoinHandle<usize>> = python
        .into_iter()
        .map(|mut running| {
            thread::spawn(move || {
                let mut count = 0;
                while running.answer().is_some() {
                    count += 1;
                }
                count
            })
        })
        .collect();
    let ours: Vec<JoinHandle<usize>> = (0..OF_EACH)
        .map(|index| {
            let (three, number, over, work) =
                (Arc::clone(&three), Arc::clone(&number), Arc::clone(&over), work.clone());
            thread::spawn(move || {
                let (name, mut count) = (format!("ours{index}"), 0);
                while !over.load(Ordering::Relaxed) {
                    let slots = number.load(Ordering::Relaxed).to_string();
                    let lock = ["lock", path, "--identifier", &name, "--max-concurrency", &slots, "--timeout", "20s"];
                    let said = three.lockkeeper(&[&lock[..], &["--", "sleep", &work]].concat());
                    // The number may change between this read and the command's.
                    let is_fine = said.code == Some(0) || said.stderr.contains("slots-differ") || said.code == Some(75);
                    assert!(is_fine, "{said:?}");
                    count += usize::from(said.code == Some(0));
                }
                count
            })
        })
        .collect();
    for (slots, reserve) in [("5", None), ("2", Some("--reserve")), ("4", None), ("1", Some("--reserve"))] {
        sleep(Duration::from_millis(1500));
        let line = ["semaphore", "resize", path, slots, "--reason", "a test"];
        let line: Vec<&str> = line.into_iter().chain(reserve).collect();
        three.done(&line);
        number.store(slots.parse().unwrap(), Ordering::Relaxed);
    }
    sleep(Duration::from_millis(1500));
    // kazoo and Salt are kept out by now, and end where they wait. Those that read the number again have ended by
    // themselves.
    for id in ids {
        let _ = kill(Pid::from_raw(id), Signal::SIGKILL);
    }
    over.store(true, Ordering::Relaxed);
    let theirs: usize = counts.into_iter().map(|count| count.join().unwrap()).sum();
    let ours: usize = ours.into_iter().map(|count| count.join().unwrap()).sum();
    let history = history(&ensemble.data()).unwrap();
    println!("{theirs} leases of kazoo and Salt, {ours} of ours");
    assert_eq!(grants_above(&history, path), [], "grants at or above the number in force");
    assert!(theirs > 20 && ours > 10, "{theirs} and {ours}: all had turns");
}

/// Runs all contenders on these servers, whose data folders are given.
fn contention(hosts: &str, folders: &[PathBuf]) {
    let target = if env::var_os("LOCKKEEPER_LONG").is_some() { 5000 } else { 300 };
    let three = Arc::new(Three::on(hosts));
    let path = "/contended";
    let slots = SLOTS.to_string();
    let work = WORK.as_secs_f64().to_string();
    let auditor = three.kazoo_holds(&["audit", path, "--slots", &slots], json!({ "watching": path }));
    let goal = Arc::new(Goal { done: AtomicUsize::new(0), target });
    let began = Instant::now();
    let mut contenders = Vec::new();
    for number in 0..OF_EACH {
        let kazoo = three
            .python
            .spawn("kazoo_cli", ["contend", path, &format!("kazoo{number}"), "--slots", &slots, "--work", &work]);
        contenders.push(contend(&goal, |goal| drive(goal, kazoo)));
        let lease = json!({ "path": path, "identifier": format!("salt{number}"), "max_concurrency": SLOTS });
        let salt = three.python.spawn("salt_cli", ["--work", &work, "contend", &lease.to_string()]);
        contenders.push(contend(&goal, |goal| drive(goal, salt)));
        let (ours, line_slots, work) = (Arc::clone(&three), slots.clone(), work.clone());
        contenders.push(contend(&goal, move |goal| {
            let name = format!("passing{number}");
            let lock = ["lock", path, "--identifier", &name, "--max-concurrency", &line_slots, "--ephemeral-lease"];
            while !goal.is_reached() {
                let said = ours.lockkeeper(&[&lock[..], &["--", "sleep", &work]].concat());
                assert_eq!(said.code, Some(0), "{said:?}");
                goal.one_more();
            }
        }));
        let (ours, line_slots) = (Arc::clone(&three), slots.clone());
        contenders.push(contend(&goal, move |goal| {
            let name = format!("lasting{number}");
            while !goal.is_reached() {
                ours.done(&["lock", path, "--identifier", &name, "--max-concurrency", &line_slots]);
                sleep(WORK);
                ours.done(&["unlock", path, "--identifier", &name]);
                goal.one_more();
            }
        }));
    }
    // A contender that makes no progress fails instead of waiting for ever.
    let mut seen = 0;
    while !contenders.iter().all(JoinHandle::is_finished) {
        let before = seen;
        let deadline = Instant::now() + Duration::from_secs(60);
        while seen == before && !contenders.iter().all(JoinHandle::is_finished) {
            assert!(Instant::now() < deadline, "after {seen} leases nobody gets one: {:?}", three.tree(path));
            sleep(Duration::from_millis(20));
            seen = goal.done.load(Ordering::Relaxed);
        }
    }
    let took = began.elapsed();
    contenders.into_iter().for_each(|contender| contender.join().unwrap());
    let audited = auditor.stop().pop().unwrap();
    // The server that is read may lag behind.
    eventually("nothing is left", || three.is_clean(path));

    let (grants, most) = grants(&history(folders).unwrap(), path);
    let total: usize = grants.values().sum();
    println!("{total} leases in {took:?}, {most} at once; seen from outside {audited}; {grants:?}");
    assert!(total >= target, "{total}");
    assert_eq!(most, SLOTS, "all slots were in use at once, and never more");
    assert_eq!(audited["over"], 0, "{audited}");
    assert!(audited["samples"].as_u64().unwrap() > 100, "{audited}");
    assert_eq!(grants.len(), 4 * OF_EACH, "{grants:?}");
    let mean = total as f64 / grants.len() as f64;
    for (name, count) in grants {
        assert!(count as f64 >= mean * LEAST_SHARE, "{name} had {count} leases, the mean is {mean}");
    }
}
