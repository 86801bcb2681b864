//! Translation of steps: what the executor has to run for a step. Pure; decides nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::hooks::HookCall;
use super::outputs::{JOB_OUTPUT_FILE, OUTPUT};
use crate::control::error::{HookError, StepError};
use crate::control::event::HookEvent;
use crate::desired::outputs::Outputs;
use crate::desired::{Config, Desired, Env, Hook, HookPoint, Service, Volume, VolumeSource, defers_names};
use crate::engine::{BuildRequest, ContainerSpec, Mutation};
use crate::identity;
use crate::observed::{Container, Observed, State};
use crate::plan::effect;
use crate::plan::step::{ContainerRef, Step, Subject, Verb};
use crate::spec::interpolate::MISSING;
use crate::spec::model::MountOptions;

/// The engine's own time between the stop signal and SIGKILL.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// What the executor runs for a step.
#[derive(Debug, Clone, PartialEq)]
pub enum Execution {
    Engine(Mutation),
    /// Pulls an image by reference.
    Pull {
        image: String,
        platform: Option<String>,
    },
    /// Builds an image. The output is reported as that of `service`.
    Build {
        service: String,
        request: BuildRequest,
    },
    Hook(HookCall),
    /// Collects the outputs of a job: those in its output file, and its standard output as `capture`.
    Collect {
        container: String,
        capture: Option<String>,
    },
}

/// Translates a step.
///
/// # Errors
///
/// [`StepError::Obsolete`] if the specs no longer have what the step is about; [`StepError::Hook`] if the hook cannot
/// run.
pub fn translate(step: &Step, desired: &Desired, observed: &Observed) -> Result<Execution, StepError> {
    let name = step.subject.name();
    let mutation = match &step.verb {
        Verb::Pull => return Ok(Execution::Pull { image: name.to_owned(), platform: platform(name, desired) }),
        Verb::Build => return build(name, desired).ok_or(StepError::Obsolete),
        Verb::Hook { point, index, container, .. } => {
            return Ok(Execution::Hook(hook_call(name, *point, *index, container.as_ref(), desired)?));
        }
        Verb::Collect(container) => {
            let capture = desired.services.get(name).and_then(|job| job.outputs.capture.clone());
            return Ok(Execution::Collect { container: container.id.to_string(), capture });
        }
        Verb::Create { name: container, joins, targets, image_id, inherited } => {
            let service = desired.services.get(name).ok_or(StepError::Obsolete)?;
            let mut labels: BTreeMap<String, String> = service.config.labels.clone();
            let identity = effect::identity(desired, service, image_id, defers_names(joins));
            labels.extend(effect::with_targets(identity, targets).to_labels());
            Mutation::Create(Box::new(ContainerSpec {
                name: container.clone(),
                labels,
                volume_labels: identity::group_labels(&desired.group, &desired.source),
                volumes: desired.volumes.clone(),
                config: with_declared_volumes(&service.config, image_id, observed),
                env: env(service),
                joins: joins.clone(),
                targets: targets.clone(),
                hostname: service.hostname().to_owned(),
                inherited: inherited.clone(),
            }))
        }
        Verb::Start(target) => {
            let id = target.id.to_string();
            let is_new = observed.containers.get(&target.id).is_some_and(|it| it.state == State::Created);
            // Until it has run, a container may be one whose files were not copied.
            let files = desired.services.get(name).filter(|_| is_new).map(|service| service.config.copied_files());
            match files.filter(|files| !files.is_empty()) {
                Some(files) => Mutation::FirstStart { id, files },
                None => Mutation::Start(id),
            }
        }
        Verb::Unpause(target) => Mutation::Unpause(target.id.to_string()),
        Verb::Signal { container, signal } => {
            Mutation::Signal { id: container.id.to_string(), signal: signal.to_string() }
        }
        Verb::Stop(target) => {
            let timeout = match (&step.subject, observed.containers.get(&target.id)) {
                (Subject::Container(_), container) => container.and_then(|it| stop_timeout_of_compose(it, desired)),
                (_, container) => Some(container.map_or(STOP_TIMEOUT, stop_timeout)),
            };
            Mutation::Stop { id: target.id.to_string(), timeout }
        }
        Verb::Rename { container, to } => Mutation::Rename { id: container.id.to_string(), name: to.clone() },
        Verb::Update { container, resources, restart } => {
            Mutation::Update { id: container.id.to_string(), resources: resources.clone(), restart: *restart }
        }
        Verb::Connect { container, join } => {
            Mutation::Connect { container: container.id.to_string(), join: Box::new(join.clone()) }
        }
        Verb::Disconnect { container, network, .. } => {
            Mutation::Disconnect { network: network.clone(), container: container.id.to_string() }
        }
        Verb::Remove { container, volumes } => Mutation::Remove { id: container.id.to_string(), volumes: *volumes },
        Verb::CreateNetwork => Mutation::CreateNetwork {
            name: name.to_owned(),
            labels: identity::group_labels(&desired.group, &desired.source),
            network: Box::new(desired.networks.get(name).cloned().ok_or(StepError::Obsolete)?),
        },
        Verb::RemoveNetwork { id } => Mutation::RemoveNetwork(id.clone()),
        Verb::RemoveVolume => Mutation::RemoveVolume(name.to_owned()),
        Verb::RemoveImage => Mutation::RemoveImage(name.to_owned()),
    };
    Ok(Execution::Engine(mutation))
}

/// The environment of a container. That of a job names its output file, which is not part of the spec.
fn env(service: &Service) -> Env {
    let mut env = service.env.clone();
    if service.is_job() {
        env.entry(OUTPUT.to_owned()).or_insert_with(|| Some(JOB_OUTPUT_FILE.to_owned()));
    }
    env
}

/// The platform that an image is pulled for: all services agree on it, or have none.
fn platform(image: &str, desired: &Desired) -> Option<String> {
    let users = desired.services.values().filter(|service| service.config.image == image);
    users.into_iter().find_map(|service| service.config.platform.clone())
}

/// The build of an image; `None` if no service wants it any more.
fn build(image: &str, desired: &Desired) -> Option<Execution> {
    let wants = |service: &&Service| service.build.is_some() && service.config.image == image;
    let service = desired.services.values().find(wants)?;
    let build = service.build.clone()?;
    let mut labels = build.labels.clone();
    labels.extend(identity::build_labels(&desired.group, &desired.source, image));
    let request = BuildRequest { image: image.to_owned(), build, labels };
    Some(Execution::Build { service: service.name.to_string(), request })
}

/// The hook at this point and index of a service.
fn hook_call(
    name: &str,
    point: HookPoint,
    index: usize,
    container: Option<&ContainerRef>,
    desired: &Desired,
) -> Result<HookCall, HookError> {
    let service = desired.spec_of(name).ok_or(HookError::NotInSpecs)?;
    check_outputs(&service.outputs, &point.field(), index)?;
    Ok(HookCall {
        service: Some(service.service.clone()),
        replica: service.replica,
        container: container.cloned(),
        event: point.to_string(),
        hook: service.hooks_at(point).get(index).ok_or(HookError::NotInSpecs)?.clone(),
        variables: BTreeMap::new(),
    })
}

/// Fails if a hook uses an output that is not set yet.
fn check_outputs(outputs: &Outputs, field: &str, index: usize) -> Result<(), HookError> {
    match outputs.unknown_of_hook(field, index) {
        Some(key) => Err(match key.strip_prefix(MISSING) {
            Some(variable) => HookError::MissingVariable(variable.to_owned()),
            None => HookError::UnknownOutput(key.to_owned()),
        }),
        None => Ok(()),
    }
}

/// The hooks of a lifecycle event, in their order; an error in place of each that cannot run.
pub fn hook_calls(event: &HookEvent, desired: &Desired) -> Vec<Result<HookCall, HookError>> {
    let outputs = match &event.service {
        Some(service) => {
            let name = identity::instance_name(service, event.replica);
            desired.spec_of(&name).map(|service| &service.outputs)
        }
        None => Some(&desired.outputs),
    };
    let call = |(index, hook): (usize, &Hook)| {
        outputs.map_or(Ok(()), |outputs| check_outputs(outputs, &format!("on.{}", event.event), index))?;
        Ok(HookCall {
            service: event.service.clone(),
            replica: event.replica,
            container: event.container.clone(),
            event: event.event.clone(),
            hook: hook.clone(),
            variables: event.variables.clone(),
        })
    };
    event.hooks.iter().enumerate().map(call).collect()
}

/// Adds an anonymous volume for each path that the image declares. The engine would create it as well, but without the
/// labels by which `down --volumes` finds it.
fn with_declared_volumes(config: &Config, image_id: &str, observed: &Observed) -> Config {
    let declared = observed.image_facts.get(image_id).map(|facts| facts.volumes.as_slice()).unwrap_or_default();
    let mut config = config.clone();
    for target in declared {
        let mounted = config.tmpfs.contains_key(target) || config.volumes.iter().any(|volume| volume.target == *target);
        if !mounted {
            let source = VolumeSource::Anonymous;
            let options = MountOptions::default();
            config.volumes.push(Volume { source, target: target.clone(), read_only: false, options });
        }
    }
    config
}

/// The stop timeout of a container of docker compose: that of the service in the same files; `None`: the container's own.
fn stop_timeout_of_compose(container: &Container, desired: &Desired) -> Option<Duration> {
    let service = &container.compose.as_ref()?.service;
    let config = &desired.services.values().find(|known| known.service == *service)?.config;
    Some(config.stop_timeout.map_or(STOP_TIMEOUT, |timeout| Duration::from_secs(timeout.0)))
}

/// The stop timeout in the spec from which the container was created.
fn stop_timeout(container: &Container) -> Duration {
    container
        .identity
        .as_ref()
        .and_then(|identity| serde_json::from_str::<Value>(&identity.spec).ok())
        .and_then(|spec| spec.get("stop_timeout")?.as_u64())
        .map_or(STOP_TIMEOUT, Duration::from_secs)
}
