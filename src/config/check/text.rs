//! Validation of single texts: hosts and paths.

/// Whether a text is not a valid Host field: a name or an IP address, with or without a port.
pub(super) fn bad_host(text: &str) -> bool {
    let Ok(authority) = text.parse::<http::uri::Authority>() else { return true };
    let port_is_right = match text.rsplit_once(':') {
        Some((_, port)) if !port.ends_with(']') => authority.port_u16().is_some_and(|port| port > 0),
        _ => true,
    };
    text.contains('@') || authority.host().is_empty() || !port_is_right
}

/// Whether a text is neither a DNS name nor an IP address.
pub(super) fn bad_server_name(text: &str) -> bool {
    let label = |label: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        !label.is_empty() && label.len() <= 63 && label.bytes().all(plain)
    };
    let dns = text.len() <= 253 && text.split('.').all(label);
    !dns && text.parse::<std::net::IpAddr>().is_err()
}

/// The problem of a request path without a query; `None` if it is valid.
pub(super) fn bad_path(text: &str) -> Option<&'static str> {
    if !text.starts_with('/') {
        Some("does not start with `/`")
    } else if text.contains(['?', '#']) {
        Some("has a query or a fragment: only the path is looked at")
    } else if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        Some("has a space or a control character: in a request they are percent-encoded")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for good in ["a", "api.example.com", "api.example.com:8080", "10.0.0.1", "[::1]:80", "[::1]"] {
            assert!(!bad_host(good), "{good}");
        }
        for bad in ["", "a b", "http://a", "a/b", "u@a", "a:0", "a:99999", "a:b"] {
            assert!(bad_host(bad), "{bad}");
        }
    }

    #[test]
    fn server_names() {
        assert!(!bad_server_name("api.internal") && !bad_server_name("10.0.0.1") && !bad_server_name("::1"));
        assert!(bad_server_name("") && bad_server_name("a..b") && bad_server_name("a b") && bad_server_name("a:443"));
    }
}
