//! Acts on two datacentres while it holds a lease of each: one target at a time, and without a deadlock whoever else wants
//! the same two leases in the other order.

use lockkeeper_sdk::orchestration::prelude::*;

/// Settings of `two-datacentres`.
#[settings]
struct TwoDatacentres {
    /// The two semaphores, in the order in which they are taken: the job lists them.
    first: String,
    /// The second.
    second: String,
    /// How long the second is waited for while the first is held; then the first is given back.
    patience: Period,
    /// How long it rests before it tries again.
    rest: Period,
    /// How often it tries.
    tries: u32,
}

impl TwoDatacentres {
    /// Both leases, or none.
    fn both(&self) -> Result<(Lease, Lease), Stopped> {
        for _ in 0..self.tries {
            let first = lock(&self.first, None)?;
            match lock(&self.second, Some(self.patience.into())) {
                Ok(second) => return Ok((first, second)),
                // Whoever has that one may wait for ours.
                Err(CallError::TimedOut) => first.release(),
                Err(fault) => return Err(fault.into()),
            }
            sleep(self.rest.into())?;
        }
        Err(Stopped::because(format!("{} and {} were not to be had together", self.first, self.second)))
    }
}

#[orchestrator]
impl Orchestrator for TwoDatacentres {
    fn run(&self, _: Option<Vec<u8>>) -> Result<(), Stopped> {
        let _both = self.both()?;
        for_each_target(1, Ended::must_have_succeeded)
    }
}

#[cfg(test)]
mod tests {
    use lockkeeper_sdk::orchestration::testing::cases;

    use super::TwoDatacentres;

    #[test]
    fn every_case_passes_natively() {
        cases::<TwoDatacentres>(include_str!("../../cases.toml"));
    }
}
