//! Tests of the time between an ejection and the rebuild of the members: no algorithm picks the ejected backend.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;

use super::balance::Tried;
use super::members::tests::backend;
use super::queue::PickOutcome;
use super::{PickHints, Upstream};
use crate::backend::labels::{Health, PickReason};
use crate::config::schema::{self, Balance};
use crate::pool::transport_settings::TransportSettings;

const ALL: [Balance; 7] = [
    Balance::RoundRobin,
    Balance::WeightedRoundRobin,
    Balance::LeastConnections,
    Balance::P2c,
    Balance::PeakEwma,
    Balance::ConsistentHash,
    Balance::Random,
];

fn upstream(balance: Balance, fail_open: bool, tiers: &[u8]) -> Upstream {
    let settings = schema::UpstreamSettings { balance, fail_open, ..schema::UpstreamSettings::default() };
    let one = |(n, tier): (usize, &u8)| {
        let made = backend(&format!("b{n}"), &format!("127.0.0.1:{}", n + 1), 1, Health::Up);
        let mut made = Arc::into_inner(made).unwrap();
        made.tier = *tier;
        Arc::new(made)
    };
    let backends = tiers.iter().enumerate().map(one).collect();
    let transport = Arc::new(TransportSettings::new(&settings, &|_| None));
    Upstream::new("u".into(), settings, backends, transport, Arc::default(), None)
}

fn eject(upstream: &Upstream, which: &[usize]) {
    let backends = upstream.backends();
    which.iter().for_each(|at| backends[*at].state.set_ejected(Some("5 failed attempts in a row"), 0));
}

fn attempt_pick(upstream: &Upstream, tried: &Tried, key: u64) -> PickOutcome<super::members::Pick> {
    upstream.try_pick(tried, 0, PickHints { key: Some(key << 48), named: None })
}

#[test]
fn an_ejected_backend_is_not_picked_before_members_are_rebuilt() {
    for balance in ALL {
        let upstream = upstream(balance, true, &[0, 0, 0]);
        eject(&upstream, &[1]);
        for key in 0..300 {
            let PickOutcome::Slot(pick) = attempt_pick(&upstream, &Tried::default(), key) else {
                panic!("{balance:?}: others serve")
            };
            assert!(&*pick.backend.name != "b1" && !pick.fail_open, "{balance:?}");
        }
        upstream.rebuild();
        upstream.backends()[1].state.set_ejected(None, 1);
        upstream.rebuild();
        let back = (0..300).any(
            |key| matches!(attempt_pick(&upstream, &Tried::default(), key), PickOutcome::Slot(pick) if &*pick.backend.name == "b1"),
        );
        assert!(back, "{balance:?}: it serves again");
    }
}

#[test]
fn a_request_that_cannot_be_retried_avoids_recently_failed_backends() {
    for balance in ALL {
        let upstream = upstream(balance, true, &[0, 0, 1]);
        let backends = upstream.backends();
        let (mut cautious, any) = (Tried::default(), Tried::default());
        cautious.exclude_recent_failures(10_000);
        let picks = |tried: &Tried| -> Vec<String> {
            let name = |key| match attempt_pick(&upstream, tried, key) {
                PickOutcome::Slot(pick) => pick.backend.name.to_string(),
                _ => panic!("{balance:?}: one serves"),
            };
            (0..300).map(name).collect()
        };
        backends[0].state.set_failed(9_000);
        assert!(picks(&cautious).iter().all(|name| name == "b1"), "{balance:?}");
        assert!(picks(&any).iter().any(|name| name == "b0"), "{balance:?}: others find out how it is");
        // If all backends of the tier failed recently, the tier is still used; the backup tier is not.
        backends[1].state.set_failed(9_000);
        assert!(picks(&cautious).iter().all(|name| name != "b2"), "{balance:?}");
        backends[0].state.set_answered();
        assert!(picks(&cautious).iter().all(|name| name == "b0"), "{balance:?}");
        backends[1].state.set_failed(5_000);
        assert!(picks(&cautious).iter().any(|name| name == "b1"), "{balance:?}: long ago");
    }
}

#[test]
fn the_next_tier_serves_if_a_whole_tier_was_just_ejected() {
    for balance in ALL {
        let upstream = upstream(balance, true, &[0, 1]);
        eject(&upstream, &[0]);
        let PickOutcome::Slot(pick) = attempt_pick(&upstream, &Tried::default(), 1) else { panic!("{balance:?}") };
        assert_eq!((&*pick.backend.name, pick.fail_open, pick.why), ("b1", false, PickReason::Tier), "{balance:?}");
        // The only serving backend was tried.
        let mut tried = Tried::default();
        tried.add(&pick.backend.state);
        assert!(!upstream.has_another(&tried));
        let PickOutcome::Slot(again) = attempt_pick(&upstream, &tried, 1) else { panic!("{balance:?}") };
        assert_eq!((&*again.backend.name, again.again), ("b1", true), "{balance:?}");
    }
}

#[test]
fn fail_open_decides_if_all_were_just_ejected() {
    for balance in ALL {
        let open = upstream(balance, true, &[0, 0]);
        eject(&open, &[0, 1]);
        let picks = (0..4).filter(
            |key| matches!(attempt_pick(&open, &Tried::default(), *key), PickOutcome::Slot(pick) if pick.fail_open),
        );
        assert_eq!(picks.count(), 4, "{balance:?}: any is better than none");
        let closed = upstream(balance, false, &[0, 0]);
        eject(&closed, &[0, 1]);
        assert!(matches!(attempt_pick(&closed, &Tried::default(), 1), PickOutcome::Nobody), "{balance:?}");
    }
}
