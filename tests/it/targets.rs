//! Request targets with bytes that no URI contains, and `OPTIONS *`.

use std::io::Read;

use crate::support::frames::{
    DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, RST_STREAM, block, frame, reason,
};
use crate::support::targets::for_each_backend;
use crate::support::{BACKENDS, CLIENTS, Client, ClientKind, Targets};

/// All that is percent-encoded in a path and a query, as text.
const UNUSUAL: &str = "é\u{80}\u{10ffff}\"<>{}\\`";
const ENCODED: &str = "%C3%A9%C2%80%F4%8F%BF%BF%22%3C%3E%7B%7D%5C%60";

fn all() -> Vec<(String, String)> {
    for_each_backend(&[("NAME", "match: { hosts: [NAME.test, example.org], path_prefix: /NAME }, upstream: NAME")])
}

/// The final status line's number and the body of raw bytes sent by HTTP/1.
fn raw(targets: &Targets, target: &[u8]) -> (u16, String) {
    let mut client = Client::connect(targets.weir.web());
    client.send([b"GET ", target, b" HTTP/1.1\r\nHost: http1.test\r\n\r\n"].concat());
    let response = client.response("GET");
    (response.status, response.text())
}

#[test]
fn unusual_bytes_reach_every_backend_percent_encoded_in_upper_case() {
    let targets = Targets::start("", &all());
    for kind in [ClientKind::Http1, ClientKind::Uncommon, ClientKind::Tls] {
        for backend in BACKENDS {
            let (target, sent) =
                (format!("/{backend}/{UNUSUAL}?{UNUSUAL}|^%zz"), format!("/{backend}/{ENCODED}?{ENCODED}|^%zz"));
            assert_eq!(targets.ask(kind, "example.org", &target), Ok(sent), "{kind:?} to {backend}");
        }
    }
    // These bytes pass the HTTP/2 library.
    for kind in [ClientKind::H2c, ClientKind::H2] {
        for backend in BACKENDS {
            let sent = targets.ask(kind, "example.org", &format!("/{backend}/é\"{{}}\\?é`{{}}\\|^"));
            let wanted = format!("/{backend}/%C3%A9%22%7B%7D%5C?%C3%A9%60%7B%7D%5C|^");
            assert_eq!(sent, Ok(wanted), "{kind:?} to {backend}");
        }
    }
}

#[test]
fn bytes_that_are_no_utf8_are_percent_encoded_each() {
    let targets = Targets::start("", &all());
    assert_eq!(raw(&targets, b"/http1/\xff\xe9?\x80\xfe"), (200, "/http1/%FF%E9?%80%FE".into()));
    assert_eq!(raw(&targets, b"http://http1.test/http1/\xe9"), (200, "/http1/%E9".into()));
    let every: Vec<u8> = (0x80..=0xff).collect();
    let encoded: String = every.iter().map(|byte| format!("%{byte:02X}")).collect();
    assert_eq!(raw(&targets, &[b"/http1/", &every[..]].concat()), (200, format!("/http1/{encoded}")));
}

#[test]
fn routes_see_the_percent_encoded_path_and_a_backslash_is_no_slash() {
    let targets = Targets::start(
        "",
        &[
            ("letters", "match: { path_prefix: /%C3%A9 }, respond: { status: 201 }"),
            ("backslash", "match: { path_prefix: /a%5Cb }, respond: { status: 202 }"),
            ("admin", "match: { path_prefix: /admin }, respond: { status: 403 }"),
            ("all", "upstream: http1, rewrite: { add_prefix: /t }"),
        ],
    );
    for kind in [ClientKind::Http1, ClientKind::H2c] {
        assert_eq!(targets.ask(kind, "a", "/é/x"), Err(201));
        assert_eq!(targets.ask(kind, "a", "/a\\b/c"), Err(202));
        assert_eq!(targets.ask(kind, "a", "/x\\..\\admin"), Ok("/t/x%5C..%5Cadmin".into()));
    }
    assert_eq!(targets.ask(ClientKind::Http1, "a", "\\admin"), Err(400), "a target begins with a slash");
}

#[test]
fn fragments_spaces_and_control_characters_are_still_refused() {
    let targets = Targets::start("", &all());
    for target in [
        &b"/http1/a#b"[..],
        b"/http1/?a#b",
        b"/http1/\xe9#b",
        b"/http1/a b",
        b"/http1/\xe9 b",
        b"/http1/a\tb",
        b"/http1/\xe9\x01",
        b"/http1/\x7f",
        b"/http1/\x00\xe9",
        b"/http1/%zz\xe9",
        b"/http1/%",
        b"http://\xe9/http1/",
        b"http://http1.test<>/http1/",
        b"\xe9",
        b"*\xe9",
        b"\\\\http1.test\\http1",
    ] {
        assert_eq!(raw(&targets, target).0, 400, "{:?}", String::from_utf8_lossy(target));
    }
    assert_eq!(raw(&targets, b"/http1/a|b^?a|b^").0, 200);
}

#[test]
fn a_target_counts_as_long_as_the_client_sent_it_and_the_next_request_is_found() {
    let targets = Targets::start("", &all());
    let most = 8 * 1024 - "/http1/".len();
    let mut client = Client::connect(targets.weir.web());
    let one =
        |length: usize| [b"GET /http1/", &vec![0xe9; length][..], b" HTTP/1.1\r\nHost: http1.test\r\n\r\n"].concat();
    client.send(
        [
            one(most),
            one(1),
            b"POST /http1/\xe9 HTTP/1.1\r\nHost: http1.test\r\nContent-Length: 3\r\n\r\nabc".to_vec(),
            one(2),
        ]
        .concat(),
    );
    assert_eq!(client.response("GET").text(), format!("/http1/{}", "%E9".repeat(most)));
    for text in ["/http1/%E9", "/http1/%E9", "/http1/%E9%E9"] {
        assert_eq!(client.response("GET").text(), text);
    }
    client.send(one(most + 1));
    assert_eq!(client.response("GET").status, 414);
}

/// A GET by HTTP/2 with this path, whatever is in it.
fn by_frames(targets: &Targets, path: &[u8]) -> Frames {
    let mut block = block(&[(":method", "GET"), (":scheme", "http"), (":authority", "http1.test")]);
    block.extend([0, 5]);
    block.extend(b":path");
    block.push(u8::try_from(path.len()).unwrap());
    block.extend(path);
    let mut frames = Frames::connect(targets.weir.web());
    assert!(frames.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)));
    frames
}

/// As docs/configuration.md lists it.
#[test]
fn the_http2_library_resets_streams_ends_connections_and_drops_fragments_as_documented() {
    let targets = Targets::start("", &all());
    for path in [
        &b"/http1/<"[..],
        b"/http1/>",
        b"/http1/`",
        b"/http1/?\"",
        b"/http1/?<",
        b"/http1/?>",
        b"/http1/ ",
        b"/http1/\x01",
        b"/http1/\x7f",
        b"http1",
        b"",
    ] {
        let end = by_frames(&targets, path).next_of(RST_STREAM).expect("a reset");
        assert_eq!(reason(&end), 1, "PROTOCOL_ERROR: {:?}", String::from_utf8_lossy(path));
    }
    let end = by_frames(&targets, b"/http1/\xff").next_of(GOAWAY).expect("the end of the connection");
    assert_eq!(reason(&end), 1);
    let answer = by_frames(&targets, b"/http1/a#b").next_of(DATA).expect("an answer");
    assert_eq!(answer.payload, b"/http1/a", "to routes and to the backend alike");
    let answer = by_frames(&targets, "/http1/é\"{}\\|^?é`{}\\|^".as_bytes()).next_of(DATA).expect("an answer");
    assert_eq!(String::from_utf8(answer.payload).unwrap(), "/http1/%C3%A9%22%7B%7D%5C|^?%C3%A9%60%7B%7D%5C|^");
}

#[test]
fn options_of_the_server_reaches_every_backend_by_a_route_for_any_path() {
    let mut routes = for_each_backend(&[("NAME", "match: { headers: { x-to: NAME } }, upstream: NAME")]);
    routes.push(("exact".into(), "match: { hosts: [exact.test], path: \"*\" }, upstream: http1".into()));
    let targets = Targets::start("", &routes);
    assert_eq!(targets.ask_by(ClientKind::Http1, "OPTIONS", "exact.test", "*"), Ok("*".into()));
    for backend in BACKENDS {
        for target in ["*", "http://a.test"] {
            let mut client = Client::connect(targets.weir.web());
            client.send(format!("OPTIONS {target} HTTP/1.1\r\nHost: a.test\r\nX-To: {backend}\r\n\r\n"));
            let response = client.response("OPTIONS");
            assert_eq!((response.status, response.text().as_str()), (200, "*"), "{target} to {backend}");
        }
        let fields =
            [(":method", "OPTIONS"), (":scheme", "http"), (":authority", "a.test"), (":path", "*"), ("x-to", backend)];
        let mut frames = Frames::connect(targets.weir.web());
        assert!(frames.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&fields))));
        assert_eq!(frames.next_of(DATA).expect("an answer").payload, b"*", "HTTP/2 to {backend}");
    }
}

#[test]
fn options_of_the_server_that_no_route_takes_is_answered_by_weir() {
    let targets = Targets::start(
        "",
        &[
            ("below", "match: { path_prefix: / }, upstream: http1"),
            ("moved", "match: { hosts: [moved.test] }, redirect: { to: \"https://b.test{path}\" }"),
            ("rewritten", "match: { hosts: [rewritten.test] }, upstream: http1, rewrite: { add_prefix: /v2 }"),
        ],
    );
    for kind in CLIENTS {
        assert_eq!(targets.ask_by(kind, "OPTIONS", "example.org", "*"), Ok(String::new()), "{kind:?}");
        assert_eq!(targets.ask_by(kind, "OPTIONS", "example.org", "/x"), Ok("/x".into()), "{kind:?}");
    }
    for host in ["a.test", "moved.test"] {
        let mut client = Client::connect(targets.weir.web());
        for target in ["*".to_owned(), format!("http://{host}")] {
            client.send(format!("OPTIONS {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            let response = client.response("OPTIONS");
            assert_eq!((response.status, response.header("content-length")), (200, Some("0")), "{target}");
            assert!(response.header("allow").is_some_and(|allow| allow.contains("OPTIONS")), "{response:?}");
            assert!(response.header("x-request-id").is_some() && response.header("location").is_none(), "{response:?}");
        }
        client.send(format!("GET * HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(client.response("GET").status, 400, "the target of no other method");
        let mut rest = Vec::new();
        client.stream.read_to_end(&mut rest).unwrap();
    }
    assert_eq!(
        targets.ask_by(ClientKind::Http1, "OPTIONS", "rewritten.test", "*"),
        Ok("*".into()),
        "there is no path to rewrite"
    );
    targets.weir.wait_for(&["weir_faults_total", "no_route"], 0.0);
}
