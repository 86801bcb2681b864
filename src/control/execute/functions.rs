//! Functions of programs, as hooks and pings: calls one on a thread of its own, and does for it what it asks for. What its
//! end means is for others to say.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use http_body_util::Full;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::command::{self, Aborted, Command, ExecTarget, Failed, io_message, run_until_aborted};
use super::connect::{self, ExecContext};
use super::{http, stack};
use crate::engine::{Engine, LogLine, LogOptions};
use crate::spec::Diagnostic;
use crate::spec::starlark::{CallContext, CallResult, Function, Host, HttpTarget, Ran, Response};

/// How much of a body a function gets, in bytes.
const LONGEST_BODY: usize = 1 << 20;
/// How much of what a command writes, in bytes: the end of it.
const LONGEST_OUTPUT: usize = 1 << 20;

/// One call.
#[derive(Debug)]
pub struct Call<'a> {
    /// What is called.
    pub function: &'a Function,
    /// What it is told.
    pub about: CallContext,
    /// How long it may take.
    pub limit: Duration,
}

/// Calls a function until it returns, its time is over or the run is interrupted. What it has begun is ended with it;
/// a call that is dropped instead ends at the next thing that it asks for.
///
/// # Errors
///
/// Why it did not return.
pub async fn call(
    engine: &dyn Engine,
    call: Call<'_>,
    surroundings: &ExecContext,
    interrupted: &CancellationToken,
    heard: &mut (dyn FnMut(LogLine) + Send),
) -> Result<CallResult, Failed> {
    let name = call.function.name().to_owned();
    let (asks, mut inbox) = mpsc::unbounded_channel();
    let over = CancelOnDrop(Arc::new(AtomicBool::new(false)));
    let (end, container) = (Instant::now() + call.limit, call.about.container.clone());
    let variables = variables(&call.about);
    let far = HostProxy { asks: asks.clone(), over: over.0.clone() };
    let (function, about) = (call.function.clone(), call.about);
    let begun = stack::spawn_large_stack(move || {
        // Whoever has given up does not want it.
        let _ = asks.send(HostRequest::CallResult(function.call(&about, &far)));
    });
    if let Err(error) = begun {
        return Err(failed(format!("there is no thread to call {name} on: {}", io_message(&error))));
    }
    let hands = HostService { engine, container, surroundings, variables, interrupted, end };
    let cut = loop {
        tokio::select! {
            // In this order, so that one that asks without end does not keep the others from their turn.
            biased;
            // cancel-safe because the call is ended
            () = interrupted.cancelled() => break Aborted::Interrupted,
            // cancel-safe for the same reason
            () = sleep_until(end) => break Aborted::TimedOut,
            // cancel-safe because a message that was not received stays in the channel
            Some(ask) = inbox.recv() => match ask {
                HostRequest::CallResult(Ok(ended)) => return Ok(ended),
                HostRequest::CallResult(Err(diagnostic)) => return Err(told(&diagnostic)),
                HostRequest::Say(text) => heard(LogLine { stderr: false, text }),
                ask => hands.answer(ask).await,
            },
        }
    };
    Err(failed(match cut {
        Aborted::TimedOut => format!("{name} did not return within {} s", call.limit.as_secs_f64()),
        Aborted::Interrupted => format!("{name} was interrupted"),
    }))
}

fn failed(why: String) -> Failed {
    Failed { why, output: Vec::new() }
}

/// An error of a program: in one line, then the line of the program where it is, what to do and the calls that led
/// there.
fn told(diagnostic: &Diagnostic) -> Failed {
    let line = diagnostic.place.as_ref().and_then(|place| {
        let line = place.file.text().get(place.file.line_range(place.line()))?;
        Some(line.trim().to_owned())
    });
    let hint = diagnostic.hint.iter().cloned();
    let frames = diagnostic
        .related
        .iter()
        .map(|(place, label)| format!("{}:{}:{}: {label}", place.file.path(), place.line(), place.column()));
    Failed { why: diagnostic.to_string(), output: line.into_iter().chain(hint).chain(frames).collect() }
}

/// What commands find in their environment.
fn variables(about: &CallContext) -> BTreeMap<String, String> {
    let replica = about.replica.map(|number| number.to_string()).unwrap_or_default();
    let own = [
        (command::GROUP, &about.group),
        (command::SERVICE, &about.service),
        (command::REPLICA, &replica),
        (command::CONTAINER, &about.container),
        (command::CONTAINER_NAME, &about.container_name),
        (command::EVENT, &about.event),
    ];
    let own = own.into_iter().filter(|(_, value)| !value.is_empty());
    let own = own.map(|(name, value)| (name.to_owned(), value.clone()));
    about.variables.clone().into_iter().chain(own).collect()
}

/// Says that a call is over, at the latest when it is dropped.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

type Reply<T> = oneshot::Sender<Result<T, String>>;

/// What the thread of a function wants.
enum HostRequest {
    Exec(Vec<String>, Option<Duration>, Reply<Ran>),
    Run(Vec<String>, Option<Duration>, Reply<Ran>),
    Get(HttpTarget, Option<Duration>, Reply<Response>),
    Tcp(u16, Reply<bool>),
    Logs(u32, Reply<Vec<String>>),
    Sleep(Duration, Reply<()>),
    Say(String),
    CallResult(Result<CallResult, Diagnostic>),
}

/// The host of a function, on its thread: passes on what it asks for, and waits for the answer.
struct HostProxy {
    asks: mpsc::UnboundedSender<HostRequest>,
    over: Arc<AtomicBool>,
}

impl HostProxy {
    fn ask<T>(&self, ask: impl FnOnce(Reply<T>) -> HostRequest) -> Result<T, String> {
        const OVER: &str = "the call is over";
        let (reply, answer) = oneshot::channel();
        self.asks.send(ask(reply)).map_err(|_| OVER.to_owned())?;
        answer.blocking_recv().unwrap_or_else(|_| Err(OVER.to_owned()))
    }
}

impl Host for HostProxy {
    fn exec(&self, command: &[String], limit: Option<Duration>) -> Result<Ran, String> {
        self.ask(|reply| HostRequest::Exec(command.to_vec(), limit, reply))
    }

    fn run(&self, command: &[String], limit: Option<Duration>) -> Result<Ran, String> {
        self.ask(|reply| HostRequest::Run(command.to_vec(), limit, reply))
    }

    fn get(&self, target: &HttpTarget, limit: Option<Duration>) -> Result<Response, String> {
        self.ask(|reply| HostRequest::Get(target.clone(), limit, reply))
    }

    fn tcp(&self, port: u16) -> Result<bool, String> {
        self.ask(|reply| HostRequest::Tcp(port, reply))
    }

    fn logs(&self, lines: u32) -> Result<Vec<String>, String> {
        self.ask(|reply| HostRequest::Logs(lines, reply))
    }

    fn sleep(&self, time: Duration) -> Result<(), String> {
        self.ask(|reply| HostRequest::Sleep(time, reply))
    }

    fn say(&self, line: &str) {
        // A call that is over has nobody who listens.
        let _ = self.asks.send(HostRequest::Say(line.to_owned()));
    }

    fn expired(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// Does what functions ask for.
struct HostService<'a> {
    engine: &'a dyn Engine,
    /// Id of the container; empty where there is none.
    container: String,
    surroundings: &'a ExecContext,
    variables: BTreeMap<String, String>,
    interrupted: &'a CancellationToken,
    /// When the call is over.
    end: Instant,
}

impl HostService<'_> {
    async fn answer(&self, ask: HostRequest) {
        // One that no longer waits does not want the answer.
        match ask {
            HostRequest::Exec(command, limit, reply) => {
                let ran = match self.container() {
                    Ok(id) => self.command(&command, ExecTarget::Container(id), limit).await,
                    Err(why) => Err(why),
                };
                let _ = reply.send(ran);
            }
            HostRequest::Run(command, limit, reply) => {
                let place = ExecTarget::Host(&self.surroundings.directory);
                let _ = reply.send(self.command(&command, place, limit).await);
            }
            HostRequest::Get(target, limit, reply) => {
                let _ = reply.send(self.within(limit, self.get(&target)).await);
            }
            HostRequest::Tcp(port, reply) => {
                let connected = self.within(None, async { Ok(self.connect(port).await.is_ok()) });
                let _ = reply.send(connected.await);
            }
            HostRequest::Logs(lines, reply) => {
                let _ = reply.send(self.within(None, self.logs(lines)).await);
            }
            HostRequest::Sleep(time, reply) => {
                let slept = async {
                    tokio::time::sleep(time).await;
                    Ok(())
                };
                let _ = reply.send(self.within(None, slept).await);
            }
            HostRequest::Say(_) | HostRequest::CallResult(_) => {}
        }
    }

    fn container(&self) -> Result<&str, String> {
        match self.container.as_str() {
            "" => Err("there is no container at this moment".to_owned()),
            id => Ok(id),
        }
    }

    /// The time that is left, or less.
    fn time(&self, limit: Option<Duration>) -> Duration {
        let left = self.end.saturating_duration_since(Instant::now());
        limit.map_or(left, |limit| limit.min(left))
    }

    async fn within<T>(
        &self,
        limit: Option<Duration>,
        done: impl Future<Output = Result<T, String>>,
    ) -> Result<T, String> {
        let limit = self.time(limit);
        match run_until_aborted(limit, self.interrupted, done).await {
            Ok(result) => result,
            Err(Aborted::TimedOut) => Err(format!("no answer within {} s", limit.as_secs_f64())),
            Err(Aborted::Interrupted) => Err("the run was interrupted".to_owned()),
        }
    }

    async fn command(&self, words: &[String], place: ExecTarget<'_>, limit: Option<Duration>) -> Result<Ran, String> {
        let command = Command { words, place, variables: self.variables.clone(), limit: self.time(limit) };
        let (mut output, mut length) = (VecDeque::new(), 0);
        let mut heard = |line: LogLine| {
            length += line.text.len();
            output.push_back(line.text);
            while length > LONGEST_OUTPUT {
                let Some(first) = output.pop_front() else { break };
                length -= first.len();
            }
        };
        let ended = command::run(self.engine, &command, self.interrupted, &mut heard).await;
        Ok(Ran { output: output.into(), failed: ended.err() })
    }

    async fn connect(&self, port: u16) -> Result<TcpStream, String> {
        connect::connect(self.engine, self.container()?, self.surroundings, port).await
    }

    async fn get(&self, target: &HttpTarget) -> Result<Response, String> {
        let (stream, host, path) = match target {
            HttpTarget::Container(port, path) => {
                (self.connect(*port).await?, format!("localhost:{port}"), path.clone())
            }
            HttpTarget::Url(url) => {
                let stream = TcpStream::connect((url.host(), url.port())).await;
                let stream = stream.map_err(|error| format!("{url}: {}", io_message(&error)))?;
                (stream, url.authority().to_owned(), url.target().into_owned())
            }
        };
        let request = hyper::Request::get(path)
            .header(hyper::header::HOST, host)
            .body(Full::default())
            .map_err(|error| error.to_string())?;
        let (status, body) = http::exchange(stream, request, LONGEST_BODY).await?;
        Ok(Response { status: status.as_u16(), body: String::from_utf8_lossy(&body).into_owned() })
    }

    async fn logs(&self, lines: u32) -> Result<Vec<String>, String> {
        let options = LogOptions { tail: Some(lines), ..LogOptions::default() };
        let mut stream = self.engine.logs(self.container()?, options);
        let mut collected = Vec::new();
        while let Some(line) = stream.next().await {
            collected.push(line.map_err(|error| error.to_string())?.text);
        }
        Ok(collected)
    }
}
