//! HTTP/2 on one connection, by prior knowledge. Framing and flow control are Pingora's and h2's; the bounds are ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora_core::server::ShutdownWatch;
use tokio::sync::{Notify, watch};

use super::Front;
use super::conn::{Conn, EXCHANGE, Exchange};
use super::edge_io::EdgeIo;
use super::phase::{Phase, PhaseWatch};

/// How much of a request's body a client may send ahead, a stream and a connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// How long a client may take to acknowledge that we are leaving, with nothing under way.
const GOODBYE: Duration = Duration::from_millis(300);
/// The same after its last response, which it may still be reading.
const FAREWELL: Duration = Duration::from_secs(2);
/// Requests that a client gives up before their answer began, from which on it is looked at whether they are more than
/// half of all: work is cheap to ask for in this way, and dear to do (CVE-2023-44487). Beyond this a client is asked to
/// come back on another connection; beyond twice as many it is cut. h2 itself bounds those that are reset before they
/// are taken up.
const GIVEN_UP: usize = 100;

/// Serves a connection to its end; the preface is still in the inbox.
pub(super) async fn serve<F: Front>(mut io: Box<EdgeIo>, front: &Arc<F>, mut phase: PhaseWatch) {
    io.become_http2();
    let app = Arc::new(Http2::new(Arc::clone(front), Arc::clone(&io.conn)));
    let shutdown = app.last_call.subscribe();
    tokio::select! {
        _ = app.process_new(io, &shutdown) => {}
        () = app.left_alone(&mut phase) => {}
        () = app.cut.notified() => {}
    }
}

struct Http2<F> {
    front: Arc<F>,
    conn: Arc<Conn>,
    options: HttpServerOptions,
    streams: Arc<Streams>,
    /// Pingora's word for a GOAWAY: true once no further stream is wanted.
    last_call: watch::Sender<bool>,
    /// The connection ends now.
    cut: Notify,
    requests: AtomicUsize,
    given_up: AtomicUsize,
}

impl<F: Front> Http2<F> {
    fn new(front: Arc<F>, conn: Arc<Conn>) -> Self {
        let mut options = HttpServerOptions::default();
        options.h2_idle_timeout = conn.settings.timeouts.idle.limit();
        options.allow_connect_method_proxying = true;
        Self {
            front,
            conn,
            options,
            streams: Arc::default(),
            last_call: watch::Sender::new(false),
            cut: Notify::new(),
            requests: AtomicUsize::new(0),
            given_up: AtomicUsize::new(0),
        }
    }

    /// Counts a request; false if the client should have known that there is no place for it on this connection.
    fn takes_another(&self) -> bool {
        let requests = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let settings = &self.conn.settings;
        let most = settings.requests_per_connection;
        if most > 0 && requests >= most {
            self.last_call.send_replace(true);
        }
        // Those that were under way to us when we said so are served.
        most == 0 || requests <= most.saturating_add(settings.streams as usize)
    }

    /// Takes note of a request that the client gave up.
    fn note_given_up(&self) {
        let given_up = self.given_up.fetch_add(1, Ordering::Relaxed) + 1;
        if given_up < GIVEN_UP || given_up * 2 <= self.requests.load(Ordering::Relaxed) {
            return;
        }
        if !self.last_call.send_replace(true) {
            tracing::info!(client = %self.conn.peer, listener = %self.conn.listener, "resets most of its requests");
        }
        if given_up >= 2 * GIVEN_UP {
            self.cut.notify_one();
        }
    }

    /// Returns once the process ends, no stream is left and the client has had time to acknowledge that, which ends the
    /// connection by itself; one that is gone never does.
    async fn left_alone(&self, phase: &mut PhaseWatch) {
        phase.past(Phase::Open).await;
        self.last_call.send_replace(true);
        phase.past(Phase::Closing).await;
        self.conn.set_idle_at_end(!self.streams.is_any());
        let mut patience = GOODBYE;
        loop {
            let (any, before) = (self.streams.is_any(), self.requests.load(Ordering::Relaxed));
            tokio::time::sleep(patience).await;
            let idle = !any && before == self.requests.load(Ordering::Relaxed);
            if idle && !self.conn.is_unsent() {
                return;
            }
            self.streams.none_left().await;
            patience = FAREWELL;
        }
    }
}

#[async_trait]
impl<F: Front> HttpServerApp for Http2<F> {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        if !self.takes_another() {
            return None;
        }
        let _open = self.streams.open();
        self.conn.set_idle_at_end(false);
        session.set_write_timeout(self.conn.settings.timeouts.write.limit());
        let exchange = Arc::new(Exchange::new(Arc::clone(&self.conn), None, false));
        let served = EXCHANGE.scope(Arc::clone(&exchange), self.front.app().process_new_http(session, shutdown));
        tokio::select! {
            biased;
            _ = served => {}
            () = exchange.until_cut() => {}
        }
        if exchange.is_given_up() {
            self.note_given_up();
        }
        None
    }

    fn h2_options(&self) -> Option<H2Options> {
        let mut options = default_h2_options();
        options.max_concurrent_streams(self.conn.settings.streams);
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

    fn is_any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    async fn none_left(&self) {
        while self.is_any() {
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
