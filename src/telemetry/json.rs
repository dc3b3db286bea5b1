//! A JSON writer for log lines, which appends to a buffer of the caller.
//!
//! It never allocates, except when the buffer grows. Its output is valid JSON for any input bytes.

use std::io::Write;
use std::time::Duration;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// A JSON object that is being written.
#[derive(Debug)]
pub(super) struct Object<'b> {
    out: &'b mut Vec<u8>,
    empty: bool,
}

impl<'b> Object<'b> {
    /// Writes the opening brace.
    pub(super) fn open(out: &'b mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    /// Writes the closing brace.
    pub(super) fn close(self) {
        self.out.push(b'}');
    }

    /// Writes a key, which must need no escapes. Returns the buffer for its value.
    pub(super) fn key(&mut self, key: &str) -> &mut Vec<u8> {
        if !std::mem::replace(&mut self.empty, false) {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    /// Writes a string, or null.
    pub(super) fn text(&mut self, key: &str, value: Option<impl AsRef<[u8]>>) {
        let out = self.key(key);
        match value {
            Some(value) => text(out, value.as_ref()),
            None => out.extend_from_slice(b"null"),
        }
    }

    /// Writes an integer.
    pub(super) fn number(&mut self, key: &str, value: u64) {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(value);
        self.key(key).extend_from_slice(digits.as_bytes());
    }

    /// Writes milliseconds with three decimals, or null.
    pub(super) fn millis(&mut self, key: &str, value: Option<Duration>) {
        let out = self.key(key);
        let Some(value) = value else { return out.extend_from_slice(b"null") };
        let micros = value.as_micros();
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{}.{:03}", micros / 1000, micros % 1000);
    }
}

/// Writes a JSON string. Bytes that are not UTF-8 become U+FFFD.
pub(super) fn text(out: &mut Vec<u8>, value: &[u8]) {
    out.push(b'"');
    for chunk in value.utf8_chunks() {
        escape(out, chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    out.push(b'"');
}

fn escape(out: &mut Vec<u8>, valid: &[u8]) {
    let mut written = 0;
    for (at, byte) in valid.iter().enumerate() {
        // JSON allows DEL, but a terminal that displays the log should not receive it.
        if !matches!(byte, b'"' | b'\\' | 0..0x20 | 0x7f) {
            continue;
        }
        out.extend_from_slice(&valid[written..at]);
        written = at + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            }
        }
    }
    out.extend_from_slice(&valid[written..]);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_parse_back_as_the_lossy_text(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut out = Vec::new();
            text(&mut out, &bytes);
            let back: String = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(back, String::from_utf8_lossy(&bytes));
            prop_assert!(!out.iter().any(|b| *b < 0x20 || *b == 0x7f));
        }

        #[test]
        fn any_text_parses_back_unchanged(value in ".*") {
            let mut out = Vec::new();
            text(&mut out, value.as_bytes());
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), value);
        }
    }

    #[test]
    fn objects_are_json() {
        let mut out = Vec::new();
        let mut object = Object::open(&mut out);
        object.text("a", None::<&str>);
        object.number("b", u64::MAX);
        object.millis("c", Some(Duration::from_micros(1_002_003)));
        object.close();
        assert_eq!(String::from_utf8(out).unwrap(), r#"{"a":null,"b":18446744073709551615,"c":1002.003}"#);
    }
}
