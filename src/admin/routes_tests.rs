//! Tests of the admin routes over a TCP connection.

#![allow(clippy::unwrap_used, clippy::panic)]

use serde_json::json;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::super::api::ProblemReply;
use super::super::test_double::Running;
use super::*;

const JSON: &str = "Content-Type: application/json\r\n";

/// Sends a request with these extra header lines and returns the whole response.
fn ask(running: &Running, line: &str, headers: &str, body: &str) -> String {
    let host = if headers.contains("Host:") { "" } else { "Host: localhost\r\n" };
    let length = body.len();
    let request =
        format!("{line} HTTP/1.1\r\n{host}Connection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}");
    let mut stream = TcpStream::connect(running.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

fn body(answer: &str) -> serde_json::Value {
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[test]
fn pages_show_the_state_of_the_process() {
    let running = Running::start(None);
    let metrics = ask(&running, "GET /metrics", "Accept-Encoding: gzip\r\n", "");
    assert!(metrics.contains("content-type: text/plain; version=0.0.4"), "{metrics}");
    assert!(metrics.contains("\nweir_build_info{version=\"9.9.9\",commit=\"c\"} 1\n"), "{metrics}");
    assert!(metrics.contains("\nprocess_cpu_seconds_total ") && !metrics.contains("content-encoding"));
    let page = ask(&running, "GET /", "", "");
    assert!(page.contains("content-type: text/html") && page.contains("generation 3"), "{page}");
    assert!(page.contains("default-src 'none'") && page.contains("nosniff") && page.contains("no-store"), "{page}");
    let reply = body(&ask(&running, "GET /api/v1/status", "", ""));
    assert_eq!((&reply["pid"], &reply["version"], &reply["last_reload"]), (&7.into(), &"9.9.9".into(), &().into()));
    assert_eq!(body(&ask(&running, "GET /api/v1/config", "", "")), json!({ "routes": [] }));
}

#[test]
fn readiness_is_a_status() {
    let running = Running::start(None);
    assert_eq!(status(&ask(&running, "GET /readyz", "", "")), 200);
    running.fake.ready.store(false, Ordering::Relaxed);
    let answer = ask(&running, "GET /readyz", "", "");
    assert!(status(&answer) == 503 && answer.ends_with("upstream api has no verdict yet\n"), "{answer}");
    assert_eq!(status(&ask(&running, "GET /healthz", "", "")), 200);
}

#[test]
fn missing_pages_are_json_errors() {
    let running = Running::start(None);
    for (line, code) in [("GET /nothing", 404), ("POST /metrics", 405), ("DELETE /api/v1/reload", 405)] {
        let answer = ask(&running, line, JSON, "");
        assert_eq!(status(&answer), code, "{line}");
        assert!(body(&answer)["error"].is_string(), "{line}");
    }
}

#[test]
fn a_reload_is_answered_by_its_result() {
    let running = Running::start(None);
    let answer = ask(&running, "POST /api/v1/reload", JSON, "{}");
    assert_eq!((status(&answer), &body(&answer)["result"]), (422, &"rejected".into()));
    assert_eq!(body(&answer)["problems"][0], serde_json::to_value(ProblemReply::default()).unwrap());
    *running.fake.reply.lock().unwrap() =
        ReloadReply::Applied { generation: 4, changes: vec!["c".into()], fixed: vec![], warnings: vec![] };
    let answer = ask(&running, "POST /api/v1/reload", JSON, "");
    assert_eq!(status(&answer), 200);
    assert_eq!(body(&answer), json!({ "result": "applied", "generation": 4, "changes": ["c"], "fixed": [] }));
}

#[test]
fn a_change_needs_a_json_content_type() {
    let running = Running::start(None);
    for kind in ["", "Content-Type: text/plain\r\n", "Content-Type: application/x-www-form-urlencoded\r\n"] {
        assert_eq!(status(&ask(&running, "POST /api/v1/reload", kind, "")), 415, "{kind}");
    }
    assert!(running.fake.asked.lock().unwrap().is_empty());
}

#[test]
fn a_diff_takes_the_document_and_is_bounded() {
    let running = Running::start(None);
    assert_eq!(status(&ask(&running, "POST /api/v1/diff", "Content-Type: application/yaml\r\n", "a: 1")), 422);
    assert_eq!(*running.fake.asked.lock().unwrap(), ["a: 1"]);
    let long =
        format!("POST /api/v1/diff HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", MAX_BODY_BYTES + 1);
    let mut stream = TcpStream::connect(running.address).unwrap();
    stream.write_all(long.as_bytes()).unwrap();
    let mut start = [0; 12];
    stream.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"HTTP/1.1 413");
}

#[test]
fn a_backend_is_found_by_its_encoded_name_and_changed() {
    let running = Running::start(None);
    let path = "/api/v1/upstreams/a/backends/b%20c";
    let shown = body(&ask(&running, &format!("GET {path}"), "", ""));
    assert_eq!(
        (&shown["name"], &shown["state"], &shown["reason"]),
        (&"b c".into(), &"draining".into(), &"by operator".into())
    );
    let put = format!("PUT {path}");
    assert_eq!(status(&ask(&running, &put, "", "{\"state\":\"ready\"}")), 415);
    assert_eq!(status(&ask(&running, &put, JSON, "{\"state\":\"ready\"}")), 200);
    assert_eq!(status(&ask(&running, &put, JSON, "{\"state\":\"up\"}")), 422);
    assert_eq!(status(&ask(&running, &put, JSON, "{\"weight\":300}")), 422);
    let missing = ask(&running, "PUT /api/v1/upstreams/a/backends/x", JSON, "{\"weight\":3}");
    assert_eq!((status(&missing), &body(&missing)["error"]), (404, &"no backend `x`; there is `b c`".into()));
}

#[test]
fn a_question_may_have_several_headers() {
    let running = Running::start(None);
    let request_line = "GET /api/v1/explain?method=PUT&url=http%3A%2F%2Fa%2F&header=a%3A%201&header=b%3A2";
    let answer = ask(&running, request_line, "", "");
    assert_eq!((status(&answer), &body(&answer)["method"]), (200, &"PUT".into()));
    assert!(running.fake.asked.lock().unwrap()[0].contains(r#"headers: ["a: 1", "b:2"]"#));
    assert_eq!(status(&ask(&running, "GET /api/v1/explain", "", "")), 422);
    assert_eq!(status(&ask(&running, "GET /api/v1/explain?url=/&heder=x", "", "")), 422);
}

#[test]
fn a_token_guards_all_but_the_probes() {
    let running = Running::start(Some("secret"));
    for path in ["/", "/metrics", "/api/v1/status", "/api/v1/config", "/nothing"] {
        let line = format!("GET {path}");
        let answer = ask(&running, &line, "", "");
        assert!(status(&answer) == 401 && answer.contains("www-authenticate: Bearer"), "{answer}");
        assert_eq!(status(&ask(&running, &line, "Authorization: Bearer secreT\r\n", "")), 401);
        assert_ne!(status(&ask(&running, &line, "Authorization: Bearer secret\r\n", "")), 401);
    }
    assert_eq!(status(&ask(&running, "POST /api/v1/reload", JSON, "")), 401);
    for path in ["GET /healthz", "GET /readyz"] {
        assert_eq!(status(&ask(&running, path, "", "")), 200);
    }
}

#[test]
fn a_name_rebound_to_loopback_is_refused() {
    let running = Running::start(None);
    for (host, code) in [("evil.example", 403), ("127.0.0.1:1", 200), ("[::1]", 200), ("localhost:9", 200)] {
        assert_eq!(status(&ask(&running, "GET /api/v1/status", &format!("Host: {host}\r\n"), "")), code, "{host}");
    }
    assert_eq!(status(&ask(&running, "GET /healthz", "Host: evil.example\r\n", "")), 200);
}

#[test]
fn a_stop_closes_idle_connections_at_once() {
    let mut running = Running::start(None);
    let mut idle = TcpStream::connect(running.address).unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut some = [0; 16];
    idle.read_exact(&mut some).unwrap();
    let began = Instant::now();
    drop(running.stop.take());
    running.thread.take().unwrap().join().unwrap();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(TcpStream::connect(running.address).is_err());
}

#[test]
fn a_large_scrape_is_complete_although_it_is_sent_in_pieces() {
    let running = Running::start(None);
    let few = ask(&running, "GET /metrics", "", "");
    assert!(few.contains("content-length: "), "{few}");
    let routes: Vec<_> = (0..3000).map(|n| running.fake.metrics.route(&format!("r{n}"))).collect();
    routes.iter().for_each(|route| route.record(&http::Method::GET, 200, Duration::from_millis(1), None));
    let many = ask(&running, "GET /metrics", "", "");
    assert!(many.contains("transfer-encoding: chunked") && many.ends_with("\r\n0\r\n\r\n"), "{:.400}", many);
    // A chunk boundary may be between two lines, but never inside a line.
    let counts = many.lines().filter(|line| line.starts_with("weir_requests_total{route=\"r")).count();
    assert_eq!(counts, routes.len());
    // A client that disconnects during a scrape does not affect later scrapes.
    let mut stream = TcpStream::connect(running.address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    stream.read_exact(&mut [0; 100]).unwrap();
    drop(stream);
    assert_eq!(status(&ask(&running, "GET /metrics", "", "")), 200);
}
