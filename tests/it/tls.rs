//! TLS towards clients: which certificate, which protocol, what comes of those who do not speak it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::version::{TLS12, TLS13};
use rustls::{NamedGroup, SignatureScheme};

use crate::support::files::folder;
use crate::support::pki::Issued;
use crate::support::tls::tls_config_with;
use crate::support::{Client, Config, Origin, Pki, Reply, TlsClient, Weir, eventually, tls_config};

/// A listener with these pairs and these settings of `tls`, before an origin.
fn before(origin: &Origin, pairs: &[(&str, &Issued)], tls: &str) -> Weir {
    Weir::start_in(folder(pairs), config(origin, pairs).set("listeners.web.tls", tls))
}

/// The same with these settings of the listener.
fn with_listener(origin: &Origin, pairs: &[(&str, &Issued)], listener: &str) -> Weir {
    Weir::start_in(folder(pairs), config(origin, pairs).set("listeners.web", listener))
}

fn config(origin: &Origin, pairs: &[(&str, &Issued)]) -> Config {
    let names: Vec<_> = pairs.iter().map(|(name, _)| *name).collect();
    Config::to(origin).certificates(&names)
}

fn any() -> Arc<rustls::ClientConfig> {
    Arc::new(tls_config(None))
}

#[test]
fn a_certificate_is_chosen_by_name() {
    let (origin, pki) = (Origin::named("a"), Pki::new());
    let [first, second, wild] = [&["a.test"][..], &["b.test", "c.test"], &["*.w.test"]].map(|names| pki.issue(names));
    let weir = before(&origin, &[("first", &first), ("second", &second), ("wild", &wild)], "");
    let cases = [
        ("a.test", &first),
        ("b.test", &second),
        ("C.Test", &second),
        ("x.w.test", &wild),
        ("x.y.w.test", &first),
        ("w.test", &first),
        ("unknown.test", &first),
        ("127.0.0.1", &first),
    ];
    for (name, issued) in cases {
        let mut client = TlsClient::secure(weir.web(), name, &any());
        assert!(client.was_shown(issued), "{name}");
        let host = if name.ends_with("127.0.0.1") { "a.test" } else { name };
        let status = client.get_with("/", &[("Host", host)]).status;
        let covered = !matches!(name, "x.y.w.test" | "w.test" | "unknown.test");
        assert_eq!(status, if covered { 200 } else { 421 }, "{name}");
    }
    let seen = &origin.requests()[0];
    assert_eq!((seen.header("x-forwarded-proto"), seen.header("x-forwarded-host")), (Some("https"), Some("a.test")));
    assert_eq!(weir.access_log_of(8)[0]["scheme"], "https");
}

#[test]
fn the_clients_signatures_choose_between_ecdsa_and_rsa() {
    let (origin, pki) = (Origin::named("a"), Pki::new());
    let rsa = pki.issue_for(&["a.test"], &rcgen::PKCS_RSA_SHA256, |_| {});
    let ecdsa = pki.issue(&["a.test"]);
    let weir = before(&origin, &[("rsa", &rsa), ("ecdsa", &ecdsa)], "");
    for versions in [&[&TLS12][..], &[&TLS13]] {
        for name in ["a.test", "127.0.0.1"] {
            let old = [SignatureScheme::RSA_PSS_SHA256, SignatureScheme::RSA_PKCS1_SHA256];
            let old = Arc::new(tls_config_with(None, versions, &old));
            assert!(TlsClient::secure(weir.web(), name, &old).was_shown(&rsa), "{name}");
            let new = Arc::new(tls_config_with(None, versions, &[]));
            assert!(TlsClient::secure(weir.web(), name, &new).was_shown(&ecdsa), "{name}");
        }
    }
    let none = Arc::new(tls_config_with(None, &[&TLS13], &[SignatureScheme::ED25519]));
    let error = TlsClient::handshake(weir.web(), "a.test", &none).err().expect("nothing in common").to_string();
    assert!(error.contains("HandshakeFailure"), "{error}");
    weir.wait_for(&["weir_listener_connections_total", "tls_error"], 1.0);
}

#[test]
fn versions_and_suites_are_those_of_the_configuration() {
    let (origin, pki) = (Origin::named("a"), Pki::new());
    let pair = pki.issue(&["a.test"]);
    let weir = before(&origin, &[("a", &pair)], "min_version: \"1.3\", suites: [TLS_AES_128_GCM_SHA256]");
    let old = Arc::new(tls_config_with(None, &[&TLS12], &[]));
    let error = TlsClient::handshake(weir.web(), "a.test", &old).err().expect("TLS 1.2 is not spoken").to_string();
    assert!(error.contains("ProtocolVersion"), "{error}");
    let client = TlsClient::secure(weir.web(), "a.test", &any());
    let suite = client.stream.conn.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(suite, rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
    // By default both versions, and the hybrid key exchange.
    let weir = before(&origin, &[("a", &pair)], "");
    assert_eq!(TlsClient::secure(weir.web(), "a.test", &old).get_with("/", &[("Host", "a.test")]).status, 200);
    let client = TlsClient::secure(weir.web(), "a.test", &any());
    let group = client.stream.conn.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, NamedGroup::X25519MLKEM768);
}

fn agreed(weir: &Weir, offered: &[&[u8]]) -> Result<Option<Vec<u8>>, String> {
    let mut config = tls_config(None);
    config.alpn_protocols = offered.iter().map(|protocol| protocol.to_vec()).collect();
    match TlsClient::handshake(weir.web(), "a.test", &Arc::new(config)) {
        Ok(client) => Ok(client.stream.conn.alpn_protocol().map(<[u8]>::to_vec)),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn the_protocol_is_agreed_on_by_alpn() {
    let (origin, pki) = (Origin::named("a"), Pki::new());
    let pair = pki.issue(&["a.test"]);
    let weir = before(&origin, &[("a", &pair)], "");
    assert_eq!(agreed(&weir, &[b"http/1.1", b"h2"]), Ok(Some(b"h2".to_vec())));
    assert_eq!(agreed(&weir, &[b"http/1.1"]), Ok(Some(b"http/1.1".to_vec())));
    assert_eq!(agreed(&weir, &[]), Ok(None));
    assert!(agreed(&weir, &[b"smtp"]).unwrap_err().contains("NoApplicationProtocol"));
    let without = with_listener(&origin, &[("a", &pair)], "http2: false");
    assert_eq!(agreed(&without, &[b"h2", b"http/1.1"]), Ok(Some(b"http/1.1".to_vec())));
    // What was agreed on is what is spoken.
    let mut config = tls_config(None);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut wrong = TlsClient::secure(weir.web(), "a.test", &Arc::new(config));
    wrong.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert!(wrong.read_to_end().is_empty());
    let mut wrong = TlsClient::secure(weir.web(), "a.test", &any());
    wrong.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert!(wrong.read_to_end().starts_with(b"HTTP/1.1 505"));
}

#[test]
fn http2_is_served_under_tls() {
    let origin = Origin::start(|request| Reply::new(200, &request.target));
    let pki = Pki::new();
    let pair = pki.issue(&["a.test", "b.test"]);
    let weir = before(&origin, &[("a", &pair)], "hsts: {}");
    let mut config = tls_config(None);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let tcp = tokio::net::TcpStream::connect(weir.web()).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = connector.connect("a.test".try_into().unwrap(), tcp).await.unwrap();
        let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        for (host, status) in [("a.test", 200), ("b.test", 200), ("c.test", 421), ("a.test", 200)] {
            let request = http::Request::get(format!("https://{host}/x")).body(()).unwrap();
            let (response, _) = sender.send_request(request, true).unwrap();
            let response = response.await.unwrap();
            assert_eq!(response.status(), status, "{host}");
            assert_eq!(response.headers()["strict-transport-security"], "max-age=31536000");
        }
    });
    assert_eq!(origin.requests()[0].header("x-forwarded-proto"), Some("https"));
}

#[test]
fn a_host_that_the_certificate_does_not_cover_is_misdirected() {
    let (origin, pki) = (Origin::named("a"), Pki::new());
    let (one, other) = (pki.issue(&["a.test", "*.w.test"]), pki.issue(&["b.test"]));
    let weir = before(&origin, &[("one", &one), ("other", &other)], "");
    let mut client = TlsClient::secure(weir.web(), "a.test", &any());
    for (host, status) in
        [("a.test", 200), ("A.TEST:8443", 200), ("b.test", 421), ("x.w.test", 200), ("127.0.0.1", 421)]
    {
        assert_eq!(client.get_with("/", &[("Host", host)]).status, status, "{host}: and the connection goes on");
    }
    // Who comes by an address cannot ask for a name.
    let mut client = TlsClient::secure(weir.web(), "127.0.0.1", &any());
    for (host, status) in [("127.0.0.1:8443", 200), ("[::1]", 200), ("a.test", 200), ("b.test", 421)] {
        assert_eq!(client.get_with("/", &[("Host", host)]).status, status, "{host}");
    }
    assert_eq!(weir.access_log_of(9)[2]["fault"], "refused_policy");
}

#[test]
fn responses_through_tls_say_that_browsers_should_come_back_by_it() {
    let origin = Origin::start(|request| {
        let status = if request.target == "/fails" { 500 } else { 200 };
        Reply::with(status, &[("Strict-Transport-Security", "max-age=1")], "ok")
    });
    let pki = Pki::new();
    let pair = pki.issue(&["a.test"]);
    let hsts = "max_age: 8760h, include_subdomains: true, preload: true";
    let config = config(&origin, &[("a", &pair)])
        .set("listeners.web.tls.hsts", hsts)
        .listener("plain", "")
        .route("own", "match: { path: /own }, respond: { status: 204 }");
    let weir = Weir::start_in(folder(&[("a", &pair)]), config);
    let mut client = TlsClient::secure(weir.web(), "a.test", &any());
    for (path, host) in [("/", "a.test"), ("/fails", "a.test"), ("/own", "a.test"), ("/", "b.test")] {
        let response = client.get_with(path, &[("Host", host)]);
        let said: Vec<_> = response.headers.iter().filter(|(name, _)| name == "strict-transport-security").collect();
        assert_eq!(said.len(), 1, "{path} {host}: {response:?}");
        assert_eq!(said[0].1, "max-age=31536000; includeSubDomains; preload");
    }
    // RFC 6797 section 7.2: not by plain HTTP.
    let own = Client::connect(weir.address("plain")).get("/own");
    assert_eq!((own.status, own.header("strict-transport-security")), (204, None));
}

#[test]
fn a_plain_listener_sends_everything_to_https() {
    let config = Config::new()
        .set("listeners.web.redirect_https", true)
        .listener("odd", "redirect_https: 8443")
        .route("all", "match: { path: /served }, respond: { status: 200 }");
    let weir = Weir::start(config);
    let cases = [
        ("web", "/a/b?c=d%20e", "https://a.test/a/b?c=d%20e"),
        ("web", "/served", "https://a.test/served"),
        ("odd", "/?", "https://a.test:8443/?"),
    ];
    for (listener, path, location) in cases {
        let mut client = Client::connect(weir.address(listener));
        let response = client.get_with(path, &[("Host", "a.test:8080")]);
        assert_eq!((response.status, response.header("location")), (308, Some(location)), "{path}");
        assert_eq!(client.get_with(path, &[("Host", "[::1]:80")]).status, 308, "the connection is kept");
    }
    let mut client = Client::connect(weir.web());
    client.send("OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let response = client.response("OPTIONS");
    assert_eq!((response.status, response.header("location")), (200, None), "it is about no address");
    let response = client.post("//evil.test", b"body");
    assert_eq!((response.status, response.header("location")), (308, Some("https://test//evil.test")));
    assert_eq!(crate::support::exchange(weir.web(), "GET / HTTP/1.0\r\n\r\n").split(' ').nth(1), Some("400"));
}

#[test]
fn plain_http_on_a_tls_port_gets_400() {
    let (origin, pki) = (Origin::named("a"), Pki::new());
    let pair = pki.issue(&["a.test"]);
    let weir = before(&origin, &[("a", &pair)], "");
    let response = Client::connect(weir.web()).get("/");
    assert_eq!((response.status, response.header("connection")), (400, Some("close")));
    weir.wait_for(&["weir_listener_connections_total", "tls_error"], 1.0);
    assert_eq!(weir.access_log_of(1)[0]["fault"], "bad_request");
}

#[test]
fn garbage_while_a_backend_is_at_work_ends_the_request() {
    // So late that nothing of it comes into this test.
    let origin = Origin::start(|_| Reply::new(200, "late").after(Duration::from_secs(60)));
    let pki = Pki::new();
    let weir = before(&origin, &[("a", &pki.issue(&["a.test"]))], "");
    for asked in 1..=3 {
        let mut client = TlsClient::secure(weir.web(), "a.test", &any());
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        eventually("the backend is asked", || origin.requests().len() == asked);
        let mut tcp = &client.stream.sock;
        tcp.write_all(&[&[0x17, 3, 3, 0, 32][..], &[7; 32]].concat()).unwrap();
        let mut after = Vec::new();
        // A reset is an end, too.
        let ended = tcp
            .read_to_end(&mut after)
            .map_or_else(|error| error.kind() == std::io::ErrorKind::ConnectionReset, |_| true);
        assert!(ended, "the connection is left open");
    }
    let log = weir.access_log_of(3);
    assert!(log.iter().all(|line| line["status"] == 400 && line["fault"] == "bad_request"), "{log:?}");
    assert_eq!(weir.sum(&["weir_backend_in_flight{"]), 0.0);
}

#[test]
fn garbage_and_silence_end_in_time_and_are_counted() {
    let (origin, pki) = (Origin::named("a"), Pki::new());
    let pair = pki.issue(&["a.test"]);
    let weir = with_listener(&origin, &[("a", &pair)], "timeouts: { handshake: 300ms }, limits: { connections: 3 }");
    let mut garbage = TcpStream::connect(weir.web()).unwrap();
    garbage.write_all(&[0x16, 3, 1, 0xff, 0xff, 7, 7, 7]).unwrap();
    garbage.write_all(&[0; 4096]).unwrap_or(());
    let _ = garbage.read_to_end(&mut Vec::new());
    weir.wait_for(&["weir_listener_connections_total", "tls_error"], 1.0);
    // Who says nothing, and who stops half-way; both hold their places until the deadline.
    let silent = Client::connect(weir.web());
    let mut half = Client::connect(weir.web());
    half.send([0x16, 3, 1, 2, 0, 1, 0]);
    for mut client in [silent, half] {
        assert!(client.is_closed_within(Duration::from_secs(20)));
    }
    weir.wait_for(&["weir_listener_connections_total", "timeout"], 2.0);
    // Who looks whether the port is open does no wrong.
    drop(Client::connect(weir.web()));
    eventually("all are gone", || weir.sum(&["weir_listener_connections{"]) == 0.0);
    weir.wait_for(&["weir_listener_connections_total", "tls_error"], 1.0);
    assert_eq!(TlsClient::secure(weir.web(), "a.test", &any()).get_with("/", &[("Host", "a.test")]).status, 200);
}

#[test]
fn a_tls_connection_ends_with_close_notify() {
    let (origin, pki) = (Origin::named("a"), Pki::new());
    let pair = pki.issue(&["a.test"]);
    let weir = with_listener(&origin, &[("a", &pair)], "timeouts: { idle: 300ms }");
    let asks = "GET / HTTP/1.1\r\nHost: a.test\r\n";
    for request in [format!("{asks}Connection: close\r\n\r\n"), format!("{asks}\r\n"), "nonsense\r\n\r\n".to_owned()] {
        let mut client = TlsClient::secure(weir.web(), "a.test", &any());
        client.send(&request);
        // An end without the goodbye would be an error here, as it might be an attacker's.
        assert!(!client.read_to_end().is_empty(), "{request}");
    }
}

#[test]
fn large_bodies_pass_both_ways_and_slow_readers_are_waited_for() {
    let origin = Origin::start(|request| Reply::new(200, &request.body));
    let pki = Pki::new();
    let pair = pki.issue(&["a.test"]);
    let weir = with_listener(&origin, &[("a", &pair)], "timeouts: { write: 20s }");
    let body: Vec<u8> = (0..8 * 1024 * 1024).map(|n| b'a' + (n / 7 % 26) as u8).collect();
    for config in [any(), Arc::new(tls_config_with(None, &[&TLS12], &[]))] {
        let mut client = TlsClient::secure(weir.web(), "a.test", &config);
        client.send(format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n", body.len()));
        client.send(&body);
        let response = client.response("POST");
        assert_eq!(response.status, 200);
        assert!(response.body == body, "{} bytes", response.body.len());
        assert_eq!(client.get_with("/", &[("Host", "a.test")]).status, 200);
    }
}
