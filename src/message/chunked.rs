//! Scanner that finds the end of a chunked body (RFC 9112 section 7.1). The bytes after it belong to the next request.
//!
//! It neither stores nor changes the body: Pingora decodes it. It is as strict as the grammar, because two parsers that
//! measure a chunk differently enable request smuggling.

/// Maximum of chunk extensions in one body, in bytes. No client needs them, and they have enabled attacks such as
/// CVE-2023-39326.
const EXTENSIONS: u32 = 8 * 1024;

/// Maximum of trailers in one body, in bytes.
const TRAILERS: u32 = 64 * 1024;

/// Maximum of digits in a chunk size, including leading zeros. Enough for 2^64 - 1.
const DIGITS: u8 = 16;

/// Scans one chunked body as its bytes arrive.
#[derive(Debug, Clone)]
pub struct ChunkScanner {
    state: State,
    /// The size of the current chunk, then its remaining bytes.
    size: u64,
    digits: u8,
    extensions: u32,
    trailers: u32,
}

/// The progress of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// All bytes belong to the body, and more must follow.
    Need,
    /// The body has ended. The bytes after the first `used` do not belong to it.
    Done {
        /// Bytes of this call that belong to the body.
        used: usize,
    },
}

/// The body is not valid chunked coding. The connection must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed chunked body: {0}")]
pub struct MalformedChunk(pub &'static str);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    /// Whitespace after the size. Only an extension may follow.
    Space,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// At the start of a line of the trailer section.
    Trailer,
    TrailerLine,
    TrailerLf,
    EndLf,
    Done,
}

impl Default for ChunkScanner {
    fn default() -> Self {
        Self { state: State::Size, size: 0, digits: 0, extensions: 0, trailers: 0 }
    }
}

impl ChunkScanner {
    /// Creates a scanner at the start of a body.
    pub fn new() -> Self {
        Self::default()
    }

    /// Scans the next bytes. After `Done` it scans none.
    ///
    /// # Errors
    /// The bytes are not valid chunked coding. The scanner must not be used afterwards.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Progress, MalformedChunk> {
        let mut at = 0;
        while self.state != State::Done {
            if self.state == State::Data {
                let here = usize::try_from(self.size).unwrap_or(usize::MAX).min(bytes.len() - at);
                at += here;
                self.size -= here as u64;
                if self.size > 0 {
                    return Ok(Progress::Need);
                }
                self.state = State::DataCr;
            }
            let Some(&byte) = bytes.get(at) else { return Ok(Progress::Need) };
            self.state = self.step(byte)?;
            at += 1;
        }
        Ok(Progress::Done { used: at })
    }

    /// Whether the end of the body was found.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    fn step(&mut self, byte: u8) -> Result<State, MalformedChunk> {
        match (self.state, byte) {
            (State::Size, _) => self.size_byte(byte),
            (State::Space, b' ' | b'\t') | (State::Space | State::Extension, b';') => self.extension_byte(byte),
            (State::Space, _) => Err(MalformedChunk("space after the chunk size")),
            (State::Extension, b'\r') => Ok(State::SizeLf),
            (State::Extension, _) => self.extension_byte(byte),
            (State::SizeLf, b'\n') => Ok(self.size_ends()),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::Size),
            (State::DataCr | State::DataLf, _) => Err(MalformedChunk("chunk longer than its size")),
            (State::Trailer, b'\r') => Ok(State::EndLf),
            (State::TrailerLine, b'\r') => Ok(State::TrailerLf),
            (State::Trailer | State::TrailerLine, _) => self.trailer_byte(byte),
            (State::TrailerLf, b'\n') => Ok(State::Trailer),
            (State::EndLf, b'\n') => Ok(State::Done),
            (State::SizeLf | State::TrailerLf | State::EndLf, _) => Err(MalformedChunk("bare CR")),
            // `feed` handles these two states itself.
            (State::Data | State::Done, _) => Err(MalformedChunk("nothing to scan")),
        }
    }

    fn size_byte(&mut self, byte: u8) -> Result<State, MalformedChunk> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ if self.digits == 0 => return Err(MalformedChunk("no chunk size")),
            b'\r' => return Ok(State::SizeLf),
            b';' | b' ' | b'\t' => return self.extension_byte(byte),
            _ => return Err(MalformedChunk("invalid byte in a chunk size")),
        };
        self.digits += 1;
        if self.digits > DIGITS {
            return Err(MalformedChunk("chunk size too long"));
        }
        self.size = (self.size << 4) | u64::from(digit);
        Ok(State::Size)
    }

    fn size_ends(&mut self) -> State {
        self.digits = 0;
        if self.size == 0 { State::Trailer } else { State::Data }
    }

    /// RFC 9112 section 7.1.1. Quoted strings cannot contain CR or LF, so CRLF always ends the extension.
    fn extension_byte(&mut self, byte: u8) -> Result<State, MalformedChunk> {
        self.extensions += 1;
        if self.extensions > EXTENSIONS {
            return Err(MalformedChunk("too many bytes of chunk extensions"));
        }
        match (self.state, byte) {
            (State::Size | State::Space, b' ' | b'\t') => Ok(State::Space),
            (_, b'\t' | b' '..=b'~' | 0x80..) => Ok(State::Extension),
            _ => Err(MalformedChunk("invalid byte in a chunk extension")),
        }
    }

    /// RFC 9112 section 7.1.2. Pingora drops trailers, so only their lines matter. A line that begins with a space is
    /// obsolete line folding, and it is refused as in a header.
    fn trailer_byte(&mut self, byte: u8) -> Result<State, MalformedChunk> {
        self.trailers += 1;
        if self.trailers > TRAILERS {
            return Err(MalformedChunk("too many bytes of trailers"));
        }
        match (self.state, byte) {
            (State::Trailer, b' ' | b'\t' | b':') => Err(MalformedChunk("trailer without a name")),
            (_, b'\t' | b' '..=b'~' | 0x80..) => Ok(State::TrailerLine),
            _ => Err(MalformedChunk("invalid byte in a trailer")),
        }
    }
}

#[cfg(test)]
#[path = "chunked_tests.rs"]
mod tests;
