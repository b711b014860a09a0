//! The host's side of `coordination`: each function a call, handed on and waited for.

use std::time::Instant;

use tokio::sync::{mpsc, oneshot};
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceType};

use super::Call;
use super::call::{Advice, Answer, CallError, TargetStatus};
use crate::policy::Engine;
use crate::policy::evaluate::{Guest, TraceLine};
use crate::policy::ticker::Computing;
use crate::policy::types::{Outcome, Party, Semaphore, Target};

/// The interface that orchestrations import.
pub(super) const COORDINATION: &str = "lockkeeper:orchestration/coordination@0.1.0";

/// The longest path, name or reason that a guest may say, in bytes.
const MAX_TEXT: usize = 4 * 1024;

/// Targets that one call may name.
const MAX_TARGETS: usize = 10_000;

/// What a checkpoint may hold, in bytes.
const MAX_STATE: usize = 64 * 1024;

/// A held slot, as the guest has a handle of it.
#[derive(Debug)]
pub(super) struct HeldLease;

/// A call that waits for its answer. Dropped without one the guest ends.
#[derive(Debug)]
pub struct Asked {
    /// What it wants.
    pub call: Call,
    /// What the guest said before.
    pub said: Vec<TraceLine>,
    /// Where it waits.
    pub answer: oneshot::Sender<Answered>,
}

/// An answer, and when it was given first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// What.
    pub answer: Answer,
    /// In milliseconds since the Unix epoch.
    pub at: u64,
}

/// What the store of an orchestration's instance holds.
#[derive(Debug)]
pub(in crate::policy) struct Instance {
    /// What every guest uses and says.
    pub(super) guest: Guest,
    engine: Engine,
    /// Since when it computes, without a call.
    pub(super) since: Instant,
    /// None while it waits.
    computing: Option<Computing>,
    pub(super) calls: mpsc::Sender<Asked>,
    pub(super) now: u64,
    pub(super) targets: Vec<Target>,
    /// Path and fence of every lease that it was handed, by its handle.
    leases: Vec<(String, u64)>,
}

impl Instance {
    pub(super) fn new(engine: Engine, calls: mpsc::Sender<Asked>, now: u64, targets: Vec<Target>) -> Self {
        let (guest, computing) = (Guest::new(&engine.limits()), Some(engine.computing()));
        Self { guest, engine, since: Instant::now(), computing, calls, now, targets, leases: Vec::new() }
    }

    fn hand_over(&mut self, path: String, fence: u64) -> wasmtime::Result<Resource<HeldLease>> {
        let handle = u32::try_from(self.leases.len())?;
        self.leases.push((path, fence));
        Ok(Resource::new_own(handle))
    }

    fn lease(&self, handle: u32) -> wasmtime::Result<&(String, u64)> {
        self.leases.get(handle as usize).ok_or_else(|| wasmtime::Error::msg("there is no such lease"))
    }
}

/// Hands a call on, and waits; then the guest computes anew.
async fn ask(store: &mut StoreContextMut<'_, Instance>, call: Call) -> wasmtime::Result<Answer> {
    let (answer, answered) = oneshot::channel();
    let over = || wasmtime::Error::msg("the run does not wait for this orchestration any more");
    let data = store.data_mut();
    let said = std::mem::take(&mut data.guest.said);
    data.computing = None;
    data.calls.clone().send(Asked { call, said, answer }).await.map_err(|_| over())?;
    let Answered { answer, at } = answered.await.map_err(|_| over())?;
    let fuel = store.data().engine.limits().fuel;
    store.set_fuel(fuel)?;
    let data = store.data_mut();
    (data.since, data.now, data.computing) = (Instant::now(), at, Some(data.engine.computing()));
    Ok(answer)
}

/// An answer of another kind than the call has: the journal is not ours, or the host is wrong.
fn strange<T>(answer: &Answer) -> wasmtime::Result<T> {
    Err(wasmtime::Error::msg(format!("this is no answer to that call: {answer:?}")))
}

fn too_long(texts: &[&str]) -> Option<CallError> {
    let longest = texts.iter().map(|text| text.len()).max().unwrap_or_default();
    (longest > MAX_TEXT).then(|| CallError::Refused(format!("a text of {longest} bytes: {MAX_TEXT} is the most")))
}

/// Calls that are answered with nothing but that it was done.
async fn done(store: &mut StoreContextMut<'_, Instance>, call: Call) -> wasmtime::Result<Result<(), CallError>> {
    match ask(store, call).await? {
        Answer::Done => Ok(Ok(())),
        Answer::Error(fault) => Ok(Err(fault)),
        answer => strange(&answer),
    }
}

/// Calls that are answered with a lease.
async fn held(
    store: &mut StoreContextMut<'_, Instance>,
    path: String,
    call: Call,
) -> wasmtime::Result<Result<Option<Resource<HeldLease>>, CallError>> {
    match ask(store, call).await? {
        Answer::Held(fence) => Ok(Ok(Some(store.data_mut().hand_over(path, fence)?))),
        Answer::NotFree => Ok(Ok(None)),
        Answer::Error(fault) => Ok(Err(fault)),
        answer => strange(&answer),
    }
}

type Store<'a> = StoreContextMut<'a, Instance>;
type Said<T> = (Result<T, CallError>,);

/// Offers `coordination`.
pub(super) fn add_to_linker(linker: &mut Linker<Instance>) -> wasmtime::Result<()> {
    let mut offered = linker.instance(COORDINATION)?;
    offered.resource_async("held-lease", ResourceType::host::<HeldLease>(), |mut store, handle| {
        Box::new(async move {
            let path = store.data().lease(handle)?.0.clone();
            // Whether that worked nobody can be told who has dropped it; the run's end gives back what is left.
            done(&mut store, Call::Release { path }).await.map(drop)
        })
    })?;
    offered.func_wrap("[method]held-lease.path", |store: Store<'_>, (lease,): (Resource<HeldLease>,)| {
        Ok((store.data().lease(lease.rep())?.0.clone(),))
    })?;
    offered.func_wrap("[method]held-lease.fence", |store: Store<'_>, (lease,): (Resource<HeldLease>,)| {
        Ok((store.data().lease(lease.rep())?.1,))
    })?;
    offered.func_wrap_async(
        "[method]held-lease.still-held",
        |mut store: Store<'_>, (lease,): (Resource<HeldLease>,)| {
            Box::new(async move {
                let path = store.data().lease(lease.rep())?.0.clone();
                let said: Said<bool> = match ask(&mut store, Call::StillHeld { path }).await? {
                    Answer::Flag(held) => (Ok(held),),
                    Answer::Error(fault) => (Err(fault),),
                    answer => strange(&answer)?,
                };
                Ok(said)
            })
        },
    )?;
    offered.func_wrap_async("lock", |mut store: Store<'_>, (path, timeout): (String, Option<u64>)| {
        Box::new(async move {
            if let Some(fault) = too_long(&[&path]) {
                return Ok((Err(fault),));
            }
            let said = held(&mut store, path.clone(), Call::Lock { path, timeout }).await?;
            let said: Said<Resource<HeldLease>> = (said.and_then(|lease| lease.ok_or(CallError::TimedOut)),);
            Ok(said)
        })
    })?;
    offered.func_wrap_async("try-lock", |mut store: Store<'_>, (path,): (String,)| {
        Box::new(async move {
            if let Some(fault) = too_long(&[&path]) {
                return Ok((Err(fault),));
            }
            let said: Said<Option<Resource<HeldLease>>> =
                (held(&mut store, path.clone(), Call::TryLock { path }).await?,);
            Ok(said)
        })
    })?;
    offered.func_wrap_async(
        "force",
        |mut store: Store<'_>, (path, breaking, reason): (String, Vec<u64>, String)| {
            Box::new(async move {
                if let Some(fault) = too_long(&[&path, &reason]) {
                    return Ok((Err(fault),));
                }
                let said = held(&mut store, path.clone(), Call::Force { path, breaking, reason }).await?;
                let said: Said<Resource<HeldLease>> =
                    (said.and_then(|lease| lease.ok_or(CallError::Conflict("no lease was made".to_owned()))),);
                Ok(said)
            })
        },
    )?;
    offered.func_wrap_async("recovered-leases", |mut store: Store<'_>, (): ()| {
        Box::new(async move {
            let said: Said<Vec<Resource<HeldLease>>> = match ask(&mut store, Call::RecoveredLeases).await? {
                Answer::Leases(leases) => {
                    let data = store.data_mut();
                    let handles = leases.into_iter().map(|(path, fence)| data.hand_over(path, fence));
                    (Ok(handles.collect::<wasmtime::Result<_>>()?),)
                }
                Answer::Error(fault) => (Err(fault),),
                answer => strange(&answer)?,
            };
            Ok(said)
        })
    })?;
    offered.func_wrap_async("holders", |mut store: Store<'_>, (path,): (String,)| {
        Box::new(async move {
            if let Some(fault) = too_long(&[&path]) {
                return Ok((Err(fault),));
            }
            let said: Said<Semaphore> = match ask(&mut store, Call::Holders { path }).await? {
                Answer::Semaphore(semaphore) => (Ok(semaphore),),
                Answer::Error(fault) => (Err(fault),),
                answer => strange(&answer)?,
            };
            Ok(said)
        })
    })?;
    offered.func_wrap_async("members", |mut store: Store<'_>, (path,): (String,)| {
        Box::new(async move { party(&mut store, path.clone(), Call::Members { path }).await })
    })?;
    offered.func_wrap_async(
        "wait-members",
        |mut store: Store<'_>, (path, at_least, timeout): (String, u32, Option<u64>)| {
            Box::new(
                async move { party(&mut store, path.clone(), Call::WaitMembers { path, at_least, timeout }).await },
            )
        },
    )?;
    offered.func_wrap("targets", |store: Store<'_>, (): ()| Ok((store.data().targets.clone(),)))?;
    offered.func_wrap_async("status-of", |mut store: Store<'_>, (target,): (String,)| {
        Box::new(async move {
            if let Some(fault) = too_long(&[&target]) {
                return Ok((Err(fault),));
            }
            let said: Said<TargetStatus> = match ask(&mut store, Call::StatusOf { target }).await? {
                Answer::Status(status) => (Ok(status),),
                Answer::Error(fault) => (Err(fault),),
                answer => strange(&answer)?,
            };
            Ok(said)
        })
    })?;
    offered.func_wrap_async("admit", |mut store: Store<'_>, (target,): (String,)| {
        Box::new(async move {
            if let Some(fault) = too_long(&[&target]) {
                return Ok((Err(fault),));
            }
            let said: Said<Advice> = match ask(&mut store, Call::Admit { target }).await? {
                Answer::Advice(advice) => (Ok(advice),),
                Answer::Error(fault) => (Err(fault),),
                answer => strange(&answer)?,
            };
            Ok(said)
        })
    })?;
    offered.func_wrap_async("start", |mut store: Store<'_>, (target, timeout): (String, Option<u64>)| {
        Box::new(async move {
            let said: Said<()> = match too_long(&[&target]) {
                Some(fault) => (Err(fault),),
                None => (done(&mut store, Call::Start { target, timeout }).await?,),
            };
            Ok(said)
        })
    })?;
    offered.func_wrap_async("wait-any", |mut store: Store<'_>, (among, timeout): (Vec<String>, Option<u64>)| {
        Box::new(async move {
            if among.len() > MAX_TARGETS {
                let many = among.len();
                return Ok((Err(CallError::Refused(format!("{many} targets in a call: {MAX_TARGETS} is the most"))),));
            }
            let said: Said<Option<(String, Outcome)>> = match ask(&mut store, Call::WaitAny { among, timeout }).await? {
                Answer::Ended(ended) => (Ok(ended),),
                Answer::Error(fault) => (Err(fault),),
                answer => strange(&answer)?,
            };
            Ok(said)
        })
    })?;
    offered.func_wrap_async(
        "roll-back",
        |mut store: Store<'_>, (target, reason, timeout): (String, String, Option<u64>)| {
            Box::new(async move {
                if let Some(fault) = too_long(&[&target, &reason]) {
                    return Ok((Err(fault),));
                }
                let said: Said<Outcome> = match ask(&mut store, Call::RollBack { target, reason, timeout }).await? {
                    Answer::Ended(Some((_, outcome))) => (Ok(outcome),),
                    Answer::Error(fault) => (Err(fault),),
                    answer => strange(&answer)?,
                };
                Ok(said)
            })
        },
    )?;
    offered.func_wrap_async("skip", |mut store: Store<'_>, (target, reason): (String, String)| {
        Box::new(async move {
            let said: Said<()> = match too_long(&[&target, &reason]) {
                Some(fault) => (Err(fault),),
                None => (done(&mut store, Call::Skip { target, reason }).await?,),
            };
            Ok(said)
        })
    })?;
    offered.func_wrap_async("sleep", |mut store: Store<'_>, (duration,): (u64,)| {
        Box::new(async move {
            let said: Said<()> = (done(&mut store, Call::Sleep { duration }).await?,);
            Ok(said)
        })
    })?;
    offered.func_wrap("now", |store: Store<'_>, (): ()| Ok((store.data().now,)))?;
    offered.func_wrap_async("checkpoint", |mut store: Store<'_>, (state,): (Vec<u8>,)| {
        Box::new(async move {
            let said: Said<()> = match state.len() {
                0..=MAX_STATE => (done(&mut store, Call::Checkpoint { state: hex::encode(state) }).await?,),
                bytes => (Err(CallError::Refused(format!("a state of {bytes} bytes: {MAX_STATE} is the most"))),),
            };
            Ok(said)
        })
    })?;
    Ok(())
}

async fn party(
    store: &mut StoreContextMut<'_, Instance>,
    path: String,
    call: Call,
) -> wasmtime::Result<(Result<Party, CallError>,)> {
    if let Some(fault) = too_long(&[&path]) {
        return Ok((Err(fault),));
    }
    match ask(store, call).await? {
        Answer::Party(party) => Ok((Ok(party),)),
        Answer::Error(fault) => Ok((Err(fault),)),
        answer => strange(&answer),
    }
}
