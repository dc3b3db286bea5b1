//! HTTP/1 on one connection: it reads a request head, serves the request, then reads the next head. Pingora's proxy
//! serves each request, one at a time.

pub(super) mod head_reader;

use std::sync::Arc;
use std::time::Duration;

use pingora_core::apps::{HttpServerApp, ReusedHttpStream};
use pingora_core::protocols::http::ServerSession;
use tokio::io::AsyncWriteExt;

use crate::listener::conn::downstream_stream::DownstreamStream;
use crate::listener::conn::request_boundary::RequestBoundary;
use crate::listener::conn::{EXCHANGE, Exchange};
use crate::listener::http1::head_reader::{NextHead, next};
use crate::listener::http2;
use crate::listener::service::HttpService;
use crate::listener::shutdown::ShutdownPhaseWatch;
use crate::message::request_framing::{BadHead, BodyFraming, HeadFacts};
use crate::telemetry::meters::ConnectionResult;

/// Serves a connection to its end.
pub(in crate::listener) async fn serve<F: HttpService>(
    mut io: Box<DownstreamStream>,
    service: &Arc<F>,
    phase: ShutdownPhaseWatch,
) {
    let mut first = true;
    let mut requests = 0;
    let mut timer = Box::pin(tokio::time::sleep(Duration::ZERO));
    let mut phase_change = phase.next_change();
    // An exchange polls the phase only once the listener is on its way out, and has to be woken for that.
    phase_change.arm().await;
    loop {
        match next(&mut io, first, &mut phase_change, &mut timer).await {
            NextHead::Request(facts) => {
                requests += 1;
                let most = io.conn.settings.requests_per_connection;
                if most > 0 && requests >= most {
                    io.conn.set_spent();
                }
                match exchange(io, facts, service, &phase).await {
                    Some(same) => io = same,
                    None => return,
                }
            }
            NextHead::Http2 => return http2::serve(io, service, phase).await,
            NextHead::Refuse(bad) => return refuse(io, &bad, service).await,
            NextHead::Silence => {
                io.conn.meters.count(ConnectionResult::Timeout);
                return;
            }
            NextHead::Close => return,
        }
        first = false;
    }
}

/// Serves one request. Returns the connection if another request may follow on it.
async fn exchange<F: HttpService>(
    mut io: Box<DownstreamStream>,
    facts: HeadFacts,
    service: &Arc<F>,
    phase: &ShutdownPhaseWatch,
) -> Option<Box<DownstreamStream>> {
    let conn = Arc::clone(&io.conn);
    conn.clear_answering();
    io.begin(&facts);
    let head = io.take_head(facts.head_len);
    let body_is_here = matches!(facts.body, BodyFraming::Length(_)) && !facts.expect_continue && !io.inbox.is_empty();
    let mut session = ServerSession::new_http1(io);
    if let ServerSession::H1(http1) = &mut session {
        // Pingora takes the head's buffer as it is. It neither reads nor copies it again.
        http1.set_pipelined_prefix(head);
    }
    // `head_reader` waits for the next head. Pingora need not wait, because it gets the head with the session.
    session.set_keepalive(Some(0));
    let body_gate = Arc::clone(conn.body_gate());
    let exchange = Arc::new(Exchange::new(conn, body_is_here, body_gate));
    let served = EXCHANGE.scope(Arc::clone(&exchange), service.app().process_new_http(session, &phase.pingora));
    let reused = {
        tokio::pin!(served);
        tokio::select! {
            biased;
            reused = &mut served => reused,
            () = exchange.until_cut() => {
                exchange.leave_abort_response(|why| service.abort_response(why, facts.method_is_head));
                None
            }
            never = exchange.conn.flush_timer.watch() => match never {},
        }
    };
    match reused {
        Some(reused) => take_back(reused),
        None => DownstreamStream::reclaimed(&exchange.conn),
    }
}

/// Returns the stream as a `DownstreamStream`, unless a part of the request body has not arrived yet.
fn take_back(reused: ReusedHttpStream) -> Option<Box<DownstreamStream>> {
    let (stream, _) = reused.consume();
    let io = stream.into_any().downcast::<DownstreamStream>().ok()?;
    (io.boundary.allows() == 0).then_some(io)
}

async fn refuse<F: HttpService>(mut io: Box<DownstreamStream>, bad: &BadHead, service: &Arc<F>) {
    // No more bytes are parsed as requests. With `Open`, the drop of the stream does a lingering close.
    io.boundary = RequestBoundary::Open;
    let response = service.refuse(&io.conn, &io.inbox, bad);
    if io.write_all(&response).await.is_ok() {
        let _ = io.flush().await;
    }
}
