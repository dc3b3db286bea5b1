//! The rules of HTTP/2 and HPACK as h2spec asks for them (RFC 7540, 7541), case by case and in its numbers, through TLS and
//! in plain. A case passes as it does there: an error may be answered by GOAWAY or RST_STREAM with one of the codes that it
//! names, or by the end of the connection.

mod frames;
mod generic;
mod hpack;
mod messages;
mod peer;
mod streams;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use peer::{Peer, Target, Verdict};

use crate::support::{Config, EDGE, LISTENER_TLS, Origin, Reply, Weir};

/// A case: its place in h2spec's list, what it is about, and what it does.
type Case = (&'static str, &'static str, fn(&mut Peer) -> Verdict);

/// All of h2spec's, those of `--strict` too.
const CASES: usize = 149;

fn cases() -> Vec<Case> {
    [generic::CASES, streams::CASES, frames::CASES, messages::CASES, hpack::CASES].concat()
}

fn weir(origin: &Origin) -> Weir {
    let config = Config::to(origin).without_access_log().listener("tls", LISTENER_TLS);
    Weir::start_in(EDGE.files().0, config)
}

/// Runs all cases, a few at a time; what failed.
fn failures(target: &Target) -> Vec<String> {
    let (cases, next, failed) = (cases(), AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some((place, about, run)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(why) = run(&mut Peer::connect(target)) {
                        failed.lock().unwrap().push(format!("{place} {about}: {why}"));
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap()
}

fn holds(listener: &str) {
    let origin = Origin::start(|_| Reply::new(200, "a body of some bytes"));
    let weir = weir(&origin);
    let target = Target::new(weir.address(listener), listener == "tls");
    let failures = failures(&target);
    assert!(failures.is_empty(), "{} of {CASES}:\n{}", failures.len(), failures.join("\n"));
    weir.wait_for(&["weir_requests_in_flight"], 0.0);
    weir.wait_for(&["weir_backend_in_flight"], 0.0);
    assert_eq!(weir.sum(&["weir_panics_total"]), 0.0);
}

#[test]
fn the_rules_of_http2_hold_in_plain() {
    holds("web");
}

#[test]
fn the_rules_of_http2_hold_under_tls() {
    holds("tls");
}

#[test]
fn no_case_is_missing_or_twice() {
    let mut places: Vec<_> = cases().iter().map(|(place, ..)| *place).collect();
    places.sort_unstable();
    places.dedup();
    assert_eq!(places.len(), CASES);
}
