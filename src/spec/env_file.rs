//! Files of `KEY=value` lines: `.env` and `env_file`.
//!
//! Blank lines and lines that begin with `#` are skipped; `export ` may stand in front. A value may be plain (white
//! space around it and a comment after ` #` are left out), in single quotes (as it is) or in double quotes (with `\n`,
//! `\t`, `\r`, `\"`, `\\` and `\$`). Values end with their line. Nothing is replaced in them: `$` means itself. The last
//! of several lines for one key holds.

use std::collections::BTreeMap;
use std::ops::Range;

use super::value::{EnvName, quoted};

/// Something wrong in such a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineError {
    /// Bytes of the file.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Reads a whole file: its values, or everything that is wrong.
pub fn parse(text: &str) -> Result<BTreeMap<String, String>, Vec<LineError>> {
    let mut values = BTreeMap::new();
    let mut errors = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        match parse_line(line, at) {
            Ok(Some((key, value))) => {
                values.insert(key, value);
            }
            Ok(None) => {}
            Err(error) => errors.push(error),
        }
        at += line.len();
    }
    if errors.is_empty() { Ok(values) } else { Err(errors) }
}

/// A line that begins at byte `at` of the file; `None` when it says nothing.
fn parse_line(line: &str, at: usize) -> Result<Option<(String, String)>, LineError> {
    let error = |part: &str, message: String, hint: &str| {
        let start = at + offset(line, part);
        let hint = (!hint.is_empty()).then(|| hint.to_owned());
        Err(LineError { span: start..start + part.len(), message, hint })
    };
    let trimmed = line.trim_start_matches('\u{feff}').trim();
    if trimmed.is_empty() || trimmed.starts_with('#') {
        return Ok(None);
    }
    if let Some(nul) = trimmed.find('\0') {
        return error(&trimmed[nul..=nul], "a NUL character".into(), "");
    }
    let assignment = match trimmed.strip_prefix("export") {
        Some(rest) if rest.starts_with([' ', '\t']) => rest.trim_start(),
        _ => trimmed,
    };
    let Some((key, value)) = assignment.split_once('=') else {
        return error(assignment, format!("expected `KEY=value`, found {}", quoted(assignment)), "");
    };
    if let Err(invalid) = key.parse::<EnvName>() {
        let hint = if key.trim() != key { "there is no space around the `=`" } else { "" };
        return error(if key.is_empty() { assignment } else { key }, invalid.message, hint);
    }
    let value = value.trim_start();
    let (value, rest) = match value.chars().next() {
        Some('\'') => match value[1..].split_once('\'') {
            Some((inner, rest)) => (inner.to_owned(), rest),
            None => return error(value, "the quote is not closed".into(), "a value ends with its line"),
        },
        Some('"') => match double_quoted(&value[1..]) {
            Some(found) => found,
            None => return error(value, "the quote is not closed".into(), "a value ends with its line"),
        },
        _ => (without_comment(value).to_owned(), ""),
    };
    let rest = rest.trim();
    if !rest.is_empty() && !rest.starts_with('#') {
        return error(rest, "unexpected text after the closing quote".into(), "put all of the value in quotes");
    }
    Ok(Some((key.to_owned(), value)))
}

/// Where a part of a text begins in it.
fn offset(whole: &str, part: &str) -> usize {
    (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize).min(whole.len())
}

/// Up to the closing quote, and what follows it.
fn double_quoted(text: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((out, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                'r' => out.push('\r'),
                c @ ('"' | '\\' | '$') => out.push(c),
                c => out.extend(['\\', c]),
            },
            c => out.push(c),
        }
    }
    None
}

fn without_comment(value: &str) -> &str {
    if value.starts_with('#') {
        return "";
    }
    let end = value.match_indices('#').map(|(at, _)| at).find(|at| value[..*at].ends_with([' ', '\t']));
    value[..end.unwrap_or(value.len())].trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let text = "\u{feff}# comment\r\nA=1\r\n\n  export B = \n";
        assert_eq!(parse(text).unwrap_err()[0].hint.as_deref(), Some("there is no space around the `=`"));
        let text = concat!(
            "# comment\r\n",
            "A=1\r\n",
            "  export B=two words  # comment\n",
            "C='single $X \\n # kept' # comment\n",
            "D=\"a\\nb\\\"c\\\\d\\q é\"\n",
            "E=\n",
            "F=a#b\n",
            "G= #c\n",
            "H=x=y\n",
            "A=2",
        );
        let expected = [
            ("A", "2"),
            ("B", "two words"),
            ("C", "single $X \\n # kept"),
            ("D", "a\nb\"c\\d\\q é"),
            ("E", ""),
            ("F", "a#b"),
            ("G", ""),
            ("H", "x=y"),
        ];
        assert_eq!(parse(text).unwrap(), expected.map(|(k, v)| (k.to_string(), v.to_string())).into());
    }

    #[test]
    fn all_invalid_lines_are_reported() {
        let text = "A=1\nnonsense\nB=\"open\nC='x' y\n=z\n";
        let errors = parse(text).unwrap_err();
        let told: Vec<_> = errors.iter().map(|e| (&text[e.span.clone()], e.message.as_str())).collect();
        assert_eq!(
            told,
            [
                ("nonsense", "expected `KEY=value`, found `nonsense`"),
                ("\"open", "the quote is not closed"),
                ("y", "unexpected text after the closing quote"),
                ("=z", "the name of a variable must not be empty"),
            ]
        );
    }
}
