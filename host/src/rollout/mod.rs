//! A rollout: a job in progress.
//!
//! [`Plan`] says who goes in which order under which limits. [`Rollout`] is the machine: inputs and the time go in,
//! actions come out, and it touches nothing. [`run`] is the loop around it, the only one: it waits for inputs and
//! carries actions out.

mod conduct;
mod decide;
mod engine;
mod event;
mod execute;
pub mod explain;
pub mod group;
pub mod inherited;
pub mod journal;
mod keeper;
pub mod ledger;
mod limits;
mod messages;
mod observe;
mod outlook;
mod owners;
mod plan;
pub mod replay;
mod roll_call;
mod state;
mod step;
mod targets;
pub mod timeline;
pub mod tree;
pub(crate) mod trouble;

pub use conduct::Conducting;
pub use decide::Decide;
pub use engine::{Run, RunError, run};
pub use event::{Event, Stamped};
pub use limits::{Budget, Facts, HardLimits, HeldElsewhere, Refusal, WaveGate, WaveSpent};
pub use messages::{
    Action, ActionResult, Broken, Conducted, Conducts, Course, Doing, End, Fault, Floor, Got, Hearing, Input,
    NotLeased, Observed, Others, Probed, Report, Resumed, SeenLease, SeenMember, Setup, Steer, Stop, Wish, stale_mark,
};
pub use outlook::{Outlook, Waits, WaveNow};
pub use plan::{Plan, Wave};
pub use roll_call::{Mismatch, RollCall};
pub use state::{Counts, Final, IllegalEvent, TargetEvent, TargetState};
use step::CONDUCTOR;
pub use step::Rollout;
pub use targets::{TargetsError, needs_store, read_inventory, resolve};
