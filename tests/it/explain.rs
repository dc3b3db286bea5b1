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
