//! State of a client connection and of its current exchange (a request and its response). The proxy uses it too.

mod disconnect;
pub(super) mod downstream_stream;
mod flush_timer;
mod half_closed;
pub(super) mod lingering_close;
mod reclaim;
pub(super) mod request_boundary;
pub(super) mod transport;
mod upgrade_option;

use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::body_gate::BodyGate;
use crate::listener::conn::flush_timer::FlushTimer;
use crate::listener::conn::reclaim::ReclaimSlot;
use crate::listener::settings::ListenerSettings;
use crate::listener::shutdown::{ShutdownPhase, ShutdownPhaseWatch};
use crate::message::forwarded::text_of;
use crate::telemetry::meters::ListenerMeters;
use crate::tls::ConnectionInfo;

tokio::task_local! {
    /// The exchange that the current task serves.
    pub(in crate::listener) static EXCHANGE: Arc<Exchange>;
}

/// The state of a client connection.
#[derive(Debug)]
pub struct Conn {
    /// The name or address of the listener.
    pub listener: Arc<str>,
    /// The peer's address. It comes from the PROXY header if the listener expects one.
    pub peer: SocketAddr,
    /// The local address. It comes from the PROXY header if the listener expects one.
    pub local: SocketAddr,
    /// The listener's settings when the connection was accepted.
    pub settings: Arc<ListenerSettings>,
    /// The listener's meters.
    pub meters: Arc<ListenerMeters>,
    /// Data of the TLS connection. `None` on a plain port.
    pub tls: Option<ConnectionInfo>,
    since: Instant,
    phase: ShutdownPhaseWatch,
    peer_text: OnceLock<HeaderValue>,
    tunnel: AtomicBool,
    answering: AtomicBool,
    /// The current request is the last one that this connection may carry.
    spent: AtomicBool,
    /// Some of the written bytes have not left yet. HTTP/2 only.
    unsent: AtomicBool,
    /// No request was active when the shutdown began, and none has arrived since.
    idle_at_end: AtomicBool,
    /// The next response head needs `Upgrade` among its connection options. HTTP/1 only.
    upgrade_option: AtomicBool,
    abort_response: Mutex<Option<Bytes>>,
    /// HTTP/1 only.
    body_gate: Arc<BodyGate>,
    pub(in crate::listener) reclaim: ReclaimSlot,
    /// HTTP/1 only.
    pub(in crate::listener) flush_timer: FlushTimer,
    /// The client's bytes are not read now. A read only detects that the client has left.
    watched: AtomicBool,
}

impl Conn {
    pub(in crate::listener) fn new(
        listener: Arc<str>,
        ends: (SocketAddr, SocketAddr),
        settings: Arc<ListenerSettings>,
        meters: Arc<ListenerMeters>,
        phase: ShutdownPhaseWatch,
    ) -> Self {
        let (peer, local) = ends;
        Self {
            listener,
            peer,
            local,
            settings,
            meters,
            tls: None,
            since: Instant::now(),
            phase,
            peer_text: OnceLock::new(),
            tunnel: AtomicBool::new(false),
            answering: AtomicBool::new(false),
            spent: AtomicBool::new(false),
            unsent: AtomicBool::new(false),
            idle_at_end: AtomicBool::new(false),
            upgrade_option: AtomicBool::new(false),
            abort_response: Mutex::new(None),
            body_gate: Arc::default(),
            reclaim: ReclaimSlot::default(),
            flush_timer: FlushTimer::default(),
            watched: AtomicBool::new(false),
        }
    }

    /// The client's address. IPv4-mapped addresses are returned as IPv4.
    pub fn peer_ip(&self) -> IpAddr {
        self.peer.ip().to_canonical()
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// The client's address as a field value.
    pub fn peer_text(&self) -> &HeaderValue {
        self.peer_text.get_or_init(|| text_of(self.peer.ip()))
    }

    /// Whether this connection should end with the current response.
    pub fn is_closing(&self) -> bool {
        self.phase.is_ending() || self.spent.load(Ordering::Acquire)
    }

    /// Whether the process ends.
    pub fn is_leaving(&self) -> bool {
        self.phase.is_leaving()
    }

    /// Marks the current request as the last of the connection.
    pub(in crate::listener) fn set_spent(&self) {
        self.spent.store(true, Ordering::Release);
    }

    /// Keeps the connection open although Pingora drops its stream. The current response must be complete and must have
    /// announced keep-alive. The connection is closed if a part of the request has not arrived. HTTP/1 only.
    pub fn keep(&self) {
        self.reclaim.ask();
    }

    /// Adds `Upgrade` to the connection options of the next response head. HTTP/1 only.
    pub fn add_upgrade_option(&self) {
        self.upgrade_option.store(true, Ordering::Release);
    }

    pub(in crate::listener) fn takes_upgrade_option(&self) -> bool {
        self.upgrade_option.load(Ordering::Acquire) && self.upgrade_option.swap(false, Ordering::AcqRel)
    }

    /// The gate of the current request body. HTTP/1 only.
    pub(in crate::listener) fn body_gate(&self) -> &Arc<BodyGate> {
        &self.body_gate
    }

    /// Makes the connection a tunnel after an upgrade. All bytes pass in both directions.
    pub fn set_tunnel(&self) {
        self.tunnel.store(true, Ordering::Release);
    }

    pub(in crate::listener) fn is_tunnel(&self) -> bool {
        self.tunnel.load(Ordering::Acquire)
    }

    pub(in crate::listener) fn set_answering(&self) {
        self.answering.store(true, Ordering::Release);
    }

    pub(in crate::listener) fn clear_answering(&self) {
        self.answering.store(false, Ordering::Release);
    }

    /// Whether a part of the current response was written.
    pub(in crate::listener) fn is_answering(&self) -> bool {
        self.answering.load(Ordering::Acquire)
    }

    /// Until the guard is dropped, a read of the stream returns only the end of the stream, when the client has left.
    /// HTTP/1 only.
    pub fn watch(&self) -> WatchOnly<'_> {
        self.watched.store(true, Ordering::Release);
        WatchOnly(self)
    }

    pub(in crate::listener) fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Acquire)
    }

    pub(in crate::listener) fn set_unsent(&self, unsent: bool) {
        self.unsent.store(unsent, Ordering::Release);
    }

    pub(in crate::listener) fn is_unsent(&self) -> bool {
        self.unsent.load(Ordering::Acquire)
    }

    pub(in crate::listener) fn set_idle_at_end(&self, idle: bool) {
        self.idle_at_end.store(idle, Ordering::Release);
    }

    pub(in crate::listener) fn is_idle_at_end(&self) -> bool {
        self.idle_at_end.load(Ordering::Acquire)
    }

    pub(in crate::listener) fn take_abort_response(&self) -> Option<Bytes> {
        self.abort_response.lock().take()
    }

    fn set_abort_response(&self, response: Bytes) {
        *self.abort_response.lock() = Some(response);
    }
}

/// While this guard lives, the client's bytes are not read. Only its disconnect is detected.
#[derive(Debug)]
pub struct WatchOnly<'a>(&'a Conn);

impl Drop for WatchOnly<'_> {
    fn drop(&mut self) {
        self.0.watched.store(false, Ordering::Release);
    }
}

/// Why the listener aborted an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abort {
    /// The request's deadline has passed.
    Deadline,
    /// The process stops, and the grace period is over.
    Shutdown,
}

/// An exchange: a request and its response. The proxy sets here the deadlines at which the listener aborts the request.
#[derive(Debug)]
pub struct Exchange {
    /// The connection of the exchange.
    pub conn: Arc<Conn>,
    /// A part of the request body arrived with the header, and the client does not wait for 100 (Continue). The body
    /// has a Content-Length.
    pub body_is_here: bool,
    /// The flow control of the request body.
    body_gate: Arc<BodyGate>,
    /// When the listener aborts the exchange, in milliseconds after the start of the connection. 0: never.
    deadline: AtomicU64,
    cut: OnceLock<Abort>,
    given_up: AtomicBool,
}

impl Exchange {
    pub(in crate::listener) fn new(conn: Arc<Conn>, body_is_here: bool, body_gate: Arc<BodyGate>) -> Self {
        Self {
            conn,
            body_is_here,
            body_gate,
            deadline: AtomicU64::new(0),
            cut: OnceLock::new(),
            given_up: AtomicBool::new(false),
        }
    }

    /// The exchange that the current task serves.
    pub fn current() -> Option<Arc<Self>> {
        EXCHANGE.try_with(Arc::clone).ok()
    }

    /// Sets the deadline at which the listener aborts the exchange, from now. A later call replaces the deadline, and
    /// `None` removes it.
    pub fn cut_after(&self, wait: Option<Duration>) {
        let at = wait.map_or(0, |wait| (self.conn.since.elapsed() + wait).as_millis().max(1) as u64);
        self.deadline.store(at, Ordering::Release);
    }

    /// The gate that stops the client while the backend takes no bytes of the request body.
    pub fn body_gate(&self) -> &Arc<BodyGate> {
        &self.body_gate
    }

    /// Why the listener has aborted the exchange. `None` if it has not.
    pub fn cut(&self) -> Option<Abort> {
        self.cut.get().copied()
    }

    /// The process stops, and the grace period is over: the exchange is cut.
    pub(in crate::listener) fn abort(&self) {
        let _ = self.cut.set(Abort::Shutdown);
    }

    /// Records that the client left before its response began.
    pub fn set_given_up(&self) {
        self.given_up.store(true, Ordering::Release);
    }

    pub(in crate::listener) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    /// Completes when a deadline has passed. The task of the exchange must poll it after all code that sets a deadline.
    /// Then a new deadline needs no wake-up.
    pub(in crate::listener) async fn until_cut(&self) {
        let (mut timer, mut shutdown) = (None, None);
        poll_fn(|cx| {
            if self.conn.phase.is_ending() && self.poll_shutdown(&mut shutdown, cx).is_ready() {
                self.abort();
                return Poll::Ready(());
            }
            self.poll_cut(&mut timer, cx)
        })
        .await;
    }

    /// Ready once the grace period is over. The watch is made only when the listener is on its way out.
    fn poll_shutdown(&self, shutdown: &mut Option<ShutdownWait>, cx: &mut Context<'_>) -> Poll<()> {
        let wait = shutdown.get_or_insert_with(|| {
            let mut phase = self.conn.phase.clone();
            Box::pin(async move { phase.past(ShutdownPhase::Leaving).await })
        });
        wait.as_mut().poll(cx)
    }

    fn poll_cut(&self, timer: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(at) = self.deadline() {
            let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
            if at < timer.deadline() {
                timer.as_mut().reset(at);
            }
            ready!(timer.as_mut().poll(cx));
            if Instant::now() >= at {
                let _ = self.cut.set(Abort::Deadline);
                return Poll::Ready(());
            }
            // The deadline was moved in the meantime. A check here is cheaper than a timer reset at every change.
            timer.as_mut().reset(at);
        }
        Poll::Pending
    }

    fn deadline(&self) -> Option<Instant> {
        let at = self.deadline.load(Ordering::Acquire);
        (at > 0).then(|| self.conn.since + Duration::from_millis(at))
    }

    /// If the exchange was aborted before a byte of its response was written, stores the response to send instead.
    pub(in crate::listener) fn leave_abort_response(&self, response: impl FnOnce(Abort) -> Bytes) {
        if let Some(why) = self.cut().filter(|_| !self.conn.is_answering()) {
            self.conn.set_abort_response(response(why));
        }
    }
}

/// A wait for the end of the grace period.
type ShutdownWait = Pin<Box<dyn Future<Output = ()> + Send>>;
