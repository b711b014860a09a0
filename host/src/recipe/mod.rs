//! Semaphore and party, written once against the store trait.
