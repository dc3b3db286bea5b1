//! An origin for many and large requests: it echoes bodies and keeps nothing of them.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};

use super::origin::read_request;

/// The faults of an echo, none by default.
#[derive(Default)]
pub struct Faults {
    /// Every so many requests it hangs up instead of answering; 0: never.
    pub hang_up_every: usize,
    /// Every so many requests it answers 503; 0: never.
    pub unavailable_every: usize,
}

/// An echo on a port of its own. It ends with the value.
pub struct Echo {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    name: String,
    faults: Faults,
    served: AtomicUsize,
    health: AtomicU16,
    stop: AtomicBool,
}

impl Echo {
    pub fn start(name: &str, faults: Faults) -> Self {
        Self::start_on(SocketAddr::from(([127, 0, 0, 1], 0)), name, faults)
    }

    pub fn start_on(address: SocketAddr, name: &str, faults: Faults) -> Self {
        let listener = super::eventually("a port for an echo", || TcpListener::bind(address).ok());
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            name: name.to_owned(),
            faults,
            served: AtomicUsize::new(0),
            health: AtomicU16::new(200),
            stop: AtomicBool::new(false),
        });
        let mine = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if mine.stop.load(Ordering::Acquire) {
                    return;
                }
                let state = Arc::clone(&mine);
                std::thread::spawn(move || serve(stream, &state));
            }
        });
        Self { address, state }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests answered with an echo.
    pub fn served(&self) -> usize {
        self.state.served.load(Ordering::Acquire)
    }
}

/// Its address.
impl std::fmt::Display for Echo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.address.fmt(f)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Release);
        let _ = TcpStream::connect_timeout(&self.address, std::time::Duration::from_secs(1));
    }
}

fn serve(stream: TcpStream, state: &State) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut writer = stream.try_clone().ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let request = read_request(&mut reader, &mut writer)?;
        if request.header("upgrade").is_some() {
            return tunnel(&mut reader, &mut writer);
        }
        if let Some(answer) = health_answer(state, &request.target) {
            writer.write_all(answer.as_bytes()).ok()?;
            continue;
        }
        let turn = state.served.fetch_add(1, Ordering::AcqRel) + 1;
        let due = |every: usize| every > 0 && turn.is_multiple_of(every);
        if due(state.faults.hang_up_every) {
            return None;
        }
        let status = if due(state.faults.unavailable_every) { 503 } else { 200 };
        writer
            .write_all(&answer(status, &state.name, request.header("transfer-encoding").is_some(), &request.body))
            .ok()?;
    }
}

/// `/healthz` answers the status that `/health/STATUS` sets.
fn health_answer(state: &State, path: &str) -> Option<String> {
    if let Some(status) = path.strip_prefix("/health/") {
        state.health.store(status.parse().ok()?, Ordering::Release);
    } else if path != "/healthz" {
        return None;
    }
    Some(format!("HTTP/1.1 {} X\r\nContent-Length: 0\r\n\r\n", state.health.load(Ordering::Acquire)))
}

/// Answers as it was asked: with a length, or in chunks.
fn answer(status: u16, name: &str, chunked: bool, body: &[u8]) -> Vec<u8> {
    let framing = if chunked { "Transfer-Encoding: chunked".into() } else { format!("Content-Length: {}", body.len()) };
    let mut bytes = format!("HTTP/1.1 {status} X\r\nX-Backend: {name}\r\n{framing}\r\n\r\n").into_bytes();
    if chunked {
        bytes.extend(super::client::chunks(body, 10_000));
    } else {
        bytes.extend_from_slice(body);
    }
    bytes
}

fn tunnel(reader: &mut BufReader<TcpStream>, writer: &mut TcpStream) -> Option<()> {
    writer.write_all(b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").ok()?;
    let mut piece = [0; 4096];
    loop {
        match reader.read(&mut piece).ok()? {
            0 => return None,
            some => writer.write_all(&piece[..some]).ok()?,
        }
    }
}
