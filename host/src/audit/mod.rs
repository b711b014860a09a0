//! What only reads journals: why a target is blocked, whether decisions come out the same again, and a run as a drawing.

pub mod explain;
mod history;
pub mod replay;
pub mod timeline;

pub use crate::rollout::journal::{Segment, Segments};
pub use history::{History, HistoryError, Page, Told, Want};
