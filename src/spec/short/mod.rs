//! Fields with a short and a long form: parsing, printing and JSON Schema.
//!
//! The short form is canonical: values are printed in it, and parsing the printed form yields the same value. Each
//! type is validated on its own; `check` validates across fields.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, Deserializer, MapAccess, SeqAccess};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use super::locate::closest;
use super::model::{
    Check, Condition, ContainerNetworks, Dependency, Endpoint, Entries, ExtraHost, FileSource, FileUse,
    HealthcheckTest, HostPort, HttpCheck, IpcMode, Mount, MountOptions, MountSource, NetworkMode, OnChange, PidMode,
    Ping, Port, Ports, Propagation, Protocol, Pull, Recursive, RestartPolicy, Scheme, Selinux, Target, Tmpfs, Ulimit,
};
use super::starlark::Function;
use super::value::{
    ByteSize, EnvName, FileMode, FileName, HeaderName, HeaderValue, HttpUrl, Invalid, Name, Pattern, Period, Shape,
    Signal, Text, Words, quoted, shaped,
};

/// Implements `Deserialize` for types with a [`Shape`].
macro_rules! read_shaped {
    ($($type:ident)*) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                shaped(deserializer)
            }
        }
    )*};
}

/// Implements `Serialize` through `Display`.
macro_rules! write_displayed {
    ($($type:ident)*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}

/// Implements `JsonSchema` for a type with short forms (any schemas) and a long form (a struct that derives its schema).
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

/// Parses one of a few words.
fn word<T: Clone>(text: &str, words: &[(&str, T)], expected: &str) -> Result<T, Invalid> {
    let unknown = || {
        let hint = match closest(text, words.iter().map(|(word, _)| *word)) {
            Some(word) => format!("did you mean `{word}`?"),
            None => format!("write {expected}"),
        };
        Invalid::new(format!("unknown value {}", quoted(text))).hint(hint)
    };
    words.iter().find(|(word, _)| *word == text).map(|(_, value)| value.clone()).ok_or_else(unknown)
}

pub(super) use {both_forms, read_shaped};

// After the macros, which they use.
mod dependency;
mod device;
mod expose;
mod file;
mod healthcheck;
mod host;
mod http;
mod mount;
mod namespace;
mod network;
mod on_change;
mod ping;
mod port;
mod pull;
mod restart;
mod security;
mod ulimit;

pub(super) use self::http::http_status;
pub(super) use self::ping::nothing_to_run;
use self::port::*;

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;

    use super::*;

    /// Parses JSON and serialises it. The result must be stable.
    pub(super) fn canonical<T: DeserializeOwned + Serialize + PartialEq + fmt::Debug>(json: &str) -> String {
        let value: T = serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"));
        let written = serde_json::to_string(&value).unwrap();
        assert_eq!(serde_json::from_str::<T>(&written).unwrap(), value, "{json}, read again");
        written.trim_matches('"').to_owned()
    }

    #[test]
    fn equivalent_forms_are_normalised() {
        assert_eq!(canonical::<Tmpfs>("\"/run\""), "/run");
        assert_eq!(canonical::<Tmpfs>("{\"target\": \"/run\", \"options\": \"size=1m\"}"), "/run:size=1m");
        assert_eq!(canonical::<Dependency>("\"db\""), "db");
        assert_eq!(canonical::<Dependency>("{\"name\": \"db\"}"), "db");
        assert_eq!(
            canonical::<Dependency>("{\"restart\": true, \"name\": \"db\", \"condition\": \"ready\"}"),
            "{\"name\":\"db\",\"condition\":\"ready\",\"restart\":true}"
        );
        assert_eq!(
            canonical::<Dependency>("{\"name\": \"db\", \"required\": false}"),
            "{\"name\":\"db\",\"required\":false}"
        );
        assert_eq!(canonical::<RestartPolicy>("\"on-failure:3\""), "on-failure:3");
        assert_eq!(canonical::<RestartPolicy>("\"on-failure:0\""), "on-failure");
        assert_eq!(canonical::<RestartPolicy>("\"unless-stopped\""), "unless-stopped");
        assert_eq!(canonical::<Pull>("\"always\""), "always");
        assert_eq!(canonical::<Pull>("{\"every\": \"60m\"}"), "{\"every\":\"1h\"}");
        assert_eq!(canonical::<OnChange>("\"replace\""), "replace");
        assert_eq!(canonical::<OnChange>("{\"signal\": 1}"), "{\"signal\":\"SIGHUP\"}");
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
}
