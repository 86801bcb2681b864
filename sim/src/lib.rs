//! Simulated Docker engine for tests of drillmaster and of software built on it.
//!
//! The simulation manages containers, networks, volumes and images, and returns the same kinds of errors as a real engine.
//! It uses tokio's clock, so with paused time hours pass in milliseconds. It is deterministic: the same calls at the same
//! times yield the same ids and events. [`Sim`] configures deviations (an image whose program exits, stale lists) and
//! makes external changes (`docker rename`).
//!
//! The simulation must not depend on drillmaster's logic: it reads labels only where a real engine filters by them.
//! Connection faults are separate; see [`faulty`].

mod calls;
pub mod faulty;
mod image;
mod manual;
mod networks;
mod personality;
mod process;
mod state;
mod view;
mod volumes;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

pub use self::image::{Behaviour, Image, Script};
pub use self::personality::Personality;
use self::state::{Presence, World};
use drillmaster::observed::{Network, Observed};

/// Latency of calls: half before the engine executes the call, half before the response arrives.
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
    /// Stop a container, in addition to the time until the process exits.
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
    /// From what happens to its event.
    pub event: Duration,
}

impl Default for Latency {
    /// Returns latencies measured on Docker 20.10 with two processors.
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
            event: ms(0),
        }
    }
}

/// A handle to a simulated engine; clones share the engine. Clients use it through
/// [`Engine`](drillmaster::engine::Engine), within a tokio runtime. Its own methods make external changes and give tests
/// access to the state.
#[derive(Debug, Clone)]
pub struct Sim {
    world: Arc<Mutex<World>>,
    changes: Arc<watch::Sender<u64>>,
    callback: Arc<Mutex<Option<Callback>>>,
}

/// Callback for a line of [`Sim::history`] and the state after it.
type OnChange = dyn FnMut(&str, &Observed) + Send;

struct Callback(Box<OnChange>);

impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Callback")
    }
}

impl Default for Sim {
    fn default() -> Sim {
        Sim::new()
    }
}

impl Sim {
    /// Creates an empty engine on the clock of the current runtime: Docker 20.10.
    pub fn new() -> Sim {
        Sim::imitating(Personality::default())
    }

    /// Creates an empty engine on the clock of the current runtime that behaves like this one.
    pub fn imitating(personality: Personality) -> Sim {
        let world = World {
            began: Instant::now(),
            personality,
            latency: personality.latency(),
            stale: Duration::ZERO,
            die_delay: personality.die_delay(),
            disk_full: false,
            containers: BTreeMap::new(),
            networks: BTreeMap::new(),
            volumes: BTreeMap::new(),
            volume_times: BTreeMap::new(),
            anonymous_volumes: BTreeSet::new(),
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
        let mut bridge = Network {
            id: String::new(),
            name: "bridge".into(),
            group: None,
            source: None,
            compose_project: None,
            subnets: Vec::new(),
            settings: Default::default(),
        };
        let sim = Sim {
            world: Arc::new(Mutex::new(world)),
            changes: Arc::new(watch::channel(0).0),
            callback: Arc::default(),
        };
        sim.change(|world| {
            bridge.id = world.fresh_id();
            world.networks.insert(bridge.id.clone(), bridge);
        });
        sim
    }

    /// Sets the latency of calls.
    pub fn set_latency(&self, latency: Latency) {
        self.lock().latency = latency;
    }

    /// Sets how long lists keep reporting an exited container as running. Defaults to zero.
    pub fn set_stale(&self, stale: Duration) {
        self.lock().stale = stale;
    }

    /// Sets how long after `stop` and the end of a container its `die` event comes; zero: only `die`. Defaults to what the
    /// imitated engine does.
    pub fn set_die_delay(&self, delay: Duration) {
        self.lock().die_delay = delay;
    }

    /// Fills the disk of the engine or frees it: while it is full, containers cannot be created or started.
    pub fn set_disk_full(&self, full: bool) {
        self.lock().disk_full = full;
    }

    /// Adds an image under a reference, replacing an existing one.
    pub fn add_image(&self, reference: &str, image: Image) {
        self.change(|world| world.images.insert(reference.to_owned(), image));
    }

    /// Adds an image to the registry, from which it can be pulled.
    pub fn add_to_registry(&self, reference: &str, image: Image) {
        self.lock().registry.insert(reference.to_owned(), image);
    }

    /// Makes builds of an image fail with the given message; `None` makes them succeed.
    pub fn set_unbuildable(&self, reference: &str, why: Option<&str>) {
        let unbuildable = &mut self.lock().unbuildable;
        match why {
            Some(why) => unbuildable.insert(reference.to_owned(), why.to_owned()),
            None => unbuildable.remove(reference),
        };
    }

    /// Returns the current state, with the volumes of all groups, without latency or staleness.
    pub fn snapshot(&self) -> Observed {
        let world = self.lock();
        world.view(None, true, false)
    }

    /// Returns the names of all volumes, with or without labels.
    pub fn volumes(&self) -> Vec<String> {
        self.lock().volumes.keys().cloned().collect()
    }

    /// Returns the id of a container by name.
    pub fn id_of(&self, name: &str) -> Option<String> {
        self.lock().containers.values().find(|container| container.name == name).map(|container| container.id.clone())
    }

    /// Returns the content of the files that were copied into a container, by path.
    pub fn files(&self, name: &str) -> BTreeMap<String, String> {
        let world = self.lock();
        let container = world.containers.values().find(|container| container.name == name);
        let files = container.into_iter().flat_map(|container| &container.files);
        files.map(|(path, file)| (path.clone(), file.content.clone())).collect()
    }

    /// Returns the calls so far, one line each: `list`, `create shop-api.new`, `start shop-api.new`.
    pub fn calls(&self) -> Vec<String> {
        self.lock().calls.clone()
    }

    /// Returns the number of calls so far with this verb.
    pub fn count(&self, verb: &str) -> usize {
        self.lock().calls.iter().filter(|call| call.split(' ').next() == Some(verb)).count()
    }

    /// Clears the calls, the history and [`Sim::max_concurrent`].
    pub fn clear_calls(&self) {
        let mut world = self.lock();
        world.calls.clear();
        world.history.clear();
        world.most_under_way = 0;
    }

    /// Returns the changes to containers, networks and volumes so far, one line each: `created shop-api.new`, `renamed
    /// shop-api.new to shop-api`, `died shop-api (1)`.
    pub fn history(&self) -> Vec<String> {
        self.lock().history.clone()
    }

    /// Registers a callback for all further changes, replacing an existing one.
    pub fn on_change(&self, see: impl FnMut(&str, &Observed) + Send + 'static) {
        *self.callback.lock().unwrap_or_else(PoisonError::into_inner) = Some(Callback(Box::new(see)));
    }

    /// Returns the maximum number of concurrent mutations.
    pub fn max_concurrent(&self) -> usize {
        self.lock().most_under_way
    }

    /// Waits until the state satisfies a condition.
    pub async fn until(&self, mut condition: impl FnMut(&Observed) -> bool) {
        let mut changes = self.changes.subscribe();
        while !condition(&self.snapshot()) {
            // Cannot fail: this handle keeps the sender alive.
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits until a line is in [`Sim::history`].
    pub async fn until_recorded(&self, line: &str) {
        self.until(|_| self.history().iter().any(|happened| happened == line)).await;
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        // If a test panics, its own message matters, not that of the poisoned lock.
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
            && let Some(Callback(see)) = self.callback.lock().unwrap_or_else(PoisonError::into_inner).as_mut()
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
