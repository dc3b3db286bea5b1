//! Requests that an HTTP/2 backend declares unprocessed (GOAWAY, REFUSED_STREAM) are sent again on a fresh connection,
//! whatever their method.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::frames::{
    ACK, DATA, END_HEADERS, END_STREAM, Frame, Frames, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, block, frame,
};
use crate::support::grpc::{Caller, message, status};
use crate::support::http2::run;
use crate::support::tls::{Accepted, listen};
use crate::support::{Client, Config, Origin, PLAIN, THROUGHOUT, Way, Weir, delayed, eventually, size};

const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

/// An h2c backend that answers each HEADERS and DATA frame with the bytes that `script` gives for the number of the
/// connection, from 1 on, and the frame.
fn backend(script: impl Fn(usize, &Frame) -> Vec<u8> + Send + Sync + 'static) -> Origin {
    backend_with(Arc::default(), script)
}

/// The same, and how many of its connections are open.
fn backend_with(open: Arc<AtomicUsize>, script: impl Fn(usize, &Frame) -> Vec<u8> + Send + Sync + 'static) -> Origin {
    let connections = AtomicUsize::new(0);
    Origin::raw(move |stream| {
        open.fetch_add(1, Ordering::AcqRel);
        serve(stream, connections.fetch_add(1, Ordering::AcqRel) + 1, &script);
        open.fetch_sub(1, Ordering::AcqRel);
    })
}

fn serve(mut stream: TcpStream, number: usize, script: &impl Fn(usize, &Frame) -> Vec<u8>) {
    let mut preface = [0; PREFACE.len()];
    if stream.read_exact(&mut preface).is_err() {
        return;
    }
    let _ = stream.write_all(&frame(SETTINGS, 0, 0, &[]));
    let mut frames = Frames::over(stream);
    while let Some(got) = frames.next() {
        let mut out = match got.kind {
            SETTINGS if got.flags & ACK == 0 => frame(SETTINGS, ACK, 0, &[]),
            PING if got.flags & ACK == 0 => frame(PING, ACK, 0, &got.payload),
            HEADERS | DATA => script(number, &got),
            _ => Vec::new(),
        };
        if got.kind == DATA && !got.payload.is_empty() {
            let more = u32::try_from(got.payload.len()).unwrap().to_be_bytes();
            out.extend(frame(WINDOW_UPDATE, 0, 0, &more));
            if got.flags & END_STREAM == 0 {
                out.extend(frame(WINDOW_UPDATE, 0, got.stream, &more));
            }
        }
        if !out.is_empty() && !frames.send(&out) {
            return;
        }
    }
}

/// 200 with this text.
fn ok(stream: u32, text: &str) -> Vec<u8> {
    [frame(HEADERS, END_HEADERS, stream, b"\x88"), frame(DATA, END_STREAM, stream, text.as_bytes())].concat()
}

/// 200 once the request has come whole.
fn ok_at_end(got: &Frame, text: &str) -> Vec<u8> {
    if got.flags & END_STREAM == 0 { Vec::new() } else { ok(got.stream, text) }
}

fn goaway(last: u32, reason: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), reason.to_be_bytes()].concat())
}

fn reset(stream: u32, reason: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &reason.to_be_bytes())
}

fn weir(route: &str, backends: &[&Origin]) -> Weir {
    Weir::start(config(route, backends))
}

fn config(route: &str, backends: &[&Origin]) -> Config {
    let named: Vec<_> = ["a", "b", "c"].into_iter().zip(backends).collect();
    Config::to_all(&named).set("routes.all", route).set("upstreams.up.protocol", "h2c")
}

/// Only the fresh connection outside of attempts and budget is left.
const ONE_TRY: &str = "retry: { attempts: 1, budget: 0%, floor: 0 }";

fn no_fault(weir: &Weir) {
    assert_eq!(weir.sum(&["weir_faults_total"]), 0.0);
    assert_eq!(weir.sum(&["weir_backend_attempts_total", "connect_error"]), 0.0);
    weir.wait_for(&["weir_backend_in_flight"], 0.0);
}

#[test]
fn a_post_that_goaway_leaves_out_is_sent_again_on_a_fresh_connection_whatever_the_reason() {
    for reason in [NO_ERROR, INTERNAL_ERROR, ENHANCE_YOUR_CALM] {
        let origin = backend(move |connection, got| match (connection, got.stream) {
            (1, 3..) if got.kind == HEADERS => goaway(1, reason),
            (1, 3..) => Vec::new(),
            _ => ok_at_end(got, &format!("connection {connection}")),
        });
        let weir = weir(ONE_TRY, &[&origin]);
        let mut client = Client::connect(weir.web());
        assert_eq!(client.post("/", b"first").text(), "connection 1");
        let second = client.post("/", b"second");
        assert_eq!((second.status, second.text().as_str()), (200, "connection 2"), "reason {reason}");
        assert_eq!(client.post("/", b"third").status, 200);
        no_fault(&weir);
        let log = weir.access_log_of(3);
        let attempts = log[1]["attempts"].as_array().unwrap();
        assert_eq!((attempts.len(), &attempts[1]["outcome"]), (2, &"ok".into()), "{}", log[1]);
    }
}

#[test]
fn a_post_whose_stream_is_refused_is_sent_again_on_a_fresh_connection() {
    let origin = backend(|connection, got| match (connection, got.stream) {
        (1, 3..) if got.kind == HEADERS => reset(got.stream, REFUSED_STREAM),
        (1, 3..) => Vec::new(),
        _ => ok_at_end(got, &format!("connection {connection}")),
    });
    let weir = weir(ONE_TRY, &[&origin]);
    let mut client = Client::connect(weir.web());
    assert_eq!(client.post("/", b"first").text(), "connection 1");
    assert_eq!(client.post("/", b"second").text(), "connection 2");
    no_fault(&weir);
}

#[test]
fn a_stream_that_fails_in_another_way_is_not_sent_again_for_a_post() {
    // CANCEL says nothing of what was processed; and a stream within the last one of GOAWAY may have been.
    for cancel in [true, false] {
        let origin = backend(move |connection, got| match (connection, got.stream, cancel) {
            (1, 3.., true) if got.kind == HEADERS => reset(got.stream, 8),
            (1, 3.., false) if got.kind == HEADERS => {
                [goaway(got.stream, NO_ERROR), reset(got.stream, INTERNAL_ERROR)].concat()
            }
            (1, 3.., _) => Vec::new(),
            _ => ok_at_end(got, "ok"),
        });
        let weir = weir(ONE_TRY, &[&origin]);
        let mut client = Client::connect(weir.web());
        assert_eq!(client.post("/", b"first").status, 200);
        assert_eq!(client.post("/", b"second").status, 502, "cancel {cancel}");
    }
}

#[test]
fn a_connection_that_goes_away_with_a_stream_under_way_is_not_used_for_others() {
    let origin = backend(|connection, got| match (connection, got.stream) {
        // The first stays under way until the second has come.
        (1, 1) => Vec::new(),
        (1, 3) if got.kind == HEADERS => goaway(1, ENHANCE_YOUR_CALM),
        (1, _) => Vec::new(),
        _ => ok_at_end(got, &format!("connection {connection}")),
    });
    let weir = weir(ONE_TRY, &[&origin]);
    let mut first = Client::connect(weir.web());
    first.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    weir.wait_for(&["weir_backend_in_flight"], 1.0);
    let mut others = Client::connect(weir.web());
    for turn in 0..10 {
        let response = others.post("/", b"x");
        assert_eq!(response.status, 200, "turn {turn}");
        assert_ne!(response.text(), "connection 1");
    }
    assert_eq!(weir.sum(&["weir_faults_total"]), 0.0);
}

#[test]
fn a_body_that_came_in_part_is_sent_again_whole_and_one_beyond_the_replay_buffer_is_not() {
    let body = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&body);
    let origin = backend(move |connection, got| match (connection, got.stream) {
        (1, 1) => ok_at_end(got, "first"),
        // Refused at the first piece of the body.
        (1, _) if got.kind == DATA => reset(got.stream, REFUSED_STREAM),
        (1, _) => Vec::new(),
        _ => {
            if got.kind == DATA {
                seen.fetch_add(got.payload.len(), Ordering::AcqRel);
            }
            ok_at_end(got, "again")
        }
    });
    let weir = weir(ONE_TRY, &[&origin]);
    let mut client = Client::connect(weir.web());
    assert_eq!(client.get("/").text(), "first");
    client.send(format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{}", 40_000, "a".repeat(20_000)));
    eventually("the fresh connection", || origin.connections() == 2);
    client.send("b".repeat(20_000));
    assert_eq!(client.response("POST").text(), "again");
    assert_eq!(body.load(Ordering::Acquire), 40_000);
    no_fault(&weir);

    let refusing = backend(|_, got| match got.kind {
        DATA if got.flags & END_STREAM != 0 => reset(got.stream, REFUSED_STREAM),
        _ => Vec::new(),
    });
    assert!(weir.reload(config(ONE_TRY, &[&refusing])), "{}", weir.stderr());
    assert_eq!(Client::connect(weir.web()).post("/", &vec![7; 200_000]).status, 502);
    assert_eq!(refusing.connections(), 1);
}

#[test]
fn a_backend_that_refuses_on_a_fresh_connection_too_counts_as_one_that_cannot_be_reached() {
    let refusing = || backend(|_, got| if got.kind == HEADERS { reset(got.stream, REFUSED_STREAM) } else { vec![] });
    let (bad, good) = (refusing(), backend(|_, got| ok_at_end(got, "good")));
    let both = weir("retry: { attempts: 2, budget: 0%, floor: 0 }", &[&bad, &good]);
    let mut client = Client::connect(both.web());
    assert!((0..6).all(|_| client.post("/", b"x").text() == "good"));
    let alone = weir(ONE_TRY, &[&refusing()]);
    assert_eq!(Client::connect(alone.web()).post("/", b"x").status, 502);
    alone.wait_for(&["weir_faults_total", "connect"], 1.0);
}

#[test]
fn a_fresh_connection_for_one_request_is_closed_behind_it() {
    let open = Arc::new(AtomicUsize::new(0));
    let origin = backend_with(Arc::clone(&open), |connection, got| match (connection, got.stream) {
        (1, 3..) if got.kind == HEADERS => reset(got.stream, REFUSED_STREAM),
        (1, 3..) => Vec::new(),
        _ => ok_at_end(got, "ok"),
    });
    let weir = weir("", &[&origin]);
    let mut client = Client::connect(weir.web());
    assert!((0..5).all(|_| client.post("/", b"x").status == 200));
    eventually("the fresh ones are closed", || open.load(Ordering::Acquire) == 1);
}

/// Serves a connection as gRPC servers with a maximum connection age do: GOAWAY at that age, no new streams after the
/// round trip of a PING, then the end once the last call is done.
async fn of_age(stream: Accepted, age: Duration) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    let end = delayed(age);
    tokio::pin!(end);
    let mut leaving = false;
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => drop(tokio::spawn(answer(request, respond))),
                _ => return,
            },
            () = &mut end, if !leaving => {
                leaving = true;
                connection.graceful_shutdown();
            }
        }
    }
}

async fn answer(request: http::Request<h2::RecvStream>, mut respond: h2::server::SendResponse<bytes::Bytes>) {
    let mut body = request.into_body();
    while let Some(Ok(piece)) = body.data().await {
        let _ = body.flow_control().release_capacity(piece.len());
    }
    let head = http::Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    let Ok(mut out) = respond.send_response(head, false) else { return };
    let _ = out.send_data(message(b"reply"), false);
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    let _ = out.send_trailers(trailers);
}

/// Serves a connection as servers do that end it without notice: at a later request than the first, after that age,
/// GOAWAY leaves out this request and those behind it.
fn of_age_without_notice(mut stream: TcpStream, age: Duration) {
    let (began, mut preface) = (Instant::now(), [0; PREFACE.len()]);
    if stream.read_exact(&mut preface).is_err() || stream.set_nodelay(true).is_err() {
        return;
    }
    let _ = stream.write_all(&frame(SETTINGS, 0, 0, &[]));
    let mut frames = Frames::over(stream);
    let mut last = None;
    while let Some(got) = frames.next() {
        let out = match got.kind {
            SETTINGS if got.flags & ACK == 0 => frame(SETTINGS, ACK, 0, &[]),
            PING if got.flags & ACK == 0 => frame(PING, ACK, 0, &got.payload),
            HEADERS if last.is_none() && got.stream > 1 && began.elapsed() >= age => {
                let before = got.stream - 2;
                last = Some(before);
                goaway(before, NO_ERROR)
            }
            DATA if got.flags & END_STREAM != 0 && last.is_none_or(|last| got.stream <= last) => grpc_ok(got.stream),
            _ => continue,
        };
        if !frames.send(&out) {
            return;
        }
    }
}

fn grpc_ok(stream: u32) -> Vec<u8> {
    let head = [&b"\x88"[..], &block(&[("content-type", "application/grpc")])].concat();
    let trailers = block(&[("grpc-status", "0")]);
    let data = frame(DATA, 0, stream, &message(b"reply"));
    let end = frame(HEADERS, END_HEADERS | END_STREAM, stream, &trailers);
    [frame(HEADERS, END_HEADERS, stream, &head), data, end].concat()
}

/// Calls in all, by so many clients at once; every one must succeed.
fn calls_over_ageing_connections(way: Way, age: Duration, clients: usize, calls: usize) {
    let (folder, certificate) = way.files();
    let server = listen(certificate.as_ref(), "h2", move |stream| of_age(stream, age));
    call_through(way, folder, server, clients, calls);
}

fn calls_over_connections_that_end_without_notice(age: Duration, clients: usize, calls: usize) {
    let server = Origin::raw(move |stream| of_age_without_notice(stream, age));
    let folder = tempfile::tempdir().unwrap();
    call_through(PLAIN, folder, server.address(), clients, calls);
}

fn call_through(way: Way, folder: tempfile::TempDir, server: SocketAddr, clients: usize, calls: usize) {
    let config = way
        .config(server)
        .without_access_log()
        .set("routes.all", ONE_TRY)
        .set("upstreams.up.protocol", if way.backend { "h2" } else { "h2c" });
    let weir = Weir::start_in(folder, config);
    let address = weir.web();
    let failed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&failed);
    run(async move {
        let left = Arc::new(AtomicUsize::new(calls));
        let one = |left: Arc<AtomicUsize>, failed: Arc<AtomicUsize>| async move {
            let mut client = Caller::connect(address, way.client).await;
            while left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1)).is_ok() {
                let (response, mut out) = client.call("/unary").await;
                out.send_data(message(b"request"), true).unwrap();
                if status(response.await.unwrap()).await != "0" {
                    failed.fetch_add(1, Ordering::AcqRel);
                }
            }
        };
        let all: Vec<_> = (0..clients).map(|_| tokio::spawn(one(Arc::clone(&left), Arc::clone(&count)))).collect();
        for client in all {
            client.await.unwrap();
        }
    });
    assert_eq!(failed.load(Ordering::Acquire), 0, "of {calls}");
    weir.wait_for(&["weir_requests_total", "status=\"200\""], calls as f64);
    assert_eq!(weir.sum(&["weir_faults_total"]), 0.0);
    let retries = weir.sum(&["weir_backend_retries_total"]);
    println!("{way:?}: {calls} calls by {clients} clients: 0 failed, {retries} sent again");
}

#[test]
fn no_grpc_call_fails_while_the_server_ends_its_connections_by_age() {
    for way in [PLAIN, THROUGHOUT] {
        calls_over_ageing_connections(way, Duration::from_millis(30), 12, 1_500);
    }
    calls_over_connections_that_end_without_notice(Duration::from_millis(30), 12, 1_500);
}

#[test]
#[ignore = "long: 10,000 calls each way, and with connections that live 10 ms"]
fn no_grpc_call_of_10_000_fails_while_the_server_ends_its_connections_by_age() {
    let calls = size("WEIR_SOAK_CALLS", 10_000);
    for way in [PLAIN, THROUGHOUT] {
        for age in [300, 10] {
            calls_over_ageing_connections(way, Duration::from_millis(age), 12, calls);
        }
    }
    for age in [300, 10] {
        calls_over_connections_that_end_without_notice(Duration::from_millis(age), 12, calls);
    }
}
