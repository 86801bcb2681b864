//! Ports and mounts of a service.

use serde_yaml::{Mapping, Value as Yaml};

use super::service::Writer;
use super::written::{PLACE, Unsaid};
use crate::spec::model::{HostPort, Mount, MountOptions, MountSource, Ports};
use crate::spec::node::Node;

/// Where drillmaster listens without an address.
const LOOPBACK: &str = "127.0.0.1";

impl Writer<'_> {
    pub fn ports(&mut self) {
        let ports = self.spec.container.ports.iter().enumerate();
        let ports = ports.map(|(at, port)| self.port(&self.item("ports", at), port)).collect();
        self.add("ports", "ports", ports);
    }

    /// Compose listens on all addresses if there is none, so the address is always written.
    fn port(&self, path: &str, ports: &Ports) -> Result<Yaml, Unsaid> {
        if self.written.node(path).is_some_and(|node| node.text().is_none()) {
            return self.long_port(path, ports);
        }
        match self.written.template(path)? {
            Some(template) => {
                let text = self.written.node(path).and_then(Node::text).unwrap_or_default();
                templated_port(&template, text, ports).map(Yaml::from)
            }
            None => Ok(short_port(ports).into()),
        }
    }

    /// A port that is written as a map.
    fn long_port(&self, path: &str, ports: &Ports) -> Result<Yaml, Unsaid> {
        let field = |name: &str| self.written.template(&format!("{path}.{name}"));
        let (container, host, address, protocol) =
            (field("container")?, field("host")?, field("address")?, field("protocol")?);
        if [&container, &host, &address, &protocol].into_iter().all(Option::is_none) {
            return Ok(short_port(ports).into());
        }
        let Ports { first, count } = ports;
        let last = |first: u16| if *count > 1 { format!("-{}", first + (count - 1)) } else { String::new() };
        let host = host.or(match first.host {
            HostPort::Free => None,
            HostPort::Fixed(port) => Some(format!("{port}{}", last(port))),
            HostPort::Range(from, to) => Some(format!("{from}-{to}")),
        });
        let fields = [
            ("target", Some(container.unwrap_or_else(|| format!("{}{}", first.container, last(first.container))))),
            ("published", host),
            ("host_ip", address.or_else(|| first.address.map(|address| address.to_string()))),
            ("protocol", Some(protocol.unwrap_or_else(|| first.protocol.to_string()))),
        ];
        let fields = fields.into_iter().filter_map(|(key, value)| Some((Yaml::from(key), Yaml::from(value?))));
        Ok(fields.collect::<Mapping>().into())
    }

    pub fn mounts(&mut self) {
        let mut items = Vec::new();
        for (at, mount) in self.spec.container.volumes.iter().enumerate() {
            let path = format!("volumes.{at}");
            match self.mount(&path, mount) {
                Ok(item) => {
                    items.push(item);
                    if let MountSource::Volume(name) = &mount.source {
                        self.used.insert(("volumes", name.to_string()));
                    }
                }
                Err(unsaid) => self.refuse(&path, unsaid),
            }
            if mount.on_change.is_some() {
                self.unsaid(&format!("{path}.on_change"), "docker compose does not watch mounted files");
            }
        }
        self.add("volumes", "volumes", Ok(items.into()));
    }

    fn mount(&self, path: &str, mount: &Mount) -> Result<Yaml, Unsaid> {
        let Mount { source, target, read_only, on_change: _, options } = mount;
        let short = self.written.template(path)?;
        let parts = match &short {
            Some(template) => Some(parts_of(template, source)?),
            None => None,
        };
        let text = |key: &str, value: &str| match (&parts, key) {
            (Some((Some(source), _)), "source") => Ok(source.clone()),
            (Some((_, target)), "target") => Ok(target.clone()),
            _ => self.written.text(&format!("{path}.{key}"), value),
        };
        let target = text("target", target)?;
        let MountOptions { nocopy, subpath, .. } = options;
        match source {
            // Compose takes one letter for a drive.
            MountSource::Volume(name) if name.as_str().len() == 1 => self.long_mount(path, mount, target, &text),
            MountSource::Anonymous | MountSource::Volume(_) if subpath.is_none() => {
                // The name of a volume is a key of the file.
                let name = match source {
                    MountSource::Volume(name) if text("source", name.as_str())? != name.as_str() => {
                        return Err(Unsaid(PLACE));
                    }
                    MountSource::Volume(name) => format!("{name}:"),
                    _ => String::new(),
                };
                let options = [(*read_only, "ro"), (*nocopy, "nocopy")];
                let options: Vec<&str> = options.into_iter().filter(|(set, _)| *set).map(|(_, word)| word).collect();
                let options = if options.is_empty() { String::new() } else { format!(":{}", options.join(",")) };
                Ok(format!("{name}{target}{options}").into())
            }
            _ => self.long_mount(path, mount, target, &text),
        }
    }

    fn long_mount(
        &self,
        path: &str,
        mount: &Mount,
        target: String,
        text: &dyn Fn(&str, &str) -> Result<String, Unsaid>,
    ) -> Result<Yaml, Unsaid> {
        let MountOptions { create, selinux, propagation, recursive, nocopy, subpath } = &mount.options;
        let subpath = match subpath {
            Some(subpath) => Some(text("subpath", subpath)?),
            None => None,
        };
        let mut options: Vec<(&str, Yaml)> = Vec::new();
        let (kind, source) = match &mount.source {
            MountSource::Anonymous => ("volume", None),
            MountSource::Volume(name) if text("source", name.as_str())? != name.as_str() => {
                return Err(Unsaid(PLACE));
            }
            MountSource::Volume(name) => ("volume", Some(name.to_string())),
            MountSource::Bind(source) => {
                let directories = self.project.directories;
                // Compose creates missing directories otherwise.
                options.push(("create_host_path", (*create).into()));
                let written = text("source", source)?;
                let source = match written.contains("${") {
                    true => directories.rebased_template(&written, source)?,
                    false => directories.rebased(source),
                };
                ("bind", Some(source))
            }
            MountSource::Image(image) => ("image", Some(text("source", image.as_ref())?)),
            MountSource::Tmpfs { size, mode } => {
                if let Some(size) = size {
                    options.push(("size", self.written.value(&format!("{path}.size"), size)?));
                }
                options.extend(mode.map(|mode| ("mode", mode.bits().into())));
                ("tmpfs", None)
            }
        };
        options.extend(propagation.map(|propagation| ("propagation", propagation.to_string().into())));
        options.extend(recursive.map(|recursive| ("recursive", recursive.to_string().into())));
        options.extend(selinux.map(|selinux| ("selinux", selinux.option().into())));
        options.extend(nocopy.then_some(("nocopy", true.into())));
        options.extend(subpath.map(|subpath| ("subpath", subpath.into())));
        let mut fields = vec![("type", Yaml::from(kind))];
        fields.extend(source.map(|source| ("source", source.into())));
        fields.push(("target", target.into()));
        fields.extend(mount.read_only.then_some(("read_only", true.into())));
        if !options.is_empty() {
            fields.push((kind, map(options)));
        }
        Ok(map(fields))
    }
}

fn map(fields: Vec<(&str, Yaml)>) -> Yaml {
    fields.into_iter().map(|(key, value)| (Yaml::from(key), value)).collect::<Mapping>().into()
}

/// Splits a text at the colons outside of references and brackets.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut from) = (Vec::new(), 0usize, 0);
    for (at, c) in text.char_indices() {
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth = depth.saturating_sub(1),
            ':' if depth == 0 => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

/// Source and target of a mount in its short form. The value of a variable may have colons.
fn parts_of(template: &str, source: &MountSource) -> Result<(Option<String>, String), Unsaid> {
    let is_anonymous = matches!(source, MountSource::Anonymous);
    match split(template)[..] {
        [target] if is_anonymous => Ok((None, target.to_owned())),
        [source, target] | [source, target, _] if !is_anonymous => Ok((Some(source.to_owned()), target.to_owned())),
        _ => Err(Unsaid(PLACE)),
    }
}

/// Published ports in the short form of compose.
fn short_port(ports: &Ports) -> String {
    let text = ports.to_string();
    let text = text.strip_suffix("/tcp").unwrap_or(&text);
    // All addresses: `*:8080:80`, `*::80`.
    match text.strip_prefix("*:") {
        Some(rest) => rest.strip_prefix(':').unwrap_or(rest).to_owned(),
        None => text.to_owned(),
    }
}

/// The same for a template with the text that it stands for. Without an address in it, it gets ours.
fn templated_port(template: &str, text: &str, ports: &Ports) -> Result<String, Unsaid> {
    // A variable that has colons in its value may be a port alone at another time, and then listen everywhere.
    if split(template).len() != split(text).len() {
        return Err(Unsaid(PLACE));
    }

    let is_loopback = ports.first.address.is_some_and(|address| address.to_string() == LOOPBACK);
    let is_free = ports.first.host == HostPort::Free;
    match split(template)[..] {
        [container] if is_free && is_loopback => Ok(format!("{LOOPBACK}::{container}")),
        [host, container] if !is_free && is_loopback => Ok(format!("{LOOPBACK}:{host}:{container}")),
        ["*", "", container] => Ok(container.to_owned()),
        ["*", host, container] => Ok(format!("{host}:{container}")),
        [address, host, container] if ports.first.address.is_none() => match address.strip_suffix(":-*}") {
            Some(variable) => Ok(format!("{variable}:-}}:{host}:{container}")),
            None => Err(Unsaid(PLACE)),
        },
        [_, _, _] => Ok(template.to_owned()),
        _ => Err(Unsaid(PLACE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_have_an_address() {
        for (text, expected) in [
            ("80", "127.0.0.1::80"),
            ("8080:80", "127.0.0.1:8080:80"),
            ("53:53/udp", "127.0.0.1:53:53/udp"),
            ("*:8080:80", "8080:80"),
            ("*::80", "80"),
            ("0.0.0.0:8080:80", "0.0.0.0:8080:80"),
            ("[::1]:8080:80", "[::1]:8080:80"),
            ("8000-8010:80", "127.0.0.1:8000-8010:80"),
            ("8000-8001:90-91", "127.0.0.1:8000-8001:90-91"),
            ("3000-3005", "127.0.0.1::3000-3005"),
        ] {
            assert_eq!(short_port(&text.parse().unwrap()), expected, "{text}");
        }
        for (template, value, expected) in [
            ("${P}", "80", Some("127.0.0.1::${P}")),
            ("${P}", "8080:80", None),
            ("${P:-8080}:80", "8080:80", Some("127.0.0.1:${P:-8080}:80")),
            ("${A}:80", "0.0.0.0:1:80", None),
            ("${A}:80", "127.0.0.1:1:80", None),
            ("${A}:${P}:80/udp", "0.0.0.0:1:80/udp", Some("${A}:${P}:80/udp")),
            ("*:${P}:80", "*:1:80", Some("${P}:80")),
            ("${A:-*}:${P}:80", "*:1:80", Some("${A:-}:${P}:80")),
            ("${A}:${P}:80", "*:1:80", None),
            ("[::1]:${P}:80", "[::1]:1:80", Some("[::1]:${P}:80")),
        ] {
            let written = templated_port(template, value, &value.parse().unwrap()).ok();
            assert_eq!(written.as_deref(), expected, "{template}");
        }
    }
}
