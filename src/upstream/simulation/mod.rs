//! Seeded simulation of a whole upstream: requests arrive, wait, fail, are retried, leave and panic.
//!
//! Meanwhile backends fail and recover, operators set overrides and configurations are reloaded. The invariants are
//! checked after each event. It tests the real modules on one thread with a virtual clock and without I/O. So the same
//! seed always gives the same trace. It never measures performance. A `Plan` defines the algorithm and the
//! probabilities; the `Ledger` is the oracle. `WEIR_SIM_SEED` repeats one seed, and `WEIR_SIM_EVENTS` sets the number
//! of events.

#![allow(clippy::unwrap_used, clippy::panic)]

mod backends;
mod distribution;
mod driver;
mod oracle;
mod params;
mod reference_queue;
mod request;

use driver::{Summary, World};
use params::{Plan, WORLDS};

/// Runs one simulation. Prints the seed if it fails.
fn run(plan: Plan, seed: u64, events: u64) -> Summary {
    struct Said(String);
    impl Drop for Said {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("{}", self.0);
            }
        }
    }
    let said = Said(format!("{plan:?}: repeat with WEIR_SIM_SEED={seed} WEIR_SIM_EVENTS={events}"));
    // Each simulation has its own thread, because balancers use the random generator of the thread.
    let world = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(tokio::task::unconstrained(async { World::new(plan, seed).run(events).await }))
    };
    let outcome = std::thread::spawn(world).join();
    let summary = outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    drop(said);
    summary
}

fn from_env(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

/// Runs all plans for each seed.
fn all(seeds: std::ops::Range<u64>, events: u64) -> Summary {
    let seeds = from_env("WEIR_SIM_SEED").map_or(seeds, |seed| seed..seed + 1);
    let events = from_env("WEIR_SIM_EVENTS").unwrap_or(events);
    let mut sum = Summary::default();
    for seed in seeds {
        for plan in WORLDS {
            // These plans spend most of their time in building hash tables.
            let events = if plan.changes_seldom() { events / 3 } else { events };
            sum += run(plan, seed, events);
        }
    }
    sum
}

#[test]
fn invariants_hold_for_random_events() {
    let sum = all(1..2, 6_000);
    assert!(sum.is_telling(), "a check that is never made checks nothing: {sum:?}");
}

#[test]
#[ignore = "long: make soak"]
fn invariants_hold_through_millions_of_events() {
    let started = std::time::Instant::now();
    let sum = all(100..104, 100_000);
    println!("{sum:#?} in {:.1?}", started.elapsed());
    assert!(sum.is_telling() && (sum.events >= 1_000_000 || from_env("WEIR_SIM_EVENTS").is_some()), "{sum:?}");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let plan = WORLDS[2];
    let [first, again, other] = [7, 7, 8].map(|seed| run(plan, seed, 4_000).trace);
    assert_eq!(first, again);
    assert_ne!(first, other);
}
