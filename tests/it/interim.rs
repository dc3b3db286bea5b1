//! Interim responses: those of each kind of backend reach each kind of client, in their order.

use bytes::Bytes;
use http::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::http2::{rest, run};
use crate::support::tls::{Accepted, listen, open, read_head};
use crate::support::{Config, LISTENER_TLS, PLAIN, THROUGHOUT, UPSTREAM_TLS, Weir};

/// Sends 100, 103 twice, and then a response.
async fn backend(mut stream: Accepted, http2: bool) {
    if !http2 {
        let hint = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n";
        let all = format!("HTTP/1.1 100 Continue\r\n\r\n{hint}{hint}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        while read_head(&mut stream).await.is_some() {
            stream.write_all(all.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
        }
        return;
    }
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((_request, mut respond))) = connection.accept().await {
        for status in [100, 103, 103] {
            let interim = Response::builder().status(status).header("link", "</a.css>").body(()).unwrap();
            respond.send_informational(interim).unwrap();
        }
        let mut out = respond.send_response(Response::new(()), false).unwrap();
        out.send_data(Bytes::from_static(b"ok"), true).unwrap();
    }
}

/// The statuses that a client of HTTP/1 gets, and the end of the body.
async fn by_http1(weir: &Weir, listener: &str) -> (Vec<u16>, bool) {
    let mut stream = open(weir.address(listener), (listener == "secure").then_some("http/1.1")).await;
    let request = b"GET / HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    stream.flush().await.unwrap();
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all).await;
    let text = String::from_utf8(all).unwrap();
    let statuses = text.lines().filter_map(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
    (statuses.collect(), text.contains("ok"))
}

async fn by_http2(weir: &Weir, listener: &str) -> (Vec<u16>, bool) {
    let stream = open(weir.address(listener), (listener == "secure").then_some("h2")).await;
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://example.org/").body(()).unwrap();
    let (mut response, _) = sender.ready().await.unwrap().send_request(request, true).unwrap();
    let mut statuses = Vec::new();
    while let Some(interim) = std::future::poll_fn(|cx| response.poll_informational(cx)).await {
        statuses.push(interim.unwrap().status().as_u16());
    }
    let response = response.await.unwrap();
    statuses.push(response.status().as_u16());
    (statuses, rest(&mut response.into_body()).await == b"ok")
}

#[test]
fn each_interim_response_of_each_backend_reaches_each_client() {
    for (protocol, tls) in [("http1", false), ("http1", true), ("h2c", false), ("h2", true)] {
        let (folder, certificate) = if tls { THROUGHOUT } else { PLAIN }.files();
        let http2 = protocol != "http1";
        let address = listen(certificate.as_ref(), if http2 { "h2" } else { "http/1.1" }, move |s| backend(s, http2));
        let config = Config::to(address)
            .listener("secure", LISTENER_TLS)
            .set("upstreams.up.protocol", protocol)
            .set("upstreams.up", if tls { UPSTREAM_TLS } else { "" });
        let weir = Weir::start_in(folder, config);
        run(async {
            for listener in ["web", "secure"] {
                let expected = (vec![100, 103, 103, 200], true);
                assert_eq!(by_http1(&weir, listener).await, expected, "{protocol} {tls} {listener} http1");
                assert_eq!(by_http2(&weir, listener).await, expected, "{protocol} {tls} {listener} h2");
            }
        });
    }
}
