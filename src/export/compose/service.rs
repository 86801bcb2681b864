//! The entry of a service or job.

use std::collections::{BTreeMap, BTreeSet};

use serde_yaml::{Mapping, Value as Yaml};

use super::fields::{FIELDS, Rule};
use super::output::{Item, Line, entry, is_empty, map, yaml};
use super::paths::Directories;
use super::written::{PLACE, Unsaid, Written};
use crate::identity;
use crate::spec::build::Dockerfile;
use crate::spec::model::{
    Build, DEFAULT_NETWORK, DeviceRequest, FileUse, Kind, MemorySwap, OnFailure, Order, Pull, Rerun, Resources,
    RestartPolicy, SecurityOpt, Service, Update,
};
use crate::spec::node::Value;
use crate::spec::value::{Period, Text};
use crate::spec::{Diagnostic, Loaded};

/// What all services of the file share.
pub(super) struct Project<'a> {
    /// Name of the group.
    pub group: &'a str,
    pub directories: Directories<'a>,
    pub functions: &'a [String],
    /// The services that are written, by name.
    pub services: BTreeMap<&'a str, &'a Loaded<Service>>,
    /// The host name of each, where drillmaster sets it.
    pub hostnames: BTreeMap<&'a str, &'a str>,
}

/// Writes the entry of a service.
pub(super) struct Writer<'a> {
    pub project: &'a Project<'a>,
    pub spec: &'a Service,
    pub written: Written<'a, Service>,
    pub lines: Vec<Line>,
    pub notes: Vec<Diagnostic>,
    /// Networks, volumes, configs and secrets of the group that the entry names.
    pub used: Used,
}

/// What services name of the group: sections of the file, and keys in them.
pub(super) type Used = BTreeSet<(&'static str, String)>;

impl<'a> Writer<'a> {
    pub fn new(project: &'a Project<'a>, loaded: &'a Loaded<Service>) -> Writer<'a> {
        let written = Written::new(loaded, loaded.spec.container.name.as_str(), project.functions);
        Writer { project, spec: &loaded.spec, written, lines: Vec::new(), notes: Vec::new(), used: Used::new() }
    }

    /// Writes all fields.
    pub fn service(mut self) -> Writer<'a> {
        for (field, rule) in FIELDS {
            self.field(field, rule);
        }
        let is_placed = |line: &Line| matches!(line, Line::Entry(key, _) if key == "networks" || key == "network_mode");
        if !self.lines.iter().any(is_placed) {
            self.used.insert(("networks", DEFAULT_NETWORK.to_owned()));
        }
        self
    }

    fn field(&mut self, field: &str, rule: &Rule) {
        let (lines, used) = (self.lines.len(), self.used.clone());
        match rule {
            Rule::Key(key, value) => self.key(field, key, value(&self.spec.container)),
            Rule::Map(key, value) => self.texts(field, key, value(&self.spec.container)),
            Rule::By(write) => write(self),
            Rule::Unsaid(reason) if self.is_set(field) => self.unsaid(field, reason),
            Rule::Unsaid(_) | Rule::Elsewhere => {}
        }
        // The value of a variable must not be written.
        if field != "name" && self.written.left(field).is_some() {
            self.lines.truncate(lines);
            self.used = used;
            self.unsaid(field, PLACE);
        }
    }

    /// Returns true if the entry has a health check, its own or one that is made of the ping.
    pub fn has_health_check(mut self) -> bool {
        for (field, rule) in FIELDS.iter().filter(|(field, _)| ["ping", "healthcheck"].contains(field)) {
            self.field(field, rule);
        }
        let is_disabled = self.spec.healthcheck.as_ref().is_some_and(|check| check.disable);
        !is_disabled && self.lines.iter().any(|line| matches!(line, Line::Entry(..)))
    }

    /// Returns true if a field is written in the spec.
    fn is_set(&self, field: &str) -> bool {
        self.written.node(field).is_some_and(|node| !node.is_null())
    }

    fn key(&mut self, field: &str, key: &str, value: Yaml) {
        let value = self.written.value(field, value);
        self.add(field, key, value);
    }

    /// Writes an entry unless it is empty, or why it cannot be written.
    pub fn add(&mut self, field: &str, key: &str, value: Result<Yaml, Unsaid>) {
        match value {
            Ok(value) if is_empty(&value) => {}
            Ok(value) => self.lines.push(entry(key, value)),
            Err(unsaid) => self.refuse(field, unsaid),
        }
    }

    pub fn refuse(&mut self, field: &str, unsaid: Unsaid) {
        let lines = self.refused(field, unsaid);
        self.lines.extend(lines);
    }

    /// Notes why a field cannot be written; returns the comment.
    pub fn refused(&mut self, field: &str, unsaid: Unsaid) -> Vec<Line> {
        let (note, comment) = self.written.unsaid(field, unsaid);
        self.notes.push(note);
        comment.into_iter().map(Line::Comment).collect()
    }

    pub fn unsaid(&mut self, path: &str, reason: &'static str) {
        self.refuse(path, Unsaid(reason));
    }

    /// Writes a map of texts; those that cannot be written are left out one by one.
    fn texts(&mut self, field: &str, key: &str, values: Yaml) {
        let Yaml::Mapping(entries) = values else { return };
        let mut lines = Vec::new();
        for (name, value) in entries {
            let name = name.as_str().unwrap_or_default().to_owned();
            let path = format!("{field}.{name}");
            match self.written.value(&path, value) {
                Ok(value) => lines.push(Line::Entry(name, Item::Value(value))),
                Err(unsaid) => lines.extend(self.refused(&path, unsaid)),
            }
        }
        self.lines.extend(map(key, lines));
    }

    /// Returns a path of the spec, as it is written in the file.
    pub fn path(&self, path: &str, value: &str) -> Result<Yaml, Unsaid> {
        let directories = self.project.directories;
        let path = match self.written.template(path)? {
            Some(template) => directories.rebased_template(&template, value)?,
            None => directories.rebased(value),
        };
        Ok(path.into())
    }

    /// Returns the path of an item of a field that is one value or a list.
    pub fn item(&self, field: &str, index: usize) -> String {
        match self.written.node(field).map(|node| &node.value) {
            Some(Value::Seq(_)) => format!("{field}.{index}"),
            _ => field.to_owned(),
        }
    }

    /// The name that the container has here, so that it cannot run under both; replicas have theirs under compose as well.
    pub fn container_name(&mut self) {
        if self.spec.replicas.is_none() {
            let name = identity::container_name(self.project.group, self.spec.container.name.as_str());
            self.lines.push(entry("container_name", name));
        }
    }

    pub fn hostname(&mut self) {
        let container = &self.spec.container;
        match &container.hostname {
            Some(hostname) => {
                let hostname = self.written.text("hostname", hostname).map(Yaml::from);
                self.add("hostname", "hostname", hostname);
            }
            None => {
                let hostname = self.project.hostnames.get(container.name.as_str());
                self.lines.extend(hostname.map(|hostname| entry("hostname", *hostname)));
            }
        }
    }

    /// A command or entrypoint: an empty one clears that of the image.
    pub fn words(&mut self, field: &str) {
        let container = &self.spec.container;
        let words = if field == "command" { &container.command } else { &container.entrypoint };
        if let Some(words) = words {
            match self.written.words(field, words) {
                Ok(words) => self.lines.push(entry(field, words)),
                Err(unsaid) => self.refuse(field, unsaid),
            }
        }
    }

    pub fn environment(&mut self) {
        let mut lines = Vec::new();
        for (name, value) in &self.spec.container.env {
            let path = format!("env.{name}");
            let Some(value) = value.as_deref() else {
                let comment = "removed, unless the environment of docker compose has it";
                lines.extend([Line::Comment(comment.to_owned()), entry(name.as_str(), Yaml::Null)]);
                continue;
            };
            match self.written.text(&path, value) {
                Ok(text) => lines.push(entry(name.as_str(), text)),
                Err(unsaid) => lines.extend(self.refused(&path, unsaid)),
            }
        }
        self.lines.extend(map("environment", lines));
    }

    pub fn env_files(&mut self) {
        let files = self.spec.container.env_file.iter().enumerate();
        let files = files.map(|(at, file)| self.path(&self.item("env_file", at), file)).collect();
        self.add("env_file", "env_file", files);
    }

    pub fn build(&mut self) {
        let Some(build) = &self.spec.container.build else { return };
        let value = self.build_value(build).map(|fields| match fields.len() {
            1 => fields.into_iter().next().map_or(Yaml::Null, |(_, context)| context),
            _ => fields.into(),
        });
        self.add("build", "build", value);
    }

    fn build_value(&self, build: &Build) -> Result<Mapping, Unsaid> {
        let Build { context, dockerfile, target, args, labels } = build;
        let is_short = self.written.node("build").is_some_and(|node| node.text().is_some());
        let mut fields = Mapping::new();
        fields.insert("context".into(), self.path(if is_short { "build" } else { "build.context" }, context)?);
        let dockerfile = match dockerfile {
            Dockerfile::File(path) => {
                ("dockerfile", Some(path).filter(|_| self.written.node("build.dockerfile").is_some()))
            }
            Dockerfile::Inline(text) => ("dockerfile_inline", Some(text)),
        };
        for (key, value) in [dockerfile, ("target", target.as_ref())] {
            if let Some(value) = value {
                fields.insert(key.into(), self.written.text(&format!("build.{key}"), value)?.into());
            }
        }
        let maps =
            [("args", self.written.value("build.args", args)), ("labels", self.written.value("build.labels", labels))];
        for (key, value) in maps {
            let value = value?;
            if !is_empty(&value) {
                fields.insert(key.into(), value);
            }
        }
        Ok(fields)
    }

    pub fn pull(&mut self) {
        let policy = match self.spec.container.pull {
            Pull::Missing => return,
            Pull::Always => "always".to_owned(),
            Pull::Never => "never".to_owned(),
            Pull::Every(every) => format!("every_{every}"),
        };
        self.key("pull", "pull_policy", policy.into());
    }

    pub fn security_options(&mut self) {
        let options = self.spec.container.security_opt.iter().enumerate();
        let options = options.map(|(at, option)| {
            let path = format!("security_opt.{at}");
            match option {
                SecurityOpt::Text(text) => self.written.text(&path, text).map(Yaml::from),
                SecurityOpt::Seccomp(_) => Err(Unsaid("docker compose reads seccomp profiles from files only")),
                // As a path, its variables have their places in the text.
                SecurityOpt::SeccompFile(_) if self.written.template(&path)?.is_some() => Err(Unsaid(PLACE)),
                SecurityOpt::SeccompFile(file) => {
                    Ok(format!("seccomp={}", self.project.directories.rebased(file)).into())
                }
            }
        });
        let options = options.collect();
        self.add("security_opt", "security_opt", options);
    }

    pub fn gpus(&mut self) {
        let requests = self.spec.container.gpus.iter().flat_map(|gpus| &gpus.0);
        let requests: Vec<DeviceRequest> = requests
            .map(|request| {
                let mut request = request.clone();
                if request.capabilities.is_empty() {
                    request.capabilities.extend("gpu".parse::<Text>());
                }
                request
            })
            .collect();
        self.add("gpus", "gpus", self.written.value("gpus", requests));
    }

    pub fn resources(&mut self) {
        let Resources {
            memory,
            cpus,
            pids,
            memory_reservation,
            memory_swap,
            cpu_shares,
            cpuset,
            cpuset_mems,
            cpu_period,
            cpu_quota,
            cpu_rt_period,
            cpu_rt_runtime,
        } = &self.spec.container.resources;
        // As text, compose rejects it.
        let swap = match memory_swap {
            Some(MemorySwap::Unlimited) => Yaml::from(-1),
            swap => yaml(swap),
        };
        for (field, key, value) in [
            ("memory", "mem_limit", yaml(memory)),
            ("memory_reservation", "mem_reservation", yaml(memory_reservation)),
            ("memory_swap", "memswap_limit", swap),
            ("cpus", "cpus", yaml(cpus)),
            ("cpu_shares", "cpu_shares", yaml(cpu_shares)),
            ("cpuset", "cpuset", yaml(cpuset)),
            ("cpu_period", "cpu_period", yaml(cpu_period)),
            ("cpu_quota", "cpu_quota", yaml(cpu_quota)),
            ("cpu_rt_period", "cpu_rt_period", yaml(cpu_rt_period)),
            ("cpu_rt_runtime", "cpu_rt_runtime", yaml(cpu_rt_runtime)),
            ("pids", "pids_limit", yaml(pids)),
        ] {
            self.key(&format!("resources.{field}"), key, value);
        }
        if cpuset_mems.is_some() {
            self.unsaid("resources.cpuset_mems", "docker compose has no memory nodes");
        }
    }

    pub fn restart(&mut self) {
        match self.spec.kind {
            Kind::Job(job) => {
                let retries = job.retries;
                let policy = if retries == 0 { "no".to_owned() } else { format!("on-failure:{retries}") };
                let template = self.written.template("retries").map(|template| match template {
                    Some(template) => format!("on-failure:{template}"),
                    None => policy,
                });
                self.add("retries", "restart", template.map(Yaml::from));
            }
            Kind::Service if self.spec.restart == RestartPolicy::No && self.written.left("restart").is_none() => {}
            Kind::Service => self.key("restart", "restart", self.spec.restart.to_string().into()),
        }
    }

    pub fn rerun(&mut self) {
        let Kind::Job(job) = self.spec.kind else { return };
        let how = match job.rerun {
            Rerun::Always => return,
            Rerun::Never => "docker compose runs it again in every `up`, not only after a change",
            Rerun::WithDependencies => "docker compose runs it again in every `up`",
        };
        self.unsaid("rerun", how);
    }

    /// Replicas and the order of replacing.
    pub fn deploy(&mut self) {
        let replicas = self.written.value("replicas", self.spec.replicas);
        let replicas = match replicas {
            Ok(replicas) => replicas,
            Err(unsaid) => return self.refuse("replicas", unsaid),
        };
        let mut deploy = Mapping::new();
        if !replicas.is_null() {
            deploy.insert("replicas".into(), replicas);
        }
        if self.spec.update.order == Order::StartFirst {
            let order = Mapping::from_iter([(Yaml::from("order"), Yaml::from("start-first"))]);
            deploy.insert("update_config".into(), order.into());
        }
        if !deploy.is_empty() {
            self.lines.push(entry("deploy", deploy));
        }
    }

    pub fn update(&mut self) {
        let Update { order: _, min_ready, on_failure } = self.spec.update;
        if min_ready.is_some_and(|time: Period| !time.get().is_zero()) {
            self.unsaid("update.min_ready", "docker compose does not wait before it removes the old container");
        }
        if on_failure == OnFailure::Keep {
            self.unsaid("update.on_failure", "docker compose does not keep a container that failed");
        }
    }

    /// Configs or secrets.
    pub fn files(&mut self, field: &'static str) {
        let container = &self.spec.container;
        let uses = if field == "configs" { &container.configs } else { &container.secrets };
        let files = uses.iter().enumerate();
        let files: Result<Yaml, Unsaid> =
            files.map(|(at, file)| self.file(&format!("{field}.{at}"), field, file)).collect();
        if files.is_ok() {
            self.used.extend(uses.iter().map(|file| (field, file.source.to_string())));
        }
        self.add(field, field, files);
    }

    fn file(&self, path: &str, field: &str, file: &FileUse) -> Result<Yaml, Unsaid> {
        let FileUse { source, target, uid, gid, mode } = file;
        if target.is_none() && !file.has_permissions() {
            return Ok(source.as_str().into());
        }
        let mut fields = Mapping::from_iter([(Yaml::from("source"), Yaml::from(source.as_str()))]);
        if let Some(target) = target {
            // Relative to the root directory, which compose does not know.
            let is_bare = field == "configs" && !target.starts_with('/');
            let target = self.written.text(&format!("{path}.target"), target)?;
            fields.insert("target".into(), if is_bare { format!("/{target}") } else { target }.into());
        }
        for (key, value) in [
            ("uid", uid.map(|uid| uid.to_string())),
            ("gid", gid.map(|gid| gid.to_string())),
            ("mode", mode.map(|mode| mode.to_string())),
        ] {
            if let Some(value) = value {
                fields.insert(key.into(), self.written.text(&format!("{path}.{key}"), &value)?.into());
            }
        }
        Ok(fields.into())
    }
}
