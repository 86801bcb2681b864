//! Resolution of the fields that describe a container.

use std::collections::BTreeMap;
use std::time::Duration;

use super::ResolveContext;
use crate::desired::files::MountedFile;
use crate::desired::{Config, Kind, Seconds, Volume, VolumeSource};
use crate::identity;
use crate::spec::model::{self, ContainerFields, MountSource, OnChange};
use crate::spec::value::Text;

pub(super) fn config(
    spec: &model::Service,
    image: String,
    group: &str,
    network: &str,
    context: ResolveContext<'_>,
) -> Config {
    // Without `..`: a new field of the spec must be handled here.
    let ContainerFields {
        name: _,
        image: _,
        build: _,
        command,
        entrypoint,
        user,
        working_dir,
        env: _,
        env_file: _,
        ports,
        volumes,
        tmpfs,
        dependencies: _,
        pre_start: _,
        stop_signal,
        stop_timeout,
        resources,
        labels,
        hostname,
        aliases,
        extra_hosts,
        cap_add,
        cap_drop,
        privileged,
        read_only,
        init,
        shm_size,
        ulimits,
        pull: _,
        annotations,
    } = &spec.container;
    Config {
        image,
        command: command.as_ref().map(|words| words.to_vec()),
        entrypoint: entrypoint.as_ref().map(|words| words.to_vec()),
        user: user.as_ref().map(ToString::to_string),
        working_dir: working_dir.clone(),
        ports: sorted(ports.clone()),
        volumes: sorted(volumes.iter().map(|mount| volume(mount, group, context)).collect()),
        tmpfs: tmpfs.iter().map(|tmpfs| (tmpfs.target.clone(), tmpfs.options.clone())).collect(),
        healthcheck: spec.healthcheck.clone(),
        stop_signal: stop_signal.as_ref().map(ToString::to_string),
        stop_timeout: stop_timeout.map(|period| Seconds::from(Duration::from(period))),
        restart: spec.restart,
        resources: *resources,
        labels: texts(labels),
        hostname: hostname.clone(),
        aliases: sorted(aliases.clone()),
        extra_hosts: sorted(extra_hosts.clone()),
        cap_add: sorted(cap_add.iter().map(ToString::to_string).collect()),
        cap_drop: sorted(cap_drop.iter().map(ToString::to_string).collect()),
        privileged: *privileged,
        read_only: *read_only,
        init: *init,
        shm_size: shm_size.map(|size| size.bytes()),
        ulimits: ulimits.clone(),
        network: network.to_owned(),
        annotations: texts(annotations),
    }
}

fn volume(mount: &model::Mount, group: &str, context: ResolveContext<'_>) -> Volume {
    let source = match &mount.source {
        MountSource::Anonymous => VolumeSource::Anonymous,
        MountSource::Volume(name) => VolumeSource::Named(identity::volume_name(group, name.as_str())),
        MountSource::Bind(path) => VolumeSource::Bind(absolute(path, context)),
    };
    Volume { source, target: mount.target.clone(), read_only: mount.read_only }
}

/// Its bind mounts, which may be files. A change of a file restarts a service by default; a job that has run stays as it
/// is.
pub(super) fn mounted_files(spec: &model::Service, context: ResolveContext<'_>) -> Vec<MountedFile> {
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
    spec.container.volumes.iter().filter_map(file).collect()
}

/// Makes a path absolute: `~/` is the home directory; other relative paths start at the spec directory, so they do not
/// depend on the file that contains them.
fn absolute(path: &str, context: ResolveContext<'_>) -> String {
    let joined = match (path.strip_prefix("~/"), context.home) {
        (Some(rest), Some(home)) => format!("{home}/{rest}"),
        _ if path.starts_with('/') => path.to_owned(),
        _ => format!("{}/{path}", context.directory),
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn texts(map: &BTreeMap<String, Text>) -> BTreeMap<String, String> {
    map.iter().map(|(key, value)| (key.clone(), value.to_string())).collect()
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
