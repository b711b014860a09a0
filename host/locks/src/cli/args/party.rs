//! The options of `party`.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::cli::parse::{identifier, timeout, truth};
use lockkeeper_coordination::recipe::{Identifier, MemberKind};
use lockkeeper_coordination::store::NodePath;

/// A command of `party`.
#[derive(Debug, Subcommand)]
pub enum PartyCommand {
    /// Show the members of a party, or wait for a number of them.
    Members(MembersArgs),
    /// Be a member of a party until this process ends.
    Join(JoinArgs),
}

/// The options of `party members`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("waiting").multiple(true).args(["min_nodes", "blocking"]))]
#[command(
    after_help = "Examples:\n  \
    lockkeeper party members /party/web\n  \
    lockkeeper party members /party/web --min-nodes 8 --timeout 5m && ./switch-over.sh",
    after_long_help = "Shows members of both of kazoo's kinds. As JSON, one array.\n\n\
    Examples:\n  \
    lockkeeper party members /party/web\n  \
    lockkeeper party members /party/web --min-nodes 8 --timeout 5m && ./switch-over.sh"
)]
pub struct MembersArgs {
    /// Party to show.
    #[arg(value_name = "PATH", value_parser = NodePath::parse)]
    pub path: NodePath,
    /// Wait until the party has this many members.
    #[arg(long, value_name = "N", visible_alias = "min_nodes")]
    pub min_nodes: Option<usize>,
    /// Wait for the members that --min-nodes asks for, or for one member [default: true with --min-nodes, else false].
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = truth)]
    pub blocking: Option<bool>,
    /// Time to wait, as `5m` or in seconds [default: no limit].
    #[arg(long, value_name = "DURATION", value_parser = timeout, requires = "waiting")]
    pub timeout: Option<Duration>,
}

/// The options of `party join`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  \
    lockkeeper party join /party/web --identifier web01 -- ./server\n  \
    lockkeeper party join /party/web    # until a signal comes",
    after_long_help = "A member whose session is lost joins again in a new session.\n\n\
    Examples:\n  \
    lockkeeper party join /party/web --identifier web01 -- ./server\n  \
    lockkeeper party join /party/web    # until a signal comes"
)]
pub struct JoinArgs {
    /// Party to join.
    #[arg(value_name = "PATH", value_parser = NodePath::parse_shared)]
    pub path: NodePath,
    /// Name of the member [default: the host's name].
    #[arg(long, value_name = "NAME", value_parser = identifier)]
    pub identifier: Option<Identifier>,
    /// Kind of member, as kazoo has them.
    #[arg(long, value_enum, default_value = "shallow")]
    pub kind: Kind,
    /// Command to run as a member; the membership ends with it [default: no command, until a signal].
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// How a member is recorded in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// The identifier is in the node's name, which is what Salt lists.
    Shallow,
    /// The identifier is in the node's data.
    Party,
}

impl From<Kind> for MemberKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Shallow => Self::Shallow,
            Kind::Party => Self::Full,
        }
    }
}
