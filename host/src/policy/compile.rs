//! From foreign bytes to machine code: what is too large is refused first, a core module is made a component, and whatever
//! the parser or the compiler does about the rest is an error.

use std::cell::{Cell, RefCell};
use std::panic::AssertUnwindSafe;
use std::sync::Once;

use wit_component::ComponentEncoder;

use super::evaluate::{MAX_REASON, MAX_TABLE_ELEMENTS};
use super::{Limits, PolicyError, difference, module, orchestration};
use lockkeeper_locks::terminal::prose;

/// Bytes of a page of linear memory.
const WASM_PAGE: u64 = 64 * 1024;

/// Compiles foreign bytes to machine code, as wasmtime serialises it.
pub(super) fn compile(engine: &wasmtime::Engine, wasm: &[u8], limits: &Limits) -> Result<Vec<u8>, PolicyError> {
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
        engine.precompile_component(wasm).map_err(|error| malformed(&format!("{error:#}")))
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
    prose(&text.split_whitespace().collect::<Vec<_>>().join(" "), MAX_REASON)
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
pub(super) fn differences(wasm: &[u8]) -> Vec<String> {
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
        .find(|import| ![module::PACKAGE, orchestration::PACKAGE].iter().any(|ours| import.module.starts_with(ours)))
        .map(|import| one_line(&format!("{}#{}", import.module, import.name)))
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
