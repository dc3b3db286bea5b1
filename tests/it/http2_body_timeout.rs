//! `listeners[].timeouts.body` of an HTTP/2 client while the response passes.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};

use crate::support::grpc::{Caller, Server, message, next_message};
use crate::support::http2::run;
use crate::support::tls::{Accepted, listen, open};
use crate::support::{Config, DEADLINE, EDGE, LISTENER_TLS, PLAIN, Weir, delayed};

/// Answers before the request body is complete, with a piece each 50 ms, until the stream is reset.
async fn trickles(stream: Accepted) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((_request, mut respond))) = connection.accept().await {
        tokio::spawn(async move {
            let mut out = respond.send_response(Response::new(()), false).unwrap();
            while out.send_data(Bytes::from_static(b"piece"), false).is_ok() {
                delayed(Duration::from_millis(50)).await;
            }
        });
    }
}

#[test]
fn pieces_of_the_response_do_not_prolong_the_wait_for_the_request_body() {
    for way in [PLAIN, EDGE] {
        let (folder, _) = way.files();
        let backend = listen(None, "h2", trickles);
        let config = Config::to(backend).set("upstreams.up.protocol", "h2c");
        let config = config.set("listeners.web", if way.client { LISTENER_TLS } else { "" });
        let weir = Weir::start_in(folder, config.set("listeners.web.timeouts.body", "400ms"));
        run(async {
            let stream = open(weir.web(), way.client.then_some("h2")).await;
            let (sender, connection) = h2::client::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            let request = Request::post("http://example.org/").body(()).unwrap();
            let (response, mut out) = sender.ready().await.unwrap().send_request(request, false).unwrap();
            out.send_data(Bytes::from_static(b"half"), false).unwrap();
            let mut body = response.await.unwrap().into_body();
            let end = async {
                while let Some(Ok(piece)) = body.data().await {
                    let _ = body.flow_control().release_capacity(piece.len());
                }
            };
            tokio::time::timeout(DEADLINE, end).await.expect("the stream ends");
        });
        weir.wait_for(&["weir_backend_in_flight"], 0.0);
    }
}

#[test]
fn a_client_of_grpc_may_be_silent_while_it_listens() {
    let server = Server::start();
    let config = Config::to(server.address).set("upstreams.up.protocol", "h2c");
    let weir = Weir::start(config.set("listeners.web.timeouts.body", "300ms"));
    run(async {
        let mut client = Caller::connect(weir.web(), false).await;
        let (response, mut out) = client.call("/both-ways").await;
        let (mut body, mut inbox) = (response.await.unwrap().into_body(), bytes::BytesMut::new());
        for _ in 0..2 {
            delayed(Duration::from_millis(900)).await;
            out.send_data(message(b"x"), false).unwrap();
            assert_eq!(&next_message(&mut body, &mut inbox).await.unwrap()[..], b"x");
        }
        out.send_data(Bytes::new(), true).unwrap();
    });
}
