//! The record of a finished request, from which metrics and the access log entry are made.
//!
//! It never makes a decision about the request. A record borrows from the request's context, so nothing is copied
//! except the log line.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::backend::labels::PassedOver;
use crate::fault::Fault;

use super::grpc_status::GrpcStatus;
use super::limit_meters::LimitResult;
use super::meters::RouteMeters;
use crate::backend::Labels;
use crate::backend::labels::{Outcome, PickReason, RetryReason};

/// A request that has ended.
#[derive(Debug, Clone)]
pub struct Record<'a> {
    /// Time of its arrival.
    pub started: SystemTime,
    /// Time until the end of its response.
    pub duration: Duration,
    /// Up to the response header of a stream, or to 101; `None`: the response is no stream.
    pub stream_header: Option<Duration>,
    /// How it ended, if it is a call of gRPC.
    pub grpc_status: Option<GrpcStatus>,
    /// Its request id, received or generated.
    pub request_id: &'a str,
    /// The listener that accepted it.
    pub listener: &'a str,
    /// `https` if its connection uses TLS, else `http`.
    pub scheme: &'static str,
    /// The client address. A trusted proxy may set it.
    pub client: IpAddr,
    /// The method.
    pub method: &'a http::Method,
    /// The requested host.
    pub host: Option<&'a [u8]>,
    /// The path with the query.
    pub path: &'a [u8],
    /// The HTTP version.
    pub version: http::Version,
    /// The route. `None` if no route matched.
    pub route: Option<&'a RouteMeters>,
    /// The upstream.
    pub upstream: Option<&'a str>,
    /// The backend of the last attempt.
    pub backend: Option<&'a str>,
    /// The status that the client got. 499 if the client closed the connection first.
    pub status: u16,
    /// Bytes of the request body.
    pub bytes_in: u64,
    /// Bytes of the response body.
    pub bytes_out: u64,
    /// All attempts in order.
    pub attempts: &'a [AttemptRecord],
    /// The backends that could not be picked; `None` where one was tried or none was needed.
    pub passed_over: Option<&'a [PassedOver]>,
    /// The limits that refused the request, or would have: name and result.
    pub limits: &'a [(&'a str, LimitResult)],
    /// The identity that an access policy verified.
    pub user: Option<&'a str>,
    /// Why the request was not served as requested.
    pub fault: Option<Fault>,
    /// `User-Agent`.
    pub user_agent: Option<&'a [u8]>,
    /// `Referer`.
    pub referer: Option<&'a [u8]>,
    /// The trace id of the request. See `trace_id`.
    pub trace_id: Option<&'a str>,
}

/// An attempt that has ended.
#[derive(Debug, Clone)]
pub struct AttemptRecord {
    /// The backend's labels at the time of the pick.
    pub labels: Arc<Labels>,
    /// Why this backend was picked.
    pub why: PickReason,
    /// The backends that could not be picked. `None` if all could.
    pub passed_over: Option<Arc<Vec<PassedOver>>>,
    /// The outcome.
    pub outcome: Outcome,
    /// The reason for a retry: a fault, or a status that the route retries.
    pub reason: Option<RetryReason>,
    /// The cause of its failure, in a few words.
    pub error: Option<Box<str>>,
    /// Whether the connection was a reused one.
    pub reused: bool,
    /// Time to open the connection, if one was opened.
    pub connect: Option<Duration>,
    /// Time from the pick to the response head, if one arrived.
    pub first_byte: Option<Duration>,
}

/// The trace id of a valid `traceparent` field (W3C Trace Context, section 3.2).
pub fn trace_id(traceparent: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(traceparent).ok()?;
    let hex = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let (version, rest) = text.split_once('-')?;
    let (trace, rest) = rest.split_once('-')?;
    let (parent, flags) = rest.split_once('-')?;
    // A version above 00 may have more data after the flags.
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
