//! The policies that come with the binary: compiled from `policies/` by the build script.

/// A policy that comes with the binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StandardPolicy {
    /// Its name, as `policy.use` has it.
    pub name: &'static str,
    /// The component.
    pub wasm: &'static [u8],
}

/// As the build script wrote them: name and component, in the order of their names.
const EMBEDDED: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/standard_policies.rs"));

/// All of them, in the order of their names.
#[must_use]
pub fn standard_policies() -> Vec<StandardPolicy> {
    EMBEDDED.iter().map(|&(name, wasm)| StandardPolicy { name, wasm }).collect()
}

impl StandardPolicy {
    /// The one of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        standard_policies().into_iter().find(|policy| policy.name == name)
    }
}
