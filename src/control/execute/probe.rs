//! Probes: execute the ping of a service. What the result means is decided in `plan`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use backon::{ConstantBuilder, RetryableWithContext};
use futures_util::StreamExt;
use http_body_util::Full;
use hyper::StatusCode;
use hyper::header::HOST;
use jiff::Timestamp;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::command::{self, Command, ExecTarget};
use super::connect::{self, ConnectError};
use super::context::{ExecContext, HookEnv};
use super::listening::{Listening, listening};
use super::{functions, http, tls};
use crate::control::error::{CommandError, FunctionError, HttpError, suffix};
use crate::engine::lines::split_timestamp;
use crate::engine::{Engine, EngineError, LogLine, LogOptions};
use crate::identity::service_of_instance;
use crate::plan::step::Probe;
use crate::spec::model::{Check, HttpCheck, Scheme};
use crate::spec::secrets::HIDDEN;
use crate::spec::starlark::Function;
use crate::spec::value::{HeaderValue, Pattern, Words};

/// Time limit of one HTTP exchange.
const HTTP_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit of one command or function.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// Number of attempts after which a container is inspected again: its address may change when the engine restarts it.
const ATTEMPTS_PER_ADDRESS: u32 = 20;

/// Reason why a probe failed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("timed out after {} s", HTTP_TIMEOUT.as_secs())]
    HttpTimedOut,
    /// `detail` is the first line of the body.
    #[error("GET {path} returned status {status}{}", suffix(detail))]
    Status { path: String, status: StatusCode, detail: String },
    /// `detail` is the last line of output.
    #[error("{error}{}", suffix(detail))]
    Command { error: CommandError, detail: String },
    #[error("{program} not found in $PATH of the container")]
    NoExecutable { program: String },
    #[error(transparent)]
    Function(#[from] FunctionError),
    #[error("{name} returned False{}", suffix(detail))]
    ReturnedFalse { name: String, detail: String },
    #[error("{name} returned a value of type {kind}, expected True or False")]
    NotABool { name: String, kind: String },
    #[error("no line of output matches {0:?}")]
    NoMatch(String),
    /// `at` is the address of the container with the port, or the port.
    #[error("nothing in the container listens on {at}, which cannot be reached from here")]
    NotListening { at: String },
    #[error("port {port} listens only on the loopback address of the container")]
    LoopbackOnly { port: u16 },
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl ProbeError {
    /// Hides what is quoted of the ping.
    fn hide(self) -> ProbeError {
        match self {
            ProbeError::Status { status, detail, .. } => ProbeError::Status { path: HIDDEN.into(), status, detail },
            ProbeError::Command { error, detail } => ProbeError::Command { error: error.hide(), detail },
            ProbeError::NoExecutable { .. } => ProbeError::NoExecutable { program: HIDDEN.into() },
            ProbeError::NoMatch(_) => ProbeError::NoMatch(HIDDEN.into()),
            other => other,
        }
    }

    /// Returns true if another attempt would fail too: the program of the ping is wrong or missing, or the container cannot be
    /// reached.
    fn is_permanent(&self) -> bool {
        match self {
            ProbeError::NoExecutable { .. } | ProbeError::Function(FunctionError::Failed { is_defect: true, .. }) => {
                true
            }
            ProbeError::Connect(error) => error.is_permanent(),
            _ => false,
        }
    }
}

/// Returns true if a command in a container could not be started because its program is not in `$PATH`. Engines answer with
/// exit code 126 (20.10) or 127 and the runtime's message as output, others with an error. A missing file with a path is not
/// meant: the container may create it.
fn lacks_executable(error: &CommandError, detail: &str) -> bool {
    let message = match error {
        CommandError::Exited { code: 126 | 127, .. } if detail.contains("exec failed") => detail.to_owned(),
        CommandError::Engine(error) => error.to_string(),
        _ => return false,
    };
    message.contains("executable file") && message.contains("not found in $PATH")
}

/// Returns the host of an authority.
fn without_port(authority: &str) -> &str {
    let host = authority.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')).map_or(authority, |(host, _)| host);
    host.trim_matches(['[', ']'])
}

/// Probes at the interval of the ping until it succeeds. `on_failure` receives each reason that differs from the last, and
/// true if another attempt would fail too.
pub async fn probe_until_ready<'a>(
    engine: &'a dyn Engine,
    probe: &'a Probe,
    context: &'a ExecContext,
    mut on_failure: impl FnMut(String, bool),
) {
    let mut last = (String::new(), false);
    let attempts = ConstantBuilder::new().with_delay(probe.ping.interval).without_max_times();
    let attempt = |mut prober: Prober<'a>| async move {
        let result = prober.attempt().await;
        (prober, result)
    };
    let retry = attempt.retry(attempts).context(Prober::new(engine, probe, context)).notify(|error: &ProbeError, _| {
        let failure = (error.to_string(), error.is_permanent());
        if failure != last {
            last.clone_from(&failure);
            on_failure(failure.0, failure.1);
        }
    });
    // Retries have no limit, so it cannot fail.
    let _ = retry.await;
}

/// Probes a container once.
///
/// # Errors
///
/// The reason why the probe failed.
pub async fn probe_once(engine: &dyn Engine, probe: &Probe, context: &ExecContext) -> Result<(), ProbeError> {
    Prober::new(engine, probe, context).attempt().await
}

/// A probe and the address that its last attempts used.
struct Prober<'a> {
    engine: &'a dyn Engine,
    probe: &'a Probe,
    context: &'a ExecContext,
    address: Option<IpAddr>,
    attempts: u32,
}

impl<'a> Prober<'a> {
    fn new(engine: &'a dyn Engine, probe: &'a Probe, context: &'a ExecContext) -> Self {
        Prober { engine, probe, context, address: probe.address, attempts: 0 }
    }

    async fn attempt(&mut self) -> Result<(), ProbeError> {
        let result = self.attempt_check().await;
        if self.probe.secret { result.map_err(ProbeError::hide) } else { result }
    }

    async fn attempt_check(&mut self) -> Result<(), ProbeError> {
        match &self.probe.ping.check {
            Check::Tcp(port) => match self.accepts(*port).await {
                Err(error) if error.is_permanent() => self.listens(*port, error).await,
                result => Ok(result?),
            },
            Check::Http(http) => self.get(http).await,
            Check::Exec(words) => {
                let target = ExecTarget::Container(&self.probe.container.id);
                self.run(words, target, BTreeMap::new()).await.map_err(|error| match error {
                    ProbeError::Command { error, detail } if lacks_executable(&error, &detail) => {
                        ProbeError::NoExecutable { program: words[0].clone() }
                    }
                    error => error,
                })
            }
            Check::Run(words) => {
                let env = HookEnv { container_name: None, event: None, ..self.env() };
                self.run(words, ExecTarget::Host(self.context), env.variables()).await
            }
            Check::Log(pattern) => self.match_log(pattern).await,
            Check::Function(function) => self.call(function).await,
        }
    }

    fn env(&self) -> HookEnv {
        HookEnv {
            group: self.context.group.clone(),
            service: Some(service_of_instance(&self.probe.service, self.probe.replica).to_owned()),
            replica: self.probe.replica,
            container: Some(self.probe.container.id.to_string()),
            container_name: Some(self.probe.container.name.clone()),
            event: Some("ping".to_owned()),
            variables: BTreeMap::new(),
        }
    }

    /// Calls a function, which must return `True`. The last line that it prints explains a failure.
    async fn call(&self, function: &Function) -> Result<(), ProbeError> {
        let mut detail = String::new();
        let mut on_line = |line: LogLine| detail = line.text;
        let call = functions::Call { function, env: self.env(), limit: COMMAND_TIMEOUT };
        let result = functions::call(self.engine, call, self.context, &CancellationToken::new(), &mut on_line).await?;
        let name = function.name().to_owned();
        match result.returned {
            Ok(true) => Ok(()),
            Ok(false) => Err(ProbeError::ReturnedFalse { name, detail }),
            Err(kind) => Err(ProbeError::NotABool { name, kind }),
        }
    }

    /// Connects to a port of the container.
    async fn connect(&mut self, port: u16) -> Result<TcpStream, ProbeError> {
        self.count_attempt();
        let id = &self.probe.container.id;
        Ok(connect::connect(self.engine, id, &mut self.address, port, self.context).await?)
    }

    async fn accepts(&mut self, port: u16) -> Result<(), ConnectError> {
        self.count_attempt();
        connect::accepts(self.engine, &self.probe.container.id, &mut self.address, port, self.context).await
    }

    fn count_attempt(&mut self) {
        self.attempts += 1;
        if self.attempts.is_multiple_of(ATTEMPTS_PER_ADDRESS) {
            self.address = None;
        }
    }

    /// Checks in the container that the port listens, because the port cannot be reached from here.
    async fn listens(&self, port: u16, error: ConnectError) -> Result<(), ProbeError> {
        match listening(self.engine, &self.probe.container.id, self.address, port).await? {
            Listening::Yes => Ok(()),
            Listening::No => {
                let at = match self.address {
                    Some(address) => SocketAddr::new(address, port).to_string(),
                    None => format!("port {port}"),
                };
                Err(ProbeError::NotListening { at })
            }
            Listening::LoopbackOnly => Err(ProbeError::LoopbackOnly { port }),
            Listening::Unknown => Err(error.into()),
        }
    }

    async fn get(&mut self, http: &HttpCheck) -> Result<(), ProbeError> {
        let stream = self.connect(http.port).await?;
        let mut request = hyper::Request::get(&http.path);
        for (name, value) in &http.headers {
            request = request.header(name.as_str(), value.as_str().as_bytes());
        }
        if !http.headers.contains_key(HOST.as_str()) {
            request = request.header(HOST, format!("{}:{}", self.probe.service, http.port));
        }
        let request = request.body(Full::default()).map_err(|error| HttpError::Failed(error.to_string()))?;
        let is_expected = |status: StatusCode| match http.status {
            Some(expected) => status.as_u16() == expected,
            None => status.is_success() || status.is_redirection(),
        };
        let read = |status| if is_expected(status) { http::Body::Nothing } else { http::Body::Start };
        let exchange = async {
            match http.scheme {
                Scheme::Http => http::exchange(stream, request, read).await,
                Scheme::Https => {
                    let host = http.headers.get(HOST.as_str()).map_or(self.probe.service.as_str(), HeaderValue::as_str);
                    let stream = tls::start(stream, without_port(host), tls::Verify::Nothing).await?;
                    http::exchange(stream, request, read).await
                }
            }
        };
        let (status, body) = timeout(HTTP_TIMEOUT, exchange).await.map_err(|_| ProbeError::HttpTimedOut)??;
        if is_expected(status) {
            return Ok(());
        }
        Err(ProbeError::Status { path: http.path.clone(), status, detail: http::explanation(&body) })
    }

    /// Runs a command. Its last line explains a failure, from stderr if there is one.
    async fn run(
        &self,
        words: &Words,
        target: ExecTarget<'_>,
        variables: BTreeMap<String, String>,
    ) -> Result<(), ProbeError> {
        let command = Command { words, target, variables, limit: COMMAND_TIMEOUT };
        let mut last = LogLine { stderr: false, text: String::new() };
        let mut on_line = |line: LogLine| {
            if !line.text.trim().is_empty() && line.stderr >= last.stderr {
                last = line;
            }
        };
        let result = command::run(self.engine, &command, &CancellationToken::new(), &mut on_line).await;
        result.map_err(|error| ProbeError::Command { error, detail: last.text.trim().to_owned() })
    }

    /// Waits for a matching line of output since the container's last start. If the stream ends, the probe fails and is
    /// repeated.
    async fn match_log(&self, pattern: &Pattern) -> Result<(), ProbeError> {
        let container = connect::inspect(self.engine, &self.probe.container.id).await?;
        // Lines from before the last exit belong to the previous run. The start time would not do: the engine records it
        // when the program may already have written its first lines.
        let previous_exit = container.details.and_then(|details| details.finished_at.parse::<Timestamp>().ok());
        let since = previous_exit.map_or(0, Timestamp::as_second);
        let options = LogOptions { since, follow: true, timestamps: true, ..LogOptions::default() };
        let mut lines = self.engine.logs(&self.probe.container.id, options);
        while let Some(line) = lines.next().await {
            let line = line?;
            let (time, text) = split_timestamp(&line.text);
            // `since` is in whole seconds, so lines of the previous run may still be included.
            let old = time.zip(previous_exit).is_some_and(|(time, exit)| time < exit);
            if !old && pattern.is_match(text) {
                return Ok(());
            }
        }
        Err(ProbeError::NoMatch(pattern.as_str().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_executable_is_recognized() {
        let exited = |code| CommandError::Exited { program: "curl".into(), code };
        // 20.10, 25, crun.
        let runc = r#"OCI runtime exec failed: exec failed: unable to start container process: exec: "curl": executable file not found in $PATH: unknown"#;
        let crun = "OCI runtime exec failed: exec failed: executable file `curl` not found in $PATH: No such file or directory";
        for (code, detail) in [(126, runc), (127, runc), (127, crun)] {
            assert!(lacks_executable(&exited(code), detail), "{detail}");
        }
        let refused = EngineError::Refused { attempted: "run a command".into(), message: crun.into() };
        assert!(lacks_executable(&CommandError::Engine(refused), ""));
        for (code, detail) in [
            (1, runc),
            (127, "sh: curl: not found"),
            (
                126,
                r#"OCI runtime exec failed: exec failed: unable to start container process: exec: "/x": permission denied: unknown"#,
            ),
            (
                127,
                r#"OCI runtime exec failed: exec failed: unable to start container process: exec: "/x": stat /x: no such file or directory: unknown"#,
            ),
        ] {
            assert!(!lacks_executable(&exited(code), detail), "{detail}");
        }
    }
}
