//! Volumes of the group.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::spec::value::{EngineName, Name, Text};

/// A volume of the group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupVolume {
    /// Name on the engine. Defaults to `<group>-<name>`, of an external volume to its own name. A volume of this name that
    /// exists is used as it is, and never removed.
    #[serde(default)]
    pub name: Option<EngineName>,
    /// The volume exists: it is neither created nor removed.
    #[serde(default)]
    pub external: bool,
    /// Volume driver. Defaults to `local`.
    #[serde(default)]
    pub driver: Option<Text>,
    /// Options of the driver, e.g. `{type: nfs, o: "addr=10.0.0.2,rw", device: ":/export"}`.
    #[serde(default)]
    pub driver_opts: BTreeMap<String, Text>,
    /// Labels of the volume.
    #[serde(default)]
    pub labels: BTreeMap<String, Text>,
}

/// The entries of a map whose values may be empty, as in `data:`.
pub type Entries<T> = BTreeMap<Name, Option<T>>;
