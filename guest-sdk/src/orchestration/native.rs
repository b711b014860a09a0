//! The host's calls where there is no host: a play's simulation answers them.

use std::cell::RefCell;
use std::panic::resume_unwind;
use std::thread;

use lockkeeper_cases::Call;
use lockkeeper_cases::simulation::Simulation;
use serde_json::Value;

use super::{Advice, CallError, TargetStatus};
use crate::testing::read::{each, outcome, party, semaphore, target, text};
use crate::{Admission, Outcome, Party, Semaphore, Target};

/// What is played on this thread.
pub(super) struct On {
    pub(super) simulation: Simulation,
    pub(super) targets: Value,
}

thread_local! {
    pub(super) static ON: RefCell<Option<On>> = const { RefCell::new(None) };
}

/// Nobody answers any more: the guest ends where it is.
pub(super) struct Silent;

/// A held slot, as the guest has a handle of it.
#[derive(Debug)]
pub(super) struct HeldLease {
    path: String,
    fence: u64,
}

impl HeldLease {
    pub(super) fn path(&self) -> String {
        self.path.clone()
    }

    pub(super) fn fence(&self) -> u64 {
        self.fence
    }

    pub(super) fn still_held(&self) -> Result<bool, CallError> {
        Ok(ask(Call::StillHeld { path: self.path.clone() })?["is"] == true)
    }
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        // A guest that panics in its sandbox drops nothing; and nobody hears what is dropped after the play.
        if !thread::panicking() && ON.with_borrow(Option::is_some) {
            let _ = ask(Call::Release { path: self.path.clone() });
        }
    }
}

/// The answer, or the fault that it is.
fn ask(call: Call) -> Result<Value, CallError> {
    let told = call.to_string();
    let answer = ON.with_borrow_mut(|on| on.as_mut().map(|on| on.simulation.call(call)));
    match answer {
        Some(Some((answer, _))) => fault(&answer).map_or(Ok(answer), Err),
        Some(None) => resume_unwind(Box::new(Silent)),
        None => panic!("nobody answers `{told}` here: `orchestration::testing` plays an orchestration"),
    }
}

fn fault(answer: &Value) -> Option<CallError> {
    let is = &answer["is"];
    if answer["answer"] != "error" {
        return None;
    }
    let told = |kind: &str| is[kind].as_str().map(str::to_owned);
    Some(match is.as_str() {
        Some(_) => CallError::TimedOut,
        None => told("refused")
            .map(CallError::Refused)
            .or_else(|| told("lease-lost").map(CallError::LeaseLost))
            .or_else(|| told("conflict").map(CallError::Conflict))
            .unwrap_or_else(|| CallError::Unavailable(text(is, "unavailable"))),
    })
}

/// A lease of an answer; none: no slot was free.
fn held(path: &str, answer: &Value) -> Option<HeldLease> {
    let fence = answer["is"].as_u64()?;
    Some(HeldLease { path: path.to_owned(), fence })
}

pub(super) fn lock(path: &str, timeout: Option<u64>) -> Result<HeldLease, CallError> {
    let answer = ask(Call::Lock { path: path.to_owned(), timeout })?;
    held(path, &answer).ok_or(CallError::TimedOut)
}

pub(super) fn try_lock(path: &str) -> Result<Option<HeldLease>, CallError> {
    Ok(held(path, &ask(Call::TryLock { path: path.to_owned() })?))
}

pub(super) fn force(path: &str, breaking: &[u64], reason: &str) -> Result<HeldLease, CallError> {
    let (breaking, reason) = (breaking.to_vec(), reason.to_owned());
    let answer = ask(Call::Force { path: path.to_owned(), breaking, reason })?;
    held(path, &answer).ok_or_else(|| CallError::Conflict("no lease was made".to_owned()))
}

pub(super) fn recovered_leases() -> Result<Vec<HeldLease>, CallError> {
    let lease = |lease: &Value| HeldLease {
        path: lease[0].as_str().unwrap_or_default().to_owned(),
        fence: lease[1].as_u64().unwrap_or_default(),
    };
    Ok(each(&ask(Call::RecoveredLeases)?, "is", lease))
}

pub(super) fn holders(path: &str) -> Result<Semaphore, CallError> {
    Ok(semaphore(&ask(Call::Holders { path: path.to_owned() })?["is"]))
}

pub(super) fn members(path: &str) -> Result<Party, CallError> {
    Ok(party(&ask(Call::Members { path: path.to_owned() })?["is"]))
}

pub(super) fn wait_members(path: &str, at_least: u32, timeout: Option<u64>) -> Result<Party, CallError> {
    Ok(party(&ask(Call::WaitMembers { path: path.to_owned(), at_least, timeout })?["is"]))
}

pub(super) fn targets() -> Vec<Target> {
    let targets = ON.with_borrow(|on| on.as_ref().map(|on| on.targets.clone()));
    targets.iter().flat_map(|targets| targets.as_array()).flatten().map(target).collect()
}

pub(super) fn status_of(target: &str) -> Result<TargetStatus, CallError> {
    let answer = ask(Call::StatusOf { target: target.to_owned() })?;
    Ok(match answer["is"].as_str().unwrap_or_default() {
        "running" => TargetStatus::Running,
        "succeeded" => TargetStatus::Succeeded,
        "failed" => TargetStatus::Failed,
        "unknown" => TargetStatus::Unknown,
        "rolled-back" => TargetStatus::RolledBack,
        "skipped" => TargetStatus::Skipped,
        _ => TargetStatus::Open,
    })
}

pub(super) fn admit(target: &str) -> Result<Advice, CallError> {
    let answer = ask(Call::Admit { target: target.to_owned() })?;
    let is = &answer["is"];
    let verdict = match is["verdict"].as_str() {
        Some("lock") => Admission::Lock,
        Some("hold") => Admission::Hold,
        Some("skip") => Admission::Skip,
        Some("abort") => Admission::Abort,
        Some(_) => Admission::Wait,
        None => Admission::Force(each(&is["verdict"], "force", |fence| fence.as_u64().unwrap_or_default())),
    };
    let (code, reason) = (text(is, "code"), text(is, "reason"));
    Ok(Advice { verdict, code, reason, wake_after: is["wake-after"].as_u64() })
}

pub(super) fn start(target: &str, timeout: Option<u64>) -> Result<(), CallError> {
    ask(Call::Start { target: target.to_owned(), timeout }).map(drop)
}

pub(super) fn wait_any(among: &[String], timeout: Option<u64>) -> Result<Option<(String, Outcome)>, CallError> {
    let answer = ask(Call::WaitAny { among: among.to_vec(), timeout })?;
    let is = &answer["is"];
    Ok(is[0].as_str().map(|target| (target.to_owned(), outcome(&is[1]))))
}

pub(super) fn roll_back(target: &str, reason: &str, timeout: Option<u64>) -> Result<Outcome, CallError> {
    let (target, reason) = (target.to_owned(), reason.to_owned());
    let answer = ask(Call::RollBack { target, reason, timeout })?;
    Ok(outcome(&answer["is"][1]))
}

pub(super) fn skip(target: &str, reason: &str) -> Result<(), CallError> {
    ask(Call::Skip { target: target.to_owned(), reason: reason.to_owned() }).map(drop)
}

pub(super) fn sleep(duration: u64) -> Result<(), CallError> {
    ask(Call::Sleep { duration }).map(drop)
}

pub(super) fn now() -> u64 {
    ON.with_borrow(|on| on.as_ref().map_or(crate::testing::NOON, |on| on.simulation.now()))
}

pub(super) fn checkpoint(state: &[u8]) -> Result<(), CallError> {
    let state = state.iter().map(|byte| format!("{byte:02x}")).collect();
    ask(Call::Checkpoint { state }).map(drop)
}
