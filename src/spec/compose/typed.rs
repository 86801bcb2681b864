//! Values in one form per field: lists of `key=value` become maps, commands become words, text becomes a number where a
//! number belongs. Sizes and durations are checked and stay as they were written.

use std::collections::HashMap;
use std::ops::Range;

use super::super::node::{Entry, Key, Node, Style, Value};
use super::super::value::quoted;
use super::short::{retext, style_of};
use super::sources::Sources;
use super::values::{Kind, boolean, kind, print_float, printed, text};
use super::{Problem, Templates, words};

/// What a field holds.
#[derive(Clone, Copy)]
enum Type {
    /// A map to texts, in which null has a meaning.
    Environment,
    /// A map to texts; null is empty.
    Labels,
    /// A list of words; text is split.
    Command,
    /// A list of words; text is for a shell.
    Test,
    /// A list of texts; text is its only item.
    Texts,
    /// A list of `host=address`.
    Hosts,
    Text,
    Size,
    Duration,
    Bool,
    Int,
    Float,
    /// Octal digits.
    Mode,
    /// A number or `all`.
    Count,
}

/// Fields by their paths; `*` stands for any key, `[]` for any item.
type Field = (&'static [&'static str], Type);

const SERVICE_FIELDS: &[Field] = &[
    (&["annotations"], Type::Labels),
    (&["attach"], Type::Bool),
    (&["blkio_config", "*", "[]", "rate"], Type::Size),
    (&["blkio_config", "*", "[]", "weight"], Type::Int),
    (&["blkio_config", "weight"], Type::Int),
    (&["build", "additional_contexts"], Type::Labels),
    (&["build", "args"], Type::Environment),
    (&["build", "extra_hosts"], Type::Hosts),
    (&["build", "labels"], Type::Labels),
    (&["build", "no_cache"], Type::Bool),
    (&["build", "no_cache_filter"], Type::Texts),
    (&["build", "privileged"], Type::Bool),
    (&["build", "pull"], Type::Bool),
    (&["build", "secrets", "[]", "mode"], Type::Mode),
    (&["build", "shm_size"], Type::Size),
    (&["command"], Type::Command),
    (&["configs", "[]", "mode"], Type::Mode),
    (&["cpu_count"], Type::Int),
    (&["cpu_percent"], Type::Float),
    (&["cpu_period"], Type::Int),
    (&["cpu_quota"], Type::Int),
    (&["cpu_rt_period"], Type::Int),
    (&["cpu_rt_runtime"], Type::Int),
    (&["cpu_shares"], Type::Int),
    (&["cpus"], Type::Float),
    (&["depends_on", "*", "required"], Type::Bool),
    (&["depends_on", "*", "restart"], Type::Bool),
    (&["deploy", "labels"], Type::Labels),
    (&["deploy", "placement", "max_replicas_per_node"], Type::Int),
    (&["deploy", "replicas"], Type::Int),
    (&["deploy", "resources", "limits", "cpus"], Type::Float),
    (&["deploy", "resources", "limits", "memory"], Type::Size),
    (&["deploy", "resources", "limits", "pids"], Type::Int),
    (&["deploy", "resources", "reservations", "cpus"], Type::Float),
    (&["deploy", "resources", "reservations", "devices", "[]", "count"], Type::Count),
    (&["deploy", "resources", "reservations", "devices", "[]", "options"], Type::Labels),
    (&["deploy", "resources", "reservations", "memory"], Type::Size),
    (&["deploy", "restart_policy", "delay"], Type::Duration),
    (&["deploy", "restart_policy", "max_attempts"], Type::Int),
    (&["deploy", "restart_policy", "window"], Type::Duration),
    (&["deploy", "rollback_config", "delay"], Type::Duration),
    (&["deploy", "rollback_config", "max_failure_ratio"], Type::Float),
    (&["deploy", "rollback_config", "monitor"], Type::Duration),
    (&["deploy", "rollback_config", "parallelism"], Type::Int),
    (&["deploy", "update_config", "delay"], Type::Duration),
    (&["deploy", "update_config", "max_failure_ratio"], Type::Float),
    (&["deploy", "update_config", "monitor"], Type::Duration),
    (&["deploy", "update_config", "parallelism"], Type::Int),
    (&["develop", "watch", "[]", "exec", "command"], Type::Command),
    (&["develop", "watch", "[]", "exec", "environment"], Type::Environment),
    (&["develop", "watch", "[]", "exec", "privileged"], Type::Bool),
    (&["dns_search"], Type::Texts),
    (&["entrypoint"], Type::Command),
    (&["env_file", "[]", "required"], Type::Bool),
    (&["environment"], Type::Environment),
    (&["expose"], Type::Texts),
    (&["extra_hosts"], Type::Hosts),
    (&["gpus", "[]", "count"], Type::Count),
    (&["gpus", "[]", "options"], Type::Labels),
    (&["group_add"], Type::Texts),
    (&["healthcheck", "disable"], Type::Bool),
    (&["healthcheck", "interval"], Type::Duration),
    (&["healthcheck", "retries"], Type::Int),
    (&["healthcheck", "start_interval"], Type::Duration),
    (&["healthcheck", "start_period"], Type::Duration),
    (&["healthcheck", "test"], Type::Test),
    (&["healthcheck", "timeout"], Type::Duration),
    (&["init"], Type::Bool),
    (&["labels"], Type::Labels),
    (&["logging", "options"], Type::Labels),
    (&["mem_limit"], Type::Size),
    (&["mem_reservation"], Type::Size),
    (&["mem_swappiness"], Type::Size),
    (&["memswap_limit"], Type::Size),
    (&["networks", "*", "driver_opts"], Type::Labels),
    (&["oom_kill_disable"], Type::Bool),
    (&["oom_score_adj"], Type::Int),
    (&["pids_limit"], Type::Int),
    (&["ports", "[]", "published"], Type::Text),
    (&["ports", "[]", "target"], Type::Int),
    (&["post_start", "[]", "command"], Type::Command),
    (&["post_start", "[]", "environment"], Type::Environment),
    (&["post_start", "[]", "privileged"], Type::Bool),
    (&["pre_start", "[]", "command"], Type::Command),
    (&["pre_start", "[]", "environment"], Type::Environment),
    (&["pre_start", "[]", "per_replica"], Type::Bool),
    (&["pre_start", "[]", "privileged"], Type::Bool),
    (&["pre_stop", "[]", "command"], Type::Command),
    (&["pre_stop", "[]", "environment"], Type::Environment),
    (&["pre_stop", "[]", "privileged"], Type::Bool),
    (&["privileged"], Type::Bool),
    (&["read_only"], Type::Bool),
    (&["scale"], Type::Int),
    (&["secrets", "[]", "mode"], Type::Mode),
    (&["shm_size"], Type::Size),
    (&["stdin_open"], Type::Bool),
    (&["stop_grace_period"], Type::Duration),
    (&["storage_opt"], Type::Labels),
    (&["sysctls"], Type::Labels),
    (&["tmpfs"], Type::Texts),
    (&["tty"], Type::Bool),
    (&["ulimits", "*"], Type::Int),
    (&["ulimits", "*", "hard"], Type::Int),
    (&["ulimits", "*", "soft"], Type::Int),
    (&["volumes", "[]", "bind", "create_host_path"], Type::Bool),
    (&["volumes", "[]", "read_only"], Type::Bool),
    (&["volumes", "[]", "tmpfs", "mode"], Type::Int),
    (&["volumes", "[]", "tmpfs", "size"], Type::Size),
    (&["volumes", "[]", "volume", "labels"], Type::Labels),
    (&["volumes", "[]", "volume", "nocopy"], Type::Bool),
];

/// Fields of networks, volumes, configs and secrets.
const RESOURCE_FIELDS: &[Field] = &[
    (&["attachable"], Type::Bool),
    (&["driver_opts"], Type::Labels),
    (&["enable_ipv4"], Type::Bool),
    (&["enable_ipv6"], Type::Bool),
    (&["external"], Type::Bool),
    (&["internal"], Type::Bool),
    (&["labels"], Type::Labels),
];

/// Unifies the values of a tree in long forms.
pub(super) fn unify(root: &mut Node, sources: &Sources, templates: &mut Templates) -> Vec<Problem> {
    let mut unifier = Unifier { sources, templates, problems: Vec::new(), fields: &[], path: Vec::new() };
    let Value::Map(sections) = &mut root.value else { return Vec::new() };
    for Entry { key, value } in sections {
        unifier.fields = match key.text.as_str() {
            "services" => SERVICE_FIELDS,
            "networks" | "volumes" | "configs" | "secrets" => RESOURCE_FIELDS,
            _ => continue,
        };
        if let Value::Map(entries) = &mut value.value {
            entries.iter_mut().for_each(|entry| unifier.walk(&mut entry.value));
        }
    }
    unifier.problems
}

struct Unifier<'a> {
    sources: &'a Sources,
    templates: &'a mut Templates,
    problems: Vec<Problem>,
    fields: &'static [Field],
    /// Path below the service or resource.
    path: Vec<String>,
}

impl Unifier<'_> {
    fn walk(&mut self, node: &mut Node) {
        let matches = |pattern: &[&str]| {
            pattern.len() == self.path.len()
                && pattern.iter().zip(&self.path).all(|(key, part)| *key == "*" || key == part)
        };
        let field = self.fields.iter().find(|(pattern, _)| matches(pattern)).map(|(_, field)| *field);
        if let Some(field) = field {
            self.set(node, field);
        }
        match &mut node.value {
            Value::Map(entries) => {
                for Entry { key, value } in entries {
                    if key.text.starts_with("x-") && field.is_none() {
                        continue;
                    }
                    self.path.push(key.text.clone());
                    self.walk(value);
                    self.path.pop();
                }
            }
            Value::Seq(items) => {
                self.path.push("[]".to_owned());
                items.iter_mut().for_each(|item| self.walk(item));
                self.path.pop();
            }
            _ => canonical(node),
        }
    }

    fn set(&mut self, node: &mut Node, field: Type) {
        let result = match field {
            Type::Environment => self.set_pairs(node, false),
            Type::Labels => self.set_pairs(node, true),
            Type::Command => self.split(node),
            Type::Test => {
                if let Some(text) = text(node) {
                    let shell = Node::scalar(node.span.clone(), "CMD-SHELL", Style::Text);
                    let test = retext(node, text);
                    node.value = Value::Seq(vec![shell, test]);
                }
                Ok(())
            }
            Type::Texts => {
                set_texts(node);
                Ok(())
            }
            Type::Hosts => set_hosts(node),
            Type::Text => {
                set_text(node);
                Ok(())
            }
            Type::Size => check_size(node),
            Type::Duration => match printed(node) {
                Some(written) if duration(&written).is_none() => {
                    Err(Problem::new(&node.span, format!("invalid duration {}", quoted(&written)))
                        .hint("write for example `10s`, `1m30s` or `2h`"))
                }
                _ => Ok(()),
            },
            Type::Bool => set_bool(node),
            Type::Int => set_number(node, |text| text.parse::<i64>().ok().map(|it| it.to_string()), "a whole number"),
            Type::Float => set_number(node, |text| text.parse::<f64>().ok().map(print_plain), "a number"),
            Type::Mode => set_mode(node),
            Type::Count => match text(node) {
                Some(word) if word.eq_ignore_ascii_case("all") => Ok(()),
                _ => set_number(node, |text| text.parse::<i64>().ok().map(|it| it.to_string()), "a number or `all`"),
            },
        };
        self.problems.extend(result.err());
    }

    /// Makes a map of a list of `key=value`, and texts of its values.
    fn set_pairs(&mut self, node: &mut Node, null_is_empty: bool) -> Result<(), Problem> {
        if let Value::Seq(items) = &mut node.value {
            let mut entries: Vec<Entry> = Vec::new();
            let mut places: HashMap<String, usize> = HashMap::new();
            for item in items.drain(..) {
                let entry = self.pair(&item)?;
                match places.get(&entry.key.text).and_then(|at| entries.get_mut(*at)) {
                    Some(known) => *known = entry,
                    None => {
                        places.insert(entry.key.text.clone(), entries.len());
                        entries.push(entry);
                    }
                }
            }
            node.value = Value::Map(entries);
        }
        let Value::Map(entries) = &mut node.value else { return Ok(()) };
        for Entry { value, .. } in entries {
            set_text(value);
            if null_is_empty && value.is_null() {
                *value = Node::scalar(value.span.clone(), "", Style::Text);
            }
        }
        Ok(())
    }

    /// Returns the entry of a `key=value`. Its parts have spans of their own where they are found in the file.
    fn pair(&mut self, item: &Node) -> Result<Entry, Problem> {
        let whole = printed(item).unwrap_or_default();
        let span = item.span.clone();
        let (name, value) = match whole.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (whole.as_str(), None),
        };
        if name.ends_with(char::is_whitespace) {
            let message = format!("the name {} ends with white space", quoted(name));
            return Err(Problem::new(&span, message).hint("remove the space before `=`"));
        }
        let Some(value) = value else {
            let key = Key { span: span.clone(), text: name.to_owned() };
            return Ok(Entry { key, value: Node::scalar(span, "", Style::Plain) });
        };
        let (key_span, value_span) = self.parts(&span, name);
        let value = Node::scalar(value_span, value, style_of(item));
        Ok(Entry { key: Key { span: key_span, text: name.to_owned() }, value })
    }

    /// Returns the spans of the two sides of a `key=value`, and registers the template of its value.
    fn parts(&mut self, span: &Range<usize>, name: &str) -> (Range<usize>, Range<usize>) {
        let raw = self.sources.raw(span);
        let quote = usize::from(raw.starts_with(['"', '\'']));
        let is_pair = raw.get(quote..).and_then(|raw| raw.strip_prefix(name)).is_some_and(|rest| rest.starts_with('='));
        if !is_pair {
            return (span.clone(), span.clone());
        }
        let start = span.start + quote;
        let value = start + name.len() + 1..span.end.saturating_sub(quote).max(start + name.len() + 1);
        let template = self.templates.get(&(span.start, span.end)).and_then(|text| text.split_once('='));
        if let Some((_, template)) = template {
            let template = template.to_owned();
            self.templates.insert((value.start, value.end), template);
        }
        (start..start + name.len(), value)
    }

    fn split(&mut self, node: &mut Node) -> Result<(), Problem> {
        let Some(command) = text(node) else { return Ok(()) };
        let split = words::split(command).map_err(|words::InvalidCommand| {
            Problem::new(&node.span, format!("the command {} cannot be split into words", quoted(command)))
                .hint("close all quotes; write it as a list if it has `(` or `)`")
        })?;
        let style = style_of(node);
        let words = split.words.into_iter().map(|word| Node::scalar(node.span.clone(), word, style));
        node.value = Value::Seq(words.collect());
        Ok(())
    }
}

/// Rewrites a plain scalar so that it has its value by the YAML 1.2 core schema.
fn canonical(node: &mut Node) {
    let written = match kind(node) {
        Kind::Int(_) | Kind::Bool(_) => printed(node).map(|text| (text, Style::Plain)),
        Kind::Float(value) => Some((print_plain(value), Style::Plain)),
        Kind::Text(text) if style_of(node) == Style::Text => Some((text.to_owned(), Style::Text)),
        _ => None,
    };
    if let Some((text, style)) = written {
        *node = Node::scalar(node.span.clone(), text, style);
    }
}

/// Prints a number without an exponent, if it is finite.
fn print_plain(value: f64) -> String {
    if value.is_finite() { value.to_string() } else { print_float(value) }
}

fn set_text(node: &mut Node) {
    if let Some(text) = printed(node) {
        *node = retext(node, text);
    }
}

fn set_texts(node: &mut Node) {
    if text(node).is_some() {
        let item = node.clone();
        node.value = Value::Seq(vec![item]);
    }
    if let Value::Seq(items) = &mut node.value {
        items.iter_mut().for_each(set_text);
    }
}

fn set_bool(node: &mut Node) -> Result<(), Problem> {
    let Some(word) = text(node) else { return Ok(()) };
    let Some((value, _)) = boolean(word) else {
        return Err(Problem::new(&node.span, format!("expected true or false, found {}", quoted(word))));
    };
    *node = Node::scalar(node.span.clone(), value.to_string(), Style::Plain);
    Ok(())
}

fn set_number(node: &mut Node, parse: impl Fn(&str) -> Option<String>, expected: &str) -> Result<(), Problem> {
    let Some(written) = text(node) else { return Ok(()) };
    let Some(number) = parse(written) else {
        return Err(Problem::new(&node.span, format!("expected {expected}, found {}", quoted(written))));
    };
    *node = Node::scalar(node.span.clone(), number, Style::Plain);
    Ok(())
}

/// A file mode: text is octal.
fn set_mode(node: &mut Node) -> Result<(), Problem> {
    let mode = match kind(node) {
        Kind::Text(text) => i64::from_str_radix(text, 8).ok(),
        Kind::Int(value) => i64::try_from(value).ok(),
        _ => None,
    };
    let Some(mode) = mode else {
        return Err(Problem::new(&node.span, "expected a mode such as `0440`"));
    };
    *node = Node::scalar(node.span.clone(), format!("0{mode:o}"), Style::Text);
    Ok(())
}

fn set_hosts(node: &mut Node) -> Result<(), Problem> {
    let mut hosts: Vec<Node> = Vec::new();
    let mut add = |node: &Node, host: &str, addresses: &mut dyn Iterator<Item = &str>| {
        if host.is_empty() || host.contains([':', '=']) {
            return Err(Problem::new(&node.span, format!("invalid host name {}", quoted(host))));
        }
        for address in addresses {
            let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).filter(|it| !it.is_empty());
            let text = format!("{host}={}", bare.unwrap_or(address));
            hosts.push(retext(node, text));
        }
        Ok(())
    };
    match &node.value {
        Value::Map(entries) => {
            for Entry { key, value } in entries {
                match &value.value {
                    Value::Seq(items) => {
                        for item in items {
                            add(item, &key.text, &mut printed(item).as_deref().into_iter())?;
                        }
                    }
                    _ => add(value, &key.text, &mut [printed(value).unwrap_or_default().as_str()].into_iter())?,
                }
            }
        }
        Value::Seq(items) => {
            for item in items {
                let entry = printed(item).unwrap_or_default();
                let Some((host, addresses)) = entry.split_once('=').or_else(|| entry.split_once(':')) else {
                    let problem = Problem::new(&item.span, format!("{} has no address", quoted(&entry)));
                    return Err(problem.hint("write `name=address`"));
                };
                add(item, host, &mut addresses.split(','))?;
            }
        }
        _ => return Ok(()),
    }
    hosts.sort_by(|a, b| a.text().cmp(&b.text()));
    node.value = Value::Seq(hosts);
    Ok(())
}

fn check_size(node: &Node) -> Result<(), Problem> {
    match kind(node) {
        Kind::Text(text) if bytes(text).is_none() => {
            let problem = Problem::new(&node.span, format!("invalid size {}", quoted(text)));
            Err(problem.hint("write for example `64m` or `1.5gb`"))
        }
        _ => Ok(()),
    }
}

/// Returns the bytes of a size such as `64m`, `1.5gb` or `10 KiB`; units are powers of 1024.
pub fn bytes(text: &str) -> Option<i64> {
    let end = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ')?;
    let (number, unit) = (&text[..end + 1], text.get(end + 1..)?.to_ascii_lowercase());
    let number: f64 = number.strip_suffix(' ').unwrap_or(number).parse().ok()?;
    if number.is_nan() || number < 0.0 {
        return None;
    }
    let factor = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return None,
    };
    #[allow(clippy::cast_possible_truncation, reason = "more than an exabyte is as much as fits")]
    Some((number * 1024f64.powi(factor)) as i64)
}

/// Returns the nanoseconds of a duration such as `1m30s`, `1.5h`, `2d` or `1w`.
pub fn duration(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0f64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let number: f64 = rest[..end].parse().ok()?;
        let after = &rest[end..];
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        total += number
            * match &after[..unit_end] {
                "ns" => 1.0,
                "us" | "µs" | "μs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                "d" => 24.0 * 3600e9,
                "w" => 7.0 * 24.0 * 3600e9,
                _ => return None,
            };
        rest = &after[unit_end..];
    }
    const LONGEST: f64 = 9.2e18;
    #[allow(clippy::cast_possible_truncation, reason = "within the bounds")]
    (total < LONGEST).then_some((sign * total) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("64m", Some(64 << 20)),
            ("1.5gb", Some(3 << 29)),
            ("10 KiB", Some(10 << 10)),
            ("1b", Some(1)),
            ("100", Some(100)),
            ("", None),
            ("m", None),
            ("1x", None),
            ("-1", None),
            ("1kbb", None),
            ("1 k b", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, expected) in [
            ("1m30s", Some(90_000_000_000)),
            ("1.5h", Some(5_400_000_000_000)),
            ("2d", Some(172_800_000_000_000)),
            ("1w", Some(604_800_000_000_000)),
            ("100ms", Some(100_000_000)),
            ("0", Some(0)),
            ("30", None),
            ("", None),
            ("5x", None),
            ("1 s", None),
        ] {
            assert_eq!(duration(text), expected, "{text}");
        }
    }
}
