//! How long a backend keeps a connection idle, by its own word (`Keep-Alive: timeout=3`): Weir uses it for a second less.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::grpc::{Caller, Server, message};
use crate::support::http2::{connect, rest, run};
use crate::support::tls::{Accepted, listen};
use crate::support::{Client, Config, Origin, Reply, Way, Weir, eventually, stays};

const LENGTH: &str = "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=TIME, max=100\r\nContent-Length: 2\r\n\r\nok";
const CHUNKED: &str =
    "HTTP/1.1 200 OK\r\nkeep-alive: max=9, Timeout=TIME\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";

/// Answers each request of a connection so; its body is `x`.
async fn answer(mut stream: Accepted, reply: String) {
    let mut inbox = Vec::new();
    while stream.read_buf(&mut inbox).await.is_ok_and(|read| read > 0) {
        if !inbox.ends_with(b"\r\n\r\nx") {
            continue;
        }
        inbox.clear();
        if stream.write_all(reply.as_bytes()).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

/// A backend in plain or under TLS that counts its connections, and Weir before it.
fn start(tls: bool, reply: &str) -> (Arc<AtomicUsize>, Weir) {
    let way = Way { client: false, backend: tls };
    let (folder, certificate) = way.files();
    let connections = Arc::new(AtomicUsize::new(0));
    let (count, reply) = (Arc::clone(&connections), reply.to_owned());
    let address = listen(certificate.as_ref(), "http/1.1", move |stream| {
        count.fetch_add(1, Ordering::AcqRel);
        answer(stream, reply.clone())
    });
    let config = way.config(address).set("server.threads", 1);
    (connections, Weir::start_in(folder, config))
}

#[test]
fn a_connection_is_used_for_a_second_less_than_its_backend_keeps_it() {
    for (tls, reply) in [(false, LENGTH), (false, CHUNKED), (true, LENGTH), (true, CHUNKED)] {
        let (connections, weir) = start(tls, &reply.replace("TIME", "2"));
        let mut client = Client::connect(weir.web());
        assert!((0..3).all(|_| client.post("/", b"x").text() == "ok"));
        assert_eq!(connections.load(Ordering::Acquire), 1, "tls {tls}: it is used at once");
        // The backend's two seconds minus one.
        let is_one = || connections.load(Ordering::Acquire) == 1;
        stays("one connection, without a request", Duration::from_millis(1_050), is_one);
        assert_eq!(client.post("/", b"x").text(), "ok");
        assert_eq!(connections.load(Ordering::Acquire), 2, "tls {tls}: and not after a second");
        assert_eq!(weir.sum(&["weir_faults_total"]), 0.0);
    }
}

#[test]
fn a_connection_that_its_backend_keeps_for_a_second_or_less_is_not_used_again() {
    for tls in [false, true] {
        for time in ["1", "0"] {
            let (connections, weir) = start(tls, &LENGTH.replace("TIME", time));
            let mut client = Client::connect(weir.web());
            assert!((0..3).all(|_| client.post("/", b"x").text() == "ok"));
            assert_eq!(connections.load(Ordering::Acquire), 3, "tls {tls}, timeout={time}");
            let text = String::from_utf8(weir.admin_get("/metrics").body).unwrap();
            assert!(!text.contains("weir_faults_total{"), "{text}");
        }
    }
}

#[test]
fn a_timeout_that_is_longer_than_ours_changes_nothing() {
    for tls in [false, true] {
        let (connections, weir) = start(tls, &LENGTH.replace("TIME", "3600"));
        let mut client = Client::connect(weir.web());
        assert!((0..3).all(|_| client.post("/", b"x").text() == "ok"));
        assert_eq!(connections.load(Ordering::Acquire), 1);
    }
}

/// The `trailer` field of the answer to an HTTP/2 client, and the trailer `x-sum`.
fn announced(weir: &Weir, path: &str) -> (Option<String>, Option<String>) {
    run(async {
        let mut client = Caller::connect(weir.web(), false).await;
        let (response, mut out) = client.call(path).await;
        out.send_data(message(b"x"), true).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
        let value = response.headers().get("trailer").map(text);
        let mut body = response.into_body();
        rest(&mut body).await;
        (value, body.trailers().await.unwrap().and_then(|trailers| trailers.get("x-sum").map(text)))
    })
}

#[test]
fn trailers_that_are_dropped_are_not_announced_and_those_that_pass_are() {
    let http1 = Origin::start(|_| {
        let head = "HTTP/1.1 200 OK\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n";
        Reply::raw(format!("{head}2\r\nok\r\n0\r\nx-sum: 1\r\n\r\n"))
    });
    let http2 = Server::start();
    let weir = |protocol: &str, address: &str| Weir::start(Config::to(address).set("upstreams.up.protocol", protocol));
    let before_http1 = weir("http1", &http1.address().to_string());
    let passed = (Some("x-sum".to_owned()), Some("1".to_owned()));
    assert_eq!(announced(&before_http1, "/"), passed, "an HTTP/2 client of an HTTP/1 backend");
    assert_eq!(Client::connect(before_http1.web()).get("/").header("trailer"), None);
    let before_http2 = weir("h2c", &http2.address.to_string());
    assert_eq!(announced(&before_http2, "/announces").0.as_deref(), Some("x-sum"), "they pass");
    assert_eq!(Client::connect(before_http2.web()).get("/announces").header("trailer"), None);
}

#[test]
fn trailers_of_requests_are_not_announced_to_backends() {
    let http1 = Origin::named("a");
    let http2 = Server::start();
    for (protocol, address) in [("http1", http1.address()), ("h2c", http2.address)] {
        let weir = Weir::start(Config::to(address).set("upstreams.up.protocol", protocol));
        let heard = run(async {
            let mut sender = connect(weir.web()).await;
            let request = http::Request::builder().method("POST").uri("http://example.org/fails");
            let request = request.header("trailer", "x-sum").body(()).unwrap();
            let (response, mut out) = sender.send_request(request, false).unwrap();
            out.send_data("x".into(), false).unwrap();
            let mut trailers = http::HeaderMap::new();
            trailers.insert("x-sum", "1".parse().unwrap());
            out.send_trailers(trailers).unwrap();
            let response = response.await.unwrap();
            assert_eq!(response.status(), 200, "{protocol}");
            response.headers().get("x-trailer").map(|value| value.to_str().unwrap().to_owned())
        });
        match protocol {
            "h2c" => assert_eq!(heard.as_deref(), Some("")),
            _ => eventually("the request", || {
                let request = http1.requests().into_iter().next()?;
                assert_eq!(request.header("trailer"), None);
                Some(())
            }),
        }
    }
}
