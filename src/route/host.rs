//! The normal form of a request's host for the match with routes: no port, no trailing dot, lower case.
//!
//! It never decodes. A percent-encoded name equals no configured name, so only routes for any host can match it.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use crate::message::host::{self, HostPort};

/// Normalises a Host value or an authority. `None` if it is not valid. It copies only if something must change.
pub fn normalise(text: &[u8]) -> Option<Cow<'_, str>> {
    let HostPort { host, .. } = host::parse(text)?;
    if let Some(v6) = host.strip_prefix('[') {
        return Some(v6_literal(host, v6));
    }
    // The trailing dot marks a complete name (RFC 1034 section 3.1). Names in routes are always complete.
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.is_empty() {
        return None;
    }
    Some(if host.bytes().any(|b| b.is_ascii_uppercase()) { host.to_ascii_lowercase().into() } else { host.into() })
}

/// Writes an IPv6 literal as in RFC 5952, because one address has many textual forms.
fn v6_literal<'a>(host: &'a str, inner: &str) -> Cow<'a, str> {
    match inner.trim_end_matches(']').parse::<Ipv6Addr>() {
        Ok(address) => format!("[{address}]").into(),
        Err(_) => host.to_ascii_lowercase().into(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_of_a_host_are_normalised() {
        for (text, want) in [
            ("a.example", "a.example"),
            ("A.Example:8080", "a.example"),
            ("a.example.", "a.example"),
            ("a.example.:80", "a.example"),
            ("127.0.0.1:80", "127.0.0.1"),
            ("[0:0::1]:80", "[::1]"),
            ("[2001:DB8::1]", "[2001:db8::1]"),
            ("[V1.A]", "[v1.a]"),
        ] {
            assert_eq!(normalise(text.as_bytes()).unwrap(), want, "{text}");
        }
        assert!(matches!(normalise(b"a.example:80"), Some(Cow::Borrowed(_))));
    }

    #[test]
    fn an_invalid_host_is_refused() {
        for text in ["", ".", ":80", "a b", "u@a", "a:x", "[::1"] {
            assert_eq!(normalise(text.as_bytes()), None, "{text}");
        }
    }
}
