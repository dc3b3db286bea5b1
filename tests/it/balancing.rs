//! Who gets which request, and that every count comes down again.

use std::time::Duration;

use crate::support::{Client, Config, Gate, Origin, Reply, Weir, eventually};

fn weir(balance: &str, backends: &[(&str, &Origin, u16)]) -> Weir {
    let config = Config::new().without_access_log().route("all", "upstream: up").set("upstreams.up.balance", balance);
    let add = |config: Config, (name, origin, weight): &(&str, &Origin, u16)| {
        config.backend(&format!("up.{name}"), origin, format!("weight: {weight}"))
    };
    Weir::start(backends.iter().fold(config, add))
}

fn count(answers: &[String], name: &str) -> usize {
    answers.iter().filter(|answer| *answer == name).count()
}

#[test]
fn round_robin_gives_equal_turns_in_order() {
    let (a, b, c) = (Origin::named("a"), Origin::named("b"), Origin::named("c"));
    let weir = weir("round_robin", &[("a", &a, 1), ("b", &b, 1), ("c", &c, 1)]);
    let mut client = Client::connect(weir.web());
    let answers: Vec<_> = (0..9).map(|_| client.get("/").text()).collect();
    assert_eq!(answers, ["a", "b", "c", "a", "b", "c", "a", "b", "c"]);
}

#[test]
fn weighted_round_robin_meets_its_weights_exactly_and_never_in_a_burst() {
    let (a, b, c) = (Origin::named("a"), Origin::named("b"), Origin::named("c"));
    let weir = weir("weighted_round_robin", &[("a", &a, 5), ("b", &b, 3), ("c", &c, 1)]);
    let mut client = Client::connect(weir.web());
    let answers: Vec<_> = (0..90).map(|_| client.get("/").text()).collect();
    assert_eq!([count(&answers, "a"), count(&answers, "b"), count(&answers, "c")], [50, 30, 10]);
    for picks in 1..=answers.len() {
        for (name, weight) in [("a", 5.0), ("b", 3.0), ("c", 1.0)] {
            let exact = picks as f64 * weight / 9.0;
            let off = (count(&answers[..picks], name) as f64 - exact).abs();
            assert!(off < 1.0, "{name} is off by {off} after {picks}");
        }
    }
    weir.wait_for(&["weir_backend_requests_total", "backend=\"a\"", "2xx"], 50.0);
}

#[test]
fn least_connections_avoids_the_backend_that_is_busy() {
    let gate = Gate::default();
    let slow = gate.origin();
    let fast = Origin::named("fast");
    let weir = weir("least_connections", &[("slow", &slow, 1), ("fast", &fast, 1)]);
    let mut stuck = Client::connect(weir.web());
    stuck.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("one request is stuck", || slow.requests().len() == 1);
    let mut client = Client::connect(weir.web());
    for _ in 0..50 {
        assert_eq!(client.get("/").text(), "fast");
    }
    weir.wait_for(&["weir_backend_in_flight", "slow"], 1.0);
    gate.open();
    weir.wait_for(&["weir_backend_in_flight"], 0.0);
}

#[test]
fn a_weight_of_0_takes_no_new_requests() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let weir = weir("weighted_round_robin", &[("a", &a, 0), ("b", &b, 7)]);
    let mut client = Client::connect(weir.web());
    assert!((0..20).all(|_| client.get("/").text() == "b"));
}

#[test]
fn every_count_is_0_after_clients_that_left_at_any_byte() {
    let origin =
        Origin::start(|request| Reply::new(200, vec![b'x'; request.body.len() * 3]).after(Duration::from_millis(2)));
    for balance in ["round_robin", "least_connections"] {
        let weir = weir(balance, &[("a", &origin, 1)]);
        let address = weir.web();
        let threads: Vec<_> = (0..8_usize)
            .map(|thread| {
                std::thread::spawn(move || {
                    let request =
                        format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\n{}", "y".repeat(2000));
                    for turn in 0..100_usize {
                        let mut client = Client::connect(address);
                        if turn % 3 == 0 {
                            let cut = (turn * 37 + thread * 101) % request.len();
                            client.send(&request[..cut]);
                        } else if turn % 3 == 1 {
                            client.send(&request);
                            client.exactly(1 + (turn * 53 + thread) % 3000);
                        } else {
                            client.send(&request);
                            assert_eq!(client.response("POST").body.len(), 6000);
                        }
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        weir.wait_for(&["weir_backend_in_flight"], 0.0);
        weir.wait_for(&["weir_requests_in_flight"], 0.0);
        weir.wait_for(&["weir_listener_connections{"], 0.0);
    }
}
