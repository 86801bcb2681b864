//! Starlark functions of hooks and probes: calls one in a worker and serves what it requests.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http_body_util::Full;
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::command::{self, Aborted, Command, ExecTarget, run_until_aborted};
use super::connect::{self, ConnectError};
use super::context::{ExecContext, HookEnv};
use super::http;
use super::listening::{Listening, listening};
use crate::control::error::{CommandError, FunctionError, HttpError};
use crate::control::programs::wire::{self, FromWorker, HostRequest, MAX_MESSAGE, ToWorker};
use crate::control::programs::{Messages, NoAnswer};
use crate::engine::{Engine, EngineError, LogLine, LogOptions, io_message};
use crate::spec::starlark::{CallResult, Function, HttpTarget, ProgramError, Ran, Response};

/// Size limit of a response body, in bytes.
const MAX_BODY: usize = 1 << 20;
/// How much of the output of a command or a container a function can see, in bytes: the end of it.
const MAX_OUTPUT: usize = 1 << 20;

/// One call of a function.
#[derive(Debug)]
pub struct Call<'a> {
    pub function: &'a Function,
    /// What the function finds in `ctx`, and its commands in their environment.
    pub env: HookEnv,
    /// Time limit.
    pub limit: Duration,
}

/// Calls a function until it returns, times out or is interrupted; what it started ends with it, also if the future is
/// dropped. `on_line` receives what the function prints.
///
/// # Errors
///
/// If the function fails or does not return in time.
pub async fn call(
    engine: &dyn Engine,
    call: Call<'_>,
    context: &ExecContext,
    interrupted: &CancellationToken,
    on_line: &mut (dyn FnMut(LogLine) + Send),
) -> Result<CallResult, FunctionError> {
    let Call { function, env, limit } = call;
    let name = function.name().to_owned();
    let deadline = Instant::now() + limit;
    let (workers, wanted) = (context.workers.clone(), function.clone());
    let worker = tokio::select! {
        // cancel-safe because the worker, if there is one, is dropped and thereby killed; so for the others
        () = interrupted.cancelled() => return Err(FunctionError::Interrupted(name)),
        () = sleep_until(deadline) => return Err(FunctionError::TimedOut { name, limit, at: None }),
        worker = tokio::task::spawn_blocking(move || workers.take(&wanted)) => worker,
    };
    let worker = worker.map_err(|error| FunctionError::Worker { name: name.clone(), reason: error.to_string() })?;
    let programs = &function.snapshot().programs;
    let failed = |error: ProgramError| FunctionError::Failed {
        is_defect: error.is_defect,
        diagnostic: Box::new(programs.diagnostic(error)),
    };
    let worker = worker.map_err(failed)?;
    let messages = worker.messages();
    let mut messages =
        messages.map_err(|error| FunctionError::Worker { name: name.clone(), reason: io_message(&error) })?;
    let service = HostService {
        engine,
        container: env.container.clone(),
        context,
        variables: env.variables(),
        interrupted,
        deadline,
    };
    let start = ToWorker::Call { index: function.index(), context: env.call_context(context.outputs.values()) };
    match service.converse(&mut messages, &start, on_line).await {
        Ok(result) => {
            drop(messages);
            context.workers.put_back(function.digest(), worker);
            result.map_err(failed)
        }
        Err(CallEnd::Interrupted) => Err(FunctionError::Interrupted(name)),
        Err(CallEnd::TimedOut) => {
            let at = worker.place(programs).and_then(|place| programs.location(&place)).map(Box::new);
            Err(FunctionError::TimedOut { name, limit, at })
        }
        Err(CallEnd::Lost) => Err(failed(worker.end(NoAnswer::Ended, programs, limit))),
    }
}

/// Why a call ended before the function returned.
enum CallEnd {
    Interrupted,
    TimedOut,
    /// The worker ended.
    Lost,
}

impl From<io::Error> for CallEnd {
    fn from(_: io::Error) -> Self {
        // What the worker printed says more.
        CallEnd::Lost
    }
}

/// Failure of a request of a function.
#[derive(Debug, thiserror::Error)]
enum HostError {
    #[error("{0}")]
    Reply(String),
    #[error("the service has no container")]
    NoContainer,
    #[error("timed out after {} s", .0.as_secs_f64())]
    TimedOut(Duration),
    #[error("the run was interrupted")]
    Interrupted,
    #[error("{url}: {error}")]
    Url { url: String, error: HttpError },
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error(transparent)]
    Engine(#[from] EngineError),
}

fn value(reply: &impl Serialize) -> Result<serde_json::Value, HostError> {
    serde_json::to_value(reply).map_err(|error| HostError::Reply(error.to_string()))
}

async fn send(messages: &mut Messages, message: &ToWorker) -> io::Result<()> {
    messages.send(Bytes::from(wire::encode(message, MAX_MESSAGE)?)).await
}

/// The last lines of an output, at most [`MAX_OUTPUT`] bytes.
#[derive(Default)]
struct LastLines {
    lines: VecDeque<String>,
    length: usize,
}

impl LastLines {
    fn push(&mut self, line: String) {
        self.length += line.len();
        self.lines.push_back(line);
        while self.length > MAX_OUTPUT {
            let Some(first) = self.lines.pop_front() else { break };
            self.length -= first.len();
        }
    }
}

/// Serves the requests of one call.
struct HostService<'a> {
    engine: &'a dyn Engine,
    /// Id of the container, if there is one.
    container: Option<String>,
    context: &'a ExecContext,
    variables: BTreeMap<String, String>,
    interrupted: &'a CancellationToken,
    deadline: Instant,
}

impl HostService<'_> {
    /// Starts a call and serves its requests until it returns.
    async fn converse(
        &self,
        messages: &mut Messages,
        start: &ToWorker,
        on_line: &mut (dyn FnMut(LogLine) + Send),
    ) -> Result<Result<CallResult, ProgramError>, CallEnd> {
        send(messages, start).await?;
        loop {
            let message = tokio::select! {
                // In this order, so that endless messages do not delay the others.
                biased;
                // cancel-safe because it ends the call
                () = self.interrupted.cancelled() => return Err(CallEnd::Interrupted),
                // cancel-safe for the same reason
                () = sleep_until(self.deadline) => return Err(CallEnd::TimedOut),
                // cancel-safe because a message that was not received completely stays in the buffer
                message = messages.next() => message.ok_or(CallEnd::Lost)??,
            };
            match wire::decode(&message)? {
                FromWorker::Returned(result) => return Ok(result),
                FromWorker::Print(text) => on_line(LogLine { stderr: false, text }),
                FromWorker::Request(request) => {
                    let reply = self.serve(request).await.map_err(|error| error.to_string());
                    send(messages, &ToWorker::Reply(reply)).await?;
                }
                FromWorker::Query(_) | FromWorker::Evaluated(_) => return Err(CallEnd::Lost),
            }
        }
    }

    async fn serve(&self, request: HostRequest) -> Result<serde_json::Value, HostError> {
        match request {
            HostRequest::Exec(words, limit) => {
                let target = ExecTarget::Container(self.container()?);
                value(&self.run_command(&words, target, limit).await)
            }
            HostRequest::Run(words, limit) => {
                value(&self.run_command(&words, ExecTarget::Host(self.context), limit).await)
            }
            HostRequest::Get(target, limit) => value(&self.within(limit, self.get(&target)).await?),
            HostRequest::Tcp(port) => {
                let accepts = async {
                    let id = self.container()?;
                    match connect::accepts(self.engine, id, &mut None, port, self.context).await {
                        Err(error) if error.is_permanent() => {
                            match listening(self.engine, id, None, port).await.map_err(ConnectError::from)? {
                                Listening::Unknown => Err(error.into()),
                                found => Ok(found == Listening::Yes),
                            }
                        }
                        result => Ok(result.is_ok()),
                    }
                };
                value(&self.within(None, accepts).await?)
            }
            HostRequest::Logs(lines) => value(&self.within(None, self.logs(lines)).await?),
            HostRequest::Sleep(time) => {
                let slept = async {
                    sleep(time).await;
                    Ok(())
                };
                value(&self.within(None, slept).await?)
            }
        }
    }

    fn container(&self) -> Result<&str, HostError> {
        self.container.as_deref().ok_or(HostError::NoContainer)
    }

    /// The time until the deadline, at most `limit`.
    fn time_left(&self, limit: Option<Duration>) -> Duration {
        let left = self.deadline.saturating_duration_since(Instant::now());
        limit.map_or(left, |limit| limit.min(left))
    }

    async fn within<T>(
        &self,
        limit: Option<Duration>,
        work: impl Future<Output = Result<T, HostError>>,
    ) -> Result<T, HostError> {
        let limit = self.time_left(limit);
        match run_until_aborted(limit, self.interrupted, work).await {
            Ok(result) => result,
            Err(Aborted::TimedOut) => Err(HostError::TimedOut(limit)),
            Err(Aborted::Interrupted) => Err(HostError::Interrupted),
        }
    }

    async fn run_command(&self, words: &[String], target: ExecTarget<'_>, limit: Option<Duration>) -> Ran {
        let command = Command { words, target, variables: self.variables.clone(), limit: self.time_left(limit) };
        let mut output = LastLines::default();
        let mut on_line = |line: LogLine| output.push(line.text);
        let result = command::run(self.engine, &command, self.interrupted, &mut on_line).await;
        let exit_code = match &result {
            Ok(()) => Some(0),
            Err(CommandError::Exited { code, .. }) => Some(*code),
            Err(_) => None,
        };
        Ran { output: output.lines.into(), failed: result.err().map(|error| error.to_string()), exit_code }
    }

    async fn connect(&self, port: u16) -> Result<TcpStream, HostError> {
        Ok(connect::connect(self.engine, self.container()?, &mut None, port, self.context).await?)
    }

    async fn get(&self, target: &HttpTarget) -> Result<Response, HostError> {
        let request = |path: String, host: String| {
            let request = hyper::Request::get(path).header(hyper::header::HOST, host).body(Full::default());
            request.map_err(|error| HttpError::Failed(error.to_string()))
        };
        let everything = |_| http::Body::All { max: MAX_BODY };
        let (status, body) = match target {
            HttpTarget::Container(port, path) => {
                let stream = self.connect(*port).await?;
                http::exchange(stream, request(path.clone(), format!("localhost:{port}"))?, everything).await?
            }
            HttpTarget::Url(url) => {
                let request = request(url.target(), url.authority().to_owned())?;
                let response = http::exchange_at(url, request, everything).await;
                response.map_err(|error| HostError::Url { url: url.to_string(), error })?
            }
        };
        Ok(Response { status: status.as_u16(), body: String::from_utf8_lossy(&body).into_owned() })
    }

    async fn logs(&self, lines: u32) -> Result<Vec<String>, HostError> {
        let options = LogOptions { tail: Some(lines), ..LogOptions::default() };
        let mut stream = self.engine.logs(self.container()?, options);
        let mut output = LastLines::default();
        while let Some(line) = stream.next().await {
            output.push(line?.text);
        }
        Ok(output.lines.into())
    }
}
