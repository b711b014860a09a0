//! `lockkeeper check`: everything that is wrong with a job.

use super::args::{Global, JobArgs};
use super::job::{Loaded, load};
use crate::job::TargetSource;
use lockkeeper_locks::cli::exit::{Exit, Failure};
use lockkeeper_locks::cli::output::{Output, of};
use lockkeeper_locks::toml_reader::Problem;

pub(super) async fn run(global: &Global, output: &Output, args: JobArgs) -> Result<Exit, Failure> {
    let loaded = load(global, &args.job)?;
    let Loaded { job, policy, .. } = &loaded;
    // What lists targets elsewhere, a command or a party, may answer otherwise when the job runs.
    let (total, targets) = match job.targets.source {
        TargetSource::Hosts(_) | TargetSource::Inventory(_) => {
            let total = loaded.targets(None).await?.len();
            (Some(total), of(total, "target"))
        }
        TargetSource::Command(_) => (None, "targets from a command".to_owned()),
        TargetSource::Party(ref path) => (None, format!("targets from the party `{path}`")),
    };
    loaded.warn(output);
    let unset = loaded.unset_here().into_iter().map(Problem::into_warning);
    let warnings: Vec<Problem> = job.warnings(total).into_iter().chain(unset).collect();
    for problem in &warnings {
        let help = problem.help.as_ref().map(|help| format!("; {help}")).unwrap_or_default();
        output.warn(&format!("{}: {problem}{help}", problem.place));
    }
    // Whatever it needs is there; whether it answers is for `run` to see.
    let store = global.common.choose(output, loaded.store())?;
    let manifest = policy.manifest();
    output.talk("Store", &store.to_string());
    let conducted = loaded.orchestration.as_ref().map(|orchestration| {
        let manifest = orchestration.manifest();
        format!(", orchestration {} {}", manifest.name, manifest.version)
    });
    output.talk(
        "Checked",
        &format!(
            "{}: {targets}, policy {} {}{}",
            job.name,
            manifest.name,
            manifest.version,
            conducted.unwrap_or_default()
        ),
    );
    if output.is_json() {
        let warnings = warnings.iter().map(|problem| serde_json::json!(problem));
        let all: serde_json::Value = loaded.warnings().into_iter().chain(warnings).collect();
        output.json(
            &serde_json::json!({ "job": job.name.to_string(), "digest": job.digest, "store": store.address(), "warnings": all }),
        );
    }
    Ok(Exit::Done)
}
