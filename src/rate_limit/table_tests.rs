//! Tests of the table: floods of keys, debts, and the memory.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use super::*;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;

fn table(tokens: u64, burst: u64, capacity: usize) -> BucketTable {
    BucketTable::new(Gcra::new(tokens, Duration::from_secs(1), burst), capacity, Arc::default())
}

/// Spreads small numbers over the parts.
fn key(number: u64) -> KeyHash {
    KeyHash::new(number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn take(table: &BucketTable, number: u64, cost: u64, now: u64) -> Result<Taken, Exceeded> {
    table.take(key(number), || KeyLabel::Secret(*b"test"), cost, now)
}

/// The bytes that the table holds.
fn capacity_bytes(table: &BucketTable) -> usize {
    table.parts.iter().map(|part| part.lock().capacity_bytes()).sum()
}

fn flood(keys: u64) {
    let table = table(10, 10, 1_000);
    let mut size = 0;
    for number in 0..keys {
        let _ = take(&table, number, 1, SECOND + number * 1_000);
        if number == 20_000 {
            size = capacity_bytes(&table);
        }
    }
    assert!(table.len() <= 1_000 && table.gauge.load(Relaxed) <= 1_000, "{}", table.len());
    // A part may take a larger share of the buckets for a while.
    assert!(capacity_bytes(&table) <= 2 * size, "{size} bytes became {}", capacity_bytes(&table));
    assert!(capacity_bytes(&table) < 1_000 * 1_000, "{} bytes", capacity_bytes(&table));
}

#[test]
fn memory_is_flat_over_a_flood_of_random_keys() {
    flood(200_000);
}

#[test]
#[ignore = "takes long: make soak"]
fn memory_is_flat_over_ten_million_random_keys() {
    flood(10_000_000);
}

#[test]
fn a_debtor_stays_a_debtor_through_a_flood_of_keys() {
    let table = table(1, 5, 100);
    for _ in 0..5 {
        take(&table, 0, 1, SECOND).unwrap();
    }
    assert!(take(&table, 0, 1, SECOND).is_err());
    for number in 1..100_000 {
        let _ = take(&table, number, 1, SECOND + number);
    }
    assert!(take(&table, 0, 1, SECOND + 100_000).is_err(), "its debt is not forgotten");
    assert_eq!(table.len(), 100);
}

#[test]
fn a_new_key_with_the_least_debt_is_judged_by_the_shared_bucket() {
    let table = table(1, 3, 10);
    for number in 0..10 {
        take(&table, number, 2, SECOND).unwrap();
    }
    let admitted = (10..1_000).filter(|number| take(&table, *number, 1, SECOND).is_ok()).count();
    assert_eq!(admitted, 3, "all of them together have one burst");
    assert!((0..10).all(|number| table.gcra().debt(table.state(key(number)), SECOND) == 2), "no key is displaced");
    take(&table, 5_000, 3, SECOND).unwrap();
    assert_eq!(table.gcra().debt(table.state(key(5_000)), SECOND), 3, "a larger debt displaces a smaller one");
    assert_eq!(table.largest(20, SECOND).len(), 10);
    assert_eq!(table.largest(1, SECOND)[0].debt, 3);
}

#[test]
fn a_full_table_takes_new_keys_once_old_debts_have_run_out() {
    let table = table(1, 3, 10);
    for number in 0..10 {
        take(&table, number, 3, SECOND).unwrap();
    }
    for number in 10..20 {
        take(&table, number, 3, 10 * SECOND).unwrap();
    }
    assert!((10..20).all(|number| take(&table, number, 1, 10 * SECOND).is_err()));
    assert_eq!((table.len(), table.gauge.load(Relaxed)), (10, 10));
    let gauge = Arc::clone(&table.gauge);
    drop(table);
    assert_eq!(gauge.load(Relaxed), 0);
}

#[test]
fn concurrent_requests_overshoot_by_no_more_than_one_reservation() {
    let (budget, reserve) = (10_000, 1_000);
    let table = Arc::new(table(1, budget, 100));
    let threads: Vec<_> = (0..100u64)
        .map(|number| {
            let table = Arc::clone(&table);
            std::thread::spawn(move || {
                let taken = take(&table, 7, reserve, SECOND).ok()?;
                let used = (number * 97) % (reserve + 1);
                table.settle(taken, used, SECOND);
                Some(used)
            })
        })
        .collect();
    let used: u64 = threads.into_iter().filter_map(|thread| thread.join().unwrap()).sum();
    assert!(used > 0 && used <= budget + reserve, "{used}");
    assert_eq!(table.gcra().debt(table.state(key(7)), SECOND), used, "the debt is that which was used");
}

#[test]
fn a_cost_above_the_reservation_becomes_debt() {
    let table = table(10, 100, 100);
    let taken = take(&table, 1, 10, SECOND).unwrap();
    table.settle(taken, 250, SECOND);
    let Err(Exceeded(wait)) = take(&table, 1, 10, SECOND) else { panic!("admitted") };
    assert_eq!(wait, Duration::from_secs(16));
    assert!(take(&table, 1, 10, 17 * SECOND).is_ok());
}

#[test]
fn a_cost_is_charged_though_the_bucket_was_given_up_meanwhile() {
    let table = table(10, 100, 2);
    let taken = take(&table, 1, 1, SECOND).unwrap();
    take(&table, 2, 50, SECOND).unwrap();
    take(&table, 3, 50, SECOND).unwrap();
    assert_eq!(table.state(key(1)), Tat::default(), "key 1 has no bucket");
    table.settle(taken, 90, SECOND);
    assert_eq!(table.gcra().debt(table.state(key(1)), SECOND), 89);
    assert_eq!((table.len(), table.gauge.load(Relaxed)), (2, 2));
    assert!(take(&table, 1, 20, SECOND).is_err());
}

proptest! {
    #[test]
    fn each_key_has_its_own_limit_and_the_table_its_bound(
        steps in prop::collection::vec((0u64..30, 0u64..500_000_000), 1..300), capacity in 1usize..40,
    ) {
        let table = table(2, 4, capacity);
        let (mut now, mut admitted) = (SECOND, std::collections::BTreeMap::<u64, u64>::new());
        for (number, pause) in steps {
            now += pause;
            if take(&table, number, 1, now).is_ok() {
                *admitted.entry(number).or_default() += 1;
            }
            prop_assert!(table.len() <= capacity);
        }
        if capacity >= 30 {
            let most = 4 + 2 * (now - SECOND) / SECOND + 1;
            prop_assert!(admitted.values().all(|count| *count <= most));
        }
    }
}

#[test]
fn debts_pass_to_the_table_of_another_process_and_nothing_is_forgiven() {
    let (old, new) = (table(10, 10, 3), table(10, 10, 3));
    for (number, cost) in [(1, 10), (2, 4), (3, 2)] {
        take(&old, number, cost, 7 * SECOND).unwrap();
    }
    // The other process has a clock of its own.
    let now = 1_000 * SECOND;
    take(&new, 1, 1, now).unwrap();
    old.debts(2, 7 * SECOND).into_iter().for_each(|debt| new.adopt_debt(debt, now));
    assert_eq!(
        new.largest(9, now).iter().map(|debtor| debtor.debt).collect::<Vec<_>>(),
        [10, 4],
        "only the largest two"
    );
    assert_eq!((new.len(), new.gauge.load(Relaxed)), (2, 2));
    assert!(take(&new, 1, 1, now).is_err() && take(&new, 1, 1, now + SECOND / 10).is_ok());
    assert!(take(&new, 2, 7, now).is_err() && take(&new, 2, 6, now).is_ok());
    // A full table: what has no place of its own is owed by the shared bucket.
    let full = table(10, 10, 1);
    take(&full, 9, 9, now).unwrap();
    old.debts(9, 7 * SECOND).into_iter().rev().for_each(|debt| full.adopt_debt(debt, now));
    assert_eq!(full.len(), 1);
    assert!(full.debts(9, now).iter().any(|debt| debt.key.is_none()));
    assert!(old.debts(9, 60 * SECOND).is_empty(), "debts that have run out do not pass");
}
