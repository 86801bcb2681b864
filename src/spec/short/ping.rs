//! Readiness checks.

use super::*;

read_shaped! { Ping }

const PING_INTERVAL: Duration = Duration::from_millis(100);

const PING_TIMEOUT: Duration = Duration::from_secs(300);

/// Readiness check: exactly one of `tcp`, `http`, `exec`, `run` and `log`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LongPing {
    /// Port of the container that must accept a connection.
    #[serde(default)]
    tcp: Option<PortNumber>,
    /// GET request that must return 2xx or 3xx, or the given status.
    #[serde(default)]
    http: Option<HttpCheck>,
    /// Command in the container that must exit with code 0.
    #[serde(default)]
    exec: Option<Words>,
    /// Command on the host, run in the spec directory, that must exit with code 0.
    #[serde(default)]
    run: Option<Words>,
    /// Regular expression that a line of the container's output must match.
    #[serde(default)]
    log: Option<Pattern>,
    /// Function of a program that must return `True`.
    #[serde(default)]
    #[schemars(skip)]
    function: Option<Function>,
    /// Interval between attempts. Defaults to 100 ms.
    #[serde(default)]
    interval: Option<Period>,
    /// Time after which the ping fails. Defaults to 300 s.
    #[serde(default)]
    timeout: Option<Period>,
}

/// Returns the error for an empty command.
pub fn nothing_to_run(name: &str) -> Invalid {
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
                return Err(
                    Invalid::new("the ping has no check").hint("write one of `tcp`, `http`, `exec`, `run` and `log`")
                );
            }
            _ => {
                return Err(Invalid::new(format!("a ping has exactly one check, found {}", names.join(" and "))));
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
    /// Writes the check, interval and timeout, each in its canonical form.
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
            Self::Http(http) => write!(f, "{} {}{}", http.scheme, http.port, http.path),
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

#[cfg(test)]
mod tests {
    use super::super::tests::canonical;
    use super::*;

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
