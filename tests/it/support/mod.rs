//! A running weir, scripted origins, raw clients. Everything waits for conditions with a deadline.

pub mod acme;
pub mod child;
pub mod client;
pub mod dns;
pub mod echo;
pub mod frames;
pub mod grpc;
pub mod names;
pub mod origin;
pub mod pki;
pub mod random;
pub mod scripted;
pub mod spare;
pub mod targets;
pub mod tls;
pub mod ways;
pub mod weir;
pub mod zone;

use std::time::{Duration, Instant};

pub use acme::Pebble;
pub use client::{Client, Response, busy, exchange};
pub use dns::Dns;
pub use echo::Echo;
pub use names::Names;
pub use origin::{Origin, Reply};
pub use pki::Pki;
pub use random::Random;
pub use scripted::{KINDS, Kind};
pub use spare::spare;
pub use targets::{BACKENDS, CLIENTS, ClientKind, Targets};
pub use tls::{TlsClient, tls_config};
pub use ways::{EDGE, PLAIN, THROUGHOUT, WAYS, Way};
pub use weir::Weir;

/// How long a condition may take to come true on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until the condition gives something.
pub fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until the condition holds, and lets other tasks of the test go on.
pub async fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A size from the environment, for the long versions of tests.
pub fn size(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}
