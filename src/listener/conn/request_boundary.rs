//! Boundary of the current request body on its connection: a byte count for Content-Length, a scan for chunked.
//!
//! It does not interpret the body: Pingora does.

use crate::message::chunked::{ChunkScanner, MalformedChunk, Progress};
use crate::message::request_framing::BodyFraming;

/// Which of the next bytes belong to the current request and may pass to Pingora.
#[derive(Debug)]
pub(in crate::listener) enum RequestBoundary {
    /// This many bytes. 0: none.
    Bytes(u64),
    /// The bytes up to the end of a chunked body.
    Chunked(Box<ChunkScanner>),
    /// All bytes.
    Open,
}

impl RequestBoundary {
    /// The boundary of a request body.
    pub(in crate::listener) fn body(body: BodyFraming) -> Self {
        match body {
            BodyFraming::None => Self::Bytes(0),
            BodyFraming::Length(length) => Self::Bytes(length),
            BodyFraming::Chunked => Self::Chunked(Box::default()),
        }
    }

    /// How many bytes may pass next. More may follow after them.
    pub(in crate::listener) fn allows(&self) -> u64 {
        match self {
            Self::Bytes(left) => *left,
            Self::Chunked(_) | Self::Open => u64::MAX,
        }
    }

    /// Scans bytes that are about to pass. Returns how many of the last ones do not belong to this request.
    ///
    /// # Errors
    /// The bytes are not a valid chunked body. None of them may pass: Pingora's parser is less strict and takes a
    /// missing size as the end. The boundary is `Open` from now on, so the connection serves no further request.
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
