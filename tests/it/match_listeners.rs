//! Routes that name listeners: they exist there and nowhere else.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::support::files::{folder, put};
use crate::support::http2::{connect, run};
use crate::support::{Client, Config, LISTENER_TLS, Pki, TlsClient, Weir, spare, tls_config};

fn two_listeners() -> Config {
    Config::new().listener("internal", "")
}

fn get(weir: &Weir, listener: &str, path: &str) -> (u16, String) {
    let response = Client::connect(weir.address(listener)).get_with(path, &[("Host", "a.test")]);
    (response.status, response.text())
}

/// The status of a request over h2c.
async fn status_over_h2c(address: SocketAddr, path: &str) -> u16 {
    let mut sender = connect(address).await;
    let request = http::Request::get(format!("http://a.test{path}")).body(()).unwrap();
    sender.send_request(request, true).unwrap().0.await.unwrap().status().as_u16()
}

#[test]
fn a_route_of_the_listener_with_client_auth_does_not_answer_on_the_public_one() {
    let pki = Pki::new();
    let folder = folder(&[("edge", &pki.issue(&["a.test"]))]);
    put(folder.path(), "clients.pem", pki.ca());
    let config = Config::new()
        .set("listeners.web", LISTENER_TLS)
        .listener("partners", LISTENER_TLS)
        .set("listeners.partners.tls.client_auth", "mode: required, ca: clients.pem")
        .route("api", "match: { listeners: [partners], hosts: [a.test], path_prefix: /api }, respond: { status: 200, body: secret }")
        .route("rest", "respond: { status: 200, body: public }");
    let weir = Weir::start_in(folder, config);
    let (anonymous, partner) = (Arc::new(tls_config(None)), Arc::new(tls_config(Some(&pki.client("p")))));
    let ask = |listener: &str, config| {
        let mut client = TlsClient::secure(weir.address(listener), "a.test", config);
        client.get_with("/api/x", &[("Host", "a.test")]).text()
    };
    assert_eq!(ask("partners", &partner), "secret");
    assert_eq!(ask("web", &anonymous), "public");
    assert_eq!(ask("web", &partner), "public");
}

#[test]
fn a_more_specific_route_of_another_listener_hides_nothing() {
    let config = two_listeners()
        .route(
            "exact",
            "match: { listeners: [internal], hosts: [a.test], path: /x }, respond: { status: 200, body: exact }",
        )
        .route("both", "match: { path: /x }, respond: { status: 200, body: both }")
        .route("same", "match: { listeners: [internal], path: /y }, respond: { status: 200, body: internal }")
        .route("twin", "match: { listeners: [web], path: /y }, respond: { status: 200, body: web }")
        .route("any", "match: { path: /z }, respond: { status: 200, body: any }")
        .route("named", "match: { listeners: [web], path: /z }, respond: { status: 200, body: named }")
        .route("only", "match: { listeners: [internal], path: /only }, respond: { status: 200, body: only }");
    let weir = Weir::start(config);
    for (listener, path, want) in [
        ("internal", "/x", (200, "exact")),
        ("web", "/x", (200, "both")),
        ("internal", "/y", (200, "internal")),
        ("web", "/y", (200, "web")),
        ("internal", "/z", (200, "any")),
        ("web", "/z", (200, "named")),
        ("internal", "/only", (200, "only")),
    ] {
        let (status, text) = get(&weir, listener, path);
        assert_eq!((status, text.as_str()), want, "{listener} {path}");
    }
    assert_eq!(get(&weir, "web", "/only").0, 404);
    run(async {
        for (listener, status) in [("internal", 200), ("web", 404)] {
            assert_eq!(status_over_h2c(weir.address(listener), "/only").await, status, "h2 on {listener}");
        }
    });
}

#[test]
fn a_route_that_names_a_listener_with_redirect_https_is_answered_there() {
    let config = two_listeners()
        .set("listeners.web.redirect_https", true)
        .route("proof", "match: { listeners: [web], path_prefix: /.well-known }, respond: { status: 200, body: proof }")
        .route("other", "match: { listeners: [internal], path: /other }, respond: { status: 200, body: other }")
        .route("rest", "respond: { status: 200, body: rest }");
    let weir = Weir::start(config);
    assert_eq!(get(&weir, "web", "/.well-known/x"), (200, "proof".to_owned()));
    for path in ["/", "/other"] {
        let response = Client::connect(weir.web()).get_with(path, &[("Host", "a.test:81")]);
        let location = format!("https://a.test{path}");
        assert_eq!((response.status, response.header("location")), (308, Some(location.as_str())));
    }
    assert_eq!(get(&weir, "internal", "/.well-known/x"), (200, "rest".to_owned()));
    assert_eq!(get(&weir, "internal", "/other"), (200, "other".to_owned()));
}

#[test]
fn a_reload_moves_a_route_to_another_listener_on_open_connections() {
    let route = |name: &str| {
        two_listeners()
            .route("r", "respond: { status: 204 }")
            .set("routes.r.match.listeners", ["[", name, "]"].concat())
    };
    let weir = Weir::start(route("web"));
    let (mut web, mut internal) = (Client::connect(weir.web()), Client::connect(weir.address("internal")));
    assert_eq!((web.get("/").status, internal.get("/").status), (204, 404));
    assert!(weir.reload(route("internal")));
    assert_eq!((web.get("/").status, internal.get("/").status), (404, 204));
    assert!(!weir.reload(route("nowhere")), "an unknown listener is a problem");
    assert_eq!((web.get("/").status, internal.get("/").status), (404, 204));
}

#[test]
fn a_reload_that_renames_a_listener_keeps_its_routes_on_open_connections() {
    let address = spare();
    let config = |name: &str| {
        Config::new()
            .listener(name, format!("address: \"{address}\""))
            .route("r", "match: { listeners: [NAME] }, respond: { status: 204 }".replace("NAME", name))
    };
    let weir = Weir::start(config("internal"));
    let mut client = Client::connect(weir.address("internal"));
    assert_eq!(client.get("/").status, 204);
    assert!(weir.reload(config("inside")));
    assert_eq!(client.get("/").status, 204, "the connection came in before");
    assert_eq!(Client::connect(weir.address("internal")).get("/").status, 204);
    assert_eq!(Client::connect(weir.web()).get("/").status, 404);
}

#[test]
fn explain_says_which_route_takes_a_request_on_a_listener() {
    let config = Config::new()
        .listener("plain", "redirect_https: true")
        .route("named", "match: { listeners: [web], path: /x }, respond: { status: 204 }")
        .route("any", "respond: { status: 200 }");
    let weir = Weir::start(config);
    let explain = |arguments: &[&str]| {
        let output = weir.command(&[&["explain", "GET", "http://a.test/x"], arguments].concat());
        (output.code.unwrap(), format!("{}{}", output.stdout, output.stderr))
    };
    for (arguments, parts) in [
        (
            &["--listener", "web"][..],
            &["GET a.test /x on web\n", "route named: respond", "`named` is more specific"][..],
        ),
        (&[], &["GET a.test /x\n", "route any: respond", "it is only on web: ask with --listener"]),
        (
            &["--listener", "plain"],
            &[
                "no route: 308 to https://a.test/x, by `redirect_https` of the listener",
                "the listener `plain` is none of its listeners",
                "the listener redirects to https, and the route does not name it",
            ],
        ),
    ] {
        let (code, said) = explain(arguments);
        assert_eq!(code, 0, "{said}");
        for part in parts {
            assert!(said.contains(part), "{arguments:?}: {part}: {said}");
        }
    }
    let (code, said) = explain(&["--listener", "nowhere"]);
    assert!(code != 0 && said.contains("there is no listener `nowhere`; known are `web`, `plain`"), "{said}");
    let reply = weir.admin_get("/api/v1/explain?url=/x&listener=web").json();
    assert_eq!((reply["listener"].as_str(), reply["route"].as_str()), (Some("web"), Some("named")));
}

#[test]
fn a_diff_and_the_effective_configuration_show_the_listeners_of_a_route() {
    let route = |listeners: &str| {
        two_listeners().route("r", "respond: { status: 204 }").set("routes.r.match.listeners", listeners)
    };
    let weir = Weir::start(route("[web]"));
    let config = weir.admin_get("/api/v1/config").json();
    assert_eq!(config["routes"][0]["match"]["listeners"], serde_json::json!(["web"]));
    let file = weir.config_file();
    std::fs::write(&file, route("[web, internal]").to_string()).unwrap();
    let output = weir.command(&["diff", "-c", file.to_str().unwrap()]);
    assert!(output.stdout.contains("route r: changed (match.listeners)"), "{}{}", output.stdout, output.stderr);
}
