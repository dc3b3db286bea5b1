//! Clients that send exactly the bytes they are told to.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{DEADLINE, eventually};

/// A response.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    /// The first field of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A connection, kept as long as the value.
pub struct Client<S = TcpStream> {
    pub stream: S,
    inbox: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }

    /// Whether the other end has closed, waiting for it at most this long.
    pub fn is_closed_within(&mut self, wait: Duration) -> bool {
        self.stream.set_read_timeout(Some(wait)).unwrap();
        let mut byte = [0];
        let closed = match self.stream.read(&mut byte) {
            Ok(0) => true,
            Ok(_) => panic!("unexpected byte {byte:?}"),
            Err(error) => !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
        };
        self.stream.set_read_timeout(Some(DEADLINE)).unwrap();
        closed
    }
}

impl Client {
    /// Waits until the other end's kernel has all that was sent.
    pub fn wait_until_received(&self) {
        eventually("everything sent is received", || {
            let port = format!(":{:04X}", self.stream.local_addr().unwrap().port());
            let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
            let rows = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
            // The columns are: number, local address, remote address, state, "send queue:receive queue".
            let row = rows.filter(|row| row.len() > 4).find(|row| row[1].ends_with(&port)).unwrap();
            row[4].starts_with("00000000:")
        });
    }
}

impl<S: Read + Write> Client<S> {
    /// Over a stream that is open.
    pub fn over(stream: S) -> Self {
        Self { stream, inbox: Vec::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    pub fn get(&mut self, path: &str) -> Response {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
        self.response("GET")
    }

    pub fn get_with(&mut self, path: &str, headers: &[(&str, &str)]) -> Response {
        let host = if headers.iter().any(|(n, _)| n.eq_ignore_ascii_case("host")) { "" } else { "Host: test\r\n" };
        let fields: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        self.send(format!("GET {path} HTTP/1.1\r\n{host}{fields}\r\n"));
        self.response("GET")
    }

    pub fn post(&mut self, path: &str, body: &[u8]) -> Response {
        self.send(format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", body.len()));
        self.send(body);
        self.response("POST")
    }

    /// The next final response to a request with this method.
    pub fn response(&mut self, method: &str) -> Response {
        self.try_response(method).expect("a response, not the end of the connection")
    }

    /// The next final response, or nothing if the connection ends first.
    pub fn try_response(&mut self, method: &str) -> Option<Response> {
        loop {
            let response = self.any_response(method)?;
            if response.status >= 200 || response.status == 101 {
                return Some(response);
            }
        }
    }

    /// The next response, interim ones too.
    pub fn any_response(&mut self, method: &str) -> Option<Response> {
        let end = loop {
            if let Some(at) = find(&self.inbox, b"\r\n\r\n") {
                break at;
            }
            self.more()?;
        };
        let head = String::from_utf8_lossy(&self.inbox[..end]).into_owned();
        self.inbox.drain(..end + 4);
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().unwrap();
        let field = |line: &str| line.split_once(':').map(|(n, v)| (n.to_owned(), v.trim().to_owned()));
        let headers: Vec<_> = lines.filter_map(field).collect();
        let mut response = Response { status, headers, body: Vec::new() };
        if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            return Some(response);
        }
        response.body = match (response.header("transfer-encoding"), response.header("content-length")) {
            (Some(_), _) => self.chunked()?,
            (None, Some(length)) => self.exactly(length.parse().unwrap())?,
            (None, None) => self.read_to_end(),
        };
        Some(response)
    }

    /// Up to and with these bytes.
    pub fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        let mut seen = Vec::new();
        while !seen.ends_with(end) {
            seen.extend(self.exactly(1)?);
        }
        Some(seen)
    }

    /// So many bytes.
    pub fn exactly(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.inbox.len() < length {
            self.more()?;
        }
        Some(self.inbox.drain(..length).collect())
    }

    /// All bytes up to the end of the connection.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        while self.more().is_some() {}
        std::mem::take(&mut self.inbox)
    }

    fn chunked(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let at = loop {
                match find(&self.inbox, b"\r\n") {
                    Some(at) => break at,
                    None => self.more()?,
                }
            };
            let line = String::from_utf8_lossy(&self.inbox[..at]).into_owned();
            let size = usize::from_str_radix(line.split(';').next()?.trim(), 16).unwrap();
            self.inbox.drain(..at + 2);
            body.extend(self.exactly(size)?);
            assert_eq!(self.exactly(2)?, b"\r\n");
            if size == 0 {
                return Some(body);
            }
        }
    }

    fn more(&mut self) -> Option<()> {
        let mut piece = [0; 16 * 1024];
        match self.stream.read(&mut piece) {
            Ok(0) => None,
            Ok(read) => {
                self.inbox.extend_from_slice(&piece[..read]);
                Some(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("reading: {error}; so far {:?}", String::from_utf8_lossy(&self.inbox)),
        }
    }
}

/// A body as chunks of at most so many bytes, with its end.
pub fn chunks(body: &[u8], most: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(body.len() + 64);
    for piece in body.chunks(most) {
        bytes.extend(format!("{:x}\r\n", piece.len()).bytes());
        bytes.extend_from_slice(piece);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0\r\n\r\n");
    bytes
}

/// Sends bytes and reads to the end of the connection.
pub fn exchange(address: SocketAddr, bytes: impl AsRef<[u8]>) -> String {
    let mut client = Client::connect(address);
    client.send(bytes);
    String::from_utf8_lossy(&client.read_to_end()).into_owned()
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// Clients that send one request after another until `stop`; any answer but 200 fails the test. How many there were.
pub fn busy(address: SocketAddr, clients: usize, stop: &Arc<AtomicBool>) -> Vec<std::thread::JoinHandle<usize>> {
    let client = move |stop: Arc<AtomicBool>| {
        let mut client = Client::connect(address);
        let mut served = 0;
        while !stop.load(Ordering::Acquire) {
            assert_eq!(client.get("/").status, 200);
            served += 1;
        }
        served
    };
    (0..clients).map(|_| Arc::clone(stop)).map(|stop| std::thread::spawn(move || client(stop))).collect()
}
