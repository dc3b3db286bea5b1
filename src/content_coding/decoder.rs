//! The decoders: gzip, brotli and zstd behind one interface that writes to memory.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use zstd::stream::{raw, zio};

use super::bounded_output::BoundedOutput;
use super::brotli_decoder::BrotliDecoder;
use crate::config::schema::ContentCoding;

/// The largest window of zstd is 2 to this power: 8 MiB (RFC 9659 section 3).
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// The decoder of one response.
pub(super) enum Decoder {
    Gzip(Box<MultiGzDecoder<BoundedOutput>>),
    Br(Box<BrotliDecoder>),
    Zstd(Box<zio::Writer<BoundedOutput, raw::Decoder<'static>>>),
}

impl Decoder {
    pub(super) fn new(coding: ContentCoding) -> io::Result<Self> {
        let output = BoundedOutput::default();
        Ok(match coding {
            ContentCoding::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(output))),
            ContentCoding::Br => Self::Br(Box::new(BrotliDecoder::new(output))),
            ContentCoding::Zstd => {
                let mut decoder = raw::Decoder::new()?;
                decoder.set_parameter(raw::DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX))?;
                Self::Zstd(Box::new(zio::Writer::new(output, decoder)))
            }
        })
    }

    fn output(&mut self) -> &mut BoundedOutput {
        match self {
            Self::Gzip(writer) => writer.get_mut(),
            Self::Br(decoder) => &mut decoder.output,
            Self::Zstd(writer) => writer.writer_mut(),
        }
    }

    /// Decodes the bytes and returns the output.
    pub(super) fn write(&mut self, data: &[u8]) -> io::Result<Bytes> {
        self.output().add_coded(data.len());
        match self {
            Self::Gzip(writer) => write(&mut **writer, data)?,
            Self::Br(decoder) => decoder.decode(data)?,
            Self::Zstd(writer) => write(&mut **writer, data)?,
        }
        Ok(self.output().take().into())
    }

    /// Returns the rest of the output.
    ///
    /// # Errors
    /// The coded body is not complete.
    pub(super) fn finish(&mut self) -> io::Result<Bytes> {
        match self {
            Self::Gzip(writer) => writer.try_finish()?,
            Self::Br(decoder) => decoder.finish()?,
            Self::Zstd(writer) => writer.finish()?,
        }
        Ok(self.output().take().into())
    }

    /// Whether the decoded bytes exceed their bound.
    pub(super) fn is_exceeded(&mut self) -> bool {
        self.output().is_exceeded()
    }
}

fn write(writer: &mut dyn Write, data: &[u8]) -> io::Result<()> {
    writer.write_all(data)?;
    writer.flush()
}
