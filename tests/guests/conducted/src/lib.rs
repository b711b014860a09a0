//! An orchestration that does as its settings say: well, or otherwise.

use lockkeeper_sdk::orchestration::prelude::*;

/// Settings of `conducted`.
#[settings]
struct Conducted {
    /// What it does.
    mode: String,
}

#[orchestrator]
impl Orchestrator for Conducted {
    fn conduct(&self, state: Option<Vec<u8>>) -> Result<(), Stopped> {
        match self.mode.as_str() {
            "roll" => with_lease("/locks/a", Some(Duration::from_secs(60)), |_| {
                wait_members("/party", 2, None)?;
                for_each_target(2, Ended::must_have_succeeded)
            }),
            "drop" => {
                let first = lock("/locks/a", None)?;
                let second = try_lock("/locks/b")?;
                first.release();
                sleep(Duration::from_millis(u64::from(second.is_some())))?;
                Ok(())
            }
            "resume" => match state {
                None => {
                    std::mem::forget(lock("/locks/a", None)?);
                    Ok(checkpoint(&[1, 2, 3])?)
                }
                Some(state) => match found_leases()?.as_slice() {
                    [lease] if lease.fence() == 7 && state == [1, 2, 3] => Ok(()),
                    other => Err(Stopped(format!("{other:?}"))),
                },
            },
            "spin" => loop {
                std::hint::black_box(());
            },
            "panic" => panic!("no lease for {}", now()),
            mode => Err(Stopped(format!("no mode `{mode}`"))),
        }
    }
}
