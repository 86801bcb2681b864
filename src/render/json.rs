//! JSON output. Stable: fields are added, never changed or removed.

use serde_json::{Value, json};

use crate::control::event::Outcome;
use crate::desired::Desired;
use crate::identity::service_of_instance;
use crate::plan::Forecast;
use crate::plan::cause::{Cause, WantedState};
use crate::plan::step::{Change, Failure};
use crate::spec::secrets::HIDDEN;
use crate::status::{Overview, ServiceStatus};

/// The JSON of `diff`. `failures` is present only if there are any.
pub fn diff(desired: &Desired, forecast: &Forecast, show_values: bool) -> Value {
    let mut value = json!({ "group": desired.group, "changes": changes(&forecast.changes, show_values) });
    if !forecast.failures.is_empty() {
        value["failures"] = forecast.failures.iter().map(|failed| failure(failed, desired)).collect();
    }
    if !forecast.notes.is_empty() {
        value["notes"] = forecast.notes.iter().map(String::as_str).collect();
    }
    value
}

/// The JSON of `status`. `specs` and `engine` are present only if there is an error.
pub fn status(overview: &Overview) -> Value {
    let mut value = json!({
        "group": overview.group,
        "watched": overview.watched,
        "services": overview.services.iter().map(service).collect::<Vec<_>>(),
    });
    for (field, error) in [("specs", &overview.specs), ("engine", &overview.engine)] {
        if let Some(error) = error {
            value[field] = error[..].into();
        }
    }
    value
}

/// The JSON of `up`, `down`, `start`, `stop`, `reload` and `run`.
pub fn outcome(desired: &Desired, outcome: &Outcome, services: &[ServiceStatus]) -> Value {
    let result = if outcome.interrupted {
        "interrupted"
    } else if outcome.is_good() {
        "done"
    } else {
        "failed"
    };
    let failures: Vec<Value> = outcome
        .failed
        .values()
        .map(|failed| {
            let mut value = failure(&failed.failure, desired);
            value["output"] = failed.output.clone().into();
            value
        })
        .collect();
    let waits: Vec<Value> = outcome
        .waits
        .iter()
        .map(|wait| {
            let (service, replica) = service_and_replica(&wait.service, desired);
            with_replica(json!({ "service": service, "message": wait.reason }), replica)
        })
        .collect();
    let stuck: Vec<Value> = outcome
        .stuck
        .iter()
        .map(|(subject, stuck)| json!({ "name": subject.name(), "kind": subject.kind(), "message": stuck.error }))
        .collect();
    json!({
        "group": desired.group,
        "outcome": result,
        "changes": changes(&outcome.changes, false),
        "failures": failures,
        "waiting": waits,
        "stuck": stuck,
        "services": services.iter().map(service).collect::<Vec<_>>(),
    })
}

fn changes(changes: &[Change], show_values: bool) -> Vec<Value> {
    changes
        .iter()
        .map(|change| {
            let mut value = json!({
                "service": service_of_instance(change.subject.name(), change.replica),
                "kind": change.kind,
                "action": change.action.word(),
                "causes": change.causes.iter().map(|cause| self::cause(cause, show_values)).collect::<Vec<_>>(),
                "source": change.source,
            });
            if let Some(why) = &change.interrupts {
                value["interrupts"] = why.as_str().into();
            }
            with_replica(value, change.replica)
        })
        .collect()
}

/// The JSON of a cause. Values that may be secret are replaced unless `show_values` is set.
pub fn cause(cause: &Cause, show_values: bool) -> Value {
    let (old, new) = values(cause);
    let hide = is_secret(cause) && !show_values;
    let mut value = json!({"field": cause.path(), "old": shown(old.as_ref(), hide), "new": shown(new.as_ref(), hide)});
    if let Cause::Sources { files, .. } = cause {
        value["files"] = files.first.clone().into();
        value["more_files"] = files.more.into();
    }
    value
}

/// Returns true if the values of a cause may be secret.
pub fn is_secret(cause: &Cause) -> bool {
    matches!(cause, Cause::Field { secret: true, .. })
}

/// The old and the new value of a cause.
pub fn values(cause: &Cause) -> (Option<Value>, Option<Value>) {
    let text = |text: &Option<String>| text.as_deref().map(Value::from);
    match cause {
        Cause::Field { old, new, .. } => (old.clone(), new.clone()),
        Cause::Sources { old, new, .. } => (Some(old.clone()), Some(new.clone())),
        Cause::State { found, wanted } => {
            let found = found.map_or_else(|| "removed".to_owned(), |state| state.to_string());
            let wanted = match wanted {
                WantedState::Running => "running",
                WantedState::Succeeded => "succeeded",
                WantedState::Stopped => "stopped",
            };
            (Some(found.into()), Some(wanted.into()))
        }
        Cause::Name { found, wanted } => (text(found), text(wanted)),
        Cause::Network { found, wanted } => (text(found), Some(wanted.as_str().into())),
        Cause::NoContainer { candidate, wanted } => (text(candidate), Some(wanted.as_str().into())),
        Cause::Unhealthy => (Some("unhealthy".into()), Some("healthy".into())),
        Cause::MountedFile { source, .. } => {
            (Some(format!("{source} as mounted").into()), Some(format!("{source} changed").into()))
        }
        Cause::EarlierBuild => (Some("unused earlier build".into()), None),
        Cause::Profiles(profiles) => (Some(profiles.iter().map(String::as_str).collect()), None),
        Cause::Dependency(_) | Cause::Reload => (None, None),
    }
}

/// The value, or a placeholder if it is to be hidden.
pub fn shown(value: Option<&Value>, hide: bool) -> Value {
    match value {
        None => Value::Null,
        Some(_) if hide => HIDDEN.into(),
        Some(value) => value.clone(),
    }
}

fn failure(failure: &Failure, desired: &Desired) -> Value {
    let (service, replica) = service_and_replica(&failure.service, desired);
    let value = json!({ "service": service, "reason": failure.reason.word(), "message": failure.message });
    with_replica(value, replica)
}

/// Adds the replica index, if there is one.
pub fn with_replica(mut value: Value, replica: Option<u32>) -> Value {
    if let Some(number) = replica {
        value["replica"] = number.into();
    }
    value
}

/// Splits a name into service and replica index; an orphan has only its name.
fn service_and_replica<'a>(name: &'a str, desired: &'a Desired) -> (&'a str, Option<u32>) {
    desired.spec_of(name).map_or((name, None), |spec| (&spec.service[..], spec.replica))
}

fn service(status: &ServiceStatus) -> Value {
    let value = json!({
        "name": status.name,
        "kind": status.kind,
        "phase": status.phase.word(),
        "ready": status.ready,
        "container": status.container.as_ref().map(|container| {
            json!({ "id": container.id, "name": container.name, "image": container.image })
        }),
        "restarts": status.restarts,
        "reason": status.reason,
        "message": status.message,
        "ports": status.ports,
        "since": status.since,
        "last_exit": status.last_exit.as_ref().map(|exit| {
            json!({ "code": exit.code, "reason": exit.reason, "at": exit.at })
        }),
        "next_try": status.next_try,
    });
    with_replica(value, status.replica)
}
