//! When to pull an image.

use super::*;

read_shaped! { Pull }

/// Long form: in every `up`; while watching, again each time this period has passed.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LongPull {
    /// In every `up`; while watching, again each time this period has passed.
    every: Period,
}

const WORDS: [(&str, Pull); 3] = [("missing", Pull::Missing), ("always", Pull::Always), ("never", Pull::Never)];

impl<'de> Shape<'de> for Pull {
    const EXPECTED: &'static str = "`missing`, `always`, `never` or `{every: 1h}`";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        word(text, &WORDS, Self::EXPECTED)
    }

    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        let long = LongPull::deserialize(MapAccessDeserializer::new(map))?;
        match long.every.get().is_zero() {
            true => Err(de::Error::custom("`every` must be more than 0")),
            false => Ok(Self::Every(long.every)),
        }
    }
}

impl Serialize for Pull {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Pull::Missing => serializer.serialize_str("missing"),
            Pull::Always => serializer.serialize_str("always"),
            Pull::Never => serializer.serialize_str("never"),
            Pull::Every(every) => LongPull { every: *every }.serialize(serializer),
        }
    }
}

both_forms!(
    Pull,
    LongPull,
    "When to pull an image.",
    ["always", {"every": "1h"}],
    [{"oneOf": [
        {"const": "missing", "description": "When the image is not present locally."},
        {"const": "always", "description": "In every `up`; while watching, at its start."},
        {"const": "never", "description": "Never: a missing image is an error."}
    ]}]
);
