//! The semaphore's executable specification: an exhaustive search over every interleaving of a few callers.
//!
//! A model, not the product's code: what the store does and what a caller does, step by step, small enough that all that
//! can happen does happen. There are two models, because the states of one for both would be too many to search:
//!
//! - [`slots`]: the queue, the leases and the number of slots. No lease is granted while no slot is free by the number that
//!   is in force.
//! - [`claims`]: the claims. One identifier acts once among Lockkeeper's callers.
//!
//! Each model has callers that follow the rules, and variants that are known to be wrong by one slip; the search finds out
//! each of those.

mod claims;
mod search;
mod slots;
