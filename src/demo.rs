//! The demo's backends: the scene Weir grew from, several servers that each store what is posted to `/api/data`.
//!
//! For `weir demo` and nothing else: memory only, bounded, loopback only.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

/// Entries that a backend keeps; the oldest go first.
const KEEPS: usize = 1_000;
/// Bytes of a body.
const LARGEST: usize = 8 * 1024 * 1024;

/// Running backends. They end with the process.
#[derive(Debug)]
pub struct Backends {
    addresses: Vec<SocketAddr>,
}

impl Backends {
    /// Starts so many on free ports of the loopback address, all on one thread.
    ///
    /// # Errors
    /// No port or no thread to be had.
    pub fn start(count: u16) -> io::Result<Self> {
        let sockets = (0..count).map(|_| socket()).collect::<io::Result<Vec<_>>>()?;
        let addresses = sockets.iter().map(std::net::TcpListener::local_addr).collect::<io::Result<Vec<_>>>()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("weir-demo".into()).spawn(move || {
            runtime.block_on(async move {
                for (number, socket) in sockets.into_iter().enumerate() {
                    tokio::spawn(serve(socket, format!("backend-{}", number + 1)));
                }
                std::future::pending::<()>().await;
            });
        })?;
        Ok(Self { addresses })
    }

    /// Where they listen.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

fn socket() -> io::Result<std::net::TcpListener> {
    let socket = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

async fn serve(socket: std::net::TcpListener, name: String) {
    let store = Arc::new(Store { name, next: AtomicU64::new(1), entries: Mutex::default() });
    let app = Router::new()
        .route("/api/data", get(list).post(add))
        .route("/healthz", get(|| async { "ok\n" }))
        .layer(DefaultBodyLimit::max(LARGEST))
        .with_state(store);
    match tokio::net::TcpListener::from_std(socket) {
        Ok(socket) => drop(axum::serve(socket, app).await),
        Err(error) => tracing::error!(%error, "a demo backend could not start"),
    }
}

struct Store {
    name: String,
    next: AtomicU64,
    entries: Mutex<VecDeque<Value>>,
}

async fn add(State(store): State<Arc<Store>>, Json(data): Json<Value>) -> (StatusCode, Json<Value>) {
    let id = store.next.fetch_add(1, Ordering::Relaxed);
    let mut entries = store.entries.lock().unwrap_or_else(PoisonError::into_inner);
    if entries.len() == KEEPS {
        entries.pop_front();
    }
    entries.push_back(json!({ "id": id, "data": data }));
    let reply = json!({ "message": "Data stored successfully", "id": id, "backend": store.name });
    (StatusCode::CREATED, Json(reply))
}

async fn list(State(store): State<Arc<Store>>) -> Json<Value> {
    let entries = store.entries.lock().unwrap_or_else(PoisonError::into_inner);
    Json(json!({ "backend": store.name, "data": entries.iter().collect::<Vec<_>>() }))
}
