//! What people write: the kinds and their fields, parsed into types in which a wrong value cannot be held.
//!
//! Fields that can be written in a short and a long form are read in `short`. The same types give the JSON Schema (`drillmaster schema`). They say nothing about the engine and hold nothing
//! that depends on the machine: variables are already replaced when a document is read into them, names are not yet
//! prefixed with the group, files that they name are not yet read.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::build::Build;
use super::hook::{GroupOn, HostHook, JobOn, On};
pub use super::hook::{Hook, HookAction, HttpRequest, Method};
use super::short;
use super::starlark::Function;
use super::value::{
    ByteSize, Capability, CpuCount, EnvName, ImageRef, Name, OneOrMany, OutputKey, Pattern, Period, Signal, Text, Words,
};

/// Declares what a Service and a Job share once: [`ContainerFields`], and with their own fields the documents as they are
/// written. serde's `flatten` would lose the place of an error.
macro_rules! container_kinds {
    ($($(#[$doc:meta])* $field:ident: $type:ty,)*) => {
        /// Fields that services and jobs share: everything that describes a container.
        #[derive(Debug, Clone, PartialEq)]
        pub struct ContainerFields {
            /// Name within the group; also the host name on the group's network.
            pub name: Name,
            $($(#[$doc])* pub $field: $type,)*
        }

        /// `kind: Service`, the default kind: a container that keeps running.
        #[derive(Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        #[schemars(extend("anyOf" = [{"required": ["image"]}, {"required": ["build"]}]))]
        pub struct ServiceDocument {
            /// Name within the group; also the host name on the group's network.
            name: Name,
            $($(#[$doc])* #[serde(default)] $field: $type,)*
            /// How to tell that the service is ready.
            #[serde(default)]
            ping: Option<Ping>,
            /// What to do while the service runs and its ping stops answering. Takes effect while watching.
            #[serde(default)]
            health: Option<Health>,
            /// The engine's own health check, in place of the image's HEALTHCHECK.
            #[serde(default)]
            healthcheck: Option<Healthcheck>,
            /// What to do once for each created container, after its first ping that answered and before its dependents start.
            /// When it fails, the service has failed.
            #[serde(default)]
            post_start: OneOrMany<Hook>,
            /// What to do before the container is stopped.
            #[serde(default)]
            pre_stop: OneOrMany<Hook>,
            /// What to do after the container was stopped.
            #[serde(default)]
            post_stop: OneOrMany<HostHook>,
            /// What to do when the state of the service changes.
            #[serde(default)]
            on: On,
            /// The engine's restart policy, in Docker's words.
            #[serde(default)]
            restart: RestartPolicy,
            /// How a container is replaced by a new one.
            #[serde(default)]
            update: Update,
            /// How many containers there are, numbered from 1, all under the service's name on the network. One without a number
            /// unless set.
            #[serde(default)]
            #[schemars(range(max = 1000))]
            replicas: Option<u32>,
        }

        /// `kind: Job`: a container that runs to completion.
        #[derive(Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        #[schemars(extend("anyOf" = [{"required": ["image"]}, {"required": ["build"]}]))]
        pub struct JobDocument {
            /// Name within the group; also the host name on the group's network.
            name: Name,
            $($(#[$doc])* #[serde(default)] $field: $type,)*
            /// How often to try again after a failure; 0 unless set.
            #[serde(default)]
            retries: u32,
            /// When to run again after a success; `never` unless set. After a change that makes a new container it always is.
            #[serde(default)]
            rerun: Rerun,
            /// Makes an output of what the job writes to its standard output: others refer to it as `${context.key}`.
            #[serde(default)]
            capture: Option<OutputKey>,
            /// What to do when the job has ended.
            #[serde(default)]
            on: JobOn,
        }

        impl From<ServiceDocument> for Service {
            fn from(document: ServiceDocument) -> Self {
                Self {
                    kind: Kind::Service,
                    capture: None,
                    ping: document.ping,
                    health: document.health,
                    healthcheck: document.healthcheck,
                    post_start: document.post_start,
                    pre_stop: document.pre_stop,
                    post_stop: document.post_stop,
                    on: document.on,
                    restart: document.restart,
                    update: document.update,
                    replicas: document.replicas,
                    container: ContainerFields { name: document.name, $($field: document.$field,)* },
                }
            }
        }

        impl From<JobDocument> for Service {
            fn from(document: JobDocument) -> Self {
                Self {
                    kind: Kind::Job(Job { retries: document.retries, rerun: document.rerun }),
                    capture: document.capture,
                    on: On { succeeded: document.on.succeeded, failed: document.on.failed, ..On::default() },
                    ping: None,
                    health: None,
                    healthcheck: None,
                    post_start: OneOrMany::default(),
                    pre_stop: OneOrMany::default(),
                    post_stop: OneOrMany::default(),
                    restart: RestartPolicy::No,
                    update: Update::default(),
                    replicas: None,
                    container: ContainerFields { name: document.name, $($field: document.$field,)* },
                }
            }
        }
    };
}

container_kinds! {
    /// Image to run, as in `docker run`; with `build`, the repository of what is built.
    image: Option<ImageRef>,
    /// How the image is built, where it is: a directory that holds a Dockerfile, or more in detail.
    build: Option<Build>,
    /// Arguments, in place of the image's CMD. A string is split as a shell would split it, but not run by one.
    command: Option<Words>,
    /// Program, in place of the image's ENTRYPOINT.
    entrypoint: Option<Words>,
    /// User (and group) inside the container: `name`, `uid`, `uid:gid`.
    user: Option<Text>,
    /// Working directory inside the container.
    working_dir: Option<String>,
    /// Environment of the container. Wins over `env_file`.
    env: BTreeMap<EnvName, Text>,
    /// Files of `KEY=value` lines, relative to the spec directory; a later file wins over an earlier one.
    env_file: OneOrMany<String>,
    /// Published ports: `"host:container"`, on 127.0.0.1 unless another address is written in front.
    ports: Vec<Port>,
    /// Mounts: `name:/path` (a volume of the group), `./dir:/path` (relative to the spec directory), `/path`.
    volumes: Vec<Mount>,
    /// Paths inside the container that live in memory: `/path` or `/path:options`.
    tmpfs: OneOrMany<Tmpfs>,
    /// Services that must be ready, and jobs that must have succeeded, before the container is created.
    dependencies: Vec<Dependency>,
    /// Hooks that run before a container is created. A failure fails the service or job.
    pre_start: OneOrMany<HostHook>,
    /// Signal that asks the container to stop, in place of the image's STOPSIGNAL.
    stop_signal: Option<Signal>,
    /// Time between the stop signal and SIGKILL; 10 s unless set.
    stop_timeout: Option<Period>,
    /// Limits. They are changed on the running container.
    resources: Resources,
    /// Labels of the container, beside drillmaster's own.
    labels: BTreeMap<String, Text>,
    /// Host name inside the container. Defaults to the name, with the replica's number; with `order: start-first`, to the
    /// container's id.
    hostname: Option<String>,
    /// Further names on the group's network.
    aliases: Vec<String>,
    /// Lines for /etc/hosts: `name:address`; the address may be `host-gateway`.
    extra_hosts: Vec<ExtraHost>,
    /// Linux capabilities to add.
    cap_add: Vec<Capability>,
    /// Linux capabilities to drop.
    cap_drop: Vec<Capability>,
    /// All capabilities and devices of the host.
    privileged: bool,
    /// Root file system read-only.
    read_only: bool,
    /// Run an init process that reaps zombies and forwards signals.
    init: bool,
    /// Size of /dev/shm: `64m`, `1g`.
    shm_size: Option<ByteSize>,
    /// Limits of processes, by name: `nofile: 1024` or `nofile: {soft: 1024, hard: 2048}`.
    ulimits: BTreeMap<String, Ulimit>,
    /// When to pull the image.
    pull: Pull,
}

/// A service or a job, as it was read.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(from = "ServiceDocument")]
pub struct Service {
    /// What describes its container.
    pub container: ContainerFields,
    /// How to tell that the service is ready.
    pub ping: Option<Ping>,
    /// What to do while the service runs and its ping stops answering. Takes effect while watching.
    pub health: Option<Health>,
    /// The engine's own health check, in place of the image's HEALTHCHECK.
    pub healthcheck: Option<Healthcheck>,
    /// What to do once for each created container, after its first ping that answered and before its dependents start.
    /// When it fails, the service has failed.
    pub post_start: OneOrMany<Hook>,
    /// What to do before the container is stopped.
    pub pre_stop: OneOrMany<Hook>,
    /// What to do after the container was stopped.
    pub post_stop: OneOrMany<HostHook>,
    /// What to do when the state of the service changes.
    pub on: On,
    /// The engine's restart policy, in Docker's words.
    pub restart: RestartPolicy,
    /// How a container is replaced by a new one.
    pub update: Update,
    /// How many containers there are, numbered from 1, all under the service's name on the network. One without a number
    /// unless set.
    pub replicas: Option<u32>,
    /// The kind of the document.
    pub kind: Kind,
    /// Key of the output that a job writes to its standard output.
    pub capture: Option<OutputKey>,
}

impl Service {
    /// All of its hooks, each with the field that holds it.
    pub fn hooks(&self) -> impl Iterator<Item = (&'static str, &Hook)> {
        fn named<'a>(field: &'static str, hooks: &'a [Hook]) -> impl Iterator<Item = (&'static str, &'a Hook)> {
            hooks.iter().map(move |hook| (field, hook))
        }
        fn on_host<'a>(field: &'static str, hooks: &'a [HostHook]) -> impl Iterator<Item = (&'static str, &'a Hook)> {
            hooks.iter().map(move |hook| (field, hook.get()))
        }
        on_host("pre_start", &self.container.pre_start)
            .chain(named("post_start", &self.post_start))
            .chain(named("pre_stop", &self.pre_stop))
            .chain(on_host("post_stop", &self.post_stop))
            .chain(named("on.ready", &self.on.ready))
            .chain(on_host("on.exited", &self.on.exited))
            .chain(named("on.unhealthy", &self.on.unhealthy))
            .chain(named("on.restarted", &self.on.restarted))
            .chain(named("on.replaced", &self.on.replaced))
            .chain(on_host("on.stopped", &self.on.stopped))
            .chain(on_host("on.failed", &self.on.failed))
            .chain(on_host("on.succeeded", &self.on.succeeded))
    }

    /// Keys of the outputs that it is known to give: those that are captured.
    pub fn captures(&self) -> impl Iterator<Item = &OutputKey> {
        self.capture.iter().chain(self.hooks().filter_map(|(_, hook)| hook.capture.as_ref()))
    }

    /// Keys of the outputs that it gives before its container is created.
    pub fn first_captures(&self) -> impl Iterator<Item = &OutputKey> {
        self.container.pre_start.iter().filter_map(|hook| hook.get().capture.as_ref())
    }

    /// Whether it may give outputs beside those that are captured.
    pub fn may_write_outputs(&self) -> bool {
        self.kind != Kind::Service || self.hooks().any(|(_, hook)| hook.may_write_outputs())
    }
}

/// Whether a container cannot be created before what this field says is known: everything but what is done later.
pub fn is_made_from(field: &str) -> bool {
    const LATER: [&str; 5] = ["post_start", "pre_stop", "post_stop", "on", "health"];
    !LATER.contains(&field.split('.').next().unwrap_or_default())
}

impl Hook {
    /// Whether it is told of a file to which it can write outputs.
    pub fn may_write_outputs(&self) -> bool {
        !matches!(self.action, HookAction::Http(_))
    }
}

/// The kind of a document that makes a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// It should be running.
    #[default]
    Service,
    /// It should have run.
    Job(Job),
}

impl Kind {
    /// As it is written in a spec.
    pub fn word(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::Job(_) => "Job",
        }
    }
}

/// What a Job has and a Service has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Job {
    /// How often it is tried again after it failed.
    pub retries: u32,
    /// When one that has succeeded is run again.
    pub rerun: Rerun,
}

/// When a Job that has succeeded is run again. A Job of which something changed that makes a new container always is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Rerun {
    /// Never.
    #[default]
    Never,
    /// Whenever `up` is called.
    Always,
    /// When something that it depends on was replaced or has run again.
    WithDependencies,
}

/// `kind: Group`: what holds for the whole directory. At most one document.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Name of the group, in place of the slug of the directory that holds the spec directory.
    #[serde(default)]
    pub name: Option<Name>,
    /// Name of the network of the group; the group's name unless set.
    #[serde(default)]
    pub network: Option<Name>,
    /// What to do when a command has finished.
    #[serde(default)]
    pub on: GroupOn,
}

/// A published port.
///
/// Short: `"80"` (any free host port), `"8080:80"`, `"0.0.0.0:8080:80"`, `"[::1]:8080:80"`, each with `/udp`, `/tcp`
/// or `/sctp`. Long: `{container: 80, host: 8080, address: 0.0.0.0, protocol: udp}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// Address on the host to listen on; 127.0.0.1 unless written.
    pub address: IpAddr,
    /// Port on the host; `None`: the engine picks a free one.
    pub host: Option<u16>,
    /// Port in the container.
    pub container: u16,
    /// Transport protocol.
    pub protocol: Protocol,
}

/// Transport protocol of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP, unless written otherwise.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A mount.
///
/// Short: `data:/data`, `./conf:/conf:ro`, `/data` (an anonymous volume). Long:
/// `{type: volume|bind, source: data, target: /data, read_only: true}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mount {
    /// What is mounted.
    pub source: MountSource,
    /// Absolute path in the container.
    pub target: String,
    /// Not writable from the container.
    pub read_only: bool,
}

/// What a mount shows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum MountSource {
    /// A volume without a name of ours; it moves to a replacement of the container.
    Anonymous,
    /// A volume of the group, `<group>-<name>` on the engine.
    Volume(Name),
    /// A path of the host: absolute, or relative to the spec directory (`./conf`, `../conf`), or `~/...`.
    Bind(String),
}

/// An in-memory file system: a path in the container and mount options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tmpfs {
    /// Absolute path in the container.
    pub target: String,
    /// Options as for mount(8), e.g. `size=64m,mode=1777`; may be empty.
    pub options: String,
}

/// A dependency: `appdb`, or `{name: appdb, condition: ready, restart: true}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// The service or job that is needed.
    pub name: Name,
    /// What must be true of it before the dependent is created; `None`: what its kind calls done (a Service: ready, a
    /// Job: succeeded).
    pub condition: Option<Condition>,
    /// Restart the dependent when the dependency was replaced.
    pub restart: bool,
}

/// What must be true of a dependency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// Its container runs.
    Started,
    /// Its ping has answered, and the engine calls it healthy where it has a health check. A job: it has succeeded.
    Ready,
    /// It has ended, with 0. Only a job can.
    Succeeded,
}

/// How to tell that a service is ready: one check, repeated every `interval` until it answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Ping {
    /// What is tried.
    pub check: Check,
    /// Time from one try to the next; 100 ms unless set.
    pub interval: Duration,
    /// When to give up; 300 s unless set.
    pub timeout: Duration,
}

/// One try of a ping.
#[derive(Debug, Clone, PartialEq)]
pub enum Check {
    /// `tcp: 5432`: a connection to this port of the container is accepted.
    Tcp(u16),
    /// `http: {port: 80, path: /healthz}`: a GET is answered with 2xx or 3xx, or with `status` where that is set.
    Http(HttpCheck),
    /// `exec: [pg_isready]`: a command in the container exits with 0.
    Exec(Words),
    /// `run: [./check.sh]`: a command on the host, started in the spec directory, exits with 0.
    Run(Words),
    /// `log: "ready to accept"`: a line of the container's output since its start matches this regular expression.
    Log(Pattern),
    /// A function of a program, which returns `True`.
    Function(Function),
}

/// An HTTP check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpCheck {
    /// Port in the container; 80 unless set.
    #[serde(default = "default_http_port", deserialize_with = "short::port_number")]
    #[schemars(range(min = 1))]
    pub port: u16,
    /// Path and query; `/` unless set.
    #[serde(default = "default_http_path", deserialize_with = "short::http_path")]
    #[schemars(regex(pattern = "^/"))]
    pub path: String,
    /// The only status that counts as an answer; any 2xx or 3xx unless set.
    #[serde(default, deserialize_with = "short::http_status", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 100, max = 599))]
    pub status: Option<u16>,
}

fn default_http_port() -> u16 {
    80
}

fn default_http_path() -> String {
    "/".into()
}

/// Liveness of a running service: its ping is repeated while watching.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// Time between two pings. Defaults to 10 s.
    #[serde(default)]
    pub interval: Option<Period>,
    /// Consecutive failures until the service is unhealthy. Defaults to 3.
    #[serde(default)]
    pub retries: Option<u32>,
    /// What happens when the service is unhealthy. Defaults to `restart`.
    #[serde(default)]
    pub action: HealthAction,
}

/// What happens to an unhealthy service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HealthAction {
    /// The container is restarted.
    #[default]
    Restart,
    /// The container is replaced.
    Replace,
    /// It is only shown.
    Ignore,
}

/// How a container is replaced by a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Update {
    /// Order of stopping the old and starting the new container. Defaults to `auto`.
    #[serde(default)]
    pub order: Order,
    /// How long the new one must have been ready before the old one goes; 0 unless set. One that does not stay ready for
    /// so long has failed.
    #[serde(default)]
    pub min_ready: Option<Period>,
    /// What becomes of a new one that has failed; `rollback` unless set. The old one serves again in any case.
    #[serde(default)]
    pub on_failure: OnFailure,
}

/// Which container goes first when one is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// The old container is stopped first only where both need the same host port or would write to the same volume or
    /// directory; otherwise once the new one is ready. `recreate` is accepted as well.
    #[default]
    Auto,
    /// The new one gets its names on the network once it is ready, and the old one loses them before it is stopped, so
    /// that somebody answers to them at any time.
    StartFirst,
}

/// What becomes of a replacement that has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// It is removed.
    #[default]
    Rollback,
    /// It is stopped, and stays to be looked at until the spec changes or `up` is called again.
    Keep,
}

/// The engine's health check, with Docker's words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Healthcheck {
    /// The command: a list is executed as it is, a string by the container's shell.
    #[serde(default)]
    pub test: Option<HealthcheckTest>,
    /// Time from one check to the next.
    #[serde(default)]
    pub interval: Option<Period>,
    /// Time after which a check counts as failed.
    #[serde(default)]
    pub timeout: Option<Period>,
    /// How many must fail in a row.
    #[serde(default)]
    pub retries: Option<u32>,
    /// Time after the start in which failures do not count.
    #[serde(default)]
    pub start_period: Option<Period>,
    /// Turn the image's health check off.
    #[serde(default)]
    pub disable: bool,
}

/// The command of a health check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthcheckTest {
    /// Run by the container's shell.
    Shell(String),
    /// Executed as it is.
    Exec(Vec<String>),
}

/// The engine's restart policy: `no`, `always`, `unless-stopped`, `on-failure`, `on-failure:5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RestartPolicy {
    /// Never by the engine: while watching, drillmaster brings back what should run.
    #[default]
    No,
    /// Whenever it exits, and when the engine starts.
    Always,
    /// As `always`, unless it was stopped by hand.
    UnlessStopped,
    /// When it exits with another code than 0, at most so many times (0: without end).
    OnFailure(u32),
}

/// Limits of a container.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Memory: `256m`, `1g`. At least 6 MB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,
    /// Processors, e.g. 0.5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<CpuCount>,
    /// Number of processes and threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
}

/// A line for /etc/hosts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExtraHost {
    /// Host name.
    pub name: String,
    /// An address, or `host-gateway`.
    pub address: String,
}

/// A process limit; `-1` means unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ulimit {
    /// The limit in force.
    pub soft: i64,
    /// How far the process may raise it.
    pub hard: i64,
}

/// When to pull an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Pull {
    /// When the engine does not have it.
    #[default]
    Missing,
    /// Before each new container.
    Always,
    /// Never: a missing image is an error.
    Never,
}
