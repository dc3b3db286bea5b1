//! History of the status page: ring buffers of samples, from which rates, error ratios and percentiles are made.
//!
//! Pure: `now_ms` is an argument. A sample has the differences to the sample before. The memory has a bound: beyond it,
//! only the busiest and the troubled backends have a history.

use std::collections::HashMap;

use super::activity::{Activity, BackendActivity, Totals};
use crate::instruments::LATENCY_BUCKETS;

/// Time between two samples.
pub const SAMPLE_MS: u64 = 5_000;

/// Samples of a series: fifteen minutes.
pub const SAMPLES: usize = 180;

/// Samples of the last minute.
const MINUTE: usize = 12;

/// Maximum memory of all samples of backends.
const MAX_BYTES: usize = 64 << 20;

/// Number of backends that have a history, if the memory is not enough for all.
pub const MAX_SELECTED: usize = 1_000;

/// Number of backends whose history fits.
pub const MAX_ALL: usize = MAX_BYTES / (SAMPLES * size_of::<Sample>());

/// What happened between two samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sample {
    requests: u32,
    errors: u32,
    in_flight: u32,
    latency: [u32; LATENCY_BUCKETS],
}

// The bound of the memory of one sample.
const _: () = assert!(size_of::<Sample>() <= 256);

/// The samples of one backend or route.
#[derive(Debug, Clone, Default)]
pub struct SampleRing {
    before: Option<Totals>,
    /// Grows up to `SAMPLES`; then `next` is the oldest.
    samples: Vec<Sample>,
    next: usize,
}

impl SampleRing {
    /// Adds the difference to the totals before. The first call only remembers the totals.
    pub fn add(&mut self, totals: &Totals, in_flight: u32) {
        let Some(before) = self.before.replace(*totals) else { return };
        let difference = |now: u64, before: u64| u32::try_from(now.saturating_sub(before)).unwrap_or(u32::MAX);
        let latency = std::array::from_fn(|at| difference(totals.latency[at], before.latency[at]));
        let (requests, errors) =
            (difference(totals.requests, before.requests), difference(totals.errors, before.errors));
        let sample = Sample { requests, errors, in_flight, latency };
        if self.samples.len() < SAMPLES {
            self.samples.push(sample);
        } else {
            self.samples[self.next] = sample;
            self.next = (self.next + 1) % SAMPLES;
        }
    }

    /// The samples, oldest first.
    fn ordered(&self) -> impl DoubleEndedIterator<Item = &Sample> {
        let (newer, older) = self.samples.split_at(self.next);
        older.iter().chain(newer)
    }

    /// Requests per second in each sample, oldest first.
    pub fn rates(&self) -> Vec<f64> {
        self.ordered().map(|sample| f64::from(sample.requests) * 1000.0 / SAMPLE_MS as f64).collect()
    }

    /// The summary of the last minute. `None` before the first sample.
    pub fn last_minute(&self) -> Option<MinuteSummary> {
        if self.samples.is_empty() {
            return None;
        }
        let (mut all, mut count) = (Totals::default(), 0_u64);
        for sample in self.ordered().rev().take(MINUTE) {
            count += 1;
            all.requests += u64::from(sample.requests);
            all.errors += u64::from(sample.errors);
            all.latency.iter_mut().zip(sample.latency).for_each(|(sum, n)| *sum += u64::from(n));
        }
        let seconds = (count * SAMPLE_MS) as f64 / 1000.0;
        Some(MinuteSummary {
            requests: all.requests,
            rate: all.requests as f64 / seconds,
            error_ratio: (all.requests > 0).then(|| (all.errors as f64 / all.requests as f64).min(1.0)),
            percentiles: percentiles(&all.latency),
        })
    }
}

/// The last minute of a backend or route.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MinuteSummary {
    /// Requests that ended.
    pub requests: u64,
    /// Requests per second.
    pub rate: f64,
    /// The part of them that failed, 0 to 1. `None` without requests.
    pub error_ratio: Option<f64>,
    /// p50, p90 and p99 of the time to the response header, in milliseconds. `None` without responses.
    pub percentiles: Option<[f64; 3]>,
}

/// Percentiles of a histogram, interpolated inside a bucket.
fn percentiles(latency: &[u64; LATENCY_BUCKETS]) -> Option<[f64; 3]> {
    let count: u64 = latency.iter().sum();
    (count > 0).then(|| [0.5, 0.9, 0.99].map(|part| quantile(latency, part * count as f64)))
}

fn quantile(latency: &[u64; LATENCY_BUCKETS], rank: f64) -> f64 {
    let bounds = crate::instruments::latency_bounds_ms();
    let mut below = 0.0;
    for (at, n) in latency.iter().enumerate() {
        let n = *n as f64;
        if n > 0.0 && below + n >= rank {
            let lower = at.checked_sub(1).map_or(0.0, |at| bounds[at]);
            let upper = bounds.get(at).copied().unwrap_or(lower);
            return lower + (upper - lower) * ((rank - below) / n).clamp(0.0, 1.0);
        }
        below += n;
    }
    bounds.last().copied().unwrap_or_default()
}

/// The samples of all routes and backends.
#[derive(Debug, Default)]
pub struct History {
    routes: HashMap<String, SampleRing>,
    backends: HashMap<(String, String), SampleRing>,
    /// The attempts of each backend at the sample before, to find the busiest.
    before: HashMap<(String, String), u64>,
    taken_ms: Option<u64>,
    partial: bool,
}

impl History {
    /// Takes a sample, if one is due. Series of what no longer exists are dropped.
    pub fn sample(&mut self, activity: &Activity, now_ms: u64) -> bool {
        // A sample that is late by less than half a period counts as on time.
        if self.taken_ms.is_some_and(|taken| now_ms.saturating_sub(taken) < SAMPLE_MS / 2) {
            return false;
        }
        self.taken_ms = Some(now_ms);
        let mut routes = std::mem::take(&mut self.routes);
        for route in &activity.routes {
            let mut ring = routes.remove(&route.name).unwrap_or_default();
            ring.add(&route.totals, 0);
            self.routes.insert(route.name.clone(), ring);
        }
        self.sample_backends(activity);
        true
    }

    fn sample_backends(&mut self, activity: &Activity) {
        let mut backends: Vec<_> = activity
            .upstreams
            .iter()
            .flat_map(|upstream| upstream.backends.iter().map(move |backend| (key(&upstream.name, backend), backend)))
            .collect();
        self.partial = backends.len() > MAX_ALL;
        if self.partial {
            let busy = |key: &(String, String), backend: &BackendActivity| {
                backend.totals.requests.saturating_sub(self.before.get(key).copied().unwrap_or(0))
            };
            backends.sort_by_cached_key(|(key, backend)| {
                std::cmp::Reverse((backend.troubled, busy(key, backend), self.backends.contains_key(key)))
            });
        }
        self.before = if self.partial {
            backends.iter().map(|(key, backend)| (key.clone(), backend.totals.requests)).collect()
        } else {
            HashMap::new()
        };
        if self.partial {
            backends.truncate(MAX_SELECTED);
        }
        let mut rings = std::mem::take(&mut self.backends);
        for (key, backend) in backends {
            let mut ring = rings.remove(&key).unwrap_or_default();
            ring.add(&backend.totals, backend.in_flight);
            self.backends.insert(key, ring);
        }
    }

    /// The series of a route.
    pub fn route(&self, name: &str) -> Option<&SampleRing> {
        self.routes.get(name)
    }

    /// The series of a backend.
    pub fn backend(&self, upstream: &str, address: &str) -> Option<&SampleRing> {
        self.backends.get(&(upstream.to_owned(), address.to_owned()))
    }

    /// Whether only the busiest and the troubled backends have a history.
    pub fn is_partial(&self) -> bool {
        self.partial
    }

    /// Number of backends that have a history.
    pub fn backends(&self) -> usize {
        self.backends.len()
    }
}

fn key(upstream: &str, backend: &BackendActivity) -> (String, String) {
    (upstream.to_owned(), backend.address.clone())
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
