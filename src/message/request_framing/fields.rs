//! Fields that frame a request and control its connection: Host, Content-Length, Transfer-Encoding, Connection, Expect,
//! Upgrade.
//!
//! It never merges or chooses between different values. Two lengths are refused even if they are equal: RFC 9110
//! section 8.6 allows this refusal, and it saves Weir the normalisation.

use http::Version;

use super::{BadHead, BodyFraming, HeadFacts, is_token};

/// The values of these fields.
#[derive(Default)]
pub(super) struct Fields<'a> {
    /// The value of the only Host field.
    pub(super) host: Option<&'a [u8]>,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    upgrade_option: bool,
    upgrade: bool,
    expect_continue: bool,
}

impl<'a> Fields<'a> {
    /// Reads the fields.
    ///
    /// # Errors
    /// A field is not valid, or the fields contradict each other.
    pub(super) fn read(headers: &[httparse::Header<'a>], version: Version) -> Result<Self, BadHead> {
        let mut fields = Self::default();
        for header in headers {
            fields.field(header.name.as_bytes(), header.value)?;
        }
        if fields.chunked && version == Version::HTTP_10 {
            // RFC 9112 section 6.1: the framing is faulty, and other recipients may ignore the field.
            return Err(BadHead::bad("Transfer-Encoding in HTTP/1.0"));
        }
        if fields.chunked && fields.length.is_some() {
            // RFC 9112 section 6.3, rule 3: ought to be handled as an error.
            return Err(BadHead::bad("both Content-Length and Transfer-Encoding"));
        }
        if fields.host.is_none() && version == Version::HTTP_11 {
            // RFC 9112 section 3.2: MUST respond with 400.
            return Err(BadHead::bad("no Host"));
        }
        Ok(fields)
    }

    /// Reads one field. It compares the length of the name first, because most other fields differ in it.
    fn field(&mut self, name: &[u8], value: &'a [u8]) -> Result<(), BadHead> {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.host(value),
            6 if name.eq_ignore_ascii_case(b"expect") => {
                let mut expected = value.split(|b| *b == b',').map(<[u8]>::trim_ascii);
                self.expect_continue |= expected.any(|one| one.eq_ignore_ascii_case(b"100-continue"));
                Ok(())
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                self.upgrade = true;
                Ok(())
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                self.connection(value);
                Ok(())
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => self.content_length(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.transfer_encoding(value),
            _ => Ok(()),
        }
    }

    fn host(&mut self, value: &'a [u8]) -> Result<(), BadHead> {
        match self.host.replace(value) {
            Some(_) => Err(BadHead::bad("several Host fields")),
            None => Ok(()),
        }
    }

    fn connection(&mut self, value: &[u8]) {
        for option in value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            self.upgrade_option |= option.eq_ignore_ascii_case(b"upgrade");
        }
    }

    /// RFC 9110 section 8.6: `1*DIGIT`, in one field.
    fn content_length(&mut self, value: &[u8]) -> Result<(), BadHead> {
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return Err(BadHead::bad("Content-Length is no number, or a list"));
        }
        let number = std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
        let number = number.ok_or(BadHead::bad("Content-Length too large"))?;
        match self.length.replace(number) {
            Some(_) => Err(BadHead::bad("several Content-Length fields")),
            None => Ok(()),
        }
    }

    /// If chunked is not the last coding, the end of the body is unknown: 400 (RFC 9112 section 6.3, rule 4.3). An
    /// unknown coding before chunked: 501 (section 6.1).
    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), BadHead> {
        if std::mem::replace(&mut self.chunked, true) {
            return Err(BadHead::bad("several Transfer-Encoding fields"));
        }
        if value.eq_ignore_ascii_case(b"chunked") {
            return Ok(());
        }
        let mut codings = value.rsplit(|b| *b == b',').map(<[u8]>::trim_ascii);
        let last_is_chunked = codings.next().is_some_and(|last| last.eq_ignore_ascii_case(b"chunked"));
        if last_is_chunked && codings.all(|coding| is_token(coding) && !coding.eq_ignore_ascii_case(b"chunked")) {
            return Err(BadHead::with_status(501, "unknown transfer coding"));
        }
        Err(BadHead::bad("Transfer-Encoding is not `chunked`"))
    }

    /// The facts for the listener.
    pub(super) fn facts(&self, head_len: usize, version: Version, method: &str) -> HeadFacts {
        let http_11 = version == Version::HTTP_11;
        HeadFacts {
            head_len,
            version,
            body: match (self.chunked, self.length) {
                (true, _) => BodyFraming::Chunked,
                (false, Some(length @ 1..)) => BodyFraming::Length(length),
                (false, _) => BodyFraming::None,
            },
            keep_alive: !self.close && (http_11 || self.keep_alive),
            // RFC 9110 section 10.1.1: ignored in HTTP/1.0.
            expect_continue: self.expect_continue && http_11,
            // RFC 9110 section 7.8: ignored in HTTP/1.0.
            connection_upgrade: self.upgrade && self.upgrade_option && http_11,
            method_is_connect: method == "CONNECT",
            method_is_head: method == "HEAD",
        }
    }
}
