//! A policy's settings in a file of their own: what a job has under `[policy.settings]`, without that heading.

use super::file::Settings;
use lockkeeper_locks::toml_reader::{Problems, Report, Source};

/// Reads settings; `file` is the name that messages give it.
///
/// # Errors
/// [`Problems`]: everything that is wrong with it as TOML. What the policy says of them is not asked here.
pub fn parse_settings(file: &str, text: &str) -> Result<serde_json::Value, Problems> {
    let source = Source::new(file, text);
    let mut report = Report::new("settings", &source);
    let settings = report.read::<Settings>().map(|settings| settings.0);
    report.finish(settings).map(|(settings, _)| settings)
}
