//! Shared helpers of the planner and controller tests: services without specs, snapshots without an engine, and plans
//! and states as text.
#![allow(dead_code, reason = "each test program uses a part")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use drillmaster::desired::files::{FileState, FileVersion, MountedFile};
use drillmaster::desired::fingerprint::Fingerprint;
use drillmaster::desired::outputs::Outputs;
use drillmaster::desired::{
    Config, CopiedFile, Dependency, Desired, Endpoint, Hook, HookAction, HookPoint, Inherited, Job, Kind, Mode, Need,
    OnFailure, Order, Placement, Requirement, Rerun, Scope, Seconds, Service, Update, Volume, VolumeSource,
};
use drillmaster::identity::{container_name, instance_name, volume_name};
use drillmaster::observed::{Container, Health, ImageFacts, Network, Observed, State};
use drillmaster::plan::cause::Cause;
use drillmaster::plan::step::{Step, Subject, Verb};
use drillmaster::plan::{Memory, effect, forecast, instance_of};
use drillmaster::spec::build::Dockerfile;
use drillmaster::spec::model::{self as spec, Check, Condition, HealthAction, OnChange, Ping, Pull, RestartPolicy};
use drillmaster::spec::value::Words;
use drillmaster::spec::{SourceFiles, Tree};
use drillmaster::types::ContainerId;
use jiff::Timestamp;

/// Group of all tests.
pub const GROUP: &str = "shop";
/// Spec directory of the group.
pub const SOURCE: &str = "/home/ann/shop/specs";

/// Builder for a service, with an optional number of replicas.
#[derive(Debug, Clone)]
pub struct Build(Service, Option<u32>);

/// Creates a service with the image `<name>:1`.
pub fn service(name: &str) -> Build {
    let config = Config { image: format!("{name}:1"), network: GROUP.into(), ..Config::default() };
    let service = Service {
        name: name.into(),
        service: name.into(),
        replica: None,
        kind: Kind::Service,
        config,
        env: BTreeMap::new(),
        dependencies: Vec::new(),
        ping: None,
        ready_timeout: None,
        health: None,
        hooks: BTreeMap::new(),
        outputs: Outputs::default(),
        pull: Pull::Missing,
        build: None,
        update: Update::default(),
        files: Vec::new(),
        location: format!("{name}.yaml:1"),
        requirements: Vec::new(),
        secret: BTreeSet::new(),
        fingerprint: Fingerprint::default(),
    };
    Build(service, None)
}

impl Build {
    pub fn image(mut self, image: &str) -> Build {
        self.0.config.image = image.into();
        self
    }

    pub fn mac_address(mut self, address: &str) -> Build {
        self.0.config.mac_address = Some(address.into());
        self
    }

    pub fn platform(mut self, platform: &str) -> Build {
        self.0.config.platform = Some(platform.into());
        self
    }

    pub fn env(mut self, key: &str, value: &str) -> Build {
        self.0.env.insert(key.into(), Some(value.into()));
        self
    }

    /// Copies a secret to this path.
    pub fn secret(mut self, path: &str, content: &str) -> Build {
        let file = CopiedFile { content: content.into(), uid: 0, gid: 0, mode: 0o444 };
        self.0.config.secrets.insert(path.into(), file);
        self
    }

    /// Mounts a file read-only at the same path, with this content and inode number.
    pub fn file(mut self, path: &str, on_change: OnChange, content: &str, inode: u64) -> Build {
        let volume = Volume {
            source: VolumeSource::Bind(path.into()),
            target: path.into(),
            read_only: true,
            options: Default::default(),
        };
        self.0.config.volumes.push(volume);
        let version = FileVersion { inode, digest: Some(content.into()) };
        self.0.files.push(MountedFile {
            written: format!(".{path}"),
            source: path.into(),
            target: path.into(),
            on_change,
            explicit: true,
            by_content: true,
            state: Some(FileState { version, modified: Timestamp::UNIX_EPOCH }),
        });
        self
    }

    /// Adds a field that not every engine has.
    pub fn requires(mut self, field: &'static str, place: &str, need: Need) -> Build {
        self.0.requirements.push(Requirement { field, place: place.into(), need });
        self
    }

    pub fn needs(self, name: &str) -> Build {
        self.needs_that(name, Condition::Ready, false)
    }

    pub fn needs_that(mut self, name: &str, condition: Condition, restart: bool) -> Build {
        self.0.dependencies.push(Dependency { name: name.into(), condition, restart });
        self
    }

    /// Adds a ping executed in the container; simulated images define its result.
    pub fn ping(self, timeout: Duration) -> Build {
        self.ping_by(Check::Exec(Words(vec!["ping".into()])), timeout)
    }

    /// Adds a ping that waits for an output line.
    pub fn ping_log(self, pattern: &str, timeout: Duration) -> Build {
        self.ping_by(Check::Log(pattern.parse().unwrap()), timeout)
    }

    fn ping_by(mut self, check: Check, timeout: Duration) -> Build {
        self.0.ping = Some(Ping { check, interval: Duration::from_millis(100), timeout });
        self
    }

    /// Sets the action for failed liveness probes.
    pub fn health(mut self, interval: &str, retries: u32, action: HealthAction) -> Build {
        self.0.health =
            Some(spec::Health { interval: Some(interval.parse().unwrap()), retries: Some(retries), action });
        self
    }

    /// Adds a port in the short form: `8080:80`.
    pub fn port(mut self, port: &str) -> Build {
        let ports: drillmaster::spec::model::Ports = port.parse().unwrap();
        self.0.config.ports.extend(ports.each());
        self.0.config.ports.sort();
        self
    }

    /// Adds a volume of the group.
    pub fn volume(mut self, name: &str, target: &str) -> Build {
        let source = VolumeSource::Named(volume_name(GROUP, name));
        self.0.config.volumes.push(Volume {
            source,
            target: target.into(),
            read_only: false,
            options: Default::default(),
        });
        self.0.config.volumes.sort();
        self
    }

    /// Adds a volume by its name on the engine.
    pub fn fixed_volume(mut self, name: &str, target: &str) -> Build {
        let source = VolumeSource::Named(name.into());
        let volume = Volume { source, target: target.into(), read_only: false, options: Default::default() };
        self.0.config.volumes.push(volume);
        self.0.config.volumes.sort();
        self
    }

    pub fn anonymous_volume(mut self, target: &str) -> Build {
        let volume = Volume {
            source: VolumeSource::Anonymous,
            target: target.into(),
            read_only: false,
            options: Default::default(),
        };
        self.0.config.volumes.push(volume);
        self
    }

    /// Sets its networks, by their names on the engine.
    pub fn networks(self, names: &[&str]) -> Build {
        self.network(Placement::Networks(names.iter().map(|name| ((*name).to_owned(), Endpoint::default())).collect()))
    }

    pub fn network(mut self, network: Placement) -> Build {
        self.0.config.network = network;
        self
    }

    /// Sets the network mode.
    pub fn mode(self, mode: &str) -> Build {
        self.network(Placement::Mode(mode.parse().unwrap()))
    }

    pub fn command(mut self, words: &[&str]) -> Build {
        self.0.config.command = Some(words.iter().map(|word| (*word).into()).collect());
        self
    }

    pub fn memory(mut self, size: &str) -> Build {
        self.0.config.resources.memory = Some(size.parse().unwrap());
        self
    }

    pub fn restart(mut self, policy: RestartPolicy) -> Build {
        self.0.config.restart = policy;
        self
    }

    pub fn stop_timeout(mut self, seconds: u64) -> Build {
        self.0.config.stop_timeout = Some(Seconds(seconds));
        self
    }

    pub fn ready_timeout(mut self, timeout: Duration) -> Build {
        self.0.ready_timeout = Some(timeout);
        self
    }

    pub fn pull(mut self, pull: Pull) -> Build {
        self.0.pull = pull;
        self
    }

    /// Replaces the image by one to build from sources with this digest.
    pub fn built(mut self, digest: &str) -> Build {
        let context = format!("/home/ann/shop/{}", self.0.name);
        let dockerfile = Dockerfile::File(format!("{context}/Dockerfile"));
        let tree = Tree { dockerfile, context, digest: digest.into(), files: Default::default() };
        self.0.config.image = format!("{GROUP}-{}:{digest}", self.0.name);
        let (args, labels) = (BTreeMap::new(), BTreeMap::new());
        self.0.build = Some(drillmaster::desired::Build { tree, target: None, args, labels, platform: None });
        self
    }

    /// Sets the files of the build context, with a hash of each.
    pub fn files(mut self, files: &[(&str, u64)]) -> Build {
        let files = files.iter().map(|(path, hash)| ((*path).to_owned(), *hash)).collect();
        self.0.build.as_mut().unwrap().tree.files = SourceFiles::new(files);
        self
    }

    /// Mounts a directory of the host.
    pub fn bind(mut self, source: &str, target: &str, read_only: bool) -> Build {
        let (source, target) = (VolumeSource::Bind(source.into()), target.into());
        let volume = Volume { source, target, read_only, options: Default::default() };
        self.0.config.volumes.push(volume);
        self
    }

    /// Sets the number of replicas.
    pub fn replicas(mut self, number: u32) -> Build {
        self.1 = Some(number);
        self
    }

    /// Starts the new container first.
    pub fn start_first(mut self) -> Build {
        self.0.update.order = Order::StartFirst;
        self
    }

    /// Sets the time a replacement must stay ready.
    pub fn min_ready(mut self, period: &str) -> Build {
        self.0.update.min_ready = Some(period.parse().unwrap());
        self
    }

    /// Keeps a failed replacement.
    pub fn keep(mut self) -> Build {
        self.0.update.on_failure = OnFailure::Keep;
        self
    }

    /// Turns the service into a job.
    pub fn job(mut self, retries: u32, rerun: Rerun) -> Build {
        self.0.kind = Kind::Job(Job { retries, rerun });
        self
    }

    /// Captures an output from the last hook of this hook point.
    pub fn with_capture(mut self, point: HookPoint, key: &str) -> Build {
        self.0.hooks.get_mut(&point).unwrap().last_mut().unwrap().capture = Some(key.parse().unwrap());
        self.0.outputs.gives.insert(key.into());
        self
    }

    /// Adds a variable that consumes an output, and the dependency on its producer.
    pub fn env_of(
        mut self,
        variable: &str,
        producer: Option<(&str, Condition)>,
        key: &str,
        value: Option<&str>,
    ) -> Build {
        self.0.outputs.uses.insert(key.into());
        if value.is_none() {
            self.0.outputs.unknown.entry(format!("env.{variable}")).or_default().insert(key.into());
        }
        let this = self.env(variable, value.unwrap_or("x"));
        match producer {
            Some((name, condition)) => this.needs_that(name, condition, false),
            None => this,
        }
    }

    /// Adds a hook executed in the container.
    pub fn hook(mut self, point: HookPoint, words: &[&str]) -> Build {
        let action = HookAction::Exec(Words(words.iter().map(|word| (*word).into()).collect()));
        let hook = Hook { action, timeout: Duration::from_secs(60), capture: None, secret: false };
        self.0.hooks.entry(point).or_default().push(hook);
        self
    }

    pub fn done(mut self) -> Service {
        self.0.fingerprint = Fingerprint::of(self.0.kind, &self.0.config, &self.0.env, &self.0.dependencies);
        self.0
    }

    fn all(self) -> Vec<Service> {
        let number = self.1;
        let service = self.done();
        let Some(number) = number else { return vec![service] };
        let replica =
            |n| Service { name: instance_name(&service.service, Some(n)).into(), replica: Some(n), ..service.clone() };
        (1..=number).map(replica).collect()
    }
}

/// Returns the seeds of a randomised test: the one in `DRILLMASTER_SEED`, or the number given by `DRILLMASTER_SEEDS`.
pub fn seeds(default: u64) -> std::ops::Range<u64> {
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        Some(text.parse::<u64>().unwrap_or_else(|_| panic!("{name} must be a number")))
    };
    match number("DRILLMASTER_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("DRILLMASTER_SEEDS").unwrap_or(default),
    }
}

/// Runs a future to completion on a paused clock that advances automatically.
pub fn on_paused_time<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(future)
}

/// Returns the desired state of these services.
pub fn desired(services: impl IntoIterator<Item = Build>) -> Desired {
    let services: Vec<Build> = services.into_iter().collect();
    let idle = services.iter().filter(|build| build.1 == Some(0)).map(|build| build.0.service.clone()).collect();
    let services = services.into_iter().flat_map(Build::all).map(|service| (service.name.clone(), service)).collect();
    Desired {
        group: GROUP.into(),
        source: SOURCE.into(),
        project: None,
        adopted: BTreeSet::new(),
        takeover: BTreeSet::new(),
        network: GROUP.into(),
        networks: BTreeMap::from([(GROUP.to_owned(), Default::default())]),
        volumes: BTreeMap::new(),
        services,
        idle,
        on: BTreeMap::new(),
        outputs: Outputs::default(),
        inactive: BTreeMap::new(),
        retired: BTreeMap::new(),
        scope: Scope::All,
        mode: Mode::Reconcile { purge_volumes: false, purge_images: false },
    }
}

/// Returns the desired state of `down`.
pub fn nothing() -> Desired {
    desired([])
}

/// Returns an engine with the images of these services and nothing else.
pub fn empty(wanted: &Desired) -> Observed {
    let mut observed = Observed::default();
    for service in wanted.services.values() {
        add_image(&mut observed, &service.config.image, ImageFacts::default());
    }
    observed
}

pub fn add_image(observed: &mut Observed, reference: &str, facts: ImageFacts) {
    let id = format!("sha256:{reference}");
    observed.images.insert(reference.into(), id.clone());
    observed.image_facts.insert(id, facts);
}

/// Returns an engine in the desired state, as left by a forecast. Container ids are `id-<service>`.
pub fn agreeing(wanted: &Desired) -> Observed {
    let mut observed = empty(wanted);
    let mut memory = Memory::default();
    for step in forecast(wanted, &observed, &Memory::default()).steps {
        let step = with_ids(step);
        let id = match &step.verb {
            Verb::Create { .. } => Some(format!("id-{}", step.subject.name())),
            Verb::CreateNetwork => Some(network_id(step.subject.name())),
            _ => None,
        };
        effect::apply(&step, id.as_deref(), Duration::ZERO, wanted, &mut observed, &mut memory);
        complete_details(wanted, &mut observed);
    }
    observed
}

/// The id of a network: `net-1` for the group's, `net-<name>` for others.
fn network_id(name: &str) -> String {
    if name == GROUP { "net-1".to_owned() } else { format!("net-{name}") }
}

/// Replaces the ids `new:<name>` of a forecast by ids that do not depend on names.
fn with_ids(mut step: Step) -> Step {
    let id = ContainerId::from(format!("id-{}", step.subject.name()));
    match &mut step.verb {
        Verb::Create { joins, targets, .. } => {
            joins.iter_mut().for_each(|join| join.network = network_id(&join.name));
            for (target, id) in targets {
                if let Some(service) = target.strip_prefix("service:") {
                    *id = format!("id-{service}").into();
                }
            }
        }
        Verb::Start(target) | Verb::Unpause(target) | Verb::Stop(target) => target.id = id,
        Verb::Rename { container, .. } | Verb::Remove { container, .. } => container.id = id,
        Verb::Connect { container, join } => {
            container.id = id;
            join.network = network_id(&join.name);
        }
        Verb::Disconnect { container, network, name } => {
            container.id = id;
            *network = network_id(name);
        }
        _ => {}
    }
    step
}

/// Completes the state of running containers as an engine would: health checks succeed, anonymous volumes have names.
pub fn complete_details(wanted: &Desired, observed: &mut Observed) {
    for container in observed.containers.values_mut() {
        if container.state == State::Running && container.health == Health::Starting {
            container.health = Health::Healthy;
        }
        let Some(service) = instance_of(wanted, container).and_then(|name| wanted.services.get(&*name).cloned()) else {
            continue;
        };
        // The engine names anonymous volumes.
        for (n, mount) in container.mounts.iter_mut().enumerate() {
            if mount.volume.is_none() && mount.bind.is_none() {
                mount.volume = Some(format!("{:063x}{n}", service.name.len()));
            }
        }
    }
}

/// Adds the details of an inspection to a container of this service.
pub fn inspect(observed: &mut Observed, service: &Service) {
    let container = by_name(observed, &container_name(GROUP, &service.name));
    container.details = Some(drillmaster::observed::Details {
        env: drillmaster::desired::set_variables(&service.env),
        resources: service.config.resources.clone(),
        restart: service.config.restart,
        ..Default::default()
    });
}

/// Returns the container of this name.
pub fn by_name<'a>(observed: &'a mut Observed, name: &str) -> &'a mut Container {
    let names: Vec<String> = observed.containers.values().map(|container| container.name.clone()).collect();
    match observed.containers.values_mut().find(|container| container.name == name) {
        Some(container) => container,
        None => panic!("no container {name}: {names:?}"),
    }
}

/// A running container outside the group.
pub fn foreign(name: &str) -> Container {
    Container {
        id: format!("foreign-{name}").into(),
        name: name.into(),
        identity: None,
        inherited: None,
        compose: None,
        image_id: String::new(),
        image: "thirdparty/app:1".into(),
        state: State::Running,
        health: Health::None,
        network_mode: String::new(),
        networks: Vec::new(),
        ports: Vec::new(),
        mounts: Vec::new(),
        created: 0,
        details: None,
    }
}

/// Copies a container under another name and id.
pub fn copy(container: &Container, id: &str, name: &str) -> Container {
    Container { id: id.into(), name: name.into(), ..container.clone() }
}

pub fn add(observed: &mut Observed, container: Container) {
    observed.containers.insert(container.id.clone(), container);
}

pub fn network(id: &str, name: &str, ours: bool) -> Network {
    let (group, source) = if ours { (Some(GROUP.into()), Some(SOURCE.into())) } else { (None, None) };
    Network {
        id: id.into(),
        name: name.into(),
        group,
        source,
        compose_project: None,
        subnets: Vec::new(),
        settings: Default::default(),
    }
}

pub fn inherited(volume: &str, target: &str) -> Inherited {
    Inherited { volume: volume.into(), target: target.into() }
}

/// Formats a plan as text: changes, failures, and each step with its cause.
pub fn plan_text(wanted: &Desired, observed: &Observed) -> String {
    let forecast = forecast(wanted, observed, &Memory::default());
    let mut lines = Vec::new();
    for change in &forecast.changes {
        let fields: Vec<_> = change.causes.iter().map(Cause::path).collect();
        lines.push(format!("{} {} [{}]", change.action.word(), change.subject.name(), fields.join(" ")));
    }
    for look in &forecast.queries {
        lines.push(format!("look at {look:?}"));
    }
    for failure in &forecast.failures {
        lines.push(format!("FAILS {}: {}: {}", failure.service, failure.reason.word(), failure.message));
    }
    lines.push("--".into());
    for step in &forecast.steps {
        lines.push(step_line(step));
    }
    lines.join("\n")
}

/// Compares a plan with the expected lines, ignoring indentation.
#[track_caller]
pub fn check(wanted: &Desired, observed: &Observed, expected: &str) {
    let found = plan_text(wanted, observed);
    let lines = |text: &str| text.trim().lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>().join("\n");
    assert_eq!(lines(&found), lines(expected), "\n{found}\n");
}

/// Returns the notes of a plan.
pub fn notes(wanted: &Desired, observed: &Observed) -> Vec<String> {
    forecast(wanted, observed, &Memory::default()).notes.into_iter().collect()
}

pub fn step_line(step: &Step) -> String {
    let extra = match &step.verb {
        Verb::Create { inherited, .. } if !inherited.is_empty() => format!(" taking {} volumes", inherited.len()),
        Verb::Remove { volumes: true, .. } => " with volumes".to_owned(),
        Verb::Connect { join, .. } => format!(" ({})", join.network),
        Verb::Disconnect { network, .. } => format!(" ({network})"),
        Verb::RemoveNetwork { id } => format!(" {id}"),
        _ => String::new(),
    };
    format!("{step}{extra}   # {}", step.cause)
}

/// Formats the group's state without ids, one line per object, for the comparison of runs.
pub fn picture(observed: &Observed) -> String {
    let mut lines: Vec<String> = observed
        .containers
        .values()
        .map(|container| {
            let identity = container.identity.clone().unwrap_or_default();
            let networks: Vec<&str> = container.networks.iter().map(|a| a.network.as_str()).collect();
            let known = container.networks.iter().all(|a| observed.networks.contains_key(&a.network_id));
            format!(
                "{} {:?} {:?} image={} env={} spec={} networks={networks:?}{} service={}",
                container.name,
                container.state,
                container.health,
                identity.image_id,
                identity.env_hash,
                identity.spec_hash,
                if known { "" } else { " (gone)" },
                identity.service,
            )
        })
        .collect();
    lines.extend(observed.networks.values().map(|network| format!("network {} {:?}", network.name, network.group)));
    lines.extend(observed.volumes.keys().filter(|name| name.len() != 64).map(|name| format!("volume {name}")));
    lines.sort();
    lines.join("\n")
}

/// Returns the service of a step, if any.
pub fn service_of(step: &Step) -> Option<&str> {
    match &step.subject {
        Subject::Service(name) => Some(name),
        _ => None,
    }
}
