//! Failures of the last one-shot run. The engine does not show them: a current container that did not answer its ping, a
//! replacement that was rolled back. They hold until the service or its container changes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::desired::{Desired, Service, fingerprint};
use crate::identity::container_name;
use crate::observed::{Container, Observed};
use crate::plan::instance_of;
use crate::plan::step::Failure;
use crate::types::{ContainerId, ServiceName};

/// Failures by service. Kept in the state directory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LastRun(BTreeMap<ServiceName, LastFailure>);

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
    /// Records the failures of a run. Those of services out of its scope are kept. `hide` removes secret values.
    pub fn record<'f>(
        &mut self,
        desired: &Desired,
        observed: &Observed,
        failures: impl Iterator<Item = &'f Failure>,
        hide: impl Fn(&str) -> String,
    ) {
        self.0.retain(|name, _| {
            desired.services.get(name).is_some_and(|service| !desired.scope.contains(&service.service))
        });
        for failure in failures {
            let Some(service) = desired.services.get(&failure.service) else { continue };
            let failed = LastFailure {
                reason: failure.reason.word().to_owned(),
                message: hide(&failure.message),
                replaces: failure.replaces,
                revision: fingerprint::revision(service),
                container: current(desired, observed, service).map(|container| container.id.clone()),
            };
            self.0.insert(failure.service.clone(), failed);
        }
    }

    /// The failure of a service, unless the service or its current container has changed since.
    pub fn failure(&self, desired: &Desired, observed: &Observed, service: &Service) -> Option<&LastFailure> {
        let failure = self.0.get(&service.name)?;
        let container = current(desired, observed, service).map(|container| &container.id);
        (failure.container.as_ref() == container && failure.revision == fingerprint::revision(service))
            .then_some(failure)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn current<'o>(desired: &'o Desired, observed: &'o Observed, service: &Service) -> Option<&'o Container> {
    let name = container_name(&desired.group, &service.name);
    let mut ours = observed.of_group(&desired.group);
    ours.find(|container| container.name == name && instance_of(desired, container).as_deref() == Some(&*service.name))
}
