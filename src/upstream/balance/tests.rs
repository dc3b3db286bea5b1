//! Tests that hold for every balancer.

use super::*;
use crate::backend::Labels;

/// A new state for a test.
pub(crate) fn backend_state(name: &str) -> Arc<BackendState> {
    Arc::new(BackendState::new(Labels { upstream: "u".into(), backend: name.into(), address: name.into() }))
}

/// A balancer over new states with these weights.
pub(crate) fn balancer(kind: Balance, weights: &[u16]) -> Balancer {
    let slot = |(i, weight): (usize, &u16)| Slot::new(backend_state(&i.to_string()), *weight);
    Balancer::new(kind.into(), weights.iter().enumerate().map(slot).collect())
}

const ALL: [Balance; 7] = [
    Balance::RoundRobin,
    Balance::WeightedRoundRobin,
    Balance::LeastConnections,
    Balance::P2c,
    Balance::PeakEwma,
    Balance::Random,
    Balance::ConsistentHash,
];

#[test]
fn no_slots_give_no_pick() {
    for kind in ALL {
        assert!(balancer(kind, &[]).pick(&Tried::default(), 0, Some(7)).is_none());
    }
}

#[test]
fn a_tried_backend_is_picked_again_only_after_all_were_tried() {
    for kind in ALL {
        let balancer = balancer(kind, &[1, 256, 3]);
        for _ in 0..50 {
            let mut tried = Tried::default();
            for n in 0..3 {
                let picked = balancer.pick(&tried, 0, Some(7)).unwrap();
                assert!(!picked.again, "{kind:?} after {n}");
                assert!(!tried.contains(&balancer.slots()[picked.index].state));
                tried.add(&balancer.slots()[picked.index].state);
            }
            assert!(balancer.pick(&tried, 0, Some(7)).unwrap().again);
        }
    }
}

#[test]
fn every_guard_is_counted_and_released() {
    for kind in ALL {
        let balancer = balancer(kind, &[1, 2]);
        let guards: Vec<_> = (0..9).map(|_| balancer.pick(&Tried::default(), 0, Some(7)).unwrap().guard).collect();
        let sum = || balancer.slots().iter().map(|slot| slot.state.in_flight()).sum::<u32>();
        assert_eq!(sum(), 9);
        drop(guards);
        assert_eq!(sum(), 0);
    }
}

#[test]
fn a_pick_does_not_allocate() {
    let bounded = Settings { balance: Balance::ConsistentHash, load_factor: Some(1.25) };
    for settings in ALL.into_iter().map(Settings::from).chain([bounded]) {
        let slots = [1, 5, 3, 1].map(|weight| Slot::new(backend_state(&weight.to_string()), weight));
        let balancer = Balancer::new(settings, slots.into());
        balancer.slots()[0].state.load().fault(std::time::Duration::ZERO, 1);
        let _busy = balancer.slots()[2].state.raise();
        let mut tried = Tried::default();
        tried.add(&balancer.slots()[1].state);
        drop(balancer.pick(&tried, 0, Some(7)));
        let allocations = allocation_counter::measure(|| {
            for _ in 0..1_000 {
                drop(balancer.pick(&tried, 0, Some(7)));
                drop(balancer.pick(&Tried::default(), 0, Some(7)));
            }
        });
        assert_eq!(allocations.count_total, 0, "{settings:?}");
    }
}

#[test]
fn a_full_backend_is_skipped_and_its_limit_never_exceeded() {
    let bounded = Settings { balance: Balance::ConsistentHash, load_factor: Some(1.25) };
    for settings in ALL.into_iter().map(Settings::from).chain([bounded]) {
        let slots = [1, 9, 3].map(|weight| Slot::new(backend_state(&weight.to_string()), weight));
        let balancer = Balancer::new(settings, slots.into());
        balancer.slots().iter().for_each(|slot| slot.state.set_limit(50, None));
        let picks = std::sync::Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let pick = |_| balancer.pick(&Tried::default(), 0, Some(7));
                    let mine: Vec<_> = (0..60).filter_map(pick).collect();
                    picks.lock().unwrap().extend(mine);
                });
            }
        });
        let counts: Vec<_> = balancer.slots().iter().map(|slot| slot.state.in_flight()).collect();
        assert_eq!((counts, picks.lock().unwrap().len()), (vec![50; 3], 150), "{settings:?}");
        assert!(balancer.pick(&Tried::default(), 0, Some(7)).is_none());
        drop(picks.lock().unwrap().pop());
        assert!(balancer.pick(&Tried::default(), 0, Some(7)).is_some());
    }
}
