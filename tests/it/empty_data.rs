//! The bytes that a backend gets over HTTP/1 for requests that came over HTTP/2: a body that ends with an empty DATA frame
//! must not end twice, or the next request on the kept connection is misread.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::http2::run;
use crate::support::tls::{Accepted, listen, open};
use crate::support::{PLAIN, WAYS, Way, Weir, delayed, wait_until};

/// What each connection to the backend brought.
type Seen = Arc<Mutex<Vec<Vec<u8>>>>;

/// Answers each request once it has come whole, going by its head alone.
async fn record(mut stream: Accepted, seen: Seen) {
    let mine = {
        let mut all = seen.lock().unwrap();
        all.push(Vec::new());
        all.len() - 1
    };
    let mut answered = 0;
    loop {
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece).await.unwrap_or(0);
        if read == 0 {
            return;
        }
        let whole = {
            let mut all = seen.lock().unwrap();
            all[mine].extend_from_slice(&piece[..read]);
            requests(&all[mine]).0.len()
        };
        while answered < whole {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
            stream.flush().await.unwrap();
            answered += 1;
        }
    }
}

/// Method and body's bytes, framing and all, of each request that is whole; and what follows them.
fn requests(mut bytes: &[u8]) -> (Vec<(String, Vec<u8>)>, &[u8]) {
    let mut requests = Vec::new();
    while let Some(end) = find(bytes, b"\r\n\r\n") {
        let head = String::from_utf8(bytes[..end].to_ascii_lowercase()).unwrap();
        let rest = &bytes[end + 4..];
        let field =
            |name: &str| head.lines().find_map(|line| line.strip_prefix(name).map(|value| value.trim().to_owned()));
        let length = match (field("content-length:"), field("transfer-encoding:")) {
            (Some(length), None) => Some(length.parse().unwrap()),
            (None, Some(_)) => find(rest, b"0\r\n\r\n").map(|at| at + 5),
            (None, None) => Some(0),
            both => panic!("{both:?}"),
        };
        let Some(length) = length.filter(|length| *length <= rest.len()) else { break };
        requests.push((head.split(' ').next().unwrap().to_owned(), rest[..length].to_vec()));
        bytes = &rest[length..];
    }
    (requests, bytes)
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn weir(way: Way, seen: &Seen) -> Weir {
    let (folder, certificate) = way.files();
    let seen = Arc::clone(seen);
    let backend = listen(certificate.as_ref(), "http/1.1", move |stream| record(stream, Arc::clone(&seen)));
    Weir::start_in(folder, way.config(backend).set("server.threads", 1))
}

/// A request's method, its fields, its DATA frames, whether trailers end it, and what the backend must get for a body.
type Case = (&'static str, &'static [(&'static str, &'static str)], &'static [&'static str], bool, &'static str);

const CASES: [Case; 9] = [
    ("POST", &[], &["hello", ""], false, "5\r\nhello\r\n0\r\n\r\n"),
    ("POST", &[], &["hello"], false, "5\r\nhello\r\n0\r\n\r\n"),
    ("POST", &[], &[""], false, "0\r\n\r\n"),
    ("POST", &[], &["a", "", "b", ""], false, "1\r\na\r\n1\r\nb\r\n0\r\n\r\n"),
    ("POST", &[("content-length", "5")], &["hello", ""], false, "hello"),
    ("POST", &[("content-length", "0")], &[""], false, ""),
    ("POST", &[], &["hello"], true, "5\r\nhello\r\n0\r\n\r\n"),
    ("POST", &[], &[], true, "0\r\n\r\n"),
    ("GET", &[], &[""], false, "0\r\n\r\n"),
];

async fn ask(sender: &mut h2::client::SendRequest<Bytes>, case: &Case) {
    let (method, fields, pieces, trailers, _) = case;
    let mut request = Request::builder().method(*method).uri("https://example.org/");
    for (name, value) in *fields {
        request = request.header(*name, *value);
    }
    *sender = sender.clone().ready().await.unwrap();
    let (response, mut out) = sender.send_request(request.body(()).unwrap(), false).unwrap();
    for (at, piece) in pieces.iter().enumerate() {
        // Each in a packet of its own, as they would be read together otherwise.
        delayed(std::time::Duration::from_millis(5)).await;
        // Where a length says that nothing will come the answer may be faster.
        let _ = out.send_data(Bytes::from_static(piece.as_bytes()), !trailers && at + 1 == pieces.len());
    }
    if *trailers {
        let mut fields = http::HeaderMap::new();
        fields.insert("x-trailer", "1".parse().unwrap());
        out.send_trailers(fields).unwrap();
    }
    let response = response.await.unwrap();
    assert_eq!(response.status(), 200, "{case:?}");
    let mut body = response.into_body();
    while let Some(piece) = body.data().await {
        body.flow_control().release_capacity(piece.unwrap().len()).unwrap();
    }
}

#[test]
fn a_body_ends_once_whatever_frame_ends_it() {
    for way in WAYS {
        let seen = Seen::default();
        let weir = weir(way, &seen);
        run(async {
            let stream = open(weir.web(), way.client.then_some("h2")).await;
            let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            for case in &CASES {
                ask(&mut sender, case).await;
                // Then the backend's connection is kept again.
                wait_until("it is over", || weir.sum(&["weir_requests_in_flight"]) == 0.0).await;
            }
        });
        let seen = seen.lock().unwrap();
        assert_eq!(seen.len(), 1, "one connection served them all");
        let (requests, left) = requests(&seen[0]);
        assert_eq!(String::from_utf8_lossy(left), "", "{way:?}: what belongs to no request");
        assert_eq!(requests.len(), CASES.len());
        for ((method, body), case) in requests.iter().zip(&CASES) {
            assert_eq!(method, &case.0.to_lowercase());
            // Frames may have been put together on their way; what counts is the end.
            assert_eq!(unchunked(body), unchunked(case.4.as_bytes()), "{way:?} {case:?}");
        }
    }
}

/// The first connection ends when a request has come whole. The others answer.
async fn break_once(mut stream: Accepted, seen: Seen) {
    let is_first = seen.lock().unwrap().is_empty();
    if !is_first {
        return record(stream, seen).await;
    }
    seen.lock().unwrap().push(Vec::new());
    let mut bytes = Vec::new();
    while requests(&bytes).0.is_empty() {
        if !matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {
            return;
        }
    }
}

#[test]
fn a_body_that_ends_without_data_also_ends_when_it_is_sent_again() {
    for (pieces, trailers) in [(&[][..], true), (&[""][..], false)] {
        let seen = Seen::default();
        let backend = {
            let seen = Arc::clone(&seen);
            listen(None, "http/1.1", move |stream| break_once(stream, Arc::clone(&seen)))
        };
        let (folder, _) = PLAIN.files();
        let weir = Weir::start_in(folder, PLAIN.config(backend).set("upstreams.up.outlier", "off"));
        run(async {
            let stream = open(weir.web(), None).await;
            let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            ask(&mut sender, &("PUT", &[], pieces, trailers, "")).await;
        });
        assert_eq!(seen.lock().unwrap().len(), 2, "the request was sent again");
        weir.wait_for(&["weir_requests_in_flight"], 0.0);
    }
}

/// The sizes of chunks taken out, their ends kept.
fn unchunked(body: &[u8]) -> String {
    let text = String::from_utf8(body.to_vec()).unwrap();
    let Some(chunks) = text.strip_suffix("0\r\n\r\n") else { return text };
    let mut whole: String = chunks.split("\r\n").skip(1).step_by(2).collect();
    whole.push_str("(end)");
    whole
}
