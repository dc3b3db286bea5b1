//! What is known of a request when it has ended, and the one exit for it: to the metrics and to the access log.
//!
//! A record borrows from whoever kept the request's context: recording copies nothing but the log line. Here is no
//! decision about the request.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::backend::labels::PassedOver;
use crate::fault::Fault;

use super::meters::RouteMeters;
use crate::backend::Labels;
use crate::backend::labels::{Outcome, PickReason, RetryReason};

/// A request that has ended.
#[derive(Debug, Clone)]
pub struct Record<'a> {
    /// When it began.
    pub started: SystemTime,
    /// How long it took, to the end of its response.
    pub duration: Duration,
    /// Its id, kept or made.
    pub request_id: &'a str,
    /// The listener that it came to.
    pub listener: &'a str,
    /// `https` where its connection was under TLS, else `http`.
    pub scheme: &'static str,
    /// Whom it is from, trusted proxies believed.
    pub client: IpAddr,
    /// Its method.
    pub method: &'a http::Method,
    /// The host that it asked for.
    pub host: Option<&'a [u8]>,
    /// Its path with the query.
    pub path: &'a [u8],
    /// Its version.
    pub version: http::Version,
    /// Its route; `None`: none matched.
    pub route: Option<&'a RouteMeters>,
    /// The upstream that it went to.
    pub upstream: Option<&'a str>,
    /// The backend of the last attempt.
    pub backend: Option<&'a str>,
    /// The status that the client got, or 499.
    pub status: u16,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the response's body.
    pub bytes_out: u64,
    /// All attempts in order.
    pub attempts: &'a [AttemptRecord],
    /// The backends that could not be picked; `None` where one was tried or none was needed.
    pub passed_over: Option<&'a [PassedOver]>,
    /// Why it was not served as asked.
    pub fault: Option<Fault>,
    /// `User-Agent`.
    pub user_agent: Option<&'a [u8]>,
    /// `Referer`.
    pub referer: Option<&'a [u8]>,
    /// The trace that it belongs to; see `trace_id`.
    pub trace_id: Option<&'a str>,
}

/// An attempt that has ended.
#[derive(Debug, Clone)]
pub struct AttemptRecord {
    /// The backend's labels when it was picked.
    pub labels: Arc<Labels>,
    /// Why it was this backend.
    pub why: PickReason,
    /// Those that could not be picked; nothing if all could.
    pub passed_over: Option<Arc<Vec<PassedOver>>>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it was not good enough: a fault, or a status that the route retries.
    pub reason: Option<RetryReason>,
    /// The cause of its failure, in a few words.
    pub error: Option<Box<str>>,
    /// Whether its connection had served before.
    pub reused: bool,
    /// How long the connection took to open, if one was opened.
    pub connect: Option<Duration>,
    /// From the pick to the response header, if one came.
    pub first_byte: Option<Duration>,
}

/// The trace id in a `traceparent` header, if that is valid (W3C Trace Context, section 3.2).
pub fn trace_id(traceparent: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(traceparent).ok()?;
    let hex = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let (version, rest) = text.split_once('-')?;
    let (trace, rest) = rest.split_once('-')?;
    let (parent, flags) = rest.split_once('-')?;
    // A version above 00 may have more after the flags.
    let (flags, more) = flags.split_once('-').map_or((flags, false), |(flags, _)| (flags, true));
    let lengths = (version.len(), trace.len(), parent.len(), flags.len()) == (2, 32, 16, 2);
    let formed = lengths && [version, trace, parent, flags].into_iter().all(hex);
    let real = version != "ff" && !(version == "00" && more);
    let zero = |id: &str| id.bytes().all(|b| b == b'0');
    (formed && real && !zero(trace) && !zero(parent)).then_some(trace)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_id_comes_from_a_valid_header_only() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        for good in ["00-T-00f067aa0ba902b7-01", "cc-T-00f067aa0ba902b7-01-more"] {
            assert_eq!(trace_id(good.replace('T', trace).as_bytes()), Some(trace), "{good}");
        }
        for bad in [
            "",
            "00-T",
            "00-T-00f067aa0ba902b7-01-more",
            "ff-T-00f067aa0ba902b7-01",
            "00-T-0000000000000000-01",
            "00-T-00f067aa0ba902b7-1",
            "00-T-00F067AA0BA902B7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        ] {
            assert_eq!(trace_id(bad.replace('T', trace).as_bytes()), None, "{bad}");
        }
        assert_eq!(trace_id(b"\xff"), None);
    }
}
