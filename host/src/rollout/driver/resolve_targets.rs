//! Resolves a job's targets: from the job itself, an inventory file, a party or a command.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use thiserror::Error;
use tokio::io::AsyncReadExt;
use tokio::process::{ChildStderr, ChildStdout, Command};

use crate::job::{JobSpec, Target, TargetSource, parse_inventory, parse_listing, parse_members};
use lockkeeper_coordination::files::{self, MAX_TEXT_BYTES};
use lockkeeper_coordination::recipe::Party;
use lockkeeper_coordination::store::{Store, StoreError};
use lockkeeper_locks::process::inherited_signals;
use lockkeeper_locks::terminal;
use lockkeeper_locks::toml_reader::{Problems, text_of};

/// Time limit of a command that lists targets.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

/// Output limit of such a command: many times what the targets of one job need, with their labels.
const MAX_OUTPUT_BYTES: usize = 16 << 20;

/// Characters of its stderr that an error shows.
const MAX_STDERR_CHARS: usize = 1000;

/// Why a job's targets could not be resolved.
#[derive(Debug, Error)]
pub enum TargetsError {
    /// The inventory cannot be read.
    #[error("cannot read the inventory `{}`", path.display())]
    Inventory {
        /// Path of the inventory.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The content of the inventory, the party or the command's output is invalid or does not fit the job.
    #[error(transparent)]
    Problems(#[from] Problems),
    /// The command that lists the targets failed.
    #[error("the command `{command}` that lists the targets {what}")]
    Command {
        /// The command line.
        command: String,
        /// How it failed.
        what: String,
    },
    /// The party cannot be read.
    #[error("cannot read the party that lists the targets")]
    Store(#[from] StoreError),
}

/// Whether resolving the job's targets needs the store.
#[must_use]
pub fn needs_store(job: &JobSpec) -> bool {
    matches!(job.targets.source, TargetSource::Party(_))
}

/// A job's targets, as listed. Relative paths are relative to the job file's folder.
///
/// # Errors
/// [`TargetsError`].
///
/// # Cancel safety
/// Dropping the future kills a command that lists targets.
pub async fn resolve(
    job: &JobSpec,
    folder: &Path,
    store: Option<&Arc<dyn Store>>,
) -> Result<Vec<Target>, TargetsError> {
    let targets = match (&job.targets.source, store) {
        (TargetSource::Hosts(targets), _) => targets.clone(),
        (TargetSource::Inventory(path), _) => read_inventory(&folder.join(path))?,
        (TargetSource::Command(command), _) => listed(command, folder, COMMAND_TIMEOUT).await?,
        (TargetSource::Party(path), Some(store)) => {
            let members = Party::new(Arc::clone(store), path.clone()).members().await?;
            let identifiers = members.into_iter().map(|member| member.identifier);
            parse_members(path, identifiers).map_err(|wrong| {
                let problems = wrong.into_iter().map(|message| job.problem_with("targets.party", message, None));
                job.problems(problems.collect())
            })?
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

/// The targets of an inventory.
///
/// # Errors
/// [`TargetsError::Inventory`], [`TargetsError::Problems`].
pub fn read_inventory(path: &Path) -> Result<Vec<Target>, TargetsError> {
    let bytes = files::read(path, MAX_TEXT_BYTES)
        .map_err(|source| TargetsError::Inventory { path: path.to_owned(), source })?;
    let name = path.display().to_string();
    Ok(parse_inventory(&name, text_of("inventory", &name, &bytes)?)?)
}

/// The targets that a command prints.
async fn listed(command: &[String], folder: &Path, timeout: Duration) -> Result<Vec<Target>, TargetsError> {
    let shown = terminal::shown(&command.join(" "), MAX_STDERR_CHARS);
    let failed = |what: String| TargetsError::Command { command: shown.clone(), what };
    let printed = match tokio::time::timeout(timeout, output_of(command, folder)).await {
        Ok(printed) => printed.map_err(|error| failed(error.to_string()))?,
        Err(_) => return Err(failed(format!("took longer than {}", humantime::format_duration(timeout)))),
    };
    if !printed.status.success() {
        let said = String::from_utf8_lossy(&printed.stderr);
        let said = match said.trim() {
            "" => String::from("it wrote nothing to stderr"),
            said => terminal::shown(said, MAX_STDERR_CHARS),
        };
        return Err(failed(format!("ended with {}: {said}", printed.status)));
    }
    Ok(parse_listing(&format!("output of `{shown}`"), &printed.stdout)?)
}

/// A command's output and exit status.
struct Printed {
    status: ExitStatus,
    stdout: Vec<u8>,
    /// The first characters of its stderr.
    stderr: Vec<u8>,
}

/// Why a command's output is not available.
#[derive(Debug, Error)]
enum OutputError {
    #[error("cannot be run: {0}")]
    Run(#[from] io::Error),
    #[error("printed more than {} MiB", MAX_OUTPUT_BYTES >> 20)]
    TooMuch,
}

/// Runs a command to its end. Its whole process group is killed if it prints too much or the future is dropped.
async fn output_of(command: &[String], folder: &Path) -> Result<Printed, OutputError> {
    let (program, arguments) = command.split_first().ok_or_else(|| io::Error::other("no program is named"))?;
    let mut line = Command::new(program);
    inherited_signals::pass_on(line.as_std_mut());
    let mut child = line
        .args(arguments)
        .current_dir(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let mut group = Group(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw));
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (stdout, stderr) = tokio::try_join!(all_of(stdout), beginning_of(stderr))?;
    let status = child.wait().await?;
    group.0 = None;
    Ok(Printed { status, stdout, stderr })
}

async fn all_of(stream: Option<ChildStdout>) -> Result<Vec<u8>, OutputError> {
    let mut all = Vec::new();
    if let Some(stream) = stream {
        stream.take(MAX_OUTPUT_BYTES as u64 + 1).read_to_end(&mut all).await?;
    }
    if all.len() > MAX_OUTPUT_BYTES { Err(OutputError::TooMuch) } else { Ok(all) }
}

/// Reads everything, so that the writer does not block, and keeps as much as an error shows.
async fn beginning_of(stream: Option<ChildStderr>) -> Result<Vec<u8>, OutputError> {
    let mut beginning = Vec::new();
    let Some(mut stream) = stream else { return Ok(beginning) };
    // A character has at most four bytes.
    (&mut stream).take(4 * MAX_STDERR_CHARS as u64 + 4).read_to_end(&mut beginning).await?;
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    Ok(beginning)
}

/// A process group that is killed on drop, unless it was released before.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // An error means that the group is gone, which is the goal.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    async fn list(script: &str, timeout: Duration) -> Result<Vec<Target>, String> {
        let command = ["sh", "-c", script].map(String::from);
        listed(&command, Path::new(""), timeout).await.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_command_lists_targets_on_its_stdout_alone() {
        let targets = list("echo ignored >&2; echo web01", COMMAND_TIMEOUT).await.unwrap();
        assert_eq!(targets.iter().map(|target| target.name.as_str()).collect::<Vec<_>>(), ["web01"]);
        // More stderr than a pipe holds does not block the command.
        assert_eq!(list("head -c 1000000 /dev/zero >&2; echo a", COMMAND_TIMEOUT).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_command_that_fails_lists_nothing() {
        let error =
            list("echo web01; printf 'no\\033[31m such\\ngroup' >&2; exit 3", COMMAND_TIMEOUT).await.unwrap_err();
        assert!(error.contains("ended with exit status: 3: no\\u{1b}[31m such\\ngroup"), "{error}");
        let error = list("exit 3", COMMAND_TIMEOUT).await.unwrap_err();
        assert!(error.ends_with("it wrote nothing to stderr"), "{error}");
        let error = list("printf '\\377'", COMMAND_TIMEOUT).await.unwrap_err();
        assert!(error.contains("has 1 problem"), "{error}");
    }

    #[tokio::test]
    async fn a_command_may_take_only_so_long_and_print_only_so_much() {
        let began = Instant::now();
        // A background process of the command holds its stdout, too.
        let error = list("sleep 1000 & echo web01; wait", Duration::from_millis(200)).await.unwrap_err();
        assert!(error.ends_with("took longer than 200ms"), "{error}");
        let error = list("yes web01; sleep 1000", COMMAND_TIMEOUT).await.unwrap_err();
        assert!(error.ends_with("printed more than 16 MiB"), "{error}");
        assert!(began.elapsed() < COMMAND_TIMEOUT);
    }

    #[tokio::test]
    async fn what_a_command_started_ends_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; wait", pid.display());
        list(&script, Duration::from_secs(1)).await.unwrap_err();
        let pid: i32 = std::fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        let is_there = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
        };
        while is_there() {
            assert!(Instant::now() < deadline, "{pid} is still there");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
