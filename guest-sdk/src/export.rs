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

/// A policy or an orchestration with a description. The attributes implement it.
pub trait Described {
    /// What the manifest says.
    const DESCRIPTION: Description;
}

/// The component's decider, made of a policy.
#[derive(Debug)]
pub struct Export<P>(PhantomData<P>);

impl<P: Policy + Described + Settings + Schema> decider::Guest for Export<P> {
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
        let view = ManuallyDrop::new(view);
        #[cfg(target_arch = "wasm32")]
        if let Some(outcome) = lean::settling() {
            lean::settled(settle::<P>(&settings, &view, &outcome, memory));
            return Err(String::new());
        }
        let policy = ManuallyDrop::new(P::read(&settings)?);
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
        settle::<P>(&settings, &ManuallyDrop::new(view), &outcome, memory)
    }
}

fn settle<P: Policy + Settings>(
    settings: &str,
    view: &View,
    outcome: &Outcome,
    memory: Vec<u8>,
) -> Result<decider::Settled, String> {
    let policy = ManuallyDrop::new(P::read(settings)?);
    let mut memory = Memory::from_bytes(memory);
    let settled = policy.settle(view, outcome, &mut memory);
    Ok(decider::Settled {
        verdict: settled.verdict,
        code: settled.code,
        reason: settled.reason,
        memory: memory.into_bytes(),
    })
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
pub(crate) fn report_panics() {
    #[cfg(target_arch = "wasm32")]
    std::panic::set_hook(Box::new(|panic| {
        // As std words it; its own way there is the formatting of everything.
        let mut told = String::from("panicked");
        if let Some(place) = panic.location() {
            told.push_str(" at ");
            told.push_str(place.file());
            for number in [place.line(), place.column()] {
                told.push(':');
                told.push_str(&number.to_string());
            }
        }
        told.push_str(": ");
        told.push_str(panic.payload_as_str().unwrap_or("no reason was given"));
        crate::trace(crate::Level::Error, told);
    }));
}

/// The exports of the component, in half the bytes.
///
/// `wit-bindgen` makes of a `view` in memory a [`View`] twice, in `admit` and in `settle`, and that is most of what a small
/// policy weighs. Here `settle` goes through the same function as `admit`: up to the view their arguments lie in memory alike,
/// as the canonical ABI lays records out. Nor is there anything to clean up after an answer, as the instance ends with it.
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
#[expect(unsafe_code, reason = "the canonical ABI deals in raw memory")]
pub mod lean {
    use core::cell::RefCell;
    use core::ptr;

    use crate::bindings::exports::lockkeeper::policy::decider::{_export_admit_cabi, Guest, Settled};
    use crate::{Ending, Outcome, Settlement};

    pub use crate::bindings::exports::lockkeeper::policy::decider::{_export_describe_cabi, _export_validate_cabi};

    /// Where the arguments lie, in bytes: settings and view first, in both.
    const ADMIT_MEMORY: usize = 232;
    const ENDING: usize = 232;
    const HAS_EXIT_CODE: usize = 236;
    const EXIT_CODE: usize = 240;
    const TOOK: usize = 248;
    const ATTEMPT: usize = 256;
    const SETTLE_MEMORY: usize = 264;

    /// What is to be settled, and what came of it, on the way through `admit`.
    struct Through {
        settling: RefCell<Option<Outcome>>,
        settled: RefCell<Option<Result<Settled, String>>>,
    }

    // SAFETY: a policy has one thread: its target has no others.
    unsafe impl Sync for Through {}

    static THROUGH: Through = Through { settling: RefCell::new(None), settled: RefCell::new(None) };

    pub(super) fn settling() -> Option<Outcome> {
        THROUGH.settling.take()
    }

    pub(super) fn settled(settled: Result<Settled, String>) {
        *THROUGH.settled.borrow_mut() = Some(settled);
    }

    /// `result<settled, string>` as the canonical ABI has it.
    #[repr(C, align(8))]
    #[derive(Debug)]
    pub struct Returned {
        /// Its first byte counts; what follows begins after eight.
        is_error: u64,
        /// The verdict's number and eight bytes on what it is for; or the error's text.
        first: [u32; 2],
        keep: u64,
        texts: [(*const u8, usize); 3],
    }

    /// `admit`, of which there is one.
    ///
    /// # Safety
    /// `arguments` are what the host lowered for it.
    #[inline(never)]
    pub unsafe fn admit<T: Guest>(arguments: *mut u8) -> *mut u8 {
        // SAFETY: as the caller has it.
        unsafe { _export_admit_cabi::<T>(arguments) }
    }

    /// `settle`, by way of `admit`.
    ///
    /// # Safety
    /// `arguments` are what the host lowered for it.
    pub unsafe fn settle<T: Guest>(arguments: *mut u8) -> *mut u8 {
        // SAFETY: the arguments are laid out so; what is overwritten was read.
        unsafe {
            let number = |at: usize| arguments.add(at).cast::<u32>().read();
            let outcome = Outcome {
                ending: Ending::_lift(arguments.add(ENDING).read()),
                exit_code: (arguments.add(HAS_EXIT_CODE).read() != 0).then(|| number(EXIT_CODE).cast_signed()),
                took: arguments.add(TOOK).cast::<u64>().read(),
                attempt: number(ATTEMPT),
            };
            *THROUGH.settling.borrow_mut() = Some(outcome);
            ptr::copy(arguments.add(SETTLE_MEMORY), arguments.add(ADMIT_MEMORY), 8);
            admit::<T>(arguments);
        }
        let mut returned = Returned { is_error: 0, first: [0; 2], keep: 0, texts: [(ptr::null(), 0); 3] };
        let told = |bytes: Vec<u8>| {
            let bytes = bytes.leak();
            (bytes.as_ptr(), bytes.len())
        };
        match THROUGH.settled.take() {
            Some(Ok(Settled { verdict, code, reason, memory })) => {
                returned.first[0] = match verdict {
                    Settlement::Release => 0,
                    Settlement::Keep(millis) => {
                        returned.keep = millis;
                        1
                    }
                    Settlement::Retry => 2,
                    Settlement::RollBack => 3,
                    Settlement::Abort => 4,
                };
                returned.texts = [told(code.into_bytes()), told(reason.into_bytes()), told(memory)];
            }
            other => {
                let (text, length) = told(other.and_then(Result::err).unwrap_or_default().into_bytes());
                returned.is_error = 1;
                returned.first = [text as u32, length as u32];
            }
        }
        Box::leak(Box::new(returned)) as *mut Returned as *mut u8
    }

    /// In the place of `wit-bindgen`'s macro of this name, which [`crate::bindings::export_policy`] calls.
    pub mod exports {
        pub mod lockkeeper {
            pub mod policy {
                pub mod decider {
                    pub use crate::__export_lean as __export_lockkeeper_policy_decider_1_0_0_cabi;
                }
            }
        }
    }

    #[doc(hidden)]
    #[macro_export]
    macro_rules! __export_lean {
        ($ty:ident with_types_in $($_:tt)*) => {
            const _: () = {
                use ::lockkeeper_sdk::export::lean;
                #[unsafe(export_name = "lockkeeper:policy/decider@1.0.0#describe")]
                unsafe extern "C" fn describe() -> *mut u8 {
                    unsafe { lean::_export_describe_cabi::<$ty>() }
                }
                #[unsafe(export_name = "lockkeeper:policy/decider@1.0.0#validate")]
                unsafe extern "C" fn validate(settings: *mut u8, length: usize) -> *mut u8 {
                    unsafe { lean::_export_validate_cabi::<$ty>(settings, length) }
                }
                #[unsafe(export_name = "lockkeeper:policy/decider@1.0.0#admit")]
                unsafe extern "C" fn admit(arguments: *mut u8) -> *mut u8 {
                    unsafe { lean::admit::<$ty>(arguments) }
                }
                #[unsafe(export_name = "lockkeeper:policy/decider@1.0.0#settle")]
                unsafe extern "C" fn settle(arguments: *mut u8) -> *mut u8 {
                    unsafe { lean::settle::<$ty>(arguments) }
                }
            };
        };
    }
}
