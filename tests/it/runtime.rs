//! What an operator does to backends at run time, by API and command line: it counts at once and outlives reloads.

use std::time::Duration;

use crate::support::{Client, Config, Origin, Reply, Weir, eventually};

fn answers(weir: &Weir, count: usize) -> Vec<String> {
    let mut client = Client::connect(weir.web());
    (0..count).map(|_| client.get("/").text()).collect()
}

#[test]
fn a_drained_backend_finishes_its_requests_and_stays_drained_over_a_reload() {
    let a = Origin::start(|_| Reply::new(200, "a").after(Duration::from_millis(600)));
    let b = Origin::named("b");
    let config = Config::to_all(&[("a", &a), ("b", &b)]);
    let weir = Weir::start(&config);
    let mut slow = Client::connect(weir.web());
    slow.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    eventually("the slow one is under way", || a.requests().len() == 1);
    let (code, said) = weir.status_and_output(&["drain", "up/a"]);
    assert_eq!((code, said.as_str()), (0, "up/a: draining, weight 1, 1 in flight\n"));
    let (code, said) = weir.status_and_output(&["drain", "up/a", "--wait", "--timeout", "100ms"]);
    assert!(code == 1 && said.contains("timed out"), "{said}");
    assert_eq!(answers(&weir, 4), ["b"; 4]);
    let (code, said) = weir.status_and_output(&["drain", "up/a", "--wait"]);
    assert_eq!((code, said.as_str()), (0, "up/a: draining, weight 1, 0 in flight\n"));
    assert_eq!(slow.response("GET").text(), "a");
    assert!(weir.reload(config.route("more", "match: { path: /more }, upstream: up")));
    weir.wait_for_state("a", "draining");
    assert!(weir.status().to_string().contains("by operator"));
    assert_eq!(weir.sum(&["weir_backend_state{", "backend=\"a\"", "\"draining\""]), 1.0);
    assert_eq!(answers(&weir, 4), ["b"; 4]);
    assert_eq!(weir.status_and_output(&["enable", "up/a"]).0, 0);
    assert!(answers(&weir, 2).contains(&"a".to_owned()));
}

#[test]
fn with_all_disabled_nothing_is_tried() {
    let a = Origin::named("a");
    let weir = Weir::start(Config::to(&a));
    let (code, said) = weir.status_and_output(&["disable", "up/a", "--json"]);
    assert!(code == 0 && said.contains("\"state\":\"disabled\""), "{said}");
    assert_eq!(Client::connect(weir.web()).get("/").status, 503);
    assert_eq!(a.requests().len(), 0);
    assert_eq!(weir.status_and_output(&["enable", "up/a"]).0, 0);
    assert_eq!(answers(&weir, 1), ["a"]);
}

#[test]
fn a_weight_set_at_run_time_counts_until_it_is_undone() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let config = Config::to_all(&[("a", &a), ("b", &b)]).set("upstreams.up.balance", "weighted_round_robin");
    let weir = Weir::start(&config);
    let count = || answers(&weir, 8).iter().filter(|name| *name == "a").count();
    assert_eq!(
        weir.status_and_output(&["weight", "up/a", "3"]),
        (0, "up/a: unchecked, weight 3, 0 in flight\n".into())
    );
    assert_eq!(count(), 6);
    assert!(weir.reload(config.route("more", "match: { path: /more }, upstream: up")));
    assert_eq!(count(), 6);
    assert_eq!(weir.sum(&["weir_backend_weight", "backend=\"a\"", "\"effective\""]), 3.0);
    assert_eq!(weir.sum(&["weir_backend_weight", "backend=\"a\"", "\"configured\""]), 1.0);
    assert_eq!(weir.status_and_output(&["weight", "up/a", "configured"]).0, 0);
    assert_eq!(count(), 4);
}

#[test]
fn commands_for_unknown_backends_and_useless_weights_are_refused_with_advice() {
    let a = Origin::named("a");
    let weir = Weir::start(Config::to(&a));
    let (code, said) = weir.status_and_output(&["weight", "up/a", "2"]);
    assert!(code == 1 && said.contains("weighted_round_robin"), "{said}");
    let (code, said) = weir.status_and_output(&["drain", "up/z"]);
    assert!(code == 1 && said.contains("404") && said.contains("`a`"), "{said}");
    let (code, said) = weir.status_and_output(&["drain", "down/a"]);
    assert!(code == 1 && said.contains("`up`"), "{said}");
    assert_eq!(weir.status_and_output(&["disable", "up"]).0, 64);
    assert_eq!(weir.status_and_output(&["weight", "up/a", "many"]).0, 64);
}

/// A rolling restart under load: how many clients, how often each backend is restarted, how long a response takes.
struct Rolling {
    clients: usize,
    rounds: usize,
    takes: Duration,
    /// Requests that the others answer while a backend is down.
    meanwhile: usize,
}

/// Every backend is drained, restarted and enabled in turn: how many requests were answered, and what failed.
fn roll(balance: &str, rolling: &Rolling) -> (usize, Vec<u16>) {
    const NAMES: [&str; 3] = ["a", "b", "c"];
    let takes = rolling.takes;
    let origins = NAMES.map(|name| Origin::start(move |_| Reply::new(200, name).after(takes)));
    let addresses = origins.each_ref().map(Origin::address);
    let weir =
        Weir::start(Config::to_all(&NAMES.into_iter().zip(&origins).collect::<Vec<_>>()).set("upstreams.up", balance));
    let stop = std::sync::atomic::AtomicBool::new(false);
    let (web, answers) = (weir.web(), std::sync::Mutex::new((0, Vec::new())));
    // They outlive the clients.
    let mut running = origins.map(Some);
    std::thread::scope(|scope| {
        for _ in 0..rolling.clients {
            scope.spawn(|| {
                let mut client = Client::connect(web);
                while !stop.load(std::sync::atomic::Ordering::Acquire) {
                    // A POST that has reached a backend is never sent again: a backend that went too early shows.
                    let status = client.post("/", b"x").status;
                    let mut answers = answers.lock().unwrap();
                    answers.0 += 1;
                    if status != 200 {
                        answers.1.push(status);
                        client = Client::connect(web);
                    }
                }
            });
        }
        for round in 0..rolling.rounds * NAMES.len() {
            let at = round % NAMES.len();
            let place = format!("up/{}", NAMES[at]);
            assert_eq!(weir.status_and_output(&["drain", &place, "--wait"]).0, 0);
            drop(running[at].take());
            let goal = answers.lock().unwrap().0 + rolling.meanwhile;
            eventually("the others answer", || answers.lock().unwrap().0 >= goal);
            running[at] = Some(Origin::start_on(addresses[at], move |_| Reply::new(200, NAMES[at]).after(takes)));
            assert_eq!(weir.status_and_output(&["enable", &place]).0, 0);
            let takes_part = || running[at].as_ref().filter(|origin| !origin.requests().is_empty()).map(drop);
            eventually("it takes requests again", takes_part);
        }
        stop.store(true, std::sync::atomic::Ordering::Release);
    });
    answers.into_inner().unwrap()
}

#[test]
fn a_rolling_restart_with_drain_loses_no_request() {
    let short = Rolling { clients: 4, rounds: 1, takes: Duration::from_millis(2), meanwhile: 50 };
    let (answered, failed) = roll("", &short);
    assert_eq!((answered > 0, failed), (true, Vec::new()));
}

#[test]
#[ignore = "long: make soak"]
fn rolling_restarts_of_every_balancer_lose_no_request() {
    let rounds = crate::support::size("WEIR_ROLLS", 5);
    let long = Rolling { clients: 16, rounds, takes: Duration::from_millis(5), meanwhile: 500 };
    for balance in ["round_robin", "weighted_round_robin", "least_connections", "p2c", "peak_ewma", "random"] {
        let check = "health_check: { tcp: {}, interval: 200ms, timeout: 200ms }, outlier: {}";
        let (answered, failed) = roll(&format!("balance: {balance}, {check}"), &long);
        println!("{balance}: {answered} requests through {} restarts", rounds * 3);
        assert_eq!(failed, Vec::<u16>::new(), "{balance}");
    }
}
