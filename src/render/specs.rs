//! The output of `drillmaster render`: the specs with variables replaced and programs evaluated, as YAML or JSON.

use serde_json::{Value as Json, json};
use serde_yaml::{Mapping, Value as Yaml};

use super::text::{escaped, escaped_json, is_unsafe};
use crate::spec::model::Kind;
use crate::spec::node::{Entry, Node, Style, Value};
use crate::spec::secrets::HIDDEN;
use crate::spec::write::to_yaml;
use crate::spec::{Source, Specs};

/// A document to print.
struct Document<'s> {
    kind: &'static str,
    source: &'s Source,
    root: Node,
}

/// The named documents, or the group and all services.
fn documents<'s>(specs: &'s Specs, names: &[String], show_values: bool) -> Vec<Document<'s>> {
    let group = specs.group.iter().filter(|_| names.is_empty());
    let group =
        group.map(|group| Document { kind: "Group", source: &group.source, root: group.render_form(show_values) });
    let is_selected = |name: &str| names.is_empty() || names.iter().any(|selected| selected == name);
    let services =
        specs.services.iter().filter(|service| is_selected(service.spec.container.name.as_str())).map(|service| {
            let kind = match service.spec.kind {
                Kind::Service => "Service",
                Kind::Job(_) => "Job",
            };
            Document { kind, source: &service.source, root: service.render_form(show_values) }
        });
    let mut documents: Vec<Document<'_>> = group.chain(services).collect();
    if !show_values {
        documents.iter_mut().for_each(|document| hide(&mut document.root));
    }
    documents
}

/// Replaces the values of environment variables, where null removes one, and the content of configs.
fn hide(root: &mut Node) {
    let Value::Map(entries) = &mut root.value else { return };
    let is_file = |entry: &&mut Entry| matches!(entry.key.text.as_str(), "configs" | "secrets");
    for entry in entries.iter_mut().filter(is_file) {
        // Of the group: a service has a list.
        let Value::Map(files) = &mut entry.value.value else { continue };
        for content in files.iter_mut().filter_map(|file| file.value.get_mut("content")) {
            *content = Node::scalar(content.span.clone(), HIDDEN, Style::Text);
        }
    }
    for entry in entries.iter_mut().filter(|entry| entry.key.text == "env") {
        if let Value::Map(variables) = &mut entry.value.value {
            for variable in variables.iter_mut().filter(|variable| !variable.value.is_null()) {
                variable.value = Node::scalar(variable.value.span.clone(), HIDDEN, Style::Text);
            }
        }
    }
}

/// The specs as YAML, each document with its source as a comment. With the values of the environment, and without
/// functions, it can be loaded again and describes the same desired state.
pub fn yaml(specs: &Specs, names: &[String], show_values: bool) -> String {
    let documents = documents(specs, names, show_values).into_iter().map(|Document { kind, source, root }| {
        let mut comment = format!("# {}\n", escaped(&source.to_string()));
        if has_functions(&root) {
            comment += "# contains functions, which only programs can define\n";
        }
        let mut fields = Mapping::new();
        if kind != "Service" {
            fields.insert("kind".into(), kind.into());
        }
        if let Yaml::Mapping(rest) = to_yaml(&root, &specs.functions, true) {
            fields.extend(rest);
        }
        // Only unusual keys can fail; the keys here are strings.
        let yaml = serde_yaml::to_string(&fields).unwrap_or_default();
        comment + &escaped_yaml(yaml, &fields)
    });
    documents.collect::<Vec<_>>().join("---\n")
}

/// The YAML of a document. The writer does not escape bidirectional and zero-width characters: a document with such
/// characters is written as JSON, which is YAML.
fn escaped_yaml(yaml: String, fields: &Mapping) -> String {
    if !yaml.contains(|c| is_unsafe(c) && c != '\n') {
        return yaml;
    }
    escaped_json(&serde_json::to_string_pretty(fields).unwrap_or_default()).into_owned() + "\n"
}

/// The specs as JSON: `[{"kind": "Service", "source": "app.yaml:1", "spec": {...}}]`.
pub fn to_json(specs: &Specs, names: &[String], show_values: bool) -> Json {
    let documents = documents(specs, names, show_values).into_iter().map(|Document { kind, source, root }| {
        json!({ "kind": kind, "source": source.to_string(), "spec": to_yaml(&root, &specs.functions, false) })
    });
    documents.collect()
}

fn has_functions(node: &Node) -> bool {
    match &node.value {
        Value::Map(entries) => entries.iter().any(|entry| has_functions(&entry.value)),
        Value::Seq(items) => items.iter().any(has_functions),
        value => matches!(value, Value::Function(_)),
    }
}
