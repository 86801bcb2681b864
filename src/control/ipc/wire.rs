//! Messages on the socket of a controller: the client sends one line of JSON, and lines of JSON answer it.
//!
//! The two ends may have different versions: unknown fields are ignored, and an unknown request is answered with
//! [`WireResponse::Unsupported`]. Data only.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::lock::WATCH;
use crate::control::event::{Failed, Outcome, Reload, RemovalError, RequestKind};
use crate::desired::fingerprint::Fingerprint;
use crate::plan::cause::Cause;
use crate::plan::step::{Change, Failure, Reason, Subject, Wait};
use crate::status::ControllerStatus;
use crate::types::ServiceName;

/// Request of a client; see [`RequestKind`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "lowercase")]
pub enum WireRequest {
    Status,
    Reconcile,
    Reload {
        services: BTreeSet<String>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        renew_volumes: bool,
    },
    Shutdown {
        by: String,
    },
}

impl From<WireRequest> for RequestKind {
    fn from(request: WireRequest) -> RequestKind {
        match request {
            WireRequest::Status => RequestKind::Status,
            WireRequest::Reconcile => RequestKind::Reconcile,
            WireRequest::Reload { services, renew_volumes } => RequestKind::Reload(Reload { services, renew_volumes }),
            WireRequest::Shutdown { by } => RequestKind::Shutdown { by },
        }
    }
}

/// Line of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "lowercase")]
pub enum WireResponse {
    /// The first line, sent before the request.
    Hello(Hello),
    /// Sent instead of the hello: too many other clients are waiting for their answers.
    Busy,
    /// An event, as `up --watch --output json` prints it.
    Event {
        event: Value,
    },
    Status(ControllerStatus),
    /// The result of a reconcile or a reload.
    Settled(Box<Settled>),
    /// The watch stops; `why` is the reason.
    Stopping {
        why: String,
    },
    /// The request is unknown or malformed; `why` is the reason.
    Unsupported {
        why: String,
    },
    /// A response of a later version.
    #[serde(other)]
    Unknown,
}

/// Identity of a controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub pid: u32,
    /// The spec directory that it watches or has read, an absolute path.
    pub source: String,
    /// The command that it runs, for example `up`. Only a watch has other requests than [`WireRequest::Shutdown`].
    #[serde(default = "watch")]
    pub command: String,
}

fn watch() -> String {
    WATCH.to_owned()
}

impl Hello {
    /// Returns true for a watching controller.
    pub fn is_watching(&self) -> bool {
        self.command == WATCH
    }
}

impl fmt::Display for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {} (drillmaster {})", self.pid, self.command)
    }
}

/// The parts of an [`Outcome`] that a client needs. Secret values are left out.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Settled {
    changes: Vec<Change>,
    failed: Vec<FailedService>,
    waits: Vec<(ServiceName, String)>,
    ready: BTreeSet<ServiceName>,
    stuck: Vec<(Subject, RemovalError)>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct FailedService {
    service: ServiceName,
    reason: Reason,
    message: String,
    /// A replacement failed, and the previous container serves.
    replaces: bool,
    output: Vec<String>,
    count: u32,
    retry_ms: Option<u64>,
}

impl Settled {
    /// Visits every text that may quote a secret value.
    pub(super) fn for_each_text(&mut self, visit: &mut dyn FnMut(&mut String)) {
        for failed in &mut self.failed {
            std::iter::once(&mut failed.message).chain(&mut failed.output).for_each(&mut *visit);
        }
        self.waits.iter_mut().for_each(|(_, reason)| visit(reason));
        self.stuck.iter_mut().for_each(|(_, stuck)| visit(&mut stuck.error));
    }
}

impl From<Outcome> for Settled {
    fn from(outcome: Outcome) -> Settled {
        let mut changes = outcome.changes;
        for cause in changes.iter_mut().flat_map(|change| &mut change.causes) {
            if let Cause::Field { old, new, secret: true, .. } = cause {
                // Whether there is a value is not secret.
                *old = old.take().map(|_| Value::from(""));
                *new = new.take().map(|_| Value::from(""));
            }
        }
        let failed = |failed: Failed| FailedService {
            service: failed.failure.service,
            reason: failed.failure.reason,
            message: failed.failure.message,
            replaces: failed.failure.replaces,
            output: failed.output,
            count: failed.count,
            retry_ms: failed.retry.map(|retry| u64::try_from(retry.as_millis()).unwrap_or(u64::MAX)),
        };
        Settled {
            changes,
            failed: outcome.failed.into_values().map(failed).collect(),
            waits: outcome.waits.into_iter().map(|wait| (wait.service, wait.reason)).collect(),
            ready: outcome.ready,
            stuck: outcome.stuck.into_iter().collect(),
        }
    }
}

impl From<Settled> for Outcome {
    fn from(settled: Settled) -> Outcome {
        let failed = |service: FailedService| {
            let failure = Failure {
                service: service.service.clone(),
                reason: service.reason,
                message: service.message,
                container: None,
                fingerprint: Fingerprint::default(),
                image: None,
                replaces: service.replaces,
                own_fault: service.reason.is_own_fault(),
            };
            let retry = service.retry_ms.map(Duration::from_millis);
            (service.service, Failed { failure, output: service.output, count: service.count, retry, retries: None })
        };
        let wait = |(service, reason)| Wait::new(service, reason, None);
        Outcome {
            changes: settled.changes,
            failed: settled.failed.into_iter().map(failed).collect::<BTreeMap<_, _>>(),
            waits: settled.waits.into_iter().map(wait).collect(),
            ready: settled.ready,
            stuck: settled.stuck.into_iter().collect(),
            ..Outcome::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::step::Action;

    #[test]
    fn requests_have_a_stable_json_form() {
        let table = [
            (r#"{"ask":"status"}"#, WireRequest::Status),
            (r#"{"ask":"reconcile","later":1}"#, WireRequest::Reconcile),
            (
                r#"{"ask":"reload","services":["api"]}"#,
                WireRequest::Reload { services: ["api".to_owned()].into(), renew_volumes: false },
            ),
            (r#"{"ask":"shutdown","by":"me"}"#, WireRequest::Shutdown { by: "me".into() }),
        ];
        for (text, request) in table {
            assert_eq!(serde_json::from_str::<WireRequest>(text).unwrap(), request, "{text}");
        }
        assert!(serde_json::from_str::<WireRequest>(r#"{"ask":"dance"}"#).is_err());
        assert_eq!(
            serde_json::from_str::<WireResponse>(r#"{"answer":"dance","to":1}"#).unwrap(),
            WireResponse::Unknown
        );
    }

    #[test]
    fn settled_outcome_is_sent_without_secrets() {
        let cause = |path: &str, secret| Cause::Field { path: path.into(), old: Some("old".into()), new: None, secret };
        let change = Change {
            subject: Subject::Service("api".into()),
            kind: "Service".into(),
            action: Action::Replace,
            replica: None,
            causes: vec![cause("env.A", true), cause("image", false)],
            interrupts: None,
            source: "app.yaml:1".into(),
        };
        let failure = Failure {
            service: "web".into(),
            reason: Reason::Exited,
            message: "it exited".into(),
            container: None,
            fingerprint: Fingerprint::default(),
            image: None,
            replaces: true,
            own_fault: true,
        };
        let failed =
            Failed { failure, output: vec!["oh".into()], count: 2, retry: Some(Duration::from_secs(2)), retries: None };
        let outcome = Outcome {
            changes: vec![change],
            failed: [("web".into(), failed)].into(),
            waits: vec![Wait::new("x".into(), "waits".into(), None)],
            ready: ["api".into()].into(),
            stuck: [(Subject::Network("shop".into()), RemovalError { error: "busy".into(), active_endpoints: true })]
                .into(),
            ..Outcome::default()
        };
        let text = serde_json::to_string(&WireResponse::Settled(Box::new(outcome.clone().into()))).unwrap();
        let WireResponse::Settled(settled) = serde_json::from_str(&text).unwrap() else { panic!("{text}") };
        let received = Outcome::from(*settled);
        assert_eq!(
            received.changes[0].causes[0],
            Cause::Field { path: "env.A".into(), old: Some("".into()), new: None, secret: true }
        );
        assert_eq!(received.changes[0].causes[1], outcome.changes[0].causes[1]);
        assert_eq!(Outcome { changes: Vec::new(), ..received }, Outcome { changes: Vec::new(), ..outcome });
    }
}
