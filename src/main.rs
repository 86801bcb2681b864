//! The `drillmaster` binary: parses the command line and runs the command.

use std::process::ExitCode;

use clap::Parser;
use drillmaster::cli::args::{Cli, arguments};
use drillmaster::control::execute::supervisor::{SUPERVISE, supervise};
use drillmaster::control::programs::worker;

fn main() -> ExitCode {
    let mut own = std::env::args_os().skip(1);
    // drillmaster also starts itself.
    match own.next() {
        Some(first) if first == SUPERVISE => supervise(own),
        Some(first) if first == worker::ARGUMENT => worker::serve().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS),
        _ => drillmaster::cli::run(Cli::parse_from(arguments())),
    }
}
