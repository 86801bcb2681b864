//! Routes to containers: what this run has learned about reaching their addresses, and at which addresses published ports
//! can be reached instead.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout};

use crate::capabilities::EngineLocation;
use crate::observed::{Attachment, Container, PublishedPort, State};

/// Minimum time between two observations that confirm each other.
pub(super) const CONFIRM_AFTER: Duration = Duration::from_millis(500);
/// How long a network counts as unreachable before it is tried directly again.
const BLOCKED_FOR: Duration = Duration::from_secs(60);
/// Time limit of a name lookup.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(1);
/// Name of the engine's host in containers of Docker Desktop, and where it is set as an extra host.
const ENGINE_HOST: &str = "host.docker.internal";

/// Routes to the containers of one engine, shared by all probes and functions of a run. Clones are cheap.
#[derive(Debug, Clone)]
pub struct Routes(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    location: EngineLocation,
    known: Mutex<Known>,
    hosts: OnceCell<Hosts>,
}

#[derive(Debug, Default)]
struct Known {
    /// Addresses of containers that accepted or refused a connection.
    answered: HashSet<IpAddr>,
    /// Networks that cannot be reached directly.
    blocked: HashMap<Subnet, Blocked>,
    /// Observations that need confirmation.
    suspicions: HashMap<(Obstacle, String), Suspicion>,
}

#[derive(Debug)]
struct Blocked {
    since: Instant,
    reason: String,
}

/// What prevents a connection to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Obstacle {
    Network,
    Publishing,
}

/// An observation of a container in one life.
#[derive(Debug)]
struct Suspicion {
    started_at: String,
    address: Option<IpAddr>,
    since: Instant,
}

/// An address range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Subnet {
    address: IpAddr,
    prefix: u8,
}

impl Subnet {
    fn of(address: IpAddr, prefix: u8) -> Subnet {
        let address = match address {
            IpAddr::V4(address) => {
                let host_bits = 32_u32.saturating_sub(prefix.into());
                Ipv4Addr::from_bits(address.to_bits() & u32::MAX.checked_shl(host_bits).unwrap_or(0)).into()
            }
            address => address,
        };
        Subnet { address, prefix }
    }

    fn contains(self, address: IpAddr) -> bool {
        Subnet::of(address, self.prefix) == self
    }
}

/// The kernel's route to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KernelRoute {
    /// There is none.
    Missing,
    /// An interface of this network namespace is in the network.
    Link,
    Gateway,
}

impl Default for Routes {
    fn default() -> Self {
        Routes::new(EngineLocation::Here)
    }
}

impl Routes {
    /// Routes to containers of an engine at this location. Nothing is known yet.
    pub fn new(location: EngineLocation) -> Routes {
        Routes(Arc::new(Shared { location, known: Mutex::default(), hosts: OnceCell::new() }))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns true if containers may be reachable at their own address.
    pub(super) fn may_be_direct(&self) -> bool {
        matches!(self.0.location, EngineLocation::Here | EngineLocation::Outside)
    }

    /// Returns true if published ports are served by a local forwarder.
    pub(super) fn is_forwarded(&self) -> bool {
        self.0.location == EngineLocation::Forwarded
    }

    /// Returns true if only a forwarder can make a published port available at these addresses.
    pub(super) fn need_forwarder(&self, published: &[&PublishedPort], addresses: &[SocketAddr]) -> bool {
        match self.0.location {
            EngineLocation::Here => addresses.iter().all(|address| address.ip().is_loopback()),
            EngineLocation::Outside => published.iter().all(|port| port.address.is_loopback()),
            EngineLocation::Forwarded | EngineLocation::Remote(_) => false,
        }
    }

    /// Why the network of this address cannot be reached directly, if that is known.
    pub(super) fn blocked(&self, address: IpAddr) -> Option<String> {
        let mut known = self.known();
        known.blocked.retain(|_, blocked| blocked.since.elapsed() < BLOCKED_FOR);
        known.blocked.iter().find(|(subnet, _)| subnet.contains(address)).map(|(_, blocked)| blocked.reason.clone())
    }

    /// Records that a container accepted or refused a connection: its network is reachable for the rest of the run.
    pub(super) fn record_answer(&self, address: IpAddr) {
        self.known().answered.insert(address);
    }

    /// Records that a connection to the address of a container was not answered. Returns true if that is because its
    /// network cannot be reached from here, not because the container is slow, restarts or drops packets.
    pub(super) fn record_silence(&self, container: &Container, address: IpAddr, reason: &str) -> bool {
        let attachment = container.networks.iter().find(|attachment| attachment.address == Some(address));
        // Otherwise it was restarted, and the address is that of its previous life.
        let Some(Attachment { prefix: Some(prefix), .. }) = attachment else { return false };
        let subnet = Subnet::of(address, *prefix);
        if self.known().answered.iter().any(|answered| subnet.contains(*answered)) {
            return false;
        }
        // The kernel of a container resolves its address even if the container drops packets.
        if kernel_route(address, subnet) == KernelRoute::Link && !is_unresolved(address) {
            return false;
        }
        let is_confirmed = self.confirm(Obstacle::Network, container, CONFIRM_AFTER);
        if is_confirmed {
            let blocked = Blocked { since: Instant::now(), reason: reason.to_owned() };
            self.known().blocked.insert(subnet, blocked);
            tracing::debug!(%address, reason, "network of the container is not reachable from here");
        }
        is_confirmed
    }

    /// Returns true if the same was observed at least `after` ago, and the container has been running since then.
    pub(super) fn confirm(&self, obstacle: Obstacle, container: &Container, after: Duration) -> bool {
        let key = (obstacle, container.id.to_string());
        let started_at = container.details.as_ref().map(|details| details.started_at.clone()).unwrap_or_default();
        let address = container.networks.iter().find_map(|attachment| attachment.address);
        let mut known = self.known();
        if container.state != State::Running {
            known.suspicions.remove(&key);
            return false;
        }
        let new = Suspicion { started_at, address, since: Instant::now() };
        match known.suspicions.get(&key) {
            Some(old) if old.started_at == new.started_at && old.address == new.address => old.since.elapsed() >= after,
            _ => {
                known.suspicions.insert(key, new);
                false
            }
        }
    }

    /// Drops an observation that no longer holds.
    pub(super) fn clear(&self, obstacle: Obstacle, container: &Container) {
        self.known().suspicions.remove(&(obstacle, container.id.to_string()));
    }

    /// Addresses at which a published port can be reached from here, the most likely first.
    pub(super) async fn addresses(&self, published: &[&PublishedPort]) -> Vec<SocketAddr> {
        let hosts = self.0.hosts.get_or_init(|| Hosts::find(&self.0.location)).await;
        let mut found = Vec::new();
        for port in published {
            for host in hosts.of(port.address) {
                let address = SocketAddr::new(host, port.host);
                if !found.contains(&address) {
                    found.push(address);
                }
            }
        }
        found
    }
}

/// Addresses of the engine's host, seen from here.
#[derive(Debug)]
enum Hosts {
    /// Its loopback address is the one here.
    Local,
    /// Other addresses than its loopback address.
    Remote(Vec<IpAddr>),
    /// It runs the container or network namespace that drillmaster runs in.
    Outside {
        gateway: Option<IpAddr>,
        /// Addresses that Docker Desktop forwards to the loopback address of its host.
        named: Vec<IpAddr>,
    },
}

impl Hosts {
    async fn find(location: &EngineLocation) -> Hosts {
        match location {
            EngineLocation::Here | EngineLocation::Forwarded => Hosts::Local,
            EngineLocation::Remote(host) => Hosts::Remote(lookup(host).await),
            EngineLocation::Outside => {
                let table = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
                let gateway = default_gateway(&table).map(IpAddr::from);
                let mut named = lookup(ENGINE_HOST).await;
                // Without Docker Desktop, the name is set to the gateway, where nothing is forwarded.
                named.retain(|address| Some(*address) != gateway);
                Hosts::Outside { gateway, named }
            }
        }
    }

    /// Where a port is reached that is published on this address of the engine's host.
    fn of(&self, published: IpAddr) -> Vec<IpAddr> {
        if !published.is_unspecified() && !published.is_loopback() {
            return vec![published];
        }
        match self {
            Hosts::Local if published.is_loopback() => vec![published],
            Hosts::Local if published.is_ipv6() => vec![Ipv6Addr::LOCALHOST.into()],
            Hosts::Local => vec![Ipv4Addr::LOCALHOST.into()],
            Hosts::Remote(_) if published.is_loopback() => Vec::new(),
            Hosts::Remote(addresses) => addresses.clone(),
            Hosts::Outside { named, .. } if published.is_loopback() => named.clone(),
            Hosts::Outside { gateway, named } => gateway.iter().chain(named).copied().collect(),
        }
    }
}

async fn lookup(host: &str) -> Vec<IpAddr> {
    match timeout(LOOKUP_TIMEOUT, lookup_host((host, 0))).await {
        Ok(Ok(addresses)) => addresses.map(|address| address.ip()).collect(),
        Ok(Err(_)) | Err(_) => Vec::new(),
    }
}

/// The default gateway in a table as in `/proc/net/route`, whose addresses are in the byte order of the host.
fn default_gateway(table: &str) -> Option<Ipv4Addr> {
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, "00000000", gateway, ..] = fields.as_slice() else { return None };
        let gateway = u32::from_str_radix(gateway, 16).ok()?;
        (gateway != 0).then(|| Ipv4Addr::from(gateway.to_ne_bytes()))
    })
}

/// The kernel's route to an address. Connecting a UDP socket sends nothing.
fn kernel_route(address: IpAddr, subnet: Subnet) -> KernelRoute {
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let source = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((address, 9))?;
        socket.local_addr()
    });
    match source {
        Ok(source) if subnet.contains(source.ip()) => KernelRoute::Link,
        Ok(_) => KernelRoute::Gateway,
        Err(_) => KernelRoute::Missing,
    }
}

/// Returns true if no host has answered for an address on a local network.
fn is_unresolved(address: IpAddr) -> bool {
    let table = std::fs::read_to_string("/proc/net/arp").unwrap_or_default();
    is_unresolved_in(&table, address)
}

/// Returns true if the entry of an address in a table as in `/proc/net/arp` is not complete.
fn is_unresolved_in(table: &str, address: IpAddr) -> bool {
    let address = address.to_string();
    table.lines().skip(1).any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        matches!(fields.as_slice(), [ip, _, "0x0", ..] if *ip == address)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::{Details, Health};

    /// TEST-NET-3, which is never local.
    const ELSEWHERE: [u8; 4] = [203, 0, 113, 7];

    fn container(address: impl Into<IpAddr>, started_at: &str) -> Container {
        let network = Attachment {
            network_id: "n".into(),
            network: "shop".into(),
            address: Some(address.into()),
            prefix: Some(24),
        };
        Container {
            id: "1".into(),
            name: "shop-api".into(),
            identity: None,
            inherited: None,
            compose: None,
            image: String::new(),
            image_id: String::new(),
            state: State::Running,
            health: Health::None,
            network_mode: String::new(),
            networks: vec![network],
            ports: Vec::new(),
            mounts: Vec::new(),
            created: 0,
            details: Some(Details { started_at: started_at.into(), ..Details::default() }),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_twice_in_one_life_blocks_the_network() {
        let routes = Routes::default();
        let address = IpAddr::from(ELSEWHERE);
        let silent = |container: &Container| routes.record_silence(container, address, "timed out");
        assert!(!silent(&container(address, "1")), "the first observation needs another one");
        assert!(!silent(&container(address, "1")), "too early");
        tokio::time::advance(CONFIRM_AFTER).await;
        assert!(!silent(&container(address, "2")), "it was restarted");
        assert!(!silent(&Container { state: State::Restarting, ..container(address, "2") }), "it does not run");
        assert!(!silent(&container([203, 0, 113, 8], "2")), "it has another address");
        assert!(!silent(&container(address, "2")));
        assert_eq!(routes.blocked(address), None);
        tokio::time::advance(CONFIRM_AFTER).await;
        assert!(silent(&container(address, "2")));
        assert_eq!(routes.blocked([203, 0, 113, 99].into()).as_deref(), Some("timed out"), "the whole network");
        assert_eq!(routes.blocked([203, 0, 114, 7].into()), None);
        tokio::time::advance(BLOCKED_FOR).await;
        assert_eq!(routes.blocked(address), None, "tried again");
    }

    #[tokio::test(start_paused = true)]
    async fn answer_of_a_neighbor_proves_the_route() {
        let routes = Routes::default();
        let address = IpAddr::from(ELSEWHERE);
        routes.record_answer([203, 0, 113, 250].into());
        for _ in 0..3 {
            assert!(!routes.record_silence(&container(address, "1"), address, "timed out"));
            tokio::time::advance(CONFIRM_AFTER).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn local_container_that_drops_packets_is_reachable() {
        // The loopback network has no address resolution.
        let routes = Routes::default();
        let address = IpAddr::from(Ipv4Addr::LOCALHOST);
        for _ in 0..3 {
            assert!(!routes.record_silence(&container(address, "1"), address, "timed out"));
            tokio::time::advance(CONFIRM_AFTER).await;
        }
    }

    #[test]
    fn published_ports_are_reached_at_the_engines_host() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let outside = Hosts::Outside { gateway: Some(address("172.17.0.1")), named: vec![address("192.168.65.254")] };
        let remote = Hosts::Remote(vec![address("10.0.0.9")]);
        for (hosts, published, expected) in [
            (&Hosts::Local, "0.0.0.0", vec!["127.0.0.1"]),
            (&Hosts::Local, "127.0.0.2", vec!["127.0.0.2"]),
            (&Hosts::Local, "::", vec!["::1"]),
            (&Hosts::Local, "10.1.2.3", vec!["10.1.2.3"]),
            (&outside, "0.0.0.0", vec!["172.17.0.1", "192.168.65.254"]),
            (&outside, "127.0.0.1", vec!["192.168.65.254"]),
            (&outside, "10.1.2.3", vec!["10.1.2.3"]),
            (&remote, "0.0.0.0", vec!["10.0.0.9"]),
            (&remote, "127.0.0.1", vec![]),
            (&remote, "10.1.2.3", vec!["10.1.2.3"]),
        ] {
            let expected: Vec<IpAddr> = expected.into_iter().map(address).collect();
            assert_eq!(hosts.of(address(published)), expected, "{hosts:?} {published}");
        }
    }

    #[test]
    fn default_gateway_is_read_from_the_table() {
        let head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n";
        let gateway = u32::from_ne_bytes([172, 17, 0, 1]);
        let table =
            format!("{head}eth0\t000011AC\t00000000\t0001\neth0\t00000000\t{gateway:08X}\t0003\t0\t0\t0\t00000000\n");
        assert_eq!(default_gateway(&table), Some(Ipv4Addr::new(172, 17, 0, 1)));
        assert_eq!(default_gateway(head), None);
    }

    #[test]
    fn incomplete_neighbors_are_unresolved() {
        let table = "IP address       HW type     Flags       HW address            Mask     Device\n\
                     172.18.0.2       0x1         0x2         02:42:ac:12:00:02     *        br-1\n\
                     172.18.0.3       0x1         0x0         00:00:00:00:00:00     *        br-1\n";
        assert!(!is_unresolved_in(table, [172, 18, 0, 2].into()));
        assert!(is_unresolved_in(table, [172, 18, 0, 3].into()));
        assert!(!is_unresolved_in(table, [172, 18, 0, 4].into()));
    }

    #[test]
    fn subnets_contain_their_addresses() {
        let subnet = Subnet::of([172, 18, 5, 9].into(), 16);
        assert!(subnet.contains([172, 18, 0, 1].into()) && !subnet.contains([172, 19, 0, 1].into()));
        assert!(Subnet::of([1, 2, 3, 4].into(), 0).contains([9, 9, 9, 9].into()));
    }
}
