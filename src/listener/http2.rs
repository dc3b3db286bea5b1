//! HTTP/2 on one connection, by prior knowledge. Framing and flow control are Pingora's and h2's; the bounds are ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora_core::server::ShutdownWatch;
use tokio::sync::Notify;

use super::Front;
use super::conn::{Conn, EXCHANGE, Exchange};
use super::edge_io::EdgeIo;
use super::phase::{Phase, PhaseWatch};

/// Streams open at once on a connection (RFC 9113 section 5.1.2).
const STREAMS: u32 = 100;
/// How much of a request's body a client may send ahead, a stream and a connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// How long a client may take to acknowledge that we are leaving, with nothing under way.
const GOODBYE: Duration = Duration::from_millis(300);

/// Serves a connection to its end; the preface is still in the inbox.
pub(super) async fn serve<F: Front>(mut io: Box<EdgeIo>, front: &Arc<F>, mut phase: PhaseWatch) {
    io.become_http2();
    let shutdown = phase.pingora.clone();
    let app = Arc::new(Http2::new(Arc::clone(front), Arc::clone(&io.conn)));
    tokio::select! {
        _ = app.process_new(io, &shutdown) => {}
        () = app.left_alone(&mut phase) => {}
    }
}

struct Http2<F> {
    front: Arc<F>,
    conn: Arc<Conn>,
    options: HttpServerOptions,
    streams: Arc<Streams>,
}

impl<F: Front> Http2<F> {
    fn new(front: Arc<F>, conn: Arc<Conn>) -> Self {
        let mut options = HttpServerOptions::default();
        options.h2_idle_timeout = conn.settings.timeouts.idle.limit();
        options.allow_connect_method_proxying = true;
        Self { front, conn, options, streams: Arc::default() }
    }

    /// Returns once the process ends and no stream is left; a client that is gone never acknowledges a GOAWAY.
    async fn left_alone(&self, phase: &mut PhaseWatch) {
        phase.past(Phase::Closing).await;
        tokio::time::sleep(GOODBYE).await;
        self.streams.none_left().await;
    }
}

#[async_trait]
impl<F: Front> HttpServerApp for Http2<F> {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let _open = self.streams.open();
        session.set_write_timeout(self.conn.settings.timeouts.write.limit());
        let exchange = Arc::new(Exchange::new(Arc::clone(&self.conn), None));
        let served = EXCHANGE.scope(Arc::clone(&exchange), self.front.app().process_new_http(session, shutdown));
        tokio::select! {
            biased;
            _ = served => {}
            () = exchange.until_cut() => {}
        }
        None
    }

    fn h2_options(&self) -> Option<H2Options> {
        let mut options = default_h2_options();
        options.max_concurrent_streams(STREAMS);
        options.max_header_list_size(u32::try_from(self.conn.settings.header_bytes).unwrap_or(u32::MAX));
        options.initial_window_size(STREAM_WINDOW);
        options.initial_connection_window_size(CONNECTION_WINDOW);
        Some(options)
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }
}

#[derive(Default)]
struct Streams {
    count: AtomicUsize,
    none: Notify,
}

struct OpenStream(Arc<Streams>);

impl Streams {
    fn open(self: &Arc<Self>) -> OpenStream {
        self.count.fetch_add(1, Ordering::Relaxed);
        OpenStream(Arc::clone(self))
    }

    async fn none_left(&self) {
        while self.count.load(Ordering::Relaxed) > 0 {
            self.none.notified().await;
        }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.none.notify_one();
        }
    }
}
