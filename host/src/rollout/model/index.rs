//! The machine's own types for numbers that could be mixed up. The run state, the journal and the contract keep bare numbers.

use std::fmt;
use std::time::Duration;

use lockkeeper_coordination::store::millis;
use serde::{Deserialize, Serialize};

/// The position of a target in the plan's order, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TargetIndex(usize);

/// A moment of the runner's wall clock, in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EpochMs(u64);

/// The name of a run, unique in its store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(String);

impl TargetIndex {
    /// The highest index, for ranges that include every target.
    pub const MAX: Self = Self(usize::MAX);

    /// The target at `index` of the plan.
    #[must_use]
    pub const fn new(index: usize) -> Self {
        Self(index)
    }

    /// The index as a number, for slices in the plan's order.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0
    }

    /// The target that follows in the plan's order.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for TargetIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl EpochMs {
    /// The moment `ms` milliseconds after the Unix epoch.
    #[must_use]
    pub const fn new(ms: u64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The moment `span` later; the end of time at most.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        self.after_ms(millis(span))
    }

    /// The moment `ms` milliseconds later; the end of time at most.
    #[must_use]
    pub const fn after_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this moment; 0 if `earlier` is later.
    #[must_use]
    pub const fn ms_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The same moment after the wall clock was set by `by_ms` milliseconds.
    #[must_use]
    pub const fn shifted(self, by_ms: i64) -> Self {
        Self(self.0.saturating_add_signed(by_ms))
    }
}

impl RunId {
    /// The run of this name.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
