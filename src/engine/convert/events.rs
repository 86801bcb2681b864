//! Events, and the exits derived from them.

use std::collections::HashMap;

use std::time::Duration;

use bollard::models::{EventMessage, EventMessageTypeEnum};

use super::super::{ContainerEvent, ContainerExit, EngineEvent};

use crate::identity::{self};
use crate::observed::Health;

/// Converts an event; `None` if it concerns neither a container of the group nor a network.
///
/// Network events carry no labels, so those of every network are returned.
pub fn event(event: EventMessage, group: &str) -> Option<EngineEvent> {
    let actor = event.actor.unwrap_or_default();
    let attributes = actor.attributes.unwrap_or_default();
    let id = actor.id?;
    match event.typ? {
        EventMessageTypeEnum::NETWORK => Some(EngineEvent::Network {
            id,
            container: attributes.get("container").filter(|id| !id.is_empty()).cloned(),
        }),
        EventMessageTypeEnum::CONTAINER if attributes.get(identity::GROUP).is_some_and(|owner| owner == group) => {
            let what = happened(event.action.as_deref()?, &attributes)?;
            Some(EngineEvent::Container { id, what })
        }
        _ => None,
    }
}

fn happened(action: &str, attributes: &HashMap<String, String>) -> Option<ContainerEvent> {
    // `health_status: healthy`, `exec_create: sh -c true`
    let (verb, rest) = action.split_once(": ").unwrap_or((action, ""));
    match verb {
        "create" => Some(ContainerEvent::Created),
        "start" => Some(ContainerEvent::Started),
        "die" => Some(ContainerEvent::Died { code: attributes.get("exitCode").and_then(|code| code.parse().ok()) }),
        "destroy" => Some(ContainerEvent::Destroyed),
        "health_status" => Some(match rest {
            "healthy" => ContainerEvent::Health(Health::Healthy),
            "unhealthy" => ContainerEvent::Health(Health::Unhealthy),
            "starting" => ContainerEvent::Health(Health::Starting),
            _ => ContainerEvent::Changed,
        }),
        "kill" if is_meant_to_end(attributes) => Some(ContainerEvent::Killed),
        "stop" | "restart" | "pause" | "unpause" | "rename" | "update" | "oom" => Some(ContainerEvent::Changed),
        // Execs, other signals, file copies, attach and resize: none of them changes the container's state.
        _ => None,
    }
}

/// Returns true if a signal is meant to end a container. Any signal may be the image's stop signal, so only those that
/// are almost always sent for other reasons do not count: 0 (test for existence), HUP (reload) and WINCH (resize).
fn is_meant_to_end(attributes: &HashMap<String, String>) -> bool {
    !matches!(attributes.get("signal").map(String::as_str), Some("0" | "1" | "28"))
}

/// The longest time between the signal that stops a container and its exit. A container that takes longer gets another
/// signal from the engine.
const OBEYS_WITHIN: i64 = 60 * 1_000_000_000;

/// The containers of a group that exited, oldest first, from events up to `now` (nanoseconds since the Unix epoch by
/// the engine's clock). Incomplete events are skipped.
pub fn ends(mut events: Vec<EventMessage>, group: &str, now: i64) -> Vec<ContainerExit> {
    events.sort_by_key(|event| event.time_nano);
    let mut asked: HashMap<String, i64> = HashMap::new();
    let mut ends = Vec::new();
    for event in events {
        let (Some(action), Some(at), Some(actor)) = (event.action, event.time_nano, event.actor) else { continue };
        let (Some(id), Some(attributes)) = (actor.id, actor.attributes) else { continue };
        if attributes.get(identity::GROUP).is_none_or(|owner| owner != group) {
            continue;
        }
        match (happened(&action, &attributes), attributes.get(identity::SERVICE)) {
            (Some(ContainerEvent::Killed), _) => drop(asked.insert(id, at)),
            (Some(ContainerEvent::Died { code }), Some(service)) => ends.push(ContainerExit {
                asked: asked.remove(&id).is_some_and(|asked| at - asked <= OBEYS_WITHIN),
                id,
                service: service.clone(),
                replica: attributes.get(identity::REPLICA).and_then(|number| number.parse().ok()),
                ago: Duration::from_nanos(u64::try_from(now.saturating_sub(at)).unwrap_or_default()),
                code,
            }),
            _ => {}
        }
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_converted() {
        let message = |kind: &str, action: &str| -> EventMessage {
            let json = format!(
                r#"{{"Type": "{kind}", "Action": "{action}", "Actor": {{"ID": "ab", "Attributes":
                    {{"drillmaster.group": "shop", "exitCode": "137", "container": "cd"}}}}}}"#
            );
            serde_json::from_str(&json).unwrap()
        };
        let what = |action: &str| match event(message("container", action), "shop") {
            Some(EngineEvent::Container { what, .. }) => Some(what),
            _ => None,
        };
        assert_eq!(what("die"), Some(ContainerEvent::Died { code: Some(137) }));
        assert_eq!(what("health_status: unhealthy"), Some(ContainerEvent::Health(Health::Unhealthy)));
        assert_eq!(what("rename"), Some(ContainerEvent::Changed));
        for change in ["pause", "unpause", "rename", "update", "stop", "restart"] {
            assert_eq!(what(change), Some(ContainerEvent::Changed), "{change}");
        }
        for noise in ["exec_create: sh -c true", "exec_start: true", "exec_die", "attach", "top"] {
            assert_eq!(what(noise), None, "{noise}");
        }
        assert_eq!(what("kill"), Some(ContainerEvent::Killed));
        let signal = |signal: &str| happened("kill", &HashMap::from([("signal".to_owned(), signal.to_owned())]));
        for harmless in ["0", "1", "28"] {
            assert_eq!(signal(harmless), None, "{harmless}");
        }
        for meant in ["2", "3", "9", "10", "15"] {
            assert_eq!(signal(meant), Some(ContainerEvent::Killed), "{meant}");
        }
        assert_eq!(event(message("container", "die"), "other"), None);
        assert_eq!(event(message("image", "pull"), "shop"), None);
        let network = EngineEvent::Network { id: "ab".into(), container: Some("cd".into()) };
        assert_eq!(event(message("network", "disconnect"), "other"), Some(network));
    }

    #[test]
    fn recent_exits_include_whether_they_were_requested() {
        let event = |at: i64, id: &str, action: &str, signal: &str| -> EventMessage {
            let json = format!(
                r#"{{"Type": "container", "Action": "{action}", "timeNano": {at}000000000, "Actor": {{"ID": "{id}",
                    "Attributes": {{"drillmaster.group": "shop", "drillmaster.service": "{id}", "exitCode": "{at}",
                    "signal": "{signal}"}}}}}}"#
            );
            serde_json::from_str(&json).unwrap()
        };
        let mut foreign = event(5, "foreign", "die", "");
        foreign.actor.as_mut().unwrap().attributes.as_mut().unwrap().remove(identity::GROUP);
        let mut nameless = event(5, "nameless", "die", "");
        nameless.actor.as_mut().unwrap().attributes.as_mut().unwrap().remove(identity::SERVICE);
        let events = vec![
            event(30, "db", "die", ""),
            event(10, "api", "kill", "15"),
            event(12, "api", "die", ""),
            event(20, "db", "kill", "1"),
            event(40, "api", "die", ""),
            event(41, "late", "kill", "15"),
            event(110, "late", "die", ""),
            foreign,
            nameless,
            EventMessage::default(),
        ];
        let seconds = 1_000_000_000;
        let lines: Vec<_> = ends(events, "shop", 100 * seconds)
            .into_iter()
            .map(|end| (end.service, end.ago.as_secs(), end.code, end.asked))
            .collect();
        let end = |service: &str, ago, code, asked| (service.to_owned(), ago, Some(code), asked);
        let expected =
            [end("api", 88, 12, true), end("db", 70, 30, false), end("api", 60, 40, false), end("late", 0, 110, false)];
        assert_eq!(lines, expected);
    }
}
