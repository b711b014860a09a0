//! An orchestration that does as its settings say: well, or otherwise.

use lockkeeper_sdk::orchestration::bindings::lockkeeper::orchestration::coordination::{self, HeldLease};
use lockkeeper_sdk::orchestration::prelude::*;

/// Settings of `conducted`.
#[settings]
struct OrchestrationEnd {
    /// What it does.
    mode: String,
}

#[orchestrator]
impl Orchestrator for OrchestrationEnd {
    fn run(&self, state: Option<Vec<u8>>) -> Result<(), Stopped> {
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
                    let _held = lock("/locks/a", None)?;
                    match checkpoint(&[1, 2, 3])? {}
                }
                Some(state) => match recovered_leases()?.as_slice() {
                    [lease] if lease.path() == "/locks/a" && state == [1, 2, 3] => Ok(()),
                    other => Err(Stopped(format!("{other:?}"))),
                },
            },
            // Everything that outlives a crash: leases, actions, a roll-back, a checkpoint.
            "crash" => {
                if state.is_some() {
                    let held: Vec<String> = recovered_leases()?.iter().map(Lease::path).collect();
                    return match held.as_slice() {
                        [only] if only == "/locks/b" => Ok(()),
                        held => Err(Stopped(format!("held {held:?} after the checkpoint"))),
                    };
                }
                let first = lock("/locks/a", Some(Duration::from_secs(60)))?;
                let second = lock("/locks/b", None)?;
                for_each_target(2, Ended::must_have_succeeded)?;
                let done = targets().swap_remove(0).name;
                let undone = roll_back(&done, "it was only tried", None)?;
                match (undone.outcome.ending, status_of(&done)?) {
                    // Nobody knows how one went that was cut off.
                    (Ending::Succeeded, TargetStatus::RolledBack) | (Ending::Unknown, TargetStatus::Unknown) => {}
                    other => return Err(Stopped(format!("{done} is {other:?}"))),
                }
                if !(first.still_held()? && second.still_held()?) {
                    return Err(Stopped::because("a lease was lost"));
                }
                first.release();
                sleep(Duration::from_millis(5))?;
                match checkpoint(b"over")? {}
            }
            // Two leases in this order or the other; whoever is "cross-a" gives way first.
            "cross-a" | "cross-b" => {
                let (first, second, patience) = match self.mode.as_str() {
                    "cross-a" => ("/locks/a", "/locks/b", 4),
                    _ => ("/locks/b", "/locks/a", 60),
                };
                let _first = lock(first, None)?;
                sleep(Duration::from_secs(2))?;
                lock(second, Some(Duration::from_secs(patience)))?;
                for_each_target(1, Ended::must_have_succeeded)
            }
            // Undoes what was done when one fails, the newest first.
            "undo" => {
                let mut done = Vec::new();
                for_each_target(1, |ended| match ended.clone().must_have_succeeded() {
                    Ok(()) => {
                        done.push(ended.target);
                        Ok(())
                    }
                    Err(why) => {
                        while let Some(target) = done.pop() {
                            roll_back(&target, &why.0, Some(Duration::from_secs(60)))?.must_have_succeeded()?;
                        }
                        for_all_that_is_not_to_be(&ended.target)?;
                        Err(why)
                    }
                })
            }
            // Breaks the lease of whoever is gone.
            "force" => {
                let breaking: Vec<u64> = holders("/locks/a")?.leases.iter().map(|lease| lease.fence).collect();
                match force("/locks/a", &[1], "no such lease") {
                    Err(CallError::Conflict(_)) => {}
                    Err(other) => return Err(other.into()),
                    Ok(_) => return Err(Stopped::because("a lease that is not there was broken")),
                }
                let lease = force("/locks/a", &breaking, "its host is gone for good")?;
                match force("/locks/a", &[], "once more") {
                    Err(CallError::Refused(_)) if lease.still_held()? => {}
                    other => return Err(Stopped(format!("{other:?}"))),
                }
                for_each_target(1, Ended::must_have_succeeded)
            }
            // Asks the policy before it lets a target go.
            "advised" => {
                for target in targets() {
                    let advice = admit(&target.name)?;
                    match advice.verdict {
                        Admission::Lock => start(&target.name, None)?,
                        verdict => skip(&target.name, &format!("the policy says {verdict:?}: {}", advice.reason))?,
                    }
                }
                Ok(())
            }
            // Goes on for days: a checkpoint every few calls, a lease through all of them.
            "days" => {
                let day = state.as_ref().map_or(0, |state| state.len());
                let mut held = match day {
                    0 => vec![lock("/locks/a", None)?],
                    _ => recovered_leases()?,
                };
                let held = held.pop().ok_or_else(|| Stopped::because("the lease is gone"))?;
                for _ in 0..3 {
                    holders("/locks/a")?;
                }
                if day == 4 {
                    return for_each_target(1, Ended::must_have_succeeded);
                }
                if !held.still_held()? {
                    return Err(Stopped::because("the lease was lost"));
                }
                match checkpoint(&vec![7; day + 1])? {}
            }
            // Nothing but checkpoints, whatever is said.
            "checkpoints" => {
                let _ = checkpoint(b"again");
                match checkpoint(b"again")? {}
            }
            // Holds a lease, and computes for ever.
            "hog" => {
                let _held = lock("/locks/a", None)?;
                loop {
                    std::hint::black_box(());
                }
            }
            // Calls for ever.
            "chatty" => loop {
                let _ = holders("/locks/a");
            },
            // Hears no refusal.
            "deaf" => {
                for number in 0..1_000 {
                    std::mem::forget(lock(&format!("/locks/{number}"), None));
                }
                std::mem::forget((lock("/locks/a", None)?, try_lock("/locks/b")?));
                match lock("/locks/a", None) {
                    Err(CallError::Refused(_)) => Ok(()),
                    other => Err(Stopped(format!("a second lease: {other:?}"))),
                }
            }
            // Waits for ever, with a lease in its hand.
            "sleepy" => {
                let _held = lock("/locks/a", None)?;
                Ok(sleep(Duration::MAX)?)
            }
            // A handle that nobody gave it.
            "forge" => {
                let _own = lock("/locks/a", None)?;
                #[expect(unsafe_code, reason = "what a guest may try, whatever the SDK offers")]
                // SAFETY: none; the host is to refuse it.
                let forged = unsafe { HeldLease::from_handle(1_234) };
                Err(Stopped(format!("it has the fence {}", forged.fence())))
            }
            // The same handle twice.
            "twice" => {
                let own = coordination::lock("/locks/a", None)?;
                #[expect(unsafe_code, reason = "as above")]
                // SAFETY: none; the host is to refuse it.
                let again = unsafe { HeldLease::from_handle(own.handle()) };
                drop(own);
                drop(again);
                Ok(())
            }
            // Texts that no name is as long as.
            "long" => {
                let long = "x".repeat(5_000);
                for refused in
                    [holders(&long).err(), members(&long).err(), skip(&long, "").err(), skip("a", &long).err()]
                {
                    match refused {
                        Some(CallError::Refused(why)) if why.contains("4096 is the most") => {}
                        other => return Err(Stopped(format!("{other:?}"))),
                    }
                }
                match checkpoint(&vec![0; 70_000]) {
                    Err(CallError::Refused(why)) => Err(Stopped(why)),
                    other => Err(Stopped(format!("{other:?}"))),
                }
            }
            "spin" => loop {
                std::hint::black_box(());
            },
            "panic" => panic!("no lease for {}", now()),
            mode => Err(Stopped(format!("no mode `{mode}`"))),
        }
    }
}

/// What cannot be rolled back is refused.
fn for_all_that_is_not_to_be(failed: &str) -> Result<(), Stopped> {
    let names: Vec<String> = targets().into_iter().map(|target| target.name).collect();
    for name in names.iter().filter(|name| *name != failed).map(String::as_str).chain(["nobody"]) {
        match roll_back(name, "once more", None) {
            Err(CallError::Refused(_)) => {}
            other => return Err(Stopped(format!("{name}: {other:?}"))),
        }
    }
    Ok(())
}
