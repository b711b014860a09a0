//! Files: those that a job or a caller names, which must be regular files of a bounded size, and those that we write, which are
//! their owner's alone.

mod private;
mod regular;

pub use private::{append, create_new, make_folders, tighten, write};
pub use regular::{MAX_POLICY_BYTES, MAX_TEXT_BYTES, open, open_given, read, read_given, read_to_string};
