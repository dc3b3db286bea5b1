//! A scrape in progress: renders all metric families as text in pieces of bounded size.
//!
//! It never counts as a user of an instrument, because it has weak references only. The set of instruments is fixed at
//! the start, and values are read when they are written. An instrument that is dropped meanwhile is skipped.

use std::sync::{Arc, Weak};

use prometheus::TextEncoder;
use prometheus::core::Collector;

use super::access_meters::AccessMeters;
use super::families::ALL;
use super::family_spec::{FamilySource, FamilySpec};
use super::instrument_set::InstrumentSet;
use super::limit_meters::{LimitMeters, StoreMeters};
use super::meters::{CertificateMeters, ListenerMeters, RouteMeters, UpstreamMeters};
use super::process::Process;
use super::text_format::SeriesWriter;
use crate::backend::{BackendState, Labels};
use crate::instruments::keyed::KeyedRegistry;

/// Size of a piece, in bytes. A piece ends when it exceeds this size.
const PIECE_BYTES: usize = 128 << 10;

/// Usual maximum size of the series of one instrument in a family, in bytes.
const SLACK_BYTES: usize = 8 << 10;

/// A scrape in progress. Its pieces, concatenated, are in text format 0.0.4.
pub struct Scrape {
    instruments: Arc<InstrumentSet>,
    /// The `process_*` families, which come first.
    process: Option<String>,
    routes: Vec<Weak<RouteMeters>>,
    listeners: Vec<Weak<ListenerMeters>>,
    certificates: Vec<Weak<CertificateMeters>>,
    upstreams: Vec<Weak<UpstreamMeters>>,
    access_policies: Vec<Weak<AccessMeters>>,
    limits: Vec<Weak<LimitMeters>>,
    stores: Vec<Weak<StoreMeters>>,
    backends: Vec<Weak<BackendState>>,
    /// The position: the family, whether its header is written, and the index of the next instrument.
    family: usize,
    begun: bool,
    next: usize,
}

impl Scrape {
    pub(super) fn new(instruments: &Arc<InstrumentSet>, process: &Process) -> Self {
        let mut own = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&process.collect(), &mut own) {
            tracing::error!("the metrics of the process cannot be written: {error}");
        }
        Self {
            instruments: Arc::clone(instruments),
            process: Some(own),
            routes: ordered(&instruments.routes, |route| Arc::clone(route.name())),
            listeners: ordered(&instruments.listeners, |listener| Arc::clone(listener.name())),
            certificates: ordered(&instruments.certificates, |certificate| Arc::clone(certificate.name())),
            upstreams: ordered(&instruments.upstreams, |upstream| Arc::clone(upstream.name())),
            access_policies: ordered(&instruments.access_policies, |policy| Arc::clone(policy.name())),
            limits: ordered(&instruments.limits, |limit| Arc::clone(limit.name())),
            stores: ordered(&instruments.stores, |store| Arc::clone(store.name())),
            backends: backends(&instruments.backends),
            family: 0,
            begun: false,
            next: 0,
        }
    }

    /// Appends series of the current family until the piece is full. Returns false if the family is complete.
    fn go_on(&mut self, shown: &'static FamilySpec, out: &mut String) -> bool {
        let Self { instruments, next, .. } = self;
        let mut series = SeriesWriter::new(&shown.family, out, &mut self.begun);
        match shown.of {
            FamilySource::Process(write) => {
                write(&mut series, instruments);
                false
            }
            FamilySource::Routes(write) => each(&self.routes, next, &mut series, write),
            FamilySource::Listeners(write) => each(&self.listeners, next, &mut series, write),
            FamilySource::Certificates(write) => each(&self.certificates, next, &mut series, write),
            FamilySource::Upstreams(write) => each(&self.upstreams, next, &mut series, write),
            FamilySource::AccessPolicies(write) => each(&self.access_policies, next, &mut series, write),
            FamilySource::Limits(write) => each(&self.limits, next, &mut series, write),
            FamilySource::Stores(write) => each(&self.stores, next, &mut series, write),
            FamilySource::Backends(write) => each(&self.backends, next, &mut series, |series, backend_state| {
                write(series, backend_state, &backend_state.labels())
            }),
        }
    }
}

impl Iterator for Scrape {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let mut out = self.process.take().unwrap_or_default();
        out.reserve(PIECE_BYTES + SLACK_BYTES);
        while out.len() < PIECE_BYTES {
            let Some(shown) = ALL.get(self.family) else { break };
            if !self.go_on(shown, &mut out) {
                (self.family, self.begun, self.next) = (self.family + 1, false, 0);
            }
        }
        (!out.is_empty()).then_some(out)
    }
}

/// Appends the series of the instruments from `next` on until the piece is full. Returns false after the last
/// instrument.
fn each<T>(
    all: &[Weak<T>],
    next: &mut usize,
    series: &mut SeriesWriter<'_>,
    write: impl Fn(&mut SeriesWriter<'_>, &T),
) -> bool {
    while let Some(meters) = all.get(*next) {
        if series.written() >= PIECE_BYTES {
            return true;
        }
        *next += 1;
        if let Some(meters) = meters.upgrade() {
            write(series, &meters);
        }
    }
    false
}

/// All instruments that a caller holds, sorted by name.
fn ordered<T>(registry: &KeyedRegistry<Arc<str>, T>, name: impl Fn(&T) -> Arc<str>) -> Vec<Weak<T>> {
    let mut referenced = registry.referenced();
    referenced.sort_by_cached_key(|meters| name(meters));
    referenced.iter().map(Arc::downgrade).collect()
}

/// All backends that are members of an upstream or have attempts in flight, sorted by labels.
fn backends(registry: &KeyedRegistry<(Arc<str>, Arc<str>), BackendState>) -> Vec<Weak<BackendState>> {
    let mut referenced = registry.referenced();
    referenced.retain(|backend_state| backend_state.is_member() || backend_state.in_flight() > 0);
    referenced.sort_by_cached_key(|backend_state| {
        let labels = backend_state.labels();
        let Labels { upstream, backend, address } = &*labels;
        (Arc::clone(upstream), Arc::clone(backend), Arc::clone(address))
    });
    referenced.iter().map(Arc::downgrade).collect()
}
