//! A run's state, read by whoever wants to look: no lease is needed for that.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::clocks::Clocks;
use super::error::RunStateError;
use super::layout::{self, RunPaths};
use super::layout_1;
use super::records::{JobRecord, LAYOUT, Memory, Planned, RequestsRecord, RunRecord};
use crate::job::{JobName, Target};
use crate::rollout::model::{RunStatus, TargetRecord};
use lockkeeper_coordination::store::{Node, NodePath, Store, StoreError, Watch, node_name};

/// So many reads are on their way at once.
const FLIGHT: usize = 256;

/// A run as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its name.
    pub name: String,
    /// What it is.
    pub record: RunRecord,
    /// The version of its node.
    pub(super) version: i32,
}

impl Kept {
    /// Refuses a run of another layout, unless it is finished and in a layout whose end this program can read.
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

/// Where a target stands, and the version of its node; none: it has none yet.
pub type StatusOf = (TargetRecord, Option<i32>);

/// Every run that is kept, oldest first.
///
/// # Errors
/// As the store's. A node that is none of ours is left out.
pub async fn all(store: &Arc<dyn Store>) -> Result<Vec<Kept>, RunStateError> {
    let names = match store.children(&layout::runs()).await {
        Ok(names) => names,
        Err(StoreError::NoNode { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let paths: Vec<NodePath> = names.iter().map(|name| layout::runs().child(name)).collect();
    let nodes = nodes(store, &paths).await?;
    let mut runs: Vec<Kept> = names
        .into_iter()
        .zip(nodes)
        .filter_map(|(name, node)| {
            let node = node?;
            let record = layout_1::record(&layout::runs().child(&name), &node.data).ok()?;
            Some(Kept { name, record, version: node.stat.version })
        })
        .collect();
    runs.sort_by(|a, b| (a.record.started, &a.name).cmp(&(b.record.started, &b.name)));
    Ok(runs)
}

/// One run.
///
/// # Errors
/// [`RunStateError::NoSuchRun`]; [`RunStateError::Layout`] as [`Kept::readable`]; as the store's.
pub async fn run(store: &Arc<dyn Store>, name: &str) -> Result<Kept, RunStateError> {
    let kept = run_in_any_layout(store, name).await?;
    kept.readable()?;
    Ok(kept)
}

/// One run, also if an earlier version of this program wrote it and it is not finished: for `abort`.
///
/// # Errors
/// [`RunStateError::NoSuchRun`]; [`RunStateError::Strange`]; as the store's.
pub(super) async fn run_in_any_layout(store: &Arc<dyn Store>, name: &str) -> Result<Kept, RunStateError> {
    let path = RunPaths::new(name).run().clone();
    let no_such_run = || RunStateError::NoSuchRun { run: name.to_owned() };
    match store.read(&path).await {
        // It was about to begin.
        Ok(node) if node.data.is_empty() => Err(no_such_run()),
        Ok(node) => {
            let record = layout_1::record(&path, &node.data)?;
            Ok(Kept { name: name.to_owned(), record, version: node.stat.version })
        }
        Err(StoreError::NoNode { .. }) => Err(no_such_run()),
        Err(error) => Err(error.into()),
    }
}

/// A run's targets, in their order.
///
/// # Errors
/// As the store's; [`LedgerError::Strange`].
pub async fn targets(store: &Arc<dyn Store>, run: &str) -> Result<Vec<Target>, RunStateError> {
    plan(store, &RunPaths::new(run)).await
}

/// Where each of a run's targets stands, in the order of `targets`.
///
/// # Errors
/// As the store's; [`LedgerError::Strange`].
pub async fn statuses_of(
    store: &Arc<dyn Store>,
    run: &str,
    targets: &[Target],
) -> Result<Vec<StatusOf>, RunStateError> {
    statuses(store, &RunPaths::new(run), targets, Clocks::AsWritten).await
}

/// What people want of a run.
///
/// # Errors
/// As the store's; [`LedgerError::Strange`].
pub async fn requests(store: &Arc<dyn Store>, run: &str) -> Result<RequestsRecord, RunStateError> {
    let path = RunPaths::new(run).requests();
    match store.read(&path).await {
        Ok(node) => parse(&path, &node.data),
        // A run in an earlier layout has no such node.
        Err(StoreError::NoNode { .. }) => Ok(RequestsRecord::default()),
        Err(error) => Err(error.into()),
    }
}

/// As [`wishes`], with their version and a watch that fires when they change.
pub(crate) async fn requests_and_watch(
    store: &Arc<dyn Store>,
    run: &str,
) -> Result<(RequestsRecord, i32, Watch), RunStateError> {
    let path = RunPaths::new(run).requests();
    let (node, watch) = store.read_and_watch(&path).await?;
    Ok((parse(&path, &node.data)?, node.stat.version, watch))
}

/// What its runner said last that it waits for, as JSON; none: it has said nothing yet.
///
/// # Errors
/// As the store's; [`LedgerError::Strange`].
pub async fn now(store: &Arc<dyn Store>, run: &str) -> Result<Option<serde_json::Value>, RunStateError> {
    let path = RunPaths::new(run).now();
    match store.read(&path).await {
        Ok(node) => parse(&path, &node.data).map(Some),
        Err(StoreError::NoNode { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// As [`now`]; none also where it was said in another way than this program's.
///
/// # Errors
/// As the store's.
pub async fn run_status(store: &Arc<dyn Store>, run: &str) -> Result<Option<RunStatus>, RunStateError> {
    Ok(now(store, run).await?.and_then(|said| serde_json::from_value(said).ok()))
}

/// A job's newest run.
///
/// # Errors
/// As the store's; a node that is none of ours.
pub async fn newest(store: &Arc<dyn Store>, job: &JobName) -> Result<Option<Kept>, RunStateError> {
    let node = layout::job(job);
    let record: JobRecord = match store.read(&node).await {
        Ok(found) if found.data.is_empty() => return Ok(None),
        Ok(found) => parse(&node, &found.data)?,
        Err(StoreError::NoNode { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match run(store, &record.run).await {
        Ok(kept) => Ok(Some(kept)),
        // Pruned.
        Err(RunStateError::NoSuchRun { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The text of its job.
///
/// # Errors
/// As the store's.
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
            let strange =
                |error: crate::job::NameError| RunStateError::Strange { path: path.clone(), reason: error.to_string() };
            targets.push(Target::try_from(planned).map_err(strange)?);
        }
    }
    Ok(targets)
}

/// Where each target stands, its times by this machine's clock if `clocks` says how.
pub(super) async fn statuses(
    store: &Arc<dyn Store>,
    paths: &RunPaths,
    targets: &[Target],
    clocks: Clocks,
) -> Result<Vec<StatusOf>, RunStateError> {
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

/// Where each target stands that has a node.
pub(super) async fn touched(store: &Arc<dyn Store>, paths: &RunPaths) -> Result<Vec<TargetRecord>, RunStateError> {
    let names = store.children(&paths.targets()).await?;
    let paths: Vec<NodePath> = names.iter().map(|name| paths.targets().child(name)).collect();
    let found = nodes(store, &paths).await?;
    paths.iter().zip(found).filter_map(|(path, node)| Some(layout_1::target_record(path, &node?.data))).collect()
}

pub(super) async fn memory(store: &Arc<dyn Store>, paths: &RunPaths) -> Result<Vec<u8>, RunStateError> {
    let path = paths.memory();
    let Memory { memory } = parse(&path, &store.read(&path).await?.data)?;
    hex::decode(memory).map_err(|error| RunStateError::Strange { path, reason: error.to_string() })
}

/// Reads many nodes, in flights; none where there is none.
async fn nodes(store: &Arc<dyn Store>, paths: &[NodePath]) -> Result<Vec<Option<Node>>, RunStateError> {
    let mut nodes = Vec::with_capacity(paths.len());
    for flight in paths.chunks(FLIGHT) {
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

pub(super) fn parse<T: DeserializeOwned>(path: &NodePath, data: &[u8]) -> Result<T, RunStateError> {
    let strange = |error: serde_json::Error| RunStateError::Strange { path: path.clone(), reason: error.to_string() };
    serde_json::from_slice(data).map_err(strange)
}

/// What this module writes: structs of text, numbers and lists.
pub(super) fn bytes(value: &impl Serialize) -> Bytes {
    Bytes::from(serde_json::to_vec(value).expect("plain data is JSON"))
}
