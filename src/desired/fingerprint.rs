//! Fingerprints: when is a container still the one that a spec asks for, and what does a changed field mean?
//!
//! Pure, and stable: an upgrade of drillmaster must not replace anybody's containers. Hashes carry a version; a hash of
//! an unknown version is not compared, the canonical JSON beside it is.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{Config, Dependency};

/// Version of the hashes made here.
pub const VERSION: &str = "v1:";

/// What a change of a field means for a container that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Another name is another service.
    Identity,
    /// Nothing: only drillmaster itself uses it, from then on.
    Nothing,
    /// It is changed on the running container.
    Update,
    /// The container is replaced.
    Replace,
    /// The container is replaced; it counts in the env hash.
    Environment,
}

/// The list: every field of a Service, and what its change means. The last group belongs to later versions and has
/// its place here so that nobody has to guess.
pub const FIELDS: &[(&str, Change)] = &[
    ("name", Change::Identity),
    ("image", Change::Replace),
    ("command", Change::Replace),
    ("entrypoint", Change::Replace),
    ("user", Change::Replace),
    ("working_dir", Change::Replace),
    ("env", Change::Environment),
    ("env_file", Change::Environment),
    ("ports", Change::Replace),
    ("volumes", Change::Replace),
    ("tmpfs", Change::Replace),
    ("dependencies", Change::Nothing),
    ("ping", Change::Nothing),
    ("health", Change::Nothing),
    ("healthcheck", Change::Replace),
    ("stop_signal", Change::Replace),
    ("stop_timeout", Change::Replace),
    ("restart", Change::Update),
    ("resources", Change::Update),
    ("labels", Change::Replace),
    ("hostname", Change::Replace),
    ("aliases", Change::Replace),
    ("extra_hosts", Change::Replace),
    ("cap_add", Change::Replace),
    ("cap_drop", Change::Replace),
    ("privileged", Change::Replace),
    ("read_only", Change::Replace),
    ("init", Change::Replace),
    ("shm_size", Change::Replace),
    ("ulimits", Change::Replace),
    ("pull", Change::Nothing),
    // Of the group, yet part of every container.
    ("network", Change::Replace),
    // Later versions.
    ("build", Change::Replace),
    ("pre_start", Change::Nothing),
    ("post_start", Change::Nothing),
    ("pre_stop", Change::Nothing),
    ("post_stop", Change::Nothing),
    ("on", Change::Nothing),
    ("update", Change::Nothing),
    ("replicas", Change::Nothing),
];

/// What a change of this field means; a field that no version knows means nothing.
pub fn change_of(field: &str) -> Change {
    FIELDS.iter().find(|(name, _)| *name == field).map_or(Change::Nothing, |(_, change)| *change)
}

/// What a service's container is compared by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fingerprint {
    /// Over the sorted resolved environment.
    pub env_hash: String,
    /// Over every other field that cannot be changed on a running container.
    pub spec_hash: String,
    /// Canonical JSON of the spec: every field that is not at its default, of the environment only the names.
    pub applied: String,
}

impl Fingerprint {
    /// Takes it.
    pub fn of(config: &Config, env: &BTreeMap<String, String>, dependencies: &[Dependency]) -> Fingerprint {
        let mut applied = canonical(config);
        let hashed: Map<String, Value> = applied
            .iter()
            .filter(|(field, _)| change_of(field) == Change::Replace)
            .map(|(field, value)| (field.clone(), value.clone()))
            .collect();
        if !env.is_empty() {
            applied.insert("env".into(), env.keys().map(|key| Value::from(key.as_str())).collect());
        }
        if !dependencies.is_empty() {
            applied.insert("dependencies".into(), to_value(&dependencies));
        }
        Fingerprint {
            env_hash: hash(&to_value(env)),
            spec_hash: hash(&Value::Object(hashed)),
            applied: Value::Object(applied).to_string(),
        }
    }

    /// Whether two fingerprints ask for the same container.
    pub fn same_container(&self, other: &Fingerprint) -> bool {
        self.env_hash == other.env_hash && self.spec_hash == other.spec_hash
    }
}

/// The container's fields as a JSON object with sorted keys, defaults left out.
pub fn canonical(config: &Config) -> Map<String, Value> {
    match to_value(config) {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// Our own types have string keys and finite numbers, so they always have a JSON form.
fn to_value<T: serde::Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

fn hash(value: &Value) -> String {
    use std::fmt::Write as _;

    let digest = Sha256::digest(value.to_string().as_bytes());
    digest.iter().fold(String::from(VERSION), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
