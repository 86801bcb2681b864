//! What a change of a mounted file means.

use super::*;

read_shaped! { OnChange }

/// Long form: a signal.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LongOnChange {
    /// Send this signal to the container.
    signal: Signal,
}

const WORDS: [(&str, OnChange); 3] =
    [("restart", OnChange::Restart), ("replace", OnChange::Replace), ("ignore", OnChange::Ignore)];

impl<'de> Shape<'de> for OnChange {
    const EXPECTED: &'static str = "`restart`, `replace`, `ignore` or `{signal: HUP}`";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        word(text, &WORDS, Self::EXPECTED)
    }

    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        Ok(Self::Signal(LongOnChange::deserialize(MapAccessDeserializer::new(map))?.signal))
    }
}

impl Serialize for OnChange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            OnChange::Restart => serializer.serialize_str("restart"),
            OnChange::Replace => serializer.serialize_str("replace"),
            OnChange::Ignore => serializer.serialize_str("ignore"),
            OnChange::Signal(signal) => LongOnChange { signal: signal.clone() }.serialize(serializer),
        }
    }
}

both_forms!(
    OnChange,
    LongOnChange,
    "What happens when a mounted file changes.",
    ["restart", {"signal": "HUP"}],
    [{"oneOf": [
        {"const": "restart", "description": "The container is restarted."},
        {"const": "replace", "description": "The container is replaced."},
        {"const": "ignore", "description": "Nothing."}
    ]}]
);
