//! SIGHUP and the admin's reload: all or nothing, and nothing is lost.

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::echo::Faults;
use crate::support::{Client, Config, Echo, Gate, Origin, Pace, Weir, busy, eventually, size, spare};

fn config<A: Display>(backends: &[(&str, A, u16)]) -> Config {
    let config = Config::new()
        .without_access_log()
        .route("all", "upstream: up")
        .set("upstreams.up.balance", "weighted_round_robin");
    let add = |config: Config, (name, address, weight): &(&str, A, u16)| {
        config.backend(&format!("up.{name}"), address, format!("weight: {weight}"))
    };
    backends.iter().fold(config, add)
}

#[test]
fn a_reload_changes_members_and_weights_and_says_what() {
    let (a, b, c) = (Origin::named("a"), Origin::named("b"), Origin::named("c"));
    let weir = Weir::start(config(&[("a", &a, 1), ("b", &b, 1)]));
    let mut client = Client::connect(weir.web());
    client.get("/");
    assert!(weir.reload(config(&[("b", &b, 3), ("c", &c, 1)])));
    let answers: Vec<_> = (0..8).map(|_| client.get("/").text()).collect();
    assert_eq!(answers.iter().filter(|answer| *answer == "b").count(), 6);
    assert_eq!(answers.iter().filter(|answer| *answer == "c").count(), 2);
    let log = weir.stderr();
    for part in ["upstream up", "+ c (weight 1)", "b weight 1 → 3", "- a", "0 in flight"] {
        assert!(log.contains(part), "{part}: {log}");
    }
    assert_eq!(weir.metric("weir_config_generation"), 2.0);
    weir.wait_for(&["weir_backend_up{", "backend=\"a\""], 0.0);
    assert!(
        !weir.scrape().keys().any(|name| name.contains("backend=\"a\"")),
        "the series of a drained backend are gone"
    );
}

#[test]
fn a_bad_file_changes_nothing_and_says_why_everywhere() {
    let a = Origin::named("a");
    let weir = Weir::start(config(&[("a", &a, 1)]));
    assert!(!weir.reload("listeners: [{ name: web, adress: \"127.0.0.1:0\" }]\nroutes: [{ upstream: nowhere }]\n"));
    assert_eq!(Client::connect(weir.web()).get("/").text(), "a");
    assert_eq!(weir.metric("weir_config_last_reload_success"), 0.0);
    assert_eq!(weir.metric("weir_config_generation"), 1.0);
    let status = weir.status().to_string();
    assert!(status.contains("adress") && status.contains("nowhere"), "{status}");
    assert!(weir.stderr().contains("address"), "{}", weir.stderr());
    assert!(weir.reload(config(&[("a", &a, 1)])));
    assert_eq!(weir.metric("weir_config_last_reload_success"), 1.0);
}

#[test]
fn the_admin_api_reloads_and_reports_problems_with_their_place() {
    let a = Origin::named("a");
    let weir = Weir::start(config(&[("a", &a, 1)]));
    let post = |body: &str| {
        let mut client = Client::connect(weir.admin());
        client.send(format!(
            "POST /api/v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        client.response("POST")
    };
    let response = post("{}");
    assert_eq!((response.status, response.json()["result"].as_str()), (200, Some("applied")), "{}", response.text());
    assert_eq!(response.json()["generation"], 2);
    std::fs::write(weir.config_file(), "listeners:\n  - { address: nonsense }\n").unwrap();
    let response = post("{}");
    assert_eq!(response.status, 422);
    let problem = &response.json()["problems"][0];
    assert_eq!((&problem["line"], problem["path"].as_str()), (&2.into(), Some("listeners[0].address")), "{problem}");
}

#[test]
fn a_new_listener_is_bound_before_anything_changes_and_a_removed_one_drains() {
    let gate = Gate::default();
    let origin = gate.origin();
    let one = config(&[("a", &origin, 1)]);
    let weir = Weir::start(&one);
    let taken = std::net::TcpListener::bind(spare()).unwrap();
    let two = one.clone().listener("more", "").set("listeners.more.address", taken.local_addr().unwrap());
    assert!(!weir.reload(&two), "an address in use refuses the whole reload");
    let problem = &weir.status()["last_reload"]["problems"][0];
    let line = two.to_string().lines().position(|line| line.contains(&taken.local_addr().unwrap().to_string()));
    assert_eq!((&problem["line"], &problem["path"]), (&(line.unwrap() + 1).into(), &"listeners[1].address".into()));
    assert!(problem["what"].as_str().unwrap().contains("in use"), "{problem}");
    let free = taken.local_addr().unwrap();
    drop(taken);
    assert!(weir.reload(&two));
    let mut client = Client::connect(free);
    gate.let_through(1);
    assert_eq!(client.get("/one").text(), "/one");
    client.send("GET /two HTTP/1.1\r\nHost: a\r\n\r\n");
    weir.wait_for(&["weir_backend_in_flight"], 1.0);
    assert!(weir.reload(&one));
    gate.open();
    let response = client.response("GET");
    assert_eq!((response.text().as_str(), response.header("connection")), ("/two", Some("close")));
    eventually("the port is free", || std::net::TcpListener::bind(free).ok());
}

#[test]
fn keys_that_are_fixed_are_named_and_the_rest_is_applied() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let weir = Weir::start(config(&[("a", &a, 1)]));
    assert!(weir.reload(config(&[("b", &b, 1)]).set("server.threads", 7)));
    assert_eq!(Client::connect(weir.web()).get("/").text(), "b");
    assert!(weir.stderr().contains("server.threads"), "{}", weir.stderr());
}

#[test]
fn diff_shows_what_a_reload_would_change_and_changes_nothing() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let weir = Weir::start(config(&[("a", &a, 1)]));
    let file = weir.config_file();
    let run = || weir.command(&["diff", "-c", file.to_str().unwrap()]);
    assert_eq!(run().code, Some(0), "{}", run().stdout);
    let changed = config(&[("a", &a, 1), ("b", &b, 2)]).set("admin.address", "127.0.0.1:0");
    std::fs::write(&file, changed.to_string()).unwrap();
    let output = run();
    assert_eq!(output.code, Some(3), "{}{}", output.stdout, output.stderr);
    assert!(output.stdout.contains("+ b (weight 2)"), "{}", output.stdout);
    assert_eq!(weir.metric("weir_config_generation"), 1.0);
}

/// A connection to the second listener, before and after it goes: its last answer says so.
fn the_second_says_goodbye(second: SocketAddr, reload: impl FnOnce()) -> usize {
    let mut client = Client::connect(second);
    assert_eq!(client.get("/").header("connection"), Some("keep-alive"));
    reload();
    let last = client.get("/");
    assert_eq!((last.status, last.header("connection")), (200, Some("close")));
    2
}

/// Reloads that alternate weights, membership and a second listener under busy connections;
/// nothing fails, nothing is counted twice, everything comes down to 0.
fn reloads_lose_nothing(clients: usize, reloads: usize, interval: Duration) {
    let origins =
        [Echo::start("a", Faults::default()), Echo::start("b", Faults::default()), Echo::start("c", Faults::default())];
    let [a, b, c] = origins.each_ref().map(Echo::address);
    let spare = spare();
    let shapes = [
        config(&[("a", a, 5), ("b", b, 3), ("c", c, 1)]),
        config(&[("a", a, 1), ("b", b, 1)]).listener("second", "").set("listeners.second.address", spare),
        config(&[("b", b, 2), ("c", c, 9)]),
    ];
    let weir = Weir::start(&shapes[0]);
    let stop = Arc::new(AtomicBool::new(false));
    let load = busy(weir.web(), clients, &stop);
    let mut before = weir.scrape();
    let (mut served, mut pace) = (0, Pace::every(interval));
    for round in 1..=reloads {
        let reload = || assert!(weir.reload(&shapes[round % shapes.len()]), "{}", weir.stderr());
        if round % shapes.len() == 2 {
            served += the_second_says_goodbye(spare, reload)
        } else {
            reload()
        }
        let now = weir.scrape();
        for (name, value) in now.iter().filter(|(name, _)| name.contains("_total")) {
            assert!(before.get(name).is_none_or(|old| old <= value), "{name} stepped back to {value}");
        }
        before.extend(now);
        pace.tick();
    }
    stop.store(true, Ordering::Release);
    served += load.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>();
    assert!(served > 100);
    weir.wait_for(&["weir_backend_in_flight"], 0.0);
    weir.wait_for(&["weir_requests_in_flight"], 0.0);
    weir.wait_for(&["weir_requests_total", "status=\"200\""], served as f64);
    assert_eq!(weir.sum(&["weir_requests_total"]), served as f64, "and nothing else was answered");
}

#[test]
fn reloads_under_load_lose_nothing() {
    reloads_lose_nothing(32, 15, Duration::ZERO);
}

#[test]
#[ignore = "long: 30 reloads in 30 s under 200 connections"]
fn reloads_under_load_lose_nothing_at_full_size() {
    reloads_lose_nothing(size("WEIR_SOAK_CONNECTIONS", 200), size("WEIR_SOAK_RELOADS", 30), Duration::from_secs(1));
}
