//! Entries of `/etc/hosts`.

use super::*;

read_shaped! { ExtraHost }
write_displayed! { ExtraHost }

/// Long form of an entry for /etc/hosts.
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
    "An entry for /etc/hosts: `name:address`; the address may be `host-gateway`.",
    ["host.docker.internal:host-gateway", "db.local:10.0.0.5"],
    [{"type": "string", "pattern": "^[^:=\\s]+[:=].+$"}]
);
