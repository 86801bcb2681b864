//! From here to a port of a container: straight to its address, or through the port that is published for it. What is
//! said there is for others to say.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::command::io_message;
use super::outputs::OutputStore;
use crate::engine::Engine;
use crate::observed::Container;
use crate::spec::model::Protocol;

/// Bound of one try to connect.
const CONNECT: Duration = Duration::from_secs(2);
/// Where pings and hooks are made from.
#[derive(Debug, Clone)]
pub struct ExecContext {
    /// Name of the group.
    pub group: String,
    /// The spec directory: where `run` commands start.
    pub directory: PathBuf,
    /// Whether addresses of containers can be reached; else their published ports are used.
    pub reaches_containers: bool,
    /// Outputs of the group, which functions can read.
    pub context: OutputStore,
}

/// Connects to a port of a container that is looked up.
pub(super) async fn connect(
    engine: &dyn Engine,
    id: &str,
    surroundings: &ExecContext,
    port: u16,
) -> Result<TcpStream, String> {
    connect_addr(address(&inspect(engine, id).await?, surroundings, port)?, surroundings).await
}

/// Connects to an address. Where only a published port can be reached, a proxy accepts for the container before it
/// listens, so the connection has to last as well.
pub(super) async fn connect_addr(address: SocketAddr, surroundings: &ExecContext) -> Result<TcpStream, String> {
    let stream = match timeout(CONNECT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(format!("{address}: {}", io_message(&error))),
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

/// The container, as it is now.
pub(super) async fn inspect(engine: &dyn Engine, id: &str) -> Result<Container, String> {
    engine.inspect(id).await.map_err(|error| error.to_string())?.ok_or_else(|| "its container is gone".to_owned())
}

/// Where a port of a container can be reached.
pub(super) fn address(container: &Container, surroundings: &ExecContext, port: u16) -> Result<SocketAddr, String> {
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
