//! HTTP checks of pings.

use super::*;

read_shaped! { HttpCheck }

/// An HTTP check: `url`, or `port`, `path` and `scheme`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LongHttpCheck {
    /// Port in the container. Defaults to 80, with `scheme: https` to 443.
    #[serde(default)]
    port: Option<PortNumber>,
    /// Path and query. Defaults to `/`.
    #[serde(default, deserialize_with = "http_path")]
    #[schemars(regex(pattern = "^/"))]
    path: Option<String>,
    /// `https`: the certificate is not verified. Defaults to `http`.
    #[serde(default)]
    scheme: Option<Scheme>,
    /// All of these as one URL. Its host is not connected to, but sent as `host` header.
    #[serde(default)]
    url: Option<HttpUrl>,
    /// Headers of the request. `host` defaults to the service and the port.
    #[serde(default)]
    headers: BTreeMap<HeaderName, HeaderValue>,
    /// The expected status. Defaults to any 2xx or 3xx.
    #[serde(default, deserialize_with = "http_status")]
    #[schemars(range(min = 100, max = 599))]
    status: Option<u16>,
}

impl HttpCheck {
    /// Returns the check of a URL, whose host becomes the `host` header.
    fn of_url(url: &HttpUrl) -> Result<Self, Invalid> {
        let host: HeaderValue = url.authority().parse()?;
        Ok(Self {
            port: url.address().1,
            path: url.target(),
            status: None,
            scheme: if url.is_secure() { Scheme::Https } else { Scheme::Http },
            headers: BTreeMap::from([("host".parse()?, host)]),
        })
    }
}

impl TryFrom<LongHttpCheck> for HttpCheck {
    type Error = Invalid;

    fn try_from(long: LongHttpCheck) -> Result<Self, Invalid> {
        let LongHttpCheck { port, path, scheme, url, headers, status } = long;
        let mut check = match url {
            Some(_) if port.is_some() || path.is_some() || scheme.is_some() => {
                let invalid = Invalid::new("`url` cannot be combined with `port`, `path` and `scheme`");
                return Err(invalid.hint("they are part of the URL: `http://localhost:8080/healthz`"));
            }
            Some(url) => Self::of_url(&url)?,
            None => {
                let scheme = scheme.unwrap_or_default();
                let port = port.map_or(scheme.default_port(), |PortNumber(port)| port);
                let path = path.unwrap_or_else(|| "/".into());
                Self { port, path, status: None, scheme, headers: BTreeMap::new() }
            }
        };
        check.headers.extend(headers);
        Ok(Self { status, ..check })
    }
}

impl<'de> Shape<'de> for HttpCheck {
    const EXPECTED: &'static str = "a check such as `{port: 80, path: /healthz}`";

    /// A port, a path or a URL, with or without its scheme.
    fn from_text(text: &str) -> Result<Self, Invalid> {
        let plain = |port, path: &str| Self {
            port,
            path: path.into(),
            status: None,
            scheme: Scheme::Http,
            headers: BTreeMap::new(),
        };
        if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
            return text.parse().map(|PortNumber(port)| plain(port, "/"));
        }
        if text.starts_with('/') {
            return check_path(text).map(|()| plain(Scheme::Http.default_port(), text));
        }
        let url = if text.contains("://") { text.into() } else { format!("http://{}", text.trim_start_matches(':')) };
        Self::of_url(&url.parse()?)
    }

    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        LongHttpCheck::deserialize(MapAccessDeserializer::new(map))?.try_into().map_err(de::Error::custom)
    }
}

both_forms!(
    HttpCheck,
    LongHttpCheck,
    "An HTTP check. A string is a URL, whose host is sent as `host` header, or a path on port 80; a number is a port.",
    [{"port": 80, "path": "/healthz"}, "http://localhost:8080/healthz"],
    [{"type": "string", "minLength": 1}, {"type": "integer", "minimum": 1, "maximum": 65535}]
);

fn check_path(path: &str) -> Result<(), Invalid> {
    let message = if !path.starts_with('/') {
        format!("the path {} does not begin with `/`", quoted(path))
    } else if path.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#') {
        format!("the path {} contains white space or `#`", quoted(path))
    } else {
        return Ok(());
    };
    Err(Invalid::new(message))
}

/// Deserializes the path of an HTTP check.
fn http_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let path = Option::<String>::deserialize(deserializer)?;
    path.iter().try_for_each(|path| check_path(path)).map_err(de::Error::custom)?;
    Ok(path)
}

/// Deserializes an HTTP status code.
pub fn http_status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    match Option::<u16>::deserialize(deserializer)? {
        Some(status) if !(100..=599).contains(&status) => {
            Err(de::Error::custom(format!("{status} is not an HTTP status: statuses go from 100 to 599")))
        }
        status => Ok(status),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::canonical;
    use super::*;

    #[test]
    fn http_checks() {
        for (json, expected) in [
            ("8080", "{\"port\":8080,\"path\":\"/\"}"),
            ("\"8080\"", "{\"port\":8080,\"path\":\"/\"}"),
            ("\"/x\"", "{\"port\":80,\"path\":\"/x\"}"),
            ("\"localhost:80/\"", "{\"port\":80,\"path\":\"/\",\"headers\":{\"host\":\"localhost:80\"}}"),
            (
                "\"http://localhost:81/path\"",
                "{\"port\":81,\"path\":\"/path\",\"headers\":{\"host\":\"localhost:81\"}}",
            ),
            (
                "{\"url\": \"https://shop.example/x?y\", \"status\": 204, \"headers\": {\"X-A\": 1}}",
                "{\"port\":443,\"path\":\"/x?y\",\"status\":204,\"scheme\":\"https\",\
                 \"headers\":{\"host\":\"shop.example\",\"x-a\":\"1\"}}",
            ),
            ("{\"scheme\": \"HTTPS\"}", "{\"port\":443,\"path\":\"/\",\"scheme\":\"https\"}"),
            (
                "{\"port\": 8443, \"headers\": {\"Host\": \"a\"}}",
                "{\"port\":8443,\"path\":\"/\",\"headers\":{\"host\":\"a\"}}",
            ),
        ] {
            assert_eq!(canonical::<HttpCheck>(json), expected);
        }
        for json in ["\"\"", "\"ftp://a\"", "\"a b\"", "0", "{\"url\": \"http://a\", \"port\": 80}", "\"/a b\""] {
            assert!(serde_json::from_str::<HttpCheck>(json).is_err(), "{json}");
        }
    }
}
