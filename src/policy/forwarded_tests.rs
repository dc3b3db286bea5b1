//! What backends hear of clients, and whom Weir believes.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;

fn forwarding(family: Forwarded) -> Forwarding {
    Forwarding::new(family, &["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()])
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn request(fields: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
    }
    headers
}

fn told(family: Forwarded, peer: &str, fields: &[(&'static str, &str)]) -> Vec<String> {
    let forwarding = forwarding(family);
    let mut request = request(fields);
    let client = forwarding.client_address(ip(peer), &request);
    let host = HeaderValue::from_static("a.example:81");
    let hop = Hop { peer: ip(peer), peer_text: &text_of(ip(peer)), client, scheme: "http", host: Some(&host) };
    forwarding.apply(&mut request, &hop);
    let mut told: Vec<_> = request.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
    told.sort();
    told
}

const SPOOFS: [(&str, &str); 11] = [
    ("X-Forwarded-For", "1.1.1.1"),
    ("X-Forwarded-For", "2.2.2.2"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "evil"),
    ("X-Forwarded-Port", "1"),
    ("X-Forwarded-Server", "evil"),
    ("X_Forwarded_For", "1.1.1.1"),
    ("X-Forwarded_For", "1.1.1.1"),
    ("X-Real-IP", "1.1.1.1"),
    ("Forwarded", "for=1.1.1.1"),
    ("X-Other", "stays"),
];

#[test]
fn an_untrusted_peer_is_replaced() {
    let x = [
        "x-forwarded-for: 192.0.2.7",
        "x-forwarded-host: a.example:81",
        "x-forwarded-proto: http",
        "x-other: stays",
        "x-real-ip: 192.0.2.7",
    ];
    assert_eq!(told(Forwarded::XForwarded, "192.0.2.7", &SPOOFS), x);
    assert_eq!(told(Forwarded::XForwarded, "::ffff:192.0.2.7", &SPOOFS), x);
    let forwarded = "forwarded: for=192.0.2.7;host=\"a.example:81\";proto=http";
    assert_eq!(told(Forwarded::Rfc7239, "192.0.2.7", &SPOOFS), [forwarded, "x-other: stays"]);
    assert_eq!(told(Forwarded::Both, "192.0.2.7", &SPOOFS).len(), 6);
}

#[test]
fn a_trusted_peer_is_appended_to() {
    assert_eq!(
        told(Forwarded::XForwarded, "10.0.0.1", &SPOOFS),
        [
            "x-forwarded-for: 1.1.1.1, 2.2.2.2, 10.0.0.1",
            "x-forwarded-host: evil",
            "x-forwarded-port: 1",
            "x-forwarded-proto: https",
            "x-forwarded-server: evil",
            "x-other: stays",
            "x-real-ip: 2.2.2.2",
        ]
    );
    assert_eq!(
        told(Forwarded::Rfc7239, "fd00::1", &SPOOFS),
        [
            "forwarded: for=1.1.1.1, for=\"[fd00::1]\";host=\"a.example:81\";proto=http",
            "x-forwarded-port: 1",
            "x-forwarded-server: evil",
            "x-other: stays",
        ]
    );
}

#[test]
fn the_client_is_the_rightmost_untrusted() {
    for (list, want) in [
        ("1.1.1.1, 2.2.2.2", "2.2.2.2"),
        ("1.1.1.1, 10.0.0.2,10.0.0.3", "1.1.1.1"),
        ("10.0.0.4", "10.0.0.4"),
        ("", "10.0.0.1"),
        ("1.1.1.1, unknown", "10.0.0.1"),
        ("1.1.1.1, unknown, 10.0.0.2", "10.0.0.2"),
        ("1.1.1.1:4711", "1.1.1.1"),
        ("[2001:db8::1]:80, fd00::2", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("::ffff:10.0.0.9", "10.0.0.9"),
    ] {
        let headers = request(&[("x-forwarded-for", list)]);
        assert_eq!(forwarding(Forwarded::XForwarded).client_address(ip("10.0.0.1"), &headers), ip(want), "{list}");
        assert_eq!(forwarding(Forwarded::XForwarded).client_address(ip("9.9.9.9"), &headers), ip("9.9.9.9"));
    }
}

#[test]
fn forwarded_is_read_with_its_quotes() {
    for (list, want) in [
        ("for=1.1.1.1;proto=https, For=\"[2001:db8::1]:80\"", "2001:db8::1"),
        ("for=1.1.1.1, for=10.0.0.2;by=\"a,b;for=3.3.3.3\"", "1.1.1.1"),
        ("for=1.1.1.1, for=_hidden", "10.0.0.1"),
        ("for=1.1.1.1, proto=http", "10.0.0.1"),
        ("for=1.1.1.1, host=\"\\\",for=2.2.2.2\"", "10.0.0.1"),
    ] {
        let headers = request(&[("forwarded", list)]);
        assert_eq!(forwarding(Forwarded::Rfc7239).client_address(ip("10.0.0.1"), &headers), ip(want), "{list}");
        assert_eq!(forwarding(Forwarded::Both).client_address(ip("10.0.0.1"), &headers), ip(want), "{list}");
        // Not the chosen family: not believed.
        assert_eq!(forwarding(Forwarded::XForwarded).client_address(ip("10.0.0.1"), &headers), ip("10.0.0.1"));
    }
}

#[test]
fn the_walk_is_bounded() {
    let list = format!("1.1.1.1{}", ", 10.0.0.2".repeat(40));
    let headers = request(&[("x-forwarded-for", &list)]);
    assert_eq!(forwarding(Forwarded::XForwarded).client_address(ip("10.0.0.1"), &headers), ip("10.0.0.2"));
}

#[test]
fn only_a_trusted_proxy_says_that_its_client_came_over_tls() {
    let says = |family, peer: &str, fields: &[(&str, &str)]| {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        Forwarding::new(family, &["10.0.0.0/8".parse().unwrap()]).says_https(peer.parse().unwrap(), &headers)
    };
    let x = [("x-forwarded-proto", "HTTPS, http")];
    let rfc7239 = [("forwarded", "for=192.0.2.1; Proto=\"https\", for=10.0.0.2;proto=http")];
    for (family, by_x, by_rfc7239) in
        [(Forwarded::XForwarded, true, false), (Forwarded::Rfc7239, false, true), (Forwarded::Both, true, true)]
    {
        assert_eq!((says(family, "10.0.0.1", &x), says(family, "10.0.0.1", &rfc7239)), (by_x, by_rfc7239));
        assert!(!says(family, "192.0.2.1", &x) && !says(family, "192.0.2.1", &rfc7239));
        assert!(!says(family, "10.0.0.1", &[("x-forwarded-proto", "http, https"), ("forwarded", "proto=http")]));
    }
}
