//! Requests and responses that pass at the same time: a response that comes before the end of its request, echoes, and
//! backends that take no more bytes.

use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};

use crate::support::http2::run;
use crate::support::tls::{Accepted, Socket, listen, open, read_head};
use crate::support::{PLAIN, WAYS, Way, Weir, delayed};

/// How soon a response must arrive that the backend has sent. Much less than `timeouts.write` of 60 s.
const SOON: Duration = Duration::from_secs(5);

/// How the client sends its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Length,
    Chunked,
    H2,
}

const FORMS: [Form; 3] = [Form::Length, Form::Chunked, Form::H2];

/// Bytes whose position shows in their value.
fn content(length: usize) -> Bytes {
    (0..length).map(|at| (at * 31 + at / 65_521) as u8).collect::<Vec<_>>().into()
}

/// A Weir before this backend.
fn weir(way: Way, backend: impl Fn(Accepted) -> BackendTask + Send + Clone + 'static) -> Weir {
    let (folder, certificate) = way.files();
    let address = listen(certificate.as_ref(), "http/1.1", backend);
    Weir::start_in(folder, way.config(address).set("server.threads", 1))
}

type BackendTask = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Reads the head of the request, answers 413 and takes no byte of the body.
fn refuses(mut stream: Accepted) -> BackendTask {
    Box::pin(async move {
        read_head(&mut stream).await;
        let answer = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 9\r\n\r\ntoo large";
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.flush().await;
        std::future::pending::<()>().await;
    })
}

/// Reads the head of the request, and neither answers nor takes a byte of the body.
fn is_silent(mut stream: Accepted) -> BackendTask {
    Box::pin(async move {
        read_head(&mut stream).await;
        std::future::pending::<()>().await;
    })
}

/// Sends the body back while it arrives. The framing of the request is also that of the response.
fn echoes(mut stream: Accepted) -> BackendTask {
    Box::pin(async move {
        while let Some(head) = read_head(&mut stream).await {
            let field = |name: &str| {
                let fields = head.lines().filter_map(|line| line.split_once(": "));
                fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).next()
            };
            let length = field("content-length");
            let framing = match &length {
                Some(length) => format!("Content-Length: {length}"),
                None => "Transfer-Encoding: chunked".to_owned(),
            };
            let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n").as_bytes()).await;
            match length {
                Some(length) => echo_bytes(&mut stream, length.parse().unwrap()).await,
                None => echo_chunks(&mut stream).await,
            }
        }
    })
}

async fn echo_bytes(stream: &mut Accepted, mut left: usize) {
    let mut buffer = vec![0; 64 * 1024];
    while left > 0 {
        let some = left.min(buffer.len());
        let Ok(read @ 1..) = stream.read(&mut buffer[..some]).await else { return };
        if stream.write_all(&buffer[..read]).await.is_err() {
            return;
        }
        left -= read;
    }
    let _ = stream.flush().await;
}

async fn echo_chunks(stream: &mut Accepted) {
    loop {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let Ok(byte) = stream.read_u8().await else { return };
            line.push(byte);
        }
        let size = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
        let mut data = vec![0; size + 2];
        if stream.read_exact(&mut data).await.is_err() {
            return;
        }
        let _ = stream.write_all(&[line, data].concat()).await;
        let _ = stream.flush().await;
        if size == 0 {
            return;
        }
    }
}

/// Posts `body` and reads the response at the same time. Returns its status, its body, and how long it took.
async fn post(address: SocketAddr, way: Way, form: Form, body: Bytes) -> (u16, Vec<u8>, Duration) {
    let begun = Instant::now();
    let protocol = if form == Form::H2 { "h2" } else { "http/1.1" };
    let stream = open(address, way.client.then_some(protocol)).await;
    let (status, received) = match form {
        Form::H2 => post_h2(stream, body).await,
        _ => post_h1(stream, form, body).await,
    };
    (status, received, begun.elapsed())
}

async fn post_h2(stream: Socket, body: Bytes) -> (u16, Vec<u8>) {
    let mut builder = h2::client::Builder::new();
    let (sender, connection) = builder.initial_window_size(1 << 20).handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post("http://example.org/").body(()).unwrap();
    let (response, mut out) = sender.ready().await.unwrap().send_request(request, false).unwrap();
    let sending = tokio::spawn(async move { send_until_reset(&mut out, body).await });
    let (head, mut stream) = response.await.unwrap().into_parts();
    let mut received = Vec::new();
    while let Some(piece) = stream.data().await {
        let piece = piece.unwrap();
        stream.flow_control().release_capacity(piece.len()).unwrap();
        received.extend_from_slice(&piece);
    }
    sending.abort();
    (head.status.as_u16(), received)
}

/// Sends the body. A server that has answered may reset the stream (RFC 9113 section 8.1).
async fn send_until_reset(out: &mut h2::SendStream<Bytes>, mut bytes: Bytes) {
    while !bytes.is_empty() {
        out.reserve_capacity(bytes.len().min(1 << 20));
        let Some(Ok(room)) = std::future::poll_fn(|cx| out.poll_capacity(cx)).await else { return };
        let piece = bytes.split_to(room.min(bytes.len()));
        let end = bytes.is_empty();
        if out.send_data(piece, end).is_err() {
            return;
        }
    }
}

async fn post_h1(stream: Socket, form: Form, body: Bytes) -> (u16, Vec<u8>) {
    let (reader, writer) = split(stream);
    let length = body.len();
    let sending = tokio::spawn(send_h1(writer, form, body));
    let answer = read_h1(reader, length).await;
    sending.abort();
    answer
}

async fn send_h1(mut writer: WriteHalf<Socket>, form: Form, body: Bytes) -> std::io::Result<WriteHalf<Socket>> {
    let framing = match form {
        Form::Chunked => "Transfer-Encoding: chunked".to_owned(),
        _ => format!("Content-Length: {}", body.len()),
    };
    writer.write_all(format!("POST / HTTP/1.1\r\nHost: example.org\r\n{framing}\r\n\r\n").as_bytes()).await?;
    if form == Form::Chunked {
        for chunk in body.chunks(50_000) {
            writer.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).await?;
            writer.write_all(chunk).await?;
            writer.write_all(b"\r\n").await?;
        }
        writer.write_all(b"0\r\n\r\n").await?;
    } else {
        writer.write_all(&body).await?;
    }
    writer.flush().await?;
    // The connection stays open, so that the response is not cut.
    Ok(writer)
}

async fn read_h1(mut reader: ReadHalf<Socket>, expected: usize) -> (u16, Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(reader.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length = head
        .to_lowercase()
        .split_once("content-length: ")
        .map(|(_, rest)| rest.split("\r\n").next().unwrap().parse::<usize>().unwrap());
    let mut body = Vec::with_capacity(expected);
    match length {
        Some(length) => {
            body.resize(length, 0);
            reader.read_exact(&mut body).await.unwrap();
        }
        None => read_chunks(&mut reader, &mut body).await,
    }
    (status, body)
}

async fn read_chunks(reader: &mut ReadHalf<Socket>, body: &mut Vec<u8>) {
    let mut reader = tokio::io::BufReader::new(reader);
    loop {
        let mut line = String::new();
        tokio::io::AsyncBufReadExt::read_line(&mut reader, &mut line).await.unwrap();
        let size = usize::from_str_radix(line.trim(), 16).unwrap();
        let at = body.len();
        body.resize(at + size + 2, 0);
        reader.read_exact(&mut body[at..]).await.unwrap();
        body.truncate(at + size);
        if size == 0 {
            return;
        }
    }
}

fn each_way(backend: fn(Accepted) -> BackendTask, test: impl Fn(&Weir, Way, Form)) {
    for way in WAYS {
        let weir = weir(way, backend);
        for form in FORMS {
            test(&weir, way, form);
        }
        weir.wait_for(&["weir_backend_in_flight"], 0.0);
        weir.wait_for(&["weir_requests_in_flight"], 0.0);
        let faults: Vec<_> = weir.scrape().into_iter().filter(|(name, _)| name.contains("weir_faults_total")).collect();
        assert!(faults.is_empty(), "{way:?} {faults:?}");
    }
}

#[test]
fn the_read_timeout_of_a_blocked_upload_fires_although_writes_have_no_timeout() {
    let (folder, _) = PLAIN.files();
    let config = PLAIN.config(listen(None, "http/1.1", is_silent)).set("routes.all.retry", "attempts: 1");
    let weir = Weir::start_in(folder, config.set("routes.all.timeouts", "read: 1s, write: 0s"));
    run(async {
        for form in FORMS {
            let answered = post(weir.web(), PLAIN, form, vec![7; 30_000_000].into());
            let (status, ..) = tokio::time::timeout(2 * SOON, answered).await.expect("a response");
            assert_eq!(status, 504, "{form:?}");
        }
    });
}

#[test]
fn a_413_before_the_body_arrives_at_once_and_is_no_fault() {
    each_way(refuses, |weir, way, form| {
        let before = weir.access_log().len();
        let (status, body, took) = run(post(weir.web(), way, form, content(30_000_000)));
        assert_eq!((status, &body[..]), (413, &b"too large"[..]), "{way:?} {form:?}");
        assert!(took < SOON, "{way:?} {form:?}: {took:?}");
        let line = weir.access_log_of(before + 1).pop().unwrap();
        assert_eq!((line["status"].as_u64(), line["fault"].as_str()), (Some(413), None), "{way:?} {form:?} {line}");
    });
}

#[test]
fn an_echo_of_64_mib_passes_while_it_is_sent() {
    let body = content(64 << 20);
    each_way(echoes, |weir, way, form| {
        let (status, received, took) = run(post(weir.web(), way, form, body.clone()));
        assert_eq!((status, received.len()), (200, body.len()), "{way:?} {form:?}");
        assert!(received == body, "{way:?} {form:?}");
        assert!(took < Duration::from_secs(40), "{way:?} {form:?}: {took:?}");
    });
}

#[test]
fn a_client_that_reads_slowly_gets_all_of_a_large_echo() {
    let body = content(4 << 20);
    for way in WAYS {
        let weir = weir(way, echoes);
        run(async {
            let stream = open(weir.web(), way.client.then_some("http/1.1")).await;
            let (mut reader, writer) = split(stream);
            let sending = tokio::spawn(send_h1(writer, Form::Length, body.clone()));
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(reader.read_u8().await.unwrap());
            }
            let mut received = Vec::new();
            let mut piece = vec![0; 64 * 1024];
            while received.len() < body.len() {
                let read = reader.read(&mut piece).await.unwrap();
                assert!(read > 0, "{way:?}: {} bytes", received.len());
                received.extend_from_slice(&piece[..read]);
                delayed(Duration::from_millis(2)).await;
            }
            assert!(received == body, "{way:?}");
            sending.await.unwrap().unwrap();
        });
        weir.wait_for(&["weir_backend_in_flight"], 0.0);
    }
}

#[test]
fn a_reset_by_the_client_while_the_backend_takes_nothing_is_noticed() {
    for way in [PLAIN, Way { client: false, backend: true }] {
        let weir = weir(way, is_silent);
        let client = std::net::TcpStream::connect(weir.web()).unwrap();
        let mut writer = client.try_clone().unwrap();
        writer.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        writer.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 90000000\r\n\r\n").unwrap();
        let piece = vec![0; 1 << 20];
        while writer.write_all(&piece).is_ok() {}
        weir.wait_for(&["weir_backend_in_flight"], 1.0);
        socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        drop((client, writer));
        weir.wait_for(&["weir_backend_in_flight"], 0.0);
        weir.wait_for(&["weir_faults_total", "client_abort"], 1.0);
    }
}

#[test]
fn a_backend_that_takes_no_bytes_and_does_not_answer_fails_after_the_write_timeout() {
    for way in WAYS {
        let (folder, certificate) = way.files();
        let address = listen(certificate.as_ref(), "http/1.1", is_silent);
        // The client's own timeout is shorter, and the client is not at fault.
        let config = way.config(address).set("routes.all.timeouts", "write: 1s, read: 30s");
        let weir = Weir::start_in(folder, config.set("listeners.web.timeouts.body", "300ms"));
        for form in FORMS {
            let (status, _, took) = run(post(weir.web(), way, form, content(30_000_000)));
            assert_eq!(status, 504, "{way:?} {form:?}");
            assert!(took < SOON, "{way:?} {form:?}: {took:?}");
        }
    }
}

#[test]
fn a_request_that_follows_an_early_complete_response_reuses_the_connection_if_its_body_was_taken() {
    // Answers at once and then reads the whole body.
    let early = |mut stream: Accepted| -> BackendTask {
        Box::pin(async move {
            while let Some(head) = read_head(&mut stream).await {
                let length: usize = head
                    .to_lowercase()
                    .split_once("content-length: ")
                    .map_or(0, |(_, rest)| rest.split("\r\n").next().unwrap().parse().unwrap());
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly").await.unwrap();
                stream.flush().await.unwrap();
                let mut body = vec![0; length];
                if stream.read_exact(&mut body).await.is_err() {
                    return;
                }
            }
        })
    };
    for way in WAYS {
        let weir = weir(way, early);
        for form in [Form::Length, Form::Length] {
            let (status, body, took) = run(post(weir.web(), way, form, content(3_000_000)));
            assert_eq!((status, &body[..]), (200, &b"early"[..]), "{way:?}");
            assert!(took < SOON);
        }
        weir.wait_for(&["weir_backend_in_flight"], 0.0);
        assert_eq!(weir.sum(&["weir_faults_total"]), 0.0);
    }
}

/// The bytes of a body arrive as they were sent, in whatever pieces.
#[test]
fn small_and_large_bodies_arrive_unchanged_in_each_form() {
    each_way(echoes, |weir, way, form| {
        for length in [1, 100, 4_096, 4_097, 65_535, 65_536, 65_537, 1_000_003] {
            let (status, received, _) = run(post(weir.web(), way, form, content(length)));
            assert_eq!((status, received.len()), (200, length), "{way:?} {form:?}");
            assert!(received == content(length), "{way:?} {form:?} {length}");
        }
    });
}

#[test]
#[ignore = "long: twenty echoes of 64 MiB and twenty early responses on each path"]
fn early_responses_and_echoes_twenty_times_on_each_path() {
    let body = content(64 << 20);
    for way in WAYS {
        let (refusing, echoing) = (weir(way, refuses), weir(way, echoes));
        for (round, form) in (0..20).flat_map(|round| FORMS.map(|form| (round, form))) {
            let (status, _, took) = run(post(refusing.web(), way, form, content(30_000_000)));
            assert_eq!(status, 413, "{way:?} {form:?} {round}");
            assert!(took < Duration::from_secs(1), "{way:?} {form:?} {round}: {took:?}");
            let (status, received, took) = run(post(echoing.web(), way, form, body.clone()));
            assert!(status == 200 && received == body, "{way:?} {form:?} {round}: {} bytes", received.len());
            assert!(took < Duration::from_secs(5), "{way:?} {form:?} {round}: {took:?}");
        }
        for weir in [refusing, echoing] {
            weir.wait_for(&["weir_backend_in_flight"], 0.0);
            assert_eq!(weir.sum(&["weir_faults_total"]), 0.0);
        }
    }
}
