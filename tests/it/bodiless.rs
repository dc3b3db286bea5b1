//! Responses that have no body, and bodies that only the end of the connection ends.

use bytes::Bytes;
use http::Request;

use crate::support::http2::run;
use crate::support::tls::open;
use crate::support::{Client, Config, EDGE, KINDS, Kind, LISTENER_TLS, Weir, exchange, spare};

#[test]
fn a_1_0_client_gets_no_chunks_from_any_backend() {
    for kind in KINDS {
        let weir = kind.weir("");
        for connection in ["", "Connection: keep-alive\r\n"] {
            let answer = exchange(weir.web(), format!("GET /unsized HTTP/1.0\r\n{connection}{}\r\n", kind.field()));
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert_eq!(body, "abcdef", "{kind:?}");
            let head = head.to_lowercase();
            assert!(head.starts_with("http/1.1 200") && head.contains("connection: close"), "{kind:?} {head}");
            assert!(!head.contains("transfer-encoding") && head.matches("via:").count() == 1, "{kind:?} {head}");
            // With a length there is no need for any of this.
            let sized = exchange(weir.web(), "POST /slow HTTP/1.0\r\nContent-Length: 0\r\n\r\n");
            assert!(sized.ends_with("\r\n\r\nfirst-then-last"), "{kind:?} {sized}");
        }
        let line = weir.access_log_of(1).remove(0);
        assert_eq!((&line["status"], &line["bytes_out"]), (&200.into(), &6.into()), "{line}");
        assert_eq!(Client::connect(weir.web()).get("/unsized").text(), "abcdef", "{kind:?}");
    }
}

fn refusing() -> Weir {
    let config = Config::new()
        .set("listeners.web.limits.headers", 20)
        .listener("secure", LISTENER_TLS)
        .listener("sent", "redirect_https: true")
        .route("fixed", "match: { path: /fixed }, respond: { status: 200, body: some text }")
        .route("moved", "match: { path: /moved }, redirect: { to: \"/fixed\", status: 308 }")
        .route("dead", "match: { path: /dead }, upstream: dead")
        .upstream("dead", &[("dead", spare())]);
    Weir::start_in(EDGE.files().0, config)
}

/// A HEAD request over HTTP/2: its status, its length, and what came of a body, in frames.
async fn head(weir: &Weir, listener: &str, uri: &str, fields: usize) -> (u16, Option<usize>, usize) {
    let stream = open(weir.address(listener), (listener == "secure").then_some("h2")).await;
    let (sender, connection) = h2::client::Builder::new().handshake::<_, Bytes>(stream).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::head(uri);
    for at in 0..fields {
        request = request.header(format!("x-{at}"), "1");
    }
    let mut sender = sender.ready().await.unwrap();
    let response = sender.send_request(request.body(()).unwrap(), true).unwrap().0.await.unwrap();
    let length = response.headers().get("content-length").map(|length| length.to_str().unwrap().parse().unwrap());
    let (status, mut body) = (response.status().as_u16(), response.into_body());
    let mut frames = usize::from(!body.is_end_stream());
    while let Some(piece) = body.data().await {
        frames += 1 + piece.unwrap().len();
    }
    (status, length, frames)
}

#[test]
fn head_over_http2_that_weir_answers_itself_gets_a_header_alone() {
    let weir = refusing();
    run(async {
        for (listener, uri, fields, status) in [
            ("web", "http://example.org/nowhere", 0, 404),
            ("web", "http://example.org/fixed", 0, 200),
            ("web", "http://example.org/moved", 0, 308),
            ("web", "http://example.org/dead", 0, 502),
            ("web", "http://example.org/fixed", 30, 431),
            ("secure", "https://elsewhere.test/fixed", 0, 421),
            ("sent", "http://example.org/fixed", 0, 308),
        ] {
            let (got, length, frames) = head(&weir, listener, uri, fields).await;
            assert_eq!((got, frames), (status, 0), "{listener} {uri}");
            assert!(length.is_none_or(|length| status == 308 || length > 0), "{listener} {uri}: {length:?}");
        }
    });
}

#[test]
fn head_that_weir_answers_itself_gets_a_header_alone_and_the_connection_goes_on() {
    let weir = refusing();
    let mut client = Client::connect(weir.web());
    for (path, status) in [("/nowhere", 404), ("/fixed", 200), ("/moved", 308), ("/dead", 502)] {
        client.send(format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(client.response("HEAD").status, status);
    }
}

#[test]
fn head_that_is_refused_at_the_listener_gets_a_header_alone() {
    let weir = refusing();
    for (head, status) in [
        ("HEAD /a b HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
        ("HEAD / HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("HEAD / HTTP/3.0\r\nHost: a\r\n\r\n".to_owned(), 505),
        (format!("HEAD /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(9_000)), 414),
        (format!("HEAD / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(30)), 431),
        ("HEAD / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n".to_owned(), 501),
    ] {
        let answer = exchange(weir.web(), &head);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head}: {answer}");
        assert!(answer.ends_with("\r\n\r\n") && answer.matches("\r\n\r\n").count() == 1, "{head}: {answer}");
        assert!(!answer.contains("Content-Length: 0\r\n"), "{head}: {answer}");
    }
}

#[test]
fn head_whose_time_is_over_gets_a_header_alone() {
    let weir = Kind::Own.weir_with("timeouts: { body: 300ms }", "");
    let answer = exchange(weir.web(), "HEAD /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.ends_with("\r\n\r\n"), "{answer}");
}
