//! Rate limits whose cost a response states: in a header field, in a JSON document, or in an event stream.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use crate::support::{Client, Config, Gate, Origin, Reply, Weir, delay, eventually};

/// A budget of 1,000 tokens in an hour, of which a request reserves 100.
fn config(origin: &Origin, cost: &str) -> Config {
    Config::to(origin)
        .set("rate_limits.budget", "rate: 1000/1h, reserve: 100, key: host")
        .set("rate_limits.budget.cost", cost)
        .set("routes.all.rate_limits", "[budget]")
}

const USAGE: &str = "response_json: /usage/total_tokens";

/// The remaining budget, from the admin API.
fn debt(weir: &Weir) -> u64 {
    let reply = weir.admin_get("/api/v1/limits").json();
    reply["limits"][0]["keys"].as_array().unwrap().iter().map(|key| key["debt"].as_u64().unwrap()).sum()
}

fn wait_for_debt(weir: &Weir, want: u64) {
    // A token comes back every 3.6 s.
    eventually(&format!("a debt of {want}, is {}", debt(weir)), || {
        (want.saturating_sub(9)..=want).contains(&debt(weir))
    });
}

fn costs(weir: &Weir, result: &str) -> f64 {
    weir.metric(&format!("weir_rate_limit_costs_total{{limit=\"budget\",result=\"{result}\"}}"))
}

#[test]
fn the_cost_in_a_header_field_is_charged_at_the_end() {
    let origin = Origin::start(|request| Reply::with(200, &[("X-Tokens", request.header("x-cost").unwrap())], ""));
    let weir = Weir::start(config(&origin, "response_header: x-tokens"));
    let mut client = Client::connect(weir.web());
    let mut ask = |cost: &str| client.get_with("/", &[("Host", "a"), ("X-Cost", cost)]).status;
    assert_eq!(ask("40"), 200);
    wait_for_debt(&weir, 40);
    assert_eq!(ask("0"), 200);
    wait_for_debt(&weir, 40);
    assert_eq!((ask("860"), ask("200")), (200, 200));
    wait_for_debt(&weir, 1_100);
    assert_eq!(ask("1"), 429);
    assert_eq!(costs(&weir, "stated"), 4.0);
}

#[test]
fn a_cost_that_is_absent_or_no_number_or_out_of_range_charges_the_reservation() {
    let origin = Origin::start(|request| match request.header("x-cost") {
        Some(cost) => Reply::with(200, &[("X-Tokens", cost)], ""),
        None => Reply::new(200, ""),
    });
    let weir = Weir::start(config(&origin, "response_header: x-tokens"));
    let mut client = Client::connect(weir.web());
    for cost in ["-1", "many", "1000000001"] {
        assert_eq!(client.get_with("/", &[("Host", "a"), ("X-Cost", cost)]).status, 200);
    }
    assert_eq!(client.get_with("/", &[("Host", "a")]).status, 200);
    wait_for_debt(&weir, 400);
    assert_eq!((costs(&weir, "invalid"), costs(&weir, "absent")), (3.0, 1.0));
}

#[test]
fn the_cost_in_a_body_is_charged_whatever_its_framing() {
    let json = r#"{"usage":{"total_tokens":30}}"#;
    let events = "data: {\"text\":\"a\"}\n\ndata: {\"usage\":{\"total_tokens\":50}}\n\ndata: [DONE]\n\n";
    let chunked = |kind: &str, body: &str| {
        let chunks: String = body.as_bytes().chunks(7).map(chunk).collect();
        format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")
    };
    let (json_chunked, stream) = (chunked("application/json", json), chunked("text/event-stream", events));
    let origin = Origin::start(move |request| match request.target.as_str() {
        "/json" => Reply::with(200, &[("Content-Type", "application/json")], json),
        "/chunked" => Reply::raw(&json_chunked),
        _ => Reply::raw(&stream),
    });
    let weir = Weir::start(config(&origin, USAGE));
    let mut client = Client::connect(weir.web());
    for (path, total) in [("/json", 30), ("/chunked", 60), ("/stream", 110)] {
        assert_eq!(client.get_with(path, &[("Host", "a"), ("Accept-Encoding", "gzip")]).status, 200);
        wait_for_debt(&weir, total);
    }
    assert!(origin.requests().iter().all(|request| request.header("accept-encoding") == Some("identity")));
}

fn chunk(part: &[u8]) -> String {
    format!("{:x}\r\n{}\r\n", part.len(), String::from_utf8_lossy(part))
}

#[test]
fn a_body_with_a_content_coding_charges_the_reservation() {
    let fields = [("Content-Type", "application/json"), ("Content-Encoding", "gzip")];
    let origin = Origin::start(move |_| Reply::with(200, &fields, "{\"usage\":{\"total_tokens\":3}}"));
    let weir = Weir::start(config(&origin, USAGE));
    assert_eq!(Client::connect(weir.web()).get("/").status, 200);
    wait_for_debt(&weir, 100);
    assert_eq!(costs(&weir, "absent"), 1.0);
}

#[test]
fn concurrent_requests_cannot_overshoot_because_they_reserve() {
    let gate = Gate::default();
    let origin = {
        let gate = gate.clone();
        Origin::start(move |_| {
            gate.pass();
            Reply::with(200, &[("X-Tokens", "100")], "")
        })
    };
    let weir = Weir::start(config(&origin, "response_header: x-tokens").without_access_log());
    let clients: Vec<_> = (0..40)
        .map(|_| {
            let address = weir.web();
            std::thread::spawn(move || Client::connect(address).get("/").status)
        })
        .collect();
    eventually("ten requests at the origin", || origin.requests().len() == 10);
    weir.wait_for(&["weir_rate_limit_decisions_total", "limited"], 30.0);
    gate.open();
    let statuses: Vec<u16> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 10);
    wait_for_debt(&weir, 1_000);
}

#[test]
fn a_client_that_leaves_is_charged_what_was_seen_or_reserved_whichever_is_more() {
    for (seen, want) in [(30, 100), (300, 300)] {
        let origin = Origin::raw(move |mut stream: TcpStream| {
            let mut bytes = [0; 4096];
            let _ = std::io::Read::read(&mut stream, &mut bytes);
            let event = format!("data: {{\"usage\":{{\"total_tokens\":{seen}}}}}\n\n");
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
            let _ = stream.write_all(format!("{head}{}", chunk(event.as_bytes())).as_bytes());
            delay(Duration::from_secs(10));
        });
        let weir = Weir::start(config(&origin, USAGE));
        let mut client = Client::connect(weir.web());
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        client.until(b"total_tokens").unwrap();
        drop(client);
        weir.wait_for(&["weir_rate_limit_costs_total", "aborted"], 1.0);
        wait_for_debt(&weir, want);
    }
}

#[test]
fn a_request_that_no_backend_got_costs_nothing() {
    let config = Config::to(crate::support::spare())
        .set("rate_limits.budget", "rate: 1000/1h, reserve: 100, key: host")
        .set("rate_limits.budget.cost", "response_header: x-tokens")
        .set("routes.all.rate_limits", "[budget]")
        .set("upstreams.up.fail_open", "false")
        .set("upstreams.up.health_check", "tcp: {}, interval: 100ms, timeout: 100ms, fall: 1");
    let weir = Weir::start(config);
    weir.wait_for_state("a", "down");
    assert!(Client::connect(weir.web()).get("/").status >= 500);
    wait_for_debt(&weir, 0);
}
