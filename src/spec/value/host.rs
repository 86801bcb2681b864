//! Addresses, platforms, processors and other values in the terms of the host.

use std::net::IpAddr;

use super::*;

/// An IP address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpAddress(String);

impl FromStr for IpAddress {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let parsed = text.trim().parse::<IpAddr>().map(|address| Self(address.to_string()));
        parsed.map_err(|_| Invalid::new(format!("{} is not an IP address", quoted(text))))
    }
}

text_value!(IpAddress, text_only, "an IP address", {
    "type": "string",
    "description": "IP address.",
    "pattern": "^[0-9a-fA-F:.]+$",
    "examples": ["10.0.0.53", "fd00::53"]
});

/// A hardware address: six pairs of hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress(String);

impl FromStr for MacAddress {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let parts: Vec<&str> = text.trim().split([':', '-']).collect();
        let is_pair = |part: &&str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        if parts.len() == 6 && parts.iter().all(is_pair) {
            return Ok(Self(parts.join(":").to_ascii_lowercase()));
        }
        Err(Invalid::new(format!("{} is not a MAC address", quoted(text)))
            .hint("write six pairs of hexadecimal digits, for example `02:42:ac:11:00:02`"))
    }
}

text_value!(MacAddress, text_only, "a MAC address such as `02:42:ac:11:00:02`", {
    "type": "string",
    "description": "Hardware address.",
    "pattern": "^([0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}$",
    "examples": ["02:42:ac:11:00:02"]
});

/// A platform of images: `os/arch`, or `os/arch/variant`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform(String);

/// Other names of processors, and the names that images use.
const PROCESSORS: [(&str, &str); 5] =
    [("x86_64", "amd64"), ("x86-64", "amd64"), ("aarch64", "arm64"), ("i386", "386"), ("armhf", "arm/v7")];

impl FromStr for Platform {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let lower = text.trim().to_ascii_lowercase();
        let is_word = |word: &str| {
            !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        };
        let parts: Vec<&str> = lower.split('/').collect();
        let invalid = || {
            Invalid::new(format!("invalid platform {}", quoted(text)))
                .hint("write the operating system and the processor, for example `linux/arm64` or `linux/arm/v7`")
        };
        if !(2..=3).contains(&parts.len()) || !parts.iter().all(|part| is_word(part)) {
            return Err(invalid());
        }
        let processor = PROCESSORS.iter().find(|(other, _)| *other == parts[1]).map_or(parts[1], |(_, name)| name);
        let platform = match (parts.get(2), processor) {
            (None, _) | (Some(&"v8"), "arm64") => format!("{}/{processor}", parts[0]),
            (Some(variant), _) if !processor.contains('/') => format!("{}/{processor}/{variant}", parts[0]),
            _ => return Err(invalid()),
        };
        Ok(Self(platform))
    }
}

text_value!(Platform, text_only, "a platform such as `linux/arm64`", {
    "type": "string",
    "description": "Operating system and processor: `os/arch`, or `os/arch/variant`.",
    "pattern": "^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)?$",
    "examples": ["linux/amd64", "linux/arm/v7"]
});

/// Processors or memory nodes by number: `0`, `0-3`, `0,2-3`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CpuSet(String);

impl FromStr for CpuSet {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let number = |text: &str| text.trim().parse::<u16>().ok();
        let part = |part: &str| match part.split_once('-') {
            None => number(part).map(|number| number.to_string()),
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then(|| format!("{first}-{last}"))
            }
        };
        let parts: Option<Vec<String>> = text.split(',').map(part).collect();
        parts.map(|parts| Self(parts.join(","))).ok_or_else(|| {
            Invalid::new(format!("invalid set {}", quoted(text))).hint("write numbers and ranges, for example `0,2-3`")
        })
    }
}

text_value!(CpuSet, shaped, "numbers and ranges such as `0,2-3`", {
    "description": "Processors or memory nodes: numbers and ranges.",
    "anyOf": [
        {"type": "string", "pattern": "^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$"},
        {"type": "integer", "minimum": 0}
    ],
    "examples": ["0-3", "0,2"]
});

/// A rule for device nodes in the form of cgroups: type, major and minor number, permissions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceCgroupRule(String);

impl FromStr for DeviceCgroupRule {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let is_number = |text: &str| text == "*" || text.parse::<u32>().is_ok();
        let is_valid = match words[..] {
            [kind, numbers, permissions] => {
                ["a", "b", "c"].contains(&kind)
                    && numbers.split_once(':').is_some_and(|(major, minor)| is_number(major) && is_number(minor))
                    && (1..=3).contains(&permissions.len())
                    && permissions.chars().all(|letter| "rwm".contains(letter))
            }
            _ => false,
        };
        if is_valid {
            return Ok(Self(words.join(" ")));
        }
        Err(Invalid::new(format!("invalid device rule {}", quoted(text)))
            .hint("write type, numbers and permissions, for example `c 188:* rmw`"))
    }
}

text_value!(DeviceCgroupRule, text_only, "a rule such as `c 188:* rmw`", {
    "type": "string",
    "description": "Rule for device nodes: type (`a`, `b`, `c`), major and minor number or `*`, permissions.",
    "pattern": "^[abc] ([0-9]+|\\*):([0-9]+|\\*) [rwm]{1,3}$",
    "examples": ["c 188:* rmw"]
});

/// A time in microseconds: a number, or a duration such as `50ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Microseconds(u32);

impl Microseconds {
    pub const fn new(microseconds: u32) -> Self {
        Self(microseconds)
    }

    pub const fn get(self) -> u32 {
        self.0
    }
}

impl FromStr for Microseconds {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let number = match text.trim().parse::<u32>() {
            Ok(number) => Some(number),
            Err(_) => u32::try_from(text.parse::<Period>()?.get().as_micros()).ok(),
        };
        let is_positive = |number: &u32| *number > 0;
        number.filter(is_positive).map(Self).ok_or_else(|| {
            Invalid::new(format!("invalid time {}", quoted(text))).hint("write microseconds, or for example `50ms`")
        })
    }
}

impl fmt::Display for Microseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Microseconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

read_value!(Microseconds, shaped, "a time such as `50ms`", {
    "description": "A time: microseconds, or a duration such as `50ms`.",
    "anyOf": [
        {"type": "integer", "minimum": 1},
        {"type": "string", "pattern": "^[0-9]"}
    ],
    "examples": [50000, "50ms"]
});

#[cfg(test)]
mod tests {
    use super::super::tests::canonical;
    use super::*;

    #[test]
    fn addresses() {
        canonical::<IpAddress>(&[("10.0.0.53", "10.0.0.53"), ("FD00::0053", "fd00::53"), ("dns", ""), ("", "")]);
        canonical::<MacAddress>(&[
            ("02:42:AC:11:00:02", "02:42:ac:11:00:02"),
            ("02-42-ac-11-00-02", "02:42:ac:11:00:02"),
            ("02:42:ac:11:00", ""),
            ("02:42:ac:11:00:0g", ""),
        ]);
    }

    #[test]
    fn platforms() {
        canonical::<Platform>(&[
            ("linux/amd64", "linux/amd64"),
            ("Linux/X86_64", "linux/amd64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm/v7", "linux/arm/v7"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/armhf/v7", ""),
            ("arm64", ""),
            ("linux/", ""),
            ("a/b/c/d", ""),
        ]);
    }

    #[test]
    fn sets_rules_and_times() {
        canonical::<CpuSet>(&[("0", "0"), ("0, 2-3", "0,2-3"), ("3-2", ""), ("", ""), ("a", "")]);
        canonical::<DeviceCgroupRule>(&[
            ("c 188:* rmw", "c 188:* rmw"),
            ("a  *:*  r", "a *:* r"),
            ("d 1:1 r", ""),
            ("c 1 r", ""),
            ("c 1:1", ""),
        ]);
        canonical::<Microseconds>(&[("50000", "50000"), ("50ms", "50000"), ("0", ""), ("-1", ""), ("2h", "")]);
    }
}
