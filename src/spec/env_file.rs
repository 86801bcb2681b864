//! Env file parser, for `.env` and `env_file`: lines of the form `KEY=value`.
//!
//! Blank lines and lines starting with `#` are skipped; a leading `export ` is accepted. A value is plain (surrounding
//! white space and a comment after ` #` are removed), in single quotes (literal) or in double quotes (with the escapes
//! `\n`, `\t`, `\r`, `\"`, `\\` and `\$`). A value cannot span several lines. Variables are not substituted. If a key is
//! repeated, the last line applies.

use std::collections::BTreeMap;
use std::ops::Range;

use super::value::EnvName;

/// Error in an env file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineError {
    /// Byte range in the file.
    pub span: Range<usize>,
    pub message: String,
    pub hint: Option<String>,
}

/// Number of errors after which a file is not read further: it is no env file.
const MAX_ERRORS: usize = 1000;

/// Parses a file. Returns its values, or its errors, at most a thousand.
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
        if errors.len() == MAX_ERRORS {
            break;
        }
    }
    if errors.is_empty() { Ok(values) } else { Err(errors) }
}

/// Parses the line that starts at byte `at` of the file. Returns `None` if it is blank or a comment.
fn parse_line(line: &str, at: usize) -> Result<Option<(String, String)>, LineError> {
    // Nothing is quoted: any part of a line may belong to a secret value.
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
        return error(&trimmed[nul..=nul], "unexpected NUL character".into(), "");
    }
    let assignment = match trimmed.strip_prefix("export") {
        Some(rest) if rest.starts_with([' ', '\t']) => rest.trim_start(),
        _ => trimmed,
    };
    let Some((key, value)) = assignment.split_once('=') else {
        return error(assignment, "expected `KEY=value`".into(), "a value that spans lines is written with `\\n`");
    };
    if key.is_empty() {
        return error(assignment, "the name of the variable is missing before the `=`".into(), "");
    }
    if key.parse::<EnvName>().is_err() {
        let hint = if key.trim() != key { "remove the space around the `=`" } else { "" };
        return error(key, "invalid environment variable name before the `=`".into(), hint);
    }
    let value = value.trim_start();
    let found = match value.chars().next() {
        Some('\'') => value[1..].split_once('\'').map(|(inner, rest)| (inner.to_owned(), rest)),
        Some('"') => double_quoted(&value[1..]),
        _ => Some((without_comment(value).to_owned(), "")),
    };
    let Some((value, rest)) = found else {
        return error(value, "unclosed quote".into(), "a quoted value must end on the same line");
    };
    let rest = rest.trim();
    if !rest.is_empty() && !rest.starts_with('#') {
        return error(rest, "unexpected text after the closing quote".into(), "put the whole value in quotes");
    }
    Ok(Some((key.to_owned(), value)))
}

/// Returns the offset of a subslice in its text.
fn offset(whole: &str, part: &str) -> usize {
    (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize).min(whole.len())
}

/// Unescapes text up to the closing quote. Returns it with the rest of the line.
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
    fn lines_are_parsed() {
        let text = "\u{feff}# comment\r\nA=1\r\n\n  export B = \n";
        assert_eq!(parse(text).unwrap_err()[0].hint.as_deref(), Some("remove the space around the `=`"));
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
        let reported: Vec<_> = errors.iter().map(|e| (&text[e.span.clone()], e.message.as_str())).collect();
        assert_eq!(
            reported,
            [
                ("nonsense", "expected `KEY=value`"),
                ("\"open", "unclosed quote"),
                ("y", "unexpected text after the closing quote"),
                ("=z", "the name of the variable is missing before the `=`"),
            ]
        );
    }
}
