//! `stores.*.redis`: the place of a Redis or Valkey server.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The port of Redis and Valkey.
const DEFAULT_PORT: u16 = 6379;

/// The place of a Redis or Valkey server, the user and the database.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RedisUrl {
    /// How it is reached.
    pub target: RedisTarget,
    /// The ACL user; `None`: the default user.
    pub user: Option<String>,
    /// The number of the database.
    pub database: u32,
}

/// How a Redis or Valkey server is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RedisTarget {
    /// Over TCP.
    Tcp {
        /// A name or an IP address, without brackets.
        host: String,
        /// The port.
        port: u16,
        /// With TLS.
        tls: bool,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

const FORMS: &str = "write `redis://HOST:PORT`, `rediss://HOST:PORT` or `unix:/PATH`";

impl FromStr for RedisUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix("unix:") {
            return unix(text, rest);
        }
        let wrong = || format!("`{text}` is not the URL of a store; {FORMS}");
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let tls = match scheme {
            "redis" => false,
            "rediss" => true,
            _ => return Err(wrong()),
        };
        let (rest, database) = rest.split_once('/').unwrap_or((rest, ""));
        let database = if database.is_empty() { 0 } else { database.parse().map_err(|_| wrong())? };
        let (user, place) = match rest.rsplit_once('@') {
            Some((user, _)) if user.contains(':') => return Err(PASSWORD.into()),
            Some((user, place)) => (Some(user.to_owned()).filter(|user| !user.is_empty()), place),
            None => (None, rest),
        };
        let (host, port) = host_and_port(place).ok_or_else(wrong)?;
        Ok(Self { target: RedisTarget::Tcp { host, port, tls }, user, database })
    }
}

/// The message does not quote the URL, because that contains a password.
const PASSWORD: &str = "the URL has a password; put it into a file and name the file in `password_file`";

fn unix(text: &str, rest: &str) -> Result<RedisUrl, String> {
    let wrong = || format!("`{text}` is not a socket; write `unix:/PATH`, or `unix:/PATH?user=USER&db=1`");
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if !path.starts_with('/') || path.len() >= 108 {
        return Err(wrong());
    }
    let mut url = RedisUrl { target: RedisTarget::Unix(path.into()), user: None, database: 0 };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("user", user)) if !user.is_empty() => url.user = Some(user.to_owned()),
            Some(("db", number)) => url.database = number.parse().map_err(|_| wrong())?,
            Some(("password" | "pass", _)) => return Err(PASSWORD.into()),
            _ => return Err(wrong()),
        }
    }
    Ok(url)
}

fn host_and_port(place: &str) -> Option<(String, u16)> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    let port = port.map_or(Some(DEFAULT_PORT), |port| port.parse().ok().filter(|port| *port > 0))?;
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
    (!host.is_empty() && host.len() <= 253 && host.bytes().all(fits)).then(|| (host.to_owned(), port))
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            RedisTarget::Tcp { host, port, tls } => {
                write!(f, "redis{}://", if *tls { "s" } else { "" })?;
                if let Some(user) = &self.user {
                    write!(f, "{user}@")?;
                }
                if host.contains(':') {
                    write!(f, "[{host}]:{port}")?
                } else {
                    write!(f, "{host}:{port}")?
                }
                if self.database > 0 { write!(f, "/{}", self.database) } else { Ok(()) }
            }
            RedisTarget::Unix(path) => {
                write!(f, "unix:{}", path.display())?;
                let user = self.user.as_ref().map(|user| format!("user={user}"));
                let database = (self.database > 0).then(|| format!("db={}", self.database));
                let query: Vec<String> = user.into_iter().chain(database).collect();
                if query.is_empty() { Ok(()) } else { write!(f, "?{}", query.join("&")) }
            }
        }
    }
}

text_value!(RedisUrl, "RedisUrl", r"^(rediss?://|unix:/).+$", "a URL such as `redis://127.0.0.1:6379`");

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn each_form_of_a_url_is_read_and_written() {
        for text in [
            "redis://localhost:6379",
            "rediss://weir@cache.internal:6380/3",
            "redis://[::1]:7000/1",
            "unix:/run/redis.sock",
            "unix:/run/redis.sock?user=weir&db=2",
        ] {
            assert_eq!(text.parse::<RedisUrl>().unwrap().to_string(), text);
        }
        let short: RedisUrl = "redis://cache".parse().unwrap();
        assert_eq!(short.to_string(), "redis://cache:6379");
    }

    #[test]
    fn a_password_in_a_url_is_refused_and_not_quoted() {
        for text in ["redis://:hunter2@h", "redis://u:hunter2@h:1", "unix:/s?password=hunter2"] {
            let what = text.parse::<RedisUrl>().unwrap_err();
            assert!(what.contains("password_file") && !what.contains("hunter2"), "{what}");
        }
        for bad in
            ["", "h:1", "http://h", "redis://", "redis://h:0", "redis://h/x", "unix:s", "redis://[::1", "unix:/s?x=1"]
        {
            assert!(bad.parse::<RedisUrl>().is_err(), "{bad}");
        }
    }
}
