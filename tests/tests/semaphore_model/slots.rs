//! The slots: the queue and the leases.
//!
//! Between any two requests of a caller anything may come from the others. A read shows any state of the store from the last
//! that its caller saw to the newest, because a caller may be connected to a server that is behind. At any step a caller may
//! lose its session or give up, and its nodes go.
//!
//! Three callers follow the rules: `Reread` looks again after every change, `Count` counts the deletions of the leases that
//! it saw, and `Kazoo` does what kazoo's recipe does. `TakeOver` breaks a lease and marks it first. They never exceed the
//! slots, in any mixture. Four others are known to be wrong, each by one slip, and the search finds that out for each.

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
    /// kazoo: only the head of the queue reads the pool; it creates its lease and leaves the queue after that.
    Kazoo,
    /// Deletes somebody's lease and creates its own, with a mark on the victim before.
    TakeOver,
    /// Wrong: reads the pool before the queue.
    PoolFirst,
    /// Wrong: leaves the queue, and then creates its lease.
    TwoSteps,
    /// Wrong beside `Count`: takes over without a mark.
    Unmarked,
    /// Wrong: counts a lease that it found gone when it set its watch as one deletion more.
    Hasty,
}

use Kind::{Count, Hasty, Kazoo, PoolFirst, Reread, TakeOver, TwoSteps, Unmarked};

/// A set of callers, a bit each.
type Set = u8;

/// The store at one moment. A caller has at most one entry and one lease, which go by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Moment {
    queue: Set,
    leases: Set,
    /// Leases that this change marked before it deleted them: a watch on one sees the mark.
    marked: Set,
}

/// Where a caller stands. `seen` is the newest moment that it saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Step {
    Start,
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
    steps: [Step; CALLERS],
}

const CALLERS: usize = 4;
/// No run has more changes than that still to be read: four callers, at most four changes each.
const MOMENTS: usize = 4 * CALLERS + 1;
const NOBODY: u8 = u8::MAX;

/// What is searched.
#[derive(Debug, Clone)]
struct Search {
    kinds: Vec<Kind>,
    slots: u32,
    /// Whether sessions end and callers give up, and whether a waiter looks again without having been told to.
    faults: bool,
}

impl World {
    fn start() -> Self {
        Self {
            moments: [Moment::default(); MOMENTS],
            newest: 0,
            order: [NOBODY; CALLERS],
            steps: [Step::Start; CALLERS],
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
        for step in &mut self.steps {
            if let Some(seen) = step.seen_mut() {
                *seen -= oldest;
            }
        }
        self
    }
}

impl Step {
    fn seen_mut(&mut self) -> Option<&mut u8> {
        match self {
            Self::ReadQueue { seen }
            | Self::ReadPool { seen, .. }
            | Self::ReadQueueSecond { seen, .. }
            | Self::SetWatches { seen, .. }
            | Self::Watching { seen, .. }
            | Self::Line { seen }
            | Self::Head { seen } => Some(seen),
            Self::Start | Self::Convert | Self::CreateLate | Self::Create | Self::Leave | Self::Held | Self::Done => {
                None
            }
        }
    }

    fn seen(&self) -> Option<u8> {
        let mut copy = *self;
        copy.seen_mut().copied()
    }
}

impl Search {
    fn new(kinds: &[Kind], slots: u32, faults: bool) -> Self {
        Self { kinds: kinds.to_vec(), slots, faults }
    }

    fn next_of(&self, world: &World, who: usize, kind: Kind, out: &mut Vec<World>) {
        let me: Set = 1 << who;
        let newest = world.newest;
        let step = world.steps[who];
        // The session ends, the caller gives up, or it releases: its nodes go in one change.
        if step == Step::Held || (self.faults && !matches!(step, Step::Start | Step::Done)) {
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
                _ => {
                    let first = |seen| match kind {
                        Kazoo => Step::Line { seen },
                        _ => Step::ReadQueue { seen },
                    };
                    let mut entered = world.change(who, first, |moment| moment.queue |= me);
                    let last = entered.order.iter().position(|other| *other == NOBODY).expect("one entry a caller");
                    entered.order[last] = u8::try_from(who).expect("few callers");
                    out.push(entered);
                }
            },
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
                    let room = u32::from(leases) + u32::try_from(rank).expect("few callers") < self.slots;
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
                    let leases = world.at(seen).leases;
                    let taken = leases.count_ones() + u32::from(rank);
                    if taken < self.slots {
                        out.push(world.step(who, Step::Convert));
                    } else if matches!(kind, Count | Hasty) {
                        let need = u8::try_from(taken + 1 - self.slots).expect("few callers");
                        out.push(world.step(who, Step::SetWatches { seen, need, leases, ahead, left: leases }));
                        // All watches kept from an earlier wait, so that no look comes in between; that on the entry
                        // ahead would have fired if it were gone.
                        let kept = ahead & !world.at(seen).queue == 0;
                        let step = Step::Watching { seen, need, leases, ahead };
                        out.push(world.step(who, if kept { step } else { Step::ReadQueue { seen } }));
                    } else {
                        out.push(world.step(who, Step::ReadQueue { seen }));
                    }
                }
            }
            Step::SetWatches { seen, need, leases, ahead, left } => {
                for seen in seen..=newest {
                    let moment = world.at(seen);
                    let this = left & left.wrapping_neg();
                    let left = left & !this;
                    let next = if left == 0 {
                        Step::Watching { seen, need, leases, ahead }
                    } else {
                        Step::SetWatches { seen, need, leases, ahead, left }
                    };
                    if this & !moment.leases == 0 && ahead & !moment.queue == 0 {
                        out.push(world.step(who, next));
                    } else if kind == Hasty && ahead & !moment.queue == 0 {
                        let need = need - 1;
                        let leases = leases & !this;
                        out.push(world.step(
                            who,
                            match next {
                                _ if need == 0 => Step::Convert,
                                Step::Watching { .. } => Step::Watching { seen, need, leases, ahead },
                                _ => Step::SetWatches { seen, need, leases, ahead, left },
                            },
                        ));
                    } else {
                        out.push(world.step(who, Step::ReadQueue { seen }));
                    }
                }
            }
            Step::Watching { seen, need, leases, ahead } => {
                if self.faults {
                    out.push(world.step(who, Step::ReadQueue { seen }));
                }
                if seen < newest {
                    let (before, after) = (world.at(seen), world.at(seen + 1));
                    let gone = leases & before.leases & !after.leases;
                    let counted = u8::try_from((gone & !after.marked).count_ones()).expect("few leases");
                    let left_queue = ahead & before.queue & !after.queue != 0;
                    let seen = seen + 1;
                    out.push(world.step(
                        who,
                        if gone & after.marked != 0 || left_queue && counted < need {
                            Step::ReadQueue { seen }
                        } else if counted >= need {
                            Step::Convert
                        } else {
                            Step::Watching { seen, need: need - counted, leases: leases & !gone, ahead }
                        },
                    ));
                }
            }
            Step::Convert if world.now().queue & me == 0 => out.push(world.step(who, Step::Done)),
            Step::Convert if kind == TwoSteps => {
                out.push(world.change(who, |_| Step::CreateLate, |moment| moment.queue &= !me));
            }
            Step::Convert => out.push(world.change(
                who,
                |_| Step::Held,
                |moment| {
                    moment.leases |= me;
                    moment.queue &= !me;
                },
            )),
            Step::CreateLate => out.push(world.change(who, |_| Step::Held, |moment| moment.leases |= me)),
            Step::Line { seen } => {
                for seen in seen..=newest {
                    let head = world.ahead(who, world.at(seen).queue).next().is_none();
                    out.push(world.step(who, if head { Step::Head { seen } } else { Step::Line { seen } }));
                }
            }
            Step::Head { seen } => {
                for seen in seen..=newest {
                    let room = world.at(seen).leases.count_ones() < self.slots;
                    out.push(world.step(who, if room { Step::Create } else { Step::Head { seen } }));
                }
            }
            Step::Create => out.push(world.change(who, |_| Step::Leave, |moment| moment.leases |= me)),
            Step::Leave if world.now().queue & me == 0 => out.push(world.step(who, Step::Held)),
            Step::Leave => out.push(world.change(who, |_| Step::Held, |moment| moment.queue &= !me)),
            Step::Held | Step::Done => {}
        }
    }
}

impl Model for Search {
    type State = World;

    fn start(&self) -> World {
        let mut start = World::start();
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
        (world.now().leases.count_ones() > self.slots).then_some("more leases than slots")
    }

    fn is_finished(&self, world: &World) -> bool {
        world.steps.iter().all(|step| *step == Step::Done)
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let moments = self.moments[..=usize::from(self.newest)].iter();
        let word = moments.fold(0, |word: u64, moment| {
            let bits = u64::from(moment.queue) << 8 | u64::from(moment.leases) << 4 | u64::from(moment.marked);
            word.rotate_left(13) ^ bits
        });
        state.write_u64(word);
        state.write_u64(u64::from(u32::from_le_bytes(self.order)));
        self.steps.hash(state);
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let now = self.now();
        write!(f, "queue {:04b} leases {:04b} {:?}", now.queue, now.leases, self.steps)
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
fn nobody_waits_for_ever_without_looking_again() {
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
fn each_known_slip_is_found() {
    for (slip, kinds, slots) in [
        ("leases read before the queue, two of ours", vec![PoolFirst, PoolFirst], 1),
        ("leases read before the queue, next to kazoo", vec![PoolFirst, Kazoo, Kazoo], 2),
        ("conversion in two steps", vec![TwoSteps, TwoSteps], 1),
        ("conversion in two steps, next to kazoo", vec![TwoSteps, Kazoo], 1),
        ("unmarked take-over next to deletion counters", vec![Count, Count, Unmarked], 1),
        ("unmarked take-over next to a counter and kazoo", vec![Count, Kazoo, Unmarked], 1),
        ("a lease gone before its watch counted as deleted", vec![Hasty, Hasty, TakeOver], 1),
    ] {
        fails(slip, &Search::new(&kinds, slots, true), Stuck::Allowed);
    }
}
