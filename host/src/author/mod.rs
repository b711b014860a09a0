//! How a policy comes about: projects made from templates and built, cases that it must answer as stated, properties that
//! it must have on views made up for it, and what it costs.
//!
//! Everything here asks the policy through [`crate::policy`], as a rollout does; nothing here prints.
