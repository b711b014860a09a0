//! A job: what should happen, as typed data. No I/O.
//!
//! Text becomes a `JobFile`, the shape as written, and that a [`JobSpec`], the same job after every rule was checked, or
//! `Problems`: all of them at once, each with its place. Files are read and commands run elsewhere; here is only text.

mod budget;
mod calendar;
mod check;
mod file;
mod host_list;
mod host_name;
mod inventory;
mod limit;
mod name;
mod pattern;
mod schema;
mod secrets;
mod settings;
mod spec;
mod ssh;
mod target_list;
mod template;
#[cfg(test)]
mod tests;
mod waves;

pub use budget::{BudgetSpec, StopAt};
pub use calendar::{Calendar, Fit, Freeze, MAX_WINDOW, Opening, Shut, Window};
pub use host_list::{parse_listing, parse_members};
pub use inventory::parse_inventory;
pub use limit::{Limit, Rounding, Share, ShareError};
pub use name::{JobName, Labels, NameError, Target, TargetName};
pub use schema::{schema, schema_with_settings};
pub use settings::parse_settings;
pub use spec::{
    ActionSpec, Command, Complaint, DEFAULT_ALLOW_EMPTY, DEFAULT_ATTEMPTS, DEFAULT_BACK_OFF, DEFAULT_BLOCKING,
    DEFAULT_BUDGET, DEFAULT_GRANTS, DEFAULT_KILL_AFTER, DEFAULT_LIFETIME, DEFAULT_MAX_CONCURRENCY,
    DEFAULT_ON_EXHAUSTED, DEFAULT_ON_FAULT, DEFAULT_ON_UNKNOWN, DEFAULT_ORDER, DEFAULT_PARTY_COUNTS, Grant, Grants,
    JobSpec, Listed, Look, ObserveSpec, OnExhausted, OnFault, OnUnknown, OrchestrationSpec, Order, PartyCounts,
    PartySpec, PolicyPlace, PolicySource, PolicySpec, SemaphoreSpec, TargetSource, TargetsSpec, ValueSource, WaveSpec,
};
pub use ssh::{DEFAULT_SSH_CONNECT_TIMEOUT, SshSpec};
pub use target_list::MAX_TARGETS;
pub use template::{MemberTemplate, MemberTemplateError, MissingLabel, Piece, Substitutions, Template, TemplateError};
