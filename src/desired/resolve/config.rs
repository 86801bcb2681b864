//! Resolution of the fields that describe a container.

use std::collections::BTreeMap;
use std::time::Duration;

use super::ResolveContext;
use super::files::Files;
use crate::desired::config::texts;
use crate::desired::files::MountedFile;
use crate::desired::{Config, Kind, Placement, Seconds, SecurityOption, Volume, VolumeSource};
use crate::spec::model::{
    self, BlkioConfig, ContainerFields, DeviceCount, DeviceRequest, Logging, MemorySwap, MountSource, OnChange, Ports,
    Resources, SecurityOpt,
};
use crate::spec::{Loaded, paths};

/// What a container is made of; fields that are handed on to the engine as they are come from [`handed_on`].
pub(super) fn config(
    loaded: &Loaded<model::Service>,
    image: String,
    networks: &BTreeMap<String, String>,
    volume_name: &dyn Fn(&str) -> String,
    files: &Files,
    context: ResolveContext<'_>,
) -> Config {
    let Loaded { spec, seccomp, .. } = loaded;
    let container = &spec.container;
    let volumes = &container.volumes;
    let mounted = files.mounted.iter().map(|(_, volume)| volume.clone());
    let written = volumes.iter().filter_map(|mount| volume(mount, volume_name, context));
    let tmpfs = container.tmpfs.iter().map(|tmpfs| (tmpfs.target.clone(), tmpfs.options.clone()));
    Config {
        image,
        ports: sorted(container.ports.iter().flat_map(Ports::each).collect()),
        volumes: sorted(written.chain(mounted).collect()),
        configs: files.configs.clone(),
        secrets: files.secrets.clone(),
        tmpfs: tmpfs.chain(volumes.iter().filter_map(in_memory)).collect(),
        healthcheck: spec.healthcheck.clone(),
        restart: spec.restart,
        network: Placement::of(&container.networks, container.network_mode.as_ref(), networks),
        security_opt: security_options(&container.security_opt, seccomp),
        ..handed_on(container)
    }
}

/// The fields that need nothing but their values.
fn handed_on(container: &ContainerFields) -> Config {
    Config {
        command: container.command.as_ref().map(|words| words.to_vec()),
        entrypoint: container.entrypoint.as_ref().map(|words| words.to_vec()),
        user: container.user.as_ref().map(ToString::to_string),
        working_dir: container.working_dir.clone(),
        stop_signal: container.stop_signal.as_ref().map(ToString::to_string),
        stop_timeout: container.stop_timeout.map(|period| Seconds::from(Duration::from(period))),
        resources: limits(&container.resources),
        labels: texts(&container.labels),
        hostname: container.hostname.clone(),
        aliases: sorted(container.aliases.clone()),
        extra_hosts: sorted(container.extra_hosts.clone()),
        cap_add: sorted(container.cap_add.iter().map(ToString::to_string).collect()),
        cap_drop: sorted(container.cap_drop.iter().map(ToString::to_string).collect()),
        privileged: container.privileged,
        read_only: container.read_only,
        init: container.init,
        shm_size: container.shm_size.map(|size| size.bytes()),
        ulimits: container.ulimits.clone(),
        annotations: texts(&container.annotations),
        tty: container.tty,
        stdin_open: container.stdin_open,
        sysctls: texts(&container.sysctls),
        devices: sorted(container.devices.clone()),
        device_cgroup_rules: words(&container.device_cgroup_rules),
        gpus: container.gpus.iter().flat_map(|gpus| &gpus.0).map(device_request).collect(),
        group_add: sorted(words(&container.group_add)),
        dns: words(&container.dns),
        dns_search: words(&container.dns_search),
        dns_opt: words(&container.dns_opt),
        pid: container.pid.clone(),
        ipc: container.ipc.clone(),
        uts: container.uts,
        userns_mode: container.userns_mode,
        cgroup: container.cgroup,
        cgroup_parent: word(container.cgroup_parent.as_ref()),
        runtime: word(container.runtime.as_ref()),
        platform: word(container.platform.as_ref()),
        logging: container.logging.clone().filter(|logging| *logging != Logging::default()),
        domainname: word(container.domainname.as_ref()),
        mac_address: word(container.mac_address.as_ref()),
        expose: sorted(container.expose.to_vec()),
        storage_opt: texts(&container.storage_opt),
        mem_swappiness: container.mem_swappiness,
        oom_kill_disable: container.oom_kill_disable,
        oom_score_adj: container.oom_score_adj.filter(|score| *score != 0),
        blkio_config: container.blkio_config.clone().filter(|blkio| *blkio != BlkioConfig::default()),
        ..Config::default()
    }
}

/// A mount; `None`: it is one in memory.
fn volume(mount: &model::Mount, volume_name: &dyn Fn(&str) -> String, context: ResolveContext<'_>) -> Option<Volume> {
    let source = match &mount.source {
        MountSource::Anonymous => VolumeSource::Anonymous,
        MountSource::Volume(name) => VolumeSource::Named(volume_name(name.as_str())),
        MountSource::Bind(path) => VolumeSource::Bind(absolute(path, context)),
        MountSource::Image(image) => VolumeSource::Image(image.familiar()),
        MountSource::Tmpfs { .. } => return None,
    };
    let options = mount.options.clone();
    Some(Volume { source, target: mount.target.clone(), read_only: mount.read_only, options })
}

/// The path and options of a mount in memory.
fn in_memory(mount: &model::Mount) -> Option<(String, String)> {
    let MountSource::Tmpfs { size, mode } = mount.source else { return None };
    let size = size.map(|size| format!("size={}", size.bytes()));
    let mode = mode.map(|mode| format!("mode={:o}", mode.bits()));
    Some((mount.target.clone(), size.into_iter().chain(mode).collect::<Vec<_>>().join(",")))
}

/// Its bind mounts, which may be files. A change of a file restarts a service by default; a job that has run stays as it
/// is.
pub(super) fn mounted_files(spec: &model::Service, files: &Files, context: ResolveContext<'_>) -> Vec<MountedFile> {
    let default = if spec.kind == Kind::Service { OnChange::Restart } else { OnChange::Ignore };
    let file = |mount: &model::Mount| {
        let MountSource::Bind(path) = &mount.source else { return None };
        let on_change = mount.on_change.clone().unwrap_or_else(|| default.clone());
        (on_change != OnChange::Ignore).then(|| MountedFile {
            written: path.clone(),
            source: absolute(path, context),
            target: mount.target.clone(),
            on_change,
            explicit: mount.on_change.is_some(),
            by_content: mount.read_only || mount.on_change.is_some(),
            state: None,
        })
    };
    let defined = files.mounted.iter().filter(|_| default != OnChange::Ignore);
    let defined = defined.filter_map(|(written, volume)| {
        let VolumeSource::Bind(source) = &volume.source else { return None };
        let (written, source) = (written.clone(), source.clone());
        let (target, on_change) = (volume.target.clone(), default.clone());
        Some(MountedFile { written, source, target, on_change, explicit: false, by_content: true, state: None })
    });
    spec.container.volumes.iter().filter_map(file).chain(defined).collect()
}

/// Makes a path absolute: `~/` is the home directory; other relative paths start at the spec directory, so they do not
/// depend on the file that contains them.
pub(super) fn absolute(path: &str, context: ResolveContext<'_>) -> String {
    match (path.strip_prefix("~/"), context.home) {
        (Some(rest), Some(home)) => paths::clean(&format!("/{home}/{rest}")),
        _ => paths::join(context.directory, path),
    }
}

/// Security options with the content of seccomp profiles, by the path in the spec. A missing file has been reported.
fn security_options(options: &[SecurityOpt], seccomp: &BTreeMap<String, String>) -> Vec<SecurityOption> {
    let option = |option: &SecurityOpt| match option {
        SecurityOpt::Text(text) => Some(SecurityOption::Text(text.clone())),
        SecurityOpt::Seccomp(profile) => Some(SecurityOption::Seccomp(profile.clone())),
        SecurityOpt::SeccompFile(path) => seccomp.get(path).cloned().map(SecurityOption::Seccomp),
    };
    sorted(options.iter().filter_map(option).collect())
}

/// A request with its defaults: all GPUs.
fn device_request(request: &DeviceRequest) -> DeviceRequest {
    let mut request = request.clone();
    if request.count.is_none() && request.device_ids.is_empty() {
        request.count = Some(DeviceCount::All);
    }
    if request.capabilities.is_empty() {
        request.capabilities.extend("gpu".parse());
    }
    request
}

/// Limits without those that are the engine's default.
fn limits(resources: &Resources) -> Resources {
    let memory_swap = resources.memory_swap.filter(|swap| Some(*swap) != resources.memory.map(MemorySwap::default_for));
    Resources { memory_swap, ..resources.clone() }
}

fn word(value: Option<&impl ToString>) -> Option<String> {
    value.map(ToString::to_string)
}

fn words(values: &[impl ToString]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

/// Sorts a list whose order has no meaning, so that reordering it in a spec is no change.
fn sorted<T: Ord>(mut items: Vec<T>) -> Vec<T> {
    items.sort();
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(directory: &str) -> ResolveContext<'_> {
        ResolveContext { group: None, directory, home: Some("/home/ann") }
    }

    #[test]
    fn paths_are_relative_to_the_spec_directory() {
        let path = |path| absolute(path, at("/srv/shop/specs"));
        assert_eq!(path("./conf"), "/srv/shop/specs/conf");
        assert_eq!(path("../data/./x"), "/srv/shop/data/x");
        assert_eq!(path("/etc/hosts"), "/etc/hosts");
        assert_eq!(path("~/x"), "/home/ann/x");
    }
}
