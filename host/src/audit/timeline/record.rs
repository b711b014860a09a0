//! Collects what the timeline draws from a run's pages.

use std::collections::{BTreeSet, HashMap};

use crate::audit::history::Page;
use crate::policy::types::Ending;
use crate::rollout::journal::{Closing, Header};
use crate::rollout::model::{Event, Stamped};

/// What a target was doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// The policy or a limit blocked it.
    Waiting,
    /// It queued for a slot.
    Queueing,
    /// It had a slot without a running action.
    Holding,
    /// Its action was running, and succeeded.
    Succeeded,
    /// It was rolled back.
    RolledBack,
    /// Its action was running, and failed.
    Failed,
    /// Its action was running, and its outcome is unknown.
    Unknown,
    /// Its action is running at the end of the journals.
    Running,
}

/// A period of a target. Times are milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// What it was doing.
    pub kind: Kind,
    /// Start of the period.
    pub from: u64,
    /// End of the period.
    pub to: u64,
    /// Text of the tooltip.
    pub note: String,
}

/// The periods of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Name of the target.
    pub target: String,
    /// Its periods in order, without overlaps.
    pub pieces: Vec<Piece>,
    /// When it was skipped. `None` if it was not.
    pub skipped: Option<u64>,
}

/// The use of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Index of the target's row.
    pub row: usize,
    /// Index of the lane: the holds of one lane do not overlap.
    pub lane: usize,
    /// Start of the hold.
    pub from: u64,
    /// End of the hold.
    pub to: u64,
    /// Why it was forced. `None` if it was not.
    pub forced: Option<String>,
    /// Whether it was still held at the end of the journals.
    pub open: bool,
    /// Sequence numbers of its start and end, for times that are equal.
    pub order: (usize, usize),
}

/// A marked time of the whole run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The time, in milliseconds since the Unix epoch.
    pub at: u64,
    /// The label: a wave or a runner epoch started.
    pub text: String,
}

/// Everything that is drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline {
    /// Name of the run.
    pub run: String,
    /// Name of the job.
    pub job: String,
    /// How it ended. `None` if it is in progress or was killed.
    pub end: Option<String>,
    /// The first time.
    pub from: u64,
    /// The last known time.
    pub to: u64,
    /// Number of slots of the run.
    pub slots: u32,
    /// The targets in the plan's order.
    pub rows: Vec<Row>,
    /// Slot uses in the order of acquisition.
    pub holds: Vec<Hold>,
    /// Starts of waves and runner epochs.
    pub marks: Vec<Mark>,
}

impl Timeline {
    /// The number of slots in use after each change.
    #[must_use]
    pub fn in_use(&self) -> Vec<(u64, u32)> {
        let mut changes: Vec<(usize, u64, bool)> = Vec::new();
        for hold in &self.holds {
            changes.push((hold.order.0, hold.from, true));
            if !hold.open {
                changes.push((hold.order.1, hold.to, false));
            }
        }
        changes.sort_unstable();
        let mut used = 0_u32;
        let mut steps: Vec<(u64, u32)> = vec![(self.from, 0)];
        for (_, at, taken) in changes {
            used = if taken { used + 1 } else { used.saturating_sub(1) };
            match steps.last_mut() {
                Some(last) if last.0 == at => last.1 = used,
                _ => steps.push((at, used)),
            }
        }
        steps
    }
}

/// Follows a run page by page.
#[derive(Debug)]
pub struct Recorder {
    timeline: Timeline,
    places: HashMap<String, usize>,
    /// What each target is doing, and since when.
    now: Vec<Option<(Kind, u64)>>,
    /// Open holds, by row.
    held: HashMap<usize, usize>,
    lanes: BTreeSet<usize>,
    /// The targets and names of waves that have not started.
    waves: Vec<(std::ops::Range<usize>, String)>,
    order: usize,
}

impl Recorder {
    /// Starts with a run's first page.
    #[must_use]
    pub fn new(header: &Header) -> Self {
        let mut start = 0;
        let waves = header.waves.iter().map(|wave| {
            let range = start..start + wave.targets;
            start = range.end;
            (range, wave.name.clone())
        });
        let waves: Vec<_> = waves.collect();
        let row = |target: &String| Row { target: target.clone(), pieces: Vec::new(), skipped: None };
        Self {
            timeline: Timeline {
                run: header.run.clone(),
                job: header.job.clone(),
                end: None,
                from: header.started,
                to: header.started,
                slots: header.limits.slots,
                rows: header.targets.iter().map(row).collect(),
                holds: Vec::new(),
                marks: Vec::new(),
            },
            places: header.targets.iter().enumerate().map(|(at, name)| (name.clone(), at)).collect(),
            now: vec![None; header.targets.len()],
            held: HashMap::new(),
            lanes: BTreeSet::new(),
            waves,
            order: 0,
        }
    }

    /// Adds one more page.
    pub fn follow(&mut self, page: &Page<'_>) {
        self.order += 1;
        match page {
            Page::Segment(header) => self.another_runner(header),
            Page::Decision(recorded) => {
                let at = recorded.view.now;
                self.timeline.to = self.timeline.to.max(at);
                if let Some(&row) = self.places.get(&recorded.target) {
                    let waits = self.now[row].is_none() && recorded.outcome.is_none();
                    let left_queue = matches!(self.now[row], Some((Kind::Queueing, _)))
                        && matches!(recorded.verdict.as_deref(), Some("wait" | "hold"));
                    if (waits || left_queue) && self.timeline.rows[row].skipped.is_none() {
                        self.turn(row, at, Some(Kind::Waiting), String::new());
                    }
                }
            }
            Page::Event(stamped) => self.happened(stamped),
        }
    }

    /// The timeline at the end of the journals.
    #[must_use]
    pub fn finish(mut self, closing: Option<&Closing>) -> Timeline {
        if let Some(closing) = closing {
            self.timeline.to = self.timeline.to.max(closing.ended);
            self.timeline.end = Some(closing.end.clone());
        }
        let to = self.timeline.to;
        for row in 0..self.now.len() {
            let running = matches!(self.now[row], Some((Kind::Running, _)));
            self.turn(row, to, None, if running { "running".to_owned() } else { String::new() });
        }
        for hold in self.held.into_values() {
            self.timeline.holds[hold].to = to;
        }
        self.timeline
    }

    fn another_runner(&mut self, header: &Header) {
        if self.order == 1 {
            return;
        }
        let at = self.timeline.to;
        self.timeline.marks.push(Mark { at, text: format!("runner epoch {}", header.runner_epoch) });
        for row in 0..self.now.len() {
            let was_acting = matches!(self.now[row], Some((Kind::Running, _)));
            if was_acting {
                self.now[row] = self.now[row].map(|(_, since)| (Kind::Unknown, since));
            }
            self.turn(row, at, None, if was_acting { "its runner ended".to_owned() } else { String::new() });
            self.release(row, at);
        }
    }

    fn happened(&mut self, Stamped { at, event }: &Stamped) {
        let at = *at;
        self.timeline.to = self.timeline.to.max(at);
        let row = |name: &String| self.places.get(name).copied();
        match event {
            Event::Queued { target } => {
                let Some(row) = row(target) else { return };
                self.wave_of(row, at);
                self.turn(row, at, Some(Kind::Queueing), String::new());
            }
            Event::Leased { target, .. } => self.take(row(target), at, None),
            Event::Forced { target, reason, code, .. } => {
                self.take(row(target), at, Some(format!("{reason} ({code})")))
            }
            Event::Started { target, attempt, .. } => {
                let Some(row) = row(target) else { return };
                self.turn(
                    row,
                    at,
                    Some(Kind::Running),
                    if *attempt > 1 { "another attempt".to_owned() } else { String::new() },
                );
            }
            Event::RollingBack { target, reason, .. } => {
                let Some(row) = row(target) else { return };
                self.turn(row, at, Some(Kind::Running), format!("then rolled back: {reason}"));
            }
            Event::RolledBack { target, .. } => self.acted(row(target), at, Kind::RolledBack, String::new()),
            Event::WaveStarted { wave, .. } => {
                self.waves.retain(|(_, name)| name != wave);
                self.timeline.marks.push(Mark { at, text: format!("wave {wave}") });
            }
            Event::Paused { by, .. } => self.timeline.marks.push(Mark { at, text: format!("paused by {by}") }),
            Event::Unpaused {} => self.timeline.marks.push(Mark { at, text: "resumed".to_owned() }),
            Event::Succeeded { target, .. } => self.acted(row(target), at, Kind::Succeeded, String::new()),
            Event::Failed { target, ending, detail, attempt, .. } => {
                let kind = if *ending == Ending::Unknown { Kind::Unknown } else { Kind::Failed };
                self.acted(row(target), at, kind, format!("attempt {attempt}: {detail}"));
            }
            Event::ReleasedUnused { target, reason } => {
                let Some(row) = row(target) else { return };
                self.turn(row, at, Some(Kind::Waiting), format!("released: {reason}"));
                self.release(row, at);
            }
            Event::LeaseLost { target, .. } => {
                if let Some(row) = row(target) {
                    self.release(row, at);
                }
            }
            Event::Released { target } => {
                let Some(row) = row(target) else { return };
                self.turn(row, at, None, String::new());
                self.release(row, at);
            }
            Event::Skipped { target, reason, .. } => {
                let Some(row) = row(target) else { return };
                self.turn(row, at, None, format!("skipped: {reason}"));
                self.release(row, at);
                self.timeline.rows[row].skipped = Some(at);
            }
            _ => {}
        }
    }

    fn acted(&mut self, row: Option<usize>, at: u64, kind: Kind, note: String) {
        let Some(row) = row else { return };
        if let Some((command_kind @ Kind::Running, _)) = &mut self.now[row] {
            *command_kind = kind;
        }
        self.turn(row, at, Some(Kind::Holding), note);
    }

    /// A wave starts with the first of its targets that gets this far.
    fn wave_of(&mut self, row: usize, at: u64) {
        if let Some(found) = self.waves.iter().position(|(range, _)| range.contains(&row)) {
            let (_, name) = self.waves.remove(found);
            self.timeline.marks.push(Mark { at, text: format!("wave {name}") });
        }
    }

    fn take(&mut self, row: Option<usize>, at: u64, forced: Option<String>) {
        let Some(row) = row else { return };
        self.wave_of(row, at);
        self.turn(row, at, Some(Kind::Holding), String::new());
        if self.held.contains_key(&row) {
            return;
        }
        let lane = (0..).find(|lane| !self.lanes.contains(lane)).unwrap_or(0);
        self.lanes.insert(lane);
        self.held.insert(row, self.timeline.holds.len());
        let order = (self.order, usize::MAX);
        self.timeline.holds.push(Hold { row, lane, from: at, to: at, forced, open: true, order });
    }

    fn release(&mut self, row: usize, at: u64) {
        if let Some(hold) = self.held.remove(&row) {
            let hold = &mut self.timeline.holds[hold];
            (hold.to, hold.open, hold.order.1) = (at, false, self.order);
            self.lanes.remove(&hold.lane);
        }
    }

    /// Ends the present period and starts another.
    fn turn(&mut self, row: usize, at: u64, next: Option<Kind>, note: String) {
        // A period without duration is drawn only if it is an action.
        let took_time = |(kind, from): &(Kind, u64)| *from < at || *kind > Kind::Holding;
        if let Some((kind, from)) = self.now[row].take().filter(took_time) {
            self.timeline.rows[row].pieces.push(Piece { kind, from, to: at, note });
        }
        self.now[row] = next.map(|kind| (kind, at));
    }
}
