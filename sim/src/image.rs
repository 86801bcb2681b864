//! Images, and what their programs do when they run.

use std::collections::BTreeMap;
use std::time::Duration;

use drillmaster::observed::ImageFacts;

/// How the program of an image behaves, from the moment its container is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behaviour {
    /// When it ends by itself, and with what exit code.
    pub exits: Option<(Duration, i64)>,
    /// In how many lives of a container it does so; in the later ones it runs until it is stopped.
    pub exits_in: u64,
    /// In so many lives it ends with 1, whatever it ends with otherwise.
    pub fails_in: u64,
    /// Lines that it writes, and when.
    pub output: Vec<(Duration, String)>,
    /// The outputs that it leaves in its file when it ends: `key=value` lines.
    pub gives: String,
    /// What a command executed in the container finds.
    pub exec: Script,
    /// What the commands of these programs find instead.
    pub programs: BTreeMap<String, Script>,
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
            exits_in: u64::MAX,
            fails_in: 0,
            output: Vec::new(),
            gives: String::new(),
            exec: Script::Answers(Duration::ZERO),
            programs: BTreeMap::new(),
            healthy: Some(Duration::from_secs(1)),
            unhealthy: None,
            slow_start: Duration::ZERO,
            stops: Duration::ZERO,
            unstartable: None,
        }
    }
}

impl Behaviour {
    /// What a command of this program does.
    pub(crate) fn script(&self, program: Option<&String>) -> &Script {
        program.and_then(|program| self.programs.get(program)).unwrap_or(&self.exec)
    }
}

/// What a command executed in a container does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Script {
    /// Exits with 1 until the container has run so long, then with 0.
    Answers(Duration),
    /// Exits with 0 until the container has run so long, then with 1.
    AnswersUntil(Duration),
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
