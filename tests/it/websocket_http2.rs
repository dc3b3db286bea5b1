//! WebSockets over HTTP/2 (RFC 8441): the handshake that the client and the backend see, messages, refusals, and many at
//! once while the configuration changes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use h2::client::SendRequest;
use http::{HeaderValue, Request};
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::{WebSocketStream, accept_async};

use crate::support::frames::{END_HEADERS, Frames, HEADERS, RST_STREAM, SETTINGS, block, frame, reason};
use crate::support::http2::{rest, run};
use crate::support::http2_socket::{Http2Socket, connect, open, request};
use crate::support::tls::{Accepted, listen, read_head};
use crate::support::websocket::{accept_of, chat, next};
use crate::support::{Config, Origin, PLAIN, Pace, Reply, THROUGHOUT, WAYS, Way, Weir, eventually, size};

/// A backend that sends this in response to a handshake, with the right Sec-WebSocket-Accept in place of `ACCEPT`, and
/// then closes. The heads that it gets.
fn replies(response: &'static str) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&heads);
    let address = listen(None, "http/1.1", move |mut stream: Accepted| {
        let seen = Arc::clone(&seen);
        async move {
            let Some(head) = read_head(&mut stream).await else { return };
            let response = response.replace("ACCEPT", &accept_of(&head));
            seen.lock().push(head);
            stream.write_all(response.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    (address, heads)
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.into_iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

async fn echo(stream: Accepted) {
    let Ok(mut socket) = accept_async(stream).await else { return };
    while let Some(Ok(message)) = socket.next().await {
        if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
            return;
        }
    }
}

type Socket = WebSocketStream<Http2Socket>;

async fn websocket(sender: &mut SendRequest<Bytes>) -> Socket {
    let (response, socket) = open(sender, request("/chat")).await.unwrap();
    assert_eq!(response.status(), 200);
    WebSocketStream::from_raw_socket(socket, Role::Client, None).await
}

#[test]
fn messages_and_a_close_pass_both_ways_and_other_streams_go_on() {
    for way in WAYS {
        let (folder, certificate) = way.files();
        let backend = listen(certificate.as_ref(), "http/1.1", echo);
        let weir = Weir::start_in(folder, way.config(backend));
        run(async {
            let mut sender = connect(weir.web(), way.client).await;
            let (mut one, mut two) = (websocket(&mut sender).await, websocket(&mut sender).await);
            for socket in [&mut one, &mut two] {
                socket.send(Message::text("grüße")).await.unwrap();
                assert_eq!(next(socket).await, Message::text("grüße"));
            }
            let large: Vec<u8> = (0..1_000_000_u32).map(|i| (i % 251) as u8).collect();
            one.send(Message::binary(large.clone())).await.unwrap();
            assert_eq!(next(&mut one).await, Message::binary(large));
            one.close(None).await.unwrap();
            assert!(next(&mut one).await.is_close());
            assert!(one.next().await.is_none());
            two.send(Message::Ping("x".into())).await.unwrap();
            assert!(next(&mut two).await.is_pong());
            two.close(None).await.unwrap();
            assert!(next(&mut two).await.is_close());
            assert!(two.next().await.is_none());
        });
        weir.wait_for(&["weir_backend_in_flight"], 0.0);
        weir.wait_for(&["weir_requests_total", "status=\"101\""], 2.0);
        assert_eq!(weir.sum(&["weir_faults_total"]), 0.0, "{way:?}");
    }
}

#[test]
fn the_backend_gets_an_upgrade_request_and_the_client_a_200_without_the_fields_of_http1() {
    let (backend, heads) = replies(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: ACCEPT\r\nSec-WebSocket-Protocol: chat\r\nX-Own: 1\r\n\r\n",
    );
    let weir = Weir::start(Config::to(backend));
    run(async {
        let mut sender = connect(weir.web(), false).await;
        let mut ask = request("/chat?room=1");
        for (name, value) in
            [("sec-websocket-protocol", "chat"), ("origin", "https://example.org"), ("sec-websocket-key", "x")]
        {
            ask.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        let (response, mut socket) = open(&mut sender, ask).await.unwrap();
        assert_eq!(response.status(), 200);
        let fields = response.headers();
        assert_eq!(
            (&fields["sec-websocket-protocol"], &fields["x-own"]),
            (&"chat".parse().unwrap(), &"1".parse().unwrap())
        );
        for name in ["sec-websocket-accept", "sec-websocket-key", "upgrade", "connection", "content-length"] {
            assert!(!fields.contains_key(name), "{name}");
        }
        assert!(rest(&mut socket.receive).await.is_empty());
    });
    let head = heads.lock()[0].clone();
    assert!(head.starts_with("GET /chat?room=1 HTTP/1.1\r\n"), "{head}");
    for (name, value) in [
        ("host", "example.org"),
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "chat"),
        ("origin", "https://example.org"),
        ("x-forwarded-for", "127.0.0.1"),
    ] {
        assert_eq!(field(&head, name), Some(value), "{name} in {head}");
    }
    assert_ne!(field(&head, "sec-websocket-key"), Some("x"), "{head}");
    assert_eq!(field(&head, "transfer-encoding"), None, "{head}");
}

/// The status and the body of the response to a WebSocket.
fn refused(weir: &Weir, ask: Request<()>) -> (u16, String) {
    run(async {
        let mut sender = connect(weir.web(), false).await;
        let (response, mut socket) = open(&mut sender, ask).await.unwrap();
        assert!(!response.headers().contains_key("sec-websocket-accept"), "{response:?}");
        let body = String::from_utf8(rest(&mut socket.receive).await).unwrap();
        (response.status().as_u16(), body)
    })
}

#[test]
fn a_refusal_of_the_backend_reaches_the_client() {
    for (status, response) in [
        (403, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nSec-WebSocket-Accept: ACCEPT\r\n\r\nno"),
        (404, "HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\nno"),
        (
            426,
            "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
        ),
        (302, "HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 2\r\n\r\nno"),
        (500, "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\nno"),
    ] {
        let weir = Weir::start(Config::to(replies(response).0));
        assert_eq!(refused(&weir, request("/chat")), (status, "no".into()));
        assert_eq!(weir.access_log_of(1)[0]["status"], status);
    }
}

#[test]
fn a_success_without_an_upgrade_is_501_and_no_failure_of_the_backend() {
    let origin = Origin::start(|_| Reply::new(200, "a page"));
    let weir = Weir::start(Config::to(&origin).set("upstreams.up.outlier", "consecutive: 1"));
    assert_eq!(refused(&weir, request("/")).0, 501);
    let line = weir.access_log_of(1).pop().unwrap();
    assert_eq!((&line["status"], &line["fault"]), (&501.into(), &"refused_policy".into()), "{line}");
    assert_eq!(refused(&weir, request("/")).0, 501, "the backend is not ejected");
    assert_eq!(origin.requests().len(), 2);
}

#[test]
fn a_101_that_opens_no_websocket_is_a_protocol_error_of_the_backend() {
    for response in [
        "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: AAAA\r\n\r\n",
        "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ACCEPT\r\n\r\n",
        "HTTP/1.1 101 X\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ACCEPT\r\n\r\n",
    ] {
        let weir = Weir::start(Config::to(replies(response).0).set("routes.all.retry", "attempts: 1"));
        assert_eq!(refused(&weir, request("/chat")).0, 502, "{response}");
        assert_eq!(weir.access_log_of(1)[0]["fault"], "protocol", "{response}");
    }
}

#[test]
fn an_upstream_of_http2_gets_no_websocket() {
    let origin = Origin::named("a");
    let weir = Weir::start(Config::to(&origin).set("upstreams.up.protocol", "h2c"));
    assert_eq!(refused(&weir, request("/chat")).0, 501);
    assert_eq!(origin.connections(), 0);
}

/// The frame that ends stream 1, after a header block with these fields.
fn sent(weir: &Weir, fields: &[(&str, &str)]) -> Frame {
    let mut client = Frames::connect(weir.web());
    assert!(client.send(&frame(HEADERS, END_HEADERS, 1, &block(fields))));
    let frame = std::iter::from_fn(|| client.next()).find(|frame| frame.stream == 1).unwrap();
    match frame.kind {
        RST_STREAM => Frame::Reset(reason(&frame)),
        _ => Frame::Kind(frame.kind),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Frame {
    Reset(u32),
    Kind(u8),
}

#[test]
fn a_listener_with_http2_offers_extended_connect() {
    let origin = Origin::named("a");
    let weir = Weir::start(Config::to(&origin));
    let settings = Frames::connect(weir.web()).next_of(SETTINGS).unwrap();
    let enabled = settings.payload.chunks(6).any(|setting| setting == [0, 8, 0, 0, 0, 1]);
    assert!(enabled, "{settings:?}");
}

#[test]
fn a_malformed_extended_connect_is_reset_or_refused() {
    let origin = Origin::named("a");
    let weir = Weir::start(Config::to(&origin));
    const METHOD: (&str, &str) = (":method", "CONNECT");
    const PROTOCOL: (&str, &str) = (":protocol", "websocket");
    const SCHEME: (&str, &str) = (":scheme", "http");
    const PATH: (&str, &str) = (":path", "/");
    const AUTHORITY: (&str, &str) = (":authority", "example.org");
    let protocol_error = Frame::Reset(1);
    for fields in [
        &[METHOD, PROTOCOL, PATH, AUTHORITY][..],
        &[METHOD, PROTOCOL, SCHEME, AUTHORITY],
        &[(":method", "GET"), PROTOCOL, SCHEME, PATH, AUTHORITY],
        &[METHOD, PROTOCOL, PROTOCOL, SCHEME, PATH, AUTHORITY],
        &[METHOD, PROTOCOL, SCHEME, PATH, AUTHORITY, ("upgrade", "websocket")],
        &[METHOD, PROTOCOL, SCHEME, PATH, AUTHORITY, ("connection", "upgrade")],
        // A plain CONNECT has neither (RFC 9113 section 8.5).
        &[METHOD, SCHEME, PATH, AUTHORITY],
    ] {
        assert_eq!(sent(&weir, fields), protocol_error, "{fields:?}");
    }
    for (status, fields) in [
        (400, &[METHOD, PROTOCOL, SCHEME, PATH][..]),
        (400, &[METHOD, PROTOCOL, SCHEME, PATH, AUTHORITY, ("host", "example.com")]),
        (400, &[METHOD, PROTOCOL, SCHEME, PATH, AUTHORITY, ("content-length", "5")]),
        (501, &[METHOD, (":protocol", "connect-udp"), SCHEME, PATH, AUTHORITY]),
        (501, &[METHOD, (":protocol", "h2c"), SCHEME, PATH, AUTHORITY]),
        (405, &[METHOD, (":authority", "example.org:443")]),
    ] {
        let before = weir.access_log().len();
        assert_eq!(sent(&weir, fields), Frame::Kind(HEADERS), "{fields:?}");
        let line = weir.access_log_of(before + 1).pop().unwrap();
        assert_eq!(line["status"], status, "{fields:?} {line}");
    }
    assert_eq!(origin.connections(), 0);
}

/// So many sockets over so many connections, while the configuration is reloaded: none breaks.
fn outlive_reloads(way: Way, sockets: usize, connections: usize, reloads: usize, every: Duration) {
    let (folder, certificate) = way.files();
    let backend = listen(certificate.as_ref(), "http/1.1", echo);
    let config = || way.config(backend).without_access_log().set("upstreams.up.balance", "weighted_round_robin");
    let weir = Weir::start_in(folder, config());
    let (stop, turns) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (address, flag, count) = (weir.web(), Arc::clone(&stop), Arc::clone(&turns));
    let clients = std::thread::spawn(move || {
        run(async move {
            let mut chats = Vec::new();
            for _ in 0..connections {
                let mut sender = connect(address, way.client).await;
                for _ in 0..sockets / connections {
                    let socket = websocket(&mut sender).await;
                    let pace = Duration::from_millis(sockets as u64);
                    let (stop, turns) = (Arc::clone(&flag), Arc::clone(&count));
                    chats.push(tokio::spawn(async move {
                        let mut socket = socket;
                        chat(&mut socket, stop, turns, pace).await;
                        assert!(socket.next().await.is_none());
                    }));
                }
            }
            for chat in chats {
                chat.await.unwrap();
            }
        });
    });
    // They open one after the other, so the deadline is one of progress.
    for open in (50..=sockets).step_by(50) {
        weir.wait_for_at_least(&["weir_backend_in_flight"], open as f64);
    }
    weir.wait_for(&["weir_backend_in_flight"], sockets as f64);
    let mut pace = Pace::every(every);
    for round in 0..reloads {
        let changed = config().set("upstreams.up.backends.a.weight", 2 + round % 2);
        assert!(weir.reload(changed), "{}", weir.stderr());
        pace.tick();
        assert_eq!(weir.sum(&["weir_backend_in_flight"]), sockets as f64);
    }
    eventually("each has had a word", || turns.load(Ordering::Acquire) >= sockets);
    stop.store(true, Ordering::Release);
    clients.join().unwrap();
    weir.wait_for(&["weir_backend_in_flight"], 0.0);
    weir.wait_for(&["weir_requests_total", "status=\"101\""], sockets as f64);
    assert_eq!(weir.sum(&["weir_faults_total"]), 0.0);
    assert_eq!(weir.sum(&["weir_listener_connections_total"]), connections as f64);
}

#[test]
fn websockets_over_http2_outlive_reloads() {
    for way in [PLAIN, THROUGHOUT] {
        outlive_reloads(way, 100, 4, 3, Duration::from_millis(200));
    }
}

#[test]
#[ignore = "long: 1,000 WebSockets over 20 connections each way and a reload a second for two minutes"]
fn a_thousand_websockets_over_20_connections_outlive_reloads_for_two_minutes() {
    let (sockets, reloads) = (size("WEIR_SOAK_WEBSOCKETS", 1000), size("WEIR_SOAK_RELOADS", 120));
    for way in WAYS {
        outlive_reloads(way, sockets, 20, reloads, Duration::from_secs(1));
    }
}
