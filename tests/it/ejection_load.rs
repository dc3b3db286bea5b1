//! Traffic while many backends are ejected at once: its latency must not show that members are built anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Client, Config, Origin, Pace, Reply, Weir, eventually, size, stays};

const BACKENDS: usize = 50;
const EJECTED: usize = 20;
const CLIENTS: usize = 4;

/// Requests at a fixed rate on connections of their own until told to stop: (when, how long, status).
fn load(weir: &Weir, stop: &Arc<AtomicBool>) -> Vec<std::thread::JoinHandle<Vec<(Instant, Duration, u16)>>> {
    let (address, pause) = (weir.web(), Duration::from_millis(size("WEIR_PAUSE_MS", 8) as u64));
    let client = |c: usize| {
        let stop = Arc::clone(stop);
        std::thread::spawn(move || {
            let (mut client, mut seen, mut pace) = (Client::connect(address), Vec::new(), Pace::every(pause));
            for n in 0_usize.. {
                if stop.load(Ordering::Acquire) {
                    break;
                }
                pace.tick();
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
    let backends: Vec<_> = origins.iter().enumerate().map(|(n, origin)| (format!("b{n}"), origin)).collect();
    let config = Config::to_all(&backends)
        .without_access_log()
        .set("server.threads", 1)
        .set("upstreams.up", "balance: consistent_hash, hash: { path: {} }, outlier: {}");
    let weir = Weir::start(config);
    let stop = Arc::new(AtomicBool::new(false));
    let clients = load(&weir, &stop);
    let ejected = || weir.sum(&["weir_backend_state{", "\"ejected\""]);
    stays("none is ejected", Duration::from_secs(8), || ejected() == 0.0);
    let began = Instant::now();
    let mut pace = Pace::every(Duration::from_millis(250));
    for n in 1..=EJECTED {
        failing.store(n, Ordering::Release);
        pace.tick();
    }
    eventually("20 are ejected", || ejected() == EJECTED as f64);
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
