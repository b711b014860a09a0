//! The server, the delay before it, and what is seen of it from outside.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use lockkeeper_coordination::store::{Connect, NodeKind, NodePath, Store, Version, create_all};
use lockkeeper_coordination::zookeeper::{Hosts, ZooKeeper, ZooKeeperOptions};
use lockkeeper_tests::proxy::Proxy;
use lockkeeper_tests::zookeeper::{Durability, Options, Server};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::figures::quantile;

/// How often a round trip is measured.
const ROUND_TRIPS: usize = 31;

/// How often the leases are counted while others work.
const SAMPLE: Duration = Duration::from_millis(2);

/// A server that is not there for a test's moment: it may compile what runs often, and has room.
const JAVA: [&str; 4] = ["-Xmx1g", "-Xms512m", "-XX:TieredStopAtLevel=4", "-Dzookeeper.preAllocSize=65536"];

/// How the names of leases begin that we make.
const OURS: &str = "0000000000000000";

/// One server, and our own eyes on it.
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) fsync: bool,
    runtime: Runtime,
    eyes: Arc<dyn Store>,
}

/// The server's own counters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counters {
    pub(crate) packets: i64,
    pub(crate) transactions: i64,
}

/// How many leases there were.
pub(crate) struct Samples {
    leases: JoinHandle<()>,
    seen: Arc<std::sync::Mutex<Vec<usize>>>,
}

impl World {
    pub(crate) fn start(fsync: bool) -> Result<Self> {
        let server = Server::start_with(&Options {
            tick: Duration::from_millis(500),
            durability: if fsync { Durability::Fsync } else { Durability::Quick },
            java: JAVA.map(str::to_owned).to_vec(),
            ..Options::default()
        });
        let runtime = Runtime::new()?;
        let mut options = ZooKeeperOptions::new(Hosts::parse(&server.hosts())?);
        // Its heart-beats are rare.
        options.session_timeout = Duration::from_secs(60);
        let eyes = runtime.block_on(ZooKeeper::new(options).connect())?;
        Ok(Self { server, fsync, runtime, eyes })
    }

    pub(crate) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// The server, behind a delay where there is one.
    pub(crate) fn behind(&self, round_trip: Duration) -> Option<Proxy> {
        (!round_trip.is_zero()).then(|| {
            let proxy = Proxy::start(self.server.address());
            proxy.delay(round_trip / 2);
            proxy
        })
    }

    /// Milliseconds that a read takes with `hosts`, in the middle.
    pub(crate) fn round_trip_ms(&self, hosts: &str) -> Result<f64> {
        self.wait(async {
            let session = ZooKeeper::new(ZooKeeperOptions::new(Hosts::parse(hosts)?)).connect().await?;
            let mut times = Vec::new();
            for _ in 0..ROUND_TRIPS {
                let began = Instant::now();
                session.stat(&NodePath::root()).await?;
                times.push(began.elapsed().as_secs_f64() * 1000.0);
            }
            session.close().await?;
            quantile(times.into_iter(), 0.5).context("it was measured")
        })
    }

    /// Milliseconds that a write takes, in the middle.
    pub(crate) fn write_ms(&self) -> Result<f64> {
        self.wait(async {
            let path = NodePath::parse("/written")?;
            create_all(&*self.eyes, &path).await?;
            let mut times = Vec::new();
            for _ in 0..ROUND_TRIPS {
                let began = Instant::now();
                self.eyes.set(&path, Bytes::from_static(b"x"), Version::Any).await?;
                times.push(began.elapsed().as_secs_f64() * 1000.0);
            }
            quantile(times.into_iter(), 0.5).context("it was measured")
        })
    }

    /// The counters now. To ask is a packet, which is taken off.
    pub(crate) fn counters(&self) -> Result<Counters> {
        let said = self.server.word("srvr")?;
        let field = |name: &str| said.lines().find_map(|line| line.strip_prefix(name)).with_context(|| said.clone());
        let packets = field("Received: ")?.trim().parse()?;
        let transactions = i64::from_str_radix(field("Zxid: 0x")?.trim(), 16)?;
        Ok(Counters { packets, transactions })
    }

    /// The version that the server says it has.
    pub(crate) fn version(&self) -> Result<String> {
        let said = self.server.word("srvr")?;
        let version = said.lines().find_map(|line| line.strip_prefix("Zookeeper version: ")).context("no version")?;
        Ok(version.split(['-', ',']).next().unwrap_or(version).to_owned())
    }

    pub(crate) fn children(&self, path: &NodePath) -> usize {
        self.wait(self.eyes.children(path)).map_or(0, |children| children.len())
    }

    /// Makes a semaphore with so many leases.
    pub(crate) fn make_leases(&self, path: &NodePath, count: u32) -> Result<()> {
        self.wait(async {
            if let Some(parent) = path.parent() {
                create_all(&*self.eyes, &parent).await?;
            }
            self.eyes.create(path, Bytes::from(count.to_string()), NodeKind::Persistent).await?;
            let made: Vec<_> = (0..count)
                .map(|number| {
                    let lease = path.child(&format!("{OURS}{number:016x}"));
                    self.eyes.create(&lease, Bytes::from(format!("web{number:04}.example.org")), NodeKind::Persistent)
                })
                .collect();
            for reply in made {
                reply.await?;
            }
            Ok(())
        })
    }

    /// Deletes them, and says how many requests that took.
    pub(crate) fn break_leases(&self, path: &NodePath) -> Result<i64> {
        self.wait(async {
            let ours = self.eyes.children(path).await?.into_iter().filter(|name| name.starts_with(OURS));
            let gone: Vec<_> = ours.map(|name| self.eyes.delete(&path.child(&name), Version::Any)).collect();
            let requests = 1 + i64::try_from(gone.len())?;
            for reply in gone {
                reply.await?;
            }
            Ok(requests)
        })
    }

    /// Begins to count the leases.
    pub(crate) fn sample(&self, path: &NodePath) -> Samples {
        let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
        let (eyes, path, filling) = (Arc::clone(&self.eyes), path.clone(), Arc::clone(&seen));
        let leases = self.runtime.spawn(async move {
            let mut next = tokio::time::interval(SAMPLE);
            next.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            // Until it is stopped.
            loop {
                next.tick().await;
                if let Ok(leases) = eyes.children(&path).await {
                    filling.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(leases.len());
                }
            }
        });
        Samples { leases, seen }
    }
}

impl Samples {
    /// The mean and the most of what was counted. Whoever is counted above `slots` is one that Curator lets in to look.
    pub(crate) fn stop(self, slots: u32) -> (f64, f64) {
        self.leases.abort();
        let seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let counted = seen.iter().map(|leases| (*leases as f64).min(f64::from(slots)));
        let most = counted.clone().fold(0.0, f64::max);
        (counted.sum::<f64>() / seen.len().max(1) as f64, most)
    }
}
