//! Node trees as values that a YAML writer takes.

use serde_yaml::{Mapping, Value as Yaml};

use super::node::{Entry, Node, Resolved, Style, Value};

/// Converts a document. `escape`: dollars in text are doubled, except in references to outputs, as specs require it.
pub(crate) fn to_yaml(node: &Node, functions: &[String], escape: bool) -> Yaml {
    match &node.value {
        Value::Map(entries) => {
            let entry = |entry: &Entry| (entry.key.text.clone().into(), to_yaml(&entry.value, functions, escape));
            entries.iter().map(entry).collect::<Mapping>().into()
        }
        Value::Seq(items) => items.iter().map(|item| to_yaml(item, functions, escape)).collect(),
        Value::Scalar(scalar) => match scalar.resolve() {
            Resolved::Null => Yaml::Null,
            Resolved::Bool(truth) => truth.into(),
            Resolved::Int(number) => i64::try_from(number).map_or_else(|_| scalar.text.clone().into(), Yaml::from),
            Resolved::Float(number) => number.into(),
            Resolved::Text(text) if escape && scalar.style != Style::Pending => text.replace('$', "$$").into(),
            Resolved::Text(text) => text.into(),
        },
        Value::Function(number) => functions.get(*number).map_or(Yaml::Null, |name| name.as_str().into()),
        Value::Pruned | Value::Placeholder => Yaml::Null,
    }
}
