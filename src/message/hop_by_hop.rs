//! Removes hop-by-hop fields, which belong to one connection (RFC 9110 section 7.6.1).
//!
//! It never frames a message: Transfer-Encoding and Content-Length are Pingora's.
//!
//! Requests to HTTP/1: Weir's own session sends them, and `to_http1` removes all these fields.
//!
//! Requests to HTTP/2: `sanitize_h2_upstream_request` (pingora-proxy, `proxy_common.rs`, under the default
//! `HttpUpstreamRequestPolicy`) does the same from HTTP/1 to HTTP/2 before our filter runs. It also removes `te:
//! trailers`, which gRPC needs. From HTTP/2 to HTTP/2 Pingora removes nothing. This module does the rest.
//!
//! Responses: Pingora removes nothing towards HTTP/1.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

/// Fields that a Connection field cannot remove. Without them the message would change its meaning, framing or safety.
///
/// A sender must not nominate them, because they are for all recipients of the content (RFC 9110 section 7.6.1).
static END_TO_END: [HeaderName; 17] = [
    header::AGE,
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_SECURITY_POLICY,
    header::CONTENT_TYPE,
    header::DATE,
    header::ETAG,
    header::EXPIRES,
    header::LOCATION,
    header::SET_COOKIE,
    header::STRICT_TRANSPORT_SECURITY,
    header::TRANSFER_ENCODING,
    header::VARY,
    header::VIA,
    header::WWW_AUTHENTICATE,
];

/// Nominations after this number are ignored.
const NOMINATIONS: usize = 32;

/// The most options that a Connection field may have.
const MAX_OPTIONS: usize = 9;

/// Removes all hop-by-hop fields of a request to an HTTP/1 backend. An upgrade to WebSocket is kept, if the client may
/// ask for one (`may_upgrade`: it uses HTTP/1.1).
///
/// # Errors
/// Connection has too many options, an invalid one, or one that names a field which every recipient needs.
pub fn to_http1(headers: &mut HeaderMap, may_upgrade: bool) -> Result<(), &'static str> {
    if !headers.keys().any(is_hop_by_hop) {
        return Ok(());
    }
    let websocket = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"websocket");
    let upgrades = may_upgrade && headers.get(header::UPGRADE).is_some_and(websocket);
    for name in named_fields(headers)? {
        headers.remove(&name);
    }
    while let Some(name) = headers.keys().find(|name| is_hop_by_hop(name)).cloned() {
        headers.remove(&name);
    }
    if upgrades {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    Ok(())
}

/// Checks what `to_http1` will find.
///
/// # Errors
/// Those of `to_http1`.
pub fn check_options(headers: &HeaderMap) -> Result<(), &'static str> {
    if headers.contains_key(header::CONNECTION) { named_fields(headers).map(drop) } else { Ok(()) }
}

/// The fields that Connection names. A field that every recipient needs cannot be removed (RFC 9110 section 7.6.1).
fn named_fields(headers: &HeaderMap) -> Result<Vec<HeaderName>, &'static str> {
    let mut names = Vec::new();
    for option in options(headers, &header::CONNECTION).filter(|option| !option.is_empty()) {
        if names.len() >= MAX_OPTIONS {
            return Err("too many options in Connection");
        }
        let name = HeaderName::from_bytes(option).map_err(|_| "an invalid option in Connection")?;
        if matches!(name.as_str(), "host" | "x-forwarded-for" | "x-forwarded-host" | "x-forwarded-proto") {
            return Err("Connection names a field that every recipient needs");
        }
        names.push(name);
    }
    Ok(names)
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "http2-settings"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Removes the hop-by-hop fields that Pingora leaves in a request to a backend. It must be called in
/// `upstream_request_filter`.
///
/// `client` is the request as the client sent it. These fields are not forwarded:
/// - Proxy-Authorization is "consumed by the first inbound proxy that was expecting to receive credentials" (RFC 9110
///   section 11.7.2). Proxy-Authenticate is not a request field.
/// - `Expect: 100-continue`: Weir sends the 100 itself as soon as it reads the body. RFC 9110 section 10.1.1 allows
///   that to a proxy.
/// - Trailer, because Pingora passes no request trailers.
/// - TE. To HTTP/2, only `te: trailers` is kept if the client sent it (RFC 9113 section 8.2.2).
pub fn request(headers: &mut HeaderMap, client: &HeaderMap, to_h2: bool) {
    // One pass over the existing names costs less than a look-up for each possible name.
    let ends_here = |name: &HeaderName| {
        name == header::PROXY_AUTHORIZATION || name == header::PROXY_AUTHENTICATE || name == header::TRAILER
    };
    if headers.keys().any(ends_here) {
        headers.remove(header::PROXY_AUTHORIZATION);
        headers.remove(header::PROXY_AUTHENTICATE);
        headers.remove(header::TRAILER);
    }
    let (mut te, mut expect) = (false, false);
    for name in client.keys() {
        te |= name == header::TE;
        expect |= name == header::EXPECT;
    }
    if expect && expects_continue(client) {
        headers.remove(header::EXPECT);
    }
    if !te {
        return;
    }
    if to_h2 && accepts_trailers(client) {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    } else {
        headers.remove(header::TE);
    }
}

/// Whether Connection has this option (RFC 9110 section 7.6.1).
pub fn connection_names(headers: &HeaderMap, option: &[u8]) -> bool {
    options(headers, &header::CONNECTION).any(|named| named.eq_ignore_ascii_case(option))
}

/// Whether the client expects 100 (Continue) before it sends its body.
pub fn expects_continue(headers: &HeaderMap) -> bool {
    options(headers, &header::EXPECT).any(|expected| expected.eq_ignore_ascii_case(b"100-continue"))
}

fn accepts_trailers(headers: &HeaderMap) -> bool {
    options(headers, &header::TE).any(|option| option.eq_ignore_ascii_case(b"trailers"))
}

/// Removes the hop-by-hop fields from a backend's response. It must be called before header edits.
///
/// `trailers`: the client uses HTTP/2, so the announced trailers arrive. Pingora passes no trailers to HTTP/1 clients. A
/// 101 keeps Upgrade, with the Connection that it needs.
///
/// Proxy-Authenticate and Proxy-Authentication-Info are for the next outbound client of a proxy that requires
/// credentials (RFC 9110 sections 11.7.1 and 11.7.3). For a backend that client is Weir, and Weir has no credentials.
pub fn response(headers: &mut HeaderMap, status: StatusCode, trailers: bool) {
    let switching = status == StatusCode::SWITCHING_PROTOCOLS;
    if headers.keys().any(|name| name == header::CONNECTION) {
        for name in nominated(headers) {
            if !(switching && name == header::UPGRADE) {
                headers.remove(&name);
            }
        }
    }
    // Each round removes one name with all its values, so the loop ends.
    let goes = |name: &&HeaderName| match name.as_str() {
        "trailer" => !trailers,
        "upgrade" => !switching,
        "connection" | "keep-alive" | "proxy-connection" | "te" => true,
        "proxy-authenticate" | "proxy-authentication-info" => true,
        _ => false,
    };
    while let Some(name) = headers.keys().find(goes).cloned() {
        headers.remove(&name);
    }
    if switching {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    }
}

/// The fields that Connection nominates and that it may remove.
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    let plain = |option: &&[u8]| option.eq_ignore_ascii_case(b"keep-alive") || option.eq_ignore_ascii_case(b"close");
    options(headers, &header::CONNECTION)
        .take(NOMINATIONS)
        .filter(|option| !plain(option))
        .filter_map(|option| HeaderName::from_bytes(option).ok())
        .filter(|name| headers.contains_key(name) && !END_TO_END.contains(name))
        .collect()
}

/// The members of a list field, over all its field lines (RFC 9110 section 5.6.1).
fn options<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let members = |value: &'a HeaderValue| value.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii);
    headers.get_all(name).iter().flat_map(members).filter(|member| !member.is_empty())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn filtered(status: u16, fields: &[(&'static str, &str)], trailers: bool) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        response(&mut headers, StatusCode::from_u16(status).unwrap(), trailers);
        headers.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect()
    }

    #[test]
    fn nominated_and_hop_by_hop_fields_are_removed() {
        let fields = [
            ("Connection", "close, X-Secret"),
            ("Connection", " x-other ,,"),
            ("X-Secret", "1"),
            ("X-Other", "2"),
            ("X-End", "3"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Connection", "keep-alive"),
            ("Proxy-Authenticate", "Basic"),
            ("TE", "trailers"),
            ("Trailer", "x-sum"),
            ("Upgrade", "h2c"),
        ];
        assert_eq!(filtered(200, &fields, false), ["x-end: 3"]);
        assert_eq!(filtered(200, &fields, true), ["x-end: 3", "trailer: x-sum"]);
    }

    #[test]
    fn end_to_end_fields_cannot_be_nominated_away() {
        let fields = [
            ("Connection", "Content-Length, set-cookie, Cache-Control, \"x\", a b"),
            ("Content-Length", "3"),
            ("Set-Cookie", "a=b"),
            ("Cache-Control", "no-store"),
        ];
        let mut rest = filtered(200, &fields, false);
        rest.sort();
        assert_eq!(rest, ["cache-control: no-store", "content-length: 3", "set-cookie: a=b"]);
    }

    #[test]
    fn a_101_keeps_upgrade_and_connection() {
        let fields = [("Connection", "upgrade, x-a"), ("Upgrade", "websocket"), ("X-A", "1")];
        let mut rest = filtered(101, &fields, false);
        rest.sort();
        assert_eq!(rest, ["connection: Upgrade", "upgrade: websocket"]);
    }

    #[test]
    fn te_trailers_reaches_h2_only() {
        for (te, to_h2, want) in [
            (Some("gzip, Trailers"), true, Some("trailers")),
            (Some("trailers"), false, None),
            (Some("gzip"), true, None),
            (None, true, None),
        ] {
            let mut client = HeaderMap::new();
            if let Some(te) = te {
                client.insert("te", te.parse().unwrap());
            }
            client.insert("proxy-authorization", "Basic x".parse().unwrap());
            client.insert("trailer", "x-sum".parse().unwrap());
            let mut sent = client.clone();
            request(&mut sent, &client, to_h2);
            assert_eq!(sent.get("te").map(|v| v.to_str().unwrap()), want, "{te:?} {to_h2}");
            assert!(!sent.contains_key("proxy-authorization") && !sent.contains_key("trailer"));
        }
    }
}
