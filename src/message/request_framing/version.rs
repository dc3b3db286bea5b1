//! HTTP/1.2 and later: a request with a higher minor version is served as HTTP/1.1, the highest known version (RFC 9110
//! section 2.5).

use super::is_version;

/// Changes HTTP/1.2 to HTTP/1.9 into HTTP/1.1 in the request line of a head. Returns whether it has changed it.
pub fn lower_minor(head: &mut [u8]) -> bool {
    let start = if head.starts_with(b"\r\n") { 2 } else { 0 };
    let Some(len) = head[start..].iter().position(|byte| *byte == b'\r') else { return false };
    let line = &mut head[start..start + len];
    if !is_version(line) {
        return false;
    }
    match line {
        [.., b'/', b'1', b'.', minor @ b'2'..=b'9'] => {
            *minor = b'1';
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_higher_minor_version_of_1_is_lowered() {
        for (line, want) in [
            ("GET / HTTP/1.2", Some("GET / HTTP/1.1")),
            ("\r\nGET /?HTTP/1.3 HTTP/1.9", Some("\r\nGET /?HTTP/1.3 HTTP/1.1")),
            ("GET / HTTP/1.1", None),
            ("GET / HTTP/1.0", None),
            ("GET / HTTP/2.2", None),
            ("GET / HTTP/0.9", None),
            ("GET / HTTP/1.10", None),
            ("GET / x HTTP/1.2", None),
            ("GET /", None),
        ] {
            let mut head = format!("{line}\r\nHost: a\r\n\r\n").into_bytes();
            let before = head.clone();
            assert_eq!(lower_minor(&mut head), want.is_some(), "{line}");
            let after = want.map_or(before, |want| format!("{want}\r\nHost: a\r\n\r\n").into_bytes());
            assert_eq!(head, after, "{line}");
        }
    }
}
