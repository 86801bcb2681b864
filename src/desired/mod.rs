//! Desired state: the specs fully resolved, as one immutable value.
//!
//! Pure and independent of the observed state and the plan.

pub mod build;
mod compare;
mod config;
mod copied;
pub mod files;
pub mod fingerprint;
mod network;
pub mod order;
pub mod outputs;
mod requirements;
pub mod resolve;
mod secrets;
mod volume;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::identity::{Identity, instance_name};
use crate::spec::model::{Condition, Health, Healthcheck, NetworkMode, Ping, Pull};
pub use crate::spec::model::{Hook, HookAction, HttpRequest, Job, Kind, OnFailure, Order, Rerun, Update};
use crate::types::ServiceName;
pub use build::Build;
pub use compare::differences;
pub use config::{Config, Inherited, Seconds, SecurityOption, Volume, VolumeSource};
pub use copied::CopiedFile;
use files::MountedFile;
use fingerprint::Fingerprint;
pub use network::{AddressRange, BRIDGE, Endpoint, Join, Network, Placement, defers_names};
use outputs::Outputs;
pub use requirements::{Need, Requirement};
pub use secrets::{has_secret_ping, secrets};
pub use volume::DeclaredVolume;

/// Desired state of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct Desired {
    /// Name of the group.
    pub group: String,
    /// Spec directory that owns the group, absolute.
    pub source: String,
    /// Project of docker compose whose compose files are the specs.
    pub project: Option<String>,
    /// Directories that no longer exist, whose containers, networks and volumes it has taken over (`up --adopt`).
    pub adopted: BTreeSet<String>,
    /// Ids of the containers and networks of docker compose that are removed first (`up --adopt`).
    pub takeover: BTreeSet<String>,
    /// Name of the group's network on the engine.
    pub network: String,
    /// The networks of the group, by their names on the engine.
    pub networks: BTreeMap<String, Network>,
    /// Volumes with settings, by their names on the engine.
    pub volumes: BTreeMap<String, DeclaredVolume>,
    /// Services and jobs that should exist, by name. Each replica of a service has its own entry.
    pub services: BTreeMap<ServiceName, Service>,
    /// Names of services that should exist without containers (`replicas: 0`).
    pub idle: BTreeSet<String>,
    /// Services that do not exist because none of their profiles is active, with these.
    pub inactive: BTreeMap<String, BTreeSet<String>>,
    /// Specs of services that are no longer desired, by name, for their stop settings and hooks.
    pub retired: BTreeMap<ServiceName, Service>,
    /// Hooks of the group. Events without hooks have no entry.
    pub on: BTreeMap<GroupEvent, Vec<Hook>>,
    /// Outputs that the group's hooks produce and use.
    pub outputs: Outputs,
    /// Which services the plan may change.
    pub scope: Scope,
    /// What the plan does with them.
    pub mode: Mode,
}

impl Desired {
    /// Returns the project of docker compose with which it shares networks and volumes: that of its compose files, or of
    /// those from which its specs were imported, which have names such as `shop_data`.
    pub fn compose_project(&self) -> Option<&str> {
        let prefix = format!("{}_", self.group);
        let shares = || self.networks.keys().chain(self.volumes.keys()).any(|name| name.starts_with(&prefix));
        self.project.as_deref().or_else(|| shares().then_some(self.group.as_str()))
    }

    /// Returns true if an output is used.
    pub fn uses_outputs(&self) -> bool {
        !self.outputs.uses.is_empty() || self.services.values().any(|service| !service.outputs.uses.is_empty())
    }

    /// Returns the producer of a captured output.
    pub fn producer_of(&self, key: &str) -> Option<&Service> {
        self.services.values().find(|service| service.outputs.gives.contains(key))
    }

    /// Returns the services whose hooks set an output: by `capture`, or by a function whose text names the key.
    pub fn setters_of<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a Service> {
        let sets = move |hook: &Hook| match &hook.action {
            HookAction::Function(function) => function.outputs().contains(key),
            _ => false,
        };
        self.services
            .values()
            .filter(move |service| service.outputs.gives.contains(key) || service.hooks.values().flatten().any(sets))
    }

    /// Returns the spec of a service, also if it is no longer desired.
    pub fn spec_of(&self, name: &str) -> Option<&Service> {
        self.services.get(name).or_else(|| self.retired.get(name))
    }

    /// Returns a copy without services, to remove or stop them.
    #[must_use]
    pub fn without_services(&self, scope: Scope, mode: Mode) -> Desired {
        let (services, idle) = (BTreeMap::new(), BTreeSet::new());
        let retired =
            self.retired.iter().chain(&self.services).map(|(name, spec)| (name.clone(), spec.clone())).collect();
        Desired { services, idle, retired, scope, mode, ..self.clone() }
    }

    /// Returns true if volumes of the engine must be known.
    pub fn needs_volumes(&self) -> bool {
        self.mode.purges_volumes() || !self.volumes.is_empty()
    }

    /// Whether no service is desired, not even one without containers.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && self.idle.is_empty()
    }

    /// The services that the plan may change.
    pub fn in_scope(&self) -> impl Iterator<Item = &Service> {
        self.services.values().filter(|service| self.scope.contains(&service.service))
    }

    /// Names of the services, each once however many replicas it has.
    pub fn names(&self) -> BTreeSet<&str> {
        self.services
            .values()
            .map(|service| service.service.as_str())
            .chain(self.idle.iter().map(String::as_str))
            .collect()
    }

    /// Returns the services whose replicas are all in `names`.
    pub fn ready(&self, names: &BTreeSet<ServiceName>) -> BTreeSet<&str> {
        let missing: BTreeSet<&str> =
            self.services.values().filter(|it| !names.contains(&it.name)).map(|it| it.service.as_str()).collect();
        self.services.values().map(|it| it.service.as_str()).filter(|service| !missing.contains(service)).collect()
    }

    /// Returns the name of the instance that a container with these labels belongs to: as desired, as it was desired
    /// before, or as labelled. `None` if it belongs to another group. A container without a replica number counts as
    /// number 1, so that `replicas` can be added and removed without replacing it.
    pub fn instance_of<'c>(&self, identity: &'c Identity) -> Option<Cow<'c, str>> {
        if identity.group != self.group {
            return None;
        }
        let (service, number) = (identity.service.as_str(), identity.replica.unwrap_or(1));
        let is = |known: Option<&Service>| known.is_some_and(|known| known.service == service);
        for known in [&self.services, &self.retired] {
            if number == 1 && is(known.get(service)) {
                return Some(Cow::Borrowed(service));
            }
            // Almost no service has replicas.
            if known.is_empty() || (identity.replica.is_none() && is(known.get(service))) {
                continue;
            }
            let name = instance_name(service, Some(number));
            if is(known.get(name.as_str())) {
                return Some(Cow::Owned(name));
            }
        }
        match identity.replica {
            None => Some(Cow::Borrowed(service)),
            replica => Some(Cow::Owned(instance_name(service, replica))),
        }
    }
}

/// Services that the plan may change, with all their replicas. All others stay as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Every service of the group, including those without a spec.
    All,
    /// Only these.
    Only(BTreeSet<String>),
    /// All except these.
    AllBut(BTreeSet<String>),
}

impl Scope {
    /// Returns true if the service is selected.
    pub fn contains(&self, service: &str) -> bool {
        match self {
            Scope::All => true,
            Scope::Only(names) => names.contains(service),
            Scope::AllBut(names) => !names.contains(service),
        }
    }
}

/// What a command does with the selected services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `up`, and `down` with no services: containers exist, match their specs and run; surplus ones are removed.
    Reconcile {
        /// `down --volumes`: also remove the volumes of the group.
        purge_volumes: bool,
        /// `down --images`: also remove the images built for the group.
        purge_images: bool,
    },
    /// `start`: existing containers are started; none is created, replaced or removed.
    StartOnly,
    /// `stop`: containers are stopped, not removed.
    StopOnly,
    /// `build`: images are built; containers stay as they are.
    BuildImages,
    /// `pull`: images are pulled; containers stay as they are.
    PullImages,
}

impl Mode {
    /// Returns true if containers and networks stay as they are.
    pub fn is_about_images(self) -> bool {
        matches!(self, Mode::BuildImages | Mode::PullImages)
    }

    /// Returns true if the volumes of the group are removed.
    pub fn purges_volumes(self) -> bool {
        matches!(self, Mode::Reconcile { purge_volumes: true, .. })
    }

    /// Returns true if the images built for the group are removed.
    pub fn purges_images(self) -> bool {
        matches!(self, Mode::Reconcile { purge_images: true, .. })
    }
}

/// Environment variables by name; `None` removes a variable of the image.
pub type Env = BTreeMap<String, Option<String>>;

/// Returns the variables that have a value.
pub fn set_variables(env: &Env) -> BTreeMap<String, String> {
    env.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?))).collect()
}

/// A resolved service or job, or one replica of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Name, unique in the group: the service's name, followed by the replica number if there is one.
    pub name: ServiceName,
    /// Name of the service, and network alias of all its replicas.
    pub service: String,
    /// Replica number, from 1. `None` if the service has no `replicas`.
    pub replica: Option<u32>,
    /// Service (keeps running) or job (runs to completion).
    pub kind: Kind,
    /// Configuration of its container.
    pub config: Config,
    /// Resolved environment: `env` over `env_file`. `None` removes a variable of the image.
    pub env: Env,
    /// Dependencies.
    pub dependencies: Vec<Dependency>,
    /// Readiness check.
    pub ping: Option<Ping>,
    /// Time from the start until it must be ready; `None`: the timeout of the ping, or the default.
    pub ready_timeout: Option<Duration>,
    /// Liveness check and its action.
    pub health: Option<Health>,
    /// Hooks. Hook points without hooks have no entry.
    pub hooks: BTreeMap<HookPoint, Vec<Hook>>,
    /// Outputs it produces and uses.
    pub outputs: Outputs,
    /// When to pull its image.
    pub pull: Pull,
    /// How its image is built, if it is. The image of `config` is then tagged with a hash of the sources.
    pub build: Option<Build>,
    /// How its container is replaced.
    pub update: Update,
    /// Files that its container mounts.
    pub files: Vec<MountedFile>,
    /// Location of its spec, e.g. `app.yaml:12`.
    pub location: String,
    /// Fields that older engines do not know.
    pub requirements: Vec<Requirement>,
    /// Names of the container's fields into which variables or outputs were inserted.
    pub secret: BTreeSet<String>,
    /// Hashes, and the form in which they are stored in labels.
    pub fingerprint: Fingerprint,
}

impl Service {
    /// Returns the hooks of a hook point, in order of execution.
    pub fn hooks_at(&self, point: HookPoint) -> &[Hook] {
        self.hooks.get(&point).map_or(&[], Vec::as_slice)
    }

    /// Returns its network aliases in a group: `<service>`, `<service>.<group>`, those of the spec, and those on this
    /// network. On a network of several groups, the second is unambiguous.
    pub fn network_names(&self, group: &str, endpoint: &Endpoint) -> Vec<String> {
        let mut names = vec![self.service.clone(), format!("{}.{group}", self.service)];
        for alias in self.config.aliases.iter().chain(&endpoint.aliases) {
            if !names.contains(alias) {
                names.push(alias.clone());
            }
        }
        names
    }

    /// Returns the host name of its container; empty for the engine's default. The engine registers it on the network
    /// as soon as the container runs, so services whose aliases may be deferred have none.
    pub fn hostname(&self) -> &str {
        match &self.config.hostname {
            Some(hostname) => hostname,
            // That of the host, or of the other container.
            None if matches!(self.config.network.mode(), Some(NetworkMode::Host | NetworkMode::Shared(_))) => "",
            None if self.may_defer_aliases() => "",
            None => &self.name,
        }
    }

    /// Returns true if its new container may run beside the old one and get its network aliases when it is ready: nothing
    /// in the spec makes them exclude each other, and something says when it is ready.
    pub fn may_defer_aliases(&self) -> bool {
        if self.config.network.mode().is_some() {
            return false;
        }
        if self.update.order == Order::StartFirst {
            return true;
        }
        let Config { hostname, ports, volumes, healthcheck, aliases, mac_address, network, .. } = &self.config;
        let endpoints = network.endpoints();
        let is_alias = |hostname: &String| {
            *hostname == self.service
                || aliases.contains(hostname)
                || endpoints.iter().any(|(_, endpoint)| endpoint.aliases.contains(hostname))
        };
        let enables = healthcheck.as_ref().and_then(Healthcheck::enables);
        let has_check = self.ping.is_some() || enables == Some(true);
        has_check
            && !self.is_job()
            && mac_address.is_none()
            && !hostname.as_ref().is_some_and(is_alias)
            && ports.iter().all(|port| port.host.fixed().is_none())
            && volumes.iter().all(|volume| !volume.is_shared_writable())
            && endpoints.iter().all(|(_, endpoint)| !endpoint.is_static())
    }

    /// Returns true for jobs.
    pub fn is_job(&self) -> bool {
        matches!(self.kind, Kind::Job(_))
    }
}

/// Hook point of a service or job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HookPoint {
    /// Before a container is created; a failure is one of the service.
    PreStart,
    /// Once for each created container, after its first ping that answered; a failure is one of the service.
    PostStart,
    /// Before the container is stopped.
    PreStop,
    /// After the container was stopped.
    PostStop,
    /// When its state has changed.
    On(LifecycleEvent),
}

/// Lifecycle event of a service or job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LifecycleEvent {
    /// It became ready.
    Ready,
    /// Its container exited unexpectedly.
    Exited,
    /// It became unhealthy.
    Unhealthy,
    /// Its container was restarted.
    Restarted,
    /// Its container was replaced.
    Replaced,
    /// Its container was stopped.
    Stopped,
    /// It failed.
    Failed,
    /// It succeeded. Jobs only.
    Succeeded,
}

/// Group event: a command has finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupEvent {
    /// `up`.
    Up,
    /// `down`.
    Down,
    /// `reload`.
    Reload,
}

impl HookPoint {
    /// Where its hooks are written: `post_start`, `on.exited`.
    pub fn field(self) -> String {
        match self {
            HookPoint::On(occasion) => format!("on.{occasion}"),
            point => point.to_string(),
        }
    }
}

impl fmt::Display for HookPoint {
    /// Returns the name used in specs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HookPoint::PreStart => "pre_start",
            HookPoint::PostStart => "post_start",
            HookPoint::PreStop => "pre_stop",
            HookPoint::PostStop => "post_stop",
            HookPoint::On(occasion) => return occasion.fmt(f),
        })
    }
}

impl fmt::Display for LifecycleEvent {
    /// Returns the name used in specs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LifecycleEvent::Ready => "ready",
            LifecycleEvent::Exited => "exited",
            LifecycleEvent::Unhealthy => "unhealthy",
            LifecycleEvent::Restarted => "restarted",
            LifecycleEvent::Replaced => "replaced",
            LifecycleEvent::Stopped => "stopped",
            LifecycleEvent::Failed => "failed",
            LifecycleEvent::Succeeded => "succeeded",
        })
    }
}

impl fmt::Display for GroupEvent {
    /// Returns the name used in specs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GroupEvent::Up => "up",
            GroupEvent::Down => "down",
            GroupEvent::Reload => "reload",
        })
    }
}

/// A dependency, resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dependency {
    /// Service that is needed.
    pub name: String,
    /// What must be true of it.
    pub condition: Condition,
    /// Restart when it was replaced.
    pub restart: bool,
}
