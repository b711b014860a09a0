//! What a decision rested on, to be changed bit by bit.

use crate::audit::explain::format::of;
use crate::policy::types::{Event, EventKind, Lease, Member, Party, Semaphore, View};
use crate::rollout::model::{Facts, HardLimits, WaveGate, WaveSpent};

/// The world as a decision saw it: the policy's view, and what the hard limits are checked against.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) view: View,
    pub(super) facts: Facts,
    pub(super) limits: HardLimits,
}

/// Which of the facts is changed. Their order is that in which a person would think of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Knob {
    /// More members of the party.
    Members,
    /// Fewer leases: the oldest go first.
    Leases,
    /// Fewer targets of this run that are under way without a lease: they queue.
    UnderWay,
    /// The store hears the run.
    Store,
    /// Nobody has paused the run.
    Paused,
    /// It is known how it went on a target that holds up the others.
    Unknown,
    /// No other holder acts under the target's name.
    Held,
    /// It is the turn of the target's wave.
    Wave,
    /// Later.
    Time,
    /// Fewer failures.
    Failures,
    /// Fewer leases of another semaphore, by its number.
    OtherLeases(usize),
    /// More members of another party, by its number.
    OtherMembers(usize),
    /// It has been waiting for longer.
    Waited,
    /// Another try.
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

/// Something else than what was: a knob, and how far it is turned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) knob: Knob,
    /// How many more or fewer; of time, milliseconds.
    pub(super) by: u64,
}

impl Change {
    /// The world with this change, and what is different in it, as it follows `would go if`; none: nothing there to change.
    pub(super) fn apply(self, world: &mut World, spare: &[String]) -> Option<String> {
        let by = usize::try_from(self.by).ok()?;
        let less = u32::try_from(self.by).ok()?;
        match self.knob {
            Knob::Members => more_members(world, by, spare),
            Knob::Leases => fewer_leases(world, by),
            Knob::UnderWay => {
                let before = world.facts.in_flight;
                world.facts.in_flight = before.checked_sub(less)?;
                world.facts.reserved = world.facts.reserved.saturating_sub(less);
                let after = match before - less {
                    0 => "no other target".to_owned(),
                    after => of(after as usize, "other target"),
                };
                let are = if before == 1 { "is" } else { "are" };
                Some(format!("{after} of this run were under way; {before} {are}, those that queue among them"))
            }
            Knob::Store => {
                let heard = std::mem::replace(&mut world.facts.connected, true);
                (!heard).then(|| "the store heard the run".to_owned())
            }
            Knob::Paused => {
                let request = world.facts.paused.take()?;
                Some(format!("the run were not paused; {} paused it", request.by))
            }
            Knob::Unknown => {
                let target = world.facts.unknown.take()?;
                Some(format!("{target} were retried, or accepted as it is: nobody knows how it went there"))
            }
            Knob::Held => {
                let by = world.facts.held.take()?;
                Some(format!("the lease under its name were released; it belongs to {}", by.by))
            }
            Knob::Wave => Some(match world.facts.wave.take()? {
                WaveGate::Earlier { wave, done, of } => {
                    format!("wave `{wave}` were complete; {done} of {of} are done with")
                }
                WaveGate::Baking { wave, until } => {
                    let until = super::format::moment(until, world.view.now);
                    format!("wave `{wave}` had baked; it bakes until {until}")
                }
                WaveGate::Approval { wave } => format!("somebody had approved of wave `{wave}`; nobody has"),
                WaveGate::Full { wave, slots } => {
                    format!("fewer of wave `{wave}` were under way; it allows {slots} at once")
                }
            }),
            Knob::Time => pass_time(world, self.by),
            Knob::Failures => fewer_failures(world, less),
            Knob::OtherLeases(at) => {
                let Semaphore { path, leases, .. } = world.view.other_semaphores.get_mut(at)?;
                let before = leases.len();
                leases.drain(..by.min(before));
                (by <= before).then(|| format!("`{path}` had {}; it has {before}", of(before - by, "holder")))
            }
            Knob::OtherMembers(at) => {
                let Party { path, members, .. } = world.view.other_parties.get_mut(at)?;
                let before = members.len();
                join(members, (1..=by).map(|number| format!("member-{number}")), world.view.now);
                Some(format!("the party `{path}` had {}; it has {before}", of(before + by, "member")))
            }
            Knob::Waited => {
                let since = &mut world.view.target.waiting_since;
                let waited = world.view.now.saturating_sub(*since);
                *since = since.checked_sub(self.by)?;
                let (would, is) = (super::format::span(waited + self.by), super::format::span(waited));
                Some(format!("it had been waiting for {would}; it had for {is}"))
            }
            Knob::Attempt => {
                let attempt = &mut world.view.target.attempt;
                let before = std::mem::replace(attempt, less);
                (before != less).then(|| format!("this were try {less}; it is try {before}"))
            }
            Knob::Slots => {
                let before = world.view.semaphore.slots;
                world.view.semaphore.slots = before.checked_add(less)?;
                world.limits.slots = world.limits.slots.checked_add(less)?;
                Some(format!(
                    "`{}` had {}; it has {before}",
                    world.view.semaphore.path,
                    of((before + less) as usize, "slot")
                ))
            }
            Knob::Floor => {
                let before = world.limits.floor?;
                let after = before.checked_sub(less)?;
                world.limits.floor = Some(after);
                if let Some(party) = &mut world.view.party {
                    party.min_members = after;
                }
                Some(format!("the job's floor were {after}; it is {before}"))
            }
            Knob::WaveStopAt => {
                let WaveSpent { wave, failed, stop_at: before } = world.facts.wave_spent.take()?;
                let stop_at = before.checked_add(less)?;
                let said = format!("the `stop-at` of wave `{wave}` were {stop_at}; it is {before}");
                world.facts.wave_spent = (failed >= stop_at).then_some(WaveSpent { wave, failed, stop_at });
                Some(said)
            }
            Knob::StopAt => {
                let before = world.limits.budget.stop_at?;
                let after = before.checked_add(less)?;
                world.limits.budget.stop_at = Some(after);
                budget_left(world);
                Some(format!("the job's `stop-at` were {after}; it is {before}"))
            }
            Knob::MaxFailed => {
                let before = world.limits.budget.max_failed?;
                let after = before.checked_add(less)?;
                world.limits.budget.max_failed = Some(after);
                budget_left(world);
                Some(format!("the job's `max-failed` were {after}; it is {before}"))
            }
        }
    }
}

/// As if so many milliseconds had passed, and nothing else had happened.
fn pass_time(world: &mut World, by: u64) -> Option<String> {
    world.view.now = world.view.now.checked_add(by)?;
    world.facts.now_ms = world.facts.now_ms.checked_add(by)?;
    if matches!(&world.facts.wave, Some(WaveGate::Baking { until, .. }) if *until <= world.facts.now_ms) {
        world.facts.wave = None;
    }
    world.view.cause = crate::policy::types::Cause::Woken;
    Some(format!("it were {}", super::format::moment(world.view.now, world.view.now - by)))
}

/// Members that are missing come first; the run knows no others by name.
fn more_members(world: &mut World, by: usize, spare: &[String]) -> Option<String> {
    let View { party, semaphore, target, now, .. } = &mut world.view;
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
    world.facts.remaining = world.facts.remaining.map(|remaining| remaining.saturating_add(by as u32));
    Some(format!("the party had {}; it has {before}", of(before + by, "member")))
}

fn join(members: &mut Vec<Member>, names: impl Iterator<Item = String>, since: u64) {
    members.extend(names.map(|identifier| Member { identifier, since }));
    members.sort_by(|one, other| one.identifier.cmp(&other.identifier));
}

/// Those of this run go as they do when their target is done.
fn fewer_leases(world: &mut World, by: usize) -> Option<String> {
    let held = world.view.semaphore.leases.len();
    let slots = world.view.semaphore.slots;
    if by == 0 || by > held {
        return None;
    }
    let mut oldest: Vec<u64> = world.view.semaphore.leases.iter().map(|lease| lease.fence).collect();
    oldest.sort_by_key(|fence| world.view.semaphore.leases.iter().find(|lease| lease.fence == *fence).map(|l| l.since));
    oldest.truncate(by);
    let gone: Vec<Lease> = world.view.semaphore.leases.extract_if(.., |lease| oldest.contains(&lease.fence)).collect();
    for lease in gone.iter().filter(|lease| lease.mine) {
        let progress = &mut world.view.progress;
        progress.running = progress.running.saturating_sub(1);
        progress.succeeded += 1;
        let facts = &mut world.facts;
        facts.in_flight = facts.in_flight.saturating_sub(1);
        facts.reserved = facts.reserved.saturating_sub(1);
        let members = world.view.party.iter().flat_map(|party| &party.members);
        let back = members.filter(|member| member.identifier == lease.identifier).count() as u32;
        facts.remaining = facts.remaining.map(|remaining| remaining.saturating_add(back));
        for what in [EventKind::Succeeded, EventKind::Released] {
            let (at, target) = (world.view.now, lease.identifier.clone());
            world.view.events.push(Event { at, target, kind: what, detail: String::new() });
        }
    }
    budget_left(world);
    let who: Vec<String> = gone.iter().map(|lease| lease.identifier.clone()).collect();
    let who = super::format::named(&who);
    let done = if gone.iter().all(|lease| lease.mine) { "were done and had given" } else { "had given" };
    let back = if by == 1 { "its slot back" } else { "their slots back" };
    Some(format!("{who} {done} {back}: {} of {slots} held, not {held}", held - by))
}

fn fewer_failures(world: &mut World, by: u32) -> Option<String> {
    let before = world.facts.failed;
    if by == 0 || by > before {
        return None;
    }
    world.facts.failed -= by;
    // Those of the wave first that has reached its own limit.
    let wave = world.facts.wave_spent.take();
    let (before, of_wave) = match &wave {
        Some(wave) if !world.limits.budget.is_spent(before) => (wave.failed, format!(" of wave `{}`", wave.wave)),
        _ => (before, String::new()),
    };
    world.facts.wave_spent = wave.and_then(|wave| {
        let failed = wave.failed.saturating_sub(by);
        (failed >= wave.stop_at).then_some(WaveSpent { failed, ..wave })
    });
    if by > before {
        return None;
    }
    let progress = &mut world.view.progress;
    let failed = by.min(progress.failed);
    progress.failed -= failed;
    progress.unknown = progress.unknown.saturating_sub(by - failed);
    progress.succeeded += by;
    budget_left(world);
    let have = if before == 1 { "has" } else { "have" };
    let had = if before == by { "no target".to_owned() } else { of((before - by) as usize, "target") };
    Some(format!("{had}{of_wave} had failed; {before} {have}"))
}

/// What the view says is left, where it says so at all.
fn budget_left(world: &mut World) {
    let progress = &mut world.view.progress;
    if progress.budget_left.is_some() {
        progress.budget_left = world.limits.budget.left(world.facts.failed, progress.running);
    }
}
