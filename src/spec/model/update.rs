//! Types of `update`: how a container is replaced.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::value::Period;

/// How the container is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Update {
    /// Order of stopping the old and starting the new container. Defaults to `auto`.
    #[serde(default)]
    pub order: Order,
    /// Time the new container must stay ready before the old one is removed. Defaults to 0.
    #[serde(default)]
    pub min_ready: Option<Period>,
    /// What happens to a new container that fails. Defaults to `rollback`. The old container stays in use in either case.
    #[serde(default)]
    pub on_failure: OnFailure,
}

/// Order of stopping the old and starting the new container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// The old container is stopped first only where both need the same host port or would write to the same volume or
    /// directory. Otherwise the new one gets the service's network aliases once it is ready, and the old one is stopped
    /// then. `recreate` is accepted as well.
    #[default]
    Auto,
    /// The new container gets the service's network aliases once it is ready, and the old one loses them before it is
    /// stopped: the name always resolves.
    StartFirst,
}

/// What happens to a replacement that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// The new container is removed.
    #[default]
    Rollback,
    /// The new container is stopped and kept for inspection until the spec changes or `up` runs again.
    Keep,
}
