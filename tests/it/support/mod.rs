//! A running weir, scripted origins, raw clients. Everything waits for conditions with a deadline.

pub mod acme;
pub mod child;
pub mod client;
pub mod config;
pub mod dns;
pub mod echo;
pub mod frames;
pub mod gate;
pub mod grpc;
pub mod names;
pub mod origin;
pub mod pki;
pub mod random;
pub mod scripted;
pub mod spare;
pub mod targets;
pub mod tls;
pub mod wait;
pub mod ways;
pub mod weir;
pub mod zone;

pub use acme::Pebble;
pub use client::{Client, Response, busy, exchange};
pub use config::Config;
pub use dns::Dns;
pub use echo::Echo;
pub use gate::Gate;
pub use names::Names;
pub use origin::{Origin, Reply};
pub use pki::Pki;
pub use random::Random;
pub use scripted::{KINDS, Kind};
pub use spare::spare;
pub use targets::{BACKENDS, CLIENTS, ClientKind, Targets};
pub use tls::{TlsClient, tls_config};
pub use wait::{DEADLINE, Pace, delay, delayed, eventually, stays, wait_until};
pub use ways::{EDGE, LISTENER_TLS, PLAIN, THROUGHOUT, UPSTREAM_TLS, WAYS, Way};
pub use weir::Weir;

/// A size from the environment, for the long versions of tests.
pub fn size(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}
