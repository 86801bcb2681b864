//! `!reset` and `!override`: what a document removes from the documents before it.

use std::collections::HashSet;
use std::ops::Range;

use super::super::node::{Node, Value};

/// Paths of the values with a tag, as keys; `*` stands for any key.
pub(super) type Resets = Vec<Vec<String>>;

/// Removes the values with `!reset` from a document, and returns their paths and those of the values with `!override`.
pub(super) fn collect(root: &mut Node, overrides: &HashSet<Range<usize>>) -> Resets {
    let mut resets = Vec::new();
    walk(root, overrides, &mut Vec::new(), &mut resets);
    resets
}

fn walk(node: &mut Node, overrides: &HashSet<Range<usize>>, path: &mut Vec<String>, resets: &mut Resets) {
    match &mut node.value {
        Value::Map(entries) => entries.retain_mut(|entry| {
            path.push(entry.key.text.clone());
            let is_reset = entry.value.value == Value::Pruned;
            if is_reset || overrides.contains(&entry.value.span) {
                resets.push(path.clone());
            } else {
                walk(&mut entry.value, overrides, path, resets);
            }
            path.pop();
            !is_reset
        }),
        // What is in a list is removed from this document only.
        Value::Seq(items) => items.retain_mut(|item| {
            walk(item, overrides, path, &mut Vec::new());
            item.value != Value::Pruned
        }),
        _ => {}
    }
}

/// Removes the values at the paths.
pub(super) fn apply(root: &mut Node, resets: &Resets) {
    if !resets.is_empty() {
        remove(root, &mut Vec::new(), resets);
    }
}

/// Removes the values at the paths from a service, which is at `services.<name>`.
pub(super) fn apply_to(service: &mut Node, section: &str, name: &str, resets: &Resets) {
    if !resets.is_empty() {
        remove(service, &mut vec![section.to_owned(), name.to_owned()], resets);
    }
}

fn remove(node: &mut Node, path: &mut Vec<String>, resets: &Resets) {
    let Value::Map(entries) = &mut node.value else { return };
    entries.retain_mut(|entry| {
        path.push(entry.key.text.clone());
        let is_removed = resets.iter().any(|reset| {
            reset.len() == path.len() && reset.iter().zip(&*path).all(|(key, part)| key == "*" || key == part)
        });
        if !is_removed {
            remove(&mut entry.value, path, resets);
        }
        path.pop();
        !is_removed
    });
}
