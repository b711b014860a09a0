//! The words by which a runner recognises that the far end has refused a fence.

/// The words that stand in the error of a refused fence. Nothing was started then.
#[must_use]
pub fn stale_mark(fence: u64) -> String {
    format!("fence {fence} is stale")
}
