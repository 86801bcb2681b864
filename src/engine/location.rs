//! Location of an engine relative to drillmaster: decides how ports of containers are reached.

use std::path::Path;

use tokio::net::UnixStream;

use super::target::Endpoint;

/// Files that exist in containers of Docker and Podman.
const CONTAINER_MARKERS: [&str; 2] = ["/.dockerenv", "/run/.containerenv"];

/// Where an engine runs, seen from drillmaster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineLocation {
    /// In the network namespace of drillmaster, as far as is known: containers have addresses that can be reached. A
    /// socket that is forwarded from another host looks the same.
    Here,
    /// Behind a local forwarder (rootless, or a virtual machine): published ports are reached on the loopback address.
    Forwarded,
    /// On the host of the container, or outside of the network namespace, that drillmaster runs in.
    Outside,
    /// On this host, which a TCP endpoint names.
    Remote(String),
}

/// Locates an engine. `virtual_network`: its containers have no addresses on its host, as with rootless engines and
/// Docker Desktop.
pub(super) async fn locate(endpoint: &Endpoint, virtual_network: bool) -> EngineLocation {
    match endpoint {
        Endpoint::Tcp(authority) => {
            let host = authority.rsplit_once(':').map_or(authority.as_str(), |(host, _)| host).trim_matches(['[', ']']);
            match is_loopback(host) {
                true => EngineLocation::Forwarded,
                false => EngineLocation::Remote(host.to_owned()),
            }
        }
        Endpoint::Unix(path) => {
            let in_container = CONTAINER_MARKERS.iter().any(|marker| Path::new(marker).exists());
            classify(peer(path).await, in_container, virtual_network || cfg!(not(target_os = "linux")))
        }
    }
}

/// Process that serves a unix socket, as the kernel reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Peer {
    /// In another process namespace, from which this one was created.
    Invisible,
    /// In another network namespace.
    OtherNetwork,
    /// In the same network namespace, or unknown.
    Local,
}

fn classify(peer: Peer, in_container: bool, virtual_network: bool) -> EngineLocation {
    match (peer, virtual_network) {
        (Peer::Invisible, _) => EngineLocation::Outside,
        // The socket of a virtual machine may be served by a forwarder in this container.
        (Peer::Local, true) if in_container => EngineLocation::Outside,
        (_, true) => EngineLocation::Forwarded,
        (Peer::OtherNetwork, false) => EngineLocation::Outside,
        (Peer::Local, false) if in_container => EngineLocation::Outside,
        (Peer::Local, false) => EngineLocation::Here,
    }
}

async fn peer(path: &Path) -> Peer {
    let connected = UnixStream::connect(path).await;
    let Some(pid) = connected.ok().and_then(|stream| stream.peer_cred().ok()?.pid()) else { return Peer::Local };
    if pid == 0 {
        return Peer::Invisible;
    }
    // Other users' namespaces may not be read.
    let network = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net")).ok();
    match (network(&pid.to_string()), network("self")) {
        (Some(theirs), Some(ours)) if theirs != ours => Peer::OtherNetwork,
        _ => Peer::Local,
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tcp_endpoints_name_the_host() {
        for (endpoint, expected) in [
            ("docker:2375", EngineLocation::Remote("docker".into())),
            ("10.0.0.9:2375", EngineLocation::Remote("10.0.0.9".into())),
            ("[fd00::1]:2375", EngineLocation::Remote("fd00::1".into())),
            ("127.0.0.1:2375", EngineLocation::Forwarded),
            ("[::1]:2375", EngineLocation::Forwarded),
            ("localhost:2375", EngineLocation::Forwarded),
        ] {
            assert_eq!(locate(&Endpoint::Tcp(endpoint.into()), false).await, expected, "{endpoint}");
        }
    }

    #[test]
    fn sockets_are_located_by_their_peer() {
        use EngineLocation::{Forwarded, Here, Outside};
        for (peer, in_container, virtual_network, expected) in [
            (Peer::Local, false, false, Here),
            (Peer::Local, false, true, Forwarded),
            (Peer::Local, true, false, Outside),
            (Peer::Local, true, true, Outside),
            (Peer::Invisible, true, false, Outside),
            (Peer::Invisible, true, true, Outside),
            (Peer::OtherNetwork, false, false, Outside),
            // A rootless engine has a network namespace of its own.
            (Peer::OtherNetwork, false, true, Forwarded),
        ] {
            assert_eq!(classify(peer, in_container, virtual_network), expected, "{peer:?} {in_container}");
        }
    }
}
