//! Hooks: runs one and says how it ended. When one runs, and what its end means, is decided in `plan`.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::HOST;
use tempfile::NamedTempFile;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

pub use super::command::Failed;
use super::command::{self, Aborted, Command, ExecTarget, io_message, run_until_aborted};
use super::connect::ExecContext;
use super::outputs::{self, OUTPUT, OutputMap, OutputStore};
use super::{functions, http};
use crate::desired::{Hook, HookAction, HttpRequest};
use crate::engine::{Engine, LogLine};
use crate::identity::instance_name;
use crate::plan::step::ContainerRef;
use crate::spec::starlark::CallContext;

/// How much of a line is told.
const LONGEST_LINE: usize = 8 * 1024;
/// How many of the last lines explain a failure.
const LAST_LINES: usize = 10;

/// One run of a hook.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Service that it belongs to; `None`: a hook of the group.
    pub service: Option<String>,
    /// Which replica of it; `None`: it has no replicas.
    pub replica: Option<u32>,
    /// Its container, where there is one.
    pub container: Option<ContainerRef>,
    /// What has happened or is about to: `post_start`, `exited`, `up`.
    pub event: String,
    /// What to do.
    pub hook: Hook,
    /// Further variables for a command.
    pub variables: BTreeMap<String, String>,
}

/// Runs a hook to its end, within its time, and gives its outputs. Each line of its output is told as it comes, cut where it is very long.
/// Once `interrupted`, the hook is ended as at the end of its time. A call that is dropped instead ends at once, but for
/// a command in a container, which goes on.
///
/// # Errors
///
/// Why it did not succeed.
pub async fn run(
    engine: &dyn Engine,
    call: &Call,
    surroundings: &ExecContext,
    interrupted: &CancellationToken,
    heard: &mut (dyn FnMut(LogLine) + Send),
) -> Result<OutputMap, Failed> {
    let mut last = VecDeque::new();
    let mut said = call.hook.capture.as_ref().map(|_| String::new());
    let mut note = |mut line: LogLine| {
        if let Some(said) = said.as_mut().filter(|said| !line.stderr && said.len() <= outputs::MOST) {
            said.push_str(&line.text);
            said.push('\n');
        }
        cut(&mut line.text);
        if !line.text.trim().is_empty() {
            if last.len() == LAST_LINES {
                last.pop_front();
            }
            last.push_back(line.text.clone());
        }
        heard(line);
    };
    let silent = |why| Failed { why, output: Vec::new() };
    let limit = call.hook.timeout;
    let (words, place) = match (&call.hook.action, &call.container) {
        (HookAction::Http(request), _) => {
            let most = if call.hook.capture.is_some() { outputs::MOST } else { 0 };
            let body = ask(request, most, limit, interrupted).await.map_err(silent)?;
            let text = || String::from_utf8_lossy(&body).into_owned();
            return captured(call, call.hook.capture.is_some().then(text)).map_err(silent);
        }
        (HookAction::Run(words), _) => (words, ExecTarget::Host(&surroundings.directory)),
        (HookAction::Exec(words), Some(container)) => (words, ExecTarget::Container(&container.id)),
        (HookAction::Function(function), _) => {
            let function = functions::Call { function, about: about(call, surroundings), limit };
            let ended = functions::call(engine, function, surroundings, interrupted, &mut note).await;
            let given = ended.map_err(|failed| failed.told_to(&mut note)).and_then(|ended| {
                let mut given = outputs::set(ended.outputs).map_err(silent)?;
                given.extend(captured(call, said).map_err(silent)?);
                Ok(given)
            });
            return given;
        }
        (HookAction::Exec(words), None) => {
            return Err(silent(format!("cannot run {} in the container: there is none", words[0])));
        }
    };
    let file = OutputFile::at(place, &surroundings.context).map_err(silent)?;
    let mut variables = variables(call, surroundings);
    variables.insert(OUTPUT.to_owned(), file.path());
    let command = Command { words, place, variables, limit };
    let ended = command::run(engine, &command, interrupted, &mut note).await;
    let given = match ended {
        Ok(()) => file.read(engine).await.and_then(|mut given| {
            given.extend(captured(call, said)?);
            Ok(given)
        }),
        Err(why) => Err(why),
    };
    given.map_err(|why| Failed { why, output: last.into() })
}

/// What a hook said, where that is an output.
fn captured(call: &Call, said: Option<String>) -> Result<OutputMap, String> {
    match (&call.hook.capture, said) {
        (Some(key), Some(said)) => outputs::captured(key.as_str(), &said),
        _ => Ok(OutputMap::new()),
    }
}

/// The file to which a command writes outputs; on the host it goes with this.
enum OutputFile<'a> {
    Host(NamedTempFile),
    Container { id: &'a str, path: String },
}

impl<'a> OutputFile<'a> {
    fn at(place: ExecTarget<'a>, context: &OutputStore) -> Result<OutputFile<'a>, String> {
        match place {
            ExecTarget::Host(_) => match context.output_file() {
                Ok(file) => Ok(OutputFile::Host(file)),
                Err(error) => Err(format!("cannot make a file for its outputs: {}", io_message(&error))),
            },
            // One for each run: nobody can remove it, and the next one may write to its own.
            ExecTarget::Container(id) => {
                Ok(OutputFile::Container { id, path: format!("{}-{}", outputs::OUTPUT_OF_JOB, command::mark()) })
            }
        }
    }

    fn path(&self) -> String {
        match self {
            OutputFile::Host(file) => file.path().to_string_lossy().into_owned(),
            OutputFile::Container { path, .. } => path.clone(),
        }
    }

    async fn read(&self, engine: &dyn Engine) -> Result<OutputMap, String> {
        let written = match self {
            OutputFile::Host(file) => std::fs::read(file.path()).map_err(|error| io_message(&error)),
            OutputFile::Container { id, path } => {
                let read = engine.read(id, path, outputs::MOST + 1).await;
                read.map(Option::unwrap_or_default).map_err(|error| error.to_string())
            }
        };
        outputs::parse(&written.map_err(|why| format!("its outputs cannot be read: {why}"))?)
    }
}

impl Call {
    /// The service as people call it: with the number of the replica.
    pub fn whose(&self) -> Option<String> {
        self.service.as_ref().map(|service| instance_name(service, self.replica))
    }
}

fn variables(call: &Call, surroundings: &ExecContext) -> BTreeMap<String, String> {
    let container = call.container.as_ref();
    let replica = call.replica.map(|number| number.to_string());
    let id = container.map(|container| container.id.to_string());
    let own = [
        (command::GROUP, Some(&surroundings.group)),
        (command::SERVICE, call.service.as_ref()),
        (command::REPLICA, replica.as_ref()),
        (command::CONTAINER, id.as_ref()),
        (command::CONTAINER_NAME, container.map(|container| &container.name)),
        (command::EVENT, Some(&call.event)),
    ];
    let own = own.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.clone())));
    call.variables.clone().into_iter().chain(own).collect()
}

fn about(call: &Call, surroundings: &ExecContext) -> CallContext {
    let container = call.container.as_ref();
    CallContext {
        group: surroundings.group.clone(),
        service: call.service.clone().unwrap_or_default(),
        replica: call.replica,
        event: call.event.clone(),
        container: container.map(|container| container.id.to_string()).unwrap_or_default(),
        container_name: container.map(|container| container.name.clone()).unwrap_or_default(),
        variables: call.variables.clone(),
        context: surroundings.context.values(),
    }
}

/// Cuts a line that nobody would read to its end.
fn cut(line: &mut String) {
    if line.len() > LONGEST_LINE {
        let end = (0..=LONGEST_LINE).rev().find(|end| line.is_char_boundary(*end)).unwrap_or(0);
        line.truncate(end);
        line.push('…');
    }
}

async fn ask(
    request: &HttpRequest,
    most: usize,
    limit: Duration,
    interrupted: &CancellationToken,
) -> Result<Bytes, String> {
    let what = format!("{} {}", request.method, request.url);
    let (status, body) = match run_until_aborted(limit, interrupted, answer(request, most)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(why)) => return Err(format!("{what}: {why}")),
        Err(Aborted::TimedOut) => return Err(format!("{what} was not answered within {} s", limit.as_secs_f64())),
        Err(Aborted::Interrupted) => return Err(format!("{what} was interrupted")),
    };
    match request.status {
        Some(wanted) if status.as_u16() == wanted => Ok(body),
        Some(wanted) => Err(format!("{what} answered {status} and not {wanted}")),
        None if status.is_success() => Ok(body),
        None => Err(format!("{what} answered {status}")),
    }
}

async fn answer(request: &HttpRequest, most: usize) -> Result<(StatusCode, Bytes), String> {
    let url = &request.url;
    let mut sent = hyper::Request::builder().method(request.method.as_str()).uri(&*url.target());
    for (name, value) in &request.headers {
        sent = sent.header(name.as_str(), value.as_str().as_bytes());
    }
    if sent.headers_ref().is_none_or(|headers| !headers.contains_key(HOST)) {
        sent = sent.header(HOST, url.authority());
    }
    let body = request.body.as_ref().map(|body| body.as_str().to_owned()).unwrap_or_default();
    let sent = sent.body(body.into()).map_err(|error| error.to_string())?;
    let stream = TcpStream::connect((url.host(), url.port())).await.map_err(|error| io_message(&error))?;
    http::exchange(stream, sent, most).await
}
