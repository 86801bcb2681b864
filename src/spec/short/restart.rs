//! Restart policies.

use super::*;

read_shaped! { RestartPolicy }
write_displayed! { RestartPolicy }

impl FromStr for RestartPolicy {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let words = "write `no`, `always`, `unless-stopped`, `on-failure` or `on-failure:5`";
        let wrong = || Invalid::new(format!("unknown restart policy {}", quoted(text)));
        match text {
            "no" => Ok(Self::No),
            "always" => Ok(Self::Always),
            "unless-stopped" => Ok(Self::UnlessStopped),
            "on-failure" => Ok(Self::OnFailure(0)),
            "false" => Err(wrong().hint("write `no`")),
            "true" => Err(wrong().hint("write `always`")),
            _ => match text.strip_prefix("on-failure:").map(str::parse::<u32>) {
                // The engine expects a signed number.
                Some(Ok(times)) if i32::try_from(times).is_ok() => Ok(Self::OnFailure(times)),
                _ => Err(wrong().hint(words)),
            },
        }
    }
}

impl fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No => f.write_str("no"),
            Self::Always => f.write_str("always"),
            Self::UnlessStopped => f.write_str("unless-stopped"),
            Self::OnFailure(0) => f.write_str("on-failure"),
            Self::OnFailure(times) => write!(f, "on-failure:{times}"),
        }
    }
}

impl<'de> Shape<'de> for RestartPolicy {
    const EXPECTED: &'static str = "a restart policy such as `always`";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl JsonSchema for RestartPolicy {
    fn schema_name() -> Cow<'static, str> {
        "RestartPolicy".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Docker restart policy.",
            "anyOf": [
                {"enum": ["no", "always", "unless-stopped", "on-failure"]},
                {"type": "string", "pattern": "^on-failure:[0-9]+$"}
            ]
        })
    }
}
