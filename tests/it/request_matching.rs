//! Routes that match header fields, query parameters, cookies and the client's network.

use crate::support::{BACKENDS, CLIENTS, Client, Config, Origin, Targets, Weir};

/// The status of a route `all` for any request is 404, that of the route with the condition is 200.
fn config(condition: &str) -> Config {
    Config::new()
        .set("trusted_proxies", "[127.0.0.0/8]")
        .route("special", "match: { IT }, respond: { status: 200 }".replace("IT", condition))
        .route("all", "respond: { status: 404 }")
}

fn status(weir: &Weir, target: &str, fields: &[(&str, &str)]) -> u16 {
    Client::connect(weir.web()).get_with(target, fields).status
}

type Request<'a> = (&'a str, &'a [(&'a str, &'a str)]);

#[test]
fn a_route_is_selected_by_conditions_on_values() {
    let cases: [(&str, &[Request<'_>], &[Request<'_>]); 8] = [
        (
            "headers: { user-agent: { regex: '(?i)bot|crawler' } }",
            &[("/", &[("User-Agent", "GoogleBot/2")])],
            &[("/", &[("User-Agent", "Firefox")]), ("/", &[])],
        ),
        ("headers: { x-a: { present: true } }", &[("/", &[("X-A", "")])], &[("/", &[])]),
        ("headers: { x-a: { not: one } }", &[("/", &[]), ("/", &[("X-A", "two")])], &[("/", &[("X-A", "one")])]),
        (
            "cookies: { canary: 'yes' }",
            &[("/", &[("Cookie", "a=1; canary=yes")])],
            &[("/", &[("Cookie", "canary=no")]), ("/", &[("Cookie", "xcanary=yes")])],
        ),
        (
            "query: { version: '2' }",
            &[("/?version=2", &[]), ("/?a&v%65rsion=%32", &[])],
            &[("/?version=3", &[]), ("/", &[]), ("/?xversion=2", &[])],
        ),
        ("query: { debug: { present: true } }", &[("/?debug", &[]), ("/?debug=", &[])], &[("/?debugs", &[])]),
        ("query: { a: { not: { regex: '^[0-9]+$' } } }", &[("/?a=b", &[]), ("/", &[])], &[("/?a=12", &[])]),
        (
            "client: [192.0.2.0/24]",
            &[("/", &[("X-Forwarded-For", "192.0.2.1")]), ("/", &[("X-Forwarded-For", "::ffff:192.0.2.1")])],
            &[("/", &[]), ("/", &[("X-Forwarded-For", "192.0.3.1")])],
        ),
    ];
    for (condition, matching, others) in cases {
        let weir = Weir::start(config(condition));
        for (target, fields) in matching {
            assert_eq!(status(&weir, target, fields), 200, "{condition} {target} {fields:?}");
        }
        for (target, fields) in others {
            assert_eq!(status(&weir, target, fields), 404, "{condition} {target} {fields:?}");
        }
    }
}

#[test]
fn every_kind_of_client_is_matched_by_query_and_network_also_after_a_reload() {
    let routes = |condition: &str| {
        let to = |name: &str| {
            "match: { path_prefix: /NAME, IT }, upstream: NAME".replace("NAME", name).replace("IT", condition)
        };
        BACKENDS.map(|name| (name.to_owned(), to(name)))
    };
    let condition = "query: { v: { regex: '^2' } }, client: ['127.0.0.0/8']";
    let targets = Targets::start("", &routes("query: { v: '3' }"));
    targets.reload("", &routes(condition));
    for (backend, kind) in BACKENDS.iter().flat_map(|backend| CLIENTS.map(|kind| (backend, kind))) {
        let with = |query: &str| targets.ask(kind, "example.org", &format!("/{backend}?{query}"));
        assert!(with("v=2").is_ok(), "{kind:?} {backend}");
        assert_eq!(with("v=3"), Err(404), "{kind:?} {backend}");
    }
}

#[test]
fn more_conditions_are_more_specific_whatever_their_kind() {
    let config = Config::new()
        .route("one", "match: { headers: { x-a: '1' } }, respond: { status: 201 }")
        .route("two", "match: { query: { a: '1' }, cookies: { a: '1' } }, respond: { status: 202 }")
        .route("three", "match: { methods: [GET], query: { a: '1' }, client: [127.0.0.1] }, respond: { status: 203 }");
    let weir = Weir::start(config);
    assert_eq!(status(&weir, "/", &[("X-A", "1")]), 201);
    assert_eq!(status(&weir, "/?a=1", &[("X-A", "1")]), 203);
    assert_eq!(status(&weir, "/?a=1", &[("X-A", "1"), ("Cookie", "a=1")]), 203);
}

#[test]
fn explain_names_the_condition_that_fails() {
    for (condition, text) in [
        ("headers: { x-a: { regex: '^a' } }", "the header `x-a` does not fulfil: matches `^a`"),
        ("query: { a: { not: { present: false } } }", "the query parameter `a` does not fulfil: not: is absent"),
        ("cookies: { a: b }", "the cookie `a` does not fulfil: equals `b`"),
        ("client: [192.0.2.0/24]", "the client 10.0.0.1 is in none of its networks"),
    ] {
        let weir = Weir::start(config(condition));
        let output = weir.command(&["explain", "GET", "http://test/", "--client", "10.0.0.1"]);
        assert!(output.stdout.contains(text), "{text}: {}{}", output.stdout, output.stderr);
    }
}

#[test]
fn explain_names_the_networks_that_refuse_the_client() {
    let origin = Origin::named("a");
    for (place, settings, text) in [
        ("routes.all", "deny: [10.0.0.0/8]", "`deny` of the route refuses the client 10.0.0.1"),
        ("routes.all", "allow: [192.0.2.0/24]", "`allow` of the route refuses the client 10.0.0.1"),
        ("listeners.web", "deny: [10.0.0.0/8]", "`deny` of the listener refuses the client 10.0.0.1"),
    ] {
        let weir = Weir::start(Config::to(&origin).set(place, settings));
        let output = weir.command(&["explain", "GET", "http://test/", "--client", "10.0.0.1"]);
        assert!(output.stdout.contains(text), "{text}: {}{}", output.stdout, output.stderr);
    }
}
