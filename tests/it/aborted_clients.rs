//! A client that leaves is never an error of the backend, whenever it leaves: the backend's counts, states and log lines
//! stay as they were.

use std::io::{Read, Write};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::Request;

use crate::support::http2::{connect, next, run};
use crate::support::{Client, Config, KINDS, Kind, Origin, Reply, Weir, wait_until};

/// Waits for so many requests to end and asserts that no error of the backend was counted, shown or logged.
fn no_error_of_the_backend(weir: &Weir, requests: usize, case: &str) {
    let log = weir.access_log_of(requests);
    weir.wait_for(&["weir_backend_in_flight"], 0.0);
    for line in &log {
        assert_eq!(
            (&line["fault"], &line["attempts"][0]["error"]),
            (&"client_abort".into(), &().into()),
            "{case}: {line}"
        );
    }
    let backend = weir.status()["upstreams"][0]["backends"][0].clone();
    assert_eq!((&backend["errors_last_minute"], &backend["last_error"]), (&0.into(), &().into()), "{case}: {backend}");
    assert_eq!(weir.sum(&["weir_backend_errors_total"]), 0.0, "{case}");
    let aborted = weir.sum(&["weir_backend_attempts_total", "outcome=\"client_abort\""]);
    assert_eq!(aborted, requests as f64, "{case}");
    let all = weir.sum(&["weir_backend_attempts_total"]);
    assert_eq!(all, requests as f64, "{case}: no attempt ended in another way");
    assert!(!weir.stderr().contains(" WARN "), "{case}: {}", weir.stderr());
}

/// Waits until so many attempts are at the backend.
fn in_flight(weir: &Weir, count: f64) {
    weir.wait_for(&["weir_backend_in_flight"], count);
}

/// Begins a request by this text.
fn begun(weir: &Weir, text: &str) -> Client {
    let mut client = Client::connect(weir.web());
    client.send(text);
    client
}

fn get(path: &str, kind: Kind) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n{}\r\n", kind.field())
}

#[test]
fn a_client_that_leaves_during_its_upload_is_no_error_of_the_backend() {
    for kind in KINDS {
        let weir = kind.weir("");
        let head = format!("POST /echo HTTP/1.1\r\nHost: a\r\n{}", kind.field());
        // Longer than what is read before a backend is picked.
        let sized = format!("{head}Content-Length: 200000\r\n\r\n{}", "x".repeat(100_000));
        let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n");
        let clients = [begun(&weir, &sized), begun(&weir, &chunked)];
        in_flight(&weir, 2.0);
        drop(clients);
        no_error_of_the_backend(&weir, 2, &format!("{kind:?}"));
    }
}

#[test]
fn a_client_that_leaves_before_or_during_its_response_is_no_error_of_the_backend() {
    // A client that closes while nothing is sent to it is noticed after some seconds: all kinds wait together.
    let left = KINDS.map(|kind| {
        let weir = kind.weir("");
        let waits = begun(&weir, &get("/hold", kind));
        let mut reads = begun(&weir, &get("/begin", kind));
        assert!(reads.until(b"first").is_some());
        in_flight(&weir, 2.0);
        drop((waits, reads));
        (kind, weir)
    });
    left.iter().for_each(|(kind, weir)| no_error_of_the_backend(weir, 2, &format!("{kind:?}")));
}

#[test]
fn a_client_that_leaves_with_a_large_response_half_read_is_no_error_of_the_backend() {
    let origin = Origin::start(|_| Reply::new(200, vec![b'x'; 32 << 20]));
    for field in ["", "TE: trailers\r\n"] {
        let weir = Weir::start(Config::to(&origin));
        let mut client = begun(&weir, &format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n"));
        assert!(client.until(b"xxxx").is_some());
        // Unread bytes: the kernel sends RST, and Weir's write fails.
        drop(client);
        no_error_of_the_backend(&weir, 1, field);
    }
}

#[test]
fn a_reset_stream_of_http2_is_no_error_of_the_backend() {
    for kind in KINDS {
        for reason in [Reason::CANCEL, Reason::INTERNAL_ERROR] {
            let weir = kind.weir("");
            run(async {
                let mut client = connect(weir.web()).await;
                let te = if kind == Kind::Own { "" } else { "trailers" };
                let request = |method: &str, path: &str| {
                    let request = Request::builder().method(method).uri(format!("http://a{path}"));
                    if te.is_empty() { request } else { request.header("te", te) }.body(()).unwrap()
                };
                let (_upload, mut uploads) = client.send_request(request("POST", "/echo"), false).unwrap();
                uploads.send_data(Bytes::from_static(b"half"), false).unwrap();
                let (_hold, mut waits) = client.send_request(request("GET", "/hold"), true).unwrap();
                let (response, mut reads) = client.send_request(request("GET", "/begin"), true).unwrap();
                let mut body = response.await.unwrap().into_body();
                assert!(next(&mut body).await.is_some());
                wait_until("all in flight", || weir.sum(&["weir_backend_in_flight"]) == 3.0).await;
                [&mut uploads, &mut waits, &mut reads].into_iter().for_each(|stream| stream.send_reset(reason));
                wait_until("none in flight", || weir.sum(&["weir_backend_in_flight"]) == 0.0).await;
            });
            no_error_of_the_backend(&weir, 3, &format!("{kind:?} {reason:?}"));
        }
    }
}

#[test]
fn a_connection_of_http2_that_ends_is_no_error_of_the_backend() {
    for kind in KINDS {
        let weir = kind.weir("");
        run(async {
            let mut client = connect(weir.web()).await;
            for path in ["/hold", "/begin"] {
                let request = Request::get(format!("http://a{path}")).body(()).unwrap();
                let (response, _) = client.send_request(request, true).unwrap();
                tokio::spawn(async {
                    let _held = response.await;
                    std::future::pending::<()>().await;
                });
            }
            wait_until("both in flight", || weir.sum(&["weir_backend_in_flight"]) == 2.0).await;
        });
        // The runtime is gone, and the connection with it.
        no_error_of_the_backend(&weir, 2, &format!("{kind:?}"));
    }
}

#[test]
fn a_client_that_leaves_its_websocket_is_no_error_of_the_backend() {
    let origin = Origin::raw(|mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nfirst");
        while matches!(stream.read(&mut [0; 4096]), Ok(1..)) {}
    });
    for linger in [None, Some(Duration::ZERO)] {
        let weir = Weir::start(Config::to(&origin));
        let mut stream = std::net::TcpStream::connect(weir.web()).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n").unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"first") {
            let mut piece = [0; 1024];
            let read = stream.read(&mut piece).unwrap();
            head.extend_from_slice(&piece[..read]);
        }
        // With a linger of zero the kernel sends RST.
        socket2::SockRef::from(&stream).set_linger(linger).unwrap();
        drop(stream);
        weir.access_log_of(1);
        weir.wait_for(&["weir_backend_in_flight"], 0.0);
        let backend = weir.status()["upstreams"][0]["backends"][0].clone();
        assert_eq!((&backend["errors_last_minute"], &backend["last_error"]), (&0.into(), &().into()), "{backend}");
        assert_eq!(weir.sum(&["weir_backend_errors_total"]), 0.0, "{linger:?}");
        assert!(!weir.stderr().contains(" WARN "), "{}", weir.stderr());
    }
}
