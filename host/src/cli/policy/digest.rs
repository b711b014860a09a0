//! `lockkeeper policy digest`: what a job pins.

use std::path::Path;

use serde_json::json;

use super::args::DigestArgs;
use crate::cli::exit::{ErrorKind, Exit, Failure};
use crate::cli::output::Output;
use crate::policy::digest;
use lockkeeper_coordination::files::{self, MAX_POLICY_BYTES};

pub(super) fn run(output: &Output, args: &DigestArgs) -> Result<Exit, Failure> {
    for file in &args.files {
        let sha256 = of(file)?;
        match output.is_json() {
            true => output.json(&json!({ "file": file, "sha256": sha256 })),
            // As `sha256sum` prints it, so that its `--check` takes it.
            false => output.data(&format!("{sha256}  {}", file.display())),
        }
    }
    output.talk("Pin it", "in the job's [policy], beside `path`: sha256 = \"…\"");
    Ok(Exit::Done)
}

fn of(file: &Path) -> Result<String, Failure> {
    match files::read(file, MAX_POLICY_BYTES) {
        Ok(wasm) => Ok(digest(&wasm)),
        Err(error) => {
            let text = format!("cannot read the policy `{}`: {error}", file.display());
            Err(Failure::message(ErrorKind::BadArgument, text))
        }
    }
}
