//! What the engine does with a group's containers, in the order in which it does it.

use std::io::{BufRead, BufReader};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::engine::{connect, host, of_group, send, text};
use super::{SOON, wait_for};

/// One event: what happened to which container under which name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// `create`, `start`, `rename`, `die`, `destroy`.
    pub action: String,
    /// Name of the container.
    pub name: String,
    /// Nanoseconds.
    pub time: i64,
}

/// Listens from now on.
pub struct Events {
    seen: Arc<Mutex<Vec<Event>>>,
}

impl Events {
    /// Begins to listen; whatever happens after the return is heard.
    pub fn of(group: &str) -> Events {
        let mut stream = connect(host()).unwrap();
        // Since now, whenever the engine gets to hear of the wish.
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let since = format!("{}.{:09}", now.as_secs(), now.subsec_nanos());
        send(&mut stream, "GET", &format!("/events?since={since}&{}", of_group(group)), None).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = seen.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines() {
                let Ok(line) = line else { return };
                let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
                let event = Event {
                    action: text(&event["Action"]),
                    name: text(&event["Actor"]["Attributes"]["name"]),
                    time: event["timeNano"].as_i64().unwrap_or_default(),
                };
                sink.lock().unwrap().push(event);
            }
        });
        Events { seen }
    }

    /// All that was heard.
    pub fn seen(&self) -> Vec<Event> {
        self.seen.lock().unwrap().clone()
    }

    /// Where in the order this happened first; waits for it, since events may come a little late.
    #[track_caller]
    pub fn position(&self, action: &str, name: &str) -> usize {
        wait_for(&format!("the event {action} {name} in {:#?}", self.seen()), SOON, || {
            self.seen().iter().position(|event| event.action == action && event.name == name)
        })
    }

    /// Fails unless the first happened before the second: `("start", "shop-db"), ("create", "shop-api.new")`.
    #[track_caller]
    pub fn in_order(&self, first: (&str, &str), second: (&str, &str)) {
        let (a, b) = (self.position(first.0, first.1), self.position(second.0, second.1));
        assert!(a < b, "{first:?} should come before {second:?}: {:#?}", self.seen());
    }
}
