//! Connections to container ports: directly to the container's address, or through the published port.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::context::ExecContext;
use crate::engine::{Engine, EngineError, io_message};
use crate::observed::Container;
use crate::spec::model::Protocol;

/// Time limit of one connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a connection to a published port must last to count.
const PROXY_CLOSE_TIME: Duration = Duration::from_millis(50);

/// Failure to connect to a port of a container.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("{address}: {reason}")]
    Failed { address: SocketAddr, reason: String },
    #[error("{address}: timed out after {} s", CONNECT_TIMEOUT.as_secs())]
    TimedOut { address: SocketAddr },
    #[error("{0}: connection closed immediately")]
    Closed(SocketAddr),
    #[error("container not found")]
    NoContainer,
    #[error("the container has no address yet")]
    NoAddress,
    #[error("containers of this engine are only reachable through published ports: add {0} to `ports`")]
    NotPublished(u16),
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Inspects a container and connects to one of its ports.
pub(super) async fn connect(
    engine: &dyn Engine,
    id: &str,
    context: &ExecContext,
    port: u16,
) -> Result<TcpStream, ConnectError> {
    connect_addr(address(&inspect(engine, id).await?, context, port)?, context).await
}

/// Connects to an address. A published port is served by a proxy, which accepts before the container listens and then
/// closes: such a connection must also last for [`PROXY_CLOSE_TIME`].
pub(super) async fn connect_addr(address: SocketAddr, context: &ExecContext) -> Result<TcpStream, ConnectError> {
    let stream = match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(ConnectError::Failed { address, reason: io_message(&error) }),
        Err(_) => return Err(ConnectError::TimedOut { address }),
    };
    if !context.reaches_containers {
        let mut byte = [0];
        if let Ok(Ok(0) | Err(_)) = timeout(PROXY_CLOSE_TIME, stream.peek(&mut byte)).await {
            return Err(ConnectError::Closed(address));
        }
    }
    Ok(stream)
}

/// Inspects a container that must exist.
pub(super) async fn inspect(engine: &dyn Engine, id: &str) -> Result<Container, ConnectError> {
    engine.inspect(id).await?.ok_or(ConnectError::NoContainer)
}

/// The address at which a port of a container is reachable.
pub(super) fn address(container: &Container, context: &ExecContext, port: u16) -> Result<SocketAddr, ConnectError> {
    if context.reaches_containers {
        let address: Option<IpAddr> = container.networks.iter().find_map(|attachment| attachment.address);
        return address.map(|address| SocketAddr::new(address, port)).ok_or(ConnectError::NoAddress);
    }
    let published =
        container.ports.iter().find(|published| published.container == port && published.protocol == Protocol::Tcp);
    let published = published.ok_or(ConnectError::NotPublished(port))?;
    let address = match published.address {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        address => address,
    };
    Ok(SocketAddr::new(address, published.host))
}
