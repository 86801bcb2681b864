//! The `drillmaster` binary: parses the command line and runs the command.

use std::process::ExitCode;

use clap::Parser;
use drillmaster::control::programs::worker;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == worker::ARGUMENT) {
        return worker::serve().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    drillmaster::cli::run(drillmaster::cli::args::Cli::parse())
}
