//! `lockkeeper check`: everything that is wrong with a job.

use super::exit::{Exit, Failure};
use super::job::{Loaded, load};
use super::output::Output;
use super::{Global, JobArgs};
use crate::job::TargetSource;
use crate::rollout::resolve;

pub(super) async fn run(global: &Global, output: &Output, args: JobArgs) -> Result<Exit, Failure> {
    let Loaded { job, folder, policy, warnings } = load(global, &args.job)?;
    // What lists targets elsewhere, a command or a party, may answer otherwise when the job runs.
    let targets = match job.targets.source {
        TargetSource::Hosts(_) | TargetSource::Inventory(_) => {
            let targets = resolve(&job, &folder, None).await?;
            format!("{} targets", targets.len())
        }
        TargetSource::Command(_) => "targets from a command".to_owned(),
        TargetSource::Party(ref path) => format!("targets from the party `{path}`"),
    };
    for warning in &warnings {
        output.warn(&format!("{}: `{}`: {}", warning.place, warning.key, warning.message));
    }
    let manifest = policy.manifest();
    output.talk("Checked", &format!("{}: {targets}, policy {} {}", job.name, manifest.name, manifest.version));
    if output.is_json() {
        output.json(&serde_json::json!({ "job": job.name.to_string(), "digest": job.digest, "warnings": warnings }));
    }
    Ok(Exit::Done)
}
