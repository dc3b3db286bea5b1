//! Certificates of clients: who gets in, what backends are told, and what nobody else can say.

use std::sync::Arc;

use rustls::version::{TLS12, TLS13};

use crate::support::files::{folder, put};
use crate::support::pki::Issued;
use crate::support::tls::tls_config_with;
use crate::support::{Client, Config, Origin, Pki, TlsClient, Weir, eventually, tls_config};

const FIELDS: [&str; 4] =
    ["x-client-cert-verify", "x-client-cert-subject", "x-client-cert-san", "x-client-cert-fingerprint"];

struct Edge {
    weir: Weir,
    origin: Origin,
    pki: Pki,
    config: Config,
}

/// A listener that asks its clients who they are, and a plain one beside it.
fn edge(mode: &str, crl: Option<&[u64]>) -> Edge {
    let (origin, pki) = (Origin::named("a"), Pki::new());
    let folder = folder(&[("a", &pki.issue(&["a.test"]))]);
    put(folder.path(), "clients.pem", pki.ca());
    let mut config = Config::to(&origin)
        .certificates(&["a"])
        .set("listeners.web.tls.client_auth", format!("mode: {mode}, ca: clients.pem"))
        .listener("plain", "");
    if let Some(revoked) = crl {
        put(folder.path(), "clients.crl", pki.revoke(revoked));
        config = config.set("listeners.web.tls.client_auth.crl", "clients.crl");
    }
    Edge { weir: Weir::start_in(folder, &config), origin, pki, config }
}

fn client_cert_fields(origin: &Origin) -> [Option<String>; 4] {
    let seen = origin.requests().pop().unwrap();
    FIELDS.map(|name| seen.header(name).map(str::to_owned))
}

/// What becomes of a request by a client of this configuration; nothing if it does not get that far. In TLS 1.3 the
/// client's own part ends before it is judged.
fn ask(weir: &Weir, config: &Arc<rustls::ClientConfig>, fields: &[(&str, &str)]) -> Option<(u16, bool)> {
    use std::io::{Read, Write};
    let mut client = TlsClient::handshake(weir.web(), "a.test", config).ok()?;
    let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    client.stream.write_all(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n").as_bytes()).ok()?;
    let mut byte = [0];
    client.stream.read_exact(&mut byte).ok()?;
    let resumed = client.was_resumed();
    let mut rest = vec![0; 8];
    client.stream.read_exact(&mut rest).ok()?;
    client.stream.read_exact(&mut [0; 3]).ok()?;
    Some((200, resumed)).filter(|_| rest.starts_with(b"TTP/1.1 "))
}

fn with(client: Option<&Issued>) -> Arc<rustls::ClientConfig> {
    Arc::new(tls_config(client))
}

#[test]
fn a_client_must_show_a_certificate_of_ours() {
    let edge = edge("required", None);
    let (ada, stranger) = (edge.pki.client("ada"), Pki::new().client("ada"));
    assert_eq!(ask(&edge.weir, &with(None), &[]), None);
    assert_eq!(ask(&edge.weir, &with(Some(&stranger)), &[]), None);
    edge.weir.wait_for(&["weir_listener_connections_total", "tls_error"], 2.0);
    assert!(edge.origin.requests().is_empty());
    assert_eq!(ask(&edge.weir, &with(Some(&ada)), &[]), Some((200, false)));
    let [verify, subject, san, fingerprint] = client_cert_fields(&edge.origin);
    assert_eq!((verify.as_deref(), subject.as_deref()), (Some("SUCCESS"), Some("CN=ada")));
    assert_eq!(san.as_deref(), Some("URI:spiffe://tests/ada"));
    use rustls_pki_types::{CertificateDer, pem::PemObject};
    use sha2::Digest;
    let der = CertificateDer::from_pem_slice(ada.cert.as_bytes()).unwrap();
    let expected: String = sha2::Sha256::digest(&der).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(fingerprint, Some(expected));
}

#[test]
fn only_a_certificate_sets_the_client_certificate_fields() {
    let edge = edge("optional", None);
    let forged: Vec<(&str, &str)> = vec![
        ("X-Client-Cert-Verify", "SUCCESS"),
        ("x-client-cert-subject", "CN=root"),
        ("X-CLIENT-CERT-SAN", "URI:spiffe://tests/root"),
        ("X-Client-Cert-Fingerprint", "00"),
        ("X-Client-Cert-Anything", "1"),
        ("X_Client_Cert_Verify", "SUCCESS"),
        ("X-Client_Cert-Subject", "CN=root"),
    ];
    assert_eq!(ask(&edge.weir, &with(None), &forged), Some((200, false)));
    assert_eq!(client_cert_fields(&edge.origin), [Some("NONE".to_owned()), None, None, None]);
    assert_eq!(ask(&edge.weir, &with(Some(&edge.pki.client("ada"))), &forged), Some((200, false)));
    assert_eq!(client_cert_fields(&edge.origin)[1].as_deref(), Some("CN=ada"));
    assert_eq!(ask(&edge.weir, &with(Some(&Pki::new().client("eve"))), &[]), None, "optional is not unverified");
    assert_eq!(Client::connect(edge.weir.address("plain")).get_with("/", &forged).status, 200);
    assert_eq!(client_cert_fields(&edge.origin), [None, None, None, None]);
    for seen in edge.origin.requests() {
        let names = seen.headers.iter().map(|(name, _)| name.to_ascii_lowercase().replace('_', "-"));
        let strange: Vec<_> = names.filter(|n| n.starts_with("x-client-cert-") && !FIELDS.contains(&&**n)).collect();
        assert!(strange.is_empty(), "{strange:?}");
        assert!(seen.headers.iter().all(|(_, value)| !value.contains("root")), "{:?}", seen.headers);
    }
}

#[test]
fn a_resumed_session_is_the_same_clients() {
    let edge = edge("optional", None);
    for version in [&TLS12, &TLS13] {
        let ada = Arc::new(tls_config_with(Some(&edge.pki.client("ada")), &[version], &[]));
        let nobody = Arc::new(tls_config_with(None, &[version], &[]));
        for (config, name) in [(&ada, Some("CN=ada")), (&nobody, None)] {
            for resumed in [false, true, true] {
                assert_eq!(ask(&edge.weir, config, &[]), Some((200, resumed)), "{name:?}");
                assert_eq!(client_cert_fields(&edge.origin)[1].as_deref(), name);
            }
        }
    }
}

#[test]
fn a_revoked_client_stays_out_even_with_an_old_session() {
    let edge = edge("required", Some(&[]));
    let (ada, bob) = (edge.pki.client("ada"), edge.pki.client("bob"));
    let (as_ada, as_bob) = (with(Some(&ada)), with(Some(&bob)));
    for config in [&as_ada, &as_bob] {
        assert_eq!(ask(&edge.weir, config, &[]), Some((200, false)));
        assert_eq!(ask(&edge.weir, config, &[]), Some((200, true)));
    }
    // The list alone has changed on disk: no reload is asked for.
    let folder = edge.weir.config_file().parent().unwrap().to_owned();
    put(&folder, "clients.crl", edge.pki.revoke(&[ada.serial]));
    eventually("the list is taken up", || {
        let applied = "weir_tls_certificate_reloads_total{certificate=\"clients.pem\",result=\"applied\"}";
        edge.weir.metric(applied) == 1.0
    });
    assert_eq!(ask(&edge.weir, &as_ada, &[]), None, "by the session it had");
    assert_eq!(ask(&edge.weir, &with(Some(&ada)), &[]), None, "by a new one");
    assert_eq!(ask(&edge.weir, &as_bob, &[]), Some((200, true)));
    assert!(edge.weir.reload(&edge.config));
    assert_eq!(ask(&edge.weir, &with(Some(&ada)), &[]), None);
}

#[test]
fn a_session_from_before_clients_were_asked_is_none_afterwards() {
    let edge = edge("optional", None);
    let nobody = with(None);
    assert_eq!(ask(&edge.weir, &nobody, &[]), Some((200, false)));
    assert!(edge.weir.reload(edge.config.clone().set("listeners.web.tls.client_auth.mode", "required")));
    assert_eq!(ask(&edge.weir, &nobody, &[]), None);
    assert!(edge.weir.reload(&edge.config));
    assert!(ask(&edge.weir, &nobody, &[]).is_some(), "settings of a listener that runs change for those to come");
}

#[test]
fn backends_are_shown_our_certificate() {
    use std::io::{Read, Write};
    let pki = Pki::new();
    let (server, ours) = (pki.issue(&["api.internal"]), pki.client("weir"));
    // A backend that lets in nobody without a certificate: a weir of its own before an origin.
    let origin = Origin::named("a");
    let behind = folder(&[("a", &server)]);
    put(behind.path(), "clients.pem", pki.ca());
    let asking = Config::to(&origin)
        .certificates(&["a"])
        .set("listeners.web.tls.client_auth", "mode: required, ca: clients.pem");
    let inner = Weir::start_in(behind, asking);
    let front = folder(&[("ours", &ours)]);
    put(front.path(), "ca.pem", pki.ca());
    let anonymous = Config::to_all(&[("inner", inner.web())])
        .set("routes.all", "host: api.internal, retry: { attempts: 1 }")
        .set("upstreams.up.tls", "server_name: api.internal, ca: ca.pem")
        .set("upstreams.up.health_check", "http: { host: api.internal }, interval: 200ms, timeout: 200ms");
    let shown = anonymous.clone().set("upstreams.up.tls.certificate", "cert: ours.pem, key: ours.key");
    let weir = Weir::start_in(front, shown);
    weir.wait_for_state("inner", "up");
    assert_eq!(Client::connect(weir.web()).get("/asked").status, 200);
    let seen = origin.requests().into_iter().find(|request| request.target == "/asked").unwrap();
    assert_eq!(seen.header("x-client-cert-subject"), Some("CN=weir"));
    // Another one in its place, and then one that is none: the last that is good is shown, without a reload.
    pki.client("renewed").put(weir.config_file().parent().unwrap(), "ours");
    eventually("the new one is shown", || {
        assert_eq!(Client::connect(weir.web()).get("/again").status, 200);
        origin.last_request().header("x-client-cert-subject") == Some("CN=renewed")
    });
    put(weir.config_file().parent().unwrap(), "ours.key", "nothing");
    weir.wait_for_log("for backends, changed on disk");
    assert_eq!(Client::connect(weir.web()).get("/still").status, 200);
    assert_eq!(weir.metric("weir_config_generation"), 1.0);
    pki.client("good").put(weir.config_file().parent().unwrap(), "ours");
    // Without it: refused, for traffic and probes alike.
    assert!(weir.reload(anonymous));
    weir.wait_for_state("inner", "down");
    let mut client = Client::connect(weir.web());
    client.stream.write_all(b"GET /asked HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
}
