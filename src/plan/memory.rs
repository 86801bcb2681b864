//! What a controller remembers beside what the engine shows: one record per container, one per service.
//!
//! Times are durations since the start of the run.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::backoff::Backoff;
use super::step::{Failure, Subject};
use crate::desired::files::FileVersion;
use crate::desired::{Desired, HookPoint};
use crate::observed::Observed;
use crate::spec::SourceFiles;
use crate::types::{ContainerId, ServiceName};

/// The memory of a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Memory {
    /// Containers, by id.
    pub containers: BTreeMap<ContainerId, ContainerMemory>,
    /// Services, by name.
    pub services: BTreeMap<ServiceName, ServiceMemory>,
    /// Images, by reference.
    pub images: ImageMemory,
    /// Files from which images were built or are to be built, by reference, as far as they are known.
    pub sources: BTreeMap<String, SourceFiles>,
    /// Why networks could not be created, by name.
    pub network_errors: BTreeMap<String, String>,
    /// Networks, volumes and images that the engine refused to remove; not retried.
    pub removal_failed: BTreeSet<Subject>,
    /// Outputs that are assumed to be set, in a forecast only.
    pub assumed_outputs: BTreeSet<String>,
    /// The controller keeps running: exited containers are started again, failures are retried.
    pub watching: bool,
}

/// What is remembered of a container.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ContainerMemory {
    /// When this run started it. Kept when it exits, so that the exit counts as a failure; cleared by
    /// [`Memory::forget`].
    pub started_at: Option<Duration>,
    /// Since when its readiness is awaited. Restarts by the engine do not extend that.
    pub waiting_since: Option<Duration>,
    /// Observations that hold until the container exits.
    pub life: ContainerLife,
    /// It was updated in place, by this run or an earlier one: its labels no longer show its limits.
    pub updated_in_place: bool,
    /// The outputs of a completed job were collected.
    pub outputs_collected: bool,
    /// This run stopped it after it had been the current container: its `post_stop` hooks are due.
    pub stopped_after_serving: bool,
    /// It is to be replaced although it matches its spec.
    pub force_replace: Option<ForceReason>,
    /// The files that it mounted; `None`: not known.
    pub mounted: Option<MountedVersions>,
}

/// The versions of the files that a container mounted at a start, or was told about since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountedVersions {
    /// When it was started, as the engine says it, RFC 3339; empty: by the last step, and not inspected since.
    pub started_at: String,
    /// By path in the container.
    pub files: BTreeMap<String, FileVersion>,
}

/// Observations about a running container, dropped together when it exits.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ContainerLife {
    /// Its readiness probe has succeeded.
    pub probe_succeeded: bool,
    /// Its readiness probe has failed in a way that will not change.
    pub probe_is_hopeless: bool,
    /// When it was inspected last.
    pub inspected_at: Option<Duration>,
    /// Until when it must stay as it is before the next step.
    pub hold_until: Option<Duration>,
    /// Results of its liveness probes; while watching, and for candidates during `min_ready`.
    pub liveness: Option<Liveness>,
}

/// Results of the liveness probes of a container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Liveness {
    /// When the last probe ended.
    pub last: Duration,
    /// Consecutive failures.
    pub failures: u32,
    /// Error of the last probe; empty if it succeeded.
    pub error: String,
}

/// Why a container is replaced although it matches its spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForceReason {
    /// `drillmaster reload`, or a job that is run again.
    Reload {
        /// The replacement gets new anonymous volumes.
        renew_volumes: bool,
    },
    /// It is unhealthy, and its spec says `action: replace`.
    Unhealthy,
}

/// What is remembered of a service.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServiceMemory {
    /// A failure that holds until the spec or its image changes.
    pub failure: Option<Failure>,
    /// A failure that is retried.
    pub backoff: Option<Backoff>,
    /// Hooks that have run, by hook point.
    pub hooks: BTreeMap<HookPoint, HookProgress>,
    /// Fields whose drift is left alone until the spec changes, because it returned each time it was corrected.
    pub ignored_drift: BTreeSet<String>,
    /// This run has brought the job to success.
    pub job_succeeded: bool,
    /// The last rebuilds, while watching.
    pub rebuilds: Option<Rebuilds>,
}

/// Rebuilds in a row that were caused by files that the container has mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilds {
    /// The image of the last rebuild that was started.
    pub image: String,
    /// How many there were.
    pub count: u32,
    /// What caused the last one: a file and its mount; `None`: something else.
    pub cause: Option<String>,
}

/// How many hooks of a hook point have run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HookProgress {
    /// The container they ran for; `None` before it is created.
    pub container: Option<ContainerId>,
    /// Number of hooks that have run.
    pub done: usize,
}

/// What is remembered of images, by reference.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageMemory {
    /// When this run last pulled an image.
    pub pulled: BTreeMap<String, Duration>,
    /// Images that could not be pulled or built, with the error.
    pub unavailable: BTreeMap<String, String>,
}

impl Memory {
    /// A new memory, with the containers that earlier runs updated in place, and the files that containers mounted.
    pub fn new(
        updated_in_place: impl IntoIterator<Item = ContainerId>,
        mounted: impl IntoIterator<Item = (ContainerId, MountedVersions)>,
    ) -> Memory {
        let mut memory = Memory::default();
        for id in updated_in_place {
            memory.container_mut(&id).updated_in_place = true;
        }
        for (id, versions) in mounted {
            memory.container_mut(&id).mounted = Some(versions);
        }
        memory
    }

    /// Remembers the files from which the images of a desired state are built, and forgets those of images that neither
    /// are to be built nor have a container.
    pub fn note_sources(&mut self, desired: &Desired, observed: Option<&Observed>) {
        let builds = desired.services.values().filter_map(|service| Some((service, service.build.as_ref()?)));
        let sources = builds.map(|(service, build)| (service.config.image.clone(), build.tree.files.clone()));
        self.sources.extend(sources);
        let Some(observed) = observed else { return };
        let containers = observed.of_group(&desired.group).map(|container| container.image.as_str());
        let wanted = desired.services.values().map(|service| service.config.image.as_str());
        let rebuilds = self.services.values().filter_map(|service| Some(service.rebuilds.as_ref()?.image.as_str()));
        let needed: BTreeSet<&str> = containers.chain(wanted).chain(rebuilds).collect();
        self.sources.retain(|image, _| needed.contains(image.as_str()));
    }

    /// When this run started the container.
    pub fn started_at(&self, id: &ContainerId) -> Option<Duration> {
        self.containers.get(id)?.started_at
    }

    /// Observations about the running container.
    pub fn life(&self, id: &ContainerId) -> Option<&ContainerLife> {
        self.containers.get(id).map(|container| &container.life)
    }

    /// Returns true if the container's readiness probe has succeeded since it was started.
    pub fn probe_succeeded(&self, id: &ContainerId) -> bool {
        self.life(id).is_some_and(|life| life.probe_succeeded)
    }

    /// The failure of a service that holds until its spec or image changes.
    pub fn failure(&self, service: &str) -> Option<&Failure> {
        self.services.get(service)?.failure.as_ref()
    }

    /// Returns true if the service has failed for good.
    pub fn has_failed(&self, service: &str) -> bool {
        self.failure(service).is_some()
    }

    /// The failure of a service that is retried.
    pub fn backoff(&self, service: &str) -> Option<&Backoff> {
        self.services.get(service)?.backoff.as_ref()
    }

    /// The failure of a service whose retry is not due yet.
    pub fn pending_backoff(&self, service: &str, now: Duration) -> Option<&Backoff> {
        self.backoff(service).filter(|backoff| backoff.is_backing_off(now))
    }

    /// The record of a container, to change it.
    pub fn container_mut(&mut self, id: &ContainerId) -> &mut ContainerMemory {
        self.containers.entry(id.clone()).or_default()
    }

    /// The record of a service, to change it.
    pub fn service_mut(&mut self, service: &str) -> &mut ServiceMemory {
        self.services.entry(service.into()).or_default()
    }

    /// Drops what held while the container ran. It has to become ready again.
    pub fn exited(&mut self, id: &ContainerId) {
        if let Some(container) = self.containers.get_mut(id) {
            container.life = ContainerLife::default();
        }
    }

    /// A container was started again, by the engine or externally: it has to become ready again.
    pub fn started_again(&mut self, id: &ContainerId, now: Duration) {
        let started = self.started_at(id).is_some();
        if started || self.watching {
            self.exited(id);
        }
        if started {
            self.container_mut(id).started_at = Some(now);
        }
    }

    /// Drops what held while the container ran, that this run started it, and since when it is awaited.
    pub fn forget(&mut self, id: &ContainerId) {
        self.exited(id);
        if let Some(container) = self.containers.get_mut(id) {
            container.started_at = None;
            container.waiting_since = None;
        }
    }
}
