//! What is measured, and what is to be reached.

use std::time::Duration;

use crate::cast::Who;

/// What callers are told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    pub(crate) slots: u32,
    pub(crate) callers: u32,
    pub(crate) work_ms: u64,
    /// Each caller takes one slot and is done.
    pub(crate) once: bool,
}

/// What a run is about.
#[derive(Debug, Clone, Copy)]
pub(crate) enum About {
    /// Taking slots.
    Slots(Work),
    /// Reading who holds so many leases.
    Holders(u32),
    /// Losing a lease in a partition.
    Loss,
}

/// In how many processes and sessions the callers are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SetUp {
    pub(crate) who: Who,
    pub(crate) sessions: u32,
    pub(crate) processes: u32,
}

/// Something that everybody does in turn.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) about: About,
    pub(crate) round_trip: Duration,
    pub(crate) seconds: f64,
    /// Where one has several, the one that does best in the run's first row counts.
    pub(crate) set_ups: Vec<SetUp>,
}

/// Which numbers are the better ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    /// As of milliseconds.
    Less,
    /// As of acquisitions a second.
    More,
}

/// What is to be reached.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    /// No more.
    AtMost(f64),
    /// No less.
    AtLeast(f64),
    /// So many times better than every peer.
    Times(f64),
    /// Nothing: it is there to be seen.
    None,
}

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) run: &'static str,
    pub(crate) figure: &'static str,
    pub(crate) what: &'static str,
    pub(crate) decimals: usize,
    pub(crate) better: Better,
    pub(crate) goal: Goal,
}

const NO_DELAY: Duration = Duration::ZERO;

fn alone(who: Who) -> SetUp {
    SetUp { who, sessions: 1, processes: 1 }
}

/// Everybody by himself.
fn each(whos: &[Who]) -> Vec<SetUp> {
    whos.iter().copied().map(alone).collect()
}

/// So many callers: a session each, and for the peers also one session for all, which may suit them better.
fn crowd(callers: u32) -> Vec<SetUp> {
    let one_each = |who| SetUp { who, sessions: callers, processes: 1 };
    vec![
        one_each(Who::Lockkeeper),
        SetUp { processes: 8, ..one_each(Who::Kazoo) },
        alone(Who::Kazoo),
        one_each(Who::Sequence),
        one_each(Who::Curator),
        alone(Who::Curator),
    ]
}

/// Ten sessions for all.
fn ten(whos: &[Who]) -> Vec<SetUp> {
    whos.iter().map(|who| SetUp { sessions: 10, ..alone(*who) }).collect()
}

/// All that is measured.
pub(crate) fn runs() -> Vec<Run> {
    use Who::{Curator, Kazoo, Lockkeeper, Sequence};
    let milliseconds = Duration::from_millis;
    let all = [Lockkeeper, Kazoo, Sequence, Curator];
    let slots = |slots, callers, work_ms| About::Slots(Work { slots, callers, work_ms, once: false });
    let queue = |callers| About::Slots(Work { slots: 8, callers, work_ms: 100, once: true });
    vec![
        Run {
            name: "free",
            title: "a free slot: 1 caller, path known, 10 ms round trip",
            about: slots(1, 1, 0),
            round_trip: milliseconds(10),
            seconds: 5.0,
            set_ups: each(&all),
        },
        Run {
            name: "busy",
            title: "8 slots, 64 callers, 5 ms of work, 2 ms round trip",
            about: slots(8, 64, 5),
            round_trip: milliseconds(2),
            seconds: 5.0,
            set_ups: crowd(64),
        },
        Run {
            name: "rush",
            title: "32 slots, 32 callers, no work, no delay",
            about: slots(32, 32, 0),
            round_trip: NO_DELAY,
            seconds: 5.0,
            set_ups: crowd(32),
        },
        Run {
            name: "hand-over",
            title: "1 slot, 2 callers in turn, 10 ms round trip",
            about: slots(1, 2, 200),
            round_trip: milliseconds(10),
            seconds: 10.0,
            set_ups: all.iter().map(|who| SetUp { sessions: 2, ..alone(*who) }).collect(),
        },
        Run {
            name: "queue-100",
            title: "8 slots, 100 waiting in 10 sessions; who is served goes",
            about: queue(100 + QUEUE_SERVED),
            round_trip: NO_DELAY,
            seconds: QUEUE_SECONDS,
            set_ups: ten(&all),
        },
        Run {
            name: "queue-1000",
            title: "8 slots, 1,000 waiting in 10 sessions; who is served goes",
            about: queue(1000 + QUEUE_SERVED),
            round_trip: NO_DELAY,
            seconds: QUEUE_SECONDS,
            set_ups: ten(&all),
        },
        Run {
            name: "holders",
            title: "who holds 1,000 leases",
            about: About::Holders(1000),
            round_trip: NO_DELAY,
            seconds: 3.0,
            set_ups: each(&[Lockkeeper, Kazoo]),
        },
        Run {
            name: "lost",
            title: "a partition, with a session time-out of 3 s",
            about: About::Loss,
            round_trip: NO_DELAY,
            seconds: 0.0,
            set_ups: each(&[Lockkeeper, Kazoo, Curator]),
        },
    ]
}

/// How long a queue is watched, and how many are served until then at most: 8 slots, 100 ms each.
const QUEUE_SECONDS: f64 = 3.0;
const QUEUE_SERVED: u32 = 240;

/// The table.
pub(crate) fn rows() -> Vec<Row> {
    use Better::{Less, More};
    let row = |run, figure, what, decimals, better, goal| Row { run, figure, what, decimals, better, goal };
    vec![
        row("free", "round-trips", "free slot: round trips", 2, Less, Goal::AtMost(2.1)),
        row("free", "acquire-ms", "free slot at 10 ms: milliseconds, p50", 1, Less, Goal::AtMost(22.0)),
        row("free", "requests", "requests, acquire and release", 1, Less, Goal::AtMost(6.0)),
        row("free", "transactions", "write transactions, acquire and release", 1, Less, Goal::AtMost(3.0)),
        row(
            "busy",
            "per-second",
            "8 slots, 64 callers, 5 ms work, 2 ms round trip: acquisitions a second",
            0,
            More,
            Goal::Times(5.0),
        ),
        row("busy", "leases", "the same: slots in use, mean of 8", 2, More, Goal::AtLeast(5.0)),
        row("busy", "most-leases", "the same: slots in use at once, the most seen", 0, More, Goal::None),
        row("busy", "at-work", "the same: slots at work by the callers' clocks, mean of 8", 2, More, Goal::None),
        row("busy", "acquire-p99-ms", "the same: waited for a slot, milliseconds, p99", 0, Less, Goal::None),
        row("rush", "per-second", "32 slots, 32 callers, no delay: acquisitions a second", 0, More, Goal::Times(8.0)),
        row("rush", "acquire-p99-ms", "the same: milliseconds to a slot, p99", 1, Less, Goal::None),
        row("hand-over", "hand-over-round-trips", "hand-over: round trips", 2, Less, Goal::AtMost(2.3)),
        row("queue-1000", "requests", "requests a hand-over, 1,000 waiting", 1, Less, Goal::AtMost(20.0)),
        row("queue-100", "requests", "requests a hand-over, 100 waiting", 1, Less, Goal::AtMost(20.0)),
        row("holders", "listing-ms", "who holds 1,000 leases: milliseconds", 1, Less, Goal::None),
        row(
            "lost",
            "declared",
            "lease declared lost after a partition, in session time-outs",
            2,
            Less,
            Goal::AtMost(0.9),
        ),
        row("lost", "suspended", "its session said to be suspended, likewise", 2, Less, Goal::None),
        row("lost", "given-away", "its node gone from the server, likewise", 2, More, Goal::None),
        row("lost", "ahead", "declared before it was gone, likewise", 2, More, Goal::AtLeast(0.0)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_of_a_run_and_every_run_has_a_row() {
        for row in rows() {
            assert!(runs().iter().any(|run| run.name == row.run), "{row:?}");
        }
        for run in runs() {
            assert!(rows().iter().any(|row| row.run == run.name), "{run:?}");
            assert_eq!(run.set_ups[0].who, Who::Lockkeeper, "ours is measured everywhere: {run:?}");
        }
    }
}
