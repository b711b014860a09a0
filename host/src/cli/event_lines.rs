//! The events of a run, as lines for people or as objects for programs.

use crate::policy::types::Ending;
use crate::rollout::model::{Called, Event, Stamped};
use lockkeeper_locks::cli::output::{Output, moment, of, span};
use lockkeeper_locks::cli::sink::Tone;
use lockkeeper_locks::terminal;

/// One event: a line for people, or a JSON object on stdout.
pub(super) fn show(output: &Output, stamped: &Stamped) {
    if output.is_json() {
        return output.json(stamped);
    }
    let again = |ms: &Option<u64>| ms.map_or(String::new(), |ms| format!("; the policy decides again in {}", span(ms)));
    match &stamped.event {
        Event::Planned { run, targets, batches, slots, semaphore, journal, .. } => {
            let text = format!(
                "{} in {}, {} of `{semaphore}`",
                of(*targets, "target"),
                of(*batches, "round"),
                of(*slots as usize, "slot")
            );
            output.say(Tone::Good, "Planned", &text);
            output.say(Tone::Plain, "Run", &format!("{run}, journal in {journal}"));
        }
        Event::RunResumed { run, previous_runner, runner_epoch, finished, remaining } => {
            let text = format!(
                "run {run} (epoch {runner_epoch}, previous runner {previous_runner}): {finished} finished, {remaining} remaining"
            );
            output.say(Tone::Good, "Resuming", &text);
        }
        Event::Waiting { target, code, reason, ask_again_ms } => {
            output.say(Tone::Plain, "Waiting", &format!("{target}: {reason} ({code}){}", again(ask_again_ms)));
        }
        Event::Holding { code, reason, ask_again_ms } => {
            output.say(Tone::Plain, "Holding", &format!("all: {reason} ({code}){}", again(ask_again_ms)));
        }
        Event::Refused { target, reason, limit, .. } => {
            output.say(Tone::Plain, "Refused", &format!("{target} by the job's limits: {reason} ({limit})"));
        }
        Event::Queued { .. } | Event::Started { .. } | Event::Released { .. } => {}
        Event::Leased { target, held, slots, again, .. } => {
            let note = if *again { ", already held" } else { "" };
            output.say(Tone::Good, "Leased", &format!("{target} ({held} of {slots}{note})"));
        }
        Event::SlotForced { semaphore, broken, reason, .. } => {
            let what = match broken.as_slice() {
                [] => "above the limit".to_owned(),
                fences => format!("breaking {}", list(fences)),
            };
            let text = format!("a slot of `{semaphore}` for the orchestration, {what}: {reason}");
            output.say(Tone::Bad, "Forced", &terminal::line(&text));
        }
        Event::SlotsChanged { from, to } => {
            output.say(Tone::Plain, "Resized", &format!("the semaphore from {from} to {}", of(*to as usize, "slot")));
        }
        Event::Forced { target, broken, code, reason, .. } => {
            let what = match broken.as_slice() {
                [] => "above the limit".to_owned(),
                fences => format!("breaking {}", list(fences)),
            };
            output.say(Tone::Bad, "Forced", &format!("{target}, {what}: {reason} ({code})"));
        }
        Event::ReleasedUnused { target, reason } => {
            output.say(Tone::Plain, "Released", &format!("{target} before it started: {reason}"))
        }
        Event::Succeeded { target, took_ms } => {
            output.say(Tone::Good, "Succeeded", &format!("{target} in {}", span(*took_ms)))
        }
        Event::Failed { target, attempt, ending, detail, took_ms, output: lines, log } => {
            let verb = if *ending == Ending::Unknown { "Unknown" } else { "Failed" };
            let text = format!("{target}, attempt {attempt}: {detail} after {}; output in {log}", span(*took_ms));
            output.say(Tone::Bad, verb, &text);
            for line in lines {
                output.say(Tone::Plain, "|", line);
            }
        }
        Event::KeepingSlot { target, keep_ms, reason } => {
            output.say(Tone::Plain, "Keeping", &format!("the slot of {target} for {}: {reason}", span(*keep_ms)));
        }
        Event::Retrying { target, attempt, reason, after_ms } => {
            let after = if *after_ms == 0 { String::new() } else { format!(" in {}", span(*after_ms)) };
            output.say(Tone::Plain, "Retrying", &format!("{target}, attempt {attempt}{after}: {reason}"));
        }
        Event::Recovered { target, attempt, roll_back } => {
            let what = if *roll_back { "being rolled back" } else { "running" };
            output.say(
                Tone::Plain,
                "Recovered",
                &format!("{target}, {what} since an earlier runner, attempt {attempt}"),
            );
        }
        Event::Probed { target, answer, detail, roll_back } => {
            let said = match (answer.as_ref(), *roll_back) {
                ("succeeded", false) => "its action had succeeded",
                ("succeeded", true) => "its roll-back had succeeded",
                ("not-started", false) => "its action never started and will start in its turn",
                ("not-started", true) => "its roll-back never started",
                ("failed", false) => "its action failed",
                ("failed", true) => "its roll-back failed",
                (_, true) => "the outcome of its roll-back is unknown",
                _ => "its outcome is unknown",
            };
            let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
            let tone = if answer == "succeeded" { Tone::Good } else { Tone::Bad };
            output.say(tone, "Settled", &format!("{target}: {said}{detail}"));
        }
        Event::ClockSet { by_ms } => {
            let way = if *by_ms > 0 { "forward" } else { "back" };
            let text = format!(
                "this machine's clock was set {way} by {}",
                span(by_ms.unsigned_abs().saturating_add(500) / 1_000 * 1_000)
            );
            output.say(Tone::Bad, "Clock", &text);
        }
        Event::ContactLost { target, attempt, detail, asked_ms, log, .. } => {
            let next = match asked_ms {
                Some(asked) => format!("its probe runs for up to {}", span(*asked)),
                None => "it has no probe".to_owned(),
            };
            output.say(
                Tone::Bad,
                "Lost",
                &format!("contact with {target}, attempt {attempt}: {detail}; {next}; output in {log}"),
            );
        }
        Event::EndingRestored { target, attempt, ending, detail, roll_back } => {
            let what = if *roll_back { "its roll-back" } else { "its action" };
            let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
            let (tone, how) = match ending {
                Ending::Succeeded => (Tone::Good, "succeeded"),
                Ending::TimedOut => (Tone::Bad, "timed out"),
                _ => (Tone::Bad, "failed"),
            };
            let text = format!("{target}, attempt {attempt}: this runner saw that {what} {how}{detail}");
            output.say(tone, "Restored", &text);
        }
        Event::Paused { by, reason } => {
            let reason = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            output.say(Tone::Bad, "Paused", &format!("by {by}{reason}"));
        }
        Event::Unpaused {} => output.say(Tone::Good, "Resumed", "the run"),
        Event::RetryRequested { target, by } => {
            output.say(Tone::Plain, "Retry", &format!("{target}, requested by {by}"));
        }
        Event::Accepted { target } => output.say(Tone::Plain, "Accepted", &format!("the outcome on {target}")),
        // What does not wait is said with its answer.
        Event::CallStarted { call, .. } if !call.waits() => {}
        Event::CallStarted { call, .. } => {
            output.say(Tone::Plain, "Calling", &terminal::line(&call.to_string()));
        }
        Event::CallAnswered { called: Called { call, answer, .. } } => {
            let text = if call.waits() { answer.to_string() } else { format!("{call}: {answer}") };
            output.say(Tone::Good, if call.waits() { "Answered" } else { "Called" }, &terminal::line(&text));
        }
        // They were told when they were new.
        Event::CallReplayed { .. } => {}
        Event::OrchestrationFault { message, hint, .. } => {
            output.say(Tone::Bad, "Fault", message);
            if let Some(hint) = hint {
                output.say(Tone::Plain, "Hint", hint);
            }
        }
        Event::OrchestrationLog { level, message } => output.say(Tone::Plain, "Log", &format!("{level}: {message}")),
        Event::WaveStarted { wave, targets } => {
            output.say(Tone::Good, "Wave", &format!("`{wave}` starts with {}", of(*targets, "target")));
        }
        Event::WaveBaking { wave, until } => {
            let until = moment(*until, stamped.at);
            output.say(Tone::Good, "Baking", &format!("wave `{wave}` is complete; the next wave starts {until}"));
        }
        Event::WaveAwaitsApproval { wave, run } => {
            let how = format!("`lockkeeper approve {run} {wave}` approves it");
            output.say(Tone::Bad, "Waiting", &format!("wave `{wave}` needs approval: {how}"));
        }
        Event::RollingBack { target, reason, .. } => {
            output.say(Tone::Bad, "Rolling", &format!("back {target}: {reason}"));
        }
        Event::RolledBack { target, took_ms, had } => {
            let had = had.as_ref().map(|had| format!("; {had}")).unwrap_or_default();
            output.say(Tone::Plain, "Rolled", &format!("back {target} in {}{had}", span(*took_ms)));
        }
        Event::RollingBackRun { targets } => {
            output.say(Tone::Bad, "Rolling", &format!("back {}, latest first", of(*targets, "target")));
        }
        Event::NotReleased { target, reason } => {
            output.say(Tone::Bad, "Still held", &format!("the slot of {target}: {reason}"));
        }
        Event::Skipped { target, code, reason } => {
            output.say(Tone::Plain, "Skipped", &format!("{target}: {reason} ({code})"));
        }
        Event::LeaseLost { target, reason } => {
            output.say(Tone::Bad, "Lost", &format!("the lease of {target}: {reason}"))
        }
        Event::PolicyLog { target, line } => {
            output.say(Tone::Plain, "Policy", &format!("{target}, {}: {}", line.level, line.message));
        }
        Event::PolicyFault { target, kind, message, hint } => {
            output.say(Tone::Bad, "Fault", &format!("{target}: {message} ({kind})"));
            if let Some(hint) = hint {
                output.say(Tone::Plain, "Hint", hint);
            }
        }
        Event::Stopping { reason, running } => {
            let rest = if *running > 0 { format!("; {running} running") } else { String::new() };
            output.say(Tone::Bad, "Stopping", &format!("{reason}{rest}"));
        }
        Event::Store { state } => output.say(Tone::Bad, "Store", state),
        Event::Finished { counts, forced, took_ms, end } => {
            let mut parts = vec![format!("{} succeeded", counts.succeeded), format!("{} failed", counts.failed)];
            let rest = counts.pending + counts.waiting;
            for (number, word) in [
                (counts.unknown, "unknown"),
                (counts.rolled_back, "rolled back"),
                (counts.skipped, "skipped"),
                (*forced, "forced"),
                (rest, "not started"),
            ] {
                if number > 0 {
                    parts.push(format!("{number} {word}"));
                }
            }
            let tone = if *end == "succeeded" { Tone::Good } else { Tone::Bad };
            let counts = parts.join(", ");
            match end.as_ref() {
                // This process opens another session and resumes the run, unless another runner has it.
                "lost" => output.say(tone, "Lost", &format!("the session with the store; so far {counts}")),
                _ => output.say(tone, "Finished", &format!("{counts} in {}", span(*took_ms))),
            }
        }
    }
}

fn list(fences: &[u64]) -> String {
    fences.iter().map(|fence| format!("fence {fence}")).collect::<Vec<_>>().join(", ")
}
