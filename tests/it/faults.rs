//! What clients get when something goes wrong, and what is recorded of it.

use std::fmt::Display;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::{Client, Config, Origin, Reply, Weir, delay, spare};

fn before(address: impl Display, route: &str, upstream: &str) -> Weir {
    Weir::start(Config::to(address).set("routes.all", route).set("upstreams.up", upstream))
}

fn fault(weir: &Weir, method: &str, status: u16, name: &str) {
    let mut client = Client::connect(weir.web());
    client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\nContent-Length: 0\r\n\r\n"));
    let response = client.response(method);
    assert_eq!(response.status, status, "{}", response.text());
    let body = response.json();
    assert_eq!(body["error"], name);
    assert_eq!(body["status"], status);
    assert!(body["request_id"].as_str().is_some_and(|id| !id.is_empty()));
    let line = weir.access_log_of(1).pop().unwrap();
    assert_eq!((&line["fault"], &line["status"]), (&name.into(), &status.into()), "{line}");
    weir.wait_for(&["weir_faults_total", &format!("\"{name}\"")], 1.0);
    weir.wait_for(&["weir_backend_in_flight"], 0.0);
}

#[test]
fn a_backend_that_does_not_listen_is_502_connect() {
    let weir = before(spare(), "", "");
    fault(&weir, "POST", 502, "connect");
    weir.wait_for_at_least(&["weir_backend_attempts_total", "connect_error"], 1.0);
}

#[test]
fn a_backend_that_says_nothing_is_504_timeout_in_time() {
    let origin = Origin::start(|_| Reply::new(200, "").after(Duration::from_secs(3)));
    let weir = before(&origin, "timeouts: { read: 200ms }", "");
    let start = Instant::now();
    fault(&weir, "GET", 504, "timeout");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[test]
fn the_whole_request_has_a_deadline_even_when_bytes_trickle() {
    let origin = Origin::raw(|mut stream| {
        let mut bin = [0; 1024];
        let _ = stream.read(&mut bin);
        for byte in b"HTTP/1.1 200 OK\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" {
            if stream.write_all(&[*byte]).is_err() {
                return;
            }
            delay(Duration::from_millis(50));
        }
    });
    let weir = before(&origin, "timeouts: { request: 500ms }", "");
    let start = Instant::now();
    let mut client = Client::connect(weir.web());
    assert_eq!(client.get("/").status, 504);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(weir.access_log_of(1)[0]["fault"], "timeout");
    weir.wait_for(&["weir_backend_in_flight"], 0.0);
}

#[test]
fn a_response_past_the_deadline_is_cut() {
    let origin = Origin::raw(|mut stream| {
        let mut bin = [0; 1024];
        let _ = stream.read(&mut bin);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while stream.write_all(b"1\r\nx\r\n").is_ok() {
            delay(Duration::from_millis(50));
        }
    });
    let weir = before(&origin, "timeouts: { request: 500ms }", "");
    let mut client = Client::connect(weir.web());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.try_response("GET").is_none(), "the body must not look complete");
    let line = weir.access_log_of(1).pop().unwrap();
    assert_eq!((&line["fault"], &line["status"]), (&"timeout".into(), &200.into()), "{line}");
}

#[test]
fn a_backend_that_breaks_off_is_502_reset() {
    let origin = Origin::start(|_| Reply::hang_up());
    let weir = before(&origin, "", "");
    fault(&weir, "POST", 502, "reset");
    assert_eq!(origin.requests().len(), 1, "a POST that was sent is not sent again");
}

#[test]
fn a_backend_that_does_not_speak_http_is_502_protocol() {
    let origin = Origin::start(|_| Reply::raw("SSH-2.0-x\r\n\r\n").and_close());
    let weir = before(&origin, "", "");
    fault(&weir, "POST", 502, "protocol");
}

#[test]
fn a_truncated_response_does_not_look_complete() {
    let origin = Origin::start(|_| Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").and_close());
    let weir = before(&origin, "", "");
    let mut client = Client::connect(weir.web());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.try_response("GET").is_none());
    assert_eq!(weir.access_log_of(1)[0]["fault"], "reset");
}

#[test]
fn with_fail_open_off_and_nothing_healthy_it_is_503_with_retry_after() {
    let weir = before(spare(), "", "fail_open: false, health_check: { tcp: {}, interval: 50ms, timeout: 40ms }");
    weir.wait_for_state("a", "down");
    let response = Client::connect(weir.web()).get("/");
    assert_eq!((response.status, response.header("retry-after")), (503, Some("1")));
    weir.wait_for(&["weir_faults_total", "no_backend"], 1.0);
}

#[test]
fn a_client_that_leaves_is_499_and_its_backend_is_let_go() {
    let origin = Origin::start(|_| Reply::new(200, "").after(Duration::from_secs(5)));
    let weir = before(&origin, "", "");
    let mut client = Client::connect(weir.web());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    weir.wait_for(&["weir_backend_in_flight"], 1.0);
    drop(client);
    weir.wait_for(&["weir_backend_in_flight"], 0.0);
    let line = weir.access_log_of(1).pop().unwrap();
    assert_eq!((&line["fault"], &line["status"]), (&"client_abort".into(), &499.into()), "{line}");
    weir.wait_for(&["weir_backend_attempts_total", "client_abort"], 1.0);
    weir.wait_for(&["weir_requests_total", "499"], 1.0);
}

#[test]
fn a_name_that_does_not_resolve_is_reported_and_the_rest_serves() {
    let origin = Origin::named("a");
    let weir = Weir::start(Config::to(&origin).backend("up.b", "nowhere.invalid:80", ""));
    let mut client = Client::connect(weir.web());
    assert!((0..6).all(|_| client.get("/").text() == "a"));
    assert!(weir.status().to_string().contains("nowhere.invalid:80"));
}

#[test]
fn a_backend_may_be_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("origin.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut bin = [0; 4096];
            let _ = stream.read(&mut bin);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nunix");
        }
    });
    let weir = Weir::start(Config::to(format!("unix:{}", path.display())).set("upstreams.up.health_check", "tcp: {}"));
    weir.wait_for_state("a", "up");
    assert_eq!(Client::connect(weir.web()).get("/").text(), "unix");
}

/// An origin that answers requests for `/ok` and fails the others in a way of its own.
fn failing(route: &str) -> (Origin, Weir) {
    let origin = Origin::start(|request| match request.target.as_str() {
        "/ok" => Reply::new(200, "ok"),
        "/slow" => Reply::new(200, "").after(Duration::from_secs(3)),
        "/nonsense" => Reply::raw("nonsense\r\n\r\n").and_close(),
        _ => Reply::hang_up(),
    });
    let weir = before(&origin, route, "");
    (origin, weir)
}

#[test]
fn after_a_fault_of_the_backend_the_clients_connection_goes_on() {
    let (_origin, weir) = failing("retry: { attempts: 1 }, timeouts: { read: 300ms }");
    let mut client = Client::connect(weir.web());
    for (request, status) in [
        ("GET /gone HTTP/1.1\r\nHost: a\r\n\r\n", 502),
        ("GET /nonsense HTTP/1.1\r\nHost: a\r\n\r\n", 502),
        ("HEAD /gone HTTP/1.1\r\nHost: a\r\n\r\n", 502),
        ("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n", 504),
        ("POST /gone HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody", 502),
        ("POST /gone HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n", 502),
        ("GET /ok HTTP/1.1\r\nHost: a\r\n\r\n", 200),
    ] {
        client.send(request);
        let response = client.response(request.split(' ').next().unwrap());
        assert_eq!((response.status, response.header("connection")), (status, Some("keep-alive")), "{request}");
    }
    // What was sent ahead waits for its turn.
    client.send("GET /gone HTTP/1.1\r\nHost: a\r\n\r\nGET /ok HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((client.response("GET").status, client.response("GET").text().as_str()), (502, "ok"));
    client.send("GET /gone HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!(client.response("GET").header("connection"), Some("close"));
    assert!(client.is_closed_within(Duration::from_secs(2)));
}

#[test]
fn with_no_backend_at_all_the_clients_connection_goes_on() {
    let weir =
        before(spare(), "", "fail_open: false, health_check: { tcp: {}, interval: 200ms, timeout: 100ms, fall: 1 }");
    weir.wait_for_state("a", "down");
    let mut client = Client::connect(weir.web());
    for _ in 0..3 {
        let response = client.get("/");
        assert_eq!((response.status, response.header("connection")), (503, Some("keep-alive")));
    }
}

#[test]
fn after_a_fault_in_the_middle_of_a_requests_body_nothing_of_it_becomes_a_request() {
    let heads = Arc::new(Mutex::new(String::new()));
    let seen = Arc::clone(&heads);
    let origin = Origin::raw(move |mut stream| {
        let mut head = [0; 1024];
        let some = stream.read(&mut head).unwrap_or(0);
        seen.lock().unwrap().push_str(&String::from_utf8_lossy(&head[..some]));
    });
    let weir = before(&origin, "retry: { attempts: 1 }", "");
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for head in [
        format!("POST /gone HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n1234", 4 + smuggled.len()),
        format!("POST /gone HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n", smuggled.len()),
        "GET /gone HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".to_owned(),
    ] {
        let mut client = Client::connect(weir.web());
        client.send(&head);
        let response = client.response("POST");
        assert_eq!((response.status, response.header("connection")), (502, Some("close")), "{head}");
        let _ = client.stream.write_all(smuggled.as_bytes());
        assert!(client.is_closed_within(Duration::from_secs(5)), "{head}");
    }
    let heads = heads.lock().unwrap();
    assert!(heads.contains("/gone"), "{heads}");
    assert_eq!(weir.access_log_of(3).len(), 3);
}
