//! The recorder of finished requests: updates the metrics and writes the access log entry.

use std::cell::RefCell;
use std::sync::Arc;

use super::access_log::AccessLog;
use super::registry::Metrics;
use super::request_record::Record;

/// The only path from a finished request to the metrics and the access log.
#[derive(Debug, Clone)]
pub struct Recorder {
    metrics: Arc<Metrics>,
    log: Arc<AccessLog>,
}

// Large enough for a usual line. A buffer that a longer line enlarged is shrunk afterwards.
const LINE_BUFFER_BYTES: usize = 4096;

thread_local! {
    static LINE: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(LINE_BUFFER_BYTES));
}

impl Recorder {
    /// Records to this registry and this access log.
    pub fn new(metrics: Arc<Metrics>, log: Arc<AccessLog>) -> Self {
        Self { metrics, log }
    }

    /// Whether access log entries are written. If not, the caller need not collect data that only the entry has.
    pub fn wants_line(&self) -> bool {
        self.log.is_on()
    }

    /// Counts the request and writes its entry.
    pub fn record(&self, record: &Record<'_>) {
        let route = record.route.unwrap_or_else(|| self.metrics.no_route());
        let took = record.stream_header.unwrap_or(record.duration);
        route.record(record.method, record.status, took, record.fault);
        if record.stream_header.is_some() {
            route.record_stream(record.duration);
        }
        // A 5xx status counts as an error already.
        if let Some(status) = record.grpc_status.filter(|_| record.status < 500) {
            route.record_grpc(status);
        }
        if record.fault.is_some() {
            self.metrics.failed_requests().record(record);
        }
        if self.log.is_on() && self.log.rules().keeps(record, fastrand::f64) {
            // The thread-local buffer is gone if a context is dropped while its thread ends. A temporary buffer is used
            // then.
            if LINE.try_with(|buffer| self.log_line(&mut buffer.borrow_mut(), record)).is_err() {
                self.log_line(&mut Vec::new(), record);
            }
        }
    }

    fn log_line(&self, buffer: &mut Vec<u8>, record: &Record<'_>) {
        buffer.clear();
        self.log.rules().write(buffer, record);
        self.log.push(buffer);
        buffer.shrink_to(LINE_BUFFER_BYTES);
    }

    /// The metrics registry.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The access log.
    pub fn log(&self) -> &Arc<AccessLog> {
        &self.log
    }
}
