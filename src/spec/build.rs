//! Build configuration of an image: types and parsing.
//!
//! The content of the build context is read elsewhere.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess};

use super::short::{both_forms, read_shaped};
use super::value::{EnvName, Invalid, Shape, Text, quoted, shaped};

/// Build configuration of an image.
///
/// Short: `./api`, the build context. Long: `{context: ./api, dockerfile: Dockerfile, target: release,
/// args: {VERSION: "1"}}`.
#[derive(Debug, Clone, PartialEq)]
pub struct Build {
    /// The directory whose files can be copied into the image; relative to the spec directory.
    pub context: String,
    /// The Dockerfile, relative to the context; `Dockerfile` unless set.
    pub dockerfile: Option<String>,
    /// The stage that is built; the last one unless set.
    pub target: Option<String>,
    /// Values for the `ARG`s of the Dockerfile.
    pub args: BTreeMap<EnvName, Text>,
    /// Labels of the image, beside those of the Dockerfile.
    pub labels: BTreeMap<String, Text>,
}

/// Reserved label prefixes. Such labels record the owner of a container, and containers inherit image labels.
pub const OWN_LABELS: [&str; 2] = ["drillmaster.", "dev.drillmaster."];

impl Build {
    fn new(context: String) -> Result<Build, Invalid> {
        let build = Build { context, dockerfile: None, target: None, args: BTreeMap::new(), labels: BTreeMap::new() };
        build.checked()
    }

    fn checked(self) -> Result<Build, Invalid> {
        let text = [Some(&self.context), self.dockerfile.as_ref(), self.target.as_ref()];
        if let Some(nul) = text.into_iter().flatten().find(|text| text.contains('\0')) {
            return Err(Invalid::new(format!("{} holds a NUL character", quoted(nul))));
        }
        if self.context.contains("://") || self.context.starts_with("git@") {
            let invalid = Invalid::new(format!("{} is not a directory", quoted(&self.context)));
            return Err(invalid.hint("clone the repository and use the path of the clone"));
        }
        let empty = |field: &str| Err(Invalid::new(format!("the `{field}` of a build must not be empty")));
        match &self {
            Build { context, .. } if context.is_empty() => empty("context"),
            Build { dockerfile: Some(dockerfile), .. } if dockerfile.is_empty() => empty("dockerfile"),
            Build { target: Some(target), .. } if target.is_empty() => empty("target"),
            _ => Ok(self),
        }
    }
}

/// How an image is built, in full.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LongBuild {
    /// The directory whose files can be copied into the image; relative to the spec directory.
    context: String,
    /// The Dockerfile, relative to the context; `Dockerfile` unless set.
    #[serde(default)]
    dockerfile: Option<String>,
    /// The stage that is built; the last one unless set.
    #[serde(default)]
    target: Option<String>,
    /// Values for the `ARG`s of the Dockerfile.
    #[serde(default)]
    args: BTreeMap<EnvName, Text>,
    /// Labels of the image, beside those of the Dockerfile.
    #[serde(default)]
    labels: BTreeMap<String, Text>,
}

impl<'de> Shape<'de> for Build {
    const EXPECTED: &'static str = "a directory such as `./api`, or `{context: ./api, target: release}`";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        Build::new(text.to_owned())
    }

    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        let LongBuild { context, dockerfile, target, args, labels } =
            LongBuild::deserialize(MapAccessDeserializer::new(map))?;
        Build { context, dockerfile, target, args, labels }.checked().map_err(de::Error::custom)
    }
}

read_shaped! { Build }

both_forms!(
    Build,
    LongBuild,
    "How the image is built: a directory that holds a Dockerfile, relative to the spec directory, or more in detail.",
    ["./api", {"context": "./api", "dockerfile": "Dockerfile.dev", "target": "release", "args": {"VERSION": "1"}}],
    [{"type": "string", "minLength": 1}]
);
