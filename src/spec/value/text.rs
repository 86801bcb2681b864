//! Text, command lines, lists with a single-value form, and regular expressions.

use super::*;

/// Text of any scalar exactly as written: `1.10` stays "1.10", `yes` stays "yes".
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Text(String);

impl FromStr for Text {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.contains('\0') {
            true => Err(Invalid::new("text must not contain a NUL character")),
            false => Ok(Self(text.into())),
        }
    }
}

text_value!(Text, shaped, "text", {
    "type": ["string", "number", "boolean"],
    "description": "Text; numbers and booleans are kept as written. Write \"\" for an empty value."
});

/// Value of an environment variable, or null: the variable of the image is removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnvValue {
    Set(Text),
    Unset,
}

impl EnvValue {
    /// Returns the value; `None`: the variable is removed.
    pub fn as_deref(&self) -> Option<&str> {
        match self {
            Self::Set(text) => Some(text.as_str()),
            Self::Unset => None,
        }
    }
}

impl<'de> Shape<'de> for EnvValue {
    const EXPECTED: &'static str = "text";
    const REQUEST: &'static str = VERBATIM_OR_NULL;

    fn null() -> Option<Self> {
        Some(Self::Unset)
    }

    fn from_text(text: &str) -> Result<Self, Invalid> {
        text.parse().map(Self::Set)
    }
}

impl<'de> Deserialize<'de> for EnvValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        shaped(deserializer)
    }
}

impl JsonSchema for EnvValue {
    fn schema_name() -> Cow<'static, str> {
        "EnvValue".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "number", "boolean", "null"],
            "description": "Text; numbers and booleans are kept as written. Write \"\" for an empty value, and null to remove a variable of the image."
        })
    }
}

/// Words of a command line: a list, or one string that is split as a shell would split it (but not run by a shell).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Words(pub Vec<String>);

impl FromStr for Words {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.contains('\0') {
            return Err(Invalid::new("text must not contain a NUL character"));
        }
        match shlex::split(text) {
            Some(words) => Ok(Self(words)),
            None => Err(Invalid::new(format!("{}: unclosed quote or trailing backslash", quoted(text)))
                .hint("write a list: [program, argument, ...]")),
        }
    }
}

impl Deref for Words {
    type Target = [String];
    fn deref(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match shlex::try_join(self.0.iter().map(String::as_str)) {
            Ok(line) => f.write_str(&line),
            Err(_) => write!(f, "{:?}", self.0), // NUL characters, which parsing rejects
        }
    }
}

impl Serialize for Words {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Shape<'de> for Words {
    const EXPECTED: &'static str = "a list of words or one string";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        text.parse()
    }

    fn from_list<A: SeqAccess<'de>>(list: A) -> Result<Self, A::Error> {
        let words: Vec<Text> = Vec::deserialize(de::value::SeqAccessDeserializer::new(list))?;
        Ok(Self(words.into_iter().map(String::from).collect()))
    }
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        shaped(deserializer)
    }
}

impl JsonSchema for Words {
    fn schema_name() -> Cow<'static, str> {
        "Words".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A list of words, or one string that is split as a shell would split it (but not run by a shell).",
            "anyOf": [
                {"type": "array", "items": generator.subschema_for::<Text>()},
                {"type": "string"}
            ],
            "examples": [["serve", "--port", "80"], "serve --port 80"]
        })
    }
}

/// One value, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct OneOrMany<T>(pub Vec<T>);

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Deref for OneOrMany<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrManyVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrManyVisitor<T> {
            type Value = OneOrMany<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one value or a list")
            }
            fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
                deserializer.deserialize_any(self)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                T::deserialize(de::value::StrDeserializer::new(text)).map(|one| OneOrMany(vec![one]))
            }
            fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
                Ok(OneOrMany::default())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(list)).map(OneOrMany)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(de::value::MapAccessDeserializer::new(map)).map(|one| OneOrMany(vec![one]))
            }
        }
        deserializer.deserialize_newtype_struct(VERBATIM, OneOrManyVisitor(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMany_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({"anyOf": [one, {"type": "array", "items": one}]})
    }
}

/// A regular expression in regex-lite syntax. Equality compares the source.
#[derive(Clone)]
pub struct Pattern(regex_lite::Regex);

impl Pattern {
    /// Returns the source of the regular expression.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Returns true if it matches anywhere in the text.
    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl FromStr for Pattern {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() {
            return Err(Invalid::new("a regular expression must not be empty"));
        }
        regex_lite::Regex::new(text)
            .map(Self)
            .map_err(|error| Invalid::new(format!("invalid regular expression {}: {error}", quoted(text))))
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pattern").field(&self.as_str()).finish()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Pattern {}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

read_value!(Pattern, text_only, "a regular expression", {
    "type": "string",
    "minLength": 1,
    "description": "Regular expression; matches anywhere in a line.",
    "examples": ["ready to accept connections"]
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_like_in_a_shell() {
        let words = |text: &str| text.parse::<Words>().map(|words| words.0);
        assert_eq!(words("a 'b c' d\\ e \"f g\""), Ok(vec!["a".into(), "b c".into(), "d e".into(), "f g".into()]));
        assert_eq!(words(""), Ok(vec![]));
        assert!(words("a 'b").is_err());
        assert_eq!(Words(vec!["a b".into(), "c".into()]).to_string(), "'a b' c");
    }
}
