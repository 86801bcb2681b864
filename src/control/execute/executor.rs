//! One step is one engine verb. Translates and carries out; decides nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::hooks::Call;
use super::outputs::{OUTPUT, OUTPUT_OF_JOB};
use crate::control::event::HookEvent;
use crate::desired::outputs::Outputs;
use crate::desired::{Config, Desired, Hook, Service, Volume, VolumeSource};
use crate::engine::{BuildRequest, ContainerSpec, Engine, Mutation, PullProgress, Result};
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
    Perform(Mutation),
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
            Mutation::Create(Box::new(ContainerSpec {
                name: container.clone(),
                labels,
                volume_labels: identity::group_labels(&desired.group, &desired.source),
                config: with_declared_volumes(&service.config, image_id, observed),
                env: env(service),
                network: network.clone(),
                aliases: names.clone(),
                hostname: service.hostname().to_owned(),
                inherited: inherited.clone(),
            }))
        }
        Verb::Start(target) => Mutation::Start(target.id.to_string()),
        Verb::Unpause(target) => Mutation::Unpause(target.id.to_string()),
        Verb::Stop(target) => {
            let timeout = observed.containers.get(&target.id).map_or(STOP_TIMEOUT, stop_timeout);
            Mutation::Stop { id: target.id.to_string(), timeout: Some(timeout) }
        }
        Verb::Rename { container, to } => Mutation::Rename { id: container.id.to_string(), name: to.clone() },
        Verb::Update { container, resources, restart } => {
            Mutation::Update { id: container.id.to_string(), resources: *resources, restart: *restart }
        }
        Verb::Connect { container, network, names } => {
            Mutation::Connect { network: network.clone(), container: container.id.to_string(), aliases: names.clone() }
        }
        Verb::Disconnect { container, network } => {
            Mutation::Disconnect { network: network.clone(), container: container.id.to_string() }
        }
        Verb::Remove { container, volumes } => Mutation::Remove { id: container.id.to_string(), volumes: *volumes },
        Verb::CreateNetwork => Mutation::CreateNetwork {
            name: name.to_owned(),
            labels: identity::group_labels(&desired.group, &desired.source),
        },
        Verb::RemoveNetwork { id } => Mutation::RemoveNetwork(id.clone()),
        Verb::RemoveVolume => Mutation::RemoveVolume(name.to_owned()),
        Verb::RemoveImage => Mutation::RemoveImage(name.to_owned()),
        // It has progress of its own: see `build`.
        Verb::Build => return None,
        // More than a verb of the engine: see `call` and `control::context`.
        Verb::Hook { .. } | Verb::Collect(_) => return None,
    }))
}

/// The environment of a container. A job is told where to write its outputs, which is no part of its spec.
fn env(service: &Service) -> BTreeMap<String, String> {
    let mut env = service.env.clone();
    if service.is_job() {
        env.entry(OUTPUT.to_owned()).or_insert_with(|| OUTPUT_OF_JOB.to_owned());
    }
    env
}

/// The build of a step, and the service for which it is told; `None` where the step is none, or the specs no longer
/// want that image.
pub fn build(step: &Step, desired: &Desired) -> Option<(String, BuildRequest)> {
    let image = step.subject.name();
    let wants = |service: &&Service| service.build.is_some() && service.config.image == image;
    let service = desired.services.values().find(wants).filter(|_| step.verb == Verb::Build)?;
    let build = service.build.clone()?;
    let mut labels = build.labels.clone();
    labels.extend(identity::build_labels(&desired.group, &desired.source, image));
    Some((service.name.to_string(), BuildRequest { image: image.to_owned(), build, labels }))
}

/// The hook of a step.
///
/// # Errors
///
/// Why there is none to run: the specs no longer have it, or an output that it is told is not known.
pub fn call(step: &Step, desired: &Desired) -> std::result::Result<Call, String> {
    let gone = || "the specs no longer say what is to be done".to_owned();
    let Verb::Hook { moment, index, container, .. } = &step.verb else { return Err(gone()) };
    let service = desired.spec_of(step.subject.name()).ok_or_else(gone)?;
    known(&service.outputs, &moment.field(), *index)?;
    Ok(Call {
        service: Some(service.service.clone()),
        replica: service.replica,
        container: container.clone(),
        event: moment.to_string(),
        hook: service.hooks_at(*moment).get(*index).ok_or_else(gone)?.clone(),
        variables: BTreeMap::new(),
    })
}

/// Whether all outputs are known that a hook is told.
fn known(outputs: &Outputs, field: &str, index: usize) -> std::result::Result<(), String> {
    match outputs.unknown_of_hook(field, index) {
        Some(key) => Err(format!("the output `{key}` is not known")),
        None => Ok(()),
    }
}

/// The hooks that are told of something; an error where one cannot be: an output that it is told is not known.
pub fn calls(occurrence: &HookEvent, desired: &Desired) -> Vec<std::result::Result<Call, String>> {
    let outputs = match &occurrence.service {
        Some(service) => {
            let name = identity::instance_name(service, occurrence.replica);
            desired.spec_of(&name).map(|service| &service.outputs)
        }
        None => Some(&desired.outputs),
    };
    let call = |(index, hook): (usize, &Hook)| {
        outputs.map_or(Ok(()), |outputs| known(outputs, &format!("on.{}", occurrence.event), index))?;
        Ok(Call {
            service: occurrence.service.clone(),
            replica: occurrence.replica,
            container: occurrence.container.clone(),
            event: occurrence.event.clone(),
            hook: hook.clone(),
            variables: occurrence.variables.clone(),
        })
    };
    occurrence.hooks.iter().enumerate().map(call).collect()
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
        Act::Perform(deed) => engine.apply(deed).await,
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
