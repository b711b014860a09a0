//! The clap types: the commands of this crate and their options, with their help, and nothing that runs.

mod command;
mod global;
mod guard;
mod lock;
mod party;
mod semaphore;
mod store;
mod unlock;

pub use command::LocksCommand;
pub use global::{Format, Global};
pub use guard::GuardArgs;
pub use lock::LockArgs;
pub use party::{JoinArgs, Kind, MembersArgs, PartyCommand};
pub use semaphore::{HoldersArgs, ResizeArgs, SemaphoreCommand, SemaphoreListArgs};
pub use store::StoreFlags;
pub use unlock::UnlockArgs;
