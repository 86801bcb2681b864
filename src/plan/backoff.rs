//! When what has failed is tried again: the crash-loop policy, pure.
//!
//! A container that ends, becomes unhealthy or cannot be started is brought back after 1 s, then 2 s, 4 s and so on up
//! to 5 min; what has run for 10 min since starts from 1 s again. Only while watching: a run that ends tries once.

use std::time::Duration;

use super::step::{Failure, Reason};
use crate::desired::{Kind, Service};
use crate::spec::model::HealthAction;

/// The pause after the first failure.
pub const FIRST: Duration = Duration::from_secs(1);
/// The longest pause.
pub const LONGEST: Duration = Duration::from_secs(300);
/// After so long without a failure the next one is the first again.
pub const FORGOTTEN: Duration = Duration::from_secs(600);

/// A failure that is tried again.
#[derive(Debug, Clone, PartialEq)]
pub struct Setback {
    /// What failed.
    pub failure: Failure,
    /// How often in a row.
    pub count: u32,
    /// When; time since the start of the run.
    pub at: Duration,
    /// When it is tried again.
    pub retry: Duration,
}

impl Setback {
    /// Another failure, after those before it.
    pub fn after(before: Option<&Setback>, failure: Failure, at: Duration) -> Setback {
        let count = match before {
            // The time of a pause is not a time of running.
            Some(before) if at < before.retry + FORGOTTEN => before.count + 1,
            _ => 1,
        };
        Setback { failure, count, at, retry: at + pause(FIRST, LONGEST, count) }
    }

    /// Whether it waits for its next try.
    pub fn rests(&self, now: Duration) -> bool {
        now < self.retry
    }
}

/// How long to wait after the `count`-th failure in a row: `first`, doubled each time, at most `longest`.
pub fn pause(first: Duration, longest: Duration, count: u32) -> Duration {
    let doubled = 2u32.checked_pow(count.saturating_sub(1)).and_then(|factor| first.checked_mul(factor));
    doubled.map_or(longest, |pause| pause.min(longest))
}

/// How long a failure holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// Until the spec changes: the same would happen again, and something better serves.
    UntilChanged,
    /// Until the next try.
    UntilRetry,
    /// As long as what it is about is seen: nothing needs to be remembered.
    WhileSeen,
}

/// Whether the container that failed is to be replaced, and not started again.
pub fn condemns(failure: &Failure, service: &Service) -> bool {
    let replace = service.health.as_ref().is_some_and(|health| health.then == HealthAction::Replace);
    failure.reason == Reason::Unhealthy && replace
}

/// How long a failure holds. `before`: what failed of the service before it; a run that ends, `watching` not, tries
/// again only what its spec says.
pub fn holds(failure: &Failure, service: Option<&Service>, before: Option<&Setback>, watching: bool) -> Holds {
    if let (Some(Kind::Job(job)), Reason::Exited) = (service.map(|service| service.kind), failure.reason) {
        let tried = before.map_or(0, |before| before.count);
        return if tried < job.retries { Holds::UntilRetry } else { Holds::UntilChanged };
    }
    if !watching {
        return Holds::UntilChanged;
    }
    if heals(failure.reason) {
        return Holds::WhileSeen;
    }
    match failure.reason {
        Reason::EngineHangs | Reason::Unhealthy | Reason::NonConvergent => Holds::UntilRetry,
        _ if failure.replaces => Holds::UntilChanged,
        _ => Holds::UntilRetry,
    }
}

/// Whether a failure is over as soon as what it is about is no longer seen.
pub fn heals(reason: Reason) -> bool {
    matches!(reason, Reason::Conflict | Reason::NoContainer | Reason::ImageMissing | Reason::BuildFailed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::fingerprint::Fingerprint;

    fn setbacks(times: &[u64]) -> Vec<(u32, u64)> {
        let failure = Failure {
            service: "api".into(),
            reason: Reason::Exited,
            message: String::new(),
            container: None,
            fingerprint: Fingerprint::default(),
            image: None,
            replaces: false,
        };
        let mut last: Option<Setback> = None;
        times
            .iter()
            .map(|at| {
                let at = Duration::from_secs(*at);
                let next = Setback::after(last.as_ref(), failure.clone(), at);
                last = Some(next.clone());
                (next.count, (next.retry - at).as_secs())
            })
            .collect()
    }

    #[test]
    fn pauses_double_up_to_five_minutes() {
        let pauses: Vec<u64> = (1..=12).map(|count| pause(FIRST, LONGEST, count).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!(pause(FIRST, LONGEST, u32::MAX), LONGEST);
        assert_eq!(pause(FIRST, LONGEST, 0), FIRST);
    }

    #[test]
    fn ten_minutes_of_running_are_enough_to_forget() {
        assert_eq!(setbacks(&[0, 5, 20]), [(1, 1), (2, 2), (3, 4)]);
        assert_eq!(setbacks(&[0, 5, 5 + 2 + 599]), [(1, 1), (2, 2), (3, 4)]);
        assert_eq!(setbacks(&[0, 5, 5 + 2 + 600]), [(1, 1), (2, 2), (1, 1)]);
    }
}
