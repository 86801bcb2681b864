//! Build inputs of an image and its tag, a hash over them.
//!
//! Pure: the files were read before and are represented by a digest.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::fingerprint::sha256;
use crate::spec::Tree;
use crate::spec::model;

/// How many digits of the hash are in the tag: enough that no two trees of one repository share one, and few enough
/// to be read.
const DIGITS: usize = 16;

/// Build configuration of a service's image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Build {
    /// The files: where they lie, and what they are.
    pub tree: Tree,
    /// Target stage. Defaults to the last one.
    pub target: Option<String>,
    /// Build arguments.
    pub args: BTreeMap<String, String>,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// Platform that the image is built for. Defaults to the engine's.
    pub platform: Option<String>,
}

impl Build {
    /// What is written, with the files that were found.
    pub fn new(spec: &model::Build, tree: &Tree, platform: Option<String>) -> Build {
        let text = |(key, value): (&String, &crate::spec::value::Text)| (key.clone(), value.to_string());
        Build {
            tree: tree.clone(),
            target: spec.target.clone(),
            args: spec.args.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            labels: spec.labels.iter().map(text).collect(),
            platform,
        }
    }

    /// Returns the image tag: a hash over all inputs except the location of the files.
    pub fn tag(&self) -> String {
        let Build { tree, target, args, labels, platform } = self;
        let mut recipe = json!({"version": 1, "files": tree.digest});
        for (field, value) in [("target", target), ("platform", platform)] {
            if let Some(value) = value {
                recipe[field] = value[..].into();
            }
        }
        for (field, values) in [("args", args), ("labels", labels)] {
            if !values.is_empty() {
                recipe[field] = values.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect();
            }
        }
        sha256(recipe.to_string().as_bytes()).chars().take(DIGITS).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::build::Dockerfile;

    fn build(digest: &str) -> Build {
        let (context, dockerfile) = ("/srv/api".into(), Dockerfile::File("/srv/api/Dockerfile".into()));
        let tree = Tree { context, dockerfile, digest: digest.into(), files: Default::default() };
        Build { tree, target: None, args: BTreeMap::new(), labels: BTreeMap::new(), platform: None }
    }

    /// Existing images have this tag: changing it rebuilds every image at the next upgrade.
    #[test]
    fn build_tags_are_stable() {
        assert_eq!(build("00ff").tag(), "997d906dd2dcba26");
    }

    #[test]
    fn build_tag_covers_sources_but_not_their_location() {
        let plain = build("00ff");
        let pairs = |value: &str| BTreeMap::from([("A".to_owned(), value.to_owned())]);
        let others = [
            build("00fe"),
            Build { target: Some("release".into()), ..plain.clone() },
            Build { platform: Some("linux/arm64".into()), ..plain.clone() },
            Build { args: pairs("1"), ..plain.clone() },
            Build { args: pairs("2"), ..plain.clone() },
            Build { labels: pairs("1"), ..plain.clone() },
        ];
        let tags: std::collections::BTreeSet<String> = others.iter().chain([&plain]).map(Build::tag).collect();
        assert_eq!(tags.len(), others.len() + 1);
        let mut elsewhere = plain.clone();
        elsewhere.tree.context = "/home/ann/api".into();
        elsewhere.tree.dockerfile = Dockerfile::File("/home/ann/Dockerfile".into());
        assert_eq!(elsewhere.tag(), plain.tag());
    }
}
