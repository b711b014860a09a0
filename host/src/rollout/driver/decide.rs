//! The interface to a policy; tests and simulations have their own implementations.

use crate::job::Grants;
use crate::policy::types::{Admitted, Outcome, Settled, View};
use crate::policy::{Decision, Module};

/// Answers the contract's two questions. An answer depends on nothing but the arguments.
pub trait Decide: Send {
    /// The name in the policy's manifest.
    fn name(&self) -> &str;

    /// SHA-256 of the policy's component, in lower-case hex.
    fn digest(&self) -> &str;

    /// Version of the policy contract.
    fn contract(&self) -> String;

    /// Decides whether a target may start.
    fn admit(&self, settings: &str, view: &View, memory: &[u8], grants: Grants) -> Decision<Admitted>;

    /// Decides what follows the end of an action.
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
