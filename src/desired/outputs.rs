//! Outputs: values produced by hooks and jobs at run time and used in the fields of other services.
//!
//! Pure: maps producers to consumers. Known outputs were substituted when the specs were loaded.

use std::collections::{BTreeMap, BTreeSet};

use crate::spec::OutputUse;
use crate::spec::model;

/// What a service (or the group) has to do with outputs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outputs {
    /// Captured keys. Hooks and jobs can write others.
    pub gives: BTreeSet<String>,
    /// Keys among them that its own `pre_start` hooks produce, before its container is created.
    pub gives_first: BTreeSet<String>,
    /// Key of the output that a job's standard output is.
    pub capture: Option<String>,
    /// Keys that it refers to, known or not.
    pub uses: BTreeSet<String>,
    /// Keys that are not known yet, by the path of what refers to them: `env.USER_ID`, `post_start.0.exec.1`. What
    /// stands there means nothing.
    pub unknown: BTreeMap<String, BTreeSet<String>>,
}

impl Outputs {
    /// Takes what was found in a document.
    pub(super) fn of(uses: &[OutputUse]) -> Outputs {
        let mut outputs = Outputs::default();
        for found in uses {
            outputs.uses.insert(found.key.clone());
            if !found.known {
                outputs.unknown.entry(found.field.clone()).or_default().insert(found.key.clone());
            }
        }
        outputs
    }

    /// The fields that are not known and have to be before a container can be created, with their keys.
    pub fn awaited(&self) -> impl Iterator<Item = (String, &BTreeSet<String>)> {
        let awaited = self.unknown.iter().filter(|(path, _)| model::is_made_from(path));
        awaited.map(|(path, keys)| (field(path), keys))
    }

    /// Whether all that has to be known before a container can be created will be once its own `pre_start` has run; and
    /// something has.
    pub fn is_self_referencing(&self) -> bool {
        let mut keys = self.awaited().flat_map(|(_, keys)| keys).peekable();
        keys.peek().is_some() && keys.all(|key| self.gives_first.contains(key))
    }

    /// A key that is not known of a hook: the `index`-th of a field such as `post_start` or `on.exited`.
    pub fn unknown_of_hook(&self, field: &str, index: usize) -> Option<&str> {
        let is_hook = |path: &str| {
            let Some(rest) = path.strip_prefix(field).and_then(|rest| rest.strip_prefix('.')) else { return false };
            // One alone need not be in a list.
            rest.split('.').next().and_then(|part| part.parse().ok()).unwrap_or(0) == index
        };
        self.unknown.iter().find(|(path, _)| is_hook(path)).and_then(|(_, keys)| keys.first()).map(String::as_str)
    }
}

/// The field of a path, for people: `command`, not `command.2`.
fn field(path: &str) -> String {
    let parts = path.split('.').take_while(|part| part.parse::<usize>().is_err());
    parts.collect::<Vec<_>>().join(".")
}
