//! Dependencies.

use super::*;

read_shaped! { Dependency }

/// Long form of a dependency.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LongDependency {
    /// Name of the service or job.
    name: Name,
    /// Condition to wait for. Defaults to `ready` for services and `succeeded` for jobs.
    #[serde(default)]
    condition: Option<Condition>,
    /// Restart the dependent after the dependency has been replaced.
    #[serde(default)]
    restart: bool,
    /// Set to false to ignore the dependency where it does not exist or its profile is not active. Defaults to true.
    #[serde(default = "required")]
    required: bool,
}

fn required() -> bool {
    true
}

impl<'de> Shape<'de> for Dependency {
    const EXPECTED: &'static str = "the name of a service or job";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        Ok(Self { name: text.parse()?, condition: None, restart: false, required: true })
    }

    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        let long = LongDependency::deserialize(MapAccessDeserializer::new(map))?;
        let LongDependency { name, condition, restart, required } = long;
        Ok(Self { name, condition, restart, required })
    }
}

impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Started => "started",
            Self::Ready => "ready",
            Self::Succeeded => "succeeded",
        })
    }
}

impl Serialize for Dependency {
    /// Writes only the name if nothing else is set.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.condition.is_none() && !self.restart && self.required {
            return self.name.serialize(serializer);
        }
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &self.name)?;
        if let Some(condition) = self.condition {
            map.serialize_entry("condition", &condition)?;
        }
        if self.restart {
            map.serialize_entry("restart", &true)?;
        }
        if !self.required {
            map.serialize_entry("required", &false)?;
        }
        map.end()
    }
}

both_forms!(
    Dependency,
    LongDependency,
    "A dependency: the name of a service or job, or `{name, condition, restart, required}`.",
    ["appdb", {"name": "appdb", "condition": "started", "restart": true}],
    [{"type": "string", "pattern": "^[a-z0-9]([a-z0-9_-]*[a-z0-9])?$"}]
);
