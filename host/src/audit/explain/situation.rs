//! The facts of a decision, and how each can be changed step by step.

use crate::audit::explain::format::of;
use crate::policy::types::{Event, EventKind, Lease, Member, Party, Semaphore, View};
use crate::rollout::model::{Facts, HardLimits, WaveGate, WaveSpent};

/// The facts of a decision: the policy's view, and what the hard limits are checked against.
#[derive(Debug, Clone)]
pub(super) struct Situation {
    pub(super) view: View,
    pub(super) facts: Facts,
    pub(super) limits: HardLimits,
}

/// A fact that can be changed, in the order in which people think of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fact {
    /// More members of the party.
    Members,
    /// Fewer leases, oldest first.
    Leases,
    /// Fewer targets of this run in flight without a lease: they queue.
    Queued,
    /// The run has contact with the store.
    Store,
    /// The run is not paused.
    Paused,
    /// The outcome on a target that holds the run is known.
    Unknown,
    /// No other holder uses the target's name.
    Held,
    /// The target's wave has started.
    Wave,
    /// A later time.
    Time,
    /// Fewer failures.
    Failures,
    /// Fewer leases of another semaphore, by its index.
    OtherLeases(usize),
    /// More members of another party, by its index.
    OtherMembers(usize),
    /// A longer wait.
    Waited,
    /// Another attempt.
    Attempt,
    /// More slots.
    Slots,
    /// A lower floor.
    Floor,
    /// A larger `stop-at` of the wave that has reached it.
    WaveStopAt,
    /// A larger `stop-at`.
    StopAt,
    /// A larger `max-failed`.
    MaxFailed,
}

/// A change of one fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) fact: Fact,
    /// By how much; milliseconds for times.
    pub(super) by: u64,
}

impl Change {
    /// Applies the change and describes it as a clause that follows "if". `None` if there is nothing to change.
    pub(super) fn apply(self, situation: &mut Situation, spare: &[String]) -> Option<String> {
        let by = usize::try_from(self.by).ok()?;
        let less = u32::try_from(self.by).ok()?;
        match self.fact {
            Fact::Members => more_members(situation, by, spare),
            Fact::Leases => fewer_leases(situation, by),
            Fact::Queued => {
                let before = situation.facts.in_flight;
                situation.facts.in_flight = before.checked_sub(less)?;
                situation.facts.reserved = situation.facts.reserved.saturating_sub(less);
                let after = match before - less {
                    0 => "no other target".to_owned(),
                    after => of(after as usize, "other target"),
                };
                let are = if before == 1 { "is" } else { "are" };
                Some(format!("{after} of this run was in flight; {before} {are}, including queued ones"))
            }
            Fact::Store => {
                let was_connected = std::mem::replace(&mut situation.facts.connected, true);
                (!was_connected).then(|| "the run had contact with the store".to_owned())
            }
            Fact::Paused => {
                let request = situation.facts.paused.take()?;
                Some(format!("the run was not paused; {} paused it", request.by))
            }
            Fact::Unknown => {
                let target = situation.facts.unknown.take()?;
                Some(format!("{target} was retried or accepted; its outcome is unknown"))
            }
            Fact::Held => {
                let by = situation.facts.held.take()?;
                Some(format!("the lease under its name was released; it belongs to {}", by.by))
            }
            Fact::Wave => Some(match situation.facts.wave.take()? {
                WaveGate::Earlier { wave, done, of } => {
                    format!("wave `{wave}` was complete; {done} of {of} targets are final")
                }
                WaveGate::Baking { wave, until } => {
                    let until = super::format::moment(until, situation.view.now);
                    format!("wave `{wave}` had baked; it bakes until {until}")
                }
                WaveGate::Approval { wave } => format!("wave `{wave}` was approved; it needs approval"),
                WaveGate::Full { wave, slots } => {
                    format!("fewer targets of wave `{wave}` were in flight; it allows {slots} at once")
                }
            }),
            Fact::Time => pass_time(situation, self.by),
            Fact::Failures => fewer_failures(situation, less),
            Fact::OtherLeases(at) => {
                let Semaphore { path, leases, .. } = situation.view.other_semaphores.get_mut(at)?;
                let before = leases.len();
                leases.drain(..by.min(before));
                (by <= before).then(|| format!("`{path}` had {}; it has {before}", of(before - by, "holder")))
            }
            Fact::OtherMembers(at) => {
                let Party { path, members, .. } = situation.view.other_parties.get_mut(at)?;
                let before = members.len();
                join(members, (1..=by).map(|number| format!("member-{number}")), situation.view.now);
                Some(format!("the party `{path}` had {}; it has {before}", of(before + by, "member")))
            }
            Fact::Waited => {
                let since = &mut situation.view.target.waiting_since;
                let waited = situation.view.now.saturating_sub(*since);
                *since = since.checked_sub(self.by)?;
                let (would, is) = (super::format::span(waited + self.by), super::format::span(waited));
                Some(format!("it had waited for {would}; it has waited for {is}"))
            }
            Fact::Attempt => {
                let attempt = &mut situation.view.target.attempt;
                let before = std::mem::replace(attempt, less);
                (before != less).then(|| format!("this was attempt {less}; it is attempt {before}"))
            }
            Fact::Slots => {
                let before = situation.view.semaphore.slots;
                situation.view.semaphore.slots = before.checked_add(less)?;
                situation.limits.slots = situation.limits.slots.checked_add(less)?;
                Some(format!(
                    "`{}` had {}; it has {before}",
                    situation.view.semaphore.path,
                    of((before + less) as usize, "slot")
                ))
            }
            Fact::Floor => {
                let before = situation.limits.floor?;
                let after = before.checked_sub(less)?;
                situation.limits.floor = Some(after);
                if let Some(party) = &mut situation.view.party {
                    party.min_members = after;
                }
                Some(format!("the job's floor was {after}; it is {before}"))
            }
            Fact::WaveStopAt => {
                let WaveSpent { wave, failed, stop_at: before } = situation.facts.wave_spent.take()?;
                let stop_at = before.checked_add(less)?;
                let text = format!("the `stop-at` of wave `{wave}` was {stop_at}; it is {before}");
                situation.facts.wave_spent = (failed >= stop_at).then_some(WaveSpent { wave, failed, stop_at });
                Some(text)
            }
            Fact::StopAt => {
                let before = situation.limits.budget.stop_at?;
                let after = before.checked_add(less)?;
                situation.limits.budget.stop_at = Some(after);
                budget_left(situation);
                Some(format!("the job's `stop-at` was {after}; it is {before}"))
            }
            Fact::MaxFailed => {
                let before = situation.limits.budget.max_failed?;
                let after = before.checked_add(less)?;
                situation.limits.budget.max_failed = Some(after);
                budget_left(situation);
                Some(format!("the job's `max-failed` was {after}; it is {before}"))
            }
        }
    }
}

/// Lets time pass while nothing else happens.
fn pass_time(situation: &mut Situation, by: u64) -> Option<String> {
    situation.view.now = situation.view.now.checked_add(by)?;
    situation.facts.now_ms = situation.facts.now_ms.checked_add(by)?;
    if matches!(&situation.facts.wave, Some(WaveGate::Baking { until, .. }) if *until <= situation.facts.now_ms) {
        situation.facts.wave = None;
    }
    situation.view.cause = crate::policy::types::Cause::Woken;
    Some(format!("it was {}", super::format::moment(situation.view.now, situation.view.now - by)))
}

/// Missing members come first; the run knows no others by name.
fn more_members(situation: &mut Situation, by: usize, spare: &[String]) -> Option<String> {
    let View { party, semaphore, target, now, .. } = &mut situation.view;
    let party = party.as_mut()?;
    let before = party.members.len();
    let is_new = |name: &&String| {
        **name != target.name
            && party.members.iter().all(|member| member.identifier != **name)
            && semaphore.leases.iter().all(|lease| lease.identifier != **name)
    };
    let known: Vec<String> = spare.iter().filter(is_new).take(by).cloned().collect();
    let unknown = (1..=by - known.len()).map(|number| format!("member-{number}"));
    join(&mut party.members, known.iter().cloned().chain(unknown), *now);
    situation.facts.remaining = situation.facts.remaining.map(|remaining| remaining.saturating_add(by as u32));
    Some(format!("the party had {}; it has {before}", of(before + by, "member")))
}

fn join(members: &mut Vec<Member>, names: impl Iterator<Item = String>, since: u64) {
    members.extend(names.map(|identifier| Member { identifier, since }));
    members.sort_by(|one, other| one.identifier.cmp(&other.identifier));
}

/// Leases of this run are released as if their targets had succeeded.
fn fewer_leases(situation: &mut Situation, by: usize) -> Option<String> {
    let held = situation.view.semaphore.leases.len();
    let slots = situation.view.semaphore.slots;
    if by == 0 || by > held {
        return None;
    }
    let mut oldest: Vec<u64> = situation.view.semaphore.leases.iter().map(|lease| lease.fence).collect();
    oldest.sort_by_key(|fence| {
        situation.view.semaphore.leases.iter().find(|lease| lease.fence == *fence).map(|l| l.since)
    });
    oldest.truncate(by);
    let gone: Vec<Lease> =
        situation.view.semaphore.leases.extract_if(.., |lease| oldest.contains(&lease.fence)).collect();
    for lease in gone.iter().filter(|lease| lease.mine) {
        let progress = &mut situation.view.progress;
        progress.running = progress.running.saturating_sub(1);
        progress.succeeded += 1;
        let facts = &mut situation.facts;
        facts.in_flight = facts.in_flight.saturating_sub(1);
        facts.reserved = facts.reserved.saturating_sub(1);
        let members = situation.view.party.iter().flat_map(|party| &party.members);
        let back = members.filter(|member| member.identifier == lease.identifier).count() as u32;
        facts.remaining = facts.remaining.map(|remaining| remaining.saturating_add(back));
        for what in [EventKind::Succeeded, EventKind::Released] {
            let (at, target) = (situation.view.now, lease.identifier.clone());
            situation.view.events.push(Event { at, target, kind: what, detail: String::new() });
        }
    }
    budget_left(situation);
    let who: Vec<String> = gone.iter().map(|lease| lease.identifier.clone()).collect();
    let who = super::format::named(&who);
    let done = if gone.iter().all(|lease| lease.mine) { "had finished and released" } else { "had released" };
    let back = if by == 1 { "its slot" } else { "their slots" };
    Some(format!("{who} {done} {back}: {} of {slots} held, not {held}", held - by))
}

fn fewer_failures(situation: &mut Situation, by: u32) -> Option<String> {
    let before = situation.facts.failed;
    if by == 0 || by > before {
        return None;
    }
    situation.facts.failed -= by;
    // Failures of the wave come first if it has reached its own limit.
    let wave = situation.facts.wave_spent.take();
    let (before, of_wave) = match &wave {
        Some(wave) if !situation.limits.budget.is_spent(before) => (wave.failed, format!(" of wave `{}`", wave.wave)),
        _ => (before, String::new()),
    };
    situation.facts.wave_spent = wave.and_then(|wave| {
        let failed = wave.failed.saturating_sub(by);
        (failed >= wave.stop_at).then_some(WaveSpent { failed, ..wave })
    });
    if by > before {
        return None;
    }
    let progress = &mut situation.view.progress;
    let failed = by.min(progress.failed);
    progress.failed -= failed;
    progress.unknown = progress.unknown.saturating_sub(by - failed);
    progress.succeeded += by;
    budget_left(situation);
    let have = if before == 1 { "has" } else { "have" };
    let had = if before == by { "no target".to_owned() } else { of((before - by) as usize, "target") };
    Some(format!("{had}{of_wave} had failed; {before} {have}"))
}

/// Updates the view's remaining budget, if it has one.
fn budget_left(situation: &mut Situation) {
    let progress = &mut situation.view.progress;
    if progress.budget_left.is_some() {
        progress.budget_left = situation.limits.budget.left(situation.facts.failed, progress.running);
    }
}
