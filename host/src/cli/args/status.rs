//! The options of `status`.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  \
    lockkeeper status                          # every run, newest first\n  \
    lockkeeper status kernel-reboot --watch    # until it is finished",
    after_long_help = "The run is looked up in the store that the store options choose. If the job has a [store], choose the same store \
    here.\n\n\
    --watch redraws the status every second until the run is finished or Ctrl-C ends it; in a pipe, it writes one block for each \
    change. As JSON, the list of runs is one array, a run one object, and --watch one object for each change; \
    `docs/rollouts.md` describes their members.\n\n\
    Examples:\n  \
    lockkeeper status                                  # every run, newest first\n  \
    lockkeeper status kernel-reboot --watch            # until it is finished\n  \
    lockkeeper status latest --all                     # every target\n  \
    lockkeeper status latest --timeline run.svg        # a picture\n  \
    lockkeeper status latest --format json --zk-hosts zk1:2181/fleet"
)]
pub(in crate::cli) struct StatusArgs {
    /// Run: its name, the beginning of its name, its job's name (the newest run of the job), or `latest` [default: list all
    /// runs].
    #[arg(value_name = "RUN")]
    pub(in crate::cli) run: Option<String>,
    /// Show every target, not only those that failed or are blocked.
    #[arg(long, requires = "run")]
    pub(in crate::cli) all: bool,
    /// Redraw the status every second until the run is finished.
    #[arg(long, requires = "run")]
    pub(in crate::cli) watch: bool,
    /// Draw a timeline into this file, an SVG for a browser, from the journals on this host.
    #[arg(long, value_name = "FILE", requires = "run", conflicts_with_all = ["all", "watch"])]
    pub(in crate::cli) timeline: Option<PathBuf>,
}
