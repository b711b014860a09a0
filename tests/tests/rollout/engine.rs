//! The loop, with real processes, on real stores.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lockkeeper::job::{Grants, JobSpec};
use lockkeeper::policy::types::{Admission, Admitted, Cause, Ending, Outcome, Settled, Settlement, View};
use lockkeeper::policy::{Decision, Engine, EngineOptions};
use lockkeeper::rollout::driver::{Decide, Run, RunError, run};
use lockkeeper::rollout::journal;
use lockkeeper::rollout::model::{End, Event, Report, Stamped, Stop};
use lockkeeper_coordination::embedded::{Embedded, EmbeddedOptions};
use lockkeeper_coordination::memory::{Memory, MemoryOptions};
use lockkeeper_coordination::store::{Connect, NodePath, Store, Version, create_all};
use lockkeeper_tests::runs;
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;
use tokio::sync::mpsc;

/// A policy in a few lines.
struct Script<A, S> {
    admit: A,
    settle: S,
}

impl<A, S> Decide for Script<A, S>
where
    A: Fn(&View) -> Admission + Send,
    S: Fn(&View, &Outcome) -> Settlement + Send,
{
    fn name(&self) -> &str {
        "script"
    }

    fn digest(&self) -> &str {
        "none"
    }

    fn contract(&self) -> String {
        "none".to_owned()
    }

    fn admit(&self, _: &str, view: &View, memory: &[u8], _: Grants) -> Decision<Admitted> {
        let (code, reason) = ("script".to_owned(), "as scripted".to_owned());
        let answer = Admitted { verdict: (self.admit)(view), code, reason, wake_after: None, memory: memory.to_vec() };
        Decision { answer: Ok(answer), fuel: 0, memory: 0, trace: Vec::new() }
    }

    fn settle(&self, _: &str, view: &View, outcome: &Outcome, memory: &[u8], _: Grants) -> Decision<Settled> {
        let (code, reason) = ("script".to_owned(), "as scripted".to_owned());
        let answer = Settled { verdict: (self.settle)(view, outcome), code, reason, memory: memory.to_vec() };
        Decision { answer: Ok(answer), fuel: 0, memory: 0, trace: Vec::new() }
    }
}

fn always_lock() -> impl Decide {
    Script { admit: |_: &View| Admission::Lock, settle: |_: &View, _: &Outcome| Settlement::Release }
}

/// A policy that retries every failure.
fn try_again() -> impl Decide {
    let settle = |_: &View, outcome: &Outcome| match outcome.ending {
        Ending::Succeeded => Settlement::Release,
        _ => Settlement::Retry,
    };
    Script { admit: |_: &View| Admission::Lock, settle }
}

/// A job, its folder, and a store.
struct Ground {
    folder: TempDir,
    memory: Memory,
    job: String,
}

impl Ground {
    /// `more` follows the job's semaphore.
    fn new(slots: u32, hosts: &[&str], more: &str) -> Self {
        let job = format!(
            "name = \"test\"\n[targets]\nhosts = {hosts:?}\n[policy]\nuse = \"rolling\"\n\
             [semaphore]\npath = \"/s\"\nmax-concurrency = {slots}\n{more}"
        );
        Self { folder: TempDir::new().unwrap(), memory: Memory::new(MemoryOptions::default()), job }
    }

    fn journal(&self) -> PathBuf {
        self.folder.path().join("run").join("journal.jsonl")
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join("run").join("output").join(name)).unwrap()
    }

    /// Starts the run, or resumes it in a new session.
    async fn start<P: Decide>(&self, policy: P) -> (Run<P>, Arc<dyn Store>) {
        let store = self.memory.connect().await.unwrap();
        (self.prepare(policy, &store).await, store)
    }

    async fn prepare<P: Decide>(&self, policy: P, store: &Arc<dyn Store>) -> Run<P> {
        let job = JobSpec::parse("job.toml", &self.job).unwrap_or_else(|problems| panic!("{problems:?}"));
        runs::prepare(job, self.folder.path(), policy, store).await.unwrap()
    }

    /// Leases and queue entries that are there now.
    fn left(&self) -> Vec<String> {
        let here = |path: &NodePath| path.to_string();
        let names = self.memory.snapshot().keys().map(here).collect::<Vec<_>>();
        names.into_iter().filter(|path| path.starts_with("/s/") || path.starts_with("/s-__lock__/")).collect()
    }

    async fn run(&self, policy: impl Decide) -> (Result<Report, RunError>, Vec<Event>) {
        let (prepared, _store) = self.start(policy).await;
        let (_stop, stops) = mpsc::channel(2);
        let mut events = Vec::new();
        let report = run(prepared, stops, |stamped| events.push(stamped.event.clone())).await;
        (report, events)
    }
}

/// Waits for an event that is of interest.
async fn until<T>(events: &mut mpsc::UnboundedReceiver<Event>, mut is_it: impl FnMut(&Event) -> Option<T>) -> T {
    loop {
        let event = events.recv().await.expect("the run ended before that happened");
        if let Some(found) = is_it(&event) {
            return found;
        }
    }
}

fn connectivity() -> (impl FnMut(&Stamped), mpsc::UnboundedReceiver<Event>) {
    let (sender, events) = mpsc::unbounded_channel();
    (move |stamped: &Stamped| drop(sender.send(stamped.event.clone())), events)
}

fn started(event: &Event) -> Option<String> {
    match event {
        Event::Started { target, .. } => Some(target.clone()),
        _ => None,
    }
}

fn failure(events: &[Event]) -> (Ending, String, Vec<String>) {
    let found = events.iter().find_map(|event| match event {
        Event::Failed { ending, detail, output, .. } => Some((*ending, detail.clone(), output.clone())),
        _ => None,
    });
    found.expect("something failed")
}

/// A process that is gone, or dead and not yet buried.
fn is_gone(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH) || matches!(state, Some('Z' | 'X'))
}

fn pids(file: &Path) -> Vec<i32> {
    fs::read_to_string(file).unwrap_or_default().split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

// ---------------------------------------------------------------------- actions

#[tokio::test]
async fn a_failure_shows_its_last_lines_and_all_output_is_kept() {
    let action = r#"[action]
run = ["sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo $LOCKKEEPER_TARGET $i; done; echo bad >&2; exit 3"]"#;
    let ground = Ground::new(1, &["web1"], action);
    let (report, events) = ground.run(always_lock()).await;
    assert_eq!(report.unwrap().counts.failed, 1);
    let (ending, detail, output) = failure(&events);
    assert_eq!((ending, detail.as_str()), (Ending::Failed, "command exited with 3"));
    assert_eq!(output.len(), 10);
    assert_eq!(output.first().map(String::as_str), Some("web1 4"));
    assert_eq!(output.last().map(String::as_str), Some("bad"));
    assert_eq!(ground.log("web1.1.log").lines().count(), 13);
}

#[tokio::test]
async fn a_target_with_the_longest_of_names_has_a_log() {
    let name = "n".repeat(253);
    let ground = Ground::new(1, &[&name], "[action]\nrun = [\"true\"]");
    let (report, _) = ground.run(always_lock()).await;
    assert!(report.unwrap().counts.all_succeeded());
}

#[tokio::test]
async fn a_log_that_cannot_be_written_stops_the_run_and_charges_nothing() {
    let ground = Ground::new(1, &["a"], "[action]\nrun = [\"true\"]");
    fs::create_dir_all(ground.folder.path().join("run/output/a.1.log")).unwrap();
    let (report, _) = ground.run(always_lock()).await;
    let report = report.unwrap();
    assert_eq!((report.counts.failed, report.counts.waiting), (0, 1));
    assert!(report.end.reason().starts_with("cannot write the output to "), "{:?}", report.end);
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let ground = Ground::new(1, &["a"], "[action]\nrun = [\"no-such-program-here\"]");
    let (_, events) = ground.run(always_lock()).await;
    assert!(failure(&events).1.starts_with("cannot run `no-such-program-here`: "), "{:?}", failure(&events).1);
}

#[tokio::test]
async fn a_time_out_ends_the_whole_group_even_if_sigterm_is_ignored() {
    let script = "trap '' TERM; sleep 1000 & echo $! $$ > \\\"$LOCKKEEPER_TARGET\\\"; wait";
    let ground = Ground::new(1, &["pids"], "");
    let job = format!(
        "{}[action]\nrun = [\"sh\", \"-c\", \"cd {} && {script}\"]\ntimeout = \"400ms\"\nkill-after = \"200ms\"\n",
        ground.job,
        ground.folder.path().display()
    );
    let ground = Ground { job, ..ground };
    let (report, events) = ground.run(always_lock()).await;
    assert_eq!(report.unwrap().counts.failed, 1);
    let (ending, detail, _) = failure(&events);
    assert_eq!((ending, detail.as_str()), (Ending::TimedOut, "command stopped after 400ms"));
    let pids = pids(&ground.folder.path().join("pids"));
    assert_eq!(pids.len(), 2, "the command came as far as to start another");
    assert!(pids.iter().all(|pid| is_gone(*pid)), "{pids:?}");
}

#[tokio::test]
async fn a_probe_has_the_last_word() {
    let ground = Ground::new(1, &["a"], "[action]\nrun = [\"true\"]\nprobe = [\"sh\", \"-c\", \"exit 4\"]");
    let (report, events) = ground.run(always_lock()).await;
    assert_eq!(report.unwrap().counts.failed, 1);
    assert_eq!(failure(&events).1, "probe exited with 4");
}

#[tokio::test]
async fn a_target_is_tried_as_often_as_the_job_says_under_one_lease() {
    let action =
        "[action]\nrun = [\"sh\", \"-c\", \"echo $LOCKKEEPER_FENCE; test $LOCKKEEPER_ATTEMPT = 3\"]\nattempts = 3";
    let ground = Ground::new(1, &["a"], action);
    let (report, _) = ground.run(try_again()).await;
    assert!(report.unwrap().counts.all_succeeded());
    let fences: BTreeSet<String> = (1..=3).map(|attempt| ground.log(&format!("a.{attempt}.log"))).collect();
    assert_eq!(fences.len(), 1, "{fences:?}");

    let ground = Ground::new(1, &["a"], "[action]\nrun = [\"false\"]\nattempts = 3");
    let (report, events) = ground.run(try_again()).await;
    assert_eq!(report.unwrap().counts.failed, 1);
    assert_eq!(events.iter().filter_map(started).count(), 3);
}

// ---------------------------------------------------------------------- leases

const SLEEP: &str = "[action]\nrun = [\"sleep\", \"1000\"]\nkill-after = \"5s\"";

#[tokio::test]
async fn a_deleted_lease_stops_the_action() {
    let ground = Ground::new(1, &["a"], SLEEP);
    let (prepared, _store) = ground.start(try_again()).await;
    let (_stop, stops) = mpsc::channel(2);
    let (tell, mut events) = connectivity();
    let somebody = ground.memory.open();
    let breaks = async {
        until(&mut events, started).await;
        let lease = ground.left().into_iter().find(|path| path.starts_with("/s/")).unwrap();
        somebody.delete(&NodePath::parse(&lease).unwrap(), Version::Any).await.unwrap();
        until(&mut events, |event| matches!(event, Event::LeaseLost { .. }).then_some(())).await;
    };
    let (report, ()) = tokio::join!(run(prepared, stops, tell), breaks);
    let report = report.unwrap();
    assert_eq!((report.end, report.counts.failed), (End::Completed, 1));
}

#[tokio::test]
async fn a_run_whose_session_ends_is_lost_and_its_command_is_gone() {
    for more in ["ephemeral-lease = true\n", ""] {
        let ground = Ground::new(1, &["a", "b"], "");
        let folder = ground.folder.path().display().to_string();
        let action = format!("[action]\nrun = [\"sh\", \"-c\", \"echo $$ >> {folder}/pids; sleep 1000\"]");
        let ground = Ground { job: ground.job.clone() + more + &action, ..ground };
        let (prepared, store) = ground.start(always_lock()).await;
        let (_stop, stops) = mpsc::channel(2);
        let (tell, mut events) = connectivity();
        let file = ground.folder.path().join("pids");
        let expires = async {
            until(&mut events, started).await;
            while pids(&file).is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            ground.memory.expire(store.session_id());
        };
        let (report, ()) = tokio::join!(run(prepared, stops, tell), expires);
        let report = report.unwrap();
        assert!(matches!(report.end, End::Lost(_)), "{:?}", report.end);
        assert_eq!(report.counts.open(), 1, "b was never started");
        let pids = pids(&file);
        assert!(pids.len() == 1 && pids.iter().all(|pid| is_gone(*pid)), "{pids:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_stopped_while_queueing_leaves_nothing() {
    let ground = Ground::new(1, &["a", "b"], "[action]\nrun = [\"true\"]");
    let somebody = ground.memory.open();
    create_all(&*somebody, &NodePath::parse("/s/somebody-elses").unwrap()).await.unwrap();
    let (prepared, _store) = ground.start(always_lock()).await;
    let (stop, stops) = mpsc::channel(2);
    let (tell, mut events) = connectivity();
    let stops_it = async {
        until(&mut events, |event| matches!(event, Event::Queued { .. }).then_some(())).await;
        while ground.left().len() < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stop.send(Stop::Gently).await.unwrap();
    };
    let (report, ()) = tokio::join!(run(prepared, stops, tell), stops_it);
    let report = report.unwrap();
    assert_eq!((report.end, report.counts.waiting + report.counts.pending), (End::Interrupted, 2));
    assert_eq!(ground.left(), ["/s/somebody-elses"]);
}

#[tokio::test]
async fn stopped_twice_a_run_ends_at_once_and_lists_unknown_outcomes() {
    let ground = Ground::new(2, &["a", "b", "c"], SLEEP);
    let (prepared, _store) = ground.start(always_lock()).await;
    let (stop, stops) = mpsc::channel(4);
    let (tell, mut events) = connectivity();
    let stops_it = async {
        until(&mut events, started).await;
        until(&mut events, started).await;
        for how in [Stop::Gently, Stop::Gently, Stop::Now, Stop::Now] {
            stop.send(how).await.unwrap();
        }
    };
    let (report, ()) = tokio::join!(run(prepared, stops, tell), stops_it);
    let report = report.unwrap();
    assert_eq!((report.end, report.counts.unknown, report.counts.open()), (End::Interrupted, 2, 1));
    assert_eq!(ground.left(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_over_before_anything_began_loses_the_run() {
    let ground = Ground::new(1, &["a", "b"], "[action]\nrun = [\"true\"]");
    let (prepared, store) = ground.start(always_lock()).await;
    ground.memory.expire(store.session_id());
    let (_stop, stops) = mpsc::channel(2);
    let lost = match run(prepared, stops, |_| {}).await {
        Ok(report) => matches!(report.end, End::Lost(_)),
        Err(RunError::RunState(error)) => error.is_lost(),
        Err(_) => false,
    };
    assert!(lost);
}

// ---------------------------------------------------------------------- pace

#[tokio::test(start_paused = true)]
async fn a_policy_that_takes_lock_back_once_the_slot_is_there_slows_down() {
    let ground = Ground::new(2, &["a", "b", "c"], "[action]\nrun = [\"true\"]");
    let fickle = Script {
        admit: |view: &View| if view.cause == Cause::Granted { Admission::Wait } else { Admission::Lock },
        settle: |_: &View, _: &Outcome| Settlement::Release,
    };
    let (prepared, _store) = ground.start(fickle).await;
    let (stop, stops) = mpsc::channel(2);
    let mut leases = 0;
    let tell = |stamped: &Stamped| leases += u32::from(matches!(stamped.event, Event::Leased { .. }));
    let stops_it = async {
        tokio::time::sleep(Duration::from_secs(600)).await;
        stop.send(Stop::Gently).await.unwrap();
    };
    let (report, ()) = tokio::join!(run(prepared, stops, tell), stops_it);
    assert_eq!(report.unwrap().end, End::Interrupted);
    // Ten doublings take the pause from 50 ms to 51 s within the first minutes.
    assert!((30..=80).contains(&leases), "{leases} leases in ten minutes");
    assert_eq!(ground.left(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_force_that_never_fits_slows_down() {
    let ground = Ground::new(1, &["a"], "[action]\nrun = [\"true\"]");
    let forceful = Script {
        admit: |_: &View| Admission::Force(vec![999_999]),
        settle: |_: &View, _: &Outcome| Settlement::Release,
    };
    let (prepared, _store) = ground.start(forceful).await;
    let (stop, stops) = mpsc::channel(2);
    let stops_it = async {
        tokio::time::sleep(Duration::from_secs(600)).await;
        stop.send(Stop::Gently).await.unwrap();
    };
    let (report, ()) = tokio::join!(run(prepared, stops, |_| {}), stops_it);
    assert_eq!(report.unwrap().end, End::Interrupted);
    let decisions = journal::verify(&ground.journal()).unwrap().decisions;
    assert!((10..=40).contains(&decisions), "{decisions} decisions in ten minutes");
}

// ---------------------------------------------------------------------- limits

/// What the events say of what was under way at once, and of what failed.
fn most_at_once(events: &[Event]) -> usize {
    let mut running = BTreeSet::new();
    let mut most = 0;
    for event in events {
        match event {
            Event::Started { target, .. } => drop(running.insert(target.clone())),
            Event::Succeeded { target, .. } | Event::Failed { target, .. } => drop(running.remove(target)),
            _ => {}
        }
        most = most.max(running.len());
    }
    most
}

#[tokio::test]
async fn a_budget_is_never_overshot_however_many_fail_at_once() {
    let hosts: Vec<String> = (0..30).map(|number| format!("h{number}")).collect();
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    for (budget, at_once) in [(0, 1), (1, 1), (3, 3)] {
        let more = format!("[action]\nrun = [\"false\"]\n[budget]\nmax-failed = {budget}\n");
        let ground = Ground::new(20, &hosts, &more);
        let (report, events) = ground.run(always_lock()).await;
        let report = report.unwrap();
        assert!(matches!(report.end, End::BudgetSpent(_)), "{:?}", report.end);
        assert_eq!(report.counts.failed, budget.max(1), "with {budget} to fail");
        assert!(most_at_once(&events) <= at_once, "{} at once with {budget} to fail", most_at_once(&events));
    }
}

#[tokio::test]
async fn what_only_stops_lets_at_most_those_fail_that_are_running_by_then() {
    let hosts: Vec<String> = (0..60).map(|number| format!("h{number}")).collect();
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    for (budget, stop_at) in [("", 1), ("[budget]\nstop-at = 4\n", 4), ("[budget]\nstop-at = \"10%\"\n", 6)] {
        let ground = Ground::new(8, &hosts, &format!("[action]\nrun = [\"false\"]\n{budget}"));
        let (report, _) = ground.run(always_lock()).await;
        let Report { end, counts, .. } = report.unwrap();
        assert!(matches!(end, End::BudgetSpent(_)), "{end:?}");
        assert!((stop_at..stop_at + 8).contains(&counts.failed), "{} failed with {stop_at}", counts.failed);
        assert_eq!(counts.open(), 60 - counts.failed);
    }
    let ground = Ground::new(8, &hosts, "[action]\nrun = [\"false\"]\n[budget]\nstop-at = \"unlimited\"\n");
    let (report, _) = ground.run(always_lock()).await;
    assert_eq!(report.unwrap().counts.failed, 60);
}

#[tokio::test]
async fn a_hundred_random_policies_break_no_limit() {
    let seeds = match std::env::var("LOCKKEEPER_SEED") {
        Ok(seed) => vec![seed.parse().expect("LOCKKEEPER_SEED is a number")],
        Err(_) => (0..100).collect::<Vec<u64>>(),
    };
    for seed in seeds {
        let random = |view: &View| StdRng::seed_from_u64(seed.wrapping_mul(1_000_003) ^ view.sequence);
        let policy = Script {
            admit: move |view: &View| match random(view).random_range(0..12) {
                0..=6 => Admission::Lock,
                7 => Admission::Wait,
                8 => Admission::Skip,
                9 => Admission::Force(view.semaphore.leases.iter().map(|lease| lease.fence).take(1).collect()),
                10 => Admission::Force(Vec::new()),
                _ => Admission::Force(vec![view.seed]),
            },
            settle: move |view: &View, _: &Outcome| match random(view).random_range(0..4) {
                0 => Settlement::Keep(5),
                1 => Settlement::Retry,
                _ => Settlement::Release,
            },
        };
        let more = "[action]\nrun = [\"sh\", \"-c\", \"exit $((LOCKKEEPER_FENCE % 2))\"]\nattempts = 2\n\
                    [budget]\nmax-failed = 3\n";
        let ground = Ground::new(3, &["a", "b", "c", "d", "e", "f"], more);
        let (prepared, _store) = ground.start(policy).await;
        let (stop, stops) = mpsc::channel(2);
        let mut events = Vec::new();
        // A policy that waits without a wake waits for ever: some day a person stops it.
        let patience = async {
            tokio::time::sleep(Duration::from_millis(150)).await;
            let _ = stop.send(Stop::Gently).await;
            std::future::pending::<()>().await;
        };
        let report = tokio::select! {
            report = run(prepared, stops, |stamped| events.push(stamped.event.clone())) => report.unwrap(),
            () = patience => unreachable!("it waits for ever"),
        };
        assert!(most_at_once(&events) <= 3, "LOCKKEEPER_SEED={seed}: {} at once", most_at_once(&events));
        let failed = report.counts.failed + report.counts.unknown;
        assert!(failed <= 3, "LOCKKEEPER_SEED={seed}: {failed} failed");
        let mut tries: BTreeMap<String, u32> = BTreeMap::new();
        events.iter().filter_map(started).for_each(|target| *tries.entry(target).or_default() += 1);
        assert!(tries.values().all(|tries| *tries <= 2), "LOCKKEEPER_SEED={seed}: {tries:?}");
        assert_eq!(ground.left(), Vec::<String>::new(), "LOCKKEEPER_SEED={seed}");
    }
}

// ---------------------------------------------------------------------- the journal

#[tokio::test]
async fn a_journal_is_whole_and_any_byte_that_changes_is_found() {
    let ground = Ground::new(2, &["a", "b", "c"], "[action]\nrun = [\"true\"]");
    let (report, _) = ground.run(always_lock()).await;
    assert!(report.unwrap().counts.all_succeeded());
    let path = ground.journal();
    let whole = journal::verify(&path).unwrap();
    // Each was asked about twice on its way in and once when it had acted; some in vain while there was no room.
    assert!(whole.closed && whole.decisions >= 9, "{whole:?}");

    let text = fs::read(&path).unwrap();
    let changed = ground.folder.path().join("changed.jsonl");
    let found = |text: &[u8]| {
        fs::write(&changed, text).unwrap();
        journal::verify(&changed)
    };
    for place in (0..text.len() - 1).step_by(5).chain(text.len() - 200..text.len() - 1) {
        let mut flipped = text.clone();
        flipped[place] ^= 1;
        assert!(found(&flipped).is_err(), "byte {place}, {:?}", char::from(text[place]));
    }
    let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    for gone in 0..lines.len() - 1 {
        let rest: Vec<u8> =
            lines.iter().enumerate().filter(|(at, _)| *at != gone).flat_map(|(_, line)| *line).copied().collect();
        assert!(found(&rest).is_err(), "without line {}", gone + 1);
    }
    let cut = found(&lines[..lines.len() - 1].concat()).unwrap();
    assert!(!cut.closed, "a missing end is missed");
    assert!(found(&text[..text.len() - 10]).unwrap().is_incomplete, "an incomplete line is noticed");
}

#[tokio::test]
async fn a_journal_that_cannot_be_begun_stops_the_run_before_anything_is_touched() {
    let ground = Ground::new(1, &["a"], "[action]\nrun = [\"true\"]");
    fs::create_dir_all(ground.journal()).unwrap();
    let (report, events) = ground.run(always_lock()).await;
    assert!(matches!(report, Err(RunError::Journal { .. })), "{report:?}");
    assert!(events.is_empty() && ground.left().is_empty());
}

// ---------------------------------------------------------------------- a policy in wasm, the store in a file

#[tokio::test(flavor = "multi_thread")]
async fn the_standard_policy_rolls_over_the_embedded_store() {
    let ground = Ground::new(2, &["a", "b", "c", "d", "e"], "[action]\nrun = [\"true\"]");
    let engine = Engine::new(&EngineOptions::default()).unwrap();
    let policy = engine.load_standard("rolling").unwrap();
    let options = EmbeddedOptions { session_timeout: Duration::from_secs(10) };
    let connect: Arc<dyn Connect> = Arc::new(Embedded::new(ground.folder.path().join("store.db"), options));
    let store = connect.connect().await.unwrap();
    let prepared = ground.prepare(policy, &store).await;
    let (_stop, stops) = mpsc::channel(2);
    let mut events = Vec::new();
    let report = run(prepared, stops, |stamped| events.push(stamped.event.clone())).await.unwrap();
    assert!(report.counts.all_succeeded(), "{report:?}");
    assert!(most_at_once(&events) <= 2);
    assert_eq!(store.children(&NodePath::parse("/s").unwrap()).await.unwrap(), Vec::<String>::new());
}
