//! Requests that return to the same process are answered 508. Weir behind Weir passes.

use std::net::SocketAddr;

use serde_json::Value;

use crate::support::grpc::{Caller, message, status};
use crate::support::http2::{connect, run};
use crate::support::{Client, Config, Origin, Weir, eventually, spare};

/// A Weir whose backend is its own listener.
fn looping(protocol: &str) -> Weir {
    let own = spare();
    Weir::start(to_itself(own).set("upstreams.up.protocol", protocol))
}

fn to_itself(own: SocketAddr) -> Config {
    Config::to(own).set("listeners.web.address", own)
}

/// The requests of one loop in the access log: the innermost has the fault.
fn has_the_fault(weir: &Weir, lines: usize) {
    let log = weir.access_log_of(lines);
    assert_eq!(log.len(), lines, "three rounds, and the one that ends it: {log:?}");
    let faults: Vec<&Value> = log.iter().map(|line| &line["fault"]).filter(|fault| !fault.is_null()).collect();
    assert_eq!(faults, ["loop"]);
    let ended = log.iter().find(|line| line["fault"] == "loop").unwrap();
    assert_eq!((&ended["route"], &ended["upstream"]), (&"all".into(), &"up".into()), "{ended}");
    assert_eq!(ended["attempts"].as_array().unwrap().len(), 0, "{ended}");
    weir.wait_for(&["weir_faults_total", "fault=\"loop\""], 1.0);
    weir.wait_for_log("requests return to this process in a loop");
    let warning = weir.stderr().lines().find(|line| line.contains("in a loop")).unwrap().to_owned();
    for part in ["upstream=\"up\"", "route=\"all\"", "fault=\"loop\"", "count=1", "request_id="] {
        assert!(warning.contains(part), "{part}: {warning}");
    }
}

#[test]
fn a_request_that_returns_to_its_own_listener_is_answered_508() {
    let weir = looping("http1");
    let response = Client::connect(weir.web()).get("/");
    assert_eq!(response.status, 508);
    assert!(response.text().contains("The request goes round in a loop."), "{}", response.text());
    has_the_fault(&weir, 4);
}

#[test]
fn a_loop_over_http2_is_answered_508() {
    let weir = looping("h2c");
    let status = run(async {
        let request = http::Request::get("http://example.org/").body(()).unwrap();
        connect(weir.web()).await.send_request(request, true).unwrap().0.await.unwrap().status()
    });
    assert_eq!(status, 508);
    has_the_fault(&weir, 4);
}

#[test]
fn a_grpc_call_that_loops_ends_with_internal() {
    let weir = looping("h2c");
    run(async {
        let mut caller = Caller::connect(weir.web(), false).await;
        let (response, mut out) = caller.call("/unary").await;
        out.send_data(message(b"x"), true).unwrap();
        assert_eq!(status(response.await.unwrap()).await, "13");
    });
    has_the_fault(&weir, 4);
    let ended = weir.access_log().into_iter().find(|line| line["fault"] == "loop").unwrap();
    assert_eq!(ended["grpc_status"], "INTERNAL");
}

#[test]
fn an_upgrade_that_loops_is_answered_508() {
    let weir = looping("http1");
    let mut client = Client::connect(weir.web());
    client.send(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    assert_eq!(client.response("GET").status, 508);
    has_the_fault(&weir, 4);
}

#[test]
fn a_loop_by_way_of_a_second_weir_is_answered_508() {
    let (first, second) = (spare(), spare());
    let one = Weir::start(Config::to(second).set("listeners.web.address", first));
    let two = Weir::start(Config::to(first).set("listeners.web.address", second));
    assert_eq!(Client::connect(first).get("/").status, 508);
    let faults = || one.sum(&["fault=\"loop\""]) + two.sum(&["fault=\"loop\""]);
    eventually("one of them ended it", || faults() == 1.0);
}

#[test]
fn three_weirs_in_a_chain_pass_and_each_has_its_own_pseudonym() {
    let origin = Origin::named("a");
    let inner = Weir::start(Config::to(&origin));
    let middle = Weir::start(Config::to(inner.web()));
    let outer = Weir::start(Config::to(middle.web()));
    assert_eq!(Client::connect(outer.web()).get("/").text(), "a");
    let request = origin.last_request();
    let vias = request.all("via").join(",");
    let mut names: Vec<&str> = vias.split(',').map(|entry| entry.trim().strip_prefix("1.1 weir-").unwrap()).collect();
    assert_eq!(names.len(), 3, "{vias}");
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 3, "{vias}");
}

#[test]
fn a_request_may_pass_the_same_process_twice_and_again_after_a_reload() {
    let (origin, inner) = (Origin::named("a"), spare());
    let config = Config::to(inner)
        .set("routes.all.match.listeners", "[web]")
        .listener("inner", format!("address: \"{inner}\""))
        .upstream("origin", &[("a", &origin)])
        .route("inner", "match: { listeners: [inner] }, upstream: origin");
    let weir = Weir::start(config.clone());
    let mut client = Client::connect(weir.web());
    assert_eq!(client.get("/").text(), "a");
    assert!(weir.reload(config.set("routes.all.retry.attempts", "2")));
    assert_eq!(client.get("/").text(), "a");
    // What other processes write does not count.
    let three = [("Host", "a"), ("Via", "1.1 weir-0000000000000001, 1.1 weir-0000000000000001, 1.1 weir, 1.1 weir")];
    assert_eq!(client.get_with("/", &three).text(), "a");
}

#[test]
fn responses_do_not_show_the_pseudonym() {
    let origin = Origin::named("a");
    let weir = Weir::start(Config::to(&origin));
    assert_eq!(Client::connect(weir.web()).get("/").header("via"), Some("1.1 weir"));
}
