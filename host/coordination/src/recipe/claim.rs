//! Claims: who owns a lease, for all of Lockkeeper's callers.
//!
//! A lease's data is its identifier and nothing else, and an identifier does not prove ownership: two processes of one
//! host, two jobs over the same hosts and a clone with the same host name all use the same one. A claim is a node beside the
//! semaphores, one for each semaphore and identifier, that is created in the transaction that creates the lease and deleted
//! in the one that deletes it. Two callers that claim one identifier therefore exclude each other.
//!
//! | what | where | data |
//! |---|---|---|
//! | claim | `/lockkeeper/claims/<semaphore's path, escaped>/<identifier, escaped>` | JSON: [`Claim`] |
//! | its record | `/lockkeeper/records/<the lease's name>` | empty |
//!
//! A claim lives as long as its lease: ephemeral with the session, or persistent. Tools that do not know claims (Salt's
//! `unlock`) delete the lease alone. A persistent claim whose lease is gone is then replaced by the next caller. An ephemeral
//! one is left to its owner, who may still be stopping its command; it ends with the session at the latest.
//!
//! A claim's version does not identify it: a claim that is deleted and created anew has version 0 again. The *record* does,
//! because a lease's name is never used twice. It is created and deleted in the same transactions as the claim, so that a
//! transaction that deletes the record goes through only while the very claim is there that its caller saw.
//! `tests/tests/semaphore_model` has the rules and shows what happens without them.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::semaphore::unless_missing;
use super::session::Tools;
use super::wait::Backoff;
use crate::store::{NodeKind, NodePath, Op, Store, StoreError, Version, create_all, node_name};

/// The folder of everything in a store that is Lockkeeper's own, beside the layout that it shares with kazoo.
pub const ROOT: &str = NodePath::OWN;

/// Who owns a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "owner", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Owner {
    /// A target of a run, or the run's orchestration.
    Run {
        /// The run.
        run: String,
        /// Its job.
        job: String,
        /// The process that drives it: host and process id. It may have changed since, if another one took the run over.
        runner: String,
    },
    /// A process that holds the lease while a command of its own runs.
    Process {
        /// Its host.
        host: String,
        /// The host's machine id, which tells it from a clone of the same name; `None` where it has none.
        #[serde(skip_serializing_if = "Option::is_none")]
        machine: Option<String>,
        /// Its process id there.
        pid: u32,
        /// Which start of that host, as the kernel tells it; `None` where that cannot be read.
        #[serde(skip_serializing_if = "Option::is_none")]
        boot: Option<String>,
        /// The process id of its command, which may outlive it; `None` before that was started.
        #[serde(skip_serializing_if = "Option::is_none")]
        command: Option<u32>,
    },
    /// An operator or a script that took the lease without a command, until it is unlocked.
    ByHand {
        /// User and host.
        by: String,
    },
}

/// Why a lease was taken although no slot was free.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Forced {
    /// Who forced it: user and host, or a policy of a run.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When, in milliseconds since the Unix epoch.
    pub at: u64,
}

/// A claim's data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Claim {
    /// The lease's node.
    pub lease: NodePath,
    /// Who owns it.
    #[serde(flatten)]
    pub owner: Owner,
    /// By what force it was taken; `None` if a slot was free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forced: Option<Forced>,
}

/// A claim as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenClaim {
    /// What it says.
    pub claim: Claim,
    /// The version of its node.
    pub version: i32,
    /// Whether it ends with its owner's session.
    pub ephemeral: bool,
    /// Since when, in milliseconds since the Unix epoch, by the store's clock.
    pub since_ms: u64,
}

/// A claim and its record, as they are deleted: together, or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claimed {
    path: NodePath,
    record: NodePath,
}

impl Claimed {
    /// What writes another owner into the claim, if it is still this lease's.
    pub(super) fn set_owner(&self, claim: &Claim) -> [Op; 2] {
        let data = Bytes::from(serde_json::to_vec(claim).expect("a claim is plain data"));
        [
            Op::Check { path: self.record.clone(), version: Version::Any },
            Op::Set { path: self.path.clone(), data, version: Version::Any },
        ]
    }

    /// The claim of that identifier while it names that lease.
    pub(super) fn new(semaphore: &NodePath, identifier: &str, lease: &NodePath) -> Self {
        Self { path: place(semaphore, identifier), record: records().child(lease.name()) }
    }

    /// The record first: without it the claim is another's.
    pub(super) fn delete(&self) -> [Op; 2] {
        [&self.record, &self.path].map(|path| Op::Delete { path: path.clone(), version: Version::Any })
    }

    pub(super) fn create(&self, claim: &Claim, kind: NodeKind) -> [Op; 2] {
        let data = Bytes::from(serde_json::to_vec(claim).expect("a claim is plain data"));
        [
            Op::Create { path: self.path.clone(), data, kind },
            Op::Create { path: self.record.clone(), data: Bytes::new(), kind },
        ]
    }

    /// Deletes the claim after its lease was deleted without it, unless it is another owner's by now. If the store does not
    /// answer, a persistent claim stays until it is replaced or swept.
    pub(super) async fn delete_orphan(self, store: &dyn Store) {
        let _ = store.multi(self.delete().into()).await;
    }
}

/// What deletes a lease and its claim, for one transaction with something else.
#[derive(Debug, Clone)]
pub struct Deletion {
    lease: Option<NodePath>,
    claim: Option<Claimed>,
}

impl Deletion {
    pub(super) fn new(lease: NodePath, claim: Option<Claimed>) -> Self {
        Self { lease: Some(lease), claim }
    }

    /// The operations: of the lease first, then of its claim. Empty when nothing is left to delete.
    #[must_use]
    pub fn ops(&self) -> Vec<Op> {
        let lease = self.lease.iter().map(|path| Op::Delete { path: path.clone(), version: Version::Any });
        lease.chain(self.claim.iter().flat_map(Claimed::delete)).collect()
    }

    /// Takes out what was gone already: the lease, or a claim that is another's by now. `index` is that of the operation that
    /// was refused with `NoNode`, among [`Deletion::ops`].
    pub fn was_gone(&mut self, index: usize) {
        match self.lease.is_some() && index == 0 {
            true => self.lease = None,
            false => self.claim = None,
        }
    }

    /// Whether the lease is among what is to be deleted.
    pub(super) fn has_lease(&self) -> bool {
        self.lease.is_some()
    }
}

impl Owner {
    /// This process, as an owner.
    #[must_use]
    pub fn this_process() -> Self {
        Self::process(None)
    }

    /// This process, as the owner of a lease under which that command of its own runs.
    #[must_use]
    pub fn this_process_with(command: u32) -> Self {
        Self::process(Some(command))
    }

    fn process(command: Option<u32>) -> Self {
        Self::Process { host: host_name(), machine: machine_id(), pid: std::process::id(), boot: boot_id(), command }
    }

    /// Whether this is a process of this host.
    fn is_here(&self) -> bool {
        matches!(self, Self::Process { host, machine, .. } if *host == host_name() && *machine == machine_id())
    }

    /// Whether this is a process of this host that exists.
    #[must_use]
    pub fn is_alive_here(&self) -> bool {
        let Self::Process { boot, .. } = self else { return false };
        self.is_here() && *boot == boot_id() && !self.has_certainly_ended()
    }

    /// The process id of a command that may run although no `lockkeeper` watches over it any more; `None` if the owner has no
    /// command, or is a process of this host that watches over it still, or has ended together with it.
    #[must_use]
    pub fn left_command(&self) -> Option<(u32, &str)> {
        let Self::Process { host, pid, command, .. } = self else { return None };
        let is_watched = self.is_alive_here() && exists(*pid);
        command.filter(|_| !is_watched && !self.has_certainly_ended()).map(|command| (command, host.as_str()))
    }

    /// Whether this is a process of this host that has certainly ended, and its command too: their ids are free, or the host was
    /// started since.
    #[must_use]
    pub fn has_certainly_ended(&self) -> bool {
        let Self::Process { pid, boot, command, .. } = self else { return false };
        if !self.is_here() {
            return false;
        }
        match (boot, boot_id()) {
            (Some(then), Some(now)) if *then != now => true,
            // Without boot ids a process id says nothing: containers and clones reuse both names and ids.
            (Some(_), Some(_)) => !exists(*pid) && !command.is_some_and(exists),
            _ => false,
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run { run, job, .. } => write!(f, "run `{run}` of job `{job}`"),
            Self::Process { host, pid, .. } => write!(f, "process {pid} on {host}"),
            Self::ByHand { by } => write!(f, "{by}, by hand"),
        }
    }
}

fn host_name() -> String {
    gethostname::gethostname().to_string_lossy().into_owned()
}

fn machine_id() -> Option<String> {
    let id = std::fs::read_to_string("/etc/machine-id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

/// Which start of this host it is.
fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

/// Whether a process of this host is there and has not ended: one that its parent has not yet asked for its end runs nothing,
/// and stays for as long as a container lives whose first process asks for none.
fn exists(pid: u32) -> bool {
    use nix::errno::Errno;
    let Ok(id) = i32::try_from(pid) else { return false };
    // Another account's process answers that it may not be signalled: it exists.
    if nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), None) == Err(Errno::ESRCH) {
        return false;
    }
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state stands behind the program's name, which may hold anything.
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    !matches!(state, Some('Z' | 'X'))
}

/// Where the claims of a semaphore are.
pub(super) fn folder(semaphore: &NodePath) -> NodePath {
    let root = NodePath::parse(ROOT).expect("the root is a path");
    root.child("claims").child(&node_name(semaphore.as_str()))
}

/// Where the claim of an identifier is.
pub(super) fn place(semaphore: &NodePath, identifier: &str) -> NodePath {
    folder(semaphore).child(&node_name(identifier))
}

/// Where the records of all claims are.
fn records() -> NodePath {
    NodePath::parse(ROOT).expect("the root is a path").child("records")
}

/// The claim of an identifier; `None` if there is none, or what is there is no claim.
///
/// # Errors
/// As the store's.
pub(super) async fn read(
    store: &dyn Store,
    semaphore: &NodePath,
    identifier: &str,
) -> Result<Option<SeenClaim>, StoreError> {
    Ok(unless_missing(store.read(&place(semaphore, identifier)).await)?.and_then(|node| seen(&node)))
}

pub(super) fn seen(node: &crate::store::Node) -> Option<SeenClaim> {
    let claim = serde_json::from_slice(&node.data).ok()?;
    let stat = &node.stat;
    Some(SeenClaim { claim, version: stat.version, ephemeral: stat.ephemeral_owner.is_some(), since_ms: stat.mtime_ms })
}

/// Makes the folders that a semaphore's claims and their records stand in.
///
/// # Errors
/// What the store says, when trying again is of no use.
pub(super) async fn prepare(tools: &Tools, semaphore: &NodePath, backoff: &mut Backoff) -> Result<(), StoreError> {
    let (folder, records) = (folder(semaphore), records());
    // Bounded by the back-off.
    loop {
        // As a rule only the folder itself is missing.
        let both = [&folder, &records].map(|node| tools.store.create(node, Bytes::new(), NodeKind::Persistent));
        let mut made = Ok(());
        for (node, reply) in [&folder, &records].into_iter().zip(both) {
            let one = match reply.await {
                Ok(_) | Err(StoreError::NodeExists { .. }) => Ok(()),
                Err(StoreError::NoNode { .. }) => create_all(&*tools.store, node).await,
                Err(error) => Err(error),
            };
            made = made.and(one);
        }
        let error = match made {
            Ok(()) => return Ok(()),
            // The server that we ask is behind, or an operator deletes what is empty.
            Err(error @ (StoreError::NoNode { .. } | StoreError::Ambiguous { .. })) => {
                StoreError::Unavailable { reason: error.to_string() }
            }
            Err(error) => error,
        };
        backoff.after(error, tools).await?;
    }
}

/// The claims of one semaphore.
#[derive(Debug, Clone)]
pub struct Claims {
    store: Arc<dyn Store>,
    semaphore: NodePath,
}

impl Claims {
    /// The claims of that semaphore. Asks the store nothing.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, semaphore: NodePath) -> Self {
        Self { store, semaphore }
    }

    /// The claim of an identifier; `None` if nobody claims it. One round trip.
    ///
    /// # Errors
    /// As the store's.
    pub async fn of(&self, identifier: &str) -> Result<Option<SeenClaim>, StoreError> {
        read(&*self.store, &self.semaphore, identifier).await
    }

    /// The claims of those identifiers, by the leases that they name. One round trip.
    ///
    /// # Errors
    /// As the store's. A claim that this caller may not read counts as none.
    pub async fn of_leases(
        &self,
        identifiers: impl IntoIterator<Item = &str>,
    ) -> Result<HashMap<NodePath, SeenClaim>, StoreError> {
        let mut places: Vec<NodePath> = identifiers.into_iter().map(|name| place(&self.semaphore, name)).collect();
        places.sort();
        places.dedup();
        let replies: Vec<_> = places.iter().map(|place| self.store.read(place)).collect();
        let mut claims = HashMap::new();
        for reply in replies {
            match reply.await {
                Ok(node) => claims.extend(seen(&node).map(|seen| (seen.claim.lease.clone(), seen))),
                Err(StoreError::NoNode { .. } | StoreError::Refused { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(claims)
    }

    /// What deletes a lease that is known by its node, with its claim if it has one. One round trip.
    ///
    /// # Errors
    /// As the store's.
    pub async fn deletion(&self, identifier: &str, lease: &NodePath) -> Result<Deletion, StoreError> {
        let seen = self.of(identifier).await?.filter(|seen| seen.claim.lease == *lease);
        let claim = seen.map(|_| Claimed::new(&self.semaphore, identifier, lease));
        Ok(Deletion::new(lease.clone(), claim))
    }

    /// Deletes the persistent claims whose leases are gone: tools that do not know claims delete the lease alone. A claim
    /// that was written less than `older_than_ms` ago is left, since its owner may be about to delete it.
    ///
    /// # Errors
    /// As the store's; some may be deleted then.
    pub async fn sweep(&self, older_than_ms: u64) -> Result<u32, StoreError> {
        let folder = folder(&self.semaphore);
        let now = self.store.clock().now_ms();
        let mut swept = 0;
        for name in unless_missing(self.store.children(&folder).await)?.unwrap_or_default() {
            let path = folder.child(&name);
            // The claim before its lease: in the other order both may have been made in between.
            let Some(node) = unless_missing(self.store.read(&path).await)? else { continue };
            let Some(seen) = seen(&node).filter(|seen| !seen.ephemeral) else { continue };
            let is_old = seen.since_ms.saturating_add(older_than_ms) <= now;
            if is_old && self.store.stat(&seen.claim.lease).await?.is_none() {
                let record = records().child(seen.claim.lease.name());
                match self.store.multi(Claimed { path, record }.delete().into()).await {
                    Ok(_) => swept += 1,
                    Err(StoreError::Multi { source, .. }) if matches!(*source, StoreError::NoNode { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(swept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_read_as_it_was_written() {
        let lease = NodePath::parse("/locks/a/0123").unwrap();
        let owners = [
            Owner::Run { run: "r".into(), job: "j".into(), runner: "h:1".into() },
            Owner::Process { host: "h".into(), machine: None, pid: 7, boot: Some("b".into()), command: Some(8) },
            Owner::ByHand { by: "root@h".into() },
        ];
        for owner in owners {
            let claim = Claim { lease: lease.clone(), owner, forced: None };
            let text = serde_json::to_string(&claim).unwrap();
            assert_eq!(serde_json::from_str::<Claim>(&text).unwrap(), claim);
        }
    }

    #[test]
    fn every_path_and_identifier_has_a_place_of_its_own() {
        let path = |text: &str| NodePath::parse(text).unwrap();
        assert_eq!(place(&path("/a/b"), "web%1/x").as_str(), "/lockkeeper/claims/%2fa%2fb/web%251%2fx");
        assert_ne!(place(&path("/a/b"), "c"), place(&path("/a"), "b/c"));
        assert_eq!(place(&path("/a"), "..").as_str(), "/lockkeeper/claims/%2fa/%2e%2e");
    }

    #[test]
    fn a_process_of_this_host_has_ended_when_its_id_is_free_or_the_host_was_started_since() {
        let Owner::Process { host, machine, pid, boot, .. } = Owner::this_process() else { unreachable!() };
        let process =
            |pid, boot| Owner::Process { host: host.clone(), machine: machine.clone(), pid, boot, command: None };
        let free = i32::MAX as u32;
        let with = |command| match process(free, boot.clone()) {
            Owner::Process { host, machine, pid, boot, .. } => Owner::Process { host, machine, pid, boot, command },
            other => other,
        };
        let mut clone = process(free, boot.clone());
        if let Owner::Process { machine, .. } = &mut clone {
            *machine = Some("another".into());
        }
        assert!(!clone.has_certainly_ended() && !clone.is_alive_here(), "of a clone nothing is known");
        assert!(!with(Some(pid)).has_certainly_ended(), "its command runs on");
        assert!(with(Some(free)).has_certainly_ended());
        assert!(!process(pid, boot.clone()).has_certainly_ended());
        assert!(process(pid, Some("another".into())).has_certainly_ended());
        assert!(process(i32::MAX as u32, boot).has_certainly_ended());
        assert!(!process(i32::MAX as u32, None).has_certainly_ended());
    }

    /// In a container whose first process asks for nobody's end, a killed process stays until the container ends.
    #[test]
    fn a_process_whose_end_nobody_asked_for_has_ended() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        assert!(exists(child.id()));
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::Signal::SIGKILL)
            .unwrap();
        while !std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap().contains(") Z") {
            std::thread::yield_now();
        }
        let is_there = exists(child.id());
        child.wait().unwrap();
        assert!(!is_there);
    }
}
