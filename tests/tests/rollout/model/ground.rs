//! What outlives a runner: the store, as the engine's ledger and keepers would have it, and what the commands really did.

use std::collections::{BTreeMap, VecDeque};

use lockkeeper::policy::types::Ending;
use lockkeeper::rollout::Doing;
use lockkeeper::rollout::ledger::{Saved, SavedLease, Standing};
use lockkeeper::store::{Fence, NodePath};

/// Something that is to be written about a target, in its order.
#[derive(Debug, Clone)]
pub(super) enum Write {
    Save(Standing),
    Start { doing: Doing, attempt: u32, fence: Fence, standing: Standing },
}

/// A command that was really started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) attempt: u32,
    pub(super) doing: Doing,
    /// How it ended; none: it runs.
    pub(super) succeeded: Option<bool>,
}

/// The store and the targets.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) saved: Vec<Saved>,
    /// Our leases that are there.
    pub(super) leases: BTreeMap<usize, Fence>,
    /// What was ordered and is not written yet.
    pub(super) writes: Vec<VecDeque<Write>>,
    /// What was started on each target, the newest last.
    pub(super) commands: Vec<Vec<Command>>,
    /// Writes that nobody takes any more: the run is another's.
    pub(super) lost: bool,
    pub(super) fences: u64,
}

impl Ground {
    pub(super) fn new(total: usize) -> Self {
        Self {
            saved: vec![Saved::default(); total],
            leases: BTreeMap::new(),
            writes: vec![VecDeque::new(); total],
            commands: vec![Vec::new(); total],
            lost: false,
            fences: 100,
        }
    }

    /// A lease is made, and in the same transaction it is written down.
    pub(super) fn lease(&mut self, now: u64, target: usize, standing: Standing) -> Fence {
        self.fences += 1;
        let fence = Fence::new(self.fences);
        assert!(self.leases.insert(target, fence).is_none(), "t{target} has two leases");
        let attempt = self.saved[target].attempt;
        let lease = Some(saved_lease(target, fence));
        self.saved[target] = Saved { at: now, attempt, lease, standing };
        fence
    }

    /// The next write about a target, if any waits; gives what starts with it.
    pub(super) fn write(&mut self, now: u64, target: usize) -> Option<Command> {
        let write = self.writes[target].pop_front()?;
        if self.lost {
            return None;
        }
        let saved = &mut self.saved[target];
        saved.at = now;
        match write {
            Write::Save(standing) => {
                saved.standing = standing;
                None
            }
            Write::Start { doing, attempt, fence, standing } => {
                saved.standing = standing;
                saved.attempt = attempt;
                saved.lease = Some(saved_lease(target, fence));
                let command = Command { attempt, doing, succeeded: None };
                let last = self.commands[target].last().map_or(0, |command| command.attempt);
                assert!(attempt > last, "t{target} starts try {attempt} after try {last}");
                self.commands[target].push(command);
                Some(command)
            }
        }
    }

    /// Its lease goes, and in the same transaction it is written down where it stands.
    pub(super) fn release(&mut self, now: u64, target: usize, standing: &Standing) {
        assert!(self.writes[target].is_empty(), "t{target} is released before what was ordered before is written");
        if self.lost {
            return;
        }
        self.leases.remove(&target);
        let saved = &mut self.saved[target];
        saved.at = now;
        if *standing != Standing::Acting {
            saved.lease = None;
        }
        saved.standing = standing.clone();
    }

    /// What the probe says in truth: none, it never started; or how it ended, none as long as it runs.
    pub(super) fn truth(&self, target: usize, attempt: u32) -> Option<Option<bool>> {
        let command = self.commands[target].iter().find(|command| command.attempt == attempt)?;
        Some(command.succeeded)
    }

    pub(super) fn ends(&mut self, target: usize, attempt: u32, succeeded: bool) {
        let command = self.commands[target].iter_mut().find(|command| command.attempt == attempt);
        command.expect("only what was started ends").succeeded = Some(succeeded);
    }

    /// Whether its action's newest try did in truth succeed.
    pub(super) fn did_succeed(&self, target: usize) -> bool {
        let mut newest = self.commands[target].iter().rev().filter(|command| command.doing == Doing::Act);
        newest.next().is_some_and(|command| command.succeeded == Some(true))
    }

    /// Whether it was rolled back since its action ran last, whatever came of that.
    pub(super) fn was_rolled_back(&self, target: usize) -> bool {
        self.commands[target].last().is_some_and(|command| command.doing == Doing::Revert)
    }

    /// Commands that run.
    pub(super) fn running(&self) -> Vec<(usize, Command)> {
        let all = self.commands.iter().enumerate();
        let all = all.flat_map(|(target, commands)| commands.iter().map(move |command| (target, *command)));
        all.filter(|(_, command)| command.succeeded.is_none()).collect()
    }

    /// Whoever comes next finds every lease by the target's node.
    pub(super) fn every_lease_is_named(&self) {
        for (target, fence) in &self.leases {
            let Saved { lease, standing, .. } = &self.saved[*target];
            let named = lease.as_ref().and_then(|lease| lease.fence);
            assert_eq!(named, Some(*fence), "t{target}'s lease is not named: {standing:?}");
            let is_looked_for = matches!(
                standing,
                Standing::Leased
                    | Standing::Recalled { .. }
                    | Standing::Acting
                    | Standing::Ended { .. }
                    | Standing::RollBackEnded { .. }
                    | Standing::Kept { .. }
                    | Standing::Retrying { .. }
                    | Standing::Reverting { .. }
            );
            assert!(is_looked_for, "t{target} is {standing:?} with a lease that nobody looks for");
        }
    }
}

fn saved_lease(target: usize, fence: Fence) -> SavedLease {
    SavedLease { path: NodePath::parse(&format!("/s/leases/t{target}")).unwrap(), fence: Some(fence) }
}

/// How an ending is in truth, where it says so.
pub(super) fn truth_of(ending: Ending) -> Option<bool> {
    match ending {
        Ending::Succeeded => Some(true),
        Ending::Failed | Ending::TimedOut => Some(false),
        Ending::LeaseLost | Ending::Unknown => None,
    }
}
