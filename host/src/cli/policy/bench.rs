//! `lockkeeper policy bench`: what a policy's decisions cost.

use serde_json::json;

use super::case_files::case_files;
use crate::author::{Baseline, Growth, Measured, Question, measure, questions, sample_view};
use crate::cli::args::BenchArgs;
use crate::cli::args::Global;
use crate::cli::load_policy::{OFFLINE_LIMITS, accepts, named, settings_of};
use lockkeeper_coordination::files::{self, MAX_TEXT_BYTES};
use lockkeeper_locks::cli::exit::{ErrorKind, Exit, Failure};
use lockkeeper_locks::cli::output::{Output, of};
use lockkeeper_locks::cli::table::Table;
use lockkeeper_locks::terminal;

pub(super) fn run(global: &Global, output: &Output, args: &BenchArgs) -> Result<Exit, Failure> {
    let engine = global.engine_with(OFFLINE_LIMITS)?;
    let policy = named(&engine, &args.policy)?;
    let baseline = args.baseline.as_deref().map(|file| {
        let text = files::read_to_string(file, MAX_TEXT_BYTES).map_err(|error| {
            Failure::message(ErrorKind::BadArgument, format!("cannot read the baseline `{}`: {error}", file.display()))
        })?;
        Baseline::parse(&text).map_err(|error| {
            Failure::new(ErrorKind::BadArgument, error).hint(format!(
                "make one: `lockkeeper policy bench {} --format json > {}`",
                args.policy,
                file.display()
            ))
        })
    });
    let baseline = baseline.transpose()?;
    let files = case_files(&args.policy, &args.cases, output)?;
    let mut asked: Vec<(String, Question)> = files.iter().flat_map(|file| questions(&policy, &file.cases)).collect();
    if asked.is_empty() {
        output.talk("View", "the sample that `lockkeeper policy views` shows; cases give others");
        let settings = args.settings.as_deref().map(settings_of).transpose()?.unwrap_or_else(|| json!({}));
        accepts(&policy, &settings, "these settings")?;
        asked.push(("sample view".to_owned(), Question::admit(settings, sample_view())));
    }
    let measured = measure(&policy, &asked, args.rounds.get() as usize);
    let grown = baseline.as_ref().map_or_else(Vec::new, |baseline| baseline.grown(&measured, args.max_growth));
    if output.is_json() {
        let mut told = json!(measured);
        if baseline.is_some() {
            told["grown"] = json!(grown);
        }
        output.json(&told);
    } else {
        show(&measured, output)
    }
    if let Some(baseline) = &baseline {
        let (gone, new) = baseline.unmatched(&measured);
        for (names, what) in [(gone, "is in the baseline and was not measured"), (new, "is not in the baseline")] {
            for name in names {
                output.warn(&format!("`{}` {what}", terminal::value(&name)));
            }
        }
        for Growth { name, before, now, percent } in &grown {
            output.warn(&format!("`{}` burns {now} fuel, {percent} % more than {before}", terminal::value(name)));
        }
        let limit = args.max_growth;
        if grown.is_empty() {
            output.talk("Compared", &format!("no case burns more than {limit} % more fuel than before"))
        } else {
            output.talk("Compared", &format!("{} of {} past {limit} %", grown.len(), of(measured.cases.len(), "case")));
            return Ok(Exit::Failed);
        }
    }
    Ok(Exit::Done)
}

fn show(measured: &Measured, output: &Output) {
    let mut table = Table::with_header(["CASE", "ANSWER", "FUEL", "P50 µs", "P99 µs", "MEMORY KiB"]);
    for cost in &measured.cases {
        let numbers = [
            cost.fuel.to_string(),
            format!("{:.1}", cost.p50_us),
            format!("{:.1}", cost.p99_us),
            (cost.memory / 1024).to_string(),
        ];
        let [fuel, p50, p99, memory] = numbers;
        table.row([terminal::value(&cost.name), cost.answer.clone(), fuel, p50, p99, memory]);
    }
    table.align_right(2..6);
    output.table(&table);
    output.data("");
    output.data(&format!(
        "{}: p50 {:.1} µs, p99 {:.1} µs over {} decisions, each in a fresh sandbox; at most {} KiB",
        terminal::value(&measured.policy),
        measured.p50_us,
        measured.p99_us,
        measured.decisions,
        measured.memory / 1024
    ));
    if cfg!(debug_assertions) {
        output.warn("this is a debug build of lockkeeper: its times are several times those of a release build");
    }
}
