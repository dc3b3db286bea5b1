//! A URL with `http` or `https`.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use http::Uri;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A URL such as `https://id.example/keys`. The text is kept as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HttpUrl {
    text: String,
    uri: Uri,
}

impl HttpUrl {
    /// The URL as it is written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether another machine could change the response: the scheme is `http`, and the host is not this one.
    pub fn is_exposed(&self) -> bool {
        let host = self.uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let is_local = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.to_canonical().is_loopback());
        self.uri.scheme_str() == Some("http") && !is_local
    }
}

impl FromStr for HttpUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a URL; write one such as `https://id.example/keys`");
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
        let authority =
            uri.authority().filter(|authority| is_http && !authority.host().is_empty()).ok_or_else(wrong)?;
        if authority.as_str().contains('@') {
            // The message does not quote the URL, because that has a password.
            return Err("the URL has a user or a password; leave them out".into());
        }
        match text.contains('#') {
            true => Err(format!("`{text}` has a fragment; leave it out")),
            false => Ok(Self { text: text.to_owned(), uri }),
        }
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

text_value!(HttpUrl, "HttpUrl", r"^https?://", "a URL such as `https://id.example/keys`");

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn only_absolute_urls_of_http_are_accepted() {
        for good in ["https://id.example/keys", "http://127.0.0.1:8080", "https://[::1]/a?b=c", "https://id.example/"] {
            assert_eq!(good.parse::<HttpUrl>().unwrap().to_string(), good);
        }
        for bad in ["", "id.example", "/keys", "ftp://a/b", "https://", "file:///a", "https://a b", "https://a/#b"] {
            assert!(bad.parse::<HttpUrl>().is_err(), "{bad}");
        }
        let error = "https://ann:secret@id.example".parse::<HttpUrl>().unwrap_err();
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn plain_http_to_another_machine_is_exposed() {
        let exposed = |text: &str| text.parse::<HttpUrl>().unwrap().is_exposed();
        assert!(exposed("http://id.internal/keys") && exposed("http://10.0.0.1/"));
        for local in ["https://id.internal/", "http://localhost:1/", "http://127.0.0.9/", "http://[::1]:80/"] {
            assert!(!exposed(local), "{local}");
        }
    }
}
