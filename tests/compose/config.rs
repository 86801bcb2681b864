//! A project as `docker compose config --format json` prints it.
//!
//! Both sides are pruned before they are compared: what is empty, false, zero or null means the same as what is left
//! out, but for the values of maps whose keys are the user's, and for commands.

use drillmaster::spec::compose::{Project, bytes, duration};
use drillmaster::spec::node::{Node, Resolved, Value as Tree};
use serde_json::{Map, Value, json};

/// Fields by the end of their paths; `*` stands for any key.
const SIZES: [&str; 9] = [
    "mem_limit",
    "mem_reservation",
    "memswap_limit",
    "mem_swappiness",
    "shm_size",
    "build.shm_size",
    "limits.memory",
    "reservations.memory",
    "tmpfs.size",
];
const DURATIONS: [&str; 8] =
    ["stop_grace_period", "interval", "timeout", "start_period", "start_interval", "delay", "monitor", "window"];
/// Maps whose empty values mean something.
const KEPT: [&str; 8] =
    ["environment", "labels", "args", "networks", "driver_opts", "options", "command", "entrypoint"];

/// Prints a project.
pub fn print(project: &Project) -> Value {
    let mut services = Map::new();
    for (name, service) in project.active_services() {
        services.insert(name.to_owned(), print_service(project, name, service));
    }
    let mut config = json!({"name": project.name, "services": services});
    for (section, key) in
        [("networks", "networks"), ("volumes", "volumes"), ("secrets", "secrets"), ("configs", "configs")]
    {
        let used = used(&config, section);
        let all = project.root.get(key).into_iter().flat_map(Node::entries);
        let all: Map<String, Value> = all
            .filter(|entry| used.contains(&entry.key.text))
            .map(|entry| (entry.key.text.clone(), convert(&entry.value, &mut vec![section.to_owned()])))
            .collect();
        config[section] = Value::Object(all);
    }
    pruned(config, "")
}

/// Returns the resources that active services use: others are not printed.
fn used(config: &Value, section: &str) -> Vec<String> {
    let mut used = Vec::new();
    for service in config["services"].as_object().unwrap().values() {
        match section {
            "networks" => used.extend(service["networks"].as_object().into_iter().flat_map(|map| map.keys().cloned())),
            "volumes" => {
                let volumes = service["volumes"].as_array().into_iter().flatten();
                let named = volumes.filter(|volume| volume["type"] == "volume");
                used.extend(named.filter_map(|volume| Some(volume["source"].as_str()?.to_owned())));
            }
            _ => {
                let own = service[section].as_array().into_iter().flatten();
                let of_build = service["build"][section].as_array().into_iter().flatten();
                used.extend(own.chain(of_build).filter_map(|mount| Some(mount["source"].as_str()?.to_owned())));
            }
        }
    }
    used
}

fn print_service(project: &Project, name: &str, service: &Node) -> Value {
    let mut printed = convert(service, &mut Vec::new());
    let environment = project.environment_of(name);
    printed["environment"] = json!(environment);
    let mut labels: Map<String, Value> =
        project.label_files.get(name).into_iter().flatten().map(|(key, value)| (key.clone(), json!(value))).collect();
    labels.extend(printed["labels"].as_object().cloned().unwrap_or_default());
    printed["labels"] = Value::Object(labels);
    for key in ["env_file", "label_file"] {
        printed.as_object_mut().unwrap().remove(key);
    }
    printed
}

fn convert(node: &Node, path: &mut Vec<String>) -> Value {
    match &node.value {
        Tree::Map(entries) => {
            let mut map = Map::new();
            for entry in entries.iter().filter(|entry| !entry.key.text.starts_with("x-")) {
                path.push(entry.key.text.clone());
                let key = match path.first().map(String::as_str) {
                    // These are printed without their names in files.
                    Some("blkio_config") if path.len() > 2 => capitalized(&entry.key.text),
                    _ => entry.key.text.clone(),
                };
                map.insert(key, convert(&entry.value, path));
                path.pop();
            }
            Value::Object(map)
        }
        Tree::Seq(items) => Value::Array(items.iter().map(|item| convert(item, path)).collect()),
        Tree::Scalar(scalar) => {
            let end = |count: usize| path[path.len().saturating_sub(count)..].join(".");
            let is_user_key = path.iter().rev().skip(1).take(1).any(|key| KEPT.contains(&key.as_str()));
            if (SIZES.contains(&end(1).as_str()) && path.len() == 1
                || SIZES.contains(&end(2).as_str())
                || end(1) == "rate")
                && !is_user_key
            {
                let size = bytes(&scalar.text).or_else(|| scalar.text.parse().ok());
                return json!(size.unwrap().to_string());
            }
            if DURATIONS.contains(&end(1).as_str()) && !is_user_key {
                return json!(print_duration(duration(&scalar.text).unwrap()));
            }
            if end(1) == "count" && scalar.text == "all" {
                return json!(-1);
            }
            match scalar.resolve() {
                Resolved::Null => Value::Null,
                Resolved::Bool(value) => json!(value),
                Resolved::Int(value) => json!(i64::try_from(value).unwrap()),
                Resolved::Float(value) => json!(value),
                Resolved::Text(text) => json!(text),
            }
        }
        other => panic!("{other:?}"),
    }
}

fn capitalized(word: &str) -> String {
    word[..1].to_uppercase() + &word[1..]
}

/// As Go prints durations.
fn print_duration(nanoseconds: i64) -> String {
    let seconds = |nanoseconds: i64| format!("{}s", nanoseconds as f64 / 1e9);
    let (hours, minutes) = (nanoseconds / 3_600_000_000_000, nanoseconds / 60_000_000_000 % 60);
    match nanoseconds {
        0 => "0s".to_owned(),
        ..1_000 => format!("{nanoseconds}ns"),
        1_000..1_000_000 => format!("{}µs", nanoseconds as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{}ms", nanoseconds as f64 / 1e6),
        1_000_000_000..60_000_000_000 => seconds(nanoseconds),
        60_000_000_000..3_600_000_000_000 => format!("{minutes}m{}", seconds(nanoseconds % 60_000_000_000)),
        _ => format!("{hours}h{minutes}m{}", seconds(nanoseconds % 60_000_000_000)),
    }
}

/// Removes what means the same as nothing.
pub fn pruned(value: Value, key: &str) -> Value {
    match value {
        Value::Object(map) => {
            let keep = |name: &str, value: &Value| {
                KEPT.contains(&key) || KEPT[6..].contains(&name) && value.is_array() || !is_empty(value)
            };
            // The names of services are no fields.
            let below = |name: &str| if key == "services" { String::new() } else { name.to_owned() };
            let map = map.into_iter().map(|(name, value)| (name.clone(), pruned(value, &below(&name))));
            Value::Object(map.filter(|(name, value)| keep(name, value)).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(|item| pruned(item, "")).collect()),
        value => value,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty() || text == "0",
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

/// Returns the differences of two values, each with its path.
pub fn differences(ours: &Value, theirs: &Value, path: &str, found: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match (a.get(key), b.get(key)) {
                    (Some(a), Some(b)) => differences(a, b, &path, found),
                    (Some(a), None) => found.push(format!("{path}: {a} instead of nothing")),
                    (None, Some(b)) => found.push(format!("{path}: nothing instead of {b}")),
                    (None, None) => {}
                }
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                differences(a, b, &format!("{path}.{index}"), found);
            }
        }
        (Value::Number(a), Value::Number(b)) => {
            // Compose keeps some fractions in single precision.
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            if (a - b).abs() > 1e-6 * b.abs() {
                found.push(format!("{path}: {a} instead of {b}"));
            }
        }
        (a, b) if a != b => found.push(format!("{path}: {a} instead of {b}")),
        _ => {}
    }
}
