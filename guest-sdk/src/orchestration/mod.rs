//! Orchestrations, tier 2: a script that drives the primitives itself, and survives a crash.
//!
//! ```
//! use lockkeeper_sdk::orchestration::prelude::*;
//!
//! /// Fails the database over while nobody else does.
//! #[settings]
//! struct Failover {
//!     lock: String,
//! }
//!
//! #[orchestrator]
//! impl Orchestrator for Failover {
//!     fn run(&self, _: Option<Vec<u8>>) -> Result<(), Stopped> {
//!         let _held = lock(&self.lock, None)?;
//!         for_each_target(1, |ended| ended.must_have_succeeded())
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! # Durability
//! Each call and its answer is in the run's state before the guest has the answer. After a crash the guest is run again from
//! its start and answered the same, until it is where it was. So it must call the same again: nothing but its settings, its
//! answers and [`now`] may decide what it does next.

pub mod bindings;
#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use bindings::exports::lockkeeper::orchestration::driver;
#[cfg(target_arch = "wasm32")]
use bindings::lockkeeper::orchestration::coordination as host;
#[cfg(not(target_arch = "wasm32"))]
use native as host;

use crate::decide::millis;
use crate::export::{Described, report_panics};
use crate::{Diagnostic, Ending, Manifest, Outcome, Party, Schema, Semaphore, Settings, Severity, Target, schema_of};

pub use crate::orchestrator;
pub use bindings::lockkeeper::orchestration::coordination::{Advice, CallError, TargetStatus};
use host::HeldLease;

/// All that an orchestration usually needs.
pub mod prelude {
    pub use std::time::Duration;

    pub use super::{
        Advice, CallError, Ended, Lease, Orchestrator, Stopped, TargetStatus, admit, checkpoint, for_each_target,
        force, holders, lock, members, now, orchestrator, recovered_leases, roll_back, skip, sleep, start, status_of,
        targets, try_lock, wait_any, wait_members, with_lease,
    };
    pub use crate::{Admission, Diagnostic, Ending, Level, Outcome, Period, Target, problem, settings, trace};
}

/// What an orchestration does. `self` is its settings.
pub trait Orchestrator: Sized {
    /// Runs the whole job; `state` is that of the last [`checkpoint`].
    ///
    /// # Errors
    /// Why it cannot go on: the run fails with it.
    fn run(&self, state: Option<Vec<u8>>) -> Result<(), Stopped>;

    /// What is wrong with settings that could be read, beyond what their types say.
    fn check(&self) -> Vec<Diagnostic> {
        Vec::new()
    }
}

/// Why an orchestration cannot go on, in one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped(pub String);

impl Stopped {
    /// With this reason.
    pub fn because(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

impl From<CallError> for Stopped {
    fn from(fault: CallError) -> Self {
        Self(match fault {
            CallError::TimedOut => "the time ran out".to_owned(),
            CallError::LeaseLost(path) => format!("the lease of {path} was lost"),
            CallError::Refused(why) => format!("refused: {why}"),
            CallError::Conflict(why) => format!("the leases have changed: {why}"),
            CallError::Unavailable(why) => format!("the store cannot be reached: {why}"),
        })
    }
}

/// A held slot: given back when this is dropped.
#[derive(Debug)]
pub struct Lease(HeldLease);

impl Lease {
    /// Of which semaphore.
    #[must_use]
    pub fn path(&self) -> String {
        self.0.path()
    }

    /// Grows with every grant: for the protected side to compare.
    #[must_use]
    pub fn fence(&self) -> u64 {
        self.0.fence()
    }

    /// Whether nobody has taken it away.
    ///
    /// # Errors
    /// [`CallError::Unavailable`].
    pub fn still_held(&self) -> Result<bool, CallError> {
        self.0.still_held()
    }

    /// Gives it back now.
    pub fn release(self) {}
}

/// Waits for a slot of a semaphore that the job lists; without a timeout as long as the job's `orchestration.timeout` allows.
/// A lease that the run holds already, and this guest does not, is that lease.
///
/// # Errors
/// [`CallError::TimedOut`]; [`CallError::Refused`]: the job does not list it, counts its slots otherwise than the store, or the guest
/// has its lease in hand; [`CallError::LeaseLost`]: another lease is gone; [`CallError::Unavailable`].
pub fn lock(path: &str, timeout: Option<Duration>) -> Result<Lease, CallError> {
    host::lock(path, timeout.map(millis)).map(Lease)
}

/// Takes a slot if one is free now. None: there is none.
///
/// # Errors
/// As [`lock`], but for the time.
pub fn try_lock(path: &str) -> Result<Option<Lease>, CallError> {
    host::try_lock(path).map(|lease| lease.map(Lease))
}

/// Takes a lease whatever the count, breaking those with these fences and no others: all of them, or none. Needs the grant
/// `force`. The reason is kept with the lease, for whoever wonders.
///
/// # Errors
/// [`CallError::Conflict`]: one of them is not there any more; [`CallError::Refused`]: without the grant, not listed, or the guest has
/// its lease in hand; [`CallError::Unavailable`].
pub fn force(path: &str, breaking: &[u64], reason: &str) -> Result<Lease, CallError> {
    host::force(path, breaking, reason).map(Lease)
}

/// The leases that the run holds and this guest does not, as after a checkpoint.
///
/// # Errors
/// [`CallError::Unavailable`].
pub fn recovered_leases() -> Result<Vec<Lease>, CallError> {
    host::recovered_leases().map(|leases| leases.into_iter().map(Lease).collect())
}

/// Does something while a slot is held, and gives it back, however that ended.
///
/// # Errors
/// As [`lock`], or what `work` says.
pub fn with_lease<T>(
    path: &str,
    timeout: Option<Duration>,
    work: impl FnOnce(&Lease) -> Result<T, Stopped>,
) -> Result<T, Stopped> {
    let lease = lock(path, timeout)?;
    work(&lease)
}

/// What a semaphore that the job lists looks like now: leases, oldest first, and how many queue.
///
/// # Errors
/// [`CallError::Refused`]: it is not listed; [`CallError::Unavailable`].
pub fn holders(path: &str) -> Result<Semaphore, CallError> {
    host::holders(path)
}

/// Who is in a party that the job lists, now, by name.
///
/// # Errors
/// [`CallError::Refused`]: it is not listed; [`CallError::Unavailable`].
pub fn members(path: &str) -> Result<Party, CallError> {
    host::members(path)
}

/// Waits until a party has at least so many members, and says who they were then: they may be gone again.
///
/// # Errors
/// [`CallError::TimedOut`]; [`CallError::LeaseLost`]; as [`members`].
pub fn wait_members(path: &str, at_least: u32, timeout: Option<Duration>) -> Result<Party, CallError> {
    host::wait_members(path, at_least, timeout.map(millis))
}

/// The job's targets, in the plan's order.
#[must_use]
pub fn targets() -> Vec<Target> {
    host::targets()
}

/// Where a target stands. What acts may have ended by the time that this is read: [`wait_any`] waits for it.
///
/// # Errors
/// [`CallError::Refused`]: the job has no such target.
pub fn status_of(target: &str) -> Result<TargetStatus, CallError> {
    host::status_of(target)
}

/// What the job's policy says of a target that has not begun. Nothing follows from it: [`start`] asks again.
///
/// # Errors
/// [`CallError::Refused`]: the job has no such target, or it has begun.
pub fn admit(target: &str) -> Result<Advice, CallError> {
    host::admit(target)
}

/// Lets the job's action begin on a target, and returns once it has: a slot of the job's semaphore is free, its policy says
/// so, and no hard limit is in the way. Of one that acts already it returns at once.
///
/// # Errors
/// [`CallError::TimedOut`]: it had not begun by then, and will not unless it is called again; [`CallError::LeaseLost`] likewise.
/// [`CallError::Refused`]: the job has no such target, it is over, or was left out meanwhile, by its policy or by people.
pub fn start(target: &str, timeout: Option<Duration>) -> Result<(), CallError> {
    host::start(target, timeout.map(millis))
}

/// Leaves a target out that has not begun.
///
/// # Errors
/// [`CallError::Refused`]: the job has no such target, or it has begun.
pub fn skip(target: &str, reason: &str) -> Result<(), CallError> {
    host::skip(target, reason)
}

/// A target that the job is done with.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// Which.
    pub target: String,
    /// How its action ended.
    pub outcome: Outcome,
}

impl Ended {
    /// Goes on only after a success.
    ///
    /// # Errors
    /// That it was none.
    pub fn must_have_succeeded(self) -> Result<(), Stopped> {
        match self.outcome.ending {
            Ending::Succeeded => Ok(()),
            ending => Err(Stopped(format!("{} did not succeed: {}", self.target, crate::ending_code(ending)))),
        }
    }
}

/// Undoes a target that the job is done with, by the job's `action.roll-back` and under a slot of its semaphore, and waits
/// until that has ended: how. The timeout is for its beginning. Windows and the budget are for what goes forward, and do not
/// keep it.
///
/// # Errors
/// [`CallError::Refused`]: the job has no roll-back, or the target has not acted, acts still, or is rolled back.
/// [`CallError::TimedOut`]: it had not begun by then, and will not. [`CallError::LeaseLost`] likewise.
pub fn roll_back(target: &str, reason: &str, timeout: Option<Duration>) -> Result<Ended, CallError> {
    let outcome = host::roll_back(target, reason, timeout.map(millis))?;
    Ok(Ended { target: target.to_owned(), outcome })
}

/// Waits until the job is done with one of these targets, its retries and its roll-back included: the first of them in that
/// order. None: the timeout ran out first. Of one that was left out it says that it failed.
///
/// # Errors
/// [`CallError::LeaseLost`]: what acts goes to its end all the same. [`CallError::Refused`]: the job has no such target.
pub fn wait_any(among: &[String], timeout: Option<Duration>) -> Result<Option<Ended>, CallError> {
    let ended = host::wait_any(among, timeout.map(millis))?;
    Ok(ended.map(|(target, outcome)| Ended { target, outcome }))
}

/// Acts on every target that is still open, at most `at_once` at a time, and hands each one's end to `then`; what that says
/// ends it once all that act are done.
///
/// # Errors
/// What `then` said first, or a [`CallError`].
pub fn for_each_target(at_once: usize, mut then: impl FnMut(Ended) -> Result<(), Stopped>) -> Result<(), Stopped> {
    let mut open: VecDeque<String> = VecDeque::new();
    let mut running: Vec<String> = Vec::new();
    for target in targets() {
        match status_of(&target.name)? {
            TargetStatus::Open => open.push_back(target.name),
            TargetStatus::Running => running.push(target.name),
            _ => {}
        }
    }
    let mut stopped = None;
    loop {
        while stopped.is_none() && running.len() < at_once.max(1) {
            let Some(target) = open.pop_front() else { break };
            start(&target, None)?;
            running.push(target);
        }
        if running.is_empty() {
            return stopped.map_or(Ok(()), Err);
        }
        if let Some(ended) = wait_any(&running, None)? {
            running.retain(|target| *target != ended.target);
            if let Err(why) = then(ended) {
                stopped.get_or_insert(why);
            }
        }
    }
}

/// Waits; a crash meanwhile does not make it longer.
///
/// # Errors
/// [`CallError::LeaseLost`]; [`CallError::Refused`]: longer than the job's `orchestration.timeout`.
pub fn sleep(duration: Duration) -> Result<(), CallError> {
    host::sleep(millis(duration))
}

/// When the last answer was given, in milliseconds since the Unix epoch.
#[must_use]
pub fn now() -> u64 {
    host::now()
}

/// Begins again from this state: [`Orchestrator::run`] is called with it, now and after every crash, and what was
/// called before is forgotten. Nothing behind this runs: `match checkpoint(&state)? {}`. Leases stay held, and
/// [`recovered_leases`] hands them over; actions go on.
///
/// # Errors
/// [`CallError::Refused`]: the state has more than 64 KiB, or nothing was called since the last checkpoint.
pub fn checkpoint(state: &[u8]) -> Result<Infallible, CallError> {
    match host::checkpoint(state) {
        Ok(()) => panic!("the host went on behind a checkpoint"),
        Err(fault) => Err(fault),
    }
}

/// The component's driver, made of an orchestrator.
#[derive(Debug)]
pub struct Export<P>(std::marker::PhantomData<P>);

impl<P: Orchestrator + Described + Settings + Schema> driver::Guest for Export<P> {
    fn describe() -> Manifest {
        let about = P::DESCRIPTION;
        Manifest {
            name: about.name.to_owned(),
            version: about.version.to_owned(),
            summary: about.summary.to_owned(),
            settings_schema: schema_of::<P>(),
            verdicts: Vec::new(),
        }
    }

    fn validate(settings: String) -> Vec<Diagnostic> {
        report_panics();
        match P::read(&settings) {
            Ok(orchestrator) => orchestrator.check(),
            Err(message) => {
                vec![Diagnostic { severity: Severity::Error, at: String::new(), message, help: None }]
            }
        }
    }

    fn run(settings: String, state: Option<Vec<u8>>) -> Result<(), String> {
        report_panics();
        P::read(&settings)?.run(state).map_err(|Stopped(why)| why)
    }
}
