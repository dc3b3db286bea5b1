//! The messages between the old and the new process of an upgrade: lines of JSON over a Unix socket.
//!
//! ```text
//! old                                     new
//!  ├─ hello: sockets, older processes ───→│ loads the configuration, adopts the sockets, checks the backends
//!  │←──────────────────────── prepared ───┤
//!  ├─ take: the runtime state ───────────→│ adopts the state, accepts
//!  │←─────────────────────────── ready ───┤
//!  ├─ main ──────────────────────────────→│ writes the pid file, notifies systemd
//!  ├─ draining: open connections ────────→│ repeated until the old process ends
//!  │←──────────────────────────── stop ───┤ at a second stop signal
//! ```
//!
//! Unknown fields are ignored, and missing ones have a default: the two processes may be of different versions.

use serde::{Deserialize, Serialize};

/// Maximum length of a message.
pub(super) const MAX_BYTES: u64 = 64 << 20;

/// A message of the old process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum FromOld {
    /// The first message.
    Hello(Hello),
    /// The new process serves from now on.
    Take {
        /// The runtime state. Its field `version` says how to read it.
        state: serde_json::Value,
    },
    /// The new process is the main process now.
    Main,
    /// The old process drains.
    Draining {
        /// Its open connections.
        connections: u64,
    },
}

/// A message of the new process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum FromNew {
    /// It can serve.
    Prepared,
    /// It serves.
    Ready {
        /// Its version.
        version: String,
    },
    /// It has failed.
    Failed {
        /// The reason.
        error: String,
    },
    /// The old process must end at once.
    Stop,
}

/// The first message of the old process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Hello {
    /// Its process id.
    pub(super) pid: u32,
    /// Its version.
    pub(super) version: String,
    /// Whether it is ready for traffic. Then the new process must be ready too.
    pub(super) ready: bool,
    /// The time until the upgrade is given up, in milliseconds.
    pub(super) timeout_ms: u64,
    /// The inherited sockets, in the order of `LISTEN_FDS`.
    pub(super) sockets: Vec<HandedSocket>,
    /// Whether the process removes the file of the admin socket when it ends.
    pub(super) removes_admin_file: bool,
    /// Older processes that still drain. Their channels follow this one and the standard error.
    pub(super) older: Vec<OlderProcess>,
}

/// A socket that passes to the new process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct HandedSocket {
    /// The name of the listener.
    pub(super) name: String,
    /// Its address in the configuration.
    pub(super) configured: String,
    /// Whether it is the socket of the admin listener.
    pub(super) admin: bool,
}

/// An older process that still drains.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::server) struct OlderProcess {
    /// Its process id.
    pub(in crate::server) pid: u32,
    /// Its version.
    pub(in crate::server) version: String,
    /// Since when it drains, in milliseconds since 1970.
    pub(in crate::server) since_unix_ms: u64,
    /// Its open connections when it last reported them.
    pub(in crate::server) connections: u64,
}

/// The message as a line.
pub(super) fn line(message: &impl Serialize) -> Vec<u8> {
    // Strings as keys and no map with other keys: this cannot fail.
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_are_ignored_and_missing_ones_have_defaults() {
        let text = r#"{"kind":"hello","pid":7,"later":{"a":1},"sockets":[{"name":"web"}]}"#;
        let FromOld::Hello(hello) = serde_json::from_str(text).unwrap() else { panic!("not a hello") };
        assert_eq!((hello.pid, hello.sockets[0].name.as_str(), hello.older.len()), (7, "web", 0));
        assert!(serde_json::from_str::<FromOld>(r#"{"kind":"later"}"#).is_err());
    }

    #[test]
    fn a_message_is_one_line() {
        let failed = FromNew::Failed { error: "a\nb".into() };
        let line = line(&failed);
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert_eq!(serde_json::from_slice::<FromNew>(&line).unwrap(), failed);
    }
}
