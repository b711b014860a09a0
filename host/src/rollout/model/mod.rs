//! The vocabulary of a rollout: plain data and pure functions. No I/O, no clock, no tokio.

mod action;
mod action_result;
mod attempt_end;
mod call;
mod end;
mod event;
mod index;
mod input;
mod limits;
mod operator_requests;
mod orchestration;
mod plan;
mod reading;
mod roll_call;
mod run_status;
mod setup;
mod target_record;
mod target_status;

pub use action::{Action, CommandKind};
pub use action_result::{ActionResult, Course, Probed, stale_mark};
pub use attempt_end::AttemptEnd;
pub use call::{Begun, Called};
pub use end::{End, Report, RunFailure};
pub use event::{Event, Stamped};
pub use index::{EpochMs, RunId, TargetIndex};
pub use input::{Acquisition, Fault, Input, NotLeased, Stop, Takeover};
pub use limits::{Budget, Facts, HELD, HardLimits, HeldElsewhere, Refusal, WaveGate, WaveSpent};
pub use operator_requests::{OperatorRequest, OperatorRequests};
pub use orchestration::{
    OrchestrationEnd, OrchestrationEvent, OrchestrationReply, OrchestrationRequest, RequestId, TargetReport,
};
pub use plan::{Plan, Wave};
pub use reading::{Connectivity, Observed, SeenLease, SeenMember};
pub use roll_call::{Mismatch, RollCall};
pub use run_status::{Blocker, RunStatus, WaveNow};
pub use setup::{Floor, Resumed, Setup};
pub use target_record::{LeaseRecord, RecordedStatus, TargetRecord};
pub use target_status::{Counts, FinalStatus, IllegalEvent, TargetEvent, TargetStatus};
