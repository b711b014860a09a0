//! A rollout: a job in progress.
//!
//! [`Plan`] says who goes in which order under which limits. [`Rollout`] is the machine: inputs and the time go in,
//! actions come out, and it touches nothing. [`run`] is the loop around it, the only one: it waits for inputs and
//! carries actions out.

mod decide;
mod engine;
mod event;
mod exec;
pub mod explain;
pub mod inherited;
pub mod journal;
mod lease_task;
mod limits;
mod messages;
mod observe;
mod orchestration;
mod owners;
mod plan;
pub mod process_group;
pub mod process_tree;
pub mod replay;
mod roll_call;
pub mod run_state;
mod run_status;
pub(crate) mod runner_failure;
mod step;
mod target_status;
mod targets;
pub mod timeline;

pub use decide::Decide;
pub use engine::{Run, RunError, run};
pub use event::{Event, Stamped};
pub use limits::{Budget, Facts, HardLimits, HeldElsewhere, Refusal, WaveGate, WaveSpent};
pub use messages::{
    Action, ActionResult, Broken, CommandKind, Connectivity, Course, End, Fault, Floor, Got, Input, NotLeased,
    Observed, OperatorRequest, OperatorRequests, OrchestrationEnd, OrchestrationEvent, Others, Probed, Report, Resumed,
    SeenLease, SeenMember, Setup, Stop, stale_mark,
};
pub use orchestration::OrchestrationJob;
pub use plan::{Plan, Wave};
pub use roll_call::{Mismatch, RollCall};
pub use run_status::{Blocker, RunStatus, WaveNow};
use step::ORCHESTRATION;
pub use step::Rollout;
pub use target_status::{Counts, FinalStatus, IllegalEvent, TargetEvent, TargetStatus};
pub use targets::{TargetsError, needs_store, read_inventory, resolve};
