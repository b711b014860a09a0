//! The semaphore's executable specification: an exhaustive search over every interleaving of a few callers.
//!
//! A model, not the product's code: what the store does and what a caller does, step by step, small enough that all that
//! can happen does happen. It has callers that follow the rules, and variants that are known to be wrong by one slip; the
//! search finds out each of those.

mod search;
mod slots;
