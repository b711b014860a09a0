//! `lockkeeper holders`: the holders of the slots of a semaphore.

use std::num::NonZeroU32;
use std::sync::Arc;

use serde_json::{Value, json};

use super::args::{Global, HoldersArgs};
use super::exit::{Exit, Failure};
use super::output::{Output, moment};
use super::store::{Purpose, StoreChoice};
use crate::cli::table::Table;
use crate::terminal;
use lockkeeper_coordination::recipe::{
    Claims, Holder, Owner, ResizeError, SeenClaim, Semaphore, SemaphoreState, StoreId,
};
use lockkeeper_coordination::store::{Clock, StoreError};

pub(super) async fn run(global: &Global, output: &Output, args: HoldersArgs) -> Result<Exit, Failure> {
    let store = StoreChoice::new(global, output, None, Purpose::Look)?.session().await?;
    let semaphore = Semaphore::new(Arc::clone(&store), args.path.clone(), NonZeroU32::MIN);
    let (state, _) = semaphore.observe().await?;
    if let Some(nested) = state.nested(&args.path) {
        return Err(ResizeError::Nested(nested).into());
    }
    let SemaphoreState { slots, holders, queued, .. } = state;
    let held = Held::all(&Claims::new(Arc::clone(&store), args.path.clone()), holders).await?;
    let store_id = StoreId::look(store.as_ref()).await?;
    store.close().await?;
    if output.is_json() {
        output.json(&json!({
            "store-id": store_id,
            "slots": slots,
            "waiting": queued,
            "holders": held.iter().map(Held::json).collect::<Vec<_>>(),
        }));
        return Ok(Exit::Done);
    }
    output.talk("Found", &summary(slots, held.len(), queued, &args.path.to_string()));
    print(output, &held);
    Ok(Exit::Done)
}

/// "3 of 4 slots, 2 waiting".
pub(super) fn summary(slots: Option<u32>, held: usize, waiting: u32, path: &str) -> String {
    match slots {
        Some(slots) => format!("{held} of {slots} slots of `{path}` held, {waiting} waiting"),
        None if held == 0 => {
            format!("no slot of `{path}` held, {waiting} waiting; its number of slots is not set")
        }
        None => {
            let children = if held == 1 { "child counts as a lease" } else { "children count as leases" };
            format!("`{path}` has no valid number of slots; {held} {children}, {waiting} waiting")
        }
    }
}

/// The table of holders, if there are any.
pub(super) fn print(output: &Output, held: &[Held]) {
    if held.is_empty() {
        return;
    }
    let now = Clock::System.now_ms();
    let mut table = Table::with_header(["HOLDER", "SINCE", "FENCE", "LEASE", "OWNER"]);
    for one in held {
        let Held { holder, claim } = one;
        let kind = if holder.ephemeral { "ephemeral" } else { "persistent" };
        let forced = claim.as_ref().and_then(|seen| seen.claim.forced.as_ref());
        let kind =
            forced.map_or(kind.to_owned(), |forced| format!("{kind}, forced by {}: {}", forced.by, forced.reason));
        let owner = one.owner().map_or_else(String::new, ToString::to_string);
        let (since, fence) = (moment(holder.since_ms, now), holder.fence.to_string());
        table.row([terminal::value(&holder.identifier), since, fence, terminal::value(&kind), terminal::value(&owner)]);
    }
    output.table(&table);
}

/// A lease and its owner.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) holder: Holder,
    claim: Option<SeenClaim>,
}

impl Held {
    /// The claims of those leases, in one round trip.
    pub(super) async fn all(claims: &Claims, holders: Vec<Holder>) -> Result<Vec<Self>, StoreError> {
        let mut claims = claims.of_leases(holders.iter().map(|holder| holder.identifier.as_str())).await?;
        Ok(holders.into_iter().map(|holder| Self { claim: claims.remove(&holder.path), holder }).collect())
    }

    /// Its owner; `None` if it has no claim: a tool that knows none, or a command without one took it.
    pub(super) fn owner(&self) -> Option<&Owner> {
        self.claim.as_ref().map(|seen| &seen.claim.owner)
    }

    /// The identifier, and the owner of the lease if it is known.
    pub(super) fn who(&self) -> String {
        let identifier = terminal::value(&self.holder.identifier);
        match self.owner() {
            Some(owner) => format!("`{identifier}` ({})", terminal::value(&owner.to_string())),
            None => format!("`{identifier}`"),
        }
    }

    pub(super) fn json(&self) -> Value {
        let Self { holder, claim } = self;
        json!({
            "identifier": holder.identifier,
            "since": holder.since_ms,
            "fence": holder.fence,
            "ephemeral": holder.ephemeral,
            "owner": self.owner(),
            "forced": claim.as_ref().and_then(|seen| seen.claim.forced.as_ref()),
        })
    }
}
