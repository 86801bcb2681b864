//! Published ports.

use super::*;

read_shaped! { Ports PortNumber PortRange Address ListenAddress }
write_displayed! { Port Ports }

/// A port from 1 to 65535.
pub(super) struct PortNumber(pub(super) u16);

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

/// A host address. Brackets are stripped.
pub(super) struct Address(pub(super) IpAddr);

impl FromStr for Address {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        bare.parse().map(Self).map_err(|_| {
            let invalid = Invalid::new(format!("{} is not an IP address", quoted(text)));
            match bare {
                "localhost" => invalid.hint("write `127.0.0.1`"),
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

/// Ports from the first to the last, both included.
struct PortRange(u16, u16);

impl PortRange {
    fn count(&self) -> u16 {
        (self.1 - self.0).saturating_add(1)
    }
}

impl FromStr for PortRange {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let number = |text: &str| text.parse().map(|PortNumber(number)| number);
        let Some((first, last)) = text.split_once('-').filter(|_| !text.starts_with('-')) else {
            return number(text).map(|number| Self(number, number));
        };
        match (number(first)?, number(last)?) {
            (first, last) if last < first => Err(Invalid::new(format!("the range {} runs backwards", quoted(text)))
                .hint(format!("write {last}-{first}"))),
            (first, last) => Ok(Self(first, last)),
        }
    }
}

impl<'de> Shape<'de> for PortRange {
    const EXPECTED: &'static str = "a port number or a range such as \"8000-8010\"";
    fn from_text(text: &str) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl JsonSchema for PortRange {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "PortRange".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [
            {"type": "integer", "minimum": 1, "maximum": 65535},
            {"type": "string", "pattern": "^[0-9]+(-[0-9]+)?$"}
        ]})
    }
}

/// Address to listen on.
struct ListenAddress(Option<IpAddr>);

impl FromStr for ListenAddress {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "*" | "all" => Ok(Self(None)),
            text => text.parse().map(|Address(address)| Self(Some(address))),
        }
    }
}

impl<'de> Shape<'de> for ListenAddress {
    const EXPECTED: &'static str = "an IP address or `all`";
    fn from_text(text: &str) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl JsonSchema for ListenAddress {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "ListenAddress".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^([0-9a-fA-F:.\\[\\]]+|all|\\*)$"})
    }
}

/// Long form of published ports.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LongPorts {
    /// Port in the container, or a range.
    container: PortRange,
    /// Port on the host. Defaults to a free port. A range of as many ports as `container`, or to choose a free port from.
    #[serde(default)]
    host: Option<PortRange>,
    /// Host address to listen on; `all` is every IPv4 and IPv6 address. Defaults to 127.0.0.1.
    #[serde(default)]
    address: Option<ListenAddress>,
    /// Transport protocol.
    #[serde(default)]
    protocol: Protocol,
}

const PORT_HINT: &str = "write \"host:container\", for example \"8080:80\"";

impl Ports {
    fn new(
        address: Option<ListenAddress>,
        host: Option<PortRange>,
        container: &PortRange,
        protocol: Protocol,
    ) -> Result<Self, Invalid> {
        let count = container.count();
        let host = match host {
            None => HostPort::Free,
            Some(host) if host.count() == count => HostPort::Fixed(host.0),
            Some(PortRange(first, last)) if count == 1 => HostPort::Range(first, last),
            Some(host) => {
                let message = format!("{} host ports for {count} container ports", host.count());
                return Err(Invalid::new(message).hint("write two ranges of the same length"));
            }
        };
        let address = address.map_or(Some(LOOPBACK), |ListenAddress(address)| address);
        Ok(Self { first: Port { address, host, container: container.0, protocol }, count })
    }
}

impl FromStr for Ports {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = |why: &str| Invalid::new(format!("invalid port {}: {why}", quoted(text)));
        let explain = |invalid: Invalid| Invalid { hint: invalid.hint, ..wrong(&invalid.message) };
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
        let range = |part: &str| -> Result<PortRange, Invalid> {
            part.parse().map_err(|e: Invalid| match part {
                "" => wrong("a port is missing").hint(PORT_HINT),
                "*" => wrong("the host port is missing").hint("write \"*:8080:80\", or \"*::80\" for a free port"),
                _ if e.hint.is_some() || part.bytes().any(|b| b.is_ascii_digit()) => explain(e),
                _ => wrong(&e.message).hint(PORT_HINT),
            })
        };
        let host = match host {
            // As in Docker, `127.0.0.1::80` is an address without a host port.
            None | Some("") if address.is_some() || host.is_none() => None,
            Some("0") => return Err(wrong("host port 0").hint("omit the host port for a free port")),
            host => host.map(range).transpose()?,
        };
        let address = address.map(|text| text.parse::<ListenAddress>().map_err(explain)).transpose()?;
        Self::new(address, host, &range(container)?, protocol).map_err(explain)
    }
}

/// Splits off the leading address: everything before the last two fields. IPv6 addresses are in brackets.
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
                .hint("write \"[::1]:8080:80\", or \"[::1]::80\" for a free port"))
        };
    }
    match text.matches(':').count() {
        0 => Ok((None, text)),
        1 if text.split(':').next().is_some_and(|first| first.parse::<IpAddr>().is_ok()) => {
            let hint = "write \"127.0.0.1:8080:80\", or \"127.0.0.1::80\" for a free port";
            Err(Invalid::new("the host port is missing").hint(hint))
        }
        1 => Ok((None, text)),
        2 => Ok(text.split_once(':').map_or((None, text), |(address, rest)| (Some(address), rest))),
        _ => Err(Invalid::new("too many parts").hint("write an IPv6 address in brackets: \"[::1]:8080:80\"")),
    }
}

impl Port {
    /// Prints the port as the first of some.
    fn write(&self, count: u16, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            None => f.write_str("*:")?,
            Some(IpAddr::V4(address)) => write!(f, "{address}:")?,
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
        }
        let range = |f: &mut fmt::Formatter<'_>, first: u16| match count {
            1 => write!(f, "{first}"),
            count => write!(f, "{first}-{}", first.saturating_add(count - 1)),
        };
        match self.host {
            HostPort::Free => {}
            HostPort::Fixed(host) => range(f, host)?,
            HostPort::Range(first, last) => write!(f, "{first}-{last}")?,
        }
        f.write_str(":")?;
        range(f, self.container)?;
        write!(f, "/{}", self.protocol)
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(1, f)
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.write(self.count, f)
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

impl<'de> Shape<'de> for Ports {
    const EXPECTED: &'static str = "a port such as \"8080:80\"";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        text.parse()
    }

    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        let long = LongPorts::deserialize(MapAccessDeserializer::new(map))?;
        Self::new(long.address, long.host, &long.container, long.protocol).map_err(de::Error::custom)
    }
}

both_forms!(
    Ports,
    LongPorts,
    "A published port: \"host:container\", \"address:host:container\", or only the container's port; with `/udp` or `/sctp`. `*` is all addresses; ranges are \"8000-8010:8000-8010\".",
    ["8080:80", "0.0.0.0:5433:5432", "*:8080:80", "53:53/udp", "8000-8010:8000-8010", {"container": 80, "host": 8080}],
    [
        {"type": "string", "pattern": "^([0-9.]+:|\\*:|\\[[0-9a-fA-F:.]+\\]:)?([0-9]*(-[0-9]+)?:)?[0-9]+(-[0-9]+)?(/(tcp|udp|sctp))?$"},
        {"type": "integer", "minimum": 1, "maximum": 65535}
    ]
);

#[cfg(test)]
mod tests {
    use super::super::tests::canonical;
    use super::*;

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
            ("\"*:8080:80\"", "*:8080:80/tcp"),
            ("\"*::80\"", "*::80/tcp"),
            ("\"8000-8010:9000-9010/udp\"", "127.0.0.1:8000-8010:9000-9010/udp"),
            ("\"8000-8010:80\"", "127.0.0.1:8000-8010:80/tcp"),
            ("\"8000-8000:80\"", "127.0.0.1:8000:80/tcp"),
            ("\"3000-3005\"", "127.0.0.1::3000-3005/tcp"),
            ("\"[::1]:1-2:3-4\"", "[::1]:1-2:3-4/tcp"),
            ("{\"container\": \"80-81\", \"host\": \"90-91\", \"address\": \"all\"}", "*:90-91:80-81/tcp"),
            ("{\"container\": \"80\", \"host\": 81, \"address\": \"[::1]\", \"protocol\": \"udp\"}", "[::1]:81:80/udp"),
        ] {
            assert_eq!(canonical::<Ports>(json), expected);
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
            "8000-8010:80-81",
            "8000:80-81",
            "81-80",
            "80-",
            "-80",
            "*:80",
            "**:80:80",
        ] {
            assert!(text.parse::<Ports>().is_err(), "{text}");
        }
    }

    #[test]
    fn ranges_are_ports_one_by_one() {
        let each = |text: &str| text.parse::<Ports>().unwrap().each().map(|port| port.to_string()).collect::<Vec<_>>();
        assert_eq!(each("*:8000-8001:90-91/udp"), ["*:8000:90/udp", "*:8001:91/udp"]);
        assert_eq!(each("3000-3001"), ["127.0.0.1::3000/tcp", "127.0.0.1::3001/tcp"]);
        assert_eq!(each("8000-8001:80"), ["127.0.0.1:8000-8001:80/tcp"]);
        assert_eq!(each("65535"), ["127.0.0.1::65535/tcp"]);
    }

    #[test]
    fn ports_clash_when_their_addresses_overlap() {
        let clash = |one: &str, two: &str| {
            let port = |text: &str| text.parse::<Ports>().unwrap().first;
            let (one, two) = (port(one), port(two));
            assert_eq!(one.clashes_with(&two), two.clashes_with(&one));
            one.clashes_with(&two)
        };
        assert!(clash("80:1", "80:2"));
        assert!(clash("80:1", "0.0.0.0:80:2"));
        assert!(clash("[::]:80:1", "[::1]:80:1"));
        assert!(clash("*:80:1", "[::1]:80:1") && clash("*:80:1", "80:1") && clash("*:80:1", "*:80:1"));
        assert!(!clash("80-81:1", "80:1") && !clash("80-81:1", "80-81:1"));
        assert!(!clash("80:1", "81:1"));
        assert!(!clash("80:1", "80:1/udp"));
        assert!(!clash("80:1", "127.0.0.2:80:1"));
        assert!(!clash("0.0.0.0:80:1", "[::]:80:1"));
        assert!(!clash("80", "80"));
    }
}
