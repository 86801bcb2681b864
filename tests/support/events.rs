//! Recorder for the engine events of a group, in the order of arrival.

use std::io::{BufRead, BufReader};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::engine::{connect, group_filter, host, send, text};
use super::{WAIT_TIMEOUT, wait_for};

/// One container event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// `create`, `start`, `rename`, `die`, `destroy`.
    pub action: String,
    /// Container name at the time of the event.
    pub name: String,
    /// Time in nanoseconds since the epoch.
    pub time: i64,
}

/// Events received since the subscription.
pub struct Events {
    seen: Arc<Mutex<Vec<Event>>>,
}

impl Events {
    /// Subscribes to the events of a group. Every event after the return is recorded.
    pub fn subscribe(group: &str) -> Events {
        let mut stream = connect(host()).unwrap();
        // With `since`, events between now and the arrival of the request are included.
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let since = format!("{}.{:09}", now.as_secs(), now.subsec_nanos());
        send(&mut stream, "GET", &format!("/events?since={since}&{}", group_filter(group)), None).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = seen.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines() {
                let Ok(line) = line else { return };
                let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
                // Only Podman has these.
                if ["init", "cleanup", "sync"].iter().any(|more| event["Action"] == *more) {
                    continue;
                }
                let event = Event {
                    action: match text(&event["Action"]) {
                        // Podman's words.
                        action if action == "remove" => "destroy".to_owned(),
                        action if action == "exec" => "exec_create".to_owned(),
                        action if action == "exec_died" => "exec_die".to_owned(),
                        action => action,
                    },
                    name: text(&event["Actor"]["Attributes"]["name"]),
                    time: event["timeNano"].as_i64().unwrap_or_default(),
                };
                // Podman sends events again.
                let mut seen = sink.lock().unwrap();
                if !seen.contains(&event) {
                    seen.push(event);
                }
            }
        });
        Events { seen }
    }

    /// Returns all events received so far.
    pub fn seen(&self) -> Vec<Event> {
        self.seen.lock().unwrap().clone()
    }

    /// Returns the index of the first matching event. Waits for the event, because events may be delayed.
    #[track_caller]
    pub fn position(&self, action: &str, name: &str) -> usize {
        wait_for(&format!("event {action} {name} in {:#?}", self.seen()), WAIT_TIMEOUT, || {
            self.seen().iter().position(|event| event.action == action && event.name == name)
        })
    }

    /// Asserts that one event happened before another: `("start", "shop-db"), ("create", "shop-api.new")`.
    #[track_caller]
    pub fn assert_order(&self, first: (&str, &str), second: (&str, &str)) {
        let (a, b) = (self.position(first.0, first.1), self.position(second.0, second.1));
        assert!(a < b, "{first:?} must precede {second:?}: {:#?}", self.seen());
    }
}
