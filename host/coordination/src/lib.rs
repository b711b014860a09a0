//! Coordination between processes and machines: a counting semaphore, a party and the store that both rest on.
//!
//! The node layout is the one of Python's [kazoo](https://kazoo.readthedocs.io), so that programs that use either library on
//! the same path share the same limit. The same code runs on ZooKeeper, on one SQLite file, and in memory for tests.
//!
//! ```text
//! recipe → store ← { zookeeper, embedded, memory }     files
//! ```
//!
//! - [`recipe`]: [`recipe::Semaphore`] and [`recipe::Party`], written once against the trait.
//! - [`store`]: the [`store::Store`] trait, its vocabulary, and [`store::conformance`], the tests that every backend passes.
//! - [`zookeeper`], [`embedded`], [`memory`]: the three backends.
//! - [`files`]: bounded reading of regular files, and files that only their owner can read.
#![doc = include_str!("../README.md")]

pub mod embedded;
pub mod files;
pub mod memory;
pub mod recipe;
pub mod store;
pub mod zookeeper;
