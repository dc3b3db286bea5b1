//! Resolves a backend's `name:port` in the background: the first address counts, the last good one stays through
//! failures, changes are logged.
//!
//! No request ever waits for a name.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::backend::Resolved;
use super::clock;
use super::health::prober::Changed;

/// From one look-up to the next.
const INTERVAL: Duration = Duration::from_secs(10);

/// The share of a wait by which it is varied.
const JITTER: f64 = 0.1;

/// Resolves one name for as long as it is configured.
pub struct Resolver {
    name: String,
    port: u16,
    resolved: Arc<Resolved>,
    changed: Changed,
    failures: u32,
}

impl Resolver {
    /// `changed` is called after the address has changed.
    pub fn new(name: &str, port: u16, resolved: Arc<Resolved>, changed: Changed) -> Self {
        Self { name: name.to_owned(), port, resolved, changed, failures: 0 }
    }

    /// Resolves for ever.
    pub async fn run(mut self) {
        loop {
            let answer = tokio::net::lookup_host((self.name.as_str(), self.port)).await;
            let first = answer.map(|mut addresses| addresses.next());
            let wait = self.take(first);
            tokio::time::sleep(wait.mul_f64(1.0 + JITTER * (2.0 * clock::random() - 1.0))).await;
        }
    }

    /// Takes an answer; how long to wait for the next.
    fn take(&mut self, answer: std::io::Result<Option<SocketAddr>>) -> Duration {
        let name = self.name.as_str();
        let failed = match answer {
            Ok(Some(address)) => {
                if let Some(before) = self.resolved.set(address) {
                    let before = before.map(|before| before.to_string());
                    tracing::info!(name, %address, before, "backend's name resolves to another address");
                    (self.changed)();
                } else if self.failures > 0 {
                    tracing::info!(name, %address, "backend's name resolves again");
                }
                self.failures = 0;
                return INTERVAL;
            }
            Ok(None) => "no address".to_owned(),
            Err(error) => error.to_string(),
        };
        if self.failures == 0 {
            tracing::warn!(name, error = failed, kept = self.resolved.is_known(), "backend's name does not resolve");
        }
        self.failures = self.failures.saturating_add(1);
        backoff(self.failures)
    }
}

/// 1 s, 2 s, 4 s, 8 s, then 10 s.
fn backoff(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.saturating_sub(1).min(4)).min(INTERVAL)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn resolver(name: &str) -> (Resolver, Arc<Resolved>, Arc<AtomicU32>) {
        let resolved = Arc::new(Resolved::new(&format!("{name}:80").parse().unwrap()));
        let changes = Arc::new(AtomicU32::new(0));
        let changed: Changed = Arc::new({
            let changes = Arc::clone(&changes);
            move || {
                changes.fetch_add(1, Ordering::Relaxed);
            }
        });
        (Resolver::new(name, 80, Arc::clone(&resolved), changed), resolved, changes)
    }

    #[test]
    fn the_last_good_address_stays_through_failures() {
        let (mut resolver, resolved, changes) = resolver("api.internal");
        let [one, two]: [SocketAddr; 2] = ["10.0.0.1:80".parse().unwrap(), "10.0.0.2:80".parse().unwrap()];
        let failure = || Err(std::io::Error::other("no answer"));
        let waits: Vec<_> = (0..6).map(|_| resolver.take(failure()).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
        assert!(!resolved.is_known());
        assert_eq!(resolver.take(Ok(Some(one))), INTERVAL);
        assert_eq!(resolver.take(Ok(None)).as_secs(), 1);
        assert_eq!(resolver.take(failure()).as_secs(), 2);
        assert_eq!(resolved.current().unwrap().to_string(), "10.0.0.1:80");
        resolver.take(Ok(Some(one)));
        assert_eq!(changes.load(Ordering::Relaxed), 1);
        resolver.take(Ok(Some(two)));
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
