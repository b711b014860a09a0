//! Runs without a runner: aborted by another process, or reopened.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::{
    AbortedRun, Acknowledgement, LAYOUT, NewRun, OpenedRun, RunRecord, RunStateError, Runner, abort,
    await_acknowledgement, reopen, request, run,
};
use crate::job::{JobName, Target, TargetName};
use crate::policy::types::Ending;
use crate::rollout::model::{OperatorRequest, RecordedStatus, RunStatus};
use lockkeeper_coordination::embedded::{Embedded, EmbeddedOptions};
use lockkeeper_coordination::memory::Memory;
use lockkeeper_coordination::recipe::{
    AcquireError, Identifier, IfHeld, Owner, Ownership, Patience, Request, Semaphore,
};
use lockkeeper_coordination::store::{Connect, Lifetime, NodeKind, NodePath, Store, create_all};

const JOB: &str = r#"
name = "left"
[semaphore]
path = "/locks/left"
max-concurrency = 10
[targets]
hosts = ["it"]
[policy]
use = "rolling"
[action]
run = ["true"]
"#;

const NAMES: [&str; 9] =
    ["new", "leased", "again", "running", "keeping-slot", "failed", "retrying", "rolling-back", "done"];

fn who(name: &str) -> Identifier {
    Identifier::new(name).unwrap()
}

fn job() -> JobName {
    JobName::parse("left").unwrap()
}

fn by() -> OperatorRequest {
    OperatorRequest { by: "ann@here".to_owned(), at: 1, reason: Some("enough".to_owned()) }
}

fn semaphore(store: &Arc<dyn Store>) -> Semaphore {
    let path = NodePath::parse("/locks/left").unwrap();
    Semaphore::new(Arc::clone(store), path, NonZeroU32::new(10).unwrap())
}

/// Starts a run with a target in each status; each status that may hold a slot holds one.
async fn begin(store: &Arc<dyn Store>) -> (Runner, OpenedRun) {
    let runner = Runner::acquire(store, &job(), who("first:1"), Patience::Once).await.unwrap();
    let record = RunRecord {
        layout: LAYOUT,
        job: "left".to_owned(),
        digest: String::new(),
        policy: "rolling".to_owned(),
        policy_digest: String::new(),
        started: 0,
        targets: 9,
        semaphore: NodePath::parse("/locks/left").unwrap(),
        slots: 10,
        runner_epoch: 0,
        runner_epochs: Vec::new(),
        ended: None,
    };
    let targets = NAMES.map(|name| Target::unlabelled(TargetName::parse(name).unwrap())).to_vec();
    let job_text = JOB.to_owned();
    let new = NewRun { name: "left-1".to_owned(), record, job_text, targets, journal: String::new() };
    let opened = runner.begin(new).await.unwrap();
    let semaphore = semaphore(store);
    for (target, name) in NAMES.into_iter().enumerate().skip(1) {
        let run_state = &opened.run_state;
        let owner = Owner::Run { run: "left-1".into(), job: "left".into(), runner: "host:1".into() };
        let (identifier, lifetime, patience) = (&who(name), Lifetime::Persistent, Patience::Once);
        let ownership = &Ownership::Exclusive(owner, IfHeld::Refuse);
        let along = &run_state.along_with_lease(target, &RecordedStatus::Leased);
        let request = Request { identifier, lifetime, patience, ownership, along };
        let lease = semaphore.acquire_as(request).await.unwrap().lease;
        run_state.was_leased(target, RecordedStatus::Leased, &lease);
        if name != "leased" {
            run_state.record_start(target, RecordedStatus::Running, 1, &lease).await.unwrap();
        }
        let kept = |ending, exit_code| RecordedStatus::KeepingSlot { ending, exit_code, took_ms: 7, until: u64::MAX };
        match name {
            "again" => run_state.save(target, RecordedStatus::Leased).await.unwrap(),
            "keeping-slot" => run_state.save(target, kept(Ending::Succeeded, Some(0))).await.unwrap(),
            "failed" => run_state.save(target, kept(Ending::Failed, Some(3))).await.unwrap(),
            "retrying" => {
                run_state
                    .save(target, RecordedStatus::Retrying { ending: Ending::TimedOut, until: u64::MAX })
                    .await
                    .unwrap();
            }
            "rolling-back" => run_state
                .record_start(target, RecordedStatus::RollingBack { reason: String::new(), was: None }, 1, &lease)
                .await
                .unwrap(),
            "done" => run_state.release(target, RecordedStatus::Succeeded { took_ms: Some(7) }, &lease).await.unwrap(),
            _ => {}
        }
    }
    (runner, opened)
}

async fn words(store: &Arc<dyn Store>, opened: &OpenedRun) -> Vec<&'static str> {
    let statuses = super::statuses_of(store, "left-1", &opened.targets).await.unwrap();
    assert!(statuses.iter().all(|(saved, _)| saved.lease.is_none()), "{statuses:#?}");
    statuses.iter().map(|(saved, _)| saved.status.word()).collect()
}

async fn an_aborted_run_without_a_runner_holds_nothing(connect: Arc<dyn Connect>) {
    let (first, other) = (connect.connect().await.unwrap(), connect.connect().await.unwrap());
    let (runner, opened) = begin(&first).await;
    // While a runner drives the run, only that runner aborts it.
    let refused = abort(&other, "left-1", who("ann:2"), &by()).await;
    assert!(matches!(refused, Err(RunStateError::Runner(AcquireError::Full { .. }))), "{refused:?}");
    assert_eq!(semaphore(&other).holders().await.unwrap().len(), 7);
    runner.step_down().await;
    let summaries = super::summaries(&other).await.unwrap();
    let left = summaries[0].left.clone().expect("no runner drives it");
    assert!(left.since_ms >= summaries[0].stored.record.started, "{left:?}");

    let AbortedRun { ended, released, unknown, slots } = abort(&other, "left-1", who("ann:2"), &by()).await.unwrap();
    assert_eq!(released, ["leased", "again", "running", "keeping-slot", "failed", "retrying", "rolling-back"]);
    assert_eq!(unknown, ["running", "rolling-back"]);
    let held: Vec<_> = slots.iter().map(|slot| (slot.target.as_deref().unwrap(), slot.may_run)).collect();
    let expected = released
        .iter()
        .map(|name| (name.as_str(), ["running", "rolling-back"].contains(&name.as_str())))
        .collect::<Vec<_>>();
    assert_eq!(left.slots, slots);
    assert_eq!(held, expected, "where no runner saw the end a command may still be running");
    assert_eq!((ended.end.as_str(), ended.reason.as_str()), ("aborted", "aborted by ann@here: enough"));
    let counts = ended.counts;
    assert_eq!((counts.total, counts.pending, counts.succeeded, counts.failed, counts.unknown), (9, 3, 2, 2, 2));
    let expected =
        ["pending", "pending", "pending", "unknown", "succeeded", "failed", "failed", "unknown", "succeeded"];
    assert_eq!(words(&other, &opened).await, expected);
    assert_eq!(semaphore(&other).holders().await.unwrap(), []);
    assert_eq!(run(&other, "left-1").await.unwrap().record.ended, Some(ended.clone()));
    assert_eq!(Runner::of(&other, &job()).await.unwrap(), (None, 0));
    // Aborting again changes nothing and returns the same end.
    let again = abort(&other, "left-1", who("ann:3"), &by()).await.unwrap();
    assert_eq!(again, AbortedRun { ended, released: Vec::new(), unknown: Vec::new(), slots: Vec::new() });

    // A reopened run is unfinished and has no runner.
    let kept = run(&other, "left-1").await.unwrap();
    reopen(&other, &kept, who("ann:4")).await.unwrap();
    assert_eq!(run(&other, "left-1").await.unwrap().record.ended, None);
    let changed = reopen(&other, &kept, who("ann:4")).await;
    assert!(matches!(changed, Err(RunStateError::Overtaken { .. })), "{changed:?}");
    assert_eq!(Runner::of(&other, &job()).await.unwrap(), (None, 0));
}

fn embedded() -> Arc<dyn Connect> {
    let folder = tempfile::tempdir().unwrap().keep();
    Arc::new(Embedded::new(folder.join("store.db"), EmbeddedOptions::default()))
}

#[tokio::test]
async fn a_run_without_a_runner_is_aborted_in_memory() {
    an_aborted_run_without_a_runner_holds_nothing(Arc::new(Memory::new(Default::default()))).await;
}

#[tokio::test]
async fn a_run_without_a_runner_is_aborted_on_the_embedded_store() {
    an_aborted_run_without_a_runner_holds_nothing(embedded()).await;
}

#[tokio::test]
async fn a_target_about_to_be_rolled_back_keeps_its_status_when_its_run_is_aborted() {
    let store = Memory::new(Default::default()).connect().await.unwrap();
    let (runner, opened) = begin(&store).await;
    let was = Box::new(RecordedStatus::Succeeded { took_ms: Some(7) });
    opened.run_state.save(2, RecordedStatus::RollBackLeased { was }).await.unwrap();
    runner.step_down().await;
    let AbortedRun { released, unknown, .. } = abort(&store, "left-1", who("ann:2"), &by()).await.unwrap();
    assert!(released.contains(&"again".to_owned()), "{released:?}");
    assert_eq!(unknown, ["running", "rolling-back"]);
    assert_eq!(words(&store, &opened).await[1..4], ["pending", "succeeded", "unknown"]);
}

#[tokio::test(start_paused = true)]
async fn a_request_is_acknowledged_only_by_the_current_runner() {
    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(1);
    let store = Memory::new(Default::default()).connect().await.unwrap();
    let (runner, opened) = begin(&store).await;
    let recorded = request(&store, "left-1", |requests| requests.paused = Some(by())).await.unwrap();
    assert!(recorded.is_new() && recorded.version == 1, "{recorded:?}");
    let same = request(&store, "left-1", |requests| requests.paused = Some(by())).await.unwrap();
    assert!(!same.is_new() && same.version == 1, "what changes nothing is not written");
    let kept = run(&store, "left-1").await.unwrap();
    let heard = async || await_acknowledgement(&store, &kept, recorded.version, PATIENCE).await.unwrap();
    assert!(matches!(heard().await, Acknowledgement::NotYet(_)));
    let began = kept.record.newest_epoch().unwrap().began;
    for (at, requests, is_heard) in [(began, 0, false), (began.saturating_sub(1), 1, false), (began, 1, true)] {
        opened.run_state.write_run_status(&RunStatus { at, requests, ..RunStatus::default() }).await.unwrap();
        assert_eq!(matches!(heard().await, Acknowledgement::Acknowledged(..)), is_heard, "{at} {requests}");
    }
    runner.step_down().await;
    assert_eq!(heard().await, Acknowledgement::NoRunner);
}

/// The nodes of a layout 1 run whose runner was killed.
const LAYOUT_1: [(&str, &str); 17] = [
    ("/lockkeeper/jobs/left", r#"{"run":"left-1"}"#),
    ("/lockkeeper/jobs/left/runner", "1"),
    ("/lockkeeper/jobs/left/runner-__lock__", ""),
    ("/lockkeeper/semaphores", ""),
    ("/locks/left", "10"),
    (
        "/lockkeeper/runs/left-1",
        r#"{"layout":1,"job":"left","digest":"55","policy":"rolling","policy-digest":"3a","started":1796051121044,"targets":4,
        "semaphore":"/locks/left","slots":10,"stint":1,"stints":[{"number":1,"runner":"vm:26780","journal":"/j",
        "job-file":"/left.toml","began":1796051121059}]}"#,
    ),
    ("/lockkeeper/runs/left-1/plan", ""),
    ("/lockkeeper/runs/left-1/plan/000000", r#"[{"name":"a"},{"name":"b"},{"name":"c"},{"name":"d"}]"#),
    ("/lockkeeper/runs/left-1/job", JOB),
    ("/lockkeeper/runs/left-1/memory", r#"{"memory":""}"#),
    ("/lockkeeper/runs/left-1/wishes", r#"{"approved":{},"retry":{},"accepted":{}}"#),
    (
        "/lockkeeper/runs/left-1/now",
        r#"{"at":1796051124100,"wishes":0,"total":4,"pending":0,"waiting":0,"acting":2,"done":1,"failed":1,"unknown":0,
        "rolled-back":0,"skipped":0,"estimated-end":1796051124102}"#,
    ),
    ("/lockkeeper/runs/left-1/targets", ""),
    ("/lockkeeper/runs/left-1/targets/a", r#"{"at":1796051121078,"attempt":1,"state":"done","took-ms":2}"#),
    (
        "/lockkeeper/runs/left-1/targets/b",
        r#"{"at":1796051121075,"attempt":1,"state":"failed","reason":"command exited with 3"}"#,
    ),
    ("/locks/left/8c7fa257d69b4a2c991e04388d1c1143", "c"),
    (
        "/lockkeeper/runs/left-1/targets/c",
        r#"{"at":1796051121072,"attempt":1,"lease":{"path":"/locks/left/8c7fa257d69b4a2c991e04388d1c1143"},"state":"acting"}"#,
    ),
];

#[tokio::test(start_paused = true)]
async fn a_run_of_an_earlier_version_is_refused_and_abort_releases_what_it_holds() {
    let store = Memory::new(Default::default()).connect().await.unwrap();
    for (path, data) in LAYOUT_1 {
        let path = NodePath::parse(path).unwrap();
        create_all(store.as_ref(), &path.parent().unwrap()).await.unwrap();
        store.create(&path, data.into(), NodeKind::Persistent).await.unwrap();
    }
    let refused = run(&store, "left-1").await.unwrap_err();
    let sentence = "another version of lockkeeper wrote run `left-1` (layout 1, this version reads layout 2)";
    assert_eq!(refused.to_string(), sentence);
    let listed = super::summaries(&store).await.unwrap();
    assert_eq!((listed[0].stored.name.as_str(), listed[0].counts.running), ("left-1", 1));

    let request = super::request(&store, "left-1", |requests| requests.aborted = Some(by())).await.unwrap();
    assert!(request.is_new());
    let AbortedRun { ended, released, unknown, .. } = abort(&store, "left-1", who("ann:2"), &by()).await.unwrap();
    assert_eq!((released, unknown), (vec!["c".to_owned()], vec!["c".to_owned()]));
    assert_eq!((ended.counts.succeeded, ended.counts.failed, ended.counts.unknown, ended.counts.pending), (1, 1, 1, 1));
    assert_eq!(semaphore(&store).holders().await.unwrap().len(), 0);
    assert_eq!(run(&store, "left-1").await.unwrap().record.layout, LAYOUT);
}
