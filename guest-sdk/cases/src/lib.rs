//! Test cases of a policy, as people write them in TOML: a view by its difference from a base, settings, and what the policy
//! must answer.
//!
//! The host runs them through wasm (`lockkeeper policy test`), the SDK natively (`cargo test`): both read them here, into
//! the same JSON of the contract's records, and compare answers here.
//!
//! ```
//! let cases = lockkeeper_cases::Cases::parse(r#"
//!     [settings]
//!     people = 2
//!
//!     [[case]]
//!     name = "too few people"
//!     view = { party = { members = ["ann"] } }
//!     expect = { verdict = "wait", code = "nobody-is-in" }
//! "#).unwrap();
//! assert_eq!(cases.cases[0].view["party"]["members"][0]["identifier"], "ann");
//! ```

mod answer;
mod call;
mod case;
mod node;
mod read;
mod shape;
pub mod simulation;
mod view;

pub use answer::{Answer, Difference, Expect, Fault, Remembered};
pub use call::{Call, MOST_CALLS, answer_told};
pub use case::{Case, Cases, Memory};
pub use node::{Node, Problem, Spot};
pub use shape::{EVENT_KINDS, Field, LEASE, MEMBER, Shape, VIEW};
pub use view::{NOON, base, difference, view_of_json, view_of_toml};
