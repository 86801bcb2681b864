//! The table of `status`.

use std::time::SystemTime;

use jiff::Timestamp;

use super::text::shown;
use super::{LineBreak, Paint, Text};
use crate::status::{Overview, Phase, ServiceStatus};

const HEADER: [&str; 5] = ["SERVICE", "PHASE", "SINCE", "PORTS", "MESSAGE"];

/// The table, and below it the errors of the controller.
pub fn table(overview: &Overview, now: SystemTime) -> Text {
    let services = &overview.services;
    let mut rows: Vec<[String; 5]> = vec![HEADER.map(str::to_owned)];
    rows.extend(services.iter().map(|service| row(service, now)));
    let widths: Vec<usize> =
        (0..HEADER.len()).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    let phases = std::iter::once(None).chain(services.iter().map(|service| Some(service.phase)));
    let mut text = Text::default();
    for (row, phase) in rows.iter().zip(phases) {
        let mut line = Text::default();
        for (column, cell) in row.iter().enumerate() {
            let padded = format!("{cell:width$}  ", width = widths[column]);
            line += match (phase, column) {
                (None, _) => Text::painted(Paint::Dim, padded),
                (Some(phase), 1) => Text::painted(paint(phase), padded),
                _ => padded.into(),
            };
        }
        text += line.trim_end() + LineBreak;
    }
    for (origin, error) in [("specs", &overview.specs), ("engine", &overview.engine)] {
        if let Some(error) = error {
            text += Text::painted(Paint::Red, origin) + format!(": {}", error.trim_end()) + LineBreak;
        }
    }
    text
}

fn paint(phase: Phase) -> Paint {
    match phase {
        Phase::Ready | Phase::Succeeded => Paint::Green,
        Phase::Running | Phase::Pending | Phase::Starting | Phase::Paused | Phase::Restarting => Paint::Yellow,
        Phase::Unhealthy | Phase::Exited | Phase::Failed | Phase::Conflict => Paint::Red,
    }
}

fn row(service: &ServiceStatus, now: SystemTime) -> [String; 5] {
    let message = match (&service.reason, &service.message) {
        (Some(reason), Some(message)) => format!("{reason}: {message}"),
        (Some(text), None) | (None, Some(text)) => text.clone(),
        (None, None) => String::new(),
    };
    let since = service.since.as_deref().map(|since| ago(since, now)).unwrap_or_default();
    // Here because the widths of the columns are those of what is shown.
    [service.shown_name(), service.phase.word().to_owned(), since, service.ports.join(", "), message]
        .map(|cell| shown(&cell))
}

/// The age in its largest unit: `3m`, `2h`.
fn ago(since: &str, now: SystemTime) -> String {
    let (Ok(since), Ok(now)) = (since.parse::<Timestamp>(), Timestamp::try_from(now)) else {
        return String::new();
    };
    match now.duration_since(since).as_secs() {
        ..0 => String::new(),
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m", seconds / 60),
        seconds @ 3600..86_400 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}
