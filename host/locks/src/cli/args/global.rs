//! The options of every command.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::StoreFlags;
use crate::cli::store::OpenSessions;

/// The options that every command has.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// State folder [default: ~/.local/state/lockkeeper on Linux].
    ///
    /// It has the embedded store, the journals and the compiled policies. The default is `lockkeeper` in the state folder of
    /// your account.
    #[arg(long, global = true, value_name = "DIR", env = "LOCKKEEPER_STATE_DIR", hide_env_values = true)]
    pub state_dir: Option<PathBuf>,
    /// Format of data and errors.
    #[arg(long, global = true, value_enum, default_value = "human")]
    pub format: Format,
    /// Suppress everything except data and errors.
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// The sessions that the command has open.
    #[arg(skip)]
    pub sessions: OpenSessions,
    // Last: its heading would be that of all that follows.
    #[command(flatten)]
    pub(crate) store: StoreFlags,
}

/// The format of data and errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Text for people.
    Human,
    /// One JSON value a line.
    Json,
}
