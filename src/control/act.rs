//! One step is one engine verb. Translates and carries out; decides nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::event::Occurrence;
use super::hooks::Call;
use crate::desired::{Config, Desired, Volume, VolumeSource};
use crate::engine::{Blueprint, Deed, Engine, PullProgress, Result};
use crate::identity;
use crate::observed::{Container, Observed};
use crate::plan::effect;
use crate::plan::step::{Step, Verb};

/// The engine's own time between the stop signal and SIGKILL.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// What the engine is asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// A mutation.
    Perform(Deed),
    /// An image, by reference.
    Pull(String),
}

/// The engine's verb for a step; `None` where the step names a service that is not desired, which no plan does.
pub fn translate(step: &Step, desired: &Desired, observed: &Observed) -> Option<Act> {
    let name = step.subject.name();
    Some(Act::Perform(match &step.verb {
        Verb::Pull => return Some(Act::Pull(name.to_owned())),
        Verb::Create { name: container, network, names, image_id, inherited } => {
            let service = desired.services.get(name)?;
            let mut labels: BTreeMap<String, String> = service.config.labels.clone();
            labels.extend(effect::identity(desired, service, image_id).to_labels());
            Deed::Create(Box::new(Blueprint {
                name: container.clone(),
                labels,
                volume_labels: identity::group_labels(&desired.group, &desired.source),
                config: with_declared_volumes(&service.config, image_id, observed),
                env: service.env.clone(),
                network: network.clone(),
                aliases: names.clone(),
                hostname: service.hostname().to_owned(),
                inherited: inherited.clone(),
            }))
        }
        Verb::Start(target) => Deed::Start(target.id.clone()),
        Verb::Unpause(target) => Deed::Unpause(target.id.clone()),
        Verb::Stop(target) => {
            let timeout = observed.containers.get(&target.id).map_or(STOP_TIMEOUT, stop_timeout);
            Deed::Stop { id: target.id.clone(), timeout: Some(timeout) }
        }
        Verb::Rename { container, to } => Deed::Rename { id: container.id.clone(), name: to.clone() },
        Verb::Update { container, resources, restart } => {
            Deed::Update { id: container.id.clone(), resources: *resources, restart: *restart }
        }
        Verb::Connect { container, network, names } => {
            Deed::Connect { network: network.clone(), container: container.id.clone(), aliases: names.clone() }
        }
        Verb::Disconnect { container, network } => {
            Deed::Disconnect { network: network.clone(), container: container.id.clone() }
        }
        Verb::Remove { container, volumes } => Deed::Remove { id: container.id.clone(), volumes: *volumes },
        Verb::CreateNetwork => Deed::CreateNetwork {
            name: name.to_owned(),
            labels: identity::group_labels(&desired.group, &desired.source),
        },
        Verb::RemoveNetwork { id } => Deed::RemoveNetwork(id.clone()),
        Verb::RemoveVolume => Deed::RemoveVolume(name.to_owned()),
        // Not the engine's: see `call`.
        Verb::Hook { .. } => return None,
    }))
}

/// The hook of a step; `None` where the step is none, or the specs no longer have it.
pub fn call(step: &Step, desired: &Desired) -> Option<Call> {
    let Verb::Hook { moment, index, container, .. } = &step.verb else { return None };
    let service = desired.spec_of(step.subject.name())?;
    Some(Call {
        service: Some(service.service.clone()),
        replica: service.replica,
        container: container.clone(),
        event: moment.to_string(),
        hook: service.hooks_at(*moment).get(*index)?.clone(),
        variables: BTreeMap::new(),
    })
}

/// The hooks that are told of something.
pub fn calls(occurrence: &Occurrence) -> impl Iterator<Item = Call> {
    occurrence.hooks.iter().map(|hook| Call {
        service: occurrence.service.clone(),
        replica: occurrence.replica,
        container: occurrence.container.clone(),
        event: occurrence.event.clone(),
        hook: hook.clone(),
        variables: occurrence.variables.clone(),
    })
}

/// The engine makes an anonymous volume for each path that the image declares, without labels. Asked for by us it
/// gets ours, so that `down --volumes` finds it again.
fn with_declared_volumes(config: &Config, image_id: &str, observed: &Observed) -> Config {
    let declared = observed.image_facts.get(image_id).map(|facts| facts.volumes.as_slice()).unwrap_or_default();
    let mut config = config.clone();
    for target in declared {
        let filled = config.tmpfs.contains_key(target) || config.volumes.iter().any(|volume| volume.target == *target);
        if !filled {
            let source = VolumeSource::Anonymous;
            config.volumes.push(Volume { source, target: target.clone(), read_only: false });
        }
    }
    config
}

/// Does it.
pub async fn perform(
    act: &Act,
    engine: &dyn Engine,
    progress: &(dyn Fn(PullProgress) + Send + Sync),
) -> Result<Option<String>> {
    match act {
        Act::Perform(deed) => engine.perform(deed).await,
        Act::Pull(image) => engine.pull(image, progress).await.map(|()| None),
    }
}

/// The time that a container has to stop, as its spec said when it was created.
fn stop_timeout(container: &Container) -> Duration {
    container
        .identity
        .as_ref()
        .and_then(|identity| serde_json::from_str::<Value>(&identity.spec).ok())
        .and_then(|spec| spec.get("stop_timeout")?.as_u64())
        .map_or(STOP_TIMEOUT, Duration::from_secs)
}
