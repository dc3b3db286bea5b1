//! Adds the `Upgrade` connection option that a 426 response needs beside its Upgrade field (RFC 9110 section 7.8).
//!
//! Pingora writes Connection itself, with one option. So this option is inserted into the bytes of the response head.

/// The response head with `Upgrade` among its connection options. `None` if Connection is not found.
pub(in crate::listener) fn added(head: &[u8]) -> Option<Vec<u8>> {
    const FIELD: &[u8] = b"\r\nconnection: ";
    let is_field = |part: &[u8]| part.eq_ignore_ascii_case(FIELD);
    let at = head.windows(FIELD.len()).position(is_field)? + FIELD.len();
    Some([&head[..at], b"Upgrade, ", &head[at..]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upgrade_option_is_inserted_first() {
        let head = b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: h2c\r\nConnection: close\r\n\r\nConnection: x";
        let want = b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: h2c\r\nConnection: Upgrade, close\r\n\r\nConnection: x";
        assert_eq!(added(head).as_deref(), Some(&want[..]));
        assert_eq!(added(b"HTTP/1.1 426 x\r\n\r\n"), None);
    }
}
