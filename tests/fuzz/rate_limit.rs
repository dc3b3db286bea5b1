//! The table of rate limits against exact buckets in a map, and its bound.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use weir::rate_limit::KeyValue;
use weir::rate_limit::gcra::Gcra;
use weir::rate_limit::table::BucketTable;

use crate::Numbers;

const NANOS: u128 = 1_000_000_000;

/// A bucket that counts its level in tokens times the period, without rounding.
struct Bucket {
    level: u128,
    at_ns: u128,
}

/// A rate of tokens per second with a burst, by the definition of a token bucket.
struct Exact {
    tokens: u128,
    burst: u128,
    buckets: HashMap<u8, Bucket>,
}

impl Exact {
    fn take(&mut self, key: u8, cost: u128, now_ns: u128) -> bool {
        let full = self.burst * NANOS;
        let bucket = self.buckets.entry(key).or_insert(Bucket { level: full, at_ns: now_ns });
        bucket.level = (bucket.level + (now_ns - bucket.at_ns) * self.tokens).min(full);
        bucket.at_ns = now_ns;
        let is_admitted = bucket.level >= cost * NANOS;
        if is_admitted {
            bucket.level -= cost * NANOS;
        }
        is_admitted
    }
}

fn check(bytes: &[u8]) {
    let mut input = Numbers(bytes);
    let (tokens, burst) = (1 + input.below(1_000), 1 + input.below(50));
    let gcra = Gcra::new(tokens, Duration::from_secs(1), burst);
    let large = BucketTable::new(gcra, 10_000, Arc::default());
    let capacity = 1 + usize::from(input.byte() % 8);
    let small = BucketTable::new(gcra, capacity, Arc::default());
    let mut exact = Exact { tokens: tokens.into(), burst: burst.into(), buckets: HashMap::new() };
    let mut now_ns: u64 = 1_000_000_000;
    while !input.is_empty() {
        now_ns += input.below(60_000) * 10_000;
        let (number, cost) = (input.byte(), input.below(8));
        let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, number));
        let key = KeyValue::Address(address);
        let taken = large.take(key.hash(), || key.label(), cost, now_ns);
        assert_eq!(
            taken.is_ok(),
            exact.take(number, cost.into(), now_ns.into()),
            "key {number} cost {cost} at {now_ns}"
        );
        if let Ok(taken) = small.take(key.hash(), || key.label(), cost, now_ns) {
            // A response may cost more or less than was taken.
            small.settle(taken, input.below(20), now_ns);
        }
        assert!(small.len() <= capacity, "{} of {capacity}", small.len());
        assert!(small.largest(usize::MAX, now_ns).len() <= capacity);
    }
}

crate::fuzz_target!(rate_limit, &[], check);
