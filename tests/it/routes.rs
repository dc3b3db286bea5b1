//! Routing by specificity, and the actions that need no backend.

use crate::support::{Client, Config, Origin, Reply, Weir};

fn served_by(weir: &Weir, path: &str, headers: &[(&str, &str)]) -> String {
    let response = Client::connect(weir.web()).get_with(path, headers);
    if response.status == 404 { "404".into() } else { response.text() }
}

#[test]
fn the_most_specific_route_wins_whatever_its_place_in_the_file() {
    let route = |config: Config, (name, condition): (&str, &str)| {
        config.route(name, condition).set(&format!("routes.{name}.respond"), format!("status: 200, body: {name}"))
    };
    let routes = [
        ("any", ""),
        ("wild", "match: { hosts: [\"*.example.org\"] }"),
        ("deep", "match: { hosts: [\"*.b.example.org\"] }"),
        ("exact", "match: { hosts: [api.example.org] }"),
        ("prefix", "match: { path_prefix: /api }"),
        ("longer", "match: { path_prefix: /api/v1 }"),
        ("path", "match: { path: /api/v1 }"),
        ("regex", "match: { path_regex: '\\d{3}' }"),
        ("canary", "match: { path_prefix: /api, headers: { x-canary: \"1\" } }"),
        ("delete", "match: { path_prefix: /api, methods: [DELETE] }"),
    ];
    let weir = Weir::start(routes.into_iter().fold(Config::new(), route));
    for (host, path, headers, expected) in [
        ("other", "/", vec![], "any"),
        ("x.example.org", "/", vec![], "wild"),
        ("x.y.example.org", "/", vec![], "wild"),
        ("a.b.example.org", "/", vec![], "deep"),
        ("API.example.org.:8080", "/", vec![], "exact"),
        ("example.org", "/", vec![], "any"),
        ("other", "/api", vec![], "prefix"),
        ("other", "/api/x", vec![], "prefix"),
        ("other", "/apix", vec![], "any"),
        ("other", "/api/v1/x", vec![], "longer"),
        ("other", "/api/v1?q", vec![], "path"),
        ("other", "/x/123", vec![], "regex"),
        ("other", "/api/123", vec![], "prefix"),
        ("other", "/api", vec![("X-Canary", "1")], "canary"),
        ("other", "/api", vec![("X-Canary", "2")], "prefix"),
    ] {
        let mut all = vec![("Host", host)];
        all.extend(headers);
        assert_eq!(served_by(&weir, path, &all), expected, "{host} {path}");
    }
}

#[test]
fn what_no_route_matches_is_404_and_the_connection_goes_on() {
    let weir = Weir::start(Config::new().route("a", "match: { path: /a }, respond: { status: 204 }"));
    let mut client = Client::connect(weir.web());
    let missing = client.get_with("/b", &[("Accept", "application/json")]);
    assert_eq!(missing.status, 404);
    let body = missing.json();
    assert_eq!(body["error"], "no_route");
    assert_eq!(body["request_id"].as_str(), missing.header("x-request-id"));
    assert_eq!(client.get("/a").status, 204);
    weir.wait_for(&["weir_faults_total", "route=\"-\"", "no_route"], 1.0);
}

#[test]
fn redirects_and_responses_of_our_own_are_as_configured() {
    let config = Config::new()
        .route(
            "r",
            "match: { path_prefix: /old }, redirect: { to: \"https://{hostname}/new{path}{query}\", status: 301 }",
        )
        .route("p", "match: { path_prefix: /parts }, redirect: { to: \"http://{host}/{hostname}/{port}\" }")
        .route("d", "match: { path: /default }, redirect: { to: \"{scheme}://else{path}\" }")
        .route("t", "match: { path: /teapot }, respond: { status: 418, body: short }")
        .set("routes.t.respond.headers", "x-pot: \"1\", content-type: text/x")
        .set("routes.t.response_headers", "set: { x-set: \"2\" }, remove: [x-pot]");
    let weir = Weir::start(config);
    let mut client = Client::connect(weir.web());
    let response = client.get_with("/old/x?a=b", &[("Host", "example.org:81")]);
    assert_eq!((response.status, response.header("location")), (301, Some("https://example.org/new/old/x?a=b")));
    for (host, location) in [
        ("example.org:81", "http://example.org:81/example.org/81"),
        ("example.org", "http://example.org/example.org/80"),
        ("[::1]:8080", "http://[::1]:8080/[::1]/8080"),
    ] {
        let response = client.get_with("/parts", &[("Host", host)]);
        assert_eq!(response.header("location"), Some(location), "{host}: `{{host}}` keeps the port");
    }
    let response = client.get("/default");
    assert_eq!((response.status, response.header("location")), (308, Some("http://else/default")));
    let response = client.get("/teapot");
    assert_eq!((response.status, response.text().as_str()), (418, "short"));
    assert_eq!(response.header("content-type"), Some("text/x"));
    assert_eq!((response.header("x-pot"), response.header("x-set")), (None, Some("2")));
    client.send("HEAD /teapot HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response("HEAD").header("content-length"), Some("5"));
    assert_eq!(client.get("/teapot").status, 418);
}

#[test]
fn a_split_shares_exactly_by_weight() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let config = Config::new()
        .route("s", "split: [{ upstream: a, weight: 3 }, { upstream: b, weight: 1 }]")
        .upstream("a", &[("a", &a)])
        .upstream("b", &[("b", &b)]);
    let weir = Weir::start(config);
    let mut client = Client::connect(weir.web());
    let answers: Vec<_> = (0..80).map(|_| client.get("/").text()).collect();
    assert_eq!(answers.iter().filter(|answer| *answer == "b").count(), 20);
}

#[test]
fn rewrites_and_host_rules_change_what_the_backend_sees() {
    let origin = Origin::start(|_| Reply::new(200, ""));
    let config = Config::to(&origin)
        .route("strip", "match: { path_prefix: /api }, upstream: up, host: backend")
        .set("routes.strip.rewrite", "strip_prefix: /api, add_prefix: /v2")
        .route("named", "match: { path_prefix: /named }, upstream: up, host: inner.example");
    let weir = Weir::start(config);
    let mut client = Client::connect(weir.web());
    for (path, target, host) in [
        ("/api/x%2Fy?q=%20", "/v2/x%2Fy?q=%20", origin.address().to_string()),
        ("/api", "/v2/", origin.address().to_string()),
        ("/named", "/named", "inner.example".into()),
        ("/kept", "/kept", "test".into()),
    ] {
        client.get(path);
        let seen = origin.last_request();
        assert!(seen.target == target || (target == "/v2/" && seen.target == "/v2"), "{path}: {}", seen.target);
        assert_eq!(seen.header("host"), Some(host.as_str()), "{path}");
    }
}
