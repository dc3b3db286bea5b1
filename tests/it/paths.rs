//! Paths: the backend gets the path that the route was chosen by. No writing of a path leaves its prefix.

use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::support::targets::{Routes, for_each_backend};
use crate::support::{BACKENDS, CLIENTS, Client, ClientKind, Config as WeirConfig, Origin, Reply, Targets, Weir};

/// For each backend: `add.NAME.example.org` puts a prefix before all paths, `NAME.example.org` rewrites below `/pub` and
/// sends the rest as it comes.
const ROUTES: Routes<'static> = &[
    ("add-NAME", "match: { hosts: [add.NAME.example.org] }, upstream: NAME, rewrite: { add_prefix: /tenant-a }"),
    (
        "pub-NAME",
        "match: { hosts: [NAME.example.org], path_prefix: /pub }, upstream: NAME, \
         rewrite: { strip_prefix: /pub, add_prefix: /v2 }",
    ),
    ("keep-NAME", "match: { hosts: [NAME.example.org] }, upstream: NAME"),
];

/// The same on the two hosts that Weir's certificate covers. The path begins with the name of the backend.
const ROUTES_ON_ONE_HOST: Routes<'static> = &[
    (
        "NAME",
        "match: { hosts: [example.org], path_prefix: /NAME }, upstream: NAME, \
         rewrite: { strip_prefix: /NAME, add_prefix: /tenant-a }",
    ),
    ("keep-NAME", "match: { hosts: [example.com], path_prefix: /NAME }, upstream: NAME"),
];

/// The paths below `/admin` are closed.
const ADMIN_ROUTE: (&str, &str) = ("admin", "match: { path_prefix: /admin }, respond: { status: 403 }");
const CATCH_ALL_ROUTE: (&str, &str) = ("all", "upstream: http1");

/// A path as a backend resolves it that knows no more than RFC 3986. Written apart from Weir's own.
fn resolved(path: &str) -> String {
    let path = path.replace("%2e", ".").replace("%2E", ".");
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            _ => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

#[test]
fn no_encoding_of_a_path_leaves_the_prefix_that_a_route_adds() {
    let targets = Targets::start("", &for_each_backend(ROUTES_ON_ONE_HOST));
    for kind in CLIENTS {
        for backend in BACKENDS {
            for (path, sent) in [
                ("/%2e%2e/{b}/../../tenant-b/secret", Err(404)),
                ("/{b}/x", Ok("/tenant-a/x")),
                ("/{b}/x%2Fy?q=/../%2e", Ok("/tenant-a/x%2Fy?q=/../%2e")),
                ("/../{b}/secret", Ok("/tenant-a/secret")),
                ("/%2e%2E/{b}/secret", Ok("/tenant-a/secret")),
                ("/x/../../{b}/./secret", Ok("/tenant-a/secret")),
                ("/{b}/..%2f..%2fsecret", Ok("/tenant-a/..%2F..%2Fsecret")),
                ("/{b}/..;/secret", Ok("/tenant-a/..;/secret")),
                ("/{b}/%252e%252e/secret", Ok("/tenant-a/%252e%252e/secret")),
                ("/{b}//x", Ok("/tenant-a//x")),
                ("/{b}/.", Ok("/tenant-a/")),
                ("/{b}", Ok("/tenant-a")),
            ] {
                let path = path.replace("{b}", backend);
                let sent = sent.map(str::to_owned);
                assert_eq!(targets.ask(kind, "example.org", &path), sent, "{kind:?} to {backend}: {path}");
            }
        }
    }
}

#[test]
fn a_prefix_that_matches_in_another_encoding_is_stripped() {
    let targets = Targets::start("", &for_each_backend(ROUTES));
    for kind in [ClientKind::Http1, ClientKind::Uncommon, ClientKind::H2c] {
        for backend in BACKENDS {
            for path in ["/pub/x", "/p%75b/x", "/./pub/x", "/y/../pub/x", "/%70%75%62/./x"] {
                let sent = targets.ask(kind, &format!("{backend}.example.org"), path);
                assert_eq!(sent, Ok("/v2/x".into()), "{kind:?} to {backend}: {path}");
            }
            for path in ["/../tenant-b/secret", "/%2e%2e/tenant-b/secret", "/x/../../tenant-b/secret"] {
                let sent = targets.ask(kind, &format!("add.{backend}.example.org"), path);
                assert_eq!(sent, Ok("/tenant-a/tenant-b/secret".into()), "{kind:?} to {backend}: {path}");
            }
        }
    }
}

#[test]
fn without_a_rewrite_the_clients_bytes_are_sent() {
    let targets = Targets::start("", &for_each_backend(ROUTES_ON_ONE_HOST));
    for kind in CLIENTS {
        for backend in BACKENDS {
            for path in ["/x/../{b}/%7e", "/{b}//a;b", "/%2e/{b}/%2f%c3?%zz|^", "/{b}/?", "/{b}/a/./b/.."] {
                let path = path.replace("{b}", backend);
                assert_eq!(targets.ask(kind, "example.com", &path), Ok(path.clone()), "{kind:?} to {backend}");
            }
        }
    }
}

#[test]
fn a_request_for_an_upgrade_stays_below_the_prefix() {
    let targets = Targets::start("", &for_each_backend(ROUTES));
    for backend in ["http1", "tls"] {
        let mut client = Client::connect(targets.weir.web());
        let fields = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
        client.send(format!("GET /x/../../secret HTTP/1.1\r\nHost: add.{backend}.example.org\r\n{fields}\r\n\r\n"));
        let response = client.response("GET");
        assert_eq!((response.status, response.text().as_str()), (200, "/tenant-a/secret"), "to {backend}");
    }
}

#[test]
fn each_attempt_at_a_backend_has_the_rewritten_path() {
    let fails = Origin::start(|_| Reply::hang_up());
    let serves = Origin::start(|request| Reply::new(200, &request.target));
    let config = WeirConfig::to_all(&[("a", &fails), ("b", &serves)])
        .set("routes.all.rewrite", "strip_prefix: /pub, add_prefix: /v2");
    let weir = Weir::start(config);
    for _ in 0..4 {
        assert_eq!(Client::connect(weir.web()).get("/y/../p%75b/../../x").text(), "/v2/x");
        assert_eq!(Client::connect(weir.web()).get("/y/../p%75b/x").text(), "/v2/x");
    }
    let failed = fails.requests();
    assert!(!failed.is_empty() && failed.iter().all(|request| request.target == "/v2/x"), "{failed:?}");
}

#[test]
fn an_empty_rewrite_sends_the_normal_form() {
    let targets = Targets::start("", &[("all", "upstream: http1, rewrite: {}")]);
    assert_eq!(targets.ask(ClientKind::Http1, "a", "/x/../%61%2f//b?%61"), Ok("/a%2F//b?%61".into()));
}

#[test]
fn whatever_the_target_the_sent_path_is_below_the_prefix_and_is_the_one_that_was_matched() {
    let targets = Targets::start("", &for_each_backend(ROUTES));
    let target = "(/|\\.\\.|\\.|%2e|%2E|%2F|%2f|pub|p%75b|;|a|%61|\\||%25){0,10}(\\?[a./]{0,4})?";
    let way = (
        prop::sample::select(vec![ClientKind::Http1, ClientKind::Uncommon, ClientKind::H2c]),
        prop::sample::select(BACKENDS.to_vec()),
    );
    let seen = RefCell::new(BTreeMap::<&str, usize>::new());
    let mut runner = TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
    let property = |((kind, backend), rest): ((ClientKind, &str), String)| {
        let target = format!("/{rest}");
        let path = target.split('?').next().unwrap();
        let matched = weir::path::normalise(path, weir::path::Rules::default());
        let without_query = |sent: &str| sent.split('?').next().unwrap().to_owned();

        let sent = targets.ask(kind, &format!("add.{backend}.example.org"), &target).unwrap();
        let below = resolved(&without_query(&sent));
        prop_assert!(below == "/tenant-a" || below.starts_with("/tenant-a/"), "{target} -> {sent}");
        prop_assert_eq!(without_query(&sent), format!("/tenant-a{matched}"));

        let sent = targets.ask(kind, &format!("{backend}.example.org"), &target).unwrap();
        if matched == "/pub" || matched.starts_with("/pub/") {
            *seen.borrow_mut().entry("stripped").or_default() += 1;
            prop_assert_eq!(without_query(&sent), format!("/v2{}", &matched["/pub".len()..]));
        } else {
            *seen.borrow_mut().entry("kept").or_default() += 1;
            prop_assert_eq!(&sent, &target);
        }
        Ok(())
    };
    runner.run(&(way, target), property).unwrap();
    assert!(seen.borrow().len() == 2, "{:?}", seen.borrow());
}

#[test]
fn double_slashes_parameters_and_encoded_slashes_do_not_meet_a_route_for_admin() {
    let keep = Targets::start("", &[ADMIN_ROUTE, CATCH_ALL_ROUTE]);
    for kind in [ClientKind::Http1, ClientKind::H2c] {
        for path in ["/admin", "/admin/", "/admin/x", "/%61dmin", "/x/../admin", "/./admin"] {
            assert_eq!(keep.ask(kind, "a", path), Err(403), "{path}");
        }
        for path in ["//admin", "/admin;x", "/admin%2Fx", "/x/..%2fadmin", "/x%5C..%5Cadmin"] {
            assert_eq!(keep.ask(kind, "a", path), Ok(path.into()), "{path}");
        }
    }
}

#[test]
fn listeners_merge_slashes_and_decode_or_reject_encoded_ones_and_go_on_with_it_after_reloads() {
    let api = "match: { path_prefix: /api }, upstream: http1, rewrite: { strip_prefix: /api, add_prefix: /v2 }";
    let routes = &[ADMIN_ROUTE, ("api", api), CATCH_ALL_ROUTE];
    let strict = "encoded_slash: decode, merge_slashes: true";
    let targets = Targets::start(strict, routes);
    let decodes = |targets: &Targets| {
        for kind in [ClientKind::Http1, ClientKind::H2c] {
            for path in ["//admin", "/admin%2Fx", "/x/..%2fadmin", "/%2Fadmin", "/a//../admin"] {
                assert_eq!(targets.ask(kind, "a", path), Err(403), "{path}");
            }
            let away = "/api%2Fx//y%2f..%2F..%2f..%2Fz";
            assert_eq!(targets.ask(kind, "a", away), Ok(away.into()), "it is not below /api");
            assert_eq!(targets.ask(kind, "a", "//api%2Fx///y?a%2Fb//"), Ok("/v2/x/y?a%2Fb//".into()));
            assert_eq!(targets.ask(kind, "a", "/b%2Fc//d"), Ok("/b%2Fc//d".into()), "sent as it came");
        }
    };
    decodes(&targets);
    let more = ("more", "match: { path: /more }, respond: { status: 204 }");
    targets.reload(strict, &[&[more], &routes[..]].concat());
    decodes(&targets);
    targets.reload("encoded_slash: reject", routes);
    for kind in [ClientKind::Http1, ClientKind::H2c] {
        for path in ["/b%2Fc", "/b%2fc", "/%2f"] {
            assert_eq!(targets.ask(kind, "a", path), Err(400), "{path}");
        }
        assert_eq!(targets.ask(kind, "a", "/b//c?d%2Fe"), Ok("/b//c?d%2Fe".into()), "queries have no segments");
        assert_eq!(targets.ask(kind, "a", "//admin"), Ok("//admin".into()));
    }
    targets.weir.wait_for(&["weir_faults_total", "bad_request"], 6.0);
    targets.reload("", routes);
    assert_eq!(targets.ask(ClientKind::Http1, "a", "/b%2Fc"), Ok("/b%2Fc".into()));
}

#[test]
fn routes_match_however_their_own_paths_are_written() {
    let targets = Targets::start(
        "",
        &[
            ("lower", "match: { path_prefix: /a%2fb }, respond: { status: 201 }"),
            ("letters", "match: { path: /caf\u{e9} }, respond: { status: 202 }"),
            ("encoded", "match: { path: /%70ub/../priv }, respond: { status: 203 }"),
            ("braces", "match: { path_prefix: \"/{id}\" }, respond: { status: 205 }"),
        ],
    );
    for kind in [ClientKind::Http1, ClientKind::H2c] {
        for (path, status) in [
            ("/a%2Fb/x", 201),
            ("/a%2fb", 201),
            ("/caf%C3%A9", 202),
            ("/caf%c3%a9", 202),
            ("/caf\u{e9}", 202),
            ("/priv", 203),
            ("/{id}/x", 205),
            ("/%7bid%7d", 205),
        ] {
            assert_eq!(targets.ask(kind, "a", path), Err(status), "{path}");
        }
    }
}

#[test]
fn explain_reads_a_path_as_the_listener_does() {
    let routes = &[ADMIN_ROUTE, CATCH_ALL_ROUTE];
    let targets = Targets::start("encoded_slash: decode, merge_slashes: true", routes);
    let explain = |method: &str, url: &str| targets.weir.command(&["explain", method, url]);
    for url in ["/admin%2Fx", "//admin", "http://a/x/..%2fadmin"] {
        let said = explain("GET", url).stdout;
        assert!(said.contains("route admin"), "{url}: {said}");
    }
    let said = explain("GET", "/caf\u{e9}\\{}").stdout;
    assert!(said.contains("/caf%C3%A9%5C%7B%7D") && said.contains("route all"), "{said}");
    let said = explain("OPTIONS", "*").stdout;
    assert!(said.contains("route all"), "{said}");
    targets.reload("encoded_slash: reject", routes);
    let refused = explain("GET", "/admin%2Fx");
    assert!(refused.code == Some(1), "{}", refused.stdout);
    assert!(format!("{}{}", refused.stdout, refused.stderr).contains("answers 400"), "{}", refused.stdout);
}
