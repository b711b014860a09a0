//! Wasmtime's configuration, the ticker behind the time limit, and the way from bytes to a [`Module`].

use std::cell::{Cell, RefCell};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use sha2::{Digest, Sha256};
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{
    Config, Enabled, InstanceAllocationStrategy, OperatorCost, PoolingAllocationConfig, RegallocAlgorithm, WasmFeatures,
};
use wit_component::ComponentEncoder;

use super::bindings::Policy;
use super::cache::Cache;
use super::evaluate::{Guest, MAX_REASON, MAX_TABLE_ELEMENTS};
use super::imports::harmless;
use super::{Module, PolicyError, StandardPolicy, difference, module, standard_policies};

/// How often the epoch moves on: the grain of the time limit.
const TICK: Duration = Duration::from_millis(10);

/// Instances that may live at once. Decisions are taken one after the other; a few more are for tests and benchmarks.
const POOL_COMPONENTS: u32 = 16;

/// Core instances and memories among them: a componentised JavaScript or Python guest brings several.
const POOL_CORE: u32 = POOL_COMPONENTS * 8;

/// Memory that a pooled instance keeps between decisions, reset by copying instead of by page faults. The value of an
/// early spike; nobody has yet compared it with others on this code (`cargo xtask bench decisions` measures).
const KEEP_RESIDENT: usize = 128 * 1024;

/// Bytes of a page of linear memory.
const WASM_PAGE: u64 = 64 * 1024;

/// What one decision may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Instructions, roughly: the limit that decides, the same on every machine.
    pub fuel: u64,
    /// Bytes of linear memory, all of the guest's memories together.
    pub memory: u64,
    /// Wall-clock time: the backstop for what fuel does not count.
    pub time: Duration,
    /// Bytes that the host takes over in one answer.
    pub answer: u64,
    /// Bytes that a policy may leave for its next decision.
    pub kept: u64,
}

impl Limits {
    /// A typical decision burns 5,000 to 50,000 units of fuel, so this leaves three orders of magnitude; used up, it
    /// takes a tenth of a second.
    pub const DEFAULT: Self = Self {
        fuel: 100_000_000,
        memory: 64 * 1024 * 1024,
        time: Duration::from_millis(800),
        answer: 512 * 1024,
        kept: 64 * 1024,
    };
}

/// How an engine is set up.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// What one decision may use.
    pub limits: Limits,
    /// Where compiled policies are kept; none: nowhere.
    pub cache: Option<PathBuf>,
}

/// Where instances get their memory from. Makes no difference to what a policy answers, nor to the fuel it burns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Allocation {
    /// From a pool made beforehand, where the machine has the address space for it; else on demand.
    #[default]
    PooledIfPossible,
    /// Anew for each.
    OnDemand,
}

/// Compiles and runs policies. One for the process; cheap to clone.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    wasmtime: wasmtime::Engine,
    linker: Linker<Guest>,
    limits: Limits,
    cache: Option<Cache>,
    is_pooled: bool,
    compilations: AtomicU64,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("limits", &self.shared.limits).finish_non_exhaustive()
    }
}

impl Engine {
    /// The largest policy file taken, in bytes. Componentised Python comes to 18 MB.
    pub const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

    /// Sets up an engine and its ticker thread, which ends with it.
    ///
    /// The pooling allocator is used where the machine has the address space for it; elsewhere memory is allocated on
    /// demand, which is slower and otherwise the same.
    ///
    /// # Errors
    /// [`PolicyError::Engine`]: wasmtime refuses this machine.
    pub fn new(options: &EngineOptions) -> Result<Self, PolicyError> {
        Self::with_allocation(options, Allocation::default())
    }

    /// As [`Engine::new`], with a choice of where memory comes from: for tests and benchmarks.
    ///
    /// # Errors
    /// As [`Engine::new`].
    pub fn with_allocation(options: &EngineOptions, allocation: Allocation) -> Result<Self, PolicyError> {
        let failed = |error: wasmtime::Error| PolicyError::Engine { reason: format!("{error:#}") };
        let pooled = match allocation {
            Allocation::PooledIfPossible => wasmtime::Engine::new(&pooled()).ok(),
            Allocation::OnDemand => None,
        };
        let is_pooled = pooled.is_some();
        let wasmtime = match pooled {
            Some(engine) => engine,
            None => wasmtime::Engine::new(&configuration()).map_err(failed)?,
        };
        let mut linker = Linker::new(&wasmtime);
        Policy::add_to_linker::<_, HasSelf<_>>(&mut linker, |guest: &mut Guest| guest).map_err(failed)?;
        start_ticker(&wasmtime)?;
        let cache = options.cache.as_deref().map(|folder| Cache::new(folder, &wasmtime));
        let compilations = AtomicU64::new(0);
        Ok(Self {
            shared: Arc::new(Shared { wasmtime, linker, limits: options.limits, cache, is_pooled, compilations }),
        })
    }

    /// Whether instances come from a pool.
    #[must_use]
    pub fn is_pooled(&self) -> bool {
        self.shared.is_pooled
    }

    /// How many policies this engine has compiled; those found in the cache do not count.
    #[must_use]
    pub fn compilations(&self) -> u64 {
        self.shared.compilations.load(Ordering::Relaxed)
    }

    /// Loads a policy from a file: a component, or a core module that is made one.
    ///
    /// # Errors
    /// Every way in which a file is no policy has its own [`PolicyError`].
    pub fn load_file(&self, path: &Path, pinned: Option<&str>) -> Result<Module, PolicyError> {
        let unreadable = |source| PolicyError::Unreadable { path: path.to_owned(), source };
        let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
        if bytes > Self::MAX_FILE_BYTES {
            return Err(PolicyError::FileTooBig { bytes, max: Self::MAX_FILE_BYTES });
        }
        let wasm = std::fs::read(path).map_err(unreadable)?;
        if let Some(pinned) = pinned {
            let found = digest(&wasm);
            if !found.eq_ignore_ascii_case(pinned) {
                return Err(PolicyError::WrongDigest { pinned: pinned.to_owned(), found });
            }
        }
        self.load(&wasm)
    }

    /// Loads one of the standard policies.
    ///
    /// # Errors
    /// [`PolicyError::NoSuchPolicy`], with the nearest name.
    pub fn load_standard(&self, name: &str) -> Result<Module, PolicyError> {
        let Some(policy) = StandardPolicy::named(name) else {
            let nearest = standard_policies()
                .iter()
                .map(|policy| (strsim::jaro_winkler(policy.name, name), policy.name))
                .filter(|(likeness, _)| *likeness > 0.7)
                .max_by(|a, b| a.0.total_cmp(&b.0));
            return Err(PolicyError::NoSuchPolicy { name: name.to_owned(), nearest: nearest.map(|(_, name)| name) });
        };
        self.load(policy.wasm)
    }

    /// Loads a policy from its bytes: compiled now, or found compiled in the cache.
    ///
    /// # Errors
    /// As [`Engine::load_file`].
    pub fn load(&self, wasm: &[u8]) -> Result<Module, PolicyError> {
        let bytes = wasm.len() as u64;
        if bytes > Self::MAX_FILE_BYTES {
            return Err(PolicyError::FileTooBig { bytes, max: Self::MAX_FILE_BYTES });
        }
        let digest = digest(wasm);
        let component = self.compiled(wasm, &digest)?;
        module::link(self, &component, digest, bytes).map_err(|error| match error {
            PolicyError::WrongWorld { reason, .. } => {
                PolicyError::WrongWorld { reason, differences: differences(wasm) }
            }
            error => error,
        })
    }

    pub(super) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.shared.wasmtime
    }

    pub(super) fn linker(&self) -> &Linker<Guest> {
        &self.shared.linker
    }

    /// What one decision may use.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.shared.limits
    }

    /// The time limit in ticks of the epoch, rounded up.
    pub(super) fn deadline_ticks(&self) -> u64 {
        u64::try_from(self.shared.limits.time.as_millis().div_ceil(TICK.as_millis())).unwrap_or(u64::MAX) + 1
    }

    fn compiled(&self, wasm: &[u8], digest: &str) -> Result<Component, PolicyError> {
        if let Some(component) = self.shared.cache.as_ref().and_then(|cache| cache.load(digest, &self.shared.wasmtime))
        {
            return Ok(component);
        }
        let component = compile(&self.shared.wasmtime, wasm, &self.shared.limits)?;
        self.shared.compilations.fetch_add(1, Ordering::Relaxed);
        if let (Some(cache), Ok(machine_code)) = (&self.shared.cache, component.serialize()) {
            cache.store(digest, &machine_code);
        }
        Ok(component)
    }
}

/// Compiles foreign bytes.
fn compile(engine: &wasmtime::Engine, wasm: &[u8], limits: &Limits) -> Result<Component, PolicyError> {
    if !wasm.starts_with(b"\0asm") {
        return Err(PolicyError::Malformed { reason: "it does not begin as wasm does".to_owned() });
    }
    unless_it_panics(|| {
        check_sizes(wasm, limits)?;
        let made;
        let wasm = if is_core_module(wasm) {
            made = componentise(wasm)?;
            &made
        } else {
            wasm
        };
        Component::from_binary(engine, wasm).map_err(|error| malformed(&format!("{error:#}")))
    })
}

/// The parser and the compiler are wasmtime's. Should they panic on something never seen before, that is a broken policy
/// and not a broken host, and nothing of it reaches the terminal but the error.
fn unless_it_panics<T>(work: impl FnOnce() -> Result<T, PolicyError>) -> Result<T, PolicyError> {
    thread_local! {
        static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
        static QUIET: Cell<bool> = const { Cell::new(false) };
    }
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| match QUIET.get() {
            true => PANIC.set(Some(panic.to_string())),
            false => before(panic),
        }));
    });
    QUIET.set(true);
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(work));
    QUIET.set(false);
    outcome.unwrap_or_else(|_| {
        let said = PANIC.take().unwrap_or_default();
        Err(malformed(&format!("the compiler gave up on it: {said}")))
    })
}

fn malformed(reason: &str) -> PolicyError {
    PolicyError::Malformed { reason: one_line(reason) }
}

/// What wasmtime's crates say, on one line.
fn one_line(text: &str) -> String {
    harmless(&text.split_whitespace().collect::<Vec<_>>().join(" "), MAX_REASON)
}

/// Refuses memories and tables that are too large from the start, before anything is compiled. What is not valid is
/// left to the validator.
fn check_sizes(wasm: &[u8], limits: &Limits) -> Result<(), PolicyError> {
    let too_large = || Err(PolicyError::OutOfMemory { limit: limits.memory });
    for payload in wasmparser::Parser::new(0).parse_all(wasm) {
        match payload {
            Ok(wasmparser::Payload::MemorySection(memories)) => {
                let pages: u64 =
                    memories.into_iter().flatten().map(|memory| memory.initial).fold(0, u64::saturating_add);
                if pages.saturating_mul(WASM_PAGE) > limits.memory {
                    return too_large();
                }
            }
            Ok(wasmparser::Payload::TableSection(tables)) => {
                let elements: u64 =
                    tables.into_iter().flatten().map(|table| table.ty.initial).fold(0, u64::saturating_add);
                if elements > MAX_TABLE_ELEMENTS as u64 {
                    return too_large();
                }
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    Ok(())
}

/// Whether these are a core module's first bytes: the magic number, then version 1 in layer 0.
fn is_core_module(wasm: &[u8]) -> bool {
    wasm.starts_with(b"\0asm\x01\0\0\0")
}

/// How the interfaces of what was compiled differ from the contract's.
fn differences(wasm: &[u8]) -> Vec<String> {
    let found = unless_it_panics(|| {
        let made;
        let component = if is_core_module(wasm) {
            made = componentise(wasm)?;
            &made
        } else {
            wasm
        };
        Ok(difference::of(component))
    });
    found.unwrap_or_default()
}

/// Makes a component of a core module that carries the contract's types.
///
/// # Errors
/// [`PolicyError`]: no valid wasm, an import that no policy gets, or not the contract's world.
pub fn componentise(core: &[u8]) -> Result<Vec<u8>, PolicyError> {
    wasmparser::validate(core).map_err(|error| malformed(&error.to_string()))?;
    if let Some(import) = first_foreign_import(core) {
        return Err(PolicyError::ForbiddenImport { import });
    }
    ComponentEncoder::default()
        .validate(true)
        .module(core)
        .and_then(|encoder| encoder.encode())
        .map_err(|error| PolicyError::WrongWorld { reason: one_line(&format!("{error:#}")), differences: Vec::new() })
}

/// The first import of a valid core module that is not of the contract's package.
fn first_foreign_import(core: &[u8]) -> Option<String> {
    let imports = wasmparser::Parser::new(0).parse_all(core).find_map(|payload| match payload {
        Ok(wasmparser::Payload::ImportSection(imports)) => Some(imports),
        _ => None,
    })?;
    imports
        .into_imports()
        .filter_map(Result::ok)
        .find(|import| !import.module.starts_with(module::PACKAGE))
        .map(|import| one_line(&format!("{}#{}", import.module, import.name)))
}

/// The digest by which a policy is known: the sha256 of its file, in lower-case hex.
#[must_use]
pub fn digest(wasm: &[u8]) -> String {
    hex::encode(Sha256::digest(wasm))
}

/// What is the same with and without the pool. Everything here that changes what a decision computes belongs to the
/// determinism profile: changing it changes [`super::cache`]'s key by way of wasmtime's compatibility hash.
fn configuration() -> Config {
    let mut config = Config::new();
    config
        .consume_fuel(true)
        .operator_cost(fuel_table())
        .epoch_interruption(true)
        .cranelift_nan_canonicalization(true)
        .cranelift_regalloc_algorithm(RegallocAlgorithm::Backtracking)
        .max_wasm_stack(512 * 1024)
        .wasm_features(WasmFeatures::RELAXED_SIMD, false)
        .wasm_features(WasmFeatures::MEMORY64, false)
        .wasm_features(WasmFeatures::MULTI_MEMORY, false)
        .wasm_features(WasmFeatures::TAIL_CALL, false);
    config
}

/// What operators cost in fuel: one each, and one for each byte or element of a bulk operation, wasmtime's defaults; but
/// growing is a call into the host, which is charged for, or it would take the clock to stop a loop of it.
fn fuel_table() -> OperatorCost {
    let mut costs = OperatorCost::new();
    costs.MemoryGrow = u8::MAX;
    costs.TableGrow = u8::MAX;
    costs.variable.memory_grow_per_page = u8::MAX;
    costs
}

fn pooled() -> Config {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(POOL_COMPONENTS)
        .total_core_instances(POOL_CORE)
        .total_memories(POOL_CORE)
        .total_tables(POOL_CORE)
        .table_elements(MAX_TABLE_ELEMENTS)
        .max_unused_warm_slots(POOL_CORE)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(KEEP_RESIDENT)
        .pagemap_scan(Enabled::Auto);
    let mut config = configuration();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}

/// Moves the epoch on until the engine is gone. One thread an engine, and the only one that moves it.
fn start_ticker(engine: &wasmtime::Engine) -> Result<(), PolicyError> {
    let engine = engine.weak();
    let ticker = std::thread::Builder::new().name("policy-ticker".to_owned()).spawn(move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(TICK);
        }
    });
    match ticker {
        Ok(_) => Ok(()),
        Err(error) => Err(PolicyError::Engine { reason: format!("no thread for the ticker: {error}") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_that_panics_is_a_malformed_policy() {
        let outcome: Result<(), _> = unless_it_panics(|| panic!("index out\n of bounds"));
        let error = outcome.unwrap_err();
        assert!(
            matches!(&error, PolicyError::Malformed { reason } if reason.contains("index out of bounds")),
            "{error}"
        );
        assert_eq!(unless_it_panics(|| Ok(7)).unwrap(), 7);
    }
}
