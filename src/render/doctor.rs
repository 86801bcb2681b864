//! An engine: what it is and can do, as the table of `doctor`, and JSON.

use serde_json::{Value, json};

use super::{Text, table};
use crate::capabilities::{EngineKind, EngineLocation, HealthChecks, ImageStore, LimitSupport};
use crate::engine::EngineInfo;

/// The engine that `doctor` describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Its endpoint.
    pub endpoint: String,
    /// What names the endpoint, e.g. `DOCKER_HOST`.
    pub origin: String,
    /// As it describes itself.
    pub info: EngineInfo,
    /// It builds with BuildKit instead of the classic builder.
    pub buildkit: bool,
}

/// What the engine is and can do, one property per line.
pub fn table(report: &Report) -> Text {
    let can = &report.info.capabilities;
    let store = match &can.store {
        ImageStore::Layers(driver) => format!("the engine's own store ({driver})"),
        ImageStore::Containerd(snapshotter) => format!("containerd's store ({snapshotter})"),
    };
    let cgroups = can.cgroups.as_ref().map_or_else(
        || "unknown".to_owned(),
        |cgroups| format!("version {}, managed by {}", cgroups.version, cgroups.driver),
    );
    let containers = match &can.location {
        EngineLocation::Here => "at their own addresses".to_owned(),
        EngineLocation::Forwarded => "through published ports of this machine".to_owned(),
        EngineLocation::Outside => "through published ports of the host, or in a shared network".to_owned(),
        EngineLocation::Remote(host) => format!("through published ports of {host}"),
    };
    let health_checks = match can.health_checks {
        HealthChecks::Run => "run",
        HealthChecks::WithoutStartInterval => "run, without `start_interval`",
        HealthChecks::Never => "do not run",
    };
    let rows = [
        ("engine", format!("{} {}", can.kind, can.version)),
        ("endpoint", format!("{} ({})", report.endpoint, report.origin)),
        ("API", can.api.to_string()),
        ("platform", can.platform.clone()),
        ("privileges", if can.rootless { "rootless" } else { "root" }.to_owned()),
        ("images", store),
        ("builds", if report.buildkit { "BuildKit" } else { "classic builder" }.to_owned()),
        ("control groups", cgroups),
        ("limits", limits(can.limits)),
        ("health checks", health_checks.to_owned()),
        ("pings", containers),
        (
            "stops",
            if can.parallel_stops { "several containers at a time" } else { "one container at a time" }.to_owned(),
        ),
    ];
    table::table(["PROPERTY", "VALUE"], rows.map(|(name, value)| [name.to_owned(), value]).to_vec(), |_, _| None)
}

fn limits(limits: LimitSupport) -> String {
    let known = [
        ("memory", limits.memory),
        ("cpus", limits.cpus),
        ("pids", limits.pids),
        ("swap", limits.swap),
        ("cpu_shares", limits.cpu_shares),
        ("cpuset", limits.cpuset),
    ];
    let supported: Vec<&str> = known.into_iter().filter(|(_, supported)| *supported).map(|(name, _)| name).collect();
    if supported.is_empty() { "none".to_owned() } else { supported.join(", ") }
}

/// What restricts drillmaster on this engine, and what helps.
pub fn warnings(report: &Report) -> Vec<String> {
    let can = &report.info.capabilities;
    let mut warnings = Vec::new();
    let mut warn = |applies: bool, text: &str| {
        if applies {
            warnings.push(text.to_owned());
        }
    };
    warn(
        !can.parallel_stops,
        "containers are stopped one after another: this engine can deadlock otherwise (moby/moby#46661, fixed in \
         Docker 20.10.27)",
    );
    warn(
        can.health_checks == HealthChecks::Never,
        "health checks do not run: Podman leaves them to systemd; use a `ping`",
    );
    warn(
        can.health_checks == HealthChecks::WithoutStartInterval,
        "`healthcheck.start_interval` has no effect: it needs Docker 25.0 (API 1.44)",
    );
    warn(
        can.limits != LimitSupport::default(),
        "some limits have no effect: the engine's control groups do not support them (a rootless engine needs \
         version 2, and controllers delegated to it)",
    );
    warn(
        matches!(can.location, EngineLocation::Remote(_)),
        "directories of this machine cannot be mounted: the engine is on another host",
    );
    warn(can.kind == EngineKind::Podman, "Podman works with restrictions, which its page in the documentation lists");
    let own = report.info.warnings.iter().map(|text| text.strip_prefix("WARNING: ").unwrap_or(text));
    warnings.extend(own.map(|text| format!("the engine says: {text}")));
    warnings
}

/// The JSON of `doctor`.
pub fn to_json(report: &Report) -> Value {
    let can = &report.info.capabilities;
    let (store, driver) = match &can.store {
        ImageStore::Layers(driver) => ("layers", driver),
        ImageStore::Containerd(driver) => ("containerd", driver),
    };
    let (reached, host) = match &can.location {
        EngineLocation::Here => ("addresses", None),
        EngineLocation::Forwarded => ("loopback", None),
        EngineLocation::Outside => ("outside", None),
        EngineLocation::Remote(host) => ("remote", Some(host)),
    };
    let health_checks = match can.health_checks {
        HealthChecks::Run => "run",
        HealthChecks::WithoutStartInterval => "run_without_start_interval",
        HealthChecks::Never => "never",
    };
    json!({
        "engine": can.kind.to_string().to_lowercase(),
        "version": can.version,
        "id": report.info.id,
        "endpoint": report.endpoint,
        "origin": report.origin,
        "api": can.api.to_string(),
        "platform": can.platform,
        "rootless": can.rootless,
        "images": { "store": store, "driver": driver },
        "builder": if report.buildkit { "buildkit" } else { "classic" },
        "cgroups": can.cgroups.as_ref().map(|groups| json!({ "version": groups.version, "driver": groups.driver })),
        "limits": { "memory": can.limits.memory, "cpus": can.limits.cpus, "pids": can.limits.pids,
            "swap": can.limits.swap, "cpu_shares": can.limits.cpu_shares, "cpuset": can.limits.cpuset },
        "health_checks": health_checks,
        "containers": { "reached": reached, "host": host },
        "parallel_stops": can.parallel_stops,
        "warnings": warnings(report),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capabilities::{ApiVersion, Capabilities, Cgroups};

    fn report(capabilities: Capabilities) -> Report {
        Report {
            endpoint: "unix:///var/run/docker.sock".into(),
            origin: "default".into(),
            info: EngineInfo { id: "1".into(), capabilities, warnings: vec!["WARNING: No swap limit support".into()] },
            buildkit: false,
        }
    }

    #[test]
    fn restrictions_are_named() {
        let current = report(Capabilities { version: "28.5.2".into(), ..Capabilities::default() });
        assert_eq!(warnings(&current), ["the engine says: No swap limit support"]);
        let limited = report(Capabilities {
            kind: EngineKind::Podman,
            api: ApiVersion(1, 44),
            rootless: true,
            cgroups: Some(Cgroups { version: 1, driver: "cgroupfs".into() }),
            limits: LimitSupport {
                memory: false,
                cpus: false,
                swap: false,
                cpu_shares: false,
                cpuset: false,
                pids: true,
            },
            location: EngineLocation::Remote("build.example".into()),
            health_checks: HealthChecks::Never,
            parallel_stops: false,
            ..Capabilities::default()
        });
        assert_eq!(warnings(&limited).len(), 6);
        let json = to_json(&limited);
        assert_eq!(json["containers"], json!({ "reached": "remote", "host": "build.example" }));
        assert_eq!((&json["health_checks"], &json["limits"]["memory"]), (&json!("never"), &json!(false)));
        assert_eq!(limits(limited.info.capabilities.limits), "pids");
    }
}
