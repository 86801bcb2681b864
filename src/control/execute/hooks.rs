//! Hooks: runs one to its end and returns its outputs. When it runs, and what a failure means, is decided in `plan`.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::HOST;
use tempfile::NamedTempFile;
use tokio_util::sync::CancellationToken;

use super::command::{self, Aborted, Command, ExecTarget, run_until_aborted};
use super::context::{ExecContext, HookEnv};
use super::outputs::{self, MAX_FILE_SIZE, OUTPUT, OutputMap, OutputStore};
use super::{functions, http};
use crate::control::error::{HookError, HttpError, OutputError, RequestError};
use crate::desired::{Hook, HookAction, HttpRequest};
use crate::engine::lines::truncate;
use crate::engine::{Engine, LogLine, io_message};
use crate::identity::instance_name;
use crate::plan::step::ContainerRef;
use crate::spec::secrets::HIDDEN;

/// Length at which a line of output is truncated, in bytes.
const MAX_LINE: usize = 8 * 1024;

/// One run of a hook.
#[derive(Debug, Clone, PartialEq)]
pub struct HookCall {
    /// Service of the hook; `None` for a hook of the group.
    pub service: Option<String>,
    /// Replica index; `None` for a service without replicas.
    pub replica: Option<u32>,
    /// Container of the service, if there is one.
    pub container: Option<ContainerRef>,
    /// Name of the hook point or event: `post_start`, `exited`, `up`.
    pub event: String,
    pub hook: Hook,
    /// Further environment variables of a command.
    pub variables: BTreeMap<String, String>,
}

impl HookCall {
    /// Name of the service with the replica index, as users know it.
    pub fn instance(&self) -> Option<String> {
        self.service.as_ref().map(|service| instance_name(service, self.replica))
    }

    fn env(&self, context: &ExecContext) -> HookEnv {
        let container = self.container.as_ref();
        HookEnv {
            group: context.group.clone(),
            service: self.service.clone(),
            replica: self.replica,
            container: container.map(|container| container.id.to_string()),
            container_name: container.map(|container| container.name.clone()),
            event: Some(self.event.clone()),
            variables: self.variables.clone(),
        }
    }
}

/// Runs a hook within its timeout and returns its outputs. `on_line` receives each line of output as it comes, truncated
/// at `MAX_LINE`. Cancelling `interrupted` ends the hook as its timeout does. Dropping the future ends it at once,
/// except for a command in a container, which continues.
///
/// # Errors
///
/// The reason why the hook failed.
pub async fn run(
    engine: &dyn Engine,
    call: &HookCall,
    context: &ExecContext,
    interrupted: &CancellationToken,
    on_line: &mut (dyn FnMut(LogLine) + Send),
) -> Result<OutputMap, HookError> {
    let capture = call.hook.capture.as_ref();
    let mut captured = String::new();
    let mut on_line = |mut line: LogLine| {
        if capture.is_some() && !line.stderr {
            if captured.len() <= MAX_FILE_SIZE {
                captured.push_str(&line.text);
                captured.push('\n');
            }
            // An output may be a secret.
            line.text = HIDDEN.to_owned();
        }
        truncate(&mut line.text, MAX_LINE);
        on_line(line);
    };
    let limit = call.hook.timeout;
    let mut outputs = match (&call.hook.action, &call.container) {
        (HookAction::Http(request), _) => {
            let wanted = if capture.is_some() { http::Body::All { max: MAX_FILE_SIZE } } else { http::Body::Nothing };
            let body = send(request, call.hook.secret, wanted, limit, interrupted).await?;
            captured = String::from_utf8_lossy(&body).into_owned();
            OutputMap::new()
        }
        (HookAction::Run(words), _) => {
            let target = ExecTarget::Host(context);
            run_command(engine, call, words, target, context, interrupted, &mut on_line).await?
        }
        (HookAction::Exec(words), Some(container)) => {
            let target = ExecTarget::Container(&container.id);
            run_command(engine, call, words, target, context, interrupted, &mut on_line).await?
        }
        (HookAction::Exec(words), None) => return Err(HookError::NoContainer(words[0].clone())),
        (HookAction::Function(function), _) => {
            let function = functions::Call { function, env: call.env(context), limit };
            match functions::call(engine, function, context, interrupted, &mut on_line).await {
                Ok(result) => outputs::check(result.outputs)?,
                Err(error) => {
                    error.details().into_iter().for_each(|text| on_line(LogLine { stderr: true, text }));
                    return Err(error.into());
                }
            }
        }
    };
    if let Some(key) = capture {
        outputs.extend(outputs::capture(key.as_str(), &captured)?);
    }
    Ok(outputs)
}

/// Runs a command and returns the outputs that it wrote to its output file.
async fn run_command(
    engine: &dyn Engine,
    call: &HookCall,
    words: &[String],
    target: ExecTarget<'_>,
    context: &ExecContext,
    interrupted: &CancellationToken,
    on_line: &mut (dyn FnMut(LogLine) + Send),
) -> Result<OutputMap, HookError> {
    let file = OutputFile::create(target, &context.outputs)?;
    let mut variables = call.env(context).variables();
    variables.insert(OUTPUT.to_owned(), file.path());
    let command = Command { words, target, variables, limit: call.hook.timeout };
    let result = command::run(engine, &command, interrupted, on_line).await;
    result.map_err(|error| if call.hook.secret { error.hide() } else { error })?;
    Ok(file.read(engine).await?)
}

/// The file to which a command writes outputs. On the host it is removed when this is dropped.
enum OutputFile<'a> {
    Host(NamedTempFile),
    Container { id: &'a str, path: String },
}

impl<'a> OutputFile<'a> {
    fn create(target: ExecTarget<'a>, outputs: &OutputStore) -> Result<OutputFile<'a>, OutputError> {
        match target {
            ExecTarget::Host(_) => match outputs.output_file() {
                Ok(file) => Ok(OutputFile::Host(file)),
                Err(error) => Err(OutputError::CreateFile(io_message(&error))),
            },
            // A name of its own for each run: the file stays in the container, and the next run must not read it.
            ExecTarget::Container(id) => {
                Ok(OutputFile::Container { id, path: format!("{}-{}", outputs::JOB_OUTPUT_FILE, command::unique_id()) })
            }
        }
    }

    fn path(&self) -> String {
        match self {
            OutputFile::Host(file) => file.path().to_string_lossy().into_owned(),
            OutputFile::Container { path, .. } => path.clone(),
        }
    }

    async fn read(&self, engine: &dyn Engine) -> Result<OutputMap, OutputError> {
        let written = match self {
            OutputFile::Host(file) => read_written(file).map_err(|error| io_message(&error)),
            OutputFile::Container { id, path } => {
                let read = engine.read(id, path, MAX_FILE_SIZE + 1).await;
                read.map(Option::unwrap_or_default).map_err(|error| error.to_string())
            }
        };
        outputs::parse(&written.map_err(OutputError::Read)?)
    }
}

/// Reads what a command has written to its output file, up to one byte more than the limit. Reads the file that was
/// created, not what has its name now, which may be a FIFO.
fn read_written(file: &NamedTempFile) -> io::Result<Vec<u8>> {
    let created = file.as_file().metadata()?;
    let named = std::fs::symlink_metadata(file.path())?;
    if (created.dev(), created.ino()) != (named.dev(), named.ino()) {
        return Err(io::Error::other("the file was replaced; append to it instead"));
    }
    let mut content = Vec::new();
    let mut reader = file.as_file();
    reader.rewind()?;
    reader.take(MAX_FILE_SIZE as u64 + 1).read_to_end(&mut content)?;
    Ok(content)
}

/// Sends the request of a hook, which errors name without its URL if it is `secret`, checks the status and returns the
/// `wanted` part of the body.
async fn send(
    request: &HttpRequest,
    secret: bool,
    wanted: http::Body,
    limit: Duration,
    interrupted: &CancellationToken,
) -> Result<Bytes, RequestError> {
    let name = match secret {
        true => format!("{} {HIDDEN}", request.method),
        false => format!("{} {}", request.method, request.url),
    };
    let is_expected = |status: StatusCode| match request.status {
        Some(expected) => status.as_u16() == expected,
        None => status.is_success(),
    };
    let read = |status| if is_expected(status) { wanted } else { http::Body::Start };
    match run_until_aborted(limit, interrupted, exchange(request, read)).await {
        Ok(Ok((status, body))) if is_expected(status) => Ok(body),
        Ok(Ok((status, body))) => Err(RequestError::Status {
            request: name,
            status: status.to_string(),
            expected: request.status,
            detail: http::explanation(&body),
        }),
        Ok(Err(error)) => Err(RequestError::Failed { request: name, error }),
        Err(Aborted::TimedOut) => Err(RequestError::TimedOut { request: name, limit }),
        Err(Aborted::Interrupted) => Err(RequestError::Interrupted { request: name }),
    }
}

async fn exchange(
    request: &HttpRequest,
    read: impl FnOnce(StatusCode) -> http::Body,
) -> Result<(StatusCode, Bytes), HttpError> {
    let url = &request.url;
    let mut builder = hyper::Request::builder().method(request.method.as_str()).uri(url.target());
    for (name, value) in &request.headers {
        builder = builder.header(name.as_str(), value.as_str().as_bytes());
    }
    if builder.headers_ref().is_none_or(|headers| !headers.contains_key(HOST)) {
        builder = builder.header(HOST, url.authority());
    }
    let body = request.body.as_ref().map(|body| body.as_str().to_owned()).unwrap_or_default();
    let request = builder.body(body.into()).map_err(|error| HttpError::Failed(error.to_string()))?;
    http::exchange_at(url, request, read).await
}
