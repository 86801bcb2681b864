//! Relative paths of a tree made absolute.

use super::super::node::{Entry, Node, Style, Value};
pub(super) use super::super::paths::{clean, join, parent};
use super::values::text;

/// Replaces `~` at the start by the home directory; `~x` is `x` in it.
pub(super) fn expand_home(path: &str, home: Option<&str>) -> String {
    match (path.strip_prefix('~'), home) {
        (Some(rest), Some(home)) => clean(&format!("{home}/{rest}")),
        _ => path.to_owned(),
    }
}

/// Returns true for a path on another machine, which a front end of compose would fetch.
pub(super) fn is_remote(path: &str) -> bool {
    ["https://", "http://", "git://", "ssh://", "github.com/", "git@", "oci://"]
        .iter()
        .any(|prefix| path.starts_with(prefix))
}

fn is_windows_absolute(path: &str) -> bool {
    let bytes = path.as_bytes();
    path.starts_with("\\\\") || matches!(bytes, [drive, b':', b'\\' | b'/', ..] if drive.is_ascii_alphabetic())
}

/// Makes the relative paths of a tree in long forms absolute.
pub(super) fn resolve(root: &mut Node, directory: &str, home: Option<&str>) {
    let resolver = Resolver { directory, home };
    for service in children_mut(root, "services") {
        resolver.service(&mut service.value);
    }
    for key in ["configs", "secrets"] {
        for entry in children_mut(root, key) {
            resolver.with(entry.value.get_mut("file"), Resolver::local);
        }
    }
    for volume in children_mut(root, "volumes") {
        resolver.volume(&mut volume.value);
    }
}

pub(super) fn children_mut<'a>(node: &'a mut Node, key: &str) -> &'a mut [Entry] {
    match node.get_mut(key).map(|node| &mut node.value) {
        Some(Value::Map(entries)) => entries,
        _ => &mut [],
    }
}

pub(super) fn items_mut<'a>(node: &'a mut Node, key: &str) -> &'a mut [Node] {
    match node.get_mut(key).map(|node| &mut node.value) {
        Some(Value::Seq(items)) => items,
        _ => &mut [],
    }
}

struct Resolver<'a> {
    directory: &'a str,
    home: Option<&'a str>,
}

impl Resolver<'_> {
    fn with(&self, node: Option<&mut Node>, resolve: impl Fn(&Self, &str) -> String) {
        if let Some(node) = node
            && let Some(path) = text(node)
        {
            let path = resolve(self, path);
            set_text(node, path);
        }
    }

    fn service(&self, service: &mut Node) {
        if let Some(build) = service.get_mut("build") {
            self.with(build.get_mut("context"), Self::context);
            for entry in children_mut(build, "additional_contexts") {
                self.with(Some(&mut entry.value), Self::context);
            }
            for entry in children_mut(build, "ssh") {
                self.with(Some(&mut entry.value), Self::local);
            }
        }
        for file in items_mut(service, "env_file") {
            self.with(file.get_mut("path"), Self::any);
        }
        for file in items_mut(service, "label_file") {
            self.with(Some(file), Self::any);
        }
        self.with(service.get_mut("extends").and_then(|extends| extends.get_mut("file")), Self::file);
        if let Some(develop) = service.get_mut("develop") {
            for watch in items_mut(develop, "watch") {
                self.with(watch.get_mut("path"), Self::any);
            }
        }
        for volume in items_mut(service, "volumes") {
            if volume.get("type").and_then(text) == Some("bind") {
                self.with(volume.get_mut("source"), Self::local);
            }
        }
    }

    /// A volume of the local driver that is a bind mount.
    fn volume(&self, volume: &mut Node) {
        let is_local = volume.get("driver").and_then(text) == Some("local");
        let Some(options) = volume.get_mut("driver_opts").filter(|_| is_local) else { return };
        if options.get("o").and_then(text) == Some("bind") {
            self.with(options.get_mut("device"), Self::local);
        }
    }

    /// A path on the engine's machine, which may be one of Windows.
    fn local(&self, path: &str) -> String {
        let path = expand_home(path, self.home);
        if path.starts_with('/') || is_windows_absolute(&path) { path } else { join(self.directory, &path) }
    }

    /// A path; an empty one stays.
    fn any(&self, path: &str) -> String {
        let path = expand_home(path, self.home);
        if path.is_empty() || path.starts_with('/') { path } else { join(self.directory, &path) }
    }

    fn file(&self, path: &str) -> String {
        if is_remote(path) { path.to_owned() } else { self.any(path) }
    }

    /// A build context, which may be remote or another service.
    fn context(&self, path: &str) -> String {
        let is_other = path.contains("://") || path.starts_with("service:") || is_remote(path);
        if is_other { path.to_owned() } else { self.any(path) }
    }
}

/// Replaces the text of a scalar that is text.
pub(super) fn set_text(node: &mut Node, text: String) {
    if let Value::Scalar(scalar) = &mut node.value {
        scalar.text = text;
        if scalar.style == Style::Plain {
            scalar.style = Style::Text;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fact_14_a_tilde_is_the_home_directory() {
        assert_eq!(expand_home("~/x", Some("/home/ann")), "/home/ann/x");
        assert_eq!(expand_home("~x", Some("/home/ann")), "/home/ann/x");
        assert_eq!(expand_home("~", Some("/home/ann")), "/home/ann");
        assert_eq!(expand_home("~/x", None), "~/x");
        assert_eq!(expand_home("a~", Some("/home/ann")), "a~");
    }
}
