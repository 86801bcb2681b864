//! An override that makes a stack run without its images: with a small image, and without what this machine may lack.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use drillmaster::spec::compose::Project;
use drillmaster::spec::node::Node;
use serde_json::{Value, json};

use super::snapshot::{docker, try_docker};
use crate::config::print;

const IMAGE: &str = "drillmaster/busybox:1";

/// Ends when it is told to, by whatever signal; the command of the service is its arguments.
const WAIT: &str = "trap 'exit 0' HUP INT QUIT TERM USR1 USR2 WINCH; sleep 3600 & wait";

/// An override, and the external objects that it names.
pub struct StandIn {
    pub text: String,
    pub external: Vec<(&'static str, String)>,
}

/// A network or volume from outside of the project, removed when dropped.
pub struct External(&'static str, String);

impl External {
    pub fn create((kind, name): (&'static str, String)) -> External {
        docker(&[kind, "create", &name]);
        External(kind, name)
    }
}

impl Drop for External {
    fn drop(&mut self) {
        docker(&[self.0, "rm", &self.1]);
    }
}

/// What the engine and its machine can do.
pub struct Machine {
    has_start_interval: bool,
    /// Options of `docker run`, and whether a container with them starts.
    allowed: RefCell<BTreeMap<String, bool>>,
}

impl Machine {
    pub fn new() -> Machine {
        let version = docker(&["version", "--format", "{{.Server.APIVersion}}"]);
        let minor: u32 = version.trim().rsplit('.').next().unwrap().parse().unwrap();
        Machine { has_start_interval: minor >= 44, allowed: RefCell::default() }
    }

    /// Returns true if a container with this option starts: machines that are containers themselves lack rights.
    fn allows(&self, option: &str) -> bool {
        let try_it = || try_docker(&["run", "--rm", option, IMAGE, "true"]).is_ok();
        *self.allowed.borrow_mut().entry(option.to_owned()).or_insert_with(try_it)
    }
}

/// The names of the networks whose addresses are set.
pub fn networks_with_ranges(project: &Project, name: &str) -> BTreeSet<String> {
    let networks = project.root.get("networks").into_iter().flat_map(Node::entries);
    let with = networks.filter(|network| network.value.get("ipam").is_some_and(|ipam| ipam.get("config").is_some()));
    with.flat_map(|network| [format!("{name}_{}", network.key.text), resource_name(project, network.key.text.as_str())])
        .collect()
}

/// A name of the project's in place of a fixed one.
fn resource_name(project: &Project, key: &str) -> String {
    format!("{}_own_{key}", project.name)
}

impl StandIn {
    pub fn new(project: &Project, directory: &Path, machine: &Machine) -> StandIn {
        let config = print(project);
        let services = config["services"].as_object().unwrap();
        let (mut jobs, mut healthy) = (BTreeSet::new(), BTreeSet::new());
        for service in services.values() {
            for (name, dependency) in service["depends_on"].as_object().into_iter().flatten() {
                match dependency["condition"].as_str() {
                    Some("service_completed_successfully") => jobs.insert(name.clone()),
                    Some("service_healthy") => healthy.insert(name.clone()),
                    _ => false,
                };
            }
        }
        let mut text = "services:\n".to_owned();
        for (name, service) in services {
            writeln!(text, "  {}:", json!(name)).unwrap();
            let mut lines = service_lines(service, jobs.contains(name), healthy.contains(name), machine);
            if let Some(own) = service["container_name"].as_str() {
                lines.push(format!("container_name: {}", json!(format!("{}_{own}", project.name))));
            }
            let moved = moved_mounts(service, directory);
            if !moved.is_empty() {
                lines.push(format!("volumes: {}", json!(moved)));
            }
            lines.iter().for_each(|line| writeln!(text, "    {line}").unwrap());
        }
        let mut external = Vec::new();
        for (section, kind) in [("networks", "network"), ("volumes", "volume")] {
            let renamed = renamed(project, &config[section], section);
            if renamed.is_empty() {
                continue;
            }
            writeln!(text, "{section}:").unwrap();
            for (key, is_external) in renamed {
                let name = resource_name(project, &key);
                writeln!(text, "  {}: {{name: {}}}", json!(key), json!(name)).unwrap();
                if is_external {
                    external.push((kind, name));
                }
            }
        }
        for section in ["secrets", "configs"] {
            for definition in config[section].as_object().into_iter().flat_map(|map| map.values()) {
                place(definition["file"].as_str(), directory);
            }
        }
        StandIn { text, external }
    }
}

/// The resources with fixed names, and whether they are external.
fn renamed(project: &Project, resources: &Value, section: &str) -> Vec<(String, bool)> {
    let all = resources.as_object().into_iter().flatten();
    let renamed = all.filter_map(|(key, resource)| {
        let definition = project.root.get(section).and_then(|section| section.get(key))?;
        let is_external = resource["external"] == true;
        let has_name = definition
            .get("name")
            .is_some_and(|name| name.text().is_some_and(|name| name != format!("{}_{key}", project.name)));
        (is_external || has_name).then(|| (key.clone(), is_external))
    });
    renamed.collect()
}

fn service_lines(service: &Value, is_job: bool, is_waited_for: bool, machine: &Machine) -> Vec<String> {
    let script = if is_job { "exit 0" } else { WAIT };
    let mut lines = vec![
        format!("image: {}", json!(IMAGE)),
        format!("entrypoint: {}", json!(["sh", "-c", script, "sh"])),
        "build: !reset null".to_owned(),
        "pull_policy: !reset null".to_owned(),
    ];
    let check = &service["healthcheck"];
    if check["disable"] != true && (!check["test"].is_null() || is_waited_for) {
        let start_interval = if machine.has_start_interval { "" } else { ", start_interval: !reset null" };
        lines.push(format!("healthcheck: {{test: [CMD, \"true\"], interval: 1s{start_interval}}}"));
    }
    if service["privileged"] == true && !machine.allows("--privileged") {
        lines.push("privileged: false".to_owned());
    }
    let is_too_high = |(name, limit): &(&String, &Value)| {
        let values = ["soft", "hard"].map(|kind| limit.get(kind).unwrap_or(limit).to_string());
        !machine.allows(&format!("--ulimit={name}={}", values.join(":")))
    };
    let limits = service["ulimits"].as_object().into_iter().flatten().filter(is_too_high);
    let limits: Vec<String> = limits.map(|(name, _)| format!("{}: !reset null", json!(name))).collect();
    if !limits.is_empty() {
        lines.push(format!("ulimits: {{{}}}", limits.join(", ")));
    }
    let capabilities: Vec<&str> =
        service["cap_add"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let allowed = |name: &&&str| machine.allows(&format!("--cap-add={name}"));
    let allowed: Vec<&str> = capabilities.iter().filter(allowed).copied().collect();
    if allowed != capabilities {
        lines.push(format!("cap_add: !override {}", json!(allowed)));
    }
    let is_known = |user: &str| {
        let user = user.split(':').next().unwrap();
        user.parse::<u32>().is_ok() || ["root", "nobody"].contains(&user)
    };
    if service["user"].as_str().is_some_and(|user| !is_known(user)) {
        lines.push("user: nobody".to_owned());
    }
    if service["gpus"].is_array() {
        lines.push("gpus: !reset null".to_owned());
    }
    if service["runtime"].is_string() {
        lines.push("runtime: !reset null".to_owned());
    }
    if service["deploy"]["resources"]["reservations"]["devices"].is_array() {
        lines.push("deploy: {resources: {reservations: {devices: !reset null}}}".to_owned());
    }
    let devices: Vec<&Value> = service["devices"].as_array().into_iter().flatten().collect();
    if devices.iter().any(|device| !Path::new(device["source"].as_str().unwrap_or_default()).exists()) {
        lines.push("devices: !reset null".to_owned());
    }
    lines
}

/// Bind mounts of what is missing outside of the stack, which would be made there: below the directory instead.
fn moved_mounts(service: &Value, directory: &Path) -> Vec<Value> {
    let mounts = service["volumes"].as_array().into_iter().flatten().filter(|mount| mount["type"] == "bind");
    let moved = mounts.filter_map(|mount| {
        let source = mount["source"].as_str()?;
        if mount["bind"]["create_host_path"] != true {
            place(Some(source), directory);
        }
        let is_outside = !Path::new(source).starts_with(directory) && !Path::new(source).exists();
        let mut mount = mount.clone();
        mount["source"] = format!("{}/outside{source}", directory.display()).into();
        is_outside.then_some(mount)
    });
    moved.collect()
}

/// Makes an empty file in the copy of the stack, unless it is there.
fn place(file: Option<&str>, directory: &Path) {
    let Some(file) = file.map(Path::new).filter(|file| file.starts_with(directory) && !file.exists()) else { return };
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, "").unwrap();
}
