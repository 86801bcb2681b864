//! Mounts of a container, in the two forms that the API has.
//!
//! `Mounts` takes every option but the SELinux label, and never creates a missing host directory before API 1.42;
//! `Binds`, the older form, takes both.

use std::collections::BTreeMap;

use bollard::models::{
    Mount, MountBindOptions, MountBindOptionsPropagationEnum as Propagation, MountImageOptions, MountType,
    MountVolumeOptions, MountVolumeOptionsDriverConfig,
};

use super::super::{ContainerSpec, Inherited};
use super::create::{some, some_map};
use crate::desired::{DeclaredVolume, Volume, VolumeSource};
use crate::spec::model::{self, MountOptions, Recursive};

/// Returns true if the mount is sent in the older form.
fn is_bind(volume: &Volume) -> bool {
    let MountOptions { create, selinux, recursive, .. } = &volume.options;
    // `recursive` has no older form, and comes with an API that creates directories in the newer one.
    matches!(volume.source, VolumeSource::Bind(_)) && (*create || selinux.is_some()) && recursive.is_none()
}

/// Mounts in the older form: `source:target:options`.
pub fn binds(volumes: &[Volume]) -> Option<Vec<String>> {
    let bind = |volume: &Volume| {
        let VolumeSource::Bind(path) = &volume.source else { return None };
        let options = volume.short_options();
        let colon = if options.is_empty() { "" } else { ":" };
        Some(format!("{path}:{}{colon}{}", volume.target, options.join(",")))
    };
    some(volumes.iter().filter(|volume| is_bind(volume)).filter_map(bind).collect())
}

/// Mounts, and inherited volumes: one whose path the spec mounts anonymously replaces that mount; others are added.
pub fn mounts(spec: &ContainerSpec) -> Option<Vec<Mount>> {
    let written = spec.config.volumes.iter().filter(|volume| !is_bind(volume)).map(|volume| mount(volume, spec));
    let targets = |target: &str| spec.config.volumes.iter().any(|volume| volume.target == target);
    let of_image = spec
        .inherited
        .iter()
        .filter(|inherited| !targets(&inherited.target))
        .map(|inherited| volume_mount(Some(inherited.volume.clone()), &inherited.target, &spec.volume_labels));
    some(written.chain(of_image).collect())
}

fn mount(volume: &Volume, spec: &ContainerSpec) -> Mount {
    let (target, labels) = (&volume.target, &spec.volume_labels);
    let mut mount = match &volume.source {
        VolumeSource::Named(name) => {
            let mount = volume_mount(Some(name.clone()), target, labels);
            match spec.volumes.get(name) {
                Some(declared) => Mount { volume_options: declared_options(declared, labels), ..mount },
                None => mount,
            }
        }
        VolumeSource::Anonymous => {
            let same_target = |inherited: &&Inherited| inherited.target == *target;
            let inherited = spec.inherited.iter().find(same_target).map(|inherited| inherited.volume.clone());
            volume_mount(inherited, target, labels)
        }
        VolumeSource::Bind(path) => Mount {
            typ: Some(MountType::BIND),
            source: Some(path.clone()),
            target: Some(target.clone()),
            bind_options: bind_options(&volume.options),
            ..Default::default()
        },
        VolumeSource::Image(image) => Mount {
            typ: Some(MountType::IMAGE),
            source: Some(image.clone()),
            target: Some(target.clone()),
            image_options: volume.options.subpath.clone().map(|subpath| MountImageOptions { subpath: Some(subpath) }),
            ..Default::default()
        },
    };
    mount.read_only = volume.read_only.then_some(true);
    if matches!(volume.source, VolumeSource::Named(_) | VolumeSource::Anonymous) {
        mount.volume_options = with_options(mount.volume_options, &volume.options);
    }
    mount
}

/// A volume mount with labels: the engine creates a missing volume, so no separate request is needed.
fn volume_mount(source: Option<String>, target: &str, labels: &BTreeMap<String, String>) -> Mount {
    let labels = Some(labels.clone().into_iter().collect());
    Mount {
        typ: Some(MountType::VOLUME),
        source,
        target: Some(target.to_owned()),
        volume_options: Some(MountVolumeOptions { labels, ..Default::default() }),
        ..Default::default()
    }
}

/// How a missing volume is created: with its labels, ours and the user's, and by its driver. An existing one stays as it is.
/// `None` for an external one.
fn declared_options(declared: &DeclaredVolume, labels: &BTreeMap<String, String>) -> Option<MountVolumeOptions> {
    if declared.external {
        return None;
    }
    let DeclaredVolume { driver, driver_opts, .. } = declared;
    let driver_config = (driver.is_some() || !driver_opts.is_empty())
        .then(|| MountVolumeOptionsDriverConfig { name: driver.clone(), options: some_map(driver_opts) });
    let labels = declared.labels.clone().into_iter().chain(labels.clone());
    Some(MountVolumeOptions { labels: Some(labels.collect()), driver_config, ..Default::default() })
}

/// How a volume is mounted, beside how it is created.
fn with_options(created: Option<MountVolumeOptions>, options: &MountOptions) -> Option<MountVolumeOptions> {
    let MountOptions { nocopy, subpath, .. } = options;
    if !nocopy && subpath.is_none() {
        return created;
    }
    let (no_copy, subpath) = (nocopy.then_some(true), subpath.clone());
    Some(MountVolumeOptions { no_copy, subpath, ..created.unwrap_or_default() })
}

fn bind_options(options: &MountOptions) -> Option<MountBindOptions> {
    let is = |value: Recursive| (options.recursive == Some(value)).then_some(true);
    let options = MountBindOptions {
        propagation: options.propagation.map(|propagation| match propagation {
            model::Propagation::Rprivate => Propagation::RPRIVATE,
            model::Propagation::Private => Propagation::PRIVATE,
            model::Propagation::Rshared => Propagation::RSHARED,
            model::Propagation::Shared => Propagation::SHARED,
            model::Propagation::Rslave => Propagation::RSLAVE,
            model::Propagation::Slave => Propagation::SLAVE,
        }),
        create_mountpoint: options.create.then_some(true),
        non_recursive: is(Recursive::Disabled),
        read_only_non_recursive: is(Recursive::Writable),
        read_only_force_recursive: is(Recursive::Readonly),
    };
    (options != MountBindOptions::default()).then_some(options)
}
