//! Jobs: run to completion once per spec. A job has succeeded when its container, under the job's name, exited with 0.

use super::Planner;
use super::cause::{Cause, WantedState};
use super::diff::Comparison;
use super::readiness::DependencyState;
use super::step::{Action, Awaited, Subject};
use crate::desired::{Job, Rerun, Service};
use crate::identity::container_name;
use crate::observed::{Container, State};

/// A job may run without limit; that it is awaited keeps the run going.
const FOR_EVER: std::time::Duration = std::time::Duration::MAX;

impl<'a> Planner<'a> {
    /// `up`: the job has succeeded once with this spec.
    pub(super) fn job(
        &mut self,
        service: &'a Service,
        job: Job,
        current: Option<(&'a Container, Comparison)>,
        candidate: Option<(&'a Container, Comparison)>,
        failed: bool,
    ) -> DependencyState {
        let subject = Subject::of(service);
        let causes = match &current {
            None => {
                let wanted = container_name(&self.desired.group, &service.name);
                let candidate = candidate.as_ref().map(|(candidate, _)| candidate.name.clone());
                vec![Cause::NoContainer { candidate, wanted }]
            }
            Some((_, comparison)) if !comparison.replace.is_empty() => comparison.replace.clone(),
            Some((container, _)) if !container.has_succeeded() => {
                vec![Cause::State { found: Some(container.state), wanted: WantedState::Succeeded }]
            }
            Some((container, _)) => match self.reruns(service, job, container) {
                Some(cause) => vec![cause],
                None => return self.rest_job(service, container, candidate.map(|(candidate, _)| candidate)),
            },
        };
        let cause = super::cause::fields(&causes);
        let cause = if current.is_none() { "not run yet".to_owned() } else { cause };
        let action = if current.is_none() { Action::Create } else { Action::Replace };
        self.change(subject, action, causes);
        if failed {
            // The failed container is kept for inspection.
            return DependencyState::Failed;
        }
        self.create_replacement(service, current.map(|(current, _)| current), candidate, &cause)
    }

    /// The job has succeeded; nothing to run.
    fn rest_job(
        &mut self,
        service: &'a Service,
        done: &'a Container,
        candidate: Option<&'a Container>,
    ) -> DependencyState {
        if let Some(candidate) = candidate {
            let cause = vec![Cause::Name { found: Some(candidate.name.clone()), wanted: None }];
            self.change(Subject::of(service), Action::Update, cause);
            self.remove_surplus(service, candidate, "replacement no longer needed: job succeeded");
        } else if self.has_pending_outputs() && !self.is_collected(service, done) {
            return DependencyState::Started;
        }
        DependencyState::Succeeded
    }

    /// Why a job that has succeeded runs again.
    fn reruns(&self, service: &'a Service, job: Job, done: &Container) -> Option<Cause> {
        match job.rerun {
            Rerun::Never => None,
            Rerun::Always => {
                let succeeded = self.memory.services.get(&service.name).is_some_and(|service| service.job_succeeded);
                (!succeeded).then(|| Cause::field("rerun", None, Some("always")))
            }
            Rerun::WithDependencies => service.dependencies.iter().find_map(|dependency| {
                let replicas = self.replicas.get(dependency.name.as_str())?;
                let current = |replica: &&Service| self.slots.get(replica.name.as_str())?.current;
                // Scale-out does not count as a change of the dependency.
                let oldest = replicas.iter().filter_map(current).map(|container| container.created).min()?;
                (oldest > done.created).then(|| Cause::Dependency(dependency.name.clone()))
            }),
        }
    }

    /// Waits for a running job to exit.
    pub(super) fn await_end(&mut self, service: &Service, container: &Container) -> DependencyState {
        let awaited = Awaited { container: container.id.clone(), limit: FOR_EVER };
        self.wait_quietly(service, "runs".to_owned(), Some(awaited));
        DependencyState::Started
    }
}

impl Container {
    /// Returns true if the container exited with 0.
    pub fn has_succeeded(&self) -> bool {
        self.state == State::Exited { code: Some(0) }
    }
}
