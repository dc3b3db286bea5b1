//! HTTP/1 by the byte: framing, pipelining, keep-alive, interim responses, deadlines.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::support::{Client, Config, Origin, Reply, Weir, delay, eventually, exchange};

/// A weir before one origin.
fn before(origin: &Origin) -> Weir {
    Weir::start(Config::to(origin))
}

/// The same with settings of the listener.
fn with_listener(origin: &Origin, settings: &str) -> Weir {
    Weir::start(Config::to(origin).set("listeners.web", settings))
}

#[test]
fn a_request_is_answered_and_both_connections_are_reused() {
    let origin = Origin::start(|request| Reply::new(200, format!("{} {}", request.method, request.target)));
    let weir = before(&origin);
    let mut client = Client::connect(weir.web());
    for path in ["/a", "/b?x=1&y=%20", "/c"] {
        let response = client.get(path);
        assert_eq!((response.status, response.text()), (200, format!("GET {path}")));
        assert_eq!(response.header("connection"), Some("keep-alive"));
    }
    assert_eq!(origin.connections(), 1, "the backend's connection is kept too");
}

#[test]
fn malformed_requests_are_refused_and_never_reach_a_backend() {
    let origin = Origin::named("a");
    let weir = before(&origin);
    for (bytes, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\nHost: a\n\n", 400),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n", 400),
        ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        ("\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}", 400),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 405),
    ] {
        let answer = exchange(weir.web(), bytes);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{bytes:?}: {answer}");
        assert!(!answer.to_lowercase().contains("pingora"), "{answer}");
        assert_eq!(answer.to_lowercase().contains("\r\nallow: get"), status == 405, "{answer}");
    }
    assert_eq!(origin.requests().len(), 0);
    weir.wait_for(&["weir_faults_total", "bad_request"], 13.0);
}

#[test]
fn pipelined_requests_are_answered_in_order_each_by_its_own_response() {
    let origin = Origin::start(|request| Reply::new(200, [request.target.as_bytes(), &request.body[..]].concat()));
    let weir = before(&origin);
    let mut client = Client::connect(weir.web());
    client.send(concat!(
        "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "GET /4 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ));
    let answers: Vec<_> = (0..4).map(|_| client.response("GET").text()).collect();
    assert_eq!(answers, ["/1", "/2hello", "/3abc", "/4"]);
    assert!(client.is_closed_within(Duration::from_secs(5)));
}

#[test]
fn a_pipelined_request_that_comes_while_the_first_is_served_waits_for_its_turn() {
    let origin = Origin::start(|request| Reply::new(200, &request.target).after(Duration::from_millis(100)));
    let weir = before(&origin);
    let mut client = Client::connect(weir.web());
    client.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the first is under way", || origin.requests().len() == 1);
    client.send("GET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response("GET").text(), "/1");
    assert_eq!(client.response("GET").text(), "/2");
}

#[test]
fn bodies_stream_both_ways_whole_whatever_their_framing() {
    let origin = Origin::start(|request| Reply::new(200, &request.body));
    let weir = before(&origin);
    let body: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    let mut client = Client::connect(weir.web());
    assert!(client.post("/", &body).body == body);
    let mut sender = client.stream.try_clone().unwrap();
    let chunks = body.clone();
    let send = std::thread::spawn(move || {
        sender.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        for chunk in chunks.chunks(77_777) {
            sender.write_all(format!("{:x};ext=1\r\n", chunk.len()).as_bytes()).unwrap();
            sender.write_all(chunk).unwrap();
            sender.write_all(b"\r\n").unwrap();
        }
        sender.write_all(b"0\r\nTrailer: x\r\n\r\n").unwrap();
    });
    assert!(client.response("POST").body == body);
    send.join().unwrap();
    assert_eq!(client.get("/").status, 200, "the connection goes on behind a chunked body");
}

#[test]
fn a_response_trickles_through_as_it_comes() {
    let origin = Origin::raw(|mut stream| {
        let mut bin = [0; 1024];
        let _ = stream.read(&mut bin);
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        let _ = stream.write_all(b"6\r\nfirst\n\r\n");
        // The rest does not come while the client is there.
        let _ = stream.read(&mut bin);
    });
    let weir = before(&origin);
    let mut client = Client::connect(weir.web());
    let start = Instant::now();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.until(b"6\r\nfirst\n\r\n").unwrap();
    assert!(start.elapsed() < Duration::from_secs(4), "buffered for {:?}", start.elapsed());
}

#[test]
fn the_received_part_of_a_response_is_sent_on_while_the_rest_is_missing() {
    // The rest of a GET's comes once the client has the beginning.
    let (seen, wait) = std::sync::mpsc::channel();
    let wait = std::sync::Mutex::new(wait);
    let origin = Origin::raw(move |mut stream| {
        let mut bin = [0; 1024];
        while let Ok(1..) = stream.read(&mut bin) {
            if bin[0] == b'G' {
                for piece in ["HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n", "abc", "def"] {
                    let _ = stream.write_all(piece.as_bytes());
                    wait.lock().unwrap().recv_timeout(Duration::from_secs(20)).unwrap();
                }
                continue;
            }
            // That of a POST's when it is asked for by a byte of the request's body.
            let piece = match bin[0] {
                b'P' => "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
                _ => "abc",
            };
            let _ = stream.write_all(piece.as_bytes());
        }
    });
    let weir = before(&origin);
    let mut client = Client::connect(weir.web());
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        for end in ["\r\n\r\n", "abc", "def"] {
            client.until(end.as_bytes()).unwrap();
            seen.send(()).unwrap();
        }
    }
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n");
    client.until(b"\r\n\r\n").unwrap();
    for _ in 0..3 {
        client.send("x");
        assert_eq!(client.exactly(3).unwrap(), b"abc");
    }
}

#[test]
fn head_204_and_304_have_no_body_and_the_connection_goes_on() {
    let origin = Origin::start(|request| match request.target.as_str() {
        "/204" => Reply::raw("HTTP/1.1 204 No Content\r\n\r\n"),
        "/304" => Reply::raw("HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n"),
        _ if request.method == "HEAD" => Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n"),
        _ => Reply::new(200, "body"),
    });
    let weir = before(&origin);
    let mut client = Client::connect(weir.web());
    client.send("HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response("HEAD").header("content-length"), Some("12345"));
    assert_eq!(client.get("/204").status, 204);
    assert_eq!(client.get("/304").status, 304);
    assert_eq!(client.get("/").text(), "body");
}

#[test]
fn expect_continue_is_answered_before_the_body_is_sent() {
    let origin = Origin::start(|request| Reply::new(200, &request.body));
    let weir = before(&origin);
    let mut client = Client::connect(weir.web());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(client.any_response("POST").unwrap().status, 100);
    client.send("hello");
    assert_eq!(client.response("POST").text(), "hello");
    assert_eq!(origin.last_request().header("expect"), None);
}

#[test]
fn early_hints_reach_clients_of_1_1_and_no_others() {
    let origin = Origin::start(|_| {
        Reply::raw(
            "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n\
             HTTP/1.1 103 Early Hints\r\nLink: </b.css>; rel=preload\r\n\r\n\
             HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        )
    });
    let weir = before(&origin);
    let mut client = Client::connect(weir.web());
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        for hint in ["</a.css>; rel=preload", "</b.css>; rel=preload"] {
            let early = client.any_response("GET").unwrap();
            assert_eq!((early.status, early.header("link")), (103, Some(hint)));
        }
        assert_eq!(client.any_response("GET").unwrap().text(), "ok");
    }
    let old = exchange(weir.web(), "GET / HTTP/1.0\r\n\r\n");
    assert!(old.starts_with("HTTP/1.1 200 ") && !old.contains("103"), "{old}");
}

#[test]
fn a_1_0_client_gets_no_chunks_and_its_connection_ends() {
    let origin =
        Origin::start(|_| Reply::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"));
    let weir = before(&origin);
    let answer = exchange(weir.web(), "GET / HTTP/1.0\r\n\r\n");
    assert!(answer.ends_with("\r\n\r\nabc"), "{answer}");
    assert!(!answer.to_lowercase().contains("transfer-encoding"), "{answer}");
}

#[test]
fn a_1_0_backend_is_answered_for_in_1_1() {
    let origin = Origin::start(|_| Reply::raw("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok").and_close());
    let weir = before(&origin);
    let answer = exchange(weir.web(), "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.to_lowercase().contains("via: 1.0 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
}

#[test]
fn a_1_0_client_that_asks_for_it_keeps_its_connection() {
    let origin = Origin::named("a");
    let weir = before(&origin);
    let mut client = Client::connect(weir.web());
    for _ in 0..2 {
        client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!(client.response("GET").header("connection"), Some("keep-alive"));
    }
}

#[test]
fn a_1_0_client_is_told_that_the_close_ends_a_body_without_a_length() {
    let origin = Origin::start(|request| match request.target.as_str() {
        "/chunked" => Reply::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        _ => Reply::raw("HTTP/1.1 200 OK\r\n\r\nok").and_close(),
    });
    let weir = before(&origin);
    for path in ["/chunked", "/closed"] {
        let mut client = Client::connect(weir.web());
        client.send(format!("HEAD {path} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
        assert_eq!(client.response("HEAD").header("connection"), Some("keep-alive"), "{path}");
        client.send(format!("GET {path} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
        let response = client.response("GET");
        assert_eq!((response.header("connection"), response.text().as_str()), (Some("close"), "ok"), "{path}");
    }
}

#[test]
fn a_response_without_a_body_has_no_framing() {
    let origin = Origin::start(|request| {
        let (status, field) = request.target[1..].split_once('/').unwrap();
        let field = match field {
            "length" => "Content-Length: 0",
            "some" => "Content-Length: 4",
            _ => "Transfer-Encoding: chunked",
        };
        Reply::raw(format!("HTTP/1.1 {status} X\r\nX-Kept: 1\r\n{field}\r\n\r\n"))
    });
    let weir = before(&origin);
    let mut client = Client::connect(weir.web());
    for (path, length) in [
        ("/204/length", None),
        ("/204/some", None),
        ("/204/chunked", None),
        ("/304/chunked", None),
        ("/304/some", Some("4")),
    ] {
        let response = client.get(path);
        assert_eq!(response.header("x-kept"), Some("1"), "{path}");
        assert_eq!((response.header("content-length"), response.header("transfer-encoding")), (length, None), "{path}");
    }
}

#[test]
fn interim_responses_are_not_framed() {
    let origin = Origin::start(|_| {
        let hints = "HTTP/1.1 103 X\r\nLink: </a>\r\nContent-Length: 0\r\n\r\n";
        Reply::raw(format!("{hints}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
    });
    let weir = before(&origin);
    let mut client = Client::connect(weir.web());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let hints = client.any_response("GET").unwrap();
    assert_eq!((hints.status, hints.header("link"), hints.header("content-length")), (103, Some("</a>"), None));
    assert_eq!(client.response("GET").text(), "ok");
}

#[test]
fn absolute_form_becomes_origin_form_with_the_targets_host() {
    let origin = Origin::named("a");
    let weir = before(&origin);
    let mut client = Client::connect(weir.web());
    client.send("GET http://api.example.com/x?y=1 HTTP/1.1\r\nHost: api.example.com\r\n\r\n");
    assert_eq!(client.response("GET").status, 200);
    let request = origin.last_request();
    assert_eq!((request.target.as_str(), request.header("host")), ("/x?y=1", Some("api.example.com")));
}

#[test]
fn large_headers_and_targets_are_refused_with_their_own_status() {
    let origin = Origin::named("a");
    let limits = "limits: { header_bytes: 4KiB, headers: 10, uri_bytes: 1KiB }";
    let weir = with_listener(&origin, limits);
    let long = "x".repeat(2_000);
    let many: String = (0..20).map(|i| format!("X-{i}: 1\r\n")).collect();
    let status = |bytes: String| exchange(weir.web(), bytes).split(' ').nth(1).unwrap().to_owned();
    assert_eq!(status(format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n")), "414");
    assert_eq!(status(format!("GET / HTTP/1.1\r\nHost: a\r\nA: {long}\r\nB: {long}\r\nC: {long}\r\n\r\n")), "431");
    assert_eq!(status(format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n")), "431");
    assert_eq!(origin.requests().len(), 0);
}

#[test]
fn a_header_that_trickles_is_cut_at_its_deadline() {
    let origin = Origin::named("a");
    let weir = with_listener(&origin, "timeouts: { header: 1s, idle: 1s }");
    let start = Instant::now();
    let mut client = Client::connect(weir.web());
    let mut sender = client.stream.try_clone().unwrap();
    std::thread::spawn(move || {
        for byte in b"GET / HTTP/1.1\r\nHost: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" {
            if sender.write_all(&[*byte]).is_err() {
                return;
            }
            delay(Duration::from_millis(100));
        }
    });
    let answer = String::from_utf8(client.read_to_end()).unwrap();
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[test]
fn an_idle_connection_is_closed_after_its_time() {
    let origin = Origin::named("a");
    let weir = with_listener(&origin, "timeouts: { header: 10s, idle: 300ms }");
    let mut client = Client::connect(weir.web());
    client.get("/");
    assert!(client.is_closed_within(Duration::from_secs(5)));
}

#[test]
fn an_idle_connection_holds_no_buffer() {
    let origin = Origin::named("a");
    let weir = Weir::start(Config::to(&origin).set("server.threads", 1));
    let served = |count| -> Vec<Client> {
        let mut clients: Vec<_> = (0..count).map(|_| Client::connect(weir.web())).collect();
        clients.iter_mut().for_each(|client| assert_eq!(client.get("/").status, 200));
        clients
    };
    // KiB of memory of its own.
    let held = || -> usize {
        let said = weir.kernel_says("status");
        let line = said.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
    };
    // What it makes once, it has made after some.
    let _first = served(50);
    let (before, count) = (held(), 400);
    let _idle = served(count);
    let each = (held() - before) * 1024 / count;
    assert!(each < 7 * 1024, "{each} bytes for each");
}

#[test]
fn a_body_that_stops_is_answered_408() {
    let origin = Origin::named("a");
    let weir = with_listener(&origin, "timeouts: { body: 300ms }");
    let answer = exchange(weir.web(), "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf");
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    weir.wait_for(&["weir_backend_in_flight"], 0.0);
}

#[test]
fn connections_beyond_the_limit_are_refused_and_counted() {
    let origin = Origin::named("a");
    let weir = with_listener(&origin, "limits: { connections: 2 }");
    let mut first = Client::connect(weir.web());
    let mut second = Client::connect(weir.web());
    assert_eq!((first.get("/").status, second.get("/").status), (200, 200));
    let mut third = Client::connect(weir.web());
    let refused = String::from_utf8_lossy(&third.read_to_end()).into_owned();
    assert!(refused.is_empty() || refused.starts_with("HTTP/1.1 503"), "{refused}");
    weir.wait_for(&["weir_listener_connections_total", "refused_limit"], 1.0);
    drop(first);
    weir.wait_for(&["weir_listener_connections{"], 1.0);
    assert_eq!(Client::connect(weir.web()).get("/").status, 200);
}

#[test]
fn an_early_answer_reaches_a_client_that_is_still_sending() {
    let origin = Origin::named("a");
    let weir = Weir::start(Config::to(&origin).set("routes.all.limits.body", "1KiB"));
    let mut client = Client::connect(weir.web());
    let mut sender = client.stream.try_clone().unwrap();
    std::thread::spawn(move || {
        let _ = sender.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n");
        let _ = sender.write_all(&vec![0; 500_000]);
    });
    assert_eq!(client.response("POST").status, 413);
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n800\r\n".to_owned();
    let answer = exchange(weir.web(), chunked + &"x".repeat(2048) + "\r\n0\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    weir.wait_for(&["weir_faults_total", "body_too_large"], 2.0);
}

#[test]
fn a_websocket_passes_both_ways_and_outlives_the_read_timeout() {
    let origin = Origin::raw(|mut stream| {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read(&mut byte).unwrap_or(0) == 0 {
                return;
            }
            head.push(byte[0]);
        }
        let _ =
            stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
        while stream.read(&mut byte).is_ok_and(|read| read == 1) {
            if stream.write_all(&[byte[0] + 1]).is_err() {
                return;
            }
        }
    });
    let weir = Weir::start(Config::to(&origin).set("routes.all.timeouts", "read: 300ms, request: 500ms"));
    let mut client = Client::connect(weir.web());
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n");
    let response = client.response("GET");
    assert_eq!((response.status, response.header("upgrade")), (101, Some("websocket")));
    for turn in 0..3_u8 {
        client.send([turn]);
        assert_eq!(client.exactly(1).unwrap(), [turn + 1]);
        // Silent for longer than `timeouts.read`.
        delay(Duration::from_millis(400));
    }
    weir.wait_for(&["weir_backend_in_flight"], 1.0);
    drop(client);
    weir.wait_for(&["weir_backend_in_flight"], 0.0);
}
