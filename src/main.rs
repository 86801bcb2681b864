//! Parses the command line, runs it, maps how it ended to an exit code.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    drillmaster::cli::run(drillmaster::cli::args::Cli::parse())
}
