//! Documents as YAML, with comments.

use serde_yaml::{Mapping, Value as Yaml};

use super::super::super::node::{Entry, Node, Value};
use super::super::super::write::to_yaml;
use super::comments::Comments;

/// Returns the fields of a document as YAML.
pub(super) fn print(fields: &[Entry], comments: &mut Comments<'_>) -> String {
    let mut out = String::new();
    map(fields, 0, comments, &mut out);
    out
}

fn map(entries: &[Entry], indent: usize, comments: &mut Comments<'_>, out: &mut String) {
    for entry in entries {
        lines(comments.take_of(entry), indent, out);
        let has_parts = entry.value.value == Value::Placeholder || has_keys_alone(&entry.value);
        if !has_parts && !comments.is_in(&entry.value) {
            let yaml = to_yaml(&entry.value, &[], true);
            block(&Yaml::Mapping(Mapping::from_iter([(entry.key.text.clone().into(), yaml)])), indent, out);
            end(entry, indent, comments, out);
            continue;
        }
        // A key alone is written as `key: null`.
        let key = serde_yaml::to_string(&Mapping::from_iter([(entry.key.text.clone().into(), Yaml::Null)]));
        let key = key.unwrap_or_default();
        lines([key.trim_end().trim_end_matches("null").trim_end().to_owned()], indent, out);
        match &entry.value.value {
            Value::Map(entries) => map(entries, indent + 2, comments, out),
            Value::Seq(items) => list(items, indent, comments, out),
            _ => {}
        }
        end(entry, indent, comments, out);
    }
}

/// Returns true if a key in a map has no value: it is written without `null`, which means something else.
fn has_keys_alone(node: &Node) -> bool {
    node.entries().any(|entry| entry.value.value == Value::Placeholder || has_keys_alone(&entry.value))
}

/// Writes the comments at the end of a field of the document.
fn end(entry: &Entry, indent: usize, comments: &mut Comments<'_>, out: &mut String) {
    if indent == 0 {
        let inner = if matches!(entry.value.value, Value::Map(_)) { 2 } else { 0 };
        lines(comments.take_end_of(&entry.value), inner, out);
    }
}

fn list(items: &[Node], indent: usize, comments: &mut Comments<'_>, out: &mut String) {
    for item in items {
        lines(comments.take_of_item(item), indent, out);
        // Comments in an item are written above it.
        for entry in item.entries().filter(|_| matches!(item.value, Value::Map(_))) {
            lines(comments.take_of(entry), indent, out);
        }
        block(&Yaml::Sequence(vec![to_yaml(item, &[], true)]), indent, out);
    }
}

fn block(yaml: &Yaml, indent: usize, out: &mut String) {
    // Only unusual keys can fail; the keys here are strings.
    let text = serde_yaml::to_string(yaml).unwrap_or_default();
    lines(text.lines().map(str::to_owned), indent, out);
}

fn lines(lines: impl IntoIterator<Item = String>, indent: usize, out: &mut String) {
    for line in lines {
        if !line.is_empty() {
            out.extend(std::iter::repeat_n(' ', indent));
            out.push_str(&line);
        }
        out.push('\n');
    }
}
