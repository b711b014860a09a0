//! Why a target does not go, or what became of it, in sentences.

use std::collections::BTreeMap;

use crate::audit::explain::format::{moment, named, of, span};
use crate::audit::explain::trail::{Hold, Place, Refused, Said, Trail, TrailEntry, TrailStatus};
use crate::policy::types::Ending;
use crate::rollout::model::{Begun, HELD};

/// What is in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Because {
    /// Nothing: it is under way.
    UnderWay,
    /// Nothing: nothing more happens to it.
    Settled,
    /// The run is over, or stops.
    Over,
    /// The store does not hear the run.
    Store,
    /// The orchestration has not let it go.
    Orchestration,
    /// Its wave comes later.
    Wave,
    /// The policy holds everybody.
    Held,
    /// A hard limit refuses.
    Limit,
    /// Its policy says wait.
    Policy,
    /// Its policy failed.
    Fault,
    /// The run has no slot left.
    Slots,
    /// Others come first.
    Turn,
}

impl Because {
    /// A stable word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::UnderWay => "under-way",
            Self::Settled => "settled",
            Self::Over => "over",
            Self::Store => "store",
            Self::Orchestration => "orchestration",
            Self::Wave => "wave",
            Self::Held => "held",
            Self::Limit => "limit",
            Self::Policy => "policy",
            Self::Fault => "fault",
            Self::Slots => "slots",
            Self::Turn => "turn",
        }
    }
}

/// The earliest moment at which something can change by the clock alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Earliest {
    /// In milliseconds since the Unix epoch.
    pub at: u64,
    /// What happens then.
    pub why: String,
}

/// What is to say of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Which.
    pub target: String,
    /// Where it stands.
    pub status: TrailStatus,
    /// What is in the way.
    pub because: Because,
    /// Why it does not go, without its name: what those have in common that wait for the same.
    pub reason: String,
    /// The same as a whole sentence.
    pub sentence: String,
    /// More that a person should know, a line each.
    pub more: Vec<String>,
    /// What its policy said last.
    pub said: Option<Said>,
    /// The limit that refused it last, or refuses everybody.
    pub refused: Option<Refused>,
    /// When something changes by the clock alone.
    pub earliest: Option<Earliest>,
    /// The decision that is in the way.
    pub place: Option<Place>,
}

/// What a run waits for as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// In one sentence.
    pub sentence: String,
    /// The answers for targets that nothing final happened to, those with the same reason together.
    pub groups: Vec<(Answer, Vec<String>)>,
}

/// Why a target does not go; none: the run has no such target.
#[must_use]
pub fn of_target(account: &Trail, name: &str, now_ms: u64) -> Option<Answer> {
    let trail = account.target(name)?;
    let mut answer = Answer {
        target: name.to_owned(),
        status: trail.status,
        because: Because::Settled,
        reason: String::new(),
        sentence: String::new(),
        more: Vec::new(),
        said: trail.said.clone(),
        refused: trail.refused.clone(),
        earliest: None,
        place: None,
    };
    match trail.status {
        TrailStatus::NotAsked | TrailStatus::Waiting => open(account, name, trail, now_ms, &mut answer),
        _ => elsewhere(account, trail, now_ms, &mut answer),
    }
    answer.sentence = match answer.status.is_open() {
        true => format!("{name} does not go: {}", answer.reason),
        false => format!("{name} {}", answer.reason),
    };
    Some(answer)
}

/// What the run waits for.
#[must_use]
pub fn of_run(account: &Trail, now_ms: u64) -> Summary {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut open = Vec::new();
    for (name, trail) in account.targets() {
        *counts.entry(trail.status.word()).or_default() += 1;
        if !trail.status.is_final() {
            open.extend(of_target(account, name, now_ms));
        }
    }
    let number = |words: &[&str]| words.iter().filter_map(|word| counts.get(word)).sum::<usize>();
    let total = account.header.targets.len();
    let mut stands = vec![format!("{} of {} succeeded", number(&["succeeded"]), of(total, "target"))];
    for (words, what) in [
        (&["leased", "running", "action-ended"][..], "under way"),
        (&["queueing"], "queueing for a slot"),
        (&["contact-lost"], "out of sight"),
        (&["failed"], "failed"),
        (&["unknown"], "unknown"),
        (&["rolled-back"], "rolled back"),
        (&["skipped"], "left out"),
        (&["waiting", "not-asked"], "to come"),
    ] {
        if number(words) > 0 {
            stands.push(format!("{} {what}", number(words)));
        }
    }
    let status = stands.join(", ");
    let first = open.iter().find(|answer| answer.status.is_open());
    let sentence = match (&account.closing, first) {
        (Some(closing), _) => format!("it ended {} ({}): {status}", moment(closing.ended, now_ms), closing.end),
        (None, Some(answer)) => format!("{status}; it waits, as {}", answer.reason),
        (None, None) if open.is_empty() => status,
        (None, None) => format!("{status}; nobody waits to be asked"),
    };
    Summary { sentence, groups: group(open) }
}

/// Those with the same reason together, in the order of the first of each.
#[must_use]
pub fn group(answers: Vec<Answer>) -> Vec<(Answer, Vec<String>)> {
    let mut groups: Vec<(Answer, Vec<String>)> = Vec::new();
    let mut places: BTreeMap<(&'static str, Because, String), usize> = BTreeMap::new();
    for answer in answers {
        let of_one = match answer.status.is_open() {
            true => String::new(),
            false => answer.target.clone(),
        };
        let status = if answer.status.is_open() { "waiting" } else { answer.status.word() };
        // Each has a number of its own before it, and they wait for the same.
        let reason = if answer.because == Because::Turn { String::new() } else { answer.reason.clone() };
        let key = (status, answer.because, reason + &of_one);
        match places.get(&key) {
            Some(at) => groups[*at].1.push(answer.target),
            None => {
                places.insert(key, groups.len());
                let name = answer.target.clone();
                groups.push((answer, vec![name]));
            }
        }
    }
    groups
}

// ---------------------------------------------------------------------- it may be asked

fn open(account: &Trail, name: &str, trail: &TrailEntry, now_ms: u64, answer: &mut Answer) {
    let policy = &account.header.policy;
    (answer.because, answer.reason) = if let Some(closing) = &account.closing {
        let why = account.stopping.as_ref().map_or(String::new(), |(_, why)| format!(": {why}"));
        let goes_on = match closing.end.as_str() {
            "succeeded" | "failed" | "aborted" => "",
            _ => "; `lockkeeper run JOB` with the same job file resumes it",
        };
        (Because::Over, format!("the run ended {} ({}{why}){goes_on}", moment(closing.ended, now_ms), closing.end))
    } else if let Some((at, why)) = &account.stopping {
        (Because::Over, format!("the run is stopping since {}: {why}", moment(*at, now_ms)))
    } else if let Some((at, state)) = &account.deaf {
        let text = format!("the store does not hear the run: its session is {state} since {}", moment(*at, now_ms));
        (Because::Store, text)
    } else if account.keeps_back(name) {
        (Because::Orchestration, kept_back(account, now_ms))
    } else if let Some(text) = later_wave(account, name) {
        (Because::Wave, text)
    } else if let Some(text) = unapproved(account, name) {
        (Because::Wave, text)
    } else if let Some(found) = held(account, trail, answer) {
        found
    } else if let Some(refused) = &trail.refused {
        answer.place = trail.said.as_ref().map(|said| said.place);
        (Because::Limit, limit(refused, policy, true))
    } else if let Some(said) = trail.said.as_ref().filter(|said| said.verdict != "lock" && said.verdict != "force") {
        answer.place = Some(said.place);
        match said.verdict.as_str() {
            "fault" => (Because::Fault, format!("policy `{policy}` failed: {} ({})", said.reason, said.code)),
            verdict => (Because::Policy, format!("policy `{policy}` says {verdict}: {} ({})", said.reason, said.code)),
        }
    } else if let Some(text) = no_room(account, now_ms) {
        (Because::Slots, text)
    } else {
        let before = before(account, name);
        let said = trail.left.as_ref().filter(|(_, why)| !why.is_empty());
        match (before, said) {
            (_, Some((_, why))) => (Because::Turn, format!("its slot went back: {why}; it is asked about again")),
            (0, None) => (Because::Turn, "it is the next to be asked about".to_owned()),
            (before, None) => (Because::Turn, format!("its turn has not come: {} before it", of(before, "target"))),
        }
    };
    if answer.because == Because::Policy
        && let Some(text) = no_room(account, now_ms)
    {
        answer.more.push(format!("besides, {text}"));
    }
    if trail.said.is_none() && !matches!(answer.because, Because::Turn | Because::Over | Because::Orchestration) {
        let before = match before(account, name) {
            0 => "it is the next in the plan's order".to_owned(),
            number => format!("{} before it in the plan's order", of(number, "waiting target")),
        };
        answer.more.push(format!("its policy has not been asked about it yet; {before}"));
    }
    if answer.because == Because::Limit
        && answer.refused.as_ref().is_some_and(|refused| refused.limit == "budget-spent")
    {
        let run = &account.header.run;
        answer.more.push(format!(
            "`lockkeeper retry {run} --failed` lets what failed go again, `lockkeeper resume {run} --accept` continues without it"
        ));
    }
    if let Some((_, why)) = trail.left.as_ref().filter(|_| answer.because != Because::Turn) {
        answer.more.push(format!("it had a slot already, which went back: {why}"));
    }
    if let Some(since) = trail.waiting_since {
        answer.more.push(format!("it has been waiting since {}", moment(since, now_ms)));
    }
    answer.earliest = match answer.because {
        Because::Over | Because::Store | Because::Wave | Because::Orchestration => None,
        Because::Slots => kept(account),
        _ => earliest(account, answer, trail).or_else(|| kept(account)),
    };
}

/// What the orchestration does instead.
fn kept_back(account: &Trail, now_ms: u64) -> String {
    let name = account.header.orchestration.as_ref().map_or("", |orchestration| orchestration.name.as_str());
    let does = match &account.calls {
        Some(Begun { call, since, .. }) => {
            format!("it waits for an answer to `{call}` since {}", moment(*since, now_ms))
        }
        None => "it waits for no answer now".to_owned(),
    };
    format!("orchestration `{name}` has not let it go: {does}")
}

/// How many that may be asked about come earlier.
fn before(account: &Trail, name: &str) -> usize {
    let before = account.targets().take_while(|(other, _)| *other != name);
    before.filter(|(_, trail)| trail.status.is_open()).count()
}

/// Its wave waits for approval, and how that is given.
fn unapproved(account: &Trail, name: &str) -> Option<String> {
    let (wave, run) = account.unapproved.as_ref()?;
    let (_, own) = account.wave(name)?;
    (own == wave).then(|| format!("wave `{wave}` waits for approval: `lockkeeper approve {run} {wave}` lets it begin"))
}

/// Which wave is under way, if that is an earlier one.
fn later_wave(account: &Trail, name: &str) -> Option<String> {
    let (number, wave) = account.wave(name)?;
    let mut start = 0;
    for (at, earlier) in account.header.waves.iter().enumerate().take(number) {
        let names = &account.header.targets[start..(start + earlier.targets).min(account.header.targets.len())];
        start += earlier.targets;
        let left =
            names.iter().filter_map(|name| account.target(name)).filter(|trail| !trail.status.is_final()).count();
        if left > 0 {
            let total = account.header.waves.len();
            return Some(format!(
                "it is in wave `{wave}`, number {} of {total}; wave `{}`, number {}, comes first and has {left} of {} left",
                number + 1,
                earlier.name,
                at + 1,
                of(earlier.targets, "target")
            ));
        }
    }
    None
}

fn held(account: &Trail, trail: &TrailEntry, answer: &mut Answer) -> Option<(Because, String)> {
    let policy = &account.header.policy;
    match account.hold.as_ref()? {
        Hold::Policy(target) => {
            let said = account.target(target)?.said.as_ref()?;
            answer.place = Some(said.place);
            let about = if *target == answer.target { String::new() } else { format!(", asked about {target}") };
            let text = format!("policy `{policy}` holds everybody{about}: {} ({})", said.reason, said.code);
            Some((Because::Held, text))
        }
        Hold::Limit(refused) => {
            let own = trail.refused.as_ref().is_some_and(|own| own.limit == refused.limit);
            answer.refused.get_or_insert_with(|| refused.clone());
            let about = if own { Some(trail) } else { account.target(&refused.target) };
            answer.place = about.and_then(|trail| trail.said.as_ref()).map(|said| said.place);
            if own {
                answer.more.push(format!("policy `{policy}` would let it go"));
            }
            Some((Because::Limit, limit(refused, policy, false)))
        }
    }
}

fn limit(refused: &Refused, policy: &str, own: bool) -> String {
    let Refused { limit, reason, .. } = refused;
    if limit == HELD {
        return format!("{reason} ({limit}); policy `{policy}` would let it go");
    }
    match own {
        true => format!("policy `{policy}` would let it go, a hard limit of the job does not: {reason} ({limit})"),
        false => format!("a hard limit of the job lets nobody go: {reason} ({limit})"),
    }
}

/// Who has the run's slots, if all are in use.
fn no_room(account: &Trail, now_ms: u64) -> Option<String> {
    let slots = account.header.limits.slots as usize;
    let in_flight: Vec<String> = account
        .targets()
        .filter(|(_, trail)| trail.status.is_in_flight())
        .map(|(name, trail)| {
            format!("{name} {} for {}", trail.status.word(), span(now_ms.saturating_sub(trail.since) / 1000 * 1000))
        })
        .collect();
    if in_flight.len() < slots {
        return None;
    }
    let all = if slots == 1 { "the one slot is".to_owned() } else { format!("all {slots} slots are") };
    Some(format!("{all} this run's own already: {}; the next is asked when one is free", named(&in_flight)))
}

/// The first slot that is kept to bake, and is given back then.
fn kept(account: &Trail) -> Option<Earliest> {
    let keeping = account.targets().filter_map(|(name, trail)| Some((trail.keeping.as_ref()?.0, name)));
    let (at, name) = keeping.min()?;
    Some(Earliest { at, why: format!("{name} gives its slot back, which it keeps until then") })
}

fn earliest(account: &Trail, answer: &Answer, trail: &TrailEntry) -> Option<Earliest> {
    let refused = answer.refused.as_ref().filter(|_| answer.because == Because::Limit);
    let limit = refused.and_then(|refused| refused.until).map(|at| (at, "the limit allows it by the clock".to_owned()));
    let said = match (&account.hold, answer.because) {
        (Some(Hold::Policy(target)), Because::Held) => account.target(target).and_then(|trail| trail.said.as_ref()),
        (_, Because::Limit) => None,
        _ => trail.said.as_ref(),
    };
    let wake =
        said.and_then(|said| Some((said.at.saturating_add(said.wake_after?), "the policy is asked again".to_owned())));
    limit.into_iter().chain(wake).min().map(|(at, why)| Earliest { at, why })
}

// ---------------------------------------------------------------------- it is under way, or over

fn elsewhere(account: &Trail, trail: &TrailEntry, now_ms: u64, answer: &mut Answer) {
    let since = moment(trail.since, now_ms);
    let fence = trail.fence.map_or(String::new(), |fence| format!(" under fence {fence}"));
    let ended = trail.ended.as_ref();
    let took = ended.map_or(String::new(), |ended| format!(" after {}", span(ended.took_ms)));
    let attempt = ended.and_then(|ended| ended.attempt).unwrap_or(trail.attempt);
    let detail = ended.map_or("", |ended| ended.detail.as_str());
    let waits = !trail.status.is_final();
    answer.because = if waits { Because::UnderWay } else { Because::Settled };
    let had = match ended.map(|ended| ended.ending) {
        Some(Ending::Succeeded) => "; its action had succeeded".to_owned(),
        Some(Ending::Unknown) => format!("; the outcome of its action was unknown: {detail}"),
        Some(_) => format!("; its action had failed: {detail}"),
        None => String::new(),
    };
    answer.reason = match trail.status {
        TrailStatus::Running if trail.is_rolled_back_now => {
            format!("is being rolled back: try {}{fence}, since {since}{had}", trail.attempt)
        }
        TrailStatus::ContactLost if trail.is_rolled_back_now => {
            format!("was being rolled back (try {}{fence}): how that ended is being found out{had}", trail.attempt)
        }
        TrailStatus::Failed | TrailStatus::Unknown if trail.roll_back_ended.is_some() => {
            let how = trail.roll_back_ended.as_ref().map_or("", |(_, how)| how.as_str());
            format!("is {}, since {since}: {how}{had}", trail.status.word())
        }
        TrailStatus::Queueing => {
            format!("may go, and queues for a slot of {} since {since}", slots_of(account))
        }
        TrailStatus::Leased => {
            format!("has its slot since {since}{fence}, and is asked about once more before it starts")
        }
        TrailStatus::Running => format!("is acting: try {}{fence}, since {since}", trail.attempt),
        TrailStatus::ActionEnded => match &trail.keeping {
            Some((until, why)) => {
                format!("has acted (try {attempt}) and keeps its slot until {}: {why}", moment(*until, now_ms))
            }
            None => format!("has acted (try {attempt}){took}, {since}, and has its slot still"),
        },
        TrailStatus::ContactLost => {
            format!(
                "was acting (try {}{fence}) when its runner lost sight of it: how it ended is being found out",
                trail.attempt
            )
        }
        TrailStatus::Succeeded => format!("is done, since {since}: try {attempt} succeeded{took}"),
        TrailStatus::Failed => format!("failed, {since}: try {attempt}, {detail}{took}"),
        TrailStatus::Unknown => {
            format!("is unknown, since {since}: the outcome of try {attempt} is unknown ({detail})")
        }
        TrailStatus::RolledBack => {
            let why = trail.left.as_ref().map_or("", |(_, why)| why.as_str());
            format!("is rolled back, since {since}: {why}{had}")
        }
        TrailStatus::Skipped => {
            let (code, reason) = trail.left.clone().unwrap_or_default();
            format!("is left out, since {since}: {reason} ({code})")
        }
        TrailStatus::NotAsked | TrailStatus::Waiting => String::new(),
    };
    if let Some(log) = ended.and_then(|ended| ended.log.as_ref()) {
        answer.more.push(format!("its output is in {log}"));
    }
    if let Some(forced) = &trail.forced {
        answer.more.push(format!("its slot was taken by force, {forced}"));
    }
    if let Some((until, _)) = &trail.keeping {
        answer.earliest = Some(Earliest { at: *until, why: "it gives its slot back".to_owned() });
    }
    if trail.status == TrailStatus::Queueing {
        answer.place = trail.said.as_ref().map(|said| said.place);
        answer
            .more
            .push("its place in the queue is not in the journal; `lockkeeper holders` shows how many wait".to_owned());
    }
    if waits && let Some(closing) = &account.closing {
        answer.more.push(format!("the run ended {} ({})", moment(closing.ended, now_ms), closing.end));
    }
}

fn slots_of(account: &Trail) -> String {
    of(account.header.limits.slots as usize, "slot")
}
