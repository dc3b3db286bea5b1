//! What the rooms above know of a client's connection and of the exchange under way on it.

mod disconnect;
pub(super) mod downstream_stream;
mod expect_continue;
mod flush_timer;
mod half_closed;
mod header_blocks;
pub(super) mod lingering_close;
mod reclaim;
pub(super) mod request_boundary;
mod stream_id;
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

use crate::listener::conn::expect_continue::Continues;
use crate::listener::conn::flush_timer::FlushTimer;
use crate::listener::conn::reclaim::ReclaimSlot;
use crate::listener::conn::stream_id::StreamIdTracker;
use crate::listener::settings::ListenerSettings;
use crate::listener::shutdown::{ShutdownPhase, ShutdownPhaseWatch};
use crate::message::forwarded::text_of;
use crate::telemetry::meters::ListenerMeters;
use crate::tls::ConnectionInfo;

tokio::task_local! {
    /// The exchange that the running task serves.
    pub(in crate::listener) static EXCHANGE: Arc<Exchange>;
}

/// A client's connection.
#[derive(Debug)]
pub struct Conn {
    /// What the listener is called.
    pub listener: Arc<str>,
    /// The other end.
    pub peer: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
    /// The listener's settings when the connection was accepted.
    pub settings: Arc<ListenerSettings>,
    /// The listener's meters.
    pub meters: Arc<ListenerMeters>,
    /// What the handshake came to; nothing on a plain port.
    pub tls: Option<ConnectionInfo>,
    since: Instant,
    phase: ShutdownPhaseWatch,
    peer_text: OnceLock<HeaderValue>,
    tunnel: AtomicBool,
    answering: AtomicBool,
    /// The request under way is the last that the connection may bring.
    spent: AtomicBool,
    /// Some of what was written has not left yet. Of HTTP/2 only.
    unsent: AtomicBool,
    /// Nothing was under way when the process began to end, nor since.
    idle_at_end: AtomicBool,
    /// The next head that is written needs `Upgrade` among its connection options. HTTP/1 only.
    upgrade_option: AtomicBool,
    abort_response: Mutex<Option<Bytes>>,
    pub(in crate::listener) reclaim: ReclaimSlot,
    /// Of HTTP/1 only.
    pub(in crate::listener) flush_timer: FlushTimer,
    /// Nothing is read of the client now: only whether it has left is of interest.
    watched: AtomicBool,
    /// Of HTTP/2 only.
    pub(in crate::listener) opening: StreamIdTracker,
    /// Of HTTP/2 only.
    pub(in crate::listener) continues: Continues,
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
            reclaim: ReclaimSlot::default(),
            flush_timer: FlushTimer::default(),
            watched: AtomicBool::new(false),
            opening: StreamIdTracker::default(),
            continues: Continues::default(),
        }
    }

    /// The client's address as the socket has it; IPv4-mapped addresses as IPv4.
    pub fn peer_ip(&self) -> IpAddr {
        self.peer.ip().to_canonical()
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// The same as a field's value.
    pub fn peer_text(&self) -> &HeaderValue {
        self.peer_text.get_or_init(|| text_of(self.peer.ip()))
    }

    /// Whether this connection should end with the response under way.
    pub fn is_closing(&self) -> bool {
        self.phase.is_ending() || self.spent.load(Ordering::Acquire)
    }

    /// Whether the process ends.
    pub fn is_leaving(&self) -> bool {
        self.phase.is_leaving()
    }

    /// The request under way is the last that the connection may bring.
    pub(in crate::listener) fn set_spent(&self) {
        self.spent.store(true, Ordering::Release);
    }

    /// The response under way ends whole and says that the connection goes on: it does, should Pingora give it up, unless some
    /// of the request is still to come. HTTP/1 only.
    pub fn keep(&self) {
        self.reclaim.ask();
    }

    /// The response header that comes next gets `Upgrade` among its connection options. HTTP/1 only.
    pub fn add_upgrade_option(&self) {
        self.upgrade_option.store(true, Ordering::Release);
    }

    pub(in crate::listener) fn takes_upgrade_option(&self) -> bool {
        self.upgrade_option.load(Ordering::Acquire) && self.upgrade_option.swap(false, Ordering::AcqRel)
    }

    /// After an upgrade everything passes, both ways.
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

    /// Whether some of the response under way was written.
    pub(in crate::listener) fn is_answering(&self) -> bool {
        self.answering.load(Ordering::Acquire)
    }

    /// Until the guard is dropped, a read of the stream gives nothing but its end, once the client has left. HTTP/1 only.
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

    pub(in crate::listener) fn take_last_words(&self) -> Option<Bytes> {
        self.abort_response.lock().take()
    }

    fn set_last_words(&self, words: Bytes) {
        *self.abort_response.lock() = Some(words);
    }
}

/// The client is only watched, not read from.
#[derive(Debug)]
pub struct WatchOnly<'a>(&'a Conn);

impl Drop for WatchOnly<'_> {
    fn drop(&mut self) {
        self.0.watched.store(false, Ordering::Release);
    }
}

/// Why the listener ended an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abort {
    /// The request's deadline.
    Deadline,
    /// The request's body did not come on.
    Body,
    /// The process stops, and the grace period is over.
    Shutdown,
}

/// A request and its response: the handle by which the proxy room sets times after which the listener cuts it.
#[derive(Debug)]
pub struct Exchange {
    /// The connection it runs on.
    pub conn: Arc<Conn>,
    /// Its stream on the connection, where that is known; 0: it is not.
    stream: u32,
    /// The client of HTTP/2 was to get 100 (Continue).
    continued: AtomicBool,
    /// The request has a body, some of it came with the header, and the client waits for nobody's leave to send it.
    pub body_is_here: bool,
    /// Milliseconds after the connection came; 0: never.
    deadline: AtomicU64,
    body: AtomicU64,
    cut: OnceLock<Abort>,
    given_up: AtomicBool,
}

impl Exchange {
    pub(in crate::listener) fn new(conn: Arc<Conn>, stream: u32, body_is_here: bool) -> Self {
        Self {
            conn,
            stream,
            continued: AtomicBool::new(false),
            body_is_here,
            deadline: AtomicU64::new(0),
            body: AtomicU64::new(0),
            cut: OnceLock::new(),
            given_up: AtomicBool::new(false),
        }
    }

    /// The exchange that the running task serves.
    pub fn current() -> Option<Arc<Self>> {
        EXCHANGE.try_with(Arc::clone).ok()
    }

    /// Cuts the exchange after this long from now unless it ends before or this is called again; `None`: never.
    pub fn cut_after(&self, wait: Option<Duration>) {
        self.set(&self.deadline, wait);
    }

    /// The same for the wait for the next bytes of the request's body.
    pub fn cut_body_after(&self, wait: Option<Duration>) {
        self.set(&self.body, wait);
    }

    /// Why the listener has cut it, if it has.
    pub fn cut(&self) -> Option<Abort> {
        self.cut.get().copied()
    }

    /// The client of HTTP/2 waits for 100 (Continue) and gets it, once, if its final response does not begin first. One of
    /// HTTP/1 gets it from its stream as that is read.
    pub fn send_continue(&self) {
        if self.stream != 0 && !self.continued.swap(true, Ordering::AcqRel) {
            self.conn.continues.ask(self.stream);
        }
    }

    /// The final response begins.
    pub fn begin_response(&self) {
        if self.continued.load(Ordering::Acquire) {
            self.conn.continues.take_back(self.stream);
        }
    }

    /// The process stops, and the grace period is over: the exchange is cut.
    pub(in crate::listener) fn abort(&self) {
        let _ = self.cut.set(Abort::Shutdown);
    }

    /// The client has left before its response began.
    pub fn set_given_up(&self) {
        self.given_up.store(true, Ordering::Release);
    }

    pub(in crate::listener) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    fn set(&self, timer: &AtomicU64, wait: Option<Duration>) {
        let at = wait.map_or(0, |wait| (self.conn.since.elapsed() + wait).as_millis().max(1) as u64);
        timer.store(at, Ordering::Release);
    }

    /// Returns when the time has come. To be polled by the exchange's own task after all that sets times: then nobody has to be
    /// woken for one that was set.
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
        while let Some((at, why)) = self.soonest() {
            let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
            if at < timer.deadline() {
                timer.as_mut().reset(at);
            }
            ready!(timer.as_mut().poll(cx));
            if Instant::now() >= at {
                let _ = self.cut.set(why);
                return Poll::Ready(());
            }
            // The time has moved away meanwhile: cheaper to see that now than to move the timer each time.
            timer.as_mut().reset(at);
        }
        Poll::Pending
    }

    fn soonest(&self) -> Option<(Instant, Abort)> {
        let timers = [(&self.deadline, Abort::Deadline), (&self.body, Abort::Body)];
        let set = timers.iter().map(|(timer, why)| (timer.load(Ordering::Acquire), *why)).filter(|(at, _)| *at > 0);
        set.min_by_key(|(at, _)| *at).map(|(at, why)| (self.conn.since + Duration::from_millis(at), why))
    }

    /// What the client is told if it is cut before a byte of its response was written.
    pub(in crate::listener) fn leave_last_words(&self, words: impl FnOnce(Abort) -> Bytes) {
        if let Some(why) = self.cut().filter(|_| !self.conn.is_answering()) {
            self.conn.set_last_words(words(why));
        }
    }
}

/// A wait for the end of the grace period.
type ShutdownWait = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Drop for Exchange {
    fn drop(&mut self) {
        self.begin_response();
    }
}
