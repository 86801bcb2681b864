//! Pings: tries one until it answers. Says what it found; what that means is decided in `plan`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt;
use http_body_util::Full;
use jiff::Timestamp;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::command::{self, Command, ExecTarget};
use super::connect::{self, ExecContext};
use super::{functions, http};
use crate::engine::{Engine, LogLine, LogOptions};
use crate::identity::service_of_instance;
use crate::plan::step::Probe;
use crate::spec::model::{Check, HttpCheck, Ping};
use crate::spec::starlark::{CallContext, Function};
use crate::spec::value::{Pattern, Words};

/// Bound of one HTTP exchange.
const EXCHANGE: Duration = Duration::from_secs(5);
/// Bound of one command, in the container or on the host.
const COMMAND: Duration = Duration::from_secs(30);

/// Tries the ping until it answers; tells each new reason why it does not.
pub async fn until_answered(
    engine: &dyn Engine,
    probe: &Probe,
    surroundings: &ExecContext,
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
pub async fn once(engine: &dyn Engine, probe: &Probe, surroundings: &ExecContext) -> Result<(), String> {
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
    surroundings: &ExecContext,
    known: &mut Known,
) -> Result<(), String> {
    let Ping { check, .. } = &probe.ping;
    match check {
        Check::Tcp(port) => connect(engine, probe, surroundings, known, *port).await.map(drop),
        Check::Http(http) => exchange(engine, probe, surroundings, known, http).await,
        Check::Exec(words) => run(engine, words, ExecTarget::Container(&probe.container.id), BTreeMap::new()).await,
        Check::Run(words) => {
            let replica = probe.replica.map(|number| number.to_string());
            let variables = [
                (command::GROUP, Some(surroundings.group.as_str())),
                (command::SERVICE, Some(service_of_instance(&probe.service, probe.replica))),
                (command::REPLICA, replica.as_deref()),
                (command::CONTAINER, Some(probe.container.id.as_str())),
            ];
            let variables =
                variables.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
            let variables = variables.collect();
            run(engine, words, ExecTarget::Host(&surroundings.directory), variables).await
        }
        Check::Log(pattern) => log(engine, probe, pattern).await,
        Check::Function(function) => called(engine, probe, surroundings, function).await,
    }
}

/// Calls a function, which has to return `True`. What it prints explains why it does not.
async fn called(
    engine: &dyn Engine,
    probe: &Probe,
    surroundings: &ExecContext,
    function: &Function,
) -> Result<(), String> {
    let about = CallContext {
        group: surroundings.group.clone(),
        service: service_of_instance(&probe.service, probe.replica).to_owned(),
        replica: probe.replica,
        event: "ping".to_owned(),
        context: surroundings.context.values(),
        container: probe.container.id.to_string(),
        container_name: probe.container.name.clone(),
        ..CallContext::default()
    };
    let mut last = String::new();
    let mut heard = |line: LogLine| last = line.text;
    let call = functions::Call { function, about, limit: COMMAND };
    let ended = functions::call(engine, call, surroundings, &CancellationToken::new(), &mut heard).await;
    let name = function.name();
    match ended.map_err(|failed| failed.why)?.returned {
        Ok(true) => Ok(()),
        Ok(false) if last.is_empty() => Err(format!("{name} returned False")),
        Ok(false) => Err(format!("{name} returned False: {last}")),
        Err(kind) => Err(format!("{name} returned a value of type {kind}, and not True or False")),
    }
}

/// Connects to a port of the container.
async fn connect(
    engine: &dyn Engine,
    probe: &Probe,
    surroundings: &ExecContext,
    known: &mut Known,
    port: u16,
) -> Result<TcpStream, String> {
    known.tries += 1;
    let fresh = known.address.filter(|_| !known.tries.is_multiple_of(TRIES_OF_AN_ADDRESS));
    let address = match fresh.filter(|_| surroundings.reaches_containers) {
        Some(address) => SocketAddr::new(address, port),
        None => connect::address(&connect::inspect(engine, &probe.container.id).await?, surroundings, port)?,
    };
    known.address = Some(address.ip());
    connect::connect_addr(address, surroundings).await
}

async fn exchange(
    engine: &dyn Engine,
    probe: &Probe,
    surroundings: &ExecContext,
    known: &mut Known,
    http: &HttpCheck,
) -> Result<(), String> {
    let stream = connect(engine, probe, surroundings, known, http.port).await?;
    let request = hyper::Request::get(&http.path)
        .header(hyper::header::HOST, format!("{}:{}", probe.service, http.port))
        .body(Full::default())
        .map_err(|error| error.to_string())?;
    let (status, _) = timeout(EXCHANGE, http::exchange(stream, request, 0))
        .await
        .map_err(|_| format!("no answer within {} s", EXCHANGE.as_secs()))??;
    let good = match http.status {
        Some(wanted) => status.as_u16() == wanted,
        None => status.is_success() || status.is_redirection(),
    };
    if good { Ok(()) } else { Err(format!("GET {} was answered with {status}", http.path)) }
}

/// Runs a command; its last line explains a failure, from the error stream where there is one.
async fn run(
    engine: &dyn Engine,
    words: &Words,
    place: ExecTarget<'_>,
    variables: BTreeMap<String, String>,
) -> Result<(), String> {
    let command = Command { words, place, variables, limit: COMMAND };
    let mut last = LogLine { stderr: false, text: String::new() };
    let mut heard = |line: LogLine| {
        if !line.text.trim().is_empty() && line.stderr >= last.stderr {
            last = line;
        }
    };
    let ended = command::run(engine, &command, &CancellationToken::new(), &mut heard).await;
    let said = last.text.trim();
    ended.map_err(|why| if said.is_empty() { why } else { format!("{why}: {said}") })
}

/// Waits for a matching line of the output since the container's start. A stream that ends is looked at again.
async fn log(engine: &dyn Engine, probe: &Probe, pattern: &Pattern) -> Result<(), String> {
    let container = connect::inspect(engine, &probe.container.id).await?;
    // What the run before wrote lies before its end. The start is no such mark: the engine notes it when the program
    // may already have written its first lines.
    let ended = container.details.and_then(|details| details.finished_at.parse::<Timestamp>().ok());
    let since = ended.map_or(0, Timestamp::as_second);
    let options = LogOptions { since, follow: true, timestamps: true, ..LogOptions::default() };
    let mut lines = engine.logs(&probe.container.id, options);
    while let Some(line) = lines.next().await {
        let line = line.map_err(|error| error.to_string())?;
        let (time, text) = match line.text.split_once(' ') {
            Some((time, text)) => (time.parse::<Timestamp>().ok(), text),
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
