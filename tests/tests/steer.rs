//! Runs read and controlled from another shell, with the real binary.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::fs;
use std::process::{Child, Command, Stdio};

use lockkeeper_tests::{Said, World, eventually, said};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// Each target records that it is running and waits for its gate; `bad` fails until it is repaired.
const JOB: &str = r#"
name = "steered"
[semaphore]
path = "/locks/steered"
max-concurrency = 2
[targets]
hosts = ["a", "b", "bad", "c", "d"]
order = "listed"
[policy]
use = "rolling"
MORE
[action]
run = ["sh", "-c", "echo $0 >> {job-dir}/acted; until test -e {job-dir}/go-$0 -o -e {job-dir}/go; do sleep 0.02; done; test $0 != bad -o -e {job-dir}/mended", "{target}"]
"#;

/// Continues after a failure, unless these lines say otherwise.
fn job(more: &str) -> String {
    let budget = if more.contains("[budget]") { "" } else { "[budget]\nstop-at = \"unlimited\"\n" };
    JOB.replace("MORE", &format!("{more}{budget}"))
}

struct Ground {
    world: World,
}

impl Ground {
    fn new(more: &str) -> Self {
        let world = World::new();
        world.file("job.toml", &job(more));
        Self { world }
    }

    fn command(&self, line: &str) -> Command {
        let mut command = self.world.lockkeeper(line.split(' '));
        if !line.starts_with("explain") {
            command.args(["--session-timeout", "2s"]);
        }
        command.current_dir(self.world.folder());
        command
    }

    fn does(&self, line: &str) -> Said {
        said(&mut self.command(line))
    }

    /// Null before the run has started.
    fn status(&self) -> Value {
        let said = self.does("status steered --all --format json");
        match said.code {
            Some(0) => serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}")),
            _ => Value::Null,
        }
    }

    fn status_of(&self, target: &str) -> String {
        let status = self.status();
        let targets = status["targets"].as_array().unwrap();
        let found = targets.iter().find(|row| row["target"] == target).unwrap();
        found["record"]["status"].as_str().unwrap().to_owned()
    }

    fn starts(&self) -> Child {
        self.command("run job.toml --quiet").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn acted(&self) -> Vec<String> {
        let text = fs::read_to_string(self.world.folder().join("acted")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn opens(&self, gate: &str) {
        self.world.file(gate, "");
    }
}

fn refused(said: &Said, kind: &str) -> String {
    let error: Value = serde_json::from_str(&said.stderr).unwrap_or_else(|_| panic!("{said:?}"));
    assert_eq!((said.code, &error["error"]), (Some(2), &json!(kind)), "{said:?}");
    error["message"].as_str().unwrap().to_owned()
}

#[test]
fn a_pause_starts_nothing_new_until_it_is_taken_back() {
    let ground = Ground::new("");
    let mut run = ground.starts();
    eventually("two are under way", || ground.acted().len() == 2);
    let paused = ground.does("pause steered --reason looking");
    assert!(
        paused.code == Some(0)
            && paused.stderr.contains("has acknowledged the request: nothing new starts; 2 running actions finish"),
        "{paused:?}"
    );
    let status = ground.status();
    assert_eq!((&status["status"], &status["requests"]["paused"]["reason"]), (&json!("running"), &json!("looking")));
    ground.opens("go");
    eventually("what acted has ended", || ground.status()["counts"]["succeeded"] == json!(2));
    eventually("it waits, and says for what", || ground.status()["run-status"]["blocker"]["code"] == json!("paused"));
    assert_eq!(ground.acted().len(), 2, "nothing new has started");
    let why = ground.does("explain latest d");
    assert!(why.stdout.contains("paused by") && why.stdout.contains("if the run was not paused"), "{why:?}");
    assert_eq!(ground.does("resume steered").code, Some(0));
    assert_eq!(run.wait().unwrap().code(), Some(1), "`bad` fails");
    assert_eq!(ground.acted().len(), 5);

    // A failed target is retried on request, and the finished run is resumed.
    assert!(refused(&ground.does("pause steered --format json"), "finished").contains("` finished "));
    assert!(refused(&ground.does("retry steered a --format json"), "bad-argument").contains("`a` (succeeded)"));
    assert!(refused(&ground.does("retry steered nobody --format json"), "bad-argument").contains("`nobody`"));
    ground.opens("mended");
    let retry = ground.does("retry steered --failed");
    assert!(retry.code == Some(0) && retry.stderr.contains("bad, which was failed"), "{retry:?}");
    let again = ground.does("run job.toml");
    assert_eq!(again.code, Some(0), "{again:?}");
    assert_eq!(ground.acted().iter().filter(|target| *target == "bad").count(), 2);
    assert_eq!(ground.acted().len(), 6, "no other target was retried");
}

#[test]
fn an_aborted_run_starts_nothing_more_and_is_finished() {
    let ground = Ground::new("");
    let mut run = ground.starts();
    eventually("two are under way", || ground.acted().len() == 2);
    assert_eq!(ground.does("abort steered --reason enough").code, Some(0));
    eventually("it says that it stops", || !ground.status()["run-status"]["stopping"].is_null());
    ground.opens("go");
    assert_eq!(run.wait().unwrap().code(), Some(1));
    let status = ground.status();
    assert_eq!((&status["status"], &status["record"]["ended"]["end"]), (&json!("finished"), &json!("aborted")));
    assert!(status["record"]["ended"]["reason"].as_str().unwrap().contains("enough"), "{status}");
    assert_eq!((ground.acted().len(), ground.world.holders("/locks/steered").len()), (2, 0));
    // The same job, not changed: there is nothing to do.
    let again = ground.does("run job.toml");
    assert!(again.code == Some(1) && again.stderr.contains("Nothing to do"), "{again:?}");
}

#[test]
fn a_run_without_a_runner_is_aborted_at_once_and_holds_nothing() {
    let ground = Ground::new("");
    let mut run = ground.starts();
    eventually("two are under way", || ground.acted().len() == 2);
    run.kill().unwrap();
    run.wait().unwrap();
    assert_eq!(ground.world.holders("/locks/steered").len(), 2, "its leases outlive it");
    eventually("its session is over", || ground.status()["status"] == json!("abandoned"));
    let aborted = ground.does("abort steered");
    assert!(aborted.code == Some(0) && aborted.stderr.contains("which no runner drives"), "{aborted:?}");
    assert_eq!(ground.world.holders("/locks/steered").len(), 0);
    assert_eq!((ground.status_of("a"), ground.status_of("d")), ("unknown".to_owned(), "pending".to_owned()));
    ground.opens("go");

    // An old run is pruned, and with it everything known of the job.
    let dry = ground.does("prune --older-than 0 --dry-run");
    assert!(dry.stderr.contains("Would prune 1 run; 0 stay"), "{dry:?}");
    let kept = ground.does("prune --older-than 1h");
    assert!(kept.stderr.contains("Pruned 0 runs; 1 stay"), "{kept:?}");
    assert_eq!(ground.does("prune --older-than 0").code, Some(0));
    assert_eq!(fs::read_dir(ground.world.folder().join("state/runs")).unwrap().count(), 0);
    assert!(refused(&ground.does("status steered --format json"), "no-such-run").contains("`steered`"));
    ground.opens("mended");
    assert_eq!(ground.does("run job.toml").code, Some(0), "a new run begins");
}

#[test]
fn a_target_is_retried_while_its_run_continues() {
    let ground = Ground::new("");
    for gate in ["go-a", "go-bad"] {
        ground.opens(gate);
    }
    let mut run = ground.starts();
    eventually("one has failed", || ground.status()["counts"]["failed"] == json!(1));
    eventually("two others act", || ground.status()["counts"]["running"] == json!(2));
    let refused_all = ground.does("retry steered bad b --format json");
    assert!(refused(&refused_all, "bad-argument").contains("`b` (running)"), "{refused_all:?}");
    ground.opens("mended");
    let retry = ground.does("retry steered bad --format json");
    let retry: Value = serde_json::from_str(&retry.stdout).unwrap_or_else(|_| panic!("{retry:?}"));
    assert_eq!((&retry["acknowledged"], &retry["reopened"]), (&json!(true), &json!(false)), "{retry:#}");
    let target = &retry["targets"][0];
    assert_eq!(
        (&target["target"], &target["was"], &target["taken-up"]),
        (&json!("bad"), &json!("failed"), &json!(true))
    );
    ground.opens("go");
    assert_eq!(run.wait().unwrap().code(), Some(0), "this time no target fails");
    assert_eq!(ground.acted().iter().filter(|target| *target == "bad").count(), 2);
}

#[test]
fn old_runs_go_and_what_is_not_finished_stays() {
    let ground = Ground::new("");
    for gate in ["go", "mended"] {
        ground.opens(gate);
    }
    assert_eq!(ground.does("run job.toml --quiet").code, Some(0));
    fs::remove_file(ground.world.folder().join("go")).unwrap();
    let mut run = ground.command("run job.toml --quiet --again").spawn().unwrap();
    eventually("another is under way", || ground.status()["status"] == json!("running") && ground.acted().len() == 7);
    let policies = || fs::read_dir(ground.world.folder().join("state/policies")).unwrap().count();
    // A folder of an unfinished run of another store.
    let others = ground.world.folder().join("state/runs/others-1");
    fs::create_dir(&others).unwrap();
    fs::write(others.join("journal.jsonl"), "").unwrap();
    let pruned = ground.does("prune --older-than 0 --format json");
    let pruned: Value = serde_json::from_str(&pruned.stdout).unwrap_or_else(|_| panic!("{pruned:?}"));
    let unfinished = ground.status()["run"].clone();
    assert_eq!((&pruned["unfinished"], &pruned["policies"]), (&json!([unfinished]), &json!(0)), "{pruned:#}");
    assert_eq!((pruned["runs"].as_array().unwrap().len(), &pruned["folders"]), (1, &pruned["runs"]), "{pruned:#}");
    assert_eq!(policies(), 1, "the unfinished run has a link to it");
    ground.opens("go");
    assert_eq!(run.wait().unwrap().code(), Some(0));
    let dry = ground.does("prune --older-than 0 --dry-run");
    assert!(dry.stderr.contains("1 policy without a run"), "{dry:?}");
    assert_eq!(policies(), 1, "only said");
    let pruned = ground.does("prune --older-than 0");
    assert!(pruned.stderr.contains("Pruned 1 run; 0 stay; 1 folder"), "{pruned:?}");
    assert_eq!((policies(), others.exists()), (0, true));
}

#[test]
fn a_wave_waits_for_approval() {
    let waves = "[[wave]]\nname = \"canary\"\nsize = 1\n[[wave]]\nname = \"rest\"\napprove = true\n";
    let ground = Ground::new(waves);
    ground.opens("go");
    ground.opens("mended");
    let mut run = ground.starts();
    eventually("the canary is done with", || {
        ground.status()["run-status"]["blocker"]["code"] == json!("wave-approval")
    });
    assert_eq!(ground.acted(), ["a"]);
    assert!(refused(&ground.does("approve steered canary --format json"), "bad-argument").contains("`canary`"));
    assert_eq!(ground.does("approve steered rest").code, Some(0));
    assert_eq!(run.wait().unwrap().code(), Some(0));
    assert_eq!(ground.acted().len(), 5);
}

#[test]
fn a_spent_budget_holds_a_run_until_its_failures_are_accepted() {
    let ground = Ground::new("[budget]\nmax-failed = 1\non-exhausted = \"pause\"\n");
    ground.opens("go");
    let mut run = ground.starts();
    eventually("it is held", || ground.status()["run-status"]["blocker"]["code"] == json!("budget-spent"));
    assert_eq!(ground.acted(), ["a", "b", "bad"]);
    let resumed = ground.does("resume steered");
    assert!(resumed.stderr.contains("--accept"), "{resumed:?}");
    assert_eq!(ground.does("resume steered --accept").code, Some(0));
    assert_eq!(run.wait().unwrap().code(), Some(1));
    assert_eq!((ground.acted().len(), ground.status()["counts"]["succeeded"].clone()), (5, json!(4)));
}

#[test]
fn a_job_that_changed_does_not_go_on_with_a_run_of_another() {
    let ground = Ground::new("");
    let mut run = ground.starts();
    eventually("two are under way", || ground.acted().len() == 2);
    run.kill().unwrap();
    run.wait().unwrap();
    ground.opens("go");
    ground.world.file("job.toml", &job("# changed\n"));
    let changed = ground.does("run job.toml --format json");
    assert!(refused(&changed, "unfinished").contains("the job has changed since"), "{changed:?}");
    ground.world.file("job.toml", &job(""));
    assert!(refused(&ground.does("run job.toml --again --format json"), "unfinished").contains("--again"));
    assert_eq!(ground.acted().len(), 2);
}

// ---------------------------------------------------------------------- many targets

/// Targets and a budget; each target records that it is running, and fails while a file `broken` exists.
fn many(targets: usize, slots: usize, more: &str, then: &str) -> Ground {
    let hosts: Vec<String> = (1..=targets).map(|number| format!("\"h{number:04}\"")).collect();
    let world = World::new();
    world.file("fleet.toml", &format!("hosts = [{}]\n", hosts.join(", ")));
    let job = format!(
        "name = \"steered\"\n[semaphore]\npath = \"/locks/steered\"\nmax-concurrency = {slots}\n[targets]\n\
         inventory = \"fleet.toml\"\n[policy]\nuse = \"rolling\"\n{more}[action]\n\
         run = [\"sh\", \"-c\", \"echo $0 >> {{job-dir}}/acted; {then}\", \"{{target}}\"]\n"
    );
    world.file("job.toml", &job);
    Ground { world }
}

const FAILS_WHILE_BROKEN: &str = "test ! -e {job-dir}/broken";

const CANARY: &str = "[[wave]]\nname = \"canary\"\nsize = 1\nstop-at = 1\n[[wave]]\nname = \"rest\"\n";

#[test]
fn a_canary_of_one_that_fails_stops_a_run_of_many() {
    let ground = many(300, 50, &format!("{CANARY}[budget]\nstop-at = \"50%\"\n"), FAILS_WHILE_BROKEN);
    ground.opens("broken");
    let ran = ground.does("run job.toml");
    assert_eq!((ran.code, ground.acted().as_slice()), (Some(1), &["h0001".to_owned()][..]), "{ran:?}");
    assert!(ran.stderr.contains("1 of wave `canary` failed, the wave stops at 1"), "{ran:?}");
    assert!(ran.stderr.contains("299 not started"), "{ran:?}");
    assert_eq!(ground.status()["status"], "finished");
}

#[test]
fn a_canary_that_fails_pauses_a_run_over_a_kill_until_it_is_retried() {
    let ground =
        many(40, 20, &format!("{CANARY}[budget]\nstop-at = 9\non-exhausted = \"pause\"\n"), FAILS_WHILE_BROKEN);
    ground.opens("broken");
    let held = || ground.status()["run-status"]["blocker"]["code"] == json!("budget-spent");
    let mut first = ground.starts();
    eventually("it is held", held);
    first.kill().unwrap();
    first.wait().unwrap();
    let mut next = ground.starts();
    eventually("the next runner holds it, too", held);
    let status = ground.status();
    let held = json!({ "by": "budget-spent", "charged": 1, "stop-at": 1, "max-failed": null, "wave": "canary" });
    assert_eq!(status["held"], json!([held]), "{status}");
    let told = ground.does("status steered");
    assert!(told.stdout.contains("the failure budget of wave `canary`: 1 failed, it stops at 1"), "{told:?}");
    let why = ground.does("explain latest h0040");
    assert!(why.stdout.contains("1 of wave `canary` failed, the wave stops at 1"), "{why:?}");
    assert!(why.stdout.contains(" --failed` retries the failed targets"), "{why:?}");
    assert_eq!(ground.acted(), ["h0001"], "nothing new started");
    fs::remove_file(ground.world.folder().join("broken")).unwrap();
    assert_eq!(ground.does("retry steered --failed").code, Some(0));
    assert_eq!(next.wait().unwrap().code(), Some(0));
    assert_eq!(ground.acted().len(), 41);
}

#[test]
fn without_a_budget_the_first_failure_is_the_last_to_start_anything() {
    let ground = many(30, 3, "", FAILS_WHILE_BROKEN);
    let planned = ground.does("plan job.toml");
    assert!(
        planned.stderr.contains("nothing new starts once 1 target has failed, then the run is aborted"),
        "{planned:?}"
    );
    assert!(
        planned.stderr.contains("the default without `[budget]`; `stop-at = \"unlimited\"` never stops"),
        "{planned:?}"
    );
    ground.opens("broken");
    let ran = ground.does("run job.toml");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("1 failed, the budget stops at 1"), "{ran:?}");
    assert!((1..=3).contains(&ground.acted().len()), "{:?}", ground.acted());
}

#[test]
fn a_budget_that_only_stops_leaves_all_slots_to_4000_targets() {
    let usable = |budget: &str| {
        let ground = many(4_000, 100, budget, "exec sleep 600");
        let planned: Value = serde_json::from_str(&ground.does("plan job.toml --format json").stdout).unwrap();
        (planned["budget"]["usable-slots"].clone(), ground)
    };
    let (throttled, ground) = usable("[budget]\nmax-failed = \"2%\"\n");
    let points = json!([{ "failed": 0, "slots": 80 }, { "failed": 1, "slots": 79 }, { "failed": 79, "slots": 1 }]);
    assert_eq!(throttled, points);
    let planned = ground.does("plan job.toml");
    let text = "`max-failed` = 80 of 100 slots: 80 at once at the start, 79 after 1 failure, 1 after 79 failures";
    assert!(planned.stderr.contains(text), "{}", planned.stderr);
    let checked = ground.does("check job.toml");
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.stderr.contains("at most 80 of 100 slots are used at once"), "{checked:?}");
    assert!(checked.stderr.contains("`stop-at = \"2%\"` in its place, or raise it: `max-failed = 180`"), "{checked:?}");

    let (all, ground) = usable("[budget]\nstop-at = \"2%\"\n");
    assert_eq!(all, json!([{ "failed": 0, "slots": 100 }]));
    assert!(!ground.does("check job.toml").stderr.contains("Warning"));
    let mut run = ground.starts();
    eventually("every slot is used", || ground.acted().len() == 100);
    let pid = Pid::from_raw(i32::try_from(run.id()).unwrap());
    kill(pid, Signal::SIGINT).unwrap();
    eventually("it stops", || !ground.status()["run-status"]["stopping"].is_null());
    kill(pid, Signal::SIGINT).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(1));
}
