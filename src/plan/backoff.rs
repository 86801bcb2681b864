//! When what has failed is tried again: the crash-loop policy, pure.
//!
//! A container that ends, becomes unhealthy or cannot be started is brought back after 1 s, then 2 s, 4 s and so on up
//! to 5 min; what has run for 10 min since starts from 1 s again. Only while watching: a run that ends tries once.

use std::time::Duration;

use super::step::{Failure, Reason};
use crate::desired::{Kind, Service};
use crate::spec::model::HealthAction;

/// The pause after the first failure.
pub const BACKOFF_INITIAL: Duration = Duration::from_secs(1);
/// The longest pause.
pub const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// After so long without a failure the next one is the first again.
pub const BACKOFF_RESET_AFTER: Duration = Duration::from_secs(600);

/// A failure that is tried again.
#[derive(Debug, Clone, PartialEq)]
pub struct Backoff {
    /// What failed.
    pub failure: Failure,
    /// How often in a row.
    pub count: u32,
    /// When; time since the start of the run.
    pub at: Duration,
    /// When it is tried again.
    pub retry: Duration,
}

impl Backoff {
    /// Another failure, after those before it.
    pub fn after(before: Option<&Backoff>, failure: Failure, at: Duration) -> Backoff {
        let count = match before {
            // The time of a pause is not a time of running.
            Some(before) if at < before.retry + BACKOFF_RESET_AFTER => before.count + 1,
            _ => 1,
        };
        Backoff { failure, count, at, retry: at + backoff_delay(BACKOFF_INITIAL, BACKOFF_MAX, count) }
    }

    /// Whether it waits for its next try.
    pub fn is_backing_off(&self, now: Duration) -> bool {
        now < self.retry
    }
}

/// How long to wait after the `count`-th failure in a row: `first`, doubled each time, at most `longest`.
pub fn backoff_delay(first: Duration, longest: Duration, count: u32) -> Duration {
    let doubled = 2u32.checked_pow(count.saturating_sub(1)).and_then(|factor| first.checked_mul(factor));
    doubled.map_or(longest, |backoff_delay| backoff_delay.min(longest))
}

/// How long a failure holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryPolicy {
    /// Until the spec changes: the same would happen again, and something better serves.
    OnSpecChange,
    /// Until the next try.
    AfterBackoff,
    /// As long as what it is about is seen: nothing needs to be remembered.
    WhileObserved,
}

/// Whether the container that failed is to be replaced, and not started again.
pub fn requires_replacement(failure: &Failure, service: &Service) -> bool {
    let replace = service.health.as_ref().is_some_and(|health| health.action == HealthAction::Replace);
    failure.reason == Reason::Unhealthy && replace
}

/// How long a failure holds. `before`: what failed of the service before it; a run that ends, `watching` not, tries
/// again only what its spec says.
pub fn retry_policy(
    failure: &Failure,
    service: Option<&Service>,
    before: Option<&Backoff>,
    watching: bool,
) -> RetryPolicy {
    if let (Some(Kind::Job(job)), Reason::Exited) = (service.map(|service| service.kind), failure.reason) {
        let tried = before.map_or(0, |before| before.count);
        return if tried < job.retries { RetryPolicy::AfterBackoff } else { RetryPolicy::OnSpecChange };
    }
    if !watching {
        return RetryPolicy::OnSpecChange;
    }
    if heals(failure.reason) {
        return RetryPolicy::WhileObserved;
    }
    match failure.reason {
        Reason::EngineHangs | Reason::Unhealthy | Reason::NonConvergent => RetryPolicy::AfterBackoff,
        _ if failure.replaces => RetryPolicy::OnSpecChange,
        _ => RetryPolicy::AfterBackoff,
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

    fn backoffs(times: &[u64]) -> Vec<(u32, u64)> {
        let failure = Failure {
            service: "api".into(),
            reason: Reason::Exited,
            message: String::new(),
            container: None,
            fingerprint: Fingerprint::default(),
            image: None,
            replaces: false,
        };
        let mut last: Option<Backoff> = None;
        times
            .iter()
            .map(|at| {
                let at = Duration::from_secs(*at);
                let next = Backoff::after(last.as_ref(), failure.clone(), at);
                last = Some(next.clone());
                (next.count, (next.retry - at).as_secs())
            })
            .collect()
    }

    #[test]
    fn pauses_double_up_to_five_minutes() {
        let pauses: Vec<u64> =
            (1..=12).map(|count| backoff_delay(BACKOFF_INITIAL, BACKOFF_MAX, count).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!(backoff_delay(BACKOFF_INITIAL, BACKOFF_MAX, u32::MAX), BACKOFF_MAX);
        assert_eq!(backoff_delay(BACKOFF_INITIAL, BACKOFF_MAX, 0), BACKOFF_INITIAL);
    }

    #[test]
    fn ten_minutes_of_running_are_enough_to_forget() {
        assert_eq!(backoffs(&[0, 5, 20]), [(1, 1), (2, 2), (3, 4)]);
        assert_eq!(backoffs(&[0, 5, 5 + 2 + 599]), [(1, 1), (2, 2), (3, 4)]);
        assert_eq!(backoffs(&[0, 5, 5 + 2 + 600]), [(1, 1), (2, 2), (1, 1)]);
    }
}
