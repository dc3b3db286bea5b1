//! `mirror`: copies of requests for another upstream, which never change the original.

use std::time::{Duration, Instant};

use crate::support::grpc::{Caller, Server, message, status};
use crate::support::http2::{connect, rest, run};
use crate::support::weir::command;
use crate::support::{Client, Config, Origin, Reply, Weir, eventually, files};

fn config(origin: &Origin, shadow: impl std::fmt::Display, mirror: &str) -> Config {
    Config::to(origin)
        .upstream("shadow", &[("s", shadow)])
        .set("routes.all.mirror.upstream", "shadow")
        .set("routes.all.mirror", mirror)
        .without_access_log()
}

fn copies(weir: &Weir, result: &str) -> f64 {
    weir.sum(&["weir_mirror_requests_total", "\"all\"", &format!("\"{result}\"")])
}

fn wait_for_copies(weir: &Weir, result: &str, count: f64) {
    eventually(&format!("{count} copies {result}, {}", copies(weir, result)), || copies(weir, result) == count);
}

#[test]
fn a_copy_has_the_method_the_target_the_fields_and_the_body_that_the_backend_gets() {
    let (origin, shadow) = (Origin::named("a"), Origin::named("shadow"));
    let config = config(&origin, &shadow, "")
        .set("routes.all.rewrite.add_prefix", "/v2")
        .set("routes.all.request_headers.set", "{ x-edge: weir }");
    let weir = Weir::start(config);
    let mut client = Client::connect(weir.web());
    assert_eq!(client.get("/a?b=c").text(), "a");
    wait_for_copies(&weir, "ok", 1.0);
    assert_eq!(client.post("/p", b"some body").text(), "a");
    wait_for_copies(&weir, "ok", 2.0);
    client.send("PUT /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n");
    client.send("4\r\nchun\r\n3\r\nked\r\n0\r\n\r\n");
    assert_eq!(client.response("PUT").text(), "a");
    wait_for_copies(&weir, "ok", 3.0);
    eventually("all copies", || shadow.requests().len() == 3);
    let mut copied = shadow.requests();
    copied.sort_by(|one, other| one.method.cmp(&other.method));
    let mut sent = origin.requests();
    sent.sort_by(|one, other| one.method.cmp(&other.method));
    for (copy, original) in copied.iter().zip(&sent) {
        assert_eq!((&copy.method, &copy.target, &copy.body), (&original.method, &original.target, &original.body));
        for name in ["x-edge", "x-forwarded-for", "x-request-id", "host", "via"] {
            assert_eq!(copy.header(name), original.header(name), "{name}");
        }
        assert_eq!((copy.header("x-weir-mirror"), original.header("x-weir-mirror")), (Some("all"), None));
        assert!(copy.header("transfer-encoding").is_none() && copy.header("expect").is_none());
    }
    assert_eq!(copied[0].target, "/v2/a?b=c");
    assert_eq!(copied[1].body, b"some body");
    assert_eq!(copied[2].body, b"chunked");
    assert_eq!(shadow.connections(), 1, "the connections to the mirror are kept");
}

#[test]
fn requests_over_http2_and_calls_of_grpc_are_mirrored_also_between_protocols() {
    let (origin, shadow) = (Origin::named("a"), Origin::named("shadow"));
    let weir = Weir::start(config(&origin, &shadow, ""));
    run(async {
        let mut client = connect(weir.web()).await;
        let request = http::Request::post("http://h/x").header("cookie", "a=1").header("cookie", "b=2");
        let (response, mut out) = client.send_request(request.body(()).unwrap(), false).unwrap();
        out.send_data(bytes::Bytes::from_static(b"by http2"), true).unwrap();
        assert_eq!(rest(&mut response.await.unwrap().into_body()).await, b"a");
    });
    wait_for_copies(&weir, "ok", 1.0);
    let copy = shadow.last_request();
    assert_eq!(
        (&copy.body[..], copy.header("host"), copy.header("cookie")),
        (&b"by http2"[..], Some("h"), Some("a=1; b=2"))
    );

    let (server, other) = (Server::start(), Server::start());
    let grpc = Config::to(server.address)
        .upstream("shadow", &[("s", other.address)])
        .set("upstreams.up.protocol", "h2c")
        .set("upstreams.shadow.protocol", "h2c")
        .set("routes.all.mirror.upstream", "shadow");
    let to_http1 = grpc.clone().without("upstreams.shadow").upstream("shadow", &[("s", &shadow)]);
    let weir = Weir::start(grpc);
    let call = |weir: &Weir| {
        run(async {
            let mut client = Caller::connect(weir.web(), false).await;
            let (response, mut out) = client.call("/unary").await;
            out.send_data(message(b"one"), true).unwrap();
            assert_eq!(status(response.await.unwrap()).await, "0");
        });
    };
    call(&weir);
    wait_for_copies(&weir, "ok", 1.0);
    run(async {
        let mut client = Caller::connect(weir.web(), false).await;
        let (response, mut out) = client.call("/chat").await;
        out.send_data(message(b"one"), false).unwrap();
        let response = response.await.unwrap();
        out.send_data(message(b"two"), true).unwrap();
        assert_eq!(status(response).await, "0");
    });
    wait_for_copies(&weir, "ok", 2.0);
    assert!(weir.reload(to_http1));
    call(&weir);
    wait_for_copies(&weir, "ok", 3.0);
    let copy = shadow.last_request();
    assert_eq!((copy.target.as_str(), copy.header("host"), copy.header("te")), ("/unary", Some("example.org"), None));
    assert_eq!(copy.body, message(b"one"));
}

#[test]
fn a_mirror_that_is_dead_slow_or_answers_without_end_does_not_delay_or_change_the_original() {
    let origin = Origin::named("a");
    let dead = config(&origin, "127.0.0.1:1", "");
    let slow_origin = Origin::start(|_| Reply::new(500, "").after(Duration::from_secs(20)));
    let slow = config(&origin, &slow_origin, "in_flight: 3, timeout: 200ms");
    let endless_origin = Origin::start(|_| Reply::new(200, vec![b'x'; 100 << 20]));
    let endless = config(&origin, &endless_origin, "");
    let weir = Weir::start(&dead);
    let mut client = Client::connect(weir.web());
    let mut ask = |requests: usize| {
        let started = Instant::now();
        (0..requests).for_each(|_| assert_eq!(client.post("/", b"x").text(), "a"));
        assert!(started.elapsed() < Duration::from_secs(15));
    };
    ask(20);
    wait_for_copies(&weir, "failed", 20.0);
    assert!(weir.reload(slow));
    ask(20);
    eventually("the copies end", || copies(&weir, "timeout") + copies(&weir, "dropped") == 20.0);
    assert!(copies(&weir, "timeout") >= 3.0 && copies(&weir, "dropped") >= 1.0);
    assert!(weir.reload(endless));
    ask(3);
    wait_for_copies(&weir, "ok", 3.0);
    assert_eq!(weir.metric("weir_mirror_in_flight{route=\"all\"}"), 0.0);
    assert_eq!(origin.requests().len(), 43);
    assert_eq!(weir.sum(&["weir_faults_total"]), 0.0);
}

#[test]
fn the_copies_in_flight_are_bounded_and_dropped_ones_are_counted() {
    let (origin, shadow) = (Origin::named("a"), Origin::start(|_| Reply::new(200, "").after(Duration::from_secs(2))));
    let weir = Weir::start(config(&origin, &shadow, "in_flight: 2"));
    let mut client = Client::connect(weir.web());
    (0..10).for_each(|_| assert_eq!(client.get("/").status, 200));
    assert_eq!(copies(&weir, "dropped"), 8.0);
    wait_for_copies(&weir, "ok", 2.0);
    assert_eq!(shadow.requests().len(), 2);
}

#[test]
fn a_request_that_is_tried_again_has_one_copy() {
    let failing = Origin::start(|_| Reply::new(503, ""));
    let (good, shadow) = (Origin::named("good"), Origin::named("shadow"));
    let config = Config::to_all(&[("a", &failing), ("b", &good)])
        .upstream("shadow", &[("s", &shadow)])
        .set("routes.all.mirror.upstream", "shadow")
        .set("routes.all.retry", "{ attempts: 3, when: [503], budget: 100% }");
    let weir = Weir::start(config);
    let mut client = Client::connect(weir.web());
    client.send("PUT /x HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody");
    assert_eq!(client.response("PUT").text(), "good");
    (0..9).for_each(|_| assert_eq!(client.get("/").text(), "good"));
    assert!(!failing.requests().is_empty(), "there were further attempts");
    wait_for_copies(&weir, "ok", 10.0);
    assert_eq!(shadow.requests().len(), 10);
    assert_eq!(shadow.requests().iter().filter(|copy| copy.body == b"body").count(), 1);
}

#[test]
fn a_large_or_incomplete_body_and_an_upgrade_are_not_mirrored() {
    let (origin, shadow) = (Origin::named("a"), Origin::named("shadow"));
    let weir = Weir::start(config(&origin, &shadow, "body: 1KiB"));
    let mut client = Client::connect(weir.web());
    assert_eq!(client.post("/", &[b'x'; 1024]).status, 200);
    wait_for_copies(&weir, "ok", 1.0);
    assert_eq!(client.post("/", &[b'x'; 1025]).status, 200);
    assert_eq!(copies(&weir, "too_large"), 1.0);
    client.send("PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send([&b"800\r\n"[..], &[b'x'; 2048], b"\r\n0\r\n\r\n"].concat());
    assert_eq!(client.response("PUT").status, 200);
    assert_eq!(origin.last_request().body.len(), 2048);
    wait_for_copies(&weir, "too_large", 2.0);
    let mut leaving = Client::connect(weir.web());
    leaving.send("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhalf");
    eventually("the request is at the backend", || weir.metric("weir_mirror_in_flight{route=\"all\"}") == 1.0);
    drop(leaving);
    wait_for_copies(&weir, "incomplete", 1.0);
    let mut upgrade = Client::connect(weir.web());
    upgrade.send(
        "GET /ws HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    assert_eq!(upgrade.response("GET").status, 200);
    assert_eq!(client.get("/last").status, 200);
    wait_for_copies(&weir, "ok", 2.0);
    assert_eq!(shadow.requests().iter().filter(|copy| copy.target == "/ws").count(), 0);
}

#[test]
fn only_weir_and_trusted_proxies_mark_a_request_as_a_copy() {
    let origin = Origin::named("a");
    for (trusted, seen) in [("[]", None), ("[127.0.0.0/8]", Some("all"))] {
        let weir = Weir::start(Config::to(&origin).set("trusted_proxies", trusted));
        assert_eq!(Client::connect(weir.web()).get_with("/", &[("X-Weir-Mirror", "all")]).status, 200);
        assert_eq!(origin.last_request().header("x-weir-mirror"), seen, "{trusted}");
    }
}

#[test]
fn a_share_of_the_requests_is_mirrored_and_a_reload_changes_it() {
    let (origin, shadow) = (Origin::named("a"), Origin::named("shadow"));
    let config = config(&origin, &shadow, "share: 20%");
    let weir = Weir::start(&config);
    let mut client = Client::connect(weir.web());
    (0..500).for_each(|_| assert_eq!(client.get("/").status, 200));
    eventually("all copies have ended", || weir.metric("weir_mirror_in_flight{route=\"all\"}") == 0.0);
    let copied = copies(&weir, "ok");
    // Six standard deviations of a binomial distribution are 54.
    assert!((46.0..=154.0).contains(&copied), "{copied}");
    let text = weir.status_and_output(&["explain", "GET", "/"]).1;
    assert!(text.contains("mirror: a copy of 20% of the requests goes to shadow\n"), "{text}");
    assert!(weir.reload(config.without("routes.all.mirror").without("upstreams.shadow")));
    (0..20).for_each(|_| assert_eq!(client.get("/").status, 200));
    assert_eq!(shadow.requests().len() as f64, copied);
}

#[test]
fn a_bad_mirror_is_a_problem_at_its_place() {
    let folder = tempfile::tempdir().unwrap();
    for (mirror, place, what) in [
        ("{ upstream: up }", "mirror.upstream", "`up` gets the requests of this route already"),
        ("{ upstream: none }", "mirror.upstream", "there is no upstream `none`"),
        ("{ upstream: s, share: 0% }", "mirror.share", "no request would be mirrored"),
        ("{ upstream: s, body: 2MiB }", "mirror.body", "too large"),
        ("{ upstream: s, in_flight: 0 }", "mirror.in_flight", "out of range"),
        ("{ upstream: s, timeout: 2m }", "mirror.timeout", "out of range"),
        ("{ share: 5% }", "mirror", "upstream"),
    ] {
        let config = Config::to("127.0.0.1:1").upstream("s", &[("a", "127.0.0.1:2")]).set("routes.all.mirror", mirror);
        files::put(folder.path(), "weir.yaml", config.to_string());
        let output = command(&["check", "-c", folder.path().join("weir.yaml").to_str().unwrap()]);
        let found =
            output.stdout.lines().any(|line| line.contains(&format!("routes[0].{place}")) && line.contains(what));
        assert!(output.code == Some(2) && found, "{mirror}: {}", output.stdout);
    }
    let config = Config::new()
        .route("r", "respond: { status: 200 }, mirror: { upstream: s }")
        .upstream("s", &[("a", "127.0.0.1:2")]);
    files::put(folder.path(), "weir.yaml", config.to_string());
    let output = command(&["check", "-c", folder.path().join("weir.yaml").to_str().unwrap()]);
    assert!(output.stdout.contains("routes[0].mirror: `mirror` has no effect beside `respond`"), "{}", output.stdout);
}
