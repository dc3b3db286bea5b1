//! A gRPC server and client as far as HTTP/2 shows them: messages, trailers, statuses. What a path does is in `serve`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};

use super::http2::{next, rest, send_all};
use super::pki::Issued;
use super::tls::{Accepted, listen, open};

/// One message with its prefix.
pub fn message(payload: &[u8]) -> Bytes {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    Bytes::from([&[0][..], &length, payload].concat())
}

/// The next message of a body, without its prefix.
pub async fn next_message(body: &mut RecvStream, inbox: &mut BytesMut) -> Option<Bytes> {
    loop {
        if inbox.len() >= 5 {
            let length = u32::from_be_bytes(inbox[1..5].try_into().unwrap()) as usize;
            if inbox.len() >= 5 + length {
                return Some(inbox.split_to(5 + length).freeze().slice(5..));
            }
        }
        inbox.extend_from_slice(&next(body).await?);
    }
}

/// What a server's tasks share with its test.
#[derive(Default)]
struct State {
    health: AtomicU8,
    cancelled: AtomicUsize,
}

/// A server on a port of its own.
pub struct Server {
    pub address: SocketAddr,
    state: Arc<State>,
}

impl Server {
    /// In plain.
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// Under TLS if there is a certificate.
    pub fn start_with(certificate: Option<&Issued>) -> Self {
        let state = Arc::new(State { health: AtomicU8::new(1), ..State::default() });
        let mine = Arc::clone(&state);
        let address = listen(certificate, "h2", move |stream| connection(stream, Arc::clone(&mine)));
        Self { address, state }
    }

    /// What its health service says from now on.
    pub fn set_health(&self, health: u8) {
        self.state.health.store(health, Ordering::Release);
    }

    /// Calls that were reset while it had not answered.
    pub fn cancelled(&self) -> usize {
        self.state.cancelled.load(Ordering::Acquire)
    }
}

async fn connection(stream: Accepted, state: Arc<State>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(serve(request, respond, Arc::clone(&state)));
    }
}

fn trailers(status: &str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status.parse().unwrap());
    trailers.insert("grpc-message", "as%20asked".parse().unwrap());
    trailers
}

async fn serve(request: Request<RecvStream>, mut respond: h2::server::SendResponse<Bytes>, state: Arc<State>) {
    let field = |name: &str| request.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    let header = Response::builder().header("content-type", "application/grpc");
    let header = header.header("x-te", field("te")).header("x-timeout", field("grpc-timeout"));
    let header = header.header("x-trailer", field("trailer"));
    let path = request.uri().path().to_owned();
    let header = if path == "/announces" { header.header("trailer", "x-sum") } else { header };
    let mut body = request.into_body();
    if path == "/fails" {
        respond.send_response(header.header("grpc-status", "5").body(()).unwrap(), true).unwrap();
        return;
    }
    if path == "/silent" {
        std::future::poll_fn(|cx| respond.poll_reset(cx)).await.unwrap();
        state.cancelled.fetch_add(1, Ordering::AcqRel);
        return;
    }
    let mut out = respond.send_response(header.body(()).unwrap(), false).unwrap();
    let mut status = "0";
    let mut inbox = BytesMut::new();
    match path.as_str() {
        "/grpc.health.v1.Health/Check" => {
            let asked = next_message(&mut body, &mut inbox).await.unwrap();
            match &asked[..] {
                b"" | b"\x0a\x04shop" => {
                    out.send_data(message(&[8, state.health.load(Ordering::Acquire)]), false).unwrap()
                }
                _ => status = "5",
            }
        }
        "/server-stream" => {
            for turn in 0..5_u8 {
                out.send_data(message(&[turn]), false).unwrap();
                tokio::task::yield_now().await;
            }
        }
        "/client-stream" => {
            let mut count = 0_u8;
            while next_message(&mut body, &mut inbox).await.is_some() {
                count += 1;
            }
            out.send_data(message(&[count]), false).unwrap();
        }
        "/breaks" => {
            out.send_data(message(b"half"), false).unwrap();
            status = "13";
        }
        "/unavailable" => status = "14",
        // Unary calls and streams both ways: each message comes back as it came.
        _ => {
            while let Some(one) = next_message(&mut body, &mut inbox).await {
                send_all(&mut out, message(&one), false).await;
            }
        }
    }
    let _ = out.send_trailers(trailers(status));
}

/// A client's connection.
#[derive(Clone)]
pub struct Caller {
    sender: SendRequest<Bytes>,
    scheme: &'static str,
}

impl Caller {
    pub async fn connect(address: SocketAddr, tls: bool) -> Self {
        let stream = open(address, tls.then_some("h2")).await;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(1 << 20).initial_connection_window_size(1 << 22);
        let (sender, connection) = builder.handshake(stream).await.unwrap();
        tokio::spawn(connection);
        Self { sender, scheme: if tls { "https" } else { "http" } }
    }

    /// Begins a call.
    pub async fn call(&mut self, path: &str) -> (ResponseFuture, SendStream<Bytes>) {
        self.call_at("example.org", path).await
    }

    /// Begins a call at this host.
    pub async fn call_at(&mut self, host: &str, path: &str) -> (ResponseFuture, SendStream<Bytes>) {
        self.sender = self.sender.clone().ready().await.unwrap();
        let request = Request::builder().method("POST").uri(format!("{}://{host}{path}", self.scheme));
        let request = request.header("te", "trailers").header("content-type", "application/grpc+proto");
        self.sender.send_request(request.header("grpc-timeout", "60S").body(()).unwrap(), false).unwrap()
    }
}

/// How a call ended: `grpc-status`, from the trailers or from a header that is all there is.
pub async fn status(response: Response<RecvStream>) -> String {
    assert_eq!(response.status(), 200);
    let text = |fields: &HeaderMap| fields.get("grpc-status").map(|status| status.to_str().unwrap().to_owned());
    if let Some(status) = text(response.headers()) {
        assert!(response.into_body().is_end_stream());
        return status;
    }
    let mut body = response.into_body();
    rest(&mut body).await;
    text(&body.trailers().await.unwrap().unwrap()).unwrap()
}
