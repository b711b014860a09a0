//! `lockkeeper lock`: take a slot, and hold it while a command runs.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::context::Opener;
use super::exit::{ErrorKind, Exit, Failure};
use super::holders::plain;
use super::output::{Output, moment};
use super::signals::Signals;
use super::under::{Bond, Running};
use super::{Global, LockArgs, context};
use crate::recipe::{
    AcquireError, Acquired, Acquisition, Forced, ForcedRecords, Holder, Identifier, Lease, Loss, Patience,
    ReleaseError, Semaphore,
};
use crate::rollout::group;
use crate::store::{Clock, Lifetime, SessionState, Store};

/// How long after a session that could not be opened the next is tried.
const BETWEEN_SESSIONS: Duration = Duration::from_millis(500);

/// How long somebody waits before it is said for whom.
const BEFORE_SAYING: Duration = Duration::from_secs(1);

/// How many holders are named.
const MOST_NAMED: usize = 3;

pub(super) async fn run(global: &Global, output: &Output, args: LockArgs) -> Result<Exit, Failure> {
    let identifier = context::identifier(args.identifier.clone())?;
    let mut signals = Signals::new()?;
    let mut ground = match signals.or(Ground::new(global.store(output, None)?, &args)).await {
        Ok(opened) => opened?,
        Err(wish) => return Ok(wish.exit()),
    };
    let outcome = locked(output, &args, &identifier, &mut ground, &mut signals).await;
    // Whatever was given up half-way is gone before the session is; whoever does not want to wait for that says so again.
    let tidied = async {
        ground.semaphore.settled().await;
        ground.store.close().await
    };
    let closed = match signals.or(tidied).await {
        Ok(closed) => closed,
        Err(wish) => return Ok(wish.exit()),
    };
    let exit = outcome?;
    closed?;
    Ok(exit)
}

/// The session, and the semaphore on it.
struct Ground {
    opener: Opener,
    store: Arc<dyn Store>,
    semaphore: Semaphore,
}

impl Ground {
    async fn new(opener: Opener, args: &LockArgs) -> Result<Self, Failure> {
        let store = opener.session().await?;
        let semaphore = Semaphore::new(Arc::clone(&store), args.path.clone(), args.max_concurrency);
        Ok(Self { opener, store, semaphore })
    }

    /// Another session in place of one that is over. A store that cannot be reached is tried until the deadline.
    async fn renew(&mut self, args: &LockArgs, deadline: Option<Instant>) -> Result<(), Failure> {
        loop {
            match Self::new(self.opener.clone(), args).await {
                Ok(ground) => {
                    *self = ground;
                    return Ok(());
                }
                Err(failure) if failure.kind == ErrorKind::Unavailable => {
                    let next = Instant::now() + BETWEEN_SESSIONS;
                    if deadline.is_some_and(|deadline| deadline <= next) {
                        return Err(failure);
                    }
                    tokio::time::sleep_until(next).await;
                }
                Err(failure) => return Err(failure),
            }
        }
    }
}

async fn locked(
    output: &Output,
    args: &LockArgs,
    identifier: &Identifier,
    ground: &mut Ground,
    signals: &mut Signals,
) -> Result<Exit, Failure> {
    let lifetime = if args.ephemeral_lease { Lifetime::Ephemeral } else { Lifetime::Persistent };
    let (lease, how) = match &args.reason {
        Some(reason) if args.force => {
            let Ground { store, semaphore, .. } = &*ground;
            (force(semaphore, store, identifier, lifetime, reason, output).await?, Acquisition::Fresh)
        }
        _ => match signals.or(acquire(output, args, identifier, lifetime, ground)).await {
            Ok(acquired) => {
                let Acquired { lease, how } = acquired?;
                (lease, how)
            }
            Err(wish) => return Ok(wish.exit()),
        },
    };
    let again = how == Acquisition::Reentered;
    let verb = if again { "Held" } else { "Leased" };
    let note = match (again, args.command.is_empty()) {
        (true, true) => " already",
        (true, false) => " already; it is given back when the command ends",
        _ => "",
    };
    output.talk(verb, &format!("`{}` as {identifier}{note}, fence {}", args.path, lease.fence()));
    match args.command.is_empty() {
        true => {
            keep(output, args, &lease, again);
            Ok(Exit::Done)
        }
        false => hold(output, args, ground, lease, signals).await,
    }
}

/// Waits for a slot, over the ends of sessions: who waits has lost a place in the queue with one, and nothing else.
async fn acquire(
    output: &Output,
    args: &LockArgs,
    identifier: &Identifier,
    lifetime: Lifetime,
    ground: &mut Ground,
) -> Result<Acquired, Failure> {
    let (patience, deadline) = match args.timeout.map(|timeout| (timeout, Instant::now() + timeout)) {
        None => (Patience::Forever, None),
        Some((timeout, deadline)) if timeout.is_zero() => (Patience::Once, Some(deadline)),
        Some((_, deadline)) => (Patience::Until(deadline), Some(deadline)),
    };
    loop {
        let acquired = tokio::select! {
            biased;
            acquired = ground.semaphore.acquire(identifier, lifetime, patience) => acquired,
            never = say_who_holds(output, &ground.semaphore) => match never {},
        };
        match acquired {
            Err(AcquireError::SessionOver { .. }) if patience != Patience::Once => {
                output.warn("the session with the store ended while waiting: queueing anew in the next");
                ground.renew(args, deadline).await?;
            }
            acquired => return Ok(acquired?),
        }
    }
}

/// Says what is waited for, once it takes a while. Never ends by itself.
async fn say_who_holds(output: &Output, semaphore: &Semaphore) -> Infallible {
    tokio::time::sleep(BEFORE_SAYING).await;
    // Whoever cannot be looked at is waited for all the same.
    if let Ok((state, _)) = semaphore.observe().await {
        let now = Clock::System.now_ms();
        let holder = |holder: &Holder| format!("{} since {}", plain(&holder.identifier), moment(holder.since_ms, now));
        let mut holders: Vec<String> = state.holders.iter().take(MOST_NAMED).map(holder).collect();
        if state.holders.len() > MOST_NAMED {
            holders.push(format!("{} more", state.holders.len() - MOST_NAMED));
        }
        let held = if holders.is_empty() { String::new() } else { format!(": held by {}", holders.join(", ")) };
        output.talk("Waiting", &format!("for a slot of `{}`, {} in the queue{held}", semaphore.path(), state.queued));
    }
    std::future::pending().await
}

async fn force(
    semaphore: &Semaphore,
    store: &Arc<dyn Store>,
    identifier: &Identifier,
    lifetime: Lifetime,
    reason: &str,
    output: &Output,
) -> Result<Lease, Failure> {
    let lease = semaphore.force(identifier, lifetime, &[]).await?;
    let record = Forced {
        lease: lease.path().to_string(),
        by: context::person(),
        reason: reason.to_owned(),
        at: store.clock().now_ms(),
    };
    ForcedRecords::new(Arc::clone(store)).keep(lease.path(), &record).await?;
    output.warn(&format!("`{}` is forced by {}: {reason}", semaphore.path(), record.by));
    Ok(lease)
}

/// Without a command the lease stays.
fn keep(output: &Output, args: &LockArgs, lease: &Lease, again: bool) {
    match output.is_json() {
        true => output.json(&json!({
            "path": args.path,
            "identifier": lease.identifier().as_str(),
            "fence": lease.fence(),
            "already-held": again,
            "forced": args.force,
        })),
        false => output.data(&lease.fence().to_string()),
    }
}

async fn hold(
    output: &Output,
    args: &LockArgs,
    ground: &mut Ground,
    lease: Lease,
    signals: &mut Signals,
) -> Result<Exit, Failure> {
    let environment = [
        ("LOCKKEEPER_FENCE", lease.fence().to_string()),
        ("LOCKKEEPER_SEMAPHORE", args.path.to_string()),
        ("LOCKKEEPER_IDENTIFIER", lease.identifier().to_string()),
    ];
    // Nothing new starts while the store is not heard; a lease that is lost meanwhile ends the wait.
    let _ = ground.store.session().wait_for(|state| *state != SessionState::Suspended).await;
    let bond = if args.ephemeral_lease { Bond::Tied(output.format()) } else { Bond::Loose };
    let outcome = match Running::start(&args.command, &environment, bond) {
        Ok(mut running) => watch(args, &lease, &mut running, signals).await,
        Err(failure) => Err(failure),
    };
    let node = lease.path().clone();
    let identifier = lease.identifier().clone();
    let released = match lease.release().await {
        // It outlived its session: the next one gives it back.
        Err(ReleaseError::SessionOver { .. }) => match signals.or(ground.renew(args, None)).await {
            Ok(Ok(())) => ground.semaphore.unlock(&identifier).await.map(drop).map_err(Failure::from),
            Ok(Err(failure)) => Err(failure),
            Err(wish) => return Ok(wish.exit()),
        },
        released => released.map(drop).map_err(Failure::from),
    };
    let exit = outcome?;
    released?;
    if args.force {
        ForcedRecords::new(Arc::clone(&ground.store)).forget(&node).await?;
    }
    output.talk("Released", &format!("`{}`", args.path));
    Ok(exit)
}

/// Waits for the command's end. It is stopped when its lease is lost, and gets the signals that we get.
async fn watch(args: &LockArgs, lease: &Lease, running: &mut Running, signals: &mut Signals) -> Result<Exit, Failure> {
    let mut watching = true;
    loop {
        tokio::select! {
            exit = running.wait() => return exit,
            loss = lease.lost(), if watching => {
                watching = false;
                let reason = match (loss, lease.lifetime()) {
                    (Loss::Deleted, _) => "somebody broke or unlocked it",
                    (Loss::SessionOver, Lifetime::Ephemeral) => "the session with the store ended",
                    // It outlives its session.
                    (Loss::SessionOver, Lifetime::Persistent) => continue,
                };
                // Who broke it has not waited for the command; who gets it after the session may not have to.
                let others_from = lease.safe_until(loss);
                let patient = Instant::now() + args.kill_after;
                let by = others_from.checked_sub(group::KILL_LEAD).unwrap_or(others_from);
                running.stop(if loss == Loss::SessionOver { patient.min(by) } else { patient }).await;
                let overran = Instant::now().saturating_duration_since(others_from);
                let overran = match u64::try_from(overran.as_millis()) {
                    Ok(0) => String::new(),
                    overran => format!(
                        ", {} after somebody else may have had the slot",
                        humantime::format_duration(Duration::from_millis(overran.unwrap_or(u64::MAX)))
                    ),
                };
                let message =
                    format!("the lease of `{}` was lost: {reason}; the command was stopped{overran}", args.path);
                return Err(Failure::message(ErrorKind::LeaseLost, message)
                    .hint("what it did until then is done: look before you run it again"));
            }
            wish = signals.next() => running.pass(wish),
        }
    }
}
