//! A job: what should happen, as typed data. No I/O.
