//! All limits of a configuration. Their buckets are taken from the configuration before, where the settings are equal.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::limit::{Buckets, Limit};
use super::store::Store;
use crate::config::schema::Document;
use crate::config::values::Name;
use crate::telemetry::Metrics;

/// Maximum number of limits that are not configured any more and whose buckets are kept. A limit that comes back finds
/// its debts again.
const MAX_RETIRED: usize = 64;

/// All limits by name.
#[derive(Debug, Default)]
pub struct RateLimits {
    limits: BTreeMap<Name, Arc<Limit>>,
    stores: BTreeMap<Name, Arc<Store>>,
    /// The buckets of limits that were removed or changed, the latest last.
    retired: Vec<(Name, Arc<Buckets>)>,
}

impl RateLimits {
    /// Compiles the limits of a document. It changes nothing of `previous`. `file` returns the content of a file that
    /// the document names.
    ///
    /// # Errors
    /// The path of a store whose files cannot be used, and the problem.
    pub fn compile(
        document: &Document,
        file: &dyn Fn(&Path) -> Option<Vec<u8>>,
        previous: Option<&Self>,
        metrics: &Metrics,
    ) -> Result<Self, (String, String)> {
        let stores = stores(document, file, previous, metrics)?;
        let before = previous.map(Self::buckets).unwrap_or_default();
        let mut limits = BTreeMap::new();
        for (name, settings) in &document.rate_limits {
            let meters = metrics.limit(name.as_str());
            let known = before.iter().rev().find(|(known, buckets)| known == name && buckets.fit(settings));
            let buckets = match known {
                Some((_, buckets)) => Arc::clone(buckets),
                None => Arc::new(Buckets::new(settings, &meters)),
            };
            let store = settings.shared.as_ref().and_then(|shared| stores.get(&shared.store)).cloned();
            let limit = Limit::new(name.clone(), settings.clone(), buckets, store, meters);
            limits.insert(name.clone(), Arc::new(limit));
        }
        let in_use = |buckets: &Arc<Buckets>| limits.values().any(|limit| Arc::ptr_eq(limit.buckets(), buckets));
        let mut retired: Vec<_> =
            before.into_iter().filter(|(_, buckets)| !in_use(buckets) && !buckets.is_unused()).collect();
        retired.drain(..retired.len().saturating_sub(MAX_RETIRED));
        Ok(Self { limits, stores, retired })
    }

    /// The limit of this name.
    pub fn get(&self, name: &Name) -> Option<&Arc<Limit>> {
        self.limits.get(name)
    }

    /// All limits, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Limit>> {
        self.limits.values()
    }

    /// All buckets with the names of their limits; those in use last.
    fn buckets(&self) -> Vec<(Name, Arc<Buckets>)> {
        let live = self.limits.iter().map(|(name, limit)| (name.clone(), Arc::clone(limit.buckets())));
        self.retired.iter().cloned().chain(live).collect()
    }
}

/// The stores of a document. A store that has not changed keeps its connections.
fn stores(
    document: &Document,
    file: &dyn Fn(&Path) -> Option<Vec<u8>>,
    previous: Option<&RateLimits>,
    metrics: &Metrics,
) -> Result<BTreeMap<Name, Arc<Store>>, (String, String)> {
    let mut stores = BTreeMap::new();
    for (name, settings) in &document.stores {
        let known = previous.and_then(|previous| previous.stores.get(name));
        let store = match known.filter(|store| store.is_same(settings, file)) {
            Some(store) => Arc::clone(store),
            None => {
                let made = Store::new(name.clone(), settings, file, metrics.store(name.as_str()));
                Arc::new(made.map_err(|what| (format!("stores.{name}"), what))?)
            }
        };
        stores.insert(name.clone(), store);
    }
    Ok(stores)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::super::key::KeyValue;
    use super::*;

    const NOW: u64 = 1_000_000_000;

    fn compiled(limits: &str, before: Option<&RateLimits>, metrics: &Metrics) -> RateLimits {
        let document: Document = serde_yaml::from_str(&format!("rate_limits: {{ {limits} }}")).unwrap();
        RateLimits::compile(&document, &|_| None, before, metrics).unwrap()
    }

    fn admits(limits: &RateLimits, name: &str) -> bool {
        let limit = limits.get(&name.parse().unwrap()).unwrap();
        limit.admit(KeyValue::Host("a"), NOW).is_ok()
    }

    #[test]
    fn debts_survive_reloads_while_the_settings_of_the_buckets_are_equal() {
        let metrics = Metrics::new("1", "c");
        let compile = |yaml: &str, before: Option<&RateLimits>| compiled(yaml, before, &metrics);
        let first = compile("api: { rate: 1/1h, key: host }", None);
        assert!(admits(&first, "api") && !admits(&first, "api"));
        let same = compile("api: { rate: 1/1h, burst: 1, key: host, missing: reject, concurrent: 3 }", Some(&first));
        assert!(!admits(&same, "api"), "its buckets have the same meaning");
        let other = compile("api: { rate: 2/1h, key: host }, more: { rate: 1/1h, key: host }", Some(&same));
        assert!(admits(&other, "api") && admits(&other, "more"));
        let gone = compile("", Some(&other));
        let back = compile("api: { rate: 1/1h, key: host }, more: { rate: 1/1h, key: host }", Some(&gone));
        assert!(!admits(&back, "api") && !admits(&back, "more"), "removed and back again");
    }

    #[test]
    fn buckets_of_removed_limits_are_bounded_and_empty_ones_are_dropped() {
        let metrics = Metrics::new("1", "c");
        let mut limits = RateLimits::default();
        for round in 0..3 * MAX_RETIRED {
            limits = compiled(&format!("l{round}: {{ rate: 1/1h, key: host }}"), Some(&limits), &metrics);
            assert!(round % 2 == 0 || admits(&limits, &format!("l{round}")));
        }
        assert_eq!(limits.retired.len(), MAX_RETIRED);
        assert!(limits.retired.iter().all(|(name, _)| name.as_str()[1..].parse::<usize>().unwrap() % 2 == 1));
    }
}
