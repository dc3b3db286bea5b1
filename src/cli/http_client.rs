//! A small blocking HTTP/1.1 client for the admin address: one request a connection, a deadline for the whole, a
//! bound on the answer. No TLS, no redirects: the admin address is loopback, a Unix socket, or inside the operator's network.

use std::io::{self, Read, Write};
use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

/// The longest answer that is read.
const MAX_ANSWER: u64 = 64 << 20;

/// How long one address may take to take the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Where the admin API is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    place: Place,
    prefix: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
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
    /// The path below the base, from its slash on.
    pub path: &'a str,
    /// The bearer token to show.
    pub token: Option<&'a str>,
    /// The body and its type.
    pub body: Option<(&'a str, &'a [u8])>,
    /// For the whole exchange.
    pub timeout: Duration,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl Base {
    /// Of `http://host:port`, `host:port` or `unix:/path`.
    pub fn parse(url: &str) -> Result<Self, String> {
        let wrong = || format!("`{url}` is not an admin address; write http://HOST:PORT or unix:/PATH");
        if let Some(path) = url.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            let place = Place::Unix(path.into());
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
        let place = Place::Authority(format!("{}:{port}", parsed.host()));
        Ok(Self { place, prefix: prefix.trim_end_matches('/').to_owned() })
    }

    /// Sends the request and reads the whole answer.
    pub fn call(&self, call: Call<'_>) -> io::Result<Answer> {
        let deadline = Instant::now() + call.timeout;
        let mut stream = Timed { stream: self.connect(deadline)?, deadline };
        stream.write_all(self.head(call)?.as_bytes())?;
        // A server that refuses early answers without reading the body: what it says is worth more than the error.
        let sent = call.body.map_or(Ok(()), |(_, body)| stream.write_all(body));
        let mut bytes = Vec::new();
        let read = stream.take(MAX_ANSWER).read_to_end(&mut bytes);
        match parse(&bytes) {
            Some(answer) => Ok(answer),
            None => sent.and(read).and(Err(io::Error::other("the answer is not HTTP, or was cut"))),
        }
    }

    fn connect(&self, deadline: Instant) -> io::Result<Socket> {
        let connect = |domain, address: &SockAddr| {
            let socket = Socket::new(domain, Type::STREAM, None)?;
            socket.connect_timeout(address, left(deadline)?.min(CONNECT_TIMEOUT))?;
            Ok(socket)
        };
        let authority = match &self.place {
            Place::Unix(path) => return connect(Domain::UNIX, &SockAddr::unix(path)?),
            Place::Authority(authority) => authority,
        };
        let mut last = io::Error::other("the name has no address");
        for address in authority.to_socket_addrs()? {
            match connect(Domain::for_address(address), &address.into()) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn head(&self, call: Call<'_>) -> io::Result<String> {
        let host = match &self.place {
            Place::Authority(authority) => authority,
            Place::Unix(_) => "localhost",
        };
        let (method, prefix, path) = (call.method, &self.prefix, call.path);
        let mut head = format!("{method} {prefix}{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
        if let Some(token) = call.token {
            if token.bytes().any(|b| b.is_ascii_control()) {
                return Err(io::Error::other("the token has control characters"));
            }
            head += &format!("Authorization: Bearer {token}\r\n");
        }
        if let Some((kind, body)) = call.body {
            head += &format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", body.len());
        }
        Ok(head + "\r\n")
    }
}

/// A stream whose every wait ends at the deadline.
struct Timed {
    stream: Socket,
    deadline: Instant,
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(left(self.deadline)?))?;
        self.stream.read(buffer)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(left(self.deadline)?))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// `None`: not HTTP, or cut short.
fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let (mut length, mut chunked) = (None, false);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.trim().parse::<usize>().ok()?);
        }
        chunked |= name.eq_ignore_ascii_case("transfer-encoding") && value.trim().eq_ignore_ascii_case("chunked");
    }
    let rest = &bytes[end + 4..];
    let body = match (chunked, length) {
        (true, _) => unchunk(rest)?,
        (false, Some(length)) => rest.get(..length)?.to_vec(),
        (false, None) => rest.to_vec(),
    };
    Some(Answer { status, body })
}

fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = std::str::from_utf8(&rest[..end]).ok()?.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        rest = &rest[end + 2..];
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size.checked_add(2)?..)?;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parsed() {
        let base = |url: &str| Base::parse(url).map(|base| (base.place, base.prefix));
        let at = |authority: &str, prefix: &str| Ok((Place::Authority(authority.into()), prefix.to_owned()));
        assert_eq!(base("http://127.0.0.1:9180"), at("127.0.0.1:9180", ""));
        assert_eq!(base("[::1]:9180"), at("[::1]:9180", ""));
        assert_eq!(base("http://host/weir/"), at("host:80", "/weir"));
        for unix in ["unix:/run/a.sock", "unix:///run/a.sock"] {
            assert_eq!(base(unix), Ok((Place::Unix("/run/a.sock".into()), String::new())), "{unix}");
        }
        for wrong in ["https://a:1", "http://", "http://a b", "http://u@a", "", "http://a/ x", "unix:", "unix:a.sock"] {
            assert!(base(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn answers_are_parsed() {
        let answer = |status, body: &[u8]| Some(Answer { status, body: body.to_vec() });
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"), answer(200, b"ab"));
        assert_eq!(parse(b"HTTP/1.0 404 \r\n\r\nto the end"), answer(404, b"to the end"));
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
        assert_eq!(parse(chunked), answer(200, b"abc"));
        for wrong in ["", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", "SSH-2.0\r\n\r\n"] {
            assert_eq!(parse(wrong.as_bytes()), None, "{wrong}");
        }
        for cut in 0..chunked.len() - 5 {
            assert_eq!(parse(&chunked[..cut]), None, "{cut}");
        }
    }
}
