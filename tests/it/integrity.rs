//! Bodies arrive whole, whatever their size and framing, and each backend gets exactly its share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::{Digest, Sha256};

use crate::support::client::chunks;
use crate::support::echo::Faults;
use crate::support::{Client, Config, Echo, Random, Weir, size};

const LARGEST: f64 = 4.0 * 1024.0 * 1024.0;

/// Of `count` sizes evenly spread on a log scale, the one at `turn`; the first is 0.
fn size_of(turn: usize, count: usize) -> usize {
    if turn == 0 { 0 } else { LARGEST.powf(turn as f64 / (count - 1) as f64).round() as usize }
}

/// Posts a body and compares what comes back with it.
fn post_and_compare(client: &mut Client, turn: usize, body: &[u8], random: &mut Random) {
    if turn % 3 == 1 {
        client.send("POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send(chunks(body, 1 + random.below(100_000)));
    } else {
        client.send(format!("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", body.len()));
        client.send(body);
    }
    let response = client.response("POST");
    assert_eq!(response.status, 200, "request {turn} of {} bytes: {}", body.len(), response.text());
    assert_eq!(Sha256::digest(&response.body), Sha256::digest(body), "request {turn} of {} bytes", body.len());
}

/// Each thread takes the next size until all are done, so that small and large are under way at once.
fn post_all(address: SocketAddr, count: usize) {
    let next = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let next = Arc::clone(&next);
            std::thread::spawn(move || {
                let mut client = Client::connect(address);
                loop {
                    let turn = next.fetch_add(1, Ordering::AcqRel);
                    if turn >= count {
                        return;
                    }
                    let mut random = Random::new(turn as u64);
                    // Neighbours in time are not neighbours in size.
                    let body = random.bytes(size_of(turn * 7919 % count, count));
                    post_and_compare(&mut client, turn, &body, &mut random);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

/// What each of three backends with these weights got.
fn shares(balance: &str, weights: [u16; 3], count: usize) -> [usize; 3] {
    let echoes = ["a", "b", "c"].map(|name| Echo::start(name, Faults::default()));
    let [a, b, c] = [0, 1, 2].map(|at| (echoes[at].address(), format!("weight: {}", weights[at])));
    let config = Config::new()
        .without_access_log()
        .route("all", "upstream: up")
        .set("upstreams.up.balance", balance)
        .backend("up.a", a.0, a.1)
        .backend("up.b", b.0, b.1)
        .backend("up.c", c.0, c.1);
    let weir = Weir::start(config);
    post_all(weir.web(), count);
    weir.wait_for(&["weir_backend_in_flight"], 0.0);
    assert_eq!(weir.sum(&["weir_backend_retries_total"]), 0.0);
    assert_eq!(weir.sum(&["weir_faults_total"]), 0.0);
    let shares = [0, 1, 2].map(|i| echoes[i].served());
    assert_eq!(shares.iter().sum::<usize>(), count);
    shares
}

/// `count` is a multiple of 9, so that every share is a whole number.
fn every_balancer_delivers(count: usize) {
    assert_eq!(count % 9, 0);
    assert_eq!(shares("round_robin", [1, 1, 1], count), [count / 3; 3]);
    assert_eq!(shares("weighted_round_robin", [5, 3, 1], count), [count / 9 * 5, count / 9 * 3, count / 9]);
    let [a, b, c] = shares("least_connections", [5, 3, 1], count);
    // Four at once rarely make a place that a third of weight 1 would win; how near a and b come depends on the machine.
    assert!(a > c && b > c, "{a}, {b}, {c}");
}

#[test]
fn every_body_arrives_whole_and_weights_are_met_exactly() {
    every_balancer_delivers(108);
}

#[test]
#[ignore = "long: 3,006 bodies through each balancer"]
fn every_body_arrives_whole_and_weights_are_met_exactly_at_full_size() {
    every_balancer_delivers(size("WEIR_SOAK_BODIES", 3006) / 9 * 9);
}
