//! Runs that nobody runs: ended by somebody else, or open again.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::{
    Freed, LAYOUT, LedgerError, NewRun, Notice, Opened, RunRecord, Runner, Standing, abort, notice, reopen, run, wish,
};
use crate::job::{JobName, Target, TargetName};
use crate::policy::types::Ending;
use crate::recipe::{AcquireError, Identifier, IfHeld, Owner, Ownership, Patience, Request, Semaphore};
use crate::rollout::{Outlook, Wish};
use crate::store::embedded::{Embedded, EmbeddedOptions};
use crate::store::memory::Memory;
use crate::store::{Connect, Lifetime, NodePath, Store};

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

const NAMES: [&str; 9] = ["new", "leased", "again", "acting", "kept", "failed", "retrying", "reverting", "done"];

fn who(name: &str) -> Identifier {
    Identifier::new(name).unwrap()
}

fn job() -> JobName {
    JobName::parse("left").unwrap()
}

fn by() -> Wish {
    Wish { by: "ann@here".to_owned(), at: 1, reason: Some("enough".to_owned()) }
}

fn semaphore(store: &Arc<dyn Store>) -> Semaphore {
    let path = NodePath::parse("/locks/left").unwrap();
    Semaphore::new(Arc::clone(store), path, NonZeroU32::new(10).unwrap())
}

/// Begins a run whose targets stand wherever one can stand, each that may hold a slot with one.
async fn begin(store: &Arc<dyn Store>) -> (Runner, Opened) {
    let runner = Runner::become_one(store, &job(), who("first:1"), Patience::Once).await.unwrap();
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
        stint: 0,
        stints: Vec::new(),
        ended: None,
    };
    let targets = NAMES.map(|name| Target::unlabelled(TargetName::parse(name).unwrap())).to_vec();
    let job_text = JOB.to_owned();
    let new = NewRun { name: "left-1".to_owned(), record, job_text, targets, journal: String::new() };
    let opened = runner.begin(new).await.unwrap();
    let semaphore = semaphore(store);
    for (target, name) in NAMES.into_iter().enumerate().skip(1) {
        let ledger = &opened.ledger;
        let owner = Owner::Run { run: "left-1".into(), job: "left".into(), runner: "host:1".into() };
        let (identifier, lifetime, patience) = (&who(name), Lifetime::Persistent, Patience::Once);
        let ownership = &Ownership::Exclusive(owner, IfHeld::Refuse);
        let along = &ledger.along_with_lease(target, &Standing::Leased);
        let request = Request { identifier, lifetime, patience, ownership, along };
        let lease = semaphore.acquire_as(request).await.unwrap().lease;
        ledger.was_leased(target, Standing::Leased, &lease);
        if name != "leased" {
            ledger.starts(target, Standing::Acting, 1, &lease).await.unwrap();
        }
        let kept = |ending, exit_code| Standing::Kept { ending, exit_code, took_ms: 7, until: u64::MAX };
        match name {
            "again" => ledger.save(target, Standing::Leased).await.unwrap(),
            "kept" => ledger.save(target, kept(Ending::Succeeded, Some(0))).await.unwrap(),
            "failed" => ledger.save(target, kept(Ending::Failed, Some(3))).await.unwrap(),
            "retrying" => {
                ledger.save(target, Standing::Retrying { ending: Ending::TimedOut, until: u64::MAX }).await.unwrap();
            }
            "reverting" => ledger
                .starts(target, Standing::Reverting { reason: String::new(), was: None }, 1, &lease)
                .await
                .unwrap(),
            "done" => ledger.release(target, Standing::Done { took_ms: Some(7) }, &lease).await.unwrap(),
            _ => {}
        }
    }
    (runner, opened)
}

async fn words(store: &Arc<dyn Store>, opened: &Opened) -> Vec<&'static str> {
    let standings = super::standings_of(store, "left-1", &opened.targets).await.unwrap();
    assert!(standings.iter().all(|(saved, _)| saved.lease.is_none()), "{standings:#?}");
    standings.iter().map(|(saved, _)| saved.standing.word()).collect()
}

async fn a_run_that_nobody_runs_is_ended_and_holds_nothing(connect: Arc<dyn Connect>) {
    let (first, other) = (connect.connect().await.unwrap(), connect.connect().await.unwrap());
    let (runner, opened) = begin(&first).await;
    // While somebody runs it, that is theirs to do.
    let refused = abort(&other, "left-1", who("ann:2"), &by()).await;
    assert!(matches!(refused, Err(LedgerError::Runner(AcquireError::Full { .. }))), "{refused:?}");
    assert_eq!(semaphore(&other).holders().await.unwrap().len(), 7);
    runner.step_down().await;
    let summaries = super::summaries(&other).await.unwrap();
    let left = summaries[0].left.clone().expect("no runner drives it");
    assert!(left.since_ms >= summaries[0].kept.record.started, "{left:?}");

    let Freed { ended, freed, unknown, slots } = abort(&other, "left-1", who("ann:2"), &by()).await.unwrap();
    assert_eq!(freed, ["leased", "again", "acting", "kept", "failed", "retrying", "reverting"]);
    assert_eq!(unknown, ["acting", "reverting"]);
    let held: Vec<_> = slots.iter().map(|slot| (slot.target.as_deref().unwrap(), slot.may_act)).collect();
    let expected =
        freed.iter().map(|name| (name.as_str(), ["acting", "reverting"].contains(&name.as_str()))).collect::<Vec<_>>();
    assert_eq!(left.slots, slots);
    assert_eq!(held, expected, "where no runner saw the end a command may still be running");
    assert_eq!((ended.end.as_str(), ended.reason.as_str()), ("aborted", "aborted by ann@here: enough"));
    let counts = ended.counts;
    assert_eq!((counts.total, counts.pending, counts.done, counts.failed, counts.unknown), (9, 3, 2, 2, 2));
    let expected = ["pending", "pending", "pending", "unknown", "done", "failed", "failed", "unknown", "done"];
    assert_eq!(words(&other, &opened).await, expected);
    assert_eq!(semaphore(&other).holders().await.unwrap(), []);
    assert_eq!(run(&other, "left-1").await.unwrap().record.ended, Some(ended.clone()));
    assert_eq!(Runner::of(&other, &job()).await.unwrap(), (None, 0));
    // Once more does no harm, and says the same.
    let again = abort(&other, "left-1", who("ann:3"), &by()).await.unwrap();
    assert_eq!(again, Freed { ended, freed: Vec::new(), unknown: Vec::new(), slots: Vec::new() });

    // Open again, it is not finished, and nobody has it.
    let kept = run(&other, "left-1").await.unwrap();
    reopen(&other, &kept, who("ann:4")).await.unwrap();
    assert_eq!(run(&other, "left-1").await.unwrap().record.ended, None);
    let changed = reopen(&other, &kept, who("ann:4")).await;
    assert!(matches!(changed, Err(LedgerError::Overtaken { .. })), "{changed:?}");
    assert_eq!(Runner::of(&other, &job()).await.unwrap(), (None, 0));
}

fn embedded() -> Arc<dyn Connect> {
    let folder = tempfile::tempdir().unwrap().keep();
    Arc::new(Embedded::new(folder.join("store.db"), EmbeddedOptions::default()))
}

#[tokio::test]
async fn a_run_that_nobody_runs_is_ended_in_memory() {
    a_run_that_nobody_runs_is_ended_and_holds_nothing(Arc::new(Memory::new(Default::default()))).await;
}

#[tokio::test]
async fn a_run_that_nobody_runs_is_ended_on_the_embedded_store() {
    a_run_that_nobody_runs_is_ended_and_holds_nothing(embedded()).await;
}

#[tokio::test]
async fn what_was_about_to_be_rolled_back_stands_where_it_stood_once_its_run_is_aborted() {
    let store = Memory::new(Default::default()).connect().await.unwrap();
    let (runner, opened) = begin(&store).await;
    let was = Box::new(Standing::Done { took_ms: Some(7) });
    opened.ledger.save(2, Standing::Recalled { was }).await.unwrap();
    runner.step_down().await;
    let Freed { freed, unknown, .. } = abort(&store, "left-1", who("ann:2"), &by()).await.unwrap();
    assert!(freed.contains(&"again".to_owned()), "{freed:?}");
    assert_eq!(unknown, ["acting", "reverting"]);
    assert_eq!(words(&store, &opened).await[1..4], ["pending", "done", "unknown"]);
}

#[tokio::test(start_paused = true)]
async fn a_wish_is_heard_once_the_runner_of_now_says_so() {
    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(1);
    let store = Memory::new(Default::default()).connect().await.unwrap();
    let (runner, opened) = begin(&store).await;
    let wished = wish(&store, "left-1", |wishes| wishes.paused = Some(by())).await.unwrap();
    assert!(wished.is_new() && wished.version == 1, "{wished:?}");
    let same = wish(&store, "left-1", |wishes| wishes.paused = Some(by())).await.unwrap();
    assert!(!same.is_new() && same.version == 1, "what changes nothing is not written");
    let kept = run(&store, "left-1").await.unwrap();
    let heard = async || notice(&store, &kept, wished.version, PATIENCE).await.unwrap();
    assert!(matches!(heard().await, Notice::NotYet(_)));
    let began = kept.record.newest_stint().unwrap().began;
    for (at, wishes, is_heard) in [(began, 0, false), (began.saturating_sub(1), 1, false), (began, 1, true)] {
        opened.ledger.say_now(&Outlook { at, wishes, ..Outlook::default() }).await.unwrap();
        assert_eq!(matches!(heard().await, Notice::Heard(..)), is_heard, "{at} {wishes}");
    }
    runner.step_down().await;
    assert_eq!(heard().await, Notice::Nobody);
}
