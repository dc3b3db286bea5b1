//! Requests that could be served are served: other backends, stale connections, statuses, the budget.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::{Client, Config, Origin, Reply, Weir, spare};

fn weir<A: Display>(backends: &[(&str, A)], retry: &str) -> Weir {
    let config = Config::to_all(backends)
        .set("routes.all.timeouts.read", "1s")
        .set("routes.all.retry", retry)
        .set("upstreams.up.outlier", "off");
    Weir::start(config)
}

#[test]
fn a_post_goes_elsewhere_when_a_backend_does_not_listen() {
    let origin = Origin::start(|request| Reply::new(200, &request.body));
    let weir = weir(&[("dead", spare()), ("live", origin.address())], "");
    let mut client = Client::connect(weir.web());
    for turn in 0..20 {
        let body = format!("body {turn}");
        let response = client.post("/", body.as_bytes());
        assert_eq!((response.status, response.text()), (200, body));
    }
    weir.wait_for_at_least(&["weir_backend_retries_total", "backend=\"dead\"", "connect"], 9.0);
    let log = weir.access_log_of(20);
    let retried = log.iter().find(|line| line["attempts"].as_array().unwrap().len() == 2).unwrap();
    assert_eq!(retried["attempts"][0]["outcome"], "connect_error");
    assert_eq!(retried["attempts"][1]["outcome"], "ok");
    assert_eq!(retried["backend"], "live");
    assert_eq!(retried["fault"], serde_json::Value::Null);
}

#[test]
fn a_get_is_tried_elsewhere_when_a_backend_breaks_off_a_post_is_not() {
    let bad = Origin::start(|_| Reply::hang_up());
    let good = Origin::named("good");
    let weir = weir(&[("bad", &bad), ("good", &good)], "");
    let mut client = Client::connect(weir.web());
    assert!((0..6).all(|_| client.get("/").text() == "good"));
    let statuses: Vec<_> = (0..2).map(|_| Client::connect(weir.web()).post("/", b"x").status).collect();
    assert!(statuses.contains(&502) && statuses.contains(&200), "{statuses:?}");
}

#[test]
fn a_stale_connection_is_replaced_by_a_fresh_one_to_the_same_backend() {
    // The origin answers once on each connection and closes it only when the next request has come.
    let served = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&served);
    let origin = Origin::raw(move |mut stream| {
        use std::io::{Read, Write};
        let mut bin = [0; 4096];
        if stream.read(&mut bin).unwrap_or(0) > 0 {
            count.fetch_add(1, Ordering::AcqRel);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            let _ = stream.read(&mut bin);
        }
    });
    let weir = weir(&[("a", &origin)], "attempts: 1");
    let mut client = Client::connect(weir.web());
    for _ in 0..5 {
        assert_eq!(client.get("/").text(), "ok");
    }
    assert_eq!(served.load(Ordering::Acquire), 5);
}

#[test]
fn a_status_is_worth_another_try_only_if_it_is_listed_and_the_last_one_passes() {
    let bad = Origin::start(|_| Reply::with(503, &[("Retry-After", "7")], "bad"));
    let good = Origin::named("good");
    let both = weir(&[("bad", &bad), ("good", &good)], "when: [connect, 503]");
    let mut client = Client::connect(both.web());
    assert!((0..6).all(|_| client.get("/").text() == "good"));
    both.wait_for_at_least(&["weir_backend_retries_total", "reason=\"503\""], 2.0);
    let alone = weir(&[("bad", &bad)], "when: [503]");
    let response = Client::connect(alone.web()).get("/");
    assert_eq!((response.status, response.header("retry-after"), response.text().as_str()), (503, Some("7"), "bad"));
    let unlisted = weir(&[("bad", &bad), ("good", &good)], "");
    let statuses: Vec<_> = (0..2).map(|_| Client::connect(unlisted.web()).get("/").status).collect();
    assert!(statuses.contains(&503), "{statuses:?}");
}

#[test]
fn a_timeout_is_tried_elsewhere_only_if_listed() {
    let slow = Origin::start(|_| Reply::new(200, "slow").after(Duration::from_secs(3)));
    let good = Origin::named("good");
    let weir = weir(&[("slow", &slow), ("good", &good)], "when: [timeout]");
    let mut client = Client::connect(weir.web());
    assert!((0..2).all(|_| client.get("/").text() == "good"));
    weir.wait_for_at_least(&["weir_backend_attempts_total", "backend=\"slow\"", "timeout"], 1.0);
}

#[test]
fn attempts_are_bounded_and_1_means_no_retry() {
    let bad = Origin::start(|_| Reply::hang_up());
    let weir = weir(&[("bad", &bad)], "attempts: 1");
    assert_eq!(Client::connect(weir.web()).get("/").status, 502);
    assert_eq!(bad.requests().len(), 1);
}

#[test]
fn the_budget_bounds_retries_when_everything_fails() {
    let bad = Origin::start(|_| Reply::hang_up());
    let weir = weir(&[("bad", &bad)], "attempts: 3, budget: 0%");
    for _ in 0..200 {
        assert_eq!(Client::connect(weir.web()).get("/").status, 502);
    }
    // The floor alone: 10 a second, for the seconds this took and the window that is open.
    let retries = weir.sum(&["weir_backend_retries_total"]);
    assert!(retries < 200.0, "{retries} retries of 200 requests without a share");
}

#[test]
fn a_floor_of_nothing_leaves_only_the_share() {
    let bad = Origin::start(|_| Reply::hang_up());
    let weir = weir(&[("bad", &bad)], "attempts: 3, budget: 0%, floor: 0");
    assert_eq!(Client::connect(weir.web()).get("/").status, 502);
    assert_eq!(bad.requests().len(), 1);
}

#[test]
fn a_backoff_spreads_tries_and_ends_with_the_deadline() {
    let bad = Origin::start(|_| Reply::new(503, "bad"));
    let config = |retry: &str, request: &str| {
        Config::to(&bad)
            .set("routes.all.timeouts.request", request)
            .set("routes.all.retry.when", "[503]")
            .set("routes.all.retry", retry)
    };
    let weir = Weir::start(config("attempts: 6, backoff: 20ms", "0s"));
    let started = std::time::Instant::now();
    assert_eq!(Client::connect(weir.web()).get("/").text(), "bad");
    // Up to 20 + 40 + 80 + 160 + 320 ms; all five near nothing is one in millions.
    assert!(started.elapsed() > Duration::from_millis(10) && bad.requests().len() == 6);
    let late = Weir::start(config("attempts: 16, backoff: 10s", "300ms"));
    assert_eq!(Client::connect(late.web()).get("/").status, 504);
}

#[test]
fn a_backend_that_sends_retry_after_is_not_retried_and_its_response_passes() {
    let busy = || Origin::start(|_| Reply::with(503, &[("Retry-After", "7")], "busy"));
    let (a, b) = (busy(), busy());
    let alone = weir(&[("a", &a)], "when: [503]");
    assert_eq!(Client::connect(alone.web()).get("/").header("retry-after"), Some("7"));
    assert_eq!(a.requests().len(), 1, "nobody else to go to");
    let both = weir(&[("a", &a), ("b", &b)], "when: [503], attempts: 5");
    assert_eq!(Client::connect(both.web()).get("/").header("retry-after"), Some("7"));
    assert_eq!((a.requests().len(), b.requests().len()), (2, 1), "each once");
}
