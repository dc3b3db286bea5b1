//! Backends of every protocol that answer with the target they got, and clients of every kind that send one.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use tokio::io::AsyncWriteExt;

use super::Config;
use super::client::Client;
use super::http2::{rest, run};
use super::tls::{Accepted, TlsClient, listen, open, read_head, tls_config};
use super::ways::{LISTENER_TLS, THROUGHOUT, UPSTREAM_TLS};
use super::weir::Weir;

/// The upstreams that `Targets` has.
pub const BACKENDS: [&str; 4] = ["http1", "tls", "h2c", "h2"];

/// Who asks. `Uncommon` has a field because of which Weir leaves the backend's connection to Pingora.
pub const CLIENTS: [ClientKind; 5] =
    [ClientKind::Http1, ClientKind::Uncommon, ClientKind::Tls, ClientKind::H2c, ClientKind::H2];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientKind {
    Http1,
    Uncommon,
    Tls,
    H2c,
    H2,
}

impl ClientKind {
    pub fn is_http2(self) -> bool {
        matches!(self, Self::H2c | Self::H2)
    }

    fn is_tls(self) -> bool {
        matches!(self, Self::Tls | Self::H2)
    }
}

/// Weir before a backend of each protocol, as upstreams `http1`, `tls`, `h2c` and `h2`.
pub struct Targets {
    pub weir: Weir,
    backends: [SocketAddr; 4],
}

/// Names and settings of routes.
pub type Routes<'a> = &'a [(&'a str, &'a str)];

/// For each backend these routes, with the backend's name in place of `NAME`.
pub fn for_each_backend(routes: Routes<'_>) -> Vec<(String, String)> {
    let of = |name: &&'static str| {
        let put_in = |text: &str| text.replace("NAME", name);
        routes.iter().map(|(route, settings)| (put_in(route), put_in(settings))).collect::<Vec<_>>()
    };
    BACKENDS.iter().flat_map(of).collect()
}

impl Targets {
    /// With these routes: their names and settings. The listeners `web` and `tls` have these settings of `paths`.
    pub fn start<R: AsRef<str>>(paths: &str, routes: &[(R, R)]) -> Self {
        Self::start_with(paths, routes, |config| config)
    }

    /// The same with changes of the configuration.
    pub fn start_with<R: AsRef<str>>(paths: &str, routes: &[(R, R)], change: impl FnOnce(Config) -> Config) -> Self {
        let (folder, certificate) = THROUGHOUT.files();
        let backends = [
            listen(None, "http/1.1", http1),
            listen(certificate.as_ref(), "http/1.1", http1),
            listen(None, "h2", http2),
            listen(certificate.as_ref(), "h2", http2),
        ];
        let weir = Weir::start_in(folder, change(config(paths, routes, backends)));
        Self { weir, backends }
    }

    /// Replaces routes and `paths`.
    pub fn reload<R: AsRef<str>>(&self, paths: &str, routes: &[(R, R)]) {
        self.reload_with(paths, routes, |config| config);
    }

    /// The same with changes of the configuration.
    pub fn reload_with<R: AsRef<str>>(&self, paths: &str, routes: &[(R, R)], change: impl FnOnce(Config) -> Config) {
        assert!(self.weir.reload(change(config(paths, routes, self.backends))));
    }

    /// The target that the backend got of a GET for this host, or the status if that is not 200.
    pub fn ask(&self, kind: ClientKind, host: &str, target: &str) -> Result<String, u16> {
        self.ask_by(kind, "GET", host, target)
    }

    /// The same with another method.
    pub fn ask_by(&self, kind: ClientKind, method: &str, host: &str, target: &str) -> Result<String, u16> {
        let (status, body) = if kind.is_http2() {
            self.http2(kind, method, host, target)
        } else {
            self.http1(kind, method, host, target)
        };
        if status == 200 { Ok(body) } else { Err(status) }
    }

    fn http1(&self, kind: ClientKind, method: &str, host: &str, target: &str) -> (u16, String) {
        let fields = if kind == ClientKind::Uncommon { "TE: trailers\r\nConnection: TE\r\n" } else { "" };
        let request = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n");
        let response = if kind.is_tls() {
            let mut client = TlsClient::secure(self.weir.address("tls"), host, &Arc::new(tls_config(None)));
            client.send(request);
            client.response(method)
        } else {
            let mut client = Client::connect(self.weir.web());
            client.send(request);
            client.response(method)
        };
        (response.status, response.text())
    }

    fn http2(&self, kind: ClientKind, method: &str, host: &str, target: &str) -> (u16, String) {
        let (scheme, listener) = if kind.is_tls() { ("https", "tls") } else { ("http", "web") };
        run(async {
            let stream = open(self.weir.address(listener), kind.is_tls().then_some("h2")).await;
            let (sender, connection) = h2::client::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            let uri = http::Uri::builder().scheme(scheme).authority(host).path_and_query(target).build().unwrap();
            let request = Request::builder().method(method).uri(uri).body(()).unwrap();
            let response = sender.ready().await.unwrap().send_request(request, true).unwrap().0.await.unwrap();
            let status = response.status().as_u16();
            (status, String::from_utf8(rest(&mut response.into_body()).await).unwrap())
        })
    }
}

fn config<R: AsRef<str>>(paths: &str, routes: &[(R, R)], backends: [SocketAddr; 4]) -> Config {
    let mut config = Config::new().listener("tls", LISTENER_TLS);
    for listener in ["web", "tls"] {
        if !paths.is_empty() {
            config = config.set(&format!("listeners.{listener}.paths"), paths);
        }
    }
    for (name, backend) in BACKENDS.iter().zip(backends) {
        let tls = if ["tls", "h2"].contains(name) { UPSTREAM_TLS } else { "" };
        let upstream = format!("upstreams.{name}");
        config = config.upstream(name, &[(name, backend)]).set(&upstream, tls);
        config = config.set(&format!("{upstream}.protocol"), if *name == "tls" { "http1" } else { name });
    }
    routes.iter().fold(config, |config, (name, settings)| config.route(name.as_ref(), settings.as_ref()))
}

async fn http1(mut stream: Accepted) {
    while let Some(head) = read_head(&mut stream).await {
        let target = head.split(' ').nth(1).unwrap();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}", target.len());
        if stream.write_all(answer.as_bytes()).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

async fn http2(stream: Accepted) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let target = request.uri().path_and_query().unwrap().as_str().to_owned();
        let mut stream = respond.send_response(http::Response::new(()), false).unwrap();
        stream.send_data(Bytes::from(target), true).unwrap();
    }
}
