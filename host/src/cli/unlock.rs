//! `lockkeeper unlock`: give a slot back.

use std::num::NonZeroU32;
use std::sync::Arc;

use serde_json::json;

use super::exit::{ErrorKind, Exit, Failure};
use super::output::Output;
use super::{Global, UnlockArgs, context};
use crate::recipe::{Semaphore, Unlocked};

pub(super) async fn run(global: &Global, output: &Output, args: UnlockArgs) -> Result<Exit, Failure> {
    let identifier = context::identifier(args.identifier)?;
    let store = global.open().await?;
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
    let ephemeral = left.iter().filter(|holder| holder.ephemeral && holder.identifier == identifier.as_str()).count();
    let others: Vec<&str> =
        left.iter().map(|holder| holder.identifier.as_str()).filter(|other| *other != identifier.as_str()).collect();
    let found = match (others.is_empty(), ephemeral) {
        (_, 1..) => format!("{identifier} holds it until its session ends: its lease is ephemeral"),
        (true, 0) => "nobody holds it".to_owned(),
        (false, 0) => format!("held by {}", others.join(", ")),
    };
    let failure =
        Failure::message(ErrorKind::NotHeld, format!("`{}` has no lease of {identifier}: {found}", args.path));
    Err(match others.is_empty() {
        true => failure,
        false => failure.hint("name another holder with --identifier"),
    })
}
