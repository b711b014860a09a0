//! The configuration of stores: a job's `[store]`, profiles, and the system-wide file. Text only; files are read elsewhere.

mod store;

pub use store::{
    MAX_SESSION_TIMEOUT, MIN_SESSION_TIMEOUT, Password, Profiles, StoreSpec, StoreTable, SystemConfig, SystemStore,
    connect_timeout, of_job, parse_profiles, parse_system, session_timeout,
};
