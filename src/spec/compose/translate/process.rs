//! Environment, labels, health check, hooks and dependencies.

use super::super::super::node::{Entry, Node, Style, Value};
use super::super::duration;
use super::super::values::{printed, text};
use super::limits::period;
use super::nodes::{entry, flag_at, is_true, list, map, retext, set_field, text_at};
use super::{Document, Translator};

impl<'a> Translator<'a> {
    /// Adds `environment`, without the variables of env files.
    pub(super) fn environment(&mut self, document: &mut Document<'a>) {
        let Some(environment) = set_field(document.service, "environment") else { return };
        let variables = environment.entries().map(|Entry { key, value }| {
            // Removes the variable of the image.
            let unset = || Node::scalar(value.span.clone(), "null", Style::Plain);
            Entry { key: key.clone(), value: if value.is_null() { unset() } else { value.clone() } }
        });
        document.add("env", map(&environment.span, variables.collect()));
    }

    /// Adds the labels, with those of label files.
    pub(super) fn labels(&mut self, document: &mut Document<'a>) {
        let own = set_field(document.service, "labels");
        let files = self.project.label_files.get(&document.key.text).into_iter().flatten();
        let span = document.service.get("label_file").map_or(&document.key.span, |node| &node.span);
        let from_files = files.filter(|(name, _)| own.is_none_or(|own| own.get(name).is_none()));
        let mut labels: Vec<Entry> = from_files.map(|(name, value)| entry(name, text_at(span, value))).collect();
        labels.extend(own.into_iter().flat_map(Node::entries).cloned());
        if !labels.is_empty() {
            document.add("labels", map(own.map_or(span, |own| &own.span), labels));
        }
    }

    pub(super) fn healthcheck(&mut self, check: &'a Node, document: &mut Document<'a>) {
        if document.is_job {
            self.note(&check.span, "`healthcheck` has no effect: others wait until it has succeeded, so it is a job");
            return;
        }
        let words: Vec<&Node> = check.get("test").into_iter().flat_map(Node::items).collect();
        let first = words.first().and_then(|word| printed(word));
        if is_true(check, "disable") || first.as_deref() == Some("NONE") {
            document.add("healthcheck", map(&check.span, vec![entry("disable", flag_at(&check.span, true))]));
            return;
        }
        let mut fields = Vec::new();
        if let (Some(test), Some(first)) = (check.get("test"), first) {
            match (first.as_str(), &words[1..]) {
                // The other words would be arguments of the shell that nothing reads.
                ("CMD-SHELL", [line, ..]) => fields.push(entry("test", (*line).clone())),
                _ => fields.push(entry("test", test.clone())),
            }
        }
        for key in ["interval", "timeout", "start_period", "start_interval"] {
            let value = set_field(check, key).and_then(period).filter(|value| value.text() != Some("0s"));
            fields.extend(value.map(|value| entry(key, value)));
        }
        let retries = set_field(check, "retries").filter(|retries| retries.text() != Some("0"));
        fields.extend(retries.map(|retries| entry("retries", retries.clone())));
        if !fields.is_empty() {
            document.add("healthcheck", map(&check.span, fields));
        }
    }

    pub(super) fn stop_timeout(&mut self, period: &'a Node, document: &mut Document<'a>) {
        // Compose cuts it to whole seconds.
        let seconds = printed(period).and_then(|text| duration(&text)).map(|period| period / 1_000_000_000);
        document.fields.extend(seconds.map(|seconds| entry("stop_timeout", retext(period, format!("{seconds}s")))));
    }

    pub(super) fn post_start(&mut self, hooks: &'a Node, document: &mut Document<'a>) {
        self.hooks("post_start", hooks, document);
    }

    pub(super) fn pre_stop(&mut self, hooks: &'a Node, document: &mut Document<'a>) {
        self.hooks("pre_stop", hooks, document);
    }

    fn hooks(&mut self, field: &str, hooks: &'a Node, document: &mut Document<'a>) {
        if document.is_job {
            let message = format!("`{field}` cannot be translated: others wait until it has succeeded, so it is a job");
            self.error(&hooks.span, message, "call it in the command");
            return;
        }
        let mut items = Vec::new();
        for hook in hooks.items() {
            for key in ["user", "privileged", "working_dir"] {
                if let Some(value) = set_field(hook, key).filter(|value| value.text() != Some("false")) {
                    let message = format!("`{key}` of a hook cannot be translated");
                    self.error(&value.span, message, "hooks run as the container does; change it in the command");
                }
            }
            let Some(command) = hook.get("command") else { continue };
            let mut words: Vec<Node> = Vec::new();
            let variables = hook.get("environment").into_iter().flat_map(Node::entries);
            let variables = variables.filter_map(|variable| {
                let value = variable.value.text().filter(|_| !variable.value.is_null())?;
                Some(retext(&variable.value, format!("{}={value}", variable.key.text)))
            });
            words.extend(variables);
            if !words.is_empty() {
                words.insert(0, text_at(&command.span, "env"));
            }
            words.extend(command.items().cloned());
            items.push(map(&hook.span, vec![entry("exec", list(&command.span, words))]));
        }
        document.add_list(field, &hooks.span, items);
    }

    pub(super) fn dependencies(&mut self, dependencies: &'a Node, document: &mut Document<'a>) {
        let items = dependencies.entries().map(|Entry { key, value }| {
            let condition = match value.get("condition").and_then(text) {
                Some("service_healthy") => "ready",
                Some("service_completed_successfully") => "succeeded",
                _ => "started",
            };
            let place = value.get("condition").map_or(&key.span, |condition| &condition.span);
            let mut fields = vec![
                entry("name", text_at(&key.span, self.services.of(&key.text))),
                entry("condition", text_at(place, condition)),
            ];
            if is_true(value, "restart") {
                fields.push(entry("restart", flag_at(&key.span, true)));
            }
            if value.get("required").is_some_and(|required| required.text() == Some("false")) {
                fields.push(entry("required", Node::scalar(key.span.clone(), "false", Style::Plain)));
            }
            map(&key.span, fields)
        });
        let items = items.collect();
        document.add_list("dependencies", &dependencies.span, items);
    }

    pub(super) fn api_socket(&mut self, flag: &'a Node, _: &mut Document<'a>) {
        if matches!(&flag.value, Value::Scalar(scalar) if scalar.text == "true") {
            let hint = "mount the socket: `volumes: [/var/run/docker.sock:/var/run/docker.sock]`";
            self.error(&flag.span, "`use_api_socket` cannot be translated: it passes on credentials too", hint);
        }
    }
}
