//! What an engine is and can do: described by the engine, asked once, and then data for the planner, the simulation and
//! `drillmaster doctor`.

use std::fmt;
use std::str::FromStr;

use crate::spec::model::Resources;
use crate::spec::value::Microseconds;

/// What an engine is and can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// The program behind the API.
    pub kind: EngineKind,
    /// Its version, e.g. `20.10.24+dfsg1`.
    pub version: String,
    /// The version of the Docker API that both sides support.
    pub api: ApiVersion,
    /// Operating system and processor of its containers, in its own words, e.g. `linux/x86_64`.
    pub platform: String,
    /// Where it keeps images.
    pub store: ImageStore,
    /// It runs without root's rights.
    pub rootless: bool,
    /// Its control groups; `None`: it does not say.
    pub cgroups: Option<Cgroups>,
    /// The limits of resources that it applies; it ignores others.
    pub limits: LimitSupport,
    /// Where it runs, seen from drillmaster: decides how ports of containers are reached.
    pub location: EngineLocation,
    /// Whether it runs health checks, and how often.
    pub health_checks: HealthChecks,
    /// Several containers may be stopped at the same time.
    pub parallel_stops: bool,
}

/// The program behind the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EngineKind {
    #[default]
    Docker,
    Podman,
}

/// A version of the Docker API: major and minor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion(pub u32, pub u32);

/// Where an engine keeps images. Decides what an image id is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageStore {
    /// Its own store, with this storage driver. An id is the digest of an image's configuration.
    Layers(String),
    /// containerd's, with this snapshotter. An id is the digest of a manifest or an index.
    Containerd(String),
}

/// Control groups of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroups {
    /// 1 or 2.
    pub version: u8,
    /// Who manages them: `systemd`, `cgroupfs` or `none`.
    pub driver: String,
}

/// Limits of resources that an engine applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitSupport {
    /// Memory, and its reservation.
    pub memory: bool,
    /// Quotas of CPU time.
    pub cpus: bool,
    pub pids: bool,
    /// Memory and swap together.
    pub swap: bool,
    /// Weights of CPU time.
    pub cpu_shares: bool,
    /// Processors and memory nodes.
    pub cpuset: bool,
}

/// Support of health checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HealthChecks {
    /// They never run: Podman leaves their timers to systemd.
    Never,
    /// They run, but `start_interval` has no effect: it came with API 1.44 (Docker 25.0).
    WithoutStartInterval,
    /// They run.
    Run,
}

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
    /// On another host, which the endpoint names.
    Remote(String),
}

impl Default for Capabilities {
    /// A current Docker engine in the same network namespace, which supports everything.
    fn default() -> Self {
        Capabilities {
            kind: EngineKind::Docker,
            version: String::new(),
            api: ApiVersion(1, 51),
            platform: "linux/x86_64".into(),
            store: ImageStore::Layers("overlay2".into()),
            rootless: false,
            cgroups: Some(Cgroups { version: 2, driver: "systemd".into() }),
            limits: LimitSupport::default(),
            location: EngineLocation::Here,
            health_checks: HealthChecks::Run,
            parallel_stops: true,
        }
    }
}

impl Capabilities {
    /// Returns true if a container can be created on several networks at once.
    pub fn joins_several_networks(&self) -> bool {
        self.kind == EngineKind::Podman || self.api >= ApiVersion(1, 44)
    }
}

impl Default for LimitSupport {
    fn default() -> Self {
        LimitSupport { memory: true, cpus: true, pids: true, swap: true, cpu_shares: true, cpuset: true }
    }
}

impl LimitSupport {
    /// The limits of a container as far as they can differ from those of its spec: what the engine ignores counts as set.
    pub fn effective(&self, present: &Resources, wanted: &Resources) -> Resources {
        fn either<T: Clone>(applies: bool, present: &Option<T>, wanted: &Option<T>) -> Option<T> {
            if applies { present.clone() } else { wanted.clone() }
        }
        // Podman reports a limit of CPU time in both forms.
        let (cpus, quota) = match (&present.cpus, &present.cpu_quota) {
            (Some(_), Some(_)) => (wanted.cpus.is_some(), wanted.cpus.is_none()),
            _ => (true, true),
        };
        let of_quota = |time: &Option<Microseconds>| time.filter(|_| quota);
        Resources {
            memory: either(self.memory, &present.memory, &wanted.memory),
            cpus: either(self.cpus, &present.cpus.filter(|_| cpus), &wanted.cpus),
            pids: either(self.pids, &present.pids, &wanted.pids),
            memory_reservation: either(self.memory, &present.memory_reservation, &wanted.memory_reservation),
            memory_swap: either(self.memory && self.swap, &present.memory_swap, &wanted.memory_swap),
            cpu_shares: either(self.cpu_shares, &present.cpu_shares, &wanted.cpu_shares),
            cpuset: either(self.cpuset, &present.cpuset, &wanted.cpuset),
            cpuset_mems: either(self.cpuset, &present.cpuset_mems, &wanted.cpuset_mems),
            cpu_period: either(self.cpus, &of_quota(&present.cpu_period), &wanted.cpu_period),
            cpu_quota: either(self.cpus, &of_quota(&present.cpu_quota), &wanted.cpu_quota),
            cpu_rt_period: present.cpu_rt_period,
            cpu_rt_runtime: present.cpu_rt_runtime,
        }
    }

    /// The fields of these limits that the engine ignores.
    pub fn ignored(&self, wanted: &Resources) -> Vec<&'static str> {
        let fields = [
            ("memory", self.memory, wanted.memory.is_some()),
            ("cpus", self.cpus, wanted.cpus.is_some()),
            ("pids", self.pids, wanted.pids.is_some()),
            ("memory_reservation", self.memory, wanted.memory_reservation.is_some()),
            ("memory_swap", self.memory && self.swap, wanted.memory_swap.is_some()),
            ("cpu_shares", self.cpu_shares, wanted.cpu_shares.is_some()),
            ("cpuset", self.cpuset, wanted.cpuset.is_some()),
            ("cpuset_mems", self.cpuset, wanted.cpuset_mems.is_some()),
            ("cpu_period", self.cpus, wanted.cpu_period.is_some()),
            ("cpu_quota", self.cpus, wanted.cpu_quota.is_some()),
        ];
        fields.into_iter().filter(|(_, supported, wanted)| !supported && *wanted).map(|(field, ..)| field).collect()
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EngineKind::Docker => "Docker",
            EngineKind::Podman => "Podman",
        })
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// The text is not `MAJOR.MINOR`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an API version")]
pub struct NoApiVersion;

impl ApiVersion {
    /// The first release of Docker with this version; `None` if it is older than 23.0.
    pub fn docker(self) -> Option<&'static str> {
        const RELEASES: [(ApiVersion, &str); 11] = [
            (ApiVersion(1, 42), "23.0"),
            (ApiVersion(1, 43), "24.0"),
            (ApiVersion(1, 44), "25.0"),
            (ApiVersion(1, 45), "26.0"),
            (ApiVersion(1, 46), "27.0"),
            (ApiVersion(1, 47), "27.2"),
            (ApiVersion(1, 48), "28.0"),
            (ApiVersion(1, 49), "28.1"),
            (ApiVersion(1, 50), "28.2"),
            (ApiVersion(1, 51), "28.3"),
            (ApiVersion(1, 52), "29.0"),
        ];
        RELEASES.iter().find(|(api, _)| *api == self).map(|(_, release)| *release)
    }
}

impl FromStr for ApiVersion {
    type Err = NoApiVersion;

    fn from_str(text: &str) -> Result<Self, NoApiVersion> {
        let (major, minor) = text.split_once('.').ok_or(NoApiVersion)?;
        Ok(ApiVersion(major.parse().map_err(|_| NoApiVersion)?, minor.parse().map_err(|_| NoApiVersion)?))
    }
}

/// Returns true if containers of an engine of this version may be stopped in parallel. Before 20.10.27, two that leave one
/// network at the same moment can deadlock the engine's networking until it is restarted (moby/moby#46661): one holds the
/// network's lock and waits for the controller's, the other the reverse. With both windows widened, every way of stopping
/// in parallel hung within three teardowns; one at a time never did in 47. An unparsable version counts as old.
pub fn stops_in_parallel(version: &str) -> bool {
    let mut parts = version.split(['.', '+', '-', '~']).map(|part| part.parse::<u32>().ok());
    let mut next = || parts.next().flatten();
    match (next(), next(), next()) {
        (Some(major), Some(minor), patch) => (major, minor, patch.unwrap_or_default()) >= (20, 10, 27),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::model::MemorySwap;

    #[test]
    fn only_old_engines_stop_containers_sequentially() {
        let table = [
            ("20.10.24+dfsg1", false),
            ("20.10.26", false),
            ("20.10.27", true),
            ("19.03.15", false),
            ("23.0.0", true),
            ("26.1.5+dfsg1", true),
            ("28.0.0-rc.1", true),
            ("29", false),
            ("dev", false),
        ];
        for (version, expected) in table {
            assert_eq!(stops_in_parallel(version), expected, "{version}");
        }
    }

    #[test]
    fn ignored_limits_do_not_differ() {
        let wanted = Resources {
            memory: "64m".parse().ok(),
            cpus: "0.5".parse().ok(),
            pids: Some(64),
            cpuset: "0".parse().ok(),
            memory_swap: Some(MemorySwap::Unlimited),
            ..Resources::default()
        };
        let present = Resources { pids: Some(32), ..Resources::default() };
        let all = LimitSupport::default();
        assert_eq!((all.effective(&present, &wanted), all.ignored(&wanted)), (present.clone(), Vec::new()));
        let some = LimitSupport { memory: false, cpus: false, cpuset: false, ..all };
        assert_eq!(some.effective(&present, &wanted), Resources { pids: Some(32), ..wanted.clone() });
        assert_eq!(some.ignored(&wanted), ["memory", "cpus", "memory_swap", "cpuset"]);
        assert!(some.ignored(&present).is_empty());
        let no_swap = LimitSupport { swap: false, ..all };
        assert_eq!(no_swap.ignored(&wanted), ["memory_swap"]);
    }

    #[test]
    fn limit_of_cpu_time_that_is_reported_twice_is_one() {
        let time = |number| Some(Microseconds::new(number));
        let cpus = Resources { cpus: "0.5".parse().ok(), ..Resources::default() };
        let quota = Resources { cpu_period: time(100_000), cpu_quota: time(50_000), ..Resources::default() };
        let both = Resources { cpus: cpus.cpus, ..quota.clone() };
        for wanted in [cpus, quota] {
            assert_eq!(LimitSupport::default().effective(&both, &wanted), wanted);
        }
    }

    #[test]
    fn api_versions_are_ordered_by_number() {
        assert!("1.9".parse::<ApiVersion>().unwrap() < ApiVersion(1, 41));
        assert_eq!("1.44".parse::<ApiVersion>().unwrap().to_string(), "1.44");
        assert!("1".parse::<ApiVersion>().is_err() && "1.x".parse::<ApiVersion>().is_err());
    }
}
