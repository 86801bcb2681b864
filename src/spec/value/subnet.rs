//! Address ranges.

use std::net::IpAddr;

use super::*;

/// An address range in CIDR notation: `10.1.0.0/24`, `fd00:1::/64`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subnet(String);

text_value!(Subnet, shaped, "an address range such as `10.1.0.0/24`", {
    "type": "string",
    "description": "Address range in CIDR notation.",
    "examples": ["10.1.0.0/24"]
});

impl FromStr for Subnet {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = || Invalid::new(format!("invalid address range {}", quoted(text)));
        let hint = "write the first address and the length of the prefix, for example `10.1.0.0/24`";
        let parsed = text.trim().split_once('/');
        let parsed = parsed.and_then(|(address, prefix)| Some((address.parse().ok()?, prefix.parse::<u32>().ok()?)));
        let Some((address, prefix)) = parsed else { return Err(invalid().hint(hint)) };
        let (bits, width, first) = match address {
            IpAddr::V4(address) => (u128::from(u32::from(address)), 32, 96),
            IpAddr::V6(address) => (u128::from(address), 128, 0),
        };
        if prefix > width {
            return Err(invalid().hint(hint));
        }
        let host = u128::MAX.checked_shr(first + prefix).unwrap_or_default();
        if bits & host != 0 {
            let network = bits & !host;
            let start = match address {
                IpAddr::V4(_) => IpAddr::from(u32::try_from(network).unwrap_or_default().to_be_bytes()),
                IpAddr::V6(_) => IpAddr::from(network.to_be_bytes()),
            };
            return Err(invalid().hint(format!("the range starts at `{start}/{prefix}`")));
        }
        Ok(Self(format!("{address}/{prefix}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_start_at_their_first_address() {
        for valid in ["10.1.0.0/24", "10.1.0.0/16", "192.168.7.0/29", "fd00:1::/64", "0.0.0.0/0", "10.0.0.1/32"] {
            assert_eq!(valid.parse::<Subnet>().map(|it| it.to_string()), Ok(valid.to_owned()));
        }
        for invalid in ["", "10.1.0.0", "10.1.0.0/33", "10.1.0.0/x", "10.1.0/24", "fd00::/129"] {
            assert!(invalid.parse::<Subnet>().is_err(), "{invalid}");
        }
        let error = "10.1.0.7/24".parse::<Subnet>().unwrap_err();
        assert!(format!("{error:?}").contains("`10.1.0.0/24`"), "{error:?}");
    }
}
