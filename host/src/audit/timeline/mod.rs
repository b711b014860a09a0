//! A run on paper: who held which slot from when to when, against the limit, and how it went. Read from the journals; pure.

mod axis;
mod draw;
mod record;

pub use draw::svg;
pub use record::{Hold, Kind, Mark, Piece, Recorder, Row, Timeline};
