//! Time since boot, which all processes of a machine share.

use std::thread;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::milliseconds::millis;

/// Counts on while the machine is suspended, and no one can set it.
#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::CLOCK_BOOTTIME;
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::CLOCK_MONOTONIC;

/// Milliseconds since the machine was booted.
pub(crate) fn now_ms() -> u64 {
    let now = clock_gettime(CLOCK).expect("every system that we build for has this clock");
    millis(Duration::from(now))
}

/// What tells this boot from others; empty where the system has no such thing. There a row from before a reboot is known
/// by a time that is still to come.
pub(crate) fn id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// Sleeps. A suspend of the machine counts as sleep, so that whoever sleeps past it wakes with the machine.
pub(crate) fn sleep(duration: Duration) {
    #[cfg(target_os = "linux")]
    {
        use nix::sys::time::TimeSpec;
        use nix::time::{ClockNanosleepFlags, clock_nanosleep};
        // Woken early by a signal: whoever sleeps here looks at the clock and sleeps again.
        if clock_nanosleep(CLOCK, ClockNanosleepFlags::empty(), &TimeSpec::from_duration(duration)).is_ok() {
            return;
        }
    }
    thread::sleep(duration);
}
