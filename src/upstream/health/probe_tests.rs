//! Probes against real sockets on port 0.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};

use super::*;
use crate::config::schema;

fn probe(check: &str, upstream: &str) -> Probe {
    let check = Arc::new(serde_yaml::from_str(check).unwrap());
    let settings: schema::UpstreamSettings = serde_yaml::from_str(upstream).unwrap();
    Probe::new(
        check,
        Arc::new(TransportSettings::new(&settings, &|_| None)),
        "api.internal:80",
        Arc::new(Connector::new(None)),
    )
}

async fn answer(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, response: &str) -> String {
    let mut seen = Vec::new();
    // Reads until the end of a header or of the HTTP/2 preface. A TLS record ends the read immediately.
    let enough = |seen: &[u8]| seen.first() == Some(&0x16) || seen.windows(4).any(|end| end == b"\r\n\r\n");
    while !enough(&seen) && stream.read_buf(&mut seen).await.unwrap_or(0) > 0 {}
    stream.write_all(response.as_bytes()).await.ok();
    String::from_utf8_lossy(&seen).into_owned()
}

/// A server that sends these bytes on each connection and closes it.
async fn serve(response: impl Into<String>) -> PeerAddress {
    let response = response.into();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            answer(stream, &response).await;
        }
    });
    PeerAddress::Inet(address)
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn a_failed_probe_has_a_readable_reason() {
    let table = [
        ("http: {}", ok(""), ""),
        ("http: {}", format!("HTTP/1.1 100 Continue\r\n\r\n{}", ok("")), ""),
        ("http: {}", "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".into(), "status 500, expected 200-299"),
        ("http: {status: [200, 401-403]}", "HTTP/1.1 302 No\r\n\r\n".into(), "status 302, expected 200, 401-403"),
        ("http: {status: [503]}", "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n".into(), ""),
        ("http: {body: {contains: ready}}", ok("all ready here"), ""),
        ("http: {body: {contains: ready}}", ok("starting"), "body does not contain `ready`"),
        ("http: {body: {regex: '^v\\d+$'}}", ok("v12"), ""),
        ("http: {body: {regex: '^v\\d+$'}}", ok("v12b"), "body does not match `^v\\d+$`"),
        ("http: {body: {contains: end}}", ok(&format!("{}end", "x".repeat(MAX_BODY_BYTES - 3))), ""),
        (
            "http: {body: {contains: end}}",
            ok(&format!("{}end", "x".repeat(MAX_BODY_BYTES))),
            "body does not contain `end`",
        ),
        ("http: {}", "garbage garbage garbage\r\n\r\n".into(), "answer is not HTTP"),
        ("http: {}", String::new(), "connection closed before the answer"),
        ("tcp: {}", String::new(), ""),
    ];
    for (check, response, reason) in table {
        let address = serve(response.clone()).await;
        let result = probe(check, "{}").run(&address).await;
        assert_eq!(result.err().unwrap_or_default(), reason, "{check} of {response:.60}");
    }
}

#[tokio::test]
async fn a_closed_port_refuses() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = PeerAddress::Inet(listener.local_addr().unwrap());
    drop(listener);
    for check in ["http: {}", "tcp: {}"] {
        assert_eq!(probe(check, "{}").run(&address).await.unwrap_err(), "connect refused");
    }
    let h2c = probe("http: {}", "protocol: h2c");
    assert_eq!(h2c.run(&address).await.unwrap_err(), "connect refused");
    let none = PeerAddress::Unix(std::os::unix::net::SocketAddr::from_pathname("/nonexistent/a.sock").unwrap());
    assert_eq!(probe("tcp: {}", "{}").run(&none).await.unwrap_err(), "connect: no such socket");
}

#[tokio::test]
async fn a_hanging_backend_takes_the_whole_timeout() {
    // One server accepts and never answers. The other one sends a header and then stalls in the body.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = PeerAddress::Inet(listener.local_addr().unwrap());
    let slow = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stuck = PeerAddress::Inet(slow.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = slow.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc").await.unwrap();
        std::future::pending::<()>().await;
    });
    for (address, check) in
        [(silent, "{http: {}, timeout: 200ms}"), (stuck, "{http: {body: {contains: x}}, timeout: 200ms}")]
    {
        let started = std::time::Instant::now();
        assert_eq!(probe(check, "{}").run(&address).await.unwrap_err(), "timeout after 200ms");
        assert!((200..2_000).contains(&started.elapsed().as_millis()));
    }
}

#[tokio::test]
async fn the_probe_request_is_as_configured() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = tokio::spawn(async move { answer(listener.accept().await.unwrap().0, &ok("")).await });
    let check = "{http: {path: '/up?x=1', host: a.example, method: POST, headers: {x-probe: weir}}, port: PORT}";
    let check = check.replace("PORT", &port.to_string());
    // The port of the check overrides port 1 of the address.
    let elsewhere = PeerAddress::Inet(std::net::SocketAddr::from(([127, 0, 0, 1], 1)));
    probe(&check, "{}").run(&elsewhere).await.unwrap();
    let seen = seen.await.unwrap().to_ascii_lowercase();
    assert!(seen.starts_with("post /up?x=1 http/1.1\r\n"), "{seen}");
    for field in
        ["host: a.example", "x-probe: weir", "connection: close", "content-length: 0", "user-agent: weir-health-check"]
    {
        assert!(seen.contains(&format!("\r\n{field}\r\n")), "{field} in {seen}");
    }
}

#[tokio::test]
async fn a_unix_socket_is_probed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.sock");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            answer(stream, &ok("")).await;
        }
    });
    let address = PeerAddress::Unix(std::os::unix::net::SocketAddr::from_pathname(&path).unwrap());
    for check in ["http: {}", "tcp: {}"] {
        probe(check, "{}").run(&address).await.unwrap();
    }
}

#[tokio::test]
async fn h2c_is_probed_by_prior_knowledge() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = PeerAddress::Inet(listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let mut requests = Vec::new();
        for _ in 0..2 {
            let mut connection = h2::server::handshake(listener.accept().await.unwrap().0).await.unwrap();
            let (request, mut respond) = connection.accept().await.unwrap().unwrap();
            requests.push(request.uri().to_string());
            let status = if requests.len() == 1 { 204 } else { 500 };
            respond.send_response(http::Response::builder().status(status).body(()).unwrap(), true).unwrap();
            // The probe closes its connection at the end; it is not reused.
            while let Some(Ok(_)) = connection.accept().await {}
        }
        requests
    });
    let probe = probe("http: {path: '/up?x=1'}", "protocol: h2c");
    probe.run(&address).await.unwrap();
    assert_eq!(probe.run(&address).await.unwrap_err(), "status 500, expected 200-299");
    let requests = tokio::time::timeout(Duration::from_secs(5), server).await.unwrap().unwrap();
    assert_eq!(requests, ["http://api.internal:80/up?x=1"; 2]);
    let h1_only = serve(ok("")).await;
    let reason = probe.run(&h1_only).await.unwrap_err();
    assert!(reason.starts_with("http2: "), "{reason}");
}

#[tokio::test]
async fn tls_to_a_plain_backend_fails_with_a_tls_reason() {
    let address = serve(ok("")).await;
    let reason = probe("http: {}", "tls: {server_name: api.internal}").run(&address).await.unwrap_err();
    assert!(reason.starts_with("tls: "), "{reason}");
}

#[test]
fn waits_are_spread_around_the_interval() {
    let wait = |random| next_wait(Period::from_secs(10), 0.1, random).as_secs_f64();
    assert!((wait(0.0) - 9.0).abs() < 1e-6 && (wait(0.5) - 10.0).abs() < 1e-6 && (wait(1.0) - 11.0).abs() < 1e-6);
}

const CA: &[u8] = include_bytes!("../../../tests/data/ca.pem");

/// A TLS server for `api.internal` that uses HTTP/2 if ALPN selects it, else HTTP/1.1.
async fn serve_tls() -> PeerAddress {
    use pingora_core::tls::{ServerConfig, TlsAcceptor};
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    pingora_core::tls::install_default_crypto_provider();
    let chain = CertificateDer::from_pem_slice(include_bytes!("../../../tests/data/server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("../../../tests/data/server.key")).unwrap();
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![chain], key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = PeerAddress::Inet(listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(tls) = acceptor.accept(stream).await else { continue };
            if tls.get_ref().1.alpn_protocol() != Some(b"h2") {
                answer(tls, &ok("")).await;
                continue;
            }
            let mut connection = h2::server::handshake(tls).await.unwrap();
            let (_, mut respond) = connection.accept().await.unwrap().unwrap();
            respond.send_response(http::Response::new(()), true).unwrap();
            while let Some(Ok(_)) = connection.accept().await {}
        }
    });
    address
}

#[tokio::test]
async fn tls_is_verified_as_for_traffic() {
    let address = serve_tls().await;
    let run = async |protocol: &str, server_name: &str, ca: &[u8]| {
        let yaml = "{protocol: PROTOCOL, tls: {server_name: NAME, ca: ca.pem}}";
        let yaml = yaml.replace("PROTOCOL", protocol).replace("NAME", server_name);
        let transport = Arc::new(TransportSettings::new(&serde_yaml::from_str(&yaml).unwrap(), &|_| Some(ca.to_vec())));
        let check = Arc::new(serde_yaml::from_str("http: {}").unwrap());
        Probe::new(check, transport, "api.internal", Arc::new(Connector::new(None))).run(&address).await
    };
    for protocol in ["http1", "h2"] {
        assert_eq!(run(protocol, "api.internal", CA).await, Ok(()), "{protocol}");
        for (name, ca) in [("other.internal", CA), ("api.internal", b"")] {
            let reason = run(protocol, name, ca).await.unwrap_err();
            assert!(reason.starts_with("tls: "), "{reason}");
        }
    }
}
