//! Tests of the ring buffers of the status page.

#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use crate::admin::activity::UpstreamActivity;

fn totals(requests: u64, errors: u64, bucket: usize) -> Totals {
    let mut latency = [0; LATENCY_BUCKETS];
    latency[bucket] = requests;
    Totals { requests, errors, latency }
}

fn fleet(count: u64, requests: impl Fn(u64) -> u64, troubled: impl Fn(u64) -> bool) -> Activity {
    let backend = |n| BackendActivity {
        address: format!("10.0.0.1:{n}"),
        troubled: troubled(n),
        totals: totals(requests(n), 0, 0),
        ..BackendActivity::default()
    };
    let backends = (0..count).map(backend).collect();
    Activity {
        upstreams: vec![UpstreamActivity { name: "u".into(), backends, ..UpstreamActivity::default() }],
        ..Activity::default()
    }
}

#[test]
fn the_last_minute_has_rate_error_ratio_and_percentiles() {
    let mut ring = SampleRing::default();
    assert_eq!(ring.last_minute(), None);
    for n in 0..=12 {
        ring.add(&totals(n * 100, n * 10, 3), 1);
    }
    let minute = ring.last_minute().unwrap();
    assert_eq!((minute.requests, minute.rate, minute.error_ratio), (1200, 20.0, Some(0.1)));
    // The bucket of 2.5 ms to 5 ms.
    let [p50, p90, p99] = minute.percentiles.unwrap();
    assert!((p50 - 3.75).abs() < 0.01 && (p90 - 4.75).abs() < 0.01 && p99 < 5.0, "{p50} {p90} {p99}");
}

#[test]
fn a_minute_without_requests_has_no_ratio_and_no_percentiles() {
    let mut ring = SampleRing::default();
    (0..3).for_each(|_| ring.add(&totals(7, 1, 0), 0));
    let minute = ring.last_minute().unwrap();
    assert_eq!((minute.rate, minute.error_ratio, minute.percentiles), (0.0, None, None));
}

#[test]
fn a_ring_has_180_samples_and_the_oldest_comes_first() {
    let mut ring = SampleRing::default();
    let mut sum = 0;
    for n in 0..=200_u64 {
        sum += 5 * n;
        ring.add(&totals(sum, 0, 0), 0);
    }
    let rates = ring.rates();
    assert_eq!((rates.len(), rates[0], rates[179]), (SAMPLES, 21.0, 200.0));
}

#[test]
fn samples_are_taken_once_in_five_seconds() {
    let mut history = History::default();
    let activity = fleet(1, |_| 1, |_| false);
    assert!(history.sample(&activity, 1_000) && !history.sample(&activity, 2_000) && history.sample(&activity, 6_000));
}

#[test]
fn the_history_of_a_backend_that_is_gone_is_dropped() {
    let mut history = History::default();
    history.sample(&fleet(2, |_| 1, |_| false), 1_000);
    assert_eq!(history.backends(), 2);
    history.sample(&fleet(1, |_| 1, |_| false), 6_000);
    assert_eq!(history.backends(), 1);
}

#[test]
fn beyond_the_memory_only_the_busiest_and_troubled_have_a_history() {
    let mut history = History::default();
    let count = MAX_ALL as u64 + 1;
    history.sample(&fleet(count, |_| 0, |n| n == 7), 1_000);
    assert!(history.is_partial());
    history.sample(&fleet(count, |n| if n >= 3_000 { n } else { 0 }, |n| n == 7), 6_000);
    assert_eq!(history.backends(), MAX_SELECTED);
    let has = |n: u64| history.backend("u", &format!("10.0.0.1:{n}")).is_some();
    assert!(has(7) && has(count - 1) && !has(8));
    history.sample(&fleet(3, |_| 0, |_| false), 11_000);
    assert!(!history.is_partial());
}
