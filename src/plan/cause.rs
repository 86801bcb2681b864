//! Causes of changes, as data: what differs between the desired and the observed state.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::observed::State;

/// Stands for a value that uses an output which is not set yet.
pub const KNOWN_AFTER_APPLY: &str = "known after apply";

/// A difference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Cause {
    /// A field of the spec.
    Field {
        /// Path of the field: `env.LOG_LEVEL`, `image`, `resources.memory`.
        path: String,
        /// Value in force; `None`: unset.
        old: Option<Value>,
        /// Value in the spec; `None`: unset.
        new: Option<Value>,
        /// The values may be secret, as those of the environment.
        secret: bool,
    },
    /// The sources of the image, with the files that changed.
    Sources {
        /// The image in use.
        old: Value,
        /// The image to build.
        new: Value,
        files: ChangedFiles,
    },
    /// The state of the container.
    State {
        /// The state it is in; `None`: it was removed.
        found: Option<State>,
        /// The state it should be in.
        wanted: WantedState,
    },
    /// The name of the container.
    Name {
        /// Its name.
        found: Option<String>,
        /// The name it should have; `None`: it is surplus.
        wanted: Option<String>,
    },
    /// The network of the container.
    Network {
        /// Id of the network it is attached to instead; `None`: it is detached.
        found: Option<String>,
        /// Name of the group's network.
        wanted: String,
    },
    /// No container has the service's name yet.
    NoContainer {
        /// The candidate that is not ready yet, by name.
        candidate: Option<String>,
        /// The service's container name.
        wanted: String,
    },
    /// A dependency with `restart: true` is started or replaced, or one that a job reruns with was replaced.
    Dependency(String),
    /// `drillmaster reload`, or a job that is run again.
    Reload,
    /// The container is unhealthy.
    Unhealthy,
    /// A mounted file changed.
    MountedFile {
        /// Path on the host, as written in the spec.
        source: String,
        /// Path in the container.
        target: String,
    },
    /// The image is of an earlier build and no longer used.
    EarlierBuild,
    /// None of the service's profiles is active.
    Profiles(BTreeSet<String>),
}

/// The first of several files, and how many more there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedFiles {
    /// Paths relative to the build context.
    pub first: Vec<String>,
    pub more: usize,
}

impl ChangedFiles {
    /// Three files are all named; of more, the first two.
    pub fn of(files: &[String]) -> ChangedFiles {
        let first = if files.len() > 3 { &files[..2] } else { files };
        ChangedFiles { first: first.to_vec(), more: files.len() - first.len() }
    }
}

impl fmt::Display for ChangedFiles {
    /// `src/main.py, README.md and 3 more`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.first.join(", "))?;
        if self.more > 0 {
            write!(f, " and {} more", self.more)?;
        }
        Ok(())
    }
}

/// The state that a container should be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WantedState {
    /// Running.
    Running,
    /// Exited with 0, as a job does.
    Succeeded,
    /// Stopped by `drillmaster stop`.
    Stopped,
}

impl Cause {
    /// A field of the spec whose values may be shown.
    pub fn field(path: &str, old: Option<&str>, new: Option<&str>) -> Cause {
        Cause::Field { path: path.to_owned(), old: old.map(Value::from), new: new.map(Value::from), secret: false }
    }

    /// A container that should be running.
    pub fn not_running(found: State) -> Cause {
        Cause::State { found: Some(found), wanted: WantedState::Running }
    }

    /// Path of what differs: a field of the spec, or `state`, `name`, `network`, `container`, `dependencies.<name>`,
    /// `reload`, `health`, `volumes.<path in the container>`, `builds`.
    pub fn path(&self) -> Cow<'_, str> {
        match self {
            Cause::Field { path, .. } => path.into(),
            Cause::Sources { .. } => "build".into(),
            Cause::State { .. } => "state".into(),
            Cause::Name { .. } => "name".into(),
            Cause::Network { .. } => "network".into(),
            Cause::NoContainer { .. } => "container".into(),
            Cause::Dependency(name) => format!("dependencies.{name}").into(),
            Cause::Reload => "reload".into(),
            Cause::Unhealthy => "health".into(),
            Cause::MountedFile { target, .. } => format!("volumes.{target}").into(),
            Cause::EarlierBuild => "builds".into(),
            Cause::Profiles(_) => "profiles".into(),
        }
    }
}

/// `env.LOG_LEVEL changed`; more than three are counted.
pub fn fields(causes: &[Cause]) -> String {
    let paths: Vec<Cow<'_, str>> = causes.iter().map(Cause::path).collect();
    match (causes, paths.as_slice()) {
        ([Cause::Reload], _) => "requested".to_owned(),
        ([Cause::Unhealthy], _) => "unhealthy".to_owned(),
        ([Cause::MountedFile { source, .. }], _) => format!("mounted file {source} changed"),
        ([Cause::Field { path, .. }], _) if path == "build" => "sources changed".to_owned(),
        ([Cause::Sources { files, .. }], _) => format!("sources changed: {files}"),
        ([Cause::Field { path, .. }], _) if path == "rerun" => "rerun: always".to_owned(),
        (_, [first, second, third, rest @ ..]) if !rest.is_empty() => {
            format!("{first}, {second}, {third} and {} more changed", rest.len())
        }
        (_, paths) => format!("{} changed", paths.join(", ")),
    }
}
