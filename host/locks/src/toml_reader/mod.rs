//! A reader of TOML that reports every mistake of a file at once, each with its place and a hint.

mod problem;
mod reader;
mod recovering;
mod values;

pub use problem::{Place, Problem, Problems, Severity, Source, quote, text_of};
pub use reader::{
    At, Choice, Found, FromToml, Key, Refused, Report, Table, closest, doc, in_file_order, join, key_of_path, kind_of,
    listed, nearest, one_of, table_schema, unsigned, wrong_type,
};
pub use values::{FilePath, MAX_DURATION, parsed};
