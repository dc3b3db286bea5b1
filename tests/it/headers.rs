//! What backends and clients see of each other's header fields.

use crate::support::{Client, Config, Origin, Reply, Weir};

fn before(origin: &Origin) -> Weir {
    Weir::start(Config::to(origin))
}

#[test]
fn hop_by_hop_fields_and_those_that_connection_names_stop_here() {
    let origin = Origin::start(|_| {
        Reply::with(
            200,
            &[
                ("Keep-Alive", "timeout=5"),
                ("Connection", "X-Inner, keep-alive"),
                ("X-Inner", "1"),
                ("Proxy-Connection", "x"),
                ("X-Outer", "2"),
            ],
            "",
        )
    });
    let weir = before(&origin);
    let response = Client::connect(weir.web()).get_with(
        "/",
        &[
            ("Connection", "X-Secret"),
            ("X-Secret", "1"),
            ("Keep-Alive", "1"),
            ("Proxy-Authorization", "x"),
            ("TE", "gzip"),
            ("X-Kept", "1"),
        ],
    );
    let seen = origin.last_request();
    for gone in ["x-secret", "keep-alive", "proxy-authorization", "te", "connection"] {
        assert_eq!(seen.header(gone), None, "{gone}: {}", seen.raw);
    }
    assert_eq!(seen.header("x-kept"), Some("1"));
    for gone in ["x-inner", "keep-alive", "proxy-connection"] {
        assert_eq!(response.header(gone), None, "{gone}");
    }
    assert_eq!(response.header("x-outer"), Some("2"));
}

#[test]
fn forwarded_fields_of_a_stranger_are_replaced() {
    let origin = Origin::named("a");
    let weir = before(&origin);
    Client::connect(weir.web()).get_with(
        "/",
        &[
            ("Host", "example.org"),
            ("X-Forwarded-For", "1.2.3.4"),
            ("X-Forwarded-Proto", "https"),
            ("X-Real-IP", "1.2.3.4"),
            ("Forwarded", "for=1.2.3.4"),
        ],
    );
    let seen = origin.last_request();
    assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.all("x-forwarded-proto"), ["http"]);
    assert_eq!(seen.all("x-forwarded-host"), ["example.org"]);
    assert_eq!(seen.all("x-real-ip"), ["127.0.0.1"]);
    assert_eq!(seen.all("forwarded"), Vec::<&str>::new());
    assert!(seen.header("via").unwrap().starts_with("1.1 "), "{}", seen.raw);
}

#[test]
fn forwarded_fields_of_a_trusted_proxy_are_appended_to_and_name_the_client() {
    let origin = Origin::named("a");
    let weir = Weir::start(Config::to(&origin).set("trusted_proxies", "[127.0.0.0/8]"));
    Client::connect(weir.web())
        .get_with("/", &[("X-Forwarded-For", "9.9.9.9, 1.2.3.4"), ("X-Forwarded-Proto", "https")]);
    let seen = origin.last_request();
    assert_eq!(seen.header("x-forwarded-for"), Some("9.9.9.9, 1.2.3.4, 127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.header("x-real-ip"), Some("1.2.3.4"));
    assert_eq!(weir.access_log_of(1)[0]["client"], "1.2.3.4");
}

#[test]
fn the_family_of_forwarded_fields_is_a_choice() {
    let origin = Origin::named("a");
    let weir = Weir::start(Config::to(&origin).set("forwarded", "rfc7239"));
    Client::connect(weir.web()).get_with("/", &[("Host", "example.org")]);
    let seen = origin.last_request();
    let forwarded = seen.header("forwarded").unwrap().to_lowercase();
    for part in ["for=127.0.0.1", "proto=http", "host=example.org"] {
        assert!(forwarded.contains(part), "{forwarded}");
    }
    assert_eq!(seen.header("x-forwarded-for"), None);
}

#[test]
fn a_valid_request_id_is_passed_on_and_a_bad_one_is_replaced() {
    let origin = Origin::named("a");
    let weir = before(&origin);
    let mut client = Client::connect(weir.web());
    let response = client.get_with("/", &[("X-Request-Id", "abc-1.2_3")]);
    assert_eq!(origin.last_request().header("x-request-id"), Some("abc-1.2_3"));
    assert_eq!(response.header("x-request-id"), Some("abc-1.2_3"));
    client.get_with("/", &[("X-Request-Id", "a b{}")]);
    let made = origin.last_request().header("x-request-id").unwrap().to_owned();
    assert_eq!((made.len(), made.as_bytes()[14]), (36, b'7'), "{made}");
    assert_eq!(weir.access_log_of(2)[1]["request_id"], made.as_str());
}

#[test]
fn edits_remove_then_set_then_add() {
    let origin = Origin::start(|_| Reply::with(200, &[("Server", "secret"), ("X-A", "1")], ""));
    let config = Config::to(&origin)
        .set("routes.all.request_headers", "remove: [x-b], set: { x-c: \"2\" }, add: { x-d: \"4\" }")
        .set("routes.all.response_headers", "remove: [server], add: { x-a: \"2\" }");
    let weir = Weir::start(config);
    let response = Client::connect(weir.web()).get_with("/", &[("X-B", "1"), ("X-C", "1"), ("X-D", "3")]);
    let seen = origin.last_request();
    assert_eq!((seen.header("x-b"), seen.all("x-c"), seen.all("x-d")), (None, vec!["2"], vec!["3", "4"]));
    assert_eq!(response.header("server"), None);
    assert_eq!(response.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("x-a")).count(), 2);
}

#[test]
fn the_access_log_line_has_every_field_of_the_request() {
    let origin = Origin::start(|_| Reply::new(201, "hello"));
    let weir = before(&origin);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut client = Client::connect(weir.web());
    client.send(format!(
        "POST /p?q=%22x%22 HTTP/1.1\r\nHost: h\r\nUser-Agent: uaé\r\nReferer: r\r\ntraceparent: {trace}\r\nContent-Length: 3\r\n\r\nabc"
    ));
    client.response("POST");
    let line = &weir.access_log_of(1)[0];
    for (key, value) in [
        ("listener", "web".into()),
        ("client", "127.0.0.1".into()),
        ("method", "POST".into()),
        ("host", "h".into()),
        ("path", "/p?q=%22x%22".into()),
        ("route", "all".into()),
        ("upstream", "up".into()),
        ("backend", "a".into()),
        ("status", serde_json::json!(201)),
        ("bytes_in", serde_json::json!(3)),
        ("bytes_out", serde_json::json!(5)),
        ("fault", serde_json::Value::Null),
        ("user_agent", "uaé".into()),
        ("referer", "r".into()),
        ("trace_id", "0af7651916cd43dd8448eb211c80319c".into()),
    ] {
        assert_eq!(line[key], value, "{key}: {line}");
    }
    let attempt = &line["attempts"][0];
    assert_eq!(
        (&attempt["outcome"], &attempt["backend"], &attempt["reused"]),
        (&"ok".into(), &"a".into(), &false.into())
    );
    assert!(attempt["connect_ms"].is_number() && attempt["first_byte_ms"].is_number(), "{line}");
    assert!(line["duration_ms"].as_f64().unwrap() > 0.0);
}

#[test]
fn max_forwards_says_how_far_options_and_trace_go() {
    let origin = Origin::named("a");
    let weir = before(&origin);
    let mut client = Client::connect(weir.web());
    let mut ask = |method: &str, target: &str, hops: &str| {
        let fields = "Host: a\r\nCookie: secret\r\nAuthorization: secret";
        client.send(format!("{method} {target} HTTP/1.1\r\n{fields}\r\nMax-Forwards: {hops}\r\n\r\n"));
        client.response(method)
    };
    for (method, hops, left) in
        [("OPTIONS", "3", "2"), ("TRACE", "1", "0"), ("GET", "0", "0"), ("GET", "7", "7"), ("OPTIONS", "x", "x")]
    {
        assert_eq!(ask(method, "/", hops).status, 200, "{method} {hops}");
        assert_eq!(origin.last_request().header("max-forwards"), Some(left), "{method} {hops}");
    }
    let before = origin.requests().len();
    for target in ["/", "*"] {
        let options = ask("OPTIONS", target, "0");
        assert_eq!((options.status, options.header("content-length")), (200, Some("0")), "{target}");
    }
    let trace = ask("TRACE", "/", "0");
    assert_eq!(trace.status, 405);
    assert!(trace.header("allow").is_some_and(|allow| allow.contains("GET") && !allow.contains("TRACE")), "{trace:?}");
    assert!(!trace.text().contains("secret"));
    assert_eq!(origin.requests().len(), before, "it goes no further");
    assert_eq!(ask("GET", "/", "1").status, 200, "the connection is kept");
}
