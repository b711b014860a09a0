//! The claims: one identifier acts once among Lockkeeper's callers.
//!
//! All callers here have the same identifier, and a slot is always free for them: what the slots do to a caller is in
//! [`crate::slots`], and here a caller may stay in the queue for as long as it likes. So that the states are few, the
//! store has no past: a server that is behind answers with what was there some time ago, which is the same as an answer
//! that was given then to a caller that went on late, and every caller may go on late here. At any step the session of a
//! caller may end. Then everything ephemeral goes at once, and everything persistent stays.
//!
//! What the store holds for an identifier is
//!
//! - the leases, each under a name that is never used again; their order is that of their fences;
//! - the *claim*: a node whose name is the identifier and whose data names a lease. It is created in the transaction that
//!   creates this lease, so that of two callers that found nothing one is refused;
//! - the claim's *record*: a node whose name is the lease's. It is created and deleted in the same transactions as the
//!   claim. A transaction that deletes the record goes through only while the very claim is there that its caller saw. A
//!   claim's version does not do that: a claim that is deleted and created anew has version 0 again.
//!
//! The rules are
//!
//! 1. While there is a lease under its identifier, an exclusive caller waits outside the queue, and watches that lease and
//!    the claim.
//! 2. One transaction creates the lease, the claim and the record.
//! 3. A caller whose claim is refused reads the claim and then the lease that it names, in this order. A lease that is not
//!    there then has been there and will not be there again. If the claim is persistent, it is *dead*; if it is ephemeral,
//!    its owner still stops its command, and deletes it or ends with its session.
//! 4. The next transaction of a caller that saw a dead claim deletes that claim and its record before it creates its own.
//! 5. An exclusive caller reads the leases once more after the grant. If it finds one that is older than its own, of a tool
//!    that knows no claims, it releases its own.
//! 6. A claim is deleted only together with its record. A release deletes lease, record and claim; if the lease is gone
//!    already, record and claim; if these are gone already, the lease.
//! 7. A caller that breaks leases deletes their claim and creates its own in the same transaction.
//! 8. `unlock` reads the leases and then the claim, in this order. It deletes no lease that a run owns.

use std::fmt;

use crate::search::{Model, Stuck, fails, holds, mixtures};

/// What a caller does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A target of a run with a persistent lease: exclusive, outlives its session, and is recovered later.
    Run,
    /// `lock --one-per-identifier -- CMD`: exclusive, with an ephemeral lease.
    Command,
    /// `lock PATH`: a persistent lease that no process holds, until it is unlocked. Finds persistent leases of its
    /// identifier.
    ByHand,
    /// `lock PATH --force`: breaks the leases of this identifier.
    TakeOver,
    /// `unlock PATH`.
    Unlock,
    /// Deletes a dead claim.
    Sweep,
    /// Salt, with no claim: adopts a persistent lease of its identifier or creates one, and deletes it in the end.
    Salt,
    /// Deletes any lease and nothing else, as an operator does or a tool that knows no claims.
    Operator,
}

use Kind::{ByHand, Command, Operator, Run, Salt, Sweep, TakeOver, Unlock};

/// What Lockkeeper's callers do wrong in a search that must fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SyntaxError {
    /// Rule 1: a caller that waits watches the claim alone.
    WatchesClaimOnly,
    /// Rule 2: the claim is created in a request before the lease's.
    ClaimBefore,
    /// Rule 2: the claim is created in a request after the lease's.
    ClaimAfter,
    /// Rule 3: the leases are read before the claim.
    LeasesFirst,
    /// Rule 3: an ephemeral claim counts as dead, too.
    ReplacesEphemeral,
    /// Rule 4: a dead claim is replaced, whatever is there now.
    ReplacesUnchecked,
    /// Rule 4: a dead claim is deleted in the version that was seen, and a new one is created.
    ReplacesByVersion,
    /// Rule 4: a dead claim is set in the version that was seen.
    ReplacesBySetting,
    /// Rule 5: an exclusive caller acts as soon as it has its lease.
    NoLookBack,
    /// Rule 6: a release deletes the claim that is there, whatever became of the lease.
    ReleasesUnchecked,
    /// Rule 6: a dead claim is swept in the version that was seen.
    SweepsByVersion,
    /// Rule 7: a take-over leaves the claim as it is and makes none.
    BreaksUnclaimed,
    /// Rule 8: the claim is read before the leases.
    UnlocksClaimFirst,
}

const CALLERS: usize = 5;
/// How often an exclusive caller takes a lease; after that it has given up.
const ATTEMPTS: u8 = 2;

/// A lease's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Lease {
    owner: u8,
    attempt: u8,
}

/// Leases, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Leases([Option<Lease>; CALLERS]);

/// A claim with its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Claim {
    /// The lease that it names, after which its record is named.
    lease: Lease,
    is_ephemeral: bool,
    /// The version of its node.
    version: u8,
}

/// Where a caller stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Step {
    /// In the queue, or at its beginning; about to list the leases. Has seen that dead claim.
    Start {
        dead: Option<Claim>,
    },
    /// Outside the queue. Watches the claim and these leases.
    Waiting {
        claim: Option<Claim>,
        leases: Leases,
    },
    /// About to create its lease; a sweep: about to delete the dead claim.
    Granting {
        dead: Option<Claim>,
    },
    /// Was refused because of the claim, and reads it.
    ReadClaim,
    /// Has read the claim, and reads the lease that it names.
    ReadLease {
        claim: Claim,
    },
    /// `LeasesFirst`: has listed the leases, and reads the claim.
    ReadClaimLast {
        leases: Leases,
    },
    /// `ClaimBefore`: has its claim, wants its lease.
    Claimed,
    /// `ClaimAfter`: has its lease, wants its claim.
    Unclaimed,
    /// Has its lease, and looks back.
    Granted,
    Running,
    /// The process is gone and its nodes are there. Its command may still run.
    Crashed,
    /// `TakeOver` and `Unlock`: has listed the leases, and reads the claim.
    Listed {
        leases: Leases,
    },
    /// `UnlocksClaimFirst`: has read the claim, and lists the leases.
    ClaimKnown {
        claim: Option<Claim>,
    },
    /// `TakeOver`: has also read a claim that none of the leases has, and reads the lease that it names.
    Judging {
        leases: Leases,
        claim: Claim,
    },
    /// `TakeOver`: about to break the leases and to replace the claim.
    Breaking {
        leases: Leases,
        claim: Option<Claim>,
    },
    /// `Unlock`: about to delete those of the leases that no run owns by this claim.
    Unlocking {
        leases: Leases,
        claim: Option<Claim>,
    },
    /// `Salt`: has found no lease.
    Scanned,
    /// `Salt`: with the lease that it takes for its own.
    Adopted {
        lease: Lease,
    },
    Done,
}

/// The store and the callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct World {
    leases: Leases,
    claim: Option<Claim>,
    attempts: [u8; CALLERS],
    steps: [Step; CALLERS],
    /// Callers whose lease or claim a take-over has broken.
    forced: u8,
    /// Whether `unlock` has deleted a lease that a run owns.
    is_run_unlocked: bool,
}

/// What is searched.
#[derive(Debug, Clone)]
struct Search {
    kinds: Vec<Kind>,
    slip: Option<SyntaxError>,
    /// Whether sessions end.
    faults: bool,
}

impl Kind {
    fn is_ephemeral(self) -> bool {
        matches!(self, Command | TakeOver)
    }

    fn is_exclusive(self) -> bool {
        matches!(self, Run | Command)
    }
}

impl Leases {
    fn iter(self) -> impl Iterator<Item = Lease> {
        self.0.into_iter().flatten()
    }

    fn contains(self, lease: Lease) -> bool {
        self.iter().any(|other| other == lease)
    }

    fn oldest(self) -> Option<Lease> {
        self.iter().next()
    }

    fn add(&mut self, lease: Lease) {
        let free = self.0.iter_mut().find(|place| place.is_none());
        *free.expect("one lease a caller") = Some(lease);
    }

    fn retain(&mut self, keep: impl Fn(Lease) -> bool) {
        let mut rest = Self::default();
        self.iter().filter(|lease| keep(*lease)).for_each(|lease| rest.add(lease));
        *self = rest;
    }
}

impl World {
    /// The lease of `who`, whether it is there or not.
    fn own(&self, who: usize) -> Lease {
        Lease { owner: u8::try_from(who).expect("few callers"), attempt: self.attempts[who] }
    }

    fn step(mut self, who: usize, step: Step) -> Self {
        self.steps[who] = step;
        self
    }

    fn with_lease(mut self, lease: Lease) -> Self {
        self.leases.add(lease);
        self
    }

    fn without_lease(mut self, lease: Lease) -> Self {
        self.leases.retain(|other| other != lease);
        self
    }

    /// Deletes the lease, and the claim with its record if it names this lease.
    fn release(self, lease: Lease) -> Self {
        let claim = self.claim.filter(|claim| claim.lease != lease);
        Self { claim, ..self.without_lease(lease) }
    }

    /// Whether the very claim that was seen is there: its record is.
    fn has_record_of(&self, seen: Claim) -> bool {
        self.claim.is_some_and(|now| now.lease == seen.lease)
    }

    fn has_version_of(&self, seen: Claim) -> bool {
        self.claim.is_some_and(|now| now.version == seen.version)
    }

    fn watch(self, who: usize, leases: Leases) -> Self {
        self.step(who, Step::Waiting { claim: self.claim, leases })
    }
}

impl Search {
    fn new(kinds: &[Kind], faults: bool) -> Self {
        Self { kinds: kinds.to_vec(), slip: None, faults }
    }

    fn has(&self, slip: SyntaxError) -> bool {
        self.slip == Some(slip)
    }

    fn kind(&self, lease: Lease) -> Kind {
        self.kinds[usize::from(lease.owner)]
    }

    fn persistent(&self, mut leases: Leases) -> Leases {
        leases.retain(|lease| !self.kind(lease).is_ephemeral());
        leases
    }

    fn claim_of(&self, lease: Lease, version: u8) -> Claim {
        Claim { lease, is_ephemeral: self.kind(lease).is_ephemeral(), version }
    }

    /// An operator: deletes any lease, or none.
    fn operator(world: &World, who: usize, out: &mut Vec<World>) {
        if world.steps[who] != Step::Done {
            let done = world.step(who, Step::Done);
            out.extend(world.leases.iter().map(|lease| done.without_lease(lease)));
            out.push(done);
        }
    }

    /// What Salt does next.
    fn salt(&self, world: &World, who: usize) -> World {
        match world.steps[who] {
            Step::Start { .. } => match self.persistent(world.leases).oldest() {
                Some(lease) => world.step(who, Step::Adopted { lease }),
                None => world.step(who, Step::Scanned),
            },
            Step::Scanned => {
                let lease = world.own(who);
                world.with_lease(lease).step(who, Step::Adopted { lease })
            }
            Step::Adopted { lease } => world.without_lease(lease).step(who, Step::Done),
            _ => *world,
        }
    }

    /// What becomes of a caller of Lockkeeper's whose session ends or whose process dies.
    fn end(&self, world: &World, who: usize) -> World {
        let own = world.own(who);
        let holds = world.leases.contains(own) || world.claim.is_some_and(|claim| claim.lease == own);
        match (self.kinds[who].is_ephemeral(), holds) {
            (true, _) => world.release(own).step(who, Step::Done),
            (false, true) => world.step(who, Step::Crashed),
            (false, false) => world.step(who, Step::Done),
        }
    }

    /// What a caller of Lockkeeper's does next.
    fn lockkeeper(&self, world: &World, who: usize) -> World {
        let (kind, own) = (self.kinds[who], world.own(who));
        match world.steps[who] {
            Step::Start { dead } => self.list(world, who, dead),
            Step::Waiting { claim, leases } => {
                let is_gone = leases.iter().any(|lease| !world.leases.contains(lease));
                let is_told = world.claim != claim || is_gone && !self.has(SyntaxError::WatchesClaimOnly);
                if is_told { world.step(who, Step::Start { dead: None }) } else { *world }
            }
            Step::Granting { dead } if kind == Sweep => self.sweep(world, dead).step(who, Step::Done),
            Step::Granting { dead } => self.grant(world, who, dead),
            Step::ReadClaim if self.has(SyntaxError::LeasesFirst) => {
                world.step(who, Step::ReadClaimLast { leases: world.leases })
            }
            Step::ReadClaim => match world.claim {
                Some(claim) => world.step(who, Step::ReadLease { claim }),
                None if kind == Sweep => world.step(who, Step::Done),
                None => world.step(who, Step::Start { dead: None }),
            },
            Step::ReadLease { claim } => self.judge(world, who, claim, world.leases),
            Step::ReadClaimLast { leases } => match world.claim {
                Some(claim) => self.judge(world, who, claim, leases),
                None => world.step(who, Step::Start { dead: None }),
            },
            Step::Claimed => world.with_lease(own).step(who, self.granted(who)),
            Step::Unclaimed if world.claim.is_some() => world.without_lease(own).step(who, Step::ReadClaim),
            Step::Unclaimed => {
                let claim = Some(self.claim_of(own, 0));
                World { claim, ..world.step(who, self.granted(who)) }
            }
            Step::Granted => self.look_back(world, who),
            // Its lease was deleted, and no process is there to do anything about its claim.
            Step::Running if kind == ByHand && !world.leases.contains(own) => world.step(who, Step::Done),
            Step::Running | Step::Crashed => {
                let released = world.release(own).step(who, Step::Done);
                let claim = if self.has(SyntaxError::ReleasesUnchecked) { None } else { released.claim };
                World { claim, ..released }
            }
            Step::Listed { leases } if kind == Unlock => {
                world.step(who, Step::Unlocking { leases, claim: world.claim })
            }
            Step::Listed { leases } => match world.claim {
                Some(claim) if !leases.contains(claim.lease) => world.step(who, Step::Judging { leases, claim }),
                claim => world.step(who, Step::Breaking { leases, claim }),
            },
            Step::ClaimKnown { claim } => {
                let leases = self.persistent(world.leases);
                world.step(who, Step::Unlocking { leases, claim })
            }
            // Another caller has acquired since the leases were listed: the force is refused.
            Step::Judging { claim, .. } if world.leases.contains(claim.lease) => world.step(who, Step::Done),
            Step::Judging { leases, claim } => world.step(who, Step::Breaking { leases, claim: Some(claim) }),
            Step::Breaking { leases, claim } => self.take_over(world, who, leases, claim),
            Step::Unlocking { leases, claim } => self.unlock(world, leases, claim).step(who, Step::Done),
            Step::Scanned | Step::Adopted { .. } | Step::Done => *world,
        }
    }

    /// Lists the leases and goes on from there.
    fn list(&self, world: &World, who: usize, dead: Option<Claim>) -> World {
        let leases = world.leases;
        match self.kinds[who] {
            Sweep => world.step(who, Step::ReadClaim),
            Unlock if self.has(SyntaxError::UnlocksClaimFirst) => {
                world.step(who, Step::ClaimKnown { claim: world.claim })
            }
            Unlock => world.step(who, Step::Listed { leases: self.persistent(leases) }),
            TakeOver => world.step(who, Step::Listed { leases }),
            // "Already held since", or a run holds it.
            ByHand if self.persistent(leases).oldest().is_some() => world.step(who, Step::Done),
            ByHand => world.step(who, Step::Granting { dead }),
            _ if leases.oldest().is_some() => world.watch(who, leases),
            _ => world.step(who, Step::Granting { dead }),
        }
    }

    /// Judges a claim by the leases that were read.
    fn judge(&self, world: &World, who: usize, claim: Claim, leases: Leases) -> World {
        let is_gone = !leases.contains(claim.lease);
        let is_dead = is_gone && (!claim.is_ephemeral || self.has(SyntaxError::ReplacesEphemeral));
        match self.kinds[who] {
            Sweep if is_dead => world.step(who, Step::Granting { dead: Some(claim) }),
            Sweep => world.step(who, Step::Done),
            _ if is_dead => world.step(who, Step::Start { dead: Some(claim) }),
            _ => {
                let mut leases = Leases::default();
                if !is_gone {
                    leases.add(claim.lease);
                }
                world.step(who, Step::Waiting { claim: Some(claim), leases })
            }
        }
    }

    /// The transaction that deletes the queue entry and creates lease, claim and record.
    fn grant(&self, world: &World, who: usize, dead: Option<Claim>) -> World {
        let own = world.own(who);
        let passes = match (dead, self.slip) {
            (None, Some(SyntaxError::ClaimAfter)) => return world.with_lease(own).step(who, Step::Unclaimed),
            (None, _) => world.claim.is_none(),
            (Some(_), Some(SyntaxError::ReplacesUnchecked)) => true,
            (Some(dead), Some(SyntaxError::ReplacesByVersion | SyntaxError::ReplacesBySetting)) => {
                world.has_version_of(dead)
            }
            (Some(dead), _) => world.has_record_of(dead),
        };
        if !passes {
            return world.step(who, Step::ReadClaim);
        }
        let version = dead.filter(|_| self.has(SyntaxError::ReplacesBySetting)).map_or(0, |dead| dead.version + 1);
        let claimed = World { claim: Some(self.claim_of(own, version)), ..*world };
        if self.has(SyntaxError::ClaimBefore) {
            return claimed.step(who, Step::Claimed);
        }
        claimed.with_lease(own).step(who, self.granted(who))
    }

    /// Where a caller stands once it has its lease.
    fn granted(&self, who: usize) -> Step {
        let looks_back = self.kinds[who].is_exclusive() && !self.has(SyntaxError::NoLookBack);
        if looks_back { Step::Granted } else { Step::Running }
    }

    /// What a caller does with its lease once it has read the leases again.
    fn look_back(&self, world: &World, who: usize) -> World {
        let own = world.own(who);
        if !world.leases.contains(own) {
            return world.release(own).step(who, Step::Done);
        }
        if world.leases.oldest() == Some(own) {
            return world.step(who, Step::Running);
        }
        let mut next = world.release(own);
        next.attempts[who] += 1;
        let is_last = next.attempts[who] == ATTEMPTS;
        next.step(who, if is_last { Step::Done } else { Step::Start { dead: None } })
    }

    /// The transaction that marks and deletes these leases, deletes the claim that was seen, and creates lease and claim.
    fn take_over(&self, world: &World, who: usize, leases: Leases, claim: Option<Claim>) -> World {
        let own = world.own(who);
        if leases.iter().any(|lease| !world.leases.contains(lease)) {
            return world.step(who, Step::Done);
        }
        let mut next = world.step(who, Step::Running);
        next.leases.retain(|lease| !leases.contains(lease));
        next.leases.add(own);
        if self.has(SyntaxError::BreaksUnclaimed) {
            return next;
        }
        let is_as_seen = match claim {
            None => world.claim.is_none(),
            Some(claim) if self.has(SyntaxError::ReplacesByVersion) => world.has_version_of(claim),
            Some(claim) => world.has_record_of(claim),
        };
        if !is_as_seen {
            return world.step(who, Step::Start { dead: None });
        }
        for lease in leases.iter().chain(claim.map(|claim| claim.lease)) {
            next.forced |= 1 << lease.owner;
        }
        next.claim = Some(self.claim_of(own, 0));
        next
    }

    /// The transactions that delete the leases that no run owns, each with its claim.
    fn unlock(&self, world: &World, leases: Leases, claim: Option<Claim>) -> World {
        let is_a_runs = |lease: Lease| self.kind(lease) == Run;
        let is_owned = |lease: Lease| is_a_runs(lease) && claim.is_some_and(|claim| claim.lease == lease);
        let mut next = *world;
        for lease in leases.iter().filter(|lease| world.leases.contains(*lease) && !is_owned(*lease)) {
            next.is_run_unlocked |= is_a_runs(lease);
            next = if claim.is_some_and(|claim| claim.lease == lease) {
                next.release(lease)
            } else {
                next.without_lease(lease)
            };
        }
        next
    }

    /// The transaction that deletes a dead claim and its record.
    fn sweep(&self, world: &World, dead: Option<Claim>) -> World {
        let goes = |dead| {
            if self.has(SyntaxError::SweepsByVersion) { world.has_version_of(dead) } else { world.has_record_of(dead) }
        };
        let claim = world.claim.filter(|_| !dead.is_some_and(goes));
        World { claim, ..*world }
    }

    /// Whether the caller may be acting under a claim. A caller with an ephemeral lease acts until it has stopped its command,
    /// whatever became of the lease; a persistent one as long as its lease or its claim is there.
    fn acts(&self, world: &World, who: usize) -> bool {
        let own = world.own(who);
        let is_kept = world.leases.contains(own) || world.claim.is_some_and(|claim| claim.lease == own);
        let is_forced = world.forced & (1 << who) != 0;
        match (self.kinds[who], world.steps[who]) {
            (Command | TakeOver, Step::Running) => !is_forced,
            (Run | ByHand, Step::Running | Step::Crashed) => is_kept,
            _ => false,
        }
    }
}

impl Model for Search {
    type State = World;

    fn start(&self) -> World {
        let mut steps = [Step::Done; CALLERS];
        steps[..self.kinds.len()].fill(Step::Start { dead: None });
        let leases = Leases::default();
        World { leases, claim: None, attempts: [0; CALLERS], steps, forced: 0, is_run_unlocked: false }
    }

    fn next(&self, world: &World, out: &mut Vec<World>) {
        for (who, kind) in self.kinds.iter().enumerate() {
            let step = world.steps[who];
            match kind {
                Operator => Self::operator(world, who, out),
                Salt => out.push(self.salt(world, who)),
                Run | Command | ByHand | TakeOver | Unlock | Sweep => {
                    if self.faults && !matches!(step, Step::Start { dead: None } | Step::Crashed | Step::Done) {
                        out.push(self.end(world, who));
                    }
                    out.push(self.lockkeeper(world, who));
                }
            }
        }
    }

    fn broken(&self, world: &World) -> Option<&'static str> {
        let callers = 0..self.kinds.len();
        if callers.clone().filter(|who| self.acts(world, *who)).count() > 1 {
            return Some("two of Lockkeeper's callers act under one identifier");
        }
        let is_beside_older = |who: usize| {
            let own = world.own(who);
            world.steps[who] == Step::Running && world.leases.contains(own) && world.leases.oldest() != Some(own)
        };
        if callers.clone().any(|who| self.kinds[who].is_exclusive() && is_beside_older(who)) {
            return Some("an exclusive caller acts beside an older lease of its identifier");
        }
        world.is_run_unlocked.then_some("a lease that a run owns is unlocked")
    }

    fn is_finished(&self, world: &World) -> bool {
        world.steps.iter().all(|step| *step == Step::Done)
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |lease: Lease| format!("{}.{}", lease.owner, lease.attempt);
        let leases: Vec<String> = self.leases.iter().map(name).collect();
        let claim = self.claim.map_or_else(|| String::from("-"), |claim| name(claim.lease));
        write!(f, "leases {leases:?} claim {claim} {:?}", self.steps)
    }
}

#[test]
fn one_identifier_runs_once() {
    let mut states = 0;
    for ours in mixtures(&[Run, Command, ByHand, TakeOver, Unlock, Sweep], 3) {
        for theirs in [[Salt, Operator], [Operator, Operator]] {
            states += holds(&Search::new(&[&ours[..], &theirs].concat(), true), Stuck::Fails);
        }
    }
    println!("{states} states with faults");
}

#[test]
fn no_caller_waits_for_ever_behind_a_claim() {
    let mut states = 0;
    for ours in mixtures(&[Run, Command, ByHand, TakeOver], 4) {
        states += holds(&Search::new(&[&ours[..], &[Operator]].concat(), false), Stuck::Fails);
    }
    println!("{states} states without faults");
}

#[test]
fn each_known_slip_with_claims_is_found() {
    for (slip, kinds) in [
        (SyntaxError::WatchesClaimOnly, vec![ByHand, Command, Salt]),
        (SyntaxError::ClaimBefore, vec![Run, ByHand]),
        (SyntaxError::ClaimAfter, vec![Command, ByHand]),
        (SyntaxError::LeasesFirst, vec![Run, ByHand, Sweep]),
        (SyntaxError::ReplacesEphemeral, vec![Command, Command, Operator]),
        (SyntaxError::ReplacesUnchecked, vec![Run, Command, ByHand, Operator]),
        (SyntaxError::ReplacesByVersion, vec![Run, Command, ByHand, Operator]),
        (SyntaxError::ReplacesBySetting, vec![Run, Command, Command, ByHand, Operator]),
        (SyntaxError::NoLookBack, vec![Run, Salt]),
        (SyntaxError::ReleasesUnchecked, vec![Run, Command, ByHand, Operator]),
        (SyntaxError::SweepsByVersion, vec![Run, Command, ByHand, Sweep, Operator]),
        (SyntaxError::BreaksUnclaimed, vec![Command, ByHand, TakeOver]),
        (SyntaxError::UnlocksClaimFirst, vec![Run, Unlock]),
    ] {
        let faults = slip != SyntaxError::WatchesClaimOnly;
        let search = Search { slip: Some(slip), ..Search::new(&kinds, faults) };
        println!("{}", fails(&format!("{slip:?}"), &search, Stuck::Fails));
    }
}
