//! A WebSocket over HTTP/2 takes the same routes and meets the same policies as any other request.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::http2::{rest, run};
use crate::support::http2_socket::{Http2Socket, connect, open, request};
use crate::support::tls::{Accepted, listen, read_head};
use crate::support::websocket::{accept, switching};
use crate::support::{Config, DEADLINE, Origin, Reply, WAYS, Weir, delayed, spare, wait_until};

/// Accepts a WebSocket and returns the bytes that it gets.
async fn echo(mut stream: Accepted) {
    if !accept(&mut stream).await {
        return;
    }
    let mut bytes = [0; 4096];
    while let Ok(read) = stream.read(&mut bytes).await {
        if read == 0 || stream.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

fn backend() -> SocketAddr {
    listen(None, "http/1.1", echo)
}

async fn ask(sender: &mut SendRequest<Bytes>, request: Request<()>) -> (Response<()>, Http2Socket) {
    open(sender, request).await.unwrap()
}

/// Sends a word and gets it back.
async fn speaks(socket: &mut Http2Socket) {
    socket.write_all(b"word").await.unwrap();
    let mut word = [0; 4];
    tokio::time::timeout(DEADLINE, socket.read_exact(&mut word)).await.unwrap().unwrap();
    assert_eq!(&word, b"word");
}

async fn close(mut socket: Http2Socket) {
    socket.shutdown().await.unwrap();
    assert!(rest(&mut socket.receive).await.is_empty());
}

#[test]
fn it_takes_the_route_that_a_websocket_of_http1_takes() {
    let weir = Weir::start(
        Config::new()
            .upstream("up", &[("a", backend())])
            .route("chat", "match: { hosts: [example.org], path_prefix: /chat, methods: [GET] }, upstream: up")
            .set("routes.chat.response_headers", "set: { x-route: chat }")
            .route("ok", "match: { path: /ok }, respond: { status: 200, body: ok }")
            .route("no", "match: { path: /no }, respond: { status: 403, body: no }")
            .route("moved", "match: { path: /moved }, redirect: { to: \"https://{host}/chat\" }"),
    );
    run(async {
        let mut sender = connect(weir.web(), false).await;
        for (path, status) in [("/chat/1", 200), ("/none", 404), ("/ok", 501), ("/no", 403), ("/moved", 308)] {
            let (response, socket) = ask(&mut sender, request(path)).await;
            assert_eq!(response.status(), status, "{path}");
            if status == 200 {
                close(socket).await;
            }
        }
    });
}

#[test]
fn it_is_logged_and_counted_as_a_websocket_of_http1_is() {
    let weir = Weir::start(Config::to(backend()));
    run(async {
        let mut sender = connect(weir.web(), false).await;
        let (_, mut socket) = ask(&mut sender, request("/chat?room=1")).await;
        speaks(&mut socket).await;
        wait_until("in flight", || weir.sum(&["weir_requests_in_flight"]) == 1.0).await;
        close(socket).await;
    });
    let line = weir.access_log_of(1).pop().unwrap();
    for (key, value) in [("method", "GET"), ("path", "/chat?room=1"), ("host", "example.org"), ("route", "all")] {
        assert_eq!(line[key], value, "{line}");
    }
    assert_eq!((&line["status"], &line["fault"]), (&101.into(), &serde_json::Value::Null), "{line}");
    assert_eq!((&line["bytes_in"], &line["bytes_out"]), (&4.into(), &4.into()), "{line}");
    assert_eq!(weir.sum(&["weir_requests_total", "status=\"101\""]), 1.0);
    assert_eq!(weir.sum(&["weir_stream_duration_seconds_count"]), 1.0);
    assert_eq!(weir.sum(&["weir_requests_in_flight"]), 0.0);
}

#[test]
fn it_is_limited_by_rate_and_by_concurrency() {
    let limits = Config::to(backend())
        .set("rate_limits.rate", "rate: 2/1h, burst: 2")
        .set("rate_limits.many", "concurrent: 1")
        .set("routes.all.rate_limits", "[rate, many]");
    let weir = Weir::start(limits);
    run(async {
        let mut sender = connect(weir.web(), false).await;
        let (response, mut first) = ask(&mut sender, request("/")).await;
        assert_eq!(response.status(), 200);
        speaks(&mut first).await;
        assert_eq!(ask(&mut sender, request("/")).await.0.status(), 429, "the first one is still open");
        close(first).await;
        wait_until("it has ended", || weir.sum(&["weir_requests_in_flight"]) == 0.0).await;
        let (response, third) = ask(&mut sender, request("/")).await;
        assert_eq!(response.status(), 200);
        close(third).await;
        let refused = ask(&mut sender, request("/")).await.0;
        assert_eq!(refused.status(), 429);
        assert!(refused.headers().contains_key("retry-after"));
    });
}

#[test]
fn it_counts_for_max_in_flight_until_it_ends_and_waits_in_the_queue() {
    let config = Config::to(backend())
        .set("upstreams.up.max_in_flight", "1")
        .set("upstreams.up.queue", "size: 5, timeout: 300ms");
    let weir = Weir::start(config);
    run(async {
        let mut sender = connect(weir.web(), false).await;
        let (_, first) = ask(&mut sender, request("/")).await;
        assert_eq!(ask(&mut sender, request("/")).await.0.status(), 503);
        close(first).await;
        let (response, second) = ask(&mut sender, request("/")).await;
        assert_eq!(response.status(), 200);
        close(second).await;
    });
}

#[test]
fn its_deadline_covers_the_handshake_only() {
    let silent = listen(None, "http/1.1", async |mut stream: Accepted| {
        read_head(&mut stream).await;
        delayed(DEADLINE).await;
    });
    for timeouts in ["read: 300ms", "request: 300ms"] {
        let weir =
            Weir::start(Config::to(silent).set("routes.all.timeouts", timeouts).set("routes.all.retry", "attempts: 1"));
        run(async {
            let mut sender = connect(weir.web(), false).await;
            assert_eq!(ask(&mut sender, request("/")).await.0.status(), 504, "{timeouts}");
        });
        assert_eq!(weir.access_log_of(1)[0]["fault"], "timeout");
        let weir = Weir::start(Config::to(backend()).set("routes.all.timeouts", timeouts));
        run(async {
            let mut sender = connect(weir.web(), false).await;
            let (_, mut socket) = ask(&mut sender, request("/")).await;
            speaks(&mut socket).await;
            delayed(Duration::from_millis(600)).await;
            speaks(&mut socket).await;
            close(socket).await;
        });
        assert_eq!(weir.sum(&["weir_faults_total"]), 0.0, "{timeouts}");
    }
}

#[test]
fn a_silent_tunnel_over_http2_ends_after_its_timeout_and_bytes_reset_it() {
    for way in WAYS {
        let (folder, certificate) = way.files();
        let backend = listen(certificate.as_ref(), "http/1.1", echo);
        let config = way.config(backend).set("routes.all.timeouts", "read: 200ms, tunnel: 700ms");
        // The timeout of a request body is none of a tunnel.
        let weir = Weir::start_in(folder, config.set("listeners.web.timeouts", "body: 200ms"));
        run(async {
            let mut sender = connect(weir.web(), way.client).await;
            let (_, mut socket) = ask(&mut sender, request("/")).await;
            for _ in 0..3 {
                delayed(Duration::from_millis(400)).await;
                speaks(&mut socket).await;
            }
            let end = tokio::time::timeout(DEADLINE, socket.receive.data()).await.unwrap();
            assert!(end.is_none_or(|end| end.is_err()));
        });
        weir.wait_for(&["weir_backend_in_flight"], 0.0);
    }
}

#[test]
fn a_handshake_that_cannot_connect_is_tried_at_another_backend() {
    let weir = Weir::start(Config::to_all(&[("a", spare()), ("b", backend())]));
    run(async {
        let mut sender = connect(weir.web(), false).await;
        for _ in 0..4 {
            let (response, mut socket) = ask(&mut sender, request("/")).await;
            assert_eq!(response.status(), 200);
            speaks(&mut socket).await;
            close(socket).await;
        }
    });
}

#[test]
fn a_handshake_on_a_connection_that_the_backend_has_closed_is_sent_again_as_an_upgrade() {
    // It keeps its first connection until the next request comes, and closes it then.
    let origin = listen(None, "http/1.1", async |mut stream: Accepted| {
        let Some(head) = read_head(&mut stream).await else { return };
        if head.contains("upgrade") || head.contains("Upgrade") {
            assert!(head.to_ascii_lowercase().contains("connection: upgrade"), "{head}");
            stream.write_all(format!("{}hi", switching(&head)).as_bytes()).await.unwrap();
            return;
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        read_head(&mut stream).await;
    });
    let weir = Weir::start(Config::to(origin));
    run(async {
        let mut sender = connect(weir.web(), false).await;
        let plain = Request::get("http://example.org/").body(()).unwrap();
        let response = sender.send_request(plain, true).unwrap().0.await.unwrap();
        assert_eq!(rest(&mut response.into_body()).await, b"ok");
        let (response, mut socket) = ask(&mut sender, request("/")).await;
        assert_eq!(response.status(), 200);
        assert_eq!(rest(&mut socket.receive).await, b"hi");
    });
}

#[test]
fn an_open_tunnel_goes_on_while_weir_drains_and_ends_with_the_grace_period() {
    let mut weir = Weir::start(Config::to(backend()).set("server.shutdown_grace", "1500ms"));
    run(async {
        let mut sender = connect(weir.web(), false).await;
        let (_, mut socket) = ask(&mut sender, request("/")).await;
        let (_, ends_itself) = ask(&mut sender, request("/")).await;
        speaks(&mut socket).await;
        weir.signal(libc::SIGTERM);
        weir.wait_for_log("stopping");
        speaks(&mut socket).await;
        close(ends_itself).await;
        let end = tokio::time::timeout(DEADLINE, socket.receive.data()).await.unwrap();
        assert!(end.is_none_or(|end| end.is_err()));
    });
    assert_eq!(weir.wait().code(), Some(1));
    let faults: Vec<_> =
        weir.access_log_of(2).into_iter().map(|line| (line["status"].clone(), line["fault"].clone())).collect();
    assert_eq!(faults, [(101.into(), serde_json::Value::Null), (101.into(), "shutdown".into())]);
}

#[test]
fn a_stop_ends_at_once_when_the_last_tunnel_ends() {
    let mut weir = Weir::start(Config::to(backend()).set("server.shutdown_grace", "60s"));
    run(async {
        let mut sender = connect(weir.web(), false).await;
        let (_, mut socket) = ask(&mut sender, request("/")).await;
        weir.signal(libc::SIGTERM);
        speaks(&mut socket).await;
        close(socket).await;
    });
    assert_eq!(weir.wait().code(), Some(0));
}

#[test]
fn a_connection_with_tunnels_is_one_connection_and_is_not_idle() {
    let limits = "timeouts: { idle: 300ms }, limits: { connections: 1 }";
    let weir = Weir::start(Config::to(backend()).set("listeners.web", limits));
    run(async {
        let mut sender = connect(weir.web(), false).await;
        let mut sockets = Vec::new();
        for _ in 0..3 {
            sockets.push(ask(&mut sender, request("/")).await.1);
        }
        assert_eq!(weir.metric("weir_listener_connections{listener=\"web\"}"), 1.0);
        delayed(Duration::from_millis(600)).await;
        for socket in &mut sockets {
            speaks(socket).await;
        }
    });
}

#[test]
fn a_slow_reader_of_a_tunnel_gets_every_byte() {
    let flood = listen(None, "http/1.1", async |mut stream: Accepted| {
        assert!(accept(&mut stream).await);
        stream.write_all(&vec![5; 20_000_000]).await.unwrap();
        stream.shutdown().await.unwrap();
    });
    let weir = Weir::start(Config::to(flood));
    run(async {
        let mut sender = connect(weir.web(), false).await;
        let (_, mut slow) = ask(&mut sender, request("/")).await;
        delayed(Duration::from_millis(300)).await;
        assert_eq!(rest(&mut slow.receive).await.len(), 20_000_000);
    });
}

#[test]
fn a_plain_request_over_the_same_connection_is_served_beside_tunnels() {
    let origin = Origin::start(|_| Reply::new(200, "plain"));
    let config = Config::new()
        .upstream("ws", &[("a", backend())])
        .upstream("plain", &[("a", origin.address())])
        .route("ws", "match: { path_prefix: /ws }, upstream: ws")
        .route("plain", "upstream: plain");
    let weir = Weir::start(config);
    run(async {
        let mut sender = connect(weir.web(), false).await;
        let (_, mut socket) = ask(&mut sender, request("/ws")).await;
        let plain = Request::get("http://example.org/").body(()).unwrap();
        let response = sender.send_request(plain, true).unwrap().0.await.unwrap();
        assert_eq!(rest(&mut response.into_body()).await, b"plain");
        speaks(&mut socket).await;
    });
}
