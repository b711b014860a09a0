//! What is made of the command line and the job's shape: completions, manual pages, schemas.

use serde_json::Value;

use super::args::{Cli, CompletionsArgs, Global, ManArgs, SchemaJobArgs};
use super::load_policy;
use crate::job;
use crate::policy::standard_policies;
use lockkeeper_locks::cli::exit::{ErrorKind, Exit, Failure};
use lockkeeper_locks::cli::help;
use lockkeeper_locks::cli::output::Output;

pub(super) fn schema(global: &Global, output: &Output, args: &SchemaJobArgs) -> Result<Exit, Failure> {
    let mut schema = match &args.policy {
        Some(named) => {
            let policy = load_policy::named(&global.engine()?, named)?;
            let settings = serde_json::from_str(&policy.manifest().settings_schema).unwrap_or(Value::Bool(true));
            job::schema_with_settings(&settings)
        }
        None => job::schema(),
    };
    let standard = standard_policies().iter().map(|policy| policy.name.into()).collect();
    schema["$defs"]["PolicyTable"]["properties"]["use"]["enum"] = Value::Array(standard);
    if output.is_json() {
        output.json(&schema)
    } else {
        output.pretty_json(&schema)
    }
    Ok(Exit::Done)
}

pub(super) fn completions(output: &Output, args: &CompletionsArgs) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut help::command::<Cli>(), "lockkeeper", &mut script);
    output.own_bytes(&script);
    Ok(Exit::Done)
}

pub(super) fn man(output: &Output, args: &ManArgs) -> Result<Exit, Failure> {
    if let Some(folder) = &args.out {
        std::fs::create_dir_all(folder)
            .and_then(|()| clap_mangen::generate_to(help::manual::<Cli>(), folder))
            .map_err(|error| {
                Failure::message(ErrorKind::Io, format!("cannot write to `{}`: {error}", folder.display()))
            })?;
        return Ok(Exit::Done);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(help::manual::<Cli>())
        .render(&mut page)
        .map_err(|error| Failure::new(ErrorKind::Io, error))?;
    output.own_bytes(&page);
    Ok(Exit::Done)
}
