//! Scalar values of specs: names, images, durations, sizes and the like.
//!
//! Each type accepts only valid values, explains why a text is invalid, and has one canonical form, so that different
//! notations of a value compare equal. The decoder adds source spans to errors.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// Implements access, printing, (de)serialization and schema for values stored as text.
macro_rules! text_value {
    ($type:ident, $read:ident, $expected:literal, $schema:tt) => {
        impl $type {
            /// Returns the canonical text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.0
            }
        }

        impl PartialEq<str> for $type {
            fn eq(&self, other: &str) -> bool {
                self.0 == other
            }
        }

        impl PartialEq<&str> for $type {
            fn eq(&self, other: &&str) -> bool {
                self.0 == *other
            }
        }

        impl TryFrom<String> for $type {
            type Error = Invalid;
            fn try_from(text: String) -> Result<Self, Invalid> {
                text.parse()
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        read_value!($type, $read, $expected, $schema);
    };
}

/// Implements deserialization and schema for values parsed from a scalar with `FromStr`.
macro_rules! read_value {
    ($type:ident, $read:ident, $expected:literal, $schema:tt) => {
        impl<'de> Shape<'de> for $type {
            const EXPECTED: &'static str = $expected;
            fn from_text(text: &str) -> Result<Self, Invalid> {
                text.parse()
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $read(deserializer)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

// The modules use the macros above.
mod host;
mod http;
mod image;
mod mode;
mod name;
mod signal;
mod size;
mod subnet;
mod text;
mod time;

pub use self::host::*;
pub use self::http::*;
pub use self::image::*;
pub use self::mode::*;
pub use self::name::*;
pub use self::signal::*;
pub use self::size::*;
pub use self::subnet::*;
pub use self::text::*;
pub use self::time::*;

/// Error for an invalid value, with an optional hint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Invalid {
    /// Lower case, no final period.
    pub message: String,
    /// How to fix the error.
    pub hint: Option<String>,
}

impl Invalid {
    /// Creates an error without a hint.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Invalid {
    /// Puts the hint on its own line, because serde errors carry a single text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n{hint}"),
            None => Ok(()),
        }
    }
}

/// Formats spec text for an error message: in backquotes, truncated if long, control characters escaped.
pub(super) fn quoted(text: &str) -> String {
    const MAX_LENGTH: usize = 60;
    let mut shown: String = text.chars().take(MAX_LENGTH).flat_map(escaped).collect();
    if text.chars().nth(MAX_LENGTH).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

fn escaped(c: char) -> impl Iterator<Item = char> {
    let escaped = c.is_control().then(|| c.escape_default());
    let plain = escaped.is_none().then_some(c);
    escaped.into_iter().flatten().chain(plain)
}

/// Newtype name that requests the unresolved text of a scalar from the decoder.
///
/// Other deserializers treat it as an ordinary newtype; the visitor then converts numbers and booleans to text.
pub(super) const VERBATIM: &str = "drillmaster::verbatim";

/// Like [`VERBATIM`], for values that may be null.
pub(super) const VERBATIM_OR_NULL: &str = "drillmaster::verbatim-or-null";

/// Newtype name that requests a function of a program from the decoder.
pub(super) const FUNCTION: &str = "drillmaster::function";

/// A value with several notations: scalar, list or map.
pub(super) trait Shape<'de>: Sized {
    /// Noun phrase for "expected …" messages: "a port", "a duration such as `10s`".
    const EXPECTED: &'static str;

    /// Newtype name that is requested from the decoder.
    const REQUEST: &'static str = VERBATIM;

    /// Returns the value of null, if that is one.
    fn null() -> Option<Self> {
        None
    }

    /// Parses a scalar's text.
    fn from_text(text: &str) -> Result<Self, Invalid>;

    /// Parses a list. Rejected by default.
    fn from_list<A: SeqAccess<'de>>(_list: A) -> Result<Self, A::Error> {
        Err(de::Error::invalid_type(de::Unexpected::Seq, &Self::EXPECTED))
    }

    /// Parses a map. Rejected by default.
    fn from_map<A: MapAccess<'de>>(_map: A) -> Result<Self, A::Error> {
        Err(de::Error::invalid_type(de::Unexpected::Map, &Self::EXPECTED))
    }
}

/// Deserializes a value with several notations.
pub(super) fn shaped<'de, D: Deserializer<'de>, S: Shape<'de>>(deserializer: D) -> Result<S, D::Error> {
    deserializer.deserialize_newtype_struct(S::REQUEST, ShapeVisitor(PhantomData))
}

struct ShapeVisitor<S>(PhantomData<S>);

impl<'de, S: Shape<'de>> Visitor<'de> for ShapeVisitor<S> {
    type Value = S;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(S::EXPECTED)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<S, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_unit<E: de::Error>(self) -> Result<S, E> {
        S::null().ok_or_else(|| E::invalid_type(de::Unexpected::Unit, &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<S, E> {
        S::from_text(text).map_err(E::custom)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<S, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<S, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<S, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<S, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<S, A::Error> {
        S::from_list(list)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<S, A::Error> {
        S::from_map(map)
    }
}

/// Deserializes a value that must be text: `image: 80` is rejected.
fn text_only<'de, D: Deserializer<'de>, S: Shape<'de>>(deserializer: D) -> Result<S, D::Error> {
    struct TextVisitor<S>(PhantomData<S>);
    impl<'de, S: Shape<'de>> Visitor<'de> for TextVisitor<S> {
        type Value = S;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(S::EXPECTED)
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<S, E> {
            S::from_text(text).map_err(E::custom)
        }
    }
    deserializer.deserialize_str(TextVisitor(PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses each text and compares its canonical form. An empty expectation stands for an error.
    pub(super) fn canonical<T: FromStr<Err = Invalid> + fmt::Display>(cases: &[(&str, &str)]) {
        for (text, expected) in cases {
            match text.parse::<T>() {
                Ok(value) => {
                    assert_eq!(value.to_string(), *expected, "{text}");
                    let again = value.to_string().parse::<T>().map(|again| again.to_string());
                    assert_eq!(again.as_deref(), Ok(*expected), "{text}, parsed again");
                }
                Err(error) => assert_eq!(*expected, "", "{text}: {error}"),
            }
        }
    }

    #[test]
    fn values_are_deserialized_from_json() {
        fn read<T: de::DeserializeOwned + Serialize>(json: &str) -> String {
            // Deserialize through `serde_json::Value`: with `arbitrary_precision`, numbers in text deserialize as maps.
            let read = |json: &str| serde_json::from_value(serde_json::from_str(json).unwrap()).unwrap();
            let value: T = read(json);
            let written = serde_json::to_string(&value).unwrap();
            let again: T = read(&written);
            assert_eq!(serde_json::to_string(&again).unwrap(), written);
            written
        }
        assert_eq!(read::<Text>("80"), "\"80\"");
        assert_eq!(read::<Text>("true"), "\"true\"");
        assert_eq!(read::<Words>("[\"a\", 1]"), "[\"a\",\"1\"]");
        assert_eq!(read::<Words>("\"a 1\""), "[\"a\",\"1\"]");
        assert_eq!(read::<OneOrMany<String>>("\"a\""), "[\"a\"]");
        assert_eq!(read::<OneOrMany<String>>("[\"a\", \"b\"]"), "[\"a\",\"b\"]");
        assert_eq!(read::<ByteSize>("1024"), "\"1k\"");
        assert_eq!(read::<Period>("\"90s\""), "\"1m30s\"");
        assert_eq!(read::<CpuCount>("0.5"), "0.5");
        assert_eq!(read::<Pattern>("\"a+\""), "\"a+\"");
        assert!(serde_json::from_str::<Name>("5").is_err());
    }
}
