//! Rate limits and concurrency limits: buckets by key, in memory or in a store that several processes share.
//!
//! ```text
//! request → key (the value that a limit counts by) → limit ─┬→ concurrency: a guard, dropped with the request
//!                                                           ├→ table: buckets in memory, bounded (gcra: pure)
//!                                                           └→ store: the same buckets in Redis or Valkey
//! ```
//!
//! A bucket is identified by the name of its limit and by the key, never by the route. `proxy` finds the value of the
//! key and answers the client.

pub mod concurrency;
pub mod cost;
pub mod debts;
pub mod gcra;
pub mod key;
pub mod limit;
pub mod limits;
pub mod ratelimit_fields;
pub mod store;
pub mod table;

mod heap;

pub use debts::{BucketDebt, LimitDebts};
pub use key::{HashSecret, KeyHash, KeyLabel, KeyValue};
pub use limit::{Admission, Limit, LimitRefusal, TakenTokens};
pub use limits::RateLimits;
pub use store::{NoAnswer, StoreBucket};
