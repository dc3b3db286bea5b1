//! The background DNS resolver of a backend with a `name:port` address.
//!
//! A request never waits for a name. The resolver takes all addresses, and keeps the last good ones when a look-up
//! fails. It logs changes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::pool::addresses::Addresses;
use crate::pool::backend_addr::BackendAddr;
use crate::pool::lookup::Lookup;

/// Called after the addresses of a name have changed.
pub type OnChange = Arc<dyn Fn() + Send + Sync>;

/// Time between two look-ups.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(10);

/// Jitter of the wait, as a fraction of it (plus or minus).
const JITTER_RATIO: f64 = 0.1;

/// Resolves one name for as long as it is configured.
pub struct Resolver {
    upstream: Arc<str>,
    backend: Arc<str>,
    lookup: Lookup,
    addr: Arc<BackendAddr>,
    changed: OnChange,
    failures: u32,
}

impl Resolver {
    /// `of`: the upstream and the backend, for the log. `changed` is called after the addresses have changed.
    pub fn new(of: (Arc<str>, Arc<str>), (name, port): (&str, u16), addr: Arc<BackendAddr>, changed: OnChange) -> Self {
        let (upstream, backend) = of;
        Self { upstream, backend, lookup: Lookup::new(name, port), addr, changed, failures: 0 }
    }

    /// Resolves the name again and again. Never returns.
    pub async fn run(mut self) {
        loop {
            let answer = self.lookup.lookup().await;
            let wait = self.take(answer);
            tokio::time::sleep(wait.mul_f64(1.0 + JITTER_RATIO * (2.0 * fastrand::f64() - 1.0))).await;
        }
    }

    /// Processes a look-up result and returns the wait before the next look-up.
    fn take(&mut self, answer: std::io::Result<Vec<SocketAddr>>) -> Duration {
        let (upstream, backend, name) = (&*self.upstream, &*self.backend, self.lookup.name());
        let failed = match answer {
            Ok(list) if list.is_empty() => "no address".to_owned(),
            Ok(list) => match Addresses::new(list.iter().copied()) {
                Some(addresses) => {
                    let text = addresses.to_string();
                    if let Some(before) = self.addr.set(addresses) {
                        let before = before.map(|before| before.to_string());
                        tracing::info!(
                            upstream,
                            backend,
                            name,
                            addresses = text,
                            before,
                            "backend's name resolves to other addresses"
                        );
                        (self.changed)();
                    } else if self.failures > 0 {
                        tracing::info!(upstream, backend, name, addresses = text, "backend's name resolves again");
                    }
                    self.addr.set_lookup_error(None);
                    self.failures = 0;
                    return LOOKUP_INTERVAL;
                }
                None => format!("no address that a host can have, only such as {}", list[0].ip()),
            },
            Err(error) => error.to_string(),
        };
        if self.failures == 0 {
            let kept = self.addr.is_known();
            tracing::warn!(upstream, backend, name, error = %failed, kept, "backend's name does not resolve");
        }
        self.addr.set_lookup_error(Some(failed));
        self.failures = self.failures.saturating_add(1);
        backoff(self.failures)
    }
}

/// The wait after failed look-ups in a row: 1 s, 2 s, 4 s, 8 s, then 10 s.
fn backoff(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.saturating_sub(1).min(4)).min(LOOKUP_INTERVAL)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn resolver(name: &str) -> (Resolver, Arc<BackendAddr>, Arc<AtomicU32>) {
        let resolved = Arc::new(BackendAddr::new(&format!("{name}:80").parse().unwrap()));
        let changes = Arc::new(AtomicU32::new(0));
        let changed: OnChange = Arc::new({
            let changes = Arc::clone(&changes);
            move || {
                changes.fetch_add(1, Ordering::Relaxed);
            }
        });
        let of = ("u".into(), "a".into());
        (Resolver::new(of, (name, 80), Arc::clone(&resolved), changed), resolved, changes)
    }

    #[test]
    fn the_last_good_address_stays_through_failures() {
        let (mut resolver, resolved, changes) = resolver("api.internal");
        let [one, two]: [SocketAddr; 2] = ["10.0.0.1:80".parse().unwrap(), "10.0.0.2:80".parse().unwrap()];
        let failure = || Err(std::io::Error::other("no answer"));
        let waits: Vec<_> = (0..6).map(|_| resolver.take(failure()).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
        assert!(!resolved.is_known());
        assert_eq!(resolver.take(Ok(vec![one])), LOOKUP_INTERVAL);
        assert_eq!(resolver.take(Ok(Vec::new())).as_secs(), 1);
        assert_eq!(resolver.take(failure()).as_secs(), 2);
        assert_eq!(resolver.take(Ok(vec!["0.0.0.0:80".parse().unwrap()])).as_secs(), 4, "no host's address");
        assert_eq!(resolved.current().unwrap().to_string(), "10.0.0.1:80");
        resolver.take(Ok(vec![one]));
        assert_eq!(changes.load(Ordering::Relaxed), 1);
        resolver.take(Ok(vec![two]));
        assert_eq!(
            (changes.load(Ordering::Relaxed), resolved.current().unwrap().to_string().as_str()),
            (2, "10.0.0.2:80")
        );
    }

    #[tokio::test]
    async fn a_real_name_resolves() {
        let (resolver, resolved, _) = resolver("localhost");
        let task = tokio::spawn(resolver.run());
        let address = tokio::time::timeout(Duration::from_secs(5), resolved.known()).await.unwrap();
        assert!(address.to_string().ends_with(":80"));
        task.abort();
    }
}
