//! Invariants of plans, checked before a step is executed. A step that violates one is a bug in the planner and is
//! refused.

use super::images::{is_ours, users};
use super::step::{Step, Subject, Verb};
use super::teardown::is_left_over;
use crate::desired::{Desired, Mode};
use crate::observed::Observed;

/// The invariant that a step violates, as a sentence.
pub fn violation(step: &Step, desired: &Desired, observed: &Observed) -> Option<String> {
    if let Some(container) = step.verb.container() {
        match observed.containers.get(&container.id).map(|container| container.identity.as_ref()) {
            Some(Some(identity)) if identity.group == desired.group && desired.owns(&identity.source) => {
                if !desired.scope.contains(&identity.service) {
                    return Some(format!("`{step}` would touch {}, which was left out", identity.service));
                }
            }
            Some(None) if is_taken_over(step, desired, observed) => {}
            Some(_) => return Some(format!("`{step}` would touch a container that is not of this group")),
            None => return Some(format!("`{step}` would touch a container that does not exist")),
        }
    }
    if desired.mode.is_about_images() {
        let is_allowed = matches!((desired.mode, &step.verb), (Mode::BuildImages, Verb::Build) | (_, Verb::Pull));
        return (!is_allowed).then(|| format!("`{step}` is not allowed in `build` and `pull`"));
    }
    match &step.verb {
        Verb::Remove { volumes: true, .. } | Verb::RemoveVolume if !desired.mode.purges_volumes() => {
            Some(format!("`{step}` would remove a volume without `--volumes`"))
        }
        Verb::Create { .. } | Verb::Remove { .. } | Verb::RemoveNetwork { .. }
            if !matches!(desired.mode, Mode::Reconcile { .. }) =>
        {
            Some(format!("`{step}` is not allowed in start/stop mode"))
        }
        Verb::RemoveNetwork { id } => match observed.networks.get(id) {
            Some(network) if desired.networks.get(&network.name).is_some_and(|wanted| wanted.external) => {
                Some(format!("`{step}` would remove an external network"))
            }
            Some(network) if network.group.as_deref() == Some(desired.group.as_str()) => None,
            Some(network)
                if desired.takeover.contains(id)
                    && network.compose_project.is_some()
                    && network.compose_project == desired.project =>
            {
                None
            }
            Some(network) if desired.is_empty() && is_left_over(network, desired, observed) => None,
            _ => Some(format!("`{step}` would remove a network that is not of this group")),
        },
        Verb::RemoveImage => image_violation(step, desired, observed),
        Verb::Build if !matches!(desired.mode, Mode::Reconcile { .. }) => {
            Some(format!("`{step}` is not allowed in start/stop mode"))
        }
        Verb::RemoveVolume => match observed.volumes.get(step.subject.name()) {
            Some(volume) if volume.group.as_ref() == Some(&desired.group) => None,
            _ => Some(format!("`{step}` would remove a volume that is not of this group")),
        },
        _ => None,
    }
}

/// Returns true if a step stops or removes a container of docker compose that was confirmed to be removed.
fn is_taken_over(step: &Step, desired: &Desired, observed: &Observed) -> bool {
    let container = step.verb.container().filter(|container| desired.takeover.contains(container.id.as_str()));
    let found = container.and_then(|container| observed.containers.get(&container.id));
    let project = found.and_then(|found| found.compose.as_ref()).map(|compose| &compose.project);
    let is_allowed = matches!(step.verb, Verb::Stop(_) | Verb::Remove { volumes: false, .. });
    is_allowed
        && matches!(step.subject, Subject::Container(_))
        && project.is_some_and(|it| Some(it) == desired.project.as_ref())
}

/// Only unused images of the group are removed; without `--images` also none that a service is to use.
fn image_violation(step: &Step, desired: &Desired, observed: &Observed) -> Option<String> {
    let reference = step.subject.name();
    let Some(built) = observed.built.get(reference).filter(|built| is_ours(built, desired)) else {
        return Some(format!("`{step}` would remove an image that was not built for this group"));
    };
    if let Some(user) = users(reference, built, observed).next() {
        return Some(format!("`{step}` would remove the image of container {}", user.name));
    }
    let is_wanted = desired.services.values().any(|service| service.config.image == reference);
    let removes_images = matches!(desired.mode, Mode::Reconcile { .. });
    match desired.mode.purges_images() || (removes_images && !is_wanted) {
        true => None,
        false => Some(format!("`{step}` would remove an image without `--images`")),
    }
}
