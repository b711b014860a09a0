//! `lockkeeper holders`: who holds the slots of a semaphore.

use std::num::NonZeroU32;
use std::sync::Arc;

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde_json::json;

use super::exit::{Exit, Failure};
use super::output::{Output, moment};
use super::{Global, HoldersArgs};
use crate::recipe::{Forced, ForcedRecords, Holder, Semaphore};

pub(super) async fn run(global: &Global, output: &Output, args: HoldersArgs) -> Result<Exit, Failure> {
    let store = global.open(output).await?;
    let semaphore = Semaphore::new(Arc::clone(&store), args.path.clone(), NonZeroU32::MIN);
    let (state, _) = semaphore.observe().await?;
    let records = ForcedRecords::new(Arc::clone(&store));
    let mut rows: Vec<(Holder, Option<Forced>)> = Vec::new();
    for holder in state.holders {
        let forced = records.of(&holder.path).await?;
        rows.push((holder, forced));
    }
    let now = store.clock().now_ms();
    store.close().await?;

    if output.is_json() {
        let rows: Vec<_> = rows
            .iter()
            .map(|(holder, forced)| {
                json!({
                    "identifier": holder.identifier,
                    "since": holder.since_ms,
                    "fence": holder.fence,
                    "ephemeral": holder.ephemeral,
                    "forced": forced,
                })
            })
            .collect();
        output.json(&rows);
        return Ok(Exit::Done);
    }
    let slots = state.slots.map_or_else(String::new, |slots| format!(" of {slots}"));
    let never = if state.slots.is_none() && rows.is_empty() { "; nobody has locked it yet" } else { "" };
    output.talk(
        "Found",
        &format!("{}{slots} slots of `{}` held, {} waiting{never}", rows.len(), args.path, state.queued),
    );
    if !rows.is_empty() {
        let mut table = Table::new();
        table.load_style(NOTHING).set_header(["HOLDER", "SINCE", "FENCE", "LEASE"]);
        for (holder, forced) in &rows {
            let kind = if holder.ephemeral { "ephemeral" } else { "persistent" };
            let kind = forced
                .as_ref()
                .map_or(kind.to_owned(), |forced| format!("{kind}, forced by {}: {}", forced.by, forced.reason));
            let since = moment(holder.since_ms, now);
            table.add_row([plain(&holder.identifier), since, holder.fence.to_string(), plain(&kind)]);
        }
        output.data(&trimmed(&table));
    }
    Ok(Exit::Done)
}

/// Text from a store, where anybody may write, made harmless for a terminal.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A table without the blanks that fill its last column.
pub(super) fn trimmed(table: &Table) -> String {
    table.lines().map(|line| line.trim_end().trim_start_matches(' ').to_owned()).collect::<Vec<_>>().join("\n")
}
