//! Ownership of engine objects: labels and names.
//!
//! The engine is the only database; this is its schema. Pure and independent of the specs.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Name of the group. Objects without it are never changed.
pub const GROUP: &str = "drillmaster.group";
/// Name of the service.
pub const SERVICE: &str = "drillmaster.service";
/// Replica number, from 1; empty for a service without `replicas`.
pub const REPLICA: &str = "drillmaster.replica";
/// When the container gets its network aliases: `ready`; empty: when it is created.
pub const NAMED: &str = "drillmaster.named";
/// Kind of the document: `Service` or `Job`.
pub const KIND: &str = "drillmaster.kind";
/// Spec directory that owns the object, absolute.
pub const SOURCE: &str = "drillmaster.source";
/// Hash of the resolved environment, `v1:<sha256>`.
pub const ENV_HASH: &str = "drillmaster.env-hash";
/// Hash of the other fields that cannot be changed on a running container, `v1:<sha256>`.
pub const SPEC_HASH: &str = "drillmaster.spec-hash";
/// Applied spec as canonical JSON, without the values of the environment.
pub const SPEC: &str = "drillmaster.spec";
/// Names of the fields in [`SPEC`] that are secret, separated by spaces.
pub const SECRET: &str = "drillmaster.secret";
/// Ids of the containers whose namespaces the container shares, as `service:db=<id>`, separated by spaces.
pub const TARGETS: &str = "drillmaster.targets";
/// Id of the image when the container was created: its reference may point to another image later.
pub const IMAGE_ID: &str = "drillmaster.image-id";

/// On the volume of a [lease](crate::lease): name of the group. It has no [`GROUP`], so it is no volume of a service.
pub const LEASE: &str = "drillmaster.lease";
/// On the volume of a [lease](crate::lease): its holder as JSON.
pub const LEASE_HOLDER: &str = "drillmaster.lease-holder";

/// On a built image: name of the group. Containers inherit the labels of their image, so these are not the labels that
/// make a container managed.
pub const BUILD_GROUP: &str = "dev.drillmaster.build.group";
/// On a built image: spec directory, absolute.
pub const BUILD_SOURCE: &str = "dev.drillmaster.build.source";
/// On a built image: its reference. An image that is built on it inherits the label, but not the reference.
pub const BUILD_IMAGE: &str = "dev.drillmaster.build.image";

/// Value of [`NAMED`].
const READY: &str = "ready";

/// Suffix of a candidate's name. Service names contain no dots, so no service can have such a name.
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
    /// [`SECRET`].
    pub secret: BTreeSet<String>,
    /// [`TARGETS`], by their names in the spec.
    pub targets: BTreeMap<String, String>,
    /// [`IMAGE_ID`]; empty where it was not recorded.
    pub image_id: String,
}

impl Identity {
    /// The spec that the container was created from; `None`: not readable.
    pub fn applied(&self) -> Option<serde_json::Value> {
        serde_json::from_str(&self.spec).ok()
    }

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
            secret: text(SECRET).split_whitespace().map(str::to_owned).collect(),
            targets: text(TARGETS)
                .split_whitespace()
                .filter_map(|target| target.split_once('='))
                .map(|(name, id)| (name.to_owned(), id.to_owned()))
                .collect(),
            image_id: text(IMAGE_ID),
        })
    }

    /// Returns the labels of the identity. Unset ones are empty, so that a container does not inherit them from its image.
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
        .chain([
            (SECRET.to_owned(), self.secret.iter().map(String::as_str).collect::<Vec<_>>().join(" ")),
            (REPLICA.to_owned(), self.replica.map(|number| number.to_string()).unwrap_or_default()),
            (
                TARGETS.to_owned(),
                self.targets.iter().map(|(name, id)| format!("{name}={id}")).collect::<Vec<_>>().join(" "),
            ),
            (NAMED.to_owned(), if self.named_when_ready { READY } else { "" }.to_owned()),
        ])
        .collect()
    }
}

/// Name of an instance of a service within its group: `web`, or `web-2` for a replica.
pub fn instance_name(service: &str, replica: Option<u32>) -> String {
    replica.map_or_else(|| service.to_owned(), |number| format!("{service}-{number}"))
}

/// Name of the service of an instance.
pub fn service_of_instance(name: &str, replica: Option<u32>) -> &str {
    let number = replica.map(|number| format!("-{number}")).unwrap_or_default();
    name.strip_suffix(&number).unwrap_or(name)
}

/// Labels of networks and volumes.
pub fn group_labels(group: &str, source: &str) -> BTreeMap<String, String> {
    [(GROUP, group), (SOURCE, source)].map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// Labels of a built image.
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
