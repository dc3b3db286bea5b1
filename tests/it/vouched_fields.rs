//! Fields that Weir vouches for: a client cannot bring them in any spelling that a backend may take for the same name.

use std::sync::Arc;

use crate::support::files::{folder, put};
use crate::support::http2::{connect, run};
use crate::support::{Client, Config, EDGE, Origin, Pki, TlsClient, Weir, tls_config};

/// Spellings that CGI, FastCGI, WSGI or PHP take for fields of ours.
const SPELLINGS: [&str; 11] = [
    "X.Client.Cert.Verify",
    "X_Client_Cert_Verify",
    "X-Client.Cert_Subject",
    "X~Client-Cert-Anything",
    "X.Forwarded.For",
    "X-Forwarded_Proto",
    "X+Forwarded-Port",
    "X.Real.IP",
    "X_Real-IP",
    "X_Request_Id",
    "X_Weir_Mirror",
];

/// What a backend sees of the spellings that carry this value.
fn passed(origin: &Origin) -> Vec<(String, String)> {
    origin.last_request().headers.into_iter().filter(|(_, value)| value == "SUCCESS").collect()
}

fn spoofs() -> Vec<(&'static str, &'static str)> {
    SPELLINGS.into_iter().map(|name| (name, "SUCCESS")).chain([("X-Own.Name", "stays")]).collect()
}

#[test]
fn no_spelling_of_a_field_that_weir_vouches_for_passes() {
    let origin = Origin::named("a");
    for trusted in ["[]", "[127.0.0.0/8]"] {
        let weir = Weir::start(Config::to(&origin).set("trusted_proxies", trusted));
        let mut client = Client::connect(weir.web());
        // With TE it is Pingora's own session that sends the request.
        for more in [None, Some(("TE", "trailers"))] {
            let fields: Vec<_> = spoofs().into_iter().chain(more).collect();
            assert_eq!(client.get_with("/", &fields).status, 200);
            assert_eq!(passed(&origin), [], "trusted {trusted}, {more:?}");
            assert_eq!(origin.last_request().header("x-own.name"), Some("stays"));
        }
        run(async {
            let mut sender = connect(weir.web()).await;
            let mut request = http::Request::get("http://a.test/over-h2");
            for (name, value) in spoofs() {
                request = request.header(name, value);
            }
            let response = sender.send_request(request.body(()).unwrap(), true).unwrap().0.await.unwrap();
            assert_eq!(response.status(), 200);
        });
        assert_eq!(origin.last_request().target, "/over-h2");
        assert_eq!(passed(&origin), [], "trusted {trusted}, over HTTP/2");
    }
}

#[test]
fn only_a_handshake_says_that_a_client_is_verified() {
    let (origin, pki) = (Origin::named("a"), Pki::new());
    let folder = folder(&[("edge", &pki.issue(&["a.test"]))]);
    put(folder.path(), "clients.pem", pki.ca());
    let config = EDGE.config(&origin).set("listeners.web.tls.client_auth", "mode: optional, ca: clients.pem");
    let weir = Weir::start_in(folder, config);
    for (shown, verify) in [(None, "NONE"), (Some(pki.client("p")), "SUCCESS")] {
        let config = Arc::new(tls_config(shown.as_ref()));
        let mut client = TlsClient::secure(weir.web(), "a.test", &config);
        let fields: Vec<_> = spoofs().into_iter().chain([("Host", "a.test")]).collect();
        assert_eq!(client.get_with("/", &fields).status, 200);
        assert_eq!(origin.last_request().all("x-client-cert-verify"), [verify]);
        let aliases =
            passed(&origin).into_iter().filter(|(name, _)| !name.eq_ignore_ascii_case("x-client-cert-verify"));
        assert_eq!(aliases.collect::<Vec<_>>(), []);
    }
}

#[test]
fn a_field_that_a_route_sets_or_removes_does_not_pass_in_another_spelling() {
    let origin = Origin::named("a");
    let edits = "set: { X-Tenant-Id: \"7\" }, remove: [x-admin-user]";
    let weir = Weir::start(Config::to(&origin).set("routes.all.request_headers", edits));
    let fields = [("X_Tenant_Id", "8"), ("X-Tenant.Id", "9"), ("X.Admin.User", "root"), ("X_Other", "stays")];
    Client::connect(weir.web()).get_with("/", &fields);
    let seen = origin.last_request();
    assert_eq!((seen.header("x-tenant-id"), seen.header("x_other")), (Some("7"), Some("stays")));
    for gone in ["x_tenant_id", "x-tenant.id", "x.admin.user"] {
        assert_eq!(seen.header(gone), None, "{}", seen.raw);
    }
}
