//! The host's side of `coordination`: each function a call, handed on and waited for.

use std::time::Instant;

use tokio::sync::{mpsc, oneshot};
use wasmtime::StoreContextMut;
use wasmtime::component::{
    ComponentNamedList, ComponentType, Lift, Linker, LinkerInstance, Lower, Resource, ResourceType,
};

use super::Call;
use super::call::{Answer, CallError};
use crate::policy::Engine;
use crate::policy::evaluate::{Guest, TraceLine};
use crate::policy::ticker::Computing;
use crate::policy::types::{Party, Target};

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

type Store<'a> = StoreContextMut<'a, Instance>;
type Offered<'a> = LinkerInstance<'a, Instance>;

/// Adds the interface `coordination` to a linker.
///
/// By hand: the traits that `bindgen!` makes of a WIT file pass an asynchronous import its data, and not the store that
/// [`ask`] refuels after each answer. wasmtime passes that on only with its feature `component-model-async`, which is
/// off here.
pub(super) fn add_to_linker(linker: &mut Linker<Instance>) -> wasmtime::Result<()> {
    let mut offered = linker.instance(COORDINATION)?;
    add_lease(&mut offered)?;
    add_semaphores_and_parties(&mut offered)?;
    add_targets(&mut offered)?;
    offered.func_wrap("now", |store: Store<'_>, (): ()| Ok((store.data().now,)))?;
    add(&mut offered, "sleep", |(duration,): (u64,)| Ok(Call::Sleep { duration }), done)?;
    let checkpoint = |(state,): (Vec<u8>,)| match state.len() {
        0..=MAX_STATE => Ok(Call::Checkpoint { state: hex::encode(state) }),
        bytes => Err(CallError::Refused(format!("a state of {bytes} bytes: {MAX_STATE} is the most"))),
    };
    add(&mut offered, "checkpoint", checkpoint, done)
}

/// The resource `held-lease`. Its handle is an index of the leases that the guest was handed.
fn add_lease(offered: &mut Offered<'_>) -> wasmtime::Result<()> {
    offered.resource_async("held-lease", ResourceType::host::<HeldLease>(), |mut store, handle| {
        Box::new(async move {
            let path = store.data().lease(handle)?.0.clone();
            // A guest that drops a lease cannot be answered; the run's end releases what is left.
            match ask(&mut store, Call::Release { path }).await? {
                Answer::Done | Answer::Error(_) => Ok(()),
                answer => unexpected(&answer),
            }
        })
    })?;
    offered.func_wrap("[method]held-lease.path", |store: Store<'_>, (lease,): (Resource<HeldLease>,)| {
        Ok((store.data().lease(lease.rep())?.0.clone(),))
    })?;
    offered.func_wrap("[method]held-lease.fence", |store: Store<'_>, (lease,): (Resource<HeldLease>,)| {
        Ok((store.data().lease(lease.rep())?.1,))
    })?;
    let name = "[method]held-lease.still-held";
    offered.func_wrap_async(name, |mut store: Store<'_>, (lease,): (Resource<HeldLease>,)| {
        Box::new(async move {
            let path = store.data().lease(lease.rep())?.0.clone();
            let result: Result<bool, CallError> = match ask(&mut store, Call::StillHeld { path }).await? {
                Answer::Flag(held) => Ok(held),
                Answer::Error(error) => Err(error),
                answer => unexpected(&answer)?,
            };
            Ok((result,))
        })
    })
}

fn add_semaphores_and_parties(offered: &mut Offered<'_>) -> wasmtime::Result<()> {
    type PathTimeout = (String, Option<u64>);
    let lock = |(path, timeout): PathTimeout| short(&[&path]).map(|()| Call::Lock { path, timeout });
    add(offered, "lock", lock, |instance, call, answer| {
        Ok(lease_of(instance, call, &answer)?.ok_or(CallError::TimedOut))
    })?;
    let try_lock = |(path,): (String,)| short(&[&path]).map(|()| Call::TryLock { path });
    add(offered, "try-lock", try_lock, |instance, call, answer| Ok(Ok(lease_of(instance, call, &answer)?)))?;
    let force = |(path, breaking, reason): (String, Vec<u64>, String)| {
        short(&[&path, &reason]).map(|()| Call::Force { path, breaking, reason })
    };
    add(offered, "force", force, |instance, call, answer| {
        let lease = lease_of(instance, call, &answer)?;
        Ok(lease.ok_or_else(|| CallError::Conflict("no lease was made".to_owned())))
    })?;
    add(
        offered,
        "recovered-leases",
        |(): ()| Ok(Call::RecoveredLeases),
        |instance, _, answer| match answer {
            Answer::Leases(leases) => {
                let handles = leases.into_iter().map(|(path, fence)| instance.hand_over(path, fence));
                Ok(Ok(handles.collect::<wasmtime::Result<Vec<_>>>()?))
            }
            answer => unexpected(&answer),
        },
    )?;
    let holders = |(path,): (String,)| short(&[&path]).map(|()| Call::Holders { path });
    add(offered, "holders", holders, |_, _, answer| match answer {
        Answer::Semaphore(semaphore) => Ok(Ok(semaphore)),
        answer => unexpected(&answer),
    })?;
    let members = |(path,): (String,)| short(&[&path]).map(|()| Call::Members { path });
    add(offered, "members", members, party)?;
    let wait_members = |(path, at_least, timeout): (String, u32, Option<u64>)| {
        short(&[&path]).map(|()| Call::WaitMembers { path, at_least, timeout })
    };
    add(offered, "wait-members", wait_members, party)
}

fn add_targets(offered: &mut Offered<'_>) -> wasmtime::Result<()> {
    type TargetTimeout = (String, Option<u64>);
    offered.func_wrap("targets", |store: Store<'_>, (): ()| Ok((store.data().targets.clone(),)))?;
    let status_of = |(target,): (String,)| short(&[&target]).map(|()| Call::StatusOf { target });
    add(offered, "status-of", status_of, |_, _, answer| match answer {
        Answer::Status(status) => Ok(Ok(status)),
        answer => unexpected(&answer),
    })?;
    let admit = |(target,): (String,)| short(&[&target]).map(|()| Call::Admit { target });
    add(offered, "admit", admit, |_, _, answer| match answer {
        Answer::Advice(advice) => Ok(Ok(advice)),
        answer => unexpected(&answer),
    })?;
    let start = |(target, timeout): TargetTimeout| short(&[&target]).map(|()| Call::Start { target, timeout });
    add(offered, "start", start, done)?;
    let wait_any = |(among, timeout): (Vec<String>, Option<u64>)| match among.len() {
        0..=MAX_TARGETS => Ok(Call::WaitAny { among, timeout }),
        many => Err(CallError::Refused(format!("{many} targets in a call: {MAX_TARGETS} is the most"))),
    };
    add(offered, "wait-any", wait_any, |_, _, answer| match answer {
        Answer::Ended(ended) => Ok(Ok(ended)),
        answer => unexpected(&answer),
    })?;
    let roll_back = |(target, reason, timeout): (String, String, Option<u64>)| {
        short(&[&target, &reason]).map(|()| Call::RollBack { target, reason, timeout })
    };
    add(offered, "roll-back", roll_back, |_, _, answer| match answer {
        Answer::Ended(Some((_, outcome))) => Ok(Ok(outcome)),
        answer => unexpected(&answer),
    })?;
    let skip = |(target, reason): (String, String)| short(&[&target, &reason]).map(|()| Call::Skip { target, reason });
    add(offered, "skip", skip, done)
}

/// Adds one function: `make` makes a call of the guest's arguments or refuses them, `read` takes what the call is answered,
/// errors apart.
fn add<P, T>(
    offered: &mut Offered<'_>,
    name: &str,
    make: fn(P) -> Result<Call, CallError>,
    read: fn(&mut Instance, &Call, Answer) -> wasmtime::Result<Result<T, CallError>>,
) -> wasmtime::Result<()>
where
    P: ComponentNamedList + Lift + Send + 'static,
    T: ComponentType + Lower + Send + 'static,
{
    offered.func_wrap_async(name, move |mut store: Store<'_>, arguments: P| {
        Box::new(async move {
            let call = match make(arguments) {
                Ok(call) => call,
                Err(refused) => return Ok((Err(refused),)),
            };
            let result = match ask(&mut store, call.clone()).await? {
                Answer::Error(error) => Err(error),
                answer => read(store.data_mut(), &call, answer)?,
            };
            Ok((result,))
        })
    })
}

/// Refuses texts that are longer than the journal and the run state are to hold.
fn short(texts: &[&str]) -> Result<(), CallError> {
    let longest = texts.iter().map(|text| text.len()).max().unwrap_or_default();
    match longest {
        0..=MAX_TEXT => Ok(()),
        _ => Err(CallError::Refused(format!("a text of {longest} bytes: {MAX_TEXT} is the most"))),
    }
}

fn done(_: &mut Instance, _: &Call, answer: Answer) -> wasmtime::Result<Result<(), CallError>> {
    match answer {
        Answer::Done => Ok(Ok(())),
        answer => unexpected(&answer),
    }
}

fn party(_: &mut Instance, _: &Call, answer: Answer) -> wasmtime::Result<Result<Party, CallError>> {
    match answer {
        Answer::Party(party) => Ok(Ok(party)),
        answer => unexpected(&answer),
    }
}

/// The lease that a call acquired. `None` if no slot was free.
fn lease_of(instance: &mut Instance, call: &Call, answer: &Answer) -> wasmtime::Result<Option<Resource<HeldLease>>> {
    match (call, answer) {
        (Call::Lock { path, .. } | Call::TryLock { path } | Call::Force { path, .. }, Answer::Held(fence)) => {
            Ok(Some(instance.hand_over(path.clone(), *fence)?))
        }
        (_, Answer::NotFree) => Ok(None),
        (_, answer) => unexpected(answer),
    }
}

/// An answer of another kind than the call has: the recorded answers are not of this orchestration, or the engine is wrong.
fn unexpected<T>(answer: &Answer) -> wasmtime::Result<T> {
    Err(wasmtime::Error::msg(format!("this is no answer to that call: {answer:?}")))
}
