//! Intake of specs: decides whether reloaded specs are applied, held back or rejected. Pure.
//!
//! Invalid specs, specs of another group and specs that suddenly name no service are rejected: the last valid ones
//! stay in force. Specs that lose services are applied only after they were read twice, `CONFIRM_AFTER` apart.

use std::time::Duration;

use crate::control::event::{Reading, Report};
use crate::desired::Desired;
use crate::spec::Diagnostic;

/// When specs that lose services are read again: an editor may have emptied a file that it is about to write, and git
/// removes files that it is about to create.
const CONFIRM_AFTER: Duration = Duration::from_millis(1500);

/// State of the specs that were read and not applied.
#[derive(Debug)]
pub struct Intake {
    may_empty: bool,
    reading: bool,
    /// The specs changed during the current reading.
    changed_meanwhile: bool,
    pending: Option<PendingSpecs>,
    rejected: Option<RejectReason>,
}

/// Specs that lose services and are not confirmed yet.
#[derive(Debug)]
struct PendingSpecs {
    desired: Desired,
    /// When they are read again.
    confirm_at: Duration,
}

#[derive(Debug, PartialEq)]
enum RejectReason {
    Invalid(Vec<Diagnostic>),
    Empty,
    OtherGroup(String),
}

impl Intake {
    /// An intake that has read nothing. `may_empty`: specs without services are accepted.
    pub fn new(may_empty: bool) -> Intake {
        Intake { may_empty, reading: false, changed_meanwhile: false, pending: None, rejected: None }
    }

    /// Records that the specs changed. Returns true if the caller must read them now, and false if a reading is under
    /// way already.
    pub fn on_change(&mut self) -> bool {
        self.changed_meanwhile = self.reading;
        !std::mem::replace(&mut self.reading, true)
    }

    /// Returns true if the caller must now read the pending specs again.
    pub fn confirm_is_due(&mut self, now: Duration) -> bool {
        let due = self.pending.as_ref().is_some_and(|pending| now >= pending.confirm_at);
        due && !self.reading && self.on_change()
    }

    /// When [`Intake::confirm_is_due`] returns true next.
    pub fn wake(&self) -> Option<Duration> {
        self.pending.as_ref().filter(|_| !self.reading).map(|pending| pending.confirm_at)
    }

    /// Returns true while a reading is under way or has to be confirmed.
    pub fn is_open(&self) -> bool {
        self.reading || self.pending.is_some()
    }

    /// Message about the specs that were rejected last.
    pub fn rejection(&self) -> Option<String> {
        Some(match self.rejected.as_ref()? {
            RejectReason::Invalid(diagnostics) => match diagnostics.as_slice() {
                [] => "the specs are invalid".into(),
                [only] => only.to_string(),
                [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
            },
            RejectReason::Empty => "no services left in the specs".into(),
            RejectReason::OtherGroup(name) => format!("group name changed to {name} in the specs"),
        })
    }

    /// Accepts the result of a reading: returns the desired state to apply, if it is another one, and a report. The
    /// caller then reads again if [`Intake::is_stale`].
    pub fn accept(&mut self, reading: Reading, current: &Desired, now: Duration) -> (Option<Desired>, Option<Report>) {
        self.reading = false;
        let desired = match reading {
            Reading::Valid(desired) => *desired,
            Reading::Invalid(diagnostics) => return self.reject(RejectReason::Invalid(diagnostics)),
        };
        if desired.group != current.group {
            return self.reject(RejectReason::OtherGroup(desired.group));
        }
        if desired.is_empty() && !current.is_empty() && !self.may_empty {
            return self.reject(RejectReason::Empty);
        }
        let loses_services = !current.names().is_subset(&desired.names());
        if loses_services && !self.is_confirmed(&desired, now) {
            self.pending = Some(PendingSpecs { desired, confirm_at: now + CONFIRM_AFTER });
            return (None, None);
        }
        self.pending = None;
        let was_invalid = !matches!(self.rejected.take(), None | Some(RejectReason::OtherGroup(_)));
        let report = was_invalid.then_some(Report::SpecsValid);
        let same = Desired { retired: current.retired.clone(), ..desired.clone() } == *current;
        ((!same).then_some(desired), report)
    }

    /// Returns true if the specs changed during the reading that was just accepted, and the caller must read them
    /// again.
    pub fn is_stale(&mut self) -> bool {
        std::mem::take(&mut self.changed_meanwhile) && self.on_change()
    }

    /// Returns true if the same specs were read before, long enough ago.
    fn is_confirmed(&self, desired: &Desired, now: Duration) -> bool {
        self.pending.as_ref().is_some_and(|pending| now >= pending.confirm_at && pending.desired == *desired)
    }

    /// Keeps the last valid specs. A reason is reported once.
    fn reject(&mut self, reason: RejectReason) -> (Option<Desired>, Option<Report>) {
        self.pending = None;
        if self.rejected.as_ref() == Some(&reason) {
            return (None, None);
        }
        let report = match &reason {
            RejectReason::Invalid(diagnostics) => Report::SpecsInvalid(diagnostics.clone()),
            RejectReason::Empty => Report::SpecsEmpty,
            RejectReason::OtherGroup(name) => Report::Note(format!(
                "group name changed to {name} in the specs; keeping the current group. To switch, stop this watch, run \
                 `drillmaster down` and start again"
            )),
        };
        self.rejected = Some(reason);
        (None, Some(report))
    }
}
