//! One recorded decision with everything that it depended on.

use crate::audit::explain::format::{moment, named, of, span};
use crate::audit::explain::trail::{JournalPosition, Trail, TrailStatus};
use crate::audit::history::{History, HistoryError, Page, Want};
use crate::policy::types::{Ending, Lease, Semaphore, View};
use crate::rollout::journal::Segments;
use crate::rollout::journal::{Header, RecordedDecision};
use crate::rollout::model::{Budget, Facts, HardLimits, HeldElsewhere};

/// A decision about whether a target may start, complete enough to be repeated.
#[derive(Debug, Clone)]
pub struct Case {
    /// The first line of its runner epoch's journal.
    pub header: Header,
    /// The question and the answer.
    pub recorded: RecordedDecision,
    /// The policy's memory before the decision.
    pub memory: Vec<u8>,
    /// The facts that the limits were checked against, or would have been.
    pub facts: Facts,
    /// The job's hard limits.
    pub limits: HardLimits,
}

impl Case {
    /// Reads a run up to a decision. `None` if the decision is no longer there.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub fn find(segments: &Segments, position: JournalPosition) -> Result<Option<Self>, HistoryError> {
        let mut history = History::new(segments.clone(), Want::Everything);
        let (mut trail, mut memory) = (None::<Trail>, Vec::new());
        while let Some(page) = history.page()? {
            match (&page, &mut trail) {
                (Page::Segment(header), trail) => {
                    memory.clone_from(&header.memory);
                    trail.get_or_insert_with(|| Trail::new(header));
                }
                (Page::Decision(recorded), Some(trail)) => {
                    if trail.header.runner_epoch == position.runner_epoch && recorded.line == position.line {
                        let facts = facts(trail, recorded);
                        let header = trail.header.clone();
                        let limits = header.limits.limits();
                        return Ok(Some(Self { header, recorded: (*recorded).clone(), memory, facts, limits }));
                    }
                    if let Some(left) = &recorded.memory {
                        memory.clone_from(left);
                    }
                }
                _ => {}
            }
            if let Some(trail) = &mut trail {
                trail.follow(&page);
            }
        }
        Ok(None)
    }

    /// Replaces the facts with those that were recorded when a limit refused; they are more complete.
    #[must_use]
    pub fn refused_with(mut self, facts: Option<Facts>) -> Self {
        if let Some(facts) = facts {
            self.facts = Facts { now_ms: self.recorded.view.now, ..facts };
        }
        self
    }
}

/// The facts that the limits are checked against before a target queues, as far as the journal has them.
fn facts(trail: &Trail, recorded: &RecordedDecision) -> Facts {
    let View { now, party, progress, target, semaphore, .. } = &recorded.view;
    let listed = |name: &str| {
        let members = party.iter().flat_map(|party| &party.members);
        count(members.filter(|member| member.identifier == name).count())
    };
    let (mut in_flight, mut reserved, mut leaving) = (0, 0, listed(&target.name));
    let others = trail.targets().filter(|(name, entry)| *name != target.name && entry.status.is_in_flight());
    for (name, entry) in others {
        in_flight += 1;
        let succeeded = entry.ended.as_ref().is_some_and(|ended| ended.ending == Ending::Succeeded);
        reserved += u32::from(entry.status != TrailStatus::ActionEnded || !succeeded);
        leaving += listed(name);
    }
    Facts {
        held: semaphore
            .leases
            .iter()
            .find(|lease| !lease.mine && lease.identifier == target.name)
            .map(|lease| HeldElsewhere { by: format!("a lease of `{}`", lease.identifier), since: Some(lease.since) }),
        in_flight,
        reserved,
        failed: (progress.failed + progress.unknown + progress.rolled_back).saturating_sub(count(trail.accepted())),
        strangers: None,
        remaining: party.as_ref().map(|party| count(party.members.len()).saturating_sub(leaving)),
        connected: trail.disconnected.is_none(),
        now_ms: *now,
        usual_ms: trail.longest_ms.or(trail.header.limits.usual_ms),
        paused: None,
        unknown: None,
        wave_spent: trail.wave_spent(),
        wave: None,
    }
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// The facts that a decision depended on, one line each.
#[must_use]
pub fn facts_of(case: &Case, now_ms: u64) -> Vec<String> {
    let view = &case.recorded.view;
    let mut lines = vec![semaphore(&view.semaphore, now_ms)];
    let mine = view.semaphore.leases.iter().filter(|lease| lease.mine).count();
    if let queueing @ 1.. = (case.facts.in_flight as usize).saturating_sub(mine) {
        lines.push(format!("{} of this run queued for a slot", of(queueing, "target")));
    }
    if let Some(party) = &view.party {
        let floor = case.limits.floor.unwrap_or(party.min_members);
        let names: Vec<String> = party.members.iter().map(|member| member.identifier.clone()).collect();
        lines.push(format!(
            "party `{}` has {}, its floor is {floor}; {} would remain while this target is running: {}",
            party.path,
            of(party.members.len(), "member"),
            case.facts.remaining.unwrap_or(0),
            if names.is_empty() { "no member".to_owned() } else { named(&names) }
        ));
    }
    let progress = &view.progress;
    let mut parts = vec![format!("{} of {} succeeded", progress.succeeded, of(progress.total as usize, "target"))];
    for (number, what) in [
        (progress.running, "running"),
        (progress.failed, "failed"),
        (progress.rolled_back, "rolled back"),
        (progress.unknown, "unknown"),
        (progress.skipped, "skipped"),
        (progress.pending + progress.waiting, "not started"),
    ] {
        if number > 0 {
            parts.push(format!("{number} {what}"));
        }
    }
    lines.push(parts.join(", "));
    if let (Some(stop_at), Some(left)) = (case.limits.budget.stop_at(), progress.budget_left) {
        let reserved = match progress.running {
            0 => String::new(),
            running => format!(" while {running} running targets may fail"),
        };
        lines.push(match case.limits.budget {
            Budget { max_failed: None, .. } => format!("nothing new starts once {stop_at} failed: {left} left"),
            Budget { max_failed: Some(max), stop_at: None } => {
                format!("the failure budget is {max}: {left} left{reserved}")
            }
            Budget { max_failed: Some(max), stop_at: Some(_) } => {
                format!(
                    "the failure budget is {max}, and nothing new starts once {stop_at} failed: {left} left{reserved}"
                )
            }
        });
    }
    if !view.target.wave.is_empty() {
        lines.push(format!("wave `{}`", view.target.wave));
    }
    let waited = view.now.saturating_sub(view.target.waiting_since);
    lines.push(format!("attempt {}, after waiting for {}", view.target.attempt, span(waited / 1000 * 1000)));
    for other in &view.other_semaphores {
        lines.push(format!("observed: {}", semaphore(other, now_ms)));
    }
    for other in &view.other_parties {
        lines.push(format!("observed: party `{}` has {}", other.path, of(other.members.len(), "member")));
    }
    lines
}

fn semaphore(semaphore: &Semaphore, now_ms: u64) -> String {
    let Semaphore { path, slots, leases, queued } = semaphore;
    let holder = |lease: &Lease| {
        let whose = if lease.mine { "" } else { ", not of this run" };
        let dead = if lease.alive == Some(false) { ", not in the party" } else { "" };
        format!("{} since {}{whose}{dead}", lease.identifier, moment(lease.since, now_ms))
    };
    let mut line = format!("{} of {} of `{path}` held", leases.len(), of(*slots as usize, "slot"));
    if !leases.is_empty() {
        let holders: Vec<String> = leases.iter().map(holder).collect();
        line.push_str(&format!(": {}", named(&holders)));
    }
    if *queued > 0 {
        line.push_str(&format!("; {queued} in the queue"));
    }
    line
}
