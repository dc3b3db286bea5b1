//! What would become of a request, asked of the running process; asking changes nothing.

use crate::support::{Client, Config, Origin, Weir};

fn weir(a: &Origin, b: &Origin) -> Weir {
    let config = Config::new()
        .route("canary", "match: { path_prefix: /api, headers: { x-canary: \"1\" } }, upstream: up")
        .route("api", "match: { hosts: [api.test], path_prefix: /api }, upstream: up")
        .route("all", "respond: { status: 204 }")
        .upstream("up", &[("a", a), ("b", b)])
        .set("upstreams.up.balance", "round_robin");
    Weir::start(config)
}

fn explain(weir: &Weir, arguments: &[&str]) -> (i32, String) {
    weir.status_and_output(&[&["explain"], arguments].concat())
}

#[test]
fn says_which_route_and_backend_and_why_not_the_others() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let weir = weir(&a, &b);
    let (code, said) = explain(&weir, &["GET", "http://API.test:80/api/x?q=1"]);
    assert_eq!(code, 0, "{said}");
    for part in [
        "GET api.test /api/x",
        "canary  no       the header `x-canary` is missing",
        "api     yes      takes it",
        "all     yes      matches, but `api` is more specific",
        "upstream up: round_robin, 100%",
        "next\n",
        "another goes first",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let (_, said) = explain(&weir, &["GET", "/api", "-H", "X-Canary: 1", "-H", "Host: other.test"]);
    assert!(said.contains("route canary: upstream"), "{said}");
    let (_, said) = explain(&weir, &["GET", "http://api.test/"]);
    assert!(said.contains("route all: respond") && said.contains("the path `/` does not match"), "{said}");
    assert_eq!(explain(&weir, &["GET", "nowhere"]).0, 1);
}

#[test]
fn a_url_of_another_scheme_is_none() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let weir = weir(&a, &b);
    for url in ["ftp://x/", "x/y", "https:///"] {
        let (code, said) = explain(&weir, &["GET", url]);
        assert!(code == 1 && said.contains("is not a URL"), "{url}: {said}");
    }
    assert_eq!(explain(&weir, &["GET", "HTTPS://x/"]).0, 0);
}

#[test]
fn explain_does_not_advance_the_balancer() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let weir = weir(&a, &b);
    let mut client = Client::connect(weir.web());
    for turn in 0..6 {
        for _ in 0..3 {
            assert_eq!(explain(&weir, &["GET", "http://api.test/api"]).0, 0);
        }
        let (_, said) = explain(&weir, &["GET", "http://api.test/api", "--json"]);
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        let backends = said["upstreams"][0]["backends"].as_array().unwrap().clone();
        let next = backends.iter().find(|backend| backend["next"] == true).unwrap()["name"].clone();
        let got = client.get_with("/api", &[("Host", "api.test")]).text();
        assert_eq!(next, got.as_str(), "turn {turn}");
    }
}

#[test]
fn names_the_reason_of_each_backend_that_is_out() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let weir = weir(&a, &b);
    assert_eq!(weir.command(&["drain", "up/a"]).code, Some(0));
    let (_, said) = explain(&weir, &["GET", "http://api.test/api"]);
    assert!(said.contains("draining, by operator"), "{said}");
}

#[test]
fn a_hash_names_the_backend_that_the_request_then_gets() {
    let (a, b, c) = (Origin::named("a"), Origin::named("b"), Origin::named("c"));
    let upstream = |config: Config, name: &str, hash: &str| {
        config
            .route(name, "match: { path_prefix: /NAME }, upstream: NAME".replace("NAME", name))
            .upstream(name, &[("a", &a), ("b", &b), ("c", &c)])
            .set(&format!("upstreams.{name}.balance"), "consistent_hash")
            .set(&format!("upstreams.{name}.hash"), hash)
    };
    let config = upstream(Config::new(), "user", "header: x-user");
    let config = upstream(config, "cart", "cookie: cart");
    let config = upstream(config, "path", "path: {}");
    let weir = Weir::start(upstream(config, "ip", "client: {}"));
    let mut client = Client::connect(weir.web());
    let next = |arguments: &[&str]| {
        let (code, said) = explain(&weir, &[arguments, &["--json"]].concat());
        assert_eq!(code, 0, "{said}");
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        let upstream = &said["upstreams"][0];
        let backends = upstream["backends"].as_array().unwrap().clone();
        let next: Vec<_> = backends.iter().filter(|backend| backend["next"] == true).cloned().collect();
        assert_eq!((next.len(), &upstream["has_key"]), (1, &serde_json::json!(true)), "{said}");
        assert_eq!(next[0]["why"], "next: the request's key maps to it");
        next[0]["name"].as_str().unwrap().to_owned()
    };
    for user in ["ada", "bob", "eve", "joe", "kim"] {
        let got = client.get_with("/user", &[("X-User", user)]).text();
        assert_eq!(next(&["GET", "/user", "-H", &format!("x-user: {user}")]), got, "{user}");
        let cookie = format!("x=1; cart={user}");
        let got = client.get_with("/cart", &[("Cookie", &cookie)]).text();
        assert_eq!(next(&["GET", "/cart", "-H", &format!("Cookie: {cookie}")]), got, "{user}");
        let path = format!("/path/{user}%20x");
        assert_eq!(next(&["GET", &path]), client.get(&path).text(), "{user}");
    }
    assert_eq!(next(&["GET", "/ip", "--client", "127.0.0.1"]), client.get("/ip").text());
    let (_, said) = explain(&weir, &["GET", "/ip"]);
    assert!(said.contains("consistent_hash by client address") && said.contains("`--client IP`"), "{said}");
    let (_, said) = explain(&weir, &["GET", "/user"]);
    assert!(said.contains("the request has no header `x-user`, so chance decides"), "{said}");
}

#[test]
fn shows_the_location_of_a_redirect_the_status_of_a_response_and_the_rewritten_path() {
    let a = Origin::named("a");
    let config = Config::new()
        .route(
            "moved",
            "match: { path_prefix: /old }, redirect: { to: \"https://new.test{path}{query}\", status: 301 }",
        )
        .route("gone", "match: { path: /gone }, respond: { status: 410 }")
        .route("api", "match: { path_prefix: /api }, rewrite: { strip_prefix: /api, add_prefix: /v2 }, upstream: up")
        .upstream("up", &[("a", &a)]);
    let weir = Weir::start(config);
    let mut client = Client::connect(weir.web());
    let got = client.get_with("/old/x?q=1", &[("Host", "a.test")]);
    let (code, said) = explain(&weir, &["GET", "http://a.test/old/x?q=1"]);
    let location = got.header("location").unwrap();
    assert!(code == 0 && said.contains(&format!("route moved: redirect 301 to {location}\n")), "{said}");
    let (code, said) = explain(&weir, &["GET", "/gone"]);
    assert!(code == 0 && said.contains("route gone: respond 410\n"), "{said}");
    let (code, said) = explain(&weir, &["GET", "/api/users?q=1"]);
    assert!(code == 0 && said.contains("route api: upstream, the backend receives /v2/users?q=1\n"), "{said}");
    client.get("/api/users?q=1");
    assert_eq!(a.requests()[0].target, "/v2/users?q=1");
}

#[test]
fn says_where_redirect_https_of_a_listener_takes_the_request() {
    let a = Origin::named("a");
    let config = Config::new()
        .listener("plain", "redirect_https: 8443")
        .route("all", "match: { hosts: [a.test] }, upstream: up")
        .upstream("up", &[("a", &a)]);
    let weir = Weir::start(config);
    let redirect = "308 to https://a.test:8443/x?q=1, by";
    let url = "http://a.test/x?q=1";
    let (code, said) = explain(&weir, &["GET", url, "--listener", "plain"]);
    assert!(code == 0 && said.contains(&format!("no route: {redirect} `redirect_https` of the listener")), "{said}");
    let (code, said) = explain(&weir, &["GET", url]);
    assert!(code == 0 && said.contains("route all: upstream\n"), "{said}");
    assert!(said.contains(&format!("on listener plain: {redirect} its `redirect_https`")), "{said}");
    let (_, said) = explain(&weir, &["GET", url, "--listener", "web"]);
    assert!(!said.contains("308"), "{said}");
}

#[test]
fn exits_with_1_where_no_route_matches() {
    let a = Origin::named("a");
    let config = Config::new().route("api", "match: { path_prefix: /api }, upstream: up").upstream("up", &[("a", &a)]);
    let weir = Weir::start(config);
    let (code, said) = explain(&weir, &["GET", "http://a.test/"]);
    assert!(code == 1 && said.contains("no route: 404") && said.contains("the path `/` does not match"), "{said}");
    let (code, said) = explain(&weir, &["GET", "http://a.test/", "--json"]);
    assert!(code == 1 && said.contains("\"route\":null"), "{said}");
    assert_eq!(explain(&weir, &["GET", "http://a.test/api"]).0, 0);
}
