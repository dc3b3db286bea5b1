//! Exchanges with HTTP/2 backends in which both directions are busy at the same time, or one of them is blocked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::http2::{next, rest, run, send_all};
use crate::support::tls::{Accepted, Socket, listen, open};
use crate::support::{DEADLINE, PLAIN, THROUGHOUT, WAYS, Way, Weir, delayed, eventually, size};

/// One exchange of a test's backend.
type Handled = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;
type Handler = fn(Request<RecvStream>, SendResponse<Bytes>, Arc<State>) -> Handled;

/// The state of a backend that its test looks at.
#[derive(Default)]
struct State {
    sent: AtomicUsize,
    blocked: AtomicBool,
}

async fn serve(stream: Accepted, handler: Handler, state: Arc<State>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(handler(request, respond, Arc::clone(&state)));
    }
}

/// Weir before a backend that handles each exchange so.
fn before(way: Way, handler: Handler) -> (Weir, Arc<State>) {
    let (folder, certificate) = way.files();
    let state = Arc::new(State::default());
    let backends = Arc::clone(&state);
    let address = listen(certificate.as_ref(), "h2", move |stream| serve(stream, handler, Arc::clone(&backends)));
    let protocol = if way.backend { "h2" } else { "h2c" };
    (Weir::start_in(folder, way.config(address).set("upstreams.up.protocol", protocol)), state)
}

async fn http1(way: Way, weir: &Weir) -> Socket {
    open(weir.web(), way.client.then_some("http/1.1")).await
}

async fn http2(way: Way, weir: &Weir) -> SendRequest<Bytes> {
    let stream = open(weir.web(), way.client.then_some("h2")).await;
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender.ready().await.unwrap()
}

/// A body whose bytes depend on their position.
fn pattern(length: usize) -> Bytes {
    let period: Vec<u8> = (0..251).collect();
    period.iter().copied().cycle().take(length).collect::<Vec<_>>().into()
}

fn post(path: &str) -> Request<()> {
    Request::post(format!("http://example.org{path}")).body(()).unwrap()
}

/// Reads a header of HTTP/1 with its empty line.
async fn read_header(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// Answers with 413 after a while and reads nothing of the body. In the path: whether the stream is reset as well.
fn too_large(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, _state: Arc<State>) -> Handled {
    Box::pin(async move {
        delayed(Duration::from_millis(200)).await;
        let response = Response::builder().status(413).body(()).unwrap();
        let mut out = respond.send_response(response, false).unwrap();
        out.send_data(Bytes::from_static(b"too large"), true).unwrap();
        if request.uri().path() == "/reset" {
            // h2 sends RST_STREAM with NO_ERROR for a body that its owner drops.
            drop(request);
            return;
        }
        std::future::pending::<()>().await;
        drop((request, out));
    })
}

async fn large_post_over_http1(way: Way, weir: &Weir, path: &str) {
    let (mut reader, mut writer) = tokio::io::split(http1(way, weir).await);
    let head = format!("POST {path} HTTP/1.1\r\nHost: example.org\r\nContent-Length: 30000000\r\n\r\n");
    writer.write_all(head.as_bytes()).await.unwrap();
    let upload = tokio::spawn(async move { while writer.write_all(&[7; 65_536]).await.is_ok() {} });
    let head = read_header(&mut reader).await;
    assert!(head.starts_with("HTTP/1.1 413"), "{head}");
    let mut body = Vec::new();
    while !body.ends_with(b"\r\n0\r\n\r\n") {
        body.push(reader.read_u8().await.unwrap());
    }
    upload.abort();
}

async fn large_post_over_http2(way: Way, weir: &Weir, path: &str) {
    let mut sender = http2(way, weir).await;
    let (response, mut out) = sender.send_request(post(path), false).unwrap();
    let upload = tokio::spawn(async move {
        loop {
            out.reserve_capacity(16_384);
            let Some(Ok(room)) = std::future::poll_fn(|cx| out.poll_capacity(cx)).await else { return };
            if out.send_data(vec![7; room.min(16_384)].into(), false).is_err() {
                return;
            }
        }
    });
    let mut response = response.await.unwrap();
    assert_eq!(response.status(), 413);
    assert_eq!(rest(response.body_mut()).await, b"too large");
    upload.abort();
}

/// Answers one request with 413 as soon as its header has come, and breaks the connection.
async fn answer_and_break(stream: Accepted) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    let Some(Ok((request, mut respond))) = connection.accept().await else { return };
    let response = Response::builder().status(413).header("content-length", "9").body(()).unwrap();
    let mut out = respond.send_response(response, false).unwrap();
    out.send_data(Bytes::from_static(b"too large"), true).unwrap();
    // The connection sends the frames while it waits for another request.
    let _ = tokio::time::timeout(Duration::from_millis(20), connection.accept()).await;
    drop((connection, request, out));
}

#[test]
fn an_early_response_of_known_length_is_whole_although_the_connection_breaks_after_it() {
    for way in WAYS {
        for http2 in [false, true] {
            let (folder, certificate) = way.files();
            let address = listen(certificate.as_ref(), "h2", answer_and_break);
            let protocol = if way.backend { "h2" } else { "h2c" };
            let config = way.config(address).set("upstreams.up", format!("protocol: {protocol}, outlier: off"));
            // Each Weir has one request, so no request meets a pooled connection that breaks.
            let weir = Weir::start_in(folder, config);
            run(async {
                let request = post("/");
                let (body, status) = match http2 {
                    false => early_over_http1(way, &weir).await,
                    true => early_over_http2(way, &weir, request).await,
                };
                assert_eq!((status.as_str(), body.as_slice()), ("413", &b"too large"[..]), "{way:?} h2 {http2}");
            });
            weir.wait_for(&["weir_backend_in_flight"], 0.0);
            let line = weir.access_log_of(1).remove(0);
            assert_eq!((&line["status"], &line["fault"]), (&413.into(), &serde_json::Value::Null), "{line}");
        }
    }
}

async fn early_over_http1(way: Way, weir: &Weir) -> (Vec<u8>, String) {
    let (mut reader, mut writer) = tokio::io::split(http1(way, weir).await);
    writer.write_all(b"POST / HTTP/1.1\r\nHost: example.org\r\nContent-Length: 30000000\r\n\r\n").await.unwrap();
    let upload = tokio::spawn(async move { while writer.write_all(&[7; 65_536]).await.is_ok() {} });
    let head = read_header(&mut reader).await;
    let mut body = vec![0; 9];
    reader.read_exact(&mut body).await.unwrap();
    upload.abort();
    (body, head[9..12].to_owned())
}

async fn early_over_http2(way: Way, weir: &Weir, request: Request<()>) -> (Vec<u8>, String) {
    let mut sender = http2(way, weir).await;
    let (response, mut out) = sender.send_request(request, false).unwrap();
    out.send_data(vec![7; 16_384].into(), false).unwrap();
    let mut response = response.await.unwrap();
    let body = rest(response.body_mut()).await;
    (body.to_vec(), response.status().as_str().to_owned())
}

#[test]
fn an_early_413_arrives_at_once_while_the_request_body_is_blocked() {
    for way in WAYS {
        let (weir, _) = before(way, too_large);
        run(async {
            for path in ["/", "/reset"] {
                for http2 in [false, true] {
                    let began = Instant::now();
                    match http2 {
                        false => large_post_over_http1(way, &weir, path).await,
                        true => large_post_over_http2(way, &weir, path).await,
                    }
                    assert!(began.elapsed() < Duration::from_secs(5), "{way:?} {path} h2 {http2}");
                }
            }
        });
        weir.wait_for(&["weir_backend_in_flight"], 0.0);
        for line in weir.access_log_of(4) {
            assert_eq!((&line["status"], &line["fault"]), (&413.into(), &serde_json::Value::Null), "{line}");
        }
        assert_eq!(weir.sum(&["weir_faults_total"]), 0.0);
    }
}

/// Sends the request body back as it comes, and then its trailers, if it has any.
fn echo(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, _state: Arc<State>) -> Handled {
    Box::pin(async move {
        let mut body = request.into_body();
        let mut out = respond.send_response(Response::new(()), false).unwrap();
        while let Some(Ok(piece)) = body.data().await {
            let length = piece.len();
            send_all(&mut out, piece, false).await;
            let _ = body.flow_control().release_capacity(length);
        }
        let _ = out.send_data(Bytes::new(), true);
    })
}

async fn echo_over_http1(way: Way, weir: &Weir, body: Bytes) {
    let (mut reader, mut writer) = tokio::io::split(http1(way, weir).await);
    let length = body.len();
    let upload = body.clone();
    let sends = tokio::spawn(async move {
        let head = format!("POST / HTTP/1.1\r\nHost: example.org\r\nContent-Length: {length}\r\n\r\n");
        writer.write_all(head.as_bytes()).await.unwrap();
        writer.write_all(&upload).await.unwrap();
        writer.flush().await.unwrap();
        writer
    });
    let head = read_header(&mut reader).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let (mut at, mut chunk) = (0, Vec::new());
    let mut reader = tokio::io::BufReader::with_capacity(65_536, reader);
    loop {
        let mut size = Vec::new();
        while !size.ends_with(b"\r\n") {
            size.push(reader.read_u8().await.unwrap());
        }
        let size = usize::from_str_radix(std::str::from_utf8(&size).unwrap().trim(), 16).unwrap();
        chunk.resize(size + 2, 0);
        reader.read_exact(&mut chunk).await.unwrap();
        if size == 0 {
            break;
        }
        assert!(chunk[..size] == body[at..at + size], "the bytes at {at}");
        at += size;
    }
    assert_eq!(at, length);
    sends.await.unwrap();
}

async fn echo_over_http2(way: Way, weir: &Weir, body: Bytes) {
    let mut sender = http2(way, weir).await;
    let (response, mut out) = sender.send_request(post("/"), false).unwrap();
    let upload = body.clone();
    let sends = tokio::spawn(async move { send_all(&mut out, upload, true).await });
    let mut response = response.await.unwrap();
    let mut at = 0;
    while let Some(piece) = next(response.body_mut()).await {
        assert!(piece == body[at..at + piece.len()], "the bytes at {at}");
        at += piece.len();
    }
    assert_eq!(at, body.len());
    sends.await.unwrap();
}

#[test]
fn an_echo_of_a_large_body_completes_with_the_same_bytes() {
    let body = pattern(size("WEIR_ECHO_MIB", 64) << 20);
    for way in WAYS {
        let (weir, _) = before(way, echo);
        run(async {
            for _ in 0..2 {
                echo_over_http1(way, &weir, body.clone()).await;
                echo_over_http2(way, &weir, body.clone()).await;
            }
        });
        weir.wait_for(&["weir_backend_in_flight"], 0.0);
        assert_eq!(weir.sum(&["weir_faults_total"]), 0.0, "{way:?}");
    }
}

/// Bytes of a download.
const DOWNLOAD: usize = 20 << 20;

/// Sends a long body, counts what its windows allow, and notes when they allow nothing.
fn download(_request: Request<RecvStream>, mut respond: SendResponse<Bytes>, state: Arc<State>) -> Handled {
    Box::pin(async move {
        let mut out = respond.send_response(Response::new(()), false).unwrap();
        let mut body = pattern(DOWNLOAD);
        while !body.is_empty() {
            out.reserve_capacity(body.len().min(65_536));
            let room = next_room(&mut out, &state).await;
            let piece = body.split_to(room.min(body.len()));
            state.sent.fetch_add(piece.len(), Ordering::AcqRel);
            out.send_data(piece, body.is_empty()).unwrap();
        }
    })
}

async fn next_room(out: &mut SendStream<Bytes>, state: &State) -> usize {
    let mut room = std::pin::pin!(std::future::poll_fn(|cx| out.poll_capacity(cx)));
    loop {
        tokio::select! {
            room = &mut room => return room.unwrap().unwrap(),
            () = delayed(Duration::from_millis(300)) => state.blocked.store(true, Ordering::Release),
        }
    }
}

#[test]
fn a_slow_reader_slows_its_backend_down_and_gets_the_whole_response() {
    for way in [PLAIN, THROUGHOUT] {
        let (weir, state) = before(way, download);
        run(async {
            let mut sender = http2(way, &weir).await;
            let (response, _) = sender.send_request(post("/"), true).unwrap();
            let mut response = response.await.unwrap();
            let waiting = Arc::clone(&state);
            tokio::task::spawn_blocking(move || {
                eventually("the backend waits", || waiting.blocked.load(Ordering::Acquire));
            })
            .await
            .unwrap();
            let sent = state.sent.load(Ordering::Acquire);
            assert!(sent <= 256 * 1024, "{way:?}: {sent} bytes were taken from the backend");
            assert!(rest(response.body_mut()).await == pattern(DOWNLOAD), "{way:?}");
        });
        weir.wait_for(&["weir_backend_in_flight"], 0.0);
    }
}

/// Sends 103, then a body with trailers.
fn hints(_request: Request<RecvStream>, mut respond: SendResponse<Bytes>, _state: Arc<State>) -> Handled {
    Box::pin(async move {
        let hints = Response::builder().status(103).header("link", "</a.css>; rel=preload").body(()).unwrap();
        respond.send_informational(hints).unwrap();
        let mut out = respond.send_response(Response::new(()), false).unwrap();
        out.send_data(Bytes::from_static(b"text"), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "1".parse().unwrap());
        out.send_trailers(trailers).unwrap();
    })
}

#[test]
fn early_hints_of_an_http2_backend_reach_all_clients_and_trailers_http2_clients() {
    for way in [PLAIN, THROUGHOUT] {
        let (weir, _) = before(way, hints);
        run(async {
            let mut stream = http1(way, &weir).await;
            stream.write_all(b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n").await.unwrap();
            let head = read_header(&mut stream).await;
            assert!(head.starts_with("HTTP/1.1 103") && head.contains("a.css"), "{head}");
            let head = read_header(&mut stream).await;
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            let mut sender = http2(way, &weir).await;
            let (mut response, _) = sender.send_request(post("/"), true).unwrap();
            let hint = std::future::poll_fn(|cx| response.poll_informational(cx)).await.unwrap().unwrap();
            assert_eq!((hint.status().as_u16(), hint.headers()["link"].is_empty()), (103, false));
            let mut response = response.await.unwrap();
            assert_eq!(rest(response.body_mut()).await, b"text");
            let trailers = response.body_mut().trailers().await.unwrap().unwrap();
            assert_eq!(trailers["x-sum"], "1");
        });
    }
}

/// Takes nothing and says nothing.
fn silent(request: Request<RecvStream>, respond: SendResponse<Bytes>, _state: Arc<State>) -> Handled {
    Box::pin(async move {
        std::future::pending::<()>().await;
        drop((request, respond));
    })
}

#[test]
fn a_client_that_leaves_while_the_backend_takes_nothing_is_noticed() {
    for way in [PLAIN, THROUGHOUT] {
        let (weir, _) = before(way, silent);
        run(async {
            let mut sender = http2(way, &weir).await;
            let (response, mut out) = sender.send_request(post("/"), false).unwrap();
            // More than the window of the backend and the queue before it.
            let body = pattern(1 << 20);
            tokio::select! {
                () = send_all(&mut out, body, false) => {}
                () = delayed(Duration::from_millis(500)) => {}
            }
            weir.wait_for(&["weir_backend_in_flight"], 1.0);
            drop((response, out));
            // The connection of the client stays open.
            delayed(Duration::from_millis(1)).await;
            let until = Instant::now() + Duration::from_secs(20);
            while weir.sum(&["weir_backend_in_flight"]) > 0.0 {
                assert!(Instant::now() < until, "{way:?}: still in flight");
                delayed(Duration::from_millis(50)).await;
            }
            drop(sender);
        });
    }
}

/// Answers with a header that is the whole response, and takes nothing of the request.
fn header_only(_request: Request<RecvStream>, mut respond: SendResponse<Bytes>, _state: Arc<State>) -> Handled {
    Box::pin(async move {
        let response = Response::builder().header("content-type", "application/grpc").header("grpc-status", "13");
        let _ = respond.send_response(response.body(()).unwrap(), true);
    })
}

/// Answers with trailers, and takes nothing of the request.
fn trailers_only(_request: Request<RecvStream>, mut respond: SendResponse<Bytes>, _state: Arc<State>) -> Handled {
    Box::pin(async move {
        let mut out = respond.send_response(Response::new(()), false).unwrap();
        let _ = out.send_trailers(HeaderMap::from_iter([("grpc-status".parse().unwrap(), "13".parse().unwrap())]));
    })
}

/// Answers with a body whose end is a frame of its own, and takes nothing of the request.
fn late_end(_request: Request<RecvStream>, mut respond: SendResponse<Bytes>, _state: Arc<State>) -> Handled {
    Box::pin(async move {
        let mut out = respond.send_response(Response::new(()), false).unwrap();
        let _ = out.send_data(Bytes::from_static(b"all"), false);
        delayed(Duration::from_millis(5)).await;
        let _ = out.send_data(Bytes::new(), true);
    })
}

#[test]
fn a_complete_response_ends_an_exchange_whose_request_never_ends() {
    let cases = [(header_only as Handler, &b""[..], None), (trailers_only, b"", Some("13")), (late_end, b"all", None)];
    for (way, (handler, body, trailer)) in [PLAIN, THROUGHOUT].into_iter().flat_map(|way| cases.map(|case| (way, case)))
    {
        let (weir, _) = before(way, handler);
        run(async {
            let mut sender = http2(way, &weir).await;
            for _ in 0..20 {
                let (response, mut out) = sender.send_request(post("/"), false).unwrap();
                out.send_data(Bytes::from_static(b"begun"), false).unwrap();
                let mut response = response.await.unwrap().into_body();
                assert_eq!(rest(&mut response).await, body);
                let trailers = response.trailers().await.unwrap_or_default();
                assert_eq!(trailers.as_ref().map(|trailers| trailers["grpc-status"].to_str().unwrap()), trailer);
                // The client neither ends its request nor resets it, so the server does (RFC 9113 section 8.1).
                let reset = std::future::poll_fn(|cx| out.poll_reset(cx));
                let reset = tokio::time::timeout(DEADLINE, reset)
                    .await
                    .unwrap_or_else(|_| panic!("{way:?}, {trailer:?}, {body:?}: the stream is not reset"));
                assert_eq!(reset.unwrap(), h2::Reason::NO_ERROR);
            }
        });
        weir.wait_for(&["weir_backend_in_flight"], 0.0);
        weir.wait_for(&["weir_requests_in_flight"], 0.0);
        assert!(weir.access_log_of(20).iter().all(|record| record["fault"].is_null()));
    }
}
