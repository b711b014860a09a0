//! A made-up world in which an orchestration is played: semaphores, parties, targets, and a clock that only goes while
//! somebody waits. It answers as the host does, in the host's JSON.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::{Call, NOON};

/// What there is, and what will happen to it. Times are in milliseconds since [`NOON`], when it begins.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fleet {
    /// The job's targets, in the plan's order.
    pub targets: Vec<Target>,
    /// The semaphores that the job lists.
    pub semaphores: BTreeMap<String, Semaphore>,
    /// The parties that it lists: who is there when.
    pub parties: BTreeMap<String, Vec<Member>>,
    /// How many targets may act at once; none: all.
    pub slots: Option<u32>,
    /// Whether the job lets it force.
    pub may_force: bool,
    /// What is answered otherwise: the first whose words a call begins with, and each once.
    pub answers: Vec<Scripted>,
    now: u64,
    /// When the call began that is answered.
    since: u64,
    fences: u64,
    /// Semaphores of which the guest has a lease in hand.
    claimed: BTreeSet<String>,
    /// Targets that the guest has let go since it began.
    started: BTreeSet<String>,
    /// Whether what is called next may have been carried out before.
    again: bool,
    /// Targets that were rolled back before what is answered now was called first.
    undone: BTreeSet<usize>,
}

/// A target.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// How long its action takes.
    pub takes: u64,
    /// How that ends: the contract's word.
    pub ends: String,
    /// How its roll-back ends, which takes as long; none: the job has none.
    pub roll_back: Option<String>,
    /// From when on the job's policy lets it go; none: never.
    pub admitted: Option<u64>,
    stands: Stands,
}

#[derive(Debug, Clone, PartialEq)]
enum Stands {
    Open,
    Acts { since: u64 },
    Over,
    Undone,
    Skipped,
}

impl Target {
    /// One whose action succeeds in ten seconds, and that may always go.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            labels: BTreeMap::new(),
            takes: 10_000,
            ends: "succeeded".to_owned(),
            roll_back: Some("succeeded".to_owned()),
            admitted: Some(0),
            stands: Stands::Open,
        }
    }
}

/// A semaphore.
#[derive(Debug, Clone, PartialEq)]
pub struct Semaphore {
    /// How many leases may be held at once.
    pub slots: u32,
    /// Who else holds one, and until when; none: for ever.
    pub others: Vec<(String, Option<u64>)>,
    /// When the guest's lease is broken.
    pub lost: Option<u64>,
    /// The guest's own: fence and since when.
    own: Option<(u64, u64)>,
    /// Leases of others that were broken, by their place.
    broken: BTreeSet<usize>,
}

impl Default for Semaphore {
    fn default() -> Self {
        Self { slots: 1, others: Vec::new(), lost: None, own: None, broken: BTreeSet::new() }
    }
}

/// A member of a party.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub identifier: String,
    /// From when on.
    pub joins: u64,
    /// Until when; none: for good.
    pub leaves: Option<u64>,
}

/// An answer that the world would not give.
#[derive(Debug, Clone, PartialEq)]
pub struct Scripted {
    /// How the call begins, in its words.
    pub to: String,
    /// The host's answer: `{ "answer": …, "is": … }`.
    pub answer: Value,
    /// How long that takes.
    pub after: u64,
}

/// How waiting ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Waited {
    /// It is so.
    Ready,
    /// The time ran out first.
    TimedOut,
    /// It never will be.
    Never,
    /// A lease in hand was lost first: of that semaphore.
    Lost(String),
}

impl Fleet {
    /// What time it is, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn now(&self) -> u64 {
        NOON + self.now
    }

    /// The targets, as the guest is given them.
    #[must_use]
    pub fn targets_json(&self) -> Value {
        let target = |target: &Target| {
            let labels: Vec<Value> =
                target.labels.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
            json!({ "name": target.name, "labels": labels, "wave": "", "attempt": 1, "waiting-since": NOON })
        };
        self.targets.iter().map(target).collect()
    }

    /// The semaphores of which the run holds a lease.
    #[must_use]
    pub fn held(&self) -> Vec<String> {
        let held = self.semaphores.iter().filter(|(_, semaphore)| self.own(semaphore).is_some());
        held.map(|(path, _)| path.clone()).collect()
    }

    /// The guest is run again: it has nothing in hand but what it is answered to have.
    pub(super) fn begin_again(&mut self) {
        (self.claimed, self.started, self.again) = (BTreeSet::new(), BTreeSet::new(), true);
    }

    /// What an answer that was given before means for those that follow.
    pub(super) fn remember(&mut self, call: &Call, answer: &Value) {
        match (call, answer["answer"].as_str()) {
            (Call::Lock { path, .. } | Call::TryLock { path } | Call::Force { path, .. }, Some("held")) => {
                self.claimed.insert(path.clone());
            }
            (Call::Start { target, .. }, Some("done")) => {
                self.started.insert(target.clone());
            }
            (Call::Release { path }, _) => {
                self.claimed.remove(path);
            }
            (Call::RecoveredLeases, _) => {
                let found = answer["is"].as_array().into_iter().flatten();
                self.claimed.extend(found.filter_map(|lease| lease[0].as_str().map(str::to_owned)));
            }
            _ => {}
        }
    }

    /// The answer to a call, in the host's JSON; none: nobody will ever answer it.
    /// A call that was cut off began earlier, and so its time runs out earlier.
    pub(super) fn answer(&mut self, call: &Call, since: u64) -> Option<Value> {
        let words = call.to_string();
        self.since = since.saturating_sub(NOON);
        if !self.again {
            let undone = |which: &usize| self.targets[*which].stands == Stands::Undone;
            self.undone = (0..self.targets.len()).filter(undone).collect();
        }
        if let Some(which) = self.answers.iter().position(|scripted| words.starts_with(&scripted.to)) {
            let scripted = self.answers.remove(which);
            self.now = self.now.max(self.since + scripted.after);
            return Some(scripted.answer);
        }
        let lost = self.is_under_leases(call).then(|| self.lost()).flatten();
        let answer = lost.map_or_else(|| self.carry_out(call), |path| Some(lease_lost(&path)));
        self.again = false;
        answer
    }

    /// Whether a call waits, or lets a target go: not while a lease in hand is gone.
    fn is_under_leases(&self, call: &Call) -> bool {
        match call {
            Call::Start { target, .. } => {
                self.target(target).is_some_and(|which| self.targets[which].stands == Stands::Open)
            }
            Call::RollBack { target, .. } => {
                self.target(target).is_some_and(|which| self.targets[which].stands == Stands::Over)
            }
            call => call.waits(),
        }
    }

    /// A semaphore of which the guest has a lease in hand that is gone.
    fn lost(&self) -> Option<String> {
        let is_gone = |path: &&String| self.semaphores.get(*path).is_none_or(|semaphore| self.own(semaphore).is_none());
        self.claimed.iter().find(is_gone).cloned()
    }

    fn carry_out(&mut self, call: &Call) -> Option<Value> {
        Some(match call {
            Call::Lock { path, timeout } => return self.lock(path, *timeout),
            Call::TryLock { path } => match self.lock(path, Some(0))? {
                fault if fault["is"] == "timed-out" => json!({ "answer": "not-free" }),
                answer => answer,
            },
            Call::Force { path, breaking, .. } => self.force(path, breaking),
            Call::Release { path } => match self.semaphores.get_mut(path) {
                Some(semaphore) => {
                    semaphore.own = None;
                    done()
                }
                None => not_listed("semaphores", path),
            },
            Call::StillHeld { path } => match self.semaphores.get(path) {
                Some(semaphore) => json!({ "answer": "flag", "is": self.own(semaphore).is_some() }),
                None => not_listed("semaphores", path),
            },
            Call::RecoveredLeases => {
                let found = self.semaphores.iter().filter(|(path, _)| !self.claimed.contains(*path));
                let found = found.filter_map(|(path, semaphore)| Some(json!([path, self.own(semaphore)?.0])));
                json!({ "answer": "leases", "is": found.collect::<Value>() })
            }
            Call::Holders { path } => match self.semaphores.get(path) {
                Some(semaphore) => json!({ "answer": "semaphore", "is": self.semaphore_json(path, semaphore) }),
                None => not_listed("semaphores", path),
            },
            Call::Members { path } => self.party(path),
            Call::WaitMembers { path, at_least, timeout } => {
                if !self.parties.contains_key(path) {
                    return Some(not_listed("parties", path));
                }
                match self.wait(*timeout, |world| world.there(path) >= *at_least as usize) {
                    Waited::Ready => self.party(path),
                    Waited::TimedOut => timed_out(),
                    Waited::Lost(path) => lease_lost(&path),
                    Waited::Never => return None,
                }
            }
            Call::StatusOf { target } => match self.target(target) {
                Some(which) => json!({ "answer": "status", "is": self.status(which).0 }),
                None => no_target(target),
            },
            Call::Admit { target } => match self.target(target) {
                Some(which) if self.targets[which].stands == Stands::Open => self.advice(which),
                Some(which) => self.already(which),
                None => no_target(target),
            },
            Call::Start { target, timeout } => return self.start(target, *timeout),
            Call::WaitAny { among, timeout } => return self.wait_any(among, *timeout),
            Call::RollBack { target, timeout, .. } => return self.roll_back(target, *timeout),
            Call::Skip { target, .. } => match self.target(target) {
                Some(which) => match self.targets[which].stands {
                    Stands::Open => {
                        self.targets[which].stands = Stands::Skipped;
                        done()
                    }
                    Stands::Skipped if self.again => done(),
                    _ => self.already(which),
                },
                None => no_target(target),
            },
            Call::Sleep { duration } => match self.wait(Some(*duration), |_| false) {
                Waited::Lost(path) => lease_lost(&path),
                _ => done(),
            },
            // One that is written is not asked about here.
            Call::Checkpoint { .. } => refused("nothing was called since the last checkpoint".to_owned()),
        })
    }

    // ------------------------------------------------------------------ leases

    fn own(&self, semaphore: &Semaphore) -> Option<(u64, u64)> {
        semaphore.own.filter(|(_, since)| semaphore.lost.is_none_or(|lost| self.now < lost || *since >= lost))
    }

    /// The leases of others, by their places.
    fn others<'a>(&self, semaphore: &'a Semaphore) -> impl Iterator<Item = (usize, &'a str)> {
        let now = self.now;
        let others = semaphore.others.iter().enumerate();
        others.filter_map(move |(place, (who, until))| {
            let is_held = until.is_none_or(|until| until > now) && !semaphore.broken.contains(&place);
            is_held.then_some((place, who.as_str()))
        })
    }

    fn lock(&mut self, path: &str, timeout: Option<u64>) -> Option<Value> {
        let Some(semaphore) = self.semaphores.get(path) else { return Some(not_listed("semaphores", path)) };
        if self.claimed.contains(path) {
            return Some(in_hand(path));
        }
        if let Some((fence, _)) = self.own(semaphore) {
            return Some(held(fence));
        }
        let is_free = |world: &Self| {
            let semaphore = &world.semaphores[path];
            world.others(semaphore).count() < semaphore.slots as usize
        };
        match self.wait(timeout, is_free) {
            Waited::Ready => Some(self.take(path)),
            Waited::TimedOut => Some(timed_out()),
            Waited::Lost(path) => Some(lease_lost(&path)),
            Waited::Never => None,
        }
    }

    fn take(&mut self, path: &str) -> Value {
        self.fences += 1;
        // Above those of others, which are counted from 1 by their places.
        let (fence, now) = (100 + self.fences, self.now);
        if let Some(semaphore) = self.semaphores.get_mut(path) {
            semaphore.own = Some((fence, now));
        }
        held(fence)
    }

    fn force(&mut self, path: &str, breaking: &[u64]) -> Value {
        let Some(semaphore) = self.semaphores.get(path) else { return not_listed("semaphores", path) };
        if !self.may_force {
            return refused("the job's `orchestration.grants` do not list `force`".to_owned());
        }
        if self.claimed.contains(path) {
            return in_hand(path);
        }
        if let Some((fence, _)) = self.own(semaphore) {
            return held(fence);
        }
        let held: BTreeMap<u64, usize> = self.others(semaphore).map(|(place, _)| (place as u64 + 1, place)).collect();
        let places: Option<Vec<usize>> = breaking.iter().map(|fence| held.get(fence).copied()).collect();
        let Some(places) = places else {
            return json!({ "answer": "error", "is": { "conflict": "a lease to break is not there" } });
        };
        if let Some(semaphore) = self.semaphores.get_mut(path) {
            semaphore.broken.extend(places);
        }
        self.take(path)
    }

    fn semaphore_json(&self, path: &str, semaphore: &Semaphore) -> Value {
        let lease = |identifier: &str, fence: u64, since: u64, mine: bool| {
            json!({
                "identifier": identifier, "fence": fence, "since": since, "ephemeral": false, "alive": null, "mine": mine,
            })
        };
        let others = self.others(semaphore).map(|(place, who)| lease(who, place as u64 + 1, NOON - 60_000, false));
        let own = self.own(semaphore).map(|(fence, since)| lease("run-1", fence, NOON + since, true));
        json!({
            "path": path, "slots": semaphore.slots, "leases": others.chain(own).collect::<Value>(), "queued": 0,
        })
    }

    // ------------------------------------------------------------------ parties

    /// Those who are there, each identifier once: who comes back before it has left is there since it came back.
    fn members(&self, path: &str) -> BTreeMap<&str, u64> {
        let now = self.now;
        let is_there = |member: &&Member| member.joins <= now && member.leaves.is_none_or(|leaves| leaves > now);
        let mut members = BTreeMap::new();
        for member in self.parties.get(path).into_iter().flatten().filter(is_there) {
            let joined = members.entry(member.identifier.as_str()).or_insert(member.joins);
            *joined = member.joins.max(*joined);
        }
        members
    }

    fn there(&self, path: &str) -> usize {
        self.members(path).len()
    }

    fn party(&self, path: &str) -> Value {
        if !self.parties.contains_key(path) {
            return not_listed("parties", path);
        }
        let member = |(identifier, joined)| json!({ "identifier": identifier, "since": NOON + joined });
        let members: Vec<Value> = self.members(path).into_iter().map(member).collect();
        json!({ "answer": "party", "is": { "path": path, "min-members": 0, "members": members } })
    }

    // ------------------------------------------------------------------ targets

    fn target(&self, name: &str) -> Option<usize> {
        self.targets.iter().position(|target| target.name == name)
    }

    /// The contract's word, and the one for people.
    fn status(&self, which: usize) -> (&'static str, &'static str) {
        let target = &self.targets[which];
        let ends = match (&target.stands, &target.roll_back) {
            (Stands::Undone, Some(ends)) => ends,
            _ => &target.ends,
        };
        match (&target.stands, ends.as_str()) {
            (Stands::Open, _) => ("open", "open"),
            (Stands::Acts { .. }, _) => ("running", "running"),
            (Stands::Skipped, _) => ("skipped", "left out"),
            (Stands::Over, "succeeded") => ("succeeded", "succeeded"),
            (Stands::Undone, "succeeded") => ("rolled-back", "rolled back"),
            (Stands::Over | Stands::Undone, "unknown") => ("unknown", "unknown"),
            (Stands::Over | Stands::Undone, _) => ("failed", "failed"),
        }
    }

    fn already(&self, which: usize) -> Value {
        refused(format!("`{}` is {} already", self.targets[which].name, self.status(which).1))
    }

    fn is_admitted(&self, which: usize) -> bool {
        self.targets[which].admitted.is_some_and(|from| from <= self.now)
    }

    fn advice(&self, which: usize) -> Value {
        let (verdict, code, reason) = match self.is_admitted(which) {
            true => ("lock", "slot-wanted", "it may go"),
            false => ("wait", "not-yet", "it may not go yet"),
        };
        let wake = self.targets[which].admitted.filter(|from| *from > self.now).map(|from| from - self.now);
        let advice = json!({ "verdict": verdict, "code": code, "reason": reason, "wake-after": wake });
        json!({ "answer": "advice", "is": advice })
    }

    fn start(&mut self, name: &str, timeout: Option<u64>) -> Option<Value> {
        let Some(which) = self.target(name) else { return Some(no_target(name)) };
        match self.targets[which].stands {
            Stands::Open => {}
            Stands::Acts { .. } => return Some(done()),
            Stands::Over | Stands::Undone if self.again && !self.started.contains(name) => return Some(done()),
            _ => return Some(self.already(which)),
        }
        match self.wait(timeout, |world| world.has_room() && world.is_admitted(which)) {
            Waited::Ready => {
                self.targets[which].stands = Stands::Acts { since: self.now };
                Some(done())
            }
            Waited::TimedOut => Some(timed_out()),
            Waited::Lost(path) => Some(lease_lost(&path)),
            Waited::Never => None,
        }
    }

    /// Whether one more may act.
    fn has_room(&self) -> bool {
        let running = self.targets.iter().filter(|target| matches!(target.stands, Stands::Acts { .. })).count();
        self.slots.is_none_or(|slots| running < slots as usize)
    }

    fn roll_back(&mut self, name: &str, timeout: Option<u64>) -> Option<Value> {
        let Some(which) = self.target(name) else { return Some(no_target(name)) };
        let Some(ends) = self.targets[which].roll_back.clone() else {
            return Some(refused("the job has no `action.roll-back`".to_owned()));
        };
        match self.targets[which].stands {
            Stands::Over => match self.wait(timeout, Self::has_room) {
                Waited::Ready => {
                    self.now = self.now.saturating_add(self.targets[which].takes);
                    self.targets[which].stands = Stands::Undone;
                    self.end_actions();
                }
                Waited::TimedOut => return Some(timed_out()),
                Waited::Lost(path) => return Some(lease_lost(&path)),
                Waited::Never => return None,
            },
            Stands::Undone if self.again && !self.undone.contains(&which) => {}
            _ => return Some(self.cannot_be_undone(which)),
        }
        Some(self.ended(which, &ends))
    }

    fn cannot_be_undone(&self, which: usize) -> Value {
        refused(format!("`{}` is {}: there is nothing to roll back", self.targets[which].name, self.status(which).1))
    }

    /// How something on a target ended.
    fn ended(&self, which: usize, ends: &str) -> Value {
        let target = &self.targets[which];
        let (ending, exit_code) = match (&target.stands, ends) {
            (Stands::Skipped, _) => ("failed", Value::Null),
            (_, "succeeded") => ("succeeded", 0.into()),
            (_, "failed") => ("failed", 1.into()),
            (_, other) => (other, Value::Null),
        };
        let attempt = if target.stands == Stands::Undone { 2 } else { 1 };
        let outcome = json!({ "ending": ending, "exit-code": exit_code, "took": target.takes, "attempt": attempt });
        json!({ "answer": "ended", "is": [target.name, outcome] })
    }

    fn wait_any(&mut self, among: &[String], timeout: Option<u64>) -> Option<Value> {
        let mut places = Vec::with_capacity(among.len());
        for name in among {
            match self.target(name) {
                Some(which) => places.push(which),
                None => return Some(no_target(name)),
            }
        }
        let over = |world: &Self| {
            let is_over =
                |which: &usize| matches!(world.targets[*which].stands, Stands::Over | Stands::Undone | Stands::Skipped);
            places.iter().copied().find(is_over)
        };
        match self.wait(timeout, |world| over(world).is_some()) {
            Waited::Ready => {
                let which = over(self)?;
                let target = &self.targets[which];
                // One that was undone did not come to what was wanted.
                let ends = if target.stands == Stands::Undone { "failed" } else { &target.ends };
                Some(self.ended(which, ends))
            }
            Waited::TimedOut => Some(json!({ "answer": "ended", "is": null })),
            Waited::Lost(path) => Some(lease_lost(&path)),
            Waited::Never => None,
        }
    }

    // ------------------------------------------------------------------ time

    /// Lets time pass until something is so.
    fn wait(&mut self, timeout: Option<u64>, is_so: impl Fn(&Self) -> bool) -> Waited {
        let deadline = timeout.map(|timeout| self.since.saturating_add(timeout));
        loop {
            self.end_actions();
            if let Some(path) = self.lost() {
                return Waited::Lost(path);
            }
            if is_so(self) {
                return Waited::Ready;
            }
            match (self.next_change(), deadline) {
                (Some(next), deadline) if deadline.is_none_or(|deadline| next <= deadline) => self.now = next,
                (_, Some(deadline)) => {
                    self.now = self.now.max(deadline);
                    self.end_actions();
                    return Waited::TimedOut;
                }
                (_, None) => return Waited::Never,
            }
        }
    }

    fn end_actions(&mut self) {
        for target in &mut self.targets {
            if let Stands::Acts { since } = target.stands
                && since.saturating_add(target.takes) <= self.now
            {
                target.stands = Stands::Over;
            }
        }
    }

    /// When something is different next.
    fn next_change(&self) -> Option<u64> {
        let leases = self.semaphores.values().flat_map(|semaphore| {
            let others = semaphore.others.iter().filter_map(|(_, until)| *until);
            others.chain(semaphore.lost)
        });
        let members =
            self.parties.values().flatten().flat_map(|member| member.leaves.into_iter().chain([member.joins]));
        let targets = self.targets.iter().flat_map(|target| {
            let ends = match target.stands {
                Stands::Acts { since } => Some(since.saturating_add(target.takes)),
                _ => None,
            };
            ends.into_iter().chain(target.admitted)
        });
        leases.chain(members).chain(targets).filter(|at| *at > self.now).min()
    }
}

fn done() -> Value {
    json!({ "answer": "done" })
}

fn held(fence: u64) -> Value {
    json!({ "answer": "held", "is": fence })
}

fn timed_out() -> Value {
    json!({ "answer": "error", "is": "timed-out" })
}

fn lease_lost(path: &str) -> Value {
    json!({ "answer": "error", "is": { "lease-lost": path } })
}

fn refused(why: String) -> Value {
    json!({ "answer": "error", "is": { "refused": why } })
}

fn in_hand(path: &str) -> Value {
    refused(format!("the run holds a slot of `{path}` already"))
}

fn not_listed(key: &str, path: &str) -> Value {
    refused(format!("the job's `orchestration.{key}` do not list `{path}`"))
}

fn no_target(name: &str) -> Value {
    refused(format!("the job has no target `{name}`"))
}
