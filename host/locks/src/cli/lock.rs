//! `lockkeeper lock`: take a slot, and hold it while a command runs.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;
use tokio::time::{Instant, timeout, timeout_at};

use super::args::{Global, LockArgs};
use super::caller;
use super::exit::{ErrorKind, Exit, Failure};
use super::holders::Held;
use super::output::{Output, moment};
use super::signals::Signals;
use super::store::{Purpose, StoreChoice};
use super::supervisor::{Bond, Running};
use crate::process::process_group;
use crate::terminal;
use lockkeeper_coordination::recipe::{
    AcquireError, Acquired, Acquisition, Claims, Force, ForceError, Forced, Holder, Identifier, IfHeld, Lease, Loss,
    Owner, Ownership, Patience, ReleaseError, Released, Request, Semaphore, StoreId, broken_lease,
};
use lockkeeper_coordination::store::{Clock, Fence, Lifetime, NodePath, Op, Reply, SessionState, Store, StoreError};

/// The variable in which a command gets the id of the store that its fence is from.
pub(super) const STORE_ID: &str = "LOCKKEEPER_STORE_ID";

/// How long after a session that could not be opened the next is tried.
const BETWEEN_SESSIONS: Duration = Duration::from_millis(500);

/// How long a caller waits before it says for whom.
const BEFORE_SAYING: Duration = Duration::from_secs(1);

/// How many holders are named.
const MOST_NAMED: usize = 3;

/// How long `--timeout 0` waits for a server: it means that a slot is free now, not that a server answers within no time.
const CONNECTING_ONCE: Duration = Duration::from_secs(3);

/// How long a lost lease's record is waited for, before the command is stopped.
const LOOK_WHO_BROKE: Duration = Duration::from_millis(200);

/// How long a caller with a `--timeout` that got no lease tidies up behind itself. Its entry in the queue is ephemeral, and ends
/// with its session at the latest.
const TIDYING: Duration = Duration::from_secs(1);

/// How long the release of a lease may take, sessions that end meanwhile included.
const RELEASING: Duration = Duration::from_secs(30);

pub(super) async fn run(global: &Global, output: &Output, args: LockArgs) -> Result<Exit, Failure> {
    let begun = Instant::now();
    let identifier = caller::identifier(args.identifier.clone())?;
    let mut signals = Signals::for_a_command()?;
    let connecting = args.timeout.map(|timeout| if timeout.is_zero() { CONNECTING_ONCE } else { timeout });
    let choice = StoreChoice::new(global, output, None, Purpose::Use)?.within(connecting);
    let connecting = connecting.map(|most| begun + most);
    let opening = SemaphoreSession::new(choice.clone(), &args);
    let mut session = match signals.or(within(connecting, begun, &choice, opening)).await {
        Ok(opened) => opened?,
        Err(request) => return Ok(request.exit()),
    };
    let outcome = locked(output, &args, &identifier, &mut session, &mut signals, begun).await;
    // Whatever was given up half-way is gone before the session is, unless another signal asks not to wait for that.
    let tidied = async {
        session.semaphore.settled().await;
        session.store.close().await
    };
    let most = if outcome.is_err() && args.timeout.is_some() { TIDYING } else { RELEASING };
    let closed = match signals.or(timeout(most, tidied)).await {
        Ok(Ok(closed)) => closed.map_err(Failure::from),
        Ok(Err(_)) => Err(choice.no_answer(most)),
        Err(request) => return Ok(request.exit()),
    };
    let exit = outcome?;
    closed?;
    Ok(exit)
}

/// What `work` comes to by the deadline; then the store has not answered.
async fn within<T>(
    deadline: Option<Instant>,
    begun: Instant,
    choice: &StoreChoice,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let Some(deadline) = deadline else { return work.await };
    let overdue = |_| Err(choice.no_answer(deadline.saturating_duration_since(begun)));
    timeout_at(deadline, work).await.unwrap_or_else(overdue)
}

/// A session with the chosen store, and the semaphore on it.
struct SemaphoreSession {
    choice: StoreChoice,
    store: Arc<dyn Store>,
    semaphore: Semaphore,
    /// The id of the store for the command, asked for beside everything else. `None` without a command, or once it was taken.
    store_id: Option<Reply<Option<StoreId>>>,
}

impl SemaphoreSession {
    async fn new(choice: StoreChoice, args: &LockArgs) -> Result<Self, Failure> {
        let store = choice.session().await?;
        let semaphore = Semaphore::new(Arc::clone(&store), args.path.clone(), args.max_concurrency);
        let store_id = (!args.command.is_empty()).then(|| StoreId::look(store.as_ref()));
        Ok(Self { choice, store, semaphore, store_id })
    }

    /// Another session in place of one that is over. A store that cannot be reached is tried until the deadline.
    async fn renew(&mut self, args: &LockArgs, deadline: Option<Instant>) -> Result<(), Failure> {
        loop {
            match Self::new(self.choice.clone(), args).await {
                Ok(renewed) => {
                    *self = renewed;
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

    /// The id of the store, which is written if there is none.
    async fn store_id(&mut self) -> Result<Option<StoreId>, StoreError> {
        let asked = match self.store_id.take() {
            Some(asked) => asked.await?,
            None => None,
        };
        match asked {
            Some(id) => Ok(Some(id)),
            None => StoreId::of(self.store.as_ref()).await,
        }
    }

    fn claims(&self) -> Claims {
        Claims::new(Arc::clone(&self.store), self.semaphore.path().clone())
    }
}

/// What the lease is to this caller.
fn ownership(args: &LockArgs) -> Ownership {
    match (args.command.is_empty(), args.persistent, args.one_per_identifier) {
        (true, ..) => Ownership::ByHand(owner(args)),
        (false, true, _) => Ownership::Exclusive(owner(args), IfHeld::WaitWhileItLives),
        (false, false, true) => Ownership::Exclusive(owner(args), IfHeld::Wait),
        (false, false, false) => Ownership::Own,
    }
}

fn owner(args: &LockArgs) -> Owner {
    if args.command.is_empty() { Owner::ByHand { by: caller::person() } } else { Owner::this_process() }
}

fn lifetime(args: &LockArgs) -> Lifetime {
    if args.command.is_empty() || args.persistent { Lifetime::Persistent } else { Lifetime::Ephemeral }
}

async fn locked(
    output: &Output,
    args: &LockArgs,
    identifier: &Identifier,
    session: &mut SemaphoreSession,
    signals: &mut Signals,
    begun: Instant,
) -> Result<Exit, Failure> {
    let (lease, how) = match signals.or(taken(output, args, identifier, session, begun)).await {
        Ok(taken) => taken?,
        Err(request) => return Ok(request.exit()),
    };
    let again = how == Acquisition::Reentered;
    let verb = if again { "Held" } else { "Leased" };
    let note = if again {
        match session.store.stat(lease.path()).await.ok().flatten() {
            Some(stat) => format!(" already, since {}", moment(stat.ctime_ms, Clock::System.now_ms())),
            None => " already".to_owned(),
        }
    } else {
        String::new()
    };
    output.talk(verb, &format!("`{}` as {identifier}{note}, fence {}", args.path, lease.fence()));
    if args.command.is_empty() {
        keep(output, args, session, &lease, again).await;
        Ok(Exit::Done)
    } else {
        hold(output, args, session, lease, signals).await
    }
}

/// The lease: found again, replaced, forced, or waited for.
async fn taken(
    output: &Output,
    args: &LockArgs,
    identifier: &Identifier,
    session: &mut SemaphoreSession,
    begun: Instant,
) -> Result<(Lease, Acquisition), Failure> {
    if args.reenter
        && let Some(lease) = replace(output, args, identifier, session).await?
    {
        return Ok((lease, Acquisition::Fresh));
    }
    if let Some(reason) = args.reason.as_ref().filter(|_| args.force) {
        return force(output, args, identifier, session, reason).await;
    }
    let Acquired { lease, how, .. } = acquire(output, args, identifier, session, begun).await?;
    Ok((lease, how))
}

/// Waits for a slot, over the ends of sessions: a waiting caller loses its place in the queue with one, and nothing else.
async fn acquire(
    output: &Output,
    args: &LockArgs,
    identifier: &Identifier,
    session: &mut SemaphoreSession,
    begun: Instant,
) -> Result<Acquired, Failure> {
    let (patience, deadline) = match args.timeout.map(|timeout| (timeout, begun + timeout)) {
        None => (Patience::Forever, None),
        Some((timeout, deadline)) if timeout.is_zero() => (Patience::Once, Some(deadline)),
        Some((_, deadline)) => (Patience::Until(deadline), Some(deadline)),
    };
    let ownership = ownership(args);
    let alone = |_: &NodePath| -> Vec<Op> { Vec::new() };
    loop {
        let lifetime = lifetime(args);
        let request = Request { identifier, lifetime, patience, ownership: &ownership, along: &alone };
        let acquired = tokio::select! {
            biased;
            acquired = session.semaphore.acquire_as(request) => acquired,
            never = say_who_holds(output, session, identifier, &ownership) => match never {},
        };
        match acquired {
            Err(AcquireError::SessionOver { .. }) if patience != Patience::Once => {
                output.warn("the session with the store ended while waiting: queueing again in the next session");
                session.renew(args, deadline).await?;
            }
            Err(AcquireError::TimedOut { path, .. }) => {
                if let Some(held) = same_identifier(session, identifier, &ownership).await {
                    return Err(held);
                }
                // One deadline for everything, connecting included.
                return Err(AcquireError::TimedOut { path, waited: args.timeout.unwrap_or_default() }.into());
            }
            Err(AcquireError::Held { path, by }) => {
                let since = by.since_ms().map(|since| format!(" since {}", moment(since, Clock::System.now_ms())));
                let left = if by.was_left_behind() { "; its process has ended" } else { "" };
                let message = format!(
                    "`{path}` is held under `{identifier}` by {}{}{left}",
                    terminal::value(&by.to_string()),
                    since.unwrap_or_default()
                );
                let unlock = format!("`lockkeeper unlock {path} --identifier {identifier}` releases it");
                let hint = match (by.was_left_behind() && args.persistent, by.stays_until_unlocked()) {
                    (true, _) => format!("`--reenter` replaces that lease with a new one; {unlock}"),
                    (false, true) => format!("it is held until it is unlocked: {unlock}"),
                    (false, false) => format!("`lockkeeper holders {path}` shows every holder"),
                };
                return Err(Failure::message(ErrorKind::Held, message).hint(hint));
            }
            Ok(Acquired { lease, older: Some(older), .. }) => {
                // A tool that knows no claims was first.
                lease.release().await?;
                if patience == Patience::Once {
                    let since = moment(older.since_ms, Clock::System.now_ms());
                    let message = format!("`{}` is held under `{identifier}` since {since}", args.path);
                    return Err(Failure::message(ErrorKind::Held, message));
                }
            }
            acquired => {
                let acquired = acquired?;
                if let Some(reason) = &acquired.unclaimed {
                    output.warn(&format!(
                        "cannot write a claim ({reason}): the lease is identified by its name only, like Salt's"
                    ));
                }
                return Ok(acquired);
            }
        }
    }
}

/// The failure of a caller that waited in vain for a holder of the same identifier, and not for a slot.
async fn same_identifier(
    session: &SemaphoreSession,
    identifier: &Identifier,
    ownership: &Ownership,
) -> Option<Failure> {
    if !matches!(ownership, Ownership::Exclusive(..)) {
        return None;
    }
    let look = async {
        let holders = session.semaphore.holders().await.ok()?;
        let same = holders.into_iter().filter(|holder| holder.identifier == identifier.as_str()).collect();
        Held::all(&session.claims(), same).await.ok()?.into_iter().next()
    };
    let held = timeout(TIDYING, look).await.ok()??;
    let path = session.semaphore.path();
    let since = moment(held.holder.since_ms, Clock::System.now_ms());
    let message = format!("`{path}` is held under `{identifier}` by {} since {since}", held.who());
    Some(Failure::message(ErrorKind::Held, message).hint(format!("`lockkeeper holders {path}` shows every holder")))
}

/// Says what is waited for, once it takes a while. Never ends by itself.
async fn say_who_holds(
    output: &Output,
    session: &SemaphoreSession,
    identifier: &Identifier,
    ownership: &Ownership,
) -> Infallible {
    tokio::time::sleep(BEFORE_SAYING).await;
    // A semaphore that cannot be looked at is waited for all the same.
    if let Ok((state, _)) = session.semaphore.observe().await
        && let Ok(held) = Held::all(&session.claims(), state.holders).await
    {
        let now = Clock::System.now_ms();
        let told = |held: &Held| format!("{} since {}", held.who(), moment(held.holder.since_ms, now));
        let path = session.semaphore.path();
        let same = held.iter().find(|held| held.holder.identifier == identifier.as_str());
        match (ownership, same) {
            (Ownership::Exclusive(..), Some(same)) => {
                output.talk("Waiting", &format!("for `{path}`: {} has this identifier", told(same)));
            }
            _ => {
                let mut names: Vec<String> = held.iter().take(MOST_NAMED).map(told).collect();
                if held.len() > MOST_NAMED {
                    names.push(format!("{} more", held.len() - MOST_NAMED));
                }
                let names = if names.is_empty() { String::new() } else { format!(": held by {}", names.join(", ")) };
                output.talk("Waiting", &format!("for a slot of `{path}`, {} in the queue{names}", state.queued));
            }
        }
    }
    std::future::pending().await
}

/// The persistent lease of this identifier, if there is one that its owner left behind.
async fn left_behind(session: &SemaphoreSession, identifier: &Identifier) -> Result<Option<Held>, Failure> {
    let holders = session.semaphore.holders().await?;
    let of_ours = |holder: &Holder| !holder.ephemeral && holder.identifier == identifier.as_str();
    let held = Held::all(&session.claims(), holders.into_iter().filter(of_ours).collect()).await?;
    Ok(held.into_iter().next())
}

/// Replaces the lease that outlived its process by a new one; `None` if there is none.
async fn replace(
    output: &Output,
    args: &LockArgs,
    identifier: &Identifier,
    session: &SemaphoreSession,
) -> Result<Option<Lease>, Failure> {
    let Some(held) = left_behind(session, identifier).await? else { return Ok(None) };
    let is_free = match held.owner() {
        Some(owner @ Owner::Process { .. }) => owner.has_certainly_ended(),
        // What a person or another tool took is kept until it is unlocked.
        None | Some(Owner::ByHand { .. } | Owner::Run { .. }) => false,
    };
    if !is_free {
        let message = format!("`{}` is held under `{identifier}` by {}", args.path, held.who());
        return Err(Failure::message(ErrorKind::Held, message).hint(format!(
            "--reenter replaces only a lease whose process and command have ended; `lockkeeper unlock {} --identifier \
             {identifier} --force --reason TEXT` breaks any lease",
            args.path
        )));
    }
    let since = moment(held.holder.since_ms, Clock::System.now_ms());
    output.talk("Replacing", &format!("the lease of {} since {since}", held.who()));
    let (breaking, owner) = ([held.holder.fence], owner(args));
    match session.semaphore.force(forcing(identifier, lifetime(args), &breaking, &owner, None)).await {
        Ok(lease) => Ok(Some(lease)),
        // Another caller was first: it is waited for like any other.
        Err(ForceError::Conflict { .. } | ForceError::Deleted { .. } | ForceError::Held { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn forcing<'a>(
    identifier: &'a Identifier,
    lifetime: Lifetime,
    breaking: &'a [Fence],
    owner: &'a Owner,
    record: Option<&'a Forced>,
) -> Force<'a> {
    Force { identifier, lifetime, breaking, owner, record, along: &|_| Vec::new() }
}

/// Takes a lease whatever the count. Without a command the lease of this identifier is found again first, as Salt does it.
async fn force(
    output: &Output,
    args: &LockArgs,
    identifier: &Identifier,
    session: &SemaphoreSession,
    reason: &str,
) -> Result<(Lease, Acquisition), Failure> {
    if args.command.is_empty()
        && let Some(held) = left_behind(session, identifier).await?
        && matches!(held.owner(), None | Some(Owner::ByHand { .. }))
        && let Some(lease) = session.semaphore.adopt(&held.holder.path, Some(held.holder.fence), identifier).await?
    {
        return Ok((lease, Acquisition::Reentered));
    }
    let record = Forced { by: caller::person(), reason: reason.to_owned(), at: session.store.clock().now_ms() };
    let owner = owner(args);
    let lease = session.semaphore.force(forcing(identifier, lifetime(args), &[], &owner, Some(&record))).await?;
    output.warn(&format!("`{}` is forced by {}: {reason}", args.path, record.by));
    Ok((lease, Acquisition::Fresh))
}

/// Without a command the lease stays.
async fn keep(output: &Output, args: &LockArgs, session: &SemaphoreSession, lease: &Lease, again: bool) {
    if output.is_json() {
        output.json(&json!({
            "path": args.path,
            "identifier": lease.identifier().as_str(),
            "fence": lease.fence(),
            // The lease is had whether the id can be read or not.
            "store-id": StoreId::of(session.store.as_ref()).await.ok().flatten(),
            "already-held": again,
            "forced": args.force && !again,
        }))
    } else {
        output.data(&lease.fence().to_string())
    }
}

async fn hold(
    output: &Output,
    args: &LockArgs,
    session: &mut SemaphoreSession,
    lease: Lease,
    signals: &mut Signals,
) -> Result<Exit, Failure> {
    // Nothing new starts while the store is not connected; a lease that is lost meanwhile ends the wait.
    let _ = session.store.session().wait_for(|state| *state != SessionState::Suspended).await;
    let outcome = match signals.or(session.store_id()).await {
        Ok(Ok(store_id)) => run_command(output, args, session, &lease, store_id, signals).await,
        Ok(Err(error)) => Err(error.into()),
        Err(request) => Ok(request.exit()),
    };
    // What came until now was for the command.
    signals.forget();
    let choice = session.choice.clone();
    let released = match signals.or(timeout(RELEASING, release(args, session, lease))).await {
        Ok(Ok(released)) => released,
        Ok(Err(_)) => Err(choice.no_answer(RELEASING)),
        Err(request) => return Ok(request.exit()),
    };
    let exit = outcome?;
    released.map_err(|failure| still_held(args, failure))?;
    output.talk("Released", &format!("`{}`", args.path));
    Ok(exit)
}

/// Runs the command under its lease, to its end.
async fn run_command(
    output: &Output,
    args: &LockArgs,
    session: &SemaphoreSession,
    lease: &Lease,
    store_id: Option<StoreId>,
    signals: &mut Signals,
) -> Result<Exit, Failure> {
    let mut environment = vec![
        ("LOCKKEEPER_FENCE", lease.fence().to_string()),
        ("LOCKKEEPER_SEMAPHORE", args.path.to_string()),
        ("LOCKKEEPER_IDENTIFIER", lease.identifier().to_string()),
    ];
    // Empty rather than what this process may have inherited of another store.
    environment.push((STORE_ID, store_id.map_or_else(String::new, |id| id.to_string())));
    let bond = if lifetime(args) == Lifetime::Ephemeral { Bond::Tied(output.format()) } else { Bond::Loose };
    let mut running = Running::start(&args.command, &environment, bond)?;
    // The command of a lease that outlives us does, too: until it has ended, no caller may take that lease for abandoned.
    // A forced lease's claim keeps the record of the force.
    if args.persistent
        && !args.force
        && let Err(error) = lease.set_owner(Owner::this_process_with(running.id())).await
    {
        output.warn(&format!("cannot record the command in the claim: {error}"));
    }
    watch(args, lease, &mut running, session, signals).await
}

/// Releases a lease, in the next session if it outlived its own.
async fn release(args: &LockArgs, session: &mut SemaphoreSession, lease: Lease) -> Result<(), Failure> {
    let (node, fence, identifier) = (lease.path().clone(), lease.fence(), lease.identifier().clone());
    match lease.release().await {
        Err(ReleaseError::SessionOver { .. }) => {
            session.renew(args, None).await?;
            match session.semaphore.adopt(&node, Some(fence), &identifier).await? {
                Some(lease) => lease.release().await.map(drop).map_err(Failure::from),
                None => Ok(()),
            }
        }
        Ok(Released::EndsWithSession) => {
            let message = "the session ended before a server answered".to_owned();
            Err(Failure::message(ErrorKind::Unavailable, message))
        }
        released => released.map(drop).map_err(Failure::from),
    }
}

/// What remains of a lease that could not be released, and what to do.
fn still_held(args: &LockArgs, failure: Failure) -> Failure {
    let path = &args.path;
    let what = format!("the command has ended, and the lease of `{path}` was not released: {}", failure.text());
    let hint = match lifetime(args) {
        Lifetime::Ephemeral => "it ends with its session, within the session timeout".to_owned(),
        Lifetime::Persistent => format!("`lockkeeper unlock {path}` releases it once the store can be reached"),
    };
    Failure::message(failure.kind, what).hint(hint)
}

/// Waits for the command's end. It is stopped when its lease is lost, and gets the signals that we get.
async fn watch(
    args: &LockArgs,
    lease: &Lease,
    running: &mut Running,
    session: &SemaphoreSession,
    signals: &mut Signals,
) -> Result<Exit, Failure> {
    let mut watching = true;
    loop {
        tokio::select! {
            exit = running.wait() => return exit,
            loss = lease.lost(), if watching => {
                watching = false;
                let by = timeout(LOOK_WHO_BROKE, broken_lease(session.store.as_ref(), lease.path()));
                let reason = match (loss, lease.lifetime()) {
                    (Loss::Deleted, _) => match by.await {
                        Ok(Some(record)) => format!("{} broke it: \
                         {}", terminal::value(&record.by), terminal::value(&record.reason)),
                        Ok(None) | Err(_) => "it was broken by force, or unlocked by another tool".to_owned(),
                    },
                    (Loss::SessionOver, Lifetime::Ephemeral) => "the session with the store ended".to_owned(),
                    // It outlives its session.
                    (Loss::SessionOver, Lifetime::Persistent) => continue,
                };
                // Who broke it has not waited for the command; who gets it after the session may not have to.
                let others_from = lease.safe_until(loss);
                let patient = Instant::now() + args.kill_after;
                let by = others_from.checked_sub(process_group::KILL_LEAD).unwrap_or(others_from);
                running.stop(if loss == Loss::SessionOver { patient.min(by) } else { patient }).await;
                let overran = Instant::now().saturating_duration_since(others_from);
                let overran = match u64::try_from(overran.as_millis()) {
                    Ok(0) => String::new(),
                    overran => format!(
                        ", {} after another holder may have had the slot",
                        humantime::format_duration(Duration::from_millis(overran.unwrap_or(u64::MAX)))
                    ),
                };
                let message =
                    format!("the lease of `{}` was lost: {reason}; the command was stopped{overran}", args.path);
                return Err(Failure::message(ErrorKind::LeaseLost, message)
                    .hint("check what it did before you run it again"));
            }
            request = signals.next() => {
                // Stopped for longer than its session lived, it may not go on: its lease may be another's.
                let is_too_late = lease.lifetime() == Lifetime::Ephemeral && Instant::now() >= session.store.safe_until();
                if request.signal() != Signal::SIGCONT || !is_too_late {
                    running.pass(request);
                }
            }
        }
    }
}
