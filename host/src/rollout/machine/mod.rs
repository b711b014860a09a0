//! The rollout as a pure machine: an [`Input`](super::model::Input) and the time go in, [`Action`](super::model::Action)s come
//! out. It waits for nothing and touches nothing; [`driver`](super::driver) does.
//!
//! # State
//! Each table owns its indices: `targets` (a status with its data for each target), `schedule` (what is due at a time), `sweep`
//! (which target the policy decides about next), `store_view` (what was read of the store), `waves`, `decisions`. The other
//! files hold one subject of rules each.
//!
//! # Which target the policy decides about, and when
//! The policy decides about targets in the plan's order while the run has room, one decision at a time, so that its memory
//! passes from decision to decision as in a fold. A change (a lease, a member, a target that ended) starts a new sweep from the
//! front; a wake asks about one target out of turn; `hold` ends the sweep until its wake or a change. A target queues once its
//! policy answers `lock`, and the policy decides once more when the slot is there.
//!
//! The policy decides about no target while the store is not connected or was not read: the verdict would rest on what may
//! have changed.
//!
//! # Limits
//! [`HardLimits::allow_one_more`](super::model::HardLimits::allow_one_more) is passed twice, before a target queues and before
//! its action starts, whatever the policy answers; and again before a retry, which needs its lease, too.
//!
//! # Pace
//! What a policy can repeat for ever is slowed down, so that it costs time and not the machine: wakes, slots acquired in vain,
//! and sweeps in vain each have a shortest pause.

mod actions;
mod budget;
mod checks;
mod clock;
mod decisions;
mod ending;
mod floor;
mod orchestration;
mod party;
mod recovery;
mod requests;
mod roll_back;
mod rollout;
mod run_status;
mod schedule;
mod slots;
mod store_view;
mod sweep;
mod targets;
mod views;
mod waves;

pub use orchestration::ORCHESTRATION;
pub use rollout::Rollout;
