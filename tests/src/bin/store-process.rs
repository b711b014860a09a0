//! One process on an embedded store, for tests to start, stop and kill: it executes the commands on its standard input,
//! and answers each with a line. `store-process FILE SESSION_TIMEOUT_MS`
//!
//! Commands: `create PATH persistent|ephemeral`, `set PATH DATA`, `delete PATH`, `add PATH COUNT`, `watch PATH`,
//! `fired`, `state`, `cpu`, `close`. It ends with its input.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use lockkeeper_coordination::embedded::{Embedded, EmbeddedOptions};
use lockkeeper_coordination::store::{Connect as _, NodeKind, NodePath, Store, StoreError, Version, Watch};
use nix::sys::resource::{UsageWho, getrusage};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().context("the store's file is missing")?;
    let timeout = arguments.next().context("the session's time-out is missing")?.parse()?;
    let options = EmbeddedOptions { session_timeout: Duration::from_millis(timeout) };
    // The store has threads of its own, so that this one may sleep in a read.
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let store = runtime.block_on(Embedded::new(file, options).connect())?;
    let mut out = std::io::stdout();
    writeln!(out, "connected {}", store.session_id().0)?;
    let mut watch = None;
    for line in std::io::stdin().lines() {
        match runtime.block_on(act(store.as_ref(), &line?, &mut watch)) {
            Ok(answer) => writeln!(out, "{answer}")?,
            Err(error) => writeln!(out, "error: {error:#}")?,
        }
    }
    Ok(())
}

async fn act(store: &dyn Store, line: &str, watch: &mut Option<Watch>) -> Result<String> {
    let words: Vec<_> = line.split_whitespace().collect();
    Ok(match words[..] {
        ["create", path, kind] => {
            let kind = if kind == "ephemeral" { NodeKind::Ephemeral } else { NodeKind::Persistent };
            store.create(&NodePath::parse(path)?, Bytes::new(), kind).await?.to_string()
        }
        ["set", path, data] => {
            let data = Bytes::copy_from_slice(data.as_bytes());
            store.set(&NodePath::parse(path)?, data, Version::Any).await?.version.to_string()
        }
        ["delete", path] => {
            store.delete(&NodePath::parse(path)?, Version::Any).await?;
            String::from("deleted")
        }
        ["add", path, count] => {
            let path = NodePath::parse(path)?;
            for _ in 0..count.parse::<u32>()? {
                add_one(store, &path).await?;
            }
            String::from("added")
        }
        ["watch", path] => {
            let (_, set) = store.stat_and_watch(&NodePath::parse(path)?).await?;
            *watch = Some(set);
            String::from("watching")
        }
        ["fired"] => format!("{:?}", watch.as_mut().context("no watch was set")?.fired().await),
        ["state"] => format!("{:?}", *store.session().borrow()),
        ["cpu"] => {
            let usage = getrusage(UsageWho::RUSAGE_SELF)?;
            let (user, system) = (usage.user_time(), usage.system_time());
            let micros = |time: nix::sys::time::TimeVal| time.tv_sec() * 1_000_000 + time.tv_usec();
            (micros(user) + micros(system)).to_string()
        }
        ["close"] => {
            store.close().await?;
            String::from("closed")
        }
        _ => bail!("`{line}` is not a command"),
    })
}

/// Adds one to the number in a node, with the version that was read.
async fn add_one(store: &dyn Store, path: &NodePath) -> Result<()> {
    loop {
        let node = store.read(path).await?;
        let number: u64 = std::str::from_utf8(&node.data)?.parse()?;
        let data = Bytes::from((number + 1).to_string());
        match store.set(path, data, Version::Exactly(node.stat.version)).await {
            Ok(_) => return Ok(()),
            Err(StoreError::BadVersion { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
