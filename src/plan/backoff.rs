//! Backoff and retry policy. Pure: time is passed in.
//!
//! A container that exits, becomes unhealthy or cannot be started is retried after 1 s, then 2 s, 4 s and so on up to
//! 5 min; the delay starts from 1 s again after 10 min of uptime. A one-shot run does not retry, except jobs.
//!
//! A replacement that fails by itself while the engine is well (it exits, does not become ready, or a hook of it fails) is
//! not retried until the spec or the image changes. If the engine fails, a replacement is retried like anything else.

use std::time::Duration;

use super::step::{Failure, Reason};
use crate::desired::{Kind, Service};
use crate::spec::model::HealthAction;

/// Delay after the first failure.
pub const BACKOFF_INITIAL: Duration = Duration::from_secs(1);
/// Longest delay.
pub const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// Uptime after which the next failure counts as the first.
pub const BACKOFF_RESET_AFTER: Duration = Duration::from_secs(600);

/// A failure that is retried.
#[derive(Debug, Clone, PartialEq)]
pub struct Backoff {
    pub failure: Failure,
    /// Consecutive failures.
    pub count: u32,
    /// When it happened; time since the start of the run.
    pub at: Duration,
    /// When it is retried; time since the start of the run.
    pub retry: Duration,
}

impl Backoff {
    /// The next failure after `before`.
    pub fn after(before: Option<&Backoff>, failure: Failure, at: Duration) -> Backoff {
        let count = match before {
            // The delay does not count as uptime.
            Some(before) if at < before.retry + BACKOFF_RESET_AFTER => before.count + 1,
            _ => 1,
        };
        Backoff { failure, count, at, retry: at + backoff_delay(BACKOFF_INITIAL, BACKOFF_MAX, count) }
    }

    /// Returns true until the next retry is due.
    pub fn is_backing_off(&self, now: Duration) -> bool {
        now < self.retry
    }
}

/// Delay after the `count`-th consecutive failure: `first`, doubled each time, at most `longest`.
pub fn backoff_delay(first: Duration, longest: Duration, count: u32) -> Duration {
    let doubled = 2u32.checked_pow(count.saturating_sub(1)).and_then(|factor| first.checked_mul(factor));
    doubled.map_or(longest, |backoff_delay| backoff_delay.min(longest))
}

/// When a failure is retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryPolicy {
    /// When the spec changes: a retry would fail again, and the previous container runs meanwhile.
    OnSpecChange,
    /// After the backoff delay.
    AfterBackoff,
    /// As soon as its cause is gone; nothing needs to be remembered.
    WhileObserved,
}

/// Returns true if the failed container is replaced instead of restarted.
pub fn requires_replacement(failure: &Failure, service: &Service) -> bool {
    let replace = service.health.as_ref().is_some_and(|health| health.action == HealthAction::Replace);
    failure.reason == Reason::Unhealthy && replace
}

/// When a failure is retried. `before` is the previous failure of the service. Without `watching`, only the retries of
/// jobs are left.
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
    if failure.replaces && failure.own_fault { RetryPolicy::OnSpecChange } else { RetryPolicy::AfterBackoff }
}

/// Returns true if a failure ends as soon as its cause is no longer observed.
pub fn heals(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Conflict
            | Reason::Unsupported
            | Reason::NoContainer
            | Reason::ImageMissing
            | Reason::BuildFailed
            | Reason::RebuildLoop
    )
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
            own_fault: true,
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
    fn backoff_doubles_up_to_five_minutes() {
        let pauses: Vec<u64> =
            (1..=12).map(|count| backoff_delay(BACKOFF_INITIAL, BACKOFF_MAX, count).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!(backoff_delay(BACKOFF_INITIAL, BACKOFF_MAX, u32::MAX), BACKOFF_MAX);
        assert_eq!(backoff_delay(BACKOFF_INITIAL, BACKOFF_MAX, 0), BACKOFF_INITIAL);
    }

    #[test]
    fn backoff_is_reset_after_ten_minutes() {
        assert_eq!(backoffs(&[0, 5, 20]), [(1, 1), (2, 2), (3, 4)]);
        assert_eq!(backoffs(&[0, 5, 5 + 2 + 599]), [(1, 1), (2, 2), (3, 4)]);
        assert_eq!(backoffs(&[0, 5, 5 + 2 + 600]), [(1, 1), (2, 2), (1, 1)]);
    }
}
