//! Fields that the engine is too old for, or does not have: nothing is created of the services that use them.

use super::Planner;
use super::readiness::DependencyState;
use super::step::Reason;
use crate::capabilities::{ApiVersion, EngineKind};
use crate::desired::{Need, Requirement, Service};
use crate::observed::Observed;

impl Planner<'_> {
    /// Fails a service with fields that need another engine.
    pub(super) fn unsupported(&mut self, service: &Service) -> Option<DependencyState> {
        let engine = &self.observed.capabilities;
        let needs = |it: &Requirement| match it.need {
            Need::Api(api) => needs_api(&format!("`{}`", it.field), &it.place, api, self.observed),
            Need::Docker(instead) => (engine.kind == EngineKind::Podman).then(|| {
                format!(
                    "`{}` ({}) needs Docker; the engine is Podman {}, which {instead}",
                    it.field, it.place, engine.version
                )
            }),
        };
        let message = service.requirements.iter().find_map(needs)?;
        self.fail(&service.name, Reason::Unsupported, message, None);
        Some(DependencyState::Failed)
    }
}

/// The message about something, written at this place, that needs a newer API than the engine has; `None` if it has it.
pub(super) fn needs_api(what: &str, place: &str, api: ApiVersion, observed: &Observed) -> Option<String> {
    let engine = &observed.capabilities;
    let release = api.docker().map(|version| format!(" (Docker {version})")).unwrap_or_default();
    (engine.api < api).then(|| {
        format!(
            "{what} ({place}) needs API {api}{release}; the engine is {} {} with API {}",
            engine.kind, engine.version, engine.api
        )
    })
}
