//! Scripted origins: an HTTP/1 server whose answers a test decides, or raw connections.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{DEADLINE, delay};

/// A request as the origin got it.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The header's bytes.
    pub raw: String,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }
}

/// What to answer.
#[derive(Debug, Clone)]
pub struct Reply {
    bytes: Vec<u8>,
    delay: Duration,
    close: bool,
}

impl Reply {
    /// A status with a body and its length.
    pub fn new(status: u16, body: impl AsRef<[u8]>) -> Self {
        Self::with(status, &[], body)
    }

    /// The same with header fields.
    pub fn with(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let mut bytes = format!("HTTP/1.1 {status} X\r\n").into_bytes();
        for (name, value) in headers {
            bytes.extend(format!("{name}: {value}\r\n").bytes());
        }
        bytes.extend(format!("Content-Length: {}\r\n\r\n", body.len()).bytes());
        bytes.extend_from_slice(body);
        Self { bytes, delay: Duration::ZERO, close: false }
    }

    /// These bytes.
    pub fn raw(bytes: impl AsRef<[u8]>) -> Self {
        Self { bytes: bytes.as_ref().to_vec(), delay: Duration::ZERO, close: false }
    }

    /// Nothing but the end of the connection.
    pub fn hang_up() -> Self {
        Self { bytes: Vec::new(), delay: Duration::ZERO, close: true }
    }

    /// Waits before it answers.
    pub fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// Closes the connection behind it.
    pub fn and_close(self) -> Self {
        Self { close: true, ..self }
    }
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

/// An origin on a port of its own. It ends with the value.
pub struct Origin {
    address: SocketAddr,
    state: Arc<State>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    stop: AtomicBool,
    connections: AtomicUsize,
    requests: Mutex<Vec<Request>>,
    open: Mutex<Vec<TcpStream>>,
}

impl Origin {
    /// Answers each request by this.
    pub fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_on(SocketAddr::from(([127, 0, 0, 1], 0)), handler)
    }

    /// The same on an address that was used before.
    pub fn start_on(address: SocketAddr, handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let handler: Arc<Handler> = Arc::new(handler);
        Self::raw_on(address, move |stream, state| {
            let _ = serve(stream, state, &*handler);
        })
    }

    /// Answers 200 with its name.
    pub fn named(name: &'static str) -> Self {
        Self::start(move |_| Reply::new(200, name))
    }

    /// Answers its name, and at `/healthz` the status that can be changed: 200 at first.
    pub fn with_health(name: &'static str) -> (Self, Arc<AtomicU16>) {
        let health = Arc::new(AtomicU16::new(200));
        let status = Arc::clone(&health);
        let origin = Self::start(move |request| match request.target.as_str() {
            "/healthz" => Reply::new(status.load(Ordering::Acquire), name),
            _ => Reply::new(200, name),
        });
        (origin, health)
    }

    /// Does this with each connection.
    pub fn raw(connection: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        Self::raw_on(SocketAddr::from(([127, 0, 0, 1], 0)), move |stream, _| connection(stream))
    }

    fn raw_on(address: SocketAddr, connection: impl Fn(TcpStream, &State) + Send + Sync + 'static) -> Self {
        let listener = super::eventually("a port for an origin", || TcpListener::bind(address).ok());
        let address = listener.local_addr().unwrap();
        let state = Arc::<State>::default();
        let (mine, connection) = (Arc::clone(&state), Arc::new(connection));
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if mine.stop.load(Ordering::Acquire) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                mine.connections.fetch_add(1, Ordering::AcqRel);
                mine.open.lock().unwrap().push(stream.try_clone().unwrap());
                let (state, connection) = (Arc::clone(&mine), Arc::clone(&connection));
                let closer = stream.try_clone().unwrap();
                std::thread::spawn(move || {
                    connection(stream, &state);
                    let _ = closer.shutdown(Shutdown::Both);
                });
            }
        });
        Self { address, state, accepting: Some(accepting) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Acquire)
    }

    /// Requests so far, in order.
    pub fn requests(&self) -> Vec<Request> {
        self.state.requests.lock().unwrap().clone()
    }

    pub fn last_request(&self) -> Request {
        self.requests().pop().expect("a request")
    }
}

/// Its address.
impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.address.fmt(f)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Release);
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        for stream in self.state.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        // From here on connections are refused.
        let _ = self.accepting.take().map(JoinHandle::join);
    }
}

fn serve(stream: TcpStream, state: &State, handler: &Handler) -> Option<()> {
    stream.set_read_timeout(Some(DEADLINE)).ok()?;
    stream.set_nodelay(true).ok()?;
    let mut writer = stream.try_clone().ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let request = read_request(&mut reader, &mut writer)?;
        state.requests.lock().unwrap().push(request.clone());
        let reply = handler(&request);
        delay(reply.delay);
        writer.write_all(&reply.bytes).ok()?;
        if reply.close {
            let _ = writer.shutdown(Shutdown::Both);
            return None;
        }
    }
}

/// The next request of a connection, with its body; nothing if the connection ends first.
pub fn read_request(reader: &mut BufReader<TcpStream>, writer: &mut TcpStream) -> Option<Request> {
    let mut raw = String::new();
    loop {
        let before = raw.len();
        if reader.read_line(&mut raw).ok()? == 0 {
            return None;
        }
        if raw[before..] == *"\r\n" {
            break;
        }
    }
    let mut lines = raw.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let field = |line: &str| line.split_once(':').map(|(n, v)| (n.to_owned(), v.trim().to_owned()));
    let headers: Vec<_> = lines.filter_map(field).collect();
    let mut request = Request { method, target, headers, body: Vec::new(), raw: raw.clone() };
    if request.header("expect").is_some() {
        writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    request.body = read_body(reader, &request)?;
    Some(request)
}

fn read_body(reader: &mut BufReader<TcpStream>, request: &Request) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    if let Some(length) = request.header("content-length") {
        body.resize(length.parse().unwrap(), 0);
        reader.read_exact(&mut body).ok()?;
    } else if request.header("transfer-encoding").is_some() {
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let size = usize::from_str_radix(line.trim(), 16).unwrap_or_else(|_| panic!("chunk size {line:?}"));
            let start = body.len();
            body.resize(start + size + 2, 0);
            reader.read_exact(&mut body[start..]).ok()?;
            assert_eq!(body.split_off(start + size), b"\r\n");
            if size == 0 {
                break;
            }
        }
    }
    Some(body)
}
