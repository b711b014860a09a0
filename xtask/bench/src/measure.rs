//! Everybody in turn, round after round.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lockkeeper_coordination::store::NodePath;
use lockkeeper_tests::proxy::Proxy;
use serde_json::Value;

use crate::Options;
use crate::cast::{Cast, Who};
use crate::child::Running;
use crate::figures::{Figures, Window, medians, quantile};
use crate::plan::{About, Better, Run, SetUp, Work, rows, runs};
use crate::world::World;

/// Rounds where nothing else is said.
const ROUNDS: u32 = 3;

/// How long callers are left alone before they are measured: Java compiles what runs often.
const WARM_UP: Duration = Duration::from_millis(2500);

/// The session time-out of who loses a lease.
const SESSION: Duration = Duration::from_secs(3);

/// How many session time-outs a loss is waited for: kazoo tells of none while the partition lasts.
const MOST_SESSIONS: u32 = 2;

/// How long callers may take to queue.
const QUEUEING: Duration = Duration::from_secs(120);

/// What a run came to for one of them.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) run: &'static str,
    pub(crate) set_up: SetUp,
    pub(crate) figures: Figures,
}

/// What was measured, and how.
#[derive(Debug)]
pub(crate) struct Results {
    pub(crate) rounds: u32,
    pub(crate) quick: bool,
    pub(crate) runs: Vec<Run>,
    pub(crate) outcomes: Vec<Outcome>,
}

impl Results {
    /// What somebody came to in a run: of several set-ups, the one that is best in the run's first row.
    pub(crate) fn best(&self, run: &str, who: Who) -> Option<&Outcome> {
        let deciding = rows().into_iter().find(|row| row.run == run)?;
        let better = |outcome: &&Outcome| {
            let figure = outcome.figures.get(deciding.figure).copied().unwrap_or(f64::NAN);
            if deciding.better == Better::More { figure } else { -figure }
        };
        let candidates = self.outcomes.iter().filter(|outcome| outcome.run == run && outcome.set_up.who == who);
        candidates.max_by(|one, other| better(one).total_cmp(&better(other)))
    }
}

pub(crate) fn all(options: &Options, cast: &Cast, world: &World) -> Result<Results> {
    let rounds = options.rounds.unwrap_or(if options.quick { 1 } else { ROUNDS });
    let mut runs = runs();
    for name in &options.only {
        let known: Vec<&str> = runs.iter().map(|run| run.name).collect();
        ensure!(known.contains(&name.as_str()), "no run is called `{name}`: there are {}", known.join(", "));
    }
    runs.retain(|run| options.only.is_empty() || options.only.iter().any(|name| name == run.name));
    for run in &mut runs {
        run.set_ups.retain(|set_up| cast.is_here(set_up.who));
        if options.quick {
            run.seconds = run.seconds.min(2.0);
        }
    }
    let warm_up = if options.quick { WARM_UP / 2 } else { WARM_UP };
    let mut bench = Bench { cast, world, warm_up, turns: 0 };
    bench.warm_up(options.quick)?;
    let mut outcomes = Vec::new();
    for run in &runs {
        eprintln!("{}", run.title);
        let mut figures: Vec<Vec<Figures>> = run.set_ups.iter().map(|_| Vec::new()).collect();
        for round in 0..rounds as usize {
            // Another one begins each time.
            for turn in 0..run.set_ups.len() {
                let turn = (turn + round) % run.set_ups.len();
                let set_up = run.set_ups[turn];
                let seen = bench.turn(run, set_up).with_context(|| format!("{:?} in run `{}`", set_up.who, run.name));
                let seen = match seen {
                    Err(error) if set_up.who != Who::Lockkeeper => {
                        eprintln!("  left out this time: {error:#}");
                        continue;
                    }
                    seen => seen?,
                };
                eprintln!("  {} {}", described(cast, run, set_up), told(&seen));
                figures[turn].push(seen);
            }
        }
        for (set_up, figures) in run.set_ups.iter().zip(figures) {
            outcomes.push(Outcome { run: run.name, set_up: *set_up, figures: medians(&figures) });
        }
    }
    Ok(Results { rounds, quick: options.quick, runs, outcomes })
}

fn described(cast: &Cast, run: &Run, set_up: SetUp) -> String {
    let SetUp { who, sessions, processes } = set_up;
    let several = run.set_ups.iter().filter(|other| other.who == who).count() > 1;
    if several {
        format!("{} ({processes} processes, {sessions} sessions):", cast.name(who))
    } else {
        format!("{}:", cast.name(who))
    }
}

fn told(figures: &Figures) -> String {
    figures.iter().map(|(name, figure)| format!("{name} {figure:.2}")).collect::<Vec<_>>().join(", ")
}

struct Bench<'a> {
    cast: &'a Cast,
    world: &'a World,
    warm_up: Duration,
    turns: u32,
}

impl Bench<'_> {
    /// Lets the server's Java compile what runs often, so that whoever is first has no worse server than who is last.
    fn warm_up(&mut self, quick: bool) -> Result<()> {
        let mut run = runs().into_iter().find(|run| run.name == "rush").context("there is such a run")?;
        run.seconds = if quick { 1.0 } else { 5.0 };
        for who in [Who::Lockkeeper, Who::Sequence] {
            let set_up = SetUp { who, sessions: 32, processes: 1 };
            self.turn(&run, set_up).context("while the server was warmed up")?;
        }
        Ok(())
    }

    /// One process of somebody's, on a path of its own.
    fn turn(&mut self, run: &Run, set_up: SetUp) -> Result<Figures> {
        self.turns += 1;
        let path = NodePath::parse(&format!("/bench/{}-{}", run.name, self.turns))?;
        let proxy = self.world.behind(run.round_trip);
        let hosts = proxy.as_ref().map_or_else(|| self.world.server.hosts(), Proxy::hosts);
        match run.about {
            About::Slots(work) if work.once => self.queue(run, set_up, work, &hosts, &path),
            About::Slots(work) => self.slots(run, set_up, work, &hosts, &path),
            About::Holders(leases) => self.holders(run, set_up, leases, &hosts, &path),
            About::Loss => self.loss(set_up, &path),
        }
    }

    fn command(
        &self,
        scenario: &str,
        set_up: SetUp,
        hosts: &str,
        path: &NodePath,
        more: &[(&str, String)],
    ) -> Result<Command> {
        let mut command = self.cast.command(set_up.who)?;
        command.arg(scenario).args(["--server", hosts, "--path", path.as_str()]);
        command.arg("--sessions").arg(set_up.sessions.to_string());
        match set_up.who {
            Who::Kazoo => {
                command.arg("--processes").arg(set_up.processes.to_string());
            }
            Who::Sequence => {
                command.args(["--recipe", "sequence"]);
            }
            Who::Lockkeeper | Who::Curator => {}
        }
        for (name, value) in more {
            command.arg(name).arg(value);
        }
        Ok(command)
    }

    fn callers(&self, run: &Run, set_up: SetUp, work: Work, hosts: &str, path: &NodePath) -> Result<Running> {
        let more = [
            ("--slots", work.slots.to_string()),
            ("--callers", work.callers.to_string()),
            ("--work-ms", work.work_ms.to_string()),
            ("--warm-ms", self.warm_up.as_millis().to_string()),
            ("--seconds", run.seconds.to_string()),
        ];
        let mut command = self.command("contend", set_up, hosts, path, &more)?;
        if work.once {
            command.arg("--once");
        }
        Running::start(command)
    }

    /// Callers that take slots again and again.
    fn slots(&self, run: &Run, set_up: SetUp, work: Work, hosts: &str, path: &NodePath) -> Result<Figures> {
        let round_trip = self.world.round_trip_ms(hosts)?;
        let window = Duration::from_secs_f64(run.seconds);
        let mut running = self.callers(run, set_up, work, hosts, path)?;
        running.expect("ready", self.warm_up)?;
        if work.callers > 1 {
            std::thread::sleep(self.warm_up);
        }
        // Who counts the leases makes requests: where those are counted, nobody does.
        let samples = (work.callers > 2).then(|| self.world.sample(&leases(set_up.who, path)));
        let before = self.world.counters()?;
        running.say("go")?;
        running.expect("end", window)?;
        let after = self.world.counters()?;
        let samples = samples.map(|samples| samples.stop(work.slots));
        let told: Value = serde_json::from_str(&running.line(Duration::ZERO)?)?;
        running.close()?;

        let window = Window::read(&told)?;
        ensure!(window.acquisitions() > 0.0, "no caller acquired a slot");
        // The server's own count: a lease is made and deleted for each acquisition.
        let transactions = (after.transactions - before.transactions) as f64;
        let least = 2.0 * window.acquisitions();
        ensure!(transactions >= least, "the server counts {transactions} writes, {least} were made at the least");
        let mut figures = Figures::from([("per-second", window.per_second()), ("at-work", window.at_work())]);
        figures.insert("round-trip-ms", round_trip);
        if let Some((mean, most)) = samples {
            figures.extend([("leases", mean), ("most-leases", most)]);
        } else if work.callers == 1 {
            // One packet is the second question itself.
            figures.insert("requests", (after.packets - before.packets - 1) as f64 / window.acquisitions());
            figures.insert("transactions", transactions / window.acquisitions());
        }
        let times = [
            ("acquire-ms", window.acquire_ms(0.5)),
            ("acquire-p99-ms", window.acquire_ms(0.99)),
            ("release-ms", window.release_ms()),
            ("hand-over-ms", window.hand_over_ms().filter(|_| work.slots == 1 && work.callers > 1)),
        ];
        figures.extend(times.into_iter().filter_map(|(name, time)| Some((name, time?))));
        let in_round_trips = [("round-trips", "acquire-ms"), ("hand-over-round-trips", "hand-over-ms")];
        for (name, of) in in_round_trips {
            if let Some(time) = figures.get(of).copied() {
                figures.insert(name, time / round_trip);
            }
        }
        Ok(figures)
    }

    /// Callers that all wait, of whom who is served goes.
    fn queue(&self, run: &Run, set_up: SetUp, work: Work, hosts: &str, path: &NodePath) -> Result<Figures> {
        // Nobody is served before everybody waits.
        let (leases, queue) = (leases(set_up.who, path), queue(set_up.who, path));
        self.world.make_leases(&leases, work.slots)?;
        let mut running = self.callers(run, set_up, work, hosts, path)?;
        running.expect("ready", Duration::ZERO)?;
        let deadline = Instant::now() + QUEUEING;
        let waiting = || self.world.children(&queue) as f64;
        while waiting() < f64::from(work.callers) {
            ensure!(Instant::now() < deadline, "only {} of {} callers queue", waiting(), work.callers);
            std::thread::sleep(Duration::from_millis(100));
        }
        std::thread::sleep(self.warm_up);
        let before = self.world.counters()?;
        running.say("go")?;
        let ours = self.world.break_leases(&leases)?;
        running.expect("end", Duration::from_secs_f64(run.seconds))?;
        let after = self.world.counters()?;
        let left = waiting();
        let told: Value = serde_json::from_str(&running.line(Duration::ZERO)?)?;
        running.close()?;
        let window = Window::read(&told)?;
        ensure!(window.acquisitions() > 0.0, "no caller acquired a slot");
        // The server's own count: those that were served no longer wait.
        let served = f64::from(work.callers) - left;
        ensure!(served > 0.0, "{} acquisitions are reported, and every caller still waits", window.acquisitions());
        // Ours are those of the broken leases, and the second question itself.
        let packets = after.packets - before.packets - ours - 1;
        Ok(Figures::from([
            ("left-waiting", left),
            ("per-second", window.per_second()),
            ("requests", packets as f64 / window.acquisitions()),
        ]))
    }

    fn holders(&self, run: &Run, set_up: SetUp, leases: u32, hosts: &str, path: &NodePath) -> Result<Figures> {
        self.world.make_leases(path, leases)?;
        let more = [("--slots", leases.to_string()), ("--seconds", run.seconds.to_string())];
        let mut running = Running::start(self.command("holders", set_up, hosts, path, &more)?)?;
        running.expect("ready", Duration::ZERO)?;
        running.say("go")?;
        running.expect("end", Duration::from_secs_f64(run.seconds))?;
        let told: Value = serde_json::from_str(&running.line(Duration::ZERO)?)?;
        running.close()?;
        ensure!(told["found"].as_u64() == Some(u64::from(leases)), "{} of {leases} were found", told["found"]);
        let times = told["times"].as_array().into_iter().flatten().filter_map(Value::as_f64);
        let middle = quantile(times, 0.5).context("nothing was measured")?;
        Ok(Figures::from([("listing-ms", middle / 1000.0)]))
    }

    /// A holder that the server no longer hears, nor it the server.
    fn loss(&self, set_up: SetUp, path: &NodePath) -> Result<Figures> {
        let proxy = Proxy::start(self.world.server.address());
        let more = [("--session-ms", SESSION.as_millis().to_string())];
        let mut running = Running::start(self.command("lost", set_up, &proxy.hosts(), path, &more)?)?;
        running.expect("ready", Duration::ZERO)?;
        let leases = leases(set_up.who, path);
        ensure!(self.world.children(&leases) == 1, "no lease is there");
        proxy.partition();
        let began = Instant::now();
        let sessions = |at: Instant| at.duration_since(began).as_secs_f64() / SESSION.as_secs_f64();
        let deadline = began + MOST_SESSIONS * SESSION;
        let mut figures = Figures::new();
        while Instant::now() < deadline && !(figures.contains_key("declared") && figures.contains_key("given-away")) {
            match running.line_by(Instant::now() + Duration::from_millis(5))? {
                Some((at, said)) if said == "suspended" => {
                    figures.insert("suspended", sessions(at));
                }
                Some((at, said)) if said == "lost" => {
                    figures.insert("declared", sessions(at));
                }
                _ => {}
            }
            if !figures.contains_key("given-away") && self.world.children(&leases) == 0 {
                figures.insert("given-away", sessions(Instant::now()));
            }
        }
        let is_whole = ["declared", "given-away"].iter().all(|name| figures.contains_key(name));
        ensure!(is_whole || set_up.who != Who::Lockkeeper, "the loss was not seen: {figures:?}");
        if let (Some(declared), Some(given_away)) = (figures.get("declared"), figures.get("given-away")) {
            figures.insert("ahead", given_away - declared);
        }
        Ok(figures)
    }
}

/// Where somebody's leases are.
fn leases(who: Who, path: &NodePath) -> NodePath {
    match who {
        Who::Lockkeeper | Who::Kazoo | Who::Sequence => path.clone(),
        Who::Curator => path.child("leases"),
    }
}

/// Where somebody's callers wait.
fn queue(who: Who, path: &NodePath) -> NodePath {
    match who {
        Who::Lockkeeper | Who::Kazoo | Who::Sequence => path.with_suffix("-__lock__"),
        Who::Curator => path.child("locks"),
    }
}
