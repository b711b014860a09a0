//! The policy's only state.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What the run's last decision left, and what the next one will find: at most 64 KiB, or the decision is a fault.
///
/// It is one for the run, not one a target, and passes from decision to decision in the journal's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory(Vec<u8>);

impl Memory {
    /// As the host hands it over.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// As the host takes it back.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Whether nothing was ever put in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What was put in last; the default at the run's start.
    ///
    /// # Panics
    /// When something else was put in than is asked for, which is a policy fault.
    #[must_use]
    pub fn get<T: DeserializeOwned + Default>(&self) -> T {
        match self.0.is_empty() {
            true => T::default(),
            false => serde_json::from_slice(&self.0).expect("memory holds what this policy put in"),
        }
    }

    /// Puts something in, for the next decision. Use ordered maps.
    ///
    /// # Panics
    /// When it cannot be written as JSON (a map with keys that are no strings), which is a policy fault.
    pub fn put<T: Serialize>(&mut self, value: &T) {
        self.0 = serde_json::to_vec(value).expect("memory can be written as JSON");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_is_put_in_is_there_at_the_next_decision() {
        let mut memory = Memory::default();
        assert!(memory.is_empty());
        assert_eq!(memory.get::<u32>(), 0);
        memory.put(&BTreeMap::from([("b", 2), ("a", 1)]));
        let bytes = memory.into_bytes();
        assert_eq!(bytes, br#"{"a":1,"b":2}"#);
        let memory = Memory::from_bytes(bytes);
        assert_eq!(memory.get::<BTreeMap<String, u32>>()["b"], 2);
    }

    #[test]
    #[should_panic(expected = "memory holds what this policy put in")]
    fn another_policys_memory_is_a_fault() {
        let _ = Memory::from_bytes(b"\xff".to_vec()).get::<u32>();
    }
}
