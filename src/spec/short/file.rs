//! Configs and secrets.

use super::*;

read_shaped! { FileSource FileUse }

/// Long form of a config or secret of the group.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LongFileSource {
    /// File on the host, relative to the spec directory. It is mounted read-only.
    #[serde(default)]
    file: Option<String>,
    /// Name of a variable, whose value is copied into the container.
    #[serde(default)]
    environment: Option<EnvName>,
    /// Text that is copied into the container; configs only.
    #[serde(default)]
    content: Option<Text>,
    /// Not supported.
    #[serde(default)]
    #[schemars(skip)]
    external: Option<bool>,
}

const SOURCE_HINT: &str = "write `{file: ./path}`, `{environment: VARIABLE}` or `{content: text}`";

impl<'de> Shape<'de> for FileSource {
    const EXPECTED: &'static str = "a map such as `{file: ./app.conf}`";

    fn from_text(_: &str) -> Result<Self, Invalid> {
        Err(Invalid::new(format!("expected {}", Self::EXPECTED)).hint(SOURCE_HINT))
    }

    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        let long = LongFileSource::deserialize(MapAccessDeserializer::new(map))?;
        if long.external == Some(true) {
            let invalid = Invalid::new("`external` configs and secrets are those of Docker Swarm").hint(SOURCE_HINT);
            return Err(de::Error::custom(invalid));
        }
        match (long.file, long.environment, long.content) {
            (Some(path), None, None) => Ok(Self::File(path)),
            (None, Some(name), None) => Ok(Self::Environment(name)),
            (None, None, Some(text)) => Ok(Self::Content(text)),
            _ => Err(de::Error::custom(
                Invalid::new("exactly one of `file`, `environment` and `content` is required").hint(SOURCE_HINT),
            )),
        }
    }
}

impl JsonSchema for FileSource {
    fn schema_name() -> Cow<'static, str> {
        "FileSource".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        LongFileSource::json_schema(generator)
    }
}

/// Long form of a config or secret in a container.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LongFileUse {
    /// Name of the config or secret in the `Group` document.
    source: FileName,
    /// Path in the container. Defaults to `/<source>`, for secrets to `/run/secrets/<source>`.
    #[serde(default)]
    target: Option<String>,
    /// Numeric owner of a copied file. Defaults to 0.
    #[serde(default)]
    uid: Option<Number>,
    /// Numeric group of a copied file. Defaults to 0.
    #[serde(default)]
    gid: Option<Number>,
    /// Permissions of a copied file. Defaults to `0444`.
    #[serde(default)]
    mode: Option<FileMode>,
}

/// A number, also as text.
struct Number(u32);

read_shaped! { Number }

impl<'de> Shape<'de> for Number {
    const EXPECTED: &'static str = "a number";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        let invalid =
            |_| Invalid::new(format!("{} is not a number", quoted(text))).hint("names of users are not known here");
        text.parse().map(Self).map_err(invalid)
    }
}

impl JsonSchema for Number {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Number".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9]+$"}]})
    }
}

impl<'de> Shape<'de> for FileUse {
    const EXPECTED: &'static str = "the name of a config or secret";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        Ok(Self { source: text.parse()?, target: None, uid: None, gid: None, mode: None })
    }

    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        let LongFileUse { source, target, uid, gid, mode } = LongFileUse::deserialize(MapAccessDeserializer::new(map))?;
        if let Some(target) =
            target.as_deref().filter(|target| target.is_empty() || target.split('/').any(|part| part == ".."))
        {
            let message = format!("invalid target {}: write a path without `..`", quoted(target));
            return Err(de::Error::custom(Invalid::new(message)));
        }
        let number = |number: Option<Number>| number.map(|Number(number)| number);
        Ok(Self { source, target, uid: number(uid), gid: number(gid), mode })
    }
}

both_forms!(
    FileUse,
    LongFileUse,
    "A config or secret of the group: its name, or `{source, target, uid, gid, mode}`.",
    ["app-conf", {"source": "app-conf", "target": "/etc/app.conf", "mode": "0440"}],
    [{"type": "string", "pattern": "^[a-zA-Z0-9][a-zA-Z0-9_.-]*$"}]
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::model::FileField;

    #[test]
    fn configs_and_secrets() {
        let used = |json: &str| serde_json::from_str::<FileUse>(json);
        assert_eq!(used(r#""app.conf""#).unwrap().path(FileField::Configs), "/app.conf");
        assert_eq!(used(r#"{"source": "a", "target": "b/c"}"#).unwrap().path(FileField::Secrets), "/run/secrets/b/c");
        let long = used(r#"{"source": "a", "target": "/etc/a", "uid": "1000", "gid": 5, "mode": "0440"}"#).unwrap();
        assert_eq!((long.path(FileField::Configs), long.uid, long.gid), ("/etc/a".into(), Some(1000), Some(5)));
        for wrong in [r#""a b""#, r#"{"source": "a", "target": "../b"}"#, r#"{"source": "a", "uid": "root"}"#] {
            assert!(used(wrong).is_err(), "{wrong}");
        }
        let source = |json: &str| serde_json::from_str::<FileSource>(json);
        assert_eq!(source(r#"{"file": "./a"}"#).unwrap(), FileSource::File("./a".into()));
        assert!(matches!(source(r#"{"content": "a\n"}"#), Ok(FileSource::Content(text)) if text == "a\n"));
        for wrong in [r#""./a""#, "{}", r#"{"file": "a", "content": "b"}"#, r#"{"external": true}"#] {
            assert!(source(wrong).is_err(), "{wrong}");
        }
    }
}
