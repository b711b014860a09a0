//! `lockkeeper guard`: run a command on the host that is acted on, unless its fence is superseded; or report how an
//! attempt went.

use std::env;
use std::time::Duration;

use jiff::Timestamp;
use nix::sys::signal::{Signal, killpg};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::args::GuardArgs;
use super::caller;
use super::exit::{ErrorKind, Exit, Failure};
use super::invocation::quoted;
use super::lock::STORE_ID;
use super::output::{self, Output, shown};
use super::signals::{Received, Signals};
use super::supervisor::{Bond, Running, signal_name};
use crate::fence::{
    AcceptedAttempt, Answer, AttemptId, CommandLock, Ended, FenceFile, FenceFileError, Hold, Liveness, Locked,
    OtherStore, Outcome, Process, Stale, Verdict,
};
use lockkeeper_coordination::recipe::StoreId;

/// How often it is looked whether an earlier command has ended.
const LOOK: Duration = Duration::from_millis(50);

/// How long after SIGKILL an earlier command is waited for: what cannot be killed hangs in the kernel.
const AFTER_KILL: Duration = Duration::from_secs(5);

pub(super) async fn run(output: &Output, args: GuardArgs) -> Result<Exit, Failure> {
    let file = FenceFile::new(&args.fence_file)?;
    let args = GuardArgs { store_id: args.store_id.clone().or_else(named_by_environment), ..args };
    if args.reset {
        return reset(output, &file, &args).await;
    }
    match (args.outcome, args.fence, args.attempt) {
        (Some(attempt), fence, _) => tell(output, &file, &args, attempt, fence).await,
        (None, Some(fence), Some(attempt)) => act(output, &file, &args, AttemptId { fence, attempt }).await,
        _ => Err(Failure::message(ErrorKind::BadArgument, "missing `--fence` or `--attempt`")),
    }
}

/// The store that the environment names, as `lock PATH -- lockkeeper guard …` and runs set it.
fn named_by_environment() -> Option<StoreId> {
    env::var(STORE_ID).ok().as_deref().and_then(StoreId::parse)
}

/// The store that the fence is from, as far as this is known.
fn store(args: &GuardArgs) -> Option<&str> {
    args.store_id.as_ref().map(StoreId::as_str)
}

/// That a fence is from another store than those that were here.
fn other_store(args: &GuardArgs, other: &OtherStore) -> Failure {
    let file = quoted(&args.fence_file.display().to_string());
    let hint = match other {
        OtherStore::Differs { given, .. } => format!(
            "a rebuilt store counts fences from the start: if no runner of the earlier store is left, `lockkeeper \
             guard --fence-file {file} --reset --store-id {given} --reason TEXT` accepts the new store"
        ),
        OtherStore::Unnamed { .. } => {
            "add `--store-id` with the value of LOCKKEEPER_STORE_ID, or `--store-id {store-id}` in a job".to_owned()
        }
    };
    let mut failure = Failure::message(ErrorKind::OtherStore, format!("{other}; no command was run")).hint(hint);
    failure.more = Some(json!({ "store-id": store(args), "known-store-id": other.known() }));
    failure
}

// -------------------------------------------------------------------------------------------------- to count anew

/// Has the fences of another store count from now on.
async fn reset(output: &Output, file: &FenceFile, args: &GuardArgs) -> Result<Exit, Failure> {
    let Some((store, reason)) = store(args).zip(args.reason.as_ref()) else {
        return Err(Failure::message(ErrorKind::BadArgument, "missing `--store-id` or `--reason`")
            .hint("the refused command's error and `lockkeeper holders PATH --format json` show the store's ID"));
    };
    let mut locked = file.lock().await?;
    let mut accepted = locked.accepted().clone();
    if locked.liveness()? == Liveness::Alive {
        let what = described(accepted.running(), file);
        return Err(Failure::message(ErrorKind::StillRunning, format!("{what} is still running; nothing was reset"))
            .hint("repeat the command when it has ended"));
    }
    let before = accepted.store().map(str::to_owned);
    accepted.reset(store, caller::person(), reason.clone(), Timestamp::now());
    locked.write(accepted)?;
    let earlier = before.as_ref().map_or("an unknown store".to_owned(), |before| format!("store `{before}`"));
    let path = args.fence_file.display();
    say(
        output,
        &format!("reset: `{path}` now accepts the fences of store `{store}`; before, those of {earlier}"),
        &json!({ "reset": true, "store-id": store, "earlier-store-id": before }),
    );
    Ok(Exit::Done)
}

// -------------------------------------------------------------------------------------------------- to run a command

async fn act(output: &Output, file: &FenceFile, args: &GuardArgs, attempt_id: AttemptId) -> Result<Exit, Failure> {
    // Before anything is promised: a signal must not keep us from writing down how it ended.
    let mut signals = Signals::for_a_command()?;
    let (hold, attempt) = match Admission::new(output, file, args, attempt_id).wait(&mut signals).await? {
        Admitted::Now(hold, attempt) => (hold, attempt),
        Admitted::Interrupted(signal) => return Ok(signal.exit()),
    };
    output.talk("Accepted", &attempt_id.to_string());
    let mut environment = vec![
        ("LOCKKEEPER_FENCE", attempt_id.fence.to_string()),
        ("LOCKKEEPER_ATTEMPT", attempt_id.attempt.to_string()),
    ];
    environment.extend(store(args).map(|id| (STORE_ID, id.to_owned())));
    let bond = Bond::Locked(output.format(), file.command_lock());
    let (outcome, exit) = match Running::start(&args.command, &environment, bond) {
        Ok(mut running) => {
            let exit = loop {
                tokio::select! {
                    exit = running.wait() => break exit?,
                    request = signals.next() => running.pass(request),
                }
            };
            (CommandLock::reported(&file.command_lock()).unwrap_or_else(|| inferred(exit)), Ok(exit))
        }
        Err(failure) => (Outcome::NotRun(failure.text()), Err(failure)),
    };
    if let Err(failure) = finish(file, hold, attempt, outcome).await {
        // The command has its own say all the same; a later `--outcome` does not know.
        output.failure(&failure.hint(
            "the command has ended, but its outcome is not recorded: `--outcome` reports it \
         as unknown",
        ));
    }
    exit
}

/// The outcome of a command without a report: its supervisor was killed and the command with it, or the disk is full.
fn inferred(exit: Exit) -> Outcome {
    match exit {
        Exit::Command(code) if code > 128 => Outcome::Signal(signal_name(i32::from(code) - 128)),
        Exit::Command(code) => Outcome::Exit(code.into()),
        Exit::Done => Outcome::Exit(0),
        _ => Outcome::Exit(1),
    }
}

/// Writes down how an attempt ended, and lets the next one start.
async fn finish(file: &FenceFile, hold: Hold, mut attempt: AcceptedAttempt, outcome: Outcome) -> Result<(), Failure> {
    let mut locked = file.lock().await?;
    attempt.ended = Some(Ended { at: Timestamp::now(), how: outcome });
    let mut accepted = locked.accepted().clone();
    accepted.record(attempt);
    let kept = locked.write(accepted);
    // While the ledger is locked, so that nobody ever sees a command that has ended and still runs.
    drop(hold);
    Ok(kept?)
}

/// An attempt that waits to be accepted.
struct Admission<'a> {
    output: &'a Output,
    file: &'a FenceFile,
    args: &'a GuardArgs,
    attempt_id: AttemptId,
    stopping: Option<Stopping>,
}

/// An earlier attempt that we stop.
struct Stopping {
    attempt_id: AttemptId,
    kill_at: Instant,
    killed: Option<(Instant, Timestamp)>,
}

/// How the wait for an admission ended.
enum Admitted {
    /// The command may start while the hold is kept.
    Now(Hold, AcceptedAttempt),
    /// A signal asked this process to end.
    Interrupted(Received),
}

/// What came of one look.
enum Step {
    Admitted(Hold, AcceptedAttempt),
    Busy(Option<AcceptedAttempt>),
}

impl<'a> Admission<'a> {
    fn new(output: &'a Output, file: &'a FenceFile, args: &'a GuardArgs, attempt_id: AttemptId) -> Self {
        Self { output, file, args, attempt_id, stopping: None }
    }

    /// Waits until nothing earlier runs, as long as that is wanted, or until a signal comes.
    async fn wait(mut self, signals: &mut Signals) -> Result<Admitted, Failure> {
        let deadline = Instant::now() + self.args.wait;
        let mut said = false;
        loop {
            let before = match self.step().await? {
                Step::Admitted(hold, attempt) => return Ok(Admitted::Now(hold, attempt)),
                Step::Busy(before) => before,
            };
            if Instant::now() >= deadline {
                if self.args.stop { self.stop(before.as_ref())? } else { return Err(self.busy(before.as_ref())) }
            } else if !said {
                self.output.talk("Waiting", &format!("until {} ends", described(before.as_ref(), self.file)));
                said = true;
            }
            if let Err(request) = signals.or(sleep(LOOK)).await {
                return Ok(Admitted::Interrupted(request));
            }
        }
    }

    /// Starts if that may be, and is remembered either way.
    async fn step(&self) -> Result<Step, Failure> {
        let mut locked = self.file.lock().await?;
        let hold = locked.hold()?;
        let liveness = if hold.is_some() { Liveness::Free } else { Liveness::Alive };
        let mut accepted = locked.accepted().clone();
        accepted
            .compares_with(store(self.args))
            .map_err(|other| self.with_attempt_id(other_store(self.args, &other)))?;
        accepted.name_store(store(self.args));
        match (accepted.admit(self.attempt_id, liveness), hold) {
            (Verdict::Stale(stale), _) => Err(self.stale(&stale)),
            (Verdict::Start, Some(hold)) => {
                if let Some(Stopping { attempt_id, killed, .. }) = &self.stopping {
                    accepted.stopped(*attempt_id, self.attempt_id, killed.map(|(_, at)| at));
                }
                let attempt = self.attempt();
                accepted.record(attempt.clone());
                locked.write(accepted)?;
                Ok(Step::Admitted(hold, attempt))
            }
            (Verdict::Busy(before), _) => {
                self.note_arrival(&mut locked)?;
                Ok(Step::Busy(before))
            }
            (Verdict::Start, None) => Ok(Step::Busy(None)),
        }
    }

    /// From now on whoever is before us is superseded, though we cannot start yet.
    fn note_arrival(&self, locked: &mut Locked) -> Result<(), FenceFileError> {
        let mut accepted = locked.accepted().clone();
        accepted.name_store(store(self.args));
        accepted.note_arrival(self.attempt_id);
        if accepted == *locked.accepted() { Ok(()) } else { locked.write(accepted) }
    }

    fn attempt(&self) -> AcceptedAttempt {
        let said = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let program = self.args.command.first().map(|program| program.to_string_lossy().into_owned());
        AcceptedAttempt {
            attempt_id: self.attempt_id,
            run: said("LOCKKEEPER_RUN"),
            target: said("LOCKKEEPER_TARGET"),
            program: program.unwrap_or_default(),
            guard: Process::current(),
            started: Timestamp::now(),
            stopped_for: None,
            ended: None,
        }
    }

    /// SIGTERM at first, SIGKILL when that did not help in time, and then an error.
    fn stop(&mut self, before: Option<&AcceptedAttempt>) -> Result<(), Failure> {
        // The holder of the lock is not recorded.
        let Some(before) = before else { return Err(self.busy(None)) };
        let now = Instant::now();
        let signal = match &mut self.stopping {
            Some(stopping) if stopping.attempt_id == before.attempt_id => match stopping.killed {
                Some((at, _)) if now >= at + AFTER_KILL => return Err(self.busy(Some(before))),
                None if now >= stopping.kill_at => {
                    stopping.killed = Some((now, Timestamp::now()));
                    Signal::SIGKILL
                }
                _ => return Ok(()),
            },
            _ => {
                let kill_at = now + self.args.kill_after;
                self.stopping = Some(Stopping { attempt_id: before.attempt_id, kill_at, killed: None });
                Signal::SIGTERM
            }
        };
        self.output.warn(&format!("{signal} to {}", described(Some(before), self.file)));
        // A guard passes it on; where it was killed, the group that it left has to be told itself.
        let sent = match (before.guard.lives(), self.file.group()) {
            (false, Some(group)) => killpg(group, signal),
            _ => before.guard.signal(signal),
        };
        sent.map_err(|error| {
            let what = described(Some(before), self.file);
            Failure::message(ErrorKind::StillRunning, format!("cannot stop {what}: {}", error.desc()))
        })
    }

    fn stale(&self, stale: &Stale) -> Failure {
        let hint = match stale {
            Stale::Started(_) => {
                let AttemptId { fence, attempt } = self.attempt_id;
                format!("`--outcome {attempt} --fence {fence}` reports its outcome")
            }
            Stale::Fence { .. } | Stale::AcceptedAttempt { .. } => {
                "the sender is superseded and must stop; no command was run".to_owned()
            }
        };
        let failure = Failure::message(ErrorKind::Stale, stale.to_string()).hint(hint);
        self.with_attempt_id(failure)
    }

    fn busy(&self, before: Option<&AcceptedAttempt>) -> Failure {
        let message = format!("{} is still running; no command was run", described(before, self.file));
        let hint = match (self.args.stop, before) {
            (false, Some(_)) => "repeat later, wait for its end with `--wait`, or stop it with `--stop`",
            _ => "it does not end: check that process",
        };
        self.with_attempt_id(Failure::message(ErrorKind::StillRunning, message).hint(hint))
    }

    fn with_attempt_id(&self, mut failure: Failure) -> Failure {
        let mut more = json!({ "fence": self.attempt_id.fence, "attempt": self.attempt_id.attempt });
        if let (Some(more), Some(Value::Object(known))) = (more.as_object_mut(), failure.more.take()) {
            more.extend(known);
        }
        failure.more = Some(more);
        failure
    }
}

/// An attempt, with what an operator needs to find its processes.
fn described(attempt: Option<&AcceptedAttempt>, file: &FenceFile) -> String {
    let Some(attempt) = attempt else {
        return format!("a process that holds the locks of `{}`", file.path().display());
    };
    let AcceptedAttempt { attempt_id, guard, program, started, .. } = attempt;
    let since = started.strftime("%Y-%m-%d %H:%M:%SZ");
    let process = match (guard.lives(), file.group()) {
        (false, Some(group)) => format!("process group {group}; its guard was killed"),
        _ => format!("pid {}", guard.pid),
    };
    format!("`{}` of {attempt_id} ({process}, since {since}{})", shown(program), whose(attempt, ", "))
}

/// Which run it was for which target, where that is known.
fn whose(attempt: &AcceptedAttempt, lead: &str) -> String {
    let part = |name, value: &Option<String>| value.as_ref().map(|value| format!("{name} {}", shown(value)));
    let parts: Vec<String> =
        [part("run", &attempt.run), part("target", &attempt.target)].into_iter().flatten().collect();
    if parts.is_empty() { String::new() } else { format!("{lead}{}", parts.join(", ")) }
}

// -------------------------------------------------------------------------------------------------- to say how one went

async fn tell(
    output: &Output,
    file: &FenceFile,
    args: &GuardArgs,
    attempt: u64,
    fence: Option<u64>,
) -> Result<Exit, Failure> {
    let mut locked = if args.settle { file.lock().await? } else { file.read_only().await? };
    let known = locked.accepted().store().map(str::to_owned);
    // A person who asks about the newest fence need not know the store. What is written for good must be about a fence of it.
    if args.settle || args.store_id.is_some() {
        locked.accepted().compares_with(store(args)).map_err(|other| other_store(args, &other))?;
    }
    let Some(fence) = fence.or(locked.accepted().newest_fence()) else {
        let text = format!("not started: attempt {attempt}; `{}` was never used", args.fence_file.display());
        say(output, &text, &object(known.as_deref(), None, attempt, "not-started", None));
        return Ok(Exit::NotStarted);
    };
    let attempt_id = AttemptId { fence, attempt };
    let mut answer = locked.accepted().answer(attempt_id, locked.liveness()?);
    if args.settle && answer == (Answer::NotStarted { may_start: true }) {
        let mut accepted = locked.accepted().clone();
        accepted.name_store(store(args));
        accepted.settle(attempt_id);
        locked.write(accepted)?;
        answer = Answer::NotStarted { may_start: false };
    }
    let (state, exit) = match &answer {
        Answer::Succeeded(_) => ("succeeded", Exit::Done),
        Answer::Failed(_) => ("failed", Exit::Failed),
        Answer::Running(_) => ("running", Exit::TimedOut),
        Answer::NotStarted { .. } => ("not-started", Exit::NotStarted),
        Answer::Unknown(_) => ("unknown", Exit::Unknown),
    };
    let mut object = object(known.as_deref().or(store(args)), Some(fence), attempt, state, record(&answer));
    if let Answer::NotStarted { may_start } = answer {
        object["may-start"] = may_start.into();
    }
    say(output, &sentence(attempt_id, &answer), &object);
    Ok(exit)
}

fn say(output: &Output, text: &str, object: &Value) {
    if output.is_json() { output.json(object) } else { output.data(text) }
}

fn record(answer: &Answer) -> Option<&AcceptedAttempt> {
    match answer {
        Answer::Succeeded(attempt) | Answer::Failed(attempt) | Answer::Running(attempt) => Some(attempt),
        Answer::Unknown(attempt) => attempt.as_ref(),
        Answer::NotStarted { .. } => None,
    }
}

fn sentence(attempt_id: AttemptId, answer: &Answer) -> String {
    let now = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or_default();
    let when = |at: Timestamp| output::moment(u64::try_from(at.as_millisecond()).unwrap_or_default(), now);
    let whose = record(answer).map_or_else(String::new, |attempt| whose(attempt, "; "));
    match answer {
        Answer::Succeeded(attempt) | Answer::Failed(attempt) => {
            let Some(Ended { at, how }) = &attempt.ended else { return format!("ended: {attempt_id}") };
            let verb = if how.is_success() { "succeeded" } else { "failed" };
            let took = at.duration_since(attempt.started).as_millis();
            let took = output::span(u64::try_from(took).unwrap_or_default());
            let by = attempt.stopped_for.map_or_else(String::new, |by| format!("; stopped for {by}"));
            let program = shown(&attempt.program);
            format!("{verb}: {attempt_id}: `{program}` {how} after {took}, {}{by}{whose}", when(*at))
        }
        Answer::Running(attempt) => {
            let program = shown(&attempt.program);
            format!(
                "running: {attempt_id}: `{program}`, pid {}, since {}{whose}",
                attempt.guard.pid,
                when(attempt.started)
            )
        }
        Answer::NotStarted { may_start: true } => format!("not started: {attempt_id}; it still may"),
        Answer::NotStarted { may_start: false } => format!("not started: {attempt_id}; it never will"),
        Answer::Unknown(Some(attempt)) => {
            let started = when(attempt.started);
            let program = shown(&attempt.program);
            format!(
                "unknown: {attempt_id}: `{program}` was accepted {started} and died with its guard or the host{whose}"
            )
        }
        Answer::Unknown(None) => format!("unknown: {attempt_id}: too old, no longer recorded"),
    }
}

/// An answer for programs; every key is always there.
fn object(
    store: Option<&str>,
    fence: Option<u64>,
    attempt: u64,
    state: &str,
    record: Option<&AcceptedAttempt>,
) -> Value {
    let ended = record.and_then(|record| record.ended.as_ref());
    let how = ended.map(|ended| &ended.how);
    let (exit, signal, not_run) = match how {
        Some(Outcome::Exit(code)) => (Some(*code), None, None),
        Some(Outcome::Signal(name)) => (None, Some(name), None),
        Some(Outcome::NotRun(why)) => (None, None, Some(why)),
        None => (None, None, None),
    };
    json!({
        "store-id": store,
        "fence": fence,
        "attempt": attempt,
        "state": state,
        "exit": exit,
        "signal": signal,
        "not-run": not_run,
        "started": record.map(|record| record.started),
        "ended": ended.map(|ended| ended.at),
        "run": record.and_then(|record| record.run.as_ref()),
        "target": record.and_then(|record| record.target.as_ref()),
        "pid": record.map(|record| record.guard.pid),
        "stopped-for": record.and_then(|record| record.stopped_for),
        "may-start": state == "not-started",
    })
}

impl From<FenceFileError> for Failure {
    fn from(error: FenceFileError) -> Self {
        let hint = match &error {
            FenceFileError::NoFolder(_) => {
                Some("create it once, on a disk that survives a reboot; if it existed, check that the disk is mounted")
            }
            FenceFileError::Shape { .. } | FenceFileError::Incoherent { .. } => {
                Some("move it away only if no earlier attempt can still arrive: without the file, every fence is new")
            }
            FenceFileError::Locked(_) => Some(
                "it is locked for one write to the disk only: check whether that \
             process is stopped",
            ),
            FenceFileError::NoFile { .. } | FenceFileError::Io { .. } => None,
        };
        let kind = match &error {
            FenceFileError::Locked(_) => ErrorKind::TimedOut,
            _ => ErrorKind::FenceFile,
        };
        Self { hint: hint.map(str::to_owned), ..Self::new(kind, error) }
    }
}
