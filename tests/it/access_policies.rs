//! Access policies of routes: client certificates, combinations of policies, limits by identity, and their problems.

use std::sync::Arc;

use crate::support::files::{folder, put};
use crate::support::origin::Request;
use crate::support::pki::Issued;
use crate::support::weir::command;
use crate::support::{Client, Config, LISTENER_TLS, Origin, Pki, Reply, TlsClient, Weir, tls_config};

/// The output of `weir check` about this document.
fn weir_check(yaml: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "weir.yaml", yaml);
    let output = command(&["check", folder.path().join("weir.yaml").to_str().unwrap()]);
    output.stdout + &output.stderr
}

/// Weir with a listener that verifies certificates, and this policy on its route.
struct Verifying {
    pki: Pki,
    weir: Weir,
    origin: Origin,
}

impl Verifying {
    fn start(mode: &str, policy: &str) -> Self {
        let (pki, origin) = (Pki::new(), Origin::named("a"));
        let folder = folder(&[("edge", &pki.issue(&["a.test"]))]);
        put(folder.path(), "clients.pem", pki.ca());
        let config = Config::to(&origin)
            .set("listeners.web", LISTENER_TLS)
            .set("listeners.web.tls.client_auth", format!("mode: {mode}, ca: clients.pem"))
            .set("auth.devices.client_certificate", policy)
            .set("routes.all.auth", "[devices]");
        let weir = Weir::start_in(folder, config);
        Self { pki, weir, origin }
    }

    fn status(&self, certificate: Option<&Issued>) -> u16 {
        let mut client = TlsClient::secure(self.weir.web(), "a.test", &Arc::new(tls_config(certificate)));
        client.get_with("/", &[("Host", "a.test")]).status
    }
}

#[test]
fn only_certificates_of_the_policy_pass() {
    for (policy, passes) in [
        ("{ san: ['spiffe://tests/robot'] }", true),
        ("{ san: [other.example, 'spiffe://tests/robot'] }", true),
        ("{}", true),
        ("{ san: ['spiffe://tests/robo'] }", false),
        ("{ san: ['*.tests'] }", false),
        ("{ issuer: ['CN=nobody'] }", false),
        ("{ san: ['spiffe://tests/robot'], issuer: ['CN=nobody'] }", false),
    ] {
        let set = Verifying::start("optional", policy);
        let robot = set.pki.client("robot");
        assert_eq!(set.status(Some(&robot)), if passes { 200 } else { 403 }, "{policy}");
        assert_eq!(set.status(None), 403, "{policy}: without a certificate");
        assert_eq!(set.origin.requests().len(), usize::from(passes));
        let log = set.weir.access_log_of(2);
        assert_eq!((&log[1]["fault"], &log[1]["user"]), (&"unauthorized".into(), &().into()));
        if passes {
            assert_eq!(log[0]["user"], "spiffe://tests/robot");
        }
    }
}

#[test]
fn a_certificate_policy_on_a_listener_that_verifies_none_is_a_problem() {
    let listeners = "listeners: [{ name: web, address: '127.0.0.1:0' }]\n";
    let rest = "auth: { devices: { client_certificate: { san: [a] } } }\n\
                routes: [{ respond: { status: 200 }, auth: [devices] }]\n";
    let problems = weir_check(&format!("{listeners}{rest}"));
    assert!(problems.contains(":3:38: routes[0].auth: the policy `devices` needs client certificates"), "{problems}");
}

#[test]
fn problems_of_policies_name_their_place() {
    for (auth, route, problem) in [
        ("{ a: {} }", "[]", "auth.a: this policy checks nothing"),
        (
            "{ a: { client_certificate: {}, forward: { upstream: u, path: / } } }",
            "[]",
            "auth.a: this policy has two kinds",
        ),
        ("{ a: { client_certificate: { san: ['*'] } } }", "[]", "auth.a.client_certificate.san[0]: `*` is not"),
        ("{ a: { client_certificate: { fingerprint: [ab] } } }", "[]", "fingerprint[0]: `ab` is not a SHA-256"),
        ("{ a: { forward: { upstream: v, path: / } } }", "[]", "auth.a.forward.upstream: there is no upstream `v`"),
        ("{ a: { forward: { upstream: u, path: x } } }", "[]", "auth.a.forward.path: `x` is not a path"),
        ("{ a: { forward: { upstream: u, path: /, timeout: 0s } } }", "[]", "timeout: an authorization request needs"),
        ("{ a: { forward: { upstream: u, path: /, response_headers: ['a b'] } } }", "[]", "response_headers[0]: `a b`"),
        ("{}", "[nope]", "routes[0].auth[0]: there is no access policy `nope`"),
        (
            "{ a: { forward: { upstream: u, path: / } } }",
            "[a, b]",
            "routes[0].auth[1]: there is no access policy `b`. Did you mean `a`?",
        ),
        (
            "{ a: { forward: { upstream: u, path: / } } }",
            "{ any: [a, a] }",
            "routes[0].auth.any[1]: `a` is listed twice",
        ),
        ("{}", "{ any: [] }", "routes[0].auth: `any` of no policy would refuse every request"),
        ("{}", "{ any: [a], all: [b] }", "routes[0].auth: write only one of `all` and `any`"),
        ("{ a: { forward: { upstream: u, path: / } } }", "[]", "warning: auth.a: no route uses the access policy `a`"),
    ] {
        let document = "listeners: [{ address: '127.0.0.1:0' }]\nauth: AUTH\nroutes: [{ upstream: u, auth: ROUTE }]\n\
                        upstreams: { u: { backends: [{ address: '127.0.0.1:1' }] } }\n";
        let told = weir_check(&document.replace("AUTH", auth).replace("ROUTE", route));
        assert!(told.contains(problem), "{problem}\n{told}");
    }
}

/// An authorization server for each of these names. It knows the client by the field `x-NAME`.
fn servers(names: &[&'static str]) -> Vec<(&'static str, Origin)> {
    let server = |name: &'static str| {
        let decide = move |request: &Request| match request.header(&format!("x-{name}")) {
            Some(user) => Reply::with(200, &[("X-User", user)], ""),
            None => Reply::with(403, &[("X-From", name)], name),
        };
        (name, Origin::start(decide))
    };
    names.iter().copied().map(server).collect()
}

fn with_servers(origin: &Origin, servers: &[(&'static str, Origin)], auth: &str) -> Config {
    let mut config = Config::to(origin).set("routes.all.auth", auth);
    for (name, server) in servers {
        let policy = format!("upstream: {name}, path: /, request_headers: [x-{name}], response_headers: [x-user]");
        config = config.set(&format!("auth.{name}.forward"), policy).upstream(name, &[("s", server.address())]);
    }
    config
}

#[test]
fn all_policies_must_pass_or_any_of_them() {
    let (origin, servers) = (Origin::named("a"), servers(&["one", "two"]));
    for (auth, fields, expected) in [
        ("[one, two]", [("X-One", "1"), ("X-Two", "2")].as_slice(), (200, Some("2"))),
        ("[one, two]", &[("X-One", "1")], (403, Some("two"))),
        ("[one, two]", &[("X-Two", "2")], (403, Some("one"))),
        ("{ any: [one, two] }", &[("X-One", "1")], (200, Some("1"))),
        ("{ any: [one, two] }", &[("X-Two", "2")], (200, Some("2"))),
        ("{ any: [one, two] }", &[("X-User", "forged")], (403, Some("one"))),
    ] {
        let weir = Weir::start(with_servers(&origin, &servers, auth));
        let response = Client::connect(weir.web()).get_with("/", fields);
        assert_eq!(response.status, expected.0, "{auth} {fields:?}");
        match expected {
            (200, user) => assert_eq!(origin.last_request().header("x-user"), user, "{auth} {fields:?}"),
            (_, from) => assert_eq!(response.header("x-from"), from, "{auth} {fields:?}"),
        }
    }
}

#[test]
fn a_policy_that_passes_outweighs_one_that_cannot_decide() {
    let (origin, servers) = (Origin::named("a"), servers(&["one"]));
    let dead = ("dead", Origin::start(|_| Reply::hang_up()));
    let servers: Vec<_> = servers.into_iter().chain([dead]).collect();
    let weir = Weir::start(with_servers(&origin, &servers, "{ any: [dead, one] }"));
    let mut client = Client::connect(weir.web());
    assert_eq!(client.get_with("/", &[("X-One", "1")]).status, 200);
    assert_eq!(client.get("/").status, 503, "the dead one might have let it pass");
}

#[test]
fn a_limit_by_identity_counts_each_user_apart_and_a_limit_by_client_counts_guesses() {
    let (origin, servers) = (Origin::named("a"), servers(&["one"]));
    let config = with_servers(&origin, &servers, "[one]")
        .set("rate_limits.users", "rate: 2/1h, key: identity")
        .set("routes.all.rate_limits", "[users]");
    let weir = Weir::start(config);
    let mut client = Client::connect(weir.web());
    let mut status = |user: &str| client.get_with("/", &[("X-One", user)]).status;
    assert_eq!(["ann", "ann", "ann", "bob"].map(&mut status), [200, 200, 429, 200]);
    let config = with_servers(&origin, &servers, "[one]")
        .set("rate_limits.clients", "rate: 2/1h")
        .set("routes.all.rate_limits", "[clients]");
    let weir = Weir::start(config);
    let mut client = Client::connect(weir.web());
    assert_eq!([(); 3].map(|()| client.get("/").status), [403, 403, 429], "refused requests count");
}

#[test]
fn explain_lists_the_policies_of_the_route() {
    let (origin, servers) = (Origin::named("a"), servers(&["one", "two"]));
    let weir = Weir::start(with_servers(&origin, &servers, "{ any: [one, two], except: [preflight] }"));
    let told = weir.status_and_output(&["explain", "GET", "/"]).1;
    assert!(told.contains("one            one of them must pass  asks the upstream `one`"), "{told}");
    let told = weir.status_and_output(&["explain", "OPTIONS", "/", "-H", "Access-Control-Request-Method: PUT"]).1;
    assert!(told.contains("passes: a preflight request needs no policy"), "{told}");
}
