//! kazoo's counting semaphore and party in Rust, on ZooKeeper or on one SQLite file.
//!
//! ```text
//! recipe → store ← { zookeeper, embedded, memory }
//! ```

pub mod embedded;
pub mod files;
pub mod memory;
pub mod recipe;
pub mod store;
pub mod zookeeper;
