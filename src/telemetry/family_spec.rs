//! The form of a metric family: its header, the source of its series, and the labels of backends.
//!
//! It never names a family: `families` does.

use super::access_meters::AccessMeters;
use super::instrument_set::InstrumentSet;
use super::limit_meters::{LimitMeters, StoreMeters};
use super::meters::{CertificateMeters, ListenerMeters, RouteMeters, UpstreamMeters};
use super::text_format::{FamilyHeader, MetricType, SeriesWriter};
use crate::backend::labels::RetryReason;
use crate::backend::{BackendState, Labels};
use crate::fault::Fault;

/// A family and the source of its series.
pub(super) struct FamilySpec {
    pub(super) family: FamilyHeader,
    pub(super) of: FamilySource,
}

/// Writes the series of one instrument set in a family.
pub(super) type Write<T> = fn(&mut SeriesWriter<'_>, &T);

/// The instruments that have series in a family.
pub(super) enum FamilySource {
    /// One for the process.
    Process(Write<InstrumentSet>),
    /// One per route.
    Routes(Write<RouteMeters>),
    /// One per listener.
    Listeners(Write<ListenerMeters>),
    /// One per certificate.
    Certificates(Write<CertificateMeters>),
    /// One per upstream.
    Upstreams(Write<UpstreamMeters>),
    /// One per rate limit.
    Limits(Write<LimitMeters>),
    /// One per access policy.
    AccessPolicies(Write<AccessMeters>),
    /// One per store.
    Stores(Write<StoreMeters>),
    /// One per backend.
    Backends(fn(&mut SeriesWriter<'_>, &BackendState, &Labels)),
}

pub(super) const UPSTREAM: &str = "upstream";
pub(super) const BACKEND: &str = "backend";
pub(super) const ADDRESS: &str = "address";

pub(super) const fn counter(
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    of: FamilySource,
) -> FamilySpec {
    FamilySpec { family: FamilyHeader { name, kind: MetricType::Counter, help, labels }, of }
}

pub(super) const fn gauge(
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    of: FamilySource,
) -> FamilySpec {
    FamilySpec { family: FamilyHeader { name, kind: MetricType::Gauge, help, labels }, of }
}

pub(super) const fn histogram(
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    of: FamilySource,
) -> FamilySpec {
    FamilySpec { family: FamilyHeader { name, kind: MetricType::Histogram, help, labels }, of }
}

pub(super) fn retries(series: &mut SeriesWriter<'_>, backend_state: &BackendState, labels: &Labels) {
    let meters = backend_state.meters();
    for (fault, n) in Fault::ALL.into_iter().zip(&meters.retries_by_fault).filter(|(_, n)| n.get() > 0) {
        series.add(&with(labels, &RetryReason::Fault(fault).to_string()), n.get());
    }
    for (status, n) in meters.retries_by_status.seen() {
        series.add(&with(labels, &RetryReason::Status(status).to_string()), n);
    }
}

pub(super) fn plain(labels: &Labels) -> [&str; 3] {
    [&labels.upstream, &labels.backend, &labels.address]
}

pub(super) fn with<'a>(labels: &'a Labels, more: &'a str) -> [&'a str; 4] {
    [&labels.upstream, &labels.backend, &labels.address, more]
}
