//! Forward authentication: an upstream decides about each request, for each way that a request can take.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::grpc::{Caller, Server, message, status};
use crate::support::http2::run;
use crate::support::origin::Request;
use crate::support::targets::for_each_backend;
use crate::support::{BACKENDS, CLIENTS, Client, Config, Origin, PLAIN, Reply, Targets, Weir, eventually};

/// An authorization server: the cookie `session=good` passes.
fn server() -> Origin {
    Origin::start(decide)
}

fn decide(request: &Request) -> Reply {
    if request.header("cookie").is_some_and(|cookie| cookie.contains("session=good")) {
        let fields = [("Remote-User", "ann"), ("Set-Cookie", "session=good; renewed"), ("X-Internal", "secret")];
        return Reply::with(200, &fields, "");
    }
    let fields =
        [("Location", "https://login.example/"), ("Set-Cookie", "csrf=1"), ("Connection", "x-hop"), ("X-Hop", "1")];
    Reply::with(302, &fields, "log in")
}

const POLICY: &str =
    "{ sso: { forward: { upstream: auth, path: '/verify?x=1', response_headers: [remote-user, remote-groups] } } }";

fn protected(origin: &Origin, auth: &Origin) -> Config {
    Config::to(origin).set("auth", POLICY).upstream("auth", &[("a", auth.address())]).set("routes.all.auth", "[sso]")
}

fn get(weir: &Weir, fields: &[(&str, &str)]) -> crate::support::Response {
    Client::connect(weir.web()).get_with("/x/../a/b?q=1", fields)
}

const GOOD: (&str, &str) = ("Cookie", "a=b; session=good");

#[test]
fn the_authorization_request_describes_the_request_and_its_response_replaces_the_fields_of_the_client() {
    let (origin, auth) = (Origin::named("a"), server());
    let weir = Weir::start(protected(&origin, &auth));
    let forged = [
        GOOD,
        ("Remote-User", "root"),
        ("Remote_User", "root"),
        ("Remote-Groups", "admin"),
        ("Connection", "close, x-y"),
    ];
    let response = get(&weir, &forged);
    assert_eq!((response.status, response.header("set-cookie")), (200, Some("session=good; renewed")));
    assert_eq!(response.header("x-internal"), None);
    let asked = auth.last_request();
    assert_eq!((&*asked.method, &*asked.target), ("GET", "/verify?x=1"));
    for (name, value) in [
        ("x-forwarded-method", "GET"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-uri", "/a/b?q=1"),
        ("x-forwarded-for", "127.0.0.1"),
        ("cookie", "a=b; session=good"),
    ] {
        assert_eq!(asked.header(name), Some(value), "{name}");
    }
    let sent = origin.last_request();
    assert_eq!(sent.all("remote-user"), ["ann"]);
    assert_eq!((sent.header("remote_user"), sent.header("remote-groups")), (None, None));
    assert_eq!(weir.access_log_of(1)[0]["user"], "ann");
    assert_eq!(weir.metric("weir_access_decisions_total{policy=\"sso\",result=\"passed\"}"), 1.0);
}

#[test]
fn another_status_is_sent_to_the_client_with_its_fields_and_its_body() {
    let (origin, auth) = (Origin::named("a"), server());
    let weir = Weir::start(protected(&origin, &auth));
    let mut client = Client::connect(weir.web());
    for _ in 0..2 {
        let response = client.get("/");
        assert_eq!((response.status, &*response.text()), (302, "log in"));
        assert_eq!(response.header("location"), Some("https://login.example/"));
        assert_eq!((response.header("set-cookie"), response.header("x-hop")), (Some("csrf=1"), None));
    }
    assert_eq!(origin.requests().len(), 0);
    let log = weir.access_log_of(2);
    assert_eq!(
        (&log[0]["fault"], &log[0]["status"], &log[0]["user"]),
        (&"unauthorized".into(), &302.into(), &().into())
    );
}

#[test]
fn without_an_answer_the_request_is_refused_or_passes_without_the_fields() {
    let (origin, auth) = (Origin::named("a"), Origin::start(|_| Reply::new(200, "").after(Duration::from_secs(30))));
    let settings = |on_failure: &str| {
        POLICY.replace("response_headers", &format!("timeout: 200ms, on_failure: {on_failure}, response_headers"))
    };
    let weir = Weir::start(protected(&origin, &auth).set("auth", settings("closed")));
    let response = get(&weir, &[GOOD]);
    assert_eq!((response.status, response.header("retry-after")), (503, Some("1")));
    assert_eq!(weir.access_log_of(1)[0]["fault"], "auth_unavailable");
    assert_eq!(origin.requests().len(), 0);
    let weir = Weir::start(protected(&origin, &auth).set("auth", settings("open")));
    assert_eq!(get(&weir, &[("Remote-User", "root")]).status, 200);
    assert_eq!(origin.last_request().header("remote-user"), None);
    assert_eq!(weir.metric("weir_access_decisions_total{policy=\"sso\",result=\"open\"}"), 1.0);
}

#[test]
fn weir_starts_while_the_authorization_server_is_down_and_its_health_checks_bring_it_back() {
    let (origin, auth) = (Origin::named("a"), crate::support::spare());
    let config =
        Config::to(&origin).set("auth", POLICY).upstream("auth", &[("a", auth)]).set("routes.all.auth", "[sso]");
    let weir = Weir::start(config);
    assert_eq!(get(&weir, &[GOOD]).status, 503);
    let _auth = Origin::start_on(auth, decide);
    eventually("the authorization server serves", || get(&weir, &[GOOD]).status == 200);
}

#[test]
fn a_client_that_leaves_ends_the_authorization_request() {
    let seen = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&seen);
    let auth = Origin::start(move |_| {
        flag.store(true, Ordering::SeqCst);
        Reply::new(200, "").after(Duration::from_secs(30))
    });
    let origin = Origin::named("a");
    let weir = Weir::start(protected(&origin, &auth).set("auth", POLICY.replace("path", "timeout: 30s, path")));
    let mut client = Client::connect(weir.web());
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("the server is asked", || seen.load(Ordering::SeqCst));
    drop(client);
    assert_eq!(weir.access_log_of(1)[0]["fault"], "client_abort");
    assert_eq!(origin.requests().len(), 0);
}

#[test]
fn a_preflight_request_passes_where_it_is_excepted_and_brings_no_forged_field() {
    let (origin, auth) = (Origin::named("a"), server());
    let weir = Weir::start(protected(&origin, &auth).set("routes.all.auth", "{ all: [sso], except: [preflight] }"));
    let mut client = Client::connect(weir.web());
    client.send(
        "OPTIONS /x HTTP/1.1\r\nHost: test\r\nOrigin: https://a.example\r\nAccess-Control-Request-Method: PUT\r\n\
         Remote-User: root\r\n\r\n",
    );
    assert_eq!(client.response("OPTIONS").status, 200);
    assert_eq!(origin.last_request().header("remote-user"), None);
    client.send("OPTIONS /x HTTP/1.1\r\nHost: test\r\nOrigin: https://a.example\r\n\r\n");
    assert_eq!(client.response("OPTIONS").status, 302);
    let strict = Weir::start(protected(&origin, &auth));
    let mut client = Client::connect(strict.web());
    client.send("OPTIONS /x HTTP/1.1\r\nHost: test\r\nAccess-Control-Request-Method: PUT\r\n\r\n");
    assert_eq!(client.response("OPTIONS").status, 302);
}

#[test]
fn no_way_to_a_backend_and_no_spelling_of_a_path_bypasses_the_policy_also_after_a_reload() {
    let auth = server();
    let routes = |policy: &str| {
        for_each_backend(&[("NAME", &("match: { path_prefix: /NAME }, upstream: NAME, auth: ".to_owned() + policy))])
    };
    let with_policy = |config: Config| config.set("auth", POLICY).upstream("auth", &[("a", auth.address())]);
    let targets = Targets::start_with("", &routes("[sso]"), with_policy);
    let closed = |targets: &Targets| {
        for (backend, kind) in BACKENDS.iter().flat_map(|backend| CLIENTS.map(|kind| (backend, kind))) {
            for spelling in [
                format!("/{backend}"),
                format!("/{backend}/x?y"),
                format!("/a/../{backend}/x"),
                format!("/./{backend}//x"),
                format!("/%{:02x}{}/%2e%2e/{backend}", backend.as_bytes()[0], &backend[1..]),
            ] {
                assert_eq!(targets.ask(kind, "example.org", &spelling), Err(302), "{kind:?} {spelling}");
            }
        }
    };
    closed(&targets);
    targets.reload_with("", &routes("[]"), with_policy);
    for (backend, kind) in BACKENDS.iter().flat_map(|backend| CLIENTS.map(|kind| (backend, kind))) {
        assert!(targets.ask(kind, "example.org", &format!("/{backend}")).is_ok(), "{kind:?} {backend}");
    }
    targets.reload_with("", &routes("{ any: [sso] }"), with_policy);
    closed(&targets);
}

#[test]
fn an_upgrade_needs_the_policy_and_a_call_of_grpc_gets_its_status() {
    let (origin, auth) = (Origin::named("a"), server());
    let weir = Weir::start(protected(&origin, &auth));
    let mut client = Client::connect(weir.web());
    client.send(
        "GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    assert_eq!(client.response("GET").status, 302);
    let asked = auth.last_request();
    assert_eq!((asked.header("upgrade"), asked.header("connection")), (None, None));
    let server = Server::start_with(None);
    let config = PLAIN.config(server.address).set("upstreams.up.protocol", "h2c").set("auth", POLICY);
    let weir = Weir::start(config.upstream("auth", &[("a", auth.address())]).set("routes.all.auth", "[sso]"));
    run(async {
        let mut client = Caller::connect(weir.web(), false).await;
        let (response, mut out) = client.call("/unary").await;
        let _ = out.send_data(message(b"one"), true);
        assert_eq!(status(response.await.unwrap()).await, "16");
    });
}
