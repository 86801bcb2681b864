//! Invariants of plans, checked before a step is executed. A step that violates one is a bug in the planner and is
//! refused.

use super::step::{Step, Verb};
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
            Some(_) => return Some(format!("`{step}` would touch a container that is not of this group")),
            None => return Some(format!("`{step}` would touch a container that does not exist")),
        }
    }
    match &step.verb {
        Verb::Remove { volumes: true, .. } | Verb::RemoveVolume if !desired.mode.purges_volumes() => {
            Some(format!("`{step}` would remove a volume without `--volumes` or `--images`"))
        }
        Verb::Create { .. } | Verb::Remove { .. } | Verb::RemoveNetwork { .. }
            if !matches!(desired.mode, Mode::Reconcile { .. }) =>
        {
            Some(format!("`{step}` is not allowed in start/stop mode"))
        }
        Verb::RemoveNetwork { id } => match observed.networks.get(id) {
            Some(network) if network.group.as_deref() == Some(desired.group.as_str()) => None,
            Some(network) if desired.is_empty() && is_left_over(network, desired, observed) => None,
            _ => Some(format!("`{step}` would remove a network that is not of this group")),
        },
        Verb::RemoveImage if !desired.mode.purges_images() => {
            Some(format!("`{step}` would remove an image without `--volumes` or `--images`"))
        }
        Verb::RemoveImage => match observed.built.get(step.subject.name()) {
            Some(built) if built.group == desired.group => None,
            _ => Some(format!("`{step}` would remove an image that was not built for this group")),
        },
        Verb::Build if !matches!(desired.mode, Mode::Reconcile { .. }) => {
            Some(format!("`{step}` is not allowed in start/stop mode"))
        }
        Verb::RemoveVolume => match observed.volumes.get(step.subject.name()) {
            Some(volume) if volume.group == desired.group => None,
            _ => Some(format!("`{step}` would remove a volume that is not of this group")),
        },
        _ => None,
    }
}
