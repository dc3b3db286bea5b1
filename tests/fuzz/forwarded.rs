//! Forwarded and X-Forwarded-For: a second Weir behind the first one finds the same client.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};
use weir::config::schema::Forwarded;
use weir::message::forwarded::{ForwardedHeaders, Hop, text_of};

const TOKENS: &[&str] = &[
    "X-Forwarded-For: ",
    "Forwarded: ",
    "X-Forwarded-Proto: https",
    "X-Real-IP: 1.2.3.4",
    "X-Forwarded-Host: a.test",
    "X.Forwarded.For: ",
    "for=",
    "for=\"",
    "\"",
    "proto=https",
    "\n",
    ";",
    ",",
    ", ",
    "10.0.0.1",
    "192.0.2.7",
    "[fd00::1]",
    "[2001:db8::1]:80",
    "192.0.2.7:1",
    "unknown",
    "_hidden",
    "\\",
    "=",
    "by=x",
    "host=a",
    "::ffff:10.0.0.2",
];
/// Longer lists are cut at another place by the second Weir.
const MAX_ENTRIES: usize = 24;

fn headers(bytes: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = (&line[..colon], line.get(colon + 1..).unwrap_or_default().trim_ascii());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    headers
}

fn check(bytes: &[u8]) {
    if bytes.iter().filter(|byte| **byte == b',' || **byte == b'\n').count() > MAX_ENTRIES {
        return;
    }
    let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
    let with_weir = [trusted[0], trusted[1], "198.51.100.1/32".parse().unwrap()];
    let weir: IpAddr = "198.51.100.1".parse().unwrap();
    for family in [Forwarded::XForwarded, Forwarded::Rfc7239, Forwarded::Both] {
        for peer in ["10.0.0.9", "203.0.113.5", "2001:db8::9"] {
            let peer: IpAddr = peer.parse().unwrap();
            let (first, second) = (ForwardedHeaders::new(family, &trusted), ForwardedHeaders::new(family, &with_weir));
            let mut headers = headers(bytes);
            let client = first.client_address(peer, &headers);
            assert!(first.trusts(peer) || client == peer, "a peer that is not trusted chose {client}");
            assert!(first.trusts(peer) || !first.says_https(peer, &headers));
            let hop = Hop { peer, peer_text: &text_of(peer), client, scheme: "http", host: None };
            first.apply(&mut headers, &hop);
            assert_eq!(second.client_address(weir, &headers), client, "{family:?} {peer} {headers:?}");
            let real = headers.get("x-real-ip").map(|value| value.as_bytes().to_vec());
            assert!(family == Forwarded::Rfc7239 || real == Some(client.to_string().into_bytes()), "{headers:?}");
        }
    }
}

crate::fuzz_target!(forwarded, TOKENS, check);
