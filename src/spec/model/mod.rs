//! Spec types: kinds and fields. Decoding rejects invalid values.
//!
//! `short` parses fields that have a short and a long form. The JSON Schema (`drillmaster schema`) is derived from these
//! types. Specs are independent of the engine and of the host: variables are substituted, but names do not have the
//! group's prefix yet and referenced files have not been read.

mod container;
mod devices;
mod file;
mod namespace;
mod network;
mod readiness;
mod update;
mod volume;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use container::{
    ExtraHost, HostPort, Mount, MountOptions, MountSource, OnChange, Port, Ports, Propagation, Protocol, Pull,
    Recursive, Resources, RestartPolicy, Selinux, Tmpfs, Ulimit, overlaps,
};
pub use devices::{
    BlkioConfig, ByteRate, CgroupNamespace, Device, DeviceCount, DeviceRequest, DeviceWeight, ExposedPorts, Gpus,
    HostNamespace, Logging, MemorySwap, OperationRate, SecurityOpt,
};
pub use file::{FileField, FileSource, FileUse};
pub use namespace::{IpcMode, NetworkMode, PidMode, Target};
pub use network::{ContainerNetworks, DEFAULT_NETWORK, Endpoint, GroupNetwork, Ipam, IpamRange};
pub use readiness::{Check, Health, HealthAction, Healthcheck, HealthcheckTest, HttpCheck, Ping, Scheme};
pub use update::{OnFailure, Order, Update};
pub use volume::{Entries, GroupVolume};

pub use super::build::Build;
use super::hook::{GroupOn, HostHook, JobOn, On};
pub use super::hook::{Hook, HookAction, HttpRequest, Method};
use super::value::{
    ByteSize, Capability, DeviceCgroupRule, EnvName, EnvValue, FileName, GroupName, ImageRef, IpAddress, MacAddress,
    Name, OneOrMany, OutputKey, Period, Platform, ProfileName, Signal, Subnet, Text, Words,
};

/// Declares the fields shared by Service and Job once, for [`ContainerFields`] and both documents.
/// serde's `flatten` would lose the location of an error.
macro_rules! container_kinds {
    ($($(#[doc = $doc:expr])* $(#[schemars($($schema:tt)*)])? $field:ident: $type:ty,)*) => {
        /// Fields that services and jobs share: everything that describes a container.
        #[derive(Debug, Clone, PartialEq)]
        pub struct ContainerFields {
            /// Name within the group; also the host name on the group's network.
            pub name: Name,
            $($(#[doc = $doc])* pub $field: $type,)*
        }

        /// `kind: Service`, the default kind: a container that keeps running.
        #[derive(Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        #[schemars(extend("anyOf" = [{"required": ["image"]}, {"required": ["build"]}]))]
        pub struct ServiceDocument {
            /// Name within the group; also the host name on the group's network.
            name: Name,
            $($(#[doc = $doc])* $(#[schemars($($schema)*)])? #[serde(default)] $field: $type,)*
            /// Readiness check. Without one, the service is ready after running for 0.5 s, or when its health check is healthy.
            #[serde(default)]
            ping: Option<Ping>,
            /// Liveness: what happens when the ping of a running service fails. Takes effect with `--watch`.
            #[serde(default)]
            health: Option<Health>,
            /// Docker health check. Overrides the image's HEALTHCHECK.
            #[serde(default)]
            healthcheck: Option<Healthcheck>,
            /// Time from the start until the service must be ready. Defaults to the `timeout` of the ping, or 5m without a ping.
            #[serde(default)]
            ready_timeout: Option<Period>,
            /// Hooks that run once per container, after its first successful ping and before its dependents start. A failure fails
            /// the service.
            #[serde(default)]
            post_start: OneOrMany<Hook>,
            /// Hooks that run before the container is stopped.
            #[serde(default)]
            pre_stop: OneOrMany<Hook>,
            /// Hooks that run after the container has stopped.
            #[serde(default)]
            post_stop: OneOrMany<HostHook>,
            /// Hooks that run when the state of the service changes.
            #[serde(default)]
            on: On,
            /// Docker restart policy: `no`, `always`, `unless-stopped`, `on-failure[:n]`. Defaults to `no`.
            #[serde(default)]
            restart: RestartPolicy,
            /// How the container is replaced.
            #[serde(default)]
            update: Update,
            /// Number of containers, numbered from 1; all resolve to the service name. Defaults to one container without a number.
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
            $($(#[doc = $doc])* $(#[schemars($($schema)*)])? #[serde(default)] $field: $type,)*
            /// Retries after a failure. Defaults to 0.
            #[serde(default)]
            retries: u32,
            /// When to run again after a success. Defaults to `never`. A changed job always runs again.
            #[serde(default)]
            rerun: Rerun,
            /// Key of an output that is set to the job's stdout. Other fields use it as `${context.key}`.
            #[serde(default)]
            capture: Option<OutputKey>,
            /// Hooks that run when the job has exited.
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
                    ready_timeout: document.ready_timeout,
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
                    ready_timeout: None,
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
    /// Image, as in `docker run`. With `build`, the repository of the built image.
    image: Option<ImageRef>,
    /// Build context of the image: a directory with a Dockerfile, or `{context, dockerfile, target, args, labels}`.
    build: Option<Build>,
    /// Command. Overrides the image's CMD. A string is split like a shell does, but not run by one.
    command: Option<Words>,
    /// Entrypoint. Overrides the image's ENTRYPOINT.
    entrypoint: Option<Words>,
    /// User, and optionally group: `name`, `uid`, `uid:gid`.
    user: Option<Text>,
    /// Working directory in the container.
    working_dir: Option<String>,
    /// Environment variables. Override `env_file`. Also a list of `KEY=value`; a name without a value is that of a variable.
    /// `KEY: null` removes a variable of the image.
    env: BTreeMap<EnvName, EnvValue>,
    /// Files with `KEY=value` lines, relative to the spec directory. Later files override earlier ones.
    env_file: OneOrMany<String>,
    /// Published ports: `"[address:][host:]container[/protocol]"`. The address defaults to 127.0.0.1; `*` is all addresses.
    ports: Vec<Ports>,
    /// Mounts: `name:/path` (a volume of the group), `./dir:/path` (relative to the spec directory), or `/path` (an anonymous
    /// volume).
    volumes: Vec<Mount>,
    /// tmpfs mounts: `/path` or `/path:options`.
    tmpfs: OneOrMany<Tmpfs>,
    /// Configs of the group: `app-conf`, which becomes the file `/app-conf`, or `{source, target, uid, gid, mode}`.
    configs: Vec<FileUse>,
    /// Secrets of the group: `token`, which becomes the file `/run/secrets/token`, or `{source, target, uid, gid, mode}`.
    secrets: Vec<FileUse>,
    /// Profiles. With any, it exists only if one of them is active (`--profile`) or if it is named on the command line.
    profiles: Vec<ProfileName>,
    /// Services that must be ready and jobs that must have succeeded before the container is created.
    dependencies: Vec<Dependency>,
    /// Hooks that run before a container is created. A failure fails the service or job.
    pre_start: OneOrMany<HostHook>,
    /// Signal that stops the container. Overrides the image's STOPSIGNAL.
    stop_signal: Option<Signal>,
    /// Time between the stop signal and SIGKILL. Defaults to 10 s.
    stop_timeout: Option<Period>,
    /// Resource limits. Updated in place.
    resources: Resources,
    /// Labels of the container.
    labels: BTreeMap<String, Text>,
    /// Host name inside the container. Defaults to the name, with the replica's number; to the container's id if a
    /// replacement runs beside the old container (see `update`).
    hostname: Option<String>,
    /// Additional aliases on the group's network.
    aliases: Vec<String>,
    /// Networks of the group, by name, or with settings. Defaults to `default`, the group's network.
    networks: ContainerNetworks,
    /// Network of its own kind instead of `networks`: `none`, `host`, `bridge`, `service:NAME`, `container:NAME`.
    network_mode: Option<NetworkMode>,
    /// Processes that it sees: `host`, `service:NAME`, `container:NAME`. Defaults to its own.
    pid: Option<PidMode>,
    /// Shared memory: `none`, `private`, `shareable`, `host`, `service:NAME`, `container:NAME`. Defaults to its own.
    ipc: Option<IpcMode>,
    /// Entries for /etc/hosts: `name:address`; the address may be `host-gateway`.
    extra_hosts: Vec<ExtraHost>,
    /// Linux capabilities to add.
    cap_add: Vec<Capability>,
    /// Linux capabilities to drop.
    cap_drop: Vec<Capability>,
    /// Run privileged: with all capabilities and devices of the host.
    privileged: bool,
    /// Mount the root file system read-only.
    read_only: bool,
    /// Run an init process that forwards signals and reaps processes.
    init: bool,
    /// Size of /dev/shm: `64m`, `1g`.
    shm_size: Option<ByteSize>,
    /// Ulimits by name: `nofile: 1024` or `nofile: {soft: 1024, hard: 2048}`.
    ulimits: BTreeMap<String, Ulimit>,
    /// When to pull the image. Defaults to `missing`.
    pull: Pull,
    /// Annotations for the runtime of the container. Need API 1.43 (Docker 24.0).
    annotations: BTreeMap<String, Text>,
    /// Allocate a terminal for the main process.
    tty: bool,
    /// Keep the standard input of the main process open.
    stdin_open: bool,
    /// Security options: `no-new-privileges`, `seccomp=FILE` (relative to the spec directory), `apparmor=PROFILE`, `label=…`,
    /// `systempaths=unconfined`.
    security_opt: Vec<SecurityOpt>,
    /// Kernel parameters of the container's namespaces, e.g. `net.core.somaxconn: 1024`.
    sysctls: BTreeMap<String, Text>,
    /// Devices of the host: `/dev/x[:/dev/y[:rwm]]`, or CDI devices `vendor.com/class=name`.
    devices: Vec<Device>,
    /// Rules for device nodes: `c 188:* rmw`.
    device_cgroup_rules: Vec<DeviceCgroupRule>,
    /// GPUs: `all`, a number, or a list of `{driver, count, device_ids, capabilities, options}`.
    gpus: Option<Gpus>,
    /// Additional groups of the main process: names or numbers.
    group_add: Vec<Text>,
    /// DNS servers that are asked for names outside of the network.
    dns: OneOrMany<IpAddress>,
    /// Domains that are searched for names.
    dns_search: OneOrMany<Text>,
    /// Options of the resolver, as in resolv.conf(5).
    dns_opt: OneOrMany<Text>,
    /// UTS namespace: `host` shares the host name.
    uts: Option<HostNamespace>,
    /// User namespace: `host` where the engine remaps users.
    userns_mode: Option<HostNamespace>,
    /// Control group namespace: `host` or `private`. Default: the engine's.
    cgroup: Option<CgroupNamespace>,
    /// Parent of the container's control group.
    cgroup_parent: Option<Text>,
    /// Runtime, e.g. `runsc`. Default: the engine's.
    runtime: Option<Text>,
    /// Platform of the image, e.g. `linux/arm64`. Default: that of the engine.
    platform: Option<Platform>,
    /// Log driver and its options. Default: the engine's.
    logging: Option<Logging>,
    /// Domain name inside the container.
    domainname: Option<Text>,
    /// Hardware address on the group's network.
    mac_address: Option<MacAddress>,
    /// Ports that the container listens on, as information for other programs.
    expose: OneOrMany<ExposedPorts>,
    /// Options of the storage driver, e.g. `size: 10g`.
    storage_opt: BTreeMap<String, Text>,
    /// Inclination of the kernel to swap, from 0 to 100.
    #[schemars(range(max = 100))]
    mem_swappiness: Option<u8>,
    /// Do not kill processes when memory runs out.
    oom_kill_disable: bool,
    /// Preference of the kernel for killing these processes when memory runs out, from -1000 to 1000.
    #[schemars(range(min = -1000, max = 1000))]
    oom_score_adj: Option<i16>,
    /// Block I/O: weights and limits of devices.
    blkio_config: Option<BlkioConfig>,
}

/// Spec of a service or a job.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(from = "ServiceDocument")]
pub struct Service {
    /// Fields that jobs have, too.
    pub container: ContainerFields,
    /// Readiness check. Without one, the service is ready after running for 0.5 s, or when its health check is healthy.
    pub ping: Option<Ping>,
    /// Liveness: what happens when the ping of a running service fails. Takes effect with `--watch`.
    pub health: Option<Health>,
    /// Docker health check. Overrides the image's HEALTHCHECK.
    pub healthcheck: Option<Healthcheck>,
    /// Time from the start until the service must be ready. Defaults to the `timeout` of the ping, or 5m without a ping.
    pub ready_timeout: Option<Period>,
    /// Hooks that run once per container, after its first successful ping and before its dependents start. A failure fails
    /// the service.
    pub post_start: OneOrMany<Hook>,
    /// Hooks that run before the container is stopped.
    pub pre_stop: OneOrMany<Hook>,
    /// Hooks that run after the container has stopped.
    pub post_stop: OneOrMany<HostHook>,
    /// Hooks that run when the state of the service changes.
    pub on: On,
    /// Docker restart policy: `no`, `always`, `unless-stopped`, `on-failure[:n]`. Defaults to `no`.
    pub restart: RestartPolicy,
    /// How the container is replaced.
    pub update: Update,
    /// Number of containers, numbered from 1; all resolve to the service name. Defaults to one container without a number.
    pub replicas: Option<u32>,
    /// The kind of the document.
    pub kind: Kind,
    /// Key of the output that is set to a job's stdout.
    pub capture: Option<OutputKey>,
}

impl Service {
    /// Returns all hooks with the names of their fields.
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

    /// Returns the keys of captured outputs.
    pub fn captures(&self) -> impl Iterator<Item = &OutputKey> {
        self.capture.iter().chain(self.hooks().filter_map(|(_, hook)| hook.capture.as_ref()))
    }

    /// Returns the keys of outputs that `pre_start` hooks capture.
    pub fn pre_start_captures(&self) -> impl Iterator<Item = &OutputKey> {
        self.container.pre_start.iter().filter_map(|hook| hook.get().capture.as_ref())
    }

    /// Returns true if the job or a hook may set outputs through an output file.
    pub fn may_write_outputs(&self) -> bool {
        self.kind != Kind::Service || self.hooks().any(|(_, hook)| hook.may_write_outputs())
    }
}

/// The services whose namespaces a container shares, with the fields that say so.
pub fn shared_namespaces(container: &ContainerFields) -> impl Iterator<Item = (&'static str, &Name)> {
    fn service(target: Option<&Target>) -> Option<&Name> {
        match target {
            Some(Target::Service(name)) => Some(name),
            _ => None,
        }
    }
    let network = match &container.network_mode {
        Some(NetworkMode::Shared(target)) => Some(target),
        _ => None,
    };
    let pid = match &container.pid {
        Some(PidMode::Shared(target)) => Some(target),
        _ => None,
    };
    let ipc = match &container.ipc {
        Some(IpcMode::Shared(target)) => Some(target),
        _ => None,
    };
    let targets = [("network_mode", network), ("pid", pid), ("ipc", ipc)];
    targets.into_iter().filter_map(move |(field, target)| Some((field, service(target)?)))
}

/// Returns true if the outputs used in this field must be known before the container is created.
pub fn is_needed_at_creation(field: &str) -> bool {
    const USED_LATER: [&str; 5] = ["post_start", "pre_stop", "post_stop", "on", "health"];
    !USED_LATER.contains(&field.split('.').next().unwrap_or_default())
}

impl Hook {
    /// Returns true if the hook gets an output file.
    pub fn may_write_outputs(&self) -> bool {
        !matches!(self.action, HookAction::Http(_))
    }
}

/// Kind of a container document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// Keeps running.
    #[default]
    Service,
    /// Runs to completion.
    Job(Job),
}

impl Kind {
    /// Returns the value of `kind` in a spec.
    pub fn word(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::Job(_) => "Job",
        }
    }
}

/// Fields that only jobs have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Job {
    /// Retries after a failure.
    pub retries: u32,
    /// When to run again after a success.
    pub rerun: Rerun,
}

/// When a job that has succeeded runs again. A changed job always runs again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Rerun {
    /// Never.
    #[default]
    Never,
    /// At every `up`.
    Always,
    /// When a dependency was replaced or has run again.
    WithDependencies,
}

/// `kind: Group`: settings of the group. At most one document.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Name of the group. Defaults to the name of the directory that holds the spec directory.
    #[serde(default)]
    pub name: Option<GroupName>,
    /// Name of the group's network. Defaults to the group's name.
    #[serde(default)]
    pub network: Option<Name>,
    /// Address range of the group's network, e.g. `10.1.0.0/24`. Default: chosen by the engine.
    #[serde(default)]
    pub subnet: Option<Subnet>,
    /// Files for services and jobs, by name: `{file: ./app.conf}`, `{environment: VARIABLE}` or `{content: text}`.
    #[serde(default)]
    pub configs: BTreeMap<FileName, FileSource>,
    /// Secret files for services and jobs, by name: `{file: ./token}` or `{environment: VARIABLE}`.
    #[serde(default)]
    pub secrets: BTreeMap<FileName, FileSource>,
    /// Further networks, by the name that services use; `default` has settings of the group's network.
    #[serde(default)]
    pub networks: Entries<GroupNetwork>,
    /// Volumes with settings, by the name that mounts use. Others need no entry.
    #[serde(default)]
    pub volumes: Entries<GroupVolume>,
    /// Hooks that run when a command has finished.
    #[serde(default)]
    pub on: GroupOn,
}

/// A dependency: `appdb`, or `{name: appdb, condition: ready, restart: true, required: false}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// Name of the service or job.
    pub name: Name,
    /// Condition for creating the dependent; `None`: `ready` for a service, `succeeded` for a job.
    pub condition: Option<Condition>,
    /// Restart the dependent with the dependency.
    pub restart: bool,
    /// It must exist; otherwise it is ignored where it does not, or is not active.
    pub required: bool,
}

/// Condition on a dependency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// The container runs.
    Started,
    /// The ping and the health check of the service, if any, have succeeded; the job has succeeded.
    Ready,
    /// The job has exited with code 0.
    Succeeded,
}
