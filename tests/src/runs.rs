//! A run in a process of the tests: started or resumed as `lockkeeper run` does.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use lockkeeper::job::JobSpec;
use lockkeeper::rollout::driver::{Decide, Run, resolve};
use lockkeeper::rollout::model::Plan;
use lockkeeper::rollout::run_state::{LAYOUT, NewRun, RunRecord, Runner};
use lockkeeper_coordination::recipe::{Identifier, Patience, StoreId};
use lockkeeper_coordination::store::Store;

/// Becomes the job's runner, and starts its run or resumes the newest one, finished or not. The journal is `run` in the
/// job's folder.
///
/// # Errors
/// Those of the called functions.
pub async fn prepare<P: Decide>(job: JobSpec, folder: &Path, policy: P, store: &Arc<dyn Store>) -> Result<Run<P>> {
    let who = Identifier::new(format!("test:{}", std::process::id()))?;
    let runner = Runner::acquire(store, &job.name, who, Patience::Forever).await?;
    let journal = folder.join("run");
    let place = journal.display().to_string();
    let opened = match runner.newest().await? {
        Some(kept) => runner.resume(kept, place).await?,
        None => {
            let targets = resolve(&job, folder, Some(store)).await?;
            let plan = Plan::new(&job, targets);
            let record = RunRecord {
                layout: LAYOUT,
                job: job.name.to_string(),
                digest: job.digest.clone(),
                policy: policy.name().to_owned(),
                policy_digest: policy.digest().to_owned(),
                started: store.clock().now_ms(),
                targets: u32::try_from(plan.targets.len())?,
                semaphore: job.semaphore.path.clone(),
                slots: plan.limits.slots,
                runner_epoch: 0,
                runner_epochs: Vec::new(),
                ended: None,
            };
            let job_text = job.source.text().to_owned();
            // No other run has this name, even if this one never starts.
            let name = format!("{}-{}", job.name, uuid::Uuid::new_v4().simple());
            let new = NewRun { name, record, job_text, targets: plan.targets, journal: place };
            runner.begin(new).await?
        }
    };
    let plan = Plan::of(&job, opened.targets);
    let (run_state, resumed, runner) = (opened.run_state, opened.resumed, Arc::new(runner));
    let (folder, place) = (folder.to_owned(), "a test's".to_owned());
    let store_id = StoreId::of(&**store).await?;
    Ok(Run {
        job,
        folder,
        plan,
        policy,
        journal,
        place,
        runner,
        run_state,
        resumed,
        orchestration_job: None,
        store_id,
        tie: Vec::new(),
        values: BTreeMap::new(),
    })
}
