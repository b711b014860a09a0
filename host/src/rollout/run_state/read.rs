//! Reads a run's state; no lease is needed.

use std::collections::HashMap;
use std::sync::Arc;

use super::clocks::Clocks;
use super::error::RunStateError;
use super::json::parse;
use super::layout::{self, RunPaths};
use super::layout_1;
use super::records::{JobRecord, LAYOUT, Memory, Planned, RequestsRecord, RunRecord};
use crate::job::{JobName, Target};
use crate::rollout::model::{RunStatus, TargetRecord};
use lockkeeper_coordination::store::{Node, NodePath, Store, StoreError, Watch, node_name};

/// Reads in flight at once, so that a run of many targets does not flood the store.
const READS_IN_FLIGHT: usize = 256;

/// A run as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRun {
    /// Name of the run.
    pub name: String,
    /// Content of the run's node.
    pub record: RunRecord,
    /// Version of the run's node.
    pub(super) version: i32,
}

impl StoredRun {
    /// Refuses a run in another layout, unless it is finished and this program can read that layout.
    ///
    /// # Errors
    /// [`RunStateError::Layout`].
    pub fn readable(&self) -> Result<(), RunStateError> {
        match (self.record.layout, &self.record.ended) {
            (LAYOUT, _) | (layout_1::NUMBER, Some(_)) => Ok(()),
            (found, _) => Err(RunStateError::Layout { run: self.name.clone(), found }),
        }
    }
}

/// A target's record and its node's version. The version is `None` if the node does not exist.
pub type VersionedTarget = (TargetRecord, Option<i32>);

/// Every run in the store, oldest first. Nodes in an unknown format are skipped.
///
/// # Errors
/// If the store cannot be read.
pub async fn all(store: &Arc<dyn Store>) -> Result<Vec<StoredRun>, RunStateError> {
    let names = match store.children(&layout::runs()).await {
        Ok(names) => names,
        Err(StoreError::NoNode { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let paths: Vec<NodePath> = names.iter().map(|name| layout::runs().child(name)).collect();
    let nodes = nodes(store, &paths).await?;
    let mut runs: Vec<StoredRun> = names
        .into_iter()
        .zip(nodes)
        .filter_map(|(name, node)| {
            let node = node?;
            let record = layout_1::record(&layout::runs().child(&name), &node.data).ok()?;
            Some(StoredRun { name, record, version: node.stat.version })
        })
        .collect();
    runs.sort_by(|a, b| (a.record.started, &a.name).cmp(&(b.record.started, &b.name)));
    Ok(runs)
}

/// Reads one run.
///
/// # Errors
/// [`RunStateError::NoSuchRun`]; [`RunStateError::Layout`] as [`StoredRun::readable`]; if the store cannot be read.
pub async fn run(store: &Arc<dyn Store>, name: &str) -> Result<StoredRun, RunStateError> {
    let kept = run_in_any_layout(store, name).await?;
    kept.readable()?;
    Ok(kept)
}

/// Reads one run in any layout, finished or not: for `abort`.
///
/// # Errors
/// [`RunStateError::NoSuchRun`]; [`RunStateError::Malformed`]; if the store cannot be read.
pub(super) async fn run_in_any_layout(store: &Arc<dyn Store>, name: &str) -> Result<StoredRun, RunStateError> {
    let path = RunPaths::new(name).run().clone();
    let no_such_run = || RunStateError::NoSuchRun { run: name.to_owned() };
    match store.read(&path).await {
        // The run has not started yet.
        Ok(node) if node.data.is_empty() => Err(no_such_run()),
        Ok(node) => {
            let record = layout_1::record(&path, &node.data)?;
            Ok(StoredRun { name: name.to_owned(), record, version: node.stat.version })
        }
        Err(StoreError::NoNode { .. }) => Err(no_such_run()),
        Err(error) => Err(error.into()),
    }
}

/// A run's targets in the plan's order.
///
/// # Errors
/// If the store cannot be read; [`RunStateError::Malformed`].
pub async fn targets(store: &Arc<dyn Store>, run: &str) -> Result<Vec<Target>, RunStateError> {
    plan(store, &RunPaths::new(run)).await
}

/// The record of each target, in the order of `targets`.
///
/// # Errors
/// If the store cannot be read; [`RunStateError::Malformed`].
pub async fn statuses_of(
    store: &Arc<dyn Store>,
    run: &str,
    targets: &[Target],
) -> Result<Vec<VersionedTarget>, RunStateError> {
    statuses(store, &RunPaths::new(run), targets, Clocks::AsWritten).await
}

/// The operator requests of a run.
///
/// # Errors
/// If the store cannot be read; [`RunStateError::Malformed`].
pub async fn requests(store: &Arc<dyn Store>, run: &str) -> Result<RequestsRecord, RunStateError> {
    let path = RunPaths::new(run).requests();
    match store.read(&path).await {
        Ok(node) => parse(&path, &node.data),
        // A run in an earlier layout has no such node.
        Err(StoreError::NoNode { .. }) => Ok(RequestsRecord::default()),
        Err(error) => Err(error.into()),
    }
}

/// Same as [`requests`], with their version and a watch that fires when they change.
pub(crate) async fn requests_and_watch(
    store: &Arc<dyn Store>,
    run: &str,
) -> Result<(RequestsRecord, i32, Watch), RunStateError> {
    let path = RunPaths::new(run).requests();
    let (node, watch) = store.read_and_watch(&path).await?;
    Ok((parse(&path, &node.data)?, node.stat.version, watch))
}

/// The last run status that the runner wrote, as JSON. `None` if no runner has written one.
///
/// # Errors
/// If the store cannot be read; [`RunStateError::Malformed`].
pub async fn now(store: &Arc<dyn Store>, run: &str) -> Result<Option<serde_json::Value>, RunStateError> {
    let path = RunPaths::new(run).now();
    match store.read(&path).await {
        Ok(node) => parse(&path, &node.data).map(Some),
        Err(StoreError::NoNode { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Same as [`now`], parsed. `None` also if another version of this program wrote it.
///
/// # Errors
/// If the store cannot be read.
pub async fn run_status(store: &Arc<dyn Store>, run: &str) -> Result<Option<RunStatus>, RunStateError> {
    Ok(now(store, run).await?.and_then(|said| serde_json::from_value(said).ok()))
}

/// A job's newest run. `None` if it has none.
///
/// # Errors
/// If the store cannot be read; [`RunStateError::Malformed`].
pub async fn newest(store: &Arc<dyn Store>, job: &JobName) -> Result<Option<StoredRun>, RunStateError> {
    let node = layout::job(job);
    let record: JobRecord = match store.read(&node).await {
        Ok(found) if found.data.is_empty() => return Ok(None),
        Ok(found) => parse(&node, &found.data)?,
        Err(StoreError::NoNode { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match run(store, &record.run).await {
        Ok(kept) => Ok(Some(kept)),
        // The run was pruned.
        Err(RunStateError::NoSuchRun { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The text of the run's job file.
///
/// # Errors
/// If the store cannot be read.
pub async fn job_text(store: &Arc<dyn Store>, run: &str) -> Result<String, RunStateError> {
    let node = store.read(&RunPaths::new(run).job_text()).await?;
    Ok(String::from_utf8_lossy(&node.data).into_owned())
}

pub(super) async fn plan(store: &Arc<dyn Store>, paths: &RunPaths) -> Result<Vec<Target>, RunStateError> {
    let parts = store.children(&paths.plan()).await?;
    let parts: Vec<NodePath> = parts.iter().map(|part| paths.plan().child(part)).collect();
    let mut targets = Vec::new();
    for (path, node) in parts.iter().zip(nodes(store, &parts).await?) {
        let Some(node) = node else { continue };
        for planned in parse::<Vec<Planned>>(path, &node.data)? {
            let strange = |error: crate::job::NameError| RunStateError::Malformed {
                path: path.clone(),
                reason: error.to_string(),
            };
            targets.push(Target::try_from(planned).map_err(strange)?);
        }
    }
    Ok(targets)
}

/// The record of each target, with its times by `clocks`.
pub(super) async fn statuses(
    store: &Arc<dyn Store>,
    paths: &RunPaths,
    targets: &[Target],
    clocks: Clocks,
) -> Result<Vec<VersionedTarget>, RunStateError> {
    let names = store.children(&paths.targets()).await?;
    let nodes_of: Vec<NodePath> = names.iter().map(|name| paths.targets().child(name)).collect();
    let found = nodes(store, &nodes_of).await?;
    let mut by_name = HashMap::with_capacity(names.len());
    for ((name, path), node) in names.iter().zip(&nodes_of).zip(found) {
        if let Some(node) = node {
            let saved = layout_1::target_record(path, &node.data)?;
            by_name.insert(name.as_str(), (clocks.ours(saved, &node.stat), Some(node.stat.version)));
        }
    }
    Ok(targets.iter().map(|target| by_name.remove(&*node_name(target.name.as_str())).unwrap_or_default()).collect())
}

/// The records of all targets that have one.
pub(super) async fn touched(store: &Arc<dyn Store>, paths: &RunPaths) -> Result<Vec<TargetRecord>, RunStateError> {
    let names = store.children(&paths.targets()).await?;
    let paths: Vec<NodePath> = names.iter().map(|name| paths.targets().child(name)).collect();
    let found = nodes(store, &paths).await?;
    paths.iter().zip(found).filter_map(|(path, node)| Some(layout_1::target_record(path, &node?.data))).collect()
}

pub(super) async fn memory(store: &Arc<dyn Store>, paths: &RunPaths) -> Result<Vec<u8>, RunStateError> {
    let path = paths.memory();
    let Memory { memory } = parse(&path, &store.read(&path).await?.data)?;
    hex::decode(memory).map_err(|error| RunStateError::Malformed { path, reason: error.to_string() })
}

/// Reads many nodes, up to [`READS_IN_FLIGHT`] at once. A node that does not exist is `None`.
async fn nodes(store: &Arc<dyn Store>, paths: &[NodePath]) -> Result<Vec<Option<Node>>, RunStateError> {
    let mut nodes = Vec::with_capacity(paths.len());
    for flight in paths.chunks(READS_IN_FLIGHT) {
        let replies: Vec<_> = flight.iter().map(|path| store.read(path)).collect();
        for reply in replies {
            nodes.push(match reply.await {
                Ok(node) => Some(node),
                Err(StoreError::NoNode { .. }) => None,
                Err(error) => return Err(error.into()),
            });
        }
    }
    Ok(nodes)
}
