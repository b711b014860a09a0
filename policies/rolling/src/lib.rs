//! `rolling`
use lockkeeper_sdk::prelude::*;

/// Settings.

#[settings]
pub struct Rolling {
    /// Pause once this many targets have failed.
    #[serde(default)]
    pub hold_after_failures: Option<u32>,
}

#[policy("lock", "wait", "hold", "release")]
impl Policy for Rolling {
    fn admit(&self, view: &View, _memory: &mut Memory) -> Admitted {
        if self.hold_after_failures.is_some_and(|most| view.progress.failed >= most) {
            return hold("too-many-failures", format!("{} targets failed", view.progress.failed));
        }
        lock("slot-wanted", "nothing is in the way")
    }
}
