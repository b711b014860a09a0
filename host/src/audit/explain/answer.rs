//! Explains why a target is blocked, or what became of it, in sentences.

use std::collections::BTreeMap;

use crate::audit::explain::format::{moment, named, of, span};
use crate::audit::explain::trail::{Hold, JournalPosition, PolicyAnswer, Refused, Trail, TrailEntry, TrailStatus};
use crate::policy::types::Ending;
use crate::rollout::model::{Begun, HELD};

/// What blocks a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BlockedBy {
    /// Nothing: it is in flight.
    InFlight,
    /// Nothing: its status is final.
    Final,
    /// The run has ended, or is stopping.
    Finished,
    /// The run has no contact with the store.
    Store,
    /// The orchestration has not started it.
    Orchestration,
    /// Its wave comes later, or needs approval.
    Wave,
    /// The policy holds all targets.
    Held,
    /// A hard limit of the job.
    Limit,
    /// The policy's verdict.
    Policy,
    /// The policy failed.
    Fault,
    /// All slots are in use by this run.
    Slots,
    /// Other targets come first.
    Turn,
}

impl BlockedBy {
    /// The stable word for JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::InFlight => "in-flight",
            Self::Final => "final",
            Self::Finished => "finished",
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

/// The earliest time at which the clock alone changes something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Earliest {
    /// Milliseconds since the Unix epoch.
    pub at: u64,
    /// What happens then, as a clause.
    pub why: String,
}

/// The explanation of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Name of the target.
    pub target: String,
    /// Its status.
    pub status: TrailStatus,
    /// What blocks it.
    pub blocked_by: BlockedBy,
    /// The reason without the target's name, so that targets with the same reason can be grouped.
    pub reason: String,
    /// The reason as a sentence with the name.
    pub sentence: String,
    /// Further lines for people.
    pub more: Vec<String>,
    /// The policy's last answer about it.
    pub policy_answer: Option<PolicyAnswer>,
    /// The last refusal by a limit, of this target or of all.
    pub refused: Option<Refused>,
    /// When the clock alone changes something. `None` if it does not.
    pub earliest: Option<Earliest>,
    /// Where the blocking decision is recorded. `None` if no decision blocks it.
    pub position: Option<JournalPosition>,
}

/// The explanation of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// One sentence about the run.
    pub sentence: String,
    /// The explanations of targets without a final status, grouped by reason, with the names of each group.
    pub groups: Vec<(Answer, Vec<String>)>,
}

/// Explains one target. `None` if the run has no such target.
#[must_use]
pub fn of_target(trail: &Trail, name: &str, now_ms: u64) -> Option<Answer> {
    let entry = trail.target(name)?;
    let mut answer = Answer {
        target: name.to_owned(),
        status: entry.status,
        blocked_by: BlockedBy::Final,
        reason: String::new(),
        sentence: String::new(),
        more: Vec::new(),
        policy_answer: entry.policy_answer.clone(),
        refused: entry.refused.clone(),
        earliest: None,
        position: None,
    };
    match entry.status {
        TrailStatus::NotAsked | TrailStatus::Waiting => open(trail, name, entry, now_ms, &mut answer),
        _ => started_or_final(trail, entry, now_ms, &mut answer),
    }
    answer.sentence = match answer.status.is_open() {
        true => format!("{name} is blocked: {}", answer.reason),
        false => format!("{name} {}", answer.reason),
    };
    Some(answer)
}

/// Explains what the run waits for.
#[must_use]
pub fn of_run(trail: &Trail, now_ms: u64) -> Summary {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut open = Vec::new();
    for (name, entry) in trail.targets() {
        *counts.entry(entry.status.word()).or_default() += 1;
        if !entry.status.is_final() {
            open.extend(of_target(trail, name, now_ms));
        }
    }
    let number = |words: &[&str]| words.iter().filter_map(|word| counts.get(word)).sum::<usize>();
    let total = trail.header.targets.len();
    let mut parts = vec![format!("{} of {} succeeded", number(&["succeeded"]), of(total, "target"))];
    for (words, what) in [
        (&["leased", "running", "action-ended"][..], "in flight"),
        (&["queueing"], "queueing for a slot"),
        (&["contact-lost"], "without contact"),
        (&["failed"], "failed"),
        (&["unknown"], "unknown"),
        (&["rolled-back"], "rolled back"),
        (&["skipped"], "skipped"),
        (&["waiting", "not-asked"], "not started"),
    ] {
        if number(words) > 0 {
            parts.push(format!("{} {what}", number(words)));
        }
    }
    let status = parts.join(", ");
    let first = open.iter().find(|answer| answer.status.is_open());
    let sentence = match (&trail.closing, first) {
        (Some(closing), _) => format!("ended {} ({}): {status}", moment(closing.ended, now_ms), closing.end),
        (None, Some(answer)) => format!("{status}; waiting because {}", answer.reason),
        (None, None) if open.is_empty() => status,
        (None, None) => format!("{status}; no target waits for a decision"),
    };
    Summary { sentence, groups: group(open) }
}

/// Groups explanations with the same reason, in the order of the first of each.
#[must_use]
pub fn group(answers: Vec<Answer>) -> Vec<(Answer, Vec<String>)> {
    let mut groups: Vec<(Answer, Vec<String>)> = Vec::new();
    let mut places: BTreeMap<(&'static str, BlockedBy, String), usize> = BTreeMap::new();
    for answer in answers {
        let of_one = match answer.status.is_open() {
            true => String::new(),
            false => answer.target.clone(),
        };
        let status = if answer.status.is_open() { "waiting" } else { answer.status.word() };
        // The numbers of targets before them differ, but they wait for the same.
        let reason = if answer.blocked_by == BlockedBy::Turn { String::new() } else { answer.reason.clone() };
        let key = (status, answer.blocked_by, reason + &of_one);
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

// ---------------------------------------------------------------------- not started

fn open(trail: &Trail, name: &str, entry: &TrailEntry, now_ms: u64, answer: &mut Answer) {
    let policy = &trail.header.policy;
    (answer.blocked_by, answer.reason) = if let Some(closing) = &trail.closing {
        let why = trail.stopping.as_ref().map_or(String::new(), |(_, why)| format!(": {why}"));
        let hint = match closing.end.as_str() {
            "succeeded" | "failed" | "aborted" => "",
            _ => "; `lockkeeper run JOB` with the same job file resumes it",
        };
        (BlockedBy::Finished, format!("the run ended {} ({}{why}){hint}", moment(closing.ended, now_ms), closing.end))
    } else if let Some((at, why)) = &trail.stopping {
        (BlockedBy::Finished, format!("the run has been stopping since {}: {why}", moment(*at, now_ms)))
    } else if let Some((at, state)) = &trail.disconnected {
        let text = format!(
            "the run has no contact with the store: its session has been {state} since \
         {}",
            moment(*at, now_ms)
        );
        (BlockedBy::Store, text)
    } else if trail.is_held_back(name) {
        (BlockedBy::Orchestration, held_back(trail, now_ms))
    } else if let Some(text) = later_wave(trail, name) {
        (BlockedBy::Wave, text)
    } else if let Some(text) = awaits_approval(trail, name) {
        (BlockedBy::Wave, text)
    } else if let Some(found) = held(trail, entry, answer) {
        found
    } else if let Some(refused) = &entry.refused {
        answer.position = entry.policy_answer.as_ref().map(|policy_answer| policy_answer.position);
        (BlockedBy::Limit, limit(refused, policy, true))
    } else if let Some(policy_answer) = entry
        .policy_answer
        .as_ref()
        .filter(|policy_answer| policy_answer.verdict != "lock" && policy_answer.verdict != "force")
    {
        answer.position = Some(policy_answer.position);
        match policy_answer.verdict.as_str() {
            "fault" => (
                BlockedBy::Fault,
                format!("policy `{policy}` failed: {} ({})", policy_answer.reason, policy_answer.code),
            ),
            verdict => (
                BlockedBy::Policy,
                format!("policy `{policy}` answers {verdict}: {} ({})", policy_answer.reason, policy_answer.code),
            ),
        }
    } else if let Some(text) = slots_in_use(trail, now_ms) {
        (BlockedBy::Slots, text)
    } else {
        let before = before(trail, name);
        let released = entry.left.as_ref().filter(|(_, why)| !why.is_empty());
        match (before, released) {
            (_, Some((_, why))) => (BlockedBy::Turn, format!("its slot was released: {why}; the policy decides again")),
            (0, None) => (BlockedBy::Turn, "it is next".to_owned()),
            (before, None) => (BlockedBy::Turn, format!("{} before it", of(before, "target"))),
        }
    };
    if answer.blocked_by == BlockedBy::Policy
        && let Some(text) = slots_in_use(trail, now_ms)
    {
        answer.more.push(format!("besides, {text}"));
    }
    if entry.policy_answer.is_none()
        && !matches!(answer.blocked_by, BlockedBy::Turn | BlockedBy::Finished | BlockedBy::Orchestration)
    {
        let before = match before(trail, name) {
            0 => "it is next in the plan's order".to_owned(),
            number => format!("{} before it in the plan's order", of(number, "waiting target")),
        };
        answer.more.push(format!("the policy has not decided about it yet; {before}"));
    }
    if answer.blocked_by == BlockedBy::Limit
        && answer.refused.as_ref().is_some_and(|refused| refused.limit == "budget-spent")
    {
        let run = &trail.header.run;
        answer.more.push(format!(
            "`lockkeeper retry {run} --failed` retries the failed targets, `lockkeeper resume {run} --accept` \
             continues without them"
        ));
    }
    if let Some((_, why)) = entry.left.as_ref().filter(|_| answer.blocked_by != BlockedBy::Turn) {
        answer.more.push(format!("it had a slot, which was released: {why}"));
    }
    if let Some(since) = entry.waiting_since {
        answer.more.push(format!("it has been waiting since {}", moment(since, now_ms)));
    }
    answer.earliest = match answer.blocked_by {
        BlockedBy::Finished | BlockedBy::Store | BlockedBy::Wave | BlockedBy::Orchestration => None,
        BlockedBy::Slots => baking_slot(trail),
        _ => earliest(trail, answer, entry).or_else(|| baking_slot(trail)),
    };
}

/// What the orchestration is doing instead.
fn held_back(trail: &Trail, now_ms: u64) -> String {
    let name = trail.header.orchestration.as_ref().map_or("", |orchestration| orchestration.name.as_str());
    let does = match &trail.calls {
        Some(Begun { call, since, .. }) => {
            format!("it has been waiting for an answer to `{call}` since {}", moment(*since, now_ms))
        }
        None => "it is not waiting for an answer".to_owned(),
    };
    format!("orchestration `{name}` has not started it: {does}")
}

/// How many targets that may still start come earlier in the plan.
fn before(trail: &Trail, name: &str) -> usize {
    let before = trail.targets().take_while(|(other, _)| *other != name);
    before.filter(|(_, entry)| entry.status.is_open()).count()
}

/// The reason if its wave needs approval, with the command that gives it.
fn awaits_approval(trail: &Trail, name: &str) -> Option<String> {
    let (wave, run) = trail.awaits_approval.as_ref()?;
    let (_, own) = trail.wave(name)?;
    (own == wave).then(|| format!("wave `{wave}` needs approval: `lockkeeper approve {run} {wave}` approves it"))
}

/// The reason if an earlier wave is unfinished.
fn later_wave(trail: &Trail, name: &str) -> Option<String> {
    let (number, wave) = trail.wave(name)?;
    let mut start = 0;
    for (at, earlier) in trail.header.waves.iter().enumerate().take(number) {
        let names = &trail.header.targets[start..(start + earlier.targets).min(trail.header.targets.len())];
        start += earlier.targets;
        let left = names.iter().filter_map(|name| trail.target(name)).filter(|entry| !entry.status.is_final()).count();
        if left > 0 {
            let total = trail.header.waves.len();
            return Some(format!(
                "it is in wave `{wave}`, number {} of {total}; wave `{}`, number {}, comes first and has {left} of {} \
                 unfinished",
                number + 1,
                earlier.name,
                at + 1,
                of(earlier.targets, "target")
            ));
        }
    }
    None
}

fn held(trail: &Trail, entry: &TrailEntry, answer: &mut Answer) -> Option<(BlockedBy, String)> {
    let policy = &trail.header.policy;
    match trail.hold.as_ref()? {
        Hold::Policy(target) => {
            let policy_answer = trail.target(target)?.policy_answer.as_ref()?;
            answer.position = Some(policy_answer.position);
            let about =
                if *target == answer.target { String::new() } else { format!(", in its decision about {target}") };
            let text = format!(
                "policy `{policy}` holds all targets{about}: {} ({})",
                policy_answer.reason, policy_answer.code
            );
            Some((BlockedBy::Held, text))
        }
        Hold::Limit(refused) => {
            let own = entry.refused.as_ref().is_some_and(|own| own.limit == refused.limit);
            answer.refused.get_or_insert_with(|| refused.clone());
            let about = if own { Some(entry) } else { trail.target(&refused.target) };
            answer.position =
                about.and_then(|entry| entry.policy_answer.as_ref()).map(|policy_answer| policy_answer.position);
            if own {
                answer.more.push(format!("policy `{policy}` would admit it"));
            }
            Some((BlockedBy::Limit, limit(refused, policy, false)))
        }
    }
}

fn limit(refused: &Refused, policy: &str, own: bool) -> String {
    let Refused { limit, reason, .. } = refused;
    if limit == HELD {
        return format!("{reason} ({limit}); policy `{policy}` would admit it");
    }
    match own {
        true => format!("policy `{policy}` admits it, a hard limit of the job does not: {reason} ({limit})"),
        false => format!("a hard limit of the job blocks all targets: {reason} ({limit})"),
    }
}

/// The reason if this run's own targets use all slots.
fn slots_in_use(trail: &Trail, now_ms: u64) -> Option<String> {
    let slots = trail.header.limits.slots as usize;
    let in_flight: Vec<String> = trail
        .targets()
        .filter(|(_, entry)| entry.status.is_in_flight())
        .map(|(name, entry)| {
            format!("{name} {} for {}", entry.status.word(), span(now_ms.saturating_sub(entry.since) / 1000 * 1000))
        })
        .collect();
    if in_flight.len() < slots {
        return None;
    }
    let all = if slots == 1 { "the only slot is".to_owned() } else { format!("all {slots} slots are") };
    Some(format!(
        "{all} in use by this run: {}; the policy decides about the next target when a slot is \
     free",
        named(&in_flight)
    ))
}

/// The first slot whose target keeps it to bake, and its release.
fn baking_slot(trail: &Trail) -> Option<Earliest> {
    let keeping = trail.targets().filter_map(|(name, entry)| Some((entry.keeping.as_ref()?.0, name)));
    let (at, name) = keeping.min()?;
    Some(Earliest { at, why: format!("{name} keeps its slot until then") })
}

fn earliest(trail: &Trail, answer: &Answer, entry: &TrailEntry) -> Option<Earliest> {
    let refused = answer.refused.as_ref().filter(|_| answer.blocked_by == BlockedBy::Limit);
    let limit = refused.and_then(|refused| refused.until).map(|at| (at, "the limit no longer blocks it".to_owned()));
    let policy_answer = match (&trail.hold, answer.blocked_by) {
        (Some(Hold::Policy(target)), BlockedBy::Held) => {
            trail.target(target).and_then(|entry| entry.policy_answer.as_ref())
        }
        (_, BlockedBy::Limit) => None,
        _ => entry.policy_answer.as_ref(),
    };
    let wake = policy_answer.and_then(|policy_answer| {
        Some((policy_answer.at.saturating_add(policy_answer.wake_after?), "the policy decides again".to_owned()))
    });
    limit.into_iter().chain(wake).min().map(|(at, why)| Earliest { at, why })
}

// ---------------------------------------------------------------------- started or final

fn started_or_final(trail: &Trail, entry: &TrailEntry, now_ms: u64, answer: &mut Answer) {
    let since = moment(entry.since, now_ms);
    let fence = entry.fence.map_or(String::new(), |fence| format!(" under fence {fence}"));
    let ended = entry.ended.as_ref();
    let took = ended.map_or(String::new(), |ended| format!(" after {}", span(ended.took_ms)));
    let attempt = ended.and_then(|ended| ended.attempt).unwrap_or(entry.attempt);
    let detail = ended.map_or("", |ended| ended.detail.as_str());
    let waits = !entry.status.is_final();
    answer.blocked_by = if waits { BlockedBy::InFlight } else { BlockedBy::Final };
    let had = match ended.map(|ended| ended.ending) {
        Some(Ending::Succeeded) => "; its action had succeeded".to_owned(),
        Some(Ending::Unknown) => format!("; the outcome of its action was unknown: {detail}"),
        Some(_) => format!("; its action had failed: {detail}"),
        None => String::new(),
    };
    answer.reason = match entry.status {
        TrailStatus::Running if entry.is_rolled_back_now => {
            format!("is being rolled back: attempt {}{fence}, since {since}{had}", entry.attempt)
        }
        TrailStatus::ContactLost if entry.is_rolled_back_now => {
            format!(
                "was being rolled back (attempt {}{fence}) when contact was lost: the outcome is being \
             checked{had}",
                entry.attempt
            )
        }
        TrailStatus::Failed | TrailStatus::Unknown if entry.roll_back_ended.is_some() => {
            let how = entry.roll_back_ended.as_ref().map_or("", |(_, how)| how.as_str());
            format!("is {}, since {since}: {how}{had}", entry.status.word())
        }
        TrailStatus::Queueing => {
            format!("is admitted and has queued for one of {} since {since}", slots_of(trail))
        }
        TrailStatus::Leased => {
            format!("has had its slot since {since}{fence}; the policy decides once more before it starts")
        }
        TrailStatus::Running => format!("is running: attempt {}{fence}, since {since}", entry.attempt),
        TrailStatus::ActionEnded => match &entry.keeping {
            Some((until, why)) => {
                format!("has finished attempt {attempt} and keeps its slot until {}: {why}", moment(*until, now_ms))
            }
            None => format!("finished attempt {attempt}{took}, {since}, and still has its slot"),
        },
        TrailStatus::ContactLost => {
            format!(
                "was running (attempt {}{fence}) when its runner lost contact: the outcome is being checked",
                entry.attempt
            )
        }
        TrailStatus::Succeeded => format!("succeeded {since}: attempt {attempt}{took}"),
        TrailStatus::Failed => format!("failed {since}: attempt {attempt}, {detail}{took}"),
        TrailStatus::Unknown => {
            format!("has been unknown since {since}: the outcome of attempt {attempt} is unknown ({detail})")
        }
        TrailStatus::RolledBack => {
            let why = entry.left.as_ref().map_or("", |(_, why)| why.as_str());
            format!("was rolled back {since}: {why}{had}")
        }
        TrailStatus::Skipped => {
            let (code, reason) = entry.left.clone().unwrap_or_default();
            format!("was skipped {since}: {reason} ({code})")
        }
        TrailStatus::NotAsked | TrailStatus::Waiting => String::new(),
    };
    if let Some(log) = ended.and_then(|ended| ended.log.as_ref()) {
        answer.more.push(format!("its output is in {log}"));
    }
    if let Some(forced) = &entry.forced {
        answer.more.push(format!("its slot was taken by force, {forced}"));
    }
    if let Some((until, _)) = &entry.keeping {
        answer.earliest = Some(Earliest { at: *until, why: "it releases its slot".to_owned() });
    }
    if entry.status == TrailStatus::Queueing {
        answer.position = entry.policy_answer.as_ref().map(|policy_answer| policy_answer.position);
        answer.more.push(
            "its position in the queue is not in the journal; `lockkeeper holders PATH` shows the length of the \
             queue"
                .to_owned(),
        );
    }
    if waits && let Some(closing) = &trail.closing {
        answer.more.push(format!("the run ended {} ({})", moment(closing.ended, now_ms), closing.end));
    }
}

fn slots_of(trail: &Trail) -> String {
    of(trail.header.limits.slots as usize, "slot")
}
