use lockkeeper_sdk::orchestration::prelude::*;

/// What a job says under `[orchestration.settings]`.
#[settings]
struct Alone {
    /// The semaphore that one run at a time holds: the job lists it.
    lock: String,
    /// How long that is waited for, such as `10m`.
    patience: Period,
    /// How many targets act at once.
    at_once: u32,
}

#[orchestrator]
impl Orchestrator for Alone {
    fn run(&self, _: Option<Vec<u8>>) -> Result<(), Stopped> {
        // Given back when it is dropped, whatever happens; after a crash it is held still.
        let lease = lock(&self.lock, Some(self.patience.into()))?;
        trace(Level::Info, format!("fence {}", lease.fence()));
        for_each_target(self.at_once as usize, Ended::must_have_succeeded)
    }
}

#[test]
fn cases() {
    lockkeeper_sdk::orchestration::testing::cases::<Alone>(include_str!("../cases.toml"));
}
