//! `Via`: that the message came through Weir.
//!
//! It never looks for loops: a loop ends at its first hop's limits, and gateways may leave detection out.

use http::{HeaderValue, Version};
use pingora::http::{RequestHeader, ResponseHeader};

const NAME: &str = "Via";

/// Adds our entry to a request, after those of proxies before us (RFC 9110 section 7.6.3).
///
/// `received` is the version in which Weir received the message, not that in which it goes on.
///
/// # Errors
/// Pingora's, when the header cannot take another field.
pub fn request(header: &mut RequestHeader, received: Version) -> pingora::Result<()> {
    header.append_header(NAME, entry(received)).map(drop)
}

/// Adds our entry to a response: `received` is the version in which the backend sent it.
///
/// # Errors
/// Pingora's, when the header cannot take another field.
pub fn response(header: &mut ResponseHeader, received: Version) -> pingora::Result<()> {
    header.append_header(NAME, entry(received)).map(drop)
}

fn entry(received: Version) -> HeaderValue {
    HeaderValue::from_static(match received {
        Version::HTTP_2 => "2 weir",
        Version::HTTP_10 => "1.0 weir",
        _ => "1.1 weir",
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn appends_and_keeps_order() {
        let mut header = RequestHeader::build("GET", b"/", None).unwrap();
        header.append_header("Via", "1.0 fred").unwrap();
        request(&mut header, Version::HTTP_2).unwrap();
        let values: Vec<_> = header.headers.get_all("via").iter().map(|v| v.to_str().unwrap()).collect();
        assert_eq!(values, ["1.0 fred", "2 weir"]);
    }

    #[test]
    fn responses_too() {
        let mut header = ResponseHeader::build(200, None).unwrap();
        response(&mut header, Version::HTTP_11).unwrap();
        assert_eq!(header.headers["via"], "1.1 weir");
    }
}
