//! The slots: the queue, the leases and the number of slots.
//!
//! Between any two requests of a caller anything may come from the others. A read shows any state of the store from the last
//! that its caller saw to the newest, because a caller may be connected to a server that is behind. At any step a caller may
//! lose its session or give up, and its nodes go.
//!
//! Three callers follow the rules: `Reread` looks again after every change, `Count` counts the deletions of the leases that
//! it saw, and `Kazoo` does what kazoo's recipe does. `TakeOver` breaks a lease and marks it first. They never exceed the
//! slots, in any mixture. Others are known to be wrong, each by one slip, and the search finds that out for each.
//!
//! The number of slots is the data of the semaphore's path, and it may change. A caller knows a number and its version: from
//! an earlier acquisition at first, and by reading it again, before queue and pool, once it is told that it has changed. The
//! transaction that creates the lease checks the version. So no caller of Lockkeeper's is granted a lease while as many are
//! there as the number that is in force, or more. kazoo knows the number that was in force when its object was made: its
//! grants are held to the number as long as that has not changed since.

use std::fmt;
use std::hash::{Hash, Hasher};

use crate::search::{Model, Stuck, fails, holds, mixtures};

/// What a caller does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Reads the queue, then the pool, and takes a slot if `leases + rank < slots`; else reads again.
    Reread,
    /// As `Reread`; with no room it watches the leases that it saw and goes when enough of them were deleted.
    Count,
    /// As `Count`, and never releases.
    Keep,
    /// kazoo: only the head of the queue reads the pool; it creates its lease and leaves the queue after that.
    Kazoo,
    /// Deletes somebody's lease and creates its own, with a mark on the victim before.
    TakeOver,
    /// Changes the number of slots to this one, in the version that it read.
    Resize(u8),
    /// As `Count`, and wants this number of slots: writes it where there is none, in the version that it read; refuses another.
    First(u8),
    /// Deletes the path once no lease is there, and makes it anew with this number of slots.
    Remake(u8),
    /// Wrong: reads the pool before the queue.
    PoolFirst,
    /// Wrong: leaves the queue, and then creates its lease.
    TwoSteps,
    /// Wrong beside `Count`: takes over without a mark.
    Unmarked,
    /// Wrong: counts a lease that it found gone when it set its watch as one deletion more.
    Hasty,
    /// Wrong: as `Count`, and does not check the version of the number.
    Unchecked,
    /// Wrong: as `Count`, and when the number changes it reads that and goes on counting.
    CountsOn,
    /// Wrong: as `Reread`, and reads the number after queue and pool.
    NumberLast,
    /// Wrong: as `Count`, and does not watch the number.
    Unwatched,
    /// Wrong: as `First`, and writes its number whatever is there now.
    Overwrites(u8),
}

use Kind::{
    Count, CountsOn, First, Hasty, Kazoo, Keep, NumberLast, Overwrites, PoolFirst, Remake, Reread, Resize, TakeOver,
    TwoSteps, Unchecked, Unmarked, Unwatched,
};

/// A set of callers, a bit each.
type Set = u8;

/// The store at one moment. A caller has at most one entry and one lease, which go by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Moment {
    queue: Set,
    leases: Set,
    /// Leases that this change marked before it deleted them: a watch on one sees the mark.
    marked: Set,
    number: Number,
}

/// The number of slots; 0 if the path is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Number {
    slots: u8,
    version: u8,
}

/// The queue and the pool, as a caller read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct View {
    rank: u8,
    /// The entry just ahead.
    ahead: Set,
    leases: Set,
}

/// What watches on leases have told.
struct Told {
    /// The leases that were deleted.
    gone: Set,
    /// Whether one of them was marked before.
    is_marked: bool,
}

/// Where a caller stands. `seen` is the newest moment that it saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Step {
    Start,
    /// `First`: about to write its number in this version.
    WriteNumber {
        version: u8,
    },
    Enter,
    ReadNumber {
        seen: u8,
    },
    ReadQueue {
        seen: u8,
    },
    ReadPool {
        seen: u8,
        rank: u8,
        ahead: Set,
    },
    /// `PoolFirst`: has the number of leases, wants its rank.
    ReadQueueSecond {
        seen: u8,
        leases: u8,
    },
    /// `NumberLast`: has queue and pool, wants the number.
    ReadNumberLast {
        seen: u8,
        view: View,
    },
    /// Sets watches one after the other; `left` are not set yet.
    SetWatches {
        seen: u8,
        need: u8,
        leases: Set,
        ahead: Set,
        left: Set,
    },
    Watching {
        seen: u8,
        need: u8,
        leases: Set,
        ahead: Set,
    },
    Convert,
    /// `TwoSteps`: has left the queue.
    CreateLate,
    /// `Kazoo`, with its place in the queue.
    Line {
        seen: u8,
    },
    Head {
        seen: u8,
    },
    Create,
    Leave,
    Held,
    Done,
}

/// Everything: the store's moments from the oldest that somebody may still read, and the callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct World {
    moments: [Moment; MOMENTS],
    newest: u8,
    /// Callers in the order of their queue numbers.
    order: [u8; CALLERS],
    /// The number as each caller knows it.
    known: [Number; CALLERS],
    steps: [Step; CALLERS],
    /// Whether a lease was granted while as many were there as the number in force, or more.
    is_exceeded: bool,
}

const CALLERS: usize = 4;
/// No run has more changes than that still to be read: four callers, at most four changes each.
const MOMENTS: usize = 4 * CALLERS + 1;
const NOBODY: u8 = u8::MAX;

/// What is searched.
#[derive(Debug, Clone)]
struct Search {
    kinds: Vec<Kind>,
    /// The number of slots at first; 0 if the path is empty.
    slots: u8,
    /// Whether sessions end and callers give up, and whether a waiter looks again without having been told to.
    faults: bool,
}

impl World {
    fn start(slots: u8) -> Self {
        let number = Number { slots, version: 0 };
        let mut moments = [Moment::default(); MOMENTS];
        moments[0].number = number;
        Self {
            moments,
            newest: 0,
            order: [NOBODY; CALLERS],
            known: [number; CALLERS],
            steps: [Step::Start; CALLERS],
            is_exceeded: false,
        }
    }

    fn now(&self) -> Moment {
        self.moments[usize::from(self.newest)]
    }

    fn at(&self, seen: u8) -> Moment {
        self.moments[usize::from(seen)]
    }

    /// A change to the store by caller `who`, who stands at `step` then.
    fn change(mut self, who: usize, step: impl Fn(u8) -> Step, change: impl Fn(&mut Moment)) -> Self {
        let mut moment = Moment { marked: 0, ..self.now() };
        change(&mut moment);
        self.newest += 1;
        self.moments[usize::from(self.newest)] = moment;
        self.steps[who] = step(self.newest);
        self
    }

    /// The creation of the lease of `who`, with what else `change` does.
    fn grant(mut self, who: usize, step: Step, change: impl Fn(&mut Moment)) -> Self {
        let now = self.now();
        self.is_exceeded |= now.leases.count_ones() >= u32::from(now.number.slots);
        self.change(
            who,
            |_| step,
            |moment| {
                moment.leases |= 1 << who;
                change(moment);
            },
        )
    }

    /// What watches on these leases have told of between two moments.
    fn told(&self, from: u8, to: u8, leases: Set) -> Told {
        let mut told = Told { gone: 0, is_marked: false };
        for seen in from..to {
            let (before, after) = (self.at(seen), self.at(seen + 1));
            let gone = leases & before.leases & !after.leases;
            told.gone |= gone;
            told.is_marked |= gone & after.marked != 0;
        }
        told
    }

    /// Takes the number as it is at that moment.
    fn learn(mut self, who: usize, number: Number) -> Self {
        self.known[who] = number;
        self
    }

    /// Whether the watch on the number has told of a change by then.
    fn is_told(&self, who: usize, kind: Kind, seen: u8) -> bool {
        kind != Unwatched && self.at(seen).number != self.known[who]
    }

    /// Looks again: reads the number first if it has changed.
    fn look_again(self, who: usize, kind: Kind, seen: u8) -> Self {
        let is_told = self.is_told(who, kind, seen);
        self.step(who, if is_told { Step::ReadNumber { seen } } else { Step::ReadQueue { seen } })
    }

    /// The creation of the queue entry of `who`.
    fn enter(self, who: usize, kind: Kind) -> Self {
        let first = |seen| if kind == Kazoo { Step::Line { seen } } else { Step::ReadQueue { seen } };
        let mut entered = self.change(who, first, |moment| moment.queue |= 1 << who);
        let last = entered.order.iter().position(|other| *other == NOBODY).expect("one entry a caller");
        entered.order[last] = u8::try_from(who).expect("few callers");
        entered
    }

    fn step(mut self, who: usize, step: Step) -> Self {
        self.steps[who] = step;
        self
    }

    /// Who is ahead of `who` among `queue`.
    fn ahead(&self, who: usize, queue: Set) -> impl Iterator<Item = u8> {
        let order = self.order;
        order
            .into_iter()
            .take_while(move |other| usize::from(*other) != who && *other != NOBODY)
            .filter(move |other| queue & (1 << other) != 0)
    }

    /// Drops the moments that nobody can read any more, so that equal futures are equal states.
    fn tidy(mut self) -> Self {
        let oldest = self.steps.iter().filter_map(Step::seen).min().unwrap_or(self.newest);
        self.moments.copy_within(usize::from(oldest).., 0);
        self.newest -= oldest;
        self.moments[usize::from(self.newest) + 1..].fill(Moment::default());
        // The mark of the oldest moment is part of a change that everybody has seen.
        self.moments[0].marked = 0;
        for (step, known) in self.steps.iter_mut().zip(&mut self.known) {
            if let Some(seen) = step.seen_mut() {
                *seen -= oldest;
            }
            // Needed no more.
            if matches!(step, Step::Leave | Step::Held | Step::Done) {
                *known = Number::default();
            }
        }
        self
    }
}

impl Step {
    fn seen_mut(&mut self) -> Option<&mut u8> {
        match self {
            Self::ReadNumber { seen }
            | Self::ReadQueue { seen }
            | Self::ReadPool { seen, .. }
            | Self::ReadQueueSecond { seen, .. }
            | Self::ReadNumberLast { seen, .. }
            | Self::SetWatches { seen, .. }
            | Self::Watching { seen, .. }
            | Self::Line { seen }
            | Self::Head { seen } => Some(seen),
            Self::Start
            | Self::WriteNumber { .. }
            | Self::Enter
            | Self::Convert
            | Self::CreateLate
            | Self::Create
            | Self::Leave
            | Self::Held
            | Self::Done => None,
        }
    }

    fn seen(&self) -> Option<u8> {
        let mut copy = *self;
        copy.seen_mut().copied()
    }
}

impl Search {
    fn new(kinds: &[Kind], slots: u8, faults: bool) -> Self {
        Self { kinds: kinds.to_vec(), slots, faults }
    }

    fn next_of(&self, world: &World, who: usize, kind: Kind, out: &mut Vec<World>) {
        let me: Set = 1 << who;
        let newest = world.newest;
        let step = world.steps[who];
        let number = world.now().number;
        let slots = u32::from(world.known[who].slots);
        // The session ends, the caller gives up, or it releases: its nodes go in one change.
        let releases = step == Step::Held && kind != Keep;
        if releases || (self.faults && !matches!(step, Step::Start | Step::Done)) {
            let there = (world.now().queue | world.now().leases) & me != 0;
            out.push(if there {
                world.change(
                    who,
                    |_| Step::Done,
                    |moment| {
                        moment.queue &= !me;
                        moment.leases &= !me;
                    },
                )
            } else {
                world.step(who, Step::Done)
            });
        }
        match step {
            Step::Start => match kind {
                TakeOver | Unmarked => {
                    for victim in (0..self.kinds.len()).map(|other| 1 << other).filter(|v| world.now().leases & v != 0)
                    {
                        out.push(world.change(
                            who,
                            |_| Step::Held,
                            |moment| {
                                moment.leases = (moment.leases & !victim) | me;
                                moment.marked = if kind == TakeOver { victim } else { 0 };
                            },
                        ));
                    }
                    // It may find nothing to break.
                    out.push(world.step(who, Step::Done));
                }
                Resize(slots) if number.slots == slots => out.push(world.step(who, Step::Done)),
                Resize(_) => out.push(world.step(who, Step::WriteNumber { version: number.version })),
                Remake(slots) if world.now().leases == 0 => {
                    let fresh = Number { slots, version: 0 };
                    out.push(world.change(who, |_| Step::Done, |moment| moment.number = fresh));
                }
                Remake(_) => {}
                First(slots) | Overwrites(slots) => out.push(match number.slots {
                    0 => world.step(who, Step::WriteNumber { version: number.version }),
                    stored if stored == slots => world.learn(who, number).step(who, Step::Enter),
                    _ => world.step(who, Step::Done),
                }),
                Kazoo => {
                    // Its object is made now, or was made before.
                    out.push(world.enter(who, kind));
                    out.push(world.learn(who, number).enter(who, kind));
                }
                _ => out.push(world.enter(who, kind)),
            },
            Step::WriteNumber { version } => {
                let (Resize(slots) | First(slots) | Overwrites(slots)) = kind else { return };
                if number.version != version && !matches!(kind, Overwrites(_)) {
                    out.push(world.step(who, Step::Start));
                    return;
                }
                let written = Number { slots, version: number.version + 1 };
                let then = if matches!(kind, Resize(_)) { Step::Done } else { Step::Enter };
                out.push(world.learn(who, written).change(who, |_| then, |moment| moment.number = written));
            }
            Step::Enter => out.push(world.enter(who, kind)),
            Step::ReadNumber { seen } => {
                for seen in seen..=newest {
                    out.push(world.learn(who, world.at(seen).number).step(who, Step::ReadQueue { seen }));
                }
            }
            Step::ReadQueue { seen } if kind == PoolFirst => {
                for seen in seen..=newest {
                    let leases = u8::try_from(world.at(seen).leases.count_ones()).expect("few leases");
                    out.push(world.step(who, Step::ReadQueueSecond { seen, leases }));
                }
            }
            Step::ReadQueueSecond { seen, leases } => {
                for seen in seen..=newest {
                    let moment = world.at(seen);
                    let rank = world.ahead(who, moment.queue).count();
                    let room = u32::from(leases) + u32::try_from(rank).expect("few callers") < slots;
                    out.push(world.step(who, if room { Step::Convert } else { Step::ReadQueue { seen } }));
                }
            }
            Step::ReadQueue { seen } => {
                for seen in seen..=newest {
                    let queue = world.at(seen).queue;
                    let rank = u8::try_from(world.ahead(who, queue).count()).expect("few callers");
                    let ahead = world.ahead(who, queue).last().map_or(0, |other| 1 << other);
                    out.push(world.step(who, Step::ReadPool { seen, rank, ahead }));
                }
            }
            Step::ReadPool { seen, rank, ahead } => {
                for seen in seen..=newest {
                    let view = View { rank, ahead, leases: world.at(seen).leases };
                    if kind == NumberLast {
                        out.push(world.step(who, Step::ReadNumberLast { seen, view }));
                    } else {
                        decide(world, who, kind, seen, view, out);
                    }
                }
            }
            Step::ReadNumberLast { seen, view } => {
                for seen in seen..=newest {
                    decide(&world.learn(who, world.at(seen).number), who, kind, seen, view, out);
                }
            }
            Step::SetWatches { seen, need, leases, ahead, left } => {
                for to in seen..=newest {
                    let moment = world.at(to);
                    let told = world.told(seen, to, leases & !left);
                    let this = left & left.wrapping_neg();
                    let missing = this & !moment.leases;
                    let is_as_seen = ahead & !moment.queue == 0 && (missing == 0 || kind == Hasty);
                    if !is_as_seen || told.is_marked || world.is_told(who, kind, to) {
                        out.push(world.look_again(who, kind, to));
                        continue;
                    }
                    let left = left & !this;
                    let counted = told.gone | missing;
                    let need = need.saturating_sub(size(counted));
                    let leases = leases & !counted;
                    out.push(world.step(
                        who,
                        match (left, need) {
                            (0, 0) => Step::Convert,
                            (0, _) => Step::Watching { seen: to, need, leases, ahead },
                            _ => Step::SetWatches { seen: to, need, leases, ahead, left },
                        },
                    ));
                }
            }
            Step::Watching { seen, need, leases, ahead } => {
                if self.faults {
                    out.push(world.look_again(who, kind, seen));
                }
                if seen < newest {
                    let (before, after) = (world.at(seen), world.at(seen + 1));
                    let world = if kind == CountsOn { world.learn(who, after.number) } else { *world };
                    let told = world.told(seen, seen + 1, leases);
                    let left_queue = ahead & before.queue & !after.queue != 0;
                    let seen = seen + 1;
                    let need = need.saturating_sub(size(told.gone));
                    let is_told = told.is_marked || left_queue && need > 0 || world.is_told(who, kind, seen);
                    out.push(match need {
                        _ if is_told => world.look_again(who, kind, seen),
                        0 => world.step(who, Step::Convert),
                        _ => world.step(who, Step::Watching { seen, need, leases: leases & !told.gone, ahead }),
                    });
                }
            }
            Step::Convert if world.now().queue & me == 0 => out.push(world.step(who, Step::Done)),
            // The transaction checks the version of the number on which the decision rests.
            Step::Convert if number.version != world.known[who].version && kind != Unchecked => {
                out.push(world.step(who, Step::ReadNumber { seen: newest }));
            }
            Step::Convert if kind == TwoSteps => {
                out.push(world.change(who, |_| Step::CreateLate, |moment| moment.queue &= !me));
            }
            Step::Convert => out.push(world.grant(who, Step::Held, |moment| moment.queue &= !me)),
            Step::CreateLate => out.push(world.grant(who, Step::Held, |_| {})),
            Step::Line { seen } => {
                for seen in seen..=newest {
                    let head = world.ahead(who, world.at(seen).queue).next().is_none();
                    out.push(world.step(who, if head { Step::Head { seen } } else { Step::Line { seen } }));
                }
            }
            Step::Head { seen } => {
                for seen in seen..=newest {
                    let room = world.at(seen).leases.count_ones() < slots;
                    out.push(world.step(who, if room { Step::Create } else { Step::Head { seen } }));
                }
            }
            Step::Create => {
                let is_held_to = number == world.known[who];
                let is_exceeded = world.is_exceeded;
                let created = world.grant(who, Step::Leave, |_| {});
                out.push(if is_held_to { created } else { World { is_exceeded, ..created } });
            }
            Step::Leave if world.now().queue & me == 0 => out.push(world.step(who, Step::Held)),
            Step::Leave => out.push(world.change(who, |_| Step::Held, |moment| moment.queue &= !me)),
            Step::Held | Step::Done => {}
        }
    }
}

fn size(set: Set) -> u8 {
    u8::try_from(set.count_ones()).expect("few callers")
}

/// What a caller does once it has read what it decides by.
fn decide(world: &World, who: usize, kind: Kind, seen: u8, view: View, out: &mut Vec<World>) {
    let View { rank, ahead, leases } = view;
    let slots = u32::from(world.known[who].slots);
    let taken = leases.count_ones() + u32::from(rank);
    if taken < slots {
        out.push(world.step(who, Step::Convert));
    } else if matches!(kind, Reread | NumberLast) {
        out.push(world.look_again(who, kind, seen));
    } else {
        let need = u8::try_from(taken + 1 - slots).expect("few callers");
        out.push(world.step(who, Step::SetWatches { seen, need, leases, ahead, left: leases }));
        // All watches kept from an earlier wait, so that no look comes in between; those on the entry ahead and on the
        // number would have fired if these had changed.
        let kept = ahead & !world.at(seen).queue == 0 && !world.is_told(who, kind, seen);
        let step = Step::Watching { seen, need, leases, ahead };
        out.push(if kept { world.step(who, step) } else { world.look_again(who, kind, seen) });
    }
}

impl Model for Search {
    type State = World;

    fn start(&self) -> World {
        let mut start = World::start(self.slots);
        start.steps[self.kinds.len()..].fill(Step::Done);
        start
    }

    /// Everything that may come next.
    fn next(&self, world: &World, out: &mut Vec<World>) {
        for (who, kind) in self.kinds.iter().enumerate() {
            self.next_of(world, who, *kind, out);
        }
        for next in out {
            *next = next.tidy();
        }
    }

    fn broken(&self, world: &World) -> Option<&'static str> {
        let now = world.now();
        let differs = |(who, kind): (usize, &Kind)| match kind {
            First(slots) | Overwrites(slots) => now.leases & (1 << who) != 0 && now.number.slots != *slots,
            _ => false,
        };
        if self.kinds.iter().enumerate().any(differs) {
            return Some("a caller holds a lease that wants another number of slots");
        }
        world.is_exceeded.then_some("a lease was granted while no slot was free")
    }

    fn is_finished(&self, world: &World) -> bool {
        let kept = |who: usize| self.kinds.get(who) == Some(&Keep) && world.steps[who] == Step::Held;
        (0..CALLERS).all(|who| world.steps[who] == Step::Done || kept(who))
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let moments = self.moments[..=usize::from(self.newest)].iter();
        let word = moments.fold(0, |word: u64, moment| {
            let Number { slots, version } = moment.number;
            let number = u64::from(slots) << 16 | u64::from(version) << 12;
            let bits = number | u64::from(moment.queue) << 8 | u64::from(moment.leases) << 4 | u64::from(moment.marked);
            word.rotate_left(13) ^ bits
        });
        state.write_u64(word);
        state.write_u64(u64::from(u32::from_le_bytes(self.order)));
        self.known.hash(state);
        self.steps.hash(state);
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let now = self.now();
        let Moment { queue, leases, number, .. } = now;
        write!(f, "slots {} queue {queue:04b} leases {leases:04b} {:?}", number.slots, self.steps)
    }
}

#[test]
fn three_callers_of_any_kind_never_exceed_the_slots() {
    let mut states = 0;
    for kinds in mixtures(&[Reread, Count, Kazoo, TakeOver], 3) {
        for slots in [1, 2] {
            states += holds(&Search::new(&kinds, slots, true), Stuck::Allowed);
        }
    }
    println!("{states} states with faults");
}

#[test]
fn four_callers_with_a_take_over_never_exceed_the_slots() {
    let mut states = 0;
    for kinds in [[Count, Count, Count, TakeOver], [Count, Count, Kazoo, TakeOver], [Count, Reread, Kazoo, TakeOver]] {
        states += holds(&Search::new(&kinds, 2, false), Stuck::Fails);
    }
    println!("{states} states without faults");
}

#[test]
#[ignore = "a million and a half states: a minute in a debug build"]
fn four_queueing_callers_never_exceed_the_slots() {
    let mut states = 0;
    for kinds in [[Count, Count, Count, Count], [Count, Count, Kazoo, Kazoo], [Count, Count, Reread, Kazoo]] {
        states += holds(&Search::new(&kinds, 2, false), Stuck::Fails);
    }
    println!("{states} states without faults");
}

#[test]
fn no_caller_waits_for_ever_without_reading_again() {
    // A waiter that is told of nothing stays where it is: then the watches were not enough.
    let mut states = 0;
    for size in [2, 3] {
        for kinds in mixtures(&[Count, Kazoo, TakeOver], size) {
            for slots in [1, 2] {
                states += holds(&Search::new(&kinds, slots, false), Stuck::Fails);
            }
        }
    }
    println!("{states} states without faults");
}

#[test]
fn no_grant_exceeds_a_number_that_changes() {
    let mut states = 0;
    for kinds in mixtures(&[Reread, Count, Kazoo, TakeOver], 2) {
        for (slots, resizes) in [(1, vec![Resize(2)]), (2, vec![Resize(1)]), (2, vec![Resize(1), Resize(3)])] {
            states += holds(&Search::new(&[&kinds[..], &resizes].concat(), slots, true), Stuck::Allowed);
        }
    }
    println!("{states} states with faults");
}

#[test]
fn no_caller_waits_for_ever_while_the_number_changes() {
    let mut states = 0;
    for kinds in mixtures(&[Count, Kazoo, TakeOver], 3) {
        for (slots, resize) in [(1, Resize(2)), (2, Resize(1))] {
            states += holds(&Search::new(&[&kinds[..], &[resize]].concat(), slots, false), Stuck::Fails);
        }
    }
    // A number that was raised serves those who wait, though no lease is released.
    for kinds in [[Keep, Count, Count, Resize(2)], [Keep, Count, Reread, Resize(2)], [Keep, Keep, Count, Resize(3)]] {
        states += holds(&Search::new(&kinds, 1, false), Stuck::Fails);
    }
    println!("{states} states without faults");
}

#[test]
fn of_two_first_callers_with_different_numbers_one_wins() {
    let mut states = 0;
    for kinds in [vec![First(1), First(2)], vec![First(1), First(1), First(2)], vec![First(1), First(2), First(2)]] {
        states += holds(&Search::new(&kinds, 0, true), Stuck::Allowed);
        states += holds(&Search::new(&kinds, 0, false), Stuck::Fails);
    }
    println!("{states} states");
}

#[test]
fn a_path_that_is_deleted_and_made_anew_is_beyond_the_check() {
    // Its version starts at 0 again: who knows the number from before cannot see that. So nobody may delete a path in use.
    println!("{}", fails("made anew", &Search::new(&[Count, Count, Remake(1)], 2, false), Stuck::Allowed));
}

#[test]
fn each_known_slip_is_found() {
    for (slip, kinds, slots) in [
        ("leases read before the queue, two of ours", vec![PoolFirst, PoolFirst], 1),
        ("leases read before the queue, next to kazoo", vec![PoolFirst, Kazoo, Kazoo], 2),
        ("conversion in two steps", vec![TwoSteps, TwoSteps], 1),
        ("conversion in two steps, next to kazoo", vec![TwoSteps, Kazoo], 1),
        ("unmarked take-over next to deletion counters", vec![Count, Count, Unmarked], 1),
        ("unmarked take-over next to a counter and kazoo", vec![Count, Kazoo, Unmarked], 1),
        ("a lease gone before its watch counted as deleted", vec![Hasty, Hasty, TakeOver], 1),
        ("the number's version not checked", vec![Unchecked, Unchecked, Resize(1)], 2),
        ("deletions counted by an earlier number", vec![CountsOn, CountsOn, CountsOn, Resize(1)], 2),
        ("the number read after queue and pool", vec![NumberLast, NumberLast, Resize(1)], 2),
        ("the first number written whatever is there", vec![Overwrites(1), Overwrites(2)], 0),
    ] {
        println!("{}", fails(slip, &Search::new(&kinds, slots, true), Stuck::Allowed));
    }
    // Without faults, so that no safety net helps.
    let search = Search::new(&[Keep, Unwatched, Resize(2)], 1, false);
    println!("{}", fails("the number not watched", &search, Stuck::Fails));
}
