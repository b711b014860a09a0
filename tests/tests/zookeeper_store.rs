//! Every promise of the store and of the recipes, on a real ZooKeeper server.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lockkeeper_coordination::store::conformance::Subject;
use lockkeeper_coordination::store::{Connect, Reply, SessionId, Store};
use lockkeeper_coordination::zookeeper::{Hosts, ZooKeeper, ZooKeeperOptions};
use lockkeeper_tests::proxy::Proxy;
use lockkeeper_tests::zookeeper;

/// How long the store keeps a silent session's nodes.
const SESSION: Duration = Duration::from_secs(2);

/// A server with a connection for each session that can be cut on its own.
#[derive(Debug, Default)]
struct Lines {
    of: Mutex<HashMap<SessionId, Proxy>>,
}

#[derive(Debug, Clone, Default)]
struct OnAServer(Arc<Lines>);

fn options(hosts: &str) -> ZooKeeperOptions {
    ZooKeeperOptions { session_timeout: SESSION, ..ZooKeeperOptions::new(Hosts::parse(hosts).unwrap()) }
}

impl Connect for Lines {
    fn connect(&self) -> Reply<Arc<dyn Store>> {
        let proxy = Proxy::start(zookeeper::shared().address());
        let connecting = ZooKeeper::new(options(&proxy.address().to_string())).connect();
        // A session has a number only once it is there.
        let lines = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(connecting));
        let opened = lines.inspect(|store| drop(self.of.lock().unwrap().insert(store.session_id(), proxy)));
        Box::pin(async move { opened })
    }
}

impl Subject for OnAServer {
    fn connector(&self) -> Arc<dyn Connect> {
        Arc::clone(&self.0) as Arc<dyn Connect>
    }

    fn silence(&self, session: &dyn Store) -> Reply<()> {
        self.0.of.lock().unwrap()[&session.session_id()].partition();
        Box::pin(async { Ok(()) })
    }
}

mod promises {
    use super::OnAServer;

    lockkeeper_coordination::conformance_tests!(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        OnAServer::default()
    );
}

/// An empty store: a part of the server that no other test uses.
fn corner() -> Arc<ZooKeeper> {
    let corner = format!("{}/corner-{}", zookeeper::shared().hosts(), uuid::Uuid::new_v4().simple());
    Arc::new(ZooKeeper::new(options(&corner)))
}

mod behaviour {
    lockkeeper_coordination::behaviour_tests!(super::corner());
}
