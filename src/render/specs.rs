//! Specs as YAML that says the same, or as JSON: what `drillmaster render` prints.

use std::fmt::Write;

use serde_json::{Value as Json, json};

use crate::spec::model::Kind;
use crate::spec::node::{Entry, Node, Resolved, Scalar, Style, Value, resolve_plain};
use crate::spec::{Source, Specs};

/// In place of values that may be secret.
const HIDDEN: &str = "(hidden)";
/// How long a list on one line may be.
const ONE_LINE: usize = 80;

/// A document to print: its kind where that is not the default one, where it stands, and what it says.
struct Shown<'s> {
    kind: &'static str,
    source: &'s Source,
    root: Node,
}

/// Those that are named, or all with the group in front.
fn documents<'s>(specs: &'s Specs, names: &[String], show_values: bool) -> Vec<Shown<'s>> {
    let group = specs.group.iter().filter(|_| names.is_empty());
    let group = group.map(|group| Shown { kind: "Group", source: &group.source, root: group.settled() });
    let named = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    let services = specs.services.iter().filter(|service| named(service.spec.container.name.as_str())).map(|service| {
        let kind = match service.spec.kind {
            Kind::Service => "Service",
            Kind::Job(_) => "Job",
        };
        Shown { kind, source: &service.source, root: service.settled() }
    });
    let mut documents: Vec<Shown<'_>> = group.chain(services).collect();
    if !show_values {
        documents.iter_mut().for_each(|document| hide(&mut document.root));
    }
    documents
}

/// Takes the values of the environment out.
fn hide(root: &mut Node) {
    let Value::Map(entries) = &mut root.value else { return };
    for entry in entries.iter_mut().filter(|entry| entry.key.text == "env") {
        if let Value::Map(variables) = &mut entry.value.value {
            for variable in variables {
                variable.value = Node::scalar(variable.value.span.clone(), HIDDEN, Style::Text);
            }
        }
    }
}

/// The specs as YAML. With the values of the environment, and without functions, it can be loaded again and says the
/// same.
pub fn yaml(specs: &Specs, names: &[String], show_values: bool) -> String {
    let mut out = String::new();
    for (index, Shown { kind, source, root }) in documents(specs, names, show_values).into_iter().enumerate() {
        let separator = if index == 0 { "" } else { "---\n" };
        let _ = writeln!(out, "{separator}# {source}");
        if kind != "Service" {
            let _ = writeln!(out, "kind: {kind}");
        }
        let writer = Writer { functions: &specs.functions };
        match &root.value {
            Value::Map(entries) if !entries.is_empty() => writer.map(&mut out, entries, 0),
            _ if kind == "Service" => out.push_str("{}\n"),
            _ => {}
        }
    }
    out
}

/// The specs for programs: `[{"kind": "Service", "source": "app.yaml:1", "spec": {...}}]`.
pub fn to_json(specs: &Specs, names: &[String], show_values: bool) -> Json {
    let documents = documents(specs, names, show_values);
    let one = |Shown { kind, source, root }: Shown<'_>| json!({"kind": kind, "source": source.to_string(), "spec": json_of(&root, &specs.functions)});
    documents.into_iter().map(one).collect()
}

fn json_of(node: &Node, functions: &[String]) -> Json {
    match &node.value {
        Value::Map(entries) => {
            entries.iter().map(|entry| (entry.key.text.clone(), json_of(&entry.value, functions))).collect()
        }
        Value::Seq(items) => items.iter().map(|item| json_of(item, functions)).collect(),
        Value::Scalar(scalar) => match scalar.resolve() {
            Resolved::Null => Json::Null,
            Resolved::Bool(truth) => truth.into(),
            Resolved::Int(number) => i64::try_from(number).map_or_else(|_| scalar.text.clone().into(), Json::from),
            Resolved::Float(number) => number.into(),
            Resolved::Text(text) => text.into(),
        },
        Value::Function(number) => functions.get(*number).cloned().into(),
        Value::Pruned | Value::Poison => Json::Null,
    }
}

struct Writer<'s> {
    functions: &'s [String],
}

impl Writer<'_> {
    fn map(&self, out: &mut String, entries: &[Entry], indent: usize) {
        for entry in entries {
            let _ = write!(out, "{:indent$}{}:", "", scalar(&entry.key.text, Style::Text, true));
            self.value(out, &entry.value, indent);
        }
    }

    /// What stands after a key.
    fn value(&self, out: &mut String, node: &Node, indent: usize) {
        match &node.value {
            Value::Map(entries) if !entries.is_empty() => {
                out.push('\n');
                self.map(out, entries, indent + 2);
            }
            Value::Seq(items) if !items.is_empty() => match self.one_line(items) {
                Some(line) => {
                    let _ = writeln!(out, " {line}");
                }
                None => {
                    out.push('\n');
                    self.items(out, items, indent);
                }
            },
            _ => {
                let _ = writeln!(out, " {}", self.leaf(node));
            }
        }
    }

    fn items(&self, out: &mut String, items: &[Node], indent: usize) {
        for item in items {
            let _ = write!(out, "{:indent$}-", "");
            match &item.value {
                // The first entry stands beside the dash.
                Value::Map(entries) if !entries.is_empty() => {
                    let mut inner = String::new();
                    self.map(&mut inner, entries, indent + 2);
                    let _ = write!(out, " {}", inner.trim_start());
                }
                _ => self.value(out, item, indent + 2),
            }
        }
    }

    /// A list of scalars that is short.
    fn one_line(&self, items: &[Node]) -> Option<String> {
        let simple = items.iter().all(|item| matches!(item.value, Value::Scalar(_)));
        let line = simple.then(|| items.iter().map(|item| self.leaf(item)).collect::<Vec<_>>().join(", "))?;
        (line.len() <= ONE_LINE).then(|| format!("[{line}]"))
    }

    fn leaf(&self, node: &Node) -> String {
        match &node.value {
            Value::Map(_) => "{}".into(),
            Value::Seq(_) => "[]".into(),
            Value::Scalar(Scalar { text, style }) => scalar(text, *style, false),
            Value::Function(number) => {
                let function = self.functions.get(*number).map(String::as_str).unwrap_or_default();
                format!("{} # a function, which only a program can have", scalar(function, Style::Text, true))
            }
            Value::Pruned | Value::Poison => "null".into(),
        }
    }
}

/// A scalar as YAML writes it. What is no key has its dollars doubled, unless it refers to outputs.
fn scalar(text: &str, style: Style, is_key: bool) -> String {
    let number = !matches!(resolve_plain(text), Resolved::Text(_));
    if style == Style::Plain && number {
        return if text.is_empty() { "null".into() } else { text.to_owned() };
    }
    let text = if is_key || style == Style::Open { text.to_owned() } else { text.replace('$', "$$") };
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./@-".contains(c);
    let simple = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.split(':').all(|part| !part.is_empty() && part.chars().all(plain));
    // Words that others take for truth values.
    let word = ["y", "n", "yes", "no", "on", "off"].contains(&text.to_lowercase().as_str());
    if simple && !number && (!word || is_key) { text } else { Json::from(text).to_string() }
}
