//! What it is measured on: what says how quick it is, and nothing that says whose it is.

use std::fs;
use std::process::Command;

use anyhow::Result;

use crate::world::World;

/// The machine, the server, and what they share.
pub(crate) fn describe(world: &World) -> Result<Vec<String>> {
    let fsync = if world.fsync { "every change synced to disk before it is answered" } else { "no sync to disk" };
    Ok(vec![
        format!("{}; server, callers and the delaying proxy share them", machine()),
        format!(
            "ZooKeeper {} on {}, one server on loopback, {fsync}; a read takes {:.2} ms, a write {:.2} ms",
            world.version()?,
            java(),
            world.round_trip_ms(&world.server.hosts())?,
            world.write_ms()?
        ),
    ])
}

/// Cores, memory, distribution and kernel.
pub(crate) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let field = |file: &str, name: &str, separator: char| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(separator).map(|(_, value)| value.trim().trim_matches('"').to_owned()).unwrap_or_default()
    };
    let kilobytes: f64 = field("/proc/meminfo", "MemTotal", ':').trim_end_matches(" kB").parse().unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{cores} cores ({}), {:.0} GB, {}, Linux {}",
        field("/proc/cpuinfo", "model name", ':'),
        kilobytes / 1e6,
        field("/etc/os-release", "PRETTY_NAME", '='),
        kernel.trim()
    )
}

/// Java's own first line, the release apart, which is what counts.
fn java() -> String {
    let said = Command::new("java").arg("-version").output().map(|output| output.stderr).unwrap_or_default();
    let line = String::from_utf8_lossy(&said).lines().next().unwrap_or_default().to_owned();
    let version = line.split('"').nth(1).unwrap_or_default();
    format!("Java {version}")
}
