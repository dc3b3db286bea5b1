//! Where the request under way ends on its connection: a count for Content-Length, a scan for chunked.
//!
//! It guards a boundary and judges nothing else; what a body means is Pingora's to say.

use crate::message::chunked::{ChunkScanner, MalformedChunk, Progress};
use crate::message::request_framing::BodyFraming;

/// What may be handed on.
#[derive(Debug)]
pub(in crate::listener) enum RequestBoundary {
    /// So many bytes; 0 is shut.
    Bytes(u64),
    /// Up to the end of a chunked body.
    Chunked(Box<ChunkScanner>),
    /// Everything.
    Open,
}

impl RequestBoundary {
    /// For a request's body.
    pub(in crate::listener) fn body(body: BodyFraming) -> Self {
        match body {
            BodyFraming::None => Self::Bytes(0),
            BodyFraming::Length(length) => Self::Bytes(length),
            BodyFraming::Chunked => Self::Chunked(Box::default()),
        }
    }

    /// How many bytes may be handed on next; more may come after them.
    pub(in crate::listener) fn allows(&self) -> u64 {
        match self {
            Self::Bytes(left) => *left,
            Self::Chunked(_) | Self::Open => u64::MAX,
        }
    }

    /// Takes note of bytes on their way; says how many of the last do not belong to this request.
    ///
    /// # Errors
    /// They are no chunked body. Nothing of them may go on: Pingora's parser is laxer, and takes a missing size for the
    /// end. The gate is open from here on, which also means that no further request comes through it.
    pub(in crate::listener) fn passed(&mut self, bytes: &[u8]) -> Result<usize, MalformedChunk> {
        Ok(match self {
            Self::Open => 0,
            Self::Bytes(left) => {
                *left = left.saturating_sub(bytes.len() as u64);
                0
            }
            Self::Chunked(scanner) => match scanner.feed(bytes) {
                Ok(Progress::Need) => 0,
                Ok(Progress::Done { used }) => {
                    *self = Self::Bytes(0);
                    bytes.len() - used
                }
                Err(malformed) => {
                    *self = Self::Open;
                    return Err(malformed);
                }
            },
        })
    }
}
