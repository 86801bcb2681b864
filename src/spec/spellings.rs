//! Spellings of compose files, replaced by ours before variables are substituted, so that no other code has to know them:
//! lists of `KEY=value`, variables without a value, `deploy`, maps of dependencies.

use std::ops::Range;

use super::interpolate::{ReferenceError, Variables};
use super::node::{Entry, Key, Node, Style, Value};

/// Conditions of compose's `depends_on`, and ours.
const CONDITIONS: [(&str, &str); 3] =
    [("service_started", "started"), ("service_healthy", "ready"), ("service_completed_successfully", "succeeded")];

/// Replaces the spellings. Returns errors for what has no equivalent. If it is not the document of a program, an
/// entry without a value in `env` and in the `args` of a build stands for the variable of the same name.
pub fn replace(root: &mut Node, is_program: bool, variables: Variables<'_>) -> Vec<ReferenceError> {
    let inherited = (!is_program).then_some(variables);
    if let Some(env) = root.get_mut("env") {
        list_to_map(env, Some(variables));
        inherit(env, inherited);
    }
    if let Some(build) = root.get_mut("build") {
        if let Some(args) = build.get_mut("args") {
            list_to_map(args, Some(variables));
            inherit(args, inherited);
        }
        if let Some(labels) = build.get_mut("labels") {
            list_to_map(labels, None);
        }
    }
    for field in ["labels", "annotations", "sysctls", "storage_opt"] {
        if let Some(map) = root.get_mut(field) {
            list_to_map(map, None);
        }
    }
    if let Some(dependencies) = root.get_mut("dependencies") {
        replace_dependencies(dependencies);
    }
    replace_deploy(root)
}

/// Returns the error for a compose file, which would cause many others.
pub fn compose_file(root: &Node) -> Option<ReferenceError> {
    let services = root.entry("services").filter(|entry| matches!(entry.value.value, Value::Map(_)))?;
    let message = "this is a docker compose file; a spec file has one document per service".to_owned();
    let hint = "write each service as a document with `name:` and without indentation, and `---` between two of them; \
                `environment` is called `env`, `depends_on` is called `dependencies`, volumes need no declaration";
    Some(ReferenceError::invalid(services.key.span.clone(), message, hint))
}

/// Converts a list of `KEY=value` to a map. A name alone is that of a variable, or without `variables` has an empty value.
/// Leaves lists with other items as they are; they are invalid.
fn list_to_map(node: &mut Node, variables: Option<Variables<'_>>) {
    let Value::Seq(items) = &node.value else { return };
    let mut entries: Vec<Entry> = Vec::new();
    for item in items {
        let Some(text) = item.text().filter(|text| !text.split('=').next().unwrap_or_default().contains("${")) else {
            return;
        };
        let (name, value) = match (text.split_once('='), variables) {
            (Some((name, value)), _) => (name, Some(Node::scalar(item.span.clone(), value, Style::Text))),
            (None, None) => (text, Some(Node::scalar(item.span.clone(), "", Style::Text))),
            (None, Some(variables)) => (text, variable(text, &item.span, variables)),
        };
        entries.retain(|entry| entry.key.text != name);
        let key = Key { span: item.span.clone(), text: name.to_owned() };
        entries.extend(value.map(|value| Entry { key, value }));
    }
    node.value = Value::Map(entries);
}

/// Gives each entry without a value the value of the variable, and removes it if that is not set. A written `null` is a
/// value.
fn inherit(node: &mut Node, variables: Option<Variables<'_>>) {
    let (Value::Map(entries), Some(variables)) = (&mut node.value, variables) else { return };
    entries.retain_mut(|entry| {
        let is_empty = matches!(&entry.value.value, Value::Scalar(scalar) if scalar.text.is_empty());
        if !(is_empty && entry.value.is_null()) {
            return true;
        }
        let value = variable(&entry.key.text, &entry.key.span, variables);
        value.map(|value| entry.value = value).is_some()
    });
}

/// Returns a reference to a variable, which is substituted like a written one; `None` if it is not set.
fn variable(name: &str, span: &Range<usize>, variables: Variables<'_>) -> Option<Node> {
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let known = name.chars().all(valid) && variables.value(name).is_some();
    known.then(|| Node::scalar(span.clone(), format!("${{{name}}}"), Style::Text))
}

/// Converts `{db: {condition: service_healthy}}` to `[{name: db, condition: ready}]`.
fn replace_dependencies(node: &mut Node) {
    if let Value::Map(entries) = &mut node.value {
        let dependency = |Entry { key, value }: Entry| {
            let name = Node::scalar(key.span.clone(), key.text.clone(), Style::Text);
            match value.value {
                Value::Map(mut fields) => {
                    let key = Key { span: key.span, text: "name".into() };
                    fields.insert(0, Entry { key, value: name });
                    Node { span: value.span, value: Value::Map(fields) }
                }
                _ if value.is_null() => name,
                other => Node { span: value.span, value: other },
            }
        };
        node.value = Value::Seq(std::mem::take(entries).into_iter().map(dependency).collect());
    }
    let Value::Seq(items) = &mut node.value else { return };
    for condition in items.iter_mut().filter_map(|item| item.get_mut("condition")) {
        if let Value::Scalar(condition) = &mut condition.value
            && let Some((_, ours)) = CONDITIONS.iter().find(|(theirs, _)| *theirs == condition.text)
        {
            (*ours).clone_into(&mut condition.text);
        }
    }
}

/// Moves `deploy.replicas` and `deploy.resources.limits` to `replicas` and `resources`. Returns errors for other fields.
fn replace_deploy(root: &mut Node) -> Vec<ReferenceError> {
    let mut errors = Vec::new();
    let mut unsupported = |entry: &Entry, path: &str| {
        let hint = match entry.key.text.as_str() {
            "restart_policy" => "write `restart: on-failure` or `restart: always`",
            "update_config" => "write `update: {order: start-first}`",
            "labels" => "write `labels` as a field of the service",
            _ => "of `deploy`, only `replicas` and `resources.limits` are supported",
        };
        let message = format!("`{path}.{}` is not supported", entry.key.text);
        errors.push(ReferenceError::invalid(entry.key.span.clone(), message, hint));
    };
    let Value::Map(fields) = &mut root.value else { return errors };
    let is_deploy = |field: &Entry| field.key.text == "deploy" && matches!(field.value.value, Value::Map(_));
    let Some(at) = fields.iter().position(is_deploy) else { return errors };
    let Value::Map(deploy) = fields.remove(at).value.value else { return errors };
    let mut found = Vec::new();
    for entry in deploy {
        match (entry.key.text.as_str(), &entry.value.value) {
            ("replicas", _) => found.push(entry),
            ("resources", Value::Map(kinds)) => {
                for kind in kinds {
                    match kind.key.text.as_str() {
                        "limits" => {
                            let key = Key { span: kind.key.span.clone(), text: "resources".into() };
                            found.push(Entry { key, value: kind.value.clone() });
                        }
                        _ => unsupported(kind, "deploy.resources"),
                    }
                }
            }
            _ => unsupported(&entry, "deploy"),
        }
    }
    for entry in found {
        match fields.iter().any(|field| field.key.text == entry.key.text) {
            true => {
                let message = format!("`{}` is set twice, as a field of the service and in `deploy`", entry.key.text);
                errors.push(ReferenceError::invalid(entry.key.span.clone(), message, "remove one of them"));
            }
            false => fields.push(entry),
        }
    }
    errors
}
