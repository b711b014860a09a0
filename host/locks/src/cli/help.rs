//! The help of a program: what clap generates from the options, with the store options on a page of their own.

use clap::builder::StyledStr;
use clap::{Args, Command, Id};

use super::args::StoreFlags;
use super::start::Program;

/// The name of the page about store options: `lockkeeper help store`.
pub const STORE: &str = "store";

/// How the store is chosen.
const PRECEDENCE: &str = "The first of these that names a store chooses it:\n  \
    1. --store, --zk-hosts or --profile\n  \
    2. the [store] of the job\n  \
    3. LOCKKEEPER_STORE, LOCKKEEPER_ZK_HOSTS or LOCKKEEPER_PROFILE\n  \
    4. /etc/lockkeeper/config.toml\n  \
    5. the file `store.db` in the state folder\n\n\
    Every other store option is taken from the command line, else from the job or the profile, else from the environment. \
    `docs/connecting.md` has the details.";

/// The command line of a program, as it is parsed and as its help shows it: each command that opens a store refers to the
/// page about store options, and none lists them.
#[must_use]
pub fn command<P: Program>() -> Command {
    let mut command = P::command();
    for id in store_options() {
        command = command.mut_arg(id, |option| option.hide_short_help(true).hide_long_help(true));
    }
    let command = command.mut_subcommands(|below| {
        let needs_store = !P::WITHOUT_STORE.contains(&below.get_name());
        if needs_store { refer_to_store_page::<P>(below) } else { named::<P>(below) }
    });
    with_store_line::<P>(command)
}

/// The same for manual pages, which list the store options once, on the page of the program.
#[must_use]
pub fn manual<P: Program>() -> Command {
    let mut command = command::<P>();
    // Now its commands have the options that all have.
    command.build();
    command.mut_subcommands(without_store_options)
}

/// The page about store options.
#[must_use]
pub fn store_page() -> StyledStr {
    StoreFlags::augment_args(Command::new(STORE))
        .about("How to choose a store and to log in to it")
        .after_help(PRECEDENCE)
        .disable_help_flag(true)
        .max_term_width(110)
        .help_template("{about-with-newline}\n{all-args}{after-help}")
        .render_help()
}

fn store_options() -> Vec<Id> {
    let options = StoreFlags::augment_args(Command::new(STORE));
    options.get_arguments().map(|option| option.get_id().clone()).collect()
}

fn without_store_options(command: Command) -> Command {
    let mut command = command;
    for id in store_options() {
        if command.get_arguments().any(|option| *option.get_id() == id) {
            command = command.mut_arg(id, |option| option.hide(true));
        }
    }
    command.mut_subcommands(without_store_options)
}

fn refer_to_store_page<P: Program>(command: Command) -> Command {
    with_store_line::<P>(command).mut_subcommands(refer_to_store_page::<P>)
}

fn with_store_line<P: Program>(command: Command) -> Command {
    let line = format!("Store options (--store, --zk-hosts, --profile and others): `{} help {STORE}`", P::NAME);
    let with_line = |text: Option<&StyledStr>| match text {
        Some(text) => format!("{text}\n\n{line}"),
        None => line.clone(),
    };
    let short = with_line(command.get_after_help());
    let long = command.get_after_long_help().map(|text| with_line(Some(text)));
    let command = command.after_help(short);
    named::<P>(match long {
        Some(long) => command.after_long_help(long),
        None => command,
    })
}

/// The same with examples that call this program.
fn named<P: Program>(command: Command) -> Command {
    const WRITTEN: &str = "lockkeeper ";
    let name = format!("{} ", P::NAME);
    if name == WRITTEN {
        return command;
    }
    let renamed = |text: Option<&StyledStr>| text.map(|text| text.to_string().replace(WRITTEN, &name));
    let (short, long) = (renamed(command.get_after_help()), renamed(command.get_after_long_help()));
    let command = match short {
        Some(short) => command.after_help(short),
        None => command,
    };
    match long {
        Some(long) => command.after_long_help(long),
        None => command,
    }
}
