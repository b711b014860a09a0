//! An orchestration played: in a made-up world, with a clock that only goes while it waits, and cut off wherever one likes.

mod fleet;
mod scenario;

use std::collections::VecDeque;

use serde_json::Value;

pub use fleet::{Fleet, Member, Scripted, Semaphore, Target};
pub use scenario::{Ends, Scenario, ScenarioExpect, ScenarioFile};

use crate::{Call, Difference, MOST_CALLS};

/// Places at which a play is cut off, to see that it goes on.
const MOST_CUTS: usize = 200;

/// A call, and what it was answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Spoken {
    /// What was called.
    pub call: Call,
    /// The answer, in the host's JSON.
    pub answer: Value,
    /// When it was called, in milliseconds since the Unix epoch.
    pub since: u64,
    /// When it was answered, likewise.
    pub answered: u64,
}

/// Why a call is not answered any more.
#[derive(Debug, Clone, PartialEq)]
pub enum Silence {
    /// Its host was killed there.
    Cut,
    /// It begins again from the checkpoint that it wrote.
    Again,
    /// Nothing that will happen answers it.
    Never(Call),
    /// Run again, it called this where it had called that; none: it ended.
    Diverged {
        /// What it called before.
        was: Call,
        /// What it calls now.
        is: Option<Call>,
    },
    /// It called too often without a checkpoint.
    TooManyCalls,
    /// What a case says it is answered is no answer to that call.
    Unfit(Call),
}

/// How a guest came to its end, as whoever runs it saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It did what it wanted to.
    Succeeded,
    /// It said that it cannot go on.
    GaveUp(String),
    /// It failed.
    Fault {
        /// The stable word, such as `trap` or `out-of-fuel`.
        kind: String,
        /// More, for a person.
        message: String,
    },
}

/// Where an orchestration is played. Whoever runs the guest hands its calls to [`Simulation::call`].
#[derive(Debug, Clone)]
pub struct Simulation {
    world: Fleet,
    /// What it was answered since the last checkpoint.
    kept: Vec<Spoken>,
    /// What of that it has not called again yet.
    recorded: VecDeque<Spoken>,
    /// Everything that was answered.
    spoken: Vec<Spoken>,
    state: Option<Vec<u8>>,
    /// After so many new calls the host is killed.
    cut: Option<usize>,
    silence: Option<Box<Silence>>,
    /// The call at which it was cut off, and since when.
    begun: Option<(Call, u64)>,
    /// When it began: at the start, or at its last checkpoint.
    began: u64,
    /// When the last answer was given.
    last: u64,
}

/// What a guest begins with.
#[derive(Debug, Clone, PartialEq)]
pub struct Entrance {
    /// Its settings.
    pub settings: Value,
    /// What its last checkpoint holds.
    pub state: Option<Vec<u8>>,
    /// The targets, in the contract's JSON.
    pub targets: Value,
    /// What time it is, in milliseconds since the Unix epoch.
    pub now: u64,
}

/// A play that is over.
#[derive(Debug, Clone, PartialEq)]
pub struct ScenarioResult {
    /// Everything that it called, in that order.
    pub spoken: Vec<Spoken>,
    /// How it ended; else why nobody answered any more.
    pub end: Result<Outcome, Box<Silence>>,
    /// The semaphores of which it had a lease in the end: a run gives them back.
    pub held: Vec<String>,
    /// How long it took, in milliseconds of its world.
    pub took: u64,
}

/// Cut off there, it came to something else.
#[derive(Debug, Clone, PartialEq)]
pub struct Broke {
    /// The call that was carried out and not answered, counted from 1.
    pub at: usize,
    /// Which.
    pub call: Call,
    /// What became of it.
    pub then: ScenarioResult,
}

impl Simulation {
    fn new(world: Fleet, state: Option<Vec<u8>>, cut: Option<usize>) -> Self {
        let last = world.now();
        let (kept, recorded, spoken) = (Vec::new(), VecDeque::new(), Vec::new());
        Self { world, kept, recorded, spoken, state, cut, silence: None, begun: None, began: last, last }
    }

    /// Answers a call, in the host's JSON, and says when; none: nobody answers it or anything after it.
    pub fn call(&mut self, call: Call) -> Option<(Value, u64)> {
        if self.silence.is_some() {
            return None;
        }
        let answered = self.answer(call);
        match answered {
            Ok(Spoken { answer, answered, .. }) => Some((answer, answered)),
            Err(silence) => {
                self.silence = Some(silence);
                None
            }
        }
    }

    /// The last answer was none to this call, and was not given.
    pub fn unfit(&mut self, call: Call) {
        self.silence = Some(Box::new(Silence::Unfit(call)));
    }

    /// When the last answer was given, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.last
    }

    fn answer(&mut self, call: Call) -> Result<Spoken, Box<Silence>> {
        if let Some(known) = self.recorded.pop_front() {
            if known.call != call {
                return Err(Box::new(Silence::Diverged { was: known.call, is: Some(call) }));
            }
            self.world.remember(&known.call, &known.answer);
            self.last = known.answered;
            return Ok(known);
        }
        if self.kept.len() >= MOST_CALLS as usize && !matches!(call, Call::Checkpoint { .. }) {
            return Err(Box::new(Silence::TooManyCalls));
        }
        let since = match self.begun.take() {
            Some((was, since)) if was == call => since,
            Some((was, _)) => return Err(Box::new(Silence::Diverged { was, is: Some(call) })),
            None => self.world.now(),
        };
        let scripted = self.world.answers.clone();
        let answer = self.world.answer(&call, since).ok_or_else(|| Box::new(Silence::Never(call.clone())))?;
        let has_called = self.kept.iter().any(|spoken| !matches!(spoken.call, Call::Checkpoint { .. }));
        if let Call::Checkpoint { state } = &call
            && has_called
        {
            self.state = Some(bytes(state));
            self.kept.clear();
            self.spoken.push(Spoken { call, answer, since, answered: since });
            (self.began, self.cut) = (since, self.cut.filter(|cut| *cut != self.spoken.len()));
            return Err(Box::new(Silence::Again));
        }
        if self.cut.is_some_and(|cut| self.spoken.len() + 1 == cut) {
            // What was not heard is answered again.
            self.world.answers = scripted;
            self.begun = Some((call, since));
            return Err(Box::new(Silence::Cut));
        }
        self.world.remember(&call, &answer);
        let spoken = Spoken { call, answer, since, answered: self.world.now() };
        self.kept.push(spoken.clone());
        self.spoken.push(spoken.clone());
        self.last = spoken.answered;
        Ok(spoken)
    }

    /// The guest is run again, from its last checkpoint.
    fn again(&mut self) {
        // Killed it is but once.
        if self.silence.take().as_deref() == Some(&Silence::Cut) {
            self.cut = None;
        }
        self.recorded = self.kept.clone().into();
        self.last = self.began;
        self.world.begin_again();
    }

    fn result(self, outcome: Outcome) -> ScenarioResult {
        let unsaid = self.recorded.front().map(|next| Box::new(Silence::Diverged { was: next.call.clone(), is: None }));
        let end = match self.silence.or(unsaid) {
            Some(silence) => Err(silence),
            None => Ok(outcome),
        };
        let took = self.world.now() - crate::NOON;
        ScenarioResult { spoken: self.spoken, end, held: self.world.held(), took }
    }
}

/// What a checkpoint holds.
fn bytes(hex: &str) -> Vec<u8> {
    let digit = |at: usize| hex.get(at..at + 2).and_then(|two| u8::from_str_radix(two, 16).ok()).unwrap_or_default();
    (0..hex.len() / 2).map(|pair| digit(pair * 2)).collect()
}

/// How a play came out.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// From its beginning to its end.
    pub result: ScenarioResult,
    /// What is not as expected; empty: it passed.
    pub differences: Vec<Difference>,
}

impl Broke {
    /// Where, and what became of it.
    #[must_use]
    pub fn told(&self, whole: &ScenarioResult) -> String {
        let Self { at, call, then } = self;
        let acted = |result: &ScenarioResult| result.acted().join(", ");
        let rest = match then.end == whole.end {
            true => format!("acted on {} and not on {}", acted(then), acted(whole)),
            false => then.told(),
        };
        format!("killed at call {at} (`{call}`) and run again: {rest}; else {}", whole.told())
    }
}

impl Scenario {
    /// One in this world, without settings and expectations.
    #[must_use]
    pub fn new(world: Fleet) -> Self {
        let (name, settings) = (String::new(), Value::Object(serde_json::Map::new()));
        Self { name, span: 0..0, settings, world, state: None, expect: None }
    }

    /// Plays it whole, compares it with what is expected, and cuts it off wherever that is possible.
    pub fn judge(&self, run: &mut impl FnMut(&Entrance, &mut Simulation) -> Outcome) -> Judged {
        let result = self.whole(run);
        let mut differences = match &self.expect {
            Some(expect) => expect.differences(&result),
            None => {
                let seen = format!("{}, acted on {}", result.told(), result.acted().join(", "));
                vec![Difference { key: "expect", expected: "that it says what must come of it".to_owned(), seen }]
            }
        };
        if let Some(broke) = self.survives(&result, run) {
            differences.push(Difference {
                key: "killed",
                expected: "the same end".to_owned(),
                seen: broke.told(&result),
            });
        }
        Judged { result, differences }
    }

    /// Plays it once, from its beginning to its end.
    pub fn whole(&self, run: &mut impl FnMut(&Entrance, &mut Simulation) -> Outcome) -> ScenarioResult {
        self.cut_off(None, run)
    }

    /// Plays it once more for each of its calls: its host is killed when that was carried out and before it is answered,
    /// and the guest run again. What comes to another end than `whole`, at its first place.
    pub fn survives(
        &self,
        whole: &ScenarioResult,
        run: &mut impl FnMut(&Entrance, &mut Simulation) -> Outcome,
    ) -> Option<Broke> {
        let all = whole.spoken.len();
        // Spread over all of them where there are too many.
        let step = all.div_ceil(MOST_CUTS).max(1);
        (0..all).step_by(step).find_map(|at| {
            let then = self.cut_off(Some(at + 1), run);
            let same =
                then.end == whole.end && then.acted() == whole.acted() && then.rolled_back() == whole.rolled_back();
            (!same).then(|| Broke { at: at + 1, call: whole.spoken[at].call.clone(), then })
        })
    }

    fn cut_off(
        &self,
        cut: Option<usize>,
        run: &mut impl FnMut(&Entrance, &mut Simulation) -> Outcome,
    ) -> ScenarioResult {
        let mut simulation = Simulation::new(self.world.clone(), self.state.clone(), cut);
        loop {
            let entrance = Entrance {
                settings: self.settings.clone(),
                state: simulation.state.clone(),
                targets: simulation.world.targets_json(),
                now: simulation.began,
            };
            let outcome = run(&entrance, &mut simulation);
            match simulation.silence.as_deref() {
                Some(Silence::Cut | Silence::Again) => simulation.again(),
                _ => return simulation.result(outcome),
            }
        }
    }
}

impl ScenarioResult {
    /// The targets that were let go, in that order.
    #[must_use]
    pub fn acted(&self) -> Vec<&str> {
        let mut acted = Vec::new();
        for spoken in &self.spoken {
            match &spoken.call {
                Call::Start { target, .. }
                    if spoken.answer["answer"] == "done" && !acted.contains(&target.as_str()) =>
                {
                    acted.push(target.as_str());
                }
                _ => {}
            }
        }
        acted
    }

    /// The targets that were rolled back, whatever came of it, in that order.
    #[must_use]
    pub fn rolled_back(&self) -> Vec<&str> {
        let mut rolled_back = Vec::new();
        for spoken in &self.spoken {
            match &spoken.call {
                Call::RollBack { target, .. } if spoken.answer["answer"] == "ended" => {
                    rolled_back.push(target.as_str())
                }
                _ => {}
            }
        }
        rolled_back
    }

    /// How it ended, in a word.
    #[must_use]
    pub fn ends(&self) -> Ends {
        match &self.end {
            Ok(Outcome::Succeeded) => Ends::Succeeded,
            Ok(Outcome::GaveUp(_)) => Ends::GaveUp,
            Err(silence) if matches!(**silence, Silence::Never(_)) => Ends::Waits,
            _ => Ends::Fault,
        }
    }

    /// Whether it failed, and did not only give up.
    #[must_use]
    pub fn is_fault(&self) -> bool {
        self.ends() == Ends::Fault
    }

    /// How it ended, in a few words.
    #[must_use]
    pub fn told(&self) -> String {
        match &self.end {
            Ok(Outcome::Succeeded) => "succeeded".to_owned(),
            Ok(Outcome::GaveUp(why)) => format!("it gave up: {why}"),
            Ok(Outcome::Fault { kind, message }) => format!("it failed ({kind}): {message}"),
            Err(silence) => silence.told(),
        }
    }
}

impl Silence {
    /// Why nobody answers, in a few words.
    #[must_use]
    pub fn told(&self) -> String {
        match self {
            Self::Cut | Self::Again => "it was cut off".to_owned(),
            Self::Never(call) => format!("it waits for ever: {call}"),
            Self::Unfit(call) => format!("what the case answers to `{call}` is no answer to that"),
            Self::TooManyCalls => format!("it called {MOST_CALLS} times without a checkpoint"),
            Self::Diverged { was, is: Some(is) } => {
                format!("run again, it called `{is}` where it called `{was}` before")
            }
            Self::Diverged { was, is: None } => format!("run again, it ended where it called `{was}` before"),
        }
    }
}
