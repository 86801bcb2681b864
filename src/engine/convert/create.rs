//! Requests to the API: create a container, create a network, update a container.

use std::collections::{BTreeMap, HashMap};

use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, ContainerUpdateBody, EndpointIpamConfig, EndpointSettings, HealthConfig, HostConfig,
    NetworkingConfig, PortBinding, PortMap, ResourcesUlimits, RestartPolicy as EngineRestartPolicy,
    RestartPolicyNameEnum,
};

use super::super::ContainerSpec;
use super::{devices, mounts};
use crate::desired::{AddressRange, Config, Endpoint, Join, Network};
use crate::spec::model::{
    ExposedPorts, Healthcheck, HealthcheckTest, HostPort, MemorySwap, Port, Resources, RestartPolicy,
};
use crate::spec::value::Microseconds;

/// The request that creates a container.
pub fn create_body(spec: &ContainerSpec) -> ContainerCreateBody {
    let config = &spec.config;
    ContainerCreateBody {
        image: Some(config.image.clone()),
        cmd: config.command.clone(),
        entrypoint: config.entrypoint.clone(),
        user: config.user.clone(),
        working_dir: config.working_dir.clone(),
        // A name alone removes the variable of the image.
        env: some(
            spec.env
                .iter()
                .map(|(key, value)| match value {
                    Some(value) => format!("{key}={value}"),
                    None => key.clone(),
                })
                .collect(),
        ),
        labels: Some(spec.labels.clone().into_iter().collect()),
        hostname: Some(spec.hostname.clone()).filter(|name| !name.is_empty()),
        exposed_ports: some(exposed(&config.ports, &config.expose)),
        tty: config.tty.then_some(true),
        open_stdin: config.stdin_open.then_some(true),
        domainname: config.domainname.clone(),
        healthcheck: config.healthcheck.as_ref().map(health_config),
        stop_signal: config.stop_signal.clone(),
        stop_timeout: config.stop_timeout.map(|timeout| signed(timeout.0)),
        host_config: Some(host_config(spec)),
        // Keyed by the network's name, as the engine stores it: keyed by id, engines from 26 on cannot start the
        // container once the network has been recreated.
        networking_config: (!spec.joins.is_empty()).then(|| NetworkingConfig {
            endpoints_config: Some(spec.joins.iter().map(|join| (join.name.clone(), endpoint(join))).collect()),
        }),
        ..Default::default()
    }
}

/// The request with the hardware address of the container, which bollard does not have because API 1.44 deprecates it.
pub fn with_mac_address(body: &ContainerCreateBody, address: &str) -> serde_json::Value {
    let mut body = serde_json::json!(body);
    body["MacAddress"] = address.into();
    body
}

fn host_config(spec: &ContainerSpec) -> HostConfig {
    let config = &spec.config;
    let mut host = HostConfig {
        network_mode: network_mode(spec),
        pid_mode: config.pid.as_ref().map(|mode| namespace(mode.to_string(), spec)),
        ipc_mode: config.ipc.as_ref().map(|mode| namespace(mode.to_string(), spec)),
        binds: mounts::binds(&config.volumes),
        mounts: mounts::mounts(spec),
        tmpfs: some_map(&config.tmpfs),
        port_bindings: (!config.ports.is_empty()).then(|| port_bindings(&config.ports)),
        restart_policy: Some(restart_policy(config.restart)),
        extra_hosts: some(config.extra_hosts.iter().map(|host| format!("{}:{}", host.name, host.address)).collect()),
        cap_add: some(config.cap_add.clone()),
        cap_drop: some(config.cap_drop.clone()),
        privileged: config.privileged.then_some(true),
        readonly_rootfs: config.read_only.then_some(true),
        init: config.init.then_some(true),
        shm_size: config.shm_size.map(signed),
        ulimits: some(ulimits(config)),
        ..limits(&config.resources)
    };
    devices::add(&mut host, config);
    host
}

/// The limits that can be changed on a running container.
fn limits(resources: &Resources) -> HostConfig {
    HostConfig {
        memory: resources.memory.map(|memory| signed(memory.bytes())),
        nano_cpus: resources.cpus.map(|cpus| cpus.nanos()),
        // Zero is no limit; without a value, Podman sets one of its own.
        pids_limit: Some(resources.pids.map_or(0, i64::from)),
        memory_reservation: resources.memory_reservation.map(|memory| signed(memory.bytes())),
        memory_swap: resources.memory_swap.map(memory_swap),
        cpu_shares: resources.cpu_shares.map(i64::from),
        cpuset_cpus: resources.cpuset.as_ref().map(ToString::to_string),
        cpuset_mems: resources.cpuset_mems.as_ref().map(ToString::to_string),
        cpu_period: microseconds(resources.cpu_period),
        cpu_quota: microseconds(resources.cpu_quota),
        cpu_realtime_period: microseconds(resources.cpu_rt_period),
        cpu_realtime_runtime: microseconds(resources.cpu_rt_runtime),
        ..Default::default()
    }
}

fn memory_swap(swap: MemorySwap) -> i64 {
    match swap {
        MemorySwap::Unlimited => -1,
        MemorySwap::Size(size) => signed(size.bytes()),
    }
}

fn microseconds(time: Option<Microseconds>) -> Option<i64> {
    time.map(|time| i64::from(time.get()))
}

/// The first network, or what the container has instead of a network of the group.
fn network_mode(spec: &ContainerSpec) -> Option<String> {
    match spec.config.network.mode() {
        Some(mode) => Some(namespace(mode.to_string(), spec)),
        None => spec.joins.first().map(|join| join.name.clone()),
    }
}

/// A namespace in the engine's words: that of a service of the group is the container's.
fn namespace(mode: String, spec: &ContainerSpec) -> String {
    spec.targets.get(&mode).map_or(mode, |id| format!("container:{id}"))
}

/// Endpoint settings of a container. They hold the network id, because the engine otherwise looks the network up by
/// name at each start and fails if two networks share the name.
pub fn endpoint(join: &Join) -> EndpointSettings {
    let Endpoint {
        aliases: _,
        ipv4_address,
        ipv6_address,
        link_local_ips,
        mac_address,
        driver_opts,
        priority: _,
        gw_priority,
        interface_name,
    } = &join.endpoint;
    let mut options: HashMap<String, String> = driver_opts.clone().into_iter().collect();
    options.extend(interface_name.clone().map(|name| (INTERFACE_NAME.to_owned(), name)));
    let has_address = ipv4_address.is_some() || ipv6_address.is_some() || !link_local_ips.is_empty();
    EndpointSettings {
        network_id: Some(join.network.clone()),
        aliases: Some(join.names.clone()),
        ipam_config: has_address.then(|| EndpointIpamConfig {
            ipv4_address: ipv4_address.map(|address| address.to_string()),
            ipv6_address: ipv6_address.map(|address| address.to_string()),
            link_local_ips: some(link_local_ips.iter().map(ToString::to_string).collect()),
        }),
        mac_address: mac_address.clone(),
        driver_opts: (!options.is_empty()).then_some(options),
        gw_priority: Some(*gw_priority).filter(|priority| *priority != 0),
        ..Default::default()
    }
}

/// Driver option of an endpoint: name of the interface in the container.
const INTERFACE_NAME: &str = "com.docker.network.endpoint.ifname";

fn exposed(ports: &[Port], expose: &[ExposedPorts]) -> Vec<String> {
    let exposed =
        expose.iter().flat_map(|ports| (ports.first..=ports.last).map(|port| format!("{port}/{}", ports.protocol)));
    let mut keys: Vec<String> = ports.iter().map(port_key).chain(exposed).collect();
    keys.sort();
    keys.dedup();
    keys
}

fn port_key(port: &Port) -> String {
    format!("{}/{}", port.container, port.protocol)
}

fn port_bindings(ports: &[Port]) -> PortMap {
    let mut bindings = PortMap::new();
    for port in ports {
        let binding = PortBinding {
            // Empty: all addresses.
            host_ip: Some(port.address.map(|address| address.to_string()).unwrap_or_default()),
            host_port: Some(match port.host {
                // The engine picks a free port.
                HostPort::Free => String::new(),
                HostPort::Fixed(port) => port.to_string(),
                HostPort::Range(first, last) => format!("{first}-{last}"),
            }),
        };
        bindings.entry(port_key(port)).or_default().get_or_insert_default().push(binding);
    }
    bindings
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
/// Memory and swap are set together: an engine rejects a memory limit above the current swap limit. Unless the spec says
/// otherwise, swap is twice the memory, as for a new container.
pub fn update_body(resources: &Resources, restart: RestartPolicy) -> ContainerUpdateBody {
    let limits = limits(resources);
    let default_swap = resources.memory.map(MemorySwap::default_for).map(memory_swap);
    ContainerUpdateBody {
        memory: limits.memory,
        memory_swap: limits.memory_swap.or(default_swap),
        nano_cpus: limits.nano_cpus,
        // Unlike the others, it can be removed.
        pids_limit: limits.pids_limit,
        memory_reservation: limits.memory_reservation,
        cpu_shares: limits.cpu_shares,
        cpuset_cpus: limits.cpuset_cpus,
        cpuset_mems: limits.cpuset_mems,
        cpu_period: limits.cpu_period,
        cpu_quota: limits.cpu_quota,
        cpu_realtime_period: limits.cpu_realtime_period,
        cpu_realtime_runtime: limits.cpu_realtime_runtime,
        restart_policy: Some(restart_policy(restart)),
        ..Default::default()
    }
}

/// The request that creates a network. Written by hand because bollard no longer has `CheckDuplicate`, without which
/// engines before 25 create a second network of the same name.
pub fn network_body(name: &str, labels: &BTreeMap<String, String>, network: &Network) -> serde_json::Value {
    let labels: BTreeMap<&String, &String> = network.labels.iter().chain(labels).collect();
    let mut body =
        serde_json::json!({"Name": name, "Driver": network.driver(), "CheckDuplicate": true, "Labels": labels});
    let mut set = |key: &str, value: serde_json::Value| body[key] = value;
    if !network.driver_opts.is_empty() {
        set("Options", serde_json::json!(network.driver_opts));
    }
    if network.internal {
        set("Internal", true.into());
    }
    if network.attachable {
        set("Attachable", true.into());
    }
    if let Some(enable) = network.enable_ipv4 {
        set("EnableIPv4", enable.into());
    }
    if let Some(enable) = network.ipv6() {
        set("EnableIPv6", enable.into());
    }
    if network.ipam_driver.is_some() || !network.ipam_options.is_empty() || !network.ranges.is_empty() {
        let mut ipam = serde_json::json!({"Config": network.ranges.iter().map(range_body).collect::<Vec<_>>()});
        if let Some(driver) = &network.ipam_driver {
            ipam["Driver"] = driver.as_str().into();
        }
        if !network.ipam_options.is_empty() {
            ipam["Options"] = serde_json::json!(network.ipam_options);
        }
        set("IPAM", ipam);
    }
    body
}

fn range_body(range: &AddressRange) -> serde_json::Value {
    let mut body = serde_json::Map::new();
    let texts = [
        ("Subnet", range.subnet.clone()),
        ("Gateway", range.gateway.map(|address| address.to_string())),
        ("IPRange", range.ip_range.clone()),
    ];
    body.extend(texts.into_iter().filter_map(|(key, text)| Some((key.to_owned(), text?.into()))));
    if !range.aux_addresses.is_empty() {
        body.insert("AuxiliaryAddresses".to_owned(), serde_json::json!(range.aux_addresses));
    }
    body.into()
}

fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn some_map(map: &BTreeMap<String, String>) -> Option<HashMap<String, String>> {
    (!map.is_empty()).then(|| map.clone().into_iter().collect())
}

pub(super) fn some<T>(items: Vec<T>) -> Option<Vec<T>> {
    (!items.is_empty()).then_some(items)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::{Inherited, Seconds, Volume, VolumeSource};
    use crate::spec::model::{ExtraHost, MountOptions, Propagation, Protocol, Recursive, Selinux, Ulimit};
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
        let with =
            |source, target: &str, read_only, options| Volume { source, target: target.into(), read_only, options };
        let volume = |source, target: &str, read_only| with(source, target, read_only, MountOptions::default());
        let none = MountOptions::default;
        let port = |host, protocol| Port { address: Some([127, 0, 0, 1].into()), host, container: 80, protocol };
        let range = HostPort::Range(8000, 8010);
        ContainerSpec {
            name: "shop-api.new".into(),
            labels: BTreeMap::from([("drillmaster.group".into(), "shop".into())]),
            volume_labels: BTreeMap::from([("drillmaster.group".into(), "shop".into())]),
            volumes: BTreeMap::new(),
            config: Config {
                image: "shop/api:1".into(),
                command: Some(vec!["serve".into()]),
                entrypoint: Some(vec!["/api".into()]),
                user: Some("1000".into()),
                working_dir: Some("/srv".into()),
                ports: vec![
                    port(HostPort::Fixed(8080), Protocol::Tcp),
                    port(HostPort::Free, Protocol::Tcp),
                    port(HostPort::Fixed(53), Protocol::Udp),
                    Port { address: None, ..port(range, Protocol::Udp) },
                ],
                volumes: vec![
                    volume(VolumeSource::Named("shop-data".into()), "/data", false),
                    volume(VolumeSource::Bind("/conf".into()), "/conf", true),
                    volume(VolumeSource::Anonymous, "/cache", false),
                    volume(VolumeSource::Anonymous, "/fresh", false),
                    with(
                        VolumeSource::Bind("/made".into()),
                        "/made",
                        true,
                        MountOptions { create: true, selinux: Some(Selinux::Private), ..none() },
                    ),
                    with(
                        VolumeSource::Bind("/mnt".into()),
                        "/mnt",
                        true,
                        MountOptions {
                            propagation: Some(Propagation::Rslave),
                            recursive: Some(Recursive::Readonly),
                            ..none()
                        },
                    ),
                    with(
                        VolumeSource::Named("shop-part".into()),
                        "/part",
                        false,
                        MountOptions { nocopy: true, subpath: Some("a/b".into()), ..none() },
                    ),
                    with(
                        VolumeSource::Image("shop/conf:1".into()),
                        "/image",
                        true,
                        MountOptions { subpath: Some("etc".into()), ..none() },
                    ),
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
                resources: Resources {
                    memory: Some(ByteSize::new(1 << 20)),
                    cpus: "0.5".parse().ok(),
                    pids: Some(10),
                    memory_reservation: Some(ByteSize::new(1 << 19)),
                    memory_swap: Some(MemorySwap::Unlimited),
                    cpu_shares: Some(512),
                    cpuset: "0-1".parse().ok(),
                    cpuset_mems: "0".parse().ok(),
                    cpu_rt_period: Some(Microseconds::new(1000)),
                    cpu_rt_runtime: Some(Microseconds::new(100)),
                    ..Resources::default()
                },
                extra_hosts: vec![ExtraHost { name: "gate".into(), address: "host-gateway".into() }],
                cap_add: vec!["NET_ADMIN".into()],
                cap_drop: vec!["NET_RAW".into()],
                privileged: true,
                read_only: true,
                init: true,
                shm_size: Some(1024),
                ulimits: BTreeMap::from([("nofile".into(), Ulimit { soft: 1, hard: -1 })]),
                annotations: BTreeMap::from([("org.example.trace".into(), "on".into())]),
                tty: true,
                stdin_open: true,
                domainname: Some("example.org".into()),
                mac_address: Some("02:42:ac:11:00:02".into()),
                expose: vec!["80".parse().unwrap(), "3000-3001/udp".parse().unwrap()],
                network: "shop-net".into(),
                ..Default::default()
            },
            env: BTreeMap::from([("LOG".into(), Some("info".into())), ("PROXY".into(), None)]),
            joins: vec![Join {
                network: "n1".into(),
                name: "shop-net".into(),
                names: vec!["api".into(), "backend".into()],
                endpoint: Endpoint { mac_address: Some("02:42:ac:11:00:02".into()), ..Endpoint::default() },
            }],
            targets: BTreeMap::new(),
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
        let host = serde_json::json!({
            "NetworkMode": "shop-net",
            "Mounts": [
                volume(Some("shop-data"), "/data"),
                {"Type": "bind", "Source": "/conf", "Target": "/conf", "ReadOnly": true},
                volume(Some("v1"), "/cache"),
                volume(None, "/fresh"),
                {"Type": "bind", "Source": "/mnt", "Target": "/mnt", "ReadOnly": true,
                    "BindOptions": {"Propagation": "rslave", "ReadOnlyForceRecursive": true}},
                {"Type": "volume", "Source": "shop-part", "Target": "/part",
                    "VolumeOptions": {"Labels": labels, "NoCopy": true, "Subpath": "a/b"}},
                {"Type": "image", "Source": "shop/conf:1", "Target": "/image", "ReadOnly": true,
                    "ImageOptions": {"Subpath": "etc"}},
                volume(Some("v2"), "/of-the-image"),
            ],
            "Binds": ["/made:/made:ro,Z"],
            "Tmpfs": {"/tmp": "size=64m"},
            "PortBindings": {
                "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}, {"HostIp": "127.0.0.1", "HostPort": ""}],
                "80/udp": [{"HostIp": "127.0.0.1", "HostPort": "53"}, {"HostIp": "", "HostPort": "8000-8010"}],
            },
            "RestartPolicy": {"Name": "unless-stopped", "MaximumRetryCount": 0},
            "Memory": 1_048_576, "NanoCpus": 500_000_000, "PidsLimit": 10,
            "MemoryReservation": 524_288, "MemorySwap": -1, "CpuShares": 512, "CpusetCpus": "0-1", "CpusetMems": "0",
            "CpuRealtimePeriod": 1000, "CpuRealtimeRuntime": 100,
            "ExtraHosts": ["gate:host-gateway"], "CapAdd": ["NET_ADMIN"], "CapDrop": ["NET_RAW"],
            "Privileged": true, "ReadonlyRootfs": true, "Init": true, "ShmSize": 1024,
            "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": -1}],
            "Annotations": {"org.example.trace": "on"},
        });
        let expected = serde_json::json!({
            "Image": "shop/api:1", "Cmd": ["serve"], "Entrypoint": ["/api"], "User": "1000", "WorkingDir": "/srv",
            "Env": ["LOG=info", "PROXY"], "Labels": labels, "Hostname": "api",
            "ExposedPorts": {"3000/udp": {}, "3001/udp": {}, "80/tcp": {}, "80/udp": {}},
            "Tty": true, "OpenStdin": true, "Domainname": "example.org",
            "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 1_000_000_000, "Retries": 3, "StartInterval": 100_000_000},
            "StopSignal": "SIGINT", "StopTimeout": 30,
            "HostConfig": host,
            "NetworkingConfig": {"EndpointsConfig": {"shop-net": {"NetworkID": "n1", "Aliases": ["api", "backend"],
                "MacAddress": "02:42:ac:11:00:02"}}},
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
