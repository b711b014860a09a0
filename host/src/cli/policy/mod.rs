//! `lockkeeper policy`: the standard policies, and the tools for policies of your own.

mod bench;
mod build;
mod case_files;
mod compiler;
mod decide;
mod describe;
mod digest;
mod dispatch;
mod inspect;
mod list;
mod new;
mod scenario;
mod test;
mod views;
mod watch;

pub(super) use compiler::compiler;
pub(super) use dispatch::run;
