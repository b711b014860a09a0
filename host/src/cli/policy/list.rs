//! `lockkeeper policy list`: the standard policies.

use super::describe::describe;
use crate::cli::args::Global;
use crate::policy::standard_policies;
use lockkeeper_locks::cli::exit::{Exit, Failure};
use lockkeeper_locks::cli::output::Output;
use lockkeeper_locks::cli::table::Table;

pub(super) fn run(global: &Global, output: &Output) -> Result<Exit, Failure> {
    let engine = global.engine()?;
    let policies =
        standard_policies().iter().map(|policy| engine.load_standard(policy.name)).collect::<Result<Vec<_>, _>>()?;
    if output.is_json() {
        output.json(&policies.iter().map(describe).collect::<Vec<_>>());
        return Ok(Exit::Done);
    }
    let mut table = Table::with_header(["POLICY", "VERSION", "SUMMARY"]);
    for policy in &policies {
        let manifest = policy.manifest();
        table.row([&manifest.name, &manifest.version, &manifest.summary]);
    }
    output.table(&table);
    Ok(Exit::Done)
}
