//! What goes over the socket of a watching controller: one JSON line asks, JSON lines answer.
//!
//! The two ends may be of different versions: fields that are not known are ignored, and what cannot be understood is
//! answered with a sentence that says so. Data only.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::control::event::{Failed, Outcome, RemovalError, RequestKind};
use crate::desired::fingerprint::Fingerprint;
use crate::plan::cause::Cause;
use crate::plan::step::{Change, Failure, Reason, Subject, Wait};
use crate::status::ControllerStatus;
use crate::types::ServiceName;

/// What is asked for; see [`RequestKind`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "lowercase")]
pub enum WireRequest {
    /// [`RequestKind::Status`].
    Status,
    /// [`RequestKind::Reconcile`].
    Reconcile,
    /// [`RequestKind::Reload`].
    Reload {
        /// Which.
        services: BTreeSet<String>,
    },
    /// [`RequestKind::Shutdown`].
    Shutdown {
        /// Who wants it.
        by: String,
    },
}

impl From<WireRequest> for RequestKind {
    fn from(question: WireRequest) -> RequestKind {
        match question {
            WireRequest::Status => RequestKind::Status,
            WireRequest::Reconcile => RequestKind::Reconcile,
            WireRequest::Reload { services } => RequestKind::Reload(services),
            WireRequest::Shutdown { by } => RequestKind::Shutdown { by },
        }
    }
}

/// A line of the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "lowercase")]
pub enum WireResponse {
    /// The first line, before anything was asked: who listens.
    Hello(Hello),
    /// Something happened meanwhile, as `up --watch --output json` prints it.
    Event {
        /// What.
        event: Value,
    },
    /// What the controller knows beside the engine.
    Status(ControllerStatus),
    /// Everything that can be done is done.
    Settled(Box<Settled>),
    /// The watch ends.
    Stopping {
        /// Why.
        why: String,
    },
    /// The question is not one that can be answered.
    Unsupported {
        /// Why.
        why: String,
    },
    /// An answer of a later version.
    #[serde(other)]
    Unknown,
}

/// Who listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Its process id.
    pub pid: u32,
    /// The spec directory that it watches, absolute.
    pub source: String,
}

/// An [`Outcome`], as far as others need it. Values that may be secret are left out.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Settled {
    changes: Vec<Change>,
    failed: Vec<Broken>,
    waits: Vec<(ServiceName, String)>,
    ready: BTreeSet<ServiceName>,
    stuck: Vec<(Subject, RemovalError)>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Broken {
    service: ServiceName,
    reason: Reason,
    message: String,
    /// There is a container that serves meanwhile.
    replaces: bool,
    output: Vec<String>,
    count: u32,
    retry_ms: Option<u64>,
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
        let broken = |failed: Failed| Broken {
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
            failed: outcome.failed.into_values().map(broken).collect(),
            waits: outcome.waits.into_iter().map(|wait| (wait.service, wait.reason)).collect(),
            ready: outcome.ready,
            stuck: outcome.stuck.into_iter().collect(),
        }
    }
}

impl From<Settled> for Outcome {
    fn from(settled: Settled) -> Outcome {
        let whole = |broken: Broken| {
            let failure = Failure {
                service: broken.service.clone(),
                reason: broken.reason,
                message: broken.message,
                container: None,
                fingerprint: Fingerprint::default(),
                image: None,
                replaces: broken.replaces,
            };
            let retry = broken.retry_ms.map(Duration::from_millis);
            (broken.service, Failed { failure, output: broken.output, count: broken.count, retry })
        };
        let wait = |(service, reason)| Wait { service, reason, awaited: None, quiet: false };
        Outcome {
            changes: settled.changes,
            failed: settled.failed.into_iter().map(whole).collect::<BTreeMap<_, _>>(),
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
    fn a_question_is_what_a_person_would_type() {
        let table = [
            (r#"{"ask":"status"}"#, WireRequest::Status),
            (r#"{"ask":"reconcile","later":1}"#, WireRequest::Reconcile),
            (r#"{"ask":"reload","services":["api"]}"#, WireRequest::Reload { services: ["api".to_owned()].into() }),
            (r#"{"ask":"shutdown","by":"me"}"#, WireRequest::Shutdown { by: "me".into() }),
        ];
        for (text, question) in table {
            assert_eq!(serde_json::from_str::<WireRequest>(text).unwrap(), question, "{text}");
        }
        assert!(serde_json::from_str::<WireRequest>(r#"{"ask":"dance"}"#).is_err());
        assert_eq!(
            serde_json::from_str::<WireResponse>(r#"{"answer":"dance","to":1}"#).unwrap(),
            WireResponse::Unknown
        );
    }

    #[test]
    fn a_result_comes_through_without_its_secrets() {
        let cause = |path: &str, secret| Cause::Field { path: path.into(), old: Some("old".into()), new: None, secret };
        let change = Change {
            subject: Subject::Service("api".into()),
            action: Action::Replace,
            replica: None,
            causes: vec![cause("env.A", true), cause("image", false)],
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
        };
        let failed = Failed { failure, output: vec!["oh".into()], count: 2, retry: Some(Duration::from_secs(2)) };
        let outcome = Outcome {
            changes: vec![change],
            failed: [("web".into(), failed)].into(),
            waits: vec![Wait { service: "x".into(), reason: "waits".into(), awaited: None, quiet: false }],
            ready: ["api".into()].into(),
            stuck: [(Subject::Network("shop".into()), RemovalError { error: "busy".into(), active_endpoints: true })]
                .into(),
            ..Outcome::default()
        };
        let text = serde_json::to_string(&WireResponse::Settled(Box::new(outcome.clone().into()))).unwrap();
        let WireResponse::Settled(settled) = serde_json::from_str(&text).unwrap() else { panic!("{text}") };
        let come = Outcome::from(*settled);
        assert_eq!(
            come.changes[0].causes[0],
            Cause::Field { path: "env.A".into(), old: Some("".into()), new: None, secret: true }
        );
        assert_eq!(come.changes[0].causes[1], outcome.changes[0].causes[1]);
        assert_eq!(Outcome { changes: Vec::new(), ..come }, Outcome { changes: Vec::new(), ..outcome });
    }
}
