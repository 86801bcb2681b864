//! Substitution of variables in the values of one document, and the types of fields that text can stand for.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::super::interpolate::{MAX_TEXT, TOO_MUCH_TEXT};
use super::super::node::{Node, Style, Value};
use super::super::value::quoted;
use super::sources::Sources;
use super::template::{Expanded, expand_leniently};
use super::values::{Kind, boolean, kind};
use super::{Problem, Templates};

/// Type of a field that text is converted to. Other fields keep text, and what they make of it follows later.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cast {
    Int,
    Float,
    Bool,
}

/// Fields of a service whose text is converted, by their paths; `*` stands for any key, `[]` for any item.
const SERVICE_CASTS: [(&[&str], Cast); 36] = [
    (&["cpu_count"], Cast::Int),
    (&["cpu_percent"], Cast::Float),
    (&["cpu_period"], Cast::Int),
    (&["cpu_quota"], Cast::Int),
    (&["cpu_rt_period"], Cast::Int),
    (&["cpu_rt_runtime"], Cast::Int),
    (&["cpu_shares"], Cast::Int),
    (&["cpus"], Cast::Float),
    (&["depends_on", "*", "required"], Cast::Bool),
    (&["depends_on", "*", "restart"], Cast::Bool),
    (&["deploy", "placement", "max_replicas_per_node"], Cast::Int),
    (&["deploy", "replicas"], Cast::Int),
    (&["deploy", "restart_policy", "max_attempts"], Cast::Int),
    (&["deploy", "rollback_config", "max_failure_ratio"], Cast::Float),
    (&["deploy", "rollback_config", "parallelism"], Cast::Int),
    (&["deploy", "update_config", "max_failure_ratio"], Cast::Float),
    (&["deploy", "update_config", "parallelism"], Cast::Int),
    (&["healthcheck", "disable"], Cast::Bool),
    (&["healthcheck", "retries"], Cast::Int),
    (&["init"], Cast::Bool),
    (&["oom_kill_disable"], Cast::Bool),
    (&["oom_score_adj"], Cast::Int),
    (&["pids_limit"], Cast::Int),
    (&["ports", "[]", "target"], Cast::Int),
    (&["privileged"], Cast::Bool),
    (&["read_only"], Cast::Bool),
    (&["scale"], Cast::Int),
    (&["stdin_open"], Cast::Bool),
    (&["tty"], Cast::Bool),
    (&["ulimits", "*"], Cast::Int),
    (&["ulimits", "*", "hard"], Cast::Int),
    (&["ulimits", "*", "soft"], Cast::Int),
    (&["volumes", "[]", "bind", "create_host_path"], Cast::Bool),
    (&["volumes", "[]", "read_only"], Cast::Bool),
    (&["volumes", "[]", "volume", "nocopy"], Cast::Bool),
    (&["use_api_socket"], Cast::Bool),
];

const NETWORK_FLAGS: [&str; 5] = ["external", "internal", "attachable", "enable_ipv4", "enable_ipv6"];

fn cast_of(path: &[String]) -> Option<Cast> {
    match path {
        [section, _, field @ ..] if section == "services" => {
            let matches = |pattern: &[&str]| {
                pattern.len() == field.len() && pattern.iter().zip(field).all(|(key, part)| *key == "*" || key == part)
            };
            SERVICE_CASTS.iter().find(|(pattern, _)| matches(pattern)).map(|(_, cast)| *cast)
        }
        [section, _, flag] if section == "networks" => NETWORK_FLAGS.contains(&flag.as_str()).then_some(Cast::Bool),
        [section, _, flag] if ["volumes", "secrets", "configs"].contains(&section.as_str()) => {
            (flag == "external").then_some(Cast::Bool)
        }
        _ => None,
    }
}

/// What the substitution found.
#[derive(Default)]
pub(super) struct Found {
    pub templates: Templates,
    pub variables: BTreeSet<String>,
    pub errors: Vec<Problem>,
    /// Variables that are required and not set.
    pub missing: Vec<Problem>,
    pub notes: Vec<Problem>,
    /// Variables that are not set, each with its first place.
    pub unset: BTreeMap<String, Range<usize>>,
}

/// Substitutes the variables of a document.
pub(super) fn interpolate(
    root: &mut Node,
    environment: &BTreeMap<String, String>,
    sources: &Sources,
    found: &mut Found,
) {
    let mut walker = Walker { environment, sources, found, remaining: MAX_TEXT };
    walker.walk(root, &mut Vec::new());
}

struct Walker<'a> {
    environment: &'a BTreeMap<String, String>,
    sources: &'a Sources,
    found: &'a mut Found,
    /// Bytes of text that may still be inserted.
    remaining: usize,
}

impl Walker<'_> {
    fn walk(&mut self, node: &mut Node, path: &mut Vec<String>) {
        match &mut node.value {
            Value::Map(entries) => {
                for entry in entries {
                    path.push(entry.key.text.clone());
                    self.walk(&mut entry.value, path);
                    path.pop();
                }
            }
            Value::Seq(items) => {
                path.push("[]".to_owned());
                items.iter_mut().for_each(|item| self.walk(item, path));
                path.pop();
            }
            _ => self.scalar(node, path),
        }
    }

    fn scalar(&mut self, node: &mut Node, path: &[String]) {
        let Kind::Text(text) = kind(node) else { return };
        if text.contains('$') && !self.substitute(node) {
            return;
        }
        if let Some(cast) = cast_of(path) {
            self.cast(node, cast);
        }
    }

    /// Returns false after an error.
    fn substitute(&mut self, node: &mut Node) -> bool {
        let Value::Scalar(scalar) = &mut node.value else { return false };
        let template = std::mem::take(&mut scalar.text);
        match expand_leniently(&template, &|name| self.environment.get(name).cloned()) {
            Ok(Expanded { text, replaced, used, unset, missing }) => {
                self.remaining = self.remaining.saturating_sub(text.len());
                if self.remaining == 0 {
                    self.found.errors.push(Problem::new(&node.span, TOO_MUCH_TEXT));
                    return false;
                }
                for (span, name) in unset {
                    let place = in_source(&span, &template, &node.span, self.sources);
                    self.found.unset.entry(name).or_insert(place);
                }
                for error in missing {
                    let place = in_source(&error.span, &template, &node.span, self.sources);
                    self.found.missing.push(Problem { hint: error.hint, ..Problem::new(&place, error.message) });
                }
                self.found.variables.extend(used);
                scalar.text = text;
                scalar.style = if replaced { Style::Substituted } else { Style::Text };
                if replaced {
                    self.found.templates.insert((node.span.start, node.span.end), template);
                }
                true
            }
            Err(error) => {
                let span = in_source(&error.span, &template, &node.span, self.sources);
                let hint = error.hint;
                self.found.errors.push(Problem { hint, ..Problem::new(&span, error.message) });
                scalar.text = template;
                false
            }
        }
    }

    fn cast(&mut self, node: &mut Node, cast: Cast) {
        let span = node.span.clone();
        let Value::Scalar(scalar) = &mut node.value else { return };
        let text = scalar.text.as_str();
        let (canonical, expected) = match cast {
            Cast::Int => (text.parse::<i64>().ok().map(|value| value.to_string()), "a whole number"),
            Cast::Float => (text.parse::<f64>().ok().map(|value| value.to_string()), "a number"),
            Cast::Bool => (boolean(text).map(|(value, _)| value.to_string()), "true or false"),
        };
        if cast == Cast::Bool && boolean(text).is_some_and(|(_, is_old)| is_old) {
            let note = Problem::new(&span, format!("{} is not a boolean in YAML 1.2", quoted(text)));
            self.found.notes.push(note.hint("write `true` or `false`"));
        }
        match canonical {
            Some(canonical) => {
                scalar.text = canonical;
                scalar.style = Style::Plain;
            }
            None => {
                let found = if text.is_empty() { "an empty text".to_owned() } else { quoted(text) };
                let message = format!("expected {expected}, found {found}");
                self.found.errors.push(Problem::new(&span, message));
            }
        }
    }
}

/// Converts the span of a reference in a scalar's text to one in the file: quotes, escapes and folded lines shift
/// offsets.
fn in_source(reference: &Range<usize>, text: &str, scalar: &Range<usize>, sources: &Sources) -> Range<usize> {
    let Some(wanted) = text.get(reference.clone()).filter(|wanted| !wanted.is_empty()) else { return scalar.clone() };
    let nth = text.get(..reference.start).unwrap_or_default().matches(wanted).count();
    match sources.raw(scalar).match_indices(wanted).nth(nth) {
        Some((at, _)) => scalar.start + at..scalar.start + at + wanted.len(),
        None => scalar.clone(),
    }
}
