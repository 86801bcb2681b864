//! Pings: tries one until it answers. Says what it found; what that means is decided in `plan`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use futures_util::StreamExt;
use http_body_util::Empty;
use hyper::body::Bytes;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::engine::{Engine, LogOptions};
use crate::observed::Container;
use crate::plan::step::Probe;
use crate::spec::model::{Check, HttpCheck, Ping, Protocol};
use crate::spec::value::{Pattern, Words};

/// Bound of one try to connect.
const CONNECT: Duration = Duration::from_secs(2);
/// Bound of one HTTP exchange.
const EXCHANGE: Duration = Duration::from_secs(5);
/// Bound of one command, in the container or on the host.
const COMMAND: Duration = Duration::from_secs(30);

/// Where pings are made from.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Name of the group.
    pub group: String,
    /// The spec directory: where `run` commands start.
    pub directory: PathBuf,
    /// Whether addresses of containers can be reached; else their published ports are used.
    pub reaches_containers: bool,
}

/// Tries the ping until it answers; tells each new reason why it does not.
pub async fn until_answered(
    engine: &dyn Engine,
    probe: &Probe,
    surroundings: &Surroundings,
    mut unanswered: impl FnMut(String),
) {
    let mut last = String::new();
    let mut known = Known { address: probe.address, tries: 0 };
    loop {
        match attempt(engine, probe, surroundings, &mut known).await {
            Ok(()) => return,
            Err(why) => {
                if why != last {
                    last.clone_from(&why);
                    unanswered(why);
                }
            }
        }
        tokio::time::sleep(probe.ping.interval).await;
    }
}

/// Tries the ping of a running container once; the error says why it was not answered.
///
/// # Errors
///
/// Why, for people.
pub async fn once(engine: &dyn Engine, probe: &Probe, surroundings: &Surroundings) -> Result<(), String> {
    attempt(engine, probe, surroundings, &mut Known { address: probe.address, tries: 0 }).await
}

/// Where the container was found, so that it is not inspected for every try.
#[derive(Debug)]
struct Known {
    address: Option<IpAddr>,
    tries: u32,
}

/// After so many tries the container is inspected again: one that the engine restarted may have another address.
const TRIES_OF_AN_ADDRESS: u32 = 20;

/// One try; the error says why it was not answered.
async fn attempt(
    engine: &dyn Engine,
    probe: &Probe,
    surroundings: &Surroundings,
    known: &mut Known,
) -> Result<(), String> {
    let Ping { check, .. } = &probe.ping;
    match check {
        Check::Tcp(port) => connect(engine, probe, surroundings, known, *port).await.map(drop),
        Check::Http(http) => exchange(engine, probe, surroundings, known, http).await,
        Check::Exec(words) => {
            let outcome = timeout(COMMAND, engine.exec(&probe.container.id, words))
                .await
                .map_err(|_| format!("{} did not end within {} s", words[0], COMMAND.as_secs()))?
                .map_err(|error| error.to_string())?;
            verdict(&words[0], Some(outcome.code), &outcome.output)
        }
        Check::Run(words) => run(probe, surroundings, words).await,
        Check::Log(pattern) => log(engine, probe, pattern).await,
    }
}

/// Connects to a port of the container. Where only its published port can be reached, a proxy accepts for it before
/// it listens, so the connection has to last as well.
async fn connect(
    engine: &dyn Engine,
    probe: &Probe,
    surroundings: &Surroundings,
    known: &mut Known,
    port: u16,
) -> Result<TcpStream, String> {
    known.tries += 1;
    let fresh = known.address.filter(|_| !known.tries.is_multiple_of(TRIES_OF_AN_ADDRESS));
    let address = match fresh.filter(|_| surroundings.reaches_containers) {
        Some(address) => SocketAddr::new(address, port),
        None => address(&inspect(engine, probe).await?, surroundings, port)?,
    };
    known.address = Some(address.ip());
    let stream = match timeout(CONNECT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(format!("{address}: {}", words_of(&error))),
        Err(_) => return Err(format!("{address}: no answer within {} s", CONNECT.as_secs())),
    };
    if !surroundings.reaches_containers {
        let mut byte = [0];
        if let Ok(Ok(0) | Err(_)) = timeout(Duration::from_millis(50), stream.peek(&mut byte)).await {
            return Err(format!("{address}: the connection was closed at once"));
        }
    }
    Ok(stream)
}

async fn inspect(engine: &dyn Engine, probe: &Probe) -> Result<Container, String> {
    engine
        .inspect(&probe.container.id)
        .await
        .map_err(|error| error.to_string())?
        .ok_or_else(|| "its container is gone".to_owned())
}

fn address(container: &Container, surroundings: &Surroundings, port: u16) -> Result<SocketAddr, String> {
    if surroundings.reaches_containers {
        let address: Option<IpAddr> = container.networks.iter().find_map(|attachment| attachment.address);
        return address
            .map(|address| SocketAddr::new(address, port))
            .ok_or_else(|| "its container has no address yet".to_owned());
    }
    container
        .ports
        .iter()
        .find(|published| published.container == port && published.protocol == Protocol::Tcp)
        .map(|published| {
            let address = match published.address {
                IpAddr::V4(address) if address.is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
                address => address,
            };
            SocketAddr::new(address, published.host)
        })
        .ok_or_else(|| {
            format!("port {port} of a container of this engine can only be reached from here where it is published: add it to `ports`")
        })
}

async fn exchange(
    engine: &dyn Engine,
    probe: &Probe,
    surroundings: &Surroundings,
    known: &mut Known,
    http: &HttpCheck,
) -> Result<(), String> {
    let stream = connect(engine, probe, surroundings, known, http.port).await?;
    let request = hyper::Request::get(&http.path)
        .header(hyper::header::HOST, format!("{}:{}", probe.service, http.port))
        .header(hyper::header::USER_AGENT, "drillmaster")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let exchange = async {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        let response = sender.send_request(request);
        tokio::pin!(response);
        // The connection is driven only as long as it takes to see the status.
        let response = tokio::select! {
            // cancel-safe because the exchange is given up as a whole
            response = &mut response => response,
            // cancel-safe for the same reason
            // Whoever closes right after the answer ends the connection before the answer is taken.
            _ = connection => response.await,
        };
        response.map_err(|error| match error.is_canceled() {
            true => "the connection was closed without an answer".to_owned(),
            false => error.to_string(),
        })
    };
    let response =
        timeout(EXCHANGE, exchange).await.map_err(|_| format!("no answer within {} s", EXCHANGE.as_secs()))??;
    let status = response.status();
    let good = match http.status {
        Some(wanted) => status.as_u16() == wanted,
        None => status.is_success() || status.is_redirection(),
    };
    if good { Ok(()) } else { Err(format!("GET {} was answered with {status}", http.path)) }
}

async fn run(probe: &Probe, surroundings: &Surroundings, words: &Words) -> Result<(), String> {
    let mut command = tokio::process::Command::new(&words[0]);
    command
        .args(&words[1..])
        .current_dir(&surroundings.directory)
        .env("DRILLMASTER_GROUP", &surroundings.group)
        .env("DRILLMASTER_SERVICE", &probe.service)
        .env("DRILLMASTER_CONTAINER", &probe.container.id)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let child = command.spawn().map_err(|error| format!("{}: {}", words[0], words_of(&error)))?;
    // Its children are in its process group: whatever is left of it goes with it.
    let _group = child.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed())).map(ProcessGroup);
    let output = timeout(COMMAND, child.wait_with_output())
        .await
        .map_err(|_| format!("{} did not end within {} s", words[0], COMMAND.as_secs()))?
        .map_err(|error| format!("{}: {}", words[0], words_of(&error)))?;
    let text = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
    verdict(&words[0], output.status.code().map(i64::from), &String::from_utf8_lossy(text))
}

/// Kills a process group when it is dropped.
struct ProcessGroup(rustix::process::Pid);

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        // It may be gone already, which is what is wanted.
        let _ = rustix::process::kill_process_group(self.0, rustix::process::Signal::KILL);
    }
}

/// Waits for a matching line of the output since the container's start. A stream that ends is looked at again.
async fn log(engine: &dyn Engine, probe: &Probe, pattern: &Pattern) -> Result<(), String> {
    let container = inspect(engine, probe).await?;
    // What the run before wrote lies before its end. The start is no such mark: the engine notes it when the program
    // may already have written its first lines.
    let ended = container.details.and_then(|details| humantime::parse_rfc3339(&details.finished_at).ok());
    let since = ended.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    let since = since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or_default());
    let options = LogOptions { since, follow: true, timestamps: true, ..LogOptions::default() };
    let mut lines = engine.logs(&probe.container.id, options);
    while let Some(line) = lines.next().await {
        let line = line.map_err(|error| error.to_string())?;
        let (time, text) = match line.text.split_once(' ') {
            Some((time, text)) => (humantime::parse_rfc3339(time).ok(), text),
            None => (None, line.text.as_str()),
        };
        let text = if time.is_some() { text } else { &line.text };
        // The engine takes whole seconds: a line of the run before may be among them.
        let old = time.zip(ended).is_some_and(|(time, ended)| time < ended);
        if !old && pattern.is_match(text) {
            return Ok(());
        }
    }
    Err(format!("no line of its output matches {:?}", pattern.as_str()))
}

/// What an exit code says about a ping; its last line of output explains a failure.
fn verdict(program: &str, code: Option<i64>, output: &str) -> Result<(), String> {
    let last = output.lines().rev().find(|line| !line.trim().is_empty()).map(str::trim);
    let said = last.map(|line| format!(": {line}")).unwrap_or_default();
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(format!("{program} exited with {code}{said}")),
        None => Err(format!("{program} was killed{said}")),
    }
}

/// `connection refused`, not `Connection refused (os error 111)`.
fn words_of(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut characters = text.chars();
    characters.next().map(|first| first.to_lowercase().chain(characters).collect()).unwrap_or_default()
}
