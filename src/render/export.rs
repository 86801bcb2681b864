//! The output of `drillmaster export`: a compose file with comments, as YAML or JSON.

use serde_json::{Value as Json, json};
use serde_yaml::{Mapping, Value as Yaml};

use super::diagnostics;
use super::text::{escaped, escaped_json, is_unsafe};
use crate::export::compose::{Compose, Item, Line};

/// Longest list in the file that is written on one line, in bytes.
const MAX_LIST: usize = 100;

/// The compose file as YAML.
pub fn compose_yaml(compose: &Compose) -> String {
    let mut out = String::new();
    write(&compose.lines, 0, &mut out);
    out
}

/// The compose file as JSON, ready to be printed: `{"file", "compose", "notes"}`. `file`: the file that was written.
pub fn compose_json(compose: &Compose, file: Option<&str>) -> String {
    let notes = diagnostics::to_json(&compose.notes)["diagnostics"].take();
    let json = json!({ "file": file, "compose": json_of(&compose.value()), "notes": notes });
    escaped_json(&format!("{json:#}\n")).into_owned()
}

fn json_of(value: &Yaml) -> Json {
    serde_json::to_value(value).unwrap_or_default()
}

fn write(lines: &[Line], depth: usize, out: &mut String) {
    for line in lines {
        match line {
            Line::Comment(text) => out.push_str(&format!("{}# {}\n", indent(depth), escaped(text))),
            Line::Entry(key, Item::Map(lines)) if !lines.is_empty() => {
                out.push_str(&format!("{}{}:\n", indent(depth), scalar(key)));
                write(lines, depth + 1, out);
            }
            Line::Entry(key, Item::Map(_)) => out.push_str(&format!("{}{}: {{}}\n", indent(depth), scalar(key))),
            Line::Entry(key, Item::Value(value)) => write_entry(key, value, depth, out),
        }
    }
}

fn indent(depth: usize) -> String {
    "  ".repeat(depth)
}

/// Writes an entry in block style, or short lists and text that could be read differently on one line.
fn write_entry(key: &str, value: &Yaml, depth: usize, out: &mut String) {
    match value {
        Yaml::Mapping(entries) if !entries.is_empty() => {
            out.push_str(&format!("{}{}:\n", indent(depth), scalar(key)));
            write_mapping(entries, depth + 1, out);
        }
        Yaml::Sequence(items) if !is_short_list(value) => {
            out.push_str(&format!("{}{}:\n", indent(depth), scalar(key)));
            items.iter().for_each(|item| write_item(item, depth + 1, out));
        }
        Yaml::String(text)
            if text.contains('\n') && !is_ambiguous(text) && !text.contains(|c| is_unsafe(c) && c != '\n') =>
        {
            out.push_str(&format!("{}{}: ", indent(depth), scalar(key)));
            write_block(text, depth, out);
        }
        value => out.push_str(&format!("{}{}: {}\n", indent(depth), scalar(key), one_line(value))),
    }
}

fn write_mapping(entries: &Mapping, depth: usize, out: &mut String) {
    for (key, value) in entries {
        write_entry(key.as_str().unwrap_or_default(), value, depth, out);
    }
}

fn write_item(item: &Yaml, depth: usize, out: &mut String) {
    match item {
        Yaml::Mapping(entries) if !entries.is_empty() => {
            let start = out.len();
            write_mapping(entries, depth + 1, out);
            // In place of the first indentation.
            let at = start + indent(depth).len();
            out.replace_range(at..at + 2, "- ");
        }
        item => out.push_str(&format!("{}- {}\n", indent(depth), one_line(item))),
    }
}

/// Writes the lines of a text as the writer does.
fn write_block(text: &str, depth: usize, out: &mut String) {
    for (at, line) in serde_yaml::to_string(text).unwrap_or_default().lines().enumerate() {
        if at > 0 && !line.is_empty() {
            out.push_str(&indent(depth + 1));
        }
        out.push_str(line.strip_prefix("  ").filter(|_| at > 0).unwrap_or(line));
        out.push('\n');
    }
}

/// A value on one line: text in the writer's style, unless it could be read differently.
fn one_line(value: &Yaml) -> String {
    match value {
        Yaml::String(text) if !is_ambiguous(text) && !text.contains(is_unsafe) => {
            serde_yaml::to_string(text).unwrap_or_default().trim_end().to_owned()
        }
        value => flow(value),
    }
}

fn is_short_list(value: &Yaml) -> bool {
    let Yaml::Sequence(items) = value else { return false };
    items.iter().all(|item| !matches!(item, Yaml::Mapping(_) | Yaml::Sequence(_))) && flow(value).len() <= MAX_LIST
}

/// Returns true for text that readers of YAML 1.1, or of parts of it, take for something else: `no`, `022`, `1_000`, `12:30`,
/// `2026-01-01`; and for text that begins with white space, which needs a hint in block style.
fn is_ambiguous(text: &str) -> bool {
    let is_word = ["y", "n", "yes", "no", "on", "off", "=", "<<"].iter().any(|word| text.eq_ignore_ascii_case(word));
    let is_number = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c))
        && text.bytes().all(|b| b.is_ascii_hexdigit() || b"xXoO_:+-. TtZz".contains(&b));
    is_word || is_number || text.starts_with([' ', '\n', '\t'])
}

/// A value as JSON, which is YAML.
fn flow(value: &Yaml) -> String {
    match value {
        Yaml::Sequence(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Yaml::Mapping(entries) => {
            let entry = |(key, value): (&Yaml, &Yaml)| format!("{}: {}", flow(key), flow(value));
            format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        scalar => escaped_json(&json_of(scalar).to_string()).into_owned(),
    }
}

/// A text that is a key, without quotes where it needs none.
fn scalar(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-./".contains(&b))
        && !["null", "true", "false"].iter().any(|word| text.eq_ignore_ascii_case(word))
        && !is_ambiguous(text);
    if is_plain { text.to_owned() } else { flow(&text.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn yaml(key: &str, value: impl Into<Yaml>) -> String {
        let lines = vec![Line::Entry(key.to_owned(), Item::Value(value.into()))];
        compose_yaml(&Compose { lines, notes: Vec::new() })
    }

    #[test]
    fn texts_are_read_as_they_were() {
        let long = "x".repeat(200);
        for text in [
            "",
            "no",
            "On",
            "y",
            "022",
            "1_000",
            "12:30",
            "0x1F",
            "1e3",
            "2026-01-01",
            ".5",
            "~",
            "null",
            "true",
            "#x",
            "a: b",
            "- a",
            "{a}",
            "[a]",
            "&a",
            "*a",
            "!a",
            "|",
            "> x",
            "%a",
            "@a",
            "`a`",
            "'",
            "\"",
            "a #b",
            " a",
            "a ",
            "a\nb",
            "a\n",
            "\na",
            "  a\n b\n\n",
            "a\tb",
            "\u{202e}x",
            "\u{200b}",
            "\u{1f600}",
            "a\r\nb",
            "\u{85}",
            "=",
            "<<",
            "${A:-x}",
            "-",
            "?",
            ":",
            "a\n\n  b\n",
            &long,
        ] {
            for (key, value) in [("a", Yaml::from(text)), ("list", vec![Yaml::from(text)].into())] {
                let yaml = yaml(key, value.clone());
                let read: Mapping =
                    serde_yaml::from_str(&yaml).unwrap_or_else(|error| panic!("{text:?}: {error}\n{yaml}"));
                assert_eq!(read[key], value, "{yaml}");
                assert!(!yaml.contains(|c| is_unsafe(c) && c != '\n'), "{yaml}");
            }
            let read: Mapping = serde_yaml::from_str(&yaml(text, "v")).unwrap();
            assert_eq!(read[text], "v", "{text}");
        }
    }

    #[test]
    fn comments_are_one_line() {
        let lines = vec![Line::Comment("a\nb: \u{1b}[1m".to_owned())];
        assert_eq!(compose_yaml(&Compose { lines, notes: Vec::new() }), "# a\\nb: \\u{1b}[1m\n");
    }

    #[test]
    fn what_other_readers_take_for_something_else_is_quoted() {
        for (value, expected) in
            [("no", "a: \"no\"\n"), ("022", "a: \"022\"\n"), ("8080:80", "a: \"8080:80\"\n"), ("text", "a: text\n")]
        {
            assert_eq!(yaml("a", value), expected);
        }
    }
}
