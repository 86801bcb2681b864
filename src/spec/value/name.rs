//! Names of services, environment variables, outputs and capabilities.

use super::*;

/// Name of a service, group, volume or network: lower-case letters, digits, `-` and `_`, beginning and ending with a
/// letter or digit, at most 63 characters. No dots: `.new` is the suffix of candidate containers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

const MAX_NAME_LENGTH: usize = 63;

impl FromStr for Name {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid_name = |why: String| Err(Invalid::new(format!("invalid name {}: {why}", quoted(text))));
        let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        if text.is_empty() {
            return Err(Invalid::new("a name must not be empty"));
        }
        if text.len() > MAX_NAME_LENGTH {
            return invalid_name(format!("{} characters, the maximum is {MAX_NAME_LENGTH}", text.chars().count()));
        }
        if text.chars().any(|c| c.is_ascii_uppercase()) && text.to_ascii_lowercase().parse::<Self>().is_ok() {
            let lower = text.to_ascii_lowercase();
            return invalid_name("it must be lower case".into())
                .map_err(|e| e.hint(format!("did you mean `{lower}`?")));
        }
        if let Some(c) = text.chars().find(|&c| !alphanumeric(c) && c != '-' && c != '_') {
            return invalid_name(format!("{} is not allowed; use a-z, 0-9, `-` and `_`", quoted(&c.to_string())));
        }
        if !text.starts_with(alphanumeric) || !text.ends_with(alphanumeric) {
            return invalid_name("it must begin and end with a letter or digit".into());
        }
        Ok(Self(text.into()))
    }
}

text_value!(Name, text_only, "a name", {
    "type": "string",
    "title": "name",
    "description": "Lower-case letters, digits, `-` and `_`; begins and ends with a letter or digit; at most 63 characters.",
    "pattern": "^[a-z0-9]([a-z0-9_-]*[a-z0-9])?$",
    "maxLength": 63,
    "examples": ["appdb", "todo-web"]
});

/// Name of a group: as that of a service, but it may end with `-` or `_`, as projects of docker compose may.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupName(String);

impl FromStr for GroupName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let start = text.trim_end_matches(['-', '_']);
        if start.is_empty() || text.len() > MAX_NAME_LENGTH { text } else { start }.parse::<Name>()?;
        Ok(Self(text.into()))
    }
}

text_value!(GroupName, text_only, "a name", {
    "type": "string",
    "title": "name",
    "description": "Lower-case letters, digits, `-` and `_`; begins with a letter or digit; at most 63 characters.",
    "pattern": "^[a-z0-9][a-z0-9_-]*$",
    "maxLength": 63,
    "examples": ["shop"]
});

/// Name of a profile: letters, digits, `_`, `.` and `-`, beginning with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProfileName(String);

/// Name of a config or secret, with the same characters as that of a profile.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName(String);

/// Checks the name of a profile, config or secret, or on the engine.
fn check_word(text: &str, noun: &str) -> Result<(), Invalid> {
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    match text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(valid) {
        true => Ok(()),
        false => Err(Invalid::new(format!("invalid {noun} {}", quoted(text)))
            .hint("write letters, digits, `_`, `.` and `-`, beginning with a letter or digit")),
    }
}

impl FromStr for ProfileName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        check_word(text, "profile").map(|()| Self(text.into()))
    }
}

impl FromStr for FileName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        check_word(text, "name").map(|()| Self(text.into()))
    }
}

text_value!(FileName, text_only, "the name of a config or secret", {
    "type": "string",
    "description": "Name of a config or secret.",
    "pattern": "^[a-zA-Z0-9][a-zA-Z0-9_.-]*$"
});

text_value!(ProfileName, text_only, "the name of a profile", {
    "type": "string",
    "description": "Name of a profile.",
    "pattern": "^[a-zA-Z0-9][a-zA-Z0-9_.-]*$"
});

/// Name of a network or volume on the engine, with the same characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EngineName(String);

impl FromStr for EngineName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        check_word(text, "name on the engine").map(|()| Self(text.into()))
    }
}

text_value!(EngineName, text_only, "a name", {
    "type": "string",
    "description": "Name on the engine: letters, digits, `.`, `-` and `_`; begins with a letter or digit.",
    "pattern": "^[a-zA-Z0-9][a-zA-Z0-9_.-]*$",
    "examples": ["shop_data"]
});

/// A Linux capability: `NET_ADMIN`, `ALL`; a `CAP_` prefix and lower case are accepted and normalized.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability(String);

impl FromStr for Capability {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        match !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_') {
            true => Ok(Self(name.into())),
            false => Err(Invalid::new(format!("invalid capability {}", quoted(text)))
                .hint("write for example `NET_ADMIN`, or `ALL`")),
        }
    }
}

text_value!(Capability, text_only, "a capability such as `NET_ADMIN`", {
    "type": "string",
    "description": "Linux capability, or `ALL`.",
    "pattern": "^[A-Za-z_]+$",
    "examples": ["NET_ADMIN", "ALL"]
});

/// Name of an environment variable: not empty, without `=`, white space and control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnvName(String);

impl FromStr for EnvName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() {
            return Err(Invalid::new("an environment variable name must not be empty"));
        }
        match text.chars().find(|c| *c == '=' || c.is_whitespace() || c.is_control()) {
            None => Ok(Self(text.into())),
            Some(c) => {
                let invalid = Invalid::new(format!("invalid environment variable name {}", quoted(text)));
                Err(match c {
                    '=' => invalid.hint("write `KEY: value`, not `KEY=value`"),
                    _ => invalid.hint("a name must not contain white space"),
                })
            }
        }
    }
}

text_value!(EnvName, text_only, "an environment variable name", {
    "type": "string",
    "description": "Name of an environment variable: not empty, without `=` and white space.",
    "pattern": "^[^=\\s]+$",
    "examples": ["LOG_LEVEL"]
});

/// Output key, as in `capture: user_id` and `${context.user_id}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutputKey(String);

impl FromStr for OutputKey {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let word = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if word && text.starts_with(|c: char| !c.is_ascii_digit()) {
            return Ok(Self(text.into()));
        }
        Err(Invalid::new(format!("invalid output key {}", quoted(text)))
            .hint("use letters, digits and `_`, beginning with a letter or `_`"))
    }
}

text_value!(OutputKey, text_only, "an output key", {
    "type": "string",
    "description": "Output key: letters, digits and `_`; used as `${context.key}`.",
    "pattern": "^[A-Za-z_][A-Za-z0-9_]*$",
    "examples": ["user_id"]
});

#[cfg(test)]
mod tests {
    use super::super::tests::canonical;
    use super::*;

    #[test]
    fn names() {
        let long = "a".repeat(63);
        let longer = "a".repeat(64);
        let good = ["a", "a1", "my-app_2", "0", &long];
        let bad = ["", "-a", "a-", "_a", "A", "a.b", "a.new", "a b", "\u{e9}", "a/b", &longer];
        canonical::<Name>(&good.map(|name| (name, name)));
        canonical::<Name>(&bad.map(|name| (name, "")));
        canonical::<GroupName>(&["a", "a-", "my-shop_", "0", &long].map(|name| (name, name)));
        canonical::<GroupName>(&["", "-", "-a", "_a", "A-", "a.b", "a b", &longer].map(|name| (name, "")));
    }
}
