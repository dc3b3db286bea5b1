//! Tests of ejection at the level of an upstream: the faults, the limit, and the return.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::members::tests::backend;
use super::*;
use crate::backend::labels::{BackendCondition, Health};
use crate::config::values::{Percent, Period};

fn rules() -> Outlier {
    Outlier { consecutive: 2, eject: Period::from_secs(1), ..Outlier::default() }
}

fn backends(count: u16) -> Vec<Arc<Backend>> {
    (1..=count).map(|n| backend(&format!("b{n}"), &format!("127.0.0.1:{n}"), 1, Health::Up)).collect()
}

fn fail(detector: &Arc<Detector>, backend: &Backend, times: usize, now_ms: u64) {
    for _ in 0..times {
        detector.watch(&backend.state).unwrap().ended(false, now_ms);
    }
}

#[test]
fn ejects_says_so_and_comes_back_by_one_trial() {
    let backends = backends(2);
    let detector = Arc::new(Detector::new(&rules(), &backends, None));
    let changes = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&changes);
    let changed: Changed = Arc::new(move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    detector.activate(&changed, 0);
    fail(&detector, &backends[0], 2, 10);
    let backend_state = &backends[0].state;
    assert_eq!(
        (backend_state.state(), backend_state.why().as_str()),
        (BackendCondition::Ejected, "2 failed attempts in a row")
    );
    assert_eq!(changes.load(Ordering::Relaxed), 1);
    let none = Tried::default();
    assert!(detector.trial(&backends, &none, 1_009).is_none(), "not yet");
    let (who, guard, mut trial) = detector.trial(&backends, &none, 1_010).unwrap();
    assert_eq!((&*who.name, guard.backend().in_flight()), ("b1", 1));
    assert!(detector.trial(&backends, &none, 1_010).is_none(), "one, not two");
    trial.answered(true, 1_020);
    assert_eq!((backend_state.state(), changes.load(Ordering::Relaxed)), (BackendCondition::Up, 2));
}

#[test]
fn no_more_than_the_share_are_out_at_once_and_the_only_one_never() {
    for (count, share, most) in [(1, 100.0, 0), (2, 50.0, 1), (3, 50.0, 1), (4, 50.0, 2), (4, 100.0, 4), (5, 1.0, 1)] {
        let backends = backends(count);
        let rules = Outlier { max_ejected: Percent::new(share), ..rules() };
        let detector = Arc::new(Detector::new(&rules, &backends, None));
        backends.iter().for_each(|backend| fail(&detector, backend, 5, 10));
        let out = backends.iter().filter(|backend| backend.state.is_ejected()).count();
        assert_eq!(out, most, "{count} backends, {share} %");
    }
}

#[test]
fn goes_on_over_a_reload_with_equal_rules_and_ends_with_others() {
    let backends = backends(2);
    let changed: Changed = Arc::new(|| {});
    let detector = Arc::new(Detector::new(&rules(), &backends, None));
    fail(&detector, &backends[0], 2, 10);
    let same = Arc::new(Detector::new(&rules(), &backends, Some(&detector)));
    same.activate(&changed, 20);
    assert!(backends[0].state.is_ejected() && same.trial(&backends, &Tried::default(), 1_010).is_some());
    fail(&detector, &backends[0], 2, 10);
    let other = Arc::new(Detector::new(&Outlier { consecutive: 9, ..rules() }, &backends, Some(&same)));
    other.activate(&changed, 30);
    assert!(!backends[0].state.is_ejected());
}

#[test]
fn a_trial_that_says_nothing_is_given_to_the_next_and_a_failed_one_waits_longer() {
    let backends = backends(2);
    let detector = Arc::new(Detector::new(&rules(), &backends, None));
    let none = Tried::default();
    fail(&detector, &backends[0], 2, 0);
    drop(detector.trial(&backends, &none, 1_000).unwrap());
    let (.., mut trial) = detector.trial(&backends, &none, 1_001).unwrap();
    trial.ended(false, 1_100);
    drop(trial);
    assert_eq!(backends[0].state.why(), "its trial request failed");
    assert!(detector.trial(&backends, &none, 3_099).is_none());
    assert!(detector.trial(&backends, &none, 3_100).is_some());
}

#[test]
fn what_is_drained_down_or_tried_gets_no_trial() {
    let backends = backends(2);
    let detector = Arc::new(Detector::new(&rules(), &backends, None));
    fail(&detector, &backends[0], 2, 0);
    let mut tried = Tried::default();
    tried.add(&backends[0].state);
    assert!(detector.trial(&backends, &tried, 1_000).is_none());
    backends[0].state.set_health(Health::Down, "refused", 0);
    assert!(detector.trial(&backends, &Tried::default(), 1_500).is_none());
    backends[0].state.set_health(Health::Up, "", 0);
    assert!(detector.trial(&backends, &Tried::default(), 2_000).is_some());
}

#[test]
fn an_attempt_that_outlives_its_rules_ejects_nobody() {
    let backends = backends(2);
    let changed: Changed = Arc::new(|| {});
    let before = Arc::new(Detector::new(&rules(), &backends, None));
    before.activate(&changed, 0);
    fail(&before, &backends[0], 2, 10);
    let (.., mut trial) = before.trial(&backends, &Tried::default(), 2_000).unwrap();
    let mut late = before.watch(&backends[1].state).unwrap();
    fail(&before, &backends[1], 1, 20);
    // The rules change or are removed.
    before.retire(2_100);
    let other = Arc::new(Detector::new(&Outlier { consecutive: 9, ..rules() }, &backends, Some(&before)));
    other.activate(&changed, 2_100);
    trial.ended(false, 2_200);
    late.ended(false, 2_200);
    assert!(before.trial(&backends, &Tried::default(), 9_000).is_none(), "a retry of a request that outlived them");
    assert!(backends.iter().all(|backend| !backend.state.is_ejected()), "nothing would bring them back");
}

#[test]
fn an_attempt_that_outlives_its_generation_counts_as_the_current_one_has_it() {
    let backends = backends(5);
    let changed: Changed = Arc::new(|| {});
    let rules = Outlier { max_ejected: Percent::new(50.0), ..rules() };
    let before = Arc::new(Detector::new(&rules, &backends, None));
    before.activate(&changed, 0);
    let current = Arc::new(Detector::new(&rules, &backends[..2], Some(&before)));
    current.activate(&changed, 10);
    // Two of five could be ejected, but only two backends remain. The last one is gone.
    [0, 1, 4].iter().for_each(|n: &usize| fail(&before, &backends[*n], 2, 20));
    let out: Vec<_> = backends.iter().map(|backend| backend.state.is_ejected()).collect();
    assert_eq!(out, [true, false, false, false, false]);
    // It is configured again, and its earlier failures are forgotten.
    let back = Arc::new(Detector::new(&rules, &backends, Some(&current)));
    back.activate(&changed, 30);
    fail(&before, &backends[4], 2, 40);
    assert!(!backends[4].state.is_ejected(), "by a watch that nobody would look at again");
    // The end of an old trial must not hide another trial that is due.
    fail(&back, &backends[4], 2, 50);
    let (.., trial) = back.trial(&backends, &Tried::default(), 1_020).unwrap();
    drop(trial);
    fail(&before, &backends[0], 1, 1_030);
    assert!(back.trial(&backends[4..], &Tried::default(), 1_050).is_some());
}

/// Responses of 500 or more at these times.
fn errors(detector: &Arc<Detector>, backend: &Backend, times: impl IntoIterator<Item = u64>) {
    times.into_iter().for_each(|now_ms| detector.watch(&backend.state).unwrap().answered(false, now_ms));
}

fn answers(detector: &Arc<Detector>, backend: &Backend, now_ms: u64) {
    detector.watch(&backend.state).unwrap().answered(true, now_ms);
}

#[test]
fn a_run_of_5xx_ejects_only_if_another_of_the_tier_has_answered_below_500_since_it_began() {
    let tiers = |tiers: [u8; 3]| -> Vec<_> {
        let one = |(n, tier): (u16, &u8)| {
            let made = backend(&format!("b{n}"), &format!("127.0.0.1:{}", n + 1), 1, Health::Up);
            let mut made = Arc::into_inner(made).unwrap();
            made.tier = *tier;
            Arc::new(made)
        };
        (0..).zip(&tiers).map(one).collect()
    };
    let detector_of = |backends: &[Arc<Backend>]| {
        let rules = Outlier { consecutive_5xx: 3, ..rules() };
        Arc::new(Detector::new(&rules, backends, None))
    };
    // All fail in the same way: the cause may be the requests or a common dependency.
    let all = tiers([0, 0, 0]);
    let detector = detector_of(&all);
    answers(&detector, &all[1], 5);
    errors(&detector, &all[0], 10..30);
    errors(&detector, &all[1], 10..30);
    assert!(all.iter().all(|backend| !backend.state.is_ejected()), "the answer at 5 was before the run");
    answers(&detector, &all[2], 31);
    errors(&detector, &all[0], [32]);
    assert_eq!(all[0].state.why(), "21 5xx responses in a row");
    assert!(!all[1].state.is_ejected());
    // A response of a backend that is of another tier, ejected or down proves nothing.
    for spoil in 0..3 {
        let all = tiers([0, if spoil == 0 { 1 } else { 0 }, 1]);
        let detector = detector_of(&all);
        errors(&detector, &all[0], 10..30);
        answers(&detector, &all[1], 31);
        match spoil {
            1 => all[1].state.set_health(Health::Down, "refused", 31),
            2 => all[1].state.set_ejected(Some("before"), 31),
            _ => {}
        }
        errors(&detector, &all[0], [32]);
        assert!(!all[0].state.is_ejected(), "{spoil}");
    }
}

#[test]
fn shipped_defaults_eject_after_five_failed_attempts_or_eight_5xx_for_ten_seconds() {
    let detector_of = |backends: &[Arc<Backend>]| Arc::new(Detector::new(&Outlier::default(), backends, None));
    let all = backends(3);
    let detector = detector_of(&all);
    fail(&detector, &all[0], 4, 10);
    assert!(!all[0].state.is_ejected());
    fail(&detector, &all[0], 1, 10);
    assert!(all[0].state.is_ejected());
    assert!(detector.trial(&all, &Tried::default(), 10_009).is_none());
    assert!(detector.trial(&all, &Tried::default(), 10_010).is_some());
    let all = backends(3);
    let detector = detector_of(&all);
    errors(&detector, &all[0], 10..17);
    answers(&detector, &all[1], 17);
    assert!(!all[0].state.is_ejected());
    errors(&detector, &all[0], [18]);
    assert!(all[0].state.is_ejected());
}

#[test]
fn the_last_backend_that_takes_requests_is_never_ejected() {
    let all = backends(3);
    let detector = Arc::new(Detector::new(&rules(), &all, None));
    all[1].state.set_admin_state(crate::backend::labels::AdminState::Draining, 0);
    all[2].state.set_health(Health::Down, "refused", 0);
    fail(&detector, &all[0], 9, 10);
    assert!(!all[0].state.is_ejected());
    all[2].state.set_health(Health::Up, "", 0);
    fail(&detector, &all[0], 1, 20);
    assert!(all[0].state.is_ejected());
    // The other backends are removed by a reload, so it is the only one.
    let changed: Changed = Arc::new(|| {});
    let only = Arc::new(Detector::new(&rules(), &all[..1], Some(&detector)));
    only.activate(&changed, 30);
    assert!(!all[0].state.is_ejected());
    fail(&only, &all[0], 9, 40);
    assert!(!all[0].state.is_ejected());
}
