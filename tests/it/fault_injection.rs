//! One fault at any byte of an exchange, between Weir and its backend or between the client and Weir: no exchange hangs,
//! no body is wrong, no count stays up, and the access log names the fault of the right side.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::client::chunks;
use crate::support::fault_proxy::{Direction, FAULT_KINDS, FaultKind, FaultProxy, Plan};
use crate::support::tls::open;
use crate::support::{Kind, Random, Weir, http2, size};

const SEED: u64 = 0xfa17;
/// Longer than any timer that Weir may wait for here.
const HANG: Duration = Duration::from_secs(8);

#[derive(Debug, Clone, Copy)]
struct Path {
    http2: bool,
    tls: bool,
    backend: Kind,
}

const fn path(http2: bool, tls: bool, backend: Kind) -> Path {
    Path { http2, tls, backend }
}

/// Clients of HTTP/1 and HTTP/2, backends of HTTP/1 and HTTP/2, plain and under TLS. Two of the clients use TLS.
const PATHS: [Path; 8] = [
    path(false, false, Kind::Own),
    path(true, false, Kind::Own),
    path(false, true, Kind::Tls),
    path(true, false, Kind::Tls),
    path(false, false, Kind::H2c),
    path(true, false, Kind::H2c),
    path(false, false, Kind::H2),
    path(true, true, Kind::H2),
];

#[derive(Debug, Clone)]
enum Message {
    /// A response without Content-Length.
    Unsized,
    /// The body comes back.
    Echo(Vec<u8>),
    /// The same, as chunks of at most so many bytes, where the protocol has chunks.
    Chunked(Vec<u8>, usize),
}

impl Message {
    fn random(random: &mut Random) -> Self {
        let length = random.below(2500);
        match random.below(3) {
            0 => Self::Unsized,
            1 => Self::Echo(random.bytes(length)),
            _ => Self::Chunked(random.bytes(length), 1 + random.below(900)),
        }
    }

    fn target(&self) -> &'static str {
        if matches!(self, Self::Unsized) { "/unsized" } else { "/" }
    }

    fn wanted(&self) -> &[u8] {
        match self {
            Self::Unsized => b"abcdef",
            Self::Echo(body) | Self::Chunked(body, _) => body,
        }
    }

    fn http1(&self, number: usize) -> Vec<u8> {
        let method = if matches!(self, Self::Unsized) { "GET" } else { "POST" };
        let target = self.target();
        let head =
            format!("{method} {target} HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\nUser-Agent: {number}\r\n");
        match self {
            Self::Unsized => format!("{head}\r\n").into_bytes(),
            Self::Echo(body) => [format!("{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat(),
            Self::Chunked(body, most) => {
                [format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes(), &chunks(body, *most)].concat()
            }
        }
    }
}

/// What the client saw.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Whole(u16, Vec<u8>),
    Broken,
}

async fn exchange(path: Path, to: SocketAddr, message: &Message, number: usize) -> Seen {
    let protocol = path.tls.then_some(if path.http2 { "h2" } else { "http/1.1" });
    // The fault may end the handshake, so a failure of the connection is no failure of the test.
    let Ok(stream) = tokio::spawn(open(to, protocol)).await else { return Seen::Broken };
    let seen =
        if path.http2 { over_http2(stream, message, number).await } else { over_http1(stream, message, number).await };
    seen.unwrap_or(Seen::Broken)
}

async fn over_http1(mut stream: crate::support::tls::Socket, message: &Message, number: usize) -> Option<Seen> {
    let _ = stream.write_all(&message.http1(number)).await;
    let _ = stream.flush().await;
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all).await;
    loop {
        let end = all.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = String::from_utf8(all[..end].to_vec()).unwrap().to_lowercase();
        let body = all.split_off(end + 4);
        let status: u16 = head.split(' ').nth(1)?.parse().unwrap();
        if status < 200 {
            all = body;
            continue;
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        return match length {
            Some(length) => (body.len() == length).then_some(Seen::Whole(status, body)),
            None => Some(Seen::Whole(status, unchunked(&body)?)),
        };
    }
}

/// The body, if it has its end.
fn unchunked(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let at = bytes.windows(2).position(|two| two == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..at]).ok()?, 16).ok()?;
        body.extend_from_slice(bytes.get(at + 2..at + 2 + size)?);
        bytes = bytes.get(at + 2 + size + 2..)?;
        if size == 0 {
            return bytes.is_empty().then_some(body);
        }
    }
}

async fn over_http2(stream: crate::support::tls::Socket, message: &Message, number: usize) -> Option<Seen> {
    let (sender, connection) = h2::client::handshake(stream).await.ok()?;
    let driver = tokio::spawn(connection);
    let mut sender = sender.ready().await.ok()?;
    let target = format!("http://example.org{}", message.target());
    let request = http::Request::builder().uri(target).header("user-agent", number);
    let (request, body, pieces) = match message {
        Message::Unsized => (request.method("GET"), &[][..], 1),
        Message::Echo(body) => {
            (request.method("POST").header("content-length", body.len()), &body[..], body.len().max(1))
        }
        Message::Chunked(body, most) => (request.method("POST"), &body[..], *most),
    };
    let (response, mut out) = sender.send_request(request.body(()).unwrap(), body.is_empty()).ok()?;
    let mut left = body.chunks(pieces).peekable();
    while let Some(piece) = left.next() {
        let _ = out.send_data(Bytes::copy_from_slice(piece), left.peek().is_none());
    }
    let response = response.await.ok()?;
    let (status, mut stream) = (response.status().as_u16(), response.into_body());
    let mut came = Vec::new();
    while let Some(piece) = stream.data().await {
        let piece = piece.ok()?;
        let _ = stream.flow_control().release_capacity(piece.len());
        came.extend_from_slice(&piece);
    }
    driver.abort();
    Some(Seen::Whole(status, came))
}

/// The backend and the client of one path, each behind a proxy that injects faults.
struct Bench {
    path: Path,
    weir: Weir,
    before_backend: FaultProxy,
    before_weir: FaultProxy,
    numbers: usize,
}

impl Bench {
    fn new(path: Path) -> Self {
        let mut before_backend = None;
        let weir = path
            .backend
            .weir_through(|backend| before_backend.insert(FaultProxy::before(backend)).address, "outlier: off");
        let listener = if path.tls { weir.address("secure") } else { weir.web() };
        let before_weir = FaultProxy::before(listener);
        Self { path, weir, before_backend: before_backend.unwrap(), before_weir, numbers: 0 }
    }

    fn seen(&mut self, message: &Message, what: &str) -> (usize, Seen) {
        self.numbers += 1;
        let number = self.numbers;
        let seen = http2::run(async {
            tokio::time::timeout(HANG, exchange(self.path, self.before_weir.address, message, number)).await
        });
        (number, seen.unwrap_or_else(|_| panic!("{:?}: an exchange hangs: {what}", self.path)))
    }

    /// Without a fault. Returns how many bytes pass on each of the four ways.
    fn clean(&mut self, message: &Message, after: &str) -> [usize; 4] {
        self.before_backend.arm(None);
        self.before_weir.arm(None);
        let (_, seen) = self.seen(message, after);
        assert!(seen == Seen::Whole(200, message.wanted().to_vec()), "{:?}: after {after}: {seen:?}", self.path);
        let sides = [&self.before_backend, &self.before_weir];
        let passed = |side: usize, direction| sides[side].passed(direction);
        let (up, down) = (Direction::ToServer, Direction::ToClient);
        [passed(0, up), passed(0, down), passed(1, up), passed(1, down)]
    }

    /// With this fault on this side (0: backend, 1: client). Returns the record's number and what the client saw.
    fn faulty(&mut self, message: &Message, side: usize, plan: Plan) -> (usize, Seen) {
        let sides = [&self.before_backend, &self.before_weir];
        sides[1 - side].arm(None);
        sides[side].arm(Some(plan));
        let what = format!("side {side}, {plan:?}, {message:?}");
        let (number, seen) = self.seen(message, &what);
        let harmless = matches!(plan.kind, FaultKind::Split | FaultKind::Delay);
        if let Seen::Whole(200, body) = &seen {
            assert!(body == message.wanted(), "{:?}: a wrong body: {what}", self.path);
        } else {
            assert!(!harmless, "{:?}: {seen:?}: {what}", self.path);
        }
        (number, seen)
    }

    /// The log must name the side that broke off.
    fn check_log(&self, faults: &[(usize, usize, Plan, Seen)]) {
        let log = self.weir.access_log_of(1);
        for (number, side, plan, seen) in faults {
            let agent = number.to_string();
            // A client that leaves before its request is complete makes no record.
            let Some(record) = log.iter().find(|record| record["user_agent"] == agent.as_str()) else {
                assert!(*side == 1, "{:?}: no record: {plan:?} {seen:?}", self.path);
                continue;
            };
            let fault = record["fault"].as_str().unwrap_or("none");
            let allowed: &[&str] = match (side, seen) {
                (0, Seen::Whole(200, _)) => &["none"],
                (0, _) => &["connect", "reset", "tls", "protocol", "timeout"],
                _ => &["none", "client_abort", "bad_request", "refused_policy"],
            };
            assert!(allowed.contains(&fault), "{:?}: side {side}, {plan:?}: {seen:?}, but {record}", self.path);
        }
    }

    fn end(self) {
        for count in ["weir_backend_in_flight", "weir_requests_in_flight", "weir_listener_connections{"] {
            self.weir.wait_for(&[count], 0.0);
        }
    }
}

fn plans(passed: [usize; 4], random: &mut Random) -> impl Iterator<Item = (usize, Plan)> {
    let picks = [0, 1, 2, 3].map(|way| (way, random.below(passed[way].max(1))));
    let start = random.below(4);
    picks.into_iter().zip(FAULT_KINDS.into_iter().cycle().skip(start)).map(|((way, at), kind)| {
        let direction = if way % 2 == 0 { Direction::ToServer } else { Direction::ToClient };
        (way / 2, Plan { direction, at, kind })
    })
}

fn faults_at_random_bytes(exchanges: usize) {
    for path in PATHS {
        let (mut bench, mut random, mut faults) = (Bench::new(path), Random::new(SEED), Vec::new());
        for _ in 0..exchanges {
            let message = Message::random(&mut random);
            let passed = bench.clean(&message, "the last fault");
            for (side, plan) in plans(passed, &mut random) {
                let (number, seen) = bench.faulty(&message, side, plan);
                faults.push((number, side, plan, seen));
            }
        }
        bench.clean(&Message::Unsized, "all faults");
        bench.check_log(&faults);
        bench.end();
    }
}

#[test]
fn a_fault_at_any_byte_causes_no_hang_no_wrong_body_and_no_leak() {
    faults_at_random_bytes(size("WEIR_FAULT_EXCHANGES", 8));
}

/// Each byte of short exchanges, each kind of fault.
fn faults_at_each_byte(messages: usize, step: usize) {
    for path in PATHS {
        let (mut bench, mut random, mut faults) = (Bench::new(path), Random::new(SEED + 1), Vec::new());
        for _ in 0..messages {
            let message = Message::random(&mut random);
            let passed = bench.clean(&message, "the last fault");
            for (way, count) in passed.into_iter().enumerate() {
                let direction = if way % 2 == 0 { Direction::ToServer } else { Direction::ToClient };
                for (at, kind) in (random.below(step)..count).step_by(step).zip(FAULT_KINDS.into_iter().cycle()) {
                    let plan = Plan { direction, at, kind };
                    let (number, seen) = bench.faulty(&message, way / 2, plan);
                    faults.push((number, way / 2, plan, seen));
                }
            }
        }
        bench.clean(&Message::Unsized, "all faults");
        bench.check_log(&faults);
        bench.end();
    }
}

#[test]
#[ignore = "long: each byte of 200 exchanges on each path"]
fn a_fault_at_each_byte_causes_no_hang_no_wrong_body_and_no_leak() {
    faults_at_each_byte(200, 1);
}
