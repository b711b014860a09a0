//! What an earlier runner left: the status from which each target continues, and how the end of a command is found out that no
//! runner saw.

use std::time::Duration;

use crate::job::OnUnknown;
use crate::policy::types::{Ending, EventKind, Outcome};
use crate::rollout::machine::Rollout;
use crate::rollout::machine::targets::Purpose;
use crate::rollout::model::{
    Action, ActionResult, CommandKind, EpochMs, Event, FinalStatus, Probed, RecordedStatus, Resumed, TargetEvent,
    TargetIndex, TargetRecord, TargetStatus,
};
use lockkeeper_coordination::store::{Fence, millis};

/// The pause after a probe reported that the command is still running; twice as long each time.
const FIRST_PROBE_PAUSE: Duration = Duration::from_secs(1);

/// The longest of those pauses.
const LONGEST_PROBE_PAUSE: Duration = Duration::from_secs(60);

/// How long an action without a time-out may be reported as running before its outcome is unknown.
const LONGEST_ACTION: Duration = Duration::from_secs(60 * 60);

/// How long a probe gets at least, in milliseconds, when the time for probing is over: as long as reaching a target may take.
const SHORTEST_PROBE_MS: u64 = 30_000;

/// How often in a row `on-unknown = "retry"` starts a target again: an action that always takes its own connection down would
/// run for ever. After that it has failed.
const MOST_UNKNOWN_RETRIES: u32 = 3;

/// How the end is found out of a command that an earlier runner started, or that this runner lost contact with.
#[derive(Debug)]
pub(super) struct Recovery {
    /// Its lease is being taken over.
    is_adopting: bool,
    command_kind: CommandKind,
    /// Whether this runner started it.
    is_own: bool,
    /// How it ended, if an earlier runner saw that.
    seen: Option<RecordedStatus>,
    /// What the probe reported.
    probed: Option<Probed>,
    /// Since when it has been probed.
    since: Option<EpochMs>,
    /// The pause before the next probe.
    pause: Duration,
    /// The fence under which it was started.
    fence: Fence,
}

impl Recovery {
    fn new(command_kind: CommandKind, is_adopting: bool, fence: Fence) -> Self {
        Self {
            is_adopting,
            command_kind,
            is_own: false,
            seen: None,
            probed: None,
            since: None,
            pause: FIRST_PROBE_PAUSE,
            fence,
        }
    }

    /// Whether the command was a roll-back.
    pub(super) fn is_roll_back(&self) -> bool {
        self.command_kind == CommandKind::RollBack
    }

    /// Whether an earlier runner saw that the action did not succeed.
    pub(super) fn was_seen_to_fail(&self) -> bool {
        matches!(self.seen, Some(RecordedStatus::ActionEnded { ending, .. }) if ending != Ending::Succeeded)
    }

    /// The wall clock was set.
    pub(super) fn shift(&mut self, by_ms: i64) {
        self.since = self.since.map(|at| at.shifted(by_ms));
    }
}

impl Rollout {
    // ------------------------------------------------------------------ a new runner

    /// Continues where an earlier runner was. What follows at once is carried out with the first step.
    pub(super) fn take_over(&mut self, resumed: Resumed) {
        self.decisions.sequence = resumed.sequence;
        self.decisions.memory = resumed.memory;
        let targets = self.targets.indices();
        for (target, record) in targets.zip(resumed.targets) {
            self.take_over_target(target, record);
        }
    }

    fn take_over_target(&mut self, target: TargetIndex, record: TargetRecord) {
        let TargetRecord { at, attempt, lease, status } = record;
        let fence = lease.as_ref().and_then(|lease| lease.fence).unwrap_or(Fence::new(0));
        let is_adopting = lease.is_some();
        self.now = EpochMs::new(at);
        self.targets[target].attempts.started = attempt;
        let last_run = &mut self.targets[target].last_run;
        match status {
            RecordedStatus::Pending => {}
            RecordedStatus::RollBackLeased { was } => {
                self.take_over_target(target, TargetRecord { at, attempt, lease: None, status: *was });
                if let TargetStatus::Final(last) = self.status(target) {
                    self.advance(target, TargetEvent::RollBackQueued);
                    if let Some(request) = self.targets[target].slot_request_mut() {
                        request.purpose = Purpose::RollBack { was: last };
                    }
                }
                self.targets[target].reopen();
                self.act(Action::Adopt { target });
            }
            RecordedStatus::Leased => {
                self.advance(target, TargetEvent::Queued);
                self.targets[target].reopen();
                self.act(Action::Adopt { target });
            }
            RecordedStatus::Running => {
                self.recover(target, Recovery::new(CommandKind::Action, is_adopting, fence));
            }
            seen @ (RecordedStatus::ActionEnded { .. } | RecordedStatus::RollBackEnded { .. }) => {
                self.unsettled(
                    target,
                    Recovery { seen: Some(seen), ..Recovery::new(CommandKind::Action, is_adopting, fence) },
                );
                if is_adopting {
                    self.act(Action::Adopt { target });
                }
            }
            RecordedStatus::KeepingSlot { ending, took_ms, until, .. } => {
                last_run.took_ms = Some(took_ms);
                self.ended_before(target, ending);
                self.schedule.keeps.set(target, EpochMs::new(until));
                self.act(Action::Adopt { target });
            }
            RecordedStatus::Retrying { ending, until } => {
                self.ended_before(target, ending);
                self.schedule.retries.set(target, EpochMs::new(until));
                self.act(Action::Adopt { target });
            }
            RecordedStatus::RollingBack { reason, was } => {
                last_run.roll_back_reason = reason;
                last_run.before_roll_back = was.map(|was| *was);
                self.recover(target, Recovery::new(CommandKind::RollBack, is_adopting, fence));
            }
            RecordedStatus::Succeeded { took_ms } => {
                last_run.took_ms = took_ms;
                self.totals.longest_ms = self.totals.longest_ms.max(took_ms);
                self.advance(target, TargetEvent::Restored(FinalStatus::Succeeded));
            }
            RecordedStatus::Failed { reason, was } => {
                last_run.detail = reason;
                last_run.before_roll_back = was.map(|was| *was);
                self.advance(target, TargetEvent::Restored(FinalStatus::Failed));
            }
            RecordedStatus::Unknown { reason, was } => {
                last_run.detail = reason;
                last_run.before_roll_back = was.map(|was| *was);
                self.advance(target, TargetEvent::Restored(FinalStatus::Unknown));
            }
            RecordedStatus::RolledBack { reason, was } => {
                last_run.roll_back_reason = reason;
                last_run.before_roll_back = was.map(|was| *was);
                self.advance(target, TargetEvent::Restored(FinalStatus::RolledBack));
            }
            RecordedStatus::Skipped { .. } => self.advance(target, TargetEvent::Restored(FinalStatus::Skipped)),
        }
    }

    /// An action ended under an earlier runner, which was to do more under its slot.
    fn ended_before(&mut self, target: TargetIndex, ending: Ending) {
        let detail = &mut self.targets[target].last_run.detail;
        if detail.is_empty() {
            *detail = format!("it ended as `{}` under an earlier runner", ending.word());
        }
        self.advance(target, TargetEvent::Unsettled);
        self.advance(target, TargetEvent::Ended(ending));
    }

    fn unsettled(&mut self, target: TargetIndex, recovery: Recovery) {
        self.advance(target, TargetEvent::Unsettled);
        if let Some(unsettled) = self.targets[target].unsettled_mut() {
            unsettled.recovery = Some(recovery);
        }
    }

    /// A command may still run, and may have ended: its lease is taken over and its probe run.
    fn recover(&mut self, target: TargetIndex, recovery: Recovery) {
        let Recovery { command_kind, is_adopting, fence, .. } = recovery;
        let attempt = self.attempt(target);
        let roll_back = recovery.is_roll_back();
        self.unsettled(target, recovery);
        self.emit(Event::Recovered { target: self.name(target), attempt, roll_back });
        if is_adopting {
            self.act(Action::Adopt { target });
        }
        if self.has_probe_or_is_unknown(target) {
            self.act(Action::Probe { target, command_kind, attempt, fence, after_ms: 0, within_ms: None });
        }
    }

    // ------------------------------------------------------------------ this runner

    /// This runner lost contact with a command: its end is found out as after the end of a runner.
    pub(super) fn contact_lost(&mut self, target: TargetIndex, result: ActionResult) {
        let command_kind = match self.status(target) {
            TargetStatus::RollingBack => CommandKind::RollBack,
            _ => CommandKind::Action,
        };
        let ActionResult { detail, log, .. } = result;
        let entry = &mut self.targets[target];
        // Its lease may have been lost meanwhile.
        let (fence, attempt) = (entry.attempts.fence, entry.attempts.started);
        entry.last_run.detail.clone_from(&detail);
        let recovery = Recovery { is_own: true, since: Some(self.now), ..Recovery::new(command_kind, false, fence) };
        self.unsettled(target, recovery);
        let has_probe = self.has_probe_or_is_unknown(target);
        let asked_ms = has_probe.then(|| millis(self.setup.action_timeout.unwrap_or(LONGEST_ACTION)));
        self.emit(Event::ContactLost {
            target: self.name(target),
            attempt,
            detail,
            asked_ms,
            log,
            roll_back: command_kind == CommandKind::RollBack,
        });
        if has_probe {
            self.act(Action::Probe { target, command_kind, attempt, fence, after_ms: 0, within_ms: None });
        }
    }

    /// Whether what is not settled is left to the next runner. A run that ends for good waits for it.
    fn leaves_to_next_runner(&self) -> bool {
        self.ending.as_ref().is_some_and(|end| !end.is_final())
    }

    /// Whether the job has a probe for the command of a target. Without one its outcome is unknown.
    fn has_probe_or_is_unknown(&mut self, target: TargetIndex) -> bool {
        let entry = &mut self.targets[target];
        let last_detail = entry.last_run.detail.clone();
        let Some(recovery) = entry.recovery_mut() else { return false };
        let (has_probe, detail) = match recovery.command_kind {
            CommandKind::Action => (self.setup.has_probe, "it has no probe"),
            CommandKind::RollBack => (self.setup.has_roll_back_probe, "it has no `roll-back-probe`"),
        };
        if !has_probe {
            let detail = match recovery.is_own {
                true => format!("{last_detail}; {detail}"),
                false => detail.to_owned(),
            };
            recovery.probed = Some(Probed::Unknown { detail });
        }
        has_probe
    }

    /// The lease of a target was taken over, or no longer exists. Returns `false` for a target that queues: then the answer is
    /// about its place in the queue.
    pub(super) fn adopted(&mut self, target: TargetIndex, is_held: bool) -> bool {
        match self.status(target) {
            TargetStatus::Unsettled => {
                if let Some(recovery) = self.targets[target].recovery_mut() {
                    recovery.is_adopting = false;
                }
                self.settle_recovered(target);
                true
            }
            TargetStatus::ActionEnded(_) => {
                if !is_held {
                    self.continue_without_slot(target);
                }
                true
            }
            // It is left to the next runner already.
            TargetStatus::RollBackEnded(_) => true,
            _ => false,
        }
    }

    /// What was to happen under a target's slot does not.
    fn continue_without_slot(&mut self, target: TargetIndex) {
        if self.schedule.keeps.cancel(target) {
            self.release(target);
        }
        if self.schedule.retries.cancel(target) {
            self.reopen(target);
        }
    }

    pub(super) fn probed(&mut self, target: TargetIndex, answer: Probed) {
        if let Some(recovery) = self.targets[target].recovery_mut() {
            recovery.probed = Some(answer);
        }
        self.settle_recovered(target);
    }

    /// Settles every command whose end is known by now.
    pub(super) fn settle_all_recovered(&mut self) {
        for target in self.targets.in_flight_as(|status| status == TargetStatus::Unsettled) {
            self.settle_recovered(target);
        }
    }

    /// Settles a command once it is known whether its slot is held and what the probe reports.
    fn settle_recovered(&mut self, target: TargetIndex) {
        let now = self.now;
        let Some(unsettled) = self.targets[target].unsettled_mut() else { return };
        let Some(recovery) = &mut unsettled.recovery else { return };
        if recovery.is_adopting {
            return;
        }
        if let Some(seen) = recovery.seen.take() {
            unsettled.recovery = None;
            return self.settle_seen(target, seen);
        }
        let since = *recovery.since.get_or_insert(now);
        let Some(answer) = recovery.probed.take() else { return };
        let (command_kind, fence, pause) = (recovery.command_kind, recovery.fence, recovery.pause);
        recovery.pause = (pause * 2).min(LONGEST_PROBE_PAUSE);
        let attempt = self.attempt(target);
        let answer = match answer {
            Probed::Running | Probed::Unreachable { .. } if self.leaves_to_next_runner() => {
                return self.leave_to_next_runner(target);
            }
            answer @ (Probed::Running | Probed::Unreachable { .. }) => {
                let longest = self.setup.action_timeout.unwrap_or(LONGEST_ACTION);
                let probed_ms = now.ms_since(since);
                if probed_ms < millis(longest) {
                    // The last probe is at the end.
                    let left_ms = millis(longest).saturating_sub(probed_ms).max(1);
                    let after_ms = millis(pause).min(left_ms);
                    let within_ms = Some(left_ms.saturating_sub(after_ms).max(SHORTEST_PROBE_MS));
                    return self.act(Action::Probe { target, command_kind, attempt, fence, after_ms, within_ms });
                }
                let longest = humantime::format_duration(longest);
                let detail = match answer {
                    Probed::Unreachable { detail } => format!("its probe did not reach it for {longest}: {detail}"),
                    _ => format!("its probe has reported for {longest} that it is running"),
                };
                Probed::Unknown { detail }
            }
            answer => answer,
        };
        let recovery = self.targets[target].unsettled_mut().and_then(|unsettled| unsettled.recovery.take());
        let is_own = recovery.is_some_and(|recovery| recovery.is_own);
        self.report_probed(target, &answer, command_kind, is_own);
        match command_kind {
            CommandKind::Action => self.action_probed(target, answer),
            CommandKind::RollBack => self.roll_back_probed(target, answer),
        }
    }

    fn report_probed(&mut self, target: TargetIndex, answer: &Probed, command_kind: CommandKind, is_own: bool) {
        let (word, detail) = match answer {
            Probed::Succeeded => ("succeeded", String::new()),
            Probed::Failed { detail } => ("failed", detail.clone()),
            Probed::NotStarted => ("not-started", String::new()),
            Probed::Unknown { detail } => ("unknown", detail.clone()),
            Probed::Running | Probed::Unreachable { .. } => ("running", String::new()),
        };
        let roll_back = command_kind == CommandKind::RollBack;
        self.emit(Event::Probed { target: self.name(target), answer: word.into(), detail: detail.clone(), roll_back });
        self.targets[target].last_run.detail = match (detail.is_empty(), is_own) {
            (true, _) => String::new(),
            (false, true) => detail,
            (false, false) => format!("reported to the next runner: {detail}"),
        };
    }

    fn action_probed(&mut self, target: TargetIndex, answer: Probed) {
        match (answer, self.setup.on_unknown) {
            (Probed::Succeeded, _) => self.recovered_ending(target, Ending::Succeeded),
            (Probed::Failed { .. }, _) | (Probed::Unknown { .. }, OnUnknown::Fail) => {
                self.recovered_ending(target, Ending::Failed);
            }
            (Probed::NotStarted, _) => {
                // That was no attempt.
                self.targets[target].attempts.discount_last();
                self.reopen(target);
            }
            (Probed::Unknown { .. }, OnUnknown::Retry)
                if self.targets[target].attempts.unknown_in_a_row == MOST_UNKNOWN_RETRIES =>
            {
                self.recovered_ending(target, Ending::Failed);
            }
            (Probed::Running | Probed::Unreachable { .. }, _) | (Probed::Unknown { .. }, OnUnknown::Retry) => {
                self.targets[target].attempts.unknown_in_a_row += 1;
                self.reopen(target);
            }
            (Probed::Unknown { .. }, OnUnknown::Hold) => {
                self.advance(target, TargetEvent::Ended(Ending::Unknown));
                self.release(target);
            }
        }
    }

    /// An earlier runner saw a command end: the policy decides what follows as after any action.
    fn settle_seen(&mut self, target: TargetIndex, seen: RecordedStatus) {
        let (attempt, name) = (self.attempt(target), self.name(target));
        match seen {
            RecordedStatus::ActionEnded { ending, exit_code, took_ms, detail } => {
                let event =
                    Event::EndingRestored { target: name, attempt, ending, detail: detail.clone(), roll_back: false };
                self.emit(event);
                let last_run = &mut self.targets[target].last_run;
                last_run.detail = detail;
                last_run.took_ms = Some(took_ms);
                self.recovered(target, Outcome { ending, exit_code, took: took_ms, attempt });
            }
            becomes => {
                let becomes = match becomes {
                    RecordedStatus::RollBackEnded { becomes } => *becomes,
                    becomes => becomes,
                };
                let ending = self.restore_roll_back_end(target, &becomes);
                let detail = becomes.reason().unwrap_or_default().to_owned();
                let kind = match ending {
                    Ending::Succeeded => EventKind::RolledBack,
                    _ => EventKind::Failed,
                };
                self.record_event(target, kind, &detail);
                self.emit(Event::EndingRestored { target: name, attempt, ending, detail, roll_back: true });
                self.act(Action::Release { target, status: becomes });
            }
        }
    }

    /// A roll-back ended so that the target has this record. Returns how it ended.
    fn restore_roll_back_end(&mut self, target: TargetIndex, becomes: &RecordedStatus) -> Ending {
        let ending = match becomes {
            RecordedStatus::RolledBack { .. } => Ending::Succeeded,
            RecordedStatus::Unknown { .. } => Ending::Unknown,
            _ => Ending::Failed,
        };
        let last_run = &mut self.targets[target].last_run;
        last_run.detail = becomes.reason().unwrap_or_default().to_owned();
        if let RecordedStatus::RolledBack { reason, was } | RecordedStatus::Failed { reason, was } = becomes {
            last_run.roll_back_reason.clone_from(reason);
            last_run.before_roll_back = was.as_deref().cloned();
        }
        self.advance(target, TargetEvent::RollBackStarted);
        self.advance(target, TargetEvent::Ended(ending));
        ending
    }

    /// The probe reported how a roll-back ended, or that it does not know.
    fn roll_back_probed(&mut self, target: TargetIndex, answer: Probed) {
        let (ending, detail) = match (answer, self.setup.on_unknown) {
            (Probed::NotStarted, _) | (Probed::Unknown { .. }, OnUnknown::Retry) => {
                return match self.ending.is_some() && !self.roll_backs.is_of_run {
                    // Nothing starts any more: the next runner probes once more.
                    true => self.leave_roll_back(target),
                    false => self.roll_back_anew(target),
                };
            }
            (Probed::Succeeded, _) => (Ending::Succeeded, String::new()),
            (Probed::Failed { detail }, _) | (Probed::Unknown { detail }, OnUnknown::Fail) => (Ending::Failed, detail),
            (Probed::Unknown { detail }, OnUnknown::Hold) => (Ending::Unknown, detail),
            (Probed::Running | Probed::Unreachable { .. }, _) => (Ending::Unknown, String::new()),
        };
        self.advance(target, TargetEvent::RollBackStarted);
        let status = self.record_after_roll_back(target, ending, detail.clone());
        self.advance(target, TargetEvent::Ended(ending));
        match ending {
            Ending::Succeeded => {
                let why = self.targets[target].last_run.roll_back_reason.clone();
                self.record_event(target, EventKind::RolledBack, &why);
                self.emit(Event::RolledBack { target: self.name(target), took_ms: 0, had: status.had() });
            }
            _ => self.record_event(target, EventKind::Failed, &detail),
        }
        self.targets[target].last_run.detail = status.reason().unwrap_or_default().to_owned();
        self.act(Action::Release { target, status });
    }

    /// The policy decides what follows, as after any action.
    fn recovered_ending(&mut self, target: TargetIndex, ending: Ending) {
        let attempt = self.attempt(target);
        self.recovered(target, Outcome { ending, exit_code: None, took: 0, attempt });
    }

    fn recovered(&mut self, target: TargetIndex, outcome: Outcome) {
        self.advance(target, TargetEvent::Ended(outcome.ending));
        let entry = &mut self.targets[target];
        let is_without_slot = entry.lease().is_none();
        if let Some(ended) = entry.action_ended_mut() {
            ended.is_without_slot = is_without_slot;
        }
        self.decisions.to_settle.push_back((target, outcome));
    }

    // ------------------------------------------------------------------ the next runner

    /// The run ends before the outcome is known: the next runner finds it out.
    pub(super) fn leave_to_next_runner(&mut self, target: TargetIndex) {
        let Some(unsettled) = self.targets[target].unsettled_mut() else { return };
        // Its slot is being released already, and its status written.
        if unsettled.is_reopening {
            return;
        }
        let recovery = unsettled.recovery.take();
        let is_roll_back = recovery.as_ref().is_some_and(Recovery::is_roll_back);
        match recovery.and_then(|recovery| recovery.seen) {
            // The next runner continues from what was seen.
            Some(seen @ RecordedStatus::ActionEnded { ending, .. }) => {
                self.advance(target, TargetEvent::Ended(ending));
                self.act(Action::Release { target, status: seen });
            }
            Some(RecordedStatus::RollBackEnded { becomes }) => {
                self.restore_roll_back_end(target, &becomes);
                self.act(Action::Release { target, status: *becomes });
            }
            _ if is_roll_back => self.leave_roll_back(target),
            _ => {
                self.advance(target, TargetEvent::Ended(Ending::Unknown));
                if let Some(ended) = self.targets[target].action_ended_mut() {
                    ended.is_left_to_next_runner = true;
                }
                self.release(target);
            }
        }
    }

    fn leave_roll_back(&mut self, target: TargetIndex) {
        let status = self.record_while_rolling_back(target);
        self.advance(target, TargetEvent::RollBackStarted);
        self.advance(target, TargetEvent::Ended(Ending::Unknown));
        self.act(Action::Release { target, status });
    }
}
