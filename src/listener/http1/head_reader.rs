//! Reads the head of the next HTTP/1 request on a connection, under its timeouts and limits, before Pingora sees a
//! byte.
//!
//! An idle connection has no buffer and no session. Pingora never sees a request that is refused here.

use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, Sleep, timeout_at};

use crate::fault::Fault;
use crate::listener::conn::downstream_stream::DownstreamStream;
use crate::listener::shutdown::{PhaseChange, ShutdownPhase};
use crate::message::request_framing::{
    BadHead, HeadFacts, HeadLimits, head_end, is_token, lower_minor, read_whole_head,
};
use crate::tls::ConnectionInfo;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long an idle connection stays open after its listener was removed. A request of the client may be on its way.
/// Its response has `Connection: close`.
const LAST_CALL: Duration = Duration::from_secs(5);
/// How long an idle connection stays open when the process ends.
pub(in crate::listener) const LAST_CALL_AT_EXIT: Duration = Duration::from_millis(100);

/// The next event on a connection.
pub(in crate::listener) enum NextHead {
    /// A request. The inbox contains its head.
    Request(HeadFacts),
    /// The inbox contains the HTTP/2 preface (RFC 9113 section 3.4).
    Http2,
    /// A request that must be refused.
    Refuse(BadHead),
    /// The connection must be closed: the peer closed it, or it was idle for too long.
    Close,
    /// No byte arrived in time on a new connection, or at the start of a head.
    Silence,
}

/// The timer of a connection's idle waits. One timer serves all waits, because a reset is cheaper than a new timer for
/// each request.
pub(in crate::listener) type IdleTimer = Pin<Box<Sleep>>;

/// Waits for the next head. `first`: the connection is new.
pub(in crate::listener) async fn next(
    io: &mut DownstreamStream,
    first: bool,
    phase_change: &mut PhaseChange,
    timer: &mut IdleTimer,
) -> NextHead {
    let timeouts = &io.conn.settings.timeouts;
    let (header, idle) = (timeouts.header.get(), timeouts.idle.get());
    let mut from = Instant::now();
    if io.inbox.is_empty() {
        let wait = if first { header } else { idle };
        match wait_for_bytes(io, from + wait, phase_change, timer).await {
            WaitFor::Bytes => {}
            WaitFor::Ended => return NextHead::Close,
            WaitFor::Late if first => return NextHead::Silence,
            WaitFor::Late => return NextHead::Close,
        }
    }
    let mut seen = 0;
    if let Some(next) = check_inbox(io, first, &mut seen) {
        // Most heads arrive complete, and they need no timer.
        return next;
    }
    if !first {
        from = Instant::now();
    }
    read_on(io, first, seen, from + header).await
}

enum WaitFor {
    Bytes,
    Ended,
    Late,
}

async fn wait_for_bytes(
    io: &mut DownstreamStream,
    deadline: Instant,
    phase_change: &mut PhaseChange,
    timer: &mut IdleTimer,
) -> WaitFor {
    let mut deadline = deadline;
    loop {
        match phase_change.now() {
            ShutdownPhase::Open => {}
            ShutdownPhase::Closing => deadline = deadline.min(Instant::now() + LAST_CALL),
            ShutdownPhase::Leaving => deadline = deadline.min(Instant::now() + LAST_CALL_AT_EXIT),
            ShutdownPhase::Aborting => return WaitFor::Ended,
        }
        timer.as_mut().reset(deadline);
        tokio::select! {
            biased;
            ready = io.readable() => match (ready, io.fill_now().await) {
                (Ok(()), Poll::Ready(Ok(1..))) => return WaitFor::Bytes,
                (Ok(()), Poll::Pending) => {}
                _ => return WaitFor::Ended,
            },
            () = timer.as_mut() => return if io.has_come() { WaitFor::Bytes } else { WaitFor::Late },
            () = phase_change.changed() => {}
        }
    }
}

async fn read_on(io: &mut DownstreamStream, first: bool, mut seen: usize, deadline: Instant) -> NextHead {
    loop {
        match timeout_at(deadline, io.fill()).await {
            Ok(Ok(0) | Err(_)) => return NextHead::Close,
            Ok(Ok(_)) => {
                if let Some(next) = check_inbox(io, first, &mut seen) {
                    return next;
                }
            }
            Err(_) if io.inbox.is_empty() => return NextHead::Silence,
            Err(_) => {
                return NextHead::Refuse(BadHead {
                    status: 408,
                    fault: Fault::RefusedPolicy,
                    reason: "the header took too long",
                });
            }
        }
    }
}

/// The first bytes of a record of TLS that begins a handshake (RFC 8446 section 5.1).
const TLS_HANDSHAKE: [u8; 2] = [22, 3];

/// Checks the bytes received so far. The first `seen` bytes contain no end of a head.
fn check_inbox(io: &mut DownstreamStream, first: bool, seen: &mut usize) -> Option<NextHead> {
    let settings = &io.conn.settings;
    let inbox = &io.inbox;
    let tls = io.conn.tls.as_ref();
    // Under TLS, HTTP/2 is used if and only if ALPN has selected it (RFC 9113 section 3.2).
    if first && tls.map_or(settings.http2, ConnectionInfo::is_http2) {
        if inbox.starts_with(PREFACE) {
            return Some(NextHead::Http2);
        }
        if PREFACE.starts_with(inbox) {
            return None;
        }
        if tls.is_some() {
            return Some(NextHead::Close);
        }
    }
    if !may_be_http(inbox) {
        let is_tls = inbox.starts_with(&TLS_HANDSHAKE);
        let reason = if is_tls { "TLS on a port of plain HTTP" } else { "this is not HTTP" };
        return Some(NextHead::Refuse(BadHead { status: 400, fault: Fault::BadRequest, reason }));
    }
    let limits = HeadLimits { target: settings.uri_bytes, fields: settings.headers };
    match head_end(inbox, *seen) {
        Err(bad) => Some(NextHead::Refuse(bad)),
        Ok(Some(end)) if end <= settings.header_bytes => Some(check_head(io, end, &limits)),
        Ok(None) if inbox.len() <= settings.header_bytes => {
            *seen = inbox.len();
            None
        }
        Ok(_) => Some(NextHead::Refuse(BadHead::too_large(inbox, &limits))),
    }
}

/// Checks the head that ends at `end`. A head with a higher minor version is changed to HTTP/1.1, because it is served
/// as HTTP/1.1. A head is replaced if its target has bytes that must be percent-encoded.
fn check_head(io: &mut DownstreamStream, end: usize, limits: &HeadLimits) -> NextHead {
    let mut head = read_whole_head(&io.inbox[..end], limits);
    if head.as_ref().is_err_and(|bad| bad.status == 505) && lower_minor(&mut io.inbox[..end]) {
        head = read_whole_head(&io.inbox[..end], limits);
    }
    match head {
        Ok((facts, None)) => NextHead::Request(facts),
        Ok((facts, Some(mut encoded))) => {
            encoded.extend_from_slice(&io.inbox[end..]);
            io.inbox = encoded;
            NextHead::Request(facts)
        }
        Err(bad) => NextHead::Refuse(bad),
    }
}

/// Whether the bytes can be a request, which begins with a method. Other bytes are detected at once, such as a TLS
/// handshake on a plain port.
fn may_be_http(inbox: &[u8]) -> bool {
    let first = inbox.iter().find(|byte| !matches!(byte, b'\r' | b'\n'));
    first.is_none_or(|byte| is_token(std::slice::from_ref(byte)))
}
