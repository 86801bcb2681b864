//! Devices, GPUs and block I/O.

use super::*;
use crate::spec::model::{Device, DeviceCount, DeviceRequest, Gpus, MemorySwap};
use crate::spec::value::ByteSize;

read_shaped! { Device DeviceCount Gpus MemorySwap }
write_displayed! { Device DeviceCount MemorySwap }

const ALL_PERMISSIONS: &str = "rwm";

/// Long form of a device.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LongDevice {
    /// Path on the host, or the name of a CDI device.
    source: String,
    /// Path in the container. Defaults to `source`.
    #[serde(default)]
    target: Option<String>,
    /// Some of `r`, `w` and `m` (create with mknod). Defaults to `rwm`.
    #[serde(default)]
    permissions: Option<String>,
}

/// Returns the permissions in the order `rwm`; `None` if there are other letters, or one is repeated.
fn ordered(permissions: &str) -> Option<String> {
    let ordered: String = ALL_PERMISSIONS.chars().filter(|letter| permissions.contains(*letter)).collect();
    (!ordered.is_empty() && ordered.len() == permissions.len()).then_some(ordered)
}

impl Device {
    fn new(source: &str, target: Option<&str>, permissions: Option<&str>) -> Result<Self, Invalid> {
        if !source.starts_with('/') {
            let is_cdi = source.split_once('=').is_some_and(|(kind, name)| {
                !name.is_empty()
                    && kind.split_once('/').is_some_and(|(vendor, class)| !vendor.is_empty() && !class.is_empty())
            });
            return match is_cdi && target.is_none() && permissions.is_none() {
                true => Ok(Self::Cdi(source.to_owned())),
                false => Err(Invalid::new(format!("{} is not a device", quoted(source)))
                    .hint("write a path such as `/dev/fuse`, or a CDI device such as `vendor.com/class=name`")),
            };
        }
        let target = target.unwrap_or(source);
        super::mount::absolute(target, "path of the device")?;
        let permissions = permissions.unwrap_or(ALL_PERMISSIONS);
        let permissions = ordered(permissions).ok_or_else(|| {
            Invalid::new(format!("invalid permissions {}", quoted(permissions)))
                .hint("write some of `r` (read), `w` (write) and `m` (mknod), for example `rw`")
        })?;
        Ok(Self::Node { source: source.into(), target: target.into(), permissions })
    }
}

impl FromStr for Device {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let parts: Vec<&str> = text.split(':').collect();
        match parts[..] {
            // CDI names may have colons.
            [source, ..] if !source.starts_with('/') => Self::new(text, None, None),
            [source] => Self::new(source, None, None),
            [source, last] if !last.starts_with('/') => Self::new(source, None, Some(last)),
            [source, target] => Self::new(source, Some(target), None),
            [source, target, permissions] => Self::new(source, Some(target), Some(permissions)),
            _ => Err(Invalid::new(format!("invalid device {}", quoted(text)))
                .hint("write `/dev/x`, `/dev/x:/dev/y` or `/dev/x:/dev/y:rw`")),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cdi(name) => f.write_str(name),
            Self::Node { source, target, permissions } => write!(f, "{source}:{target}:{permissions}"),
        }
    }
}

impl<'de> Shape<'de> for Device {
    const EXPECTED: &'static str = "a device such as `/dev/fuse`";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        text.parse()
    }

    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        let long = LongDevice::deserialize(MapAccessDeserializer::new(map))?;
        Self::new(&long.source, long.target.as_deref(), long.permissions.as_deref()).map_err(de::Error::custom)
    }
}

both_forms!(
    Device,
    LongDevice,
    "A device: `/dev/x[:/dev/y[:rwm]]`, or a CDI device `vendor.com/class=name`.",
    ["/dev/fuse", "/dev/ttyUSB0:/dev/modem:rw", {"source": "/dev/fuse", "permissions": "rw"}],
    [{"type": "string", "pattern": "^(/|[^/]+/[^=]+=).+$"}]
);

impl FromStr for DeviceCount {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match (text, text.parse()) {
            ("all" | "-1", _) => Ok(Self::All),
            (_, Ok(number @ 1..)) => Ok(Self::Number(number)),
            _ => Err(Invalid::new(format!("{} is not a number of devices", quoted(text)))
                .hint("write a number from 1, or `all`")),
        }
    }
}

impl fmt::Display for DeviceCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Number(number) => number.fmt(f),
        }
    }
}

impl<'de> Shape<'de> for DeviceCount {
    const EXPECTED: &'static str = "a number of devices, or `all`";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl JsonSchema for DeviceCount {
    fn schema_name() -> Cow<'static, str> {
        "DeviceCount".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number of devices, or `all`.",
            "anyOf": [{"type": "integer", "minimum": 1}, {"const": "all"}]
        })
    }
}

impl<'de> Shape<'de> for Gpus {
    const EXPECTED: &'static str = "`all`, a number of GPUs, or a list of requests";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        Ok(Self(vec![DeviceRequest { count: Some(text.parse()?), ..DeviceRequest::default() }]))
    }

    fn from_list<A: SeqAccess<'de>>(list: A) -> Result<Self, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(list)).map(Self)
    }
}

impl Serialize for Gpus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl JsonSchema for Gpus {
    fn schema_name() -> Cow<'static, str> {
        "Gpus".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "GPUs: `all`, a number, or a list of requests.",
            "anyOf": [
                generator.subschema_for::<DeviceCount>(),
                {"type": "array", "items": generator.subschema_for::<DeviceRequest>()}
            ],
            "examples": ["all", [{"driver": "nvidia", "count": 1}]]
        })
    }
}

impl FromStr for MemorySwap {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.trim() {
            "-1" => Ok(Self::Unlimited),
            text => text.parse::<ByteSize>().map(Self::Size).map_err(|error| {
                let hint = "write a size such as `512m` for memory and swap together, or -1 for unlimited swap";
                Invalid::new(error.message).hint(hint)
            }),
        }
    }
}

impl fmt::Display for MemorySwap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlimited => f.write_str("-1"),
            Self::Size(size) => size.fmt(f),
        }
    }
}

impl<'de> Shape<'de> for MemorySwap {
    const EXPECTED: &'static str = "a size such as `512m`, or -1";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl JsonSchema for MemorySwap {
    fn schema_name() -> Cow<'static, str> {
        "MemorySwap".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Memory and swap together, or -1 for unlimited swap.",
            "anyOf": [generator.subschema_for::<ByteSize>(), {"const": -1}]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::canonical;
    use super::*;

    #[test]
    fn devices_have_paths_or_cdi_names() {
        assert_eq!(canonical::<Device>("\"/dev/fuse\""), "/dev/fuse:/dev/fuse:rwm");
        assert_eq!(canonical::<Device>("\"/dev/a:/dev/b\""), "/dev/a:/dev/b:rwm");
        assert_eq!(canonical::<Device>("\"/dev/a:r\""), "/dev/a:/dev/a:r");
        assert_eq!(canonical::<Device>("\"/dev/a:/dev/b:mr\""), "/dev/a:/dev/b:rm");
        assert_eq!(canonical::<Device>("{\"source\": \"/dev/a\", \"permissions\": \"w\"}"), "/dev/a:/dev/a:w");
        assert_eq!(canonical::<Device>("\"vendor.com/class=name:0\""), "vendor.com/class=name:0");
        for text in ["fuse", "/dev/a:x", "/dev/a:/dev/b:rr", "/a:/b:r:w", "vendor.com/class", "/class=name:r:", "/=x:"]
        {
            assert!(text.parse::<Device>().is_err(), "{text}");
        }
    }

    #[test]
    fn gpus_are_all_a_number_or_requests() {
        assert_eq!(canonical::<Gpus>("\"all\""), "[{\"count\":\"all\"}]");
        assert_eq!(canonical::<Gpus>("2"), "[{\"count\":\"2\"}]");
        let request = "[{\"driver\":\"nvidia\",\"device_ids\":[\"0\"],\"capabilities\":[\"gpu\"]}]";
        assert_eq!(canonical::<Gpus>(request), request);
        assert!(serde_json::from_str::<Gpus>("\"some\"").is_err() && serde_json::from_str::<Gpus>("0").is_err());
    }

    #[test]
    fn swap_is_a_size_or_unlimited() {
        assert_eq!(canonical::<MemorySwap>("-1"), "-1");
        assert_eq!(canonical::<MemorySwap>("\"1024m\""), "1g");
        assert!("-2".parse::<MemorySwap>().is_err());
    }
}
