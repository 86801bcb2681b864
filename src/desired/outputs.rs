//! Outputs: values produced by hooks and jobs at run time and used in the fields of other services.
//!
//! Pure: maps producers to consumers. Known outputs were substituted when the specs were loaded.

use std::collections::{BTreeMap, BTreeSet};

use crate::spec::OutputUse;
use crate::spec::interpolate::is_of_hook;
use crate::spec::model;

/// Outputs that a service or the group produces and uses.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outputs {
    /// Keys it captures. Hooks and jobs can set further outputs at run time.
    pub gives: BTreeSet<String>,
    /// Keys in `gives` that its `pre_start` hooks produce, before its container is created.
    pub gives_first: BTreeSet<String>,
    /// Key of the output that is set to a job's stdout.
    pub capture: Option<String>,
    /// Keys it references, known or not.
    pub uses: BTreeSet<String>,
    /// Referenced keys without a value yet, by field path: `env.USER_ID`, `post_start.0.exec.1`. Values of these fields
    /// are meaningless.
    pub unknown: BTreeMap<String, BTreeSet<String>>,
}

impl Outputs {
    /// Collects the outputs that a document references.
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

    /// Returns the fields that need outputs before a container can be created, with the missing keys.
    pub fn awaited(&self) -> impl Iterator<Item = (String, &BTreeSet<String>)> {
        let awaited = self.unknown.iter().filter(|(path, _)| model::is_needed_at_creation(path));
        awaited.map(|(path, keys)| (field(path), keys))
    }

    /// Returns true if outputs are missing before a container can be created, and its own `pre_start` hooks produce all of
    /// them.
    pub fn is_self_referencing(&self) -> bool {
        let mut keys = self.awaited().flat_map(|(_, keys)| keys).peekable();
        keys.peek().is_some() && keys.all(|key| self.gives_first.contains(key))
    }

    /// Returns a missing output of a hook, given by its field (`post_start`, `on.exited`) and index.
    pub fn unknown_of_hook(&self, field: &str, index: usize) -> Option<&str> {
        let of_hook = |(path, _): &(&String, &BTreeSet<String>)| is_of_hook(path, field, index);
        self.unknown.iter().find(of_hook).and_then(|(_, keys)| keys.first()).map(String::as_str)
    }
}

/// Returns the field of a path without indices, for messages: `command`, not `command.2`.
fn field(path: &str) -> String {
    let parts = path.split('.').take_while(|part| part.parse::<usize>().is_err());
    parts.collect::<Vec<_>>().join(".")
}
