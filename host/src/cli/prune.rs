//! `lockkeeper prune`: finished runs that nobody needs any more.

use std::fs;

use serde_json::json;

use super::exit::{Exit, Failure};
use super::output::{Output, moment, of};
use super::{Global, PruneArgs};
use crate::rollout::ledger::{self, Kept};

/// What never began is swept after this: nobody takes so long to begin.
const STILLBORN_MS: u64 = 60 * 60 * 1000;

pub(super) async fn run(global: &Global, output: &Output, args: PruneArgs) -> Result<Exit, Failure> {
    let store = global.open(output).await?;
    let state = global.state_dir()?;
    let now = store.clock().now_ms();
    let age = u64::try_from(args.older_than.as_millis()).unwrap_or(u64::MAX);
    let (mut gone, mut stays) = (Vec::new(), Vec::new());
    for run in ledger::all(&store).await? {
        if args.job.as_ref().is_some_and(|job| *job != run.record.job) {
            continue;
        }
        match &run.record.ended {
            Some(ended) if ended.at.saturating_add(age) <= now => gone.push(run),
            _ => stays.push(run),
        }
    }
    for Kept { name, record, .. } in &gone {
        let ended = record.ended.as_ref().map_or(0, |ended| ended.at);
        if output.is_json() {
            output.json(&json!({ "run": name, "ended": ended, "pruned": !args.dry_run }));
        } else {
            let verb = if args.dry_run { "Would go" } else { "Pruned" };
            output.talk(verb, &format!("{}, ended {}", super::holders::plain(name), moment(ended, now)));
        }
    }
    if !args.dry_run {
        for run in &gone {
            ledger::delete(&store, run).await?;
            // On another host the folder is there, and `prune` there has nothing to do with this store.
            let _ = fs::remove_dir_all(state.join("runs").join(&run.name));
        }
        ledger::delete_stillborn(&store, now.saturating_sub(STILLBORN_MS)).await?;
        if args.job.is_none() {
            ledger::forget_jobs(&store, &stays).await?;
        }
    }
    store.close().await?;
    let open = stays.iter().filter(|run| run.record.ended.is_none()).count();
    if !output.is_json() {
        let open = if open == 0 { String::new() } else { format!(", {} of them not finished", open) };
        let verb = if args.dry_run { "Would prune" } else { "Pruned" };
        output.talk(verb, &format!("{}; {} stay{open}", of(gone.len(), "run"), stays.len()));
    }
    Ok(Exit::Done)
}
