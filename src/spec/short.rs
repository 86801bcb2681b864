//! Fields with a short and a long form: how each is read, printed and described to an editor.
//!
//! The short form is the canonical one: it is what is printed and written, and reading it again gives the same value.
//! Nothing here looks at more than the one field.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, Deserializer, MapAccess, SeqAccess};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use super::model::{
    Check, Condition, Dependency, ExtraHost, HealthcheckTest, HttpCheck, Mount, MountSource, Ping, Port, Protocol,
    RestartPolicy, Tmpfs, Ulimit,
};
use super::starlark::Function;
use super::value::{Invalid, Name, Pattern, Period, Shape, Text, Words, quoted, shaped};

/// Reading for a type with a [`Shape`], and writing through its `Display`.
macro_rules! read_shaped {
    ($($type:ident)*) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                shaped(deserializer)
            }
        }
    )*};
}

macro_rules! write_displayed {
    ($($type:ident)*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}

read_shaped! { Port Mount Tmpfs Dependency Ping RestartPolicy ExtraHost Ulimit HealthcheckTest PortNumber Address }
write_displayed! { Port Mount Tmpfs RestartPolicy ExtraHost }

/// The schema of a type with a short form (any schema) and a long form (a struct that derives its schema).
macro_rules! both_forms {
    ($type:ident, $long:ident, $description:literal, $examples:tt, [$($short:tt),+]) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "description": $description,
                    "anyOf": [$($short,)+ $long::json_schema(generator)],
                    "examples": $examples
                })
            }
        }
    };
}

fn absolute(path: &str, what: &str) -> Result<(), Invalid> {
    if !path.starts_with('/') {
        return Err(Invalid::new(format!("the {what} {} is not an absolute path", quoted(path)))
            .hint("a path in the container begins with `/`"));
    }
    without_colon(path, what)
}

/// A colon would make the short form ambiguous.
fn without_colon(text: &str, what: &str) -> Result<(), Invalid> {
    match text.find([':', '\0']) {
        Some(_) => Err(Invalid::new(format!("the {what} {} must not hold `:`", quoted(text)))),
        None => Ok(()),
    }
}

// --- ports -----------------------------------------------------------------------------------------------------------

/// A port from 1 to 65535.
struct PortNumber(u16);

impl FromStr for PortNumber {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match text.parse() {
            Ok(number @ 1..) if digits => Ok(Self(number)),
            _ if digits => Err(Invalid::new(format!("{} is not a port: ports go from 1 to 65535", quoted(text)))),
            _ => Err(Invalid::new(format!("{} is not a port number", quoted(text)))),
        }
    }
}

impl<'de> Shape<'de> for PortNumber {
    const EXPECTED: &'static str = "a port number";
    fn from_text(text: &str) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl JsonSchema for PortNumber {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "PortNumber".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "minimum": 1, "maximum": 65535})
    }
}

/// An address of the host, without brackets.
struct Address(IpAddr);

impl FromStr for Address {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        bare.parse().map(Self).map_err(|_| {
            let invalid = Invalid::new(format!("{} is not an IP address", quoted(text)));
            match bare {
                "localhost" => invalid.hint("write `127.0.0.1`"),
                "*" => invalid.hint("write `0.0.0.0` for every address"),
                _ => invalid,
            }
        })
    }
}

impl<'de> Shape<'de> for Address {
    const EXPECTED: &'static str = "an IP address";
    fn from_text(text: &str) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl JsonSchema for Address {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Address".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^[0-9a-fA-F:.\\[\\]]+$"})
    }
}

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A published port in full.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LongPort {
    /// Port in the container.
    container: PortNumber,
    /// Port on the host; any free one unless set.
    #[serde(default)]
    host: Option<PortNumber>,
    /// Address on the host to listen on; 127.0.0.1 unless set.
    #[serde(default)]
    address: Option<Address>,
    /// Transport protocol.
    #[serde(default)]
    protocol: Protocol,
}

const PORT_HINT: &str = "write \"host:container\", for example \"8080:80\"";

impl FromStr for Port {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = |why: &str| Invalid::new(format!("invalid port {}: {why}", quoted(text)));
        let (rest, protocol) = match text.rsplit_once('/') {
            None => (text, Protocol::Tcp),
            Some((rest, "tcp")) => (rest, Protocol::Tcp),
            Some((rest, "udp")) => (rest, Protocol::Udp),
            Some((rest, "sctp")) => (rest, Protocol::Sctp),
            Some((_, other)) => {
                return Err(wrong(&format!("unknown protocol {}", quoted(other))).hint("write `tcp`, `udp` or `sctp`"));
            }
        };
        let (address, rest) = split_address(rest).map_err(|e| wrong(&e.message).hint(e.hint.unwrap_or_default()))?;
        let (host, container) = match rest.split_once(':') {
            Some((host, container)) => (Some(host), container),
            None => (None, rest),
        };
        if [host.unwrap_or_default(), container].iter().any(|part| is_range(part)) {
            return Err(wrong("a range of ports is not supported").hint("write the ports one by one"));
        }
        let number = |part: &str| -> Result<u16, Invalid> {
            match part.parse::<PortNumber>() {
                Ok(PortNumber(number)) => Ok(number),
                Err(_) if part.is_empty() => Err(wrong("a port is missing").hint(PORT_HINT)),
                Err(e) if part.bytes().any(|b| b.is_ascii_digit()) => Err(wrong(&e.message)),
                Err(e) => Err(wrong(&e.message).hint(PORT_HINT)),
            }
        };
        let host = match host {
            // Docker's own way to write an address without a host port: `127.0.0.1::80`.
            None | Some("") if address.is_some() || host.is_none() => None,
            Some("0") => return Err(wrong("host port 0").hint("leave the host port out to get a free one")),
            host => host.map(number).transpose()?,
        };
        let address = address.map_or(Ok(LOOPBACK), |text| {
            text.parse::<Address>().map(|Address(address)| address).map_err(|e| match e.hint {
                Some(hint) => wrong(&e.message).hint(hint),
                None => wrong(&e.message),
            })
        })?;
        Ok(Self { address, host, container: number(container)?, protocol })
    }
}

fn is_range(part: &str) -> bool {
    part.split_once('-').is_some_and(|(from, to)| {
        [from, to].iter().all(|side| !side.is_empty() && side.bytes().all(|b| b.is_ascii_digit()))
    })
}

/// Splits an address off the front: everything before the last two parts, IPv6 in brackets.
fn split_address(text: &str) -> Result<(Option<&str>, &str), Invalid> {
    if let Some(bracketed) = text.strip_prefix('[') {
        let (address, rest) = bracketed
            .split_once("]:")
            .ok_or_else(|| Invalid::new("`]:` is missing after the address").hint("write \"[::1]:8080:80\""))?;
        let two = rest.contains(':');
        return if two {
            Ok((Some(address), rest))
        } else {
            Err(Invalid::new("the host port is missing")
                .hint("write \"[::1]:8080:80\", or \"[::1]::80\" for a free one"))
        };
    }
    match text.matches(':').count() {
        0 => Ok((None, text)),
        1 if text.split(':').next().is_some_and(|first| first.parse::<IpAddr>().is_ok()) => {
            let hint = "write \"127.0.0.1:8080:80\", or \"127.0.0.1::80\" for a free one";
            Err(Invalid::new("the host port is missing").hint(hint))
        }
        1 => Ok((None, text)),
        2 => Ok(text.split_once(':').map_or((None, text), |(address, rest)| (Some(address), rest))),
        _ => Err(Invalid::new("too many parts").hint("write an IPv6 address in brackets: \"[::1]:8080:80\"")),
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            IpAddr::V4(address) => write!(f, "{address}:")?,
            IpAddr::V6(address) => write!(f, "[{address}]:")?,
        }
        if let Some(host) = self.host {
            write!(f, "{host}")?;
        }
        write!(f, ":{}/{}", self.container, self.protocol)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

impl Port {
    /// Whether both would listen on one port of the host. 0.0.0.0 takes every IPv4 address, `::` every IPv6 one.
    pub fn clashes_with(&self, other: &Self) -> bool {
        let covers = |one: IpAddr, two: IpAddr| match (one, two) {
            (IpAddr::V4(one), IpAddr::V4(two)) => one == two || one == Ipv4Addr::UNSPECIFIED,
            (IpAddr::V6(one), IpAddr::V6(two)) => one == two || one == Ipv6Addr::UNSPECIFIED,
            _ => false,
        };
        self.host.is_some()
            && self.host == other.host
            && self.protocol == other.protocol
            && (covers(self.address, other.address) || covers(other.address, self.address))
    }
}

impl<'de> Shape<'de> for Port {
    const EXPECTED: &'static str = "a port such as \"8080:80\"";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        text.parse()
    }

    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        let long = LongPort::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Self {
            address: long.address.map_or(LOOPBACK, |Address(address)| address),
            host: long.host.map(|PortNumber(port)| port),
            container: long.container.0,
            protocol: long.protocol,
        })
    }
}

both_forms!(
    Port,
    LongPort,
    "A published port: \"host:container\", \"address:host:container\", or only the container's port; with `/udp` or `/sctp`.",
    ["8080:80", "0.0.0.0:5433:5432", "53:53/udp", {"container": 80, "host": 8080}],
    [
        {"type": "string", "pattern": "^([0-9.]+:|\\[[0-9a-fA-F:.]+\\]:)?([0-9]*:)?[0-9]+(/(tcp|udp|sctp))?$"},
        {"type": "integer", "minimum": 1, "maximum": 65535}
    ]
);

/// For a `u16` field that holds a port.
pub(super) fn port_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    PortNumber::deserialize(deserializer).map(|PortNumber(port)| port)
}

// --- mounts ----------------------------------------------------------------------------------------------------------

/// What a mount is of, in the long form.
#[derive(Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum MountType {
    /// A volume of the group.
    Volume,
    /// A path of the host.
    Bind,
}

/// A mount in full.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LongMount {
    /// `volume` or `bind`; told from the source unless set.
    #[serde(rename = "type", default)]
    kind: Option<MountType>,
    /// Name of a volume, or a path of the host, relative to the spec directory; an anonymous volume unless set.
    #[serde(default)]
    source: Option<String>,
    /// Absolute path in the container.
    target: String,
    /// Not writable from the container.
    #[serde(default)]
    read_only: bool,
}

/// Whether this source is written as a path of the host.
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
        Ok(Self { source, target: target.into(), read_only })
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
                Err(Invalid::new("a mount of type `bind` needs a `source`").hint("write `source: ./path`"))
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
        source.and_then(|source| Self::new(source, &long.target, long.read_only)).map_err(de::Error::custom)
    }
}

both_forms!(
    Mount,
    LongMount,
    "A mount: `name:/path` (a volume of the group), `./dir:/path` (relative to the spec directory), `/path` (an anonymous volume); `:ro` for read-only.",
    ["data:/data", "./conf:/conf:ro", {"type": "bind", "source": "./conf", "target": "/conf", "read_only": true}],
    [{"type": "string", "pattern": "^([^:]+:)?/[^:]*(:(ro|rw))?$"}]
);

/// An in-memory file system in full.
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
            true => Err(Invalid::new(format!("the options {} hold white space", quoted(options)))),
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
    "A path in the container that lives in memory: `/path` or `/path:options`.",
    ["/run", "/tmp:size=64m,mode=1777", {"target": "/tmp", "options": "size=64m"}],
    [{"type": "string", "pattern": "^/[^:]*(:.*)?$"}]
);

// --- dependencies ----------------------------------------------------------------------------------------------------

/// A dependency in full.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LongDependency {
    /// The service or job that is needed.
    name: Name,
    /// What must be true of it; unless set, a service must be ready and a job must have succeeded.
    #[serde(default)]
    condition: Option<Condition>,
    /// Restart the dependent when the dependency was replaced.
    #[serde(default)]
    restart: bool,
}

impl<'de> Shape<'de> for Dependency {
    const EXPECTED: &'static str = "the name of a service or job";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        Ok(Self { name: text.parse()?, condition: None, restart: false })
    }

    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        let LongDependency { name, condition, restart } = LongDependency::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Self { name, condition, restart })
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
    /// Only the name where nothing else is said.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.condition.is_none() && !self.restart {
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
        map.end()
    }
}

both_forms!(
    Dependency,
    LongDependency,
    "A service or job that is needed: its name, or its name with a condition.",
    ["appdb", {"name": "appdb", "condition": "started", "restart": true}],
    [{"type": "string", "pattern": "^[a-z0-9]([a-z0-9_-]*[a-z0-9])?$"}]
);

// --- pings -----------------------------------------------------------------------------------------------------------

const PING_INTERVAL: Duration = Duration::from_millis(100);
const PING_TIMEOUT: Duration = Duration::from_secs(300);

/// How to tell that a service is ready: exactly one of `tcp`, `http`, `exec`, `run` and `log`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LongPing {
    /// A connection to this port of the container is accepted.
    #[serde(default)]
    tcp: Option<PortNumber>,
    /// A GET is answered.
    #[serde(default)]
    http: Option<HttpCheck>,
    /// A command in the container exits with 0.
    #[serde(default)]
    exec: Option<Words>,
    /// A command on the host, started in the spec directory, exits with 0.
    #[serde(default)]
    run: Option<Words>,
    /// A line of the container's output matches this regular expression.
    #[serde(default)]
    log: Option<Pattern>,
    /// A function of a program returns `True`.
    #[serde(default)]
    #[schemars(skip)]
    function: Option<Function>,
    /// Time from one try to the next; 100 ms unless set.
    #[serde(default)]
    interval: Option<Period>,
    /// When to give up; 300 s unless set.
    #[serde(default)]
    timeout: Option<Period>,
}

/// The error for a command without a word.
pub(super) fn nothing_to_run(name: &str) -> Invalid {
    Invalid::new(format!("the command of `{name}` is empty"))
}

impl LongPing {
    fn checks(&mut self) -> Result<Vec<(&'static str, Check)>, Invalid> {
        let command = |name, words: Option<Words>| match words {
            Some(words) if words.is_empty() => Err(nothing_to_run(name)),
            words => Ok(words),
        };
        let checks = [
            self.tcp.take().map(|PortNumber(port)| ("tcp", Check::Tcp(port))),
            self.http.take().map(|http| ("http", Check::Http(http))),
            command("exec", self.exec.take())?.map(|words| ("exec", Check::Exec(words))),
            command("run", self.run.take())?.map(|words| ("run", Check::Run(words))),
            self.log.take().map(|pattern| ("log", Check::Log(pattern))),
            self.function.take().map(|function| ("function", Check::Function(function))),
        ];
        Ok(checks.into_iter().flatten().collect())
    }
}

impl TryFrom<LongPing> for Ping {
    type Error = Invalid;

    fn try_from(mut long: LongPing) -> Result<Self, Invalid> {
        let mut checks = long.checks()?;
        let names: Vec<String> = checks.iter().map(|(name, _)| format!("`{name}`")).collect();
        let check = match (checks.pop(), checks.is_empty()) {
            (Some((_, check)), true) => check,
            (None, _) => {
                return Err(Invalid::new("the ping says nothing to try")
                    .hint("write one of `tcp`, `http`, `exec`, `run` and `log`"));
            }
            _ => {
                return Err(Invalid::new(format!("a ping tries one thing, found {}", names.join(" and "))));
            }
        };
        let interval = long.interval.map_or(PING_INTERVAL, Period::get);
        let timeout = long.timeout.map_or(PING_TIMEOUT, Period::get);
        match (interval, timeout) {
            (Duration::ZERO, _) => Err(Invalid::new("the interval of a ping must be more than 0")),
            (_, Duration::ZERO) => Err(Invalid::new("the timeout of a ping must be more than 0")),
            _ => Ok(Self { check, interval, timeout }),
        }
    }
}

impl<'de> Shape<'de> for Ping {
    const EXPECTED: &'static str = "a ping such as `{tcp: 80}`";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        Err(Invalid::new(format!("expected a ping such as `{{tcp: 80}}`, found {}", quoted(text)))
            .hint("write one of `tcp`, `http`, `exec`, `run` and `log`"))
    }

    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        LongPing::deserialize(MapAccessDeserializer::new(map))?.try_into().map_err(de::Error::custom)
    }
}

impl Serialize for Ping {
    /// The check, interval and timeout, each in its canonical form.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        match &self.check {
            Check::Tcp(port) => map.serialize_entry("tcp", port)?,
            Check::Http(http) => map.serialize_entry("http", http)?,
            Check::Exec(words) => map.serialize_entry("exec", words)?,
            Check::Run(words) => map.serialize_entry("run", words)?,
            Check::Log(pattern) => map.serialize_entry("log", pattern)?,
            Check::Function(function) => map.serialize_entry("function", &function.to_string())?,
        }
        map.serialize_entry("interval", &Period::new(self.interval))?;
        map.serialize_entry("timeout", &Period::new(self.timeout))?;
        map.end()
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(port) => write!(f, "tcp {port}"),
            Self::Http(http) => write!(f, "http {}{}", http.port, http.path),
            Self::Exec(words) => write!(f, "exec {words}"),
            Self::Run(words) => write!(f, "run {words}"),
            Self::Log(pattern) => write!(f, "log {pattern}"),
            Self::Function(function) => write!(f, "function {function}"),
        }
    }
}

impl JsonSchema for Ping {
    fn schema_name() -> Cow<'static, str> {
        "Ping".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = LongPing::json_schema(generator);
        let one = ["tcp", "http", "exec", "run", "log"].map(|check| serde_json::json!({"required": [check]}));
        schema.insert("oneOf".into(), one.as_slice().into());
        schema.insert(
            "examples".into(),
            serde_json::json!([{"tcp": 5432}, {"http": {"port": 80, "path": "/healthz"}, "timeout": "60s"}]),
        );
        schema
    }
}

/// For the path of an HTTP check.
pub(super) fn http_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let path = String::deserialize(deserializer)?;
    let message = if !path.starts_with('/') {
        format!("the path {} does not begin with `/`", quoted(&path))
    } else if path.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#') {
        format!("the path {} holds white space or `#`", quoted(&path))
    } else {
        return Ok(path);
    };
    Err(de::Error::custom(message))
}

/// For the status of an HTTP check.
pub(super) fn http_status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    match Option::<u16>::deserialize(deserializer)? {
        Some(status) if !(100..=599).contains(&status) => {
            Err(de::Error::custom(format!("{status} is not an HTTP status: they go from 100 to 599")))
        }
        status => Ok(status),
    }
}

// --- health checks, restart policies, hosts, limits ------------------------------------------------------------------

impl<'de> Shape<'de> for HealthcheckTest {
    const EXPECTED: &'static str = "a command";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        match text.trim() {
            "" => Err(nothing_to_run("test")),
            _ => Ok(Self::Shell(text.into())),
        }
    }

    /// Docker's own notation, with `CMD` or `CMD-SHELL` in front, is understood too.
    fn from_list<A: SeqAccess<'de>>(list: A) -> Result<Self, A::Error> {
        let words: Vec<Text> = Vec::deserialize(SeqAccessDeserializer::new(list))?;
        let words: Vec<String> = words.into_iter().map(String::from).collect();
        let (first, rest) = words.split_first().ok_or_else(|| de::Error::custom(nothing_to_run("test")))?;
        match (first.as_str(), rest) {
            ("NONE", []) => Err(de::Error::custom(
                Invalid::new("`NONE` is written in another way here").hint("write `disable: true`"),
            )),
            ("CMD" | "CMD-SHELL", []) => Err(de::Error::custom(nothing_to_run("test"))),
            ("CMD-SHELL", [line]) => Ok(Self::Shell(line.clone())),
            ("CMD-SHELL", _) => Err(de::Error::custom("`CMD-SHELL` takes one string")),
            ("CMD", rest) => Ok(Self::Exec(rest.to_vec())),
            _ => Ok(Self::Exec(words)),
        }
    }
}

impl Serialize for HealthcheckTest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Shell(line) => serializer.serialize_str(line),
            // A program called CMD must not be read back as Docker's word.
            Self::Exec(words) if words.first().is_some_and(|word| word.starts_with("CMD") || word == "NONE") => {
                serializer.collect_seq(std::iter::once("CMD").chain(words.iter().map(String::as_str)))
            }
            Self::Exec(words) => words.serialize(serializer),
        }
    }
}

impl JsonSchema for HealthcheckTest {
    fn schema_name() -> Cow<'static, str> {
        "HealthcheckTest".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The command of a health check: a list is executed as it is, a string by the container's shell.",
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "items": generator.subschema_for::<Text>(), "minItems": 1}
            ],
            "examples": ["curl -f http://localhost/", ["pg_isready", "-U", "postgres"]]
        })
    }
}

impl FromStr for RestartPolicy {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let words = "write `no`, `always`, `unless-stopped`, `on-failure` or `on-failure:5`";
        let wrong = || Invalid::new(format!("unknown restart policy {}", quoted(text)));
        match text {
            "no" => Ok(Self::No),
            "always" => Ok(Self::Always),
            "unless-stopped" => Ok(Self::UnlessStopped),
            "on-failure" => Ok(Self::OnFailure(0)),
            "false" => Err(wrong().hint("write `no`")),
            "true" => Err(wrong().hint("write `always`")),
            _ => match text.strip_prefix("on-failure:").map(str::parse::<u32>) {
                // The engine takes a signed number.
                Some(Ok(times)) if i32::try_from(times).is_ok() => Ok(Self::OnFailure(times)),
                _ => Err(wrong().hint(words)),
            },
        }
    }
}

impl fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No => f.write_str("no"),
            Self::Always => f.write_str("always"),
            Self::UnlessStopped => f.write_str("unless-stopped"),
            Self::OnFailure(0) => f.write_str("on-failure"),
            Self::OnFailure(times) => write!(f, "on-failure:{times}"),
        }
    }
}

impl<'de> Shape<'de> for RestartPolicy {
    const EXPECTED: &'static str = "a restart policy such as `always`";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl JsonSchema for RestartPolicy {
    fn schema_name() -> Cow<'static, str> {
        "RestartPolicy".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The engine's restart policy, in Docker's words.",
            "anyOf": [
                {"enum": ["no", "always", "unless-stopped", "on-failure"]},
                {"type": "string", "pattern": "^on-failure:[0-9]+$"}
            ]
        })
    }
}

/// A line for /etc/hosts in full.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LongExtraHost {
    /// Host name.
    name: String,
    /// An IP address, or `host-gateway`.
    address: String,
}

const HOST_GATEWAY: &str = "host-gateway";

impl ExtraHost {
    fn new(name: &str, address: &str) -> Result<Self, Invalid> {
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control() || c == ':') {
            return Err(Invalid::new(format!("{} is not a host name", quoted(name))));
        }
        let address = match address {
            HOST_GATEWAY => address.into(),
            address => address.parse::<Address>().map(|Address(address)| address.to_string()).map_err(|e| {
                Invalid::new(e.message).hint("write an IP address, or `host-gateway` for the host itself")
            })?,
        };
        Ok(Self { name: name.into(), address })
    }
}

impl FromStr for ExtraHost {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.split_once([':', '=']) {
            Some((name, address)) => Self::new(name, address),
            None => Err(Invalid::new(format!("{} has no address", quoted(text))).hint("write \"name:address\"")),
        }
    }
}

impl fmt::Display for ExtraHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.address)
    }
}

impl<'de> Shape<'de> for ExtraHost {
    const EXPECTED: &'static str = "a line such as \"name:address\"";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        text.parse()
    }

    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        let long = LongExtraHost::deserialize(MapAccessDeserializer::new(map))?;
        Self::new(&long.name, &long.address).map_err(de::Error::custom)
    }
}

both_forms!(
    ExtraHost,
    LongExtraHost,
    "A line for /etc/hosts: `name:address`; the address may be `host-gateway`.",
    ["host.docker.internal:host-gateway", "db.local:10.0.0.5"],
    [{"type": "string", "pattern": "^[^:=\\s]+[:=].+$"}]
);

/// A process limit in full; -1 means unlimited.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LongUlimit {
    /// The limit in force.
    soft: i64,
    /// How far the process may raise it.
    hard: i64,
}

impl Ulimit {
    fn new(soft: i64, hard: i64) -> Result<Self, Invalid> {
        let order = |limit: i64| if limit == -1 { i64::MAX } else { limit };
        if soft < -1 || hard < -1 {
            return Err(Invalid::new("a limit must not be negative").hint("write -1 for unlimited"));
        }
        match order(soft) > order(hard) {
            true => Err(Invalid::new(format!("the soft limit {soft} is above the hard limit {hard}"))),
            false => Ok(Self { soft, hard }),
        }
    }
}

impl<'de> Shape<'de> for Ulimit {
    const EXPECTED: &'static str = "a limit: a number, or `{soft: 1024, hard: 2048}`";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        match text.parse() {
            Ok(limit) => Self::new(limit, limit),
            Err(_) => Err(Invalid::new(format!("invalid limit {}", quoted(text)))
                .hint("write a number, or `{soft: 1024, hard: 2048}`")),
        }
    }

    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        let long = LongUlimit::deserialize(MapAccessDeserializer::new(map))?;
        Self::new(long.soft, long.hard).map_err(de::Error::custom)
    }
}

impl Serialize for Ulimit {
    /// One number where both are the same.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.soft == self.hard {
            return serializer.serialize_i64(self.soft);
        }
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("soft", &self.soft)?;
        map.serialize_entry("hard", &self.hard)?;
        map.end()
    }
}

both_forms!(
    Ulimit,
    LongUlimit,
    "A process limit: one number for both, or soft and hard; -1 means unlimited.",
    [1024, {"soft": 1024, "hard": 2048}],
    [{"type": "integer", "minimum": -1}]
);

pub(super) use {both_forms, read_shaped};

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;

    use super::*;

    /// Reads JSON and writes it again, which must be stable.
    fn canonical<T: DeserializeOwned + Serialize + PartialEq + fmt::Debug>(json: &str) -> String {
        let value: T = serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"));
        let written = serde_json::to_string(&value).unwrap();
        assert_eq!(serde_json::from_str::<T>(&written).unwrap(), value, "{json}, read again");
        written.trim_matches('"').to_owned()
    }

    #[test]
    fn ports() {
        for (json, expected) in [
            ("80", "127.0.0.1::80/tcp"),
            ("\"80/udp\"", "127.0.0.1::80/udp"),
            ("\"8080:80\"", "127.0.0.1:8080:80/tcp"),
            ("\"0.0.0.0:53:53/udp\"", "0.0.0.0:53:53/udp"),
            ("\"127.0.0.1::80\"", "127.0.0.1::80/tcp"),
            ("\"[::1]:8080:80/sctp\"", "[::1]:8080:80/sctp"),
            ("\"[::]::80\"", "[::]::80/tcp"),
            ("{\"container\": 80}", "127.0.0.1::80/tcp"),
            ("{\"container\": \"80\", \"host\": 81, \"address\": \"[::1]\", \"protocol\": \"udp\"}", "[::1]:81:80/udp"),
        ] {
            assert_eq!(canonical::<Port>(json), expected);
        }
        for text in [
            "",
            ":",
            "::",
            "80:",
            "a",
            "-1",
            "+80",
            "80/",
            "/tcp",
            "::1:80:80",
            "[::1]:80",
            "[::1]",
            "1.2.3:80:80",
            "65536",
        ] {
            assert!(text.parse::<Port>().is_err(), "{text}");
        }
    }

    #[test]
    fn ports_clash_when_their_addresses_overlap() {
        let clash = |one: &str, two: &str| {
            let (one, two): (Port, Port) = (one.parse().unwrap(), two.parse().unwrap());
            assert_eq!(one.clashes_with(&two), two.clashes_with(&one));
            one.clashes_with(&two)
        };
        assert!(clash("80:1", "80:2"));
        assert!(clash("80:1", "0.0.0.0:80:2"));
        assert!(clash("[::]:80:1", "[::1]:80:1"));
        assert!(!clash("80:1", "81:1"));
        assert!(!clash("80:1", "80:1/udp"));
        assert!(!clash("80:1", "127.0.0.2:80:1"));
        assert!(!clash("0.0.0.0:80:1", "[::]:80:1"));
        assert!(!clash("80", "80"));
    }

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
        ] {
            assert_eq!(canonical::<Mount>(json), expected);
        }
        for text in ["", ":", "a", "a:", ":/b", "a:b", "a:/b:", "A:/b", "a.new:/b", "~x:/b", ".x:/b"] {
            assert!(text.parse::<Mount>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_other_forms() {
        assert_eq!(canonical::<Tmpfs>("\"/run\""), "/run");
        assert_eq!(canonical::<Tmpfs>("{\"target\": \"/run\", \"options\": \"size=1m\"}"), "/run:size=1m");
        assert_eq!(canonical::<Dependency>("\"db\""), "db");
        assert_eq!(canonical::<Dependency>("{\"name\": \"db\"}"), "db");
        assert_eq!(
            canonical::<Dependency>("{\"restart\": true, \"name\": \"db\", \"condition\": \"ready\"}"),
            "{\"name\":\"db\",\"condition\":\"ready\",\"restart\":true}"
        );
        assert_eq!(canonical::<RestartPolicy>("\"on-failure:3\""), "on-failure:3");
        assert_eq!(canonical::<RestartPolicy>("\"on-failure:0\""), "on-failure");
        assert_eq!(canonical::<RestartPolicy>("\"unless-stopped\""), "unless-stopped");
        assert_eq!(canonical::<ExtraHost>("\"a=10.0.0.1\""), "a:10.0.0.1");
        assert_eq!(canonical::<ExtraHost>("\"a:[::1]\""), "a:::1");
        assert_eq!(canonical::<ExtraHost>("{\"name\": \"a\", \"address\": \"host-gateway\"}"), "a:host-gateway");
        assert_eq!(canonical::<Ulimit>("{\"soft\": 5, \"hard\": 5}"), "5");
        assert_eq!(canonical::<Ulimit>("{\"soft\": 5, \"hard\": -1}"), "{\"soft\":5,\"hard\":-1}");
        assert_eq!(canonical::<HealthcheckTest>("\"curl x\""), "curl x");
        assert_eq!(canonical::<HealthcheckTest>("[\"CMD-SHELL\", \"curl x\"]"), "curl x");
        assert_eq!(canonical::<HealthcheckTest>("[\"CMD\", \"curl\"]"), "[\"curl\"]");
        assert_eq!(canonical::<HealthcheckTest>("[\"CMD\", \"CMD\"]"), "[\"CMD\",\"CMD\"]");
    }

    #[test]
    fn pings() {
        for (json, expected) in [
            ("{\"tcp\": 80}", "{\"tcp\":80,\"interval\":\"100ms\",\"timeout\":\"5m\"}"),
            (
                "{\"http\": {}, \"timeout\": \"60s\"}",
                "{\"http\":{\"port\":80,\"path\":\"/\"},\"interval\":\"100ms\",\"timeout\":\"1m\"}",
            ),
            ("{\"exec\": \"a b\"}", "{\"exec\":[\"a\",\"b\"],\"interval\":\"100ms\",\"timeout\":\"5m\"}"),
            ("{\"run\": [\"a b\"]}", "{\"run\":[\"a b\"],\"interval\":\"100ms\",\"timeout\":\"5m\"}"),
            ("{\"log\": \"x\"}", "{\"log\":\"x\",\"interval\":\"100ms\",\"timeout\":\"5m\"}"),
        ] {
            assert_eq!(canonical::<Ping>(json), expected);
        }
    }
}
