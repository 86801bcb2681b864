//! Between our words and the engine's: what is to be created becomes a request, what it lists becomes a snapshot.
//!
//! Pure. Decides nothing, sends nothing; tolerant of what is missing, since a container that is being removed shows
//! the oddest entries.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerState, ContainerStateStatusEnum, ContainerSummary,
    ContainerSummaryHealthStatusEnum, ContainerSummaryStateEnum, ContainerUpdateBody, EndpointSettings, EventMessage,
    EventMessageTypeEnum, Health as EngineHealth, HealthConfig, HealthStatusEnum, HostConfig, ImageInspect,
    ImageSummary, Mount, MountPoint as EngineMount, MountType, MountVolumeOptions, Network as EngineNetwork,
    NetworkingConfig, PortBinding, PortMap, PortSummary, PortSummaryTypeEnum, ResourcesUlimits,
    RestartPolicy as EngineRestartPolicy, RestartPolicyNameEnum, Volume as EngineVolume,
};

use super::{ContainerEvent, ContainerExit, ContainerSpec, EngineEvent, Inherited};
use crate::desired::{Config, Volume as DesiredVolume, VolumeSource};
use crate::identity::{self, Identity};
use crate::observed::{
    Attachment, BuiltImage, Container, Details, Health, ImageFacts, MountPoint, Network, PublishedPort, State, Volume,
};
use crate::spec::model::{Healthcheck, HealthcheckTest, Port, Protocol, Resources, RestartPolicy};
use crate::spec::value::{ByteSize, CpuCount};

// What is to be created.

/// The request that creates a container.
pub fn create_body(spec: &ContainerSpec) -> ContainerCreateBody {
    let config = &spec.config;
    ContainerCreateBody {
        image: Some(config.image.clone()),
        cmd: config.command.clone(),
        entrypoint: config.entrypoint.clone(),
        user: config.user.clone(),
        working_dir: config.working_dir.clone(),
        env: some(spec.env.iter().map(|(key, value)| format!("{key}={value}")).collect()),
        labels: Some(spec.labels.clone().into_iter().collect()),
        hostname: Some(spec.hostname.clone()).filter(|name| !name.is_empty()),
        exposed_ports: some(exposed(&config.ports)),
        healthcheck: config.healthcheck.as_ref().map(health_config),
        stop_signal: config.stop_signal.clone(),
        stop_timeout: config.stop_timeout.map(|timeout| signed(timeout.0)),
        host_config: Some(host_config(spec)),
        // Under the network's name, as the engine keeps it: under its id, engines from 26 on never start the container
        // again once the network was made anew.
        networking_config: Some(NetworkingConfig {
            endpoints_config: Some(HashMap::from([(config.network.clone(), endpoint(&spec.network, &spec.aliases))])),
        }),
        ..Default::default()
    }
}

fn host_config(spec: &ContainerSpec) -> HostConfig {
    let config = &spec.config;
    HostConfig {
        network_mode: Some(config.network.clone()),
        mounts: some(mounts(spec)),
        tmpfs: (!config.tmpfs.is_empty()).then(|| config.tmpfs.clone().into_iter().collect()),
        port_bindings: (!config.ports.is_empty()).then(|| port_bindings(&config.ports)),
        restart_policy: Some(restart_policy(config.restart)),
        memory: config.resources.memory.map(|memory| signed(memory.bytes())),
        nano_cpus: config.resources.cpus.map(|cpus| cpus.nanos()),
        pids_limit: config.resources.pids.map(i64::from),
        extra_hosts: some(config.extra_hosts.iter().map(|host| format!("{}:{}", host.name, host.address)).collect()),
        cap_add: some(config.cap_add.clone()),
        cap_drop: some(config.cap_drop.clone()),
        privileged: config.privileged.then_some(true),
        readonly_rootfs: config.read_only.then_some(true),
        init: config.init.then_some(true),
        shm_size: config.shm_size.map(signed),
        ulimits: some(ulimits(config)),
        ..Default::default()
    }
}

/// How a container joins a network. The id stands in it because the engine otherwise looks the network up by its name
/// at each start, and fails where two have the same.
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
            // The engine picks a free port where none is written.
            host_port: Some(port.host.map(|host| host.to_string()).unwrap_or_default()),
        };
        bindings.entry(port_key(port)).or_default().get_or_insert_default().push(binding);
    }
    bindings
}

/// Mounts, and the inherited volumes: those of the spec in place of a new anonymous one, those of the image beside.
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
        // Not a bind in the old notation, which would create a missing directory.
        VolumeSource::Bind(path) => Mount {
            typ: Some(MountType::BIND),
            source: Some(path.clone()),
            target: Some(volume.target.clone()),
            read_only: volume.read_only.then_some(true),
            ..Default::default()
        },
    }
}

/// A volume with labels: the engine creates what does not exist, so that it needs no request of its own.
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
        start_interval: None,
    }
}

/// The engine's notation says first how the rest is meant; whoever writes it himself is taken at his word.
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

/// The request that changes limits and restart policy.
///
/// Memory and swap go together: an engine refuses more memory than the swap limit of before, and a new container
/// would get twice the memory as well.
pub fn update_body(resources: &Resources, restart: RestartPolicy) -> ContainerUpdateBody {
    let memory = resources.memory.map(|memory| signed(memory.bytes()));
    ContainerUpdateBody {
        memory,
        memory_swap: memory.map(|memory| memory.saturating_mul(2)),
        nano_cpus: resources.cpus.map(|cpus| cpus.nanos()),
        // Unlike the others it can be taken away.
        pids_limit: Some(resources.pids.map_or(0, i64::from)),
        restart_policy: Some(restart_policy(restart)),
        ..Default::default()
    }
}

/// The request that creates a network. Written by hand because bollard no longer has the check for duplicates, which
/// engines before 25 leave out unless asked.
pub fn network_body(name: &str, labels: &BTreeMap<String, String>) -> serde_json::Value {
    serde_json::json!({"Name": name, "Driver": "bridge", "CheckDuplicate": true, "Labels": labels})
}

fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn some<T>(items: Vec<T>) -> Option<Vec<T>> {
    (!items.is_empty()).then_some(items)
}

// What there is.

/// A container of the list; `None` where it has no id.
pub fn container(summary: ContainerSummary) -> Option<Container> {
    let status = summary.status.unwrap_or_default();
    let labels = summary.labels.unwrap_or_default();
    let state = state_of_list(summary.state, &status);
    Some(Container {
        id: summary.id?.into(),
        name: name(&summary.names.unwrap_or_default()),
        identity: Identity::from_labels(&labels),
        image: summary.image.unwrap_or_default(),
        state,
        health: summary
            .health
            .and_then(|health| health.status)
            .map_or_else(|| health_of_status(&status), health_of_list),
        networks: attachments(summary.network_settings.and_then(|settings| settings.networks)),
        ports: published(summary.ports.unwrap_or_default()),
        mounts: mount_points(summary.mounts.unwrap_or_default()),
        created: summary.created.unwrap_or_default(),
        details: None,
    })
}

/// Its own name is the one without a second slash; the others are links. A container that is being removed has none.
fn name(names: &[String]) -> String {
    let bare = names.iter().map(|name| name.trim_start_matches('/'));
    bare.min_by_key(|name| name.contains('/')).unwrap_or_default().to_owned()
}

fn state_of_list(state: Option<ContainerSummaryStateEnum>, status: &str) -> State {
    use ContainerSummaryStateEnum as S;
    match state {
        Some(S::CREATED) => State::Created,
        // While it stops it still runs.
        Some(S::RUNNING | S::STOPPING) => State::Running,
        Some(S::PAUSED) => State::Paused,
        Some(S::RESTARTING) => State::Restarting,
        Some(S::EXITED) => State::Exited { code: exit_code(status) },
        Some(S::DEAD) => State::Dead,
        // No state at all is what a container shows whose record is half gone.
        Some(S::REMOVING | S::EMPTY) | None => State::Removing,
    }
}

/// The number of `Exited (137) 3 minutes ago`.
fn exit_code(status: &str) -> Option<i64> {
    status.strip_prefix("Exited (")?.split_once(')')?.0.parse().ok()
}

/// The verdict at the end of `Up 2 minutes (healthy)`.
fn health_of_status(status: &str) -> Health {
    match status.rsplit_once('(').map(|(_, verdict)| verdict.trim_end_matches(')')) {
        Some("healthy") => Health::Healthy,
        Some("unhealthy") => Health::Unhealthy,
        Some("health: starting" | "starting") => Health::Starting,
        _ => Health::None,
    }
}

fn health_of_list(status: ContainerSummaryHealthStatusEnum) -> Health {
    use ContainerSummaryHealthStatusEnum as S;
    match status {
        S::EMPTY | S::NONE => Health::None,
        S::STARTING => Health::Starting,
        S::HEALTHY => Health::Healthy,
        S::UNHEALTHY => Health::Unhealthy,
    }
}

fn attachments(networks: Option<HashMap<String, EndpointSettings>>) -> Vec<Attachment> {
    let mut attachments: Vec<Attachment> = networks
        .unwrap_or_default()
        .into_iter()
        .map(|(network, settings)| Attachment {
            network_id: settings.network_id.unwrap_or_default(),
            network,
            address: settings.ip_address.and_then(|address| address.parse().ok()),
        })
        .collect();
    attachments.sort_by(|one, other| one.network.cmp(&other.network));
    attachments
}

/// The names of a container on its networks, by the networks' ids: only an inspection tells them.
fn names(networks: Option<&HashMap<String, EndpointSettings>>) -> BTreeMap<String, Vec<String>> {
    let named = |settings: &EndpointSettings| {
        Some((settings.network_id.clone()?, settings.aliases.clone().unwrap_or_default()))
    };
    networks.into_iter().flat_map(HashMap::values).filter_map(named).collect()
}

fn published(ports: Vec<PortSummary>) -> Vec<PublishedPort> {
    let mut ports: Vec<PublishedPort> = ports
        .into_iter()
        .filter_map(|port| {
            Some(PublishedPort {
                address: address(port.ip.as_deref()),
                host: port.public_port?,
                container: port.private_port,
                protocol: match port.typ {
                    Some(PortSummaryTypeEnum::UDP) => Protocol::Udp,
                    Some(PortSummaryTypeEnum::SCTP) => Protocol::Sctp,
                    Some(PortSummaryTypeEnum::TCP | PortSummaryTypeEnum::EMPTY) | None => Protocol::Tcp,
                },
            })
        })
        .collect();
    ports.sort();
    ports.dedup();
    ports
}

fn address(text: Option<&str>) -> IpAddr {
    text.and_then(|text| text.parse().ok()).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

fn mount_points(mounts: Vec<EngineMount>) -> Vec<MountPoint> {
    let mut mounts: Vec<MountPoint> = mounts
        .into_iter()
        .map(|mount| {
            let kind = mount.typ.unwrap_or_default();
            MountPoint {
                volume: mount.name.filter(|_| kind == "volume"),
                bind: mount.source.filter(|_| kind == "bind"),
                target: mount.destination.unwrap_or_default(),
                writable: mount.rw.unwrap_or(true),
            }
        })
        .collect();
    mounts.sort_by(|one, other| one.target.cmp(&other.target));
    mounts
}

/// What the last health check said where it failed: its exit code and the last line of its output.
fn health_failure(health: &EngineHealth) -> String {
    let last = health.log.as_ref().and_then(|log| log.last());
    match last.and_then(|last| Some((last, last.exit_code.filter(|code| *code != 0)?))) {
        Some((last, code)) => {
            let line = last.output.as_deref().unwrap_or_default().lines().rev().find(|line| !line.trim().is_empty());
            line.map_or_else(|| format!("exited with {code}"), |line| format!("exited with {code}: {}", line.trim()))
        }
        None => String::new(),
    }
}

/// An inspected container, with its details; `None` where it has no id.
pub fn inspected(response: ContainerInspectResponse) -> Option<Container> {
    let config = response.config.unwrap_or_default();
    let host = response.host_config.unwrap_or_default();
    let state = response.state.unwrap_or_default();
    let network = response.network_settings.unwrap_or_default();
    let details = Details {
        env: env(config.env.unwrap_or_default()),
        resources: resources(&host),
        restart: restart(host.restart_policy.as_ref()),
        started_at: moment(state.started_at.as_deref()),
        finished_at: moment(state.finished_at.as_deref()),
        restarts: response.restart_count.and_then(|count| u64::try_from(count).ok()).unwrap_or_default(),
        oom_killed: state.oom_killed.unwrap_or_default(),
        error: state.error.clone().unwrap_or_default(),
        names: names(network.networks.as_ref()),
        health_failure: state.health.as_ref().map(health_failure).unwrap_or_default(),
    };
    Some(Container {
        id: response.id?.into(),
        name: response.name.unwrap_or_default().trim_start_matches('/').to_owned(),
        identity: Identity::from_labels(&config.labels.unwrap_or_default()),
        image: config.image.unwrap_or_default(),
        state: state_of_inspection(&state),
        health: state.health.and_then(|health| health.status).map_or(Health::None, health_of_inspection),
        networks: attachments(network.networks),
        ports: bound(network.ports.unwrap_or_default()),
        mounts: mount_points(response.mounts.unwrap_or_default()),
        created: response.created.as_deref().and_then(since_epoch).map_or(0, |(seconds, _)| seconds),
        details: Some(details),
    })
}

fn state_of_inspection(state: &ContainerState) -> State {
    use ContainerStateStatusEnum as S;
    match state.status {
        Some(S::CREATED) => State::Created,
        Some(S::RUNNING | S::STOPPING) => State::Running,
        Some(S::PAUSED) => State::Paused,
        Some(S::RESTARTING) => State::Restarting,
        Some(S::EXITED) => State::Exited { code: state.exit_code },
        Some(S::DEAD) => State::Dead,
        Some(S::REMOVING | S::EMPTY) | None => State::Removing,
    }
}

fn health_of_inspection(status: HealthStatusEnum) -> Health {
    match status {
        HealthStatusEnum::EMPTY | HealthStatusEnum::NONE => Health::None,
        HealthStatusEnum::STARTING => Health::Starting,
        HealthStatusEnum::HEALTHY => Health::Healthy,
        HealthStatusEnum::UNHEALTHY => Health::Unhealthy,
    }
}

fn env(lines: Vec<String>) -> BTreeMap<String, String> {
    lines
        .into_iter()
        .map(|line| match line.split_once('=') {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            None => (line, String::new()),
        })
        .collect()
}

/// 0 and below mean no limit.
fn resources(host: &HostConfig) -> Resources {
    let limit = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok()).filter(|number| *number > 0);
    Resources {
        memory: limit(host.memory).map(ByteSize::new),
        cpus: limit(host.nano_cpus).and_then(cpus),
        pids: limit(host.pids_limit).and_then(|pids| u32::try_from(pids).ok()),
    }
}

fn cpus(nanos: u64) -> Option<CpuCount> {
    format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000).parse().ok()
}

fn restart(policy: Option<&EngineRestartPolicy>) -> RestartPolicy {
    use RestartPolicyNameEnum as N;
    let retries = policy.and_then(|policy| policy.maximum_retry_count).unwrap_or_default();
    match policy.and_then(|policy| policy.name) {
        Some(N::ALWAYS) => RestartPolicy::Always,
        Some(N::UNLESS_STOPPED) => RestartPolicy::UnlessStopped,
        Some(N::ON_FAILURE) => RestartPolicy::OnFailure(u32::try_from(retries).unwrap_or_default()),
        Some(N::NO | N::EMPTY) | None => RestartPolicy::No,
    }
}

/// The engine writes the year 1 for "never".
fn moment(text: Option<&str>) -> String {
    text.filter(|text| !text.starts_with("0001-")).unwrap_or_default().to_owned()
}

fn bound(ports: PortMap) -> Vec<PublishedPort> {
    let mut published: Vec<PublishedPort> = ports
        .into_iter()
        .flat_map(|(key, bindings)| {
            bindings.unwrap_or_default().into_iter().filter_map(move |binding| bound_port(&key, &binding))
        })
        .collect();
    published.sort();
    published.dedup();
    published
}

fn bound_port(key: &str, binding: &PortBinding) -> Option<PublishedPort> {
    let (container, protocol) = key.split_once('/').unwrap_or((key, "tcp"));
    Some(PublishedPort {
        address: address(binding.host_ip.as_deref()),
        host: binding.host_port.as_deref()?.parse().ok()?,
        container: container.parse().ok()?,
        protocol: match protocol {
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => Protocol::Tcp,
        },
    })
}

/// A network; `None` where it has no id.
pub fn network(network: EngineNetwork) -> Option<Network> {
    let labels = network.labels.unwrap_or_default();
    Some(Network {
        id: network.id?,
        name: network.name.unwrap_or_default(),
        group: labels.get(identity::GROUP).cloned(),
        source: labels.get(identity::SOURCE).cloned(),
    })
}

/// A volume; `None` where it does not carry our group label.
pub fn volume(volume: EngineVolume) -> Option<Volume> {
    Some(Volume {
        group: volume.labels.get(identity::GROUP)?.clone(),
        source: volume.labels.get(identity::SOURCE).cloned(),
        name: volume.name,
    })
}

/// Ids of the images by everything that names them, their own id included.
pub fn images(summaries: Vec<ImageSummary>) -> BTreeMap<String, String> {
    let mut images = BTreeMap::new();
    for summary in summaries {
        let references = summary.repo_tags.into_iter().chain(summary.repo_digests);
        for reference in references.filter(|reference| !reference.contains("<none>")) {
            images.insert(reference, summary.id.clone());
        }
        images.insert(summary.id.clone(), summary.id);
    }
    images
}

/// Images that were built for a group, as their labels say, by the reference that they were given.
pub fn built(summaries: &[ImageSummary], group: &str) -> BTreeMap<String, BuiltImage> {
    let built = |summary: &ImageSummary| {
        let reference = summary.labels.get(identity::BUILD_IMAGE)?;
        let owner = summary.labels.get(identity::BUILD_GROUP).filter(|owner| *owner == group)?;
        // What is built on it inherits its labels, and has another name.
        summary.repo_tags.contains(reference).then(|| {
            let source = summary.labels.get(identity::BUILD_SOURCE).cloned();
            (reference.clone(), BuiltImage { id: summary.id.clone(), group: owner.clone(), source })
        })
    };
    summaries.iter().filter_map(built).collect()
}

/// What is to be known about an image.
pub fn facts(image: ImageInspect) -> ImageFacts {
    let config = image.config.unwrap_or_default();
    let test = config.healthcheck.and_then(|check| check.test).unwrap_or_default();
    let mut volumes = config.volumes.unwrap_or_default();
    volumes.sort();
    ImageFacts { healthcheck: test.first().is_some_and(|word| word != "NONE"), volumes }
}

/// What an event says; `None` where it says nothing about a container of the group or a network.
///
/// A network's events do not carry its labels, so those of every network are passed on.
pub fn event(event: EventMessage, group: &str) -> Option<EngineEvent> {
    let actor = event.actor.unwrap_or_default();
    let attributes = actor.attributes.unwrap_or_default();
    let id = actor.id?;
    match event.typ? {
        EventMessageTypeEnum::NETWORK => Some(EngineEvent::Network {
            id,
            container: attributes.get("container").filter(|id| !id.is_empty()).cloned(),
        }),
        EventMessageTypeEnum::CONTAINER if attributes.get(identity::GROUP).is_some_and(|owner| owner == group) => {
            let what = happened(event.action.as_deref()?, &attributes)?;
            Some(EngineEvent::Container { id, what })
        }
        _ => None,
    }
}

fn happened(action: &str, attributes: &HashMap<String, String>) -> Option<ContainerEvent> {
    // `health_status: healthy`, `exec_create: sh -c true`
    let (verb, rest) = action.split_once(": ").unwrap_or((action, ""));
    match verb {
        "create" => Some(ContainerEvent::Created),
        "start" => Some(ContainerEvent::Started),
        "die" => Some(ContainerEvent::Died { code: attributes.get("exitCode").and_then(|code| code.parse().ok()) }),
        "destroy" => Some(ContainerEvent::Destroyed),
        "health_status" => Some(match rest {
            "healthy" => ContainerEvent::Health(Health::Healthy),
            "unhealthy" => ContainerEvent::Health(Health::Unhealthy),
            "starting" => ContainerEvent::Health(Health::Starting),
            _ => ContainerEvent::Changed,
        }),
        "kill" if is_meant_to_end(attributes) => Some(ContainerEvent::Killed),
        "stop" | "restart" | "pause" | "unpause" | "rename" | "update" | "oom" => Some(ContainerEvent::Changed),
        // Commands in it, other signals to it, its files and terminal: none of them changes what it is.
        _ => None,
    }
}

/// Whether a signal is meant to end a container. Any may be the one that its image wants to be stopped with, so only
/// those count as harmless that are sent for other reasons almost always: 0 (is it there?), HUP (read your files again)
/// and WINCH (the terminal has another size).
fn is_meant_to_end(attributes: &HashMap<String, String>) -> bool {
    !matches!(attributes.get("signal").map(String::as_str), Some("0" | "1" | "28"))
}

/// How long before its end a container was sent the signal that was to end it, at most. It may have been slow to obey,
/// but then the engine sends it another.
const OBEYS_WITHIN: i64 = 60 * 1_000_000_000;

/// The containers of a group that ended, oldest first, by events up to now (nanoseconds since 1970, as the engine
/// counts). Events that lack what is needed are left out.
pub fn ends(mut events: Vec<EventMessage>, group: &str, now: i64) -> Vec<ContainerExit> {
    events.sort_by_key(|event| event.time_nano);
    let mut asked: HashMap<String, i64> = HashMap::new();
    let mut ends = Vec::new();
    for event in events {
        let (Some(action), Some(at), Some(actor)) = (event.action, event.time_nano, event.actor) else { continue };
        let (Some(id), Some(attributes)) = (actor.id, actor.attributes) else { continue };
        if attributes.get(identity::GROUP).is_none_or(|owner| owner != group) {
            continue;
        }
        match (happened(&action, &attributes), attributes.get(identity::SERVICE)) {
            (Some(ContainerEvent::Killed), _) => drop(asked.insert(id, at)),
            (Some(ContainerEvent::Died { code }), Some(service)) => ends.push(ContainerExit {
                service: service.clone(),
                replica: attributes.get(identity::REPLICA).and_then(|number| number.parse().ok()),
                ago: Duration::from_nanos(u64::try_from(now.saturating_sub(at)).unwrap_or_default()),
                code,
                asked: asked.remove(&id).is_some_and(|asked| at - asked <= OBEYS_WITHIN),
            }),
            _ => {}
        }
    }
    ends
}

/// Seconds and nanoseconds since 1970 of an RFC 3339 time.
pub fn since_epoch(text: &str) -> Option<(i64, u32)> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let mut date = date.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let clock = rest.get(..8)?;
    let mut clock = clock.split(':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let (fraction, zone) = fraction_and_zone(&rest[8..]);
    let seconds = days_since_epoch(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - zone?;
    Some((seconds, fraction))
}

/// Nanoseconds of `.123456789+02:00`, and the seconds by which its zone is ahead.
fn fraction_and_zone(text: &str) -> (u32, Option<i64>) {
    let digits: &str = text.strip_prefix('.').unwrap_or_default();
    let length = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let nanoseconds = format!("{:0<9.9}", &digits[..length]).parse().unwrap_or_default();
    let zone = if length > 0 { &digits[length..] } else { text };
    (nanoseconds, zone_offset(zone))
}

fn zone_offset(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, rest) = match zone.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    Some(sign * (hours.parse::<i64>().ok()? * 3_600 + minutes.parse::<i64>().ok()? * 60))
}

/// Days from 1970-01-01 in the Gregorian calendar; years are counted from March, so that the leap day is the last.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::Seconds;
    use crate::spec::model::{ExtraHost, Ulimit};

    #[test]
    fn the_status_of_a_list_is_read() {
        use ContainerSummaryStateEnum as S;
        let exited = |code| State::Exited { code };
        let table = [
            (Some(S::CREATED), "Created", State::Created, Health::None),
            (Some(S::RUNNING), "Up 2 minutes", State::Running, Health::None),
            (Some(S::RUNNING), "Up 2 minutes (healthy)", State::Running, Health::Healthy),
            (Some(S::RUNNING), "Up Less than a second (health: starting)", State::Running, Health::Starting),
            (Some(S::RUNNING), "Up 3 days (unhealthy)", State::Running, Health::Unhealthy),
            (Some(S::PAUSED), "Up 2 minutes (Paused)", State::Paused, Health::None),
            (Some(S::RESTARTING), "Restarting (1) 3 seconds ago", State::Restarting, Health::None),
            (Some(S::EXITED), "Exited (0) 3 minutes ago", exited(Some(0)), Health::None),
            (Some(S::EXITED), "Exited (137) About an hour ago", exited(Some(137)), Health::None),
            (Some(S::EXITED), "Exited (-1) 1 second ago", exited(Some(-1)), Health::None),
            (Some(S::EXITED), "", exited(None), Health::None),
            (Some(S::REMOVING), "Removal In Progress", State::Removing, Health::None),
            (Some(S::DEAD), "Dead", State::Dead, Health::None),
            (None, "", State::Removing, Health::None),
        ];
        for (state, status, expected, health) in table {
            assert_eq!((state_of_list(state, status), health_of_status(status)), (expected, health), "{status}");
        }
    }

    #[test]
    fn an_entry_with_nothing_in_it_is_tolerated() {
        let empty: ContainerSummary = serde_json::from_str(
            r#"{"Id": "ab", "Names": null, "Ports": null, "Labels": null, "NetworkSettings": null, "Mounts": null}"#,
        )
        .unwrap();
        let container = container(empty).unwrap();
        assert_eq!((container.name.as_str(), container.state), ("", State::Removing));
        assert_eq!(inspected(ContainerInspectResponse::default()), None);
    }

    #[test]
    fn a_listed_container_is_read() {
        let summary: ContainerSummary = serde_json::from_str(
            r#"{"Id": "ab", "Names": ["/web/db", "/shop-db"], "Image": "postgres:15", "Created": 5, "State": "running",
                "Status": "Up 2 seconds", "Labels": {"drillmaster.group": "shop", "drillmaster.service": "db"},
                "Ports": [{"IP": "127.0.0.1", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
                          {"PrivatePort": 81, "Type": "udp"}],
                "Health": {"Status": "healthy", "FailingStreak": 0},
                "NetworkSettings": {"Networks": {"shop": {"NetworkID": "n1", "IPAddress": "10.0.0.2"},
                                                 "other": {"NetworkID": "n2", "IPAddress": ""}}},
                "Mounts": [{"Type": "volume", "Name": "v", "Source": "", "Destination": "/d", "RW": true},
                           {"Type": "bind", "Source": "/conf", "Destination": "/c", "RW": false}]}"#,
        )
        .unwrap();
        let container = container(summary).unwrap();
        assert_eq!(container.name, "shop-db");
        assert_eq!(container.service_of("shop"), Some("db"));
        assert_eq!(container.health, Health::Healthy);
        let address =
            |network: &Attachment| (network.network.clone(), network.address.map(|address| address.to_string()));
        let networks: Vec<_> = container.networks.iter().map(address).collect();
        assert_eq!(networks, [("other".into(), None), ("shop".into(), Some("10.0.0.2".into()))]);
        let (address, protocol) = (IpAddr::from([127, 0, 0, 1]), Protocol::Tcp);
        assert_eq!(container.ports, [PublishedPort { address, host: 8080, container: 80, protocol }]);
        assert_eq!((container.mounts[0].bind.as_deref(), container.mounts[0].writable), (Some("/conf"), false));
        assert_eq!((container.mounts[1].volume.as_deref(), container.mounts[1].writable), (Some("v"), true));
    }

    #[test]
    fn images_are_found_by_all_their_names() {
        let image = |json: &str| -> ImageSummary { serde_json::from_str(json).unwrap() };
        let rest = r#""ParentId": "", "Created": 0, "Size": 0, "SharedSize": 0, "Labels": null, "Containers": 0"#;
        let found = images(vec![
            image(&format!(
                r#"{{"Id": "sha256:a", "RepoTags": ["debian:12"], "RepoDigests": ["debian@sha256:f"], {rest}}}"#
            )),
            image(&format!(r#"{{"Id": "sha256:b", "RepoTags": ["<none>:<none>"], "RepoDigests": null, {rest}}}"#)),
        ]);
        let found: Vec<(&str, &str)> = found.iter().map(|(name, id)| (name.as_str(), id.as_str())).collect();
        assert_eq!(
            found,
            [
                ("debian:12", "sha256:a"),
                ("debian@sha256:f", "sha256:a"),
                ("sha256:a", "sha256:a"),
                ("sha256:b", "sha256:b")
            ]
        );
    }

    #[test]
    fn events_become_hints() {
        let message = |kind: &str, action: &str| -> EventMessage {
            let json = format!(
                r#"{{"Type": "{kind}", "Action": "{action}", "Actor": {{"ID": "ab", "Attributes":
                    {{"drillmaster.group": "shop", "exitCode": "137", "container": "cd"}}}}}}"#
            );
            serde_json::from_str(&json).unwrap()
        };
        let what = |action: &str| match event(message("container", action), "shop") {
            Some(EngineEvent::Container { what, .. }) => Some(what),
            _ => None,
        };
        assert_eq!(what("die"), Some(ContainerEvent::Died { code: Some(137) }));
        assert_eq!(what("health_status: unhealthy"), Some(ContainerEvent::Health(Health::Unhealthy)));
        assert_eq!(what("rename"), Some(ContainerEvent::Changed));
        for change in ["pause", "unpause", "rename", "update", "stop", "restart"] {
            assert_eq!(what(change), Some(ContainerEvent::Changed), "{change}");
        }
        for noise in ["exec_create: sh -c true", "exec_start: true", "exec_die", "attach", "top"] {
            assert_eq!(what(noise), None, "{noise}");
        }
        assert_eq!(what("kill"), Some(ContainerEvent::Killed));
        let signal = |signal: &str| happened("kill", &HashMap::from([("signal".to_owned(), signal.to_owned())]));
        for harmless in ["0", "1", "28"] {
            assert_eq!(signal(harmless), None, "{harmless}");
        }
        for meant in ["2", "3", "9", "10", "15"] {
            assert_eq!(signal(meant), Some(ContainerEvent::Killed), "{meant}");
        }
        assert_eq!(event(message("container", "die"), "other"), None);
        assert_eq!(event(message("image", "pull"), "shop"), None);
        let network = EngineEvent::Network { id: "ab".into(), container: Some("cd".into()) };
        assert_eq!(event(message("network", "disconnect"), "other"), Some(network));
    }

    #[test]
    fn what_ended_lately_is_told_with_who_wanted_it() {
        let event = |at: i64, id: &str, action: &str, signal: &str| -> EventMessage {
            let json = format!(
                r#"{{"Type": "container", "Action": "{action}", "timeNano": {at}000000000, "Actor": {{"ID": "{id}",
                    "Attributes": {{"drillmaster.group": "shop", "drillmaster.service": "{id}", "exitCode": "{at}",
                    "signal": "{signal}"}}}}}}"#
            );
            serde_json::from_str(&json).unwrap()
        };
        let mut foreign = event(5, "foreign", "die", "");
        foreign.actor.as_mut().unwrap().attributes.as_mut().unwrap().remove(identity::GROUP);
        let mut nameless = event(5, "nameless", "die", "");
        nameless.actor.as_mut().unwrap().attributes.as_mut().unwrap().remove(identity::SERVICE);
        let events = vec![
            event(30, "db", "die", ""),
            event(10, "api", "kill", "15"),
            event(12, "api", "die", ""),
            event(20, "db", "kill", "1"),
            event(40, "api", "die", ""),
            event(41, "late", "kill", "15"),
            event(110, "late", "die", ""),
            foreign,
            nameless,
            EventMessage::default(),
        ];
        let seconds = 1_000_000_000;
        let told: Vec<_> = ends(events, "shop", 100 * seconds)
            .into_iter()
            .map(|end| (end.service, end.ago.as_secs(), end.code, end.asked))
            .collect();
        let end = |service: &str, ago, code, asked| (service.to_owned(), ago, Some(code), asked);
        let expected =
            [end("api", 88, 12, true), end("db", 70, 30, false), end("api", 60, 40, false), end("late", 0, 110, false)];
        assert_eq!(told, expected);
    }

    #[test]
    fn times_are_read() {
        let table = [
            ("1970-01-01T00:00:00Z", Some((0, 0))),
            ("2024-02-29T12:34:56.5Z", Some((1_709_210_096, 500_000_000))),
            ("2024-03-01T00:00:00.123456789+02:00", Some((1_709_244_000, 123_456_789))),
            ("1999-12-31T23:59:59-00:30", Some((946_686_599, 0))),
            ("0001-01-01T00:00:00Z", Some((-62_135_596_800, 0))),
            ("yesterday", None),
            ("2024-03-01T00:00:00", None),
            ("2024-03-01T0:0:0Z", None),
        ];
        for (text, expected) in table {
            assert_eq!(since_epoch(text), expected, "{text}");
        }
        assert_eq!(moment(Some("0001-01-01T00:00:00Z")), "");
    }

    #[test]
    fn a_limit_on_processes_can_be_taken_away_and_memory_brings_its_swap() {
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
                    disable: false,
                }),
                stop_signal: Some("SIGINT".into()),
                stop_timeout: Some(Seconds(30)),
                restart: RestartPolicy::UnlessStopped,
                resources: Resources { memory: Some(ByteSize::new(1 << 20)), cpus: cpus(500_000_000), pids: Some(10) },
                extra_hosts: vec![ExtraHost { name: "gate".into(), address: "host-gateway".into() }],
                cap_add: vec!["NET_ADMIN".into()],
                cap_drop: vec!["NET_RAW".into()],
                privileged: true,
                read_only: true,
                init: true,
                shm_size: Some(1024),
                ulimits: BTreeMap::from([("nofile".into(), Ulimit { soft: 1, hard: -1 })]),
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
    fn a_blueprint_becomes_a_request() {
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
            "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 1_000_000_000, "Retries": 3},
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
            },
            "NetworkingConfig": {"EndpointsConfig": {"shop-net": {"NetworkID": "n1", "Aliases": ["api", "backend"]}}},
        });
        assert_eq!(without_nulls(serde_json::to_value(create_body(&full())).unwrap()), expected);
    }

    /// What is null is not set.
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
    fn a_health_check_can_be_turned_off_and_written_in_the_engines_way() {
        let check = |test, disable| Healthcheck {
            test,
            interval: None,
            timeout: None,
            retries: None,
            start_period: None,
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
