//! Node trees of documents: each node has its span in the file.
//!
//! Created by the front ends `yaml` and `starlark`. The tree distinguishes `80` from `"80"` and is independent of the
//! fields of a spec.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Maximum depth of a tree; bounds the stack depth of functions that recurse into trees.
pub const MAX_DEPTH: usize = 64;

/// A value with its source span.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Byte range in the file.
    pub span: Range<usize>,
    pub value: Value,
}

/// Value of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// Text, number, boolean or null.
    Scalar(Scalar),
    Seq(Vec<Node>),
    /// Mapping, in source order.
    Map(Vec<Entry>),
    /// Function of a program, by its number.
    Function(usize),
    /// Removed value whose error has been reported. Decoding skips it.
    Pruned,
    /// Substitute for a missing field, so that decoding can continue. Decodes as any type.
    Placeholder,
}

/// Entry of a mapping.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub key: Key,
    pub value: Node,
}

/// Key of an entry; always text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Byte range in the file.
    pub span: Range<usize>,
    pub text: String,
}

/// Scalar with its notation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scalar {
    /// Text, with quotes and escapes resolved.
    pub text: String,
    /// Notation; decides which types the scalar can decode as.
    pub style: Style,
}

/// Notation of a scalar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Style {
    /// Without quotes: a number, a boolean or null if it looks like one, otherwise text.
    Plain,
    /// Quoted or a block scalar: always text.
    Text,
    /// Result of variable substitution: text or number, depending on the field.
    Substituted,
    /// Refers to an unknown output and holds a substitute text. Decodes as any type.
    Pending,
}

/// Value of a scalar by the YAML 1.2 core schema.
#[derive(Debug, Clone, PartialEq)]
pub enum Resolved<'a> {
    /// `null`, `~` or empty.
    Null,
    /// `true` or `false`.
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(&'a str),
}

impl Scalar {
    /// Resolves plain scalars by the core schema; all other styles are text.
    pub fn resolve(&self) -> Resolved<'_> {
        match self.style {
            Style::Plain => resolve_plain(&self.text),
            Style::Text | Style::Substituted | Style::Pending => Resolved::Text(&self.text),
        }
    }
}

/// Resolves a plain scalar by the YAML 1.2 core schema: `yes`, `on` and `1_000` are text.
pub fn resolve_plain(text: &str) -> Resolved<'_> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Resolved::Null,
        "true" | "True" | "TRUE" => return Resolved::Bool(true),
        "false" | "False" | "FALSE" => return Resolved::Bool(false),
        _ => {}
    }
    integer(text).map(Resolved::Int).or_else(|| float(text).map(Resolved::Float)).unwrap_or(Resolved::Text(text))
}

fn integer(text: &str) -> Option<i128> {
    let radix = |digits: &str, radix| {
        digits.chars().all(|c| c.is_digit(radix)).then(|| i128::from_str_radix(digits, radix).ok()).flatten()
    };
    if let Some(digits) = text.strip_prefix("0x") {
        return radix(digits, 16);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return radix(digits, 8);
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

fn float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    match unsigned {
        ".inf" | ".Inf" | ".INF" => {
            return Some(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY });
        }
        ".nan" | ".NaN" | ".NAN" if unsigned.len() == text.len() => return Some(f64::NAN),
        _ => {}
    }
    let numeric = unsigned.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    let starts = unsigned.trim_start_matches('.').bytes().next().is_some_and(|b| b.is_ascii_digit());
    (numeric && starts).then(|| text.parse().ok()).flatten()
}

impl Node {
    /// Creates a scalar node.
    pub fn scalar(span: Range<usize>, text: impl Into<String>, style: Style) -> Self {
        Self { span, value: Value::Scalar(Scalar { text: text.into(), style }) }
    }

    /// Returns true for a null scalar.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.resolve() == Resolved::Null)
    }

    /// Returns the text of a scalar, unresolved.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) => Some(&scalar.text),
            _ => None,
        }
    }

    /// Returns the entries of a mapping without pruned ones; empty for other values.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        let entries: &[Entry] = match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        };
        entries.iter().filter(|entry| entry.value.value != Value::Pruned)
    }

    /// Returns the items of a list without pruned ones. A single value counts as a list with one item, null as empty.
    pub fn items(&self) -> impl Iterator<Item = &Node> {
        let items: &[Node] = match &self.value {
            Value::Seq(items) => items,
            Value::Map(_) | Value::Scalar(_) if !self.is_null() => std::slice::from_ref(self),
            _ => &[],
        };
        items.iter().filter(|item| item.value != Value::Pruned)
    }

    /// Returns the entry of a mapping by its key.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().find(|entry| entry.key.text == key)
    }

    /// Returns the value of a mapping by its key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// Returns the value of a mapping by its key, mutable.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        match &mut self.value {
            Value::Map(entries) => entries.iter_mut().find(|entry| entry.key.text == key).map(|entry| &mut entry.value),
            _ => None,
        }
    }

    /// Returns the node at a path of entry and item indexes.
    pub(super) fn at_mut(&mut self, path: &[usize]) -> Option<&mut Node> {
        path.iter().try_fold(self, |node, index| match &mut node.value {
            Value::Map(entries) => entries.get_mut(*index).map(|entry| &mut entry.value),
            Value::Seq(items) => items.get_mut(*index),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_follow_the_core_schema() {
        for (text, expected) in [
            ("", Resolved::Null),
            ("~", Resolved::Null),
            ("null", Resolved::Null),
            ("nUll", Resolved::Text("nUll")),
            ("true", Resolved::Bool(true)),
            ("False", Resolved::Bool(false)),
            ("yes", Resolved::Text("yes")),
            ("no", Resolved::Text("no")),
            ("on", Resolved::Text("on")),
            ("80", Resolved::Int(80)),
            ("-1", Resolved::Int(-1)),
            ("+7", Resolved::Int(7)),
            ("010", Resolved::Int(10)),
            ("0x1F", Resolved::Int(31)),
            ("0o17", Resolved::Int(15)),
            ("0x", Resolved::Text("0x")),
            ("0x-1", Resolved::Text("0x-1")),
            ("1_000", Resolved::Text("1_000")),
            ("1.5", Resolved::Float(1.5)),
            (".5", Resolved::Float(0.5)),
            ("1e3", Resolved::Float(1000.0)),
            ("-.inf", Resolved::Float(f64::NEG_INFINITY)),
            (".", Resolved::Text(".")),
            ("-", Resolved::Text("-")),
            ("1.2.3", Resolved::Text("1.2.3")),
            ("8080:80", Resolved::Text("8080:80")),
            ("inf", Resolved::Text("inf")),
            ("nan", Resolved::Text("nan")),
        ] {
            assert_eq!(resolve_plain(text), expected, "{text}");
        }
        assert!(matches!(resolve_plain(".nan"), Resolved::Float(f) if f.is_nan()));
    }
}
