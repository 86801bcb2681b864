//! Commands of Docker health checks.

use super::*;

read_shaped! { HealthcheckTest }

impl<'de> Shape<'de> for HealthcheckTest {
    const EXPECTED: &'static str = "a command";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        match text.trim() {
            "" => Err(nothing_to_run("test")),
            _ => Ok(Self::Shell(text.into())),
        }
    }

    /// Accepts Docker's notation with a leading `CMD` or `CMD-SHELL` too.
    fn from_list<A: SeqAccess<'de>>(list: A) -> Result<Self, A::Error> {
        let words: Vec<Text> = Vec::deserialize(SeqAccessDeserializer::new(list))?;
        let words: Vec<String> = words.into_iter().map(String::from).collect();
        let (first, rest) = words.split_first().ok_or_else(|| de::Error::custom(nothing_to_run("test")))?;
        match (first.as_str(), rest) {
            ("NONE", []) => Err(de::Error::custom(
                Invalid::new("`NONE` is not supported").hint("use `healthcheck: {disable: true}`"),
            )),
            ("CMD" | "CMD-SHELL", []) => Err(de::Error::custom(nothing_to_run("test"))),
            ("CMD-SHELL", [line]) => Ok(Self::Shell(line.clone())),
            ("CMD-SHELL", _) => Err(de::Error::custom("`CMD-SHELL` takes one string")),
            ("CMD", rest) => Ok(Self::Exec(rest.to_vec())),
            _ => Ok(Self::Exec(words)),
        }
    }
}

impl Serialize for HealthcheckTest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Shell(line) => serializer.serialize_str(line),
            // A program named CMD must not be parsed as Docker's keyword.
            Self::Exec(words) if words.first().is_some_and(|word| word.starts_with("CMD") || word == "NONE") => {
                serializer.collect_seq(std::iter::once("CMD").chain(words.iter().map(String::as_str)))
            }
            Self::Exec(words) => words.serialize(serializer),
        }
    }
}

impl JsonSchema for HealthcheckTest {
    fn schema_name() -> Cow<'static, str> {
        "HealthcheckTest".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Command of the health check: a list is executed directly, a string by the container's shell.",
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "items": generator.subschema_for::<Text>(), "minItems": 1}
            ],
            "examples": ["curl -f http://localhost/", ["pg_isready", "-U", "postgres"]]
        })
    }
}
