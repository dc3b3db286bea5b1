//! A blocking HTTP/1.1 client for the admin API: hyper on its own runtime, one request per connection.
//!
//! It never uses TLS and never follows redirects: the admin address is loopback, a Unix socket, or inside the
//! operator's network. The whole exchange has a timeout, and the response has a size limit.

use std::error::Error as _;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;

/// Maximum size of a response body.
const MAX_RESPONSE_BYTES: usize = 64 << 20;

/// Timeout of a connection attempt to one address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The address of the admin API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    place: Endpoint,
    prefix: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Endpoint {
    /// `HOST:PORT`.
    Authority(String),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// A request.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// `GET` or `POST`.
    pub method: &'a str,
    /// The path below the base, including its first slash.
    pub path: &'a str,
    /// The bearer token.
    pub token: Option<&'a str>,
    /// The media type and the body.
    pub body: Option<(&'a str, &'a [u8])>,
    /// Timeout of the whole exchange.
    pub timeout: Duration,
}

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl Base {
    /// Parses `http://host:port`, `host:port` or `unix:/path`.
    pub fn parse(url: &str) -> Result<Self, String> {
        let wrong = || format!("`{url}` is not an admin address; write http://HOST:PORT or unix:/PATH");
        if let Some(path) = url.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            let place = Endpoint::Unix(path.into());
            return if path.starts_with('/') { Ok(Self { place, prefix: String::new() }) } else { Err(wrong()) };
        }
        let rest = match url.split_once("://") {
            Some(("http", rest)) => rest,
            Some(_) => return Err(wrong()),
            None => url,
        };
        let (authority, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let parsed: http::uri::Authority = authority.parse().map_err(|_| wrong())?;
        if parsed.host().is_empty() || authority.contains('@') || prefix.contains(|c: char| c <= ' ') {
            return Err(wrong());
        }
        let port = parsed.port_u16().unwrap_or(80);
        let place = Endpoint::Authority(format!("{}:{port}", parsed.host()));
        Ok(Self { place, prefix: prefix.trim_end_matches('/').to_owned() })
    }

    /// Sends the request and reads the whole response. Blocks; do not call it on a runtime.
    pub fn call(&self, call: Call<'_>) -> io::Result<Response> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let answer = runtime.block_on(async { timeout(call.timeout, self.exchange(call)).await });
        // A name look-up may still run on another thread. Do not wait for it.
        runtime.shutdown_background();
        answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn exchange(&self, call: Call<'_>) -> io::Result<Response> {
        let request = self.request(call)?;
        match &self.place {
            Endpoint::Unix(path) => send(in_time(UnixStream::connect(path)).await?, request).await,
            Endpoint::Authority(authority) => send(connect(authority).await?, request).await,
        }
    }

    fn request(&self, call: Call<'_>) -> io::Result<Request<Full<Bytes>>> {
        let host = match &self.place {
            Endpoint::Authority(authority) => authority,
            Endpoint::Unix(_) => "localhost",
        };
        let target = format!("{}{}", self.prefix, call.path);
        let mut request =
            Request::builder().method(call.method).uri(target).header(HOST, host).header(CONNECTION, "close");
        if let Some(token) = call.token {
            let value = HeaderValue::try_from(format!("Bearer {token}")).ok();
            let value = value.filter(|_| !token.contains(|c: char| c.is_ascii_control()));
            request = request.header(AUTHORIZATION, value.ok_or(io::Error::other("the token has control characters"))?);
        }
        if let Some((kind, _)) = call.body {
            request = request.header(CONTENT_TYPE, kind);
        }
        let body = call.body.map(|(_, body)| Bytes::copy_from_slice(body)).unwrap_or_default();
        request.body(Full::new(body)).map_err(io::Error::other)
    }
}

/// Connects to the first address of the name that accepts the connection.
async fn connect(authority: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::other("the name has no address");
    for address in lookup_host(authority).await? {
        match in_time(TcpStream::connect(address)).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn in_time<S>(connected: impl Future<Output = io::Result<S>>) -> io::Result<S> {
    timeout(CONNECT_TIMEOUT, connected).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn send<S>(stream: S, request: Request<Full<Bytes>>) -> io::Result<Response>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(AnswerFirst(stream))).await.map_err(explain)?;
    tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(explain)?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), MAX_RESPONSE_BYTES).collect().await;
    let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
        Ok(error) => explain(*error),
        Err(_) => io::Error::other("the answer is too long"),
    })?;
    Ok(Response { status, body: body.to_bytes().into() })
}

/// The I/O error below hyper's error, if there is one.
fn explain(error: hyper::Error) -> io::Error {
    let below = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    match below.filter(|error| error.kind() != io::ErrorKind::UnexpectedEof) {
        Some(error) => io::Error::new(error.kind(), error.to_string()),
        None => io::Error::other("the answer is not HTTP, or was cut"),
    }
}

/// A stream that ignores write errors. A server may reject a request early, without reading its body. Its response is
/// more useful than the write error, and a read still reports a closed connection.
struct AnswerFirst<S>(S);

impl<S: AsyncRead + Unpin> AsyncRead for AnswerFirst<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for AnswerFirst<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes).map(|written| Ok(written.unwrap_or(bytes.len())))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx).map(|_| Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx).map(|_| Ok(()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn addresses_are_parsed() {
        let base = |url: &str| Base::parse(url).map(|base| (base.place, base.prefix));
        let at = |authority: &str, prefix: &str| Ok((Endpoint::Authority(authority.into()), prefix.to_owned()));
        assert_eq!(base("http://127.0.0.1:9180"), at("127.0.0.1:9180", ""));
        assert_eq!(base("[::1]:9180"), at("[::1]:9180", ""));
        assert_eq!(base("http://host/weir/"), at("host:80", "/weir"));
        for unix in ["unix:/run/a.sock", "unix:///run/a.sock"] {
            assert_eq!(base(unix), Ok((Endpoint::Unix("/run/a.sock".into()), String::new())), "{unix}");
        }
        for wrong in ["https://a:1", "http://", "http://a b", "http://u@a", "", "http://a/ x", "unix:", "unix:a.sock"] {
            assert!(base(wrong).is_err(), "{wrong}");
        }
    }

    /// Sends a request with `body` to a server that reads the request head, sends `bytes` and closes.
    fn answered(bytes: &[u8], body: &[u8]) -> io::Result<Response> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = Base::parse(&listener.local_addr().unwrap().to_string()).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    head.extend(byte);
                }
                stream.write_all(bytes).unwrap();
            });
            let body = Some(("text/plain", body)).filter(|(_, body)| !body.is_empty());
            let method = if body.is_some() { "POST" } else { "GET" };
            base.call(Call { method, path: "/", token: None, body, timeout: Duration::from_secs(20) })
        })
    }

    #[test]
    fn answers_are_parsed() {
        let answer = |bytes: &[u8]| answered(bytes, b"").map(|answer| (answer.status, answer.body)).ok();
        let expected = |status, body: &[u8]| Some((status, body.to_vec()));
        assert_eq!(answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"), expected(200, b"ab"));
        assert_eq!(answer(b"HTTP/1.0 404 \r\n\r\nto the end"), expected(404, b"to the end"));
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
        assert_eq!(answer(chunked), expected(200, b"abc"));
        for wrong in ["", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", "SSH-2.0\r\n\r\n"] {
            let error = answered(wrong.as_bytes(), b"").unwrap_err();
            assert_eq!(error.to_string(), "the answer is not HTTP, or was cut", "{wrong}");
        }
        for cut in 0..chunked.len() - 5 {
            assert_eq!(answer(&chunked[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn an_early_response_to_a_partially_sent_body_is_returned() {
        let refusal = b"HTTP/1.1 413 Too Long\r\nContent-Length: 2\r\n\r\nno";
        let answer = answered(refusal, &vec![b'x'; 16 << 20]).unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (413, b"no".as_slice()));
    }

    #[test]
    fn a_server_that_never_responds_causes_a_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = Base::parse(&listener.local_addr().unwrap().to_string()).unwrap();
        let call = Call { method: "GET", path: "/", token: None, body: None, timeout: Duration::from_millis(50) };
        assert_eq!(base.call(call).unwrap_err().kind(), io::ErrorKind::TimedOut);
        let token = Some("a\nb");
        assert_eq!(base.call(Call { token, ..call }).unwrap_err().to_string(), "the token has control characters");
    }
}
