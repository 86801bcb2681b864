//! Containers that docker compose runs for the project whose compose files are the specs.

use super::Planner;

impl Planner<'_> {
    /// Containers of docker compose, which hold ports and write to the volumes.
    pub(super) fn project_problem(&self) -> Option<String> {
        let project = self.desired.project.as_ref()?;
        let containers = self.observed.containers.values().filter(|container| {
            container.identity.is_none() && container.is_up() && container.compose_project.as_ref() == Some(project)
        });
        let mut names: Vec<&str> = containers.map(|container| container.name.as_str()).collect();
        names.sort_unstable();
        let message = || {
            format!(
                "docker compose runs this project: {}; `docker compose -p {project} down` removes these containers and keeps \
             the volumes",
                names.join(", ")
            )
        };
        (!names.is_empty()).then(message)
    }
}
