//! The name of a project.

use super::super::node::Node;
use super::super::value::quoted;
use super::values::text;

/// Lower-cases a name and deletes the characters that it must not have.
pub(super) fn normalize(name: &str) -> String {
    let lower = name.to_lowercase();
    let kept: String =
        lower.chars().filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(*c)).collect();
    kept.trim_start_matches(['_', '-']).to_owned()
}

/// Checks a name that was given explicitly, which is not normalized.
pub(super) fn check(name: &str, origin: &str) -> Result<(), (String, String)> {
    if normalize(name) == name {
        return Ok(());
    }
    let message = format!("invalid project name {} in {origin}", quoted(name));
    Err((message, "use a-z, 0-9, `_` and `-`, and begin with a letter or digit".to_owned()))
}

/// Returns the last `name` that is not empty, with its document.
pub(super) fn last_name(documents: &[Node]) -> Option<&Node> {
    let mut names = documents.iter().filter_map(|document| document.get("name"));
    names.rfind(|name| text(name).is_some_and(|name| !name.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fact_6_characters_are_deleted_from_names() {
        for (name, expected) in [
            ("My.Shop", "myshop"),
            ("_x", "x"),
            ("-_-a_b-c", "a_b-c"),
            ("ÄB 1", "b1"),
            ("...", ""),
            ("Kelvin\u{212a}", "kelvink"),
        ] {
            assert_eq!(normalize(name), expected);
        }
    }

    #[test]
    fn fact_6_an_explicit_name_is_not_changed() {
        assert_eq!(check("my_shop-1", "`-p`"), Ok(()));
        let (message, _) = check("My.Shop", "`COMPOSE_PROJECT_NAME`").unwrap_err();
        assert_eq!(message, "invalid project name `My.Shop` in `COMPOSE_PROJECT_NAME`");
    }
}
