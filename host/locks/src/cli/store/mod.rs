//! The store of a command: which it is, and the sessions with it.

mod bad_option;
mod choice;
mod choose;
mod environment;
mod login;
mod place;
mod sessions;

use bad_option::{bad, both, of_flag};
pub use choice::{Purpose, StoreChoice};
pub use place::{Origin, StorePlace};
pub use sessions::OpenSessions;
