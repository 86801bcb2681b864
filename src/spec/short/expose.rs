//! Ports that a container listens on.

use super::*;
use crate::spec::model::ExposedPorts;

read_shaped! { ExposedPorts }
write_displayed! { ExposedPorts }

const PROTOCOLS: [(&str, Protocol); 3] = [("tcp", Protocol::Tcp), ("udp", Protocol::Udp), ("sctp", Protocol::Sctp)];

impl FromStr for ExposedPorts {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (ports, protocol) = match text.trim().split_once('/') {
            Some((ports, name)) => (ports, word(name, &PROTOCOLS, "`tcp`, `udp` or `sctp`")?),
            None => (text.trim(), Protocol::Tcp),
        };
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let (PortNumber(first), PortNumber(last)) = (first.parse()?, last.parse()?);
        match first <= last {
            true => Ok(Self { first, last, protocol }),
            false => Err(Invalid::new(format!("the range {} ends before it begins", quoted(ports)))),
        }
    }
}

impl fmt::Display for ExposedPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last, protocol } = self;
        match first == last {
            true => write!(f, "{first}/{protocol}"),
            false => write!(f, "{first}-{last}/{protocol}"),
        }
    }
}

impl<'de> Shape<'de> for ExposedPorts {
    const EXPECTED: &'static str = "a port such as `80` or `53/udp`";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl JsonSchema for ExposedPorts {
    fn schema_name() -> Cow<'static, str> {
        "ExposedPorts".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A port, or a range of ports, that the container listens on.",
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": 65535},
                {"type": "string", "pattern": "^[0-9]+(-[0-9]+)?(/(tcp|udp|sctp))?$"}
            ],
            "examples": ["80", "53/udp", "3000-3010"]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::canonical;
    use super::*;

    #[test]
    fn ports_have_a_protocol() {
        assert_eq!(canonical::<ExposedPorts>("80"), "80/tcp");
        assert_eq!(canonical::<ExposedPorts>("\"53/udp\""), "53/udp");
        assert_eq!(canonical::<ExposedPorts>("\"3000-3010\""), "3000-3010/tcp");
        for text in ["", "0", "x", "2-1", "1-", "80/icmp", "80:80"] {
            assert!(text.parse::<ExposedPorts>().is_err(), "{text}");
        }
    }
}
