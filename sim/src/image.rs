//! Images and the behaviour of their programs.

use std::collections::BTreeMap;
use std::time::Duration;

use drillmaster::observed::ImageFacts;

/// Behaviour of an image's program. Times are relative to the start of the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behaviour {
    /// Time and exit code at which it exits by itself.
    pub exits: Option<(Duration, i64)>,
    /// Number of first starts of a container in which it exits by itself; in later ones it runs until stopped.
    pub exiting_starts: u64,
    /// Number of first starts of a container in which it exits with code 1 instead.
    pub failing_starts: u64,
    /// Output lines with their times.
    pub output: Vec<(Duration, String)>,
    /// Content of its output file when it exits: `key=value` lines.
    pub output_file: String,
    /// Result of commands executed in the container.
    pub exec: Script,
    /// Results that override `exec`, by program name.
    pub programs: BTreeMap<String, Script>,
    /// Time at which the health check, if any, reports healthy; `None` for never.
    pub healthy: Option<Duration>,
    /// Time at which the health check, if any, reports unhealthy.
    pub unhealthy: Option<Duration>,
    /// Additional latency of the start.
    pub slow_start: Duration,
    /// Time from the stop signal to its exit with code 0.
    pub stops: Duration,
    /// Error of every start, e.g. for a missing executable.
    pub unstartable: Option<String>,
}

impl Default for Behaviour {
    fn default() -> Behaviour {
        Behaviour {
            exits: None,
            exiting_starts: u64::MAX,
            failing_starts: 0,
            output: Vec::new(),
            output_file: String::new(),
            exec: Script::SucceedsAfter(Duration::ZERO),
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
    /// Returns the result of a command.
    pub(crate) fn script(&self, program: Option<&String>) -> &Script {
        program.and_then(|program| self.programs.get(program)).unwrap_or(&self.exec)
    }
}

/// Behaviour of a command executed in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Script {
    /// Exits with 1 until the container has run for this time, then with 0.
    SucceedsAfter(Duration),
    /// Exits with 0 until the container has run for this time, then with 1.
    SucceedsUntil(Duration),
    /// Exits with this code and output.
    Exits(i64, String),
    /// Never exits.
    Hangs,
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    pub id: String,
    /// Labels, which its containers inherit.
    pub labels: BTreeMap<String, String>,
    /// Declared properties.
    pub facts: ImageFacts,
    pub behaviour: Behaviour,
}

impl Image {
    /// Creates an image without declared properties, whose program runs until stopped.
    pub fn new(id: &str) -> Image {
        Image {
            id: format!("sha256:{id}"),
            labels: BTreeMap::new(),
            facts: ImageFacts::default(),
            behaviour: Behaviour::default(),
        }
    }

    /// Adds a health check that reports healthy after this time; `None` for never.
    pub fn healthcheck(mut self, healthy: Option<Duration>) -> Image {
        self.facts.healthcheck = true;
        self.behaviour.healthy = healthy;
        self
    }

    /// Declares a volume.
    pub fn volume(mut self, target: &str) -> Image {
        self.facts.volumes.push(target.to_owned());
        self
    }

    /// Changes the behaviour of the program.
    pub fn behaving(mut self, change: impl FnOnce(&mut Behaviour)) -> Image {
        change(&mut self.behaviour);
        self
    }
}
