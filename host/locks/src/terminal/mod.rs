//! Text of strangers, made harmless for a terminal.
//!
//! A terminal obeys some characters instead of showing them, and shows others not at all. Whatever a guest, a file, a store,
//! a target or a caller has written passes through here before a person sees it. `cli/output.rs` sends every line through
//! [`line()`], [`block`] or [`styled`], so that no caller can forget it; [`value`], [`shown`] and [`prose`] bound a single value
//! where a sentence is made of it. Files keep what was written.

mod escape;
mod hidden;

pub use escape::{MAX_LINE, MAX_VALUE, block, json, line, log_line, prose, shown, styled, toml, value};
pub use hidden::is_hidden;
