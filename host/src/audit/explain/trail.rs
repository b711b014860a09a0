//! A run, followed page by page: where each target stands, and what holds everybody up.

use std::collections::{HashMap, HashSet};

use crate::audit::Page;
use crate::policy::orchestration::{Answer, Call};
use crate::policy::types::{Cause, Ending};
use crate::rollout::journal::{Closing, Header, QuestionKind, RecordedDecision};
use crate::rollout::machine::ORCHESTRATION;
use crate::rollout::model::{Begun, Called, Event, Facts, HELD, Stamped, WaveSpent};
use lockkeeper_coordination::store::Fence;

/// Where in the journals something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// In which stint's.
    pub runner_epoch: u32,
    /// On which line, from 1.
    pub line: usize,
}

/// What a policy said about a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Where that stands.
    pub place: Place,
    /// The decision's number.
    pub sequence: u64,
    /// When, in milliseconds since the Unix epoch.
    pub at: u64,
    /// The verdict's word, or `fault`.
    pub verdict: String,
    /// The policy's code, or the kind of fault.
    pub code: String,
    /// The policy's reason, or what failed.
    pub reason: String,
    /// In how many milliseconds it wants to be asked again at the latest.
    pub wake_after: Option<u64>,
}

/// What a hard limit said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// About which target.
    pub target: String,
    /// The limit's code.
    pub limit: String,
    /// In one sentence.
    pub reason: String,
    /// When.
    pub at: u64,
    /// When the clock alone may change it.
    pub until: Option<u64>,
    /// What it was checked against.
    pub facts: Option<Box<Facts>>,
}

/// Why nobody is asked, until something changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// The policy said `hold`, about this target.
    Policy(String),
    /// A hard limit refuses everybody, and did so first with the target that it names.
    Limit(Refused),
}

/// How an action ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// When.
    pub at: u64,
    /// How.
    pub ending: Ending,
    /// Which try; none for a success, where nobody said.
    pub attempt: Option<u32>,
    /// What happened; empty for a success.
    pub detail: String,
    /// Where its output is.
    pub log: Option<String>,
    /// How long it took.
    pub took_ms: u64,
}

/// Where a target stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrailStatus {
    /// Nobody asked about it yet.
    NotAsked,
    /// Its policy or a limit said not now, or its slot went back unused.
    Waiting,
    /// It queues for a slot.
    Queueing,
    /// It has its slot, and has not started.
    Leased,
    /// Its action is under way.
    Running,
    /// Its action ended, and it has its slot still.
    ActionEnded,
    /// It acted when its runner ended: nobody saw how that went.
    ContactLost,
    /// Done.
    Succeeded,
    /// Failed.
    Failed,
    /// Nobody knows how its action ended.
    Unknown,
    /// It failed, or the run did, and it was undone.
    RolledBack,
    /// Left out.
    Skipped,
}

impl TrailStatus {
    /// The word for it.
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

    /// Whether it may be asked about.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::NotAsked | Self::Waiting)
    }

    /// Whether it takes one of the run's slots.
    #[must_use]
    pub fn is_in_flight(self) -> bool {
        matches!(self, Self::Queueing | Self::Leased | Self::Running | Self::ActionEnded)
    }

    /// Whether nothing more happens to it.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Unknown | Self::RolledBack | Self::Skipped)
    }
}

/// What is known of a target.
#[derive(Debug, Clone)]
pub struct TrailEntry {
    /// Where it stands.
    pub status: TrailStatus,
    /// Since when, in milliseconds since the Unix epoch.
    pub since: u64,
    /// What its policy said last when it was asked whether it may go.
    pub said: Option<Said>,
    /// What a hard limit said to that.
    pub refused: Option<Refused>,
    /// Since when it has been waiting.
    pub waiting_since: Option<u64>,
    /// The lease's fence.
    pub fence: Option<Fence>,
    /// Which try.
    pub attempt: u32,
    /// Who was forced for it and why, if its slot was taken so.
    pub forced: Option<String>,
    /// Until when it keeps its slot, and why.
    pub keeping: Option<(u64, String)>,
    /// How its last action ended.
    pub ended: Option<Ended>,
    /// Why it was left out, or gave its slot back: code and reason.
    pub left: Option<(String, String)>,
    /// It was undone.
    pub undone: bool,
    /// What runs on it, or ran last, is its roll-back.
    pub is_rolled_back_now: bool,
    /// How its roll-back ended, if it was not done: where the target stands then, and in words.
    pub roll_back_ended: Option<(TrailStatus, String)>,
}

impl TrailEntry {
    fn new() -> Self {
        Self {
            status: TrailStatus::NotAsked,
            since: 0,
            said: None,
            refused: None,
            waiting_since: None,
            fence: None,
            attempt: 0,
            forced: None,
            keeping: None,
            ended: None,
            left: None,
            undone: false,
            is_rolled_back_now: false,
            roll_back_ended: None,
        }
    }
}

/// A run as far as it was followed.
#[derive(Debug)]
pub struct Trail {
    /// The first line of the newest stint.
    pub header: Header,
    /// The time of what was read last.
    pub last_at: u64,
    /// Why it ends, and since when.
    pub stopping: Option<(u64, String)>,
    /// Which wave waits for approval, and the run's name for whoever approves.
    pub unapproved: Option<(String, String)>,
    /// How the newest stint ended.
    pub closing: Option<Closing>,
    /// Since when the store does not hear the run, and the word for that.
    pub deaf: Option<(u64, String)>,
    /// Why nobody is asked.
    pub hold: Option<Hold>,
    /// What its orchestration calls, and is not answered yet.
    pub calls: Option<Begun>,
    /// Whom that let go.
    let_go: HashSet<String>,
    /// Targets whose failure an operator accepted.
    accepted: HashSet<String>,
    /// Where the newest question to the policy stands.
    pub newest: Option<Place>,
    /// The longest that an action has taken that succeeded.
    pub longest_ms: Option<u64>,
    targets: HashMap<String, TrailEntry>,
    last_refused: Option<Refused>,
    /// The policy said that it may go; what came of that is on one of the next lines.
    pending: Option<String>,
}

impl Trail {
    /// From a run's first page.
    #[must_use]
    pub fn new(header: &Header) -> Self {
        Self {
            header: header.clone(),
            last_at: header.started,
            stopping: None,
            unapproved: None,
            closing: None,
            deaf: None,
            hold: None,
            calls: None,
            let_go: HashSet::new(),
            accepted: HashSet::new(),
            newest: None,
            longest_ms: None,
            targets: header.targets.iter().map(|name| (name.clone(), TrailEntry::new())).collect(),
            last_refused: None,
            pending: None,
        }
    }

    /// What is known of a target; none: the run has no such target.
    #[must_use]
    pub fn target(&self, name: &str) -> Option<&TrailEntry> {
        self.targets.get(name)
    }

    /// All targets, in the plan's order.
    pub fn targets(&self) -> impl Iterator<Item = (&str, &TrailEntry)> {
        self.header.targets.iter().filter_map(|name| Some((name.as_str(), self.targets.get(name)?)))
    }

    /// Whether the run's orchestration keeps a target back.
    #[must_use]
    pub fn keeps_back(&self, name: &str) -> bool {
        self.header.orchestration.is_some() && !self.let_go.contains(name)
    }

    /// Which wave a target belongs to, from 0, and how it is called.
    #[must_use]
    pub fn wave(&self, name: &str) -> Option<(usize, &str)> {
        let at = self.header.targets.iter().position(|target| target == name)?;
        let mut end = 0;
        self.header.waves.iter().enumerate().find_map(|(number, wave)| {
            end += wave.targets;
            (at < end).then_some((number, wave.name.as_str()))
        })
    }

    /// How many failures were accepted.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.accepted.len()
    }

    /// The first wave of which so many targets have failed that nothing new starts.
    #[must_use]
    pub fn wave_spent(&self) -> Option<WaveSpent> {
        let mut rest = self.header.targets.as_slice();
        self.header.waves.iter().find_map(|wave| {
            let (targets, later) = rest.split_at(wave.targets.min(rest.len()));
            rest = later;
            let stop_at = wave.stop_at?;
            let has_failed = |name: &&String| {
                let status = self.targets.get(*name).map(|trail| trail.status);
                matches!(status, Some(TrailStatus::Failed | TrailStatus::Unknown | TrailStatus::RolledBack))
                    && !self.accepted.contains(*name)
            };
            let failed = u32::try_from(targets.iter().filter(has_failed).count()).unwrap_or(u32::MAX);
            (failed >= stop_at).then(|| WaveSpent { wave: wave.name.clone(), failed, stop_at })
        })
    }

    /// The last line of the newest stint, once it was read.
    pub fn close(&mut self, closing: Option<&Closing>) {
        self.decided();
        self.closing = closing.cloned();
        if let Some(closing) = closing {
            self.last_at = self.last_at.max(closing.ended);
        }
    }

    /// One more page.
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
        (self.stopping, self.closing, self.deaf, self.hold) = (None, None, None, None);
        // Its orchestration says again whom it let go.
        (self.calls, self.let_go) = (None, HashSet::new());
        for trail in self.targets.values_mut() {
            match trail.status {
                TrailStatus::Running | TrailStatus::ActionEnded if trail.ended.is_none() => {
                    trail.status = TrailStatus::ContactLost
                }
                TrailStatus::ActionEnded => {
                    trail.status = trail.ended.as_ref().map_or(TrailStatus::ContactLost, Ended::status)
                }
                TrailStatus::Queueing | TrailStatus::Leased => trail.status = TrailStatus::Waiting,
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
        // What the orchestration wanted to know had no consequences.
        let is_advice = recorded.view.cause == Cause::Operator(ORCHESTRATION.to_owned());
        if recorded.question == QuestionKind::Settle || is_advice {
            return;
        }
        let place = Place { runner_epoch: self.header.runner_epoch, line: recorded.line };
        self.newest = Some(place);
        let said = Said::of(recorded, place);
        let Some(trail) = self.targets.get_mut(&recorded.target) else { return };
        let verdict = said.verdict.clone();
        trail.said = Some(said);
        trail.refused = None;
        trail.waiting_since.get_or_insert(recorded.view.target.waiting_since);
        let was_open = trail.status.is_open();
        if was_open {
            trail.status = TrailStatus::Waiting;
            trail.since = recorded.view.now;
            self.hold = None;
        } else if trail.status == TrailStatus::Queueing && recorded.view.cause != Cause::Granted && verdict != "lock" {
            trail.status = TrailStatus::Waiting;
            trail.since = recorded.view.now;
        }
        match verdict.as_str() {
            "hold" => self.hold = Some(Hold::Policy(recorded.target.clone())),
            "lock" if was_open => self.pending = Some(recorded.target.clone()),
            "force" if was_open => {
                trail.status = TrailStatus::Queueing;
                trail.since = recorded.view.now;
            }
            _ => {}
        }
    }

    /// A `lock` that nothing came of was refused by the limit that refused last: the same words are not said twice.
    fn decided(&mut self) {
        let Some(name) = self.pending.take() else { return };
        let Some(refused) = self.last_refused.clone() else { return };
        self.refuse(&name, refused);
    }

    fn refuse(&mut self, name: &str, refused: Refused) {
        // The floor may let another target go, and another holder is in one target's way; every other limit is everybody's.
        if refused.limit != "floor" && refused.limit != HELD {
            self.hold = Some(Hold::Limit(refused.clone()));
        }
        if let Some(trail) = self.targets.get_mut(name) {
            trail.status = if trail.status.is_in_flight() && trail.status != TrailStatus::Queueing {
                trail.status
            } else {
                TrailStatus::Waiting
            };
            trail.refused = Some(refused);
        }
    }

    fn called(&mut self, Called { call, answer, .. }: &Called) {
        self.calls = None;
        if let Call::Start { target, .. } = call {
            match answer {
                Answer::Done => drop(self.let_go.insert(target.clone())),
                _ => drop(self.let_go.remove(target)),
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
                self.unapproved = Some((wave.clone(), run.clone()));
            }
            Event::WaveStarted { .. } => self.unapproved = None,
            Event::SlotsChanged { to, .. } => self.header.limits.slots = *to,
            Event::CallStarted { call, since } => {
                if let Call::Start { target, .. } = call {
                    self.let_go.insert(target.clone());
                }
                self.calls = Some(Begun { call: call.clone(), since: *since, attempts: None });
            }
            Event::CallAnswered { called } | Event::CallReplayed { called } => self.called(called),
            // Whatever it wants: people said so.
            Event::RetryRequested { target, .. } => {
                self.let_go.insert(target.clone());
                self.accepted.remove(target);
            }
            Event::Accepted { target } => drop(self.accepted.insert(target.clone())),
            Event::Stopping { reason, .. } => self.stopping = Some((at, reason.clone())),
            Event::Store { state } => {
                let hears = matches!(state.as_ref(), "connected" | "reopened");
                self.deaf = (!hears).then(|| (at, state.to_string()));
            }
            Event::Succeeded { took_ms, .. } => self.longest_ms = self.longest_ms.max(Some(*took_ms)),
            _ => {}
        }
        let Some(name) = name_of(event) else { return };
        if matches!(event, Event::Queued { .. }) {
            self.pending.take_if(|pending| pending == name);
        }
        let last_refused = self.last_refused.clone();
        let Some(trail) = self.targets.get_mut(name) else { return };
        let before = trail.status;
        match event {
            Event::Queued { .. } => {
                trail.status = TrailStatus::Queueing;
                trail.refused = None;
            }
            Event::Leased { fence, .. } => {
                trail.status = TrailStatus::Leased;
                trail.fence = Some(*fence);
            }
            Event::Forced { fence, broken, reason, .. } => {
                trail.status = TrailStatus::Leased;
                trail.fence = Some(*fence);
                let what = match broken.len() {
                    0 => "above the limit".to_owned(),
                    1 => "breaking 1 lease".to_owned(),
                    more => format!("breaking {more} leases"),
                };
                trail.forced = Some(format!("{what}: {reason}"));
            }
            Event::Started { attempt, fence, .. } => {
                trail.status = TrailStatus::Running;
                (trail.undone, trail.is_rolled_back_now, trail.roll_back_ended) = (false, false, None);
                (trail.attempt, trail.fence, trail.ended) = (*attempt, Some(*fence), None);
                trail.since = at;
            }
            Event::ReleasedUnused { reason, .. } => {
                trail.status = TrailStatus::Waiting;
                trail.left = Some((String::new(), reason.clone()));
                if reason.contains("hard limit") {
                    trail.refused = last_refused;
                }
            }
            Event::Succeeded { took_ms, .. } => {
                trail.status = TrailStatus::ActionEnded;
                let attempt = Some(trail.attempt).filter(|attempt| *attempt > 0);
                let (ending, detail) = (Ending::Succeeded, String::new());
                trail.ended = Some(Ended { at, ending, attempt, detail, log: None, took_ms: *took_ms });
            }
            Event::Failed { attempt, ending, detail, took_ms, log, .. } => {
                trail.status = TrailStatus::ActionEnded;
                trail.ended = Some(Ended {
                    at,
                    ending: *ending,
                    attempt: Some(*attempt),
                    detail: detail.clone(),
                    log: Some(log.clone()),
                    took_ms: *took_ms,
                });
            }
            Event::KeepingSlot { keep_ms, reason, .. } => {
                trail.keeping = Some((at.saturating_add(*keep_ms), reason.clone()));
            }
            Event::Released { .. } | Event::NotReleased { .. } => {
                trail.keeping = None;
                trail.is_rolled_back_now = false;
                trail.status = match (trail.undone, &trail.roll_back_ended) {
                    (true, _) => TrailStatus::RolledBack,
                    (false, Some((status, _))) => *status,
                    (false, None) => trail.ended.as_ref().map_or(TrailStatus::Waiting, Ended::status),
                };
            }
            Event::RollingBack { attempt, fence, reason, .. } => {
                trail.status = TrailStatus::Running;
                (trail.is_rolled_back_now, trail.roll_back_ended) = (true, None);
                (trail.attempt, trail.fence) = (*attempt, Some(*fence));
                trail.left = Some(("rolled-back".to_owned(), reason.clone()));
            }
            Event::RolledBack { .. } => {
                trail.status = TrailStatus::ActionEnded;
                trail.undone = true;
            }
            Event::Recovered { attempt, roll_back, .. } => {
                trail.status = TrailStatus::ContactLost;
                trail.attempt = *attempt;
                trail.is_rolled_back_now = *roll_back;
            }
            Event::ContactLost { attempt, roll_back, .. } => {
                trail.status = TrailStatus::ContactLost;
                trail.attempt = *attempt;
                trail.is_rolled_back_now = *roll_back;
            }
            // What its action came to stays; that its roll-back was done has an event of its own.
            Event::Probed { answer, detail, roll_back: true, .. } => {
                let (status, how) = match answer.as_ref() {
                    "failed" => (TrailStatus::Failed, format!("its roll-back failed: {detail}")),
                    "unknown" => (TrailStatus::Unknown, format!("the outcome of its roll-back is unknown: {detail}")),
                    _ => (TrailStatus::ActionEnded, String::new()),
                };
                (trail.status, trail.roll_back_ended) =
                    (status, (status != TrailStatus::ActionEnded).then_some((status, how)));
            }
            Event::Probed { answer, detail, .. } => {
                let ending = match answer.as_ref() {
                    "succeeded" => Some(Ending::Succeeded),
                    "failed" => Some(Ending::Failed),
                    "not-started" => None,
                    _ => Some(Ending::Unknown),
                };
                let attempt = Some(trail.attempt).filter(|attempt| *attempt > 0);
                let detail = detail.clone();
                trail.ended = ending.map(|ending| Ended { at, ending, attempt, detail, log: None, took_ms: 0 });
                trail.status = trail.ended.as_ref().map_or(TrailStatus::Waiting, Ended::status);
            }
            Event::EndingRestored { attempt, ending, detail, roll_back, .. } => {
                trail.status = TrailStatus::ActionEnded;
                trail.undone = *roll_back && *ending == Ending::Succeeded;
                let (attempt, detail) = (Some(*attempt), detail.clone());
                trail.ended = Some(Ended { at, ending: *ending, attempt, detail, log: None, took_ms: 0 });
            }
            Event::RetryRequested { .. } => {
                trail.status = TrailStatus::Waiting;
                (trail.ended, trail.undone, trail.said, trail.refused) = (None, false, None, None);
                (trail.is_rolled_back_now, trail.roll_back_ended) = (false, None);
            }
            Event::Skipped { code, reason, .. } => {
                trail.status = TrailStatus::Skipped;
                trail.left = Some((code.clone(), reason.clone()));
            }
            _ => {}
        }
        if trail.status != before {
            trail.since = at;
        }
    }
}

impl Ended {
    fn status(&self) -> TrailStatus {
        match self.ending {
            Ending::Succeeded => TrailStatus::Succeeded,
            Ending::Unknown => TrailStatus::Unknown,
            Ending::Failed | Ending::TimedOut | Ending::LeaseLost => TrailStatus::Failed,
        }
    }
}

impl Said {
    fn of(recorded: &RecordedDecision, place: Place) -> Self {
        let text = |fields: [&str; 2]| {
            let said = fields.iter().find_map(|field| recorded.answer[*field].as_str());
            said.unwrap_or_default().to_owned()
        };
        Self {
            place,
            sequence: recorded.sequence,
            at: recorded.view.now,
            verdict: recorded.verdict.clone().unwrap_or_else(|| "fault".to_owned()),
            code: text(["code", "fault"]),
            reason: text(["reason", "message"]),
            wake_after: recorded.answer["wake-after"].as_u64(),
        }
    }
}

/// About which target an event is.
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
