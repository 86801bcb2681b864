//! What an engine says of itself, converted.

use bollard::models::{SystemInfo, SystemInfoCgroupDriverEnum, SystemInfoCgroupVersionEnum};

use crate::capabilities::{
    ApiVersion, Capabilities, Cgroups, EngineKind, EngineLocation, HealthChecks, ImageStore, LimitSupport,
    stops_in_parallel,
};

/// `start_interval` of health checks came with this version (Docker 25.0); earlier ones refuse or ignore it.
pub const START_INTERVAL: ApiVersion = ApiVersion(1, 44);

/// Engines with earlier versions ignore the hardware address of an endpoint, and take that of the container.
pub const ENDPOINT_MAC_ADDRESS: ApiVersion = ApiVersion(1, 44);

/// Returns true if containers have no addresses on the host of the engine, as with rootless engines and Docker Desktop.
pub fn has_virtual_network(info: &SystemInfo) -> bool {
    let virtual_machine = info.operating_system.as_deref().is_some_and(|name| name.contains("Docker Desktop"));
    is_rootless(info) || virtual_machine
}

fn is_rootless(info: &SystemInfo) -> bool {
    info.security_options.iter().flatten().any(|option| option.contains("name=rootless"))
}

/// What an engine is and can do. What it does not mention, it can.
pub fn capabilities(kind: EngineKind, api: ApiVersion, info: &SystemInfo, location: EngineLocation) -> Capabilities {
    let version = info.server_version.as_deref().unwrap_or_default();
    let part = |part: &Option<String>| part.clone().unwrap_or_else(|| "unknown".into());
    let driver = match info.cgroup_driver {
        Some(SystemInfoCgroupDriverEnum::SYSTEMD) => Some("systemd"),
        Some(SystemInfoCgroupDriverEnum::CGROUPFS) => Some("cgroupfs"),
        Some(SystemInfoCgroupDriverEnum::NONE) => Some("none"),
        _ => None,
    };
    let generation = match info.cgroup_version {
        Some(SystemInfoCgroupVersionEnum::_2) => Some(2),
        Some(SystemInfoCgroupVersionEnum::_1) => Some(1),
        _ => None,
    };
    let health_checks = match kind {
        EngineKind::Podman if driver.is_some_and(|driver| driver != "systemd") => HealthChecks::Never,
        _ if api < START_INTERVAL => HealthChecks::WithoutStartInterval,
        _ => HealthChecks::Run,
    };
    let is_containerd = info.driver_status.iter().flatten().flatten().any(|value| value.starts_with("io.containerd."));
    Capabilities {
        kind,
        version: version.to_owned(),
        api,
        platform: format!("{}/{}", part(&info.os_type), part(&info.architecture)),
        store: match is_containerd {
            true => ImageStore::Containerd(part(&info.driver)),
            false => ImageStore::Layers(part(&info.driver)),
        },
        rootless: is_rootless(info),
        cgroups: generation.map(|version| Cgroups { version, driver: driver.unwrap_or("unknown").to_owned() }),
        limits: LimitSupport {
            memory: info.memory_limit.unwrap_or(true),
            cpus: info.cpu_cfs_quota.unwrap_or(true),
            pids: info.pids_limit.unwrap_or(true),
            swap: info.swap_limit.unwrap_or(true),
            cpu_shares: info.cpu_shares.unwrap_or(true),
            cpuset: info.cpu_set.unwrap_or(true),
        },
        location,
        health_checks,
        parallel_stops: kind == EngineKind::Podman || stops_in_parallel(version),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(kind: EngineKind, version: &str, api: ApiVersion, info: &str) -> Capabilities {
        let info: SystemInfo = serde_json::from_str(info).unwrap();
        let info = SystemInfo { server_version: Some(version.to_owned()), ..info };
        capabilities(kind, api, &info, EngineLocation::Here)
    }

    #[test]
    fn engines_are_described() {
        // As the engines of Debian 12 and of Debian unstable describe themselves.
        let old = described(
            EngineKind::Docker,
            "20.10.24+dfsg1",
            ApiVersion(1, 41),
            r#"{"Driver": "overlay2", "DriverStatus": [["Backing Filesystem", "extfs"]], "CgroupDriver": "cgroupfs",
                "CgroupVersion": "1", "OSType": "linux", "Architecture": "x86_64", "MemoryLimit": true,
                "CpuCfsQuota": true, "PidsLimit": true, "SecurityOptions": ["name=seccomp,profile=default"]}"#,
        );
        let cgroups = Some(Cgroups { version: 1, driver: "cgroupfs".into() });
        let expected = Capabilities {
            version: "20.10.24+dfsg1".into(),
            api: ApiVersion(1, 41),
            cgroups: cgroups.clone(),
            health_checks: HealthChecks::WithoutStartInterval,
            parallel_stops: false,
            ..Capabilities::default()
        };
        assert_eq!(old, expected);
        let new = described(
            EngineKind::Docker,
            "28.5.2+dfsg4",
            ApiVersion(1, 51),
            r#"{"Driver": "overlayfs", "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]]}"#,
        );
        assert_eq!((new.store, new.cgroups), (ImageStore::Containerd("overlayfs".into()), None));
        assert!(new.parallel_stops && new.limits == LimitSupport::default() && new.health_checks == HealthChecks::Run);
        let podman = described(
            EngineKind::Podman,
            "5.8.6",
            ApiVersion(1, 44),
            r#"{"Driver": "overlay", "CgroupDriver": "cgroupfs", "CgroupVersion": "1", "PidsLimit": false,
                "SecurityOptions": ["name=seccomp,profile=default", "name=rootless"]}"#,
        );
        assert_eq!((podman.health_checks, podman.cgroups), (HealthChecks::Never, cgroups));
        assert!(podman.rootless && podman.parallel_stops && !podman.limits.pids);
    }

    #[test]
    fn podman_runs_health_checks_with_systemd() {
        let info = r#"{"CgroupDriver": "systemd", "CgroupVersion": "2"}"#;
        let podman = described(EngineKind::Podman, "5.8.6", ApiVersion(1, 44), info);
        assert_eq!(podman.health_checks, HealthChecks::Run);
    }
}
