//! The dependency graph in DOT format and as JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::desired::{Dependency, Desired, Service};
use crate::spec::model::Condition;

/// The graph in DOT format. Edges point from the dependent to its dependency; jobs are ellipses.
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

/// The graph as JSON.
pub fn json(desired: &Desired) -> Value {
    let services: Vec<Value> = by_service(desired)
        .into_iter()
        .map(|(name, service)| {
            json!({ "name": name, "kind": service.kind.word(), "dependencies": service.dependencies })
        })
        .collect();
    json!({ "group": desired.group, "services": services })
}

/// One entry per service: its replicas have the same dependencies.
fn by_service(desired: &Desired) -> BTreeMap<&str, &Service> {
    desired.services.values().map(|service| (service.service.as_str(), service)).collect()
}

/// Labels only what differs from the default condition: ready for a service, succeeded for a job.
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
