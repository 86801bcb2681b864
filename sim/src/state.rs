//! State of the engine and its transitions. Never waits; latency is added in `calls`.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::view::addresses;
use super::{Image, Latency, Personality};
use drillmaster::desired::{Config, CopiedFile, VolumeSource, set_variables};
use drillmaster::engine::{BuildRequest, ContainerEvent, ContainerSpec, EngineError, EngineEvent, LogLine, Result};
use drillmaster::identity::{BUILD_GROUP, BUILD_SOURCE, GROUP, REPLICA, SERVICE};
use drillmaster::observed::{BuiltImage, Health, MountPoint, Network, PublishedPort, State};
use drillmaster::spec::model::{Healthcheck, Resources, RestartPolicy};
use drillmaster::types::ContainerId;

/// Start time of every simulation in seconds since the Unix epoch.
pub(crate) const EPOCH: u64 = 1_700_000_000;
/// Maximum number of recorded exits.
const MAX_EXITS: usize = 256;
/// The engine's message while its disk is full.
pub(crate) const NO_SPACE: &str = "mkdir /var/lib/docker/overlay2/0: no space left on device";

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) personality: Personality,
    pub(crate) began: Instant,
    pub(crate) latency: Latency,
    pub(crate) stale: Duration,
    /// From the `stop` event of an exit to its `die` event.
    pub(crate) die_delay: Duration,
    /// Creating and starting a container and creating a volume fail.
    pub(crate) disk_full: bool,
    pub(crate) containers: BTreeMap<String, SimContainer>,
    pub(crate) networks: BTreeMap<String, Network>,
    pub(crate) volumes: BTreeMap<String, BTreeMap<String, String>>,
    /// When volumes were created by a request of their own.
    pub(crate) volume_times: BTreeMap<String, Instant>,
    /// Volumes that the engine itself created for a container.
    pub(crate) anonymous_volumes: BTreeSet<String>,
    pub(crate) images: BTreeMap<String, Image>,
    pub(crate) registry: BTreeMap<String, Image>,
    /// Built images by reference.
    pub(crate) built: BTreeMap<String, BuiltImage>,
    /// Error messages of failing builds by image.
    pub(crate) unbuildable: BTreeMap<String, String>,
    pub(crate) presence: Presence,
    /// Number of times the engine was stopped. A change means that calls in flight have failed.
    pub(crate) epoch: u64,
    pub(crate) subscribers: Vec<Subscriber>,
    /// Events to deliver once the engine no longer hangs.
    pub(crate) held: Vec<(Option<String>, EngineEvent)>,
    pub(crate) exits: VecDeque<SimExit>,
    pub(crate) calls: Vec<String>,
    pub(crate) history: Vec<String>,
    pub(crate) under_way: usize,
    pub(crate) most_under_way: usize,
    pub(crate) next: u64,
}

/// Availability of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    Answers,
    /// Accepts calls but does not respond.
    Hangs,
    /// Refuses connections.
    Away,
}

/// A recorded exit of a container of a group.
#[derive(Debug)]
pub(crate) struct SimExit {
    pub(crate) id: String,
    pub(crate) group: String,
    pub(crate) service: String,
    pub(crate) replica: Option<u32>,
    pub(crate) at: Instant,
    pub(crate) code: i64,
    pub(crate) asked: bool,
}

#[derive(Debug)]
pub(crate) struct Subscriber {
    pub(crate) group: String,
    /// Events with the times at which they arrive.
    pub(crate) hints: mpsc::UnboundedSender<(Instant, Result<EngineEvent>)>,
}

/// A container as stored by the engine.
#[derive(Debug, Clone)]
pub(crate) struct SimContainer {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) labels: HashMap<String, String>,
    pub(crate) config: Config,
    pub(crate) env: BTreeMap<String, String>,
    /// Files that were copied into it, by path.
    pub(crate) files: BTreeMap<String, CopiedFile>,
    pub(crate) image: Image,
    pub(crate) state: State,
    pub(crate) health: Health,
    /// Ids of networks by name, the key that a real engine uses too.
    pub(crate) networks: BTreeMap<String, String>,
    /// DNS names by network id.
    pub(crate) names: BTreeMap<String, Vec<String>>,
    /// Fixed addresses by network id.
    pub(crate) addresses: BTreeMap<String, Ipv4Addr>,
    /// Containers whose namespaces it shares.
    pub(crate) targets: BTreeMap<String, ContainerId>,
    /// Host name, also a DNS name on every network. Empty for the container's id.
    pub(crate) hostname: String,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) resources: Resources,
    pub(crate) restart: RestartPolicy,
    pub(crate) created: u64,
    pub(crate) started: Option<Instant>,
    pub(crate) finished: Option<Instant>,
    pub(crate) restarts: u64,
    pub(crate) error: String,
    pub(crate) output: Vec<(u64, LogLine)>,
    /// Number of starts. Pending actions of earlier starts are dropped.
    pub(crate) lives: u64,
    /// Time until which lists still report the container as running.
    pub(crate) stale_until: Option<Instant>,
    /// Exited when the engine stopped, and restarts with it.
    pub(crate) revives: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Mount {
    pub(crate) point: MountPoint,
    /// True for anonymous volumes, which `docker rm --volumes` removes.
    pub(crate) anonymous: bool,
}

impl World {
    /// Returns a new id of 64 hexadecimal digits.
    pub(crate) fn fresh_id(&mut self) -> String {
        self.next += 1;
        // Mixed, so that the order of ids is unrelated to the order of creation.
        let mut x = self.next.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        x ^= x >> 29;
        x = x.wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x ^= x >> 32;
        format!("{x:016x}{:048x}", self.next)
    }

    pub(crate) fn seconds(&self) -> u64 {
        EPOCH + self.began.elapsed().as_secs()
    }

    pub(crate) fn name_of(&self, id: &str) -> String {
        self.containers.get(id).map_or_else(|| id.to_owned(), |container| container.name.clone())
    }

    pub(crate) fn network_name(&self, id: &str) -> String {
        self.networks.get(id).map_or_else(|| id.to_owned(), |network| network.name.clone())
    }

    /// Sends an event to the subscribers of the container's group.
    pub(crate) fn emit_event(&mut self, id: &str, what: ContainerEvent) {
        let Some(group) = self.containers.get(id).and_then(|container| container.labels.get(GROUP)).cloned() else {
            return;
        };
        self.event(Some(group), EngineEvent::Container { id: id.to_owned(), what });
    }

    /// Sends the event of an exit, after the delay that is set.
    fn emit_died(&mut self, id: &str, code: i64) {
        let died = ContainerEvent::Died { code: Some(code) };
        if self.die_delay.is_zero() {
            return self.emit_event(id, died);
        }
        self.emit_event(id, ContainerEvent::Changed);
        let group = self.containers.get(id).and_then(|container| container.labels.get(GROUP));
        let subscribers = self.subscribers.iter().filter(|subscriber| Some(&subscriber.group) == group);
        let hints: Vec<_> = subscribers.map(|subscriber| subscriber.hints.clone()).collect();
        let event = EngineEvent::Container { id: id.to_owned(), what: died };
        let (delay, latency) = (self.die_delay, self.latency.event);
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let arrival = Instant::now() + latency;
            // A closed stream misses it.
            hints.iter().for_each(|hints| drop(hints.send((arrival, Ok(event.clone())))));
        });
    }

    /// Sends an event to all subscribers: network events carry no labels.
    pub(crate) fn emit_network_event(&mut self, id: &str, container: Option<&str>) {
        self.event(None, EngineEvent::Network { id: id.to_owned(), container: container.map(str::to_owned) });
    }

    pub(crate) fn event(&mut self, group: Option<String>, event: EngineEvent) {
        if self.presence == Presence::Hangs {
            self.held.push((group, event));
            return;
        }
        let concerns = |subscriber: &Subscriber| group.as_ref().is_none_or(|group| subscriber.group == *group);
        let arrival = Instant::now() + self.latency.event;
        let send = |subscriber: &Subscriber| subscriber.hints.send((arrival, Ok(event.clone()))).is_ok();
        self.subscribers.retain(|subscriber| !concerns(subscriber) || send(subscriber));
    }

    pub(crate) fn container(&mut self, id: &str, attempted: &str) -> Result<&mut SimContainer> {
        self.containers.get_mut(id).ok_or_else(|| no_container(attempted, id))
    }

    pub(crate) fn build(&mut self, request: &BuildRequest) -> Result<()> {
        let attempted = format!("build {}", request.image);
        if self.disk_full {
            return Err(EngineError::Refused { attempted, message: NO_SPACE.into() });
        }
        if let Some(why) = self.unbuildable.get(&request.image) {
            return Err(EngineError::Invalid { attempted, message: why.clone() });
        }
        let label = |key: &str| request.labels.get(key).cloned();
        // An existing image keeps the behaviour that a test has set.
        let image = self.images.entry(request.image.clone()).or_insert_with(|| Image::new(&request.image));
        let group = label(BUILD_GROUP).unwrap_or_default();
        // Later than every other image, also within one second.
        let youngest = self.built.values().map(|built| built.created).max().unwrap_or_default();
        let elapsed = i64::try_from(EPOCH + self.began.elapsed().as_secs()).unwrap_or(i64::MAX);
        let created = elapsed.max(youngest + 1);
        let built = BuiltImage { id: image.id.clone(), group, source: label(BUILD_SOURCE), created };
        self.built.insert(request.image.clone(), built);
        Ok(())
    }

    pub(crate) fn remove_image(&mut self, reference: &str) -> Result<()> {
        let attempted = format!("remove image {reference}");
        if self.containers.values().any(|container| container.config.image == reference) {
            let message = format!("conflict: unable to remove repository reference \"{reference}\" (must force)");
            return Err(EngineError::Conflict { attempted, message });
        }
        self.built.remove(reference);
        self.images.remove(reference);
        Ok(())
    }

    pub(crate) fn create(&mut self, spec: &ContainerSpec) -> Result<String> {
        let attempted = format!("create the container {}", spec.name);
        if let Some(holder) = self.containers.values().find(|container| container.name == spec.name) {
            let message = format!(
                "Conflict. The container name \"/{}\" is already in use by container \"{}\"",
                spec.name, holder.id
            );
            return Err(EngineError::Conflict { attempted, message });
        }
        if self.disk_full {
            return Err(EngineError::Refused { attempted, message: NO_SPACE.to_owned() });
        }
        let Some(image) = self.images.get(&spec.config.image).cloned() else {
            let message = format!("No such image: {}", spec.config.image);
            return Err(EngineError::NotFound { attempted, message });
        };
        if spec.joins.len() > 1 && !self.personality.capabilities().joins_several_networks() {
            return Err(EngineError::Invalid { attempted, message: "more than one network endpoint".into() });
        }
        if let Some(gone) = spec.targets.values().find(|id| !self.containers.contains_key(id.as_str())) {
            return Err(no_container(&attempted, gone.as_str()));
        }
        let id = self.fresh_id();
        let mounts = self.mounts(spec, &image);
        let container = SimContainer {
            id: id.clone(),
            name: spec.name.clone(),
            labels: image.labels.clone().into_iter().chain(spec.labels.clone()).collect(),
            config: spec.config.clone(),
            env: set_variables(&spec.env),
            files: BTreeMap::new(),
            image,
            state: State::Created,
            health: Health::None,
            // A missing network is an error only at the start.
            networks: spec.joins.iter().map(|join| (join.name.clone(), join.network.clone())).collect(),
            names: spec.joins.iter().map(|join| (join.network.clone(), names(&join.names, &spec.hostname))).collect(),
            addresses: addresses(&spec.joins),
            targets: spec.targets.clone(),
            hostname: spec.hostname.clone(),
            mounts,
            resources: spec.config.resources.clone(),
            restart: spec.config.restart,
            created: self.seconds(),
            started: None,
            finished: None,
            restarts: 0,
            error: String::new(),
            output: Vec::new(),
            lives: 0,
            stale_until: None,
            revives: false,
        };
        self.containers.insert(id.clone(), container);
        self.history.push(format!("created {}", spec.name));
        self.emit_event(&id, ContainerEvent::Created);
        Ok(id)
    }

    /// Returns the mounts of a new container. Creates missing volumes.
    fn mounts(&mut self, spec: &ContainerSpec, image: &Image) -> Vec<Mount> {
        let mut mounts: BTreeMap<String, Mount> = BTreeMap::new();
        for inherited in &spec.inherited {
            let volume = inherited.volume.clone();
            self.volumes.entry(volume.clone()).or_default();
            mounts.insert(inherited.target.clone(), mount(Some(volume), None, &inherited.target, true));
        }
        for volume in &spec.config.volumes {
            if mounts.contains_key(&volume.target) {
                continue;
            }
            let mut made = match &volume.source {
                VolumeSource::Bind(path) => mount(None, Some(path.clone()), &volume.target, !volume.read_only),
                VolumeSource::Image(_) => mount(None, None, &volume.target, !volume.read_only),
                VolumeSource::Named(name) => mount(Some(name.clone()), None, &volume.target, !volume.read_only),
                VolumeSource::Anonymous => {
                    let name = self.fresh_id();
                    // Podman's are created before the container, with a name.
                    let anonymous = !self.personality.is_podman();
                    Mount { anonymous, ..mount(Some(name), None, &volume.target, !volume.read_only) }
                }
            };
            if let Some(name) = &made.point.volume {
                let declared = spec.volumes.get(name);
                let labels =
                    if declared.is_some_and(|it| it.external) { BTreeMap::new() } else { spec.volume_labels.clone() };
                self.volumes.entry(name.clone()).or_insert(labels);
            }
            made.point.target.clone_from(&volume.target);
            mounts.insert(volume.target.clone(), made);
        }
        for target in &image.facts.volumes {
            if !mounts.contains_key(target) && !spec.config.tmpfs.contains_key(target) {
                let name = self.fresh_id();
                self.volumes.insert(name.clone(), BTreeMap::new());
                self.anonymous_volumes.insert(name.clone());
                mounts.insert(target.clone(), Mount { anonymous: true, ..mount(Some(name), None, target, true) });
            }
        }
        mounts.into_values().collect()
    }

    /// Copies files into a container.
    pub(crate) fn copy_files(&mut self, id: &str, files: &BTreeMap<String, CopiedFile>) -> Result<()> {
        let attempted = format!("copy files to the container {}", self.name_of(id));
        let container = self.containers.get_mut(id).ok_or_else(|| no_container(&attempted, id))?;
        container.files.extend(files.clone());
        Ok(())
    }

    /// Starts a container. Returns false if it is already running.
    pub(crate) fn start(&mut self, id: &str) -> Result<bool> {
        let attempted = format!("start the container {}", self.name_of(id));
        let container = self.containers.get(id).ok_or_else(|| no_container(&attempted, id))?;
        match container.state {
            State::Running => return Ok(false),
            State::Paused => {
                let message = "cannot start a paused container, try unpause instead".to_owned();
                return Err(EngineError::Conflict { attempted, message });
            }
            State::Dead | State::Removing => {
                let message = "container is marked for removal and cannot be started".to_owned();
                return Err(EngineError::Conflict { attempted, message });
            }
            State::Created | State::Restarting | State::Exited { .. } => {}
        }
        let error = self.start_error(container, &attempted);
        let checked = self.personality.runs_health_checks();
        let Some(container) = self.containers.get_mut(id) else { return Err(no_container(&attempted, id)) };
        if let Some(error) = error {
            container.error = error.to_string();
            if container.state == State::Restarting {
                container.state = State::Exited { code: Some(128) };
            }
            return Err(error);
        }
        container.state = State::Running;
        container.health = if checked && container.checks_health() { Health::Starting } else { Health::None };
        container.started = Some(Instant::now());
        container.stale_until = None;
        container.revives = false;
        container.lives += 1;
        container.error.clear();
        let name = container.name.clone();
        self.emit_attachment_events(id);
        self.history.push(format!("started {name}"));
        self.emit_event(id, ContainerEvent::Started);
        Ok(true)
    }

    /// Whether a recorded exit counts as requested, as far as Podman tells: of a container's last exit it is known, of earlier
    /// ones and of removed containers it is assumed.
    pub(crate) fn may_be_asked(&self, exit: &SimExit) -> bool {
        let last = self.exits.iter().rev().find(|other| other.id == exit.id);
        match self.containers.get(&exit.id) {
            None => true,
            Some(container) if !container.is_up() && last.is_some_and(|last| std::ptr::eq(last, exit)) => exit.asked,
            Some(_) => exit.asked || matches!(exit.code, 0 | 137 | 143),
        }
    }

    /// Sends the event of a signal that may end a container.
    pub(crate) fn emit_killed(&mut self, id: &str) {
        if !self.personality.is_podman() {
            self.emit_event(id, ContainerEvent::Killed);
        }
    }

    /// Emits network events for a container that has started or exited: it joins or leaves its networks.
    fn emit_attachment_events(&mut self, id: &str) {
        if self.personality.is_podman() {
            return;
        }
        let networks: Vec<String> =
            self.containers.get(id).map(|container| container.networks.values().cloned().collect()).unwrap_or_default();
        for network in networks {
            self.emit_network_event(&network, Some(id));
        }
    }

    /// Returns the error if a container cannot be started.
    fn start_error(&self, container: &SimContainer, attempted: &str) -> Option<EngineError> {
        let attempted = attempted.to_owned();
        if self.disk_full {
            return Some(EngineError::Refused { attempted, message: NO_SPACE.to_owned() });
        }
        if let Some(gone) = container.networks.values().find(|id| !self.networks.contains_key(*id)) {
            return Some(EngineError::NotFound { attempted, message: format!("network {gone} not found") });
        }
        let is_gone = |id: &&ContainerId| !self.containers.get(id.as_str()).is_some_and(SimContainer::is_running);
        if let Some(target) = container.targets.values().find(is_gone) {
            let message = format!("cannot join network of a non running container: {target}");
            return Some(EngineError::Conflict { attempted, message });
        }
        let others = || self.containers.values().filter(|other| other.id != container.id && other.is_running());
        let is_taken = |(network, address): &(&String, &Ipv4Addr)| {
            others().any(|other| other.addresses.get(*network) == Some(*address))
        };
        if container.addresses.iter().any(|address| is_taken(&address)) {
            return Some(EngineError::Refused { attempted, message: "Address already in use".to_owned() });
        }
        let taken = container.config.ports.iter().find_map(|port| {
            let host = port.host.fixed()?;
            let holds = |other: &drillmaster::spec::model::Port| other.clashes_with(port);
            let mut others = self.containers.values().filter(|other| other.id != container.id && other.is_running());
            others.any(|other| other.config.ports.iter().any(holds)).then_some((port.address, host))
        });
        if let Some((address, host)) = taken {
            let address = address.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
            let message = format!(
                "driver failed programming external connectivity on endpoint {}: Bind for {address}:{host} failed: port \
                 is already allocated",
                container.name
            );
            return Some(EngineError::PortAllocated { attempted, message });
        }
        let why = container.image.behaviour.unstartable.clone()?;
        Some(EngineError::Invalid { attempted, message: why })
    }

    /// Ends the process of a container. If the restart policy applies, returns the number of starts so far and the delay.
    pub(crate) fn end(&mut self, id: &str, code: i64, asked_for: bool) -> Option<(u64, Duration)> {
        let (now, stale) = (Instant::now(), self.stale);
        let container = self.containers.get_mut(id)?;
        if !container.is_up() {
            return None;
        }
        let again = !asked_for
            && match container.restart {
                RestartPolicy::No => false,
                RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
                RestartPolicy::OnFailure(times) => code != 0 && (times == 0 || container.restarts < u64::from(times)),
            };
        container.state = if again { State::Restarting } else { State::Exited { code: Some(code) } };
        container.health = Health::None;
        container.finished = Some(now);
        container.stale_until = (!stale.is_zero() && !again).then(|| now + stale);
        let pause = self.personality.restart_pause(container.restarts);
        container.restarts += u64::from(again);
        let (life, name) = (container.lives, container.name.clone());
        if let (Some(group), Some(service)) = (container.labels.get(GROUP), container.labels.get(SERVICE)) {
            let (group, service) = (group.clone(), service.clone());
            let replica = container.labels.get(REPLICA).and_then(|number| number.parse().ok());
            self.exits.push_back(SimExit {
                id: id.to_owned(),
                group,
                service,
                replica,
                at: now,
                code,
                asked: asked_for,
            });
            self.exits.drain(..self.exits.len().saturating_sub(MAX_EXITS));
        }
        self.history.push(format!("died {name} ({code})"));
        if asked_for && self.personality.is_podman() {
            self.emit_event(id, ContainerEvent::Killed);
        }
        self.emit_died(id, code);
        self.emit_attachment_events(id);
        again.then_some((life, pause))
    }

    pub(crate) fn unpause(&mut self, id: &str) -> Result<()> {
        let attempted = format!("unpause the container {}", self.name_of(id));
        let container = self.container(id, &attempted)?;
        if container.state != State::Paused {
            return Ok(());
        }
        container.state = State::Running;
        let name = container.name.clone();
        self.history.push(format!("{name} is now running"));
        self.emit_event(id, ContainerEvent::Changed);
        Ok(())
    }

    pub(crate) fn signal(&mut self, id: &str) -> Result<()> {
        let attempted = format!("send a signal to the container {}", self.name_of(id));
        let container = self.container(id, &attempted)?;
        if container.state != State::Running {
            return Err(EngineError::Conflict { attempted, message: "the container is not running".into() });
        }
        let name = container.name.clone();
        self.history.push(format!("{name} got a signal"));
        self.emit_killed(id);
        Ok(())
    }

    pub(crate) fn rename(&mut self, id: &str, to: &str) -> Result<()> {
        let attempted = format!("rename the container {}", self.name_of(id));
        if self.containers.get(id).is_some_and(|container| container.name == to) {
            return Ok(());
        }
        if self.containers.values().any(|other| other.name == to) {
            let message = format!("Conflict. The container name \"/{to}\" is already in use");
            return Err(EngineError::Conflict { attempted, message });
        }
        let container = self.container(id, &attempted)?;
        let before = std::mem::replace(&mut container.name, to.to_owned());
        self.history.push(format!("renamed {before} to {to}"));
        self.emit_event(id, ContainerEvent::Changed);
        Ok(())
    }

    pub(crate) fn update(&mut self, id: &str, resources: Resources, restart: RestartPolicy) -> Result<()> {
        let container = self.container(id, "update the container")?;
        let before = container.resources.clone();
        // An update cannot remove memory and CPU limits: omitted limits stay unchanged.
        container.resources = Resources {
            memory: resources.memory.or(before.memory),
            cpus: resources.cpus.or(before.cpus),
            pids: resources.pids,
            memory_reservation: resources.memory_reservation.or(before.memory_reservation),
            memory_swap: resources.memory_swap,
            cpu_shares: resources.cpu_shares.or(before.cpu_shares),
            cpuset: resources.cpuset.or(before.cpuset),
            cpuset_mems: resources.cpuset_mems.or(before.cpuset_mems),
            cpu_period: resources.cpu_period.or(before.cpu_period),
            cpu_quota: resources.cpu_quota.or(before.cpu_quota),
            cpu_rt_period: resources.cpu_rt_period.or(before.cpu_rt_period),
            cpu_rt_runtime: resources.cpu_rt_runtime.or(before.cpu_rt_runtime),
        };
        container.restart = restart;
        let name = container.name.clone();
        self.history.push(format!("updated {name}"));
        self.emit_event(id, ContainerEvent::Changed);
        Ok(())
    }
}

impl SimContainer {
    /// Returns true if the container is running, paused or restarting.
    pub(crate) fn is_up(&self) -> bool {
        matches!(self.state, State::Running | State::Paused | State::Restarting)
    }

    /// Returns true if the container has processes, and thus ports and addresses.
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.state, State::Running | State::Paused)
    }

    /// Returns true if the container defines a health check.
    pub(crate) fn checks_health(&self) -> bool {
        let own = self.config.healthcheck.as_ref().and_then(Healthcheck::enables);
        own.unwrap_or(self.image.facts.healthcheck)
    }

    pub(crate) fn ports(&self) -> Vec<PublishedPort> {
        let published = |port: &drillmaster::spec::model::Port| {
            Some(PublishedPort {
                address: port.address.unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
                host: port.host.fixed()?,
                container: port.container,
                protocol: port.protocol,
            })
        };
        self.config.ports.iter().filter_map(published).collect()
    }
}

/// Returns the DNS names of a container on a network: its aliases and its host name.
pub(crate) fn names(aliases: &[String], hostname: &str) -> Vec<String> {
    aliases.iter().cloned().chain(Some(hostname.to_owned()).filter(|name| !name.is_empty())).collect()
}

fn mount(volume: Option<String>, bind: Option<String>, target: &str, writable: bool) -> Mount {
    Mount { point: MountPoint { volume, bind, target: target.to_owned(), writable }, anonymous: false }
}

pub(crate) fn no_container(attempted: &str, id: &str) -> EngineError {
    EngineError::NotFound { attempted: attempted.to_owned(), message: format!("No such container: {id}") }
}
