//! A compose file with comments at their places.

use serde::Serialize;
use serde_yaml::{Mapping, Value as Yaml};

use crate::spec::Diagnostic;

/// A compose file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Compose {
    /// The file: comments and entries of its map.
    pub lines: Vec<Line>,
    /// What the specs say and a compose file cannot, with the places.
    pub notes: Vec<Diagnostic>,
}

/// A comment or an entry of a map.
#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    /// One line, without `#`.
    Comment(String),
    Entry(String, Item),
}

/// The value of an entry.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    Value(Yaml),
    /// A map with comments.
    Map(Vec<Line>),
}

impl Compose {
    /// Returns the file without comments.
    pub fn value(&self) -> Yaml {
        value(&self.lines)
    }
}

fn value(lines: &[Line]) -> Yaml {
    let entries = lines.iter().filter_map(|line| match line {
        Line::Comment(_) => None,
        Line::Entry(key, Item::Value(value)) => Some((key.as_str().into(), value.clone())),
        Line::Entry(key, Item::Map(lines)) => Some((key.as_str().into(), value(lines))),
    });
    entries.collect::<Mapping>().into()
}

/// Returns true for a value that an absent key has as well.
pub(super) fn is_empty(value: &Yaml) -> bool {
    match value {
        Yaml::Null | Yaml::Bool(false) => true,
        Yaml::Sequence(items) => items.is_empty(),
        Yaml::Mapping(entries) => entries.is_empty(),
        _ => false,
    }
}

/// Returns an entry of a map; `None`: the map has no entries, and its comments stand alone.
pub(super) fn map(key: &str, lines: Vec<Line>) -> Vec<Line> {
    match lines.iter().any(|line| matches!(line, Line::Entry(..))) {
        true => vec![Line::Entry(key.to_owned(), Item::Map(lines))],
        false => lines,
    }
}

pub(super) fn entry(key: &str, value: impl Into<Yaml>) -> Line {
    Line::Entry(key.to_owned(), Item::Value(value.into()))
}

/// Converts a value of a spec.
pub(super) fn yaml(value: impl Serialize) -> Yaml {
    // Only unusual keys can fail; the keys of specs are text.
    serde_yaml::to_value(value).unwrap_or_default()
}

/// Returns a map of the fields that are set.
pub(super) fn mapping<'k>(fields: impl IntoIterator<Item = (&'k str, Yaml)>) -> Mapping {
    let set = fields.into_iter().filter(|(_, value)| !is_empty(value));
    set.map(|(key, value)| (Yaml::from(key), value)).collect()
}
