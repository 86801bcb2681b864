//! The text of a plan: the changes, then one line per step with its cause.

use super::json::{is_secret, shown, values};
use super::{LineBreak, Paint, Text, title};
use crate::plan::Forecast;
use crate::plan::cause::KNOWN_AFTER_APPLY;
use crate::plan::step::{Action, Change, Step};

/// The text of `diff`; empty if there are no changes.
pub fn forecast(forecast: &Forecast, show_values: bool) -> Text {
    let mut text: Text = forecast.changes.iter().map(|change| self::change(change, show_values)).collect();
    for failure in &forecast.failures {
        text += format!("{}: ", failure.service);
        text += Text::painted(Paint::Red, failure.reason.word()) + format!(": {}", failure.message) + LineBreak;
    }
    if !forecast.steps.is_empty() {
        text += Text::painted(Paint::Dim, "# plan") + LineBreak;
        text += steps(&forecast.steps);
    }
    text
}

/// One line per step: `api: create shop-api.new  # env.LOG_LEVEL changed`.
fn steps(steps: &[Step]) -> Text {
    let lines: Vec<String> = steps.iter().map(ToString::to_string).collect();
    let width = lines.iter().map(String::len).max().unwrap_or_default().min(60);
    let step = |(step, line): (&Step, &String)| {
        let cause = Text::painted(Paint::Dim, format!("# {}", step.cause));
        Text::from(format!("{line:width$}  ")) + cause + LineBreak
    };
    steps.iter().zip(&lines).map(step).collect()
}

/// A change and one line per field: `api: replace (app.yaml:12)`.
fn change(change: &Change, show_values: bool) -> Text {
    let paint = match change.action {
        Action::Create | Action::Start => Paint::Green,
        Action::Replace | Action::Update | Action::Restart | Action::Build | Action::Pull => Paint::Yellow,
        Action::Stop | Action::Remove => Paint::Red,
    };
    let mut text = Text::from(format!("{}: ", title(&change.subject)));
    text += Text::painted(paint, change.action.word()) + format!(" ({})", change.source) + LineBreak;
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
        text += Text::from(format!("    {}: {line}", cause.path())) + LineBreak;
    }
    if let Some(why) = &change.interrupts {
        text += Text::from(format!("    interrupts the service: {why}")) + LineBreak;
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
