//! Versions, connection options, upgrades, and lists of forwarded fields: what HTTP allows is served as it asks.

use crate::support::http2::{connect, run};
use crate::support::{Client, Config, Origin, Reply, Weir};

fn before(origin: &Origin) -> Weir {
    Weir::start(Config::to(origin))
}

/// The client may say who its own client is.
fn trusting(origin: &Origin) -> Config {
    Config::to(origin).set("trusted_proxies", "[127.0.0.0/8]")
}

/// An upstream that speaks HTTP/2.
fn before_h2c(origin: &Origin) -> Weir {
    Weir::start(Config::to(origin).set("upstreams.up.protocol", "h2c"))
}

#[test]
fn a_426_response_keeps_its_upgrade_field() {
    let origin = Origin::start(|request| match request.target.as_str() {
        "/bare" => Reply::with(426, &[("Upgrade", "h2c, websocket")], "no"),
        "/ok" => Reply::with(200, &[("Upgrade", "h2c"), ("Connection", "Upgrade")], "ok"),
        _ => Reply::with(426, &[("Upgrade", "h2c, websocket"), ("Connection", "Upgrade")], "no"),
    });
    let weir = before(&origin);
    let mut client = Client::connect(weir.web());
    for path in ["/", "/bare", "/"] {
        let response = client.get(path);
        assert_eq!((response.status, response.header("upgrade")), (426, Some("h2c, websocket")), "{path}");
        assert_eq!(response.header("connection"), Some("Upgrade, keep-alive"), "RFC 9110 section 7.8");
        assert_eq!(response.text(), "no");
    }
    let response = client.get("/ok");
    assert_eq!((response.header("upgrade"), response.header("connection")), (None, Some("keep-alive")));
    let response = client.get_with("/", &[("Connection", "close")]);
    assert_eq!(response.header("connection"), Some("Upgrade, close"));
    run(async {
        let mut sender = connect(weir.web()).await;
        let request = http::Request::get("http://a.test/").body(()).unwrap();
        let response = sender.send_request(request, true).unwrap().0.await.unwrap();
        assert_eq!((response.status().as_u16(), response.headers().get("upgrade")), (426, None), "HTTP/2 has none");
    });
}

#[test]
fn a_websocket_request_to_an_upstream_of_http2_is_refused_with_a_reason() {
    let origin = Origin::named("a");
    let weir = before_h2c(&origin);
    let mut client = Client::connect(weir.web());
    let upgrade = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Accept", "application/json"),
    ];
    let response = client.get_with("/chat", &upgrade);
    assert_eq!(response.status, 501);
    let reply = response.json();
    assert_eq!(
        reply["message"],
        "The requested protocol is not supported here: a WebSocket needs an upstream that speaks HTTP/1."
    );
    assert_eq!(reply["error"], "refused_policy");
    assert_eq!(origin.connections(), 0, "nothing was sent");
    assert_eq!(weir.access_log_of(1)[0]["fault"], "refused_policy");
}

#[test]
fn a_host_that_http2_cannot_carry_is_the_clients_fault_not_the_backends() {
    let origin = Origin::named("a");
    let weir = before_h2c(&origin);
    for host in ["a%2Eexample", "%61.example", "a%2db:80"] {
        let mut client = Client::connect(weir.web());
        client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\n\r\n"));
        let response = client.response("GET");
        assert_eq!((response.status, response.json()["error"].as_str()), (400, Some("bad_request")), "{host}");
    }
    assert_eq!(origin.connections(), 0, "no attempt that counts against the backend");
    let weir = before(&origin);
    let response = Client::connect(weir.web()).get_with("/", &[]);
    assert_eq!(response.status, 200);
    let mut client = Client::connect(weir.web());
    client.send("GET / HTTP/1.1\r\nHost: a%2Eexample\r\n\r\n");
    assert_eq!(client.response("GET").status, 200, "HTTP/1 can carry it");
}

#[test]
fn connection_options_without_meaning_are_not_a_400() {
    let origin = Origin::named("a");
    let weir = before(&origin);
    let many = (0..20).map(|n| format!("x-{n}")).collect::<Vec<_>>().join(", ");
    let mut client = Client::connect(weir.web());
    for option in
        ["host", "Host, keep-alive", "x-forwarded-for", "X-Forwarded-Proto, x-real-ip", "content-length", &many]
    {
        let fields = [("Host", "a.test"), ("Connection", option), ("X-0", "1"), ("X-19", "1"), ("X-Kept", "1")];
        assert_eq!(client.get_with("/", &fields).status, 200, "{option}");
        let seen = origin.last_request();
        assert_eq!((seen.header("host"), seen.header("x-kept")), (Some("a.test"), Some("1")), "{option}");
        assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"), "{option}");
        assert_eq!(seen.header("x-19").is_some(), option != many, "{option}");
        assert_eq!(seen.header("connection"), None, "{option}");
        client.send(format!(
            "POST /body HTTP/1.1\r\nHost: a.test\r\nConnection: content-length, {option}\r\nContent-Length: 3\r\n\r\nabc"
        ));
        assert_eq!(client.response("POST").status, 200, "{option}");
        let seen = origin.last_request();
        assert_eq!((seen.header("host"), seen.body.as_slice()), (Some("a.test"), &b"abc"[..]), "{option}");
        client.send(format!(
            "POST /chunks HTTP/1.1\r\nHost: a.test\r\nConnection: transfer-encoding, {option}\r\nTransfer-Encoding: chunked\r\n\r\n\
             3\r\nabc\r\n0\r\n\r\n"
        ));
        assert_eq!(client.response("POST").status, 200, "{option}");
    }
    let response = client.get_with("/", &[("Connection", "host, close")]);
    assert_eq!((response.status, response.header("connection")), (200, Some("close")));
}

#[test]
fn a_higher_minor_version_is_answered_as_http_1_1() {
    let origin = Origin::named("a");
    let weir = before(&origin);
    let mut client = Client::connect(weir.web());
    for version in ["1.2", "1.9", "1.1"] {
        client.send(format!("GET /x HTTP/{version}\r\nHost: a.test\r\n\r\n"));
        let response = client.response("GET");
        assert_eq!((response.status, response.header("connection")), (200, Some("keep-alive")), "{version}");
        assert!(origin.last_request().raw.starts_with("GET /x HTTP/1.1\r\n"));
    }
    let answer = |request: &str| crate::support::exchange(weir.web(), request);
    let closed = answer("GET / HTTP/1.2\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(closed.starts_with("HTTP/1.1 200"), "{closed}");
    assert!(answer("GET / HTTP/1.2\r\n\r\n").starts_with("HTTP/1.1 400"), "Host is as necessary as in 1.1");
    assert!(answer("GET / HTTP/2.2\r\nHost: a\r\n\r\n").starts_with("HTTP/1.1 505"));
    assert!(weir.access_log_of(4).iter().take(4).all(|line| line["version"] == "HTTP/1.1"));
}

#[test]
fn with_both_families_backends_never_read_two_things_of_one_client() {
    let origin = Origin::named("a");
    let weir = Weir::start(trusting(&origin).set("forwarded", "both"));
    let mut client = Client::connect(weir.web());
    for (fields, forwarded, list, proto) in [
        (
            &[("X-Forwarded-For", "1.1.1.1"), ("X-Forwarded-Proto", "https"), ("Forwarded", "for=6.6.6.6;proto=http")]
                [..],
            "for=1.1.1.1;host=test;proto=https, for=127.0.0.1;host=test;proto=http",
            "1.1.1.1, 127.0.0.1",
            "https",
        ),
        (
            &[("Forwarded", "for=1.1.1.1;proto=https"), ("X-Forwarded-Proto", "http"), ("X-Forwarded-For", " , ")],
            "for=1.1.1.1;proto=https, for=127.0.0.1;host=test;proto=http",
            "1.1.1.1, 127.0.0.1",
            "https",
        ),
    ] {
        client.get_with("/", fields);
        let seen = origin.last_request();
        assert_eq!(seen.all("forwarded"), [forwarded]);
        assert_eq!((seen.all("x-forwarded-for"), seen.all("x-forwarded-proto")), (vec![list], vec![proto]));
        assert_eq!(seen.header("x-real-ip"), Some("1.1.1.1"));
    }
}

#[test]
fn empty_elements_of_x_forwarded_for_are_skipped() {
    let origin = Origin::named("a");
    let weir = Weir::start(trusting(&origin));
    Client::connect(weir.web()).get_with("/", &[("X-Forwarded-For", ", 1.1.1.1, ,"), ("X-Forwarded-For", "")]);
    let seen = origin.last_request();
    assert_eq!((seen.header("x-real-ip"), seen.all("x-forwarded-for")), (Some("1.1.1.1"), vec!["1.1.1.1, 127.0.0.1"]));
    assert_eq!(weir.access_log_of(1)[0]["client"], "1.1.1.1");
}
