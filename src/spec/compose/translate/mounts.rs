//! Volumes, configs and secrets of a service.

use std::ops::Range;

use super::super::super::node::{Entry, Node, Style};
use super::super::super::value::quoted;
use super::super::values::{printed, text};
use super::limits::size;
use super::nodes::{entry, flag_at, is_true, list, map, retext, set_field, text_at, text_of};
use super::{Document, Translator};

impl<'a> Translator<'a> {
    /// Adds `volumes` and `volumes_from`.
    pub(super) fn mounts(&mut self, document: &mut Document<'a>) {
        let service = document.service;
        let mut items: Vec<Node> = Vec::new();
        for volume in service.get("volumes").into_iter().flat_map(Node::items) {
            items.extend(self.mount(volume, false));
        }
        for from in service.get("volumes_from").into_iter().flat_map(Node::items) {
            self.mounts_from(from, &mut items);
        }
        let span = service.get("volumes").or_else(|| service.get("volumes_from")).map(|node| &node.span);
        document.add_list("volumes", span.unwrap_or(&document.key.span), items);
    }

    /// Adds the mounts of another service, except those whose targets are known.
    fn mounts_from(&mut self, from: &'a Node, items: &mut Vec<Node>) {
        let written = text(from).unwrap_or_default();
        let (name, mode) = written.split_once(':').unwrap_or((written, "rw"));
        let hint = "mount the same named volumes in both";
        if name == "container" {
            self.error(&from.span, "`volumes_from` a container outside of the project cannot be translated", hint);
            return;
        }
        let other = self.project.root.get("services").and_then(|services| services.get(name));
        for volume in other.and_then(|other| other.get("volumes")).into_iter().flat_map(Node::items) {
            let target = volume.get("target").and_then(text);
            if items.iter().any(|known| known.get("target").and_then(text) == target) {
                continue;
            }
            if text_of(volume, "type").as_deref() == Some("volume") && set_field(volume, "source").is_none() {
                let message = format!("the anonymous volumes of {} cannot be mounted here", quoted(name));
                self.errors.push(super::Problem::new(&from.span, message).related(&volume.span, "this one").hint(hint));
                continue;
            }
            items.extend(self.mount(volume, mode == "ro"));
        }
    }

    fn mount(&mut self, volume: &'a Node, read_only: bool) -> Option<Node> {
        let kind = volume.get("type").and_then(text).unwrap_or_default();
        let mut fields = vec![entry("target", volume.get("target").cloned().unwrap_or_else(|| volume.clone()))];
        let is_read_only = read_only || is_true(volume, "read_only");
        match kind {
            "bind" => bind(volume, &mut fields),
            "volume" => self.volume(volume, &mut fields),
            "tmpfs" => {
                let options = volume.get("tmpfs");
                fields.push(entry("type", text_at(&volume.span, "tmpfs")));
                let size = options.and_then(|it| set_field(it, "size")).and_then(size);
                fields.extend(size.map(|size| entry("size", size)));
                let mode = options.and_then(|it| set_field(it, "mode"));
                let mode = mode.and_then(|node| Some((node, node.text()?.parse::<u32>().ok()?)));
                fields.extend(mode.map(|(node, mode)| entry("mode", retext(node, format!("0{mode:o}")))));
            }
            "image" => {
                fields.push(entry("type", text_at(&volume.span, "image")));
                fields.extend(volume.get("source").map(|source| entry("source", source.clone())));
                let subpath = volume.get("image").and_then(|it| set_field(it, "subpath"));
                fields.extend(subpath.map(|subpath| entry("subpath", subpath.clone())));
            }
            kind => {
                let message = format!("mounts of type {} cannot be translated", quoted(kind));
                self.error(&volume.span, message, "the types are `bind`, `volume`, `tmpfs` and `image`");
                return None;
            }
        }
        if is_read_only && kind != "tmpfs" {
            fields.push(entry("read_only", flag_at(&volume.span, true)));
        }
        Some(map(&volume.span, fields))
    }

    fn volume(&mut self, volume: &'a Node, fields: &mut Vec<Entry>) {
        let options = volume.get("volume");
        if let Some(source) = set_field(volume, "source") {
            let key = printed(source).unwrap_or_default();
            self.used.insert(("volumes", key.clone()));
            fields.push(entry("type", text_at(&volume.span, "volume")));
            fields.push(entry("source", retext(source, self.volumes.of(&key))));
        }
        if options.is_some_and(|options| is_true(options, "nocopy")) {
            fields.push(entry("nocopy", flag_at(&volume.span, true)));
        }
        let subpath = options.and_then(|it| set_field(it, "subpath"));
        fields.extend(subpath.map(|subpath| entry("subpath", subpath.clone())));
        if let Some(labels) = options.and_then(|it| set_field(it, "labels")) {
            self.note(&labels.span, "`labels` of a mount have no effect: give them to the volume");
        }
    }

    pub(super) fn configs(&mut self, files: &'a Node, document: &mut Document<'a>) {
        self.files("configs", files, document);
    }

    pub(super) fn secrets(&mut self, files: &'a Node, document: &mut Document<'a>) {
        self.files("secrets", files, document);
    }

    fn files(&mut self, section: &'static str, files: &'a Node, document: &mut Document<'a>) {
        let mut items = Vec::new();
        for file in files.items() {
            let Some(source) = file.get("source") else { continue };
            let key = printed(source).unwrap_or_default();
            let definition = self.project.root.get(section).and_then(|all| all.get(&key));
            if definition.is_some_and(|it| is_true(it, "external") || set_field(it, "driver").is_some()) {
                let message = format!("{} is external: only Docker Swarm has such {section}", quoted(&key));
                self.error(&source.span, message, "write `file:` or `environment:` in its definition");
                continue;
            }
            self.used.insert((section, key));
            let is_file = definition.is_some_and(|it| set_field(it, "file").is_some());
            let mut fields = vec![entry("source", source.clone())];
            fields.extend(set_field(file, "target").map(|target| entry("target", target.clone())));
            for key in ["uid", "gid", "mode"] {
                match set_field(file, key) {
                    Some(value) if is_file => self.note(
                        &value.span,
                        format!("`{key}` has no effect: the file is mounted as it is, as under docker compose"),
                    ),
                    value => fields.extend(value.map(|value| entry(key, value.clone()))),
                }
            }
            items.push(map(&file.span, fields));
        }
        if !items.is_empty() {
            document.add(section, list(&files.span, items));
        }
    }
}

fn bind(volume: &Node, fields: &mut Vec<Entry>) {
    let options = volume.get("bind");
    let option = |key: &str| options.and_then(|it| set_field(it, key));
    fields.push(entry("type", text_at(&volume.span, "bind")));
    fields.extend(volume.get("source").map(|source| entry("source", source.clone())));
    if options.is_some_and(|options| is_true(options, "create_host_path")) {
        fields.push(entry("create", flag_at(&volume.span, true)));
    }
    let selinux = option("selinux").map(|node| (&node.span, node.text()));
    if let Some((span, Some(letter))) = selinux {
        fields.push(word("selinux", span, if letter == "Z" { "private" } else { "shared" }));
    }
    fields.extend(option("propagation").map(|node| entry("propagation", node.clone())));
    let recursive = option("recursive").filter(|node| node.text() != Some("enabled"));
    fields.extend(recursive.map(|node| entry("recursive", node.clone())));
}

fn word(key: &str, span: &Range<usize>, word: &str) -> Entry {
    entry(key, Node::scalar(span.clone(), word, Style::Text))
}
