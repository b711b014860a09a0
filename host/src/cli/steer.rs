//! `lockkeeper pause`, `resume`, `abort`, `approve` and `retry`: what people want of a run.

use std::sync::Arc;

use nix::unistd::{Uid, User};
use serde_json::json;

use super::exit::{ErrorKind, Exit, Failure};
use super::output::{Output, of, shown};
use super::{AbortArgs, ApproveArgs, Global, PauseArgs, ResumeArgs, RetryArgs, kept};
use crate::job::{JobName, JobSpec};
use crate::recipe::{AcquireError, Identifier, Patience};
use crate::rollout::Wish;
use crate::rollout::ledger::{self, AboutVersion, Kept, LedgerError, Runner, Standing, StandingOf, Wishes};
use crate::store::Store;

/// A run, and a session with its store.
struct Ground<'a> {
    output: &'a Output,
    store: Arc<dyn Store>,
    run: Kept,
}

impl<'a> Ground<'a> {
    async fn new(global: &Global, output: &'a Output, run: &str) -> Result<Self, Failure> {
        let store = global.open(output).await?;
        let run = kept::find(&store, run).await?;
        Ok(Self { output, store, run })
    }

    fn wish(&self, reason: Option<String>) -> Wish {
        Wish { by: me(), at: self.store.clock().now_ms(), reason }
    }

    fn job(&self) -> Result<JobName, Failure> {
        JobName::parse(&self.run.record.job).map_err(|error| Failure::new(ErrorKind::BadRun, error))
    }

    /// Who runs it now.
    async fn runner(&self) -> Result<Option<String>, Failure> {
        let (holder, _) = Runner::of(&self.store, &self.job()?).await?;
        Ok(holder.map(|holder| holder.identifier))
    }

    /// A wish only means something while the run is not finished.
    fn check_open(&self) -> Result<(), Failure> {
        match &self.run.record.ended {
            None => Ok(()),
            Some(ended) => {
                let text = format!("run `{}` is finished already ({})", self.run.name, ended.end);
                Err(Failure::message(ErrorKind::Finished, text).hint(
                    "`lockkeeper run JOB --again` starts anew; `lockkeeper retry` lets targets of this run go again",
                ))
            }
        }
    }

    async fn change(&self, change: impl Fn(&mut Wishes)) -> Result<Wishes, Failure> {
        Ok(ledger::wish(&self.store, &self.run.name, change).await?)
    }

    /// Says what was wished, and who will hear of it.
    async fn told(&self, verb: &str, what: &str) -> Result<Exit, Failure> {
        let runner = self.runner().await?;
        let heard = match &runner {
            Some(runner) => format!("{runner} runs it, and hears of this at once"),
            None => "nobody runs it now; `lockkeeper run` with its job goes on with it, and heeds this".to_owned(),
        };
        if self.output.is_json() {
            self.output
                .json(&json!({ "run": self.run.name, "done": verb.to_lowercase(), "what": what, "runner": runner }));
        } else {
            self.output.talk(verb, &format!("{what} of run `{}`; {heard}", self.run.name));
        }
        self.store.close().await?;
        Ok(Exit::Done)
    }

    async fn targets(&self) -> Result<Vec<(String, StandingOf)>, Failure> {
        let targets = ledger::targets(&self.store, &self.run.name).await?;
        let standings = ledger::standings_of(&self.store, &self.run.name, &targets).await?;
        Ok(targets.into_iter().map(|target| target.name.to_string()).zip(standings).collect())
    }
}

pub(super) async fn pause(global: &Global, output: &Output, args: PauseArgs) -> Result<Exit, Failure> {
    let ground = Ground::new(global, output, &args.run).await?;
    ground.check_open()?;
    let wish = ground.wish(args.reason);
    let wishes = ground.change(|wishes| drop(wishes.paused.get_or_insert_with(|| wish.clone()))).await?;
    match wishes.paused {
        Some(paused) if paused != wish => {
            ground.told("Paused", &format!("already, by {}: every start", paused.by)).await
        }
        _ => ground.told("Paused", "every start").await,
    }
}

pub(super) async fn resume(global: &Global, output: &Output, args: ResumeArgs) -> Result<Exit, Failure> {
    let ground = Ground::new(global, output, &args.run).await?;
    ground.check_open()?;
    let wish = ground.wish(None);
    let bad: Vec<(String, StandingOf)> =
        ground.targets().await?.into_iter().filter(|(_, (saved, _))| is_bad(&saved.standing)).collect();
    let accepted = |wishes: &Wishes, (name, (_, version)): &(String, StandingOf)| {
        wishes.accepted.get(name).is_some_and(|about| about.version == *version)
    };
    let before = ledger::wishes(&ground.store, &ground.run.name).await?;
    let open = bad.iter().filter(|target| !accepted(&before, target)).count();
    ground
        .change(|wishes| {
            wishes.paused = None;
            if args.accept {
                for (name, (_, version)) in &bad {
                    wishes.accepted.insert(name.clone(), AboutVersion { version: *version, wish: wish.clone() });
                }
            }
        })
        .await?;
    let what = match (args.accept, open) {
        (true, _) => format!("every start, {} accepted as they are,", of(open, "target")),
        (false, 0) => "every start".to_owned(),
        (false, open) => {
            output.warn(&format!(
                "{} failed or unknown: if that holds the run up, `lockkeeper retry` them, or accept them with `resume --accept`",
                of(open, "target")
            ));
            "every start".to_owned()
        }
    };
    ground.told("Resumed", &what).await
}

pub(super) async fn approve(global: &Global, output: &Output, args: ApproveArgs) -> Result<Exit, Failure> {
    let ground = Ground::new(global, output, &args.run).await?;
    ground.check_open()?;
    let text = ledger::job_text(&ground.store, &ground.run.name).await?;
    let waves: Vec<String> = JobSpec::parse("job", &text)
        .map(|job| job.waves.into_iter().filter(|wave| wave.approve).map(|wave| wave.name.to_string()).collect())
        .unwrap_or_default();
    if !waves.contains(&args.wave) {
        let text = format!("run `{}` has no wave `{}` that wants approval", ground.run.name, shown(&args.wave));
        let hint = match waves.as_slice() {
            [] => "its job has no `[[wave]]` with `approve = true`".to_owned(),
            waves => format!("there is `{}`", waves.join("`, `")),
        };
        return Err(Failure::message(ErrorKind::BadArgument, text).hint(hint));
    }
    let wish = ground.wish(args.reason);
    ground.change(|wishes| drop(wishes.approved.entry(args.wave.clone()).or_insert_with(|| wish.clone()))).await?;
    ground.told("Approved", &format!("wave `{}`", args.wave)).await
}

pub(super) async fn retry(global: &Global, output: &Output, args: RetryArgs) -> Result<Exit, Failure> {
    let ground = Ground::new(global, output, &args.run).await?;
    let all = ground.targets().await?;
    for name in &args.targets {
        if !all.iter().any(|(target, _)| target == name) {
            let text = format!("run `{}` has no target `{}`", ground.run.name, shown(name));
            return Err(Failure::message(ErrorKind::BadArgument, text).hint("`lockkeeper status RUN --all` lists them"));
        }
    }
    let wanted = |name: &str, standing: &Standing| {
        args.targets.iter().any(|target| target == name)
            || match standing {
                Standing::Failed { .. } | Standing::RolledBack { .. } => args.failed,
                Standing::Unknown { .. } => args.unknown,
                Standing::Skipped { .. } => args.skipped,
                _ => false,
            }
    };
    let mut again = Vec::new();
    for (name, (saved, version)) in all {
        if !wanted(&name, &saved.standing) {
            continue;
        }
        match &saved.standing {
            Standing::Failed { .. }
            | Standing::Unknown { .. }
            | Standing::RolledBack { .. }
            | Standing::Skipped { .. } => {
                again.push((name, saved.standing.word(), version));
            }
            // In a finished run these go once it is open again.
            Standing::Pending if ground.run.record.ended.is_some() => again.push((name, "never started", version)),
            standing => {
                let text = format!("target `{}` is {}: there is nothing to retry", shown(&name), standing.word());
                return Err(Failure::message(ErrorKind::BadArgument, text)
                    .hint("who failed, is unknown, was left out or was rolled back can go again"));
            }
        }
    }
    if again.is_empty() {
        return Err(Failure::message(ErrorKind::BadArgument, "no target is to go again")
            .hint("name targets, or say --failed, --unknown or --skipped; `lockkeeper status RUN` shows who that is"));
    }
    let wish = ground.wish(args.reason);
    ground
        .change(|wishes| {
            for (name, _, version) in &again {
                wishes.retry.insert(name.clone(), AboutVersion { version: *version, wish: wish.clone() });
            }
            // Who wants a target to go again does not want the run to end.
            wishes.aborted = None;
        })
        .await?;
    if ground.run.record.ended.is_some() {
        ledger::reopen(&ground.store, &ground.run).await?;
        output.talk("Opened", &format!("run `{}`, which was finished", ground.run.name));
    }
    for (name, was, _) in &again {
        output.talk("Again", &format!("{}, which was {was}", super::holders::plain(name)));
    }
    ground.told("Retrying", &of(again.len(), "target")).await
}

pub(super) async fn abort(global: &Global, output: &Output, args: AbortArgs) -> Result<Exit, Failure> {
    let ground = Ground::new(global, output, &args.run).await?;
    ground.check_open()?;
    let wish = ground.wish(args.reason);
    ground.change(|wishes| drop(wishes.aborted.get_or_insert_with(|| wish.clone()))).await?;
    // Nobody runs it: then it ends here.
    let who =
        Identifier::new(format!("{} (abort)", me())).map_err(|error| Failure::new(ErrorKind::BadArgument, error))?;
    match Runner::become_one(&ground.store, &ground.job()?, who, Patience::Once).await {
        Ok(runner) => {
            let why = wish.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            let kept = ledger::run(&ground.store, &ground.run.name).await?;
            let opened = runner.go_on(kept, String::new()).await?;
            let ended = ledger::abandon(&opened, &format!("the run was aborted by {}{why}", wish.by), wish.at).await?;
            runner.step_down().await;
            let counts = ended.counts;
            if output.is_json() {
                output.json(&json!({ "run": ground.run.name, "done": "aborted", "counts": counts, "runner": null }));
            } else {
                let rest = counts.pending + counts.waiting;
                output.talk(
                    "Aborted",
                    &format!(
                        "run `{}`, which nobody ran: {} done, {} failed, {} unknown, {rest} not started; nothing of it is held",
                        ground.run.name, counts.done, counts.failed, counts.unknown
                    ),
                );
            }
            ground.store.close().await?;
            Ok(Exit::Done)
        }
        Err(LedgerError::Runner(AcquireError::Full { .. })) => ground.told("Aborted", "what has not started").await,
        Err(error) => Err(error.into()),
    }
}

fn is_bad(standing: &Standing) -> bool {
    matches!(standing, Standing::Failed { .. } | Standing::Unknown { .. } | Standing::RolledBack { .. })
}

/// Who says so: user and host.
pub(super) fn me() -> String {
    let uid = Uid::current();
    let user = User::from_uid(uid).ok().flatten().map_or_else(|| format!("user {uid}"), |user| user.name);
    format!("{user}@{}", gethostname::gethostname().to_string_lossy())
}
