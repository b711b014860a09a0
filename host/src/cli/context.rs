//! Where everything is put together: the store, the policy engine and the folders that the flags ask for.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use directories::ProjectDirs;

use super::Global;
use super::exit::{ErrorKind, Exit, Failure};
use crate::policy::{Engine, EngineOptions, Limits};
use crate::recipe::Identifier;
use crate::store::embedded::{Embedded, EmbeddedOptions};
use crate::store::{Connect, Store};

/// Threads for what a command does beside its main one.
const WORKERS: usize = 2;

/// The embedded store's file in the state folder.
const STORE_FILE: &str = "store.db";

/// Runs a command's future on a runtime of its own. What is not spawned runs on this thread: a child that must die with
/// its parent is started by a thread that lives as long.
pub(super) fn block_on(command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(ErrorKind::Internal, error))?;
    let outcome = runtime.block_on(command);
    runtime.shutdown_background();
    outcome
}

impl Global {
    /// Where the embedded store, journals and compiled policies are kept.
    pub(super) fn state_dir(&self) -> Result<PathBuf, Failure> {
        if let Some(folder) = &self.state_dir {
            return Ok(folder.clone());
        }
        let ours = ProjectDirs::from("", "", "lockkeeper")
            .and_then(|ours| ours.state_dir().or(Some(ours.data_local_dir())).map(ToOwned::to_owned));
        ours.ok_or_else(|| {
            Failure::message(ErrorKind::BadArgument, "there is no home folder to keep state in")
                .hint("say where with --state-dir or LOCKKEEPER_STATE_DIR")
        })
    }

    /// What opens sessions with the store that the flags ask for.
    pub(super) fn connect(&self) -> Result<Arc<dyn Connect>, Failure> {
        let file = match &self.store {
            Some(file) => file.clone(),
            None => self.state_dir()?.join(STORE_FILE),
        };
        let options = EmbeddedOptions { session_timeout: self.session_timeout };
        Ok(Arc::new(Embedded::new(file, options)))
    }

    /// A session with it.
    pub(super) async fn open(&self) -> Result<Arc<dyn Store>, Failure> {
        session(self.connect()?.as_ref()).await
    }

    /// The policy engine.
    pub(super) fn engine(&self) -> Result<Engine, Failure> {
        let cache = match self.no_cache {
            true => None,
            false => Some(self.state_dir()?.join("compiled")),
        };
        Ok(Engine::new(&EngineOptions { limits: Limits::DEFAULT, cache })?)
    }
}

/// A session with the store.
pub(super) async fn session(connect: &dyn Connect) -> Result<Arc<dyn Store>, Failure> {
    connect
        .connect()
        .await
        .map_err(|error| Failure::from(error).hint("`--store FILE` or `--state-dir DIR` says where the store is"))
}

/// Who we are: what was said, or the host's name.
pub(super) fn identifier(given: Option<Identifier>) -> Result<Identifier, Failure> {
    if let Some(identifier) = given {
        return Ok(identifier);
    }
    let name = gethostname::gethostname();
    Identifier::new(name.to_string_lossy()).map_err(|error| {
        Failure::message(ErrorKind::BadArgument, format!("the host's name is no identifier: {error}"))
            .hint("say who holds the lease with --identifier")
    })
}
