//! A TCP proxy that injects one fault at one byte: between Weir and its backend, or between a client and Weir.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::delayed;

/// What happens at the byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The bytes from there on arrive one by one.
    Split,
    /// The bytes from there on arrive later.
    Delay,
    /// Both connections end with RST.
    Reset,
    /// Both connections end with FIN.
    Truncate,
}

pub const FAULT_KINDS: [FaultKind; 4] = [FaultKind::Split, FaultKind::Delay, FaultKind::Reset, FaultKind::Truncate];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    ToServer,
    ToClient,
}

/// A fault before the byte `at`, counted over all connections since `arm`.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub direction: Direction,
    pub at: usize,
    pub kind: FaultKind,
}

const PAUSE: Duration = Duration::from_millis(3);
/// A longer rest of the bytes that came together is not split.
const MOST_SPLIT: usize = 200;

#[derive(Default)]
struct Shared {
    plan: Mutex<Option<Plan>>,
    passed: [AtomicUsize; 2],
}

impl Shared {
    /// The fault that is due among the next `count` bytes, and how many of them come before it.
    fn due(&self, direction: Direction, count: usize) -> Option<(usize, FaultKind)> {
        let before = self.passed[direction as usize].fetch_add(count, Ordering::AcqRel);
        let mut plan = self.plan.lock().unwrap();
        let due = plan.filter(|plan| plan.direction == direction && (before..before + count).contains(&plan.at))?;
        *plan = None;
        Some((due.at - before, due.kind))
    }
}

/// The proxy. It ends with the process.
#[derive(Clone)]
pub struct FaultProxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl FaultProxy {
    pub fn before(server: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let (address, shared) = (listener.local_addr().unwrap(), Arc::new(Shared::default()));
        let ours = Arc::clone(&shared);
        let accepting = async move {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connection(client, server, Arc::clone(&ours)));
            }
        };
        std::thread::spawn(move || super::http2::run(accepting));
        Self { address, shared }
    }

    /// Counts from 0 again, and injects this fault once.
    pub fn arm(&self, plan: Option<Plan>) {
        let mut armed = self.shared.plan.lock().unwrap();
        self.shared.passed.iter().for_each(|passed| passed.store(0, Ordering::Release));
        *armed = plan;
    }

    /// How many bytes have passed since it was armed.
    pub fn passed(&self, direction: Direction) -> usize {
        self.shared.passed[direction as usize].load(Ordering::Acquire)
    }
}

async fn connection(client: TcpStream, server: SocketAddr, shared: Arc<Shared>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    for stream in [&client, &server] {
        let _ = stream.set_nodelay(true);
    }
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let cut = Arc::new(Cut::default());
    tokio::join!(
        pump(from_client, to_server, Direction::ToServer, &shared, &cut),
        pump(from_server, to_client, Direction::ToClient, &shared, &cut),
    );
}

#[derive(Default)]
struct Cut {
    now: Notify,
    resets: std::sync::atomic::AtomicBool,
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, direction: Direction, shared: &Shared, cut: &Cut) {
    let mut piece = vec![0; 16 * 1024];
    loop {
        let read = tokio::select! {
            read = from.read(&mut piece) => read,
            () = cut.now.notified() => break,
        };
        let count = match read {
            Ok(count @ 1..) => count,
            _ => break,
        };
        let due = shared.due(direction, count);
        let (first, rest) = piece[..count].split_at(due.map_or(count, |(at, _)| at));
        if to.write_all(first).await.is_err() {
            break;
        }
        match due.map(|(_, kind)| kind) {
            Some(kind @ (FaultKind::Reset | FaultKind::Truncate)) => {
                cut.resets.store(kind == FaultKind::Reset, Ordering::Release);
                break;
            }
            Some(FaultKind::Split) => {
                let (single, together) = rest.split_at(rest.len().min(MOST_SPLIT));
                for byte in single.chunks(1) {
                    let _ = to.write_all(byte).await;
                    tokio::task::yield_now().await;
                }
                let _ = to.write_all(together).await;
            }
            Some(FaultKind::Delay) => {
                delayed(PAUSE).await;
                let _ = to.write_all(rest).await;
            }
            None => {}
        }
    }
    cut.now.notify_one();
    if cut.resets.load(Ordering::Acquire) {
        let (from, to): (&TcpStream, &TcpStream) = (from.as_ref(), to.as_ref());
        let _ = (from.set_zero_linger(), to.set_zero_linger());
    }
}
