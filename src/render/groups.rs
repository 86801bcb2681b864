//! The groups of an engine: the table of `ls`, and JSON.

use serde_json::{Value, json};

use super::{Text, count, table};

/// A group on the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub name: String,
    /// Spec directories that own it.
    pub directories: Vec<(String, Home)>,
    pub containers: usize,
    pub running: usize,
    /// Names of its networks.
    pub networks: Vec<String>,
}

/// Whether a spec directory exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Home {
    Exists,
    Gone,
    /// It cannot be read, or is on another machine.
    Unknown,
}

impl Group {
    /// Returns true if the group has one spec directory, and it no longer exists.
    pub fn is_gone(&self) -> bool {
        matches!(self.directories[..], [(_, Home::Gone)])
    }

    /// `group blog: 2 containers (1 running), network blog, of /home/ann/blog/specs`.
    pub fn describe(&self) -> String {
        let networks = self.networks.iter().map(|network| format!(", network {network}")).collect::<String>();
        let directories: Vec<&str> = self.directories.iter().map(|(directory, _)| directory.as_str()).collect();
        let containers = count(self.containers, "container");
        format!("group {}: {containers} ({} running){networks}, of {}", self.name, self.running, directories.join(", "))
    }
}

const HEADER: [&str; 4] = ["GROUP", "RUNNING", "NETWORKS", "DIRECTORY"];

/// The table of `ls`.
pub fn table(groups: &[Group]) -> Text {
    let row = |group: &Group| {
        let directory = |(path, home): &(String, Home)| match home {
            Home::Gone => format!("{path} (gone)"),
            Home::Exists | Home::Unknown => path.clone(),
        };
        let directories = group.directories.iter().map(directory).collect::<Vec<_>>().join(", ");
        let running = format!("{}/{}", group.running, group.containers);
        [group.name.clone(), running, group.networks.join(", "), directories]
    };
    table::table(HEADER, groups.iter().map(row).collect(), |_, _| None)
}

/// The JSON of `ls` and `prune`.
pub fn to_json(groups: &[Group]) -> Value {
    let directory = |(path, home): &(String, Home)| {
        let exists = match home {
            Home::Exists => Some(true),
            Home::Gone => Some(false),
            Home::Unknown => None,
        };
        json!({ "path": path, "exists": exists })
    };
    let group = |group: &Group| {
        json!({
            "name": group.name,
            "directories": group.directories.iter().map(directory).collect::<Vec<_>>(),
            "containers": group.containers,
            "running": group.running,
            "networks": group.networks,
        })
    };
    json!({ "groups": groups.iter().map(group).collect::<Vec<_>>() })
}
