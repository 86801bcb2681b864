//! The events of a run, drawn from its seed: initial specs, then changes and faults.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use drillmaster::desired::Desired;
use drillmaster::spec::model::{Condition, HealthAction, RestartPolicy};
use drillmaster_sim::{Image, Script};

use crate::builders::{GROUP, desired, service};
use crate::rng::Rng;

/// Maximum number of services. Orphans have images, too.
const SERVICES: usize = 8;
/// Timeout of pings.
const PING: Duration = Duration::from_secs(8);

/// The definition of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    image: String,
    env: u64,
    needs: BTreeMap<String, (Condition, bool)>,
    ping: bool,
    health: Option<HealthAction>,
    memory: &'static str,
    port: Option<u16>,
    named_volume: bool,
    anonymous_volume: bool,
    restart: RestartPolicy,
    start_first: bool,
    min_ready: Option<&'static str>,
    place: Place,
}

/// Where a service is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    Default,
    /// On both networks of the group.
    Two,
    /// On the other network only.
    Other,
    Host,
}

/// The other network of the group.
pub const BACK: &str = "shop_back";

/// Services by name.
pub type Specs = BTreeMap<String, Definition>;

/// Returns the desired state for these specs.
pub fn wanted(specs: &Specs) -> Desired {
    let mut desired = desired(specs.iter().map(|(name, definition)| {
        let mut build = service(name).image(&definition.image).memory(definition.memory).restart(definition.restart);
        build = build.env("VERSION", &definition.env.to_string());
        for (other, (condition, restart)) in &definition.needs {
            build = build.needs_that(other, *condition, *restart);
        }
        if definition.ping {
            build = build.ping(PING);
        }
        if let Some(then) = definition.health {
            build = build.health("2s", 3, then);
        }
        let is_host = definition.place == Place::Host;
        if let Some(port) = definition.port.filter(|_| !is_host) {
            build = build.port(&format!("{port}:80"));
        }
        if definition.named_volume {
            build = build.volume(&format!("data-{name}"), "/data");
        }
        if definition.anonymous_volume {
            build = build.anonymous_volume("/scratch");
        }
        // `start_first` cannot be combined with these.
        let alone = is_host || definition.port.is_some() || definition.named_volume || definition.anonymous_volume;
        if definition.start_first && !alone {
            build = build.start_first();
        }
        if let Some(period) = definition.min_ready {
            build = build.min_ready(period);
        }
        match definition.place {
            Place::Default => build,
            Place::Two => build.networks(&[GROUP, BACK]),
            Place::Other => build.networks(&[BACK]),
            Place::Host => build.mode("host"),
        }
    }));
    desired.networks.insert(BACK.to_owned(), Default::default());
    desired
}

/// The state of the spec directory.
#[derive(Debug, Clone)]
pub enum SpecState {
    Specs(Specs),
    /// Invalid; the number distinguishes error messages.
    Invalid(u64),
    /// Valid, without services.
    Empty,
}

/// A change or fault.
#[derive(Debug, Clone)]
pub enum Event {
    /// The specs are saved.
    Saved(SpecState, String),
    /// The spec files are touched without a change.
    Touched,
    /// Half of the specs are missing temporarily.
    HalfSaved(Specs),
    /// An external change to the container of this name.
    ExternalChange(ExternalChange, String),
    /// A network of the group is removed.
    NetworkRemoved(&'static str),
    /// An image is rebuilt under the same name.
    Rebuilt(String),
    /// A foreign container of this name starts with this port.
    Foreign(String, u16),
    ForeignRemoved(String),
    EventsCut,
    FaultsBegin,
    FaultsEnd,
    /// Containers can be neither created nor started.
    DiskFull,
    DiskFreed,
    EngineRestarts,
    EngineStops {
        containers_end: bool,
    },
    EngineStarts,
    EngineHangs,
    EngineResumes,
    ControllerKilled,
    ControllerInterrupted,
    ControllerStarts,
    ReconcileRequest,
    ReloadRequest(String),
    StatusRequest,
}

/// An external change to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExternalChange {
    Crash,
    Stop,
    Kill,
    Restart,
    Pause,
    Unpause,
    Rename,
    Disconnect,
    Remove,
    Update,
    BecomeUnhealthy,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Saved(_, what) => write!(f, "specs: {what}"),
            Event::HalfSaved(specs) => write!(f, "temporarily only {:?}", specs.keys()),
            other => write!(f, "{other:?}"),
        }
    }
}

/// A complete run.
pub struct Schedule {
    /// Specs at the start.
    pub first: Specs,
    /// Specs at the end.
    pub last: Specs,
    /// Events with the pause before each.
    pub events: Vec<(Duration, Event)>,
    /// Images by reference.
    pub images: BTreeMap<String, Image>,
    /// Time by which lists are stale.
    pub stale: Duration,
    /// True for short latencies.
    pub quick: bool,
    /// Faulty calls per thousand while faults are enabled.
    pub fault_rate: u32,
}

impl Schedule {
    pub fn draw(seed: u64) -> Schedule {
        let dice = &mut Rng::new(seed);
        let mut images = BTreeMap::new();
        for n in 0..SERVICES {
            for tag in ["1", "2"] {
                let reference = format!("s{n}:{tag}");
                images.insert(reference.clone(), good_image(dice, &reference));
            }
            let reference = format!("s{n}:bad");
            images.insert(reference.clone(), bad_image(dice, &reference));
        }
        let number = usize::try_from(3 + dice.below(4)).unwrap();
        let mut specs = Specs::new();
        for n in 0..number {
            let definition = definition(dice, n, &specs);
            specs.insert(format!("s{n}"), definition);
        }
        let first = specs.clone();
        let without_faults = dice.once_in(3);
        let mut events = Vec::new();
        let mut draw = Draw {
            dice,
            without_faults,
            specs,
            invalid: 0,
            engine_stopped: false,
            engine_hung: false,
            controller_ended: false,
            faulty: false,
            disk_full: false,
        };
        for _ in 0..10 + draw.dice.below(25) {
            let bound = draw.dice.pick(&[50, 1_000, 1_000, 5_000, 5_000, 20_000, 100_000]);
            let pause = draw.dice.time_below(Duration::from_millis(bound));
            let event = draw.event();
            events.push((pause, event));
        }
        let last = draw.specs;
        Schedule {
            first,
            last,
            events,
            images,
            stale: dice.pick(&[Duration::ZERO, Duration::from_millis(70)]),
            quick: dice.once_in(3),
            fault_rate: u32::try_from(dice.pick(&[20, 60, 150])).unwrap(),
        }
    }
}

/// Returns a diamond of services and two later versions: first its base and one side change, then that side is removed.
/// The schedule is empty.
pub fn diamond() -> (Schedule, [Specs; 2]) {
    let definition = |name: &str, needs: &[&str]| Definition {
        image: format!("{name}:1"),
        env: 0,
        needs: needs.iter().map(|other| ((*other).to_owned(), (Condition::Ready, false))).collect(),
        ping: true,
        health: None,
        memory: "64m",
        port: (name == "s0").then_some(8000),
        named_volume: name == "s1",
        anonymous_volume: name == "s0",
        restart: RestartPolicy::No,
        start_first: name == "s2",
        min_ready: (name == "s1").then_some("300ms"),
        place: if name == "s2" { Place::Two } else { Place::Default },
    };
    let all = [("s0", &[][..]), ("s1", &["s0"]), ("s2", &["s0"]), ("s3", &["s1", "s2"])];
    let first: Specs = all.into_iter().map(|(name, needs)| (name.to_owned(), definition(name, needs))).collect();
    let mut changed = first.clone();
    for name in ["s0", "s2"] {
        changed.insert(name.into(), Definition { env: 1, ..first[name].clone() });
    }
    let mut fewer = changed.clone();
    fewer.remove("s2");
    fewer.insert("s3".into(), definition("s3", &["s1"]));
    let image = |name: &str| {
        let time = Duration::from_millis(150);
        (format!("{name}:1"), Image::new(name).behaving(|it| it.exec = Script::SucceedsAfter(time)))
    };
    let schedule = Schedule {
        last: fewer.clone(),
        images: first.keys().map(|name| image(name)).collect(),
        first,
        events: Vec::new(),
        stale: Duration::from_millis(70),
        quick: false,
        fault_rate: 0,
    };
    (schedule, [changed, fewer])
}

struct Draw<'a> {
    dice: &'a mut Rng,
    /// No engine faults in this run.
    without_faults: bool,
    specs: Specs,
    invalid: u64,
    engine_stopped: bool,
    engine_hung: bool,
    controller_ended: bool,
    faulty: bool,
    disk_full: bool,
}

impl Draw<'_> {
    fn event(&mut self) -> Event {
        // Ends an ongoing fault soon.
        let end = self.dice.below(3) > 0;
        let ongoing = [
            (&mut self.engine_stopped, Event::EngineStarts),
            (&mut self.engine_hung, Event::EngineResumes),
            (&mut self.controller_ended, Event::ControllerStarts),
            (&mut self.faulty, Event::FaultsEnd),
            (&mut self.disk_full, Event::DiskFreed),
        ];
        if let Some((fault, event)) = ongoing.into_iter().find(|(fault, _)| **fault && end) {
            *fault = false;
            return event;
        }
        match self.dice.below(41) {
            0..10 => self.edit(),
            10..24 => self.external_change(),
            24 => Event::NetworkRemoved(self.dice.pick(&[GROUP, BACK])),
            25 => Event::Rebuilt(self.any_image()),
            26 | 27 => {
                let name = self.any_service();
                let suffix = self.dice.pick(&["", ".new", "-other"]);
                let port = self.specs.get(&name).and_then(|definition| definition.port).unwrap_or(9999);
                Event::Foreign(format!("shop-{name}{suffix}"), port)
            }
            28 => Event::ForeignRemoved(format!("shop-{}", self.any_service())),
            29..35 | 40 if self.without_faults => self.external_change(),
            29 => Event::EventsCut,
            30 | 31 => {
                self.faulty = true;
                Event::FaultsBegin
            }
            32 if !self.engine_stopped && !self.engine_hung => Event::EngineRestarts,
            33 if !self.engine_stopped && !self.engine_hung => {
                self.engine_stopped = true;
                Event::EngineStops { containers_end: self.dice.once_in(2) }
            }
            34 if !self.engine_stopped && !self.engine_hung => {
                self.engine_hung = true;
                Event::EngineHangs
            }
            35 if !self.controller_ended => {
                self.controller_ended = true;
                Event::ControllerKilled
            }
            36 if !self.controller_ended => {
                self.controller_ended = true;
                Event::ControllerInterrupted
            }
            37 => Event::ReconcileRequest,
            38 => Event::ReloadRequest(self.any_service()),
            39 => Event::StatusRequest,
            40 => {
                self.disk_full = true;
                Event::DiskFull
            }
            _ => self.external_change(),
        }
    }

    fn any_service(&mut self) -> String {
        let names: Vec<&String> = self.specs.keys().collect();
        (self.dice.pick(&names)).clone()
    }

    fn any_image(&mut self) -> String {
        let name = self.any_service();
        self.specs[&name].image.clone()
    }

    fn external_change(&mut self) -> Event {
        use ExternalChange::*;
        let name = self.any_service();
        let suffix = if self.dice.once_in(6) { ".new" } else { "" };
        let changes = [
            Crash, Crash, Crash, Stop, Kill, Restart, Restart, Pause, Unpause, Rename, Disconnect, Remove, Remove,
            Update,
        ];
        let change = if self.dice.once_in(13) { BecomeUnhealthy } else { self.dice.pick(&changes) };
        Event::ExternalChange(change, format!("shop-{name}{suffix}"))
    }

    fn edit(&mut self) -> Event {
        let name = self.any_service();
        let number: usize = name[1..].parse().unwrap();
        let mut what = String::new();
        match self.dice.below(16) {
            0..4 => {
                self.change(&name, |definition| definition.env += 1);
                what += &format!("{name}: env");
            }
            4 | 5 => {
                let tag = self.dice.pick(&["1", "2", "bad", "gone"]);
                self.change(&name, |definition| definition.image = format!("{name}:{tag}"));
                what += &format!("{name}: image {name}:{tag}");
            }
            6 => {
                let memory = self.dice.pick(&["64m", "128m", "256m"]);
                self.change(&name, |definition| definition.memory = memory);
                what += &format!("{name}: memory {memory}");
            }
            7 if self.specs.len() > 2 => {
                self.specs.remove(&name);
                for definition in self.specs.values_mut() {
                    definition.needs.remove(&name);
                }
                what += &format!("{name}: removed");
            }
            8 | 9 => {
                let added = usize::try_from(self.dice.below(SERVICES as u64)).unwrap();
                let lower: Specs =
                    self.specs.clone().into_iter().filter(|(name, _)| **name < *format!("s{added}")).collect();
                let definition = definition(self.dice, added, &lower);
                what += &format!("s{added}: added or replaced");
                self.specs.insert(format!("s{added}"), definition);
            }
            10 => {
                let lower: Vec<String> = self.specs.keys().filter(|other| **other < name).cloned().collect();
                let needs = needs(self.dice, &lower);
                what += &format!("{name}: needs {needs:?}");
                self.change(&name, |definition| definition.needs = needs);
            }
            11 => {
                let other = self.any_service();
                let (one, two) = (self.specs[&name].port, self.specs[&other].port);
                self.change(&name, |definition| definition.port = two);
                self.change(&other, |definition| definition.port = one);
                what += &format!("{name} and {other} swap ports");
            }
            12 => {
                let restart = self.dice.pick(&[RestartPolicy::No, RestartPolicy::Always, RestartPolicy::OnFailure(2)]);
                self.change(&name, |definition| definition.restart = restart);
                what += &format!("{name}: restart {restart:?}");
            }
            13 => {
                self.invalid += 1;
                let invalid = self.invalid / 2;
                return Event::Saved(SpecState::Invalid(invalid), format!("invalid {invalid}"));
            }
            14 => return Event::Saved(SpecState::Empty, "empty".into()),
            15 if self.dice.once_in(2) => return Event::Touched,
            15 => {
                let mut half = self.specs.clone();
                half.retain(|_, _| self.dice.once_in(2));
                let names: BTreeSet<String> = half.keys().cloned().collect();
                for definition in half.values_mut() {
                    definition.needs.retain(|other, _| names.contains(other));
                }
                return Event::HalfSaved(half);
            }
            _ => {
                self.change(&name, |definition| definition.anonymous_volume = !definition.anonymous_volume);
                what += &format!("{name}: volume {number}");
            }
        }
        // Two services with the same port are invalid.
        let mut taken = BTreeSet::new();
        for definition in self.specs.values_mut() {
            definition.port = definition.port.filter(|port| taken.insert(*port));
        }
        Event::Saved(SpecState::Specs(self.specs.clone()), what)
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut Definition)) {
        if let Some(definition) = self.specs.get_mut(name) {
            change(definition);
        }
    }
}

fn definition(dice: &mut Rng, n: usize, lower: &Specs) -> Definition {
    let lower: Vec<String> = lower.keys().cloned().collect();
    let ping = !dice.once_in(3);
    Definition {
        image: format!("s{n}:{}", if dice.once_in(8) { "bad" } else { "1" }),
        env: dice.below(3),
        needs: needs(dice, &lower),
        ping,
        health: (ping && dice.once_in(3))
            .then(|| dice.pick(&[HealthAction::Restart, HealthAction::Replace, HealthAction::Ignore])),
        memory: dice.pick(&["64m", "128m"]),
        port: dice.once_in(2).then(|| 8000 + u16::try_from(n).unwrap()),
        named_volume: dice.once_in(3),
        anonymous_volume: dice.once_in(4),
        restart: if dice.once_in(8) { RestartPolicy::Always } else { RestartPolicy::No },
        start_first: dice.once_in(2),
        min_ready: dice.once_in(4).then(|| dice.pick(&["200ms", "2s"])),
        place: dice.pick(&[
            Place::Default,
            Place::Default,
            Place::Default,
            Place::Two,
            Place::Two,
            Place::Other,
            Place::Host,
        ]),
    }
}

fn needs(dice: &mut Rng, lower: &[String]) -> BTreeMap<String, (Condition, bool)> {
    let mut needs = BTreeMap::new();
    for other in lower {
        if dice.once_in(3) {
            let condition = if dice.once_in(4) { Condition::Started } else { Condition::Ready };
            needs.insert(other.clone(), (condition, dice.once_in(4)));
        }
    }
    needs
}

fn good_image(dice: &mut Rng, reference: &str) -> Image {
    let image = Image::new(reference).behaving(|it| {
        it.exec = Script::SucceedsAfter(dice.time_below(Duration::from_millis(1500)));
        it.stops = dice.time_below(Duration::from_millis(400));
        it.slow_start = dice.time_below(Duration::from_millis(200));
    });
    let image = if dice.once_in(5) { image.volume("/var/lib/declared") } else { image };
    if dice.once_in(5) { image.healthcheck(Some(dice.time_below(Duration::from_secs(2)))) } else { image }
}

fn bad_image(dice: &mut Rng, reference: &str) -> Image {
    let image = good_image(dice, reference);
    let soon = dice.time_below(Duration::from_secs(2));
    let later = dice.time_below(Duration::from_secs(100));
    match dice.below(8) {
        0 => image.behaving(|it| it.exits = Some((soon, 1))),
        1 => image.behaving(|it| {
            it.exits = Some((soon, 3));
            it.exiting_starts = 1 + dice.below(4);
        }),
        2 => image.behaving(|it| it.exits = Some((later, 0))),
        3 => image.behaving(|it| it.exec = Script::Exits(1, "never".into())),
        4 => image.behaving(|it| it.exec = Script::Hangs),
        5 => image.behaving(|it| it.exec = Script::SucceedsUntil(later)),
        6 => image.healthcheck(Some(soon)).behaving(|it| it.unhealthy = Some(soon + later)),
        _ => image.behaving(|it| it.unstartable = Some("no such file".into())),
    }
}
