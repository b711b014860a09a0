//! Where a job's targets come from, from outside: lists of nothing, one host in two spellings, ranges, and what is not a
//! list of hosts at all.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use lockkeeper_coordination::embedded::{Embedded, EmbeddedOptions};
use lockkeeper_coordination::store::{Connect as _, NodePath, Version};
use lockkeeper_tests::{Said, World, eventually, said};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// A job with this `[targets]`, whose action records each target's name in `acted`.
fn job(world: &World, targets: &str) {
    let text = format!(
        "name = \"nightly\"\n\n[semaphore]\npath = \"/locks/nightly\"\n\n[targets]\n{targets}\n\n[policy]\nuse = \
         \"rolling\"\n\n[action]\nrun = [\"sh\", \"-c\", \"echo $LOCKKEEPER_TARGET >> acted\"]\n"
    );
    world.file("job.toml", &text);
}

/// `lockkeeper` in the world's folder.
fn lockkeeper(world: &World, line: &str) -> Said {
    said(world.lockkeeper(line.split(' ')).current_dir(world.folder()))
}

/// The targets of the action, in order.
fn acted(world: &World) -> Vec<String> {
    let text = std::fs::read_to_string(world.folder().join("acted")).unwrap_or_default();
    text.lines().map(String::from).collect()
}

/// The runs that the store has.
fn runs(world: &World) -> Vec<Value> {
    let listed = lockkeeper(world, "status --format json");
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap_or_else(|_| panic!("{listed:?}"));
    listed.as_array().unwrap().clone()
}

/// A command's JSON error when it refuses a job.
fn refused(world: &World, line: &str) -> Value {
    let refused = lockkeeper(world, &format!("{line} --format json"));
    assert_eq!(refused.code, Some(2), "{line}: {refused:?}");
    assert_eq!(refused.stdout, "", "{line}");
    serde_json::from_str(&refused.stderr).unwrap_or_else(|error| panic!("{line}: {error}: {refused:?}"))
}

/// The problems with the job, as a person finds them.
fn problems(world: &World, line: &str) -> Vec<String> {
    let refused = refused(world, line);
    assert_eq!(refused["error"], "bad-job", "{refused}");
    let one = |problem: &Value| {
        let place = format!("{}:{}:{}", problem["file"].as_str().unwrap(), problem["line"], problem["column"]);
        format!("{place} {}: {}", problem["key"].as_str().unwrap(), problem["message"].as_str().unwrap())
    };
    refused["problems"].as_array().unwrap_or_else(|| panic!("{refused}")).iter().map(one).collect()
}

/// The names that `plan` shows.
fn planned(world: &World) -> Vec<String> {
    let planned = lockkeeper(world, "plan job.toml --format json");
    assert_eq!(planned.code, Some(0), "{planned:?}");
    let planned: Value = serde_json::from_str(&planned.stdout).unwrap();
    let names = planned["targets"].as_array().unwrap().iter().map(|target| target["target"].as_str().unwrap());
    names.map(String::from).collect()
}

#[test]
fn an_empty_list_is_refused_and_leaves_no_run() {
    let world = World::new();
    job(&world, "command = [\"cat\", \"list\"]");
    for nothing in ["", "\n", "# no host today\n", "[]", "\u{feff}"] {
        world.file("list", nothing);
        let problem = "job.toml:7:11 targets.command: the command `cat list` lists no target";
        assert_eq!(problems(&world, "plan job.toml"), [problem], "{nothing:?}");
        assert_eq!(problems(&world, "run job.toml"), [problem], "{nothing:?}");
        assert_eq!(problems(&world, "run job.toml --again"), [problem], "{nothing:?}");
        assert_eq!(runs(&world), [] as [Value; 0]);
    }
    let told = lockkeeper(&world, "run job.toml");
    assert!(told.code == Some(2) && told.stderr.contains("allow-empty = true"), "{told:?}");
    // When the list is back it is acted on.
    world.file("list", "web01\nweb02\n");
    let ran = lockkeeper(&world, "run job.toml");
    assert_eq!((ran.code, acted(&world)), (Some(0), vec!["web01".to_owned(), "web02".to_owned()]), "{ran:?}");
    assert_eq!(runs(&world).len(), 1);
}

#[test]
fn every_source_may_be_empty_by_mistake() {
    let world = World::new();
    world.file("none.toml", "hosts = []\n");
    for (targets, problem) in [
        ("hosts = []", "job.toml:7:9 targets.hosts: no target is listed"),
        ("inventory = \"none.toml\"", "job.toml:7:13 targets.inventory: the inventory `none.toml` lists no target"),
        ("party = \"/party/none\"", "job.toml:7:9 targets.party: the party `/party/none` has no member"),
        ("command = [\"true\"]", "job.toml:7:11 targets.command: the command `true` lists no target"),
    ] {
        job(&world, targets);
        for line in ["plan job.toml", "run job.toml"] {
            assert_eq!(problems(&world, line), [problem], "{line}");
        }
        // `check` reads a list that is in a file.
        let checked = lockkeeper(&world, "check job.toml");
        let is_seen = targets.starts_with("hosts") || targets.starts_with("inventory");
        assert_eq!(checked.code, Some(if is_seen { 2 } else { 0 }), "{targets}: {checked:?}");
        job(&world, &format!("{targets}\nallow-empty = true"));
        for line in ["check job.toml", "plan job.toml", "run job.toml"] {
            let allowed = lockkeeper(&world, line);
            assert_eq!(allowed.code, Some(0), "{targets}: {line}: {allowed:?}");
        }
        assert_eq!(runs(&world), [] as [Value; 0]);
    }
}

#[test]
fn a_list_that_may_be_empty_is_acted_on_when_it_is_back() {
    let world = World::new();
    job(&world, "command = [\"cat\", \"list\"]\nallow-empty = true");
    world.file("list", "");
    let ran = lockkeeper(&world, "run job.toml");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.contains("no target is listed for job `nightly`"), "{ran:?}");
    let ran = lockkeeper(&world, "run job.toml --format json");
    assert_eq!(ran.stdout, "{\"event\":\"no-targets\",\"job\":\"nightly\"}\n");
    assert_eq!(runs(&world), [] as [Value; 0]);
    world.file("list", "web01\n");
    let ran = lockkeeper(&world, "run job.toml");
    assert_eq!((ran.code, acted(&world)), (Some(0), vec!["web01".to_owned()]), "{ran:?}");
    // A run of some targets is finished, as ever.
    let ran = lockkeeper(&world, "run job.toml");
    assert!(ran.code == Some(0) && ran.stderr.contains("add --again to start a new run"), "{ran:?}");
    world.file("list", "");
    let ran = lockkeeper(&world, "run job.toml --again");
    assert!(ran.code == Some(0) && ran.stderr.contains("no target is listed"), "{ran:?}");
    assert_eq!((runs(&world).len(), acted(&world).len()), (1, 1));
}

#[test]
fn a_share_of_an_empty_list_leaves_the_number_of_slots_as_it_is() {
    let world = World::new();
    job(&world, "command = [\"cat\", \"list\"]\nallow-empty = true");
    let text = std::fs::read_to_string(world.folder().join("job.toml")).unwrap();
    world.file("job.toml", &text.replace("\"/locks/nightly\"", "\"/locks/nightly\"\nmax-concurrency = \"50%\""));
    world.file("list", "web[1:4]\n");
    assert_eq!(lockkeeper(&world, "run job.toml").code, Some(0));
    world.file("list", "");
    for line in ["plan job.toml", "run job.toml --again"] {
        let said = lockkeeper(&world, line);
        assert!(said.code == Some(0) && !said.stderr.contains("Resize"), "{line}: {said:?}");
    }
    let shown = lockkeeper(&world, "semaphore show /locks/nightly --format json");
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap_or_else(|_| panic!("{shown:?}"));
    assert_eq!(shown["slots"], 2, "{shown}");
}

/// Earlier versions took an empty list for a finished rollout.
#[tokio::test]
async fn a_finished_run_of_no_target_is_no_reason_to_do_nothing() {
    let world = World::new();
    job(&world, "command = [\"cat\", \"list\"]");
    world.file("list", "web01\n");
    assert_eq!(lockkeeper(&world, "run job.toml").code, Some(0));
    let before = lockkeeper(&world, "run job.toml");
    assert!(before.code == Some(0) && before.stderr.contains("add --again to start a new run"), "{before:?}");
    let [run] = runs(&world).try_into().unwrap();
    let path = NodePath::parse(&format!("/lockkeeper/runs/{}", run["run"].as_str().unwrap())).unwrap();
    let embedded = Embedded::new(world.folder().join("state/store.db"), EmbeddedOptions::default());
    let store = embedded.connect().await.unwrap();
    let mut record: Value = serde_json::from_slice(&store.read(&path).await.unwrap().data).unwrap();
    record["targets"] = json!(0);
    store.set(&path, record.to_string().into(), Version::Any).await.unwrap();
    store.close().await.unwrap();
    let ran = lockkeeper(&world, "run job.toml");
    assert!(ran.code == Some(0) && ran.stderr.contains("is finished, and it had no targets"), "{ran:?}");
    assert_eq!(acted(&world), ["web01", "web01"]);
}

#[test]
fn spellings_of_one_host_are_refused_wherever_they_stand() {
    let world = World::new();
    let same = |first: &str, second: &str| {
        format!("targets `{first}` and `{second}` are the same host: their names differ only in case or a trailing dot")
    };
    job(&world, "hosts = [\"web01\", \"WEB01\", \"Web01\", \"web01.\", \"[::1]\", \"0::1\"]");
    let expected = [
        format!("job.toml:7:19 targets.hosts[1]: {}", same("web01", "WEB01")),
        format!("job.toml:7:28 targets.hosts[2]: {}", same("web01", "Web01")),
        format!("job.toml:7:37 targets.hosts[3]: {}", same("web01", "web01.")),
        "job.toml:7:56 targets.hosts[5]: targets `[::1]` and `0::1` are the same host: they are spellings of one address"
            .to_owned(),
    ];
    for line in ["check job.toml", "plan job.toml", "run job.toml"] {
        assert_eq!(problems(&world, line), expected, "{line}");
    }
    let told = lockkeeper(&world, "check job.toml").stderr;
    assert!(told.contains("it is listed at line 7, column 10 already"), "{told}");

    job(&world, "inventory = \"web.toml\"");
    world.file("web.toml", "[[hosts]]\nname = \"db.example.com\"\n[[hosts]]\nname = \"DB.example.com.\"\n");
    for line in ["check job.toml", "plan job.toml", "run job.toml"] {
        let told = problems(&world, line);
        assert_eq!(
            told,
            [format!("web.toml:4:8 hosts[1].name: {}", same("db.example.com", "DB.example.com."))],
            "{line}"
        );
    }

    job(&world, "command = [\"cat\", \"list\"]");
    for (list, place) in [("web01\nweb02\nWeb02\n", "3:1"), ("[\"web01\", \"web02\",\n \"Web02\"]", "2:2")] {
        world.file("list", list);
        for line in ["plan job.toml", "run job.toml"] {
            let told = problems(&world, line);
            assert_eq!(told, [format!("output of `cat list`:{place} : {}", same("web02", "Web02"))], "{line}");
        }
    }
    assert_eq!((acted(&world).len(), runs(&world).len()), (0, 0));
}

#[test]
fn spellings_of_one_member_are_refused() {
    let world = World::new();
    job(&world, "party = \"/party/web\"");
    // Each is a member while the next command runs.
    let joined = |identifiers: &[&str], line: &str| {
        let mut command: Vec<String> = Vec::new();
        for identifier in identifiers {
            let join = ["lockkeeper", "party", "join", "/party/web", "--identifier", identifier, "--quiet", "--"];
            command.extend(join.map(String::from));
        }
        command.extend(["lockkeeper", "--format", "json"].map(String::from));
        command.extend(line.split(' ').map(String::from));
        said(world.lockkeeper(&command[1..]).current_dir(world.folder()))
    };
    let planned = joined(&["web02", "web01"], "plan job.toml");
    assert_eq!(planned.code, Some(0), "{planned:?}");
    for (identifiers, message) in [
        (
            ["WEB01", "web01"],
            "members of the party `/party/web`: `WEB01` and `web01` are the same host: their names differ only in case or \
             a trailing dot",
        ),
        (["a b", "web01"], "member `a b` of the party `/party/web` is not a host name: a name cannot hold ' '"),
    ] {
        for line in ["plan job.toml", "run job.toml"] {
            let refused = joined(&identifiers, line);
            assert_eq!(refused.code, Some(2), "{line}: {refused:?}");
            let told: Value = serde_json::from_str(&refused.stderr).unwrap();
            let problem = &told["problems"][0];
            assert_eq!((&problem["key"], &problem["line"]), (&json!("targets.party"), &json!(7)), "{told}");
            assert_eq!(problem["message"], message, "{told}");
        }
    }
    assert_eq!(runs(&world), [] as [Value; 0]);
}

#[test]
fn ranges_stand_for_their_names_in_every_list() {
    let world = World::new();
    let meant = ["db-a", "db-b", "web08.example.com", "web09.example.com", "web10.example.com"];
    let listed = "\"web[08:10].example.com\", \"db-[a-b]\"";
    world.file("web.toml", &format!("hosts = [{listed}]\n"));
    world.file("lines", "web[08:10].example.com\ndb-[a-b]\n");
    world.file("json", &format!("[{listed}]"));
    for targets in [
        &format!("hosts = [{listed}]"),
        "inventory = \"web.toml\"",
        "command = [\"cat\", \"lines\"]",
        "command = [\"cat\", \"json\"]",
    ] {
        job(&world, targets);
        assert_eq!(planned(&world), meant, "{targets}");
    }
    let ran = lockkeeper(&world, "run job.toml");
    assert_eq!((ran.code, acted(&world)), (Some(0), meant.map(String::from).to_vec()), "{ran:?}");
    // An address in brackets is no range.
    job(&world, "hosts = [\"[::1]\", \"[2001:db8::1]:22\", \"root@[fe80::1%eth0]:22\"]\norder = \"listed\"");
    assert_eq!(planned(&world), ["[::1]", "[2001:db8::1]:22", "root@[fe80::1%eth0]:22"]);
}

#[test]
fn a_range_that_cannot_be_meant_is_refused_with_its_place() {
    let world = World::new();
    for (range, message) in [
        ("web[12:01]", "the range `[12:01]` ends before it begins"),
        ("web[01:]", "the range `[01:]` has no end"),
        ("web[1:012]", "the numbers of the range `[1:012]` differ in width"),
        ("web[01:12", "`[` is not closed"),
        ("[01:12].example.com", "`[…]` at a name's beginning holds an IPv6 address"),
        ("web[1:200000]", "`web[1:200000]` stands for 200000 names; a job has at most 100000 targets"),
        ("r[1:999]n[1:999]", "`r[1:999]n[1:999]` stands for 998001 names; a job has at most 100000 targets"),
        (
            "a[1:999999999]b[1:999999999]c[1:999999999]",
            "`a[1:999999999]b[1:999999999]c[1:999999999]` stands for more than 100000 names",
        ),
    ] {
        job(&world, &format!("hosts = [\"db01\", \"{range}\"]"));
        for line in ["check job.toml", "plan job.toml", "run job.toml"] {
            assert_eq!(problems(&world, line), [format!("job.toml:7:18 targets.hosts[1]: {message}")], "{line}");
        }
        job(&world, "command = [\"cat\", \"list\"]");
        world.file("list", &format!("db01\n\n{range}\n"));
        let told = problems(&world, "plan job.toml");
        assert!(told.len() == 1 && told[0].starts_with("output of `cat list`:3:1 "), "{told:?}");
        assert!(told[0].ends_with(message), "{told:?}");
    }
    job(&world, "hosts = [\"web[1:60000]\", \"db[1:60000]\", \"app[1:60000]\"]");
    let told = problems(&world, "check job.toml");
    assert_eq!(
        told,
        ["job.toml:7:26 targets.hosts[1]: `db[1:60000]` stands for 60000 names; a job has at most 100000 targets"]
    );
}

#[test]
fn a_list_with_headings_is_refused_with_its_line() {
    let world = World::new();
    job(&world, "command = [\"cat\", \"list\"]");
    world.file("list", "\u{feff}web01\n[db]\ndb01\n");
    let told = problems(&world, "plan job.toml");
    let message = "`[db]` is not a host name: `[…]` at a name's beginning holds an IPv6 address";
    assert_eq!(told, [format!("output of `cat list`:2:1 : {message}")]);
    assert_eq!(problems(&world, "run job.toml"), told);
    assert_eq!((runs(&world).len(), acted(&world).len()), (0, 0));
    // The mark before the text is no part of the first name.
    world.file("list", "\u{feff}web01\r\n\r\n# db\r\ndb01\r\n");
    assert_eq!(planned(&world), ["db01", "web01"]);
    let ran = lockkeeper(&world, "run job.toml");
    assert_eq!((ran.code, acted(&world)), (Some(0), vec!["db01".to_owned(), "web01".to_owned()]), "{ran:?}");
}

#[test]
fn whatever_is_no_list_of_hosts_is_refused_and_shown_safely() {
    let world = World::new();
    job(&world, "command = [\"cat\", \"list\"]");
    let long = format!("<html>{}</html>", "x".repeat(100_000));
    for (list, place) in [
        (&b"<!DOCTYPE html>\n<html>\n"[..], "1:1"),
        (b"web01\nweb02\t10.0.0.2\n", "2:1"),
        (b"web01\nweb\x1b[2J02\n", "2:1"),
        (b"web01\nweb\xe2\x80\xae20\n", "2:1"),
        (b"web01\nweb\xff02\n", "2:4"),
        (b"\xff\xfew\0e\0b\0", "1:1"),
        (b"web01\n\0\0\0\n", "2:1"),
        (b"{\"error\": \"no such group\"}\n", "1:8"),
        (b"[\"web01\",\n{\"name\": 7}]", "2:10"),
        (b"[\"web01\",\n", "2:1"),
        (long.as_bytes(), "1:1"),
    ] {
        std::fs::write(world.folder().join("list"), list).unwrap();
        let shown = String::from_utf8_lossy(&list[..list.len().min(40)]).into_owned();
        let told = problems(&world, "plan job.toml");
        assert!(told[0].starts_with(&format!("output of `cat list`:{place} ")), "{shown:?}: {told:?}");
        let refused = lockkeeper(&world, "run job.toml");
        assert_eq!(refused.code, Some(2), "{refused:?}");
        let is_safe = |c: char| c == '\n' || !c.is_control() && c != '\u{202e}';
        assert!(refused.stderr.chars().all(is_safe) && refused.stderr.len() < 10_000, "{shown:?}: {refused:?}");
        assert!(refused.stderr.contains("cat list"), "{shown:?}: {refused:?}");
    }
    assert_eq!((runs(&world).len(), acted(&world).len()), (0, 0));
}

#[test]
fn a_command_lists_labels_as_json() {
    let world = World::new();
    job(&world, "command = [\"cat\", \"list\"]");
    let text = std::fs::read_to_string(world.folder().join("job.toml")).unwrap();
    world.file("job.toml", &text.replace("echo $LOCKKEEPER_TARGET", "echo $LOCKKEEPER_TARGET {label.rack}"));
    let array = r#"[{"name": "web01", "labels": {"rack": "a"}}, {"name": "db[1:2]", "labels": {"rack": "b"}}]"#;
    let lines = "{\"name\": \"web01\", \"labels\": {\"rack\": \"a\"}}\n{\"name\": \"db[1:2]\", \"labels\": {\"rack\": \"b\"}}\n";
    for list in [array, lines] {
        world.file("list", list);
        let planned = lockkeeper(&world, "plan job.toml --format json");
        let planned: Value = serde_json::from_str(&planned.stdout).unwrap_or_else(|_| panic!("{planned:?}"));
        let labels: Vec<_> =
            planned["targets"].as_array().unwrap().iter().map(|target| &target["labels"]["rack"]).collect();
        assert_eq!(labels, ["b", "b", "a"], "{planned}");
    }
    let ran = lockkeeper(&world, "run job.toml");
    assert_eq!(
        (ran.code, acted(&world)),
        (Some(0), ["db1 b", "db2 b", "web01 a"].map(String::from).to_vec()),
        "{ran:?}"
    );
    // One without the label that the command names is refused as in a job.
    world.file("list", "[\"web01\"]");
    let told = problems(&world, "plan job.toml");
    assert!(told.len() == 1 && told[0].contains("target `web01` has no label `rack`"), "{told:?}");
}

#[test]
fn names_are_checked_alike_wherever_they_stand() {
    let world = World::new();
    for name in ["web 01", "web01,web02", "<web01>", "web01;", "$(id)", "hosts:", "web..de", "____"] {
        world.file("web.toml", &format!("hosts = [\"{name}\"]\n"));
        world.file("list", &format!("{name}\n"));
        for targets in [&format!("hosts = [\"{name}\"]"), "inventory = \"web.toml\"", "command = [\"cat\", \"list\"]"] {
            job(&world, targets);
            assert_eq!(problems(&world, "plan job.toml").len(), 1, "{name}: {targets}");
        }
    }
}

#[test]
fn a_file_may_begin_with_a_mark() {
    let world = World::new();
    job(&world, "inventory = \"web.toml\"");
    let text = std::fs::read_to_string(world.folder().join("job.toml")).unwrap();
    world.file("job.toml", &format!("\u{feff}{text}"));
    world.file("web.toml", "\u{feff}hosts = [\"web01\"]\r\n");
    assert_eq!(planned(&world), ["web01"]);
    let ran = lockkeeper(&world, "run job.toml");
    assert_eq!((ran.code, acted(&world)), (Some(0), vec!["web01".to_owned()]), "{ran:?}");
}

#[test]
fn a_command_that_lists_targets_ends_with_its_caller() {
    for line in ["plan job.toml", "run job.toml"] {
        let world = World::new();
        job(&world, "command = [\"sh\", \"-c\", \"sleep 1000 & echo $! > listing.tmp; mv listing.tmp listing; wait\"]");
        let mut asking = world.lockkeeper(line.split(' ')).current_dir(world.folder()).spawn().unwrap();
        let listing = world.folder().join("listing");
        eventually("the command runs", || listing.exists());
        kill(Pid::from_raw(i32::try_from(asking.id()).unwrap()), Signal::SIGINT).unwrap();
        assert_eq!(asking.wait().unwrap().code(), Some(130), "{line}");
        let sleep = std::fs::read_to_string(&listing).unwrap().trim().to_owned();
        eventually("what it started is gone", || {
            let stat = std::fs::read_to_string(format!("/proc/{sleep}/stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with(['Z', 'X']))
        });
        assert_eq!(runs(&world), [] as [Value; 0]);
    }
}
