//! The commands: arguments to settings, results to exit codes. Contains no reconciliation logic.

pub mod args;
mod ask;
mod diff;
mod doctor;
mod exec;
mod export;
mod follow;
mod graph;
mod groups;
mod import;
mod logs;
mod project;
mod run;
mod session;
mod spec;
mod status;
mod summary;
mod top;
mod watch;

use std::process::ExitCode;

use args::{Cli, Color, Command, Diff, Output, Render};

use crate::engine::EngineError;
use crate::engine::target::unnamed_sockets;
use tracing_subscriber::field::MakeExt as _;

use crate::render::{self, LogWriter, Style, diagnostics, log_field, write_error};
use crate::spec::Diagnostic;

/// The result of a command that could do its work; determines the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Success.
    Ok,
    /// `diff` found differences, or a service failed; already reported.
    Failed,
    /// `diff` found changes that cannot succeed.
    Invalid,
    /// Stopped by Ctrl-C or SIGTERM.
    Interrupted,
    /// The exit code of the command that `exec` ran, or of a job.
    Code(u8),
}

/// The error of a command; determines the exit code.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The specs are invalid.
    #[error("invalid specs")]
    Specs(Vec<Diagnostic>),
    /// The command line is invalid.
    #[error("{0}")]
    Usage(String),
    /// The engine is unreachable or returned an error.
    #[error("{0}")]
    Engine(EngineError),
    /// Another controller holds the group.
    #[error("{message}")]
    Held { message: String, remedy: Option<String> },
    /// Anything else.
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Failure::Engine(error)
    }
}

/// Runs a command line and returns its exit code.
pub fn run(cli: Cli) -> ExitCode {
    let color = match cli.global.color {
        Color::Auto => None,
        Color::Always => Some(true),
        Color::Never => Some(false),
    };
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let style = Style::new(color, no_color, cli.global.quiet, cli.global.output == Output::Json);
    let verbose = cli.global.verbose > 0;
    // The lines of the log would be printed over live lines.
    let style = Style { verbose, live: style.live && !verbose, ..style };
    log_to_stderr(cli.global.verbose, style);
    let result = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Other(anyhow::Error::new(error).context("cannot start the async runtime")))
        .and_then(|runtime| {
            let result = runtime.block_on(command(&cli, style));
            // Threads that wait for a lock or a credential helper must not delay the exit.
            runtime.shutdown_background();
            result
        });
    let result = match (result, write_error()) {
        (Ok(_), Some(error)) => Err(Failure::Other(anyhow::anyhow!("cannot write the result to stdout: {error}"))),
        (result, _) => result,
    };
    match result {
        Ok(Exit::Ok) => ExitCode::SUCCESS,
        Ok(Exit::Failed) => ExitCode::from(1),
        Ok(Exit::Invalid) => ExitCode::from(2),
        Ok(Exit::Interrupted) => ExitCode::from(130),
        Ok(Exit::Code(code)) => ExitCode::from(code),
        Err(failure) => {
            let code = report(&failure, style);
            if matches!(failure, Failure::Specs(_))
                && let Some(remedy) = without_specs(&cli)
            {
                style.eprintln(format!("  {remedy}"));
            }
            ExitCode::from(code)
        }
    }
}

/// How the command can do without valid specs, if it can.
fn without_specs(cli: &Cli) -> Option<&'static str> {
    match &cli.command {
        Command::Up(up) if !up.prune_all && project::is_missing(&cli.global) => {
            Some("to remove the containers of a group without specs, run `drillmaster down --group NAME`")
        }
        Command::Down(_) => Some("to remove the group without its specs, run `drillmaster down --group NAME`"),
        Command::Stop(_) | Command::Status(_) | Command::Top(_) | Command::Logs(_) | Command::Exec(_) => {
            Some("to continue without the specs, name the group with --group NAME")
        }
        _ => None,
    }
}

async fn command(cli: &Cli, style: Style) -> Result<Exit, Failure> {
    if matches!(
        &cli.command,
        Command::Diff(Diff { show_values: true, .. }) | Command::Render(Render { show_values: true, .. })
    ) {
        render::show_values();
    }
    match &cli.command {
        Command::Up(up) if up.watch => watch::up(&cli.global, up, style).await,
        Command::Up(up) => run::up(&cli.global, up, style).await,
        Command::Down(down) => run::down(&cli.global, down, style).await,
        Command::Start(selection) => run::start(&cli.global, selection, style).await,
        Command::Stop(selection) => run::stop(&cli.global, selection, style).await,
        Command::Build(images) => run::build(&cli.global, images, style).await,
        Command::Pull(images) => run::pull(&cli.global, images, style).await,
        Command::Top(top) => top::top(&cli.global, top, style).await,
        Command::Restart(restart) => run::restart(&cli.global, restart, style).await,
        Command::Diff(diff) => diff::diff(&cli.global, diff, style).await,
        Command::Run(run) => run::run(&cli.global, run, style).await,
        Command::Reload(reload) => run::reload(&cli.global, reload, style).await,
        Command::Status(status) => status::status(&cli.global, status, style).await,
        Command::Logs(logs) => logs::logs(&cli.global, logs, style).await,
        Command::Exec(exec) => exec::exec(&cli.global, exec, style).await,
        Command::Doctor => doctor::doctor(&cli.global, style).await,
        Command::Ls => groups::ls(&cli.global, style).await,
        Command::Prune(prune) => groups::prune(&cli.global, prune, style).await,
        Command::Graph => graph::graph(&cli.global, style),
        Command::Validate => spec::validate(&cli.global, style),
        Command::Render(render) => spec::render(&cli.global, render, style),
        Command::Import(import) => import::import(&cli.global, import, style),
        Command::Export(export) => export::export(&cli.global, export, style),
        Command::Schema => spec::schema(style),
    }
}

/// Prints the error and its remedy; returns the exit code.
fn report(failure: &Failure, style: Style) -> u8 {
    match failure {
        Failure::Specs(errors) => {
            if style.json {
                style.result_json(&diagnostics::to_json(errors));
            }
            style.diagnostics(errors);
            2
        }
        Failure::Usage(message) => {
            style.error(message);
            2
        }
        Failure::Engine(error) => {
            style.error(error.to_string());
            let remedy = match error {
                EngineError::Unreachable { endpoint, .. } if endpoint.starts_with("ssh://") => {
                    "ssh must log in without a question (accept a new host's key with `ssh HOST` first), and `docker version` must work there"
                }
                EngineError::Unreachable { reason, .. }
                    if reason.contains("certificate") || reason.contains(".pem") =>
                {
                    "correct the files in DOCKER_CERT_PATH or of the docker context, or use another engine with --host"
                }
                EngineError::Unreachable { endpoint, .. } => {
                    for socket in unnamed_sockets(&session::environment()) {
                        let other = format!("unix://{}", socket.display());
                        if other != *endpoint {
                            style.eprintln(format!("  another engine may listen: --host {other}"));
                        }
                    }
                    "start the engine (on Debian: `sudo systemctl start docker`), or use another one with --host"
                }
                EngineError::TimedOut { .. } => {
                    "the engine hangs; restart it (on Debian: `sudo systemctl restart docker`), then re-run"
                }
                _ => return 1,
            };
            style.eprintln(format!("  {remedy}"));
            3
        }
        Failure::Held { message, remedy } => {
            style.error(message);
            if let Some(remedy) = remedy {
                style.eprintln(format!("  {remedy}"));
            }
            4
        }
        Failure::Other(error) => {
            style.error(format!("{error:#}"));
            1
        }
    }
}

fn log_to_stderr(verbose: u8, style: Style) {
    let level = match verbose {
        0 => return,
        1 => tracing::Level::DEBUG,
        _ => tracing::Level::TRACE,
    };
    // Foreign text in a field cannot control the terminal.
    let fields = tracing_subscriber::fmt::format::debug_fn(log_field).delimited(" ");
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(|| LogWriter).with_ansi(style.color_err);
    let _ = log.fmt_fields(fields).try_init();
}
