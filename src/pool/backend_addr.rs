//! The current address of a backend: fixed, or what its name resolves to now.
//!
//! It never resolves a name: `resolver` sets the addresses. Its generation number changes whenever an address
//! disappears. So the pool recognizes idle connections to addresses that are no longer valid.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};

use arc_swap::ArcSwapOption;
use pingora_core::protocols::l4::socket::SocketAddr as PeerAddress;
use tokio::sync::Notify;

use super::addresses::{Addresses, Destination};
use crate::config::values::BackendAddress;

/// The current address or addresses of a backend.
#[derive(Debug)]
pub struct BackendAddr {
    source: AddressSource,
    generation: AtomicU64,
    /// Why the last look-up of the name failed; nothing after one that succeeded.
    lookup_error: ArcSwapOption<String>,
}

/// The current generation of each existing `BackendAddr`.
static IN_USE: Mutex<BTreeSet<u64>> = Mutex::new(BTreeSet::new());

fn in_use() -> MutexGuard<'static, BTreeSet<u64>> {
    IN_USE.lock()
}

/// Whether this generation is current. Idle connections of any other generation are useless.
pub(super) fn is_in_use(generation: u64) -> bool {
    in_use().contains(&generation)
}

/// A generation is unique in the process: two backends never share one, and it is never used again.
fn new_generation() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let generation = NEXT.fetch_add(1, Ordering::Relaxed);
    in_use().insert(generation);
    generation
}

impl Drop for BackendAddr {
    fn drop(&mut self) {
        in_use().remove(self.generation.get_mut());
    }
}

#[derive(Debug)]
enum AddressSource {
    Fixed(PeerAddress),
    /// A path that the operating system does not accept as a Unix socket path.
    Impossible,
    Dns {
        current: ArcSwapOption<Addresses>,
        changed: Notify,
    },
}

impl BackendAddr {
    /// A fixed address is known at once. A host name has no address until `set` is called.
    pub fn new(address: &BackendAddress) -> Self {
        let source = match address {
            BackendAddress::Socket(socket) => AddressSource::Fixed(PeerAddress::Inet(*socket)),
            BackendAddress::Unix(path) => std::os::unix::net::SocketAddr::from_pathname(path)
                .map_or(AddressSource::Impossible, |unix| AddressSource::Fixed(PeerAddress::Unix(unix))),
            BackendAddress::Dns(..) => AddressSource::Dns { current: ArcSwapOption::empty(), changed: Notify::new() },
        };
        Self { source, generation: AtomicU64::new(new_generation()), lookup_error: ArcSwapOption::empty() }
    }

    /// The generation of the addresses, which is part of the pool key. It changes whenever an address disappears.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The destination to connect to. `None` while a host name is unresolved.
    pub fn current(&self) -> Option<Destination> {
        match &self.source {
            AddressSource::Fixed(address) => Some(Destination::One(address.clone())),
            AddressSource::Impossible => None,
            AddressSource::Dns { current, .. } => current.load_full().map(Destination::Any),
        }
    }

    /// The addresses of a host name. `None` for a fixed address and for an unresolved name.
    pub fn addresses(&self) -> Option<Arc<Addresses>> {
        match &self.source {
            AddressSource::Dns { current, .. } => current.load_full(),
            AddressSource::Fixed(_) | AddressSource::Impossible => None,
        }
    }

    /// Why the last look-up of the name failed; nothing after one that succeeded.
    pub fn lookup_error(&self) -> Option<Arc<String>> {
        self.lookup_error.load_full()
    }

    /// Sets how the last look-up of the name ended.
    pub fn set_lookup_error(&self, error: Option<String>) {
        self.lookup_error.store(error.map(Arc::new));
    }

    /// Whether there is an address to connect to.
    pub fn is_known(&self) -> bool {
        match &self.source {
            AddressSource::Fixed(_) => true,
            AddressSource::Impossible => false,
            AddressSource::Dns { current, .. } => current.load().is_some(),
        }
    }

    /// Sets the addresses of a host name. Returns the previous addresses if they differ, `None` if nothing changes. A
    /// fixed address never changes. If no address disappears, pooled connections stay valid. Otherwise all become
    /// invalid, because the pool does not know which connection uses which address.
    pub fn set(&self, addresses: impl Into<Addresses>) -> Option<Option<Arc<Addresses>>> {
        let AddressSource::Dns { current, changed } = &self.source else { return None };
        let (before, addresses) = (current.load_full(), addresses.into());
        if before.as_ref().is_some_and(|before| before.same_as(&addresses)) {
            return None;
        }
        if let Some(good) = before.as_ref().and_then(|before| before.in_order().next()) {
            addresses.set_good(good);
        }
        let all_stay = before.as_ref().is_some_and(|before| addresses.covers(before));
        current.store(Some(Arc::new(addresses)));
        if !all_stay {
            let moved_from = self.generation.swap(new_generation(), Ordering::AcqRel);
            in_use().remove(&moved_from);
        }
        changed.notify_waiters();
        Some(before)
    }

    /// Waits until there is an address. Never completes if none is ever set.
    pub async fn known(&self) -> Destination {
        loop {
            let AddressSource::Dns { changed, .. } = &self.source else {
                match self.current() {
                    Some(address) => return address,
                    None => std::future::pending::<()>().await,
                }
                continue;
            };
            // The waiter is registered before the check, so that a change between the two is not missed.
            let notified = changed.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if let Some(address) = self.current() {
                return address;
            }
            notified.await;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn an_added_address_keeps_the_generation_and_a_removed_one_changes_it() {
        let resolved = BackendAddr::new(&"api.internal:80".parse().unwrap());
        let set = |list: &[&str]| {
            resolved.set(Addresses::new(list.iter().map(|ip| format!("{ip}:80").parse().unwrap())).unwrap());
            resolved.generation()
        };
        let first = set(&["10.0.0.1", "10.0.0.2"]);
        assert_eq!(set(&["10.0.0.2", "10.0.0.1"]), first, "rotated");
        assert_eq!(set(&["10.0.0.3", "10.0.0.2", "10.0.0.1"]), first, "one more");
        assert!(is_in_use(first));
        resolved.addresses().unwrap().set_good("10.0.0.2:80".parse().unwrap());
        assert_ne!(set(&["10.0.0.3", "10.0.0.2"]), first, "one is gone");
        assert!(!is_in_use(first));
        let first_tried = resolved.addresses().unwrap().in_order().next().unwrap();
        assert_eq!(first_tried.to_string(), "10.0.0.2:80", "still the one that works");
    }

    #[tokio::test]
    async fn a_name_is_unknown_until_set_which_wakes_waiters() {
        let resolved = Arc::new(BackendAddr::new(&"api.internal:80".parse().unwrap()));
        assert!(!resolved.is_known() && resolved.current().is_none());
        let waiting = tokio::spawn({
            let resolved = Arc::clone(&resolved);
            async move { resolved.known().await.to_string() }
        });
        tokio::task::yield_now().await;
        let address: SocketAddr = "127.0.0.1:80".parse().unwrap();
        assert!(matches!(resolved.set(address), Some(None)));
        assert!(resolved.set(address).is_none(), "no change");
        assert_eq!(waiting.await.unwrap(), "127.0.0.1:80");
    }

    #[test]
    fn a_fixed_address_is_known_at_once_and_never_changes() {
        for text in ["127.0.0.1:80", "[::1]:80", "unix:/tmp/a.sock"] {
            let resolved = BackendAddr::new(&text.parse().unwrap());
            assert!(resolved.is_known());
            assert!(resolved.set("127.0.0.1:81".parse::<SocketAddr>().unwrap()).is_none());
            assert_eq!(resolved.current().unwrap().to_string(), text.trim_start_matches("unix:"));
        }
    }
}
