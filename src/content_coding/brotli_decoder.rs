//! A brotli decoder that returns each byte as soon as its input allows.
//!
//! The writer of the brotli crate keeps decoded bytes back until more input arrives.

use std::io::{self, Write};

use brotli::enc::StandardAlloc;
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState};

use super::bounded_output::BoundedOutput;

const BUFFER_BYTES: usize = 4096;

/// The decoder of one body.
pub(super) struct BrotliDecoder {
    state: BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
    pub(super) output: BoundedOutput,
    buffer: Box<[u8; BUFFER_BYTES]>,
    total: usize,
    ended: bool,
}

impl BrotliDecoder {
    pub(super) fn new(output: BoundedOutput) -> Self {
        let state = BrotliState::new(StandardAlloc::default(), StandardAlloc::default(), StandardAlloc::default());
        Self { state, output, buffer: Box::new([0; BUFFER_BYTES]), total: 0, ended: false }
    }

    /// Decodes all of the input.
    pub(super) fn decode(&mut self, input: &[u8]) -> io::Result<()> {
        let (mut available, mut at) = (input.len(), 0);
        loop {
            if self.ended {
                return if available == 0 { Ok(()) } else { Err(invalid("bytes after the end")) };
            }
            let (mut free, mut written) = (BUFFER_BYTES, 0);
            let result = BrotliDecompressStream(
                &mut available,
                &mut at,
                input,
                &mut free,
                &mut written,
                &mut self.buffer[..],
                &mut self.total,
                &mut self.state,
            );
            self.output.write_all(&self.buffer[..written])?;
            match result {
                BrotliResult::ResultSuccess => self.ended = true,
                BrotliResult::NeedsMoreOutput => {}
                // A full buffer means that more output waits.
                BrotliResult::NeedsMoreInput if free == 0 => {}
                BrotliResult::NeedsMoreInput => return Ok(()),
                BrotliResult::ResultFailure => return Err(invalid("invalid data")),
            }
        }
    }

    /// Whether the end of the coded body was seen.
    pub(super) fn finish(&self) -> io::Result<()> {
        if self.ended { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
