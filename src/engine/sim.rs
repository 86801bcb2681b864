//! A simulated engine: a Docker engine's rules without a Docker engine, for the tests of drillmaster and of whatever is
//! built on it.
//!
//! It keeps containers, networks, volumes and images, and refuses what a real engine refuses, with the same kind of
//! error. It runs on tokio's clock, so that under paused time hours pass in milliseconds, and it is deterministic: the
//! same calls at the same times give the same ids and the same events. What is unusual about a run (an image whose
//! program exits, a list that lags behind, somebody's `docker rename`) is said to it beforehand or done to it by hand.
//!
//! It must not know what drillmaster wants: it reads labels only where a real engine would filter by them. Faults of the
//! connection are not its business either; [`super::faulty`] adds them.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    About, Blueprint, Deed, Engine, EngineError, ExecOutcome, Happened, Hint, LogLine, LogOptions, PullProgress, Result,
};
use crate::desired::{Config, VolumeSource};
use crate::identity::{GROUP, Identity, SOURCE};
use crate::observed::{
    Attachment, Container, Details, Health, ImageFacts, MountPoint, Network, Observed, PublishedPort, State, Volume,
};
use crate::spec::model::{Resources, RestartPolicy};

/// The moment at which every simulation begins, in seconds since 1970.
const EPOCH: u64 = 1_700_000_000;
/// Pause before the engine restarts a container by its policy; it doubles each time.
const RESTART_PAUSE: Duration = Duration::from_millis(100);
/// What a stopped process has unless the caller says otherwise.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// How long calls take. Half of it passes before the engine does what it is asked, half before the reply arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latency {
    /// List everything.
    pub list: Duration,
    /// Inspect a container or an image.
    pub inspect: Duration,
    /// Create a container.
    pub create: Duration,
    /// Start a container.
    pub start: Duration,
    /// Stop, beside the time that the process takes.
    pub stop: Duration,
    /// Remove a container.
    pub remove: Duration,
    /// Create or remove a network, attach or detach a container.
    pub network: Duration,
    /// Pull an image.
    pub pull: Duration,
    /// Every other call.
    pub other: Duration,
}

impl Default for Latency {
    /// As measured on Docker 20.10 with two processors.
    fn default() -> Latency {
        let ms = Duration::from_millis;
        Latency {
            list: ms(12),
            inspect: ms(1),
            create: ms(11),
            start: ms(340),
            stop: ms(120),
            remove: ms(9),
            network: ms(100),
            pull: ms(2000),
            other: ms(5),
        }
    }
}

/// How the program of an image behaves, from the moment its container is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behaviour {
    /// When it ends by itself, and with what exit code.
    pub exits: Option<(Duration, i64)>,
    /// Lines that it writes, and when.
    pub output: Vec<(Duration, String)>,
    /// What a command executed in the container finds.
    pub exec: Script,
    /// When the health check, where there is one, first succeeds; `None`: never.
    pub healthy: Option<Duration>,
    /// When the health check, where there is one, has failed as often as it may.
    pub unhealthy: Option<Duration>,
    /// How much longer than usual the engine takes to start it.
    pub slow_start: Duration,
    /// How long it takes to end after the stop signal; then its exit code is 0.
    pub stops: Duration,
    /// Why the engine cannot start it, e.g. because its program does not exist.
    pub unstartable: Option<String>,
}

impl Default for Behaviour {
    fn default() -> Behaviour {
        Behaviour {
            exits: None,
            output: Vec::new(),
            exec: Script::Answers(Duration::ZERO),
            healthy: Some(Duration::from_secs(1)),
            unhealthy: None,
            slow_start: Duration::ZERO,
            stops: Duration::ZERO,
            unstartable: None,
        }
    }
}

/// What a command executed in a container does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Script {
    /// Exits with 1 until the container has run so long, then with 0.
    Answers(Duration),
    /// Exits with this code and output.
    Ends(i64, String),
    /// Never ends.
    Hangs,
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Id.
    pub id: String,
    /// What it declares.
    pub facts: ImageFacts,
    /// What its program does.
    pub behaviour: Behaviour,
}

impl Image {
    /// An image whose program runs until it is stopped, and which declares nothing.
    pub fn new(id: &str) -> Image {
        Image { id: format!("sha256:{id}"), facts: ImageFacts::default(), behaviour: Behaviour::default() }
    }

    /// With a health check that succeeds so long after the start; `None`: never.
    pub fn healthcheck(mut self, healthy: Option<Duration>) -> Image {
        self.facts.healthcheck = true;
        self.behaviour.healthy = healthy;
        self
    }

    /// With a path that it declares as a volume.
    pub fn volume(mut self, target: &str) -> Image {
        self.facts.volumes.push(target.to_owned());
        self
    }

    /// With a program that behaves otherwise.
    pub fn behaving(mut self, change: impl FnOnce(&mut Behaviour)) -> Image {
        change(&mut self.behaviour);
        self
    }
}

/// A simulated engine. Clones are handles on the same engine. Its methods are what somebody does beside drillmaster, and
/// what a test wants to know; calls go through [`Engine`], inside of a tokio runtime.
#[derive(Debug, Clone)]
pub struct Sim {
    world: Arc<Mutex<World>>,
    changes: Arc<watch::Sender<u64>>,
}

#[derive(Debug)]
struct World {
    began: Instant,
    latency: Latency,
    stale: Duration,
    containers: BTreeMap<String, Made>,
    networks: BTreeMap<String, Network>,
    volumes: BTreeMap<String, BTreeMap<String, String>>,
    images: BTreeMap<String, Image>,
    registry: BTreeMap<String, Image>,
    subscribers: Vec<Subscriber>,
    calls: Vec<String>,
    history: Vec<String>,
    under_way: usize,
    most_under_way: usize,
    next: u64,
}

#[derive(Debug)]
struct Subscriber {
    group: String,
    hints: mpsc::UnboundedSender<Result<Hint>>,
}

/// A container as the engine keeps it.
#[derive(Debug, Clone)]
struct Made {
    id: String,
    name: String,
    labels: HashMap<String, String>,
    config: Config,
    env: BTreeMap<String, String>,
    image: Image,
    state: State,
    health: Health,
    /// Ids of networks by name: a real engine keys them by name too.
    networks: BTreeMap<String, String>,
    mounts: Vec<Mount>,
    resources: Resources,
    restart: RestartPolicy,
    created: u64,
    started: Option<Instant>,
    finished: Option<Instant>,
    restarts: u64,
    error: String,
    output: Vec<(u64, LogLine)>,
    /// How often it was started: what a program was going to do ends with its life.
    lives: u64,
    /// Until when lists call it running although it is not.
    stale_until: Option<Instant>,
}

#[derive(Debug, Clone)]
struct Mount {
    point: MountPoint,
    /// Not named by whoever created it, so that it goes with `docker rm --volumes`.
    anonymous: bool,
}

/// Something that a program does in its time.
#[derive(Debug)]
enum Doing {
    Writes(String),
    Turns(Health),
    Exits(i64),
}

impl Default for Sim {
    fn default() -> Sim {
        Sim::new()
    }
}

impl Sim {
    /// An engine without anything, on the clock of the runtime in which it is made.
    pub fn new() -> Sim {
        let world = World {
            began: Instant::now(),
            latency: Latency::default(),
            stale: Duration::ZERO,
            containers: BTreeMap::new(),
            networks: BTreeMap::new(),
            volumes: BTreeMap::new(),
            images: BTreeMap::new(),
            registry: BTreeMap::new(),
            subscribers: Vec::new(),
            calls: Vec::new(),
            history: Vec::new(),
            under_way: 0,
            most_under_way: 0,
            next: 0,
        };
        let mut bridge = Network { id: String::new(), name: "bridge".into(), group: None, source: None };
        let sim = Sim { world: Arc::new(Mutex::new(world)), changes: Arc::new(watch::channel(0).0) };
        sim.change(|world| {
            bridge.id = world.fresh_id();
            world.networks.insert(bridge.id.clone(), bridge);
        });
        sim
    }

    /// Sets how long calls take.
    pub fn set_latency(&self, latency: Latency) {
        self.lock().latency = latency;
    }

    /// Sets for how long lists go on calling a container running that has just ended; zero unless set.
    pub fn set_stale(&self, stale: Duration) {
        self.lock().stale = stale;
    }

    /// Puts an image under a reference, in place of the one that had it.
    pub fn add_image(&self, reference: &str, image: Image) {
        self.change(|world| world.images.insert(reference.to_owned(), image));
    }

    /// Puts an image into the registry, from where it can be pulled.
    pub fn add_to_registry(&self, reference: &str, image: Image) {
        self.lock().registry.insert(reference.to_owned(), image);
    }

    /// Ends the process of a container, as an out-of-memory kill or a crash would.
    pub fn kill(&self, name: &str, code: i64) {
        if let Some(id) = self.id_of(name) {
            self.end(&id, code, false);
        }
    }

    /// `docker pause`.
    pub fn pause(&self, name: &str) {
        self.alter(name, |container| {
            if container.state == State::Running {
                container.state = State::Paused;
            }
        });
    }

    /// `docker rename`; false where the name is taken.
    pub fn rename(&self, name: &str, to: &str) -> bool {
        if self.id_of(to).is_some() {
            return false;
        }
        self.alter(name, |container| to.clone_into(&mut container.name));
        true
    }

    /// `docker network disconnect`, from every network.
    pub fn disconnect(&self, name: &str) {
        self.alter(name, |container| container.networks.clear());
    }

    /// `docker rm --force`.
    pub fn remove(&self, name: &str) {
        if let Some(id) = self.id_of(name) {
            self.end(&id, 137, true);
            self.take_away(&id, false);
        }
    }

    /// The engine could not remove it and keeps it as dead.
    pub fn mark_dead(&self, name: &str) {
        if let Some(id) = self.id_of(name) {
            self.end(&id, 137, true);
            self.alter(name, |container| container.state = State::Dead);
        }
    }

    /// `docker run` by somebody else: running, without labels of ours, holding these host ports on 127.0.0.1. Its id.
    pub fn create_foreign(&self, name: &str, host_ports: &[u16]) -> String {
        let id = self.change(|world| {
            let id = world.fresh_id();
            let port = |host: &u16| crate::spec::model::Port {
                address: Ipv4Addr::LOCALHOST.into(),
                host: Some(*host),
                container: *host,
                protocol: crate::spec::model::Protocol::Tcp,
            };
            let ports = host_ports.iter().map(port).collect();
            let config = Config { image: "somebody/else:1".into(), ports, ..Config::default() };
            let container = Made {
                id: id.clone(),
                name: name.to_owned(),
                labels: HashMap::new(),
                env: BTreeMap::new(),
                image: Image::new("foreign"),
                state: State::Running,
                health: Health::None,
                networks: BTreeMap::new(),
                mounts: Vec::new(),
                resources: Resources::default(),
                restart: RestartPolicy::No,
                created: world.seconds(),
                started: Some(Instant::now()),
                finished: None,
                restarts: 0,
                error: String::new(),
                output: Vec::new(),
                lives: 1,
                stale_until: None,
                config,
            };
            world.containers.insert(id.clone(), container);
            id
        });
        self.alter(name, |_| {});
        id
    }

    /// `docker network create` by somebody. Its id.
    pub fn create_network(&self, name: &str, labels: &BTreeMap<String, String>) -> String {
        self.change(|world| world.create_network(name, labels))
    }

    /// `docker network rm` by somebody; false where containers use it or there is none.
    pub fn remove_network(&self, name: &str) -> bool {
        let id = self.lock().networks.values().find(|network| network.name == name).map(|network| network.id.clone());
        id.is_some_and(|id| self.change(|world| world.remove_network(&id, "remove the network")).is_ok())
    }

    /// `docker volume create` by somebody, without labels.
    pub fn create_volume(&self, name: &str) {
        self.change(|world| world.volumes.entry(name.to_owned()).or_default().clear());
    }

    /// The health check changes its verdict.
    pub fn turn(&self, name: &str, health: Health) {
        if let Some(id) = self.id_of(name) {
            self.act(&id, None, Doing::Turns(health));
        }
    }

    /// Ends every stream of events, as a broken connection would.
    pub fn cut_events(&self) {
        self.lock().subscribers.clear();
    }

    /// The engine restarts: containers without a restart policy end, networks stay, every stream of events ends.
    pub fn restart(&self) {
        self.cut_events();
        let ids: Vec<String> =
            self.lock().containers.values().filter(|c| c.is_up()).map(|container| container.id.clone()).collect();
        for id in ids {
            self.end(&id, 255, false);
        }
    }

    /// What there is, without delay or staleness, volumes of every group included.
    pub fn snapshot(&self) -> Observed {
        let world = self.lock();
        world.view(None, true, false)
    }

    /// Names of all volumes, also of those without labels.
    pub fn volumes(&self) -> Vec<String> {
        self.lock().volumes.keys().cloned().collect()
    }

    /// Id of the container of this name.
    pub fn id_of(&self, name: &str) -> Option<String> {
        self.lock().containers.values().find(|container| container.name == name).map(|container| container.id.clone())
    }

    /// The calls so far, a line each, as they arrived: `list`, `create shop-api.new`, `start shop-api.new`.
    pub fn calls(&self) -> Vec<String> {
        self.lock().calls.clone()
    }

    /// How many calls so far begin with this word.
    pub fn count(&self, verb: &str) -> usize {
        self.lock().calls.iter().filter(|call| call.split(' ').next() == Some(verb)).count()
    }

    /// Forgets the calls and the history so far, and how many were under way at once.
    pub fn forget_calls(&self) {
        let mut world = self.lock();
        world.calls.clear();
        world.history.clear();
        world.most_under_way = 0;
    }

    /// What has happened so far to containers, networks and volumes, a line each, as it happened: `created
    /// shop-api.new`, `renamed shop-api.new to shop-api`, `died shop-api (1)`.
    pub fn history(&self) -> Vec<String> {
        self.lock().history.clone()
    }

    /// How many mutations were under way at once, at most.
    pub fn most_at_once(&self) -> usize {
        self.lock().most_under_way
    }

    /// Waits until what there is satisfies a condition.
    pub async fn until(&self, mut condition: impl FnMut(&Observed) -> bool) {
        let mut changes = self.changes.subscribe();
        while !condition(&self.snapshot()) {
            // The sender lives as long as this handle.
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits until something has happened, as [`Sim::history`] tells it.
    pub async fn until_happened(&self, line: &str) {
        self.until(|_| self.history().iter().any(|happened| happened == line)).await;
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        // A test that panicked elsewhere should show its own message, not this lock's.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the world, and wakes whoever waits for a change.
    fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let result = change(&mut self.lock());
        self.changes.send_modify(|version| *version += 1);
        result
    }

    fn alter(&self, name: &str, change: impl FnOnce(&mut Made)) {
        let Some(id) = self.id_of(name) else { return };
        self.change(|world| {
            if let Some(container) = world.containers.get_mut(&id) {
                change(container);
            }
            world.tell(&id, Happened::Changed);
        });
    }

    /// Notes a call, and says how long it takes to get there and as long again to get back.
    fn call(&self, line: String, latency: impl FnOnce(&Latency) -> Duration) -> Duration {
        let mut world = self.lock();
        world.calls.push(line);
        latency(&world.latency) / 2
    }

    fn name_of(&self, id: &str) -> String {
        self.lock().name_of(id)
    }

    async fn carry_out(&self, deed: Deed) -> Result<Option<String>> {
        {
            let mut world = self.lock();
            world.under_way += 1;
            world.most_under_way = world.most_under_way.max(world.under_way);
        }
        let result = self.mutate(deed).await;
        self.lock().under_way -= 1;
        result
    }

    async fn mutate(&self, deed: Deed) -> Result<Option<String>> {
        match deed {
            Deed::Create(blueprint) => {
                let half = self.call(format!("create {}", blueprint.name), |latency| latency.create);
                self.timed(half, |world| world.create(&blueprint)).await.map(Some)
            }
            Deed::Start(id) => self.start(&id).await.map(|()| None),
            Deed::Stop { id, timeout } => self.stop(&id, timeout).await.map(|()| None),
            Deed::Unpause(id) => {
                let half = self.call(format!("unpause {}", self.name_of(&id)), |latency| latency.other);
                self.timed(half, |world| world.unpause(&id)).await.map(|()| None)
            }
            Deed::Rename { id, name } => {
                let half = self.call(format!("rename {} to {name}", self.name_of(&id)), |latency| latency.other);
                self.timed(half, |world| world.rename(&id, &name)).await.map(|()| None)
            }
            Deed::Update { id, resources, restart } => {
                let half = self.call(format!("update {}", self.name_of(&id)), |latency| latency.other);
                self.timed(half, |world| world.update(&id, resources, restart)).await.map(|()| None)
            }
            Deed::Remove { id, volumes } => {
                let name = self.name_of(&id);
                let force = self.lock().containers.get(&id).is_some_and(Made::is_up);
                let how = if force { " by force" } else { "" };
                let half = self.call(format!("remove {name}{how}"), |latency| latency.remove);
                sleep(half).await;
                if !self.lock().containers.contains_key(&id) {
                    return Err(no_container("remove the container", &id));
                }
                self.end(&id, 137, true);
                self.take_away(&id, volumes);
                sleep(half).await;
                Ok(None)
            }
            Deed::CreateNetwork { name, labels } => {
                let half = self.call(format!("create network {name}"), |latency| latency.network);
                self.timed(half, |world| Ok(world.create_network(&name, &labels))).await.map(Some)
            }
            Deed::RemoveNetwork(id) => {
                let name = self.lock().network_name(&id);
                let half = self.call(format!("remove network {name}"), |latency| latency.network);
                self.timed(half, |world| world.remove_network(&id, "remove the network")).await.map(|()| None)
            }
            Deed::Connect { network, container, .. } => {
                let line = format!("connect {} to {}", self.name_of(&container), self.lock().network_name(&network));
                let half = self.call(line, |latency| latency.network);
                self.timed(half, |world| world.connect(&network, &container)).await.map(|()| None)
            }
            Deed::Disconnect { network, container } => {
                let from = self.lock().network_name(&network);
                let line = format!("disconnect {} from {from}", self.name_of(&container));
                let half = self.call(line, |latency| latency.network);
                self.timed(half, |world| world.disconnect(&network, &container)).await.map(|()| None)
            }
            Deed::RemoveVolume(name) => {
                let half = self.call(format!("remove volume {name}"), |latency| latency.other);
                self.timed(half, |world| world.remove_volume(&name)).await.map(|()| None)
            }
        }
    }

    async fn timed<T>(&self, half: Duration, change: impl FnOnce(&mut World) -> Result<T>) -> Result<T> {
        sleep(half).await;
        let result = self.change(change);
        sleep(half).await;
        result
    }

    async fn start(&self, id: &str) -> Result<()> {
        let half = self.call(format!("start {}", self.name_of(id)), |latency| latency.start);
        let slow = self.lock().containers.get(id).map_or(Duration::ZERO, |c| c.image.behaviour.slow_start);
        sleep(half + slow).await;
        let begun = self.change(|world| world.start(id))?;
        if begun {
            self.live(id);
        }
        sleep(half).await;
        Ok(())
    }

    async fn stop(&self, id: &str, timeout: Option<Duration>) -> Result<()> {
        let half = self.call(format!("stop {}", self.name_of(id)), |latency| latency.stop);
        sleep(half).await;
        let takes = match self.lock().containers.get(id) {
            None => return Err(no_container("stop the container", id)),
            Some(container) => container.image.behaviour.stops,
        };
        let limit = timeout.unwrap_or(STOP_TIMEOUT);
        sleep(takes.min(limit)).await;
        self.end(id, if takes > limit { 137 } else { 0 }, true);
        sleep(half).await;
        // The reply comes when the engine has written down that it ended, and from then on lists are right.
        let stale_until = self.lock().containers.get(id).and_then(|container| container.stale_until);
        if let Some(until) = stale_until {
            sleep_until(until).await;
        }
        Ok(())
    }

    /// Lets the program of a container that was just started do what it does, each thing in its time.
    fn live(&self, id: &str) {
        let (life, start, plan) = {
            let world = self.lock();
            let Some(container) = world.containers.get(id) else { return };
            let behaviour = &container.image.behaviour;
            let mut plan: Vec<(Duration, Doing)> = Vec::new();
            plan.extend(behaviour.output.iter().map(|(at, line)| (*at, Doing::Writes(line.clone()))));
            if container.checks_health() {
                plan.extend(behaviour.healthy.map(|at| (at, Doing::Turns(Health::Healthy))));
                plan.extend(behaviour.unhealthy.map(|at| (at, Doing::Turns(Health::Unhealthy))));
            }
            plan.extend(behaviour.exits.map(|(at, code)| (at, Doing::Exits(code))));
            plan.sort_by_key(|(at, _)| *at);
            (container.lives, Instant::now(), plan)
        };
        if plan.is_empty() {
            return;
        }
        let (sim, id) = (self.clone(), id.to_owned());
        tokio::spawn(async move {
            for (at, doing) in plan {
                sleep_until(start + at).await;
                if !sim.act(&id, Some(life), doing) {
                    return;
                }
            }
        });
    }

    /// A program does something, unless its life is over.
    fn act(&self, id: &str, life: Option<u64>, doing: Doing) -> bool {
        let alive = self.lock().containers.get(id).is_some_and(|container| {
            life.is_none_or(|life| container.lives == life) && matches!(container.state, State::Running | State::Paused)
        });
        if !alive {
            return false;
        }
        match doing {
            Doing::Exits(code) => self.end(id, code, false),
            Doing::Writes(line) => self.change(|world| {
                let now = world.seconds();
                if let Some(container) = world.containers.get_mut(id) {
                    container.output.push((now, LogLine { stderr: false, text: line }));
                }
            }),
            Doing::Turns(health) => self.change(|world| {
                if let Some(container) = world.containers.get_mut(id) {
                    container.health = health;
                }
                world.tell(id, Happened::Health(health));
            }),
        }
        true
    }

    /// The process of a container ends. Where that was not asked for, the engine's restart policy has its say.
    fn end(&self, id: &str, code: i64, asked_for: bool) {
        let again = self.change(|world| world.end(id, code, asked_for));
        let Some((life, pause)) = again else { return };
        let (sim, id) = (self.clone(), id.to_owned());
        tokio::spawn(async move {
            sleep(pause).await;
            let started = sim.change(|world| {
                let waits = world
                    .containers
                    .get(&id)
                    .is_some_and(|container| container.lives == life && container.state == State::Restarting);
                waits && world.start(&id).is_ok()
            });
            if started {
                sim.live(&id);
            }
        });
    }

    /// A container goes, with its anonymous volumes where `volumes`.
    fn take_away(&self, id: &str, volumes: bool) {
        self.change(|world| {
            world.tell(id, Happened::Destroyed);
            let Some(container) = world.containers.remove(id) else { return };
            world.history.push(format!("removed {}", container.name));
            if volumes {
                for mount in container.mounts.iter().filter(|mount| mount.anonymous) {
                    if let Some(name) = &mount.point.volume {
                        // In use elsewhere, it stays: so does the engine.
                        let _ = world.remove_volume(name);
                    }
                }
            }
        });
    }
}

impl World {
    /// 64 hexadecimal digits, each time others.
    fn fresh_id(&mut self) -> String {
        self.next += 1;
        // Any mixing will do that spreads neighbours, so that the order of ids says nothing.
        let mut x = self.next.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        x ^= x >> 29;
        x = x.wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x ^= x >> 32;
        format!("{x:016x}{:048x}", self.next)
    }

    fn seconds(&self) -> u64 {
        EPOCH + self.began.elapsed().as_secs()
    }

    fn name_of(&self, id: &str) -> String {
        self.containers.get(id).map_or_else(|| id.to_owned(), |container| container.name.clone())
    }

    fn network_name(&self, id: &str) -> String {
        self.networks.get(id).map_or_else(|| id.to_owned(), |network| network.name.clone())
    }

    /// Tells subscribers of the container's group.
    fn tell(&mut self, id: &str, what: Happened) {
        let Some(group) = self.containers.get(id).and_then(|container| container.labels.get(GROUP)).cloned() else {
            return;
        };
        self.hint(&group, &Hint::Container { id: id.to_owned(), what });
    }

    fn hint(&mut self, group: &str, hint: &Hint) {
        self.subscribers
            .retain(|subscriber| subscriber.group != group || subscriber.hints.send(Ok(hint.clone())).is_ok());
    }

    fn container(&mut self, id: &str, attempted: &str) -> Result<&mut Made> {
        self.containers.get_mut(id).ok_or_else(|| no_container(attempted, id))
    }

    fn create(&mut self, blueprint: &Blueprint) -> Result<String> {
        let attempted = format!("create the container {}", blueprint.name);
        if let Some(holder) = self.containers.values().find(|container| container.name == blueprint.name) {
            let message = format!(
                "Conflict. The container name \"/{}\" is already in use by container \"{}\"",
                blueprint.name, holder.id
            );
            return Err(EngineError::Conflict { attempted, message });
        }
        let Some(image) = self.images.get(&blueprint.config.image).cloned() else {
            let message = format!("No such image: {}", blueprint.config.image);
            return Err(EngineError::NotFound { attempted, message });
        };
        let id = self.fresh_id();
        let mounts = self.mounts(blueprint, &image);
        // A network that is not there is only missed at the start.
        let network = self.networks.get(&blueprint.network);
        let network = network.map_or_else(|| blueprint.network.clone(), |network| network.name.clone());
        let container = Made {
            id: id.clone(),
            name: blueprint.name.clone(),
            labels: blueprint.labels.clone().into_iter().collect(),
            config: blueprint.config.clone(),
            env: blueprint.env.clone(),
            image,
            state: State::Created,
            health: Health::None,
            networks: BTreeMap::from([(network, blueprint.network.clone())]),
            mounts,
            resources: blueprint.config.resources,
            restart: blueprint.config.restart,
            created: self.seconds(),
            started: None,
            finished: None,
            restarts: 0,
            error: String::new(),
            output: Vec::new(),
            lives: 0,
            stale_until: None,
        };
        self.containers.insert(id.clone(), container);
        self.history.push(format!("created {}", blueprint.name));
        self.tell(&id, Happened::Created);
        Ok(id)
    }

    /// Mounts of a new container; volumes that do not exist yet are created.
    fn mounts(&mut self, blueprint: &Blueprint, image: &Image) -> Vec<Mount> {
        let mut mounts: BTreeMap<String, Mount> = BTreeMap::new();
        for inherited in &blueprint.inherited {
            let volume = inherited.volume.clone();
            self.volumes.entry(volume.clone()).or_default();
            mounts.insert(inherited.target.clone(), mount(Some(volume), None, &inherited.target, true));
        }
        for volume in &blueprint.config.volumes {
            if mounts.contains_key(&volume.target) {
                continue;
            }
            let mut made = match &volume.source {
                VolumeSource::Bind(path) => mount(None, Some(path.clone()), &volume.target, !volume.read_only),
                VolumeSource::Named(name) => mount(Some(name.clone()), None, &volume.target, !volume.read_only),
                VolumeSource::Anonymous => {
                    let name = self.fresh_id();
                    Mount { anonymous: true, ..mount(Some(name), None, &volume.target, !volume.read_only) }
                }
            };
            if let Some(name) = &made.point.volume {
                self.volumes.entry(name.clone()).or_insert_with(|| blueprint.volume_labels.clone());
            }
            made.point.target.clone_from(&volume.target);
            mounts.insert(volume.target.clone(), made);
        }
        for target in &image.facts.volumes {
            if !mounts.contains_key(target) && !blueprint.config.tmpfs.contains_key(target) {
                let name = self.fresh_id();
                self.volumes.insert(name.clone(), BTreeMap::new());
                mounts.insert(target.clone(), Mount { anonymous: true, ..mount(Some(name), None, target, true) });
            }
        }
        mounts.into_values().collect()
    }

    /// Starts a container; false where it runs already.
    fn start(&mut self, id: &str) -> Result<bool> {
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
        let refusal = self.refusal(container, &attempted);
        let Some(container) = self.containers.get_mut(id) else { return Err(no_container(&attempted, id)) };
        if let Some(refusal) = refusal {
            container.error = refusal.to_string();
            if container.state == State::Restarting {
                container.state = State::Exited { code: Some(128) };
            }
            return Err(refusal);
        }
        container.state = State::Running;
        container.health = if container.checks_health() { Health::Starting } else { Health::None };
        container.started = Some(Instant::now());
        container.stale_until = None;
        container.lives += 1;
        container.error.clear();
        let name = container.name.clone();
        self.history.push(format!("started {name}"));
        self.tell(id, Happened::Started);
        Ok(true)
    }

    /// Why a container cannot be started.
    fn refusal(&self, container: &Made, attempted: &str) -> Option<EngineError> {
        let attempted = attempted.to_owned();
        if let Some(gone) = container.networks.values().find(|id| !self.networks.contains_key(*id)) {
            return Some(EngineError::NotFound { attempted, message: format!("network {gone} not found") });
        }
        let taken = container.config.ports.iter().find_map(|port| {
            let host = port.host?;
            let holds = |other: &crate::spec::model::Port| {
                other.host == Some(host)
                    && other.protocol == port.protocol
                    && other.address.is_ipv4() == port.address.is_ipv4()
                    && (other.address == port.address
                        || other.address.is_unspecified()
                        || port.address.is_unspecified())
            };
            let mut others = self.containers.values().filter(|other| other.id != container.id && other.is_running());
            others.any(|other| other.config.ports.iter().any(holds)).then_some((port.address, host))
        });
        if let Some((address, host)) = taken {
            let message = format!(
                "driver failed programming external connectivity on endpoint {}: Bind for {address}:{host} failed: port \
                 is already allocated",
                container.name
            );
            return Some(EngineError::Refused { attempted, message });
        }
        let why = container.image.behaviour.unstartable.clone()?;
        Some(EngineError::Refused { attempted, message: why })
    }

    /// Ends a process; where the engine will start it again: of which life this was, and the pause before.
    fn end(&mut self, id: &str, code: i64, asked_for: bool) -> Option<(u64, Duration)> {
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
        let pause = RESTART_PAUSE * 2_u32.saturating_pow(u32::try_from(container.restarts.min(9)).unwrap_or(9));
        container.restarts += u64::from(again);
        let (life, name) = (container.lives, container.name.clone());
        self.history.push(format!("died {name} ({code})"));
        self.tell(id, Happened::Died { code: Some(code) });
        again.then_some((life, pause))
    }

    fn unpause(&mut self, id: &str) -> Result<()> {
        let attempted = format!("unpause the container {}", self.name_of(id));
        let container = self.container(id, &attempted)?;
        if container.state != State::Paused {
            let message = "it is not paused".to_owned();
            return Err(EngineError::Refused { attempted, message });
        }
        container.state = State::Running;
        self.tell(id, Happened::Changed);
        Ok(())
    }

    fn rename(&mut self, id: &str, to: &str) -> Result<()> {
        let attempted = format!("rename the container {}", self.name_of(id));
        if self.containers.values().any(|other| other.name == to) {
            let message = format!("Conflict. The container name \"/{to}\" is already in use");
            return Err(EngineError::Conflict { attempted, message });
        }
        let container = self.container(id, &attempted)?;
        let before = std::mem::replace(&mut container.name, to.to_owned());
        self.history.push(format!("renamed {before} to {to}"));
        self.tell(id, Happened::Changed);
        Ok(())
    }

    fn update(&mut self, id: &str, resources: Resources, restart: RestartPolicy) -> Result<()> {
        let container = self.container(id, "update the container")?;
        // A limit of memory or processors cannot be taken away by an update: leaving it out leaves it as it is.
        container.resources = Resources {
            memory: resources.memory.or(container.resources.memory),
            cpus: resources.cpus.or(container.resources.cpus),
            pids: resources.pids,
        };
        container.restart = restart;
        let name = container.name.clone();
        self.history.push(format!("updated {name}"));
        self.tell(id, Happened::Changed);
        Ok(())
    }

    fn create_network(&mut self, name: &str, labels: &BTreeMap<String, String>) -> String {
        // No check for another one of that name: two clients can do this at once, and so it is on a real engine.
        let network = Network {
            id: self.fresh_id(),
            name: name.to_owned(),
            group: labels.get(GROUP).cloned(),
            source: labels.get(SOURCE).cloned(),
        };
        let id = network.id.clone();
        let group = network.group.clone();
        self.networks.insert(id.clone(), network);
        self.history.push(format!("created network {name}"));
        if let Some(group) = group {
            self.hint(&group, &Hint::Network { id: id.clone(), container: None });
        }
        id
    }

    fn remove_network(&mut self, id: &str, attempted: &str) -> Result<()> {
        let Some(network) = self.networks.get(id).cloned() else {
            let message = format!("network {id} not found");
            return Err(EngineError::NotFound { attempted: attempted.to_owned(), message });
        };
        // Containers that do not run have no endpoints.
        if self.containers.values().any(|c| c.is_up() && c.networks.values().any(|attached| attached == id)) {
            let message = format!("error while removing network: network {} has active endpoints", network.name);
            return Err(EngineError::Conflict { attempted: attempted.to_owned(), message });
        }
        self.networks.remove(id);
        self.history.push(format!("removed network {}", network.name));
        if let Some(group) = &network.group {
            self.hint(group, &Hint::Network { id: id.to_owned(), container: None });
        }
        Ok(())
    }

    fn connect(&mut self, network: &str, id: &str) -> Result<()> {
        let attempted = format!("connect the container {}", self.name_of(id));
        let Some(found) = self.networks.get(network).cloned() else {
            let message = format!("network {network} not found");
            return Err(EngineError::NotFound { attempted, message });
        };
        let container = self.container(id, &attempted)?;
        if container.networks.contains_key(&found.name) {
            let message = format!("endpoint with name {} already exists in network {}", container.name, found.name);
            return Err(EngineError::Conflict { attempted, message });
        }
        container.networks.insert(found.name.clone(), found.id.clone());
        let name = container.name.clone();
        self.history.push(format!("connected {name} to {}", found.name));
        if let Some(group) = &found.group {
            self.hint(group, &Hint::Network { id: found.id.clone(), container: Some(id.to_owned()) });
        }
        Ok(())
    }

    /// By id or name. Of a container that does not run, the name of a network that is gone will do.
    fn disconnect(&mut self, network: &str, id: &str) -> Result<()> {
        let attempted = format!("disconnect the container {}", self.name_of(id));
        let named: Vec<&Network> =
            self.networks.values().filter(|known| known.id == network || known.name == network).collect();
        if named.len() > 1 {
            let message = format!("network {network} is ambiguous ({} matches found on name)", named.len());
            return Err(EngineError::Refused { attempted, message });
        }
        let found = named.first().map(|known| known.name.clone());
        let container = self.container(id, &attempted)?;
        let key = match found {
            Some(name) => name,
            None if container.is_up() => {
                return Err(EngineError::NotFound { attempted, message: format!("network {network} not found") });
            }
            None => network.to_owned(),
        };
        if container.networks.remove(&key).is_none() {
            let message = format!("container {id} is not connected to the network {key}");
            return Err(EngineError::Refused { attempted, message });
        }
        let name = container.name.clone();
        self.history.push(format!("disconnected {name} from {key}"));
        Ok(())
    }

    fn remove_volume(&mut self, name: &str) -> Result<()> {
        let attempted = format!("remove the volume {name}");
        if !self.volumes.contains_key(name) {
            return Err(EngineError::NotFound { attempted, message: format!("get {name}: no such volume") });
        }
        let uses = |container: &&Made| container.mounts.iter().any(|m| m.point.volume.as_deref() == Some(name));
        if let Some(user) = self.containers.values().find(uses) {
            let message = format!("remove {name}: volume is in use - [{}]", user.id);
            return Err(EngineError::Conflict { attempted, message });
        }
        self.volumes.remove(name);
        self.history.push(format!("removed volume {name}"));
        Ok(())
    }

    /// What a list shows.
    fn view(&self, group: Option<&str>, volumes: bool, stale: bool) -> Observed {
        let mut observed = Observed::default();
        let now = Instant::now();
        for container in self.containers.values() {
            let mut view = self.view_of(container);
            // Only an inspection tells these; and whoever knows everything.
            if group.is_some() {
                view.details = None;
            }
            if stale && container.stale_until.is_some_and(|until| now < until) {
                view.state = State::Running;
                view.ports = container.ports();
            }
            observed.containers.insert(view.id.clone(), view);
        }
        observed.networks.clone_from(&self.networks);
        observed.images = self.images.iter().map(|(name, image)| (name.clone(), image.id.clone())).collect();
        for (name, labels) in self.volumes.iter().filter(|_| volumes) {
            let Some(owner) = labels.get(GROUP).filter(|owner| group.is_none_or(|group| group == *owner)) else {
                continue;
            };
            let source = labels.get(SOURCE).cloned();
            observed.volumes.insert(name.clone(), Volume { name: name.clone(), group: owner.clone(), source });
        }
        observed
    }

    fn view_of(&self, container: &Made) -> Container {
        let address = |n: usize| IpAddr::from(Ipv4Addr::new(10, 0, 0, u8::try_from(n % 250).unwrap_or(0) + 2));
        let number = self.containers.keys().position(|id| *id == container.id).unwrap_or(0);
        let networks = container.networks.iter().map(|(name, id)| Attachment {
            network_id: id.clone(),
            network: name.clone(),
            address: container.is_running().then(|| address(number)),
        });
        Container {
            id: container.id.clone(),
            name: container.name.clone(),
            identity: Identity::from_labels(&container.labels),
            image: container.config.image.clone(),
            state: container.state,
            health: container.health,
            networks: networks.collect(),
            ports: if container.is_running() { container.ports() } else { Vec::new() },
            mounts: container.mounts.iter().map(|mount| mount.point.clone()).collect(),
            created: i64::try_from(container.created).unwrap_or(i64::MAX),
            details: Some(Details {
                env: container.env.clone(),
                resources: container.resources,
                restart: container.restart,
                started_at: self.rfc3339(container.started),
                finished_at: self.rfc3339(container.finished),
                restarts: container.restarts,
                oom_killed: false,
                error: container.error.clone(),
                health_failure: String::new(),
            }),
        }
    }

    fn rfc3339(&self, at: Option<Instant>) -> String {
        at.map(|at| UNIX_EPOCH + Duration::from_secs(EPOCH) + at.duration_since(self.began))
            .map(|at| humantime::format_rfc3339_nanos(at).to_string())
            .unwrap_or_default()
    }
}

impl Made {
    /// Whether its processes exist or are about to again.
    fn is_up(&self) -> bool {
        matches!(self.state, State::Running | State::Paused | State::Restarting)
    }

    /// Whether its processes exist, so that it holds ports and addresses.
    fn is_running(&self) -> bool {
        matches!(self.state, State::Running | State::Paused)
    }

    fn checks_health(&self) -> bool {
        match &self.config.healthcheck {
            Some(healthcheck) => !healthcheck.disable,
            None => self.image.facts.healthcheck,
        }
    }

    fn ports(&self) -> Vec<PublishedPort> {
        let published = |port: &crate::spec::model::Port| {
            Some(PublishedPort {
                address: port.address,
                host: port.host?,
                container: port.container,
                protocol: port.protocol,
            })
        };
        self.config.ports.iter().filter_map(published).collect()
    }
}

fn mount(volume: Option<String>, bind: Option<String>, target: &str, writable: bool) -> Mount {
    Mount { point: MountPoint { volume, bind, target: target.to_owned(), writable }, anonymous: false }
}

fn no_container(attempted: &str, id: &str) -> EngineError {
    EngineError::NotFound { attempted: attempted.to_owned(), message: format!("No such container: {id}") }
}

impl Engine for Sim {
    fn about(&self) -> BoxFuture<'_, Result<About>> {
        Box::pin(async move {
            let half = self.call("about".into(), |latency| latency.other);
            sleep(half * 2).await;
            Ok(About {
                id: "simulated".into(),
                version: "20.10.24".into(),
                api: "1.41".into(),
                reaches_containers: true,
            })
        })
    }

    fn list<'a>(&'a self, group: &'a str, volumes: bool) -> BoxFuture<'a, Result<Observed>> {
        Box::pin(async move {
            let half = self.call("list".into(), |latency| latency.list);
            sleep(half).await;
            let observed = self.lock().view(Some(group), volumes, true);
            sleep(half).await;
            Ok(observed)
        })
    }

    fn inspect<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Container>>> {
        Box::pin(async move {
            let half = self.call(format!("inspect {}", self.name_of(id)), |latency| latency.inspect);
            sleep(half).await;
            // An inspection waits for what a list would not show yet.
            let stale_until = self.lock().containers.get(id).and_then(|container| container.stale_until);
            if let Some(until) = stale_until {
                sleep_until(until).await;
            }
            let found = {
                let world = self.lock();
                world.containers.get(id).map(|container| world.view_of(container))
            };
            sleep(half).await;
            Ok(found)
        })
    }

    fn image<'a>(&'a self, reference: &'a str) -> BoxFuture<'a, Result<Option<ImageFacts>>> {
        Box::pin(async move {
            let half = self.call(format!("image {reference}"), |latency| latency.inspect);
            sleep(half).await;
            let found = {
                let world = self.lock();
                let by_id = || world.images.values().find(|image| image.id == reference);
                world.images.get(reference).or_else(by_id).map(|image| image.facts.clone())
            };
            sleep(half).await;
            Ok(found)
        })
    }

    fn perform<'a>(&'a self, deed: &'a Deed) -> BoxFuture<'a, Result<Option<String>>> {
        let (sim, deed) = (self.clone(), deed.clone());
        Box::pin(async move {
            // What was sent is carried out, whether or not the sender lives to see the reply.
            let sent = tokio::spawn(async move { sim.carry_out(deed).await });
            sent.await.unwrap_or_else(|error| {
                Err(EngineError::Refused { attempted: "carry that out".into(), message: error.to_string() })
            })
        })
    }

    fn pull<'a>(
        &'a self,
        image: &'a str,
        progress: &'a (dyn Fn(PullProgress) + Send + Sync),
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let half = self.call(format!("pull {image}"), |latency| latency.pull);
            progress(PullProgress { done: 0, total: 1, bytes: 0 });
            sleep(half).await;
            let pulled = self.change(|world| {
                let found = world.registry.get(image).cloned();
                found.map(|found| world.images.insert(image.to_owned(), found)).is_some()
            });
            sleep(half).await;
            if !pulled {
                let message = format!("pull access denied for {image}, repository does not exist");
                return Err(EngineError::NotFound { attempted: format!("pull the image {image}"), message });
            }
            progress(PullProgress { done: 1, total: 1, bytes: 1 << 20 });
            Ok(())
        })
    }

    fn exec<'a>(&'a self, id: &'a str, command: &'a [String]) -> BoxFuture<'a, Result<ExecOutcome>> {
        Box::pin(async move {
            let half = self.call(format!("exec {} {}", self.name_of(id), command.join(" ")), |latency| latency.other);
            sleep(half).await;
            let attempted = format!("execute {} in the container", command.join(" "));
            let (script, ran) = {
                let world = self.lock();
                let Some(container) = world.containers.get(id) else { return Err(no_container(&attempted, id)) };
                if container.state != State::Running {
                    let message = format!("Container {id} is not running");
                    return Err(EngineError::Conflict { attempted, message });
                }
                let ran = container.started.map_or(Duration::ZERO, |started| started.elapsed());
                (container.image.behaviour.exec.clone(), ran)
            };
            sleep(half).await;
            match script {
                Script::Hangs => std::future::pending().await,
                Script::Ends(code, output) => Ok(ExecOutcome { code, output }),
                Script::Answers(after) if ran >= after => Ok(ExecOutcome { code: 0, output: String::new() }),
                Script::Answers(_) => Ok(ExecOutcome { code: 1, output: "not yet".into() }),
            }
        })
    }

    fn logs<'a>(&'a self, id: &'a str, options: LogOptions) -> BoxStream<'a, Result<LogLine>> {
        let half = self.call(format!("logs {}", self.name_of(id)), |latency| latency.other);
        let state =
            Reading { sim: self.clone(), id: id.to_owned(), options, next: None, changes: self.changes.subscribe() };
        let lines =
            stream::unfold(state, |mut reading| async move { reading.line().await.map(|line| (line, reading)) });
        Box::pin(stream::once(sleep(half * 2)).flat_map(move |()| stream::empty()).chain(lines))
    }

    fn ended<'a>(&'a self, _group: &'a str, _span: Duration) -> BoxFuture<'a, Result<Vec<super::End>>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn events<'a>(&'a self, group: &'a str) -> BoxStream<'a, Result<Hint>> {
        let half = self.call("events".into(), |latency| latency.other);
        let (sim, group) = (self.clone(), group.to_owned());
        let subscribed = async move {
            sleep(half).await;
            let (hints, inbox) = mpsc::unbounded_channel();
            // The other end is in hand.
            let _ = hints.send(Ok(Hint::Subscribed));
            sim.lock().subscribers.push(Subscriber { group, hints });
            sleep(half).await;
            stream::unfold(inbox, |mut inbox| async move { inbox.recv().await.map(|hint| (hint, inbox)) })
        };
        Box::pin(stream::once(subscribed).flatten())
    }
}

/// Somebody reads the output of a container.
struct Reading {
    sim: Sim,
    id: String,
    options: LogOptions,
    /// Index of the next line; `None`: not begun.
    next: Option<usize>,
    changes: watch::Receiver<u64>,
}

impl Reading {
    async fn line(&mut self) -> Option<Result<LogLine>> {
        loop {
            self.changes.mark_unchanged();
            {
                let world = self.sim.lock();
                let Some(container) = world.containers.get(&self.id) else {
                    // Told once; who reads on is at the end.
                    let begun = self.next.replace(usize::MAX).is_some();
                    return (!begun).then(|| Err(no_container("read the output of the container", &self.id)));
                };
                let since = u64::try_from(self.options.since).unwrap_or(0);
                let next = self.next.unwrap_or_else(|| {
                    let tail = self.options.tail.map_or(usize::MAX, |tail| usize::try_from(tail).unwrap_or(usize::MAX));
                    let first = container.output.partition_point(|(at, _)| *at < since);
                    first.max(container.output.len().saturating_sub(tail))
                });
                self.next = Some(next);
                if let Some((_, line)) = container.output.get(next) {
                    self.next = Some(next + 1);
                    return Some(Ok(line.clone()));
                }
                if !self.options.follow || !container.is_up() {
                    return None;
                }
            }
            if self.changes.changed().await.is_err() {
                return None;
            }
        }
    }
}
