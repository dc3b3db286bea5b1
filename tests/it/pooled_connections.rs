//! Connections to backends between requests: used again whenever that is safe, closed when they are old or not.

use std::io::{Read, Write};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::support::{Client, Config, Origin, Reply, Weir, delay};

fn config(origin: &Origin) -> Config {
    Config::to(origin).set("server.threads", 1).set("routes.all.timeouts.read", "1s")
}

#[test]
fn one_connection_serves_every_kind_of_answer() {
    let origin = Origin::start(|request| match request.target.as_str() {
        "/chunked" => Reply::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
        "/empty" => Reply::new(200, ""),
        "/204" => Reply::raw("HTTP/1.1 204 No Content\r\n\r\n"),
        "/304" => Reply::raw("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
        "/500" => Reply::new(500, "sorry"),
        "/large" => Reply::new(200, vec![b'x'; 300_000]),
        _ => Reply::new(200, &request.body),
    });
    let weir = Weir::start(config(&origin));
    let mut client = Client::connect(weir.web());
    for path in ["/", "/chunked", "/empty", "/204", "/304", "/500", "/large"] {
        client.get(path);
        client.post("/", &vec![b'y'; 100_000]);
    }
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response("HEAD").status, 200);
    client.get("/");
    assert_eq!(origin.connections(), 1);
    let log = weir.access_log_of(16);
    assert!(log[1..].iter().all(|line| line["attempts"][0]["reused"] == true), "{log:?}");
}

#[test]
fn a_response_before_the_end_of_its_request_ends_the_reuse_of_the_connection() {
    let origin = Origin::raw(|mut stream| {
        let mut bin = [0; 4096];
        while stream.read(&mut bin).is_ok_and(|n| n > 0) {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let weir = Weir::start(config(&origin));
    for _ in 0..3 {
        let mut early = Client::connect(weir.web());
        early.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345");
        assert_eq!(early.response("POST").text(), "ok");
        drop(early);
        assert_eq!(Client::connect(weir.web()).get("/").text(), "ok");
    }
}

#[test]
fn a_slow_upload_does_not_count_as_a_read_timeout_of_the_backend() {
    let origin = Origin::start(|request| Reply::new(200, request.body.len().to_string()));
    let weir = Weir::start(config(&origin));
    let mut client = Client::connect(weir.web());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n");
    let began = Instant::now();
    for _ in 0..10 {
        // The client is slow on purpose: more than `timeouts.read` in all, less from piece to piece.
        delay(Duration::from_millis(200));
        client.send("x");
    }
    assert!(began.elapsed() > Duration::from_secs(1));
    assert_eq!(client.response("POST").text(), "10");
}

#[test]
fn an_unused_pooled_connection_is_closed_after_keep_alive() {
    let (closed, when) = mpsc::channel();
    let origin = Origin::raw(move |mut stream| {
        let mut bin = [0; 4096];
        let _ = stream.read(&mut bin);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        let _ = stream.read(&mut bin);
        let _ = closed.send(());
    });
    let weir = Weir::start(config(&origin).set("upstreams.up.keep_alive", "1s"));
    assert_eq!(Client::connect(weir.web()).get("/").text(), "ok");
    when.recv_timeout(Duration::from_secs(20)).unwrap();
}

#[test]
fn pooled_connections_of_a_removed_backend_are_closed_and_those_of_others_are_not() {
    let other = Origin::named("other");
    let (closed, when) = mpsc::channel();
    let origin = Origin::raw(move |mut stream| {
        let mut bin = [0; 4096];
        while stream.read(&mut bin).is_ok_and(|n| n > 0) {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
        let _ = closed.send(());
    });
    let stays = Config::to_all(&[("stays", &other)]).set("server.threads", 1).set("upstreams.up.keep_alive", "10m");
    let weir = Weir::start(stays.clone().backend("up.leaves", &origin, ""));
    let mut client = Client::connect(weir.web());
    let answers = [client.get("/").text(), client.get("/").text()];
    assert!(answers.contains(&"ok".to_owned()) && answers.contains(&"other".to_owned()), "{answers:?}");
    assert!(weir.reload(stays));
    when.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(client.get("/").text(), "other");
    assert_eq!(other.connections(), 1);
}

#[test]
fn a_received_body_is_sent_with_its_header_and_a_later_one_does_not_delay_it() {
    let (got, pieces) = mpsc::channel();
    let origin = Origin::raw(move |mut stream| {
        let mut piece = [0; 4096];
        while let Ok(length @ 1..) = stream.read(&mut piece) {
            let text = String::from_utf8_lossy(&piece[..length]).into_owned();
            if text.ends_with("12345") {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            }
            let _ = got.send(text);
        }
    });
    let weir = Weir::start(config(&origin));
    let next = || pieces.recv_timeout(Duration::from_secs(20)).unwrap();
    let mut client = Client::connect(weir.web());
    for more in ["", "Connection: Upgrade\r\nUpgrade: other\r\n"] {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n{more}\r\n");
        client.send(format!("{head}12345"));
        let together = next();
        assert!(together.starts_with("POST / ") && together.ends_with("\r\n\r\n12345"), "{together}");
        assert_eq!(client.response("POST").text(), "ok");
        client.send(head);
        assert!(next().ends_with("\r\n\r\n"));
        client.send("12345");
        assert_eq!(next(), "12345");
        assert_eq!(client.response("POST").text(), "ok");
    }
    assert_eq!(origin.connections(), 1);
}
