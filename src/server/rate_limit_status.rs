//! The rate limits for the admin API: their decisions, and the keys with the largest debt.

use crate::admin::api_limits::{LimitReply, LimitedKey, LimitsReply};
use crate::clock;
use crate::rate_limit::Limit;
use crate::snapshot::Snapshot;
use crate::telemetry::limit_meters::LimitResult;

/// Keys that are shown for each limit.
const SHOWN_KEYS: usize = 20;

/// All limits of the configuration.
pub(super) fn limits(snapshot: &Snapshot) -> LimitsReply {
    LimitsReply { limits: snapshot.rate_limits.iter().map(|limit| reply(limit)).collect() }
}

fn reply(limit: &Limit) -> LimitReply {
    let (settings, meters) = (limit.settings(), limit.meters());
    let debtors = limit.debtors(SHOWN_KEYS, clock::now_ns());
    let keys = debtors.into_iter().map(|debtor| LimitedKey {
        key: debtor.label.text(debtor.key, settings.ipv6_prefix),
        debt: debtor.debt,
        in_flight: limit.in_flight(debtor.key),
    });
    LimitReply {
        name: limit.name().to_string(),
        rate: settings.rate.map(|rate| rate.to_string()),
        burst: settings.burst(),
        concurrent: settings.concurrent,
        enforce: settings.enforce,
        store: settings.shared.as_ref().map(|shared| shared.store.to_string()),
        buckets: limit.buckets_in_memory(),
        keys_in_flight: limit.keys_in_flight() as u64,
        allowed: meters.total(LimitResult::Allowed),
        limited: meters.total(LimitResult::Limited),
        would_limit: meters.total(LimitResult::WouldLimit),
        keys: keys.collect(),
    }
}
