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
    try_style::<K>(&mut root, is_number_from_variable, Style::Plain, Style::Text);
    try_style::<K>(&mut root, has_other_spelling, Style::Text, Style::Plain);
    root
}

/// A text with a variable that looks like a number: a number only if the field takes numbers.
fn is_number_from_variable(scalar: &Scalar) -> bool {
    scalar.style == Style::Replaced && !matches!(resolve_plain(&scalar.text), Resolved::Text(_))
}

/// A number such as `1.10` or `0x1F`, which a YAML writer spells differently: a text if the field takes text.
fn has_other_spelling(scalar: &Scalar) -> bool {
    scalar.style == Style::Plain
        && match resolve_plain(&scalar.text) {
            Resolved::Bool(truth) => truth.to_string() != scalar.text,
            Resolved::Int(number) => number.to_string() != scalar.text,
            Resolved::Float(number) => scalar.text.contains(['e', 'E']) || format!("{number:?}") != scalar.text,
            Resolved::Null | Resolved::Text(_) => false,
        }
}

/// Gives `style` to the scalars that `applies` selects and whose fields can be decoded with it, `otherwise` to the others.
fn try_style<K: DeserializeOwned>(root: &mut Node, applies: fn(&Scalar) -> bool, style: Style, otherwise: Style) {
    let mut trial = root.clone();
    for_each_scalar(&mut trial, &|scalar| {
        if applies(scalar) {
            scalar.style = style;
        }
    });
    // Prunes what cannot be decoded.
    let _ = decode::<K>(&mut trial);
    adopt(root, Some(&trial), &|scalar, decoded| {
        if applies(scalar) {
            scalar.style = if decoded { style } else { otherwise };
        }
    });
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

fn for_each_scalar(node: &mut Node, change: &dyn Fn(&mut Scalar)) {
    match &mut node.value {
        Value::Map(entries) => entries.iter_mut().for_each(|entry| for_each_scalar(&mut entry.value, change)),
        Value::Seq(items) => items.iter_mut().for_each(|item| for_each_scalar(item, change)),
        Value::Scalar(scalar) => change(scalar),
        _ => {}
    }
}

/// Calls `change` for each scalar, with true if it is still there in the decoded trial.
fn adopt(node: &mut Node, trial: Option<&Node>, change: &dyn Fn(&mut Scalar, bool)) {
    match &mut node.value {
        Value::Map(entries) => {
            for (index, entry) in entries.iter_mut().enumerate() {
                let inner = trial.and_then(|trial| match &trial.value {
                    Value::Map(entries) => entries.get(index).map(|entry| &entry.value),
                    _ => None,
                });
                adopt(&mut entry.value, inner, change);
            }
        }
        Value::Seq(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                let inner = trial.and_then(|trial| match &trial.value {
                    Value::Seq(items) => items.get(index),
                    _ => None,
                });
                adopt(item, inner, change);
            }
        }
        Value::Scalar(scalar) => {
            change(scalar, trial.is_some_and(|trial| matches!(trial.value, Value::Scalar(_))));
        }
        _ => {}
    }
}
