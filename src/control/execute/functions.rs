//! Starlark functions of hooks and probes: calls one on its own thread and serves what it requests from the host.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use http_body_util::Full;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::command::{self, Aborted, Command, ExecTarget, run_until_aborted};
use super::connect::{self, ConnectError};
use super::context::{ExecContext, HookEnv};
use super::{http, stack};
use crate::control::error::{FunctionError, HttpError};
use crate::engine::{Engine, EngineError, LogLine, LogOptions, io_message};
use crate::spec::Diagnostic;
use crate::spec::starlark::{CallResult, Function, Host, HttpTarget, Ran, Response};

/// Size limit of a response body, in bytes.
const MAX_BODY: usize = 1 << 20;
/// How much of a command's output a function can see, in bytes: the end of it.
const MAX_OUTPUT: usize = 1 << 20;
/// Requests of a function that are not handled yet; a function that prints faster waits.
const MAX_PENDING: usize = 64;

/// One call of a function.
#[derive(Debug)]
pub struct Call<'a> {
    pub function: &'a Function,
    /// What the function finds in `ctx`, and its commands in their environment.
    pub env: HookEnv,
    /// Time limit.
    pub limit: Duration,
}

/// Calls a function until it returns, times out or is interrupted; what it started ends with it. If the future is
/// dropped, the thread ends at the function's next request. `on_line` receives what the function prints.
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
    let (requests, mut inbox) = mpsc::channel(MAX_PENDING);
    let over = CancelOnDrop(Arc::new(AtomicBool::new(false)));
    let service = HostService {
        engine,
        container: env.container.clone(),
        context,
        variables: env.variables(),
        interrupted,
        deadline: Instant::now() + limit,
    };
    let call_context = env.call_context(context.outputs.values());
    let host = HostProxy { requests: requests.clone(), over: over.0.clone() };
    let function = function.clone();
    let spawned = stack::spawn_large_stack(move || {
        // The receiver is gone if the call was aborted.
        let _ = requests.blocking_send(HostRequest::Returned(function.call(&call_context, &host)));
    });
    if let Err(error) = spawned {
        return Err(FunctionError::Spawn { name, reason: io_message(&error) });
    }
    loop {
        tokio::select! {
            // In this order, so that endless requests do not delay the others.
            biased;
            // cancel-safe because it ends the call
            () = interrupted.cancelled() => return Err(FunctionError::Interrupted(name)),
            // cancel-safe for the same reason
            () = sleep_until(service.deadline) => return Err(FunctionError::TimedOut { name, limit }),
            // cancel-safe because a message that was not received stays in the channel
            Some(request) = inbox.recv() => match request {
                HostRequest::Returned(result) => return result.map_err(|error| FunctionError::Failed(Box::new(error))),
                HostRequest::Print(text) => on_line(LogLine { stderr: false, text }),
                request => service.serve(request).await,
            },
        }
    }
}

/// Flag that becomes true when this is dropped.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Failure of a request of a function.
#[derive(Debug, thiserror::Error)]
enum HostError {
    #[error("the call has ended")]
    CallOver,
    #[error("the service has no container")]
    NoContainer,
    #[error("timed out after {} s", .0.as_secs_f64())]
    TimedOut(Duration),
    #[error("the run was interrupted")]
    Interrupted,
    #[error("{url}: {reason}")]
    Url { url: String, reason: String },
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error(transparent)]
    Engine(#[from] EngineError),
}

type Reply<T> = oneshot::Sender<Result<T, HostError>>;

/// Message from the thread of a function.
enum HostRequest {
    Exec(Vec<String>, Option<Duration>, Reply<Ran>),
    Run(Vec<String>, Option<Duration>, Reply<Ran>),
    Get(HttpTarget, Option<Duration>, Reply<Response>),
    Tcp(u16, Reply<bool>),
    Logs(u32, Reply<Vec<String>>),
    Sleep(Duration, Reply<()>),
    Print(String),
    Returned(Result<CallResult, Diagnostic>),
}

/// The host as the thread of a function sees it: forwards requests to a [`HostService`] and waits for the replies.
struct HostProxy {
    requests: mpsc::Sender<HostRequest>,
    over: Arc<AtomicBool>,
}

impl HostProxy {
    fn request<T>(&self, request: impl FnOnce(Reply<T>) -> HostRequest) -> Result<T, String> {
        let (reply, response) = oneshot::channel();
        let sent = self.requests.blocking_send(request(reply));
        let result = sent.map_err(|_| HostError::CallOver);
        let result = result.and_then(|()| response.blocking_recv().unwrap_or(Err(HostError::CallOver)));
        result.map_err(|error| error.to_string())
    }
}

impl Host for HostProxy {
    fn exec(&self, command: &[String], limit: Option<Duration>) -> Result<Ran, String> {
        self.request(|reply| HostRequest::Exec(command.to_vec(), limit, reply))
    }

    fn run(&self, command: &[String], limit: Option<Duration>) -> Result<Ran, String> {
        self.request(|reply| HostRequest::Run(command.to_vec(), limit, reply))
    }

    fn get(&self, target: &HttpTarget, limit: Option<Duration>) -> Result<Response, String> {
        self.request(|reply| HostRequest::Get(target.clone(), limit, reply))
    }

    fn tcp(&self, port: u16) -> Result<bool, String> {
        self.request(|reply| HostRequest::Tcp(port, reply))
    }

    fn logs(&self, lines: u32) -> Result<Vec<String>, String> {
        self.request(|reply| HostRequest::Logs(lines, reply))
    }

    fn sleep(&self, time: Duration) -> Result<(), String> {
        self.request(|reply| HostRequest::Sleep(time, reply))
    }

    fn say(&self, line: &str) {
        // The receiver is gone if the call was aborted.
        let _ = self.requests.blocking_send(HostRequest::Print(line.to_owned()));
    }

    fn expired(&self) -> bool {
        self.over.load(Ordering::Relaxed)
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
    async fn serve(&self, request: HostRequest) {
        // The receiver of a reply is gone if the call was aborted.
        match request {
            HostRequest::Exec(words, limit, reply) => {
                let _ = reply.send(match self.container() {
                    Ok(id) => Ok(self.run_command(&words, ExecTarget::Container(id), limit).await),
                    Err(error) => Err(error),
                });
            }
            HostRequest::Run(words, limit, reply) => {
                let target = ExecTarget::Host(&self.context.directory);
                let _ = reply.send(Ok(self.run_command(&words, target, limit).await));
            }
            HostRequest::Get(target, limit, reply) => {
                let _ = reply.send(self.within(limit, self.get(&target)).await);
            }
            HostRequest::Tcp(port, reply) => {
                let accepts = async { Ok(self.connect(port).await.is_ok()) };
                let _ = reply.send(self.within(None, accepts).await);
            }
            HostRequest::Logs(lines, reply) => {
                let _ = reply.send(self.within(None, self.logs(lines)).await);
            }
            HostRequest::Sleep(time, reply) => {
                let slept = async {
                    sleep(time).await;
                    Ok(())
                };
                let _ = reply.send(self.within(None, slept).await);
            }
            HostRequest::Print(_) | HostRequest::Returned(_) => {}
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
        let (mut output, mut length) = (VecDeque::new(), 0);
        let mut on_line = |line: LogLine| {
            length += line.text.len();
            output.push_back(line.text);
            while length > MAX_OUTPUT {
                let Some(first) = output.pop_front() else { break };
                length -= first.len();
            }
        };
        let result = command::run(self.engine, &command, self.interrupted, &mut on_line).await;
        Ran { output: output.into(), failed: result.err().map(|error| error.to_string()) }
    }

    async fn connect(&self, port: u16) -> Result<TcpStream, HostError> {
        Ok(connect::connect(self.engine, self.container()?, self.context, port).await?)
    }

    async fn get(&self, target: &HttpTarget) -> Result<Response, HostError> {
        let (stream, host, path) = match target {
            HttpTarget::Container(port, path) => {
                (self.connect(*port).await?, format!("localhost:{port}"), path.clone())
            }
            HttpTarget::Url(url) => {
                let stream = TcpStream::connect(url.address()).await;
                let stream =
                    stream.map_err(|error| HostError::Url { url: url.to_string(), reason: io_message(&error) })?;
                (stream, url.authority().to_owned(), url.target())
            }
        };
        let request = hyper::Request::get(path)
            .header(hyper::header::HOST, host)
            .body(Full::default())
            .map_err(|error| HttpError::Failed(error.to_string()))?;
        let (status, body) = http::exchange(stream, request, MAX_BODY).await?;
        Ok(Response { status: status.as_u16(), body: String::from_utf8_lossy(&body).into_owned() })
    }

    async fn logs(&self, lines: u32) -> Result<Vec<String>, HostError> {
        let options = LogOptions { tail: Some(lines), ..LogOptions::default() };
        let mut stream = self.engine.logs(self.container()?, options);
        let mut collected = Vec::new();
        while let Some(line) = stream.next().await {
            collected.push(line?.text);
        }
        Ok(collected)
    }
}
