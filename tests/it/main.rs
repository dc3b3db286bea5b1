//! Black-box tests: the real `weir` on port 0 against scripted origins. One file a theme; a test's name is a behaviour.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

mod aborts;
mod acme;
mod admin_access;
mod admin_responsive;
mod balancers;
mod balancing;
mod chaos;
mod conformance;
mod demo;
mod descriptors;
mod discovery;
mod docs;
mod empty_data;
mod explain;
mod faults;
mod framing;
mod grpc;
mod headers;
mod health;
mod http1;
mod http2;
mod http2_abuse;
mod integrity;
mod kept;
mod lifecycle;
mod limits;
mod operating;
mod outlier;
mod passing;
mod plain;
mod proxy_protocol;
mod queue;
mod reload;
mod retries;
mod rooms;
mod routes;
mod runtime;
mod sticky;
mod tls;
mod tls_clients;
mod tls_renewal;
mod websocket;
