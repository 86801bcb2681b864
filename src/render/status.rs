//! The table of `status`.

use std::time::SystemTime;

use jiff::Timestamp;

use super::{LineBreak, Paint, Text, table};
use crate::status::{Overview, Phase, ServiceStatus};

const HEADER: [&str; 5] = ["SERVICE", "PHASE", "SINCE", "PORTS", "MESSAGE"];

/// The table, and below it the errors of the controller.
pub fn table(overview: &Overview, now: SystemTime) -> Text {
    let services = &overview.services;
    let rows = services.iter().map(|service| row(service, now)).collect();
    let mut text = table::table(HEADER, rows, |row, column| (column == 1).then(|| paint(services[row].phase)));
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
    [service.shown_name(), service.phase.word().to_owned(), since, service.ports.join(", "), message]
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
