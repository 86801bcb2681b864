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

/// A part of a template.
#[derive(Debug, PartialEq, Eq)]
pub enum Part<'t> {
    /// Literal text; `$$` is `$` here.
    Text(&'t str),
    Reference(Reference<'t>),
}

/// A reference to a variable.
#[derive(Debug, PartialEq, Eq)]
pub struct Reference<'t> {
    /// Byte range in the template.
    span: Range<usize>,
    pub name: &'t str,
    /// What follows the name.
    pub otherwise: Option<Otherwise<'t>>,
}

/// What a reference means other than the value of its variable.
#[derive(Debug, PartialEq, Eq)]
pub struct Otherwise<'t> {
    pub operator: Operator,
    /// With a colon: an empty value counts as not set.
    pub colon: bool,
    /// The default, text or message.
    pub argument: Vec<Part<'t>>,
}

/// The operator of a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `-`: a default.
    Default,
    /// `+`: a text instead of the value.
    Replacement,
    /// `?`: an error.
    Required,
}

impl Operator {
    const ALL: [(Operator, char); 3] =
        [(Operator::Default, '-'), (Operator::Replacement, '+'), (Operator::Required, '?')];

    /// Returns the character that is written for it.
    pub fn symbol(self) -> char {
        Operator::ALL.into_iter().find(|(known, _)| *known == self).map_or('-', |(_, symbol)| symbol)
    }
}

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
    /// Variables that are required and not set, where that is no error.
    pub missing: Vec<TemplateError>,
}

/// Error in a reference.
#[derive(Debug, PartialEq, Eq)]
pub struct TemplateError {
    /// Byte range in the text.
    pub span: Range<usize>,
    pub message: String,
    pub hint: Option<String>,
}

impl TemplateError {
    fn new(span: Range<usize>, message: impl Into<String>, hint: impl Into<String>) -> TemplateError {
        TemplateError { span, message: message.into(), hint: Some(hint.into()) }
    }
}

/// Substitutes the references of a text.
pub fn expand(template: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Expanded, TemplateError> {
    let mut expanded = expand_leniently(template, lookup)?;
    if expanded.missing.is_empty() { Ok(expanded) } else { Err(expanded.missing.swap_remove(0)) }
}

/// The same; a required variable that is not set is nothing, and reported in the result.
pub fn expand_leniently(template: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Expanded, TemplateError> {
    let mut evaluation = Evaluation { lookup, found: Expanded::default() };
    let text = evaluation.text_of(&parse(template)?, true);
    Ok(Expanded { text, ..evaluation.found })
}

/// Parses a template.
pub fn parse(template: &str) -> Result<Vec<Part<'_>>, TemplateError> {
    Parser { template, at: 0 }.parts(0)
}

/// Returns the names of the variables that a template refers to, in defaults too.
pub fn names<'t>(parts: &[Part<'t>]) -> Vec<&'t str> {
    let mut names = Vec::new();
    for part in parts {
        if let Part::Reference(Reference { name, otherwise, .. }) = part {
            names.push(*name);
            names.extend(otherwise.iter().flat_map(|otherwise| self::names(&otherwise.argument)));
        }
    }
    names
}

struct Parser<'t> {
    template: &'t str,
    at: usize,
}

impl<'t> Parser<'t> {
    fn rest(&self) -> &'t str {
        self.template.get(self.at..).unwrap_or_default()
    }

    /// Parses up to the end or, inside a reference, up to its closing `}`, which is not consumed.
    fn parts(&mut self, nesting: usize) -> Result<Vec<Part<'t>>, TemplateError> {
        let mut parts = Vec::new();
        let (mut from, mut braces) = (self.at, 0usize);
        loop {
            let rest = self.rest();
            let stop = rest.find(|c| c == '$' || (nesting > 0 && (c == '{' || c == '}'))).unwrap_or(rest.len());
            self.at += stop;
            match &rest.as_bytes()[stop..] {
                [] => break,
                [b'}', ..] if braces == 0 && nesting > 0 => break,
                [b'$', b'$', ..] => {
                    parts.extend(self.literal(from..self.at + 1));
                    self.at += 2;
                    from = self.at;
                }
                [b'$', next, ..] if *next == b'{' || next.is_ascii_alphabetic() || *next == b'_' => {
                    parts.extend(self.literal(from..self.at));
                    parts.push(Part::Reference(self.reference(nesting)?));
                    from = self.at;
                }
                [other, ..] => {
                    match other {
                        b'{' => braces += 1,
                        b'}' => braces = braces.saturating_sub(1),
                        _ => {}
                    }
                    self.at += 1;
                }
            }
        }
        parts.extend(self.literal(from..self.at));
        Ok(parts)
    }

    fn literal(&self, range: Range<usize>) -> Option<Part<'t>> {
        self.template.get(range).filter(|text| !text.is_empty()).map(Part::Text)
    }

    /// Parses a reference from its `$`.
    fn reference(&mut self, nesting: usize) -> Result<Reference<'t>, TemplateError> {
        let from = self.at;
        let is_braced = self.rest().starts_with("${");
        self.at += if is_braced { 2 } else { 1 };
        if is_braced && nesting >= MAX_NESTING {
            let message = format!("defaults are nested more than {MAX_NESTING} deep");
            return Err(TemplateError { hint: None, ..TemplateError::new(from..self.at, message, "") });
        }
        let name = self.name();
        if !is_braced {
            return Ok(Reference { span: from..self.at, name, otherwise: None });
        }
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(self.malformed(from));
        }
        let mut otherwise = None;
        if !self.rest().starts_with('}') {
            let colon = self.rest().starts_with(':');
            let symbol = self.rest().chars().nth(usize::from(colon));
            let operator = Operator::ALL.into_iter().find(|(_, known)| Some(*known) == symbol);
            let Some((operator, _)) = operator else { return Err(self.malformed(from)) };
            self.at += usize::from(colon) + 1;
            otherwise = Some(Otherwise { operator, colon, argument: self.parts(nesting + 1)? });
        }
        if self.rest().is_empty() {
            let hint = "close it with `}`, or write `$$` for a literal `$`";
            return Err(TemplateError::new(from..self.at, "unclosed reference to a variable", hint));
        }
        self.at += 1; // the `}`
        Ok(Reference { span: from..self.at, name, otherwise })
    }

    /// Consumes the name of a variable.
    fn name(&mut self) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn malformed(&self, from: usize) -> TemplateError {
        let rest = self.template.get(from..).unwrap_or_default();
        let end = match rest.find(['}', '\n']) {
            Some(end) => from + end + usize::from(rest[end..].starts_with('}')),
            None => self.template.len(),
        };
        let hint = "write `${NAME}`, `${NAME:-default}`, or `$$` for a literal `$`";
        TemplateError::new(from..end, "invalid reference to a variable", hint)
    }
}

struct Evaluation<'l> {
    lookup: &'l dyn Fn(&str) -> Option<String>,
    found: Expanded,
}

impl Evaluation<'_> {
    /// Returns the text of some parts. If it is not `needed`, what is missing is no error.
    fn text_of(&mut self, parts: &[Part<'_>], needed: bool) -> String {
        let mut text = String::new();
        for part in parts {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Reference(reference) => text.push_str(&self.value_of(reference, needed)),
            }
        }
        text
    }

    fn value_of(&mut self, reference: &Reference<'_>, needed: bool) -> String {
        let Reference { span, name, otherwise } = reference;
        self.found.replaced = true;
        self.found.used.push((*name).to_owned());
        let value = (self.lookup)(name);
        let Some(Otherwise { operator, colon, argument }) = otherwise else {
            if value.is_none() && needed {
                self.found.unset.push((span.clone(), (*name).to_owned()));
            }
            return value.unwrap_or_default();
        };
        let known = value.filter(|value| !colon || !value.is_empty());
        let argument_is_needed = needed && known.is_some() == (*operator == Operator::Replacement);
        let argument = self.text_of(argument, argument_is_needed);
        match (operator, known) {
            (Operator::Replacement, known) => known.map(|_| argument).unwrap_or_default(),
            (_, Some(value)) => value,
            (Operator::Default, None) => argument,
            (Operator::Required, None) => {
                let state = if *colon { "not set or empty" } else { "not set" };
                let message = match argument.as_str() {
                    "" => format!("the variable `{name}` is {state}"),
                    message => format!("the variable `{name}` is {state}: {message}"),
                };
                let hint = format!("set {name} in the environment or in `.env`");
                if needed {
                    self.found.missing.push(TemplateError::new(span.clone(), message, hint));
                }
                String::new()
            }
        }
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
