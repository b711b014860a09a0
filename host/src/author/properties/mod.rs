//! Properties that every policy must have, looked for on views that nobody wrote.
//!
//! Views are made up by a seed, near those of the policy's own cases and far from them, so that whoever has the seed finds
//! the same again. A view on which a property does not hold is made smaller as long as it still does not hold.

mod random_views;
mod settings;
mod shrink;
mod wakes;

use std::collections::BTreeMap;

use lockkeeper_cases::{Answer, Cases};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::cases::{questions, view};
use super::decide::{Question, admitted, decide, every_grant, said};
use crate::policy::types::{Severity, View};
use crate::policy::{Limits, Module, PolicyError};
use random_views::Maker;

/// Part of a limit that a decision may use: what is nearer fails on a larger view, or beside a busier neighbour.
const FUEL_SHARE: u64 = 2;
const MEMORY_PERCENT: u64 = 75;

/// How many settings meet every view on the edge, and how many of these views meet all settings.
const USUAL: usize = 3;
const SMALL: usize = 2;

/// How often an instance that is kept is asked the same.
const WARM_TIMES: usize = 6;

/// Fuel after which no further view is looked at, a minute's worth on a slow machine: a policy that burns so much is not
/// shown on more views what it is. Counted in fuel, so that the same seed looks at the same views everywhere.
const ENOUGH_FUEL: u64 = 30_000_000_000;

/// What every policy must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Property {
    /// It answers at all.
    Faults,
    /// It answers with no verdict that its manifest does not list.
    Verdicts,
    /// Settings that its schema and `validate` accept never make it fail.
    Settings,
    /// The same view gives the same decision, whatever was decided before.
    Repeatable,
    /// The order of lists that have none does not matter.
    Order,
    /// Whoever waits or holds is asked again: after a wake, or when something changes that makes a difference.
    Wakes,
    /// No target goes that would take the party below the job's floor.
    Floor,
    /// It uses no more than a part of what one decision may.
    Frugal,
}

impl Property {
    /// Each of them, in the order in which they are told.
    pub const ALL: [Self; 8] = [
        Self::Faults,
        Self::Verdicts,
        Self::Settings,
        Self::Repeatable,
        Self::Order,
        Self::Wakes,
        Self::Floor,
        Self::Frugal,
    ];

    /// Its name, as `[leave-out]` of a file of cases has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Faults => "faults",
            Self::Verdicts => "verdicts",
            Self::Settings => "settings",
            Self::Repeatable => "repeatable",
            Self::Order => "order",
            Self::Wakes => "wakes",
            Self::Floor => "floor",
            Self::Frugal => "frugal",
        }
    }

    /// What it promises, in one sentence.
    #[must_use]
    pub fn promise(self) -> &'static str {
        match self {
            Self::Faults => "it answers whatever it is shown",
            Self::Verdicts => "it answers with nothing but what its manifest lists",
            Self::Settings => "settings that it accepts never make it fail",
            Self::Repeatable => "the same view gives the same decision",
            Self::Order => "the order of leases, members and labels does not matter",
            Self::Wakes => "whoever waits has a wake, or waits for something that the view shows",
            Self::Floor => "no target goes that would take the party below its floor",
            Self::Frugal => "a decision uses no more than a part of its limits",
        }
    }

    /// What to do where it does not hold.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Faults => "a party may be empty, a list long, a number 0: answer `wait` rather than fail",
            Self::Verdicts => "list it in the manifest, in Rust as `#[policy(\"lock\", \"wait\", …)]`",
            Self::Settings => "refuse such settings in the schema or in `validate`",
            Self::Repeatable => {
                "keep nothing between decisions but `memory`, and use maps that have an order, such as `BTreeMap`"
            }
            Self::Order => "look through the whole list instead of at its first or last",
            Self::Wakes => "say when to ask again (`ask_again_after`, `wake-after`), or answer `skip` or `abort`",
            Self::Floor => {
                "wait while too few members would remain, in Rust with `rules::floor`; where that is left to the host on \
                 purpose, say so in the file of cases: `[leave-out]`, `floor = \"why\"`"
            }
            Self::Frugal => "look at each item once; keep no copies",
        }
    }
}

/// How thoroughly to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Search {
    /// How many views are made up.
    pub views: usize,
    /// What they are made of: the same seed makes the same views.
    pub seed: u64,
}

/// A property that does not hold.
#[derive(Debug)]
pub struct Broken {
    /// Which.
    pub property: Property,
    /// On what: the smallest found.
    pub question: Question,
    /// What is wrong with the answer.
    pub why: String,
    /// What is answered, where there is an answer.
    pub answer: Option<Answer>,
}

/// What came of a look.
#[derive(Debug)]
pub struct Looked {
    /// How many decisions were taken.
    pub decisions: usize,
    /// How many different settings were used.
    pub settings: usize,
    /// How many views were looked at before the policy had burnt so much that it was enough; none: all of them.
    pub cut_short: Option<usize>,
    /// What does not hold, each property at most once.
    pub broken: Vec<Broken>,
    /// Properties that hold as far as they were looked at.
    pub held: Vec<Property>,
    /// Properties that the file of cases leaves out, and why.
    pub left_out: Vec<(Property, String)>,
}

/// Looks whether a policy has every property. `cases` tell what its settings look like and which views are near it; without
/// them both are made up from its schema.
///
/// # Errors
/// Why it could not be asked at all: no settings are known that it accepts.
pub fn look(policy: &Module, cases: &[Cases], search: Search) -> Result<Looked, String> {
    let left_out: Vec<(Property, String)> = Property::ALL
        .into_iter()
        .filter_map(|property| {
            let reason = cases.iter().find_map(|cases| cases.leave_out.get(property.name()))?;
            Some((property, reason.clone()))
        })
        .collect();
    let mut rng = StdRng::seed_from_u64(search.seed);
    let settings = Settings::of(policy, cases, &mut rng)?;
    let near: Vec<Value> = cases.iter().flat_map(|cases| &cases.cases).map(|case| case.view.clone()).collect();
    let maker = Maker::new(near, settings.all());
    let mut eye = Eye { policy, limits: policy.limits(), settings, maker, decisions: 0, fuel: 0 };
    let mut broken: BTreeMap<Property, Broken> = BTreeMap::new();
    let mut memories: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut cut_short = None;
    let is_wanted = |property: Property| !left_out.iter().any(|(left, _)| *left == property);
    let wanted: Vec<Property> = Property::ALL.into_iter().filter(|property| is_wanted(*property)).collect();
    // What people wrote, then what is on the edge, then what is made up.
    let mut asked_for: Vec<Question> = cases.iter().flat_map(|cases| asked(policy, cases)).collect();
    asked_for.extend(eye.edges());
    let given = asked_for.len();
    for index in 0..given + search.views {
        if eye.fuel > ENOUGH_FUEL {
            cut_short = Some(index);
            break;
        }
        let question = match asked_for.get(index) {
            Some(question) => question.clone(),
            None => eye.make(&mut memories, &mut rng),
        };
        for &property in &wanted {
            if broken.contains_key(&property) || eye.breaks(property, &question).is_none() {
                continue;
            }
            let question = shrink::smallest(question.clone(), |smaller| {
                eye.settings.allow(policy, &smaller.settings) && eye.breaks(property, smaller).is_some()
            });
            if let Some(why) = eye.breaks(property, &question) {
                let answer = decide(policy, &question).answer.ok();
                broken.insert(property, Broken { property, question, why, answer });
            }
        }
    }
    let held = wanted.into_iter().filter(|property| !broken.contains_key(property)).collect();
    Ok(Looked {
        decisions: eye.decisions,
        cut_short,
        settings: eye.settings.own.len() + eye.settings.made.len(),
        broken: broken.into_values().collect(),
        held,
        left_out,
    })
}

/// The questions of cases, but for those that expect the policy to fail.
fn asked(policy: &Module, cases: &Cases) -> Vec<Question> {
    let fails = |case: &lockkeeper_cases::Case| case.expect.as_ref().is_some_and(|expect| expect.fault.is_some());
    let all = cases.cases.iter().zip(questions(policy, cases));
    all.filter(|(case, _)| !fails(case)).map(|(_, (_, question))| question).collect()
}

/// Settings that the policy accepts.
struct Settings {
    /// Those of the cases.
    own: Vec<Value>,
    /// Those made up from the schema.
    made: Vec<Value>,
}

impl Settings {
    fn of(policy: &Module, cases: &[Cases], rng: &mut StdRng) -> Result<Self, String> {
        let mut own: Vec<Value> = Vec::new();
        let told = cases
            .iter()
            .flat_map(|cases| std::iter::once(&cases.settings).chain(cases.cases.iter().map(|case| &case.settings)));
        for settings in told.chain([&json!({})]) {
            if !own.contains(settings) && accepts(policy, settings) {
                own.push(settings.clone());
            }
        }
        let schema = serde_json::from_str(&policy.manifest().settings_schema).unwrap_or(Value::Null);
        let mut made: Vec<Value> = Vec::new();
        for _ in 0..settings::TRIES {
            if let Some(settings) = settings::made(&schema, rng)
                && !own.contains(&settings)
                && !made.contains(&settings)
                && accepts(policy, &settings)
            {
                made.push(settings);
            }
            if made.len() == settings::MOST {
                break;
            }
        }
        match own.is_empty() && made.is_empty() {
            false => Ok(Self { own, made }),
            true => {
                Err("no settings are known that the policy accepts: a file of cases with `[settings]` tells some"
                    .into())
            }
        }
    }

    fn all(&self) -> impl Iterator<Item = &Value> {
        self.own.iter().chain(&self.made)
    }

    /// Whether settings may be asked with; smaller ones are asked about.
    fn allow(&self, policy: &Module, settings: &Value) -> bool {
        self.all().any(|known| known == settings) || accepts(policy, settings)
    }

    fn is_own(&self, settings: &Value) -> bool {
        self.own.contains(settings)
    }
}

fn accepts(policy: &Module, settings: &Value) -> bool {
    policy.validate(settings).is_ok_and(|found| found.iter().all(|one| one.severity != Severity::Error))
}

/// Looks at one policy.
struct Eye<'a> {
    policy: &'a Module,
    limits: Limits,
    settings: Settings,
    maker: Maker,
    decisions: usize,
    /// Burnt by all of them.
    fuel: u64,
}

impl Eye<'_> {
    fn decide(&mut self, question: &Question) -> super::Said {
        let said = decide(self.policy, question);
        self.decisions += 1;
        self.fuel = self.fuel.saturating_add(said.fuel);
        said
    }

    /// What is rarely met, such as an empty party or many of everything, with settings that people use; and those that were
    /// made up, each with the views that are small.
    fn edges(&self) -> Vec<Question> {
        let edges = self.maker.edges();
        let is_own = !self.settings.own.is_empty();
        let usual = if is_own { &self.settings.own } else { &self.settings.made };
        let usual = usual.iter().take(USUAL).flat_map(|settings| edges.iter().map(move |view| (settings, view)));
        let small = &edges[..SMALL];
        let made = self.settings.made.iter().flat_map(|settings| small.iter().map(move |view| (settings, view)));
        usual.chain(made).map(|(settings, view)| Question::admit(settings.clone(), view.clone())).collect()
    }

    /// One more question, with what the policy left at one before.
    fn make(&mut self, memories: &mut BTreeMap<String, Vec<u8>>, rng: &mut StdRng) -> Question {
        let all: Vec<&Value> = self.settings.all().collect();
        // Most of the time what people really set.
        let own = self.settings.own.len();
        let range = if own > 0 && rng.random_bool(0.7) { 0..own } else { 0..all.len() };
        let settings = all[rng.random_range(range)].clone();
        let key = settings.to_string();
        let memory = if rng.random_bool(0.5) { memories.get(&key).cloned().unwrap_or_default() } else { Vec::new() };
        let outcome = rng.random_bool(0.2).then(|| random_views::outcome(rng));
        let question = Question { settings, view: self.maker.view(rng), outcome, memory };
        if let Ok(answer) = self.decide(&question).answer {
            memories.insert(key, answer.memory);
        }
        question
    }

    /// Why a property does not hold on this question; none: it does.
    fn breaks(&mut self, property: Property, question: &Question) -> Option<String> {
        match property {
            Property::Faults => self.fails(question).filter(|_| self.settings.is_own(&question.settings)),
            Property::Settings => self.fails(question).filter(|_| !self.settings.is_own(&question.settings)),
            Property::Verdicts => match self.decide(question).error? {
                error @ PolicyError::NotInManifest { .. } => Some(error.to_string()),
                _ => None,
            },
            Property::Repeatable => self.differs_when_repeated(question),
            Property::Order => self.depends_on_order(question),
            Property::Wakes => wakes::never_wakes(self, question),
            Property::Floor => self.goes_below_the_floor(question),
            Property::Frugal => self.is_dear(question),
        }
    }

    fn fails(&mut self, question: &Question) -> Option<String> {
        match self.decide(question).error? {
            // These have names of their own.
            PolicyError::NotInManifest { .. } | PolicyError::OutOfFuel { .. } | PolicyError::OutOfMemory { .. } => None,
            error => Some(error.to_string()),
        }
    }

    fn differs_when_repeated(&mut self, question: &Question) -> Option<String> {
        let fresh = self.decide(question).answer.ok()?;
        let again = self.decide(question).answer;
        if again.as_ref().ok() != Some(&fresh) {
            return Some(format!(
                "{}, and in another fresh sandbox {}",
                told(&fresh),
                again.map_or_else(|fault| fault.kind, |answer| told(&answer))
            ));
        }
        if question.outcome.is_some() {
            return None;
        }
        let settings = question.settings.to_string();
        let mut warm = self.policy.warm().ok()?;
        for _ in 0..WARM_TIMES {
            self.decisions += 1;
            let decision = warm.admit(&settings, &question.view, &question.memory, every_grant());
            self.fuel = self.fuel.saturating_add(decision.fuel);
            // A kept instance that fails says nothing: memory is never given back in it.
            let kept = said(decision, std::time::Duration::ZERO, admitted).answer.ok()?;
            if kept != fresh {
                let what =
                    if told(&kept) == told(&fresh) { "another reason or memory".to_owned() } else { told(&kept) };
                return Some(format!("{}, and {what} where it has decided before in the same sandbox", told(&fresh)));
            }
        }
        None
    }

    fn depends_on_order(&mut self, question: &Question) -> Option<String> {
        let straight = self.decide(question).answer.ok()?;
        let mut rng = StdRng::seed_from_u64(7);
        for turn in 0..3 {
            let mut other = question.clone();
            reorder(&mut other.view, turn, &mut rng);
            if other.view == question.view {
                return None;
            }
            match self.decide(&other).answer {
                Ok(answer) if same_decision(&answer, &straight) => {}
                Ok(answer) => {
                    return Some(format!("{}, and with its lists in another order {}", told(&straight), told(&answer)));
                }
                Err(fault) => {
                    return Some(format!("{}, and with its lists in another order {}", told(&straight), fault.message));
                }
            }
        }
        None
    }

    fn goes_below_the_floor(&mut self, question: &Question) -> Option<String> {
        let View { target, semaphore, party, .. } = &question.view;
        let party = party.as_ref().filter(|_| question.outcome.is_none())?;
        let leaves = |identifier: &str| {
            // As the hard limits count it: whoever of this run holds a slot may be down.
            let mut own = semaphore.leases.iter().filter(|lease| lease.mine);
            identifier == target.name || own.any(|lease| lease.identifier == identifier)
        };
        if !party.members.iter().any(|member| member.identifier == target.name) {
            return None;
        }
        let remaining = party.members.iter().filter(|member| !leaves(&member.identifier)).count();
        let (all, floor) = (party.members.len(), party.min_members);
        let answer = self.decide(question).answer.ok()?;
        let goes = answer.verdict == "lock" || answer.verdict == "force";
        (goes && remaining < floor as usize).then(|| {
            format!(
                "`{}` where {remaining} of {all} members would remain and the floor is {floor}: the host refuses that",
                answer.verdict
            )
        })
    }

    fn is_dear(&mut self, question: &Question) -> Option<String> {
        let said = self.decide(question);
        if let Some(error @ (PolicyError::OutOfFuel { .. } | PolicyError::OutOfMemory { .. })) = &said.error {
            return Some(error.to_string());
        }
        said.answer.ok()?;
        let Limits { fuel, memory, .. } = self.limits;
        if said.fuel > fuel / FUEL_SHARE {
            return Some(format!("it burns {} of the {fuel} fuel that a decision has", said.fuel));
        }
        (said.memory > memory / 100 * MEMORY_PERCENT)
            .then(|| format!("it takes {} of the {memory} bytes of memory that a decision has", said.memory))
    }
}

/// A decision in a few words.
fn told(answer: &Answer) -> String {
    format!("`{}` ({})", answer.verdict, answer.code)
}

/// Whether two answers decide the same; their sentences may differ.
fn same_decision(a: &Answer, b: &Answer) -> bool {
    let sorted = |answer: &Answer| {
        let mut breaking = answer.breaking.clone().unwrap_or_default();
        breaking.sort_unstable();
        breaking
    };
    (&a.verdict, &a.code, a.keep, a.wake_after) == (&b.verdict, &b.code, b.keep, b.wake_after) && sorted(a) == sorted(b)
}

/// Lists that stand for sets in another order. Events keep theirs: it is that of time.
fn reorder(view: &mut View, turn: usize, rng: &mut StdRng) {
    fn change<T>(items: &mut [T], turn: usize, rng: &mut StdRng) {
        match turn {
            0 => items.reverse(),
            _ => items.shuffle(rng),
        }
    }
    change(&mut view.target.labels, turn, rng);
    for semaphore in std::iter::once(&mut view.semaphore).chain(&mut view.other_semaphores) {
        change(&mut semaphore.leases, turn, rng);
    }
    for party in view.party.iter_mut().chain(&mut view.other_parties) {
        change(&mut party.members, turn, rng);
    }
    change(&mut view.other_semaphores, turn, rng);
    change(&mut view.other_parties, turn, rng);
}

/// A view of JSON that is a difference from the base.
fn random_view(difference: &Value) -> View {
    let whole = lockkeeper_cases::view_of_json(difference)
        .unwrap_or_else(|problems| unreachable!("what is made here has the shape of a view: {problems:?}"));
    view(&whole)
}
