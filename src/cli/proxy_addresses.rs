//! The addresses of `weir proxy`, in the forms in which people write them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::config::values::BackendAddress;

/// A value of `--to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProxyBackend {
    pub(super) scheme: Scheme,
    pub(super) address: BackendAddress,
}

/// The protocol towards a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    /// HTTP/1.1.
    Http,
    /// HTTP/1.1 with TLS.
    Https,
    /// HTTP/2 without TLS.
    H2c,
}

impl Scheme {
    fn default_port(self) -> u16 {
        if self == Self::Https { 443 } else { 80 }
    }
}

impl ProxyBackend {
    /// The name that the certificate of a backend must have; `None` for an address without one.
    pub(super) fn server_name(&self) -> Option<String> {
        match &self.address {
            BackendAddress::Dns(name, _) => Some(name.clone()),
            BackendAddress::Socket(address) => Some(address.ip().to_string()),
            BackendAddress::Unix(_) => None,
        }
    }
}

/// Parses a listen address: `:8080`, `8080`, `localhost:8080`, `IP:PORT` or `[IPv6]:PORT`.
pub(super) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let wrong = || format!("`{text}` is not an address to listen on; write `:8080`, `127.0.0.1:8080` or `[::1]:8080`");
    let port = text.strip_prefix('*').unwrap_or(text);
    if let Ok(port) = port.strip_prefix(':').unwrap_or(text).parse() {
        return Ok(any(port));
    }
    let local = text.strip_prefix("localhost:").map(|port| format!("{}:{port}", Ipv4Addr::LOCALHOST));
    local.as_deref().unwrap_or(text).parse().map_err(|_| wrong())
}

/// This port on every address of the host: `[::]` covers IPv4 too, but some hosts have no IPv6.
pub(super) fn any(port: u16) -> SocketAddr {
    let has_ipv6 = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok();
    if has_ipv6 { (Ipv6Addr::UNSPECIFIED, port).into() } else { (Ipv4Addr::UNSPECIFIED, port).into() }
}

/// Parses a backend: an address of the configuration, `:3000`, `3000`, or a URL without a path.
pub(super) fn backend(text: &str) -> Result<ProxyBackend, String> {
    let schemes = [("http://", Scheme::Http), ("https://", Scheme::Https), ("h2c://", Scheme::H2c)];
    let url = schemes.iter().find_map(|(prefix, scheme)| Some((text.strip_prefix(prefix)?, *scheme)));
    let (rest, scheme) = url.unwrap_or((text, Scheme::Http));
    let rest = if url.is_some() { rest.strip_suffix('/').unwrap_or(rest) } else { rest };
    if url.is_some() && rest.contains(['/', '?', '#']) {
        return Err(format!("`{text}` has a path; leave it out, and use `rewrite` in a configuration file"));
    }
    let port = rest.strip_prefix(':').unwrap_or(rest);
    let address = if port.parse::<u16>().is_ok() {
        format!("{}:{port}", Ipv4Addr::LOCALHOST)
    } else if url.is_some() && !has_port(rest) {
        format!("{rest}:{}", scheme.default_port())
    } else {
        rest.to_owned()
    };
    address.parse().map(|address| ProxyBackend { scheme, address })
}

fn has_port(authority: &str) -> bool {
    authority.rsplit_once(':').is_some_and(|(host, _)| !host.starts_with('[') || host.ends_with(']'))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_listens_on_every_address_and_a_host_on_its_own() {
        for text in [":8080", "8080", "*:8080"] {
            let address = listen_address(text).unwrap();
            assert_eq!((address.port(), address.ip().is_unspecified()), (8080, true), "{text}");
        }
        for (text, address) in
            [("localhost:80", "127.0.0.1:80"), ("10.0.0.1:80", "10.0.0.1:80"), ("[::1]:80", "[::1]:80")]
        {
            assert_eq!(listen_address(text).unwrap().to_string(), address);
        }
        for text in ["", ":", "a.test:80", "127.0.0.1", "http://:80", ":99999", "*", "*:"] {
            assert!(listen_address(text).unwrap_err().contains("write `:8080`"), "{text}");
        }
    }

    #[test]
    fn a_backend_is_an_address_a_port_or_a_url_without_a_path() {
        let of = |text: &str| backend(text).map(|backend| (backend.scheme, backend.address.to_string()));
        let is = |scheme, address: &str| Ok((scheme, address.to_owned()));
        for text in ["3000", ":3000", "127.0.0.1:3000", "http://127.0.0.1:3000", "http://127.0.0.1:3000/"] {
            assert_eq!(of(text), is(Scheme::Http, "127.0.0.1:3000"), "{text}");
        }
        assert_eq!(of("localhost:3000"), is(Scheme::Http, "localhost:3000"));
        assert_eq!(of("unix:/run/app.sock"), is(Scheme::Http, "unix:/run/app.sock"));
        assert_eq!(of("http://api.test"), is(Scheme::Http, "api.test:80"));
        assert_eq!(of("https://api.test"), is(Scheme::Https, "api.test:443"));
        assert_eq!(of("https://api.test:8443/"), is(Scheme::Https, "api.test:8443"));
        assert_eq!(of("https://[::1]"), is(Scheme::Https, "[::1]:443"));
        assert_eq!(of("h2c://127.0.0.1:50051"), is(Scheme::H2c, "127.0.0.1:50051"));
        assert!(of("http://api.test/v1").unwrap_err().contains("has a path"));
        for text in ["", "api.test", "10.0.0.1", "http://", "https://api.test:x", "ftp://a.test:1", "0"] {
            assert!(of(text).is_err(), "{text}");
        }
    }
}
