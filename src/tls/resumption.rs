//! What lets clients resume: ticket keys, which rotate, and sessions of those that know no tickets.
//!
//! Kept by listener and by what that asks of clients, so that a reload ends no resumption, and a session that was had
//! under other demands is none here.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{ProducesTickets, ServerSessionMemoryCache, StoresServerSessions};

use super::certificate::Digest;

/// Sessions kept a listener for clients of TLS 1.2 without tickets.
const MAX_CACHED_SESSIONS: usize = 1024;

/// Under what a session was had.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ResumptionKey {
    /// The listener.
    pub(super) listener: Arc<str>,
    /// Of the mode and authorities of `client_auth`.
    pub(super) clients: Digest,
}

/// What lets clients resume.
#[derive(Debug, Clone)]
pub(super) struct Resumption {
    pub(super) tickets: Arc<dyn ProducesTickets>,
    pub(super) sessions: Arc<dyn StoresServerSessions>,
}

impl Resumption {
    /// With new keys.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub(super) fn new() -> Result<Self, rustls::Error> {
        Ok(Self { tickets: Ticketer::new()?, sessions: ServerSessionMemoryCache::new(MAX_CACHED_SESSIONS) })
    }
}
