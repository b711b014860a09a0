//! A policy's way to say something.

pub use crate::bindings::lockkeeper::policy::trace::Level;

/// Writes a line to the host's log. Nothing comes back, and no decision may depend on it. Natively it goes to stderr.
pub fn trace(level: Level, message: impl AsRef<str>) {
    #[cfg(target_arch = "wasm32")]
    crate::bindings::lockkeeper::policy::trace::emit(level, message.as_ref());
    #[cfg(not(target_arch = "wasm32"))]
    #[expect(clippy::print_stderr, reason = "a native test's log is its stderr")]
    {
        eprintln!("{level:?}: {}", message.as_ref());
    }
}
