//! Requests to the API: create a container, create a network, update a container.

use std::collections::{BTreeMap, HashMap};

use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, ContainerUpdateBody, EndpointSettings, HealthConfig, HostConfig, Mount, MountType,
    MountVolumeOptions, NetworkingConfig, PortBinding, PortMap, ResourcesUlimits, RestartPolicy as EngineRestartPolicy,
    RestartPolicyNameEnum,
};

use super::super::{ContainerSpec, Inherited};
use crate::desired::{Config, Volume as DesiredVolume, VolumeSource};

use crate::spec::model::{Healthcheck, HealthcheckTest, Port, Protocol, Resources, RestartPolicy};

/// The request that creates a container.
pub fn create_body(spec: &ContainerSpec) -> ContainerCreateBody {
    // Without `..`: a new field must be sent here or in `host_config`; labels, names and the host name are in the spec.
    let Config {
        image,
        command,
        entrypoint,
        user,
        working_dir,
        ports,
        healthcheck,
        stop_signal,
        stop_timeout,
        network,
        labels: _,
        hostname: _,
        aliases: _,
        volumes: _,
        tmpfs: _,
        restart: _,
        resources: _,
        extra_hosts: _,
        cap_add: _,
        cap_drop: _,
        privileged: _,
        read_only: _,
        init: _,
        shm_size: _,
        ulimits: _,
        annotations: _,
    } = &spec.config;
    ContainerCreateBody {
        image: Some(image.clone()),
        cmd: command.clone(),
        entrypoint: entrypoint.clone(),
        user: user.clone(),
        working_dir: working_dir.clone(),
        env: some(spec.env.iter().map(|(key, value)| format!("{key}={value}")).collect()),
        labels: Some(spec.labels.clone().into_iter().collect()),
        hostname: Some(spec.hostname.clone()).filter(|name| !name.is_empty()),
        exposed_ports: some(exposed(ports)),
        healthcheck: healthcheck.as_ref().map(health_config),
        stop_signal: stop_signal.clone(),
        stop_timeout: stop_timeout.map(|timeout| signed(timeout.0)),
        host_config: Some(host_config(spec)),
        // Keyed by the network's name, as the engine stores it: keyed by id, engines from 26 on cannot start the
        // container once the network has been recreated.
        networking_config: Some(NetworkingConfig {
            endpoints_config: Some(HashMap::from([(network.clone(), endpoint(&spec.network, &spec.aliases))])),
        }),
        ..Default::default()
    }
}

fn host_config(spec: &ContainerSpec) -> HostConfig {
    let config = &spec.config;
    HostConfig {
        network_mode: Some(config.network.clone()),
        mounts: some(mounts(spec)),
        tmpfs: some_map(&config.tmpfs),
        port_bindings: (!config.ports.is_empty()).then(|| port_bindings(&config.ports)),
        restart_policy: Some(restart_policy(config.restart)),
        memory: config.resources.memory.map(|memory| signed(memory.bytes())),
        nano_cpus: config.resources.cpus.map(|cpus| cpus.nanos()),
        // Zero is no limit; without a value, Podman sets one of its own.
        pids_limit: Some(config.resources.pids.map_or(0, i64::from)),
        extra_hosts: some(config.extra_hosts.iter().map(|host| format!("{}:{}", host.name, host.address)).collect()),
        cap_add: some(config.cap_add.clone()),
        cap_drop: some(config.cap_drop.clone()),
        privileged: config.privileged.then_some(true),
        readonly_rootfs: config.read_only.then_some(true),
        init: config.init.then_some(true),
        shm_size: config.shm_size.map(signed),
        ulimits: some(ulimits(config)),
        annotations: some_map(&config.annotations),
        ..Default::default()
    }
}

/// Endpoint settings of a container. They hold the network id, because the engine otherwise looks the network up by
/// name at each start and fails if two networks share the name.
pub fn endpoint(network: &str, aliases: &[String]) -> EndpointSettings {
    EndpointSettings { network_id: Some(network.to_owned()), aliases: Some(aliases.to_vec()), ..Default::default() }
}

fn exposed(ports: &[Port]) -> Vec<String> {
    let mut keys: Vec<String> = ports.iter().map(port_key).collect();
    keys.sort();
    keys.dedup();
    keys
}

fn port_key(port: &Port) -> String {
    let protocol = match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    };
    format!("{}/{protocol}", port.container)
}

fn port_bindings(ports: &[Port]) -> PortMap {
    let mut bindings = PortMap::new();
    for port in ports {
        let binding = PortBinding {
            host_ip: Some(port.address.to_string()),
            // The engine picks a free port if none is set.
            host_port: Some(port.host.map(|host| host.to_string()).unwrap_or_default()),
        };
        bindings.entry(port_key(port)).or_default().get_or_insert_default().push(binding);
    }
    bindings
}

/// Mounts, and inherited volumes: one whose path the spec mounts anonymously replaces that mount; others are added.
fn mounts(spec: &ContainerSpec) -> Vec<Mount> {
    let written = spec.config.volumes.iter().map(|volume| mount(volume, spec));
    let targets = |target: &str| spec.config.volumes.iter().any(|volume| volume.target == target);
    let of_image =
        spec.inherited.iter().filter(|inherited| !targets(&inherited.target)).map(|inherited| {
            volume_mount(Some(inherited.volume.clone()), &inherited.target, false, &spec.volume_labels)
        });
    written.chain(of_image).collect()
}

fn mount(volume: &DesiredVolume, spec: &ContainerSpec) -> Mount {
    let labels = &spec.volume_labels;
    match &volume.source {
        VolumeSource::Named(name) => volume_mount(Some(name.clone()), &volume.target, volume.read_only, labels),
        VolumeSource::Anonymous => {
            let same_target = |inherited: &&Inherited| inherited.target == volume.target;
            let inherited = spec.inherited.iter().find(same_target).map(|inherited| inherited.volume.clone());
            volume_mount(inherited, &volume.target, volume.read_only, labels)
        }
        // Not the `binds` field, which creates a missing directory.
        VolumeSource::Bind(path) => Mount {
            typ: Some(MountType::BIND),
            source: Some(path.clone()),
            target: Some(volume.target.clone()),
            read_only: volume.read_only.then_some(true),
            ..Default::default()
        },
    }
}

/// A volume mount with labels: the engine creates a missing volume, so no separate request is needed.
fn volume_mount(source: Option<String>, target: &str, read_only: bool, labels: &BTreeMap<String, String>) -> Mount {
    Mount {
        typ: Some(MountType::VOLUME),
        source,
        target: Some(target.to_owned()),
        read_only: read_only.then_some(true),
        volume_options: Some(MountVolumeOptions {
            labels: Some(labels.clone().into_iter().collect()),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn ulimits(config: &Config) -> Vec<ResourcesUlimits> {
    config
        .ulimits
        .iter()
        .map(|(name, limit)| ResourcesUlimits {
            name: Some(name.clone()),
            soft: Some(limit.soft),
            hard: Some(limit.hard),
        })
        .collect()
}

fn health_config(check: &Healthcheck) -> HealthConfig {
    if check.disable {
        return HealthConfig { test: Some(vec!["NONE".into()]), ..Default::default() };
    }
    HealthConfig {
        test: check.test.as_ref().map(health_test),
        interval: check.interval.map(|period| nanoseconds(period.get())),
        timeout: check.timeout.map(|period| nanoseconds(period.get())),
        retries: check.retries.map(i64::from),
        start_period: check.start_period.map(|period| nanoseconds(period.get())),
        start_interval: check.start_interval.map(|period| nanoseconds(period.get())),
    }
}

/// A test in Docker's form, `CMD` or `CMD-SHELL` first; one already in this form is unchanged.
fn health_test(test: &HealthcheckTest) -> Vec<String> {
    match test {
        HealthcheckTest::Shell(line) => vec!["CMD-SHELL".into(), line.clone()],
        HealthcheckTest::Exec(words) => {
            let words = words.iter().map(ToString::to_string);
            let mut test: Vec<String> = words.collect();
            if !matches!(test.first().map(String::as_str), Some("CMD" | "CMD-SHELL" | "NONE")) {
                test.insert(0, "CMD".into());
            }
            test
        }
    }
}

fn restart_policy(policy: RestartPolicy) -> EngineRestartPolicy {
    let (name, retries) = match policy {
        RestartPolicy::No => (RestartPolicyNameEnum::NO, 0),
        RestartPolicy::Always => (RestartPolicyNameEnum::ALWAYS, 0),
        RestartPolicy::UnlessStopped => (RestartPolicyNameEnum::UNLESS_STOPPED, 0),
        RestartPolicy::OnFailure(retries) => (RestartPolicyNameEnum::ON_FAILURE, i64::from(retries)),
    };
    EngineRestartPolicy { name: Some(name), maximum_retry_count: Some(retries) }
}

/// The request that updates resource limits and restart policy.
///
/// Memory and swap are set together: an engine rejects a memory limit above the current swap limit. Swap is twice the
/// memory, as for a new container.
pub fn update_body(resources: &Resources, restart: RestartPolicy) -> ContainerUpdateBody {
    let memory = resources.memory.map(|memory| signed(memory.bytes()));
    ContainerUpdateBody {
        memory,
        memory_swap: memory.map(|memory| memory.saturating_mul(2)),
        nano_cpus: resources.cpus.map(|cpus| cpus.nanos()),
        // Unlike the others, it can be removed.
        pids_limit: Some(resources.pids.map_or(0, i64::from)),
        restart_policy: Some(restart_policy(restart)),
        ..Default::default()
    }
}

/// The request that creates a network. Written by hand because bollard no longer has `CheckDuplicate`, without which
/// engines before 25 create a second network of the same name.
pub fn network_body(name: &str, labels: &BTreeMap<String, String>, subnet: Option<&str>) -> serde_json::Value {
    let mut body = serde_json::json!({"Name": name, "Driver": "bridge", "CheckDuplicate": true, "Labels": labels});
    if let Some(subnet) = subnet {
        body["IPAM"] = serde_json::json!({"Config": [{"Subnet": subnet}]});
        if subnet.contains(':') {
            body["EnableIPv6"] = true.into();
        }
    }
    body
}

fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn some_map(map: &BTreeMap<String, String>) -> Option<HashMap<String, String>> {
    (!map.is_empty()).then(|| map.clone().into_iter().collect())
}

fn some<T>(items: Vec<T>) -> Option<Vec<T>> {
    (!items.is_empty()).then_some(items)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::Seconds;
    use crate::spec::model::{ExtraHost, Ulimit};
    use crate::spec::value::ByteSize;

    #[test]
    fn default_limit_of_the_engine_is_not_used() {
        let host = create_body(&ContainerSpec::default()).host_config.unwrap();
        assert_eq!((host.pids_limit, host.memory), (Some(0), None));
    }

    #[test]
    fn pids_limit_can_be_removed_and_memory_sets_swap() {
        let none = Resources::default();
        let memory = Resources { memory: Some(ByteSize::new(1 << 30)), ..none };
        let json = serde_json::to_value(update_body(&memory, RestartPolicy::OnFailure(3))).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "Memory": 1_073_741_824_i64, "MemorySwap": 2_147_483_648_i64, "PidsLimit": 0,
                "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
            })
        );
    }

    fn full() -> ContainerSpec {
        let volume = |source, target: &str, read_only| DesiredVolume { source, target: target.into(), read_only };
        let port = |host, protocol| Port { address: [127, 0, 0, 1].into(), host, container: 80, protocol };
        ContainerSpec {
            name: "shop-api.new".into(),
            labels: BTreeMap::from([("drillmaster.group".into(), "shop".into())]),
            volume_labels: BTreeMap::from([("drillmaster.group".into(), "shop".into())]),
            config: Config {
                image: "shop/api:1".into(),
                command: Some(vec!["serve".into()]),
                entrypoint: Some(vec!["/api".into()]),
                user: Some("1000".into()),
                working_dir: Some("/srv".into()),
                ports: vec![port(Some(8080), Protocol::Tcp), port(None, Protocol::Tcp), port(Some(53), Protocol::Udp)],
                volumes: vec![
                    volume(VolumeSource::Named("shop-data".into()), "/data", false),
                    volume(VolumeSource::Bind("/conf".into()), "/conf", true),
                    volume(VolumeSource::Anonymous, "/cache", false),
                    volume(VolumeSource::Anonymous, "/fresh", false),
                ],
                tmpfs: BTreeMap::from([("/tmp".into(), "size=64m".into())]),
                healthcheck: Some(Healthcheck {
                    test: Some(HealthcheckTest::Shell("true".into())),
                    interval: Some("1s".parse().unwrap()),
                    timeout: None,
                    retries: Some(3),
                    start_period: None,
                    start_interval: Some("100ms".parse().unwrap()),
                    disable: false,
                }),
                stop_signal: Some("SIGINT".into()),
                stop_timeout: Some(Seconds(30)),
                restart: RestartPolicy::UnlessStopped,
                resources: Resources { memory: Some(ByteSize::new(1 << 20)), cpus: "0.5".parse().ok(), pids: Some(10) },
                extra_hosts: vec![ExtraHost { name: "gate".into(), address: "host-gateway".into() }],
                cap_add: vec!["NET_ADMIN".into()],
                cap_drop: vec!["NET_RAW".into()],
                privileged: true,
                read_only: true,
                init: true,
                shm_size: Some(1024),
                ulimits: BTreeMap::from([("nofile".into(), Ulimit { soft: 1, hard: -1 })]),
                annotations: BTreeMap::from([("org.example.trace".into(), "on".into())]),
                network: "shop-net".into(),
                ..Default::default()
            },
            env: BTreeMap::from([("LOG".into(), "info".into())]),
            network: "n1".into(),
            aliases: vec!["api".into(), "backend".into()],
            hostname: "api".into(),
            inherited: vec![
                Inherited { volume: "v1".into(), target: "/cache".into() },
                Inherited { volume: "v2".into(), target: "/of-the-image".into() },
            ],
        }
    }

    #[test]
    fn container_spec_is_converted_to_a_request() {
        let labels = serde_json::json!({"drillmaster.group": "shop"});
        let volume = |source: Option<&str>, target: &str| {
            let mut mount =
                serde_json::json!({"Type": "volume", "Target": target, "VolumeOptions": {"Labels": labels}});
            if let Some(source) = source {
                mount["Source"] = source.into();
            }
            mount
        };
        let expected = serde_json::json!({
            "Image": "shop/api:1", "Cmd": ["serve"], "Entrypoint": ["/api"], "User": "1000", "WorkingDir": "/srv",
            "Env": ["LOG=info"], "Labels": labels, "Hostname": "api",
            "ExposedPorts": {"80/tcp": {}, "80/udp": {}},
            "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 1_000_000_000, "Retries": 3, "StartInterval": 100_000_000},
            "StopSignal": "SIGINT", "StopTimeout": 30,
            "HostConfig": {
                "NetworkMode": "shop-net",
                "Mounts": [
                    volume(Some("shop-data"), "/data"),
                    {"Type": "bind", "Source": "/conf", "Target": "/conf", "ReadOnly": true},
                    volume(Some("v1"), "/cache"),
                    volume(None, "/fresh"),
                    volume(Some("v2"), "/of-the-image"),
                ],
                "Tmpfs": {"/tmp": "size=64m"},
                "PortBindings": {
                    "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}, {"HostIp": "127.0.0.1", "HostPort": ""}],
                    "80/udp": [{"HostIp": "127.0.0.1", "HostPort": "53"}],
                },
                "RestartPolicy": {"Name": "unless-stopped", "MaximumRetryCount": 0},
                "Memory": 1_048_576, "NanoCpus": 500_000_000, "PidsLimit": 10,
                "ExtraHosts": ["gate:host-gateway"], "CapAdd": ["NET_ADMIN"], "CapDrop": ["NET_RAW"],
                "Privileged": true, "ReadonlyRootfs": true, "Init": true, "ShmSize": 1024,
                "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": -1}],
                "Annotations": {"org.example.trace": "on"},
            },
            "NetworkingConfig": {"EndpointsConfig": {"shop-net": {"NetworkID": "n1", "Aliases": ["api", "backend"]}}},
        });
        assert_eq!(without_nulls(serde_json::to_value(create_body(&full())).unwrap()), expected);
    }

    /// Removes null fields: they are unset.
    fn without_nulls(value: serde_json::Value) -> serde_json::Value {
        match value {
            serde_json::Value::Object(map) => map
                .into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (key, without_nulls(value)))
                .collect(),
            value => value,
        }
    }

    #[test]
    fn healthcheck_can_be_disabled_or_in_docker_form() {
        let check = |test, disable| Healthcheck {
            test,
            interval: None,
            timeout: None,
            retries: None,
            start_period: None,
            start_interval: None,
            disable,
        };
        let words = |words: &[&str]| -> Vec<String> { words.iter().map(|word| (*word).to_owned()).collect() };
        let table = [
            (check(None, true), Some(words(&["NONE"]))),
            (check(None, false), None),
            (check(Some(HealthcheckTest::Exec(words(&["true"]))), false), Some(words(&["CMD", "true"]))),
            (check(Some(HealthcheckTest::Exec(words(&["CMD", "true"]))), false), Some(words(&["CMD", "true"]))),
        ];
        for (check, test) in table {
            assert_eq!(health_config(&check).test, test);
        }
    }
}
