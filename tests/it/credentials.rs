//! Users with passwords and programs with API keys, for each way that a request can take.

use crate::support::files::put;
use crate::support::grpc::{Caller, Server, message, status};
use crate::support::http2::run;
use crate::support::targets::for_each_backend;
use crate::support::{BACKENDS, CLIENTS, Client, Config, Origin, PLAIN, Response, Targets, Weir, eventually};

/// The password of `alice` is `pass`.
const USERS: &str = "alice:$2y$04$9gaZ0gdgvIbMab3QSVlMMO88m/BDD/0vcHv/Y.KCfThKSR13T6FmO\n";
/// The key of `acme` is `abc`.
const KEYS: &str = "acme sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n";
const ALICE: (&str, &str) = ("Authorization", "Basic YWxpY2U6cGFzcw==");
const WRONG: (&str, &str) = ("Authorization", "Basic YWxpY2U6d3Jvbmc=");
const NOBODY: (&str, &str) = ("Authorization", "Basic bm9ib2R5OnBhc3M=");

fn policies(config: Config) -> Config {
    config
        .set("auth.staff", "basic: { file: users.htpasswd, realm: Staff }")
        .set("auth.programs", "api_keys: { file: keys.txt, header: x-api-key }")
        .set("auth.links", "api_keys: { file: keys.txt, query: key }")
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "users.htpasswd", USERS);
    put(folder.path(), "keys.txt", KEYS);
    folder
}

fn weir(origin: &Origin, auth: &str) -> Weir {
    Weir::start_in(folder(), policies(Config::to(origin).set("routes.all.auth", auth)))
}

fn get(weir: &Weir, target: &str, fields: &[(&str, &str)]) -> Response {
    Client::connect(weir.web()).get_with(target, fields)
}

#[test]
fn a_user_passes_with_the_password_and_the_backend_does_not_get_it() {
    let origin = Origin::named("a");
    let weir = weir(&origin, "[staff]");
    for _ in 0..2 {
        assert_eq!(get(&weir, "/", &[ALICE]).status, 200);
        assert_eq!(origin.last_request().header("authorization"), None);
    }
    for refused in [[].as_slice(), &[WRONG], &[NOBODY], &[ALICE, ALICE], &[("Authorization", "Basic !")]] {
        let response = get(&weir, "/", refused);
        assert_eq!(response.status, 401, "{refused:?}");
        assert_eq!(response.header("www-authenticate"), Some("Basic realm=\"Staff\", charset=\"UTF-8\""));
    }
    assert_eq!(origin.requests().len(), 2);
    let log = weir.access_log_of(7);
    assert_eq!(
        (&log[0]["user"], &log[2]["user"], &log[2]["fault"]),
        (&"alice".into(), &().into(), &"unauthorized".into())
    );
    assert_eq!(weir.metric("weir_faults_total{route=\"all\",fault=\"unauthorized\"}"), 5.0);
}

#[test]
fn a_key_passes_and_neither_the_backend_nor_the_log_gets_it() {
    let origin = Origin::named("a");
    let programs = weir(&origin, "[programs]");
    assert_eq!(get(&programs, "/x?a=1", &[("X-Api-Key", "abc")]).status, 200);
    assert_eq!(origin.last_request().header("x-api-key"), None);
    assert_eq!(get(&programs, "/x", &[("X-Api-Key", "abd")]).status, 401);
    assert_eq!(get(&programs, "/x?key=abc", &[]).status, 401);
    assert_eq!(programs.access_log_of(3)[0]["user"], "acme");
    let links = weir(&origin, "[links]");
    for (lines, (target, passed, logged)) in [
        ("/x?a=1&key=abc&b=2", Some("/x?a=1&b=2"), "/x?a=1&b=2"),
        ("/x?%6bey=abc", Some("/x"), "/x"),
        ("/x?key=wrong", None, "/x"),
        ("/x?key=abc&key=abc", None, "/x"),
    ]
    .into_iter()
    .enumerate()
    {
        let response = get(&links, target, &[]);
        match passed {
            Some(passed) => assert_eq!((response.status, &*origin.last_request().target), (200, passed), "{target}"),
            None => assert_eq!(response.status, 401, "{target}"),
        }
        let log = links.access_log_of(lines + 1);
        assert_eq!(log[lines]["path"], logged, "{target}");
    }
    let log = format!("{:?}", links.access_log());
    assert!(!log.contains("abc") && !log.contains("wrong"), "{log}");
    let challenge = get(&links, "/x", &[]);
    assert_eq!(challenge.header("www-authenticate"), Some("Bearer realm=\"API key in the query parameter key\""));
}

#[test]
fn credentials_are_forwarded_where_the_policy_says_so() {
    let origin = Origin::named("a");
    let config = policies(Config::to(&origin).set("routes.all.auth", "{ any: [staff, programs, links] }"))
        .set("auth.staff.basic.forward", "true")
        .set("auth.programs.api_keys.forward", "true")
        .set("auth.links.api_keys.forward", "true");
    let weir = Weir::start_in(folder(), config);
    let fields = [ALICE, ("X-Api-Key", "abc")];
    assert_eq!(get(&weir, "/x?key=abc", &fields).status, 200);
    let sent = origin.last_request();
    assert_eq!((sent.header("authorization"), sent.header("x-api-key")), (Some(ALICE.1), Some("abc")));
    assert_eq!(sent.target, "/x?key=abc");
    assert_eq!(weir.access_log_of(1)[0]["path"], "/x", "the log never has it");
}

#[test]
fn each_challenge_of_several_policies_is_sent() {
    let origin = Origin::named("a");
    let weir = weir(&origin, "{ any: [staff, programs] }");
    for passes in [ALICE, ("X-Api-Key", "abc")] {
        assert_eq!(get(&weir, "/", &[passes]).status, 200, "{passes:?}");
    }
    let mut client = Client::connect(weir.web());
    client.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    let text = String::from_utf8(client.read_to_end()).unwrap().to_lowercase();
    assert_eq!(text.matches("www-authenticate: ").count(), 2, "{text}");
}

#[test]
fn a_changed_file_applies_without_a_reload_and_a_bad_one_keeps_the_old_content() {
    let origin = Origin::named("a");
    let weir = weir(&origin, "[programs]");
    let status = || get(&weir, "/", &[("X-Api-Key", "abc")]).status;
    assert_eq!(status(), 200);
    put(weir.config_file().parent().unwrap(), "keys.txt", KEYS.replace("ba7816", "ba7817"));
    eventually("the key is gone", || status() == 401);
    put(weir.config_file().parent().unwrap(), "keys.txt", KEYS);
    eventually("the key is back", || status() == 200);
    put(weir.config_file().parent().unwrap(), "keys.txt", "bad\n");
    weir.wait_for(&["weir_auth_files_rejected_total"], 1.0);
    assert_eq!(status(), 200);
}

#[test]
fn no_way_to_a_backend_and_no_spelling_of_a_path_bypasses_credentials_also_after_a_reload() {
    let routes = |auth: &str| {
        for_each_backend(&[("NAME", &("match: { path_prefix: /NAME }, upstream: NAME, auth: ".to_owned() + auth))])
    };
    let targets = Targets::start("", &routes("[]"));
    for auth in ["[staff]", "[programs]", "{ any: [links, staff] }"] {
        for name in ["users.htpasswd", "keys.txt"] {
            put(targets.weir.config_file().parent().unwrap(), name, if name == "keys.txt" { KEYS } else { USERS });
        }
        targets.reload_with("", &routes(auth), policies);
        for (backend, kind) in BACKENDS.iter().flat_map(|backend| CLIENTS.map(|kind| (backend, kind))) {
            for spelling in [
                format!("/{backend}"),
                format!("/{backend}/x?y"),
                format!("/a/../{backend}/x"),
                format!("/./{backend}//x"),
                format!("/%{:02x}{}/%2e%2e/{backend}", backend.as_bytes()[0], &backend[1..]),
            ] {
                assert_eq!(targets.ask(kind, "example.org", &spelling), Err(401), "{kind:?} {spelling} {auth}");
            }
        }
        targets.reload_with("", &routes("[]"), policies);
        for (backend, kind) in BACKENDS.iter().flat_map(|backend| CLIENTS.map(|kind| (backend, kind))) {
            assert!(targets.ask(kind, "example.org", &format!("/{backend}")).is_ok(), "{kind:?} {backend}");
        }
    }
}

#[test]
fn a_call_of_grpc_without_credentials_is_unauthenticated_and_an_upgrade_gets_401() {
    let server = Server::start_with(None);
    let config = PLAIN.config(server.address).set("upstreams.up.protocol", "h2c").set("routes.all.auth", "[programs]");
    let weir_of_grpc = Weir::start_in(folder(), policies(config));
    run(async {
        let mut client = Caller::connect(weir_of_grpc.web(), false).await;
        let (response, mut out) = client.call("/unary").await;
        let _ = out.send_data(message(b"one"), true);
        assert_eq!(status(response.await.unwrap()).await, "16");
    });
    let origin = Origin::named("a");
    let weir = weir(&origin, "[staff]");
    let mut client = Client::connect(weir.web());
    client.send(
        "GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    assert_eq!(client.response("GET").status, 401);
}

#[test]
fn redirects_and_fixed_responses_need_the_credentials_too() {
    for action in ["redirect: { to: '/elsewhere{query}' }", "respond: { status: 200 }"] {
        let config = policies(Config::new().route("all", format!("{action}, auth: [links]")));
        let weir = Weir::start_in(folder(), config);
        assert_eq!(get(&weir, "/", &[]).status, 401, "{action}");
        let response = get(&weir, "/?key=abc&a=1", &[]);
        assert!(response.status < 400, "{action}");
        assert!(
            response.header("location").is_none_or(|to| to == "/elsewhere?a=1"),
            "{:?}",
            response.header("location")
        );
    }
}
