//! Construction of nodes.

use std::ops::Range;

use super::super::super::node::{Entry, Key, Node, Style, Value};
pub(super) use super::super::short::retext;
use super::super::values::printed;

/// An entry with a key of ours and the place of its value.
pub(super) fn entry(key: &str, value: Node) -> Entry {
    Entry { key: Key { span: value.span.clone(), text: key.to_owned() }, value }
}

pub(super) fn map(span: &Range<usize>, entries: Vec<Entry>) -> Node {
    Node { span: span.clone(), value: Value::Map(entries) }
}

pub(super) fn list(span: &Range<usize>, items: Vec<Node>) -> Node {
    Node { span: span.clone(), value: Value::Seq(items) }
}

/// Text in place of another node.
pub(super) fn text_at(span: &Range<usize>, text: impl Into<String>) -> Node {
    Node::scalar(span.clone(), text, Style::Text)
}

pub(super) fn flag_at(span: &Range<usize>, flag: bool) -> Node {
    Node::scalar(span.clone(), flag.to_string(), Style::Plain)
}

/// Returns the text of a field that is set to anything but empty text.
pub(super) fn text_of(node: &Node, key: &str) -> Option<String> {
    node.get(key).and_then(printed).filter(|text| !text.is_empty())
}

/// Returns a field that is neither null nor empty text.
pub(super) fn set_field<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    node.get(key).filter(|value| !is_empty(value))
}

/// Returns true for null, empty text and an empty map or list.
pub(super) fn is_empty(node: &Node) -> bool {
    match &node.value {
        Value::Scalar(scalar) => node.is_null() || scalar.text.is_empty(),
        Value::Map(entries) => entries.is_empty(),
        Value::Seq(items) => items.is_empty(),
        _ => true,
    }
}

/// Returns true for the key of an extension.
pub(super) fn is_extension(entry: &&Entry) -> bool {
    entry.key.text.starts_with("x-")
}

/// Removes the extensions of a map.
pub(super) fn without_extensions(node: &Node) -> Node {
    match &node.value {
        Value::Map(entries) => map(&node.span, entries.iter().filter(|entry| !is_extension(entry)).cloned().collect()),
        _ => node.clone(),
    }
}

pub(super) fn is_true(node: &Node, key: &str) -> bool {
    node.get(key).is_some_and(|flag| flag.text() == Some("true"))
}

/// Merges fields over others: maps by key, everything else is replaced.
pub(super) fn merge_over(base: &mut Vec<Entry>, over: &[Entry]) {
    for entry in over {
        match base.iter_mut().find(|known| known.key.text == entry.key.text) {
            None => base.push(entry.clone()),
            Some(known) => match (&mut known.value.value, &entry.value.value) {
                (Value::Map(known), Value::Map(over)) => merge_over(known, over),
                _ => *known = entry.clone(),
            },
        }
    }
}
