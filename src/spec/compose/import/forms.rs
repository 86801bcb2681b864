//! The fields of a document in the short forms that a person would write.

use super::super::super::node::{Entry, Key, Node, Style, Value};
use super::texts::Texts;
use super::variables::{escape, split};

/// Writes the fields of a document.
pub(super) struct Fields<'t, 'a> {
    pub texts: &'t mut Texts<'a>,
    /// Returns true for the name of a job.
    pub is_job: &'t dyn Fn(&str) -> bool,
    /// The document builds its image.
    pub is_built: bool,
}

fn pending(node: &Node, text: impl Into<String>) -> Node {
    Node::scalar(node.span.clone(), text, Style::Pending)
}

fn is_true(node: &Node, key: &str) -> bool {
    node.get(key).is_some_and(|flag| flag.text() == Some("true"))
}

/// Returns true if a map has no other keys than these.
fn has_only(node: &Node, keys: &[&str]) -> bool {
    node.entries().all(|entry| keys.contains(&entry.key.text.as_str()))
}

/// Returns a map without a key that has this value.
fn without(map: &Node, key: &str, value: &str) -> Node {
    let is_kept = |entry: &&Entry| entry.key.text != key || entry.value.text() != Some(value);
    let entries = map.entries().filter(is_kept).cloned().collect();
    Node { span: map.span.clone(), value: Value::Map(entries) }
}

impl Fields<'_, '_> {
    /// Returns the value of a field as it is written.
    pub fn field(&mut self, key: &str, value: &Node) -> Node {
        match key {
            "image" if self.is_built => self.texts.repository(value),
            "build" => self.build(value),
            "ports" => self.ports(value),
            "volumes" => self.each(value, Self::mount),
            "devices" => self.each(value, Self::device),
            "dependencies" => self.each(value, Self::dependency),
            "configs" => self.each(value, |fields, file| fields.file(file, "/")),
            "secrets" => self.each(value, |fields, file| fields.file(file, "/run/secrets/")),
            "env" => self.env(value),
            "security_opt" => self.each(value, Self::security),
            "networks" => self.networks(value),
            "command" | "entrypoint" => self.words(value),
            _ => self.same(value),
        }
    }

    /// Returns a section of the group as it is written.
    pub fn section(&mut self, key: &str, value: &Node) -> Node {
        match key {
            "configs" | "secrets" => self.each_value(value, &mut |fields, _, definition| {
                fields.each_value(definition, &mut |fields, key, value| match key {
                    "file" => fields.texts.path(value),
                    _ => fields.same(value),
                })
            }),
            "volumes" => self.volumes(value),
            _ => self.same(value),
        }
    }

    /// Returns the volumes of the group. The engine needs the absolute path of a directory that one stands for.
    fn volumes(&mut self, volumes: &Node) -> Node {
        self.each_value(volumes, &mut |fields, _, volume| {
            fields.each_value(volume, &mut |fields, key, value| match key {
                "driver_opts" => fields.each_value(value, &mut |fields, key, value| match key {
                    "device" => fields.texts.directory(value),
                    _ => fields.same(value),
                }),
                _ => fields.same(value),
            })
        })
    }

    /// Returns a map with other values, by key.
    fn each_value(&mut self, map: &Node, form: &mut dyn FnMut(&mut Self, &str, &Node) -> Node) -> Node {
        let entries = map.entries().map(|Entry { key, value }| {
            let value = form(self, &key.text, value);
            Entry { key: key.clone(), value }
        });
        Node { span: map.span.clone(), value: Value::Map(entries.collect()) }
    }

    /// Returns a tree with its texts as they are written.
    fn same(&mut self, node: &Node) -> Node {
        let value = match &node.value {
            Value::Scalar(_) => return self.texts.scalar(node),
            Value::Seq(items) => Value::Seq(items.iter().map(|item| self.same(item)).collect()),
            Value::Map(entries) => Value::Map(entries.iter().map(|entry| self.entry(entry)).collect()),
            other => other.clone(),
        };
        Node { span: node.span.clone(), value }
    }

    fn entry(&mut self, entry: &Entry) -> Entry {
        self.texts.check_key(&entry.key);
        Entry { key: entry.key.clone(), value: self.same(&entry.value) }
    }

    fn each(&mut self, list: &Node, form: impl Fn(&mut Self, &Node) -> Node) -> Node {
        let items = list.items().map(|item| form(self, item)).collect();
        Node { span: list.span.clone(), value: Value::Seq(items) }
    }

    fn build(&mut self, build: &Node) -> Node {
        let build = self.each_value(build, &mut |fields, key, value| match key {
            "context" => fields.texts.path(value),
            "args" => fields.variables(value),
            "dockerfile" if value.text().is_some_and(|path| path.starts_with('/')) => fields.texts.path(value),
            _ => fields.same(value),
        });
        match build.get("context").filter(|_| has_only(&build, &["context"])) {
            Some(context) => context.clone(),
            None => build,
        }
    }

    /// Returns a command. One that was written as a text is one again, if variables are in it: they are replaced before
    /// it is split.
    fn words(&mut self, words: &Node) -> Node {
        let is_text = words.items().all(|word| word.span == words.span);
        match self.texts.project.template(&words.span).filter(|_| is_text) {
            Some(template) => pending(words, self.texts.rewritten(template)),
            None => self.same(words),
        }
    }

    fn networks(&mut self, networks: &Node) -> Node {
        let is_plain = |entry: &Entry| entry.value.entries().next().is_none();
        if !networks.entries().all(is_plain) {
            return self.same(networks);
        }
        let names = networks.entries().map(|Entry { key, .. }| Node::scalar(key.span.clone(), &key.text, Style::Text));
        Node { span: networks.span.clone(), value: Value::Seq(names.collect()) }
    }

    fn dependency(&mut self, dependency: &Node) -> Node {
        let name = dependency.get("name").and_then(Node::text).unwrap_or_default();
        let usual = if (self.is_job)(name) { "succeeded" } else { "ready" };
        let dependency = without(dependency, "condition", usual);
        match has_only(&dependency, &["name"]) {
            true => Node::scalar(dependency.span.clone(), name, Style::Text),
            false => self.same(&dependency),
        }
    }

    /// Returns a config or secret; without a target, it is in `directory`.
    fn file(&mut self, file: &Node, directory: &str) -> Node {
        let source = file.get("source").and_then(Node::text).unwrap_or_default();
        let file = without(file, "target", &format!("{directory}{source}"));
        match file.get("source").filter(|_| has_only(&file, &["source"])) {
            Some(source) => self.texts.scalar(source),
            None => self.same(&file),
        }
    }

    fn env(&mut self, env: &Node) -> Node {
        for unset in env.entries().filter(|entry| entry.value.is_null()) {
            self.texts.note_unset(&unset.key);
        }
        self.variables(env)
    }

    /// Returns a map in which a key without a value stands for the variable of its name, as in the compose file.
    fn variables(&mut self, variables: &Node) -> Node {
        let mut written = self.same(variables);
        for Entry { key, value } in variables.entries() {
            let is_passed = key.span == value.span && self.texts.is_reference(value, &key.text);
            if is_passed && let Some(value) = written.get_mut(&key.text) {
                value.value = Value::Placeholder;
            }
        }
        written
    }

    fn device(&mut self, device: &Node) -> Node {
        let field = |key: &str| device.get(key).and_then(Node::text);
        let (Some(source), Some(target), Some(permissions)) = (field("source"), field("target"), field("permissions"))
        else {
            return self.same(device);
        };
        let template = self.texts.project.template(&device.span);
        if let Some(template) = template {
            return pending(device, self.texts.rewritten(template));
        }
        let text = match (source == target, permissions == "rwm") {
            (true, true) => source.to_owned(),
            (false, true) => format!("{source}:{target}"),
            _ => format!("{source}:{target}:{permissions}"),
        };
        pending(device, escape(&text))
    }

    fn security(&mut self, option: &Node) -> Node {
        let text = option.text().unwrap_or_default();
        let profile = text.strip_prefix("seccomp=").or_else(|| text.strip_prefix("seccomp:"));
        match profile.filter(|path| path.starts_with('/')) {
            Some(path) => pending(option, format!("seccomp={}", escape(&self.texts.relative(path)))),
            None => self.texts.scalar(option),
        }
    }

    fn mount(&mut self, mount: &Node) -> Node {
        const SHORT: [&str; 8] =
            ["target", "type", "source", "create", "selinux", "propagation", "nocopy", "read_only"];
        let kind = mount.get("type").and_then(Node::text);
        let is_bind = kind == Some("bind");
        if !has_only(mount, &SHORT) || kind.is_some_and(|kind| !["bind", "volume"].contains(&kind)) {
            return self.long_mount(mount, is_bind);
        }
        // The parts of a short form have its template.
        let is_part = |node: Option<&Node>| node.is_some_and(|node| node.span == mount.span);
        let template = self.texts.project.template(&mount.span).filter(|_| is_part(mount.get("target")));
        let parts = template.map(|template| split(template, ':'));
        let (source_part, target_part) = match parts.as_deref() {
            Some([target]) => (None, Some(*target)),
            Some([source, target] | [source, target, _]) => (Some(*source), Some(*target)),
            _ => (None, None),
        };
        let source = mount.get("source").map(|source| match (is_bind, source_part) {
            (true, part) => self.texts.path_of(
                source,
                part.or(if is_part(Some(source)) { None } else { self.texts.project.template(&source.span) }),
            ),
            (false, Some(part)) => self.part(source, part),
            (false, None) => self.texts.scalar(source),
        });
        let target = mount.get("target").map(|target| match target_part {
            Some(part) => self.part(target, part),
            None => self.texts.scalar(target),
        });
        let target = target.as_ref().and_then(Node::text).unwrap_or_default();
        let mut text = match source.as_ref().and_then(Node::text) {
            Some(source) => format!("{source}:{target}"),
            None => target.to_owned(),
        };
        let word = |key: &str| mount.get(key).and_then(Node::text);
        let flag = |key: &'static str, word: &'static str| is_true(mount, key).then_some(word);
        let selinux = word("selinux").map(|label| if label == "private" { "Z" } else { "z" });
        let options =
            [flag("read_only", "ro"), flag("create", "create"), selinux, word("propagation"), flag("nocopy", "nocopy")];
        let options: Vec<&str> = options.into_iter().flatten().collect();
        if !options.is_empty() {
            text = format!("{text}:{}", options.join(","));
        }
        pending(mount, text)
    }

    /// Returns a part of a short form with its own part of the template.
    fn part(&mut self, node: &Node, template: &str) -> Node {
        match self.texts.value(template).as_deref() == node.text() {
            true => pending(node, self.texts.rewritten(template)),
            false => pending(node, escape(node.text().unwrap_or_default())),
        }
    }

    fn long_mount(&mut self, mount: &Node, is_bind: bool) -> Node {
        self.each_value(mount, &mut |fields, key, value| match key {
            "source" if is_bind => fields.texts.path(value),
            _ => fields.same(value),
        })
    }

    /// Returns ports. Those that come from one short form are one again.
    fn ports(&mut self, ports: &Node) -> Node {
        let ports: Vec<&Node> = ports.items().collect();
        let items = ports.chunk_by(|one, other| one.span == other.span).map(|ports| self.published(ports));
        let span = ports.first().map_or(0..0, |port| port.span.clone());
        Node { span, value: Value::Seq(items.collect()) }
    }

    /// Returns the template of ports; without an address they listen on all of them.
    fn templated_port(&mut self, template: &str, has_address: bool, has_host: bool) -> String {
        match split(template, ':').as_slice() {
            _ if has_address => self.texts.rewritten(template),
            [container] if !has_host => format!("*::{}", self.texts.rewritten(container)),
            // The address is an empty variable.
            [address, rest @ ..] if rest.len() == 2 => {
                let address = self.texts.with_default(address, "*").unwrap_or_else(|| "*".to_owned());
                format!("{address}:{}", self.texts.rewritten(&rest.join(":")))
            }
            _ => format!("*:{}", self.texts.rewritten(template.trim_start_matches(':'))),
        }
    }

    fn published(&mut self, ports: &[&Node]) -> Node {
        let Some(first) = ports.first() else { return Node { span: 0..0, value: Value::Seq(Vec::new()) } };
        let is_short = first.get("container").is_some_and(|container| container.span == first.span);
        let address = first.get("address").and_then(Node::text).filter(|address| *address != "all");
        if let Some(template) = self.texts.project.template(&first.span).filter(|_| is_short) {
            return pending(first, self.templated_port(template, address.is_some(), first.get("host").is_some()));
        }
        let part = |port: &Node, key: &str, texts: &mut Texts<'_>| {
            port.get(key).map(|node| texts.scalar(node)).and_then(|node| node.text().map(str::to_owned))
        };
        let bounds = |key: &str, texts: &mut Texts<'_>| {
            let all: Vec<String> = ports.iter().filter_map(|port| part(port, key, texts)).collect();
            let number = |text: &String| text.parse::<u32>().unwrap_or(0);
            match (all.iter().min_by_key(|text| number(text)), all.iter().max_by_key(|text| number(text))) {
                (Some(low), Some(high)) if low != high => format!("{low}-{high}"),
                (Some(only), _) => only.clone(),
                _ => String::new(),
            }
        };
        let (host, container) = (bounds("host", self.texts), bounds("container", self.texts));
        let address = match address {
            Some(address) if address.contains(':') => format!("[{address}]"),
            Some(_) => part(first, "address", self.texts).unwrap_or_default(),
            None => "*".to_owned(),
        };
        let protocol = part(first, "protocol", self.texts).map(|protocol| format!("/{protocol}"));
        pending(first, format!("{address}:{host}:{container}{}", protocol.unwrap_or_default()))
    }
}

/// Returns an entry of a document.
pub(super) fn entry(span: std::ops::Range<usize>, key: &str, value: Value) -> Entry {
    Entry { key: Key { span: span.clone(), text: key.to_owned() }, value: Node { span, value } }
}
