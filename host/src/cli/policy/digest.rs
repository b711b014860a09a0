//! `lockkeeper policy digest`: what a job pins.

use std::path::Path;

use serde_json::json;

use crate::cli::args::DigestArgs;
use crate::policy::digest;
use lockkeeper_coordination::files::{self, MAX_POLICY_BYTES};
use lockkeeper_locks::cli::exit::{ErrorKind, Exit, Failure};
use lockkeeper_locks::cli::output::Output;

pub(super) fn run(output: &Output, args: &DigestArgs) -> Result<Exit, Failure> {
    for file in &args.files {
        let sha256 = of(file)?;
        if output.is_json() {
            output.json(&json!({ "file": file, "sha256": sha256 }))
        } else {
            // As `sha256sum` prints it, so that its `--check` takes it.

            output.data(&format!("{sha256}  {}", file.display()))
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
