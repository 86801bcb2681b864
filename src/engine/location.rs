//! Location of an engine relative to drillmaster: decides how ports of containers are reached.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{UnixStream, lookup_host};
use tokio::time::timeout;

use super::target::Endpoint;
use super::tls::host_of;
use crate::capabilities::EngineLocation;

/// Time limit of a name lookup.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(1);
/// Files that exist in containers of Docker and Podman.
const CONTAINER_MARKERS: [&str; 2] = ["/.dockerenv", "/run/.containerenv"];

/// Locates an engine. `virtual_network`: its containers have no addresses on its host, as with rootless engines and
/// Docker Desktop.
pub(super) async fn locate(endpoint: &Endpoint, virtual_network: bool) -> EngineLocation {
    match endpoint {
        Endpoint::Tcp(address) | Endpoint::Tls(address, _) => on_host(host_of(address)).await,
        Endpoint::Ssh(host) => on_host(&host.hostname().await).await,
        Endpoint::Unix(path) => {
            classify(peer(path).await, is_container(), virtual_network || cfg!(not(target_os = "linux")))
        }
    }
}

async fn on_host(host: &str) -> EngineLocation {
    match is_local(host).await {
        true => EngineLocation::Forwarded,
        false => EngineLocation::Remote(host.to_owned()),
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

/// Returns true in a container. The marker alone is not enough: virtual machines are made from images of containers.
fn is_container() -> bool {
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    CONTAINER_MARKERS.iter().any(|marker| Path::new(marker).exists()) && has_layered_root(&mounts())
}

/// Returns true if the root file system in a table as in `/proc/self/mountinfo` is made of image layers.
fn has_layered_root(mounts: &str) -> bool {
    let root = mounts.lines().rfind(|line| line.split(' ').nth(4) == Some("/"));
    let kind = root.and_then(|line| line.split_once(" - ")?.1.split(' ').next());
    kind.is_some_and(|kind| kind.contains("overlay"))
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
    let network = |process: &Path| std::fs::read_link(process.join("ns/net")).ok();
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    classify_network(threads.filter_map(|thread| network(&thread.path())), network(Path::new("/proc/self")))
}

/// Compares the network namespaces of a process's threads with ours. One that is the same decides: Podman leaves single
/// threads, also the first one, in networks of its containers.
fn classify_network(theirs: impl Iterator<Item = PathBuf>, ours: Option<PathBuf>) -> Peer {
    let theirs: Vec<PathBuf> = theirs.collect();
    match ours {
        Some(ours) if !theirs.is_empty() && !theirs.contains(&ours) => Peer::OtherNetwork,
        _ => Peer::Local,
    }
}

/// Returns true if a host name or address is that of this host: only its own addresses can be bound.
async fn is_local(host: &str) -> bool {
    let addresses = timeout(LOOKUP_TIMEOUT, lookup_host((host, 0))).await;
    let Ok(Ok(mut addresses)) = addresses else { return false };
    addresses.any(|address| UdpSocket::bind(address).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tcp_endpoints_name_the_host() {
        for (endpoint, expected) in [
            ("engine.invalid:2375", EngineLocation::Remote("engine.invalid".into())),
            ("203.0.113.7:2375", EngineLocation::Remote("203.0.113.7".into())),
            ("[2001:db8::7]:2375", EngineLocation::Remote("2001:db8::7".into())),
            ("127.0.0.1:2375", EngineLocation::Forwarded),
            ("[::1]:2375", EngineLocation::Forwarded),
            ("localhost:2375", EngineLocation::Forwarded),
        ] {
            assert_eq!(locate(&Endpoint::Tcp(endpoint.into()), false).await, expected, "{endpoint}");
        }
    }

    #[test]
    fn one_thread_in_the_same_network_decides() {
        let peer = |theirs: &[&str], ours: Option<&str>| {
            classify_network(theirs.iter().map(PathBuf::from), ours.map(PathBuf::from))
        };
        assert_eq!(peer(&["net:[2]", "net:[1]"], Some("net:[1]")), Peer::Local);
        assert_eq!(peer(&["net:[2]", "net:[3]"], Some("net:[1]")), Peer::OtherNetwork);
        // They may not be read.
        assert_eq!((peer(&[], Some("net:[1]")), peer(&["net:[2]"], None)), (Peer::Local, Peer::Local));
    }

    #[test]
    fn root_of_a_container_is_recognized() {
        let disk = "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n";
        let rest = "25 22 0:21 / /proc rw - proc proc rw\n26 22 0:22 / /srv rw - overlay overlay rw\n";
        let layers = "700 600 0:50 / / rw,relatime - overlay overlay rw,lowerdir=/var/lib/docker/a:/b\n";
        assert!(!has_layered_root(&format!("{disk}{rest}")) && !has_layered_root(""));
        assert!(has_layered_root(&format!("{layers}{rest}")));
        assert!(has_layered_root("700 600 0:50 / / rw - fuse.fuse-overlayfs fuse-overlayfs rw\n"));
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
