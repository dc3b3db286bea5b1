//! Maintenance: a route answers 503 while an operator has it switched on, for each way that a request can take.

use http::Request;

use crate::support::grpc::{Caller, Server, message, status};
use crate::support::http2::{connect, run};
use crate::support::{Client, Config, Origin, Weir};

fn config(origin: &Origin) -> Config {
    Config::to(origin)
        .set("trusted_proxies", "[127.0.0.0/8]")
        .set("routes.all.maintenance", "{ allow: [192.0.2.0/24], retry_after: 2m }")
        .set("routes.all.errors", "{ 503: { text: 'back soon, {request_id}' } }")
        .set("routes.fixed", "match: { path: /fixed }, respond: { status: 200, body: fixed }")
}

fn switch(weir: &Weir, route: &str, state: &str) -> (i32, String) {
    weir.status_and_output(&["maintenance", route, state])
}

const METRIC: &str = "weir_route_maintenance{route=\"all\"}";

#[test]
fn a_route_in_maintenance_answers_503_until_it_is_switched_off() {
    let origin = Origin::named("a");
    let weir = Weir::start(config(&origin));
    assert_eq!((Client::connect(weir.web()).get("/").status, weir.metric(METRIC)), (200, 0.0));
    let (code, text) = switch(&weir, "all", "on");
    assert!(code == 0 && text.starts_with("all: maintenance on since 2"), "{text}");
    let served = origin.requests().len();
    let mut client = Client::connect(weir.web());
    let response = client.get("/");
    assert_eq!((response.status, response.header("retry-after")), (503, Some("120")));
    assert!(response.text().starts_with("back soon, "), "{}", response.text());
    assert_eq!(client.get("/fixed").status, 200, "another route");
    assert_eq!(client.get_with("/", &[("X-Forwarded-For", "192.0.2.7")]).status, 200, "a client of `allow`");
    assert_eq!(origin.requests().len(), served + 1);
    let upgrade =
        [("Upgrade", "websocket"), ("Connection", "upgrade"), ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")];
    assert_eq!(Client::connect(weir.web()).get_with("/", &upgrade).status, 503);
    run(async {
        let mut client = connect(weir.web()).await;
        let request = Request::builder().uri("http://a/").body(()).unwrap();
        let response = client.send_request(request, true).unwrap().0.await.unwrap();
        assert_eq!((response.status().as_u16(), response.headers()["retry-after"].to_str().unwrap()), (503, "120"));
    });
    let log = weir.access_log_of(4);
    assert!(log.iter().any(|line| line["fault"] == "maintenance" && line["status"] == 503), "{log:?}");
    assert_eq!(weir.metric(METRIC), 1.0);
    weir.wait_for_log("maintenance=\"on\"");
    assert_eq!(weir.status()["maintenance"][0]["route"], "all");
    let (_, text) = weir.status_and_output(&["status"]);
    assert!(text.contains("ROUTE IN MAINTENANCE"), "{text}");
    let (_, text) = weir.status_and_output(&["explain", "GET", "http://a/"]);
    assert!(text.contains("takes it, but it is in maintenance: 503"), "{text}");
    assert_eq!(switch(&weir, "all", "off"), (0, "all: maintenance off\n".to_owned()));
    assert_eq!((client.get("/").status, weir.metric(METRIC)), (200, 0.0));
}

#[test]
fn maintenance_survives_reloads_and_a_changed_allow_list_applies() {
    let origin = Origin::named("a");
    let weir = Weir::start(config(&origin));
    assert_eq!(switch(&weir, "all", "on").0, 0);
    assert!(weir.reload(config(&origin).set("routes.all.response_headers", "{ set: { x-a: b } }")));
    let mut client = Client::connect(weir.web());
    assert_eq!(client.get("/").status, 503);
    assert!(weir.reload(config(&origin).set("routes.all.maintenance", "{ allow: [127.0.0.0/8] }")));
    assert_eq!(client.get("/").status, 200);
    let gone = Config::new().listener("web", "").route("other", "respond: { status: 200 }");
    assert!(weir.reload(gone));
    assert!(weir.status()["maintenance"].as_array().unwrap().is_empty());
    assert!(weir.reload(config(&origin)));
    assert_eq!(client.get("/").status, 503, "the setting belongs to the name");
}

#[test]
fn maintenance_survives_a_restart_with_a_state_directory() {
    let origin = Origin::named("a");
    let folder = tempfile::tempdir().unwrap();
    let with_state = config(&origin).set("server.state_dir", "state");
    let weir = Weir::start_in(folder, &with_state);
    assert_eq!(switch(&weir, "all", "on").0, 0);
    let weir = Weir::start_in(weir.crash(), &with_state);
    assert_eq!(Client::connect(weir.web()).get("/").status, 503);
    weir.wait_for_log("the route is in maintenance");
    assert_eq!(switch(&weir, "all", "off").0, 0);
    let weir = Weir::start_in(weir.crash(), &with_state);
    assert_eq!(Client::connect(weir.web()).get("/").status, 200);
}

#[test]
fn a_call_of_grpc_is_unavailable_during_maintenance() {
    let server = Server::start();
    let weir = Weir::start(Config::to(server.address).set("upstreams.up.protocol", "h2c"));
    assert_eq!(switch(&weir, "all", "on").0, 0);
    run(async {
        let mut client = Caller::connect(weir.web(), false).await;
        let (response, mut out) = client.call("/unary").await;
        let _ = out.send_data(message(b"one"), true);
        assert_eq!(status(response.await.unwrap()).await, "14");
    });
}

#[test]
fn an_unknown_route_is_named_with_the_known_ones() {
    let weir = Weir::start(Config::new().listener("web", "").route("one", "respond: { status: 200 }"));
    let (code, text) = switch(&weir, "two", "on");
    assert!(code == 1 && text.contains("no route `two`; there is `one`"), "{text}");
    assert_eq!(weir.admin_get("/api/v1/routes/one/maintenance").json()["on"], false);
    assert_eq!(weir.admin_get("/api/v1/routes/two/maintenance").status, 404);
}
