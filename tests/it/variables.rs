//! Variables in header fields and redirects: their values, and hostile values of requests.

use http::Request;

use crate::support::grpc::{Caller, Server, message};
use crate::support::http2::{connect, run};
use crate::support::{Client, Config, Origin, Pki, TlsClient, Weir, tls_config};

fn config(origin: &Origin) -> Config {
    Config::to(origin)
        .set("routes.all.request_headers", "{ set: { x-to: 'c={client} r={route} {scheme}://{host}{path}{query}', x-user: '{user}', x-agent: '{header.user-agent}' } }")
        .set("routes.all.response_headers", "{ set: { x-id: '{request_id}', x-time: '{time}', x-literal: '{{host} {a-b}' }, add: { x-tls: '{tls.version} {tls.sni}' } }")
        .set("routes.moved", "match: { path: /moved }, redirect: { to: '/new/{header.x-lang}?id={request_id}' }")
}

#[test]
fn values_of_the_request_are_in_fields_of_both_sides() {
    let origin = Origin::named("a");
    let weir = Weir::start(config(&origin));
    let mut client = Client::connect(weir.web());
    let response = client.get_with("/p?q=1", &[("X-Request-Id", "r-1"), ("User-Agent", "ua"), ("X-User", "admin")]);
    assert_eq!((response.header("x-id"), response.header("x-literal")), (Some("r-1"), Some("{host} {a-b}")));
    assert!(response.header("x-time").unwrap().starts_with("20") && response.header("x-tls").is_none());
    let seen = origin.last_request();
    let host = seen.header("host").unwrap();
    assert_eq!(seen.header("x-to"), Some(&*format!("c=127.0.0.1 r=all http://{host}/p?q=1")));
    assert_eq!(seen.header("x-agent"), Some("ua"));
    assert_eq!(seen.header("x-user"), None, "the client's own field does not pass where the value is absent");
    client.get("/");
    assert_eq!(origin.last_request().header("x-agent"), None);
}

#[test]
fn control_characters_and_templates_in_a_request_inject_nothing() {
    let origin = Origin::named("a");
    let weir = Weir::start(config(&origin));
    let mut client = Client::connect(weir.web());
    client.get_with("/", &[("User-Agent", "a\tb{client}{{host}\u{e9}")]);
    assert_eq!(origin.last_request().all("x-agent"), ["ab{client}{{host}\u{e9}"]);
    client.get("/%0d%0ax-evil:%201?%0d%0ax-evil:%201");
    let seen = origin.last_request();
    assert!(seen.header("x-evil").is_none() && seen.header("x-to").unwrap().contains("/%0d%0ax-evil"));
    let moved = client.get_with("/moved", &[("X-Lang", "//evil.test/?#"), ("X-Request-Id", "r-1")]);
    assert_eq!(moved.header("location"), Some("/new/%2F%2Fevil.test%2F%3F%23?id=r-1"));
    run(async {
        let mut client = connect(weir.web()).await;
        let request = Request::builder().uri("http://a/h2").header("user-agent", "x\t\ty").body(()).unwrap();
        assert_eq!(client.send_request(request, true).unwrap().0.await.unwrap().status(), 200);
    });
    assert_eq!(origin.last_request().header("x-agent"), Some("xy"));
}

#[test]
fn the_version_and_the_name_of_tls_are_values() {
    let (origin, pki) = (Origin::named("a"), Pki::new());
    let folder = crate::support::files::folder(&[("a", &pki.issue(&["a.example"]))]);
    let weir = Weir::start_in(folder, config(&origin).certificates(&["a"]));
    let mut stream = TlsClient::secure(weir.web(), "a.example", &std::sync::Arc::new(tls_config(None)));
    stream.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
    let response = stream.response("GET");
    assert_eq!((response.status, response.header("x-tls")), (200, Some("TLSv1.3 a.example")));
}

#[test]
fn a_call_of_grpc_and_a_reload_use_the_values() {
    let server = Server::start();
    let with = |value: &str| {
        let config = Config::to(server.address).set("upstreams.up.protocol", "h2c");
        config.set("routes.all.response_headers.set.x-v", value)
    };
    let weir = Weir::start(with("'{route}'"));
    let value = || {
        run(async {
            let mut client = Caller::connect(weir.web(), false).await;
            let (response, mut out) = client.call("/unary").await;
            let _ = out.send_data(message(b"one"), true);
            response.await.unwrap().headers()["x-v"].to_str().unwrap().to_owned()
        })
    };
    assert_eq!(value(), "all");
    assert!(weir.reload(with("'{header.te}'")));
    assert_eq!(value(), "trailers");
}
