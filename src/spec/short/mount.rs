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
    /// Memory.
    Tmpfs,
    /// The files of an image.
    Image,
}

/// Long form of a mount.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LongMount {
    /// `volume`, `bind`, `tmpfs` or `image`. Defaults to `volume` or `bind`, whichever `source` implies.
    #[serde(rename = "type", default)]
    kind: Option<MountType>,
    /// Name of a volume, a host path relative to the spec directory, or an image. Defaults to an anonymous volume.
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
    /// Create a missing directory on the engine's host, owned by root. Bind mounts only.
    #[serde(default)]
    create: bool,
    /// SELinux label of the source: `shared` (`z`) or `private` (`Z`). Bind mounts only.
    #[serde(default)]
    selinux: Option<Selinux>,
    /// Propagation of mounts below it. Bind mounts only. Defaults to `rprivate`.
    #[serde(default)]
    propagation: Option<Propagation>,
    /// Mounts below the source: `disabled`: not mounted; of a read-only mount `writable` or `readonly`. Bind mounts only.
    #[serde(default)]
    recursive: Option<Recursive>,
    /// Do not fill an empty volume with the files of the image. Volumes only.
    #[serde(default)]
    nocopy: bool,
    /// Path in the volume or image to mount instead of all of it.
    #[serde(default)]
    subpath: Option<String>,
    /// Size of a tmpfs.
    #[serde(default)]
    size: Option<ByteSize>,
    /// Permissions of a tmpfs, e.g. `01777`.
    #[serde(default)]
    mode: Option<FileMode>,
}

impl LongMount {
    fn source(&self) -> Result<MountSource, Invalid> {
        match (self.kind, self.source.as_deref()) {
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
            (Some(MountType::Tmpfs), None) => Ok(MountSource::Tmpfs { size: self.size, mode: self.mode }),
            (Some(MountType::Tmpfs), Some(_)) => Err(Invalid::new("a mount of type `tmpfs` has no `source`")),
            (Some(MountType::Image), image) => image
                .ok_or_else(|| {
                    Invalid::new("a mount of type `image` requires a `source`").hint("write `source: name:tag`")
                })?
                .parse()
                .map(MountSource::Image),
            (_, Some(source)) => MountSource::named_or_path(source),
        }
    }

    /// Rejects options that this source does not have.
    fn check_options(&self, source: &MountSource) -> Result<(), Invalid> {
        let is_bind = matches!(source, MountSource::Bind(_));
        let is_volume = matches!(source, MountSource::Anonymous | MountSource::Volume(_));
        let is_tmpfs = matches!(source, MountSource::Tmpfs { .. });
        let has_parts = matches!(source, MountSource::Volume(_) | MountSource::Image(_));
        if self.on_change.is_some() && !is_bind {
            return Err(Invalid::new("`on_change` applies to bind mounts of files, not to volumes"));
        }
        if self.selinux.is_some() && is_volume {
            return Err(Invalid::new("`selinux` applies to bind mounts, not to volumes").hint(SELINUX_HINT));
        }
        let options = [
            ("create", self.create, is_bind, "bind mounts"),
            ("selinux", self.selinux.is_some(), is_bind, "bind mounts"),
            ("propagation", self.propagation.is_some(), is_bind, "bind mounts"),
            ("recursive", self.recursive.is_some(), is_bind, "bind mounts"),
            ("nocopy", self.nocopy, is_volume, "volumes"),
            ("subpath", self.subpath.is_some(), has_parts, "named volumes and images"),
            ("size", self.size.is_some(), is_tmpfs, "mounts of type `tmpfs`"),
            ("mode", self.mode.is_some(), is_tmpfs, "mounts of type `tmpfs`"),
            ("read_only", self.read_only, !is_tmpfs, "volumes and bind mounts"),
        ];
        if let Some((option, _, _, mounts)) = options.iter().find(|(_, set, applies, _)| *set && !applies) {
            return Err(Invalid::new(format!("`{option}` applies to {mounts} only")));
        }
        if let Some(path) = self.subpath.as_deref().filter(|path| !is_relative(path)) {
            return Err(Invalid::new(format!("the subpath {} is not a relative path without `..`", quoted(path))));
        }
        match self.recursive {
            Some(_) if self.selinux.is_some() => {
                Err(Invalid::new("the engine does not take `selinux` and `recursive` of one mount"))
            }
            Some(Recursive::Writable | Recursive::Readonly) if !self.read_only => {
                Err(Invalid::new("`recursive: writable` and `readonly` apply to read-only mounts")
                    .hint("add `read_only: true`"))
            }
            _ => Ok(()),
        }
    }
}

const SELINUX_HINT: &str = "every container may use the engine's volumes under SELinux";

fn is_relative(path: &str) -> bool {
    !path.is_empty() && !path.starts_with('/') && path.split('/').all(|part| part != "..")
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

/// Options of the short form, beside `ro` and `rw`.
const SELINUX: [(&str, Selinux); 2] = [("z", Selinux::Shared), ("Z", Selinux::Private)];
const PROPAGATION: [(&str, Propagation); 6] = [
    ("rprivate", Propagation::Rprivate),
    ("private", Propagation::Private),
    ("rshared", Propagation::Rshared),
    ("shared", Propagation::Shared),
    ("rslave", Propagation::Rslave),
    ("slave", Propagation::Slave),
];

/// The word of a value in one of these tables.
fn word_of<T: PartialEq>(words: &[(&'static str, T)], value: &T) -> &'static str {
    words.iter().find(|(_, known)| known == value).map_or("", |(word, _)| word)
}

impl Selinux {
    /// Returns the engine's option: `z` or `Z`.
    pub fn option(self) -> &'static str {
        word_of(&SELINUX, &self)
    }
}

impl fmt::Display for Selinux {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Shared { "shared" } else { "private" })
    }
}

impl fmt::Display for Recursive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disabled => "disabled",
            Self::Writable => "writable",
            Self::Readonly => "readonly",
        })
    }
}

impl fmt::Display for Propagation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(word_of(&PROPAGATION, self))
    }
}

/// Parses the options of the short form: `ro,z`. Returns the first unknown one as an error.
fn short_options(text: &str) -> Result<(bool, MountOptions), &str> {
    let (mut read_only, mut options) = (false, MountOptions::default());
    for option in text.split(',') {
        if let Some((_, selinux)) = SELINUX.iter().find(|(word, _)| *word == option) {
            options.selinux = Some(*selinux);
        } else if let Some((_, propagation)) = PROPAGATION.iter().find(|(word, _)| *word == option) {
            options.propagation = Some(*propagation);
        } else {
            match option {
                "ro" => read_only = true,
                "rw" => {}
                "nocopy" => options.nocopy = true,
                "create" => options.create = true,
                other => return Err(other),
            }
        }
    }
    Ok((read_only, options))
}

impl FromStr for Mount {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = |why: &str| Invalid::new(format!("invalid mount {}: {why}", quoted(text)));
        let parts: Vec<&str> = text.split(':').collect();
        let (source, target, options) = match parts[..] {
            [target] => ("", target, "rw"),
            // `/data:ro`: an anonymous volume with options.
            [target, options] if !options.starts_with('/') && short_options(options).is_ok() => ("", target, options),
            [source, target] => (source, target, "rw"),
            [source, target, options] => (source, target, options),
            _ => return Err(wrong("too many parts").hint("write \"source:target\" or \"source:target:ro\"")),
        };
        let (read_only, options) = short_options(options).map_err(|unknown| {
            wrong(&format!("unknown option {}", quoted(unknown)))
                .hint("the options are `ro`, `rw`, `create`, `z`, `Z`, `nocopy` and a propagation such as `rslave`")
        })?;
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
        absolute(target, "target")?;
        match source {
            MountSource::Bind(_) if options.nocopy => Err(wrong("`nocopy` applies to volumes only")),
            MountSource::Anonymous | MountSource::Volume(_) if options.create => {
                Err(wrong("`create` applies to bind mounts only"))
            }
            MountSource::Anonymous | MountSource::Volume(_) if options.selinux.is_some() => {
                Err(wrong("`z` and `Z` apply to bind mounts, not to volumes").hint(SELINUX_HINT))
            }
            MountSource::Anonymous | MountSource::Volume(_) if options.propagation.is_some() => {
                Err(wrong("a propagation applies to bind mounts only"))
            }
            source => Ok(Self { source, target: target.into(), read_only, on_change: None, options }),
        }
    }
}

impl Mount {
    /// Returns the options of the short form; `None`: it needs the long form.
    fn short_options(&self) -> Option<Vec<String>> {
        let MountOptions { create, selinux, propagation, recursive, nocopy, subpath } = &self.options;
        if self.on_change.is_some() || *create || recursive.is_some() || subpath.is_some() || !self.source.is_shared() {
            return None;
        }
        let mut options: Vec<String> = Vec::new();
        options.extend(self.read_only.then(|| "ro".to_owned()));
        options.extend(selinux.map(|selinux| selinux.option().to_owned()));
        options.extend(propagation.map(|propagation| propagation.to_string()));
        options.extend(nocopy.then(|| "nocopy".to_owned()));
        Some(options)
    }

    fn type_and_source(&self) -> (Option<&'static str>, Option<String>) {
        match &self.source {
            MountSource::Anonymous => (None, None),
            MountSource::Volume(name) => (None, Some(name.to_string())),
            MountSource::Bind(path) => (None, Some(path.clone())),
            MountSource::Tmpfs { .. } => (Some("tmpfs"), None),
            MountSource::Image(image) => (Some("image"), Some(image.to_string())),
        }
    }
}

impl<'de> Shape<'de> for Mount {
    const EXPECTED: &'static str = "a mount such as \"data:/data\"";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        text.parse()
    }

    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        let long = LongMount::deserialize(MapAccessDeserializer::new(map))?;
        let source = long.source().and_then(|source| {
            absolute(&long.target, "target")?;
            long.check_options(&source)?;
            Ok(source)
        });
        let source = source.map_err(de::Error::custom)?;
        let LongMount { create, selinux, propagation, recursive, nocopy, subpath, .. } = long;
        let options = MountOptions { create, selinux, propagation, recursive, nocopy, subpath };
        Ok(Self { source, target: long.target, read_only: long.read_only, on_change: long.on_change, options })
    }
}

impl Serialize for Mount {
    /// The short form, unless an option needs the long one.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (kind, source) = self.type_and_source();
        if let Some(options) = self.short_options() {
            let source = source.map(|source| format!("{source}:")).unwrap_or_default();
            let options = if options.is_empty() { String::new() } else { format!(":{}", options.join(",")) };
            return serializer.collect_str(&format_args!("{source}{}{options}", self.target));
        }
        let MountOptions { create, selinux, propagation, recursive, nocopy, subpath } = &self.options;
        let mut map = serializer.serialize_map(None)?;
        let mut entry =
            |key: &str, value: Option<String>| value.map_or(Ok(()), |value| map.serialize_entry(key, &value));
        entry("type", kind.map(str::to_owned))?;
        entry("source", source)?;
        entry("target", Some(self.target.clone()))?;
        entry("selinux", selinux.map(|selinux| selinux.to_string()))?;
        entry("propagation", propagation.map(|propagation| propagation.to_string()))?;
        entry("recursive", recursive.map(|recursive| recursive.to_string()))?;
        entry("subpath", subpath.clone())?;
        if let MountSource::Tmpfs { size, mode } = self.source {
            entry("size", size.map(|size| size.to_string()))?;
            entry("mode", mode.map(|mode| mode.to_string()))?;
        }
        for (key, _) in
            [("read_only", self.read_only), ("create", *create), ("nocopy", *nocopy)].iter().filter(|it| it.1)
        {
            map.serialize_entry(key, &true)?;
        }
        if let Some(on_change) = &self.on_change {
            map.serialize_entry("on_change", on_change)?;
        }
        map.end()
    }
}

both_forms!(
    Mount,
    LongMount,
    "A mount: `name:/path` (a volume of the group), `./dir:/path` (relative to the spec directory), `/path` (an anonymous volume); `:ro` for read-only.",
    ["data:/data", "./conf:/conf:ro", {"type": "bind", "source": "./conf", "target": "/conf", "read_only": true, "create": true}],
    [{"type": "string", "pattern": "^([^:]+:)?/[^:]*(:(,?(ro|rw|create|z|Z|nocopy|r?private|r?shared|r?slave))+)?$"}]
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
            ("\"./a:/a:z,ro,rslave\"", "./a:/a:ro,z,rslave"),
            ("\"/a:/a:Z\"", "/a:/a:Z"),
            ("\"/a:nocopy\"", "/a:nocopy"),
            ("\"./a:/b:ro,create\"", r#"{"source":"./a","target":"/b","read_only":true,"create":true}"#),
            ("{\"source\": \"./a\", \"target\": \"/a\", \"selinux\": \"shared\"}", "./a:/a:z"),
            ("{\"source\": \"a\", \"target\": \"/a\", \"nocopy\": true}", "a:/a:nocopy"),
            (
                "{\"source\": \"./a\", \"target\": \"/a\", \"create\": true, \"selinux\": \"private\"}",
                r#"{"source":"./a","target":"/a","selinux":"private","create":true}"#,
            ),
            (
                "{\"source\": \"./a\", \"target\": \"/a\", \"recursive\": \"disabled\"}",
                r#"{"source":"./a","target":"/a","recursive":"disabled"}"#,
            ),
            (
                "{\"source\": \"a\", \"target\": \"/a\", \"subpath\": \"x/y\"}",
                r#"{"source":"a","target":"/a","subpath":"x/y"}"#,
            ),
            (
                "{\"type\": \"tmpfs\", \"target\": \"/a\", \"size\": \"64m\", \"mode\": \"0700\"}",
                r#"{"type":"tmpfs","target":"/a","size":"64m","mode":"0700"}"#,
            ),
            (
                "{\"type\": \"image\", \"source\": \"shop/conf:1\", \"target\": \"/a\"}",
                r#"{"type":"image","source":"shop/conf:1","target":"/a"}"#,
            ),
        ] {
            assert_eq!(canonical::<Mount>(json), expected);
        }
        for text in [
            "",
            ":",
            "a",
            "a:",
            ":/b",
            "a:b",
            "a:/b:",
            "A:/b",
            "a.new:/b",
            "~x:/b",
            ".x:/b",
            "a:/b:z",
            "a:/b:rslave",
            "./a:/b:nocopy",
            "a:/b:create",
            "/b:z",
            "a:/b:ro,",
        ] {
            assert!(text.parse::<Mount>().is_err(), "{text}");
        }
        for long in [
            r#"{"source": "a", "target": "/a", "on_change": "restart"}"#,
            r#"{"source": "a", "target": "/a", "create": true}"#,
            r#"{"source": "a", "target": "/a", "subpath": "../x"}"#,
            r#"{"source": "./a", "target": "/a", "subpath": "x"}"#,
            r#"{"source": "./a", "target": "/a", "recursive": "readonly"}"#,
            r#"{"source": "./a", "target": "/a", "recursive": "disabled", "selinux": "shared"}"#,
            r#"{"type": "tmpfs", "source": "a", "target": "/a"}"#,
            r#"{"type": "tmpfs", "target": "/a", "read_only": true}"#,
            r#"{"type": "image", "target": "/a"}"#,
        ] {
            assert!(serde_json::from_str::<Mount>(long).is_err(), "{long}");
        }
    }
}
