//! The laws that hold at every moment of a run, whatever happens. The warden sits between the controller and the engine,
//! lets every call pass, and notes each that no controller should have made, given what it could know.

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

/// Within this time a controller that is told everything knows of it, and has read the specs.
const CONVERGE_TIMEOUT: Duration = Duration::from_secs(4);
/// Within this time one that is told nothing does: after a hung call has been given up, by its next list.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(100);
/// Within this time something is done about what somebody did by hand: a crash has a pause of a second.
const REACTION_TIMEOUT: Duration = Duration::from_millis(2500);
/// How many calls there may be in a minute, pings in containers left out.
const CALLS: usize = 400;
/// How often the same replacement may be created without anything happening.
const REPLACEMENTS: usize = 2;
/// How often a service may be started in a minute without anything happening to it: pauses double from one second.
const STARTS: usize = 8;

/// An engine under supervision.
pub struct InvariantChecker {
    pub sim: Sim,
    pub laws: Arc<Mutex<Invariants>>,
}

/// What has happened so far, and what was wrong with it.
pub struct Invariants {
    began: Instant,
    /// Every line of the story, in its time.
    pub story: Vec<String>,
    /// What no controller should have done.
    pub broken: Vec<String>,
    /// What the specs asked for, since when; the last is what they ask for now, `None`: nothing that can be used.
    readings: Vec<(Instant, Option<Desired>)>,
    /// Until when a controller may not know what has happened.
    blind: Option<Instant>,
    /// Since when the engine is away, or hangs.
    away: Option<Instant>,
    hangs: Option<Instant>,
    /// Since when services are no longer there for their dependents.
    unmet: BTreeMap<(ServiceName, bool), Instant>,
    /// Since when containers run.
    up: BTreeMap<ContainerId, Instant>,
    /// When the controller last asked to start containers.
    started: BTreeMap<ContainerId, Instant>,
    /// How long containers of an image have to run until their pings are answered.
    answers: BTreeMap<String, Duration>,
    /// Services that were asked to be replaced, and the container that was meant.
    reloads: BTreeMap<String, (Instant, Option<String>)>,
    /// Services about which something has to be done by then.
    pub due: BTreeMap<String, Instant>,
    /// When something was last done about a service, or happened to it.
    touched: BTreeMap<String, Instant>,
    calls: VecDeque<Instant>,
    starts: BTreeMap<String, VecDeque<Instant>>,
    /// Replacements that were created since anything last happened, by service and what they are made of.
    replacements: BTreeMap<[String; 4], usize>,
    /// How often something happened to services that explains that they are started.
    meddled: VecDeque<Instant>,
    pub most_calls: usize,
    /// Services that a controller has said not to try again before their specs change.
    pub given_up: BTreeSet<String>,
    /// How often somebody had to ask.
    pub asked: usize,
}

impl Invariants {
    pub fn new(first: &Desired, answers: BTreeMap<String, Duration>) -> Invariants {
        Invariants {
            began: Instant::now(),
            story: Vec::new(),
            broken: Vec::new(),
            readings: vec![(Instant::now(), Some(first.clone()))],
            blind: None,
            away: None,
            hangs: None,
            unmet: BTreeMap::new(),
            up: BTreeMap::new(),
            started: BTreeMap::new(),
            answers,
            reloads: BTreeMap::new(),
            due: BTreeMap::new(),
            touched: BTreeMap::new(),
            calls: VecDeque::new(),
            starts: BTreeMap::new(),
            replacements: BTreeMap::new(),
            meddled: VecDeque::new(),
            most_calls: 0,
            given_up: BTreeSet::new(),
            asked: 0,
        }
    }

    pub fn tell(&mut self, line: &str) {
        self.story.push(format!("{:10.3}  {line}", self.began.elapsed().as_secs_f64()));
    }

    /// The specs ask for this from now on.
    pub fn reads(&mut self, reading: Option<Desired>) {
        self.readings.push((Instant::now(), reading));
    }

    /// Pings of containers of this image are answered at once.
    pub fn answers_at_once(&mut self, image: &str) {
        self.answers.remove(image);
    }

    /// From now on for so long, a controller may not know what happens.
    pub fn blinded(&mut self, time: Duration) {
        let until = Instant::now() + time;
        self.blind = Some(self.blind.map_or(until, |before| before.max(until)));
    }

    /// Nothing goes wrong any longer: soon it knows everything again.
    pub fn sees_again(&mut self) {
        self.blind = Some(Instant::now() + RECOVERY_TIMEOUT);
    }

    pub fn engine_goes(&mut self) {
        self.away = Some(Instant::now());
        self.blinded(RECOVERY_TIMEOUT);
    }

    pub fn engine_hangs(&mut self) {
        self.hangs = Some(Instant::now());
        self.blinded(RECOVERY_TIMEOUT);
    }

    pub fn engine_answers(&mut self) {
        self.away = None;
        self.hangs = None;
        self.blinded(RECOVERY_TIMEOUT);
    }

    pub fn reload(&mut self, service: &str, current: Option<String>) {
        self.reloads.insert(service.to_owned(), (Instant::now(), current));
    }

    /// What the controller was asked to do is forgotten with it.
    pub fn forgets(&mut self) {
        for (_, meant) in self.reloads.values_mut() {
            *meant = None;
        }
    }

    /// To replace it was tried.
    pub fn fails(&mut self, service: &str) {
        if let Some((_, meant)) = self.reloads.get_mut(service) {
            *meant = None;
        }
    }

    /// A container that was asked to be replaced and is still there.
    pub fn not_reloaded(&self, observed: &Observed) -> Option<String> {
        let kept = self.reloads.iter().filter(|(service, _)| !self.given_up.contains(*service));
        let mut kept =
            kept.filter_map(|(_, (_, meant))| meant.as_ref().and_then(|id| observed.containers.get(id.as_str())));
        kept.next().map(|container| container.name.clone())
    }

    /// Somebody is about to do something to a container that has to be put right: at once where everything is at peace.
    pub fn drifts(&mut self, name: &str, crash: bool, observed: &Observed) {
        let now = Instant::now();
        let Some(container) = observed.containers.values().find(|container| container.name == name) else { return };
        let (Some(service), Some(identity)) = (container.service_of(GROUP), &container.identity) else { return };
        let (service, definitions) = (service.to_owned(), self.definitions(service));
        let quiet = |at: Option<&Instant>, time: u64| at.is_none_or(|at| now - *at > Duration::from_secs(time));
        let [definition] = definitions.as_slice() else { return };
        let candidate = format!("shop-{service}.new");
        let free = observed.containers.values().all(|other| other.name != candidate);
        let found = compare(definition, container, identity, observed, true);
        let at_peace = self.grace() == CONVERGE_TIMEOUT
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
        if at_peace {
            self.due.insert(service, now + REACTION_TIMEOUT);
        }
    }

    /// What was due was done, or everything else has to wait too.
    pub fn judge_due(&mut self) {
        let now = Instant::now();
        let late: Vec<String> =
            self.due.iter().filter(|(_, until)| now > **until).map(|(service, _)| service.clone()).collect();
        for service in late {
            self.due.remove(&service);
            self.breaks(format!("nothing is done about {service} within {REACTION_TIMEOUT:?}"));
        }
    }

    /// Something happens for which services may have to be started.
    pub fn meddles(&mut self) {
        self.meddled.push_back(Instant::now());
        self.replacements.clear();
    }

    /// How long after something has happened the controller has to know it.
    fn grace(&self) -> Duration {
        let engine = self.away.is_some() || self.hangs.is_some();
        if engine || self.blind.is_some_and(|until| Instant::now() < until) {
            RECOVERY_TIMEOUT
        } else {
            CONVERGE_TIMEOUT
        }
    }

    fn breaks(&mut self, law: String) {
        self.tell(&format!("BROKEN: {law}"));
        self.broken.push(law);
    }

    /// What a controller may believe the specs to ask for now: what they asked for lately, and what held before.
    fn beliefs(&self) -> Vec<&Desired> {
        let since = Instant::now().checked_sub(self.grace());
        let mut beliefs = Vec::new();
        for (at, reading) in self.readings.iter().rev() {
            beliefs.extend(reading);
            if reading.is_some() && since.is_none_or(|since| *at < since) {
                break;
            }
        }
        beliefs
    }

    /// What every one of these beliefs says of a service; empty where one does not know it.
    fn definitions(&self, name: &str) -> Vec<Service> {
        let beliefs = self.beliefs();
        let found: Vec<Service> = beliefs.iter().filter_map(|belief| belief.services.get(name)).cloned().collect();
        if found.len() == beliefs.len() { found } else { Vec::new() }
    }

    /// Whether a service surely has a ping.
    fn pings(&self, name: &str) -> bool {
        let definitions = self.definitions(name);
        !definitions.is_empty() && definitions.iter().all(|definition| definition.ping.is_some())
    }

    /// Something has happened on the engine.
    pub fn sees(&mut self, line: &str, observed: &Observed) {
        self.tell(&format!("   {line}"));
        let now = Instant::now();
        self.up.retain(|id, _| observed.containers.get(id).is_some_and(Container::is_up));
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
                // One that was renamed by hand serves as before, and one that is paused was healthy.
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

    fn counted(&mut self, line: &str) {
        let now = Instant::now();
        self.calls.push_back(now);
        while self.calls.front().is_some_and(|at| now - *at > Duration::from_secs(60)) {
            self.calls.pop_front();
        }
        self.most_calls = self.most_calls.max(self.calls.len());
        if self.calls.len() == CALLS {
            self.breaks(format!("{CALLS} calls within a minute, the last: {line}"));
        }
    }

    /// A controller asks for this.
    fn judge(&mut self, mutation: &Mutation, observed: &Observed) {
        self.tell(&format!("-> {}", said(mutation, observed)));
        self.judge_due();
        if let Some(service) = service_of(mutation, observed) {
            self.due.remove(&service);
            self.touched.insert(service, Instant::now());
        }
        let now = Instant::now();
        if self.away.is_some_and(|since| now - since > Duration::from_secs(3)) {
            self.breaks(format!("the engine is away, and is asked to {}", said(mutation, observed)));
        }
        if self.hangs.is_some_and(|since| now - since > Duration::from_secs(100)) {
            self.breaks(format!("the engine hangs, and is asked to {}", said(mutation, observed)));
        }
        if let Some(id) = target(mutation)
            && let Some(container) = observed.containers.get(id.as_str())
            && container.identity.as_ref().is_none_or(|identity| identity.group != GROUP || identity.source != SOURCE)
        {
            self.breaks(format!("{} is not ours, and is touched: {}", container.name, said(mutation, observed)));
        }
        let found = |id: &String| observed.containers.get(id.as_str());
        match mutation {
            Mutation::Create(spec) => self.judge_create(spec, observed),
            Mutation::Start(id) => {
                if let Some(container) = found(id) {
                    self.judge_start(container, observed);
                }
            }
            Mutation::Stop { id, .. } => {
                if let Some(container) = found(id) {
                    self.judge_stop(container, observed);
                }
            }
            Mutation::Remove { id, volumes } => {
                if *volumes {
                    self.breaks("volumes are removed with a container".into());
                }
                if let Some(container) = found(id) {
                    self.judge_remove(container);
                }
            }
            Mutation::RemoveVolume(name) => self.breaks(format!("the volume {name} is removed")),
            Mutation::RemoveImage(name) => self.breaks(format!("the image {name} is removed")),
            Mutation::RemoveNetwork(id) => {
                let ours = observed.networks.get(id).is_none_or(|network| network.group.as_deref() == Some(GROUP));
                if !ours {
                    self.breaks("a network is removed that is not ours".into());
                }
                if self.beliefs().iter().all(|belief| !belief.services.is_empty()) {
                    let named = observed.networks.values().filter(|network| network.name == GROUP).count();
                    if named == 1 {
                        self.breaks("the only network of the group is removed".into());
                    }
                }
            }
            Mutation::Unpause(_)
            | Mutation::Rename { .. }
            | Mutation::Update { .. }
            | Mutation::CreateNetwork { .. }
            | Mutation::Connect { .. }
            | Mutation::Disconnect { .. } => {}
        }
    }

    fn judge_create(&mut self, spec: &ContainerSpec, observed: &Observed) {
        let service = spec.labels.get(SERVICE).cloned().unwrap_or_default();
        if spec.name != format!("shop-{service}.new") {
            self.breaks(format!("{} is created for {service}", spec.name));
        }
        if self.beliefs().iter().all(|belief| !belief.services.contains_key(service.as_str())) {
            self.breaks(format!("{} is created, and no spec names {service}", spec.name));
        }
        self.judge_dependencies(&service, observed, &format!("{} is created", spec.name));
        let taken = observed.containers.values().any(|c| c.name == spec.name && c.identity.is_some());
        if taken && self.grace() == CONVERGE_TIMEOUT {
            self.breaks(format!("{} is created although it is there", spec.name));
        }
        // What has failed to replace something that serves is not tried again.
        let label = |name: &str| spec.labels.get(name).cloned().unwrap_or_default();
        let made_of = [service.clone(), label(SPEC_HASH), label(ENV_HASH), label(IMAGE_ID)];
        let tries = self.replacements.entry(made_of).or_default();
        *tries += 1;
        let (tries, serves) = (*tries, observed.containers.values().any(|c| c.name == format!("shop-{service}")));
        // An unhealthy one may be replaced by its like again and again.
        let same = self.definitions(&service).iter().all(|definition| definition.health.is_none());
        if serves && same && tries > REPLACEMENTS && self.grace() == CONVERGE_TIMEOUT {
            self.breaks(format!("{} is created for the {tries}th time", spec.name));
        }
        // Anonymous volumes move on.
        let current = observed.containers.values().find(|container| container.name == format!("shop-{service}"));
        for mount in current.iter().flat_map(|container| &container.mounts) {
            let wanted = spec
                .config
                .volumes
                .iter()
                .any(|volume| volume.target == mount.target && volume.source == VolumeSource::Anonymous);
            let Some(volume) = mount.volume.as_ref().filter(|name| name.len() == 64 && wanted) else { continue };
            if spec.inherited.iter().all(|inherited| inherited.volume != *volume) {
                self.breaks(format!("{} does not take over the volume at {}", spec.name, mount.target));
            }
        }
    }

    fn judge_start(&mut self, container: &Container, observed: &Observed) {
        let Some(service) = container.service_of(GROUP).map(str::to_owned) else { return };
        let now = Instant::now();
        self.judge_dependencies(&service, observed, &format!("{} is started", container.name));
        for other in observed.of_group(GROUP) {
            let known = self.up.get(&other.id).is_some_and(|since| now - *since > self.grace());
            if other.id == container.id || other.service_of(GROUP) != Some(&service) || !known {
                continue;
            }
            let replaces = container.name.ends_with(".new") && !other.name.ends_with(".new");
            let shared = |volume: &Option<String>| {
                volume.is_some() && other.mounts.iter().any(|mount| mount.volume == *volume && mount.writable)
            };
            let clash = container.mounts.iter().any(|mount| shared(&mount.volume) && mount.writable);
            if !replaces || clash {
                self.breaks(format!("{} is started beside {}, of the same service", container.name, other.name));
            }
        }
        self.started.insert(container.id.clone(), now);
        let window = Duration::from_secs(60);
        let lately = |times: &VecDeque<Instant>| times.iter().filter(|at| now - **at < window).count();
        let starts = self.starts.entry(service.clone()).or_default();
        starts.push_back(now);
        let (starts, meddled) = (lately(starts), lately(&self.meddled));
        // A lost reply makes another try of it.
        let lost = if self.grace() == RECOVERY_TIMEOUT { 4 } else { 1 };
        if starts > STARTS * lost + 3 * meddled {
            self.breaks(format!("{service} is started {starts} times within a minute"));
        }
    }

    /// Whether what a service needs is there, as far as the controller has to know.
    fn judge_dependencies(&mut self, service: &str, observed: &Observed, what: &str) {
        let definitions = self.definitions(service);
        let Some(last) = definitions.first() else { return };
        let now = Instant::now();
        let grace = self.grace();
        let always = |name: &str, condition: Condition| {
            definitions.iter().all(|d| d.dependencies.iter().any(|d| d.name == name && d.condition == condition))
        };
        let mut wrong = Vec::new();
        for needed in last.dependencies.iter().filter(|needed| always(&needed.name, needed.condition)) {
            let ready = needed.condition == Condition::Ready;
            let unmet =
                |ready| self.unmet.get(&(needed.name.as_str().into(), ready)).is_some_and(|since| now - *since > grace);
            if unmet(false) || ready && unmet(true) {
                wrong.push(format!("{what} although {} is not there", needed.name));
            }
            let current = observed.containers.values().find(|c| c.name == format!("shop-{}", needed.name));
            if let Some(current) = current.filter(|_| ready)
                && self.pings(&needed.name)
                && let Some(up) = self.up.get(&current.id)
                && self.started.get(&current.id).is_some_and(|asked| asked <= up)
                && self.answers.get(&current.image).is_some_and(|time| now - *up < *time)
            {
                wrong.push(format!("{what} although {} has not answered yet", needed.name));
            }
        }
        for wrong in wrong {
            self.breaks(wrong);
        }
    }

    /// What serves, and is what it should be, goes on.
    fn judge_stop(&mut self, container: &Container, observed: &Observed) {
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
                // It may be stopped for another's sake, or its own health.
                keeps && definition.health.is_none() && definition.dependencies.iter().all(|needed| !needed.restart)
            });
        let reloaded = self.reloads.get(&service).is_some_and(|(at, _)| now - *at < Duration::from_secs(300));
        let known = self.up.get(&container.id).is_some_and(|since| now - *since > self.grace());
        if agrees && !reloaded && known && container.health == Health::None {
            self.breaks(format!("{} is stopped, although it is as its spec wants it", container.name));
        }
    }

    fn judge_remove(&mut self, container: &Container) {
        if container.is_up() && self.up.get(&container.id).is_some_and(|since| Instant::now() - *since > self.grace()) {
            self.breaks(format!("{} is removed while it runs", container.name));
        }
    }
}

fn target(mutation: &Mutation) -> Option<&String> {
    match mutation {
        Mutation::Start(id)
        | Mutation::Unpause(id)
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

/// The service that a deed is about.
fn service_of(mutation: &Mutation, observed: &Observed) -> Option<String> {
    match mutation {
        Mutation::Create(spec) => spec.labels.get(SERVICE).cloned(),
        mutation => observed.containers.get(target(mutation)?.as_str())?.service_of(GROUP).map(str::to_owned),
    }
}

/// What a deed does, by names.
fn said(mutation: &Mutation, observed: &Observed) -> String {
    let text = mutation.describe();
    match target(mutation).and_then(|id| Some((id, observed.containers.get(id.as_str())?))) {
        Some((id, container)) => text.replace(drillmaster::engine::short(id), &container.name),
        None => text,
    }
}

impl InvariantChecker {
    pub fn laws(&self) -> MutexGuard<'_, Invariants> {
        self.laws.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Layer for InvariantChecker {
    fn inner(&self) -> &dyn Engine {
        &self.sim
    }

    fn call<'a, T: Send + 'static>(&'a self, call: Call<'a>, result: EngineFuture<'a, T>) -> EngineFuture<'a, T> {
        match call {
            Call::About | Call::Exec(..) => {}
            Call::List => {
                self.laws().tell("-> list");
                self.laws().counted("list");
            }
            Call::Inspect(id) => {
                let snapshot = self.sim.snapshot();
                let name = snapshot.containers.get(id).map_or_else(|| id.to_owned(), |found| found.name.clone());
                self.laws().tell(&format!("-> inspect {name}"));
                self.laws().counted("inspect");
            }
            Call::Image(_) => self.laws().counted("image"),
            Call::Apply(mutation) => {
                let observed = self.sim.snapshot();
                self.laws().judge(mutation, &observed);
                self.laws().counted(&mutation.describe());
            }
            Call::Pull(image) => {
                self.laws().tell(&format!("-> pull {image}"));
                self.laws().counted("pull");
            }
            Call::Read(..) => self.laws().counted("read"),
            Call::Build(request) => {
                self.laws().tell(&format!("-> build {}", request.image));
                self.laws().counted("build");
            }
            Call::RecentExits => self.laws().counted("ended"),
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
                self.laws().tell("-> events");
                self.laws().counted("events");
            }
            _ => self.laws().counted("logs"),
        }
        open()
    }
}
