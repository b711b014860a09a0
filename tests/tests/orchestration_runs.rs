//! Orchestrations in their sandbox, answered by the test: what they call, that they call it again, and what bounds them.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

#[allow(dead_code, reason = "its way to build a guest alone")]
mod hostile;

use std::collections::VecDeque;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use lockkeeper::policy::orchestration::{
    Answer, Answered, Asked, Beginning, Call, CallError, Orchestration, TargetStatus,
};
use lockkeeper::policy::types::{Ending, Outcome, Party, Target};
use lockkeeper::policy::{Engine, EngineOptions, Limits, PolicyError};
use serde_json::json;
use tokio::sync::mpsc;

fn orchestrated() -> &'static Orchestration {
    static LOADED: OnceLock<Orchestration> = OnceLock::new();
    LOADED.get_or_init(|| {
        // What ends a guest is its fuel, however busy the machine is.
        let limits = Limits { time: Duration::from_secs(60), ..Limits::DEFAULT };
        let engine = Engine::new(&EngineOptions { limits, ..EngineOptions::default() }).unwrap();
        engine.load_orchestration(&hostile::built("orchestrated")).unwrap()
    })
}

fn target(name: &str) -> Target {
    Target { name: name.to_owned(), labels: Vec::new(), wave: String::new(), attempt: 1, waiting_since: 0 }
}

fn beginning(mode: &str, state: Option<Vec<u8>>) -> Beginning {
    let targets = ["a", "b", "c"].map(target).into();
    Beginning { settings: json!({ "mode": mode }).to_string(), state, targets, now: 5 }
}

/// Runs it with these answers, which count the milliseconds from 100; what it called, and what became of it.
async fn result(beginning: Beginning, answers: Vec<Answer>) -> (Vec<Call>, Result<(), PolicyError>) {
    let (calls, mut asked) = mpsc::channel::<Asked>(1);
    let mut answers: VecDeque<Answer> = answers.into();
    let mut called = Vec::new();
    let answering = async {
        let mut at = 100;
        while let Some(Asked { call, answer, .. }) = asked.recv().await {
            called.push(call);
            at += 1;
            match answers.pop_front() {
                Some(given) => answer.send(Answered { answer: given, at }).unwrap(),
                None => break,
            }
        }
        drop(asked);
    };
    let (done, ()) = tokio::join!(orchestrated().run(beginning, calls), answering);
    (called, done)
}

fn ended(target: &str) -> Answer {
    let outcome = Outcome { ending: Ending::Succeeded, exit_code: Some(0), took: 3, attempt: 1 };
    Answer::Ended(Some((target.to_owned(), outcome)))
}

/// A rollout of three targets, two at a time, under a lease: what it calls and is answered.
fn roll() -> Vec<(Call, Answer)> {
    let path = || "/locks/a".to_owned();
    let status = |target: &str| (Call::StatusOf { target: target.to_owned() }, Answer::Status(TargetStatus::Open));
    let start = |target: &str| (Call::Start { target: target.to_owned(), timeout: None }, Answer::Done);
    let wait = |among: &[&str], which: &str| {
        let among = among.iter().map(|one| (*one).to_owned()).collect();
        (Call::WaitAny { among, timeout: None }, ended(which))
    };
    let party = Party { path: "/party".to_owned(), min_members: 0, members: Vec::new() };
    vec![
        (Call::Lock { path: path(), timeout: Some(60_000) }, Answer::Held(7)),
        (Call::WaitMembers { path: "/party".to_owned(), at_least: 2, timeout: None }, Answer::Party(party)),
        status("a"),
        status("b"),
        status("c"),
        start("a"),
        start("b"),
        wait(&["a", "b"], "b"),
        start("c"),
        wait(&["a", "c"], "a"),
        wait(&["c"], "c"),
        (Call::Release { path: path() }, Answer::Done),
    ]
}

#[tokio::test]
async fn an_orchestration_calls_what_it_says_and_gives_its_lease_back() {
    let (calls, answers): (Vec<Call>, Vec<Answer>) = roll().into_iter().unzip();
    let (called, done) = result(beginning("roll", None), answers).await;
    assert_eq!(called, calls);
    done.unwrap();
    assert_eq!(orchestrated().manifest().name, "orchestrated");
}

#[tokio::test]
async fn run_again_with_the_same_answers_it_calls_the_same_from_wherever_it_was_cut_off() {
    let (calls, answers): (Vec<Call>, Vec<Answer>) = roll().into_iter().unzip();
    for known in 0..answers.len() {
        let (called, done) = result(beginning("roll", None), answers[..known].to_vec()).await;
        assert_eq!(called, calls[..=known], "with {known} answers");
        assert!(done.is_err(), "nobody answers it any more");
    }
}

#[tokio::test]
async fn a_failure_ends_the_orchestration_after_running_actions() {
    let (calls, mut answers): (Vec<Call>, Vec<Answer>) = roll().into_iter().unzip();
    let outcome = Outcome { ending: Ending::Failed, exit_code: Some(1), took: 3, attempt: 1 };
    answers[7] = Answer::Ended(Some(("b".to_owned(), outcome)));
    answers.truncate(8);
    answers.extend([ended("a"), Answer::Done]);
    let (called, done) = result(beginning("roll", None), answers).await;
    assert_eq!(called[..8], calls[..8]);
    assert_eq!(called[8], Call::WaitAny { among: vec!["a".to_owned()], timeout: None });
    assert_eq!(called[9], Call::Release { path: "/locks/a".to_owned() });
    assert_eq!(done.unwrap_err().to_string(), "the policy gave up: b did not succeed: failed");
}

#[tokio::test]
async fn what_is_dropped_is_released() {
    let (called, done) = result(
        beginning("drop", None),
        vec![Answer::Held(1), Answer::Held(2), Answer::Done, Answer::Done, Answer::Done],
    )
    .await;
    done.unwrap();
    let [a, b] = ["/locks/a", "/locks/b"].map(str::to_owned);
    assert_eq!(
        called,
        [
            Call::Lock { path: a.clone(), timeout: None },
            Call::TryLock { path: b.clone() },
            Call::Release { path: a },
            Call::Sleep { duration: 1 },
            Call::Release { path: b },
        ]
    );
}

#[tokio::test]
async fn it_resumes_from_its_checkpoint() {
    // It gets no more answers: its driver starts it again.
    let (called, done) = result(beginning("resume", None), vec![Answer::Held(7)]).await;
    assert!(done.is_err());
    assert_eq!(called[1], Call::Checkpoint { state: "010203".to_owned() });
    let found = Answer::Leases(vec![("/locks/a".to_owned(), 7)]);
    let (called, done) = result(beginning("resume", Some(vec![1, 2, 3])), vec![found, Answer::Done]).await;
    done.unwrap();
    assert_eq!(called, [Call::RecoveredLeases, Call::Release { path: "/locks/a".to_owned() }]);
}

#[tokio::test]
async fn faults_are_its_own_to_handle() {
    let refused = Answer::Error(CallError::Refused("the job does not list it".to_owned()));
    let (_, done) = result(beginning("roll", None), vec![refused]).await;
    assert_eq!(done.unwrap_err().to_string(), "the policy gave up: refused: the job does not list it");
    let (_, done) = result(beginning("nothing", None), vec![]).await;
    assert_eq!(done.unwrap_err().to_string(), "the policy gave up: no mode `nothing`");
}

#[tokio::test]
async fn between_two_calls_it_is_bounded_as_a_decision_is() {
    let (called, done) = result(beginning("spin", None), vec![]).await;
    assert_eq!((called.len(), done.unwrap_err().kind()), (0, "out-of-fuel"));
    let (_, done) = result(beginning("panic", None), vec![]).await;
    let error = done.unwrap_err();
    assert!(error.to_string().contains("no lease for 5"), "{error}");
    // Answers of another kind than the call has are no answers.
    let (_, done) = result(beginning("roll", None), vec![Answer::Flag(true)]).await;
    assert_eq!(done.unwrap_err().kind(), "trap");
}

#[tokio::test]
async fn waiting_costs_neither_fuel_nor_time() {
    let (calls, mut asked) = mpsc::channel::<Asked>(1);
    let begun = Instant::now();
    let answering = async {
        let mut first = true;
        while let Some(Asked { call, answer, .. }) = asked.recv().await {
            if std::mem::take(&mut first) {
                // Longer than a decision may take.
                tokio::time::sleep(Duration::from_millis(1_200)).await;
            }
            let given = match call {
                Call::Lock { .. } => Answer::Held(1),
                Call::TryLock { .. } => Answer::NotFree,
                _ => Answer::Done,
            };
            answer.send(Answered { answer: given, at: 1 }).unwrap();
        }
    };
    let (done, ()) = tokio::join!(orchestrated().run(beginning("drop", None), calls), answering);
    done.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(1_200));
}

#[test]
fn a_policy_is_no_orchestration_nor_the_other_way_round() {
    let engine = Engine::new(&EngineOptions::default()).unwrap();
    let rolling = lockkeeper::policy::StandardPolicy::named("rolling").unwrap().wasm;
    assert_eq!(engine.load_orchestration(rolling).unwrap_err().kind(), "wrong-world");
    assert_eq!(engine.load(&hostile::built("orchestrated")).unwrap_err().kind(), "forbidden-import");
}
