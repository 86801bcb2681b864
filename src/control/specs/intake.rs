//! What becomes of specs that were read again: taken up, doubted, or told to be wrong while the last good ones hold.
//!
//! Pure; reads nothing itself. Rules 2 and 3 of the loop are kept here.

use std::time::Duration;

use crate::control::event::{Reading, Report};
use crate::desired::Desired;
use crate::spec::Diagnostic;

/// Specs that lose services are read once more after this time: an editor may have emptied a file that it is about to
/// write, and git removes files that it is about to make.
const DOUBT: Duration = Duration::from_millis(1500);

/// What was read and not taken up.
#[derive(Debug)]
pub struct Intake {
    may_empty: bool,
    /// A reading is under way.
    reading: bool,
    /// Something changed meanwhile.
    again: bool,
    doubtful: Option<PendingSpecs>,
    trouble: Option<RejectReason>,
}

/// Specs that lose services.
#[derive(Debug)]
struct PendingSpecs {
    desired: Desired,
    /// When they are read once more.
    until: Duration,
}

/// Why what was read cannot be taken up.
#[derive(Debug, PartialEq)]
enum RejectReason {
    Invalid(Vec<Diagnostic>),
    Empty,
    OtherGroup(String),
}

impl Intake {
    /// Nothing read yet. `may_empty`: the specs may come to name no service.
    pub fn new(may_empty: bool) -> Intake {
        Intake { may_empty, reading: false, again: false, doubtful: None, trouble: None }
    }

    /// Whether the specs should be read now, because something changed; if so, they are taken to be under way.
    pub fn changed(&mut self) -> bool {
        self.again = self.reading;
        !std::mem::replace(&mut self.reading, true)
    }

    /// Whether the time has come to read once more what was doubted.
    pub fn is_due(&mut self, now: Duration) -> bool {
        let due = self.doubtful.as_ref().is_some_and(|doubtful| now >= doubtful.until);
        due && !self.reading && self.changed()
    }

    /// When that is.
    pub fn wake(&self) -> Option<Duration> {
        self.doubtful.as_ref().filter(|_| !self.reading).map(|doubtful| doubtful.until)
    }

    /// Whether a reading is under way or in doubt.
    pub fn is_open(&self) -> bool {
        self.reading || self.doubtful.is_some()
    }

    /// Why what was read last could not be taken up, for people.
    pub fn trouble(&self) -> Option<String> {
        Some(match self.trouble.as_ref()? {
            RejectReason::Invalid(diagnostics) => match diagnostics.as_slice() {
                [] => "the specs are invalid".into(),
                [only] => only.to_string(),
                [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
            },
            RejectReason::Empty => "the specs name no service any longer".into(),
            RejectReason::OtherGroup(name) => format!("the specs now say that the group is {name}"),
        })
    }

    /// Takes a reading in: the desired state to take up, if any, and what is to be told. Whether to read again at once
    /// is asked with [`Intake::is_stale`].
    pub fn take(&mut self, reading: Reading, held: &Desired, now: Duration) -> (Option<Desired>, Option<Report>) {
        self.reading = false;
        let desired = match reading {
            Reading::Valid(desired) => *desired,
            Reading::Invalid(diagnostics) => return self.cannot(RejectReason::Invalid(diagnostics)),
        };
        if desired.group != held.group {
            return self.cannot(RejectReason::OtherGroup(desired.group));
        }
        if desired.is_empty() && !held.is_empty() && !self.may_empty {
            return self.cannot(RejectReason::Empty);
        }
        let loses = !held.names().is_subset(&desired.names());
        if loses && !self.is_confirmed(&desired, now) {
            self.doubtful = Some(PendingSpecs { desired, until: now + DOUBT });
            return (None, None);
        }
        self.doubtful = None;
        let mended = self.trouble.take().map(|_| Report::SpecsValid);
        let same = Desired { parting: held.parting.clone(), ..desired.clone() } == *held;
        ((!same).then_some(desired), mended)
    }

    /// Whether something changed while the reading was under way that was just taken in.
    pub fn is_stale(&mut self) -> bool {
        std::mem::take(&mut self.again) && self.changed()
    }

    /// Whether the same was read before, long enough ago.
    fn is_confirmed(&self, desired: &Desired, now: Duration) -> bool {
        self.doubtful.as_ref().is_some_and(|doubtful| now >= doubtful.until && doubtful.desired == *desired)
    }

    /// The last good specs hold. The same is not told twice.
    fn cannot(&mut self, trouble: RejectReason) -> (Option<Desired>, Option<Report>) {
        self.doubtful = None;
        if self.trouble.as_ref() == Some(&trouble) {
            return (None, None);
        }
        let report = match &trouble {
            RejectReason::Invalid(diagnostics) => Report::SpecsInvalid(diagnostics.clone()),
            RejectReason::Empty => Report::SpecsEmpty,
            RejectReason::OtherGroup(name) => Report::Note(format!(
                "the specs now say that the group is {name}; the old one is kept: to change it, end this watch, take it \
                 down, and begin anew"
            )),
        };
        self.trouble = Some(trouble);
        (None, Some(report))
    }
}
