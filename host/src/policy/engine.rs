//! The engine: the way from bytes to a [`Module`].

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sha2::{Digest, Sha256};
use wasmtime::component::{Component, HasSelf, Linker};

use super::bindings::Policy;
use super::cache::Cache;
use super::compile::{compile, differences};
use super::compiler::{self, Compiler};
use super::evaluate::Guest;
use super::orchestration::{self, Instance, Orchestration};
use super::ticker::{Computing, TICK, Ticker};
use super::types::Manifest;
use super::{Module, PolicyError, StandardPolicy, config, module, standard_policies};
use lockkeeper_coordination::files;

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

/// Told before something is compiled that comes from outside: how many bytes it has.
pub type OnCompile = Arc<dyn Fn(u64) + Send + Sync>;

/// How an engine is set up.
#[derive(Clone)]
pub struct EngineOptions {
    /// What one decision may use.
    pub limits: Limits,
    /// Where compiled policies are kept; none: nowhere.
    pub cache: Option<PathBuf>,
    /// Who compiles policies that come from outside.
    pub compiler: Compiler,
    /// Who wants to know of it, as it may take long.
    pub on_compile: Option<OnCompile>,
}

impl std::fmt::Debug for EngineOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { limits, cache, compiler, on_compile: _ } = self;
        let mut options = f.debug_struct("EngineOptions");
        options.field("limits", limits).field("cache", cache).field("compiler", compiler).finish_non_exhaustive()
    }
}

impl Default for EngineOptions {
    /// The usual limits, nothing kept, and everything compiled in this process.
    fn default() -> Self {
        Self { limits: Limits::DEFAULT, cache: None, compiler: Compiler::Here, on_compile: None }
    }
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

/// A file of either kind.
#[derive(Debug)]
pub enum Either {
    /// Tier 1.
    Policy(Module),
    /// Tier 2.
    Orchestration(Orchestration),
}

impl Either {
    /// What it says of itself.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        match self {
            Self::Policy(policy) => policy.manifest(),
            Self::Orchestration(orchestration) => orchestration.manifest(),
        }
    }

    /// The sha256 of its file, in lower-case hex.
    #[must_use]
    pub fn digest(&self) -> &str {
        match self {
            Self::Policy(policy) => policy.digest(),
            Self::Orchestration(orchestration) => orchestration.digest(),
        }
    }

    /// How long its file is.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Policy(policy) => policy.bytes(),
            Self::Orchestration(orchestration) => orchestration.bytes(),
        }
    }
}

/// Compiles and runs policies. One for the process; cheap to clone.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    wasmtime: wasmtime::Engine,
    linker: Linker<Guest>,
    /// For orchestrations.
    orchestration_job: Linker<Instance>,
    limits: Limits,
    cache: Option<Cache>,
    compiler: Compiler,
    on_compile: Option<OnCompile>,
    is_pooled: bool,
    compilations: AtomicU64,
    ticker: Ticker,
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
        let (wasmtime, is_pooled) = wasmtime(allocation)?;
        let mut linker = Linker::new(&wasmtime);
        Policy::add_to_linker::<_, HasSelf<_>>(&mut linker, |guest: &mut Guest| guest).map_err(failed)?;
        let orchestration_job = orchestration::linker(&wasmtime).map_err(failed)?;
        let ticker = Ticker::start(wasmtime.weak())
            .map_err(|error| PolicyError::Engine { reason: format!("no thread for the ticker: {error}") })?;
        let cache = options.cache.as_deref().map(|folder| Cache::new(folder, &wasmtime));
        let compilations = AtomicU64::new(0);
        let EngineOptions { limits, compiler, on_compile, .. } = options.clone();
        let shared = Shared {
            wasmtime,
            linker,
            orchestration_job,
            limits,
            cache,
            compiler,
            on_compile,
            is_pooled,
            compilations,
            ticker,
        };
        Ok(Self { shared: Arc::new(shared) })
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
        self.load(&Self::read(path, pinned)?)
    }

    /// Loads an orchestration from a file, as [`Engine::load_file`] a policy.
    ///
    /// # Errors
    /// As [`Engine::load_file`].
    pub fn load_orchestration_file(&self, path: &Path, pinned: Option<&str>) -> Result<Orchestration, PolicyError> {
        self.load_orchestration(&Self::read(path, pinned)?)
    }

    /// Loads an orchestration from its bytes.
    ///
    /// # Errors
    /// As [`Engine::load_file`].
    pub fn load_orchestration(&self, wasm: &[u8]) -> Result<Orchestration, PolicyError> {
        let (component, digest) = self.component(wasm, &self.shared.compiler)?;
        orchestration::link(self, &component, digest, wasm.len() as u64)
    }

    /// Loads a file of either kind, whichever it is.
    ///
    /// # Errors
    /// As [`Engine::load_file`].
    pub fn load_either(&self, path: &Path) -> Result<Either, PolicyError> {
        let wasm = Self::read(path, None)?;
        let (component, digest) = self.component(&wasm, &self.shared.compiler)?;
        match orchestration::is_one(&component) {
            true => orchestration::link(self, &component, digest, wasm.len() as u64).map(Either::Orchestration),
            false => self.link(&wasm, &component, digest).map(Either::Policy),
        }
    }

    /// The bytes of a file that is no larger than a policy may be, and the one that is pinned.
    fn read(path: &Path, pinned: Option<&str>) -> Result<Vec<u8>, PolicyError> {
        let unreadable = |source| PolicyError::Unreadable { path: path.to_owned(), source };
        let mut file = files::open(path).map_err(unreadable)?;
        let bytes = file.metadata().map_err(unreadable)?.len();
        if bytes > Self::MAX_FILE_BYTES {
            return Err(PolicyError::FileTooBig { bytes, max: Self::MAX_FILE_BYTES });
        }
        let mut wasm = Vec::new();
        // It may grow meanwhile.
        file.by_ref().take(Self::MAX_FILE_BYTES).read_to_end(&mut wasm).map_err(unreadable)?;
        if let Some(pinned) = pinned {
            let found = digest(&wasm);
            if !found.eq_ignore_ascii_case(pinned) {
                return Err(PolicyError::WrongDigest { pinned: pinned.to_owned(), found });
            }
        }
        Ok(wasm)
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
        self.load_from(policy.wasm, &Compiler::Here)
    }

    /// Loads a policy from its bytes: compiled now, or found compiled in the cache.
    ///
    /// # Errors
    /// As [`Engine::load_file`].
    pub fn load(&self, wasm: &[u8]) -> Result<Module, PolicyError> {
        self.load_from(wasm, &self.shared.compiler)
    }

    fn load_from(&self, wasm: &[u8], compiler: &Compiler) -> Result<Module, PolicyError> {
        let (component, digest) = self.component(wasm, compiler)?;
        self.link(wasm, &component, digest)
    }

    fn link(&self, wasm: &[u8], component: &Component, digest: String) -> Result<Module, PolicyError> {
        module::link(self, component, digest, wasm.len() as u64).map_err(|error| match error {
            PolicyError::WrongWorld { reason, .. } => {
                PolicyError::WrongWorld { reason, differences: differences(wasm) }
            }
            error => error,
        })
    }

    /// What is compiled of these bytes, and their digest.
    fn component(&self, wasm: &[u8], compiler: &Compiler) -> Result<(Component, String), PolicyError> {
        let bytes = wasm.len() as u64;
        if bytes > Self::MAX_FILE_BYTES {
            return Err(PolicyError::FileTooBig { bytes, max: Self::MAX_FILE_BYTES });
        }
        let digest = digest(wasm);
        Ok((self.compiled(wasm, &digest, compiler)?, digest))
    }

    pub(super) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.shared.wasmtime
    }

    pub(super) fn linker(&self) -> &Linker<Guest> {
        &self.shared.linker
    }

    pub(super) fn orchestration_job(&self) -> &Linker<Instance> {
        &self.shared.orchestration_job
    }

    /// What one decision may use.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.shared.limits
    }

    /// For as long as a guest computes: only then the time limit's clock goes.
    pub(super) fn computing(&self) -> Computing {
        self.shared.ticker.computing()
    }

    /// The time limit in ticks of the epoch, rounded up.
    pub(super) fn deadline_ticks(&self) -> u64 {
        u64::try_from(self.shared.limits.time.as_millis().div_ceil(TICK.as_millis())).unwrap_or(u64::MAX) + 1
    }

    fn compiled(&self, wasm: &[u8], digest: &str, compiler: &Compiler) -> Result<Component, PolicyError> {
        let Shared { wasmtime, limits, cache, compilations, .. } = &*self.shared;
        if let Some(component) = cache.as_ref().and_then(|cache| cache.load(digest, wasmtime)) {
            return Ok(component);
        }
        let machine_code = match compiler {
            Compiler::Here => compile(wasmtime, wasm, limits)?,
            Compiler::Child(program) => {
                if let Some(told) = &self.shared.on_compile {
                    told(wasm.len() as u64);
                }
                compiler::compile_in_child(program, wasm, limits)?
            }
        };
        compilations.fetch_add(1, Ordering::Relaxed);
        #[expect(unsafe_code, reason = "wasmtime cannot check machine code; this is what our own compiler just made")]
        // SAFETY: the bytes come from `precompile_component`, in this process or over a pipe from a process that this
        // one started of its own program.
        let component = unsafe { Component::deserialize(wasmtime, &machine_code) }.map_err(failed)?;
        if let Some(cache) = cache {
            cache.store(digest, &machine_code);
        }
        Ok(component)
    }
}

/// Wasmtime's engine, and whether it has a pool.
pub(super) fn wasmtime(allocation: Allocation) -> Result<(wasmtime::Engine, bool), PolicyError> {
    let pooled = match allocation {
        Allocation::PooledIfPossible => wasmtime::Engine::new(&config::pooled()).ok(),
        Allocation::OnDemand => None,
    };
    match pooled {
        Some(engine) => Ok((engine, true)),
        None => Ok((wasmtime::Engine::new(&config::on_demand()).map_err(failed)?, false)),
    }
}

fn failed(error: wasmtime::Error) -> PolicyError {
    PolicyError::Engine { reason: format!("{error:#}") }
}

/// The digest by which a policy is known: the sha256 of its file, in lower-case hex.
#[must_use]
pub fn digest(wasm: &[u8]) -> String {
    hex::encode(Sha256::digest(wasm))
}
