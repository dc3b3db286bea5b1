//! Host and `:authority`: the syntax check, and the Host that backends receive.
//!
//! It never resolves a name, and never compares a host with the routes' hosts: `route::host` does.

use http::HeaderValue;
use pingora::http::RequestHeader;

use crate::config::schema::HostRule;

/// The limit of a host, in bytes. It is longer than any DNS name (RFC 1035 section 2.3.4) and any IP literal.
const MAX_HOST_BYTES: usize = 255;

/// A host and an optional port, as in `Host` (RFC 9110 section 7.2) and in an authority without userinfo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostPort<'a> {
    /// The host as the client wrote it: a name, an IPv4 address, or an IP literal with its brackets.
    pub host: &'a str,
    /// The port. An empty one counts as none (RFC 3986 section 3.2.3).
    pub port: Option<u16>,
}

/// Parses `uri-host [ ":" port ]` (RFC 9110 section 7.2, RFC 3986 sections 3.2.2 and 3.2.3).
///
/// `None` for everything else, such as userinfo, spaces, a port over 65535, or more than 255 bytes of host. An empty host
/// must be rejected (RFC 9110 section 4.2.1).
pub fn parse(text: &[u8]) -> Option<HostPort<'_>> {
    let plain = text.iter().position(|&byte| !PLAIN[usize::from(byte)]).unwrap_or(text.len());
    let end = match text.get(plain) {
        None | Some(b':') if plain > 0 => plain,
        _ => rare(text)?,
    };
    if end > MAX_HOST_BYTES {
        return None;
    }
    let (host, rest) = std::str::from_utf8(text).ok()?.split_at_checked(end)?;
    Some(HostPort { host, port: parse_port(rest)? })
}

/// The end of a host that is an IP literal or has percent-encoded octets.
#[cold]
fn rare(text: &[u8]) -> Option<usize> {
    if text.first() == Some(&b'[') {
        let end = text.iter().position(|&byte| byte == b']')?;
        return is_ip_literal(std::str::from_utf8(&text[1..end]).ok()?).then_some(end + 1);
    }
    let end = text.iter().position(|&byte| byte == b':').unwrap_or(text.len());
    is_reg_name(&text[..end]).then_some(end)
}

/// The host of the request: from Host, or from `:authority` if HTTP/2 has no Host. `None` if it is missing or not
/// valid.
pub fn requested(request: &RequestHeader) -> Option<HostPort<'_>> {
    match request.headers.get(http::header::HOST) {
        Some(host) => parse(host.as_bytes()),
        None => parse(request.uri.authority()?.as_str().as_bytes()),
    }
}

/// The authority of the request: that of the target, otherwise Host (RFC 9112 section 3.3, RFC 9113 section 8.3.1).
pub fn authority(request: &RequestHeader) -> Option<&[u8]> {
    match request.uri.authority() {
        Some(authority) => Some(authority.as_str().as_bytes()),
        None => request.headers.get(http::header::HOST).map(HeaderValue::as_bytes),
    }
}

/// Parses `""`, `":"` or `":" 1*DIGIT`. The outer `None` is an error.
fn parse_port(rest: &str) -> Option<Option<u16>> {
    if rest.is_empty() {
        return Some(None);
    }
    let digits = rest.strip_prefix(':')?;
    if digits.is_empty() {
        return Some(None);
    }
    // `u16::from_str` accepts a plus sign, but the grammar does not.
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?.map(Some)
}

/// `IPv6address / IPvFuture` (RFC 3986 section 3.2.2). Zone identifiers are refused, because they have a meaning only
/// on the client's host.
fn is_ip_literal(text: &str) -> bool {
    if let Some(future) = text.strip_prefix(['v', 'V']) {
        return future.split_once('.').is_some_and(|(version, address)| {
            !version.is_empty()
                && version.bytes().all(|b| b.is_ascii_hexdigit())
                && !address.is_empty()
                && address.bytes().all(|b| b == b':' || PLAIN[usize::from(b)])
        });
    }
    text.parse::<std::net::Ipv6Addr>().is_ok()
}

/// `*( unreserved / pct-encoded / sub-delims )` (RFC 3986 section 3.2.2). The grammar allows an empty name, this
/// function does not.
fn is_reg_name(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        rest = match (first, tail) {
            (b'%', [a, b, tail @ ..]) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => tail,
            (byte, tail) if PLAIN[usize::from(byte)] => tail,
            _ => return false,
        };
    }
    !text.is_empty()
}

/// The bytes of `unreserved / sub-delims`.
static PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        plain[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let others = b"-._~!$&'()*+,;=";
    let mut at = 0;
    while at < others.len() {
        plain[others[at] as usize] = true;
        at += 1;
    }
    plain
};

/// `routes[].host`, compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPolicy {
    /// Backends receive the client's Host.
    Keep,
    /// Backends receive their own configured address.
    Backend,
    /// Backends receive this value.
    Name(HeaderValue),
}

impl HostPolicy {
    /// Compiles the policy.
    ///
    /// # Errors
    /// The name is not a valid host.
    pub fn compile(rule: &HostRule) -> Result<Self, String> {
        match rule {
            HostRule::Keep => Ok(Self::Keep),
            HostRule::Backend => Ok(Self::Backend),
            HostRule::Name(name) => match (parse(name.as_bytes()), HeaderValue::from_str(name)) {
                (Some(_), Ok(value)) => Ok(Self::Name(value)),
                _ => Err(format!("`{name}` is not a host; write `keep`, `backend` or `api.example.com`")),
            },
        }
    }

    /// Writes the Host for the backend. Later Pingora copies it to an HTTP/2 `:authority` and to an absolute target
    /// (`reconcile_upstream_authority`, which runs after the filters).
    ///
    /// # Errors
    /// Pingora's, if the header cannot take another field.
    pub fn apply(&self, request: &mut RequestHeader, backend: &HeaderValue) -> pingora::Result<()> {
        match self {
            Self::Keep => Ok(()),
            Self::Backend => request.insert_header("Host", backend.clone()),
            Self::Name(name) => request.insert_header("Host", name.clone()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn valid_hosts_are_parsed() {
        for (text, host, port) in [
            ("example.com", "example.com", None),
            ("Example.COM.:80", "Example.COM.", Some(80)),
            ("a:", "a", None),
            ("a_b-c~d:65535", "a_b-c~d", Some(65535)),
            ("127.0.0.1:8080", "127.0.0.1", Some(8080)),
            ("[::1]", "[::1]", None),
            ("[2001:DB8::1]:443", "[2001:DB8::1]", Some(443)),
            ("[v1.a:b]", "[v1.a:b]", None),
            ("a%2Db", "a%2Db", None),
        ] {
            assert_eq!(parse(text.as_bytes()), Some(HostPort { host, port }), "{text}");
        }
    }

    #[test]
    fn invalid_hosts_are_refused() {
        for text in [
            "",
            ":80",
            "a b",
            "a<b>",
            "user@a",
            "user:pw@a",
            "a:b",
            "a:+1",
            "a:65536",
            "a:1:2",
            "a/b",
            "a?b",
            "a#b",
            "a\\b",
            "[::1",
            "::1",
            "[::1]x",
            "[::1]:x",
            "[::g]",
            "[fe80::1%25eth0]",
            "[]",
            "[v.a]",
            "[v1.]",
            "a%2",
            "a%zz",
            "é",
            "a\tb",
            "a\"b",
            "[::1]]",
            "a[b]",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse(&[b'a'; 256]), None);
        assert_eq!(parse(b"\xff"), None);
    }

    #[test]
    fn the_host_field_has_priority_over_the_authority() {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        assert_eq!(requested(&request), None);
        request.set_uri("http://b.example:81/".parse().unwrap());
        assert_eq!(requested(&request), Some(HostPort { host: "b.example", port: Some(81) }));
        request.insert_header("Host", "a.example").unwrap();
        assert_eq!(requested(&request).unwrap().host, "a.example");
    }

    #[test]
    fn each_policy_writes_its_host() {
        let backend = HeaderValue::from_static("10.0.0.1:3001");
        for (rule, want) in [("keep", "client.example"), ("backend", "10.0.0.1:3001"), ("api.internal", "api.internal")]
        {
            let mut request = RequestHeader::build("GET", b"/", None).unwrap();
            request.insert_header("Host", "client.example").unwrap();
            HostPolicy::compile(&HostRule::from(rule.to_owned())).unwrap().apply(&mut request, &backend).unwrap();
            assert_eq!(request.headers["host"], want, "{rule}");
            assert_eq!(request.headers.get_all("host").iter().count(), 1);
        }
        assert!(HostPolicy::compile(&HostRule::Name("a b".into())).is_err());
    }
}
