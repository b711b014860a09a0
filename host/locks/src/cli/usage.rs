//! The error of a command line that cannot be read, with the next step.

use std::error::Error;
use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind as Refusal};

use super::args::Format;
use super::exit::{ErrorKind, Exit, Failure};
use super::output::{self, shown};
use super::start::Program;
use super::{help, invocation, sink};
use lockkeeper_coordination::recipe::IdentifierError;
use lockkeeper_coordination::store::PathError;
use lockkeeper_coordination::zookeeper::{AclError, Hosts, HostsError};

/// What clap calls the command behind `--`.
const COMMAND: &str = "<CMD>...";

/// Our arguments, without those of a command behind `--`.
fn line() -> Vec<OsString> {
    let mut line: Vec<OsString> = std::env::args_os().skip(1).take_while(|argument| argument != "--").collect();
    // `argv_secret` puts that there, not the caller.
    if line.first().is_some_and(|first| first == "--password-fd") {
        line.drain(..2.min(line.len()));
    }
    line
}

/// What went wrong before the command line was read.
pub fn fail(failure: &Failure) -> ExitCode {
    output::failure(format(&line()), failure);
    failure.exit().code()
}

/// A command line that clap refuses, or its answer to `--help` and `--version`.
pub fn answer<P: Program>(error: &clap::Error) -> ExitCode {
    let line = line();
    let format = format(&line);
    match (error.kind(), format) {
        (Refusal::InvalidSubcommand, _) if line.windows(2).any(|pair| pair == ["help", help::STORE]) => {
            sink::help_on_stdout(&help::store_page());
            Exit::Done.code()
        }
        (Refusal::DisplayHelp | Refusal::DisplayVersion, _) => {
            sink::help_on_stdout(&error.render());
            Exit::Done.code()
        }
        // The bare name shows the commands.
        (Refusal::MissingSubcommand | Refusal::DisplayHelpOnMissingArgumentOrSubcommand, Format::Human) => {
            sink::help_on_stderr(&meant::<P>(&line).0.render_help());
            Exit::Usage.code()
        }
        _ => {
            output::failure(format, &failure::<P>(error, &line));
            Exit::Usage.code()
        }
    }
}

/// What `--format` would have said.
fn format(line: &[OsString]) -> Format {
    let asked =
        line.windows(2).any(|pair| pair == ["--format", "json"]) || line.iter().any(|one| one == "--format=json");
    if asked { Format::Json } else { Format::Human }
}

fn failure<P: Program>(error: &clap::Error, line: &[OsString]) -> Failure {
    let kind = if error.source().is_some_and(|source| source.is::<PathError>()) {
        ErrorKind::BadPath
    } else {
        ErrorKind::BadArgument
    };
    let (_, command) = meant::<P>(line);
    if let Some(misplaced) = misplaced(P::NAME, error, &command, line) {
        return misplaced;
    }
    let hint = hint::<P>(error, &command, line).unwrap_or_else(|| format!("`{command} --help` shows what is expected"));
    Failure::message(kind, message(error)).hint(hint)
}

/// What Salt takes as an argument of its own, and we as a flag: servers behind the path, and `key=value`.
fn misplaced(program: &str, error: &clap::Error, command: &str, line: &[OsString]) -> Option<Failure> {
    let unknown = one(error, ContextKind::InvalidArg).filter(|_| error.kind() == Refusal::UnknownArgument)?;
    let is_of_salt = [" lock", " unlock", " holders", " members", " party-members", " join"];
    if unknown.starts_with('-') || !is_of_salt.iter().any(|name| command.ends_with(name)) {
        return None;
    }
    let takes_a_command = [" lock", " join"].iter().any(|name| command.ends_with(name));
    let instead = match (are_servers(&unknown, takes_a_command), unknown.split_once('=')) {
        (true, _) => vec!["--zk-hosts".to_owned(), unknown.clone()],
        (false, Some((key, value))) if SALTS.contains(&key) => match (key, value.to_ascii_lowercase().as_str()) {
            ("blocking" | "ephemeral_lease" | "force", "true") => vec![format!("--{}", key.replace('_', "-"))],
            // A password is not repeated.
            ("password", _) => vec!["--password-file".to_owned(), "FILE".to_owned()],
            _ => vec![format!("--{}", key.replace('_', "-")), value.to_owned()],
        },
        _ => return None,
    };
    let shown_as = if unknown.starts_with("password=") { "password=…" } else { unknown.as_str() };
    let message = match instead.first().map(String::as_str) {
        Some("--zk-hosts") => {
            format!("`{}` looks like servers, which are named by `--zk-hosts`", shown(shown_as))
        }
        _ => format!("`{}` is written as a flag here", shown(shown_as)),
    };
    let words = line
        .iter()
        .flat_map(|word| if *word == *unknown { instead.clone() } else { vec![word.to_string_lossy().into_owned()] });
    let right = words.map(|word| invocation::quoted(&word)).collect::<Vec<_>>().join(" ");
    Some(Failure::message(ErrorKind::BadArgument, message).hint(format!("`{program} {right}`")))
}

/// The arguments of Salt's functions that are flags here.
const SALTS: [&str; 11] = [
    "blocking",
    "default_acl",
    "ephemeral_lease",
    "force",
    "identifier",
    "max_concurrency",
    "min_nodes",
    "password",
    "profile",
    "timeout",
    "zk_hosts",
];

/// Whether a word names servers; where it may as well be a command, only with a port or a comma.
fn are_servers(word: &str, takes_a_command: bool) -> bool {
    let is_clear = !takes_a_command || word.contains([':', ',']);
    is_clear && !word.starts_with(['.', '/']) && !word.contains('=') && Hosts::parse(word).is_ok()
}

fn message(error: &clap::Error) -> String {
    let argument = one(error, ContextKind::InvalidArg).map(|argument| format!("`{}`", shown(&argument)));
    let value = one(error, ContextKind::InvalidValue);
    match (error.kind(), argument, value) {
        (Refusal::ValueValidation, Some(argument), Some(value)) => match error.source() {
            // These name what they are about.
            Some(why) if why.is::<PathError>() || why.is::<IdentifierError>() => why.to_string(),
            // There may be a password in the value.
            Some(why) if why.is::<HostsError>() || why.is::<AclError>() => match why.source() {
                Some(cause) => format!("{argument} cannot be used: {why}: {cause}"),
                None => format!("{argument} cannot be used: {why}"),
            },
            Some(why) => format!("`{}` is no value for {argument}: {why}", shown(&value)),
            None => format!("`{}` is no value for {argument}", shown(&value)),
        },
        (Refusal::InvalidValue, Some(argument), Some(value)) if !value.is_empty() => {
            format!("`{}` is no value for {argument}", shown(&value))
        }
        (Refusal::InvalidValue, Some(argument), _) => format!("{argument} has no value"),
        (Refusal::UnknownArgument, Some(argument), _) => format!("unexpected argument {argument}"),
        (Refusal::MissingRequiredArgument, _, _) => {
            let missing = every(error, ContextKind::InvalidArg);
            let missing: Vec<String> =
                missing.into_iter().map(|argument| argument.replace(COMMAND, "-- CMD")).collect();
            // Of a group, any will do.
            match missing.as_slice() {
                [group] if group.starts_with("<--") => {
                    let flag = |one: &str| one.split([' ', '[', '>']).next().unwrap_or(one).to_owned();
                    let any: Vec<String> = group[1..].split('|').map(flag).collect();
                    format!("missing {}", quoted(&any, " or "))
                }
                _ => format!("missing {}", quoted(&missing, " and ")),
            }
        }
        (Refusal::ArgumentConflict, Some(argument), _) => match every(error, ContextKind::PriorArg) {
            prior if prior.is_empty() || quoted(&prior, " or ") == argument => format!("{argument} is given twice"),
            prior => format!("{argument} cannot be used with {}", quoted(&prior, " or ")),
        },
        (Refusal::InvalidSubcommand, _, _) => {
            let name = one(error, ContextKind::InvalidSubcommand).unwrap_or_default();
            format!("there is no command `{}`", shown(&name))
        }
        (Refusal::DisplayHelpOnMissingArgumentOrSubcommand | Refusal::MissingSubcommand, _, _) => {
            "missing a command".to_owned()
        }
        (Refusal::InvalidUtf8, _, _) => "an argument is not UTF-8".to_owned(),
        // What clap says first, without its usage and hints.
        _ => {
            let rendered = error.render().to_string();
            let first = rendered.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
            first.split_whitespace().collect::<Vec<_>>().join(" ")
        }
    }
}

/// The failure of a command that opens no store, and was told which.
pub(super) fn no_store<P: Program>(command: &str, option: &str) -> Failure {
    let text = format!("`{option}` chooses a store, and `{} {command}` opens none", P::NAME);
    Failure::message(ErrorKind::BadArgument, text).hint(format!("leave `{option}` out"))
}

/// Words that other tools have for a command, and what to run instead here; `lockkeeper` stands for the program.
const SYNONYMS: &[(&[&str], &str)] = &[
    (&["dry-run", "dryrun", "preview", "simulate", "diff", "what-if"], "did you mean `lockkeeper plan`?"),
    (&["stop", "cancel", "kill", "terminate", "end"], "did you mean `lockkeeper abort`?"),
    (
        &["undo", "revert", "rollback", "roll-back"],
        "the `roll-back` in the [action] of a job rolls targets back when they fail; `lockkeeper abort RUN` ends the run",
    ),
    (&["list", "ls", "ps", "runs", "show", "history"], "did you mean `lockkeeper status`?"),
    (&["release", "free"], "did you mean `lockkeeper unlock`?"),
    (&["acquire", "take", "hold"], "did you mean `lockkeeper lock`?"),
    (&["who", "holder", "owners"], "did you mean `lockkeeper holders`?"),
    (&["validate", "lint", "verify"], "did you mean `lockkeeper check`?"),
    (&["continue", "unpause"], "did you mean `lockkeeper resume`?"),
    (&["suspend", "freeze"], "did you mean `lockkeeper pause`?"),
    (&["start", "apply", "deploy", "exec", "execute", "rollout"], "did you mean `lockkeeper run`?"),
    (&["rerun", "restart"], "did you mean `lockkeeper retry`?"),
    (&["accept"], "did you mean `lockkeeper resume RUN --accept`?"),
    (&["why", "reason"], "did you mean `lockkeeper explain`?"),
    (&["backtest", "back-test"], "did you mean `lockkeeper replay`?"),
    (&["clean", "cleanup", "gc", "delete", "rm"], "did you mean `lockkeeper prune`?"),
    (
        &["log", "logs", "output", "tail"],
        "`lockkeeper run` names the journal of a run and the output of each failed target; `lockkeeper status RUN` shows where it \
         stands",
    ),
    (&["members"], "did you mean `lockkeeper party members`?"),
    (&["join"], "did you mean `lockkeeper party join`?"),
    (&["resize"], "did you mean `lockkeeper semaphore resize`?"),
    (&["semaphores", "locks"], "did you mean `lockkeeper semaphore list`?"),
    (&["policies"], "did you mean `lockkeeper policy list`?"),
    (&["test"], "did you mean `lockkeeper policy test`?"),
    (&["fence"], "did you mean `lockkeeper guard`?"),
];

/// What to run in place of a command that this program does not have, if another tool has one of that name.
fn synonym<P: Program>(name: &str) -> Option<String> {
    let name = name.to_ascii_lowercase().replace('_', "-");
    let (_, instead) = SYNONYMS.iter().find(|(names, _)| names.contains(&name.as_str()))?;
    let called = instead.split("`lockkeeper ").nth(1)?.split([' ', '`']).next()?;
    P::command().find_subcommand(called)?;
    Some(instead.replace("`lockkeeper ", &format!("`{} ", P::NAME)))
}

fn hint<P: Program>(error: &clap::Error, command: &str, line: &[OsString]) -> Option<String> {
    if command == P::NAME
        && let Some(synonym) = one(error, ContextKind::InvalidSubcommand).and_then(|name| synonym::<P>(&name))
    {
        return Some(synonym);
    }
    for suggested in [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand, ContextKind::SuggestedValue] {
        // The likeliest stands last.
        if let Some(meant) = every(error, suggested).pop() {
            return Some(format!("did you mean `{meant}`?"));
        }
    }
    let valid = every(error, ContextKind::ValidValue);
    if !valid.is_empty() {
        return Some(format!("it is one of {}", quoted(&valid, " or ")));
    }
    let takes_a_command = [" lock", " join", " guard"].iter().any(|name| command.ends_with(name));
    match error.kind() {
        Refusal::UnknownArgument if takes_a_command => {
            let unknown = one(error, ContextKind::InvalidArg)?;
            let from = line.iter().position(|argument| *argument == *unknown)?;
            let words: Vec<_> = line.iter().map(|argument| argument.to_string_lossy()).collect();
            let (before, behind) = words.split_at(from);
            let right = format!("{} {} -- {}", P::NAME, before.join(" "), behind.join(" "));
            let is_a_command = !unknown.starts_with('-');
            is_a_command.then(|| format!("a command to run stands behind `--`: `{}`", shown(&right)))
        }
        Refusal::MissingRequiredArgument
            if every(error, ContextKind::InvalidArg).iter().any(|argument| argument == COMMAND) =>
        {
            Some(if command.ends_with(" guard") {
                "name the command behind `--`, or ask how an attempt went by `--outcome`".to_owned()
            } else {
                "name a command behind `--`: such a lease lives only as long as the command runs".to_owned()
            })
        }
        _ => None,
    }
}

/// The command that was meant, as far as it can be made out, and how it is called.
fn meant<P: Program>(line: &[OsString]) -> (clap::Command, String) {
    let mut command = help::command::<P>();
    // Now its parts know their own names, and the options that all have.
    command.build();
    let mut words = vec![P::NAME.to_owned()];
    for argument in line {
        if let Some(below) = command.find_subcommand(argument) {
            words.push(below.get_name().to_owned());
            command = below.clone();
        }
    }
    (command, words.join(" "))
}

fn one(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        _ => None,
    }
}

fn every(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    }
}

/// Each in backticks, the last joined by `last`.
fn quoted(words: &[String], last: &str) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("`{}`", shown(word))).collect();
    match words.split_last() {
        Some((end, rest)) if !rest.is_empty() => format!("{}{last}{end}", rest.join(", ")),
        _ => words.concat(),
    }
}
