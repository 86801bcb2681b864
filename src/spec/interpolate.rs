//! Variables in specs: `${VAR}` and its kin, replaced in the values of a tree before it is read.
//!
//! - `${VAR}`: the variable; an error when it is not set.
//! - `${VAR:-default}`, `${VAR-default}`: the default when it is not set (with the colon: or empty). Defaults may hold
//!   references themselves.
//! - `${VAR:?message}`, `${VAR?message}`: an error with this message when it is not set (or empty).
//! - `$$`: one `$`.
//!
//! Any other `$` stays as it is, also `$VAR`: commands are full of those. Keys and comments are left alone. A scalar
//! that held a reference is read anew, so that `"${PORT}"` can be a number where a number is wanted. It must not know
//! where variables come from.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::locate::closest;
use super::node::{Node, Scalar, Style, Value};
use super::value::quoted;

/// How deep defaults may hold defaults.
const MAX_NESTING: usize = 16;

/// How much text one file may hold with its variables replaced.
const MAX_TEXT: usize = 16 * 1024 * 1024;

/// How many errors of one document are told.
const MAX_ERRORS: usize = 100;

/// The variables that references can name.
#[derive(Clone, Copy)]
pub struct Variables<'a> {
    /// The environment of the process: it wins.
    pub environment: &'a BTreeMap<String, String>,
    /// The file `.env`.
    pub dotenv: &'a BTreeMap<String, String>,
}

impl<'a> Variables<'a> {
    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        self.environment.get(name).or_else(|| self.dotenv.get(name)).map(String::as_str)
    }

    pub(super) fn closest(&self, name: &str) -> Option<&'a str> {
        closest(name, self.dotenv.keys().chain(self.environment.keys()).map(String::as_str))
    }
}

/// Something wrong with a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceError {
    /// Bytes of the file (or, from [`expand`], of the text).
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Replaces the references in all values of a tree. A value in which that fails is left out of the tree.
///
/// `used` receives the name of every variable that is referred to, set or not.
pub fn interpolate(
    root: &mut Node,
    source: &str,
    variables: Variables<'_>,
    used: &mut BTreeSet<String>,
) -> Vec<ReferenceError> {
    let mut errors = Vec::new();
    let mut room = MAX_TEXT;
    walk(root, &mut |node| {
        let Value::Scalar(scalar) = &mut node.value else { return };
        if errors.len() >= MAX_ERRORS && scalar.text.contains("${") {
            node.value = Value::Pruned;
            return;
        }
        let replaced = replace(scalar, variables, used).and_then(|()| {
            room = room.saturating_sub(scalar.text.len());
            match room {
                0 => Err(ReferenceError {
                    span: 0..scalar.text.len(),
                    message: "more than 16 MiB of text, with variables replaced".into(),
                    hint: None,
                }),
                _ => Ok(()),
            }
        });
        if let Err(error) = replaced {
            let span = in_source(&error.span, &scalar.text, &node.span, source);
            errors.push(ReferenceError { span, ..error });
            node.value = Value::Pruned;
        }
    });
    errors
}

fn walk(node: &mut Node, visit: &mut dyn FnMut(&mut Node)) {
    match &mut node.value {
        Value::Map(entries) => entries.iter_mut().for_each(|entry| walk(&mut entry.value, visit)),
        Value::Seq(items) => items.iter_mut().for_each(|item| walk(item, visit)),
        _ => visit(node),
    }
}

fn replace(scalar: &mut Scalar, variables: Variables<'_>, used: &mut BTreeSet<String>) -> Result<(), ReferenceError> {
    if !scalar.text.contains('$') {
        return Ok(());
    }
    let expanded = expand(&scalar.text, variables, used)?;
    if expanded.replaced {
        scalar.style = Style::Replaced;
    }
    scalar.text = expanded.text;
    Ok(())
}

/// Finds a reference of a scalar's text in the file: quotes, escapes and folded lines shift it, so count the `${`.
fn in_source(reference: &Range<usize>, text: &str, scalar: &Range<usize>, source: &str) -> Range<usize> {
    let nth = text.get(..reference.start).unwrap_or_default().matches("${").count();
    let written = source.get(scalar.clone()).unwrap_or_default();
    match written.match_indices("${").nth(nth) {
        Some((at, _)) => {
            let exact = written.get(at..).zip(text.get(reference.clone())).is_some_and(|(w, t)| w.starts_with(t));
            let start = scalar.start + at;
            start..start + if exact { reference.len() } else { 2 }
        }
        None => scalar.clone(),
    }
}

/// A text with its references replaced.
#[derive(Debug, PartialEq, Eq)]
pub struct Expanded {
    /// The text.
    pub text: String,
    /// Whether there was a reference in it.
    pub replaced: bool,
}

/// Replaces the references of one text.
pub fn expand(text: &str, variables: Variables<'_>, used: &mut BTreeSet<String>) -> Result<Expanded, ReferenceError> {
    let mut expander = Expander { text, at: 0, variables, used, replaced: false };
    let text = expander.run(0, true)?;
    Ok(Expanded { text, replaced: expander.replaced })
}

struct Expander<'a> {
    text: &'a str,
    at: usize,
    variables: Variables<'a>,
    used: &'a mut BTreeSet<String>,
    replaced: bool,
}

impl<'a> Expander<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn error(&self, from: usize, message: String) -> ReferenceError {
        ReferenceError { span: from..self.at.max(from), message, hint: None }
    }

    /// Up to the end of the text, or at a `nesting` above 0 to the `}` that closes it, which is left. What is not
    /// `needed` is only read over.
    fn run(&mut self, nesting: usize, needed: bool) -> Result<String, ReferenceError> {
        let mut out = String::new();
        loop {
            let rest = self.rest();
            let stop = rest.find(|c| c == '$' || (c == '}' && nesting > 0)).unwrap_or(rest.len());
            out.push_str(&rest[..stop]);
            self.at += stop;
            let rest = &rest[stop..];
            if rest.is_empty() || rest.starts_with('}') {
                return Ok(out);
            }
            if rest.starts_with("${") {
                out.push_str(&self.reference(nesting, needed)?);
            } else {
                out.push('$');
                self.at += if rest.starts_with("$$") { 2 } else { 1 };
            }
        }
    }

    /// From `${` to its `}`.
    fn reference(&mut self, nesting: usize, needed: bool) -> Result<String, ReferenceError> {
        let from = self.at;
        self.replaced = true;
        self.at += 2;
        if nesting >= MAX_NESTING {
            return Err(self.error(from, format!("defaults are nested more than {MAX_NESTING} deep")));
        }
        let rest = self.rest();
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let name = &rest[..end];
        self.at += end;
        let rest = &rest[end..];
        if rest.is_empty() {
            return Err(self.unterminated(from));
        }
        if name == "context" && rest.starts_with('.') {
            let message = "outputs (`${context.…}`) are not supported by this version".to_owned();
            self.at = self.text[from..].find('}').map_or(self.text.len(), |end| from + end + 1);
            return Err(self.error(from, message));
        }
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(self.malformed(from));
        }
        self.used.insert(name.to_owned());
        let value = self.variables.get(name);
        let filled = value.filter(|value| !value.is_empty());
        let (operator, known) = match rest {
            _ if rest.starts_with('}') => ("", value),
            _ if rest.starts_with(":-") => (":-", filled),
            _ if rest.starts_with('-') => ("-", value),
            _ if rest.starts_with(":?") => (":?", filled),
            _ if rest.starts_with('?') => ("?", value),
            _ => return Err(self.malformed(from)),
        };
        self.at += operator.len();
        let argument = self.run(nesting + 1, needed && known.is_none())?;
        if self.rest().is_empty() {
            return Err(self.unterminated(from));
        }
        self.at += 1; // the `}`
        match (known, operator) {
            (Some(value), _) => Ok(value.to_owned()),
            (None, ":-" | "-") => Ok(argument),
            (None, _) if !needed => Ok(String::new()),
            (None, _) => Err(self.unset(from, name, value, &argument)),
        }
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
        ReferenceError { hint: Some(hint), ..self.error(from, message) }
    }

    fn unterminated(&mut self, from: usize) -> ReferenceError {
        self.at = self.text.len();
        let error = self.error(from, "`${` without `}`".into());
        ReferenceError { hint: Some("write `$${` for a literal `${`".into()), ..error }
    }

    fn malformed(&mut self, from: usize) -> ReferenceError {
        self.at = self.text[from..].find('}').map_or(self.text.len(), |end| from + end + 1);
        let error = self.error(from, format!("invalid reference {}", quoted(&self.text[from..self.at])));
        let hint = "write `${VAR}`, `${VAR:-default}` or `${VAR:?message}`; `$${` for a literal `${`";
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
        let variables = Variables { environment: &environment, dotenv: &dotenv };
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
    fn references_are_replaced() {
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
        ] {
            assert_eq!(run(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn wrong_references_say_what_is_wrong_and_where() {
        let set = "set it in the environment or in `.env`, or write a default: `${NO:-…}`";
        for (text, expected) in [
            ("ab${NO}c", format!("2..7 the variable `NO` is not set ({set})")),
            ("${NO:?give it}", format!("0..14 the variable `NO` is not set: give it ({set})")),
            ("${EMPTY?x}", String::new()),
            ("${LOG_LEVL}", "0..11 the variable `LOG_LEVL` is not set (did you mean `LOG_LEVEL`?)".into()),
            ("${A", "0..3 `${` without `}` (write `$${` for a literal `${`)".into()),
            ("${NO:-x", "0..7 `${` without `}` (write `$${` for a literal `${`)".into()),
            ("${context.user}", "0..15 outputs (`${context.…}`) are not supported by this version".into()),
        ] {
            assert_eq!(run(text).err().unwrap_or_default(), expected, "{text}");
        }
        for text in ["${}", "${1}", "${A+b}", "${A b}", "${é}"] {
            assert!(run(text).is_err_and(|e| e.contains("invalid reference")), "{text}");
        }
        assert!(run(&"${A:-".repeat(100_000)).is_err_and(|e| e.contains("nested more than 16 deep")));
    }
}
