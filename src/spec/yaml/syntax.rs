//! Errors of the parser in words.

use std::ops::Range;

use saphyr_parser::ScanError;

use super::YamlError;

/// Converts a parser error, with clearer messages and hints for common ones.
pub(super) fn syntax_error(text: &str, error: &ScanError, at: usize) -> YamlError {
    let info = error.info();
    let known: &[(&str, &str, &str)] = &[
        (
            "mapping values are not allowed",
            "unexpected `: `",
            "quote text that contains `: `, or check the indentation of this line",
        ),
        ("tab", "a tab is used as indentation", "indent with spaces"),
        ("simple key expect", "a `:` is missing after this key", "write `key: value`"),
        ("simple key expected", "a `:` is missing after this key", "write `key: value`"),
        ("could not find expected ':'", "a `:` is missing after this key", "write `key: value`"),
        ("unknown anchor", "undefined alias", "anchors are written `&name`"),
        ("unexpected end of stream", "unclosed quote", "close it with the same quote"),
        ("unexpected document indicator", "unclosed quote", "close it with the same quote"),
        ("unknown escape character", "unknown escape after `\\`", "in single quotes, `\\` is literal"),
        ("recursion limit", "nested too deeply", ""),
        ("unprintable character", "unexpected NUL character", ""),
        ("did not find expected ',' or '}'", "`,` or `}` is missing", ""),
        ("expected ',' or ']'", "`,` or `]` is missing", ""),
        ("placement of ':'", "unexpected `:`", "an earlier bracket or quote may not be closed"),
        ("trailing content after", "unexpected text after the closing quote", "put the whole value in quotes"),
        ("did not find expected key", "expected a key here", "check the indentation of this line"),
        ("did not find expected '-'", "expected `- ` here", "check the indentation of this line"),
        ("indentation in quoted", "unclosed quote", "close it with the same quote, or indent the continuation lines"),
        ("invalid indentation", "wrong indentation", "check the indentation of this line"),
        ("sequence entries are not allowed", "unexpected `- `", "begin the list on a line of its own"),
        ("unexpected character: `%'", "a value cannot begin with `%`", "quote it"),
        ("unexpected character: `@'", "a value cannot begin with `@`", "quote it"),
        ("unexpected character: ``'", "a value cannot begin with a backquote", "quote it"),
        ("did not find expected node content", "expected a value here", ""),
        (
            "expected <document start>",
            "unexpected text after the end of the document",
            "check the indentation of this line",
        ),
    ];
    let found = known.iter().find(|(part, ..)| info.contains(part));
    let (message, hint) = found.map_or((info, ""), |(_, message, hint)| (*message, *hint));
    let at = if info.contains("tab") { find_tab(text, at) } else { at };
    let mut result = YamlError::new(char_span(text, at), format!("invalid YAML: {message}"));
    if !hint.is_empty() {
        result = result.hint(hint);
    }
    result
}

/// Finds the tab of an indentation error: the parser reports the start of the interrupted token.
fn find_tab(text: &str, at: usize) -> usize {
    let line = text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1);
    let lines = text.get(line..).unwrap_or_default().split_inclusive('\n').take(3);
    lines
        .scan(line, |start, line| {
            let from = *start;
            *start += line.len();
            let indent = line.len() - line.trim_start().len();
            Some(line.get(..indent).and_then(|indent| indent.find('\t')).map(|tab| from + tab))
        })
        .flatten()
        .next()
        .unwrap_or(at)
}

/// Returns the span of the character at an offset; empty at the end of the text.
fn char_span(text: &str, at: usize) -> Range<usize> {
    let end = text.trim_end().len();
    let at = at.min(end);
    let length = text.get(at..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
    at..at + length
}
