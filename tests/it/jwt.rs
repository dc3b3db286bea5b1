//! Routes that need a token, for each way that a request can take.

use serde_json::{Value, json};

use crate::support::files::put;
use crate::support::grpc::{Caller, Server, message, status};
use crate::support::http2::run;
use crate::support::issuer::{AUDIENCE, Issuer};
use crate::support::targets::for_each_backend;
use crate::support::{BACKENDS, CLIENTS, Client, Config, Origin, PLAIN, Response, Targets, Weir, eventually};

fn policy(config: Config, settings: &str) -> Config {
    config.set("auth.api.jwt", format!("audience: {AUDIENCE}, {settings}")).set("routes.all.auth", "[api]")
}

/// Weir with a policy whose keys are fetched from the issuer. It has loaded them.
fn weir(origin: &Origin, issuer: &Issuer, settings: &str) -> Weir {
    let weir = Weir::start(policy(Config::to(origin), &format!("issuer: '{}', {settings}", issuer.url())));
    eventually("the keys are loaded", || get(&weir, "/", &[]).status == 401);
    weir
}

fn get(weir: &Weir, target: &str, fields: &[(&str, &str)]) -> Response {
    Client::connect(weir.web()).get_with(target, fields)
}

fn with_token(weir: &Weir, token: &str) -> Response {
    get(weir, "/", &[("Authorization", &format!("Bearer {token}"))])
}

#[test]
fn a_token_passes_and_its_claims_reach_the_backend_instead_of_forged_fields() {
    let (origin, issuer) = (Origin::named("a"), Issuer::start());
    let weir =
        weir(&origin, &issuer, "forward_token: false, headers: { x-user: sub, x-roles: realm.roles, x-mail: email }");
    let token = issuer.token(&json!({"realm": {"roles": ["admin", "dev"]}}));
    let forged = [("X-User", "root"), ("X_User", "root"), ("X-Mail", "root@example.org")];
    let bearer = format!("bearer {token}");
    let fields = [forged.as_slice(), &[("Authorization", &bearer)]].concat();
    let seen = weir.access_log_of(1).len();
    assert_eq!(get(&weir, "/", &fields).status, 200);
    let sent = origin.last_request();
    assert_eq!((sent.all("x-user"), sent.header("x-roles")), (vec!["ann"], Some("admin,dev")));
    assert_eq!((sent.header("x_user"), sent.header("x-mail"), sent.header("authorization")), (None, None, None));
    assert_eq!(weir.access_log_of(seen + 1)[seen]["user"], "ann");
}

#[test]
fn a_token_that_is_not_valid_is_401_and_one_without_a_scope_is_403() {
    let (origin, issuer, other) = (Origin::named("a"), Issuer::start(), Issuer::start());
    let weir = weir(&origin, &issuer, "require: { scopes: [read] }");
    let none = with_token(&weir, "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4ifQ.");
    assert_eq!(none.status, 401);
    for (token, status, error) in [
        (issuer.token(&json!({"exp": 1})), 401, "invalid_token"),
        (issuer.token(&json!({"aud": "else"})), 401, "invalid_token"),
        (issuer.token(&json!({"iss": "https://else.example"})), 401, "invalid_token"),
        (issuer.token(&json!({"nbf": 99_999_999_999_u64})), 401, "invalid_token"),
        (other.token(&json!({"iss": issuer.url()})), 401, "invalid_token"),
        (issuer.token(&json!({"scope": "write"})), 403, "insufficient_scope"),
        ("a.b.c".to_owned(), 401, "invalid_token"),
        ("x".repeat(20_000), 401, "invalid_token"),
    ] {
        let response = with_token(&weir, &token);
        let challenge = response.header("www-authenticate").unwrap_or_default().to_owned();
        assert_eq!(response.status, status, "{challenge}");
        assert!(challenge.starts_with("Bearer realm=\"api\"") && challenge.contains(error), "{challenge}");
    }
    assert_eq!(with_token(&weir, &issuer.token(&json!({"scope": "read write"}))).status, 200);
    assert_eq!(origin.requests().len(), 1);
    assert_eq!(get(&weir, "/", &[]).header("www-authenticate"), Some("Bearer realm=\"api\""));
}

#[test]
fn a_token_is_found_and_removed_where_the_policy_says() {
    let (origin, issuer) = (Origin::named("a"), Issuer::start());
    let token = issuer.token(&json!({}));
    for (place, target, field, left) in [
        ("{ header: x-token }", "/", ("X-Token", token.clone()), "x-token"),
        ("{ cookie: session }", "/", ("Cookie", format!("a=b; session={token}; c=d")), "cookie"),
        ("{ query: token }", &*format!("/x?a=1&token={token}"), ("X-Other", "1".into()), "-"),
    ] {
        let weir = weir(&origin, &issuer, &format!("forward_token: false, from: {place}"));
        assert_eq!(get(&weir, target, &[(field.0, &field.1)]).status, 200, "{place}");
        let sent = origin.last_request();
        let expected = (left == "cookie").then_some("a=b; c=d");
        assert_eq!(sent.header(left), expected, "{place}");
        assert!(!sent.target.contains("token") && !format!("{:?}", weir.access_log()).contains(&token), "{place}");
    }
}

#[test]
fn without_keys_a_request_is_503_and_weir_is_ready_and_the_keys_come_when_the_issuer_does() {
    let (origin, issuer) = (Origin::named("a"), Issuer::start());
    issuer.fail(true);
    let weir = Weir::start(policy(Config::to(&origin), &format!("issuer: '{}'", issuer.url())));
    let response = with_token(&weir, &issuer.token(&json!({})));
    assert_eq!((response.status, response.header("retry-after").is_some()), (503, true));
    assert_eq!(weir.access_log_of(1)[0]["fault"], "auth_unavailable");
    assert_eq!(weir.admin_get("/readyz").status, 200);
    assert_eq!(origin.requests().len(), 0);
    issuer.fail(false);
    eventually("the keys are loaded", || with_token(&weir, &issuer.token(&json!({}))).status == 200);
    issuer.fail(true);
    assert!(weir.reload(policy(Config::to(&origin), &format!("issuer: '{}', leeway: 10s", issuer.url()))));
    assert_eq!(with_token(&weir, &issuer.token(&json!({}))).status, 200, "the keys survive a reload");
}

#[test]
fn keys_of_a_file_are_read_again_and_a_bad_file_is_a_problem() {
    let (origin, issuer) = (Origin::named("a"), Issuer::start());
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "keys.json", issuer.key_set());
    let settings = format!("issuer: '{}', jwks: {}", issuer.url(), "{ file: keys.json }");
    let weir = Weir::start_in(folder, policy(Config::to(&origin), &settings));
    assert_eq!(with_token(&weir, &issuer.token(&json!({}))).status, 200);
    issuer.rotate();
    assert_eq!(with_token(&weir, &issuer.token(&json!({}))).status, 401);
    let folder = weir.config_file().parent().unwrap().to_owned();
    put(&folder, "keys.json", issuer.key_set());
    eventually("the new key is known", || with_token(&weir, &issuer.token(&json!({}))).status == 200);
    put(&folder, "keys.json", "{\"keys\": [{}]}");
    weir.wait_for(&["weir_auth_files_rejected_total"], 1.0);
    assert_eq!(with_token(&weir, &issuer.token(&json!({}))).status, 200);
    assert!(!weir.reload(policy(Config::to(&origin), &(settings + ", leeway: 1s"))), "a bad file stops a reload");
}

#[test]
fn no_way_to_a_backend_and_no_spelling_of_a_path_bypasses_the_token_also_after_a_reload() {
    let issuer = Issuer::start();
    let routes = |auth: &str| {
        for_each_backend(&[("NAME", &("match: { path_prefix: /NAME }, upstream: NAME, auth: ".to_owned() + auth))])
    };
    let with_policy =
        |config: Config| config.set("auth.api.jwt", format!("audience: {AUDIENCE}, issuer: '{}'", issuer.url()));
    let targets = Targets::start_with("", &routes("[api]"), with_policy);
    let closed = |targets: &Targets| {
        eventually("the keys are loaded", || targets.ask(CLIENTS[0], "example.org", "/http1") == Err(401));
        for (backend, kind) in BACKENDS.iter().flat_map(|backend| CLIENTS.map(|kind| (backend, kind))) {
            for spelling in [
                format!("/{backend}"),
                format!("/{backend}/x?y"),
                format!("/a/../{backend}/x"),
                format!("/./{backend}//x"),
                format!("/%{:02x}{}/%2e%2e/{backend}", backend.as_bytes()[0], &backend[1..]),
            ] {
                assert_eq!(targets.ask(kind, "example.org", &spelling), Err(401), "{kind:?} {spelling}");
            }
        }
    };
    closed(&targets);
    targets.reload_with("", &routes("[]"), with_policy);
    for (backend, kind) in BACKENDS.iter().flat_map(|backend| CLIENTS.map(|kind| (backend, kind))) {
        assert!(targets.ask(kind, "example.org", &format!("/{backend}")).is_ok(), "{kind:?} {backend}");
    }
    targets.reload_with("", &routes("{ any: [api], except: [preflight] }"), with_policy);
    closed(&targets);
}

#[test]
fn a_call_of_grpc_and_an_upgrade_need_the_token() {
    let (issuer, server) = (Issuer::start(), Server::start_with(None));
    let config = PLAIN.config(server.address).set("upstreams.up.protocol", "h2c");
    let weir_of_grpc = Weir::start(policy(config, &format!("issuer: '{}'", issuer.url())));
    eventually("the keys are loaded", || get(&weir_of_grpc, "/", &[]).status == 401);
    run(async {
        let mut client = Caller::connect(weir_of_grpc.web(), false).await;
        let (response, mut out) = client.call("/unary").await;
        let _ = out.send_data(message(b"one"), true);
        assert_eq!(status(response.await.unwrap()).await, "16");
    });
    let origin = Origin::named("a");
    let weir = weir(&origin, &issuer, "");
    let mut client = Client::connect(weir.web());
    client.send(
        "GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    assert_eq!(client.response("GET").status, 401);
}

#[test]
fn a_limit_by_claim_counts_each_value_apart() {
    let (origin, issuer) = (Origin::named("a"), Issuer::start());
    let config = policy(Config::to(&origin), &format!("issuer: '{}'", issuer.url()))
        .set("rate_limits.tenants", "rate: 1/1h, key: { claim: tenant.id }")
        .set("routes.all.rate_limits", "[tenants]");
    let weir = Weir::start(config);
    eventually("the keys are loaded", || get(&weir, "/", &[]).status == 401);
    let status = |claims: Value| with_token(&weir, &issuer.token(&claims)).status;
    let tenant = |id: u32| json!({"tenant": {"id": id}});
    assert_eq!([1, 1, 2].map(|id| status(tenant(id))), [200, 429, 200]);
    assert_eq!([(); 2].map(|()| status(json!({}))), [200, 200], "without the claim the limit does not apply");
}
