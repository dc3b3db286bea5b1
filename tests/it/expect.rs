//! `Expect: 100-continue` (RFC 9110 section 10.1.1): a client that waits for 100 before it sends its body is never left
//! waiting, whatever the backend speaks and whether it knows of 100 or not.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use crate::support::frames::{DATA, END_HEADERS, END_STREAM, Frames, GET, HEADERS, SETTINGS, block, frame};
use crate::support::{Client, Config, KINDS, Kind, Origin, TlsClient, Weir, spare, tls_config};

const LENGTH: &str = "Content-Length: 5\r\n";
const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

fn ask<S: Read + Write>(client: &mut Client<S>, path: &str, framing: &str) {
    client.send(format!("POST {path} HTTP/1.1\r\nHost: example.org\r\nExpect: 100-continue\r\n{framing}\r\n"));
}

/// Waits for 100 before each body, twice on one connection.
fn waits_for_100<S: Read + Write>(client: &mut Client<S>, kind: Kind) {
    for (framing, body) in [(LENGTH, "hello"), (CHUNKED, "5\r\nhello\r\n0\r\n\r\n")] {
        ask(client, "/echo", framing);
        let interim = client.any_response("POST").unwrap();
        assert_eq!(interim.status, 100, "{kind:?} {framing}");
        client.send(body);
        let response = client.any_response("POST").unwrap();
        assert_eq!(
            (response.status, response.text()),
            (200, "hello".to_owned()),
            "{kind:?} {framing}: one 100, one 200"
        );
        assert_eq!(response.header("connection"), Some("keep-alive"));
    }
}

#[test]
fn a_client_of_http1_that_waits_for_100_gets_it_once_and_keeps_its_connection() {
    for kind in KINDS {
        let weir = kind.weir("");
        waits_for_100(&mut Client::connect(weir.web()), kind);
        let config = Arc::new(tls_config(None));
        waits_for_100(&mut TlsClient::secure(weir.address("secure"), "example.org", &config), kind);
    }
}

#[test]
fn a_client_that_does_not_wait_for_100_may_send_its_body_at_once() {
    let weir = Kind::Http1.weir("");
    let mut client = Client::connect(weir.web());
    for _ in 0..3 {
        client.send("POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello");
        assert_eq!(client.response("POST").text(), "hello");
    }
}

#[test]
fn no_100_is_sent_where_the_body_is_not_wanted() {
    let origin = Origin::named("a");
    let config = Config::to(&origin)
        .set("routes.all.limits.body", "4B")
        .route("fixed", "match: { path: /fixed }, respond: { status: 200, body: ok }")
        .route("dead", "match: { path: /dead }, upstream: dead")
        .upstream("dead", &[("dead", spare())]);
    let weir = Weir::start(config);
    for (path, status) in [("/", 413), ("/fixed", 200), ("/dead", 502)] {
        let mut client = Client::connect(weir.web());
        ask(&mut client, path, LENGTH);
        assert_eq!(client.any_response("POST").unwrap().status, status, "{path}");
    }
    // Of HTTP/1.0 the field means nothing (RFC 9110 section 10.1.1), nor of a request without a body.
    let mut old = Client::connect(weir.web());
    old.send("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx");
    assert_eq!(old.any_response("POST").unwrap().status, 200);
    let mut bare = Client::connect(weir.web());
    bare.send("GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(bare.any_response("GET").unwrap().status, 200);
}

#[test]
fn no_100_is_sent_while_a_request_waits_for_a_backend() {
    let weir = Kind::Http1.weir("max_in_flight: 1, queue: { size: 3, timeout: 20s },");
    let mut held = Client::connect(weir.web());
    held.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    weir.wait_for(&["weir_backend_in_flight"], 1.0);
    let mut waits = Client::connect(weir.web());
    ask(&mut waits, "/echo", LENGTH);
    weir.wait_for(&["weir_upstream_queue_depth"], 1.0);
    assert!(!waits.is_closed_within(Duration::from_millis(300)), "and nothing came");
    drop(held);
    assert_eq!(waits.any_response("POST").unwrap().status, 100);
    waits.send("hello");
    assert_eq!(waits.any_response("POST").unwrap().text(), "hello");
}

#[test]
fn a_backend_that_refuses_early_is_heard_by_a_client_that_got_100() {
    for kind in KINDS {
        let weir = kind.weir("");
        let mut client = Client::connect(weir.web());
        ask(&mut client, "/early", LENGTH);
        let first = client.any_response("POST").unwrap();
        let last = if first.status == 100 { client.any_response("POST").unwrap() } else { first };
        assert_eq!((last.status, last.text()), (403, "no".to_owned()), "{kind:?}");
    }
}

fn post(path: &str) -> Vec<u8> {
    block(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "example.org"),
        (":path", path),
        ("expect", "100-continue"),
        ("content-length", "5"),
    ])
}

/// The statuses of the header blocks on this stream, up to the end of the stream; the body is sent at the 100.
fn statuses(client: &mut Frames, stream: u32) -> Vec<String> {
    let mut seen = Vec::new();
    while let Some(got) = client.next() {
        if got.kind == HEADERS {
            let status = status(&got.payload);
            if got.stream == stream {
                seen.push(status.clone());
                if status == "100" {
                    assert_eq!(got.flags, END_HEADERS);
                    assert!(client.send(&frame(DATA, END_STREAM, stream, b"hello")));
                }
            }
        }
        if got.stream == stream && got.flags & END_STREAM != 0 && matches!(got.kind, DATA | HEADERS) {
            return seen;
        }
    }
    panic!("the connection ended after {seen:?}");
}

/// A connection whose server may not use the dynamic table of HPACK, so each status is written out.
fn connect(weir: &Weir) -> Frames {
    let mut client = Frames::connect(weir.web());
    let table_size = [0, 1, 0, 0, 0, 0];
    assert!(client.send(&frame(SETTINGS, 0, 0, &table_size)));
    client
}

/// The status of a block, which is its first field: as an index of the static table, or in Huffman's code.
fn status(block: &[u8]) -> String {
    // A change of the dynamic table's size may come first.
    let block = if block[0] & 0xe0 == 0x20 { &block[1..] } else { block };
    match block {
        [0x88, ..] => "200".to_owned(),
        [0x48 | 0x08, 0x82, 0x08, 0x01, ..] => "100".to_owned(),
        _ => format!("{:02x?}", &block[..5.min(block.len())]),
    }
}

#[test]
fn a_client_of_http2_that_waits_for_100_gets_it_once() {
    for kind in KINDS {
        let weir = kind.weir("");
        let mut client = connect(&weir);
        for stream in [1, 3, 5] {
            assert!(client.send(&frame(HEADERS, END_HEADERS, stream, &post("/echo"))));
            assert_eq!(statuses(&mut client, stream), ["100", "200"], "{kind:?} {stream}");
        }
    }
}

#[test]
fn each_of_many_streams_at_once_gets_its_own_100() {
    let weir = Kind::H2c.weir("");
    let mut client = connect(&weir);
    // One in three is malformed and is reset, one in three does not wait.
    let malformed = [GET, &block(&[("connection", "close")])].concat();
    let mut all = Vec::new();
    for n in 0..30_u32 {
        let stream = 2 * n + 1;
        all.extend(match n % 3 {
            0 => frame(HEADERS, END_HEADERS, stream, &post("/echo")),
            1 => frame(HEADERS, END_HEADERS | END_STREAM, stream, &malformed),
            _ => frame(HEADERS, END_HEADERS | END_STREAM, stream, GET),
        });
    }
    assert!(client.send(&all));
    let mut continued = Vec::new();
    while continued.len() < 10 {
        let got = client.next().expect("the connection goes on");
        if got.kind == HEADERS && status(&got.payload) == "100" {
            continued.push(got.stream);
        }
    }
    continued.sort_unstable();
    let waiting: Vec<u32> = (0..30).filter(|n| n % 3 == 0).map(|n| 2 * n + 1).collect();
    assert_eq!(continued, waiting);
    for stream in waiting {
        assert!(client.send(&frame(DATA, END_STREAM, stream, b"hello")));
    }
    let mut ended = 0;
    while ended < 10 {
        let got = client.next().expect("the connection goes on");
        if got.kind == DATA && got.payload == b"hello" {
            ended += 1;
        }
    }
}
