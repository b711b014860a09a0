//! Every promise of the [`super::Store`] trait as a test that any backend can run.
