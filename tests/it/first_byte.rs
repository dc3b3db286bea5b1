//! `timeouts.first_byte`: the time from the end of a request to the first byte of its response's body, on every protocol.

use std::fmt::Display;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::grpc::{Caller, Server, message};
use crate::support::http2::{next, run};
use crate::support::tls::{Accepted, Socket, listen, open, read_head};
use crate::support::{Client, Config, LISTENER_TLS, Origin, PLAIN, Reply, THROUGHOUT, UPSTREAM_TLS, Weir, delayed};

/// How long the backend thinks before its first byte, and how long it pauses between bytes of `/pauses`.
const THINKS: Duration = Duration::from_millis(1200);

/// A protocol to backends, and whether they speak TLS.
const BACKENDS: [(&str, bool); 4] = [("http1", false), ("http1", true), ("h2c", false), ("h2", true)];

async fn backend(stream: Accepted, http2: bool) {
    if !http2 {
        return http1(stream).await;
    }
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        tokio::spawn(async move {
            let path = request.uri().path().to_owned();
            let _body = crate::support::http2::rest(&mut request.into_body()).await;
            if path == "/thinks" {
                delayed(THINKS).await;
            }
            let Ok(mut out) = respond.send_response(http::Response::new(()), false) else { return };
            if path == "/header-then-thinks" {
                delayed(THINKS).await;
            }
            let _ = out.send_data(Bytes::from_static(b"one"), false);
            if path == "/pauses" {
                delayed(THINKS).await;
            }
            let _ = out.send_data(Bytes::from_static(b"two"), true);
        });
    }
}

/// With TE, Weir's session would leave the response to Pingora's; the length of the body decides it here.
async fn http1(mut stream: Accepted) {
    while let Some(head) = read_head(&mut stream).await {
        let path = head.split(' ').nth(1).unwrap().to_owned();
        if path == "/thinks" {
            delayed(THINKS).await;
        }
        let until_close = head.contains("x-until-close");
        let framing = if until_close { "Connection: close" } else { "Transfer-Encoding: chunked" };
        let (one, two) = if until_close { ("one", "two") } else { ("3\r\none\r\n", "3\r\ntwo\r\n0\r\n\r\n") };
        let head = format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n");
        if stream.write_all(head.as_bytes()).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        if path == "/header-then-thinks" {
            delayed(THINKS).await;
        }
        if stream.write_all(one.as_bytes()).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        if path == "/pauses" {
            delayed(THINKS).await;
        }
        if stream.write_all(two.as_bytes()).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        if until_close {
            let _ = stream.shutdown().await;
            return;
        }
    }
}

fn config(protocol: &str, tls: bool, timeouts: impl Display) -> (tempfile::TempDir, Config) {
    let way = if tls { THROUGHOUT } else { PLAIN };
    let (folder, certificate) = way.files();
    let http2 = protocol != "http1";
    let address = listen(certificate.as_ref(), if http2 { "h2" } else { "http/1.1" }, move |s| backend(s, http2));
    let config = Config::to(address)
        .listener("secure", LISTENER_TLS)
        .set("upstreams.up.protocol", protocol)
        .set("upstreams.up", if tls { UPSTREAM_TLS } else { "" })
        .set("routes.all.timeouts", timeouts);
    (folder, config)
}

/// The status and the body of a response, and whether it is complete.
type Seen = (u16, String, bool);

async fn by_http1(mut stream: Socket, path: &str, field: &str) -> Seen {
    let request = format!("GET {path} HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n{field}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all).await;
    let text = String::from_utf8(all).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let whole = if head.to_lowercase().contains("transfer-encoding") { body.ends_with("0\r\n\r\n") } else { true };
    let status = head[9..12].parse().unwrap();
    (status, ["one", "two"].into_iter().filter(|part| body.contains(part)).collect(), whole)
}

async fn by_http2(sender: &mut SendRequest<Bytes>, path: &str, field: &str) -> Seen {
    let mut request = Request::builder().uri(format!("http://example.org{path}"));
    if let Some((name, value)) = field.trim().split_once(": ") {
        request = request.header(name, value);
    }
    let (response, _) = sender.send_request(request.body(()).unwrap(), true).unwrap();
    let response = response.await.unwrap();
    let (status, mut body) = (response.status().as_u16(), response.into_body());
    let mut text = Vec::new();
    loop {
        match body.data().await {
            Some(Ok(piece)) => text.extend_from_slice(&piece),
            Some(Err(_)) => return (status, String::from_utf8(text).unwrap(), false),
            None => break,
        }
    }
    let text = String::from_utf8(text).unwrap();
    (status, if status == 200 { text } else { String::new() }, true)
}

/// The same request from a client of HTTP/1, of HTTP/2, and of both under TLS.
async fn from_each_client(weir: &Weir, path: &str, field: &str) -> Vec<Seen> {
    let (web, secure) = (weir.address("web"), weir.address("secure"));
    let mut seen = vec![by_http1(open(web, None).await, path, field).await];
    seen.push(by_http1(open(secure, Some("http/1.1")).await, path, field).await);
    for (address, protocol) in [(web, None), (secure, Some("h2"))] {
        let (sender, connection) = h2::client::handshake(open(address, protocol).await).await.unwrap();
        tokio::spawn(connection);
        seen.push(by_http2(&mut sender.ready().await.unwrap(), path, field).await);
    }
    seen
}

#[test]
fn a_backend_may_think_for_first_byte_although_read_is_shorter() {
    for (protocol, tls) in BACKENDS {
        let (folder, config) = config(protocol, tls, "{ first_byte: 20s, read: 400ms }");
        let weir = Weir::start_in(folder, config);
        let fields: &[&str] = if protocol == "http1" { &["", "x-until-close: 1\r\n"] } else { &[""] };
        for (path, field) in
            ["/thinks", "/header-then-thinks"].into_iter().flat_map(|p| fields.iter().map(move |f| (p, f)))
        {
            for (client, seen) in run(from_each_client(&weir, path, field)).into_iter().enumerate() {
                assert_eq!(seen, (200, "onetwo".into(), true), "{protocol} {tls} {path} {field} client {client}");
            }
        }
    }
}

#[test]
fn after_the_first_byte_read_limits_the_silence() {
    for (protocol, tls) in BACKENDS {
        let (folder, config) = config(protocol, tls, "{ first_byte: 20s, read: 400ms }");
        let weir = Weir::start_in(folder, config);
        for (client, seen) in run(from_each_client(&weir, "/pauses", "")).into_iter().enumerate() {
            assert_eq!(seen, (200, "one".into(), false), "{protocol} {tls} client {client}");
        }
        weir.wait_for(&["weir_faults_total", "timeout"], 4.0);
        assert!(weir.access_log_of(4)[0]["attempts"][0]["error"] == "timed out: no bytes for timeouts.read");
    }
}

#[test]
fn a_backend_that_thinks_longer_than_first_byte_has_timed_out() {
    for (protocol, tls) in BACKENDS {
        let (folder, config) = config(protocol, tls, "{ first_byte: 400ms, read: 20s }");
        let weir = Weir::start_in(folder, config);
        for (client, seen) in run(from_each_client(&weir, "/thinks", "")).into_iter().enumerate() {
            assert_eq!(seen, (504, String::new(), true), "{protocol} {tls} client {client}");
        }
        for (client, seen) in run(from_each_client(&weir, "/header-then-thinks", "")).into_iter().enumerate() {
            assert_eq!(seen, (200, String::new(), false), "{protocol} {tls} client {client}");
        }
        let log = weir.access_log_of(8);
        let error = |line: usize| log[line]["attempts"][0]["error"].as_str().unwrap().to_owned();
        assert_eq!(error(0), "timed out: no response for timeouts.first_byte");
        assert_eq!(error(4), "timed out: no byte of the body for timeouts.first_byte");
    }
}

#[test]
fn the_default_of_first_byte_is_read() {
    let (folder, config) = config("http1", false, "{ read: 400ms }");
    let weir = Weir::start_in(folder, config);
    assert_eq!(Client::connect(weir.web()).get("/thinks").status, 504);
    assert_eq!(weir.access_log_of(1)[0]["attempts"][0]["error"], "timed out: no response for timeouts.first_byte");
}

#[test]
fn a_reload_changes_first_byte_for_the_next_request() {
    let (folder, config) = config("h2c", false, "{ first_byte: 20s, read: 400ms }");
    let weir = Weir::start_in(folder, &config);
    let mut client = Client::connect(weir.web());
    assert_eq!(client.get("/thinks").status, 200);
    assert!(weir.reload(config.set("routes.all.timeouts", "{ first_byte: 300ms }")));
    assert_eq!(client.get("/thinks").status, 504);
}

#[test]
fn first_byte_runs_for_each_attempt_and_request_bounds_it() {
    let silent = Origin::start(|_| Reply::new(200, "late").after(Duration::from_secs(20)));
    let prompt = Origin::named("prompt");
    let config = Config::to_all(&[("silent", &silent), ("prompt", &prompt)])
        .set("routes.all.timeouts", "{ first_byte: 300ms, read: 20s }")
        .set("routes.all.retry.when", "[timeout]");
    let weir = Weir::start(&config);
    let mut client = Client::connect(weir.web());
    assert_eq!((client.get("/").text(), client.get("/").text()), ("prompt".into(), "prompt".into()));
    let bounded = Config::to(&silent).set("routes.all.timeouts", "{ first_byte: 20s, request: 300ms }");
    assert!(weir.reload(bounded));
    let started = Instant::now();
    assert_eq!(client.get("/").status, 504);
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn first_byte_starts_at_the_end_of_an_upload() {
    for (protocol, tls) in BACKENDS {
        let (folder, config) = config(protocol, tls, "{ first_byte: 600ms, read: 600ms }");
        let weir = Weir::start_in(folder, config);
        run(async {
            let (sender, connection) = h2::client::handshake(open(weir.web(), None).await).await.unwrap();
            tokio::spawn(connection);
            let request = Request::builder().method("POST").uri("http://example.org/").body(()).unwrap();
            let (response, mut out) = sender.ready().await.unwrap().send_request(request, false).unwrap();
            for _ in 0..5 {
                out.send_data(Bytes::from_static(b"piece"), false).unwrap();
                delayed(Duration::from_millis(250)).await;
            }
            out.send_data(Bytes::new(), true).unwrap();
            let response = response.await.unwrap();
            assert!(response.status() == 200 || protocol == "http1", "{protocol} {tls}");
        });
    }
}

#[test]
fn a_tunnel_has_the_timeout_of_a_tunnel_although_request_and_first_byte_are_shorter() {
    let backend = listen(None, "http/1.1", |mut stream| async move {
        read_head(&mut stream).await.unwrap();
        let switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        stream.write_all(switch).await.unwrap();
        let byte = stream.read_u8().await.unwrap();
        delayed(THINKS).await;
        stream.write_all(&[byte]).await.unwrap();
    });
    let timeouts = "{ first_byte: 400ms, read: 400ms, write: 400ms, request: 900ms, tunnel: 20s }";
    let weir = Weir::start(Config::to(backend).set("routes.all.timeouts", timeouts));
    run(async {
        let mut stream = open(weir.web(), None).await;
        let ask = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        stream.write_all(ask).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101"));
        stream.write_all(b"x").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
    });
}

#[test]
fn an_upgrade_without_an_answer_times_out_after_first_byte() {
    let backend = listen(None, "http/1.1", |mut stream| async move {
        let _ = read_head(&mut stream).await;
        let _ = stream.read_u8().await;
    });
    let timeouts = "{ first_byte: 300ms, read: 20s, tunnel: 20s }";
    let weir = Weir::start(Config::to(backend).set("routes.all.timeouts", timeouts));
    let mut client = Client::connect(weir.web());
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(client.response("GET").status, 504);
    let attempt = &weir.access_log_of(1)[0]["attempts"][0];
    assert_eq!(attempt["error"], "timed out: no response for timeouts.first_byte");
}

/// The HTTP status and the gRPC status of a call to `/silent`, with this field.
async fn silent_call(weir: &Weir, timeout: &str) -> (u16, String) {
    let (sender, connection) = h2::client::handshake(open(weir.web(), None).await).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post("http://example.org/silent").header("content-type", "application/grpc");
    let request = request.header("grpc-timeout", timeout).body(()).unwrap();
    let (response, mut out) = sender.ready().await.unwrap().send_request(request, false).unwrap();
    out.send_data(message(b"x"), true).unwrap();
    let response = response.await.unwrap();
    let status = response.headers().get("grpc-status").map_or("", |status| status.to_str().unwrap()).to_owned();
    (response.status().as_u16(), status)
}

#[test]
fn grpc_timeout_shortens_request_and_never_lengthens_it() {
    for (protocol, tls) in [("h2c", false), ("h2", true)] {
        let (folder, certificate) = if tls { THROUGHOUT } else { PLAIN }.files();
        let server = Server::start_with(certificate.as_ref());
        let config = |request: &str| {
            Config::to(server.address)
                .set("upstreams.up.protocol", protocol)
                .set("upstreams.up", if tls { UPSTREAM_TLS } else { "" })
                .set("routes.all.timeouts.read", "20s")
                .set("routes.all.timeouts.request", request)
        };
        let weir = Weir::start_in(folder, config("20s"));
        let started = Instant::now();
        for timeout in ["200m", "0S"] {
            assert_eq!(run(silent_call(&weir, timeout)), (200, "4".into()), "{protocol} {timeout}");
        }
        assert!(weir.reload(config("300ms")));
        assert_eq!(run(silent_call(&weir, "20S")), (200, "4".into()), "{protocol}");
        assert!(started.elapsed() < Duration::from_secs(10), "{protocol}");
        weir.wait_for(&["weir_grpc_requests_total", "DEADLINE_EXCEEDED"], 3.0);
        assert_eq!(weir.sum(&["weir_grpc_timeouts_ignored_total"]), 0.0);
    }
}

#[test]
fn a_malformed_grpc_timeout_is_ignored_and_counted() {
    let server = Server::start();
    let config = Config::to(server.address).set("upstreams.up.protocol", "h2c");
    let weir = Weir::start(config.set("routes.all.timeouts", "{ request: 300ms }"));
    for timeout in ["1s", "123456789S", "S"] {
        assert_eq!(run(silent_call(&weir, timeout)), (200, "4".into()), "{timeout}");
    }
    assert_eq!(weir.metric("weir_grpc_timeouts_ignored_total{route=\"all\"}"), 3.0);
}

#[test]
fn a_grpc_stream_may_think_for_first_byte() {
    let server = Server::start();
    let config = Config::to(server.address).set("upstreams.up.protocol", "h2c");
    let weir = Weir::start(config.set("routes.all.timeouts", "{ first_byte: 20s, read: 600ms }"));
    run(async {
        let mut client = Caller::connect(weir.web(), false).await;
        let (response, mut out) = client.call("/both-ways").await;
        let mut body = response.await.unwrap().into_body();
        delayed(THINKS).await;
        out.send_data(message(b"x"), false).unwrap();
        assert_eq!(next(&mut body).await.unwrap(), message(b"x"));
        out.send_data(Bytes::new(), true).unwrap();
    });
}
