//! The JSON types of `GET /api/v1/limits`, shared by the server, the status page and `weir status --limits`.

use serde::{Deserialize, Serialize};

/// The response of `GET /api/v1/limits`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsReply {
    /// By name.
    pub limits: Vec<LimitReply>,
}

/// A rate limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitReply {
    /// Its name.
    pub name: String,
    /// Its rate, such as `100/1m`. Null: it has none.
    pub rate: Option<String>,
    /// The tokens that a key may use at once.
    pub burst: u64,
    /// Maximum requests in flight for a key. 0: no limit.
    pub concurrent: u32,
    /// Whether it refuses requests.
    pub enforce: bool,
    /// The store of its buckets. Null: they are in memory.
    pub store: Option<String>,
    /// Number of buckets in memory. With a store: those that were used while it did not answer.
    pub buckets: u64,
    /// Number of keys with requests in flight.
    pub keys_in_flight: u64,
    /// Decisions: allowed.
    pub allowed: u64,
    /// Decisions: refused.
    pub limited: u64,
    /// Decisions that would have been refusals.
    pub would_limit: u64,
    /// The keys with the largest debt, at most 20.
    pub keys: Vec<LimitedKey>,
}

/// A key with a debt.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitedKey {
    /// An address, host or route in clear. Of a header field or a cookie: the first four characters and a keyed hash.
    pub key: String,
    /// Its debt in tokens.
    pub debt: u64,
    /// Its requests in flight, if the limit counts them.
    pub in_flight: u32,
}

impl LimitReply {
    /// The limit in a few words.
    pub fn summary(&self) -> String {
        let rate = self.rate.as_ref().map(|rate| format!("{rate}, burst {}", self.burst));
        let concurrent = (self.concurrent > 0).then(|| format!("{} in flight", self.concurrent));
        let store = self.store.as_ref().map(|store| format!("store {store}"));
        let enforce = (!self.enforce).then(|| "not enforced".to_owned());
        [rate, concurrent, store, enforce].into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}
