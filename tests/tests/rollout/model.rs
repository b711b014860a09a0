//! The machine against a world that does anything it may, in any order, and policies that answer anything; and against
//! runners that die at any moment, each followed by one that goes on from what was written down.
//!
//! What the machine promises is checked after every step by a second account of the world, kept here without a look into
//! the machine. `LOCKKEEPER_SEED` runs one seed again.

mod truth;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use lockkeeper::job::{
    Calendar, Freeze, MemberTemplate, ObserveSpec, OnExhausted, OnFault, OnUnknown, PartyCounts, Target, TargetName,
    Template,
};
use lockkeeper::policy::types::{Admission, Admitted, Cause, Ending, Settled, Settlement};
use lockkeeper::rollout::machine::{ORCHESTRATION, Rollout};
use lockkeeper::rollout::model::{
    Acquisition, Action, ActionResult, AttemptEnd, Budget, CommandKind, Connectivity, Counts, Course, End, EpochMs,
    Event, Fault, FinalStatus, Floor, HardLimits, HeldElsewhere, Input, NotLeased, Observed, OperatorRequest,
    OperatorRequests, OrchestrationEnd, OrchestrationReply, OrchestrationRequest, Probed, RecordedStatus, RequestId,
    Resumed, RunFailure, RunId, SeenLease, SeenMember, Setup, Stop, Takeover, TargetIndex, TargetRecord, TargetStatus,
    Wave,
};
use lockkeeper_coordination::store::{Fence, Lifetime, NodePath};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use truth::{Ground, Write, truth_of};

/// How many seeds a test goes through.
const SEEDS: u64 = 4000;

/// Steps of a world that does as it likes.
const WILD_STEPS: usize = 250;

/// Steps in which a world that behaves must see a run to its end.
const TAME_STEPS: usize = 8000;

/// What the members' names have behind those of the targets.
const SUFFIX: &str = ".example.com";

/// How many runners a run has at most, one after the other, before the world behaves.
const MOST_LIVES: usize = 5;

/// How a policy answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Lock,
    Force,
    /// `lock`, and `wait` once the slot is there.
    Fickle,
    /// `wait` or `hold`, whatever happens.
    Sulk,
    Anything,
}

/// Whether the floor alone keeps a run from going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Alone {
    No,
    /// Something is to be rolled back, and that is another question.
    Maybe,
    Yes,
}

/// What a target's lease task does, as the run loop would have it.
#[derive(Debug, Clone, PartialEq)]
enum LeaseTask {
    None,
    Queues {
        forced: bool,
        withdrawn: bool,
        /// The target's status once it has its slot.
        status: RecordedStatus,
    },
    /// A release may be ordered before it is known whether the lease is held.
    Adopts {
        releasing: Option<RecordedStatus>,
    },
    Holds {
        fence: Fence,
        lost: bool,
        releasing: Option<RecordedStatus>,
    },
    /// There is no lease task, and the target's status is being written.
    Writes {
        status: RecordedStatus,
    },
}

struct World {
    rollout: Rollout,
    /// What every runner is made from.
    setup: Setup,
    ground: Ground,
    dice: StdRng,
    manner: Manner,
    now: u64,
    lease_tasks: Vec<LeaseTask>,
    /// Running commands: the attempt, and the ending with which the machine stopped it.
    running: BTreeMap<usize, (u32, Option<Ending>)>,
    /// What this runner saw end, of which attempt.
    attempt_ends: BTreeMap<usize, (u32, AttemptEnd)>,
    /// Probes that are to answer, and when.
    probes: BTreeMap<usize, (u32, u64)>,
    /// The newest attempt of each target.
    attempts: Vec<u32>,
    /// Attempts since an operator requested a retry, or a runner started.
    tries: Vec<u32>,
    members: Vec<String>,
    members_read: Option<Vec<String>>,
    /// Since when the floor alone has kept every target from going, and for how long since something was under way or
    /// there were enough members.
    floor_alone: (Option<u64>, u64),
    counts_floor_time: bool,
    /// When the last step was.
    last_step: u64,
    /// Something of this runner's was under way.
    has_begun: bool,
    /// A target was seen in the party, or something was begun before this runner.
    names_fit: bool,
    /// Targets that this runner's orchestration, or an operator, allowed to start.
    allowed: BTreeSet<usize>,
    foreign: Vec<SeenLease>,
    connectivity: Connectivity,
    semaphore_is_read: bool,
    observed: Vec<bool>,
    question: Option<(usize, bool)>,
    requests: OperatorRequests,
    /// Targets that an operator requested again, or whose outcome could not be known: these may start again.
    may_repeat: BTreeSet<usize>,
    /// Those whose roll-back no runner saw end, and of them those that may be rolled back once more.
    unsettled_roll_backs: BTreeSet<usize>,
    may_roll_back_again: BTreeSet<usize>,
    /// The policy had these rolled back after they had succeeded: no budget counts them before.
    rolled_back_after_success: BTreeSet<usize>,
    /// Those that were given up after their last attempt, whether their slot is free yet or not: kept from what is ordered.
    given_up: Vec<bool>,
    /// Since when each is final.
    final_at: Vec<Option<u64>>,
    stopping: bool,
    rolls_run_back: bool,
    /// The run was ended for a reason that ends its roll-back, too.
    cut_short: bool,
    /// Nothing starts any more, not even a roll-back.
    stopped_now: bool,
    stuck: bool,
    lives: usize,
    /// Targets that the orchestration started, under any runner.
    started_by_orchestration: BTreeSet<usize>,
    /// Those that the orchestration wants rolled back.
    roll_backs_requested: BTreeSet<usize>,
    /// Those that queue, or hold a slot, to be rolled back.
    queued_for_roll_back: BTreeSet<usize>,
    orchestration_runs: bool,
    /// How many requests the orchestration has made.
    requested: u64,
    /// Its request for what the policy would answer.
    consulted: Option<RequestId>,
    log: Vec<String>,
}

fn at(target: usize) -> TargetIndex {
    TargetIndex::new(target)
}

/// `total` targets in up to four waves.
fn waves(dice: &mut StdRng, total: usize) -> Vec<Wave> {
    if dice.random_bool(0.5) {
        return Vec::new();
    }
    let mut waves: Vec<Wave> = Vec::new();
    let mut from = 0;
    while from < total {
        let until = if waves.len() == 3 { total } else { dice.random_range(from + 1..=total) };
        waves.push(Wave {
            name: format!("w{}", waves.len()),
            targets: from..until,
            slots: dice.random_bool(0.3).then(|| dice.random_range(1..=3)),
            stop_at: dice.random_bool(0.3).then(|| dice.random_range(1..=2)),
            bake: Duration::from_millis(if dice.random_bool(0.5) { 0 } else { dice.random_range(1..600_000) }),
            approve: dice.random_bool(0.3),
        });
        from = until;
    }
    waves
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        let total = dice.random_range(1..=12_usize);
        let slots = dice.random_range(1..=6);
        let names: Vec<String> = (0..total).map(|index| format!("t{index}")).collect();
        let floor = dice.random_bool(0.5).then(|| dice.random_range(0..=total as u32));
        let budget = budget(&mut dice);
        let manner = [Manner::Lock, Manner::Force, Manner::Fickle, Manner::Anything][dice.random_range(0..4)];
        let can_roll_back = dice.random_bool(0.5);
        let path = |path: &str| NodePath::parse(path).unwrap();
        let setup = Setup {
            job: "model".to_owned(),
            run: RunId::new(format!("model-{seed}")),
            started: EpochMs::new(1_000),
            seed,
            targets: names.iter().map(|name| Target::unlabelled(TargetName::parse(name).unwrap())).collect(),
            limits: HardLimits { slots, floor, budget, calendar: frozen(&mut dice) },
            action_timeout: None,
            semaphore: "/s".to_owned(),
            lifetime: if dice.random_bool(0.5) { Lifetime::Ephemeral } else { Lifetime::Persistent },
            patience: dice.random_bool(0.5).then(|| Duration::from_secs(60)),
            party: floor.map(|_| Floor {
                path: "/p".to_owned(),
                blocking: dice.random_bool(0.8),
                patience: dice.random_bool(0.5).then(|| Duration::from_millis(dice.random_range(0..20_000))),
                member: MemberTemplate::new(Template::parse(&format!("{{target}}{SUFFIX}")).unwrap()).unwrap(),
                counts: PartyCounts::Targets,
            }),
            attempts: dice.random_range(1..=3),
            on_fault: if dice.random_bool(0.5) { OnFault::Hold } else { OnFault::Abort },
            back_off: Duration::from_millis(if dice.random_bool(0.5) { 0 } else { dice.random_range(1..5_000) }),
            waves: waves(&mut dice, total),
            has_probe: dice.random_bool(0.7),
            has_roll_back_probe: can_roll_back && dice.random_bool(0.5),
            can_roll_back,
            on_unknown: [OnUnknown::Hold, OnUnknown::Fail, OnUnknown::Retry][dice.random_range(0..3)],
            on_exhausted: match dice.random_range(0..3) {
                0 => OnExhausted::Pause,
                1 if can_roll_back => OnExhausted::RollBack,
                _ => OnExhausted::Abort,
            },
            observe: match dice.random_range(0..4) {
                0 => vec![ObserveSpec::Semaphore(path("/x")), ObserveSpec::Party(path("/y"))],
                _ => Vec::new(),
            },
            has_orchestration: dice.random_bool(0.3),
            resumed: None,
        };
        Self {
            rollout: Rollout::new(setup.clone()),
            observed: vec![false; setup.observe.len()],
            ground: Ground::new(total),
            manner,
            now: 1_000,
            lease_tasks: vec![LeaseTask::None; total],
            running: BTreeMap::new(),
            attempt_ends: BTreeMap::new(),
            probes: BTreeMap::new(),
            attempts: vec![0; total],
            tries: vec![0; total],
            members: names.iter().map(|name| format!("{name}{SUFFIX}")).collect(),
            members_read: None,
            floor_alone: (None, 0),
            counts_floor_time: false,
            last_step: 0,
            has_begun: false,
            names_fit: false,
            allowed: BTreeSet::new(),
            foreign: Vec::new(),
            connectivity: Connectivity::Connected,
            semaphore_is_read: false,
            question: None,
            requests: OperatorRequests::default(),
            may_repeat: BTreeSet::new(),
            unsettled_roll_backs: BTreeSet::new(),
            may_roll_back_again: BTreeSet::new(),
            rolled_back_after_success: BTreeSet::new(),
            given_up: vec![false; total],
            final_at: vec![None; total],
            stopping: false,
            rolls_run_back: false,
            cut_short: false,
            stopped_now: false,
            stuck: false,
            lives: 1,
            started_by_orchestration: BTreeSet::new(),
            roll_backs_requested: BTreeSet::new(),
            queued_for_roll_back: BTreeSet::new(),
            orchestration_runs: setup.has_orchestration,
            requested: 0,
            consulted: None,
            log: Vec::new(),
            dice,
            setup,
        }
    }

    fn chance(&mut self, share: f64) -> bool {
        self.dice.random_bool(share)
    }

    fn total(&self) -> usize {
        self.lease_tasks.len()
    }

    fn step(&mut self, input: Input) {
        self.log.push(format!("{} < {input:?}", self.now));
        self.stopping |=
            matches!(input, Input::Stop(_) | Input::Failed(_) | Input::NotReleased { .. } | Input::Lost { .. });
        self.cut_short |=
            matches!(input, Input::Stop(_) | Input::Failed(_) | Input::NotReleased { .. } | Input::Lost { .. });
        self.cut_short |= matches!(&input, Input::OperatorRequests(requests) if requests.aborted.is_some());
        if let Input::OrchestrationEnded(how) = &input {
            self.orchestration_runs = false;
            self.stopping |= *how != OrchestrationEnd::Completed;
            self.cut_short |= *how != OrchestrationEnd::Completed;
        }
        self.stopped_now |= matches!(input, Input::Stop(Stop::Now) | Input::Lost { .. });
        self.ground.lost |= matches!(input, Input::Lost { .. });
        self.note_allowed(&input);
        if self.counts_floor_time {
            self.floor_alone.1 += self.now - self.last_step;
        }
        self.last_step = self.now;
        let actions = self.rollout.step(EpochMs::new(self.now), input);
        self.note_finals();
        for action in actions {
            if !matches!(action, Action::Admit { .. } | Action::Settle { .. }) {
                self.log.push(format!("    > {action:?}"));
            }
            self.carry_out(action);
        }
        self.check_floor_time();
        self.check();
    }

    fn note_allowed(&mut self, input: &Input) {
        match input {
            Input::OrchestrationRequest { request: OrchestrationRequest::Start { target }, .. } => {
                self.allowed.insert(target.get());
            }
            Input::OperatorRequests(requests) => self.allowed.extend(requests.retry.keys().map(|target| target.get())),
            Input::Session(Connectivity::Over) => self.semaphore_is_read = false,
            _ => {}
        }
    }

    /// The floor's time, as the world sees it. What ends the run by it is checked in [`Self::ended_by_floor`].
    fn check_floor_time(&mut self) {
        let in_flight = (0..self.total()).any(|target| self.status(target).is_in_flight());
        self.has_begun |= in_flight;
        if in_flight || self.has_enough_members() {
            self.floor_alone.1 = 0;
        }
        let alone = if in_flight { Alone::No } else { self.is_floor_alone() };
        self.counts_floor_time = alone != Alone::No;
        if alone != Alone::Yes {
            self.floor_alone.0 = None;
            return;
        }
        let since = *self.floor_alone.0.get_or_insert(self.now);
        let party = self.setup.party.as_ref().expect("a floor has a party");
        if let Some(patience) = party.patience {
            let lasts = self.now - since;
            assert!(lasts < patience.as_millis() as u64, "the floor alone has kept the run for {lasts} ms");
        }
        assert!(party.blocking || self.has_begun, "the job does not wait for its floor, and waits");
    }

    fn has_enough_members(&self) -> bool {
        let distinct = self.members_read.iter().flatten().collect::<BTreeSet<_>>().len();
        let are_enough = self.setup.limits.floor.is_none_or(|floor| distinct > floor as usize);
        self.members_read.is_some() && self.names_fit && are_enough
    }

    /// Whether nothing keeps the targets from going that may go next but too few members.
    fn is_floor_alone(&self) -> Alone {
        let Some(floor) = self.setup.limits.floor else { return Alone::No };
        let known = self.connectivity == Connectivity::Connected
            && self.semaphore_is_read
            && self.observed.iter().all(|read| *read);
        let Some(members) = self.members_read.as_ref().filter(|_| known) else { return Alone::No };
        let now = Timestamp::from_millisecond(self.now as i64).unwrap();
        let is_frozen =
            self.setup.limits.calendar.freezes.iter().any(|freeze| freeze.from <= now && now < freeze.until);
        let is_bad = |target: &usize| {
            let state = self.status(*target);
            let failed = matches!(
                state,
                TargetStatus::Final(FinalStatus::Failed | FinalStatus::Unknown | FinalStatus::RolledBack)
            );
            failed && !self.requests.accepted.contains(&at(*target))
        };
        let bad = (0..self.total()).filter(is_bad).count() as u32;
        let is_unknown = |target: usize| self.status(target) == TargetStatus::Final(FinalStatus::Unknown);
        let is_held = self.setup.on_unknown == OnUnknown::Hold
            && (0..self.total()).any(|target| is_unknown(target) && is_bad(&target));
        let Budget { stop_at, max_failed } = self.setup.limits.budget;
        let is_wave_spent = |wave: &Wave| {
            let bad = wave.targets.clone().filter(is_bad).count() as u32;
            wave.stop_at.is_some_and(|stop_at| bad >= stop_at)
        };
        let is_spent = stop_at.into_iter().chain(max_failed).any(|most| bad >= most.max(1))
            || self.setup.waves.iter().any(is_wave_spent);
        if self.requests.paused.is_some() || (self.stopping && self.cut_short) || self.rollout.report().is_some() {
            return Alone::No;
        }
        // Leases of an earlier runner are another holder's until they are taken over.
        if self.stopping
            || self.rolls_run_back
            || !self.roll_backs_requested.is_empty()
            || !self.ground.leases.is_empty()
        {
            return Alone::Maybe;
        }
        if is_frozen || is_held || is_spent {
            return Alone::No;
        }
        let may_start = |target: &usize| {
            let allowed = !self.setup.has_orchestration || self.allowed.contains(target);
            let is_held = self.foreign.iter().any(|lease| lease.identifier == format!("t{target}"));
            allowed && !is_held && self.status(*target).is_open() && self.is_waves_turn(*target)
        };
        let next: Vec<usize> = (0..self.total()).filter(may_start).collect();
        let distinct: BTreeSet<&String> = members.iter().collect();
        let stays = |target: &usize, name: &String| self.names_fit && *name != format!("t{target}{SUFFIX}");
        let remaining = |target: &usize| distinct.iter().filter(|name| stays(target, name)).count();
        match !next.is_empty() && next.iter().all(|target| remaining(target) < floor as usize) {
            true => Alone::Yes,
            false => Alone::No,
        }
    }

    fn is_waves_turn(&self, target: usize) -> bool {
        let Some(wave) = self.setup.waves.iter().position(|wave| wave.targets.contains(&target)) else { return true };
        let is_baked = |earlier: &Wave| {
            let mut done = earlier.targets.clone().map(|other| self.final_at[other]);
            done.try_fold(0, |last, done| Some(done?.max(last)))
                .is_some_and(|last| self.now >= last + earlier.bake.as_millis() as u64)
        };
        let wave_is_approved = |wave: &Wave| !wave.approve || self.requests.approved.contains_key(&wave.name);
        self.setup.waves[..wave].iter().all(is_baked) && wave_is_approved(&self.setup.waves[wave])
    }

    /// The run is ended for its floor: that alone must have kept it long enough.
    fn ended_by_floor(&self) {
        let party = self.setup.party.as_ref().expect("a floor has a party");
        let in_flight = (0..self.total()).find(|target| self.status(*target).is_in_flight());
        assert_eq!(in_flight, None, "the floor ends the run while something of its own is under way");
        let total = self.floor_alone.1;
        let is_at_start = !party.blocking && !self.has_begun;
        let is_long = party.patience.is_some_and(|patience| total >= patience.as_millis() as u64);
        assert!(is_at_start || is_long, "the floor ends the run after {total} ms");
    }

    fn note_finals(&mut self) {
        for target in 0..self.total() {
            match (self.status(target), self.final_at[target]) {
                (TargetStatus::Final(_), None) => self.final_at[target] = Some(self.now),
                (TargetStatus::Final(_), Some(_)) => {}
                _ => self.final_at[target] = None,
            }
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Admit { target, view } => {
                let is_consultation = view.cause == Cause::Operator(ORCHESTRATION.to_owned());
                let is_final = matches!(self.status(target.get()), TargetStatus::Final(_));
                assert!(is_consultation || !is_final, "t{target} is final, and its policy is to decide");
                self.ask(target.get(), false);
            }
            Action::Settle { target, .. } => self.ask(target.get(), true),
            Action::Reply { id, reply: OrchestrationReply::Advice(_) } => {
                assert_eq!(self.consulted.take(), Some(id), "the orchestration did not consult the policy");
            }
            Action::Reply { reply: OrchestrationReply::Target(report), .. } => {
                assert!(self.setup.has_orchestration, "a reply about t{} without an orchestration", report.target);
            }
            Action::Acquire { target, status, .. } => self.queue(target.get(), false, status),
            Action::Force { target, .. } => self.queue(target.get(), true, RecordedStatus::Leased),
            Action::Adopt { target } => {
                let target = target.get();
                assert_eq!(self.lease_tasks[target], LeaseTask::None, "t{target} is adopted twice");
                self.lease_tasks[target] = LeaseTask::Adopts { releasing: None };
            }
            Action::Withdraw { target } => match &mut self.lease_tasks[target.get()] {
                LeaseTask::Queues { withdrawn, .. } if !*withdrawn => *withdrawn = true,
                other => panic!("t{target} is withdrawn while {other:?}"),
            },
            Action::Release { target, status } => {
                let target = target.get();
                self.note_given_up(target, &status);
                assert!(!self.running.contains_key(&target), "t{target} is released while its command runs");
                match &mut self.lease_tasks[target] {
                    LeaseTask::Holds { releasing, .. } | LeaseTask::Adopts { releasing } if releasing.is_none() => {
                        *releasing = Some(status);
                    }
                    lease_task @ LeaseTask::None => *lease_task = LeaseTask::Writes { status },
                    other => panic!("t{target} is released while {other:?}"),
                }
            }
            Action::Save { target, status } => {
                let target = target.get();
                self.note_given_up(target, &status);
                let lease_task = &self.lease_tasks[target];
                assert!(
                    matches!(lease_task, LeaseTask::None | LeaseTask::Holds { releasing: None, .. }),
                    "t{target}: {lease_task:?}"
                );
                self.ground.writes[target].push_back(Write::Save(status));
            }
            Action::Start { target, command_kind, attempt, fence, status } => {
                self.start(target.get(), command_kind, attempt, fence, status);
            }
            Action::Kill { target, ending, .. } => {
                let target = target.get();
                let (_, told) =
                    self.running.get_mut(&target).unwrap_or_else(|| panic!("t{target} is killed and does not act"));
                told.get_or_insert(ending);
            }
            Action::Probe { target, command_kind, attempt, after_ms, .. } => {
                let target = target.get();
                let has_probe = if command_kind == CommandKind::Action {
                    self.setup.has_probe
                } else {
                    self.setup.has_roll_back_probe
                };
                assert!(has_probe, "t{target} is probed without a probe");
                assert_eq!(self.status(target), TargetStatus::Unsettled, "t{target} is probed");
                let before = self.probes.insert(target, (attempt, self.now + after_ms));
                assert_eq!(before, None, "t{target} is probed twice at once");
            }
            Action::Emit(Event::Stopping { reason, .. }) => {
                if reason.starts_with("the party") {
                    self.ended_by_floor();
                    self.cut_short = true;
                }
                self.stopping = true;
            }
            Action::Emit(Event::RollingBackRun { .. }) => self.rolls_run_back = true,
            Action::Emit(Event::Probed { target, answer, .. }) => {
                let target: usize = target[1..].parse().unwrap();
                match &*answer {
                    answer if self.unsettled_roll_backs.remove(&target) => {
                        let is_again = answer == "not-started" || self.setup.on_unknown == OnUnknown::Retry;
                        if is_again && matches!(answer, "unknown" | "not-started") {
                            self.may_roll_back_again.insert(target);
                        }
                    }
                    // Its outcome is unknown, and the job says what follows.
                    "unknown" => {
                        self.may_repeat.insert(target);
                        if self.setup.on_unknown == OnUnknown::Retry {
                            self.tries[target] = self.tries[target].saturating_sub(1);
                        }
                    }
                    "not-started" => self.tries[target] = self.tries[target].saturating_sub(1),
                    _ => {}
                }
            }
            Action::Emit(_) => {}
        }
    }

    fn ask(&mut self, target: usize, settle: bool) {
        assert!(self.question.is_none(), "two questions at once");
        assert!(settle || !self.stopping, "t{target} is to be decided after the end");
        assert!(!self.stopped_now, "t{target} is to be decided after everything was to stop at once");
        assert!(settle || self.observed.iter().all(|read| *read), "t{target} is to be decided before all was read");
        self.question = Some((target, settle));
    }

    fn queue(&mut self, target: usize, forced: bool, status: RecordedStatus) {
        assert!(!self.stopping || (self.rolls_run_back && !self.cut_short), "t{target} queues after the end");
        assert_eq!(self.lease_tasks[target], LeaseTask::None, "t{target} queues twice");
        self.lease_tasks[target] = LeaseTask::Queues { forced, withdrawn: false, status };
        match self.final_at[target].is_some() {
            true => self.queued_for_roll_back.insert(target),
            false => self.queued_for_roll_back.remove(&target),
        };
    }

    fn start(&mut self, target: usize, command_kind: CommandKind, attempt: u32, fence: Fence, status: RecordedStatus) {
        assert!(!self.stopped_now, "t{target} starts after everything was to stop");
        let held = LeaseTask::Holds { fence, lost: false, releasing: None };
        assert_eq!(self.lease_tasks[target], held, "t{target} starts without its lease");
        assert_eq!(attempt, self.attempts[target] + 1, "t{target}'s attempts are counted");
        self.attempts[target] = attempt;
        let was_queued_for_roll_back =
            command_kind == CommandKind::RollBack && self.queued_for_roll_back.remove(&target);
        if was_queued_for_roll_back && !self.rolls_run_back {
            assert!(!self.stopping, "t{target} is rolled back after the end");
            let is_wanted = self.roll_backs_requested.remove(&target) || self.may_roll_back_again.contains(&target);
            assert!(is_wanted, "t{target} is rolled back without a request");
        }
        if command_kind == CommandKind::RollBack {
            let is_again = self.ground.was_rolled_back(target);
            assert!(!is_again || self.may_roll_back_again.contains(&target), "t{target} is rolled back twice");
            self.may_roll_back_again.remove(&target);
        }
        if command_kind == CommandKind::Action || was_queued_for_roll_back {
            assert_eq!(self.connectivity, Connectivity::Connected, "t{target} starts while the store is not connected");
            assert_eq!(self.requests.paused, None, "t{target} starts while the run is paused");
            self.floor_is_kept(target);
        }
        match command_kind {
            CommandKind::Action => self.may_act(target),
            CommandKind::RollBack => {
                assert!(self.setup.can_roll_back, "t{target} is rolled back with no command for that");
                assert!(!self.rolls_run_back || !self.cut_short, "t{target} is rolled back after that was to stop");
            }
        }
        self.ground.writes[target].push_back(Write::Start { command_kind, attempt, fence, status });
        assert!(self.running.insert(target, (attempt, None)).is_none(), "t{target} runs twice at once");
    }

    /// What is ordered to be written down says whether that was the last attempt.
    fn note_given_up(&mut self, target: usize, status: &RecordedStatus) {
        self.given_up[target] = match status {
            // It holds the run, which is looked at elsewhere.
            RecordedStatus::Unknown { .. } | RecordedStatus::KeepingSlot { ending: Ending::Unknown, .. }
                if self.setup.on_unknown == OnUnknown::Hold =>
            {
                false
            }
            RecordedStatus::KeepingSlot { ending, .. } => *ending != Ending::Succeeded,
            status => status.is_charged(),
        };
    }

    /// How many of these were given up, and are not accepted.
    fn failed(&self, among: impl Iterator<Item = usize>) -> u32 {
        let counts = |target: &usize| self.given_up[*target] && !self.requests.accepted.contains(&at(*target));
        among.filter(counts).count() as u32
    }

    fn may_act(&mut self, target: usize) {
        assert!(!self.stopping, "t{target} starts after the end");
        let Budget { stop_at, max_failed } = self.setup.limits.budget;
        let others = |of: std::ops::Range<usize>| of.filter(move |other| *other != target);
        let failed = self.failed(others(0..self.total()));
        for enough in stop_at.into_iter().chain(max_failed) {
            assert!(failed < enough.max(1), "t{target} starts after {failed} failed of {enough}");
        }
        for wave in &self.setup.waves {
            let failed = self.failed(others(wave.targets.clone()));
            let enough = wave.stop_at.unwrap_or(u32::MAX);
            assert!(failed < enough, "t{target} starts after {failed} of `{}` failed of {enough}", wave.name);
        }
        let is_let_go = !self.setup.has_orchestration
            || self.started_by_orchestration.contains(&target)
            || self.attempts[target] > 1;
        assert!(is_let_go, "t{target} starts, and the orchestration did not let it go");
        self.tries[target] += 1;
        assert!(self.tries[target] <= self.setup.attempts, "t{target} has too many attempts");
        if !self.may_repeat.contains(&target) {
            assert!(!self.ground.did_succeed(target), "t{target} starts again, and it succeeded");
            let last = self.ground.commands[target].last();
            assert!(last.is_none_or(|last| last.succeeded.is_some()), "t{target} starts while its last attempt runs");
        }
        if self.setup.on_unknown == OnUnknown::Hold {
            let unknown = |other: &usize| self.status(*other) == TargetStatus::Final(FinalStatus::Unknown);
            let held = (0..self.total()).filter(unknown).find(|other| !self.requests.accepted.contains(&at(*other)));
            assert_eq!(held, None, "t{target} starts, and the outcome of that one is unknown");
        }
        let Some(wave) = self.setup.waves.iter().position(|wave| wave.targets.contains(&target)) else { return };
        for earlier in &self.setup.waves[..wave] {
            for other in earlier.targets.clone() {
                // It was final, and is being rolled back.
                if self.queued_for_roll_back.contains(&other) || self.status(other) == TargetStatus::RollingBack {
                    continue;
                }
                let done = self.final_at[other].unwrap_or_else(|| panic!("t{target} starts before t{other}"));
                let baked = done + earlier.bake.as_millis() as u64;
                assert!(self.now >= baked, "t{target} starts at {}, before t{other} has baked at {baked}", self.now);
            }
        }
        let wave = &self.setup.waves[wave];
        assert!(!wave.approve || self.requests.approved.contains_key(&wave.name), "t{target} starts unapproved");
    }

    fn floor_is_kept(&self, target: usize) {
        if let Some(floor) = self.setup.limits.floor.filter(|floor| *floor > 0) {
            let members = self.members_read.as_ref().expect("nothing starts before the party is known");
            assert!(self.names_fit, "t{target} starts under a floor of strangers");
            let may_be_down = |name: &String| {
                (0..self.total()).any(|other| {
                    let is_down = !matches!(
                        self.status(other),
                        TargetStatus::Pending
                            | TargetStatus::Waiting
                            | TargetStatus::Queued
                            | TargetStatus::Leased
                            | TargetStatus::Final(_)
                    );
                    (other == target || is_down) && *name == format!("t{other}{SUFFIX}")
                })
            };
            let remaining =
                members.iter().collect::<BTreeSet<_>>().into_iter().filter(|name| !may_be_down(name)).count();
            assert!(
                remaining >= floor as usize,
                "t{target} starts below the floor: {remaining} would remain of {floor}"
            );
        }
    }

    /// What holds at every moment.
    fn check(&self) {
        let total = self.total();
        let mut counted = Counts { total: total as u32, ..Counts::default() };
        let (mut in_flight, mut charged) = (0, 0);
        for target in 0..total {
            let state = self.status(target);
            let lease_task = &self.lease_tasks[target];
            // A target may be recorded as leased whose lease is gone, and whose slot another holder has.
            let is_gone = matches!(lease_task, LeaseTask::Adopts { .. }) && !self.ground.leases.contains_key(&target);
            in_flight += u32::from(state.is_in_flight() && !is_gone);
            let acts = matches!(state, TargetStatus::Running | TargetStatus::RollingBack);
            assert_eq!(acts, self.running.contains_key(&target), "t{target} is {state:?}");
            let needs_no_keeper = matches!(state, TargetStatus::Unsettled | TargetStatus::ActionEnded(_));
            let is_kept = *lease_task != LeaseTask::None || needs_no_keeper;
            assert!(
                state.is_in_flight() || *lease_task == LeaseTask::None,
                "t{target} is {state:?} with {lease_task:?}"
            );
            assert!(!state.is_in_flight() || is_kept, "t{target} is {state:?} without a lease task");
            let place = match state {
                TargetStatus::Pending => &mut counted.pending,
                TargetStatus::Waiting | TargetStatus::Queued | TargetStatus::Leased => &mut counted.waiting,
                TargetStatus::Running
                | TargetStatus::Unsettled
                | TargetStatus::ActionEnded(_)
                | TargetStatus::RollingBack
                | TargetStatus::RollBackEnded(_) => &mut counted.running,
                TargetStatus::Final(FinalStatus::Succeeded) => &mut counted.succeeded,
                TargetStatus::Final(FinalStatus::Failed) => &mut counted.failed,
                TargetStatus::Final(FinalStatus::Unknown) => &mut counted.unknown,
                TargetStatus::Final(FinalStatus::RolledBack) => &mut counted.rolled_back,
                TargetStatus::Final(FinalStatus::Skipped) => &mut counted.skipped,
            };
            *place += 1;
            let is_failure = match state {
                TargetStatus::Running
                | TargetStatus::Unsettled
                | TargetStatus::RollingBack
                | TargetStatus::RollBackEnded(_) => true,
                TargetStatus::Final(FinalStatus::Failed | FinalStatus::Unknown | FinalStatus::RolledBack) => {
                    !self.requests.accepted.contains(&at(target))
                }
                TargetStatus::ActionEnded(ending) => ending != Ending::Succeeded,
                _ => false,
            };
            // Of those that succeeded, and of which that got lost, no budget could have known.
            let got_lost = self.ground.did_succeed(target) || self.rolled_back_after_success.contains(&target);
            charged += u32::from(is_failure && !got_lost);
        }
        assert_eq!(self.rollout.counts(), counted);
        let slots = self.setup.limits.slots;
        assert!(in_flight <= slots, "{in_flight} in flight with {slots} slots");
        assert!(self.ground.leases.len() <= slots as usize, "{:?} with {slots} slots", self.ground.leases);
        for wave in &self.setup.waves {
            let is_under_way = |target: &usize| {
                self.status(*target).is_in_flight() && !matches!(self.lease_tasks[*target], LeaseTask::Adopts { .. })
            };
            let under_way = wave.targets.clone().filter(is_under_way).count();
            assert!(wave.slots.is_none_or(|slots| under_way <= slots as usize), "{under_way} in {wave:?}");
        }
        if let Some(max_failed) = self.setup.limits.budget.max_failed.filter(|_| !self.rolls_run_back) {
            assert!(charged <= max_failed.max(1), "{charged} failures charged or reserved of {max_failed}");
        }
        let got_lost =
            |target: &usize| self.ground.did_succeed(*target) || self.rolled_back_after_success.contains(target);
        let failed = self.failed((0..total).filter(|target| !got_lost(target)));
        if let Some(stop_at) = self.setup.limits.budget.stop_at.filter(|_| !self.rolls_run_back) {
            assert!(failed < stop_at + slots, "{failed} failed of {stop_at} with {slots} slots");
        }
        if let Some(report) = self.rollout.report() {
            assert!(
                self.lease_tasks.iter().all(|lease_task| *lease_task == LeaseTask::None),
                "over with {:?}",
                self.lease_tasks
            );
            assert!(self.question.is_none(), "over with a question open");
            assert!(report.end != End::Completed || report.counts.open() == 0, "completed with {:?}", report.counts);
        } else if self.question.is_none() {
            let wake = self.next_wake();
            assert!(wake.is_none_or(|wake| wake > self.now), "at {}, a tick would be due at once: {wake:?}", self.now);
        }
    }

    // ------------------------------------------------------------------ what the world may do

    fn wild_step(&mut self) {
        self.now += self.dice.random_range(0..40);
        match self.dice.random_range(0..26) {
            0..=6 if self.question.is_some() => self.answer(),
            0..=12 => self.one_target_goes_on(true),
            13 => self.read_semaphore(),
            14 | 15 => self.read_party(),
            16 => {
                self.connectivity = match self.dice.random_range(0..5) {
                    0 => Connectivity::Over,
                    1 => Connectivity::Suspended,
                    _ => Connectivity::Connected,
                };
                if self.connectivity == Connectivity::Over {
                    self.members_read = None;
                    self.observed.fill(false);
                }
                self.step(Input::Session(self.connectivity));
            }
            17 if self.chance(0.02) => {
                let stop = if self.chance(0.5) { Stop::Gently } else { Stop::Now };
                self.step(Input::Stop(stop));
            }
            17 if self.chance(0.01) => self.step(Input::Failed(RunFailure::Unavailable("gone".to_owned()))),
            17 if self.chance(0.01) => self
                .step(Input::Lost { reason: "the session ended".to_owned(), takeover: Takeover::From(Instant::now()) }),
            18 if self.setup.limits.floor.is_some() && self.chance(0.2) => {
                self.members_read = None;
                self.step(Input::PartyUnread);
            }
            19 => self.read_what_else(),
            20 => self.request_at_random(),
            21 => self.a_command_ends(),
            22..=24 => self.orchestrate_wildly(),
            _ => {
                if let (true, Some(wake)) = (self.chance(0.7), self.next_wake()) {
                    self.now = self.now.max(wake.min(self.now + 120_000));
                }
                self.step(Input::Tick);
            }
        }
    }

    fn orchestrate_wildly(&mut self) {
        if !self.orchestration_runs {
            return;
        }
        let target = self.dice.random_range(0..self.total());
        match self.dice.random_range(0..40) {
            0..=19 => self.started_by_orchestration(target),
            20..=23 => {
                // While a roll-back is wanted, that is what is taken back, though an operator wants the target again.
                let was_roll_back_requested = self.roll_backs_requested.remove(&target);
                let has_begun = !self.status(target).is_open() && self.status(target) != TargetStatus::Leased;
                if !was_roll_back_requested && !has_begun {
                    self.started_by_orchestration.remove(&target);
                }
                if !was_roll_back_requested {
                    self.allowed.remove(&target);
                }
                self.request(OrchestrationRequest::TakeBack { target: at(target) });
            }
            24 if self.chance(0.3) => {
                self.request(OrchestrationRequest::Skip { target: at(target), reason: "not today".to_owned() })
            }
            25..=33 if self.consulted.is_none() => {
                self.request(OrchestrationRequest::Consult { target: at(target) });
            }
            34 if self.chance(0.2) => self.step(Input::OrchestrationEnded(OrchestrationEnd::Completed)),
            36..=39 if self.setup.can_roll_back && matches!(self.status(target), TargetStatus::Final(_)) => {
                self.roll_backs_requested.insert(target);
                self.may_roll_back_again.insert(target);
                self.request(OrchestrationRequest::RollBack {
                    target: at(target),
                    reason: "it is wanted no longer".to_owned(),
                });
            }
            35 if self.chance(0.02) => {
                self.step(Input::OrchestrationEnded(OrchestrationEnd::GaveUp("it is no use".to_owned())))
            }
            _ => {}
        }
    }

    fn next_wake(&self) -> Option<u64> {
        self.rollout.next_wake().map(EpochMs::get)
    }

    fn status(&self, target: usize) -> TargetStatus {
        self.rollout.status(at(target))
    }

    /// The orchestration requests something.
    fn request(&mut self, request: OrchestrationRequest) {
        let id = RequestId::new(self.requested);
        self.requested += 1;
        if matches!(request, OrchestrationRequest::Consult { .. }) {
            self.consulted = Some(id);
        }
        self.step(Input::OrchestrationRequest { id, request });
    }

    fn started_by_orchestration(&mut self, target: usize) {
        self.started_by_orchestration.insert(target);
        self.request(OrchestrationRequest::Start { target: at(target) });
    }

    fn read_what_else(&mut self) {
        if self.observed.is_empty() {
            return;
        }
        let index = self.dice.random_range(0..self.observed.len());
        self.observed[index] = self.chance(0.9);
        let seen = self.observed[index].then(|| match index {
            0 => Observed::Semaphore { slots: Some(3), leases: self.foreign.clone(), queued: 0 },
            _ => Observed::Party(Vec::new()),
        });
        self.step(Input::Observed { index, seen });
    }

    fn request_at_random(&mut self) {
        let request = OperatorRequest { by: "ops".to_owned(), at: self.now, reason: None };
        let target = self.dice.random_range(0..self.total());
        let is_final = matches!(self.status(target), TargetStatus::Final(_));
        match self.dice.random_range(0..8) {
            0 if self.chance(0.5) => self.requests.paused = Some(request),
            0..=2 => self.requests.paused = None,
            3 if is_final => self.request_again(target, request),
            4 if is_final => drop(self.requests.accepted.insert(at(target))),
            5 if self.chance(0.03) => self.requests.aborted = Some(request),
            _ => {
                if let Some(wave) = self.setup.waves.get(self.dice.random_range(0..4)) {
                    self.requests.approved.insert(wave.name.clone(), request);
                }
            }
        }
        self.send_requests();
    }

    /// Of a target whose record is final: a request names the record's version.
    fn request_again(&mut self, target: usize, request: OperatorRequest) {
        if self.ground.saved[target].status.is_final() && self.ground.writes[target].is_empty() {
            self.requests.retry.insert(at(target), request);
        }
    }

    fn send_requests(&mut self) {
        let requests = self.requests.clone();
        for target in requests.retry.keys().map(|target| target.get()) {
            let again = TargetStatus::Final(FinalStatus::Succeeded) != self.status(target);
            if again && !self.stopping {
                self.may_repeat.insert(target);
                self.started_by_orchestration.insert(target);
                self.tries[target] = 0;
            }
        }
        self.step(Input::OperatorRequests(requests));
    }

    /// What an earlier runner had started ends by itself.
    fn a_command_ends(&mut self) {
        let orphans: Vec<_> = self
            .ground
            .running()
            .into_iter()
            .filter(|(target, command)| self.running.get(target).is_none_or(|(attempt, _)| *attempt != command.attempt))
            .collect();
        if !orphans.is_empty() {
            let (target, command) = orphans[self.dice.random_range(0..orphans.len())];
            let succeeded = self.chance(0.6);
            self.log.push(format!("{} t{target}'s try {} ends: {succeeded}", self.now, command.attempt));
            self.ground.ends(target, command.attempt, succeeded);
        }
    }

    fn answer(&mut self) {
        let (target, settle) = self.question.take().expect("a decision is pending");
        let fault = || Fault { kind: "trap", message: "it trapped".to_owned(), hint: None };
        let faulty = self.manner == Manner::Anything && self.chance(0.004);
        let (code, reason, memory) = ("code".to_owned(), "reason".to_owned(), vec![self.dice.random()]);
        if settle {
            let verdict = match self.dice.random_range(0..9) {
                0..=2 => Settlement::Release,
                3 | 4 => Settlement::Keep(self.dice.random_range(0..2_000)),
                5 | 6 => Settlement::Retry,
                7 if self.manner == Manner::Anything && self.chance(0.1) => Settlement::Abort,
                8 if self.setup.can_roll_back => Settlement::RollBack,
                _ => Settlement::Retry,
            };
            if verdict == Settlement::RollBack && self.status(target) == TargetStatus::ActionEnded(Ending::Succeeded) {
                self.rolled_back_after_success.insert(target);
            }
            let answer = if faulty { Err(fault()) } else { Ok(Settled { verdict, code, reason, memory }) };
            return self.step(Input::Settled { target: at(target), answer });
        }
        let granted = matches!(self.lease_tasks[target], LeaseTask::Holds { .. }) && self.chance(0.7);
        let verdict = match self.manner {
            Manner::Lock => Admission::Lock,
            Manner::Force => Admission::Force(vec![self.dice.random_range(90..120); self.dice.random_range(0..2)]),
            Manner::Fickle if granted => Admission::Wait,
            Manner::Fickle => Admission::Lock,
            Manner::Sulk => [Admission::Wait, Admission::Hold][self.dice.random_range(0..2)].clone(),
            Manner::Anything => match self.dice.random_range(0..60) {
                0..=29 => Admission::Lock,
                30..=39 => Admission::Wait,
                40..=47 => Admission::Hold,
                48..=54 => Admission::Force(Vec::new()),
                55..=58 => Admission::Skip,
                _ if self.chance(0.3) => Admission::Abort,
                _ => Admission::Wait,
            },
        };
        let wake_after = self.chance(0.4).then(|| self.dice.random_range(0..5_000));
        let answer = if faulty { Err(fault()) } else { Ok(Admitted { verdict, code, reason, wake_after, memory }) };
        self.step(Input::Admitted { target: at(target), answer });
    }

    /// Some target's lease task, probe or command does its next step, if any has one.
    fn one_target_goes_on(&mut self, wild: bool) {
        let target = self.dice.random_range(0..self.total());
        if !self.ground.writes[target].is_empty() && self.chance(0.7) {
            return self.write(target);
        }
        if self.running.contains_key(&target) && self.chance(if wild { 0.5 } else { 1.0 }) {
            return self.end_action(target, wild);
        }
        if self.probes.contains_key(&target) && self.chance(if wild { 0.5 } else { 0.7 }) {
            return self.answer_probe(target, wild);
        }
        match self.lease_tasks[target].clone() {
            LeaseTask::None => {}
            LeaseTask::Queues { forced, withdrawn, status } => {
                self.queueing_goes_on(target, forced, withdrawn, wild, status);
            }
            LeaseTask::Adopts { releasing } => self.adopting_goes_on(target, releasing),
            LeaseTask::Writes { status } => {
                self.write_all(target);
                if !self.ground.lost {
                    self.ground.saved[target].status = status;
                    self.ground.saved[target].at = self.now;
                    self.was_written(target);
                }
                self.lease_tasks[target] = LeaseTask::None;
                self.step(Input::Released { target: at(target) });
            }
            LeaseTask::Holds { fence, lost, releasing } => {
                if wild && !lost && self.chance(0.15) {
                    self.ground.leases.remove(&target);
                    self.lease_tasks[target] = LeaseTask::Holds { fence, lost: true, releasing };
                    self.step(Input::LeaseLost {
                        target: at(target),
                        reason: "broken".to_owned(),
                        takeover: Takeover::Since(Instant::now()),
                    });
                } else if let Some(status) = releasing {
                    self.lease_tasks[target] = LeaseTask::None;
                    self.write_all(target);
                    if self.ground.lost || (wild && self.chance(0.005)) {
                        self.stuck |= !self.ground.lost;
                        return self.step(Input::NotReleased { target: at(target), reason: "stuck".to_owned() });
                    }
                    self.ground.release(self.now, target, &status);
                    self.was_written(target);
                    self.step(Input::Released { target: at(target) });
                }
            }
        }
    }

    fn write(&mut self, target: usize) {
        // What was not written down has not begun: the next runner may say it again.
        if self.ground.write(self.now, target).is_some_and(|command| command.command_kind == CommandKind::Action) {
            self.may_repeat.remove(&target);
        }
        if !self.ground.lost {
            self.was_written(target);
        }
    }

    fn write_all(&mut self, target: usize) {
        while !self.ground.writes[target].is_empty() {
            self.write(target);
        }
    }

    /// A request names a version of the record: with the next version it is carried out, and no longer listed.
    fn was_written(&mut self, target: usize) {
        self.requests.retry.remove(&at(target));
    }

    fn adopting_goes_on(&mut self, target: usize, releasing: Option<RecordedStatus>) {
        let named = self.ground.saved[target].lease.as_ref().and_then(|lease| lease.fence);
        match self.ground.leases.get(&target).copied() {
            Some(fence) if Some(fence) == named => {
                self.lease_tasks[target] = LeaseTask::Holds { fence, lost: false, releasing };
                self.step(Input::Leased { target: at(target), fence, how: Acquisition::AlreadyHeld });
            }
            _ => {
                // What was ordered early is done without a lease.
                self.lease_tasks[target] = match releasing {
                    Some(status) => LeaseTask::Writes { status },
                    None => LeaseTask::None,
                };
                self.step(Input::NotLeased { target: at(target), why: NotLeased::Gone });
            }
        }
    }

    fn answer_probe(&mut self, target: usize, wild: bool) {
        let Some((attempt, due)) = self.probes.remove(&target) else { return };
        if due > self.now {
            self.now = due;
        }
        let unknown = wild && self.chance(0.1);
        let detail = String::new();
        let answer = match self.ground.truth(target, attempt) {
            _ if unknown => Probed::Unknown { detail },
            None => Probed::NotStarted,
            Some(None) => Probed::Running,
            Some(Some(true)) => Probed::Succeeded,
            Some(Some(false)) => Probed::Failed { detail },
        };
        self.step(Input::Probed { target: at(target), answer });
    }

    fn queueing_goes_on(&mut self, target: usize, forced: bool, withdrawn: bool, wild: bool, status: RecordedStatus) {
        let too_late = wild && self.chance(0.3);
        self.write_all(target);
        if (withdrawn && !too_late) || self.ground.lost {
            self.lease_tasks[target] = LeaseTask::None;
            return self.step(Input::NotLeased { target: at(target), why: NotLeased::Withdrawn });
        }
        let why = match forced {
            true if wild && self.chance(0.4) => Some(NotLeased::Conflict("they changed".to_owned())),
            false if wild && self.setup.patience.is_some() && status == RecordedStatus::Leased && self.chance(0.05) => {
                Some(NotLeased::TimedOut)
            }
            _ => None,
        };
        let name = format!("t{target}");
        let rival = self.foreign.iter().find(|lease| lease.identifier == name).map(|lease| lease.since_ms);
        let why = match rival {
            // A roll-back waits for it, and so does a target that queued before the reading.
            Some(since) if !forced && status == RecordedStatus::Leased => {
                let by = HeldElsewhere { by: "another run".to_owned(), since: Some(since) };
                Some(NotLeased::Held { by, given_back: None })
            }
            _ => why,
        };
        if let Some(why) = why {
            self.lease_tasks[target] = LeaseTask::None;
            return self.step(Input::NotLeased { target: at(target), why });
        }
        let fence = self.ground.lease(self.now, target, status);
        self.was_written(target);
        self.lease_tasks[target] = LeaseTask::Holds { fence, lost: false, releasing: None };
        let how = match forced {
            true => Acquisition::Forced,
            false if self.chance(0.1) => Acquisition::AlreadyHeld,
            false => Acquisition::Free,
        };
        self.step(Input::Leased { target: at(target), fence, how });
    }

    fn end_action(&mut self, target: usize, wild: bool) {
        self.write_all(target);
        let (attempt, told) = self.running.remove(&target).expect("it acts");
        let by_itself = match self.dice.random_range(0..10) {
            0..=5 => Ending::Succeeded,
            6..=8 => Ending::Failed,
            _ => Ending::TimedOut,
        };
        // It may have ended by itself when it was to be stopped.
        let ending = match told {
            Some(told) if !wild || self.chance(0.7) => told,
            _ => by_itself,
        };
        let is_started = self.ground.truth(target, attempt).is_some();
        // Not written down, it was not started.
        let ending = if is_started { ending } else { told.unwrap_or(Ending::Failed) };
        // The connection to it breaks; the command continues.
        let is_cut_off = is_started && wild && told.is_none() && self.chance(0.1);
        let ending = if is_cut_off { Ending::Unknown } else { ending };
        if is_cut_off {
            if self.status(target) == TargetStatus::RollingBack {
                self.unsettled_roll_backs.insert(target);
            }
        } else if is_started {
            let succeeded = truth_of(ending).unwrap_or_else(|| self.dice.random_bool(0.5));
            self.ground.ends(target, attempt, succeeded);
        }
        let result = ActionResult {
            ending,
            course: if is_cut_off { Course::ContactLost } else { Course::Ran },
            exit_code: None,
            took_ms: 1,
            detail: String::new(),
            output: Vec::new(),
            log: String::new(),
        };
        if let Some(attempt_end) = self.rollout.attempt_end(at(target), &result) {
            self.attempt_ends.insert(target, (attempt, attempt_end));
        }
        self.step(Input::Ended { target: at(target), result });
    }

    fn read_semaphore(&mut self) {
        if self.chance(0.5) {
            self.ground.fences += 1;
            let fence = Fence::new(self.ground.fences);
            // Another holder may act under a target's name.
            let identifier = match self.chance(0.3) {
                true => format!("t{}", self.dice.random_range(0..self.total())),
                false => "salt".to_owned(),
            };
            let lease = SeenLease { identifier, fence, since_ms: self.now, ephemeral: true, owner: None };
            self.foreign.push(lease);
        } else {
            self.foreign.pop();
        }
        let mut leases = self.foreign.clone();
        for (target, fence) in &self.ground.leases {
            // A reading may be older than the lease.
            if self.dice.random_bool(0.7) {
                let identifier = format!("t{target}");
                leases.push(SeenLease { identifier, fence: *fence, since_ms: self.now, ephemeral: true, owner: None });
            }
        }
        self.semaphore_is_read = true;
        self.step(Input::Semaphore { leases, queued: 0, slots: None });
    }

    fn read_party(&mut self) {
        if self.setup.limits.floor.is_none() {
            return;
        }
        let name = format!("t{}{SUFFIX}", self.dice.random_range(0..self.total() + 2));
        match self.members.iter().position(|member| *member == name) {
            Some(place) if self.chance(0.5) => drop(self.members.remove(place)),
            _ => self.members.push(name),
        }
        self.send_members();
    }

    fn send_members(&mut self) {
        self.members_read = Some(self.members.clone());
        let target_of = |name: &String| name.strip_suffix(SUFFIX)?.strip_prefix('t')?.parse::<usize>().ok();
        self.names_fit |= self.members.iter().filter_map(target_of).any(|target| target < self.total());
        let seen = self.members.iter().map(|name| SeenMember { identifier: name.clone(), since_ms: 1 });
        self.step(Input::Party(seen.collect()));
    }

    // ------------------------------------------------------------------ one runner after the other

    /// The runner dies: what was not written is lost, and running commands continue. The next runner starts.
    fn next_runner(&mut self) {
        self.lives += 1;
        (self.orchestration_runs, self.consulted) = (self.setup.has_orchestration, None);
        for target in 0..self.total() {
            // Some of what was under way got there.
            while !self.ground.writes[target].is_empty() && self.chance(0.5) {
                self.write(target);
            }
            let is_written = self.ground.writes[target].is_empty() && !self.ground.lost;
            self.ground.writes[target].clear();
            let lease_task = std::mem::replace(&mut self.lease_tasks[target], LeaseTask::None);
            match lease_task {
                LeaseTask::Queues { status, .. } if is_written && self.chance(0.5) => {
                    self.ground.lease(self.now, target, status);
                    self.was_written(target);
                }
                LeaseTask::Holds { releasing: Some(status), .. } if is_written && self.chance(0.5) => {
                    self.ground.release(self.now, target, &status);
                    self.was_written(target);
                }
                LeaseTask::Writes { status } if is_written && self.chance(0.5) => {
                    self.ground.saved[target].status = status;
                    self.ground.saved[target].at = self.now;
                    self.was_written(target);
                }
                _ => {}
            }
        }
        self.ground.every_lease_is_named();
        // The same process continues and remembers, or another one does not.
        let attempt_ends = std::mem::take(&mut self.attempt_ends);
        if self.chance(0.5) {
            self.keep(attempt_ends);
        }
        if self.setup.lifetime == Lifetime::Ephemeral {
            self.ground.leases.clear();
        }
        let broken: Vec<usize> = self.ground.leases.keys().copied().collect();
        for target in broken {
            if self.chance(0.1) {
                self.ground.leases.remove(&target);
            }
        }
        for _ in 0..self.dice.random_range(0..20) {
            self.a_command_ends();
        }
        self.running.clear();
        self.now += self.dice.random_range(0..60_000);
        let saved = self.ground.saved.clone();
        self.attempts = saved.iter().map(|saved| saved.attempt).collect();
        self.tries.fill(0);
        for (target, saved) in saved.iter().enumerate() {
            self.note_given_up(target, &saved.status);
        }
        self.final_at = saved.iter().map(|saved| saved.status.is_final().then_some(saved.at)).collect();
        for (target, saved) in saved.iter().enumerate() {
            let is_open = saved.status.is_under_way();
            let is_started = self.ground.truth(target, saved.attempt).is_some();
            assert!(!is_open || is_started, "t{target} is recorded as running, and was never started");
        }
        let is_rolling_back =
            |(_, saved): &(usize, &TargetRecord)| matches!(saved.status, RecordedStatus::RollingBack { .. });
        self.unsettled_roll_backs =
            saved.iter().enumerate().filter(is_rolling_back).map(|(target, _)| target).collect();
        let resumed = Resumed { targets: saved, memory: Vec::new(), sequence: 10_000 * self.lives as u64 };
        self.log.push(format!("{} ====== {resumed:?}", self.now));
        self.rollout = Rollout::new(Setup { resumed: Some(resumed), ..self.setup.clone() });
        self.probes.clear();
        self.members_read = None;
        (self.floor_alone, self.counts_floor_time, self.has_begun) = ((None, 0), false, false);
        self.names_fit = self.attempts.iter().any(|attempt| *attempt > 0);
        self.allowed.clear();
        self.connectivity = Connectivity::Connected;
        self.semaphore_is_read = false;
        self.observed.fill(false);
        self.question = None;
        (self.stopping, self.rolls_run_back, self.cut_short, self.stopped_now) = (false, false, false, false);
        self.ground.lost = false;
        self.stuck = false;
        self.send_requests();
    }

    /// What the runner saw and could not write is written by the same process.
    fn keep(&mut self, attempt_ends: BTreeMap<usize, (u32, AttemptEnd)>) {
        for (target, (attempt, attempt_end)) in attempt_ends {
            let saved = &mut self.ground.saved[target];
            if let AttemptEnd::Ended(status) = attempt_end
                && saved.status.is_under_way()
                && saved.attempt == attempt
            {
                saved.status = status;
            }
        }
        self.ground.every_lease_is_named();
    }

    // ------------------------------------------------------------------ a world that behaves

    /// Nothing fails any more and the policy answers `lock`: the run comes to its end by itself.
    fn see_to_the_end(&mut self) {
        self.manner = Manner::Lock;
        self.connectivity = Connectivity::Connected;
        self.step(Input::Session(Connectivity::Connected));
        // Something changes: a policy that answered `hold` decides again.
        self.ground.fences += 1;
        let (identifier, fence) = ("last".to_owned(), Fence::new(self.ground.fences));
        self.foreign = vec![SeenLease { identifier, fence, since_ms: self.now, ephemeral: true, owner: None }];
        self.step(Input::Semaphore { leases: self.foreign.clone(), queued: 0, slots: None });
        for _ in 0..40 {
            if self.observed.iter().all(|read| *read) {
                break;
            }
            self.read_what_else();
        }
        if let Some(floor) = self.setup.limits.floor {
            self.members = (0..floor).map(|index| format!("more{index}")).collect();
            // Where no target was ever seen, the names do not fit.
            self.members.push(format!("t0{SUFFIX}"));
            self.send_members();
        }
        self.requests.paused = None;
        self.send_requests();
        if self.orchestration_runs {
            for target in 0..self.total() {
                if self.chance(0.8) {
                    self.started_by_orchestration(target);
                }
            }
            self.step(Input::OrchestrationEnded(OrchestrationEnd::Completed));
        }
        for _ in 0..TAME_STEPS {
            if self.rollout.report().is_some() {
                return self.nothing_is_left();
            }
            if self.question.is_some() {
                self.answer();
                continue;
            }
            self.a_command_ends();
            let busy = |lease_task: &LeaseTask| {
                !matches!(lease_task, LeaseTask::None | LeaseTask::Holds { releasing: None, .. })
            };
            let writes = self.ground.writes.iter().any(|writes| !writes.is_empty());
            if !self.running.is_empty() || !self.probes.is_empty() || writes || self.lease_tasks.iter().any(busy) {
                self.one_target_goes_on(false);
                continue;
            }
            match self.next_wake() {
                Some(wake) => self.now = wake,
                None => {
                    self.help();
                    continue;
                }
            }
            self.step(Input::Tick);
        }
        panic!("the run does not end");
    }

    /// Everything that keeps the run from going on is taken away but too few members, and the policy never lets a target
    /// go: in its time the floor ends the run.
    fn starve(&mut self) {
        self.manner = Manner::Sulk;
        self.connectivity = Connectivity::Connected;
        self.step(Input::Session(Connectivity::Connected));
        self.foreign = Vec::new();
        self.semaphore_is_read = true;
        self.step(Input::Semaphore { leases: Vec::new(), queued: 0, slots: None });
        for _ in 0..200 {
            if self.observed.iter().all(|read| *read) {
                break;
            }
            self.read_what_else();
        }
        self.members = Vec::new();
        self.send_members();
        self.requests.paused = None;
        self.send_requests();
        if self.orchestration_runs {
            for target in 0..self.total() {
                self.started_by_orchestration(target);
            }
            self.step(Input::OrchestrationEnded(OrchestrationEnd::Completed));
        }
        for _ in 0..TAME_STEPS {
            if self.rollout.report().is_some() {
                return;
            }
            if self.question.is_some() {
                self.answer();
                continue;
            }
            self.a_command_ends();
            let busy = |lease_task: &LeaseTask| {
                !matches!(lease_task, LeaseTask::None | LeaseTask::Holds { releasing: None, .. })
            };
            let writes = self.ground.writes.iter().any(|writes| !writes.is_empty());
            if !self.running.is_empty() || !self.probes.is_empty() || writes || self.lease_tasks.iter().any(busy) {
                self.one_target_goes_on(false);
                continue;
            }
            match self.next_wake() {
                Some(wake) => self.now = wake,
                None => {
                    self.help();
                    continue;
                }
            }
            self.step(Input::Tick);
        }
        panic!("the floor does not end the run");
    }

    /// What only people can do about a run that waits.
    fn help(&mut self) {
        let before = self.requests.clone();
        let request = OperatorRequest { by: "ops".to_owned(), at: self.now, reason: None };
        for wave in &self.setup.waves {
            self.requests.approved.entry(wave.name.clone()).or_insert(request.clone());
        }
        if before == self.requests {
            let is_bad = |target: &usize| {
                matches!(
                    self.status(*target),
                    TargetStatus::Final(FinalStatus::Failed | FinalStatus::Unknown | FinalStatus::RolledBack)
                )
            };
            self.requests.accepted.extend((0..self.lease_tasks.len()).filter(is_bad).map(at).collect::<Vec<_>>());
        }
        assert_ne!(before, self.requests, "nothing is under way, nothing is due, and the run is not over");
        self.send_requests();
    }

    /// After the last runner.
    fn nothing_is_left(&mut self) {
        for target in 0..self.total() {
            self.write_all(target);
        }
        if self.ground.lost || self.stuck {
            return;
        }
        assert!(self.ground.leases.is_empty(), "over, and these are held: {:?}", self.ground.leases);
        for target in 0..self.total() {
            let (state, status) = (self.status(target), &self.ground.saved[target].status);
            let is_said = match state {
                TargetStatus::Final(FinalStatus::Succeeded) => matches!(status, RecordedStatus::Succeeded { .. }),
                TargetStatus::Final(FinalStatus::Failed) => matches!(status, RecordedStatus::Failed { .. }),
                // Stopped half-way, it is left to the next runner.
                TargetStatus::Final(FinalStatus::Unknown) => {
                    matches!(
                        status,
                        RecordedStatus::Unknown { .. } | RecordedStatus::Running | RecordedStatus::RollingBack { .. }
                    )
                }
                TargetStatus::Final(FinalStatus::RolledBack) => matches!(status, RecordedStatus::RolledBack { .. }),
                TargetStatus::Final(FinalStatus::Skipped) => matches!(status, RecordedStatus::Skipped { .. }),
                _ => *status == RecordedStatus::Pending,
            };
            assert!(is_said, "t{target} is {state:?}, and its node says {status:?}");
        }
    }
}

fn seeds() -> Vec<u64> {
    match std::env::var("LOCKKEEPER_SEED") {
        Ok(seed) => vec![seed.parse().expect("LOCKKEEPER_SEED is a number")],
        Err(_) => (0..SEEDS).collect(),
    }
}

fn for_every_seed(check: impl Fn(&mut World)) {
    for seed in seeds() {
        let mut world = World::new(seed);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&mut world)));
        if let Err(panic) = outcome {
            let last = world.log.len().saturating_sub(150);
            eprintln!("{}", world.log[last..].join("\n"));
            eprintln!(
                "LOCKKEEPER_SEED={seed}: {:?}, {:?}, {} tries, probe {}, {:?}, {:?}, {:?}",
                world.manner,
                world.setup.limits,
                world.setup.attempts,
                world.setup.has_probe,
                world.setup.on_unknown,
                world.setup.on_exhausted,
                world.setup.waves
            );
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn whatever_the_world_and_the_policy_do_the_limits_hold_and_the_run_ends() {
    for_every_seed(|world| {
        for _ in 0..WILD_STEPS {
            world.wild_step();
        }
        world.see_to_the_end();
    });
}

#[test]
fn a_run_that_is_stopped_at_any_moment_ends_with_everything_given_back() {
    for_every_seed(|world| {
        for _ in 0..world.dice.random_range(0..WILD_STEPS) {
            world.wild_step();
        }
        world.step(Input::Stop(Stop::Gently));
        for _ in 0..world.dice.random_range(0..20) {
            world.wild_step();
        }
        if world.chance(0.5) {
            world.step(Input::Stop(Stop::Now));
        }
        world.see_to_the_end();
    });
}

#[test]
fn whenever_a_runner_dies_the_next_continues_and_nothing_runs_twice() {
    for_every_seed(|world| {
        for _ in 1..world.dice.random_range(2..=MOST_LIVES) {
            for _ in 0..world.dice.random_range(0..WILD_STEPS) {
                world.wild_step();
                if world.rollout.report().is_some_and(|report| report.end.is_final()) {
                    return world.nothing_is_left();
                }
            }
            world.next_runner();
        }
        world.see_to_the_end();
    });
}

#[test]
fn a_floor_that_alone_keeps_a_run_from_going_on_ends_it_in_time_whatever_the_policy_says() {
    let ended = std::cell::Cell::new(0);
    for_every_seed(|world| {
        let patience = world.setup.party.as_ref().is_some_and(|party| party.patience.is_some());
        if !patience || world.setup.limits.floor == Some(0) {
            return;
        }
        for _ in 0..world.dice.random_range(0..WILD_STEPS) {
            world.wild_step();
        }
        world.starve();
        let end = world.rollout.report().map(|report| report.end);
        ended.set(ended.get() + u32::from(matches!(end, Some(End::FloorMissed(_)))));
    });
    assert!(ended.get() > 0 || std::env::var_os("LOCKKEEPER_SEED").is_some(), "the floor ended no run");
}

/// None, one of the two numbers, both, or what a job without a budget has.
fn budget(dice: &mut StdRng) -> Budget {
    let stop_at = dice.random_range(1..=3);
    match dice.random_range(0..6) {
        0 => Budget::default(),
        1 | 2 => Budget { stop_at: None, max_failed: Some(dice.random_range(0..=3)) },
        3 => Budget { stop_at: Some(stop_at), max_failed: None },
        4 => Budget { stop_at: Some(stop_at), max_failed: Some(dice.random_range(stop_at..=5)) },
        _ => Budget { stop_at: Some(1), max_failed: None },
    }
}

/// A freeze now and then, somewhere in the first hours.
fn frozen(dice: &mut StdRng) -> Arc<Calendar> {
    let mut calendar = Calendar::default();
    if dice.random_bool(0.3) {
        let from = dice.random_range(0..3_600_000);
        let [from, until] =
            [from, from + dice.random_range(1..7_200_000)].map(|ms| Timestamp::from_millisecond(ms).unwrap());
        calendar.freezes.push(Freeze { from, until, reason: None });
    }
    Arc::new(calendar)
}
