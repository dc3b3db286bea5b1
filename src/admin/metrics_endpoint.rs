//! The answer to a scrape. It is written piece by piece as the client takes it: a large one is neither held in memory whole nor
//! written in one go, and one whose client has gone is not written at all.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use hyper::body::Frame;
use tokio::sync::mpsc;

use crate::background::{self, BackgroundError};
use crate::telemetry::{Metrics, Scrape};

/// How many pieces may wait for the client.
const PREPARED_PIECES: usize = 1;

/// All of it with its length, if it is small; else as pieces.
///
/// # Errors
/// A bug, or no thread.
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

/// Ends with the scrape, or when nobody takes it any more.
async fn write(mut scrape: Scrape, begun: [String; 2], pieces: mpsc::Sender<Result<Bytes, BackgroundError>>) {
    for piece in begun {
        if pieces.send(Ok(piece.into())).await.is_err() {
            return;
        }
    }
    loop {
        // Before the next is written there is room for it.
        let Ok(room) = pieces.reserve().await else { return };
        let (piece, rest) = match background::run(move || (scrape.next(), scrape)).await {
            Ok((Some(piece), rest)) => (piece, rest),
            Ok((None, _)) => return,
            // A body that breaks off is no whole scrape.
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
