//! Traffic while many backends are ejected at once: its latency must not show that members are built anew.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Client, Origin, Reply, Weir, eventually, size};

const BACKENDS: usize = 50;
const EJECTED: usize = 20;
const CLIENTS: usize = 4;

/// Requests at a fixed rate on connections of their own until told to stop: (when, how long, status).
fn load(weir: &Weir, stop: &Arc<AtomicBool>) -> Vec<std::thread::JoinHandle<Vec<(Instant, Duration, u16)>>> {
    let (address, pause) = (weir.web(), Duration::from_millis(size("WEIR_PAUSE_MS", 8) as u64));
    let client = |c: usize| {
        let stop = Arc::clone(stop);
        std::thread::spawn(move || {
            let (mut client, mut seen, mut next) = (Client::connect(address), Vec::new(), Instant::now());
            for n in 0_usize.. {
                if stop.load(Ordering::Acquire) {
                    break;
                }
                next += pause;
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
                let began = Instant::now();
                let status = client.get(&format!("/{c}/{n}")).status;
                seen.push((began, began.elapsed(), status));
            }
            seen
        })
    };
    (0..CLIENTS).map(client).collect()
}

fn p99(times: impl Iterator<Item = Duration>) -> Duration {
    let mut all: Vec<_> = times.collect();
    all.sort_unstable();
    all[all.len() * 99 / 100]
}

#[test]
#[ignore = "measures latency: wants a quiet machine"]
fn p99_of_traffic_while_20_of_50_backends_are_ejected_under_consistent_hash_is_within_one_and_a_half_of_before() {
    // One after the other begins to fail.
    let failing = Arc::new(AtomicUsize::new(0));
    let origin = |n: usize| {
        let failing = Arc::clone(&failing);
        Origin::start(move |_| match n < failing.load(Ordering::Acquire) {
            true => Reply::new(500, "failed"),
            false => Reply::new(200, "ok"),
        })
    };
    let origins: Vec<_> = (0..BACKENDS).map(origin).collect();
    let mut backends = String::new();
    for origin in &origins {
        let _ = write!(backends, "{{ address: \"{}\" }}, ", origin.address());
    }
    let weir = Weir::start(&format!(
        "access_log: {{ path: \"off\" }}\nserver: {{ threads: 1 }}\nlisteners: [{{ name: web, address: \"127.0.0.1:0\" }}]\n\
         routes: [{{ name: all, upstream: up }}]\n\
         upstreams: {{ up: {{ balance: consistent_hash, hash: {{ path: {{}} }}, outlier: {{}}, backends: [{backends}] }} }}"
    ));
    let stop = Arc::new(AtomicBool::new(false));
    let clients = load(&weir, &stop);
    std::thread::sleep(Duration::from_secs(8));
    let began = Instant::now();
    for n in 1..=EJECTED {
        failing.store(n, Ordering::Release);
        std::thread::sleep(Duration::from_millis(250));
    }
    eventually("20 are ejected", || {
        (weir.sum(&["weir_backend_state{", "\"ejected\""]) == EJECTED as f64).then_some(())
    });
    let ended = Instant::now();
    stop.store(true, Ordering::Release);
    let all: Vec<_> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    let before = p99(all
        .iter()
        .filter(|(at, ..)| *at < began && *at > began - Duration::from_secs(6))
        .map(|(_, took, _)| *took));
    let during = p99(all.iter().filter(|(at, ..)| (began..ended).contains(at)).map(|(_, took, _)| *took));
    let failed = all.iter().filter(|(.., status)| *status != 200).count();
    println!("p99 before {before:?}, during {during:?} ({:?}), {failed} answered 500 of {}", ended - began, all.len());
    assert!(during <= before.mul_f64(1.5), "p99 before {before:?}, during {during:?}");
}
