//! `lockkeeper party`: who is alive, and being so.

use std::sync::Arc;

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::time::Instant;

use super::exit::{ErrorKind, Exit, Failure};
use super::holders::{plain, trimmed};
use super::output::{Output, moment};
use super::signals::{Signals, Wish};
use super::under::{Bond, Running};
use super::{Global, JoinArgs, MembersArgs, context};
use crate::recipe::{Identifier, Membership, Party, Patience};
use crate::store::{Connect, Store};

/// How long after a session that could not be opened the next is tried.
const BETWEEN_SESSIONS: std::time::Duration = std::time::Duration::from_secs(1);

pub(super) async fn members(global: &Global, output: &Output, args: MembersArgs) -> Result<Exit, Failure> {
    let store = global.open().await?;
    let party = Party::new(Arc::clone(&store), args.path.clone());
    let members = match args.min_nodes {
        None => party.members().await?,
        Some(min) => {
            let patience = args.timeout.map_or(Patience::Forever, |timeout| Patience::Until(Instant::now() + timeout));
            let mut signals = Signals::new()?;
            tokio::select! {
                members = party.wait_for(min, patience) => members?,
                wish = signals.next() => return Ok(Exit::Command(wish.code())),
            }
        }
    };
    let now = store.clock().now_ms();
    store.close().await?;
    if output.is_json() {
        let rows: Vec<_> =
            members.iter().map(|member| json!({ "identifier": member.identifier, "since": member.since_ms })).collect();
        output.json(&rows);
        return Ok(Exit::Done);
    }
    output.talk("Found", &format!("{} members of `{}`", members.len(), args.path));
    if !members.is_empty() {
        let mut table = Table::new();
        table.load_style(NOTHING).set_header(["MEMBER", "SINCE"]);
        for member in &members {
            table.add_row([plain(&member.identifier), moment(member.since_ms, now)]);
        }
        output.data(&trimmed(&table));
    }
    Ok(Exit::Done)
}

pub(super) async fn join(global: &Global, output: &Output, args: JoinArgs) -> Result<Exit, Failure> {
    let identifier = context::identifier(args.identifier.clone())?;
    let mut signals = Signals::new()?;
    let connect = global.connect()?;
    let mut joined = Joined::new(connect.as_ref(), &args, &identifier).await?;
    output.talk("Joined", &format!("`{}` as {identifier}", args.path));
    let mut running = match args.command.is_empty() {
        true => None,
        false => Some(start(output, &args, &identifier)?),
    };
    let outcome = loop {
        tokio::select! {
            exit = ended(&mut running) => break exit,
            _ = joined.membership.lost() => {
                output.warn(&format!("the membership of `{}` was lost", args.path));
                joined = rejoined(connect.as_ref(), &args, &identifier).await?;
                output.talk("Joined", &format!("`{}` again as {identifier}", args.path));
            }
            wish = signals.next() => match (&running, wish) {
                (Some(running), Wish::Interrupt) => running.interrupt(),
                (Some(running), Wish::Terminate) => running.signal(Signal::SIGTERM),
                (None, _) => break Ok(Exit::Done),
            },
        }
    };
    joined.leave().await?;
    output.talk("Left", &format!("`{}`", args.path));
    outcome
}

/// A membership and the session that it lives in.
struct Joined {
    store: Arc<dyn Store>,
    membership: Membership,
}

impl Joined {
    async fn new(connect: &dyn Connect, args: &JoinArgs, identifier: &Identifier) -> Result<Self, Failure> {
        let store = connect.connect().await?;
        let membership = Party::new(Arc::clone(&store), args.path.clone()).join(identifier, args.kind.into()).await?;
        Ok(Self { store, membership })
    }

    async fn leave(self) -> Result<(), Failure> {
        self.membership.leave().await?;
        self.store.close().await?;
        Ok(())
    }
}

/// Joins again, for as long as the store only cannot be reached.
async fn rejoined(connect: &dyn Connect, args: &JoinArgs, identifier: &Identifier) -> Result<Joined, Failure> {
    loop {
        match Joined::new(connect, args, identifier).await {
            Err(failure) if failure.kind == ErrorKind::Unavailable => tokio::time::sleep(BETWEEN_SESSIONS).await,
            joined => return joined,
        }
    }
}

fn start(output: &Output, args: &JoinArgs, identifier: &Identifier) -> Result<Running, Failure> {
    let environment = [("LOCKKEEPER_PARTY", args.path.to_string()), ("LOCKKEEPER_IDENTIFIER", identifier.to_string())];
    Running::start(&args.command, &environment, Bond::Tied(output.format()))
}

async fn ended(running: &mut Option<Running>) -> Result<Exit, Failure> {
    match running {
        Some(running) => running.wait().await,
        None => std::future::pending().await,
    }
}
