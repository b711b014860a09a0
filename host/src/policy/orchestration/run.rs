//! An orchestration compiled, linked and checked once, and run.

use std::sync::Arc;

use tokio::sync::mpsc;
use wasmtime::component::{
    Component, ComponentExportIndex, ComponentNamedList, HasSelf, InstancePre, Lift, Linker, Lower,
};
use wasmtime::{Store, UpdateDeadline};

use super::Call;
use super::guest::{self, Answered, Asked, COORDINATION, Instance};
use crate::policy::bindings::lockkeeper::policy::trace;
use crate::policy::evaluate::{self, Guest};
use crate::policy::settings::SettingsSchema;
use crate::policy::types::{Diagnostic, Manifest, Target};
use crate::policy::{Engine, PolicyError, module};

/// The interface that an orchestration exports.
const INTERFACE: &str = "lockkeeper:orchestration/driver@0.1.0";

/// An orchestration that can be run. Cheap to clone; every run has an instance of its own, for as long as it lasts.
#[derive(Clone)]
pub struct Orchestration {
    linked: Linked,
    about: Arc<About>,
}

/// A component that can be called.
#[derive(Clone)]
struct Linked {
    engine: Engine,
    component: InstancePre<Instance>,
    exports: Exports,
}

#[derive(Debug, Clone, Copy)]
struct Exports {
    describe: ComponentExportIndex,
    validate: ComponentExportIndex,
    run: ComponentExportIndex,
}

#[derive(Debug)]
struct About {
    manifest: Manifest,
    digest: String,
    bytes: u64,
    schema: SettingsSchema,
}

impl std::fmt::Debug for Orchestration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Orchestration").field("about", &self.about).finish_non_exhaustive()
    }
}

/// What an orchestration begins with.
#[derive(Debug, Clone, Default)]
pub struct Beginning {
    /// The job's `[orchestration.settings]`, as JSON.
    pub settings: String,
    /// What its last checkpoint holds.
    pub state: Option<Vec<u8>>,
    /// The job's targets, in the plan's order.
    pub targets: Vec<Target>,
    /// What time it is, in milliseconds since the Unix epoch, until the first answer: when the run began.
    pub now: u64,
}

/// Whether a component is an orchestration, or means to be.
pub(in crate::policy) fn is_one(component: &Component) -> bool {
    component.get_export_index(None, INTERFACE).is_some()
}

/// The version of the contract that orchestrations and host speak.
#[must_use]
pub fn contract() -> String {
    "lockkeeper:orchestration@0.1.0".to_owned()
}

/// What orchestrations are linked to.
pub(in crate::policy) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<Instance>> {
    let mut linker = Linker::new(engine);
    trace::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |instance: &mut Instance| &mut instance.guest)?;
    guest::add_to_linker(&mut linker)?;
    Ok(linker)
}

/// Checks a component against the world, links it, and asks it for its manifest.
pub(in crate::policy) fn link(
    engine: &Engine,
    component: &Component,
    digest: String,
    bytes: u64,
) -> Result<Orchestration, PolicyError> {
    for (name, _) in component.component_type().imports(engine.wasmtime()) {
        let is_types = name.starts_with("lockkeeper:policy/types@") || name.starts_with("lockkeeper:policy/trace@");
        if name != COORDINATION && !is_types {
            return Err(PolicyError::ForbiddenImport { import: name.to_owned() });
        }
    }
    let wrong = |reason: String| PolicyError::WrongWorld { reason, differences: Vec::new() };
    let driver = component
        .get_export_index(None, INTERFACE)
        .ok_or_else(|| wrong(format!("it does not export `{INTERFACE}`")))?;
    let function = |name: &str| {
        let index = component.get_export_index(Some(&driver), name);
        index.ok_or_else(|| wrong(format!("`{INTERFACE}` has no function `{name}`")))
    };
    let exports = Exports { describe: function("describe")?, validate: function("validate")?, run: function("run")? };
    let component =
        engine.orchestration_job().instantiate_pre(component).map_err(|error| wrong(format!("{error:#}")))?;
    let linked = Linked { engine: engine.clone(), component, exports };
    let (manifest,): (Manifest,) = linked.ask(exports.describe, ())?;
    let manifest = evaluate::harmless_manifest(manifest);
    let schema = module::check_manifest(&manifest)?;
    Ok(Orchestration { linked, about: Arc::new(About { manifest, digest, bytes, schema }) })
}

impl Orchestration {
    /// What it says of itself.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.about.manifest
    }

    /// The sha256 of its file, in lower-case hex.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.about.digest
    }

    /// How long its file is.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.about.bytes
    }

    /// Everything that is wrong with settings: what the schema says, and where that has nothing to say its own `validate`.
    ///
    /// # Errors
    /// The orchestration itself failed.
    pub fn validate(&self, settings: &serde_json::Value) -> Result<Vec<Diagnostic>, PolicyError> {
        let by_schema = self.about.schema.complaints(settings);
        if !by_schema.is_empty() {
            return Ok(by_schema);
        }
        let (found,): (Vec<Diagnostic>,) = self.linked.ask(self.linked.exports.validate, (settings.to_string(),))?;
        Ok(evaluate::harmless_diagnostics(found))
    }

    /// Runs it to its end, which may take days. Each of its calls goes to `calls`, one at a time, and waits for its answer
    /// however long that takes; in between it may use what one decision of a policy may.
    ///
    /// # Errors
    /// [`PolicyError::GaveUp`]: what it says went wrong. Else what it did to itself; or nobody takes its calls any more.
    ///
    /// # Cancel safety
    /// Dropped, the guest ends where it is. It drops no leases then: nothing is called any more.
    pub async fn run(&self, beginning: Beginning, calls: mpsc::Sender<Asked>) -> Result<(), PolicyError> {
        let Beginning { settings, state, targets, now } = beginning;
        let linked = &self.linked;
        let mut store = linked.store(calls, now, targets);
        let done: wasmtime::Result<(Result<(), String>,)> =
            linked.call(&mut store, linked.exports.run, (settings, state)).await;
        match done {
            Ok((Ok(()),)) => Ok(()),
            Ok((Err(message),)) => Err(evaluate::gave_up(message)),
            Err(error) => Err(evaluate::fault(&error, &store.data().guest, &linked.engine.limits())),
        }
    }
}

impl Orchestration {
    /// As [`run`](Self::run), by somebody who answers at once; with none it ends where it is. Blocks for as long as the
    /// limits allow between any two calls.
    ///
    /// # Errors
    /// Likewise.
    pub fn answered(
        &self,
        beginning: Beginning,
        mut answer: impl FnMut(Call) -> Option<Answered>,
    ) -> Result<(), PolicyError> {
        let (calls, mut asked) = mpsc::channel::<Asked>(1);
        let answering = async {
            while let Some(Asked { call, answer: to, .. }) = asked.recv().await {
                let Some(answered) = answer(call) else { break };
                if to.send(answered).is_err() {
                    break;
                }
            }
            drop(asked);
        };
        let both = async { tokio::join!(self.run(beginning, calls), answering) };
        futures::executor::block_on(both).0
    }
}

impl Linked {
    /// A question that calls nothing.
    fn ask<P, R>(&self, function: ComponentExportIndex, arguments: P) -> Result<R, PolicyError>
    where
        P: ComponentNamedList + Lower + Send + Sync + 'static,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
    {
        // Whatever it calls ends it: nobody listens.
        let (calls, _) = mpsc::channel(1);
        let mut store = self.store(calls, 0, Vec::new());
        let answer = futures::executor::block_on(self.call(&mut store, function, arguments));
        answer.map_err(|error| evaluate::fault(&error, &store.data().guest, &self.engine.limits()))
    }

    async fn call<P, R>(
        &self,
        store: &mut Store<Instance>,
        function: ComponentExportIndex,
        arguments: P,
    ) -> wasmtime::Result<R>
    where
        P: ComponentNamedList + Lower + Send + Sync + 'static,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
    {
        store.set_fuel(self.engine.limits().fuel)?;
        let instance = self.component.instantiate_async(&mut *store).await?;
        let function = instance.get_typed_func::<P, R>(&mut *store, &function)?;
        function.call_async(&mut *store, arguments).await
    }

    fn store(&self, calls: mpsc::Sender<Asked>, now: u64, targets: Vec<Target>) -> Store<Instance> {
        let limits = self.engine.limits();
        let instance = Instance::new(self.engine.clone(), calls, now, targets);
        let mut store = Store::new(self.engine.wasmtime(), instance);
        store.limiter(|instance| &mut instance.guest);
        store.set_hostcall_fuel(usize::try_from(limits.answer).unwrap_or(usize::MAX));
        // The time limit is one for what it computes between two calls; waiting is free.
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(move |context| match context.data().since.elapsed() > limits.time {
            true => Ok(UpdateDeadline::Interrupt),
            false => Ok(UpdateDeadline::Continue(1)),
        });
        store
    }
}
