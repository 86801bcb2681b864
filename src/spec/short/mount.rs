//! Mounts and tmpfs mounts.

use super::*;

read_shaped! { Mount Tmpfs }
write_displayed! { Tmpfs }

pub(super) fn absolute(path: &str, what: &str) -> Result<(), Invalid> {
    if !path.starts_with('/') {
        return Err(Invalid::new(format!("the {what} {} is not an absolute path", quoted(path)))
            .hint("a path in the container begins with `/`"));
    }
    without_colon(path, what)
}

/// Rejects colons, which would make the short form ambiguous.
pub(super) fn without_colon(text: &str, what: &str) -> Result<(), Invalid> {
    match text.find([':', '\0']) {
        Some(_) => Err(Invalid::new(format!("the {what} {} must not contain `:`", quoted(text)))),
        None => Ok(()),
    }
}

/// Type of a mount in the long form.
#[derive(Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum MountType {
    /// A volume of the group.
    Volume,
    /// A path on the host.
    Bind,
}

/// Long form of a mount.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LongMount {
    /// `volume` or `bind`. Defaults to the type that `source` implies.
    #[serde(rename = "type", default)]
    kind: Option<MountType>,
    /// Name of a volume, or a host path relative to the spec directory. Defaults to an anonymous volume.
    #[serde(default)]
    source: Option<String>,
    /// Absolute path in the container.
    target: String,
    /// Mount read-only.
    #[serde(default)]
    read_only: bool,
    /// What happens when the mounted file changes. Bind mounts of files only. Defaults to `restart`, for jobs to `ignore`.
    #[serde(default)]
    on_change: Option<OnChange>,
}

/// Returns true if the source is a host path.
fn is_path(source: &str) -> bool {
    source.starts_with('/')
        || matches!(source, "." | ".." | "~")
        || ["./", "../", "~/"].iter().any(|p| source.starts_with(p))
}

impl MountSource {
    fn named_or_path(source: &str) -> Result<Self, Invalid> {
        without_colon(source, "source")?;
        if is_path(source) {
            return Ok(Self::Bind(source.into()));
        }
        source.parse().map(Self::Volume).map_err(|e: Invalid| {
            let invalid = Invalid::new(format!("{} is neither the name of a volume nor a path", quoted(source)));
            match source.contains(['/', '.']) && !source.starts_with(['~', '.']) {
                true => {
                    invalid.hint(format!("a path begins with `./`, `../`, `~/` or `/`: did you mean `./{source}`?"))
                }
                false => invalid.hint(e.message),
            }
        })
    }
}

impl Mount {
    fn new(source: MountSource, target: &str, read_only: bool) -> Result<Self, Invalid> {
        absolute(target, "target")?;
        Ok(Self { source, target: target.into(), read_only, on_change: None })
    }
}

impl FromStr for Mount {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = |why: &str| Invalid::new(format!("invalid mount {}: {why}", quoted(text)));
        let parts: Vec<&str> = text.split(':').collect();
        let (source, target, options) = match parts[..] {
            [target] => ("", target, None),
            // `/data:ro`: an anonymous volume with options.
            [target, options @ ("ro" | "rw")] => ("", target, Some(options)),
            [source, target] => (source, target, None),
            [source, target, options] => (source, target, Some(options)),
            _ => return Err(wrong("too many parts").hint("write \"source:target\" or \"source:target:ro\"")),
        };
        let read_only = match options {
            None | Some("rw") => false,
            Some("ro") => true,
            Some(other) => {
                return Err(wrong(&format!("unknown option {}", quoted(other))).hint("the options are `ro` and `rw`"));
            }
        };
        let anonymous = source.is_empty() && !text.starts_with(':');
        let source = match source {
            "" if anonymous => MountSource::Anonymous,
            "" => return Err(wrong("the source is empty")),
            source => MountSource::named_or_path(source)?,
        };
        if anonymous && !target.starts_with('/') {
            return Err(wrong("the path in the container is missing")
                .hint(format!("write \"{target}:/path\", or an absolute path for an anonymous volume")));
        }
        Self::new(source, target, read_only)
    }
}

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            MountSource::Anonymous => {}
            MountSource::Volume(name) => write!(f, "{name}:")?,
            MountSource::Bind(path) => write!(f, "{path}:")?,
        }
        f.write_str(&self.target)?;
        if self.read_only {
            f.write_str(":ro")?;
        }
        Ok(())
    }
}

impl<'de> Shape<'de> for Mount {
    const EXPECTED: &'static str = "a mount such as \"data:/data\"";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        text.parse()
    }

    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        let long = LongMount::deserialize(MapAccessDeserializer::new(map))?;
        let source = match (long.kind, long.source.as_deref()) {
            (None | Some(MountType::Volume), None) => Ok(MountSource::Anonymous),
            (Some(MountType::Bind), None | Some("")) => {
                Err(Invalid::new("a mount of type `bind` requires a `source`").hint("write `source: ./path`"))
            }
            (Some(MountType::Bind), Some(path)) if !is_path(path) => {
                without_colon(path, "source").map(|()| MountSource::Bind(format!("./{path}")))
            }
            (Some(MountType::Volume), Some(path)) if is_path(path) => {
                Err(Invalid::new(format!("the source of a volume is a name, {} is a path", quoted(path)))
                    .hint("write `type: bind`"))
            }
            (_, Some(source)) => MountSource::named_or_path(source),
        };
        let mount = source.and_then(|source| Self::new(source, &long.target, long.read_only));
        match mount.map_err(de::Error::custom)? {
            Mount { source: MountSource::Anonymous | MountSource::Volume(_), .. } if long.on_change.is_some() => {
                Err(de::Error::custom("`on_change` applies to bind mounts of files, not to volumes"))
            }
            mount => Ok(Self { on_change: long.on_change, ..mount }),
        }
    }
}

impl Serialize for Mount {
    /// The short form, unless it has `on_change`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (Some(on_change), MountSource::Bind(source)) = (&self.on_change, &self.source) else {
            return serializer.collect_str(self);
        };
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("source", source)?;
        map.serialize_entry("target", &self.target)?;
        if self.read_only {
            map.serialize_entry("read_only", &true)?;
        }
        map.serialize_entry("on_change", on_change)?;
        map.end()
    }
}

both_forms!(
    Mount,
    LongMount,
    "A mount: `name:/path` (a volume of the group), `./dir:/path` (relative to the spec directory), `/path` (an anonymous volume); `:ro` for read-only.",
    ["data:/data", "./conf:/conf:ro", {"type": "bind", "source": "./conf", "target": "/conf", "read_only": true}],
    [{"type": "string", "pattern": "^([^:]+:)?/[^:]*(:(ro|rw))?$"}]
);

/// Long form of a tmpfs mount.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LongTmpfs {
    /// Absolute path in the container.
    target: String,
    /// Options as for mount(8): `size=64m,mode=1777`.
    #[serde(default)]
    options: String,
}

impl Tmpfs {
    fn new(target: &str, options: &str) -> Result<Self, Invalid> {
        absolute(target, "path")?;
        match options.contains(|c: char| c.is_whitespace() || c.is_control()) {
            true => Err(Invalid::new(format!("the options {} contain white space", quoted(options)))),
            false => Ok(Self { target: target.into(), options: options.into() }),
        }
    }
}

impl FromStr for Tmpfs {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (target, options) = text.split_once(':').unwrap_or((text, ""));
        Self::new(target, options)
    }
}

impl fmt::Display for Tmpfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.options.as_str() {
            "" => f.write_str(&self.target),
            options => write!(f, "{}:{options}", self.target),
        }
    }
}

impl<'de> Shape<'de> for Tmpfs {
    const EXPECTED: &'static str = "a path such as `/run`";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        text.parse()
    }

    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        let long = LongTmpfs::deserialize(MapAccessDeserializer::new(map))?;
        Self::new(&long.target, &long.options).map_err(de::Error::custom)
    }
}

both_forms!(
    Tmpfs,
    LongTmpfs,
    "A tmpfs mount: `/path` or `/path:options`.",
    ["/run", "/tmp:size=64m,mode=1777", {"target": "/tmp", "options": "size=64m"}],
    [{"type": "string", "pattern": "^/[^:]*(:.*)?$"}]
);

#[cfg(test)]
mod tests {
    use super::super::tests::canonical;
    use super::*;

    #[test]
    fn mounts() {
        for (json, expected) in [
            ("\"data:/data\"", "data:/data"),
            ("\"data:/data:rw\"", "data:/data"),
            ("\"./conf:/conf:ro\"", "./conf:/conf:ro"),
            ("\"~/x:/x\"", "~/x:/x"),
            ("\".:/x\"", ".:/x"),
            ("\"/data\"", "/data"),
            ("\"/data:ro\"", "/data:ro"),
            ("\"/a:/b\"", "/a:/b"),
            ("{\"target\": \"/x\"}", "/x"),
            ("{\"type\": \"bind\", \"source\": \"conf\", \"target\": \"/x\", \"read_only\": true}", "./conf:/x:ro"),
            ("{\"type\": \"volume\", \"source\": \"a\", \"target\": \"/x\"}", "a:/x"),
            (
                "{\"source\": \"./a\", \"target\": \"/a\", \"read_only\": true, \"on_change\": {\"signal\": \"HUP\"}}",
                r#"{"source":"./a","target":"/a","read_only":true,"on_change":{"signal":"SIGHUP"}}"#,
            ),
        ] {
            assert_eq!(canonical::<Mount>(json), expected);
        }
        for text in ["", ":", "a", "a:", ":/b", "a:b", "a:/b:", "A:/b", "a.new:/b", "~x:/b", ".x:/b"] {
            assert!(text.parse::<Mount>().is_err(), "{text}");
        }
        let volume = "{\"source\": \"a\", \"target\": \"/a\", \"on_change\": \"restart\"}";
        assert!(serde_json::from_str::<Mount>(volume).is_err());
    }
}
