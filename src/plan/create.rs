//! Creation of containers: the image and network they need, and the request itself.

use super::Planner;
use super::images::wanted_image;
use super::readiness::DependencyState;
use super::step::{Query, Reason, Subject, Verb};
use crate::desired::{Order, Service, VolumeSource};
use crate::identity::candidate_name;
use crate::observed::Container;
use crate::spec::model::Pull;

impl<'a> Planner<'a> {
    /// Checks that a container may be created now; otherwise waits, pulls or builds.
    pub(super) fn may_create(&mut self, service: &'a Service) -> Option<DependencyState> {
        let name = candidate_name(&self.desired.group, &service.name);
        if let Some(state) = self.conflict_of_name(service, &name) {
            return Some(state);
        }
        // Do not stop dependents while the image is being built.
        if let Some(state) = self.build(service) {
            return Some(state);
        }
        if let Err(state) = self.dependencies(service, false) {
            return Some(state);
        }
        if self.has_port_conflict(service) {
            return Some(DependencyState::Failed);
        }
        // Do not stop dependents while the image is missing or being pulled.
        let serves = self.slots.get(service.name.as_str()).is_some_and(|slots| slots.current.is_some());
        if serves && let Some(state) = self.fetch(service) {
            return Some(state);
        }
        if !self.dependents_rest(service) {
            return Some(DependencyState::Pending("is being replaced"));
        }
        for (name, _) in service.config.network.endpoints() {
            if let Some(reason) = self.memory.network_errors.get(name).filter(|_| !self.networks.contains_key(name)) {
                let message = format!("cannot create network {name}: {reason}");
                self.fail(&service.name, Reason::CreateFailed, message, None);
                return Some(DependencyState::Failed);
            }
        }
        if self.create_networks(service) {
            return Some(DependencyState::Pending("is waiting for its network"));
        }
        self.image(service)
    }

    /// Plans the build of a service's image; `None` if it is present or not built.
    pub(super) fn build(&mut self, service: &'a Service) -> Option<DependencyState> {
        let image = &service.config.image;
        if service.build.is_none() || wanted_image(service, self.observed).is_some() {
            return None;
        }
        if self.build_has_failed(service) {
            return Some(DependencyState::Failed);
        }
        self.step_once(Subject::Image(image.clone()), Verb::Build, "image not present locally");
        self.wait_quietly(service, format!("waiting for the image {image}"), None);
        Some(DependencyState::Pending("is waiting for its image"))
    }

    /// Returns true if the service's image could not be built.
    pub(super) fn build_has_failed(&mut self, service: &Service) -> bool {
        let why = self.memory.images.unavailable.get(&service.config.image).filter(|_| service.build.is_some());
        if let Some(why) = why {
            let message = format!("cannot build image: {why}");
            self.fail(&service.name, Reason::BuildFailed, message, None);
        }
        why.is_some()
    }

    /// Plans the pull of a service's image; `None` if it is present.
    fn fetch(&mut self, service: &'a Service) -> Option<DependencyState> {
        let image = &service.config.image;
        if let Some(reason) = self.memory.images.unavailable.get(image) {
            let message = format!("cannot pull image {image}: {reason}");
            self.fail(&service.name, Reason::ImageMissing, message, None);
            return Some(DependencyState::Failed);
        }
        let present = wanted_image(service, self.observed);
        if self.pull(service) {
            self.wait_quietly(service, format!("waiting for the image {image}"), None);
            return Some(DependencyState::Pending("is waiting for its image"));
        }
        if present.is_none() {
            let message = self.missing_image(service);
            self.fail(&service.name, Reason::ImageMissing, message, None);
            return Some(DependencyState::Failed);
        }
        None
    }

    /// Why a service has no image although none is pulled.
    fn missing_image(&self, service: &Service) -> String {
        let image = &service.config.image;
        match (&service.config.platform, self.platforms_of(image)) {
            (Some(platform), Some(present)) => {
                let remedy = match service.pull {
                    Pull::Never => "`pull: never` is set",
                    _ => "the pull did not change that",
                };
                format!("image {image} is present for {present}, not for {platform} (`platform`), and {remedy}")
            }
            _ => format!("image {image} is not present locally, and `pull: never` is set"),
        }
    }

    /// The platforms that an image is present for, if that is known.
    fn platforms_of(&self, image: &str) -> Option<String> {
        let id = self.observed.images.get(image)?;
        match self.observed.image_platforms.get(id) {
            Some(platforms) => Some(platforms.iter().map(String::as_str).collect::<Vec<_>>().join(" and ")),
            None => self.observed.image_facts.get(id).map(|facts| facts.platform.clone()),
        }
    }

    /// Asks for the platform of the image with a service's name, where that matters.
    pub(super) fn must_inspect_image(&mut self, service: &Service) -> bool {
        let id = self.observed.images.get(&service.config.image);
        let unknown = id.filter(|id| {
            service.config.platform.is_some()
                && service.build.is_none()
                && !self.observed.image_facts.contains_key(*id)
                && !self.observed.image_platforms.contains_key(*id)
        });
        self.plan.queries.extend(unknown.map(|id| Query::Image(id.clone())));
        unknown.is_some()
    }

    /// Plans the pull of missing images that a service mounts.
    fn mounted_images(&mut self, service: &'a Service) -> Option<DependencyState> {
        let images = service.config.volumes.iter().filter_map(|volume| match &volume.source {
            VolumeSource::Image(image) => Some(image),
            _ => None,
        });
        let image = images.into_iter().find(|image| !self.observed.images.contains_key(*image))?;
        let problem = match self.memory.images.unavailable.get(image) {
            Some(reason) => format!("cannot pull image {image}, which it mounts: {reason}"),
            None if service.pull == Pull::Never => {
                format!("image {image}, which it mounts, is not present locally, and `pull: never` is set")
            }
            None => {
                self.step_once(Subject::Image(image.clone()), Verb::Pull, "image not present locally");
                self.wait_quietly(service, format!("waiting for the image {image}"), None);
                return Some(DependencyState::Pending("is waiting for its image"));
            }
        };
        self.fail(&service.name, Reason::ImageMissing, problem, None);
        Some(DependencyState::Failed)
    }

    /// Plans the pull of a service's image if it is due. Returns true if it is.
    fn pull(&mut self, service: &'a Service) -> bool {
        let image = &service.config.image;
        let pulled = self.memory.images.pulled.get(image).copied();
        let is_missing = wanted_image(service, self.observed).is_none();
        let has_other_platform = is_missing && self.observed.images.contains_key(image);
        let cause = match service.pull {
            Pull::Never => return false,
            // The registry has no image for the platform.
            _ if has_other_platform && pulled.is_some() => return false,
            _ if has_other_platform => "the image that is present is for another platform",
            _ if is_missing => "image not present locally",
            Pull::Missing => return false,
            Pull::Always if pulled.is_some() => return false,
            Pull::Always => "pull: always",
            Pull::Every(period) => {
                if let Some(next) = pulled.map(|pulled| pulled + period.get()).filter(|next| self.now < *next) {
                    self.wake(next);
                    return false;
                }
                "pull: every"
            }
        };
        self.step_once(Subject::Image(image.clone()), Verb::Pull, cause);
        true
    }

    /// Looks for a newer image of a service that has a container. The container keeps running meanwhile, and also if the
    /// pull fails, which fails the service.
    pub(super) fn refresh_image(&mut self, service: &'a Service) {
        let image = &service.config.image;
        if service.build.is_some() || !matches!(service.pull, Pull::Always | Pull::Every(_)) {
            return;
        }
        match self.memory.images.unavailable.get(image) {
            Some(reason) => {
                let message = format!("cannot pull image {image}: {reason}; the container stays as it is");
                self.fail(&service.name, Reason::ImageMissing, message, None);
            }
            None => drop(self.pull(service)),
        }
    }

    /// Checks that the service's image is present and inspected; otherwise waits.
    fn image(&mut self, service: &'a Service) -> Option<DependencyState> {
        if let Some(state) = self.fetch(service).or_else(|| self.mounted_images(service)) {
            return Some(state);
        }
        let id = wanted_image(service, self.observed)?;
        if self.observed.image_facts.contains_key(id) {
            return None;
        }
        self.plan.queries.insert(Query::Image(id.clone()));
        Some(DependencyState::Pending("is about to be created"))
    }

    /// Plans the build or the pull of the images that a service needs, whatever else it waits for.
    pub(super) fn prefetch(&mut self, service: &'a Service) {
        let _ = self.build(service).or_else(|| self.fetch(service)).or_else(|| self.mounted_images(service));
    }

    pub(super) fn create(&mut self, service: &'a Service, current: Option<&Container>, cause: &str) {
        let Some(image_id) = wanted_image(service, self.observed) else { return };
        let Some(targets) = self.targets(service) else { return };
        let verb = Verb::Create {
            name: candidate_name(&self.desired.group, &service.name),
            joins: self.joins(service, !self.defers_aliases(service, current)),
            targets,
            image_id: image_id.clone(),
            inherited: current.map(|current| self.inherited(service, current)).unwrap_or_default(),
        };
        self.step(Subject::of(service), verb, cause);
    }

    /// Returns true if the new container gets its aliases when it is ready. Until then, the current one serves.
    fn defers_aliases(&self, service: &Service, current: Option<&Container>) -> bool {
        let serves = |current: &Container| current.is_up() && self.clash(service, current).is_none();
        service.update.order == Order::StartFirst || service.may_defer_aliases() && current.is_some_and(serves)
    }
}
