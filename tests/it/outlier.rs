//! Passive outlier detection: backends that fail their traffic are ejected, tried once, and back when that goes well.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::support::{Client, Config, Origin, Reply, Weir, eventually};

/// Answers its name with a status that can be changed.
fn switchable(name: &'static str) -> (Origin, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(200));
    let answer = Arc::clone(&status);
    (Origin::start(move |_| Reply::new(answer.load(Ordering::Acquire), name)), status)
}

fn config(origins: &[(&str, &Origin)], outlier: &str) -> Config {
    Config::to_all(origins).set("upstreams.up.outlier", outlier)
}

#[test]
fn a_backend_that_answers_500_is_ejected_tried_once_and_back() {
    let ((a, status), (b, _)) = (switchable("a"), switchable("b"));
    let weir = Weir::start(config(&[("a", &a), ("b", &b)], "consecutive_5xx: 3, eject: 600ms"));
    status.store(500, Ordering::Release);
    let mut client = Client::connect(weir.web());
    let failed = (0..20).filter(|_| client.get("/").status == 500).count();
    assert_eq!(failed, 3, "three in a row, then none");
    weir.wait_for_state("a", "ejected");
    assert!(weir.status().to_string().contains("3 5xx responses in a row"));
    assert_eq!(weir.sum(&["weir_backend_state_changes_total", "backend=\"a\"", "\"ejected\""]), 1.0);
    let before = a.requests().len();
    // The trial fails: one request, and out for longer.
    eventually("a trial", || {
        client.get("/");
        a.requests().len() > before
    });
    assert!((0..20).all(|_| client.get("/").text() == "b"));
    assert_eq!(a.requests().len(), before + 1);
    assert!(weir.status().to_string().contains("trial request failed"));
    status.store(200, Ordering::Release);
    eventually("a is back", || {
        client.get("/");
        weir.sum(&["weir_backend_state{", "backend=\"a\"", "state=\"unchecked\""]) == 1.0
    });
    assert!((0..2).any(|_| client.get("/").text() == "a"));
}

#[test]
fn a_backend_that_breaks_off_is_ejected_by_its_ratio_and_stays_so_over_a_reload() {
    let count = AtomicU16::new(0);
    let bad = Origin::start(move |_| match count.fetch_add(1, Ordering::AcqRel) % 2 {
        // Never on a kept connection: what breaks there may be stale and says nothing.
        0 => Reply::new(200, "bad").and_close(),
        _ => Reply::hang_up(),
    });
    let good = Origin::named("good");
    let config = config(&[("bad", &bad), ("good", &good)], "consecutive: 0, error_ratio: 40%, min_requests: 10");
    let weir = Weir::start(&config);
    let mut client = Client::connect(weir.web());
    eventually("bad is ejected", || {
        assert_eq!(client.get("/").status, 200, "retried elsewhere");
        weir.sum(&["weir_backend_state{", "backend=\"bad\"", "\"ejected\""]) == 1.0
    });
    assert!(weir.reload(config.clone().route("more", "match: { path: /more }, upstream: up")));
    weir.wait_for_state("bad", "ejected");
    assert!(weir.reload(config.set("upstreams.up.outlier.error_ratio", "45%")));
    weir.wait_for_state("bad", "unchecked");
}

#[test]
fn no_more_than_the_share_are_ejected_and_clients_that_leave_eject_nothing() {
    let [a, b] = [(); 2].map(|()| Origin::start(|_| Reply::hang_up()));
    let weir = Weir::start(config(&[("a", &a), ("b", &b)], "consecutive: 2"));
    let mut client = Client::connect(weir.web());
    assert!((0..20).all(|_| client.get("/").status == 502));
    assert_eq!(weir.sum(&["weir_backend_state{", "\"ejected\""]), 1.0);

    let slow = Origin::start(|_| Reply::new(200, "slow").after(std::time::Duration::from_millis(300)));
    let other = Origin::named("other");
    let weir = Weir::start(config(&[("slow", &slow), ("other", &other)], "consecutive: 1"));
    for turn in 1..=6 {
        let mut client = Client::connect(weir.web());
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        let asked = || slow.requests().len() + other.requests().len();
        eventually("it has reached a backend", || asked() == turn);
    }
    weir.wait_for(&["weir_backend_attempts_total", "client_abort"], 3.0);
    assert_eq!(weir.sum(&["weir_backend_state{", "\"ejected\""]), 0.0);
}

/// Backends `b0`, `b1`…, of which the first does this; nothing is said of outliers.
fn shipped(bad: &Origin, good: &[Origin]) -> Config {
    let all = [bad].into_iter().chain(good).enumerate();
    Config::to_all(&all.map(|(n, origin)| (format!("b{n}"), origin)).collect::<Vec<_>>())
}

fn good() -> [Origin; 2] {
    ["b1", "b2"].map(Origin::named)
}

#[test]
fn a_backend_that_drops_requests_is_ejected_by_default_after_five_failed_attempts() {
    let bad = Origin::start(|_| Reply::hang_up());
    let others = good();
    let weir = Weir::start(shipped(&bad, &others));
    let mut client = Client::connect(weir.web());
    assert!((0..40).all(|_| client.get("/").status == 200), "each is tried elsewhere");
    weir.wait_for_state("b0", "ejected");
    assert!(weir.status().to_string().contains("5 failed attempts in a row"));
    assert_eq!(bad.requests().len(), 5, "and then none");
}

#[test]
fn requests_that_cannot_be_sent_twice_are_not_risked_on_a_backend_that_has_just_dropped_one() {
    let bad = Origin::start(|_| Reply::hang_up());
    let others = good();
    let weir = Weir::start(shipped(&bad, &others));
    let mut client = Client::connect(weir.web());
    let failed = (0..60).filter(|_| client.post("/", b"x").status == 502).count();
    assert_eq!(failed, 1, "the first; the other backends take the rest");
    assert!((0..60).all(|_| client.get("/").status == 200), "others find out how it is");
    weir.wait_for_state("b0", "ejected");
}

#[test]
fn a_backend_that_answers_500_is_ejected_by_default_after_eight() {
    let bad = Origin::start(|_| Reply::new(500, "bad"));
    let others = good();
    let weir = Weir::start(shipped(&bad, &others));
    let mut client = Client::connect(weir.web());
    assert_eq!((0..90).filter(|_| client.get("/").status == 500).count(), 8);
    weir.wait_for_state("b0", "ejected");
    assert!(weir.status().to_string().contains("8 5xx responses in a row"));
}

#[test]
fn backends_that_all_answer_500_are_not_ejected() {
    let bad = Origin::start(|_| Reply::new(500, "bad"));
    let others = ["c", "d"].map(|_| Origin::start(|_| Reply::new(503, "bad")));
    let weir = Weir::start(shipped(&bad, &others));
    let mut client = Client::connect(weir.web());
    assert!((0..90).all(|_| client.get("/").status >= 500));
    assert_eq!(weir.sum(&["weir_backend_state{", "\"ejected\""]), 0.0);
    assert_eq!(bad.requests().len(), 30);
}

#[test]
fn outlier_off_ejects_nothing_and_a_reload_that_turns_it_off_ends_ejections() {
    let bad = Origin::start(|_| Reply::new(500, "bad"));
    let others = good();
    let weir = Weir::start(shipped(&bad, &others));
    let mut client = Client::connect(weir.web());
    (0..60).for_each(|_| drop(client.get("/")));
    weir.wait_for_state("b0", "ejected");
    assert!(weir.reload(shipped(&bad, &others).set("upstreams.up.outlier", "off")));
    weir.wait_for_state("b0", "unchecked");
    assert_eq!((0..90).filter(|_| client.get("/").status == 500).count(), 30);
    let config: serde_json::Value = serde_json::from_slice(&weir.admin_get("/api/v1/config").body).unwrap();
    assert!(config.to_string().contains(r#""outlier":"off""#), "{config}");
}

#[test]
fn the_only_backend_is_never_ejected() {
    let bad = Origin::start(|_| Reply::hang_up());
    let weir = Weir::start(shipped(&bad, &[]));
    let mut client = Client::connect(weir.web());
    assert!((0..20).all(|_| client.get("/").status == 502));
    assert_eq!(weir.sum(&["weir_backend_state{", "\"ejected\""]), 0.0);
}
