//! Changes of the sources of images: the files that changed, and the brake for a service that changes its own sources.
//!
//! A container that writes into its build context would be rebuilt without end. So a watch counts the rebuilds in a row
//! that were caused by nothing but files that the container has mounted, and does not start the third.

use super::cause::{Cause, ChangedFiles};
use super::memory::Rebuilds;
use super::step::{Reason, Step, Verb};
use super::{Memory, Planner, current_container};
use crate::desired::{Desired, Service, VolumeSource};
use crate::observed::{Container, Observed};
use crate::spec::build::{DOCKERFILE_INLINE, Dockerfile};

/// How many rebuilds in a row may be caused by files that the container has mounted.
pub const MAX_OWN_REBUILDS: u32 = 2;

/// Name of an ignore file, or the end of it.
const IGNORE: &str = ".dockerignore";

impl<'a> Planner<'a> {
    /// Returns true if the service is not rebuilt although its sources differ, because its container changes them. Its
    /// container stays meanwhile.
    pub(super) fn is_rebuild_stopped(&mut self, service: &'a Service, current: Option<&Container>) -> bool {
        let rebuilds = self.memory.services.get(&service.name).and_then(|service| service.rebuilds.as_ref());
        let Some(Rebuilds { count, cause: Some(cause), .. }) = rebuilds.filter(|_| self.memory.watching) else {
            return false;
        };
        if *count < MAX_OWN_REBUILDS || own_change(service, current, self.memory).is_none() {
            return false;
        }
        let name = &service.service;
        let message = format!(
            "rebuild not started: the last {MAX_OWN_REBUILDS} rebuilds were caused by {cause}; add the path to \
             .dockerignore, or mount a directory outside of the build context; a change of other files or of the spec, \
             or `drillmaster reload {name}`, rebuilds it"
        );
        self.fail(&service.name, Reason::RebuildLoop, message, None);
        true
    }

    /// Names the files in a cause that says that the sources have changed, as far as they are known.
    pub(super) fn name_changed_files(&self, service: &Service, causes: &mut [Cause]) {
        let Some(build) = &service.build else { return };
        for cause in causes {
            let Cause::Field { path, old: Some(old), new: Some(new), .. } = cause else { continue };
            let before = old.as_str().filter(|_| path == "build").and_then(|old| self.memory.sources.get(old));
            let changed = before.map(|before| build.tree.files.changed_since(before)).unwrap_or_default();
            if !changed.is_empty() {
                let (old, new) = (std::mem::take(old), std::mem::take(new));
                *cause = Cause::Sources { old, new, files: ChangedFiles::of(&changed) };
            }
        }
    }
}

/// A step starts: counts the rebuild that it is part of, once.
pub fn count_rebuild(step: &Step, desired: &Desired, observed: &Observed, memory: &mut Memory) {
    let name = step.subject.name();
    let is_concerned = |service: &&Service| match step.verb {
        Verb::Build => service.config.image == name,
        Verb::Create { .. } => &*service.name == name,
        _ => false,
    };
    let services = desired.services.values().filter(|service| service.build.is_some()).filter(is_concerned);
    for service in services {
        let before = memory.services.get(&service.name).and_then(|service| service.rebuilds.as_ref());
        let image = &service.config.image;
        if before.is_some_and(|before| before.image == *image) {
            continue;
        }
        let count = before.map_or(0, |before| before.count);
        let current = current_container(desired, observed, &service.name);
        let cause = own_change(service, current, memory);
        let count = if cause.is_some() { count + 1 } else { 0 };
        memory.service_mut(&service.name).rebuilds = Some(Rebuilds { image: image.clone(), count, cause });
    }
}

/// The first file that has changed since the last rebuild, if the container has mounted every file that has:
/// `data/log (/srv/api/data is mounted at /data)`. `None`: others have changed too, or it is not known which.
fn own_change(service: &Service, current: Option<&Container>, memory: &Memory) -> Option<String> {
    let tree = &service.build.as_ref()?.tree;
    let rebuilds = memory.services.get(&service.name).and_then(|service| service.rebuilds.as_ref());
    let base = rebuilds.map(|rebuilds| &rebuilds.image).or(current.map(|current| &current.image))?;
    let changed = tree.files.changed_since(memory.sources.get(base)?);
    // What belongs to the build is changed by its author, also where all of the context is mounted.
    let is_dockerfile = |path: &str| match &tree.dockerfile {
        Dockerfile::File(dockerfile) => format!("{}/{path}", tree.context) == *dockerfile,
        Dockerfile::Inline(_) => path == DOCKERFILE_INLINE,
    };
    let is_recipe = |path: &str| path.ends_with(IGNORE) || is_dockerfile(path);
    let mut mounted = changed.iter().map(|path| {
        let volumes = service.config.volumes.iter().filter(|volume| !volume.read_only && !is_recipe(path));
        volumes.filter_map(|volume| match &volume.source {
            VolumeSource::Bind(source) if is_below(&tree.context, path, source) => Some((source, &volume.target)),
            _ => None,
        })
    });
    let (source, target) = mounted.next()?.next()?;
    let all = mounted.all(|mut mounts| mounts.next().is_some());
    all.then(|| format!("{} ({source} is mounted at {target})", changed[0]))
}

/// Returns true if a path below `context` is `directory` or below it.
fn is_below(context: &str, path: &str, directory: &str) -> bool {
    let path = format!("{}/{}", context.trim_end_matches('/'), path.trim_end_matches('/'));
    let rest = path.strip_prefix(directory.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
