//! A runner for tests to kill: it runs `job.toml` of a folder and dies at a chosen write.
//! `runner-process FOLDER FILE|HOSTS SESSION_TIMEOUT_MS before:N|after:N|stop:N|call:N|never`
//!
//! It prints the number of writes of orchestration calls and of all writes, and exits with 0 if the run is finished and
//! all targets have succeeded.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use lockkeeper::job::JobSpec;
use lockkeeper::policy::{Engine, EngineOptions};
use lockkeeper::rollout::driver;
use lockkeeper::rollout::model::End;
use lockkeeper::rollout::orchestration::OrchestrationJob;
use lockkeeper_coordination::embedded::{Embedded, EmbeddedOptions};
use lockkeeper_coordination::store::{Connect, Store};
use lockkeeper_coordination::zookeeper::{ZooKeeper, ZooKeeperOptions};
use lockkeeper_tests::crashing::Crashing;
use lockkeeper_tests::runs;
use tokio::sync::mpsc;

#[tokio::main]
#[expect(clippy::print_stdout, reason = "its output is its purpose")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, place, timeout, crash] = arguments.as_slice() else { bail!("four arguments") };
    let folder = PathBuf::from(folder);
    let session_timeout = Duration::from_millis(timeout.parse()?);
    let connect: Arc<dyn Connect> = if place.starts_with('/') {
        Arc::new(Embedded::new(PathBuf::from(place), EmbeddedOptions { session_timeout }))
    } else {
        let mut options = ZooKeeperOptions::new(place.parse()?);
        options.session_timeout = session_timeout;
        Arc::new(ZooKeeper::new(options))
    };
    let crashing = Crashing::new(connect.connect().await?, crash.parse()?);
    let (writes, calls) = (crashing.writes(), crashing.calls());
    let store: Arc<dyn Store> = Arc::new(crashing);
    let file = folder.join("job.toml");
    let text = std::fs::read_to_string(&file)?;
    let job = JobSpec::parse("job.toml", &text).map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
    let engine = Engine::new(&EngineOptions { cache: Some(folder.join("compiled")), ..EngineOptions::default() })?;
    let policy = engine.load_standard("rolling")?;
    let conducted = job.orchestration.clone();
    let mut prepared = runs::prepare(job, &folder, policy, &store).await?;
    if let Some(spec) = conducted {
        let orchestration = engine.load_orchestration_file(&folder.join(&spec.path), None)?;
        prepared.orchestration_job = Some(OrchestrationJob::new(&spec, orchestration));
    }
    let runner = Arc::clone(&prepared.runner);
    let (_stop, stops) = mpsc::channel(1);
    let report = driver::run(prepared, stops, |stamped| {
        println!("{}", serde_json::to_string(stamped).unwrap_or_default());
    })
    .await?;
    Arc::into_inner(runner).context("this is the only reference")?.step_down().await;
    store.close().await?;
    println!("{} calls", calls.load(Ordering::SeqCst));
    println!("{} writes", writes.load(Ordering::SeqCst));
    // The caller judges rolled-back and unknown targets.
    if report.end == End::Completed && report.counts.open() == 0 && report.counts.failed == 0 {
        Ok(())
    } else {
        bail!("{report:?}")
    }
}
