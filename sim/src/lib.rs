//! A simulated engine: a Docker engine's rules without a Docker engine, for the tests of drillmaster and of whatever is
//! built on it.
//!
//! It keeps containers, networks, volumes and images, and refuses what a real engine refuses, with the same kind of
//! error. It runs on tokio's clock, so that under paused time hours pass in milliseconds, and it is deterministic: the
//! same calls at the same times give the same ids and the same events. What is unusual about a run (an image whose
//! program exits, a list that lags behind, an external `docker rename`) is configured or done through [`Sim`].
//!
//! It must not know what drillmaster wants: it reads labels only where a real engine would filter by them. Faults of
//! the connection are not its business either; [`faulty`] adds them.

mod calls;
pub mod faulty;
mod image;
mod manual;
mod process;
mod state;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

pub use self::image::{Behaviour, Image, Script};
use self::state::{Presence, World};
use drillmaster::observed::{Network, Observed};

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
    /// Build an image.
    pub build: Duration,
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
            build: ms(3000),
            other: ms(5),
        }
    }
}
/// A simulated engine. Clones are handles on the same engine. Its methods are external changes, and
/// what a test wants to know; calls go through [`Engine`](drillmaster::engine::Engine), inside of a tokio runtime.
#[derive(Debug, Clone)]
pub struct Sim {
    world: Arc<Mutex<World>>,
    changes: Arc<watch::Sender<u64>>,
    witness: Arc<Mutex<Option<Witness>>>,
}

/// Called with each event, as in [`Sim::history`], and the state after it.
type See = dyn FnMut(&str, &Observed) + Send;

struct Witness(Box<See>);

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Witness")
    }
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
            built: BTreeMap::new(),
            unbuildable: BTreeMap::new(),
            presence: Presence::Answers,
            epoch: 0,
            subscribers: Vec::new(),
            held: Vec::new(),
            exits: VecDeque::new(),
            calls: Vec::new(),
            history: Vec::new(),
            under_way: 0,
            most_under_way: 0,
            next: 0,
        };
        let mut bridge = Network { id: String::new(), name: "bridge".into(), group: None, source: None };
        let sim =
            Sim { world: Arc::new(Mutex::new(world)), changes: Arc::new(watch::channel(0).0), witness: Arc::default() };
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
    /// From now on a build of this reference fails with these words; `None`: it succeeds.
    pub fn set_unbuildable(&self, reference: &str, why: Option<&str>) {
        let unbuildable = &mut self.lock().unbuildable;
        match why {
            Some(why) => unbuildable.insert(reference.to_owned(), why.to_owned()),
            None => unbuildable.remove(reference),
        };
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

    /// Subscribes to everything that happens from now on.
    pub fn witness(&self, see: impl FnMut(&str, &Observed) + Send + 'static) {
        *self.witness.lock().unwrap_or_else(PoisonError::into_inner) = Some(Witness(Box::new(see)));
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

    /// Waits until an event is in [`Sim::history`].
    pub async fn until_happened(&self, line: &str) {
        self.until(|_| self.history().iter().any(|happened| happened == line)).await;
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        // A test that panicked elsewhere should show its own message, not this lock's.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes waiting calls.
    fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let (result, news) = {
            let mut world = self.lock();
            let before = world.history.len();
            let result = change(&mut world);
            (result, world.history.get(before..).unwrap_or_default().to_vec())
        };
        if !news.is_empty()
            && let Some(Witness(see)) = self.witness.lock().unwrap_or_else(PoisonError::into_inner).as_mut()
        {
            let seen = self.snapshot();
            for line in news {
                see(&line, &seen);
            }
        }
        self.changes.send_modify(|version| *version += 1);
        result
    }
}
