//! What only reads journals: why a target is blocked, whether decisions come out the same again, and a run as a drawing.

pub mod explain;
mod history;
pub mod replay;
mod segments;
pub mod timeline;

pub use history::{History, HistoryError, Page, Told, Want};
pub use segments::{Segment, Segments};
