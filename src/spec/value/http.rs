//! URLs and headers of HTTP requests.

use ::http::Uri;
use ::http::uri::{Authority, InvalidUri, PathAndQuery};

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
            return Err(wrong("it contains white space or non-ASCII characters").hint("write `%20` for a space"));
        }
        // `Uri` drops a fragment without a word.
        if text.contains('#') {
            return Err(wrong("a fragment (`#`) is never sent"));
        }
        let uri: Uri = text.parse().map_err(|error: InvalidUri| wrong(&error.to_string()))?;
        let authority = uri.authority().map(Authority::as_str).unwrap_or_default();
        if authority.contains('@') {
            return Err(wrong("it contains a user").hint("write a header: `authorization: Basic ...`"));
        }
        // `Uri` accepts any text in brackets, any characters of a host, and any port.
        let host = uri.host().unwrap_or_default();
        let label = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let valid = match host.strip_prefix('[') {
            Some(address) => address.trim_end_matches(']').parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.chars().all(label),
        };
        match (valid, authority.strip_prefix(host), uri.port_u16()) {
            (false, ..) => Err(wrong("it has no valid host")),
            (true, Some(""), _) | (true, _, Some(1..)) => Ok(Self(text.into())),
            _ => Err(wrong("ports go from 1 to 65535")),
        }
    }
}

impl HttpUrl {
    /// Returns the parsed URL.
    pub fn uri(&self) -> Uri {
        // Parsed once already when it was read.
        self.0.parse().unwrap_or_default()
    }

    /// Returns host and port as written, for the `Host` header.
    pub fn authority(&self) -> String {
        self.uri().authority().map(Authority::to_string).unwrap_or_default()
    }

    /// Returns the address to connect to: the host without brackets, and the port, 80 by default.
    pub fn address(&self) -> (String, u16) {
        let uri = self.uri();
        (uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned(), uri.port_u16().unwrap_or(80))
    }

    /// Returns path and query for the request line; starts with `/`.
    pub fn target(&self) -> String {
        self.uri().path_and_query().map(PathAndQuery::to_string).unwrap_or_default()
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
        let line = text.trim();
        match ::http::HeaderValue::from_bytes(line.as_bytes()) {
            Ok(_) => Ok(Self(line.into())),
            Err(_) => {
                Err(Invalid::new(format!("invalid header value {}", quoted(text)))
                    .hint("a header value is a single line"))
            }
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
        match ::http::HeaderName::try_from(text) {
            Ok(name) => Ok(Self(name.as_str().to_owned())),
            Err(_) => Err(Invalid::new(format!("invalid header name {}", quoted(text)))
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
            format!("{} {:?} {}", url.authority(), url.address(), url.target())
        };
        assert_eq!(parts("http://a"), "a (\"a\", 80) /");
        assert_eq!(parts("http://a?b=/c"), "a (\"a\", 80) /?b=/c");
        assert_eq!(parts("http://a:81/b/c?d"), "a:81 (\"a\", 81) /b/c?d");
        assert_eq!(parts("http://[::1]:81"), "[::1]:81 (\"::1\", 81) /");
        assert_eq!(parts("http://[::1]"), "[::1] (\"::1\", 80) /");
        canonical::<HeaderName>(&[("X-Who", "x-who"), ("", ""), ("a b", ""), ("a:", ""), ("\u{e9}", "")]);
        canonical::<HeaderValue>(&[(" a b ", "a b"), ("\u{e9}", "\u{e9}"), ("a\nb", ""), ("a\r\nb: c", "")]);
    }
}
