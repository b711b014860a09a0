//! The file of this program, to start it once more.

use std::path::PathBuf;

use super::exit::{ErrorKind, Failure};

/// The very file that this process runs, even if another was installed in its place since.
pub fn running_file() -> Result<PathBuf, Failure> {
    if cfg!(target_os = "linux") {
        Ok("/proc/self/exe".into())
    } else {
        std::env::current_exe().map_err(|error| Failure::new(ErrorKind::Internal, error))
    }
}
