//! The options of the commands that read journals: `replay` and `explain`.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  \
    lockkeeper replay latest\n  \
    lockkeeper replay kernel-reboot-20260401 --policy canary --settings canary.toml",
    after_long_help = "A journal is trusted only if every byte is as it was written: a line that was changed, moved or removed is \
    reported.\n\n\
    With another policy or other settings, `replay` is a back-test: it lists the decisions that differ, with their reasons. Each \
    view is as it was recorded.\n\n\
    Exit codes:\n  \
    0   all decisions are identical, or the back-test is complete\n  \
    1   a decision differs, or the journal was changed\n  \
    70  the other policy failed\n\n\
    Examples:\n  \
    lockkeeper replay latest\n  \
    lockkeeper replay kernel-reboot-20260401 --policy canary --settings canary.toml\n  \
    lockkeeper replay ./journal.jsonl --policy ./my_policy.wasm --all --format json"
)]
pub(in crate::cli) struct ReplayArgs {
    /// Run: its name, the beginning of its name, `latest`, or the path of a journal.
    #[arg(value_name = "RUN")]
    pub(in crate::cli) run: String,
    /// Policy to ask, by the name of a standard policy or as a wasm file [default: the policy of the run].
    #[arg(long, value_name = "POLICY")]
    pub(in crate::cli) policy: Option<String>,
    /// File with the settings of the policy, written as below `[policy.settings]` [default: the settings of the run].
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) settings: Option<PathBuf>,
    /// Orchestration, a wasm file, whose calls to compare with those of the run [default: the orchestration of the run].
    #[arg(long, value_name = "FILE", conflicts_with_all = ["policy", "settings"])]
    pub(in crate::cli) orchestration: Option<PathBuf>,
    /// Show every decision that differs, not only the first 50.
    #[arg(long)]
    pub(in crate::cli) all: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  \
    lockkeeper explain latest web07\n  \
    lockkeeper explain kernel-reboot-20260401",
    after_long_help = "The answer is read from the journals of the run alone, and is that of the last line. What would unblock the target \
    is tried out: facts of the decision are changed, and the policy of the run and the limits of the job are asked again.\n\n\
    Examples:\n  \
    lockkeeper explain latest web07\n  \
    lockkeeper explain kernel-reboot-20260401\n  \
    lockkeeper explain latest web07 --format json"
)]
pub(in crate::cli) struct ExplainArgs {
    /// Run: its name, the beginning of its name, `latest`, or the path of a journal.
    #[arg(value_name = "RUN")]
    pub(in crate::cli) run: String,
    /// Target [default: explain what the run as a whole waits for].
    #[arg(value_name = "TARGET")]
    pub(in crate::cli) target: Option<String>,
}
