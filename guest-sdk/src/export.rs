//! From the trait to the component's exports.

use std::marker::PhantomData;

use serde::de::DeserializeOwned;

use crate::bindings::exports::lockkeeper::policy::decider;
use crate::decide::millis;
use crate::{Diagnostic, Manifest, Memory, Outcome, Policy, Schema, Severity, View, schema_of};

/// What a manifest says of a policy, as the attribute [`crate::policy`] writes it.
#[derive(Debug, Clone, Copy)]
pub struct Description {
    /// The crate's name.
    pub name: &'static str,
    /// The crate's version.
    pub version: &'static str,
    /// The crate's description.
    pub summary: &'static str,
    /// The verdicts that it may ever return.
    pub verdicts: &'static [&'static str],
}

/// A policy with a description. The attribute [`crate::policy`] implements it.
pub trait Described: Policy {
    /// What the manifest says.
    const DESCRIPTION: Description;
}

/// The component's decider, made of a policy.
#[derive(Debug)]
pub struct Export<P>(PhantomData<P>);

impl<P: Described + DeserializeOwned + Schema> decider::Guest for Export<P> {
    fn describe() -> Manifest {
        let about = P::DESCRIPTION;
        Manifest {
            name: about.name.to_owned(),
            version: about.version.to_owned(),
            summary: about.summary.to_owned(),
            settings_schema: schema_of::<P>(),
            verdicts: about.verdicts.iter().map(|verdict| (*verdict).to_owned()).collect(),
        }
    }

    fn validate(settings: String) -> Vec<Diagnostic> {
        report_panics();
        match read::<P>(&settings) {
            Ok(policy) => policy.check(),
            Err(message) => {
                vec![Diagnostic { severity: Severity::Error, at: String::new(), message, help: None }]
            }
        }
    }

    fn admit(settings: String, view: View, memory: Vec<u8>) -> Result<decider::Admitted, String> {
        report_panics();
        let policy = read::<P>(&settings)?;
        let mut memory = Memory::from_bytes(memory);
        let admitted = policy.admit(&view, &mut memory);
        Ok(decider::Admitted {
            verdict: admitted.answer?,
            code: admitted.code,
            reason: admitted.reason,
            wake_after: admitted.wake_after.map(millis),
            memory: memory.into_bytes(),
        })
    }

    fn settle(settings: String, view: View, outcome: Outcome, memory: Vec<u8>) -> Result<decider::Settled, String> {
        report_panics();
        let policy = read::<P>(&settings)?;
        let mut memory = Memory::from_bytes(memory);
        let settled = policy.settle(&view, &outcome, &mut memory);
        Ok(decider::Settled {
            verdict: settled.verdict,
            code: settled.code,
            reason: settled.reason,
            memory: memory.into_bytes(),
        })
    }
}

pub(crate) fn read<P: DeserializeOwned>(settings: &str) -> Result<P, String> {
    serde_json::from_str(settings).map_err(|error| {
        // The host writes the settings on one line: serde's "at line 1 column 17" is no place in anybody's job.
        let message = error.to_string();
        message.split_once(" at line ").map_or(message.clone(), |(before, _)| before.to_owned())
    })
}

/// A panic says what and where through `trace`, since a wasm guest has no stderr; then it traps.
fn report_panics() {
    #[cfg(target_arch = "wasm32")]
    std::panic::set_hook(Box::new(|panic| crate::trace(crate::Level::Error, panic.to_string())));
}
