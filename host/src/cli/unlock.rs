//! `lockkeeper unlock`: give a slot back.

use std::num::NonZeroU32;
use std::sync::Arc;

use serde_json::json;

use super::exit::{ErrorKind, Exit, Failure};
use super::output::{Output, shown};
use super::{Global, UnlockArgs, context};
use crate::recipe::{Semaphore, Unlocked};

pub(super) async fn run(global: &Global, output: &Output, args: UnlockArgs) -> Result<Exit, Failure> {
    let identifier = context::identifier(args.identifier)?;
    let store = global.open(output).await?;
    let semaphore = Semaphore::new(Arc::clone(&store), args.path.clone(), NonZeroU32::MIN);
    let Unlocked { released, left } = semaphore.unlock(&identifier).await?;
    store.close().await?;
    if released > 0 {
        let more = if released > 1 { format!(", {released} leases") } else { String::new() };
        output.talk("Released", &format!("`{}` as {identifier}{more}", args.path));
        if output.is_json() {
            output.json(&json!({ "path": args.path, "identifier": identifier.as_str(), "released": released }));
        }
        return Ok(Exit::Done);
    }
    let path = &args.path;
    let (ours, others): (Vec<_>, Vec<_>) = left.iter().partition(|holder| holder.identifier == identifier.as_str());
    if !ours.is_empty() {
        let message =
            format!("`{path}` is held by `{identifier}` only for as long as a command runs: its lease is ephemeral");
        return Err(Failure::message(ErrorKind::NotHeld, message).hint("stop that command, and the slot is free"));
    }
    let mut names: Vec<String> = others.iter().map(|holder| format!("`{}`", shown(&holder.identifier))).collect();
    names.dedup();
    Err(match names.as_slice() {
        [] => Failure::message(ErrorKind::NotHeld, format!("`{path}` has no lease of `{identifier}`: nobody holds it")),
        names => {
            let held = names.join(", ");
            let message = format!("`{path}` has no lease of `{identifier}`: it is held by {held}");
            Failure::message(ErrorKind::NotHeld, message).hint("`--identifier NAME` gives back another's")
        }
    })
}
