//! Connections to container ports: directly to the container's address, or through the published port.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::context::ExecContext;
use super::listening::{Listening, listening};
use super::routes::{CONFIRM_AFTER, Obstacle};
use crate::engine::{Engine, EngineError, io_message};
use crate::observed::{Container, PublishedPort};
use crate::spec::model::Protocol;

/// Time limit of one connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a connection to a published port must last to count.
const PROXY_CLOSE_TIME: Duration = Duration::from_millis(50);
/// The same for a forwarder, where no program in the container can tell what listens.
const FORWARDER_CLOSE_TIME: Duration = Duration::from_secs(1);
/// How long a forwarder may need until it listens on a published port.
const FORWARD_TIMEOUT: Duration = Duration::from_secs(30);

/// What works without a connection to the container.
const ALTERNATIVES: &str = "use an `exec` or `log` ping";

/// Failure to connect to a port of a container.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("{address}: {reason}")]
    Failed { address: SocketAddr, reason: String, kind: io::ErrorKind },
    #[error("{address}: timed out after {} s", CONNECT_TIMEOUT.as_secs())]
    TimedOut { address: SocketAddr },
    #[error("{0}: connection closed immediately")]
    Closed(SocketAddr),
    #[error("container not found")]
    NoContainer,
    #[error("the container has no address yet")]
    NoAddress,
    #[error("nothing listens on port {0} in the container")]
    NotListening(u16),
    /// The published port does not answer yet.
    #[error("{error} (published port{})", instead_of(*direct))]
    Published { error: Box<ConnectError>, direct: Option<SocketAddr> },
    /// The port cannot be reached from here. `is_confirmed`: another attempt would fail too.
    #[error("{message}")]
    Unreachable { message: String, is_confirmed: bool },
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl ConnectError {
    /// Returns true if another attempt would fail too.
    pub(super) fn is_permanent(&self) -> bool {
        matches!(self, ConnectError::Unreachable { is_confirmed: true, .. })
    }

    /// The reason without the address.
    fn reason(&self) -> String {
        match self {
            ConnectError::Failed { reason, .. } => reason.clone(),
            ConnectError::TimedOut { .. } => format!("timed out after {} s", CONNECT_TIMEOUT.as_secs()),
            error => error.to_string(),
        }
    }

    /// Returns true if nothing at the address has answered.
    fn is_silence(&self) -> bool {
        use io::ErrorKind::{HostUnreachable, NetworkDown, NetworkUnreachable, TimedOut};
        match self {
            ConnectError::Failed { kind, .. } => {
                matches!(kind, HostUnreachable | NetworkDown | NetworkUnreachable | TimedOut)
            }
            ConnectError::TimedOut { .. } => true,
            _ => false,
        }
    }

    fn is_refusal(&self) -> bool {
        matches!(self, ConnectError::Failed { kind: io::ErrorKind::ConnectionRefused, .. })
    }
}

fn instead_of(direct: Option<SocketAddr>) -> String {
    direct.map_or_else(String::new, |direct| format!("; the container's address {direct} is not reachable from here"))
}

/// Connects to a port of a container. `known` is its address, if known; it is updated.
pub(super) async fn connect(
    engine: &dyn Engine,
    id: &str,
    known: &mut Option<IpAddr>,
    port: u16,
    context: &ExecContext,
) -> Result<TcpStream, ConnectError> {
    let routes = &context.routes;
    let address = match known.filter(|_| routes.may_be_direct()) {
        Some(address) => address,
        None => {
            let container = network_owner(engine, id).await?;
            if container.has_network_of_host() {
                return connect_host(port, context).await;
            }
            if !routes.may_be_direct() {
                return connect_published(&container, port, None, context).await;
            }
            let address = container.networks.iter().find_map(|attachment| attachment.address);
            *known.insert(address.ok_or(ConnectError::NoAddress)?)
        }
    };
    let direct = SocketAddr::new(address, port);
    if let Some(reason) = routes.blocked(address) {
        return connect_published(&network_owner(engine, id).await?, port, Some((direct, reason)), context).await;
    }
    let error = match dial(direct).await {
        Ok(stream) => {
            routes.record_answer(address);
            return Ok(stream);
        }
        Err(error) => error,
    };
    if error.is_refusal() {
        routes.record_answer(address);
    }
    if !error.is_silence() {
        return Err(error);
    }
    let container = network_owner(engine, id).await?;
    if !container.networks.iter().any(|attachment| attachment.address == Some(address)) {
        // It was restarted with another address.
        *known = None;
    }
    let reason = error.reason();
    match routes.record_silence(&container, address, &reason) {
        true => connect_published(&container, port, Some((direct, reason)), context).await,
        false => Err(error),
    }
}

/// Checks that a port of a container accepts connections. A forwarder may accept them before the container listens, and
/// rootless Podman's closes them only after 200 ms (seen with 5.8.6): what is behind it is looked up in the container.
pub(super) async fn accepts(
    engine: &dyn Engine,
    id: &str,
    known: &mut Option<IpAddr>,
    port: u16,
    context: &ExecContext,
) -> Result<(), ConnectError> {
    let stream = connect(engine, id, known, port, context).await?;
    if !context.routes.is_forwarded() {
        return Ok(());
    }
    let container = network_owner(engine, id).await?;
    let address = container.networks.iter().find_map(|attachment| attachment.address);
    match listening(engine, id, address, port).await {
        Ok(Listening::Yes) => Ok(()),
        Ok(Listening::No | Listening::LoopbackOnly) => Err(ConnectError::NotListening(port)),
        Ok(Listening::Unknown) | Err(_) => match stream.peer_addr() {
            Ok(address) => lasts(&stream, address, FORWARDER_CLOSE_TIME).await,
            Err(_) => Err(ConnectError::NotListening(port)),
        },
    }
}

/// Checks that a connection is not closed within this time.
async fn lasts(stream: &TcpStream, address: SocketAddr, time: Duration) -> Result<(), ConnectError> {
    let mut byte = [0];
    match timeout(time, stream.peek(&mut byte)).await {
        Ok(Ok(0) | Err(_)) => Err(ConnectError::Closed(address)),
        _ => Ok(()),
    }
}

async fn dial(address: SocketAddr) -> Result<TcpStream, ConnectError> {
    match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(ConnectError::Failed { address, reason: io_message(&error), kind: error.kind() }),
        Err(_) => Err(ConnectError::TimedOut { address }),
    }
}

/// Connects to a port of a container that has the network of the engine's host.
async fn connect_host(port: u16, context: &ExecContext) -> Result<TcpStream, ConnectError> {
    let address = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let listening = PublishedPort { address, host: port, container: port, protocol: Protocol::Tcp };
    let mut error = ConnectError::Unreachable {
        message: format!("the address of the engine's host is not known here: {ALTERNATIVES}"),
        is_confirmed: true,
    };
    for address in context.routes.addresses(&[&listening]).await {
        match dial(address).await {
            Ok(stream) => return Ok(stream),
            Err(failed) => error = failed,
        }
    }
    Err(error)
}

/// Connects to a published port. It is served by a proxy, which accepts before the container listens and then closes: the
/// connection must also last for [`PROXY_CLOSE_TIME`].
async fn dial_proxy(address: SocketAddr) -> Result<TcpStream, ConnectError> {
    let stream = dial(address).await?;
    lasts(&stream, address, PROXY_CLOSE_TIME).await?;
    Ok(stream)
}

/// Connects to a port through the engine's host. `direct`: the address of the container, and why it is not reachable.
async fn connect_published(
    container: &Container,
    port: u16,
    direct: Option<(SocketAddr, String)>,
    context: &ExecContext,
) -> Result<TcpStream, ConnectError> {
    let routes = &context.routes;
    let is_wanted = |it: &&PublishedPort| it.container == port && it.protocol == Protocol::Tcp;
    let published: Vec<&PublishedPort> = container.ports.iter().filter(is_wanted).collect();
    let addresses = routes.addresses(&published).await;
    let mut errors = Vec::new();
    for address in &addresses {
        match dial_proxy(*address).await {
            Ok(stream) => {
                routes.clear(Obstacle::Publishing, container);
                return Ok(stream);
            }
            Err(error) => errors.push(error),
        }
    }
    let reason = match (published.first(), addresses.is_empty()) {
        (None, _) => format!("port {port} is not published: publish it (`ports`), or {ALTERNATIVES}"),
        (Some(published), true) if published.address.is_loopback() => format!(
            "port {port} is published only on {} of the engine's host: publish it on another address \
             (\"0.0.0.0:{}:{port}\" in `ports`), or {ALTERNATIVES}",
            published.address, published.host
        ),
        (Some(published), true) => format!(
            "the address of the engine's host, which publishes port {port} as {}, is not known here: {ALTERNATIVES}",
            published.host
        ),
        (Some(_), false) => {
            let tried: Vec<String> = errors.iter().map(ToString::to_string).collect();
            format!("neither is the published port ({}): forward it, or {ALTERNATIVES}", tried.join("; "))
        }
    };
    let is_silent = errors.iter().all(ConnectError::is_silence);
    // A forwarder opens its ports some time after the container has started. Elsewhere, a port without a proxy is refused
    // until the container listens.
    let is_closed = routes.need_forwarder(&published, &addresses)
        && errors.iter().all(|error| error.is_silence() || error.is_refusal());
    let after = if is_silent { CONFIRM_AFTER } else { FORWARD_TIMEOUT };
    let is_confirmed = match is_silent || is_closed {
        true => routes.confirm(Obstacle::Publishing, container, after),
        false => {
            routes.clear(Obstacle::Publishing, container);
            false
        }
    };
    if is_confirmed || errors.is_empty() {
        let message = match direct {
            Some((direct, why)) => {
                format!("{direct}: {why}: the network of the container is not reachable from here, and {reason}")
            }
            None => format!("containers of this engine are only reachable through published ports, and {reason}"),
        };
        return Err(ConnectError::Unreachable { message, is_confirmed });
    }
    let answer = errors.iter().position(|error| !error.is_silence()).unwrap_or(0);
    let error = Box::new(errors.swap_remove(answer));
    Err(ConnectError::Published { error, direct: direct.map(|(address, _)| address) })
}

/// Inspects the container whose network a container has: itself, or another one.
async fn network_owner(engine: &dyn Engine, id: &str) -> Result<Container, ConnectError> {
    let mut container = inspect(engine, id).await?;
    // The engine rejects cycles, and a container of a container's network.
    while let Some(owner) = container.network_owner() {
        container = inspect(engine, owner).await?;
    }
    Ok(container)
}

/// Inspects a container that must exist.
pub(super) async fn inspect(engine: &dyn Engine, id: &str) -> Result<Container, ConnectError> {
    engine.inspect(id).await?.ok_or(ConnectError::NoContainer)
}
