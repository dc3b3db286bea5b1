//! Streams: each piece of a response reaches the client before the backend sends the next one. The backend waits for the
//! client's word, so a piece that is held back by anything ends the test.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::RecvStream;
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;

use crate::support::http2::{next, rest, run};
use crate::support::tls::{Accepted, listen, open, read_head};
use crate::support::{Config, DEADLINE, LISTENER_TLS, THROUGHOUT, UPSTREAM_TLS, Weir};

/// How many pieces a stream has.
const PIECES: usize = 8;

/// What users stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    ServerSentEvents,
    JsonLines,
    /// The pieces of a gRPC response, over HTTP/2 only.
    Grpc,
    /// The header comes at once and the body after the client's word.
    LongPoll,
    /// A download with a length, a few bytes at a time.
    Download,
    /// The close of the connection ends the body. HTTP/1 only.
    UntilClose,
}

const KINDS: [Kind; 6] =
    [Kind::ServerSentEvents, Kind::JsonLines, Kind::Grpc, Kind::LongPoll, Kind::Download, Kind::UntilClose];

impl Kind {
    fn of(path: &str) -> Self {
        KINDS.into_iter().find(|kind| path == kind.path()).unwrap()
    }

    fn path(self) -> String {
        format!("/{self:?}")
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::ServerSentEvents => "text/event-stream",
            Self::JsonLines => "application/x-ndjson",
            Self::Grpc => "application/grpc",
            Self::LongPoll => "application/json",
            Self::Download | Self::UntilClose => "application/octet-stream",
        }
    }

    fn piece(self, number: usize) -> Vec<u8> {
        match self {
            Self::ServerSentEvents => format!("data: {number}\n\n").into_bytes(),
            Self::JsonLines | Self::LongPoll => format!("{{\"n\":{number}}}\n").into_bytes(),
            Self::Grpc => vec![0, 0, 0, 0, 1, number as u8],
            // One byte, a full buffer of a TLS record, and more than that.
            Self::Download | Self::UntilClose => vec![number as u8; [1, 16_384, 20_000, 100][number % 4]],
        }
    }

    fn is_chunked(self) -> bool {
        !matches!(self, Self::Download | Self::UntilClose)
    }

    fn length(self) -> usize {
        (0..PIECES).map(|number| self.piece(number).len()).sum()
    }
}

/// The client's words: one for each piece that has arrived.
type Words = Arc<Semaphore>;

async fn word(words: &Words) {
    tokio::time::timeout(DEADLINE, words.acquire()).await.unwrap().unwrap().forget();
}

async fn http1(mut stream: Accepted, words: Words) {
    let Some(head) = read_head(&mut stream).await else { return };
    let kind = Kind::of(head.split(' ').nth(1).unwrap());
    let framing = match kind {
        Kind::Download => format!("Content-Length: {}", kind.length()),
        Kind::UntilClose => "Connection: close".to_owned(),
        _ => "Transfer-Encoding: chunked".to_owned(),
    };
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {}\r\n{framing}\r\n\r\n", kind.content_type());
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    for number in 0..PIECES {
        // The header has arrived, or the piece before.
        word(&words).await;
        let piece = kind.piece(number);
        let size = format!("{:x}\r\n", piece.len()).into_bytes();
        let piece = if kind.is_chunked() { [&size[..], &piece, b"\r\n"].concat() } else { piece };
        stream.write_all(&piece).await.unwrap();
        stream.flush().await.unwrap();
    }
    word(&words).await;
    if kind.is_chunked() {
        stream.write_all(b"0\r\n\r\n").await.unwrap();
    }
    let _ = stream.shutdown().await;
}

async fn http2(stream: Accepted, words: Words) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let (kind, words) = (Kind::of(request.uri().path()), Arc::clone(&words));
        let mut response = http::Response::builder().header("content-type", kind.content_type());
        if kind == Kind::Download {
            response = response.header("content-length", kind.length());
        }
        let mut out = respond.send_response(response.body(()).unwrap(), false).unwrap();
        tokio::spawn(async move {
            for number in 0..PIECES {
                word(&words).await;
                out.send_data(kind.piece(number).into(), false).unwrap();
            }
            word(&words).await;
            if kind == Kind::Grpc {
                let mut trailers = http::HeaderMap::new();
                trailers.insert("grpc-status", "0".parse().unwrap());
                out.send_trailers(trailers).unwrap();
            } else {
                out.send_data(Bytes::new(), true).unwrap();
            }
        });
    }
}

/// Reads the stream, and tells the backend after each piece.
async fn follow1(address: SocketAddr, tls: bool, kind: Kind, words: &Words) {
    let mut stream = open(address, tls.then_some("http/1.1")).await;
    let ask = format!("GET {} HTTP/1.1\r\nHost: example.org\r\n\r\n", kind.path());
    stream.write_all(ask.as_bytes()).await.unwrap();
    let mut received = Vec::new();
    until(&mut stream, &mut received, |bytes| bytes.ends_with(b"\r\n\r\n")).await;
    let chunked = String::from_utf8_lossy(&received).to_ascii_lowercase().contains("transfer-encoding: chunked");
    received.clear();
    for number in 0..PIECES {
        words.add_permits(1);
        let mut piece = kind.piece(number);
        if chunked {
            // Weir may split a piece into several chunks.
            let mut data = Vec::new();
            while data.len() < piece.len() {
                until(&mut stream, &mut received, |bytes| bytes.ends_with(b"\r\n")).await;
                let size = usize::from_str_radix(std::str::from_utf8(&received).unwrap().trim(), 16).unwrap();
                received.clear();
                until(&mut stream, &mut received, |bytes| bytes.len() == size + 2).await;
                data.extend_from_slice(&received[..size]);
                received.clear();
            }
            assert_eq!(data, piece, "{kind:?} {number}");
        } else {
            let size = piece.len();
            until(&mut stream, &mut received, |bytes| bytes.len() == size).await;
            assert_eq!(std::mem::take(&mut received), std::mem::take(&mut piece), "{kind:?} {number}");
        }
    }
    words.add_permits(1);
    if chunked {
        until(&mut stream, &mut received, |bytes| bytes.ends_with(b"0\r\n\r\n")).await;
    }
}

async fn until(stream: &mut (impl AsyncReadExt + Unpin), received: &mut Vec<u8>, done: impl Fn(&[u8]) -> bool) {
    let read = async {
        while !done(received) {
            received.push(stream.read_u8().await.unwrap());
        }
    };
    tokio::time::timeout(DEADLINE, read).await.expect("the piece arrives before the next one is sent");
}

async fn follow2(address: SocketAddr, tls: bool, kind: Kind, words: &Words) {
    let stream = open(address, tls.then_some("h2")).await;
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder().uri(format!("http://example.org{}", kind.path()));
    let request = if kind == Kind::Grpc {
        request.method("POST").header("content-type", "application/grpc").header("te", "trailers")
    } else {
        request
    };
    let mut sender = sender.ready().await.unwrap();
    let (response, _) = sender.send_request(request.body(()).unwrap(), true).unwrap();
    let mut body: RecvStream = tokio::time::timeout(DEADLINE, response).await.unwrap().unwrap().into_body();
    for number in 0..PIECES {
        words.add_permits(1);
        let (piece, mut received) = (kind.piece(number), Vec::new());
        while received.len() < piece.len() {
            let some = tokio::time::timeout(DEADLINE, next(&mut body)).await;
            received.extend_from_slice(&some.expect("the piece arrives before the next one is sent").unwrap());
        }
        assert_eq!(received, piece, "{kind:?} {number}");
    }
    words.add_permits(1);
    assert!(rest(&mut body).await.is_empty());
}

/// The backends by name: the protocol and TLS.
const BACKENDS: [(&str, bool); 4] = [("http1", false), ("http1", true), ("h2c", false), ("h2", true)];

#[test]
fn each_piece_of_a_stream_arrives_before_the_backend_sends_the_next_one() {
    for (protocol, backend_tls) in BACKENDS {
        let to_http2 = protocol != "http1";
        let words: Words = Arc::new(Semaphore::new(0));
        let (folder, certificate) = THROUGHOUT.files();
        let (certificate, shared) = (certificate.filter(|_| backend_tls), Arc::clone(&words));
        let serve = move |stream| {
            let words = Arc::clone(&shared);
            async move { if to_http2 { http2(stream, words).await } else { http1(stream, words).await } }
        };
        let backend = listen(certificate.as_ref(), if to_http2 { "h2" } else { "http/1.1" }, serve);
        let config = Config::to(backend)
            .listener("secure", LISTENER_TLS)
            .set("upstreams.up.protocol", protocol)
            .set("upstreams.up", if backend_tls { UPSTREAM_TLS } else { "" });
        let weir = Weir::start_in(folder, config);
        for kind in KINDS {
            if (kind == Kind::Grpc && !to_http2) || (kind == Kind::UntilClose && to_http2) {
                continue;
            }
            for (listener, tls) in [("web", false), ("secure", true)] {
                run(follow2(weir.address(listener), tls, kind, &words));
                if kind != Kind::Grpc {
                    run(follow1(weir.address(listener), tls, kind, &words));
                }
            }
        }
        assert_eq!(weir.sum(&["weir_faults_total"]), 0.0, "{protocol} {backend_tls}");
    }
}
