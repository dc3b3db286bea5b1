//! Subrequests against scripted backends, without a client.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::backend::{BackendState, Labels};
use crate::config::schema::{RouteTimeouts, UpstreamSettings};
use crate::config::values::BackendAddress;
use crate::pool::backend_addr::BackendAddr;
use crate::pool::peer::PeerTemplate;
use crate::pool::transport_settings::TransportSettings;
use crate::telemetry::meters::UpstreamMeters;
use crate::upstream::Upstream;

const LONG: Duration = Duration::from_secs(20);
const OK: &[u8] = b"HTTP/1.1 204 No Content\r\nRemote-User: ann\r\n\r\n";

fn target(settings: &str, addresses: &[SocketAddr]) -> RouteTarget {
    let settings: UpstreamSettings = serde_yaml::from_str(settings).unwrap();
    let one = |address: &SocketAddr| {
        let text = address.to_string();
        let address: BackendAddress = text.parse().unwrap();
        let labels = Labels { upstream: "u".into(), backend: text.as_str().into(), address: text.as_str().into() };
        let addr = Arc::new(BackendAddr::new(&address));
        let state = Arc::new(BackendState::new(labels));
        Arc::new(Backend { name: text.as_str().into(), address, weight: 1, tier: 0, token: None, state, addr })
    };
    let transport = Arc::new(TransportSettings::new(&settings, &|_| None));
    let timeouts = RouteTimeouts::default();
    let peer = PeerTemplate::new(&transport, &timeouts);
    let backends = addresses.iter().map(one).collect();
    let upstream = Arc::new(Upstream::new("u".into(), settings, backends, transport, Arc::default(), None));
    RouteTarget { upstream, meters: Arc::new(UpstreamMeters::new("u")), peer }
}

fn request() -> RequestHeader {
    let mut request = RequestHeader::build("GET", b"/verify", None).unwrap();
    request.insert_header("host", "app.test").unwrap();
    request
}

fn pool() -> Arc<ConnectionPool> {
    Arc::new(ConnectionPool::new(4))
}

/// A backend that answers the requests of each connection with `answer(number of the request)`. `None` closes the
/// connection. It counts connections.
async fn backend(answer: impl Fn(usize) -> Option<Vec<u8>> + Send + Copy + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let connections = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            connections.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(serve(stream, answer));
        }
    });
    (address, count)
}

async fn serve(mut stream: TcpStream, answer: impl Fn(usize) -> Option<Vec<u8>>) {
    for number in 0.. {
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut seen).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let Some(answer) = answer(number) else { return };
        stream.write_all(&answer).await.ok();
    }
}

/// An address on which nothing listens.
async fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

fn in_flight(target: &RouteTarget) -> u32 {
    target.upstream.backends().iter().map(|backend| backend.state.in_flight()).sum()
}

#[tokio::test]
async fn a_subrequest_returns_status_fields_and_body_and_its_connection_is_used_again() {
    let chunked = b"HTTP/1.1 403 Forbidden\r\nX-Why: no\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let (address, connections) = backend(|number| Some(if number == 0 { OK.to_vec() } else { chunked.to_vec() })).await;
    let (target, pool) = (target("{}", &[address]), pool());
    let send = || async { Subrequest::new(&target, &pool, LONG, 64).send(&request()).await.unwrap() };
    let first = send().await;
    assert_eq!((first.head.status.as_u16(), &first.head.headers["remote-user"]), (204, &"ann".parse().unwrap()));
    assert!(first.body.is_empty());
    let second = send().await;
    assert_eq!((second.head.status.as_u16(), &second.head.headers["x-why"]), (403, &"no".parse().unwrap()));
    assert_eq!((&second.body[..], connections.load(Ordering::SeqCst)), (&b"abc"[..], 1));
    assert_eq!((in_flight(&target), target.upstream.backends()[0].state.attempts()), (0, 2));
}

#[tokio::test]
async fn a_backend_that_refuses_the_connection_is_replaced_by_another() {
    let (address, _) = backend(|_| Some(OK.to_vec())).await;
    let (target, pool) = (target("{}", &[closed_port().await, address]), pool());
    for _ in 0..4 {
        let response = Subrequest::new(&target, &pool, LONG, 64).send(&request()).await.unwrap();
        assert_eq!(response.head.status.as_u16(), 204);
    }
    assert!(target.upstream.backends().iter().all(|backend| backend.state.attempts() > 0));
    assert_eq!(in_flight(&target), 0);
}

#[tokio::test]
async fn without_a_backend_that_answers_the_error_says_why() {
    let pool = pool();
    let none = target("{}", &[]);
    let failed = Subrequest::new(&none, &pool, LONG, 64).send(&request()).await.unwrap_err();
    assert_eq!(failed, SubrequestError::NoBackend);
    let dead = target("{}", &[closed_port().await]);
    let failed = Subrequest::new(&dead, &pool, LONG, 64).send(&request()).await.unwrap_err();
    assert_eq!(failed, SubrequestError::Failed("refused".into()));
}

#[tokio::test]
async fn a_silent_backend_ends_the_subrequest_at_its_deadline() {
    let (address, _) = backend(|_| Some(Vec::new())).await;
    let (target, pool) = (target("{}", &[address]), pool());
    let failed = Subrequest::new(&target, &pool, Duration::from_millis(50), 64).send(&request()).await.unwrap_err();
    assert_eq!((failed, in_flight(&target)), (SubrequestError::Timeout, 0));
}

#[tokio::test]
async fn a_dropped_subrequest_frees_the_slot_and_does_not_blame_the_backend() {
    let (address, connections) = backend(|_| Some(Vec::new())).await;
    let (target, pool) = (target("{}", &[address]), pool());
    let subrequest = Subrequest::new(&target, &pool, LONG, 64);
    let request = request();
    let arrived = async {
        while connections.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(in_flight(&target), 1);
    };
    tokio::select! {
        _ = subrequest.send(&request) => unreachable!("the backend is silent"),
        () = arrived => {}
    }
    let backend_state = &target.upstream.backends()[0].state;
    assert_eq!((backend_state.in_flight(), backend_state.load().penalty(clock::now_ms())), (0, 0));
}

#[tokio::test]
async fn a_pooled_connection_that_the_backend_closes_is_replaced_without_a_penalty() {
    let (address, connections) = backend(|number| (number == 0).then(|| OK.to_vec())).await;
    let (target, pool) = (target("{}", &[address]), pool());
    for _ in 0..2 {
        let response = Subrequest::new(&target, &pool, LONG, 64).send(&request()).await.unwrap();
        assert_eq!(response.head.status.as_u16(), 204);
    }
    assert_eq!(connections.load(Ordering::SeqCst), 2);
    assert_eq!(target.upstream.backends()[0].state.load().penalty(clock::now_ms()), 0);
}

#[tokio::test]
async fn a_long_body_is_cut_and_its_connection_is_not_used_again() {
    let long = |_| Some([&b"HTTP/1.1 401 X\r\nContent-Length: 200000\r\n\r\n"[..], &[b'a'; 200_000]].concat());
    let (address, connections) = backend(long).await;
    let (target, pool) = (target("{}", &[address]), pool());
    for _ in 0..2 {
        let response = Subrequest::new(&target, &pool, LONG, 65_536).send(&request()).await.unwrap();
        assert_eq!((response.head.status.as_u16(), response.body.len()), (401, 65_536));
    }
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_upstream_at_its_limit_without_a_queue_refuses_the_subrequest() {
    let (address, _) = backend(|_| Some(OK.to_vec())).await;
    let (target, pool) = (target("{max_in_flight: 1}", &[address]), pool());
    let backend_state = Arc::clone(&target.upstream.backends()[0].state);
    backend_state.set_limit(1, None);
    target.upstream.rebuild();
    let held = backend_state.raise();
    let send = || async { Subrequest::new(&target, &pool, LONG, 64).send(&request()).await.map(|_| ()) };
    assert_eq!(send().await, Err(SubrequestError::NoBackend));
    drop(held);
    assert_eq!(send().await, Ok(()));
}

#[tokio::test]
async fn subrequests_to_an_http2_upstream_share_one_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (target, pool) = (target("{protocol: h2c}", &[listener.local_addr().unwrap()]), pool());
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            assert_eq!(request.uri().to_string(), "http://app.test/verify");
            let response = http::Response::builder().status(401).header("x-why", "no").body(()).unwrap();
            let mut body = respond.send_response(response, false).unwrap();
            body.send_data(Bytes::from_static(b"go away"), true).unwrap();
        }
    });
    for _ in 0..3 {
        let response = Subrequest::new(&target, &pool, LONG, 64).send(&request()).await.unwrap();
        assert_eq!((response.head.status.as_u16(), &response.body[..]), (401, &b"go away"[..]));
        assert_eq!(response.head.headers["x-why"], "no");
    }
    assert_eq!(in_flight(&target), 0);
}
