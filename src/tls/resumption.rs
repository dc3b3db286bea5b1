//! Session resumption: ticket keys, which rotate, and a session cache for clients without tickets.
//!
//! A reload keeps the state of a listener while its client authentication stays the same, so it ends no resumption. A
//! session from before a change of the client authentication is never resumed.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{ProducesTickets, ServerSessionMemoryCache, StoresServerSessions};

use super::certificate::Digest;

/// Maximum number of cached sessions of a listener, for TLS 1.2 clients without tickets.
const MAX_CACHED_SESSIONS: usize = 1024;

/// The conditions under which a session may be resumed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ResumptionKey {
    /// The listener's label.
    pub(super) listener: Arc<str>,
    /// Digest of the mode and the CAs of `client_auth`.
    pub(super) clients: Digest,
}

/// Ticket keys and session cache.
#[derive(Debug, Clone)]
pub(super) struct Resumption {
    pub(super) tickets: Arc<dyn ProducesTickets>,
    pub(super) sessions: Arc<dyn StoresServerSessions>,
}

impl Resumption {
    /// Makes new ticket keys and an empty cache.
    ///
    /// # Errors
    /// The operating system provides no random bytes.
    pub(super) fn new() -> Result<Self, rustls::Error> {
        Ok(Self { tickets: Ticketer::new()?, sessions: ServerSessionMemoryCache::new(MAX_CACHED_SESSIONS) })
    }
}
