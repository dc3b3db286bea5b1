//! Tests of eligibility, and of what a replacement of the snapshot preserves.

use super::super::balance::Settings;
use super::super::balance::tests::backend_state;
use super::*;
use crate::backend::labels::{AdminState, Health};
use crate::pool::backend_addr::BackendAddr;

/// A backend for a test.
pub(crate) fn backend(name: &str, address: &str, weight: u16, health: Health) -> Arc<Backend> {
    let address = address.parse().unwrap();
    let backend_state = backend_state(name);
    backend_state.set_health(health, "", 0);
    let resolved = Arc::new(BackendAddr::new(&address));
    Arc::new(Backend { name: name.into(), address, weight, tier: 0, token: None, state: backend_state, addr: resolved })
}

const RULES: TierRules = TierRules {
    settings: Settings { balance: Balance::RoundRobin, load_factor: None },
    fail_open: true,
    checked: true,
    tier_min_up: 0.0,
    panic_threshold: 0.0,
    slow_start_ms: 0,
};

fn names(members: &Members) -> String {
    members.eligible().map(|backend| &*backend.name).collect()
}

#[test]
fn the_table_of_eligibility() {
    use Health::{Down, Unknown, Up};
    // Health of a, b and c; `fail_open`; the eligible backends; whether the upstream is in fail-open.
    let table = [
        ([Up, Up, Up], true, "abc", false),
        ([Up, Down, Unknown], true, "a", false),
        ([Unknown, Down, Unknown], true, "ac", false),
        ([Unknown, Down, Unknown], false, "ac", false),
        ([Down, Down, Down], true, "abc", true),
        ([Down, Down, Down], false, "", false),
    ];
    for (healths, fail_open, expected, failed_open) in table {
        let backends: Vec<_> =
            ["a", "b", "c"].iter().zip(healths).map(|(n, h)| backend(n, "127.0.0.1:1", 1, h)).collect();
        let members = Members::build(&backends, TierRules { fail_open, ..RULES }, 0);
        assert_eq!((names(&members).as_str(), members.failed_open()), (expected, failed_open), "{healths:?}");
        let pick = members.pick(&Tried::default(), 0, None);
        assert_eq!(pick.as_ref().map(|pick| pick.fail_open), (!expected.is_empty()).then_some(failed_open));
    }
}

#[test]
fn drained_disabled_weightless_and_unresolved_backends_are_not_eligible() {
    let backends = [
        backend("a", "127.0.0.1:1", 1, Health::Down),
        backend("b", "127.0.0.1:2", 1, Health::Up),
        backend("c", "127.0.0.1:3", 0, Health::Up),
        backend("d", "name.invalid:4", 1, Health::Up),
    ];
    assert_eq!(names(&Members::build(&backends, RULES, 0)), "b");
    for mark in [AdminState::Draining, AdminState::Disabled] {
        backends[1].state.set_admin_state(mark, 0);
        let members = Members::build(&backends, RULES, 0);
        assert_eq!((names(&members).as_str(), members.failed_open()), ("a", true));
        assert_eq!(names(&Members::build(&backends[1..], RULES, 0)), "");
    }
    backends[3].addr.set("127.0.0.1:4".parse::<std::net::SocketAddr>().unwrap());
    assert_eq!(names(&Members::build(&backends, RULES, 0)), "d");
}

#[test]
fn without_a_check_a_backend_is_up() {
    let backends = [backend("a", "127.0.0.1:1", 1, Health::Down), backend("b", "127.0.0.1:1", 1, Health::Unknown)];
    let members = Members::build(&backends, TierRules { checked: false, ..RULES }, 0);
    assert_eq!((names(&members).as_str(), members.failed_open()), ("ab", false));
}

#[test]
fn equal_snapshots_compare_equal() {
    let backends = [backend("a", "127.0.0.1:1", 1, Health::Up), backend("b", "127.0.0.1:1", 1, Health::Up)];
    let before = Members::build(&backends, RULES, 0);
    assert!(before.same_as(&Members::build(&backends, RULES, 0)));
    assert!(!before.same_as(&Members::build(&backends[..1], RULES, 0)));
    let other = TierRules { settings: Balance::LeastConnections.into(), ..RULES };
    assert!(!before.same_as(&Members::build(&backends, other, 0)));
}

#[test]
fn a_tried_set_stays_valid_after_a_rebuild() {
    let backends = [backend("a", "127.0.0.1:1", 1, Health::Up), backend("b", "127.0.0.1:1", 1, Health::Up)];
    let mut tried = Tried::default();
    let first = Members::build(&backends, RULES, 0).pick(&tried, 0, None).unwrap();
    tried.add(&first.backend.state);
    let swapped: Vec<_> = backends.iter().rev().cloned().collect();
    for _ in 0..5 {
        let pick = Members::build(&swapped, RULES, 0).pick(&tried, 0, None).unwrap();
        assert_eq!((&*pick.backend.name, pick.again), ("b", false));
    }
}

/// One backend of weight 1 per entry, with this tier and health.
fn tiered(healths: &[(u8, Health)]) -> Vec<Arc<Backend>> {
    let one = |(n, (tier, health)): (usize, &(u8, Health))| {
        let mut backend = Arc::into_inner(backend(&n.to_string(), "127.0.0.1:1", 1, *health)).unwrap();
        backend.tier = *tier;
        Arc::new(backend)
    };
    healths.iter().enumerate().map(one).collect()
}

#[test]
fn tiers_take_their_share_of_picks() {
    use Health::{Down, Up};
    let backends = tiered(&[(0, Up), (0, Down), (0, Down), (0, Down), (1, Up)]);
    let members = Members::build(&backends, TierRules { tier_min_up: 0.5, ..RULES }, 0);
    let picks: Vec<_> = (0..1_000).map(|_| members.pick(&Tried::default(), 0, None).unwrap().backend).collect();
    let second = picks.iter().filter(|backend| backend.tier == 1).count();
    assert!((495..=505).contains(&second), "{second}");
    // A key always gets the same tier.
    let hashed = TierRules { tier_min_up: 0.5, settings: Balance::ConsistentHash.into(), ..RULES };
    let members = Members::build(&backends, hashed, 0);
    let tiers = |key| (0..9).map(|_| members.pick(&Tried::default(), 0, Some(key)).unwrap().backend.tier).sum::<u8>();
    assert!((0..100).all(|key| [0, 9].contains(&tiers(key))));
}

#[test]
fn a_retry_uses_another_tier_before_a_tried_backend() {
    use Health::Up;
    let backends = tiered(&[(0, Up), (1, Up), (2, Up)]);
    let members = Members::build(&backends, RULES, 0);
    let mut tried = Tried::default();
    for expected in ["0", "1", "2"] {
        let pick = members.pick(&tried, 0, None).unwrap();
        assert_eq!((&*pick.backend.name, pick.again), (expected, false));
        tried.add(&pick.backend.state);
    }
    let pick = members.pick(&tried, 0, None).unwrap();
    assert_eq!((&*pick.backend.name, pick.again), ("0", true));
}

#[test]
fn a_too_long_slow_start_sequence_gets_coarser() {
    let long: Vec<_> = (0..200).map(|n| backend("a", "127.0.0.1:1", 200 + n % 57, Health::Up)).collect();
    for (n, one) in long.iter().enumerate() {
        one.state.load().set_serving(true, if n == 0 { 100_000 } else { 1_000 });
    }
    let rules = TierRules { slow_start_ms: 30_000, settings: Balance::WeightedRoundRobin.into(), ..RULES };
    let members = Members::build(&long, rules, 101_000);
    let slots = members.tiers[0].balancer.slots();
    assert!(sequence_len(slots.iter().map(|slot| slot.weight)) <= MAX_SEQUENCE);
    assert!(members.is_ramping() && slots[0].weight * 4 < slots[1].weight);
}

#[test]
fn a_full_tier_overflows_to_the_next_and_all_full_is_no_pick() {
    use Health::Up;
    let backends = tiered(&[(0, Up), (1, Up)]);
    let members = Members::build(&backends, RULES, 0);
    backends.iter().for_each(|backend| backend.state.set_limit(1, None));
    let taken: Vec<_> = (0..2).filter_map(|_| members.pick(&Tried::default(), 0, None)).collect();
    assert_eq!(taken.iter().map(|pick| pick.backend.tier).collect::<Vec<_>>(), [0, 1]);
    assert!(members.pick(&Tried::default(), 0, None).is_none());
    // The full tier is first otherwise. A tried backend is picked again if all others are full.
    backends[1].state.set_limit(2, None);
    let mut tried = Tried::default();
    tried.add(&backends[1].state);
    let pick = members.pick(&tried, 0, None).unwrap();
    assert_eq!((pick.backend.tier, pick.again), (1, true));
    // A request that can wait does not get it.
    assert!(members.pick_other(&tried, 0, None).is_none() && members.has_untried(&tried));
}

#[test]
fn an_ejected_backend_counts_as_down() {
    use Health::Up;
    let backends = tiered(&[(0, Up), (0, Up), (1, Up)]);
    backends[0].state.set_ejected(Some("5 faults in a row"), 0);
    let build = |rules| Members::build(&backends, rules, 0);
    assert_eq!(names(&build(RULES)), "12");
    assert_eq!(names(&build(TierRules { checked: false, ..RULES })), "12");
    let half = build(TierRules { tier_min_up: 1.0, ..RULES });
    let second = (0..100).filter(|_| half.pick(&Tried::default(), 0, None).unwrap().backend.tier == 1).count();
    assert!((49..=51).contains(&second), "{second}");
    backends[1].state.set_ejected(Some("5 faults in a row"), 0);
    assert_eq!(names(&build(RULES)), "2", "the next tier takes over");
    assert_eq!(names(&Members::build(&backends[..2], RULES, 0)), "01", "fails open");
}

#[test]
fn a_dry_run_over_tiers_predicts_the_next_pick_and_changes_nothing() {
    use Health::{Down, Up};
    let backends = tiered(&[(0, Up), (0, Down), (0, Down), (0, Down), (1, Up), (1, Up)]);
    let members = Members::build(&backends, TierRules { tier_min_up: 0.5, ..RULES }, 0);
    for _ in 0..40 {
        let dry_run = members.preview(0, None);
        assert_eq!(members.preview(0, None), dry_run);
        let next = members.eligible().nth(dry_run.next.unwrap()).unwrap();
        assert_eq!(next.name, members.pick(&Tried::default(), 0, None).unwrap().backend.name);
    }
    let apart = Members::build(&backends, RULES, 0);
    assert!(apart.takes_first(&backends[0]) && !apart.takes_first(&backends[4]));
}

/// Backends with affinity tokens, with these healths.
fn sticky(healths: &[Health]) -> Vec<Arc<Backend>> {
    let sticky = super::super::sticky::Sticky::new("u", &crate::config::schema::StickySettings::default(), &[1; 32]);
    let one = |(n, health): (usize, &Health)| {
        let mut one = Arc::into_inner(backend(&n.to_string(), &format!("127.0.0.1:{}", n + 1), 1, *health)).unwrap();
        one.token = Some(sticky.token(&one.address));
        Arc::new(one)
    };
    healths.iter().enumerate().map(one).collect()
}

/// The backend that a cookie selects, or why none.
fn selected(members: &Members, backend: &Backend, tried: &Tried) -> Result<(String, PickReason), PickReason> {
    members.pick_named(&backend.token.unwrap(), tried).map(|pick| (pick.backend.name.to_string(), pick.why))
}

#[test]
fn a_cookie_selects_its_backend_while_it_is_eligible() {
    use Health::{Down, Up};
    let backends = sticky(&[Up, Up, Down]);
    let members = Members::build(&backends, RULES, 0);
    let mut tried = Tried::default();
    for (n, backend) in backends[..2].iter().enumerate() {
        assert_eq!(selected(&members, backend, &tried), Ok((n.to_string(), PickReason::Sticky)));
    }
    assert_eq!(selected(&members, &backends[2], &tried), Err(PickReason::StickyOut));
    backends[1].state.set_limit(1, None);
    let taken = members.pick_named(&backends[1].token.unwrap(), &tried).unwrap();
    assert_eq!(
        (backends[1].state.in_flight(), selected(&members, &backends[1], &tried)),
        (1, Err(PickReason::StickyFull))
    );
    drop(taken);
    assert_eq!(backends[1].state.in_flight(), 0);
    tried.add(&backends[1].state);
    assert_eq!(selected(&members, &backends[1], &tried), Err(PickReason::StickyTried));
    backends[0].state.set_admin_state(AdminState::Draining, 0);
    assert_eq!(selected(&Members::build(&backends, RULES, 0), &backends[0], &tried), Err(PickReason::StickyOut));
}

#[test]
fn cookies_select_down_backends_only_if_all_are_down() {
    use Health::{Down, Up};
    let none = Tried::default();
    let backends = sticky(&[Down, Down]);
    assert!(selected(&Members::build(&backends, RULES, 0), &backends[0], &none).is_ok());
    let backends = sticky(&[Up, Down, Down]);
    let members = Members::build(&backends, TierRules { panic_threshold: 0.5, ..RULES }, 0);
    assert_eq!(members.eligible().count(), 3);
    assert!(selected(&members, &backends[0], &none).is_ok());
    assert_eq!(selected(&members, &backends[1], &none), Err(PickReason::StickyOut));
}

#[test]
fn a_pick_has_a_reason() {
    let backends = sticky(&[Health::Up, Health::Up]);
    let why = |balance: Balance, key: Option<u64>, tried: &Tried| {
        let rules = TierRules { settings: balance.into(), ..RULES };
        Members::build(&backends, rules, 0).pick(tried, 0, key).unwrap().why
    };
    let mut tried = Tried::default();
    for balance in [Balance::RoundRobin, Balance::WeightedRoundRobin, Balance::LeastConnections] {
        assert_eq!(why(balance, Some(1), &tried), PickReason::Next);
    }
    for balance in [Balance::P2c, Balance::PeakEwma, Balance::Random, Balance::ConsistentHash] {
        assert_eq!(why(balance, None, &tried), PickReason::Chance);
    }
    assert_eq!(why(Balance::ConsistentHash, Some(1), &tried), PickReason::Key);
    backends.iter().for_each(|backend| tried.add(&backend.state));
    assert_eq!(why(Balance::Random, None, &tried), PickReason::Again);
    let down = [backend("a", "127.0.0.1:1", 1, Health::Down)];
    let pick = Members::build(&down, RULES, 0).pick(&Tried::default(), 0, None).unwrap();
    assert_eq!(pick.why, PickReason::FailOpen);
    let mut later = Arc::into_inner(backend("b", "127.0.0.1:2", 1, Health::Up)).unwrap();
    later.tier = 1;
    let tiers = [backend("a", "127.0.0.1:1", 1, Health::Up), Arc::new(later)];
    let mut tried = Tried::default();
    tried.add(&tiers[0].state);
    let pick = Members::build(&tiers, RULES, 0).pick(&tried, 0, None).unwrap();
    assert_eq!((&*pick.backend.name, pick.why), ("b", PickReason::Tier));
}
