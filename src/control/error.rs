//! Errors of steps: what the executor returns and [`super::reconcile`] decides about. Data only.

use std::time::Duration;

use crate::engine::EngineError;
use crate::spec::Diagnostic;

/// Failure of a step.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StepError {
    /// The engine did not do it, or its reply was lost.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The hook failed.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// The step was done, but its outputs cannot be had.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The specs changed meanwhile, and the step is no longer needed.
    #[error("the specs no longer want it")]
    Obsolete,
}

/// Failure of a hook.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum HookError {
    #[error("the specs no longer say what is to be done")]
    NotInSpecs,
    /// The hook uses an output that is not set yet.
    #[error("the output `{0}` is not known")]
    UnknownOutput(String),
    #[error("cannot run {0} in the container: there is none")]
    NoContainer(String),
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error(transparent)]
    Function(#[from] FunctionError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// Failure of a command of a hook or a probe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    #[error("cannot run {program}: {reason}")]
    Start { program: String, reason: String },
    #[error("{program} exited with {code}")]
    Exited { program: String, code: i64 },
    #[error("{program} was killed by signal {signal}")]
    Signalled { program: String, signal: i32 },
    #[error("{program} ended without an exit code")]
    NoExitCode { program: String },
    #[error("{program} did not end within {} s {}", limit.as_secs_f64(), after_abort(*killed))]
    TimedOut { program: String, limit: Duration, killed: bool },
    #[error("{program} was interrupted {}", after_abort(*killed))]
    Interrupted { program: String, killed: bool },
    #[error("{program}: {reason}")]
    Wait { program: String, reason: String },
    #[error(transparent)]
    Engine(#[from] EngineError),
}

fn after_abort(killed: bool) -> &'static str {
    if killed { "and was killed" } else { "and could not be killed: it may go on in its container" }
}

/// Failure of a call of a Starlark function.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FunctionError {
    #[error("there is no thread to call {name} on: {reason}")]
    Spawn { name: String, reason: String },
    #[error("{name} did not return within {} s", limit.as_secs_f64())]
    TimedOut { name: String, limit: Duration },
    #[error("{0} was interrupted")]
    Interrupted(String),
    /// The function failed while it ran.
    #[error("{0}")]
    Failed(Box<Diagnostic>),
}

impl FunctionError {
    /// Lines that explain the message: the source line, the hint and the calls that led there.
    pub fn details(&self) -> Vec<String> {
        let FunctionError::Failed(diagnostic) = self else { return Vec::new() };
        let line = diagnostic.place.as_ref().and_then(|place| {
            let line = place.file.text().get(place.file.line_range(place.line()))?;
            Some(line.trim().to_owned())
        });
        let frames = diagnostic
            .related
            .iter()
            .map(|(place, label)| format!("{}:{}:{}: {label}", place.file.path(), place.line(), place.column()));
        line.into_iter().chain(diagnostic.hint.clone()).chain(frames).collect()
    }
}

/// Failure of the HTTP request of a hook. `request` is method and URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("{request}: {error}")]
    Failed { request: String, error: HttpError },
    #[error("{request} was not answered within {} s", limit.as_secs_f64())]
    TimedOut { request: String, limit: Duration },
    #[error("{request} was interrupted")]
    Interrupted { request: String },
    /// `status` with its reason phrase.
    #[error("{request} answered {status}{}", expected.map(|code| format!(" and not {code}")).unwrap_or_default())]
    Status { request: String, status: String, expected: Option<u16> },
}

/// Failure of an HTTP exchange.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    #[error("the connection was closed without an answer")]
    Closed,
    #[error("the answer is larger than {} KiB", .limit / 1024)]
    TooLarge { limit: usize },
    /// The request cannot be built, or the connection failed.
    #[error("{0}")]
    Failed(String),
}

/// Failure to read, check or save outputs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutputError {
    #[error("more than {} KiB of outputs", .limit / 1024)]
    FileTooLarge { limit: usize },
    #[error("its outputs are not UTF-8")]
    NotUtf8,
    #[error("line {number} of its outputs {problem}")]
    Line { number: usize, problem: OutputProblem },
    /// `key` in quotes.
    #[error("the output {key} {problem}")]
    Value { key: String, problem: OutputProblem },
    #[error("cannot make a file for its outputs: {0}")]
    CreateFile(String),
    #[error("its outputs cannot be read: {0}")]
    Read(String),
    #[error("its outputs cannot be kept: {0}")]
    Save(String),
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Reason why a line or a value is not an output.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutputProblem {
    #[error("is not `key=value`")]
    NotAPair,
    #[error("has no good key: {0}")]
    InvalidKey(String),
    #[error("holds a NUL")]
    Nul,
    #[error("is larger than {} KiB", .limit / 1024)]
    TooLarge { limit: usize },
}
