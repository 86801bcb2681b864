//! Published ports.

use super::*;

read_shaped! { Port PortNumber Address }
write_displayed! { Port }

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

/// Long form of a published port.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LongPort {
    /// Port in the container.
    container: PortNumber,
    /// Port on the host. Defaults to a free port.
    #[serde(default)]
    host: Option<PortNumber>,
    /// Host address to listen on. Defaults to 127.0.0.1.
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
            // As in Docker, `127.0.0.1::80` is an address without a host port.
            None | Some("") if address.is_some() || host.is_none() => None,
            Some("0") => return Err(wrong("host port 0").hint("omit the host port for a free port")),
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
    /// Returns true if both bind the same host port. 0.0.0.0 covers all IPv4 addresses, `::` all IPv6 addresses.
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
}
