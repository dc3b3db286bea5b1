//! Black-box tests: the real `weir` on port 0 against scripted origins. One file a theme; a test's name is a behaviour.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

mod balancers;
mod balancing;
mod faults;
mod headers;
mod health;
mod http1;
mod http2;
mod lifecycle;
mod reload;
mod retries;
mod routes;
