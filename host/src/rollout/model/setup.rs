//! What a rollout is made from.

use std::time::Duration;

use crate::job::{MemberTemplate, ObserveSpec, OnExhausted, OnFault, OnUnknown, PartyCounts, Target};
use crate::rollout::model::{EpochMs, HardLimits, RunId, TargetRecord, Wave};
use lockkeeper_coordination::store::Lifetime;

/// Everything that the machine knows of its job and plan, and what an earlier runner left.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The job's name.
    pub job: String,
    /// The run's name.
    pub run: RunId,
    /// When the run started, whichever runner started it.
    pub started: EpochMs,
    /// The seed from which the seed of every decision is derived.
    pub seed: u64,
    /// The targets in the plan's order, in which their policy decides about them.
    pub targets: Vec<Target>,
    /// The job's hard limits.
    pub limits: HardLimits,
    /// The longest that an action may take. `None` if the job sets no limit.
    pub action_timeout: Option<Duration>,
    /// The semaphore's path.
    pub semaphore: String,
    /// Whether the run's leases end with its session.
    pub lifetime: Lifetime,
    /// The longest that a target waits for its slot. `None` if it waits forever.
    pub patience: Option<Duration>,
    /// The party whose members the floor counts. `None` if the job names none.
    pub party: Option<Floor>,
    /// The most attempts of one target.
    pub attempts: u32,
    /// The pause before a target's second attempt, under its slot; doubled before each later one.
    pub back_off: Duration,
    /// What a policy fault does to the run.
    pub on_fault: OnFault,
    /// The waves in their order; together they contain every target. Empty if the job has no waves.
    pub waves: Vec<Wave>,
    /// Whether the job has a probe, which reports how an action ended.
    pub has_probe: bool,
    /// Whether the job has a command that rolls a target back.
    pub can_roll_back: bool,
    /// Whether the job has a probe that reports how a roll-back ended.
    pub has_roll_back_probe: bool,
    /// What becomes of a target whose outcome is unknown even to the probe.
    pub on_unknown: OnUnknown,
    /// What an exhausted failure budget does to the run.
    pub on_exhausted: OnExhausted,
    /// Further semaphores and parties that the policy sees.
    pub observe: Vec<ObserveSpec>,
    /// Whether an orchestration decides which targets may start at all.
    pub has_orchestration: bool,
    /// What an earlier runner left. `None` if this runner starts the run.
    pub resumed: Option<Resumed>,
}

/// What an earlier runner of the same run left in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resumed {
    /// Each target's record, in the order of [`Setup::targets`].
    pub targets: Vec<TargetRecord>,
    /// The policy's memory.
    pub memory: Vec<u8>,
    /// The number of the next decision.
    pub sequence: u64,
}

/// The party of a job, and what to do while it is below its floor.
#[derive(Debug, Clone)]
pub struct Floor {
    /// The party's path.
    pub path: String,
    /// Whether the run waits for members if there are too few at the start. If not, the run ends.
    pub blocking: bool,
    /// How long the floor alone may block the run before the run ends. `None` if forever.
    pub patience: Option<Duration>,
    /// The name under which each target is a member.
    pub member: MemberTemplate,
    /// Whether the floor counts the targets or other machines.
    pub counts: PartyCounts,
}
