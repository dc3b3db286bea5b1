//! Load balancing: implements `BackendSelection` of `pingora_load_balancing` with Weir's `Balancer`.
//!
//! A backend carries its live state in its extensions, as an `Arc<BackendState>`. A backend without one gets a fresh
//! state. `select` returns a copy of the backend and no guard, so requests in flight are not counted. A program that
//! needs the count raises it itself: `backend.ext.get::<Arc<BackendState>>()`, `BackendState::raise`.

use std::collections::BTreeSet;
use std::sync::Arc;

use pingora_load_balancing::Backend;
use pingora_load_balancing::selection::{BackendIter, BackendSelection};

use weir::backend::{BackendState, Labels};
use weir::clock;
use weir::config::schema::Balance;
use weir::upstream::balance::rng::hash;
use weir::upstream::balance::{Balancer, Slot, Tried};

/// A balancer over Pingora's backends. Backends of weight 0 are never selected.
pub struct Selection {
    backends: Box<[Backend]>,
    balancer: Balancer,
}

impl BackendSelection for Selection {
    type Iter = Picks;
    type Config = Balance;

    fn build_with_config(backends: &BTreeSet<Backend>, balance: &Balance) -> Self {
        let backends: Box<[Backend]> = backends.iter().filter(|backend| backend.weight > 0).cloned().collect();
        let slot =
            |backend: &Backend| Slot::new(backend_state(backend), u16::try_from(backend.weight).unwrap_or(u16::MAX));
        let balancer = Balancer::new((*balance).into(), backends.iter().map(slot).collect());
        Self { backends, balancer }
    }

    fn build(backends: &BTreeSet<Backend>) -> Self {
        Self::build_with_config(backends, &Balance::default())
    }

    fn iter(self: &Arc<Self>, key: &[u8]) -> Picks {
        let key = Some(hash(key)).filter(|_| !key.is_empty());
        Picks { selection: Arc::clone(self), tried: Tried::default(), left: self.backends.len(), key }
    }
}

fn backend_state(backend: &Backend) -> Arc<BackendState> {
    backend.ext.get::<Arc<BackendState>>().cloned().unwrap_or_else(|| {
        let address: Arc<str> = backend.addr.to_string().into();
        Arc::new(BackendState::new(Labels { upstream: "".into(), backend: Arc::clone(&address), address }))
    })
}

/// An iterator of picks. It does not repeat a backend, except after `MAX_TRIED` picks.
pub struct Picks {
    selection: Arc<Selection>,
    tried: Tried,
    left: usize,
    key: Option<u64>,
}

impl BackendIter for Picks {
    fn next(&mut self) -> Option<&Backend> {
        self.left = self.left.checked_sub(1)?;
        let picked = self.selection.balancer.pick(&self.tried, clock::now_ms(), self.key)?;
        self.tried.add(picked.guard.backend());
        self.selection.backends.get(picked.index)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use pingora_load_balancing::discovery::Static;
    use pingora_load_balancing::{Backends, LoadBalancer};

    use super::*;

    async fn load_balancer(balance: Balance, weights: &[usize]) -> (LoadBalancer<Selection>, Vec<Arc<BackendState>>) {
        let (mut set, mut states) = (BTreeSet::new(), Vec::new());
        for (n, weight) in weights.iter().enumerate() {
            let mut backend = Backend::new_with_weight(&format!("10.0.0.{n}:80"), *weight).unwrap();
            let labels = Labels { upstream: "u".into(), backend: n.to_string().into(), address: n.to_string().into() };
            let backend_state = Arc::new(BackendState::new(labels));
            backend.ext.insert(Arc::clone(&backend_state));
            states.push(backend_state);
            set.insert(backend);
        }
        let balancer = LoadBalancer::from_backends_with_config(Backends::new(Static::new(set)), Some(balance));
        balancer.update().await.unwrap();
        (balancer, states)
    }

    fn counts(balancer: &LoadBalancer<Selection>, picks: usize) -> Vec<usize> {
        let mut counts = vec![0; 3];
        for _ in 0..picks {
            let octet = balancer.select(b"", 16).unwrap().addr.to_string().as_bytes()[7];
            counts[usize::from(octet - b'0')] += 1;
        }
        counts
    }

    #[tokio::test]
    async fn a_pingora_load_balancer_uses_the_balancer() {
        let (balancer, _) = load_balancer(Balance::WeightedRoundRobin, &[5, 3, 1]).await;
        assert_eq!(counts(&balancer, 90), [50, 30, 10]);
        let (balancer, _) = load_balancer(Balance::RoundRobin, &[1, 0, 1]).await;
        assert_eq!(counts(&balancer, 10), [5, 0, 5]);
    }

    #[tokio::test]
    async fn requests_in_flight_are_counted_through_extensions() {
        let (balancer, states) = load_balancer(Balance::LeastConnections, &[1, 1, 1]).await;
        let _busy = states[1].raise();
        assert_eq!(counts(&balancer, 10), [5, 0, 5]);
        assert_eq!((states[0].in_flight(), states[1].in_flight()), (0, 1));
    }

    #[tokio::test]
    async fn equal_keys_select_the_same_backend() {
        let (balancer, _) = load_balancer(Balance::ConsistentHash, &[1, 1, 1]).await;
        let of = |n: u8| balancer.select(&[n], 16).unwrap().addr;
        assert!((0..50).all(|n| of(n) == of(n)));
        assert!((1..50).any(|n| of(n) != of(0)));
    }

    #[tokio::test]
    async fn a_rejected_pick_leads_to_the_next_and_finally_to_none() {
        let (balancer, _) = load_balancer(Balance::WeightedRoundRobin, &[5, 3, 1]).await;
        let only = balancer.select_with(b"", 16, |backend, _| backend.weight == 1).unwrap();
        assert_eq!(only.weight, 1);
        assert!(balancer.select_with(b"", 16, |_, _| false).is_none());
    }
}
