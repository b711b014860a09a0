//! `lockkeeper semaphore`: list semaphores, show one, change its number of slots.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::Arc;

use serde_json::{Value, json};

use super::args::{Global, HoldersArgs, ResizeArgs, SemaphoreCommand, SemaphoreListArgs};
use super::caller;
use super::exit::{Exit, Failure};
use super::holders::{Held, print, summary};
use super::output::{Output, moment, of};
use super::store::{Purpose, StoreChoice};
use crate::cli::table::Table;
use crate::terminal;
use lockkeeper_coordination::recipe::{
    Claims, NumberRecord, OldCallers, ROOT, Resize, ResizeError, Resized, Semaphore, SemaphoreState, is_semaphore,
    queue_of, read_number, resize,
};
use lockkeeper_coordination::store::{Clock, NodePath, Store, StoreError};

/// As many nodes are looked at.
const MOST_NODES: usize = 10_000;

pub(super) async fn run(global: &Global, output: &Output, command: SemaphoreCommand) -> Result<Exit, Failure> {
    match command {
        SemaphoreCommand::List(args) => list(global, output, args).await,
        SemaphoreCommand::Show(args) => show(global, output, args).await,
        SemaphoreCommand::Resize(args) => change(global, output, args).await,
    }
}

async fn list(global: &Global, output: &Output, args: SemaphoreListArgs) -> Result<Exit, Failure> {
    let store = StoreChoice::new(global, output, None, Purpose::Look)?.session().await?;
    let (paths, is_whole) = walk(&*store, args.prefix.unwrap_or_else(NodePath::root)).await?;
    let mut found = Vec::with_capacity(paths.len());
    for path in paths {
        let (state, _) = Semaphore::new(Arc::clone(&store), path.clone(), NonZeroU32::MIN).observe().await?;
        found.push((path, state));
    }
    store.close().await?;
    if !is_whole {
        output.warn(&format!("only the first {MOST_NODES} nodes were read; a PREFIX narrows the search"));
    }
    if output.is_json() {
        let row = |(path, state): &(NodePath, SemaphoreState)| {
            json!({
                "path": path, "slots": state.slots, "held": state.holders.len(), "waiting": state.queued,
                "oldest": state.holders.iter().map(|holder| holder.since_ms).min(),
            })
        };
        output.json(&found.iter().map(row).collect::<Vec<_>>());
        return Ok(Exit::Done);
    }
    output.talk("Found", &of(found.len(), "semaphore"));
    if !found.is_empty() {
        let now = Clock::System.now_ms();
        let mut table = Table::with_header(["SEMAPHORE", "SLOTS", "HELD", "WAITING", "OLDEST"]);
        for (path, SemaphoreState { slots, holders, queued, .. }) in &found {
            let oldest = holders.iter().map(|holder| holder.since_ms).min();
            table.row([
                path.to_string(),
                slots.map_or_else(String::new, |slots| slots.to_string()),
                holders.len().to_string(),
                queued.to_string(),
                oldest.map_or_else(String::new, |since| moment(since, now)),
            ]);
        }
        output.table(&table);
    }
    Ok(Exit::Done)
}

/// The semaphores at or below a path, nearest first, and whether all nodes were looked at. What is below a semaphore is a
/// lease, and what is below Lockkeeper's own root is no user's, unless it is asked for.
async fn walk(store: &dyn Store, top: NodePath) -> Result<(Vec<NodePath>, bool), StoreError> {
    let mut found = Vec::new();
    let mut next = VecDeque::from([top.clone()]);
    let mut looked_at = 0;
    while let Some(path) = next.pop_front() {
        looked_at += 1;
        if looked_at > MOST_NODES {
            return Ok((found, false));
        }
        let is_root = path == NodePath::root();
        let (node, children) = (store.read(&path), store.children(&path));
        let queue = store.stat(&queue_of(&path));
        let (node, children, queue) = (node.await, children.await, queue.await);
        let (node, children) = match (node, children) {
            (Ok(node), Ok(children)) => (node, children),
            // It went in between, or is another account's.
            (Err(StoreError::NoNode { .. } | StoreError::Refused { .. }), _)
            | (_, Err(StoreError::NoNode { .. } | StoreError::Refused { .. })) => continue,
            (Err(error), _) | (_, Err(error)) => return Err(error),
        };
        if !is_root && is_semaphore(&node.data, &node.stat, queue.ok().flatten().is_some()) {
            found.push(path);
            continue;
        }
        let is_ours = |child: &NodePath| child.as_str() == ROOT || child.as_str() == "/zookeeper";
        next.extend(children.iter().map(|name| path.child(name)).filter(|child| !is_root || !is_ours(child)));
    }
    found.sort();
    Ok((found, true))
}

async fn show(global: &Global, output: &Output, args: HoldersArgs) -> Result<Exit, Failure> {
    let store = StoreChoice::new(global, output, None, Purpose::Look)?.session().await?;
    let path = args.path;
    let number = read_number(&*store, &path).await?;
    let semaphore = Semaphore::new(Arc::clone(&store), path.clone(), NonZeroU32::MIN);
    let (state, _) = semaphore.observe().await?;
    if let Some(nested) = state.nested(&path) {
        return Err(ResizeError::Nested(nested).into());
    }
    let SemaphoreState { slots, holders, queued, reserved } = state;
    let waiting = semaphore.queue(MOST_NODES).await?;
    let held = Held::all(&Claims::new(Arc::clone(&store), path.clone()), holders).await?;
    store.close().await?;
    let record = number.and_then(|number| number.record);
    if output.is_json() {
        output.json(&json!({
            "path": path, "slots": slots, "waiting": queued, "number": record, "reserved": reserved,
            "holders": held.iter().map(Held::json).collect::<Vec<Value>>(), "queue": waiting,
        }));
        return Ok(Exit::Done);
    }
    output.talk("Found", &summary(slots, held.len(), queued, path.as_str()));
    if let Some(record) = record {
        output.talk("Number", &written(&record));
    }
    if reserved > 0 {
        let reserved = of(reserved as usize, "slot");
        output
            .talk("Reserved", &format!("{reserved} against callers that know an older number; `resize` releases them"));
    }
    print(output, &held);
    Ok(Exit::Done)
}

fn written(record: &NumberRecord) -> String {
    let NumberRecord { slots, job, by, reason, at } = record;
    let at = moment(*at, Clock::System.now_ms());
    let who = job.as_ref().map_or_else(|| by.clone(), |job| format!("job `{job}` ({by})"));
    let reason = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    terminal::line(&format!("{} written {at} by {who}{reason}", of(*slots as usize, "slot")))
}

async fn change(global: &Global, output: &Output, args: ResizeArgs) -> Result<Exit, Failure> {
    let store = StoreChoice::new(global, output, None, Purpose::Use)?.session().await?;
    let ResizeArgs { path, slots, reason, reserve } = args;
    let old_callers = if reserve { OldCallers::AreBound } else { OldCallers::KeepTheirs };
    let resized =
        resize(&*store, &path, slots, Resize { by: &caller::person(), reason: reason.as_deref(), old_callers }).await;
    let (state, _) = Semaphore::new(Arc::clone(&store), path.clone(), slots).observe().await?;
    store.close().await?;
    let before = match resized? {
        Resized::Same => Some(i64::from(slots.get())),
        Resized::Written(before) => before,
    };
    if output.is_json() {
        output.json(&json!({ "path": path, "slots": slots, "before": before, "held": state.holders.len() }));
        return Ok(Exit::Done);
    }
    let was = match before {
        Some(before) if before == i64::from(slots.get()) => " already".to_owned(),
        Some(before) => format!(", {before} before"),
        None => String::new(),
    };
    output.talk("Resized", &format!("`{path}` to {}{was}", of(slots.get() as usize, "slot")));
    if before.is_some_and(|before| before > i64::from(slots.get())) {
        let over = state.holders.len().saturating_sub(slots.get() as usize);
        if over > 0 {
            output.talk("Note", &format!("{} above the new number; none is released", of(over, "lease")));
        }
        if reserve {
            output.talk(
                "Note",
                &format!(
                    "{} keep the slots from kazoo and Salt processes that know the old number; `resize` releases them \
                     once those processes have restarted",
                    of(state.reserved as usize, "reservation")
                ),
            )
        } else {
            output.talk(
                "Note",
                "kazoo and Salt processes that have used the path keep the old number until they restart; --reserve \
                 limits them, too",
            )
        }
    }
    Ok(Exit::Done)
}
