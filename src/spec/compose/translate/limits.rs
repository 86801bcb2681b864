//! Limits, devices and `deploy`.

use std::ops::Range;

use super::super::super::node::{Entry, Node, Style, Value};
use super::super::values::printed;
use super::super::{bytes, duration};
use super::nodes::{entry, is_empty, is_extension, list, map, retext, set_field, text_at, text_of, without_extensions};
use super::{Document, Translator};

/// Converts a size; `None` for zero, which sets nothing. -1 stays.
pub(super) fn size(node: &Node) -> Option<Node> {
    let written = printed(node)?;
    match written.as_str() {
        "-1" => Some(retext(node, "-1")),
        written => bytes(written).filter(|bytes| *bytes != 0).map(|bytes| retext(node, format!("{bytes}b"))),
    }
}

/// Converts a duration.
pub(super) fn period(node: &Node) -> Option<Node> {
    let nanoseconds = duration(&printed(node)?)?;
    let (number, unit) = match nanoseconds {
        whole if whole % 1_000_000_000 == 0 => (whole / 1_000_000_000, "s"),
        whole if whole % 1_000_000 == 0 => (whole / 1_000_000, "ms"),
        all => (all, "ns"),
    };
    Some(retext(node, format!("{number}{unit}")))
}

/// Returns a number that is neither zero nor negative.
fn positive(node: &Node) -> Option<Node> {
    let is_positive = printed(node)?.parse::<f64>().is_ok_and(|number| number > 0.0);
    is_positive.then(|| node.clone())
}

/// A conversion of a value; `None`: it sets nothing.
type Convert = fn(&Node) -> Option<Node>;

/// Limits by key, with the fields of `resources`.
const LIMITS: [(&str, &str, Convert); 11] = [
    ("mem_limit", "memory", size),
    ("mem_reservation", "memory_reservation", size),
    ("memswap_limit", "memory_swap", size),
    ("cpus", "cpus", positive),
    ("cpu_shares", "cpu_shares", positive),
    ("cpu_period", "cpu_period", positive),
    ("cpu_quota", "cpu_quota", positive),
    ("cpu_rt_period", "cpu_rt_period", positive),
    ("cpu_rt_runtime", "cpu_rt_runtime", positive),
    ("cpuset", "cpuset", |node| Some(node.clone())),
    ("pids_limit", "pids", positive),
];

/// Limits of `deploy.resources`, which say the same.
const DEPLOYED: [(&str, &str, &str, Convert); 4] = [
    ("limits", "memory", "memory", size),
    ("limits", "cpus", "cpus", positive),
    ("limits", "pids", "pids", positive),
    ("reservations", "memory", "memory_reservation", size),
];

/// Parts of `deploy` that mean something only on a cluster.
const CLUSTER: [&str; 5] = ["endpoint_mode", "labels", "mode", "placement", "rollback_config"];

impl<'a> Translator<'a> {
    pub(super) fn resources(&mut self, document: &mut Document<'a>) {
        let service = document.service;
        let mut fields: Vec<Entry> = Vec::new();
        for (key, field, convert) in LIMITS {
            let value = set_field(service, key).and_then(convert);
            fields.extend(value.map(|value| entry(field, value)));
        }
        let resources = set_field(service, "deploy").and_then(|deploy| set_field(deploy, "resources"));
        for (section, key, field, convert) in DEPLOYED {
            let value = resources.and_then(|it| set_field(it, section)).and_then(|it| set_field(it, key));
            if let Some(value) = value.and_then(convert) {
                fields.retain(|known| known.key.text != field);
                fields.push(entry(field, value));
            }
        }
        if let Some(first) = fields.first() {
            document.add("resources", map(&first.value.span.clone(), fields));
        }
        let reserved = resources.and_then(|it| set_field(it, "reservations"));
        if let Some(cpus) = reserved.and_then(|it| set_field(it, "cpus")) {
            self.note(&cpus.span, "`cpus` of `reservations` has no effect: it is for a cluster");
        }
        if let Some(other) = reserved.and_then(|it| set_field(it, "generic_resources")) {
            self.note(&other.span, "`generic_resources` has no effect: it is for a cluster");
        }
        let requests = [set_field(service, "gpus"), reserved.and_then(|it| set_field(it, "devices"))];
        let requests: Vec<&Node> = requests.into_iter().flatten().collect();
        if let Some(first) = requests.first() {
            let items = requests.iter().flat_map(|requests| requests.items()).map(request).collect();
            document.add("gpus", list(&first.span, items));
        }
    }

    pub(super) fn deploy(&mut self, deploy: &'a Node, document: &mut Document<'a>) {
        for key in CLUSTER {
            let is_default = |value: &Node| key == "mode" && value.text() == Some("replicated");
            if let Some(value) = set_field(deploy, key).filter(|value| !is_default(value)) {
                self.note(&value.span, format!("`{key}` of `deploy` has no effect: it is for a cluster"));
            }
        }
        if let Some(replicas) = set_field(deploy, "replicas") {
            self.scale(replicas, document);
        }
        for Entry { key, value } in deploy.get("update_config").into_iter().flat_map(Node::entries) {
            match (key.text.as_str(), value.text()) {
                ("order", Some("start-first")) if !document.is_job => {
                    let order = entry("order", value.clone());
                    document.add("update", map(&value.span, vec![order]));
                }
                ("order", _) => {}
                (key, _) => self.note(&value.span, format!("`{key}` of `update_config` has no effect here")),
            }
        }
        for key in ["delay", "window"] {
            if let Some(value) = deploy.get("restart_policy").and_then(|policy| set_field(policy, key)) {
                self.note(&value.span, format!("`{key}` of `restart_policy` has no effect: the engine has its own"));
            }
        }
    }

    pub(super) fn scale(&mut self, replicas: &'a Node, document: &mut Document<'a>) {
        let is_known = document.fields.iter().any(|field| field.key.text == "replicas");
        match printed(replicas).as_deref() {
            Some("1") => {}
            _ if is_known => {}
            _ if document.is_job => self.note(&replicas.span, "a job runs once: its number of replicas has no effect"),
            _ => document.add("replicas", replicas.clone()),
        }
    }

    pub(super) fn devices(&mut self, devices: &'a Node, document: &mut Document<'a>) {
        let items = devices.items().map(|device| {
            let source = device.get("source").cloned();
            match source.filter(|source| source.text().is_some_and(|source| !source.starts_with('/'))) {
                Some(cdi) => cdi,
                None => without_extensions(device),
            }
        });
        document.add_list("devices", &devices.span, items.collect());
    }

    pub(super) fn ulimits(&mut self, limits: &'a Node, document: &mut Document<'a>) {
        let limits =
            limits.entries().map(|Entry { key, value }| Entry { key: key.clone(), value: without_extensions(value) });
        let limits: Vec<Entry> = limits.collect();
        if let Some(first) = limits.first() {
            document.add("ulimits", map(&first.key.span.clone(), limits));
        }
    }

    pub(super) fn blkio(&mut self, config: &'a Node, document: &mut Document<'a>) {
        let mut fields = Vec::new();
        for Entry { key, value } in config.entries().filter(|entry| !super::nodes::is_empty(&entry.value)) {
            let convert: Convert = if key.text.ends_with("_bps") { size } else { operations };
            let mut value = value.clone();
            if let Value::Seq(items) = &mut value.value {
                for item in items {
                    if let Some(rate) = item.get_mut("rate")
                        && let Some(converted) = convert(rate)
                    {
                        *rate = converted;
                    }
                }
            }
            fields.push(entry(&key.text, value));
        }
        if !fields.is_empty() {
            document.add("blkio_config", map(&config.span, fields));
        }
    }

    pub(super) fn swappiness(&mut self, node: &'a Node, document: &mut Document<'a>) {
        let number = printed(node).and_then(|text| bytes(&text));
        document.fields.extend(number.map(|number| entry("mem_swappiness", retext(node, number.to_string()))));
    }

    pub(super) fn logging(&mut self, logging: &'a Node, document: &mut Document<'a>) {
        let fields = ["driver", "options"].into_iter();
        let fields: Vec<Entry> =
            fields.filter_map(|key| set_field(logging, key).map(|value| entry(key, value.clone()))).collect();
        if !fields.is_empty() {
            document.add("logging", map(&logging.span, fields));
        }
    }

    pub(super) fn restart(&mut self, document: &mut Document<'a>) {
        let policy = set_field(document.service, "deploy").and_then(|deploy| deploy.get("restart_policy"));
        let policy = policy.filter(|policy| !policy.is_null());
        let restart = match policy {
            Some(policy) => Some(restart_of(policy)),
            None => document.service.get("restart").filter(|restart| !restart.is_null()).cloned(),
        };
        let Some(restart) = restart else { return };
        let word = printed(&restart).unwrap_or_default();
        match word.as_str() {
            "" | "no" | "false" => {}
            _ if !document.is_job => document.add("restart", retext(&restart, word)),
            word => match word.strip_prefix("on-failure:") {
                Some(times) => document.add("retries", Node::scalar(restart.span.clone(), times, Style::Plain)),
                None => self.note_restart(&restart.span, word),
            },
        }
    }

    fn note_restart(&mut self, span: &Range<usize>, word: &str) {
        let message = format!("`restart: {word}` has no effect: others wait until it has succeeded, so it is a job");
        self.note(span, message);
    }
}

/// Operations per second.
fn operations(node: &Node) -> Option<Node> {
    let number = printed(node).and_then(|text| bytes(&text))?;
    Some(Node::scalar(node.span.clone(), number.to_string(), Style::Plain))
}

/// A device request, without what is empty.
fn request(request: &Node) -> Node {
    let entries = request.entries().filter(|entry| !is_empty(&entry.value) && !is_extension(entry)).cloned();
    map(&request.span, entries.collect())
}

/// Converts a `restart_policy`. Without a condition, it means no restart.
fn restart_of(policy: &Node) -> Node {
    let span = policy.get("condition").map_or(&policy.span, |condition| &condition.span);
    let attempts = text_of(policy, "max_attempts").filter(|attempts| attempts != "0");
    match text_of(policy, "condition").as_deref() {
        Some("any") => text_at(span, "always"),
        Some("on-failure") => {
            text_at(span, attempts.map_or("on-failure".to_owned(), |attempts| format!("on-failure:{attempts}")))
        }
        Some(known @ ("always" | "unless-stopped")) => text_at(span, known),
        _ => text_at(span, "no"),
    }
}
