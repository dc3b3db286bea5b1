//! A backend whose answer the path decides, over HTTP/1 or HTTP/2, plain or under TLS: one script for every way that Weir
//! has to a backend.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::tls::{Accepted, listen, read_head};
use super::ways::{PLAIN, THROUGHOUT, Way};
use super::{Config, LISTENER_TLS, UPSTREAM_TLS, Weir, delayed, http2};

/// How long `/late` takes, and how long `/slow` pauses between its pieces.
pub const LATE: Duration = Duration::from_millis(900);

/// A way to a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// HTTP/1 by Weir's own session.
    Own,
    /// HTTP/1 by Pingora's session.
    Http1,
    /// HTTP/1 under TLS.
    Tls,
    /// HTTP/2 by prior knowledge.
    H2c,
    /// HTTP/2 under TLS.
    H2,
}

pub const KINDS: [Kind; 5] = [Kind::Own, Kind::Http1, Kind::Tls, Kind::H2c, Kind::H2];

impl Kind {
    /// A field of a request that goes this way: Weir's own session does not take all requests.
    pub fn field(self) -> &'static str {
        if self == Self::Own { "" } else { "TE: trailers\r\n" }
    }

    fn way(self) -> Way {
        if matches!(self, Self::Tls | Self::H2) { THROUGHOUT } else { PLAIN }
    }

    fn protocol(self) -> &'static str {
        match self {
            Self::H2c => "h2c",
            Self::H2 => "h2",
            _ => "http1",
        }
    }

    /// Weir before such a backend, with these settings of the upstream: listeners `web` and `secure`.
    pub fn weir(self, upstream: &str) -> Weir {
        self.weir_with("", upstream)
    }

    /// The same with settings of the listeners.
    pub fn weir_with(self, listener: &str, upstream: &str) -> Weir {
        self.start("", listener, upstream, |backend| backend)
    }

    /// Weir before such a backend that it reaches at another address, with these settings of the upstream.
    pub fn weir_through(self, address: impl FnOnce(SocketAddr) -> SocketAddr, upstream: &str) -> Weir {
        self.start("", "", upstream, address)
    }

    /// Weir before such a backend, with these settings of `server`.
    pub fn weir_of(self, server: &str) -> Weir {
        self.start(server, "", "", |backend| backend)
    }

    fn start(
        self,
        server: &str,
        listener: &str,
        upstream: &str,
        address: impl FnOnce(SocketAddr) -> SocketAddr,
    ) -> Weir {
        let (folder, certificate) = self.way().files();
        let http2 = matches!(self, Self::H2c | Self::H2);
        let serve =
            move |stream| async move { if http2 { http2_connection(stream).await } else { http1(stream).await } };
        let backend = listen(certificate.as_ref(), if http2 { "h2" } else { "http/1.1" }, serve);
        let config = Config::to(address(backend))
            .set("listeners.web", listener)
            .listener("secure", LISTENER_TLS)
            .set("listeners.secure", listener)
            .set("upstreams.up.protocol", self.protocol())
            .set("upstreams.up", if self.way().backend { UPSTREAM_TLS } else { "" })
            .set("upstreams.up", upstream);
        let config = if server.is_empty() { config } else { config.set("server", server) };
        Weir::start_in(folder, config)
    }
}

/// Header fields, pieces of the body, and whether the response ends.
type Script = (&'static [(&'static str, &'static str)], Vec<Bytes>, bool);

fn script(path: &str, body: Vec<u8>) -> Script {
    let piece = Bytes::from_static;
    match path {
        "/begin" => (&[("content-length", "1000")], vec![piece(b"first")], false),
        "/slow" => (&[("content-length", "15")], vec![piece(b"first"), piece(b"-then"), piece(b"-last")], true),
        "/unsized" => (&[], vec![piece(b"abc"), piece(b"def")], true),
        _ => (&[("x-body", "echo")], vec![body.into()], true),
    }
}

async fn http1(mut stream: Accepted) {
    while let Some(head) = read_head(&mut stream).await {
        let path = head.split(' ').nth(1).unwrap().to_owned();
        let lower = head.to_lowercase();
        let has = |text: &str| lower.contains(text);
        assert!(!has("expect:"), "Weir answers it: {head}");
        if path == "/early" {
            let _ = stream.write_all(b"HTTP/1.1 403 X\r\nContent-Length: 2\r\n\r\nno").await;
            let _ = stream.flush().await;
        }
        let mut body = Vec::new();
        if has("transfer-encoding: chunked") {
            while !body.ends_with(b"0\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else { return };
                body.push(byte);
            }
            body = unchunked(&body);
        } else if let Some(at) = lower.find("content-length: ") {
            let digits: String = lower[at + 16..].chars().take_while(char::is_ascii_digit).collect();
            body.resize(digits.parse().unwrap(), 0);
            if stream.read_exact(&mut body).await.is_err() {
                return;
            }
        }
        match path.as_str() {
            "/early" => return,
            "/hold" => {
                let _ = stream.read_u8().await;
                return;
            }
            "/late" => delayed(LATE).await,
            _ => {}
        }
        if answer1(&mut stream, &path, body).await.is_none() {
            return;
        }
    }
}

async fn answer1(stream: &mut Accepted, path: &str, body: Vec<u8>) -> Option<()> {
    let (fields, pieces, ends) = script(path, body);
    let chunked = path == "/unsized";
    let mut head = String::from("HTTP/1.1 200 OK\r\n");
    for (name, value) in fields {
        head += &format!("{name}: {value}\r\n");
    }
    if chunked {
        head += "Transfer-Encoding: chunked\r\n";
    } else if !head.contains("content-length") {
        head += &format!("Content-Length: {}\r\n", pieces.iter().map(Bytes::len).sum::<usize>());
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).await.ok()?;
    for piece in pieces {
        let piece = if chunked { [b"3\r\n", &piece[..], b"\r\n"].concat().into() } else { piece };
        stream.write_all(&piece).await.ok()?;
        stream.flush().await.ok()?;
        if path == "/slow" {
            delayed(LATE).await;
        }
    }
    if chunked {
        stream.write_all(b"0\r\n\r\n").await.ok()?;
    }
    if !ends {
        let _ = stream.read_u8().await;
        return None;
    }
    stream.flush().await.ok()
}

fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let at = bytes.windows(2).position(|two| two == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..at]).unwrap(), 16).unwrap();
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&bytes[at + 2..at + 2 + size]);
        bytes = &bytes[at + size + 4..];
    }
}

async fn http2_connection(stream: Accepted) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(stream2(request, respond));
    }
}

async fn stream2(request: http::Request<h2::RecvStream>, mut respond: h2::server::SendResponse<Bytes>) {
    let path = request.uri().path().to_owned();
    assert!(!request.headers().contains_key("expect"), "Weir answers it");
    if path == "/early" {
        let header = http::Response::builder().status(403).header("content-length", 2).body(()).unwrap();
        let _ = respond.send_response(header, false).map(|mut out| out.send_data(Bytes::from_static(b"no"), true));
        return;
    }
    let body = http2::rest(&mut request.into_body()).await;
    match path.as_str() {
        "/hold" => {
            let _ = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
            return;
        }
        "/late" => delayed(LATE).await,
        _ => {}
    }
    let (fields, pieces, ends) = script(&path, body);
    let mut header = http::Response::builder();
    for (name, value) in fields {
        header = header.header(*name, *value);
    }
    let Ok(mut out) = respond.send_response(header.body(()).unwrap(), false) else { return };
    for piece in pieces {
        let _ = out.send_data(piece, false);
        if path == "/slow" {
            delayed(LATE).await;
        }
    }
    if ends {
        let _ = out.send_data(Bytes::new(), true);
    } else {
        let _ = std::future::poll_fn(|cx| out.poll_reset(cx)).await;
    }
}
