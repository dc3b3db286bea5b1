//! Listen address of the admin API: a socket address, or a Unix socket.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Maximum length of the path of a Unix socket, without its final zero byte (unix(7)).
const MAX_PATH_BYTES: usize = 107;

/// Listen address of the admin API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminAddress {
    /// `ip:port` or `[v6]:port`.
    Socket(SocketAddr),
    /// `unix:/path`.
    Unix(PathBuf),
}

impl AdminAddress {
    /// Whether other machines may reach it: every address except loopback and Unix sockets.
    pub fn is_exposed(&self) -> bool {
        match self {
            Self::Socket(address) => !address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => false,
        }
    }

    /// The socket address; `None` for a Unix socket.
    pub fn socket(&self) -> Option<SocketAddr> {
        match self {
            Self::Socket(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl Default for AdminAddress {
    fn default() -> Self {
        Self::Socket(SocketAddr::from(([127, 0, 0, 1], 9180)))
    }
}

impl FromStr for AdminAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let fits = path.starts_with('/') && !path.ends_with('/') && path.len() <= MAX_PATH_BYTES;
            return if fits && !path.contains('\0') {
                Ok(Self::Unix(path.into()))
            } else {
                Err(format!("`{text}` is not a socket; write `unix:` and an absolute path shorter than 108 bytes"))
            };
        }
        text.parse().map(Self::Socket).map_err(|_| {
            format!(
                "`{text}` is not an address to listen on; write `IP:PORT` or `unix:/path`, as in `127.0.0.1:9180` or \
                 `unix:/run/weir/admin.sock`"
            )
        })
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

text_value!(
    AdminAddress,
    "AdminAddress",
    r"^(unix:/.+|\[[0-9A-Fa-f:.]+\]:\d+|[0-9.]+:\d+)$",
    "an address such as `127.0.0.1:9180` or `unix:/run/weir/admin.sock`"
);

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_except_loopback_and_unix_sockets_are_exposed() {
        let exposed = |text: &str| text.parse::<AdminAddress>().unwrap().is_exposed();
        for text in ["127.0.0.1:9180", "127.8.8.8:0", "[::1]:9180", "[::ffff:127.0.0.1]:1", "unix:/run/a.sock"] {
            assert!(!exposed(text), "{text}");
        }
        for text in ["0.0.0.0:9180", "[::]:9180", "10.0.0.1:1", "[::ffff:10.0.0.1]:1", "[fe80::1]:1"] {
            assert!(exposed(text), "{text}");
        }
    }

    #[test]
    fn a_unix_socket_has_an_absolute_path_of_limited_length() {
        let long = format!("unix:/{}", "a".repeat(MAX_PATH_BYTES));
        for text in ["unix:", "unix:a.sock", "unix:/run/", "unix:/a\0b", &long, "localhost:1", "127.0.0.1", ""] {
            assert!(text.parse::<AdminAddress>().is_err(), "{text}");
        }
        let longest = format!("unix:/{}", "a".repeat(MAX_PATH_BYTES - 1));
        assert_eq!(longest.parse::<AdminAddress>().unwrap().to_string(), longest);
    }
}
