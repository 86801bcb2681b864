//! Readiness: when a service is given up.

use std::time::Duration;

use drillmaster::plan::step::Reason;
use drillmaster::plan::{Memory, plan};

use crate::builders::*;

#[test]
fn probe_that_cannot_succeed_fails_before_its_timeout() {
    let wanted = desired([service("api").ping(Duration::from_secs(300))]);
    let mut observed = agreeing(&wanted);
    let id = by_name(&mut observed, "shop-api").id.clone();
    let now = Duration::from_secs(1);
    let mut memory = Memory::default();
    memory.container_mut(&id).waiting_since = Some(now);
    assert!(plan(&wanted, &observed, &memory, now).failures.is_empty());
    memory.container_mut(&id).life.probe_is_hopeless = true;
    let planned = plan(&wanted, &observed, &memory, now);
    let failure = &planned.failures[0];
    assert_eq!(
        (failure.reason, failure.message.as_str()),
        (Reason::NotReady, "readiness probe (exec ping) cannot succeed")
    );
    memory.container_mut(&id).life.probe_succeeded = true;
    assert!(plan(&wanted, &observed, &memory, now).failures.is_empty());
}
