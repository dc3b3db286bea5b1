//! Tests of single heads, valid and invalid.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;

pub(super) const LIMITS: HeadLimits = HeadLimits { target: 64, fields: 8 };

pub(super) fn status(head: &[u8]) -> u16 {
    check_head(head, &LIMITS).map_or_else(|bad| bad.status, |_| 200)
}

/// `H` stands for a Host line, and `|` in the second column for CRLF.
const HEADS: &[(u16, &str)] = &[
    (200, "GET / HTTP/1.1|H||"),
    (200, "|GET / HTTP/1.1|H||"),
    (400, "||GET / HTTP/1.1|H||"),
    (400, "\nGET / HTTP/1.1|H||"),
    (400, " |GET / HTTP/1.1|H||"),
    (400, "GET / HTTP/1.1\nHost: a\n\n"),
    (400, "GET / HTTP/1.1|Host: a\nX: b||"),
    (400, "GET / HTTP/1.1|H\n|"),
    (400, "GET / HTTP/1.1|Host: a\rX: b||"),
    (400, "GET / HTTP/1.1\r|H||"),
    (400, "GET / HTTP/1.1|H|X: a\r||"),
    (400, "GET / HTTP/1.1|H|X: a| b||"),
    (400, "GET / HTTP/1.1|H|X: a|\tb||"),
    (400, "GET / HTTP/1.1| X: a|H||"),
    (400, "GET / HTTP/1.1|H|X : a||"),
    (400, "GET / HTTP/1.1|H|X\t: a||"),
    (400, "GET / HTTP/1.1|H|: a||"),
    (400, "GET / HTTP/1.1|H|X||"),
    (400, "GET / HTTP/1.1|H|X(y): a||"),
    (400, "GET / HTTP/1.1|H|X: a\0b||"),
    (400, "GET / HTTP/1.1|H|X: a\x01b||"),
    (400, "GET / HTTP/1.1|H|X\0: a||"),
    (200, "GET / HTTP/1.1|H|X:||"),
    (200, "GET / HTTP/1.1|H|X: \t é \t||"),
    (400, "G(T / HTTP/1.1|H||"),
    (400, "GET  / HTTP/1.1|H||"),
    (400, "GET /  HTTP/1.1|H||"),
    (400, "GET / HTTP/1.1 |H||"),
    (400, "GET\t/ HTTP/1.1|H||"),
    (400, "GET /|H||"),
    (400, "GET|H||"),
    (400, "GET /a b HTTP/1.1|H||"),
    (400, "GET /a\tb HTTP/1.1|H||"),
    (400, "GET /a\x7f HTTP/1.1|H||"),
    (400, "GET /a\0 HTTP/1.1|H||"),
    (200, "GET /é HTTP/1.1|H||"),
    (200, "GET /<b> HTTP/1.1|H||"),
    (200, "GET /?\"a\" HTTP/1.1|H||"),
    (400, "GET /a#b HTTP/1.1|H||"),
    (400, "GET /?a#é HTTP/1.1|H||"),
    (400, "GET /é b HTTP/1.1|H||"),
    (400, "GET /é\0 HTTP/1.1|H||"),
    (400, "GET /é|H||"),
    (200, "GET /a\\b HTTP/1.1|H||"),
    (200, "GET /`a HTTP/1.1|H||"),
    (200, "GET /{a} HTTP/1.1|H||"),
    (200, "|GET /é HTTP/1.1|H||"),
    (400, "GET é HTTP/1.1|H||"),
    (400, "GET *é HTTP/1.1|H||"),
    (400, "OPTIONS *< HTTP/1.1|H||"),
    (400, "CONNECT a<:443 HTTP/1.1|H||"),
    (400, "Gé / HTTP/1.1|H||"),
    (400, "GET /%4 HTTP/1.1|H||"),
    (400, "GET /%zz HTTP/1.1|H||"),
    (200, "GET /%41^?%zz{}`\\^ HTTP/1.1|H||"),
    (505, "GET / HTTP/2.0|H||"),
    (505, "PRI * HTTP/2.0|||"),
    (505, "GET / HTTP/1.2|H||"),
    (505, "GET / HTTP/0.9|H||"),
    (400, "GET / HTTP/11|H||"),
    (400, "GET / http/1.1|H||"),
    (400, "GET / HTTPS/1.1|H||"),
    (400, "GET / HTTP/1.1||"),
    (200, "GET / HTTP/1.0||"),
    (400, "GET / HTTP/1.1|H|H||"),
    (400, "GET / HTTP/1.0|H|Host: b||"),
    (400, "GET / HTTP/1.1|Host:||"),
    (400, "GET / HTTP/1.1|Host: a b||"),
    (400, "GET / HTTP/1.1|Host: a@b||"),
    (400, "GET / HTTP/1.1|Host: a/b||"),
    (400, "GET / HTTP/1.1|Host: a:b||"),
    (400, "GET / HTTP/1.1|Host: é||"),
    (200, "GET / HTTP/1.1|Host: [::1]:80||"),
    (200, "GET http://a/b?c HTTP/1.1|Host: a||"),
    (200, "GET HTTPS://a:1 HTTP/1.1|Host: a:1||"),
    (200, "GET http://a/ HTTP/1.0||"),
    (400, "GET http://a/ HTTP/1.1|Host: b||"),
    (400, "GET http://a/ HTTP/1.1||"),
    (400, "GET http://u@a/ HTTP/1.1|Host: a||"),
    (400, "GET http:/a HTTP/1.1|Host: a||"),
    (400, "GET http:///b HTTP/1.1|Host: a||"),
    (400, "GET http://a\\b/ HTTP/1.1|Host: a||"),
    (400, "GET http://a<b/ HTTP/1.1|Host: a%3Cb||"),
    (400, "GET http://é/ HTTP/1.1|Host: a||"),
    (200, "GET http://a/é HTTP/1.1|Host: a||"),
    (200, "GET http://a?é HTTP/1.1|Host: a||"),
    (400, "GET ftp://a/ HTTP/1.1|Host: a||"),
    (400, "GET ://a/ HTTP/1.1|Host: a||"),
    (400, "GET a HTTP/1.1|H||"),
    (400, "GET ?a HTTP/1.1|H||"),
    (400, "GET * HTTP/1.1|H||"),
    (200, "OPTIONS * HTTP/1.1|H||"),
    (200, "CONNECT a:443 HTTP/1.1|H||"),
    (200, "CONNECT a:443 HTTP/1.1|Host: a:443||"),
    (400, "CONNECT a HTTP/1.1|H||"),
    (400, "CONNECT / HTTP/1.1|H||"),
    (400, "CONNECT b:443 HTTP/1.1|H||"),
    (400, "GET a:443 HTTP/1.1|H||"),
    (200, "POST / HTTP/1.1|H|Content-Length: 0||"),
    (200, "POST / HTTP/1.1|H|content-length:5 ||"),
    (200, "POST / HTTP/1.1|H|Content-Length: 18446744073709551615||"),
    (400, "POST / HTTP/1.1|H|Content-Length: 18446744073709551616||"),
    (400, "POST / HTTP/1.1|H|Content-Length: +5||"),
    (400, "POST / HTTP/1.1|H|Content-Length: -5||"),
    (400, "POST / HTTP/1.1|H|Content-Length: 0x5||"),
    (400, "POST / HTTP/1.1|H|Content-Length: 5 5||"),
    (400, "POST / HTTP/1.1|H|Content-Length:||"),
    (400, "POST / HTTP/1.1|H|Content-Length: 5, 5||"),
    (400, "POST / HTTP/1.1|H|Content-Length: 5|Content-Length: 5||"),
    (400, "POST / HTTP/1.1|H|Content-Length: 5|Content-Length: 6||"),
    (400, "POST / HTTP/1.1|H|Content-Length: 5|Transfer-Encoding: chunked||"),
    (400, "POST / HTTP/1.1|H|Transfer-Encoding: chunked|Content-Length: 5||"),
    (200, "POST / HTTP/1.1|H|Transfer-Encoding: Chunked||"),
    (400, "POST / HTTP/1.0|H|Transfer-Encoding: chunked||"),
    (501, "POST / HTTP/1.1|H|Transfer-Encoding: gzip, chunked||"),
    (400, "POST / HTTP/1.1|H|Transfer-Encoding: chunked, gzip||"),
    (400, "POST / HTTP/1.1|H|Transfer-Encoding: chunked, chunked||"),
    (400, "POST / HTTP/1.1|H|Transfer-Encoding: chunked|Transfer-Encoding: chunked||"),
    (400, "POST / HTTP/1.1|H|Transfer-Encoding: gzip|Transfer-Encoding: chunked||"),
    (400, "POST / HTTP/1.1|H|Transfer-Encoding: identity||"),
    (400, "POST / HTTP/1.1|H|Transfer-Encoding: xchunked||"),
    (400, "POST / HTTP/1.1|H|Transfer-Encoding: \"chunked\"||"),
    (400, "POST / HTTP/1.1|H|Transfer-Encoding: chunked;a=b||"),
    (400, "POST / HTTP/1.1|H|Transfer-Encoding: \x0bchunked||"),
    (400, "POST / HTTP/1.1|H|Transfer-Encoding:||"),
    (400, "POST / HTTP/1.1|H|Transfer-Encoding : chunked||"),
    (200, "GET / HTTP/1.1|H|A:|B:|C:|D:|E:|F:|G:||"),
    (431, "GET / HTTP/1.1|H|A:|B:|C:|D:|E:|F:|G:|I:||"),
    (200, "GET /123456789012345678901234567890123456789012345678901234567890123 HTTP/1.1|H||"),
    (414, "GET /1234567890123456789012345678901234567890123456789012345678901234 HTTP/1.1|H||"),
    (200, "GET /<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<< HTTP/1.1|H||"),
    (414, "GET /<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<< HTTP/1.1|H||"),
    (400, "GET / HTTP/1.1|H|"),
    (400, ""),
];

fn expand(head: &str) -> Vec<u8> {
    let host = |line: &str| if line == "H" { "Host: a".to_owned() } else { line.to_owned() };
    head.split('|').map(host).collect::<Vec<_>>().join("\r\n").replace("H\n", "Host: a\n").into_bytes()
}

#[test]
fn each_head_has_the_expected_status() {
    for (want, head) in HEADS {
        assert_eq!(status(&expand(head)), *want, "{head:?}");
    }
    assert!(HEADS.len() >= 60);
}

#[test]
fn the_facts_of_a_head_are_correct() {
    let facts = |head: &str| check_head(&expand(head), &LIMITS).unwrap();
    let plain = facts("GET / HTTP/1.1|H||the next request");
    assert_eq!(
        (plain.head_len, plain.version, plain.body, plain.keep_alive),
        (27, Version::HTTP_11, BodyFraming::None, true)
    );
    assert_eq!(facts("|GET / HTTP/1.1|H||").head_len, 29);
    assert!(!facts("GET / HTTP/1.1|H|Connection: x, Close||").keep_alive);
    assert!(!facts("GET / HTTP/1.0||").keep_alive);
    assert!(facts("GET / HTTP/1.0|Connection: Keep-Alive||").keep_alive);
    assert_eq!(facts("POST / HTTP/1.1|H|Content-Length: 5||").body, BodyFraming::Length(5));
    assert_eq!(facts("POST / HTTP/1.1|H|Content-Length: 0||").body, BodyFraming::None);
    assert_eq!(facts("POST / HTTP/1.1|H|Transfer-Encoding: chunked||").body, BodyFraming::Chunked);
    assert!(facts("POST / HTTP/1.1|H|Expect: 100-Continue||").expect_continue);
    assert!(!facts("POST / HTTP/1.0|H|Expect: 100-continue||").expect_continue);
    assert!(facts("GET / HTTP/1.1|H|Connection: keep-alive, Upgrade|Upgrade: websocket||").connection_upgrade);
    assert!(!facts("GET / HTTP/1.1|H|Upgrade: websocket||").connection_upgrade);
    assert!(facts("CONNECT a:1 HTTP/1.1|H||").method_is_connect);
}

#[test]
fn the_end_is_found_for_any_segmentation() {
    let head = b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nrest\n";
    let end = head.len() - 5;
    for step in 1..head.len() {
        let (mut seen, mut found) = (0, None);
        while found.is_none() && seen < end {
            let len = (seen + step).min(end);
            found = head_end(&head[..len], seen).unwrap();
            seen = len;
        }
        assert_eq!(found, Some(end), "{step}");
    }
    assert_eq!(head_end(b"GET / HTTP/1.1\n", 0).unwrap_err().reason, "bare LF");
    assert_eq!(head_end(b"GET / HTTP/1.1\r", 0), Ok(None));
}

#[test]
fn a_head_that_is_too_large_has_status_414_or_431() {
    let long = [b"GET /".as_slice(), &[b'a'; 100]].concat();
    assert_eq!(BadHead::too_large(&long, &LIMITS).status, 414);
    assert_eq!(BadHead::too_large(b"GET / HTTP/1.1\r\nX: aaaa", &LIMITS).status, 431);
    assert_eq!(BadHead::too_large(b"", &LIMITS).status, 431);
}

#[test]
fn unusual_bytes_of_a_target_are_percent_encoded_and_the_rest_of_the_head_stays() {
    for (head, want) in [
        ("GET /é?é HTTP/1.1|Host: a|X: é<||", Some("GET /%C3%A9?%C3%A9 HTTP/1.1|Host: a|X: é<||")),
        ("|GET /a\\..\\b HTTP/1.1|Host: a||", Some("|GET /a%5C..%5Cb HTTP/1.1|Host: a||")),
        ("GET http://a/\"<>{}` HTTP/1.1|Host: a||", Some("GET http://a/%22%3C%3E%7B%7D%60 HTTP/1.1|Host: a||")),
        ("GET /a^%zz HTTP/1.1|Host: a||", None),
        ("GET /?a^%zz HTTP/1.1|Host: a|X: é||", None),
    ] {
        let (head, want) = (head.replace('|', "\r\n"), want.map(|want| want.replace('|', "\r\n")));
        let read = read_whole_head(head.as_bytes(), &LIMITS).ok();
        let encoded = read.as_ref().and_then(|(_, encoded)| encoded.clone());
        assert_eq!(encoded.as_deref(), want.as_ref().map(|want| want.as_bytes()), "{head}");
        if let (Some((facts, _)), Some(want)) = (read, want) {
            assert_eq!(facts.head_len, want.len());
        }
    }
    let latin = b"GET /\xe9\xff?\x80 HTTP/1.1\r\nHost: a\r\n\r\n";
    let (_, encoded) = read_whole_head(latin, &LIMITS).unwrap();
    assert_eq!(&encoded.unwrap()[..], b"GET /%E9%FF?%80 HTTP/1.1\r\nHost: a\r\n\r\n");
}
