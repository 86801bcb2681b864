//! Who needs whom: in Graphviz's language, which draws it, and as JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::desired::{Dependency, Desired, Service};
use crate::spec::model::Condition;

/// `drillmaster graph | dot -Tsvg`: an arrow leads from who needs to what is needed. Jobs are round.
pub fn dot(desired: &Desired) -> String {
    let mut text = format!("digraph {} {{\n", quoted(&desired.group));
    let services = by_service(desired);
    for (name, service) in &services {
        let shape = if service.is_job() { "ellipse" } else { "box" };
        text += &format!("  {} [shape={shape}]\n", quoted(name));
    }
    for (name, service) in &services {
        for dependency in &service.dependencies {
            let label = label(dependency);
            let label = if label.is_empty() { label } else { format!(" [label={}]", quoted(&label)) };
            text += &format!("  {} -> {}{label}\n", quoted(name), quoted(&dependency.name));
        }
    }
    text + "}\n"
}

/// The same for programs.
pub fn json(desired: &Desired) -> Value {
    let services: Vec<Value> = by_service(desired)
        .into_iter()
        .map(|(name, service)| {
            json!({ "name": name, "kind": service.kind.word(), "dependencies": service.dependencies })
        })
        .collect();
    json!({ "group": desired.group, "services": services })
}

/// Replicas of a service need the same.
fn by_service(desired: &Desired) -> BTreeMap<&str, &Service> {
    desired.services.values().map(|service| (service.service.as_str(), service)).collect()
}

/// What goes without saying is not said: a service is to be ready, a job to have succeeded.
fn label(dependency: &Dependency) -> String {
    let condition = match dependency.condition {
        Condition::Started => "started",
        Condition::Ready | Condition::Succeeded => "",
    };
    let restart = if dependency.restart { "restart" } else { "" };
    [condition, restart].into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(", ")
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\\\""))
}
