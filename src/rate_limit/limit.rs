//! A limit as a route uses it: its settings, its buckets and its meters.

use std::sync::Arc;
use std::time::Duration;

use super::concurrency::{ConcurrencyGuard, ConcurrencyTable};
use super::gcra::{Exceeded, Gcra};
use super::key::{KeyHash, KeyValue};
use super::ratelimit_fields as fields;
use super::store::{NoAnswer, Store, StoreBucket, StoreTaken};
use super::table::{BucketTable, Debtor, Taken};
use crate::config::schema::{LimitCost, LimitKey, RateLimitSettings, StoreFailure};
use crate::config::values::{LimitRate, Name};
use crate::telemetry::limit_meters::LimitMeters;

/// How long a client should wait that has too many requests in flight. Nothing is known about their end.
const CONCURRENCY_RETRY: Duration = Duration::from_secs(1);

/// A limit, compiled.
#[derive(Debug)]
pub struct Limit {
    name: Name,
    settings: RateLimitSettings,
    buckets: Arc<Buckets>,
    /// The store of the buckets; `None`: they are in memory.
    store: Option<Arc<Store>>,
    meters: Arc<LimitMeters>,
}

/// The state of a limit. It survives a reload if the settings in `shape` stay equal.
#[derive(Debug)]
pub(super) struct Buckets {
    shape: BucketShape,
    table: Option<BucketTable>,
    concurrency: Arc<ConcurrencyTable>,
}

/// The settings that give the buckets their meaning.
#[derive(Debug, Clone, PartialEq)]
struct BucketShape {
    rate: Option<LimitRate>,
    burst: u64,
    key: LimitKey,
    ipv6_prefix: u8,
    keys: usize,
}

/// What a request holds after a limit has admitted it.
#[derive(Debug, Default)]
pub struct Admission {
    /// Counts the request as in flight.
    pub guard: Option<ConcurrencyGuard>,
    /// The tokens that it has taken.
    pub taken: Option<TakenTokens>,
}

/// Tokens that a request has taken, to be settled at its end.
#[derive(Debug, Clone)]
pub enum TakenTokens {
    /// From a bucket in memory.
    Memory(Taken),
    /// From a bucket in a store.
    Store(StoreTaken),
}

impl TakenTokens {
    /// Their number.
    pub fn number(&self) -> u64 {
        match self {
            Self::Memory(taken) => taken.tokens,
            Self::Store(taken) => taken.tokens(),
        }
    }
}

/// A refusal, with the values of the response's header fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitRefusal {
    /// Retry-After, in seconds.
    pub retry_after: u64,
    /// RateLimit-Policy.
    pub policy: String,
    /// RateLimit.
    pub state: String,
}

impl BucketShape {
    fn of(settings: &RateLimitSettings) -> Self {
        Self {
            rate: settings.rate,
            burst: settings.burst(),
            key: settings.key.clone(),
            ipv6_prefix: settings.ipv6_prefix,
            keys: settings.keys,
        }
    }
}

impl Buckets {
    /// Whether these settings give the buckets the same meaning.
    pub(super) fn fit(&self, settings: &RateLimitSettings) -> bool {
        self.shape == BucketShape::of(settings)
    }

    pub(super) fn new(settings: &RateLimitSettings, meters: &LimitMeters) -> Self {
        let shape = BucketShape::of(settings);
        let table = shape.rate.map(|rate| {
            let gcra = Gcra::new(rate.tokens(), rate.period(), shape.burst);
            BucketTable::new(gcra, shape.keys, meters.keys_gauge())
        });
        Self { shape, table, concurrency: Arc::default() }
    }

    /// Whether there is nothing to remember.
    pub(super) fn is_unused(&self) -> bool {
        self.table.as_ref().is_none_or(BucketTable::is_empty) && self.concurrency.keys() == 0
    }
}

impl Limit {
    pub(super) fn new(
        name: Name,
        settings: RateLimitSettings,
        buckets: Arc<Buckets>,
        store: Option<Arc<Store>>,
        meters: Arc<LimitMeters>,
    ) -> Self {
        Self { name, settings, buckets, store, meters }
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Its settings.
    pub fn settings(&self) -> &RateLimitSettings {
        &self.settings
    }

    /// Its meters.
    pub fn meters(&self) -> &Arc<LimitMeters> {
        &self.meters
    }

    /// Whether the cost of a request is known only at its end.
    pub fn has_response_cost(&self) -> bool {
        !matches!(self.settings.cost, LimitCost::Fixed(_))
    }

    pub(super) fn buckets(&self) -> &Arc<Buckets> {
        &self.buckets
    }

    /// The buckets in memory. `None`: the limit has no rate, or a store.
    pub(super) fn table(&self) -> Option<&BucketTable> {
        self.buckets.table.as_ref().filter(|_| self.store.is_none())
    }

    /// The settings that give the buckets their meaning, as text.
    pub(super) fn shape(&self) -> String {
        format!("{:?}", self.buckets.shape)
    }

    /// Admits a request with this key, or refuses it. A refused request takes nothing. It never asks a store.
    ///
    /// # Errors
    /// The refusal.
    pub fn admit(&self, key: KeyValue<'_>, now_ns: u64) -> Result<Admission, LimitRefusal> {
        let hash = key.hash();
        let guard = self.enter(hash)?;
        let taken = match &self.buckets.table {
            Some(table) => {
                let taken = table.take(hash, || key.label(), self.settings.reserve(), now_ns);
                Some(TakenTokens::Memory(taken.map_err(|Exceeded(wait)| self.refusal(wait))?))
            }
            None => None,
        };
        Ok(Admission { guard, taken })
    }

    /// Whether the buckets are in a store.
    pub fn is_shared(&self) -> bool {
        self.store.is_some()
    }

    /// The decision while the store does not answer.
    pub fn on_failure(&self) -> StoreFailure {
        self.settings.shared.as_ref().map(|shared| shared.on_failure).unwrap_or_default()
    }

    /// The first half of an admission by the store: the place of a request in flight, and the bucket to ask. `None`: the
    /// limit has no store.
    ///
    /// # Errors
    /// Too many requests are in flight.
    pub fn prepare(&self, key: KeyValue<'_>) -> Result<Option<(Option<ConcurrencyGuard>, StoreBucket)>, LimitRefusal> {
        let (Some(store), Some(rate)) = (&self.store, self.settings.rate) else { return Ok(None) };
        let guard = self.enter(key.hash())?;
        Ok(Some((guard, store.bucket(&self.name, key, rate, self.settings.burst()))))
    }

    /// The second half: asks the store. It may be dropped at any time.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn ask(&self, bucket: StoreBucket, now_ns: u64) -> Result<Result<TakenTokens, LimitRefusal>, NoAnswer> {
        let answer = bucket.take(self.settings.reserve(), now_ns).await?;
        Ok(answer.map(TakenTokens::Store).map_err(|wait| self.refusal(wait)))
    }

    /// Counts the request as in flight.
    fn enter(&self, key: KeyHash) -> Result<Option<ConcurrencyGuard>, LimitRefusal> {
        match self.settings.concurrent {
            0 => Ok(None),
            most => match self.buckets.concurrency.enter(key, most) {
                Some(guard) => Ok(Some(guard)),
                None => Err(self.concurrency_refusal()),
            },
        }
    }

    /// Replaces the tokens that a request has taken by those that it has used.
    pub fn settle(&self, taken: TakenTokens, used: u64, now_ns: u64) {
        match (taken, &self.buckets.table) {
            (TakenTokens::Memory(taken), Some(table)) => table.settle(taken, used, now_ns),
            (TakenTokens::Memory(_), None) => {}
            (TakenTokens::Store(taken), _) => taken.settle(used, now_ns),
        }
    }

    /// The refusal that a request with this key would get now. Nothing is taken.
    pub fn preview(&self, key: KeyValue<'_>, now_ns: u64) -> Preview {
        let hash = key.hash();
        let in_flight = self.buckets.concurrency.in_flight(hash);
        let full = self.settings.concurrent > 0 && in_flight >= self.settings.concurrent;
        let mut refusal = full.then(|| self.concurrency_refusal());
        let remaining = self.buckets.table.as_ref().map(|table| {
            let tat = table.state(hash);
            if let Err(Exceeded(wait)) = table.gcra().admit(tat, now_ns, self.settings.reserve()) {
                refusal.get_or_insert_with(|| self.refusal(wait));
            }
            table.gcra().remaining(tat, now_ns)
        });
        Preview { key: key.label().text(hash, self.settings.ipv6_prefix), remaining, in_flight, refusal }
    }

    /// The keys with the largest debt.
    pub fn debtors(&self, count: usize, now_ns: u64) -> Vec<Debtor> {
        self.buckets.table.as_ref().map(|table| table.largest(count, now_ns)).unwrap_or_default()
    }

    /// The requests of a key in flight.
    pub fn in_flight(&self, key: KeyHash) -> u32 {
        self.buckets.concurrency.in_flight(key)
    }

    /// Number of buckets in memory.
    pub fn buckets_in_memory(&self) -> u64 {
        self.buckets.table.as_ref().map_or(0, |table| table.len() as u64)
    }

    /// Number of keys with requests in flight.
    pub fn keys_in_flight(&self) -> usize {
        self.buckets.concurrency.keys()
    }

    fn refusal(&self, wait: Duration) -> LimitRefusal {
        let policy = self.settings.rate.map(|rate| fields::policy(self.name.as_str(), rate)).unwrap_or_default();
        self.refused(policy, wait)
    }

    fn concurrency_refusal(&self) -> LimitRefusal {
        let policy = fields::concurrency_policy(self.name.as_str(), self.settings.concurrent);
        self.refused(policy, CONCURRENCY_RETRY)
    }

    fn refused(&self, policy: String, wait: Duration) -> LimitRefusal {
        let state = fields::state(self.name.as_str(), 0, wait);
        LimitRefusal { retry_after: fields::whole_seconds(wait), policy, state }
    }
}

/// What a limit would decide about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// The key in text form.
    pub key: String,
    /// The tokens that are left; `None` without a rate.
    pub remaining: Option<u64>,
    /// The requests in flight with this key.
    pub in_flight: u32,
    /// The refusal, if there would be one.
    pub refusal: Option<LimitRefusal>,
}
