//! `lockkeeper unlock`: release a lease that was taken without a command.

use std::num::NonZeroU32;
use std::sync::Arc;

use serde_json::json;

use super::args::{Global, UnlockArgs};
use super::caller;
use super::exit::{ErrorKind, Exit, Failure};
use super::output::{Output, moment, shown};
use super::store::{Purpose, StoreChoice};
use lockkeeper_coordination::recipe::{Claims, Owner, Semaphore, Unlocked};
use lockkeeper_coordination::store::Clock;

/// A claim that is younger is not swept: its owner may be about to replace it.
const SWEPT_AFTER_MS: u64 = 60 * 60 * 1000;

pub(super) async fn run(global: &Global, output: &Output, args: UnlockArgs) -> Result<Exit, Failure> {
    let identifier = caller::identifier(args.identifier.clone())?;
    let store = StoreChoice::new(global, output, None, Purpose::Look)?.session().await?;
    let semaphore = Semaphore::new(Arc::clone(&store), args.path.clone(), NonZeroU32::MIN);
    let path = &args.path;
    if let Some(reason) = args.reason.as_ref().filter(|_| args.force) {
        let claims = Claims::new(Arc::clone(&store), path.clone()).of_leases([identifier.as_str()]).await?;
        let broken = semaphore.break_leases(&identifier, &caller::person(), reason).await?;
        store.close().await?;
        if broken.is_empty() {
            return Err(Failure::message(ErrorKind::NotHeld, format!("`{path}` has no lease of `{identifier}`")));
        }
        output.warn(&format!("broke {} of `{path}` under `{identifier}`: {reason}", leases(broken.len())));
        let owners = broken.iter().filter_map(|holder| Some(&claims.get(&holder.path)?.claim.owner));
        for (command, host) in owners.filter_map(Owner::left_command) {
            output.warn(&format!(
                "the lease's command, process {command} on {host}, may still be running, and no `lockkeeper` process \
                 can stop it; make sure that it has ended"
            ));
        }
        if output.is_json() {
            output.json(&json!({ "path": path, "identifier": identifier.as_str(), "broken": broken.len() }));
        }
        return Ok(Exit::Done);
    }
    let Unlocked { released, owned, left } = semaphore.unlock(&identifier).await?;
    if released == 0 {
        // Claims of leases that other tools deleted; without rights below the root there are none of ours.
        let _ = Claims::new(Arc::clone(&store), path.clone()).sweep(SWEPT_AFTER_MS).await;
    }
    store.close().await?;
    if released > 0 {
        let more = if released > 1 { format!(", {}", leases(released as usize)) } else { String::new() };
        output.talk("Released", &format!("`{path}` as {identifier}{more}"));
        if output.is_json() {
            output.json(&json!({ "path": path, "identifier": identifier.as_str(), "released": released }));
        }
        return Ok(Exit::Done);
    }
    if let Some((holder, owner)) = owned.first() {
        let since = moment(holder.since_ms, Clock::System.now_ms());
        let message = format!("the lease of `{path}` under `{identifier}` belongs to {owner} since {since}");
        return Err(Failure::message(ErrorKind::Owned, message).hint(
            "its owner releases it when it has finished; with `--force --reason TEXT` this command breaks it, and a living \
             owner stops what runs under it",
        ));
    }
    let (ours, others): (Vec<_>, Vec<_>) = left.iter().partition(|holder| holder.identifier == identifier.as_str());
    if !ours.is_empty() {
        let message = format!(
            "the lease of `{path}` under `{identifier}` is ephemeral: it belongs to the process that holds it, and \
             ends with it"
        );
        return Err(Failure::message(ErrorKind::Owned, message).hint(
            "stop that process; with `--force --reason TEXT` this command breaks the lease, and the process \
             stops what it runs",
        ));
    }
    let mut names: Vec<String> = others.iter().map(|holder| format!("`{}`", shown(&holder.identifier))).collect();
    names.dedup();
    Err(match names.as_slice() {
        [] => Failure::message(ErrorKind::NotHeld, format!("`{path}` has no lease of `{identifier}`: no slot is held")),
        names => {
            let held = names.join(", ");
            let message = format!("`{path}` has no lease of `{identifier}`: it is held by {held}");
            Failure::message(ErrorKind::NotHeld, message).hint("`--identifier NAME` names another holder's lease")
        }
    })
}

fn leases(count: usize) -> String {
    super::output::of(count, "lease")
}
