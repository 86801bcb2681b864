//! Images by themselves: removal of those that were built for the group (all of them on request, and those of earlier
//! builds), and `build` and `pull`.

use std::collections::{BTreeMap, BTreeSet};

use super::Planner;
use super::cause::Cause;
use super::readiness::DependencyState;
use super::step::{Action, Reason, Subject, Verb};
use crate::desired::{Desired, Mode, Scope, Service};
use crate::observed::{BuiltImage, Container, Observed};
use crate::spec::model::Pull;

/// How many images of a service stay, the one in use included.
pub const KEPT_BUILDS: usize = 3;

impl Planner<'_> {
    /// `down --images`: removes unused images that were built for the group.
    pub(super) fn purged_images(&mut self) {
        if !self.desired.mode.purges_images() {
            return;
        }
        for (reference, built) in &self.observed.built {
            let subject = Subject::Image(reference.clone());
            if !is_ours(built, self.desired) || self.memory.removal_failed.contains(&subject) {
                continue;
            }
            let mut users = users(reference, built, self.observed).peekable();
            let used = users.peek().is_some();
            // An image used only by containers that are removed becomes unused.
            let goes = |container: &Container| {
                container.service_of(&self.desired.group).is_some_and(|name| self.desired.scope.contains(name))
            };
            if users.all(goes) {
                self.change(subject.clone(), Action::Remove, Vec::new());
            }
            if !used {
                self.step(subject, Verb::RemoveImage, "--images");
            }
        }
    }

    /// Removes unused images of earlier builds, once the services that are built are ready.
    pub(super) fn earlier_images(&mut self) {
        if !matches!(self.desired.mode, Mode::Reconcile { .. }) || self.desired.mode.purges_images() {
            return;
        }
        for (repository, services) in built_services(self.desired) {
            let is_ready = |service: &&Service| {
                let state = self.dependency_states.get(&*service.name);
                self.desired.scope.contains(&service.service)
                    && matches!(state, Some(DependencyState::Ready | DependencyState::Succeeded))
            };
            if !services.iter().all(is_ready) {
                continue;
            }
            for reference in earlier_builds(repository, &services, self.desired, self.observed) {
                let subject = Subject::Image(reference.to_owned());
                if self.memory.removal_failed.contains(&subject) {
                    continue;
                }
                self.change(subject.clone(), Action::Remove, vec![Cause::EarlierBuild]);
                self.step(subject, Verb::RemoveImage, format!("earlier build: the last {KEPT_BUILDS} stay"));
            }
        }
    }
}

impl<'a> Planner<'a> {
    /// `build` and `pull`: the image of a service, without its container.
    pub(super) fn image_alone(&mut self, service: &'a Service) -> DependencyState {
        let of_image = |field: &str| field == "image" || field == "build" || field.starts_with("build.");
        let awaited = service.outputs.awaited().find(|(field, _)| of_image(field)).and_then(|(_, keys)| keys.first());
        match (awaited.cloned(), self.desired.mode) {
            (Some(key), _) => return self.wait_for_output(service, &key),
            (None, Mode::PullImages) => self.pull_alone(service),
            (None, _) => self.build_alone(service),
        }
        DependencyState::Pending("stays as it is")
    }

    fn build_alone(&mut self, service: &'a Service) {
        if service.build.is_some() {
            let is_missing = wanted_image(service, self.observed).is_none();
            if self.build(service).is_some() && is_missing {
                self.image_change(service, Action::Build);
            }
        } else if matches!(self.desired.scope, Scope::Only(_)) {
            let name = &service.service;
            self.plan.notes.insert(format!("{name}: not built: it has no `build`; `drillmaster pull` pulls its image"));
        }
    }

    fn pull_alone(&mut self, service: &'a Service) {
        let (name, image) = (&service.service, &service.config.image);
        if service.build.is_some() {
            self.plan.notes.insert(format!("{name}: not pulled: its image is built (`drillmaster build`)"));
            return;
        }
        if service.pull == Pull::Never {
            self.plan.notes.insert(format!("{name}: not pulled: `pull: never` is set"));
            return;
        }
        if let Some(reason) = self.memory.images.unavailable.get(image) {
            let message = format!("cannot pull image {image}: {reason}");
            self.fail(&service.name, Reason::ImageMissing, message, None);
            return;
        }
        // A digest always names the same image.
        let is_pinned = image.contains('@') && wanted_image(service, self.observed).is_some();
        if is_pinned || self.memory.images.pulled.contains_key(image) {
            return;
        }
        self.image_change(service, Action::Pull);
        self.step_once(Subject::Image(image.clone()), Verb::Pull, "requested");
        self.wait_quietly(service, format!("waiting for the image {image}"), None);
    }

    /// Several services may share an image.
    fn image_change(&mut self, service: &Service, action: Action) {
        let subject = Subject::Image(service.config.image.clone());
        if self.plan.changes.iter().all(|change| change.subject != subject) {
            self.change(subject, action, Vec::new());
        }
    }
}

/// Id of a service's image; `None`: not present, or for another platform.
pub(super) fn wanted_image<'o>(service: &Service, observed: &'o Observed) -> Option<&'o String> {
    // A built image is for its platform: its tag is a hash of that, too.
    let platform = service.config.platform.as_deref().filter(|_| service.build.is_none());
    observed.image(&service.config.image, platform)
}

/// Returns true if an image was built for the group by this spec directory.
pub(super) fn is_ours(built: &BuiltImage, desired: &Desired) -> bool {
    built.group == desired.group && built.source.as_deref().is_none_or(|source| desired.owns(source))
}

/// The containers of the engine that were created from a built image, whoever owns them.
pub(super) fn users<'a>(
    reference: &'a str,
    built: &'a BuiltImage,
    observed: &'a Observed,
) -> impl Iterator<Item = &'a Container> {
    observed.containers.values().filter(move |container| {
        let made_from = container.identity.as_ref().map(|identity| identity.image_id.as_str());
        container.image == reference
            || [&container.image, &container.image_id].contains(&&built.id)
            || made_from == Some(built.id.as_str())
    })
}

/// The services whose images are built, by repository: several may share one.
fn built_services(desired: &Desired) -> BTreeMap<&str, Vec<&Service>> {
    let mut services: BTreeMap<&str, Vec<&Service>> = BTreeMap::new();
    for service in desired.services.values().filter(|service| service.build.is_some()) {
        services.entry(repository(&service.config.image)).or_default().push(service);
    }
    services
}

/// Unused images of a repository, beside the last ones.
fn earlier_builds<'a>(
    repository: &str,
    services: &[&Service],
    desired: &Desired,
    observed: &'a Observed,
) -> Vec<&'a str> {
    let wanted: BTreeSet<&str> = services.iter().map(|service| service.config.image.as_str()).collect();
    let is_of_repository = |(reference, built): &(&String, &BuiltImage)| {
        self::repository(reference) == repository && is_ours(built, desired)
    };
    let mut builds: Vec<(&String, &BuiltImage)> = observed.built.iter().filter(is_of_repository).collect();
    builds.sort_by_key(|(reference, built)| (std::cmp::Reverse(built.created), *reference));
    let earlier = builds.into_iter().skip(KEPT_BUILDS * wanted.len());
    let is_unused = |(reference, built): &(&String, &BuiltImage)| {
        !wanted.contains(reference.as_str()) && users(reference, built, observed).next().is_none()
    };
    earlier.filter(is_unused).map(|(reference, _)| reference.as_str()).collect()
}

/// The image reference without its tag.
fn repository(image: &str) -> &str {
    image.rsplit_once(':').map_or(image, |(repository, _)| repository)
}
