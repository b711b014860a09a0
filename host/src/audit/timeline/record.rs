//! From a run's pages to what is drawn.

use std::collections::{BTreeSet, HashMap};

use crate::audit::Page;
use crate::policy::types::Ending;
use crate::rollout::journal::{Closing, Header};
use crate::rollout::model::{Event, Stamped};

/// What a target did for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// It was asked about, and might not go.
    Waiting,
    /// It queued for its slot.
    Queueing,
    /// It had its slot, and did not act: not yet, or not any more.
    Holding,
    /// It acted, and that succeeded.
    Succeeded,
    /// It was undone.
    RolledBack,
    /// It acted, and that failed.
    Failed,
    /// It acted, and nobody knows how that ended.
    Unknown,
    /// It acts at the end of what is known.
    Running,
}

/// A target from one moment to another. Times are milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// What it did.
    pub kind: Kind,
    /// From then on.
    pub from: u64,
    /// Until then.
    pub to: u64,
    /// More, for who points at it.
    pub note: String,
}

/// A target's time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Which.
    pub target: String,
    /// What it did, in order, without overlaps.
    pub pieces: Vec<Piece>,
    /// When it was left out.
    pub skipped: Option<u64>,
}

/// A slot in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// By which target: its row.
    pub row: usize,
    /// In which lane, from 0: no two holds of a lane overlap.
    pub lane: usize,
    /// From then on.
    pub from: u64,
    /// Until then.
    pub to: u64,
    /// Why it was taken by force, if it was.
    pub forced: Option<String>,
    /// It was held still at the end of what is known.
    pub open: bool,
    /// Where in the order of all that happened it began and ended: two moments may be the same.
    pub order: (usize, usize),
}

/// A moment of the whole run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// When.
    pub at: u64,
    /// What: a wave began, another runner went on.
    pub text: String,
}

/// What is drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline {
    /// The run's name.
    pub run: String,
    /// Its job's name.
    pub job: String,
    /// How it ended; none: it goes on, or was killed.
    pub end: Option<String>,
    /// The first moment.
    pub from: u64,
    /// The last that is known.
    pub to: u64,
    /// How many slots this run may use.
    pub slots: u32,
    /// The targets, in the plan's order.
    pub rows: Vec<Row>,
    /// Slots in use, in the order in which they were taken.
    pub holds: Vec<Hold>,
    /// Where waves and stints begin.
    pub marks: Vec<Mark>,
}

impl Timeline {
    /// How many slots were in use from each change on.
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
    /// What each target does now, and since when.
    now: Vec<Option<(Kind, u64)>>,
    /// Holds that are open, by row.
    held: HashMap<usize, usize>,
    lanes: BTreeSet<usize>,
    /// The first target of each wave that has not begun, and its end and name.
    waves: Vec<(std::ops::Range<usize>, String)>,
    order: usize,
}

impl Recorder {
    /// From a run's first page.
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

    /// One more page.
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

    /// What is known at the end.
    #[must_use]
    pub fn finish(mut self, closing: Option<&Closing>) -> Timeline {
        if let Some(closing) = closing {
            self.timeline.to = self.timeline.to.max(closing.ended);
            self.timeline.end = Some(closing.end.clone());
        }
        let to = self.timeline.to;
        for row in 0..self.now.len() {
            let running = matches!(self.now[row], Some((Kind::Running, _)));
            self.turn(row, to, None, if running { "under way".to_owned() } else { String::new() });
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
        self.timeline.marks.push(Mark { at, text: format!("stint {}", header.runner_epoch) });
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
                    if *attempt > 1 { "tried again".to_owned() } else { String::new() },
                );
            }
            Event::RollingBack { target, reason, .. } => {
                let Some(row) = row(target) else { return };
                self.turn(row, at, Some(Kind::Running), format!("then undone: {reason}"));
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
                self.acted(row(target), at, kind, format!("try {attempt}: {detail}"));
            }
            Event::ReleasedUnused { target, reason } => {
                let Some(row) = row(target) else { return };
                self.turn(row, at, Some(Kind::Waiting), format!("given back: {reason}"));
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
                self.turn(row, at, None, format!("left out: {reason}"));
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

    /// The first target of a wave that gets so far begins it.
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

    /// What it did until now is over, and something else begins.
    fn turn(&mut self, row: usize, at: u64, next: Option<Kind>, note: String) {
        // Of what took no time only an action is worth a line.
        let took_time = |(kind, from): &(Kind, u64)| *from < at || *kind > Kind::Holding;
        if let Some((kind, from)) = self.now[row].take().filter(took_time) {
            self.timeline.rows[row].pieces.push(Piece { kind, from, to: at, note });
        }
        self.now[row] = next.map(|kind| (kind, at));
    }
}
