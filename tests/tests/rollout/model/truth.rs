//! What outlives a runner: the store, as the run state and lease tasks would have it, and what the commands really did.

use std::collections::{BTreeMap, VecDeque};

use lockkeeper::policy::types::Ending;
use lockkeeper::rollout::model::{CommandKind, LeaseRecord, RecordedStatus, TargetRecord};
use lockkeeper_coordination::store::{Fence, NodePath};

/// Something that is to be written about a target, in its order.
#[derive(Debug, Clone)]
pub(super) enum Write {
    Save(RecordedStatus),
    Start { command_kind: CommandKind, attempt: u32, fence: Fence, status: RecordedStatus },
}

/// A command that was really started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) attempt: u32,
    pub(super) command_kind: CommandKind,
    /// How it ended. `None` while it runs.
    pub(super) succeeded: Option<bool>,
}

/// The store and the targets.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) saved: Vec<TargetRecord>,
    /// The run's leases that exist.
    pub(super) leases: BTreeMap<usize, Fence>,
    /// What was ordered and is not written yet.
    pub(super) writes: Vec<VecDeque<Write>>,
    /// What was started on each target, the newest last.
    pub(super) commands: Vec<Vec<Command>>,
    /// Another runner has taken the run over: writes have no effect.
    pub(super) lost: bool,
    pub(super) fences: u64,
}

impl Ground {
    pub(super) fn new(total: usize) -> Self {
        Self {
            saved: vec![TargetRecord::default(); total],
            leases: BTreeMap::new(),
            writes: vec![VecDeque::new(); total],
            commands: vec![Vec::new(); total],
            lost: false,
            fences: 100,
        }
    }

    /// Creates a lease, and writes the target's status in the same transaction.
    pub(super) fn lease(&mut self, now: u64, target: usize, status: RecordedStatus) -> Fence {
        self.fences += 1;
        let fence = Fence::new(self.fences);
        assert!(self.leases.insert(target, fence).is_none(), "t{target} has two leases");
        let attempt = self.saved[target].attempt;
        let lease = Some(saved_lease(target, fence));
        self.saved[target] = TargetRecord { at: now, attempt, lease, status };
        fence
    }

    /// Does the next write about a target, if any waits. Returns the command that starts with it.
    pub(super) fn write(&mut self, now: u64, target: usize) -> Option<Command> {
        let write = self.writes[target].pop_front()?;
        if self.lost {
            return None;
        }
        let saved = &mut self.saved[target];
        saved.at = now;
        match write {
            Write::Save(status) => {
                saved.status = status;
                None
            }
            Write::Start { command_kind, attempt, fence, status } => {
                saved.status = status;
                saved.attempt = attempt;
                saved.lease = Some(saved_lease(target, fence));
                let command = Command { attempt, command_kind, succeeded: None };
                let last = self.commands[target].last().map_or(0, |command| command.attempt);
                assert!(attempt > last, "t{target} starts try {attempt} after try {last}");
                self.commands[target].push(command);
                Some(command)
            }
        }
    }

    /// Deletes the lease, and writes the target's status in the same transaction.
    pub(super) fn release(&mut self, now: u64, target: usize, status: &RecordedStatus) {
        assert!(self.writes[target].is_empty(), "t{target} is released before what was ordered before is written");
        if self.lost {
            return;
        }
        self.leases.remove(&target);
        let saved = &mut self.saved[target];
        saved.at = now;
        if *status != RecordedStatus::Running {
            saved.lease = None;
        }
        saved.status = status.clone();
    }

    /// How an attempt really ended. `None` if it never started, `Some(None)` while it runs.
    pub(super) fn truth(&self, target: usize, attempt: u32) -> Option<Option<bool>> {
        let command = self.commands[target].iter().find(|command| command.attempt == attempt)?;
        Some(command.succeeded)
    }

    pub(super) fn ends(&mut self, target: usize, attempt: u32, succeeded: bool) {
        let command = self.commands[target].iter_mut().find(|command| command.attempt == attempt);
        command.expect("only what was started ends").succeeded = Some(succeeded);
    }

    /// Whether the newest attempt of its action really succeeded.
    pub(super) fn did_succeed(&self, target: usize) -> bool {
        let mut newest =
            self.commands[target].iter().rev().filter(|command| command.command_kind == CommandKind::Action);
        newest.next().is_some_and(|command| command.succeeded == Some(true))
    }

    /// Whether a roll-back was started since its action ran last.
    pub(super) fn was_rolled_back(&self, target: usize) -> bool {
        self.commands[target].last().is_some_and(|command| command.command_kind == CommandKind::RollBack)
    }

    /// Commands that run.
    pub(super) fn running(&self) -> Vec<(usize, Command)> {
        let all = self.commands.iter().enumerate();
        let all = all.flat_map(|(target, commands)| commands.iter().map(move |command| (target, *command)));
        all.filter(|(_, command)| command.succeeded.is_none()).collect()
    }

    /// The next runner finds every lease by the target's record.
    pub(super) fn every_lease_is_named(&self) {
        for (target, fence) in &self.leases {
            let TargetRecord { lease, status, .. } = &self.saved[*target];
            let named = lease.as_ref().and_then(|lease| lease.fence);
            assert_eq!(named, Some(*fence), "t{target}'s lease is not named: {status:?}");
            let is_looked_for = matches!(
                status,
                RecordedStatus::Leased
                    | RecordedStatus::RollBackLeased { .. }
                    | RecordedStatus::Running
                    | RecordedStatus::ActionEnded { .. }
                    | RecordedStatus::RollBackEnded { .. }
                    | RecordedStatus::KeepingSlot { .. }
                    | RecordedStatus::Retrying { .. }
                    | RecordedStatus::RollingBack { .. }
            );
            assert!(is_looked_for, "t{target} is {status:?} with a lease that no runner looks for");
        }
    }
}

fn saved_lease(target: usize, fence: Fence) -> LeaseRecord {
    LeaseRecord { path: NodePath::parse(&format!("/s/leases/t{target}")).unwrap(), fence: Some(fence) }
}

/// Whether a command that ended so succeeded. `None` if the ending does not tell.
pub(super) fn truth_of(ending: Ending) -> Option<bool> {
    match ending {
        Ending::Succeeded => Some(true),
        Ending::Failed | Ending::TimedOut => Some(false),
        Ending::LeaseLost | Ending::Unknown => None,
    }
}
