//! From the trait to the component's exports.

use std::marker::PhantomData;
use std::mem::ManuallyDrop;

use serde::de::DeserializeOwned;

use crate::bindings::exports::lockkeeper::policy::decider;
use crate::decide::millis;
use crate::{Diagnostic, Manifest, Memory, Outcome, Policy, Schema, Settings, Severity, View, schema_of};

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

impl<P: Described + Settings + Schema> decider::Guest for Export<P> {
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
        match P::read(&settings) {
            Ok(policy) => policy.check(),
            Err(message) => {
                vec![Diagnostic { severity: Severity::Error, at: String::new(), message, help: None }]
            }
        }
    }

    fn admit(settings: String, view: View, memory: Vec<u8>) -> Result<decider::Admitted, String> {
        report_panics();
        // The instance ends with its answer: nothing is ever given back.
        let (policy, view) = (ManuallyDrop::new(P::read(&settings)?), ManuallyDrop::new(view));
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
        let (policy, view) = (ManuallyDrop::new(P::read(&settings)?), ManuallyDrop::new(view));
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

/// Reads settings. In a guest by a reader that is a fraction of the other's size. What it cannot say of a mistake the host has said: settings
/// pass the schema before a policy sees them.
///
/// # Errors
/// That they are not what the schema says.
#[cfg(target_arch = "wasm32")]
pub fn read<P: DeserializeOwned>(settings: &str) -> Result<P, String> {
    // No text is longer than the whole.
    let mut unescaped = vec![0; settings.len()];
    match serde_json_core::from_str_escaped(settings, &mut unescaped) {
        Ok((policy, _)) => Ok(policy),
        Err(_) => Err("these settings are not what the schema says".to_owned()),
    }
}

/// Reads settings.
///
/// # Errors
/// What is wrong with them, as a job's author would see it.
#[cfg(not(target_arch = "wasm32"))]
pub fn read<P: DeserializeOwned>(settings: &str) -> Result<P, String> {
    serde_json::from_str(settings).map_err(|error| {
        // The host writes the settings on one line: serde's "at line 1 column 17" is no place in anybody's job.
        let message = error.to_string();
        message.split_once(" at line ").map_or(message.clone(), |(before, _)| before.to_owned())
    })
}

/// Settings of a policy that has none.
///
/// # Errors
/// That there are some.
pub fn nothing(settings: &str) -> Result<(), String> {
    match settings.bytes().all(|byte| b"{} \n".contains(&byte)) {
        true => Ok(()),
        false => Err("it has no settings".to_owned()),
    }
}

/// A panic says what and where through `trace`, since a wasm guest has no stderr; then it traps.
fn report_panics() {
    #[cfg(target_arch = "wasm32")]
    std::panic::set_hook(Box::new(|panic| crate::trace(crate::Level::Error, panic.to_string())));
}
