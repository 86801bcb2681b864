//! Node tree of a document for `drillmaster render`: variables are substituted, references to outputs are kept. In secret
//! fields, references to variables are kept as well unless their values are to be shown.
//!
//! Whether a substituted scalar is a number or text depends on the type of its field.

use serde::de::DeserializeOwned;

use super::Loaded;
use super::decode::decode;
use super::model::{Group, JobDocument, Kind, Service};
use super::node::{Node, Resolved, Scalar, Style, Value, resolve_plain};

impl Loaded<Service> {
    /// Returns the tree to print. Scalars with references to outputs, and unless `show_values` is set to variables, are
    /// [`Style::Pending`].
    pub fn render_form(&self, show_values: bool) -> Node {
        match self.spec.kind {
            Kind::Service => render_form::<Service, _>(self, show_values),
            Kind::Job(_) => render_form::<JobDocument, _>(self, show_values),
        }
    }
}

impl Loaded<Group> {
    /// Returns the tree to print.
    pub fn render_form(&self, show_values: bool) -> Node {
        render_form::<Group, _>(self, show_values)
    }
}

fn render_form<K: DeserializeOwned, T>(loaded: &Loaded<T>, show_values: bool) -> Node {
    let mut root = loaded.root.clone();
    let with_references = |path: &str| {
        if !show_values && let Some(reference) = loaded.secrets.get(path) {
            return Some(reference.clone());
        }
        let output_use = loaded.uses.iter().find(|output_use| output_use.field == path);
        output_use.map(|output_use| output_use.text.clone())
    };
    restore_references(&mut root, &mut Vec::new(), &with_references);
    try_style::<K>(&mut root, is_number_from_variable, Style::Plain, Style::Text);
    try_style::<K>(&mut root, has_other_spelling, Style::Text, Style::Plain);
    root
}

/// Returns true for substituted text that looks like a number, a boolean or null. It is plain only if the field accepts
/// that.
fn is_number_from_variable(scalar: &Scalar) -> bool {
    scalar.style == Style::Substituted && !matches!(resolve_plain(&scalar.text), Resolved::Text(_))
}

/// Returns true for a value such as `1.10` or `0x1F`, which a YAML writer would spell differently. It is text if the
/// field accepts text.
fn has_other_spelling(scalar: &Scalar) -> bool {
    scalar.style == Style::Plain
        && match resolve_plain(&scalar.text) {
            Resolved::Bool(value) => value.to_string() != scalar.text,
            Resolved::Int(number) => number.to_string() != scalar.text,
            Resolved::Float(number) => scalar.text.contains(['e', 'E']) || format!("{number:?}") != scalar.text,
            Resolved::Null | Resolved::Text(_) => false,
        }
}

/// Sets the style of the scalars that `applies` selects: `style` if their field can be decoded with it, else
/// `otherwise`.
fn try_style<K: DeserializeOwned>(root: &mut Node, applies: fn(&Scalar) -> bool, style: Style, otherwise: Style) {
    let mut trial = root.clone();
    for_each_scalar(&mut trial, &|scalar| {
        if applies(scalar) {
            scalar.style = style;
        }
    });
    // Decoding prunes the scalars that do not fit their fields.
    let _ = decode::<K>(&mut trial);
    compare_scalars(root, Some(&trial), &|scalar, decoded| {
        if applies(scalar) {
            scalar.style = if decoded { style } else { otherwise };
        }
    });
}

/// Restores references in the scalars that use them.
fn restore_references(node: &mut Node, path: &mut Vec<String>, with_references: &dyn Fn(&str) -> Option<String>) {
    // Also a list whose items come from one text.
    if let Some(text) = with_references(&path.join(".")) {
        node.value = Value::Scalar(Scalar { text, style: Style::Pending });
        return;
    }
    match &mut node.value {
        Value::Map(entries) => {
            for entry in entries {
                path.push(entry.key.text.clone());
                restore_references(&mut entry.value, path, with_references);
                path.pop();
            }
        }
        Value::Seq(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                path.push(index.to_string());
                restore_references(item, path, with_references);
                path.pop();
            }
        }
        _ => {}
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

/// Calls `change` for each scalar, with true if decoding has kept it in `trial`.
fn compare_scalars(node: &mut Node, trial: Option<&Node>, change: &dyn Fn(&mut Scalar, bool)) {
    match &mut node.value {
        Value::Map(entries) => {
            for (index, entry) in entries.iter_mut().enumerate() {
                let inner = trial.and_then(|trial| match &trial.value {
                    Value::Map(entries) => entries.get(index).map(|entry| &entry.value),
                    _ => None,
                });
                compare_scalars(&mut entry.value, inner, change);
            }
        }
        Value::Seq(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                let inner = trial.and_then(|trial| match &trial.value {
                    Value::Seq(items) => items.get(index),
                    _ => None,
                });
                compare_scalars(item, inner, change);
            }
        }
        Value::Scalar(scalar) => {
            change(scalar, trial.is_some_and(|trial| matches!(trial.value, Value::Scalar(_))));
        }
        _ => {}
    }
}
