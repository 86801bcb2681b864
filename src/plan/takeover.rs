//! Containers that docker compose runs for the project whose compose files are the specs.

use super::Planner;
use crate::desired::Mode;

impl Planner<'_> {
    /// Containers of docker compose hold ports and write to the volumes: every service that is to run fails, and nothing is
    /// touched.
    pub(super) fn conflict_of_project(&mut self) -> bool {
        let Some(project) = &self.desired.project else { return false };
        if !matches!(self.desired.mode, Mode::Reconcile { .. }) || self.desired.is_empty() {
            return false;
        }
        let containers = self.observed.containers.values().filter(|container| {
            container.identity.is_none() && container.is_up() && container.compose_project.as_ref() == Some(project)
        });
        let mut names: Vec<&str> = containers.map(|container| container.name.as_str()).collect();
        if names.is_empty() {
            return false;
        }
        names.sort_unstable();
        let message = format!(
            "docker compose runs this project: {}; `docker compose -p {project} down` removes these containers and keeps \
             the volumes",
            names.join(", ")
        );
        self.fail_in_scope(&message);
        true
    }
}
