//! Fails a database over: alone, while enough members are there, one host after the other in the job's order.

use lockkeeper_sdk::orchestration::prelude::*;

/// Settings of `failover`.
#[settings]
struct Failover {
    /// The semaphore that one fail-over at a time holds: the job lists it.
    lock: String,
    /// The party of the database's members: the job lists it.
    party: String,
    /// How many of them must be there before anything is done.
    members: u32,
    /// How long the lease and the members are waited for.
    patience: Period,
}

#[orchestrator]
impl Orchestrator for Failover {
    fn run(&self, _: Option<Vec<u8>>) -> Result<(), Stopped> {
        with_lease(&self.lock, Some(self.patience.into()), |_lease| {
            let party = wait_members(&self.party, self.members, Some(self.patience.into()))?;
            trace(Level::Info, format!("{} members are there", party.members.len()));
            for_each_target(1, Ended::must_have_succeeded)
        })
    }
}

#[cfg(test)]
mod tests {
    use lockkeeper_sdk::orchestration::testing::cases;

    use super::Failover;

    #[test]
    fn every_case_passes_natively() {
        cases::<Failover>(include_str!("../../cases.toml"));
    }
}
