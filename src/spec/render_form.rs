//! A document with nothing left open but outputs: what `drillmaster render` prints.
//!
//! Of a text that held a variable it is decided here whether it is a number or a text, by what the field takes; of one
//! that refers to outputs it stands again what was written.

use serde::de::DeserializeOwned;

use super::Loaded;
use super::decode::decode;
use super::model::{Group, JobDocument, Kind, Service};
use super::node::{Node, Resolved, Scalar, Style, Value, resolve_plain};

impl Loaded<Service> {
    /// The document, read as what it is. What refers to outputs is [`Style::Open`].
    pub fn settled(&self) -> Node {
        match self.spec.kind {
            Kind::Service => settled::<Service, _>(self),
            Kind::Job(_) => settled::<JobDocument, _>(self),
        }
    }
}

impl Loaded<Group> {
    /// The document, read as what it is.
    pub fn settled(&self) -> Node {
        settled::<Group, _>(self)
    }
}

fn settled<K: DeserializeOwned, T>(loaded: &Loaded<T>) -> Node {
    let mut root = loaded.root.clone();
    let as_written = |path: &str| loaded.uses.iter().find(|found| found.field == path).map(|found| found.text.clone());
    restore(&mut root, &mut Vec::new(), &as_written);
    let mut plain = root.clone();
    plainly(&mut plain);
    // What cannot be read like this is cut out.
    let _ = decode::<K>(&mut plain);
    decide(&mut root, Some(&plain));
    root
}

/// Puts back what refers to outputs.
fn restore(node: &mut Node, path: &mut Vec<String>, as_written: &dyn Fn(&str) -> Option<String>) {
    match &mut node.value {
        Value::Map(entries) => {
            for entry in entries {
                path.push(entry.key.text.clone());
                restore(&mut entry.value, path, as_written);
                path.pop();
            }
        }
        Value::Seq(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                path.push(index.to_string());
                restore(item, path, as_written);
                path.pop();
            }
        }
        value => {
            if let Some(text) = as_written(&path.join(".")) {
                *value = Value::Scalar(Scalar { text, style: Style::Open });
            }
        }
    }
}

/// Takes every text that held a variable for what it looks like.
fn plainly(node: &mut Node) {
    match &mut node.value {
        Value::Map(entries) => entries.iter_mut().for_each(|entry| plainly(&mut entry.value)),
        Value::Seq(items) => items.iter_mut().for_each(plainly),
        Value::Scalar(scalar) if scalar.style == Style::Replaced => {
            let text = matches!(resolve_plain(&scalar.text), Resolved::Text(_));
            scalar.style = if text { Style::Text } else { Style::Plain };
        }
        _ => {}
    }
}

/// Takes over what could be read; anything else is a text.
fn decide(node: &mut Node, read: Option<&Node>) {
    let read = read.filter(|read| !matches!(read.value, Value::Pruned | Value::Poison));
    match &mut node.value {
        Value::Map(entries) => {
            for (index, entry) in entries.iter_mut().enumerate() {
                let inner = read.and_then(|read| match &read.value {
                    Value::Map(entries) => entries.get(index).map(|entry| &entry.value),
                    _ => None,
                });
                decide(&mut entry.value, inner);
            }
        }
        Value::Seq(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                let inner = read.and_then(|read| match &read.value {
                    Value::Seq(items) => items.get(index),
                    _ => None,
                });
                decide(item, inner);
            }
        }
        Value::Scalar(scalar) if scalar.style == Style::Replaced => {
            scalar.style = match read.map(|read| &read.value) {
                Some(Value::Scalar(read)) => read.style,
                _ => Style::Text,
            };
        }
        _ => {}
    }
}
