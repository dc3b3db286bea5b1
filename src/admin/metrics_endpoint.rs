//! The metrics endpoint: streams a scrape in pieces, as fast as the client reads.
//!
//! It never holds a large scrape in memory as a whole. It stops when the client has closed the connection.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use hyper::body::Frame;
use tokio::sync::mpsc;

use crate::background::{self, BackgroundError};
use crate::telemetry::{Metrics, Scrape};

/// Number of pieces that are prepared before the client reads them.
const PREPARED_PIECES: usize = 1;

/// A small scrape becomes a body with Content-Length. A larger one is sent in pieces.
///
/// # Errors
/// The background task panicked, or no thread is available.
pub(super) async fn body(metrics: Arc<Metrics>) -> Result<Body, BackgroundError> {
    let begin = move || {
        let mut scrape = metrics.scrape();
        (scrape.next(), scrape.next(), scrape)
    };
    let (first, second, scrape) = background::run(begin).await?;
    let first = first.unwrap_or_default();
    let Some(second) = second else { return Ok(Body::from(first)) };
    let (pieces, taken) = mpsc::channel(PREPARED_PIECES);
    tokio::spawn(write(scrape, [first, second], pieces));
    Ok(Body::new(Pieces(taken)))
}

/// Sends all pieces. Ends with the scrape, or when the receiver is dropped.
async fn write(mut scrape: Scrape, begun: [String; 2], pieces: mpsc::Sender<Result<Bytes, BackgroundError>>) {
    for piece in begun {
        if pieces.send(Ok(piece.into())).await.is_err() {
            return;
        }
    }
    loop {
        // The next piece is rendered only after the channel has capacity for it.
        let Ok(room) = pieces.reserve().await else { return };
        let (piece, rest) = match background::run(move || (scrape.next(), scrape)).await {
            Ok((Some(piece), rest)) => (piece, rest),
            Ok((None, _)) => return,
            // An error ends the body without its last chunk, so the client sees that the scrape is incomplete.
            Err(broken) => return room.send(Err(broken)),
        };
        room.send(Ok(piece.into()));
        scrape = rest;
    }
}

struct Pieces(mpsc::Receiver<Result<Bytes, BackgroundError>>);

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = BackgroundError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BackgroundError>>> {
        self.get_mut().0.poll_recv(cx).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}
