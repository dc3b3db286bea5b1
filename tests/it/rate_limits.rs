//! Rate limits and concurrency limits, on each way that a request can take.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support::echo::Faults;
use crate::support::grpc::{Caller, Server, message, status};
use crate::support::http2::{connect, run};
use crate::support::targets::for_each_backend;
use crate::support::{
    BACKENDS, CLIENTS, Client, Config, Echo, Gate, Origin, PLAIN, Random, Reply, Response, Targets, Weir, busy,
    delayed, eventually, size, wait_until,
};

/// A limit `api` on the route `all`. One token in an hour comes back, so the test knows how many are there.
fn config(origin: &Origin, limit: &str) -> Config {
    Config::to(origin).set("rate_limits.api", limit).set("routes.all.rate_limits", "[api]")
}

fn allowed(weir: &Weir) -> f64 {
    weir.metric("weir_rate_limit_decisions_total{limit=\"api\",result=\"allowed\"}")
}

fn limited(weir: &Weir) -> f64 {
    weir.metric("weir_rate_limit_decisions_total{limit=\"api\",result=\"limited\"}")
}

/// The statuses of so many requests on one connection.
fn statuses(weir: &Weir, requests: usize, headers: &[(&str, &str)]) -> Vec<u16> {
    let mut client = Client::connect(weir.web());
    (0..requests).map(|_| client.get_with("/", headers).status).collect()
}

fn number_after(text: &str, name: &str) -> u64 {
    let (_, rest) = text.split_once(name).unwrap_or_else(|| panic!("{name} in {text}"));
    rest.split(';').next().unwrap().parse().unwrap()
}

#[test]
fn a_request_over_the_limit_is_answered_with_429_and_says_when_to_come_back() {
    let origin = Origin::named("a");
    let weir = Weir::start(config(&origin, "rate: 60/1h, burst: 2"));
    let mut client = Client::connect(weir.web());
    assert_eq!((client.get("/").status, client.get("/").status), (200, 200));
    let refused = client.get("/");
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("ratelimit-policy"), Some("\"api\";q=60;w=3600"));
    let state = refused.header("ratelimit").unwrap().to_owned();
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!(state.starts_with("\"api\";r=0;t=") && (1..=60).contains(&wait), "{state} {wait}");
    assert_eq!(number_after(&state, "t="), wait);
    assert_eq!(client.get("/").status, 429, "the connection goes on");
    assert_eq!(origin.requests().len(), 2);
    assert_eq!((allowed(&weir), limited(&weir)), (2.0, 2.0));
    assert_eq!(weir.metric("weir_rate_limit_keys{limit=\"api\"}"), 1.0);
    let log = weir.access_log_of(4);
    assert_eq!((&log[1]["limits"], &log[1]["fault"]), (&serde_json::Value::Null, &serde_json::Value::Null));
    assert_eq!(log[2]["limits"], serde_json::json!([{ "limit": "api", "result": "limited" }]));
    assert_eq!((&log[2]["fault"], &log[2]["status"]), (&"rate_limited".into(), &429.into()));
}

#[test]
fn tokens_come_back_with_time() {
    let origin = Origin::named("a");
    let weir = Weir::start(config(&origin, "rate: 10/1s, burst: 1"));
    let mut client = Client::connect(weir.web());
    assert_eq!(client.get("/").status, 200);
    eventually("the next token", || client.get("/").status == 200);
}

#[test]
fn each_value_of_a_key_has_its_own_bucket() {
    for (key, [one, two]) in [
        ("{ header: x-api-key }", [("X-Api-Key", "k1"), ("X-Api-Key", "k2")]),
        ("{ cookie: session }", [("Cookie", "a=1; session=s1"), ("Cookie", "session=s2")]),
        ("host", [("Host", "one.example"), ("Host", "two.example")]),
        ("{ client: {} }", [("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-For", "192.0.2.2")]),
        ("client", [("X-Forwarded-For", "2001:db8:0:1::1"), ("X-Forwarded-For", "2001:db8:0:2::1")]),
    ] {
        let origin = Origin::named("a");
        let limit = format!("rate: 1/1h, key: {key}");
        let weir = Weir::start(config(&origin, &limit).set("trusted_proxies", "[127.0.0.0/8]"));
        assert_eq!(statuses(&weir, 2, &[one]), [200, 429], "{key}");
        assert_eq!(statuses(&weir, 2, &[two]), [200, 429], "{key}");
    }
}

#[test]
fn addresses_of_one_ipv6_network_and_ipv4_mapped_ones_share_a_bucket() {
    let origin = Origin::named("a");
    let weir = Weir::start(config(&origin, "rate: 1/1h").set("trusted_proxies", "[127.0.0.0/8]"));
    for (one, other) in [("2001:db8::1", "2001:db8::ffff:2"), ("192.0.2.1", "::ffff:192.0.2.1")] {
        assert_eq!(statuses(&weir, 1, &[("X-Forwarded-For", one)]), [200], "{one}");
        assert_eq!(statuses(&weir, 1, &[("X-Forwarded-For", other)]), [429], "{other}");
    }
}

#[test]
fn a_bucket_belongs_to_the_name_of_the_limit_whichever_route_asks() {
    let origin = Origin::named("a");
    let config = config(&origin, "rate: 1/1h")
        .route("more", "match: { path_prefix: /more }, upstream: up, rate_limits: [api]")
        .set("rate_limits.each", "rate: 1/1h, key: route")
        .route("one", "match: { path_prefix: /one }, respond: { status: 200 }, rate_limits: [each]")
        .route("two", "match: { path_prefix: /two }, respond: { status: 200 }, rate_limits: [each]");
    let weir = Weir::start(config);
    let mut client = Client::connect(weir.web());
    assert_eq!(["/", "/more", "/more"].map(|path| client.get(path).status), [200, 429, 429]);
    assert_eq!(["/one", "/two", "/one", "/two"].map(|path| client.get(path).status), [200, 200, 429, 429]);
}

#[test]
fn a_request_without_the_key_is_skipped_counted_by_client_or_rejected() {
    let origin = Origin::named("a");
    for (missing, want) in [("skip", [200, 200]), ("client", [200, 429]), ("reject", [403, 403])] {
        for key in ["{ header: x-api-key }", "identity", "{ claim: sub }"] {
            let weir = Weir::start(config(&origin, &format!("rate: 1/1h, key: {key}, missing: {missing}")));
            assert_eq!(statuses(&weir, 2, &[]), want, "{missing} {key}");
            assert_eq!(
                weir.stderr().contains("so no request has a value for the key of `api`"),
                !key.contains("header")
            );
        }
    }
}

#[test]
fn a_limit_that_is_not_enforced_only_counts_and_logs() {
    let origin = Origin::named("a");
    let weir = Weir::start(config(&origin, "rate: 1/1h, enforce: false"));
    assert_eq!(statuses(&weir, 3, &[]), [200; 3]);
    assert_eq!(weir.metric("weir_rate_limit_decisions_total{limit=\"api\",result=\"would_limit\"}"), 2.0);
    let log = weir.access_log_of(3);
    assert_eq!(log[2]["limits"], serde_json::json!([{ "limit": "api", "result": "would_limit" }]));
    assert_eq!(log[2]["fault"], serde_json::Value::Null);
    assert!(weir.reload(config(&origin, "rate: 1/1h")), "the debt is known once it is enforced");
    assert_eq!(statuses(&weir, 1, &[]), [429]);
}

#[test]
fn a_limit_applies_before_redirects_and_fixed_responses() {
    for action in ["redirect: { to: /there }", "respond: { status: 200 }"] {
        let config = Config::new()
            .set("rate_limits.api", "rate: 1/1h")
            .route("all", action)
            .set("routes.all.rate_limits", "[api]");
        let weir = Weir::start(config);
        let statuses = statuses(&weir, 2, &[]);
        assert!(statuses[0] < 400 && statuses[1] == 429, "{action} {statuses:?}");
    }
}

#[test]
fn a_limit_applies_once_however_often_a_request_is_tried() {
    let good = Origin::named("b");
    let bad = Origin::start(|_| Reply::new(503, ""));
    let config = Config::to_all(&[("bad", bad.to_string()), ("good", good.to_string())])
        .set("routes.all.retry", "attempts: 3, when: [503]")
        .set("upstreams.up.outlier", "off")
        .set("rate_limits.api", "rate: 4/1h")
        .set("routes.all.rate_limits", "[api]");
    let weir = Weir::start(config);
    assert_eq!(statuses(&weir, 5, &[]), [200, 200, 200, 200, 429]);
    assert!(!bad.requests().is_empty(), "there were retries");
}

#[test]
fn a_request_that_one_limit_refuses_takes_nothing_from_the_others() {
    let origin = Origin::named("a");
    let weir = Weir::start(
        config(&origin, "rate: 3/1h")
            .set("rate_limits.narrow", "rate: 1/1h, key: { header: x-key }, missing: reject")
            .set("routes.all.rate_limits", "[api, narrow]"),
    );
    assert_eq!(statuses(&weir, 9, &[("X-Key", "a")])[..2], [200, 429]);
    assert_eq!(statuses(&weir, 1, &[("X-Key", "b")]), [200]);
    assert_eq!(statuses(&weir, 2, &[]), [403, 403]);
    assert_eq!(statuses(&weir, 2, &[("X-Key", "c")]), [200, 429]);
}

#[test]
fn every_kind_of_client_and_every_kind_of_backend_is_limited() {
    let settings = "match: { path_prefix: /NAME }, upstream: NAME, rate_limits: [api]";
    let routes = for_each_backend(&[("NAME", settings)]);
    let targets = Targets::start_with("", &routes, |config| config.set("rate_limits.api", "rate: 5/1h, key: route"));
    for backend in BACKENDS {
        let path = format!("/{backend}");
        let ask = |kind| targets.ask(kind, "example.org", &path);
        assert!(CLIENTS.iter().all(|kind| ask(*kind).is_ok()), "{backend}");
        assert!(CLIENTS.iter().all(|kind| ask(*kind) == Err(429)), "{backend}");
    }
}

#[test]
fn every_spelling_of_a_path_is_limited() {
    let origin = Origin::named("a");
    let weir = Weir::start(config(&origin, "rate: 1/1h").set("routes.all.match", "path_prefix: /login"));
    let mut client = Client::connect(weir.web());
    assert_eq!(client.get("/login").status, 200);
    for path in ["/login", "/%6Cogin", "/./login", "/x/../login", "/login?again", "/login/", "/login/%2e"] {
        assert_eq!(client.get(path).status, 429, "{path}");
    }
}

#[test]
fn requests_over_http2_count_one_by_one() {
    let origin = Origin::named("a");
    let weir = Weir::start(config(&origin, "rate: 2/1h"));
    run(async {
        let mut client = connect(weir.web()).await;
        let mut statuses = Vec::new();
        for _ in 0..3 {
            client = client.ready().await.unwrap();
            let request = http::Request::get("http://example.org/").body(()).unwrap();
            let response = client.send_request(request, true).unwrap().0.await.unwrap();
            statuses.push((response.status().as_u16(), response.headers().contains_key("ratelimit")));
        }
        assert_eq!(statuses, [(200, false), (200, false), (429, true)]);
    });
}

#[test]
fn a_call_of_grpc_over_the_limit_is_resource_exhausted() {
    let server = Server::start_with(None);
    let limited = PLAIN
        .config(server.address)
        .set("upstreams.up.protocol", "h2c")
        .set("rate_limits.api", "rate: 1/1h")
        .set("routes.all.rate_limits", "[api]");
    let weir = Weir::start(limited);
    run(async {
        let mut client = Caller::connect(weir.web(), false).await;
        let mut statuses = Vec::new();
        for _ in 0..2 {
            let (response, mut out) = client.call("/unary").await;
            let _ = out.send_data(message(b"one"), true);
            let response = response.await.unwrap();
            assert_eq!(response.status(), 200);
            statuses.push(status(response).await);
        }
        assert_eq!(statuses, ["0", "8"]);
    });
    weir.wait_for(&["weir_grpc_requests_total", "RESOURCE_EXHAUSTED"], 1.0);
}

/// Asks for a WebSocket.
fn upgrade(weir: &Weir) -> (Client, Response) {
    let mut client = Client::connect(weir.web());
    client.send(
        "GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    let response = client.response("GET");
    (client, response)
}

fn websocket_origin() -> Origin {
    Origin::raw(|mut stream| {
        let mut bytes = [0; 4096];
        let _ = stream.read(&mut bytes);
        let _ = stream.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
              Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        );
        while stream.read(&mut bytes).is_ok_and(|read| read > 0) {}
    })
}

#[test]
fn upgrades_are_limited_and_a_tunnel_counts_as_in_flight_until_it_ends() {
    let origin = websocket_origin();
    let weir = Weir::start(config(&origin, "rate: 100/1h, concurrent: 1"));
    let (tunnel, response) = upgrade(&weir);
    assert_eq!(response.status, 101);
    let (_, refused) = upgrade(&weir);
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")));
    assert_eq!(refused.header("ratelimit-policy"), Some("\"api\";q=1;qu=\"concurrent-requests\""));
    drop(tunnel);
    eventually("the place of the tunnel", || upgrade(&weir).1.status == 101);
}

#[test]
fn requests_in_flight_are_bounded_for_each_key_and_a_client_that_leaves_frees_its_place() {
    let gate = Gate::default();
    let origin = gate.origin();
    let weir = Weir::start(config(&origin, "concurrent: 2, key: { header: x-key }"));
    let open = |key: &str| {
        let mut client = Client::connect(weir.web());
        client.send(format!("GET / HTTP/1.1\r\nHost: test\r\nX-Key: {key}\r\n\r\n"));
        client
    };
    let held = [open("a"), open("a")];
    eventually("two requests at the origin", || origin.requests().len() == 2);
    assert_eq!(open("a").response("GET").status, 429);
    let mut other = open("b");
    eventually("another key", || origin.requests().len() == 3);
    drop(held);
    gate.open();
    assert_eq!(other.response("GET").status, 200);
    eventually("the places of those that left", || open("a").response("GET").status == 200);
}

#[test]
fn a_stream_over_http2_counts_as_in_flight_until_it_is_reset() {
    let gate = Gate::default();
    let origin = gate.origin();
    let weir = Weir::start(config(&origin, "concurrent: 1"));
    run(async {
        let mut client = connect(weir.web()).await;
        let get = || http::Request::get("http://example.org/").body(()).unwrap();
        let (held, mut stream) = client.send_request(get(), true).unwrap();
        wait_until("a request at the origin", || origin.requests().len() == 1).await;
        client = client.ready().await.unwrap();
        assert_eq!(client.send_request(get(), true).unwrap().0.await.unwrap().status(), 429);
        stream.send_reset(h2::Reason::CANCEL);
        drop((held, stream));
        gate.open();
        let mut last = 0;
        for _ in 0..200 {
            client = client.ready().await.unwrap();
            last = client.send_request(get(), true).unwrap().0.await.unwrap().status().as_u16();
            if last == 200 {
                break;
            }
            delayed(Duration::from_millis(10)).await;
        }
        assert_eq!(last, 200);
    });
}

#[test]
fn debts_survive_reloads_while_the_limit_is_the_same() {
    let origin = Origin::named("a");
    let limit = "rate: 1/1h";
    let weir = Weir::start(config(&origin, limit));
    assert_eq!(statuses(&weir, 2, &[]), [200, 429]);
    assert!(weir.reload(config(&origin, limit).set("routes.all.timeouts", "read: 9s").set("rate_limits.b", limit)));
    assert_eq!(statuses(&weir, 1, &[]), [429], "the same limit");
    assert!(weir.reload(Config::to(&origin)));
    assert_eq!(statuses(&weir, 1, &[]), [200], "no limit");
    assert!(weir.reload(config(&origin, limit)));
    assert_eq!(statuses(&weir, 1, &[]), [429], "the limit is back, and so is the debt");
    assert!(weir.reload(config(&origin, "rate: 2/1h")));
    assert_eq!(statuses(&weir, 1, &[]), [200], "another limit");
    assert_eq!(weir.access_log_of(6).len(), 6);
}

#[test]
fn reloads_under_load_fail_no_request_and_forget_no_debt() {
    let origin = Echo::start("a", Faults::default());
    let base = |more: usize| {
        let config = Config::to(&origin)
            .without_access_log()
            .set("rate_limits.wide", "rate: 1000000/1s")
            .set("rate_limits.debtor", "rate: 1/1h")
            .set("routes.all.rate_limits", "[wide]")
            .route("debtor", "match: { path: /debtor }, respond: { status: 204 }, rate_limits: [debtor]");
        (0..more % 5).fold(config, |config, at| {
            config
                .set(&format!("rate_limits.l{at}"), "rate: 100000/1s, key: host")
                .set("routes.all.rate_limits", format!("[wide, l{at}]"))
        })
    };
    let weir = Weir::start(base(0));
    let debtor = || Client::connect(weir.web()).get("/debtor").status;
    assert_eq!((debtor(), debtor()), (204, 429));
    let stop = Arc::default();
    let clients = busy(weir.web(), 4, &stop);
    // `make soak` does a hundred.
    let reloads = size("WEIR_LIMIT_RELOADS", 12);
    for round in 0..reloads {
        assert!(weir.reload(base(round)));
        assert_eq!(debtor(), 429, "after {round} reloads");
    }
    stop.store(true, Ordering::Release);
    let served: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
    assert!(served > 50, "{served}");
    let refused = weir.sum(&["weir_rate_limit_decisions_total", "result=\"limited\""]);
    assert_eq!(refused, 1.0 + reloads as f64, "only those of the debtor");
}

#[test]
fn the_operator_sees_the_largest_debts_and_no_secret() {
    let origin = Origin::named("a");
    let limit = "rate: 30/1h, key: { header: x-api-key }, missing: client";
    let weir = Weir::start(config(&origin, limit).set("rate_limits.idle", "concurrent: 3, enforce: false"));
    for number in 0..25 {
        let key = format!("key{number}-hunter2");
        (0..=number / 5).for_each(|_| drop(statuses(&weir, 1, &[("X-Api-Key", &key)])));
    }
    statuses(&weir, 6, &[]);
    let reply = weir.admin_get("/api/v1/limits").json();
    let limit = &reply["limits"][0];
    assert_eq!((&limit["name"], &limit["rate"], &limit["buckets"]), (&"api".into(), &"30/1h".into(), &26.into()));
    let keys = limit["keys"].as_array().unwrap();
    assert_eq!((keys.len(), &keys[0]["key"], &keys[0]["debt"]), (20, &"127.0.0.1".into(), &6.into()));
    assert!(keys[1]["key"].as_str().unwrap().starts_with("key2… #"), "{keys:?}");
    assert!(!reply.to_string().contains("hunter2"));
    let (code, text) = weir.status_and_output(&["status", "--limits"]);
    assert_eq!(code, 0);
    for part in ["api", "30/1h, burst 30", "3 in flight, not enforced", "127.0.0.1", "key2… #"] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    let page = weir.admin_get("/").text();
    assert!(page.contains("Rate limit api") && page.contains("127.0.0.1") && !page.contains("hunter2"), "{page}");
}

#[test]
fn explain_says_which_limits_apply_and_what_would_be_limited() {
    let origin = Origin::named("a");
    let weir = Weir::start(
        config(&origin, "rate: 1/1h")
            .set("rate_limits.keyed", "rate: 5/1h, key: { header: x-api-key }, missing: reject")
            .set("routes.all.rate_limits", "[api, keyed]"),
    );
    let ask = |arguments: &[&str]| {
        let (code, text) = weir.status_and_output(&[&["explain", "GET", "http://a.test/"], arguments].concat());
        assert_eq!(code, 0, "{text}");
        text
    };
    let before = ask(&["--client", "127.0.0.1", "-H", "X-Api-Key: secret-key"]);
    assert!(before.contains("allowed") && before.contains("secr… #") && !before.contains("secret-key"), "{before}");
    assert_eq!(statuses(&weir, 1, &[("X-Api-Key", "secret-key")]), [200]);
    let after = ask(&["--client", "127.0.0.1", "--json"]);
    let limits = serde_json::from_str::<serde_json::Value>(&after).unwrap()["limits"].clone();
    assert_eq!(
        (&limits[0]["limits"], &limits[0]["remaining"], &limits[0]["key"]),
        (&true.into(), &0.into(), &"127.0.0.1".into())
    );
    assert!(limits[0]["verdict"].as_str().unwrap().starts_with("429, retry after "), "{limits}");
    assert_eq!((&limits[1]["limits"], &limits[1]["key"]), (&true.into(), &serde_json::Value::Null));
    assert!(ask(&["--client", "192.0.2.9"]).contains("allowed"), "nothing was taken");
    assert_eq!(weir.status_and_output(&["explain", "GET", "/", "--client", "nowhere"]).0, 64);
}

#[test]
fn explain_does_not_announce_a_403_of_a_limit_that_is_not_enforced() {
    let origin = Origin::named("a");
    let limit = "rate: 5/1h, key: { header: x-api-key }, missing: reject, enforce: false";
    let weir = Weir::start(config(&origin, limit));
    let (code, text) = weir.status_and_output(&["explain", "GET", "http://a.test/", "--json"]);
    let limits = serde_json::from_str::<serde_json::Value>(&text).unwrap()["limits"].clone();
    assert_eq!((code, &limits[0]["limits"]), (0, &false.into()), "{text}");
    assert!(limits[0]["verdict"].as_str().unwrap().contains("`enforce` is false"), "{limits}");
    assert_eq!(statuses(&weir, 1, &[]), [200]);
}

#[test]
fn requests_in_flight_return_to_zero_under_random_aborts() {
    let origin = Origin::start(|_| Reply::new(200, "x".repeat(100_000)).after(Duration::from_millis(3)));
    let limited = config(&origin, "rate: 1000000/1s, concurrent: 1000, key: { header: x-key }").without_access_log();
    let weir = Weir::start(limited);
    let address = weir.web();
    let client = move |seed: u64| {
        let mut random = Random::new(seed);
        for round in 0..40 {
            let mut client = Client::connect(address);
            let request = format!("GET / HTTP/1.1\r\nHost: test\r\nX-Key: {}\r\n\r\n", round % 5);
            match random.below(4) {
                0 => client.send(&request[..request.len() - 2]),
                1 => client.send(&request),
                2 => {
                    client.send(&request);
                    let _ = client.exactly(1_000);
                }
                _ => {
                    client.send(&request);
                    assert_eq!(client.response("GET").status, 200);
                }
            }
        }
    };
    let clients: Vec<_> = (0..8).map(|seed| std::thread::spawn(move || client(seed + 1))).collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    let in_flight = || weir.admin_get("/api/v1/limits").json()["limits"][0]["keys_in_flight"].as_u64().unwrap();
    eventually("no request in flight", || in_flight() == 0);
    assert!(allowed(&weir) > 100.0);
}
