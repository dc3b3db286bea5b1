//! Active health checks: verdicts, rise and fall, fail-open, and what traffic sees of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{Client, Config, Origin, Reply, Weir, eventually};

fn with_check(origins: &[(&str, &Origin)], check: &str) -> Weir {
    let config = Config::to_all(origins)
        .set("upstreams.up.health_check", "interval: 50ms, timeout: 50ms")
        .set("upstreams.up.health_check", check);
    Weir::start(config)
}

#[test]
fn a_backend_that_fails_its_checks_is_out_and_comes_back() {
    let ((a, health), (b, _)) = (Origin::with_health("a"), Origin::with_health("b"));
    let weir = with_check(&[("a", &a), ("b", &b)], "http: { path: /healthz }");
    weir.wait_for_state("a", "up");
    weir.wait_for_state("b", "up");
    health.store(500, Ordering::Release);
    weir.wait_for_state("a", "down");
    let mut client = Client::connect(weir.web());
    assert!((0..10).all(|_| client.get("/").text() == "b"));
    assert_eq!(
        weir.metric(&format!("weir_backend_up{{address=\"{}\",backend=\"a\",upstream=\"up\"}}", a.address())),
        0.0
    );
    assert!(weir.status().to_string().contains("500"), "the reason is shown: {}", weir.status());
    health.store(204, Ordering::Release);
    weir.wait_for_state("a", "up");
    let answers: Vec<_> = (0..10).map(|_| client.get("/").text()).collect();
    assert!(answers.contains(&"a".to_owned()));
    weir.wait_for_at_least(&["weir_backend_checks_total", "backend=\"a\"", "fail"], 3.0);
    weir.wait_for_at_least(&["weir_backend_state_changes_total", "backend=\"a\"", "\"down\""], 1.0);
}

#[test]
fn from_unknown_one_check_decides_then_rise_and_fall_count() {
    let answers = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&answers);
    // One failure, then passes: with rise 3 it takes three of them.
    let origin =
        Origin::start(move |_| Reply::new(if count.fetch_add(1, Ordering::AcqRel) == 0 { 500 } else { 200 }, ""));
    let weir = with_check(&[("a", &origin)], "http: { path: /healthz }, rise: 3");
    weir.wait_for_state("a", "up");
    let log = weir.stderr();
    assert!(answers.load(Ordering::Acquire) >= 4, "{log}");
    weir.wait_for_at_least(&["weir_backend_state_changes_total", "\"down\""], 1.0);
}

#[test]
fn with_nothing_healthy_traffic_fails_open_and_is_counted() {
    let (a, health) = Origin::with_health("a");
    health.store(500, Ordering::Release);
    let weir = with_check(&[("a", &a)], "http: { path: /healthz }");
    weir.wait_for_state("a", "down");
    assert_eq!(Client::connect(weir.web()).get("/").text(), "a");
    weir.wait_for(&["weir_upstream_fail_open_total"], 1.0);
}

#[test]
fn a_health_check_sends_the_configured_request() {
    let origin = Origin::start(|_| Reply::new(207, "all is well here"));
    let weir = with_check(
        &[("a", &origin)],
        "http: { path: \"/deep?x=1\", host: inner.example, method: OPTIONS, headers: { x-probe: \"1\" }, status: [200, 204-210], body: { contains: \"is well\" } }",
    );
    weir.wait_for_state("a", "up");
    let seen = origin.requests().remove(0);
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("OPTIONS", "/deep?x=1"));
    assert_eq!((seen.header("host"), seen.header("x-probe")), (Some("inner.example"), Some("1")));
}

#[test]
fn a_body_that_does_not_match_fails_the_check() {
    let origin = Origin::start(|_| Reply::new(200, "maintenance"));
    let weir = with_check(&[("a", &origin)], "http: { body: { regex: \"^ok\" } }");
    weir.wait_for_state("a", "down");
    assert!(weir.status().to_string().contains("body"), "{}", weir.status());
}

#[test]
fn a_check_may_ask_another_port() {
    let origin = Origin::named("a");
    let (probe, health) = Origin::with_health("probe");
    health.store(500, Ordering::Release);
    let weir = with_check(
        &[("a", &origin)],
        &["http: { path: /healthz }, port: ", &probe.address().port().to_string()].concat(),
    );
    weir.wait_for_state("a", "down");
    health.store(200, Ordering::Release);
    weir.wait_for_state("a", "up");
    assert_eq!(origin.requests().len(), 0);
}

#[test]
fn readyz_waits_for_the_first_verdict_of_every_upstream() {
    let origin = Origin::start(|_| Reply::new(200, "").after(std::time::Duration::from_millis(300)));
    let weir = with_check(&[("a", &origin)], "http: {}, interval: 5s, timeout: 4s");
    assert_eq!(weir.admin_get("/readyz").status, 503);
    assert_eq!(weir.admin_get("/healthz").status, 200);
    eventually("ready", || weir.admin_get("/readyz").status == 200);
}
