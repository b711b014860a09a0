//! Reads journals: explains why a target is blocked, replays decisions, and draws a run as a timeline.

pub mod explain;
mod history;
pub mod replay;
pub mod timeline;

pub use crate::rollout::journal::{Segment, Segments};
pub use history::{History, HistoryError, Page, SegmentSummary, Want};
