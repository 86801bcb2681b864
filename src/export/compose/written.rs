//! Texts of the specs, as they are written in the compose file: with their variables, never with the values.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde::Serialize;
use serde_yaml::{Mapping, Value as Yaml};

use super::output::yaml;
use crate::spec::interpolate::{MISSING, OutputUse};
use crate::spec::node::{Entry, Node, Resolved, Value};
use crate::spec::secrets::HIDDEN;
use crate::spec::{Diagnostic, Loaded, Location};

/// Why a compose file cannot say something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unsaid(pub &'static str);

const OUTPUT: &str = "it uses an output of a hook or job";
const PROGRAM: &str = "its value comes from a variable that a program has read";
/// Of variables in places where a compose file needs the value.
pub(super) const PLACE: &str = "it has a variable at a place where compose has none";

/// The texts of a document.
pub(super) struct Written<'a, T> {
    pub loaded: &'a Loaded<T>,
    /// What the document describes, for messages.
    subject: &'a str,
    functions: &'a [String],
    /// Paths of references that have been written, or left out.
    done: RefCell<BTreeSet<String>>,
}

impl<'a, T> Written<'a, T> {
    pub fn new(loaded: &'a Loaded<T>, subject: &'a str, functions: &'a [String]) -> Self {
        Written { loaded, subject, functions, done: RefCell::default() }
    }

    /// The uses of outputs; what is missing counts as one, and stays a reference.
    fn outputs(&self) -> impl Iterator<Item = &OutputUse> {
        self.loaded.uses.iter().filter(|output| !output.key.starts_with(MISSING))
    }

    /// Returns the text of a scalar if it has variables.
    pub fn template(&self, path: &str) -> Result<Option<String>, Unsaid> {
        if self.outputs().any(|output| output.field == path) {
            return Err(Unsaid(OUTPUT));
        }
        match self.loaded.templates.get(path) {
            Some(template) if template.contains("${context.") => Err(Unsaid(OUTPUT)),
            Some(template) => {
                self.done.borrow_mut().insert(path.to_owned());
                Ok(Some(escaped(template)))
            }
            None if self.is_hidden(path) => Err(Unsaid(PROGRAM)),
            None => Ok(None),
        }
    }

    fn is_hidden(&self, path: &str) -> bool {
        self.loaded.secrets.get(path).is_some_and(|text| text == HIDDEN)
    }

    /// Returns the text of a scalar with this value: with its variables, and dollars doubled.
    pub fn text(&self, path: &str, value: &str) -> Result<String, Unsaid> {
        Ok(self.template(path)?.unwrap_or_else(|| value.replace('$', "$$")))
    }

    /// Returns a value with the texts of its scalars. A list with one item may be written without one.
    pub fn value(&self, path: &str, value: impl Serialize) -> Result<Yaml, Unsaid> {
        self.overlaid(path, yaml(value))
    }

    fn overlaid(&self, path: &str, value: Yaml) -> Result<Yaml, Unsaid> {
        let inner = |key: &str, value: Yaml| self.overlaid(&format!("{path}.{key}"), value);
        match value {
            Yaml::Mapping(entries) => {
                let entry = |(key, value): (Yaml, Yaml)| {
                    let value = inner(key.as_str().unwrap_or_default(), value)?;
                    Ok((key, value))
                };
                entries.into_iter().map(entry).collect::<Result<Mapping, _>>().map(Yaml::from)
            }
            Yaml::Sequence(items) => match (items.as_slice(), self.template(path)?) {
                ([_], Some(text)) => Ok(Yaml::Sequence(vec![text.into()])),
                (_, Some(_)) => Err(Unsaid(PLACE)),
                (_, None) => items.into_iter().enumerate().map(|(at, item)| inner(&at.to_string(), item)).collect(),
            },
            Yaml::String(text) => self.text(path, &text).map(Yaml::from),
            value => Ok(self.template(path)?.map_or(value, Yaml::from)),
        }
    }

    /// Returns the words of a list, or the text of a string with variables, which compose splits as the specs do.
    pub fn words(&self, path: &str, words: &[String]) -> Result<Yaml, Unsaid> {
        match self.template(path)? {
            Some(line) => Ok(line.into()),
            None => self.value(path, words),
        }
    }

    /// Returns the path of a reference in a field that has neither been written nor left out.
    pub fn left(&self, field: &str) -> Option<String> {
        let done = self.done.borrow();
        let Loaded { templates, secrets, .. } = self.loaded;
        let hidden = secrets.keys().filter(|path| self.is_hidden(path));
        let all = templates.keys().chain(hidden).chain(self.outputs().map(|output| &output.field));
        let mut left = all.filter(|path| is_within(path, field) && !done.iter().any(|known| is_within(path, known)));
        left.next().cloned()
    }

    /// Marks what is below a path as left out, and returns the note and the comment about it.
    pub fn unsaid(&self, path: &str, Unsaid(reason): Unsaid) -> (Diagnostic, Vec<String>) {
        self.done.borrow_mut().insert(path.to_owned());
        let (node, location) = self.find(path);
        let message = format!("`{path}` of {} cannot be said in a compose file: {reason}", self.subject);
        let place = format!("{}:{}", location.file.path(), location.line());
        let mut comment = vec![format!("{message} ({place})")];
        if let Some(node) = node {
            // The key, or that of the list in front of the number.
            let key = path.rsplit('.').find(|part| part.parse::<usize>().is_err()).unwrap_or(path);
            let fields = Mapping::from_iter([(Yaml::from(key), self.shown(path, node))]);
            let yaml = serde_yaml::to_string(&fields).unwrap_or_default();
            comment.extend(yaml.lines().map(|line| format!("  {line}")));
        }
        (Diagnostic::at(location, message), comment)
    }

    /// Returns the node at a path, if there is one, and its place, or that of what is around it.
    fn find(&self, path: &str) -> (Option<&'a Node>, Location) {
        let root = &self.loaded.root;
        let mut place = root.entry("name").map_or(&root.span, |entry| &entry.key.span);
        let mut found = Some(root);
        for part in path.split('.') {
            let next = found.and_then(|node| match &node.value {
                Value::Seq(items) => part.parse().ok().and_then(|index: usize| items.get(index)).map(|n| (n, &n.span)),
                _ => node.entry(part).map(|Entry { key, value }| (value, &key.span)),
            });
            // A list with one item may be written without one.
            let is_only = || part == "0" && found.is_some_and(|node| !matches!(node.value, Value::Seq(_)));
            match next {
                Some((node, span)) => (found, place) = (Some(node), span),
                None if is_only() => {}
                None => found = None,
            }
        }
        (found, Location::new(&self.loaded.file, place.clone()))
    }

    /// Returns the node at a path.
    pub fn node(&self, path: &str) -> Option<&'a Node> {
        self.find(path).0
    }

    /// Returns a node as it is written, for a comment.
    fn shown(&self, path: &str, node: &Node) -> Yaml {
        match &node.value {
            Value::Map(entries) => {
                let entry = |entry: &Entry| {
                    let key = &entry.key.text;
                    (Yaml::from(key.as_str()), self.shown(&format!("{path}.{key}"), &entry.value))
                };
                entries.iter().map(entry).collect::<Mapping>().into()
            }
            Value::Seq(items) => {
                items.iter().enumerate().map(|(at, item)| self.shown(&format!("{path}.{at}"), item)).collect()
            }
            Value::Scalar(scalar) => {
                let Loaded { templates, secrets, .. } = self.loaded;
                let output = || self.outputs().find(|output| output.field == path).map(|output| &output.text);
                let written = templates.get(path).or_else(|| secrets.get(path)).or_else(output);
                match (written, scalar.resolve()) {
                    (Some(text), _) => text.as_str().into(),
                    (None, Resolved::Null) => Yaml::Null,
                    (None, Resolved::Bool(truth)) => truth.into(),
                    (None, Resolved::Int(number)) => i64::try_from(number).map_or(Yaml::Null, Yaml::from),
                    (None, _) => scalar.text.as_str().into(),
                }
            }
            Value::Function(number) => self.functions.get(*number).map_or(Yaml::Null, |name| name.as_str().into()),
            Value::Pruned | Value::Placeholder => Yaml::Null,
        }
    }
}

/// Returns true if a path is another one, or below it.
fn is_within(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Doubles the dollars that are literal in specs, and would begin a reference in a compose file: `$VAR`.
fn escaped(template: &str) -> String {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        let (before, dollar) = rest.split_at(at);
        text.push_str(before);
        let kept = ["${", "$$"].into_iter().find(|kept| dollar.starts_with(kept));
        text.push_str(kept.unwrap_or("$$"));
        rest = &dollar[kept.map_or(1, str::len)..];
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literal_dollars_are_doubled() {
        for (template, expected) in [
            ("${A}", "${A}"),
            ("$A ${B:-$C} $$D $", "$$A ${B:-$$C} $$D $$"),
            ("$$${A}", "$$${A}"),
            ("${A:-${B:-{}}}", "${A:-${B:-{}}}"),
        ] {
            assert_eq!(escaped(template), expected);
        }
    }
}
