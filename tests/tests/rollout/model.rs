//! The machine against a world that does anything it may, in any order, and policies that answer anything.
//!
//! What the machine promises is checked after every step by a second account of the world, kept here without a look into
//! the machine. `LOCKKEEPER_SEED` runs one seed again.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use lockkeeper::job::{Calendar, Freeze, OnExhausted, OnFault, OnUnknown, Target, TargetName};
use lockkeeper::policy::types::{Admission, Admitted, Ending, Settled, Settlement};
use lockkeeper::rollout::{
    Action, ActionResult, Broken, Counts, Event, Fault, Final, Floor, Got, HardLimits, Hearing, Input, NotLeased,
    Others, Rollout, SeenLease, SeenMember, Setup, Stop, TargetState,
};
use lockkeeper::store::Lifetime;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

/// How many seeds a test goes through.
const SEEDS: u64 = 4000;

/// Steps of a world that does as it likes.
const WILD_STEPS: usize = 250;

/// Steps in which a world that behaves must see a run to its end.
const TAME_STEPS: usize = 6000;

/// How a policy answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Lock,
    Force,
    /// `lock`, and `wait` once the slot is there.
    Fickle,
    Anything,
}

/// What a target's keeper does, as the engine would have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeper {
    None,
    Queues { forced: bool, withdrawn: bool },
    Holds { fence: i64, lost: bool, releasing: bool },
}

struct World {
    rollout: Rollout,
    dice: StdRng,
    manner: Manner,
    slots: u32,
    floor: Option<u32>,
    max_failed: Option<u32>,
    attempts: u32,
    patience: bool,
    now: u64,
    fences: i64,
    keepers: Vec<Keeper>,
    /// Actions under way, and as what they were told to end.
    acting: BTreeMap<usize, Option<Ending>>,
    starts: Vec<u32>,
    members: Vec<String>,
    told_members: Option<Vec<String>>,
    foreign: Vec<SeenLease>,
    hearing: Hearing,
    semaphore_told: bool,
    question: Option<(usize, bool)>,
    stopping: bool,
    stopped_now: bool,
    log: Vec<String>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        let total = dice.random_range(1..=12_usize);
        let slots = dice.random_range(1..=6);
        let names: Vec<String> = (0..total).map(|index| format!("t{index}")).collect();
        let floor = dice.random_bool(0.5).then(|| dice.random_range(0..=total as u32));
        let max_failed = dice.random_bool(0.5).then(|| dice.random_range(0..=3));
        let attempts = dice.random_range(1..=3);
        let patience = dice.random_bool(0.5);
        let manner = [Manner::Lock, Manner::Force, Manner::Fickle, Manner::Anything][dice.random_range(0..4)];
        let setup = Setup {
            job: "model".to_owned(),
            run: format!("model-{seed}"),
            started_ms: 1_000,
            seed,
            targets: names.iter().map(|name| Target::unlabelled(TargetName::parse(name).unwrap())).collect(),
            limits: HardLimits { slots, floor, max_failed, calendar: frozen(&mut dice) },
            action_timeout: None,
            semaphore: "/s".to_owned(),
            lifetime: if dice.random_bool(0.5) { Lifetime::Ephemeral } else { Lifetime::Persistent },
            patience: patience.then(|| std::time::Duration::from_secs(60)),
            party: floor.map(|_| Floor {
                path: "/p".to_owned(),
                blocking: dice.random_bool(0.8),
                patience: dice.random_bool(0.3).then(|| std::time::Duration::from_secs(3600)),
            }),
            attempts,
            on_fault: if dice.random_bool(0.5) { OnFault::Hold } else { OnFault::Abort },
            back_off: std::time::Duration::ZERO,
            waves: Vec::new(),
            has_probe: false,
            can_roll_back: false,
            on_unknown: OnUnknown::Hold,
            on_exhausted: OnExhausted::Abort,
            observe: Vec::new(),
            resumed: None,
        };
        Self {
            rollout: Rollout::new(setup),
            manner,
            slots,
            floor,
            max_failed,
            attempts,
            patience,
            now: 1_000,
            fences: 100,
            keepers: vec![Keeper::None; total],
            acting: BTreeMap::new(),
            starts: vec![0; total],
            members: names,
            told_members: None,
            foreign: Vec::new(),
            hearing: Hearing::Connected,
            semaphore_told: false,
            question: None,
            stopping: false,
            stopped_now: false,
            log: Vec::new(),
            dice,
        }
    }

    fn chance(&mut self, share: f64) -> bool {
        self.dice.random_bool(share)
    }

    fn step(&mut self, input: Input) {
        self.log.push(format!("{} < {input:?}", self.now));
        self.stopping |= matches!(input, Input::Stop(_) | Input::Broken(_) | Input::NotReleased { .. });
        self.stopped_now |= matches!(input, Input::Stop(Stop::Now));
        for action in self.rollout.step(self.now, input) {
            if !matches!(action, Action::Admit { .. } | Action::Settle { .. }) {
                self.log.push(format!("    > {action:?}"));
            }
            self.carry_out(action);
        }
        self.check();
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Admit { target, .. } => self.ask(target, false),
            Action::Settle { target, .. } => self.ask(target, true),
            Action::Acquire { target, .. } => self.queue(target, false),
            Action::Force { target, .. } => self.queue(target, true),
            Action::Withdraw { target } => match &mut self.keepers[target] {
                Keeper::Queues { withdrawn, .. } if !*withdrawn => *withdrawn = true,
                other => panic!("t{target} is withdrawn while {other:?}"),
            },
            Action::Release { target, .. } => {
                assert!(!self.acting.contains_key(&target), "t{target} is released while it acts");
                match &mut self.keepers[target] {
                    Keeper::Holds { releasing, .. } if !*releasing => *releasing = true,
                    other => panic!("t{target} is released while {other:?}"),
                }
            }
            Action::Start { target, attempt, fence, .. } => self.start(target, attempt, fence),
            Action::Kill { target, ending, .. } => {
                let told =
                    self.acting.get_mut(&target).unwrap_or_else(|| panic!("t{target} is killed and does not act"));
                told.get_or_insert(ending);
            }
            Action::Adopt { .. } | Action::Probe { .. } | Action::Save { .. } => {}
            Action::Emit(Event::Stopping { .. }) => self.stopping = true,
            Action::Emit(_) => {}
        }
    }

    fn ask(&mut self, target: usize, settle: bool) {
        assert!(self.question.is_none(), "two questions at once");
        assert!(settle || !self.stopping, "t{target} is asked about after the end");
        assert!(!self.stopped_now, "t{target} is asked about after everything was to stop at once");
        self.question = Some((target, settle));
    }

    fn queue(&mut self, target: usize, forced: bool) {
        assert!(!self.stopping, "t{target} queues after the end");
        assert_eq!(self.keepers[target], Keeper::None, "t{target} queues twice");
        self.keepers[target] = Keeper::Queues { forced, withdrawn: false };
    }

    fn start(&mut self, target: usize, attempt: u32, fence: i64) {
        assert!(!self.stopping, "t{target} starts after the end");
        assert_eq!(self.hearing, Hearing::Connected, "t{target} starts while the store does not hear us");
        let held = Keeper::Holds { fence, lost: false, releasing: false };
        assert_eq!(self.keepers[target], held, "t{target} starts without its lease");
        self.starts[target] += 1;
        assert_eq!(attempt, self.starts[target], "t{target}'s tries are counted");
        assert!(attempt <= self.attempts, "t{target} is tried too often");
        if let Some(floor) = self.floor.filter(|floor| *floor > 0) {
            let members = self.told_members.as_ref().expect("nothing starts before the party is known");
            let may_be_down = |name: &String| {
                (0..self.keepers.len()).any(|other| {
                    let holds = matches!(self.rollout.state(other), TargetState::Acting | TargetState::Acted(_));
                    (other == target || holds) && *name == format!("t{other}")
                })
            };
            let remaining = members.iter().filter(|name| !may_be_down(name)).count();
            assert!(
                remaining >= floor as usize,
                "t{target} starts below the floor: {remaining} would remain of {floor}"
            );
        }
        assert!(self.acting.insert(target, None).is_none(), "t{target} acts twice at once");
    }

    /// What holds at every moment.
    fn check(&self) {
        let mut counted = Counts { total: self.keepers.len() as u32, ..Counts::default() };
        let (mut in_flight, mut may_fail) = (0, 0);
        for target in 0..self.keepers.len() {
            let state = self.rollout.state(target);
            in_flight += u32::from(state.is_in_flight());
            assert_eq!(state == TargetState::Acting, self.acting.contains_key(&target), "t{target} is {state:?}");
            assert_eq!(state.is_in_flight(), self.keepers[target] != Keeper::None, "t{target} is {state:?}");
            let place = match state {
                TargetState::Pending => &mut counted.pending,
                TargetState::Waiting | TargetState::Queued | TargetState::Leased => &mut counted.waiting,
                TargetState::Acting
                | TargetState::Unsettled
                | TargetState::Acted(_)
                | TargetState::Reverting
                | TargetState::Reverted(_) => &mut counted.acting,
                TargetState::Final(Final::Done) => &mut counted.done,
                TargetState::Final(Final::Failed) => &mut counted.failed,
                TargetState::Final(Final::Unknown) => &mut counted.unknown,
                TargetState::Final(Final::RolledBack) => &mut counted.rolled_back,
                TargetState::Final(Final::Skipped) => &mut counted.skipped,
            };
            *place += 1;
            let succeeded = state == TargetState::Acted(Ending::Succeeded);
            may_fail += u32::from(matches!(state, TargetState::Acting | TargetState::Acted(_)) && !succeeded);
        }
        assert_eq!(self.rollout.counts(), counted);
        assert!(in_flight <= self.slots, "{in_flight} in flight with {} slots", self.slots);
        if let Some(max_failed) = self.max_failed {
            let charged = counted.failed + counted.unknown + may_fail;
            assert!(charged <= max_failed.max(1), "{charged} failures charged or reserved of {max_failed}");
        }
        if self.rollout.report().is_some() {
            assert!(self.keepers.iter().all(|keeper| *keeper == Keeper::None), "over with {:?}", self.keepers);
            assert!(self.question.is_none(), "over with a question open");
        } else if self.question.is_none() {
            let wake = self.rollout.next_wake();
            assert!(wake.is_none_or(|wake| wake > self.now), "at {}, a tick would be due at once: {wake:?}", self.now);
        }
    }

    // ------------------------------------------------------------------ what the world may do

    fn wild_step(&mut self) {
        self.now += self.dice.random_range(0..40);
        match self.dice.random_range(0..20) {
            0..=6 if self.question.is_some() => self.answer(),
            0..=12 => self.one_target_goes_on(true),
            13 => self.read_semaphore(),
            14 | 15 => self.read_party(),
            16 => {
                self.hearing = match self.dice.random_range(0..5) {
                    0 => Hearing::Over,
                    1 => Hearing::Suspended,
                    _ => Hearing::Connected,
                };
                if self.hearing == Hearing::Over {
                    self.told_members = None;
                }
                self.step(Input::Session(self.hearing));
            }
            17 if self.chance(0.02) => {
                let stop = if self.chance(0.5) { Stop::Gently } else { Stop::Now };
                self.step(Input::Stop(stop));
            }
            17 if self.chance(0.01) => self.step(Input::Broken(Broken::Unavailable("gone".to_owned()))),
            18 if self.floor.is_some() && self.chance(0.2) => {
                self.told_members = None;
                self.step(Input::PartyUnread);
            }
            _ => {
                if let (true, Some(wake)) = (self.chance(0.7), self.rollout.next_wake()) {
                    self.now = self.now.max(wake.min(self.now + 120_000));
                }
                self.step(Input::Tick);
            }
        }
    }

    fn answer(&mut self) {
        let (target, settle) = self.question.take().expect("somebody was asked about");
        let fault = || Fault { kind: "trap", message: "it trapped".to_owned(), hint: None };
        let faulty = self.manner == Manner::Anything && self.chance(0.004);
        let (code, reason, memory) = ("code".to_owned(), "reason".to_owned(), vec![self.dice.random()]);
        if settle {
            let verdict = match self.dice.random_range(0..8) {
                0..=2 => Settlement::Release,
                3 | 4 => Settlement::Keep(self.dice.random_range(0..2_000)),
                5 | 6 => Settlement::Retry,
                _ if self.manner == Manner::Anything && self.chance(0.1) => Settlement::Abort,
                _ => Settlement::Retry,
            };
            let answer = if faulty { Err(fault()) } else { Ok(Settled { verdict, code, reason, memory }) };
            return self.step(Input::Settled { target, answer });
        }
        let granted = matches!(self.keepers[target], Keeper::Holds { .. }) && self.chance(0.7);
        let verdict = match self.manner {
            Manner::Lock => Admission::Lock,
            Manner::Force => Admission::Force(vec![self.dice.random_range(90..120); self.dice.random_range(0..2)]),
            Manner::Fickle if granted => Admission::Wait,
            Manner::Fickle => Admission::Lock,
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
        self.step(Input::Admitted { target, answer });
    }

    /// Some target's keeper or action does its next step, if any has one.
    fn one_target_goes_on(&mut self, wild: bool) {
        let target = self.dice.random_range(0..self.keepers.len());
        if self.acting.contains_key(&target) && self.chance(if wild { 0.5 } else { 1.0 }) {
            return self.end_action(target, wild);
        }
        match self.keepers[target] {
            Keeper::None => {}
            Keeper::Queues { forced, withdrawn } => self.queueing_goes_on(target, forced, withdrawn, wild),
            Keeper::Holds { fence, lost, releasing } => {
                if wild && !lost && self.chance(0.15) {
                    self.keepers[target] = Keeper::Holds { fence, lost: true, releasing };
                    self.step(Input::LeaseLost {
                        target,
                        reason: "broken".to_owned(),
                        others: Others::Since(Instant::now()),
                    });
                } else if releasing {
                    self.keepers[target] = Keeper::None;
                    let stuck = wild && self.chance(0.005);
                    let reason = "stuck".to_owned();
                    self.step(if stuck { Input::NotReleased { target, reason } } else { Input::Released { target } });
                }
            }
        }
    }

    fn queueing_goes_on(&mut self, target: usize, forced: bool, withdrawn: bool, wild: bool) {
        let too_late = wild && self.chance(0.3);
        if withdrawn && !too_late {
            self.keepers[target] = Keeper::None;
            return self.step(Input::NotLeased { target, why: NotLeased::Withdrawn });
        }
        let why = match forced {
            true if wild && self.chance(0.4) => Some(NotLeased::Conflict("they changed".to_owned())),
            false if wild && self.patience && self.chance(0.05) => Some(NotLeased::TimedOut),
            _ => None,
        };
        if let Some(why) = why {
            self.keepers[target] = Keeper::None;
            return self.step(Input::NotLeased { target, why });
        }
        self.fences += 1;
        let fence = self.fences;
        self.keepers[target] = Keeper::Holds { fence, lost: false, releasing: false };
        let how = match forced {
            true => Got::Forced,
            false if self.chance(0.1) => Got::Again,
            false => Got::Free,
        };
        self.step(Input::Leased { target, fence, how });
    }

    fn end_action(&mut self, target: usize, wild: bool) {
        let told = self.acting.remove(&target).expect("it acts");
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
        let result = ActionResult {
            ending,
            exit_code: None,
            took_ms: 1,
            detail: String::new(),
            output: Vec::new(),
            log: String::new(),
        };
        self.step(Input::Ended { target, result });
    }

    fn read_semaphore(&mut self) {
        if self.chance(0.5) {
            self.fences += 1;
            let lease =
                SeenLease { identifier: "salt".to_owned(), fence: self.fences, since_ms: self.now, ephemeral: true };
            self.foreign.push(lease);
        } else {
            self.foreign.pop();
        }
        let mut leases = self.foreign.clone();
        for keeper in &self.keepers {
            // A reading may be older than the lease.
            if let (Keeper::Holds { fence, .. }, true) = (*keeper, self.dice.random_bool(0.7)) {
                leases.push(SeenLease { identifier: "ours".to_owned(), fence, since_ms: self.now, ephemeral: true });
            }
        }
        self.semaphore_told = true;
        self.step(Input::Semaphore { leases, queued: 0 });
    }

    fn read_party(&mut self) {
        if self.floor.is_none() {
            return;
        }
        let name = format!("t{}", self.dice.random_range(0..self.keepers.len() + 2));
        match self.members.iter().position(|member| *member == name) {
            Some(place) if self.chance(0.5) => drop(self.members.remove(place)),
            _ => self.members.push(name),
        }
        self.tell_party();
    }

    fn tell_party(&mut self) {
        self.told_members = Some(self.members.clone());
        let seen = self.members.iter().map(|name| SeenMember { identifier: name.clone(), since_ms: 1 });
        self.step(Input::Party(seen.collect()));
    }

    // ------------------------------------------------------------------ a world that behaves

    /// Nothing goes wrong any more and the policy says `lock`: the run comes to its end by itself.
    fn see_to_the_end(&mut self) {
        self.manner = Manner::Lock;
        self.foreign.clear();
        self.hearing = Hearing::Connected;
        self.step(Input::Session(Hearing::Connected));
        self.read_semaphore();
        if let Some(floor) = self.floor {
            self.members = (0..floor).map(|index| format!("more{index}")).collect();
            self.tell_party();
        }
        for _ in 0..TAME_STEPS {
            if self.rollout.report().is_some() {
                return;
            }
            if self.question.is_some() {
                self.answer();
                continue;
            }
            let busy =
                |keeper: &Keeper| matches!(keeper, Keeper::Queues { .. } | Keeper::Holds { releasing: true, .. });
            if !self.acting.is_empty() || self.keepers.iter().any(busy) {
                self.one_target_goes_on(false);
                continue;
            }
            match self.rollout.next_wake() {
                Some(wake) => self.now = wake,
                None => panic!("nothing is under way, nothing is due, and the run is not over"),
            }
            self.step(Input::Tick);
        }
        panic!("the run does not end");
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
            let last = world.log.len().saturating_sub(60);
            eprintln!("{}", world.log[last..].join("\n"));
            eprintln!(
                "LOCKKEEPER_SEED={seed}: {:?}, {} slots, floor {:?}, {:?} may fail, {} tries",
                world.manner, world.slots, world.floor, world.max_failed, world.attempts
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
