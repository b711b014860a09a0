//! Runs as the real binary shows them: in progress, finished, and from another folder.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use lockkeeper_tests::zookeeper::{self, available};
use lockkeeper_tests::{Said, World, eventually, said};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// Each target waits for a gate; `bad` fails.
const JOB: &str = r#"
name = "looked"
[semaphore]
path = "/locks/looked"
max-concurrency = 2
[targets]
hosts = ["a", "bad", "c", "d"]
order = "listed"
[[wave]]
name = "first"
size = 2
[[wave]]
name = "rest"
approve = true
[policy]
use = "rolling"
[budget]
stop-at = "unlimited"
[action]
run = ["sh", "-c", "echo $0 >> {job-dir}/acted; until test -e {job-dir}/go; do sleep 0.02; done; test $0 != bad", "{target}"]
"#;

struct Ground {
    world: World,
    store: Vec<String>,
}

impl Ground {
    fn embedded() -> Self {
        let world = World::new();
        world.file("job.toml", JOB);
        Self { world, store: vec!["--session-timeout".to_owned(), "2s".to_owned()] }
    }

    fn on_zookeeper(chroot: &str) -> Self {
        let hosts = format!("{}/{chroot}", zookeeper::shared().address());
        let store = ["--zk-hosts", &hosts, "--session-timeout", "2s"].map(str::to_owned).to_vec();
        Self { store, ..Self::embedded() }
    }

    fn command(&self, line: &str) -> Command {
        let mut command = self.world.lockkeeper(line.split(' '));
        command.args(&self.store).current_dir(self.world.folder()).env("COLUMNS", "200");
        command
    }

    fn does(&self, line: &str) -> Said {
        said(&mut self.command(line))
    }

    /// Null where there is no such run.
    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.does(&format!("{line} --format json")).stdout).unwrap_or_default()
    }

    fn starts(&self, line: &str) -> Child {
        self.command(line).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn running(&self) -> usize {
        fs::read_to_string(self.world.folder().join("acted")).unwrap_or_default().lines().count()
    }

    fn opens_the_gate(&self) {
        self.world.file("go", "");
    }

    /// Answers as a snapshot shows them.
    fn transcript(&self, lines: &[&str]) -> String {
        let one = |line: &&str| {
            let Said { code, stdout, stderr } = self.does(line);
            let code = code.map_or("signal".to_owned(), |code| code.to_string());
            format!("$ lockkeeper {line}\n{stdout}--- stderr\n{stderr}--- exit {code}\n")
        };
        lines.iter().map(one).collect::<Vec<_>>().join("\n")
    }
}

/// Replaces what differs from run to run.
macro_rules! snapshot {
    ($ground:expr, $text:expr) => {
        let folder = $ground.world.folder().display().to_string();
        insta::with_settings!({
            filters => vec![
                (folder.as_str(), "[FOLDER]"),
                (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ \([^)]*\)", "[MOMENT]"),
                (r"\d{8}T\d{6}Z-[0-9a-f]{6}", "[RUN]"),
                (r"on \S+:\d+ since", "on [RUNNER] since"),
                (r"by [^\s:,]+@[^\s:,]+", "by [PERSON]"),
                (r"(?m)(Journal  in \S+ at) \S+$", "$1 [HOST]"),
                (r"(\[MOMENT\]) +\d+ +(running|another|not)", "$1  [FENCE]  $2"),
                (r"\S+:\d+ has acknowledged", "[RUNNER] has acknowledged"),
                (r" {2,}", "  "),
            ],
            omit_expression => true,
        }, { insta::assert_snapshot!($text) });
    };
}

#[test]
fn a_store_without_runs_says_how_to_start_one() {
    let ground = Ground::embedded();
    let text = ground.transcript(&[
        "status",
        "status --format json",
        "status looked",
        "status looked --format json",
        "status --watch",
        "pause latest",
        "prune",
        "prune --job looked",
    ]);
    snapshot!(ground, text);
}

/// Running targets by name: which of two simultaneous ones got its slot first is not determined.
fn by_name(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    lines
        .chunk_by_mut(|one, other| [one, other].iter().all(|line| line.contains(" running since ")))
        .for_each(<[_]>::sort);
    lines.join("\n")
}

#[test]
fn a_run_is_shown_from_start_to_end() {
    let ground = Ground::embedded();
    let mut run = ground.starts("run job.toml --quiet");
    eventually("two are under way, and it has said so", || {
        ground.running() == 2 && ground.json("status looked")["run-status"]["running"] == json!(2)
    });
    // A lease of another holder, and a waiting caller.
    let alone = ground.does("lock /locks/looked --identifier else --max-concurrency 2 --force --reason why --quiet");
    assert_eq!(alone.code, Some(0), "{alone:?}");
    let mut waits = ground.starts("lock /locks/looked --identifier waiting --max-concurrency 2 -- true");
    eventually("it queues", || ground.json("status looked")["queue"] == json!(["waiting"]));
    let going = by_name(&ground.transcript(&["status", "status looked"]));
    assert_eq!(ground.does("unlock /locks/looked --identifier else").code, Some(0));

    ground.opens_the_gate();
    eventually("it waits for approval", || {
        ground.json("status looked")["run-status"]["blocker"]["code"] == json!("wave-approval")
    });
    assert_eq!(waits.wait().unwrap().code(), Some(0));
    let held = ground.transcript(&["status looked", "pause looked --reason later", "status", "status latest --all"]);
    let resumed = ground.does("resume looked");
    assert!(resumed.code == Some(0) && resumed.stderr.contains("has acknowledged the request"), "{resumed:?}");
    // It may finish before it is read.
    assert_eq!(ground.does("approve looked rest").code, Some(0));
    assert_eq!(run.wait().unwrap().code(), Some(1), "`bad` fails");
    let over = ground.transcript(&[
        "status",
        "status latest",
        "status looked- --all",
        "status lokked",
        "status nothing-like-it",
        "abort looked",
        "pause looked",
        "retry looked bat",
        "retry looked a bad",
        "retry looked --skipped",
    ]);
    snapshot!(ground, [going, held, over].join("\n=== later\n\n"));

    let list = ground.json("status");
    let row = &list[0];
    assert_eq!(
        (&row["status"], &row["job"], &row["end"]["end"]),
        (&json!("finished"), &json!("looked"), &json!("failed"))
    );
    assert_eq!(
        (&row["counts"]["succeeded"], &row["counts"]["failed"], &row["runner"]),
        (&json!(3), &json!(1), &Value::Null)
    );
    let one = ground.json("status latest");
    let targets: Vec<_> = one["targets"].as_array().unwrap().iter().map(|row| row["target"].clone()).collect();
    assert_eq!(targets, [json!("bad")], "who is done is not listed without --all");
    assert_eq!(
        (&one["targets"][0]["wave"], &one["targets"][0]["record"]["status"]),
        (&json!("first"), &json!("failed"))
    );
    assert_eq!(ground.json("status latest --all")["targets"].as_array().unwrap().len(), 4);
}

fn rest_of(mut child: Child) -> (Option<i32>, String) {
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    (child.wait().unwrap().code(), text)
}

#[test]
fn a_run_is_watched_until_it_is_finished() {
    let ground = Ground::embedded();
    ground.world.file("job.toml", &JOB.replace("approve = true", ""));
    let mut run = ground.starts("run job.toml --quiet");
    eventually("two are under way", || ground.running() == 2);
    let programs = ground.starts("status looked --watch --format json");
    let people = ground.starts("status looked --watch");
    // A signal ends the watch.
    let mut enough = ground.starts("status looked --watch");
    let mut first = String::new();
    BufReader::new(enough.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.contains("of job `looked`"), "{first}");
    kill(Pid::from_raw(i32::try_from(enough.id()).unwrap()), Signal::SIGINT).unwrap();
    assert_eq!(enough.wait().unwrap().code(), Some(0));

    ground.opens_the_gate();
    assert_eq!(run.wait().unwrap().code(), Some(1), "`bad` fails");
    let (code, text) = rest_of(programs);
    let seen: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(seen.last().unwrap()["status"], "finished", "{text}");
    let lasting = |seen: &Value| {
        let mut seen = seen.clone();
        seen["at"] = Value::Null;
        for member in ["at", "estimated-end"] {
            if let Some(now) = seen["run-status"].as_object_mut() {
                now.remove(member);
            }
        }
        seen
    };
    assert!(seen.windows(2).all(|two| lasting(&two[0]) != lasting(&two[1])), "each is another: {text}");
    let (code, text) = rest_of(people);
    assert!(code == Some(0) && text.trim_end().ends_with("command exited with 1"), "{text}");
    assert!(text.matches(" of job `looked`").count() <= seen.len() + 5 && text.contains("State  failed: "), "{text}");
    assert!(!text.contains('\u{1b}'), "a pipe gets no control characters: {text:?}");
}

/// With an unfinished action, another slot whose target waits for its next attempt, and the commands to continue.
fn an_abandoned_run_is_named_with_its_slots_until_they_are_given_back(ground: &Ground) {
    let mut run = ground.starts("run job.toml --quiet");
    eventually("two are under way", || ground.running() == 2);
    let list = ground.json("status");
    assert_eq!((&list[0]["status"], &list[0]["abandoned"]), (&json!("running"), &Value::Null), "{list:#}");
    // Nothing is taken from a living runner.
    let refused = ground.does("abort looked --release --format json");
    let error: Value = serde_json::from_str(&refused.stderr).unwrap_or_else(|_| panic!("{refused:?}"));
    assert_eq!((refused.code, &error["error"]), (Some(75), &json!("running")), "{error}");
    assert_eq!(ground.json("status looked")["requests"]["aborted"], Value::Null);

    run.kill().unwrap();
    run.wait().unwrap();
    eventually("its session is over", || ground.json("status looked")["status"] == json!("abandoned"));
    let list = ground.json("status");
    let left = &list[0]["abandoned"];
    let (started, since) = (list[0]["started"].as_u64().unwrap(), left["since"].as_u64().unwrap());
    assert!(since >= started && since <= now_ms(), "{list:#}");
    let slots: Vec<_> =
        left["slots"].as_array().unwrap().iter().map(|slot| (&slot["target"], &slot["may-run"])).collect();
    assert_eq!(slots, [(&json!("a"), &json!(true)), (&json!("bad"), &json!(true))], "{list:#}");
    assert_eq!(left["slots"][0]["semaphore"], "/locks/looked");
    assert!(left["slots"][0]["since"].as_u64().unwrap() >= started, "{list:#}");
    let file = ground.world.folder().canonicalize().unwrap().join("job.toml").display().to_string();
    assert!(left["resume"].as_str().unwrap().starts_with(&format!("lockkeeper run {file}")), "{list:#}");
    let (run, release) = (list[0]["run"].as_str().unwrap(), left["release"].as_str().unwrap().to_owned());
    assert!(release.starts_with(&format!("lockkeeper abort {run} --release")), "{list:#}");
    let text = ground.does("status").stdout;
    for part in [
        format!("Abandoned  run `{run}` of job `looked`: no runner since "),
        "Holds  a slot of `/locks/looked` for `a`, since ".to_owned(),
        "; its command may still be running".to_owned(),
        format!("Resume  `lockkeeper run {file}"),
        format!("Release  `{release}` aborts it and releases these slots"),
    ] {
        assert!(text.contains(&part), "{part}: {text}");
    }
    let one = ground.does("status looked").stdout;
    assert!(one.contains(&format!("`{release}`")) && one.contains("unfinished, no runner since"), "{one}");

    // The printed command is run as it is.
    let words: Vec<&str> = release.split(' ').skip(1).chain(["--format", "json"]).collect();
    let mut command = ground.world.lockkeeper(words);
    let released = said(command.current_dir(ground.world.folder()));
    let object: Value = serde_json::from_str(&released.stdout).unwrap_or_else(|_| panic!("{released:?}"));
    assert_eq!((released.code, &object["released"]), (Some(0), &json!(["a", "bad"])), "{object:#}");
    assert_eq!((&object["slots"][0]["target"], &object["slots"][0]["may-run"]), (&json!("a"), &json!(true)));
    assert_eq!(ground.json("holders /locks/looked")["holders"], json!([]));
    let list = ground.json("status");
    assert_eq!((&list[0]["status"], &list[0]["abandoned"]), (&json!("finished"), &Value::Null), "{list:#}");
    let again = ground.json("abort looked --release");
    assert_eq!((&again["new"], &again["result"]), (&json!(false), &json!("aborted")), "{again:#}");
    // The commands end before their folder is deleted.
    ground.opens_the_gate();
    let folder = ground.world.folder().display().to_string();
    let is_of_ours = |entry: &fs::DirEntry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&folder)
    };
    eventually("its commands have ended", || !fs::read_dir("/proc").unwrap().flatten().any(|entry| is_of_ours(&entry)));
}

fn now_ms() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap()
}

#[test]
fn an_abandoned_run_is_named_on_an_embedded_store() {
    an_abandoned_run_is_named_with_its_slots_until_they_are_given_back(&Ground::embedded());
}

#[test]
fn an_abandoned_run_is_named_on_zookeeper() {
    if available() {
        an_abandoned_run_is_named_with_its_slots_until_they_are_given_back(&Ground::on_zookeeper("abandoned"));
    }
}

/// As from another host: another state folder, the same servers.
#[test]
fn a_run_is_seen_and_steered_from_another_host_on_zookeeper() {
    if !available() {
        return;
    }
    let ground = Ground::on_zookeeper("status");
    let other = Ground { store: ground.store.clone(), ..Ground::embedded() };
    let mut run = ground.starts("run job.toml --quiet");
    eventually("two are under way", || ground.running() == 2);
    let seen = other.json("status looked");
    assert_eq!((&seen["status"], &seen["counts"]["running"]), (&json!("running"), &json!(2)), "{seen:#}");
    let command_kind: Vec<_> =
        seen["holders"].as_array().unwrap().iter().map(|held| held["record"]["status"].clone()).collect();
    assert_eq!(command_kind, [json!("running"), json!("running")]);
    let paused = other.does("pause looked --reason elsewhere --format json");
    let paused: Value = serde_json::from_str(&paused.stdout).unwrap_or_else(|_| panic!("{paused:?}"));
    assert_eq!(
        (&paused["result"], &paused["new"], &paused["acknowledged"]),
        (&json!("paused"), &json!(true), &json!(true))
    );
    let again = other.json("pause looked --reason again");
    assert_eq!((&again["new"], &again["request"]["reason"]), (&json!(false), &json!("elsewhere")), "{again:#}");

    // Its runner is killed: the run is unfinished, and `abort` finishes it.
    run.kill().unwrap();
    run.wait().unwrap();
    eventually("its session is over", || other.json("status looked")["status"] == json!("abandoned"));
    let recorded = other.json("resume looked");
    assert_eq!((&recorded["acknowledged"], &recorded["runner"]), (&json!(false), &Value::Null), "{recorded:#}");
    let aborted = other.json("abort looked --reason enough");
    assert_eq!(
        (&aborted["released"], &aborted["unknown"]),
        (&json!(["a", "bad"]), &json!(["a", "bad"])),
        "{aborted:#}"
    );
    assert_eq!(other.json("holders /locks/looked")["holders"], json!([]));
    let over = other.json("status looked");
    assert_eq!((&over["status"], &over["counts"]["unknown"]), (&json!("finished"), &json!(2)), "{over:#}");
    assert_eq!(other.json("abort looked")["new"], json!(false));
    ground.opens_the_gate();

    // Reopened, and resumed to its end.
    let again = other.json("retry looked --all");
    assert_eq!((&again["reopened"], again["targets"].as_array().unwrap().len()), (&json!(true), 4), "{again:#}");
    assert_eq!(other.does("approve looked rest").code, Some(0));
    let ended = ground.does("run job.toml --quiet");
    assert_eq!(ended.code, Some(1), "`bad` fails: {ended:?}");
    let over = other.json("status looked");
    assert_eq!(
        (&over["counts"]["succeeded"], &over["record"]["ended"]["end"]),
        (&json!(3), &json!("failed")),
        "{over:#}"
    );
    let pruned = other.json("prune --older-than 0");
    assert_eq!(pruned["runs"].as_array().unwrap().len(), 1, "{pruned:#}");
    assert_eq!(other.json("status"), json!([]));
}
