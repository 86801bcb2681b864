//! Ownership of engine objects: labels and names.
//!
//! The engine is the only database; this is its schema. Pure and independent of the specs.

use std::collections::{BTreeMap, HashMap};

/// Name of the group. Objects without it are never changed.
pub const GROUP: &str = "drillmaster.group";
/// Name of the service.
pub const SERVICE: &str = "drillmaster.service";
/// Number of the replica, from 1, of a service that has `replicas`; none where it has not, which is number 1.
pub const REPLICA: &str = "drillmaster.replica";
/// When the container gets its names on the network: `ready`; none: when it is created.
pub const NAMED: &str = "drillmaster.named";
/// Kind of the document: `Service`.
pub const KIND: &str = "drillmaster.kind";
/// Spec directory that owns the object, absolute.
pub const SOURCE: &str = "drillmaster.source";
/// Hash of the resolved environment, `v1:<sha256>`.
pub const ENV_HASH: &str = "drillmaster.env-hash";
/// Hash of every other field that cannot be changed on a running container, `v1:<sha256>`.
pub const SPEC_HASH: &str = "drillmaster.spec-hash";
/// The last applied spec as canonical JSON, values of the environment left out.
pub const SPEC: &str = "drillmaster.spec";
/// Id that the image had when the container was created: the same reference may name another image later.
pub const IMAGE_ID: &str = "drillmaster.image-id";

/// On an image: the group that it was built for. Containers have the labels of their image, so these must not be among
/// those that make a container ours.
pub const BUILD_GROUP: &str = "dev.drillmaster.build.group";
/// On an image: the spec directory that says how it is built, absolute.
pub const BUILD_SOURCE: &str = "dev.drillmaster.build.source";
/// On an image: the reference that it was given. An image that is built on it inherits the label, and not the name.
pub const BUILD_IMAGE: &str = "dev.drillmaster.build.image";

/// The one value of [`NAMED`].
const READY: &str = "ready";

/// Ending of a container's name until it is ready. Service names have no dots, so no service can claim it.
pub const CANDIDATE_SUFFIX: &str = ".new";

/// Identity of a container, stored in its labels.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// [`GROUP`].
    pub group: String,
    /// [`SERVICE`].
    pub service: String,
    /// [`REPLICA`].
    pub replica: Option<u32>,
    /// [`NAMED`]: only once it is ready.
    pub named_when_ready: bool,
    /// [`KIND`].
    pub kind: String,
    /// [`SOURCE`].
    pub source: String,
    /// [`ENV_HASH`].
    pub env_hash: String,
    /// [`SPEC_HASH`].
    pub spec_hash: String,
    /// [`SPEC`].
    pub spec: String,
    /// [`IMAGE_ID`]; empty where it was not recorded.
    pub image_id: String,
}

impl Identity {
    /// Reads an identity. Returns `None` without the group label: the container is not managed.
    pub fn from_labels(labels: &HashMap<String, String>) -> Option<Identity> {
        let text = |key: &str| labels.get(key).cloned().unwrap_or_default();
        Some(Identity {
            group: labels.get(GROUP)?.clone(),
            service: text(SERVICE),
            replica: labels.get(REPLICA).and_then(|number| number.parse().ok()),
            named_when_ready: labels.get(NAMED).is_some_and(|when| when == READY),
            kind: text(KIND),
            source: text(SOURCE),
            env_hash: text(ENV_HASH),
            spec_hash: text(SPEC_HASH),
            spec: text(SPEC),
            image_id: text(IMAGE_ID),
        })
    }

    /// Returns the labels of the identity.
    pub fn to_labels(&self) -> BTreeMap<String, String> {
        [
            (GROUP, &self.group),
            (SERVICE, &self.service),
            (KIND, &self.kind),
            (SOURCE, &self.source),
            (ENV_HASH, &self.env_hash),
            (SPEC_HASH, &self.spec_hash),
            (SPEC, &self.spec),
            (IMAGE_ID, &self.image_id),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.clone()))
        .chain(self.replica.map(|number| (REPLICA.to_owned(), number.to_string())))
        .chain(self.named_when_ready.then(|| (NAMED.to_owned(), READY.to_owned())))
        .collect()
    }
}

/// What a container of a service is called within the group: as the service, with its number where it has replicas.
pub fn instance_name(service: &str, replica: Option<u32>) -> String {
    replica.map_or_else(|| service.to_owned(), |number| format!("{service}-{number}"))
}

/// The service of such a name.
pub fn service_of_instance(name: &str, replica: Option<u32>) -> &str {
    let number = replica.map(|number| format!("-{number}")).unwrap_or_default();
    name.strip_suffix(&number).unwrap_or(name)
}

/// Labels of networks and volumes: group and source.
pub fn group_labels(group: &str, source: &str) -> BTreeMap<String, String> {
    [(GROUP, group), (SOURCE, source)].map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// Labels of an image that is built for a group.
pub fn build_labels(group: &str, source: &str, image: &str) -> BTreeMap<String, String> {
    [(BUILD_GROUP, group), (BUILD_SOURCE, source), (BUILD_IMAGE, image)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// Name of a service's container once it is ready: `<group>-<service>`, or `<group>-<service>-<replica>`.
pub fn container_name(group: &str, service: &str) -> String {
    format!("{group}-{service}")
}

/// Name of a service's container until it is ready: `<group>-<service>.new`.
pub fn candidate_name(group: &str, service: &str) -> String {
    format!("{group}-{service}{CANDIDATE_SUFFIX}")
}

/// Name of a group's volume on the engine: `<group>-<volume>`.
pub fn volume_name(group: &str, volume: &str) -> String {
    format!("{group}-{volume}")
}
