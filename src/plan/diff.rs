//! Is this container what the spec asks for? Pure comparison; what follows from it is decided in `plan`.

use serde_json::{Map, Value};

use super::cause::Cause;
use crate::desired::fingerprint::{self, Change, VERSION, change_of};
use crate::desired::{Kind, Service};
use crate::identity::Identity;
use crate::observed::{Container, Observed};

/// What a comparison found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Comparison {
    /// Differences for which the container is replaced.
    pub replace: Vec<Cause>,
    /// Differences that are changed on the running container.
    pub update: Vec<Cause>,
    /// The container has to be inspected before more can be said.
    pub unclear: bool,
}

/// Compares a container of ours with its service. `updated`: it was changed while it ran since it was created, so that
/// its labels do not say what holds now.
pub fn compare(
    service: &Service,
    container: &Container,
    identity: &Identity,
    observed: &Observed,
    updated: bool,
) -> Comparison {
    // What is made from an output that is not known yet has nothing to be compared with.
    let open = service.outputs.awaited().next().is_some();
    if open || agrees(service, container, identity, observed, updated) {
        return Comparison::default();
    }
    let applied = match serde_json::from_str(&identity.spec) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    let wanted = fingerprint::canonical(service.kind, &service.config);
    let mut found = Comparison::default();
    // Another service had its name, with a number at the end, or it has one that was a replica's.
    if identity.service != service.service {
        let (found_name, wanted) = (Some(identity.service.clone()), Some(service.service.clone()));
        found.replace.push(Cause::Name { found: found_name, wanted });
    }
    compare_spec(service, identity, &applied, &wanted, &mut found);
    compare_image(service, identity, observed, &mut found);
    compare_env(service, container, identity, &applied, &mut found);
    compare_updatable(container, updated, &applied, &wanted, &mut found);
    if service.build.is_some() {
        // An image of the same repository has another tag because it is built from something else.
        found.replace.iter_mut().for_each(rename_if_rebuilt);
    }
    found.replace.sort_by(|a, b| a.path().cmp(&b.path()));
    found
}

/// Whether nothing differs, as far as that is seen at a glance: it is so almost always, and asked for at every event.
fn agrees(service: &Service, container: &Container, identity: &Identity, observed: &Observed, updated: bool) -> bool {
    let fingerprint = &service.fingerprint;
    let labels = identity.service == service.service
        && identity.spec == fingerprint.applied
        && identity.spec_hash == fingerprint.spec_hash
        && identity.env_hash == fingerprint.env_hash;
    let image = identity.image_id.is_empty()
        || observed.images.get(&service.config.image).is_none_or(|now| identity.image_id == *now);
    let limits = match &container.details {
        Some(details) => details.resources == service.config.resources && details.restart == service.config.restart,
        None => !updated,
    };
    labels && image && limits
}

/// Names a change of the image `build` where both images are of one repository: the tag is a hash of the sources. Two
/// ids are not.
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

/// A hash of our version decides alone; of another version, the canonical JSON does.
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

/// The same reference may name another image by now (it was built or pulled again).
fn compare_image(service: &Service, identity: &Identity, observed: &Observed, found: &mut Comparison) {
    let Some(now) = observed.images.get(&service.config.image) else {
        return;
    };
    if !identity.image_id.is_empty()
        && identity.image_id != *now
        && found.replace.iter().all(|cause| cause.path() != "image")
    {
        found.replace.push(Cause::field("image", Some(&identity.image_id), Some(now)));
    }
}

/// Labels hold no values of the environment, so which of them changed is only told by an inspection.
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
    let names: Vec<&str> =
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
        // A variable that the image sets and the spec did not is new to the spec.
        let old = details.env.get(name).filter(|_| names.contains(&name.as_str()));
        if old != Some(value) {
            cause(name, old, Some(value));
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

/// What can be changed on a running container may have been changed since it was created, so where its label differs
/// from the spec only an inspection tells.
fn compare_updatable(
    container: &Container,
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
    let present = match &container.details {
        None if !updated && updatable(applied) == wanted_values => return,
        None => {
            found.unclear = true;
            return;
        }
        Some(details) => {
            let config = crate::desired::Config {
                resources: details.resources,
                restart: details.restart,
                ..crate::desired::Config::default()
            };
            updatable(&fingerprint::canonical(Kind::Service, &config))
        }
    };
    let takes_away =
        |field: &str| present["resources"].get(field).is_some() && wanted_values["resources"].get(field).is_none();
    // The request that updates a container has no word for taking these limits away.
    let causes = if takes_away("memory") || takes_away("cpus") { &mut found.replace } else { &mut found.update };
    differences("", &present, &wanted_values, causes);
}

/// Differences of two JSON values, objects entered, everything else compared as a whole.
fn differences(path: &str, old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    if let (Value::Object(old), Value::Object(new)) = (old, new) {
        let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
        keys.sort();
        keys.dedup();
        for key in keys {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match (old.get(key), new.get(key)) {
                (Some(old), Some(new)) => differences(&path, old, new, causes),
                // A whole object that came or went is told field by field, so that the paths stay the same.
                (Some(Value::Object(fields)), None) => {
                    differences(&path, &Value::Object(fields.clone()), &Value::Object(Map::new()), causes);
                }
                (None, Some(Value::Object(fields))) => {
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
