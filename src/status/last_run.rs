//! What the engine does not show of the last one-shot run: a current container that did not answer its ping, a replacement
//! that was rolled back, and which containers `drillmaster stop` stopped.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::desired::{Desired, Mode, Service, fingerprint};
use crate::observed::{Container, Observed};
use crate::plan::current_container;
use crate::plan::step::{Failure, Step, Verb};
use crate::types::{ContainerId, ServiceName};

/// The last runs. Kept in the state directory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LastRun {
    /// Failures by service. They hold until the service or its current container changes.
    failures: BTreeMap<ServiceName, LastFailure>,
    /// Containers that were stopped on request.
    stopped: BTreeSet<ContainerId>,
}

/// Failure of a service in the last run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastFailure {
    /// CamelCase word.
    pub reason: String,
    /// Message that belongs to the reason, without secret values.
    pub message: String,
    /// The replacement failed, and the current container is an earlier one.
    pub replaces: bool,
    /// Hash of the service that failed.
    revision: String,
    /// The current container after the run.
    container: Option<ContainerId>,
}

impl LastRun {
    /// Records the end of a run. Failures of services out of its scope are kept. `hide` removes secret values.
    pub fn record<'f>(
        &mut self,
        desired: &Desired,
        observed: &Observed,
        failures: impl Iterator<Item = &'f Failure>,
        steps: &[Step],
        hide: impl Fn(&str) -> String,
    ) {
        self.failures
            .retain(|name, _| desired.spec_of(name).is_some_and(|service| !desired.scope.contains(&service.service)));
        for failure in failures {
            let Some(service) = desired.services.get(&failure.service) else { continue };
            let failed = LastFailure {
                reason: failure.reason.word().to_owned(),
                message: hide(&failure.message),
                replaces: failure.replaces,
                revision: fingerprint::revision(service),
                container: current_container(desired, observed, &service.name).map(|container| container.id.clone()),
            };
            self.failures.insert(failure.service.clone(), failed);
        }
        if desired.mode == Mode::StopOnly {
            let stopped =
                |step: &Step| if let Verb::Stop(container) = &step.verb { Some(container.id.clone()) } else { None };
            self.stopped.extend(steps.iter().filter_map(stopped));
        }
        self.stopped.retain(|id| observed.containers.get(id).is_some_and(|container| !container.is_up()));
    }

    /// Returns true if the container was stopped on request.
    pub fn is_stopped(&self, container: &Container) -> bool {
        self.stopped.contains(&container.id)
    }

    /// The failure of a service, unless the service or its current container has changed since.
    pub fn failure(&self, desired: &Desired, observed: &Observed, service: &Service) -> Option<&LastFailure> {
        let failure = self.failures.get(&service.name)?;
        let container = current_container(desired, observed, &service.name).map(|container| &container.id);
        (failure.container.as_ref() == container && failure.revision == fingerprint::revision(service))
            .then_some(failure)
    }

    pub fn is_empty(&self) -> bool {
        self.failures.is_empty() && self.stopped.is_empty()
    }
}
