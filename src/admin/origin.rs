//! The check of the Origin field (RFC 6454): whether a request comes from a page of this address.

use http::{HeaderMap, header};

/// The origin of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// There is no Origin field. The client is a program, or a browser that navigates.
    Missing,
    /// A page of this address.
    Same,
    /// Another origin. The text is the error message.
    Other(String),
}

/// Compares Origin with Host. The scheme may be `https`, because a proxy in front may terminate TLS.
pub(super) fn of(headers: &HeaderMap) -> Origin {
    let Some(origin) = headers.get(header::ORIGIN) else { return Origin::Missing };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let text = origin.to_str().unwrap_or("null");
    let same = match text.split_once("://") {
        Some(("http", authority)) => equal(authority, host, ":80"),
        Some(("https", authority)) => equal(authority, host, ":443"),
        _ => false,
    };
    if same && headers.get_all(header::ORIGIN).iter().count() == 1 {
        return Origin::Same;
    }
    Origin::Other(format!("the Origin `{text}` is not this address, `{host}`; a proxy in front must keep the Host"))
}

/// Whether the Origin has the scheme `https`.
pub(super) fn is_https(headers: &HeaderMap) -> bool {
    headers.get(header::ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https://"))
}

fn equal(authority: &str, host: &str, default_port: &str) -> bool {
    let plain = |text: &str| text.strip_suffix(default_port).unwrap_or(text).to_ascii_lowercase();
    !host.is_empty() && plain(authority) == plain(host)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_the_same_by_host_and_port() {
        for (origin, host, same) in [
            ("http://127.0.0.1:9180", "127.0.0.1:9180", true),
            ("http://Weir.example", "weir.example:80", true),
            ("https://weir.example", "weir.example", true),
            ("https://weir.example", "weir.example:443", true),
            ("http://[::1]:9180", "[::1]:9180", true),
            ("http://127.0.0.1:9181", "127.0.0.1:9180", false),
            ("http://localhost:9180", "127.0.0.1:9180", false),
            ("http://evil.example", "weir.example", false),
            ("http://weir.example.evil.example", "weir.example", false),
            ("https://weir.example:80", "weir.example", false),
            ("ftp://weir.example", "weir.example", false),
            ("null", "weir.example", false),
            ("", "", false),
            ("http://", "", false),
        ] {
            let mut headers = HeaderMap::from_iter([(header::ORIGIN, origin.parse().unwrap())]);
            headers.insert(header::HOST, host.parse().unwrap());
            assert_eq!(of(&headers) == Origin::Same, same, "{origin} {host}");
        }
        assert_eq!(of(&HeaderMap::new()), Origin::Missing);
    }

    #[test]
    fn two_origins_are_refused() {
        let mut headers = HeaderMap::from_iter([(header::HOST, "a".parse().unwrap())]);
        headers.append(header::ORIGIN, "http://a".parse().unwrap());
        assert_eq!(of(&headers), Origin::Same);
        headers.append(header::ORIGIN, "http://b".parse().unwrap());
        assert_ne!(of(&headers), Origin::Same);
    }
}
