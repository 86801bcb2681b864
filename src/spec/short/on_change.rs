//! What a change of a mounted file means.

use super::*;

read_shaped! { OnChange }

/// Long form: a signal.
#[derive(Deserialize, JsonSchema)]
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
        let unknown = || {
            let hint = match closest(text, WORDS.iter().map(|(word, _)| *word)) {
                Some(word) => format!("did you mean `{word}`?"),
                None => format!("write {}", Self::EXPECTED),
            };
            Invalid::new(format!("unknown value {}", quoted(text))).hint(hint)
        };
        WORDS.into_iter().find(|(word, _)| *word == text).map(|(_, value)| value).ok_or_else(unknown)
    }

    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        Ok(Self::Signal(LongOnChange::deserialize(MapAccessDeserializer::new(map))?.signal))
    }
}

impl Serialize for OnChange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let OnChange::Signal(signal) = self {
            let mut map = serializer.serialize_map(Some(1))?;
            map.serialize_entry("signal", signal)?;
            return map.end();
        }
        let word = WORDS.into_iter().find(|(_, value)| value == self).map_or("restart", |(word, _)| word);
        serializer.serialize_str(word)
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
