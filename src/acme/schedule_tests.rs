//! Tests of the schedule with a virtual clock: unreachable servers, refused orders and rate limits.

use proptest::prelude::*;

use super::*;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

fn schedule(names: &[&str]) -> Schedule {
    let mut schedule = Schedule::default();
    schedule.want(&names.iter().map(|name| Arc::from(*name)).collect::<Vec<_>>());
    schedule
}

fn due(schedule: &Schedule, now: i64) -> Vec<String> {
    schedule.due(now).iter().map(ToString::to_string).collect()
}

fn ninety_days(now: i64) -> Term {
    Term { not_before: now, not_after: now + 90 * DAY }
}

/// Advances the time second by second. `server` returns the result of each order. Returns the names and times of all
/// orders.
fn pass(
    schedule: &mut Schedule,
    from: i64,
    until: i64,
    mut server: impl FnMut(&str, i64) -> OrderOutcome,
) -> Vec<(String, i64)> {
    let mut orders = Vec::new();
    let mut now = from;
    while now < until {
        for name in schedule.due(now) {
            schedule.started(&name);
            assert!(!schedule.due(now).contains(&name), "one order at a time");
            orders.push((name.to_string(), now));
            schedule.ended(&name, server(&name, now), now, 0.5);
        }
        now += 1;
    }
    orders
}

#[test]
fn a_new_name_is_ordered_at_once_and_renewed_at_two_thirds() {
    let mut schedule = schedule(&["a"]);
    let orders = pass(&mut schedule, 0, 10, |_, now| OrderOutcome::Issued(ninety_days(now)));
    assert_eq!(orders, [("a".to_owned(), 0)]);
    assert_eq!((due(&schedule, 60 * DAY - 1), due(&schedule, 60 * DAY)), (vec![], vec!["a".to_owned()]));
}

#[test]
fn a_server_that_is_down_for_an_hour_gets_few_orders_and_one_soon_after() {
    let mut schedule = schedule(&["a"]);
    let down = |_: &str, now| match now {
        ..HOUR => OrderOutcome::Failed(FailureKind::Unreachable, "down".into()),
        _ => OrderOutcome::Issued(ninety_days(now)),
    };
    let orders = pass(&mut schedule, 0, 2 * HOUR, down);
    let last = orders.last().unwrap().1;
    assert!((HOUR..HOUR + 600).contains(&last), "issued within ten minutes: {last}");
    assert!(orders.len() < 20, "{orders:?}");
    assert_eq!(schedule.of("a").unwrap().tries.failures, 0);
}

#[test]
fn a_failed_renewal_leaves_the_served_certificate() {
    let mut schedule = schedule(&["a"]);
    schedule.hold("a", Some(ninety_days(0)));
    let from = 60 * DAY;
    let down = |_: &str, _| OrderOutcome::Failed(FailureKind::Unreachable, "down".into());
    pass(&mut schedule, from, from + HOUR, down);
    let name_state = schedule.of("a").unwrap();
    assert_eq!(name_state.held, Some(ninety_days(0)));
    assert!(name_state.tries.failures > 5 && name_state.tries.error.as_deref() == Some("down"));
}

#[test]
fn a_rate_limited_name_waits_and_the_others_do_not() {
    let mut schedule = schedule(&["a", "b"]);
    let limited = |name: &str, now| match name {
        "a" if now < 5 * HOUR => OrderOutcome::Failed(FailureKind::Limited(Some(5 * HOUR - now)), "too many".into()),
        _ => OrderOutcome::Issued(ninety_days(now)),
    };
    let orders = pass(&mut schedule, 0, 6 * HOUR, limited);
    let of = |name| orders.iter().filter(|(each, _)| each == name).map(|(_, at)| *at).collect::<Vec<_>>();
    assert_eq!(of("b"), [0]);
    assert_eq!((of("a").len(), of("a")[0]), (2, 0), "{orders:?}");
    assert!(of("a")[1] >= 5 * HOUR);
}

#[test]
fn a_reload_moves_a_refused_name_forward_but_not_a_rate_limited_one() {
    let mut schedule = schedule(&["a", "b"]);
    let (refused, limited) = (FailureKind::Refused, FailureKind::Limited(Some(DAY)));
    for _ in 0..8 {
        schedule.ended("a", OrderOutcome::Failed(refused, "no".into()), 1_000, 1.0);
    }
    schedule.ended("b", OrderOutcome::Failed(limited, "no".into()), 1_000, 1.0);
    schedule.reloaded(1_010);
    assert_eq!((due(&schedule, 1_059), due(&schedule, 1_060)), (vec![], vec!["a".to_owned()]), "not in a loop");
    schedule.reloaded(2_000);
    assert_eq!(due(&schedule, 2_000), ["a"]);
}

#[test]
fn a_removed_certificate_is_ordered_again_and_one_of_another_process_ends_the_failures() {
    let mut schedule = schedule(&["a"]);
    schedule.ended("a", OrderOutcome::Issued(ninety_days(0)), 0, 0.5);
    assert!(due(&schedule, 10).is_empty());
    schedule.hold("a", None);
    assert_eq!(due(&schedule, 10), ["a"]);
    schedule.ended("a", OrderOutcome::Failed(FailureKind::Refused, "no".into()), 10, 0.5);
    schedule.hold("a", Some(ninety_days(20)));
    assert_eq!(schedule.of("a").unwrap().tries.failures, 0);
    assert!(due(&schedule, DAY).is_empty());
}

#[test]
fn failures_are_remembered_when_the_certificate_is_removed() {
    let mut schedule = schedule(&["a"]);
    schedule.hold("a", Some(ninety_days(0)));
    schedule.ended("a", OrderOutcome::Failed(FailureKind::Refused, "no".into()), 61 * DAY, 1.0);
    schedule.hold("a", None);
    assert!(due(&schedule, 61 * DAY).is_empty(), "a server that says no is not asked more often for it");
}

#[test]
fn a_name_that_another_process_has_locked_is_checked_again() {
    let mut schedule = schedule(&["a"]);
    schedule.started("a");
    schedule.ended("a", OrderOutcome::Busy, 100, 0.5);
    assert_eq!((due(&schedule, 101), due(&schedule, 102)), (vec![], vec!["a".to_owned()]));
    schedule.ended("a", OrderOutcome::Stands(Some(ninety_days(100)), Tries::default()), 102, 0.5);
    assert!(due(&schedule, DAY).is_empty());
}

#[test]
fn an_old_new_certificate_causes_no_endless_orders() {
    let mut schedule = schedule(&["a"]);
    let old = |now| OrderOutcome::Issued(Term { not_before: now - 10 * DAY, not_after: now + HOUR });
    let orders = pass(&mut schedule, 0, HOUR, |_, now| old(now));
    assert_eq!(orders.len(), 2, "{orders:?}");
}

#[test]
fn a_certificate_with_early_renewal_advice_is_replaced_at_once_and_not_in_a_loop() {
    let mut schedule = schedule(&["a"]);
    schedule.ended("a", OrderOutcome::Issued(ninety_days(0)), 0, 0.5);
    assert_eq!(schedule.to_ask(DAY), [Arc::<str>::from("a")]);
    schedule.advise("a", 2 * DAY, Some((ninety_days(0), (DAY - HOUR, DAY - HOUR))), 0.5);
    assert_eq!((schedule.to_ask(DAY).len(), due(&schedule, DAY)), (0, vec!["a".to_owned()]));
    schedule.ended("a", OrderOutcome::Failed(FailureKind::Refused, "no".into()), DAY, 1.0);
    assert_eq!((due(&schedule, DAY + 59), due(&schedule, DAY + 60)), (vec![], vec!["a".to_owned()]));
    schedule.ended("a", OrderOutcome::Issued(ninety_days(DAY)), DAY + 60, 1.0);
    assert!(due(&schedule, 2 * DAY).is_empty(), "it was said of the one before");
    schedule.advise("a", 3 * DAY, Some((ninety_days(0), (DAY, DAY))), 0.5);
    assert!(due(&schedule, 2 * DAY).is_empty(), "and so is an answer that comes late");
    schedule.advise("a", 3 * DAY, Some((ninety_days(DAY), (0, 0))), 0.5);
    assert_eq!(due(&schedule, DAY + 119), Vec::<String>::new(), "whatever it says, not twice a minute");
    assert_eq!(due(&schedule, DAY + 120), ["a"]);
}

#[test]
fn renewal_advice_after_two_thirds_changes_nothing() {
    let mut schedule = schedule(&["a"]);
    schedule.hold("a", Some(ninety_days(0)));
    schedule.advise("a", DAY, Some((ninety_days(0), (80 * DAY, 80 * DAY))), 0.5);
    assert_eq!((due(&schedule, 60 * DAY - 1), due(&schedule, 60 * DAY)), (vec![], vec!["a".to_owned()]));
}

#[test]
fn names_are_added_and_removed() {
    let mut schedule = schedule(&["a", "b"]);
    schedule.ended("a", OrderOutcome::Issued(ninety_days(0)), 0, 0.5);
    schedule.want(&["a".into(), "c".into()]);
    assert_eq!(due(&schedule, 1), ["c"]);
    assert!(schedule.of("b").is_none());
    schedule.ended("b", OrderOutcome::Issued(ninety_days(0)), 0, 0.5);
    assert!(schedule.of("b").is_none(), "an order that ends after its name is gone");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// For all server results: the name is ordered again, but never too often, and an issued certificate is kept.
    #[test]
    fn no_server_gets_too_many_orders_and_every_name_is_ordered(outcomes in prop::collection::vec(0..5u8, 1..40), chance in 0.0..=1.0f64) {
        let mut schedule = schedule(&["a"]);
        let (mut now, mut at) = (0i64, Vec::new());
        for outcome in outcomes {
            let name_state = schedule.of("a").unwrap();
            now = now.max(name_state.due()).max(now + 2);
            prop_assert_eq!(due(&schedule, now), vec!["a".to_owned()]);
            at.push(now);
            schedule.started("a");
            schedule.ended("a", match outcome {
                0 => OrderOutcome::Failed(FailureKind::Unreachable, String::new()),
                1 => OrderOutcome::Failed(FailureKind::Refused, String::new()),
                2 => OrderOutcome::Failed(FailureKind::Limited(Some(1_000)), String::new()),
                3 => OrderOutcome::Failed(FailureKind::Local, String::new()),
                _ => OrderOutcome::Issued(Term { not_before: now, not_after: now + 9 * DAY }),
            }, now, chance);
            let name_state = schedule.of("a").unwrap();
            prop_assert!(name_state.due() > now);
            prop_assert!(name_state.due() <= now + 7 * DAY);
            if outcome == 4 {
                prop_assert_eq!(name_state.due(), now + 6 * DAY);
            }
        }
        prop_assert!(at.windows(2).all(|pair| pair[1] > pair[0]));
    }
}
