//! Clients are allowed and denied by their networks, on listeners and on routes, for each way that a request can take.

use std::sync::Arc;

use crate::support::grpc::{Caller, Server, message, status};
use crate::support::http2::run;
use crate::support::targets::for_each_backend;
use crate::support::{
    BACKENDS, CLIENTS, Client, Config, Origin, PLAIN, Pki, Targets, TlsClient, Weir, eventually, tls_config,
};

const LOOPBACK: &str = "[127.0.0.0/8, '::1']";
const ELSEWHERE: &str = "[192.0.2.0/24]";

/// The status of a request whose client has this address, by a trusted proxy on the loopback interface.
fn from(weir: &Weir, client: &str) -> u16 {
    Client::connect(weir.web()).get_with("/", &[("X-Forwarded-For", client)]).status
}

fn behind_a_proxy(origin: &Origin) -> Config {
    Config::to(origin).set("trusted_proxies", "[127.0.0.0/8]")
}

/// Whether a new connection is closed before a byte is sent on it.
fn is_closed_at_once(weir: &Weir) -> bool {
    Client::connect(weir.web()).is_closed_within(crate::support::DEADLINE)
}

fn refused_connections(weir: &Weir) -> f64 {
    weir.sum(&["weir_listener_connections_total", "\"web\"", "refused_policy"])
}

#[test]
fn a_route_refuses_clients_of_denied_and_of_unlisted_networks() {
    let origin = Origin::named("a");
    for (settings, passes, refused) in [
        ("allow: []", ["10.0.0.1", "192.0.2.1"].as_slice(), [].as_slice()),
        ("allow: [10.0.0.0/8]", &["10.9.9.9", "::ffff:10.0.0.1"], &["11.0.0.1", "fd00::1"]),
        ("deny: [10.0.0.0/8, fd00::/8]", &["11.0.0.1", "fe80::1"], &["10.0.0.1", "::ffff:10.0.0.1", "fd00::1"]),
        ("allow: [10.0.0.0/8], deny: [10.1.0.0/16]", &["10.2.0.1"], &["10.1.0.1", "11.0.0.1"]),
        ("allow: [10.0.0.7]", &["10.0.0.7"], &["10.0.0.8"]),
    ] {
        for place in ["routes.all", "listeners.web"] {
            let weir = Weir::start(behind_a_proxy(&origin).set(place, settings));
            for client in passes {
                assert_eq!(from(&weir, client), 200, "{place} {settings} {client}");
            }
            for client in refused {
                assert_eq!(from(&weir, client), 403, "{place} {settings} {client}");
            }
        }
    }
}

#[test]
fn a_refused_request_is_recorded_as_refused_by_a_policy_and_reaches_no_backend() {
    let origin = Origin::named("a");
    let weir = Weir::start(Config::to(&origin).set("routes.all.deny", LOOPBACK));
    assert_eq!(Client::connect(weir.web()).get("/").status, 403);
    let log = weir.access_log_of(1);
    assert_eq!((&log[0]["fault"], &log[0]["route"]), (&"refused_policy".into(), &"all".into()));
    assert_eq!(origin.requests().len(), 0);
    assert_eq!(refused_connections(&weir), 0.0, "the connection itself is welcome");
}

#[test]
fn no_way_to_a_backend_and_no_spelling_of_a_path_bypasses_the_networks_of_a_route_also_after_a_reload() {
    let routes = |settings: &str| {
        for_each_backend(&[("NAME", &("match: { path_prefix: /NAME }, upstream: NAME, ".to_owned() + settings))])
    };
    let open = routes("allow: []");
    for closed in [format!("deny: {LOOPBACK}"), format!("allow: {ELSEWHERE}")] {
        let targets = Targets::start("", &routes(&closed));
        for backend in BACKENDS {
            for spelling in [
                format!("/{backend}"),
                format!("/{backend}/x?y"),
                format!("/a/../{backend}/x"),
                format!("/./{backend}//x"),
                format!("/%{:02x}{}/%2e%2e/{backend}", backend.as_bytes()[0], &backend[1..]),
            ] {
                for kind in CLIENTS {
                    assert_eq!(targets.ask(kind, "example.org", &spelling), Err(403), "{kind:?} {spelling} {closed}");
                }
            }
        }
        targets.reload("", &open);
        for (backend, kind) in BACKENDS.iter().flat_map(|backend| CLIENTS.map(|kind| (backend, kind))) {
            assert!(targets.ask(kind, "example.org", &format!("/{backend}")).is_ok(), "{kind:?} {backend}");
        }
        targets.reload("", &routes(&closed));
        for (backend, kind) in BACKENDS.iter().flat_map(|backend| CLIENTS.map(|kind| (backend, kind))) {
            assert_eq!(targets.ask(kind, "example.org", &format!("/{backend}")), Err(403), "{kind:?} {backend}");
        }
    }
}

#[test]
fn an_upgrade_from_a_denied_network_is_refused() {
    let origin = Origin::named("a");
    let weir = Weir::start(Config::to(&origin).set("routes.all.deny", LOOPBACK));
    let mut client = Client::connect(weir.web());
    client.send(
        "GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    assert_eq!(client.response("GET").status, 403);
    assert_eq!(origin.requests().len(), 0);
}

#[test]
fn a_call_of_grpc_from_a_denied_network_is_permission_denied() {
    let server = Server::start_with(None);
    let config = PLAIN.config(server.address).set("upstreams.up.protocol", "h2c").set("routes.all.deny", LOOPBACK);
    let weir = Weir::start(config);
    run(async {
        let mut client = Caller::connect(weir.web(), false).await;
        let (response, mut out) = client.call("/unary").await;
        let _ = out.send_data(message(b"one"), true);
        let response = response.await.unwrap();
        assert_eq!((response.status().as_u16(), status(response).await.as_str()), (200, "7"));
    });
}

#[test]
fn redirects_and_fixed_responses_of_a_route_are_refused_too() {
    for action in ["redirect: { to: /elsewhere }", "respond: { status: 200 }"] {
        let weir = Weir::start(Config::new().route("all", format!("{action}, allow: {ELSEWHERE}")));
        assert_eq!(Client::connect(weir.web()).get("/").status, 403, "{action}");
    }
}

#[test]
fn a_listener_closes_the_connection_of_a_refused_peer_before_tls_and_counts_it() {
    let origin = Origin::named("a");
    for settings in [format!("deny: {LOOPBACK}"), format!("allow: {ELSEWHERE}")] {
        let folder = tempfile::tempdir().unwrap();
        Pki::new().issue(&["test"]).put(folder.path(), "test");
        let config = Config::to(&origin).certificates(&["test"]).set("listeners.web", &settings);
        let weir = Weir::start_in(folder, config);
        assert!(is_closed_at_once(&weir), "{settings}");
        weir.wait_for(&["weir_listener_connections_total", "\"web\"", "refused_policy"], 1.0);
        weir.wait_for(&["weir_listener_connections_total", "\"web\"", "tls_error"], 0.0);
        weir.wait_for(&["weir_listener_connections_total", "\"web\"", "accepted"], 0.0);
    }
}

#[test]
fn the_next_request_of_an_open_connection_is_refused_after_a_reload_denies_its_client() {
    let origin = Origin::named("a");
    let weir = Weir::start(Config::to(&origin));
    let mut client = Client::connect(weir.web());
    assert_eq!(client.get("/").status, 200);
    assert!(weir.reload(Config::to(&origin).set("listeners.web.deny", LOOPBACK)));
    assert_eq!(client.get("/").status, 403);
    assert!(is_closed_at_once(&weir));
    assert!(weir.reload(Config::to(&origin)));
    assert_eq!(Client::connect(weir.web()).get("/").status, 200);
}

#[test]
fn the_address_in_a_proxy_header_is_the_one_that_a_listener_checks() {
    let origin = Origin::named("a");
    let config = behind_a_proxy(&origin).set("listeners.web", "proxy_protocol: true, allow: [10.0.0.0/8]");
    let weir = Weir::start(config);
    let mut client = Client::connect(weir.web());
    client.send("PROXY TCP4 10.0.0.1 127.0.0.1 5 6\r\nGET / HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.response("GET").status, 200);
    let mut client = Client::connect(weir.web());
    client.send("PROXY TCP4 11.0.0.1 127.0.0.1 5 6\r\n");
    assert!(client.is_closed_within(crate::support::DEADLINE));
    eventually("the refusal is counted", || refused_connections(&weir) == 1.0);
}

#[test]
fn a_changed_file_of_networks_is_applied_without_a_reload_and_a_bad_one_keeps_the_old_content() {
    let origin = Origin::named("a");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blocked.txt");
    std::fs::write(&path, "# none yet\n").unwrap();
    let files = "deny: { file: blocked.txt }";
    let config = behind_a_proxy(&origin).set("listeners.web", files).set("routes.all", files);
    let weir = Weir::start_in(folder, config);
    assert_eq!(from(&weir, "192.0.2.1"), 200);
    std::fs::write(&path, "192.0.2.0/24 # the test network\n").unwrap();
    eventually("the network is denied", || from(&weir, "192.0.2.1") == 403);
    assert_eq!(weir.metric("weir_network_files_rejected_total"), 0.0);
    std::fs::write(&path, "198.51.100.0/24\nnowhere\n").unwrap();
    weir.wait_for(&["weir_network_files_rejected_total"], 1.0);
    weir.wait_for_log("blocked.txt:2: `nowhere` is not a network");
    assert_eq!((from(&weir, "192.0.2.1"), from(&weir, "198.51.100.1")), (403, 200));
    std::fs::remove_file(&path).unwrap();
    weir.wait_for(&["weir_network_files_rejected_total"], 2.0);
    assert_eq!(from(&weir, "192.0.2.1"), 403);
    std::fs::write(&path, "127.0.0.0/8\n").unwrap();
    eventually("the listener refuses the peer", || {
        Client::connect(weir.web()).is_closed_within(std::time::Duration::from_millis(100))
    });
    eventually("the refusal is counted", || refused_connections(&weir) > 0.0);
}

#[test]
fn a_missing_file_and_a_bad_line_are_problems_at_start_and_at_a_reload() {
    let origin = Origin::named("a");
    let config = |key: &str| Config::to(&origin).set(&format!("routes.all.{key}"), "{ file: list.txt }");
    for (content, key, problem) in [
        (None, "deny", "cannot be read"),
        (Some("10.0.0.0/8\n10.0.0.0/33\n"), "deny", "list.txt:2:1"),
        (Some("# nothing\n"), "allow", "no network in this file"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        if let Some(content) = content {
            std::fs::write(folder.path().join("list.txt"), content).unwrap();
        }
        let output = Weir::start_and_end(&folder, config(key));
        let text = output.stdout + &output.stderr;
        assert!(output.code != Some(0) && text.contains(problem), "{problem}: {text}");
        let weir = Weir::start_in(folder, Config::to(&origin));
        assert!(!weir.reload(config(key)), "{problem}");
        assert_eq!(Client::connect(weir.web()).get("/").status, 200);
    }
}

#[test]
fn a_tls_client_of_an_allowed_network_is_served() {
    let targets = Targets::start_with(
        "",
        &for_each_backend(&[("NAME", "match: { path_prefix: /NAME }, upstream: NAME")]),
        |config| config.set("listeners.tls.allow", LOOPBACK),
    );
    let mut client = TlsClient::secure(targets.weir.address("tls"), "example.org", &Arc::new(tls_config(None)));
    client.send("GET /http1 HTTP/1.1\r\nHost: example.org\r\n\r\n");
    assert_eq!(client.response("GET").status, 200);
}

#[test]
fn check_warns_where_another_spelling_of_a_path_reaches_a_route_without_the_networks() {
    let origin = Origin::named("a");
    let config = |paths: &str| {
        let config = Config::to(&origin)
            .route("admin", "match: { path_prefix: /admin }, upstream: up, allow: [10.0.0.0/8]")
            .set("listeners.web.paths", paths);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("weir.yaml");
        std::fs::write(&file, config.to_string()).unwrap();
        crate::support::weir::command(&["check", "-c", file.to_str().unwrap()])
    };
    for (paths, warning) in [
        ("{}", Some("`//admin` reaches the route `all`")),
        ("{ merge_slashes: true }", Some("`/admin%2Fx` reaches the route `all`")),
        ("{ merge_slashes: true, encoded_slash: reject }", None),
        ("{ merge_slashes: true, encoded_slash: decode }", None),
    ] {
        let output = config(paths);
        let text = output.stdout + &output.stderr;
        match warning {
            Some(warning) => assert!(text.contains(warning), "{paths}: {text}"),
            None => assert!(!text.contains("reaches the route"), "{paths}: {text}"),
        }
    }
}
