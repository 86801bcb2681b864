//! Build configuration of an image: types and parsing.
//!
//! The files of the build context are read by the engine's builder.

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
    /// Build context: a directory, relative to the spec directory.
    pub context: String,
    /// Dockerfile; as a file, relative to the context.
    pub dockerfile: Dockerfile,
    /// Stage to build. Defaults to the last one.
    pub target: Option<String>,
    /// Build arguments: values for the `ARG`s of the Dockerfile.
    pub args: BTreeMap<EnvName, Text>,
    /// Labels of the image, in addition to those of the Dockerfile.
    pub labels: BTreeMap<String, Text>,
}

/// Name of a Dockerfile in a spec among the files of its build.
pub const DOCKERFILE_INLINE: &str = "dockerfile_inline";

/// Where a Dockerfile is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dockerfile<P = String> {
    File(P),
    /// Its text is in the spec.
    Inline(String),
}

impl<P> Dockerfile<P> {
    /// Returns the path of the file.
    pub fn file(&self) -> Option<&P> {
        match self {
            Dockerfile::File(path) => Some(path),
            Dockerfile::Inline(_) => None,
        }
    }

    /// The same with another path of the file.
    pub fn map<Q>(self, path: impl FnOnce(P) -> Q) -> Dockerfile<Q> {
        match self {
            Dockerfile::File(file) => Dockerfile::File(path(file)),
            Dockerfile::Inline(text) => Dockerfile::Inline(text),
        }
    }
}

impl Default for Dockerfile {
    fn default() -> Self {
        Dockerfile::File("Dockerfile".to_owned())
    }
}

/// Reserved label prefixes. These labels record the owner of a container, and a container inherits the labels of its
/// image.
pub const OWN_LABELS: [&str; 2] = ["drillmaster.", "dev.drillmaster."];

impl Build {
    fn new(context: String) -> Result<Build, Invalid> {
        let (dockerfile, args, labels) = Default::default();
        let build = Build { context, dockerfile, target: None, args, labels };
        build.validated()
    }

    fn validated(self) -> Result<Build, Invalid> {
        let text = [Some(&self.context), self.dockerfile.file(), self.target.as_ref()];
        if let Some(nul) = text.into_iter().flatten().find(|text| text.contains('\0')) {
            return Err(Invalid::new(format!("{} contains a NUL character", quoted(nul))));
        }
        if self.context.contains("://") || self.context.starts_with("git@") {
            let invalid = Invalid::new(format!("{} is not a directory", quoted(&self.context)));
            return Err(invalid.hint("clone the repository and use the path of the clone"));
        }
        let empty = |field: &str| Err(Invalid::new(format!("the `{field}` of a build must not be empty")));
        match &self {
            Build { context, .. } if context.is_empty() => empty("context"),
            Build { dockerfile: Dockerfile::File(path), .. } if path.is_empty() => empty("dockerfile"),
            Build { dockerfile: Dockerfile::Inline(text), .. } if text.trim().is_empty() => empty("dockerfile_inline"),
            Build { target: Some(target), .. } if target.is_empty() => empty("target"),
            _ => Ok(self),
        }
    }
}

/// Long form of a build configuration.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LongBuild {
    /// Build context: a directory, relative to the spec directory.
    context: String,
    /// Dockerfile, relative to the context. Defaults to `Dockerfile`.
    #[serde(default)]
    dockerfile: Option<String>,
    /// Text of the Dockerfile, instead of a file.
    #[serde(default)]
    dockerfile_inline: Option<Text>,
    /// Stage to build. Defaults to the last one.
    #[serde(default)]
    target: Option<String>,
    /// Build arguments: values for the `ARG`s of the Dockerfile.
    #[serde(default)]
    args: BTreeMap<EnvName, Text>,
    /// Labels of the image, in addition to those of the Dockerfile.
    #[serde(default)]
    labels: BTreeMap<String, Text>,
}

impl<'de> Shape<'de> for Build {
    const EXPECTED: &'static str = "a directory such as `./api`, or `{context: ./api, target: release}`";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        Build::new(text.to_owned())
    }

    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        let LongBuild { context, dockerfile, dockerfile_inline, target, args, labels } =
            LongBuild::deserialize(MapAccessDeserializer::new(map))?;
        let dockerfile = match (dockerfile, dockerfile_inline) {
            (Some(_), Some(_)) => {
                let invalid = Invalid::new("a build has either `dockerfile` or `dockerfile_inline`");
                return Err(de::Error::custom(invalid.hint("remove one of them")));
            }
            (None, Some(text)) => Dockerfile::Inline(text.to_string()),
            (Some(path), None) => Dockerfile::File(path),
            (None, None) => Dockerfile::default(),
        };
        Build { context, dockerfile, target, args, labels }.validated().map_err(de::Error::custom)
    }
}

read_shaped! { Build }

both_forms!(
    Build,
    LongBuild,
    "Build context: a directory with a Dockerfile, relative to the spec directory; or the long form with more settings.",
    ["./api", {"context": "./api", "dockerfile": "Dockerfile.dev", "target": "release", "args": {"VERSION": "1"}}],
    [{"type": "string", "minLength": 1}]
);
