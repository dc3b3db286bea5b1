//! HTTP backends for `weir demo`. They store the JSON that is posted to `/api/data`, all in one store, and `/` is a page.
//!
//! They never listen outside loopback and never write to disk; memory use is bounded. Entries are stored as text,
//! because a parsed value can take many times the memory of its text.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use parking_lot::{Mutex, MutexGuard};
use serde::de::IgnoredAny;
use serde_json::json;

/// Maximum number of stored entries, and of their bytes. The oldest are dropped first.
const KEEPS: usize = 1_000;
const KEEPS_BYTES: usize = 16 * 1024 * 1024;
/// Maximum bytes of a request body.
const LARGEST: usize = 8 * 1024 * 1024;

/// Running demo backends. They end with the process.
#[derive(Debug)]
pub struct Backends {
    addresses: Vec<SocketAddr>,
}

impl Backends {
    /// Starts `count` backends on free ports of the loopback address, all on one thread.
    ///
    /// # Errors
    /// No port or no thread is available.
    pub fn start(count: u16) -> io::Result<Self> {
        let sockets = (0..count).map(|_| socket()).collect::<io::Result<Vec<_>>>()?;
        let addresses = sockets.iter().map(std::net::TcpListener::local_addr).collect::<io::Result<Vec<_>>>()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let store = Arc::<DemoStore>::default();
        std::thread::Builder::new().name("weir-demo".into()).spawn(move || {
            runtime.block_on(async move {
                for (number, socket) in sockets.into_iter().enumerate() {
                    let backend = DemoBackend { name: format!("backend-{}", number + 1), store: Arc::clone(&store) };
                    tokio::spawn(serve(socket, backend));
                }
                std::future::pending::<()>().await;
            });
        })?;
        Ok(Self { addresses })
    }

    /// The listen addresses.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

fn socket() -> io::Result<std::net::TcpListener> {
    let socket = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

async fn serve(socket: std::net::TcpListener, backend: DemoBackend) {
    let app = Router::new()
        .route("/", get(page))
        .route("/api/data", get(list).post(add))
        .route("/healthz", get(|| async { "ok\n" }))
        .layer(DefaultBodyLimit::max(LARGEST))
        .with_state(Arc::new(backend));
    match tokio::net::TcpListener::from_std(socket) {
        Ok(socket) => drop(axum::serve(socket, app).await),
        Err(error) => tracing::error!(%error, "a demo backend could not start"),
    }
}

/// A backend: its name, and the store that it has in common with the others.
struct DemoBackend {
    name: String,
    store: Arc<DemoStore>,
}

#[derive(Default)]
struct DemoStore {
    last_id: AtomicU64,
    entries: Mutex<PostedEntries>,
}

/// The stored entries, as JSON text.
#[derive(Default)]
struct PostedEntries {
    texts: VecDeque<String>,
    bytes: usize,
}

impl PostedEntries {
    fn add(&mut self, text: String) {
        self.bytes += text.len();
        self.texts.push_back(text);
        while self.texts.len() > KEEPS || self.bytes > KEEPS_BYTES {
            self.bytes -= self.texts.pop_front().map_or(self.bytes, |oldest| oldest.len());
        }
    }

    fn list(&self) -> String {
        let mut list = String::with_capacity(self.bytes + self.texts.len());
        for text in &self.texts {
            if !list.is_empty() {
                list.push(',');
            }
            list.push_str(text);
        }
        list
    }
}

impl DemoStore {
    fn entries(&self) -> MutexGuard<'_, PostedEntries> {
        self.entries.lock()
    }
}

/// Stores any JSON. The Content-Type is ignored, so that a demo does not fail because of a missing header field.
async fn add(State(backend): State<Arc<DemoBackend>>, body: Bytes) -> (StatusCode, Json<serde_json::Value>) {
    let text = std::str::from_utf8(&body).ok().filter(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
    let Some(text) = text else {
        return (StatusCode::BAD_REQUEST, Json(json!({ "message": "The body is not JSON", "backend": backend.name })));
    };
    let id = backend.store.last_id.fetch_add(1, Ordering::Relaxed) + 1;
    backend.store.entries().add(format!("{{\"id\":{id},\"data\":{}}}", text.trim()));
    let reply = json!({ "message": "Data stored successfully", "id": id, "backend": backend.name });
    (StatusCode::CREATED, Json(reply))
}

async fn list(State(backend): State<Arc<DemoBackend>>) -> Response {
    let body = format!("{{\"backend\":\"{}\",\"data\":[{}]}}", backend.name, backend.store.entries().list());
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

async fn page(State(backend): State<Arc<DemoBackend>>) -> Html<String> {
    Html(format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>Weir demo</title><style>body{{font:1rem/1.6 system-ui,sans-serif;max-width:40rem;margin:3rem auto;\
         padding:0 1rem}}</style><h1>Weir demo</h1>\
         <p>This response is of <b>{}</b>. Reload the page, and the next backend answers.\
         <p><a href=/api/data>/api/data</a> lists the JSON that was posted there. The terminal has commands to try, and \
         the address of the status page.",
        backend.name
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn the_store_is_bounded_in_entries_and_in_bytes() {
        let mut entries = PostedEntries::default();
        for n in 0..KEEPS + 7 {
            entries.add(n.to_string());
        }
        assert_eq!((entries.texts.len(), entries.texts[0].as_str()), (KEEPS, "7"));
        for _ in 0..5 {
            entries.add("x".repeat(KEEPS_BYTES / 3));
            assert!(entries.bytes <= KEEPS_BYTES);
        }
        assert_eq!(entries.texts.len(), 3);
        assert_eq!(entries.bytes, entries.texts.iter().map(String::len).sum::<usize>());
    }

    #[tokio::test]
    async fn any_json_is_stored_and_listed_and_nothing_else() {
        let backend = Arc::new(DemoBackend { name: "b".into(), store: Arc::default() });
        for (body, status) in [("{\"a\": [1]}\n", 201), ("nonsense", 400), ("\"text\"", 201), ("", 400), ("1 2", 400)] {
            assert_eq!(add(State(Arc::clone(&backend)), Bytes::from(body)).await.0, status, "{body}");
        }
        let body = axum::body::to_bytes(list(State(backend)).await.into_body(), 1 << 20).await.unwrap();
        let listed: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            listed,
            json!({ "backend": "b", "data": [{ "id": 1, "data": { "a": [1] } }, { "id": 2, "data": "text" }] })
        );
    }
}
