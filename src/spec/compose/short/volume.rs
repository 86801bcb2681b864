//! Volumes: `[SOURCE:]TARGET[:OPTIONS]`.

use super::super::super::node::{Node, Style, Value};
use super::super::paths::clean;
use super::{entry, scalar, style_of};

/// A volume in its short form.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Volume {
    /// Name or path; empty for an anonymous volume.
    pub source: String,
    pub target: String,
    pub is_bind: bool,
    /// Whether it had a colon; without, there are no options.
    has_options: bool,
    read_only: bool,
    nocopy: bool,
    selinux: Option<&'static str>,
    propagation: Option<&'static str>,
}

const PROPAGATIONS: [&str; 6] = ["rprivate", "private", "rshared", "shared", "rslave", "slave"];

/// Parses a volume. Unknown options are ignored, as compose does.
pub(in super::super) fn parse(text: &str) -> Result<Volume, String> {
    if text.is_empty() {
        return Err("a volume must not be empty".to_owned());
    }
    if text.len() <= 2 {
        return Ok(Volume { target: text.to_owned(), ..Volume::default() });
    }
    let parts = sections(text);
    if parts.iter().any(String::is_empty) {
        return Err("empty section between colons".to_owned());
    }
    let mut volume = Volume { has_options: true, ..Volume::default() };
    match parts.as_slice() {
        [target] => volume.target.clone_from(target),
        [source, target] => (volume.source, volume.target) = (source.clone(), target.clone()),
        [source, target, options] => {
            (volume.source, volume.target) = (source.clone(), target.clone());
            options.split(',').for_each(|option| volume.set(option));
        }
        _ => return Err("too many colons".to_owned()),
    }
    volume.is_bind = is_path(&volume.source);
    Ok(volume)
}

/// Splits at colons, but not after the letter of a drive and not in a reference to a variable.
fn sections(text: &str) -> Vec<String> {
    let mut sections = vec![String::new()];
    let mut references = 0usize;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let Some(section) = sections.last_mut() else { continue };
        match c {
            '$' if chars.peek() == Some(&'{') => references += 1,
            '}' => references = references.saturating_sub(1),
            ':' if references == 0 && !is_drive(section) => {
                sections.push(String::new());
                continue;
            }
            _ => {}
        }
        section.push(c);
    }
    sections
}

fn is_drive(section: &str) -> bool {
    let mut chars = section.chars();
    chars.next().is_some_and(char::is_alphabetic) && chars.next().is_none()
}

/// Decides by the first characters only.
fn is_path(source: &str) -> bool {
    let mut chars = source.chars();
    let is_windows = chars.next().is_some_and(char::is_alphabetic) && chars.next() == Some(':');
    source.starts_with(['.', '/', '~']) || source.starts_with("\\\\") || is_windows
}

impl Volume {
    fn set(&mut self, option: &str) {
        match option {
            "ro" => self.read_only = true,
            "rw" => self.read_only = false,
            "nocopy" => self.nocopy = true,
            "z" => self.selinux = Some("z"),
            "Z" => self.selinux = Some("Z"),
            other => {
                let known = PROPAGATIONS.iter().find(|propagation| **propagation == other);
                self.propagation = known.copied().or(self.propagation);
            }
        }
    }
}

/// Returns a volume in its long form.
pub(in super::super) fn expand(node: &Node, text: &str) -> Result<Node, String> {
    let Volume { source, target, is_bind, has_options, read_only, nocopy, selinux, propagation } = parse(text)?;
    let (span, style) = (&node.span, style_of(node));
    let flag = |key: &str| scalar(span, key, "true", Style::Plain);
    let mut entries = vec![scalar(span, "type", if is_bind { "bind" } else { "volume" }, Style::Text)];
    if !source.is_empty() {
        entries.push(scalar(span, "source", source, style));
    }
    entries.push(scalar(span, "target", clean(&target), style));
    entries.extend(read_only.then(|| flag("read_only")));
    let mut bind = Vec::new();
    bind.extend(selinux.map(|word| scalar(span, "selinux", word, Style::Text)));
    bind.extend(propagation.map(|word| scalar(span, "propagation", word, Style::Text)));
    bind.extend(is_bind.then(|| flag("create_host_path")));
    if !bind.is_empty() {
        entries.push(entry(span, "bind", Value::Map(bind)));
    }
    if nocopy || (!is_bind && has_options) {
        let options = nocopy.then(|| flag("nocopy")).into_iter().collect();
        entries.push(entry(span, "volume", Value::Map(options)));
    }
    Ok(Node { span: span.clone(), value: Value::Map(entries) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        match parse(text) {
            Ok(volume) => {
                let kind = if volume.is_bind { "bind" } else { "volume" };
                format!("{kind} {:?} {:?}", volume.source, volume.target)
            }
            Err(message) => message,
        }
    }

    #[test]
    fn fact_14_a_source_is_a_path_by_its_first_character_only() {
        for (text, expected) in [
            (".data:/d", "bind \".data\" \"/d\""),
            ("data/sub:/d", "volume \"data/sub\" \"/d\""),
            ("~x:/d", "bind \"~x\" \"/d\""),
            ("/a:/b:ro", "bind \"/a\" \"/b\""),
            ("C:\\a:/b", "bind \"C:\\\\a\" \"/b\""),
            ("c:/a:/b:rw", "bind \"c:/a\" \"/b\""),
            ("\\\\.\\pipe\\x:/b", "bind \"\\\\\\\\.\\\\pipe\\\\x\" \"/b\""),
            ("data:/d:z,cached,roz", "volume \"data\" \"/d\""),
            ("/d", "volume \"\" \"/d\""),
            ("/data", "volume \"\" \"/data\""),
            ("${A:-x}:/d", "volume \"${A:-x}\" \"/d\""),
            ("abc:", "empty section between colons"),
            ("a:", "volume \"\" \"a:\""),
            (":/d", "empty section between colons"),
            ("abc:/d:ro:x", "too many colons"),
            ("", "a volume must not be empty"),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn unknown_options_are_ignored() {
        let volume = parse("abc:/d:ro,cached,z,rshared,nocopy,what").unwrap();
        assert!(volume.read_only && volume.nocopy);
        assert_eq!((volume.selinux, volume.propagation), (Some("z"), Some("rshared")));
        assert!(!parse("abc:/d:roz").unwrap().read_only);
    }
}
