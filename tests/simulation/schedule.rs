//! What happens in a run, drawn from its seed: the specs at the beginning, and then one thing after another.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use drillmaster::desired::Desired;
use drillmaster::spec::model::{Condition, HealthAction, RestartPolicy};
use drillmaster_sim::{Image, Script};

use crate::builders::{desired, service};
use crate::rng::Rng;

/// How many services there are at most. Also those that no spec names have images.
const SERVICES: usize = 8;
/// Time that a ping has.
const PING: Duration = Duration::from_secs(8);

/// A service as its spec asks for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
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
}

/// The specs: services by name.
pub type Specs = BTreeMap<String, Wish>;

/// What these specs ask for.
pub fn wanted(specs: &Specs) -> Desired {
    desired(specs.iter().map(|(name, wish)| {
        let mut build = service(name).image(&wish.image).memory(wish.memory).restart(wish.restart);
        build = build.env("VERSION", &wish.env.to_string());
        for (other, (condition, restart)) in &wish.needs {
            build = build.needs_that(other, *condition, *restart);
        }
        if wish.ping {
            build = build.ping(PING);
        }
        if let Some(then) = wish.health {
            build = build.health("2s", 3, then);
        }
        if let Some(port) = wish.port {
            build = build.port(&format!("{port}:80"));
        }
        if wish.named_volume {
            build = build.volume(&format!("data-{name}"), "/data");
        }
        if wish.anonymous_volume {
            build = build.anonymous_volume("/scratch");
        }
        // Specs that want both are not valid.
        let alone = wish.port.is_some() || wish.named_volume || wish.anonymous_volume;
        if wish.start_first && !alone {
            build = build.start_first();
        }
        if let Some(period) = wish.min_ready {
            build = build.min_ready(period);
        }
        build
    }))
}

/// What the specs are found to be.
#[derive(Debug, Clone)]
pub enum Found {
    Specs(Specs),
    /// Not valid; the number tells one text from another.
    Broken(u64),
    /// Valid, without a service.
    Empty,
}

/// Something that happens.
#[derive(Debug, Clone)]
pub enum Happening {
    /// Somebody saves the specs.
    Saved(Found, String),
    /// Somebody touches them.
    Touched,
    /// For a moment half of them are missing.
    HalfSaved(Specs),
    /// Somebody does this to the container of this name.
    Hand(Hand, String),
    /// Somebody takes the group's network away.
    NetworkGone,
    /// Somebody builds an image anew, under the same name.
    Rebuilt(String),
    /// A container of somebody else appears, under this name and on this port.
    Foreign(String, u16),
    ForeignGone(String),
    EventsCut,
    FaultsBegin,
    FaultsEnd,
    EngineRestarts,
    EngineGoes {
        containers_end: bool,
    },
    EngineComes,
    EngineHangs,
    EngineGoesOn,
    ControllerKilled,
    ControllerInterrupted,
    ControllerStarts,
    AsksToReconcile,
    AsksToReload(String),
    AsksForStatus,
}

/// What somebody does to one container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hand {
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
    MakeIll,
}

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Happening::Saved(_, what) => write!(f, "specs: {what}"),
            Happening::HalfSaved(specs) => write!(f, "for a moment only {:?}", specs.keys()),
            other => write!(f, "{other:?}"),
        }
    }
}

/// A whole run.
pub struct Schedule {
    /// The specs at the beginning.
    pub first: Specs,
    /// The specs at the end.
    pub last: Specs,
    /// What happens, each so long after what was before it.
    pub happenings: Vec<(Duration, Happening)>,
    /// Images by reference.
    pub images: BTreeMap<String, Image>,
    /// For how long lists lag behind.
    pub stale: Duration,
    /// Calls are quicker than usual.
    pub quick: bool,
    /// How often calls go wrong while faults last, out of a thousand.
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
            let wish = wish(dice, n, &specs);
            specs.insert(format!("s{n}"), wish);
        }
        let first = specs.clone();
        let calm = dice.once_in(3);
        let mut happenings = Vec::new();
        let mut drawing =
            Drawing { dice, calm, specs, broken: 0, gone: false, hung: false, dead: false, faulty: false };
        for _ in 0..10 + drawing.dice.below(25) {
            let bound = drawing.dice.pick(&[50, 1_000, 1_000, 5_000, 5_000, 20_000, 100_000]);
            let pause = drawing.dice.time_below(Duration::from_millis(bound));
            let happening = drawing.happening();
            happenings.push((pause, happening));
        }
        let last = drawing.specs;
        Schedule {
            first,
            last,
            happenings,
            images,
            stale: dice.pick(&[Duration::ZERO, Duration::from_millis(70)]),
            quick: dice.once_in(3),
            fault_rate: u32::try_from(dice.pick(&[20, 60, 150])).unwrap(),
        }
    }
}

/// A diamond at its beginning and two later versions of it: what stands below is changed, and a side goes. Nothing happens
/// by itself.
pub fn diamond() -> (Schedule, [Specs; 2]) {
    let wish = |name: &str, needs: &[&str]| Wish {
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
    };
    let all = [("s0", &[][..]), ("s1", &["s0"]), ("s2", &["s0"]), ("s3", &["s1", "s2"])];
    let first: Specs = all.into_iter().map(|(name, needs)| (name.to_owned(), wish(name, needs))).collect();
    let mut changed = first.clone();
    for name in ["s0", "s2"] {
        changed.insert(name.into(), Wish { env: 1, ..first[name].clone() });
    }
    let mut fewer = changed.clone();
    fewer.remove("s2");
    fewer.insert("s3".into(), wish("s3", &["s1"]));
    let image = |name: &str| {
        let time = Duration::from_millis(150);
        (format!("{name}:1"), Image::new(name).behaving(|it| it.exec = Script::Answers(time)))
    };
    let schedule = Schedule {
        last: fewer.clone(),
        images: first.keys().map(|name| image(name)).collect(),
        first,
        happenings: Vec::new(),
        stale: Duration::from_millis(70),
        quick: false,
        fault_rate: 0,
    };
    (schedule, [changed, fewer])
}

struct Drawing<'a> {
    dice: &'a mut Rng,
    /// The engine and the way to it are sound.
    calm: bool,
    specs: Specs,
    broken: u64,
    gone: bool,
    hung: bool,
    dead: bool,
    faulty: bool,
}

impl Drawing<'_> {
    fn happening(&mut self) -> Happening {
        // What lasts comes to its end soon.
        let end = self.dice.below(3) > 0;
        if self.gone && end {
            self.gone = false;
            return Happening::EngineComes;
        }
        if self.hung && end {
            self.hung = false;
            return Happening::EngineGoesOn;
        }
        if self.dead && end {
            self.dead = false;
            return Happening::ControllerStarts;
        }
        if self.faulty && end {
            self.faulty = false;
            return Happening::FaultsEnd;
        }
        match self.dice.below(40) {
            0..10 => self.edit(),
            10..24 => self.hand(),
            24 => Happening::NetworkGone,
            25 => Happening::Rebuilt(self.any_image()),
            26 | 27 => {
                let name = self.any_service();
                let suffix = self.dice.pick(&["", ".new", "-other"]);
                let port = self.specs.get(&name).and_then(|wish| wish.port).unwrap_or(9999);
                Happening::Foreign(format!("shop-{name}{suffix}"), port)
            }
            28 => Happening::ForeignGone(format!("shop-{}", self.any_service())),
            29..35 if self.calm => self.hand(),
            29 => Happening::EventsCut,
            30 | 31 => {
                self.faulty = true;
                Happening::FaultsBegin
            }
            32 if !self.gone && !self.hung => Happening::EngineRestarts,
            33 if !self.gone && !self.hung => {
                self.gone = true;
                Happening::EngineGoes { containers_end: self.dice.once_in(2) }
            }
            34 if !self.gone && !self.hung => {
                self.hung = true;
                Happening::EngineHangs
            }
            35 if !self.dead => {
                self.dead = true;
                Happening::ControllerKilled
            }
            36 if !self.dead => {
                self.dead = true;
                Happening::ControllerInterrupted
            }
            37 => Happening::AsksToReconcile,
            38 => Happening::AsksToReload(self.any_service()),
            39 => Happening::AsksForStatus,
            _ => self.hand(),
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

    fn hand(&mut self) -> Happening {
        use Hand::*;
        let name = self.any_service();
        let suffix = if self.dice.once_in(6) { ".new" } else { "" };
        let hands = [
            Crash, Crash, Crash, Stop, Kill, Restart, Restart, Pause, Unpause, Rename, Disconnect, Remove, Remove,
            Update,
        ];
        let hand = if self.dice.once_in(13) { MakeIll } else { self.dice.pick(&hands) };
        Happening::Hand(hand, format!("shop-{name}{suffix}"))
    }

    fn edit(&mut self) -> Happening {
        let name = self.any_service();
        let number: usize = name[1..].parse().unwrap();
        let mut what = String::new();
        match self.dice.below(16) {
            0..4 => {
                self.change(&name, |wish| wish.env += 1);
                what += &format!("{name}: env");
            }
            4 | 5 => {
                let tag = self.dice.pick(&["1", "2", "bad", "gone"]);
                self.change(&name, |wish| wish.image = format!("{name}:{tag}"));
                what += &format!("{name}: image {name}:{tag}");
            }
            6 => {
                let memory = self.dice.pick(&["64m", "128m", "256m"]);
                self.change(&name, |wish| wish.memory = memory);
                what += &format!("{name}: memory {memory}");
            }
            7 if self.specs.len() > 2 => {
                self.specs.remove(&name);
                for wish in self.specs.values_mut() {
                    wish.needs.remove(&name);
                }
                what += &format!("{name}: removed");
            }
            8 | 9 => {
                let added = usize::try_from(self.dice.below(SERVICES as u64)).unwrap();
                let lower: Specs =
                    self.specs.clone().into_iter().filter(|(name, _)| **name < *format!("s{added}")).collect();
                let wish = wish(self.dice, added, &lower);
                what += &format!("s{added}: added or all of it changed");
                self.specs.insert(format!("s{added}"), wish);
            }
            10 => {
                let lower: Vec<String> = self.specs.keys().filter(|other| **other < name).cloned().collect();
                let needs = needs(self.dice, &lower);
                what += &format!("{name}: needs {needs:?}");
                self.change(&name, |wish| wish.needs = needs);
            }
            11 => {
                let other = self.any_service();
                let (one, two) = (self.specs[&name].port, self.specs[&other].port);
                self.change(&name, |wish| wish.port = two);
                self.change(&other, |wish| wish.port = one);
                what += &format!("{name} and {other} swap ports");
            }
            12 => {
                let restart = self.dice.pick(&[RestartPolicy::No, RestartPolicy::Always, RestartPolicy::OnFailure(2)]);
                self.change(&name, |wish| wish.restart = restart);
                what += &format!("{name}: restart {restart:?}");
            }
            13 => {
                self.broken += 1;
                let broken = self.broken / 2;
                return Happening::Saved(Found::Broken(broken), format!("broken {broken}"));
            }
            14 => return Happening::Saved(Found::Empty, "empty".into()),
            15 if self.dice.once_in(2) => return Happening::Touched,
            15 => {
                let mut half = self.specs.clone();
                half.retain(|_, _| self.dice.once_in(2));
                let names: BTreeSet<String> = half.keys().cloned().collect();
                for wish in half.values_mut() {
                    wish.needs.retain(|other, _| names.contains(other));
                }
                return Happening::HalfSaved(half);
            }
            _ => {
                self.change(&name, |wish| wish.anonymous_volume = !wish.anonymous_volume);
                what += &format!("{name}: volume {number}");
            }
        }
        // Specs in which two services want one port are not valid.
        let mut taken = BTreeSet::new();
        for wish in self.specs.values_mut() {
            wish.port = wish.port.filter(|port| taken.insert(*port));
        }
        Happening::Saved(Found::Specs(self.specs.clone()), what)
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut Wish)) {
        if let Some(wish) = self.specs.get_mut(name) {
            change(wish);
        }
    }
}

fn wish(dice: &mut Rng, n: usize, lower: &Specs) -> Wish {
    let lower: Vec<String> = lower.keys().cloned().collect();
    let ping = !dice.once_in(3);
    Wish {
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
        it.exec = Script::Answers(dice.time_below(Duration::from_millis(1500)));
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
            it.exits_in = 1 + dice.below(4);
        }),
        2 => image.behaving(|it| it.exits = Some((later, 0))),
        3 => image.behaving(|it| it.exec = Script::Ends(1, "never".into())),
        4 => image.behaving(|it| it.exec = Script::Hangs),
        5 => image.behaving(|it| it.exec = Script::AnswersUntil(later)),
        6 => image.healthcheck(Some(soon)).behaving(|it| it.unhealthy = Some(soon + later)),
        _ => image.behaving(|it| it.unstartable = Some("no such program".into())),
    }
}
