//! Errors of steps: what the executor returns and [`super::reconcile`] decides about. Data only.

use std::time::Duration;

use crate::engine::EngineError;
use crate::spec::secrets::HIDDEN;
use crate::spec::{Diagnostic, Location};

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
    #[error("no longer in the specs")]
    Obsolete,
}

/// Failure of a hook.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum HookError {
    #[error("hook no longer in the specs")]
    NotInSpecs,
    /// The hook uses an output that is not set yet.
    #[error("output `{0}` is not set yet")]
    UnknownOutput(String),
    /// The hook uses a variable that is not set, in a command that needs no values.
    #[error("the variable `{0}` is not set")]
    MissingVariable(String),
    #[error("cannot run {0}: the service has no container")]
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

impl HookError {
    /// Returns true if the hook ran to its end and failed: it would fail again. Otherwise it timed out, or could not run.
    pub fn is_result(&self) -> bool {
        match self {
            // An exec ends with 137 when its container is killed, also by an engine that restarts.
            HookError::Command(CommandError::Exited { code, .. }) => *code != 137,
            HookError::Function(FunctionError::Failed { .. }) | HookError::Output(_) => true,
            _ => false,
        }
    }
}

/// Failure of a command of a hook or a probe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    #[error("cannot run {program}: {reason}")]
    Start { program: String, reason: String },
    #[error("{program} exited with code {code}")]
    Exited { program: String, code: i64 },
    #[error("{program} was killed by signal {signal}")]
    Signalled { program: String, signal: i32 },
    #[error("{program} exited without an exit code")]
    NoExitCode { program: String },
    #[error("{program} timed out after {} s {}", limit.as_secs_f64(), after_abort(*killed))]
    TimedOut { program: String, limit: Duration, killed: bool },
    #[error("{program} was interrupted {}", after_abort(*killed))]
    Interrupted { program: String, killed: bool },
    #[error("cannot wait for {program}: {reason}")]
    Wait { program: String, reason: String },
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl CommandError {
    /// Hides the name of the program, if it is known to be secret.
    pub fn hide(mut self) -> CommandError {
        match &mut self {
            CommandError::Start { program, .. }
            | CommandError::Exited { program, .. }
            | CommandError::Signalled { program, .. }
            | CommandError::NoExitCode { program }
            | CommandError::TimedOut { program, .. }
            | CommandError::Interrupted { program, .. }
            | CommandError::Wait { program, .. } => HIDDEN.clone_into(program),
            CommandError::Engine(_) => {}
        }
        self
    }
}

fn after_abort(killed: bool) -> &'static str {
    if killed { "and was killed" } else { "and could not be killed; it may still run in its container" }
}

/// Failure of a call of a Starlark function.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FunctionError {
    #[error("cannot call {name}: {reason}")]
    Worker { name: String, reason: String },
    /// `at` is the statement that it executed then.
    #[error("{name} timed out after {} s", limit.as_secs_f64())]
    TimedOut { name: String, limit: Duration, at: Option<Box<Location>> },
    #[error("{0} was interrupted")]
    Interrupted(String),
    /// The function failed while it ran.
    #[error("{diagnostic}")]
    Failed {
        diagnostic: Box<Diagnostic>,
        /// The program is wrong: another call would fail too.
        is_defect: bool,
    },
}

impl FunctionError {
    /// Lines that explain the message: the source line, the hint and the calls that led there.
    pub fn details(&self) -> Vec<String> {
        let place = |location: &Location| format!("{}:{}:{}", location.file.path(), location.line(), location.column());
        let text = |location: &Location| {
            let line = location.file.text().get(location.file.line_range(location.line()))?;
            Some(line.trim().to_owned())
        };
        let diagnostic = match self {
            FunctionError::Failed { diagnostic, .. } => diagnostic,
            FunctionError::TimedOut { at: Some(at), .. } => {
                return vec![format!("{}: {}", place(at), text(at).unwrap_or_default())];
            }
            _ => return Vec::new(),
        };
        let line = diagnostic.location.as_ref().and_then(text);
        let frames = diagnostic.related.iter().map(|(location, label)| format!("{}: {label}", place(location)));
        line.into_iter().chain(diagnostic.hint.clone()).chain(frames).collect()
    }
}

/// Failure of the HTTP request of a hook. `request` is method and URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("{request}: {error}")]
    Failed { request: String, error: HttpError },
    #[error("{request} timed out after {} s", limit.as_secs_f64())]
    TimedOut { request: String, limit: Duration },
    #[error("{request} was interrupted")]
    Interrupted { request: String },
    /// `status` with its reason phrase; `detail` is the first line of the body.
    #[error("{request} returned status {status}{}{}", expected_status(*expected), suffix(detail))]
    Status { request: String, status: String, expected: Option<u16>, detail: String },
}

fn expected_status(expected: Option<u16>) -> String {
    expected.map(|code| format!(", expected {code}")).unwrap_or_default()
}

/// `: detail`, or nothing.
pub(super) fn suffix(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(": {detail}") }
}

/// Failure of an HTTP exchange.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    #[error("connection closed without a response")]
    Closed,
    #[error("response body is larger than {} KiB", .limit / 1024)]
    TooLarge { limit: usize },
    /// The request cannot be built, or the connection failed.
    #[error("{0}")]
    Failed(String),
}

/// Failure to read, check or save outputs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutputError {
    #[error("output file is larger than {} KiB", .limit / 1024)]
    FileTooLarge { limit: usize },
    #[error("output file is not UTF-8")]
    NotUtf8,
    #[error("line {number} of the output file {problem}")]
    Line { number: usize, problem: OutputProblem },
    #[error("output `{}` {problem}", key.escape_debug())]
    Value { key: String, problem: OutputProblem },
    #[error("cannot create the output file: {0}")]
    CreateFile(String),
    #[error("cannot read the output file: {0}")]
    Read(String),
    #[error("cannot save outputs: {0}")]
    Save(String),
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Reason why a line or a value is not an output.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutputProblem {
    #[error("is not `key=value`")]
    NotAPair,
    #[error("has an invalid key: {0}")]
    InvalidKey(String),
    #[error("contains a NUL byte")]
    Nul,
    #[error("is larger than {} KiB", .limit / 1024)]
    TooLarge { limit: usize },
}
