//! Short forms of volumes and ports.

pub(super) mod port;
pub(super) mod volume;

use std::ops::Range;

use super::super::node::{Entry, Key, Node, Style, Value};

/// Creates an entry of an expanded short form, whose nodes all have its span.
pub(super) fn entry(span: &Range<usize>, key: &str, value: Value) -> Entry {
    Entry { key: Key { span: span.clone(), text: key.to_owned() }, value: Node { span: span.clone(), value } }
}

/// Creates an entry with a scalar.
pub(super) fn scalar(span: &Range<usize>, key: &str, text: impl Into<String>, style: Style) -> Entry {
    entry(span, key, Node::scalar(span.clone(), text, style).value)
}

/// Returns the style of the parts of a text.
pub(super) fn style_of(node: &Node) -> Style {
    match &node.value {
        Value::Scalar(scalar) if scalar.style == Style::Substituted => Style::Substituted,
        _ => Style::Text,
    }
}

/// Another text in place of a scalar; it is as secret as the scalar.
pub(super) fn retext(node: &Node, text: impl Into<String>) -> Node {
    Node::scalar(node.span.clone(), text, style_of(node))
}
