//! Responses of the API: containers, networks, volumes and images, converted to the types of [`crate::observed`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bollard::models::{
    ContainerInspectResponse, ContainerState, ContainerStateStatusEnum, ContainerSummary,
    ContainerSummaryHealthStatusEnum, ContainerSummaryStateEnum, EndpointSettings, Health as EngineHealth,
    HealthStatusEnum, HostConfig, ImageInspect, ImageSummary, IpamConfig, MountPoint as EngineMount,
    Network as EngineNetwork, PortBinding, PortMap, PortSummary, PortSummaryTypeEnum,
    RestartPolicy as EngineRestartPolicy, RestartPolicyNameEnum, Volume as EngineVolume,
};
use jiff::Timestamp;

use crate::engine::LabeledVolume;
use crate::identity::{self, Identity};
use crate::observed::{
    Attachment, BuiltImage, ComposeService, Container, Details, Health, ImageFacts, MountPoint, Network,
    NetworkSettings, PublishedPort, State, Volume,
};
use crate::spec::model::{MemorySwap, Protocol, Resources, RestartPolicy};
use crate::spec::value::{ByteSize, CpuCount, Microseconds, Platform};

/// Label of docker compose with the name of its project.
const COMPOSE_PROJECT: &str = "com.docker.compose.project";
/// Label of docker compose with the name of its service.
const COMPOSE_SERVICE: &str = "com.docker.compose.service";
/// Label of docker compose with the dependencies of its service: `db:service_healthy:false,cache:service_started:true`.
const COMPOSE_DEPENDENCIES: &str = "com.docker.compose.depends_on";

/// The service of docker compose that a container was created for.
fn compose_service(labels: &HashMap<String, String>) -> Option<ComposeService> {
    let label = |name: &str| labels.get(name).map(String::as_str).unwrap_or_default();
    let dependencies = label(COMPOSE_DEPENDENCIES).split(',').filter_map(|entry| entry.split(':').next());
    Some(ComposeService {
        project: labels.get(COMPOSE_PROJECT)?.clone(),
        service: label(COMPOSE_SERVICE).to_owned(),
        dependencies: dependencies.filter(|name| !name.is_empty()).map(str::to_owned).collect(),
    })
}

/// A listed container; `None` if it has no id.
pub fn container(summary: ContainerSummary) -> Option<Container> {
    let status = summary.status.unwrap_or_default();
    let labels = summary.labels.unwrap_or_default();
    let state = state_of_list(summary.state, &status);
    Some(Container {
        id: summary.id?.into(),
        name: name(&summary.names.unwrap_or_default()),
        identity: Identity::from_labels(&labels),
        inherited: None,
        compose: compose_service(&labels),
        image: summary.image.unwrap_or_default(),
        image_id: summary.image_id.unwrap_or_default(),
        state,
        health: summary
            .health
            .and_then(|health| health.status)
            .map_or_else(|| health_of_status(&status), health_of_list),
        network_mode: summary.host_config.and_then(|host| host.network_mode).unwrap_or_default(),
        networks: attachments(summary.network_settings.and_then(|settings| settings.networks)),
        ports: published(summary.ports.unwrap_or_default()),
        mounts: mount_points(summary.mounts.unwrap_or_default()),
        created: summary.created.unwrap_or_default(),
        details: None,
    })
}

/// The container's name: the one without a second slash; others are links. A container being removed has none.
fn name(names: &[String]) -> String {
    let bare = names.iter().map(|name| name.trim_start_matches('/'));
    bare.min_by_key(|name| name.contains('/')).unwrap_or_default().to_owned()
}

fn state_of_list(state: Option<ContainerSummaryStateEnum>, status: &str) -> State {
    use ContainerSummaryStateEnum as S;
    match state {
        Some(S::CREATED) => State::Created,
        // A stopping container still runs.
        Some(S::RUNNING | S::STOPPING) => State::Running,
        Some(S::PAUSED) => State::Paused,
        Some(S::RESTARTING) => State::Restarting,
        Some(S::EXITED) => State::Exited { code: exit_code(status) },
        Some(S::DEAD) => State::Dead,
        // A container whose record is partly removed has no state.
        Some(S::REMOVING | S::EMPTY) | None => State::Removing,
    }
}

/// The exit code in `Exited (137) 3 minutes ago`.
fn exit_code(status: &str) -> Option<i64> {
    status.strip_prefix("Exited (")?.split_once(')')?.0.parse().ok()
}

/// The health status at the end of `Up 2 minutes (healthy)`.
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
            prefix: settings.ip_prefix_len.and_then(|length| length.try_into().ok()),
        })
        .collect();
    attachments.sort_by(|one, other| one.network.cmp(&other.network));
    attachments
}

/// Network aliases of a container, by network id. Only an inspect response has them.
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

/// Exit code and last line of output of the last health check, if it failed.
fn health_failure(health: &EngineHealth) -> String {
    let last = health.log.as_ref().and_then(|log| log.last());
    match last.and_then(|last| Some((last, last.exit_code.filter(|code| *code != 0)?))) {
        Some((last, code)) => {
            let line = last.output.as_deref().unwrap_or_default().lines().rev().find(|line| !line.trim().is_empty());
            line.map_or_else(
                || format!("exited with code {code}"),
                |line| format!("exited with code {code}: {}", line.trim()),
            )
        }
        None => String::new(),
    }
}

/// An inspected container with its details; `None` if it has no id.
pub fn inspected(response: ContainerInspectResponse) -> Option<Container> {
    let config = response.config.unwrap_or_default();
    let mut host = response.host_config.unwrap_or_default();
    let network_mode = host.network_mode.take().unwrap_or_default();
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
    let labels = config.labels.unwrap_or_default();
    Some(Container {
        id: response.id?.into(),
        name: response.name.unwrap_or_default().trim_start_matches('/').to_owned(),
        identity: Identity::from_labels(&labels),
        inherited: None,
        compose: compose_service(&labels),
        image: config.image.unwrap_or_default(),
        image_id: response.image.unwrap_or_default(),
        state: state_of_inspection(&state),
        health: state.health.and_then(|health| health.status).map_or(Health::None, health_of_inspection),
        network_mode,
        networks: attachments(network.networks),
        ports: bound(network.ports.unwrap_or_default()),
        mounts: mount_points(response.mounts.unwrap_or_default()),
        created: response.created.as_deref().and_then(super::timestamp).map_or(0, Timestamp::as_second),
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
    // A name alone removes the variable of the image.
    lines
        .iter()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// Zero and negative values mean no limit.
fn resources(host: &HostConfig) -> Resources {
    let limit = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok()).filter(|number| *number > 0);
    let memory = limit(host.memory).map(ByteSize::new);
    let swap = match host.memory_swap {
        Some(..0) => Some(MemorySwap::Unlimited),
        swap => limit(swap).map(ByteSize::new).map(MemorySwap::Size),
    };
    let number = |number: Option<i64>| limit(number).and_then(|number| u32::try_from(number).ok());
    let time = |time: Option<i64>| number(time).map(Microseconds::new);
    let set = |set: &Option<String>| set.as_ref().and_then(|set| set.parse().ok());
    Resources {
        memory,
        cpus: limit(host.nano_cpus).and_then(cpus),
        pids: number(host.pids_limit),
        memory_reservation: limit(host.memory_reservation).map(ByteSize::new),
        // The engine sets it for each memory limit.
        memory_swap: memory.and(swap).filter(|swap| Some(*swap) != memory.map(MemorySwap::default_for)),
        cpu_shares: number(host.cpu_shares),
        cpuset: set(&host.cpuset_cpus),
        cpuset_mems: set(&host.cpuset_mems),
        cpu_period: time(host.cpu_period),
        cpu_quota: time(host.cpu_quota),
        cpu_rt_period: time(host.cpu_realtime_period),
        cpu_rt_runtime: time(host.cpu_realtime_runtime),
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

/// A network; `None` if it has no id.
pub fn network(network: EngineNetwork) -> Option<Network> {
    let labels = network.labels.unwrap_or_default();
    let ipam = network.ipam.unwrap_or_default();
    let ranges: Vec<IpamConfig> = ipam.config.unwrap_or_default();
    let settings = NetworkSettings {
        driver: network.driver.unwrap_or_default(),
        internal: network.internal.unwrap_or_default(),
        attachable: network.attachable.unwrap_or_default(),
        // Engines before API 1.48 have no other networks.
        enable_ipv4: network.enable_ipv4.unwrap_or(true),
        enable_ipv6: network.enable_ipv6.unwrap_or_default(),
        options: network.options.unwrap_or_default().into_iter().collect(),
        gateways: ranges.iter().filter_map(|range| range.gateway.clone()).collect(),
        ip_ranges: ranges.iter().filter_map(|range| range.ip_range.clone()).filter(|range| !range.is_empty()).collect(),
        aux_addresses: ranges.iter().filter_map(|range| range.auxiliary_addresses.clone()).flatten().collect(),
        ipam_driver: ipam.driver.unwrap_or_default(),
        ipam_options: ipam.options.unwrap_or_default().into_iter().collect(),
        labels: labels.clone().into_iter().collect(),
    };
    Some(Network {
        id: network.id?,
        name: network.name.unwrap_or_default(),
        group: labels.get(identity::GROUP).cloned(),
        source: labels.get(identity::SOURCE).cloned(),
        compose_project: labels.get(COMPOSE_PROJECT).cloned(),
        subnets: ranges.into_iter().filter_map(|range| range.subnet).collect(),
        settings,
    })
}

/// A volume with its labels. `now` is the time by the engine's clock, in nanoseconds since the Unix epoch.
pub fn labeled_volume(volume: EngineVolume, now: i64) -> LabeledVolume {
    let created = volume.created_at.as_deref().and_then(super::timestamp);
    let age = created.and_then(|created| i64::try_from(created.as_nanosecond()).ok()).map(|created| now - created);
    // A volume that is younger than the error of the clock seems to be created later than now.
    let age = age.map(|age| Duration::from_nanos(u64::try_from(age).unwrap_or_default()));
    LabeledVolume { name: volume.name, labels: volume.labels.into_iter().collect(), age }
}

/// A volume.
pub fn volume(volume: EngineVolume) -> Volume {
    Volume {
        group: volume.labels.get(identity::GROUP).cloned(),
        source: volume.labels.get(identity::SOURCE).cloned(),
        name: volume.name,
        driver: volume.driver,
        options: volume.options.into_iter().collect(),
    }
}

/// Image ids by every reference to them: tags, digests and the id itself.
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

/// Images that contain the manifest from which a container was created, by the id of the container's image. An image of
/// containerd's store is an index: its id also covers other platforms and attestations, which are new with every build.
pub fn equal_images(containers: &[ContainerSummary], images: &[ImageSummary]) -> BTreeMap<String, BTreeSet<String>> {
    let mut by_manifest: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for image in images {
        for manifest in image.manifests.iter().flatten() {
            by_manifest.entry(&manifest.id).or_default().insert(image.id.clone());
        }
    }
    let equal = |container: &ContainerSummary| {
        let manifest = container.image_manifest_descriptor.as_ref()?.digest.as_deref()?;
        Some((container.image_id.clone()?, by_manifest.get(manifest)?.clone()))
    };
    containers.iter().filter_map(equal).collect()
}

/// Platforms of the images of containerd's store, of which an image may have several, by id.
pub fn image_platforms(images: &[ImageSummary]) -> BTreeMap<String, BTreeSet<String>> {
    let present = |image: &ImageSummary| -> BTreeSet<String> {
        let manifests = image.manifests.iter().flatten().filter(|manifest| manifest.available);
        let platforms = manifests.filter_map(|manifest| Some(&manifest.image_data.as_ref()?.platform));
        platforms.map(|of| platform(of.os.as_deref(), of.architecture.as_deref(), of.variant.as_deref())).collect()
    };
    let present = images.iter().map(|image| (image.id.clone(), present(image)));
    present.filter(|(_, platforms)| !platforms.is_empty()).collect()
}

/// A platform in the form of specs; empty if it is not known.
fn platform(os: Option<&str>, architecture: Option<&str>, variant: Option<&str>) -> String {
    let parts = [os, architecture, variant].map(Option::unwrap_or_default);
    let text = parts.join("/");
    text.trim_end_matches('/').parse::<Platform>().map(String::from).unwrap_or_default()
}

/// Ids of the images with the label of a group.
pub fn labeled(summaries: &[ImageSummary]) -> BTreeSet<String> {
    let labeled = summaries.iter().filter(|summary| summary.labels.contains_key(identity::GROUP));
    labeled.map(|summary| summary.id.clone()).collect()
}

/// Images built for a group according to their labels, by reference.
pub fn built(summaries: &[ImageSummary], group: &str) -> BTreeMap<String, BuiltImage> {
    let built = |summary: &ImageSummary| {
        let reference = summary.labels.get(identity::BUILD_IMAGE)?;
        let owner = summary.labels.get(identity::BUILD_GROUP).filter(|owner| *owner == group)?;
        // Images built on it inherit its labels but have another name.
        summary.repo_tags.contains(reference).then(|| {
            let source = summary.labels.get(identity::BUILD_SOURCE).cloned();
            (
                reference.clone(),
                BuiltImage { id: summary.id.clone(), group: owner.clone(), source, created: summary.created },
            )
        })
    };
    summaries.iter().filter_map(built).collect()
}

/// Facts about an image.
pub fn facts(image: ImageInspect) -> ImageFacts {
    let platform = platform(image.os.as_deref(), image.architecture.as_deref(), image.variant.as_deref());
    let config = image.config.unwrap_or_default();
    let test = config.healthcheck.and_then(|check| check.test).unwrap_or_default();
    let mut volumes = config.volumes.unwrap_or_default();
    volumes.sort();
    ImageFacts {
        healthcheck: test.first().is_some_and(|word| word != "NONE"),
        stop_signal: config.stop_signal.is_some_and(|signal| !signal.is_empty()),
        volumes,
        platform,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_status_is_parsed() {
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
    fn zero_time_is_empty() {
        assert_eq!(moment(Some("0001-01-01T00:00:00Z")), "");
    }

    #[test]
    fn empty_list_entry_is_tolerated() {
        let empty: ContainerSummary = serde_json::from_str(
            r#"{"Id": "ab", "Names": null, "Ports": null, "Labels": null, "NetworkSettings": null, "Mounts": null}"#,
        )
        .unwrap();
        let container = container(empty).unwrap();
        assert_eq!((container.name.as_str(), container.state), ("", State::Removing));
        assert_eq!(inspected(ContainerInspectResponse::default()), None);
    }

    #[test]
    fn listed_container_is_converted() {
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
    fn index_with_the_manifest_of_a_container_is_its_image() {
        let image = |id: &str, manifest: &str| -> ImageSummary {
            serde_json::from_str(&format!(
                r#"{{"Id": "{id}", "ParentId": "", "Created": 0, "Size": 0, "SharedSize": 0, "Labels": null,
                     "Containers": 0, "RepoTags": null, "RepoDigests": null, "Manifests": [
                     {{"ID": "{manifest}", "Descriptor": {{"digest": "{manifest}"}}, "Available": true, "Kind": "image",
                       "Size": {{"Total": 0, "Content": 0}},
                       "ImageData": {{"Platform": {{"os": "linux"}}, "Containers": null, "Size": {{"Unpacked": 0}}}}}},
                     {{"ID": "other-{id}", "Descriptor": {{}}, "Available": false, "Kind": "attestation",
                       "Size": {{"Total": 0, "Content": 0}}, "AttestationData": {{"For": "{manifest}"}}}}]}}"#,
            ))
            .unwrap()
        };
        let container: ContainerSummary =
            serde_json::from_str(r#"{"ImageID": "old", "ImageManifestDescriptor": {"digest": "m"}}"#).unwrap();
        let images = [image("same", "m"), image("other", "n"), image("again", "m")];
        let equal = equal_images(&[container, ContainerSummary::default()], &images);
        assert_eq!(equal, BTreeMap::from([("old".into(), BTreeSet::from(["same".into(), "again".into()]))]));
    }

    #[test]
    fn images_are_found_by_any_of_their_names() {
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
}
