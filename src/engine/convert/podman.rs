//! Podman's Docker API: what it answers and expects otherwise than Docker, converted to Docker's form.

use std::collections::{BTreeSet, HashMap};

use bollard::models::{
    ContainerCreateBody, ContainerUpdateBody, EventMessage, EventMessageTypeEnum, ImageSummary, Mount, MountType,
    SystemInfo,
};

use crate::desired::fingerprint::sha256;
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
pub fn labeled_mounts(body: &mut ContainerCreateBody) -> Vec<(&mut Mount, HashMap<String, String>)> {
    let mounts = body.host_config.as_mut().and_then(|host| host.mounts.as_mut()).into_iter().flatten();
    let labeled = mounts.filter(|mount| mount.typ == Some(MountType::VOLUME)).filter_map(|mount| {
        let labels = mount.volume_options.as_mut()?.labels.take()?;
        Some((mount, labels))
    });
    labeled.collect()
}

/// Podman ignores `NanoCpus` of an update, but not quota and period.
pub fn adapt_update(body: &mut ContainerUpdateBody) {
    if let Some(nanos) = body.nano_cpus.take() {
        body.cpu_period = Some(CPU_PERIOD);
        body.cpu_quota = Some(nanos / (1_000_000_000 / CPU_PERIOD));
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
    fn cpu_limit_is_updated_as_a_quota() {
        let mut body = ContainerUpdateBody { nano_cpus: Some(250_000_000), ..Default::default() };
        adapt_update(&mut body);
        assert_eq!((body.nano_cpus, body.cpu_period, body.cpu_quota), (None, Some(100_000), Some(25_000)));
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
