//! Merging of documents: what a later one changes in what came before.
//!
//! Maps are merged by key, lists are appended, anything else is replaced; null keeps what came before. The exceptions
//! are in [`special`].

use std::collections::{HashMap, HashSet};

use super::super::node::{Entry, Key, Node, Style, Value};
use super::Problem;
use super::values::{Kind, kind, printed, text};

/// Merges a document onto what came before.
pub(super) fn merge(before: Node, document: Node, problems: &mut Vec<Problem>) -> Node {
    Merger { path: Vec::new(), problems }.merge(before, document)
}

/// Merges a value at a path onto another.
pub(super) fn merge_at(before: Node, after: Node, path: &[&str], problems: &mut Vec<Problem>) -> Node {
    let path = path.iter().map(|part| (*part).to_owned()).collect();
    Merger { path, problems }.merge(before, after)
}

/// Rule for merging a value that differs from the usual one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Special {
    /// Later replaces earlier, null too.
    Replace,
    /// The options of logging count for its driver only.
    Logging,
    /// A text is the context.
    Build,
    /// A list of names is a map to the defaults of a dependency.
    Dependencies,
    /// A list of names is a map to nothing.
    Names,
    /// Maps become lists of `key=value`; lists are appended.
    Pairs,
    /// The same without repetitions.
    UniquePairs,
    /// Pools are merged by subnet.
    Pools,
}

fn special(path: &[String]) -> Option<Special> {
    let field: Vec<&str> = path.iter().skip(2).map(String::as_str).collect();
    let section = path.first().map(String::as_str)?;
    Some(match (section, field.as_slice()) {
        ("networks", ["ipam", "config"]) => Special::Pools,
        ("networks" | "volumes", ["labels"]) => Special::Pairs,
        ("services", ["command" | "entrypoint"] | ["healthcheck", "test"]) => Special::Replace,
        ("services", ["ulimits", _]) => Special::Replace,
        ("services", ["logging"]) => Special::Logging,
        ("services", ["build"]) => Special::Build,
        ("services", ["depends_on"]) => Special::Dependencies,
        ("services", ["networks" | "models"]) => Special::Names,
        ("services", ["extra_hosts"] | ["build", "extra_hosts"]) => Special::UniquePairs,
        (
            "services",
            ["annotations" | "dns" | "dns_opt" | "dns_search" | "env_file" | "label_file" | "environment"],
        ) => Special::Pairs,
        ("services", ["labels" | "sysctls" | "tmpfs"] | ["deploy", "labels"]) => Special::Pairs,
        ("services", ["build", "args" | "additional_contexts" | "labels"]) => Special::Pairs,
        _ => return None,
    })
}

struct Merger<'a> {
    path: Vec<String>,
    problems: &'a mut Vec<Problem>,
}

impl Merger<'_> {
    fn merge(&mut self, before: Node, after: Node) -> Node {
        match special(&self.path) {
            Some(Special::Replace) => return after,
            Some(Special::Logging) => return self.merge_logging(before, after),
            Some(Special::Build) => return self.merge_maps(context(before), context(after)),
            Some(Special::Dependencies) => {
                return self.merge_maps(named(before, dependency), named(after, dependency));
            }
            Some(Special::Names) => return self.merge_maps(named(before, nothing), named(after, nothing)),
            Some(Special::Pairs) => return append(pairs(before), pairs(after)),
            Some(Special::UniquePairs) => {
                let before = pairs(before);
                let mut after = pairs(after);
                let known: HashSet<&str> = before.items().filter_map(Node::text).collect();
                if let Value::Seq(items) = &mut after.value {
                    items.retain(|item| item.text().is_none_or(|text| !known.contains(text)));
                }
                return append(before, after);
            }
            Some(Special::Pools) => return self.merge_pools(before, after),
            None => {}
        }
        if after.is_null() {
            return before;
        }
        match (kind(&before), kind(&after)) {
            (Kind::Map, Kind::Map) => self.merge_maps(before, after),
            (Kind::List, Kind::List) => append(before, after),
            (Kind::Map, _) => self.refuse(before, &after, "a map"),
            (Kind::List, _) => self.refuse(before, &after, "a list"),
            _ => after,
        }
    }

    fn merge_maps(&mut self, before: Node, after: Node) -> Node {
        if after.is_null() {
            return before;
        }
        if before.is_null() {
            return after;
        }
        let span = after.span.clone();
        let (mut entries, added) = match (before.value, after.value) {
            (Value::Map(entries), Value::Map(added)) => (entries, added),
            (value @ Value::Map(_), _) => {
                let before = Node { span: before.span, value };
                let after = Node { span, value: Value::Pruned };
                return self.refuse(before, &after, "a map");
            }
            (_, value) => return Node { span, value },
        };
        let places: HashMap<String, usize> =
            entries.iter().enumerate().map(|(at, entry)| (entry.key.text.clone(), at)).collect();
        for Entry { key, value } in added {
            match places.get(&key.text).and_then(|at| entries.get_mut(*at)) {
                Some(known) => {
                    let empty = Node { span: 0..0, value: Value::Pruned };
                    let before = std::mem::replace(&mut known.value, empty);
                    self.path.push(key.text);
                    known.value = self.merge(before, value);
                    self.path.pop();
                }
                None => entries.push(Entry { key, value }),
            }
        }
        Node { span, value: Value::Map(entries) }
    }

    /// Keeps the earlier value: the later one has another shape.
    fn refuse(&mut self, before: Node, after: &Node, shape: &str) -> Node {
        let message = format!("`{}` is {shape} in what this is merged onto", self.path.join("."));
        let problem = Problem::new(&after.span, message).related(&before.span, "merged onto this");
        self.problems.push(problem.hint("write it in the same form, or replace all of it with `!override`"));
        before
    }

    fn merge_logging(&mut self, before: Node, after: Node) -> Node {
        let driver = |node: &Node| node.get("driver").and_then(Node::text).map(str::to_owned);
        match (driver(&before), driver(&after)) {
            (Some(known), Some(other)) if known != other => after,
            _ => self.merge_maps(before, after),
        }
    }

    /// Merges the address pools of a network: those with the same subnet, and adds others.
    fn merge_pools(&mut self, before: Node, after: Node) -> Node {
        if !matches!((&before.value, &after.value), (Value::Seq(_), Value::Seq(_))) {
            return if after.is_null() { before } else { after };
        }
        let subnet = |node: &Node| node.get("subnet").and_then(Node::text).map(str::to_owned);
        let mut pools: Vec<Node> = Vec::new();
        for original in before.items() {
            for added in after.items() {
                if subnet(original) != subnet(added) {
                    if !pools.iter().any(|pool| subnet(pool) == subnet(added)) {
                        pools.push(added.clone());
                    }
                    continue;
                }
                let merged = self.merge_maps(original.clone(), added.clone());
                match pools.iter_mut().find(|pool| subnet(pool) == subnet(&merged)) {
                    Some(known) => *known = merged,
                    None => pools.push(merged),
                }
            }
        }
        Node { span: after.span, value: Value::Seq(pools) }
    }
}

fn append(before: Node, after: Node) -> Node {
    let span = after.span.clone();
    match (before.value, after.value) {
        (Value::Seq(mut items), Value::Seq(more)) => {
            items.extend(more);
            Node { span, value: Value::Seq(items) }
        }
        (value, _) => Node { span: before.span, value },
    }
}

/// Returns a build section in its long form.
fn context(build: Node) -> Node {
    if text(&build).is_none() {
        return build;
    }
    let span = build.span.clone();
    let key = Key { span: span.clone(), text: "context".to_owned() };
    Node { span, value: Value::Map(vec![Entry { key, value: build }]) }
}

/// Returns a list of names as a map.
pub(super) fn named(node: Node, default: fn(&Node) -> Value) -> Node {
    let Value::Seq(items) = &node.value else { return node };
    let mut entries: Vec<Entry> = Vec::new();
    for item in items {
        let Some(name) = text(item).filter(|name| entries.iter().all(|entry| entry.key.text != *name)) else {
            continue;
        };
        let key = Key { span: item.span.clone(), text: name.to_owned() };
        entries.push(Entry { key, value: Node { span: item.span.clone(), value: default(item) } });
    }
    Node { span: node.span, value: Value::Map(entries) }
}

/// A dependency in its short form.
pub(super) fn dependency(name: &Node) -> Value {
    let entry = |key: &str, text: &str| {
        let key = Key { span: name.span.clone(), text: key.to_owned() };
        Entry { key, value: Node::scalar(name.span.clone(), text, Style::Plain) }
    };
    Value::Map(vec![entry("condition", "service_started"), entry("required", "true")])
}

pub(super) fn nothing(name: &Node) -> Value {
    Node::scalar(name.span.clone(), "", Style::Plain).value
}

/// Returns a map as a list of `key=value`, sorted; a key with a list appears with each of its items.
fn pairs(node: Node) -> Node {
    let Node { span, value } = node;
    let pair = |key: &Key, value: &Node| {
        let style = match &value.value {
            Value::Scalar(scalar) if scalar.style == Style::Substituted => Style::Substituted,
            _ => Style::Text,
        };
        match printed(value) {
            Some(text) => Node::scalar(value.span.clone(), format!("{}={text}", key.text), style),
            None => Node::scalar(key.span.clone(), key.text.clone(), Style::Text),
        }
    };
    let items = match value {
        Value::Map(entries) => {
            let mut items: Vec<Node> = Vec::new();
            for Entry { key, value } in entries {
                match &value.value {
                    Value::Seq(values) => items.extend(values.iter().map(|value| pair(&key, value))),
                    _ => items.push(pair(&key, &value)),
                }
            }
            items.sort_by(|a, b| a.text().cmp(&b.text()));
            items
        }
        Value::Seq(items) => items,
        value => {
            let node = Node { span: span.clone(), value };
            if node.is_null() { Vec::new() } else { vec![node] }
        }
    };
    Node { span, value: Value::Seq(items) }
}
