//! Templates of compose files in the syntax of specs.
//!
//! The two differ: specs have no `$VAR`, and a variable that is not set is an error unless the reference says otherwise.

use super::super::template::{Operator, Otherwise, Part, Reference};

/// What is known about a variable.
pub(super) enum Variable<'v> {
    /// Compose gives it this value; specs do not know it.
    Fixed(&'v str),
    Set,
    Unset,
}

/// Returns a template in the syntax of specs.
pub(super) fn rewrite<'v>(parts: &[Part<'_>], variable: &dyn Fn(&str) -> Variable<'v>) -> String {
    let mut out = String::new();
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(&escape(text)),
            Part::Reference(reference) => out.push_str(&reference_text(reference, variable)),
        }
    }
    out
}

/// Returns literal text as specs have it.
pub(super) fn escape(text: &str) -> String {
    text.replace('$', "$$")
}

fn reference_text<'v>(reference: &Reference<'_>, variable: &dyn Fn(&str) -> Variable<'v>) -> String {
    let Reference { name, otherwise, .. } = reference;
    match (variable(name), otherwise) {
        (Variable::Fixed(_), Some(Otherwise { operator: Operator::Replacement, argument, .. })) => {
            rewrite(argument, variable)
        }
        (Variable::Fixed(value), _) => escape(value),
        (_, Some(Otherwise { operator, colon, argument })) => {
            let colon = if *colon { ":" } else { "" };
            format!("${{{name}{colon}{}{}}}", operator.symbol(), rewrite(argument, variable))
        }
        (Variable::Set, None) => format!("${{{name}}}"),
        (Variable::Unset, None) => format!("${{{name}:-}}"),
    }
}

/// Splits a template at a character that is neither in a reference nor in its default.
pub(super) fn split(template: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut from, mut depth) = (0, 0usize);
    let mut previous = ' ';
    for (at, c) in template.char_indices() {
        match c {
            '{' if depth > 0 || previous == '$' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            c if c == separator && depth == 0 => {
                parts.push(&template[from..at]);
                from = at + c.len_utf8();
            }
            _ => {}
        }
        previous = c;
    }
    parts.push(&template[from..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::super::super::template::parse;
    use super::*;

    #[test]
    fn templates_are_rewritten() {
        let variable = |name: &str| match name {
            "PROJECT" => Variable::Fixed("shop"),
            "SET" => Variable::Set,
            _ => Variable::Unset,
        };
        for (template, expected) in [
            ("a", "a"),
            ("$SET-${SET}", "${SET}-${SET}"),
            ("$UNSET-${UNSET}", "${UNSET:-}-${UNSET:-}"),
            ("${UNSET:-a $SET}", "${UNSET:-a ${SET}}"),
            ("${UNSET-}${SET+x}${SET:?why $$}", "${UNSET-}${SET+x}${SET:?why $$}"),
            ("${SET:-{\"a\": {}}}", "${SET:-{\"a\": {}}}"),
            ("$$HOME $1 $(x)", "$$HOME $$1 $$(x)"),
            ("${PROJECT}_x ${PROJECT:-y} ${PROJECT:+z}", "shop_x shop z"),
        ] {
            assert_eq!(rewrite(&parse(template).unwrap(), &variable), expected, "{template}");
        }
    }

    #[test]
    fn templates_are_split_outside_of_references() {
        for (template, expected) in [
            ("a:b", vec!["a", "b"]),
            ("${A:-x:y}:${B}:ro", vec!["${A:-x:y}", "${B}", "ro"]),
            ("${A:-{:}}:b", vec!["${A:-{:}}", "b"]),
            ("", vec![""]),
            ("}:{", vec!["}", "{"]),
        ] {
            assert_eq!(split(template, ':'), expected, "{template}");
        }
    }
}
