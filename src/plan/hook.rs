//! Hooks around a container's life: what has to be run before it is created, once it answers, before and after it is
//! stopped. Part of the planner. What is run on other occasions is told, not planned: nothing waits for it.

use super::Planner;
use super::step::{ContainerRef, Subject, Verb};
use crate::desired::{HookPoint, Service};
use crate::identity::container_name;
use crate::observed::{Container, State};

impl<'a> Planner<'a> {
    /// Whether all hooks of this moment have been run; if not, the next one is to be run now.
    pub(super) fn hooks_are_done(
        &mut self,
        service: &Service,
        moment: HookPoint,
        container: Option<&Container>,
        cause: &str,
    ) -> bool {
        let progress = self.memory.services.get(&service.name).and_then(|service| service.hooks.get(&moment));
        let same = progress.filter(|progress| progress.container.as_ref() == container.map(|container| &container.id));
        let done = same.map_or(0, |progress| progress.done);
        let Some(hook) = service.hooks_at(moment).get(done) else { return true };
        // Nobody is kept from going by what a last hook is not told.
        if moment == HookPoint::PostStart && !self.is_hook_known(service, moment, done) {
            return false;
        }
        let verb = Verb::Hook {
            moment,
            index: done,
            action: hook.action.to_string(),
            container: container.map(ContainerRef::of),
        };
        self.step(Subject::of(service), verb, cause);
        false
    }

    /// Stops a container: one that serves only after its `pre_stop`.
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

    /// Whether the `post_stop` of what this run has stopped is done.
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
