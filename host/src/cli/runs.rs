//! Where runs are kept: a folder each, with a journal for every runner epoch, the policy's component and the commands' output.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;
use std::{fs, io};

use crate::audit::Segments;
use crate::job::PolicySource;
use crate::policy::{Module, StandardPolicy};
use crate::rollout::journal::{Reader, digest};
use lockkeeper_coordination::files::{self, MAX_POLICY_BYTES};
use lockkeeper_locks::cli::exit::{ErrorKind, Failure};
use lockkeeper_locks::cli::output::{of, shown};
use lockkeeper_locks::terminal;

/// The name for the newest run.
const LATEST: &str = "latest";

/// How many runs an error names.
const MOST_NAMED: usize = 10;

/// A run that is kept.
struct Kept {
    name: String,
    segments: Segments,
    started: u64,
}

/// Makes the folder of a new run.
pub(super) fn create(state: &Path, run: &str) -> Result<PathBuf, Failure> {
    let folder = state.join("runs").join(run);
    let runs = state.join("runs");
    files::make_folders(&runs).and_then(|()| files::make_folders(&folder)).map_err(|error| {
        Failure::message(ErrorKind::Io, format!("cannot create the journal's folder `{}`: {error}", folder.display()))
            .hint("select another folder with --state-dir")
    })?;
    Ok(folder)
}

/// Where a run's folder has the component of its policy, or of its orchestration.
pub(super) fn policy_file(folder: &Path, digest: &str) -> PathBuf {
    folder.join(format!("policy-{digest}.wasm"))
}

/// Puts a policy's component into a run's folder, so that the journal can be replayed when the job's file or this program
/// has become another. One copy a policy is kept; runs have links to it.
pub(super) fn keep_policy(
    state: &Path,
    folder: &Path,
    job: &Path,
    source: &PolicySource,
    policy: &Module,
) -> Result<(), Failure> {
    let wasm = match source {
        PolicySource::Standard(name) => StandardPolicy::named(name).map(|policy| policy.wasm.to_vec()),
        PolicySource::File { path, .. } => files::read(&job.join(path), MAX_POLICY_BYTES).ok(),
    };
    keep(state, folder, wasm, policy.digest())
}

/// Likewise an orchestration's.
pub(super) fn keep_orchestration(state: &Path, folder: &Path, file: &Path, digest: &str) -> Result<(), Failure> {
    keep(state, folder, files::read(file, MAX_POLICY_BYTES).ok(), digest)
}

fn keep(state: &Path, folder: &Path, wasm: Option<Vec<u8>>, expected: &str) -> Result<(), Failure> {
    let wasm = wasm.filter(|wasm| digest(wasm) == expected).ok_or_else(|| {
        Failure::message(ErrorKind::BadJob, "a wasm file of the job changed while the run was being prepared")
            .hint("repeat the command")
    })?;
    let kept = link(&wasm, expected, &state.join("policies"), &policy_file(folder, expected));
    kept.map_err(|error| {
        Failure::message(ErrorKind::Io, format!("cannot save the policy in `{}`: {error}", folder.display()))
            .hint("select another folder with --state-dir")
    })
}

fn link(wasm: &[u8], digest: &str, shared: &Path, to: &Path) -> io::Result<()> {
    files::make_folders(shared)?;
    let original = shared.join(format!("{digest}.wasm"));
    if !files::read(&original, MAX_POLICY_BYTES).is_ok_and(|found| found == wasm) {
        let temporary = shared.join(format!("{digest}.{}", uuid::Uuid::new_v4().simple()));
        files::write(&temporary, wasm)?;
        fs::rename(&temporary, &original)?;
    }
    // An earlier version let others read it.
    files::tighten(&original)?;
    match fs::hard_link(&original, to) {
        Ok(()) => Ok(()),
        // Not every file system has links.
        Err(_) => files::write(to, wasm),
    }
}

/// The journals that are meant: by a run's name, the beginning of one, `latest`, or a path to a journal or its folder.
pub(super) fn find(state: &Path, wanted: &str) -> Result<Segments, Failure> {
    let folder = state.join("runs");
    let mut kept = kept(&folder);
    if let Some(run) = kept.iter().position(|run| run.name == wanted) {
        return Ok(kept.swap_remove(run).segments);
    }
    let path = Path::new(wanted);
    if wanted.contains('/') || path.exists() {
        return at(path);
    }
    kept.sort_by_cached_key(|run| (Reverse(run.started), run.name.clone()));
    if wanted == LATEST && !kept.is_empty() {
        return Ok(kept.swap_remove(0).segments);
    }
    let mut meant: Vec<usize> = (0..kept.len()).filter(|run| kept[*run].name.starts_with(wanted)).collect();
    match (meant.pop(), meant.len()) {
        (Some(only), 0) => Ok(kept.swap_remove(only).segments),
        (Some(last), others) => {
            meant.push(last);
            let named = named(meant.iter().map(|run| kept[*run].name.as_str()));
            let text = format!("`{}` matches {}", shown(wanted), of(others + 1, "run"));
            Err(Failure::message(ErrorKind::NoSuchRun, text)
                .hint(format!("name one of them, or `{LATEST}` for the newest run: {named}")))
        }
        (None, _) if kept.is_empty() => {
            let text = format!("`{}` has no runs", folder.display());
            Err(Failure::message(ErrorKind::NoSuchRun, text)
                .hint("`lockkeeper run JOB` starts one; --state-dir selects another folder"))
        }
        (None, _) => {
            let named = named(kept.iter().map(|run| run.name.as_str()));
            let text = format!("`{}` has no run `{}`", folder.display(), shown(wanted));
            Err(Failure::message(ErrorKind::NoSuchRun, text).hint(format!("runs: {named}")))
        }
    }
}

/// A run's folder, or one journal alone, by its path.
fn at(path: &Path) -> Result<Segments, Failure> {
    let found = if path.is_dir() {
        Segments::of(path).map_err(|error| Failure::new(ErrorKind::Io, error))?
    } else {
        path.is_file().then(|| Segments::alone(path))
    };
    found.ok_or_else(|| {
        let text = if path.is_dir() {
            format!("`{}` has no journal", path.display())
        } else {
            format!("there is no journal `{}`", path.display())
        };
        Failure::message(ErrorKind::NoSuchRun, text).hint("name a run, or a journal's file, or its folder")
    })
}

fn kept(folder: &Path) -> Vec<Kept> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let runs = entries.filter_map(|entry| {
        let segments = Segments::of(&entry.path()).ok()??;
        let name = entry.file_name().into_string().ok()?;
        Some(Kept { name, started: started(&segments), segments })
    });
    runs.collect()
}

/// When a run started, in milliseconds since the Unix epoch. A journal whose beginning was changed must not make an older
/// run the newest: what is wrong with it is reported when it is read.
fn started(segments: &Segments) -> u64 {
    let said = segments
        .here
        .iter()
        .find_map(|segment| Some(Reader::of_epoch(&segment.path, segment.number).ok()?.header().started));
    let changed = || {
        let changed = fs::metadata(&segments.here.first()?.path).and_then(|file| file.modified()).ok()?;
        let since = changed.duration_since(UNIX_EPOCH).ok()?;
        u64::try_from(since.as_millis()).ok()
    };
    said.or_else(changed).unwrap_or(0)
}

/// The first of some names, and how many more there are.
pub(super) fn named<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{}`", terminal::value(name))).collect();
    match names.len().saturating_sub(MOST_NAMED) {
        0 => names.join(", "),
        more => format!("{}, and {more} more", names[..MOST_NAMED].join(", ")),
    }
}

/// Which runs are old.
pub(super) struct Old<'a> {
    /// Runs that are gone from the store.
    pub(super) gone: &'a BTreeSet<&'a str>,
    /// Runs that are in the store still.
    pub(super) known: &'a BTreeSet<&'a str>,
    /// A run of another store is old if its journal says that it was over by then, in milliseconds since the Unix epoch.
    pub(super) ended_before: u64,
    /// Whether a job's runs are asked about.
    pub(super) is_meant: &'a dyn Fn(&str) -> bool,
}

/// What went from a state folder.
pub(super) struct Swept {
    /// Runs whose folder went.
    pub(super) folders: Vec<String>,
    /// How many policies went that no run has any more.
    pub(super) policies: usize,
}

/// Deletes the folders of old runs, and the policies that no run has any more; with `dry`, says which that would be.
pub(super) fn sweep(state: &Path, old: &Old<'_>, dry: bool) -> Result<Swept, Failure> {
    let folder = state.join("runs");
    let mut folders = Vec::new();
    let mut links: HashMap<u64, u64> = HashMap::new();
    for entry in fs::read_dir(&folder).into_iter().flatten().filter_map(Result::ok) {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = entry.path();
        if !is_old(&name, &path, old) {
            continue;
        }
        for file in fs::read_dir(&path).into_iter().flatten().filter_map(|file| file.ok()?.metadata().ok()) {
            *links.entry(file.ino()).or_default() += 1;
        }
        if !dry {
            let cannot = |error| {
                Failure::message(ErrorKind::Io, format!("cannot delete `{}`: {error}", path.display()))
                    .hint("the store no longer has the run; repeat the command once the folder can be deleted")
            };
            fs::remove_dir_all(&path).map_err(cannot)?;
        }
        folders.push(name);
    }
    folders.sort();
    let mut policies = 0;
    for entry in fs::read_dir(state.join("policies")).into_iter().flatten().filter_map(Result::ok) {
        let (path, Ok(metadata)) = (entry.path(), entry.metadata()) else { continue };
        let is_policy = path.extension().is_some_and(|extension| extension == "wasm");
        let gone = if dry { links.get(&metadata.ino()).copied().unwrap_or_default() } else { 0 };
        if is_policy && metadata.nlink() - gone.min(metadata.nlink()) <= 1 {
            // A run that begins now makes it anew, or has its own copy.
            if dry || fs::remove_file(&path).is_ok() {
                policies += 1;
            }
        }
    }
    Ok(Swept { folders, policies })
}

fn is_old(name: &str, folder: &Path, old: &Old<'_>) -> bool {
    if old.gone.contains(name) {
        return true;
    }
    if old.known.contains(name) {
        return false;
    }
    let Ok(Some(segments)) = Segments::of(folder) else { return false };
    let Some(mut reader) =
        segments.here.last().and_then(|segment| Reader::of_epoch(&segment.path, segment.number).ok())
    else {
        return false;
    };
    if !(old.is_meant)(&reader.header().job) {
        return false;
    }
    // Its last line is believed if every one before it is.
    while let Ok(Some(_)) = reader.decision() {}
    reader.closing().is_some_and(|closing| is_final(&closing.end) && closing.ended < old.ended_before)
}

/// Whether a run with this end cannot be resumed.
fn is_final(end: &str) -> bool {
    matches!(end, "succeeded" | "failed" | "aborted")
}
