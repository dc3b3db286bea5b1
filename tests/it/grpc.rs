//! What gRPC needs of HTTP/2 on both sides: trailers, `te: trailers`, streams that go on both ways at once.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;

use crate::support::Weir;

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

async fn next(body: &mut RecvStream) -> Option<Bytes> {
    let piece = body.data().await?.unwrap();
    body.flow_control().release_capacity(piece.len()).unwrap();
    Some(piece)
}

/// Echoes each message as it comes; ends with the status in trailers, or at once with it where the path says so.
async fn echo(request: http::Request<RecvStream>, mut respond: h2::server::SendResponse<Bytes>) {
    let te = request.headers().get("te").map_or("", |te| te.to_str().unwrap()).to_owned();
    let fails = request.uri().path() == "/fails";
    let mut header = http::Response::builder().header("content-type", "application/grpc").header("x-te", te);
    if fails {
        header = header.header("grpc-status", "5");
        respond.send_response(header.body(()).unwrap(), true).unwrap();
        return;
    }
    let mut out = respond.send_response(header.body(()).unwrap(), false).unwrap();
    let mut body = request.into_body();
    while let Some(message) = next(&mut body).await {
        out.send_data(message, false).unwrap();
    }
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    out.send_trailers(trailers).unwrap();
}

fn origin() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        run(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut connection = h2::server::handshake(stream).await.unwrap();
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        tokio::spawn(echo(request, respond));
                    }
                });
            }
        });
    });
    address
}

fn before(origin: SocketAddr) -> Weir {
    Weir::start(&format!(
        "listeners: [{{ name: web, address: \"127.0.0.1:0\" }}]\nroutes: [{{ name: all, upstream: up }}]\n\
         upstreams: {{ up: {{ protocol: h2c, backends: [{{ name: a, address: \"{origin}\" }}] }} }}"
    ))
}

async fn connect(weir: &Weir) -> SendRequest<Bytes> {
    let stream = tokio::net::TcpStream::connect(weir.web()).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender.ready().await.unwrap()
}

fn call(path: &str) -> http::Request<()> {
    let request = http::Request::builder().method("POST").uri(format!("http://example.org{path}"));
    request.header("te", "trailers").header("content-type", "application/grpc").body(()).unwrap()
}

#[test]
fn a_stream_both_ways_carries_each_message_as_it_comes_and_ends_in_trailers() {
    let weir = before(origin());
    run(async {
        let mut client = connect(&weir).await;
        let (response, mut out) = client.send_request(call("/chat"), false).unwrap();
        out.send_data(Bytes::from_static(b"one"), false).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.headers()["x-te"], "trailers");
        let mut body = response.into_body();
        assert_eq!(next(&mut body).await.unwrap(), "one");
        for message in ["two", "three"] {
            out.send_data(Bytes::from(message), false).unwrap();
            assert_eq!(next(&mut body).await.unwrap(), message, "before the request has ended");
        }
        out.send_data(Bytes::new(), true).unwrap();
        assert_eq!(next(&mut body).await, None);
        assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
    });
    weir.wait_for(&["weir_backend_in_flight"], 0.0);
}

#[test]
fn an_answer_of_trailers_only_passes() {
    let weir = before(origin());
    run(async {
        let mut client = connect(&weir).await;
        let (response, mut out) = client.send_request(call("/fails"), false).unwrap();
        out.send_data(Bytes::from_static(b"one"), true).unwrap();
        let response = response.await.unwrap();
        assert_eq!(
            (response.status(), &response.headers()["grpc-status"]),
            (http::StatusCode::OK, &"5".parse().unwrap())
        );
        assert_eq!(next(&mut response.into_body()).await, None);
    });
}
