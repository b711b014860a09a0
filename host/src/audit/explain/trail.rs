//! Follows a run page by page: the status of each target, and what holds the run.

use std::collections::{HashMap, HashSet};

use crate::audit::history::Page;
use crate::policy::orchestration::{Answer, Call};
use crate::policy::types::{Cause, Ending};
use crate::rollout::journal::{Closing, Header, QuestionKind, RecordedDecision};
use crate::rollout::machine::ORCHESTRATION;
use crate::rollout::model::{Begun, Called, Event, Facts, HELD, Stamped, WaveSpent};
use lockkeeper_coordination::store::Fence;

/// A position in a run's journals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalPosition {
    /// Number of the runner epoch.
    pub runner_epoch: u32,
    /// Number of the line, from 1.
    pub line: usize,
}

/// The policy's answer about a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyAnswer {
    /// Where it is recorded.
    pub position: JournalPosition,
    /// Number of the decision.
    pub sequence: u64,
    /// When it was made, in milliseconds since the Unix epoch.
    pub at: u64,
    /// The verdict, or `fault`.
    pub verdict: String,
    /// The policy's code, or the kind of the fault.
    pub code: String,
    /// The policy's reason, or the fault's message.
    pub reason: String,
    /// Milliseconds after which the policy decides again, at the latest. `None` if it set none.
    pub wake_after: Option<u64>,
}

/// A refusal by a hard limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The target that was refused.
    pub target: String,
    /// The limit's code.
    pub limit: String,
    /// The reason in one sentence.
    pub reason: String,
    /// When it was refused, in milliseconds since the Unix epoch.
    pub at: u64,
    /// The time at which the clock alone may lift the refusal.
    pub until: Option<u64>,
    /// The facts that the limit was checked against.
    pub facts: Option<Box<Facts>>,
}

/// Why no decisions are made until something changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// The policy answered `hold`, in its decision about this target.
    Policy(String),
    /// A hard limit blocks all targets; with its first refusal.
    Limit(Refused),
}

/// How an action ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastEnding {
    /// When it ended, in milliseconds since the Unix epoch.
    pub at: u64,
    /// The outcome of the action.
    pub ending: Ending,
    /// Number of the attempt. `None` if the journal does not have it.
    pub attempt: Option<u32>,
    /// What happened; empty for a success.
    pub detail: String,
    /// Path of the output.
    pub log: Option<String>,
    /// Duration of the action, in milliseconds.
    pub took_ms: u64,
}

/// A target's status as the journals show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrailStatus {
    /// The policy has not decided about it yet.
    NotAsked,
    /// The policy or a limit blocks it, or its slot was released unused.
    Waiting,
    /// It queues for a slot.
    Queueing,
    /// It has a slot and has not started.
    Leased,
    /// Its action is running.
    Running,
    /// Its action has ended, and it still has its slot.
    ActionEnded,
    /// Its action was running when its runner ended; no runner has seen the end.
    ContactLost,
    /// Its action succeeded.
    Succeeded,
    /// Its action, or its roll-back, failed.
    Failed,
    /// The outcome of its action is unknown.
    Unknown,
    /// Its action was rolled back.
    RolledBack,
    /// The policy, the orchestration or a time-out skipped it.
    Skipped,
}

impl TrailStatus {
    /// The stable word for JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::NotAsked => "not-asked",
            Self::Waiting => "waiting",
            Self::Queueing => "queueing",
            Self::Leased => "leased",
            Self::Running => "running",
            Self::ActionEnded => "action-ended",
            Self::ContactLost => "contact-lost",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::RolledBack => "rolled-back",
            Self::Skipped => "skipped",
        }
    }

    /// Whether the policy may still be asked about it.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::NotAsked | Self::Waiting)
    }

    /// Whether it takes one of the run's slots.
    #[must_use]
    pub fn is_in_flight(self) -> bool {
        matches!(self, Self::Queueing | Self::Leased | Self::Running | Self::ActionEnded)
    }

    /// Whether the status is final.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Unknown | Self::RolledBack | Self::Skipped)
    }
}

/// Everything known of a target.
#[derive(Debug, Clone)]
pub struct TrailEntry {
    /// The present status.
    pub status: TrailStatus,
    /// Since when it has this status, in milliseconds since the Unix epoch.
    pub since: u64,
    /// The policy's last answer about whether it may start.
    pub policy_answer: Option<PolicyAnswer>,
    /// The refusal that followed that answer.
    pub refused: Option<Refused>,
    /// Since when it has been waiting, in milliseconds since the Unix epoch.
    pub waiting_since: Option<u64>,
    /// Fence of its last lease.
    pub fence: Option<Fence>,
    /// Number of the last attempt.
    pub attempt: u32,
    /// How and why its slot was forced. `None` if it was not.
    pub forced: Option<String>,
    /// Until when it keeps its slot, and why.
    pub keeping: Option<(u64, String)>,
    /// How its last action ended.
    pub ended: Option<LastEnding>,
    /// Code and reason of a skip, or of a slot that was released unused.
    pub left: Option<(String, String)>,
    /// Whether it was rolled back.
    pub was_rolled_back: bool,
    /// Whether its running or last command is the roll-back.
    pub is_rolled_back_now: bool,
    /// The status and text after a roll-back that did not succeed.
    pub roll_back_ended: Option<(TrailStatus, String)>,
}

impl TrailEntry {
    fn new() -> Self {
        Self {
            status: TrailStatus::NotAsked,
            since: 0,
            policy_answer: None,
            refused: None,
            waiting_since: None,
            fence: None,
            attempt: 0,
            forced: None,
            keeping: None,
            ended: None,
            left: None,
            was_rolled_back: false,
            is_rolled_back_now: false,
            roll_back_ended: None,
        }
    }
}

/// A run as far as its journals were read.
#[derive(Debug)]
pub struct Trail {
    /// First line of the newest runner epoch's journal.
    pub header: Header,
    /// Time of the last event or decision, in milliseconds since the Unix epoch.
    pub last_at: u64,
    /// Since when the run is stopping, and why.
    pub stopping: Option<(u64, String)>,
    /// The wave that needs approval, and the run's name for the command that approves it.
    pub awaits_approval: Option<(String, String)>,
    /// How the newest runner epoch ended.
    pub closing: Option<Closing>,
    /// Since when the run has no contact with the store, and the state of its session.
    pub disconnected: Option<(u64, String)>,
    /// Why no decisions are made.
    pub hold: Option<Hold>,
    /// The orchestration's call without an answer.
    pub calls: Option<Begun>,
    /// The targets that the orchestration has started.
    started_by_orchestration: HashSet<String>,
    /// Targets whose failure an operator accepted.
    accepted: HashSet<String>,
    /// Where the policy's newest decision is recorded.
    pub newest: Option<JournalPosition>,
    /// Longest duration of a successful action, in milliseconds.
    pub longest_ms: Option<u64>,
    targets: HashMap<String, TrailEntry>,
    last_refused: Option<Refused>,
    /// A target that the policy has admitted; one of the next lines shows the effect.
    pending: Option<String>,
}

impl Trail {
    /// Starts with a run's first page.
    #[must_use]
    pub fn new(header: &Header) -> Self {
        Self {
            header: header.clone(),
            last_at: header.started,
            stopping: None,
            awaits_approval: None,
            closing: None,
            disconnected: None,
            hold: None,
            calls: None,
            started_by_orchestration: HashSet::new(),
            accepted: HashSet::new(),
            newest: None,
            longest_ms: None,
            targets: header.targets.iter().map(|name| (name.clone(), TrailEntry::new())).collect(),
            last_refused: None,
            pending: None,
        }
    }

    /// A target by its name. `None` if the run has no such target.
    #[must_use]
    pub fn target(&self, name: &str) -> Option<&TrailEntry> {
        self.targets.get(name)
    }

    /// All targets in the plan's order.
    pub fn targets(&self) -> impl Iterator<Item = (&str, &TrailEntry)> {
        self.header.targets.iter().filter_map(|name| Some((name.as_str(), self.targets.get(name)?)))
    }

    /// Whether the run's orchestration has not started the target.
    #[must_use]
    pub fn is_held_back(&self, name: &str) -> bool {
        self.header.orchestration.is_some() && !self.started_by_orchestration.contains(name)
    }

    /// Index and name of a target's wave. `None` if the job has no waves.
    #[must_use]
    pub fn wave(&self, name: &str) -> Option<(usize, &str)> {
        let at = self.header.targets.iter().position(|target| target == name)?;
        let mut end = 0;
        self.header.waves.iter().enumerate().find_map(|(number, wave)| {
            end += wave.targets;
            (at < end).then_some((number, wave.name.as_str()))
        })
    }

    /// Number of accepted failures.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.accepted.len()
    }

    /// The first wave whose failed targets have reached its `stop-at`.
    #[must_use]
    pub fn wave_spent(&self) -> Option<WaveSpent> {
        let mut rest = self.header.targets.as_slice();
        self.header.waves.iter().find_map(|wave| {
            let (targets, later) = rest.split_at(wave.targets.min(rest.len()));
            rest = later;
            let stop_at = wave.stop_at?;
            let has_failed = |name: &&String| {
                let status = self.targets.get(*name).map(|entry| entry.status);
                matches!(status, Some(TrailStatus::Failed | TrailStatus::Unknown | TrailStatus::RolledBack))
                    && !self.accepted.contains(*name)
            };
            let failed = u32::try_from(targets.iter().filter(has_failed).count()).unwrap_or(u32::MAX);
            (failed >= stop_at).then(|| WaveSpent { wave: wave.name.clone(), failed, stop_at })
        })
    }

    /// Adds the closing line of the newest runner epoch.
    pub fn close(&mut self, closing: Option<&Closing>) {
        self.decided();
        self.closing = closing.cloned();
        if let Some(closing) = closing {
            self.last_at = self.last_at.max(closing.ended);
        }
    }

    /// Adds one more page.
    pub fn follow(&mut self, page: &Page<'_>) {
        match page {
            Page::Segment(header) => self.another_runner(header),
            Page::Decision(recorded) => self.asked(recorded),
            Page::Event(stamped) => self.happened(stamped),
        }
    }

    fn another_runner(&mut self, header: &Header) {
        self.decided();
        self.header = (*header).clone();
        (self.stopping, self.closing, self.disconnected, self.hold) = (None, None, None, None);
        // The orchestration repeats which targets it starts.
        (self.calls, self.started_by_orchestration) = (None, HashSet::new());
        for entry in self.targets.values_mut() {
            match entry.status {
                TrailStatus::Running | TrailStatus::ActionEnded if entry.ended.is_none() => {
                    entry.status = TrailStatus::ContactLost
                }
                TrailStatus::ActionEnded => {
                    entry.status = entry.ended.as_ref().map_or(TrailStatus::ContactLost, LastEnding::status)
                }
                TrailStatus::Queueing | TrailStatus::Leased => entry.status = TrailStatus::Waiting,
                _ => {}
            }
        }
        for name in &header.targets {
            self.targets.entry(name.clone()).or_insert_with(TrailEntry::new);
        }
    }

    fn asked(&mut self, recorded: &RecordedDecision) {
        self.decided();
        self.last_at = recorded.view.now;
        // A decision that the orchestration asked for has no effect.
        let is_advice = recorded.view.cause == Cause::Operator(ORCHESTRATION.to_owned());
        if recorded.question == QuestionKind::Settle || is_advice {
            return;
        }
        let position = JournalPosition { runner_epoch: self.header.runner_epoch, line: recorded.line };
        self.newest = Some(position);
        let policy_answer = PolicyAnswer::of(recorded, position);
        let Some(entry) = self.targets.get_mut(&recorded.target) else { return };
        let verdict = policy_answer.verdict.clone();
        entry.policy_answer = Some(policy_answer);
        entry.refused = None;
        entry.waiting_since.get_or_insert(recorded.view.target.waiting_since);
        let was_open = entry.status.is_open();
        if was_open {
            entry.status = TrailStatus::Waiting;
            entry.since = recorded.view.now;
            self.hold = None;
        } else if entry.status == TrailStatus::Queueing && recorded.view.cause != Cause::Granted && verdict != "lock" {
            entry.status = TrailStatus::Waiting;
            entry.since = recorded.view.now;
        }
        match verdict.as_str() {
            "hold" => self.hold = Some(Hold::Policy(recorded.target.clone())),
            "lock" if was_open => self.pending = Some(recorded.target.clone()),
            "force" if was_open => {
                entry.status = TrailStatus::Queueing;
                entry.since = recorded.view.now;
            }
            _ => {}
        }
    }

    /// A `lock` without an effect was refused by the limit that refused last: the journal does not repeat the refusal.
    fn decided(&mut self) {
        let Some(name) = self.pending.take() else { return };
        let Some(refused) = self.last_refused.clone() else { return };
        self.refuse(&name, refused);
    }

    fn refuse(&mut self, name: &str, refused: Refused) {
        // The floor and another holder concern one target; every other limit concerns all.
        if refused.limit != "floor" && refused.limit != HELD {
            self.hold = Some(Hold::Limit(refused.clone()));
        }
        if let Some(entry) = self.targets.get_mut(name) {
            entry.status = if entry.status.is_in_flight() && entry.status != TrailStatus::Queueing {
                entry.status
            } else {
                TrailStatus::Waiting
            };
            entry.refused = Some(refused);
        }
    }

    fn called(&mut self, Called { call, answer, .. }: &Called) {
        self.calls = None;
        if let Call::Start { target, .. } = call {
            match answer {
                Answer::Done => drop(self.started_by_orchestration.insert(target.clone())),
                _ => drop(self.started_by_orchestration.remove(target)),
            }
        }
    }

    fn happened(&mut self, Stamped { at, event }: &Stamped) {
        let at = *at;
        self.last_at = at;
        match event {
            Event::Refused { target, limit, reason, until, facts } => {
                self.pending.take_if(|pending| pending == target);
                let (target, limit, reason) = (target.clone(), limit.to_string(), reason.clone());
                let refused = Refused { target, limit, reason, at, until: *until, facts: facts.clone() };
                self.last_refused = Some(refused.clone());
                self.refuse(&refused.target.clone(), refused);
            }
            Event::WaveAwaitsApproval { wave, run } => {
                self.awaits_approval = Some((wave.clone(), run.clone()));
            }
            Event::WaveStarted { .. } => self.awaits_approval = None,
            Event::SlotsChanged { to, .. } => self.header.limits.slots = *to,
            Event::CallStarted { call, since } => {
                if let Call::Start { target, .. } = call {
                    self.started_by_orchestration.insert(target.clone());
                }
                self.calls = Some(Begun { call: call.clone(), since: *since, attempts: None });
            }
            Event::CallAnswered { called } | Event::CallReplayed { called } => self.called(called),
            // An operator asked for it, whatever the policy wants.
            Event::RetryRequested { target, .. } => {
                self.started_by_orchestration.insert(target.clone());
                self.accepted.remove(target);
            }
            Event::Accepted { target } => drop(self.accepted.insert(target.clone())),
            Event::Stopping { reason, .. } => self.stopping = Some((at, reason.clone())),
            Event::Store { state } => {
                let is_connected = matches!(state.as_ref(), "connected" | "reopened");
                self.disconnected = (!is_connected).then(|| (at, state.to_string()));
            }
            Event::Succeeded { took_ms, .. } => self.longest_ms = self.longest_ms.max(Some(*took_ms)),
            _ => {}
        }
        let Some(name) = name_of(event) else { return };
        if matches!(event, Event::Queued { .. }) {
            self.pending.take_if(|pending| pending == name);
        }
        let last_refused = self.last_refused.clone();
        let Some(entry) = self.targets.get_mut(name) else { return };
        let before = entry.status;
        match event {
            Event::Queued { .. } => {
                entry.status = TrailStatus::Queueing;
                entry.refused = None;
            }
            Event::Leased { fence, .. } => {
                entry.status = TrailStatus::Leased;
                entry.fence = Some(*fence);
            }
            Event::Forced { fence, broken, reason, .. } => {
                entry.status = TrailStatus::Leased;
                entry.fence = Some(*fence);
                let what = match broken.len() {
                    0 => "above the limit".to_owned(),
                    1 => "breaking 1 lease".to_owned(),
                    more => format!("breaking {more} leases"),
                };
                entry.forced = Some(format!("{what}: {reason}"));
            }
            Event::Started { attempt, fence, .. } => {
                entry.status = TrailStatus::Running;
                (entry.was_rolled_back, entry.is_rolled_back_now, entry.roll_back_ended) = (false, false, None);
                (entry.attempt, entry.fence, entry.ended) = (*attempt, Some(*fence), None);
                entry.since = at;
            }
            Event::ReleasedUnused { reason, .. } => {
                entry.status = TrailStatus::Waiting;
                entry.left = Some((String::new(), reason.clone()));
                if reason.contains("hard limit") {
                    entry.refused = last_refused;
                }
            }
            Event::Succeeded { took_ms, .. } => {
                entry.status = TrailStatus::ActionEnded;
                let attempt = Some(entry.attempt).filter(|attempt| *attempt > 0);
                let (ending, detail) = (Ending::Succeeded, String::new());
                entry.ended = Some(LastEnding { at, ending, attempt, detail, log: None, took_ms: *took_ms });
            }
            Event::Failed { attempt, ending, detail, took_ms, log, .. } => {
                entry.status = TrailStatus::ActionEnded;
                entry.ended = Some(LastEnding {
                    at,
                    ending: *ending,
                    attempt: Some(*attempt),
                    detail: detail.clone(),
                    log: Some(log.clone()),
                    took_ms: *took_ms,
                });
            }
            Event::KeepingSlot { keep_ms, reason, .. } => {
                entry.keeping = Some((at.saturating_add(*keep_ms), reason.clone()));
            }
            Event::Released { .. } | Event::NotReleased { .. } => {
                entry.keeping = None;
                entry.is_rolled_back_now = false;
                entry.status = match (entry.was_rolled_back, &entry.roll_back_ended) {
                    (true, _) => TrailStatus::RolledBack,
                    (false, Some((status, _))) => *status,
                    (false, None) => entry.ended.as_ref().map_or(TrailStatus::Waiting, LastEnding::status),
                };
            }
            Event::RollingBack { attempt, fence, reason, .. } => {
                entry.status = TrailStatus::Running;
                (entry.is_rolled_back_now, entry.roll_back_ended) = (true, None);
                (entry.attempt, entry.fence) = (*attempt, Some(*fence));
                entry.left = Some(("rolled-back".to_owned(), reason.clone()));
            }
            Event::RolledBack { .. } => {
                entry.status = TrailStatus::ActionEnded;
                entry.was_rolled_back = true;
            }
            Event::Recovered { attempt, roll_back, .. } => {
                entry.status = TrailStatus::ContactLost;
                entry.attempt = *attempt;
                entry.is_rolled_back_now = *roll_back;
            }
            Event::ContactLost { attempt, roll_back, .. } => {
                entry.status = TrailStatus::ContactLost;
                entry.attempt = *attempt;
                entry.is_rolled_back_now = *roll_back;
            }
            // The outcome of the action stays; the success of a roll-back has its own event.
            Event::Probed { answer, detail, roll_back: true, .. } => {
                let (status, how) = match answer.as_ref() {
                    "failed" => (TrailStatus::Failed, format!("its roll-back failed: {detail}")),
                    "unknown" => (TrailStatus::Unknown, format!("the outcome of its roll-back is unknown: {detail}")),
                    _ => (TrailStatus::ActionEnded, String::new()),
                };
                (entry.status, entry.roll_back_ended) =
                    (status, (status != TrailStatus::ActionEnded).then_some((status, how)));
            }
            Event::Probed { answer, detail, .. } => {
                let ending = match answer.as_ref() {
                    "succeeded" => Some(Ending::Succeeded),
                    "failed" => Some(Ending::Failed),
                    "not-started" => None,
                    _ => Some(Ending::Unknown),
                };
                let attempt = Some(entry.attempt).filter(|attempt| *attempt > 0);
                let detail = detail.clone();
                entry.ended = ending.map(|ending| LastEnding { at, ending, attempt, detail, log: None, took_ms: 0 });
                entry.status = entry.ended.as_ref().map_or(TrailStatus::Waiting, LastEnding::status);
            }
            Event::EndingRestored { attempt, ending, detail, roll_back, .. } => {
                entry.status = TrailStatus::ActionEnded;
                entry.was_rolled_back = *roll_back && *ending == Ending::Succeeded;
                let (attempt, detail) = (Some(*attempt), detail.clone());
                entry.ended = Some(LastEnding { at, ending: *ending, attempt, detail, log: None, took_ms: 0 });
            }
            Event::RetryRequested { .. } => {
                entry.status = TrailStatus::Waiting;
                (entry.ended, entry.was_rolled_back, entry.policy_answer, entry.refused) = (None, false, None, None);
                (entry.is_rolled_back_now, entry.roll_back_ended) = (false, None);
            }
            Event::Skipped { code, reason, .. } => {
                entry.status = TrailStatus::Skipped;
                entry.left = Some((code.clone(), reason.clone()));
            }
            _ => {}
        }
        if entry.status != before {
            entry.since = at;
        }
    }
}

impl LastEnding {
    fn status(&self) -> TrailStatus {
        match self.ending {
            Ending::Succeeded => TrailStatus::Succeeded,
            Ending::Unknown => TrailStatus::Unknown,
            Ending::Failed | Ending::TimedOut | Ending::LeaseLost => TrailStatus::Failed,
        }
    }
}

impl PolicyAnswer {
    fn of(recorded: &RecordedDecision, position: JournalPosition) -> Self {
        let text = |fields: [&str; 2]| {
            let value = fields.iter().find_map(|field| recorded.answer[*field].as_str());
            value.unwrap_or_default().to_owned()
        };
        Self {
            position,
            sequence: recorded.sequence,
            at: recorded.view.now,
            verdict: recorded.verdict.clone().unwrap_or_else(|| "fault".to_owned()),
            code: text(["code", "fault"]),
            reason: text(["reason", "message"]),
            wake_after: recorded.answer["wake-after"].as_u64(),
        }
    }
}

/// The target that an event is about.
fn name_of(event: &Event) -> Option<&str> {
    match event {
        Event::Waiting { target, .. }
        | Event::Refused { target, .. }
        | Event::Queued { target }
        | Event::Leased { target, .. }
        | Event::Forced { target, .. }
        | Event::ReleasedUnused { target, .. }
        | Event::Started { target, .. }
        | Event::Succeeded { target, .. }
        | Event::Failed { target, .. }
        | Event::KeepingSlot { target, .. }
        | Event::Retrying { target, .. }
        | Event::Released { target }
        | Event::NotReleased { target, .. }
        | Event::Skipped { target, .. }
        | Event::RollingBack { target, .. }
        | Event::RolledBack { target, .. }
        | Event::Recovered { target, .. }
        | Event::Probed { target, .. }
        | Event::EndingRestored { target, .. }
        | Event::ContactLost { target, .. }
        | Event::RetryRequested { target, .. }
        | Event::LeaseLost { target, .. } => Some(target),
        _ => None,
    }
}
