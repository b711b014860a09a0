//! The vocabulary of a rollout: plain data and pure functions. No I/O, no clock, no tokio.

mod attempt_end;
mod call;
mod event;
mod limits;
mod messages;
mod plan;
mod roll_call;
mod run_status;
mod target_record;
mod target_status;

pub use attempt_end::AttemptEnd;
pub use call::{Begun, Called};
pub use event::{Event, Stamped};
pub use limits::{Budget, Facts, HELD, HardLimits, HeldElsewhere, Refusal, WaveGate, WaveSpent};
pub use messages::*;
pub use plan::{Plan, Wave};
pub use roll_call::{Mismatch, RollCall};
pub use run_status::{Blocker, RunStatus, WaveNow};
pub use target_record::{LeaseRecord, RecordedStatus, TargetRecord};
pub use target_status::{Counts, FinalStatus, IllegalEvent, TargetEvent, TargetStatus};
