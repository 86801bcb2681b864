//! Located document trees: each node has its position in the file.
//!
//! Created by the front ends `yaml` and `starlark`. The tree distinguishes `80` from `"80"` and is independent of the
//! fields of a spec.

use std::ops::Range;

/// Maximum depth of a tree. Bounds the stack of the recursive functions over trees.
pub const MAX_DEPTH: usize = 64;

/// A value with its location.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Bytes of the file that say it.
    pub span: Range<usize>,
    /// What is said.
    pub value: Value,
}

/// What a node says.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A scalar: text, number, truth value or nothing.
    Scalar(Scalar),
    /// A list.
    Seq(Vec<Node>),
    /// A map, in the order in which it is written.
    Map(Vec<Entry>),
    /// A function of a program, by its number.
    Function(usize),
    /// Left out after an error in it was recorded, so that reading can go on.
    Pruned,
    /// In place of a field that is missing, so that reading can go on: takes any form.
    Poison,
}

/// One entry of a map.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: Key,
    /// The value.
    pub value: Node,
}

/// The key of an entry: always text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Bytes of the file that say it.
    pub span: Range<usize>,
    /// The text.
    pub text: String,
}

/// A scalar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scalar {
    /// Its text, with quotes and escapes resolved.
    pub text: String,
    /// How it is written, which decides what it can be.
    pub style: Style,
}

/// How a scalar is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Without quotes: a number, `true`, `false`, nothing, or else text.
    Plain,
    /// In quotes or as a block: text, whatever it looks like.
    Text,
    /// It held a variable: text where text is wanted, a number where a number is wanted.
    Replaced,
    /// It held an output that is not known yet, and holds something in its place: takes any form.
    Open,
}

/// What a plain scalar says, by the core schema of YAML 1.2.
#[derive(Debug, Clone, PartialEq)]
pub enum Resolved<'a> {
    /// Nothing: `null`, `~` or no text at all.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// Another number.
    Float(f64),
    /// Text.
    Text(&'a str),
}

impl Scalar {
    /// What this says.
    pub fn resolve(&self) -> Resolved<'_> {
        match self.style {
            Style::Plain => resolve_plain(&self.text),
            Style::Text | Style::Replaced | Style::Open => Resolved::Text(&self.text),
        }
    }
}

/// Reads a plain scalar by the core schema of YAML 1.2. So `yes`, `on` and `1_000` are text.
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
    /// A scalar.
    pub fn scalar(span: Range<usize>, text: impl Into<String>, style: Style) -> Self {
        Self { span, value: Value::Scalar(Scalar { text: text.into(), style }) }
    }

    /// Whether this says nothing.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.resolve() == Resolved::Null)
    }

    /// The text of a scalar, as it is written.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) => Some(&scalar.text),
            _ => None,
        }
    }

    /// The entries of a map that are not left out; none for anything else.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        let entries: &[Entry] = match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        };
        entries.iter().filter(|entry| entry.value.value != Value::Pruned)
    }

    /// The elements of a list that are not left out; a single value is a list of itself.
    pub fn items(&self) -> impl Iterator<Item = &Node> {
        let items: &[Node] = match &self.value {
            Value::Seq(items) => items,
            Value::Map(_) | Value::Scalar(_) if !self.is_null() => std::slice::from_ref(self),
            _ => &[],
        };
        items.iter().filter(|item| item.value != Value::Pruned)
    }

    /// The entry of a map under this key.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().find(|entry| entry.key.text == key)
    }

    /// The value of a map under this key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The value of a key, to change it.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        match &mut self.value {
            Value::Map(entries) => entries.iter_mut().find(|entry| entry.key.text == key).map(|entry| &mut entry.value),
            _ => None,
        }
    }

    /// The node at the end of a path of indexes.
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
