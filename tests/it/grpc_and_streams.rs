//! How calls of gRPC and streams are recorded: gRPC's status, durations up to the header, and requests that a stop ends.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use crate::support::grpc::{Caller, Server, message, status};
use crate::support::http2::{connect, rest, run};
use crate::support::tls::open;
use crate::support::{
    Client, Config, EDGE, KINDS, Origin, PLAIN, Reply, WAYS, Weir, delayed, eventually, spare, wait_until,
};

/// The line of the access log with this path.
fn line(weir: &Weir, path: &str) -> Value {
    eventually(&format!("a line of {path}"), || weir.access_log().into_iter().find(|line| line["path"] == path))
}

fn grpc(backend: impl std::fmt::Display) -> Config {
    Config::to(backend).set("upstreams.up.protocol", "h2c")
}

fn count(weir: &Weir, status: &str) -> f64 {
    weir.metric(&format!("weir_grpc_requests_total{{route=\"all\",grpc_status=\"{status}\"}}"))
}

#[test]
fn the_status_of_a_grpc_call_is_in_the_log_and_counted() {
    for way in WAYS {
        let (folder, certificate) = way.files();
        let server = Server::start_with(certificate.as_ref());
        let protocol = if way.backend { "h2" } else { "h2c" };
        let config = way.config(server.address).set("routes.all.match.hosts", "[example.org]");
        let weir = Weir::start_in(folder, config.set("upstreams.up.protocol", protocol));
        run(async {
            let mut client = Caller::connect(weir.web(), way.client).await;
            for path in ["/unary", "/fails", "/breaks"] {
                let (response, mut out) = client.call(path).await;
                out.send_data(message(b"x"), true).unwrap();
                status(response.await.unwrap()).await;
            }
            let (response, mut out) = client.call("/silent").await;
            out.send_data(message(b"x"), true).unwrap();
            tokio::time::timeout(Duration::from_millis(100), response).await.unwrap_err();
            out.send_reset(h2::Reason::CANCEL);
            wait_until("nothing in flight", || weir.sum(&["weir_requests_in_flight"]) == 0.0).await;
        });
        for (path, name, http) in [
            ("/unary", "OK", 200),
            ("/fails", "NOT_FOUND", 200),
            ("/breaks", "INTERNAL", 200),
            ("/silent", "CANCELLED", 499),
        ] {
            let line = line(&weir, path);
            assert_eq!((&line["grpc_status"], &line["status"]), (&name.into(), &http.into()), "{way:?} {line}");
            weir.wait_for(&["weir_grpc_requests_total", &format!("\"{name}\"")], 1.0);
        }
        // What the backend answered in gRPC's words is its error all the same.
        assert!(weir.admin_get("/").text().contains("gRPC INTERNAL ("));
    }
}

#[test]
fn a_grpc_call_that_weir_itself_ends_has_the_status_that_the_client_sees() {
    let weir = Weir::start(grpc(spare()).set("routes.all.match.hosts", "[example.org]"));
    run(async {
        let mut client = Caller::connect(weir.web(), false).await;
        for (host, code) in [("example.org", "14"), ("other.test", "12")] {
            let (response, mut out) = client.call_at(host, "/unary").await;
            out.send_data(message(b"x"), true).unwrap();
            assert_eq!(status(response.await.unwrap()).await, code);
        }
    });
    weir.wait_for(&["weir_requests_in_flight"], 0.0);
    assert_eq!(count(&weir, "UNAVAILABLE"), 1.0);
    assert_eq!(weir.metric("weir_grpc_requests_total{route=\"-\",grpc_status=\"UNIMPLEMENTED\"}"), 1.0);
    let log = weir.access_log_of(2);
    assert_eq!((&log[0]["grpc_status"], &log[0]["status"]), (&"UNAVAILABLE".into(), &200.into()), "{}", log[0]);
    // The same fault over plain HTTP is no call of gRPC.
    assert_eq!(Client::connect(weir.web()).get_with("/plain", &[("Host", "example.org")]).status, 502);
    assert!(line(&weir, "/plain")["grpc_status"].is_null());
    assert_eq!(weir.sum(&["weir_grpc_requests_total"]), 2.0);
}

#[test]
fn a_grpc_server_that_breaks_off_is_not_a_success() {
    let origin = Origin::raw(|mut stream| {
        // The header of HTTP/2 settings and nothing else: then the end.
        let _ = stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
    });
    let weir = Weir::start(grpc(&origin));
    run(async {
        let mut client = Caller::connect(weir.web(), false).await;
        let (response, mut out) = client.call("/unary").await;
        out.send_data(message(b"x"), true).unwrap();
        assert_eq!(status(response.await.unwrap()).await, "14");
    });
    weir.wait_for(&["weir_grpc_requests_total", "UNAVAILABLE"], 1.0);
}

/// An origin whose response of this type begins at once and ends after 400 ms.
fn slow(content_type: &'static str) -> Origin {
    Origin::raw(move |mut stream| {
        use std::io::Read;
        let _ = stream.read(&mut [0; 4096]);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n");
        let _ = stream.write_all(head.as_bytes());
        crate::support::delay(Duration::from_millis(400));
        let _ = stream.write_all(b"2\r\nok\r\n0\r\n\r\n");
    })
}

fn durations(weir: &Weir) -> (f64, f64) {
    let sum = |family: &str| weir.sum(&[family, "route=\"all\""]);
    (sum("weir_request_duration_seconds_sum"), sum("weir_stream_duration_seconds_sum"))
}

#[test]
fn the_duration_of_an_event_stream_is_measured_up_to_its_header() {
    for (content_type, stream) in [
        ("text/event-stream", true),
        ("Text/Event-Stream; charset=utf-8", true),
        ("application/grpc-web+proto", true),
        ("text/plain", false),
    ] {
        let origin = slow(content_type);
        let weir = Weir::start(Config::to(&origin));
        assert_eq!(Client::connect(weir.web()).get("/").text(), "ok");
        weir.wait_for(&["weir_request_duration_seconds_count", "all"], 1.0);
        let (request, whole) = durations(&weir);
        assert_eq!((request < 0.35, whole > 0.35), (stream, stream), "{content_type}: {request} {whole}");
        assert_eq!(weir.sum(&["weir_stream_duration_seconds_count"]), f64::from(u8::from(stream)));
    }
}

#[test]
fn the_duration_of_a_tunnel_is_measured_up_to_its_101() {
    let origin = Origin::raw(|mut stream| {
        use std::io::Read;
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
        let _ = stream.read(&mut [0; 1]);
    });
    let weir = Weir::start(Config::to(&origin));
    let mut client = Client::connect(weir.web());
    client.send("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
    assert!(client.until(b"\r\n\r\n").unwrap().starts_with(b"HTTP/1.1 101"));
    crate::support::delay(Duration::from_millis(400));
    client.send("x");
    weir.wait_for(&["weir_stream_duration_seconds_count", "all"], 1.0);
    let (request, whole) = durations(&weir);
    assert!(request < 0.35 && whole > 0.35, "{request} {whole}");
}

#[test]
fn a_plain_request_has_no_grpc_status_and_is_no_stream() {
    let origin = Origin::named("a");
    let weir = Weir::start(Config::to(&origin));
    Client::connect(weir.web()).get("/");
    assert_eq!(line(&weir, "/")["grpc_status"], Value::Null);
    assert_eq!(weir.sum(&["weir_stream_duration_seconds"]) + weir.sum(&["weir_grpc_requests_total"]), 0.0);
}

#[test]
fn a_request_that_outlives_the_grace_period_is_answered_503_with_the_fault_shutdown() {
    for kind in KINDS {
        let mut weir = kind.weir_of("shutdown_grace: 300ms");
        let mut silent = Client::connect(weir.web());
        silent.send(format!("GET /hold HTTP/1.1\r\nHost: a\r\n{}\r\n", kind.field()));
        let mut begun = Client::connect(weir.web());
        begun.send(format!("GET /begin HTTP/1.1\r\nHost: a\r\n{}\r\n", kind.field()));
        assert!(begun.until(b"first").is_some());
        let mut half = Client::connect(weir.web());
        half.send("POST /hold HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf");
        weir.wait_for(&["weir_backend_in_flight"], 3.0);
        weir.signal(libc::SIGTERM);
        for client in [&mut silent, &mut half] {
            let response = client.response("GET");
            assert_eq!((response.status, response.header("connection")), (503, Some("close")), "{kind:?}");
        }
        assert_eq!(weir.wait().code(), Some(1));
        for line in weir.access_log_of(3) {
            let status = if line["path"] == "/begin" { 200 } else { 503 };
            assert_eq!((&line["fault"], &line["status"]), (&"shutdown".into(), &status.into()), "{kind:?} {line}");
        }
    }
}

#[test]
fn a_request_over_http2_that_outlives_the_grace_period_is_answered_503_with_the_fault_shutdown() {
    let origin = Origin::start(|_| Reply::new(200, "a").after(Duration::from_secs(10)));
    for way in [PLAIN, EDGE] {
        let (folder, _) = way.files();
        let mut weir = Weir::start_in(folder, way.config(&origin).set("server.shutdown_grace", "300ms"));
        run(async {
            let mut caller = Caller::connect(weir.web(), way.client).await;
            let (call, mut out) = caller.call("/1").await;
            out.send_data(message(b"half"), false).unwrap();
            let mut client = h2::client::handshake(open(weir.web(), way.client.then_some("h2")).await).await.unwrap();
            tokio::spawn(client.1);
            let request =
                |method: &str| http::Request::builder().method(method).uri("https://example.org/2").body(()).unwrap();
            let (whole, _) = client.0.send_request(request("GET"), true).unwrap();
            let (half, _out) = client.0.send_request(request("POST"), false).unwrap();
            wait_until("all in flight", || weir.sum(&["weir_backend_in_flight"]) == 3.0).await;
            weir.signal(libc::SIGTERM);
            for response in [whole, half] {
                let response = response.await.unwrap();
                assert_eq!(response.status(), 503, "{way:?}");
                assert_eq!(rest(&mut response.into_body()).await, b"", "{way:?}");
            }
            assert_eq!(status(call.await.unwrap()).await, "14", "{way:?}");
        });
        assert_eq!(weir.wait().code(), Some(1));
        for line in weir.access_log_of(3) {
            assert_eq!((&line["fault"], &line["status"]), (&"shutdown".into(), &503.into()), "{line}");
        }
    }
}

#[test]
fn a_response_over_http2_that_has_begun_is_reset_at_the_end_of_the_grace_period() {
    let server = Server::start();
    let mut weir = Weir::start(grpc(server.address).set("server.shutdown_grace", "300ms"));
    run(async {
        let mut client = Caller::connect(weir.web(), false).await;
        let (response, mut out) = client.call("/chat").await;
        out.send_data(message(b"one"), false).unwrap();
        let mut body = response.await.unwrap().into_body();
        assert!(body.data().await.unwrap().is_ok());
        weir.signal(libc::SIGTERM);
        assert!(body.data().await.unwrap().is_err());
    });
    assert_eq!(weir.wait().code(), Some(1));
    let line = weir.access_log_of(1).remove(0);
    assert_eq!((&line["fault"], &line["status"]), (&"shutdown".into(), &200.into()), "{line}");
}

#[test]
fn errors_of_grpc_raise_one_warning_a_minute_for_each_backend() {
    let server = Server::start();
    let weir = Weir::start(grpc(server.address));
    run(async {
        let mut client = Caller::connect(weir.web(), false).await;
        for path in ["/breaks", "/breaks", "/fails"] {
            let (response, mut out) = client.call(path).await;
            out.send_data(message(b"x"), true).unwrap();
            status(response.await.unwrap()).await;
        }
    });
    weir.access_log_of(3);
    let stderr = weir.stderr();
    let warnings: Vec<&str> =
        stderr.lines().filter(|line| line.contains("the backend ends calls with errors")).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    for part in [" WARN ", "upstream=\"up\"", "backend=\"a\"", "grpc_status=\"INTERNAL\"", "count=1", "route=\"all\""] {
        assert!(warnings[0].contains(part), "{part}: {}", warnings[0]);
    }
}

#[test]
fn what_a_second_signal_ends_has_the_fault_shutdown() {
    let origin = Origin::start(|_| Reply::new(200, "a").after(Duration::from_secs(10)));
    let mut weir = Weir::start(Config::to(&origin));
    let mut client = Client::connect(weir.web());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    weir.wait_for(&["weir_backend_in_flight"], 1.0);
    weir.signal(libc::SIGTERM);
    eventually("draining", || weir.admin_get("/readyz").status == 503);
    weir.signal(libc::SIGTERM);
    assert_eq!(weir.wait().code(), Some(1));
    let line = weir.access_log_of(1).pop().unwrap();
    assert_eq!((&line["fault"], &line["status"]), (&"shutdown".into(), &503.into()), "{line}");
}

#[test]
fn a_client_that_leaves_after_the_last_byte_of_its_response_is_no_fault() {
    // It answers at once, whatever of the request is still to come.
    let origin = Origin::raw(|mut stream| {
        use std::io::Read;
        let mut inbox = Vec::new();
        let mut piece = [0; 4096];
        while !inbox.windows(4).any(|end| end == b"\r\n\r\n") {
            match stream.read(&mut piece) {
                Ok(some @ 1..) => inbox.extend_from_slice(&piece[..some]),
                _ => return,
            }
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone");
        while matches!(stream.read(&mut piece), Ok(1..)) {}
    });
    let weir = Weir::start(Config::to(&origin));
    let mut client = Client::connect(weir.web());
    client.send("POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf");
    assert_eq!(client.response("POST").text(), "done");
    drop(client);
    run(async {
        let mut client = connect(weir.web()).await;
        let request = http::Request::post("http://example.org/2").body(()).unwrap();
        let (response, mut out) = client.send_request(request, false).unwrap();
        out.send_data(Bytes::from_static(b"half"), false).unwrap();
        assert_eq!(rest(&mut response.await.unwrap().into_body()).await, b"done");
        out.send_reset(h2::Reason::CANCEL);
        delayed(Duration::from_millis(50)).await;
    });
    for path in ["/1", "/2"] {
        let line = line(&weir, path);
        assert_eq!((&line["status"], &line["fault"]), (&200.into(), &Value::Null), "{line}");
    }
    weir.wait_for(&["weir_faults_total"], 0.0);
}
