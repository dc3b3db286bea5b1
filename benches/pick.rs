//! Benchmark of a pick: nanoseconds and allocations for each balancer, with 10 to 10,000 backends, on 1 and 2 threads.
//!
//! A pick includes the end of its attempt. Backends have weights 1 to 4 (equal weights for round_robin). Every eighth
//! backend has a request in flight, and all have a latency, so that no balancer takes a shortcut. There is no pass or
//! fail, only figures. Run it with `make bench-pick`. `PICK_MS` is the time per figure in milliseconds (default 200).
#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use weir::backend::InFlight;
use weir::backend::{BackendState, Labels};
use weir::config::schema::Balance;
use weir::upstream::balance::{Balancer, Settings, Slot, Tried};

const NOW: u64 = 1_700_000_000_000;

const ALL: [(&str, Balance, Option<f64>); 8] = [
    ("round_robin", Balance::RoundRobin, None),
    ("weighted_round_robin", Balance::WeightedRoundRobin, None),
    ("least_connections", Balance::LeastConnections, None),
    ("p2c", Balance::P2c, None),
    ("peak_ewma", Balance::PeakEwma, None),
    ("random", Balance::Random, None),
    ("consistent_hash", Balance::ConsistentHash, None),
    ("… load_factor 1.25", Balance::ConsistentHash, Some(1.25)),
];

const SIZES: [usize; 4] = [10, 100, 1_000, 10_000];

fn main() {
    let millis = std::env::var("PICK_MS").ok().and_then(|text| text.parse().ok()).unwrap_or(200);
    let time = Duration::from_millis(millis);
    for threads in [1, 2] {
        println!("\nnanoseconds a pick, {threads} thread{}; backends:", if threads == 1 { "" } else { "s" });
        println!("{:<22}{}   allocations", "", SIZES.map(|size| format!("{size:>10}")).concat());
        for (name, balance, load_factor) in ALL {
            let results = SIZES.map(|size| measure(Settings { balance, load_factor }, size, threads, time));
            let figures = results.map(|(nanos, _)| format!("{nanos:>10.1}")).concat();
            println!("{name:<22}{figures}   {}", results.iter().map(|(_, allocations)| allocations).sum::<u64>());
        }
    }
}

/// Nanoseconds per pick as each thread sees it, and allocations of all picks.
fn measure(settings: Settings, size: usize, threads: u32, time: Duration) -> (f64, u64) {
    let (balancer, _in_flight) = balancer(settings, size);
    let stop = AtomicBool::new(false);
    let results = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|n| {
                scope.spawn({
                    let (balancer, stop) = (&balancer, &stop);
                    move || picks(balancer, stop, u64::from(n))
                })
            })
            .collect();
        std::thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        workers.into_iter().map(|worker| worker.join().unwrap()).collect::<Vec<_>>()
    });
    let nanos = results.iter().map(|(nanos, _)| nanos).sum::<f64>() / f64::from(threads);
    (nanos, results.iter().map(|(_, allocations)| allocations).sum())
}

fn balancer(settings: Settings, size: usize) -> (Balancer, Vec<InFlight>) {
    let mut in_flight = Vec::new();
    let slot = |n: usize| {
        let name: Arc<str> = format!("10.{}.{}.{}:80", n >> 16, (n >> 8) & 255, n & 255).into();
        let backend_state =
            Arc::new(BackendState::new(Labels { upstream: "u".into(), backend: Arc::clone(&name), address: name }));
        backend_state.load().set_decay(Duration::from_secs(10));
        backend_state.load().observe(Duration::from_millis(5), NOW);
        if n.is_multiple_of(8) {
            in_flight.push(backend_state.raise());
        }
        Slot::new(backend_state, if settings.balance == Balance::RoundRobin { 1 } else { 1 + (n % 4) as u16 })
    };
    let slots = (0..size).map(slot).collect();
    (Balancer::new(settings, slots), in_flight)
}

/// Picks until `stop` is set.
fn picks(balancer: &Balancer, stop: &AtomicBool, salt: u64) -> (f64, u64) {
    let tried = Tried::default();
    let mut key = salt;
    // Not counted: the first pick of a thread seeds its random number generator.
    drop(balancer.pick(&tried, NOW, Some(key)));
    let (started, mut count) = (Instant::now(), 0_u64);
    let allocations = allocation_counter::measure(|| {
        while !stop.load(Ordering::Relaxed) {
            for _ in 0..16 {
                key = key.wrapping_add(0x9E37_79B9_7F4A_7C15);
                drop(black_box(balancer.pick(&tried, NOW, Some(key))));
            }
            count += 16;
        }
    });
    (started.elapsed().as_nanos() as f64 / count as f64, allocations.count_total)
}
