//! `lockkeeper explain` from outside: why a target of a real run is blocked, during the run and afterwards.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use lockkeeper::audit::timeline::{self, Recorder};
use lockkeeper::audit::{History, Page, Segments, Want};
use lockkeeper_tests::{Said, World, eventually, said};
use serde_json::{Value, json};

/// A run in the background, and members of a party; ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(world: &World, arguments: &[&str]) -> Running {
    let mut command = world.lockkeeper(arguments.iter().copied());
    Running(command.current_dir(world.folder()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

fn explain(world: &World, arguments: &[&str]) -> Said {
    let mut command = world.lockkeeper(["explain", "latest"]);
    said(command.args(arguments).current_dir(world.folder()))
}

/// For programs, of a target or the run.
fn explained(world: &World, target: &str) -> Value {
    world.json(format!("explain latest {target}").trim_end())
}

fn journal(world: &World) -> Option<PathBuf> {
    let runs = fs::read_dir(world.folder().join("state/runs")).ok()?;
    runs.filter_map(Result::ok).map(|run| run.path().join("journal.jsonl")).find(|path| path.exists())
}

fn journal_has(world: &World, text: &str, times: usize) -> bool {
    let journal = journal(world).and_then(|path| fs::read_to_string(path).ok());
    journal.is_some_and(|journal| journal.matches(text).count() >= times)
}

/// A job under `rolling`, with so many targets and slots, and more lines.
fn job(targets: usize, slots: usize, action: &str, more: &str) -> String {
    let hosts: Vec<String> = (1..=targets).map(|number| format!("web{number:02}")).collect();
    format!(
        "name = \"demo\"\n[semaphore]\npath = \"/locks/demo\"\nmax-concurrency = {slots}\n[targets]\nhosts = {hosts:?}\n\
         [action]\nrun = [\"sh\", \"-c\", \"{action}\", \"{{target}}\"]\n{more}\n[policy]\nuse = \"rolling\"\n"
    )
}

#[track_caller]
fn says(said: &Said, words: &[&str]) {
    assert_eq!(said.code, Some(0), "{said:?}");
    for word in words {
        assert!(said.stdout.contains(word), "`{word}` is not said: {said:?}");
    }
}

#[test]
fn a_target_that_waits_for_a_slot_names_the_holders() {
    let world = World::new();
    world.file("job.toml", &job(7, 3, "sleep 600", ""));
    let _run = start(&world, &["run", "job.toml"]);
    eventually("three act", || journal_has(&world, "\"event\":\"started\"", 3));
    let waiting = explain(&world, &["web07"]);
    says(&waiting, &["web07 is blocked: all 3 slots are in use by this run: web01 running for "]);
    says(&waiting, &["the policy has not decided about it yet; 3 waiting targets before it", "Earliest  no time: "]);
    assert!(waiting.stderr.contains("the run is in progress or was killed"), "{waiting:?}");
    says(
        &explain(&world, &["web01"]),
        &["web01 is running: attempt 1 under fence ", "Verdict  lock (slot-held), policy `rolling`"],
    );
    let run = explain(&world, &[]);
    says(
        &run,
        &["0 of 7 targets succeeded, 3 in flight, 4 not started", "web04, web05, web06, web07  waiting  all 3 slots"],
    );
    let object = explained(&world, "web07");
    assert_eq!(
        (&object["status"], &object["because"], &object["verdict"], &object["end"]),
        (&json!("not-asked"), &json!("slots"), &Value::Null, &Value::Null),
        "{object}"
    );
    let unknown = explain(&world, &["web7"]);
    assert_eq!(unknown.code, Some(2), "{unknown:?}");
    assert!(
        unknown.stderr.contains("has no target `web7`") && unknown.stderr.contains("did you mean `web0"),
        "{unknown:?}"
    );
}

#[test]
fn the_reported_change_unblocks_the_target() {
    let world = World::new();
    world.file("job.toml", &job(2, 2, "true", "[party]\npath = \"/party/web\"\nmin-nodes = 3\nblocking = true"));
    let member =
        |name: &str| start(&world, &["party", "join", "/party/web", "--identifier", name, "--", "sleep", "600"]);
    let there = || world.json("party members /party/web").as_array().map_or(0, Vec::len);
    let mut members: Vec<Running> = ["web01", "web02"].map(member).into();
    eventually("two are members", || there() == 2);
    let _run = start(&world, &["run", "job.toml"]);
    eventually("the policy decides about both", || journal_has(&world, "\"event\":\"waiting\"", 2));
    let object = explained(&world, "web02");
    assert_eq!((&object["because"], &object["verdict"]["code"]), (&json!("policy"), &json!("below-floor")), "{object}");
    let change = "the party had 4 members; it has 2";
    assert_eq!(object["unblocked-if"]["if"], json!({ "change": change, "verdict": "lock", "at": null }), "{object}");
    says(
        &explain(&world, &["web02"]),
        &[
            "web02 is blocked: policy `rolling` answers wait: 1 of 2 members would remain, the floor is 3 (below-floor)",
            "party `/party/web` has 2 members, its floor is 3; 1 would remain while this target is running: web01, web02",
            "Unblocked  if the party had 4 members; it has 2",
        ],
    );
    // With one more it does not; with two it does.
    members.push(member("other1"));
    eventually("a third member is seen", || journal_has(&world, "2 of 3 members would remain", 1));
    let object = explained(&world, "web02");
    assert_eq!(object["unblocked-if"]["if"]["change"], json!("the party had 4 members; it has 3"), "{object}");
    assert!(!journal_has(&world, "\"event\":\"started\"", 1));
    members.push(member("other2"));
    eventually("the run is finished", || journal_has(&world, "\"end\":\"succeeded\"", 1));
    says(&explain(&world, &["web02"]), &["web02 succeeded ", "attempt 1 after "]);
    assert_eq!(explained(&world, "")["end"], json!("succeeded"));
}

#[test]
fn a_hard_limit_that_blocks_is_named_with_what_unblocks_it() {
    let world = World::new();
    let action = "case $0 in web01) exit 7;; *) sleep 600;; esac";
    world.file("job.toml", &job(4, 3, action, "[budget]\nmax-failed = 2"));
    let _run = start(&world, &["run", "job.toml"]);
    eventually("one failed, one is under way, and the next is refused", || {
        journal_has(&world, "\"event\":\"failed\"", 1)
            && journal_has(&world, "1 under way could spend the failure budget", 1)
    });
    let refused = explain(&world, &["web03"]);
    says(
        &refused,
        &[
            "web03 is blocked: a hard limit of the job blocks all targets: 1 under way could spend the failure budget \
             (budget-reserved)",
            "policy `rolling` would admit it",
            "Refused  by the hard limit `budget-reserved`",
            "the failure budget is 2: ",
            "or if no target had failed; 1 has",
            "or if the job's `max-failed` was 3; it is 2",
        ],
    );
    // The decision was made while web02 queued, or after it had its slot.
    let done = "Unblocked  if web02 had finished and released its slot: 0 of 3 held, not 1";
    let gone = "Unblocked  if no other target of this run was in flight; 1 is, including queued ones";
    assert!(refused.stdout.contains(done) || refused.stdout.contains(gone), "{refused:?}");
    // Targets without a decision wait for the same.
    let object = explained(&world, "web04");
    assert_eq!((&object["because"], &object["asked-about"]), (&json!("limit"), &json!("web03")), "{object}");
    assert_eq!(object["refused"]["facts"]["reserved"], json!(1), "{object}");
    says(&explain(&world, &["web01"]), &["web01 failed ", "attempt 1, command exited with 7", "output/web01.1.log"]);
}

#[test]
fn the_next_window_is_the_earliest_time_and_unblocks_the_target() {
    let world = World::new();
    // A day that is not today, nor tomorrow.
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    let opens = now.date().checked_add(jiff::Span::new().days(3)).unwrap();
    let day = opens.strftime("%a").to_string();
    let window = format!("[[window]]\ndays = [\"{day}\"]\nstart = \"03:30\"\nduration = \"2h\"\ntime-zone = \"UTC\"");
    world.file("job.toml", &job(2, 1, "true", &window));
    let mut run = start(&world, &["run", "job.toml"]);
    eventually("the window refuses", || journal_has(&world, "\"event\":\"refused\"", 1));
    // Killed, and in the middle of a line.
    run.0.kill().unwrap();
    run.0.wait().unwrap();
    let path = journal(&world).unwrap();
    let mut text = fs::read_to_string(&path).unwrap();
    let last = text.lines().last().unwrap()[..71 + 9].to_owned();
    let hash = text.trim_end().rsplit_once("\"hash\":\"").unwrap().1.trim_end_matches("\"}").to_owned();
    text.push_str(&last.replace(&last[9..9 + 64], &hash));
    fs::write(&path, text).unwrap();
    let expected = opens.at(3, 30, 0, 0).to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp().as_millisecond();
    for target in ["web01", "web02"] {
        let object = explained(&world, target);
        assert_eq!(object["earliest"]["at"], json!(expected), "{object}");
        assert_eq!(object["unblocked-if"]["if"]["at"], json!(expected), "{object}");
        assert!(object["runner-epochs"][0]["torn"].is_u64(), "{object}");
    }
    let run = explain(&world, &[]);
    says(
        &run,
        &[
            "web01, web02  waiting  a hard limit of the job blocks all targets: no window is open",
            " 03:30:00Z (window)",
        ],
    );
    assert!(run.stderr.contains("ends in the middle of line"), "{run:?}");
}

#[test]
fn a_timeline_never_exceeds_the_limit() {
    let world = World::new();
    world.file("job.toml", &job(9, 3, "test $0 != web05", "[budget]\nstop-at = \"unlimited\""));
    let ran = said(world.lockkeeper(["run", "job.toml", "--quiet"]).current_dir(world.folder()));
    assert_eq!(ran.code, Some(1), "web05 fails: {ran:?}");
    let picture = world.folder().join("run.svg");
    let drew = world.run(&format!("status latest --timeline {}", picture.display()));
    assert_eq!(drew.code, Some(0), "{drew:?}");
    let mut history = History::new(Segments::alone(&journal(&world).unwrap()), Want::Everything);
    let mut recorder = None;
    while let Some(page) = history.page().unwrap() {
        if let Page::Segment(header) = &page {
            recorder = Some(Recorder::new(header));
        }
        recorder.as_mut().unwrap().follow(&page);
    }
    let timeline = recorder.unwrap().finish(history.summaries()[0].closing.as_ref());
    assert_eq!(timeline.holds.len(), 9);
    assert!(timeline.in_use().iter().all(|(_, used)| *used <= 3), "{:?}", timeline.in_use());
    assert_eq!(timeline.in_use().last().unwrap().1, 0);
    let drawn = fs::read_to_string(&picture).unwrap();
    assert_eq!(drawn, timeline::svg(&timeline));
    assert!(drawn.contains("web05: failed"), "{drawn}");
    let nowhere = world.run("status latest --timeline /nowhere/run.svg");
    assert!(nowhere.code == Some(1) && nowhere.stderr.contains("cannot write the timeline"), "{nowhere:?}");
}
