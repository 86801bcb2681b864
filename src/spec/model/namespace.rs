//! Namespaces that a container shares with the host or another container.

use serde::Serialize;

use crate::spec::value::{EngineName, Name};

/// A container whose namespace is shared: `service:NAME` or `container:NAME`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(into = "String")]
pub enum Target {
    /// A service of the group.
    Service(Name),
    /// Any container of the engine, by name or id.
    Container(EngineName),
}

/// The network of a container that is on no network of the group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub enum NetworkMode {
    /// No network.
    None,
    /// The network of the host.
    Host,
    /// The engine's own network, without names.
    Bridge,
    /// That of another container.
    Shared(Target),
}

/// The processes that a container sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub enum PidMode {
    /// Those of the host.
    Host,
    /// Those of another container.
    Shared(Target),
}

/// The shared memory and semaphores of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub enum IpcMode {
    /// Its own, without /dev/shm.
    None,
    /// Its own.
    Private,
    /// Its own, which other containers may share.
    Shareable,
    /// That of the host.
    Host,
    /// That of another container.
    Shared(Target),
}
