//! One decision: a fresh store and instance, the limits, the call, the answer.

use crate::job::Grants;
use serde::Serialize;
use wasmtime::{ResourceLimiter, Store, Trap, WasmBacktrace};

use super::bindings::{Policy, PolicyPre};
use super::types::{Admitted, Diagnostic, Manifest, Outcome, Settled, View};
use super::{Engine, Limits, Module, PolicyError, grants};
use lockkeeper_locks::terminal::prose;

/// The longest code kept, in characters.
const MAX_CODE: usize = 64;

/// The longest reason kept, in characters.
pub(super) const MAX_REASON: usize = 500;

/// Complaints about settings that one policy may have.
const MAX_DIAGNOSTICS: usize = 100;

/// Guest functions named in a trap's backtrace.
const MAX_FRAMES: usize = 6;

/// Elements that a guest's tables may have together.
pub(super) const MAX_TABLE_ELEMENTS: usize = 100_000;

/// A line that a policy wrote while it decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TraceLine {
    /// The level that the policy chose.
    pub level: TraceLevel,
    /// What it said, without control characters.
    pub message: String,
}

/// The level of a [`TraceLine`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TraceLevel {
    /// For the policy's author.
    Debug,
    /// Of interest to operators.
    Info,
    /// Needs an operator's attention.
    Warn,
    /// Something failed; the SDK also reports a panic at this level.
    Error,
}

impl TraceLevel {
    /// Its word in the journal and in messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

impl std::fmt::Display for TraceLevel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What came of one decision.
#[derive(Debug)]
pub struct Decision<A> {
    /// The answer, or the policy fault.
    pub answer: Result<A, PolicyError>,
    /// Fuel burnt: the same for the same policy and arguments on every machine.
    pub fuel: u64,
    /// Bytes of linear memory that the instance had in the end, all its memories together.
    pub memory: u64,
    /// What the policy said meanwhile.
    pub trace: Vec<TraceLine>,
}

impl<A> Decision<A> {
    fn and_then<B>(self, check: impl FnOnce(A) -> Result<B, PolicyError>) -> Decision<B> {
        Decision { answer: self.answer.and_then(check), fuel: self.fuel, memory: self.memory, trace: self.trace }
    }
}

/// What a guest's store holds: what it said, and what it uses.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) said: Vec<TraceLine>,
    memory: usize,
    max_memory: usize,
    tables: usize,
    memory_refused: bool,
}

/// All memories of an instance count together; a refused growth is remembered, since the guest's own answer to it is an
/// ordinary trap.
impl ResourceLimiter for Guest {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.memory.saturating_sub(current).saturating_add(desired);
        let allowed = total <= self.max_memory;
        match allowed {
            true => self.memory = total,
            false => self.memory_refused = true,
        }
        Ok(allowed)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.tables.saturating_sub(current).saturating_add(desired);
        let allowed = total <= MAX_TABLE_ELEMENTS;
        match allowed {
            true => self.tables = total,
            false => self.memory_refused = true,
        }
        Ok(allowed)
    }
}

impl Module {
    /// May this target go? Bounded by the engine's [`Limits`]; it blocks for as long as that takes, tens of microseconds
    /// as a rule.
    #[must_use]
    pub fn admit(&self, settings: &str, view: &View, memory: &[u8], grants: Grants) -> Decision<Admitted> {
        let decision = run(&self.engine, &self.component, |policy, store| {
            policy.lockkeeper_policy_decider().call_admit(store, settings, view, memory)
        });
        decision.and_then(|answer| self.admitted(answer, grants))
    }

    /// An instance that decides more than once, for who compares it with fresh ones.
    ///
    /// # Errors
    /// The policy does not come up.
    pub fn warm(&self) -> Result<Warm, PolicyError> {
        let limits = self.engine.limits();
        let _computing = self.engine.computing();
        let mut store = store(&self.engine);
        let policy = store.set_fuel(limits.fuel).and_then(|()| self.component.instantiate(&mut store));
        match policy {
            Ok(policy) => Ok(Warm { module: self.clone(), store, policy }),
            Err(error) => Err(fault(&error, store.data(), &limits)),
        }
    }

    fn admitted(&self, answer: Result<Admitted, String>, grants: Grants) -> Result<Admitted, PolicyError> {
        let mut answer = answer.map_err(gave_up)?;
        grants::check(answer.verdict.word(), &self.about.manifest, grants)?;
        check_kept(&answer.memory, &self.engine.limits())?;
        tidy(&mut answer.code, &mut answer.reason);
        Ok(answer)
    }

    /// It acted; what now? As [`Module::admit`].
    #[must_use]
    pub fn settle(
        &self,
        settings: &str,
        view: &View,
        outcome: &Outcome,
        memory: &[u8],
        grants: Grants,
    ) -> Decision<Settled> {
        let decision = run(&self.engine, &self.component, |policy, store| {
            policy.lockkeeper_policy_decider().call_settle(store, settings, view, *outcome, memory)
        });
        decision.and_then(|answer| {
            let mut answer = answer.map_err(gave_up)?;
            grants::check(answer.verdict.word(), &self.about.manifest, grants)?;
            check_kept(&answer.memory, &self.engine.limits())?;
            tidy(&mut answer.code, &mut answer.reason);
            Ok(answer)
        })
    }
}

/// An instance that is kept from one decision to the next, unlike those of a rollout: what differs from a fresh one's
/// answer depends on what was decided before. No use after a fault.
pub struct Warm {
    module: Module,
    store: Store<Guest>,
    policy: Policy,
}

impl std::fmt::Debug for Warm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Warm").field("module", &self.module).finish_non_exhaustive()
    }
}

impl Warm {
    /// As [`Module::admit`].
    pub fn admit(&mut self, settings: &str, view: &View, memory: &[u8], grants: Grants) -> Decision<Admitted> {
        let Self { module, store, policy } = self;
        let limits = module.engine.limits();
        let _computing = module.engine.computing();
        store.set_epoch_deadline(module.engine.deadline_ticks());
        let answer = store
            .set_fuel(limits.fuel)
            .and_then(|()| policy.lockkeeper_policy_decider().call_admit(&mut *store, settings, view, memory))
            .map_err(|error| fault(&error, store.data(), &limits));
        let trace = std::mem::take(&mut store.data_mut().said);
        decision(answer, store, &limits, trace).and_then(|answer| module.admitted(answer, grants))
    }
}

pub(super) fn describe(engine: &Engine, component: &PolicyPre<Guest>) -> Result<Manifest, PolicyError> {
    run(engine, component, |policy, store| policy.lockkeeper_policy_decider().call_describe(store))
        .answer
        .map(harmless_manifest)
}

/// A manifest that can be shown.
pub(super) fn harmless_manifest(mut manifest: Manifest) -> Manifest {
    manifest.name = prose(&manifest.name, MAX_CODE);
    manifest.version = prose(&manifest.version, MAX_CODE);
    manifest.summary = prose(&manifest.summary, MAX_REASON);
    manifest
}

pub(super) fn validate(module: &Module, settings: &str) -> Result<Vec<Diagnostic>, PolicyError> {
    let found = run(&module.engine, &module.component, |policy, store| {
        policy.lockkeeper_policy_decider().call_validate(store, settings)
    });
    found.answer.map(harmless_diagnostics)
}

/// Complaints that can be shown.
pub(super) fn harmless_diagnostics(mut found: Vec<Diagnostic>) -> Vec<Diagnostic> {
    found.truncate(MAX_DIAGNOSTICS);
    for diagnostic in &mut found {
        diagnostic.at = prose(&diagnostic.at, MAX_REASON);
        diagnostic.message = prose(&diagnostic.message, MAX_REASON);
        diagnostic.help = diagnostic.help.take().map(|help| prose(&help, MAX_REASON));
    }
    found
}

/// Makes an instance, calls it, and says what became of it.
fn run<A>(
    engine: &Engine,
    component: &PolicyPre<Guest>,
    call: impl FnOnce(&Policy, &mut Store<Guest>) -> wasmtime::Result<A>,
) -> Decision<A> {
    let limits = engine.limits();
    let _computing = engine.computing();
    let mut store = store(engine);
    let answer = store
        .set_fuel(limits.fuel)
        .and_then(|()| component.instantiate(&mut store))
        .and_then(|policy| call(&policy, &mut store))
        .map_err(|error| fault(&error, store.data(), &limits));
    let trace = std::mem::take(&mut store.data_mut().said);
    decision(answer, &store, &limits, trace)
}

impl Guest {
    /// One that may use so much memory.
    pub(super) fn new(limits: &Limits) -> Self {
        let max_memory = usize::try_from(limits.memory).unwrap_or(usize::MAX);
        Self { said: Vec::new(), memory: 0, max_memory, tables: 0, memory_refused: false }
    }
}

/// A store with the engine's limits, but for the fuel.
fn store(engine: &Engine) -> Store<Guest> {
    let limits = engine.limits();
    let mut store = Store::new(engine.wasmtime(), Guest::new(&limits));
    store.limiter(|guest| guest);
    store.set_hostcall_fuel(usize::try_from(limits.answer).unwrap_or(usize::MAX));
    store.set_epoch_deadline(engine.deadline_ticks());
    store
}

fn decision<A>(
    answer: Result<A, PolicyError>,
    store: &Store<Guest>,
    limits: &Limits,
    trace: Vec<TraceLine>,
) -> Decision<A> {
    let fuel = limits.fuel - store.get_fuel().unwrap_or(0).min(limits.fuel);
    Decision { answer, fuel, memory: store.data().memory as u64, trace }
}

/// Which of our words a failed call is.
pub(super) fn fault(error: &wasmtime::Error, guest: &Guest, limits: &Limits) -> PolicyError {
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => return PolicyError::OutOfFuel { limit: limits.fuel },
        Some(Trap::Interrupt) => return PolicyError::OutOfTime { limit: limits.time },
        _ if error.is::<wasmtime::PoolConcurrencyLimitError>() => {
            return PolicyError::Engine { reason: "too many decisions at once".to_owned() };
        }
        // A guest that is refused memory aborts, and that is a trap like any other.
        _ if guest.memory_refused => return PolicyError::OutOfMemory { limit: limits.memory },
        _ => {}
    }
    // Wasmtime keeps this error's type to itself; `an_answer_of_100_mb_is_too_big` notices if its words change.
    if error.chain().any(|cause| cause.to_string().contains("fuel allocated for hostcalls")) {
        return PolicyError::AnswerTooBig { limit: limits.answer };
    }
    let panic = guest.said.iter().rev().find(|line| line.level == TraceLevel::Error).map(|line| line.message.clone());
    let trap = error.downcast_ref::<Trap>().map(|trap| trap.to_string().replacen("wasm trap: ", "", 1));
    let reason = panic.or(trap).unwrap_or_else(|| error.root_cause().to_string());
    PolicyError::Trap { reason: prose(&reason, MAX_REASON), backtrace: backtrace(error) }
}

fn backtrace(error: &wasmtime::Error) -> Vec<String> {
    let Some(trace) = error.downcast_ref::<WasmBacktrace>() else { return Vec::new() };
    let names = trace.frames().iter().filter_map(|frame| frame.func_name().map(wasmtime_names));
    // What every panic goes through says nothing about where it came from.
    let own = |name: &String| {
        !["core::", "std::", "__rust", "rust_panic", "alloc::"]
            .iter()
            .any(|of| name.contains(of) && !name.contains(" as "))
    };
    names.filter(own).take(MAX_FRAMES).collect()
}

fn wasmtime_names(name: &str) -> String {
    prose(&format!("{:#}", rustc_demangle::demangle(name)), 120)
}

pub(super) fn gave_up(message: String) -> PolicyError {
    PolicyError::GaveUp { message: prose(&message, MAX_REASON) }
}

fn check_kept(memory: &[u8], limits: &Limits) -> Result<(), PolicyError> {
    let bytes = memory.len() as u64;
    match bytes <= limits.kept {
        true => Ok(()),
        false => Err(PolicyError::MemoryTooBig { bytes, max: limits.kept }),
    }
}

fn tidy(code: &mut String, reason: &mut String) {
    *code = prose(code, MAX_CODE);
    *reason = prose(reason, MAX_REASON);
}
