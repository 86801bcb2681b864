//! The text of a plan: the changes, then one line per step with its cause.

use super::json::{is_secret, shown, values};
use super::{Paint, painted, title};
use crate::plan::Forecast;
use crate::plan::cause::KNOWN_AFTER_APPLY;
use crate::plan::step::{Action, Change, Step};

/// The text of `diff`; empty if there are no changes.
pub fn forecast(forecast: &Forecast, show_values: bool, color: bool) -> String {
    let mut text = String::new();
    for change in &forecast.changes {
        text += &self::change(change, show_values, color);
    }
    for failure in &forecast.failures {
        let reason = painted(color, Paint::Red, failure.reason.word());
        text += &format!("{}: {reason}: {}\n", failure.service, failure.message);
    }
    if !forecast.steps.is_empty() {
        text += &painted(color, Paint::Dim, "# plan\n");
        text += &steps(&forecast.steps, color);
    }
    text
}

/// One line per step: `api: create shop-api.new  # env.LOG_LEVEL changed`.
pub fn steps(steps: &[Step], color: bool) -> String {
    let lines: Vec<String> = steps.iter().map(ToString::to_string).collect();
    let width = lines.iter().map(String::len).max().unwrap_or_default().min(60);
    steps
        .iter()
        .zip(&lines)
        .map(|(step, line)| {
            let cause = painted(color, Paint::Dim, &format!("# {}", step.cause));
            format!("{line:width$}  {cause}\n")
        })
        .collect()
}

/// A change and one line per field: `api: replace (app.yaml:12)`.
fn change(change: &Change, show_values: bool, color: bool) -> String {
    let paint = match change.action {
        Action::Create | Action::Start => Paint::Green,
        Action::Replace | Action::Update | Action::Restart => Paint::Yellow,
        Action::Stop | Action::Remove => Paint::Red,
    };
    let action = painted(color, paint, change.action.word());
    let mut text = format!("{}: {action} ({})\n", title(&change.subject), change.source);
    for cause in &change.causes {
        let hide = is_secret(cause) && !show_values;
        let line = match values(cause) {
            (Some(_), Some(_)) if hide => "changed".to_owned(),
            (None, Some(_)) if hide => "added".to_owned(),
            (Some(_), None) if hide => "removed".to_owned(),
            (None, None) => "replaced".to_owned(),
            (None, Some(new)) if new == KNOWN_AFTER_APPLY => KNOWN_AFTER_APPLY.to_owned(),
            (old, new) => format!("{} -> {}", plain(&shown(old.as_ref(), false)), plain(&shown(new.as_ref(), false))),
        };
        text += &format!("    {}: {line}\n", cause.path());
    }
    text
}

/// A value as text: strings without quotes, `(none)` for null.
pub(super) fn plain(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => "(none)".into(),
        serde_json::Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}
