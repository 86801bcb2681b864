//! Hooks as steps: `pre_start`, `post_start`, `pre_stop`, `post_stop`. Lifecycle hooks (`on`) are dispatched by the
//! controller; no step waits for them.

use super::Planner;
use super::step::{ContainerRef, Subject, Verb};
use crate::desired::{HookPoint, Service};
use crate::identity::container_name;
use crate::observed::{Container, State};

impl<'a> Planner<'a> {
    /// Returns true if all hooks of this hook point have run; otherwise plans the next one.
    pub(super) fn hooks_are_done(
        &mut self,
        service: &Service,
        point: HookPoint,
        container: Option<&Container>,
        cause: &str,
    ) -> bool {
        let progress = self.memory.services.get(&service.name).and_then(|service| service.hooks.get(&point));
        let same = progress.filter(|progress| progress.container.as_ref() == container.map(|container| &container.id));
        let done = same.map_or(0, |progress| progress.done);
        let Some(hook) = service.hooks_at(point).get(done) else { return true };
        // A missing output never blocks removal: stop hooks run without it.
        if point == HookPoint::PostStart && !self.is_hook_known(service, point, done) {
            return false;
        }
        let verb =
            Verb::Hook { point, index: done, action: hook.to_string(), container: container.map(ContainerRef::of) };
        self.step(Subject::of(service), verb, cause);
        false
    }

    /// Stops a container; the current container after its `pre_stop` hooks.
    pub(super) fn stop(&mut self, name: &str, container: &Container, cause: &str) {
        let served = container.name == container_name(&self.desired.group, name) && container.state == State::Running;
        let known = self.desired.spec_of(name);
        if let Some(service) = known.filter(|_| served)
            && !self.hooks_are_done(service, HookPoint::PreStop, Some(container), cause)
        {
            return;
        }
        self.step(Subject::Service(name.into()), Verb::Stop(ContainerRef::of(container)), cause);
    }

    /// Returns true if the `post_stop` hooks of a stopped container have run.
    pub(super) fn post_stop_done<'c>(
        &mut self,
        name: &str,
        mut containers: impl Iterator<Item = &'c Container>,
    ) -> bool {
        let stopped = containers.find(|container| {
            !container.is_up()
                && self.memory.containers.get(&container.id).is_some_and(|memory| memory.stopped_after_serving)
        });
        match (stopped, self.desired.spec_of(name)) {
            (Some(container), Some(service)) => {
                self.hooks_are_done(service, HookPoint::PostStop, Some(container), "container stopped")
            }
            _ => true,
        }
    }
}
