//! What is made of the command line and the job's shape: completions, manual pages, schemas.

use clap::CommandFactory;

use super::exit::{ErrorKind, Exit, Failure};
use super::output::Output;
use super::{Cli, CompletionsArgs, ManArgs};
use crate::job;

pub(super) fn schema(output: &Output) -> Result<Exit, Failure> {
    let schema = job::schema();
    match output.is_json() {
        true => output.json(&schema),
        false => output.data(&format!("{schema:#}")),
    }
    Ok(Exit::Done)
}

pub(super) fn completions(output: &Output, args: &CompletionsArgs) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "lockkeeper", &mut script);
    output.bytes(&script);
    Ok(Exit::Done)
}

pub(super) fn man(output: &Output, args: &ManArgs) -> Result<Exit, Failure> {
    if let Some(folder) = &args.out {
        std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(Cli::command(), folder)).map_err(
            |error| Failure::message(ErrorKind::Io, format!("cannot write to `{}`: {error}", folder.display())),
        )?;
        return Ok(Exit::Done);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page).map_err(|error| Failure::new(ErrorKind::Io, error))?;
    output.bytes(&page);
    Ok(Exit::Done)
}
