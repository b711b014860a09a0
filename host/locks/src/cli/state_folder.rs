//! The folder with everything that this program keeps on this host.

use std::path::PathBuf;

use directories::ProjectDirs;

use super::args::Global;
use super::exit::{ErrorKind, Failure};

impl Global {
    /// The folder of the embedded store, the journals and the compiled policies.
    pub fn state_dir(&self) -> Result<PathBuf, Failure> {
        if let Some(folder) = &self.state_dir {
            return Ok(folder.clone());
        }
        let ours = ProjectDirs::from("", "", "lockkeeper")
            .and_then(|ours| ours.state_dir().or(Some(ours.data_local_dir())).map(ToOwned::to_owned));
        ours.ok_or_else(|| {
            Failure::message(ErrorKind::BadArgument, "there is no home folder to keep state in")
                .hint("name one with --state-dir or LOCKKEEPER_STATE_DIR")
        })
    }
}
