//! Fields that the engine is too old for: nothing is created of the services that use them.

use super::Planner;
use super::readiness::DependencyState;
use super::step::Reason;
use crate::desired::Service;

impl Planner<'_> {
    /// Fails a service with fields that need a newer API.
    pub(super) fn unsupported(&mut self, service: &Service) -> Option<DependencyState> {
        let engine = &self.observed.capabilities;
        let required = service.requirements.iter().find(|required| engine.api < required.api)?;
        let release = required.api.docker().map(|version| format!(" (Docker {version})")).unwrap_or_default();
        let message = format!(
            "`{}` ({}) needs API {}{release}; the engine is {} {} with API {}",
            required.field, required.place, required.api, engine.kind, engine.version, engine.api
        );
        self.fail(&service.name, Reason::Unsupported, message, None);
        Some(DependencyState::Failed)
    }
}
