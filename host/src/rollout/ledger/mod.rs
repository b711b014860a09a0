//! A run's state in the store: what a runner that takes over goes on from.

mod saved;

pub use saved::{Saved, SavedLease, Standing};
