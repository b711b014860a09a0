//! Scenarios: text in, text out. Each file of `scenarios/` is one behaviour of the machine; to add a case is to add a file.
//!
//! A file is a comment and then blocks: what happens, `----`, and what the machine does about it. A store that behaves
//! stands beside the machine: who queues gets a slot, who leaves is let go, unless `start` says `by-hand`. The policy
//! answers `lock` and `release` until a line says otherwise.
//!
//! | line | what happens |
//! |---|---|
//! | `start slots=2 targets=a,b …` | also `floor=`, `not-blocking`, `floor-patience=`, `member={target}.x`, `counts-others`, `budget=` (`max-failed`), `stop-at=`, `attempts=`, `patience=`, `on-fault=`, `by-hand`, `probe`, `roll-back-probe`, `can-roll-back`, `on-unknown=`, `on-exhausted=`, `back-off=`, `observe=semaphore:/x,party:/y`, `ephemeral`, `now=` |
//! | | `waves=canary:1:10m,rest:*:0s:approve:1`: name, targets, bake, whether to approve, slots, `stop=1`; `written`: what is written down is shown |
//! | `resume a=acting:1:17,b=done@30s` | before `start`: where an earlier runner left targets: standing, try, fence, `@` since when; `kept:10m`, `retrying:10m`, `ended-well`, `ended-badly`, `roll-back-ended` |
//! | `admit a wait wake=30s` | how the policy answers from now on; `*` for all targets |
//! | `granted a wait`, `settle a keep 10m` | likewise, once the slot is there; once it acted |
//! | `slot a`, `no-slot a timed-out`, `released a` | by hand |
//! | `gone a`, `adopted a 17`, `probed a done` | of what was found |
//! | `steer paused-by=ops reason=x`, `resume`, `abort-by=ops`, `approve rest`, `retry a`, `accept a` | people; before `start`: from the first moment |
//! | `observed 0 semaphore 3 salt:7`, `observed 1 party a,b`, `observed 0 unread` | what else is read |
//! | `run-lost` | the run is somebody else's |
//! | `lost a`, `succeed a`, `fail a`, `ended a unknown`, `cut-off a`, `stale a 101` | the lease or the action; its connection broke; its fence was refused |
//! | `members a,b`, `party-unread`, `leases salt:7`, `slots 3`, `session over` | what is read |
//! | `after 30s`, `clock 10h`, `clock -10h`, `stop gently` | time, a clock that is set, and people |
//!
//! `UPDATE_SCENARIOS=1` writes what the machine does into the files.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use lockkeeper::job::{
    Calendar, Fit, Freeze, MemberTemplate, ObserveSpec, OnExhausted, OnFault, OnUnknown, PartyCounts, Target,
    TargetName, Template, Window,
};
use lockkeeper::policy::types::{Admission, Admitted, Cause, Ending, Settled, Settlement, View};
use lockkeeper::rollout::machine::Rollout;
use lockkeeper::rollout::model::{
    Acquisition, Action, ActionResult, Budget, CommandKind, Connectivity, Course, EpochMs, Event, Fault, Floor,
    HardLimits, HeldElsewhere, Input, LeaseRecord, NotLeased, Observed, OperatorRequest, OperatorRequests, Probed,
    RecordedStatus, Resumed, RunId, SeenLease, SeenMember, Setup, Stop, Takeover, TargetIndex, TargetRecord, Wave,
    stale_mark,
};
use lockkeeper_coordination::store::{Fence, Lifetime, NodePath};

/// The most that one line may lead to.
const MAX_STEPS: usize = 1_000;

const FIRST_FENCE: u64 = 101;

struct Scene {
    rollout: Rollout,
    now: u64,
    by_hand: bool,
    fence: Fence,
    /// The fences that an earlier runner left.
    left: BTreeMap<TargetIndex, Fence>,
    /// Its leases are there no more.
    ephemeral: bool,
    /// What is written down is shown.
    written: bool,
    requests: OperatorRequests,
    over: bool,
    out: String,
}

/// The policy's answers, by question and target.
type Answers = BTreeMap<(String, String), Vec<String>>;

fn milliseconds(text: &str) -> u64 {
    text.parse::<u64>().unwrap_or_else(|_| {
        let span: Duration = humantime::parse_duration(text).unwrap_or_else(|error| panic!("`{text}`: {error}"));
        span.as_millis() as u64
    })
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').filter(|part| !part.is_empty())
}

/// Plays a file and gives it as it should be.
fn scenario(text: &str) -> String {
    let mut scene = None;
    let mut answers = Answers::new();
    let mut written = String::new();
    for block in text.split("\n\n").filter(|block| !block.trim().is_empty()) {
        let lines: Vec<&str> = block.lines().take_while(|line| *line != "----").collect();
        for line in &lines {
            happen(&mut scene, &mut answers, line);
        }
        writeln!(written, "{}", lines.join("\n").trim()).unwrap();
        if let Some(scene) = &mut scene {
            write!(written, "----\n{}", std::mem::take(&mut scene.out)).unwrap();
        }
        written.push('\n');
    }
    written.trim_end().to_owned() + "\n"
}

fn happen(scene: &mut Option<Scene>, answers: &mut Answers, line: &str) {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        [] | ["#", ..] => {}
        [question @ ("admit" | "granted" | "settle"), target, answer @ ..] => {
            let answer = answer.iter().map(|&word| word.to_owned()).collect();
            answers.insert(((*question).to_owned(), (*target).to_owned()), answer);
        }
        ["resume", found] => {
            answers.insert(("resume".to_owned(), String::new()), vec![(*found).to_owned()]);
        }
        ["request", requests @ ..] if scene.is_none() => {
            let requests = requests.iter().map(|&word| word.to_owned()).collect();
            answers.insert(("request".to_owned(), String::new()), requests);
        }
        ["start", settings @ ..] => {
            let found = answers.remove(&("resume".to_owned(), String::new()));
            let begun = scene.insert(Scene::new(settings, found.as_ref().map(|found| found[0].as_str())));
            if let Some(requests) = answers.remove(&("request".to_owned(), String::new())) {
                begun.requests(&requests.iter().map(String::as_str).collect::<Vec<_>>());
            }
            let requests = begun.requests.clone();
            begun.step(answers, Input::OperatorRequests(requests));
            begun.step(answers, Input::Semaphore { leases: Vec::new(), queued: 0, slots: None });
        }
        words => {
            let scene = scene.as_mut().unwrap_or_else(|| panic!("`{line}` before `start`"));
            scene.happen(answers, words);
        }
    }
}

/// `window=FROM..UNTIL` on the first day, to be finished in; `freeze=FROM..UNTIL`.
fn calendar(window: Option<&str>, freeze: Option<&str>) -> Calendar {
    let both = |text: &str| {
        let (from, until) = text.split_once("..").expect("`FROM..UNTIL`");
        (milliseconds(from), milliseconds(until))
    };
    let at = |ms: u64| Timestamp::from_millisecond(ms.try_into().unwrap()).unwrap();
    let freeze = freeze.map(both).map(|(from, until)| Freeze { from: at(from), until: at(until), reason: None });
    let window = window.map(both).map(|(from, until)| Window {
        days: Vec::new(),
        start: TimeZone::UTC.to_datetime(at(from)).time(),
        duration: Duration::from_millis(until - from),
        zone: TimeZone::UTC,
        fit: Fit::Finish,
    });
    Calendar { windows: window.into_iter().collect(), freezes: freeze.into_iter().collect() }
}

impl Scene {
    fn new(settings: &[&str], found: Option<&str>) -> Self {
        let value = |key: &str| settings.iter().find_map(|setting| setting.strip_prefix(key)?.strip_prefix('='));
        let number = |key: &str| value(key).map(|text| text.parse().expect("a number"));
        let span = |key: &str| value(key).map(|text| Duration::from_millis(milliseconds(text)));
        let names: Vec<&str> = list(value("targets").expect("`targets=`")).collect();
        let has = |word: &str| settings.contains(&word);
        let now = value("now").map_or(0, milliseconds);
        let resumed: Option<Vec<TargetRecord>> = found.map(|found| {
            let of = |name: &&str| list(found).find_map(|part| part.strip_prefix(*name)?.strip_prefix('='));
            names.iter().map(|name| of(name).map_or_else(TargetRecord::default, |text| saved(name, text))).collect()
        });
        let fences = resumed.iter().flatten().enumerate();
        let left = fences
            .filter_map(|(target, saved)| Some((TargetIndex::new(target), saved.lease.as_ref()?.fence?)))
            .collect();
        let floor = number("floor");
        let setup = Setup {
            job: "job".to_owned(),
            run: RunId::new("run"),
            started: EpochMs::default(),
            seed: 0,
            targets: names.iter().map(|name| Target::unlabelled(TargetName::parse(name).unwrap())).collect(),
            limits: HardLimits {
                slots: number("slots").unwrap_or(1),
                floor,
                budget: Budget { stop_at: number("stop-at"), max_failed: number("budget") },
                calendar: Arc::new(calendar(value("window"), value("freeze"))),
            },
            action_timeout: span("timeout"),
            semaphore: "/s".to_owned(),
            lifetime: if has("ephemeral") { Lifetime::Ephemeral } else { Lifetime::Persistent },
            patience: span("patience"),
            party: floor.map(|_| Floor {
                path: "/p".to_owned(),
                blocking: !settings.contains(&"not-blocking"),
                patience: span("floor-patience"),
                member: value("member").map_or_else(MemberTemplate::target, member_template),
                counts: if has("counts-others") { PartyCounts::Others } else { PartyCounts::Targets },
            }),
            attempts: number("attempts").unwrap_or(1),
            on_fault: if value("on-fault") == Some("abort") { OnFault::Abort } else { OnFault::Hold },
            back_off: span("back-off").unwrap_or_default(),
            waves: waves(value("waves").unwrap_or_default(), names.len()),
            has_probe: has("probe"),
            has_roll_back_probe: has("roll-back-probe"),
            can_roll_back: has("can-roll-back"),
            on_unknown: match value("on-unknown") {
                Some("fail") => OnUnknown::Fail,
                Some("retry") => OnUnknown::Retry,
                _ => OnUnknown::Hold,
            },
            on_exhausted: match value("on-exhausted") {
                Some("pause") => OnExhausted::Pause,
                Some("roll-back") => OnExhausted::RollBack,
                _ => OnExhausted::Abort,
            },
            observe: list(value("observe").unwrap_or_default()).map(observed_path).collect(),
            has_orchestration: false,
            resumed: resumed.map(|targets| Resumed { targets, memory: Vec::new(), sequence: 100 }),
        };
        Self {
            rollout: Rollout::new(setup),
            now,
            by_hand: has("by-hand"),
            fence: Fence::new(FIRST_FENCE),
            left,
            ephemeral: has("ephemeral"),
            written: has("written"),
            requests: OperatorRequests::default(),
            over: false,
            out: String::new(),
        }
    }

    /// One more operator request.
    fn requests(&mut self, words: &[&str]) {
        let reason = words.iter().find_map(|word| word.strip_prefix("reason=")).map(str::to_owned);
        let by = words[0].split_once("-by=").map_or("ops", |(_, by)| by).to_owned();
        let request = OperatorRequest { by, at: self.now, reason };
        match words {
            ["resume"] => self.requests.paused = None,
            ["approve", wave] => drop(self.requests.approved.insert((*wave).to_owned(), request)),
            // A request that was carried out is not repeated.
            ["retry", target] => self.requests.retry = BTreeMap::from([(self.find(target), request)]),
            ["accept", target] => drop(self.requests.accepted.insert(self.find(target))),
            [word, ..] if word.starts_with("paused-by=") => self.requests.paused = Some(request),
            [word, ..] if word.starts_with("abort-by=") => self.requests.aborted = Some(request),
            other => panic!("no request is {other:?}"),
        }
    }

    fn happen(&mut self, answers: &Answers, words: &[&str]) {
        let input = match words {
            ["request", requests @ ..] => {
                self.requests.retry.clear();
                self.requests(requests);
                Input::OperatorRequests(self.requests.clone())
            }
            ["adopted", target, fence] => {
                let fence = Fence::new(fence.parse().expect("a fence"));
                Input::Leased { target: self.find(target), fence, how: Acquisition::AlreadyHeld }
            }
            ["gone", target] => Input::NotLeased { target: self.find(target), why: NotLeased::Gone },
            ["probed", target, answer] => {
                let detail = "it says so".to_owned();
                let answer = match *answer {
                    "succeeded" => Probed::Succeeded,
                    "failed" => Probed::Failed { detail },
                    "not-started" => Probed::NotStarted,
                    "running" => Probed::Running,
                    "unreachable" => Probed::Unreachable { detail },
                    "unknown" => Probed::Unknown { detail },
                    other => panic!("a probe never says `{other}`"),
                };
                Input::Probed { target: self.find(target), answer }
            }
            ["observed", index, what @ ..] => {
                let seen = match what {
                    ["unread"] => None,
                    ["party", names] => Some(Observed::Party(list(names).map(member).collect())),
                    ["semaphore", slots, leases @ ..] => {
                        let leases = list(leases.first().copied().unwrap_or_default()).map(lease).collect();
                        Some(Observed::Semaphore { slots: slots.parse().ok(), leases, queued: 0 })
                    }
                    other => panic!("no observation is {other:?}"),
                };
                Input::Observed { index: index.parse().expect("a number"), seen }
            }
            ["run-lost"] => {
                Input::Lost { reason: "the session ended".to_owned(), takeover: Takeover::From(Instant::now()) }
            }
            ["slot", target] => {
                Input::Leased { target: self.find(target), fence: self.next_fence(), how: Acquisition::Free }
            }
            ["no-slot", target, why] => {
                let why = match *why {
                    "timed-out" => NotLeased::TimedOut,
                    "withdrawn" => NotLeased::Withdrawn,
                    "held" => {
                        let by = HeldElsewhere { by: "run `other`".to_owned(), since: Some(7_000) };
                        NotLeased::Held { by, given_back: None }
                    }
                    conflict => NotLeased::Conflict(conflict.to_owned()),
                };
                Input::NotLeased { target: self.find(target), why }
            }
            ["released", target] => Input::Released { target: self.find(target) },
            ["not-released", target] => {
                Input::NotReleased { target: self.find(target), reason: "the store is silent".to_owned() }
            }
            ["lost", target] => Input::LeaseLost {
                target: self.find(target),
                reason: "another operator broke it".to_owned(),
                takeover: Takeover::Since(Instant::now()),
            },
            ["succeed", target] => self.ended(target, Ending::Succeeded),
            ["fail", target] => self.ended(target, Ending::Failed),
            ["stale", target, fence] => {
                let Input::Ended { target, result } = self.ended(target, Ending::Failed) else { unreachable!() };
                let output =
                    vec![format!("error: {}: fence 900 was here", stale_mark(fence.parse().expect("a fence")))];
                Input::Ended { target, result: ActionResult { exit_code: Some(77), output, ..result } }
            }
            ["cut-off", target] => {
                let Input::Ended { target, result } = self.ended(target, Ending::Unknown) else { unreachable!() };
                Input::Ended { target, result: ActionResult { course: Course::ContactLost, ..result } }
            }
            ["ended", target, how] => self.ended(target, ending(how)),
            ["members", names] => Input::Party(list(names).map(member).collect()),
            ["members"] => Input::Party(Vec::new()),
            ["party-unread"] => Input::PartyUnread,
            ["leases", leases @ ..] => {
                let leases = leases.first().copied().unwrap_or_default();
                Input::Semaphore { leases: list(leases).map(lease).collect(), queued: 0, slots: None }
            }
            ["slots", slots] => {
                Input::Semaphore { leases: Vec::new(), queued: 0, slots: Some(slots.parse().expect("a number")) }
            }
            ["clock", by] => {
                let by_ms = match by.strip_prefix('-') {
                    Some(by) => -(milliseconds(by) as i64),
                    None => milliseconds(by) as i64,
                };
                self.now = self.now.saturating_add_signed(by_ms);
                Input::ClockSet { by_ms }
            }
            ["session", state] => Input::Session(match *state {
                "connected" => Connectivity::Connected,
                "suspended" => Connectivity::Suspended,
                "over" => Connectivity::Over,
                other => panic!("a session is never `{other}`"),
            }),
            ["stop", "gently"] => Input::Stop(Stop::Gently),
            ["stop", "now"] => Input::Stop(Stop::Now),
            ["after", span] => return self.pass(answers, self.now + milliseconds(span)),
            other => panic!("`{}` is not a command", other.join(" ")),
        };
        self.step(answers, input);
    }

    /// Time goes on, from one tick to the next.
    fn pass(&mut self, answers: &Answers, until: u64) {
        for _ in 0..MAX_STEPS {
            match self.rollout.next_wake().map(EpochMs::get).filter(|wake| *wake <= until) {
                Some(wake) => {
                    self.now = wake;
                    self.step(answers, Input::Tick);
                }
                None => return self.now = until,
            }
        }
        panic!("time does not pass");
    }

    fn step(&mut self, answers: &Answers, input: Input) {
        let mut inputs = std::collections::VecDeque::from([input]);
        for _ in 0..MAX_STEPS {
            let Some(input) = inputs.pop_front() else {
                return self.say_if_over();
            };
            for action in self.rollout.step(EpochMs::new(self.now), input) {
                inputs.extend(self.answer(answers, action));
            }
        }
        panic!("one thing leads to another for ever");
    }

    /// What the policy and a store that behaves say to an action.
    fn answer(&mut self, answers: &Answers, action: Action) -> Option<Input> {
        let by_hand = self.by_hand;
        match action {
            Action::Reply { .. } => unreachable!("no scenario has an orchestration"),
            Action::Admit { target, view } => {
                let name = &view.target.name;
                let question = if view.cause == Cause::Granted { "granted" } else { "admit" };
                let answer = chosen(answers, question, name).unwrap_or_else(|| vec!["lock".to_owned()]);
                let cause = match &view.cause {
                    Cause::Refused(why) => format!("refused, {why}"),
                    Cause::Operator(by) => format!("{by} steered"),
                    cause => serde_json::to_value(cause).unwrap().as_str().unwrap_or_default().to_owned(),
                };
                self.say(format!("? {name} ({cause}){}: {}", elsewhere(&view), answer.join(" ")));
                Some(Input::Admitted { target, answer: admission(&answer) })
            }
            Action::Settle { target, view, .. } => {
                let name = &view.target.name;
                let answer = chosen(answers, "settle", name).unwrap_or_else(|| vec!["release".to_owned()]);
                if answer != ["release"] {
                    self.say(format!("? {name} (acted): {}", answer.join(" ")));
                }
                Some(Input::Settled { target, answer: settlement(&answer) })
            }
            Action::Emit(event) => {
                if let Some(line) = line(&event) {
                    self.say(line);
                }
                None
            }
            Action::Kill { target, ending, .. } => {
                self.say(format!("> stop the action on {}: {}", self.name(target), ending.word()));
                None
            }
            Action::Start { .. } => None,
            Action::Adopt { target } => {
                self.say(format!("> take over the lease of {}", self.name(target)));
                let fence = self.left.get(&target).copied().unwrap_or(Fence::new(FIRST_FENCE - 1));
                let answer = match self.ephemeral {
                    true => Input::NotLeased { target, why: NotLeased::Gone },
                    false => Input::Leased { target, fence, how: Acquisition::AlreadyHeld },
                };
                (!by_hand).then_some(answer)
            }
            Action::Probe { target, command_kind, attempt, fence, after_ms, .. } => {
                let after = if after_ms > 0 { format!(" in {}", span(after_ms)) } else { String::new() };
                let what = if command_kind == CommandKind::RollBack { "the roll-back of " } else { "" };
                self.say(format!("> probe {what}{}, attempt {attempt}, fence {fence}{after}", self.name(target)));
                None
            }
            Action::Save { target, status } => {
                if self.written {
                    self.say(format!("> write {}: {}", self.name(target), stands(&status)));
                }
                None
            }
            Action::Acquire { target, give_up_at, .. } => {
                if let Some(at) = give_up_at.filter(|_| by_hand) {
                    self.say(format!("> queue for {} until {}", self.name(target), span(at.get())));
                }
                (!by_hand).then(|| Input::Leased { target, fence: self.next_fence(), how: Acquisition::Free })
            }
            Action::Force { target, breaking, .. } => {
                self.say(format!(
                    "> force a slot for {}, breaking {:?}",
                    self.name(target),
                    breaking.iter().map(|fence| fence.get()).collect::<Vec<_>>()
                ));
                (!by_hand).then(|| Input::Leased { target, fence: self.next_fence(), how: Acquisition::Forced })
            }
            Action::Withdraw { target } => {
                self.say(format!("> leave the queue for {}", self.name(target)));
                (!by_hand).then_some(Input::NotLeased { target, why: NotLeased::Withdrawn })
            }
            Action::Release { target, status } => {
                if self.written {
                    self.say(format!("> release {}: {}", self.name(target), stands(&status)));
                } else if by_hand {
                    self.say(format!("> release {}", self.name(target)));
                }
                (!by_hand).then_some(Input::Released { target })
            }
        }
    }

    fn say_if_over(&mut self) {
        if let (Some(report), false) = (self.rollout.report(), self.over) {
            self.over = true;
            let counts = report.counts;
            let parts = [
                (counts.succeeded, "succeeded"),
                (counts.failed, "failed"),
                (counts.unknown, "unknown"),
                (counts.rolled_back, "rolled back"),
                (counts.skipped, "skipped"),
                (counts.pending + counts.waiting, "not started"),
                (report.forced, "forced"),
                (report.timed_out, "timed out"),
            ];
            let parts = parts.iter().filter(|(number, _)| *number > 0).map(|(number, word)| format!("{number} {word}"));
            let parts = parts.collect::<Vec<_>>().join(", ");
            self.say(format!("finished: {} ({}); {parts}", report.end.reason(), report.end.word(&counts)));
        }
    }

    /// A line, led by the time where that has moved.
    fn say(&mut self, line: String) {
        match self.now {
            0 => writeln!(self.out, "{line}").unwrap(),
            now => writeln!(self.out, "{}: {line}", span(now)).unwrap(),
        }
    }

    fn ended(&self, target: &str, ending: Ending) -> Input {
        let result = ActionResult {
            ending,
            course: Course::default(),
            exit_code: None,
            took_ms: 0,
            detail: String::new(),
            output: Vec::new(),
            log: String::new(),
        };
        Input::Ended { target: self.find(target), result }
    }

    fn next_fence(&mut self) -> Fence {
        let fence = self.fence;
        self.fence = Fence::new(fence.get() + 1);
        fence
    }

    fn find(&self, name: &str) -> TargetIndex {
        let total = self.rollout.counts().total as usize;
        (0..total)
            .map(TargetIndex::new)
            .find(|target| self.name(*target) == name)
            .unwrap_or_else(|| panic!("there is no target `{name}`"))
    }

    fn name(&self, target: TargetIndex) -> String {
        self.rollout.target(target).name.to_string()
    }
}

fn member_template(text: &str) -> MemberTemplate {
    MemberTemplate::new(Template::parse(text).expect("a template")).expect("one of `{target}`")
}

fn member(name: &str) -> SeenMember {
    SeenMember { identifier: name.to_owned(), since_ms: 0 }
}

fn lease(text: &str) -> SeenLease {
    let (name, fence) = text.split_once(':').expect("`name:fence`");
    SeenLease {
        identifier: name.to_owned(),
        fence: Fence::new(fence.parse().expect("a fence")),
        since_ms: 0,
        ephemeral: false,
        owner: None,
    }
}

/// `semaphore:/x` or `party:/y`.
fn observed_path(text: &str) -> ObserveSpec {
    let (kind, path) = text.split_once(':').expect("`kind:path`");
    let path = NodePath::parse(path).unwrap();
    if kind == "party" { ObserveSpec::Party(path) } else { ObserveSpec::Semaphore(path) }
}

/// `name:targets:bake[:approve][:slots]`, one after the other; `*` for all that are left.
fn waves(text: &str, total: usize) -> Vec<Wave> {
    let mut from = 0;
    let wave = |text: &str| {
        let parts: Vec<&str> = text.split(':').collect();
        let until = parts[1].parse::<usize>().map_or(total, |size| from + size);
        let wave = Wave {
            name: parts[0].to_owned(),
            targets: from..until,
            slots: parts[3..].iter().find_map(|part| part.parse().ok()),
            stop_at: parts[3..].iter().find_map(|part| part.strip_prefix("stop=")?.parse().ok()),
            bake: Duration::from_millis(milliseconds(parts[2])),
            approve: parts[3..].contains(&"approve"),
        };
        from = until;
        wave
    };
    list(text).map(wave).collect()
}

/// `standing[:try[:fence]][@since]`, or `kept:until` and `retrying:until`.
fn saved(name: &str, text: &str) -> TargetRecord {
    let (text, at) = text.split_once('@').map_or((text, 0), |(text, at)| (text, milliseconds(at)));
    let parts: Vec<&str> = text.split(':').collect();
    let reason = "as it was left".to_owned();
    let until = || milliseconds(parts[1]);
    let status = match parts[0] {
        "pending" => RecordedStatus::Pending,
        "leased" => RecordedStatus::Leased,
        "roll-back-leased" => {
            RecordedStatus::RollBackLeased { was: Box::new(RecordedStatus::Succeeded { took_ms: Some(5) }) }
        }
        "running" => RecordedStatus::Running,
        "rolling-back" => {
            let was = Some(Box::new(RecordedStatus::Failed { reason: "command exited with 3".to_owned(), was: None }));
            RecordedStatus::RollingBack { reason: "the failure budget is spent".to_owned(), was }
        }
        "ended-well" => RecordedStatus::ActionEnded {
            ending: Ending::Succeeded,
            exit_code: Some(0),
            took_ms: 5,
            detail: String::new(),
        },
        "ended-badly" => RecordedStatus::ActionEnded {
            ending: Ending::Failed,
            exit_code: Some(3),
            took_ms: 5,
            detail: "command exited with 3".to_owned(),
        },
        "roll-back-ended" => {
            RecordedStatus::RollBackEnded { becomes: Box::new(RecordedStatus::RolledBack { reason, was: None }) }
        }
        "keeping-slot" => {
            RecordedStatus::KeepingSlot { ending: Ending::Succeeded, exit_code: Some(0), took_ms: 5, until: until() }
        }
        "retrying" => RecordedStatus::Retrying { ending: Ending::Failed, until: until() },
        "succeeded" => RecordedStatus::Succeeded { took_ms: Some(5) },
        "failed" => RecordedStatus::Failed { reason, was: None },
        "unknown" => RecordedStatus::Unknown { reason, was: None },
        "rolled-back" => RecordedStatus::RolledBack { reason, was: None },
        "skipped" => RecordedStatus::Skipped { code: "left-out".to_owned(), reason },
        other => panic!("no status is `{other}`"),
    };
    let is_timed = matches!(status, RecordedStatus::KeepingSlot { .. } | RecordedStatus::Retrying { .. });
    let tries = match status {
        RecordedStatus::Pending | RecordedStatus::Leased | RecordedStatus::Skipped { .. } => 0,
        _ => 1,
    };
    let attempt = parts.get(1).filter(|_| !is_timed).map_or(tries, |attempt| attempt.parse().expect("a try"));
    let fence = parts.get(2).map(|fence| Fence::new(fence.parse().expect("a fence")));
    let is_held = is_timed
        || matches!(
            status,
            RecordedStatus::Leased
                | RecordedStatus::RollBackLeased { .. }
                | RecordedStatus::RollingBack { .. }
                | RecordedStatus::ActionEnded { .. }
                | RecordedStatus::RollBackEnded { .. }
        );
    let lease = fence.or(is_held.then_some(Fence::new(FIRST_FENCE - 1)));
    let path = NodePath::parse(&format!("/s/leases/{name}")).unwrap();
    TargetRecord { at, attempt, lease: lease.map(|fence| LeaseRecord { path, fence: Some(fence) }), status }
}

/// A standing as it is written down.
fn stands(status: &RecordedStatus) -> String {
    let word = status.word();
    match status {
        RecordedStatus::KeepingSlot { until, .. } | RecordedStatus::Retrying { until, .. } => {
            format!("{word} until {}", span(*until))
        }
        RecordedStatus::Failed { .. } | RecordedStatus::Unknown { .. } | RecordedStatus::RolledBack { .. } => {
            format!("{word} ({})", status.account().unwrap_or_default())
        }
        _ => word.to_owned(),
    }
}

/// What the policy sees beside its own semaphore and party.
fn elsewhere(view: &View) -> String {
    let semaphores = view.other_semaphores.iter();
    let semaphores = semaphores.map(|other| format!(", {} {} of {}", other.path, other.leases.len(), other.slots));
    let parties = view.other_parties.iter().map(|other| format!(", {} {}", other.path, other.members.len()));
    semaphores.chain(parties).collect()
}

fn chosen(answers: &Answers, question: &str, target: &str) -> Option<Vec<String>> {
    let of = |target: &str| answers.get(&(question.to_owned(), target.to_owned())).cloned();
    of(target).or_else(|| of("*"))
}

fn fault() -> Fault {
    Fault { kind: "trap", message: "the policy trapped".to_owned(), hint: None }
}

fn admission(answer: &[String]) -> Result<Admitted, Fault> {
    let words: Vec<&str> = answer.iter().map(String::as_str).collect();
    let wake_after = words.iter().find_map(|word| word.strip_prefix("wake=")).map(milliseconds);
    let verdict = match words[0] {
        "fault" => return Err(fault()),
        "lock" => Admission::Lock,
        "wait" => Admission::Wait,
        "hold" => Admission::Hold,
        "skip" => Admission::Skip,
        "abort" => Admission::Abort,
        "force" => Admission::Force(words[1..].iter().map(|fence| fence.parse().expect("a fence")).collect()),
        other => panic!("`{other}` is no verdict"),
    };
    let (code, reason) = (words[0].to_owned(), "the policy says so".to_owned());
    Ok(Admitted { verdict, code, reason, wake_after, memory: Vec::new() })
}

fn settlement(answer: &[String]) -> Result<Settled, Fault> {
    let words: Vec<&str> = answer.iter().map(String::as_str).collect();
    let verdict = match words.as_slice() {
        ["fault"] => return Err(fault()),
        ["release"] => Settlement::Release,
        ["keep", span] => Settlement::Keep(milliseconds(span)),
        ["retry"] => Settlement::Retry,
        ["roll-back"] => Settlement::RollBack,
        ["abort"] => Settlement::Abort,
        other => panic!("{other:?} is no verdict"),
    };
    let (code, reason) = (words[0].to_owned(), "the policy says so".to_owned());
    Ok(Settled { verdict, code, reason, memory: Vec::new() })
}

fn ending(word: &str) -> Ending {
    let all = [Ending::Succeeded, Ending::Failed, Ending::TimedOut, Ending::LeaseLost, Ending::Unknown];
    all.into_iter().find(|ending| ending.word() == word).unwrap_or_else(|| panic!("nothing ends as `{word}`"))
}

fn span(ms: u64) -> String {
    humantime::format_duration(Duration::from_millis(ms)).to_string()
}

fn line(event: &Event) -> Option<String> {
    Some(match event {
        // The question before says the same.
        Event::Waiting { .. } | Event::Queued { .. } => return None,
        // No scenario has an orchestration.
        Event::CallStarted { .. }
        | Event::CallAnswered { .. }
        | Event::CallReplayed { .. }
        | Event::OrchestrationLog { .. }
        | Event::OrchestrationFault { .. } => {
            return None;
        }
        Event::Holding { reason, .. } => format!("all hold: {reason}"),
        Event::Refused { target, limit, reason, .. } => format!("{target} refused by {limit}: {reason}"),
        Event::Leased { target, held, slots, fence, .. } => {
            format!("{target} leased, {held} of {slots}, fence {fence}")
        }
        Event::SlotForced { semaphore, reason, .. } => format!("a slot of {semaphore} forced: {reason}"),
        Event::SlotsChanged { from, to } => format!("slots changed from {from} to {to}"),
        Event::Forced { target, broken, fence, .. } => format!("{target} forced, breaking {broken:?}, fence {fence}"),
        Event::ReleasedUnused { target, reason } => format!("{target} released unused: {reason}"),
        Event::Started { target, attempt, .. } => format!("{target} started, attempt {attempt}"),
        Event::Succeeded { target, .. } => format!("{target} succeeded"),
        Event::Failed { target, attempt, ending, .. } => format!("{target} {} in attempt {attempt}", ending.word()),
        Event::KeepingSlot { target, keep_ms, .. } => format!("{target} keeps its slot for {}", span(*keep_ms)),
        Event::Retrying { target, attempt, after_ms: 0, .. } => format!("{target} is retried, attempt {attempt}"),
        Event::Retrying { target, attempt, after_ms, .. } => {
            format!("{target} is retried in {}, attempt {attempt}", span(*after_ms))
        }
        Event::Released { target } => format!("{target} released"),
        Event::NotReleased { target, reason } => format!("{target} still holds its slot: {reason}"),
        Event::Skipped { target, code, reason } => format!("{target} skipped: {reason} ({code})"),
        Event::LeaseLost { target, reason } => format!("{target} lost its lease: {reason}"),
        Event::PolicyFault { target, kind, message, .. } => format!("fault about {target}: {message} ({kind})"),
        Event::Stopping { reason, running } => format!("stopping, {running} running: {reason}"),
        Event::Store { state } => format!("the session is {state}"),
        Event::Recovered { target, attempt, .. } => format!("{target} was recovered, attempt {attempt}"),
        Event::Probed { target, answer, detail, .. } => {
            format!("{target} was probed: {answer} {detail}").trim_end().to_owned()
        }
        Event::ClockSet { by_ms } => format!("the clock is set by {by_ms} ms"),
        Event::ContactLost { target, attempt, asked_ms, .. } => {
            let asked = asked_ms.map_or("without a probe".to_owned(), |asked| format!("probed for {}", span(asked)));
            format!("{target} is without contact in attempt {attempt}, {asked}")
        }
        Event::EndingRestored { target, attempt, ending, detail, roll_back } => {
            let what = if *roll_back { "roll-back" } else { "action" };
            format!("{target}: the {what} of attempt {attempt} was seen to end: {} {detail}", ending.word())
                .trim_end()
                .to_owned()
        }
        Event::Paused { by, reason } => format!("paused by {by}: {}", reason.as_deref().unwrap_or("no reason")),
        Event::Unpaused {} => "resumed".to_owned(),
        Event::RetryRequested { target, by } => format!("{target} is to be retried, requested by {by}"),
        Event::Accepted { target } => format!("{target} is accepted"),
        Event::WaveStarted { wave, targets } => format!("wave {wave} starts with {targets}"),
        Event::WaveBaking { wave, until } => format!("wave {wave} bakes until {}", span(*until)),
        Event::WaveAwaitsApproval { wave, .. } => format!("wave {wave} waits for approval"),
        Event::RollingBack { target, attempt, reason, .. } => {
            format!("{target} is rolling back, attempt {attempt}: {reason}")
        }
        Event::RolledBack { target, .. } => format!("{target} was rolled back"),
        Event::RollingBackRun { targets } => format!("{targets} are to be rolled back"),
        Event::Planned { .. } | Event::RunResumed { .. } | Event::PolicyLog { .. } | Event::Finished { .. } => {
            unreachable!("these are the engine's")
        }
    })
}

#[test]
fn every_scenario_has_the_recorded_outcome() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let update = std::env::var_os("UPDATE_SCENARIOS").is_some();
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "there are scenarios");
    let mut other = Vec::new();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).unwrap();
        let Ok(result) = std::panic::catch_unwind(|| scenario(&text)) else {
            other.push(format!("{name} cannot be run; the reason is above"));
            continue;
        };
        if update {
            fs::write(&file, result).unwrap();
        } else if result != text {
            other.push(format!("{name} is now\n\n{result}"));
        }
    }
    assert!(other.is_empty(), "UPDATE_SCENARIOS=1 records this:\n{}", other.join("\n"));
}
