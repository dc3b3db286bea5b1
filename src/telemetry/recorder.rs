//! Records a request when it ends: its metrics and its line in the access log.

use std::cell::RefCell;
use std::sync::Arc;

use super::access_entry;
use super::access_log::AccessLog;
use super::record::Record;
use super::registry::Metrics;

/// The one exit of what is known of requests.
#[derive(Debug, Clone)]
pub struct Recorder {
    metrics: Arc<Metrics>,
    log: Arc<AccessLog>,
}

// A line of ordinary length fits; one that made it larger does not keep its size.
const LINE_BUFFER_BYTES: usize = 4096;

thread_local! {
    static LINE: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(LINE_BUFFER_BYTES));
}

impl Recorder {
    /// Records to these.
    pub fn new(metrics: Arc<Metrics>, log: Arc<AccessLog>) -> Self {
        Self { metrics, log }
    }

    /// Whether a line is written of a request: if not, nobody need keep what only the line has.
    pub fn wants_line(&self) -> bool {
        self.log.is_on()
    }

    /// Counts the request and writes its line.
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
        if self.log.is_on() {
            // A context that is dropped while its thread ends finds no buffer any more; it takes one of its own.
            if LINE.try_with(|buffer| self.log_line(&mut buffer.borrow_mut(), record)).is_err() {
                self.log_line(&mut Vec::new(), record);
            }
        }
    }

    fn log_line(&self, buffer: &mut Vec<u8>, record: &Record<'_>) {
        buffer.clear();
        access_entry::write(buffer, record);
        self.log.push(buffer);
        buffer.shrink_to(LINE_BUFFER_BYTES);
    }

    /// The registry.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The access log.
    pub fn log(&self) -> &Arc<AccessLog> {
        &self.log
    }
}
