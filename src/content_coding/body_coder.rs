//! Encodes or decodes the body of one response, piece by piece.
//!
//! Memory for an encoder or decoder is allocated with the first byte of the body.

use std::io;

use bytes::Bytes;

use super::decoder::Decoder;
use super::encoder::Encoder;
use crate::config::schema::{CompressLevels, ContentCoding};

/// Why a body cannot be coded. The response must end as incomplete.
#[derive(Debug, thiserror::Error)]
pub enum CodingError {
    /// The encoder failed.
    #[error("the response cannot be compressed with {}: {error}", coding.name())]
    Encode {
        /// The coding.
        coding: ContentCoding,
        /// The error of the encoder.
        error: io::Error,
    },
    /// The backend's body is not valid, or it is cut.
    #[error("the backend's body is not valid {}: {error}", coding.name())]
    Decode {
        /// The coding.
        coding: ContentCoding,
        /// The error of the decoder.
        error: io::Error,
    },
    /// The decoded body is more than 1 MiB and more than 100 times as long as the coded one.
    #[error("the decoded {} body is more than 100 times as long as the coded one", coding.name())]
    TooLarge {
        /// The coding.
        coding: ContentCoding,
    },
}

/// The bytes of a body before and after its coding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CodedBytes {
    /// Bytes of the backend.
    pub before: u64,
    /// Bytes for the client.
    pub after: u64,
}

/// The coder of one response body.
pub struct BodyCoder {
    coding: ContentCoding,
    work: Direction,
    bytes: CodedBytes,
    ended: bool,
}

enum Direction {
    Encode { levels: CompressLevels, length: Option<u64>, encoder: Option<Encoder> },
    Decode(Option<Decoder>),
}

impl BodyCoder {
    /// Compresses the body. `length`: its length, if it is known. Otherwise each piece is flushed.
    pub fn encode(coding: ContentCoding, levels: CompressLevels, length: Option<u64>) -> Self {
        Self::new(coding, Direction::Encode { levels, length, encoder: None })
    }

    /// Decompresses the body.
    pub fn decode(coding: ContentCoding) -> Self {
        Self::new(coding, Direction::Decode(None))
    }

    fn new(coding: ContentCoding, work: Direction) -> Self {
        Self { coding, work, bytes: CodedBytes::default(), ended: false }
    }

    /// The coding that is added or removed.
    pub fn coding(&self) -> ContentCoding {
        self.coding
    }

    /// Whether the body is compressed, not decompressed.
    pub fn is_encoder(&self) -> bool {
        matches!(self.work, Direction::Encode { .. })
    }

    /// The bytes so far.
    pub fn bytes(&self) -> CodedBytes {
        self.bytes
    }

    /// Codes a piece and returns the output, which may be empty. `end`: it is the last piece.
    ///
    /// # Errors
    /// The coder failed. It must not be used again.
    pub fn piece(&mut self, piece: &[u8], end: bool) -> Result<Bytes, CodingError> {
        if self.ended {
            return Ok(Bytes::new());
        }
        self.bytes.before += piece.len() as u64;
        self.ended = end;
        let output = match &mut self.work {
            Direction::Encode { .. } => self.encoded(piece, end),
            Direction::Decode(_) => self.decoded(piece, end),
        };
        self.ended |= output.is_err();
        let output = output?;
        self.bytes.after += output.len() as u64;
        Ok(output)
    }

    /// The rest of the output, if the body has ended without a last piece.
    ///
    /// # Errors
    /// See `piece`.
    pub fn end(&mut self) -> Result<Option<Bytes>, CodingError> {
        if self.ended { Ok(None) } else { self.piece(&[], true).map(Some) }
    }

    fn encoded(&mut self, piece: &[u8], end: bool) -> Result<Bytes, CodingError> {
        let Direction::Encode { levels, length, encoder } = &mut self.work else { return Ok(Bytes::new()) };
        if piece.is_empty() && !end {
            return Ok(Bytes::new());
        }
        let coding = self.coding;
        let failed = |error| CodingError::Encode { coding, error };
        let mut working = match encoder.take() {
            Some(encoder) => encoder,
            None => Encoder::new(coding, levels, *length).map_err(failed)?,
        };
        working.write(piece).map_err(failed)?;
        if end {
            return working.finish().map_err(failed);
        }
        if length.is_none() {
            working.flush().map_err(failed)?;
        }
        let output = working.take_output();
        *encoder = Some(working);
        Ok(output)
    }

    fn decoded(&mut self, piece: &[u8], end: bool) -> Result<Bytes, CodingError> {
        let Direction::Decode(decoder) = &mut self.work else { return Ok(Bytes::new()) };
        let coding = self.coding;
        if decoder.is_none() && piece.is_empty() {
            // An empty body is the response to a request that wants none.
            return Ok(Bytes::new());
        }
        let invalid = |error| CodingError::Decode { coding, error };
        let decoder = match decoder {
            Some(decoder) => decoder,
            None => decoder.insert(Decoder::new(coding).map_err(invalid)?),
        };
        let mut output = decoder.write(piece);
        if let (Ok(decoded), true) = (&output, end) {
            output = decoder.finish().map(|rest| match rest.is_empty() {
                true => decoded.clone(),
                false => [decoded.as_ref(), &rest].concat().into(),
            });
        }
        output.map_err(|error| if decoder.is_exceeded() { CodingError::TooLarge { coding } } else { invalid(error) })
    }
}

#[cfg(test)]
#[path = "body_coder_tests.rs"]
mod tests;
