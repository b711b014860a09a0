//! Who decides: a policy, or in tests and simulations whatever answers like one.

use crate::job::Grants;
use crate::policy::types::{Admitted, Outcome, Settled, View};
use crate::policy::{Decision, Module};

/// Answers the contract's two questions. An answer depends on nothing but what is passed.
pub trait Decide: Send {
    /// Its name, as its manifest has it.
    fn name(&self) -> &str;

    /// The sha256 of what it is made of, in lower-case hex.
    fn digest(&self) -> &str;

    /// The contract that it speaks.
    fn contract(&self) -> String;

    /// May this target go?
    fn admit(&self, settings: &str, view: &View, memory: &[u8], grants: Grants) -> Decision<Admitted>;

    /// It acted; what now?
    fn settle(
        &self,
        settings: &str,
        view: &View,
        outcome: &Outcome,
        memory: &[u8],
        grants: Grants,
    ) -> Decision<Settled>;
}

impl Decide for Module {
    fn name(&self) -> &str {
        &self.manifest().name
    }

    fn digest(&self) -> &str {
        Module::digest(self)
    }

    fn contract(&self) -> String {
        Module::contract(self)
    }

    fn admit(&self, settings: &str, view: &View, memory: &[u8], grants: Grants) -> Decision<Admitted> {
        Module::admit(self, settings, view, memory, grants)
    }

    fn settle(
        &self,
        settings: &str,
        view: &View,
        outcome: &Outcome,
        memory: &[u8],
        grants: Grants,
    ) -> Decision<Settled> {
        Module::settle(self, settings, view, outcome, memory, grants)
    }
}
