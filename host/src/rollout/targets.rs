//! Where a job's targets come from: the job itself, an inventory file, a party, a command.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::process::Command;

use crate::job::{JobSpec, Problems, Target, TargetName, TargetSource, parse_inventory, parse_lines};
use crate::recipe::Party;
use crate::store::{Store, StoreError};

/// How long a command that lists targets may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a job's targets are not known.
#[derive(Debug, Error)]
pub enum TargetsError {
    /// The inventory cannot be read.
    #[error("cannot read the inventory `{}`", path.display())]
    Inventory {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What the inventory or the command says is wrong, or does not fit the job.
    #[error(transparent)]
    Problems(#[from] Problems),
    /// The command that lists them failed.
    #[error("the command `{command}` that lists the targets {what}")]
    Command {
        /// The command.
        command: String,
        /// What happened.
        what: String,
    },
    /// A member's identifier is no target's name.
    #[error("member `{identifier}` of the party cannot be a target: {reason}")]
    Member {
        /// Its identifier.
        identifier: String,
        /// Why not.
        reason: String,
    },
    /// The party cannot be read.
    #[error("cannot read the party that lists the targets")]
    Store(#[from] StoreError),
}

/// Whether the store is needed to know a job's targets.
#[must_use]
pub fn needs_store(job: &JobSpec) -> bool {
    matches!(job.targets.source, TargetSource::Party(_))
}

/// A job's targets, as listed. Relative paths are the job file's folder's.
///
/// # Errors
/// [`TargetsError`].
pub async fn resolve(
    job: &JobSpec,
    folder: &Path,
    store: Option<&Arc<dyn Store>>,
) -> Result<Vec<Target>, TargetsError> {
    let targets = match (&job.targets.source, store) {
        (TargetSource::Hosts(targets), _) => targets.clone(),
        (TargetSource::Inventory(path), _) => {
            let path = folder.join(path);
            let text = std::fs::read_to_string(&path)
                .map_err(|source| TargetsError::Inventory { path: path.clone(), source })?;
            parse_inventory(&path.display().to_string(), &text)?
        }
        (TargetSource::Command(command), _) => listed(command, folder).await?,
        (TargetSource::Party(path), Some(store)) => {
            let members = Party::new(Arc::clone(store), path.clone()).members().await?;
            let mut names: Vec<String> = members.into_iter().map(|member| member.identifier).collect();
            names.dedup();
            names.into_iter().map(as_target).collect::<Result<_, _>>()?
        }
        (TargetSource::Party(_), None) => {
            return Err(TargetsError::Store(StoreError::Unavailable { reason: "no store was opened".to_owned() }));
        }
    };
    let unfit = job.problems_with_targets(&targets);
    match unfit.is_empty() {
        true => Ok(targets),
        false => Err(job.problems(unfit).into()),
    }
}

fn as_target(identifier: String) -> Result<Target, TargetsError> {
    match TargetName::parse(&identifier) {
        Ok(name) => Ok(Target::unlabelled(name)),
        Err(error) => Err(TargetsError::Member { identifier, reason: error.to_string() }),
    }
}

async fn listed(command: &[String], folder: &Path) -> Result<Vec<Target>, TargetsError> {
    let shown = command.join(" ");
    let failed = |what: String| TargetsError::Command { command: shown.clone(), what };
    let (program, arguments) = command.split_first().ok_or_else(|| failed("is empty".to_owned()))?;
    let output = Command::new(program)
        .args(arguments)
        .current_dir(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(COMMAND_TIMEOUT, output)
        .await
        .map_err(|_| failed(format!("took longer than {COMMAND_TIMEOUT:?}")))?
        .map_err(|error| failed(format!("cannot be run: {error}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(format!("ended with {}: {}", output.status, said.trim())));
    }
    let text = String::from_utf8(output.stdout).map_err(|_| failed("printed what is no UTF-8".to_owned()))?;
    Ok(parse_lines(&format!("output of `{shown}`"), &text)?)
}
