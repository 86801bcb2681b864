//! Podman's Docker API: what it answers and expects otherwise than Docker, converted to Docker's form.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use bollard::models::{
    ContainerCreateBody, ContainerUpdateBody, EndpointIpamConfig, EndpointSettings, EventMessage, EventMessageTypeEnum,
    ImageSummary, Mount, MountType, SystemInfo, VolumeCreateRequest,
};

use super::super::ContainerExit;
use crate::capabilities::LimitSupport;
use crate::desired::fingerprint::sha256;
use crate::observed::Container;
use crate::spec::value::{ImageParts, ImageRef};

/// Period of a CPU quota, in microseconds: the kernel's default.
const CPU_PERIOD: i64 = 100_000;
/// Registry of images that were built or loaded under a short name.
const LOCAL: &str = "localhost/";

/// The identity of an engine. The id that Podman reports is another one each time.
pub fn engine_id(info: &SystemInfo) -> String {
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    let hash = sha256(format!("{}\0{}\0", part(&info.name), part(&info.docker_root_dir)).as_bytes());
    format!("podman-{}", hash.get(..32).unwrap_or(&hash))
}

/// A line of output of a command that was run in a container, as Docker reports it; `None`: Podman's own.
pub fn exec_line(text: String) -> Option<String> {
    if text.starts_with("Error: read unixpacket ") && text.ends_with("connection reset by peer") {
        return None;
    }
    let runtime = |text: &str| {
        let (runtime, rest) = text.strip_prefix("Error: ")?.split_once(": ")?;
        let is_failure = matches!(runtime, "runc" | "crun") && rest.contains("OCI runtime attempted to invoke");
        is_failure.then(|| format!("OCI runtime exec failed: {rest}"))
    };
    Some(runtime(&text).unwrap_or(text))
}

/// The short name of an image: without `localhost/`, `docker.io/` and `docker.io/library/`.
pub fn short_name(image: &str) -> String {
    match image.strip_prefix(LOCAL) {
        Some(rest) if ImageParts::split(rest).registry().0.is_none() => rest.to_owned(),
        _ => image.parse::<ImageRef>().map_or_else(|_| image.to_owned(), |image| image.familiar()),
    }
}

/// Adds the short names of images to their full ones, which are all that Podman lists. Of two images with the same short
/// name, Podman takes the local one.
pub fn add_short_names(images: &mut [ImageSummary]) {
    let names = images.iter().flat_map(|image| image.repo_tags.iter().chain(&image.repo_digests));
    let local: BTreeSet<String> = names.filter(|name| name.starts_with(LOCAL)).map(|name| short_name(name)).collect();
    let short = |full: &String| {
        let short = short_name(full);
        (short != *full && (full.starts_with(LOCAL) || !local.contains(&short))).then_some(short)
    };
    for image in images {
        let tags: Vec<String> = image.repo_tags.iter().filter_map(short).collect();
        let digests: Vec<String> = image.repo_digests.iter().filter_map(short).collect();
        image.repo_tags.extend(tags);
        image.repo_digests.extend(digests);
    }
}

/// Replaces states that Docker does not have: of each container in a list, or of an inspected one.
pub fn adapt_states(response: &mut serde_json::Value) {
    let adapt = |state: &mut serde_json::Value| {
        let adapted = match state.as_str() {
            // Exited; its network and mounts are not released yet.
            Some("stopped") => "exited",
            Some("configured" | "initialized") => "created",
            _ => return,
        };
        *state = adapted.into();
    };
    match response {
        serde_json::Value::Array(containers) => {
            containers.iter_mut().filter_map(|container| container.get_mut("State")).for_each(adapt);
        }
        container => container.pointer_mut("/State/Status").into_iter().for_each(adapt),
    }
}

/// Volume mounts of a request with labels for a volume that does not exist yet: Podman ignores them.
pub fn labeled_mounts(body: &mut ContainerCreateBody) -> Vec<(&mut Mount, VolumeCreateRequest)> {
    let mounts = body.host_config.as_mut().and_then(|host| host.mounts.as_mut()).into_iter().flatten();
    let labeled = mounts.filter(|mount| mount.typ == Some(MountType::VOLUME)).filter_map(|mount| {
        let options = mount.volume_options.as_mut()?;
        let labels = Some(options.labels.take()?);
        let config = options.driver_config.take().unwrap_or_default();
        let (name, driver, driver_opts) = (mount.source.clone(), config.name, config.options);
        Some((mount, VolumeCreateRequest { name, labels, driver, driver_opts, ..Default::default() }))
    });
    labeled.collect()
}

/// What Podman takes otherwise than Docker, or not at all.
pub fn adapt_create(body: &mut ContainerCreateBody, limits: &LimitSupport) {
    let Some(host) = &mut body.host_config else { return };
    let LimitSupport { memory, cpus, pids, swap, cpu_shares, cpuset } = *limits;
    // With control groups v2, a container with a limit that they do not support would not start.
    keep_if(memory, &mut host.memory);
    keep_if(memory, &mut host.memory_reservation);
    keep_if(memory && swap, &mut host.memory_swap);
    keep_if(cpus, &mut host.nano_cpus);
    keep_if(cpus, &mut host.cpu_period);
    keep_if(cpus, &mut host.cpu_quota);
    keep_if(pids, &mut host.pids_limit);
    keep_if(cpu_shares, &mut host.cpu_shares);
    keep_if(cpuset, &mut host.cpuset_cpus);
    keep_if(cpuset, &mut host.cpuset_mems);
    // It ignores the paths themselves.
    if host.masked_paths.take().is_some_and(|paths| paths.is_empty()) {
        host.readonly_paths = None;
        host.security_opt.get_or_insert_default().push("unmask=ALL".to_owned());
    }
    // It ignores `NoCopy` of a mount, but not of a bind.
    let (mounts, binds) =
        host.mounts.take().unwrap_or_default().into_iter().partition(|mount| no_copy(mount).is_none());
    let binds: Vec<Mount> = binds;
    host.mounts = Some(mounts);
    host.binds.get_or_insert_default().extend(binds.iter().filter_map(no_copy));
}

fn keep_if<T>(supported: bool, limit: &mut Option<T>) {
    *limit = limit.take().filter(|_| supported);
}

/// The older form of the mount of a volume whose content is not copied from the image.
fn no_copy(mount: &Mount) -> Option<String> {
    let options = mount.volume_options.as_ref()?;
    let (Some(source), Some(target)) = (&mount.source, &mount.target) else { return None };
    let read_only = if mount.read_only == Some(true) { ",ro" } else { "" };
    (options.no_copy == Some(true) && options.subpath.is_none()).then(|| format!("{source}:{target}:nocopy{read_only}"))
}

/// Podman ignores `NanoCpus` of an update, but not quota and period.
pub fn adapt_update(body: &mut ContainerUpdateBody, limits: &LimitSupport) {
    if let Some(nanos) = body.nano_cpus.take() {
        body.cpu_period = Some(CPU_PERIOD);
        body.cpu_quota = Some(nanos / (1_000_000_000 / CPU_PERIOD));
    }
    let LimitSupport { memory, cpus, pids, swap, cpu_shares, cpuset } = *limits;
    keep_if(memory, &mut body.memory);
    keep_if(memory, &mut body.memory_reservation);
    keep_if(memory && swap, &mut body.memory_swap);
    keep_if(cpus, &mut body.cpu_period);
    keep_if(cpus, &mut body.cpu_quota);
    keep_if(pids, &mut body.pids_limit);
    keep_if(cpu_shares, &mut body.cpu_shares);
    keep_if(cpuset, &mut body.cpuset_cpus);
    keep_if(cpuset, &mut body.cpuset_mems);
}

/// Podman's list does not tell the mode of the network, and shows the networks of the container whose network it shares as
/// if they were its own.
pub fn adapt_network_mode(container: &mut Container) {
    let Some(identity) = &container.identity else { return };
    let Some(mode) = identity.applied().and_then(|spec| Some(spec.get("network_mode")?.as_str()?.to_owned())) else {
        return;
    };
    let is_shared = mode.starts_with("service:") || mode.starts_with("container:");
    if container.network_mode.is_empty() {
        container.network_mode = match identity.targets.get(&mode) {
            Some(id) => format!("container:{id}"),
            None => mode,
        };
    }
    if is_shared {
        container.networks.clear();
    }
}

/// Podman's actor of an attachment is the container, and only the name of the network is known; removal of a container is
/// `remove`.
pub fn adapt_event(event: &mut EventMessage) {
    let action = event.action.as_deref().unwrap_or_default();
    match (event.typ, action) {
        (Some(EventMessageTypeEnum::CONTAINER), "remove") => event.action = Some("destroy".into()),
        (Some(EventMessageTypeEnum::NETWORK), "connect" | "disconnect") => {
            let Some(actor) = &mut event.actor else { return };
            let attributes = actor.attributes.get_or_insert_default();
            if let Some(network) = attributes.get("network").cloned()
                && let Some(container) = actor.id.replace(network)
            {
                attributes.insert("container".into(), container);
            }
        }
        _ => {}
    }
}

/// Finds the exits that `podman restart` causes. It is reported as `restart, die, start`; a restart by the engine as
/// `die, restart, start`.
#[derive(Debug, Default)]
pub struct Restarts {
    requested: HashSet<String>,
    ended: HashSet<String>,
}

impl Restarts {
    /// Takes note of an event. Returns true if it is the exit of a container that is being restarted on request.
    pub fn is_exit(&mut self, event: &EventMessage) -> bool {
        let id = event.actor.as_ref().and_then(|actor| actor.id.as_ref());
        let (Some(EventMessageTypeEnum::CONTAINER), Some(id)) = (event.typ, id) else { return false };
        match event.action.as_deref() {
            Some("restart") if !self.ended.contains(id) => drop(self.requested.insert(id.clone())),
            Some("die") => {
                self.ended.insert(id.clone());
                return self.requested.remove(id);
            }
            Some("start" | "remove") => {
                self.ended.remove(id);
                self.requested.remove(id);
            }
            _ => {}
        }
        false
    }
}

/// Finds events that were sent before: Podman sends those that it keeps again when the file of the events is full.
#[derive(Debug, Default)]
pub struct Repeats {
    /// Time, actor and action of the last events, oldest first.
    seen: VecDeque<(i64, String, String)>,
}

impl Repeats {
    /// As many events fit into what Podman keeps by default, 512 KiB.
    const MAX: usize = 4096;

    /// Takes note of an event. Returns true if it was sent before.
    pub fn is_repeat(&mut self, event: &EventMessage) -> bool {
        let id = event.actor.as_ref().and_then(|actor| actor.id.clone());
        let (Some(time), Some(id), Some(action)) = (event.time_nano, id, event.action.clone()) else { return false };
        let occurrence = (time, id, action);
        if self.seen.contains(&occurrence) {
            return true;
        }
        self.seen.push_back(occurrence);
        self.seen.drain(..self.seen.len().saturating_sub(Self::MAX));
        false
    }
}

/// The containers of a group that exited, as [`super::ends`]; exits of requested restarts are marked as requested.
pub fn ends(mut events: Vec<EventMessage>, group: &str, now: i64) -> Vec<ContainerExit> {
    events.sort_by_key(|event| event.time_nano);
    let mut restarts = Restarts::default();
    let with_kills = events.into_iter().flat_map(|event| {
        let kill = restarts.is_exit(&event).then(|| EventMessage { action: Some("kill".into()), ..event.clone() });
        kill.into_iter().chain([event])
    });
    super::ends(with_kills.collect(), group, now)
}

/// Whether the last exit of a container was requested, from an inspection by Podman's own API; `None`: it runs.
pub fn was_stopped(inspection: &serde_json::Value) -> Option<bool> {
    let is = |field: &str| inspection.pointer(field).and_then(serde_json::Value::as_bool).unwrap_or_default();
    (!is("/State/Running") && !is("/State/Paused")).then(|| is("/State/StoppedByUser"))
}

/// Marks past exits as requested, as far as can be known: no event tells that a container was stopped. `stopped`: of
/// those that exist, whether the last exit was requested, if they do not run. Where nothing tells, an exit counts as
/// requested unless its code is one that no stop leads to.
pub fn mark_requested(exits: &mut [ContainerExit], stopped: &BTreeMap<String, Option<bool>>) {
    let mut last = HashSet::new();
    for exit in exits.iter_mut().rev() {
        let is_last = last.insert(exit.id.clone());
        exit.asked |= match stopped.get(&exit.id) {
            // It was removed, and maybe replaced.
            None => true,
            Some(Some(stopped)) if is_last => *stopped,
            Some(_) => may_be_stop(exit.code),
        };
    }
}

/// How long after its exit a container counts as restarting, in nanoseconds. Podman restarts it at once, but shows it as
/// exited until then.
const RESTARTS_WITHIN: i64 = 5_000_000_000;

/// Returns true if Podman is about to restart an exited container, from an inspection by its own API. `now`: nanoseconds
/// since the Unix epoch by the engine's clock.
pub fn is_restarting(inspection: &serde_json::Value, now: i64) -> bool {
    let policy = &inspection["HostConfig"]["RestartPolicy"];
    let number = |value: &serde_json::Value| value.as_i64().unwrap_or_default();
    let most = number(&policy["MaximumRetryCount"]);
    let restarts = match policy["Name"].as_str() {
        Some("always" | "unless-stopped") => true,
        Some("on-failure") => {
            number(&inspection["State"]["ExitCode"]) != 0 && (most == 0 || number(&inspection["RestartCount"]) < most)
        }
        _ => false,
    };
    let finished = inspection["State"]["FinishedAt"].as_str().and_then(super::timestamp);
    let finished = finished.and_then(|finished| i64::try_from(finished.as_nanosecond()).ok());
    let is_recent = finished.is_some_and(|finished| now.saturating_sub(finished) < RESTARTS_WITHIN);
    restarts && is_recent && was_stopped(inspection) == Some(false)
}

/// The address of a container on a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    ip: String,
    mac: Option<String>,
}

impl Address {
    /// The address of an endpoint; `None`: it has none, as the container does not run.
    pub fn of(endpoint: EndpointSettings) -> Option<Address> {
        let ip = endpoint.ip_address.filter(|ip| !ip.is_empty())?;
        Some(Address { ip, mac: endpoint.mac_address.filter(|mac| !mac.is_empty()) })
    }

    /// An endpoint to be created with this address. Podman 6 takes it from the settings of address management only.
    pub fn set_in(self, endpoint: EndpointSettings) -> EndpointSettings {
        let managed = EndpointIpamConfig { ipv4_address: Some(self.ip.clone()), ..Default::default() };
        EndpointSettings {
            ip_address: Some(self.ip),
            ipam_config: Some(endpoint.ipam_config.unwrap_or(managed)),
            mac_address: self.mac,
            ..endpoint
        }
    }
}

/// Returns true if a program that is told to end may exit with this code.
pub fn may_be_stop(code: Option<i64>) -> bool {
    matches!(code, None | Some(0 | 137 | 143))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::convert;

    fn image(id: &str, tags: &[&str], digests: &[&str]) -> ImageSummary {
        let json = serde_json::json!({
            "Id": id, "RepoTags": tags, "RepoDigests": digests, "ParentId": "", "Created": 0, "Size": 0,
            "SharedSize": 0, "Labels": {}, "Containers": 0
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn identity_outlives_requests() {
        let info = |id: &str, root: &str| SystemInfo {
            id: Some(id.into()),
            name: Some("host".into()),
            docker_root_dir: Some(root.into()),
            ..Default::default()
        };
        let id = engine_id(&info("1", "/data"));
        assert_eq!(id, engine_id(&info("2", "/data")));
        assert_ne!(id, engine_id(&info("1", "/home/ann/data")));
        assert!(id.starts_with("podman-") && id.len() == 39, "{id}");
    }

    #[test]
    fn failure_to_run_a_command_has_docker_form() {
        let cause = "exec failed: unable to start container process: exec: \"curl\": executable file not found in $PATH: \
                     OCI runtime attempted to invoke a command that was not found";
        assert_eq!(exec_line(format!("Error: runc: {cause}")), Some(format!("OCI runtime exec failed: {cause}")));
        let read = "Error: read unixpacket @->/proc/self/fd/14/attach: read: connection reset by peer";
        assert_eq!(exec_line(read.into()), None);
        for own in ["Error: no: such table", "hello"] {
            assert_eq!(exec_line(own.into()).as_deref(), Some(own));
        }
    }

    #[test]
    fn images_have_short_names() {
        let digest = format!("docker.io/library/debian@sha256:{}", "0a".repeat(32));
        for (full, short) in [
            ("localhost/shop/api:1", "shop/api:1"),
            ("localhost/api:1", "api:1"),
            ("docker.io/library/debian:12", "debian:12"),
            ("docker.io/shop/api:1", "shop/api:1"),
            ("ghcr.io/shop/api:1", "ghcr.io/shop/api:1"),
            ("localhost:5000/api:1", "localhost:5000/api:1"),
            ("<none>:<none>", "<none>:<none>"),
            (&*digest, digest.strip_prefix("docker.io/library/").unwrap()),
        ] {
            assert_eq!(short_name(full), short);
        }
    }

    #[test]
    fn images_are_found_by_full_and_short_names() {
        let mut list = vec![
            image("sha256:a", &["docker.io/shop/api:1", "docker.io/library/debian:12"], &[]),
            image("sha256:b", &["localhost/shop/api:1"], &[]),
        ];
        add_short_names(&mut list);
        let found = convert::images(list);
        for (name, id) in [
            ("docker.io/shop/api:1", "sha256:a"),
            ("localhost/shop/api:1", "sha256:b"),
            ("shop/api:1", "sha256:b"),
            ("debian:12", "sha256:a"),
        ] {
            assert_eq!(found.get(name).map(String::as_str), Some(id), "{name}");
        }
    }

    #[test]
    fn states_have_docker_form() {
        let mut listed = serde_json::json!([{"State": "stopped"}, {"State": "running"}, {"State": "initialized"}, {}]);
        adapt_states(&mut listed);
        assert_eq!(listed, serde_json::json!([{"State": "exited"}, {"State": "running"}, {"State": "created"}, {}]));
        let mut inspected = serde_json::json!({"State": {"Status": "stopped"}});
        adapt_states(&mut inspected);
        assert_eq!(inspected, serde_json::json!({"State": {"Status": "exited"}}));
    }

    #[test]
    fn requests_have_what_podman_takes() {
        let body = serde_json::json!({"Image": "a", "HostConfig": {
            "Memory": 64, "NanoCpus": 1, "PidsLimit": 0, "MaskedPaths": [], "ReadonlyPaths": [],
            "Mounts": [
                {"Type": "volume", "Source": "a", "Target": "/a", "VolumeOptions": {"NoCopy": true}},
                {"Type": "volume", "Source": "b", "Target": "/b", "ReadOnly": true, "VolumeOptions": {"NoCopy": true}},
                {"Type": "volume", "Source": "c", "Target": "/c", "VolumeOptions": {}},
            ]
        }});
        let adapted = |limits: LimitSupport| {
            let mut body: ContainerCreateBody = serde_json::from_value(body.clone()).unwrap();
            adapt_create(&mut body, &limits);
            body.host_config.unwrap()
        };
        let host = adapted(LimitSupport { memory: false, cpus: false, ..LimitSupport::default() });
        assert_eq!((host.memory, host.nano_cpus, host.pids_limit), (None, None, Some(0)));
        assert_eq!((host.masked_paths, host.readonly_paths), (None, None));
        assert_eq!(host.security_opt, Some(vec!["unmask=ALL".to_owned()]));
        assert_eq!(host.binds, Some(vec!["a:/a:nocopy".to_owned(), "b:/b:nocopy,ro".to_owned()]));
        assert_eq!(host.mounts.unwrap().len(), 1);
        let host = adapted(LimitSupport::default());
        assert_eq!((host.memory, host.nano_cpus), (Some(64), Some(1)));
    }

    #[test]
    fn networks_of_another_container_are_not_its_own() {
        let adapted = |spec: &str, targets: &str| {
            let labels = BTreeMap::from([
                ("drillmaster.group", "shop"),
                ("drillmaster.service", "api"),
                ("drillmaster.spec", spec),
                ("drillmaster.targets", targets),
            ]);
            let listed = serde_json::json!({
                "Id": "1", "Names": ["/shop-api"], "Image": "a", "ImageID": "b", "State": "running", "Labels": labels,
                "NetworkSettings": {"Networks": {"shop": {"NetworkID": "n"}}}
            });
            let mut container = convert::container(serde_json::from_value(listed).unwrap()).unwrap();
            adapt_network_mode(&mut container);
            (container.network_mode, container.networks.len())
        };
        let targets = "service:vpn=abc";
        assert_eq!(adapted(r#"{"network_mode": "service:vpn"}"#, targets), ("container:abc".to_owned(), 0));
        assert_eq!(adapted(r#"{"network_mode": "host"}"#, ""), ("host".to_owned(), 1));
        assert_eq!(adapted("{}", ""), (String::new(), 1));
    }

    #[test]
    fn addresses_are_kept() {
        let left = EndpointSettings {
            ip_address: Some("10.89.0.2".into()),
            mac_address: Some("aa:8a:a1:b4:1d:23".into()),
            ..Default::default()
        };
        let endpoint = Address::of(left).unwrap().set_in(EndpointSettings::default());
        assert_eq!(endpoint.ip_address.as_deref(), Some("10.89.0.2"));
        assert_eq!(endpoint.ipam_config.unwrap().ipv4_address.as_deref(), Some("10.89.0.2"));
        assert_eq!(endpoint.mac_address.as_deref(), Some("aa:8a:a1:b4:1d:23"));
    }

    #[test]
    fn unsupported_limits_are_not_updated() {
        let mut body = ContainerUpdateBody { memory: Some(1), pids_limit: Some(2), ..Default::default() };
        adapt_update(&mut body, &LimitSupport { memory: false, ..LimitSupport::default() });
        assert_eq!((body.memory, body.pids_limit), (None, Some(2)));
    }

    #[test]
    fn cpu_limit_is_updated_as_a_quota() {
        let mut body = ContainerUpdateBody { nano_cpus: Some(250_000_000), ..Default::default() };
        adapt_update(&mut body, &LimitSupport::default());
        assert_eq!((body.nano_cpus, body.cpu_period, body.cpu_quota), (None, Some(100_000), Some(25_000)));
    }

    /// `restart` of Podman 5.8.6: requested, and by the restart policy.
    #[test]
    fn exits_of_requested_restarts_are_told_from_crashes() {
        let mut restarts = Restarts::default();
        let mut exits = |actions: &[&str]| -> Vec<bool> {
            let event = |action: &&str| -> EventMessage {
                let json = serde_json::json!({"Type": "container", "Action": action, "Actor": {"ID": "ab"}});
                serde_json::from_value(json).unwrap()
            };
            let events = actions.iter().map(event).map(|event| (restarts.is_exit(&event), event.action));
            events.filter(|(_, action)| action.as_deref() == Some("die")).map(|(is_exit, _)| is_exit).collect()
        };
        assert_eq!(exits(&["init", "start", "restart", "die", "init", "start"]), [true]);
        assert_eq!(exits(&["die", "restart", "init", "start", "die", "restart", "init", "start"]), [false, false]);
        // A container that did not run.
        assert_eq!(exits(&["die", "cleanup", "restart", "init", "start", "die", "cleanup"]), [false, false]);
    }

    #[test]
    fn inspection_tells_stop_from_crash() {
        let recorded = |json: &str| was_stopped(&serde_json::from_str(json).unwrap());
        let stopped = r#"{"State": {"Status": "exited", "Running": false, "Paused": false, "ExitCode": 137,
            "StoppedByUser": true, "StartedAt": "2026-11-30T11:23:19.435535745Z",
            "FinishedAt": "2026-11-30T11:23:21.673487376Z"}}"#;
        let crashed = r#"{"State": {"Status": "exited", "Running": false, "Paused": false, "ExitCode": 3,
            "StartedAt": "2026-11-30T11:23:17.967394692Z", "FinishedAt": "2026-11-30T11:23:18.477487262Z"}}"#;
        let running = r#"{"State": {"Status": "running", "Running": true, "Paused": false, "ExitCode": 0,
            "StartedAt": "2026-11-30T11:23:11.00870683Z", "FinishedAt": "2026-11-30T11:23:09.470118608Z"}}"#;
        assert_eq!([recorded(stopped), recorded(crashed), recorded(running)], [Some(true), Some(false), None]);
    }

    #[test]
    fn events_that_are_sent_again_are_found() {
        let event = |time: i64, action: &str| -> EventMessage {
            let json = serde_json::json!({
                "Type": "container", "Action": action, "timeNano": time, "Actor": {"ID": "ab", "Attributes": {}}
            });
            serde_json::from_value(json).unwrap()
        };
        let mut repeats = Repeats::default();
        let sent = [event(1, "start"), event(2, "die"), event(2, "cleanup"), event(3, "start"), event(4, "die")];
        assert!(sent.iter().all(|event| !repeats.is_repeat(event)));
        assert!(sent[1..].iter().all(|event| repeats.is_repeat(event)));
        assert!(!repeats.is_repeat(&event(5, "start")));
        for time in 6..10_000 {
            assert!(!repeats.is_repeat(&event(time, "start")));
        }
        assert!(repeats.is_repeat(&event(9_000, "start")));
        assert!(repeats.seen.len() <= Repeats::MAX);
    }

    #[test]
    fn exited_container_is_restarting_if_podman_restarts_it() {
        let inspection = |policy: &str, code: i64, count: i64, stopped: bool| {
            serde_json::json!({"State": {"Status": "exited", "Running": false, "Paused": false, "ExitCode": code,
                "StoppedByUser": stopped, "FinishedAt": "2026-11-30T11:23:18.477487262Z"}, "RestartCount": count,
                "HostConfig": {"RestartPolicy": {"Name": policy, "MaximumRetryCount": 3}}})
        };
        let finished = 1_796_037_798_477_487_262;
        let is = |policy, code, count, stopped| is_restarting(&inspection(policy, code, count, stopped), finished + 1);
        assert!(is("always", 0, 9, false) && is("unless-stopped", 1, 9, false) && is("on-failure", 1, 2, false));
        assert!(!is("always", 0, 0, true) && !is("on-failure", 1, 3, false) && !is("on-failure", 0, 0, false));
        assert!(!is("no", 1, 0, false) && !is("", 1, 0, false));
        assert!(!is_restarting(&inspection("always", 1, 0, false), finished + RESTARTS_WITHIN));
    }

    #[test]
    fn past_exits_are_crashes_only_if_that_is_known() {
        let exit = |id: &str, code| ContainerExit {
            id: id.into(),
            service: id.into(),
            replica: None,
            ago: std::time::Duration::ZERO,
            code: Some(code),
            asked: false,
        };
        let mut exits = vec![
            exit("looping", 1),
            exit("looping", 0),
            exit("looping", 1),
            exit("stopped", 1),
            exit("stopped", 1),
            exit("ended", 0),
            exit("ended", 0),
            exit("removed", 1),
        ];
        let stopped = [("looping", None), ("stopped", Some(true)), ("ended", Some(false))];
        let stopped = stopped.map(|(id, stopped)| (id.to_owned(), stopped)).into();
        mark_requested(&mut exits, &stopped);
        let asked: Vec<bool> = exits.iter().map(|exit| exit.asked).collect();
        assert_eq!(asked, [false, true, false, false, true, true, false, true]);
    }

    #[test]
    fn events_have_docker_form() {
        use crate::engine::{ContainerEvent, EngineEvent};
        let event = |kind: &str, action: &str| {
            let json = serde_json::json!({"Type": kind, "Action": action, "Actor": {"ID": "ab", "Attributes":
                {"drillmaster.group": "shop", "network": "shop-net", "exitCode": "1"}}});
            let mut event: EventMessage = serde_json::from_value(json).unwrap();
            adapt_event(&mut event);
            convert::event(event, "shop")
        };
        let destroyed = EngineEvent::Container { id: "ab".into(), what: ContainerEvent::Destroyed };
        assert_eq!(event("container", "remove"), Some(destroyed));
        let attached = EngineEvent::Network { id: "shop-net".into(), container: Some("ab".into()) };
        assert_eq!(event("network", "disconnect"), Some(attached));
        let removed = EngineEvent::Network { id: "ab".into(), container: None };
        assert_eq!(event("network", "remove"), Some(removed));
        for noise in ["init", "cleanup", "sync"] {
            assert_eq!(event("container", noise), None, "{noise}");
        }
    }
}
