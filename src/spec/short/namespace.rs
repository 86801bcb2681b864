//! Namespaces that are shared with the host or another container.

use super::*;

read_shaped! { NetworkMode PidMode IpcMode }

const SERVICE: &str = "service:";
const CONTAINER: &str = "container:";

/// Parses `service:NAME` and `container:NAME`; `None` for other words.
fn target(text: &str) -> Result<Option<Target>, Invalid> {
    if let Some(name) = text.strip_prefix(SERVICE) {
        return name.parse().map(|name| Some(Target::Service(name)));
    }
    let Some(name) = text.strip_prefix(CONTAINER) else { return Ok(None) };
    name.parse().map(|name| Some(Target::Container(name)))
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name) => write!(f, "{SERVICE}{name}"),
            Self::Container(name) => write!(f, "{CONTAINER}{name}"),
        }
    }
}

/// Implements the forms of a mode: its own words, `service:NAME` and `container:NAME`.
macro_rules! mode {
    ($type:ident, $expected:literal, $description:literal, [$($word:literal => $variant:ident),+]) => {
        impl FromStr for $type {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                match target(text)? {
                    Some(target) => Ok(Self::Shared(target)),
                    None => word(text, &[$(($word, Self::$variant)),+], $expected),
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$variant => f.write_str($word),)+
                    Self::Shared(target) => target.fmt(f),
                }
            }
        }

        impl From<$type> for String {
            fn from(mode: $type) -> String {
                mode.to_string()
            }
        }

        impl<'de> Shape<'de> for $type {
            const EXPECTED: &'static str = $expected;

            fn from_text(text: &str) -> Result<Self, Invalid> {
                text.parse()
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "description": $description,
                    "anyOf": [
                        {"enum": [$($word),+]},
                        {"type": "string", "pattern": "^(service|container):[a-zA-Z0-9][a-zA-Z0-9_.-]*$"}
                    ]
                })
            }
        }
    };
}

mode!(
    NetworkMode,
    "`none`, `host`, `bridge`, `service:NAME` or `container:NAME`",
    "Network: `none`, `host`, `bridge`, or that of another container (`service:NAME`, `container:NAME`).",
    ["none" => None, "host" => Host, "bridge" => Bridge]
);
mode!(
    PidMode,
    "`host`, `service:NAME` or `container:NAME`",
    "Processes: those of the `host`, or of another container (`service:NAME`, `container:NAME`).",
    ["host" => Host]
);
mode!(
    IpcMode,
    "`none`, `private`, `shareable`, `host`, `service:NAME` or `container:NAME`",
    "Shared memory: `none`, `private`, `shareable`, `host`, or that of another container (`service:NAME`, `container:NAME`).",
    ["none" => None, "private" => Private, "shareable" => Shareable, "host" => Host]
);

impl From<Target> for String {
    fn from(target: Target) -> String {
        target.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::canonical;
    use super::*;

    #[test]
    fn modes() {
        for text in ["none", "host", "bridge", "service:db", "container:other_1.x"] {
            assert_eq!(canonical::<NetworkMode>(&format!("\"{text}\"")), text);
        }
        for text in ["", "hots", "service:", "service:A", "container:", "container:/x", "shareable", "default"] {
            assert!(text.parse::<NetworkMode>().is_err(), "{text}");
        }
        assert!("none".parse::<PidMode>().is_err() && "bridge".parse::<IpcMode>().is_err());
        assert_eq!(canonical::<IpcMode>("\"shareable\""), "shareable");
        assert_eq!(canonical::<PidMode>("\"service:db\""), "service:db");
    }
}
