//! Hides secret values in everything that is printed.
//!
//! The values become known when specs are read and outputs are set; once known, a value stays hidden.

use std::borrow::Cow;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use serde_json::Value;

use crate::spec::secrets::{Redactor, Secrets};

/// What this process hides. Global, as stdout and stderr are: nothing can be printed past it.
static KNOWN: RwLock<Known> = RwLock::new(Known { shown: false, secrets: None, redactor: None });

struct Known {
    /// `--show-values`.
    shown: bool,
    secrets: Option<Secrets>,
    /// `None`: nothing to hide.
    redactor: Option<Redactor>,
}

fn known() -> RwLockReadGuard<'static, Known> {
    KNOWN.read().unwrap_or_else(PoisonError::into_inner)
}

/// Hides these values from now on.
pub fn hide(secrets: &Secrets) {
    if known().secrets.as_ref().is_some_and(|known| known.includes(secrets)) {
        return;
    }
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    let all = known.secrets.get_or_insert_default();
    all.extend(secrets);
    known.redactor = Some(Redactor::new(all));
}

/// Shows all values, for `--show-values`.
pub fn show_values() {
    KNOWN.write().unwrap_or_else(PoisonError::into_inner).shown = true;
}

/// The text without secret values.
pub fn redacted(text: &str) -> Cow<'_, str> {
    match &*known() {
        Known { shown: false, redactor: Some(redactor), .. } => redactor.redact(text),
        _ => text.into(),
    }
}

/// JSON fields whose values are words of ours.
const OWN_FIELDS: [&str; 6] = ["action", "event", "kind", "outcome", "phase", "reason"];

/// The JSON without secret values in its texts. Keys and words of ours stay.
pub(super) fn redacted_json(mut value: Value) -> Value {
    if let Known { shown: false, redactor: Some(redactor), .. } = &*known() {
        redact(&mut value, redactor);
    }
    value
}

fn redact(value: &mut Value, redactor: &Redactor) {
    match value {
        Value::String(text) => redactor.redact_in_place(text),
        Value::Array(items) => items.iter_mut().for_each(|item| redact(item, redactor)),
        Value::Object(fields) => {
            let texts = fields.iter_mut().filter(|(key, _)| !OWN_FIELDS.contains(&key.as_str()));
            texts.for_each(|(_, value)| redact(value, redactor));
        }
        _ => {}
    }
}
