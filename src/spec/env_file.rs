//! Env file parser, for `.env` and `env_file`: the rules of docker compose (package `dotenv` of compose-go 2.13).
//!
//! - `KEY=value`, with spaces around the `=`, with `:` instead of it, or with `export ` in front. `KEY` alone takes its
//!   value from the environment or `.env`, and is left out if it is not set there. If a key is repeated, the last one
//!   applies.
//! - A bare value ends at the end of the line or before ` #`. A quoted value may span lines. In single quotes only `\'`
//!   is an escape; in double quotes `\n`, `\r`, `\t`, `\a`, `\b`, `\f`, `\v`, `\"`, `\\`, `\$` and `\0` with up to three
//!   octal digits.
//! - Variables are substituted in bare and double-quoted values, `$VAR` too: from the environment, `.env` and earlier
//!   lines. One that is not set is an error as in specs; docker compose takes an empty value.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::compose::template;
use super::interpolate::{Fault, MAX_TEXT, ReferenceError, TOO_MUCH_TEXT, Variables, expand_unbraced};
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

/// Content of env files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EnvFile {
    pub values: BTreeMap<String, String>,
    /// Names of the variables that the values refer to.
    pub variables: BTreeSet<String>,
}

/// Parses a file after others: its values override `earlier`, and can refer to them and to the environment. Returns the
/// errors, at most a thousand. Nothing of the file is quoted in messages: any part of it may belong to a secret value.
pub fn parse(text: &str, environment: &BTreeMap<String, String>, earlier: EnvFile) -> Result<EnvFile, Vec<LineError>> {
    let parser = Parser::new(text, environment, earlier, Dialect::Strict)?;
    Ok(parser.found)
}

/// Content of an env file of a compose project.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ComposeEnvFile {
    pub values: BTreeMap<String, String>,
    /// Variables that are not set and became nothing, with their places.
    pub unset: Vec<(String, Range<usize>)>,
}

/// Parses an env file of a compose project: a variable that is not set is empty, and `${...}` has the forms of compose.
pub fn parse_compose(
    text: &str,
    environment: &BTreeMap<String, String>,
    earlier: BTreeMap<String, String>,
) -> Result<ComposeEnvFile, Vec<LineError>> {
    let earlier = EnvFile { values: earlier, ..EnvFile::default() };
    let parser = Parser::new(text, environment, earlier, Dialect::Compose)?;
    Ok(ComposeEnvFile { values: parser.found.values, unset: parser.unset })
}

/// Where the files of compose projects differ.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Strict,
    Compose,
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    environment: &'a BTreeMap<String, String>,
    found: EnvFile,
    dialect: Dialect,
    unset: Vec<(String, Range<usize>)>,
    /// Bytes of all values.
    size: usize,
}

impl<'a> Parser<'a> {
    /// Parses a whole file.
    fn new(
        text: &'a str,
        environment: &'a BTreeMap<String, String>,
        earlier: EnvFile,
        dialect: Dialect,
    ) -> Result<Self, Vec<LineError>> {
        let at = text.len() - text.trim_start_matches('\u{feff}').len();
        let mut parser = Parser { text, at, environment, found: earlier, dialect, unset: Vec::new(), size: 0 };
        let mut errors = Vec::new();
        while errors.len() < MAX_ERRORS && parser.skip_to_key() {
            let line_end = parser.line_end();
            if let Err(error) = parser.assignment() {
                errors.push(error);
                parser.at = parser.at.max(line_end);
            }
        }
        if errors.is_empty() { Ok(parser) } else { Err(errors) }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn line_end(&self) -> usize {
        self.at + self.rest().find('\n').unwrap_or(self.rest().len())
    }

    /// Returns the error for a part of the text.
    fn error(&self, part: &str, message: &str, hint: &str) -> LineError {
        let start = (part.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize).min(self.text.len());
        let hint = (!hint.is_empty()).then(|| hint.to_owned());
        LineError { span: start..start + part.len(), message: message.to_owned(), hint }
    }

    /// Skips white space and comments. Returns false at the end of the file.
    fn skip_to_key(&mut self) -> bool {
        loop {
            self.at += self.rest().len() - self.rest().trim_start().len();
            if !self.rest().starts_with('#') {
                return !self.rest().is_empty();
            }
            self.at = self.line_end();
        }
    }

    /// Parses the assignment at the current position, up to the end of its last line.
    fn assignment(&mut self) -> Result<(), LineError> {
        let line = self.text[self.at..self.line_end()].trim_end();
        if let Some(nul) = line.find('\0') {
            return Err(self.error(&line[nul..=nul], "unexpected NUL character", ""));
        }
        let assignment = match line.strip_prefix("export") {
            Some(rest) if rest.starts_with([' ', '\t']) => rest.trim_start(),
            _ => line,
        };
        let Some(end) = assignment.find(['=', ':']) else { return self.inherited(assignment) };
        let key = assignment[..end].trim_end();
        if key.is_empty() {
            return Err(self.error(assignment, "the name of the variable is missing before the `=`", ""));
        }
        if key.parse::<EnvName>().is_err() || (self.dialect == Dialect::Compose && !is_compose_name(key)) {
            return Err(self.error(key, "invalid environment variable name before the `=`", ""));
        }
        self.at += line.len() - assignment.len() + end + 1;
        self.at += self.rest().len() - self.rest().trim_start_matches([' ', '\t', '\r', '\u{b}', '\u{c}']).len();
        let value = match self.rest().chars().next() {
            Some(quote @ ('\'' | '"')) => self.quoted(quote)?,
            _ => self.bare()?,
        };
        self.size += value.len();
        if self.size > MAX_TEXT {
            return Err(self.error(key, TOO_MUCH_TEXT, ""));
        }
        self.found.values.insert(key.to_owned(), value);
        Ok(())
    }

    /// A key without a value.
    fn inherited(&mut self, line: &str) -> Result<(), LineError> {
        let key = without_comment(line);
        if key.parse::<EnvName>().is_err() || (self.dialect == Dialect::Compose && !is_compose_name(key)) {
            let hint = "write a value that spans lines in quotes";
            return Err(self.error(key, "expected `KEY=value`", hint));
        }
        self.at = self.line_end();
        if let Some(value) = self.environment.get(key) {
            self.found.values.insert(key.to_owned(), value.clone());
        }
        Ok(())
    }

    fn bare(&mut self) -> Result<String, LineError> {
        let (start, end) = (self.at, self.line_end());
        self.at = end;
        let value = match self.dialect {
            Dialect::Strict => without_comment(self.text[start..end].trim_end()),
            // A comment needs a space and something before it.
            Dialect::Compose => self.text[start..end].split(" #").next().unwrap_or_default().trim_end(),
        };
        self.substitute(value, |at| start + at)
    }

    /// Parses a quoted value and the rest of its last line.
    fn quoted(&mut self, quote: char) -> Result<String, LineError> {
        let start = self.at + 1;
        let raw = self.text.get(start..).unwrap_or_default();
        let mut value = String::new();
        // Positions where the offsets of the value and of the file begin to differ by another amount.
        let mut offsets = vec![(0, start)];
        let mut chars = raw.char_indices();
        let end = loop {
            match chars.next() {
                None => {
                    let line = self.text[self.at..self.line_end()].trim_end();
                    // What follows may be part of the value.
                    self.at = self.text.len();
                    let hint = "a quoted value ends with the same quote, also on a later line";
                    return Err(self.error(line, "unclosed quote", hint));
                }
                Some((at, c)) if c == quote => break at,
                Some((at, '\0')) => return Err(self.error(&raw[at..=at], "unexpected NUL character", "")),
                Some((_, '\\')) => {
                    match chars.next() {
                        Some((_, c)) if c == quote => value.push(c),
                        Some((at, c)) if quote == '"' => escape(c, &raw[at..], &mut chars, &mut value),
                        Some((_, c)) => value.extend(['\\', c]),
                        None => {}
                    }
                    offsets.push((value.len(), start + raw.len() - chars.as_str().len()));
                }
                Some((_, c)) => value.push(c),
            }
        };
        self.at = start + end + 1;
        let rest = self.text[self.at..self.line_end()].trim();
        if self.dialect == Dialect::Compose {
            // What follows is the next assignment.
            return self.expand_quoted(quote, value, &offsets);
        }
        self.at = self.line_end();
        if !rest.is_empty() && !rest.starts_with('#') {
            let hint = "put the whole value in quotes; write `\\\"` for a quote in it";
            return Err(self.error(rest, "unexpected text after the closing quote", hint));
        }
        self.expand_quoted(quote, value, &offsets)
    }

    fn expand_quoted(&mut self, quote: char, value: String, offsets: &[(usize, usize)]) -> Result<String, LineError> {
        match quote {
            '\'' => Ok(value),
            _ => self.substitute(&value, |at| {
                let (out, file) = offsets[offsets.partition_point(|(out, _)| *out <= at).saturating_sub(1)];
                file + at - out
            }),
        }
    }

    /// Substitutes the variables of a value; `place` converts its offsets to those of the file.
    fn substitute(&mut self, value: &str, place: impl Fn(usize) -> usize) -> Result<String, LineError> {
        if self.dialect == Dialect::Compose {
            return self.substitute_as_compose(value, place);
        }
        let EnvFile { values, variables } = &mut self.found;
        let context = BTreeMap::new();
        let known = Variables { environment: self.environment, dotenv: values, context: &context, lenient: false };
        let expanded = expand_unbraced(value, known, variables);
        let error = |span: Range<usize>, message: &str, hint: &str| {
            let span = place(span.start)..place(span.end);
            Err(LineError { span, message: message.to_owned(), hint: Some(hint.to_owned()) })
        };
        const LITERAL: &str = "put the value in single quotes or write `$$` for a literal `$`";
        match expanded {
            Ok(expanded) => match expanded.outputs.first() {
                None => Ok(expanded.text),
                Some((_, span)) => error(span.clone(), "an output cannot be used in an env file", LITERAL),
            },
            Err(ReferenceError { span, fault, .. }) => match fault {
                Fault::Unset => {
                    let hint = "set it in the environment or on an earlier line, or write a default: `${VAR:-}`; put \
                                the value in single quotes or write `$$` for a literal `$`";
                    error(span, "the variable is not set or empty", hint)
                }
                Fault::TooMuchText => error(span, TOO_MUCH_TEXT, LITERAL),
                Fault::Invalid => error(span, "invalid reference to a variable", LITERAL),
            },
        }
    }
}

impl Parser<'_> {
    fn substitute_as_compose(&mut self, value: &str, place: impl Fn(usize) -> usize) -> Result<String, LineError> {
        let lookup =
            |name: &str| self.environment.get(name).or_else(|| self.found.values.get(name)).map(String::to_owned);
        let place = |span: Range<usize>| place(span.start)..place(span.end);
        match template::expand(value, &lookup) {
            Ok(expanded) => {
                self.unset.extend(expanded.unset.into_iter().map(|(span, name)| (name, place(span))));
                Ok(expanded.text)
            }
            Err(error) => {
                let hint = "put the value in single quotes or write `$$` for a literal `$`".to_owned();
                Err(LineError { span: place(error.span), message: error.message, hint: Some(hint) })
            }
        }
    }
}

/// Appends the character that an escape in double quotes stands for; `text` begins with the character after the `\`.
fn escape(c: char, text: &str, chars: &mut std::str::CharIndices<'_>, value: &mut String) {
    match c {
        'n' => value.push('\n'),
        'r' => value.push('\r'),
        't' => value.push('\t'),
        'a' => value.push('\u{7}'),
        'b' => value.push('\u{8}'),
        'f' => value.push('\u{c}'),
        'v' => value.push('\u{b}'),
        '\\' => value.push('\\'),
        // Literal after substitution.
        '$' => value.push_str("$$"),
        '0' => {
            let digits: String = text[1..].chars().take(3).take_while(|c| c.is_digit(8)).collect();
            match u32::from_str_radix(&digits, 8).ok().and_then(char::from_u32).filter(|c| *c != '\0') {
                Some(c) => {
                    value.push(c);
                    for _ in 0..digits.len() {
                        chars.next();
                    }
                }
                None => value.push_str("\\0"),
            }
        }
        c => value.extend(['\\', c]),
    }
}

fn is_compose_name(name: &str) -> bool {
    name.chars().all(|c| c.is_alphanumeric() || "_.-[]".contains(c))
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

    fn environment() -> BTreeMap<String, String> {
        [("HOST", "h"), ("EMPTY", "")].map(|(k, v)| (k.to_string(), v.to_string())).into()
    }

    fn values(text: &str) -> BTreeMap<String, String> {
        parse(text, &environment(), EnvFile::default()).unwrap_or_else(|errors| panic!("{text}: {errors:?}")).values
    }

    #[test]
    fn lines_are_parsed() {
        let text = concat!(
            "\u{feff}# comment\r\n",
            "A=1\r\n\n",
            "  export B = two words  # comment\n",
            "C='single $X \\n # it\\'s \\\\' # comment\n",
            "D=\"a\\nb\\\"c\\\\d\\q é \\0101\\$X\"\n",
            "E=\n",
            "F=a#b\n",
            "G= #c\n",
            "H=x=y\n",
            "I: yaml: style\n",
            "HOST\n",
            "export EMPTY # comment\n",
            "NOT_SET\n",
            "exported=1\n",
            "A=2",
        );
        let expected = [
            ("A", "2"),
            ("B", "two words"),
            ("C", "single $X \\n # it's \\\\"),
            ("D", "a\nb\"c\\d\\q é A$X"),
            ("E", ""),
            ("F", "a#b"),
            ("G", ""),
            ("H", "x=y"),
            ("I", "yaml: style"),
            ("HOST", "h"),
            ("EMPTY", ""),
            ("exported", "1"),
        ];
        assert_eq!(values(text), expected.map(|(k, v)| (k.to_string(), v.to_string())).into());
    }

    #[test]
    fn quoted_values_span_lines() {
        let text = "KEY=\"-----BEGIN KEY-----\n  a # b\r\n\n-----END KEY-----\" # comment\nONE='x\ny'\nTWO=2\n";
        let values = values(text);
        assert_eq!(values["KEY"], "-----BEGIN KEY-----\n  a # b\r\n\n-----END KEY-----");
        assert_eq!((values["ONE"].as_str(), values["TWO"].as_str()), ("x\ny", "2"));
    }

    #[test]
    fn variables_are_substituted() {
        for (line, expected) in [
            ("X=${HOST}:80", "h:80"),
            ("X=\"${HOST}\\n$A\"", "h\n1"),
            ("X=$A-${A}$", "1-1$"),
            ("X='${HOST} $A'", "${HOST} $A"),
            ("X=${NO:-http://h/{id}}", "http://h/{id}"),
            ("X=${EMPTY:-${NO-d}}${EMPTY}", "d"),
            ("X=${A:+set}${NO:+set}", "set"),
            ("X=$$A \\$A", "$A \\1"),
            ("X=\"\\$A $$A $1 $(\"", "$A $A $1 $("),
            // The environment wins over an earlier line.
            ("HOST=other\nX=$HOST", "h"),
        ] {
            assert_eq!(values(&format!("A=1\n{line}\n"))["X"], expected, "{line}");
        }
        let earlier = EnvFile { values: [("A".into(), "1".into())].into(), ..EnvFile::default() };
        let found = parse("B=$A${HOST}\nA=2", &environment(), earlier).unwrap();
        assert_eq!((found.values["A"].as_str(), found.values["B"].as_str()), ("2", "1h"));
        assert_eq!(found.variables, ["A".to_owned(), "HOST".to_owned()].into());
    }

    fn reported(text: &str) -> Vec<(&str, String)> {
        let errors = parse(text, &environment(), EnvFile::default()).unwrap_err();
        errors.into_iter().map(|error| (&text[error.span], error.message)).collect()
    }

    #[test]
    fn all_errors_are_reported() {
        let text = "A=1\nno sense\nC='x' y\n=z\na b=c\nX=a${NO}b\nX=\"\\$\\n\n $NO\"\nX=${A\nB=\"open\nC='x' y";
        let expected = [
            ("no sense", "expected `KEY=value`"),
            ("y", "unexpected text after the closing quote"),
            ("=z", "the name of the variable is missing before the `=`"),
            ("a b", "invalid environment variable name before the `=`"),
            ("${NO}", "the variable is not set or empty"),
            ("$NO", "the variable is not set or empty"),
            ("${A", "invalid reference to a variable"),
            ("\"open", "unclosed quote"),
        ];
        assert_eq!(reported(text), expected.map(|(part, message)| (part, message.to_owned())));
    }

    #[test]
    fn values_cannot_grow_without_limit() {
        let mut text = format!("A={}\n", "x".repeat(100_000));
        text.push_str("B=$A$A$A$A$A$A$A$A$A$A\nA=$B$B$B$B$B$B$B$B$B$B\nB=$A$A$A$A$A$A$A$A\n");
        assert_eq!(reported(&text).first().map(|(_, message)| message.as_str()), Some(TOO_MUCH_TEXT));
    }
}
