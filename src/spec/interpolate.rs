//! Variable substitution in the scalars of a tree, before decoding.
//!
//! - `${VAR}`: the variable; an error if it is not set.
//! - `${VAR:-default}`, `${VAR-default}`: the default if it is not set (with the colon: or empty). Defaults can contain
//!   references.
//! - `${VAR:+text}`, `${VAR+text}`: the text if it is set (with the colon: and not empty), otherwise nothing.
//! - `${VAR:?message}`, `${VAR?message}`: an error with this message if it is not set (with the colon: or empty).
//! - `${context.key}`: an output of a hook or job. The value of the field is pending until the output is known.
//! - `$$`: a literal `$`.
//!
//! Braces in a default, text or message are counted: `${VAR:-{}}` is `{}`.
//!
//! Any other `$` is literal, also in `$VAR`, which is common in commands; only env files replace `$VAR`. Keys and comments are not substituted. A scalar
//! with a reference is resolved again after substitution: `"${PORT}"` is a number in a field that expects one. The
//! variables are passed as arguments; this module does not access the environment.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::locate::closest;
use super::node::{Node, Scalar, Style, Value};
use super::secrets::{SecretFields, Secrets, is_public};
use super::value::{OutputKey, quoted};

/// Maximum nesting of defaults.
const MAX_NESTING: usize = 16;

/// Maximum bytes of text per file after substitution.
pub(super) const MAX_TEXT: usize = 16 * 1024 * 1024;

pub(super) const TOO_MUCH_TEXT: &str = "more than 16 MiB of text after variable substitution";

/// Maximum number of errors reported per document.
const MAX_ERRORS: usize = 100;

/// Variables available for substitution.
#[derive(Clone, Copy)]
pub struct Variables<'a> {
    /// Process environment. Takes precedence over `.env`.
    pub environment: &'a BTreeMap<String, String>,
    /// Variables of the `.env` files.
    pub dotenv: &'a BTreeMap<String, String>,
    /// Known outputs, by key.
    pub context: &'a BTreeMap<String, String>,
    /// A variable that is not set is an unknown output with the key `$VAR`, not an error.
    pub lenient: bool,
}

/// First character of the key of an [`OutputUse`] that is a missing value, not an output.
pub const MISSING: char = '$';

impl<'a> Variables<'a> {
    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        self.value(name).map(String::as_str)
    }

    /// Returns the value of a variable.
    pub(super) fn value(&self, name: &str) -> Option<&'a String> {
        self.environment.get(name).or_else(|| self.dotenv.get(name))
    }

    /// Returns all variables.
    pub(super) fn all(&self) -> BTreeMap<String, String> {
        self.dotenv.iter().chain(self.environment).map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    pub(super) fn closest(&self, name: &str) -> Option<&'a str> {
        closest(name, self.dotenv.keys().chain(self.environment.keys()).map(String::as_str))
    }
}

/// Use of an output in a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputUse {
    /// Path of the field: keys and list indexes, separated by dots, e.g. `env.USER_ID` or `post_start.0.exec.1`.
    pub field: String,
    /// Key of the output.
    pub key: String,
    /// True if the value of the output is known.
    pub known: bool,
    /// Byte range of the reference in the file.
    pub span: Range<usize>,
    /// Text of the field with variables substituted and references to outputs kept.
    pub text: String,
}

/// Returns true if a path belongs to a hook, given by its field (`post_start`, `on.exited`) and index.
pub fn is_of_hook(path: &str, field: &str, index: usize) -> bool {
    let Some(rest) = path.strip_prefix(field).and_then(|rest| rest.strip_prefix('.')) else { return false };
    // A single hook is not necessarily in a list.
    rest.split('.').next().and_then(|part| part.parse().ok()).unwrap_or(0) == index
}

/// What the substitution found in a document.
#[derive(Debug, Default)]
pub struct Found {
    /// Names of the referenced variables, set or not.
    pub variables: BTreeSet<String>,
    /// Uses of outputs.
    pub outputs: Vec<OutputUse>,
    /// Fields into which a variable or an output was inserted.
    pub fields: SecretFields,
    /// Texts as they are written, by path, of all fields into which a variable or an output was inserted.
    pub templates: BTreeMap<String, String>,
    /// The inserted values.
    pub secrets: Secrets,
    /// Variables that are not set, where that is no error.
    pub missing: Vec<ReferenceError>,
}

/// Error in a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceError {
    /// Byte range in the file (in the text, if returned by [`expand`]).
    pub span: Range<usize>,
    pub message: String,
    /// How to fix the error.
    pub hint: Option<String>,
    pub fault: Fault,
}

impl ReferenceError {
    /// An error other than a missing value or too much text.
    pub fn invalid(span: Range<usize>, message: String, hint: &str) -> ReferenceError {
        ReferenceError { span, message, hint: Some(hint.to_owned()), fault: Fault::Invalid }
    }

    fn too_much_text(span: Range<usize>) -> ReferenceError {
        ReferenceError { span, message: TOO_MUCH_TEXT.to_owned(), hint: None, fault: Fault::TooMuchText }
    }
}

/// What is wrong with a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The variable is not set, or empty.
    Unset,
    /// The text is too long after substitution.
    TooMuchText,
    Invalid,
}

/// Fields that cannot use outputs: they define the identity, order and number of containers, or the key of an output.
const STATIC_FIELDS: [&str; 7] = ["name", "kind", "network", "subnet", "dependencies", "replicas", "capture"];

/// Substitutes the references in all scalars of a tree. A scalar with an invalid reference becomes [`Value::Pruned`],
/// one with an unknown output [`Style::Pending`].
///
/// Adds what it finds to `found`.
pub fn interpolate(root: &mut Node, source: &str, variables: Variables<'_>, found: &mut Found) -> Vec<ReferenceError> {
    let mut errors = Vec::new();
    let mut remaining = MAX_TEXT;
    walk(root, &mut Vec::new(), &mut |node, path| {
        let Value::Scalar(scalar) = &mut node.value else { return };
        if errors.len() >= MAX_ERRORS && scalar.text.contains("${") {
            node.value = Value::Pruned;
            return;
        }
        let original = scalar.text.clone();
        let mut used = BTreeSet::new();
        let mut missing = Vec::new();
        let replaced = replace(scalar, variables, &mut used, &mut missing).and_then(|outputs| {
            remaining = remaining.saturating_sub(scalar.text.len());
            match remaining {
                0 => Err(ReferenceError::too_much_text(0..scalar.text.len())),
                _ => Ok(outputs),
            }
        });
        let replaced = replaced.and_then(|outputs| match (outputs.first(), static_field(path)) {
            (Some(_), Some(_)) if !missing.is_empty() => Err(missing.remove(0)),
            (Some((_, span)), Some(field)) => {
                let hint = "outputs are only known at run time; this field is needed earlier";
                let message = format!("an output cannot be used in `{field}`");
                Err(ReferenceError::invalid(span.clone(), message, hint))
            }
            _ => Ok(outputs),
        });
        match replaced {
            Ok(outputs) => {
                found.missing.extend(missing.into_iter().map(|error| {
                    let span = in_source(&error.span, &original, &node.span, source);
                    ReferenceError { span, ..error }
                }));
                if scalar.style == Style::Substituted {
                    found.templates.insert(path.join("."), original.clone());
                }
                if scalar.style == Style::Substituted && !path.first().is_some_and(|field| is_public(field)) {
                    found.fields.insert(path.join("."), original.clone());
                    found.secrets.add_all(used.iter().filter_map(|name| variables.value(name)));
                }
                let text = match outputs.is_empty() {
                    true => String::new(),
                    false => with_output_references(&original, &outputs, variables),
                };
                let known = |key: &str| variables.context.contains_key(key);
                if outputs.iter().any(|(key, _)| !known(key)) {
                    scalar.style = Style::Pending;
                    // A URL that begins with an output needs a valid prefix to decode.
                    let url = path.last().is_some_and(|key| key == "url" || key == "http");
                    if url && outputs.first().is_some_and(|(_, span)| span.start == 0) {
                        scalar.text.insert_str(0, "http://");
                    }
                }
                found.outputs.extend(outputs.into_iter().map(|(key, span)| OutputUse {
                    field: path.join("."),
                    known: known(&key),
                    span: in_source(&span, &original, &node.span, source),
                    text: text.clone(),
                    key,
                }));
            }
            Err(error) => {
                let span = in_source(&error.span, &original, &node.span, source);
                errors.push(ReferenceError { span, ..error });
                node.value = Value::Pruned;
            }
        }
        found.variables.append(&mut used);
    });
    errors
}

fn walk(node: &mut Node, path: &mut Vec<String>, visit: &mut dyn FnMut(&mut Node, &[String])) {
    match &mut node.value {
        Value::Map(entries) => {
            for entry in entries {
                path.push(entry.key.text.clone());
                walk(&mut entry.value, path, visit);
                path.pop();
            }
        }
        Value::Seq(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                path.push(index.to_string());
                walk(item, path, visit);
                path.pop();
            }
        }
        _ => visit(node, path),
    }
}

/// Substitutes all references except those to outputs. Returns the original text if a default refers to an output.
fn with_output_references(original: &str, outputs: &[(String, Range<usize>)], variables: Variables<'_>) -> String {
    let piece = |range: Range<usize>| {
        let piece = expand(original.get(range)?, variables, &mut BTreeSet::new()).ok()?;
        Some(piece.text.replace('$', "$$"))
    };
    let mut text = String::new();
    let mut at = 0;
    for (_, span) in outputs {
        let Some(before) = piece(at..span.start) else { return original.to_owned() };
        text.push_str(&before);
        text.push_str(original.get(span.clone()).unwrap_or_default());
        at = span.end;
    }
    match piece(at..original.len()) {
        Some(rest) => text + &rest,
        None => original.to_owned(),
    }
}

/// Returns the field name that makes a path static: outputs cannot be used there.
fn static_field(path: &[String]) -> Option<&str> {
    let first = path.first().filter(|first| STATIC_FIELDS.contains(&first.as_str()));
    first.or_else(|| path.last().filter(|last| *last == "capture")).map(String::as_str)
}

/// Substitutes the references of a scalar. Returns the outputs used, with their spans.
fn replace(
    scalar: &mut Scalar,
    variables: Variables<'_>,
    used: &mut BTreeSet<String>,
    missing: &mut Vec<ReferenceError>,
) -> Result<Vec<(String, Range<usize>)>, ReferenceError> {
    if !scalar.text.contains('$') {
        return Ok(Vec::new());
    }
    let expanded = expand(&scalar.text, variables, used)?;
    if expanded.replaced {
        scalar.style = Style::Substituted;
    }
    scalar.text = expanded.text;
    *missing = expanded.missing;
    Ok(expanded.outputs)
}

/// Converts the span of a reference in a scalar's text to a span in the file. Counts the `${`, because quotes, escapes
/// and folded lines shift offsets.
fn in_source(reference: &Range<usize>, text: &str, scalar: &Range<usize>, source: &str) -> Range<usize> {
    let nth = text.get(..reference.start).unwrap_or_default().matches("${").count();
    let raw = source.get(scalar.clone()).unwrap_or_default();
    match raw.match_indices("${").nth(nth) {
        Some((at, _)) => {
            let exact = raw.get(at..).zip(text.get(reference.clone())).is_some_and(|(w, t)| w.starts_with(t));
            let start = scalar.start + at;
            start..start + if exact { reference.len() } else { 2 }
        }
        None => scalar.clone(),
    }
}

/// A text after substitution.
#[derive(Debug, PartialEq, Eq)]
pub struct Expanded {
    pub text: String,
    /// True if it contained a reference.
    pub replaced: bool,
    /// Keys and spans of the outputs used. An unknown output is substituted by `x`.
    pub outputs: Vec<(String, Range<usize>)>,
    /// Variables that are not set, where that is no error; substituted by `x` as well, and also in `outputs`.
    pub missing: Vec<ReferenceError>,
}

/// Substitutes the references of one text.
pub fn expand(text: &str, variables: Variables<'_>, used: &mut BTreeSet<String>) -> Result<Expanded, ReferenceError> {
    expand_with(text, variables, used, false)
}

/// The same with `$VAR` as another form of `${VAR}`, as in env files.
pub(super) fn expand_unbraced(
    text: &str,
    variables: Variables<'_>,
    used: &mut BTreeSet<String>,
) -> Result<Expanded, ReferenceError> {
    expand_with(text, variables, used, true)
}

fn expand_with(
    text: &str,
    variables: Variables<'_>,
    used: &mut BTreeSet<String>,
    unbraced: bool,
) -> Result<Expanded, ReferenceError> {
    let (outputs, missing) = (Vec::new(), Vec::new());
    let mut expander = Expander { text, at: 0, variables, used, unbraced, replaced: false, outputs, missing };
    let text = expander.run(0, true)?;
    Ok(Expanded { text, replaced: expander.replaced, outputs: expander.outputs, missing: expander.missing })
}

/// Length of the name of a variable at the beginning of a text.
fn word_length(text: &str) -> usize {
    text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len())
}

struct Expander<'a> {
    text: &'a str,
    at: usize,
    variables: Variables<'a>,
    used: &'a mut BTreeSet<String>,
    /// Whether `$VAR` is a reference.
    unbraced: bool,
    replaced: bool,
    outputs: Vec<(String, Range<usize>)>,
    missing: Vec<ReferenceError>,
}

impl<'a> Expander<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn error(&self, from: usize, message: String) -> ReferenceError {
        ReferenceError { span: from..self.at.max(from), message, hint: None, fault: Fault::Invalid }
    }

    /// Expands up to the end of the text or, inside a reference, up to its closing `}`, which is not consumed. If the
    /// result is not `needed`, only checks the syntax.
    fn run(&mut self, nesting: usize, needed: bool) -> Result<String, ReferenceError> {
        let mut out = String::new();
        let mut braces = 0usize;
        loop {
            let rest = self.rest();
            let stop = rest.find(|c| c == '$' || (nesting > 0 && (c == '{' || c == '}'))).unwrap_or(rest.len());
            out.push_str(&rest[..stop]);
            self.at += stop;
            if out.len() > MAX_TEXT {
                return Err(ReferenceError::too_much_text(0..self.at));
            }
            let rest = &rest[stop..];
            match rest.as_bytes() {
                [] => return Ok(out),
                [b'}', ..] if braces == 0 => return Ok(out),
                [b'$', b'{', ..] => out.push_str(&self.reference(nesting, needed)?),
                [b'$', b'$', ..] => {
                    out.push('$');
                    self.at += 2;
                }
                [b'$', first, ..] if self.unbraced && (first.is_ascii_alphabetic() || *first == b'_') => {
                    out.push_str(&self.unbraced_reference(needed)?);
                }
                [other, ..] => {
                    match other {
                        b'{' => braces += 1,
                        b'}' => braces -= 1,
                        _ => {}
                    }
                    out.push(char::from(*other));
                    self.at += 1;
                }
            }
        }
    }

    /// Expands a reference of the form `$VAR`.
    fn unbraced_reference(&mut self, needed: bool) -> Result<String, ReferenceError> {
        let from = self.at;
        self.replaced = true;
        let rest = &self.rest()[1..];
        let name = &rest[..word_length(rest)];
        self.at += 1 + name.len();
        self.used.insert(name.to_owned());
        match self.variables.get(name) {
            Some(value) => Ok(value.to_owned()),
            None if needed => Err(self.unset(from, name, None, "")),
            None => Ok(String::new()),
        }
    }

    /// Expands a reference from `${` to its `}`.
    fn reference(&mut self, nesting: usize, needed: bool) -> Result<String, ReferenceError> {
        let from = self.at;
        self.replaced = true;
        self.at += 2;
        if nesting >= MAX_NESTING {
            return Err(self.error(from, format!("defaults are nested more than {MAX_NESTING} deep")));
        }
        let rest = self.rest();
        let (name, rest) = rest.split_at(word_length(rest));
        self.at += name.len();
        if rest.is_empty() {
            return Err(self.unterminated(from));
        }
        if name == "context" && rest.starts_with('.') {
            return self.output(from, needed);
        }
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(self.malformed(from));
        }
        self.used.insert(name.to_owned());
        let value = self.variables.get(name);
        let non_empty = value.filter(|value| !value.is_empty());
        let (operator, known) = match rest {
            _ if rest.starts_with('}') => ("", value),
            _ if rest.starts_with(":-") => (":-", non_empty),
            _ if rest.starts_with('-') => ("-", value),
            _ if rest.starts_with(":?") => (":?", non_empty),
            _ if rest.starts_with('?') => ("?", value),
            _ if rest.starts_with(":+") => (":+", non_empty),
            _ if rest.starts_with('+') => ("+", value),
            _ => return Err(self.malformed(from)),
        };
        self.at += operator.len();
        let alternative = matches!(operator, ":+" | "+");
        let argument = self.run(nesting + 1, needed && known.is_some() == alternative)?;
        if self.rest().is_empty() {
            return Err(self.unterminated(from));
        }
        self.at += 1; // the `}`
        match (known, operator) {
            (known, ":+" | "+") => Ok(if known.is_some() { argument } else { String::new() }),
            (Some(value), _) => Ok(value.to_owned()),
            (None, ":-" | "-") => Ok(argument),
            (None, _) if !needed => Ok(String::new()),
            (None, _) => {
                let error = self.unset(from, name, value, &argument);
                if !self.variables.lenient {
                    return Err(error);
                }
                self.missing.push(error);
                self.outputs.push((format!("{MISSING}{name}"), from..self.at));
                Ok("x".to_owned())
            }
        }
    }

    /// Expands a reference to an output from the `.` of `${context.key}` to its `}`.
    fn output(&mut self, from: usize, needed: bool) -> Result<String, ReferenceError> {
        self.at += 1;
        let rest = self.rest();
        let end = rest.find('}').unwrap_or(rest.len());
        let key = &rest[..end];
        if end == rest.len() {
            return Err(self.unterminated(from));
        }
        self.at += end + 1;
        if key.parse::<OutputKey>().is_err() {
            let error = self.error(from, format!("invalid reference {}", quoted(&self.text[from..self.at])));
            let hint = "write `${context.key}`; a key consists of letters, digits and `_`; an output has no default";
            return Err(ReferenceError { hint: Some(hint.into()), ..error });
        }
        if needed {
            self.outputs.push((key.to_owned(), from..self.at));
        }
        Ok(self.variables.context.get(key).cloned().unwrap_or_else(|| "x".to_owned()))
    }

    fn unset(&self, from: usize, name: &str, value: Option<&str>, message: &str) -> ReferenceError {
        let state = if value.is_some() { "is empty" } else { "is not set" };
        let message = match message {
            "" => format!("the variable {} {state}", quoted(name)),
            message => format!("the variable {} {state}: {message}", quoted(name)),
        };
        let hint = match self.variables.closest(name).filter(|_| value.is_none()) {
            Some(close) => format!("did you mean `{close}`?"),
            None => format!("set it in the environment or in `.env`, or write a default: `${{{name}:-…}}`"),
        };
        ReferenceError { hint: Some(hint), fault: Fault::Unset, ..self.error(from, message) }
    }

    fn unterminated(&mut self, from: usize) -> ReferenceError {
        self.at = self.text.len();
        let error = self.error(from, "unclosed `${`".into());
        ReferenceError { hint: Some("write `$${` for a literal `${`".into()), ..error }
    }

    fn malformed(&mut self, from: usize) -> ReferenceError {
        self.at = self.text[from..].find('}').map_or(self.text.len(), |end| from + end + 1);
        let error = self.error(from, format!("invalid reference {}", quoted(&self.text[from..self.at])));
        let hint = "write `${VAR}`, `${VAR:-default}`, `${VAR:+text}` or `${VAR:?message}`; `$${` for a literal `${`";
        ReferenceError { hint: Some(hint.into()), ..error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str) -> Result<String, String> {
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let environment = map(&[("A", "a"), ("EMPTY", ""), ("BOTH", "environment"), ("LOG_LEVEL", "info")]);
        let dotenv = map(&[("B", "b"), ("BOTH", "dotenv")]);
        let context = map(&[("user_id", "7")]);
        let variables = Variables { environment: &environment, dotenv: &dotenv, context: &context, lenient: false };
        expand(text, variables, &mut BTreeSet::new()).map(|expanded| expanded.text).map_err(|e| {
            format!(
                "{}..{} {}{}",
                e.span.start,
                e.span.end,
                e.message,
                e.hint.map_or(String::new(), |h| format!(" ({h})"))
            )
        })
    }

    #[test]
    fn references_are_substituted() {
        for (text, expected) in [
            ("plain", "plain"),
            ("${A}", "a"),
            ("x${A}y${B}z", "xaybz"),
            ("${BOTH}", "environment"),
            ("$A $1 $( $", "$A $1 $( $"),
            ("$$", "$"),
            ("$${A}", "${A}"),
            ("$$${A}", "$a"),
            ("${EMPTY}", ""),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${NO:-d}", "d"),
            ("${NO-d}", "d"),
            ("${NO:-}", ""),
            ("${A:-${NO}}", "a"),
            ("${NO:-${NEITHER:-x}y}z", "xyz"),
            ("${NO:-${A}}", "a"),
            ("${NO:-$$x}", "$x"),
            ("${NO:-a:b?c-d}", "a:b?c-d"),
            ("${A:?must be set}", "a"),
            ("{}", "{}"),
            ("${A:-http://h/{id}}/x", "a/x"),
            ("${NO:-http://h/{id}}/x", "http://h/{id}/x"),
            ("${NO:-{\"a\": {\"b\": \"${A}\"}}}}", "{\"a\": {\"b\": \"a\"}}}"),
            ("${A:?{x}}", "a"),
            ("${A:+with ${B}}", "with b"),
            ("${EMPTY:+x}${EMPTY+y}${NO:+${NO}}${NO+x}", "y"),
            ("u${context.user_id}", "u7"),
            ("u${context.unknown}", "ux"),
            ("${A:-${context.unknown}}", "a"),
            ("$${context.user_id}", "${context.user_id}"),
            ("$context.user_id", "$context.user_id"),
        ] {
            assert_eq!(run(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn invalid_references_are_reported_with_their_span() {
        let set = "set it in the environment or in `.env`, or write a default: `${NO:-…}`";
        for (text, expected) in [
            ("ab${NO}c", format!("2..7 the variable `NO` is not set ({set})")),
            ("${NO:?give it}", format!("0..14 the variable `NO` is not set: give it ({set})")),
            ("${EMPTY?x}", String::new()),
            ("${LOG_LEVL}", "0..11 the variable `LOG_LEVL` is not set (did you mean `LOG_LEVEL`?)".into()),
            ("${A", "0..3 unclosed `${` (write `$${` for a literal `${`)".into()),
            ("${NO:-{x}", "0..9 unclosed `${` (write `$${` for a literal `${`)".into()),
            ("${NO:-x", "0..7 unclosed `${` (write `$${` for a literal `${`)".into()),
            ("${context.user", "0..14 unclosed `${` (write `$${` for a literal `${`)".into()),
        ] {
            assert_eq!(run(text).err().unwrap_or_default(), expected, "{text}");
        }
        for text in
            ["${}", "${1}", "${A b}", "${é}", "${context.}", "${context.1}", "${context.a:-b}", "${context.a.b}"]
        {
            assert!(run(text).is_err_and(|e| e.contains("invalid reference")), "{text}");
        }
        assert!(run(&"${A:-".repeat(100_000)).is_err_and(|e| e.contains("nested more than 16 deep")));
    }
}
