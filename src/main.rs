//! The `drillmaster` binary: parses the command line and runs the command.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    drillmaster::cli::run(drillmaster::cli::args::Cli::parse())
}
