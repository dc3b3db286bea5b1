//! `max_in_flight` and the queue: first come, first served, bounded in number and time, and left by who leaves.

use std::time::{Duration, Instant};

use crate::support::{Client, Config, Gate, Origin, Reply, Weir, eventually, spare};

fn config(origins: &[&Origin], settings: &str) -> Config {
    let backends: Vec<_> = ["a", "b"].into_iter().zip(origins).collect();
    Config::to_all(&backends).set("upstreams.up", settings)
}

fn ask(weir: &Weir, path: &str) -> Client {
    let mut client = Client::connect(weir.web());
    client.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
    client
}

fn depth(weir: &Weir, count: f64) {
    weir.wait_for(&["weir_upstream_queue_depth"], count);
}

#[test]
fn queued_requests_are_served_in_order_of_arrival() {
    let gate = Gate::default();
    let origin = gate.origin();
    let weir = Weir::start(config(&[&origin], "max_in_flight: 1, queue: { size: 10, timeout: 20s }"));
    let mut clients = Vec::new();
    for n in 0..5 {
        clients.push(ask(&weir, &format!("/{n}")));
        if n == 0 {
            eventually("the first is under way", || origin.requests().len() == 1);
        }
        depth(&weir, f64::from(n));
    }
    gate.let_through(5);
    for (n, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.response("GET").text(), format!("/{n}"));
    }
    let order: Vec<_> = origin.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(order, ["/0", "/1", "/2", "/3", "/4"]);
    depth(&weir, 0.0);
    assert_eq!(weir.sum(&["weir_upstream_queue_seconds_count"]), 4.0);
    weir.wait_for(&["weir_backend_in_flight"], 0.0);
}

#[test]
fn overflow_and_timeout_are_503_with_retry_after() {
    let gate = Gate::default();
    let origin = gate.origin();
    let weir = Weir::start(config(&[&origin], "max_in_flight: 1, queue: { size: 1, timeout: 400ms }"));
    let mut held = ask(&weir, "/held");
    eventually("the first is under way", || origin.requests().len() == 1);
    let started = Instant::now();
    let mut waits = ask(&weir, "/waits");
    depth(&weir, 1.0);
    let over = Client::connect(weir.web()).get("/over");
    assert_eq!((over.status, over.header("retry-after")), (503, Some("1")));
    let late = waits.response("GET");
    assert_eq!((late.status, late.header("retry-after")), (503, Some("1")));
    assert!(started.elapsed() >= Duration::from_millis(400));
    let faults = |fault: &str| weir.sum(&["weir_faults_total", &format!("\"{fault}\"")]);
    assert_eq!((faults("queue_full"), faults("queue_timeout")), (1.0, 1.0));
    gate.let_through(1);
    assert_eq!(held.response("GET").status, 200);
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn without_a_queue_full_backends_are_503_and_no_backend_gets_more_than_its_limit() {
    let gates = [Gate::default(), Gate::default()];
    let origins = [gates[0].origin(), gates[1].origin()];
    let weir = Weir::start(config(&[&origins[0], &origins[1]], "max_in_flight: 2"));
    let mut held: Vec<_> = (0..4).map(|n| ask(&weir, &format!("/{n}"))).collect();
    eventually("all are under way", || origins.iter().all(|o| o.requests().len() == 2));
    assert_eq!(Client::connect(weir.web()).get("/").status, 503);
    gates.iter().for_each(|gate| gate.let_through(2));
    assert!(held.iter_mut().all(|client| client.response("GET").status == 200));
    gates.iter().for_each(|gate| gate.let_through(5));
    assert_eq!(Client::connect(weir.web()).get("/").status, 200);
}

#[test]
fn an_http1_client_that_leaves_frees_its_place() {
    let gate = Gate::default();
    let origin = gate.origin();
    let weir = Weir::start(config(&[&origin], "max_in_flight: 1, queue: { size: 3, timeout: 20s }"));
    let mut held = ask(&weir, "/held");
    eventually("the first is under way", || origin.requests().len() == 1);
    // One with nothing to follow, one in the middle of its body, one with the next request behind it.
    let leaves = ask(&weir, "/leaves");
    let mut sends = Client::connect(weir.web());
    sends.send("POST /sends HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf");
    let mut more = ask(&weir, "/more");
    more.send("GET /next HTTP/1.1\r\nHost: x\r\n\r\n");
    depth(&weir, 3.0);
    drop((leaves, sends, more));
    depth(&weir, 0.0);
    let mut stays = ask(&weir, "/stays");
    depth(&weir, 1.0);
    gate.let_through(2);
    assert_eq!((held.response("GET").status, stays.response("GET").text()), (200, "/stays".to_owned()));
    let asked: Vec<_> = origin.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(asked, ["/held", "/stays"]);
    let log = weir.access_log_of(5);
    assert_eq!(log.iter().filter(|line| line["status"] == 499 && line["fault"] == "client_abort").count(), 3);
}

#[test]
fn a_body_that_arrives_while_its_request_is_queued_is_delivered_whole() {
    let gate = Gate::default();
    let origin = gate.origin();
    let weir = Weir::start(config(&[&origin], "max_in_flight: 1, queue: {}"));
    let mut held = ask(&weir, "/held");
    eventually("the first is under way", || origin.requests().len() == 1);
    let mut client = Client::connect(weir.web());
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n01234");
    depth(&weir, 1.0);
    client.send("56789");
    client.wait_until_received();
    gate.let_through(2);
    assert_eq!((held.response("GET").status, client.response("POST").status), (200, 200));
    assert_eq!(origin.last_request().body, b"0123456789");
}

#[test]
fn draining_the_last_backend_refuses_queued_requests_and_a_new_one_serves_them() {
    let gate = Gate::default();
    let origin = gate.origin();
    let other = Origin::named("other");
    let config = config(&[&origin], "max_in_flight: 1, queue: { size: 3, timeout: 20s }");
    let weir = Weir::start(&config);
    let mut held = ask(&weir, "/held");
    eventually("the first is under way", || origin.requests().len() == 1);
    let mut waits = ask(&weir, "/waits");
    depth(&weir, 1.0);
    assert_eq!(weir.command(&["drain", "up/a"]).code, Some(0));
    assert_eq!(waits.response("GET").status, 503);
    assert_eq!(weir.command(&["enable", "up/a"]).code, Some(0));
    let mut waits = ask(&weir, "/waits");
    depth(&weir, 1.0);
    // A request keeps its snapshot; the limit counts for all of them at once.
    assert!(weir.reload(config.backend("up.b", &other, "").set("upstreams.up.max_in_flight", 2)));
    eventually("the second is under way", || origin.requests().len() == 2);
    gate.let_through(2);
    assert_eq!((held.response("GET").status, waits.response("GET").status), (200, 200));
}

/// Two that take one request each, and nobody listens at the other: no request is lost that could have waited.
#[test]
fn a_request_that_a_dead_backend_refused_waits_for_the_one_that_lives() {
    for settings in ["", "balance: least_connections", "balance: random"] {
        let gate = Gate::default();
        let (origin, dead) = (gate.origin(), spare());
        let config = Config::to_all(&[("alive", origin.address()), ("dead", dead)])
            .set("upstreams.up", settings)
            .set("upstreams.up", "max_in_flight: 1, queue: { size: 100, timeout: 20s }");
        let weir = Weir::start(config);
        let mut clients: Vec<_> = (0..8).map(|n| ask(&weir, &format!("/{n}"))).collect();
        depth(&weir, 7.0);
        gate.let_through(8);
        for client in &mut clients {
            assert_eq!(client.response("GET").status, 200, "{settings}");
        }
        let log = weir.access_log_of(8);
        let attempts: Vec<_> = log.iter().flat_map(|line| line["attempts"].as_array().unwrap().clone()).collect();
        assert!(attempts.iter().all(|attempt| attempt["why"] != "again"), "{settings}: {attempts:?}");
        let is_dead = |attempt: &&serde_json::Value| attempt["backend"] == "dead";
        let to_dead =
            |line: &&serde_json::Value| line["attempts"].as_array().unwrap().iter().filter(is_dead).count() > 1;
        assert_eq!(log.iter().filter(to_dead).count(), 0, "{settings}: once each at the most");
        weir.wait_for(&["weir_backend_in_flight"], 0.0);
    }
}

/// What cannot be waited for any longer does not keep a request from the backend that is left.
#[test]
fn a_retry_goes_back_when_the_queue_is_full_or_over_its_time() {
    let gate = Gate::default();
    let origin = gate.origin();
    let flaky = Origin::start(|request| match request.target.as_str() {
        "/late" | "/over" => Reply::new(503, "busy"),
        _ => Reply::new(200, "fine"),
    });
    let settings = "balance: least_connections, max_in_flight: 1, queue: { size: 1, timeout: 1500ms }";
    let config = config(&[&origin, &flaky], settings).set("routes.all.retry", "attempts: 2, when: [503], floor: 10");
    let weir = Weir::start(config);
    let mut held = ask(&weir, "/held");
    eventually("the first is under way", || origin.requests().len() == 1);
    let mut late = ask(&weir, "/late");
    depth(&weir, 1.0);
    let over = Client::connect(weir.web()).get("/over");
    assert_eq!(over.status, 503, "the backend's, from its second try");
    assert_eq!((late.response("GET").text(), flaky.requests().len()), ("busy".to_owned(), 4));
    gate.let_through(1);
    assert_eq!(held.response("GET").status, 200);
    let whys: Vec<_> = weir.access_log_of(3).iter().map(|line| line["attempts"].to_string()).collect();
    assert_eq!(whys.iter().filter(|attempts| attempts.contains("\"again\"")).count(), 2, "{whys:?}");
}
