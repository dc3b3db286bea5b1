//! Fields that belong to one connection and end there (RFC 9110 section 7.6.1).
//!
//! Requests: most of it happens in Pingora before our filter runs. `sanitize_h1_upstream_request` (pingora-proxy,
//! `proxy_common.rs`, under the default `HttpUpstreamRequestPolicy`) removes Connection and what it nominates (400 for
//! more than nine, for no-tokens, and for Host and the X-Forwarded fields), Keep-Alive, Proxy-Connection,
//! Proxy-Authenticate, Proxy-Authorization, TE, Trailer, Transfer-Encoding, HTTP2-Settings, and Upgrade with its
//! Connection unless it is a WebSocket's; `sanitize_h2_upstream_request` does so from HTTP/1 to HTTP/2. Left to us:
//! from HTTP/2 to HTTP/2 nothing is removed, and `te: trailers`, which gRPC needs, is lost from HTTP/1 to HTTP/2.
//! A request that `upstream::fast_path` calls plain passes Pingora by: it has none of these but Connection, which `proxy::send`
//! takes away. Responses: Pingora removes nothing towards HTTP/1. This room never frames a message: Transfer-Encoding and
//! Content-Length are Pingora's.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

/// What a Connection field cannot take away: the field is meant for all recipients, so that nominating it is an error
/// of the sender ("MUST NOT send a connection option corresponding to a field intended for all recipients of the
/// content", RFC 9110 section 7.6.1), and losing it would change the message's meaning, its framing or its safety.
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

/// Nominations beyond this many are not looked at; Pingora has the same bound on requests.
const NOMINATIONS: usize = 32;

/// Finishes what Pingora began on the request that goes to a backend; to be called in `upstream_request_filter`.
///
/// `client` is the request as it came. Proxy-Authorization ends here, as it is "consumed by the first inbound proxy
/// that was expecting to receive credentials" (RFC 9110 section 11.7.2), and so does Proxy-Authenticate, which
/// requests do not have. So does `Expect: 100-continue`: Weir sends the 100 itself as soon as it reads the body (RFC 9110
/// section 10.1.1 lets a proxy do so). Trailer goes, as Pingora passes no trailers of requests. To HTTP/2, `te: trailers` is
/// what remains of the client's TE (RFC 9113 section 8.2.2).
pub fn request(headers: &mut HeaderMap, client: &HeaderMap, to_h2: bool) {
    // One look at each name there is costs less than a look-up for each there may be.
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

/// Whether the client waits for 100 (Continue) before it sends its body.
pub fn expects_continue(headers: &HeaderMap) -> bool {
    options(headers, &header::EXPECT).any(|expected| expected.eq_ignore_ascii_case(b"100-continue"))
}

fn accepts_trailers(headers: &HeaderMap) -> bool {
    options(headers, &header::TE).any(|option| option.eq_ignore_ascii_case(b"trailers"))
}

/// Removes from a backend's response what was meant for Weir alone; to be called before header edits.
///
/// `trailers`: both sides speak HTTP/2, so that what `Trailer` announces does arrive; Pingora passes no trailers from
/// or to HTTP/1. Upgrade stays on 101, with the Connection it needs. Proxy-Authenticate and Proxy-Authentication-Info
/// speak to the next outbound client of a proxy that asks for credentials (RFC 9110 sections 11.7.1 and 11.7.3):
/// towards a backend that is Weir, which has none to give.
pub fn response(headers: &mut HeaderMap, status: StatusCode, trailers: bool) {
    let switching = status == StatusCode::SWITCHING_PROTOCOLS;
    if headers.keys().any(|name| name == header::CONNECTION) {
        for name in nominated(headers) {
            if !(switching && name == header::UPGRADE) {
                headers.remove(&name);
            }
        }
    }
    // Each round takes one name away with all its values, so it ends.
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

/// The fields that `Connection` names and may take away.
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    let plain = |option: &&[u8]| option.eq_ignore_ascii_case(b"keep-alive") || option.eq_ignore_ascii_case(b"close");
    options(headers, &header::CONNECTION)
        .take(NOMINATIONS)
        .filter(|option| !plain(option))
        .filter_map(|option| HeaderName::from_bytes(option).ok())
        .filter(|name| headers.contains_key(name) && !END_TO_END.contains(name))
        .collect()
}

/// The members of a list field, over all its lines (RFC 9110 section 5.6.1).
fn options<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let members = |value: &'a HeaderValue| value.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii);
    headers.get_all(name).iter().flat_map(members).filter(|member| !member.is_empty())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn answer(status: u16, fields: &[(&'static str, &str)], trailers: bool) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        response(&mut headers, StatusCode::from_u16(status).unwrap(), trailers);
        headers.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect()
    }

    #[test]
    fn strips_what_is_named() {
        let fields = [
            ("Connection", "close, X-Secret"),
            ("Connection", " x-other ,,"),
            ("X-Secret", "1"),
            ("X-Other", "2"),
            ("X-Kept", "3"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Connection", "keep-alive"),
            ("Proxy-Authenticate", "Basic"),
            ("TE", "trailers"),
            ("Trailer", "x-sum"),
            ("Upgrade", "h2c"),
        ];
        assert_eq!(answer(200, &fields, false), ["x-kept: 3"]);
        assert_eq!(answer(200, &fields, true), ["x-kept: 3", "trailer: x-sum"]);
    }

    #[test]
    fn end_to_end_fields_cannot_be_nominated_away() {
        let fields = [
            ("Connection", "Content-Length, set-cookie, Cache-Control, \"x\", a b"),
            ("Content-Length", "3"),
            ("Set-Cookie", "a=b"),
            ("Cache-Control", "no-store"),
        ];
        let mut left = answer(200, &fields, false);
        left.sort();
        assert_eq!(left, ["cache-control: no-store", "content-length: 3", "set-cookie: a=b"]);
    }

    #[test]
    fn a_switch_of_protocols_stays_one() {
        let fields = [("Connection", "upgrade, x-a"), ("Upgrade", "websocket"), ("X-A", "1")];
        let mut left = answer(101, &fields, false);
        left.sort();
        assert_eq!(left, ["connection: Upgrade", "upgrade: websocket"]);
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
