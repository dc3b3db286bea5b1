//! TLS accept: the handshake on a TLS listener, under its timeout.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::conn::Conn;
use super::shutdown::{ShutdownPhase, ShutdownPhaseWatch};
use super::{BadHead, http1};
use crate::listener::conn::downstream_stream::DownstreamStream;
use crate::listener::conn::request_boundary::RequestBoundary;
use crate::listener::conn::transport::Transport;
use crate::listener::connection_permit::ConnectionPermit;
use crate::listener::service::HttpService;
use crate::telemetry::meters::ConnectionResult;
use crate::tls::{self, HandshakeError, TlsEndpoint};

/// How long a handshake may continue after the shutdown of the process begins.
const LAST_CALL: Duration = Duration::from_millis(300);

/// Does the handshake, then serves the connection to its end.
pub(super) async fn serve<F: HttpService>(
    tcp: TcpStream,
    (mut conn, permit): (Conn, ConnectionPermit),
    endpoint: &TlsEndpoint,
    service: &Arc<F>,
    mut phase: ShutdownPhaseWatch,
) {
    let limit = conn.settings.timeouts.handshake.get();
    // Boxed, because its state is large and needed only during the handshake.
    let handshake = Box::pin(timeout(limit, tls::handshake(tcp, endpoint)));
    let done = tokio::select! {
        biased;
        done = handshake => done,
        () = wait_for_shutdown(&mut phase) => return,
    };
    let write = conn.settings.timeouts.write.limit();
    match done {
        Ok(Ok((stream, session))) => {
            conn.tls = Some(session);
            let io = DownstreamStream::new(Transport::Tls(stream), Arc::new(conn), permit, write);
            http1::serve(Box::new(io), service, phase).await;
        }
        Ok(Err(HandshakeError::PlainHttp(tcp))) => {
            conn.meters.count(ConnectionResult::TlsError);
            let io = DownstreamStream::new(Transport::Plain(tcp), Arc::new(conn), permit, write);
            refuse_plain(io, service).await;
        }
        Ok(Err(HandshakeError::Broken(error))) => {
            conn.meters.count(ConnectionResult::TlsError);
            tracing::debug!(client = %conn.peer, listener = %conn.listener, %error, "no TLS session");
        }
        Ok(Err(HandshakeError::Lacking(name))) => {
            conn.meters.count(ConnectionResult::TlsError);
            if endpoint.says_lacking() {
                tracing::warn!(client = %conn.peer, listener = %conn.listener, %name, "asks for a name that has no certificate yet");
            }
        }
        Ok(Err(HandshakeError::Validated)) => {
            tracing::info!(client = %conn.peer, listener = %conn.listener, "an ACME server saw its challenge answered");
        }
        Ok(Err(HandshakeError::Left)) => {}
        Err(_) => conn.meters.count(ConnectionResult::Timeout),
    }
}

async fn wait_for_shutdown(phase: &mut ShutdownPhaseWatch) {
    phase.past(ShutdownPhase::Closing).await;
    tokio::time::sleep(LAST_CALL).await;
}

/// Answers a client that sends plain HTTP to a TLS port. The response is plain HTTP too, because the client understands
/// nothing else.
async fn refuse_plain<F: HttpService>(mut io: DownstreamStream, service: &Arc<F>) {
    // Of a client that goes on sending nothing is read; the close lingers.
    io.boundary = RequestBoundary::Open;
    let response = service.refuse(&io.conn, b"", &BadHead::PLAIN_HTTP_ON_TLS);
    if io.write_all(&response).await.is_ok() {
        let _ = io.flush().await;
    }
}
