//! Variables in the values of compose files and env files.
//!
//! - `$VAR`, `${VAR}`: the variable; nothing, with a warning, if it is not set.
//! - `${VAR:-default}`, `${VAR-default}`: the default if it is not set (with the colon: or empty).
//! - `${VAR:+text}`, `${VAR+text}`: the text if it is set (with the colon: and not empty), otherwise nothing.
//! - `${VAR:?message}`, `${VAR?message}`: an error if it is not set (with the colon: or empty).
//! - `$$`: a literal `$`.
//!
//! Defaults, texts and messages can contain references; braces in them are counted. Any other `$` is literal: `$1`,
//! `$(`. The value of a variable is not substituted again.

use std::ops::Range;

/// Maximum nesting of defaults.
const MAX_NESTING: usize = 32;

/// A text after substitution.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Expanded {
    pub text: String,
    /// True if it contained a reference.
    pub replaced: bool,
    /// Names of the variables that it refers to.
    pub used: Vec<String>,
    /// Variables that are not set and became nothing, with their places in the text.
    pub unset: Vec<(Range<usize>, String)>,
}

/// Error in a reference.
#[derive(Debug, PartialEq, Eq)]
pub struct TemplateError {
    /// Byte range in the text.
    pub span: Range<usize>,
    pub message: String,
    pub hint: Option<String>,
}

/// Substitutes the references of a text.
pub fn expand(template: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Expanded, TemplateError> {
    let mut expander = Expander { template, at: 0, lookup, found: Expanded::default() };
    let text = expander.run(0, true)?;
    Ok(Expanded { text, ..expander.found })
}

struct Expander<'a> {
    template: &'a str,
    at: usize,
    lookup: &'a dyn Fn(&str) -> Option<String>,
    found: Expanded,
}

impl<'a> Expander<'a> {
    fn rest(&self) -> &'a str {
        self.template.get(self.at..).unwrap_or_default()
    }

    /// Expands up to the end or, inside a reference, up to its closing `}`, which is not consumed. If the result is not
    /// `needed`, only checks the syntax.
    fn run(&mut self, nesting: usize, needed: bool) -> Result<String, TemplateError> {
        let mut out = String::new();
        let mut braces = 0usize;
        loop {
            let rest = self.rest();
            let stop = rest.find(|c| c == '$' || (nesting > 0 && (c == '{' || c == '}'))).unwrap_or(rest.len());
            out.push_str(&rest[..stop]);
            self.at += stop;
            match &rest.as_bytes()[stop..] {
                [] => return Ok(out),
                [b'}', ..] if braces == 0 && nesting > 0 => return Ok(out),
                [b'$', b'$', ..] => {
                    out.push('$');
                    self.at += 2;
                }
                [b'$', b'{', ..] => out.push_str(&self.braced(nesting, needed)?),
                [b'$', first, ..] if first.is_ascii_alphabetic() || *first == b'_' => {
                    let from = self.at;
                    self.at += 1;
                    let name = self.name();
                    out.push_str(&self.plain(from, name, needed));
                }
                [other, ..] => {
                    match other {
                        b'{' => braces += 1,
                        b'}' => braces = braces.saturating_sub(1),
                        _ => {}
                    }
                    out.push(char::from(*other));
                    self.at += 1;
                }
            }
        }
    }

    /// Consumes the name of a variable.
    fn name(&mut self) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn value(&mut self, name: &str) -> Option<String> {
        self.found.replaced = true;
        self.found.used.push(name.to_owned());
        (self.lookup)(name)
    }

    /// Returns the value of a reference without a default.
    fn plain(&mut self, from: usize, name: &str, needed: bool) -> String {
        let value = self.value(name);
        if value.is_none() && needed {
            self.found.unset.push((from..self.at, name.to_owned()));
        }
        value.unwrap_or_default()
    }

    /// Expands a reference from `${` to its `}`.
    fn braced(&mut self, nesting: usize, needed: bool) -> Result<String, TemplateError> {
        let from = self.at;
        self.at += 2;
        if nesting >= MAX_NESTING {
            return Err(self.error(from, format!("defaults are nested more than {MAX_NESTING} deep")));
        }
        let name = self.name();
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(self.malformed(from));
        }
        let rest = self.rest();
        if rest.starts_with('}') {
            self.at += 1;
            return Ok(self.plain(from, name, needed));
        }
        let colon = rest.starts_with(':');
        let operator = rest.as_bytes().get(usize::from(colon)).copied();
        let Some(operator @ (b'-' | b'+' | b'?')) = operator else { return Err(self.malformed(from)) };
        self.at += usize::from(colon) + 1;
        let value = self.value(name);
        let known = value.filter(|value| !colon || !value.is_empty());
        let argument_is_needed = needed && known.is_some() == (operator == b'+');
        let argument = self.run(nesting + 1, argument_is_needed)?;
        if self.rest().is_empty() {
            return Err(self.unterminated(from));
        }
        self.at += 1; // the `}`
        match (operator, known) {
            (b'+', known) => Ok(known.map(|_| argument).unwrap_or_default()),
            (_, Some(value)) => Ok(value),
            (b'-', None) => Ok(argument),
            _ if !needed => Ok(String::new()),
            _ => Err(self.required(from, name, colon, &argument)),
        }
    }

    fn required(&self, from: usize, name: &str, colon: bool, message: &str) -> TemplateError {
        let state = if colon { "not set or empty" } else { "not set" };
        let message = match message {
            "" => format!("the variable `{name}` is {state}"),
            message => format!("the variable `{name}` is {state}: {message}"),
        };
        let hint = Some(format!("set {name} in the environment or in `.env`"));
        TemplateError { hint, ..self.error(from, message) }
    }

    fn error(&self, from: usize, message: String) -> TemplateError {
        TemplateError { span: from..self.at.max(from), message, hint: None }
    }

    fn unterminated(&self, from: usize) -> TemplateError {
        let hint = "close it with `}`, or write `$$` for a literal `$`".to_owned();
        TemplateError { hint: Some(hint), ..self.error(from, "unclosed reference to a variable".to_owned()) }
    }

    fn malformed(&mut self, from: usize) -> TemplateError {
        let rest = self.template.get(from..).unwrap_or_default();
        self.at = match rest.find(['}', '\n']) {
            Some(end) => from + end + usize::from(rest[end..].starts_with('}')),
            None => self.template.len(),
        };
        let hint = "write `${NAME}`, `${NAME:-default}`, or `$$` for a literal `$`".to_owned();
        TemplateError { hint: Some(hint), ..self.error(from, "invalid reference to a variable".to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        let known = [("A", "1"), ("EMPTY", ""), ("REFERENCE", "${A}$A"), ("BASE", "b"), ("_x9", "y")];
        known.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    }

    fn text(template: &str) -> String {
        match expand(template, &lookup) {
            Ok(expanded) => expanded.text,
            Err(error) => format!("{}: {}", &template[error.span], error.message),
        }
    }

    #[test]
    fn fact_1_all_forms_are_substituted_and_unset_is_empty() {
        for (template, expected) in [
            ("", ""),
            ("$A-${A}", "1-1"),
            ("$UNSET${UNSET}", ""),
            ("$_x9", "y"),
            ("$Ab", ""),
            ("${A:-x}${EMPTY:-x}${UNSET:-x}", "1xx"),
            ("${A-x}${EMPTY-x}${UNSET-x}", "1x"),
            ("${A:+x}${EMPTY:+x}${UNSET:+x}", "x"),
            ("${A+x}${EMPTY+x}${UNSET+x}", "xx"),
            ("${A:?no}${EMPTY?no}", "1"),
            ("$$A $${A} $$$A", "$A ${A} $1"),
            ("${UNSET:-${EMPTY:-${A}}}", "1"),
            ("${UNSET:?}", "${UNSET:?}: the variable `UNSET` is not set or empty"),
            ("${EMPTY:?give $A}", "${EMPTY:?give $A}: the variable `EMPTY` is not set or empty: give 1"),
            ("x ${UNSET?m}", "${UNSET?m}: the variable `UNSET` is not set: m"),
        ] {
            assert_eq!(text(template), expected, "{template}");
        }
        let expanded = expand("a $X ${Y} ${Z:-$W}", &lookup).unwrap();
        let unset: Vec<&str> = expanded.unset.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(unset, ["X", "Y", "W"]);
        assert_eq!(expanded.used, ["X", "Y", "Z", "W"]);
    }

    #[test]
    fn fact_2_braces_are_counted_and_the_first_operator_decides() {
        for (template, expected) in [
            ("${UNSET:-a/{id}}", "a/{id}"),
            ("${A:-a/{id}}", "1"),
            ("${UNSET:-{}}", "{}"),
            ("${UNSET:-{\"a\": {\"b\": \"${A}\"}}}!", "{\"a\": {\"b\": \"1\"}}!"),
            ("${UNSET:-x:?y+z-w}", "x:?y+z-w"),
            ("${UNSET-:-x}", ":-x"),
            ("$1 $( $ $. x$", "$1 $( $ $. x$"),
            ("${1}", "${1}: invalid reference to a variable"),
            ("${a.b}", "${a.b}: invalid reference to a variable"),
            ("${}", "${}: invalid reference to a variable"),
            ("${A:}", "${A:}: invalid reference to a variable"),
            ("${A", "${A: invalid reference to a variable"),
            ("${A:-{}", "${A:-{}: unclosed reference to a variable"),
            ("${A:-${1}}", "${1}: invalid reference to a variable"),
        ] {
            assert_eq!(text(template), expected, "{template}");
        }
    }

    #[test]
    fn pitfall_7_a_variable_may_default_its_own_name() {
        assert_eq!(text("${BASE:-http://h/{id}}|${A:+verbose}|${UNSET:-$UNSET}"), "b|verbose|");
    }

    #[test]
    fn values_are_not_substituted_again() {
        assert_eq!(text("$REFERENCE ${REFERENCE:-x}"), "${A}$A ${A}$A");
    }

    #[test]
    fn deep_nesting_is_an_error() {
        let template = format!("{}x{}", "${U:-".repeat(1000), "}".repeat(1000));
        assert!(text(&template).ends_with("defaults are nested more than 32 deep"));
    }
}
