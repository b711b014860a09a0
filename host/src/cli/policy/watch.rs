//! `lockkeeper policy watch`: built and tested again whenever a source changes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use notify::{Event, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use super::build::{component, seconds};
use super::case_files::case_files;
use super::scenario;
use super::test::test;
use crate::author::Search;
use crate::author::project::Project;
use crate::cli::args::Global;
use crate::cli::args::WatchArgs;
use crate::cli::load_policy::OFFLINE_LIMITS;
use crate::policy::{Either, Engine};
use lockkeeper_locks::cli::exit::{ErrorKind, Exit, Failure};
use lockkeeper_locks::cli::output::Output;
use lockkeeper_locks::cli::signals::Signals;

/// An editor writes a file in several steps: what changes within this time is one change.
const QUIET: Duration = Duration::from_millis(80);

/// Changes that wait to be looked at; more say nothing that these do not.
const PENDING: usize = 256;

/// Views for the properties: few, since it is done again and again.
const VIEWS: usize = 60;

pub(super) async fn run(global: &Global, output: &Output, args: WatchArgs) -> Result<Exit, Failure> {
    let folder = std::fs::canonicalize(&args.folder).unwrap_or_else(|_| args.folder.clone());
    let project = Project::find(&folder)?;
    let engine = global.engine_with(OFFLINE_LIMITS)?;
    let mut signals = Signals::new()?;
    let (tell, mut changes) = mpsc::channel::<PathBuf>(PENDING);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        let Ok(event) = event else { return };
        if event.kind.is_access() {
            return;
        }
        for path in event.paths {
            // A full queue says already that something has changed.
            let _ = tell.try_send(path);
        }
    })
    .map_err(cannot_watch)?;
    watcher.watch(&folder, RecursiveMode::Recursive).map_err(cannot_watch)?;
    output.talk("Watching", &format!("{}; Ctrl-C ends it", args.folder.display()));
    loop {
        let (project_now, engine_now, quiet) = (project.clone(), engine.clone(), output.clone());
        let round = tokio::task::spawn_blocking(move || once(&project_now, &engine_now, &quiet));
        let ended = tokio::select! {
            request = signals.next() => Some(request),
            _ = round => None,
        };
        if let Some(request) = ended {
            return Ok(request.exit());
        }
        let ended = tokio::select! {
            request = signals.next() => Some(request),
            () = changed(&project, &mut changes) => None,
        };
        if let Some(request) = ended {
            return Ok(request.exit());
        }
    }
}

/// Until a source has changed, and nothing has for a moment.
async fn changed(project: &Project, changes: &mut mpsc::Receiver<PathBuf>) {
    loop {
        match changes.recv().await {
            Some(path) if project.is_source(&path) => break,
            Some(_) => {}
            // The watcher is gone with its thread: nothing will change any more.
            None => std::future::pending().await,
        }
    }
    while tokio::time::timeout(QUIET, changes.recv()).await.is_ok_and(|change| change.is_some()) {}
}

/// Built and tested once. What is wrong is shown; the next change may mend it.
fn once(project: &Project, engine: &Engine, output: &Output) {
    let begun = Instant::now();
    let outcome = component(project, &project.wasm(), engine, &output.clone().hushed()).and_then(|built| {
        let (wasm, hushed) = (built.wasm.display().to_string(), output.clone().hushed());
        match &built.guest {
            Either::Policy(policy) => {
                let tested = test(policy, case_files(&wasm, &[], &hushed)?, Search { views: VIEWS, seed: 1 })?;
                tested.show_failures(output);
                Ok((tested.failures(), tested.sum()))
            }
            Either::Orchestration(orchestration) => {
                let tested = scenario::try_all(orchestration, scenario::files(&wasm, &[], &hushed)?)?;
                tested.show(output, false);
                Ok((tested.failures(), tested.sum()))
            }
        }
    });
    match outcome {
        Ok((failures, sum)) => {
            output.talk(
                if failures == 0 { "Passed" } else { "Failed" },
                &format!("{sum}; {} after the change", seconds(begun.elapsed())),
            );
            if output.is_json() {
                output.json(&serde_json::json!({ "failures": failures, "summary": sum }));
            }
        }
        Err(failure) => output.failure(&failure),
    }
}

fn cannot_watch(error: notify::Error) -> Failure {
    Failure::new(ErrorKind::Io, error)
        .hint("Linux watches so many files a user: `sysctl fs.inotify.max_user_watches` says how many")
}
