//! CORS: preflights, and the fields on every response of a route, for each way that a request can take.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use http::Request;

use crate::support::grpc::{Caller, Server, message};
use crate::support::http2::{connect, run};
use crate::support::websocket::switching;
use crate::support::{Client, Config, Origin, Reply, Response, Weir, spare};

const APP: &str = "https://app.example";
const SETTINGS: &str = "{ origins: ['https://app.example', 'https://*.b.example'], methods: [PUT], headers: [x-a], \
                        expose: [x-total], credentials: true }";

fn config(origin: &Origin) -> Config {
    Config::to(origin).set("routes.all.cors", SETTINGS)
}

fn allowed(response: &Response) -> Option<&str> {
    response.header("access-control-allow-origin")
}

fn preflight(client: &mut Client, path: &str, origin: &str, method: &str) -> Response {
    client.send(format!(
        "OPTIONS {path} HTTP/1.1\r\nHost: a\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: {method}\r\n\r\n"
    ));
    client.response("OPTIONS")
}

#[test]
fn a_preflight_is_answered_without_a_backend() {
    let origin = Origin::named("a");
    let weir = Weir::start(config(&origin));
    let mut client = Client::connect(weir.web());
    for from in [APP, "https://x.b.example"] {
        let response = preflight(&mut client, "/", from, "PUT");
        assert_eq!((response.status, allowed(&response)), (204, Some(from)));
        assert_eq!(response.header("access-control-allow-credentials"), Some("true"));
        assert_eq!(response.header("access-control-allow-methods"), Some("PUT"));
        assert_eq!(response.header("access-control-allow-headers"), Some("x-a"));
        assert_eq!(response.header("access-control-max-age"), Some("600"));
        assert!(response.header("vary").unwrap().starts_with("Origin, Access-Control-Request-Method"));
        assert!(response.header("x-request-id").is_some());
    }
    for hostile in [
        "https://app.example.evil.test",
        "https://app.example:8443",
        "null",
        "HTTPS://APP.EXAMPLE",
        "https://b.example",
    ] {
        let response = preflight(&mut client, "/", hostile, "PUT");
        assert_eq!((response.status, allowed(&response)), (204, None), "{hostile}");
        assert!(response.header("vary").is_some(), "{hostile}");
    }
    assert!(origin.requests().is_empty());
    client.send("OPTIONS / HTTP/1.1\r\nHost: a\r\nOrigin: https://app.example\r\n\r\n");
    assert_eq!(client.response("OPTIONS").status, 200, "an OPTIONS that is no preflight goes to the backend");
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn the_fields_of_the_backend_are_replaced_and_vary_is_added() {
    let theirs = [
        ("Access-Control-Allow-Origin", "*"),
        ("Access-Control-Allow-Origin", "https://evil.test"),
        ("Access-Control-Allow-Credentials", "true"),
        ("Vary", "Accept-Encoding"),
    ];
    let origin = Origin::start(move |_| Reply::with(200, &theirs, "ok"));
    let weir = Weir::start(config(&origin));
    let mut client = Client::connect(weir.web());
    let response = client.get_with("/", &[("Origin", APP)]);
    let values = |name: &str| response.headers.iter().filter(|(each, _)| each.eq_ignore_ascii_case(name)).count();
    assert_eq!((allowed(&response), values("access-control-allow-origin")), (Some(APP), 1));
    assert_eq!((values("access-control-allow-credentials"), values("vary")), (1, 2));
    assert_eq!(response.header("access-control-expose-headers"), Some("x-total"));
    for other in [&[][..], &[("Origin", "https://evil.test")]] {
        let response = client.get_with("/", other);
        assert_eq!((response.status, allowed(&response)), (200, None));
        assert!(response.headers.iter().any(|(name, value)| name.eq_ignore_ascii_case("vary") && value == "Origin"));
    }
}

#[test]
fn every_response_of_the_route_has_the_fields() {
    let origin = Origin::start(|request| Reply::new(if request.target == "/404" { 404 } else { 500 }, "backend"));
    let config = config(&origin)
        .set("defaults.cors", SETTINGS)
        .set("rate_limits.one", "rate: 1/1h, key: { client: {} }")
        .set("routes.limited", "match: { path: /429 }, upstream: up, rate_limits: [one]")
        .set("routes.denied", "match: { path: /403 }, upstream: up, deny: [127.0.0.0/8]")
        .set("routes.large", "match: { path: /413 }, upstream: up, limits: { body: 1B }")
        .set("routes.gone", "match: { path: /502 }, upstream: gone")
        .set("routes.moved", "match: { path: /308 }, redirect: { to: /x }")
        .set("routes.fixed", "match: { path: /200 }, respond: { status: 200, body: fixed }")
        .upstream("gone", &[("g", spare())]);
    let weir = Weir::start(config);
    Client::connect(weir.web()).get("/429");
    for (path, status) in
        [("/404", 404), ("/500", 500), ("/429", 429), ("/403", 403), ("/502", 502), ("/308", 308), ("/200", 200)]
    {
        let response = Client::connect(weir.web()).get_with(path, &[("Origin", APP)]);
        assert_eq!((response.status, allowed(&response)), (status, Some(APP)), "{path}");
        assert_eq!(response.header("vary"), Some("Origin"), "{path}");
        let preflight = preflight(&mut Client::connect(weir.web()), path, APP, "GET");
        let want = if status == 403 { 403 } else { 204 };
        assert_eq!((preflight.status, allowed(&preflight)), (want, Some(APP)), "{path}");
        run(async {
            let mut client = connect(weir.web()).await;
            let request = Request::builder().uri(format!("http://a{path}")).header("origin", APP).body(()).unwrap();
            let response = client.send_request(request, true).unwrap().0.await.unwrap();
            assert_eq!(
                (response.status().as_u16(), response.headers()["access-control-allow-origin"].to_str().unwrap()),
                (status, APP)
            );
        });
    }
    let mut client = Client::connect(weir.web());
    client.send("POST /413 HTTP/1.1\r\nHost: a\r\nOrigin: https://app.example\r\nContent-Length: 2\r\n\r\nab");
    let response = client.response("POST");
    assert_eq!((response.status, allowed(&response)), (413, Some(APP)));
}

#[test]
fn a_preflight_takes_the_route_of_the_request_that_it_asks_about() {
    let origin = Origin::named("a");
    let config = Config::to(&origin).set("routes.all.cors", "{ origins: ['https://read.example'] }").set(
        "routes.write",
        "match: { methods: [PUT] }, upstream: up, cors: { origins: ['https://app.example'], methods: [PUT] }",
    );
    let weir = Weir::start(config);
    let mut client = Client::connect(weir.web());
    assert_eq!(allowed(&preflight(&mut client, "/", APP, "PUT")), Some(APP));
    assert_eq!(allowed(&preflight(&mut client, "/", APP, "GET")), None);
    assert_eq!(allowed(&preflight(&mut client, "/", "https://read.example", "GET")), Some("https://read.example"));
}

#[test]
fn a_websocket_and_a_call_of_grpc_have_the_fields() {
    let origin = Origin::raw(|mut stream| {
        let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") && std::io::BufRead::read_line(&mut reader, &mut head).is_ok_and(|n| n > 0) {}
        let _ = stream.write_all(switching(&head).as_bytes());
    });
    let weir = Weir::start(config(&origin));
    let mut client = Client::connect(weir.web());
    client.send(
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: https://app.example\r\n\r\n",
    );
    let head = String::from_utf8(client.until(b"\r\n\r\n").unwrap()).unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.to_ascii_lowercase().contains("access-control-allow-origin: https://app.example\r\n"), "{head}");

    let server = Server::start();
    let config = Config::to(server.address)
        .set("upstreams.up.protocol", "h2c")
        .set("defaults.cors", "{ origins: ['*'] }")
        .set("routes.refused", "match: { path: /refused }, upstream: up, deny: [127.0.0.0/8]");
    let weir = Weir::start(config);
    run(async {
        let mut client = Caller::connect(weir.web(), false).await;
        for path in ["/unary", "/refused"] {
            let (response, mut out) = client.call(path).await;
            let _ = out.send_data(message(b"one"), true);
            let response = response.await.unwrap();
            assert_eq!(
                (response.status().as_u16(), response.headers()["access-control-allow-origin"].to_str().unwrap()),
                (200, "*"),
                "{path}"
            );
        }
    });
}

#[test]
fn a_reload_applies_changed_origins_and_explain_tells_the_decision() {
    let origin = Origin::named("a");
    let weir = Weir::start(config(&origin));
    let mut client = Client::connect(weir.web());
    assert_eq!(allowed(&client.get_with("/", &[("Origin", "https://new.example")])), None);
    assert!(weir.reload(Config::to(&origin).set("routes.all.cors", "{ origins: ['https://new.example'] }")));
    assert_eq!(allowed(&client.get_with("/", &[("Origin", "https://new.example")])), Some("https://new.example"));
    let explain = |method: &str, origin: &str| {
        let origin = format!("Origin: {origin}");
        let ask = "Access-Control-Request-Method: POST";
        weir.status_and_output(&["explain", method, "http://a/", "-H", &origin, "-H", ask]).1
    };
    let text = explain("OPTIONS", "https://new.example");
    assert!(text.contains("cross-origin: Weir answers the preflight for POST with 204"), "{text}");
    let text = explain("GET", APP);
    assert!(text.contains("cross-origin: pages of https://app.example may not read the response"), "{text}");
}

#[test]
fn no_response_lacks_the_fields_while_the_configuration_changes() {
    let origin = Origin::start(|request| Reply::new(if request.target == "/503" { 503 } else { 200 }, "ok"));
    let page = |text: &str| {
        config(&origin)
            .set("routes.all.errors.503", "replace: true")
            .set("routes.all.errors.503.text", ["'", text, " {status}'"].concat())
            .set("routes.all.response_headers.set.x-route", "'{route}'")
    };
    let weir = Weir::start(page("zero"));
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = ["/", "/503"].map(|path| ask_until(&weir, path, &stop)).into();
    for text in ["one", "two", "three", "four"] {
        assert!(weir.reload(page(text)));
    }
    stop.store(true, Ordering::Release);
    assert!(clients.into_iter().all(|client| client.join().unwrap() > 0));
}

/// Asks for this path until told to stop, and counts the responses.
fn ask_until(weir: &Weir, path: &'static str, stop: &Arc<AtomicBool>) -> JoinHandle<usize> {
    let (address, stop) = (weir.web(), Arc::clone(stop));
    std::thread::spawn(move || {
        let (mut client, mut count) = (Client::connect(address), 0);
        while !stop.load(Ordering::Acquire) || count == 0 {
            let response = client.get_with(path, &[("Origin", APP)]);
            assert_eq!((allowed(&response), response.header("x-route")), (Some(APP), Some("all")), "{path}");
            assert!(response.status == 200 || response.text().ends_with(" 503"), "{}", response.text());
            count += 1;
        }
        count
    })
}
