//! The encoders: gzip, brotli and zstd behind one interface that writes to memory.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::config::schema::{CompressLevels, ContentCoding};

/// The window of brotli is 2 to this power: 256 KiB.
const BROTLI_WINDOW_LOG: u32 = 18;
/// The largest window of zstd is 2 to this power: 512 KiB. RFC 9659 allows 8 MiB.
const ZSTD_WINDOW_LOG: u32 = 19;
/// The output buffer inside the brotli encoder, in bytes.
const BROTLI_BUFFER_BYTES: usize = 4096;

/// The encoder of one response.
pub(super) enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Br(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Encoder {
    /// `length`: the length of the body, if it is known. zstd needs less memory for a short body then.
    pub(super) fn new(coding: ContentCoding, levels: &CompressLevels, length: Option<u64>) -> io::Result<Self> {
        Ok(match coding {
            ContentCoding::Gzip => Self::Gzip(GzEncoder::new(Vec::new(), Compression::new(levels.gzip.into()))),
            ContentCoding::Br => {
                let level = levels.br.into();
                let writer = brotli::CompressorWriter::new(Vec::new(), BROTLI_BUFFER_BYTES, level, BROTLI_WINDOW_LOG);
                Self::Br(Box::new(writer))
            }
            ContentCoding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), levels.zstd.into())?;
                encoder.window_log(ZSTD_WINDOW_LOG)?;
                encoder.set_pledged_src_size(length)?;
                Self::Zstd(encoder)
            }
        })
    }

    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Self::Gzip(writer) => writer,
            Self::Br(writer) => writer,
            Self::Zstd(writer) => writer,
        }
    }

    /// Encodes the bytes. The output may wait inside the encoder.
    pub(super) fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.writer().write_all(data)
    }

    /// Makes all bytes so far decodable.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.writer().flush()
    }

    /// Takes the output so far.
    pub(super) fn take_output(&mut self) -> Bytes {
        let output = match self {
            Self::Gzip(writer) => writer.get_mut(),
            Self::Br(writer) => writer.get_mut(),
            Self::Zstd(writer) => writer.get_mut(),
        };
        std::mem::take(output).into()
    }

    /// Writes the end of the coded body and returns the rest of the output.
    pub(super) fn finish(self) -> io::Result<Bytes> {
        Ok(match self {
            Self::Gzip(writer) => writer.finish()?,
            Self::Br(writer) => writer.into_inner(),
            Self::Zstd(writer) => writer.finish()?,
        }
        .into())
    }
}
