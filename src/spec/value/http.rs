//! URLs and headers of HTTP requests.

use ::http::Uri;
use ::http::uri::{Authority, InvalidUri, PathAndQuery};

use super::*;

/// An `http://` or `https://` URL with a host: `http://localhost:9/alert?user=ann`. Stores the text and the parsed form.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct HttpUrl(String, Uri);

const SCHEME: &str = "http://";
const SECURE_SCHEME: &str = "https://";

impl FromStr for HttpUrl {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = |why: &str| Invalid::new(format!("invalid URL {}: {why}", quoted(text)));
        if !text.starts_with(SCHEME) && !text.starts_with(SECURE_SCHEME) {
            let invalid = invalid("it must begin with `http://` or `https://`");
            return Err(match text.contains("://") {
                true => invalid,
                false => invalid.hint(format!("did you mean `{SCHEME}{}`?", text.trim_start_matches('/'))),
            });
        }
        if text.contains(|c: char| !c.is_ascii_graphic()) {
            return Err(invalid("it contains white space or non-ASCII characters").hint("write `%20` for a space"));
        }
        // `Uri` silently drops a fragment.
        if text.contains('#') {
            return Err(invalid("fragments (`#`) are not supported"));
        }
        let uri: Uri = text.parse().map_err(|error: InvalidUri| invalid(&error.to_string()))?;
        let url = Self(text.into(), uri);
        if url.authority().contains('@') {
            return Err(invalid("user information is not supported").hint("write a header: `authorization: Basic ...`"));
        }
        // `Uri` accepts any text in and after brackets, any characters in a host, and any port.
        let host = url.1.host().unwrap_or_default();
        let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let valid = match host.starts_with('[') {
            true => url.host().parse::<std::net::Ipv6Addr>().is_ok(),
            false => !host.is_empty() && host.chars().all(name),
        };
        let port = url.authority().strip_prefix(host).and_then(|rest| match rest.strip_prefix(':') {
            Some(port) => port.parse::<u16>().ok(),
            None => rest.is_empty().then_some(url.default_port()),
        });
        match (valid, port) {
            (false, _) => Err(invalid("the host is missing or invalid")),
            (true, Some(1..)) => Ok(url),
            (true, _) => Err(invalid("the port must be from 1 to 65535")),
        }
    }
}

impl HttpUrl {
    /// Returns host and port as written, for the `Host` header.
    pub fn authority(&self) -> &str {
        self.1.authority().map(Authority::as_str).unwrap_or_default()
    }

    /// Returns the host name or address, without brackets.
    fn host(&self) -> &str {
        let host = self.1.host().unwrap_or_default();
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    /// Returns the address to connect to: the host without brackets, and the port, 80 or 443 by default.
    pub fn address(&self) -> (&str, u16) {
        (self.host(), self.1.port_u16().unwrap_or(self.default_port()))
    }

    /// Returns true for an `https://` URL.
    pub fn is_secure(&self) -> bool {
        self.0.starts_with(SECURE_SCHEME)
    }

    fn default_port(&self) -> u16 {
        if self.is_secure() { 443 } else { 80 }
    }

    /// Returns path and query for the request line; starts with `/`.
    pub fn target(&self) -> String {
        // Unlike `as_str`, this puts a `/` before a query without a path.
        self.1.path_and_query().map(PathAndQuery::to_string).unwrap_or_default()
    }
}

impl fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HttpUrl").field(&self.0).finish()
    }
}

text_value!(HttpUrl, text_only, "a URL such as `http://localhost:8080/path`", {
    "type": "string",
    "title": "URL",
    "description": "A URL that begins with `http://` or `https://`. Certificates are verified.",
    "pattern": "^https?://[^/\\s]",
    "examples": ["http://localhost:9/alert"]
});

/// Value of an HTTP header: one line without surrounding white space.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeaderValue(String);

impl FromStr for HeaderValue {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.trim() {
            // Stricter than `http::HeaderValue`, which accepts tabs and non-ASCII control characters.
            line if line.contains(char::is_control) => {
                Err(Invalid::new(format!("invalid header value {}", quoted(text)))
                    .hint("a header value must be a single line"))
            }
            line => Ok(Self(line.into())),
        }
    }
}

text_value!(HeaderValue, shaped, "a header value", {
    "type": ["string", "number", "boolean"],
    "description": "Value of an HTTP header: a single line."
});

/// Name of an HTTP header, stored in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeaderName(String);

impl FromStr for HeaderName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match ::http::HeaderName::try_from(text) {
            Ok(name) => Ok(Self(name.as_str().to_owned())),
            Err(_) => Err(Invalid::new(format!("invalid header name {}", quoted(text)))
                .hint("write letters, digits and `-`, for example `content-type`")),
        }
    }
}

text_value!(HeaderName, text_only, "a header name", {
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
            ("http://[::1]x:80", ""),
            ("http://[::1]]:80", ""),
            ("http://[[::1]:80", ""),
            ("http://a:b:80", ""),
            ("http://a:80:", ""),
            ("http://[::1", ""),
            ("http://::1/", ""),
            ("http://[a]/", ""),
            ("http://ann:x@a/", ""),
            ("http://a/#b", ""),
            ("http://a/ b", ""),
            ("http://a/\u{e9}", ""),
            ("https://a:8443/x", "https://a:8443/x"),
            ("https://", ""),
            ("ftp://a", ""),
            ("localhost:80", ""),
            ("", ""),
        ]);
        let parts = |text: &str| {
            let url: HttpUrl = text.parse().unwrap();
            format!("{} {:?} {}", url.authority(), url.address(), url.target())
        };
        assert_eq!(parts("http://a"), "a (\"a\", 80) /");
        assert_eq!(parts("https://a/b"), "a (\"a\", 443) /b");
        assert_eq!(parts("http://a?b=/c"), "a (\"a\", 80) /?b=/c");
        assert_eq!(parts("http://a:81/b/c?d"), "a:81 (\"a\", 81) /b/c?d");
        assert_eq!(parts("http://[::1]:81"), "[::1]:81 (\"::1\", 81) /");
        assert_eq!(parts("http://[::1]"), "[::1] (\"::1\", 80) /");
        canonical::<HeaderName>(&[("X-User", "x-user"), ("", ""), ("a b", ""), ("a:", ""), ("\u{e9}", "")]);
        canonical::<HeaderValue>(&[(" a b ", "a b"), ("\u{e9}", "\u{e9}"), ("a\nb", ""), ("a\r\nb: c", "")]);
        canonical::<HeaderValue>(&[("a\tb", ""), ("a\u{7f}b", ""), ("a\u{85}b", "")]);
        // Exactly the characters of a token (RFC 9110, 5.6.2).
        for c in (0..=u8::MAX).map(char::from) {
            let token = c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
            assert_eq!(format!("x{c}").parse::<HeaderName>().is_ok(), token, "{c:?}");
        }
    }
}
