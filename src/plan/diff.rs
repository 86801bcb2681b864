//! Comparison of a container with its spec. Pure; `plan` decides what follows from it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::cause::Cause;
use super::images::wanted_image;
use super::namespaces::replaced_targets;
use crate::desired::fingerprint::{self, Change, VERSION, change_of};
use crate::desired::{Config, Kind, Service};
use crate::identity::Identity;
use crate::observed::{Container, Details, Observed};
use crate::spec::value::Signal;

/// Result of a comparison.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Comparison {
    /// Differences that replace the container.
    pub replace: Vec<Cause>,
    /// Differences that are updated in place.
    pub update: Vec<Cause>,
    /// Differences that restart the container.
    pub restart: Vec<Cause>,
    /// Signals that the container is sent, and why.
    pub signals: BTreeMap<Signal, Vec<Cause>>,
    /// The container must be inspected first.
    pub unclear: bool,
}

/// Compares a managed container with its service. `updated`: it was updated in place, so its labels may be outdated.
pub fn compare(
    service: &Service,
    container: &Container,
    identity: &Identity,
    observed: &Observed,
    updated: bool,
) -> Comparison {
    // A field that uses an unknown output has no value to compare.
    let open = service.outputs.awaited().next().is_some();
    if open || agrees(service, container, identity, observed, updated) {
        return Comparison::default();
    }
    let applied = match identity.applied() {
        Some(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    let wanted = fingerprint::canonical(service.kind, &service.config);
    let mut found = Comparison::default();
    // Its name was that of another service, or of a replica.
    if identity.service != service.service {
        let (found_name, wanted) = (Some(identity.service.clone()), Some(service.service.clone()));
        found.replace.push(Cause::Name { found: found_name, wanted });
    }
    compare_spec(service, identity, &applied, &wanted, &mut found);
    found.replace.extend(replaced_targets(service, identity, observed));
    compare_image(service, identity, observed, &mut found);
    compare_env(service, container, identity, &applied, &mut found);
    let present = container.details.as_ref().map(|details| updatable(details, service, observed));
    compare_updatable(present, updated, &applied, &wanted, &mut found);
    if service.build.is_some() {
        // Another tag in the same repository means other sources.
        found.replace.iter_mut().for_each(rename_if_rebuilt);
    }
    hide_secrets(service, identity, &applied, &wanted, &mut found);
    found.replace.sort_by(|a, b| a.path().cmp(&b.path()));
    found
}

/// Returns true if nothing differs at first glance: the usual case, checked at every event.
fn agrees(service: &Service, container: &Container, identity: &Identity, observed: &Observed, updated: bool) -> bool {
    let fingerprint = &service.fingerprint;
    let labels = identity.service == service.service
        && identity.spec == fingerprint.applied
        && identity.spec_hash == fingerprint.spec_hash
        && identity.env_hash == fingerprint.env_hash;
    let image = identity.image_id.is_empty()
        || wanted_image(service, observed).is_none_or(|now| observed.is_same_image(&identity.image_id, now));
    let limits = match &container.details {
        Some(details) => {
            let present = updatable(details, service, observed);
            present.resources == service.config.resources && present.restart == service.config.restart
        }
        None => !updated,
    };
    labels && image && limits && replaced_targets(service, identity, observed).is_empty()
}

/// Marks the differences of fields that are secret, or were when the container was created. Except for labels, whose names
/// are shown, they differ as a whole: keys in them, such as the paths of `tmpfs`, may be secret too.
fn hide_secrets(
    service: &Service,
    identity: &Identity,
    applied: &Map<String, Value>,
    wanted: &Map<String, Value>,
    found: &mut Comparison,
) {
    for causes in [&mut found.replace, &mut found.update] {
        for cause in causes.iter_mut() {
            let Cause::Field { path, secret, .. } = cause else { continue };
            let field = path.split('.').next().unwrap_or_default().to_owned();
            if matches!(field.as_str(), "configs" | "secrets") {
                // A digest of a short secret tells what it is.
                *secret = true;
                continue;
            }
            if !service.secret.contains(&field) && !identity.secret.contains(&field) {
                continue;
            }
            *secret = true;
            if field != "labels" {
                let (old, new) = (applied.get(&field).cloned(), wanted.get(&field).cloned());
                *cause = Cause::Field { path: field, old, new, secret: true };
            }
        }
        causes.dedup();
    }
}

/// Renames a change of the image to `build` if both images are in one repository: the tag is a hash of the sources.
fn rename_if_rebuilt(cause: &mut Cause) {
    let repository = |image: &Option<Value>| {
        let (repository, _) = image.as_ref()?.as_str()?.rsplit_once(':')?;
        (repository != "sha256").then(|| repository.to_owned())
    };
    if let Cause::Field { path, old, new, .. } = cause
        && path == "image"
        && repository(old).is_some_and(|old| Some(old) == repository(new))
    {
        *path = "build".into();
    }
}

/// Equal hashes of this version decide alone; otherwise the canonical JSON is compared.
fn compare_spec(
    service: &Service,
    identity: &Identity,
    applied: &Map<String, Value>,
    wanted: &Map<String, Value>,
    found: &mut Comparison,
) {
    if identity.spec_hash == service.fingerprint.spec_hash {
        return;
    }
    let replaced = |fields: &Map<String, Value>| -> Map<String, Value> {
        fields
            .iter()
            .filter(|(field, _)| change_of(field) == Change::Replace)
            .map(|(field, value)| (field.clone(), value.clone()))
            .collect()
    };
    let before = found.replace.len();
    differences("", &Value::Object(replaced(applied)), &Value::Object(replaced(wanted)), &mut found.replace);
    if identity.spec_hash.starts_with(VERSION) && found.replace.len() == before {
        found.replace.push(Cause::field(
            crate::identity::SPEC_HASH,
            Some(&identity.spec_hash),
            Some(&service.fingerprint.spec_hash),
        ));
    }
}

/// The same reference may point to another image after a build or a pull.
fn compare_image(service: &Service, identity: &Identity, observed: &Observed, found: &mut Comparison) {
    let Some(now) = wanted_image(service, observed) else {
        return;
    };
    if !identity.image_id.is_empty()
        && !observed.is_same_image(&identity.image_id, now)
        && found.replace.iter().all(|cause| cause.path() != "image")
    {
        found.replace.push(Cause::field("image", Some(&identity.image_id), Some(now)));
    }
}

/// Labels hold no values of the environment, so which variable changed needs an inspection.
fn compare_env(
    service: &Service,
    container: &Container,
    identity: &Identity,
    applied: &Map<String, Value>,
    found: &mut Comparison,
) {
    if identity.env_hash == service.fingerprint.env_hash {
        return;
    }
    let Some(details) = &container.details else {
        found.unclear = true;
        return;
    };
    let names: BTreeSet<&str> =
        applied.get("env").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let before = found.replace.len();
    let mut cause = |name: &str, old: Option<&String>, new: Option<&String>| {
        found.replace.push(Cause::Field {
            path: format!("env.{name}"),
            old: old.map(|value| Value::from(value.as_str())),
            new: new.map(|value| Value::from(value.as_str())),
            secret: true,
        });
    };
    for (name, value) in &service.env {
        let (known, present) = (names.contains(name.as_str()), details.env.get(name));
        match value {
            // A variable of the image that the old spec did not set is new.
            Some(value) if present.filter(|_| known) != Some(value) => {
                cause(name, present.filter(|_| known), Some(value))
            }
            // Removed now; before, it may have been missing in the image.
            None if present.is_some() || !known => cause(name, present, None),
            _ => {}
        }
    }
    for name in names {
        if !service.env.contains_key(name) {
            cause(name, details.env.get(name), None);
        }
    }
    if identity.env_hash.starts_with(VERSION) && found.replace.len() == before {
        found.replace.push(Cause::field(
            crate::identity::ENV_HASH,
            Some(&identity.env_hash),
            Some(&service.fingerprint.env_hash),
        ));
    }
}

/// The fields of a container that can be updated in place, as the engine has them. Limits that it ignores do not differ.
fn updatable(details: &Details, service: &Service, observed: &Observed) -> Config {
    let resources = observed.capabilities.limits.effective(&details.resources, &service.config.resources);
    Config { resources, restart: details.restart, ..Config::default() }
}

/// Limits that an update can remove. Others stay if they are left out of the request. Swap is limited with the memory.
const REMOVABLE_LIMITS: [&str; 2] = ["pids", "memory_swap"];

/// Fields that can be updated in place may have been: where the label differs from the spec, an inspection is needed.
fn compare_updatable(
    present: Option<Config>,
    updated: bool,
    applied: &Map<String, Value>,
    wanted: &Map<String, Value>,
    found: &mut Comparison,
) {
    let updatable = |fields: &Map<String, Value>| -> Value {
        fields
            .iter()
            .filter(|(field, _)| change_of(field) == Change::Update)
            .map(|(field, value)| (field.clone(), value.clone()))
            .collect::<Map<_, _>>()
            .into()
    };
    let wanted_values = updatable(wanted);
    let present = match present {
        None if !updated && updatable(applied) == wanted_values => return,
        None => {
            found.unclear = true;
            return;
        }
        Some(config) => updatable(&fingerprint::canonical(Kind::Service, &config)),
    };
    let limits = present["resources"].as_object().into_iter().flatten();
    let takes_away = limits
        .filter(|(field, _)| wanted_values["resources"].get(field.as_str()).is_none())
        .any(|(field, _)| !REMOVABLE_LIMITS.contains(&field.as_str()));
    let causes = if takes_away { &mut found.replace } else { &mut found.update };
    differences("", &present, &wanted_values, causes);
}

/// Differences of two JSON values: recursive for objects, as a whole for everything else.
fn differences(path: &str, old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    if let (Value::Object(old), Value::Object(new)) = (old, new) {
        let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
        keys.sort();
        keys.dedup();
        for key in keys {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match (old.get(key), new.get(key)) {
                (Some(old), Some(new)) => differences(&path, old, new, causes),
                // An object that was added or removed is reported field by field, so that the paths stay the same.
                (Some(Value::Object(fields)), None) if !fields.is_empty() => {
                    differences(&path, &Value::Object(fields.clone()), &Value::Object(Map::new()), causes);
                }
                (None, Some(Value::Object(fields))) if !fields.is_empty() => {
                    differences(&path, &Value::Object(Map::new()), &Value::Object(fields.clone()), causes);
                }
                (old, new) => {
                    causes.push(Cause::Field { path, old: old.cloned(), new: new.cloned(), secret: false });
                }
            }
        }
    } else if old != new {
        causes.push(Cause::Field {
            path: path.to_owned(),
            old: Some(old.clone()),
            new: Some(new.clone()),
            secret: false,
        });
    }
}
