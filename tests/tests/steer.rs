//! Runs looked at and steered from another shell, by the real binary.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::fs;
use std::process::{Child, Command, Stdio};

use lockkeeper_tests::{Said, World, eventually, said};
use serde_json::{Value, json};

/// Each target writes down that it acts and waits for its gate; `bad` fails until it is mended.
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

struct Ground {
    world: World,
}

impl Ground {
    fn new(more: &str) -> Self {
        let world = World::new();
        world.file("job.toml", &JOB.replace("MORE", more));
        Self { world }
    }

    fn command(&self, line: &str) -> Command {
        let mut command = self.world.lockkeeper(line.split(' '));
        command.args(["--session-timeout", "2s"]).current_dir(self.world.folder());
        command
    }

    fn does(&self, line: &str) -> Said {
        said(&mut self.command(line))
    }

    /// Null before the run has begun.
    fn status(&self) -> Value {
        let said = self.does("status steered --all --format json");
        match said.code {
            Some(0) => serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}")),
            _ => Value::Null,
        }
    }

    fn standing(&self, target: &str) -> String {
        let status = self.status();
        let targets = status["targets"].as_array().unwrap();
        let found = targets.iter().find(|row| row["target"] == target).unwrap();
        found["standing"]["state"].as_str().unwrap().to_owned()
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
            && paused.stderr.contains("has heard of it: nothing new starts; 2 targets are under way"),
        "{paused:?}"
    );
    let status = ground.status();
    assert_eq!((&status["state"], &status["wishes"]["paused"]["reason"]), (&json!("running"), &json!("looking")));
    ground.opens("go");
    eventually("what acted has ended", || ground.status()["counts"]["done"] == json!(2));
    eventually("it waits, and says for what", || ground.status()["now"]["waits"]["code"] == json!("paused"));
    assert_eq!(ground.acted().len(), 2, "nothing new has started");
    let why = ground.does("explain latest d");
    assert!(why.stdout.contains("paused by") && why.stdout.contains("would go if the run were not paused"), "{why:?}");
    assert_eq!(ground.does("resume steered").code, Some(0));
    assert_eq!(run.wait().unwrap().code(), Some(1), "`bad` fails");
    assert_eq!(ground.acted().len(), 5);

    // Who failed goes again when somebody says so, and the finished run is gone on with.
    assert!(refused(&ground.does("pause steered --format json"), "finished").contains("finished already"));
    assert!(refused(&ground.does("retry steered a --format json"), "bad-argument").contains("`a` is done"));
    assert!(refused(&ground.does("retry steered nobody --format json"), "bad-argument").contains("`nobody`"));
    ground.opens("mended");
    let retry = ground.does("retry steered --failed");
    assert!(retry.code == Some(0) && retry.stderr.contains("bad, which was failed"), "{retry:?}");
    let again = ground.does("run job.toml");
    assert_eq!(again.code, Some(0), "{again:?}");
    assert_eq!(ground.acted().iter().filter(|target| *target == "bad").count(), 2);
    assert_eq!(ground.acted().len(), 6, "nobody else went again");
}

#[test]
fn an_aborted_run_starts_nothing_more_and_is_finished() {
    let ground = Ground::new("");
    let mut run = ground.starts();
    eventually("two are under way", || ground.acted().len() == 2);
    assert_eq!(ground.does("abort steered --reason enough").code, Some(0));
    eventually("it says that it stops", || !ground.status()["now"]["stopping"].is_null());
    ground.opens("go");
    assert_eq!(run.wait().unwrap().code(), Some(1));
    let status = ground.status();
    assert_eq!((&status["state"], &status["record"]["ended"]["end"]), (&json!("finished"), &json!("aborted")));
    assert!(status["record"]["ended"]["reason"].as_str().unwrap().contains("enough"), "{status}");
    assert_eq!((ground.acted().len(), ground.world.holders("/locks/steered").len()), (2, 0));
    // The same job, not changed: there is nothing to do.
    let again = ground.does("run job.toml");
    assert!(again.code == Some(1) && again.stderr.contains("Nothing to do"), "{again:?}");
}

#[test]
fn a_run_that_nobody_runs_is_ended_at_once_and_holds_nothing() {
    let ground = Ground::new("");
    let mut run = ground.starts();
    eventually("two are under way", || ground.acted().len() == 2);
    run.kill().unwrap();
    run.wait().unwrap();
    assert_eq!(ground.world.holders("/locks/steered").len(), 2, "its leases outlive it");
    eventually("its session is over", || ground.status()["state"] == json!("left"));
    let aborted = ground.does("abort steered");
    assert!(aborted.code == Some(0) && aborted.stderr.contains("which nobody ran"), "{aborted:?}");
    assert_eq!(ground.world.holders("/locks/steered").len(), 0);
    assert_eq!((ground.standing("a"), ground.standing("d")), ("unknown".to_owned(), "pending".to_owned()));
    ground.opens("go");

    // Once it is old enough it goes, and with it what is known of the job.
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
fn a_wave_waits_for_approval() {
    let waves = "[[wave]]\nname = \"canary\"\nsize = 1\n[[wave]]\nname = \"rest\"\napprove = true\n";
    let ground = Ground::new(waves);
    ground.opens("go");
    ground.opens("mended");
    let mut run = ground.starts();
    eventually("the canary is done with", || ground.status()["now"]["waits"]["code"] == json!("wave-approval"));
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
    eventually("it is held", || ground.status()["now"]["waits"]["code"] == json!("budget-spent"));
    assert_eq!(ground.acted(), ["a", "b", "bad"]);
    let resumed = ground.does("resume steered");
    assert!(resumed.stderr.contains("--accept"), "{resumed:?}");
    assert_eq!(ground.does("resume steered --accept").code, Some(0));
    assert_eq!(run.wait().unwrap().code(), Some(1));
    assert_eq!((ground.acted().len(), ground.status()["counts"]["done"].clone()), (5, json!(4)));
}

#[test]
fn a_job_that_changed_does_not_go_on_with_a_run_of_another() {
    let ground = Ground::new("");
    let mut run = ground.starts();
    eventually("two are under way", || ground.acted().len() == 2);
    run.kill().unwrap();
    run.wait().unwrap();
    ground.opens("go");
    ground.world.file("job.toml", &JOB.replace("MORE", "# changed\n"));
    let changed = ground.does("run job.toml --format json");
    assert!(refused(&changed, "unfinished").contains("the job has changed since"), "{changed:?}");
    ground.world.file("job.toml", &JOB.replace("MORE", ""));
    assert!(refused(&ground.does("run job.toml --again --format json"), "unfinished").contains("--again"));
    assert_eq!(ground.acted().len(), 2);
}
