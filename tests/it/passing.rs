//! What passes as it comes, whoever speaks what: events, interim responses, trailers, requests in the smallest pieces.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use crate::support::frames::{CONTINUATION, END_HEADERS, END_STREAM, Frames, GET, HEADERS, RST_STREAM, block, frame};
use crate::support::http2::run;
use crate::support::tls::{Accepted, listen, open, read_head};
use crate::support::{Client, EDGE, Origin, PLAIN, Reply, TlsClient, WAYS, Way, Weir, delay, tls_config};

/// Weir before an origin that speaks plain HTTP/1.
fn before(way: Way, origin: &Origin) -> Weir {
    Weir::start_in(way.files().0, way.config(origin))
}

/// A client of HTTP/1, plain or under TLS, does this.
fn as_client(way: Way, weir: &Weir, test: impl Fn(&mut dyn Http1)) {
    if way.client {
        test(&mut TlsClient::secure(weir.web(), "example.org", &Arc::new(tls_config(None))));
    } else {
        test(&mut Client::connect(weir.web()));
    }
}

trait Http1 {
    fn say(&mut self, bytes: &[u8]);
    /// The next response, interim ones too: its status and its body.
    fn hear(&mut self) -> (u16, String);
}

impl<S: Read + Write> Http1 for Client<S> {
    fn say(&mut self, bytes: &[u8]) {
        self.send(bytes);
    }

    fn hear(&mut self) -> (u16, String) {
        let response = self.any_response("GET").expect("a response");
        (response.status, response.text())
    }
}

/// Sends an event, and the next one when it hears that the first has arrived.
async fn events(mut stream: Accepted, arrived: Arc<Notify>) {
    while read_head(&mut stream).await.is_some() {
        let begin = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(begin).await.unwrap();
        for event in ["9\r\ndata: 1\n\n\r\n", "9\r\ndata: 2\n\n\r\n", "9\r\ndata: 3\n\n\r\n"] {
            stream.write_all(event.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            arrived.notified().await;
        }
        stream.write_all(b"0\r\n\r\n").await.unwrap();
        stream.flush().await.unwrap();
    }
}

async fn events_over_http1(way: Way, weir: &Weir, arrived: &Notify) {
    let mut stream = open(weir.web(), way.client.then_some("http/1.1")).await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n").await.unwrap();
    let mut text = String::new();
    for event in ["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"] {
        while !text.contains(event) {
            text.push(char::from(stream.read_u8().await.unwrap()));
        }
        arrived.notify_one();
    }
    while !text.ends_with("\r\n0\r\n\r\n") {
        text.push(char::from(stream.read_u8().await.unwrap()));
    }
}

async fn events_over_http2(way: Way, weir: &Weir, arrived: &Notify) {
    let stream = open(weir.web(), way.client.then_some("h2")).await;
    let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("https://example.org/").body(()).unwrap();
    let mut body = sender.send_request(request, true).unwrap().0.await.unwrap().into_body();
    for event in ["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"] {
        let mut text = Vec::new();
        while text.len() < event.len() {
            text.extend_from_slice(&body.data().await.unwrap().unwrap());
        }
        assert_eq!(text, event.as_bytes());
        arrived.notify_one();
    }
    while let Some(last) = body.data().await {
        assert_eq!(last.unwrap(), Bytes::new());
    }
}

#[test]
fn each_event_arrives_before_the_next_is_sent() {
    for way in WAYS {
        let (folder, certificate) = way.files();
        let arrived = Arc::new(Notify::new());
        let mine = Arc::clone(&arrived);
        let backend = listen(certificate.as_ref(), "http/1.1", move |stream| events(stream, Arc::clone(&mine)));
        let weir = Weir::start_in(folder, way.config(backend));
        run(async {
            let both = async {
                events_over_http1(way, &weir, &arrived).await;
                events_over_http2(way, &weir, &arrived).await;
            };
            tokio::time::timeout(crate::support::DEADLINE, both).await.unwrap();
        });
        weir.wait_for(&["weir_backend_in_flight"], 0.0);
        assert_eq!(weir.sum(&["weir_faults_total"]), 0.0);
    }
}

#[test]
fn early_hints_pass_to_clients_that_know_them() {
    let origin = Origin::start(|_| {
        Reply::raw(
            "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        )
    });
    for way in [PLAIN, EDGE] {
        let weir = before(way, &origin);
        as_client(way, &weir, |client| {
            for _ in 0..2 {
                client.say(b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n");
                assert_eq!((client.hear().0, client.hear()), (103, (200, "ok".into())));
            }
        });
        as_client(way, &weir, |client| {
            client.say(b"GET / HTTP/1.0\r\nHost: example.org\r\nConnection: keep-alive\r\n\r\n");
            assert_eq!(client.hear(), (200, "ok".into()));
            client.say(b"GET / HTTP/1.0\r\nHost: example.org\r\n\r\n");
            assert_eq!(client.hear(), (200, "ok".into()));
        });
    }
}

#[test]
fn trailers_of_either_side_leave_both_connections_clean() {
    let origin = Origin::start(|request| match request.target.as_str() {
        "/trailers" => Reply::raw(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n",
        ),
        _ => Reply::new(200, &request.body),
    });
    for way in [PLAIN, EDGE] {
        let weir = before(way, &origin);
        as_client(way, &weir, |client| {
            for _ in 0..3 {
                client.say(
                    b"POST /echo HTTP/1.1\r\nHost: example.org\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n",
                );
                client.say(b"3\r\nabc\r\n0\r\nX-Sum: 7\r\nX-More: 8\r\n\r\n");
                assert_eq!(client.hear(), (200, "abc".into()));
                client.say(b"GET /trailers HTTP/1.1\r\nHost: example.org\r\n\r\n");
                assert_eq!(client.hear(), (200, "ok".into()));
            }
        });
    }
    assert!(origin.requests().iter().all(|request| request.header("x-sum").is_none()));
}

#[test]
fn requests_in_the_smallest_pieces_and_in_one_are_the_same() {
    let origin = Origin::start(|request| Reply::new(200, &request.body));
    let requests = b"POST /1 HTTP/1.1\r\nHost: example.org\r\nContent-Length: 3\r\n\r\nabc\
        POST /2 HTTP/1.1\r\nHost: example.org\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ndef\r\n0\r\n\r\n\
        GET /3 HTTP/1.1\r\nHost: example.org\r\n\r\n";
    for way in [PLAIN, EDGE] {
        let weir = before(way, &origin);
        for piece in [1, 7, requests.len()] {
            as_client(way, &weir, |client| {
                // Under TLS each piece is a record.
                requests.chunks(piece).for_each(|piece| client.say(piece));
                for body in ["abc", "def", ""] {
                    assert_eq!(client.hear(), (200, body.into()), "{piece}");
                }
            });
        }
    }
}

#[test]
fn a_body_that_the_close_ends_is_complete_only_with_a_tls_close_notify() {
    let way = Way { client: false, backend: true };
    let (folder, certificate) = way.files();
    let backend = listen(certificate.as_ref(), "http/1.1", |mut stream| async move {
        let head = read_head(&mut stream).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it").await.unwrap();
        stream.flush().await.unwrap();
        if head.starts_with("GET /whole") {
            stream.shutdown().await.unwrap();
        }
    });
    let weir = Weir::start_in(folder, way.config(backend));
    assert_eq!(Client::connect(weir.web()).get("/whole").text(), "all of it");
    let mut client = Client::connect(weir.web());
    client.send("GET /cut HTTP/1.1\r\nHost: example.org\r\n\r\n");
    assert!(client.try_response("GET").is_none(), "it must not look whole");
    weir.wait_for(&["weir_faults_total", "reset"], 1.0);
}

#[test]
fn a_handshake_that_trickles_is_cut_at_its_deadline() {
    let origin = Origin::named("a");
    let config = EDGE.config(&origin).set("listeners.web.timeouts.handshake", "500ms");
    let weir = Weir::start_in(EDGE.files().0, config);
    let mut client = Client::connect(weir.web());
    let begin = std::time::Instant::now();
    // A handshake's record of 512 bytes, a byte at a time.
    let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 501]].concat();
    for byte in hello {
        if client.stream.write_all(&[byte]).is_err() {
            break;
        }
        delay(Duration::from_millis(20));
    }
    assert!(begin.elapsed() < Duration::from_secs(9), "it was let trickle to its end");
    weir.wait_for(&["weir_listener_connections_total", "timeout"], 1.0);
}

#[test]
fn a_header_list_that_is_too_large_is_refused_alone() {
    let origin = Origin::named("a");
    let weir = before(PLAIN, &origin);
    let mut client = Frames::connect(weir.web());
    let large = block(&[("x-large", &"y".repeat(15_000))]);
    assert!(client.send(&frame(HEADERS, END_STREAM, 1, GET)));
    for last in [false, false, true] {
        assert!(client.send(&frame(CONTINUATION, if last { END_HEADERS } else { 0 }, 1, &large)));
    }
    assert!(client.send(&frame(HEADERS, END_STREAM | END_HEADERS, 3, GET)));
    let mut answers = [None, None];
    while answers.contains(&None) {
        let frame = client.next().expect("the connection goes on");
        if matches!(frame.kind, HEADERS | RST_STREAM) {
            answers[usize::from(frame.stream == 3)].get_or_insert(frame.payload);
        }
    }
    // By HPACK's static table, literal without indexing, `:status 431`; and an indexed 200.
    let refused = answers[0].take().unwrap();
    assert!(refused.windows(3).any(|text| text == b"431") || refused.len() < 20, "{refused:?}");
    assert_eq!(answers[1].take().unwrap()[0], 0x88);
    assert_eq!(origin.requests().len(), 1);
}
