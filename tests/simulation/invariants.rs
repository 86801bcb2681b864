//! Invariants of a simulated run. [`InvariantChecker`] wraps the engine, passes every call on, and records each call
//! that violates an invariant, given what the controller can know at that time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use drillmaster::desired::{Desired, Service, VolumeSource};
use drillmaster::engine::layer::{Call, Layer};
use drillmaster::engine::{ContainerSpec, Engine, EngineFuture, EngineStream, Mutation};
use drillmaster::identity::{ENV_HASH, IMAGE_ID, SERVICE, SPEC_HASH};
use drillmaster::observed::{Container, Health, Observed, State};
use drillmaster::plan::diff::compare;
use drillmaster::spec::model::{Condition, RestartPolicy};
use drillmaster::types::{ContainerId, ServiceName};
use drillmaster_sim::Sim;
use tokio::time::Instant;

use crate::builders::{GROUP, SOURCE};

/// Time in which a controller that receives all events has noticed a change and read the specs.
const CONVERGE_TIMEOUT: Duration = Duration::from_secs(4);
/// Time in which a controller without events has noticed a change: a hung call times out, then a list succeeds.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(100);
/// Time in which an external change is corrected. A crash has a backoff of one second.
const REACTION_TIMEOUT: Duration = Duration::from_millis(2500);
/// Time in which an event reaches the controller.
const EVENT_DELAY: Duration = Duration::from_millis(20);
/// Maximum number of calls in a minute, without probes in containers.
const CALLS: usize = 400;
/// Maximum number of times the same replacement is created without an external change.
const REPLACEMENTS: usize = 2;
/// Maximum number of starts of a service in a minute without an external change: the backoff doubles from one second.
const STARTS: usize = 8;

/// An engine whose calls are checked.
pub struct InvariantChecker {
    pub sim: Sim,
    pub invariants: Arc<Mutex<Invariants>>,
}

/// The trace of a run and the violations found so far.
pub struct Invariants {
    began: Instant,
    /// Trace lines with their times.
    pub trace: Vec<String>,
    /// Violations.
    pub violations: Vec<String>,
    /// Specs with the time of their change, latest last. `None` for invalid specs.
    readings: Vec<(Instant, Option<Desired>)>,
    /// Time until which the controller may have missed changes.
    missed_changes_until: Option<Instant>,
    /// Time at which the engine stopped or hung.
    stopped_at: Option<Instant>,
    hung_at: Option<Instant>,
    /// Times at which services became unavailable to their dependents.
    unmet: BTreeMap<(ServiceName, bool), Instant>,
    /// Times at which containers started.
    up: BTreeMap<ContainerId, Instant>,
    /// Times at which containers stopped running.
    down: BTreeMap<ContainerId, Instant>,
    /// Times at which the controller last requested the start of a container.
    started: BTreeMap<ContainerId, Instant>,
    /// Time from the start of a container to the first successful probe, by image.
    answers: BTreeMap<String, Duration>,
    /// Time of reload requests by service, and the container to replace.
    reloads: BTreeMap<String, (Instant, Option<String>)>,
    /// Deadlines of corrections, by service.
    pub due: BTreeMap<String, Instant>,
    /// Times of the last change to a service, by the controller or externally.
    touched: BTreeMap<String, Instant>,
    /// Times at which containers were renamed externally.
    renamed: BTreeMap<ContainerId, Instant>,
    calls: VecDeque<Instant>,
    starts: BTreeMap<String, VecDeque<Instant>>,
    /// Number of replacements created since the last external change, by service and hashes.
    replacements: BTreeMap<[String; 4], usize>,
    /// Times of external changes that explain starts of services.
    external_changes: VecDeque<Instant>,
    pub max_calls: usize,
    /// Services that are not retried before their specs change.
    pub given_up: BTreeSet<String>,
    /// Number of times a reconcile request was needed.
    pub requests_needed: usize,
}

impl Invariants {
    pub fn new(first: &Desired, answers: BTreeMap<String, Duration>) -> Invariants {
        Invariants {
            began: Instant::now(),
            trace: Vec::new(),
            violations: Vec::new(),
            readings: vec![(Instant::now(), Some(first.clone()))],
            missed_changes_until: None,
            stopped_at: None,
            hung_at: None,
            unmet: BTreeMap::new(),
            up: BTreeMap::new(),
            down: BTreeMap::new(),
            started: BTreeMap::new(),
            answers,
            reloads: BTreeMap::new(),
            due: BTreeMap::new(),
            touched: BTreeMap::new(),
            renamed: BTreeMap::new(),
            calls: VecDeque::new(),
            starts: BTreeMap::new(),
            replacements: BTreeMap::new(),
            external_changes: VecDeque::new(),
            max_calls: 0,
            given_up: BTreeSet::new(),
            requests_needed: 0,
        }
    }

    pub fn log(&mut self, line: &str) {
        self.trace.push(format!("{:10.3}  {line}", self.began.elapsed().as_secs_f64()));
    }

    /// Records a change of the specs.
    pub fn specs_changed(&mut self, reading: Option<Desired>) {
        self.readings.push((Instant::now(), reading));
    }

    /// Probes of containers of this image succeed immediately.
    pub fn answers_immediately(&mut self, image: &str) {
        self.answers.remove(image);
    }

    /// Allows the controller to miss changes for the given time.
    pub fn allow_missed_changes(&mut self, time: Duration) {
        let until = Instant::now() + time;
        self.missed_changes_until = Some(self.missed_changes_until.map_or(until, |before| before.max(until)));
    }

    /// Faults are over: all changes are noticed within [`RECOVERY_TIMEOUT`].
    pub fn faults_ended(&mut self) {
        self.missed_changes_until = Some(Instant::now() + RECOVERY_TIMEOUT);
    }

    pub fn engine_stopped(&mut self) {
        self.stopped_at = Some(Instant::now());
        self.allow_missed_changes(RECOVERY_TIMEOUT);
    }

    pub fn engine_hung(&mut self) {
        self.hung_at = Some(Instant::now());
        self.allow_missed_changes(RECOVERY_TIMEOUT);
    }

    pub fn engine_available(&mut self) {
        self.stopped_at = None;
        self.hung_at = None;
        self.allow_missed_changes(RECOVERY_TIMEOUT);
    }

    pub fn reload(&mut self, service: &str, current: Option<String>) {
        self.reloads.insert(service.to_owned(), (Instant::now(), current));
    }

    /// Drops pending reloads; they end with the controller.
    pub fn clear_reloads(&mut self) {
        for (_, meant) in self.reloads.values_mut() {
            *meant = None;
        }
    }

    /// Drops the reload of a service after a failed attempt. One that is retried may create its replacement again.
    pub fn failed(&mut self, service: &str, is_retried: bool) {
        if is_retried {
            self.replacements.retain(|[name, ..], _| name != service);
        }
        if let Some((_, meant)) = self.reloads.get_mut(service) {
            *meant = None;
        }
    }

    /// Returns the name of a container that still exists although its reload was requested.
    pub fn not_reloaded(&self, observed: &Observed) -> Option<String> {
        let kept = self.reloads.iter().filter(|(service, _)| !self.given_up.contains(*service));
        let mut kept =
            kept.filter_map(|(_, (_, meant))| meant.as_ref().and_then(|id| observed.containers.get(id.as_str())));
        kept.next().map(|container| container.name.clone())
    }

    /// Announces an external change to a container. If nothing else is in progress, it must be corrected immediately.
    pub fn expect_correction(&mut self, name: &str, crash: bool, observed: &Observed) {
        let now = Instant::now();
        let Some(container) = observed.containers.values().find(|container| container.name == name) else { return };
        let (Some(service), Some(identity)) = (container.service_of(GROUP), &container.identity) else { return };
        let (service, definitions) = (service.to_owned(), self.definitions(service));
        let quiet = |at: Option<&Instant>, time: u64| at.is_none_or(|at| now - *at > Duration::from_secs(time));
        let [definition] = definitions.as_slice() else { return };
        let candidate = format!("shop-{service}.new");
        let free = observed.containers.values().all(|other| other.name != candidate);
        let found = compare(definition, container, identity, observed, true);
        let idle = self.detection_time() == CONVERGE_TIMEOUT
            && name == format!("shop-{service}")
            && container.state == State::Running
            && matches!(container.health, Health::None | Health::Healthy)
            && free
            && found == Default::default()
            && definition.dependencies.is_empty()
            && definition.config.restart == RestartPolicy::No
            && !self.given_up.contains(&service)
            && quiet(self.up.get(&container.id), 15)
            && quiet(self.touched.get(&service), if crash { 1000 } else { 70 })
            && quiet(self.readings.last().map(|(at, _)| at), 10);
        self.touched.insert(service.clone(), now);
        if idle {
            self.due.insert(service, now + REACTION_TIMEOUT);
        }
    }

    /// Reports corrections that are overdue.
    pub fn check_deadlines(&mut self) {
        let now = Instant::now();
        let late: Vec<String> =
            self.due.iter().filter(|(_, until)| now > **until).map(|(service, _)| service.clone()).collect();
        for service in late {
            self.due.remove(&service);
            self.violated(format!("{service} is not corrected within {REACTION_TIMEOUT:?}"));
        }
    }

    /// Records an external change after which services may be started.
    pub fn record_external_change(&mut self) {
        self.external_changes.push_back(Instant::now());
        self.replacements.clear();
    }

    /// Records that a container of the group is renamed externally.
    pub fn renamed(&mut self, id: &str) {
        self.renamed.insert(id.into(), Instant::now());
    }

    /// Returns the time in which the controller must notice a change.
    fn detection_time(&self) -> Duration {
        let engine = self.stopped_at.is_some() || self.hung_at.is_some();
        if engine || self.missed_changes_until.is_some_and(|until| Instant::now() < until) {
            RECOVERY_TIMEOUT
        } else {
            CONVERGE_TIMEOUT
        }
    }

    pub fn violated(&mut self, violation: String) {
        self.log(&format!("VIOLATION: {violation}"));
        self.violations.push(violation);
    }

    /// Returns the specs that the controller may currently use: the recent ones, and the last valid ones before that it
    /// has certainly read.
    fn possible_specs(&self) -> Vec<&Desired> {
        let now = Instant::now();
        let mut replaced_at = now;
        let mut specs = Vec::new();
        for (at, reading) in self.readings.iter().rev() {
            specs.extend(reading);
            if reading.is_some() && replaced_at - *at > self.detection_time() {
                break;
            }
            replaced_at = *at;
        }
        specs
    }

    /// Returns the service in each of the possible specs; empty if one of them does not contain it.
    fn definitions(&self, name: &str) -> Vec<Service> {
        let specs = self.possible_specs();
        let found: Vec<Service> = specs.iter().filter_map(|desired| desired.services.get(name)).cloned().collect();
        if found.len() == specs.len() { found } else { Vec::new() }
    }

    /// Returns true if the service has a ping in all possible specs.
    fn has_ping(&self, name: &str) -> bool {
        let definitions = self.definitions(name);
        !definitions.is_empty() && definitions.iter().all(|definition| definition.ping.is_some())
    }

    /// Records a change on the engine.
    pub fn engine_changed(&mut self, line: &str, observed: &Observed) {
        self.log(&format!("   {line}"));
        let now = Instant::now();
        let is_up = |id: &ContainerId| observed.containers.get(id).is_some_and(Container::is_up);
        self.down.extend(self.up.keys().filter(|id| !is_up(id)).map(|id| (id.clone(), now)));
        self.up.retain(|id, _| is_up(id));
        for container in observed.containers.values().filter(|container| container.is_up()) {
            self.up.entry(container.id.clone()).or_insert(now);
        }
        let services: BTreeSet<ServiceName> = self
            .readings
            .iter()
            .filter_map(|(_, reading)| reading.as_ref())
            .flat_map(|desired| desired.services.keys().cloned())
            .collect();
        for service in services {
            for ready in [false, true] {
                // A container that was renamed externally is as available as before; a paused one was healthy.
                let met = observed.of_group(GROUP).any(|container| {
                    let has_served = container.name != format!("shop-{service}.new")
                        && matches!(container.health, Health::None | Health::Healthy);
                    let meets = if ready { has_served } else { container.state == State::Running };
                    container.service_of(GROUP) == Some(&service) && container.is_up() && meets
                });
                let key = (service.clone(), ready);
                if met {
                    self.unmet.remove(&key);
                } else {
                    self.unmet.entry(key).or_insert(now);
                }
            }
        }
    }

    fn count_call(&mut self, line: &str) {
        let now = Instant::now();
        self.calls.push_back(now);
        while self.calls.front().is_some_and(|at| now - *at > Duration::from_secs(60)) {
            self.calls.pop_front();
        }
        self.max_calls = self.max_calls.max(self.calls.len());
        if self.calls.len() == CALLS {
            self.violated(format!("{CALLS} calls within a minute, the last: {line}"));
        }
    }

    /// Checks a mutation before it is executed.
    fn check_mutation(&mut self, mutation: &Mutation, observed: &Observed) {
        self.log(&format!("-> {}", describe(mutation, observed)));
        self.check_deadlines();
        if let Some(service) = service_of(mutation, observed) {
            self.due.remove(&service);
            self.touched.insert(service, Instant::now());
        }
        let now = Instant::now();
        if self.stopped_at.is_some_and(|since| now - since > Duration::from_secs(3)) {
            self.violated(format!("the engine is stopped, but the controller calls: {}", describe(mutation, observed)));
        }
        if self.hung_at.is_some_and(|since| now - since > Duration::from_secs(100)) {
            self.violated(format!("the engine hangs, but the controller calls: {}", describe(mutation, observed)));
        }
        if let Some(id) = target(mutation)
            && let Some(container) = observed.containers.get(id.as_str())
            && container.identity.as_ref().is_none_or(|identity| identity.group != GROUP || identity.source != SOURCE)
        {
            self.violated(format!(
                "{} is not managed, but is changed: {}",
                container.name,
                describe(mutation, observed)
            ));
        }
        let found = |id: &String| observed.containers.get(id.as_str());
        match mutation {
            Mutation::Create(spec) => self.check_create(spec, observed),
            Mutation::Start(id) | Mutation::FirstStart { id, .. } => {
                if let Some(container) = found(id) {
                    self.check_start(container, observed);
                }
            }
            Mutation::Stop { id, .. } => {
                if let Some(container) = found(id) {
                    self.check_stop(container, observed);
                }
            }
            Mutation::Remove { id, volumes } => {
                if *volumes {
                    self.violated("volumes are removed together with a container".into());
                }
                if let Some(container) = found(id) {
                    self.check_remove(container);
                }
            }
            Mutation::RemoveVolume(name) => self.violated(format!("the volume {name} is removed")),
            Mutation::RemoveImage(name) => self.violated(format!("the image {name} is removed")),
            Mutation::RemoveNetwork(id) => {
                let ours = observed.networks.get(id).is_none_or(|network| network.group.as_deref() == Some(GROUP));
                if !ours {
                    self.violated("an unmanaged network is removed".into());
                }
                if self.possible_specs().iter().all(|desired| !desired.services.is_empty()) {
                    let name = observed.networks.get(id).map(|network| &network.name);
                    let named = observed.networks.values().filter(|network| Some(&network.name) == name).count();
                    if named == 1 {
                        self.violated("the only network of the group is removed".into());
                    }
                }
            }
            Mutation::Unpause(_)
            | Mutation::Signal { .. }
            | Mutation::Rename { .. }
            | Mutation::Update { .. }
            | Mutation::CreateNetwork { .. }
            | Mutation::Connect { .. }
            | Mutation::Disconnect { .. } => {}
        }
    }

    fn check_create(&mut self, spec: &ContainerSpec, observed: &Observed) {
        let service = spec.labels.get(SERVICE).cloned().unwrap_or_default();
        if spec.name != format!("shop-{service}.new") {
            self.violated(format!("{} is created for {service}", spec.name));
        }
        if self.possible_specs().iter().all(|desired| !desired.services.contains_key(service.as_str())) {
            self.violated(format!("{} is created without a spec for {service}", spec.name));
        }
        self.check_dependencies(&service, observed, &format!("{} is created", spec.name));
        let taken = observed.containers.values().any(|c| c.name == spec.name && c.identity.is_some());
        if taken && self.detection_time() == CONVERGE_TIMEOUT {
            self.violated(format!("{} is created although it exists", spec.name));
        }
        // A replacement of a running container that fails by itself is not retried.
        let label = |name: &str| spec.labels.get(name).cloned().unwrap_or_default();
        let made_of = [service.clone(), label(SPEC_HASH), label(ENV_HASH), label(IMAGE_ID)];
        let tries = self.replacements.entry(made_of).or_default();
        *tries += 1;
        let (tries, serves) = (*tries, observed.containers.values().any(|c| c.name == format!("shop-{service}")));
        // An unhealthy container may be replaced with the same spec repeatedly.
        let same = self.definitions(&service).iter().all(|definition| definition.health.is_none());
        if serves && same && tries > REPLACEMENTS && self.detection_time() == CONVERGE_TIMEOUT {
            self.violated(format!("{} is created for the {tries}th time", spec.name));
        }
        // The replacement takes over anonymous volumes.
        let current = observed.containers.values().find(|container| container.name == format!("shop-{service}"));
        for mount in current.iter().flat_map(|container| &container.mounts) {
            let wanted = spec
                .config
                .volumes
                .iter()
                .any(|volume| volume.target == mount.target && volume.source == VolumeSource::Anonymous);
            let Some(volume) = mount.volume.as_ref().filter(|name| name.len() == 64 && wanted) else { continue };
            if spec.inherited.iter().all(|inherited| inherited.volume != *volume) {
                self.violated(format!("{} does not take over the volume at {}", spec.name, mount.target));
            }
        }
    }

    fn check_start(&mut self, container: &Container, observed: &Observed) {
        let Some(service) = container.service_of(GROUP).map(str::to_owned) else { return };
        let now = Instant::now();
        self.check_dependencies(&service, observed, &format!("{} is started", container.name));
        for other in observed.of_group(GROUP) {
            let known = self.up.get(&other.id).is_some_and(|since| now - *since > self.detection_time());
            if other.id == container.id || other.service_of(GROUP) != Some(&service) || !known {
                continue;
            }
            let renamed = self.renamed.get(&container.id).is_some_and(|at| now - *at < self.detection_time());
            let replaces = (container.name.ends_with(".new") || renamed) && !other.name.ends_with(".new");
            let shared = |volume: &Option<String>| {
                volume.is_some() && other.mounts.iter().any(|mount| mount.volume == *volume && mount.writable)
            };
            let clash = container.mounts.iter().any(|mount| shared(&mount.volume) && mount.writable);
            if !replaces || clash {
                self.violated(format!("{} is started beside {}, of the same service", container.name, other.name));
            }
        }
        self.started.insert(container.id.clone(), now);
        let window = Duration::from_secs(60);
        let lately = |times: &VecDeque<Instant>| times.iter().filter(|at| now - **at < window).count();
        let starts = self.starts.entry(service.clone()).or_default();
        starts.push_back(now);
        let (starts, external_changes) = (lately(starts), lately(&self.external_changes));
        // A lost response may cause a second start.
        let lost = if self.detection_time() == RECOVERY_TIMEOUT { 4 } else { 1 };
        if starts > STARTS * lost + 3 * external_changes {
            self.violated(format!("{service} is started {starts} times within a minute"));
        }
    }

    /// Checks that the dependencies of a service are available, as far as the controller must know.
    fn check_dependencies(&mut self, service: &str, observed: &Observed, what: &str) {
        let definitions = self.definitions(service);
        let Some(last) = definitions.first() else { return };
        let now = Instant::now();
        let grace = self.detection_time();
        let always = |name: &str, condition: Condition| {
            definitions.iter().all(|d| d.dependencies.iter().any(|d| d.name == name && d.condition == condition))
        };
        let mut wrong = Vec::new();
        for needed in last.dependencies.iter().filter(|needed| always(&needed.name, needed.condition)) {
            let ready = needed.condition == Condition::Ready;
            let unmet =
                |ready| self.unmet.get(&(needed.name.as_str().into(), ready)).is_some_and(|since| now - *since > grace);
            let name = format!("shop-{}", needed.name);
            let current = observed.containers.values().find(|c| c.name == name);
            // A replacement may end in the moment in which it gets its name.
            let has_just_ended =
                current.and_then(|current| self.down.get(&current.id)).is_some_and(|at| now - *at <= grace);
            if !has_just_ended && (unmet(false) || ready && unmet(true)) {
                wrong.push(format!("{what} although {} is not available", needed.name));
            }
            if let Some(current) = current.filter(|_| ready)
                && self.has_ping(&needed.name)
                && let Some(up) = self.up.get(&current.id)
                && self.started.get(&current.id).is_some_and(|requested| requested <= up)
                && self.answers.get(&current.image).is_some_and(|time| now - *up > EVENT_DELAY && now - *up < *time)
            {
                wrong.push(format!("{what} although {} is not ready yet", needed.name));
            }
        }
        for wrong in wrong {
            self.violated(wrong);
        }
    }

    /// Checks that a running container that matches its spec is not stopped.
    fn check_stop(&mut self, container: &Container, observed: &Observed) {
        let Some(service) = container.service_of(GROUP).map(str::to_owned) else { return };
        if container.name != format!("shop-{service}") || container.state != State::Running {
            return;
        }
        let Some(identity) = &container.identity else { return };
        let definitions = self.definitions(&service);
        let now = Instant::now();
        let agrees = !definitions.is_empty()
            && definitions.iter().all(|definition| {
                let found = compare(definition, container, identity, observed, true);
                let keeps = found.replace.is_empty() && found.update.is_empty();
                // It may be stopped because of a dependency or its own health.
                keeps && definition.health.is_none() && definition.dependencies.iter().all(|needed| !needed.restart)
            });
        let reloaded = self.reloads.get(&service).is_some_and(|(at, meant)| {
            meant.as_deref() == Some(&*container.id) || now - *at < Duration::from_secs(300)
        });
        let known = self.up.get(&container.id).is_some_and(|since| now - *since > self.detection_time());
        if agrees && !reloaded && known && container.health == Health::None {
            self.violated(format!("{} is stopped although it matches its spec", container.name));
        }
    }

    fn check_remove(&mut self, container: &Container) {
        if container.is_up()
            && self.up.get(&container.id).is_some_and(|since| Instant::now() - *since > self.detection_time())
        {
            self.violated(format!("{} is removed while running", container.name));
        }
    }
}

fn target(mutation: &Mutation) -> Option<&String> {
    match mutation {
        Mutation::Start(id)
        | Mutation::FirstStart { id, .. }
        | Mutation::Unpause(id)
        | Mutation::Signal { id, .. }
        | Mutation::Stop { id, .. }
        | Mutation::Rename { id, .. }
        | Mutation::Update { id, .. }
        | Mutation::Remove { id, .. } => Some(id),
        Mutation::Connect { container, .. } | Mutation::Disconnect { container, .. } => Some(container),
        Mutation::Create(_)
        | Mutation::CreateNetwork { .. }
        | Mutation::RemoveNetwork(_)
        | Mutation::RemoveVolume(_)
        | Mutation::RemoveImage(_) => None,
    }
}

/// Returns the service of a mutation.
fn service_of(mutation: &Mutation, observed: &Observed) -> Option<String> {
    match mutation {
        Mutation::Create(spec) => spec.labels.get(SERVICE).cloned(),
        mutation => observed.containers.get(target(mutation)?.as_str())?.service_of(GROUP).map(str::to_owned),
    }
}

/// Describes a mutation, with container names instead of ids.
fn describe(mutation: &Mutation, observed: &Observed) -> String {
    let text = mutation.describe();
    match target(mutation).and_then(|id| Some((id, observed.containers.get(id.as_str())?))) {
        Some((id, container)) => text.replace(drillmaster::engine::short(id), &container.name),
        None => text,
    }
}

impl InvariantChecker {
    pub fn invariants(&self) -> MutexGuard<'_, Invariants> {
        self.invariants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Layer for InvariantChecker {
    fn inner(&self) -> &dyn Engine {
        &self.sim
    }

    fn call<'a, T: Send + 'static>(&'a self, call: Call<'a>, result: EngineFuture<'a, T>) -> EngineFuture<'a, T> {
        match call {
            Call::About | Call::Exec(..) | Call::Top(_) | Call::Volumes | Call::CreateVolume(_) => {}
            Call::List => {
                self.invariants().log("-> list");
                self.invariants().count_call("list");
            }
            Call::Inspect(id) => {
                let snapshot = self.sim.snapshot();
                let name = snapshot.containers.get(id).map_or_else(|| id.to_owned(), |found| found.name.clone());
                self.invariants().log(&format!("-> inspect {name}"));
                self.invariants().count_call("inspect");
            }
            Call::Image(_) => self.invariants().count_call("image"),
            Call::Apply(mutation) => {
                let observed = self.sim.snapshot();
                self.invariants().check_mutation(mutation, &observed);
                self.invariants().count_call(&mutation.describe());
            }
            Call::Pull(image) => {
                self.invariants().log(&format!("-> pull {image}"));
                self.invariants().count_call("pull");
            }
            Call::Read(..) => self.invariants().count_call("read"),
            Call::Build(request) => {
                self.invariants().log(&format!("-> build {}", request.image));
                self.invariants().count_call("build");
            }
            Call::RecentExits => self.invariants().count_call("ended"),
            Call::Logs(..) | Call::Events => {}
        }
        result
    }

    fn stream<'a, T: Send + 'static>(
        &'a self,
        call: Call<'a>,
        open: impl FnOnce() -> EngineStream<'a, T> + Send + 'a,
    ) -> EngineStream<'a, T> {
        match call {
            Call::Events => {
                self.invariants().log("-> events");
                self.invariants().count_call("events");
            }
            _ => self.invariants().count_call("logs"),
        }
        open()
    }
}
