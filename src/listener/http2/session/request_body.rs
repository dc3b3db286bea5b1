//! Reads the request body of one stream: flow control, the timeout of a silent client, and the ends of a tunnel.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::StatusCode;
use http::header::HeaderMap;
use pingora_core::{Error, ErrorType, OrErr, Result};
use tokio::time::{Instant, timeout_at};

use super::Http2ServerSession;
use crate::body_gate::Demand;
use crate::listener::http2::extended_connect::Tunnel;
use crate::listener::http2::send_half::poll_reset;

impl Http2ServerSession {
    pub(super) fn release(&mut self) {
        let bytes = std::mem::take(&mut self.unreleased);
        if bytes > 0 {
            // An error means that the stream is closed. Then there is no window to give back.
            let _ = self.body.flow_control().release_capacity(bytes);
        }
    }

    pub(super) fn send_continue(&mut self) -> Result<()> {
        if std::mem::take(&mut self.owes_continue) && self.written.is_none() {
            self.responder.send_interim(StatusCode::CONTINUE, HeaderMap::new())?;
        }
        Ok(())
    }

    /// Waits while the gate is closed. Returns whether more of the body is wanted.
    pub(super) async fn is_wanted(&mut self) -> Result<bool> {
        let demand = {
            let Self { body_gate, sender, responder, read_until, .. } = self;
            poll_fn(|cx| match body_gate.poll_demand(cx) {
                Poll::Ready(demand) => Poll::Ready(Ok(demand)),
                Poll::Pending => {
                    // The client may not send now, so it is not late. It may leave meanwhile.
                    *read_until = None;
                    poll_reset(sender, responder, cx).map(Err)
                }
            })
            .await
        };
        match demand {
            Ok(demand) => Ok(demand == Demand::More),
            Err(reset) => Error::e_explain(ErrorType::H2Error, format!("the client closed the stream: {}", reset?)),
        }
    }

    pub(super) async fn read_piece(&mut self) -> Result<Option<Bytes>> {
        if !self.is_wanted().await? {
            self.body_ended = true;
            return Ok(None);
        }
        self.release();
        let limit = self.body_timeout();
        let Self { body, body_gate, .. } = self;
        let read = poll_fn(|cx| match (body.poll_data(cx), body_gate.poll_demand(cx)) {
            (Poll::Pending, Poll::Ready(Demand::NoMore)) => Poll::Ready(None),
            (read, _) => read,
        });
        let read = match limit {
            Some(limit) => match timeout_at(*self.read_until.get_or_insert_with(|| Instant::now() + limit), read).await
            {
                Ok(read) => read,
                Err(_) => return Error::e_explain(ErrorType::ReadTimedout, "no byte of the request body arrived"),
            },
            None => read.await,
        };
        self.read_until = None;
        let piece = read.transpose().or_err(ErrorType::ReadError, "while reading the request body")?;
        // h2 reports some ends only here. Pingora's loop would read such a body again and again.
        self.body_ended |= piece.is_none();
        if piece.is_none() && self.tunnel == Tunnel::Open {
            self.refuse_trailers().await?;
        }
        if let Some(piece) = &piece {
            self.unreleased = piece.len();
            self.body_read += piece.len();
            if let Some(buffer) = self.retry_buffer.as_mut().filter(|_| self.tunnel == Tunnel::No) {
                buffer.write_to_buffer(piece);
            }
        }
        Ok(piece)
    }

    /// A tunnel has no trailers: only DATA frames may follow the header (RFC 9113 section 8.5).
    pub(super) async fn refuse_trailers(&mut self) -> Result<()> {
        let trailers = self.body.trailers().await.or_err(ErrorType::ReadError, "while reading the end of a tunnel")?;
        if trailers.is_none() {
            return Ok(());
        }
        self.responder.reset(Reason::PROTOCOL_ERROR);
        Error::e_explain(ErrorType::InvalidH2, "trailers in a tunnel")
    }

    /// The timeout of the next bytes of the body. A client of gRPC may be silent while it receives messages. The backend's
    /// side limits the silence of a tunnel in both directions.
    pub(super) fn body_timeout(&self) -> Option<Duration> {
        let runs = self.tunnel == Tunnel::No && (self.written.is_none() || !self.responder.is_grpc());
        self.read_timeout.filter(|_| runs)
    }

    pub(super) async fn drain(&mut self) -> Result<()> {
        while self.read_piece().await?.is_some() {}
        Ok(())
    }
}
