//! HTTP/2 on one connection, by prior knowledge. Framing and flow control are Pingora's and h2's; the bounds are ours.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use pingora_core::apps::HttpServerApp;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::{H2Accept, H2Options, HttpSession, default_h2_options, handshake};
use pingora_core::protocols::{Digest, GetProxyDigest, GetSocketDigest, GetTimingDigest, Ssl};
use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;

use super::conn::{Conn, EXCHANGE, Exchange};
use super::shutdown::{ShutdownPhase, ShutdownPhaseWatch};
use crate::listener::conn::downstream_stream::DownstreamStream;
use crate::listener::service::HttpService;

/// How much of a request's body a client may send ahead, a stream and a connection.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// How long a client may take to acknowledge that we are leaving, with nothing under way.
const GOAWAY_TIMEOUT: Duration = Duration::from_millis(300);
/// The same after its last response, which it may still be reading.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Requests that a client gives up before their answer began, from which on it is looked at whether they are more than
/// half of all: work is cheap to ask for in this way, and dear to do (CVE-2023-44487). Beyond this a client is asked to
/// come back on another connection; beyond twice as many it is cut. h2 itself bounds those that are reset before they
/// are taken up.
const GIVEN_UP: usize = 100;
/// How long the resets of requests that the end of the grace period ends may take to leave.
const ABORT_TIMEOUT: Duration = Duration::from_millis(150);
/// How many requests that Pingora refuses as malformed a connection may bring.
const MALFORMED: usize = 31;

/// Serves a connection to its end; the preface is still in the inbox.
pub(super) async fn serve<F: HttpService>(
    mut io: Box<DownstreamStream>,
    service: &Arc<F>,
    mut phase: ShutdownPhaseWatch,
) {
    io.become_http2();
    let app = Arc::new(Http2::new(Arc::clone(service), Arc::clone(&io.conn)));
    // Boxed: the task of each connection has room for it, whatever protocol the client speaks.
    let aborted = Box::pin(Arc::clone(&app).abort_at_end(phase.clone()));
    tokio::select! {
        () = app.accept(io) => {}
        () = app.left_alone(&mut phase) => {}
        () = app.cut.notified() => {}
        () = aborted => {}
    }
}

struct Http2<F> {
    service: Arc<F>,
    conn: Arc<Conn>,
    /// The tasks of its open streams. It is closed from the start, so that `wait` returns whenever there is none.
    streams: TaskTracker,
    /// Pingora's word for a GOAWAY: true once no further stream is wanted.
    last_call: watch::Sender<bool>,
    /// The connection ends now.
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

    /// Returns once the grace period is over, and has marked the exchange as cut: its record is made when it is dropped.
    async fn aborted(&self, exchange: &Exchange) {
        self.aborted.notified().await;
        exchange.abort();
    }

    /// Ends the requests under way once the grace period is over. Returns when the client has had time to read that.
    async fn abort_at_end(self: Arc<Self>, mut phase: ShutdownPhaseWatch) {
        phase.past(ShutdownPhase::Leaving).await;
        self.aborted.notify_waiters();
        tokio::time::sleep(ABORT_TIMEOUT).await;
    }

    /// Returns once the process ends, no stream is left and the client has had time to acknowledge that, which ends the
    /// connection by itself; one that is gone never does.
    async fn left_alone(&self, phase: &mut ShutdownPhaseWatch) {
        phase.past(ShutdownPhase::Open).await;
        self.last_call.send_replace(true);
        phase.past(ShutdownPhase::Closing).await;
        self.conn.set_idle_at_end(self.streams.is_empty());
        let mut patience = GOAWAY_TIMEOUT;
        loop {
            let (none, before) = (self.streams.is_empty(), self.requests.load(Ordering::Relaxed));
            tokio::time::sleep(patience).await;
            let idle = none && before == self.requests.load(Ordering::Relaxed);
            if idle && !self.conn.is_unsent() {
                return;
            }
            self.streams.wait().await;
            patience = CLOSE_TIMEOUT;
        }
    }
}

impl<F: HttpService> Http2<F> {
    /// Takes requests up until the connection ends. Pingora's own loop would not tell which stream a request came on.
    async fn accept(self: &Arc<Self>, io: Box<DownstreamStream>) {
        let digest = Arc::new(Digest {
            ssl_digest: io.get_ssl_digest(),
            timing_digest: io.get_timing_digest(),
            proxy_digest: io.get_proxy_digest(),
            socket_digest: io.get_socket_digest(),
        });
        let mut last_call = self.last_call.subscribe();
        let Ok(mut h2) = handshake(io, Some(self.options())).await else { return };
        let (mut leaving, mut malformed) = (false, 0);
        loop {
            let come = async {
                let mut come = pin!(HttpSession::from_h2_conn(&mut h2, Arc::clone(&digest)));
                poll_fn(|cx| self.poll_come(come.as_mut(), cx)).await
            };
            let (come, stream) = tokio::select! {
                biased;
                _ = last_call.changed(), if !leaving => {
                    h2.graceful_shutdown();
                    leaving = true;
                    continue;
                }
                come = come => come,
                () = self.idle(), if !leaving => return,
            };
            match come {
                Ok(Some(H2Accept::Session(session))) => self.begin(ServerSession::new_http2(session), stream),
                Ok(Some(H2Accept::Rejected)) if malformed < MALFORMED => malformed += 1,
                _ => return,
            }
        }
    }

    /// The next event, and its stream if that is known.
    fn poll_come<T>(
        &self,
        mut come: Pin<&mut impl Future<Output = T>>,
        cx: &mut Context<'_>,
    ) -> Poll<(T, Option<u32>)> {
        self.conn.continues.register(cx.waker());
        loop {
            match come.as_mut().poll(cx) {
                Poll::Ready(come) => return Poll::Ready((come, self.conn.opening.came())),
                Poll::Pending if self.conn.opening.none_came() => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Returns once no stream was open for `timeouts.idle`.
    async fn idle(&self) {
        let Some(idle) = self.conn.settings.timeouts.idle.limit() else { return std::future::pending().await };
        self.streams.wait().await;
        tokio::time::sleep(idle).await;
    }

    /// Serves a request in a task of its own.
    fn begin(self: &Arc<Self>, session: ServerSession, stream: Option<u32>) {
        let this = Arc::clone(self);
        self.streams.spawn(async move { this.process(session, stream).await });
    }

    async fn process(&self, mut session: ServerSession, stream: Option<u32>) {
        if !self.takes_another() {
            return;
        }
        self.conn.set_idle_at_end(false);
        session.set_write_timeout(self.conn.settings.timeouts.write.limit());
        let exchange = Arc::new(Exchange::new(Arc::clone(&self.conn), stream.unwrap_or(0), false));
        let shutdown = self.last_call.subscribe();
        let served = EXCHANGE.scope(Arc::clone(&exchange), self.service.app().process_new_http(session, &shutdown));
        tokio::select! {
            biased;
            _ = served => {}
            () = exchange.until_cut() => {}
            () = self.aborted(&exchange) => {}
        }
        if exchange.is_given_up() {
            self.note_given_up();
        }
    }

    fn options(&self) -> H2Options {
        let mut options = default_h2_options();
        options.max_concurrent_streams(self.conn.settings.streams);
        options.max_header_list_size(u32::try_from(self.conn.settings.header_bytes).unwrap_or(u32::MAX));
        options.initial_window_size(STREAM_WINDOW_BYTES);
        options.initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        options
    }
}
