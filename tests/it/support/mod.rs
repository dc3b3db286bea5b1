//! The support layer, by what a test needs:
//!
//! - Weir itself: `Config` builds a configuration, `weir` runs the binary with it, `child` runs it with pipes of the test.
//! - Backends: `Origin` answers HTTP/1 by a closure, `Gate` lets a test decide when, `Echo` returns bodies under load,
//!   `scripted` is one script over every protocol, `Targets` returns request targets, `grpc` is a gRPC server and client.
//! - Clients: `Client` sends raw HTTP/1, `TlsClient` the same under TLS, `http2` uses a library,
//!   `http2_socket` is a WebSocket over HTTP/2, `frames` sends raw frames.
//! - Names and certificates: `dns` and `scripted_dns` are DNS servers, `Names` replaces getaddrinfo, `Pebble` is an ACME
//!   server, `store` is a real Redis or Valkey, `pki` issues certificates, `ways` says who speaks TLS.
//! - Tokens: `issuer` signs tokens and publishes its keys.
//! - Networks: `fault_proxy` injects one fault at one byte, `delay_proxy` delays the answers of a server.
//! - Content coding: `decoders` reads compressed bodies.
//! - Alerts: `promtool` evaluates the rules of `grafana/`.
//! - Waiting: `wait`, and nothing else, sleeps.

pub mod acme;
pub mod child;
pub mod client;
pub mod config;
pub mod decoders;
pub mod delay_proxy;
pub mod dns;
pub mod echo;
pub mod fault_proxy;
pub mod files;
pub mod frames;
pub mod gate;
pub mod grpc;
pub mod http2;
pub mod http2_socket;
pub mod issuer;
pub mod names;
pub mod origin;
pub mod pki;
pub mod promtool;
pub mod random;
pub mod scripted;
pub mod scripted_dns;
pub mod spare;
pub mod store;
pub mod targets;
pub mod tls;
pub mod wait;
pub mod ways;
pub mod websocket;
pub mod weir;

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
pub use store::{Store, StoreKind};
pub use targets::{BACKENDS, CLIENTS, ClientKind, Targets};
pub use tls::{TlsClient, tls_config};
pub use wait::{DEADLINE, Pace, delay, delayed, eventually, stays, wait_until};
pub use ways::{EDGE, LISTENER_TLS, PLAIN, THROUGHOUT, UPSTREAM_TLS, WAYS, Way};
pub use weir::Weir;

/// A size from the environment, for the long versions of tests.
pub fn size(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}
