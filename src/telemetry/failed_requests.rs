//! The latest failed requests, for the status page: a ring buffer without bodies, queries and header fields.
//!
//! Only a request that failed writes here. A storm of failures keeps one request per millisecond at most.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use super::request_record::Record;
use crate::fault::{Blame, Fault};

/// Number of requests that are remembered.
pub const MAX_FAILED_REQUESTS: usize = 100;

/// Maximum number of attempts, and of bytes of a path or an id, of one request.
const MAX_ATTEMPTS: usize = 8;
const MAX_TEXT_BYTES: usize = 200;

/// The latest requests that failed by a fault of a backend, of the configuration or of Weir.
#[derive(Debug, Default)]
pub struct FailedRequests {
    requests: Mutex<VecDeque<FailedRequest>>,
    last_ms: AtomicU64,
}

/// A failed request.
#[derive(Debug, Clone)]
pub struct FailedRequest {
    /// Time of its arrival.
    pub started: SystemTime,
    /// Its id.
    pub request_id: String,
    /// Its method.
    pub method: http::Method,
    /// Its path without the query.
    pub path: String,
    /// The route.
    pub route: Option<Arc<str>>,
    /// The upstream.
    pub upstream: Option<String>,
    /// Why it failed.
    pub fault: Fault,
    /// The status that the client got.
    pub status: u16,
    /// How long it took.
    pub duration: Duration,
    /// Backend, outcome and error of each attempt.
    pub attempts: Vec<FailedAttempt>,
}

/// An attempt of a failed request.
#[derive(Debug, Clone)]
pub struct FailedAttempt {
    /// The name of the backend.
    pub backend: Arc<str>,
    /// How it ended.
    pub outcome: &'static str,
    /// The cause in a few words.
    pub error: Option<Box<str>>,
}

impl FailedRequests {
    /// Keeps this request, if it failed and the client is not the cause.
    pub(super) fn record(&self, record: &Record<'_>) {
        let Some(fault) = record.fault.filter(|fault| fault.blame() != Blame::Client) else { return };
        let ms = record.started.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let ms = u64::try_from(ms).unwrap_or(u64::MAX);
        if self.last_ms.swap(ms, Ordering::Relaxed) == ms {
            return;
        }
        let failed = FailedRequest::of(record, fault);
        let mut requests = self.requests.lock();
        if requests.len() >= MAX_FAILED_REQUESTS {
            requests.pop_back();
        }
        requests.push_front(failed);
    }

    /// All that are remembered, newest first.
    pub fn recent(&self) -> Vec<FailedRequest> {
        self.requests.lock().iter().cloned().collect()
    }
}

impl FailedRequest {
    fn of(record: &Record<'_>, fault: Fault) -> Self {
        let path = record.path.split(|byte| *byte == b'?').next().unwrap_or_default();
        let attempts = record.attempts.iter().take(MAX_ATTEMPTS).map(|attempt| FailedAttempt {
            backend: Arc::clone(&attempt.labels.backend),
            outcome: attempt.outcome.label(),
            error: attempt.error.clone(),
        });
        Self {
            started: record.started,
            request_id: bounded(record.request_id.as_bytes()),
            method: record.method.clone(),
            path: bounded(path),
            route: record.route.map(|route| Arc::clone(route.name())),
            upstream: record.upstream.map(str::to_owned),
            fault,
            status: record.status,
            duration: record.duration,
            attempts: attempts.collect(),
        }
    }
}

fn bounded(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(MAX_TEXT_BYTES)]).into_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::super::access_entry::tests::plain;
    use super::*;

    fn failed(ms: u64, fault: Option<Fault>) -> Record<'static> {
        let started = UNIX_EPOCH + Duration::from_millis(ms);
        Record { started, fault, path: b"/pay?token=hunter2", status: 502, ..plain() }
    }

    #[test]
    fn the_ring_of_failed_requests_is_bounded_and_has_no_query() {
        let requests = FailedRequests::default();
        (0..1_000).for_each(|ms| requests.record(&failed(ms, Some(Fault::Connect))));
        let recent = requests.recent();
        assert_eq!(recent.len(), MAX_FAILED_REQUESTS);
        assert_eq!(
            (&*recent[0].path, recent[0].request_id.as_str(), recent[0].fault),
            ("/pay", "id-1", Fault::Connect)
        );
        assert_eq!(recent[0].started, UNIX_EPOCH + Duration::from_millis(999));
    }

    #[test]
    fn faults_of_clients_and_storms_do_not_fill_the_ring() {
        let requests = FailedRequests::default();
        for fault in [None, Some(Fault::NoRoute), Some(Fault::ClientAbort), Some(Fault::BadRequest)] {
            requests.record(&failed(1, fault));
        }
        assert!(requests.recent().is_empty());
        (0..9).for_each(|_| requests.record(&failed(1, Some(Fault::Timeout))));
        assert_eq!(requests.recent().len(), 1);
    }
}
