//! The engines that the simulation can imitate.

use std::time::Duration;

use super::Latency;
use drillmaster::capabilities::{ApiVersion, Capabilities, Cgroups, EngineKind, HealthChecks, ImageStore};

/// The engine that a simulation imitates. Each behaves as was seen of the real one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Personality {
    /// Docker 20.10.24.
    #[default]
    Docker20,
    /// Docker 28.5.2 with containerd's image store: `stop` comes before `die`, and network names are unique.
    Docker28,
    /// Podman 5.8.6 without systemd, as drillmaster sees it: that a container was stopped is known only when it has ended,
    /// and of earlier ends only by their exit codes; no event tells of the networks of a container that starts or ends;
    /// health checks never run; networks of stopped containers cannot be removed; network names are unique; an anonymous
    /// volume is removed with any container that mounts it.
    Podman,
}

impl Personality {
    /// What the engine says of itself.
    pub fn capabilities(self) -> Capabilities {
        let cgroups = Some(Cgroups { version: 1, driver: "cgroupfs".into() });
        let described = Capabilities { cgroups, ..Capabilities::default() };
        match self {
            Personality::Docker20 => Capabilities {
                version: "20.10.24".into(),
                api: ApiVersion(1, 41),
                health_checks: HealthChecks::WithoutStartInterval,
                parallel_stops: false,
                ..described
            },
            Personality::Docker28 => Capabilities {
                version: "28.5.2".into(),
                api: ApiVersion(1, 51),
                store: ImageStore::Containerd("overlayfs".into()),
                ..described
            },
            Personality::Podman => Capabilities {
                kind: EngineKind::Podman,
                version: "5.8.6".into(),
                api: ApiVersion(1, 44),
                store: ImageStore::Layers("overlay".into()),
                health_checks: HealthChecks::Never,
                ..described
            },
        }
    }

    pub(crate) fn runs_health_checks(self) -> bool {
        self.capabilities().health_checks != HealthChecks::Never
    }

    pub(crate) fn is_podman(self) -> bool {
        self == Personality::Podman
    }

    /// Two networks may have the same name.
    pub(crate) fn allows_equal_networks(self) -> bool {
        self == Personality::Docker20
    }

    /// How long its calls take. Podman reads its events from a file, and sends them later.
    pub fn latency(self) -> Latency {
        let event = Duration::from_millis(if self.is_podman() { 60 } else { 0 });
        Latency { event, ..Latency::default() }
    }

    /// How long it waits before a restart by policy after this number of restarts: Docker doubles the time with each one.
    pub(crate) fn restart_pause(self, restarts: u64) -> Duration {
        if self.is_podman() {
            return Duration::from_millis(500);
        }
        let doublings = u32::try_from(restarts.min(9)).unwrap_or(9);
        Duration::from_millis(100) * 2_u32.saturating_pow(doublings)
    }

    /// From the `stop` event of an exit to its `die` event; zero: only `die`.
    pub(crate) fn die_delay(self) -> Duration {
        match self {
            Personality::Docker28 => Duration::from_millis(2),
            Personality::Docker20 | Personality::Podman => Duration::ZERO,
        }
    }
}
