//! Passive outlier detection: backends that fail their traffic are ejected, tried once, and back when that goes well.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::support::{Client, Origin, Reply, Weir, eventually};

/// Answers its name with a status that can be changed.
fn switchable(name: &'static str) -> (Origin, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(200));
    let answer = Arc::clone(&status);
    (Origin::start(move |_| Reply::new(answer.load(Ordering::Acquire), name)), status)
}

fn yaml(origins: &[(&str, &Origin)], outlier: &str) -> String {
    let list: String =
        origins.iter().map(|(n, o)| format!("{{ name: {n}, address: \"{}\" }}, ", o.address())).collect();
    format!(
        "listeners: [{{ name: web, address: \"127.0.0.1:0\" }}]\nroutes: [{{ name: all, upstream: up }}]\n\
         upstreams: {{ up: {{ outlier: {{ {outlier} }}, backends: [{list}] }} }}"
    )
}

#[test]
fn a_backend_that_answers_500_is_ejected_tried_once_and_back() {
    let ((a, status), (b, _)) = (switchable("a"), switchable("b"));
    let weir = Weir::start(&yaml(&[("a", &a), ("b", &b)], "consecutive: 3, eject: 600ms"));
    status.store(500, Ordering::Release);
    let mut client = Client::connect(weir.web());
    let failed = (0..20).filter(|_| client.get("/").status == 500).count();
    assert_eq!(failed, 3, "three in a row, then none");
    weir.wait_for_state("a", "ejected");
    assert!(weir.status().to_string().contains("3 faults in a row"));
    assert_eq!(weir.sum(&["weir_backend_state_changes_total", "backend=\"a\"", "\"ejected\""]), 1.0);
    let before = a.requests().len();
    // The trial fails: one request, and out for longer.
    eventually("a trial", || {
        client.get("/");
        (a.requests().len() > before).then_some(())
    });
    assert!((0..20).all(|_| client.get("/").text() == "b"));
    assert_eq!(a.requests().len(), before + 1);
    assert!(weir.status().to_string().contains("trial request failed"));
    status.store(200, Ordering::Release);
    eventually("a is back", || {
        client.get("/");
        (weir.sum(&["weir_backend_state{", "backend=\"a\"", "state=\"up\""]) == 1.0).then_some(())
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
    let config = yaml(&[("bad", &bad), ("good", &good)], "consecutive: 0, error_ratio: 40%, min_requests: 10");
    let weir = Weir::start(&config);
    let mut client = Client::connect(weir.web());
    eventually("bad is ejected", || {
        assert_eq!(client.get("/").status, 200, "retried elsewhere");
        (weir.sum(&["weir_backend_state{", "backend=\"bad\"", "\"ejected\""]) == 1.0).then_some(())
    });
    assert!(weir.reload(&config.replace("name: all", "name: every")));
    weir.wait_for_state("bad", "ejected");
    assert!(weir.reload(&config.replace("40%", "45%")));
    weir.wait_for_state("bad", "up");
}

#[test]
fn no_more_than_the_share_are_ejected_and_clients_that_leave_eject_nothing() {
    let ((a, sa), (b, sb)) = (switchable("a"), switchable("b"));
    let weir = Weir::start(&yaml(&[("a", &a), ("b", &b)], "consecutive: 2"));
    sa.store(503, Ordering::Release);
    sb.store(503, Ordering::Release);
    let mut client = Client::connect(weir.web());
    assert!((0..20).all(|_| client.get("/").status == 503));
    assert_eq!(weir.sum(&["weir_backend_state{", "\"ejected\""]), 1.0);

    let slow = Origin::start(|_| Reply::new(200, "slow").after(std::time::Duration::from_millis(300)));
    let other = Origin::named("other");
    let weir = Weir::start(&yaml(&[("slow", &slow), ("other", &other)], "consecutive: 1"));
    for _ in 0..6 {
        let mut client = Client::connect(weir.web());
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        std::thread::sleep(std::time::Duration::from_millis(30));
    }
    weir.wait_for(&["weir_backend_attempts_total", "client_abort"], 3.0);
    assert_eq!(weir.sum(&["weir_backend_state{", "\"ejected\""]), 0.0);
}
