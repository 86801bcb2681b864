//! Image and build.

use super::super::super::node::{Entry, Node};
use super::super::duration;
use super::super::values::{printed, text};
use super::nodes::{entry, map, retext, set_field, text_at};
use super::{Document, Translator};

/// Keys of `build` that have a field of the same name.
const BUILD_FIELDS: [&str; 6] = ["args", "context", "dockerfile", "dockerfile_inline", "labels", "target"];

/// Keys of `build` that change nothing here.
const SILENT: [&str; 3] = ["pull", "provenance", "sbom"];

impl<'a> Translator<'a> {
    /// Adds the image or the build, and when to pull.
    pub(super) fn image(&mut self, document: &mut Document<'a>) {
        let service = document.service;
        let image = set_field(service, "image");
        let name = image.and_then(printed);
        // Whoever uses an image that another service builds waits for that build.
        let built = name.as_ref().and_then(|name| self.builds.get(name)).copied();
        let own = set_field(service, "build");
        let build = own.or(built);
        if let Some((image, name)) = image.zip(name) {
            let name = if build.is_some() { repository(&name) } else { &name };
            document.add("image", retext(image, name));
        }
        if let Some(build) = build {
            let translated = self.build(build, own.is_some());
            document.add("build", translated);
        }
        self.pull(build.is_some(), document);
    }

    fn build(&mut self, build: &'a Node, is_own: bool) -> Node {
        let mut fields = Vec::new();
        for Entry { key, value } in build.entries().filter(|entry| !super::nodes::is_empty(&entry.value)) {
            let word = key.text.as_str();
            match word {
                "dockerfile" if text(value) == Some("Dockerfile") => {}
                _ if BUILD_FIELDS.contains(&word) => fields.push(entry(word, value.clone())),
                _ if SILENT.contains(&word) || word.starts_with("x-") || !is_own => {}
                _ => self.note(&value.span, format!("`{word}` of `build` is left out: the image is built without it")),
            }
        }
        map(&build.span, fields)
    }

    fn pull(&mut self, is_built: bool, document: &mut Document<'a>) {
        let Some(policy) = set_field(document.service, "pull_policy") else { return };
        let word = printed(policy).unwrap_or_default();
        let every = match word.as_str() {
            "build" | "missing" | "if_not_present" => return,
            _ if is_built => {
                self.note(&policy.span, "`pull_policy` has no effect: the image is built");
                return;
            }
            "daily" => Some(24 * 3600),
            "weekly" => Some(7 * 24 * 3600),
            word => word.strip_prefix("every_").and_then(duration).map(|period| period / 1_000_000_000),
        };
        let value = match every {
            Some(seconds) => {
                let every = text_at(&policy.span, format!("{seconds}s"));
                map(&policy.span, vec![entry("every", every)])
            }
            None => policy.clone(),
        };
        document.add("pull", value);
    }
}

/// Returns the name of an image without tag and digest: built images have tags of their own.
pub fn repository(image: &str) -> &str {
    let image = image.split('@').next().unwrap_or(image);
    match image.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => image,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_and_digests_are_left_out() {
        for (image, expected) in [
            ("app", "app"),
            ("app:1", "app"),
            ("localhost:5000/app", "localhost:5000/app"),
            ("localhost:5000/app:1@sha256:00", "localhost:5000/app"),
        ] {
            assert_eq!(repository(image), expected);
        }
    }
}
