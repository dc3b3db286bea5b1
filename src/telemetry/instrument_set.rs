//! All instruments of the process, from which a scrape makes the metric families.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use super::access_meters::AccessMeters;
use super::limit_meters::{LimitMeters, StoreMeters};
use super::meters::{CertificateMeters, ListenerMeters, RouteMeters, UpstreamMeters};
use crate::backend::BackendState;
use crate::instruments::Counter;
use crate::instruments::keyed::KeyedRegistry;

/// All instruments, except the `process_*` families.
#[derive(Debug)]
pub(super) struct InstrumentSet {
    pub(super) version: String,
    pub(super) commit: String,
    pub(super) routes: KeyedRegistry<Arc<str>, RouteMeters>,
    pub(super) listeners: KeyedRegistry<Arc<str>, ListenerMeters>,
    pub(super) certificates: KeyedRegistry<Arc<str>, CertificateMeters>,
    pub(super) upstreams: KeyedRegistry<Arc<str>, UpstreamMeters>,
    pub(super) limits: KeyedRegistry<Arc<str>, LimitMeters>,
    pub(super) access_policies: KeyedRegistry<Arc<str>, AccessMeters>,
    pub(super) stores: KeyedRegistry<Arc<str>, StoreMeters>,
    pub(super) backends: KeyedRegistry<(Arc<str>, Arc<str>), BackendState>,
    pub(super) in_flight: CachePadded<AtomicI64>,
    pub(super) reloads_applied: Counter,
    pub(super) reloads_rejected: Counter,
    pub(super) body_files_applied: Counter,
    pub(super) body_files_rejected: Counter,
    /// Changed files of `auth` that cannot be used.
    pub(super) auth_files_rejected: Counter,
    pub(super) list_files_applied: Counter,
    pub(super) list_files_rejected: Counter,
    /// Changed files of `allow` and `deny` that cannot be used.
    pub(super) network_files_rejected: Counter,
    pub(super) last_reload_failed: AtomicBool,
    pub(super) last_reload_secs: AtomicU64,
    pub(super) generation: AtomicU64,
    /// New processes that an upgrade has started and that do not serve yet.
    pub(super) starting_processes: AtomicU64,
    /// Old processes that still drain.
    pub(super) old_processes: AtomicU64,
    /// Whether this process drains.
    pub(super) draining: AtomicBool,
    pub(super) log_dropped: Arc<Counter>,
}

impl InstrumentSet {
    pub(super) fn in_flight(&self) -> u64 {
        u64::try_from(self.in_flight.load(Ordering::Relaxed)).unwrap_or(0)
    }
}
