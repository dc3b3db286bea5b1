//! Tests of the forwarded fields that backends receive, and of the trust in proxies.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;

fn forwarding(family: Forwarded) -> ForwardedHeaders {
    ForwardedHeaders::new(family, &["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()])
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

fn applied(family: Forwarded, peer: &str, fields: &[(&'static str, &str)]) -> Vec<String> {
    let forwarding = forwarding(family);
    let mut request = request(fields);
    let client = forwarding.client_address(ip(peer), &request);
    let host = HeaderValue::from_static("a.example:81");
    let hop = Hop { peer: ip(peer), peer_text: &text_of(ip(peer)), client, scheme: "http", host: Some(&host) };
    forwarding.apply(&mut request, &hop);
    let mut written: Vec<_> = request.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
    written.sort();
    written
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
    assert_eq!(applied(Forwarded::XForwarded, "192.0.2.7", &SPOOFS), x);
    assert_eq!(applied(Forwarded::XForwarded, "::ffff:192.0.2.7", &SPOOFS), x);
    let forwarded = "forwarded: for=192.0.2.7;host=\"a.example:81\";proto=http";
    assert_eq!(applied(Forwarded::Rfc7239, "192.0.2.7", &SPOOFS), [forwarded, "x-other: stays"]);
    assert_eq!(applied(Forwarded::Both, "192.0.2.7", &SPOOFS).len(), 6);
}

#[test]
fn a_trusted_peer_is_appended_to() {
    assert_eq!(
        applied(Forwarded::XForwarded, "10.0.0.1", &SPOOFS),
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
        applied(Forwarded::Rfc7239, "fd00::1", &SPOOFS),
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
        // This family is not configured, so it is not trusted.
        assert_eq!(forwarding(Forwarded::XForwarded).client_address(ip("10.0.0.1"), &headers), ip("10.0.0.1"));
    }
}

#[test]
fn empty_entries_are_skipped() {
    for (list, want) in [
        ("1.1.1.1, , 10.0.0.2", "1.1.1.1"),
        ("1.1.1.1,10.0.0.2,", "1.1.1.1"),
        (" ,, 1.1.1.1 ,,", "1.1.1.1"),
        (",", "10.0.0.1"),
    ] {
        let headers = request(&[("x-forwarded-for", list)]);
        assert_eq!(forwarding(Forwarded::XForwarded).client_address(ip("10.0.0.1"), &headers), ip(want), "{list}");
    }
    let list = format!("1.1.1.1{}10.0.0.2", ", ".repeat(100));
    let headers = request(&[("x-forwarded-for", &list)]);
    assert_eq!(forwarding(Forwarded::XForwarded).client_address(ip("10.0.0.1"), &headers), ip("1.1.1.1"));
    let written =
        applied(Forwarded::XForwarded, "10.0.0.1", &[("x-forwarded-for", ""), ("x-forwarded-for", ", 1.1.1.1,")]);
    assert!(written.contains(&"x-forwarded-for: 1.1.1.1, 10.0.0.1".to_owned()), "{written:?}");
    let headers =
        request(&[("forwarded", "for=1.1.1.1;;proto=https, , for=10.0.0.2,"), ("x-forwarded-proto", ",https")]);
    let rfc7239 = forwarding(Forwarded::Rfc7239);
    assert_eq!(rfc7239.client_address(ip("10.0.0.1"), &headers), ip("1.1.1.1"));
    assert!(forwarding(Forwarded::XForwarded).says_https(ip("10.0.0.1"), &headers));
    let blank = request(&[("x-forwarded-for", " , "), ("forwarded", "for=1.1.1.1")]);
    assert_eq!(forwarding(Forwarded::Both).client_address(ip("10.0.0.1"), &blank), ip("1.1.1.1"));
}

#[test]
fn an_open_quote_cannot_hide_the_entry_of_a_proxy() {
    for list in ["for=\", for=9.9.9.9", "for=\"\\, for=\"9.9.9.9\";proto=http"] {
        let headers = request(&[("forwarded", list)]);
        assert_eq!(forwarding(Forwarded::Rfc7239).client_address(ip("10.0.0.1"), &headers), ip("9.9.9.9"), "{list}");
    }
}

#[test]
fn every_cgi_alias_of_our_fields_is_removed() {
    let names = [
        "X-Client-Cert-Verify",
        "X-Client-Cert-Anything",
        "X-Forwarded-For",
        "X-Forwarded-Port",
        "X-Real-IP",
        "X-Request-Id",
    ];
    for (name, peer) in names.into_iter().flat_map(|name| [(name, "192.0.2.7"), (name, "10.0.0.1")]) {
        let hyphens: Vec<usize> = name.match_indices('-').map(|(at, _)| at).collect();
        for punctuation in "!#$%&'*+.^_`|~".chars() {
            // Each non-empty set of hyphens is replaced by the other character.
            for set in 1..1 << hyphens.len() {
                let replaced =
                    |at: usize| hyphens.iter().position(|hyphen| *hyphen == at).is_some_and(|n| set >> n & 1 == 1);
                let spelling: String =
                    name.char_indices().map(|(at, c)| if replaced(at) { punctuation } else { c }).collect();
                let mut headers = HeaderMap::new();
                headers
                    .insert(HeaderName::from_bytes(spelling.as_bytes()).unwrap(), HeaderValue::from_static("SUCCESS"));
                headers.insert("x-other.name", HeaderValue::from_static("stays"));
                let hop =
                    Hop { peer: ip(peer), peer_text: &text_of(ip(peer)), client: ip(peer), scheme: "http", host: None };
                forwarding(Forwarded::XForwarded).apply(&mut headers, &hop);
                assert!(!headers.values().any(|value| value == "SUCCESS"), "{spelling} from {peer}");
                assert!(headers.contains_key("x-other.name"));
            }
        }
    }
}

#[test]
fn both_families_from_a_trusted_proxy_get_the_same_content() {
    for (fields, want) in [
        (
            &[("X-Forwarded-For", "1.1.1.1"), ("X-Forwarded-Proto", "https"), ("Forwarded", "for=6.6.6.6;proto=http")]
                [..],
            &[
                "forwarded: for=1.1.1.1;host=\"a.example:81\";proto=https, for=10.0.0.1;host=\"a.example:81\";proto=http",
                "x-forwarded-for: 1.1.1.1, 10.0.0.1",
                "x-forwarded-host: a.example:81",
                "x-forwarded-proto: https",
                "x-real-ip: 1.1.1.1",
            ][..],
        ),
        (
            &[
                ("Forwarded", "for=\"[2001:db8::1]:80\";proto=https;host=b.example, for=_x"),
                ("X-Forwarded-Proto", "http"),
            ],
            &[
                "forwarded: for=\"[2001:db8::1]:80\";proto=https;host=b.example, for=_x, for=10.0.0.1;host=\"a.example:81\";proto=http",
                "x-forwarded-for: 2001:db8::1, unknown, 10.0.0.1",
                "x-forwarded-host: b.example",
                "x-forwarded-proto: https",
                "x-real-ip: 10.0.0.1",
            ],
        ),
        (
            &[("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "b.example")],
            &[
                "forwarded: for=10.0.0.1;host=b.example;proto=https",
                "x-forwarded-for: 10.0.0.1",
                "x-forwarded-host: b.example",
                "x-forwarded-proto: https",
                "x-real-ip: 10.0.0.1",
            ],
        ),
        (
            // They agree, so existing elements stay, with the parameters that only one family has.
            &[
                ("X-Forwarded-For", "1.1.1.1"),
                ("X-Forwarded-Proto", "https"),
                ("Forwarded", "for=1.1.1.1;by=_a;proto=https"),
            ],
            &[
                "forwarded: for=1.1.1.1;by=_a;proto=https, for=10.0.0.1;host=\"a.example:81\";proto=http",
                "x-forwarded-for: 1.1.1.1, 10.0.0.1",
                "x-forwarded-host: a.example:81",
                "x-forwarded-proto: https",
                "x-real-ip: 1.1.1.1",
            ],
        ),
    ] {
        assert_eq!(applied(Forwarded::Both, "10.0.0.1", fields), want, "{fields:?}");
    }
}

proptest::proptest! {
    #[test]
    fn both_families_never_contradict_each_other(
        lines in proptest::collection::vec(
            (proptest::sample::select(vec!["x-forwarded-for", "forwarded", "x-forwarded-proto", "x-forwarded-host"]),
             "(|1\\.1\\.1\\.1|10\\.0\\.0\\.2|unknown|2001:db8::1|, |,|for=1\\.1\\.1\\.1|for=\"\\[fd00::2\\]\"|;proto=|;host=|https|http|b\\.example|\"|\\\\|;){0,8}"),
            0..5,
        ),
        trusted in proptest::bool::ANY,
    ) {
        let both = forwarding(Forwarded::Both);
        let peer = ip(if trusted { "10.0.0.1" } else { "192.0.2.7" });
        let mut headers = HeaderMap::new();
        for (name, value) in &lines {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        let client = both.client_address(peer, &headers);
        let host = HeaderValue::from_static("a.example:81");
        both.apply(&mut headers, &Hop { peer, peer_text: &text_of(peer), client, scheme: "http", host: Some(&host) });
        let x: Vec<_> = entries(&headers, &X_FORWARDED_FOR).map(address).collect();
        let rfc7239: Vec<_> = elements(&headers).map(|element| parameter(element, b"for").and_then(address)).collect();
        proptest::prop_assert_eq!(&x, &rfc7239, "{:?}", headers);
        proptest::prop_assert_eq!(x.last(), Some(&Some(peer)));
        proptest::prop_assert_eq!(headers["x-real-ip"].clone(), text_of(client));
        let first = elements(&headers).next().unwrap();
        for (name, in_element) in [(&X_FORWARDED_PROTO, parameter(first, b"proto")), (&X_FORWARDED_HOST, parameter(first, b"host"))] {
            let field = entries(&headers, name).next();
            let in_element = in_element.filter(|written| !written.is_empty());
            proptest::prop_assert!(in_element.is_none_or(|written| field.is_some_and(|field| written.eq_ignore_ascii_case(field))), "{}: {:?}", name, headers);
        }
        for family in [Forwarded::XForwarded, Forwarded::Rfc7239] {
            let seen = forwarding(family).client_address(peer, &headers);
            let from_within = if trusted { client } else { peer };
            proptest::prop_assert_eq!(seen, from_within, "{:?}: {:?}", family, headers);
        }
    }
}

#[test]
fn the_number_of_entries_is_limited() {
    let list = format!("1.1.1.1{}", ", 10.0.0.2".repeat(40));
    let headers = request(&[("x-forwarded-for", &list)]);
    assert_eq!(forwarding(Forwarded::XForwarded).client_address(ip("10.0.0.1"), &headers), ip("10.0.0.2"));
}

#[test]
fn only_a_trusted_proxy_can_report_https() {
    let says = |family, peer: &str, fields: &[(&str, &str)]| {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        ForwardedHeaders::new(family, &["10.0.0.0/8".parse().unwrap()]).says_https(peer.parse().unwrap(), &headers)
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
