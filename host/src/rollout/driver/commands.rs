//! The commands that run on targets: how they are made from the job, started, and probed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::job::{ActionSpec, Command, MissingLabel, Substitutions, Target};
use crate::policy::types::Ending;
use crate::rollout::driver::Decide;
use crate::rollout::driver::lease_task::Order;
use crate::rollout::driver::run::Run;
use crate::rollout::driver::run_loop::RunLoop;
use crate::rollout::exec::{self, Host, Invocation, Location};
use crate::rollout::model::{
    ActionResult, CommandKind, Course, Input, Probed, RecordedStatus, RunFailure, Stamped, TargetIndex,
};
use lockkeeper_coordination::recipe::StoreId;
use lockkeeper_coordination::store::Fence;

/// Bytes of a target's name in the name of its log: file names end at 255 bytes.
const MAX_LOG_NAME: usize = 200;

/// The commands for one target.
pub(super) struct Commands {
    run: Vec<String>,
    /// Checks whether the action worked.
    probe: Option<Vec<String>>,
    /// Rolls the action back.
    roll_back: Option<Vec<String>>,
    /// Checks whether the roll-back worked.
    roll_back_probe: Option<Vec<String>>,
    /// Environment variables from the job.
    environment: Vec<(String, String)>,
}

impl Commands {
    /// Fills a target's values into the job's commands.
    pub(super) fn render<P>(
        run: &Run<P>,
        target: &Target,
        wave: &str,
        attempt: u32,
        fence: u64,
    ) -> Result<Self, MissingLabel> {
        let Run { job, run_state, folder, .. } = run;
        let folder = folder.display().to_string();
        let store_id = run.store_id.as_ref().map_or("", StoreId::as_str);
        let with = Substitutions {
            target,
            job: &job.name,
            run: run_state.run(),
            wave,
            attempt,
            fence,
            store_id,
            job_dir: &folder,
        };
        let render = |command: &Option<Command>| command.as_ref().map(|command| command.render(&with)).transpose();
        let ActionSpec { run, probe, roll_back, roll_back_probe, env, .. } = &job.action;
        let environment =
            env.iter().map(|(name, value)| Ok((name.clone(), value.render(&with)?))).collect::<Result<_, _>>()?;
        Ok(Self {
            run: run.render(&with)?,
            probe: render(probe)?,
            roll_back: render(roll_back)?,
            roll_back_probe: render(roll_back_probe)?,
            environment,
        })
    }
}

impl<P: Decide, T: FnMut(&Stamped) + Send> RunLoop<P, T> {
    /// Starts a command after the start is recorded; an unrecorded command never starts.
    pub(super) fn start(
        &mut self,
        target: TargetIndex,
        command_kind: CommandKind,
        attempt: u32,
        fence: Fence,
        status: RecordedStatus,
    ) {
        let entry = self.rollout.target(target).clone();
        let invocation = self.invocation(target, &entry, command_kind, attempt, fence);
        let (sender, kill) = oneshot::channel();
        self.kills.insert(target, sender);
        let (may, written) = oneshot::channel();
        self.order(target, Order::Announce { status, attempt, may });
        let (inputs, store) = (self.inputs.clone(), Arc::clone(&self.store));
        self.tasks.spawn(async move {
            // A process that was stopped meanwhile continues here, when another process may be the runner.
            let late = || store.safe_until() <= Instant::now();
            let result = match written.await {
                Ok(()) if !late() => exec::run(invocation, kill).await,
                Ok(()) => not_started(&invocation, "the session with the store had ended by then"),
                Err(_) => not_started(&invocation, "its start could not be recorded"),
            };
            // The loop ends after the last action.
            let _ = inputs.send(Input::Ended { target, result }).await;
        });
    }

    /// Probes the outcome of an action or a roll-back whose end no runner saw.
    pub(super) fn probe(
        &mut self,
        target: TargetIndex,
        command_kind: CommandKind,
        attempt: u32,
        fence: Fence,
        after: Duration,
        within: Option<Duration>,
    ) {
        let entry = self.rollout.target(target).clone();
        let mut invocation = self.invocation(target, &entry, command_kind, attempt, fence);
        let probe = match command_kind {
            CommandKind::Action => invocation.probe.take(),
            CommandKind::RollBack => self.roll_back_probe(target, &entry, attempt, fence),
        };
        invocation.timeout = within.into_iter().chain(invocation.timeout).min();
        let (sender, mut kill) = oneshot::channel();
        self.kills.insert(target, sender);
        let inputs = self.inputs.clone();
        self.tasks.spawn(async move {
            let killed = tokio::select! {
                () = tokio::time::sleep(after) => false,
                _ = &mut kill => true,
            };
            let answer = match probe {
                Some(run) if !killed => {
                    let result = exec::run(Invocation { run, what: "probe", ..invocation }, kill).await;
                    if result.course == Course::RunnerFailed {
                        let _ = inputs.send(Input::Failed(RunFailure::Runner(result.detail.clone()))).await;
                    }
                    probed(result)
                }
                _ => Probed::Unknown { detail: "there is no probe".to_owned() },
            };
            let _ = inputs.send(Input::Probed { target, answer }).await;
        });
    }

    /// The command that probes a roll-back.
    fn roll_back_probe(&self, index: TargetIndex, target: &Target, attempt: u32, fence: Fence) -> Option<Vec<String>> {
        let wave = self.rollout.wave_of(index).unwrap_or_default();
        let commands = Commands::render(&self.run, target, wave, attempt, fence.get());
        commands.expect("`check` made them once already").roll_back_probe
    }

    fn invocation(
        &self,
        index: TargetIndex,
        target: &Target,
        command_kind: CommandKind,
        attempt: u32,
        fence: Fence,
    ) -> Invocation {
        let fence = fence.get();
        let job = &self.run.job;
        let wave = self.rollout.wave_of(index).unwrap_or_default();
        let commands =
            Commands::render(&self.run, target, wave, attempt, fence).expect("`check` made them once already");
        let mut environment = vec![
            ("LOCKKEEPER_TARGET".to_owned(), target.name.to_string()),
            ("LOCKKEEPER_FENCE".to_owned(), fence.to_string()),
            // Set to empty, so that commands do not inherit a value of another store.
            (
                "LOCKKEEPER_STORE_ID".to_owned(),
                self.run.store_id.as_ref().map_or_else(String::new, ToString::to_string),
            ),
            ("LOCKKEEPER_ATTEMPT".to_owned(), attempt.to_string()),
            ("LOCKKEEPER_RUN".to_owned(), self.run.run_state.run().to_owned()),
            ("LOCKKEEPER_JOB".to_owned(), job.name.to_string()),
            ("LOCKKEEPER_WAVE".to_owned(), wave.to_owned()),
        ];
        environment.extend(target.labels.iter().map(|(key, value)| {
            let key: String =
                key.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
            (format!("LOCKKEEPER_LABEL_{key}"), value.clone())
        }));
        environment.extend(commands.environment);
        let remote = |connections| Location::Remote(Host { name: target.name.to_string(), connections });
        let (run, probe) = match command_kind {
            CommandKind::Action => (commands.run, commands.probe),
            CommandKind::RollBack => (commands.roll_back.unwrap_or_default(), None),
        };
        let run = match self.connections {
            Some(_) => run,
            None => [self.run.tie.clone(), run].concat(),
        };
        Invocation {
            run,
            what: "command",
            probe,
            environment,
            secrets: self.run.values.clone().into_iter().collect(),
            location: self.connections.clone().map_or(Location::Local, remote),
            log: self.output.join(log_name(index, target.name.as_str(), attempt)),
            timeout: job.action.timeout,
            kill_after: job.action.kill_after,
            ends_with_runner: !self.run.tie.is_empty(),
        }
    }
}

/// The result of an action that was announced and not started.
fn not_started(invocation: &Invocation, why: &str) -> ActionResult {
    ActionResult {
        ending: Ending::Unknown,
        course: Course::NotStarted,
        exit_code: None,
        took_ms: 0,
        detail: format!("it was not started: {why}"),
        output: Vec::new(),
        log: invocation.log.display().to_string(),
    }
}

/// The meaning of a probe's exit code for an action whose end no runner saw, as of `lockkeeper guard --outcome`.
fn probed(result: ActionResult) -> Probed {
    let ActionResult { ending, course, exit_code, detail, .. } = result;
    match (ending, exit_code) {
        _ if matches!(course, Course::Unreachable | Course::RunnerFailed) => Probed::Unreachable { detail },
        // The exit code of ssh itself, in a probe that calls ssh.
        (Ending::Failed, Some(255)) => Probed::Unreachable { detail },
        // The probe hangs and may be repeated.
        (Ending::TimedOut, _) => Probed::Unreachable { detail },
        (Ending::Succeeded, _) => Probed::Succeeded,
        (Ending::Failed, Some(66)) => Probed::NotStarted,
        (Ending::Failed, Some(75)) => Probed::Running,
        (Ending::Failed, Some(code)) if code != 76 => Probed::Failed { detail },
        _ => Probed::Unknown { detail },
    }
}

/// File name of an attempt's log, for any target name.
fn log_name(index: TargetIndex, target: &str, attempt: u32) -> String {
    match target.len() {
        0..=MAX_LOG_NAME => format!("{target}.{attempt}.log"),
        _ => format!("{}~{index}.{attempt}.log", &target[..target.floor_char_boundary(MAX_LOG_NAME)]),
    }
}
