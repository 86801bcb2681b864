//! Process limits.

use super::*;

read_shaped! { Ulimit }

/// Long form of a ulimit; -1 means unlimited.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LongUlimit {
    /// Soft limit: the effective value.
    soft: i64,
    /// Hard limit: the maximum to which the process may raise the soft limit.
    hard: i64,
}

impl Ulimit {
    fn new(soft: i64, hard: i64) -> Result<Self, Invalid> {
        let order = |limit: i64| if limit == -1 { i64::MAX } else { limit };
        if soft < -1 || hard < -1 {
            return Err(Invalid::new("a limit must not be negative").hint("write -1 for unlimited"));
        }
        match order(soft) > order(hard) {
            true => Err(Invalid::new(format!("the soft limit {soft} is above the hard limit {hard}"))),
            false => Ok(Self { soft, hard }),
        }
    }
}

impl<'de> Shape<'de> for Ulimit {
    const EXPECTED: &'static str = "a limit: a number, or `{soft: 1024, hard: 2048}`";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        match text.parse() {
            Ok(limit) => Self::new(limit, limit),
            Err(_) => Err(Invalid::new(format!("invalid limit {}", quoted(text)))
                .hint("write a number, or `{soft: 1024, hard: 2048}`")),
        }
    }

    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        let long = LongUlimit::deserialize(MapAccessDeserializer::new(map))?;
        Self::new(long.soft, long.hard).map_err(de::Error::custom)
    }
}

impl Serialize for Ulimit {
    /// Writes one number if both limits are equal.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.soft == self.hard {
            return serializer.serialize_i64(self.soft);
        }
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("soft", &self.soft)?;
        map.serialize_entry("hard", &self.hard)?;
        map.end()
    }
}

both_forms!(
    Ulimit,
    LongUlimit,
    "A ulimit: one number for both, or soft and hard; -1 means unlimited.",
    [1024, {"soft": 1024, "hard": 2048}],
    [{"type": "integer", "minimum": -1}]
);
