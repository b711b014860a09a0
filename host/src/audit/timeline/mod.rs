//! A run as a drawing: the holder of each slot over time, against the limit, and the outcomes. Built from journals;
//! pure.

mod axis;
mod draw;
mod record;

pub use draw::svg;
pub use record::{Hold, Kind, Mark, Piece, Recorder, Row, Timeline};
