//! Single values of a spec: names, images, durations, sizes and the like.
//!
//! Each type can only hold what is valid, says in people's words what is wrong with a text, and prints one canonical
//! form, so that two ways to write one value are the same value. It must not know where a text came from (places are
//! the business of the decoder) nor what the value is used for.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// Why a text is not a valid value, in words for people, with a hint where there is one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Invalid {
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl Invalid {
    /// An error without a hint.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    /// The same error with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Invalid {
    /// The hint stands on a line of its own: that is how it travels through serde, whose errors are one text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n{hint}"),
            None => Ok(()),
        }
    }
}

/// Text from a spec, in an error message: in backquotes, cut when long, control characters escaped.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut shown: String = text.chars().take(LONGEST).flat_map(escaped).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

fn escaped(c: char) -> impl Iterator<Item = char> {
    let escaped = c.is_control().then(|| c.escape_default());
    let plain = escaped.is_none().then_some(c);
    escaped.into_iter().flatten().chain(plain)
}

/// Name of the newtype by which a type asks the decoder for a scalar's source text, whatever it would resolve to.
///
/// Other deserializers take it for an ordinary newtype, and the visitor then reads numbers and booleans as text.
pub(super) const VERBATIM: &str = "drillmaster::verbatim";

/// Name of the newtype by which a function of a program is asked for.
pub(super) const FUNCTION: &str = "drillmaster::function";

/// A value that may be written in several shapes: as a scalar, a list or a map.
pub(super) trait Shape<'de>: Sized {
    /// What is expected, with its article: "a port", "a duration such as `10s`".
    const EXPECTED: &'static str;

    /// From a scalar's text.
    fn from_text(text: &str) -> Result<Self, Invalid>;

    /// From a list; refused unless a type takes lists.
    fn from_list<A: SeqAccess<'de>>(_list: A) -> Result<Self, A::Error> {
        Err(de::Error::invalid_type(de::Unexpected::Seq, &Self::EXPECTED))
    }

    /// From a map; refused unless a type has a long form.
    fn from_map<A: MapAccess<'de>>(_map: A) -> Result<Self, A::Error> {
        Err(de::Error::invalid_type(de::Unexpected::Map, &Self::EXPECTED))
    }
}

/// Reads a value that may be written in several shapes.
pub(super) fn shaped<'de, D: Deserializer<'de>, S: Shape<'de>>(deserializer: D) -> Result<S, D::Error> {
    deserializer.deserialize_newtype_struct(VERBATIM, ShapeVisitor(PhantomData))
}

struct ShapeVisitor<S>(PhantomData<S>);

impl<'de, S: Shape<'de>> Visitor<'de> for ShapeVisitor<S> {
    type Value = S;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(S::EXPECTED)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<S, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<S, E> {
        S::from_text(text).map_err(E::custom)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<S, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<S, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<S, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<S, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<S, A::Error> {
        S::from_list(list)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<S, A::Error> {
        S::from_map(map)
    }
}

/// Reads a value that must be written as text: `image: 80` is a mistake, not an image.
fn texted<'de, D: Deserializer<'de>, S: Shape<'de>>(deserializer: D) -> Result<S, D::Error> {
    struct Texts<S>(PhantomData<S>);
    impl<'de, S: Shape<'de>> Visitor<'de> for Texts<S> {
        type Value = S;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(S::EXPECTED)
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<S, E> {
            S::from_text(text).map_err(E::custom)
        }
    }
    deserializer.deserialize_str(Texts(PhantomData))
}

/// What every value kept as text has: access to the text, printing, writing and reading, and its schema.
macro_rules! text_value {
    ($type:ident, $read:ident, $expected:literal, $schema:tt) => {
        impl $type {
            /// The canonical text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.0
            }
        }

        impl PartialEq<str> for $type {
            fn eq(&self, other: &str) -> bool {
                self.0 == other
            }
        }

        impl PartialEq<&str> for $type {
            fn eq(&self, other: &&str) -> bool {
                self.0 == *other
            }
        }

        impl TryFrom<String> for $type {
            type Error = Invalid;
            fn try_from(text: String) -> Result<Self, Invalid> {
                text.parse()
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        read_value!($type, $read, $expected, $schema);
    };
}

/// Deserialization and schema of a value that is read from a scalar through `FromStr`.
macro_rules! read_value {
    ($type:ident, $read:ident, $expected:literal, $schema:tt) => {
        impl<'de> Shape<'de> for $type {
            const EXPECTED: &'static str = $expected;
            fn from_text(text: &str) -> Result<Self, Invalid> {
                text.parse()
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $read(deserializer)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

// ---------------------------------------------------------------------------------------------------------------------

/// Name of a service, group, volume or network: lower-case letters, digits, `-` and `_`, beginning and ending with a
/// letter or digit, at most 63 characters. No dots: a name ending in `.new` is a container on its way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

const NAME_LENGTH: usize = 63;

impl FromStr for Name {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = |why: String| Err(Invalid::new(format!("invalid name {}: {why}", quoted(text))));
        let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        if text.is_empty() {
            return Err(Invalid::new("a name must not be empty"));
        }
        if text.len() > NAME_LENGTH {
            return wrong(format!("{} characters, at most {NAME_LENGTH} are allowed", text.chars().count()));
        }
        if text.chars().any(|c| c.is_ascii_uppercase()) && text.to_ascii_lowercase().parse::<Self>().is_ok() {
            let lower = text.to_ascii_lowercase();
            return wrong("names are lower-case".into()).map_err(|e| e.hint(format!("did you mean `{lower}`?")));
        }
        if let Some(c) = text.chars().find(|&c| !alphanumeric(c) && c != '-' && c != '_') {
            return wrong(format!("{} is not allowed; use a-z, 0-9, `-` and `_`", quoted(&c.to_string())));
        }
        if !text.starts_with(alphanumeric) || !text.ends_with(alphanumeric) {
            return wrong("it must begin and end with a letter or digit".into());
        }
        Ok(Self(text.into()))
    }
}

text_value!(Name, texted, "a name", {
    "type": "string",
    "title": "name",
    "description": "Lower-case letters, digits, `-` and `_`; begins and ends with a letter or digit; at most 63 characters.",
    "pattern": "^[a-z0-9]([a-z0-9_-]*[a-z0-9])?$",
    "maxLength": 63,
    "examples": ["appdb", "todo-web"]
});

// ---------------------------------------------------------------------------------------------------------------------

/// Reference to an image: `[registry[:port]/]path[:tag][@sha256:digest]`, or the id of an image, `sha256:<64 hex>`.
///
/// Kept as written. [`ImageRef::familiar`] gives the form under which the engine shows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageRef(String);

/// An image reference in its parts, all borrowed from its text.
struct ImageParts<'a> {
    /// Everything before tag and digest.
    name: &'a str,
    tag: Option<&'a str>,
    digest: Option<&'a str>,
}

impl<'a> ImageParts<'a> {
    fn split(text: &'a str) -> Self {
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

    /// Registry and path; the first component is a registry when it cannot be a path component of Docker Hub.
    fn registry(&self) -> (Option<&'a str>, &'a str) {
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

/// `[a-z0-9]+` parts joined by `.`, `_`, `__` or any number of `-`.
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
        let wrong = |why: String| Err(Invalid::new(format!("invalid image {}: {why}", quoted(text))));
        if text.is_empty() {
            return Err(Invalid::new("an image must not be empty"));
        }
        if text.strip_prefix("sha256:").is_some_and(is_digest_hex) {
            return Ok(Self(text.into()));
        }
        if let Some(c) = text.chars().find(|c| c.is_whitespace() || c.is_control()) {
            let shown = c.escape_default().to_string();
            return wrong(if c == ' ' { "it holds a space".into() } else { format!("it holds `{shown}`") });
        }
        let parts = ImageParts::split(text);
        if let Some(digest) = parts.digest
            && !digest.strip_prefix("sha256:").is_some_and(is_digest_hex)
        {
            return wrong("a digest is `sha256:` and 64 digits 0-9a-f".into());
        }
        if let Some(tag) = parts.tag
            && !valid_tag(tag)
        {
            return wrong(format!("invalid tag {}", quoted(tag)));
        }
        let (registry, path) = parts.registry();
        if let Some(registry) = registry
            && !valid_host(registry)
        {
            // An upper-case first component can only be a registry; say both readings.
            let why = format!("{} is neither a registry nor a lower-case name", quoted(registry));
            return wrong(why);
        }
        if path.len() > 255 {
            return wrong("the name is longer than 255 characters".into());
        }
        if is_digest_hex(path) {
            return wrong("64 hexadecimal digits alone are not a name".into())
                .map_err(|e| e.hint(format!("write `sha256:{path}` for an image's id")));
        }
        for component in path.split('/') {
            if valid_path_component(component) {
                continue;
            }
            return if component.is_empty() {
                wrong("a part of the name is empty".into())
            } else if component.chars().any(|c| c.is_ascii_uppercase()) {
                wrong(format!("{} must be lower-case", quoted(component)))
            } else {
                wrong(format!("invalid part {}; use a-z, 0-9, and `.`, `_`, `-` between them", quoted(component)))
            };
        }
        Ok(Self(text.into()))
    }
}

impl ImageRef {
    /// The form in which the engine lists and reports images: `docker.io/` and `docker.io/library/` left out,
    /// `:latest` added where neither tag nor digest is written. An id stays as it is.
    pub fn familiar(&self) -> String {
        if self.is_id() {
            return self.0.clone();
        }
        let parts = ImageParts::split(&self.0);
        let (registry, path) = parts.registry();
        let hub = matches!(registry, None | Some("docker.io" | "index.docker.io"));
        let official = path.strip_prefix("library/").filter(|rest| hub && !rest.contains('/'));
        let mut familiar = match (registry, official) {
            (_, Some(official)) => official.to_owned(),
            (Some(registry), None) if !hub => format!("{registry}/{path}"),
            _ => path.to_owned(),
        };
        match (parts.tag, parts.digest) {
            (None, None) => familiar.push_str(":latest"),
            (tag, digest) => {
                if let Some(tag) = tag {
                    familiar = format!("{familiar}:{tag}");
                }
                if let Some(digest) = digest {
                    familiar = format!("{familiar}@{digest}");
                }
            }
        }
        familiar
    }

    /// The repository alone, in the same form; `None` where a tag, a digest or an id is written.
    pub fn repository(&self) -> Option<String> {
        let parts = ImageParts::split(&self.0);
        if self.is_id() || parts.tag.is_some() || parts.digest.is_some() {
            return None;
        }
        self.familiar().strip_suffix(":latest").map(str::to_owned)
    }

    /// Whether this is the id of an image, which cannot be pulled.
    pub fn is_id(&self) -> bool {
        self.0.strip_prefix("sha256:").is_some_and(is_digest_hex)
    }
}

text_value!(ImageRef, texted, "an image such as `postgres:15`", {
    "type": "string",
    "title": "image",
    "description": "Image reference as in `docker run`: [registry[:port]/]name[:tag][@sha256:digest], or an id `sha256:...`.",
    "pattern": "^[A-Za-z0-9\\[][A-Za-z0-9._:/@\\[\\]-]*$",
    "examples": ["postgres:15", "registry.example.com:5000/shop/api:1"]
});

// ---------------------------------------------------------------------------------------------------------------------

/// Any text, read from any scalar with its source kept as it is: `1.10` stays "1.10", `yes` stays "yes".
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Text(String);

impl FromStr for Text {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.contains('\0') {
            true => Err(Invalid::new("text must not hold a NUL character")),
            false => Ok(Self(text.into())),
        }
    }
}

text_value!(Text, shaped, "text", {
    "type": ["string", "number", "boolean"],
    "description": "Text; numbers and true/false are taken as they are written. Write \"\" for an empty value."
});

/// Words of a command line: a list, or one string that is split as a shell would split it (but not run by a shell).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Words(pub Vec<String>);

impl FromStr for Words {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.contains('\0') {
            return Err(Invalid::new("text must not hold a NUL character"));
        }
        match shlex::split(text) {
            Some(words) => Ok(Self(words)),
            None => Err(Invalid::new(format!("{}: a quote or backslash is left open", quoted(text)))
                .hint("write a list: [program, argument, ...]")),
        }
    }
}

impl Deref for Words {
    type Target = [String];
    fn deref(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match shlex::try_join(self.0.iter().map(String::as_str)) {
            Ok(line) => f.write_str(&line),
            Err(_) => write!(f, "{:?}", self.0), // a NUL, which reading refuses
        }
    }
}

impl Serialize for Words {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Shape<'de> for Words {
    const EXPECTED: &'static str = "a list of words or one string";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        text.parse()
    }

    fn from_list<A: SeqAccess<'de>>(list: A) -> Result<Self, A::Error> {
        let words: Vec<Text> = Vec::deserialize(de::value::SeqAccessDeserializer::new(list))?;
        Ok(Self(words.into_iter().map(String::from).collect()))
    }
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        shaped(deserializer)
    }
}

impl JsonSchema for Words {
    fn schema_name() -> Cow<'static, str> {
        "Words".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A list of words, or one string that is split as a shell would split it (but not run by a shell).",
            "anyOf": [
                {"type": "array", "items": generator.subschema_for::<Text>()},
                {"type": "string"}
            ],
            "examples": [["serve", "--port", "80"], "serve --port 80"]
        })
    }
}

/// One value, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct OneOrMany<T>(pub Vec<T>);

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Deref for OneOrMany<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Both<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Both<T> {
            type Value = OneOrMany<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one value or a list")
            }
            fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
                deserializer.deserialize_any(self)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                T::deserialize(de::value::StrDeserializer::new(text)).map(|one| OneOrMany(vec![one]))
            }
            fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
                Ok(OneOrMany::default())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(list)).map(OneOrMany)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(de::value::MapAccessDeserializer::new(map)).map(|one| OneOrMany(vec![one]))
            }
        }
        deserializer.deserialize_newtype_struct(VERBATIM, Both(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMany_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({"anyOf": [one, {"type": "array", "items": one}]})
    }
}

// ---------------------------------------------------------------------------------------------------------------------

/// A length of time with its unit: `100ms`, `10s`, `1m30s`, `2h`, `0s`. At most what the engine can hold, 292 years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Period(Duration);

impl Period {
    /// A period of this length.
    pub const fn new(duration: Duration) -> Self {
        Self(duration)
    }

    /// The length.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl From<Period> for Duration {
    fn from(period: Period) -> Self {
        period.0
    }
}

/// Units with their nanoseconds, the longest first.
const TIME_UNITS: [(&str, u64); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Splits off a decimal number: digits, at most one point among them. `None` when there is none.
fn take_number(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let digits = number.bytes().filter(u8::is_ascii_digit).count();
    (digits > 0 && number.len() - digits <= 1).then_some((number, rest))
}

/// A decimal number times a unit, rounded down, or `None` where it does not fit.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let total = whole.checked_mul(unit)?;
    let fraction = &fraction[..fraction.len().min(15)];
    let Ok(digits) = fraction.parse::<u128>() else {
        return Some(total);
    };
    let part = u128::from(unit) * digits / 10u128.pow(u32::try_from(fraction.len()).ok()?);
    total.checked_add(u64::try_from(part).ok()?)
}

impl FromStr for Period {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = |why: &str| Invalid::new(format!("invalid duration {}: {why}", quoted(text)));
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(Invalid::new("a duration must not be empty").hint("write for example `10s`"));
        }
        let mut nanoseconds: u64 = 0;
        while !rest.is_empty() {
            let (number, after) = take_number(rest)
                .ok_or_else(|| wrong("not a number with a unit").hint("write for example `100ms`, `10s` or `1m30s`"))?;
            let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
            let (unit, after) = after.split_at(end);
            let unit = unit.trim();
            if unit.is_empty() {
                return Err(wrong("the unit is missing").hint(format!("did you mean `{}s`?", text.trim())));
            }
            let (_, factor) = TIME_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(|| {
                wrong(&format!("unknown unit {}", quoted(unit))).hint("units are `h`, `m`, `s`, `ms`, `us` and `ns`")
            })?;
            nanoseconds = scaled(number, *factor)
                .and_then(|part| nanoseconds.checked_add(part))
                .filter(|sum| i64::try_from(*sum).is_ok())
                .ok_or_else(|| wrong("too long"))?;
            rest = after;
        }
        Ok(Self(Duration::from_nanos(nanoseconds)))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_nanos();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (name, factor) in TIME_UNITS {
            let count = rest / u128::from(factor);
            rest %= u128::from(factor);
            if count > 0 {
                write!(f, "{count}{name}")?;
            }
        }
        Ok(())
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

read_value!(Period, shaped, "a duration such as `10s`", {
    "type": "string",
    "title": "duration",
    "description": "Number and unit, one or several: `100ms`, `10s`, `1m30s`, `2h`. Units: h, m, s, ms, us, ns.",
    "pattern": "^([0-9]+(\\.[0-9]*)?(h|m|s|ms|us|ns))+$",
    "examples": ["100ms", "10s", "1m30s"]
});

/// A number of bytes: `512k`, `256m`, `1g`, `1.5g`, or a plain integer. Units count in 1024s, as Docker's do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(u64);

impl ByteSize {
    /// So many bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number of bytes. Always fits an `i64`, as the engine wants it.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

/// Letters of the units with the power of 1024, the largest first.
const SIZE_UNITS: [(char, u32); 5] = [('t', 4), ('g', 3), ('m', 2), ('k', 1), ('b', 0)];

fn size_factor(unit: &str) -> Option<u64> {
    let unit = unit.trim().to_ascii_lowercase();
    let mut letters = unit.chars();
    let Some(first) = letters.next() else { return Some(1) };
    let (_, power) = SIZE_UNITS.iter().find(|(letter, _)| *letter == first)?;
    let known = match letters.as_str() {
        "" => true,
        "b" | "ib" => first != 'b',
        _ => false,
    };
    known.then(|| 1024u64.pow(*power))
}

impl FromStr for ByteSize {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let hint = "write a number and `k`, `m` or `g`, for example `256m`";
        let wrong = |why: &str| Invalid::new(format!("invalid size {}: {why}", quoted(text)));
        let (number, unit) = take_number(text.trim()).ok_or_else(|| wrong("not a number with a unit").hint(hint))?;
        let factor = size_factor(unit).ok_or_else(|| wrong(&format!("unknown unit {}", quoted(unit))).hint(hint))?;
        scaled(number, factor).filter(|bytes| i64::try_from(*bytes).is_ok()).map(Self).ok_or_else(|| wrong("too large"))
    }
}

impl fmt::Display for ByteSize {
    /// With the largest unit that leaves a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (letter, power) in SIZE_UNITS {
            let unit = 1024u64.pow(power);
            if self.0 >= unit && self.0.is_multiple_of(unit) {
                return write!(f, "{}{letter}", self.0 / unit);
            }
        }
        f.write_str("0b")
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

read_value!(ByteSize, shaped, "a size such as `256m`", {
    "title": "size",
    "description": "Bytes: a number with `b`, `k`, `m`, `g` or `t` (in 1024s, as Docker counts), or a plain integer.",
    "anyOf": [
        {"type": "string", "pattern": "^[0-9]+(\\.[0-9]*)? ?([bB]|[kmgtKMGT]([iI]?[bB])?)?$"},
        {"type": "integer", "minimum": 0}
    ],
    "examples": ["256m", "1g"]
});

/// A number of processors, more than 0, to the nano-processor: `0.5`, `2`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct CpuCount(f64);

impl CpuCount {
    /// The number of processors.
    pub const fn get(self) -> f64 {
        self.0
    }

    /// In billionths, as the engine wants it.
    pub fn nanos(self) -> i64 {
        // Reading has checked that this is between 1 and a million billions.
        (self.0 * 1e9).round() as i64
    }
}

impl FromStr for CpuCount {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = |why: &str| Invalid::new(format!("invalid number of processors {}: {why}", quoted(text)));
        let plain = text.trim().bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b));
        let count: f64 = text
            .trim()
            .parse()
            .ok()
            .filter(|_| plain)
            .ok_or_else(|| wrong("not a number").hint("write for example `0.5`"))?;
        match count {
            count if !(1e-9..).contains(&count) => Err(wrong("it must be more than 0")),
            count if count > 1e6 => Err(wrong("too many")),
            count => Ok(Self(count)),
        }
    }
}

impl fmt::Display for CpuCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Serialize for CpuCount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0)
    }
}

read_value!(CpuCount, shaped, "a number of processors such as `0.5`", {
    "type": "number",
    "description": "Number of processors, more than 0.",
    "exclusiveMinimum": 0,
    "examples": [0.5, 2]
});

// ---------------------------------------------------------------------------------------------------------------------

/// A regular expression, as regex-lite reads it; it may match anywhere in a line. Equal when its source is equal.
#[derive(Clone)]
pub struct Pattern(regex_lite::Regex);

impl Pattern {
    /// The source of the expression.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether it matches somewhere in this text.
    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl FromStr for Pattern {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() {
            return Err(Invalid::new("a regular expression must not be empty"));
        }
        regex_lite::Regex::new(text)
            .map(Self)
            .map_err(|error| Invalid::new(format!("invalid regular expression {}: {error}", quoted(text))))
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pattern").field(&self.as_str()).finish()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Pattern {}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

read_value!(Pattern, texted, "a regular expression", {
    "type": "string",
    "minLength": 1,
    "description": "Regular expression; it may match anywhere in a line.",
    "examples": ["ready to accept connections"]
});

// ---------------------------------------------------------------------------------------------------------------------

/// A signal: `SIGTERM`, `TERM` or its Linux number. Kept as `SIGTERM`, `SIGRTMIN+3`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(String);

/// Names by number, as on Linux on the usual architectures; index 0 is signal 1.
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

/// First and last of the real-time signals that a program may use.
const REAL_TIME: std::ops::RangeInclusive<usize> = 34..=64;

fn signal_by_number(number: usize) -> Option<String> {
    match number {
        34 => Some("SIGRTMIN".into()),
        64 => Some("SIGRTMAX".into()),
        _ if REAL_TIME.contains(&number) => Some(format!("SIGRTMIN+{}", number - REAL_TIME.start())),
        _ => number.checked_sub(1).and_then(|index| SIGNALS.get(index)).map(|name| format!("SIG{name}")),
    }
}

fn signal_by_name(name: &str) -> Option<String> {
    let (first, last) = (REAL_TIME.start(), REAL_TIME.end());
    let number = match name {
        "IOT" => 6,
        "POLL" => 29,
        "RTMIN" => *first,
        "RTMAX" => *last,
        _ => {
            if let Some(offset) = name.strip_prefix("RTMIN+") {
                first.checked_add(offset.parse().ok()?)?
            } else if let Some(offset) = name.strip_prefix("RTMAX-") {
                last.checked_sub(offset.parse().ok()?).filter(|number| REAL_TIME.contains(number))?
            } else {
                SIGNALS.iter().position(|signal| *signal == name)? + 1
            }
        }
    };
    signal_by_number(number)
}

impl FromStr for Signal {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let upper = text.trim().to_ascii_uppercase();
        let signal = match upper.parse::<usize>() {
            Ok(number) => signal_by_number(number),
            Err(_) => signal_by_name(upper.strip_prefix("SIG").unwrap_or(&upper)),
        };
        signal.map(Self).ok_or_else(|| {
            Invalid::new(format!("unknown signal {}", quoted(text)))
                .hint("write a name such as `SIGTERM` or a number such as 15")
        })
    }
}

text_value!(Signal, shaped, "a signal such as `SIGTERM`", {
    "description": "Name of a signal, or its number.",
    "anyOf": [
        {"type": "string", "pattern": "^([sS][iI][gG])?[a-zA-Z][a-zA-Z0-9+-]*$"},
        {"type": "integer", "minimum": 1, "maximum": 64}
    ],
    "examples": ["SIGTERM", "SIGINT"]
});

/// A Linux capability: `NET_ADMIN`, `ALL`; `CAP_` in front and lower case are accepted and left out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability(String);

impl FromStr for Capability {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        match !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_') {
            true => Ok(Self(name.into())),
            false => Err(Invalid::new(format!("invalid capability {}", quoted(text)))
                .hint("write for example `NET_ADMIN`, or `ALL`")),
        }
    }
}

text_value!(Capability, texted, "a capability such as `NET_ADMIN`", {
    "type": "string",
    "description": "Linux capability, or `ALL`.",
    "pattern": "^[A-Za-z_]+$",
    "examples": ["NET_ADMIN", "ALL"]
});

/// Name of an environment variable: not empty, without `=`, white space and NUL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnvName(String);

impl FromStr for EnvName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() {
            return Err(Invalid::new("the name of a variable must not be empty"));
        }
        match text.chars().find(|c| *c == '=' || c.is_whitespace() || c.is_control()) {
            None => Ok(Self(text.into())),
            Some(c) => {
                let invalid = Invalid::new(format!("invalid name of a variable {}", quoted(text)));
                Err(match c {
                    '=' => invalid.hint("write `KEY: value`, not `KEY=value`"),
                    _ => invalid.hint("a name has no white space"),
                })
            }
        }
    }
}

text_value!(EnvName, texted, "the name of a variable", {
    "type": "string",
    "description": "Name of an environment variable: not empty, without `=` and white space.",
    "pattern": "^[^=\\s]+$",
    "examples": ["LOG_LEVEL"]
});

// ---------------------------------------------------------------------------------------------------------------------

/// Key of an output, as in `capture: user_id` and `${context.user_id}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutputKey(String);

impl FromStr for OutputKey {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let word = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if word && text.starts_with(|c: char| !c.is_ascii_digit()) {
            return Ok(Self(text.into()));
        }
        Err(Invalid::new(format!("invalid key of an output {}", quoted(text)))
            .hint("letters, digits and `_`, beginning with a letter or `_`"))
    }
}

text_value!(OutputKey, texted, "the key of an output", {
    "type": "string",
    "description": "Key of an output: letters, digits and `_`; others refer to it as `${context.key}`.",
    "pattern": "^[A-Za-z_][A-Za-z0-9_]*$",
    "examples": ["user_id"]
});

// ---------------------------------------------------------------------------------------------------------------------

/// An `http://` URL with a host: `http://localhost:9/alert?who=ann`. Kept as written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HttpUrl(String);

const HTTP: &str = "http://";

impl FromStr for HttpUrl {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = |why: &str| Invalid::new(format!("invalid URL {}: {why}", quoted(text)));
        if text.starts_with("https://") {
            let hint = "write an `http://` URL, or `run` a program such as curl";
            return Err(Invalid::new(format!("{}: https is not supported", quoted(text))).hint(hint));
        }
        if !text.starts_with(HTTP) {
            let wrong = wrong("it does not begin with `http://`");
            return Err(match text.contains("://") {
                true => wrong,
                false => wrong.hint(format!("did you mean `{HTTP}{}`?", text.trim_start_matches('/'))),
            });
        }
        if text.contains(|c: char| !c.is_ascii_graphic()) {
            return Err(wrong("it holds white space or characters that are not ASCII").hint("write `%20` for a space"));
        }
        if text.contains('#') {
            return Err(wrong("a part after `#` is never sent"));
        }
        let url = Self(text.into());
        if url.authority().contains('@') {
            return Err(wrong("it holds a user").hint("write a header: `authorization: Basic ...`"));
        }
        let (host, port) = url.host_and_port();
        let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let sound = match url.authority().starts_with('[') {
            true => host.parse::<std::net::Ipv6Addr>().is_ok(),
            false => !host.is_empty() && host.chars().all(name),
        };
        match port.map(str::parse::<u16>) {
            _ if !sound => Err(wrong("it names no host")),
            None | Some(Ok(1..)) => Ok(url),
            Some(_) => Err(wrong("ports go from 1 to 65535")),
        }
    }
}

impl HttpUrl {
    /// Host and port as they are written: what the `Host` header says.
    pub fn authority(&self) -> &str {
        let rest = self.0.strip_prefix(HTTP).unwrap_or_default();
        rest.split(['/', '?']).next().unwrap_or_default()
    }

    fn host_and_port(&self) -> (&str, Option<&str>) {
        let authority = self.authority();
        match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            // What stands behind the bracket without a colon is no port.
            Some((host, rest)) => (host, Some(rest.strip_prefix(':').unwrap_or("x"))),
            None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
        }
    }

    /// Name or address of the host, without brackets.
    pub fn host(&self) -> &str {
        self.host_and_port().0
    }

    /// The port; 80 unless written.
    pub fn port(&self) -> u16 {
        self.host_and_port().1.and_then(|port| port.parse().ok()).unwrap_or(80)
    }

    /// Path and query, beginning with `/`: what the request line says.
    pub fn target(&self) -> Cow<'_, str> {
        match self.0.get(HTTP.len() + self.authority().len()..).unwrap_or_default() {
            path if path.starts_with('/') => path.into(),
            query => format!("/{query}").into(),
        }
    }
}

text_value!(HttpUrl, texted, "a URL such as `http://localhost:8080/path`", {
    "type": "string",
    "title": "URL",
    "description": "A URL that begins with `http://`; https is not supported.",
    "pattern": "^http://[^/\\s]",
    "examples": ["http://localhost:9/alert"]
});

/// Name of an HTTP header. Equal whatever its case: kept in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeaderName(String);

impl FromStr for HeaderName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        match !text.is_empty() && text.chars().all(token) {
            true => Ok(Self(text.to_ascii_lowercase())),
            false => Err(Invalid::new(format!("invalid name of a header {}", quoted(text)))
                .hint("write letters, digits and `-`, for example `content-type`")),
        }
    }
}

text_value!(HeaderName, texted, "the name of a header", {
    "type": "string",
    "description": "Name of an HTTP header.",
    "pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$",
    "examples": ["content-type"]
});

/// Value of an HTTP header: one line, without white space around it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeaderValue(String);

impl FromStr for HeaderValue {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.trim() {
            line if line.contains(char::is_control) => {
                Err(Invalid::new(format!("invalid value of a header {}", quoted(text))).hint("a header is one line"))
            }
            line => Ok(Self(line.into())),
        }
    }
}

text_value!(HeaderValue, shaped, "the value of a header", {
    "type": ["string", "number", "boolean"],
    "description": "Value of an HTTP header: one line."
});

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads each text and compares what it prints; the empty text stands for an error.
    fn canonical<T: FromStr<Err = Invalid> + fmt::Display>(cases: &[(&str, &str)]) {
        for (text, expected) in cases {
            match text.parse::<T>() {
                Ok(value) => {
                    assert_eq!(value.to_string(), *expected, "{text}");
                    let again = value.to_string().parse::<T>().map(|again| again.to_string());
                    assert_eq!(again.as_deref(), Ok(*expected), "{text}, read again");
                }
                Err(error) => assert_eq!(*expected, "", "{text}: {error}"),
            }
        }
    }

    #[test]
    fn names() {
        let long = "a".repeat(63);
        let longer = "a".repeat(64);
        let good = ["a", "a1", "my-app_2", "0", &long];
        let bad = ["", "-a", "a-", "_a", "A", "a.b", "a.new", "a b", "\u{e9}", "a/b", &longer];
        canonical::<Name>(&good.map(|name| (name, name)));
        canonical::<Name>(&bad.map(|name| (name, "")));
    }

    #[test]
    fn images_have_the_engines_familiar_form() {
        let id = format!("sha256:{}", "0a".repeat(32));
        let with_digest = format!("docker.io/library/a@{id}");
        let tag_and_digest = format!("r.example:5000/a/b:1@{id}");
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
            (&tag_and_digest, &tag_and_digest),
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

    #[test]
    fn periods() {
        canonical::<Period>(&[
            ("0s", "0s"),
            ("0ms", "0s"),
            ("100ms", "100ms"),
            ("1m30s", "1m30s"),
            ("90s", "1m30s"),
            ("1.5s", "1s500ms"),
            ("0.5h", "30m"),
            ("120m", "2h"),
            ("1us1ns", "1us1ns"),
            ("0.1234567891234567s", "123ms456us789ns"),
            ("", ""),
            ("10", ""),
            ("s", ""),
            ("-1s", ""),
            ("1x", ""),
            ("1..5s", ""),
            ("1d", ""),
            ("99999999999999999999s", ""),
            ("9999999h", ""),
        ]);
    }

    #[test]
    fn sizes() {
        canonical::<ByteSize>(&[
            ("0", "0b"),
            ("1024", "1k"),
            ("1000", "1000b"),
            ("64m", "64m"),
            ("64MB", "64m"),
            ("64MiB", "64m"),
            ("1.5g", "1536m"),
            ("1024k", "1m"),
            ("2t", "2t"),
            ("5 b", "5b"),
            ("", ""),
            ("m", ""),
            ("5x", ""),
            ("5bb", ""),
            ("-1m", ""),
            ("1e3", ""),
            ("99999999t", ""),
        ]);
    }

    #[test]
    fn processors() {
        canonical::<CpuCount>(&[
            ("0.5", "0.5"),
            ("2", "2"),
            ("2.0", "2"),
            ("1e-1", "0.1"),
            ("0", ""),
            ("-1", ""),
            ("inf", ""),
            ("NaN", ""),
            ("1e300", ""),
            ("", ""),
        ]);
        assert_eq!("0.5".parse::<CpuCount>().unwrap().nanos(), 500_000_000);
    }

    #[test]
    fn signals_capabilities_and_names_of_variables() {
        canonical::<Signal>(&[
            ("SIGTERM", "SIGTERM"),
            ("term", "SIGTERM"),
            ("15", "SIGTERM"),
            ("9", "SIGKILL"),
            ("SIGRTMIN+3", "SIGRTMIN+3"),
            ("37", "SIGRTMIN+3"),
            ("RTMAX-30", "SIGRTMIN"),
            ("RTMAX-0", "SIGRTMAX"),
            ("64", "SIGRTMAX"),
            ("0", ""),
            ("32", ""),
            ("65", ""),
            ("RTMAX-99", ""),
            ("RTMIN+18446744073709551615", ""),
            ("SIGFOO", ""),
            ("SIG", ""),
            ("", ""),
        ]);
        canonical::<Capability>(&[
            ("net_admin", "NET_ADMIN"),
            ("CAP_SYS_PTRACE", "SYS_PTRACE"),
            ("all", "ALL"),
            ("", ""),
            ("A1", ""),
        ]);
        canonical::<OutputKey>(&[("user_id", "user_id"), ("_A1", "_A1"), ("", ""), ("1a", ""), ("a-b", ""), ("é", "")]);
        canonical::<EnvName>(&[("A", "A"), ("a.b-c", "a.b-c"), ("", ""), ("A=B", ""), ("A B", ""), ("A\0", "")]);
    }

    #[test]
    fn urls_and_headers() {
        canonical::<HttpUrl>(&[
            ("http://a", "http://a"),
            ("http://a_b.example:80/x?y=%20", "http://a_b.example:80/x?y=%20"),
            ("http://[::1]:9/", "http://[::1]:9/"),
            ("http://", ""),
            ("http:///x", ""),
            ("http://:80", ""),
            ("http://a:", ""),
            ("http://a:0", ""),
            ("http://a:99999", ""),
            ("http://[::1]x", ""),
            ("http://[::1", ""),
            ("http://::1/", ""),
            ("http://[a]/", ""),
            ("http://ann:x@a/", ""),
            ("http://a/#b", ""),
            ("http://a/ b", ""),
            ("http://a/\u{e9}", ""),
            ("https://a", ""),
            ("ftp://a", ""),
            ("localhost:80", ""),
            ("", ""),
        ]);
        let parts = |text: &str| {
            let url: HttpUrl = text.parse().unwrap();
            format!("{} {} {} {}", url.authority(), url.host(), url.port(), url.target())
        };
        assert_eq!(parts("http://a"), "a a 80 /");
        assert_eq!(parts("http://a?b=/c"), "a a 80 /?b=/c");
        assert_eq!(parts("http://a:81/b/c?d"), "a:81 a 81 /b/c?d");
        assert_eq!(parts("http://[::1]:81"), "[::1]:81 ::1 81 /");
        assert_eq!(parts("http://[::1]"), "[::1] ::1 80 /");
        canonical::<HeaderName>(&[("X-Who", "x-who"), ("", ""), ("a b", ""), ("a:", ""), ("\u{e9}", "")]);
        canonical::<HeaderValue>(&[(" a b ", "a b"), ("\u{e9}", "\u{e9}"), ("a\nb", ""), ("a\r\nb: c", "")]);
    }

    #[test]
    fn words_are_split_like_a_shell_does() {
        let words = |text: &str| text.parse::<Words>().map(|words| words.0);
        assert_eq!(words("a 'b c' d\\ e \"f g\""), Ok(vec!["a".into(), "b c".into(), "d e".into(), "f g".into()]));
        assert_eq!(words(""), Ok(vec![]));
        assert!(words("a 'b").is_err());
        assert_eq!(Words(vec!["a b".into(), "c".into()]).to_string(), "'a b' c");
    }

    #[test]
    fn values_can_be_read_from_json_too() {
        fn read<T: de::DeserializeOwned + Serialize>(json: &str) -> String {
            // By way of a value: read at once, numbers come with all of their digits, which is another shape.
            let read = |json: &str| serde_json::from_value(serde_json::from_str(json).unwrap()).unwrap();
            let value: T = read(json);
            let written = serde_json::to_string(&value).unwrap();
            let again: T = read(&written);
            assert_eq!(serde_json::to_string(&again).unwrap(), written);
            written
        }
        assert_eq!(read::<Text>("80"), "\"80\"");
        assert_eq!(read::<Text>("true"), "\"true\"");
        assert_eq!(read::<Words>("[\"a\", 1]"), "[\"a\",\"1\"]");
        assert_eq!(read::<Words>("\"a 1\""), "[\"a\",\"1\"]");
        assert_eq!(read::<OneOrMany<String>>("\"a\""), "[\"a\"]");
        assert_eq!(read::<OneOrMany<String>>("[\"a\", \"b\"]"), "[\"a\",\"b\"]");
        assert_eq!(read::<ByteSize>("1024"), "\"1k\"");
        assert_eq!(read::<Period>("\"90s\""), "\"1m30s\"");
        assert_eq!(read::<CpuCount>("0.5"), "0.5");
        assert_eq!(read::<Pattern>("\"a+\""), "\"a+\"");
        assert!(serde_json::from_str::<Name>("5").is_err());
    }
}
