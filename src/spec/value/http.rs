//! URLs and headers of HTTP requests.

use super::*;

/// An `http://` URL with a host: `http://localhost:9/alert?who=ann`. Kept as written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HttpUrl(String);

const HTTP: &str = "http://";

impl FromStr for HttpUrl {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = |why: &str| Invalid::new(format!("invalid URL {}: {why}", quoted(text)));
        if text.starts_with("https://") {
            let hint = "write an `http://` URL, or `run` a program such as curl";
            return Err(Invalid::new(format!("{}: https is not supported", quoted(text))).hint(hint));
        }
        if !text.starts_with(HTTP) {
            let wrong = wrong("it does not begin with `http://`");
            return Err(match text.contains("://") {
                true => wrong,
                false => wrong.hint(format!("did you mean `{HTTP}{}`?", text.trim_start_matches('/'))),
            });
        }
        if text.contains(|c: char| !c.is_ascii_graphic()) {
            return Err(wrong("it holds white space or characters that are not ASCII").hint("write `%20` for a space"));
        }
        if text.contains('#') {
            return Err(wrong("a part after `#` is never sent"));
        }
        let url = Self(text.into());
        if url.authority().contains('@') {
            return Err(wrong("it holds a user").hint("write a header: `authorization: Basic ...`"));
        }
        let (host, port) = url.host_and_port();
        let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let sound = match url.authority().starts_with('[') {
            true => host.parse::<std::net::Ipv6Addr>().is_ok(),
            false => !host.is_empty() && host.chars().all(name),
        };
        match port.map(str::parse::<u16>) {
            _ if !sound => Err(wrong("it names no host")),
            None | Some(Ok(1..)) => Ok(url),
            Some(_) => Err(wrong("ports go from 1 to 65535")),
        }
    }
}

impl HttpUrl {
    /// Returns host and port as written, for the `Host` header.
    pub fn authority(&self) -> &str {
        let rest = self.0.strip_prefix(HTTP).unwrap_or_default();
        rest.split(['/', '?']).next().unwrap_or_default()
    }

    fn host_and_port(&self) -> (&str, Option<&str>) {
        let authority = self.authority();
        match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            // What stands behind the bracket without a colon is no port.
            Some((host, rest)) => (host, Some(rest.strip_prefix(':').unwrap_or("x"))),
            None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
        }
    }

    /// Returns the host name or address, without brackets.
    pub fn host(&self) -> &str {
        self.host_and_port().0
    }

    /// Returns the port. Defaults to 80.
    pub fn port(&self) -> u16 {
        self.host_and_port().1.and_then(|port| port.parse().ok()).unwrap_or(80)
    }

    /// Returns path and query for the request line; starts with `/`.
    pub fn target(&self) -> Cow<'_, str> {
        match self.0.get(HTTP.len() + self.authority().len()..).unwrap_or_default() {
            path if path.starts_with('/') => path.into(),
            query => format!("/{query}").into(),
        }
    }
}

text_value!(HttpUrl, texted, "a URL such as `http://localhost:8080/path`", {
    "type": "string",
    "title": "URL",
    "description": "A URL that begins with `http://`; https is not supported.",
    "pattern": "^http://[^/\\s]",
    "examples": ["http://localhost:9/alert"]
});

/// Value of an HTTP header: one line without surrounding white space.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeaderValue(String);

impl FromStr for HeaderValue {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.trim() {
            line if line.contains(char::is_control) => {
                Err(Invalid::new(format!("invalid header value {}", quoted(text)))
                    .hint("a header value is a single line"))
            }
            line => Ok(Self(line.into())),
        }
    }
}

text_value!(HeaderValue, shaped, "the value of a header", {
    "type": ["string", "number", "boolean"],
    "description": "Value of an HTTP header: one line."
});

/// Name of an HTTP header, stored in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeaderName(String);

impl FromStr for HeaderName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        match !text.is_empty() && text.chars().all(token) {
            true => Ok(Self(text.to_ascii_lowercase())),
            false => Err(Invalid::new(format!("invalid header name {}", quoted(text)))
                .hint("write letters, digits and `-`, for example `content-type`")),
        }
    }
}

text_value!(HeaderName, texted, "the name of a header", {
    "type": "string",
    "description": "Name of an HTTP header.",
    "pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$",
    "examples": ["content-type"]
});

#[cfg(test)]
mod tests {
    use super::super::tests::canonical;
    use super::*;

    #[test]
    fn urls_and_headers() {
        canonical::<HttpUrl>(&[
            ("http://a", "http://a"),
            ("http://a_b.example:80/x?y=%20", "http://a_b.example:80/x?y=%20"),
            ("http://[::1]:9/", "http://[::1]:9/"),
            ("http://", ""),
            ("http:///x", ""),
            ("http://:80", ""),
            ("http://a:", ""),
            ("http://a:0", ""),
            ("http://a:99999", ""),
            ("http://[::1]x", ""),
            ("http://[::1", ""),
            ("http://::1/", ""),
            ("http://[a]/", ""),
            ("http://ann:x@a/", ""),
            ("http://a/#b", ""),
            ("http://a/ b", ""),
            ("http://a/\u{e9}", ""),
            ("https://a", ""),
            ("ftp://a", ""),
            ("localhost:80", ""),
            ("", ""),
        ]);
        let parts = |text: &str| {
            let url: HttpUrl = text.parse().unwrap();
            format!("{} {} {} {}", url.authority(), url.host(), url.port(), url.target())
        };
        assert_eq!(parts("http://a"), "a a 80 /");
        assert_eq!(parts("http://a?b=/c"), "a a 80 /?b=/c");
        assert_eq!(parts("http://a:81/b/c?d"), "a:81 a 81 /b/c?d");
        assert_eq!(parts("http://[::1]:81"), "[::1]:81 ::1 81 /");
        assert_eq!(parts("http://[::1]"), "[::1] ::1 80 /");
        canonical::<HeaderName>(&[("X-Who", "x-who"), ("", ""), ("a b", ""), ("a:", ""), ("\u{e9}", "")]);
        canonical::<HeaderValue>(&[(" a b ", "a b"), ("\u{e9}", "\u{e9}"), ("a\nb", ""), ("a\r\nb: c", "")]);
    }
}
