//! `lockkeeper party`: the members of a party, and membership.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::args::{Global, JoinArgs, MembersArgs};
use super::caller;
use super::exit::{ErrorKind, Exit, Failure};
use super::output::{Output, moment, of};
use super::signals::Signals;
use super::store::{Purpose, StoreChoice};
use super::supervisor::{Bond, Running};
use crate::cli::table::Table;
use crate::terminal;
use lockkeeper_coordination::recipe::{self, Identifier, Membership, Party, Patience};
use lockkeeper_coordination::store::Store;

/// How long after a session that could not be opened the next is tried.
const BETWEEN_SESSIONS: Duration = Duration::from_secs(1);

/// How long a command has between SIGTERM and SIGKILL when it can be no member any more.
const KILL_AFTER: Duration = Duration::from_secs(10);

pub(super) async fn members(global: &Global, output: &Output, args: MembersArgs) -> Result<Exit, Failure> {
    let wanted = match args.blocking {
        Some(true) => Some(args.min_nodes.unwrap_or(1)),
        Some(false) => None,
        None => args.min_nodes,
    };
    let looked = look(global, output, &args, wanted);
    let (members, now) = match wanted {
        None => looked.await?,
        Some(_) => match Signals::new()?.or(looked).await {
            Ok(looked) => looked?,
            Err(request) => return Ok(request.exit()),
        },
    };
    if output.is_json() {
        let rows: Vec<_> =
            members.iter().map(|member| json!({ "identifier": member.identifier, "since": member.since_ms })).collect();
        output.json(&rows);
        return Ok(Exit::Done);
    }
    output.talk("Found", &format!("{} of `{}`", of(members.len(), "member"), args.path));
    if !members.is_empty() {
        let mut table = Table::with_header(["MEMBER", "SINCE"]);
        for member in &members {
            table.row([terminal::value(&member.identifier), moment(member.since_ms, now)]);
        }
        output.table(&table);
    }
    Ok(Exit::Done)
}

/// The members, once there are as many as `wanted`, and the store's time.
async fn look(
    global: &Global,
    output: &Output,
    args: &MembersArgs,
    wanted: Option<usize>,
) -> Result<(Vec<recipe::Member>, u64), Failure> {
    let deadline = args.timeout.map(|timeout| Instant::now() + timeout);
    let mut choice = StoreChoice::new(global, output, None, Purpose::Look)?;
    if wanted.is_some() {
        choice.exists(deadline).await;
    }
    let store = choice.session().await?;
    let party = Party::new(Arc::clone(&store), args.path.clone());
    let members = match wanted {
        None => party.members().await?,
        Some(min) => party.wait_for(min, deadline.map_or(Patience::Forever, Patience::Until)).await?,
    };
    let now = store.clock().now_ms();
    store.close().await?;
    Ok((members, now))
}

pub(super) async fn join(global: &Global, output: &Output, args: JoinArgs) -> Result<Exit, Failure> {
    let identifier = caller::identifier(args.identifier.clone())?;
    let mut signals = if args.command.is_empty() { Signals::new()? } else { Signals::for_a_command()? };
    let choice = StoreChoice::new(global, output, None, Purpose::Use)?;
    let first = match signals.or(Joined::new(&choice, &args, &identifier)).await {
        Ok(joined) => joined?,
        Err(request) => return Ok(request.exit()),
    };
    let mut member = Member { choice: &choice, output, args: &args, identifier: &identifier, joined: Some(first) };
    member.announce("Joined");
    let outcome = if args.command.is_empty() {
        tokio::select! {
            failure = member.stay() => Err(failure),
            _ = signals.next() => Ok(Exit::Done),
        }
    } else {
        while_it_runs(&mut member, &mut signals).await
    };
    if let Some(joined) = member.joined.take() {
        joined.leave().await?;
    }
    output.talk("Left", &format!("`{}`", args.path));
    outcome
}

async fn while_it_runs(member: &mut Member<'_>, signals: &mut Signals) -> Result<Exit, Failure> {
    let mut running = start(member.output, member.args, member.identifier)?;
    loop {
        tokio::select! {
            exit = running.wait() => return exit,
            failure = member.stay() => {
                running.stop(Instant::now() + KILL_AFTER).await;
                return Err(failure);
            }
            request = signals.next() => running.pass(request),
        }
    }
}

/// A membership and the session that it lives in.
struct Joined {
    store: Arc<dyn Store>,
    membership: Membership,
}

impl Joined {
    async fn new(choice: &StoreChoice, args: &JoinArgs, identifier: &Identifier) -> Result<Self, Failure> {
        let store = choice.session().await?;
        let membership = Party::new(Arc::clone(&store), args.path.clone()).join(identifier, args.kind.into()).await?;
        Ok(Self { store, membership })
    }

    async fn leave(self) -> Result<(), Failure> {
        self.membership.leave().await?;
        self.store.close().await?;
        Ok(())
    }
}

/// A member that joins again when its membership is lost.
struct Member<'a> {
    choice: &'a StoreChoice,
    output: &'a Output,
    args: &'a JoinArgs,
    identifier: &'a Identifier,
    joined: Option<Joined>,
}

impl Member<'_> {
    /// Joins again whenever the membership is lost, for as long as the store only cannot be reached. Ends only with a
    /// failure.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    async fn stay(&mut self) -> Failure {
        loop {
            if let Some(joined) = &self.joined {
                joined.membership.lost().await;
                self.joined = None;
                self.output.warn(&format!("the membership in `{}` was lost", self.args.path));
            }
            match Joined::new(self.choice, self.args, self.identifier).await {
                Ok(joined) => {
                    self.joined = Some(joined);
                    self.announce("Rejoined");
                }
                Err(failure) if failure.kind == ErrorKind::Unavailable => tokio::time::sleep(BETWEEN_SESSIONS).await,
                Err(failure) => return failure,
            }
        }
    }

    fn announce(&self, verb: &str) {
        self.output.talk(verb, &format!("`{}` as {}", self.args.path, self.identifier));
        // What a command writes on stdout is the command's.
        if self.output.is_json() && self.args.command.is_empty() {
            self.output
                .json(&json!({ "path": self.args.path, "identifier": self.identifier.as_str(), "joined": true }));
        }
    }
}

fn start(output: &Output, args: &JoinArgs, identifier: &Identifier) -> Result<Running, Failure> {
    let environment = [("LOCKKEEPER_PARTY", args.path.to_string()), ("LOCKKEEPER_IDENTIFIER", identifier.to_string())];
    Running::start(&args.command, &environment, Bond::Tied(output.format()))
}
