//! Image references.

use super::*;

/// Reference to an image: `[registry[:port]/]path[:tag][@sha256:digest]`, or an image id: `sha256:<64 hex>`.
///
/// Stores the text as written. [`ImageRef::familiar`] returns the form that the engine displays.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageRef(String);

/// Components of an image reference, borrowed from its text.
#[derive(Debug, Clone, Copy)]
pub struct ImageParts<'a> {
    /// Registry and path.
    pub name: &'a str,
    pub tag: Option<&'a str>,
    pub digest: Option<&'a str>,
}

impl<'a> ImageParts<'a> {
    /// Splits a reference by the rules of the Docker CLI. Does not validate it.
    pub fn split(text: &'a str) -> Self {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        // A colon before the last slash belongs to the registry's port.
        let path = rest.rfind('/').map_or(0, |slash| slash + 1);
        match rest[path..].find(':') {
            Some(colon) => Self { name: &rest[..path + colon], tag: Some(&rest[path + colon + 1..]), digest },
            None => Self { name: rest, tag: None, digest },
        }
    }

    /// Returns registry and path. The first component is a registry if it cannot be a path component of Docker Hub.
    pub fn registry(&self) -> (Option<&'a str>, &'a str) {
        match self.name.split_once('/') {
            Some((first, path)) if is_registry(first) => (Some(first), path),
            _ => (None, self.name),
        }
    }
}

fn is_registry(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.chars().any(|c| c.is_ascii_uppercase())
}

fn is_digest_hex(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn valid_host(host: &str) -> bool {
    let (host, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            ("localhost", if rest.is_empty() { None } else { Some(rest.strip_prefix(':').unwrap_or("")) })
        }
        None => host.split_once(':').map_or((host, None), |(host, port)| (host, Some(port))),
    };
    let label = |part: &str| {
        !part.is_empty()
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    host.split('.').all(label) && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// Returns true for `[a-z0-9]+` joined by `.`, `_`, `__` or any number of `-`.
fn valid_path_component(component: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !component.starts_with(alphanumeric) || !component.ends_with(alphanumeric) {
        return false;
    }
    component
        .split(alphanumeric)
        .filter(|separator| !separator.is_empty())
        .all(|separator| matches!(separator, "." | "_" | "__") || separator.chars().all(|c| c == '-'))
}

fn valid_tag(tag: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    tag.len() <= 128 && tag.starts_with(word) && tag.chars().all(|c| word(c) || c == '.' || c == '-')
}

impl FromStr for ImageRef {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = |why: String| Err(Invalid::new(format!("invalid image {}: {why}", quoted(text))));
        if text.is_empty() {
            return Err(Invalid::new("an image must not be empty"));
        }
        if text.strip_prefix("sha256:").is_some_and(is_digest_hex) {
            return Ok(Self(text.into()));
        }
        if let Some(c) = text.chars().find(|c| c.is_whitespace() || c.is_control()) {
            let escaped = c.escape_default();
            return invalid(if c == ' ' { "it contains a space".into() } else { format!("it contains `{escaped}`") });
        }
        let parts = ImageParts::split(text);
        if let Some(digest) = parts.digest
            && !digest.strip_prefix("sha256:").is_some_and(is_digest_hex)
        {
            return invalid("a digest must be `sha256:` and 64 digits 0-9a-f".into());
        }
        if let Some(tag) = parts.tag
            && !valid_tag(tag)
        {
            return invalid(format!("invalid tag {}", quoted(tag)));
        }
        let (registry, path) = parts.registry();
        if let Some(registry) = registry
            && !valid_host(registry)
        {
            // An upper-case first component counts as a registry, but can also be an invalid path.
            let why = format!("{} is neither a registry nor a lower-case name", quoted(registry));
            return invalid(why);
        }
        if path.len() > 255 {
            return invalid("the name is longer than 255 characters".into());
        }
        if is_digest_hex(path) {
            return invalid("64 hexadecimal digits alone are not a name".into())
                .map_err(|e| e.hint(format!("write `sha256:{path}` for an image's id")));
        }
        for component in path.split('/') {
            if valid_path_component(component) {
                continue;
            }
            return if component.is_empty() {
                invalid("a path component is empty".into())
            } else if component.chars().any(|c| c.is_ascii_uppercase()) {
                invalid(format!("{} must be lower case", quoted(component)))
            } else {
                invalid(format!(
                    "invalid path component {}; use a-z, 0-9, and `.`, `_`, `-` between them",
                    quoted(component)
                ))
            };
        }
        Ok(Self(text.into()))
    }
}

impl ImageRef {
    /// Returns the form in which the engine lists images: without `docker.io/` and `docker.io/library/`, with `:latest`
    /// if there is neither tag nor digest, and without the tag if there is a digest, which decides. An id is unchanged.
    pub fn familiar(&self) -> String {
        if self.is_id() {
            return self.0.clone();
        }
        let parts = ImageParts::split(&self.0);
        let (registry, path) = parts.registry();
        let hub = matches!(registry, None | Some("docker.io" | "index.docker.io"));
        let official = path.strip_prefix("library/").filter(|rest| hub && !rest.contains('/'));
        let familiar = match (registry, official) {
            (_, Some(official)) => official.to_owned(),
            (Some(registry), None) if !hub => format!("{registry}/{path}"),
            _ => path.to_owned(),
        };
        match (parts.digest, parts.tag) {
            (Some(digest), _) => format!("{familiar}@{digest}"),
            (None, tag) => format!("{familiar}:{}", tag.unwrap_or("latest")),
        }
    }

    /// Returns the repository in the familiar form, or `None` if a tag, digest or id is set.
    pub fn repository(&self) -> Option<String> {
        let parts = ImageParts::split(&self.0);
        if self.is_id() || parts.tag.is_some() || parts.digest.is_some() {
            return None;
        }
        self.familiar().strip_suffix(":latest").map(str::to_owned)
    }

    /// Returns true if this is an image id, which cannot be pulled.
    pub fn is_id(&self) -> bool {
        self.0.strip_prefix("sha256:").is_some_and(is_digest_hex)
    }
}

text_value!(ImageRef, text_only, "an image such as `postgres:15`", {
    "type": "string",
    "title": "image",
    "description": "Image reference as in `docker run`: [registry[:port]/]name[:tag][@sha256:digest], or an id `sha256:...`.",
    "pattern": "^[A-Za-z0-9\\[][A-Za-z0-9._:/@\\[\\]-]*$",
    "examples": ["postgres:15", "registry.example.com:5000/shop/api:1"]
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_have_a_familiar_form() {
        let id = format!("sha256:{}", "0a".repeat(32));
        let with_digest = format!("docker.io/library/a@{id}");
        let tag_and_digest = format!("r.example:5000/a/b:1@{id}");
        let tag_dropped = format!("r.example:5000/a/b@{id}");
        let familiar_digest = format!("a@{id}");
        let cases = [
            ("nginx", "nginx:latest"),
            ("nginx:1.27", "nginx:1.27"),
            ("library/nginx", "nginx:latest"),
            ("docker.io/nginx", "nginx:latest"),
            ("docker.io/library/nginx:1", "nginx:1"),
            ("index.docker.io/shop/api", "shop/api:latest"),
            ("docker.io/shop/api", "shop/api:latest"),
            ("docker.io/library/a/b", "library/a/b:latest"),
            ("localhost/a", "localhost/a:latest"),
            ("localhost:5000/a:1", "localhost:5000/a:1"),
            ("ghcr.io/library/a", "ghcr.io/library/a:latest"),
            ("Registry/a", "Registry/a:latest"),
            ("[::1]:5000/a", "[::1]:5000/a:latest"),
            ("a/b.c_d__e--f", "a/b.c_d__e--f:latest"),
            (&id, &id),
            (&with_digest, &familiar_digest),
            (&tag_and_digest, &tag_dropped),
        ];
        for (text, familiar) in cases {
            let image: ImageRef = text.parse().unwrap();
            assert_eq!(image.as_str(), text);
            assert_eq!(image.familiar(), familiar, "{text}");
        }
        let hex = "0a".repeat(32);
        let long = "a".repeat(256);
        for text in [
            "",
            " ",
            "A",
            "a:",
            ":a",
            "a/",
            "/a",
            "a//b",
            "a b",
            "a@",
            "a@sha256:1",
            "a_-b",
            "a..b",
            "a___b",
            "-a",
            "a-",
            "a:-b",
            "a:b:c",
            "localhost:x/a",
            "r.example:99999/a",
            "-r.example/a",
            "[::1/a",
            "a\n",
            "\u{e9}",
            "$A",
            &hex,
            &long,
        ] {
            assert!(text.parse::<ImageRef>().is_err(), "{text:?}");
        }
    }
}
