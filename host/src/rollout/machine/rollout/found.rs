//! What an earlier runner left: where each target goes on, and how it is found out what became of actions whose end
//! nobody saw.

use std::time::Duration;

use super::{Event, FinalStatus, TargetEvent, TargetStatus, Then};
use crate::job::OnUnknown;
use crate::policy::types::{Ending, EventKind, Outcome};
use crate::rollout::machine::Rollout;
use crate::rollout::machine::rollout::millis;
use crate::rollout::model::{Action, ActionResult, CommandKind, Probed, RecordedStatus, Resumed, TargetRecord};
use lockkeeper_coordination::store::Fence;

/// How long after a probe that said that the action is still under way it is asked again; twice as long each time.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// The longest of those pauses.
const LONGEST_LOOK: Duration = Duration::from_secs(60);

/// How long an action without a time-out may be said to be under way before nobody knows.
const LONGEST_ACTION: Duration = Duration::from_secs(60 * 60);

/// How long a probe gets that is asked when the time for asking is over, in milliseconds: as long as reaching a target may take.
const SHORTEST_PROBE_MS: u64 = 30_000;

/// How often in a row `on-unknown = "retry"` has a target go again: an action that always takes its own connection down would
/// run for ever. Then it has failed.
const MOST_UNKNOWN_RETRIES: u32 = 3;

/// An action that an earlier runner started, or that is out of this runner's sight.
#[derive(Debug)]
pub(super) struct Found {
    /// Its lease is being taken over.
    adopting: bool,
    /// Which command it was.
    command_kind: CommandKind,
    /// Whether this runner started it, and lost sight of it.
    is_own: bool,
    /// How it ended, if an earlier runner saw that.
    seen: Option<RecordedStatus>,
    /// What the probe said.
    probed: Option<Probed>,
    /// Since when it has been asked.
    since_ms: Option<u64>,
    /// The next pause.
    pause: Duration,
    /// The fence under which it was started.
    fence: Fence,
}

impl Found {
    fn new(command_kind: CommandKind, adopting: bool, fence: Fence) -> Self {
        Self {
            adopting,
            command_kind,
            is_own: false,
            seen: None,
            probed: None,
            since_ms: None,
            pause: FIRST_LOOK,
            fence,
        }
    }

    /// Whether it was a roll-back.
    pub(super) fn is_roll_back(&self) -> bool {
        self.command_kind == CommandKind::RollBack
    }

    /// Since when it has been asked.
    pub(super) fn since_mut(&mut self) -> Option<&mut u64> {
        self.since_ms.as_mut()
    }

    /// Whether an earlier runner saw that its action did not succeed.
    pub(super) fn was_seen_to_fail(&self) -> bool {
        matches!(self.seen, Some(RecordedStatus::ActionEnded { ending, .. }) if ending != Ending::Succeeded)
    }
}

impl Rollout {
    /// Takes over where an earlier runner was; what is to be done at once comes with the first step.
    pub(super) fn take_over(&mut self, resumed: Resumed) {
        self.sequence = resumed.sequence;
        self.memory = resumed.memory;
        for (target, saved) in resumed.targets.into_iter().enumerate().take(self.slots.len()) {
            self.take_over_target(target, saved);
        }
    }

    fn take_over_target(&mut self, target: usize, saved: TargetRecord) {
        let TargetRecord { at, attempt, lease, status } = saved;
        let fence = lease.as_ref().and_then(|lease| lease.fence).unwrap_or(Fence::new(0));
        self.now_ms = at;
        let slot = &mut self.slots[target];
        slot.attempt = attempt;
        match status {
            RecordedStatus::Pending => {}
            RecordedStatus::RollBackLeased { was } => {
                self.take_over_target(target, TargetRecord { at, attempt, lease: None, status: *was });
                if let TargetStatus::Final(last) = self.slots[target].state {
                    self.slots[target].recalled = Some(last);
                    self.moved(target, TargetEvent::RollBackQueued);
                }
                self.slots[target].leaving = Some(Then::Wait);
                self.first.push(Action::Adopt { target });
            }
            RecordedStatus::Leased => {
                self.moved(target, TargetEvent::Queued);
                self.slots[target].leaving = Some(Then::Wait);
                self.first.push(Action::Adopt { target });
            }
            RecordedStatus::Running => {
                let adopting = lease.is_some();
                slot.found = Some(Found::new(CommandKind::Action, adopting, fence));
                self.find(target);
            }
            seen @ (RecordedStatus::ActionEnded { .. } | RecordedStatus::RollBackEnded { .. }) => {
                let adopting = lease.is_some();
                slot.found = Some(Found { seen: Some(seen), ..Found::new(CommandKind::Action, adopting, fence) });
                self.moved(target, TargetEvent::Unsettled);
                if adopting {
                    self.first.push(Action::Adopt { target });
                }
            }
            RecordedStatus::KeepingSlot { ending, took_ms, until, .. } => {
                slot.took_ms = Some(took_ms);
                self.acted_before(target, ending);
                self.slots[target].keep_until_ms = Some(until);
                self.keeps.insert((until, target));
                self.first.push(Action::Adopt { target });
            }
            RecordedStatus::Retrying { ending, until } => {
                self.acted_before(target, ending);
                self.slots[target].retry_at_ms = Some(until);
                self.retries.insert((until, target));
                self.first.push(Action::Adopt { target });
            }
            RecordedStatus::RollingBack { reason, was } => {
                let adopting = lease.is_some();
                slot.found = Some(Found::new(CommandKind::RollBack, adopting, fence));
                slot.undone_for = reason;
                slot.before_roll_back = was.map(|was| *was);
                self.find(target);
            }
            RecordedStatus::Succeeded { took_ms } => {
                slot.took_ms = took_ms;
                self.longest_ms = self.longest_ms.max(took_ms);
                self.finished_before(target, FinalStatus::Succeeded);
            }
            RecordedStatus::Failed { reason, was } => {
                slot.detail = reason;
                slot.before_roll_back = was.map(|was| *was);
                self.finished_before(target, FinalStatus::Failed);
            }
            RecordedStatus::Unknown { reason, was } => {
                slot.detail = reason;
                slot.before_roll_back = was.map(|was| *was);
                self.finished_before(target, FinalStatus::Unknown);
            }
            RecordedStatus::RolledBack { reason, was } => {
                slot.undone_for = reason;
                slot.before_roll_back = was.map(|was| *was);
                self.finished_before(target, FinalStatus::RolledBack);
            }
            RecordedStatus::Skipped { .. } => self.finished_before(target, FinalStatus::Skipped),
        }
    }

    /// It may still run, and may have ended: its lease is taken over and its probe asked.
    fn find(&mut self, target: usize) {
        let Some(Found { command_kind, adopting, fence, .. }) = self.slots[target].found else { return };
        let attempt = self.slots[target].attempt;
        self.moved(target, TargetEvent::Unsettled);
        self.first.push(Action::Emit(Event::Recovered {
            target: self.name(target),
            attempt,
            roll_back: command_kind == CommandKind::RollBack,
        }));
        if adopting {
            self.first.push(Action::Adopt { target });
        }
        if self.probe_or_unknown(target) {
            self.first.push(Action::Probe { target, command_kind, attempt, fence, after_ms: 0, within_ms: None });
        }
    }

    /// An action of this runner's went out of its sight: that is settled as after the end of a runner.
    pub(super) fn contact_lost(&mut self, now_ms: u64, target: usize, result: ActionResult, out: &mut Vec<Action>) {
        let command_kind = match self.slots[target].state {
            TargetStatus::RollingBack => CommandKind::RollBack,
            _ => CommandKind::Action,
        };
        let ActionResult { detail, log, .. } = result;
        let slot = &mut self.slots[target];
        // Its lease may have been lost meanwhile.
        let (fence, attempt) = (slot.fence, slot.attempt);
        slot.detail.clone_from(&detail);
        slot.found = Some(Found { is_own: true, since_ms: Some(now_ms), ..Found::new(command_kind, false, fence) });
        self.moved(target, TargetEvent::Unsettled);
        let has_probe = self.probe_or_unknown(target);
        let asked_ms = has_probe.then(|| millis(self.setup.action_timeout.unwrap_or(LONGEST_ACTION)));
        out.push(Action::Emit(Event::ContactLost {
            target: self.name(target),
            attempt,
            detail,
            asked_ms,
            log,
            roll_back: command_kind == CommandKind::RollBack,
        }));
        if has_probe {
            out.push(Action::Probe { target, command_kind, attempt, fence, after_ms: 0, within_ms: None });
        }
    }

    /// Whether what is not settled is left to the next runner. A run that ends for good waits for it.
    fn leaves_to_next_runner(&self) -> bool {
        self.ending.as_ref().is_some_and(|end| !end.is_final())
    }

    /// Whether there is a probe for what is not known of a target; without one it stays unknown.
    fn probe_or_unknown(&mut self, target: usize) -> bool {
        let Some(found) = &mut self.slots[target].found else { return false };
        let has_probe = match found.command_kind {
            CommandKind::Action => self.setup.has_probe,
            CommandKind::RollBack => self.setup.has_roll_back_probe,
        };
        if !has_probe {
            let detail = match found.command_kind {
                CommandKind::Action => "it has no probe",
                CommandKind::RollBack => "it has no `roll-back-probe`",
            };
            let detail = match found.is_own {
                true => format!("{}; {detail}", self.slots[target].detail),
                false => detail.to_owned(),
            };
            if let Some(found) = &mut self.slots[target].found {
                found.probed = Some(Probed::Unknown { detail });
            }
        }
        has_probe
    }

    fn acted_before(&mut self, target: usize, ending: Ending) {
        let slot = &mut self.slots[target];
        if slot.detail.is_empty() {
            slot.detail = format!("it ended as `{}` under an earlier runner", ending.word());
        }
        self.moved(target, TargetEvent::Unsettled);
        self.moved(target, TargetEvent::Ended(ending));
    }

    fn finished_before(&mut self, target: usize, last: FinalStatus) {
        self.moved(target, TargetEvent::Restored(last));
    }

    /// Its lease is ours again, or is not there any more: `false` where that is about a target that queues.
    pub(super) fn adopted(&mut self, now_ms: u64, target: usize, is_held: bool, out: &mut Vec<Action>) -> bool {
        match self.slots[target].state {
            TargetStatus::Unsettled => {
                if let Some(found) = &mut self.slots[target].found {
                    found.adopting = false;
                }
                self.settle_found(now_ms, target, out);
                true
            }
            TargetStatus::ActionEnded(_) => {
                if !is_held {
                    self.without_slot(target, out);
                }
                true
            }
            // It is left to the next runner already.
            TargetStatus::RollBackEnded(_) => true,
            _ => false,
        }
    }

    /// What was to happen under its slot does not.
    fn without_slot(&mut self, target: usize, out: &mut Vec<Action>) {
        if let Some(until) = self.slots[target].keep_until_ms.take() {
            self.keeps.remove(&(until, target));
            out.push(self.release(target));
        }
        if let Some(at) = self.slots[target].retry_at_ms.take() {
            self.retries.remove(&(at, target));
            self.reopen(target, out);
        }
    }

    pub(super) fn probed(&mut self, now_ms: u64, target: usize, answer: Probed, out: &mut Vec<Action>) {
        if let Some(found) = &mut self.slots[target].found {
            found.probed = Some(answer);
        }
        self.settle_found(now_ms, target, out);
    }

    /// Those that nothing has to be waited for.
    pub(super) fn settle_all_found(&mut self, now_ms: u64, out: &mut Vec<Action>) {
        let unsettled = |target: &usize| self.slots[*target].state == TargetStatus::Unsettled;
        for target in self.in_flight.iter().copied().filter(unsettled).collect::<Vec<_>>() {
            self.settle_found(now_ms, target, out);
        }
    }

    /// Once it is known whether its slot is held and what the probe says.
    fn settle_found(&mut self, now_ms: u64, target: usize, out: &mut Vec<Action>) {
        if self.slots[target].state != TargetStatus::Unsettled {
            return;
        }
        let Some(found) = &mut self.slots[target].found else { return };
        if found.adopting {
            return;
        }
        if let Some(seen) = found.seen.take() {
            self.slots[target].found = None;
            return self.settle_seen(now_ms, target, seen, out);
        }
        let since = *found.since_ms.get_or_insert(now_ms);
        let Some(answer) = found.probed.take() else { return };
        let (command_kind, fence, pause) = (found.command_kind, found.fence, found.pause);
        found.pause = (pause * 2).min(LONGEST_LOOK);
        let attempt = self.slots[target].attempt;
        let answer = match answer {
            Probed::Running | Probed::Unreachable { .. } if self.leaves_to_next_runner() => {
                return self.leave_undecided(target, out);
            }
            answer @ (Probed::Running | Probed::Unreachable { .. }) => {
                let longest = self.setup.action_timeout.unwrap_or(LONGEST_ACTION);
                if now_ms.saturating_sub(since) < millis(longest) {
                    // The last time is at the end.
                    let left_ms = millis(longest).saturating_sub(now_ms.saturating_sub(since)).max(1);
                    let after_ms = millis(pause).min(left_ms);
                    let within_ms = Some(left_ms.saturating_sub(after_ms).max(SHORTEST_PROBE_MS));
                    return out.push(Action::Probe { target, command_kind, attempt, fence, after_ms, within_ms });
                }
                let longest = humantime::format_duration(longest);
                let detail = match answer {
                    Probed::Unreachable { detail } => format!("it could not be asked for {longest}: {detail}"),
                    _ => format!("its probe says since {longest} that it is under way"),
                };
                Probed::Unknown { detail }
            }
            answer => answer,
        };
        let is_own = self.slots[target].found.take().is_some_and(|found| found.is_own);
        let (word, detail) = match &answer {
            Probed::Succeeded => ("succeeded", String::new()),
            Probed::Failed { detail } => ("failed", detail.clone()),
            Probed::NotStarted => ("not-started", String::new()),
            Probed::Unknown { detail } => ("unknown", detail.clone()),
            Probed::Running | Probed::Unreachable { .. } => ("running", String::new()),
        };
        let roll_back = command_kind == CommandKind::RollBack;
        let told = Event::Probed { target: self.name(target), answer: word.into(), detail: detail.clone(), roll_back };
        out.push(Action::Emit(told));
        self.slots[target].detail = match (detail.is_empty(), is_own) {
            (true, _) => String::new(),
            (false, true) => detail,
            (false, false) => format!("found by the next runner: {detail}"),
        };
        if command_kind == CommandKind::RollBack {
            return self.roll_back_found(now_ms, target, answer, out);
        }
        match (answer, self.setup.on_unknown) {
            (Probed::Succeeded, _) => self.found_ended(target, Ending::Succeeded),
            (Probed::Failed { .. }, _) | (Probed::Unknown { .. }, OnUnknown::Fail) => {
                self.found_ended(target, Ending::Failed);
            }
            (Probed::NotStarted, _) => {
                // That was no try.
                let slot = &mut self.slots[target];
                slot.tried_before = (slot.tried_before + 1).min(slot.attempt);
                self.reopen(target, out);
            }
            (Probed::Unknown { .. }, OnUnknown::Retry)
                if self.slots[target].unknown_retries == MOST_UNKNOWN_RETRIES =>
            {
                self.found_ended(target, Ending::Failed);
            }
            (Probed::Running | Probed::Unreachable { .. }, _) | (Probed::Unknown { .. }, OnUnknown::Retry) => {
                self.slots[target].unknown_retries += 1;
                self.reopen(target, out);
            }
            (Probed::Unknown { .. }, OnUnknown::Hold) => {
                self.moved(target, TargetEvent::Ended(Ending::Unknown));
                out.push(self.release(target));
            }
        }
    }

    /// An earlier runner saw it end: what follows is decided as after any action.
    fn settle_seen(&mut self, now_ms: u64, target: usize, seen: RecordedStatus, out: &mut Vec<Action>) {
        let attempt = self.slots[target].attempt;
        match seen {
            RecordedStatus::ActionEnded { ending, exit_code, took_ms, detail } => {
                let (name, told) = (self.name(target), detail.clone());
                out.push(Action::Emit(Event::EndingRestored {
                    target: name,
                    attempt,
                    ending,
                    detail: told,
                    roll_back: false,
                }));
                self.slots[target].detail = detail;
                self.slots[target].took_ms = Some(took_ms);
                self.acted(target, Outcome { ending, exit_code, took: took_ms, attempt });
            }
            becomes => {
                let becomes = match becomes {
                    RecordedStatus::RollBackEnded { becomes } => *becomes,
                    becomes => becomes,
                };
                let ending = self.roll_back_was_seen(target, &becomes);
                let (name, detail) = (self.name(target), becomes.reason().unwrap_or_default().to_owned());
                match ending {
                    Ending::Succeeded => self.happened(now_ms, target, EventKind::RolledBack, &detail),
                    _ => self.happened(now_ms, target, EventKind::Failed, &detail),
                }
                out.push(Action::Emit(Event::EndingRestored {
                    target: name,
                    attempt,
                    ending,
                    detail,
                    roll_back: true,
                }));
                out.push(Action::Release { target, status: becomes });
            }
        }
    }

    /// Goes to where a roll-back is that ended so.
    fn roll_back_was_seen(&mut self, target: usize, becomes: &RecordedStatus) -> Ending {
        let ending = match becomes {
            RecordedStatus::RolledBack { .. } => Ending::Succeeded,
            RecordedStatus::Unknown { .. } => Ending::Unknown,
            _ => Ending::Failed,
        };
        let slot = &mut self.slots[target];
        slot.detail = becomes.reason().unwrap_or_default().to_owned();
        if let RecordedStatus::RolledBack { reason, was } | RecordedStatus::Failed { reason, was } = becomes {
            slot.undone_for.clone_from(reason);
            slot.before_roll_back = was.as_deref().cloned();
        }
        self.moved(target, TargetEvent::RollBackStarted);
        self.moved(target, TargetEvent::Ended(ending));
        ending
    }

    /// It is known how its roll-back went, or will not be.
    fn roll_back_found(&mut self, now_ms: u64, target: usize, answer: Probed, out: &mut Vec<Action>) {
        let (ending, detail) = match (answer, self.setup.on_unknown) {
            (Probed::NotStarted, _) | (Probed::Unknown { .. }, OnUnknown::Retry) => {
                return match self.ending.is_some() && !self.undoing {
                    // Nothing starts any more: the next runner asks once more.
                    true => self.leave_roll_back(target, out),
                    false => self.roll_back_anew(target, out),
                };
            }
            (Probed::Succeeded, _) => (Ending::Succeeded, String::new()),
            (Probed::Failed { detail }, _) | (Probed::Unknown { detail }, OnUnknown::Fail) => (Ending::Failed, detail),
            (Probed::Unknown { detail }, OnUnknown::Hold) => (Ending::Unknown, detail),
            (Probed::Running | Probed::Unreachable { .. }, _) => (Ending::Unknown, String::new()),
        };
        self.moved(target, TargetEvent::RollBackStarted);
        let status = self.rolled_back_status(target, ending, detail.clone());
        self.moved(target, TargetEvent::Ended(ending));
        match ending {
            Ending::Succeeded => {
                let why = self.slots[target].undone_for.clone();
                self.happened(now_ms, target, EventKind::RolledBack, &why);
                let (target, had) = (self.name(target), status.had());
                out.push(Action::Emit(Event::RolledBack { target, took_ms: 0, had }));
            }
            _ => self.happened(now_ms, target, EventKind::Failed, &detail),
        }
        self.slots[target].detail = status.reason().unwrap_or_default().to_owned();
        out.push(Action::Release { target, status });
    }

    /// The policy says what follows, as after any action.
    fn found_ended(&mut self, target: usize, ending: Ending) {
        let attempt = self.slots[target].attempt;
        self.acted(target, Outcome { ending, exit_code: None, took: 0, attempt });
    }

    fn acted(&mut self, target: usize, outcome: Outcome) {
        self.moved(target, TargetEvent::Ended(outcome.ending));
        let slot = &mut self.slots[target];
        slot.without_slot = slot.lease.is_none();
        self.to_settle.push_back((target, outcome));
    }

    /// The run ends before anybody knows: the next runner asks again.
    pub(super) fn leave_undecided(&mut self, target: usize, out: &mut Vec<Action>) {
        // Its slot is being given back already, with what its node is to say.
        if self.slots[target].leaving.is_some() {
            return;
        }
        let found = self.slots[target].found.take();
        let command_kind = found.as_ref().map(|found| found.command_kind);
        match found.and_then(|found| found.seen) {
            // The next runner goes on from what was seen.
            Some(seen @ RecordedStatus::ActionEnded { ending, .. }) => {
                self.moved(target, TargetEvent::Ended(ending));
                out.push(Action::Release { target, status: seen });
            }
            Some(RecordedStatus::RollBackEnded { becomes }) => {
                self.roll_back_was_seen(target, &becomes);
                out.push(Action::Release { target, status: *becomes });
            }
            _ if command_kind == Some(CommandKind::RollBack) => self.leave_roll_back(target, out),
            _ => {
                self.slots[target].undecided = true;
                self.moved(target, TargetEvent::Ended(Ending::Unknown));
                out.push(self.release(target));
            }
        }
    }

    fn leave_roll_back(&mut self, target: usize, out: &mut Vec<Action>) {
        let status = self.rolling_back_status(target);
        self.moved(target, TargetEvent::RollBackStarted);
        self.moved(target, TargetEvent::Ended(Ending::Unknown));
        out.push(Action::Release { target, status });
    }

    /// It goes again when its turn comes. Said as a release whether its lease is there or lost: by the answer everything
    /// is written, and nobody else writes about it when it queues next.
    pub(super) fn reopen(&mut self, target: usize, out: &mut Vec<Action>) {
        self.slots[target].leaving = Some(Then::Wait);
        out.push(Action::Release { target, status: RecordedStatus::Pending });
    }
}
