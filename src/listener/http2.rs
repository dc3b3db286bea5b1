//! HTTP/2 on one connection: prior knowledge on a plain port, ALPN under TLS. The h2 crate does the framing and the
//! flow control. This module applies the limits.

mod extended_connect;
mod responder;
mod send_half;
mod session;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Builder, SendResponse};
use http::Request;
use pingora_core::apps::HttpServerApp;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::{Digest, GetProxyDigest, GetSocketDigest, GetTimingDigest, Ssl};
use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;

use super::conn::{Conn, EXCHANGE, Exchange};
use super::shutdown::{ShutdownPhase, ShutdownPhaseWatch};
use crate::body_gate::BodyGate;
use crate::listener::conn::downstream_stream::DownstreamStream;
use crate::listener::http2::responder::Responder;
use crate::listener::http2::session::Http2ServerSession;
use crate::listener::service::HttpService;

/// How many bytes of request bodies a client may send before they are read, per stream and per connection.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// How long a client may take to acknowledge a GOAWAY if no stream is open.
const GOAWAY_TIMEOUT: Duration = Duration::from_millis(300);
/// How long the client may take after its last response, because it may still be reading that response.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How many requests a client may reset before their response begins. From this number on, the connection is ended if
/// they are more than half of its requests. Such requests are cheap to send and expensive to serve (CVE-2023-44487).
///
/// The client first gets a GOAWAY. At twice this number the connection is closed at once. h2 itself limits the streams
/// that are reset before they are accepted.
const GIVEN_UP: usize = 100;
/// How long the responses and resets of requests that the end of the grace period ends may take to leave.
const ABORT_TIMEOUT: Duration = Duration::from_millis(150);
/// How many bytes of a response may wait for the client in memory. h2 counts them per stream.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// Serves a connection to its end. The inbox still contains the preface.
pub(super) async fn serve<F: HttpService>(
    mut io: Box<DownstreamStream>,
    service: &Arc<F>,
    mut phase: ShutdownPhaseWatch,
) {
    io.become_http2();
    let app = Arc::new(Http2::new(Arc::clone(service), Arc::clone(&io.conn)));
    // Boxed: the task of each connection has room for it, whatever protocol the client speaks.
    let aborted = Box::pin(Arc::clone(&app).abort_at_end(phase.clone()));
    let accepted = Box::pin(app.accept(io));
    tokio::select! {
        () = accepted => {}
        () = app.left_alone(&mut phase) => {}
        () = app.cut.notified() => {}
        () = aborted => {}
    }
}

struct Http2<F> {
    service: Arc<F>,
    conn: Arc<Conn>,
    /// The tasks of the open streams. The tracker is closed from the start, so that `wait` returns whenever it is
    /// empty.
    streams: TaskTracker,
    /// Pingora's shutdown signal for a GOAWAY. True once no more streams are accepted.
    last_call: watch::Sender<bool>,
    /// Ends the connection now.
    cut: Notify,
    /// The grace period of the process is over.
    aborted: Notify,
    requests: AtomicUsize,
    given_up: AtomicUsize,
}

impl<F: HttpService> Http2<F> {
    fn new(service: Arc<F>, conn: Arc<Conn>) -> Self {
        let streams = TaskTracker::new();
        streams.close();
        Self {
            service,
            conn,
            streams,
            last_call: watch::Sender::new(false),
            cut: Notify::new(),
            aborted: Notify::new(),
            requests: AtomicUsize::new(0),
            given_up: AtomicUsize::new(0),
        }
    }

    /// Counts a request. `false` if there are more requests than a client can send before it receives the GOAWAY.
    fn takes_another(&self) -> bool {
        let requests = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let settings = &self.conn.settings;
        let most = settings.requests_per_connection;
        if most > 0 && requests >= most {
            self.last_call.send_replace(true);
        }
        // Requests that the client sent before it received the GOAWAY are served.
        most == 0 || requests <= most.saturating_add(settings.streams as usize)
    }

    /// Counts a request that the client reset before its response began.
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

    /// Ends the requests under way once the grace period is over. Returns when the client has had time to read that.
    async fn abort_at_end(self: Arc<Self>, mut phase: ShutdownPhaseWatch) {
        phase.past(ShutdownPhase::Leaving).await;
        self.aborted.notify_waiters();
        tokio::time::sleep(ABORT_TIMEOUT).await;
    }

    /// Completes when the process ends, no stream is open and the client had time to acknowledge the GOAWAY. A client
    /// that acknowledges it also closes the connection. A client that has left does neither.
    async fn left_alone(&self, phase: &mut ShutdownPhaseWatch) {
        phase.past(ShutdownPhase::Open).await;
        self.last_call.send_replace(true);
        phase.past(ShutdownPhase::Closing).await;
        self.conn.set_idle_at_end(self.streams.is_empty());
        let mut timeout = GOAWAY_TIMEOUT;
        loop {
            let (none, before) = (self.streams.is_empty(), self.requests.load(Ordering::Relaxed));
            tokio::time::sleep(timeout).await;
            let idle = none && before == self.requests.load(Ordering::Relaxed);
            if idle && !self.conn.is_unsent() {
                return;
            }
            self.streams.wait().await;
            timeout = CLOSE_TIMEOUT;
        }
    }
}

impl<F: HttpService> Http2<F> {
    /// Accepts requests until the connection ends.
    async fn accept(self: &Arc<Self>, io: Box<DownstreamStream>) {
        let digest = Arc::new(Digest {
            ssl_digest: io.get_ssl_digest(),
            timing_digest: io.get_timing_digest(),
            proxy_digest: io.get_proxy_digest(),
            socket_digest: io.get_socket_digest(),
        });
        let mut last_call = self.last_call.subscribe();
        let Ok(mut h2) = self.options().handshake::<_, Bytes>(io).await else { return };
        let mut leaving = false;
        loop {
            let accepted = tokio::select! {
                biased;
                _ = last_call.changed(), if !leaving => {
                    h2.graceful_shutdown();
                    leaving = true;
                    continue;
                }
                accepted = h2.accept() => accepted,
                () = self.idle(), if !leaving => return,
            };
            let Some(Ok((request, respond))) = accepted else { return };
            self.begin(request, respond, Arc::clone(&digest));
        }
    }

    /// Completes when no stream was open for `timeouts.idle`.
    async fn idle(&self) {
        let Some(idle) = self.conn.settings.timeouts.idle.limit() else { return std::future::pending().await };
        self.streams.wait().await;
        tokio::time::sleep(idle).await;
    }

    /// Serves a request in its own task.
    fn begin(self: &Arc<Self>, request: Request<RecvStream>, respond: SendResponse<Bytes>, digest: Arc<Digest>) {
        let this = Arc::clone(self);
        let gate = Arc::new(BodyGate::default());
        let responder = Arc::new(Responder::new(respond, request.headers()));
        let session = Box::new(Http2ServerSession::new(request, Arc::clone(&responder), digest, Arc::clone(&gate)));
        self.streams.spawn(async move { this.process(ServerSession::new_custom(session), responder, gate).await });
    }

    async fn process(&self, mut session: ServerSession, responder: Arc<Responder>, gate: Arc<BodyGate>) {
        if !self.takes_another() {
            return;
        }
        self.conn.set_idle_at_end(false);
        let timeouts = &self.conn.settings.timeouts;
        session.set_read_timeout(timeouts.body.limit());
        session.set_write_timeout(timeouts.write.limit());
        let exchange = Arc::new(Exchange::new(Arc::clone(&self.conn), false, gate));
        let shutdown = self.last_call.subscribe();
        {
            // Pinned outside of `select!`, which would drop it before a handler runs: the drop resets the stream.
            let served = EXCHANGE.scope(Arc::clone(&exchange), self.service.app().process_new_http(session, &shutdown));
            let mut served = pin!(served);
            tokio::select! {
                biased;
                _ = &mut served => {}
                () = exchange.until_cut() => {}
                () = self.aborted.notified() => exchange.abort(),
            }
            // The response leaves before the session is dropped, because the drop resets the stream.
            if let Some(why) = exchange.cut() {
                responder.answer_aborted(why);
            }
        }
        if exchange.is_given_up() {
            self.note_given_up();
        }
    }

    fn options(&self) -> Builder {
        let mut options = Builder::new();
        options.max_concurrent_streams(self.conn.settings.streams);
        options.max_header_list_size(u32::try_from(self.conn.settings.header_bytes).unwrap_or(u32::MAX));
        options.initial_window_size(STREAM_WINDOW_BYTES);
        options.initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        options.max_send_buffer_size(SEND_BUFFER_BYTES);
        options.enable_connect_protocol();
        options
    }
}
