//! The compiler as a process of its own, for policies that come from outside.
//!
//! A compiler is a large program that reads what strangers wrote. What makes it slow or hungry must cost neither the host
//! its memory nor a rollout its time, so a process that may use only so much of either does the work, and hands its result
//! over a pipe. How much it may use grows with the file, so that large languages have room and a small trap has not.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::compile::compile;
use super::engine::{Allocation, wasmtime};
use super::evaluate::MAX_REASON;
use super::{Limits, PolicyError};
use lockkeeper_locks::terminal::prose;

/// The first argument of a process that is to compile: its `main` then calls [`compile_for_parent`] and nothing else.
pub const COMPILE: &str = "__compile";

const MIB: u64 = 1024 * 1024;

/// Said before machine code, and before a refusal.
const COMPILED: u8 = 0;
const REFUSED: u8 = 1;

/// What a process that dies may say of it.
const MAX_LAST_WORDS: u64 = 16 * 1024;

/// Who compiles policies that come from outside; our own are always compiled where they are loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compiler {
    /// This process, without a limit: for tests and benchmarks.
    Here,
    /// A process of this program, which must answer to [`COMPILE`], within limits that grow with the file: 2 s of
    /// processor time and 8 s a MiB; 1 GiB of memory and 64 times the file.
    Child(PathBuf),
}

/// What compiling may use.
#[derive(Debug, Clone, Copy)]
struct Budget {
    /// Seconds of processor time, all threads together.
    seconds: u64,
    /// Bytes of address space, beyond what the process has before it begins.
    memory: u64,
}

impl Budget {
    /// Componentised Python, the largest that is usual, has 18 MB and takes 20 s and 400 MB; a
    /// policy in Rust has 70 KB and takes a tenth of a second. An unoptimised host takes twice as long.
    fn of(wasm: &[u8]) -> Self {
        let bytes = wasm.len() as u64;
        Self { seconds: 2 + (8 * bytes).div_ceil(MIB), memory: 1024 * MIB + 64 * bytes }
    }

    /// By the clock on the wall, for a process that waits instead of computing, on a machine that is busy.
    fn patience(self) -> Duration {
        Duration::from_secs(self.seconds * 6)
    }

    /// Machine code that is taken over: some ten times the file, as a rule.
    fn most_code(self) -> u64 {
        self.memory
    }
}

/// Why there is no machine code, as one process tells the other.
#[derive(Serialize, Deserialize)]
enum Refusal {
    Malformed(String),
    OutOfMemory(u64),
    ForbiddenImport(String),
    WrongWorld(String),
    Failed(String),
}

impl From<PolicyError> for Refusal {
    fn from(error: PolicyError) -> Self {
        match error {
            PolicyError::Malformed { reason } => Self::Malformed(reason),
            PolicyError::OutOfMemory { limit } => Self::OutOfMemory(limit),
            PolicyError::ForbiddenImport { import } => Self::ForbiddenImport(import),
            PolicyError::WrongWorld { reason, .. } => Self::WrongWorld(reason),
            error => Self::Failed(error.to_string()),
        }
    }
}

impl From<Refusal> for PolicyError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Malformed(reason) => Self::Malformed { reason },
            Refusal::OutOfMemory(limit) => Self::OutOfMemory { limit },
            Refusal::ForbiddenImport(import) => Self::ForbiddenImport { import },
            Refusal::WrongWorld(reason) => Self::WrongWorld { reason, differences: Vec::new() },
            Refusal::Failed(reason) => Self::CompilerDied { reason },
        }
    }
}

// ---------------------------------------------------------------------------------------------------- who has it done

/// Has a process of that program compile. Blocks until it has, or until its time is up.
pub(super) fn compile_in_child(program: &Path, wasm: &[u8], limits: &Limits) -> Result<Vec<u8>, PolicyError> {
    let budget = Budget::of(wasm);
    let numbers = [budget.seconds, budget.memory, limits.memory].map(|number| number.to_string());
    let mut child = Command::new(program)
        .arg0("lockkeeper")
        .arg(COMPILE)
        .args(numbers)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| PolicyError::CompilerDied { reason: format!("it cannot be started: {error}") })?;
    let told = converse(&mut child, wasm, budget);
    let status = child.wait();
    let (answer, last_words) = told?;
    match answer.split_first() {
        Some((&COMPILED, machine_code)) if status.as_ref().is_ok_and(ExitStatus::success) => Ok(machine_code.to_vec()),
        Some((&REFUSED, refusal)) => match serde_json::from_slice::<Refusal>(refusal) {
            Ok(refusal) => Err(refusal.into()),
            Err(_) => Err(died(&status, &last_words, budget)),
        },
        _ => Err(died(&status, &last_words, budget)),
    }
}

/// Gives it the file, and takes what it says, on both of its pipes. It is killed if that takes too long.
fn converse(child: &mut Child, wasm: &[u8], budget: Budget) -> Result<(Vec<u8>, String), PolicyError> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        // One that dies early reads no more: what it says, or how it died, tells more than that.
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(wasm)));
        let (done, ended) = channel();
        let answer = scope.spawn(move || {
            let answer = read(stdout, budget.most_code());
            // Whoever waits for this may have given up.
            let _ = done.send(());
            answer
        });
        let last_words = scope.spawn(move || read(stderr, MAX_LAST_WORDS));
        let too_late = ended.recv_timeout(budget.patience()) == Err(RecvTimeoutError::Timeout);
        if too_late {
            // It may just have ended by itself.
            let _ = child.kill();
        }
        let answer = answer.join().unwrap_or_default();
        if answer.len() as u64 > budget.most_code() {
            let _ = child.kill();
        }
        let last_words = String::from_utf8_lossy(&last_words.join().unwrap_or_default()).into_owned();
        match too_late {
            true => Err(PolicyError::CompilerOutOfTime { limit: budget.patience() }),
            false => Ok((answer, last_words)),
        }
    })
}

/// At most one byte more than may be.
fn read(from: Option<impl Read>, most: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        // What breaks off is told by how the process ended.
        let _ = from.take(most + 1).read_to_end(&mut bytes);
    }
    bytes
}

/// What it died of.
fn died(status: &io::Result<ExitStatus>, last_words: &str, budget: Budget) -> PolicyError {
    let signal = status.as_ref().ok().and_then(ExitStatusExt::signal).and_then(|signal| Signal::try_from(signal).ok());
    if signal == Some(Signal::SIGXCPU) {
        return PolicyError::CompilerOutOfTime { limit: Duration::from_secs(budget.seconds) };
    }
    // As Rust's allocator says it before it aborts.
    if last_words.contains("memory allocation of") {
        return PolicyError::CompilerOutOfMemory { limit: budget.memory };
    }
    let how = match (signal, status) {
        (Some(signal), _) => format!("it was ended by {signal}"),
        (None, Ok(status)) => format!("it ended with {status}"),
        (None, Err(error)) => error.to_string(),
    };
    let said = last_words.lines().rev().find(|line| !line.trim().is_empty());
    let reason = said.map_or(how.clone(), |said| format!("{how}: {}", said.trim()));
    PolicyError::CompilerDied { reason: prose(&reason, MAX_REASON) }
}

// -------------------------------------------------------------------------------------------------------- who does it

/// Compiles for the process that [`Compiler::Child`] stands for, from its stdin to its stdout; its arguments follow
/// [`COMPILE`]. From here on this process is limited.
pub fn compile_for_parent(arguments: impl Iterator<Item = OsString>, from: impl Read, to: impl Write) -> ExitCode {
    let numbers: Vec<u64> = arguments.filter_map(|argument| argument.to_str()?.parse().ok()).collect();
    let [seconds, memory, limit] = numbers[..] else {
        return ExitCode::FAILURE;
    };
    let outcome = compile_limited(from, Budget { seconds, memory }, Limits { memory: limit, ..Limits::DEFAULT });
    let told = match outcome {
        Ok(machine_code) => tell(to, COMPILED, &machine_code),
        Err(error) => serde_json::to_vec(&Refusal::from(error))
            .map_err(io::Error::from)
            .and_then(|refusal| tell(to, REFUSED, &refusal)),
    };
    match told {
        Ok(()) => ExitCode::SUCCESS,
        // Nobody listens any more.
        Err(_) => ExitCode::FAILURE,
    }
}

fn compile_limited(mut from: impl Read, budget: Budget, limits: Limits) -> Result<Vec<u8>, PolicyError> {
    let failed = |what: &str, error: &dyn std::fmt::Display| PolicyError::Engine { reason: format!("{what}: {error}") };
    // With the same pool, or none, as the process that runs the code: wasmtime takes over only what was compiled for it.
    let (engine, _) = wasmtime(Allocation::default())?;
    budget.enforce().map_err(|error| failed("cannot limit the compiler", &error))?;
    let mut wasm = Vec::new();
    from.read_to_end(&mut wasm).map_err(|error| failed("cannot read the policy", &error))?;
    compile(&engine, &wasm, &limits)
}

fn tell(mut to: impl Write, what: u8, bytes: &[u8]) -> io::Result<()> {
    to.write_all(&[what])?;
    to.write_all(bytes)?;
    to.flush()
}

impl Budget {
    /// From now on this process may use no more, nor outlive its parent, nor leave anything on the disk.
    fn enforce(self) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        let limit = |resource, most| setrlimit(resource, most, most);
        // SIGXCPU at the first, SIGKILL at the second.
        setrlimit(Resource::RLIMIT_CPU, self.seconds, self.seconds + 2)?;
        limit(Resource::RLIMIT_CORE, 0)?;
        limit(Resource::RLIMIT_FSIZE, 0)?;
        #[cfg(target_os = "linux")]
        limit(Resource::RLIMIT_AS, address_space()?.saturating_add(self.memory))?;
        Ok(())
    }
}

/// Bytes of address space that this process has now; its pool of instances alone is hundreds of GiB that nothing backs.
#[cfg(target_os = "linux")]
fn address_space() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| io::Error::other("`/proc/self/status` has no `VmSize`"))
}
