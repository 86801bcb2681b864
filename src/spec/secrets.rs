//! Secret values: what came out of a variable, an env file or an output. They are shown as [`HIDDEN`].
//!
//! - A field into which a variable or an output was inserted is secret as a whole, except [`PUBLIC_FIELDS`].
//! - In text whose parts have no field, such as messages and output of hooks, secret values are found by themselves if
//!   they have at least [`MIN_LENGTH`] characters: shorter ones, such as `80` and `true`, would hide unrelated text.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind};

use super::node::{Node, Value};

/// Shown instead of a secret value.
pub const HIDDEN: &str = "(hidden)";

/// Length from which a value is hidden in text, in bytes.
pub const MIN_LENGTH: usize = 6;

/// Fields that are shown, whatever they were made from: they identify what runs, and the engine lists them.
pub const PUBLIC_FIELDS: [&str; 9] =
    ["name", "kind", "image", "network", "ports", "hostname", "aliases", "dependencies", "replicas"];

/// The secret fields of a document: path, as in [`super::OutputUse`], and text to show instead, with the references as
/// they are written.
pub type SecretFields = BTreeMap<String, String>;

/// Secret values that are hidden in text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Secrets(BTreeSet<String>);

impl Secrets {
    /// Adds a value, each of its lines by itself. Ignores lines that are too short.
    pub fn add(&mut self, value: &str) {
        let lines = value.lines().map(str::trim).filter(|line| line.len() >= MIN_LENGTH);
        self.0.extend(lines.map(str::to_owned));
    }

    /// Adds values.
    pub fn add_all<'v>(&mut self, values: impl IntoIterator<Item = &'v String>) {
        values.into_iter().for_each(|value| self.add(value));
    }

    /// Adds those of other secrets.
    pub fn extend(&mut self, other: &Secrets) {
        self.0.extend(other.0.iter().cloned());
    }

    /// Returns true if all of other secrets are included.
    pub fn includes(&self, other: &Secrets) -> bool {
        other.0.is_subset(&self.0)
    }

    /// Removes the values that occur in a text that everyone can see.
    pub fn remove_public(&mut self, text: &str) {
        let values: Vec<String> = self.0.iter().cloned().collect();
        // If they cannot be searched for, all stay secret.
        if let Some(search) = search_for(&values) {
            for found in search.find_overlapping_iter(text) {
                self.0.remove(&values[found.pattern()]);
            }
        }
    }
}

/// Prepares a search; `None` if there are too many values.
fn search_for(values: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Option<AhoCorasick> {
    // Other kinds take quadratic time or much memory for long values.
    AhoCorasick::builder().kind(Some(AhoCorasickKind::ContiguousNFA)).build(values).ok()
}

/// Replaces secret values in text.
#[derive(Debug, Clone)]
pub struct Redactor {
    /// `None`: there are too many values to search for; every text is hidden.
    search: Option<AhoCorasick>,
}

impl Redactor {
    /// Prepares the search.
    pub fn new(secrets: &Secrets) -> Redactor {
        Redactor { search: search_for(&secrets.0) }
    }

    /// Returns the text with each secret value replaced by [`HIDDEN`].
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let Some(search) = &self.search else { return HIDDEN.into() };
        // Values may overlap and contain each other: what any of them covers is hidden, as one if they touch.
        let mut covered: Vec<Range<usize>> = Vec::new();
        for found in search.find_overlapping_iter(text) {
            let (mut start, end) = (found.start(), found.end());
            while let Some(last) = covered.pop_if(|last| last.end >= start) {
                start = start.min(last.start);
            }
            covered.push(start..end);
        }
        if covered.is_empty() {
            return text.into();
        }
        let (mut shown, mut at) = (String::new(), 0);
        for range in covered {
            shown.push_str(&text[at..range.start]);
            shown.push_str(HIDDEN);
            at = range.end;
        }
        (shown + &text[at..]).into()
    }

    /// Replaces the text in place.
    pub fn redact_in_place(&self, text: &mut String) {
        if let Cow::Owned(shown) = self.redact(text) {
            *text = shown;
        }
    }

    /// Adds the scalars of a document that contain a secret value: programs insert variables into texts without a trace.
    pub(super) fn mark(&self, root: &Node, fields: &mut SecretFields) {
        self.mark_in(root, &mut Vec::new(), fields);
    }

    fn mark_in(&self, node: &Node, path: &mut Vec<String>, fields: &mut SecretFields) {
        match &node.value {
            Value::Map(entries) => {
                let document = path.is_empty();
                for entry in entries.iter().filter(|entry| !document || !is_public(&entry.key.text)) {
                    path.push(entry.key.text.clone());
                    self.mark_in(&entry.value, path, fields);
                    path.pop();
                }
            }
            Value::Seq(items) => {
                for (index, item) in items.iter().enumerate() {
                    path.push(index.to_string());
                    self.mark_in(item, path, fields);
                    path.pop();
                }
            }
            Value::Scalar(scalar) => {
                if let Cow::Owned(_) = self.redact(&scalar.text) {
                    fields.entry(path.join(".")).or_insert_with(|| HIDDEN.to_owned());
                }
            }
            _ => {}
        }
    }
}

/// Returns true for a field of a document that is shown, whatever it was made from.
pub(super) fn is_public(field: &str) -> bool {
    PUBLIC_FIELDS.contains(&field)
}

/// Returns true if a hook, by its field (`post_start`, `on.exited`) and index, has a secret field.
pub fn has_secret_hook(fields: &SecretFields, field: &str, index: usize) -> bool {
    fields.keys().any(|path| super::interpolate::is_of_hook(path, field, index))
}

/// Hides the parts of an error message that quote a substituted text.
pub(super) fn hide_quoted(message: &str, substituted: &str) -> String {
    let mut shown = String::new();
    for (index, part) in message.split('`').enumerate() {
        let quoted = part.trim_end_matches('…');
        let secret = index % 2 == 1 && !quoted.is_empty() && substituted.contains(quoted);
        if index > 0 {
            shown.push('`');
        }
        shown.push_str(if secret { HIDDEN } else { part });
    }
    match substituted.is_empty() {
        true => shown,
        false => shown.replace(&format!("the number {substituted}"), &format!("the number {HIDDEN}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(values: &[&str]) -> Secrets {
        let mut secrets = Secrets::default();
        values.iter().for_each(|value| secrets.add(value));
        secrets
    }

    #[test]
    fn values_are_hidden_in_text() {
        let redactor = Redactor::new(&secrets(&["s3cret", "s3cret-and-longer", "80", "true", "", "first line\nx\n"]));
        for (text, expected) in [
            ("password s3cret.", "password (hidden)."),
            ("s3cret-and-longer s3crets3cret", "(hidden) (hidden)"),
            ("port 80 is true", "port 80 is true"),
            ("the first line of it", "the (hidden) of it"),
            ("", ""),
        ] {
            assert_eq!(redactor.redact(text), expected, "{text}");
        }
        assert_eq!(Redactor::new(&Secrets::default()).redact("as it is"), "as it is");
    }

    #[test]
    fn long_values_are_hidden_as_one() {
        for long in ["z".repeat(100_000), "{\"a\": \"b\", ".repeat(9000), "é".repeat(50_000), "x".repeat(261)] {
            let redactor = Redactor::new(&secrets(&[&long]));
            assert_eq!(redactor.redact(&format!("is {long}!")).trim_end_matches([' ', '!']), "is (hidden)");
        }
    }

    #[test]
    fn values_that_everyone_can_see_are_not_secret() {
        let mut found = secrets(&["postgres", "2024.11.3", "hunter2"]);
        found.remove_public("shop\npostgres:2024.11.3\n");
        assert_eq!(found, secrets(&["hunter2"]));
    }

    #[test]
    fn quoted_values_are_hidden() {
        for (message, value, expected) in [
            ("invalid size `12q`: unknown unit `q`", "12q", "invalid size `(hidden)`: unknown unit `(hidden)`"),
            ("expected text, found the number 7", "7", "expected text, found the number (hidden)"),
            ("unknown field `a`", "b", "unknown field `a`"),
            ("`abc…` is not a port number", "abcdef", "`(hidden)` is not a port number"),
        ] {
            assert_eq!(hide_quoted(message, value), expected);
        }
    }
}
