//! Waits on the sending half of an HTTP/2 stream: for a reset, and for flow-control window.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, SendStream};
use pingora_core::{Error, ErrorType, OrErr, Result};
use tokio::time::timeout;

use crate::listener::http2::responder::Responder;

/// Ready when the client has reset the stream or closed the connection.
pub(super) fn poll_reset(
    sender: &mut Option<SendStream<Bytes>>,
    responder: &Responder,
    cx: &mut Context<'_>,
) -> Poll<Result<Reason>> {
    let Some(sender) = sender else { return responder.poll_reset(cx) };
    sender.poll_reset(cx).map(|reset| reset.or_err(ErrorType::H2Error, "the client's connection ended"))
}

/// Waits for flow-control window. Returns how many bytes may be sent now, at least 1.
pub(super) async fn capacity(sender: &mut SendStream<Bytes>, wanted: usize, limit: Option<Duration>) -> Result<usize> {
    sender.reserve_capacity(wanted);
    let here = sender.capacity();
    if here > 0 {
        return Ok(here);
    }
    let more = poll_fn(|cx| sender.poll_capacity(cx));
    let more = match limit {
        Some(limit) => match timeout(limit, more).await {
            Ok(more) => more,
            Err(_) => return Error::e_explain(ErrorType::WriteTimedout, "the client takes no bytes"),
        },
        None => more.await,
    };
    match more {
        Some(more) => more.or_err(ErrorType::H2Error, "while waiting for window"),
        None => Error::e_explain(ErrorType::H2Error, "the stream is closed"),
    }
}
